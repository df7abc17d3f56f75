//! What happens to an order once it is recorded.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{BuyerId, Money, Order, OrderId, OrderStatus, PoolId, SaleId, Scope, UnixMillis};
use crate::store::Fault;

#[async_trait]
pub trait Orders {
    async fn order(&self, id: OrderId) -> Result<Option<OrderRow>, Fault>;

    /// Orders that match, the newest first.
    async fn orders(&self, filter: &OrderFilter) -> Result<Vec<OrderRow>, Fault>;

    /// Applies a payment, once per event id: `held → paid` if the store's clock is before `pay_by + grace`.
    /// One that came too late is kept as late, see [`crate::store::LatePayments`].
    async fn pay(&self, event: &PaymentEvent, grace: Duration) -> Result<Judged, Fault>;

    /// `held → cancelled`, for the buyer who has it; any buyer if none is given.
    async fn cancel(&self, id: OrderId, buyer: Option<&BuyerId>) -> Result<CancelOutcome, Fault>;

    /// `paid → refunded`.
    async fn refund(&self, id: OrderId) -> Result<CancelOutcome, Fault>;

    /// `held → expired` for orders whose `pay_by + grace` has come on the store's clock: all of these, or none.
    async fn expire(&self, grace: Duration, due: Due) -> Result<Expiry, Fault>;

    /// Changes of status that the inventory has not followed yet, the oldest first: the order, its sale, and what it became.
    async fn stock_moves(&self, limit: u32) -> Result<Vec<(OrderId, SaleId, OrderStatus)>, Fault>;

    /// Forgets moves that the inventory has followed.
    async fn stock_moved(&self, moves: &[(OrderId, OrderStatus)]) -> Result<(), Fault>;

    /// When the first unpaid order of a sale may expire at the earliest; `None` if there is none.
    async fn next_release(&self, sale: &SaleId, grace: Duration) -> Result<Option<UnixMillis>, Fault>;

    /// The figures of a sale, for balance and audit, from one consistent view.
    async fn tally(&self, sale: &SaleId) -> Result<SaleTally, Fault>;

    /// Payments of an order, the oldest first.
    async fn payments(&self, order: OrderId) -> Result<Vec<PaymentRow>, Fault>;

    /// The order's history: what it became and when, the oldest first, its recording included.
    async fn history(&self, order: OrderId) -> Result<Vec<(UnixMillis, OrderStatus)>, Fault>;
}

/// An order as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    pub order: Order,
    pub status: OrderStatus,
    /// What granted it.
    pub scope: Scope,
    pub recorded_at: UnixMillis,
    /// When it became what it is now.
    pub changed_at: UnixMillis,
}

/// Which orders to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OrderFilter {
    pub sale: Option<SaleId>,
    pub buyer: Option<BuyerId>,
    pub status: Option<OrderStatus>,
    /// Only orders after this one in the order of ids; for a walk over all orders by id, which is then also the order of the list.
    pub after: Option<OrderId>,
    /// As they are now: not from a replica, which lags behind what was decided.
    pub fresh: bool,
    /// At most so many; at most [`Self::MAX_LIMIT`].
    pub limit: u32,
}

impl OrderFilter {
    pub const MAX_LIMIT: u32 = 1000;
}

/// A payment as its provider tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentEvent {
    /// The provider's id of the event: visible ASCII, at most 128 characters.
    pub id: String,
    pub order: OrderId,
    pub paid: Money,
}

/// Some of the orders that are due to expire, in the order in which they were to be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// How many of the first are left as they are.
    pub past: u32,
    /// How many of the next are meant, at most.
    pub limit: u32,
}

impl Due {
    /// The first ones.
    pub fn first(limit: u32) -> Self {
        Self { past: 0, limit }
    }
}

/// What came of expiring orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expiry {
    /// So many have expired; fewer than asked for, if no more are due.
    Expired(u32),
    /// None has: what is stored of one of them contradicts itself, and will again.
    Refused(String),
}

/// What came of telling the store of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    pub outcome: PaymentOutcome,
    /// It was decided by this call; else by an earlier one, and it is only told again.
    pub is_new: bool,
}

/// What came of a payment. The same event gets the same outcome again, but for a late
/// one, which becomes paid or a refund due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentOutcome {
    /// The order is paid with it.
    Paid(Box<OrderRow>),
    /// The order ended, or another payment paid it: this money is to be given back, once.
    RefundDue(Box<OrderRow>),
    /// It came too late; whether its units can be taken again is not known yet.
    Late(Box<OrderRow>),
    /// Not the order's amount or currency: the order is as it was, and the money is to be given back.
    Mismatch { due: Money },
    /// No such order is recorded yet. The event waits for it.
    Unmatched,
}

/// Where a payment event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentState {
    Applied,
    RefundDue,
    Unmatched,
    Mismatch,
    Late,
}

impl PaymentState {
    pub const ALL: [Self; 5] = [Self::Applied, Self::RefundDue, Self::Unmatched, Self::Mismatch, Self::Late];

    /// Is its money to be given back?
    pub fn is_due_back(self) -> bool {
        matches!(self, Self::RefundDue | Self::Mismatch)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::RefundDue => "refund_due",
            Self::Unmatched => "unmatched",
            Self::Mismatch => "mismatch",
            Self::Late => "late",
        }
    }
}

/// A payment event as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRow {
    pub event: PaymentEvent,
    pub state: PaymentState,
    pub received_at: UnixMillis,
}

/// What came of a cancel or refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelOutcome {
    Done(Box<OrderRow>),
    /// It is in another state, this one.
    NotPossible(Box<OrderRow>),
    /// There is no such order, or it is another buyer's.
    NotFound,
}

/// The figures of one sale in the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SaleTally {
    /// Orders and units by status.
    pub by_status: Vec<(OrderStatus, u64, u64)>,
    /// Per pool and leg: the guard's capacity, the guard's count of live units, and the same count taken from the orders.
    pub legs: Vec<LegTally>,
    /// Payments whose money is to be given back.
    pub refunds_due: u64,
    /// Stock moves that the inventory has not followed yet.
    pub moves_waiting: u64,
    /// Payments that came too late and wait for a verdict.
    pub late: u64,
    /// Orders kept as stale that wait for a verdict, that were refused, and orders in quarantine.
    pub stale: u64,
    pub stale_refused: u64,
    pub quarantined: u64,
}

/// The figures of one leg of one pool in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegTally {
    pub pool: PoolId,
    pub leg: u8,
    pub capacity: u32,
    pub live: u32,
    /// Held and paid units, counted from the orders themselves.
    pub held: u32,
    pub paid: u32,
}
