//! Notices of a provider in every order, number and lateness, and orders that come too late: nothing is sold twice, and each payment is
//! on one paid order or due back once.

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use rushgate::domain::{Epoch, Order, Partition, Scope, record};
use rushgate::queue::envelope::Envelope;
use serde_json::{Value, json};
use sqlx::{Connection as _, MySqlConnection};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::orders::{SHORT, becomes, callback, claim, short_sale};
use crate::over_both;
use crate::servers;
use crate::site::{Backends, Site, concert, eventually};

const PROVIDER: &str = "payment.provider = \"signed-callback\"\npayment.callback_secret = \"s3cret\"";

fn notice(event: &str, order: &str) -> Value {
    json!({"event": event, "order": order, "amount": 55350, "currency": "CNY", "status": "paid"})
}

/// How many payments this process has counted as due back.
async fn refunds_counted(site: &Site) -> String {
    let metrics = site.admin().get("/metrics", &[]).await.unwrap();
    let text = metrics.body.as_str().expect("a text").to_owned();
    let line = text.lines().find(|line| line.starts_with("rushgate_refund_due_total"));
    line.and_then(|line| line.rsplit(' ').next()).unwrap_or("0").to_owned()
}

/// All payments of an order, by their states.
async fn payments(site: &Site, order: &str) -> Vec<(String, String)> {
    let reply = site.admin().get(&format!("/admin/v1/orders/{order}"), &[]).await.unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut payments: Vec<_> = reply.body["payments"]
        .as_array()
        .unwrap_or_else(|| panic!("no payments: {reply:?}"))
        .iter()
        .map(|payment| (text(&payment["event"]), text(&payment["state"])))
        .collect();
    payments.sort_unstable();
    payments
}

/// Tells of a payment until it is settled.
async fn settled(gateway: &Client, notice: &Value) -> Value {
    eventually("the payment is settled", || async {
        let reply = callback(gateway, notice).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let waits = matches!(reply.body["outcome"].as_str(), Some("late" | "unmatched"));
        if waits { Err(format!("{reply:?}")) } else { Ok(reply.body) }
    })
    .await
}

