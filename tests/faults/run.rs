//! A run from its first buyer to the checker's verdict.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::buyers::{Crowd, Habits, Rush};
use crate::checker::{Violation, check};
use crate::deployment::Deployment;
use crate::findings::{Findings, Sources, sample};
use crate::log::{Entry, Log};
use crate::sales::SaleSpec;

/// Between two looks at the counters and the guard while a run goes on.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// What a run waits for that ends well, on a busy machine.
const PATIENCE: Patience = Patience { rest: Duration::from_secs(120), quiet: Duration::from_secs(60) };

/// How long the end of a run may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For fresh buyers to buy the rest, holds that run out included.
    pub(crate) rest: Duration,
    /// For what is on its way to arrive, once nobody asks for anything.
    pub(crate) quiet: Duration,
}

/// Buyers, and a look over the system's shoulder, while a test does to the system what it likes.
pub(crate) struct Run {
    dir: TempDir,
    sales: Vec<SaleSpec>,
    rush: Rush,
    sampled: Arc<Mutex<Vec<String>>>,
    _sampler: JoinSet<()>,
}

/// What a run came to.
pub(crate) struct Outcome {
    pub(crate) log: Vec<Entry>,
    pub(crate) found: Findings,
    pub(crate) violations: Vec<Violation>,
}

impl Run {
    /// Creates the sales and lets the buyers in.
    pub(crate) async fn begin(
        deployment: &Deployment,
        sales: Vec<SaleSpec>,
        habits: Habits,
        at_once: u64,
        seed: u64,
    ) -> Self {
        deployment.create(&sales).await;
        let dir = TempDir::new().expect("a temporary folder");
        let log = Arc::new(Log::create(&dir.path().join("client.jsonl")));
        let crowd = Crowd { sales: sales.clone(), doors: deployment.doors(), log, habits };
        let (sampled, mut watching) = (Arc::new(Mutex::new(Vec::new())), JoinSet::new());
        watching.spawn(watch(deployment.sources().clone(), Arc::clone(&sampled)));
        Self { dir, sales, rush: Rush::begin(crowd, at_once, seed), sampled, _sampler: watching }
    }

    pub(crate) fn crowd(&self) -> &Crowd {
        self.rush.crowd()
    }

    pub(crate) fn log(&self) -> &Log {
        &self.rush.crowd().log
    }

    /// The faults are over and the deployment is whole: everybody hears what became of their claims, fresh buyers buy the rest, all
    /// becomes quiet, and the checker speaks.
    pub(crate) async fn end(self, deployment: &Deployment) -> Outcome {
        self.end_within(PATIENCE, deployment).await
    }

    pub(crate) async fn end_within(self, patience: Patience, deployment: &Deployment) -> Outcome {
        let Self { dir, sales, rush, sampled, _sampler } = self;
        let crowd = rush.end().await;
        crowd.buy_the_rest(patience.rest).await;
        let mut found = quiet(deployment.sources(), patience.quiet).await;
        found.sampled.append(&mut sampled.lock().expect("samples"));
        let log = crowd.log.read();
        let violations = check(&sales, &log, &found);
        if !violations.is_empty() {
            // What the verdict rests on outlives the test.
            let kept = dir.keep();
            report(&violations, &kept.join("client.jsonl").display().to_string());
        }
        Outcome { log, found, violations }
    }
}

impl Outcome {
    pub(crate) fn is_clean(&self) -> &Self {
        let some = &self.violations[..self.violations.len().min(10)];
        assert!(self.violations.is_empty(), "{} violations: {some:#?}", self.violations.len());
        self
    }
}

#[expect(clippy::print_stderr, reason = "whoever reads a failed run wants to know where its log is")]
fn report(violations: &[Violation], log: &str) {
    eprintln!("{} violations; the client log is {log}", violations.len());
}

async fn watch(sources: Sources, sampled: Arc<Mutex<Vec<String>>>) {
    loop {
        // What cannot be asked now is asked again: the servers are being broken all the while.
        if let Ok(Ok(wrong)) = tokio::time::timeout(Duration::from_secs(2), sample(&sources)).await {
            sampled.lock().expect("samples").extend(wrong);
        }
        tokio::time::sleep(SAMPLE_INTERVAL).await;
    }
}

/// What is found when nothing is on its way any more, or when patience ends.
pub(crate) async fn quiet(sources: &Sources, patience: Duration) -> Findings {
    let (begun, mut calm) = (Instant::now(), 0);
    loop {
        let found = Findings::read(sources).await.unwrap_or_else(|error| panic!("it cannot be read: {error}"));
        // Twice in a row: a message that a writer has in hand is in no queue and not yet a row.
        calm = if found.unrest().is_empty() { calm + 1 } else { 0 };
        if calm == 2 || begun.elapsed() > patience {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
