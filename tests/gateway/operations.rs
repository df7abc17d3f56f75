//! What operators do to a running site: more partitions, other lanes, another buffer, a writer less.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::crowd::{Crowd, one};
use crate::over_both;
use crate::site::{Backends, Site, concert, eventually};

/// The partition of a sale, as the program computes it.
fn partition_of(sale: &str, partitions: u16) -> u16 {
    rushgate::domain::Partition::of(&sale.parse().expect("an id"), partitions).0
}

/// One sale for each of three partitions.
fn three_sales() -> Vec<String> {
    let mut seen = HashSet::new();
    let all = (0..).map(|number| format!("sale-{number}"));
    all.filter(|sale| seen.insert(partition_of(sale, 3))).take(3).collect()
}

async fn becomes(gateway: &Client, order: &str, buyer: &str, status: &str) {
    eventually(&format!("{order} is {status}"), || async {
        let reply = gateway.order(order, buyer).await?;
        if reply.body["status"] == status { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
}

over_both! {
    async fn sales_of_three_partitions_are_sold_paid_and_given_back_side_by_side(backends: Backends) {
        let settings = "inventory.partitions = 3\nhttp.claims_per_buyer = 0";
        let mut site = Site::start(backends, settings).await;
        let sales = three_sales();
        for sale in &sales {
            site.sale(sale, &concert(3)).await;
        }
        // The same buyers in all of them at once: a limit is of one sale, and so is a key.
        let mut asking = JoinSet::new();
        for number in 0..12 {
            for sale in sales.clone() {
                let gateway = site.gateway(0).clone();
                asking.spawn(async move {
                    let buyer = format!("b{number}");
                    let reply = gateway.claim(&sale, &buyer, Some("k"), &json!({"quantity": 1})).await.unwrap();
                    (sale, buyer, reply)
                });
            }
        }
        let answers = asking.join_all().await;
        let gateway = site.gateway(0);
        for sale in &sales {
            let granted: Vec<_> =
                answers.iter().filter(|(of, _, reply)| of == sale && reply.status == 201).collect();
            assert_eq!(granted.len(), 3, "{sale}: {answers:?}");
            let (paid, cancelled, kept) = (granted[0], granted[1], granted[2]);
            eventually("paid", || async {
                let reply = gateway.pay(&paid.2.order(), &paid.1).await?;
                if reply.body["status"] == "paid" { Ok(()) } else { Err(format!("{reply:?}")) }
            })
            .await;
            let path = format!("/v1/orders/{}", cancelled.2.order());
            eventually("cancelled", || async {
                let reply = gateway.send(hyper::Method::DELETE, &path, &[("x-buyer-id", &cancelled.1)], None).await?;
                if reply.body["status"] == "cancelled" { Ok(()) } else { Err(format!("{reply:?}")) }
            })
            .await;
            eventually("the unit is for sale again", || async {
                let reply = gateway.claim(sale, "late", None, &json!({"quantity": 1})).await?;
                if reply.status == 201 { Ok(()) } else { Err(format!("{reply:?}")) }
            })
            .await;
            becomes(gateway, &kept.2.order(), &kept.1, "held").await;
            site.audit(sale);
        }
        // And all of them come back after a restart, each with what it had.
        assert_eq!(site.terminate(0).await, Some(0), "{}", site.said(0));
        site.nodes.clear();
        site.add("all");
        site.ready().await;
        for sale in &sales {
            site.knows(sale, 1).await;
            let reply = site.gateway(0).claim(sale, "later", None, &json!({"quantity": 1})).await.unwrap();
            assert_eq!((reply.status, reply.code()), (409, "all_held"), "{sale}: {reply:?}");
            site.audit(sale);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_three_partitions_sells_them_all_and_survives_the_loss_of_its_inventory() {
    let site = Site::cluster(2, 2, "inventory.partitions = 3\nhttp.claims_per_buyer = 0").await;
    let sales = three_sales();
    for sale in &sales {
        site.sale(sale, &concert(100)).await;
    }
    for (number, sale) in sales.iter().enumerate() {
        let crowd = Crowd { sale: sale.clone(), buyers: 60, repeats_every: 5, at_once: 24, asks: one, name: "early" };
        let heard = crowd.rush(&site.gateways()).await;
        assert_eq!(heard.granted.len(), 60, "{number}: {:?}", heard.answers);
    }
    site.lose_the_inventory().await;
    for sale in &sales {
        eventually(&format!("{sale} is sold again"), || async {
            let reply = site.gateway(0).claim(sale, "first", Some("k"), &one(0)).await?;
            if [200, 201].contains(&reply.status) { Ok(()) } else { Err(format!("{reply:?}")) }
        })
        .await;
    }
    site.ready().await;
    for sale in &sales {
        let crowd = Crowd { sale: sale.clone(), buyers: 80, repeats_every: 5, at_once: 24, asks: one, name: "late" };
        let heard = crowd.rush(&site.gateways()).await;
        assert_eq!(heard.granted.len(), 39, "{sale}: {:?}", heard.answers);
        site.audit(sale);
    }
}

/// How many units each gateway lets through at this moment, as the nodes tell each other.
async fn shards(site: &Site, sale: &str) -> Result<Vec<u64>, String> {
    let reply = site.nodes[0].admin.get("/admin/v1/nodes", &[]).await?;
    let nodes = reply.body["nodes"].as_array().cloned().unwrap_or_default();
    let left =
        |node: &Value| node["status"]["shards"][sale]["standard"][0].as_u64().ok_or_else(|| format!("{reply:?}"));
    nodes.iter().map(left).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buffer_that_an_operator_changes_is_in_every_shard_within_a_second() {
    let site = Site::cluster(2, 1, "shard.buffer = 0\nshard.node_timeout = \"1s\"").await;
    site.sale("s", &concert(100)).await;
    for (buffer, share) in
        [(json!(null), 50), (json!("20%"), 60), (json!(7), 57), (json!(1000), 100), (json!(null), 50)]
    {
        let changed = site
            .admin()
            .send(hyper::Method::PATCH, "/admin/v1/sales/s/buffer", &[], Some(json!({"buffer": buffer}).to_string()))
            .await
            .unwrap();
        assert_eq!(changed.status, 200, "{changed:?}");
        let begun = Instant::now();
        eventually(&format!("a buffer of {buffer} makes shards of {share}"), || async {
            let left = shards(&site, "s").await?;
            if left == [share, share] { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
        // A refill and two heartbeats, with room for a busy machine.
        assert!(begun.elapsed() < Duration::from_secs(1), "{buffer}: {:?}", begun.elapsed());
    }
}

/// How many consumers each lane has.
async fn consumers(site: &Site, sale: &str) -> Vec<(String, u64)> {
    let reply = site.admin().get(&format!("/admin/v1/sales/{sale}/balance"), &[]).await.expect("an answer");
    let lanes = reply.body["lanes"].as_array().unwrap_or_else(|| panic!("no lanes: {reply:?}")).clone();
    let lane = |lane: &Value| (lane["lane"].as_str().unwrap().to_owned(), lane["consumers"].as_u64().unwrap());
    lanes.iter().map(lane).filter(|(lane, _)| lane != "dead").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_of_two_writers_dies_the_other_has_every_lane() {
    let mut site = Site::cluster(1, 2, "http.claims_per_buyer = 0").await;
    site.sale("s", &concert(300)).await;
    let rush = Crowd { sale: "s".into(), buyers: 200, repeats_every: 9, at_once: 24, asks: one, name: "early" };
    let mut crowd = JoinSet::new();
    let doors = site.gateways();
    crowd.spawn(async move { rush.rush(&doors).await });
    eventually("the sale runs", || async {
        let view = site.gateway(0).get("/v1/sales/s", &[]).await?;
        if view.body["pools"][0]["held"].as_u64() > Some(0) { Ok(()) } else { Err(format!("{view:?}")) }
    })
    .await;
    site.kill(1);
    let heard = crowd.join_all().await.remove(0);
    assert_eq!(heard.granted.len(), 200, "{:?}", heard.answers);
    site.audit("s");
    eventually("every lane has its consumer", || async {
        let lanes = consumers(&site, "s").await;
        if lanes.len() == 5 && lanes.iter().all(|(_, count)| *count == 1) { Ok(()) } else { Err(format!("{lanes:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_may_come_back_with_more_lanes_or_fewer() {
    let mut site = Site::start(
        Backends::Real,
        "queue.lanes = 4\nhttp.claims_per_buyer = 0\nqueue.confirm_timeout = \"500ms\"\nqueue.relay_after = \"1s\"",
    )
    .await;
    site.sale("s", &concert(120)).await;
    for (lanes, name) in [(4, "four"), (2, "two"), (6, "six")] {
        site.configure(&format!("queue.lanes = {lanes}"));
        site.kill(0);
        site.nodes.clear();
        site.add("all");
        site.ready().await;
        site.knows("s", 1).await;
        let crowd = Crowd { sale: "s".into(), buyers: 40, repeats_every: 9, at_once: 16, asks: one, name };
        let heard = crowd.rush(&site.gateways()).await;
        assert_eq!(heard.granted.len(), 40, "{lanes}: {:?}", heard.answers);
        site.audit("s");
    }
}
