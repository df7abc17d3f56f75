//! Counting a sale from its orders, for balance and audit.

use std::collections::BTreeMap;

use super::failure::Failure;
use super::rows::{LegColumns, parsed, status, unsigned};
use crate::domain::{OrderStatus, PoolId, record};
use crate::store::{LegTally, Recounted, SaleTally};

/// What the orders themselves say, one by one.
#[derive(Default)]
pub(super) struct Count {
    by_status: BTreeMap<OrderStatus, (u64, u64)>,
    legs: BTreeMap<(PoolId, u8), LegCount>,
}

#[derive(Default)]
struct LegCount {
    held: u32,
    paid: u32,
}

/// Rows of one sale in the other tables.
#[derive(sqlx::FromRow)]
pub(super) struct Aside {
    refunds_due: i64,
    moves_waiting: i64,
    late: i64,
    stale: i64,
    stale_refused: i64,
    quarantined: i64,
}

impl Count {
    pub(super) fn add(&mut self, status_text: &str, line_items: &str) -> Result<(), Failure> {
        let status = status(status_text)?;
        let lines = record::parse_lines(line_items).map_err(|error| Failure::Broken(error.to_string()))?;
        let (orders, units) = self.by_status.entry(status).or_default();
        *orders += 1;
        *units += lines.iter().map(|line| u64::from(line.quantity)).sum::<u64>();
        for line in lines.iter().filter(|_| status.is_live()) {
            for leg in line.legs.iter() {
                let count = self.legs.entry((line.pool.clone(), leg)).or_default();
                match status {
                    OrderStatus::Paid => count.paid += line.quantity,
                    _ => count.held += line.quantity,
                }
            }
        }
        Ok(())
    }

    /// The guard's rows that do not say what the orders do, and have room for it.
    pub(super) fn wrong(mut self, guard: Vec<LegColumns>) -> Result<Vec<Recounted>, Failure> {
        let mut wrong = Vec::new();
        for row in guard {
            let pool: PoolId = parsed("pool_legs.pool_id", &row.pool_id)?;
            let leg = unsigned("pool_legs.leg", row.leg)?;
            let LegCount { held, paid } = self.legs.remove(&(pool.clone(), leg)).unwrap_or_default();
            let (was, live) = (unsigned("pool_legs.live", row.live)?, held + paid);
            if was != live && i64::from(live) <= row.capacity {
                wrong.push(Recounted { pool, leg, was, live });
            }
        }
        Ok(wrong)
    }

    /// Sets the count beside the guard's rows. Units without a guard are shown with a capacity of zero.
    pub(super) fn into_tally(mut self, guard: Vec<LegColumns>, aside: &Aside) -> Result<SaleTally, Failure> {
        let mut legs = Vec::with_capacity(guard.len());
        for row in guard {
            let pool: PoolId = parsed("pool_legs.pool_id", &row.pool_id)?;
            let leg = unsigned("pool_legs.leg", row.leg)?;
            let LegCount { held, paid } = self.legs.remove(&(pool.clone(), leg)).unwrap_or_default();
            let capacity = unsigned("pool_legs.capacity", row.capacity)?;
            legs.push(LegTally { pool, leg, capacity, live: unsigned("pool_legs.live", row.live)?, held, paid });
        }
        legs.extend(self.legs.into_iter().map(|((pool, leg), LegCount { held, paid })| LegTally {
            pool,
            leg,
            capacity: 0,
            live: 0,
            held,
            paid,
        }));
        let by_status = |status| {
            let (orders, units) = self.by_status.get(&status).copied().unwrap_or_default();
            (status, orders, units)
        };
        Ok(SaleTally {
            by_status: OrderStatus::ALL.into_iter().map(by_status).collect(),
            legs,
            refunds_due: unsigned("refunds_due", aside.refunds_due)?,
            moves_waiting: unsigned("moves_waiting", aside.moves_waiting)?,
            late: unsigned("late", aside.late)?,
            stale: unsigned("stale", aside.stale)?,
            stale_refused: unsigned("stale_refused", aside.stale_refused)?,
            quarantined: unsigned("quarantined", aside.quarantined)?,
        })
    }
}
