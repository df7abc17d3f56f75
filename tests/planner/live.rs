//! The planner against the world: what it says of a buffer is what a live run with the same numbers does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rushgate::config::Settings;
use rushgate::domain::Buffer;
use rushgate::inventory::memory::MemoryInventory;
use rushgate::plan::crowd::Shape;
use rushgate::plan::{self, ERROR, Gateway, Row, Scenario};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::servers;
use crate::site::{Backends, Servers, Site, eventually};
use crate::tcp_proxy::{Mode, Proxy, Rule, Way};

const NODES: usize = 4;
const STOCK: u32 = 1000;
/// A little more than there is, so that the crowd ends soon after the stock.
const BUYERS: u32 = 1150;
const WITHIN: Duration = Duration::from_millis(2300);
/// One way. So far away that what this machine takes for a call hardly counts.
const AWAY: Duration = Duration::from_millis(25);
/// How long a node waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Both ways, and what a call takes at the server and in between.
const ROUND_TRIP: Duration = Duration::from_millis(52);

/// What a live run came to.
#[derive(Debug)]
struct Live {
    calls: u64,
    sold_out: Duration,
    false_refusals: usize,
    granted: usize,
    wasted: u64,
}

/// What a buyer was told: when they asked, when they heard, whether it was yes.
type Heard = Arc<Mutex<Vec<(Instant, Instant, bool)>>>;

#[expect(clippy::print_stderr, reason = "it measures")]
#[tokio::test(flavor = "multi_thread")]
async fn a_live_run_does_what_the_planner_says_within_its_stated_error() {
    let upstream = servers::redis_url().split('/').nth(2).expect("an address").parse().expect("host and port");
    let link = Proxy::start(upstream, Mode::Forward).await;
    for way in [Way::ToServer, Way::ToClient] {
        link.rule(way, Rule::Delay(AWAY));
    }
    let servers =
        Servers { redis: format!("redis://{}", link.address), amqp: servers::amqp_url(), mysql: servers::mysql_url() };
    let mut site =
        Site::empty(Some(servers), &format!("inventory.timeout = \"{}\"", humantime::format_duration(TIMEOUT))).await;
    site.run(&["migrate"]).success("migrate");
    for _ in 0..NODES {
        site.add("gateway");
    }
    site.add("writer");
    site.ready().await;

    let mut lives = Vec::new();
    let buffers = [Buffer::Fraction(0.0), Buffer::Fraction(3.0)];
    let planned = planned(&buffers);
    for (index, (buffer, row)) in buffers.iter().zip(&planned).enumerate() {
        eventually("all living nodes are ready and hear of each other", || all_hear(&site)).await;
        let live = run(&mut site, &format!("planned-{index}"), *buffer, index).await;
        is_near(&live, row);
        eprintln!("{live:?} was planned as {row:?}");
        lives.push(live);
        site.add("gateway");
    }
    // The curve as a whole: what the larger buffer costs more, both say.
    assert!(planned[0].needless < planned[1].needless, "{planned:?}");
    assert!(lives[0].wasted < lives[1].wasted, "{lives:?} and not {planned:?}");
}

fn planned(buffers: &[Buffer]) -> Vec<Row> {
    let scenario = Scenario {
        stock: STOCK,
        nodes: u32::try_from(NODES).expect("a few"),
        survive: 1,
        buyers: u64::from(BUYERS),
        shape: Shape::Steady,
        within: WITHIN,
        skew: 1.0,
        budget: 10_000,
        round_trip: ROUND_TRIP,
        gateway: Gateway { inventory_timeout: TIMEOUT, ..Gateway::of(&Settings::default()) },
    };
    let stop = AtomicBool::new(false);
    let plan = plan::simulate(&scenario, buffers, 1, |clock| Arc::new(MemoryInventory::new(clock)), &stop);
    plan.expect("nobody stops it").rows
}

