//! Orders at rest. The store decides what becomes of an order once it is recorded, and which epoch is open.
//!
//! This file and the eight below are the contract; `sqlite` and `mysql` keep it, and one suite (`tests/contracts/store.rs`)
//! runs over both. Only `store/sqlite` and `store/mysql` know SQL; what they share lies beside them: connections (`pool`), rows
//! (`rows`), and what is decided or counted in memory (`batch`, `guard`, `judge`, `tally`, `schema`).
//!
//! - [`partitions`]: which epoch of which partition is open, for start-up and recovery
//! - [`sales`]: definitions of sales, and the log of who changed what
//! - [`recorder`]: the writer's way in, one transaction per batch
//! - [`orders`]: what happens to an order afterwards: payment, cancel, expiry; and the stock moves that follow from it
//! - [`late`]: payments that came too late, and what the inventory said to them
//! - [`stale`]: orders that came too late for their epoch
//! - [`dead_letters`]: messages that could not be stored as orders, for operators
//! - [`repairs`]: what an operator's repair sets right
//!
//! Every change of an order's status is one conditional update on the store's own clock, so that of two that race one wins. In
//! the same transaction stands the stock move that the inventory has to follow, and the order's history.

use std::fmt;

use async_trait::async_trait;

use crate::domain::{OrderSecret, UnixMillis};

mod batch;
mod failure;
mod guard;
mod judge;
mod pool;
mod rows;
mod schema;
mod tally;

pub mod dead_letters;
pub mod late;
pub mod mysql;
pub mod orders;
pub mod partitions;
pub mod recorder;
pub mod repairs;
pub mod sales;
pub mod sqlite;
pub mod stale;

pub use dead_letters::{DeadLetter, DeadLetters};
pub use late::{LateClaim, LatePayment, LatePayments};
pub use orders::{
    CancelOutcome, Due, Expiry, Judged, LegTally, OrderFilter, OrderRow, Orders, PaymentEvent, PaymentOutcome,
    PaymentRow, PaymentState, SaleTally,
};
pub use partitions::{PartitionRow, PartitionState, Partitions, StoreSnapshot};
pub use recorder::{RecordFault, Recordable, Recorded, Recorder};
pub use repairs::{Recounted, Repairs};
pub use sales::{Change, PutSale, Sales, StoredSale, keep_logged};
pub use stale::{StaleOrder, StaleOrders, StaleState};

/// A whole store.
#[async_trait]
pub trait Store:
    Partitions + Sales + Orders + LatePayments + StaleOrders + DeadLetters + Repairs + fmt::Debug + Send + Sync + 'static
{
    /// How the schema stands to this program.
    async fn schema(&self) -> Result<Schema, Fault>;

    /// Brings the schema up to date; returns the names of the migrations that were applied. Safe from several processes at once.
    async fn migrate(&self) -> Result<Vec<String>, Fault>;

    /// What all processes of a deployment must agree about; the first who asks makes it from `fresh`. The lanes are the most that any
    /// process asked with.
    async fn deployment(&self, fresh: Deployment) -> Result<Deployment, Fault>;

    /// How many lanes the process came with that had the most of them, as [`Store::deployment`] was told. Zero if none was.
    async fn lanes(&self) -> Result<u16, Fault>;

    /// A connection of its own for a writer, kept until it is dropped.
    async fn recorder(&self) -> Result<Box<dyn Recorder>, Fault>;

    /// The store's clock, which decides about payment and expiry.
    async fn now(&self) -> Result<UnixMillis, Fault>;
}

/// What is the same for all processes of a deployment, from its first start on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// The key of its order ids.
    pub secret: OrderSecret,
    /// How many partitions its inventory has. A sale's partition follows from it, so it cannot change under sales.
    pub partitions: u16,
    /// How many lanes there are messages in, perhaps, whatever a process is configured to publish into.
    pub lanes: u16,
}

/// How a schema stands to the program that meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schema {
    Current,
    /// So many migrations are missing; `rushgate migrate` applies them.
    Behind {
        missing: usize,
    },
    /// It has migrations that this program does not know: the program is older than the schema.
    Ahead,
}

/// The store did not do what was asked, or cannot be known to have. Every method is safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store: {0}")]
pub struct Fault(pub String);
