//! Whatever goes wrong: the message names it, the code tells of it, and the sale is closed if there was one.

use std::process::Stdio;

use tokio::io::AsyncReadExt;

use crate::run::{BROKEN, FAILED, PASSED, Ran, all_closed, at, ended, ran, rehearsals, rehearse};
use crate::servers;
use crate::site::{Backends, Site, concert, eventually};

const USAGE: i32 = 64;

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_are_all_told_before_anything_is_asked() {
    let says = [
        "--gateway https://gate.example: must be",
        "--rate must be 1 to",
        "--hold must be at least 1s, for",
        "--p99-no-ms",
    ];
    ran(&mut rehearse("--gateway https://gate.example --rate 0 --hold 999ms --p99-no-ms 0")).await.ended(USAGE, &says);
    ran(&mut rehearse("--crowd chaos")).await.ended(USAGE, &["rush, too-late, real, train or soak"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_nobody_or_with_a_wrong_token_hears_so_and_makes_no_sale() {
    let site = Site::start(Backends::Embedded, "admin.token = \"a secret\"").await;
    let gateway = site.gateway(0).base().to_owned();
    // The port of nothing.
    let mut nobody = rehearse("--gateway http://127.0.0.1:1");
    ran(nobody.env("RUSHGATE_ADMIN_URL", site.admin().base()))
        .await
        .ended(FAILED, &["http://127.0.0.1:1: nobody answers", "is it a public listener"]);
    let no_admin = ran(&mut rehearse(&format!("--gateway {gateway} --admin http://127.0.0.1:1"))).await;
    no_admin.ended(FAILED, &["http://127.0.0.1:1", "is `rushgate serve` running there?"]);
    let wrong_token = ran(at(&site, "").env("RUSHGATE_ADMIN_TOKEN", "another")).await;
    wrong_token.ended(FAILED, &["no sale could be made", "(unauthenticated)"]);
    let swapped = ran(at(&site, "").args(["--gateway", site.admin().base()])).await;
    swapped.ended(FAILED, &[site.admin().base(), "it is no public listener of a gateway"]);
    let listed = site.admin().get("/admin/v1/sales", &[("authorization", "Bearer a secret")]).await.unwrap();
    assert_eq!(listed.body["sales"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_another_deployment_does_not_offer_the_sale_which_is_closed_again() {
    let (site, other) = (Site::start(Backends::Embedded, "").await, Site::start(Backends::Embedded, "").await);
    let ran = ran(at(&site, "--patience 1s").args(["--gateway", other.gateway(0).base()])).await;
    let says = [other.gateway(0).base(), "does not offer the sale", "is closed"];
    ran.ended(FAILED, &says);
    all_closed(&site, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_dies_and_stays_away_leaves_something_unproved_and_the_sale_closed() {
    let mut site = Site::cluster(3, 1, "shard.node_timeout = \"1s\"").await;
    let running = at(&site, "--duration 4s --rate 40 --stock 1000 --patience 3s")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    the_crowd_has_come(&site).await;
    site.kill(0);
    let ran = ended(running).await;
    // Who met the dead one each time, until patience ended, does not know what became of it.
    let code = if ran.out.contains("✗ PENDING: ") { BROKEN } else { FAILED };
    ran.ended(
        code,
        &["✗ NOT VERIFIED: at the end a gateway was away", "✗ NO ANSWER: ", "does not offer the sale any more"],
    );
    assert!(!ran.out.contains("LOST") && !ran.out.contains("OVERSOLD"), "{}", ran.out);
    all_closed(&site, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_gone_claims_are_unserved_and_nothing_is_proved() {
    let mut site = Site::start(Backends::Embedded, "").await;
    let running = at(&site, "--duration 3s --rate 40 --stock 1000 --patience 2s")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    the_crowd_has_come(&site).await;
    site.kill(0);
    let ran = ended(running).await;
    // Who came later reached nobody, and nothing of theirs was done; who was there when it died does not know.
    let code = if ran.out.contains("✗ PENDING: ") { BROKEN } else { FAILED };
    ran.ended(
        code,
        &["✗ UNSERVED: ", "✗ NOT VERIFIED: nothing was read", "✗ NOT CLOSED: ", "rushgate sale close rehearsal-"],
    );
    // What cannot be compared is no difference.
    assert!(!ran.out.contains("LOST") && !ran.out.contains("OVERSOLD"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn yeses_are_compared_with_the_rows_as_they_are_and_not_with_a_replica_that_is_behind() {
    // It has heard of the schema, and of nothing since.
    let behind = Site::new(Backends::Real, "").await;
    let site = Site::start(Backends::Real, &format!("store.read_url = {:?}", behind.store_url())).await;
    let ran = ran(&mut at(&site, "--crowd soak --duration 2s --rate 40 --stock 10 --hold 1s --patience 2s")).await;
    // Nothing that proves is read from the replica.
    ran.ended(PASSED, &["rushgate soak: PASSED"]);
    all_closed(&site, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_interruption_lets_those_who_are_there_end_and_verifies_what_was() {
    let ran = interrupted(1).await;
    let says = ["rushgate rush: FAILED\n  ✗ INTERRUPTED: ", "nobody comes any more"];
    ran.ended(FAILED, &says);
    assert_eq!(ran.out.matches('✗').count(), 1, "all else is true: {}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_interruption_closes_the_sale_and_proves_nothing() {
    interrupted(2).await.ended(FAILED, &["interrupted twice: nothing was verified", "is closed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_too_slow_or_did_not_come_fails_the_rehearsal_though_all_is_true() {
    let site = Site::start(Backends::Embedded, "").await;
    // One buyer cannot be a thousand, and nobody answers within no time.
    let gateway = site.gateway(0).base();
    let mut command = rehearse("--duration 1s --rate 1000 --stock 10 --vus 1 --away 0 --p99-yes-ms 1");
    let ran = ran(command.args(["--gateway", gateway, "--admin", site.admin().base()])).await;
    ran.ended(FAILED, &["✗ P99_YES_MS: 99 of 100 claims must be granted in less than 1 ms", "✗ AWAY: ", "--vus"]);
    assert!(!ran.out.contains("OVERSOLD") && !ran.out.contains("NOT VERIFIED"), "{}", ran.out);
    all_closed(&site, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_serves_nobody_proves_nothing_and_the_sales_beside_it_are_untouched() {
    // All of the crowd comes from one address.
    let site = Site::start(Backends::Embedded, "http.claims_per_address = 1").await;
    let own = servers::unique("own");
    site.sale(&own, &concert(7)).await;
    let ran = ran(&mut at(&site, "--duration 1s --rate 40 --stock 30 --patience 1s")).await;
    ran.ended(FAILED, &["✗ UNSERVED: ", "see http.claims_per_address"]);
    let balance = site.admin().get(&format!("/admin/v1/sales/{own}/balance"), &[]).await.unwrap();
    assert_eq!((&balance.body["phase"], &balance.body["legs"][0]["free"]), (&"open".into(), &7.into()), "{balance:?}");
    all_closed(&site, 1).await;
}

/// A rehearsal that is interrupted so many times amid its crowd; its sale is closed.
async fn interrupted(times: usize) -> Ran {
    let site = Site::start(Backends::Embedded, "").await;
    let mut command = at(&site, "--duration 60s --rate 50 --stock 100000 --hold 60s");
    let mut running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = running.id().unwrap().to_string();
    the_crowd_has_come(&site).await;
    if times > 1 {
        // Whoever is here waits for an answer, so there is something to be cut short.
        signal("-STOP", &site.nodes[0].child.id().to_string());
    }
    for _ in 0..times {
        signal("-INT", &id);
        if times > 1 {
            // Two signals of one kind that nobody has taken are one.
            says_a_line(&mut running).await;
        }
    }
    signal("-CONT", &site.nodes[0].child.id().to_string());
    let ran = ended(running).await;
    all_closed(&site, 1).await;
    ran
}

pub(crate) fn signal(which: &str, process: &str) {
    assert!(std::process::Command::new("kill").args([which, process]).status().unwrap().success());
}

async fn says_a_line(running: &mut tokio::process::Child) {
    let said = running.stderr.as_mut().unwrap();
    while said.read_u8().await.unwrap() != b'\n' {}
}

/// Waits until a gateway has answered claims of a rehearsal.
pub(crate) async fn the_crowd_has_come(site: &Site) {
    eventually("the crowd has come", || async {
        for (sale, _) in rehearsals(site.admin()).await {
            let metrics = site.nodes[0].admin.get("/metrics", &[]).await?;
            let said = metrics.body.as_str().unwrap_or_default();
            let counted =
                |line: &&str| line.starts_with("rushgate_claims_total{") && line.contains(&format!("\"{sale}\""));
            if said.lines().any(|line| counted(&line)) {
                return Ok(());
            }
        }
        Err("no claims yet".to_owned())
    })
    .await;
}
