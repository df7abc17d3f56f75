//! What a Redis can do to the inventory: lose its scripts, restart, vanish, freeze, fill up, be demoted, be tampered with.
//!
//! Most of these tests start a server of their own, since they break it.
#![expect(clippy::unwrap_used, reason = "what the set-up of a test cannot do fails the test")]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use rushgate::config::settings;
use rushgate::domain::{Claim, Epoch, OrderStatus, Scope};
use rushgate::inventory::redis::RedisInventory;
use rushgate::inventory::{Fault, Inventory, OutboxEntry, Snapshot, StockMove, Verdict};
use rushgate::shutdown::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::inventory::{Bench, NOW, SCOPE, concert, full_claim, one, reached, redis_settings, some, until, wide_train};
use crate::process::free_port;
use crate::servers;

/// A server that this test may break. It ends with it.
struct Server {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        Self::start_at(free_port(), tempfile::tempdir().unwrap()).await
    }

    async fn start_at(port: u16, folder: tempfile::TempDir) -> Self {
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", "always", "--enable-debug-command", "local"])
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server is installed");
        let server = Self { process, port, folder };
        until("the server", async || match server.try_admin().await {
            Ok(mut admin) => redis::cmd("PING").exec_async(&mut admin).await.is_ok(),
            Err(_) => false,
        })
        .await;
        server
    }

    /// Ends the process at once and starts another over its data, at the same port.
    async fn restart(mut self) -> Self {
        self.process.kill().await.unwrap();
        Self::start_at(self.port, self.folder).await
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    async fn try_admin(&self) -> redis::RedisResult<MultiplexedConnection> {
        redis::Client::open(self.url())?.get_multiplexed_async_connection().await
    }

    /// Runs one command as an operator would.
    async fn admin<T: redis::FromRedisValue>(&self, command: &str) -> T {
        let mut admin = self.try_admin().await.unwrap();
        let mut words = command.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        for word in words {
            cmd.arg(word);
        }
        cmd.query_async(&mut admin).await.unwrap()
    }

    async fn bench(&self, timeout: Duration) -> (Bench, settings::Inventory) {
        let settings = settings::Inventory { timeout, ..redis_settings(self.url()) };
        (Bench::opened(reached(&settings).await).await, settings)
    }
}

/// Long enough for a busy machine; the tests that wait for a timeout take a shorter one.
const PATIENT: Duration = Duration::from_secs(2);

fn key(settings: &settings::Inventory, part: &str) -> String {
    format!("{}:{{0}}:1:{part}", settings.namespace)
}

async fn confirm(bench: &Bench, claim: &Claim) -> Result<Verdict, Fault> {
    let confirmed = bench.inventory.confirm(bench.scope, std::slice::from_ref(claim), NOW).await;
    confirmed.map(|mut confirmed| confirmed.verdicts.remove(0))
}

fn assert_fenced<T: std::fmt::Debug>(answer: Result<T, Fault>, why: &str) {
    match answer {
        Err(Fault::Fenced(text)) if text.contains(why) => {}
        other => panic!("{other:?}"),
    }
}

