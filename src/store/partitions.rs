//! Which epoch of which partition is open: the row that start-up joins and that a recovery moves.

use async_trait::async_trait;

use crate::domain::{Epoch, Order, OrderStatus, Partition, Sale, Scope};
use crate::store::Fault;

/// The partitions' rows and what a recovery needs. Every step is safe to repeat, and of two recoverers one wins.
#[async_trait]
pub trait Partitions {
    /// The row of a partition; `None` before the first recovery brought it up.
    async fn partition(&self, partition: Partition) -> Result<Option<PartitionRow>, Fault>;

    /// Moves a partition from `seen` (its epoch when the caller looked; `None`: no row) to the next epoch, fenced. Returns the new
    /// epoch, or `None` if somebody else moved it first.
    async fn fence(&self, partition: Partition, seen: Option<Epoch>) -> Result<Option<Epoch>, Fault>;

    /// The lanes whose barrier of this scope is stored (see [`crate::store::Recorder::barrier`]).
    async fn barriers(&self, scope: Scope) -> Result<Vec<u16>, Fault>;

    /// From now on orders of an older epoch than this scope's are stale. An error if the scope is not the partition's current one:
    /// whoever began a newer epoch may have put old orders into the lanes again, and waits for them.
    async fn set_min_epoch(&self, scope: Scope) -> Result<(), Fault>;

    /// All sales of the partition (one of `partitions`), and all their orders, from one consistent view.
    async fn snapshot(&self, partition: Partition, partitions: u16) -> Result<StoreSnapshot, Fault>;

    /// Opens the scope if it is still the partition's current one. `identity` is the inventory's, see
    /// [`crate::inventory::Inventory::identity`]. Returns whether it was.
    async fn open_partition(&self, scope: Scope, identity: &str) -> Result<bool, Fault>;
}

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRow {
    pub partition: Partition,
    pub epoch: Epoch,
    pub state: PartitionState,
    /// Orders of an older epoch are stale.
    pub min_epoch: Epoch,
    /// The inventory that this epoch was opened on.
    pub identity: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionState {
    /// A recovery is due or under way.
    Fenced,
    Open,
}

/// All that a partition's inventory has to know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreSnapshot {
    pub sales: Vec<Sale>,
    pub orders: Vec<(Order, OrderStatus)>,
}
