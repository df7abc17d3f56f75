//! What is broken by hand in a running site: the audit names it, a dry run leaves it, a repair heals it. And dead letters, from
//! their parking to their end.

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor, MySqlConnection, Row};

use crate::servers;
use crate::site::{Backends, Ran, Site, concert, eventually};

const DONE: Option<i32> = Some(0);
const BROKEN: Option<i32> = Some(2);

/// A site with one sale and an order of each of two buyers, all of them stored.
async fn sold() -> (Site, [String; 2]) {
    let site = Site::start(Backends::Real, "").await;
    site.sale("s", &concert(10)).await;
    let mut orders = Vec::new();
    for buyer in ["alice", "bob"] {
        let reply = site.gateway(0).claim("s", buyer, Some("k"), &json!({"quantity": 1})).await.unwrap();
        assert_eq!(reply.status, 201, "{reply:?}");
        orders.push(reply.order());
    }
    site.audit("s");
    (site, orders.try_into().unwrap())
}

async fn sql(site: &Site, statement: String) {
    let mut conn = MySqlConnection::connect(&site.store_url()).await.unwrap();
    let done = conn.execute(AssertSqlSafe(statement)).await.unwrap();
    assert!(done.rows_affected() > 0);
}

fn audit(site: &Site, flags: &[&str]) -> (Ran, Value) {
    let ran = site.run(&[&["audit", "--json", "--wait", "10s"], flags].concat());
    let report = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, report)
}

