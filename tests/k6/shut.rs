//! A site that grants nothing, or that the crowd does not reach: nothing is untrue, and the run proves nothing, so it must fail.

use serde_json::json;

use crate::run::{CROSSED, k6};
use crate::servers;
use crate::site::{Backends, Site, concert, eventually};
use crate::tcp_proxy::{Mode, Proxy};

/// One process whose queue is behind a proxy.
async fn behind_a_proxy() -> (Site, Proxy) {
    let uri: lapin::uri::AMQPUri = servers::amqp_url().parse().unwrap();
    let address = format!("{}:{}", uri.authority.host, uri.authority.port);
    let proxy = Proxy::start(address.parse().unwrap(), Mode::Forward).await;
    let mut site =
        Site::new(Backends::Real, "queue.confirm_timeout = \"500ms\"\nqueue.unconfirmed_max = \"250ms\"").await;
    let through = servers::amqp_url().replace(&address, &proxy.address.to_string());
    site.configure(&format!("queue.url = {through:?}"));
    site.add("all");
    site.ready().await;
    (site, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_whose_queue_is_away_serves_nobody_and_fails_the_run() {
    let (site, queue) = behind_a_proxy().await;
    site.sale("s", &concert(5000)).await;
    queue.set(Mode::Refusing);
    queue.cut();
    eventually("nothing is granted any more", || async {
        let reply = site.gateway(0).claim("s", &servers::unique("buyer"), None, &json!({"quantity": 1})).await?;
        if reply.status == 503 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    let settings = [("DURATION", "2s"), ("RATE", "20"), ("STOCK", "30"), ("PATIENCE", "3s")];
    let ran = k6(&site, "rush", &settings).await;
    ran.ended(CROSSED, "rush");
    assert_eq!(ran.count("rushgate_accepted"), 0, "{}", ran.out);
    assert!(
        ran.out.contains("✗ UNSERVED: ") && ran.out.contains("✗ NOT VERIFIED: at the end a gateway"),
        "{}",
        ran.out
    );
    assert!(!ran.out.contains("STRANDED") && !ran.out.contains("PENDING"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_did_not_come_fails_the_run() {
    let site = Site::start(Backends::Embedded, "").await;
    // One buyer cannot be a thousand.
    let settings = [("DURATION", "1s"), ("RATE", "1000"), ("STOCK", "10"), ("VUS", "1"), ("AWAY", "0")];
    let ran = k6(&site, "rush", &settings).await;
    ran.ended(CROSSED, "rush");
    assert!(ran.out.contains("✗ dropped_iterations: count<=0 is not so"), "{}", ran.out);
    assert_eq!(ran.report["verdict"]["broken"], json!([]), "{}", ran.out);
}
