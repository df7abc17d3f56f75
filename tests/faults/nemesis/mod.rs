//! The nemesis: random faults at a few per minute, by a plan that its seed makes, while buyers buy. Then all heals, fresh buyers buy
//! the rest, and the checker speaks.
//!
//! `RUSHGATE_SOAK_MINUTES` makes it long (`tests/run --soak`), `RUSHGATE_NEMESIS_SEED` repeats a plan.

use std::time::Duration;

use tokio::time::Instant;

use crate::buyers::Habits;
use crate::deployment::{Deployment, Private, until};
use crate::log::Kind;
use crate::nemesis::fault::Victim;
use crate::nemesis::plan::plan;
use crate::nemesis::report::{Injected, Report, longest_wait, unknowns};
use crate::nemesis::vitals::Vitals;
use crate::private_redis::Persistence;
use crate::run::Run;
use crate::sales::SaleSpec;

mod fault;
mod plan;
mod report;
mod vitals;

const GATEWAYS: usize = 2;
const WRITERS: usize = 2;
/// How long a plan is where nobody asks for a soak.
const SHORT: Duration = Duration::from_secs(60);
/// The plan of a run that nobody gave another.
const SEED: u64 = 20_261_121;
/// The longest fault, a recovery that waits for another's to be given up, and a restart of the slowest server.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Most units come back, so that there is something to claim to the end.
const RESTLESS: Habits = Habits { pay: 4, late: 4, cancel: 40, pace: Duration::from_millis(30) };

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_nothing_is_lost_nothing_is_sold_twice_nothing_is_stranded() {
    let soak = number("RUSHGATE_SOAK_MINUTES").map(|minutes| Duration::from_secs(60 * minutes));
    let seed = number("RUSHGATE_NEMESIS_SEED").unwrap_or(SEED);
    let duration = soak.unwrap_or(SHORT);
    let private = Private::start(Persistence::Everything).await;
    let mut deployment = Deployment::over(&private, "").await;
    deployment.start(GATEWAYS, WRITERS).await;
    let capacity = 150 + u32::try_from(duration.as_secs()).expect("less than a lifetime");
    let sales = vec![SaleSpec::concert("concert", capacity, 4, 1), SaleSpec::train("train", capacity / 4, 1)];
    let run = Run::begin(&deployment, sales, RESTLESS, 8, seed).await;
    until("buyers are served", Duration::from_secs(60), async || {
        let yes = run.log().read().iter().filter(|entry| entry.kind == Kind::Ok).count();
        if yes >= 100 { Ok(()) } else { Err(format!("{yes} were")) }
    })
    .await;
    let before = Vitals::at_work(&deployment);
    let mut victim = Victim::new(private, deployment);
    let injected = torment(&mut victim, &run, seed, duration).await;
    victim.deployment.heal().await;
    let outcome = run.end(&victim.deployment).await;
    let after = settled(&victim.deployment, &before).await;
    say(&Report { seed, injected: &injected, outcome: &outcome, before: &before, after: &after }.text());
    outcome.is_clean();
    assert!(after.grown_since(&before).is_empty(), "{:?}", after.grown_since(&before));
    let waited = longest_wait(&outcome.log);
    assert!(waited < LONGEST_WAIT, "a buyer waited {waited:?}");
    let (unknown, resolved) = unknowns(&outcome.log);
    assert_eq!(resolved, unknown, "every perhaps is resolved");
}

/// Carries out the plan.
async fn torment(victim: &mut Victim, run: &Run, seed: u64, duration: Duration) -> Vec<Injected> {
    let mut chance = fastrand::Rng::with_seed(seed ^ 1);
    let mut injected = Vec::new();
    for step in plan(seed, duration, GATEWAYS, WRITERS) {
        tokio::time::sleep(step.rest).await;
        let from = run.log().now();
        for fault in &step.faults {
            victim.inject(*fault, &mut chance).await;
        }
        tokio::time::sleep(step.lasts).await;
        for fault in step.faults.iter().rev() {
            victim.undo(*fault).await;
        }
        let to = run.log().now();
        say(&format!("{:7.1} s to {:.1} s: {:?}", seconds(from), seconds(to), step.faults));
        injected.extend(step.faults.iter().map(|fault| Injected { kind: fault.kind(), from, to }));
    }
    injected
}

/// What a deployment at rest has, once it has come back to its level, or when patience ends.
async fn settled(deployment: &Deployment, before: &Vitals) -> Vitals {
    let begun = Instant::now();
    loop {
        let now = Vitals::at_rest(deployment).await;
        if now.grown_since(before).is_empty() || begun.elapsed() > Duration::from_secs(60) {
            return now;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[expect(clippy::print_stderr, reason = "the report is what a soak is for")]
fn say(text: &str) {
    eprintln!("{text}");
}
