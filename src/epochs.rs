//! Which epoch of each partition this process has joined.
//!
//! A process only ever joins an epoch that the store says is open, only on the very inventory that it was opened on, and only while
//! that answers in it. Whoever meets a fence reports it here; from then on nobody uses that scope until it answers, or another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::atomic::AtomicCell;
use tokio::sync::Notify;

use crate::bugs::{self, Bug};
use crate::domain::{Partition, SaleId, Scope};
use crate::inventory::{self, Inventory};
use crate::meters::Meters;
use crate::shutdown::Shutdown;
use crate::store::{self, PartitionRow, PartitionState, Store};

/// How often the store is asked while all is well; a reported fence is followed at once.
const INTERVAL: Duration = Duration::from_millis(500);
/// How often it is asked while a partition is not joined.
const INTERVAL_OUT: Duration = Duration::from_millis(50);

/// The partition cannot be used at this moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotJoined {
    /// It cannot be known whether there is an open epoch.
    #[error("not joined: {0}")]
    Unavailable(String),
    /// There is none; a recovery is due or under way.
    #[error("recovering: {0}")]
    Recovering(String),
}

/// The standing of every partition. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Epochs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    partitions: Vec<Standing>,
    /// Somebody knows that a look at the store is due.
    wake: Notify,
    /// Whether any partition was ever joined.
    joined: AtomicBool,
    /// Some standing has changed.
    changed: Arc<Notify>,
}

/// How one partition stands.
#[derive(Debug)]
struct Standing {
    /// Asked for every claim: a copy, where the rest is a snapshot.
    joined: AtomicCell<Option<Scope>>,
    /// Why there is none.
    reason: ArcSwap<NotJoined>,
}

impl Standing {
    fn starting() -> Self {
        let reason = NotJoined::Unavailable("the store was not asked yet".to_owned());
        Self { joined: AtomicCell::new(None), reason: ArcSwap::from_pointee(reason) }
    }

    fn get(&self) -> Result<Scope, NotJoined> {
        self.joined.load().ok_or_else(|| NotJoined::clone(&self.reason.load()))
    }

    fn set(&self, standing: Result<Scope, NotJoined>) {
        // The reason first: who sees that there is no scope sees why.
        let joined = standing.map_err(|reason| self.reason.store(Arc::new(reason))).ok();
        self.joined.store(joined);
    }

    /// Leaves this scope, if it is the one that is joined: never the next one, which may be joined at this moment.
    fn leave(&self, scope: Scope, why: &str) -> bool {
        if self.joined.load() != Some(scope) {
            return false;
        }
        self.reason.store(Arc::new(NotJoined::Recovering(why.to_owned())));
        self.joined.compare_exchange(Some(scope), None).is_ok()
    }
}

