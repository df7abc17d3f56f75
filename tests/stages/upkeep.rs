//! What runs behind the doors, when one part of it cannot go on: the rest does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rushgate::clock::{Clock, SystemClock};
use rushgate::config::live::Live;
use rushgate::config::settings;
use rushgate::domain::{Claim, Epoch, Order, OrderStatus, Partition, Sale, SaleDocument, SaleId, Scope, record};
use rushgate::epochs::Epochs;
use rushgate::inventory::{Fault, Inventory, Verdict};
use rushgate::meters::Meters;
use rushgate::queue::envelope::CATCH_ALL;
use rushgate::queue::memory::ConfirmWhen;
use rushgate::queue::{self, LaneDepth, Publisher, Topology};
use rushgate::recovery;
use rushgate::relay;
use rushgate::returns;
use rushgate::shutdown::Shutdown;
use rushgate::spans::Spans;
use rushgate::store::sqlite::SqliteStore;
use rushgate::store::{CancelOutcome, Change, PartitionState, PutSale, Recordable, Store};
use rushgate::writer::{self, WriterMeters};
use tempfile::TempDir;

use crate::doubles::{BadLine, Node, SCOPE};

/// How long anything that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store of its own, an inventory behind a bad line, a queue, and the writers of its lanes.
struct Back {
    _folder: TempDir,
    store: Arc<dyn Store>,
    inventory: Arc<BadLine>,
    topology: Arc<Counting>,
    meters: Meters,
    shutdown: Shutdown,
}

/// A topology that counts the rounds of barriers, and what is put past the exchanges.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn Topology>,
    barriers: AtomicUsize,
    puts: AtomicUsize,
    /// A barrier that no writer meets.
    unmet: Mutex<Option<u16>>,
}

#[async_trait]
impl Topology for Counting {
    async fn declare(&self) -> Result<(), queue::Fault> {
        self.inner.declare().await
    }
    async fn open(&self, scope: Scope) -> Result<(), queue::Fault> {
        self.inner.open(scope).await
    }
    async fn close(&self, scope: Scope) -> Result<(), queue::Fault> {
        self.inner.close(scope).await
    }
    async fn is_open(&self, scope: Scope) -> Result<bool, queue::Fault> {
        self.inner.is_open(scope).await
    }
    async fn put(&self, body: Vec<u8>) -> Result<(), queue::Fault> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        self.inner.put(body).await
    }
    async fn barrier(&self, scope: Scope) -> Result<(), queue::Fault> {
        self.barriers.fetch_add(1, Ordering::SeqCst);
        self.inner.barrier(scope).await
    }
    async fn depths(&self) -> Result<Vec<LaneDepth>, queue::Fault> {
        self.inner.depths().await
    }
    fn widen(&self, lanes: u16) {
        self.inner.widen(lanes);
    }
    fn lanes(&self) -> u16 {
        self.inner.lanes()
    }
    fn barriers(&self) -> Vec<u16> {
        self.inner.barriers().into_iter().chain(*self.unmet.lock().unwrap()).collect()
    }
}

