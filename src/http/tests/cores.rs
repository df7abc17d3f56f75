//! Connections on cores of their own.

use tokio::runtime::Handle;

use super::*;
use crate::cores::Cores;

#[tokio::test]
async fn what_connections_share_is_asked_on_the_process_and_not_on_their_core() {
    let cores = Cores::start().unwrap();
    let gateway = Gateway::on(cores.seats()).await;
    let order = gateway.buy("ann", "k").await;
    let shown = gateway.call("GET", &order, &[("x-buyer-id", "ann")], "").await;
    assert_eq!(shown.status, 200, "{shown:?}");
    assert_eq!(*gateway.backends.asked_on.lock().unwrap(), Some(Handle::current().id()));
    gateway.close().await;
}

#[tokio::test]
async fn a_node_that_stops_answers_who_is_in_flight_on_a_core() {
    let cores = Cores::start().unwrap();
    let gateway = Gateway::on(cores.seats()).await;
    gateway.backends.confirms.forget_permits(1_000_000);
    let mut buying = in_flight(&gateway).await;
    gateway.shutdown.begin();
    gateway.backends.confirms.add_permits(1);
    let bought = answers(&rest(&mut buying).await);
    assert_eq!((bought[0].status, bought[0].header("connection")), (201, Some("close")));
    gateway.close().await;
}

#[tokio::test]
async fn a_node_that_is_forced_to_stop_leaves_nothing_on_a_core() {
    let cores = Cores::start().unwrap();
    let gateway = Gateway::on(cores.seats()).await;
    gateway.backends.confirms.forget_permits(1_000_000);
    let mut buying = in_flight(&gateway).await;
    assert!(gateway.metric("rushgate_connections 1"));
    gateway.shutdown.force();
    assert_eq!(rest(&mut buying).await, "");
    assert!(!gateway.shutdown.finish(PATIENCE).await, "it was forced");
    assert!(gateway.metric("rushgate_connections 0"));
}

/// A claim that is granted and waits for the broker.
async fn in_flight(gateway: &Gateway) -> TcpStream {
    let mut buying = gateway.connect().await;
    let head =
        "POST /v1/sales/concert-1/orders HTTP/1.1\r\nhost: x\r\nx-buyer-id: ann\r\ncontent-type: application/json\r\n";
    buying.write_all(format!("{head}content-length: 14\r\n\r\n{{\"quantity\":1}}").as_bytes()).await.unwrap();
    timeout(PATIENCE, async {
        while gateway.backends.granted().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    buying
}
