//! Traces through real processes and real servers: from the request's headers over the message to the writer, and, in a build with the
//! feature `otlp`, to a collector.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::json;

use crate::site::{Backends, Site, concert, eventually};

#[expect(dead_code, reason = "the gateway suite asks more")]
#[path = "../support/client.rs"]
mod client;
#[cfg(feature = "otlp")]
mod collector;
#[path = "../support/database.rs"]
mod database;
#[cfg(feature = "otlp")]
mod otlp;
#[path = "../support/servers.rs"]
mod servers;
#[expect(dead_code, reason = "the gateway suite does more with it")]
#[path = "../support/site.rs"]
mod site;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A `traceparent` of this trace, which is recorded or not.
fn traceparent(trace: &str, is_recorded: bool) -> String {
    format!("00-{trace}-{PARENT}-{:02x}", u8::from(is_recorded))
}

/// Buys one unit in this trace; returns the order.
async fn buy(site: &Site, buyer: &str, traceparent: &str) -> String {
    let headers = [("x-buyer-id", buyer), ("traceparent", traceparent), ("tracestate", "rojo=1")];
    let reply = site.gateway(0).post("/v1/sales/s/orders", &headers, &json!({"quantity": 1})).await.unwrap();
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.order()
}

/// A queue that gets a copy of every message of the first epoch.
async fn copies(site: &Site) -> (Connection, Channel) {
    let connection = Connection::connect(&servers::amqp_url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let (copies, exchange) = (format!("{}.copies", site.namespace()), format!("{}.orders.p0.e1", site.namespace()));
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(copies.clone().into(), options, FieldTable::default()).await.unwrap();
    for lane in 0..4 {
        let (key, options) = (lane.to_string(), QueueBindOptions::default());
        let (queue, exchange) = (copies.clone().into(), exchange.clone().into());
        channel.queue_bind(queue, exchange, key.into(), options, FieldTable::default()).await.unwrap();
    }
    (connection, channel)
}

/// The next copy: its header of traces, if it has one, and its body.
async fn copy(site: &Site, channel: &Channel) -> (Option<String>, String) {
    let queue = format!("{}.copies", site.namespace());
    let message = eventually("a message is copied", || async {
        let options = BasicGetOptions { no_ack: true };
        channel.basic_get(queue.clone().into(), options).await.unwrap().ok_or_else(|| "none yet".to_owned())
    })
    .await;
    let headers = message.properties.headers().as_ref();
    let traces = headers.and_then(|headers| match headers.inner().get("traces")? {
        AMQPValue::LongString(text) => Some(String::from_utf8(text.as_bytes().to_vec()).unwrap()),
        other => panic!("{other:?}"),
    });
    (traces, String::from_utf8(message.data.clone()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_carries_the_traces_of_its_orders_that_are_recorded_and_no_others() {
    let mut site = Site::new(Backends::Real, "log.filter = \"info,rushgate::http=debug\"").await;
    site.environment.push(("RUSHGATE__LOG__FORMAT".to_owned(), "json".to_owned()));
    site.add("gateway");
    site.add("writer");
    site.ready().await;
    site.sale("s", &concert(10)).await;
    let (_connection, channel) = copies(&site).await;

    let order = buy(&site, "ann", &traceparent(TRACE, true)).await;
    let (traces, body) = copy(&site, &channel).await;
    assert_eq!(
        traces,
        Some(format!("{order} 00-{TRACE}-{PARENT}-01 rojo=1")),
        "nobody exports here, so nothing stands between"
    );
    assert!(body.starts_with("rushgate/1 orders p0.e1 ") && !body.contains(TRACE), "{body}");

    for quiet in [traceparent(&TRACE.replace("4b", "aa"), false), "00-nonsense".to_owned()] {
        buy(&site, &format!("bob-{}", quiet.len()), &quiet).await;
        assert_eq!(copy(&site, &channel).await.0, None, "{quiet}");
    }

    // Whose trace it is stands in every log line about the request, recorded or not, and in no other.
    let told: Vec<serde_json::Value> =
        site.said(0).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let answered: Vec<_> = told.iter().filter(|line| line["status"] == 201).map(|line| &line["trace_id"]).collect();
    assert_eq!(answered, [&json!(TRACE), &json!(TRACE.replace("4b", "aa")), &serde_json::Value::Null]);

    site.audit("s");
    let balance = site.admin().get("/admin/v1/sales/s/balance", &[]).await.unwrap();
    assert_eq!(balance.body["legs"][0]["store"]["held"], 3, "the writer has stored all of them: {balance:?}");
}

#[cfg(not(feature = "otlp"))]
#[tokio::test]
async fn a_build_that_exports_nothing_says_so() {
    let site = Site::new(Backends::Embedded, "trace.otlp_endpoint = \"http://127.0.0.1:4318\"").await;
    let ran = site.run(&["config", "check"]);
    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(ran.err.contains("was built with the feature otlp"), "{ran:?}");
}
