//! What clients send that is not quite HTTP, too much of it, or too slowly.

use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;

const ONE: &str = r#"{"quantity":1}"#;

/// One who waits half a second for a head, so that connections that rest end soon.
fn quick_settings() -> Settings {
    Settings { header_timeout: Duration::from_millis(500), claims_per_buyer: 0, ..Settings::default() }
}

async fn quick() -> Gateway {
    Gateway::with(quick_settings(), 100_000, PaymentProvider::Sandbox).await
}

/// One who waits as long as the default says.
async fn patient() -> Gateway {
    Gateway::with(Settings { claims_per_buyer: 0, ..Settings::default() }, 100_000, PaymentProvider::Sandbox).await
}

/// One who waits no longer for a body either.
async fn hasty() -> Gateway {
    let settings = Settings { request_timeout: Duration::from_millis(500), ..quick_settings() };
    Gateway::with(settings, 100_000, PaymentProvider::Sandbox).await
}

#[tokio::test]
async fn every_route_says_what_it_takes() {
    let gateway = Gateway::open().await;
    for (method, path, expected) in [
        ("PUT", "/livez", "GET, HEAD"),
        ("POST", "/v1/sales/concert-1", "GET, HEAD"),
        ("GET", "/v1/sales/concert-1/orders", "POST"),
        ("PATCH", "/v1/orders/x", "GET, HEAD, DELETE"),
        ("GET", "/v1/orders/x/payment", "POST"),
        ("OPTIONS", "/v1/payments/callback", "POST"),
    ] {
        let heard = gateway.call(method, path, &[], "").await;
        assert_eq!(heard.problem(), (405, "method_not_allowed".to_owned()), "{method} {path}");
        assert_eq!(heard.header("allow"), Some(expected));
    }
    for path in ["/", "/v1", "/metrics", "/admin/v1/sales/concert-1", "/v1/orders", "*"] {
        assert_eq!(gateway.call("GET", path, &[], "").await.problem(), (404, "not_found".to_owned()), "{path}");
    }
    let document = gateway.call("GET", "/openapi.json", &[], "").await;
    assert_eq!(document.json()["openapi"], "3.1.0");
    assert_eq!(gateway.call("GET", "/livez", &[("x-request-id", "r-1")], "").await.header("x-request-id"), Some("r-1"));
    gateway.close().await;
}

#[tokio::test]
async fn a_length_that_is_said_twice_is_malformed_and_ends_the_connection() {
    let gateway = quick().await;
    let smuggled = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    for lengths in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: Chunked\r\n",
    ] {
        let before = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
        let text = gateway.raw(format!("{before}{}0\r\n\r\n{smuggled}", claim_head(lengths))).await;
        let answers = answers(&text);
        assert_eq!(answers.len(), 2, "what is smuggled is not answered: {text}");
        assert_eq!(answers[0].status, 200);
        assert_eq!(answers[1].problem(), (400, "malformed".to_owned()));
        assert_eq!(answers[1].header("connection"), Some("close"));
    }
    gateway.close().await;
}

#[tokio::test]
async fn a_chunked_body_is_read_and_ends_the_connection() {
    let gateway = quick().await;
    let head = claim_head("transfer-encoding: chunked\r\n");
    let text = gateway.raw(format!("{head}5\r\n{{\"qua\r\n9\r\nntity\":1}}\r\n0\r\n\r\n")).await;
    let answers = answers(&text);
    assert_eq!((answers.len(), answers[0].status, answers[0].header("connection")), (1, 201, Some("close")), "{text}");
    gateway.close().await;
}

