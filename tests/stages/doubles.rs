//! An inventory whose replies can be lost or held back, a publisher that confirms when it is told to, and a desk over both.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use rushgate::admission::pressure::{self, Pressure};
use rushgate::admission::{Shards, refill};
use rushgate::clock::{Clock, ManualClock};
use rushgate::config::settings::AnswerAfter;
use rushgate::confirm::batch::{Batcher, Desk, DeskMeters, Limits};
use rushgate::confirm::{Answer, Claims, Parts, Request};
use rushgate::domain::{
    Ask, Buffer, BuyerId, Claim, Epoch, NodeId, OrderId, OrderSecret, OutboxId, Partition, Sale, SaleDocument, SaleId,
    Scope, UnixMillis,
};
use rushgate::epochs::Epochs;
use rushgate::inventory::memory::MemoryInventory;
use rushgate::inventory::{
    Changes, Confirmed, Defined, Fault, Inventory, KnownOrder, LegStock, NodeBeat, OutboxEntry, Revived, Snapshot,
    StockMove,
};
use rushgate::meters::Meters;
use rushgate::queue::envelope::{Content, Envelope};
use rushgate::queue::memory::ConfirmWhen;
use rushgate::queue::{self, LaneDepth, LaneId, Publisher, Queue, Strain, Topology, Unconfirmed};
use rushgate::shutdown::Shutdown;
use rushgate::spans::Spans;
use tokio::sync::Semaphore;

pub(crate) const SCOPE: Scope = Scope { partition: Partition(0), epoch: Epoch(1) };

/// What happens to one call of `confirm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The call is made, but its reply is lost.
    ReplyLost,
    /// The call is not made.
    Fails(Fault),
}

/// The embedded inventory behind a bad line.
#[derive(Debug)]
pub(crate) struct BadLine {
    pub(crate) inner: Arc<MemoryInventory>,
    /// The fates of the next calls; then they are good.
    pub(crate) fates: Mutex<VecDeque<Fate>>,
    /// A call waits for one of these.
    pub(crate) gate: Semaphore,
    /// How many claims each call had.
    pub(crate) calls: Mutex<Vec<usize>>,
    /// How long a call of `confirm` takes.
    pub(crate) confirm_takes: Mutex<Duration>,
    pub(crate) rebuild_takes: Mutex<Duration>,
    pub(crate) rebuilds_fail: AtomicBool,
    /// Refills fail.
    pub(crate) is_silent: AtomicBool,
    /// How many were begun.
    pub(crate) rebuilds: AtomicUsize,
    /// What the next salvages meet.
    pub(crate) salvages_fail: Mutex<VecDeque<Fault>>,
}

impl BadLine {
    /// A line that is good but for its gate, which is closed.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self::to(Arc::new(MemoryInventory::new(clock)))
    }

    /// Another line to the same inventory.
    pub(crate) fn to(inner: Arc<MemoryInventory>) -> Self {
        Self {
            inner,
            fates: Mutex::default(),
            gate: Semaphore::new(0),
            calls: Mutex::default(),
            confirm_takes: Mutex::default(),
            rebuild_takes: Mutex::default(),
            rebuilds_fail: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
            rebuilds: AtomicUsize::new(0),
            salvages_fail: Mutex::default(),
        }
    }
}

#[async_trait]
impl Inventory for BadLine {
    async fn confirm(&self, scope: Scope, claims: &[Claim], now: UnixMillis) -> Result<Confirmed, Fault> {
        self.calls.lock().unwrap().push(claims.len());
        self.gate.acquire().await.expect("an open gate").forget();
        let takes = *self.confirm_takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        let fate = self.fates.lock().unwrap().pop_front();
        match fate {
            None => self.inner.confirm(scope, claims, now).await,
            Some(Fate::ReplyLost) => {
                self.inner.confirm(scope, claims, now).await?;
                Err(Fault::Unknown("the reply was lost".to_owned()))
            }
            Some(Fate::Fails(fault)) => Err(fault),
        }
    }

