//! Sets the shards anew: regularly, and at once when a claim finds its shard empty while the inventory still has units.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::admission::{News, Refills, Shards};
use crate::config::live::Live;
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
    interval: impl Into<Live<Duration>>,
    shutdown: Shutdown,
) {
    let interval = interval.into();
    let Some(refills) = shards.refills(partition) else { return };
    // However this ends, nobody shall wait for a refill that does not come.
    let _no_more = NoMore(refills);
    let mut seen: Option<(Scope, u64)> = None;
    let mut wanted = false;
    loop {
        if let Ok(scope) = epochs.scope(partition) {
            if seen.is_none_or(|(before, _)| before != scope) {
                shards.begin(scope);
                seen = Some((scope, 0));
            }
            let since = seen.map_or(0, |(_, version)| version);
            let asked = Instant::now();
            match inventory.changes(scope, since).await {
                Ok(changes) if shards.learn(scope, &changes) => {
                    seen = Some((scope, changes.version));
                    let until = asked + interval.get() * NEWS_INTERVALS;
                    refills.news.store(Some(News { scope, version: changes.version, until }));
                    if wanted {
                        // Permits that came back are in the counters only now.
                        shards.refill_all();
                    }
                    refills.count_one();
                }
                // It was of an epoch that is over: no news.
                Ok(_) => {}
                Err(fault) => {
                    tracing::debug!(%scope, %fault, "no refill");
                    epochs.report(scope, &fault);
                }
            }
        }
        tokio::select! {
            biased;
            () = shutdown.begun() => return,
            () = interval.sleep(|interval| interval) => wanted = false,
            () = refills.wanted.notified() => {
                wanted = true;
                tokio::time::sleep(GAP.min(interval.get())).await;
            }
        }
    }
}

/// Sets all shards anew whenever this node's weight or buffer changes, until the shutdown.
pub async fn keep_tuned(shards: Shards, shutdown: Shutdown) {
    loop {
        let tuned = shards.tuned();
        // Listens before it sets them, so that a change in between is not missed.
        shards.refill_all();
        if shutdown.wait(tuned).await {
            return;
        }
    }
}

struct NoMore<'a>(&'a Refills);

