//! Late payments and stale orders, over an embedded store and an inventory that can be lost.

use std::sync::Arc;
use std::time::Duration;

use rushgate::clock::{Clock, ManualClock};
use rushgate::config::settings;
use rushgate::domain::{Claim, Epoch, Order, OrderStatus, Sale, SaleDocument, Scope, UnixMillis, record};
use rushgate::epochs::Epochs;
use rushgate::inventory::memory::MemoryInventory;
use rushgate::inventory::{Inventory, KnownOrder, Revived, Snapshot, Verdict};
use rushgate::meters::Meters;
use rushgate::payment::{self, Payments};
use rushgate::readmission;
use rushgate::returns;
use rushgate::shutdown::Shutdown;
use rushgate::store::sqlite::SqliteStore;
use rushgate::store::{
    CancelOutcome, Change, Due, Expiry, PaymentEvent, PaymentOutcome, PutSale, Recordable, StaleState, Store,
};
use tempfile::TempDir;

use crate::doubles::SCOPE;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const HOLD: Duration = Duration::from_secs(300);
/// Well past every hold and grace.
const OVER: Duration = Duration::from_secs(600);
const NEXT: Scope = Scope { epoch: Epoch(2), ..SCOPE };
/// How long anything that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Store and inventory of one sale, in epoch 1.
struct Till {
    _folder: TempDir,
    store: Arc<dyn Store>,
    inventory: Arc<MemoryInventory>,
    epochs: Epochs,
    clock: Arc<ManualClock>,
    meters: Meters,
    shutdown: Shutdown,
}

