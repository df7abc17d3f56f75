//! Holds what buyers were told against what lies in the store, the inventory and the queue: the invariants I1 to I11.
//!
//! A pure function. It never asks the system whether it is right, and shares no code with it, down to the derivation of order ids.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::findings::{Findings, Leg, OrderRow};
use crate::log::{Act, Entry, Kind};
use crate::sales::SaleSpec;

mod promises;
mod stock;
#[cfg(test)]
mod tests;

/// The invariants, by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// Live units are the sum over the orders held or paid, and at most the capacity.
    I1,
    /// free + held + sold = capacity.
    I2,
    /// Every yes has exactly one row, with the same buyer, lines and amount.
    I3,
    /// Nobody is above the limit, no order is twice.
    I4,
    /// Every row goes back to a request.
    I5,
    /// Every history is legal, and what a buyer was told of an order's end is so.
    I6,
    /// Units came back once.
    I7,
    /// Each payment is on one paid order or is to be given back.
    I8,
    /// No unit is stranded.
    I9,
    /// A refusal has no row, and every pending resolves.
    I10,
    /// Outbox and lanes are empty.
    I11,
}

impl Invariant {
    pub(crate) const ALL: [Self; 11] = [
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I9,
        Self::I10,
        Self::I11,
    ];
}

/// What is not as it must be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) what: String,
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.what)
    }
}

/// Everything that is wrong, in the order of the invariants. `sales` are all there are, and fresh buyers have bought what was left of
/// each.
pub(crate) fn check(sales: &[SaleSpec], log: &[Entry], found: &Findings) -> Vec<Violation> {
    let mut check = Check::new(sales, log, found);
    check.guard();
    check.equation();
    check.grants();
    check.limits();
    check.origins();
    check.histories();
    check.returns();
    check.payments();
    check.stranded();
    check.refusals();
    check.drained();
    check.violations.sort();
    check.violations
}

/// What the log says of one claim.
#[derive(Debug, Default)]
struct Claim<'a> {
    asked: Option<&'a Entry>,
    /// Every answer to it, and to what was asked about its order.
    answers: Vec<&'a Entry>,
}

impl<'a> Claim<'a> {
    fn of(&self, act: Act, kind: Kind) -> impl Iterator<Item = &&'a Entry> {
        self.answers.iter().filter(move |entry| entry.act == act && entry.kind == kind)
    }
}

struct Check<'a> {
    sales: &'a [SaleSpec],
    found: &'a Findings,
    claims: BTreeMap<(&'a str, &'a str, &'a str), Claim<'a>>,
    rows: HashMap<&'a str, &'a OrderRow>,
    /// Held and paid units by leg.
    live: BTreeMap<Leg, [i64; 2]>,
    violations: Vec<Violation>,
}

impl<'a> Check<'a> {
    fn new(sales: &'a [SaleSpec], log: &'a [Entry], found: &'a Findings) -> Self {
        let mut claims: BTreeMap<_, Claim<'_>> = BTreeMap::new();
        // A request that was never answered is as unknown as one that says so.
        let answered: BTreeSet<u64> =
            log.iter().filter(|entry| entry.kind != Kind::Invoke).map(|entry| entry.request).collect();
        for entry in log {
            let claim = claims.entry(entry.claim()).or_default();
            if entry.kind != Kind::Invoke {
                claim.answers.push(entry);
            } else if entry.act == Act::Claim {
                claim.asked = Some(entry);
            }
            if entry.kind == Kind::Invoke && !answered.contains(&entry.request) {
                claim.answers.push(entry);
            }
        }
        let mut live: BTreeMap<Leg, [i64; 2]> = BTreeMap::new();
        for row in &found.orders {
            let paid = match row.status.as_str() {
                "held" => 0,
                "paid" => 1,
                _ => continue,
            };
            for (leg, units) in units_of(row) {
                live.entry(leg).or_default()[paid] += units;
            }
        }
        let rows = found.orders.iter().map(|row| (row.id.as_str(), row)).collect();
        Self { sales, found, claims, rows, live, violations: Vec::new() }
    }

    fn wrong(&mut self, invariant: Invariant, what: impl Into<String>) {
        self.violations.push(Violation { invariant, what: what.into() });
    }

    /// Every leg that there should be, and its capacity.
    fn legs(&self) -> Vec<(Leg, i64)> {
        let legs = |sale: &SaleSpec| {
            let leg = |leg| ((sale.id.clone(), sale.pool.clone(), leg), i64::from(sale.capacity));
            (0..u32::try_from(sale.legs()).expect("a few legs")).map(leg).collect::<Vec<_>>()
        };
        self.sales.iter().flat_map(legs).collect()
    }
}

fn units_of(row: &OrderRow) -> Vec<(Leg, i64)> {
    let mut units = Vec::new();
    for line in &row.lines {
        let parts: Vec<_> = line.split('/').collect();
        let number = |at: usize| parts[at].parse::<u32>().unwrap_or(0);
        for leg in number(1)..number(2) {
            units.push(((row.sale.clone(), parts[0].to_owned(), leg), i64::from(number(3))));
        }
    }
    units
}

/// The first 128 bits of HMAC-SHA256(secret, sale ⏎ buyer ⏎ key), as protocol and documents say.
pub(crate) fn order_id(secret: &[u8], (sale, buyer, key): (&str, &str, &str)) -> String {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret).expect("a key of any length");
    mac.update(format!("{sale}\n{buyer}\n{key}").as_bytes());
    hex::encode(&mac.finalize().into_bytes()[..16])
}