impl Drop for NoMore<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::registry;
    use crate::domain::{Buffer, Epoch, NodeId, OrderId};
    use crate::inventory::{Changes, LegStock, NodeBeat};
    use crate::planted::{Planted, SCOPE};

    /// Longer than a test may take; nothing waits for it to pass.
    const NEVER: Duration = Duration::from_secs(100_000);

    /// Two nodes of one weight share the ten units of a sale.
    async fn shared(planted: &Planted, shards: &Shards) {
        planted.sale("s", 1);
        let filling = (planted.epochs.clone(), Arc::clone(&planted.inventory) as Arc<dyn Inventory>);
        let shutdown = planted.shutdown.clone();
        planted.shutdown.spawn(keep_filled(shards.clone(), SCOPE.partition, filling, NEVER, shutdown));
        assert!(shards.refilled(SCOPE.partition).await);
        let beat = |node: &str| NodeBeat { node: node.parse().unwrap(), weight: 1.0, status: String::new() };
        shards.learn_nodes(vec![beat("n1"), beat("n2")]);
    }

    #[tokio::test]
    async fn a_batch_of_the_epoch_before_that_comes_late_changes_no_counter() {
        let planted = Planted::new().await;
        let sale = planted.sale("s", 1);
        let shards = Shards::new(1, 1.0, Buffer::Units(0));
        let next = Scope { epoch: Epoch(SCOPE.epoch.0 + 1), ..SCOPE };
        let of = |version, free| Changes {
            version,
            sales: vec![sale.clone()],
            stock: vec![LegStock {
                sale: sale.id.clone(),
                pool: sale.pools[0].id.clone(),
                leg: 0,
                free,
                held: 0,
                sold: 10 - free,
            }],
            granted: Vec::new(),
        };
        shards.learn(SCOPE, &of(900, 9));
        shards.learn(next, &of(2, 7));
        assert_eq!(left(&shards), 7, "versions are counted anew, whoever is the first to hear of them");
        let order = OrderId([7; 16]);
        shards.learn(SCOPE, &Changes { granted: vec![order.hint()], sales: Vec::new(), ..of(901, 0) });
        assert_eq!(left(&shards), 7);
        assert!(shards.may_be_granted(order), "what was granted was granted");
        shards.learn(next, &of(3, 6));
        assert_eq!(left(&shards), 6, "what follows counts");
        shards.begin(SCOPE);
        assert!(shards.learn(SCOPE, &of(1, 5)), "a store that is set back sets its epochs back");
        assert_eq!(left(&shards), 5);
        planted.shutdown.force();
    }

    #[tokio::test(start_paused = true)]
    async fn a_refill_of_an_epoch_that_is_over_is_no_news() {
        let planted = Planted::new().await;
        planted.sale("s", 1);
        let shards = Shards::new(1, 1.0, Buffer::Units(0));
        let filling = (planted.epochs.clone(), Arc::clone(&planted.inventory) as Arc<dyn Inventory>);
        let (interval, shutdown) = (Duration::from_secs(1), planted.shutdown.clone());
        planted.shutdown.spawn(keep_filled(shards.clone(), SCOPE.partition, filling, interval, shutdown));
        assert!(shards.refilled(SCOPE.partition).await);
        let shard = shards.sale("s").unwrap();
        assert!(shards.has_heard_of_all(SCOPE, &shard, &[]));
        // Another one has told this node of the next epoch, which the refills do not know of yet.
        shards.begin(Scope { epoch: Epoch(SCOPE.epoch.0 + 1), ..SCOPE });
        let looks = shards.looks();
        tokio::time::sleep(interval * 60).await;
        assert_eq!(shards.looks(), looks);
        assert!(!shards.has_heard_of_all(SCOPE, &shard, &[]));
        planted.shutdown.force();
    }

    fn left(shards: &Shards) -> u32 {
        shards.look("s", |shard| shards.left(shard)[0][0]).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_buffer_and_a_weight_that_are_changed_are_in_every_shard_at_once() {
        let planted = Planted::new().await;
        let (weight, buffer) = (Live::new(1.0), Live::new(Buffer::Units(0)));
        let shards = Shards::new(1, weight.clone(), buffer.clone());
        shared(&planted, &shards).await;
        planted.shutdown.spawn(keep_tuned(shards.clone(), planted.shutdown.clone()));
        tokio::task::yield_now().await;
        assert_eq!(left(&shards), 5);
        for (units, expected) in [(2, 7), (100, 10), (0, 5)] {
            buffer.set(Buffer::Units(units));
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(left(&shards), expected, "{units}");
        }
        weight.set(0.4);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(left(&shards), 2);
        planted.shutdown.force();
    }

    #[tokio::test(start_paused = true)]
    async fn a_weight_that_is_changed_is_told_to_the_others_at_once() {
        let planted = Planted::new().await;
        let weight = Live::new(1.0);
        let shards = Shards::new(1, weight.clone(), Buffer::Units(0));
        let (node, inventory) = ("n1".parse::<NodeId>().unwrap(), Arc::clone(&planted.inventory));
        let beating = registry::keep_beating(shards.clone(), node, inventory, NEVER, planted.shutdown.clone());
        planted.shutdown.spawn(beating);
        tokio::time::sleep(Duration::from_millis(1)).await;
        weight.set(3.0);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(shards.nodes()[0].weight.to_string(), "3");
        planted.shutdown.force();
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_whose_interval_becomes_short_looks_at_once() {
        let planted = Planted::new().await;
        let interval = Live::new(NEVER);
        let shards = Shards::new(1, 1.0, Buffer::Units(0));
        let filling = (planted.epochs.clone(), Arc::clone(&planted.inventory) as Arc<dyn Inventory>);
        let shutdown = planted.shutdown.clone();
        planted.shutdown.spawn(keep_filled(shards.clone(), SCOPE.partition, filling, interval.clone(), shutdown));
        tokio::time::sleep(Duration::from_secs(1)).await;
        planted.sale("s", 1);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(shards.sale("s").is_none());
        interval.set(Duration::from_millis(50));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(shards.sale("s").is_some());
        planted.shutdown.force();
    }
}