    async fn apply(&self, scope: Scope, moves: &[StockMove]) -> Result<(), Fault> {
        self.inner.apply(scope, moves).await
    }
    async fn revive(&self, scope: Scope, order: OrderId) -> Result<Revived, Fault> {
        self.inner.revive(scope, order).await
    }
    async fn changes(&self, scope: Scope, since: u64) -> Result<Changes, Fault> {
        if self.is_silent.load(Ordering::SeqCst) {
            return Err(Fault::NotDone("it is away".to_owned()));
        }
        self.inner.changes(scope, since).await
    }
    async fn define(&self, scope: Scope, sale: &Sale) -> Result<Defined, Fault> {
        self.inner.define(scope, sale).await
    }
    async fn stock(&self, scope: Scope, sale: &SaleId) -> Result<Vec<LegStock>, Fault> {
        self.inner.stock(scope, sale).await
    }
    async fn order(&self, scope: Scope, id: OrderId) -> Result<Option<KnownOrder>, Fault> {
        self.inner.order(scope, id).await
    }
    async fn orders_of(&self, scope: Scope, sale: &SaleId, buyer: &BuyerId) -> Result<Vec<KnownOrder>, Fault> {
        self.inner.orders_of(scope, sale, buyer).await
    }
    async fn orders(&self, scope: Scope, cursor: Option<String>) -> Result<(Vec<KnownOrder>, Option<String>), Fault> {
        self.inner.orders(scope, cursor).await
    }
    async fn outbox_behind(
        &self,
        scope: Scope,
        entry: Option<&OutboxId>,
        min_age: Duration,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, Fault> {
        self.inner.outbox_behind(scope, entry, min_age, limit).await
    }
    async fn outbox_len(&self, scope: Scope) -> Result<u64, Fault> {
        self.inner.outbox_len(scope).await
    }
    async fn outbox_remove(&self, scope: Scope, entries: &[OutboxId]) -> Result<(), Fault> {
        self.inner.outbox_remove(scope, entries).await
    }
    async fn beat(&self, beat: &NodeBeat, timeout: Duration) -> Result<Vec<NodeBeat>, Fault> {
        self.inner.beat(beat, timeout).await
    }
    async fn leave(&self, node: &NodeId) -> Result<(), Fault> {
        self.inner.leave(node).await
    }
    async fn join(&self, scope: Scope) -> Result<(), Fault> {
        self.inner.join(scope).await
    }
    async fn identity(&self, partition: Partition) -> Result<String, Fault> {
        self.inner.identity(partition).await
    }
    async fn salvage(&self, scope: Scope, after: Option<OutboxId>, limit: usize) -> Result<Vec<OutboxEntry>, Fault> {
        if let Some(fault) = self.salvages_fail.lock().unwrap().pop_front() {
            return Err(fault);
        }
        self.inner.salvage(scope, after, limit).await
    }
    async fn rebuild(&self, scope: Scope, snapshot: &Snapshot) -> Result<(), Fault> {
        self.rebuilds.fetch_add(1, Ordering::SeqCst);
        let takes = *self.rebuild_takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        if self.rebuilds_fail.load(Ordering::SeqCst) {
            return Err(Fault::NotDone("it is away".to_owned()));
        }
        self.inner.rebuild(scope, snapshot).await
    }
    async fn open(&self, scope: Scope) -> Result<(), Fault> {
        self.inner.open(scope).await
    }
    async fn fence(&self, scope: Scope) -> Result<(), Fault> {
        self.inner.fence(scope).await
    }
}

/// A broker that confirms one message for every permit of its gate.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) gate: Semaphore,
    /// How long it takes to confirm one.
    pub(crate) takes: Mutex<Duration>,
    pub(crate) refuses: Mutex<Option<Unconfirmed>>,
    /// What it is told to suffer from.
    pub(crate) strain: Mutex<Strain>,
    /// Why there is none, if so.
    pub(crate) is_away: Mutex<Option<String>>,
    /// All orders of all messages, in the order in which they came.
    pub(crate) got: Mutex<Vec<OrderId>>,
    pub(crate) messages: AtomicUsize,
}

impl Broker {
    /// A broker that confirms nothing until its gate is opened.
    pub(crate) fn silent() -> Self {
        Self {
            gate: Semaphore::new(0),
            takes: Mutex::default(),
            refuses: Mutex::default(),
            strain: Mutex::default(),
            is_away: Mutex::default(),
            got: Mutex::default(),
            messages: AtomicUsize::new(0),
        }
    }
}

