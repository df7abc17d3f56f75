//! The authority on what is free, held and sold, for all nodes at once.
//!
//! This file is the contract; `memory` and `redis` keep it, and one suite (`tests/contracts/inventory.rs`) runs over both.
//! Only `inventory/redis` knows Redis.
//!
//! Every method is one atomic move and safe to repeat. A grant, its counters, the buyer's limit and the outbox entry are the
//! same move; so are an order's end and its returned units. Everything happens in a [`Scope`]: a partition in an epoch. A scope
//! that is not open answers [`Fault::Fenced`], and only a recovery opens one.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{
    BuyerId, Claim, NodeId, Order, OrderHint, OrderId, OrderStatus, OutboxId, Partition, PoolId, Refusal, Sale, SaleId,
    Scope, UnixMillis,
};

mod footprint;
pub mod memory;
pub mod redis;

/// Counts units for all nodes at once.
#[async_trait]
pub trait Inventory: fmt::Debug + Send + Sync + 'static {
    /// Decides a batch of claims, in their order, all in one move. Claims may be of several sales of the partition.
    ///
    /// A known order id gets its first verdict again. The granted ones become one outbox entry. `now` decides the window.
    async fn confirm(&self, scope: Scope, claims: &[Claim], now: UnixMillis) -> Result<Confirmed, Fault>;

    /// Carries ends of orders, as the store decided them, into the counters. A move that was made already does nothing, and so
    /// does one for an order that is not known here.
    async fn apply(&self, scope: Scope, moves: &[StockMove]) -> Result<(), Fault>;

    /// Sells its units to an order whose payment came too late: a held one keeps them, an expired one takes them again if they are
    /// free on every leg and nobody comes over a limit by it. The sale's window does not matter, since the claim came within it.
    ///
    /// The first verdict comes back, as for a claim: an expired order that was refused is refused in this scope from then on.
    /// So of several who ask for it all are told the same.
    async fn revive(&self, scope: Scope, order: OrderId) -> Result<Revived, Fault>;

    /// All sales and counters that changed after `since`, and all orders granted since; everything for `since` 0.
    async fn changes(&self, scope: Scope, since: u64) -> Result<Changes, Fault>;

    /// Takes a sale's definition if it is newer than the known one, and sets its counters to the new capacities.
    async fn define(&self, scope: Scope, sale: &Sale) -> Result<Defined, Fault>;

    /// The counters of one sale; empty if it is not known.
    async fn stock(&self, scope: Scope, sale: &SaleId) -> Result<Vec<LegStock>, Fault>;

    /// An order that was granted here, with the status that the inventory last heard of.
    async fn order(&self, scope: Scope, id: OrderId) -> Result<Option<KnownOrder>, Fault>;

    /// The orders that count for a buyer's limit in a sale, held or paid.
    async fn orders_of(&self, scope: Scope, sale: &SaleId, buyer: &BuyerId) -> Result<Vec<KnownOrder>, Fault>;

    /// A page of all orders known here, for the audit: pass `None` first, then the returned cursor until that is `None`. An
    /// order may come twice.
    async fn orders(&self, scope: Scope, cursor: Option<String>) -> Result<(Vec<KnownOrder>, Option<String>), Fault>;

    /// The oldest outbox entries that have been there for `min_age` at least, on the inventory's own clock; at most `limit`.
    async fn outbox(&self, scope: Scope, min_age: Duration, limit: usize) -> Result<Vec<OutboxEntry>, Fault> {
        self.outbox_behind(scope, None, min_age, limit).await
    }

    /// The same for those that were written after this entry, whether or not it is still there.
    async fn outbox_behind(
        &self,
        scope: Scope,
        entry: Option<&OutboxId>,
        min_age: Duration,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, Fault>;

    /// How many entries the outbox has.
    async fn outbox_len(&self, scope: Scope) -> Result<u64, Fault>;

    /// Removes entries whose orders are in the store.
    async fn outbox_remove(&self, scope: Scope, entries: &[OutboxId]) -> Result<(), Fault>;

    /// Tells the others that this node is alive, and returns all that have done so within `timeout`, this one included. Time is
    /// the inventory's own.
    async fn beat(&self, beat: &NodeBeat, timeout: Duration) -> Result<Vec<NodeBeat>, Fault>;

    /// Takes a node off the registry at once, for a drain.
    async fn leave(&self, node: &NodeId) -> Result<(), Fault>;

    /// Makes sure that the scope is open here, and that this process's moves work in it. Loses and changes nothing.
    async fn join(&self, scope: Scope) -> Result<(), Fault>;

    /// What tells this run of the inventory, and its history of data, from any other. A change means that it may have lost some.
    /// One that follows another's data has none: [`Fault::Fenced`].
    async fn identity(&self, partition: Partition) -> Result<String, Fault>;

    /// For recovery only: a page of the outbox of a scope that is closed, whatever closed it: the oldest entries behind `after`, at
    /// most `limit`. Orders whose records are lost are left out; a scope that was lost altogether has none. [`Fault::Fenced`]: what
    /// is there cannot be read.
    async fn salvage(&self, scope: Scope, after: Option<OutboxId>, limit: usize) -> Result<Vec<OutboxEntry>, Fault>;

    /// For recovery only: makes the scope hold exactly this, closed, whatever was there. Safe to repeat.
    async fn rebuild(&self, scope: Scope, snapshot: &Snapshot) -> Result<(), Fault>;

    /// For recovery only: opens a rebuilt scope. Those of the partition's earlier epochs are over, and dropped.
    async fn open(&self, scope: Scope) -> Result<(), Fault>;

    /// Closes a scope: from now on everything in it answers [`Fault::Fenced`]. Safe to repeat, and for a scope that never was.
    async fn fence(&self, scope: Scope) -> Result<(), Fault>;
}

