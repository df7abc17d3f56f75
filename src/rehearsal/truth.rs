//! The end of a rehearsal: what buyers were told against what is there. Nothing is taken on trust from one place alone.
//!
//! | told to buyers | compared with | what differs |
//! |---|---|---|
//! | every yes | every row of the store, by its id | `lost`, `unasked` |
//! | units of yeses, less ended | the capacity of each leg | told by the verdict |
//! | every confirmed payment | rows that are paid, by their ids | `lost_payments`, `unasked_payments` |
//! | no answer at all | nothing may be left | told by the verdict |
//! | what the balance calls free | a buyer at each gateway, who must get one | `stranded`, the gateways' part |
//! | the balance's equation, the audit | capacity = free + held + sold, no drift, every invariant holds | `unexplained`, `oversold` |

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use fastrand::Rng;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::audit::{Finding, Report, Verdict};
use crate::domain::OrderId;
use crate::rehearsal::api::Answer;
use crate::rehearsal::buyer::{Buyer, Visited};
use crate::rehearsal::control::{Balance, Control, Leg};
use crate::rehearsal::progress::{Progress, Stage};
use crate::rehearsal::sale::{Units, footprint, whole_way};
use crate::rehearsal::settings::{LAST_WORD, STRANDED_AFTER};

/// Between two looks at a gateway.
const PAUSE: Duration = Duration::from_millis(500);

/// What is there, and how it differs from what was told.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// The parts that were read to their end, and why the others were not.
    pub(super) parts: BTreeMap<Part, Result<(), String>>,
    /// By pool, as they are now.
    pub(super) capacities: BTreeMap<String, u64>,
    /// Units given up by orders that ended, by place.
    pub(super) ended: Units,
    /// Orders with a yes and without a row, and the other way round.
    pub(super) lost: Vec<OrderId>,
    pub(super) unasked: Vec<OrderId>,
    /// Orders whose payment was confirmed and that are not paid, and the other way round.
    pub(super) lost_payments: Vec<OrderId>,
    pub(super) unasked_payments: Vec<OrderId>,
    /// Units that nobody has and nobody can buy.
    pub(super) stranded: u64,
    /// Units that the store has sold beyond the capacity.
    pub(super) oversold: u64,
    /// Units, orders or invariants that balance and audit cannot account for.
    pub(super) unexplained: u64,
    pub(super) balance: Option<Balance>,
    pub(super) audit: Option<Report>,
    /// The sale is closed, or why it is not.
    pub(super) closed: Option<Result<(), String>>,
    /// What else should be told.
    pub(super) notes: Vec<String>,
}

/// A part of the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Gateways,
    Audit,
    Balance,
    Rows,
}

impl Part {
    pub(super) const ALL: [Self; 4] = [Self::Gateways, Self::Audit, Self::Balance, Self::Rows];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Gateways => "gateways",
            Self::Audit => "audit",
            Self::Balance => "balance",
            Self::Rows => "rows",
        }
    }
}

/// Compares, and closes the sale: the last buyers and that have one deadline, so that it is not left open for long. What is read after it
/// has its own patience each: what one cannot tell, another may.
pub(super) async fn verify(visited: &Arc<Visited>, control: &Control, progress: &Progress) -> Truth {
    let mut truth = Truth::default();
    let pools = visited.document.pools.iter();
    truth.capacities = pools.map(|pool| (pool.id.clone(), pool.capacity.into())).collect();
    progress.begin(Stage::LastOnes, 0);
    let until = Instant::now() + visited.api.settings.longest_end();
    let bought = buy_what_is_free((visited, until - LAST_WORD), control, &mut truth).await;
    truth.read(Part::Gateways, bought);
    // Whoever hung at a gateway may have overrun it by one answer; there is a last word all the same.
    let closed = control.close(until.max(Instant::now() + LAST_WORD)).await;
    truth.closed = Some(closed.map_err(|why| format!("{why:#}")));
    progress.begin(Stage::Audit, 0);
    let audited = control.settled().await.and_then(|report| truth.explain(report));
    truth.read(Part::Audit, audited);
    let balanced = control.whole_balance(control.until()).await.map(|balance| truth.account(balance));
    truth.read(Part::Balance, balanced);
    // A million orders are not held twice.
    let told = std::mem::take(&mut visited.api.ledger.open().orders);
    progress.begin(Stage::Rows, told.len() as u64);
    let mut comparison = Comparison::new(told);
    let read = control
        .rows(|order, row| {
            let given_up = !matches!(row.status.as_str(), "held" | "paid");
            let units = if given_up { footprint(&visited.document, &row.lines) } else { Units::new() };
            comparison.see(order, &row.status, units);
            progress.done(comparison.seen);
        })
        .await;
    if read.is_ok() {
        comparison.tell(&mut truth);
    }
    truth.read(Part::Rows, read);
    truth
}

