//! The writer's way into the store: one transaction per batch, on a connection of its own.

use std::fmt;

use async_trait::async_trait;

use crate::domain::{Order, OrderId, PoolId, SaleId, Scope};
use crate::store::Fault;

/// Records batches of orders. After an error that is not [`RecordFault::Guard`] or [`RecordFault::Rejected`] it must be dropped,
/// and the batch replayed on a new one.
#[async_trait]
pub trait Recorder: fmt::Debug + Send {
    /// Records a batch in one transaction, each order once however often it comes.
    ///
    /// Orders that are known already change nothing. Orders of an epoch below their partition's `min_epoch` are not recorded but
    /// kept as stale. The capacity guard, once per sale, pool and leg, comes last. Payments that waited for one of the orders are
    /// applied to it.
    async fn record(&mut self, batch: &[Recordable]) -> Result<Recorded, RecordFault>;

    /// Stores that a lane's barrier of this scope has come; in its own transaction, after all batches before it.
    async fn barrier(&mut self, scope: Scope, lane: u16) -> Result<(), RecordFault>;

    /// Keeps orders that cannot be recorded, with the reason, where operators see them.
    async fn quarantine(&mut self, orders: &[Recordable], reason: &str) -> Result<(), RecordFault>;
}

/// An order and the scope that granted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recordable {
    pub scope: Scope,
    pub order: Order,
}

/// What came of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recorded {
    /// Orders that are rows now and were not before.
    pub fresh: u32,
    /// Orders that were there already.
    pub known: u32,
    /// Orders that came too late for their epoch.
    pub stale: Vec<OrderId>,
    /// Payments that waited for one of the orders, and are to be given back.
    pub refunds_due: u32,
}

/// Why a batch was not recorded. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// More units were granted than there are: something above the store is broken.
    #[error("the capacity guard of {sale}/{pool}/{leg} does not hold")]
    Guard { sale: SaleId, pool: PoolId, leg: u8 },
    /// The store refuses this very content, and will again.
    #[error("the store rejects the batch: {0}")]
    Rejected(String),
    /// The store is not there, or lost the race, or it is unknown whether it committed.
    #[error(transparent)]
    Unavailable(#[from] Fault),
    /// Not done in time, or a lock did not come in time: fewer orders in one transaction may be. Else as `Unavailable`.
    #[error("{0}")]
    Late(Fault),
}
