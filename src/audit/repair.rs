//! Repairs what an audit found and what has one right answer; everything else it names and leaves.
//!
//! | what is broken | what is right |
//! |---|---|
//! | the guard's count of live units | the orders: they are counted again |
//! | a payment that waits for an order that is there | the judgement that its recording would have made |
//! | an order that only the inventory has, held | it was promised: it is published again, as any order is |
//! | an inventory that is not what the store says | the store: the scope is fenced, and a writer's recovery rebuilds it |
//!
//! In this order: an order that is driven again needs a guard that is right, and a rebuild forgets what is not in the store. Each
//! step is safe to repeat and to leave half done, so a repair that dies is followed by another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::audit::damage::Damage;
use crate::audit::report::{NAMED, Report, Verdict};
use crate::audit::{Auditor, Examined, Interrupted, PAUSE, SUSPECTS};
use crate::domain::{OrderId, SaleId, Scope};
use crate::inventory::Fault;
use crate::queue::Publisher;
use crate::queue::envelope::Envelope;

/// Orders in one message.
const MESSAGE: usize = 64;
/// How long driven orders may take to become rows.
const DRIVE_PATIENCE: Duration = Duration::from_secs(30);
/// How long a recovery may take; a million orders take less.
const REBUILD_PATIENCE: Duration = Duration::from_secs(120);
/// What a motion may take that a step has set off, before the last audit tells how things are.
const SETTLE: Duration = Duration::from_secs(10);

/// Repairs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repairer {
    auditor: Auditor,
    publisher: Arc<dyn Publisher>,
}

/// What a repair did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    pub dry_run: bool,
    pub before: Report,
    pub actions: Vec<Action>,
    /// None after a dry run.
    pub after: Option<Report>,
}

/// One step of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub kind: Kind,
    /// A sale, or the scope that is rebuilt.
    pub subject: String,
    pub what: String,
    pub done: bool,
    /// Why it was not done; none in a dry run.
    pub why_not: Option<String>,
    pub count: u64,
    /// The first of the orders that it is about.
    pub orders: Vec<String>,
}

/// The kinds of repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Recount,
    MatchPayments,
    Drive,
    Rebuild,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recount => "recount",
            Self::MatchPayments => "match_payments",
            Self::Drive => "drive",
            Self::Rebuild => "rebuild",
        }
    }
}

impl Repair {
    /// How things are at its end.
    pub fn verdict(&self) -> Verdict {
        self.after.as_ref().unwrap_or(&self.before).verdict
    }
}

/// A step that was carried out, one that was not, or one that would be.
type Outcome = Option<Result<String, String>>;

impl Action {
    fn new(kind: Kind, subject: impl ToString, (what, outcome): (&str, Outcome), orders: &[OrderId]) -> Self {
        let (what, done, why_not) = match outcome {
            None => (what.to_owned(), false, None),
            Some(Ok(more)) => (format!("{what}{more}"), true, None),
            Some(Err(why)) => (what.to_owned(), false, Some(why)),
        };
        Self {
            kind,
            subject: subject.to_string(),
            what,
            done,
            why_not,
            count: orders.len() as u64,
            orders: orders.iter().take(NAMED).map(ToString::to_string).collect(),
        }
    }
}

impl Repairer {
    pub fn new(auditor: Auditor, publisher: Arc<dyn Publisher>) -> Self {
        Self { auditor, publisher }
    }

    /// Audits, repairs, and audits again. Each audit waits at most `wait` for what is in motion.
    pub async fn repair(
        &self,
        only: Option<&SaleId>,
        (wait, dry_run): (Duration, bool),
        stop: &CancellationToken,
    ) -> Result<Repair, Interrupted> {
        let Examined { report: before, damages } = self.auditor.examine(only, wait, stop).await?;
        let mut actions = Vec::new();
        for damage in &damages {
            self.mend(damage, dry_run, &mut actions).await?;
        }
        if dry_run {
            let rebuilds: BTreeSet<_> =
                damages.iter().filter(|damage| damage.wants_rebuild_anyway()).map(|damage| damage.scope).collect();
            for scope in rebuilds {
                actions.push(rebuild_action(scope, &damages, None));
            }
            return Ok(Repair { dry_run, before, actions, after: None });
        }
        let settle = wait.max(SETTLE);
        if damages.iter().any(Damage::wants_rebuild) {
            // Of all sales: a rebuild is of a partition, and what was mended may have been all that differed.
            let Examined { damages, .. } = self.auditor.examine(None, settle, stop).await?;
            self.rebuild_all(&damages, &mut actions).await;
        }
        let after = self.auditor.examine(only, if actions.is_empty() { wait } else { settle }, stop).await?.report;
        Ok(Repair { dry_run, before, actions, after: Some(after) })
    }

