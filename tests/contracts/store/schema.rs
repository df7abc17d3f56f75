//! The schema and what belongs to the deployment.

use rushgate::domain::OrderSecret;
use rushgate::store::{Deployment, Schema};
use tokio::task::JoinSet;

use super::rig::Rig;

pub(super) async fn a_new_schema_is_behind_and_then_current(rig: &Rig) {
    let missing = match rig.store.schema().await.unwrap() {
        Schema::Behind { missing } => missing,
        other => panic!("{other:?}"),
    };
    assert!(missing > 0);
    let applied = rig.store.migrate().await.unwrap();
    assert_eq!(applied.len(), missing);
    assert_eq!(applied[0], "0001 orders at rest");
    assert_eq!(rig.store.schema().await.unwrap(), Schema::Current);
    assert_eq!(rig.store.migrate().await.unwrap(), Vec::<String>::new());
}

pub(super) async fn several_processes_migrate_at_once(rig: &Rig) {
    let mut processes = JoinSet::new();
    for _ in 0..4 {
        let store = rig.another();
        processes.spawn(async move { store.migrate().await.unwrap() });
    }
    let applied: Vec<_> = processes.join_all().await.into_iter().flatten().collect();
    assert_eq!(applied.iter().filter(|name| *name == "0001 orders at rest").count(), 1);
    assert_eq!(rig.store.schema().await.unwrap(), Schema::Current);
}

pub(super) async fn a_schema_of_a_later_program_is_ahead(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    rig.sql(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from tomorrow', TRUE, '', 1)",
    )
    .await;
    assert_eq!(rig.store.schema().await.unwrap(), Schema::Ahead);
    assert!(rig.store.migrate().await.is_err());
}

pub(super) async fn a_migration_that_is_not_ours_is_a_fault(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    rig.sql("UPDATE _sqlx_migrations SET checksum = 'other' WHERE version = 1").await;
    let fault = rig.store.schema().await.unwrap_err();
    assert!(fault.0.contains("migration 1"), "{fault}");
}

pub(super) async fn a_deployment_stays_as_the_first_process_began_it(rig: &Rig) {
    let deployment = |n: u8| Deployment { secret: OrderSecret::new([n; 32]), partitions: 1 + u16::from(n), lanes: 3 };
    rig.store.migrate().await.unwrap();
    let mut processes = JoinSet::new();
    for n in 0..8 {
        let store = rig.another();
        processes.spawn(async move { store.deployment(deployment(n)).await.unwrap() });
    }
    let heard = processes.join_all().await;
    let again = rig.store.deployment(deployment(99)).await.unwrap();
    assert!(heard.iter().all(|heard| *heard == again));
    let first = again.secret.as_bytes()[0];
    assert!(first < 8 && again == deployment(first), "{again:?}");
}

pub(super) async fn a_deployment_has_the_most_lanes_that_any_process_came_with(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    assert_eq!(rig.store.lanes().await.unwrap(), 0);
    for (asked, most) in [(4, 4), (2, 4), (16, 16), (8, 16)] {
        let ours = Deployment { secret: OrderSecret::new([1; 32]), partitions: 1, lanes: asked };
        assert_eq!(rig.store.deployment(ours).await.unwrap().lanes, most);
        assert_eq!(rig.another().lanes().await.unwrap(), most);
    }
}
