//! When to come back: keeps, for every pool that is gone but not all paid, the time at which the first hold may expire.
//!
//! The store knows it. It is asked here, now and then, and never while a buyer waits for an answer.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::Shards;
use crate::shutdown::Shutdown;
use crate::store::Store;

const INTERVAL: Duration = Duration::from_millis(500);
/// Sales asked for in one round, so that ten thousand of them do not become ten thousand queries at once.
const SALES_PER_ROUND: usize = 50;

/// Asks until the shutdown. `grace` is how long after `pay_by` a payment is still taken.
pub async fn keep_known(shards: Shards, store: Arc<dyn Store>, grace: Duration, shutdown: Shutdown) {
    let mut next = 0;
    while !shutdown.sleep(INTERVAL).await {
        let mut held: Vec<_> = shards.sales();
        held.retain(|shard| shard.stock().iter().any(|leg| leg.free == 0 && leg.held > 0));
        held.sort_by(|a, b| a.sale.id.cmp(&b.sale.id));
        if next >= held.len() {
            next = 0;
        }
        for shard in held.iter().skip(next).take(SALES_PER_ROUND) {
            match store.next_release(&shard.sale.id, grace).await {
                Ok(at) => shard.learn_next_release(at),
                Err(fault) => {
                    tracing::debug!(%fault, "no release time");
                    break;
                }
            }
        }
        next += SALES_PER_ROUND;
    }
}
