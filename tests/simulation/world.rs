//! A deployment in one thread: gateways and writers over one inventory, one broker and one store, wired as the roles wire them.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rushgate::admission::pressure::{self, Pressure};
use rushgate::admission::{Shards, refill, registry, release_times};
use rushgate::clock::Clock;
use rushgate::config::settings::{self, AnswerAfter};
use rushgate::confirm::batch::{Batcher, Desk, DeskMeters, Limits};
use rushgate::confirm::{Claims, Parts};
use rushgate::domain::{Buffer, NodeId, OrderSecret, Partition, Sale, SaleDocument, UnixMillis};
use rushgate::epochs::Epochs;
use rushgate::inventory::Inventory;
use rushgate::meters::Meters;
use rushgate::payment::{self, Payments};
use rushgate::queue::Queue;
use rushgate::sales::Definitions;
use rushgate::shutdown::Shutdown;
use rushgate::spans::Spans;
use rushgate::store::Store;
use rushgate::writer::{self, WriterMeters};
use rushgate::{expiry, readmission, recovery, relay, returns};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::checker::Watcher;
use crate::faults::{Backend, Life, Line, Sky};
use crate::inventory::{InventoryLine, Server};
use crate::memory_store::MemoryStore;
use crate::queue::Broker;
use crate::store::StoreLine;

pub(crate) const GATEWAYS: usize = 3;
pub(crate) const WRITERS: usize = 2;
/// Gateways first, then writers.
pub(crate) const NODES: usize = GATEWAYS + WRITERS;

pub(crate) static SECRET: LazyLock<OrderSecret> = LazyLock::new(|| OrderSecret::new([7; 32]));
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_millis(1000);

/// Shorter than a real one's, so that a run of seconds sees holds end and recoveries taken over.
const HOLD: Duration = Duration::from_millis(2000);
const GRACE: Duration = Duration::from_millis(300);
const EXPIRY_INTERVAL: Duration = Duration::from_millis(400);
const INVENTORY_TIMEOUT: Duration = Duration::from_millis(250);
const CONFIRM_TIMEOUT: Duration = Duration::from_millis(500);
const RELAY_AFTER: Duration = Duration::from_millis(1000);
const STORE_TIMEOUT: Duration = Duration::from_millis(600);
pub(crate) const REFILL_INTERVAL: Duration = Duration::from_millis(150);
const NODE_TIMEOUT: Duration = Duration::from_millis(1500);
const TAKEOVER: Duration = Duration::from_millis(2000);
const START: UnixMillis = UnixMillis(1_800_000_000_000);

/// The wall clock of one machine: virtual time, from which it may have gone astray.
#[derive(Debug)]
pub(crate) struct WallClock {
    begun: Instant,
    astray: AtomicI64,
}

impl WallClock {
    fn new() -> Self {
        Self { begun: Instant::now(), astray: AtomicI64::new(0) }
    }

    pub(crate) fn jump(&self, to: i64) {
        self.astray.store(to, Ordering::SeqCst);
    }
}

impl Clock for WallClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(START.plus(self.begun.elapsed()).0 + self.astray.load(Ordering::SeqCst))
    }
}

/// All there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) sky: Arc<Sky>,
    pub(crate) watcher: Arc<Watcher>,
    pub(crate) inventory: Arc<Server>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) store: MemoryStore,
    pub(crate) store_clock: Arc<WallClock>,
    pub(crate) clocks: Vec<Arc<WallClock>>,
    pub(crate) partitions: u16,
    meters: Meters,
    nodes: Mutex<Vec<Option<Node>>>,
}

/// One process.
#[derive(Debug)]
struct Node {
    life: Arc<Life>,
    shutdown: Shutdown,
    epochs: Epochs,
    /// `None`: it is a writer.
    gateway: Option<Arc<Gateway>>,
}

/// What clients meet.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) life: Arc<Life>,
    pub(crate) claims: Claims,
    pub(crate) payments: Payments,
    pub(crate) store: StoreLine,
}

/// One node's ways to all backends.
struct Ways {
    inventory: Arc<dyn Inventory>,
    queue: Queue,
    store: StoreLine,
}

