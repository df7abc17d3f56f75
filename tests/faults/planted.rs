//! The checker is checked: a program with a bug in it is run through the one thing that shows the bug, and the checker must say so.
//!
//! Without the feature `planted-bugs` the bugs are not there: then the same scenarios must be clean, or what they show is something else.

use std::time::Duration;

use rushgate::bugs::Bug;
use sqlx::{AssertSqlSafe, Executor};
use tokio::time::Instant;

use crate::buyers::Habits;
use crate::checker::Invariant::{self, I1, I3, I4, I7, I9};
use crate::deployment::{Deployment, Private, until};
use crate::log::{Act, Entry, Kind, Subject};
use crate::run::{Outcome, Patience, Run, quiet};
use crate::sales::SaleSpec;
use crate::tcp_proxy::{Rule, Way};

/// Nobody comes by himself.
const NOBODY: Habits = Habits { pay: 0, late: 0, cancel: 0, pace: Duration::from_secs(1) };
const PATIENCE: Patience = Patience { rest: Duration::from_secs(20), quiet: Duration::from_secs(15) };
/// How long something may take that only happens where the bug is.
const TEMPTATION: Duration = Duration::from_secs(6);
const GATEWAY: usize = 0;
const WRITER: usize = 1;

/// Every bug, and the invariants of which it breaks at least one.
const BUGS: [(Bug, &[Invariant]); 8] = [
    (Bug::ReleaseOnTimeout, &[I1, I3, I7]),
    (Bug::ReleaseTwice, &[I1, I3, I7, I9]),
    (Bug::AnswerBeforeConfirm, &[I3]),
    (Bug::NoRestartCheck, &[I1, I3]),
    (Bug::NoBarrier, &[I1, I3]),
    (Bug::GrantOneTooMany, &[I1, I3]),
    (Bug::ForgetTheLimit, &[I4]),
    (Bug::AckBeforeCommit, &[I3]),
];

#[cfg(not(feature = "planted-bugs"))]
#[tokio::test(flavor = "multi_thread")]
async fn what_shows_each_bug_is_clean_without_it() {
    let mut private = Private::shared().await;
    for (bug, _) in BUGS {
        let outcome = Stage::set(&mut private, bug).await.play(bug).await;
        assert!(outcome.violations.is_empty(), "{}: {:#?}", bug.as_str(), outcome.violations);
    }
}

