//! A store with a database of its own, a clock that can be moved, and things to sell.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rushgate::clock::{Clock, ManualClock, SystemClock};
use rushgate::config::settings;
use rushgate::domain::Line;
use rushgate::domain::{
    Epoch, Fingerprint, Legs, Money, Order, OrderId, OrderStatus, Partition, Sale, SaleDocument, Scope, UnixMillis,
};
use rushgate::store::mysql::MySqlStore;
use rushgate::store::sqlite::SqliteStore;
use rushgate::store::{Change, Due, Expiry, PaymentEvent, PutSale, Recordable, Recorded, SaleTally, Store};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, SqlSafeStr, SqliteConnection};

use crate::memory_store::MemoryStore;
use crate::servers;

/// The hold of every order that a rig makes; far more than a test takes on a clock that runs.
pub(super) const HOLD: Duration = Duration::from_secs(300);
/// How long after it a payment still counts.
pub(super) const GRACE: Duration = Duration::from_secs(60);
/// Well past both.
pub(super) const OVER: Duration = Duration::from_secs(400);

/// What one test has to itself.
pub(super) struct Rig {
    pub(super) store: Arc<dyn Store>,
    /// The store's time when the rig was made.
    pub(super) start: UnixMillis,
    time: Time,
    home: Home,
}

enum Time {
    Manual(Arc<ManualClock>),
    Offset(Arc<AtomicI64>),
}

enum Home {
    Memory(MemoryStore),
    Sqlite(tempfile::TempDir),
    MySql { server: String, database: String },
}

/// Expires the first that are due, of which none may be refused.
pub(super) async fn expire(store: &dyn Store, grace: Duration, limit: u32) -> u32 {
    match store.expire(grace, Due::first(limit)).await.unwrap() {
        Expiry::Expired(expired) => expired,
        Expiry::Refused(why) => panic!("{why}"),
    }
}

/// Runs a test, and takes its database down whatever came of it. Without a rig the run was told to leave the backend out.
pub(super) async fn run(rig: Option<Rig>, test: impl for<'r> FnOnce(&'r Rig) -> BoxFuture<'r, ()>) {
    let Some(rig) = rig else { return };
    let outcome = AssertUnwindSafe(test(&rig)).catch_unwind().await;
    rig.take_down().await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

pub(super) async fn memory() -> Option<Rig> {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let store = MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>);
    Some(Rig::new(Arc::new(store.clone()), Time::Manual(clock), Home::Memory(store)).await)
}

pub(super) async fn sqlite() -> Option<Rig> {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let url = format!("sqlite://{}", folder.path().join("deep/store.db").display());
    let store = Arc::new(SqliteStore::open(&url, Arc::clone(&clock) as Arc<dyn Clock>).unwrap());
    Some(Rig::new(store, Time::Manual(clock), Home::Sqlite(folder)).await)
}

pub(super) async fn mysql() -> Option<Rig> {
    Some(mysql_at(servers::mysql_url()).await)
}

pub(super) async fn real_mysql() -> Option<Rig> {
    if let Some(url) = servers::real_mysql_url() {
        return Some(mysql_at(url).await);
    }
    eprintln!("left out: there is no real MySQL in this run");
    None
}

/// At any server, in a database of its own.
pub(super) async fn mysql_at(server: String) -> Rig {
    let database = servers::unique("rg_store");
    let mut conn = MySqlConnection::connect(&server).await.unwrap();
    conn.execute(AssertSqlSafe(format!("CREATE DATABASE {database}"))).await.unwrap();
    let offset = Arc::new(AtomicI64::new(0));
    let home = Home::MySql { server, database };
    let store = Arc::new(MySqlStore::connect(&home.settings(), Arc::clone(&offset)).unwrap());
    Rig::new(store, Time::Offset(offset), home).await
}

impl Home {
    /// Short limits, so that a test of one does not take long.
    fn settings(&self) -> settings::Store {
        let Self::MySql { .. } = self else { panic!("only MySQL has settings") };
        settings::Store {
            backend: settings::StoreBackend::Mysql,
            url: self.url().into(),
            timeout: Duration::from_secs(4),
            ..settings::Store::default()
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Memory(_) => panic!("what is in memory has no URL"),
            Self::Sqlite(folder) => format!("sqlite://{}", folder.path().join("deep/store.db").display()),
            Self::MySql { server, database } => {
                let (server, _) = server.rsplit_once('/').expect("a server's URL ends in a database");
                format!("{server}/{database}")
            }
        }
    }
}