#[async_trait]
impl Publisher for Broker {
    async fn publish(&self, envelope: Envelope) -> Result<(), Unconfirmed> {
        self.messages.fetch_add(1, Ordering::SeqCst);
        if let Content::Orders { orders, .. } = &envelope.content {
            self.got.lock().unwrap().extend(orders.iter().map(|order| order.id));
        }
        self.gate.acquire().await.expect("an open gate").forget();
        let takes = *self.takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        self.refuses.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn ready(&self) -> Result<(), String> {
        self.is_away.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn strain(&self) -> Strain {
        self.strain.lock().unwrap().clone()
    }
}

/// Lanes that are as deep as they are told, or that cannot be looked at.
#[derive(Debug, Default)]
pub(crate) struct Lanes(pub(crate) Mutex<Option<Vec<(LaneId, u64)>>>);

#[async_trait]
impl Topology for Lanes {
    async fn declare(&self) -> Result<(), queue::Fault> {
        Ok(())
    }
    async fn open(&self, _: Scope) -> Result<(), queue::Fault> {
        Ok(())
    }
    async fn close(&self, _: Scope) -> Result<(), queue::Fault> {
        Ok(())
    }
    async fn is_open(&self, _: Scope) -> Result<bool, queue::Fault> {
        Ok(true)
    }
    async fn barrier(&self, _: Scope) -> Result<(), queue::Fault> {
        Ok(())
    }
    async fn put(&self, _: Vec<u8>) -> Result<(), queue::Fault> {
        Ok(())
    }
    async fn depths(&self) -> Result<Vec<LaneDepth>, queue::Fault> {
        let told = self.0.lock().unwrap().clone().ok_or_else(|| queue::Fault("it is away".to_owned()))?;
        Ok(told.into_iter().map(|(lane, messages)| LaneDepth { lane, messages, consumers: 1 }).collect())
    }
    fn widen(&self, _: u16) {}
    fn lanes(&self) -> u16 {
        1
    }
}

/// One gateway node without its door.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) claims: Claims,
    pub(crate) shards: Shards,
    pub(crate) pressure: Pressure,
    pub(crate) meters: Meters,
    pub(crate) inventory: Arc<BadLine>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) epochs: Epochs,
    pub(crate) shutdown: Shutdown,
}

/// Gates that are open for everything that a test does.
const OPEN: usize = 1_000_000;

impl Node {
    /// Sells `capacity` units of the sale `s` through open gates.
    pub(crate) async fn selling(capacity: u32) -> Self {
        let node = Self::behind_gates(capacity).await;
        node.open_gates();
        node
    }

    /// The same, but neither the inventory nor the broker answers until its gate is opened.
    pub(crate) async fn behind_gates(capacity: u32) -> Self {
        Self::answering_after(AnswerAfter::Broker, capacity).await
    }

    /// Behind gates, with this said about whose word is enough for a yes.
    pub(crate) async fn answering_after(answer_after: AnswerAfter, capacity: u32) -> Self {
        let clock = Arc::new(ManualClock::at(UnixMillis(1_000_000)));
        let inner = Arc::new(MemoryInventory::new(Arc::clone(&clock) as Arc<dyn Clock>));
        let snapshot = Snapshot { sales: vec![sale(capacity)], orders: Vec::new() };
        inner.rebuild(SCOPE, &snapshot).await.expect("rebuilt");
        inner.open(SCOPE).await.expect("open");
        Self::over(inner, clock, answer_after).await
    }

    /// Another node, through open gates, over the same inventory.
    pub(crate) async fn beside(node: &Self) -> Self {
        let other = Self::over(Arc::clone(&node.inventory.inner), Arc::clone(&node.clock), AnswerAfter::Broker).await;
        other.open_gates();
        other
    }

    /// From now on the inventory and the broker answer at once.
    pub(crate) fn open_gates(&self) {
        self.inventory.gate.add_permits(OPEN);
        self.broker.gate.add_permits(OPEN);
    }

