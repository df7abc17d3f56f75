//! The control plane over a real socket, asked by its own client and by hand, with planted backends behind it.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{Client, ClientError};
use super::*;
use crate::admission::pressure::Pressure;
use crate::config::live::LiveSettings;
use crate::config::settings::{self, Secret};
use crate::config::{Flag, Sources, load};
use crate::domain::{Buffer, OrderSecret, OrderStatus};
use crate::planted::{self, Planted};
use crate::queue::LaneId;
use crate::reload;
use crate::telemetry::Logs;

mod console;
mod figures;
mod letters;
mod live;
mod reloads;
mod why;

struct Running {
    planted: Planted,
    parts: Parts,
    address: String,
    process: Shutdown,
    ready: Arc<AtomicBool>,
    client: Client,
    config: NamedTempFile,
}

async fn running(token: &str) -> Running {
    let planted = Planted::new().await;
    let (store, inventory) = (Arc::clone(&planted.store), Arc::clone(&planted.inventory));
    let defaults = settings::Sale::default();
    let clock = Arc::clone(&planted.clock);
    let definitions = Definitions::new(store, inventory, planted.epochs.clone(), clock, defaults);
    let (process, ready) = (Shutdown::new(), Arc::new(AtomicBool::new(true)));
    let is_ready = Arc::clone(&ready);
    let check = move || if is_ready.load(Ordering::Relaxed) { Ok(()) } else { Err("it is away".to_owned()) };
    let (config, meters) = (NamedTempFile::new().unwrap(), Meters::new());
    let shards = Shards::new(1, 1.0, Buffer::Units(5));
    let parts = Parts {
        store: Arc::clone(&planted.store) as _,
        inventory: Arc::clone(&planted.inventory) as _,
        topology: Arc::clone(&planted.topology) as _,
        publisher: Arc::clone(&planted.publisher) as _,
        epochs: planted.epochs.clone(),
        clock: Arc::clone(&planted.clock) as _,
        meters: meters.clone(),
        definitions,
        shards: Some(shards.clone()),
        gate: Some(Gate { claims: rules(&planted, shards), refusals: Refusals::new(&["sold_out", "limit_reached"]) }),
        process: Process {
            node: "n1".parse().unwrap(),
            roles: vec![Role::Gateway],
            backends: BackendNames { inventory: "memory", queue: "memory", store: "sqlite" },
            readiness: Arc::new(Readiness::new().with("store", check)),
            reloader: reloader(config.path(), &planted, &meters, &process),
            shutdown: process.clone(),
        },
    };
    let settings = settings::Admin { listen: "127.0.0.1:0".to_owned(), token: Secret(token.to_owned()) };
    let admin = Admin::bind(&settings, None).await.unwrap();
    let address = admin.address().to_string();
    planted.shutdown.spawn(admin.serve(parts.clone(), planted.shutdown.clone()));
    let client = Client::new(&format!("http://{address}"), token, "ann").unwrap();
    Running { planted, parts, address, process, ready, client, config }
}

/// What claims are answered with.
fn rules(planted: &Planted, shards: Shards) -> confirm::Parts {
    confirm::Parts {
        shards,
        epochs: planted.epochs.clone(),
        pressure: Pressure::new(1),
        publisher: Arc::clone(&planted.publisher) as _,
        clock: Arc::clone(&planted.clock) as _,
        secret: Arc::new(OnceLock::from(OrderSecret::new([7; 32]))),
    }
}

/// Reads this file again.
fn reloader(path: &Path, planted: &Planted, meters: &Meters, process: &Shutdown) -> Reloader {
    let node: NodeId = "n1".parse().unwrap();
    let token = Flag { name: "--set".to_owned(), path: "admin.token".to_owned(), value: "canary".to_owned() };
    let sources = Sources { file: Some(path.to_owned()), env: Vec::new(), flags: vec![token], node_id: node.clone() };
    let settings = load(&sources).unwrap().settings;
    Reloader::new(reload::Parts {
        source: reload::Source { sources, logs: Logs::default(), covered: Vec::new() },
        live: LiveSettings::new(&settings),
        settings,
        store: Arc::clone(&planted.store) as _,
        clock: Arc::clone(&planted.clock) as _,
        meters: meters.clone(),
        node,
        shutdown: process.clone(),
    })
}