impl Till {
    async fn selling(capacity: u32) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}", folder.path().join("store.db").display());
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&url, Arc::clone(&clock) as Arc<dyn Clock>).unwrap());
        store.migrate().await.unwrap();
        let sale = sale(capacity);
        assert_eq!(store.put_sale(&sale, &change()).await.unwrap(), PutSale::Stored);
        store.mark_applied(&sale.id, sale.version).await.unwrap();
        let inventory = Arc::new(MemoryInventory::new(Arc::clone(&clock) as Arc<dyn Clock>));
        let epochs = Epochs::new(1);
        let till =
            Self { _folder: folder, store, inventory, epochs, clock, meters: Meters::new(), shutdown: Shutdown::new() };
        till.begin(None).await;
        till
    }

    /// Begins the next epoch, from what the store has.
    async fn begin(&self, seen: Option<Epoch>) {
        let scope = self.fence(seen).await;
        self.open(scope, |_| {}).await;
    }

    async fn fence(&self, seen: Option<Epoch>) -> Scope {
        let epoch = self.store.fence(SCOPE.partition, seen).await.unwrap().expect("nobody else recovers");
        Scope { epoch, ..SCOPE }
    }

    /// Builds and joins an epoch, of sales that are changed by this.
    async fn open(&self, scope: Scope, change: impl Fn(&mut Sale)) {
        self.store.set_min_epoch(scope).await.unwrap();
        let mut stored = self.store.snapshot(SCOPE.partition, 1).await.unwrap();
        stored.sales.iter_mut().for_each(change);
        let known = |(order, status)| KnownOrder { order, status };
        let snapshot = Snapshot { sales: stored.sales, orders: stored.orders.into_iter().map(known).collect() };
        self.inventory.rebuild(scope, &snapshot).await.unwrap();
        self.inventory.open(scope).await.unwrap();
        assert!(self.store.open_partition(scope, "memory").await.unwrap());
        self.epochs.assume(scope);
    }

    fn readmission(&self) -> readmission::Parts {
        readmission::Parts {
            store: Arc::clone(&self.store),
            inventory: Arc::clone(&self.inventory) as Arc<dyn Inventory>,
            epochs: self.epochs.clone(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
        }
    }

    fn payments(&self) -> Payments {
        self.payments_in(&self.epochs)
    }

    fn payments_in(&self, epochs: &Epochs) -> Payments {
        let parts = payment::Parts {
            store: Arc::clone(&self.store),
            inventory: Arc::clone(&self.inventory) as Arc<dyn Inventory>,
            epochs: epochs.clone(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            settings: settings::Payment { grace: Duration::ZERO, ..settings::Payment::default() },
        };
        Payments::new(parts, &self.meters)
    }

    /// Grants an order and records it.
    async fn sold(&self, number: u8, scope: Scope) -> Order {
        let order = order(number, self.clock.now());
        let claims = [Claim { order: order.clone() }];
        let confirmed = self.inventory.confirm(scope, &claims, self.clock.now()).await.unwrap();
        assert_eq!(confirmed.verdicts, [Verdict::Granted]);
        self.record(scope, &order).await;
        order
    }

    async fn record(&self, scope: Scope, order: &Order) {
        let batch = [Recordable { scope, order: order.clone() }];
        self.store.recorder().await.unwrap().record(&batch).await.unwrap();
    }

    /// Ends what is over, and has the inventory follow.
    async fn expire(&self) {
        self.clock.advance(OVER);
        let expired = self.store.expire(Duration::ZERO, Due::first(100)).await.unwrap();
        assert!(matches!(expired, Expiry::Expired(_)), "{expired:?}");
        self.carry().await;
    }

    async fn carry(&self) {
        let inventory: &dyn Inventory = &*self.inventory;
        let carried = returns::carry(&*self.store, inventory, &self.epochs, 100).await.unwrap();
        assert_eq!(carried.waiting, 0);
    }

    async fn status(&self, order: &Order) -> OrderStatus {
        self.store.order(order.id).await.unwrap().unwrap().status
    }

    /// Free, held and sold in the inventory; held and paid in the store, which the guard counts too.
    async fn figures(&self, scope: Scope) -> ((u32, u32, u32), (u32, u32)) {
        let stock = self.inventory.stock(scope, &"s".parse().unwrap()).await.unwrap();
        let tally = self.store.tally(&"s".parse().unwrap()).await.unwrap();
        assert_eq!(tally.legs[0].live, tally.legs[0].held + tally.legs[0].paid);
        ((stock[0].free, stock[0].held, stock[0].sold), (tally.legs[0].held, tally.legs[0].paid))
    }

    fn refunds_counted(&self) -> String {
        let text = self.meters.render();
        let line = text.lines().find(|line| line.starts_with("rushgate_refund_due_total"));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or("0").to_owned()
    }
}

impl Drop for Till {
    fn drop(&mut self) {
        self.shutdown.force();
    }
}

fn sale(capacity: u32) -> Sale {
    let document: SaleDocument = serde_json::from_value(serde_json::json!({
        "name": "S", "opens_at": "1970-01-01T00:00:00Z", "currency": "CNY",
        "pools": [{"id": "p", "capacity": capacity, "price": 100}],
    }))
    .unwrap();
    Sale { version: 1, ..document.into_sale("s".parse().unwrap()).unwrap() }
}

fn change() -> Change {
    Change {
        at: NOW,
        who: "test".to_owned(),
        what: "sale.put".to_owned(),
        subject: "s".to_owned(),
        before: String::new(),
        after: String::new(),
    }
}

fn order(number: u8, at: UnixMillis) -> Order {
    let (id, pay_by) = (format!("{number:02x}").repeat(16), at.plus(HOLD).0);
    record::parse(&format!("{id} 0 s b{number} {} {pay_by} 100 CNY p/0/1/1/-/-", at.0)).unwrap()
}

fn paying(order: &Order, event: &str) -> PaymentEvent {
    PaymentEvent { id: event.to_owned(), order: order.id, paid: order.price }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_payment_whose_asker_died_is_settled_by_the_next() {
    let till = Till::selling(1).await;
    let late = till.sold(1, SCOPE).await;
    till.expire().await;
    till.store.pay(&paying(&late, "e"), Duration::ZERO).await.unwrap();
    // The inventory has said yes, and whoever asked never told the store.
    assert_eq!(till.inventory.revive(SCOPE, late.id).await, Ok(Revived::Taken));
    assert_eq!(till.figures(SCOPE).await, ((0, 0, 1), (0, 0)));
    till.shutdown.spawn(payment::keep_settling(till.payments(), till.shutdown.clone()));
    until("it is paid", async || till.status(&late).await == OrderStatus::Paid).await;
    till.carry().await;
    assert_eq!(till.figures(SCOPE).await, ((0, 0, 1), (0, 1)));
    assert_eq!(till.refunds_counted(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_payment_waits_while_the_partition_recovers() {
    let till = Till::selling(1).await;
    let late = till.sold(1, SCOPE).await;
    till.expire().await;
    let elsewhere = Epochs::new(1);
    let payments = till.payments_in(&elsewhere);
    for _ in 0..2 {
        let outcome = payments.apply(&paying(&late, "e")).await.unwrap();
        assert!(matches!(outcome, PaymentOutcome::Late(_)), "{outcome:?}");
    }
    till.shutdown.spawn(payment::keep_settling(payments, till.shutdown.clone()));
    elsewhere.assume(SCOPE);
    until("it is paid", async || till.status(&late).await == OrderStatus::Paid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_inventory_took_for_a_late_payment_may_have_gone_to_somebody_else() {
    let till = Till::selling(1).await;
    let late = till.sold(1, SCOPE).await;
    till.expire().await;
    let payments = till.payments();
    till.store.pay(&paying(&late, "e"), Duration::ZERO).await.unwrap();
    assert_eq!(till.inventory.revive(SCOPE, late.id).await, Ok(Revived::Taken));
    till.begin(Some(Epoch(1))).await;
    let other = till.sold(2, NEXT).await;
    for _ in 0..5 {
        let outcome = payments.apply(&paying(&late, "e")).await.unwrap();
        assert!(matches!(outcome, PaymentOutcome::RefundDue(_)), "{outcome:?}");
    }
    assert_eq!((till.status(&late).await, till.status(&other).await), (OrderStatus::Expired, OrderStatus::Held));
    assert_eq!(till.figures(NEXT).await, ((0, 1, 0), (1, 0)));
    assert_eq!(till.refunds_counted(), "1", "a provider's repetition is no second refund");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_cancelled_while_its_late_payment_is_asked_for_gives_its_unit_back() {
    let till = Till::selling(1).await;
    let late = till.sold(1, SCOPE).await;
    till.clock.advance(OVER);
    till.store.pay(&paying(&late, "e"), Duration::ZERO).await.unwrap();
    assert_eq!(till.inventory.revive(SCOPE, late.id).await, Ok(Revived::Taken));
    assert!(matches!(till.store.cancel(late.id, None).await.unwrap(), CancelOutcome::Done(_)));
    let outcome = till.payments().apply(&paying(&late, "e")).await.unwrap();
    assert!(matches!(outcome, PaymentOutcome::RefundDue(_)), "{outcome:?}");
    till.carry().await;
    assert_eq!(till.figures(SCOPE).await, ((1, 0, 0), (0, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_order_that_an_inventory_of_the_past_refuses_asks_the_next_one() {
    let till = Till::selling(1).await;
    till.begin(Some(Epoch(1))).await;
    for number in [1, 2] {
        till.record(SCOPE, &order(number, NOW)).await;
    }
    let after = till.fence(Some(NEXT.epoch)).await;
    till.shutdown.spawn(readmission::keep_readmitting(till.readmission(), till.shutdown.clone()));
    let granted = async |scope| {
        let entries = till.inventory.outbox(scope, Duration::ZERO, 10).await.unwrap_or_default();
        entries.iter().map(|entry| entry.orders.len()).sum::<usize>()
    };
    until("the one that is over has granted its last unit", async || granted(NEXT).await == 1).await;
    till.open(after, |sale| sale.pools[0].capacity = 2).await;
    until("the next one grants both", async || granted(after).await == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_orders_take_the_units_that_are_free_and_no_more() {
    let till = Till::selling(1).await;
    till.begin(Some(Epoch(1))).await;
    let [first, second] = [1, 2].map(|number| order(number, NOW));
    till.record(SCOPE, &first).await;
    till.clock.advance(OVER);
    till.record(SCOPE, &second).await;
    till.shutdown.spawn(readmission::keep_readmitting(till.readmission(), till.shutdown.clone()));
    let listed = async |state| {
        let stale = till.store.stale_orders(state, 10).await.unwrap();
        stale.into_iter().map(|stale| (stale.order.id, stale.reason)).collect::<Vec<_>>()
    };
    until("one is refused", async || listed(StaleState::Refused).await == [(second.id, "all_held".to_owned())]).await;
    assert_eq!(listed(StaleState::Waiting).await.len(), 1, "granted is not stored");
    assert_eq!(till.figures(NEXT).await, ((0, 1, 0), (0, 0)));
    // What relay and writer do.
    let entries = till.inventory.outbox(NEXT, Duration::ZERO, 10).await.unwrap();
    assert_eq!(entries.len(), 1);
    till.record(NEXT, &entries[0].orders[0]).await;
    until("the other is readmitted", async || listed(StaleState::Readmitted).await.len() == 1).await;
    let row = till.store.order(first.id).await.unwrap().unwrap();
    assert_eq!(
        (row.order.granted_at, row.order.pay_by),
        (NOW.plus(OVER), NOW.plus(OVER + HOLD)),
        "its hold begins now"
    );
    assert_eq!((row.scope, row.status), (NEXT, OrderStatus::Held));
    assert_eq!(till.figures(NEXT).await, ((0, 1, 0), (1, 0)));
}
