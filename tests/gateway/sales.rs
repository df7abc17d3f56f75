//! Whole sales, from the crowd to the last row.

use std::collections::HashSet;
use std::slice;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::claims::train;
use crate::client::Client;
use crate::crowd::{Crowd, Heard, one};
use crate::proxies::Balancer;
use crate::servers;
use crate::site::{Backends, Site, concert, eventually};

/// How large the large tests are; 1 in CI, 10 for the size that the README speaks of.
fn scale() -> usize {
    std::env::var("RUSHGATE_TEST_SCALE").map_or(1, |text| text.parse().expect("RUSHGATE_TEST_SCALE is a number"))
}

/// What each gateway says of a sale, summed: units that are gone on one leg of a pool.
async fn taken(gateway: &Client, sale: &str, pool: usize) -> Vec<(u64, u64, u64)> {
    let view = gateway.get(&format!("/v1/sales/{sale}"), &[]).await.expect("an answer");
    let legs = view.body["pools"][pool]["legs"].as_array().cloned();
    let legs = legs.unwrap_or_else(|| vec![view.body["pools"][pool].clone()]);
    let number = |leg: &Value, name: &str| leg[name].as_u64().unwrap_or_else(|| panic!("no {name}: {view:?}"));
    legs.iter().map(|leg| (number(leg, "free"), number(leg, "held"), number(leg, "sold"))).collect()
}

/// Every order that a buyer was granted is a row, of that buyer; and no row is anybody else's.
async fn every_yes_has_its_row(site: &Site, sale: &str, heard: &Heard) {
    let mut rows = HashSet::new();
    // A walk by id; none is smaller than this.
    let mut after = "0".repeat(32);
    loop {
        let page = format!("/admin/v1/orders?sale={sale}&limit=1000&after={after}");
        let reply = site.admin().get(&page, &[]).await.expect("an answer");
        let orders = reply.body["orders"].as_array().unwrap_or_else(|| panic!("no orders: {reply:?}")).clone();
        for row in &orders {
            let (order, buyer) = (row["order"].as_str().expect("an id"), row["buyer"].as_str().expect("a buyer"));
            assert!(rows.insert(order.to_owned()), "{order} stands twice");
            let told = heard.granted.get(order);
            assert!(told.is_none_or(|told| told == buyer), "{order} is {buyer}'s, but {told:?} was told");
        }
        match orders.last() {
            Some(last) => last["order"].as_str().expect("an id").clone_into(&mut after),
            None => break,
        }
    }
    let missing: Vec<_> = heard.granted.keys().filter(|order| !rows.contains(*order)).collect();
    assert!(
        missing.is_empty(),
        "{} orders were granted and have no row: {:?}",
        missing.len(),
        &missing[..missing.len().min(5)]
    );
    let known = heard.granted.len() + heard.pending.len() + heard.broken;
    assert!(rows.len() <= known, "{} rows, but only {known} buyers can have one", rows.len());
}

/// Three gateways behind nginx, two writers, two pools, one of them over four legs; three buyers for every unit, and every third of
/// them sends the same request again.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_behind_a_balancer_sells_exactly_what_there_is() {
    let units = 1000 * scale();
    let site = Site::cluster(3, 2, "http.claims_per_buyer = 0").await;
    site.sale("s", &train(u32::try_from(units / 2).expect("a capacity"))).await;
    let balancer = Balancer::before(&site, "nginx").await;
    let crowd =
        Crowd { sale: "s".into(), buyers: 3 * units, repeats_every: 3, at_once: 96, asks: either, name: "buyer" };
    let heard = crowd.rush(slice::from_ref(&balancer.client)).await;
    // Who was told in time has a yes; on a slow machine somebody may have been told where to ask.
    let asking = heard.pending.iter().filter(|order| !heard.granted.contains_key(*order)).count();
    assert_eq!((heard.granted.len() + asking, heard.broken), (units, 0), "{:?}", heard.answers);
    site.audit("s");
    every_yes_has_its_row(&site, "s", &heard).await;
    for pool in 0..2 {
        assert_eq!(taken(site.gateway(0), "s", pool).await, [(0, units as u64 / 2, 0); 4]);
    }
}