fn is_near(live: &Live, row: &Row) {
    let near = |is: f64, said: f64| (is / said - 1.0).abs() <= ERROR;
    let planned = Duration::from_millis(row.sold_out_ms.expect("the crowd is large enough"));
    assert!(near(live.sold_out.as_secs_f64(), planned.as_secs_f64()), "{live:?} and not {row:?}");
    #[expect(clippy::cast_precision_loss, reason = "calls are few")]
    let (calls, said) = (live.calls as f64, (row.calls.confirm + row.calls.refill) as f64);
    assert!(near(calls, said), "{live:?} and not {row:?}");
    assert_eq!(live.false_refusals as u64, row.false_refusals, "{live:?} and not {row:?}");
    assert_eq!(live.granted as u64, row.granted + row.pending, "{live:?} and not {row:?}");
}

/// Each buyer asks once, on time, at a door by turns; when half is sold, one node dies.
async fn run(site: &mut Site, sale: &str, buffer: Buffer, run: usize) -> Live {
    let document = json!({"name": "Planned", "currency": "CNY", "opens_at": "2020-01-01T00:00:00Z",
        "buffer": buffer.to_string(), "pools": [{"id": "standard", "capacity": STOCK, "price": 1}]});
    site.sale(sale, &document).await;
    let mut doors = site.gateways();
    // The first that were started die first; another takes its place behind the writer.
    let victim = run;
    let alive: Vec<_> = site.nodes.iter().filter(|node| node.public.is_some()).map(|node| node.admin.clone()).collect();
    let before = calls(&alive).await;
    let (granted, heard) = (Arc::new(AtomicUsize::new(0)), Heard::default());
    let (begun, mut buyers, mut lost) = (Instant::now(), JoinSet::new(), 0);
    for number in 0..BUYERS {
        tokio::time::sleep_until(begun + WITHIN * number / BUYERS).await;
        if doors.len() == NODES && granted.load(Ordering::Relaxed) >= STOCK as usize / 2 {
            lost = calls(&[site.nodes[victim].admin.clone()]).await;
            site.kill(victim);
            doors = site.gateways();
        }
        let door = doors[number as usize % doors.len()].clone();
        let other = doors[doors.len() - 1].clone();
        let (sale, granted, heard) = (sale.to_owned(), Arc::clone(&granted), Arc::clone(&heard));
        buyers.spawn(async move {
            let asked = Instant::now();
            let (buyer, key) = (format!("b{number}"), format!("k{number}"));
            let mut reply = claim(&door, &sale, (&buyer, &key)).await;
            if reply.is_err() {
                reply = claim(&other, &sale, (&buyer, &key)).await;
            }
            let is_yes = matches!(reply.as_ref().expect("an answer"), 200..=202);
            granted.fetch_add(usize::from(is_yes), Ordering::Relaxed);
            heard.lock().await.push((asked, Instant::now(), is_yes));
        });
    }
    buyers.join_all().await;
    let living: Vec<_> =
        site.nodes.iter().filter(|node| node.public.is_some()).map(|node| node.admin.clone()).collect();
    let after = calls(&living).await + lost;
    let heard = heard.lock().await;
    let yes = || heard.iter().filter(|(.., is_yes)| *is_yes);
    let last_asked = yes().map(|(asked, ..)| *asked).max().expect("somebody got one");
    let last_heard = yes().map(|(_, heard, _)| *heard).max().expect("somebody got one");
    let is_false = |(_, at, is_yes): &&(Instant, Instant, bool)| !is_yes && *at < last_asked;
    let mut wasted = 0;
    for admin in &living {
        let plan = admin.get(&format!("/admin/v1/sales/{sale}/plan"), &[]).await.expect("an answer");
        wasted += plan.body["pools"][0]["buffer_wasted_units"].as_u64().expect("a number");
    }
    Live {
        calls: after - before,
        sold_out: last_heard - begun,
        false_refusals: heard.iter().filter(is_false).count(),
        granted: yes().count(),
        wasted,
    }
}

