//! Where nothing is wrong, every script passes, and what it tells is what the API tells.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::run::{CROSSED, Ran, bare, k6};
use crate::site::{Backends, Site, eventually};

/// Everything of a page that a browser would fetch from somewhere.
const FETCHES: [&str; 7] = ["<script", "<link", "<img", "src=", "href=", "url(", "@import"];

#[tokio::test(flavor = "multi_thread")]
async fn every_script_passes_at_three_nodes_that_sell_exactly() {
    let site = Site::cluster(3, 1, "").await;
    // All at once, each with a sale of its own: they share the audit, which one may have at a time.
    let rush = [("DURATION", "4s"), ("RATE", "80"), ("STOCK", "100")];
    let late = [("DURATION", "3s"), ("RATE", "80"), ("STOCK", "10")];
    let real = [("DURATION", "5s"), ("RATE", "60"), ("STOCK", "15"), ("HOLD", "2s")];
    let soak = [("DURATION", "4s"), ("RATE", "30"), ("STOCK", "25"), ("HOLD", "2s"), ("REPEAT", "50")];
    let train = [("DURATION", "4s"), ("RATE", "40"), ("STOCK", "30"), ("HOLD", "2s")];
    let (rush, late, real, soak, train) = tokio::join!(
        k6(&site, "rush", &rush),
        k6(&site, "too-late", &late),
        k6(&site, "real", &real),
        k6(&site, "soak", &soak),
        k6(&site, "train", &train),
    );
    for (script, ran) in [("rush", &rush), ("too-late", &late), ("real", &real), ("soak", &soak), ("train", &train)] {
        passed(ran, script);
        tells_what_is_there(&site, ran, script).await;
    }
    assert_eq!(rush.count("rushgate_accepted"), 100, "{}", rush.out);
    assert!(rush.answers("sold_out") + rush.answers("all_held") > 0, "{}", rush.out);
    assert_eq!((late.count("rushgate_accepted"), late.answers("held")), (10, 10), "{}", late.out);
    assert!(late.answers("sold_out") > 100, "{}", late.out);
    // Who clicks twice hears the same, and who tries anew that one is enough.
    assert!(soak.answers("replayed") > 0 && soak.answers("limit_reached") > 0, "{}", soak.out);
    assert_eq!(train.report["balance"]["legs"].as_array().unwrap().len(), 8, "{}", train.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_passes_while_a_gateway_is_killed_and_does_not_come_back() {
    let site = Site::cluster(3, 1, "shard.node_timeout = \"1s\"").await;
    let settings = [("DURATION", "6s"), ("RATE", "40"), ("STOCK", "120"), ("HOLD", "3s")];
    let (ran, ()) = tokio::join!(k6(&site, "chaos", &settings), dies_amid_the_crowd(&site, 0));
    passed(&ran, "chaos");
    assert!(ran.answers("no_answer") > 0, "nobody met the dead gateway: {}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_gone_claims_are_unserved_and_nothing_is_proved() {
    let site = Site::start(Backends::Embedded, "").await;
    let settings = [("DURATION", "4s"), ("RATE", "40"), ("STOCK", "1000"), ("PATIENCE", "2s")];
    let (ran, ()) = tokio::join!(k6(&site, "rush", &settings), dies_amid_the_crowd(&site, 0));
    ran.ended(CROSSED, "rush");
    // Who came later reached nobody, and nothing of theirs was done.
    assert!(ran.out.contains("✗ UNSERVED: ") && ran.out.contains("✗ NOT VERIFIED: nothing"), "{}", ran.out);
    // What cannot be compared is no difference.
    assert!(!ran.out.contains("LOST") && !ran.out.contains("OVERSOLD"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn buyers_provider_and_operator_sign_where_the_deployment_wants_it() {
    let secrets = "http.auth = \"jwt\"\nhttp.jwt_secret = \"a secret of buyers\"\nadmin.token = \"a secret of operators\"\n\
                   payment.provider = \"signed-callback\"\npayment.callback_secret = \"a secret of the provider\"";
    let site = Site::start(Backends::Embedded, secrets).await;
    let settings = [
        ("DURATION", "2s"),
        ("RATE", "40"),
        ("STOCK", "20"),
        ("JWT_SECRET", "a secret of buyers"),
        ("RUSHGATE_ADMIN_TOKEN", "a secret of operators"),
        ("CALLBACK_SECRET", "a secret of the provider"),
    ];
    let ran = k6(&site, "rush", &settings).await;
    passed(&ran, "rush");
    assert_eq!(ran.count("rushgate_endings{outcome:paid}"), 20, "{}", ran.out);
    assert!(!ran.report.to_string().contains("a secret") && !ran.page.contains("a secret"), "a report tells secrets");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verdict_has_words_for_every_untruth_and_tells_what_reached_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = format!("http://{}", listener.local_addr().unwrap());
    let settings = [("BREAKS", door.as_str())];
    let (ran, ()) = tokio::join!(bare("lib/verdict.test", &settings), answers_once_and_is_gone(listener));
    ran.ended(Some(0), "lib/verdict.test");
}

/// Refuses a claim, hears the next one on the same connection to its end, and is not there any more.
async fn answers_once_and_is_gone(listener: TcpListener) {
    let (mut caller, _) = listener.accept().await.unwrap();
    let body = r#"{"code":"sold_out","status":409}"#;
    let refusal = format!("HTTP/1.1 409 Conflict\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    for answer in [refusal.as_str(), ""] {
        let mut heard = Vec::new();
        while !heard.ends_with(b"\"quantity\":1}") {
            assert!(caller.read_buf(&mut heard).await.unwrap() > 0, "{}", String::from_utf8_lossy(&heard));
        }
        caller.write_all(answer.as_bytes()).await.unwrap();
    }
    // Nobody may dial it before the caller knows that this connection is gone.
    drop(listener);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_are_all_told_before_anything_is_asked() {
    let wrong = [("RATE", "fast"), ("HOLD", "500ms"), ("GATEWAYS", "10.0.0.1:8080"), ("P99_NO_MS", "0")];
    let ran = bare("rush", &wrong).await;
    assert_ne!(ran.code, Some(0));
    for (name, value) in wrong {
        assert!(ran.err.contains(&format!("{name}={value}: ")), "{name} is not told: {}", ran.err);
    }
    assert_eq!(ran.report, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_started_no_gateway_hears_so_within_seconds() {
    // The port of nothing.
    let ran = bare("rush", &[("RUSHGATE_ADMIN_URL", "http://127.0.0.1:1")]).await;
    assert_ne!(ran.code, Some(0));
    assert!(ran.err.contains("RUSHGATE_ADMIN_URL"), "{}", ran.err);
    assert!(ran.out.contains("rushgate rush: FAILED") && ran.out.contains("NOT VERIFIED"), "{}", ran.out);
}

/// Kills a node as soon as it has answered claims of a script's sale.
async fn dies_amid_the_crowd(site: &Site, index: usize) {
    let node = &site.nodes[index];
    eventually("the crowd has come", || async {
        let metrics = node.admin.get("/metrics", &[]).await?;
        let said = metrics.body.as_str().unwrap_or_default();
        let counted = |line: &str| line.starts_with("rushgate_claims_total{") && line.contains("\"k6-");
        if said.lines().any(counted) { Ok(()) } else { Err("no claims yet".to_owned()) }
    })
    .await;
    let killed = std::process::Command::new("kill").args(["-KILL", &node.child.id().to_string()]).status().unwrap();
    assert!(killed.success());
}

fn passed(ran: &Ran, script: &str) {
    ran.ended(Some(0), script);
    assert!(ran.out.contains(&format!("rushgate {script}: PASSED")), "{}", ran.out);
    assert_eq!(ran.report["verdict"], json!({"passed": true, "broken": [], "missed": []}), "{script}");
    assert!(ran.page.contains("<svg") && ran.page.contains("passed"), "{script} has no page");
    assert_eq!(FETCHES.iter().find(|what| ran.page.contains(**what)), None, "{script}'s page needs something");
}

/// The report's balance is the sale's own, and its claims are the gateways' orders.
async fn tells_what_is_there(site: &Site, ran: &Ran, script: &str) {
    let sale = ran.report["started"]["sale"].as_str().unwrap_or_default();
    let now = site.admin().get(&format!("/admin/v1/sales/{sale}/balance"), &[]).await.unwrap();
    let capacities = |balance: &Value| -> Vec<_> {
        balance["legs"].as_array().unwrap().iter().map(|leg| (leg["pool"].clone(), leg["capacity"].clone())).collect()
    };
    assert_eq!(capacities(&ran.report["balance"]), capacities(&now.body), "{script}");
    let orders: u64 = now.body["orders"].as_object().unwrap().values().filter_map(|of| of["orders"].as_u64()).sum();
    assert_eq!(ran.count("rushgate_accepted"), orders, "{script}: {}", now.body);
    let paid = now.body["orders"]["paid"]["orders"].as_u64().unwrap_or(0);
    assert_eq!(ran.count("rushgate_endings{outcome:paid}"), paid, "{script}: {}", now.body);
}