/// Sends bytes as they are and returns all that comes back.
async fn raw(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(address: &str, path: &str) -> String {
    raw(address, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await
}

fn refused(result: Result<Value, ClientError>) -> (u16, String) {
    match result {
        Err(ClientError::Problem { status, code, .. }) => (status, code),
        other => panic!("must be a problem, is {other:?}"),
    }
}

fn concert() -> Value {
    json!({"name": "C", "currency": "CNY", "pools": [{"id": "p", "capacity": 10, "price": 5}]})
}

#[tokio::test]
async fn a_sale_goes_its_way_from_its_making_to_its_close() {
    let Running { client, planted, .. } = running("").await;
    let made = client.put("/admin/v1/sales/s", &concert()).await.unwrap();
    assert_eq!(
        (&made["effect"], &made["before"], &made["after"]["version"]),
        (&json!("applied"), &json!(null), &json!(1))
    );
    let opened = client.post("/admin/v1/sales/s/open", None).await.unwrap();
    assert_eq!(opened["after"]["opens_at"], planted::NOW.to_string());
    client.post("/admin/v1/sales/s/stock", Some(&json!({"pool": "p", "delta": 5}))).await.unwrap();
    client.patch("/admin/v1/sales/s/buffer", &json!({"buffer": "20%"})).await.unwrap();
    let paused = client.post("/admin/v1/sales/s/pause", None).await.unwrap();
    assert_eq!(client.post("/admin/v1/sales/s/pause", None).await.unwrap()["effect"], "unchanged");
    client.post("/admin/v1/sales/s/resume", None).await.unwrap();

    let shown = client.get("/admin/v1/sales/s").await.unwrap();
    assert_eq!((&shown["pools"][0]["capacity"], &shown["buffer"]), (&json!(15), &json!("20%")));
    assert_eq!(paused["after"]["state"], "paused");
    let again = client.put("/admin/v1/sales/s", &shown).await.unwrap();
    assert_eq!(again["effect"], "unchanged", "what is read can be sent again");
    let list = client.get("/admin/v1/sales").await.unwrap();
    assert_eq!((&list["sales"][0]["sale"], &list["sales"][0]["phase"]), (&json!("s"), &json!("open")));
    assert_eq!(planted.inventory.lock().sales[&"s".parse::<SaleId>().unwrap()].version, 6);

    client.post("/admin/v1/sales/s/close", None).await.unwrap();
    assert_eq!(refused(client.post("/admin/v1/sales/s/resume", None).await), (409, "closed".to_owned()));
    let changes = client.get("/admin/v1/changes?subject=s&limit=2").await.unwrap();
    let newest = &changes["changes"][0];
    assert_eq!(
        (&newest["what"], &newest["who"], &newest["subject"]),
        (&json!("sale.close"), &json!("local/ann"), &json!("s"))
    );
    assert_eq!((&newest["before"]["state"], &newest["after"]["state"]), (&json!("active"), &json!("closed")));
    assert_eq!(changes["changes"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_dry_run_of_anything_changes_nothing() {
    let Running { client, planted, process, .. } = running("").await;
    let sale = planted.sale("s", 1);
    let order = planted.order(&sale, 1, "b", OrderStatus::Held);
    for (path, body) in [
        ("sales/s/pause".to_owned(), None),
        ("sales/s/close".to_owned(), None),
        ("sales/s/stock".to_owned(), Some(json!({"pool": "p", "delta": -9}))),
        (format!("orders/{}/cancel", order.id), None),
        ("drain".to_owned(), None),
    ] {
        let told = client.post(&format!("/admin/v1/{path}?dry_run=true"), body.as_ref()).await.unwrap();
        assert_eq!((&told["effect"], &told["dry_run"]), (&json!("applied"), &json!(true)), "{path}");
        assert_ne!(told["before"], told["after"], "{path}");
    }
    let made = client.put("/admin/v1/sales/t?dry_run=true", &concert()).await.unwrap();
    assert_eq!(made["after"]["version"], 1);
    assert!(planted.store.lock().log.is_empty());
    assert_eq!(planted.store.lock().sales.len(), 1);
    assert_eq!(planted.store.lock().orders[&order.id].status, OrderStatus::Held);
    assert!(!process.has_begun());
}

#[tokio::test]
async fn each_no_has_its_status_and_its_code() {
    let Running { client, planted, .. } = running("").await;
    let sale = planted.sale("s", 1);
    planted.order(&sale, 1, "b", OrderStatus::Paid);
    let no = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(refused(client.get("/admin/v1/sales/x").await), no(404, "unknown_sale"));
    assert_eq!(refused(client.get("/admin/v1/sales/x/balance").await), no(404, "unknown_sale"));
    assert_eq!(refused(client.get("/admin/v1/nothing").await), no(404, "not_found"));
    assert_eq!(refused(client.get("/console/gone.js").await), no(404, "not_found"));
    assert_eq!(refused(client.post("/admin/v1/sales/s", None).await), no(405, "method_not_allowed"));
    assert_eq!(refused(client.put("/admin/v1/sales/s", &json!({"colour": 1})).await), no(422, "invalid"));
    let outdated =
        json!({"name": "C", "currency": "CNY", "version": 9, "pools": [{"id": "p", "capacity": 10, "price": 5}]});
    assert_eq!(refused(client.put("/admin/v1/sales/s", &outdated).await), no(409, "conflict"));
    let stock = |delta| json!({"pool": "p", "delta": delta});
    assert_eq!(refused(client.post("/admin/v1/sales/s/stock", Some(&stock(-10))).await), no(409, "in_use"));
    assert_eq!(refused(client.post("/admin/v1/sales/s/stock", Some(&stock(0))).await), no(422, "invalid"));
    assert_eq!(refused(client.post("/admin/v1/sales/s/stock", Some(&json!([]))).await), no(422, "invalid"));
    assert_eq!(refused(client.patch("/admin/v1/sales/s/buffer", &json!({})).await), no(422, "invalid"));
    planted.store.lock().down = true;
    assert_eq!(refused(client.get("/admin/v1/sales/s").await), no(503, "unavailable"));
}

#[tokio::test]
async fn odd_requests_are_refused_before_anything_is_done() {
    let Running { address, planted, .. } = running("").await;
    let head = "PUT /admin/v1/sales/s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let plain = raw(&address, &format!("{head}content-type: text/plain\r\ncontent-length: 2\r\n\r\n{{}}")).await;
    assert!(plain.starts_with("HTTP/1.1 415"), "{plain}");
    let json = format!("{head}content-type: application/json\r\n");
    let broken = raw(&address, &format!("{json}content-length: 1\r\n\r\n{{")).await;
    assert!(broken.starts_with("HTTP/1.1 400") && broken.contains("\"malformed\""), "{broken}");
    let huge = raw(&address, &format!("{json}content-length: 262145\r\n\r\n{}", " ".repeat(262_145))).await;
    assert!(huge.starts_with("HTTP/1.1 413"), "{huge}");
    let page = raw(&address, &format!("{head}origin: http://evil.example\r\ncontent-length: 0\r\n\r\n")).await;
    assert!(page.starts_with("HTTP/1.1 403") && page.contains("\"cross_origin\""), "{page}");
    let method =
        raw(&address, "DELETE /admin/v1/sales/s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert!(method.contains("allow: GET, PUT"), "{method}");
    assert!(planted.store.lock().sales.is_empty());
}

#[tokio::test]
async fn without_the_token_only_probes_are_answered() {
    let Running { address, client, .. } = running("t0ken").await;
    for path in ["/admin/v1/sales", "/metrics", "/admin/v1/config", "/admin/v1/live", "/nothing"] {
        let answer = get(&address, path).await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("www-authenticate: Bearer"), "{path}: {answer}");
    }
    assert!(get(&address, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(get(&address, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(client.get("/admin/v1/sales").await.is_ok());
    let wrong = Client::new(&format!("http://{address}"), "t0kem", "").unwrap();
    assert_eq!(refused(wrong.get("/admin/v1/sales").await), (401, "unauthenticated".to_owned()));
}

#[tokio::test]
async fn a_listener_that_others_can_reach_wants_a_token() {
    let settings = settings::Admin { listen: "0.0.0.0:0".to_owned(), token: Secret::default() };
    assert!(matches!(Admin::bind(&settings, None).await, Err(BindError::NoToken(_))));
}

#[tokio::test]
async fn readiness_names_what_fails() {
    let Running { address, ready, process, .. } = running("").await;
    assert!(get(&address, "/readyz?verbose").await.ends_with("[+]store ok\n[+]shutdown ok\nready\n"));
    ready.store(false, Ordering::Relaxed);
    let answer = get(&address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("[-]store: it is away\n"), "{answer}");
    assert!(get(&address, "/livez").await.starts_with("HTTP/1.1 200"));
    ready.store(true, Ordering::Relaxed);
    process.begin();
    assert!(get(&address, "/readyz").await.starts_with("HTTP/1.1 503"), "one that drains is not ready");
}

#[tokio::test]
async fn a_drain_stops_the_process_and_the_last_answers_are_given() {
    let Running { client, planted, process, .. } = running("").await;
    let drained = client.post("/admin/v1/drain", None).await.unwrap();
    assert_eq!((&drained["effect"], process.has_begun()), (&json!("applied"), true));
    assert_eq!(client.post("/admin/v1/drain", None).await.unwrap()["effect"], "unchanged");
    assert_eq!(planted.store.lock().log.len(), 1);
    planted.shutdown.begin();
    assert!(planted.shutdown.finish(Duration::from_secs(10)).await);
    assert!(matches!(client.get("/livez").await, Err(ClientError::Unreachable { .. })));
}

#[tokio::test]
async fn an_audit_reports_over_the_api() {
    let Running { client, planted, .. } = running("").await;
    let sale = planted.sale("s", 1);
    planted.order(&sale, 1, "b", OrderStatus::Held);
    let report = client.audit("/admin/v1/audit?sale=s").await.unwrap();
    assert_eq!(report["verdict"], "clean");
    planted.inventory.lock().orders.clear();
    let report = client.get("/admin/v1/audit?wait=10s").await.unwrap();
    assert_eq!(
        (&report["verdict"], &report["sales"][0]["findings"][0]["orders"][0]),
        (&json!("broken"), &json!("01".repeat(16)))
    );
    assert_eq!(refused(client.audit("/admin/v1/audit?sale=x").await), (404, "unknown_sale".to_owned()));
}

#[tokio::test]
async fn one_audit_runs_at_a_time_and_ends_when_nobody_listens() {
    let Running { client, planted, .. } = running("").await;
    let sale = planted.sale("s", 1);
    planted.inventory.plant_in_motion(&planted::order(&sale, 1, "b"));
    // Waits for what never arrives.
    let impatient = tokio::time::timeout(Duration::from_millis(300), client.audit("/admin/v1/audit?wait=60s"));
    let other = async {
        loop {
            match client.audit("/admin/v1/audit").await {
                Err(ClientError::Problem { code, .. }) if code == "audit_running" => return,
                other => assert_eq!(other.unwrap()["verdict"], "in_motion"),
            }
        }
    };
    let (impatient, ()) = tokio::join!(impatient, other);
    assert!(impatient.is_err());
    // The first has gone, so its audit has to end too.
    let free = async {
        while client.audit("/admin/v1/audit").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), free).await.unwrap();
}