async fn claim(door: &Client, sale: &str, (buyer, key): (&str, &str)) -> Result<u16, String> {
    door.claim(sale, buyer, Some(key), &json!({"quantity": 1})).await.map(|reply| reply.status)
}

/// The calls that these nodes have made for claims and refills.
async fn calls(nodes: &[Client]) -> u64 {
    let mut calls = 0;
    for node in nodes {
        let text = node.get("/metrics", &[]).await.expect("metrics").body;
        let text = text.as_str().expect("a text").to_owned();
        let of = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        calls += of("rushgate_inventory_call_duration_seconds_count{call=\"confirm\"}").unwrap_or(0);
        calls += of("rushgate_refills_total").expect("it refills");
    }
    calls
}

async fn all_hear(site: &Site) -> Result<(), String> {
    for node in site.nodes.iter().filter(|node| node.public.is_some()) {
        let ready = node.admin.get("/readyz?verbose", &[]).await?;
        if ready.status != 200 || ready.body.as_str().is_some_and(|said| said.contains("[!]partition")) {
            return Err(format!("{} is not ready: {ready:?}", node.name));
        }
        let nodes = node.admin.get("/admin/v1/nodes", &[]).await?.body;
        let count = nodes["nodes"].as_array().map_or(0, Vec::len);
        if count != NODES {
            return Err(format!("{} hears of {count}", node.name));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_from_live_takes_the_numbers_of_the_running_sale() {
    let site = Site::start(Backends::Embedded, "shard.buffer = \"20%\"").await;
    let document = json!({"name": "Two", "currency": "CNY", "opens_at": "2020-01-01T00:00:00Z",
        "pools": [{"id": "front", "capacity": 30, "price": 1}, {"id": "back", "capacity": 1, "price": 1}]});
    site.sale("live", &document).await;
    for (pool, key) in [("front", "a"), ("back", "b")] {
        let ask = json!({"lines": [{"pool": pool}]});
        let reply = site.gateway(0).claim("live", key, Some(key), &ask).await.expect("an answer");
        assert_eq!(reply.status, 201, "{reply:?}");
    }
    let plan =
        |flags: &[&str]| site.run(&[&["plan", "--from-live", "live", "--admin", site.admin().base()], flags].concat());
    eventually("this node has heard of both", || async {
        let told = site.admin().get("/admin/v1/sales/live/plan", &[]).await?.body;
        let free = [0, 1].map(|pool: usize| told["pools"][pool]["free"].clone());
        if free == [json!(29), json!(0)] { Ok(()) } else { Err(format!("{told}")) }
    })
    .await;
    let ran = plan(&["--pool", "front", "--json"]);
    ran.success("plan");
    let told: Value = serde_json::from_str(&ran.out).expect("JSON");
    let scenario = &told["scenario"];
    assert_eq!((&scenario["stock"], &scenario["nodes"], &scenario["survive"]), (&json!(29), &json!(1), &json!(0)));
    assert!(told["rows"].as_array().expect("rows").iter().any(|row| row["buffer"] == "20%"), "{told}");
    assert!(told["notes"][0].as_str().expect("a note").contains("not read from the running nodes"), "{told}");
    // What is given counts more than what is read.
    let more: Value = serde_json::from_str(&plan(&["--pool", "front", "--json", "--nodes", "3"]).out).expect("JSON");
    assert_eq!((&more["scenario"]["nodes"], &more["scenario"]["survive"]), (&json!(3), &json!(1)));
    let more: Value =
        serde_json::from_str(&plan(&["--pool", "back", "--json", "--stock", "5"]).out).expect("nothing has to be free");
    assert_eq!(more["scenario"]["stock"], 5);
    for (flags, why) in [
        (&["--pool", "back"][..], "nothing of back is free any more"),
        (&[], "the pools front, back; name one with --pool"),
    ] {
        let ran = plan(flags);
        assert!(ran.code == Some(1) && ran.err.contains(why), "{ran:?}");
    }
}
