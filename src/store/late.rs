//! Payments that came too late: the inventory is asked for the units once more, and the store decides by what it said.

use async_trait::async_trait;

use crate::domain::{SaleId, Scope};
use crate::store::{Fault, Judged, PaymentEvent};

#[async_trait]
pub trait LatePayments {
    /// Payments that wait for a verdict, the oldest first; at most `limit`.
    async fn late_payments(&self, limit: u32) -> Result<Vec<LatePayment>, Fault>;

    /// Decides about a late payment by what the inventory said: `held → paid` or `expired → paid`, or a refund due.
    ///
    /// What was taken counts only in the partition's current epoch. If that has moved on, nothing is changed and the payment is
    /// still late: the new inventory was rebuilt from a store in which the order had no units, so it may have granted them to
    /// somebody else, and has to be asked again.
    ///
    /// If the capacity guard does not hold after the inventory said yes, something is broken. Then the order becomes paid and
    /// refunded at once, and the stock moves of that give the units back in the inventory.
    async fn settle_late(&self, event: &str, claim: LateClaim) -> Result<Judged, Fault>;
}

/// A payment that waits for a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatePayment {
    pub event: PaymentEvent,
    /// The order's.
    pub sale: SaleId,
}

/// What the inventory said to a late payment's claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateClaim {
    /// The units are sold to the order, in this scope.
    Taken(Scope),
    Refused,
}
