//! Proves the invariants that can be read from inventory, queue and store, while the sale goes on.
//!
//! | invariant | proved by |
//! |---|---|
//! | I1, I4, I6, I8 | the store alone (`ledger`) |
//! | I2, I7, I9 | the inventory against the store (`mirror`) |
//! | I3 | what was accepted, and is in quarantine, in a dead letter or in the inventory only (`letters`, `mirror`) |
//! | I11 | what has not arrived, and does not move (`motion`) |
//!
//! That an id is no two orders in two epochs is the store's key to hold; the walk sees it. I5, I10, and I3 for what left no trace
//! at all, need to know what clients were told, so they are proved where the clients are: by tests.
//!
//! A difference that what is on its way may explain is no broken invariant. The audit waits for it, as long as it is told to,
//! and else says *in motion*. Of inventory and store it holds 24 bytes per order and 12 per buyer in memory, and pages besides.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::{OrderId, SaleId, Scope};
use crate::epochs::{Epochs, NotJoined};
use crate::inventory::{self, Inventory, LegStock};
use crate::queue::{self, Topology};
use crate::store::{Fault, OrderFilter, OrderRow, SaleTally, Store, StoredSale};

mod damage;
mod ledger;
mod letters;
mod mirror;
mod motion;
pub mod repair;
pub mod report;

use damage::Damage;
use ledger::Ledger;
use mirror::{Mirror, Stands};
pub use repair::{Repair, Repairer};
pub use report::{Finding, Invariant, Motion, Report, SaleReport, Verdict};

/// Orders and people that get a second look. What is beyond it proves nothing: a sale with more is broken, or in motion.
const SUSPECTS: usize = 10_000;
/// Orders in one page.
const PAGE: u32 = 1000;
/// Between two looks at what is in motion.
const PAUSE: Duration = Duration::from_millis(100);
/// A version that no inventory reaches, and that a double still counts exactly: since then nothing has changed.
const NO_NEWS: u64 = (1 << 53) - 1;

/// Proves invariants. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Auditor {
    store: Arc<dyn Store>,
    inventory: Arc<dyn Inventory>,
    topology: Arc<dyn Topology>,
    epochs: Epochs,
}

/// The figures of one sale in inventory and store, read one after the other.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The definition when the reading began.
    pub stored: Option<StoredSale>,
    pub stock: Vec<LegStock>,
    pub tally: SaleTally,
    /// Of all sales of the partition.
    pub outbox_entries: u64,
    /// Nothing moved meanwhile and nothing is on its way, so the figures are those of one moment.
    pub quiet: bool,
}

/// What an audit found, and what of it could be repaired, by sale.
#[derive(Debug)]
struct Examined {
    report: Report,
    damages: Vec<Damage>,
}

/// How long an audit waits for what is in motion, unless it is told to stop.
#[derive(Debug, Clone, Copy)]
struct Patience<'a> {
    deadline: Instant,
    stop: &'a CancellationToken,
}

/// The audit proves nothing, since it was not carried to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    #[error("there is no such sale")]
    UnknownSale,
    /// A backend is not there, or the inventory is being rebuilt.
    #[error("{0}")]
    Unavailable(String),
    #[error("stopped")]
    Stopped,
}

impl From<queue::Fault> for Interrupted {
    fn from(fault: queue::Fault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

impl From<NotJoined> for Interrupted {
    fn from(reason: NotJoined) -> Self {
        Self::Unavailable(reason.to_string())
    }
}

impl Patience<'_> {
    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    async fn pause(&self) -> Result<(), Interrupted> {
        let stopped = self.stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none();
        if stopped { Err(Interrupted::Stopped) } else { Ok(()) }
    }
}

impl Reading {
    /// Units by which inventory and store disagree about what is free. Means something only if it is [`Self::quiet`].
    pub fn drift(&self) -> u64 {
        let legs = self.stock.iter().filter_map(|stock| {
            let guard = self.tally.legs.iter().find(|guard| guard.pool == stock.pool && guard.leg == stock.leg)?;
            let (_, pool) = self.stored.as_ref()?.sale.pool(stock.pool.as_str())?;
            let free = i64::from(pool.capacity) - i64::from(guard.held) - i64::from(guard.paid);
            Some((i64::from(stock.free) - free).unsigned_abs())
        });
        legs.sum()
    }

    fn is_applied(&self) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.applied_version >= stored.sale.version)
    }
}

impl Auditor {
    pub fn new(
        store: Arc<dyn Store>,
        inventory: Arc<dyn Inventory>,
        topology: Arc<dyn Topology>,
        epochs: Epochs,
    ) -> Self {
        Self { store, inventory, topology, epochs }
    }