/// What came of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// The scope's version after the batch, on the same scale as [`Changes::version`]: of two that tell of a leg, the one with
    /// the higher version is right.
    pub version: u64,
    /// One per claim, in their order.
    pub verdicts: Vec<Verdict>,
    /// The entry with all granted orders; `None` if none was granted.
    pub outbox: Option<OutboxId>,
    /// The counters of all legs that the batch asked for, as they are after it.
    pub stock: Vec<LegStock>,
}

/// What the inventory says to one claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Granted,
    /// The same request was granted before: its order as it was promised then, and what has become of it.
    Known(KnownOrder),
    Refused(Refusal),
}

/// An order in the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownOrder {
    pub order: Order,
    pub status: OrderStatus,
}

/// The counters of one leg of one pool. `free + held + sold` is its capacity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegStock {
    pub sale: SaleId,
    pub pool: PoolId,
    pub leg: u8,
    pub free: u32,
    pub held: u32,
    pub sold: u32,
}

/// A change of an order's status that the store has committed and the counters have to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StockMove {
    pub order: OrderId,
    /// Paid: its units go from held to sold. Expired, cancelled, refunded: back to free; but an order that is paid does not expire,
    /// whatever comes late, while it may be cancelled: the store decided that when a late payment's units were already taken here.
    pub to: OrderStatus,
}

/// What a late payment's order got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revived {
    /// Its units are sold to it, by this move or before.
    Taken,
    /// It is over, or not known, or its units are not to be had.
    Refused,
}

/// What changed in a scope since a version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// To be passed as `since` next time.
    pub version: u64,
    pub sales: Vec<Sale>,
    pub stock: Vec<LegStock>,
    /// Orders that were granted since. Whoever has all of them can tell which requests are no repetition of a granted one, as of
    /// this version, without asking.
    pub granted: Vec<OrderHint>,
}

/// What came of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Defined {
    Applied,
    /// The inventory has this version or a newer one.
    NotNewer,
    /// A capacity is below what is held and sold on this leg; nothing was changed.
    InUse {
        pool: PoolId,
        leg: u8,
        live: u32,
    },
}

/// A granted batch that is not known to be in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    pub id: OutboxId,
    pub orders: Vec<Order>,
}

/// One node's sign of life.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeBeat {
    pub node: NodeId,
    /// Its part of the free stock, relative to the other nodes' weights.
    pub weight: f64,
    /// What the node tells about itself, as JSON of at most a few kilobytes; shown to operators, decides nothing.
    pub status: String,
}

/// All that a scope has to hold, from one consistent view of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    pub sales: Vec<Sale>,
    pub orders: Vec<KnownOrder>,
}

/// Why a move was not made, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The scope is closed, or not there. Nothing was done; nothing will be until a recovery opened an epoch.
    #[error("the inventory is fenced: {0}")]
    Fenced(String),
    /// Nothing was done; asking again is safe and may help.
    #[error("the inventory did not act: {0}")]
    NotDone(String),
    /// It may have been done or not. Every move is safe to repeat, and its first verdict comes back.
    #[error("the inventory may have acted: {0}")]
    Unknown(String),
}
