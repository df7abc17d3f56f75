//! Rows about the inventory's server.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use redis::Value;
use tempfile::TempDir;

use crate::deployment::{Private, soon};
use crate::matrix::scene::{Scene, Stage};
use crate::private_redis::{Persistence, PrivateRedis};
use crate::tcp_proxy::{Rule, Snare, Way};

/// How long a server stands still.
const STALL: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);
/// What claims hear while Redis is not there, and until it is rebuilt.
const GONE: [&str; 4] = ["202", "503 busy", "503 recovering", "503 unavailable"];
/// From the fence to the first yes, on a busy machine.
const REBUILT: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_stands_still_costs_patience_and_no_unit() {
    let mut scene = Scene::open(201).await;

    let fault = scene.fault("Redis: DEBUG SLEEP 2").await;
    // The client does not wait for so long.
    let _ = scene.private.redis.try_ask::<Value>(&["DEBUG", "SLEEP", "2"]).await;
    tokio::time::sleep(STALL).await;
    scene.healed(fault).await.at_most(&["202", "503 busy", "503 unavailable"]).within(8 * SECOND);

    let fault = scene.fault("Redis: CLIENT PAUSE 2000 ALL").await;
    let _: Value = scene.private.redis.ask(&["CLIENT", "PAUSE", "2000", "ALL"]).await;
    tokio::time::sleep(STALL).await;
    scene.healed(fault).await.at_most(&["202", "503 busy", "503 unavailable"]).within(8 * SECOND);

    let fault = scene.fault("Redis: frozen for 2 s (SIGSTOP)").await;
    scene.private.redis.process().freeze();
    tokio::time::sleep(STALL).await;
    scene.private.redis.process().resume();
    scene.healed(fault).await.at_most(&["202", "503 busy", "503 unavailable"]).within(8 * SECOND);

    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_emptied_or_loses_its_scripts_is_rebuilt() {
    let scene = Scene::open(202).await;

    let fault = scene.fault("Redis: SCRIPT FLUSH").await;
    let _: Value = scene.private.redis.ask(&["SCRIPT", "FLUSH"]).await;
    scene.over_by_itself(fault).await.at_most(&["202", "503 recovering"]).within(REBUILT);

    let fault = scene.fault("Redis: FLUSHALL").await;
    let _: Value = scene.private.redis.ask(&["FLUSHALL"]).await;
    scene.over_by_itself(fault).await.at_most(&["202", "503 recovering"]).within(REBUILT);

    let fault = scene.fault("Redis: the counters are deleted").await;
    let counters = format!("*{}*counters", scene.deployment.sources().namespace);
    let keys: Vec<String> = scene.private.redis.ask(&["KEYS", &counters]).await;
    for key in keys {
        let _: Value = scene.private.redis.ask(&["DEL", &key]).await;
    }
    scene.over_by_itself(fault).await.at_most(&["202", "503 recovering"]).within(REBUILT);

    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_demoted_sells_nothing_until_it_is_rebuilt() {
    let mut scene = Scene::open(203).await;

    let fault = scene.fault("Redis: REPLICAOF for 1 s, then promoted").await;
    // Of a master that is not there, so that it keeps its data, as one does that was demoted by mistake.
    let _: Value = scene.private.redis.ask(&["REPLICAOF", "127.0.0.1", "1"]).await;
    tokio::time::sleep(SECOND).await;
    let _: Value = scene.private.redis.ask(&["REPLICAOF", "NO", "ONE"]).await;
    let heard = scene.healed(fault).await;
    heard.at_most(&["202", "503 recovering", "503 unavailable"]).some(&["503 recovering"]).within(REBUILT);

    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_without_memory_refuses_and_takes_nothing() {
    let mut scene = Scene::open(204).await;

    let fault = scene.fault("Redis: maxmemory reached for 2 s").await;
    let _: Value = scene.private.redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    tokio::time::sleep(STALL).await;
    let _: Value = scene.private.redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    scene.healed(fault).await.at_most(&["202", "503 unavailable"]).some(&["503 unavailable"]).within(6 * SECOND);

    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_redis_that_swallows_answers_is_replaced() {
    let mut scene = Scene::open(205).await;

    let fault = scene.fault("Redis: every open connection swallows its answers").await;
    for links in &scene.deployment.links {
        links.redis.rule(Way::ToClient, Rule::Swallow);
    }
    tokio::time::sleep(SECOND).await;
    // Whoever connects from now on is served; a connection that has lost bytes stays deaf.
    for links in &scene.deployment.links {
        links.redis.rule(Way::ToClient, Rule::Pass);
    }
    scene.over_by_itself(fault).await.at_most(&["202", "503 busy", "503 unavailable"]).within(6 * SECOND);

    let fault = scene.fault("Redis: five verdicts are lost, and the connection with them").await;
    for _ in 0..5 {
        scene.deployment.links[0].redis.snare(Snare { request: b"EVALSHA".to_vec(), passing: 0 });
    }
    // A connection that ends before its answer comes takes its snare along, and the verdict is lost all the same.
    soon("the verdicts are lost", async || {
        let laid = scene.deployment.links[0].redis.laid();
        if laid == 0 { Ok(()) } else { Err(format!("{laid} of five are not")) }
    })
    .await;
    scene.healed(fault).await.at_most(&["202", "503 busy", "503 unavailable"]).within(6 * SECOND);

    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_keeps_a_log_and_is_killed_is_rebuilt_all_the_same() {
    let mut private = Private::shared().await;
    private.redis = PrivateRedis::start(Persistence::Everything).await;
    let mut scene = Scene::over(private, Stage::default(), 206).await;

    let fault = scene.fault("Redis: killed and started again, every write on disk").await;
    scene.private.redis.restart().await;
    scene.healed(fault).await.at_most(&GONE).some(&GONE).within(REBUILT);

    let copy = scene.private.redis.copy().await;
    scene.sells(30).await;
    let fault = scene.fault("Redis: killed and started again with older data").await;
    scene.private.redis.restart_with(&copy).await;
    scene.healed(fault).await.at_most(&GONE).some(&GONE).within(REBUILT);

    let fault = scene.fault("Redis: killed and started again with nothing").await;
    scene.private.redis.restart_empty().await;
    scene.healed(fault).await.at_most(&GONE).some(&GONE).within(REBUILT);

    scene.emptied().await.redis = PrivateRedis::start(Persistence::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_whose_disk_is_full_refuses_and_takes_nothing() {
    let mut scene = Scene::open(207).await;
    let disk = SmallDisk::mount();
    let say = async |scene: &Scene, words: &[&str]| {
        let _: Value = scene.private.redis.ask(words).await;
    };
    let usual: Vec<String> = scene.private.redis.ask(&["CONFIG", "GET", "dir"]).await;
    say(&scene, &["CONFIG", "SET", "dir", disk.path().to_str().unwrap()]).await;
    say(&scene, &["CONFIG", "SET", "appendonly", "yes"]).await;

    let fault = scene.fault("Redis: the disk of its log is full").await;
    disk.fill();
    soon("a claim is refused", async || {
        let refused = scene.run.log().read().iter().any(|entry| entry.status == Some(503));
        if refused { Ok(()) } else { Err("nobody is".to_owned()) }
    })
    .await;
    disk.clear();
    scene.healed(fault).await.at_most(&["202", "503 unavailable"]).within(REBUILT);

    say(&scene, &["CONFIG", "SET", "appendonly", "no"]).await;
    say(&scene, &["CONFIG", "SET", "dir", &usual[1]]).await;
    scene.ends_clean().await;
}

/// A file system of a few megabytes. Only root may mount one; the suite is run by root, or in a namespace where it is.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let dir = TempDir::new().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "rushgate"]).arg(dir.path()).output();
        let mount = mount.unwrap();
        assert!(mount.status.success(), "{}", String::from_utf8_lossy(&mount.stderr));
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn fill(&self) {
        // Until no byte is left; a full disk is what is wanted.
        let mut filler = File::create(self.path().join("filler")).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    fn clear(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
