//! The gateway role: shards and their refill, claims and their batches.

use std::sync::Arc;

use crate::admission::pressure::{self, Pressure};
use crate::admission::refusals::Refusals;
use crate::admission::status::{self, Speaker};
use crate::admission::{Shards, refill, registry, release_times};
use crate::confirm::batch::{Batcher, Desk, DeskMeters, Limits};
use crate::confirm::{Claims, Parts};
use crate::domain::Partition;
use crate::http;
use crate::readiness::Readiness;
use crate::roles::process::Process;

/// What claims are answered with on this node.
#[derive(Debug)]
pub(super) struct Gateway {
    pub claims: Claims,
    pub shards: Shards,
    pub parts: Parts,
    pub refusals: Refusals,
    batchers: Vec<Batcher>,
}

impl Gateway {
    pub(super) fn new(process: &Process) -> Self {
        let Process { settings, live, backends, epochs, clock, .. } = process;
        let shards = Shards::new(settings.inventory.partitions, live.node.weight.clone(), live.shard.buffer.clone());
        let limits = Limits {
            batch_max: settings.inventory.batch_max,
            batches_in_flight: settings.inventory.batches_in_flight,
            answer_after: settings.inventory.answer_after,
        };
        let desk = |partition| Desk {
            partition,
            inventory: Arc::clone(&backends.inventory),
            publisher: Arc::clone(&backends.queue.publisher),
            shards: shards.clone(),
            epochs: epochs.clone(),
            clock: Arc::clone(clock),
            meters: DeskMeters::new(&process.meters),
            spans: process.spans.clone(),
        };
        let partitions = Partition::all(settings.inventory.partitions);
        let batchers: Vec<_> = partitions.map(|partition| Batcher::new(desk(partition), limits)).collect();
        let parts = Parts {
            shards: shards.clone(),
            epochs: epochs.clone(),
            pressure: Pressure::new(settings.inventory.partitions),
            publisher: Arc::clone(&backends.queue.publisher),
            clock: Arc::clone(clock),
            secret: Arc::clone(&process.secret),
        };
        let refusals = Refusals::new(http::CODES);
        Self { claims: Claims::new(parts.clone(), &batchers), shards, parts, refusals, batchers }
    }

    /// Starts the loops. Batches end by themselves when the last door is closed; shards stay filled until then.
    pub(super) fn start(self, process: &Process, readiness: Arc<Readiness>) {
        let Self { claims, shards, parts, batchers, .. } = self;
        drop(claims);
        let Process { settings, live, backends, epochs, front, back, .. } = process;
        for batcher in batchers {
            front.spawn(batcher.run(front.clone()));
        }
        for partition in Partition::all(settings.inventory.partitions) {
            let wired = (epochs.clone(), Arc::clone(&backends.inventory));
            let interval = live.shard.refill_interval.clone();
            let filling = refill::keep_filled(shards.clone(), partition, wired, interval, back.clone());
            back.spawn_essential("refill", filling);
        }
        back.spawn_essential("tuning", refill::keep_tuned(shards.clone(), back.clone()));
        let limits = pressure::Limits {
            outbox: live.queue.outbox_max.clone(),
            lane: live.queue.lane_max.clone(),
            unconfirmed: live.queue.unconfirmed_max.clone(),
        };
        let (inventory, queue) = (Arc::clone(&backends.inventory), backends.queue.clone());
        let sources = pressure::Sources { inventory, queue, epochs: epochs.clone() };
        let reading = pressure::keep_read(parts.pressure, limits, sources, process.meters.clone(), back.clone());
        back.spawn_essential("pressure", reading);
        let (inventory, timeout) = (Arc::clone(&backends.inventory), live.shard.node_timeout.clone());
        let sources = status::Sources { meters: process.meters.clone(), readiness, clock: Arc::clone(&process.clock) };
        let speaker = Speaker::new(process.node.clone(), sources);
        let beating = registry::keep_beating(shards.clone(), speaker, inventory, timeout, front.clone());
        front.spawn_essential("registry", beating);
        let (store, grace) = (Arc::clone(&backends.store), settings.payment.grace);
        back.spawn_essential("release times", release_times::keep_known(shards, store, grace, back.clone()));
    }
}