    /// What is done sale by sale.
    async fn mend(&self, damage: &Damage, dry_run: bool, actions: &mut Vec<Action>) -> Result<(), Interrupted> {
        let Damage { sale, unmatched, .. } = damage;
        if damage.miscounted {
            let outcome = if dry_run { None } else { Some(self.recount(sale).await) };
            actions.push(Action::new(
                Kind::Recount,
                sale,
                ("count the guard's live units from the orders", outcome),
                &[],
            ));
        }
        if !unmatched.is_empty() {
            let outcome = if dry_run { None } else { Some(self.match_payments(unmatched).await) };
            let what = "apply the payments that wait for orders that are there";
            actions.push(Action::new(Kind::MatchPayments, sale, (what, outcome), unmatched));
        }
        // What the store refused it refuses again, and each refusal of its guard fences the inventory.
        let refused = self.auditor.store.quarantined(sale, u32::try_from(SUSPECTS).unwrap_or(u32::MAX)).await?;
        let refused: BTreeSet<_> = refused.into_iter().collect();
        let stranded: Vec<_> = damage.stranded.iter().copied().filter(|id| !refused.contains(id)).collect();
        if !stranded.is_empty() {
            let outcome = if dry_run { None } else { Some(self.drive(damage.scope, &stranded).await) };
            let what = "publish orders again that only the inventory has";
            actions.push(Action::new(Kind::Drive, sale, (what, outcome), &stranded));
        }
        Ok(())
    }

    async fn recount(&self, sale: &SaleId) -> Result<String, String> {
        let rows = self.auditor.store.recount(sale).await.map_err(|fault| fault.to_string())?;
        let rows = rows.iter().map(|row| format!("; {}/{}: {} → {}", row.pool, row.leg, row.was, row.live));
        Ok(rows.collect())
    }

    async fn match_payments(&self, orders: &[OrderId]) -> Result<String, String> {
        let matched = self.auditor.store.match_payments(orders).await;
        matched.map(|()| String::new()).map_err(|fault| fault.to_string())
    }

    /// Publishes them as a gateway does, and waits until they are rows. Sent twice they are rows once.
    async fn drive(&self, scope: Scope, ids: &[OrderId]) -> Result<String, String> {
        let mut orders = Vec::new();
        for &id in ids {
            let known = self.auditor.inventory.order(scope, id).await.map_err(|fault| fault.to_string())?;
            orders.extend(known.map(|known| known.order));
        }
        for orders in orders.chunks(MESSAGE) {
            let envelope = Envelope::orders(scope, None, orders.to_vec());
            self.publisher.publish(envelope).await.map_err(|fault| fault.to_string())?;
        }
        let begun = Instant::now();
        let mut missing: Vec<_> = ids.to_vec();
        loop {
            let mut still = Vec::new();
            for id in missing {
                if self.auditor.store.order(id).await.map_err(|fault| fault.to_string())?.is_none() {
                    still.push(id);
                }
            }
            missing = still;
            if missing.is_empty() {
                return Ok(String::new());
            }
            if begun.elapsed() >= DRIVE_PATIENCE {
                return Err(format!("{} of them are not stored after {DRIVE_PATIENCE:?}", missing.len()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Rebuilds each scope that still differs, unless that would forget an order.
    async fn rebuild_all(&self, damages: &[Damage], actions: &mut Vec<Action>) {
        let mut scopes: BTreeMap<Scope, Vec<&Damage>> = BTreeMap::new();
        for damage in damages {
            scopes.entry(damage.scope).or_default().push(damage);
        }
        for (scope, of_scope) in scopes {
            if !of_scope.iter().any(|damage| damage.wants_rebuild()) {
                continue;
            }
            let forbidding = of_scope.iter().find(|damage| damage.forbids_rebuild());
            let outcome = match forbidding {
                Some(damage) => Err(format!("it would forget orders of {} that only the inventory has", damage.sale)),
                None => self.rebuild(scope).await,
            };
            actions.push(rebuild_action(scope, damages, Some(outcome)));
        }
    }

    /// Fences the scope and waits until a writer has opened another.
    async fn rebuild(&self, scope: Scope) -> Result<String, String> {
        let Auditor { inventory, epochs, .. } = &self.auditor;
        inventory.fence(scope).await.map_err(|fault| fault.to_string())?;
        epochs.report(scope, &Fault::Fenced("a repair wants it rebuilt".to_owned()));
        let begun = Instant::now();
        loop {
            match epochs.scope(scope.partition) {
                Ok(now) if now.epoch > scope.epoch => return Ok(format!("; it is {now} now")),
                _ if begun.elapsed() >= REBUILD_PATIENCE => {
                    return Err(format!("it is fenced, and no writer has rebuilt it within {REBUILD_PATIENCE:?}"));
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

fn rebuild_action(scope: Scope, damages: &[Damage], outcome: Outcome) -> Action {
    let of_scope = damages.iter().filter(|damage| damage.scope == scope);
    let orders: Vec<_> = of_scope.flat_map(|damage| damage.unlike.iter().copied()).collect();
    Action::new(Kind::Rebuild, scope, ("rebuild the inventory from the store", outcome), &orders)
}