impl Back {
    async fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let folder = TempDir::new().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("store.db").display());
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&url, Arc::clone(&clock)).expect("a store"));
        store.migrate().await.expect("migrated");
        let inventory = Arc::new(BadLine::new(Arc::clone(&clock)));
        let (meters, shutdown) = (Meters::new(), Shutdown::new());
        let queue = queue::memory::open(&settings::Queue::default(), &meters, ConfirmWhen::Stored);
        let parts = writer::Parts {
            store: Arc::clone(&store),
            consumer: Arc::clone(&queue.consumer),
            inventory: Arc::clone(&inventory) as Arc<dyn Inventory>,
            clock,
            meters: WriterMeters::new(&meters),
            spans: Spans::default(),
            batch_max: 100,
        };
        for lane in 0..queue.topology.lanes() {
            let lane = queue::LaneId::Number(lane);
            shutdown.spawn(writer::write_lane(parts.clone(), lane, shutdown.clone()));
        }
        let topology = Arc::new(Counting {
            inner: queue.topology,
            barriers: AtomicUsize::new(0),
            puts: AtomicUsize::new(0),
            unmet: Mutex::default(),
        });
        Self { _folder: folder, store, inventory, topology, meters, shutdown }
    }

    /// Starts one more who recovers partition 0.
    fn recover(&self, takeover: Duration) {
        let parts = recovery::Parts {
            store: Arc::clone(&self.store),
            inventory: Arc::clone(&self.inventory) as Arc<dyn Inventory>,
            topology: Arc::clone(&self.topology) as Arc<dyn Topology>,
            epochs: Epochs::new(1),
            meters: self.meters.clone(),
            takeover,
            fence_margin: Duration::ZERO,
        };
        self.shutdown.spawn(recovery::keep_open(parts, Partition(0), self.shutdown.clone()));
    }

    /// Waits until an epoch is open.
    async fn open(&self) -> Scope {
        let opened = async {
            loop {
                let row = self.store.partition(Partition(0)).await.expect("a row");
                if let Some(row) = row.filter(|row| row.state == PartitionState::Open) {
                    return Scope { partition: row.partition, epoch: row.epoch };
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, opened).await.expect("the partition opens")
    }

    async fn put(&self, sale: &Sale) {
        let change = Change {
            at: SystemClock.now(),
            who: "test".to_owned(),
            what: "sale.put".to_owned(),
            subject: sale.id.to_string(),
            before: String::new(),
            after: String::new(),
        };
        assert_eq!(self.store.put_sale(sale, &change).await.expect("put"), PutSale::Stored);
    }

    /// Records so many orders of one unit each.
    async fn record(&self, sale: &SaleId, count: u8, scope: Scope) -> Vec<Order> {
        let orders: Vec<_> = (1..=count).map(|number| order(sale, number)).collect();
        let batch: Vec<_> = orders.iter().map(|order| Recordable { scope, order: order.clone() }).collect();
        self.store.recorder().await.expect("a recorder").record(&batch).await.expect("recorded");
        orders
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        self.shutdown.force();
    }
}

fn order(sale: &SaleId, number: u8) -> Order {
    let id = format!("{number:02x}").repeat(16);
    record::parse(&format!("{id} 0 {sale} b{number} 1 99999999999999 100 CNY p/0/1/1/-/-")).expect("an order")
}

fn sale(id: &str, capacity: u32) -> Sale {
    let document: SaleDocument = serde_json::from_value(serde_json::json!({
        "name": id, "opens_at": "1970-01-01T00:00:00Z", "currency": "CNY",
        "pools": [{"id": "p", "capacity": capacity, "price": 100}],
    }))
    .expect("a document");
    Sale { version: 1, ..document.into_sale(id.parse().expect("an id")).expect("a sale") }
}

/// A sale of each of two partitions.
fn sale_of(partition: u16) -> Sale {
    let sales = (0..).map(|number| sale(&format!("s{number}"), 10));
    sales.into_iter().find(|sale| Partition::of(&sale.id, 2) == Partition(partition)).expect("a sale")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capacity_below_what_is_live_does_not_keep_a_partition_from_opening() {
    let back = Back::new().await;
    let ten = sale("s", 10);
    back.put(&ten).await;
    back.store.mark_applied(&ten.id, 1).await.expect("applied");
    back.record(&ten.id, 8, SCOPE).await;
    // An operator asks for less at the moment in which the inventory dies: it is stored, and was never refused.
    back.put(&Sale { version: 2, ..sale("s", 5) }).await;
    back.recover(Duration::ZERO);
    let scope = back.open().await;
    let stock = back.inventory.stock(scope, &ten.id).await.expect("stock");
    assert_eq!((stock[0].free, stock[0].held), (0, 8), "as near to five as its orders allow");
    let stored = back.store.sale(&ten.id).await.expect("a store").expect("a sale");
    assert_eq!((stored.sale.pools[0].capacity, stored.sale.version), (8, 3), "and the operator can see it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_takes_longer_than_the_patience_of_others_still_comes_to_an_end() {
    let back = Back::new().await;
    back.put(&sale("s", 10)).await;
    *back.inventory.rebuild_takes.lock().unwrap() = Duration::from_secs(2);
    for _ in 0..2 {
        back.recover(Duration::from_millis(500));
    }
    back.open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_whose_exchange_somebody_deleted_is_followed_by_another() {
    let back = Back::new().await;
    back.recover(Duration::ZERO);
    let first = back.open().await;
    back.topology.close(first).await.expect("deleted");
    let followed = async {
        while back.open().await == first {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, followed).await.expect("another epoch opens");
}

#[tokio::test(flavor = "multi_thread")]
async fn recoveries_are_counted_from_nothing_and_the_first_epoch_is_none() {
    let back = Back::new().await;
    let counted = |what: &str| {
        let told = back.meters.render();
        assert!(told.contains(&format!("\nrushgate_recoveries_total {what}\n")), "not {what}: {told}");
    };
    back.inventory.rebuilds_fail.store(true, Ordering::SeqCst);
    back.recover(Duration::from_secs(60));
    back.began(1).await;
    counted("0");
    back.inventory.rebuilds_fail.store(false, Ordering::SeqCst);
    let first = back.open().await;
    back.topology.close(first).await.expect("deleted");
    let second = back.reopened(first).await;
    // When the third has begun, and makes no end, the second is counted, and the first is not.
    back.inventory.rebuilds_fail.store(true, Ordering::SeqCst);
    back.topology.close(second).await.expect("deleted");
    back.began(3).await;
    counted("1");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_opens_before_the_catch_all_is_drained_too() {
    let back = Back::new().await;
    *back.topology.unmet.lock().unwrap() = Some(CATCH_ALL);
    back.recover(Duration::from_secs(60));
    let numbered = async {
        while back.store.barriers(SCOPE).await.expect("barriers").len() < usize::from(back.topology.lanes()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, numbered).await.expect("the lanes are drained");
    let row = back.store.partition(Partition(0)).await.expect("a store").expect("a row");
    assert_eq!((row.state, row.min_epoch), (PartitionState::Fenced, Epoch(0)), "orders may be in the catch-all");
    back.store.recorder().await.expect("a recorder").barrier(SCOPE, CATCH_ALL).await.expect("stored");
    back.open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn barriers_that_are_stored_are_not_sent_again_while_the_inventory_is_away() {
    let back = Back::new().await;
    back.inventory.rebuilds_fail.store(true, Ordering::SeqCst);
    back.recover(Duration::from_secs(60));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(back.topology.barriers.load(Ordering::SeqCst), 1);
    back.inventory.rebuilds_fail.store(false, Ordering::SeqCst);
    assert_eq!(back.open().await.epoch, Epoch(1));
}

/// A partition in which an order was granted that no lane has heard of.
async fn with_a_grant_in_the_outbox() -> (Back, Scope, Order) {
    let back = Back::new().await;
    let ten = sale("s", 10);
    back.put(&ten).await;
    back.recover(Duration::from_secs(60));
    let scope = back.open().await;
    back.inventory.gate.add_permits(1);
    let order = order(&ten.id, 1);
    let claim = Claim { order: order.clone() };
    let confirmed = back.inventory.confirm(scope, &[claim], SystemClock.now()).await.expect("confirmed");
    assert_eq!(confirmed.verdicts, [Verdict::Granted]);
    (back, scope, order)
}

impl Back {
    /// Waits until this epoch has begun.
    async fn began(&self, epoch: u64) {
        let began = async {
            while self.store.partition(Partition(0)).await.expect("a store").is_none_or(|row| row.epoch < Epoch(epoch))
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, began).await.expect("the epoch begins");
    }

    /// Waits until an epoch after this one is open.
    async fn reopened(&self, before: Scope) -> Scope {
        let opened = async {
            loop {
                let scope = self.open().await;
                if scope.epoch > before.epoch {
                    return scope;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, opened).await.expect("the next epoch opens")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_outbox_knew_is_stored_before_the_partition_opens_again() {
    let (back, scope, order) = with_a_grant_in_the_outbox().await;
    back.inventory.fence(scope).await.expect("fenced");
    let next = back.reopened(scope).await;
    let row = back.store.order(order.id).await.expect("a store").expect("a row");
    assert_eq!((row.order, row.status), (order.clone(), OrderStatus::Held));
    let stock = back.inventory.stock(next, &order.sale).await.expect("stock");
    assert_eq!((stock[0].free, stock[0].held), (9, 1), "and it was there to be rebuilt from");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_whose_exchange_is_gone_is_followed_by_another() {
    let (back, scope, order) = with_a_grant_in_the_outbox().await;
    back.topology.close(scope).await.expect("closed");
    let next = back.reopened(scope).await;
    assert!(back.topology.is_open(next).await.expect("an answer"));
    let row = back.store.order(order.id).await.expect("a store").expect("a row");
    assert_eq!(row.order, order, "what could not be published was stored all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_cannot_be_had_is_waited_for_and_put_into_the_lanes_once() {
    let (back, scope, order) = with_a_grant_in_the_outbox().await;
    let faults = [Fault::NotDone("it is away".to_owned()), Fault::Unknown("it is slow".to_owned())];
    back.inventory.salvages_fail.lock().unwrap().extend(faults);
    back.inventory.rebuilds_fail.store(true, Ordering::SeqCst);
    back.inventory.fence(scope).await.expect("fenced");
    // Some tries of the rebuild, each of which could put it there again.
    let tried = async {
        while back.inventory.rebuilds.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, tried).await.expect("it is tried again");
    assert_eq!(back.topology.puts.load(Ordering::SeqCst), 1);
    assert_eq!(back.topology.barriers.load(Ordering::SeqCst), 2, "one round for each epoch");
    back.inventory.rebuilds_fail.store(false, Ordering::SeqCst);
    back.reopened(scope).await;
    assert!(back.store.order(order.id).await.expect("a store").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_cannot_be_read_is_given_up() {
    let (back, scope, order) = with_a_grant_in_the_outbox().await;
    back.inventory.salvages_fail.lock().unwrap().push_back(Fault::Fenced("the data is broken".to_owned()));
    back.inventory.fence(scope).await.expect("fenced");
    let next = back.reopened(scope).await;
    assert_eq!(back.store.order(order.id).await.expect("a store"), None);
    let stock = back.inventory.stock(next, &order.sale).await.expect("stock");
    assert_eq!((stock[0].free, stock[0].held), (10, 0), "nobody was promised it, and it is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_one_partition_come_back_while_another_recovers() {
    let back = Back::new().await;
    let (stuck, well) = (sale_of(0), sale_of(1));
    for (sale, partition) in [(&stuck, 0), (&well, 1)] {
        let scope = Scope { partition: Partition(partition), epoch: Epoch(1) };
        back.put(sale).await;
        let orders: Vec<_> = back.record_apart(&sale.id, partition, scope).await;
        for order in orders {
            let cancelled = back.store.cancel(order.id, None).await.expect("cancelled");
            assert!(matches!(cancelled, CancelOutcome::Done(_)), "{cancelled:?}");
        }
    }
    let epochs = Epochs::new(2);
    let scope = Scope { partition: Partition(1), epoch: Epoch(1) };
    back.inventory.rebuild(scope, &rushgate::inventory::Snapshot::default()).await.expect("rebuilt");
    back.inventory.open(scope).await.expect("open");
    epochs.assume(scope);
    back.store.fence(scope.partition, None).await.expect("its row");
    let inventory = Arc::clone(&back.inventory) as Arc<dyn Inventory>;
    let carrying =
        returns::keep_carrying(Arc::clone(&back.store), inventory, epochs, Meters::new(), back.shutdown.clone());
    back.shutdown.spawn(carrying);
    let carried = async {
        loop {
            let moves = back.store.stock_moves(10).await.expect("moves");
            let mut of: BTreeMap<_, usize> = BTreeMap::new();
            for (_, sale, to) in moves {
                assert_eq!(to, OrderStatus::Cancelled);
                *of.entry(sale).or_default() += 1;
            }
            if !of.contains_key(&well.id) {
                return of;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let left = tokio::time::timeout(PATIENCE, carried).await.expect("the other partition's units come back");
    assert_eq!(left, BTreeMap::from([(stuck.id, 2)]), "what cannot be carried waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_an_inventory_of_the_past_took_back_are_carried_to_the_next_one_too() {
    let back = Back::new().await;
    let sale = sale_of(1);
    back.put(&sale).await;
    let scope = Scope { partition: Partition(1), epoch: Epoch(1) };
    let epochs = Epochs::new(2);
    epochs.assume(scope);
    back.inventory.rebuild(scope, &rushgate::inventory::Snapshot::default()).await.expect("rebuilt");
    back.inventory.open(scope).await.expect("open");
    back.store.fence(scope.partition, None).await.expect("the first epoch");
    for order in back.record_apart(&sale.id, 1, scope).await {
        back.store.cancel(order.id, None).await.expect("cancelled");
    }
    back.store.fence(scope.partition, Some(scope.epoch)).await.expect("the next epoch");
    let carried = returns::carry(&*back.store, &*back.inventory, &epochs, 10).await.expect("a store");
    assert_eq!((carried.returned, carried.waiting), (0, 2), "the process has not heard that its epoch is over");
    let next = Scope { epoch: Epoch(2), ..scope };
    back.inventory.rebuild(next, &rushgate::inventory::Snapshot::default()).await.expect("rebuilt");
    back.inventory.open(next).await.expect("open");
    epochs.assume(next);
    let carried = returns::carry(&*back.store, &*back.inventory, &epochs, 10).await.expect("a store");
    assert_eq!((carried.returned, carried.waiting), (2, 0));
}

impl Back {
    /// Records two orders that are nobody else's.
    async fn record_apart(&self, sale: &SaleId, partition: u16, scope: Scope) -> Vec<Order> {
        let first = u8::try_from(partition).expect("few partitions") * 2 + 1;
        let orders: Vec<_> = (first..first + 2).map(|number| order(sale, number)).collect();
        let batch: Vec<_> = orders.iter().map(|order| Recordable { scope, order: order.clone() }).collect();
        self.store.recorder().await.expect("a recorder").record(&batch).await.expect("recorded");
        orders
    }
}

#[tokio::test(start_paused = true)]
async fn one_partition_is_relayed_while_another_recovers() {
    let node = Node::selling(5).await;
    *node.broker.refuses.lock().unwrap() = Some(queue::Unconfirmed::NotSent(String::new()));
    node.claim("alice", Some("k")).await;
    *node.broker.refuses.lock().unwrap() = None;
    let before = node.broker.messages.load(Ordering::SeqCst);
    let epochs = Epochs::new(2);
    epochs.assume(SCOPE);
    let parts = relay::Parts {
        inventory: Arc::clone(&node.inventory) as Arc<dyn Inventory>,
        publisher: Arc::clone(&node.broker) as Arc<dyn Publisher>,
        epochs,
        meters: Meters::new(),
        after: Duration::ZERO.into(),
    };
    let relaying =
        relay::keep_relaying(relay::Parts { after: Duration::from_millis(100).into(), ..parts }, node.shutdown.clone());
    node.shutdown.spawn(relaying);
    node.clock.advance(Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(node.broker.messages.load(Ordering::SeqCst) > before, "the outbox is published again");
}

/// A node whose granted batches of one order each, so many of them, are all in the outbox.
async fn with_outbox(entries: u32) -> Node {
    let node = Node::selling(entries).await;
    for number in 0..entries {
        node.claim(&format!("b{number}"), None).await;
    }
    node.clock.advance(Duration::from_secs(3600));
    node
}

fn keep_relaying(node: &Node, after: impl Into<Live<Duration>>) {
    let epochs = Epochs::new(1);
    epochs.assume(SCOPE);
    let parts = relay::Parts {
        inventory: Arc::clone(&node.inventory) as Arc<dyn Inventory>,
        publisher: Arc::clone(&node.broker) as Arc<dyn Publisher>,
        epochs,
        meters: Meters::new(),
        after: after.into(),
    };
    node.shutdown.spawn(relay::keep_relaying(parts, node.shutdown.clone()));
}

#[tokio::test(start_paused = true)]
async fn entries_that_wait_do_not_keep_those_behind_them_from_being_relayed() {
    let node = with_outbox(300).await;
    node.broker.got.lock().unwrap().clear();
    keep_relaying(&node, Duration::from_secs(5));
    tokio::time::sleep(Duration::from_secs(30)).await;
    let relayed: BTreeSet<_> = node.broker.got.lock().unwrap().iter().copied().collect();
    assert_eq!(relayed.len(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_relay_whose_wait_becomes_shorter_does_not_sit_out_the_longer_one() {
    let node = with_outbox(1).await;
    let (before, after) = (node.broker.messages.load(Ordering::SeqCst), Live::new(Duration::from_secs(100_000)));
    keep_relaying(&node, after.clone());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.broker.messages.load(Ordering::SeqCst), before);
    after.set(Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.broker.messages.load(Ordering::SeqCst), before + 1);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_stays_is_relayed_less_and_less_often() {
    let node = with_outbox(1).await;
    let before = node.broker.messages.load(Ordering::SeqCst);
    keep_relaying(&node, Duration::from_secs(5));
    let mut copies = Vec::new();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(15 * 60)).await;
        copies.push(node.broker.messages.load(Ordering::SeqCst) - before);
    }
    assert!((6..=9).contains(&copies[0]), "5 s, 10 s, 20 s and so on: {copies:?}");
    assert!((2..=12).contains(&(copies[3] - copies[0])), "then every 320 s: {copies:?}");
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_relayed_is_not_relayed_again_at_once() {
    for (refused, copies) in
        [(queue::Unconfirmed::Unknown(String::new()), 1..=2), (queue::Unconfirmed::NotSent(String::new()), 3..=12)]
    {
        let node = with_outbox(1).await;
        *node.broker.refuses.lock().unwrap() = Some(refused.clone());
        let before = node.broker.messages.load(Ordering::SeqCst);
        keep_relaying(&node, Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(11_900)).await;
        let tried = node.broker.messages.load(Ordering::SeqCst) - before;
        assert!(copies.contains(&tried), "{refused:?}: {tried}");
    }
}