impl Rig {
    async fn new(store: Arc<dyn Store>, time: Time, home: Home) -> Self {
        let start = match &time {
            Time::Manual(clock) => clock.now(),
            Time::Offset(_) => store.now().await.unwrap(),
        };
        Self { store, start, time, home }
    }

    async fn take_down(self) {
        if let Home::MySql { server, database } = &self.home {
            let mut conn = MySqlConnection::connect(server).await.unwrap();
            conn.execute(AssertSqlSafe(format!("DROP DATABASE {database}"))).await.unwrap();
        }
    }

    pub(super) fn advance(&self, by: Duration) {
        match &self.time {
            Time::Manual(clock) => clock.advance(by),
            Time::Offset(offset) => {
                offset.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
            }
        }
    }

    /// The settings of a MySQL rig's store.
    pub(super) fn settings(&self) -> settings::Store {
        self.home.settings()
    }

    /// A second store on the same database, as another process has it.
    pub(super) fn another(&self) -> Arc<dyn Store> {
        if let Home::Memory(store) = &self.home {
            return Arc::new(store.clone());
        }
        match &self.time {
            Time::Manual(clock) => {
                Arc::new(SqliteStore::open(&self.home.url(), Arc::clone(clock) as Arc<dyn Clock>).unwrap())
            }
            Time::Offset(offset) => Arc::new(MySqlStore::connect(&self.settings(), Arc::clone(offset)).unwrap()),
        }
    }

    /// A plain connection to a MySQL rig's database.
    pub(super) async fn raw(&self) -> MySqlConnection {
        MySqlConnection::connect(&self.home.url()).await.unwrap()
    }

    /// Runs plain SQL behind the store's back.
    pub(super) async fn sql(&self, sql: impl SqlSafeStr) {
        match &self.home {
            Home::Memory(_) => panic!("what is in memory knows no SQL"),
            Home::Sqlite(_) => {
                let mut conn = SqliteConnection::connect(&self.home.url()).await.unwrap();
                sqlx::query(sql).execute(&mut conn).await.unwrap();
            }
            Home::MySql { .. } => {
                sqlx::query(sql).execute(&mut self.raw().await).await.unwrap();
            }
        }
    }

    /// Makes the guard of a leg believe that nothing of it is live.
    pub(super) async fn forget_live(&self, sale: &str, pool: &str, leg: u8) {
        if let Home::Memory(store) = &self.home {
            let key = (sale.parse().unwrap(), pool.parse().unwrap(), leg);
            store.state().guard.get_mut(&key).unwrap().live = 0;
            return;
        }
        let update =
            format!("UPDATE pool_legs SET live = 0 WHERE sale_id = '{sale}' AND pool_id = '{pool}' AND leg = {leg}");
        self.sql(AssertSqlSafe(update)).await;
    }

    /// A migrated store in which sale `c` sells so many units.
    pub(super) async fn selling(&self, capacity: u32) -> Sale {
        self.store.migrate().await.unwrap();
        let sale = concert("c", capacity);
        self.put(&sale).await;
        sale
    }

    /// Stores a definition and marks it as applied.
    pub(super) async fn put(&self, sale: &Sale) {
        assert_eq!(self.store.put_sale(sale, &change("sale.put", sale.id.as_str())).await.unwrap(), PutSale::Stored);
        self.store.mark_applied(&sale.id, sale.version).await.unwrap();
    }

    /// The `n`th order: one unit of sale `c` for buyer `b{n}`, 100 CNY.
    pub(super) fn order(&self, n: u32) -> Recordable {
        self.order_of("c", n, vec![line("standard", 0, 1, 1)])
    }

