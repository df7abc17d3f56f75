//! Rows about the store's server. Sales go on without it: what was granted waits in the queue.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};

use crate::deployment::soon;
use crate::matrix::scene::Scene;
use crate::tcp_proxy::Snare;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_killed_in_mid_batch_costs_no_sale_and_no_row() {
    let mut scene = Scene::unhurried(401).await;
    let fault = scene.fault("MySQL: killed and started again").await;
    scene.private.mariadb.process().kill();
    // The queue takes what is sold meanwhile.
    scene.sells(20).await;
    scene.private.mariadb.restart().await;
    scene.healed(fault).await.at_most(&["202"]).within(5 * SECOND);
    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_locked_costs_no_sale() {
    let mut scene = Scene::unhurried(402).await;
    let database = scene.deployment.sources().namespace.clone();

    let fault = scene.fault("MySQL: LOCK TABLES orders WRITE").await;
    let mut session = scene.private.mariadb.connection().await;
    session.execute(AssertSqlSafe(format!("LOCK TABLES {database}.orders WRITE"))).await.unwrap();
    scene.sells(20).await;
    session.close().await.unwrap();
    scene.healed(fault).await.at_most(&["202"]).within(5 * SECOND);

    let fault = scene.fault("MySQL: FLUSH TABLES WITH READ LOCK").await;
    let mut session = scene.private.mariadb.connection().await;
    session.execute("FLUSH TABLES WITH READ LOCK").await.unwrap();
    scene.sells(20).await;
    session.close().await.unwrap();
    scene.healed(fault).await.at_most(&["202"]).within(5 * SECOND);

    let fault = scene.fault("MySQL: another session holds the guard's rows beyond the lock timeout").await;
    scene.private.mariadb.execute("SET GLOBAL innodb_lock_wait_timeout = 1").await;
    let mut session = scene.private.mariadb.connection().await;
    session.execute("BEGIN").await.unwrap();
    session.execute(AssertSqlSafe(format!("SELECT * FROM {database}.pool_legs FOR UPDATE"))).await.unwrap();
    scene.sells(20).await;
    tokio::time::sleep(2 * SECOND).await;
    session.close().await.unwrap();
    scene.private.mariadb.execute("SET GLOBAL innodb_lock_wait_timeout = 50").await;
    scene.healed(fault).await.at_most(&["202"]).within(5 * SECOND);

    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_made_once() {
    let mut scene = Scene::unhurried(403).await;

    let fault = scene.fault("MySQL: the answers to ten commits are lost").await;
    let writer = scene.writer();
    for _ in 0..10 {
        scene.deployment.links[writer].mysql.snare(Snare { request: b"COMMIT".to_vec(), passing: 0 });
    }
    soon("the answers are lost", async || {
        let caught = scene.deployment.links[writer].mysql.caught();
        if caught == 10 { Ok(()) } else { Err(format!("{caught} of ten")) }
    })
    .await;
    scene.healed(fault).await.at_most(&["202"]).within(5 * SECOND);

    let fault = scene.fault("MySQL: every connection is killed, ten times").await;
    for _ in 0..10 {
        let mut session = scene.private.mariadb.connection().await;
        let others = "SELECT id FROM information_schema.processlist WHERE db IS NOT NULL AND id <> CONNECTION_ID()";
        let others: Vec<i64> = sqlx::query_scalar(others).fetch_all(&mut session).await.unwrap();
        for id in others {
            // It may have ended by now.
            let _ = session.execute(AssertSqlSafe(format!("KILL {id}"))).await;
        }
        scene.sells(3).await;
    }
    scene.healed(fault).await.at_most(&["202"]).within(5 * SECOND);

    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lets_nobody_new_in_keeps_its_writer() {
    let mut scene = Scene::unhurried(404).await;
    let fault = scene.fault("MySQL: max_connections reached, and every connection of the gateways cut").await;
    let mut administrator = scene.private.mariadb.connection().await;
    // The least that the server takes; the looks of this suite come and go among them.
    administrator.execute("SET GLOBAL max_connections = 10").await.unwrap();
    let mut taken = Vec::new();
    while let Ok(session) = MySqlConnection::connect(&scene.private.mariadb.url()).await {
        taken.push(session);
    }
    for links in &scene.deployment.links[..2] {
        links.mysql.reset();
    }
    scene.sells(20).await;
    administrator.execute("SET GLOBAL max_connections = 500").await.unwrap();
    drop(taken);
    scene.healed(fault).await.at_most(&["202"]).within(5 * SECOND);
    scene.ends_clean().await;
}
