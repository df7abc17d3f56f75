//! The live feed of real processes, and their answers to why.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::Client;
use crate::crowd::{Crowd, one};
use crate::over_both;
use crate::site::{Backends, PATIENCE, Site, concert, eventually};

/// One who watches the feed of a node.
struct Watching {
    stream: TcpStream,
    text: String,
}

impl Watching {
    async fn begin(admin: &Client) -> Self {
        let address = admin.base().strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /admin/v1/live HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self { stream, text: String::new() }
    }

    async fn next(&mut self) -> Value {
        loop {
            let found = self.text.split_once("event: snapshot\ndata: ").and_then(|(_, rest)| rest.split_once("\n\n"));
            if let Some((json, rest)) = found {
                let (snapshot, rest) = (serde_json::from_str(json).unwrap(), rest.to_owned());
                self.text = rest;
                return snapshot;
            }
            let mut bytes = vec![0; 64 * 1024];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut bytes)).await.expect("a snapshot").unwrap();
            assert!(read > 0, "the stream has ended: {}", self.text);
            self.text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    }

    /// Watches until a node is said to be that, and returns all that it was said to be on the way.
    async fn until(&mut self, node: &str, state: &str) -> Vec<String> {
        let mut states: Vec<String> = Vec::new();
        let begun = Instant::now();
        while states.last().is_none_or(|last| last != state) {
            let snapshot = self.next().await;
            assert!(begun.elapsed() < PATIENCE, "{node} is {states:?}: {snapshot}");
            let of = |view: &&Value| view["node"] == node;
            let view = snapshot["nodes"].as_array().unwrap().iter().find(of).cloned().unwrap_or_default();
            let is = view["state"].as_str().unwrap_or("unheard").to_owned();
            if states.last() != Some(&is) {
                states.push(is);
            }
        }
        states
    }
}

/// Claims by outcome, as these nodes' metrics count them.
async fn metrics(nodes: &[&Client]) -> Result<BTreeMap<String, u64>, String> {
    let mut claims = BTreeMap::new();
    for node in nodes {
        let reply = node.get("/metrics", &[]).await?;
        let text = reply.body.as_str().unwrap_or_default().to_owned();
        for line in text.lines().filter_map(|line| line.strip_prefix("rushgate_claims_total{")) {
            let (_, outcome) = line.split_once("outcome=\"").unwrap();
            let (outcome, count) = outcome.split_once("\"} ").unwrap();
            *claims.entry(outcome.to_owned()).or_default() += count.parse::<u64>().unwrap();
        }
    }
    Ok(claims)
}

