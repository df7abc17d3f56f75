//! Limits that are changed while the gateway serves.

use super::*;

const ONE: &str = r#"{"quantity":1}"#;

#[tokio::test]
async fn limits_that_are_changed_count_for_whoever_comes_next() {
    let gateway = Gateway::open().await;
    let live = gateway.live.clone();
    gateway.buy("ann", "k").await;
    live.max_body.set(8);
    assert_eq!(gateway.claim("ann", "l", ONE).await.problem(), (413, "too_large".to_owned()));
    live.max_body.set(1000);
    live.claims_per_address.set(1);
    // A machine that is slow enough lets some of them be a second apart.
    let mut heard = gateway.claim("ann", "k", ONE).await;
    for _ in 0..100 {
        if heard.status == 429 {
            break;
        }
        heard = gateway.claim("ann", "k", ONE).await;
    }
    assert_eq!(heard.status, 429, "{heard:?}");
    live.claims_per_address.set(0);
    live.claims_per_buyer.set(0);
    for _ in 0..30 {
        assert_eq!(gateway.claim("ann", "k", ONE).await.status, 200);
    }
    gateway.backends.confirms.forget_permits(1_000_000);
    live.request_timeout.set(Duration::from_millis(100));
    assert_eq!(gateway.claim("ann", "m", ONE).await.status, 202);
    gateway.backends.confirms.add_permits(10);
    // A connection that was there before.
    let mut stream = gateway.connect().await;
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    live.header_timeout.set(Duration::from_millis(100));
    stream.write_all(b"GET /livez HTTP/1.1\r\nx-slow: ").await.unwrap();
    let said = format!("H{}", rest(&mut stream).await);
    assert_eq!(answers(&said)[1].problem(), (408, "request_timeout".to_owned()));
    gateway.close().await;
}

#[tokio::test]
async fn a_connection_that_waits_comes_in_when_there_may_be_more() {
    let settings = Settings { max_connections: 1, ..Settings::default() };
    let gateway = Gateway::with(settings, 9, PaymentProvider::Sandbox).await;
    let mut first = gateway.connect().await;
    first.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    first.read_exact(&mut [0]).await.unwrap();
    let mut second = gateway.connect().await;
    second.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let waiting = timeout(Duration::from_millis(100), second.read_exact(&mut [0])).await;
    assert!(waiting.is_err(), "there is no place yet");
    gateway.live.max_connections.set(2);
    timeout(PATIENCE, second.read_exact(&mut [0])).await.unwrap().unwrap();
    drop((first, second));
    gateway.close().await;
}

#[tokio::test]
async fn where_there_may_be_fewer_connections_those_that_are_too_many_end_and_others_come_in() {
    let settings = Settings { max_connections: 3, ..Settings::default() };
    let gateway = Gateway::with(settings, 9, PaymentProvider::Sandbox).await;
    let request = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut stream = gateway.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        kept.push(stream);
    }
    gateway.live.max_connections.set(1);
    let mut last = kept.pop().unwrap();
    for mut stream in kept {
        stream.write_all(request.as_bytes()).await.unwrap();
        let said = format!("H{}", timeout(PATIENCE, rest(&mut stream)).await.expect("it is closed"));
        let heard = answers(&said);
        assert_eq!((heard[0].header("connection"), heard[1].header("connection")), (None, Some("close")));
    }
    let mut one_more = gateway.connect().await;
    one_more.write_all(request.as_bytes()).await.unwrap();
    last.write_all(request.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    timeout(PATIENCE, rest(&mut last)).await.expect("as it asked");
    timeout(PATIENCE, one_more.read_exact(&mut [0])).await.expect("it comes in").unwrap();
    drop(one_more);
    gateway.close().await;
}

#[tokio::test]
async fn a_node_drains_for_as_long_as_is_configured_when_it_begins_to() {
    let delay = Live::new(Duration::from_secs(3600));
    let gateway = Gateway::start(Settings::default(), 9, PaymentProvider::Sandbox, delay.clone()).await;
    delay.set(Duration::ZERO);
    gateway.close().await;
}
