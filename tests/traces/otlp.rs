//! What a collector hears, and what becomes of a sale when it does not.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::collector::{Collector, Span};
use crate::site::{Backends, Site, concert, eventually};
use crate::{PARENT, TRACE, buy, traceparent};

const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const PRODUCER: u64 = 4;
const CONSUMER: u64 = 5;
const CLAIM: &str = "POST /v1/sales/{sale}/orders";

/// How long a stop may take at the very most where nothing is in flight.
const STOP: Duration = Duration::from_secs(8);

/// This span of a trace, when it comes.
async fn span(collector: &Collector, trace: &str, name: &str) -> Span {
    eventually(&format!("{name} of {trace}"), || async {
        let spans = collector.spans();
        let found = spans.iter().find(|span| span.trace == trace && span.name == name);
        found.cloned().ok_or_else(|| format!("{spans:?}"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_told_from_its_arrival_to_its_row_by_all_who_worked_on_it() {
    let collector = Collector::start().await;
    let site = Site::cluster(1, 1, &format!("trace.otlp_endpoint = {:?}", collector.endpoint())).await;
    site.sale("s", &concert(10)).await;
    let quiet = TRACE.replace("4b", "aa");
    buy(&site, "bob-the-buyer", &traceparent(&quiet, false)).await;
    let order = buy(&site, "ann-the-buyer", &traceparent(TRACE, true)).await;

    let claim = span(&collector, TRACE, CLAIM).await;
    assert_eq!((claim.kind, &*claim.parent, &*claim.state, &*claim.node), (SERVER, PARENT, "rojo=1", "gateway-0"));
    for attribute in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/sales/{sale}/orders"),
        ("http.response.status_code", "201"),
        ("url.scheme", "http"),
    ] {
        let attribute = (attribute.0.to_owned(), attribute.1.to_owned());
        assert!(claim.attributes.contains(&attribute), "{attribute:?} in {claim:?}");
    }
    for (name, kind, node) in [
        ("confirm claims", CLIENT, "gateway-0"),
        ("publish orders", PRODUCER, "gateway-0"),
        ("store orders", CONSUMER, "writer-1"),
    ] {
        let work = span(&collector, TRACE, name).await;
        assert_eq!((work.kind, &*work.node, &work.parent), (kind, node, &claim.id), "{work:?}");
        assert_eq!(work.links, std::slice::from_ref(&claim.id), "{work:?}");
        assert!(work.ended >= work.began && work.began >= claim.began, "{work:?} {claim:?}");
    }

    let headers = [("x-buyer-id", "ann-the-buyer"), ("traceparent", &*traceparent(TRACE, true))];
    let path = format!("/v1/orders/{order}");
    let reply = eventually("the order is stored", || async {
        let reply = site.gateway(0).post(&format!("{path}/payment"), &headers, &json!({"method": "sandbox"})).await?;
        if reply.status == 200 { Ok(reply) } else { Err(format!("{reply:?}")) }
    })
    .await;
    assert_eq!(reply.body["status"], "paid");
    assert_eq!(span(&collector, TRACE, "POST /v1/orders/{order}/payment").await.kind, SERVER);

    let told = collector.bytes();
    assert!(!told.windows(9).any(|bytes| bytes == b"the-buyer"), "who buys is nobody's business");
    assert!(collector.spans().iter().all(|span| span.trace == TRACE), "the other one is not recorded");
    let exported = site.nodes[0].admin.get("/metrics", &[]).await.unwrap();
    assert!(exported.body.as_str().unwrap().contains("rushgate_spans_dropped_total 0"), "{exported:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ratio_begins_traces_and_what_is_told_last_is_exported_before_the_end() {
    let collector = Collector::start().await;
    let settings = format!("trace.otlp_endpoint = {:?}\ntrace.sample_ratio = 1", collector.endpoint());
    let mut site = Site::start(Backends::Embedded, &settings).await;
    site.sale("s", &concert(10)).await;
    let reply = site.gateway(0).claim("s", "ann", None, &json!({"quantity": 1})).await.unwrap();
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(site.terminate(0).await, Some(0));
    let spans = collector.spans();
    let claim = spans.iter().find(|span| span.name == CLAIM).unwrap_or_else(|| panic!("{spans:?}"));
    assert_eq!(claim.parent, "", "the trace begins here");
    for name in ["confirm claims", "publish orders", "store orders"] {
        assert!(spans.iter().any(|span| span.name == name && span.parent == claim.id), "{name} in {spans:?}");
    }
    assert!(!spans.iter().any(|span| span.name.contains("readyz")), "{spans:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_silent_costs_no_claim_no_more_than_one_warning_and_no_long_stop() {
    // One takes connections and never says anything, at the other nobody listens.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (address, fails_at_once) in [(silent.local_addr().unwrap(), false), (closed, true)] {
        let settings = format!(
            "trace.otlp_endpoint = \"http://{address}\"\ntrace.sample_ratio = 1.0\nhttp.claims_per_buyer = 0\nsale.limit_per_buyer = 1000"
        );
        let mut site = Site::start(Backends::Embedded, &settings).await;
        site.sale("s", &concert(1000)).await;
        for _ in 0..50 {
            let reply = site.gateway(0).claim("s", "ann", None, &json!({"quantity": 1})).await.unwrap();
            assert_eq!(reply.status, 201, "{reply:?}");
        }
        eventually("spans are dropped and counted", || async {
            let page = site.admin().get("/metrics", &[]).await?.body;
            let count = |line: &str| line.strip_prefix("rushgate_spans_dropped_total ")?.parse::<u64>().ok();
            let dropped = page.as_str().unwrap_or_default().lines().find_map(count).unwrap_or(0);
            if dropped >= if fails_at_once { 50 } else { 1 } { Ok(()) } else { Err(format!("{dropped}")) }
        })
        .await;
        site.gateway(0).claim("s", "ann", None, &json!({"quantity": 1})).await.unwrap();
        let begun = Instant::now();
        assert_eq!(site.terminate(0).await, Some(0));
        assert!(begun.elapsed() < STOP, "{:?}", begun.elapsed());
        let said = site.said(0);
        assert_eq!(said.matches("spans are not exported").count(), 1, "{said}");
        drop(site);
    }
}
