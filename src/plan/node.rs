//! One simulated gateway node: the parts of the gateway role that decide claims, wired as the role wires them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::admission::pressure::Pressure;
use crate::admission::{Shards, refill, registry};
use crate::clock::Clock;
use crate::config::settings::AnswerAfter;
use crate::confirm::batch::{Batcher, Desk, DeskMeters, Limits};
use crate::confirm::{self, Answer, Claims, Parts, Request};
use crate::domain::{Buffer, Epoch, NodeId, OrderSecret, Partition, Scope, UnixMillis};
use crate::epochs::Epochs;
use crate::inventory::Inventory;
use crate::meters::Meters;
use crate::plan::Gateway;
use crate::queue::envelope::Envelope;
use crate::queue::{Publisher, Strain, Unconfirmed};
use crate::shutdown::Shutdown;
use crate::spans::Spans;

pub(super) const SCOPE: Scope = Scope { partition: Partition(0), epoch: Epoch(1) };

/// What a broker takes to confirm: about what a quorum queue does. No buyer's answer depends on the buffer by it.
const CONFIRM: Duration = Duration::from_millis(2);

/// When the simulated sale is: any time does.
const BEGIN: UnixMillis = UnixMillis(1_800_000_000_000);

/// Tells virtual time.
#[derive(Debug)]
pub(super) struct VirtualClock(Instant);

impl VirtualClock {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> UnixMillis {
        BEGIN.plus(self.0.elapsed())
    }
}

/// What all nodes share.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) inventory: Arc<dyn Inventory>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) meters: Meters,
    pub(super) buffer: Buffer,
    pub(super) gateway: Gateway,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) claims: Claims,
    pub(super) shards: Shards,
    places: Semaphore,
    request_timeout: Duration,
    shutdown: Shutdown,
    is_dead: AtomicBool,
}

impl Node {
    pub(super) fn start(site: &Site, index: usize) -> Self {
        let Site { inventory, clock, meters, buffer, gateway } = site;
        let (epochs, shutdown) = (Epochs::new(1), Shutdown::new());
        epochs.assume(SCOPE);
        let shards = Shards::new(1, 1.0, *buffer);
        let publisher: Arc<dyn Publisher> = Arc::new(Broker);
        let desk = Desk {
            partition: SCOPE.partition,
            inventory: Arc::clone(inventory),
            publisher: Arc::clone(&publisher),
            shards: shards.clone(),
            epochs: epochs.clone(),
            clock: Arc::clone(clock),
            meters: DeskMeters::new(meters),
            spans: Spans::default(),
        };
        let limits = Limits {
            batch_max: gateway.batch_max,
            batches_in_flight: gateway.batches_in_flight,
            answer_after: AnswerAfter::Broker,
        };
        let batcher = Batcher::new(desk, limits);
        let parts = Parts {
            shards: shards.clone(),
            epochs: epochs.clone(),
            pressure: Pressure::new(1),
            publisher,
            clock: Arc::clone(clock),
            secret: Arc::new(OnceLock::from(OrderSecret::new([7; 32]))),
        };
        let claims = Claims::new(parts, std::slice::from_ref(&batcher));
        shutdown.spawn(batcher.run(shutdown.clone()));
        let wired = (epochs, Arc::clone(inventory));
        let interval = gateway.refill_interval;
        shutdown.spawn(refill::keep_filled(shards.clone(), SCOPE.partition, wired, interval, shutdown.clone()));
        let name: NodeId = format!("node-{index}").parse().expect("a name");
        let inventory = Arc::clone(inventory);
        let beating = registry::keep_beating(shards.clone(), name, inventory, gateway.node_timeout, shutdown.clone());
        shutdown.spawn(beating);
        Self {
            claims,
            shards,
            places: Semaphore::new(gateway.claims_at_once.min(Semaphore::MAX_PERMITS)),
            request_timeout: gateway.request_timeout,
            shutdown,
            is_dead: AtomicBool::new(false),
        }
    }

    /// Answers a claim as the door does.
    pub(super) async fn claim(&self, request: Request<'_>) -> Answer {
        let enter = || Some((self.places.try_acquire().ok()?, confirm::deadline(self.request_timeout)));
        self.claims.claim(request, enter).await
    }

    /// It dies where it stands.
    pub(super) fn kill(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
        self.shutdown.force();
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::SeqCst)
    }
}

/// A broker that is well.
#[derive(Debug)]
struct Broker;

#[async_trait]
impl Publisher for Broker {
    async fn publish(&self, _: Envelope) -> Result<(), Unconfirmed> {
        tokio::time::sleep(CONFIRM).await;
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn strain(&self) -> Strain {
        Strain::default()
    }
}