#[tokio::test]
async fn what_is_no_http_is_a_problem_like_any_other() {
    let gateway = quick().await;
    let long_header = format!("x-long: {}\r\n", "x".repeat(40_000));
    let many_headers = "x-many: 1\r\n".repeat(100);
    let huge_length = "content-length: 99999999999999999999\r\n";
    for (name, request, expected) in [
        ("no HTTP", "hello\r\n\r\n".to_owned(), 400),
        ("a bad header", claim_head("no colon\r\n"), 400),
        ("a folded header", claim_head("x-a: 1\r\n  2\r\n"), 400),
        ("a space before the colon", claim_head("content-length : 2\r\n"), 400),
        ("differing lengths", claim_head("content-length: 1\r\ncontent-length: 2\r\n"), 400),
        ("a length list", claim_head("content-length: 1, 2\r\n"), 400),
        ("a negative length", claim_head("content-length: -1\r\n"), 400),
        ("a length that is no number", claim_head("content-length: x\r\n"), 400),
        ("a length beyond all numbers", claim_head(huge_length), 400),
        ("an unknown encoding", claim_head("transfer-encoding: gzip\r\n"), 400),
        ("chunked, but not last", claim_head("transfer-encoding: chunked, gzip\r\n"), 400),
        ("chunked in HTTP/1.0", "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 400),
        ("a zero byte", "GET /\0 HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("a long header", claim_head(&long_header), 431),
        ("many headers", claim_head(&many_headers), 431),
    ] {
        let text = gateway.raw(request).await;
        let answers = answers(&text);
        let (status, code) = answers.last().unwrap_or_else(|| panic!("{name}: nothing was said")).problem();
        assert_eq!((answers.len(), status), (1, expected), "{name}: {text}");
        assert_eq!(code, if expected == 431 { "headers_too_large" } else { "malformed" }, "{name}");
    }
    assert!(gateway.backends.granted().is_empty());
    gateway.close().await;
}

#[tokio::test]
async fn bad_chunks_are_malformed() {
    let gateway = hasty().await;
    for chunks in ["x\r\n", "-1\r\n\r\n", "5;\r\n{\"q\r\n", "ffffffffffffffffff\r\n", "2\r\n{}x\r\n0\r\n\r\n"] {
        let text = gateway.raw(format!("{}{chunks}", claim_head("transfer-encoding: chunked\r\n"))).await;
        let answers = answers(&text);
        let (status, code) = answers[0].problem();
        assert!(matches!((status, code.as_str()), (400, "malformed") | (408, "request_timeout")), "{chunks}: {text}");
        assert_eq!(answers.len(), 1);
    }
    assert!(gateway.backends.granted().is_empty());
    gateway.close().await;
}

#[tokio::test]
async fn a_slow_head_is_refused_and_one_who_says_nothing_is_left_without_a_word() {
    let gateway = quick().await;
    let slow = gateway.raw("GET /livez HTTP/1.1\r\nx-slow: ").await;
    assert_eq!(answers(&slow)[0].problem(), (408, "request_timeout".to_owned()));
    assert_eq!(gateway.raw("").await, "");
    gateway.close().await;
}

#[tokio::test]
async fn one_who_rests_between_two_requests_may_rest_longer() {
    let settings = Settings { header_timeout: Duration::from_millis(200), ..Settings::default() };
    let gateway = Gateway::with(settings, 9, PaymentProvider::Sandbox).await;
    let mut stream = gateway.connect().await;
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let resting = timeout(Duration::from_millis(600), stream.read_to_end(&mut Vec::new())).await;
    assert!(resting.is_err(), "it is not closed");
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    assert_eq!(answers(&rest(&mut stream).await)[0].status, 200);
    gateway.close().await;
}

#[tokio::test]
async fn a_crowd_of_claims_leaves_room_for_those_who_look() {
    let settings = Settings { max_connections: 5, claims_per_buyer: 0, ..Settings::default() };
    let gateway = Gateway::with(settings, 100, PaymentProvider::Sandbox).await;
    let path = gateway.buy("ann", "k").await;
    gateway.backends.confirms.forget_permits(1_000_000);
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut stream = gateway.connect().await;
        let claim = claim_head("content-length: 14\r\nconnection: close\r\n");
        stream.write_all(format!("{claim}{ONE}").as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    timeout(PATIENCE, async {
        while gateway.backends.granted().len() < 5 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let one_more = gateway.claim("bob", "k", ONE).await;
    assert_eq!(one_more.problem(), (503, "busy".to_owned()));
    assert!(one_more.header("retry-after").is_some());
    assert_eq!(gateway.call("GET", &path, &[("x-buyer-id", "ann")], "").await.status, 200);
    gateway.backends.confirms.add_permits(10);
    for mut stream in waiting {
        assert_eq!(answers(&rest(&mut stream).await)[0].status, 201);
    }
    gateway.close().await;
}

#[tokio::test]
async fn a_length_that_promises_too_much_is_given_up() {
    let gateway = hasty().await;
    let text = gateway.raw(format!("{}{ONE}", claim_head("content-length: 50\r\n"))).await;
    assert_eq!(answers(&text)[0].problem(), (408, "request_timeout".to_owned()));
    let mut stream = gateway.connect().await;
    stream.write_all(format!("{}{ONE}", claim_head("content-length: 50\r\n")).as_bytes()).await.unwrap();
    drop(stream);
    assert!(gateway.backends.granted().is_empty());
    gateway.close().await;
}

#[tokio::test]
async fn a_length_that_promises_too_little_leaves_no_request() {
    let gateway = quick().await;
    let text = gateway.raw(format!("{}{ONE}", claim_head("content-length: 13\r\n"))).await;
    let answers = answers(&text);
    let problems: Vec<_> = answers.iter().map(Heard::problem).collect();
    assert_eq!(problems[0], (400, "malformed".to_owned()), "{text}");
    assert!(problems[1..].iter().all(|problem| matches!(problem.0, 400 | 408)), "{text}");
    assert!(gateway.backends.granted().is_empty());
    gateway.close().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let gateway = quick().await;
    let promised = gateway.raw(claim_head("content-length: 1000000\r\n")).await;
    assert_eq!(answers(&promised)[0].problem(), (413, "too_large".to_owned()));
    let waiting = gateway.raw(claim_head("content-length: 1000000\r\nexpect: 100-continue\r\n")).await;
    assert_eq!(answers(&waiting)[0].problem(), (413, "too_large".to_owned()), "and the client need not send it");
    let sent = gateway.raw(format!("{}{}", claim_head("content-length: 200000\r\n"), " ".repeat(200_000))).await;
    assert_eq!(answers(&sent)[0].problem(), (413, "too_large".to_owned()), "the refusal is not lost in a reset");
    let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
    let chunked = gateway.raw(format!("{}{chunk}{chunk}", claim_head("transfer-encoding: chunked\r\n"))).await;
    assert_eq!(answers(&chunked)[0].problem(), (413, "too_large".to_owned()));
    gateway.close().await;
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_in_their_order() {
    let gateway = quick().await;
    let claim = format!("{}{ONE}", claim_head("content-length: 14\r\n"));
    let text = gateway
        .raw(format!(
            "{claim}GET /livez HTTP/1.1\r\nhost: x\r\n\r\n{claim}GET /nowhere HTTP/1.1\r\nconnection: close\r\n\r\n"
        ))
        .await;
    let statuses: Vec<_> = answers(&text).iter().map(|heard| heard.status).collect();
    assert_eq!(statuses, [201, 200, 201, 404]);
    gateway.close().await;
}

#[tokio::test]
async fn one_connection_too_many_waits_for_a_place() {
    let settings = Settings { max_connections: 1, header_timeout: Duration::from_secs(60), ..Settings::default() };
    let gateway = Gateway::with(settings, 9, PaymentProvider::Sandbox).await;
    let mut first = gateway.connect().await;
    first.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut byte = [0];
    timeout(PATIENCE, first.read_exact(&mut byte)).await.unwrap().unwrap();
    let mut second = gateway.connect().await;
    second.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let waiting = timeout(Duration::from_millis(100), second.read_exact(&mut byte)).await;
    assert!(waiting.is_err(), "there is no place yet");
    assert!(gateway.metric("rushgate_connections 1"));
    drop(first);
    timeout(PATIENCE, second.read_exact(&mut byte)).await.unwrap().unwrap();
    let answer = format!("H{}", rest(&mut second).await);
    assert_eq!(answers(&answer)[0].status, 200);
    gateway.close().await;
}

#[tokio::test]
async fn a_node_that_drains_says_so_and_finishes_what_it_has() {
    let gateway = Gateway::open().await;
    assert_eq!(gateway.call("GET", "/readyz", &[], "").await.body, "ok\n");
    let verbose = gateway.call("GET", "/readyz?verbose", &[], "").await;
    assert_eq!(verbose.body, "[+]inventory ok\n[+]shutdown ok\nready\n");
    let mut resting = gateway.connect().await;
    resting.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut buying = gateway.in_flight().await;
    gateway.shutdown.begin();
    assert_eq!(answers(&rest(&mut resting).await)[0].status, 200, "one who rests is closed");
    assert!(!gateway.serving.is_finished());
    timeout(PATIENCE, async { while TcpStream::connect(gateway.address).await.is_ok() {} })
        .await
        .expect("nobody new is let in any more");
    assert!(!gateway.serving.is_finished());
    gateway.backends.confirms.add_permits(1);
    let bought = answers(&rest(&mut buying).await);
    assert_eq!((bought[0].status, bought[0].header("connection")), (201, Some("close")));
    gateway.close().await;
}

#[tokio::test]
async fn who_was_let_in_last_is_answered_by_a_node_that_stops() {
    let gateway = Gateway::open().await;
    let (mut last, _silent) = (gateway.connect().await, gateway.connect().await);
    timeout(PATIENCE, async {
        while !gateway.metric("rushgate_connections 2") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("they are let in");
    gateway.shutdown.begin();
    timeout(PATIENCE, async { while TcpStream::connect(gateway.address).await.is_ok() {} })
        .await
        .expect("nobody new is let in any more");
    last.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answered = answers(&rest(&mut last).await);
    assert_eq!((answered[0].status, answered[0].header("connection")), (200, Some("close")));
    // And it does not wait for who says nothing.
    gateway.close().await;
}

#[tokio::test]
async fn while_it_drains_it_is_not_ready_but_still_answers() {
    let gateway = Gateway::drained_for(Duration::from_secs(600)).await;
    let mut resting = gateway.connect().await;
    gateway.shutdown.begin();
    let heard = gateway.call("GET", "/readyz", &[], "").await;
    assert_eq!(heard.status, 503);
    assert_eq!(heard.body, "[+]inventory ok\n[-]shutdown: draining\nnot ready\n");
    resting.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let last = answers(&rest(&mut resting).await);
    assert_eq!((last[0].status, last[0].header("connection")), (200, Some("close")));
    gateway.shutdown.force();
}

#[test]
fn no_bytes_can_break_it() {
    let runtime = Runtime::new().unwrap();
    let gateway = runtime.block_on(patient());
    let check = |bytes: Vec<u8>| {
        let text = runtime.block_on(async {
            let mut stream = gateway.connect().await;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            rest(&mut stream).await
        });
        prop_assert!(!text.contains("HTTP/1.1 5"), "{}", text);
        Ok(())
    };
    let config = || ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) };
    proptest!(config(), |(bytes in prop::collection::vec(any::<u8>(), 0..300))| check(bytes)?);
    proptest!(config(), |(line in "[ -~]{0,40}", body in prop::collection::vec(any::<u8>(), 0..60))| {
        let mut bytes = format!("POST /{line}\r\n\r\n").into_bytes();
        bytes.extend_from_slice(&body);
        check(bytes)?;
    });
    runtime.block_on(gateway.close());
}

#[test]
fn no_body_and_no_header_of_a_claim_can_break_it() {
    let runtime = Runtime::new().unwrap();
    let gateway = runtime.block_on(patient());
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) };
    proptest!(config, |(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            r#"\{"(quantity|lines|x)":(-?[0-9]{1,22}|null|\[\{"(pool|from|seat)":"[a-z]{0,4}"\}\]|"")\}"#.prop_map(String::into_bytes),
        ],
        value in "[ -~]{0,40}",
        header in prop_oneof!["x-buyer-id", "idempotency-key", "content-type", "x-request-id", "accept", "if-none-match"],
    )| {
        let mut bytes = format!(
            "POST /v1/sales/concert-1/orders HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-buyer-id: ann\r\n\
             content-type: application/json\r\n{header}: {value}\r\ncontent-length: {}\r\n\r\n", body.len(),
        ).into_bytes();
        bytes.extend_from_slice(&body);
        let text = runtime.block_on(gateway.raw(bytes));
        let answers = answers(&text);
        prop_assert_eq!(answers.len(), 1);
        prop_assert!(matches!(answers[0].status, 200 | 201 | 400 | 401 | 409 | 415 | 422), "{}", text);
    });
    runtime.block_on(gateway.close());
}
