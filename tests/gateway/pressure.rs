//! When what is granted cannot go its way: claims hear so, everything else goes on, nothing grows, and it opens again by itself.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::Reply;
use crate::private_rabbitmq::PrivateRabbitMq;
use crate::servers;
use crate::site::{Backends, Site, concert, eventually};
use crate::tcp_proxy::{Mode, Proxy};
use crate::trouble::{before, lock, one};

/// Longer than any answer may take that says that something is not there.
const AT_ONCE: Duration = Duration::from_secs(4);

async fn granted(site: &Site, buyer: &str) -> String {
    let reply = site.gateway(0).claim("s", buyer, Some("k"), &one()).await.unwrap();
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.order()
}

fn is_busy(reply: &Reply) -> bool {
    reply.status == 503 && reply.code() == "busy" && reply.header("retry-after").is_some()
}

/// Claims until the answer is busy. Returns how many were granted or are pending until then.
async fn until_busy(site: &Site) -> u64 {
    let begun = Instant::now();
    for number in 0.. {
        let reply = site.gateway(0).claim("s", &format!("b{number}"), None, &one()).await.unwrap();
        if is_busy(&reply) {
            return number;
        }
        assert!([201, 202].contains(&reply.status), "{reply:?}");
        assert!(begun.elapsed() < Duration::from_secs(30), "never busy: {reply:?}");
    }
    unreachable!("numbers do not end")
}

/// Claims again and again, for so long: all of them are busy.
async fn stays_busy(site: &Site, time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        let reply = site.gateway(0).claim("s", "late", None, &one()).await.unwrap();
        assert!(is_busy(&reply), "{reply:?}");
    }
}

/// The node stays in the balancer, and says what it suffers from.
async fn is_ready_and_says(site: &Site, why: &str) {
    let ready = site.gateway(0).get("/readyz?verbose", &[]).await.unwrap();
    assert_eq!(ready.status, 200, "{ready:?}");
    let said = ready.body.to_string();
    assert!(said.contains("[!]partition 0 is closed to new claims") && said.contains(why), "{said}");
}

async fn figure(site: &Site, name: &str) -> f64 {
    let metrics = site.admin().get("/metrics", &[]).await.unwrap();
    let Value::String(text) = &metrics.body else { panic!("{metrics:?}") };
    let values = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

/// The bytes that a process has in memory.
fn memory(site: &Site) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", site.nodes[0].child.id())).expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).expect("a number") * 1024
}

/// Pays one order, cancels another, and looks at both.
async fn the_rest_goes_on(site: &Site, [paid, cancelled]: [&str; 2]) {
    let gateway = site.gateway(0);
    let reply = gateway.pay(paid, "alice").await.unwrap();
    assert_eq!((reply.status, &reply.body["status"]), (200, &json!("paid")), "{reply:?}");
    let path = format!("/v1/orders/{cancelled}");
    let reply = gateway.send(hyper::Method::DELETE, &path, &[("x-buyer-id", "bob")], None).await.unwrap();
    assert_eq!((reply.status, &reply.body["status"]), (200, &json!("cancelled")), "{reply:?}");
    assert_eq!(gateway.order(paid, "alice").await.unwrap().status, 200);
    assert_eq!(gateway.get("/v1/sales/s", &[]).await.unwrap().status, 200);
}

/// Two orders that the store has.
async fn two_stored(site: &Site) -> [String; 2] {
    let orders = [granted(site, "alice").await, granted(site, "bob").await];
    site.audit("s");
    orders
}

