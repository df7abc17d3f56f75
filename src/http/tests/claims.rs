use super::*;

const ONE: &str = r#"{"quantity":1}"#;

#[tokio::test]
async fn a_claim_is_granted_once_and_replayed_with_the_same_body() {
    let gateway = Gateway::open().await;
    let first = gateway.claim("ann", "k-1", ONE).await;
    assert_eq!(first.status, 201, "{first:?}");
    assert_eq!(first.json()["amount"], 55350);
    assert_eq!(first.header("content-type"), Some("application/json"));
    let again = gateway.claim("ann", "\"k-1\"", ONE).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!((again.json(), again.header("location")), (first.json(), first.header("location")));
    assert_eq!(gateway.claim("ann", "k-1", r#"{"quantity":2}"#).await.problem(), (422, "key_reused".to_owned()));
    assert_eq!(gateway.claim("bob", "k-1", ONE).await.status, 201);
    assert_eq!(gateway.backends.granted().len(), 2);
    assert!(gateway.metric("rushgate_claims_total{sale=\"concert-1\",outcome=\"held\"} 2"));
    assert!(gateway.metric("rushgate_claims_total{sale=\"concert-1\",outcome=\"replayed\"} 1"));
    gateway.close().await;
}

#[tokio::test]
async fn a_replay_says_what_has_become_of_the_order() {
    let gateway = Gateway::open().await;
    gateway.buy("ann", "k").await;
    gateway.backends.end_granted();
    let again = gateway.claim("ann", "k", ONE).await;
    assert_eq!((again.status, again.json()["status"].as_str()), (200, Some("expired")));
}

#[tokio::test]
async fn the_last_unit_is_sold_and_then_none() {
    let gateway = Gateway::with(Settings::default(), 1, PaymentProvider::Sandbox).await;
    gateway.buy("ann", "k").await;
    let sold_out = gateway.claim("bob", "k", ONE).await;
    assert_eq!(sold_out.problem(), (409, "sold_out".to_owned()));
    assert_eq!(gateway.claim("ann", "k", ONE).await.status, 200, "her own order is no refusal");
    gateway.close().await;
}

#[tokio::test]
async fn what_is_not_known_in_time_is_pending_and_found_by_its_location() {
    let settings = Settings { request_timeout: Duration::from_secs(1), ..Settings::default() };
    let gateway = Gateway::with(settings, 10, PaymentProvider::Sandbox).await;
    gateway.backends.confirms.forget_permits(1_000_000);
    let pending = gateway.claim("ann", "k", ONE).await;
    assert_eq!((pending.status, pending.header("retry-after")), (202, Some("1")));
    assert_eq!(pending.json()["status"], "pending");
    let order = gateway.call("GET", pending.header("location").unwrap(), &[("x-buyer-id", "ann")], "").await;
    assert_eq!((order.status, order.json()["status"].as_str()), (200, Some("held")));
    gateway.backends.confirms.add_permits(10);
    let again = timeout(PATIENCE, async {
        loop {
            let again = gateway.claim("ann", "k", ONE).await;
            if again.status != 202 {
                return again;
            }
        }
    });
    assert_eq!(again.await.unwrap().status, 200);
    gateway.close().await;
}

#[tokio::test]
async fn a_client_that_leaves_does_not_take_the_order_with_it() {
    let gateway = Gateway::open().await;
    gateway.backends.confirms.forget_permits(1_000_000);
    let mut stream = gateway.connect().await;
    let request = format!(
        "POST /v1/sales/concert-1/orders HTTP/1.1\r\nhost: x\r\nx-buyer-id: ann\r\nidempotency-key: k\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{ONE}",
        ONE.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    timeout(PATIENCE, async {
        while gateway.backends.granted().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    drop(stream);
    gateway.backends.confirms.add_permits(10);
    let again = gateway.claim("ann", "k", ONE).await;
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(gateway.backends.granted().len(), 1);
    gateway.close().await;
}

#[tokio::test]
async fn bad_claims_are_problems_with_stable_codes_and_reserve_nothing() {
    let gateway = Gateway::open().await;
    let path = "/v1/sales/concert-1/orders";
    let (ann, json) = (("x-buyer-id", "ann"), ("content-type", "application/json"));
    let long = "x".repeat(300);
    let large = format!("{{\"quantity\":1{}}}", " ".repeat(20_000));
    for (name, headers, body, expected) in [
        ("no body", vec![ann, json], "", (400, "malformed")),
        ("no JSON", vec![ann, json], "{", (400, "malformed")),
        ("a list", vec![ann, json], "[]", (422, "invalid")),
        ("an unknown field", vec![ann, json], r#"{"quantity":1,"price":1}"#, (422, "invalid")),
        ("zero", vec![ann, json], r#"{"quantity":0}"#, (422, "invalid")),
        ("huge", vec![ann, json], r#"{"quantity":99999999999999999999}"#, (422, "invalid")),
        ("an unknown pool", vec![ann, json], r#"{"lines":[{"pool":"x"}]}"#, (422, "invalid")),
        ("an unknown stop", vec![ann, json], r#"{"lines":[{"from":"JNK"}]}"#, (422, "invalid")),
        ("nobody", vec![json], ONE, (401, "unauthenticated")),
        ("an odd buyer", vec![("x-buyer-id", "a b"), json], ONE, (401, "unauthenticated")),
        ("a long buyer", vec![("x-buyer-id", &long), json], ONE, (401, "unauthenticated")),
        ("two buyers", vec![ann, ("x-buyer-id", "bob"), json], ONE, (401, "unauthenticated")),
        ("a long key", vec![ann, json, ("idempotency-key", &long)], ONE, (400, "malformed")),
        (
            "a form",
            vec![ann, ("content-type", "application/x-www-form-urlencoded")],
            ONE,
            (415, "unsupported_media_type"),
        ),
        ("no type", vec![ann], ONE, (415, "unsupported_media_type")),
        ("too large", vec![ann, json], &large, (413, "too_large")),
    ] {
        let heard = gateway.call("POST", path, &headers, body).await;
        assert_eq!(heard.problem(), (expected.0, expected.1.to_owned()), "{name}");
    }
    assert!(gateway.backends.granted().is_empty());
    gateway.close().await;
}

#[tokio::test]
async fn an_unknown_sale_is_counted_without_its_name() {
    let gateway = Gateway::open().await;
    for sale in ["concert-2", "", "a%20b", "%00"] {
        let path = format!("/v1/sales/{sale}/orders");
        let headers = [("x-buyer-id", "ann"), ("content-type", "application/json")];
        assert_eq!(
            gateway.call("POST", &path, &headers, ONE).await.problem(),
            (404, "unknown_sale".to_owned()),
            "{sale}"
        );
    }
    assert!(gateway.metric("rushgate_claims_total{sale=\"\",outcome=\"unknown_sale\"} 4"));
    gateway.close().await;
}

#[tokio::test]
async fn a_buyer_who_sends_too_many_is_told_when_to_come_back() {
    let settings = Settings { claims_per_buyer: 1, ..Settings::default() };
    let gateway = Gateway::with(settings, 9, PaymentProvider::Sandbox).await;
    let mut heard = gateway.claim("ann", "0", ONE).await;
    assert_eq!(heard.status, 201);
    // A machine that is slow enough lets some of them be a second apart.
    for key in 1..100 {
        heard = gateway.claim("ann", &key.to_string(), ONE).await;
        if heard.status == 429 {
            break;
        }
    }
    assert_eq!((heard.problem(), heard.header("retry-after")), ((429, "rate_limited".to_owned()), Some("1")));
    assert_ne!(gateway.claim("bob", "1", ONE).await.status, 429);
    gateway.close().await;
}

#[tokio::test]
async fn a_sale_is_shown_from_memory_and_not_twice() {
    let gateway = Gateway::open().await;
    let shown = gateway.call("GET", "/v1/sales/concert-1", &[], "").await;
    assert_eq!((shown.status, shown.header("cache-control")), (200, Some("max-age=1")));
    assert_eq!(
        (&shown.json()["state"], &shown.json()["server_time"]),
        (&json!("open"), &json!("2026-11-21T12:00:00Z"))
    );
    assert_eq!(shown.json()["pools"][0]["capacity"], 100);
    let etag = shown.header("etag").unwrap();
    let again = gateway.call("GET", "/v1/sales/concert-1", &[("if-none-match", etag)], "").await;
    assert_eq!((again.status, again.body.as_str(), again.header("etag")), (304, "", Some(etag)));
    let head = gateway.call("HEAD", "/v1/sales/concert-1", &[], "").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some(shown.body.len().to_string().as_str())));
    assert_eq!(gateway.call("GET", "/v1/sales/other", &[], "").await.problem(), (404, "unknown_sale".to_owned()));
    gateway.close().await;
}
