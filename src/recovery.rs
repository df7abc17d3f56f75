//! Brings a partition up: the first epoch of a fresh deployment, and every later one, by the same steps.
//!
//! 1. The store moves the partition to the next epoch, fenced; of two who try one wins, and only the winner goes on.
//! 2. The exchanges of older epochs are deleted: nothing of theirs is confirmed any more.
//! 3. The old inventory is fenced, where it is still there, and what its outbox has is put into the lanes: granted orders that may
//!    not have reached them.
//! 4. A barrier goes into every lane; when the writers have stored all of them, everything confirmed before is in the store.
//! 5. From now on an older epoch's orders are stale.
//! 6. The inventory is rebuilt from one consistent view of the store, under the new epoch's keys.
//! 7. The scripts are loaded, the exchange made, the epoch opened in the store.
//!
//! Whoever dies on the way is followed by another recoverer, who begins a new epoch: nobody ever builds on an epoch that
//! somebody else began, so two of them cannot disturb each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::bugs::{self, Bug};
use crate::crash::{self, CrashPoint};
use crate::domain::{Epoch, Partition, PoolId, Sale, SaleDocument, SaleId, Scope};
use crate::epochs::Epochs;
use crate::inventory::{self, Inventory, KnownOrder, Snapshot};
use crate::meters::Meters;
use crate::queue::Topology;
use crate::queue::envelope::Envelope;
use crate::shutdown::Shutdown;
use crate::store::{Change, PartitionRow, PartitionState, PutSale, Store, StoreSnapshot};

/// Between two looks at a partition.
const INTERVAL: Duration = Duration::from_millis(250);
/// Between two looks whether an open epoch has its exchange.
const EXCHANGE_INTERVAL: Duration = Duration::from_secs(2);
/// Between two looks whether all barriers are stored.
const BARRIER_INTERVAL: Duration = Duration::from_millis(20);
/// How long the writers may take to reach the barriers before they are sent again.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(60);

/// How many entries of an old outbox are read at once: of full batches, some hundred kilobytes.
const REDRIVEN_ENTRIES: usize = 16;
/// How many orders one message has at most that puts them into the lanes again; as many as one batch of claims.
const REDRIVEN_ORDERS: usize = 128;

/// How often the patience with another's recovery is doubled, at most.
const MOST_DOUBLINGS: u32 = 6;
const RECOVERIES: &str = "rushgate_recoveries_total";
/// Who stands in the audit log where nobody asked.
const NOBODY: &str = "rushgate";

/// What a recovery is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub inventory: Arc<dyn Inventory>,
    pub topology: Arc<dyn Topology>,
    pub epochs: Epochs,
    pub meters: Meters,
    /// How long a recovery that somebody else began may make no end before this process begins a new one.
    pub takeover: Duration,
    /// How long after the deletion of an exchange a message that was on its way through it may still reach a lane.
    pub fence_margin: Duration,
}

/// Watches one partition until the shutdown, and recovers it whenever that is due.
pub async fn keep_open(parts: Parts, partition: Partition, shutdown: Shutdown) {
    // Seen from the start: what is first seen as 1 has not grown for whoever watches.
    parts.meters.counter(RECOVERIES, &[]).increment(0);
    let mut watch = Watch::default();
    let mut reason_before = String::new();
    while !shutdown.has_begun() {
        let looked = tokio::select! {
            biased;
            () = shutdown.begun() => return,
            looked = watch.look(&parts, partition) => looked,
        };
        match looked {
            Ok(()) => reason_before.clear(),
            Err(reason) if reason != reason_before => {
                tracing::warn!(%partition, reason, "the partition cannot be brought up yet");
                reason_before = reason;
            }
            Err(_) => {}
        }
        shutdown.sleep(INTERVAL).await;
    }
}