impl World {
    pub(crate) fn new(meters: &Meters, recording: bool) -> Arc<Self> {
        let sky = Arc::new(Sky::from_seed(recording));
        let watcher = Arc::new(Watcher::new(&sky, sales()));
        let store_clock = Arc::new(WallClock::new());
        let inventory = Server::new(Arc::new(WallClock::new()), Arc::clone(&watcher));
        let lanes = fastrand::u16(1..4);
        let queue = settings::Queue { lanes, confirm_timeout: CONFIRM_TIMEOUT, ..settings::Queue::default() };
        Arc::new(Self {
            inventory: Arc::new(inventory),
            broker: Arc::new(Broker::new(&queue, meters)),
            store: MemoryStore::new(Arc::clone(&store_clock) as Arc<dyn Clock>),
            store_clock,
            clocks: (0..NODES).map(|_| Arc::new(WallClock::new())).collect(),
            partitions: fastrand::u16(1..3),
            meters: meters.clone(),
            nodes: Mutex::new((0..NODES).map(|_| None).collect()),
            sky,
            watcher,
        })
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Option<Node>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn any_gateway(&self) -> Option<Arc<Gateway>> {
        let nodes = self.nodes();
        let index = fastrand::usize(..GATEWAYS);
        nodes[index].as_ref().and_then(|node| node.gateway.clone())
    }

    /// Has every node joined every partition?
    pub(crate) fn all_joined(&self) -> bool {
        self.nodes().iter().all(|node| node.as_ref().is_some_and(|node| node.epochs.all().is_ok()))
    }

    /// A node that stopped although nobody stopped it.
    pub(crate) fn failed(&self) -> Option<usize> {
        self.nodes().iter().flatten().find(|node| node.shutdown.has_begun()).map(|node| node.life.node)
    }

    /// The node dies where it stands.
    pub(crate) fn kill(&self, index: usize) {
        if let Some(node) = self.nodes()[index].take() {
            node.life.died.cancel();
            node.shutdown.force();
        }
    }

    /// Starts the node, if it is not running.
    pub(crate) fn start(&self, index: usize) {
        if self.nodes()[index].is_some() {
            return;
        }
        let life = Arc::new(Life { node: index, died: CancellationToken::new() });
        let (shutdown, epochs) = (Shutdown::new(), Epochs::new(self.partitions));
        let ways = self.ways(&life);
        let store = Arc::new(ways.store.clone());
        let following =
            epochs.clone().follow(store, Arc::clone(&ways.inventory), self.meters.clone(), shutdown.clone());
        shutdown.spawn_essential("epochs", following);
        let gateway = (index < GATEWAYS).then(|| self.start_gateway(&life, &ways, &epochs, &shutdown));
        if index >= GATEWAYS {
            self.start_writer(index, &ways, &epochs, &shutdown);
        }
        self.nodes()[index] = Some(Node { life, shutdown, epochs, gateway });
    }

    fn ways(&self, life: &Arc<Life>) -> Ways {
        let way = |backend, patience| Line::new(&self.sky, life, backend, patience);
        Ways {
            inventory: Arc::new(InventoryLine::new(&self.inventory, way(Backend::Inventory, INVENTORY_TIMEOUT))),
            queue: self.broker.faces(&way(Backend::Queue, CONFIRM_TIMEOUT)),
            store: StoreLine::new(&self.store, &self.watcher, way(Backend::Store, STORE_TIMEOUT)),
        }
    }

    fn clock(&self, index: usize) -> Arc<dyn Clock> {
        Arc::clone(&self.clocks[index]) as Arc<dyn Clock>
    }

    fn start_gateway(&self, life: &Arc<Life>, ways: &Ways, epochs: &Epochs, shutdown: &Shutdown) -> Arc<Gateway> {
        let shards = Shards::new(self.partitions, 1.0, Buffer::Fraction(0.2));
        let clock = self.clock(life.node);
        let store: Arc<dyn Store> = Arc::new(ways.store.clone());
        let desk = |partition| Desk {
            partition,
            inventory: Arc::clone(&ways.inventory),
            publisher: Arc::clone(&ways.queue.publisher),
            shards: shards.clone(),
            epochs: epochs.clone(),
            clock: Arc::clone(&clock),
            meters: DeskMeters::new(&self.meters),
            spans: Spans::default(),
        };
        let limits = Limits { batch_max: 8, batches_in_flight: 2, answer_after: AnswerAfter::Broker };
        let partitions = || Partition::all(self.partitions);
        let batchers: Vec<_> = partitions().map(|partition| Batcher::new(desk(partition), limits)).collect();
        let pressure = Pressure::new(self.partitions);
        let parts = Parts {
            shards: shards.clone(),
            epochs: epochs.clone(),
            pressure: pressure.clone(),
            publisher: Arc::clone(&ways.queue.publisher),
            clock: Arc::clone(&clock),
            secret: Arc::new(OnceLock::from(SECRET.clone())),
        };
        let claims = Claims::new(parts, &batchers);
        for batcher in batchers {
            shutdown.spawn(batcher.run(shutdown.clone()));
        }
        for partition in partitions() {
            let wired = (epochs.clone(), Arc::clone(&ways.inventory));
            let filling = refill::keep_filled(shards.clone(), partition, wired, REFILL_INTERVAL, shutdown.clone());
            shutdown.spawn_essential("refill", filling);
        }
        let limits = pressure::Limits { outbox: 12.into(), lane: 12.into(), unconfirmed: (CONFIRM_TIMEOUT * 2).into() };
        let (inventory, queue) = (Arc::clone(&ways.inventory), ways.queue.clone());
        let sources = pressure::Sources { inventory, queue, epochs: epochs.clone() };
        let reading = pressure::keep_read(pressure, limits, sources, self.meters.clone(), shutdown.clone());
        shutdown.spawn_essential("pressure", reading);
        let node: NodeId = format!("g{}", life.node).parse().unwrap();
        let beating =
            registry::keep_beating(shards.clone(), node, Arc::clone(&ways.inventory), NODE_TIMEOUT, shutdown.clone());
        shutdown.spawn_essential("registry", beating);
        let releases = release_times::keep_known(shards, Arc::clone(&store), GRACE, shutdown.clone());
        shutdown.spawn_essential("release times", releases);
        let payments = self.payments(life.node, ways, epochs);
        Arc::new(Gateway { life: Arc::clone(life), claims, payments, store: ways.store.clone() })
    }

    fn payments(&self, index: usize, ways: &Ways, epochs: &Epochs) -> Payments {
        let parts = payment::Parts {
            store: Arc::new(ways.store.clone()),
            inventory: Arc::clone(&ways.inventory),
            epochs: epochs.clone(),
            clock: self.clock(index),
            settings: settings::Payment { grace: GRACE, ..settings::Payment::default() },
        };
        Payments::new(parts, &self.meters)
    }

    fn start_writer(&self, index: usize, ways: &Ways, epochs: &Epochs, shutdown: &Shutdown) {
        let payments = self.payments(index, ways, epochs);
        shutdown.spawn_essential("late payments", payment::keep_settling(payments, shutdown.clone()));
        let Ways { inventory, queue, store } = ways;
        let (store, meters): (Arc<dyn Store>, _) = (Arc::new(store.clone()), &self.meters);
        let parts = writer::Parts {
            store: Arc::clone(&store),
            consumer: Arc::clone(&queue.consumer),
            inventory: Arc::clone(inventory),
            clock: self.clock(index),
            meters: WriterMeters::new(meters),
            spans: Spans::default(),
            batch_max: 16,
        };
        shutdown.spawn_essential("dead letters", writer::keep_dead_letters(parts.clone(), shutdown.clone()));
        shutdown.spawn_essential("lanes", writer::write_lanes(parts, Arc::clone(&queue.topology), shutdown.clone()));
        let recovery = recovery::Parts {
            store: Arc::clone(&store),
            inventory: Arc::clone(inventory),
            topology: Arc::clone(&queue.topology),
            epochs: epochs.clone(),
            meters: meters.clone(),
            takeover: TAKEOVER,
            fence_margin: Duration::ZERO,
        };
        for partition in Partition::all(self.partitions) {
            shutdown.spawn_essential("recovery", recovery::keep_open(recovery.clone(), partition, shutdown.clone()));
        }
        let relay = relay::Parts {
            inventory: Arc::clone(inventory),
            publisher: Arc::clone(&queue.publisher),
            epochs: epochs.clone(),
            meters: meters.clone(),
            after: RELAY_AFTER.into(),
        };
        let readmission = readmission::Parts {
            store: Arc::clone(&store),
            inventory: Arc::clone(inventory),
            epochs: epochs.clone(),
            clock: self.clock(index),
        };
        shutdown.spawn_essential("readmission", readmission::keep_readmitting(readmission, shutdown.clone()));
        shutdown.spawn_essential("relay", relay::keep_relaying(relay, shutdown.clone()));
        let expiring =
            expiry::keep_expiring(Arc::clone(&store), GRACE, EXPIRY_INTERVAL, meters.clone(), shutdown.clone());
        shutdown.spawn_essential("expiry", expiring);
        let carrying = returns::keep_carrying(
            Arc::clone(&store),
            Arc::clone(inventory),
            epochs.clone(),
            meters.clone(),
            shutdown.clone(),
        );
        shutdown.spawn_essential("returns", carrying);
        let defaults = settings::Sale::default();
        let definitions = Definitions::new(store, Arc::clone(inventory), epochs.clone(), self.clock(index), defaults);
        shutdown.spawn_essential("definitions", definitions.keep_applied(shutdown.clone()));
    }
}

/// An event, and a journey of three legs.
fn sales() -> Vec<Sale> {
    let hold = format!("{}ms", HOLD.as_millis());
    let opens = "2020-01-01T00:00:00Z";
    let concert = serde_json::json!({
        "name": "C", "opens_at": opens, "currency": "CNY", "limit_per_buyer": 3, "hold": hold,
        "pools": [{"id": "standard", "capacity": fastrand::u32(6..24), "price": 100}],
    });
    let train = serde_json::json!({
        "name": "T", "opens_at": opens, "currency": "CNY", "limit_per_buyer": 4, "hold": hold,
        "stops": ["A", "B", "C", "D"], "pools": [{"id": "second", "capacity": fastrand::u32(2..8), "fares": [10, 20, 30]}],
    });
    let sale = |(id, document): (&str, _)| {
        let document: SaleDocument = serde_json::from_value(document).expect("a document");
        document.into_sale(id.parse().expect("an id")).expect("a sale")
    };
    [("concert", concert), ("train", train)].into_iter().map(sale).collect()
}
