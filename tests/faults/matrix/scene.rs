//! A sale in full swing, a fault in the middle of it, and what the buyers noticed.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use crate::buyers::Habits;
use crate::deployment::{Deployment, Private, until};
use crate::log::{Act, Entry, Kind};
use crate::matrix::table;
use crate::run::Run;
use crate::sales::SaleSpec;

/// Many change their mind, so that a small sale lasts; some pay, some let their hold run out.
pub(crate) const FICKLE: Habits = Habits { pay: 12, late: 0, cancel: 70, pace: Duration::from_millis(40) };
/// Few pay or cancel and nobody hurries: for a store that is away, where whoever pays is told to wait and asks nothing else.
pub(crate) const UNHURRIED: Habits = Habits { pay: 8, late: 0, cancel: 8, pace: Duration::from_millis(300) };
/// How long after a fault a busy machine may need until somebody hears yes again.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many hear yes before a fault begins, and after it is over.
const WARM: usize = 15;

/// What a row is played on.
pub(crate) struct Stage {
    pub(crate) gateways: usize,
    pub(crate) writers: usize,
    pub(crate) settings: &'static str,
    /// Buyers at once.
    pub(crate) buyers: u64,
    pub(crate) habits: Habits,
    pub(crate) sale: SaleSpec,
}

impl Default for Stage {
    fn default() -> Self {
        let sale = SaleSpec::concert("matrix", 400, 4, 2);
        Self { gateways: 2, writers: 1, settings: "", buyers: 8, habits: FICKLE, sale }
    }
}

/// A deployment over the shared servers that sells.
pub(crate) struct Scene {
    pub(crate) private: OwnedMutexGuard<Private>,
    pub(crate) deployment: Deployment,
    pub(crate) run: Run,
}

/// A fault, since when.
pub(crate) struct Fault {
    name: &'static str,
    since: u64,
}

impl Scene {
    pub(crate) async fn open(seed: u64) -> Self {
        Self::on(Stage::default(), seed).await
    }

    pub(crate) async fn on(stage: Stage, seed: u64) -> Self {
        let private = Private::shared().await;
        Self::over(private, stage, seed).await
    }

    /// A sale in which few pay or cancel.
    pub(crate) async fn unhurried(seed: u64) -> Self {
        Self::on(Stage { habits: UNHURRIED, ..Stage::default() }, seed).await
    }

    /// A sale over servers that were made ready for it.
    pub(crate) async fn over(private: OwnedMutexGuard<Private>, stage: Stage, seed: u64) -> Self {
        let mut deployment = Deployment::over(&private, stage.settings).await;
        deployment.start(stage.gateways, stage.writers).await;
        let run = Run::begin(&deployment, vec![stage.sale], stage.habits, stage.buyers, seed).await;
        Self { private, deployment, run }
    }

    /// The first gateway's place among the processes is 0; this is the first writer's.
    pub(crate) fn writer(&self) -> usize {
        self.deployment.len() - 1
    }

    /// Waits until so many more have heard yes.
    pub(crate) async fn sells(&self, more: usize) {
        let since = self.run.log().now();
        until("buyers hear yes", PATIENCE, async || {
            let yes = yeses(&self.run.log().read(), since).count();
            if yes >= more { Ok(()) } else { Err(format!("{yes} of {more} do")) }
        })
        .await;
    }

    /// Waits until a claim has heard this since the fault began: not every machine is as fast as the next.
    pub(crate) async fn hears(&self, fault: &Fault, expected: &str) {
        until("a claim hears it", PATIENCE, async || {
            let heard = Heard::of(fault.name, &self.run.log().read(), fault.since);
            if heard.claims.contains_key(expected) { Ok(()) } else { Err(format!("{expected}: {heard:?}")) }
        })
        .await;
    }

    /// What comes next in the test is this fault.
    pub(crate) async fn fault(&self, name: &'static str) -> Fault {
        self.sells(WARM).await;
        Fault { name, since: self.run.log().now() }
    }

    /// The fault is over: everything heals, and buyers hear yes. The row goes into the table.
    pub(crate) async fn healed(&mut self, fault: Fault) -> Heard {
        self.deployment.heal().await;
        self.over_by_itself(fault).await
    }

    /// The same for what heals without a hand. Some yeses may still have been on their way when it began.
    pub(crate) async fn over_by_itself(&self, fault: Fault) -> Heard {
        self.sells(WARM).await;
        let heard = Heard::of(fault.name, &self.run.log().read(), fault.since);
        table::add(heard.row());
        heard
    }

