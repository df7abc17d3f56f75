//! A rehearsal at nodes with a bug in them must fail and say what is wrong; the same one at honest nodes passes.

use rushgate::bugs::Bug;

use crate::run::{Ran, at, ran};
use crate::site::{Backends, Site};

/// Shards that let far more through than there is, so that it is the inventory that says no, or does not.
const SETTINGS: &str = "shard.buffer = \"100%\"\nshard.refill_interval = \"1s\"";
const RUSH: &str = "--json --duration 3s --rate 100 --stock 40 --patience 10s";
/// Half of those who have an order ask for another one.
const SOAK: &str = "--json --crowd soak --duration 3s --rate 40 --stock 60 --hold 3s --repeat 50 --patience 10s";

/// A rehearsal at three nodes and a writer with this bug in them.
async fn played(bug: Bug, settings: &str) -> Ran {
    let mut site = Site::new(Backends::Real, SETTINGS).await;
    site.environment = vec![("RUSHGATE_BUG".to_owned(), bug.as_str().to_owned())];
    for role in ["gateway", "gateway", "gateway", "writer"] {
        site.add(role);
    }
    site.ready().await;
    ran(&mut at(&site, settings)).await
}

#[cfg(not(feature = "planted-bugs"))]
#[tokio::test(flavor = "multi_thread")]
async fn what_shows_an_oversell_and_a_forgotten_limit_passes_without_them() {
    let (rush, soak) = tokio::join!(played(Bug::GrantOneTooMany, RUSH), played(Bug::ForgetTheLimit, SOAK));
    rush.ended(crate::run::PASSED, &[]);
    assert_eq!(rush.report()["accepted"], 40, "{}", rush.out);
    soak.ended(crate::run::PASSED, &[]);
}

#[cfg(feature = "planted-bugs")]
#[tokio::test(flavor = "multi_thread")]
async fn a_planted_oversell_fails_the_rehearsal_and_is_named() {
    let ran = played(Bug::GrantOneTooMany, RUSH).await;
    ran.ended(crate::run::BROKEN, &[]);
    let report = ran.report();
    let accepted = report["accepted"].as_u64().unwrap();
    let said = format!("OVERSOLD: {accepted} units of standard/0 are promised, and there are 40");
    assert!(accepted > 40 && report["verdict"]["broken"].as_array().unwrap().contains(&said.into()), "{report}");
    let first = report["verdict"]["broken"][0].as_str().unwrap();
    assert!(first.starts_with("OVERSOLD: "), "the worst comes first: {first}");
}

#[cfg(feature = "planted-bugs")]
#[tokio::test(flavor = "multi_thread")]
async fn a_planted_second_order_above_the_limit_fails_the_rehearsal_and_is_named() {
    let ran = played(Bug::ForgetTheLimit, SOAK).await;
    ran.ended(crate::run::BROKEN, &["CONTRADICTED: "]);
}
