//! What an audit found: the same as JSON for scripts and as rows for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::OrderId;

/// So many orders are named per finding; the count tells of all.
pub const NAMED: usize = 20;

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub verdict: Verdict,
    pub sales: Vec<SaleReport>,
    /// What is of no single sale.
    #[serde(default)]
    pub findings: Vec<Finding>,
    pub motion: Motion,
}

/// The worst that was found, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every invariant holds.
    Clean,
    /// Orders are on their way, and what differs may be theirs. Ask again when they have arrived.
    InMotion,
    /// An invariant does not hold.
    Broken,
}

/// What was found in one sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleReport {
    pub sale: String,
    pub verdict: Verdict,
    /// Orders in the store, those included that came while it was looked at.
    pub orders: u64,
    /// How many of them came meanwhile. They were held against the inventory, and not yet against limits and histories.
    #[serde(default)]
    pub arrived: u64,
    /// Orders that the inventory has granted, and that have no row in the store yet. None is clean before they have.
    #[serde(default)]
    pub awaited: u64,
    pub findings: Vec<Finding>,
    /// What is no broken invariant and an operator should know all the same.
    pub notes: Vec<String>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub invariant: Invariant,
    /// `false`: it may be explained by what is in motion.
    pub confirmed: bool,
    pub what: String,
    /// How many orders it is about; 0 where no single order can be blamed.
    pub count: u64,
    /// The first [`NAMED`] of them.
    pub orders: Vec<String>,
}

/// The invariants that can be read from inventory, queue and store. The others need the clients' view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Invariant {
    /// Store: live units = sum over orders held or paid ≤ capacity, per pool and leg.
    I1,
    /// Inventory: free + held + sold = capacity, per pool and leg.
    I2,
    /// Every accepted order is stored.
    I3,
    /// No order twice, no buyer or passenger above the limit.
    I4,
    /// Each order's history is a legal path with one end.
    I6,
    /// The inventory follows every end of an order, once.
    I7,
    /// Each payment is on one paid order or has exactly one refund due.
    I8,
    /// No unit stranded: inventory and store agree on every order and counter.
    I9,
    /// Outbox and lanes drain.
    I11,
}

/// What is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Motion {
    /// Granted batches that are not known to be in the store.
    pub outbox_entries: u64,
    /// Messages in lanes, the one for unroutable messages included.
    pub lane_messages: u64,
    /// Changes in the store that the inventory has not followed yet.
    pub stock_moves: u64,
    /// Payments that came too late, while the inventory is asked for their units.
    #[serde(default)]
    pub late_payments: u64,
    /// Sales whose stored definition the inventory does not have yet.
    pub unapplied_sales: u64,
    /// Messages that could not be stored. They do not move by themselves.
    pub dead_letters: u64,
}

impl Motion {
    /// Has everything arrived?
    pub fn is_quiet(&self) -> bool {
        let following = self.stock_moves + self.late_payments;
        self.outbox_entries + self.lane_messages + following + self.unapplied_sales == 0
    }
}

impl Finding {
    pub(super) fn broken(invariant: Invariant, what: impl Into<String>, orders: &[OrderId]) -> Self {
        Self {
            invariant,
            confirmed: true,
            what: what.into(),
            count: orders.len() as u64,
            orders: orders.iter().take(NAMED).map(ToString::to_string).collect(),
        }
    }

    pub(super) fn in_motion(invariant: Invariant, what: impl Into<String>, orders: &[OrderId]) -> Self {
        Self { confirmed: false, ..Self::broken(invariant, what, orders) }
    }
}

impl SaleReport {
    pub(super) fn add(&mut self, findings: Vec<Finding>) {
        self.findings.extend(findings);
        self.findings.sort_by_key(|finding| finding.invariant);
        self.verdict = Verdict::of(&self.findings);
    }
}

impl Verdict {
    pub(super) fn of(findings: &[Finding]) -> Self {
        let each = |finding: &Finding| if finding.confirmed { Self::Broken } else { Self::InMotion };
        findings.iter().map(each).max().unwrap_or(Self::Clean)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "clean",
            Self::InMotion => "in motion",
            Self::Broken => "broken",
        })
    }
}
