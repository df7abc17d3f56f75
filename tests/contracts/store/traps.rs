//! What MySQL, its driver and the network do when things go wrong. Each was seen to lose or to double orders somewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rushgate::clock::{Clock, SystemClock};
use rushgate::config::settings;
use rushgate::domain::{Epoch, Partition};
use rushgate::store::mysql::MySqlStore;
use rushgate::store::{OrderFilter, Orders, RecordFault, Recorded, Sales, Store};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::rig::{self, GRACE, OVER, Rig, change, concert, expire, id, line, scope, train};
use crate::private_mariadb::PrivateMariaDb;

const PATIENCE: Duration = Duration::from_secs(30);

/// Locks the guard of sale `c`, as a writer does in the middle of its transaction.
async fn hold_guard(rig: &Rig) -> MySqlConnection {
    let mut raw = rig.raw().await;
    raw.execute("BEGIN").await.unwrap();
    raw.execute("UPDATE pool_legs SET live = live + 1 WHERE sale_id = 'c'").await.unwrap();
    raw
}

/// Waits until a writer has inserted, and not committed, so many orders.
async fn inserted(raw: &mut MySqlConnection, orders: i64) {
    raw.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED").await.unwrap();
    let seen = async {
        while sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM orders").fetch_one(&mut *raw).await.unwrap() < orders {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, seen).await.expect("the writer does not insert");
}

/// Kills every connection to this database but these two.
async fn kill_others(raw: &mut MySqlConnection, spared: &mut MySqlConnection) {
    let spared: i64 = sqlx::query_scalar("SELECT CAST(CONNECTION_ID() AS SIGNED)").fetch_one(spared).await.unwrap();
    let select = "SELECT CAST(id AS SIGNED) FROM information_schema.processlist \
                  WHERE db = DATABASE() AND id NOT IN (CONNECTION_ID(), ?)";
    // MySQL cannot tell its list at a moment at which some session, of another test too, sends bytes that are no text.
    let told = async {
        loop {
            if let Ok(others) = sqlx::query_scalar::<_, i64>(select).bind(spared).fetch_all(&mut *raw).await {
                break others;
            }
            tokio::task::yield_now().await;
        }
    };
    let others = timeout(PATIENCE, told).await.expect("the server does not tell who is there");
    assert!(!others.is_empty());
    for id in others {
        // One that went away by itself in the meantime is as good as killed.
        let _ = raw.execute(AssertSqlSafe(format!("KILL {id}"))).await;
    }
}

pub(super) async fn a_lock_that_does_not_come_in_time_undoes_the_whole_batch(rig: &Rig) {
    rig.selling(10).await;
    let mut holder = hold_guard(rig).await;
    let mut recorder = rig.store.recorder().await.unwrap();
    let fault = recorder.record(&rig.orders(0..5)).await.unwrap_err();
    assert!(matches!(fault, RecordFault::Late(_)), "{fault}");
    assert!(fault.to_string().contains("1205"), "the cause is named: {fault}");
    drop(recorder);
    holder.execute("ROLLBACK").await.unwrap();
    assert_eq!(rig.status(0).await, None, "the inserts before the lock are gone too");
    assert_eq!(rig.record(&rig.orders(0..5)).await, Recorded { fresh: 5, ..Recorded::default() });
    assert_eq!(rig.live().await, 5);
}

pub(super) async fn a_connection_that_is_killed_leaves_no_half_batch(rig: &Rig) {
    rig.selling(10).await;
    let mut holder = hold_guard(rig).await;
    let (store, batch) = (Arc::clone(&rig.store), rig.orders(0..5));
    let mut writer = JoinSet::new();
    writer.spawn(async move { store.recorder().await.unwrap().record(&batch).await });
    let mut raw = rig.raw().await;
    inserted(&mut raw, 5).await;
    kill_others(&mut raw, &mut holder).await;
    let fault = writer.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(matches!(fault, RecordFault::Unavailable(_)), "{fault}");
    holder.execute("ROLLBACK").await.unwrap();
    // The connection that rested was killed too. One operation may hear of it, if it comes at once; the next does not.
    let _ = rig.store.order(id(0)).await;
    assert_eq!((rig.status(0).await, rig.live().await), (None, 0));
    assert_eq!(rig.record(&rig.orders(0..5)).await.fresh, 5);
}

/// The table as the first schema had it, with rows in it.
async fn as_at_first(raw: &mut MySqlConnection) {
    let columns = "order_id, sale_id, buyer_id, partition_id, epoch, fingerprint, status, amount, currency, granted_at, pay_by, \
                   recorded_at, changed_at, line_items";
    let schema = include_str!("../../../migrations/mysql/0001_orders_at_rest.sql");
    let begin = schema.find("CREATE TABLE orders (").expect("the table");
    let table = &schema[begin..begin + schema[begin..].find(';').expect("its end")];
    raw.execute("CREATE TABLE kept AS SELECT * FROM orders").await.unwrap();
    raw.execute("DROP TABLE orders").await.unwrap();
    raw.execute(AssertSqlSafe(table.to_owned())).await.unwrap();
    raw.execute(AssertSqlSafe(format!("INSERT INTO orders ({columns}) SELECT {columns} FROM kept"))).await.unwrap();
}

pub(super) async fn orders_of_before_the_table_was_copied_are_as_they_were(rig: &Rig) {
    rig.selling(300).await;
    rig.recorded(0..200).await;
    let orders = async || {
        let mut orders = Vec::new();
        for n in 0..200 {
            orders.push(rig.store.order(id(n)).await.unwrap().expect("it was recorded"));
        }
        orders
    };
    let before = orders().await;
    let mut raw = rig.raw().await;
    as_at_first(&mut raw).await;
    let migration = include_str!("../../../migrations/mysql/0005_orders_as_they_come.sql");
    raw.execute(AssertSqlSafe(migration.to_owned())).await.unwrap();
    assert_eq!(orders().await, before);
    let recorded = rig.record(&rig.orders(150..250)).await;
    assert_eq!(recorded, Recorded { fresh: 50, known: 50, ..Recorded::default() });
    let newest = rig.store.orders(&OrderFilter { limit: 50, ..OrderFilter::default() }).await.unwrap();
    assert!(newest.iter().all(|row| (200..250).any(|n| row.order.id == id(n))), "what came since comes first");
    assert_eq!(rig.live().await, 250);
}

/// Or a recovery would rebuild the inventory without orders that are committed a moment later.
pub(super) async fn raising_min_epoch_waits_for_batches_under_way(rig: &Rig) {
    rig.selling(10).await;
    rig.store.fence(Partition(0), None).await.unwrap();
    rig.store.fence(Partition(0), Some(Epoch(1))).await.unwrap();
    let mut holder = hold_guard(rig).await;
    let (store, batch) = (Arc::clone(&rig.store), rig.orders(0..5));
    let mut writer = JoinSet::new();
    writer.spawn(async move { store.recorder().await.unwrap().record(&batch).await.unwrap() });
    inserted(&mut rig.raw().await, 5).await;
    let raised = timeout(Duration::from_millis(100), rig.store.set_min_epoch(scope(0, 2))).await;
    assert!(raised.is_err(), "it waits for the batch");
    holder.execute("ROLLBACK").await.unwrap();
    rig.store.set_min_epoch(scope(0, 2)).await.unwrap();
    let snapshot = rig.store.snapshot(Partition(0), 1).await.unwrap();
    assert_eq!(snapshot.orders.len(), 5);
    assert_eq!(writer.join_next().await.unwrap().unwrap().fresh, 5);
    assert_eq!(rig.record(&[rig.order(7)]).await.stale, [id(7)]);
}

pub(super) async fn a_recorder_that_failed_says_so_until_it_is_dropped(rig: &Rig) {
    rig.selling(10).await;
    let mut holder = hold_guard(rig).await;
    let mut recorder = rig.store.recorder().await.unwrap();
    let dropped = timeout(Duration::from_millis(50), recorder.record(&rig.orders(0..5))).await;
    assert!(dropped.is_err(), "it waits for the lock");
    holder.execute("ROLLBACK").await.unwrap();
    let fault = recorder.record(&rig.orders(0..5)).await.unwrap_err();
    assert!(fault.to_string().contains("a new one is needed"), "{fault}");
    assert_eq!(rig.record(&rig.orders(0..5)).await.fresh, 5, "what was dropped half-way was rolled back");
    assert_eq!(rig.live().await, 5);
}

pub(super) async fn an_operation_that_is_dropped_leaves_nothing_open(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(0..2).await;
    let mut holder = hold_guard(rig).await;
    for _ in 0..20 {
        let cancel = timeout(Duration::from_millis(20), rig.store.cancel(id(0), None)).await;
        assert!(cancel.is_err(), "it waits for the lock");
    }
    holder.execute("ROLLBACK").await.unwrap();
    // If one of them were still open on a connection of the store, the next write would land in it, and be gone with it.
    for n in 0..8 {
        rig.store.log_change(&change(&format!("change {n}"), "c")).await.unwrap();
    }
    let seen: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM change_log WHERE what LIKE 'change %'")
        .fetch_one(&mut holder)
        .await
        .unwrap();
    assert_eq!(seen, 8);
    assert!(matches!(rig.store.cancel(id(0), None).await.unwrap(), rushgate::store::CancelOutcome::Done(_)));
    assert_eq!((rig.live().await, rig.moves().await.len()), (1, 1));
}

/// Stands between a store and its server.
struct Proxy {
    url: String,
    /// Passes on nothing any more of what the server says, on the connections there are.
    silent: Arc<AtomicBool>,
    /// Passes on the next commit, and then hangs up instead of passing on the answer.
    swallow_commit: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn to(settings: &settings::Store) -> Self {
        let (start, database) = settings.url.as_str().rsplit_once('/').unwrap();
        let (user, server) = start.rsplit_once('@').unwrap();
        let server = server.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // In the clear, or the proxy could not tell a commit from anything else.
        let url = format!("{user}@{}/{database}?ssl-mode=disabled", listener.local_addr().unwrap());
        let (silent, swallow_commit) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        let flags = (Arc::clone(&silent), Arc::clone(&swallow_commit));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                connections.spawn(pass(client, server, flags.clone()));
            }
        });
        Self { url, silent, swallow_commit, _tasks: tasks }
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream, flags: (Arc<AtomicBool>, Arc<AtomicBool>)) {
    let (silent, swallow_commit) = flags;
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    let mut was_silent = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(read @ 1..) = read else { return };
                let hang_up = up[..read].windows(6).any(|word| word == b"COMMIT") && swallow_commit.swap(false, Ordering::SeqCst);
                if server.write_all(&up[..read]).await.is_err() {
                    return;
                }
                if hang_up {
                    // The server's answer, which says that it has committed, goes no further.
                    let _ = server.read(&mut down).await;
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(read @ 1..) = read else { return };
                was_silent |= silent.load(Ordering::SeqCst);
                if !was_silent && client.write_all(&down[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

pub(super) async fn a_commit_whose_answer_is_lost_is_replayed_without_effect(rig: &Rig) {
    rig.selling(10).await;
    let proxy = Proxy::to(&rig.settings()).await;
    let settings = settings::Store { url: proxy.url.clone().into(), ..rig.settings() };
    let store = MySqlStore::connect(&settings, Arc::default()).unwrap();
    let mut recorder = store.recorder().await.unwrap();
    proxy.swallow_commit.store(true, Ordering::SeqCst);
    let fault = recorder.record(&rig.orders(0..5)).await.unwrap_err();
    assert!(matches!(fault, RecordFault::Unavailable(_)), "nobody knows whether it was stored: {fault}");
    let again = store.recorder().await.unwrap().record(&rig.orders(0..5)).await.unwrap();
    assert_eq!(again, Recorded { known: 5, ..Recorded::default() });
    assert_eq!(rig.live().await, 5);
}

pub(super) async fn a_server_that_falls_silent_is_given_up_and_found_again(rig: &Rig) {
    rig.selling(10).await;
    let proxy = Proxy::to(&rig.settings()).await;
    let limit = Duration::from_secs(1);
    let settings = settings::Store { url: proxy.url.clone().into(), timeout: limit, ..rig.settings() };
    let store = Arc::new(MySqlStore::connect(&settings, Arc::default()).unwrap());
    let mut recorder = store.recorder().await.unwrap();
    recorder.record(&rig.orders(0..1)).await.unwrap();
    store.order(id(0)).await.unwrap();
    proxy.silent.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    // More than there are connections, so that a connection that is not given back would be missed.
    let mut asks = JoinSet::new();
    for _ in 0..20 {
        let store = Arc::clone(&store);
        asks.spawn(async move { store.order(id(0)).await });
    }
    assert!(matches!(recorder.record(&rig.orders(1..2)).await, Err(RecordFault::Late(_))));
    for answer in asks.join_all().await {
        assert!(answer.is_err(), "{answer:?}");
    }
    assert!(begun.elapsed() < PATIENCE, "every wait has an end");
    proxy.silent.store(false, Ordering::SeqCst);
    for _ in 0..20 {
        store.order(id(0)).await.unwrap();
    }
    assert_eq!(store.recorder().await.unwrap().record(&rig.orders(1..2)).await.unwrap().fresh, 1);
}

pub(super) async fn a_server_that_is_not_there_is_named_with_the_cause(rig: &Rig) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let settings = settings::Store { url: format!("mysql://root@{address}/nothing").into(), ..rig.settings() };
    let store = MySqlStore::connect(&settings, Arc::default()).unwrap();
    for fault in
        [store.now().await.unwrap_err(), store.schema().await.unwrap_err(), store.recorder().await.unwrap_err()]
    {
        assert!(fault.0.contains("refused"), "{fault}");
    }
    let url = format!("{}_not_there", rig.settings().url.as_str()).into();
    let store = MySqlStore::connect(&settings::Store { url, ..rig.settings() }, Arc::default()).unwrap();
    let fault = store.now().await.unwrap_err();
    assert!(fault.0.contains("nknown database"), "{fault}");
    let odd = settings::Store { url: "mysql://user:hush@:x".into(), ..rig.settings() };
    let fault = MySqlStore::connect(&odd, Arc::default()).unwrap_err();
    assert!(!fault.0.contains("hush"), "a password is not repeated: {fault}");
}

pub(super) async fn a_migration_waits_for_one_that_runs(rig: &Rig) {
    let mut other = rig.raw().await;
    let lock = "SELECT GET_LOCK(SHA2(CONCAT('rushgate migrate ', DATABASE()), 224), 0)";
    assert_eq!(sqlx::query_scalar::<_, i64>(lock).fetch_one(&mut other).await.unwrap(), 1);
    let store = rig.another();
    let mut migrating = std::pin::pin!(store.migrate());
    let early = timeout(Duration::from_millis(300), migrating.as_mut()).await;
    assert!(early.is_err(), "another has the lock: {early:?}");
    other.close().await.unwrap();
    migrating.await.unwrap();
}

pub(super) async fn the_clock_is_the_servers(rig: &Rig) {
    let (before, now, after) = (SystemClock.now(), rig.store.now().await.unwrap(), SystemClock.now());
    assert!(before.0 - 1 <= now.0 && now.0 <= after.0 + 1, "the server runs on this machine: {before} {now} {after}");
    rig.advance(Duration::from_secs(3600));
    assert!(rig.store.now().await.unwrap() >= now.plus(Duration::from_secs(3600)));
}

pub(super) async fn orders_are_searched_in_the_replica_and_nothing_else_is_read_there(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(0..3).await;
    // An empty database stands for a replica that is behind.
    let behind = format!("{}_behind", rig.settings().url.as_str().rsplit_once('/').unwrap().1);
    let mut raw = rig.raw().await;
    raw.execute(AssertSqlSafe(format!("CREATE DATABASE {behind}"))).await.unwrap();
    let replica_url = format!("{}/{behind}", rig.settings().url.as_str().rsplit_once('/').unwrap().0);
    let replica_settings = settings::Store { url: replica_url.clone().into(), ..rig.settings() };
    MySqlStore::connect(&replica_settings, Arc::default()).unwrap().migrate().await.unwrap();
    let settings = settings::Store { read_url: replica_url.into(), ..rig.settings() };
    let store = MySqlStore::connect(&settings, Arc::new(AtomicI64::new(0))).unwrap();
    let everything = OrderFilter { limit: 10, ..OrderFilter::default() };
    assert_eq!(store.orders(&everything).await.unwrap().len(), 0);
    let fresh = OrderFilter { fresh: true, ..everything };
    assert_eq!(store.orders(&fresh).await.unwrap().len(), 3, "who asks for what is there now hears of no replica");
    assert_eq!(store.tally(&"c".parse().unwrap()).await.unwrap().legs.len(), 1, "what proves reads the primary");
    assert!(store.order(id(0)).await.unwrap().is_some(), "what decides reads the primary");
    assert_eq!(store.sales().await.unwrap().len(), 1);
    raw.execute(AssertSqlSafe(format!("DROP DATABASE {behind}"))).await.unwrap();
    raw.close().await.unwrap();
}

/// After a statement that is closed the next one waits 40 ms for an acknowledgement, with what it has locked. The count is the whole
/// server's, so this test has one to itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_is_closed_behind_which_another_one_waits() {
    let server = PrivateMariaDb::start().await;
    rig::run(Some(rig::mysql_at(server.url()).await), |rig| Box::pin(records_and_expires(rig))).await;
}

async fn records_and_expires(rig: &Rig) {
    rig.selling(1000).await;
    rig.put(&train("g1", 500, 500)).await;
    for sale in 0..70 {
        rig.put(&concert(&format!("s{sale}"), 10)).await;
    }
    let mut recorder = rig.store.recorder().await.unwrap();
    let mut raw = rig.raw().await;
    let mut closed = async || {
        let row: (String, String) =
            sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Com_stmt_close'").fetch_one(&mut raw).await.unwrap();
        row.1
    };
    let before = closed().await;
    let mut from = 0;
    for size in [1, 2, 3, 70, 130] {
        recorder.record(&rig.orders(from..from + size)).await.unwrap();
        from += size;
    }
    let journeys: Vec<_> =
        (1..4).map(|to| rig.order_of("g1", from + u32::from(to), vec![line("second", 0, to, 1)])).collect();
    recorder.record(&journeys).await.unwrap();
    let spread: Vec<_> =
        (0..70).map(|n| rig.order_of(&format!("s{n}"), 1000 + n, vec![line("standard", 0, 1, 1)])).collect();
    recorder.record(&spread).await.unwrap();
    rig.advance(OVER);
    while expire(&*rig.store, GRACE, 100).await > 0 {}
    assert_eq!(rig.live().await, 0);
    assert_eq!(closed().await, before);
}
