//! Ends holds whose time is up; the same transaction writes the stock move that gives their units back.

use std::sync::Arc;
use std::time::Duration;

use crate::config::live::Live;
use crate::meters::Meters;
use crate::shutdown::Shutdown;
use crate::store::{Due, Expiry, Fault, Store};

/// Orders in one transaction.
const LIMIT: u32 = 500;
/// Orders that are passed over in one round, at most. Each costs ten transactions.
const MOST_REFUSED: u32 = 100;

/// Expires until the shutdown. Several may do so at once: each order is one conditional update.
pub async fn keep_expiring(
    store: Arc<dyn Store>,
    grace: Duration,
    interval: impl Into<Live<Duration>>,
    meters: Meters,
    shutdown: Shutdown,
) {
    let expired_total = meters.counter("rushgate_expired_total", &[]);
    let refused = meters.gauge("rushgate_expiry_refused_orders", &[]);
    let interval = interval.into();
    while !shutdown.wait(interval.sleep(|interval| interval)).await {
        let (round, ended) = expire_due(&*store, grace, &shutdown).await;
        expired_total.increment(round.expired.into());
        match ended {
            Ok(()) => refused.set(f64::from(round.refused)),
            Err(fault) => tracing::warn!(%fault, "nothing expires"),
        }
    }
}

/// What one round has done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    pub expired: u32,
    /// Orders that the store would not expire, whatever else it did: they hold their units until somebody looks.
    pub refused: u32,
}

/// Expires all that is due. What the store refuses is looked for in halves, down to the one order, which is passed over: one that
/// is broken must not keep the units of all others.
pub async fn expire_due(store: &dyn Store, grace: Duration, shutdown: &Shutdown) -> (Round, Result<(), Fault>) {
    let (mut round, mut limit) = (Round::default(), LIMIT);
    while round.refused < MOST_REFUSED && !shutdown.has_begun() {
        match store.expire(grace, Due { past: round.refused, limit }).await {
            Ok(Expiry::Expired(expired)) => {
                round.expired += expired;
                if expired < limit {
                    break;
                }
            }
            Ok(Expiry::Refused(_)) if limit > 1 => limit /= 2,
            Ok(Expiry::Refused(why)) => {
                tracing::error!(why, "an order that is due cannot be expired, and keeps its units; the audit names it");
                (round.refused, limit) = (round.refused + 1, LIMIT);
            }
            Err(fault) => return (round, Err(fault)),
        }
    }
    (round, Ok(()))
}
