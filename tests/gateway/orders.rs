//! What becomes of an order: payment, cancel, expiry, and the units that come back.

use rushgate::clock::{Clock, SystemClock};
use serde_json::json;

use crate::client::{Client, Reply};
use crate::over_both;
use crate::site::{Site, concert, eventually};

/// Holds nothing for longer than a second.
pub(crate) const SHORT: &str = "payment.grace = \"0s\"\npayment.expiry_interval = \"50ms\"";

pub(crate) fn short_sale(capacity: u32) -> serde_json::Value {
    let mut sale = concert(capacity);
    sale["hold"] = json!("1s");
    sale
}

pub(crate) async fn claim(gateway: &Client, buyer: &str) -> Reply {
    gateway.claim("s", buyer, None, &json!({"quantity": 1})).await.unwrap()
}

pub(crate) async fn becomes(gateway: &Client, order: &str, buyer: &str, status: &str) {
    eventually(&format!("{order} is {status}"), || async {
        let reply = gateway.order(order, buyer).await?;
        if reply.body["status"] == status { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
}

async fn stored(gateway: &Client, order: &str, buyer: &str) {
    becomes(gateway, order, buyer, "held").await;
    eventually("the store has it", || async {
        // A cancel needs the row; a payment before the row waits for it.
        let reply = gateway.order(order, buyer).await?;
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
}

over_both! {
    async fn a_paid_order_stays_paid(backends: Backends) {
        let site = Site::start(backends, SHORT).await;
        site.sale("s", &short_sale(5)).await;
        let gateway = site.gateway(0);
        let order = claim(gateway, "alice").await.order();
        eventually("paid", || async {
            let paid = gateway.pay(&order, "alice").await?;
            if paid.body["status"] == "paid" { Ok(()) } else { Err(format!("{paid:?}")) }
        })
        .await;
        // A hold of somebody else, taken later, has expired before we look again.
        let other = claim(gateway, "bob").await.order();
        becomes(gateway, &other, "bob", "expired").await;
        becomes(gateway, &order, "alice", "paid").await;
        let again = gateway.pay(&order, "alice").await.unwrap();
        assert_eq!((again.status, again.body["status"].as_str()), (200, Some("paid")), "paying twice is paying once");
        site.audit("s");
    }

    async fn an_unpaid_unit_is_sold_again(backends: Backends) {
        let site = Site::start(backends, SHORT).await;
        site.sale("s", &short_sale(1)).await;
        let gateway = site.gateway(0);
        let order = claim(gateway, "alice").await.order();
        let bob = eventually("bob gets it", || async {
            let reply = claim(gateway, "bob").await;
            if reply.status == 201 { Ok(reply) } else { Err(format!("{reply:?}")) }
        })
        .await;
        becomes(gateway, &order, "alice", "expired").await;
        assert_ne!(bob.order(), order);
        let late = gateway.pay(&order, "alice").await.unwrap();
        assert_eq!((late.status, late.code()), (409, "not_held"), "{late:?}");
    }

    async fn a_late_retry_meets_its_own_end(backends: Backends) {
        let site = Site::start(backends, SHORT).await;
        site.sale("s", &short_sale(5)).await;
        let gateway = site.gateway(0);
        let body = json!({"quantity": 1});
        let order = gateway.claim("s", "alice", Some("k"), &body).await.unwrap().order();
        becomes(gateway, &order, "alice", "expired").await;
        eventually("the retry hears that it expired", || async {
            let again = gateway.claim("s", "alice", Some("k"), &body).await?;
            assert_eq!((again.status, again.order()), (200, order.clone()), "{again:?}");
            if again.body["status"] == "expired" { Ok(()) } else { Err(format!("{again:?}")) }
        })
        .await;
        // Who wants another try sends another key.
        let fresh = gateway.claim("s", "alice", Some("k2"), &body).await.unwrap();
        assert_eq!(fresh.status, 201, "{fresh:?}");
    }

    async fn a_cancelled_hold_is_for_sale_again(backends: Backends) {
        let site = Site::start(backends, "").await;
        site.sale("s", &concert(1)).await;
        let gateway = site.gateway(0);
        let order = claim(gateway, "alice").await.order();
        stored(gateway, &order, "alice").await;
        let path = format!("/v1/orders/{order}");
        let stranger = gateway.send(hyper::Method::DELETE, &path, &[("x-buyer-id", "mallory")], None).await.unwrap();
        assert_eq!(stranger.status, 404, "{stranger:?}");
        eventually("it is cancelled", || async {
            let reply = gateway.send(hyper::Method::DELETE, &path, &[("x-buyer-id", "alice")], None).await?;
            if reply.status == 200 && reply.body["status"] == "cancelled" { Ok(()) } else { Err(format!("{reply:?}")) }
        })
        .await;
        eventually("bob gets it", || async {
            let reply = claim(gateway, "bob").await;
            if reply.status == 201 { Ok(()) } else { Err(format!("{reply:?}")) }
        })
        .await;
        site.audit("s");
    }

    async fn nobody_sees_another_buyers_order(backends: Backends) {
        let site = Site::start(backends, "").await;
        site.sale("s", &concert(1)).await;
        let gateway = site.gateway(0);
        let order = claim(gateway, "alice").await.order();
        let (theirs, none) = (gateway.order(&order, "mallory").await.unwrap(), gateway.order(&"0".repeat(32), "mallory").await.unwrap());
        assert_eq!((theirs.status, none.status), (404, 404));
        assert_eq!(theirs.code(), none.code());
        assert_eq!(gateway.order("nonsense", "alice").await.unwrap().status, 404);
    }

    async fn a_signed_callback_pays_once(backends: Backends) {
        let settings = "payment.provider = \"signed-callback\"\npayment.callback_secret = \"s3cret\"";
        let site = Site::start(backends, settings).await;
        site.sale("s", &concert(2)).await;
        let gateway = site.gateway(0);
        let order = claim(gateway, "alice").await.order();
        let event = json!({"event": "ev-1", "order": order, "amount": 55350, "currency": "CNY", "status": "paid"});
        let unsigned = gateway.post("/v1/payments/callback", &[], &event).await.unwrap();
        assert_eq!(unsigned.status, 401, "{unsigned:?}");
        for _ in 0..3 {
            let reply = callback(gateway, &event).await;
            assert_eq!(reply.status, 200, "{reply:?}");
        }
        becomes(gateway, &order, "alice", "paid").await;
        let second = json!({"event": "ev-2", "order": order, "amount": 55350, "currency": "CNY", "status": "paid"});
        let reply = callback(gateway, &second).await;
        assert_eq!(reply.body["outcome"], "refund_due", "{reply:?}");
        site.audit("s");
    }
}

pub(crate) async fn callback(gateway: &Client, event: &serde_json::Value) -> Reply {
    use hmac::{Hmac, KeyInit, Mac};
    let now = SystemClock.now().0 / 1000;
    let mut mac = <Hmac<sha2::Sha256> as KeyInit>::new_from_slice(b"s3cret").unwrap();
    mac.update(format!("{now}.{event}").as_bytes());
    let signature = format!("t={now},v1={}", hex::encode(mac.finalize().into_bytes()));
    gateway.post("/v1/payments/callback", &[("rushgate-signature", &signature)], event).await.unwrap()
}
