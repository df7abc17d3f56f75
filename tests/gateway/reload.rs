//! The configuration is changed while a sale runs.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::crowd::{Crowd, one};
use crate::site::{Backends, Site, concert, eventually};

/// What is free of the sale, and what of it this gateway may let through.
async fn shard(site: &Site, gateway: usize, sale: &str) -> Result<(u64, u64), String> {
    let node = &site.nodes[gateway];
    let reply = node.admin.get(&format!("/admin/v1/sales/{sale}/balance"), &[]).await?;
    let free = reply.body["legs"][0]["free"].as_u64();
    let nodes = reply.body["nodes"].as_array().cloned().unwrap_or_default();
    // Its own shard a gateway knows without asking.
    let own = nodes.iter().find(|told| told["node"] == json!(node.name));
    let left = own.and_then(|own| own["shards"]["standard"][0].as_u64());
    free.zip(left).ok_or_else(|| format!("{reply:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buffer_that_is_changed_in_the_file_is_in_every_shard_within_a_second_while_a_crowd_claims() {
    let site = Site::cluster(2, 1, "shard.buffer = 0\nhttp.claims_per_buyer = 0").await;
    site.sale("s", &concert(3000)).await;
    let rush = Crowd { sale: "s".into(), buyers: 3400, repeats_every: 9, at_once: 6, asks: one, name: "b" };
    let doors = site.gateways();
    let mut crowd = JoinSet::new();
    crowd.spawn(async move { rush.rush(&doors).await });
    eventually("the crowd is there", || async {
        let (free, _) = shard(&site, 0, "s").await?;
        if free < 3000 { Ok(()) } else { Err("nothing is sold".to_owned()) }
    })
    .await;
    for (buffer, is_whole) in [("\"1000%\"", true), ("0", false), ("100000", true)] {
        site.configure(&format!("shard.buffer = {buffer}"));
        let begun = Instant::now();
        for gateway in [0, 1] {
            eventually(&format!("a buffer of {buffer} is in shard {gateway}"), || async {
                let (free, left) = shard(&site, gateway, "s").await?;
                // All that is free, or half of it; the crowd moves both meanwhile.
                if (left * 4 > free * 3) == is_whole { Ok(()) } else { Err(format!("{left} of {free}")) }
            })
            .await;
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{buffer}: {:?}", begun.elapsed());
    }
    let (free, _) = shard(&site, 0, "s").await.unwrap();
    assert!(free > 0, "the crowd was gone before the last change");
    let heard = crowd.join_all().await.remove(0);
    assert_eq!((heard.granted.len(), heard.broken), (3000, 0), "{:?}", heard.answers);
    site.audit("s");
    let lines = site.admin().get("/admin/v1/changes?subject=gateway-0", &[]).await.unwrap();
    let lines = lines.body["changes"].as_array().unwrap().clone();
    let line = |line: &Value| (line["who"].clone(), line["after"]["shard.buffer"].clone());
    let expected = [json!(100_000), json!(0), json!("1000%")].map(|buffer| (json!("file"), buffer));
    assert_eq!(lines.iter().map(line).collect::<Vec<_>>(), expected);
}

async fn ready(node: &Client) -> String {
    let reply = node.get("/readyz?verbose", &[]).await.expect("an answer");
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body.as_str().expect("a text").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_file_is_told_and_not_taken_and_the_node_stays_ready() {
    let site = Site::start(Backends::Embedded, "shard.buffer = 5\nlog.filter = \"info\"").await;
    let node = &site.nodes[0].admin;
    let configured = async |settings: &str, told: &str| {
        site.configure(settings);
        eventually(told, || async {
            let said = ready(node).await;
            if said.contains(told) { Ok(()) } else { Err(said) }
        })
        .await;
    };
    let metric = async |line: &str| {
        let reply = node.get("/metrics", &[]).await.expect("an answer");
        assert!(reply.body.as_str().is_some_and(|text| text.lines().any(|metric| metric == line)), "{line}: {reply:?}");
    };
    configured("shard.buffer = 50\nshard.bufer = 6", "config: the last reload changed nothing").await;
    metric("rushgate_config_last_reload_successful 0").await;
    let shown = async || node.get("/admin/v1/config", &[]).await.expect("an answer").body.to_string();
    assert!(shown().await.contains("shard.buffer = 5\\n"), "{}", shown().await);
    assert!(shown().await.contains("unknown key `shard.bufer`"), "{}", shown().await);
    // The line with the wrong key becomes one with a right key.
    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), text.replace("shard.bufer = 6", "inventory.partitions = 2")).unwrap();
    configured("sale.hold = \"60s\"", "config: inventory.partitions needs a restart\n").await;
    metric("rushgate_config_last_reload_successful 1").await;
    assert!(shown().await.contains("shard.buffer = 50\\n"), "{}", shown().await);
    assert!(site.said(0).contains("the last good one runs on"), "{}", site.said(0));
    let reply = node.post("/admin/v1/reload", &[("x-operator", "ann")], &json!({})).await.unwrap();
    assert_eq!((reply.status, &reply.body["effect"]), (200, &json!("unchanged")), "{reply:?}");
    assert_eq!(reply.body["needs_restart"][0]["configured"], "2");
    // The filter is live as well, though it is no module's.
    assert!(!site.said(0).contains("DEBUG"), "{}", site.said(0));
    site.configure("log.filter = \"debug\"");
    eventually("it logs more", || async {
        site.gateway(0).get("/livez", &[]).await?;
        if site.said(0).contains("DEBUG") { Ok(()) } else { Err("nothing more".to_owned()) }
    })
    .await;
    // A flag names the node, whatever the file says; that is told once, whatever else changes.
    let told = || site.said(0).matches("a setting of the file does not count, for it is covered").count();
    for (settings, taken) in [("node.id = \"another\"", ""), ("shard.buffer = 51", "shard.buffer = 51\\n")] {
        site.configure(settings);
        eventually("it is told", || async {
            if told() == 1 && shown().await.contains(taken) { Ok(()) } else { Err(site.said(0)) }
        })
        .await;
    }
    assert!(shown().await.contains("is covered by flag --set"), "{}", shown().await);
}