    /// Audits one sale, or all. Waits at most `wait`, over all of them, for what is in motion. Reads only.
    pub async fn audit(
        &self,
        only: Option<&SaleId>,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Report, Interrupted> {
        Ok(self.examine(only, wait, stop).await?.report)
    }

    /// The same, with what could be repaired.
    async fn examine(
        &self,
        only: Option<&SaleId>,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Examined, Interrupted> {
        let patience = Patience { deadline: Instant::now() + wait, stop };
        let mut by_scope: BTreeMap<Scope, Vec<StoredSale>> = BTreeMap::new();
        for stored in self.sales(only).await? {
            by_scope.entry(self.epochs.of_sale(&stored.sale.id)?).or_default().push(stored);
        }
        let mut unstored = letters::unstored(self, only).await?;
        let (mut sales, mut damages) = (Vec::new(), Vec::new());
        for (scope, of_scope) in by_scope {
            let ids: HashSet<_> = of_scope.iter().map(|stored| stored.sale.id.clone()).collect();
            let mut mirrors = mirror::known_orders(self, scope, &ids).await?;
            for stored in of_scope {
                let mirror = mirrors.remove(&stored.sale.id).unwrap_or_default();
                let (mut report, damage) = self.sale(scope, &stored, mirror, patience).await?;
                let unstored = unstored.remove(&stored.sale.id).unwrap_or_default();
                report.add(letters::findings(self, scope, &unstored).await?);
                sales.push(report);
                damages.push(damage);
            }
        }
        let motion = self.settled(only, patience).await?;
        let findings = if motion.is_quiet() { Vec::new() } else { self.stuck(only, wait).await? };
        let worst = sales.iter().map(|sale| sale.verdict).max().unwrap_or(Verdict::Clean);
        let mut verdict = worst.max(Verdict::of(&findings));
        // One sale is clean whatever moves in others: each of its own orders was found where it belongs.
        if only.is_none() && !motion.is_quiet() {
            verdict = verdict.max(Verdict::InMotion);
        }
        sales.sort_by(|a, b| a.sale.cmp(&b.sale));
        Ok(Examined { report: Report { verdict, sales, findings, motion }, damages })
    }

    /// The figures of one sale.
    pub async fn reading(&self, sale: &SaleId) -> Result<Reading, Interrupted> {
        self.reading_in(self.epochs.of_sale(sale)?, sale).await
    }

    /// The same, if nothing is on its way: else nothing is counted, which takes the store as long as the sale has orders.
    pub async fn quiet_reading(&self, sale: &SaleId) -> Result<Option<Reading>, Interrupted> {
        let scope = self.epochs.of_sale(sale)?;
        if self.asked(scope, self.inventory.outbox_len(scope).await)? > 0 {
            return Ok(None);
        }
        let reading = self.reading_in(scope, sale).await?;
        Ok(reading.quiet.then_some(reading))
    }

    /// Orders of one sale on which inventory and store disagree, as far as that can be proved at this moment.
    pub async fn differing(&self, sale: &SaleId, stop: &CancellationToken) -> Result<Vec<Finding>, Interrupted> {
        let scope = self.epochs.of_sale(sale)?;
        let mut mirrors = mirror::known_orders(self, scope, &HashSet::from([sale.clone()])).await?;
        let mut mirror = mirrors.remove(sale).unwrap_or_default();
        let mut after = OrderId([0; 16]);
        loop {
            let rows = self.next_page(sale, after, stop).await?;
            let Some(last) = rows.last() else { break };
            after = last.order.id;
            mirror.see(&rows);
        }
        mirror.end();
        let stands = mirror::look_again(self, scope, &mirror.suspects).await?;
        Ok(mirror::told(&stands).into_iter().filter(|finding| finding.confirmed).collect())
    }

    async fn sales(&self, only: Option<&SaleId>) -> Result<Vec<StoredSale>, Interrupted> {
        match only {
            None => Ok(self.store.sales().await?),
            Some(id) => Ok(vec![self.store.sale(id).await?.ok_or(Interrupted::UnknownSale)?]),
        }
    }

    async fn sale(
        &self,
        scope: Scope,
        stored: &StoredSale,
        mut mirror: Mirror,
        patience: Patience<'_>,
    ) -> Result<(SaleReport, Damage), Interrupted> {
        let sale = &stored.sale;
        let tally = self.store.tally(&sale.id).await?;
        let limits = ledger::limits_ever(&*self.store, sale).await?;
        let mut ledger = Ledger::new(&*self.store, sale, limits, &tally);
        let mut after = OrderId([0; 16]);
        loop {
            let rows = self.next_page(&sale.id, after, patience.stop).await?;
            let Some(last) = rows.last() else { break };
            if last.order.id <= after {
                break;
            }
            after = last.order.id;
            ledger.see(&rows).await?;
            mirror.see(&rows);
        }
        mirror.end();
        let seen = ledger.seen;
        let unmatched = std::mem::take(&mut ledger.unmatched);
        let mut findings = ledger.findings(&tally).await?;
        findings.extend(letters::quarantined(self, &sale.id, &tally).await?);
        let stands = self.differences(scope, &mirror, patience).await?;
        findings.extend(mirror::told(&stands));
        if mirror.passed_over > 0 {
            let what = format!("orders without a second look: {}; ask again", mirror.passed_over);
            findings.push(Finding::in_motion(Invariant::I9, what, &[]));
        }
        let (arrived, awaited) = mirror.arrivals(&stands);
        let counters = self.counters(scope, &sale.id, patience).await?;
        let damage = Damage::of((scope, &sale.id), (&tally, unmatched), &stands, &counters);
        findings.extend(counters);
        findings.sort_by_key(|finding| finding.invariant);
        let notes = [(tally.stale, "orders came too late for their epoch and wait for a verdict")]
            .into_iter()
            .chain([(tally.stale_refused, "orders came too late for their epoch and were refused")])
            .chain([(tally.late, "payments came too late and wait for a verdict")])
            .chain([(tally.refunds_due, "payments are to be given back")])
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let verdict = Verdict::of(&findings);
        let orders = seen + arrived;
        Ok((SaleReport { sale: sale.id.to_string(), verdict, orders, arrived, awaited, findings, notes }, damage))
    }

    /// The orders on which inventory and store disagree, when those that are on their way have arrived.
    async fn differences(
        &self,
        scope: Scope,
        mirror: &Mirror,
        patience: Patience<'_>,
    ) -> Result<Vec<(OrderId, Stands)>, Interrupted> {
        loop {
            let stands = mirror::look_again(self, scope, &mirror.suspects).await?;
            if stands.iter().all(|(_, stands)| !stands.is_in_motion()) || patience.is_over() {
                return Ok(stands);
            }
            patience.pause().await?;
        }
    }

    /// The counters on which they disagree, compared while nothing moves.
    async fn counters(&self, scope: Scope, sale: &SaleId, patience: Patience<'_>) -> Result<Vec<Finding>, Interrupted> {
        loop {
            let reading = self.reading_in(scope, sale).await?;
            let applied = reading.stored.as_ref().filter(|_| reading.is_applied());
            let findings = match applied {
                Some(stored) => mirror::compare(&stored.sale, &reading.stock, &reading.tally, reading.quiet),
                None => {
                    vec![Finding::in_motion(Invariant::I2, "the inventory does not have the newest definition", &[])]
                }
            };
            if reading.quiet || findings.is_empty() || patience.is_over() {
                return Ok(findings);
            }
            patience.pause().await?;
        }
    }

    async fn reading_in(&self, scope: Scope, sale: &SaleId) -> Result<Reading, Interrupted> {
        let version = async || {
            let changes = self.asked(scope, self.inventory.changes(scope, NO_NEWS).await)?;
            Ok::<_, Interrupted>(changes.version)
        };
        let stored = self.store.sale(sale).await?;
        let before = version().await?;
        let outbox_entries = self.asked(scope, self.inventory.outbox_len(scope).await)?;
        let stock = self.asked(scope, self.inventory.stock(scope, sale).await)?;
        let tally = self.store.tally(sale).await?;
        let stood_still = before == version().await?;
        let mut reading = Reading { stored, stock, tally, outbox_entries, quiet: false };
        let follows = reading.tally.moves_waiting + reading.tally.late == 0;
        reading.quiet = stood_still && outbox_entries == 0 && follows && reading.is_applied();
        Ok(reading)
    }

    async fn next_page(
        &self,
        sale: &SaleId,
        after: OrderId,
        stop: &CancellationToken,
    ) -> Result<Vec<OrderRow>, Interrupted> {
        if stop.is_cancelled() {
            return Err(Interrupted::Stopped);
        }
        Ok(page(&*self.store, sale, after).await?)
    }

    /// Tells the epochs of a fence that was met on the way.
    fn asked<T>(&self, scope: Scope, answer: Result<T, inventory::Fault>) -> Result<T, Interrupted> {
        answer.map_err(|fault| {
            self.epochs.report(scope, &fault);
            Interrupted::Unavailable(fault.to_string())
        })
    }
}

/// A page of a walk through a sale's orders by id.
async fn page(store: &dyn Store, sale: &SaleId, after: OrderId) -> Result<Vec<OrderRow>, Fault> {
    // A replica that is behind would make a true sale look broken.
    let (sale, after) = (Some(sale.clone()), Some(after));
    let filter = OrderFilter { sale, after, limit: PAGE, fresh: true, ..OrderFilter::default() };
    store.orders(&filter).await
}

#[cfg(test)]
mod arrival_tests;
#[cfg(test)]
mod repair_tests;
#[cfg(test)]
mod tests;