over_both! {
    async fn a_payment_after_expiry_takes_a_unit_that_is_free(backends: Backends) {
        let site = Site::start(backends, &format!("{SHORT}\n{PROVIDER}")).await;
        site.sale("s", &short_sale(1)).await;
        let gateway = site.gateway(0);
        let order = claim(gateway, "alice").await.order();
        becomes(gateway, &order, "alice", "expired").await;
        let heard = settled(gateway, &notice("ev-1", &order)).await;
        assert_eq!((&heard["outcome"], &heard["status"]), (&json!("paid"), &json!("paid")), "{heard}");
        becomes(gateway, &order, "alice", "paid").await;
        eventually("it is sold out", || async {
            let reply = claim(gateway, "bob").await;
            if (reply.status, reply.code()) == (409, "sold_out") { Ok(()) } else { Err(format!("{reply:?}")) }
        })
        .await;
        assert_eq!(payments(&site, &order).await, [("ev-1".to_owned(), "applied".to_owned())]);
        site.audit("s");
    }

    async fn a_payment_after_expiry_is_due_back_once_when_nothing_is_free(backends: Backends) {
        let site = Site::start(backends, &format!("{SHORT}\n{PROVIDER}")).await;
        site.sale("s", &short_sale(1)).await;
        let gateway = site.gateway(0);
        let order = claim(gateway, "alice").await.order();
        let bob = eventually("bob gets it", || async {
            let reply = claim(gateway, "bob").await;
            if reply.status == 201 { Ok(reply.order()) } else { Err(format!("{reply:?}")) }
        })
        .await;
        let paid = settled(gateway, &notice("ev-bob", &bob)).await;
        assert_eq!(paid["outcome"], "paid", "{paid}");
        for _ in 0..5 {
            let heard = settled(gateway, &notice("ev-1", &order)).await;
            assert_eq!((&heard["outcome"], &heard["status"]), (&json!("refund_due"), &json!("expired")), "{heard}");
        }
        assert_eq!(payments(&site, &order).await, [("ev-1".to_owned(), "refund_due".to_owned())]);
        assert_eq!(refunds_counted(&site).await, "1", "a provider's repetition is no second refund");
        site.audit("s");
    }

    async fn the_same_notice_a_hundred_times_at_once_pays_once(backends: Backends) {
        let site = Site::start(backends, PROVIDER).await;
        site.sale("s", &concert(2)).await;
        let order = claim(site.gateway(0), "alice").await.order();
        let mut notices = JoinSet::new();
        for _ in 0..100 {
            let (gateway, notice) = (site.gateway(0).clone(), notice("ev-1", &order));
            notices.spawn(async move { callback(&gateway, &notice).await });
        }
        for reply in notices.join_all().await {
            // Those that come before the order's row wait for it.
            let known = matches!(reply.body["outcome"].as_str(), Some("paid" | "unmatched"));
            assert!(reply.status == 503 || (reply.status == 200 && known), "{reply:?}");
        }
        let heard = settled(site.gateway(0), &notice("ev-1", &order)).await;
        assert_eq!(heard["outcome"], "paid", "{heard}");
        assert_eq!(payments(&site, &order).await, [("ev-1".to_owned(), "applied".to_owned())]);
        assert_eq!(refunds_counted(&site).await, "0");
        site.audit("s");
    }

    async fn of_many_payments_at_once_one_is_applied_and_the_others_are_due_back(backends: Backends) {
        let site = Site::start(backends, PROVIDER).await;
        site.sale("s", &concert(2)).await;
        let order = claim(site.gateway(0), "alice").await.order();
        let mut notices = JoinSet::new();
        for event in 0..6 {
            let (gateway, notice) = (site.gateway(0).clone(), notice(&format!("ev-{event}"), &order));
            notices.spawn(async move { settled(&gateway, &notice).await });
        }
        let outcomes = notices.join_all().await;
        let of = |outcome: &str| outcomes.iter().filter(|heard| heard["outcome"] == outcome).count();
        assert_eq!((of("paid"), of("refund_due")), (1, 5), "{outcomes:?}");
        let states = payments(&site, &order).await;
        assert_eq!(states.iter().filter(|(_, state)| state == "applied").count(), 1, "{states:?}");
        assert_eq!(refunds_counted(&site).await, "5");
        becomes(site.gateway(0), &order, "alice", "paid").await;
        site.audit("s");
    }

    async fn a_notice_of_an_order_that_nobody_has_is_kept(backends: Backends) {
        let site = Site::start(backends, PROVIDER).await;
        site.sale("s", &concert(1)).await;
        for _ in 0..3 {
            let reply = callback(site.gateway(0), &notice("ev-1", &"ab".repeat(16))).await;
            assert_eq!((reply.status, reply.body["outcome"].as_str()), (200, Some("unmatched")), "{reply:?}");
        }
        assert_eq!(claim(site.gateway(0), "alice").await.status, 201, "nothing was taken for it");
        site.audit("s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_comes_before_the_order_is_stored_pays_it_when_it_is() {
    let mut site = Site::cluster(1, 1, PROVIDER).await;
    site.sale("s", &concert(2)).await;
    let gateway = site.gateway(0).clone();
    site.kill(1);
    let order = claim(&gateway, "alice").await;
    assert_eq!(order.status, 201, "the broker has it: {order:?}");
    let order = order.order();
    for event in ["ev-1", "ev-1", "ev-2"] {
        let reply = callback(&gateway, &notice(event, &order)).await;
        assert_eq!((reply.status, reply.body["outcome"].as_str()), (200, Some("unmatched")), "{reply:?}");
    }
    site.add("writer");
    becomes(&gateway, &order, "alice", "paid").await;
    let expected = [("ev-1".to_owned(), "applied".to_owned()), ("ev-2".to_owned(), "refund_due".to_owned())];
    assert_eq!(payments(&site, &order).await, expected);
    assert_eq!(refunds_counted(&site).await, "1", "the writer has counted it");
    site.audit("s");
}

/// An order of one unit, as a gateway of an epoch that is over would have sent it.
fn straggler(digit: &str) -> Order {
    let id = digit.repeat(32);
    record::parse(&format!("{id} 0 s late-{digit} 1000 301000 55350 CNY standard/0/1/1/-/-")).expect("an order")
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_an_epoch_that_is_over_are_readmitted_or_refused() {
    let site = Site::start(Backends::Real, "queue.relay_after = \"2100ms\"").await;
    site.sale("s", &concert(2)).await;
    let gateway = site.gateway(0);
    assert_eq!(claim(gateway, "alice").await.status, 201);
    site.lose_the_inventory().await;
    let mut store = MySqlConnection::connect(&site.store_url()).await.unwrap();
    let mut second_epoch_is_open = async || {
        let select = "SELECT COUNT(*) FROM inventory_partitions WHERE state = 'open' AND min_epoch = 2";
        sqlx::query_scalar::<_, i64>(select).fetch_one(&mut store).await.unwrap() == 1
    };
    let begun = tokio::time::Instant::now();
    while !second_epoch_is_open().await {
        assert!(begun.elapsed() < crate::site::PATIENCE, "the second epoch does not open");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    let connection = Connection::connect(&servers::amqp_url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let first_epoch = Scope { partition: Partition(0), epoch: Epoch(1) };
    for digit in ["a", "b"] {
        let body = Envelope::orders(first_epoch, None, vec![straggler(digit)]).encode();
        let lane = format!("{}.lane.0", site.namespace()).into();
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        channel.basic_publish("".into(), lane, options, &body, properties).await.unwrap().await.unwrap();
    }
    eventually("one is stored and the other refused", || async {
        let refused = site.admin().get("/admin/v1/stale-orders", &[]).await?;
        let readmitted = site.admin().get("/admin/v1/stale-orders?state=readmitted", &[]).await?;
        let [refused, readmitted] =
            [refused, readmitted].map(|reply| reply.body["orders"].as_array().cloned().unwrap());
        if (refused.len(), readmitted.len()) != (1, 1) {
            return Err(format!("{refused:?} {readmitted:?}"));
        }
        assert_eq!(refused[0]["reason"], "all_held");
        let order = readmitted[0]["order"].as_str().unwrap();
        let row = gateway.order(order, &format!("late-{}", &order[..1])).await?;
        assert_eq!((row.status, &row.body["status"]), (200, &json!("held")), "{row:?}");
        Ok(())
    })
    .await;
    let balance = site.admin().get("/admin/v1/sales/s/balance", &[]).await.unwrap();
    assert_eq!((&balance.body["stale"], &balance.body["stale_refused"]), (&json!(0), &json!(1)), "{balance:?}");
    let report = site.audit("s");
    assert!(
        report["sales"][0]["notes"].to_string().contains("1 orders came too late for their epoch and were refused")
    );
}
