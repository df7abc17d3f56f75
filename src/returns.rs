//! Carries what the store decided about orders back to the inventory: units of ended orders become free, paid ones sold.
//!
//! The only way in which units come back. A move stays in the store until the inventory has followed it, and following it
//! twice does nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::{OrderId, OrderStatus, Scope};
use crate::epochs::Epochs;
use crate::inventory::{Inventory, StockMove};
use crate::meters::Meters;
use crate::shutdown::Shutdown;
use crate::store::Store;

/// Moves in one round.
const LIMIT: u32 = 512;
/// Between two looks while there is nothing to carry: half of a refill, so that a unit is for sale again within two of them.
const INTERVAL: Duration = Duration::from_millis(50);
/// After a fault.
const PAUSE: Duration = Duration::from_millis(500);

/// Carries until the shutdown. Several may do so at once.
pub async fn keep_carrying(
    store: Arc<dyn Store>,
    inventory: Arc<dyn Inventory>,
    epochs: Epochs,
    meters: Meters,
    shutdown: Shutdown,
) {
    let returned_total = meters.counter("rushgate_returned_units_total", &[]);
    let mut wait = INTERVAL;
    while !shutdown.sleep(wait).await {
        wait = match carry(&*store, &*inventory, &epochs).await {
            Ok(Carried { returned, more }) => {
                returned_total.increment(returned);
                if more { Duration::ZERO } else { INTERVAL }
            }
            Err(reason) => {
                tracing::warn!(reason, "units do not come back");
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
    pub more: bool,
}

/// Carries one round of moves.
pub async fn carry(store: &dyn Store, inventory: &dyn Inventory, epochs: &Epochs) -> Result<Carried, String> {
    let moves = store.stock_moves(LIMIT).await.map_err(|fault| fault.to_string())?;
    let more = moves.len() == LIMIT as usize;
    let mut by_scope: BTreeMap<Scope, Vec<(OrderId, OrderStatus)>> = BTreeMap::new();
    for (order, sale, to) in moves {
        match epochs.of_sale(&sale) {
            Ok(scope) => by_scope.entry(scope).or_default().push((order, to)),
            Err(reason) => return Err(reason.to_string()),
        }
    }
    let mut returned = 0;
    for (scope, moves) in by_scope {
        let asked: Vec<_> = moves.iter().map(|&(order, to)| StockMove { order, to }).collect();
        if let Err(fault) = inventory.apply(scope, &asked).await {
            epochs.report(scope, &fault);
            return Err(fault.to_string());
        }
        store.stock_moved(&moves).await.map_err(|fault| fault.to_string())?;
        returned += moves.iter().filter(|(_, to)| !to.is_live()).map(|_| 1).sum::<u64>();
    }
    Ok(Carried { returned, more })
}
