//! Each named instant at which a process can die: it dies there in the middle of a sale, is started again, and nothing is wrong.
//!
//! A point that no process reaches fails its test, and a point that is in no test fails one, too.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rushgate::crash::CrashPoint;
use rushgate::crash::CrashPoint as P;
use tokio::task::JoinSet;

use crate::buyers::Habits;
use crate::deployment::{Deployment, Private, until};
use crate::run::Run;
use crate::sales::SaleSpec;
use crate::tcp_proxy::{Rule, Way};

/// What the process that dies is.
const GATEWAY: usize = 0;
const WRITER: usize = 2;
/// How long a process may take to reach its point.
const REACHED: Duration = Duration::from_secs(60);
/// Units come back all the while, so that there is something to claim until the last point.
const BUSY: Habits = Habits { pay: 15, late: 10, cancel: 30, pace: Duration::from_millis(10) };

const OF_GATEWAYS: &[CrashPoint] = &[
    P::PermitTaken,
    P::ScriptSent,
    P::VerdictReceived,
    P::PublishWritten,
    P::ConfirmReceived,
    P::AnswerWritten,
    P::CallbackInserted,
    P::CallbackUpdated,
    P::CallbackCommitted,
];
/// A payment is late for an order whose time is over and that nobody has expired: for these, expiry is slow, and many pay late.
const OF_LATE_PAYMENTS: &[CrashPoint] = &[P::LateRevived];
const LATE_PAYERS: Habits = Habits { pay: 5, late: 70, cancel: 5, pace: Duration::from_millis(10) };
const SLOW_EXPIRY: &str = "payment.expiry_interval = \"3s\"";
const OF_WRITERS: &[CrashPoint] = &[
    P::WriterReceived,
    P::WriterInserted,
    P::WriterGuarded,
    P::WriterCommitting,
    P::WriterCommitted,
    P::WriterAcknowledged,
    P::ExpiryUpdated,
    P::ExpiryCommitted,
    P::ReturnsRead,
    P::ReturnsApplied,
];
/// The writer publishes again what nobody stored: for these, what gateways publish does not arrive.
const OF_RELAYS: &[CrashPoint] = &[P::RelayRead, P::RelayPublished];
const OF_RECOVERIES: &[CrashPoint] = &[
    P::RecoveryFenced,
    P::RecoveryExchangeDeleted,
    P::RecoveryOldFenced,
    P::RecoveryRedriven,
    P::RecoveryBarriersSent,
    P::RecoveryBarriersStored,
    P::RecoveryMinEpochSet,
    P::RecoveryRebuilt,
    P::RecoveryInventoryOpen,
    P::RecoveryExchangeMade,
    P::RecoveryOpened,
];

#[test]
fn every_point_is_died_at() {
    let died_at = [OF_GATEWAYS, OF_LATE_PAYMENTS, OF_WRITERS, OF_RELAYS, OF_RECOVERIES].concat();
    let missing: Vec<_> = CrashPoint::ALL.iter().filter(|point| !died_at.contains(point)).collect();
    assert!(missing.is_empty(), "no test dies at {missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_dies_anywhere_loses_and_doubles_nothing() {
    die_at_each(GATEWAY, OF_GATEWAYS, "", BUSY, 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_dies_over_a_late_payment_loses_and_doubles_nothing() {
    die_at_each(GATEWAY, OF_LATE_PAYMENTS, SLOW_EXPIRY, LATE_PAYERS, 14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_dies_anywhere_loses_and_doubles_nothing() {
    die_at_each(WRITER, OF_WRITERS, "", BUSY, 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_dies_anywhere_loses_and_doubles_nothing() {
    die_at_each(WRITER, OF_RELAYS, "", BUSY, 13).await;
}

/// Two gateways and a writer; the one that is meant dies at one point after the other, each time at another passage.
async fn die_at_each(who: usize, points: &[CrashPoint], settings: &str, habits: Habits, seed: u64) {
    let private = Private::shared().await;
    let mut deployment = Deployment::over(&private, settings).await;
    deployment.start(2, 1).await;
    let sales = vec![SaleSpec::concert("concert", 400, 3, 1), SaleSpec::train("train", 60, 1)];
    let run = Run::begin(&deployment, sales, habits, 8, seed).await;
    let mut chance = fastrand::Rng::with_seed(seed);
    for point in points {
        // What a relay passes is passed a few times; everything else many times a second.
        let passages = if OF_RELAYS.contains(point) { 1 } else { 4 };
        let armed = format!("{point}:{}", chance.u32(1..=passages));
        deployment.restart(who, &[("RUSHGATE_CRASH", &armed)]);
        if OF_RELAYS.contains(point) {
            for index in GATEWAY..WRITER {
                deployment.links[index].amqp.rule(Way::ToServer, Rule::Hold);
            }
        }
        dies(&mut deployment, who, &armed).await;
        (GATEWAY..WRITER).for_each(|index| deployment.links[index].amqp.heal());
        deployment.restart(who, &[]);
        deployment.ready().await;
    }
    deployment.heal().await;
    run.end(&deployment).await.is_clean();
}

/// Waits until the process has died at its point.
async fn dies(deployment: &mut Deployment, who: usize, armed: &str) {
    let status = until(&format!("it dies at {armed}"), REACHED, async || {
        deployment.ended(who).ok_or_else(|| "it lives".to_owned())
    })
    .await;
    let said = deployment.site.said(who);
    assert_eq!(status.signal(), Some(6), "{armed}: {said}");
    assert!(said.contains("told to end here"), "{armed}: {said}");
}

/// A deployment of one process for each step: all lose Redis' scripts at once, each dies at its step, and is followed by one that
/// takes over from it.
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_dies_between_any_two_steps_is_followed_by_one_that_ends() {
    let private = Private::shared().await;
    let mut deployments = Vec::new();
    for point in OF_RECOVERIES {
        let mut deployment = Deployment::over(&private, "").await;
        deployment.add("all", &[]).await;
        deployments.push((point.to_string(), deployment));
    }
    let mut runs = Vec::new();
    for (seed, (point, deployment)) in deployments.iter_mut().enumerate() {
        deployment.ready().await;
        let sales = vec![SaleSpec::concert("concert", 40, 2, 1)];
        let run = Run::begin(deployment, sales, BUSY, 2, 100 + seed as u64).await;
        deployment.restart(0, &[("RUSHGATE_CRASH", point)]);
        runs.push(run);
    }
    for (_, deployment) in &deployments {
        deployment.ready().await;
    }
    let _: () = private.redis.ask(&["SCRIPT", "FLUSH"]).await;
    for (point, deployment) in &mut deployments {
        dies(deployment, 0, point).await;
        deployment.restart(0, &[]);
    }
    let mut ends = JoinSet::new();
    for ((point, mut deployment), run) in deployments.into_iter().zip(runs) {
        ends.spawn(async move {
            deployment.heal().await;
            (point, run.end(&deployment).await)
        });
    }
    while let Some(ended) = ends.join_next().await {
        let (point, outcome) = ended.unwrap();
        assert!(outcome.violations.is_empty(), "{point}: {:#?}", outcome.violations);
    }
}
