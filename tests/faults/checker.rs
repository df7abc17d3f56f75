//! Holds what buyers were told against what lies in the store, the inventory and the queue: the invariants I1 to I11.
//!
//! A pure function. It never asks the system whether it is right, and shares no code with it, down to the derivation of order ids.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::findings::{Counter, Findings, Leg, OrderRow};
use crate::log::{Act, Entry, Kind};
use crate::sales::SaleSpec;

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

    fn guard(&mut self) {
        for (leg, capacity) in self.legs() {
            let [held, paid] = self.live.get(&leg).copied().unwrap_or_default();
            if held + paid > capacity {
                self.wrong(Invariant::I1, format!("{} of {capacity} units are live on {leg:?}", held + paid));
            }
            match self.found.guard.get(&leg) {
                Some((guarded, live)) if (*guarded, *live) == (capacity, held + paid) => {}
                guard => self
                    .wrong(Invariant::I1, format!("the guard of {leg:?} is {guard:?}, the rows have {held} + {paid}")),
            }
        }
        for what in self.found.sampled.iter().filter(|what| what.starts_with("I1:")) {
            self.violations.push(Violation { invariant: Invariant::I1, what: what.clone() });
        }
        for id in &self.found.quarantined {
            self.violations.push(Violation { invariant: Invariant::I1, what: format!("{id} did not pass the guard") });
        }
    }

    fn equation(&mut self) {
        for (leg, capacity) in self.legs() {
            let counter = self.found.counters.get(&leg).copied().unwrap_or_default();
            let Counter { capacity: known, free, held, sold } = counter;
            if known != capacity || free + held + sold != capacity || free < 0 || held < 0 || sold < 0 {
                self.wrong(Invariant::I2, format!("{leg:?} with {capacity} units is counted as {counter:?}"));
            }
        }
        for what in self.found.sampled.iter().filter(|what| what.starts_with("I2:")) {
            self.violations.push(Violation { invariant: Invariant::I2, what: what.clone() });
        }
    }

    fn grants(&mut self) {
        let mut wrong = Vec::new();
        for (name, claim) in &self.claims {
            for told in claim.of(Act::Claim, Kind::Ok) {
                wrong.extend(self.differs(name, claim, told));
            }
            let yes = claim.of(Act::Claim, Kind::Ok).map(|entry| entry.at).min();
            let lost = |entry: &&&Entry| entry.status == Some(404) && yes.is_some_and(|yes| yes < entry.at);
            let lost = claim
                .answers
                .iter()
                .filter(lost)
                .map(|entry| format!("{name:?}: granted, then not found by {:?}", entry.act));
            wrong.extend(lost);
        }
        for what in wrong {
            self.wrong(Invariant::I3, what);
        }
    }

    /// How a row is not what its buyer was told.
    fn differs(&self, name: &(&str, &str, &str), claim: &Claim<'_>, told: &Entry) -> Option<String> {
        let Some(order) = told.order() else { return Some(format!("{name:?}: a yes that names no order")) };
        let Some(row) = self.rows.get(order) else {
            return Some(format!("{name:?}: {order} was granted and has no row"));
        };
        let sale = self.sales.iter().find(|sale| sale.id == name.0)?;
        let (mut lines, amount) = sale.lines_of(&claim.asked?.asked);
        let mut stored = row.lines.clone();
        lines.sort();
        stored.sort();
        let right = row.sale == name.0 && row.buyer == name.1 && stored == lines && row.amount == amount;
        let as_told = told.told["amount"] == row.amount && told.told["currency"] == *row.currency;
        (!right || !as_told)
            .then(|| format!("{name:?}: asked for {lines:?} at {amount}, was told {}, stored is {row:?}", told.told))
    }

    fn limits(&mut self) {
        let mut units: BTreeMap<(String, String), i64> = BTreeMap::new();
        let mut passengers: BTreeMap<(String, String), i64> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for row in &self.found.orders {
            if !seen.insert(&row.id) {
                self.violations
                    .push(Violation { invariant: Invariant::I4, what: format!("{} is there twice", row.id) });
            }
            if row.status != "held" && row.status != "paid" {
                continue;
            }
            for line in &row.lines {
                let parts: Vec<_> = line.split('/').collect();
                let quantity: i64 = parts[3].parse().unwrap_or(0);
                *units.entry((row.sale.clone(), row.buyer.clone())).or_default() += quantity;
                if parts[4] != "-" {
                    *passengers.entry((row.sale.clone(), parts[4].to_owned())).or_default() += quantity;
                }
            }
        }
        for sale in self.sales {
            for (whose, limit) in [(&units, sale.per_buyer), (&passengers, sale.per_passenger)] {
                let above = whose.iter().filter(|((id, _), units)| *id == sale.id && **units > i64::from(limit));
                let above =
                    above.map(|((_, name), units)| format!("{name} has {units} of {limit} units of {}", sale.id));
                self.violations.extend(above.map(|what| Violation { invariant: Invariant::I4, what }));
            }
        }
    }

    fn origins(&mut self) {
        let asked = self.claims.iter().filter(|(_, claim)| claim.asked.is_some());
        let ids: BTreeMap<_, _> = asked.map(|(name, _)| (order_id(&self.found.secret, *name), name)).collect();
        let unasked = self
            .found
            .orders
            .iter()
            .filter(|row| ids.get(&row.id).is_none_or(|(sale, buyer, _)| *sale != row.sale || *buyer != row.buyer));
        let unasked: Vec<_> = unasked.map(|row| format!("nobody asked for {row:?}")).collect();
        for what in unasked {
            self.wrong(Invariant::I5, what);
        }
    }

    fn histories(&mut self) {
        let mut events: HashMap<&str, Vec<(i64, &str)>> = HashMap::new();
        for (order, status, at) in &self.found.events {
            events.entry(order).or_default().push((*at, status));
        }
        let mut wrong = Vec::new();
        for row in &self.found.orders {
            let mut history = events.remove(row.id.as_str()).unwrap_or_default();
            // Two at one instant are in the only order in which they can have happened.
            history.sort_by_key(|(at, status)| {
                (*at, ["expired", "paid", "refunded"].iter().position(|known| known == status))
            });
            let path: Vec<_> = history.iter().map(|(_, status)| *status).collect();
            let legal: [&[&str]; 7] = [
                &[],
                &["paid"],
                &["paid", "refunded"],
                &["expired"],
                &["cancelled"],
                &["expired", "paid"],
                &["expired", "paid", "refunded"],
            ];
            if !legal.contains(&path.as_slice()) || path.last().copied().unwrap_or("held") != row.status {
                wrong.push(format!("{} is {} after {path:?}", row.id, row.status));
            }
        }
        wrong.extend(events.into_keys().map(|order| format!("{order} has a history and no row")));
        for (name, claim) in &self.claims {
            for (act, ends) in [(Act::Pay, &["paid", "refunded"][..]), (Act::Cancel, &["cancelled"][..])] {
                for told in claim.of(act, Kind::Ok) {
                    let status = told.order().and_then(|order| self.rows.get(order)).map(|row| row.status.as_str());
                    if !status.is_some_and(|status| ends.contains(&status)) {
                        wrong.push(format!("{name:?}: {act:?} was done, but the order is {status:?}"));
                    }
                }
            }
        }
        for what in wrong {
            self.wrong(Invariant::I6, what);
        }
    }

    fn returns(&mut self) {
        let mut wrong: Vec<_> =
            self.found.moves.iter().map(|order| format!("the end of {order} has not reached the inventory")).collect();
        for row in &self.found.orders {
            let letter = row.status.chars().next().map(|letter| letter.to_ascii_uppercase());
            match self.found.inventory_orders.get(&row.id) {
                known @ Some(_) if known.copied() != letter => {
                    wrong.push(format!("{} is {} and {known:?} in the inventory", row.id, row.status));
                }
                None if row.status == "held" || row.status == "paid" => {
                    wrong.push(format!("{} is {} and the inventory does not know it", row.id, row.status));
                }
                _ => {}
            }
        }
        for (leg, _) in self.legs() {
            let [held, paid] = self.live.get(&leg).copied().unwrap_or_default();
            let counter = self.found.counters.get(&leg).copied().unwrap_or_default();
            if (counter.held, counter.sold) != (held, paid) {
                wrong.push(format!("{leg:?}: {held} held and {paid} paid in the store, counted as {counter:?}"));
            }
        }
        for what in wrong {
            self.wrong(Invariant::I7, what);
        }
    }

    fn payments(&mut self) {
        let mut wrong = Vec::new();
        let mut applied: HashMap<&str, u32> = HashMap::new();
        for payment in &self.found.payments {
            let status = self.rows.get(payment.order.as_str()).map(|row| row.status.as_str());
            match payment.state.as_str() {
                "applied" => {
                    *applied.entry(&payment.order).or_default() += 1;
                    if !matches!(status, Some("paid" | "refunded")) {
                        wrong.push(format!("{} is applied to {}, which is {status:?}", payment.event, payment.order));
                    }
                }
                "refund_due" | "mismatch" => {}
                state => wrong.push(format!("{} is {state} still; its order is {status:?}", payment.event)),
            }
        }
        for row in self.found.orders.iter().filter(|row| row.status == "paid" || row.status == "refunded") {
            let payments = applied.get(row.id.as_str()).copied().unwrap_or(0);
            if payments != 1 {
                wrong.push(format!("{} is {} by {payments} payments", row.id, row.status));
            }
        }
        for what in wrong {
            self.wrong(Invariant::I8, what);
        }
    }

    fn stranded(&mut self) {
        for (leg, capacity) in self.legs() {
            let live: i64 = self.live.get(&leg).copied().unwrap_or_default().iter().sum();
            let free = self.found.counters.get(&leg).map_or(0, |counter| counter.free);
            if live < capacity {
                self.wrong(
                    Invariant::I9,
                    format!("{live} of {capacity} units of {leg:?} are sold, and nobody can buy more"),
                );
            }
            if free != capacity - live {
                self.wrong(
                    Invariant::I9,
                    format!("{leg:?}: {free} are free in the inventory, {} by the store", capacity - live),
                );
            }
        }
    }

    fn refusals(&mut self) {
        let mut wrong = Vec::new();
        for (name, claim) in &self.claims {
            let mut answers: Vec<_> = claim.answers.iter().filter(|entry| entry.act == Act::Claim).collect();
            answers.sort_by_key(|entry| entry.at);
            let row = self.rows.get(order_id(&self.found.secret, *name).as_str());
            let refused = !answers.is_empty() && answers.iter().all(|entry| entry.kind == Kind::No);
            if let (true, Some(row)) = (refused, row) {
                wrong.push(format!("{name:?} was only ever refused and has {row:?}"));
            }
            // What is said last is what the buyer goes home with.
            for act in [Act::Claim, Act::Pay, Act::Cancel] {
                let last = claim.answers.iter().filter(|entry| entry.act == act).max_by_key(|entry| entry.at);
                let known = claim.of(act, Kind::Ok).next().is_some();
                let open =
                    |entry: &&&Entry| matches!(entry.kind, Kind::Unknown | Kind::Invoke) || entry.status == Some(503);
                let was_unknown = claim
                    .answers
                    .iter()
                    .any(|entry| entry.act == act && entry.kind != Kind::No && entry.kind != Kind::Ok);
                if !known && was_unknown && last.as_ref().is_some_and(open) {
                    wrong.push(format!("{name:?}: {act:?} was never resolved, last heard {last:?}"));
                }
            }
        }
        for what in wrong {
            self.wrong(Invariant::I10, what);
        }
    }

    fn drained(&mut self) {
        if self.found.outbox > 0 {
            self.wrong(Invariant::I11, format!("{} entries are left in the outbox", self.found.outbox));
        }
        for (lane, depth) in self.found.lanes.iter().filter(|(_, depth)| **depth > 0) {
            self.violations
                .push(Violation { invariant: Invariant::I11, what: format!("{depth} messages are left in {lane}") });
        }
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
