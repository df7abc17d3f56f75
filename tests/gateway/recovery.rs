//! Everything that can happen to a Redis, as buyers live through it: while it is fenced they hear so, and pay, cancel and read as
//! ever; afterwards exactly as many units are sold as there are, and every yes stands.

use std::sync::Arc;
use std::time::Duration;

use rushgate::clock::{Clock, SystemClock};
use rushgate::config::settings;
use rushgate::crash::CrashPoint;
use rushgate::domain::{Epoch, Order, Partition, Scope, record};
use rushgate::store::mysql::MySqlStore;
use rushgate::store::{Recordable, Store};
use serde_json::{Value, json};

use crate::client::Reply;
use crate::private_redis::{Persistence, PrivateRedis};
use crate::servers;
use crate::site::{PATIENCE, Servers, Site, concert, eventually};
use crate::tcp_proxy::{Mode, Proxy, Rule, Way};
use crate::trouble::before;

const CAPACITY: usize = 30;
/// The gateway, and the writer that recovers.
const GATEWAY: usize = 0;
const WRITER: usize = 1;
/// The inventory's keys, each of which is lost once.
const KEYS: [&str; 8] = ["meta", "sales", "counters", "orders", "people", "outbox", "versions", "granted"];

fn one() -> Value {
    json!({"quantity": 1})
}

/// A deployment over a Redis of its own, and what its buyers were told.
struct Stand {
    redis: PrivateRedis,
    /// Between the processes and their Redis, whichever that is.
    link: Proxy,
    site: Site,
    buyers: usize,
    /// Buyer and order of every yes.
    told: Vec<(String, String)>,
    /// Buyers who do not know, and ask again with the same key.
    unsure: Vec<String>,
}

impl Stand {
    /// Nothing runs yet.
    async fn new(persistence: Persistence) -> Self {
        let redis = PrivateRedis::start(persistence).await;
        let link = Proxy::start(([127, 0, 0, 1], redis.port()).into(), Mode::Forward).await;
        let servers = Servers {
            redis: format!("redis://{}", link.address),
            amqp: servers::amqp_url(),
            mysql: servers::mysql_url(),
        };
        // A busy machine may take its time; nothing here waits for that to pass.
        let site = Site::empty(Some(servers), "inventory.timeout = \"1s\"").await;
        site.run(&["migrate"]).success("migrate");
        Self { redis, link, site, buyers: 0, told: Vec::new(), unsure: Vec::new() }
    }

    /// A gateway and a writer, and a sale.
    async fn selling(persistence: Persistence) -> Self {
        let mut stand = Self::new(persistence).await;
        stand.site.add("gateway");
        stand.site.add("writer");
        stand.site.ready().await;
        stand.site.sale("s", &concert(u32::try_from(CAPACITY).expect("few"))).await;
        stand
    }

    async fn ask(&mut self, buyer: &str) -> Reply {
        let answer = self.site.gateway(GATEWAY).claim("s", buyer, Some("k"), &one()).await;
        let reply = answer.unwrap_or_else(|error| panic!("{buyer}: {error}"));
        match reply.status {
            200 | 201 => self.told.push((buyer.to_owned(), reply.order())),
            202 => self.unsure.push(buyer.to_owned()),
            _ => {}
        }
        reply
    }

    async fn someone(&mut self) -> Reply {
        self.buyers += 1;
        self.ask(&format!("b{}", self.buyers)).await
    }

    async fn sell(&mut self, count: usize) {
        for _ in 0..count {
            let begun = tokio::time::Instant::now();
            let mut reply = self.someone().await;
            // A machine that is busy with other tests may be too slow for a moment; nothing was done then.
            while (reply.status, reply.code()) == (503, "busy") && begun.elapsed() < PATIENCE {
                tokio::time::sleep(Duration::from_millis(50)).await;
                reply = self.someone().await;
            }
            assert_eq!(reply.status, 201, "{reply:?}");
        }
    }

