//! Ends holds whose time is up; the same transaction writes the stock move that gives their units back.

use std::sync::Arc;
use std::time::Duration;

use crate::config::live::Live;
use crate::meters::Meters;
use crate::shutdown::Shutdown;
use crate::store::{Due, Expiry, Fault, Store};

/// Orders in one transaction.
const LIMIT: u32 = 500;
/// Orders that one round passes over, at most; the next one begins behind them.
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
    let mut past = 0;
    while !shutdown.wait(interval.sleep(|interval| interval)).await {
        let (round, ended) = expire_due(&*store, (grace, past), &shutdown).await;
        expired_total.increment(round.expired.into());
        // So far: those that earlier rounds have passed over, and its own.
        let seen = f64::from(past + round.refused);
        match ended {
            Ok(next) => {
                refused.set(seen);
                past = next;
            }
            Err(fault) => {
                tracing::warn!(%fault, "nothing expires");
                if seen > 0.0 {
                    refused.set(seen);
                }
            }
        }
    }
}

/// What one round has done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    pub expired: u32,
    /// Orders that the store would not expire: they keep their units until somebody looks. Others may expire at the same time, so
    /// one may be counted twice, or not.
    pub refused: u32,
}

/// Expires what is due, but for so many that were refused before. What the store refuses is looked for in halves, down to the one
/// order, which is passed over: one that is broken must not keep the units of all others. Returns how many the next round is to leave
/// out: none, if this one has come to the end.
pub async fn expire_due(
    store: &dyn Store,
    (grace, mut past): (Duration, u32),
    shutdown: &Shutdown,
) -> (Round, Result<u32, Fault>) {
    let (mut round, mut limit) = (Round::default(), LIMIT);
    while round.refused < MOST_REFUSED && !shutdown.has_begun() {
        match store.expire(grace, Due { past, limit }).await {
            Ok(Expiry::Expired(expired)) => {
                round.expired += expired;
                if expired < limit {
                    return (round, Ok(0));
                }
                limit = (limit * 2).min(LIMIT);
            }
            Ok(Expiry::Refused(_)) if limit > 1 => limit /= 2,
            // The next one may well be of the same sale, so it is looked at alone, too.
            Ok(Expiry::Refused(why)) => {
                tracing::error!(why, "an order that is due cannot be expired, and keeps its units");
                (round.refused, past) = (round.refused + 1, past + 1);
            }
            Err(fault) => return (round, Err(fault)),
        }
    }
    (round, Ok(past))
}