fn assert_not_done<T: std::fmt::Debug>(answer: Result<T, Fault>, why: &str) {
    match answer {
        Err(Fault::NotDone(text)) if text.contains(why) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_scripts_sells_nothing_until_a_recovery() {
    let server = Server::start().await;
    let (bench, _) = server.bench(PATIENT).await;
    let sale = concert(10);
    let bench = bench.with(&sale).await;
    server.admin::<()>("SCRIPT FLUSH").await;
    for _ in 0..2 {
        assert_fenced(confirm(&bench, &one(&sale, "b")).await, "the script is not there");
    }
    assert_fenced(bench.inventory.stock(SCOPE, &sale.id).await, "the script is not there");
    assert_fenced(bench.inventory.changes(SCOPE, 0).await, "the script is not there");
    assert_fenced(bench.inventory.join(SCOPE).await, "the script is not there");
    assert_fenced(confirm(&bench, &one(&sale, "b")).await, "the script is not there");
    // Opening what is open loads the scripts again: the data is what it was, and only a recovery calls this.
    bench.inventory.open(SCOPE).await.unwrap();
    assert_eq!(bench.counters(&sale).await, [[10, 0, 0]]);
}

/// Leaves the server as the recovery of another version does: with its anchor, and without one script of ours.
async fn as_another_version_left_it(server: &Server, settings: &settings::Inventory) {
    leave_as_another_version(&server.url(), &settings.namespace).await;
}

async fn leave_as_another_version(url: &str, namespace: &str) {
    let mut admin = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let anchor = format!("return 'rushgate'\n-- {namespace} p0.e1\n");
    let mut both = redis::pipe();
    both.atomic().cmd("SCRIPT").arg("FLUSH").ignore().cmd("SCRIPT").arg("LOAD").arg(anchor).ignore();
    both.exec_async(&mut admin).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_s_scope_is_joined_and_nothing_of_it_is_lost() {
    let server = Server::start().await;
    let (bench, settings) = server.bench(PATIENT).await;
    let sale = concert(10);
    let bench = bench.with(&sale).await;
    assert_eq!(confirm(&bench, &one(&sale, "a")).await, Ok(Verdict::Granted));
    as_another_version_left_it(&server, &settings).await;
    assert_fenced(confirm(&bench, &one(&sale, "b")).await, "the script is not there");
    bench.inventory.join(SCOPE).await.unwrap();
    assert_eq!(confirm(&bench, &one(&sale, "b")).await, Ok(Verdict::Granted));
    assert_eq!(bench.counters(&sale).await, [[8, 2, 0]]);
    // A scope that is closed stays so, whoever joins it.
    as_another_version_left_it(&server, &settings).await;
    bench.inventory.fence(SCOPE).await.unwrap();
    assert_fenced(bench.inventory.join(SCOPE).await, "it is fenced");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_that_comes_at_any_moment_of_a_join_is_no_fence() {
    let server = Server::start().await;
    let (bench, settings) = server.bench(PATIENT).await;
    let sale = concert(10);
    let bench = bench.with(&sale).await;
    let proxy = Proxy::before(&server).await;
    let url = format!("redis://{}", proxy.address);
    let node = reached(&settings::Inventory { url: url.as_str().into(), ..settings.clone() }).await;
    // More answers than a join needs that finds all it needs.
    for answers in 1..=8 {
        proxy.let_another_version_come(answers, &server, &settings);
        assert_eq!(node.join(SCOPE).await, Ok(()), "it came at answer {answers}");
    }
    drop(proxy);
    bench.inventory.join(SCOPE).await.unwrap();
    assert_eq!(confirm(&bench, &one(&sale, "a")).await, Ok(Verdict::Granted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_which_some_scripts_are_new_loads_those_too() {
    let server = Server::start().await;
    let (bench, settings) = server.bench(PATIENT).await;
    let sale = concert(10);
    let bench = bench.with(&sale).await;
    as_another_version_left_it(&server, &settings).await;
    // The script by which a scope is looked at has not changed, and all others have.
    let parts = ["shared", "shared_counters", "outbox_len"];
    let text = |part| std::fs::read_to_string(format!("{}/lua/{part}.lua", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let script = format!("{}-- {} p0.e1\n", parts.map(text).concat(), settings.namespace);
    let mut admin = server.try_admin().await.unwrap();
    redis::cmd("SCRIPT").arg("LOAD").arg(script).exec_async(&mut admin).await.unwrap();
    assert_eq!(bench.inventory.outbox_len(SCOPE).await, Ok(0), "it is the very same");
    assert_fenced(confirm(&bench, &one(&sale, "a")).await, "the script is not there");
    bench.inventory.join(SCOPE).await.unwrap();
    assert_eq!(confirm(&bench, &one(&sale, "a")).await, Ok(Verdict::Granted));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_load_scripts_is_told_to_wait_for_those_who_may() {
    let server = Server::start().await;
    let (bench, settings) = server.bench(PATIENT).await;
    server.admin::<()>("ACL SETUSER gateway on >word ~* &* +@all -script|load").await;
    let url = format!("redis://gateway:word@127.0.0.1:{}", server.port);
    let gateway = reached(&settings::Inventory { url: url.as_str().into(), ..settings.clone() }).await;
    assert_eq!(gateway.join(SCOPE).await, Ok(()), "the writers have loaded all that it needs");
    as_another_version_left_it(&server, &settings).await;
    assert_not_done(gateway.join(SCOPE).await, "upgrade the writers first");
    assert_eq!(bench.inventory.join(SCOPE).await, Ok(()));
    assert_eq!(gateway.join(SCOPE).await, Ok(()), "they have loaded it again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarted_sells_nothing_until_a_recovery() {
    let server = Server::start().await;
    let (bench, settings) = server.bench(PATIENT).await;
    let sale = concert(10);
    let bench = bench.with(&sale).await;
    assert_eq!(confirm(&bench, &one(&sale, "a")).await, Ok(Verdict::Granted));
    let before = bench.inventory.identity(SCOPE.partition).await.unwrap();

    let server = server.restart().await;
    let counters = server.admin::<String>(&format!("HGET {} concert/standard/0", key(&settings, "counters"))).await;
    assert_eq!(counters, "10 9 1 0", "the data came back with it");
    let claim = one(&sale, "b");
    until("the inventory to find the server again", async || {
        !matches!(confirm(&bench, &claim).await, Err(Fault::NotDone(_) | Fault::Unknown(_)))
    })
    .await;
    assert_fenced(confirm(&bench, &claim).await, "the script is not there");
    assert_ne!(bench.inventory.identity(SCOPE.partition).await.unwrap(), before);
    assert_fenced(bench.inventory.join(SCOPE).await, "the script is not there");
    assert_fenced(bench.inventory.open(SCOPE).await, "another run of the server");
    // Even the scripts alone would not help.
    assert_fenced(confirm(&bench, &claim).await, "another run of the server");

    let next = Bench { scope: Scope { epoch: Epoch(2), ..SCOPE }, ..bench.clone() };
    let orders = vec![rushgate::inventory::KnownOrder { order: one(&sale, "a").order, status: OrderStatus::Held }];
    next.inventory.rebuild(next.scope, &Snapshot { sales: vec![sale.clone()], orders }).await.unwrap();
    next.inventory.open(next.scope).await.unwrap();
    assert_eq!(confirm(&next, &claim).await, Ok(Verdict::Granted));
    assert_eq!(next.counters(&sale).await, [[8, 2, 0]]);
    let left: Vec<String> = server.admin(&format!("KEYS {}:{{0}}:1:*", settings.namespace)).await;
    assert_eq!(left, Vec::<String>::new(), "the old epoch's keys are dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_at_the_start_is_found_when_it_comes() {
    let port = free_port();
    let settings = redis_settings(format!("redis://127.0.0.1:{port}"));
    let inventory: Arc<RedisInventory> = Arc::new(RedisInventory::connect(&settings, &Shutdown::new()).unwrap());
    let sale = concert(10);
    until("the reason", async || {
        let answer = inventory.confirm(SCOPE, &[one(&sale, "b")], NOW).await;
        assert_not_done(answer.clone(), "no connection to Redis");
        matches!(answer, Err(Fault::NotDone(why)) if why.to_lowercase().contains("refused"))
    })
    .await;
    assert_not_done(inventory.stock(SCOPE, &sale.id).await, "refused");
    assert_not_done(inventory.beat(&node(), PATIENT).await, "refused");
    assert_not_done(inventory.rebuild(SCOPE, &Snapshot::default()).await, "refused");

    let _server = Server::start_at(port, tempfile::tempdir().unwrap()).await;
    until("a connection", async || inventory.rebuild(SCOPE, &Snapshot::default()).await.is_ok()).await;
    inventory.open(SCOPE).await.unwrap();
    until("a hot connection", async || inventory.outbox_len(SCOPE).await == Ok(0)).await;
}

fn node() -> rushgate::inventory::NodeBeat {
    rushgate::inventory::NodeBeat { node: "n".parse().unwrap(), weight: 1.0, status: String::new() }
}

#[tokio::test]
async fn a_url_that_is_none_of_a_redis_is_told_at_once() {
    for url in ["http://127.0.0.1", "no url", "redis://127.0.0.1:port"] {
        let settings = redis_settings(url.to_owned());
        assert!(RedisInventory::connect(&settings, &Shutdown::new()).is_err(), "{url}");
    }
}

/// Forwards to a server until it is told to swallow: then the connections of that moment stay open, and nothing comes through.
struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    shutdown: Shutdown,
}

#[derive(Default)]
struct State {
    /// Connections up to this number are swallowed.
    swallowed: AtomicU64,
    accepted: AtomicU64,
    /// After how many answers more another version comes, to which server, under which namespace.
    coming: Mutex<Option<(usize, String, String)>>,
}

impl Proxy {
    async fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
        let proxy = Self { address, state: Arc::default(), shutdown };
        let (state, shutdown, port) = (Arc::clone(&proxy.state), proxy.shutdown.clone(), server.port);
        proxy.shutdown.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = state.accepted.fetch_add(1, Ordering::SeqCst) + 1;
                let (client_reads, client_writes) = client.into_split();
                let (reads, writes) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
                shutdown.spawn(forward(client_reads, writes, number, (Arc::clone(&state), false)));
                shutdown.spawn(forward(reads, client_writes, number, (Arc::clone(&state), true)));
            }
        });
        proxy
    }

    /// Between an answer and whom it is for.
    fn let_another_version_come(&self, answers: usize, server: &Server, settings: &settings::Inventory) {
        *self.state.coming.lock().unwrap() = Some((answers, server.url(), settings.namespace.clone()));
    }

    fn swallow(&self) {
        self.state.swallowed.store(self.state.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

impl State {
    fn is_due(&self) -> Option<(String, String)> {
        let mut coming = self.coming.lock().unwrap();
        let (answers, ..) = coming.as_mut()?;
        *answers -= 1;
        (*answers == 0).then(|| coming.take().map(|(_, url, namespace)| (url, namespace)))?
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shutdown.force();
    }
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    number: u64,
    (state, are_answers): (Arc<State>, bool),
) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if are_answers && let Some((url, namespace)) = state.is_due() {
            leave_as_another_version(&url, &namespace).await;
        }
        if number > state.swallowed.load(Ordering::SeqCst) && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_stopped_answering_are_replaced() {
    let server = Server::start().await;
    let proxy = Proxy::before(&server).await;
    let settings = settings::Inventory {
        timeout: Duration::from_millis(250),
        ..redis_settings(format!("redis://{}", proxy.address))
    };
    let bench = Bench::opened(reached(&settings).await).await;
    let sale = concert(10);
    let bench = bench.with(&sale).await;
    let claim = one(&sale, "b");
    for _ in 0..4 {
        assert!(confirm(&bench, &claim).await.is_ok());
    }

    proxy.swallow();
    let began = Instant::now();
    let mut answers = Vec::new();
    while began.elapsed() < Duration::from_secs(10) {
        let answer = confirm(&bench, &claim).await;
        let is_ok = answer.is_ok();
        assert!(is_ok || matches!(answer, Err(Fault::Unknown(_) | Fault::NotDone(_))), "{answer:?}");
        answers.push(answer);
        if is_ok {
            break;
        }
    }
    // Two timeouts on each of two connections, and a moment to connect.
    assert!(answers.last().unwrap().is_ok() && began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let timeouts = answers.iter().filter(|answer| matches!(answer, Err(Fault::Unknown(_)))).count();
    assert!((2..=4).contains(&timeouts), "{answers:?}");
    until("the pool to heal as well", async || bench.inventory.stock(SCOPE, &sale.id).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_rest_are_kept_alive_by_the_kernel() {
    let server = Server::start().await;
    let (bench, _) = server.bench(PATIENT).await;
    let _bench = bench.with(&concert(10)).await;
    let to = format!("0100007F:{:04X}", server.port);
    // The columns: number, local and remote address, state, queues, and which timer runs; 01 is established, 02 the keepalive.
    until("every connection to rest", async || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let sockets = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let open: Vec<_> = sockets.filter(|socket| socket.len() > 5 && socket[2] == to && socket[3] == "01").collect();
        open.len() > 1 && open.iter().all(|socket| socket[5].starts_with("02:"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_server_closed_is_replaced_before_it_is_used() {
    let server = Server::start().await;
    let (bench, _) = server.bench(PATIENT).await;
    let sale = concert(10);
    let bench = bench.with(&sale).await;
    server.admin::<u64>("CLIENT KILL TYPE normal").await;
    // What a hot connection asks first is the run id. Nobody calls meanwhile.
    until("new connections", async || {
        let clients: String = server.admin("CLIENT LIST").await;
        clients.matches("cmd=info").count() >= 2
    })
    .await;
    let (claim, mut answer) = (one(&sale, "b"), Err(Fault::NotDone(String::new())));
    until("the last step of connecting", async || {
        answer = confirm(&bench, &claim).await;
        !matches!(answer, Err(Fault::NotDone(_)))
    })
    .await;
    assert_eq!(answer, Ok(Verdict::Granted), "nothing was sent to a connection that was gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_timed_out_may_have_been_made_and_says_so() {
    let server = Server::start().await;
    let (bench, _) = server.bench(Duration::from_millis(200)).await;
    let sale = concert(10);
    let bench = bench.with(&sale).await;
    let claim = some(&sale, "b", "k", 3);
    server.admin::<()>("CLIENT PAUSE 500 ALL").await;
    let answer = confirm(&bench, &claim).await;
    assert!(matches!(answer, Err(Fault::Unknown(_))), "{answer:?}");
    until("the pause to end", async || matches!(confirm(&bench, &claim).await, Ok(Verdict::Known(_)))).await;
    assert_eq!(bench.counters(&sale).await, [[7, 3, 0]]);
    assert_eq!(bench.inventory.outbox_len(SCOPE).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_refuses_before_it_runs_was_not_done() {
    let server = Server::start().await;
    let (bench, _) = server.bench(PATIENT).await;
    let sale = concert(10);
    let bench = bench.with(&sale).await;
    let claim = one(&sale, "b");

    server.admin::<()>("CONFIG SET maxmemory 1").await;
    assert_not_done(confirm(&bench, &claim).await, "OOM");
    server.admin::<()>("CONFIG SET maxmemory 0").await;

    server.admin::<()>("CONFIG SET min-replicas-to-write 1").await;
    assert_not_done(confirm(&bench, &claim).await, "NOREPLICAS");
    server.admin::<()>("CONFIG SET min-replicas-to-write 0").await;

    server.admin::<()>("CONFIG SET busy-reply-threshold 1").await;
    let mut other = server.try_admin().await.unwrap();
    let endless = Shutdown::new()
        .spawn(async move { redis::cmd("EVAL").arg("while true do end").arg(0).exec_async(&mut other).await });
    until("the server to be busy", async || {
        let answer = bench.inventory.outbox_len(SCOPE).await;
        matches!(answer, Err(Fault::NotDone(why)) if why.contains("BUSY"))
    })
    .await;
    assert_not_done(confirm(&bench, &claim).await, "BUSY");
    server.admin::<()>("SCRIPT KILL").await;
    drop(endless.await);

    assert_eq!(bench.counters(&sale).await, [[10, 0, 0]]);
    assert_eq!(confirm(&bench, &claim).await, Ok(Verdict::Granted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_became_a_replica_sells_nothing() {
    let (server, master) = (Server::start().await, Server::start().await);
    let (bench, _) = server.bench(PATIENT).await;
    let sale = concert(10);
    let bench = bench.with(&sale).await;
    // A master that cannot be reached: the data stays, and is read-only.
    let port = master.port;
    drop(master);
    server.admin::<()>(&format!("REPLICAOF 127.0.0.1 {port}")).await;
    assert_fenced(confirm(&bench, &one(&sale, "b")).await, "replica");
    server.admin::<()>("REPLICAOF NO ONE").await;
    assert_eq!(confirm(&bench, &one(&sale, "b")).await, Ok(Verdict::Granted), "nothing was done");
    assert_eq!(bench.counters(&sale).await, [[9, 1, 0]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_took_another_s_data_is_another_though_it_never_restarted() {
    let (server, other) = (Server::start().await, Server::start().await);
    let (bench, settings) = server.bench(PATIENT).await;
    let sale = concert(10);
    let bench = bench.with(&sale).await;
    let copied = server.admin::<Vec<u8>>(&format!("DUMP {}", key(&settings, "meta"))).await;
    let before = bench.inventory.identity(SCOPE.partition).await.unwrap();
    assert_eq!(bench.inventory.identity(SCOPE.partition).await.unwrap(), before, "it does not change by itself");

    server.admin::<()>(&format!("REPLICAOF 127.0.0.1 {}", other.port)).await;
    assert_fenced(bench.inventory.identity(SCOPE.partition).await, "a replica of 127.0.0.1");
    until("the other's data", async || {
        server.admin::<String>("INFO replication").await.contains("master_link_status:up")
    })
    .await;
    server.admin::<()>("REPLICAOF NO ONE").await;
    // Its run is the same, its scripts are there, and the data says that it was rebuilt in this run: all that was lost is a sale.
    let mut admin = server.try_admin().await.unwrap();
    redis::cmd("RESTORE").arg(key(&settings, "meta")).arg(0).arg(copied).exec_async(&mut admin).await.unwrap();
    assert_eq!(bench.inventory.join(SCOPE).await, Ok(()), "no move can tell");
    let after = bench.inventory.identity(SCOPE.partition).await.unwrap();
    assert_ne!(after, before);
    assert_eq!(after.split_once('/').unwrap().0, before.split_once('/').unwrap().0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_does_not_add_up_fences_the_scope() {
    // Too many free, too few, below zero, no numbers.
    for planted in ["10 11 0 0", "10 9 0 0", "10 -1 11 0", "10 11 -1 0", "ten"] {
        let settings = redis_settings(servers::redis_url());
        let bench = Bench::opened(reached(&settings).await).await;
        let sale = concert(10);
        let bench = bench.with(&sale).await;
        plant(&settings, "counters", "concert/standard/0", planted).await;
        assert_fenced(confirm(&bench, &one(&sale, "b")).await, "concert/standard/0 does not add up");
        assert_fenced(confirm(&bench, &one(&sale, "b")).await, "it is fenced: counter concert/standard/0");
        assert_fenced(bench.inventory.outbox_len(SCOPE).await, "it is fenced");
        assert_fenced(bench.inventory.open(SCOPE).await, "it is fenced");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_s_end_that_does_not_add_up_fences_the_scope() {
    let settings = redis_settings(servers::redis_url());
    let bench = Bench::opened(reached(&settings).await).await;
    let sale = concert(10);
    let bench = bench.with(&sale).await;
    let claim = one(&sale, "b");
    assert_eq!(confirm(&bench, &claim).await, Ok(Verdict::Granted));
    plant(&settings, "counters", "concert/standard/0", "10 10 0 0").await;
    let moves = [StockMove { order: claim.order.id, to: OrderStatus::Expired }];
    assert_fenced(bench.inventory.apply(SCOPE, &moves).await, "does not add up");
    assert_fenced(bench.inventory.order(SCOPE, claim.order.id).await, "it is fenced");
}

async fn plant(settings: &settings::Inventory, part: &str, field: &str, value: &str) {
    let client = redis::Client::open(settings.url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("HSET").arg(key(settings, part)).arg(field).arg(value).exec_async(&mut connection).await.unwrap();
}

/// All at once would keep the server busy for longer than anybody waits, and nobody else would be served either.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_late_hears_of_all_granted_orders_page_by_page() {
    let server = Server::start().await;
    let (bench, settings) = server.bench(PATIENT).await;
    // As recoveries once wrote them: many entries of one move, which must not be cut in two.
    for entry in 1..=300 {
        server.admin::<String>(&format!("XADD {} 1-{entry} o {entry:012x}", key(&settings, "granted"))).await;
    }
    let sale = concert(1000);
    let bench = bench.with(&sale).await;
    for buyer in 0..600 {
        assert_eq!(confirm(&bench, &one(&sale, &format!("b{buyer}"))).await, Ok(Verdict::Granted));
    }
    let pages = async || -> u64 {
        let stats: String = server.admin("INFO commandstats").await;
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_xrange:calls=")).unwrap_or("0,").to_owned();
        line.split(',').next().unwrap().parse().unwrap()
    };
    let before = pages().await;
    let changes = bench.inventory.changes(SCOPE, 0).await.unwrap();
    assert_eq!(changes.granted.iter().collect::<HashSet<_>>().len(), 900);
    assert_eq!((changes.granted.len(), changes.sales.len(), changes.stock.len()), (900, 1, 1), "none comes twice");
    assert!(pages().await >= before + 3, "in how many calls");
    let again = bench.inventory.changes(SCOPE, changes.version).await.unwrap();
    assert_eq!((again.granted.len(), again.version), (0, changes.version));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_lost_or_of_another_type_fences_before_anything_is_written() {
    let client = redis::Client::open(servers::redis_url()).unwrap();
    let mut admin = client.get_multiplexed_async_connection().await.unwrap();
    let parts = ["meta", "sales", "counters", "orders", "people", "outbox", "versions", "granted"];
    for (part, as_text) in parts.iter().flat_map(|part| [(part, false), (part, true)]) {
        let settings = redis_settings(servers::redis_url());
        let bench = Bench::opened(reached(&settings).await).await;
        let sale = concert(10);
        let bench = bench.with(&sale).await;
        redis::cmd("DEL").arg(key(&settings, part)).exec_async(&mut admin).await.unwrap();
        if as_text {
            redis::cmd("SET").arg(key(&settings, part)).arg("text").exec_async(&mut admin).await.unwrap();
        }
        let answer = confirm(&bench, &one(&sale, "b")).await;
        assert!(matches!(answer, Err(Fault::Fenced(_))), "{part}, as text {as_text}: {answer:?}");
        for (part, size, empty) in [("orders", "HLEN", 1), ("people", "HLEN", 1), ("outbox", "XLEN", 0)] {
            let found: redis::RedisResult<u64> =
                redis::cmd(size).arg(key(&settings, part)).query_async(&mut admin).await;
            assert!(found.is_err() || found.as_ref().is_ok_and(|found| *found <= empty), "{part}: {found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_scope_is_salvaged() {
    let settings = redis_settings(servers::redis_url());
    let bench = Bench::opened(reached(&settings).await).await;
    let sale = concert(10);
    let bench = bench.with(&sale).await;
    let claims = [one(&sale, "a"), one(&sale, "b")];
    let id = bench.confirm(&claims).await.outbox.unwrap();
    let mut admin =
        redis::Client::open(settings.url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    // Neither the run nor the state of the scope is asked for.
    plant(&settings, "meta", "run_id", "0123456789012345678901234567890123456789").await;
    let salvage = async || bench.inventory.salvage(SCOPE, None, 10).await;
    let left = |orders| Ok(vec![OutboxEntry { id: id.clone(), orders }]);
    assert_eq!(salvage().await, left(claims.clone().map(|claim| claim.order).to_vec()));
    redis::cmd("DEL").arg(key(&settings, "meta")).exec_async(&mut admin).await.unwrap();
    redis::cmd("HDEL")
        .arg(key(&settings, "orders"))
        .arg(claims[0].order.id.to_string())
        .exec_async(&mut admin)
        .await
        .unwrap();
    assert_eq!(salvage().await, left(vec![claims[1].order.clone()]), "one record is lost");
    plant(&settings, "orders", &claims[1].order.id.to_string(), "no record").await;
    assert_fenced(salvage().await, "broken");
    redis::cmd("DEL").arg(key(&settings, "orders")).exec_async(&mut admin).await.unwrap();
    assert_eq!(salvage().await, left(Vec::new()), "all records are lost");
    redis::cmd("SET").arg(key(&settings, "outbox")).arg("text").exec_async(&mut admin).await.unwrap();
    assert_fenced(salvage().await, "broken");
    redis::cmd("DEL").arg(key(&settings, "outbox")).exec_async(&mut admin).await.unwrap();
    assert_eq!(salvage().await, Ok(Vec::new()), "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_was_opened_in_another_run_is_fenced() {
    let settings = redis_settings(servers::redis_url());
    let bench = Bench::opened(reached(&settings).await).await;
    let sale = concert(10);
    let bench = bench.with(&sale).await;
    plant(&settings, "meta", "run_id", "0123456789012345678901234567890123456789").await;
    assert_fenced(confirm(&bench, &one(&sale, "b")).await, "another run");
    assert_fenced(bench.inventory.stock(SCOPE, &sale.id).await, "another run");
    assert_fenced(bench.inventory.open(SCOPE).await, "another run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_another_overtook_is_no_scope() {
    let settings = redis_settings(servers::redis_url());
    let inventory = reached(&settings).await;
    // Many parts, so that the two run into each other.
    let train = wide_train();
    let orders = |first: usize| {
        let claims = (first..first + 1000).map(|buyer| full_claim(&train, buyer, "k"));
        let known =
            claims.map(|claim| rushgate::inventory::KnownOrder { order: claim.order, status: OrderStatus::Held });
        Snapshot { sales: vec![train.clone()], orders: known.collect() }
    };
    let (one, other) = (orders(0), orders(1000));
    let (first, second) = tokio::join!(inventory.rebuild(SCOPE, &one), inventory.rebuild(SCOPE, &other));
    let whole: Vec<_> = [(&first, &one), (&second, &other)].into_iter().filter(|(done, _)| done.is_ok()).collect();
    assert_eq!(whole.len(), 1, "{first:?} {second:?}");
    inventory.open(SCOPE).await.unwrap();
    let (mut found, mut cursor) = (0, None);
    loop {
        let (page, next) = inventory.orders(SCOPE, cursor).await.unwrap();
        assert!(page.iter().all(|known| whole[0].1.orders.contains(known)));
        found += page.len();
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    assert!(found >= 1000);
}

/// How many commands the server has run, scripts' commands included.
async fn commands(server: &Server) -> u64 {
    let stats: String = server.admin("INFO commandstats").await;
    let counts =
        stats.lines().filter(|line| !["info", "config", "client", "ping"].iter().any(|own| line.contains(own)));
    counts.filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_a_batch_do_not_grow_with_it() {
    let server = Server::start().await;
    let (bench, _) = server.bench(PATIENT).await;
    let train = wide_train();
    let bench = bench.with(&train).await;
    let claims: Vec<_> = (0..200).map(|buyer| full_claim(&train, buyer, "k")).collect();
    let mut spent = Vec::new();
    for batch in [&claims[..1], &claims[1..20], &claims[20..200]] {
        let before = commands(&server).await;
        assert!(bench.confirm(batch).await.verdicts.iter().all(|verdict| *verdict == Verdict::Granted));
        let expire: Vec<_> =
            batch.iter().map(|claim| StockMove { order: claim.order.id, to: OrderStatus::Expired }).collect();
        bench.inventory.apply(SCOPE, &expire).await.unwrap();
        // HELLO and the like of the operator's own connection come on top, the same each time.
        spent.push(commands(&server).await - before);
    }
    assert_eq!(spent[0], spent[1]);
    assert_eq!(spent[0], spent[2]);
    assert!(spent[0] < 40, "{spent:?}");
}