/// What a recoverer remembers between two looks.
#[derive(Debug, Default)]
struct Watch {
    /// The epoch that this process began and has to build.
    own: Option<Epoch>,
    /// The epoch of this process's before which everything was redriven.
    redriven: Option<Epoch>,
    /// When an open epoch's exchange was last seen.
    exchange_seen: Option<Instant>,
    /// Somebody else's fenced epoch, and since when it was seen.
    others: Option<(Epoch, Instant)>,
    /// How many of others' epochs were seen since one was open: each gets twice the time of the one before, so that a rebuild that
    /// takes longer than expected comes to an end, however many wait for it.
    passed: u32,
}

impl Watch {
    async fn look(&mut self, parts: &Parts, partition: Partition) -> Result<(), String> {
        let row = parts.store.partition(partition).await.map_err(text)?;
        let Some(row) = row else {
            return self.begin(parts, partition, None).await;
        };
        match row.state {
            PartitionState::Fenced if self.own == Some(row.epoch) => self.build(parts, &row).await,
            PartitionState::Fenced if self.is_abandoned(row.epoch, parts.takeover) => {
                self.begin(parts, partition, Some(row.epoch)).await
            }
            PartitionState::Fenced => Ok(()),
            PartitionState::Open => {
                (self.others, self.passed) = (None, 0);
                let why = match broken(parts, &row).await {
                    None => self.is_shut(parts, &row).await,
                    why => why,
                };
                match why {
                    Some(why) => {
                        tracing::warn!(%partition, epoch = %row.epoch, why, "a recovery begins");
                        self.begin(parts, partition, Some(row.epoch)).await
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// Without its exchange nothing of an epoch is confirmed any more, and the exchange is not made again: whoever deleted it may
    /// have been a recovery, whose word that is.
    async fn is_shut(&mut self, parts: &Parts, row: &PartitionRow) -> Option<String> {
        if self.exchange_seen.is_some_and(|seen| seen.elapsed() < EXCHANGE_INTERVAL) {
            return None;
        }
        let scope = Scope { partition: row.partition, epoch: row.epoch };
        match parts.topology.is_open(scope).await {
            Ok(false) => return Some("its exchange is gone".to_owned()),
            Ok(true) => self.exchange_seen = Some(Instant::now()),
            // A broker that cannot be asked may come back as it was.
            Err(_) => {}
        }
        None
    }

    fn is_abandoned(&mut self, epoch: Epoch, takeover: Duration) -> bool {
        let since = match self.others {
            Some((seen, since)) if seen == epoch => since,
            _ => {
                let now = Instant::now();
                self.others = Some((epoch, now));
                self.passed += 1;
                now
            }
        };
        since.elapsed() >= takeover * 2_u32.pow(self.passed.saturating_sub(1).min(MOST_DOUBLINGS))
    }

    async fn begin(&mut self, parts: &Parts, partition: Partition, seen: Option<Epoch>) -> Result<(), String> {
        self.own = parts.store.fence(partition, seen).await.map_err(text)?;
        match parts.store.partition(partition).await.map_err(text)? {
            Some(row) if self.own == Some(row.epoch) => self.build(parts, &row).await,
            _ => Ok(()),
        }
    }

    async fn build(&mut self, parts: &Parts, row: &PartitionRow) -> Result<(), String> {
        let begun = Instant::now();
        let scope = Scope { partition: row.partition, epoch: row.epoch };
        crash::reach(CrashPoint::RecoveryFenced);
        parts.topology.widen(parts.store.lanes().await.map_err(text)?);
        close_older(parts, row).await?;
        tokio::time::sleep(parts.fence_margin).await;
        if self.redriven != Some(row.epoch) {
            redrive_older(parts, row).await?;
            self.redriven = Some(row.epoch);
        }
        crash::reach(CrashPoint::RecoveryRedriven);
        pass_barriers(parts, scope).await?;
        crash::reach(CrashPoint::RecoveryBarriersStored);
        parts.store.set_min_epoch(scope).await.map_err(text)?;
        crash::reach(CrashPoint::RecoveryMinEpochSet);
        let orders = rebuild(parts, scope).await?;
        self.own = None;
        parts.epochs.look_again();
        // The first epoch recovers nothing.
        if row.epoch > Epoch(1) {
            parts.meters.counter(RECOVERIES, &[]).increment(1);
        }
        tracing::info!(%scope, orders, took = ?begun.elapsed(), "the epoch is open");
        Ok(())
    }
}

/// Why an open epoch cannot be sold from any more. An inventory that cannot be reached is no reason: it may come back as it was.
async fn broken(parts: &Parts, row: &PartitionRow) -> Option<String> {
    let scope = Scope { partition: row.partition, epoch: row.epoch };
    let asked = match parts.inventory.identity(row.partition).await {
        Ok(identity) if identity != row.identity && !bugs::is_planted(Bug::NoRestartCheck) => {
            return Some("the inventory restarted or was replaced".to_owned());
        }
        Ok(_) => parts.inventory.join(scope).await,
        Err(fault) => Err(fault),
    };
    match asked {
        Err(fault @ inventory::Fault::Fenced(_)) => {
            parts.epochs.report(scope, &fault);
            Some(fault.to_string())
        }
        _ => None,
    }
}

/// Every epoch since the last one that was opened may have an exchange, and an outbox.
fn older(row: &PartitionRow) -> impl Iterator<Item = Scope> + use<> {
    let partition = row.partition;
    (row.min_epoch.0..row.epoch.0).map(move |epoch| Scope { partition, epoch: Epoch(epoch) })
}

async fn close_older(parts: &Parts, row: &PartitionRow) -> Result<(), String> {
    parts.topology.declare().await.map_err(text)?;
    for scope in older(row) {
        parts.topology.close(scope).await.map_err(text)?;
        crash::reach(CrashPoint::RecoveryExchangeDeleted);
    }
    Ok(())
}

/// Fences what is left of the older epochs, and puts their outboxes into the lanes. Where an inventory is not to be had, it is waited
/// for: what it keeps may be all that is known of an order, and nothing can be rebuilt without it.
async fn redrive_older(parts: &Parts, row: &PartitionRow) -> Result<(), String> {
    // A replica is not to be had either: what it has yet to receive would be missed.
    parts.inventory.identity(row.partition).await.map_err(text)?;
    for scope in older(row) {
        match parts.inventory.fence(scope).await {
            Ok(()) => {}
            Err(fault @ inventory::Fault::Fenced(_)) => {
                tracing::warn!(%scope, %fault, "the old inventory cannot be fenced; its exchange is gone in any case");
            }
            Err(fault) => return Err(text(fault)),
        }
        crash::reach(CrashPoint::RecoveryOldFenced);
        let orders = redrive(parts, scope).await?;
        if orders > 0 {
            tracing::info!(%scope, orders, "what the old outbox had is in the lanes");
        }
    }
    Ok(())
}

/// Puts one outbox into the lanes, and returns how many orders it had. Those that are there already meet themselves in the store.
async fn redrive(parts: &Parts, scope: Scope) -> Result<usize, String> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = match parts.inventory.salvage(scope, after, REDRIVEN_ENTRIES).await {
            Ok(page) => page,
            Err(fault @ inventory::Fault::Fenced(_)) => {
                tracing::warn!(%scope, %fault, "the old outbox cannot be read; nobody was promised what is only there");
                return Ok(count);
            }
            Err(fault) => return Err(text(fault)),
        };
        let Some(last) = page.last() else { return Ok(count) };
        after = Some(last.id.clone());
        let orders: Vec<_> = page.into_iter().flat_map(|entry| entry.orders).collect();
        for orders in orders.chunks(REDRIVEN_ORDERS) {
            let message = Envelope::orders(scope, None, orders.to_vec());
            parts.topology.put(message.encode()).await.map_err(text)?;
            count += orders.len();
        }
    }
}

/// Sends the barriers and waits for the writers, this process's own among them. Those of an earlier try, whose rebuild failed,
/// count: what was before them is stored. That is all there was to store, since nobody else builds on this epoch, and this process
/// sent none before it had redriven everything, nor does it redrive anything twice.
async fn pass_barriers(parts: &Parts, scope: Scope) -> Result<(), String> {
    if bugs::is_planted(Bug::NoBarrier) {
        return Ok(());
    }
    let begun = Instant::now();
    let mut sent = false;
    loop {
        let stored = parts.store.barriers(scope).await.map_err(text)?;
        let missing: Vec<_> = parts.topology.barriers().into_iter().filter(|lane| !stored.contains(lane)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if !sent {
            parts.topology.barrier(scope).await.map_err(text)?;
            sent = true;
            crash::reach(CrashPoint::RecoveryBarriersSent);
        }
        if begun.elapsed() > BARRIER_TIMEOUT {
            return Err(format!("the writers have not reached the barrier in lanes {missing:?}"));
        }
        tokio::time::sleep(BARRIER_INTERVAL).await;
    }
}

/// Rebuilds the inventory and opens the epoch. Returns how many orders it has.
async fn rebuild(parts: &Parts, scope: Scope) -> Result<usize, String> {
    let identity = parts.inventory.identity(scope.partition).await.map_err(text)?;
    let mut stored = parts.store.snapshot(scope.partition, parts.epochs.partitions()).await.map_err(text)?;
    make_room(&*parts.store, &mut stored).await?;
    let orders = stored.orders.into_iter().map(|(order, status)| KnownOrder { order, status }).collect::<Vec<_>>();
    let count = orders.len();
    parts.inventory.rebuild(scope, &Snapshot { sales: stored.sales, orders }).await.map_err(text)?;
    crash::reach(CrashPoint::RecoveryRebuilt);
    parts.inventory.open(scope).await.map_err(text)?;
    crash::reach(CrashPoint::RecoveryInventoryOpen);
    // A restart in the middle would have been a rebuild of half an inventory.
    if parts.inventory.identity(scope.partition).await.map_err(text)? != identity {
        return Err("the inventory restarted while it was rebuilt".to_owned());
    }
    parts.topology.open(scope).await.map_err(text)?;
    crash::reach(CrashPoint::RecoveryExchangeMade);
    if parts.store.open_partition(scope, &identity).await.map_err(text)? {
        crash::reach(CrashPoint::RecoveryOpened);
        Ok(count)
    } else {
        Err("somebody else began a newer epoch".to_owned())
    }
}

/// Raises capacities to what is live. An operator may have asked for less just when the inventory died that would have refused
/// it, and nothing can be rebuilt from such a definition.
async fn make_room(store: &dyn Store, stored: &mut StoreSnapshot) -> Result<(), String> {
    let mut live: HashMap<(SaleId, PoolId, u8), u32> = HashMap::new();
    for (order, _) in stored.orders.iter().filter(|(_, status)| status.is_live()) {
        for line in &order.lines {
            for leg in line.legs.iter() {
                *live.entry((order.sale.clone(), line.pool.clone(), leg)).or_default() += line.quantity;
            }
        }
    }
    for sale in &mut stored.sales {
        let before = sale.clone();
        for pool in &mut sale.pools {
            let units = before.whole().iter().map(|leg| (before.id.clone(), pool.id.clone(), leg));
            let most = units.filter_map(|leg| live.get(&leg)).max().copied().unwrap_or(0);
            pool.capacity = pool.capacity.max(most);
        }
        if *sale == before {
            continue;
        }
        sale.version += 1;
        let json = |sale: &Sale| serde_json::to_string(&SaleDocument::from(sale)).unwrap_or_default();
        let change = Change {
            at: store.now().await.map_err(text)?,
            who: NOBODY.to_owned(),
            what: "sale.restore".to_owned(),
            subject: sale.id.to_string(),
            before: json(&before),
            after: json(sale),
        };
        tracing::warn!(sale = %sale.id, version = sale.version, "a capacity was below what is in use; it is raised to that");
        if store.put_sale(sale, &change).await.map_err(text)? != PutSale::Stored {
            return Err(format!("sale {} was changed meanwhile", sale.id));
        }
    }
    Ok(())
}

fn text(fault: impl std::fmt::Display) -> String {
    fault.to_string()
}
