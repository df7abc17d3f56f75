//! The guard's arithmetic: what orders take of each pool and leg, and where the guard stands for a definition.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::failure::Failure;
use super::rows::LegColumns;
use crate::domain::{Line, Order, PoolId, Sale, SaleId};
use crate::store::Recordable;

/// How many units of each leg of each pool, in the order of the guard's rows.
#[derive(Default)]
pub(super) struct Units(BTreeMap<(SaleId, PoolId), Legs>);

/// How many units of each leg of one pool.
#[derive(Default)]
pub(super) struct Legs(BTreeMap<u8, u32>);

impl Units {
    pub(super) fn of_orders(orders: &[&Recordable]) -> Self {
        let mut units = Self::default();
        for one in orders {
            units.add(&one.order.sale, &one.order.lines);
        }
        units
    }

    pub(super) fn of_order(order: &Order) -> Self {
        let mut units = Self::default();
        units.add(&order.sale, &order.lines);
        units
    }

    pub(super) fn add(&mut self, sale: &SaleId, lines: &[Line]) {
        for line in lines {
            let legs = self.0.entry((sale.clone(), line.pool.clone())).or_default();
            for leg in line.legs.iter() {
                *legs.0.entry(leg).or_default() += line.quantity;
            }
        }
    }

    pub(super) fn pools(&self) -> impl Iterator<Item = (&SaleId, &PoolId, &Legs)> {
        self.0.iter().map(|((sale, pool), legs)| (sale, pool, legs))
    }
}

impl Legs {
    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, u32)> {
        self.0.iter().map(|(leg, units)| (*leg, *units))
    }

    /// Each leg alone.
    pub(super) fn each(&self) -> impl Iterator<Item = Self> {
        self.iter().map(|one| Self(BTreeMap::from([one])))
    }

    /// `0, 1`, for `leg IN (…)`.
    pub(super) fn list(&self) -> String {
        self.0.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// The units of a row's leg as an expression, so that one statement moves all legs of a pool: `CASE leg WHEN 0 THEN 5 … END`.
    pub(super) fn case(&self) -> String {
        let mut case = String::from("CASE leg");
        for (leg, units) in self.iter() {
            // Writing to a String cannot fail.
            let _ = write!(case, " WHEN {leg} THEN {units}");
        }
        case + " END"
    }
}

/// Where rows of one pool's guard go.
pub(super) struct Lowered {
    pub(super) pool: String,
    /// `0, 1`, for `leg IN (…)`.
    pub(super) legs: String,
    /// `None`: the definition has no such pool or legs, and the rows go.
    pub(super) capacity: Option<u32>,
}

/// Lets the guard fall to what the definition says: the rows that change. The inventory took the definition, so more cannot be
/// live; if it is, something is broken, and nothing may change.
pub(super) fn lowered(sale: &Sale, guard: Vec<LegColumns>) -> Result<Vec<Lowered>, Failure> {
    let mut changes: BTreeMap<(String, Option<u32>), Vec<String>> = BTreeMap::new();
    for LegColumns { pool_id: pool, leg, capacity: stands, live } in guard {
        let defined = sale.pool(&pool).filter(|_| leg < i64::from(sale.leg_count())).map(|(_, pool)| pool.capacity);
        let falls_to = i64::from(defined.unwrap_or(0));
        if live > falls_to {
            let what = format!("{}/{pool}/{leg} has {live} live units", sale.id);
            return Err(Failure::Broken(format!("{what}, more than the {falls_to} of version {}", sale.version)));
        }
        if defined.is_none() || falls_to != stands {
            changes.entry((pool, defined)).or_default().push(leg.to_string());
        }
    }
    let lowered = |((pool, capacity), legs): (_, Vec<String>)| Lowered { pool, legs: legs.join(", "), capacity };
    Ok(changes.into_iter().map(lowered).collect())
}
