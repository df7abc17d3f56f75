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
    let mut buying = gateway.in_flight().await;
    let core = cores.seats().take();
    assert_eq!(core.core().metrics().num_alive_tasks(), 1, "the connection is there");
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
    let mut buying = gateway.in_flight().await;
    assert!(gateway.metric("rushgate_connections 1"));
    gateway.shutdown.force();
    assert_eq!(rest(&mut buying).await, "");
    assert!(!gateway.shutdown.finish(PATIENCE).await, "it was forced");
    assert!(gateway.metric("rushgate_connections 0"));
}