/// Named, left by a dry run, healed, and clean.
fn is_healed(site: &Site, named: &str, kinds: &[&str]) -> Value {
    let (ran, report) = audit(site, &[]);
    assert_eq!(ran.code, BROKEN, "{ran:?}");
    assert!(ran.out.contains(named), "{named} is not named: {report:#}");
    let (ran, dry) = audit(site, &["--repair", "--dry-run"]);
    assert_eq!(ran.code, BROKEN, "{ran:?}");
    assert!(!dry["actions"].as_array().unwrap().is_empty(), "{dry:#}");
    let (ran, _) = audit(site, &[]);
    assert_eq!(ran.code, BROKEN, "a dry run changes nothing: {ran:?}");
    let (ran, repair) = audit(site, &["--repair"]);
    assert_eq!(ran.code, DONE, "{repair:#}");
    let done: Vec<_> =
        repair["actions"].as_array().unwrap().iter().map(|action| action["kind"].as_str().unwrap()).collect();
    assert_eq!(done, kinds, "{repair:#}");
    let (ran, report) = audit(site, &[]);
    assert_eq!((ran.code, &report["verdict"]), (DONE, &json!("clean")), "{report:#}");
    repair
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_row_is_gone_is_named_and_driven_again() {
    let (site, [alice, _]) = sold().await;
    sql(&site, format!("DELETE FROM orders WHERE order_id = UNHEX('{alice}')")).await;
    is_healed(&site, &alice, &["recount", "drive"]);
    let reply = site.gateway(0).order(&alice, "alice").await.unwrap();
    assert_eq!((reply.status, &reply.body["status"]), (200, &json!("held")), "{reply:?}");
    let log = site.admin().get("/admin/v1/changes?subject=s", &[]).await.unwrap();
    assert!(log.body.to_string().contains("repair.drive"), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_of_the_inventory_that_was_changed_is_named_and_rebuilt_from_the_store() {
    let (site, [alice, _]) = sold().await;
    // A unit that is held becomes one that is free, so the sum is right and the unit would be sold twice.
    let client = redis::Client::open(servers::redis_url()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let pattern = format!("{}:*:counters", site.namespace());
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.unwrap();
    let [key] = keys.as_slice() else { panic!("one scope has counters: {keys:?}") };
    let counter: String = redis::cmd("HGET").arg(key).arg("s/standard/0").query_async(&mut redis).await.unwrap();
    assert_eq!(counter, "10 8 2 0", "capacity free held sold");
    let () = redis::cmd("HSET").arg(key).arg("s/standard/0").arg("10 9 1 0").query_async(&mut redis).await.unwrap();
    is_healed(&site, "the inventory has 1 held and 0 sold, the store 2 and 0", &["rebuild"]);
    let again = site.gateway(0).claim("s", "alice", Some("k"), &json!({"quantity": 1})).await.unwrap();
    assert_eq!((again.status, again.order()), (200, alice), "the rebuilt inventory knows it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_was_changed_is_named_and_counted_again() {
    let (site, _) = sold().await;
    sql(&site, "UPDATE pool_legs SET live = 5 WHERE sale_id = 's'".to_owned()).await;
    let repair = is_healed(&site, "standard/0: the guard counts 5 live units, the orders 2", &["recount"]);
    assert_eq!(repair["actions"][0]["what"], "count the guard's live units from the orders; standard/0: 5 → 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_goes_from_its_parking_to_the_store_and_by_a_replay_into_its_row() {
    let (site, [alice, bob]) = sold().await;
    let mut conn = MySqlConnection::connect(&site.store_url()).await.unwrap();
    let row =
        conn.fetch_one(AssertSqlSafe(format!("SELECT * FROM orders WHERE order_id = UNHEX('{alice}')"))).await.unwrap();
    let text = |column: &str| row.get::<String, _>(column);
    let number = |column: &str| row.get::<i64, _>(column);
    let record = format!(
        "{alice} {:016x} s alice {} {} {} CNY {}",
        number("fingerprint"),
        number("granted_at"),
        number("pay_by"),
        number("amount"),
        text("line_items")
    );
    let body = format!("rushgate/1 orders p0.e{} -\n{record}", number("epoch"));
    sql(&site, format!("DELETE FROM orders WHERE order_id = UNHEX('{alice}')")).await;
    sql(&site, "UPDATE pool_legs SET live = live - 1".to_owned()).await;
    let broker = Connection::connect(&servers::amqp_url(), ConnectionProperties::default()).await.unwrap();
    let channel = broker.create_channel().await.unwrap();
    // One that was parked, and one in a lane that no writer can read.
    for (queue, body) in [("dead", body.as_bytes()), ("lane.0", b"odd")] {
        let (queue, options) = (format!("{}.{queue}", site.namespace()), BasicPublishOptions::default());
        let sent = channel.basic_publish("".into(), queue.into(), options, body, BasicProperties::default()).await;
        let _confirm = sent.unwrap();
    }
    let letters = eventually("the writer has kept both", || async {
        let reply = site.admin().get("/admin/v1/dead-letters", &[]).await?;
        if reply.body["in_store"] == 2 { Ok(reply.body) } else { Err(format!("{reply:?}")) }
    })
    .await;
    let mut kept = letters["letters"].as_array().unwrap().clone();
    kept.sort_by_key(|letter| letter["holds"].is_null());
    assert_eq!((&letters["messages"], &kept[0]["orders"]), (&json!(2), &json!([alice])));
    assert_eq!((&kept[1]["lane"], &kept[1]["preview"]), (&json!("0"), &json!("odd")), "{letters:#}");
    assert!(kept[1]["reason"].as_str().is_some_and(|why| why.starts_with("not a message")), "{letters:#}");
    let (ran, report) = audit(&site, &[]);
    assert_eq!(ran.code, BROKEN);
    let lettered =
        report["sales"][0]["findings"].as_array().unwrap().iter().find(|finding| finding["invariant"] == "I3");
    assert_eq!(lettered.unwrap()["orders"], json!([alice]), "{report:#}");
    assert!(!report.to_string().contains(&bob));

    let listed = site.run(&["dead-letters", "list"]);
    listed.success("list");
    assert!(listed.out.contains("1 orders") && listed.out.contains("2 dead letters"), "{}", listed.out);
    let [first, second] = [0, 1].map(|n| kept[n]["id"].to_string());
    let shown = site.run(&["dead-letters", "show", &first]);
    assert!(shown.out.contains(&record), "{}", shown.out);
    site.run(&["dead-letters", "replay", &first, "--dry-run"]).success("a dry run");
    assert_eq!(site.run(&["audit"]).code, BROKEN, "a dry run does nothing");
    site.run(&["dead-letters", "replay", &first]).success("replay");
    eventually("the order is a row again", || async {
        let reply = site.admin().get(&format!("/admin/v1/orders/{alice}"), &[]).await?;
        if reply.body["recorded_at"].is_string() { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    let third = odd_ones_come_back(&site, &second).await;
    site.run(&["dead-letters", "drop", &third, "--dry-run"]).success("a dry run");
    site.run(&["dead-letters", "show", &third]).success("a dry run does nothing");
    site.run(&["dead-letters", "drop", &third]).success("drop");
    assert_eq!(site.run(&["dead-letters", "drop", &third]).code, Some(1), "it is gone");
    let report = site.audit("s");
    assert_eq!((&report["verdict"], &report["motion"]["dead_letters"]), (&json!("clean"), &json!(0)));
    let metrics = site.admin().get("/metrics", &[]).await.unwrap();
    assert!(metrics.body.to_string().contains("rushgate_dead_letters"), "{metrics:?}");
}

/// What cannot be read is parked again when it is replayed, as another letter; all of it by the admin API. Returns what it is then.
async fn odd_ones_come_back(site: &Site, letter: &str) -> String {
    let path = format!("/admin/v1/dead-letters/{letter}");
    let shown = site.admin().get(&path, &[]).await.unwrap();
    assert_eq!((shown.status, &shown.body["text"]), (200, &json!("odd")), "{shown:?}");
    let dry = site.admin().post(&format!("{path}/replay?dry_run=true"), &[], &json!({})).await.unwrap();
    assert_eq!((dry.status, &dry.body["dry_run"]), (200, &json!(true)), "{dry:?}");
    let replayed = site.admin().post(&format!("{path}/replay"), &[], &json!({})).await.unwrap();
    assert_eq!((replayed.status, &replayed.body["effect"]), (200, &json!("applied")), "{replayed:?}");
    let again = eventually("it is parked again", || async {
        let reply = site.admin().get("/admin/v1/dead-letters", &[]).await?;
        let id = reply.body["letters"][0]["id"].as_u64();
        id.filter(|id| id.to_string() != letter).ok_or_else(|| format!("{reply:?}"))
    })
    .await;
    let gone = site.admin().post(&format!("{path}/replay"), &[], &json!({})).await.unwrap();
    assert_eq!((gone.status, &gone.body["code"]), (404, &json!("unknown_dead_letter")), "{gone:?}");
    again.to_string()
}