async fn opens_again(site: &Site) {
    eventually("it sells again", || async {
        let reply = site.gateway(0).claim("s", "fresh", Some("k"), &one()).await?;
        if [200, 201].contains(&reply.status) { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    site.audit("s");
    assert!(figure(site, "rushgate_admission_closings_total").await >= 1.0);
}

async fn behind(key: &str, url: &str, settings: &str) -> (Site, Proxy) {
    let mut site = Site::new(Backends::Real, settings).await;
    let url = if key == "store.url" { site.store_url() } else { url.to_owned() };
    let (proxy, url) = before(&url, Mode::Forward).await;
    site.configure(&format!("{key} = {url:?}"));
    site.add("all");
    site.ready().await;
    site.sale("s", &concert(5000)).await;
    (site, proxy)
}

const IMPATIENT: &str = "queue.confirm_timeout = \"500ms\"\nqueue.unconfirmed_max = \"250ms\"\n\
                         queue.relay_after = \"1s\"\nhttp.claims_per_buyer = 0\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_makes_claims_busy_and_nothing_else() {
    let (site, broker) = behind("queue.url", &servers::amqp_url(), IMPATIENT).await;
    let [paid, cancelled] = two_stored(&site).await;
    broker.set(Mode::Frozen);
    until_busy(&site).await;
    is_ready_and_says(&site, "confirm").await;
    let again = site.gateway(0).claim("s", "alice", Some("k"), &one()).await.unwrap();
    assert_eq!((again.status, again.order()), (202, paid.clone()), "who was granted a unit hears no busy: {again:?}");
    // The connection is given up meanwhile, and nobody answers who asks for another.
    eventually("it was tried", || async {
        stays_busy(&site, Duration::from_millis(100)).await;
        if site.said(0).contains("no answer within") { Ok(()) } else { Err(site.said(0)) }
    })
    .await;
    is_ready_and_says(&site, "the queue takes no messages").await;
    the_rest_goes_on(&site, [&paid, &cancelled]).await;
    broker.cut();
    broker.set(Mode::Forward);
    opens_again(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_short_of_memory_makes_claims_busy_and_nothing_else() {
    let broker = PrivateRabbitMq::start().await;
    let mut site = Site::new(Backends::Real, IMPATIENT).await;
    site.configure(&format!("queue.url = {:?}", broker.url()));
    site.add("all");
    site.ready().await;
    site.sale("s", &concert(5000)).await;
    let [paid, cancelled] = two_stored(&site).await;
    broker.control(&["set_vm_memory_high_watermark", "0.0001"]);
    let granted = until_busy(&site).await;
    is_ready_and_says(&site, "the queue takes no messages").await;
    stays_busy(&site, Duration::from_secs(2)).await;
    the_rest_goes_on(&site, [&paid, &cancelled]).await;
    broker.control(&["set_vm_memory_high_watermark", "0.8"]);
    opens_again(&site).await;
    let stored = site.admin().get("/admin/v1/orders?sale=s&limit=1000", &[]).await.unwrap();
    let rows = stored.body["orders"].as_array().map_or(0, Vec::len) as u64;
    assert_eq!(rows, granted + 3, "what was granted meanwhile is stored, and what was busy is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stays_away_bounds_what_is_granted() {
    let (site, store) = behind("store.url", "", &format!("{IMPATIENT}queue.outbox_max = 20\n")).await;
    let [paid, _] = two_stored(&site).await;
    store.set(Mode::Refusing);
    store.cut();
    let granted = until_busy(&site).await;
    assert!((20..1000).contains(&granted), "the bound, and what comes between two looks: {granted}");
    is_ready_and_says(&site, "the outbox has too many entries").await;
    let before = memory(&site);
    stays_busy(&site, Duration::from_secs(10)).await;
    let grown = memory(&site).saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more in memory");
    eventually("the figures are read", || async {
        let entries = figure(&site, "rushgate_outbox_entries ").await;
        if (20.0..1000.0).contains(&entries) { Ok(()) } else { Err(entries.to_string()) }
    })
    .await;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let copies = figure(&site, "rushgate_lane_messages").await / (granted as f64 + 1.0);
    assert!(copies < 8.0, "copies of each message are in the lanes: {copies}");
    let begun = Instant::now();
    let reply = site.gateway(0).pay(&paid, "alice").await.unwrap();
    assert!([202, 503].contains(&reply.status) && reply.header("retry-after").is_some(), "{reply:?}");
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(site.gateway(0).get("/v1/sales/s", &[]).await.unwrap().status, 200);
    store.set(Mode::Forward);
    opens_again(&site).await;
    let reply = site.gateway(0).pay(&paid, "alice").await.unwrap();
    assert_eq!((reply.status, &reply.body["status"]), (200, &json!("paid")), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_a_store_that_stores_nothing_makes_claims_busy() {
    let site = Site::start(Backends::Embedded, IMPATIENT).await;
    site.sale("s", &concert(5000)).await;
    two_stored(&site).await;
    let locked = lock(&site).await;
    until_busy(&site).await;
    is_ready_and_says(&site, "confirm").await;
    stays_busy(&site, Duration::from_secs(1)).await;
    drop(locked);
    opens_again(&site).await;
}
