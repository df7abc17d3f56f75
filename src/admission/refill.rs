//! Sets the shards anew: regularly, and at once when a claim finds its shard empty while the inventory still has units.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::admission::{Refills, Shards};
use crate::domain::{Partition, Scope};
use crate::epochs::Epochs;
use crate::inventory::Inventory;
use crate::shutdown::Shutdown;

/// Between two refills at the least, however many claims wait for one: while the last units are being decided, all who wait
/// for them ask again and again.
const GAP: Duration = Duration::from_millis(2);
/// So many intervals what a refill told is news: a node that cannot ask must not refuse a repetition by what it heard long ago.
const NEWS_INTERVALS: u32 = 5;

/// Refills one partition's shards until the shutdown.
pub async fn keep_filled(
    shards: Shards,
    partition: Partition,
    (epochs, inventory): (Epochs, Arc<dyn Inventory>),
    interval: Duration,
    shutdown: Shutdown,
) {
    let Some(refills) = shards.refills(partition) else { return };
    // However this ends, nobody shall wait for a refill that does not come.
    let _no_more = NoMore(refills);
    let mut seen: Option<(Scope, u64)> = None;
    let mut wanted = false;
    loop {
        if let Ok(scope) = epochs.scope(partition) {
            if seen.is_none_or(|(before, _)| before != scope) {
                shards.forget_versions(partition);
                seen = Some((scope, 0));
            }
            let since = seen.map_or(0, |(_, version)| version);
            let asked = Instant::now();
            match inventory.changes(scope, since).await {
                Ok(changes) => {
                    shards.learn(&changes);
                    seen = Some((scope, changes.version));
                    refills.heard.store(changes.version, Ordering::Relaxed);
                    refills.news.store(Some(Arc::new((scope, asked + interval * NEWS_INTERVALS))));
                    if wanted {
                        // Permits that came back are in the counters only now.
                        shards.refill_all();
                    }
                    refills.count_one();
                }
                Err(fault) => {
                    tracing::debug!(%scope, %fault, "no refill");
                    epochs.report(scope, &fault);
                }
            }
        }
        tokio::select! {
            biased;
            () = shutdown.begun() => return,
            () = tokio::time::sleep(interval) => wanted = false,
            () = refills.wanted.notified() => {
                wanted = true;
                tokio::time::sleep(GAP.min(interval)).await;
            }
        }
    }
}

struct NoMore<'a>(&'a Refills);

impl Drop for NoMore<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
