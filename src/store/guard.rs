//! The guard's arithmetic: what orders take of each pool and leg, and where the guard stands for a definition.

use std::collections::BTreeMap;

use super::failure::Failure;
use super::rows::LegColumns;
use crate::domain::{Line, Order, PoolId, Sale, SaleId};
use crate::store::Recordable;

/// How many units of each leg of each pool, in the order of the guard's rows.
#[derive(Default)]
pub(super) struct Units(BTreeMap<(SaleId, PoolId), BTreeMap<u8, u32>>);

/// So many units of one of the guard's rows.
#[derive(Clone, Copy)]
pub(super) struct RowUnits<'u> {
    pub(super) sale: &'u SaleId,
    pub(super) pool: &'u PoolId,
    pub(super) leg: u8,
    pub(super) units: u32,
}

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
                *legs.entry(leg).or_default() += line.quantity;
            }
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = RowUnits<'_>> {
        self.0.iter().flat_map(|((sale, pool), legs)| {
            legs.iter().map(move |(leg, units)| RowUnits { sale, pool, leg: *leg, units: *units })
        })
    }
}

/// Where rows of one pool's guard go.
pub(super) struct Lowered {
    pub(super) pool: String,
    pub(super) legs: Vec<i64>,
    /// `None`: the definition has no such pool or legs, and the rows go.
    pub(super) capacity: Option<u32>,
}

/// Lets the guard fall to what the definition says: the rows that change. The inventory took the definition, so more cannot be
/// live; if it is, something is broken, and nothing may change.
pub(super) fn lowered(sale: &Sale, guard: Vec<LegColumns>) -> Result<Vec<Lowered>, Failure> {
    let mut changes: BTreeMap<(String, Option<u32>), Vec<i64>> = BTreeMap::new();
    for LegColumns { pool_id: pool, leg, capacity: stands, live } in guard {
        let defined = sale.pool(&pool).filter(|_| leg < i64::from(sale.leg_count())).map(|(_, pool)| pool.capacity);
        let falls_to = i64::from(defined.unwrap_or(0));
        if live > falls_to {
            let what = format!("{}/{pool}/{leg} has {live} live units", sale.id);
            return Err(Failure::Broken(format!("{what}, more than the {falls_to} of version {}", sale.version)));
        }
        if defined.is_none() || falls_to != stands {
            changes.entry((pool, defined)).or_default().push(leg);
        }
    }
    let lowered = |((pool, capacity), legs)| Lowered { pool, legs, capacity };
    Ok(changes.into_iter().map(lowered).collect())
}
