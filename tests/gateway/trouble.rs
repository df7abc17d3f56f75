//! When something is not there: what the buyer hears, what the operator reads, and that it heals by itself.

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use rushgate::config::private::ServerUrl;
use serde_json::json;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::servers;
use crate::site::{Backends, Site, concert, eventually};
use crate::tcp_proxy::{Mode, Proxy};

pub(crate) fn one() -> serde_json::Value {
    json!({"quantity": 1})
}

/// A proxy before the server of this URL, and the URL of that.
pub(crate) async fn before(url: &str, mode: Mode) -> (Proxy, String) {
    let (host, port) = ServerUrl::from(url).address().map(|(host, port)| (host.to_owned(), port)).expect("an address");
    let port = port.expect("a port");
    let upstream = tokio::net::lookup_host((host.as_str(), port)).await.expect("a name").next().expect("an address");
    let proxy = Proxy::start(upstream, mode).await;
    let through = url.replacen(&format!("{host}:{port}"), &proxy.address.to_string(), 1);
    (proxy, through)
}

/// Locks the embedded store's file as another program might.
pub(crate) async fn lock(site: &Site) -> sqlx::SqliteConnection {
    use sqlx::{Connection, Executor};
    let url = format!("sqlite://{}", site.path().join("rushgate.db").display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("the store's file");
    connection.execute("BEGIN EXCLUSIVE").await.expect("a lock");
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_an_order_that_cannot_be_stored_in_time_is_pending_and_then_there() {
    let site = Site::start(Backends::Embedded, "queue.confirm_timeout = \"300ms\"").await;
    site.sale("s", &concert(1)).await;
    let locked = lock(&site).await;
    let pending = site.gateway(0).claim("s", "alice", Some("k"), &one()).await.unwrap();
    assert_eq!(pending.status, 202, "{pending:?}");
    assert_eq!(pending.body["status"], "pending");
    assert!(pending.header("location").is_some() && pending.header("retry-after").is_some(), "{pending:?}");
    drop(locked);
    eventually("the pending order is there", || async {
        let reply = site.gateway(0).claim("s", "alice", Some("k"), &one()).await?;
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    site.audit("s");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_the_broker_does_not_confirm_is_pending_and_then_there() {
    let (broker, url) = before(&servers::amqp_url(), Mode::Forward).await;
    let mut site = Site::new(Backends::Real, "").await;
    site.configure(&format!("queue.url = {url:?}\nqueue.confirm_timeout = \"300ms\"\nqueue.relay_after = \"1s\""));
    site.add("all");
    site.ready().await;
    site.sale("s", &concert(1)).await;
    broker.set(Mode::Frozen);
    let pending = site.gateway(0).claim("s", "alice", Some("k"), &one()).await.unwrap();
    assert_eq!((pending.status, pending.body["status"].as_str()), (202, Some("pending")), "{pending:?}");
    let order = pending.order();
    // The broker comes back with other connections: whoever was on the old ones never hears from them again.
    broker.cut();
    broker.set(Mode::Forward);
    eventually("the pending order is there", || async {
        let reply = site.gateway(0).order(&order, "alice").await?;
        if reply.status == 200 && reply.body["status"] == "held" { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    site.audit("s");
}

/// Claims that wait for something that does not come fill their part of the node; whoever comes then hears so at once.
async fn is_busy_beyond_its_bound(site: &Site) {
    let mut waiting = JoinSet::new();
    for number in 0..14 {
        // A connection of its own, and no other.
        let door = Client::new(site.gateway(0).base());
        waiting.spawn(async move { door.claim("s", &format!("b{number}"), None, &one()).await });
    }
    let answers: Vec<_> = waiting.join_all().await.into_iter().map(|answer| answer.expect("an answer")).collect();
    let (busy, waited): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 503);
    assert_eq!((waited.len(), busy.len()), (12, 2), "{answers:?}");
    assert!(waited.iter().all(|answer| answer.status == 202), "{waited:?}");
    for busy in busy {
        assert_eq!(busy.code(), "busy", "{busy:?}");
        assert!(busy.header("retry-after").is_some(), "{busy:?}");
    }
}

/// Twelve of them are for claims. Two are left over for what the site has open already.
const SIXTEEN_CONNECTIONS: &str = "http.max_connections = 16\nqueue.confirm_timeout = \"2s\"";

#[tokio::test(flavor = "multi_thread")]
async fn embedded_a_store_that_is_not_to_be_had_is_named_and_joined_when_it_is() {
    let mut site = Site::new(Backends::Embedded, "").await;
    std::fs::write(site.path().join("rushgate.db"), "").expect("an empty file");
    let locked = lock(&site).await;
    site.add("all");
    let gateway = site.gateway(0);
    eventually("the store is named", || async {
        let unready = gateway.get("/readyz?verbose", &[]).await?;
        let said = unready.body.to_string();
        if unready.status == 503 && said.contains("[-]store") { Ok(()) } else { Err(said) }
    })
    .await;
    let refused = gateway.claim("s", "alice", None, &one()).await.unwrap();
    assert_eq!((refused.status, refused.code()), (503, "unavailable"), "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    drop(locked);
    site.ready().await;
    site.sale("s", &concert(1)).await;
    assert_eq!(site.gateway(0).claim("s", "alice", None, &one()).await.unwrap().status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_a_node_that_is_full_is_busy() {
    let site = Site::start(Backends::Embedded, SIXTEEN_CONNECTIONS).await;
    site.sale("s", &concert(100)).await;
    let _locked = lock(&site).await;
    is_busy_beyond_its_bound(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_full_is_busy() {
    let (redis, url) = before(&servers::redis_url(), Mode::Forward).await;
    let mut site = Site::new(Backends::Real, SIXTEEN_CONNECTIONS).await;
    site.configure(&format!("inventory.url = {url:?}\ninventory.timeout = \"10s\""));
    site.add("all");
    site.ready().await;
    site.sale("s", &concert(100)).await;
    redis.set(Mode::Frozen);
    is_busy_beyond_its_bound(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_down_at_start_is_named_and_joined_when_it_comes() {
    for (key, name, url) in [
        ("inventory.url", "inventory", servers::redis_url()),
        ("queue.url", "queue", servers::amqp_url()),
        ("store.url", "store", servers::mysql_url()),
    ] {
        let mut site = Site::new(Backends::Real, "").await;
        let url = if name == "store" { site.store_url() } else { url };
        let (server, url) = before(&url, Mode::Refusing).await;
        site.configure(&format!("{key} = {url:?}"));
        site.add("all");
        let gateway = site.gateway(0);
        let unready = gateway.get("/readyz?verbose", &[]).await.unwrap();
        assert_eq!(unready.status, 503, "{name}: {unready:?}");
        assert!(unready.body.to_string().contains(name), "{name}: {unready:?}");
        let refused = gateway.claim("s", "alice", None, &one()).await.unwrap();
        assert_eq!(refused.status, 503, "{name}: {refused:?}");
        assert!(["unavailable", "recovering"].contains(&refused.code()), "{name}: {refused:?}");
        assert!(refused.header("retry-after").is_some(), "{name}: {refused:?}");
        assert_eq!(gateway.get("/livez", &[]).await.unwrap().status, 200, "{name}");
        server.set(Mode::Forward);
        site.ready().await;
        site.sale("s", &concert(1)).await;
        eventually("it sells", || async {
            let reply = site.gateway(0).claim("s", "alice", Some("k"), &one()).await?;
            if [200, 201].contains(&reply.status) { Ok(()) } else { Err(format!("{reply:?}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_not_migrated_names_the_command() {
    let mut site = Site::unmigrated(Backends::Real, "").await;
    site.add("all");
    eventually("it says what to do", || async {
        let reply = site.gateway(0).get("/readyz?verbose", &[]).await?;
        if reply.status == 503 && reply.body.to_string().contains("rushgate migrate") {
            Ok(())
        } else {
            Err(format!("{reply:?}"))
        }
    })
    .await;
    site.run(&["migrate"]).success("migrate");
    site.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_none_of_ours_is_parked_and_stops_nobody() {
    let site = Site::start(Backends::Real, "").await;
    site.sale("s", &concert(20)).await;
    let broker = Connection::connect(&servers::amqp_url(), ConnectionProperties::default()).await.expect("the broker");
    let channel = broker.create_channel().await.expect("a channel");
    for lane in 0..4 {
        let (queue, options) = (format!("{}.lane.{lane}", site.namespace()), BasicPublishOptions::default());
        let sent = channel.basic_publish("".into(), queue.into(), options, b"odd", BasicProperties::default()).await;
        let _confirm = sent.expect("it is sent");
    }
    for number in 0..20 {
        let reply = site.gateway(0).claim("s", &format!("b{number}"), None, &one()).await.unwrap();
        assert_eq!(reply.status, 201, "{reply:?}");
    }
    eventually("an operator sees them", || async {
        let dead = site.admin().get("/admin/v1/dead-letters", &[]).await?;
        if dead.body["messages"] == 4 { Ok(()) } else { Err(format!("{dead:?}")) }
    })
    .await;
    site.audit("s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_counts_other_partitions_than_the_deployment_does_not_join_it() {
    let mut site = Site::start(Backends::Real, "").await;
    site.configure("inventory.partitions = 3");
    let other = site.add("gateway");
    eventually("it says why", || async {
        let reply = site.gateway(other).get("/readyz?verbose", &[]).await?;
        let why = reply.body.to_string();
        if reply.status == 503 && why.contains("inventory.partitions = 1") { Ok(()) } else { Err(why) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_being_rebuilt_says_so_and_comes_back_with_what_the_store_knows() {
    let mut site = Site::cluster(1, 1, "").await;
    site.sale("s", &concert(2)).await;
    let order = site.gateway(0).claim("s", "alice", Some("k"), &one()).await.unwrap();
    assert_eq!(order.status, 201, "{order:?}");
    site.audit("s");
    site.kill(1);
    site.lose_the_inventory().await;
    eventually("nothing is granted", || async {
        let reply = site.gateway(0).claim("s", "bob", None, &one()).await?;
        if (reply.status, reply.code()) == (503, "recovering") { Ok(reply) } else { Err(format!("{reply:?}")) }
    })
    .await;
    assert_eq!(site.gateway(0).order(&order.order(), "alice").await.unwrap().status, 200, "reads go on");
    let ready = site.gateway(0).get("/readyz?verbose", &[]).await.unwrap();
    assert_eq!(ready.status, 200, "a balancer leaves it in, or nobody would answer those who pay and look: {ready:?}");
    assert!(ready.body.to_string().contains("[!]partition 0: recovering"), "{ready:?}");
    site.add("writer");
    eventually("it sells again", || async {
        let reply = site.gateway(0).claim("s", "bob", None, &one()).await?;
        if reply.status == 201 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    let full = site.gateway(0).claim("s", "carol", None, &one()).await.unwrap();
    assert_eq!((full.status, full.code()), (409, "all_held"), "{full:?}");
    let again = site.gateway(0).claim("s", "alice", Some("k"), &one()).await.unwrap();
    assert_eq!((again.status, again.order()), (200, order.order()), "{again:?}");
    // The writer may join its own epoch a moment after the gateway.
    site.nodes.remove(1);
    site.ready().await;
    site.audit("s");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_site_that_is_killed_comes_back_with_every_order() {
    let mut site = Site::start(Backends::Embedded, "").await;
    site.sale("s", &concert(3)).await;
    let order = site.gateway(0).claim("s", "alice", Some("k"), &one()).await.unwrap();
    assert_eq!(order.status, 201, "{order:?}");
    site.kill(0);
    site.nodes.clear();
    site.add("all");
    site.ready().await;
    site.knows("s", 1).await;
    let again = site.gateway(0).claim("s", "alice", Some("k"), &one()).await.unwrap();
    assert_eq!((again.status, again.order()), (200, order.order()), "{again:?}");
    let two = site.gateway(0).claim("s", "bob", None, &one()).await.unwrap();
    assert_eq!(two.status, 201, "{two:?}");
    site.audit("s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_asked_to_stop_finishes_what_it_has_and_exits_with_success() {
    for backends in [Backends::Embedded, Backends::Real] {
        let mut site = Site::start(backends, "node.drain_delay = \"300ms\"").await;
        site.sale("s", &concert(200)).await;
        let door = site.gateway(0).clone();
        let mut crowd = JoinSet::new();
        crowd.spawn(async move {
            let mut granted = 0;
            for number in 0..200 {
                match door.claim("s", &format!("b{number}"), None, &one()).await {
                    Ok(reply) if reply.status == 201 => granted += 1,
                    Ok(reply) => assert!([202, 503].contains(&reply.status), "{reply:?}"),
                    // The listener is closed.
                    Err(_) => break,
                }
            }
            granted
        });
        let door = site.gateway(0).clone();
        let mut watch = JoinSet::new();
        watch.spawn(async move {
            let mut unready = false;
            while let Ok(reply) = door.get("/readyz", &[]).await {
                unready |= reply.status == 503;
            }
            unready
        });
        tokio::task::yield_now().await;
        assert_eq!(site.terminate(0).await, Some(0), "{}", site.said(0));
        let granted = crowd.join_all().await[0];
        assert!(watch.join_all().await[0], "it says that it is not ready before it closes");
        site.nodes.clear();
        site.add("all");
        site.ready().await;
        let audit = site.audit("s");
        let stored = site.admin().get("/admin/v1/orders?sale=s&limit=1000", &[]).await.unwrap();
        let rows = stored.body["orders"].as_array().map_or(0, Vec::len);
        assert!(rows >= granted, "{granted} were granted, {rows} are stored: {audit}");
    }
}