fn totals(claims: &Value) -> BTreeMap<String, u64> {
    let total = |(outcome, rate): (&String, &Value)| (outcome.clone(), rate["total"].as_u64().unwrap());
    claims.as_object().unwrap().iter().map(total).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_is_seen_late_then_gone_and_the_sums_are_those_of_the_metrics() {
    let mut site = Site::cluster(3, 1, "http.claims_per_buyer = 0").await;
    site.sale("s", &concert(30)).await;
    let crowd = Crowd { sale: "s".into(), buyers: 60, repeats_every: 9, at_once: 12, asks: one, name: "b" };
    let heard = crowd.rush(&site.gateways()).await;
    assert_eq!(heard.granted.len(), 30, "{:?}", heard.answers);

    let mut watching = Watching::begin(&site.nodes[0].admin).await;
    assert_eq!(watching.until("gateway-1", "alive").await.last().unwrap(), "alive");
    let mut agree = async |nodes: &[&Client]| {
        let begun = Instant::now();
        loop {
            let (snapshot, counted) = (watching.next().await, metrics(nodes).await.unwrap());
            if totals(&snapshot["claims"]) == counted && snapshot["health"]["queue"]["ok"] == true {
                return snapshot;
            }
            assert!(begun.elapsed() < PATIENCE, "{counted:?} are not in {snapshot}");
        }
    };
    let all: Vec<_> = site.nodes[..3].iter().map(|node| node.admin.clone()).collect();
    let snapshot = agree(&[&all[0], &all[1], &all[2]]).await;
    assert_eq!(snapshot["nodes"].as_array().unwrap().len(), 3, "{snapshot}");
    let sale = &snapshot["sales"][0];
    assert_eq!((&sale["sale"], totals(&sale["claims"])), (&json!("s"), totals(&snapshot["claims"])));
    let pool = &sale["pools"][0];
    assert_eq!((&pool["capacity"], &pool["free"]), (&json!(30), &json!(0)));
    assert_eq!(snapshot["health"]["inventory"]["backend"], "redis");
    assert_eq!(snapshot["sales"][0]["drift_units"], Value::Null, "a gateway compares nothing");

    site.kill(1);
    let mut states = watching.until("gateway-1", "gone").await;
    // Whether a snapshot came before it was late is a matter of moments.
    states.retain(|state| state != "alive");
    assert_eq!(states, ["late", "gone"]);
    let snapshot = watching.next().await;
    assert_eq!(totals(&snapshot["claims"]), metrics(&[&all[0], &all[2]]).await.unwrap());

    assert_eq!(site.terminate(2).await, Some(0), "{}", site.said(2));
    assert_eq!(watching.until("gateway-2", "left").await.last().unwrap(), "left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_stops_while_somebody_watches_and_does_not_read() {
    let mut site = Site::start(Backends::Embedded, "node.drain_delay = \"0s\"").await;
    let admin = site.nodes[0].admin.clone();
    let mut watching = Watching::begin(&admin).await;
    let _silent = Watching::begin(&admin).await;
    watching.next().await;
    let begun = Instant::now();
    assert_eq!(site.terminate(0).await, Some(0), "{}", site.said(0));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn top_prints_a_picture_where_there_is_no_terminal_to_draw_on() {
    let site = Site::start(Backends::Embedded, "").await;
    site.sale("concert-1", &concert(7)).await;
    let reply = site.gateway(0).claim("concert-1", "ann", None, &one(0)).await.unwrap();
    assert_eq!(reply.status, 201, "{reply:?}");
    let ran = site.run(&["top", "--once"]);
    ran.success("top");
    for shown in ["rushgate  all-0  ", "inventory memory ok ", "▶ concert-1 ", "* all-0 ", "  held "] {
        assert!(ran.out.contains(shown), "{shown} is not in\n{}", ran.out);
    }
    assert!(!ran.out.contains('\x1b'), "it is plain: {}", ran.out);
    let ran = site.run(&["top", "--once", "--json"]);
    ran.success("top");
    let snapshot: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&snapshot["node"], &snapshot["claims"]["held"]["total"]), (&json!("all-0"), &json!(1)));
    let ran = site.run(&["top"]);
    ran.success("top");
    assert!(ran.out.contains("▶ concert-1 "), "in a pipe it is one picture: {}", ran.out);
}

/// What the node says to why.
async fn why(site: &Site, query: &str) -> Value {
    let reply = site.nodes[0].admin.get(&format!("/admin/v1/why?{query}"), &[]).await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body
}

over_both! {
    async fn why_names_the_limit_with_its_order_what_is_gone_and_what_is_closed(backends: Backends) {
        let site = Site::start(backends, "http.claims_per_buyer = 0").await;
        site.sale("s", &concert(2)).await;
        let gateway = site.gateway(0);
        let claim = async |buyer: &str| gateway.claim("s", buyer, None, &one(0)).await.unwrap();
        let order = claim("b-7c04").await.order();
        assert_eq!(claim("b-7c04").await.code(), "limit_reached");
        let answer = why(&site, "sale=s&buyer=b-7c04").await;
        assert_eq!((&answer["verdict"], &answer["told"][0]["code"]), (&json!("limit_reached"), &json!("limit_reached")));
        assert!(answer["because"].as_str().unwrap().contains(&order), "{answer}");
        assert_eq!(why(&site, "sale=s&buyer=b-2f81").await["verdict"], "would_be_granted");

        let last = claim("bob").await.order();
        assert_eq!(claim("b-2f81").await.code(), "all_held");
        let answer = why(&site, "sale=s&buyer=b-2f81").await;
        assert_eq!((&answer["verdict"], &answer["told"][0]["code"]), (&json!("all_held"), &json!("all_held")));
        for (order, buyer) in [(&order, "b-7c04"), (&last, "bob")] {
            eventually("paid", || async {
                let reply = gateway.pay(order, buyer).await?;
                if reply.body["status"] == "paid" { Ok(()) } else { Err(format!("{reply:?}")) }
            })
            .await;
        }
        eventually("it is sold out", || async {
            let reply = gateway.claim("s", "b-2f81", None, &one(0)).await?;
            if reply.code() == "sold_out" { Ok(()) } else { Err(format!("{reply:?}")) }
        })
        .await;
        let answer = why(&site, "sale=s&buyer=b-2f81").await;
        assert_eq!((&answer["verdict"], &answer["told"][0]["code"]), (&json!("sold_out"), &json!("sold_out")));
        let story = why(&site, &format!("order={order}")).await;
        assert_eq!(story["verdict"], "paid", "{story}");

        site.tell("s", "close", &Value::Null).await;
        assert_eq!(claim("b-2f81").await.code(), "closed");
        let ran = site.run(&["sale", "why", "s", "b-2f81"]);
        ran.success("why");
        assert!(ran.out.starts_with("closed: An operator has closed the sale.\n"), "{}", ran.out);
        assert!(ran.out.contains("told this buyer closed at "), "{}", ran.out);
        let said = site.said(0);
        assert!(!said.contains("b-2f81") && !said.contains("b-7c04"), "nobody is named in the log: {said}");
    }
}
