//! The console as operators use it: a real Chromium, driven by Playwright, in front of real nodes and servers. What the page says is compared
//! with what the API says, and every button is pressed, here in front of a cluster or there of a token.
//!
//! The scripts beside this file do the looking and pressing; here are the sites that they look at, and the crowd.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::client::Client;
use crate::site::{Backends, Site, concert, eventually};

#[expect(dead_code, reason = "other suites ask more")]
#[path = "../support/client.rs"]
mod client;
#[path = "../support/database.rs"]
mod database;
#[path = "../support/servers.rs"]
mod servers;
#[expect(dead_code, reason = "other suites do more with a site")]
#[path = "../support/site.rs"]
mod site;

/// Longer than a script takes on a busy machine.
const LONGEST: Duration = Duration::from_secs(180);
/// Between two claims of the crowd at one gateway.
const PACE: Duration = Duration::from_millis(15);

#[tokio::test(flavor = "multi_thread")]
async fn the_console_tells_what_the_api_tells_and_its_buttons_do_what_they_say() {
    let site = Site::cluster(3, 1, "shard.node_timeout = \"4s\"").await;
    site.sale(
        "rush",
        &json!({"name": "Concert at the Old Harbour", "opens_at": "2020-01-01T00:00:00Z", "currency": "CNY",
        "pools": [{"id": "standard", "capacity": 60_000, "price": 55350}]}),
    )
    .await;
    quiet(&site).await;
    train(&site).await;
    sold(&site).await;
    let planned = json!({"name": "Derby", "opens_at": "2099-01-01T00:00:00Z", "currency": "CNY",
        "pools": [{"id": "north", "capacity": 4000, "price": 100}]});
    site.sale("planned", &planned).await;
    tokio::select! {
        () = run(&site, "live.mjs") => {}
        () = crowd(site.gateways(), "rush") => {}
    }
    // The script has killed one gateway and drained another; what was sold meanwhile is exact.
    let report = site.audit("rush");
    assert_eq!(report["verdict"], "clean", "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_in_front_of_a_token_asks_for_it_and_forgets_it_with_the_tab() {
    let site = Site::start(Backends::Embedded, "admin.token = \"a secret of operators\"").await;
    run(&site, "token.mjs").await;
}

#[test]
fn what_is_vendored_is_what_its_package_has() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    for (vendored, original) in [
        ("uPlot.iife.min.js", "dist/uPlot.iife.min.js"),
        ("uPlot.min.css", "dist/uPlot.min.css"),
        ("uPlot.LICENSE", "LICENSE"),
    ] {
        let package = format!("tests/console/node_modules/uplot/{original}");
        assert!(read(&format!("src/console/vendor/{vendored}")) == read(&package), "{vendored} is not {package}");
    }
}

/// A sale in which nothing moves any more: some units held, some paid, of two pools.
async fn quiet(site: &Site) {
    let document = json!({"name": "Chamber Music", "opens_at": "2020-01-01T00:00:00Z", "currency": "CNY", "hold": "3600s",
        "pools": [{"id": "stalls", "capacity": 100, "price": 100}, {"id": "balcony", "capacity": 20, "price": 50}]});
    site.sale("quiet", &document).await;
    for number in 0..12 {
        let pool = if number % 3 == 0 { "balcony" } else { "stalls" };
        let order =
            held(site.gateway(number % 3), "quiet", &format!("q-{number}"), &lines(json!({"pool": pool}))).await;
        if number < 5 {
            paid(site.gateway(0), &order, &format!("q-{number}")).await;
        }
    }
}

/// A train of twelve legs, of which some are fuller than others.
async fn train(site: &Site) {
    let stops: Vec<_> = (0..13).map(|stop| format!("S{stop}")).collect();
    let document = json!({"name": "G107 to the coast", "opens_at": "2020-01-01T00:00:00Z", "currency": "CNY", "hold": "3600s", "stops": stops,
        "pools": [{"id": "second", "capacity": 60, "fares": vec![10; 12]}, {"id": "first", "capacity": 8, "fares": vec![20; 12]}]});
    site.sale("train", &document).await;
    for (number, (from, to)) in [("S0", "S3"), ("S2", "S9"), ("S2", "S3"), ("S8", "S12")].into_iter().enumerate() {
        let line = json!({"pool": "second", "from": from, "to": to, "passenger": format!("p-{number}")});
        held(site.gateway(0), "train", &format!("t-{number}"), &lines(line)).await;
    }
}

/// A sale of which nothing is left, and a buyer who came too late.
async fn sold(site: &Site) {
    site.sale("sold", &concert(2)).await;
    for number in 0..2 {
        let buyer = format!("s-{number}");
        let order = held(site.gateway(0), "sold", &buyer, &json!({"quantity": 1})).await;
        paid(site.gateway(0), &order, &buyer).await;
    }
    let late = site.gateway(0).claim("sold", "too-late", None, &json!({"quantity": 1})).await.unwrap();
    assert_eq!(late.status, 409, "{late:?}");
}

fn lines(mut line: Value) -> Value {
    line["quantity"] = 1.into();
    json!({"lines": [line]})
}

/// Claims, and waits until the claim is known to be held; a busy machine may not know it at once.
async fn held(gateway: &Client, sale: &str, buyer: &str, body: &Value) -> String {
    let reply = gateway.claim(sale, buyer, None, body).await.unwrap();
    assert!(matches!(reply.status, 201 | 202), "{reply:?}");
    is(gateway, &reply.order(), buyer, "held").await;
    reply.order()
}

async fn paid(gateway: &Client, order: &str, buyer: &str) {
    // An order can be paid once it is in the store.
    eventually(&format!("{order} is paid"), || async {
        let reply = gateway.pay(order, buyer).await?;
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    is(gateway, order, buyer, "paid").await;
}

async fn is(gateway: &Client, order: &str, buyer: &str, status: &str) {
    eventually(&format!("{order} is {status}"), || async {
        let known = gateway.order(order, buyer).await?;
        if known.body["status"] == status { Ok(()) } else { Err(format!("{known:?}")) }
    })
    .await;
}

/// Buyers who come to every gateway for as long as somebody looks; at one that is dead they hear nothing.
async fn crowd(gateways: Vec<Client>, sale: &str) {
    let comers = gateways.iter().enumerate().map(|(at, gateway)| async move {
        for number in 0_u64.. {
            let _answer = gateway.claim(sale, &format!("b-{at}-{number}"), None, &json!({"quantity": 1})).await;
            tokio::time::sleep(PACE).await;
        }
    });
    futures_util::future::join_all(comers).await;
}

/// Runs a script in front of a site. Fails with all that it said.
async fn run(site: &Site, script: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let nodes = site.nodes.iter().map(|node| {
        let public = node.public.as_ref().map(Client::base);
        json!({"name": node.name, "pid": node.child.id(), "admin": node.admin.base(), "public": public})
    });
    let running = Command::new("node")
        .args(["--test", "--test-reporter=spec"])
        .arg(root.join("tests/console").join(script))
        .env("RUSHGATE_CONSOLE_NODES", Value::from(nodes.collect::<Vec<_>>()).to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LONGEST, running).await.expect("the script ends").expect("node runs");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{script}:\n{}\n{}", said[0], said[1]);
}
