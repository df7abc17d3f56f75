//! A run against nodes with a bug in them must fail and say what is wrong; the same run against honest ones passes.

use rushgate::bugs::Bug;

use crate::run::{Ran, k6};
use crate::site::{Backends, Site};

/// Shards that let far more through than there is, so that it is the inventory that says no, or does not.
const SETTINGS: &str = "shard.buffer = \"100%\"\nshard.refill_interval = \"1s\"";
const RUSH: [(&str, &str); 4] = [("DURATION", "3s"), ("RATE", "100"), ("STOCK", "40"), ("PATIENCE", "10s")];
/// Half of those who have an order ask for another one.
const SOAK: [(&str, &str); 6] =
    [("DURATION", "3s"), ("RATE", "40"), ("STOCK", "60"), ("HOLD", "3s"), ("REPEAT", "50"), ("PATIENCE", "10s")];

/// A script's run at three nodes and a writer with this bug in them.
async fn played(bug: Bug, script: &str, settings: &[(&str, &str)]) -> Ran {
    let mut site = Site::new(Backends::Real, SETTINGS).await;
    site.environment = vec![("RUSHGATE_BUG".to_owned(), bug.as_str().to_owned())];
    for role in ["gateway", "gateway", "gateway", "writer"] {
        site.add(role);
    }
    site.ready().await;
    k6(&site, script, settings).await
}

#[cfg(not(feature = "planted-bugs"))]
#[tokio::test(flavor = "multi_thread")]
async fn what_shows_an_oversell_passes_without_it() {
    let ran = played(Bug::GrantOneTooMany, "rush", &RUSH).await;
    ran.ended(Some(0), "rush");
    assert_eq!(ran.count("rushgate_accepted"), 40, "{}", ran.out);
}

#[cfg(not(feature = "planted-bugs"))]
#[tokio::test(flavor = "multi_thread")]
async fn what_shows_a_forgotten_limit_passes_without_it() {
    played(Bug::ForgetTheLimit, "soak", &SOAK).await.ended(Some(0), "soak");
}

#[cfg(feature = "planted-bugs")]
#[tokio::test(flavor = "multi_thread")]
async fn a_planted_oversell_fails_the_run_and_is_named() {
    let ran = played(Bug::GrantOneTooMany, "rush", &RUSH).await;
    failed(&ran, "rush", "OVERSOLD");
    let accepted = ran.count("rushgate_accepted");
    let said = format!("OVERSOLD: {accepted} units of standard/0 are promised, and there are 40");
    assert!(accepted > 40 && ran.out.contains(&said) && ran.page.contains(&said), "{}\n{}", ran.out, ran.err);
    assert!(ran.err.contains("rushgate_promised_beyond_capacity{at:standard/0}"), "{}", ran.err);
}

#[cfg(feature = "planted-bugs")]
#[tokio::test(flavor = "multi_thread")]
async fn a_planted_second_order_above_the_limit_fails_the_run_and_is_named() {
    let ran = played(Bug::ForgetTheLimit, "soak", &SOAK).await;
    failed(&ran, "soak", "CONTRADICTED");
}

/// Crossed a threshold, and says this first.
#[cfg(feature = "planted-bugs")]
fn failed(ran: &Ran, script: &str, word: &str) {
    ran.ended(crate::run::CROSSED, script);
    assert!(ran.out.contains(&format!("rushgate {script}: FAILED")), "{}", ran.out);
    assert!(ran.out.contains(&format!("✗ {word}: ")), "{}\n{}", ran.out, ran.err);
}
