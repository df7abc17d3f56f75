//! Publishes again whatever has been in the outbox too long. Duplicates end at the store's keys; the writer clears the entry.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::crash::{self, CrashPoint};
use crate::domain::{OutboxId, Partition, Scope};
use crate::epochs::Epochs;
use crate::inventory::Inventory;
use crate::meters::Meters;
use crate::queue::Publisher;
use crate::queue::envelope::Envelope;
use crate::shutdown::Shutdown;

/// Entries in one round.
const LIMIT: usize = 64;

/// What a relay is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    pub inventory: Arc<dyn Inventory>,
    pub publisher: Arc<dyn Publisher>,
    pub epochs: Epochs,
    pub meters: Meters,
    /// How old an entry must be.
    pub after: Duration,
}

/// Relays until the shutdown. Several may do so at once.
pub async fn keep_relaying(parts: Parts, shutdown: Shutdown) {
    let relayed_total = parts.meters.counter("rushgate_relayed_total", &[]);
    // When this process last published an entry: a writer that is behind needs time, not the same again.
    let mut published: HashMap<(Scope, OutboxId), Instant> = HashMap::new();
    while !shutdown.sleep(parts.after.mul_f64(0.25 + 0.25 * fastrand::f64())).await {
        published.retain(|_, at| at.elapsed() < parts.after);
        // A partition that recovers does not keep the others waiting.
        let joined =
            Partition::all(parts.epochs.partitions()).filter_map(|partition| parts.epochs.scope(partition).ok());
        for scope in joined {
            match relay(&parts, scope, &mut published).await {
                Ok(relayed) => relayed_total.increment(relayed),
                Err(reason) => tracing::warn!(%scope, reason, "the outbox is not relayed"),
            }
        }
    }
}

async fn relay(
    parts: &Parts,
    scope: Scope,
    published: &mut HashMap<(Scope, OutboxId), Instant>,
) -> Result<u64, String> {
    let entries = match parts.inventory.outbox(scope, parts.after, LIMIT).await {
        Ok(entries) => entries,
        Err(fault) => {
            parts.epochs.report(scope, &fault);
            return Err(fault.to_string());
        }
    };
    let mut relayed = 0;
    for entry in entries {
        let key = (scope, entry.id.clone());
        if published.contains_key(&key) {
            continue;
        }
        crash::reach(CrashPoint::RelayRead);
        let envelope = Envelope::orders(scope, Some(entry.id), entry.orders);
        parts.publisher.publish(envelope).await.map_err(|fault| fault.to_string())?;
        crash::reach(CrashPoint::RelayPublished);
        published.insert(key, Instant::now());
        relayed += 1;
    }
    Ok(relayed)
}
