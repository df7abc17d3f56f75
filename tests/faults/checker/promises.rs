//! What buyers were told, held against the rows: I3, I5, I6, I10.

use std::collections::{BTreeMap, HashMap};

use crate::checker::{Check, Claim, Invariant, order_id};
use crate::log::{Act, Entry, Kind};

impl Check<'_> {
    pub(super) fn grants(&mut self) {
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

    pub(super) fn origins(&mut self) {
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

    pub(super) fn histories(&mut self) {
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

    pub(super) fn refusals(&mut self) {
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
}
