//! Definitions of sales, and the log of who changed what.
//!
//! A definition is stored first, then carried to the inventory, then marked as applied there. The guard of
//! [`crate::store::Recorder`] stands at the larger of the old and the new capacity in between, so that it is never below what the
//! inventory may grant. Whoever dies on the way is followed by whoever next asks for [`Sales::unapplied`].

use async_trait::async_trait;

use crate::domain::{Sale, SaleId, UnixMillis};
use crate::store::Fault;

/// How often a line of the audit log is tried to be written.
const ATTEMPTS: usize = 3;

#[async_trait]
pub trait Sales {
    async fn sale(&self, id: &SaleId) -> Result<Option<StoredSale>, Fault>;

    /// All sales, in the order of their ids.
    async fn sales(&self) -> Result<Vec<StoredSale>, Fault>;

    /// The ids of at most `limit` sales behind `after` in the order of ids; of the first ones for `None`.
    async fn sale_ids(&self, after: Option<&SaleId>, limit: u32) -> Result<Vec<SaleId>, Fault>;

    /// Stores a definition whose `version` is one above the stored one (1 for a new sale), and the change in the log, in one
    /// transaction. The sale's pools and legs are rows of the guard from then on, at the larger of the old and new capacity.
    async fn put_sale(&self, sale: &Sale, change: &Change) -> Result<PutSale, Fault>;

    /// Marks a version as taken by the inventory; if it is still the stored one, the guard falls to its capacities.
    async fn mark_applied(&self, id: &SaleId, version: u64) -> Result<(), Fault>;

    /// Sales whose stored version is not known to be in the inventory.
    async fn unapplied(&self) -> Result<Vec<StoredSale>, Fault>;

    /// Writes a line of the audit log for a change that is not a sale's definition.
    async fn log_change(&self, change: &Change) -> Result<(), Fault>;

    /// The newest changes first, at most `limit`; of one subject if one is given.
    async fn changes(&self, subject: Option<&str>, limit: u32) -> Result<Vec<Change>, Fault>;
}

/// A sale as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSale {
    pub sale: Sale,
    /// The newest version that the inventory is known to have; 0 for none.
    pub applied_version: u64,
}

/// What came of storing a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutSale {
    Stored,
    /// Somebody else changed the sale first; this is what it is now.
    Conflict(Option<Box<StoredSale>>),
}

/// A line of the audit log: who changed what, when, from what to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub at: UnixMillis,
    pub who: String,
    /// What was done, such as `sale.pause`.
    pub what: String,
    /// What it was done to, such as a sale's id.
    pub subject: String,
    /// JSON, or empty.
    pub before: String,
    pub after: String,
}

/// Writes a line of the audit log about something that is done. It is done whether that works or not: if the line is missing, the process's
/// own log says so.
pub async fn keep_logged(store: &(impl Sales + ?Sized), change: &Change) {
    for _ in 0..ATTEMPTS {
        match store.log_change(change).await {
            Ok(()) => return,
            Err(fault) => {
                let Change { who, what, subject, .. } = change;
                tracing::error!(%fault, who, what, subject, "the audit log misses a line");
            }
        }
    }
}