/// A seat of either class, all the way.
fn either(number: usize) -> Value {
    json!({"lines": [{"pool": if number.is_multiple_of(2) { "first" } else { "second" }}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_mysql_keeps_a_sale_as_well() {
    if servers::real_mysql_url().is_none() {
        // The run says so in its last lines.
        return;
    }
    let site = Site::start(Backends::RealMysql, "http.claims_per_buyer = 0").await;
    site.sale("s", &concert(200)).await;
    let crowd = Crowd { sale: "s".into(), buyers: 500, repeats_every: 3, at_once: 64, asks: one, name: "buyer" };
    let heard = crowd.rush(&site.gateways()).await;
    assert_eq!(heard.granted.len(), 200, "{:?}", heard.answers);
    site.audit("s");
    every_yes_has_its_row(&site, "s", &heard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_train_sells_every_leg_to_the_last_seat() {
    let seats = 100 * scale();
    let site = Site::cluster(2, 1, "http.claims_per_buyer = 0").await;
    site.sale("g1", &train(u32::try_from(seats).expect("a capacity"))).await;
    // Journeys of every length over the four legs of the second class, until nobody gets anything any more.
    let mut crowd =
        Crowd { sale: "g1".into(), buyers: 3 * seats, repeats_every: 4, at_once: 64, asks: journey, name: "far" };
    let mut heard = crowd.rush(&site.gateways()).await;
    crowd = Crowd { buyers: 4 * seats + 4, asks: one_leg, name: "near", ..crowd };
    let rest = crowd.rush(&site.gateways()).await;
    heard.granted.extend(rest.granted);
    site.audit("g1");
    every_yes_has_its_row(&site, "g1", &heard).await;
    for leg in taken(site.gateway(0), "g1", 1).await {
        assert_eq!(leg, (0, seats as u64, 0));
    }
}

const STOPS: [&str; 5] = ["JNK", "TNA", "XZE", "NJH", "SHH"];

fn journey(number: usize) -> Value {
    const TRIPS: [(usize, usize); 6] = [(0, 4), (0, 2), (2, 4), (1, 3), (0, 1), (3, 4)];
    let (from, to) = TRIPS[number % TRIPS.len()];
    json!({"lines": [{"pool": "second", "from": STOPS[from], "to": STOPS[to], "passenger": format!("p-{number}")}]})
}

fn one_leg(number: usize) -> Value {
    let leg = number % 4;
    json!({"lines": [{"pool": "second", "from": STOPS[leg], "to": STOPS[leg + 1]}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn unpaid_units_are_sold_again_until_all_are_paid() {
    let units = 100 * scale();
    let site =
        Site::cluster(2, 1, "payment.grace = \"0s\"\npayment.expiry_interval = \"50ms\"\nhttp.claims_per_buyer = 0")
            .await;
    let mut sale = concert(u32::try_from(units).expect("a capacity"));
    sale["hold"] = json!("1s");
    site.sale("s", &sale).await;
    let doors = site.gateways();
    // Every other buyer pays; the units of the rest come back, and the next crowd buys them.
    let mut round = 0;
    eventually("everything is paid", || {
        round += 1;
        a_crowd_of_which_half_pays(doors.clone(), format!("round{round}"), units)
    })
    .await;
    assert!(round > 1, "some units were sold more than once");
    site.audit("s");
    assert_eq!(taken(&doors[0], "s", 0).await, [(0, 0, units as u64)]);
}

/// All at once; every other one who gets a unit pays for it. Fine when somebody hears that nothing is left at all.
async fn a_crowd_of_which_half_pays(doors: Vec<Client>, name: String, size: usize) -> Result<(), String> {
    let mut buyers = JoinSet::new();
    for number in 0..size {
        let (door, buyer) = (doors[number % doors.len()].clone(), format!("{name}-{number}"));
        buyers.spawn(async move {
            let reply = door.claim("s", &buyer, None, &one(number)).await?;
            if reply.status == 201 && number % 2 == 0 {
                pay(&door, &reply.order(), &buyer).await;
            }
            Ok::<_, String>(reply.code() == "sold_out")
        });
    }
    let heard: Vec<_> = buyers.join_all().await;
    if heard.contains(&Ok(true)) { Ok(()) } else { Err(format!("{name}: not sold out yet")) }
}

/// Pays as a buyer would, who asks again while the order is on its way. Returns whether the order is paid.
async fn pay(door: &Client, order: &str, buyer: &str) -> bool {
    eventually("a payment is decided", || async {
        let reply = door.pay(order, buyer).await?;
        match reply.status {
            200 => Ok(reply.body["status"] == "paid"),
            409 => Ok(false),
            _ => Err(format!("{reply:?}")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_of_four_nodes_dies_the_rest_sell_everything() {
    let units = 400 * scale();
    let mut site = Site::cluster(4, 1, "shard.node_timeout = \"1s\"\nhttp.claims_per_buyer = 0").await;
    site.sale("s", &concert(u32::try_from(units).expect("a capacity"))).await;
    let crowd = Crowd { sale: "s".into(), buyers: units / 2, repeats_every: 7, at_once: 32, asks: one, name: "early" };
    let mut before = JoinSet::new();
    before.spawn({
        let (crowd, doors) = (crowd.clone(), site.gateways());
        async move { crowd.rush(&doors).await }
    });
    // In the middle of it: as soon as the first unit is gone.
    eventually("the sale runs", || async {
        let (free, ..) = taken(site.gateway(1), "s", 0).await[0];
        if free < units as u64 { Ok(()) } else { Err("nobody has bought".to_owned()) }
    })
    .await;
    site.kill(0);
    let mut heard = before.join_all().await.remove(0);
    let late = Crowd { buyers: 2 * units, name: "late", ..crowd };
    let rest = late.rush(&site.gateways()).await;
    heard.granted.extend(rest.granted);
    heard.pending.extend(rest.pending);
    eventually("nothing is free", || async {
        let (free, ..) = taken(site.gateway(1), "s", 0).await[0];
        if free == 0 { Ok(()) } else { Err(format!("{free} are free")) }
    })
    .await;
    site.audit("s");
    every_yes_has_its_row(&site, "s", &heard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_with_all_the_traffic_sells_everything() {
    let units = 300 * scale();
    let site = Site::cluster(4, 1, "http.claims_per_buyer = 0\nshard.buffer = 0").await;
    site.sale("s", &concert(u32::try_from(units).expect("a capacity"))).await;
    let crowd = Crowd { sale: "s".into(), buyers: 2 * units, repeats_every: 5, at_once: 64, asks: one, name: "b" };
    let heard = crowd.rush(&[site.gateway(2).clone()]).await;
    assert_eq!(heard.granted.len(), units, "{:?}", heard.answers);
    site.audit("s");
}
