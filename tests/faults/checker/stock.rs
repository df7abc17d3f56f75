//! Units and money, counted in the store, the inventory and the queue: I1, I2, I4, I7, I8, I9, I11.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::checker::{Check, Invariant, Violation};
use crate::findings::Counter;

impl Check<'_> {
    pub(super) fn guard(&mut self) {
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

    pub(super) fn equation(&mut self) {
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

    pub(super) fn limits(&mut self) {
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

    pub(super) fn returns(&mut self) {
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

    pub(super) fn payments(&mut self) {
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

    pub(super) fn stranded(&mut self) {
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

    pub(super) fn drained(&mut self) {
        if self.found.outbox > 0 {
            self.wrong(Invariant::I11, format!("{} entries are left in the outbox", self.found.outbox));
        }
        for (lane, depth) in self.found.lanes.iter().filter(|(_, depth)| **depth > 0) {
            self.violations
                .push(Violation { invariant: Invariant::I11, what: format!("{depth} messages are left in {lane}") });
        }
    }
}
