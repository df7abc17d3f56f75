//! What the confirm script is told about a batch: every name once, and the claims as numbers that point at the names.
//!
//! Gateways are many and Redis is one, so what can be worked out here is.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::Hash;

use crate::domain::{Claim, Order, OrderStatus};
use crate::inventory::Fault;
use crate::inventory::footprint::{Footprint, LegKey};
use crate::inventory::redis::{codec, keys};

/// The arguments of the confirm script, and what is needed to read its answer.
#[derive(Debug)]
pub(super) struct Plan {
    /// All after `now`: the numbers, then order ids, records, sales, counter fields, people fields.
    pub(super) args: Vec<String>,
    /// The counters that the answer has, in its order.
    pub(super) legs: Vec<LegKey>,
}

impl Plan {
    pub(super) fn of(claims: &[Claim]) -> Result<Self, Fault> {
        let (mut sales, mut legs, mut people) = (Names::default(), Names::default(), Names::default());
        let mut body = String::new();
        for Claim { order } in claims {
            check_units(order)?;
            let footprint = Footprint::of(order);
            let _ = write!(body, ",{},{}", sales.number(&order.sale), footprint.people.len());
            for (person, units) in &footprint.people {
                let _ = write!(body, ",{},{units}", people.number(person));
            }
            let _ = write!(body, ",{}", footprint.legs.len());
            for (leg, units) in &footprint.legs {
                let _ = write!(body, ",{},{units}", legs.number(leg));
            }
        }
        let counts = (claims.len(), sales.list.len(), legs.list.len(), people.list.len());
        let mut args = Vec::with_capacity(1 + 2 * counts.0 + counts.1 + counts.2 + counts.3);
        args.push(format!("[{},{},{},{}{body}]", counts.0, counts.1, counts.2, counts.3));
        args.extend(claims.iter().map(|claim| keys::order(claim.order.id)));
        args.extend(claims.iter().map(|claim| codec::record(&claim.order, OrderStatus::Held)));
        args.extend(sales.list.iter().map(keys::header));
        args.extend(legs.list.iter().map(keys::counter));
        args.extend(people.list.iter().map(keys::person));
        Ok(Self { args, legs: legs.list })
    }
}

/// A person's entry has two digits for the units of an order.
fn check_units(order: &Order) -> Result<(), Fault> {
    if u64::from(order.units()) > Claim::MAX_UNITS {
        return Err(Fault::NotDone(format!("order {} has more than {} units", order.id, Claim::MAX_UNITS)));
    }
    Ok(())
}

/// Numbers names as Lua does, from one.
#[derive(Debug)]
struct Names<T> {
    list: Vec<T>,
    numbers: HashMap<T, usize>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { list: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Names<T> {
    fn number(&mut self, name: &T) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.list.push(name.clone());
        self.numbers.insert(name.clone(), self.list.len());
        self.list.len()
    }
}
