//! The configuration, as operators have it read again.

use super::*;

#[tokio::test]
async fn an_operator_has_the_configuration_read_again_and_hears_what_changed_and_what_waits() {
    let Running { client, config, parts, .. } = running("").await;
    std::fs::write(config.path(), "[shard]\nbuffer = 7\n[inventory]\npartitions = 3\n").unwrap();
    let told = client.post("/admin/v1/reload?dry_run=true", None).await.unwrap();
    let expected = json!({
        "node": "n1", "effect": "applied", "dry_run": true, "before": {"shard.buffer": "10%"}, "after": {"shard.buffer": 7},
        "needs_restart": [{"key": "inventory.partitions", "running": "1", "configured": "3"}], "covered": [],
    });
    assert_eq!(told, expected);
    assert!(parts.process.reloader.show().contains("shard.buffer = \"10%\"\n"), "nothing has changed");
    let told = client.post("/admin/v1/reload", None).await.unwrap();
    assert_eq!((&told["effect"], &told["after"]), (&json!("applied"), &json!({"shard.buffer": 7})));
    assert_eq!(client.post("/admin/v1/reload", None).await.unwrap()["effect"], "unchanged");
    let line = &client.get("/admin/v1/changes?subject=n1").await.unwrap()["changes"][0];
    assert_eq!((&line["who"], &line["what"]), (&json!("local/ann"), &json!("config.reload")));
    assert_eq!((&line["before"], &line["after"]), (&expected["before"], &expected["after"]));
}

#[tokio::test]
async fn who_changes_a_key_that_a_flag_covers_hears_that_and_by_what() {
    let Running { client, config, .. } = running("").await;
    std::fs::write(config.path(), "[admin]\ntoken = \"mine\"\n").unwrap();
    let told = client.post("/admin/v1/reload", None).await.unwrap();
    let at = format!("{}:2", config.path().display());
    let covered = json!([{"key": "admin.token", "configured": "\"…\"", "at": at, "by": "flag --set"}]);
    assert_eq!(
        (&told["effect"], &told["needs_restart"], &told["covered"]),
        (&json!("unchanged"), &json!([]), &covered)
    );
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_each_of_its_errors() {
    let Running { client, config, planted, .. } = running("").await;
    std::fs::write(config.path(), "[shard]\nbufer = 7\n[queue]\nlanes = 0\n").unwrap();
    match client.post("/admin/v1/reload", None).await {
        Err(ClientError::Problem { status, code, detail }) => {
            assert_eq!((status, code.as_str()), (422, "bad_config"));
            let place = format!("{}:2:1: unknown key `shard.bufer`", config.path().display());
            assert!(detail.contains(&place) && detail.contains(":4:9: queue.lanes must be"), "{detail}");
        }
        other => panic!("must be refused, is {other:?}"),
    }
    assert!(planted.store.lock().log.is_empty());
}

#[tokio::test]
async fn a_process_that_drains_refuses_a_reload() {
    let Running { client, process, .. } = running("").await;
    process.begin();
    assert_eq!(refused(client.post("/admin/v1/reload", None).await), (409, "stopping".to_owned()));
}