impl Truth {
    pub(super) fn is_read(&self, part: Part) -> bool {
        self.parts.get(&part).is_some_and(Result::is_ok)
    }

    /// Were all parts read to their end?
    pub(super) fn is_whole(&self) -> bool {
        Part::ALL.into_iter().all(|part| self.is_read(part))
    }

    fn read(&mut self, part: Part, done: anyhow::Result<()>) {
        let done = done.map_err(|why| format!("{why:#}"));
        if let Err(why) = &done {
            self.notes.push(format!("{}: {why}", part.as_str()));
        }
        self.parts.insert(part, done);
    }

    /// What an audit differs by. One with something in motion still is kept, and is not read to its end: it proves nothing yet.
    fn explain(&mut self, report: Report) -> anyhow::Result<()> {
        let findings = || report.sales.iter().flat_map(|sale| &sale.findings).chain(&report.findings);
        let told = |Finding { invariant, what, orders, .. }: &Finding| {
            format!("audit: {invariant:?}: {what} {}", orders.join(" ")).trim_end().to_owned()
        };
        self.notes.extend(findings().map(told));
        self.notes.extend(report.sales.iter().flat_map(|sale| sale.notes.iter().cloned()));
        let differing = findings().map(|finding| finding.count.max(1)).sum::<u64>();
        let (verdict, motion) = (report.verdict, format!("{:?}", report.motion));
        self.audit = Some(report);
        match verdict {
            Verdict::Clean => self.unexplained += differing,
            Verdict::Broken => self.unexplained += differing.max(1),
            Verdict::InMotion => return Err(anyhow!("in motion when --patience ended: {motion}")),
        }
        Ok(())
    }

    fn account(&mut self, balance: Balance) {
        for Leg { capacity, free, held, sold, store, .. } in &balance.legs {
            let there: u64 = [free, held, sold].into_iter().flatten().sum();
            self.stranded += capacity.saturating_sub(there);
            self.unexplained += there.saturating_sub(*capacity);
            self.oversold += store.map_or(0, |guard| guard.live).saturating_sub(*capacity);
        }
        if !balance.drift.in_motion {
            self.unexplained += balance.drift.units;
        }
        // Whoever has added stock meanwhile has promised more.
        self.capacities = balance.legs.iter().map(|leg| (leg.pool.clone(), leg.capacity)).collect();
        self.balance = Some(balance);
    }
}