#[cfg(feature = "planted-bugs")]
#[tokio::test(flavor = "multi_thread")]
async fn each_planted_bug_is_found() {
    assert_eq!(BUGS.map(|(bug, _)| bug), *Bug::ALL);
    let mut private = Private::shared().await;
    let mut missed = Vec::new();
    for (bug, breaks) in BUGS {
        let outcome = Stage::set(&mut private, bug).await.play(bug).await;
        let broken: Vec<_> = outcome.violations.iter().map(|violation| violation.invariant).collect();
        if !breaks.iter().any(|invariant| broken.contains(invariant)) {
            missed.push(format!("{} breaks one of {breaks:?}, but found is {:#?}", bug.as_str(), outcome.violations));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// A gateway and a writer with the bug in them, and a small sale.
struct Stage<'a> {
    private: &'a mut Private,
    deployment: Deployment,
    run: Run,
    chance: fastrand::Rng,
}

impl<'a> Stage<'a> {
    async fn set(private: &'a mut Private, bug: Bug) -> Self {
        let mut deployment = Deployment::over(private, "").await;
        let environment = [("RUSHGATE_BUG", bug.as_str())];
        deployment.add("gateway", &environment).await;
        deployment.add("writer", &environment).await;
        deployment.ready().await;
        let sales = vec![SaleSpec::concert("s", 4, 1, 3)];
        let run = Run::begin(&deployment, sales, NOBODY, 0, 1).await;
        Self { private, deployment, run, chance: fastrand::Rng::with_seed(1) }
    }

    async fn play(mut self, bug: Bug) -> Outcome {
        match bug {
            Bug::ReleaseOnTimeout => self.confirms_are_late().await,
            Bug::ReleaseTwice => self.one_of_two_cancels().await,
            Bug::AnswerBeforeConfirm => self.a_publish_never_arrives().await,
            Bug::NoRestartCheck => self.redis_forgets_a_while().await,
            Bug::NoBarrier => self.lanes_are_full_when_redis_is_lost(bug).await,
            Bug::GrantOneTooMany => self.one_more_comes_than_there_are(bug).await,
            Bug::ForgetTheLimit => self.one_asks_three_times().await,
            Bug::AckBeforeCommit => self.the_writer_dies_before_it_commits().await,
        }
        // The bug stays where it is: `heal` would start the processes without it, but none has ended.
        self.deployment.heal().await;
        self.run.end_within(PATIENCE, &self.deployment).await
    }

    async fn confirms_are_late(&mut self) {
        self.deployment.links[GATEWAY].amqp.rule(Way::ToClient, Rule::Hold);
        for buyer in ["alice", "bob", "carol"] {
            self.claim(buyer, "k").await;
        }
        self.deployment.links[GATEWAY].amqp.heal();
        for buyer in ["alice", "bob", "carol"] {
            self.resolve_and_pay(buyer).await;
        }
    }

    async fn one_of_two_cancels(&mut self) {
        let alice = self.claim("alice", "k").await;
        self.claim("bob", "k").await;
        quiet(self.deployment.sources(), PATIENCE.quiet).await;
        let order = alice.order().unwrap_or_default().to_owned();
        self.run.crowd().send(Act::Cancel, &about("alice", "k"), &order, &mut self.chance).await;
        quiet(self.deployment.sources(), PATIENCE.quiet).await;
    }

    async fn a_publish_never_arrives(&mut self) {
        self.deployment.links[GATEWAY].amqp.rule(Way::ToServer, Rule::Swallow);
        let answer = self.claim("alice", "k").await;
        self.deployment.kill(GATEWAY);
        self.private.redis.restart_empty().await;
        self.deployment.heal().await;
        // Who heard a yes does not ask again, which would make the order anew.
        if answer.kind != Kind::Ok {
            self.resolve_and_pay("alice").await;
        }
    }

    async fn redis_forgets_a_while(&mut self) {
        self.resolve_and_pay("alice").await;
        quiet(self.deployment.sources(), PATIENCE.quiet).await;
        let copy = self.private.redis.copy().await;
        for buyer in ["bob", "carol"] {
            self.resolve_and_pay(buyer).await;
        }
        quiet(self.deployment.sources(), PATIENCE.quiet).await;
        self.private.redis.restart_with(&copy).await;
    }

    async fn lanes_are_full_when_redis_is_lost(&mut self, bug: Bug) {
        // The first writer has all lanes; the second is next in line.
        self.deployment.add("writer", &[("RUSHGATE_BUG", bug.as_str())]).await;
        self.deployment.ready().await;
        self.deployment.freeze(WRITER);
        for buyer in ["alice", "bob", "carol", "dave"] {
            self.claim(buyer, "k").await;
        }
        self.private.redis.restart_empty().await;
        let begun = Instant::now();
        for buyer in ["erin", "frank", "grace", "heidi"] {
            while begun.elapsed() < TEMPTATION && self.claim(buyer, "k").await.kind != Kind::Ok {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        self.deployment.restart(WRITER, &[("RUSHGATE_BUG", bug.as_str())]);
    }

    async fn one_more_comes_than_there_are(&mut self, bug: Bug) {
        // A gateway that hears nothing of the others' sales lets one more through to the script.
        let other = self.deployment.add("gateway", &[("RUSHGATE_BUG", bug.as_str())]).await;
        self.deployment.ready().await;
        self.deployment.site.knows("s", 1).await;
        self.deployment.links[other].redis.rule(Way::ToClient, Rule::Hold);
        let door = self.deployment.doors().pop().expect("its door");
        for buyer in ["alice", "bob", "carol", "dave"] {
            self.claim(buyer, "k").await;
        }
        self.run.crowd().send_to(&door, Act::Claim, &about("erin", "k"), "").await;
        self.deployment.links[other].redis.heal();
        self.resolve_and_pay("erin").await;
    }

    async fn one_asks_three_times(&mut self) {
        for key in ["k1", "k2", "k3"] {
            let answer = self.claim("alice", key).await;
            if let Some(order) = answer.order() {
                self.pay(&about("alice", key), order).await;
            }
        }
    }

    async fn the_writer_dies_before_it_commits(&mut self) {
        let mut session = self.private.mariadb.connection().await;
        let lock = format!("LOCK TABLES {}.orders WRITE", self.deployment.sources().namespace);
        session.execute(AssertSqlSafe(lock)).await.unwrap();
        self.claim("alice", "k").await;
        let begun = Instant::now();
        let lane = format!("{}.lane.", self.deployment.sources().namespace);
        until("the message is acknowledged, or is not", TEMPTATION * 2, async || {
            let said =
                tokio::task::block_in_place(|| self.private.rabbitmq.control(&["list_queues", "name", "messages"]));
            let waits = said.lines().any(|line| line.starts_with(&lane) && !line.ends_with("\t0"));
            if waits && begun.elapsed() < TEMPTATION { Err(said) } else { Ok(()) }
        })
        .await;
        self.deployment.kill(WRITER);
        drop(session);
        self.private.redis.restart_empty().await;
    }

    async fn claim(&mut self, buyer: &str, key: &str) -> Entry {
        self.run.crowd().send(Act::Claim, &about(buyer, key), "", &mut self.chance).await
    }

    /// Asks until it is known, and pays until that is.
    async fn resolve_and_pay(&mut self, buyer: &str) {
        let order = until("the claim is known", PATIENCE.rest, async || {
            let answer = self.claim(buyer, "k").await;
            match answer.kind {
                Kind::Ok => Ok(Some(answer.order().unwrap_or_default().to_owned())),
                Kind::No if answer.status != Some(503) => Ok(None),
                _ => Err(format!("{answer:?}")),
            }
        })
        .await;
        if let Some(order) = order {
            self.pay(&about(buyer, "k"), &order).await;
        }
    }

    async fn pay(&mut self, about: &Subject, order: &str) {
        until("the payment is known", PATIENCE.rest, async || {
            let answer = self.run.crowd().send(Act::Pay, about, order, &mut self.chance).await;
            let known = answer.kind == Kind::Ok || (answer.kind == Kind::No && answer.status != Some(503));
            if known { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }
}

fn about(buyer: &str, key: &str) -> Subject {
    let asked = SaleSpec::concert("s", 4, 1, 3).ask(buyer, 0, 1, 1);
    Subject { sale: "s".to_owned(), buyer: buyer.to_owned(), key: key.to_owned(), asked }
}