impl Epochs {
    pub fn new(partitions: u16) -> Self {
        Self(Arc::new(Inner {
            partitions: Partition::all(partitions).map(|_| Standing::starting()).collect(),
            wake: Notify::new(),
            joined: AtomicBool::new(false),
            changed: Arc::default(),
        }))
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u16 {
        u16::try_from(self.0.partitions.len()).unwrap_or(u16::MAX)
    }

    /// The scope that this process has joined.
    pub fn scope(&self, partition: Partition) -> Result<Scope, NotJoined> {
        match self.0.partitions.get(usize::from(partition.0)) {
            Some(standing) => standing.get(),
            None => Err(NotJoined::Unavailable(format!("there is no partition {partition}"))),
        }
    }

    /// The scope of a sale's partition.
    pub fn of_sale(&self, sale: &SaleId) -> Result<Scope, NotJoined> {
        self.scope(Partition::of(sale, self.partitions()))
    }

    /// Has this process joined an epoch of any partition since it started? If not, why not.
    pub fn has_joined(&self) -> Result<(), NotJoined> {
        match self.all() {
            Err(reason) if !self.0.joined.load(Ordering::Relaxed) => Err(reason),
            _ => Ok(()),
        }
    }

    /// The scopes of all partitions, or why one of them is not joined.
    pub fn all(&self) -> Result<Vec<Scope>, NotJoined> {
        Partition::all(self.partitions()).map(|partition| self.scope(partition)).collect()
    }

    /// Tells of a fault that an inventory gave in this scope; a fence is left at once.
    pub fn report(&self, scope: Scope, fault: &inventory::Fault) {
        if let inventory::Fault::Fenced(why) = fault
            && let Some(standing) = self.0.partitions.get(usize::from(scope.partition.0))
            && standing.leave(scope, why)
        {
            tracing::warn!(%scope, why, "met a fence");
            self.0.changed.notify_waiters();
            self.look_again();
        }
    }

    /// Says that the store has changed, so that it is asked at once.
    pub fn look_again(&self) {
        self.0.wake.notify_one();
    }

    /// Joins a scope without asking a store, for who has none.
    pub fn assume(&self, scope: Scope) {
        self.set(scope.partition, Ok(scope));
    }

    /// Resolves when any partition's standing has changed since this was called.
    pub fn changed(&self) -> impl Future<Output = ()> + use<> {
        Arc::clone(&self.0.changed).notified_owned()
    }

    /// Follows the store until the shutdown.
    pub async fn follow(
        self,
        store: Arc<dyn Store>,
        inventory: Arc<dyn Inventory>,
        meters: Meters,
        shutdown: Shutdown,
    ) {
        loop {
            for partition in Partition::all(self.partitions()) {
                self.look(partition, &*store, &*inventory, &meters).await;
            }
            let wait = if self.all().is_ok() { INTERVAL } else { INTERVAL_OUT };
            tokio::select! {
                biased;
                () = shutdown.begun() => return,
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn look(&self, partition: Partition, store: &dyn Store, inventory: &dyn Inventory, meters: &Meters) {
        let before = self.scope(partition);
        let now = match store.partition(partition).await {
            Ok(row) => join(row, inventory).await,
            // An outage of the store alone does not stop the sale; the exchange and the script carry the epoch too.
            Err(fault) if before.is_err() => Err(NotJoined::Unavailable(fault.to_string())),
            Err(_) => return,
        };
        match (&before, &now) {
            (Ok(old), Ok(new)) if old == new => return,
            // One that cannot be asked is not one that changed: its calls fail by themselves as long as that lasts.
            (Ok(_), Err(NotJoined::Unavailable(_))) => return,
            (_, Ok(scope)) => tracing::info!(%scope, "joined"),
            // Every start and every recovery passes through this; only to lose what was joined is news for an operator.
            (Err(before), Err(reason @ NotJoined::Recovering(_))) if before != reason => {
                tracing::info!(%partition, %reason, "not joined yet");
            }
            (before, Err(reason)) if before.as_ref() != Err(reason) => {
                tracing::warn!(%partition, %reason, "not joined");
            }
            (_, Err(_)) => return,
        }
        #[expect(clippy::cast_precision_loss, reason = "epochs stay far below 2^53")]
        let epoch = now.as_ref().map_or(0.0, |scope| scope.epoch.0 as f64);
        meters.gauge("rushgate_epoch", &[("partition", &partition.to_string())]).set(epoch);
        self.set(partition, now);
    }

    fn set(&self, partition: Partition, standing: Result<Scope, NotJoined>) {
        if let Some(slot) = self.0.partitions.get(usize::from(partition.0)) {
            self.0.joined.fetch_or(standing.is_ok(), Ordering::Relaxed);
            slot.set(standing);
            self.0.changed.notify_waiters();
        }
    }
}

/// Did this scope's epoch answer, and not one that is over? An inventory that was replaced may go on answering those who have not heard of
/// it. What was in the store before this look is in every epoch that begins after it.
pub async fn is_current(store: &dyn Store, scope: Scope) -> Result<bool, store::Fault> {
    Ok(store.partition(scope.partition).await?.is_some_and(|row| row.epoch == scope.epoch))
}

async fn join(row: Option<PartitionRow>, inventory: &dyn Inventory) -> Result<Scope, NotJoined> {
    let Some(row) = row else {
        return Err(NotJoined::Recovering("the partition was never brought up; a writer does that".to_owned()));
    };
    if row.state == PartitionState::Fenced {
        return Err(NotJoined::Recovering(format!("epoch {} is being built", row.epoch)));
    }
    let scope = Scope { partition: row.partition, epoch: row.epoch };
    match inventory.identity(row.partition).await {
        Ok(identity) if identity == row.identity || bugs::is_planted(Bug::NoRestartCheck) => {}
        Ok(_) => {
            return Err(NotJoined::Recovering(format!(
                "the inventory is not the one that epoch {} was opened on; it restarted or was replaced",
                row.epoch
            )));
        }
        Err(fault) => return Err(not_joined(fault)),
    }
    // The store hears of a fence only when a recovery begins. Until then the scope itself is asked.
    inventory.join(scope).await.map(|()| scope).map_err(not_joined)
}

fn not_joined(fault: inventory::Fault) -> NotJoined {
    match fault {
        inventory::Fault::Fenced(why) => NotJoined::Recovering(why),
        fault => NotJoined::Unavailable(fault.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Epoch;
    use crate::planted::{Planted, SCOPE};

    #[test]
    fn a_fence_of_the_epoch_before_leaves_the_next_one_joined() {
        let standing = Standing::starting();
        let next = Scope { epoch: Epoch(SCOPE.epoch.0 + 1), ..SCOPE };
        standing.set(Ok(next));
        assert!(!standing.leave(SCOPE, "fenced"));
        assert_eq!(standing.get(), Ok(next));
        assert!(standing.leave(next, "fenced"));
        assert_eq!(standing.get(), Err(NotJoined::Recovering("fenced".to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_scope_that_is_fenced_is_not_joined_again_until_it_answers() {
        let planted = Planted::new().await;
        let (epochs, partition) = (&planted.epochs, SCOPE.partition);
        planted.inventory.lock().fenced = true;
        epochs.report(SCOPE, &inventory::Fault::Fenced("it is lost".to_owned()));
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(matches!(epochs.scope(partition), Err(NotJoined::Recovering(_))), "{:?}", epochs.scope(partition));
        }
        planted.inventory.lock().fenced = false;
        tokio::time::sleep(INTERVAL_OUT * 2).await;
        assert_eq!(epochs.scope(partition), Ok(SCOPE));
        planted.shutdown.force();
    }

    #[tokio::test(start_paused = true)]
    async fn a_fence_is_noticed_by_those_whom_nobody_asks_for_anything() {
        let planted = Planted::new().await;
        planted.inventory.lock().fenced = true;
        tokio::time::sleep(INTERVAL * 2).await;
        let standing = planted.epochs.scope(SCOPE.partition);
        assert!(matches!(standing, Err(NotJoined::Recovering(_))), "{standing:?}");
        planted.shutdown.force();
    }
}
