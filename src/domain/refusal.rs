//! Every reason to say no. A refusal is data, not an error: nothing was reserved, and the buyer hears why.

use crate::domain::id::OrderId;
use crate::domain::time::UnixMillis;

/// A definite no, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    UnknownSale,
    NotOpen {
        opens_at: Option<UnixMillis>,
    },
    Paused,
    Closed,
    /// Nothing free and nothing held on a leg that was asked for.
    SoldOut,
    /// Nothing free, but some units are unpaid and may come back.
    AllHeld {
        next_release_at: Option<UnixMillis>,
    },
    /// The buyer, or a passenger, has theirs already: these orders.
    LimitReached {
        orders: Vec<OrderId>,
    },
    /// The idempotency key was used for another request.
    KeyReused,
}

impl Refusal {
    /// The stable code of this refusal, in answers and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownSale => "unknown_sale",
            Self::NotOpen { .. } => "not_open",
            Self::Paused => "paused",
            Self::Closed => "closed",
            Self::SoldOut => "sold_out",
            Self::AllHeld { .. } => "all_held",
            Self::LimitReached { .. } => "limit_reached",
            Self::KeyReused => "key_reused",
        }
    }
}
