//! An order: what a granted claim becomes, and all that may happen to it.
//!
//! ```text
//! held ──pay──► paid ──refund──► refunded
//!   │             ▲
//!   │          pay late
//!   │             │
//!   ├──expire──► expired
//!   └──cancel──► cancelled
//! ```
//!
//! An order whose payment came too late is paid all the same if its units can be taken again, so an expired one may become live
//! once more; a cancelled or refunded one never does.

use std::fmt;
use std::str::FromStr;

use crate::domain::id::{BuyerId, Fingerprint, OrderId, PassengerId, PoolId, SaleId};
use crate::domain::money::Money;
use crate::domain::sale::Legs;
use crate::domain::time::UnixMillis;

/// What was promised to whom, until when, and at what price. Its status is kept beside it, since that is what changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub id: OrderId,
    pub fingerprint: Fingerprint,
    pub sale: SaleId,
    pub buyer: BuyerId,
    /// When the claim came, on the clock of the gateway that took it.
    pub granted_at: UnixMillis,
    pub pay_by: UnixMillis,
    pub price: Money,
    /// At least one.
    pub lines: Vec<Line>,
}

impl Order {
    /// How many units it has, over all lines.
    pub fn units(&self) -> u32 {
        self.lines.iter().map(|line| line.quantity).sum()
    }
}

/// Some units of one pool over some legs, for one passenger if one is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Line {
    pub pool: PoolId,
    pub legs: Legs,
    pub quantity: u32,
    pub passenger: Option<PassengerId>,
    pub seat: Option<SeatPreference>,
}

/// Where a passenger would like to sit. It is kept with the order; numbered seats are assigned from it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SeatPreference {
    Window,
    Middle,
    Aisle,
}

impl SeatPreference {
    pub const ALL: [Self; 3] = [Self::Window, Self::Middle, Self::Aisle];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Middle => "middle",
            Self::Aisle => "aisle",
        }
    }
}

/// The text is no seat preference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of window, middle, aisle")]
pub struct BadSeat;

impl FromStr for SeatPreference {
    type Err = BadSeat;

    fn from_str(text: &str) -> Result<Self, BadSeat> {
        Self::ALL.into_iter().find(|seat| seat.as_str() == text).ok_or(BadSeat)
    }
}

/// Where an order stands. They are declared in an order in which every path goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OrderStatus {
    Held,
    Expired,
    Paid,
    Cancelled,
    Refunded,
}

/// What can happen to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OrderEvent {
    Pay,
    /// A payment came too late, and the units could be taken again.
    PayLate,
    Expire,
    Cancel,
    Refund,
}

impl OrderStatus {
    pub const ALL: [Self; 5] = [Self::Held, Self::Paid, Self::Expired, Self::Cancelled, Self::Refunded];

    /// What it becomes; `None` where the event is not for an order in this state.
    pub fn after(self, event: OrderEvent) -> Option<Self> {
        match (self, event) {
            (Self::Held, OrderEvent::Pay | OrderEvent::PayLate) | (Self::Expired, OrderEvent::PayLate) => {
                Some(Self::Paid)
            }
            (Self::Held, OrderEvent::Expire) => Some(Self::Expired),
            (Self::Held, OrderEvent::Cancel) => Some(Self::Cancelled),
            (Self::Paid, OrderEvent::Refund) => Some(Self::Refunded),
            _ => None,
        }
    }

    /// Does an order in this state have its units?
    pub fn is_live(self) -> bool {
        matches!(self, Self::Held | Self::Paid)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Paid => "paid",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
        }
    }

    /// One letter, as the inventory keeps it.
    pub fn letter(self) -> char {
        match self {
            Self::Held => 'H',
            Self::Paid => 'P',
            Self::Expired => 'E',
            Self::Cancelled => 'C',
            Self::Refunded => 'R',
        }
    }

    pub fn from_letter(letter: char) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.letter() == letter)
    }
}

impl OrderEvent {
    pub const ALL: [Self; 5] = [Self::Pay, Self::PayLate, Self::Expire, Self::Cancel, Self::Refund];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pay => "pay",
            Self::PayLate => "pay late",
            Self::Expire => "expire",
            Self::Cancel => "cancel",
            Self::Refund => "refund",
        }
    }
}

impl fmt::Display for OrderStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OrderStatus {
    type Err = BadStatus;

    fn from_str(text: &str) -> Result<Self, BadStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(BadStatus)
    }
}

/// The text is no status of an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of held, paid, expired, cancelled, refunded")]
pub struct BadStatus;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_ended_stays_ended() {
        for ended in [OrderStatus::Expired, OrderStatus::Cancelled, OrderStatus::Refunded] {
            for event in OrderEvent::ALL {
                let late = (ended, event) == (OrderStatus::Expired, OrderEvent::PayLate);
                assert_eq!(ended.after(event), late.then_some(OrderStatus::Paid), "{ended} {event:?}");
            }
        }
    }

    #[test]
    fn every_path_goes_forward_in_the_order_of_declaration() {
        for before in OrderStatus::ALL {
            for event in OrderEvent::ALL {
                assert!(before.after(event).is_none_or(|after| before < after), "{before} {event:?}");
            }
        }
    }

    #[test]
    fn a_paid_order_neither_expires_nor_is_cancelled() {
        assert_eq!(OrderStatus::Paid.after(OrderEvent::Expire), None);
        assert_eq!(OrderStatus::Paid.after(OrderEvent::Cancel), None);
        assert_eq!(OrderStatus::Paid.after(OrderEvent::Refund), Some(OrderStatus::Refunded));
    }

    #[test]
    fn a_status_reads_back_its_name_and_its_letter() {
        for status in OrderStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(OrderStatus::from_letter(status.letter()), Some(status));
        }
    }
}