/// Every gateway sells a unit of each pool that has one: the balance tells of the inventory, and a shard may be lost to it.
async fn buy_what_is_free(
    (visited, until): (&Arc<Visited>, Instant),
    control: &Control,
    truth: &mut Truth,
) -> anyhow::Result<()> {
    let soon = control.until();
    let balance = control.whole_balance(soon).await?;
    for gateway in &visited.api.settings.gateways {
        while let Err(why) = visited.api.is_open(gateway, &visited.sale).await {
            if Instant::now() >= soon {
                return Err(anyhow!("{gateway} does not offer the sale any more: {why}"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    let mut asking = Vec::new();
    for pool in &visited.document.pools {
        let legs = balance.legs.iter().filter(|leg| leg.pool == pool.id);
        let free = legs.map(|leg| leg.free.unwrap_or(0)).min().unwrap_or(0);
        // Each has one to itself, so they need not wait for one another.
        for (free, (number, gateway)) in (1..=free).rev().zip(visited.api.settings.gateways.iter().enumerate()) {
            let name = format!("{}-last-{}-{number}", visited.sale, pool.id);
            let asked = last_one((visited, until), (&pool.id, gateway), name);
            asking.push(async move { (gateway, &pool.id, free, asked.await) });
        }
    }
    let mut unknown = Vec::new();
    for (gateway, pool, free, heard) in join_all(asking).await {
        match heard? {
            Last::Sold => {}
            Last::Stranded => {
                truth.notes.push(format!("{gateway} sells none of the {free} free units of {pool}"));
                truth.stranded += free;
            }
            Last::Unknown(why) => {
                unknown.push(format!(
                    "{gateway} neither sells nor refuses one of the {free} free units of {pool} ({why})"
                ));
            }
        }
    }
    if unknown.is_empty() { Ok(()) } else { Err(anyhow!(unknown.join("; "))) }
}

/// What a last buyer heard in the end.
enum Last {
    Sold,
    /// No, and many refills have not changed it.
    Stranded,
    /// Nothing that says either; the last answer.
    Unknown(&'static str),
}

/// Asks for a unit of this pool at this gateway.
async fn last_one(
    (visited, until): (&Arc<Visited>, Instant),
    (pool, gateway): (&str, &str),
    name: String,
) -> anyhow::Result<Last> {
    let ask = whole_way(&visited.document, pool, &name);
    let key = format!("{name}-key");
    let mut buyer = Buyer::new(visited, name, Rng::with_seed(0))?.at(vec![gateway.to_owned()]);
    let begun = Instant::now();
    loop {
        let (_, last) = buyer.known((&ask, &key), Instant::now(), until).await;
        match last {
            Answer::Yes(..) => return Ok(Last::Sold),
            Answer::No(..) if begun.elapsed() >= STRANDED_AFTER => return Ok(Last::Stranded),
            Answer::No(..) if Instant::now() + PAUSE < until => tokio::time::sleep(PAUSE).await,
            other => return Ok(Last::Unknown(other.outcome().as_str())),
        }
    }
}

/// Takes from what was told to buyers what is in the store: nothing must be left.
#[derive(Debug, Default)]
struct Comparison {
    /// Orders that heard yes and whose row was not seen yet; `true`: and their payment was confirmed.
    told: HashMap<OrderId, bool>,
    seen: u64,
    ended: Units,
    unasked: Vec<OrderId>,
    lost_payments: Vec<OrderId>,
    unasked_payments: Vec<OrderId>,
}

impl Comparison {
    fn new(told: HashMap<OrderId, bool>) -> Self {
        Self { told, ..Self::default() }
    }

    /// A row. `given_up`: the units of an order that ended. Only of one that heard yes: others would hide as many that are promised twice.
    fn see(&mut self, order: OrderId, status: &str, given_up: Units) {
        self.seen += 1;
        let heard = self.told.remove(&order);
        if heard.is_none() {
            self.unasked.push(order);
        }
        let given_up = if heard.is_some() { given_up } else { Units::new() };
        let is_paid = matches!(status, "paid" | "refunded");
        match (heard == Some(true), is_paid) {
            (true, false) => self.lost_payments.push(order),
            (false, true) => self.unasked_payments.push(order),
            _ => {}
        }
        for (place, units) in given_up {
            *self.ended.entry(place).or_default() += units;
        }
    }

    fn tell(self, truth: &mut Truth) {
        // A payment whose order has no row is lost with it.
        let paid = self.told.iter().filter(|(_, paid)| **paid).map(|(order, _)| *order);
        truth.lost_payments = self.lost_payments.into_iter().chain(paid).collect();
        truth.lost = self.told.into_keys().collect();
        truth.lost.sort_by_key(ToString::to_string);
        (truth.ended, truth.unasked, truth.unasked_payments) = (self.ended, self.unasked, self.unasked_payments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Invariant, Motion, SaleReport};
    use crate::rehearsal::control::Drift;
    use crate::rehearsal::control::tests::leg;

    fn order(number: u8) -> OrderId {
        format!("{number:032x}").parse().unwrap()
    }

    fn compared(told: &[(u8, bool)], rows: &[(u8, &str)]) -> Truth {
        let mut comparison = Comparison::new(told.iter().map(|(number, paid)| (order(*number), *paid)).collect());
        for (number, status) in rows {
            let ended = !matches!(*status, "held" | "paid");
            let units = if ended { Units::from([("standard/0".to_owned(), 1)]) } else { Units::new() };
            comparison.see(order(*number), status, units);
        }
        let mut truth = Truth::default();
        comparison.tell(&mut truth);
        truth
    }

    #[test]
    fn where_every_yes_has_its_row_and_every_payment_its_order_nothing_is_left() {
        let truth = compared(
            &[(1, true), (2, false), (3, false), (4, true)],
            &[(4, "refunded"), (1, "paid"), (2, "held"), (3, "expired")],
        );
        let left = [truth.lost, truth.unasked, truth.lost_payments, truth.unasked_payments];
        assert_eq!(left, [const { Vec::new() }; 4]);
        assert_eq!(truth.ended["standard/0"], 2);
    }

    #[test]
    fn what_is_on_one_side_only_is_named() {
        let truth = compared(&[(1, false), (2, true), (3, false)], &[(9, "held"), (2, "expired"), (3, "paid")]);
        assert_eq!((truth.lost, truth.unasked), (vec![order(1)], vec![order(9)]));
        assert_eq!((truth.lost_payments, truth.unasked_payments), (vec![order(2)], vec![order(3)]));
        assert_eq!(compared(&[(7, true)], &[]).lost_payments, [order(7)]);
    }

    #[test]
    fn units_of_an_order_that_nobody_heard_yes_for_make_no_room_for_another_promise() {
        let truth = compared(&[(1, false)], &[(1, "held"), (2, "expired")]);
        assert_eq!((truth.ended, truth.unasked), (Units::new(), vec![order(2)]));
    }

    fn accounted(leg: Leg, drift: Drift) -> (u64, u64, u64) {
        let mut truth = Truth::default();
        truth.account(Balance { legs: vec![leg], drift });
        (truth.stranded, truth.unexplained, truth.oversold)
    }

    #[test]
    fn the_equation_says_what_is_stranded_unexplained_and_oversold() {
        let drift = Drift { units: 2, in_motion: false, orders: Vec::new() };
        assert_eq!(accounted(leg(), Drift::default()), (0, 0, 0));
        assert_eq!(accounted(Leg { sold: Some(299), ..leg() }, Drift::default()), (1, 0, 0));
        assert_eq!(accounted(Leg { free: Some(3), ..leg() }, Drift::default()), (0, 3, 0));
        assert_eq!(accounted(Leg { capacity: 299, ..leg() }, Drift::default()), (0, 1, 1));
        assert_eq!(accounted(leg(), drift.clone()), (0, 2, 0));
        assert_eq!(accounted(leg(), Drift { in_motion: true, ..drift }), (0, 0, 0));
    }

    #[test]
    fn an_audit_that_is_broken_is_unexplained_even_if_it_blames_nobody_and_one_in_motion_proves_nothing() {
        let of = |verdict, findings| {
            let (sale, notes) = ("s".to_owned(), Vec::new());
            let sale = SaleReport { sale, verdict, orders: 0, arrived: 0, awaited: 0, findings, notes };
            let mut truth = Truth::default();
            let report = Report { verdict, sales: vec![sale], findings: Vec::new(), motion: Motion::default() };
            let is_read = truth.explain(report).is_ok();
            (truth.unexplained, truth.notes.len(), is_read)
        };
        let finding = |count| Finding {
            invariant: Invariant::I9,
            confirmed: true,
            what: "stranded".to_owned(),
            count,
            orders: Vec::new(),
        };
        assert_eq!(of(Verdict::Clean, Vec::new()), (0, 0, true));
        assert_eq!(of(Verdict::Broken, Vec::new()), (1, 0, true));
        assert_eq!(of(Verdict::Broken, vec![finding(0), finding(3)]), (4, 2, true));
        // What is on its way may explain all of it.
        assert_eq!(of(Verdict::InMotion, vec![finding(3)]), (0, 1, false));
    }
}
