//! Carries what the store decided about orders back to the inventory: units of ended orders become free, paid ones sold.
//!
//! The only way in which units come back. A move stays in the store until the inventory has followed it, and following it
//! twice does nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::bugs::{self, Bug};
use crate::crash::{self, CrashPoint};
use crate::domain::{OrderId, OrderStatus, Scope};
use crate::epochs::{self, Epochs};
use crate::inventory::{Inventory, StockMove};
use crate::meters::Meters;
use crate::shutdown::Shutdown;
use crate::store::{Fault, Store};

/// Moves in one round.
const LIMIT: u32 = 512;
/// Between two looks while there is nothing to carry: half of a refill, so that a unit is for sale again within two of them.
const INTERVAL: Duration = Duration::from_millis(50);
/// After a fault.
const PAUSE: Duration = Duration::from_millis(500);
/// Moves that wait for a partition are looked past, up to so many.
const MOST_WAITING: u32 = 1 << 16;

/// Carries until the shutdown. Several may do so at once.
pub async fn keep_carrying(
    store: Arc<dyn Store>,
    inventory: Arc<dyn Inventory>,
    epochs: Epochs,
    meters: Meters,
    shutdown: Shutdown,
) {
    let returned_total = meters.counter("rushgate_returned_units_total", &[]);
    let (mut wait, mut waiting) = (INTERVAL, 0);
    while !shutdown.sleep(wait).await {
        wait = match carry(&*store, &*inventory, &epochs, LIMIT + waiting).await {
            Ok(carried) => {
                returned_total.increment(carried.returned);
                waiting = carried.waiting.min(MOST_WAITING);
                match (carried.more, waiting) {
                    (true, _) => Duration::ZERO,
                    (false, 0) => INTERVAL,
                    (false, _) => PAUSE,
                }
            }
            Err(fault) => {
                tracing::warn!(%fault, "units do not come back");
                PAUSE
            }
        };
    }
}

/// What came of one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Orders whose units became free.
    pub returned: u64,
    /// Moves that could not be carried now. They stay in the store.
    pub waiting: u32,
    /// There may be more that can be carried at once.
    pub more: bool,
}

/// Carries one round of at most so many moves. A partition that cannot be reached does not keep the others waiting.
pub async fn carry(
    store: &dyn Store,
    inventory: &dyn Inventory,
    epochs: &Epochs,
    limit: u32,
) -> Result<Carried, Fault> {
    let moves = store.stock_moves(limit).await?;
    let all = moves.len();
    let mut carried = Carried { returned: 0, waiting: 0, more: false };
    let mut by_scope: BTreeMap<Scope, Vec<(OrderId, OrderStatus)>> = BTreeMap::new();
    for (order, sale, to) in moves {
        match epochs.of_sale(&sale) {
            Ok(scope) => by_scope.entry(scope).or_default().push((order, to)),
            Err(_) => carried.waiting += 1,
        }
    }
    let portions = |(scope, moves): (Scope, Vec<_>)| {
        let portions: Vec<Vec<(OrderId, OrderStatus)>> = moves.chunks(LIMIT as usize).map(<[_]>::to_vec).collect();
        portions.into_iter().map(move |portion| (scope, portion))
    };
    for (scope, moves) in by_scope.into_iter().flat_map(portions) {
        let asked: Vec<_> = moves.iter().map(|&(order, to)| StockMove { order, to }).collect();
        crash::reach(CrashPoint::ReturnsRead);
        if let Err(fault) = inventory.apply(scope, &asked).await {
            epochs.report(scope, &fault);
            tracing::warn!(%scope, %fault, moves = moves.len(), "units do not come back yet");
            carried.waiting += u32::try_from(moves.len()).unwrap_or(u32::MAX);
            continue;
        }
        crash::reach(CrashPoint::ReturnsApplied);
        if !epochs::is_current(store, scope).await? {
            tracing::warn!(%scope, moves = moves.len(), "the epoch is over; the next one has to hear of these units too");
            carried.waiting += u32::try_from(moves.len()).unwrap_or(u32::MAX);
            continue;
        }
        if bugs::is_planted(Bug::ReleaseTwice) {
            let _ = inventory.apply(scope, &asked).await;
        }
        store.stock_moved(&moves).await?;
        carried.returned += moves.iter().filter(|(_, to)| !to.is_live()).map(|_| 1).sum::<u64>();
    }
    carried.more = all == limit as usize && (carried.waiting as usize) < all;
    Ok(carried)
}
