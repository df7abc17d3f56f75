//! Asks the inventory again for orders that came too late for their epoch.
//!
//! Nobody was promised them: their message reached a lane when its epoch was over, which takes a broker whose metadata lags. Yet
//! their buyers may still wait, so each is asked for in the current epoch under its own id, with a hold that begins now. What is
//! granted goes the way of every grant, through the outbox and the relay; what is refused is noted with the reason.
//!
//! A stale order waits until it is refused or stored. One that was granted and lost again with its epoch is asked for once more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::{Claim, Order, Scope, UnixMillis};
use crate::epochs::{self, Epochs};
use crate::inventory::{Inventory, Verdict};
use crate::shutdown::Shutdown;
use crate::store::{Fault, StaleState, Store};

/// Between two looks. There are stale orders once in many recoveries, and they are seconds late already.
const INTERVAL: Duration = Duration::from_secs(1);
/// Orders in one look.
const LIMIT: u32 = 256;
/// Orders in one call of the inventory.
const BATCH: usize = 64;
/// Orders whose partition is recovering are looked past, up to so many.
const MOST_WAITING: u32 = 1 << 16;

/// What a readmission is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub inventory: Arc<dyn Inventory>,
    pub epochs: Epochs,
    pub clock: Arc<dyn Clock>,
}

/// Readmits until the shutdown. Several may do so at once.
pub async fn keep_readmitting(parts: Parts, shutdown: Shutdown) {
    let mut waiting = 0;
    while !shutdown.sleep(INTERVAL).await {
        match readmit(&parts, LIMIT + waiting).await {
            Ok(still) => waiting = still.min(MOST_WAITING),
            Err(fault) => tracing::warn!(%fault, "stale orders are not readmitted"),
        }
    }
}

/// Asks for at most so many orders. Returns how many still wait.
async fn readmit(parts: &Parts, limit: u32) -> Result<u32, Fault> {
    let mut waiting = 0;
    let mut by_scope: BTreeMap<Scope, Vec<Claim>> = BTreeMap::new();
    for stale in parts.store.stale_orders(StaleState::Waiting, limit).await? {
        if parts.store.readmitted(stale.order.id).await? {
            tracing::info!(order = %stale.order.id, "a stale order is stored after all");
            continue;
        }
        waiting += 1;
        if let Ok(scope) = parts.epochs.of_sale(&stale.order.sale) {
            let order = renewed(stale.order, parts.clock.now());
            by_scope.entry(scope).or_default().push(Claim { order });
        }
    }
    for (scope, claims) in by_scope {
        for claims in claims.chunks(BATCH) {
            waiting -= ask(parts, scope, claims).await?;
        }
    }
    Ok(waiting)
}

/// Asks for some orders of one scope. Returns how many were refused.
async fn ask(parts: &Parts, scope: Scope, claims: &[Claim]) -> Result<u32, Fault> {
    let confirmed = match parts.inventory.confirm(scope, claims, parts.clock.now()).await {
        Ok(confirmed) => confirmed,
        Err(fault) => {
            parts.epochs.report(scope, &fault);
            tracing::warn!(%scope, %fault, "stale orders cannot be asked for");
            return Ok(0);
        }
    };
    let is_refused = |verdict: &Verdict| matches!(verdict, Verdict::Refused(_));
    if confirmed.verdicts.iter().any(is_refused) && !epochs::is_current(&*parts.store, scope).await? {
        parts.epochs.look_again();
        tracing::warn!(%scope, "the epoch is over; the next one is asked for these stale orders");
        return Ok(0);
    }
    let mut refused = 0;
    for (Claim { order }, verdict) in claims.iter().zip(confirmed.verdicts) {
        match verdict {
            Verdict::Granted => tracing::info!(order = %order.id, %scope, "a stale order is granted again"),
            Verdict::Known(_) => {}
            Verdict::Refused(reason) => {
                tracing::warn!(order = %order.id, %scope, reason = reason.code(), "a stale order is refused");
                parts.store.refuse_stale(order.id, &reason).await?;
                refused += 1;
            }
        }
    }
    Ok(refused)
}

/// The same order, with as long a hold as it had.
fn renewed(order: Order, now: UnixMillis) -> Order {
    Order { granted_at: now, pay_by: now.plus(order.pay_by.since(order.granted_at)), ..order }
}
