use super::*;

const SANDBOX: &str = r#"{"method":"sandbox"}"#;

impl Gateway {
    async fn order(&self, method: &str, path: &str, buyer: &str) -> Heard {
        self.call(method, path, &[("x-buyer-id", buyer)], "").await
    }

    async fn pay(&self, path: &str, buyer: &str, body: &str) -> Heard {
        let headers = [("x-buyer-id", buyer), ("content-type", "application/json")];
        self.call("POST", &format!("{path}/payment"), &headers, body).await
    }

    async fn notify(&self, body: &str) -> Heard {
        let signature = payment::sign(SECRET, NOW, body.as_bytes());
        self.call("POST", "/v1/payments/callback", &[("rushgate-signature", &signature)], body).await
    }
}

fn notice(event: &str, path: &str, amount: i64) -> String {
    let order = path.strip_prefix("/v1/orders/").unwrap();
    json!({"event": event, "order": order, "amount": amount, "currency": "CNY", "status": "paid"}).to_string()
}

fn status(heard: &Heard) -> (u16, String) {
    (heard.status, heard.json()["status"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn an_order_is_its_owners_alone_before_and_after_it_is_stored() {
    let gateway = Gateway::open().await;
    let path = gateway.buy("ann", "k").await;
    for stored in [false, true] {
        if stored {
            gateway.backends.write();
        }
        let shown = gateway.order("GET", &path, "ann").await;
        assert_eq!(status(&shown), (200, "held".to_owned()));
        assert_eq!(shown.header("cache-control"), Some("no-store"));
        let (mut theirs, mut absent) = (
            gateway.order("GET", &path, "bob").await,
            gateway.order("GET", "/v1/orders/00000000000000000000000000000000", "bob").await,
        );
        assert_eq!(theirs.problem(), (404, "not_found".to_owned()));
        for heard in [&mut theirs, &mut absent] {
            heard.head = heard.head.lines().filter(|line| !line.starts_with("x-request-id")).collect();
        }
        assert_eq!(theirs, absent, "nobody can tell another's order from none");
        assert_eq!(gateway.order("DELETE", &path, "bob").await.problem().0, 404);
        assert_eq!(gateway.pay(&path, "bob", SANDBOX).await.problem().0, 404);
    }
    assert_eq!(gateway.order("GET", "/v1/orders/odd", "ann").await.problem().0, 404);
    assert_eq!(gateway.call("GET", &path, &[], "").await.problem(), (401, "unauthenticated".to_owned()));
    gateway.close().await;
}

#[tokio::test]
async fn without_its_store_a_gateway_shows_what_the_inventory_knows_and_no_guess() {
    let gateway = Gateway::open().await;
    let path = gateway.buy("ann", "k").await;
    gateway.backends.store_is_down.store(true, Ordering::SeqCst);
    assert_eq!(status(&gateway.order("GET", &path, "ann").await), (200, "held".to_owned()));
    let unknown = gateway.order("GET", "/v1/orders/00000000000000000000000000000000", "ann").await;
    assert_eq!(unknown.problem(), (503, "unavailable".to_owned()));
    assert!(unknown.header("retry-after").is_some());
    assert_eq!(gateway.order("DELETE", &path, "ann").await.problem(), (503, "unavailable".to_owned()));
    assert_eq!(gateway.notify(&notice("e-1", &path, 55350)).await.problem(), (503, "unavailable".to_owned()));
    gateway.close().await;
}

#[tokio::test]
async fn a_hold_is_cancelled_once_it_is_stored_and_stays_so() {
    let gateway = Gateway::open().await;
    let path = gateway.buy("ann", "k").await;
    let early = gateway.order("DELETE", &path, "ann").await;
    assert_eq!((early.problem(), early.header("retry-after")), ((503, "busy".to_owned()), Some("1")));
    gateway.backends.write();
    for _ in 0..2 {
        assert_eq!(status(&gateway.order("DELETE", &path, "ann").await), (200, "cancelled".to_owned()));
    }
    let paid = gateway.pay(&path, "ann", SANDBOX).await;
    assert_eq!(paid.problem(), (409, "not_held".to_owned()));
    assert_eq!((&paid.json()["order_status"], &paid.json()["refund_due"]), (&json!("cancelled"), &Value::Null));
    gateway.close().await;
}

#[tokio::test]
async fn the_sandbox_pays_a_stored_hold_once() {
    let gateway = Gateway::open().await;
    let path = gateway.buy("ann", "k").await;
    assert_eq!(status(&gateway.pay(&path, "ann", SANDBOX).await), (202, "pending".to_owned()));
    gateway.backends.write();
    for (body, code) in [("", "malformed"), ("{", "malformed"), ("{}", "invalid"), (r#"{"method":"card"}"#, "invalid")]
    {
        assert_eq!(gateway.pay(&path, "ann", body).await.problem().1, code, "{body}");
    }
    for _ in 0..2 {
        assert_eq!(status(&gateway.pay(&path, "ann", SANDBOX).await), (200, "paid".to_owned()));
    }
    let cancelled = gateway.order("DELETE", &path, "ann").await;
    assert_eq!((cancelled.problem().1.as_str(), &cancelled.json()["order_status"]), ("not_held", &json!("paid")));
    gateway.close().await;
}

#[tokio::test]
async fn with_a_provider_the_buyer_hears_how_to_pay_and_the_callback_pays() {
    let gateway = Gateway::with(Settings::default(), 9, PaymentProvider::SignedCallback).await;
    let path = gateway.buy("ann", "k").await;
    assert_eq!(gateway.notify(&notice("early", &path, 55350)).await.json()["outcome"], "unmatched");
    gateway.backends.write();
    assert_eq!(gateway.pay(&path, "ann", SANDBOX).await.problem(), (422, "invalid".to_owned()));
    let how = gateway.pay(&path, "ann", r#"{"method":"signed-callback"}"#).await;
    assert_eq!(status(&how), (200, "held".to_owned()));
    assert_eq!(
        (&how.json()["payment"]["amount"], &how.json()["payment"]["reference"]),
        (&json!(55350), &how.json()["order"])
    );
    let wrong = gateway.notify(&notice("e-0", &path, 1)).await;
    assert_eq!((&wrong.json()["outcome"], &wrong.json()["due"]["amount"]), (&json!("mismatch"), &json!(55350)));
    for _ in 0..2 {
        assert_eq!(gateway.notify(&notice("e-1", &path, 55350)).await.json()["outcome"], "paid");
    }
    assert_eq!(gateway.notify(&notice("e-2", &path, 55350)).await.json()["outcome"], "refund_due");
    assert_eq!(status(&gateway.order("GET", &path, "ann").await), (200, "paid".to_owned()));
    assert!(gateway.metric("rushgate_refund_due_total 2"));
    gateway.close().await;
}

#[tokio::test]
async fn a_payment_after_the_end_is_to_be_given_back() {
    let gateway = Gateway::open().await;
    let path = gateway.buy("ann", "k").await;
    gateway.backends.write();
    gateway.backends.expire(path.strip_prefix("/v1/orders/").unwrap().parse().unwrap());
    let said = gateway.notify(&notice("e-1", &path, 55350)).await.json();
    assert_eq!(said, json!({"outcome": "refund_due", "status": "expired"}));
    gateway.close().await;
}

#[tokio::test]
async fn only_the_provider_is_heard() {
    let gateway = Gateway::open().await;
    let path = gateway.buy("ann", "k").await;
    gateway.backends.write();
    let body = notice("e-1", &path, 55350);
    let good = payment::sign(SECRET, NOW, body.as_bytes());
    let other = payment::sign("other", NOW, body.as_bytes());
    let old = payment::sign(SECRET, UnixMillis(NOW.0 - 301_000), body.as_bytes());
    for headers in [
        vec![],
        vec![("rushgate-signature", "")],
        vec![("rushgate-signature", other.as_str())],
        vec![("rushgate-signature", old.as_str())],
        vec![("rushgate-signature", good.as_str()), ("rushgate-signature", good.as_str())],
    ] {
        let heard = gateway.call("POST", "/v1/payments/callback", &headers, &body).await;
        assert_eq!(heard.problem(), (401, "bad_signature".to_owned()), "{headers:?}");
    }
    let re_serialised = body.replace(',', ", ");
    let heard = gateway.call("POST", "/v1/payments/callback", &[("rushgate-signature", &good)], &re_serialised).await;
    assert_eq!(heard.problem(), (401, "bad_signature".to_owned()));
    assert_eq!(gateway.notify("{}").await.problem(), (422, "invalid".to_owned()));
    assert_eq!(gateway.notify(r#"{"status":"failed"}"#).await.json(), json!({"outcome": "ignored"}));
    assert_eq!(status(&gateway.order("GET", &path, "ann").await), (200, "held".to_owned()));
    gateway.close().await;
}

#[tokio::test]
async fn an_order_that_is_being_decided_is_not_said_to_be_none() {
    let settings = Settings { request_timeout: Duration::from_millis(300), ..Settings::default() };
    let gateway = Gateway::with(settings, 10, PaymentProvider::Sandbox).await;
    gateway.backends.decides.forget_permits(1_000_000);
    let pending = gateway.claim("ann", "k", r#"{"quantity":1}"#).await;
    assert_eq!(pending.status, 202, "{pending:?}");
    let path = pending.header("location").unwrap().to_owned();
    let early = gateway.order("DELETE", &path, "ann").await;
    assert_eq!((early.problem(), early.header("retry-after")), ((503, "busy".to_owned()), Some("1")));
    assert_eq!(status(&gateway.order("GET", &path, "ann").await), (200, "pending".to_owned()));
    gateway.backends.decides.add_permits(10);
    gateway.close().await;
}
