//! Rows about the gateway's own process.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use redis::Value;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::buyers::Habits;
use crate::deployment::soon;
use crate::log::{Act, Subject};
use crate::matrix::scene::{FICKLE, Scene, Stage};
use crate::site::PATIENCE;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_takes_no_order_with_it_and_the_other_sells_its_part() {
    let mut scene = Scene::open(101).await;
    let fault = scene.fault("gateway: one of two killed, three times").await;
    for index in [0, 1, 0] {
        scene.deployment.kill(index);
        // The other goes on.
        scene.sells(20).await;
        scene.deployment.restart(index, &[]);
        scene.deployment.ready().await;
    }
    scene.healed(fault).await.at_most(&["cut off", "202", "503 recovering", "503 unavailable"]).within(5 * SECOND);
    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_frozen_over_a_recovery_says_no_yes_of_the_old_epoch() {
    let mut scene = Scene::open(102).await;
    let fault = scene.fault("gateway: frozen while the inventory is lost and rebuilt").await;
    scene.deployment.freeze(0);
    let _: Value = scene.private.redis.ask(&["FLUSHALL"]).await;
    scene.sells(5).await;
    scene.deployment.resume(0);
    scene
        .healed(fault)
        .await
        .at_most(&["no answer", "202", "503 recovering", "503 unavailable", "503 busy"])
        .within(25 * SECOND);
    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_are_restarted_in_turn_say_so_first_and_lose_nothing() {
    let stage = Stage { settings: "node.drain_delay = \"1s\"", ..Stage::default() };
    let mut scene = Scene::on(stage, 103).await;
    let fault = scene.fault("gateway: both restarted in turn (SIGTERM)").await;
    // A writer has no balancer in front of it, and does not wait for one.
    for index in [0, 1] {
        let pid = scene.deployment.pid(index).to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let admin = scene.deployment.site.nodes[index].admin.clone();
        soon("it says that it leaves", async || match admin.get("/readyz", &[]).await {
            Ok(reply) if reply.status == 503 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        let shown = scene.deployment.site.gateway(index).get("/v1/sales/matrix", &[]).await.map(|reply| reply.status);
        assert_eq!(shown, Ok(200), "whoever has not heard yet is still served");
        let deployment = &mut scene.deployment;
        let code = soon("it ends", async || deployment.ended(index).ok_or_else(|| "it runs".to_owned())).await;
        assert_eq!(code.code(), Some(0));
        scene.deployment.restart(index, &[]);
        scene.deployment.ready().await;
    }
    // Buyers come without a balancer here, so they knock at the closed door as well.
    let heard = scene.healed(fault).await;
    heard.at_most(&["cut off", "202", "503 recovering", "503 unavailable"]).within(5 * SECOND);
    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_and_idle_and_slow_clients_cost_neither_memory_nor_the_sale() {
    let settings = "http.max_connections = 300\nhttp.header_timeout = \"1s\"";
    let habits = Habits { pace: Duration::from_millis(1), ..FICKLE };
    let mut scene = Scene::on(Stage { settings, habits, buyers: 120, ..Stage::default() }, 104).await;
    let before = resident(scene.deployment.pid(0));
    let fault = scene.fault("gateway: 120 buyers at once, 400 idle and slow connections at one of two").await;
    let address = address(&scene, 0);
    let mut crowd = JoinSet::new();
    for number in 0..400 {
        crowd.spawn(async move {
            let Ok(mut stream) = TcpStream::connect(&address).await else { return };
            for byte in b"POST /v1/sales/matrix/orders HTTP/1.1\r\n" {
                if number % 2 == 0 && stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(SECOND / 10).await;
            }
        });
    }
    scene.sells(200).await;
    let after = resident(scene.deployment.pid(0));
    drop(crowd);
    assert!(after < before + 100 * 1024, "from {before} KiB to {after} KiB");
    let heard = scene.healed(fault).await;
    heard.at_most(&["cut off", "202", "503 busy", "no answer"]).within(8 * SECOND);
    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_file_descriptors_waits_and_goes_on() {
    let mut scene = Scene::open(105).await;
    let fault = scene.fault("gateway: no file descriptor left for 2 s at one of two").await;
    let pid = scene.deployment.pid(0).to_string();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = |files: usize| {
        let limited = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}:")]).status();
        assert!(limited.unwrap().success());
    };
    let lines = scene.deployment.site.said(0).lines().count();
    limit(open + 3);
    let address = address(&scene, 0);
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(TcpStream::connect(&address).await.unwrap());
    }
    tokio::time::sleep(2 * SECOND).await;
    let said = scene.deployment.site.said(0);
    assert!(said.lines().count() < lines + 60, "it complains without end: {said}");
    limit(1024);
    drop(idle);
    let heard = scene.healed(fault).await;
    heard.at_most(&["cut off", "202", "503 busy", "503 unavailable", "no answer"]).within(8 * SECOND);
    scene.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_reset_half_close_or_pipeline_lose_no_permit() {
    let mut scene = Scene::open(106).await;
    let fault = scene.fault("gateway: clients reset, half-close and pipeline").await;
    let address = address(&scene, 0);
    let mut asked = Vec::new();
    let ask = |name: String, asked: &mut Vec<Subject>| {
        let about =
            Subject { sale: "matrix".to_owned(), key: format!("k-{name}"), asked: json!({"quantity": 1}), buyer: name };
        scene.run.log().invoke(Act::Claim, &about);
        let text = raw(&about);
        asked.push(about);
        text
    };
    for number in 0..20_u64 {
        let text = ask(format!("reset-{number}"), &mut asked);
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        // At another instant of its way each time.
        tokio::time::sleep(Duration::from_millis(number)).await;
        stream.set_zero_linger().unwrap();
    }
    for number in 0..5 {
        let text = ask(format!("half-{number}"), &mut asked);
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 201"), "{said}");
    }
    let three: String = (0..3).map(|number| ask(format!("pipelined-{number}"), &mut asked)).collect();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(three.as_bytes()).await.unwrap();
    let mut said = String::new();
    while said.matches("HTTP/1.1 201").count() < 3 {
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.expect("an answer").unwrap();
        assert!(read > 0, "closed after {said}");
        said.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    // Nobody heard, so everybody asks again, and meets what was decided.
    let (mut chance, (_going, stopped)) = (fastrand::Rng::with_seed(106), watch::channel(Some(Instant::now())));
    for about in &asked {
        scene.run.crowd().claim(about, &mut chance, &stopped).await;
    }
    let heard = scene.healed(fault).await;
    heard.at_most(&["202"]).within(5 * SECOND);
    scene.ends_clean().await;
}

/// Where a gateway listens, past its proxy.
fn address(scene: &Scene, index: usize) -> SocketAddr {
    scene.deployment.site.gateway(index).base().trim_start_matches("http://").parse().unwrap()
}

/// A claim as it goes over the wire.
fn raw(about: &Subject) -> String {
    let (Subject { sale, buyer, key, .. }, body) = (about, about.asked.to_string());
    format!(
        "POST /v1/sales/{sale}/orders HTTP/1.1\r\nhost: gateway\r\nx-buyer-id: {buyer}\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len(),
    )
}

/// The memory that a process has, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
