//! The live feed over a real socket.

use super::*;
use crate::admin::live::snapshot::{Snapshot, State};
use crate::domain::Sale;
use crate::inventory::{Changes, NodeBeat};

const REQUEST: &str = "GET /admin/v1/live HTTP/1.1\r\nhost: localhost\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(20);

/// A watcher that reads what it gets.
struct Watching {
    stream: TcpStream,
    text: String,
}

impl Watching {
    async fn begin(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST.as_bytes()).await.unwrap();
        Self { stream, text: String::new() }
    }

    async fn more(&mut self) -> bool {
        let mut bytes = vec![0; 64 * 1024];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut bytes)).await.expect("something").unwrap();
        self.text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        read > 0
    }

    async fn next(&mut self) -> Snapshot {
        loop {
            let found = self.text.split_once("event: snapshot\ndata: ").and_then(|(_, rest)| rest.split_once("\n\n"));
            if let Some((json, rest)) = found {
                let (snapshot, rest) = (serde_json::from_str(json).unwrap(), rest.to_owned());
                self.text = rest;
                return snapshot;
            }
            assert!(self.more().await, "the stream has ended: {}", self.text);
        }
    }
}

async fn learn(running: &Running, sale: &Sale) {
    let stock = running.parts.inventory.stock(planted::SCOPE, &sale.id).await.unwrap();
    let shards = running.parts.shards.as_ref().unwrap();
    shards.learn(planted::SCOPE, &Changes { version: 1, sales: vec![sale.clone()], stock, granted: Vec::new() });
}

#[tokio::test]
async fn who_watches_gets_a_snapshot_at_once_and_one_each_second() {
    let running = running("").await;
    let sale = running.planted.sale("s", 2);
    running.planted.order(&sale, 1, "b", OrderStatus::Held);
    learn(&running, &sale).await;
    let told =
        r#"{"version":"0.0.9","beat":1,"interval_seconds":0.5,"sale_claims":{"s":{}},"shards":{"s":{"p":[4,5]}}}"#;
    let beat =
        |node: &str, status: &str| NodeBeat { node: node.parse().unwrap(), weight: 1.0, status: status.to_owned() };
    running.parts.shards.as_ref().unwrap().learn_nodes(vec![beat("n1", "{}"), beat("n2", told)]);
    running.parts.meters.counter("rushgate_claims_total", &[("sale", "s"), ("outcome", "held")]).increment(5);

    let mut watching = Watching::begin(&running.address).await;
    let first = watching.next().await;
    let begun = tokio::time::Instant::now();
    let second = watching.next().await;
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(500) && took < Duration::from_millis(1500), "{took:?}");

    assert_eq!((first.node.as_str(), first.ready, first.sales_count), ("n1", true, Some(1)));
    let pool = &first.sales[0].pools[0];
    assert_eq!((pool.capacity, pool.legs, pool.free, pool.held), (10, 2, 9, 1));
    assert_eq!(first.sales[0].phase, "open");
    assert_eq!(first.sales[0].claims["held"].total, 5);
    assert_eq!((first.claims["held"].total, first.claims["held"].per_second), (5, None));
    assert_eq!(second.claims["held"].per_second, Some(0.0));
    let nodes: Vec<_> = first.nodes.iter().map(|node| (node.node.as_str(), node.this, node.state)).collect();
    assert_eq!(nodes, [("n1", true, State::Alive), ("n2", false, State::Alive)]);
    // Five of nine are the fair part; the buffer of five is cut at what is free.
    let shard = first.nodes[1].shards["s"]["p"];
    assert_eq!((shard.left, shard.fair, shard.buffer), (4, 5, 4));
    assert_eq!((second.health.store.ok, second.health.store.backend.as_str()), (Some(true), "sqlite"));
    assert_eq!((second.outbox_entries, second.dead_letters), (Some(0), Some(0)));
    assert_eq!(first.sales[0].drift_units, None, "nobody has compared anything");
}

#[tokio::test]
async fn one_snapshot_is_had_without_watching() {
    let running = running("t0ken").await;
    let snapshot = running.client.get("/admin/v1/live?once=true").await.unwrap();
    assert_eq!((&snapshot["node"], &snapshot["health"]["store"]["ok"]), (&json!("n1"), &json!(true)));
    let head = "GET /admin/v1/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert!(raw(&running.address, head).await.starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn only_so_many_watch_and_who_leaves_makes_room() {
    let running = running("").await;
    let mut watching = Vec::new();
    for _ in 0..16 {
        let mut one = Watching::begin(&running.address).await;
        one.next().await;
        watching.push(one);
    }
    let refused = get(&running.address, "/admin/v1/live").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains("\"busy\""), "{refused}");
    assert!(running.client.get("/admin/v1/sales").await.is_ok(), "there is room for those who do something");
    watching.pop();
    let room = async {
        loop {
            let mut one = Watching::begin(&running.address).await;
            one.more().await;
            if one.text.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, room).await.unwrap();
}

#[tokio::test]
async fn a_watcher_that_never_reads_frees_its_seat() {
    let running = running("").await;
    let mut asleep = Vec::new();
    for _ in 0..16 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(running.address.parse().unwrap()).await.unwrap();
        stream.write_all(REQUEST.as_bytes()).await.unwrap();
        // It has its seat, and reads no more than this.
        stream.read_exact(&mut [0; 64]).await.unwrap();
        asleep.push(stream);
    }
    assert!(get(&running.address, "/admin/v1/live").await.starts_with("HTTP/1.1 503"));
    // Three minutes in which nobody reads.
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(180)).await;
    tokio::time::resume();
    let mut one = Watching::begin(&running.address).await;
    one.more().await;
    assert!(one.text.starts_with("HTTP/1.1 200"), "{}", one.text);
}

#[tokio::test]
async fn a_watcher_that_reads_keeps_its_seat() {
    let running = running("").await;
    let mut watching = Watching::begin(&running.address).await;
    watching.next().await;
    tokio::time::pause();
    for _ in 0..60 {
        watching.next().await;
    }
}

#[tokio::test]
async fn a_watcher_that_does_not_read_holds_no_shutdown_up_and_one_that_does_is_let_go_in_good_order() {
    let running = running("").await;
    let _silent = Watching::begin(&running.address).await;
    let mut reading = Watching::begin(&running.address).await;
    reading.next().await;
    let begun = tokio::time::Instant::now();
    running.planted.shutdown.begin();
    while reading.more().await {}
    assert!(reading.text.ends_with("0\r\n\r\n"), "the stream ends whole: {}", reading.text);
    assert!(running.planted.shutdown.finish(Duration::from_secs(10)).await);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_backend_that_fails_is_named_and_the_others_are_told_all_the_same() {
    let running = running("").await;
    running.planted.store.lock().down = true;
    let mut watching = Watching::begin(&running.address).await;
    watching.next().await;
    let snapshot = watching.next().await;
    assert_eq!((snapshot.health.store.ok, snapshot.health.queue.ok), (Some(false), Some(true)));
    assert!(snapshot.health.store.why.is_some());
    assert_eq!((snapshot.dead_letters, snapshot.outbox_entries), (None, Some(0)));
}