    /// Everybody hears what became of their claim, the rest is bought, and the checker has nothing to say.
    pub(crate) async fn ends_clean(self) {
        self.emptied().await;
    }

    /// The same; the servers are left for whoever has to put them back to what they were.
    pub(crate) async fn emptied(self) -> OwnedMutexGuard<Private> {
        let Self { private, deployment, run } = self;
        run.end(&deployment).await.is_clean();
        private
    }
}

fn yeses(log: &[Entry], since: u64) -> impl Iterator<Item = &Entry> {
    log.iter().filter(move |entry| entry.at > since && entry.act == Act::Claim && entry.kind == Kind::Ok)
}

/// What buyers heard from the beginning of a fault until the sale went on.
#[derive(Debug, PartialEq)]
pub(crate) struct Heard {
    fault: &'static str,
    /// Answers to claims, such as `503 busy`, and how many.
    claims: BTreeMap<String, usize>,
    /// To payments, cancellations and looks at an order.
    orders: BTreeMap<String, usize>,
    /// The longest time in which no claim heard yes.
    outage: Duration,
}

impl Heard {
    pub(crate) fn of(fault: &'static str, log: &[Entry], since: u64) -> Self {
        let (mut claims, mut orders) = (BTreeMap::new(), BTreeMap::new());
        for entry in log.iter().filter(|entry| entry.at > since && entry.kind != Kind::Invoke) {
            let heard = if entry.act == Act::Claim { &mut claims } else { &mut orders };
            *heard.entry(answer(entry)).or_default() += 1;
        }
        let mut at: Vec<_> = std::iter::once(since).chain(yeses(log, since).map(|entry| entry.at)).collect();
        at.sort_unstable();
        let outage = at.windows(2).map(|two| two[1] - two[0]).max().unwrap_or(0);
        Self { fault, claims, orders, outage: Duration::from_micros(outage) }
    }

    /// Besides yes, claims heard nothing but this.
    pub(crate) fn at_most(&self, allowed: &[&str]) -> &Self {
        let other: Vec<_> =
            self.claims.keys().filter(|heard| !is_fair(heard) && !allowed.contains(&heard.as_str())).collect();
        assert!(other.is_empty(), "claims heard {other:?}, of {self:?}");
        self
    }

    /// Some claim heard one of these.
    pub(crate) fn some(&self, expected: &[&str]) -> &Self {
        assert!(expected.iter().any(|heard| self.claims.contains_key(*heard)), "no claim heard {expected:?}: {self:?}");
        self
    }

    /// Besides what they wanted, payments, cancellations and looks heard nothing but this.
    pub(crate) fn orders_at_most(&self, allowed: &[&str]) -> &Self {
        let fair = |heard: &str| is_fair(heard) || heard == "409 not_held";
        let other: Vec<_> =
            self.orders.keys().filter(|heard| !fair(heard) && !allowed.contains(&heard.as_str())).collect();
        assert!(other.is_empty(), "about orders was heard {other:?}, of {self:?}");
        self
    }

    /// Somebody heard yes within every such time.
    pub(crate) fn within(&self, longest: Duration) -> &Self {
        assert!(self.outage <= longest, "nobody heard yes for more than {longest:?}: {self:?}");
        self
    }

    fn row(&self) -> table::Row {
        let list = |heard: &BTreeMap<String, usize>| {
            let list = heard.iter().map(|(answer, count)| format!("{answer} ×{count}")).collect::<Vec<_>>();
            if list.is_empty() { "nothing".to_owned() } else { list.join(", ") }
        };
        table::Row {
            fault: self.fault.to_owned(),
            claims: list(&self.claims),
            orders: list(&self.orders),
            outage: self.outage,
        }
    }
}

/// What one hears on any day: a yes, or that everything is taken.
fn is_fair(heard: &str) -> bool {
    ["200", "201", "409 sold_out", "409 all_held"].contains(&heard)
}

fn answer(entry: &Entry) -> String {
    match (entry.status, &entry.code) {
        (Some(status), Some(code)) => format!("{status} {code}"),
        (Some(status), None) => status.to_string(),
        (None, Some(why)) if why.contains("no answer in time") => "no answer".to_owned(),
        (None, _) => "cut off".to_owned(),
    }
}
