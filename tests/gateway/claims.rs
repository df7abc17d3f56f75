//! A test per row of the table of what a claim can hear.

use serde_json::json;

use crate::over_both;
use crate::site::{Site, concert, eventually};

fn one() -> serde_json::Value {
    json!({"quantity": 1})
}

over_both! {
    async fn a_granted_claim_is_told_where_its_order_is(backends: Backends) {
        let site = Site::start(backends, "").await;
        site.sale("s", &concert(10)).await;
        let reply = site.gateway(0).claim("s", "alice", None, &one()).await.unwrap();
        assert_eq!(reply.status, 201, "{reply:?}");
        let order = reply.order();
        assert_eq!(reply.header("location"), Some(format!("/v1/orders/{order}").as_str()));
        assert_eq!(reply.body["sale"], "s");
        assert_eq!(reply.body["status"], "held");
        assert_eq!(reply.body["amount"], 55350);
        assert_eq!(reply.body["currency"], "CNY");
        assert!(reply.body["pay_by"].is_string(), "{reply:?}");
        assert_eq!(reply.body["lines"][0]["pool"], "standard");
        eventually("the order is stored", || async {
            let stored = site.gateway(0).order(&order, "alice").await?;
            if stored.status == 200 { Ok(()) } else { Err(format!("{stored:?}")) }
        })
        .await;
        site.audit("s");
    }

    async fn the_same_request_hears_the_same_order_again(backends: Backends) {
        let site = Site::start(backends, "").await;
        site.sale("s", &concert(1)).await;
        let first = site.gateway(0).claim("s", "alice", Some("k-1"), &one()).await.unwrap();
        assert_eq!(first.status, 201, "{first:?}");
        // Even though everything is sold by now.
        for key in ["k-1", "\"k-1\""] {
            let again = site.gateway(0).claim("s", "alice", Some(key), &one()).await.unwrap();
            assert_eq!(again.status, 200, "{again:?}");
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
            assert_eq!(again.body, first.body);
        }
        site.audit("s");
    }

    async fn a_used_key_with_another_body_is_refused(backends: Backends) {
        let site = Site::start(backends, "").await;
        let mut sale = concert(10);
        sale["limit_per_buyer"] = json!(5);
        site.sale("s", &sale).await;
        assert_eq!(site.gateway(0).claim("s", "alice", Some("k"), &one()).await.unwrap().status, 201);
        let other = site.gateway(0).claim("s", "alice", Some("k"), &json!({"quantity": 2})).await.unwrap();
        assert_eq!((other.status, other.code()), (422, "key_reused"), "{other:?}");
        // Another buyer's key is another key.
        assert_eq!(site.gateway(0).claim("s", "bob", Some("k"), &one()).await.unwrap().status, 201);
    }

    async fn the_last_unit_is_held_then_sold_out(backends: Backends) {
        let site = Site::start(backends, "").await;
        site.sale("s", &concert(1)).await;
        let order = site.gateway(0).claim("s", "alice", None, &one()).await.unwrap().order();
        eventually("the second hears when to come back", || async {
            let held = site.gateway(0).claim("s", "bob", None, &one()).await?;
            assert_eq!((held.status, held.code()), (409, "all_held"), "{held:?}");
            if held.body["next_release_at"].is_string() { Ok(()) } else { Err(format!("{held:?}")) }
        })
        .await;
        eventually("it is paid", || async {
            let paid = site.gateway(0).pay(&order, "alice").await?;
            if paid.status == 200 && paid.body["status"] == "paid" { Ok(()) } else { Err(format!("{paid:?}")) }
        })
        .await;
        eventually("it is sold out", || async {
            let sold = site.gateway(0).claim("s", "bob", None, &one()).await?;
            if (sold.status, sold.code()) == (409, "sold_out") { Ok(()) } else { Err(format!("{sold:?}")) }
        })
        .await;
        site.audit("s");
    }

    async fn a_buyer_at_the_limit_hears_which_orders(backends: Backends) {
        let site = Site::start(backends, "").await;
        site.sale("s", &concert(10)).await;
        let order = site.gateway(0).claim("s", "alice", None, &one()).await.unwrap().order();
        let limit = site.gateway(0).claim("s", "alice", None, &one()).await.unwrap();
        assert_eq!((limit.status, limit.code()), (409, "limit_reached"), "{limit:?}");
        assert_eq!(limit.body["orders"], json!([order]));
    }

    async fn a_passenger_at_the_limit_has_a_seat_already(backends: Backends) {
        let site = Site::start(backends, "").await;
        let mut train = train(10);
        train["limit_per_buyer"] = json!(5);
        site.sale("g1", &train).await;
        let seat = json!({"lines": [{"pool": "second", "from": "JNK", "to": "NJH", "passenger": "p-1", "seat": "window"}]});
        let order = site.gateway(0).claim("g1", "alice", None, &seat).await.unwrap();
        assert_eq!(order.status, 201, "{order:?}");
        assert_eq!(order.body["amount"], 60);
        let again = site.gateway(0).claim("g1", "bob", None, &seat).await.unwrap();
        assert_eq!((again.status, again.code()), (409, "limit_reached"), "{again:?}");
    }

    async fn all_lines_or_none(backends: Backends) {
        let site = Site::start(backends, "").await;
        let mut train = train(1);
        train["limit_per_buyer"] = json!(5);
        site.sale("g1", &train).await;
        let middle = json!({"lines": [{"pool": "second", "from": "TNA", "to": "XZE"}]});
        assert_eq!(site.gateway(0).claim("g1", "alice", None, &middle).await.unwrap().status, 201);
        // The whole way needs the middle, in the second line only.
        let both = json!({"lines": [{"pool": "first"}, {"pool": "second"}]});
        let refused = site.gateway(0).claim("g1", "bob", None, &both).await.unwrap();
        assert_eq!((refused.status, refused.code()), (409, "all_held"), "{refused:?}");
        let ends = json!({"lines": [
            {"pool": "first"}, {"pool": "second", "from": "JNK", "to": "TNA"}, {"pool": "second", "from": "XZE", "to": "SHH"},
        ]});
        let fits = site.gateway(0).claim("g1", "bob", None, &ends).await.unwrap();
        assert_eq!(fits.status, 201, "{fits:?}");
        site.audit("g1");
    }

    async fn a_sale_that_is_not_open_says_when(backends: Backends) {
        let site = Site::start(backends, "").await;
        let mut sale = concert(10);
        sale["opens_at"] = json!("2099-01-01T00:00:00Z");
        site.sale("s", &sale).await;
        let early = site.gateway(0).claim("s", "alice", None, &one()).await.unwrap();
        assert_eq!((early.status, early.code()), (403, "not_open"), "{early:?}");
        assert_eq!(early.body["opens_at"], "2099-01-01T00:00:00Z");
        site.tell("s", "open", &json!({})).await;
        assert_eq!(site.gateway(0).claim("s", "alice", None, &one()).await.unwrap().status, 201);
    }

    async fn a_paused_sale_goes_on_and_a_closed_one_does_not(backends: Backends) {
        let site = Site::start(backends, "").await;
        site.sale("s", &concert(10)).await;
        let held = site.gateway(0).claim("s", "alice", Some("k"), &one()).await.unwrap();
        site.tell("s", "pause", &json!({})).await;
        let paused = site.gateway(0).claim("s", "bob", None, &one()).await.unwrap();
        assert_eq!((paused.status, paused.code()), (409, "paused"), "{paused:?}");
        site.tell("s", "resume", &json!({})).await;
        assert_eq!(site.gateway(0).claim("s", "bob", None, &one()).await.unwrap().status, 201);
        site.tell("s", "close", &json!({})).await;
        let closed = site.gateway(0).claim("s", "carol", None, &one()).await.unwrap();
        assert_eq!((closed.status, closed.code()), (410, "closed"), "{closed:?}");
        // Whoever was granted before still hears of it.
        let again = site.gateway(0).claim("s", "alice", Some("k"), &one()).await.unwrap();
        assert_eq!((again.status, again.order()), (200, held.order()), "{again:?}");
    }

    async fn a_sale_that_nobody_knows_is_unknown(backends: Backends) {
        let site = Site::start(backends, "").await;
        for id in ["nothing", "no%20thing", "n%00"] {
            let unknown = site.gateway(0).claim(id, "alice", None, &one()).await.unwrap();
            assert_eq!((unknown.status, unknown.code()), (404, "unknown_sale"), "{unknown:?}");
        }
    }

    async fn a_bad_request_reserves_nothing(backends: Backends) {
        let site = Site::start(backends, "http.claims_per_buyer = 0").await;
        site.sale("s", &concert(10)).await;
        let (gateway, path) = (site.gateway(0), "/v1/sales/s/orders");
        let post = |headers: Vec<(&'static str, &'static str)>, body: String| async move {
            gateway.send(hyper::Method::POST, path, &headers, Some(body)).await.unwrap()
        };
        let alice = || vec![("x-buyer-id", "alice")];
        for body in ["", "{", "[1", "{\"quantity\":1}}", "{\"quantity\": 1e999}", "\u{0}"] {
            let reply = post(alice(), body.to_owned()).await;
            assert_eq!((reply.status, reply.code()), (400, "malformed"), "{body:?}: {reply:?}");
        }
        for body in [
            r#"{"quantity":0}"#,
            r#"{"quantity":1000000}"#,
            r#"{"lines":[]}"#,
            r#"{"lines":[{"pool":"golden"}]}"#,
            r#"{"lines":[{"pool":"standard","from":"A","to":"B"}]}"#,
            r#"{"lines":[{"pool":"standard","quantity":0}]}"#,
            r#"{"lines":[{"pool":"standard","passenger":"a b"}]}"#,
        ] {
            let reply = post(alice(), body.to_owned()).await;
            assert_eq!((reply.status, reply.code()), (422, "invalid"), "{body}: {reply:?}");
            assert!(reply.body["errors"].as_array().is_some_and(|errors| !errors.is_empty()), "{body}: {reply:?}");
        }
        for body in [r#"{"quantity":"1"}"#, r#"{"quantity":1,"colour":2}"#, "{}", "[]", r#"{"quantity":-1}"#, r#"{"quantity":1.5}"#] {
            let reply = post(alice(), body.to_owned()).await;
            assert!([400, 422].contains(&reply.status), "{body}: {reply:?}");
            assert!(["malformed", "invalid"].contains(&reply.code()), "{body}: {reply:?}");
        }
        let reply = post(Vec::new(), one().to_string()).await;
        assert_eq!((reply.status, reply.code()), (401, "unauthenticated"), "{reply:?}");
        let reply = post(vec![("x-buyer-id", "alice"), ("content-type", "text/plain")], one().to_string()).await;
        assert_eq!(reply.status, 415, "{reply:?}");
        let reply = post(alice(), format!("{{\"quantity\":1,\"x\":\"{}\"}}", "x".repeat(20_000))).await;
        assert_eq!(reply.status, 413, "{reply:?}");
        let left = gateway.get("/v1/sales/s", &[]).await.unwrap();
        assert_eq!(left.body["pools"][0]["free"], 10, "{left:?}");
        assert!(left.header("etag").is_some(), "{left:?}");
        site.audit("s");
    }

    async fn a_buyer_who_hammers_is_slowed_down(backends: Backends) {
        let site = Site::start(backends, "http.claims_per_buyer = 2").await;
        site.sale("s", &concert(10)).await;
        let mut limited = None;
        for _ in 0..20 {
            let reply = site.gateway(0).claim("s", "alice", None, &one()).await.unwrap();
            if reply.status == 429 {
                limited = Some(reply);
                break;
            }
        }
        let limited = limited.expect("twenty at once are more than two a second");
        assert_eq!(limited.code(), "rate_limited");
        assert!(limited.header("retry-after").is_some(), "{limited:?}");
        // Only she is.
        assert_eq!(site.gateway(0).claim("s", "bob", None, &one()).await.unwrap().status, 201);
    }
}

/// A train of five stops, four legs, and two pools of this many seats.
pub(crate) fn train(capacity: u32) -> serde_json::Value {
    json!({
        "name": "G1", "opens_at": "2020-01-01T00:00:00Z", "currency": "CNY", "stops": ["JNK", "TNA", "XZE", "NJH", "SHH"],
        "pools": [
            {"id": "first", "capacity": capacity, "fares": [100, 100, 100, 100]},
            {"id": "second", "capacity": capacity, "fares": [10, 20, 30, 40]},
        ],
    })
}