    /// Claims until the answer is this one, within patience.
    async fn until_told(&mut self, status: u16, code: &str) -> Reply {
        let begun = tokio::time::Instant::now();
        loop {
            let reply = self.someone().await;
            if reply.status == status && reply.code() == code {
                return reply;
            }
            assert!(begun.elapsed() < PATIENCE, "not {status} {code}: {reply:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// From now on nobody recovers. Killed and not frozen, for a frozen one may have locked rows in the store.
    fn without_a_writer(&mut self) {
        self.site.kill(WRITER);
        self.site.nodes.remove(WRITER);
    }

    /// Three orders that are at rest in the store: one to pay, one to cancel, one to read.
    async fn three_at_rest(&mut self) -> [(String, String); 3] {
        self.sell(3).await;
        self.site.audit("s");
        let first = self.told.len() - 3;
        std::array::from_fn(|number| self.told[first + number].clone())
    }

    /// What a fence must not disturb. The order that is cancelled is no longer one that stands.
    async fn pay_cancel_and_read(&mut self, [pay, cancel, read]: [(String, String); 3]) {
        let gateway = self.site.gateway(GATEWAY);
        let paid = gateway.pay(&pay.1, &pay.0).await.expect("an answer");
        assert_eq!(paid.status, 200, "{paid:?}");
        let headers = [("x-buyer-id", cancel.0.as_str())];
        let path = format!("/v1/orders/{}", cancel.1);
        let cancelled = gateway.send(hyper::Method::DELETE, &path, &headers, None).await.expect("an answer");
        assert_eq!(cancelled.status, 200, "{cancelled:?}");
        let found = gateway.order(&read.1, &read.0).await.expect("an answer");
        assert_eq!((found.status, found.body["status"].as_str()), (200, Some("held")), "{found:?}");
        self.told.retain(|(_, order)| *order != cancel.1);
    }

    /// Everything is sold, to the last unit and no further; every yes stands; the audit agrees.
    async fn is_exact(&mut self) {
        for buyer in std::mem::take(&mut self.unsure) {
            let begun = tokio::time::Instant::now();
            while !matches!(self.ask(&buyer).await.status, 200 | 201 | 409) {
                assert!(begun.elapsed() < PATIENCE, "{buyer} hears nothing definite");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let begun = tokio::time::Instant::now();
        while self.sold() < CAPACITY {
            assert!(begun.elapsed() < PATIENCE, "{} of {CAPACITY} can be sold", self.sold());
            if self.someone().await.status != 201 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let last = self.until_told(409, "all_held").await;
        assert_eq!(self.sold(), CAPACITY, "{last:?}");
        for (buyer, order) in &self.told {
            eventually("every yes stands", || async {
                let found = self.site.gateway(GATEWAY).order(order, buyer).await?;
                let stands = found.status == 200 && matches!(found.body["status"].as_str(), Some("held" | "paid"));
                if stands { Ok(()) } else { Err(format!("{buyer}: {found:?}")) }
            })
            .await;
        }
        let begun = tokio::time::Instant::now();
        loop {
            let audit = self.site.run(&["audit", "s", "--json", "--wait", "30s"]);
            match audit.code {
                Some(0) => return,
                // It could not look: on a busy machine a server may not answer in time.
                Some(1) if begun.elapsed() < PATIENCE => {}
                _ => panic!("{audit:?}"),
            }
        }
    }

    /// How many orders stand; one may have been told of its order more than once.
    fn sold(&self) -> usize {
        self.told.iter().map(|(_, order)| order).collect::<std::collections::BTreeSet<_>>().len()
    }

    /// The whole story of one loss: what is sold before, what is heard during, and what it comes to.
    async fn outlives(mut self, lose: impl AsyncFnOnce(&mut Self)) {
        let at_rest = self.three_at_rest().await;
        self.sell(3).await;
        self.without_a_writer();
        lose(&mut self).await;
        self.is_fenced().await;
        self.pay_cancel_and_read(at_rest).await;
        self.site.add("writer");
        self.is_exact().await;
    }

    async fn is_fenced(&mut self) {
        let fenced = self.until_told(503, "recovering").await;
        assert!(fenced.header("retry-after").is_some(), "{fenced:?}");
        for _ in 0..5 {
            let reply = self.someone().await;
            assert_eq!((reply.status, reply.code()), (503, "recovering"), "{reply:?}");
        }
    }

    /// Another server that has the data of this moment, and lags from now on: it is its own master.
    async fn lagging_replica(&self) -> PrivateRedis {
        let replica = PrivateRedis::start(Persistence::Nothing).await;
        follow(&replica, self.redis.port()).await;
        let _: () = replica.ask(&["REPLICAOF", "NO", "ONE"]).await;
        replica
    }
}

/// Makes a server a replica, and waits until it has what its master has.
async fn follow(replica: &PrivateRedis, master: u16) {
    let _: () = replica.ask(&["REPLICAOF", "127.0.0.1", &master.to_string()]).await;
    eventually("the replica has it all", || async {
        let info: String = replica.ask(&["INFO", "replication"]).await;
        if info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_empty_loses_no_order() {
    let stand = Stand::selling(Persistence::Nothing).await;
    stand.outlives(async |stand| stand.redis.restart_empty().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_with_everything_is_rebuilt_all_the_same() {
    let stand = Stand::selling(Persistence::Everything).await;
    stand.outlives(async |stand| stand.redis.restart().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_older_sells_nothing_twice() {
    let stand = Stand::selling(Persistence::Everything).await;
    let lose = async |stand: &mut Stand| {
        let copy = stand.redis.copy().await;
        stand.sell(5).await;
        stand.redis.restart_with(&copy).await;
    };
    stand.outlives(lose).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_flushed_loses_no_order() {
    let stand = Stand::selling(Persistence::Nothing).await;
    stand.outlives(async |stand| stand.redis.ask(&["FLUSHALL"]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_whose_scripts_are_flushed_is_rebuilt() {
    let stand = Stand::selling(Persistence::Nothing).await;
    stand.outlives(async |stand| stand.redis.ask(&["SCRIPT", "FLUSH"]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_to_a_replica_that_lagged_sells_nothing_twice() {
    let stand = Stand::selling(Persistence::Nothing).await;
    let lose = async |stand: &mut Stand| {
        let replica = stand.lagging_replica().await;
        // Its first replica gives a master a new history; that epoch is rebuilt before the real loss.
        stand.site.add("writer");
        stand.until_told(201, "").await;
        stand.sell(3).await;
        stand.without_a_writer();
        stand.link.redirect(([127, 0, 0, 1], replica.port()).into());
        stand.redis = replica;
        stand.link.cut();
    };
    stand.outlives(lose).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_took_older_data_from_another_sells_nothing_twice() {
    let stand = Stand::selling(Persistence::Nothing).await;
    let replica = stand.lagging_replica().await;
    let lose = async |stand: &mut Stand| {
        stand.sell(3).await;
        follow(&stand.redis, replica.port()).await;
        let _: () = stand.redis.ask(&["REPLICAOF", "NO", "ONE"]).await;
    };
    stand.outlives(lose).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_opened_on_a_redis_that_is_a_replica() {
    let mut stand = Stand::selling(Persistence::Nothing).await;
    let at_rest = stand.three_at_rest().await;
    let master = PrivateRedis::start(Persistence::Nothing).await;
    let _: () = stand.redis.ask(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]).await;
    eventually("the recovery says what it waits for", || async {
        let said = stand.site.said(WRITER);
        if said.contains("the server is a replica of 127.0.0.1") { Ok(()) } else { Err(said) }
    })
    .await;
    stand.is_fenced().await;
    stand.pay_cancel_and_read(at_rest).await;
    let _: () = stand.redis.ask(&["REPLICAOF", "NO", "ONE"]).await;
    stand.is_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_lost_key_whichever_it_is_is_noticed_and_made_good() {
    let mut stand = Stand::selling(Persistence::Nothing).await;
    let at_rest = stand.three_at_rest().await;
    for key in KEYS {
        stand.until_told(201, "").await;
        stand.without_a_writer();
        let pattern = format!("{}:*:{key}", stand.site.namespace());
        let found: Vec<String> = stand.redis.ask(&["KEYS", &pattern]).await;
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        let _: u64 = stand.redis.ask(&["DEL", &found[0]]).await;
        stand.is_fenced().await;
        stand.site.add("writer");
    }
    stand.until_told(201, "").await;
    stand.pay_cancel_and_read(at_rest).await;
    stand.is_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recoverers_that_meet_each_other_open_one_inventory() {
    let mut stand = Stand::selling(Persistence::Nothing).await;
    for _ in 0..2 {
        stand.site.add("writer");
    }
    stand.site.ready().await;
    for _ in 0..3 {
        stand.sell(4).await;
        stand.redis.restart_empty().await;
        stand.until_told(201, "").await;
    }
    stand.is_exact().await;
}

#[test]
fn a_recoverer_may_die_between_any_two_steps() {
    let points = CrashPoint::ALL.iter().copied().filter(|point| point.as_str().starts_with("recovery."));
    // Each has a runtime of its own: it waits for commands of the program, and would keep a thread from the others' proxies.
    let alone =
        |point| std::thread::spawn(move || tokio::runtime::Runtime::new().expect("a runtime").block_on(dies_at(point)));
    for some in points.collect::<Vec<_>>().chunks(4) {
        let deaths: Vec<_> = some.iter().map(|point| (point, alone(*point))).collect();
        for (point, death) in deaths {
            assert!(death.join().is_ok(), "nobody finishes what {point} has left");
        }
    }
}

async fn dies_at(point: CrashPoint) {
    let mut stand = Stand::selling(Persistence::Nothing).await;
    stand.sell(5).await;
    stand.without_a_writer();
    let (mut armed, ..) = stand.site.launch("writer", "armed", &[], &[("RUSHGATE_CRASH", point.as_str())]);
    let _: () = stand.redis.ask(&["SCRIPT", "FLUSH"]).await;
    let begun = tokio::time::Instant::now();
    let status = loop {
        if let Some(status) = armed.try_wait().expect("its state") {
            break status;
        }
        assert!(begun.elapsed() < PATIENCE, "nobody comes to {point}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(!status.success(), "{point}: {status}");
    stand.site.add("writer");
    stand.is_exact().await;
}

/// A claim that is granted, and whose message does not reach the broker. Its order, and the buyer.
async fn granted_and_not_published() -> (Stand, Proxy, String) {
    let mut stand = Stand::new(Persistence::Nothing).await;
    let (broker, url) = before(&servers::amqp_url(), Mode::Forward).await;
    let through = [format!("queue.url={url}"), "queue.confirm_timeout=300ms".to_owned()];
    // Nobody relays it: what becomes of it is the recovery's alone.
    stand.site.configure("queue.relay_after = \"60s\"");
    let gateway = stand.site.node("gateway", "gateway", &through);
    stand.site.nodes.push(gateway);
    stand.site.add("writer");
    stand.site.ready().await;
    stand.site.sale("s", &concert(u32::try_from(CAPACITY).expect("few"))).await;
    stand.sell(1).await;
    broker.rule(Way::ToServer, Rule::Swallow);
    let pending = stand.ask("alice").await;
    assert_eq!(pending.status, 202, "{pending:?}");
    broker.set(Mode::Refusing);
    broker.cut();
    (stand, broker, pending.order())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_only_the_outbox_knew_is_a_row_after_the_recovery() {
    let (mut stand, broker, order) = granted_and_not_published().await;
    let _: () = stand.redis.ask(&["SCRIPT", "FLUSH"]).await;
    eventually("the pending order is stored", || async {
        let found = stand.site.gateway(GATEWAY).order(&order, "alice").await?;
        if found.status == 200 && found.body["status"] == "held" { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    broker.set(Mode::Forward);
    stand.is_exact().await;
    assert!(stand.told.iter().any(|(_, told)| *told == order), "she hears of the same order");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_lost_with_its_keys_is_unknown_and_may_be_asked_for_again() {
    let (mut stand, broker, order) = granted_and_not_published().await;
    let _: () = stand.redis.ask(&["FLUSHALL"]).await;
    eventually("nobody knows it", || async {
        let found = stand.site.gateway(GATEWAY).order(&order, "alice").await?;
        if found.status == 404 { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    broker.set(Mode::Forward);
    let fresh = loop {
        let fresh = stand.ask("alice").await;
        // The way to the broker is as fresh as she is.
        if !matches!(fresh.status, 202 | 503) {
            break fresh;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(matches!(fresh.status, 200 | 201), "{fresh:?}");
    assert_eq!(fresh.order(), order, "a fresh yes, under the same id");
    stand.is_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_in_lanes_that_are_no_longer_configured_are_stored_before_the_rebuild() {
    let mut stand = Stand::selling(Persistence::Nothing).await;
    stand.site.audit("s");
    stand.without_a_writer();
    // Some in each of the four lanes.
    stand.sell(12).await;
    stand.site.kill(GATEWAY);
    stand.site.nodes.clear();
    stand.redis.restart_empty().await;
    stand.site.configure("queue.lanes = 1");
    stand.site.add("gateway");
    stand.site.add("writer");
    stand.site.ready().await;
    for (buyer, order) in &stand.told {
        let found = stand.site.gateway(GATEWAY).order(order, buyer).await.expect("an answer");
        assert_eq!(found.status, 200, "{buyer}: {found:?}");
    }
    stand.is_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scripts_of_another_version_are_no_reason_to_recover() {
    let mut stand = Stand::selling(Persistence::Nothing).await;
    stand.sell(3).await;
    // As the recovery of another version leaves the server: with its anchor, and with no script that these processes know.
    let anchor = format!("return 'rushgate'\n-- {} p0.e1\n", stand.site.namespace());
    let client = redis::Client::open(stand.redis.url()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
    let mut both = redis::pipe();
    both.atomic().cmd("SCRIPT").arg("FLUSH").ignore().cmd("SCRIPT").arg("LOAD").arg(anchor).ignore();
    both.exec_async(&mut connection).await.expect("done");
    stand.is_exact().await;
    let said = stand.site.said(WRITER);
    assert!(!said.contains("a recovery begins"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "it measures")]
async fn a_hundred_thousand_live_orders_are_rebuilt_in_seconds() {
    const LIVE: u32 = 100_000;
    let mut stand = Stand::new(Persistence::Nothing).await;
    stand.site.add("gateway");
    stand.site.add("writer");
    stand.site.ready().await;
    stand.site.sale("s", &concert(2 * LIVE)).await;
    let settings = settings::Store { url: stand.site.store_url().as_str().into(), ..settings::Store::default() };
    let store = MySqlStore::connect(&settings, Arc::default()).expect("a store");
    let mut recorder = store.recorder().await.expect("a recorder");
    let scope = Scope { partition: Partition(0), epoch: Epoch(1) };
    let numbers: Vec<_> = (1..=LIVE).collect();
    for chunk in numbers.chunks(500) {
        let batch: Vec<_> = chunk.iter().map(|number| Recordable { scope, order: order(*number) }).collect();
        recorder.record(&batch).await.expect("recorded");
    }
    let begun = tokio::time::Instant::now();
    let _: () = stand.redis.ask(&["SCRIPT", "FLUSH"]).await;
    let fenced = stand.someone().await;
    assert_eq!((fenced.status, fenced.code()), (503, "recovering"), "{fenced:?}");
    while stand.someone().await.status != 201 {
        assert!(begun.elapsed() < 4 * PATIENCE, "it takes {:?} and more", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let took = begun.elapsed();
    let said = stand.site.said(WRITER);
    let opened = said.lines().rfind(|line| line.contains("the epoch is open")).unwrap_or_default();
    eprintln!("recovery of {LIVE} live orders: {took:?} from the fence to the first 201; {opened}");
    assert!(opened.contains(&format!("orders={LIVE}")), "{opened}");
}

/// A hold of one unit that does not run out.
fn order(number: u32) -> Order {
    let granted_at = SystemClock.now();
    let pay_by = granted_at.plus(Duration::from_secs(86_400));
    let text = format!("{number:032x} 0 s c{number} {} {} 55350 CNY standard/0/1/1/-/-", granted_at.0, pay_by.0);
    record::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}
