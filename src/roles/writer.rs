//! The writer role: lanes into the store, and everything that follows from what is stored.

use std::time::Duration;

use crate::domain::Partition;
use crate::expiry;
use crate::payment;
use crate::readmission;
use crate::recovery;
use crate::relay;
use crate::returns;
use crate::roles::backends::Backends;
use crate::roles::process::Process;
use crate::sales::Definitions;
use crate::writer::{self, WriterMeters};

/// How long another process's recovery may make no end before this one begins a new one. A rebuild of a million orders takes less.
const TAKEOVER: Duration = Duration::from_secs(10);

/// Starts all loops of a writer.
pub(super) fn start(process: &Process, definitions: Definitions) {
    let Process { settings, live, meters, backends, epochs, back, .. } = process.clone();
    let Backends { inventory, queue, store, inventory_is_own, .. } = backends;

    let parts = writer::Parts {
        store: store.clone(),
        consumer: queue.consumer.clone(),
        inventory: inventory.clone(),
        clock: process.clock.clone(),
        meters: WriterMeters::new(&meters),
        spans: process.spans.clone(),
        batch_max: settings.store.batch_max,
    };
    back.spawn_essential("lanes", writer::write_lanes(parts.clone(), queue.topology.clone(), back.clone()));

    back.spawn_essential("dead letters", writer::keep_dead_letters(parts, back.clone()));

    let recovery = recovery::Parts {
        store: store.clone(),
        inventory: inventory.clone(),
        topology: queue.topology.clone(),
        epochs: epochs.clone(),
        meters: meters.clone(),
        takeover: if inventory_is_own { Duration::ZERO } else { TAKEOVER },
        fence_margin: if inventory_is_own { Duration::ZERO } else { settings.queue.fence_margin },
    };
    for partition in Partition::all(settings.inventory.partitions) {
        back.spawn_essential("recovery", recovery::keep_open(recovery.clone(), partition, back.clone()));
    }

    let relay = relay::Parts {
        inventory: inventory.clone(),
        publisher: queue.publisher.clone(),
        epochs: epochs.clone(),
        meters: meters.clone(),
        after: live.queue.relay_after,
    };
    back.spawn_essential("relay", relay::keep_relaying(relay, back.clone()));

    back.spawn_essential("late payments", payment::keep_settling(process.payments(), back.clone()));
    let readmission = readmission::Parts {
        store: store.clone(),
        inventory: inventory.clone(),
        epochs: epochs.clone(),
        clock: process.clock.clone(),
    };
    back.spawn_essential("readmission", readmission::keep_readmitting(readmission, back.clone()));
    let (grace, interval) = (settings.payment.grace, live.payment.expiry_interval);
    let expiring = expiry::keep_expiring(store.clone(), grace, interval, meters.clone(), back.clone());
    back.spawn_essential("expiry", expiring);
    back.spawn_essential("returns", returns::keep_carrying(store, inventory, epochs, meters, back.clone()));
    back.spawn_essential("definitions", definitions.keep_applied(back.clone()));
}
