//! Ends holds whose time is up; the same transaction writes the stock move that gives their units back.

use std::sync::Arc;
use std::time::Duration;

use crate::config::live::Live;
use crate::meters::Meters;
use crate::shutdown::Shutdown;
use crate::store::Store;

/// Orders in one transaction.
const LIMIT: u32 = 500;

/// Expires until the shutdown. Several may do so at once: each order is one conditional update.
pub async fn keep_expiring(
    store: Arc<dyn Store>,
    grace: Duration,
    interval: impl Into<Live<Duration>>,
    meters: Meters,
    shutdown: Shutdown,
) {
    let expired_total = meters.counter("rushgate_expired_total", &[]);
    let interval = interval.into();
    while !shutdown.wait(interval.sleep(|interval| interval)).await {
        loop {
            match store.expire(grace, LIMIT).await {
                Ok(expired) => {
                    expired_total.increment(expired.into());
                    if expired < LIMIT || shutdown.has_begun() {
                        break;
                    }
                }
                Err(fault) => {
                    tracing::warn!(%fault, "nothing expires");
                    break;
                }
            }
        }
    }
}
