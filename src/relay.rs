//! Publishes again whatever has been in the outbox too long. Duplicates end at the store's keys; the writer clears the entry.
//!
//! An entry that stays although it was published waits in a lane, most likely: its writer is behind, or its store is away. More
//! copies do not help it, so they come less and less often. And it does not stand in the way of those behind it: the outbox is gone
//! through page by page, over many rounds if need be, before it begins with the oldest again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::live::Live;
use crate::crash::{self, CrashPoint};
use crate::domain::{OutboxId, Partition, Scope};
use crate::epochs::Epochs;
use crate::inventory::{Inventory, OutboxEntry};
use crate::meters::Meters;
use crate::queue::envelope::Envelope;
use crate::queue::{Publisher, Unconfirmed};
use crate::shutdown::Shutdown;

/// Entries that are read at a time, and about as many are published in a round.
const PAGE: usize = 64;
/// Pages that are read in a round at most; with 128 orders in each entry, some hundred milliseconds of the inventory's time.
const PAGES: usize = 8;
/// The wait between two copies of an entry doubles so many times at most.
const DOUBLINGS: u32 = 6;

/// What a relay is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    pub inventory: Arc<dyn Inventory>,
    pub publisher: Arc<dyn Publisher>,
    pub epochs: Epochs,
    pub meters: Meters,
    /// How old an entry must be.
    pub after: Live<Duration>,
}

/// How far this process is with the outbox of one scope.
#[derive(Debug, Default)]
struct Progress {
    /// The entry that was looked at last; `None`: the oldest is next.
    last: Option<OutboxId>,
    /// Counts how often the end was reached.
    pass: u64,
    /// What was published from here, as far as it was still there at the last pass.
    sent: HashMap<OutboxId, Sent>,
}

#[derive(Debug)]
struct Sent {
    at: Instant,
    /// How often it was published.
    copies: u32,
    /// The pass in which it was last seen.
    pass: u64,
}

impl Progress {
    /// May this entry be published now? `after` is how long it waits for its second copy.
    fn is_due(&mut self, entry: &OutboxId, after: Duration) -> bool {
        let Some(sent) = self.sent.get_mut(entry) else { return true };
        sent.pass = self.pass;
        sent.at.elapsed() >= after * 2_u32.pow(sent.copies.saturating_sub(1).min(DOUBLINGS))
    }

    fn note_sent(&mut self, entry: OutboxId) {
        let copies = self.sent.get(&entry).map_or(0, |sent| sent.copies);
        self.sent.insert(entry, Sent { at: Instant::now(), copies: copies.saturating_add(1), pass: self.pass });
    }

    fn end_pass(&mut self) {
        let pass = self.pass;
        self.sent.retain(|_, sent| sent.pass == pass);
        self.pass += 1;
        self.last = None;
    }
}

/// Relays until the shutdown. Several may do so at once.
pub async fn keep_relaying(parts: Parts, shutdown: Shutdown) {
    let relayed_total = parts.meters.counter("rushgate_relayed_total", &[]);
    let mut progress: HashMap<Scope, Progress> = HashMap::new();
    loop {
        let part = 0.25 + 0.25 * fastrand::f64();
        if shutdown.wait(parts.after.sleep(|after| after.mul_f64(part))).await {
            return;
        }
        // A partition that recovers does not keep the others waiting.
        let joined = Partition::all(parts.epochs.partitions());
        let joined: Vec<_> = joined.filter_map(|partition| parts.epochs.scope(partition).ok()).collect();
        progress.retain(|scope, _| joined.contains(scope));
        for scope in joined {
            match relay(&parts, scope, progress.entry(scope).or_default()).await {
                Ok(relayed) => relayed_total.increment(relayed),
                Err(reason) => tracing::warn!(%scope, reason, "the outbox is not relayed"),
            }
        }
    }
}

/// One round.
async fn relay(parts: &Parts, scope: Scope, progress: &mut Progress) -> Result<u64, String> {
    let mut relayed = 0;
    for _ in 0..PAGES {
        let page = parts.inventory.outbox_behind(scope, progress.last.as_ref(), parts.after.get(), PAGE).await;
        let page = page.map_err(|fault| {
            parts.epochs.report(scope, &fault);
            fault.to_string()
        })?;
        let is_last = page.len() < PAGE;
        for OutboxEntry { id, orders } in page {
            if progress.is_due(&id, parts.after.get()) {
                crash::reach(CrashPoint::RelayRead);
                let published = parts.publisher.publish(Envelope::orders(scope, Some(id.clone()), orders)).await;
                // What may be in the queue counts as sent: a broker that confirms late gets no copies for that.
                if !matches!(published, Err(Unconfirmed::NotSent(_))) {
                    progress.note_sent(id.clone());
                }
                published.map_err(|fault| fault.to_string())?;
                crash::reach(CrashPoint::RelayPublished);
                relayed += 1;
            }
            progress.last = Some(id);
        }
        if is_last {
            progress.end_pass();
            break;
        }
        if relayed >= PAGE as u64 {
            break;
        }
    }
    Ok(relayed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn copies_come_less_and_less_often_and_by_the_setting_as_it_is_now() {
        let (mut progress, entry, second) = (Progress::default(), "e1".parse().unwrap(), Duration::from_secs(1));
        assert!(progress.is_due(&entry, second), "it was never published");
        for wait in [1, 2, 4, 8, 16, 32, 64, 64, 64] {
            progress.note_sent(entry.clone());
            tokio::time::advance(second.mul_f64(f64::from(wait) - 0.001)).await;
            assert!(!progress.is_due(&entry, second), "{wait}");
            assert!(progress.is_due(&entry, second / 2), "{wait}: a shorter setting counts at once");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(progress.is_due(&entry, second), "{wait}");
            assert!(!progress.is_due(&entry, second * 2), "{wait}: and so does a longer one");
        }
    }
}
