//! Whether what is granted can still go its way. If not, nothing more is granted here until it can.
//!
//! Every batch that is granted costs the outbox an entry and the queue a message; both go as fast as the broker confirms and the
//! writers store, and a rush is faster. So each has a bound: past it this node is closed to new grants, and it opens again at half
//! of it, so that it does not open and close with every message. A claim pays one atomic load for that.
//!
//! The readings are taken beside the claims, by every node for itself. They are late by one interval, so a bound is exceeded by what
//! all nodes grant in that time. A reading that cannot be had changes nothing: where an inventory or a broker is away, claims hear
//! so by themselves, and what was too much before that is not known to be less.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::config::live::Live;
use crate::domain::Partition;
use crate::epochs::Epochs;
use crate::inventory::Inventory;
use crate::meters::{Counter, Gauge, Meters};
use crate::queue::{LaneId, Queue};
use crate::shutdown::Shutdown;

/// Between two looks at the publisher, which cost nothing.
const PUBLISHER_INTERVAL: Duration = Duration::from_millis(50);
/// Between two questions to the inventory, each of which costs it a few microseconds.
const OUTBOX_INTERVAL: Duration = Duration::from_millis(200);
/// Between two questions to the broker, each of which costs it a call per lane.
const LANES_INTERVAL: Duration = Duration::from_secs(1);

/// What may not grow without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Bound {
    /// The queue takes no message at all.
    Blocked = 1,
    /// The oldest message without a confirm is too old.
    Unconfirmed = 2,
    /// A lane has too many messages.
    Lanes = 4,
    /// The partition's outbox has too many entries.
    Outbox = 8,
}

/// How much is too much.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Entries in the outbox of a partition.
    pub outbox: Live<u64>,
    /// Messages in a lane.
    pub lane: Live<u64>,
    /// The age of a message without a confirm.
    pub unconfirmed: Live<Duration>,
}

/// Where the readings come from.
#[derive(Debug, Clone)]
pub struct Sources {
    pub inventory: Arc<dyn Inventory>,
    pub queue: Queue,
    pub epochs: Epochs,
}

/// What the last readings came to, for every partition. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pressure(Arc<[AtomicU8]>);

impl Bound {
    const ALL: [Self; 4] = [Self::Blocked, Self::Unconfirmed, Self::Lanes, Self::Outbox];

    /// As it stands in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Unconfirmed => "unconfirmed",
            Self::Lanes => "lanes",
            Self::Outbox => "outbox",
        }
    }

    fn bit(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocked => "the queue takes no messages",
            Self::Unconfirmed => "messages wait too long for their confirm",
            Self::Lanes => "a lane has too many messages",
            Self::Outbox => "the outbox has too many entries",
        })
    }
}

impl Pressure {
    /// Open, until a reading says otherwise.
    pub fn new(partitions: u16) -> Self {
        Self((0..partitions).map(|_| AtomicU8::new(0)).collect())
    }

    /// Is this partition closed to new grants?
    pub fn is_closed(&self, partition: Partition) -> bool {
        self.bits(partition) != 0
    }

    /// All that keeps this partition closed.
    pub fn closed_by(&self, partition: Partition) -> impl Iterator<Item = Bound> + use<> {
        let bits = self.bits(partition);
        Bound::ALL.into_iter().filter(move |bound| bits & bound.bit() != 0)
    }

    fn bits(&self, partition: Partition) -> u8 {
        self.0.get(usize::from(partition.0)).map_or(0, |bits| bits.load(Ordering::Relaxed))
    }

    fn has_passed(&self, partition: Partition, bound: Bound) -> bool {
        self.bits(partition) & bound.bit() != 0
    }

    /// Returns whether that is news.
    fn set(&self, partition: Partition, bound: Bound, passed: bool) -> bool {
        let Some(bits) = self.0.get(usize::from(partition.0)) else { return false };
        let before = if passed {
            bits.fetch_or(bound.bit(), Ordering::Relaxed)
        } else {
            bits.fetch_and(!bound.bit(), Ordering::Relaxed)
        };
        (before & bound.bit() != 0) != passed
    }

    fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        Partition::all(u16::try_from(self.0.len()).unwrap_or(u16::MAX))
    }
}