    pub(super) fn order_of(&self, sale: &str, n: u32, lines: Vec<Line>) -> Recordable {
        let units: u32 = lines.iter().map(|line| line.quantity).sum();
        let order = Order {
            id: id(n),
            fingerprint: Fingerprint(u64::MAX - u64::from(n)),
            sale: sale.parse().unwrap(),
            buyer: format!("b{n}").parse().unwrap(),
            granted_at: self.start,
            pay_by: self.start.plus(HOLD),
            price: Money { amount: 100 * i64::from(units), currency: "CNY".parse().unwrap() },
            lines,
        };
        Recordable { scope: scope(0, 1), order }
    }

    pub(super) fn orders(&self, numbers: std::ops::Range<u32>) -> Vec<Recordable> {
        numbers.map(|n| self.order(n)).collect()
    }

    /// Records with a recorder of its own.
    pub(super) async fn record(&self, batch: &[Recordable]) -> Recorded {
        self.store.recorder().await.unwrap().record(batch).await.unwrap()
    }

    /// Records the orders of sale `c` with these numbers.
    pub(super) async fn recorded(&self, numbers: std::ops::Range<u32>) {
        self.record(&self.orders(numbers)).await;
    }

    pub(super) async fn tally(&self) -> SaleTally {
        let tally = self.store.tally(&"c".parse().unwrap()).await.unwrap();
        for leg in &tally.legs {
            assert_eq!(leg.live, leg.held + leg.paid, "the guard counts what the orders say: {leg:?}");
            assert!(leg.live <= leg.capacity, "{leg:?}");
        }
        tally
    }

    /// Live units of sale `c`, by the guard and by the orders alike.
    pub(super) async fn live(&self) -> u32 {
        self.tally().await.legs.iter().map(|leg| leg.live).sum()
    }

    pub(super) async fn status(&self, n: u32) -> Option<OrderStatus> {
        self.store.order(id(n)).await.unwrap().map(|row| row.status)
    }

    /// The moves that wait, of all orders.
    pub(super) async fn moves(&self) -> Vec<(OrderId, OrderStatus)> {
        let moves = self.store.stock_moves(100_000).await.unwrap();
        moves.into_iter().map(|(order, _, kind)| (order, kind)).collect()
    }
}

/// Ids whose order has nothing to do with their number, as it is with derived ones.
pub(super) fn id(n: u32) -> OrderId {
    let spread = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&spread.to_be_bytes());
    id[12..].copy_from_slice(&n.to_be_bytes());
    OrderId(id)
}

pub(super) const fn scope(partition: u16, epoch: u64) -> Scope {
    Scope { partition: Partition(partition), epoch: Epoch(epoch) }
}

pub(super) fn line(pool: &str, from: u8, to: u8, quantity: u32) -> Line {
    Line { pool: pool.parse().unwrap(), legs: Legs { from, to }, quantity, passenger: None, seat: None }
}

/// The payment that the `n`th order of a rig waits for.
pub(super) fn payment(event: &str, n: u32) -> PaymentEvent {
    let paid = Money { amount: 100, currency: "CNY".parse().unwrap() };
    PaymentEvent { id: event.to_owned(), order: id(n), paid }
}

/// One pool, `standard`, one leg.
pub(super) fn concert(id: &str, capacity: u32) -> Sale {
    sale(id, json!({"name": "C", "currency": "CNY", "pools": [{"id": "standard", "capacity": capacity, "price": 100}]}))
}

/// Pools `first` and `second`, four legs.
pub(super) fn train(id: &str, first: u32, second: u32) -> Sale {
    sale(
        id,
        json!({"name": "G1", "currency": "CNY", "stops": ["A", "B", "C", "D", "E"], "pools": [
            {"id": "first", "capacity": first, "fares": [1, 2, 3, 4]},
            {"id": "second", "capacity": second, "fares": [1, 2, 3, 4]},
        ]}),
    )
}

pub(super) fn sale(id: &str, document: serde_json::Value) -> Sale {
    let document: SaleDocument = serde_json::from_value(document).unwrap();
    document.into_sale(id.parse().unwrap()).unwrap()
}

pub(super) fn change(what: &str, subject: &str) -> Change {
    Change {
        at: UnixMillis(1_795_262_400_000),
        who: "operator".to_owned(),
        what: what.to_owned(),
        subject: subject.to_owned(),
        before: String::new(),
        after: "{\"ü\":\"票\"}".to_owned(),
    }
}
