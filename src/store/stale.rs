//! Orders that came too late for their epoch. Nobody was promised them, and nobody drops them in silence.

use std::str::FromStr;

use async_trait::async_trait;

use crate::domain::{Order, OrderId, Refusal, Scope, UnixMillis};
use crate::store::Fault;

#[async_trait]
pub trait StaleOrders {
    /// Stale orders in this state, those kept longest first; at most `limit`.
    async fn stale_orders(&self, state: StaleState, limit: u32) -> Result<Vec<StaleOrder>, Fault>;

    /// Notes that a waiting order is stored after all. Returns whether it is; if not, it still waits.
    async fn readmitted(&self, id: OrderId) -> Result<bool, Fault>;

    /// Notes that the inventory refused a waiting order.
    async fn refuse_stale(&self, id: OrderId, reason: &Refusal) -> Result<(), Fault>;
}

/// An order that came too late for its epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleOrder {
    pub order: Order,
    /// What granted it, and is over.
    pub scope: Scope,
    pub kept_at: UnixMillis,
    pub state: StaleState,
    /// The code of the refusal; empty if there was none.
    pub reason: String,
}

/// What became of a stale order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleState {
    /// The inventory is to be asked for it.
    Waiting,
    /// It was granted again, and is stored.
    Readmitted,
    /// There were no units for it.
    Refused,
}

impl StaleState {
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Readmitted, Self::Refused];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Readmitted => "readmitted",
            Self::Refused => "refused",
        }
    }
}

impl FromStr for StaleState {
    type Err = BadState;

    fn from_str(text: &str) -> Result<Self, BadState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(BadState)
    }
}

/// The text is no state of a stale order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of waiting, readmitted, refused")]
pub struct BadState;