/// Takes the readings until the shutdown.
pub async fn keep_read(pressure: Pressure, limits: Limits, sources: Sources, meters: Meters, shutdown: Shutdown) {
    let reader = Reader { pressure, limits, sources, figures: Bound::ALL.map(|bound| Figures::new(&meters, bound)) };
    // A question that has no answer keeps neither the others nor the shutdown waiting.
    let outboxes = async {
        loop {
            reader.read_outboxes().await;
            tokio::time::sleep(OUTBOX_INTERVAL).await;
        }
    };
    let lanes = async {
        loop {
            reader.read_lanes().await;
            tokio::time::sleep(LANES_INTERVAL).await;
        }
    };
    let publisher = async {
        loop {
            reader.read_publisher();
            tokio::time::sleep(PUBLISHER_INTERVAL).await;
        }
    };
    tokio::select! {
        biased;
        () = shutdown.begun() => {}
        () = async { tokio::join!(outboxes, lanes, publisher); } => {}
    }
}

#[derive(Debug)]
struct Reader {
    pressure: Pressure,
    limits: Limits,
    sources: Sources,
    figures: [Figures; 4],
}

/// What the metrics tell of one bound.
#[derive(Debug)]
struct Figures {
    closed: Gauge,
    closings: Counter,
}

impl Figures {
    fn new(meters: &Meters, bound: Bound) -> Self {
        let labels = [("bound", bound.name())];
        Self {
            closed: meters.gauge("rushgate_admission_closed", &labels),
            closings: meters.counter("rushgate_admission_closings_total", &labels),
        }
    }
}

impl Reader {
    fn read_publisher(&self) {
        let strain = self.sources.queue.publisher.strain();
        let age = strain.oldest_unconfirmed.unwrap_or_default();
        for partition in self.pressure.partitions() {
            self.note(partition, Bound::Blocked, strain.blocked.is_some());
            self.weigh(partition, Bound::Unconfirmed, (age, self.limits.unconfirmed.get()));
        }
    }

    async fn read_outboxes(&self) {
        for partition in self.pressure.partitions() {
            let Ok(scope) = self.sources.epochs.scope(partition) else { continue };
            match self.sources.inventory.outbox_len(scope).await {
                // The outbox of an epoch that is over is no measure of the next one's.
                Ok(_) if self.sources.epochs.scope(partition) != Ok(scope) => {}
                Ok(entries) => self.weigh(partition, Bound::Outbox, (entries, self.limits.outbox.get())),
                Err(fault) => {
                    tracing::debug!(%scope, %fault, "the outbox is not counted");
                    self.sources.epochs.report(scope, &fault);
                }
            }
        }
    }

    async fn read_lanes(&self) {
        match self.sources.queue.topology.depths().await {
            Ok(depths) => {
                // What is dead waits for an operator, and no grant adds to it.
                let lanes = depths.iter().filter(|depth| depth.lane != LaneId::Dead);
                let deepest = lanes.map(|depth| depth.messages).max().unwrap_or(0);
                for partition in self.pressure.partitions() {
                    self.weigh(partition, Bound::Lanes, (deepest, self.limits.lane.get()));
                }
            }
            Err(fault) => tracing::debug!(%fault, "the lanes are not counted"),
        }
    }

    fn weigh<T: PartialOrd + Halved + Copy + fmt::Debug>(
        &self,
        partition: Partition,
        bound: Bound,
        (is, most): (T, T),
    ) {
        let most = if self.pressure.has_passed(partition, bound) { most.halved() } else { most };
        self.note(partition, bound, is > most);
    }

    fn note(&self, partition: Partition, bound: Bound, passed: bool) {
        if !self.pressure.set(partition, bound, passed) {
            return;
        }
        let figures = self.figures.iter().zip(Bound::ALL).find(|(_, of)| *of == bound).map(|(figures, _)| figures);
        let any = self.pressure.partitions().any(|partition| self.pressure.has_passed(partition, bound));
        if let Some(figures) = figures {
            figures.closed.set(if any { 1.0 } else { 0.0 });
            figures.closings.increment(u64::from(passed));
        }
        if passed {
            tracing::warn!(%partition, why = %bound, "closed to new claims");
        } else {
            tracing::info!(%partition, bound = bound.name(), "within its bound again");
        }
    }
}

/// Where a closed bound opens again.
trait Halved {
    fn halved(self) -> Self;
}

impl Halved for u64 {
    fn halved(self) -> Self {
        self / 2
    }
}

impl Halved for Duration {
    fn halved(self) -> Self {
        self / 2
    }
}
