//! What an operator's repair may ask of the store: only what has one right answer.

use async_trait::async_trait;

use crate::domain::{OrderId, PoolId, SaleId};
use crate::store::Fault;

#[async_trait]
pub trait Repairs {
    /// Sets the guard's live units to what the orders say, and returns the rows that were wrong. One that would stand above its
    /// capacity is left as it is: that more is live than there is, no count can mend.
    ///
    /// Exact beside everyone who writes. Whoever changes orders does that first and moves the guard last, in one transaction.
    /// This one locks the sale's rows of the guard first and counts then, in a statement that sees what is committed by then.
    /// So a transaction that has moved the guard is waited for, and its orders are counted; one that has not, waits for this
    /// one, its orders are not seen, and it moves the guard from the new figure. Everyone locks the guard's rows in the same
    /// order. While the orders are counted nobody can record or end one of this sale.
    async fn recount(&self, sale: &SaleId) -> Result<Vec<Recounted>, Fault>;

    /// Applies the payments that still wait for these orders, as their recording would have.
    async fn match_payments(&self, orders: &[OrderId]) -> Result<(), Fault>;

    /// Orders of a sale in quarantine that are no rows; the first by id, at most `limit`.
    async fn quarantined(&self, sale: &SaleId, limit: u32) -> Result<Vec<OrderId>, Fault>;
}

/// A row of the guard that was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recounted {
    pub pool: PoolId,
    pub leg: u8,
    pub was: u32,
    pub live: u32,
}
