//! Who is alive: every gateway tells the inventory so, and hears of the others.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::Shards;
use crate::admission::status::Speaker;
use crate::config::live::Live;
use crate::inventory::{Inventory, NodeBeat};
use crate::shutdown::Shutdown;

/// At least so many heartbeats may be lost before a node counts as dead.
const BEATS_PER_TIMEOUT: u32 = 6;
/// Between two heartbeats at the most: where the timeout is raised, a node that has heard of it is still judged by others that have not.
const LONGEST_INTERVAL: Duration = Duration::from_millis(500);

/// Between two heartbeats, where a node without one for so long counts as dead.
pub fn interval(timeout: Duration) -> Duration {
    (timeout / BEATS_PER_TIMEOUT).min(LONGEST_INTERVAL)
}

/// Beats until the shutdown, then leaves the registry, so that the others take over this node's part at once.
pub async fn keep_beating(
    shards: Shards,
    speaker: impl Into<Speaker>,
    inventory: Arc<dyn Inventory>,
    timeout: impl Into<Live<Duration>>,
    shutdown: Shutdown,
) {
    let (mut speaker, timeout) = (speaker.into(), timeout.into());
    loop {
        let weighed = shards.weight_changed();
        let status = speaker.speak(&shards, interval(timeout.get()));
        let beat = NodeBeat { node: speaker.node.clone(), weight: shards.weight(), status };
        match inventory.beat(&beat, timeout.get()).await {
            Ok(nodes) => shards.learn_nodes(nodes),
            Err(fault) => tracing::debug!(%fault, "no heartbeat"),
        }
        // The others shall hear of another weight at once.
        let next = async {
            tokio::select! {
                biased;
                () = weighed => {}
                () = timeout.sleep(interval) => {}
            }
        };
        if shutdown.wait(next).await {
            break;
        }
    }
    if let Err(fault) = inventory.leave(&speaker.node).await {
        tracing::debug!(%fault, "could not leave the registry; the others notice by the missing heartbeat");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[test]
    fn a_node_that_has_a_longer_timeout_beats_often_enough_for_those_that_do_not_have_it_yet() {
        let usual = Settings::default().shard.node_timeout;
        for timeout in [usual, usual * 2, Duration::from_secs(3600)] {
            assert!(interval(timeout) * BEATS_PER_TIMEOUT <= usual, "{timeout:?}");
        }
        assert_eq!(interval(Duration::from_millis(600)), Duration::from_millis(100));
    }
}