    async fn over(inner: Arc<MemoryInventory>, manual: Arc<ManualClock>, answer_after: AnswerAfter) -> Self {
        let (meters, shutdown) = (Meters::new(), Shutdown::new());
        let clock = Arc::clone(&manual) as Arc<dyn Clock>;
        let inventory = Arc::new(BadLine::to(inner));
        let broker = Arc::new(Broker::silent());
        let epochs = Epochs::new(1);
        epochs.assume(SCOPE);
        let shards = Shards::new(1, 1.0, Buffer::Units(0));
        let desk = Desk {
            partition: SCOPE.partition,
            inventory: Arc::clone(&inventory) as Arc<dyn Inventory>,
            publisher: Arc::clone(&broker) as Arc<dyn Publisher>,
            shards: shards.clone(),
            epochs: epochs.clone(),
            clock: Arc::clone(&clock),
            meters: DeskMeters::new(&meters),
            spans: Spans::default(),
        };
        let batcher = Batcher::new(desk, Limits { batch_max: 128, batches_in_flight: 1, answer_after });
        let secret = Arc::new(OnceLock::from(OrderSecret::new([7; 32])));
        let publisher = Arc::clone(&broker) as Arc<dyn Publisher>;
        let pressure = Pressure::new(1);
        let parts = Parts {
            shards: shards.clone(),
            epochs: epochs.clone(),
            pressure: pressure.clone(),
            publisher,
            clock,
            secret,
        };
        let claims = Claims::new(parts, std::slice::from_ref(&batcher));
        shutdown.spawn(batcher.run(shutdown.clone()));
        let wired = (epochs.clone(), Arc::clone(&inventory) as Arc<dyn Inventory>);
        let interval = Duration::from_millis(10);
        shutdown.spawn(refill::keep_filled(shards.clone(), SCOPE.partition, wired, interval, shutdown.clone()));
        assert!(shards.refilled(SCOPE.partition).await);
        Self { claims, shards, pressure, meters, inventory, broker, clock: manual, epochs, shutdown }
    }

    /// Has its pressure read, with lanes that are told how deep they are.
    pub(crate) fn under_pressure(&self, limits: pressure::Limits) -> Arc<Lanes> {
        let lanes = Arc::new(Lanes(Mutex::new(Some(Vec::new()))));
        let settings = rushgate::config::settings::Queue::default();
        let queue = Queue {
            publisher: Arc::clone(&self.broker) as Arc<dyn Publisher>,
            topology: Arc::clone(&lanes) as Arc<dyn Topology>,
            ..queue::memory::open(&settings, &self.meters, ConfirmWhen::Queued)
        };
        let epochs = Epochs::new(1);
        epochs.assume(SCOPE);
        let sources = pressure::Sources { inventory: Arc::clone(&self.inventory) as Arc<dyn Inventory>, queue, epochs };
        let (pressure, meters) = (self.pressure.clone(), self.meters.clone());
        self.shutdown.spawn(pressure::keep_read(pressure, limits, sources, meters, self.shutdown.clone()));
        lanes
    }

    /// One unit for this buyer.
    pub(crate) async fn claim(&self, buyer: &str, key: Option<&str>) -> Answer {
        self.claim_many(buyer, key, 1).await
    }

    /// Some units for this buyer.
    pub(crate) async fn claim_many(&self, buyer: &str, key: Option<&str>, quantity: u64) -> Answer {
        self.claim_for(buyer, key, Ask::Quantity(quantity)).await
    }

    pub(crate) async fn claim_for(&self, buyer: &str, key: Option<&str>, ask: Ask<'_>) -> Answer {
        let request = Request {
            sale: "s",
            buyer: buyer.parse().expect("a buyer"),
            key: key.map(|key| key.parse().expect("a key")),
            ask,
            trace: None,
        };
        self.claims.claim(request, || Some(((), rushgate::confirm::deadline(Duration::from_secs(20))))).await
    }

    /// Free, held and sold units in the inventory.
    pub(crate) async fn stock(&self) -> (u32, u32, u32) {
        let stock = self.inventory.stock(SCOPE, &"s".parse().expect("an id")).await.expect("stock");
        (stock[0].free, stock[0].held, stock[0].sold)
    }

    /// How many orders the inventory knows.
    pub(crate) async fn orders(&self) -> u64 {
        let (mut count, mut cursor) = (0, None);
        loop {
            let (orders, more) = self.inventory.orders(SCOPE, cursor).await.expect("orders");
            count += orders.len() as u64;
            cursor = match more {
                Some(more) => Some(more),
                None => return count,
            };
        }
    }

    /// Units that the shard lets through.
    pub(crate) fn left(&self) -> u32 {
        let shard = self.shards.sale("s").expect("the sale");
        self.shards.left(&shard)[0][0]
    }
}

pub(crate) fn sale(capacity: u32) -> Sale {
    let document: SaleDocument = serde_json::from_value(serde_json::json!({
        "name": "S", "opens_at": "1970-01-01T00:00:00Z", "currency": "CNY", "limit_per_buyer": 4,
        "pools": [{"id": "standard", "capacity": capacity, "price": 100}],
    }))
    .expect("a document");
    document.into_sale("s".parse().expect("an id")).expect("a sale")
}
