//! What is sold: a sale, its pools and their legs, and when.

use std::time::Duration;

use crate::domain::id::{PoolId, SaleId, StopId};
use crate::domain::money::Currency;
use crate::domain::time::UnixMillis;

/// What is sold in one window: an event, or one train run on one date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    pub id: SaleId,
    pub name: String,
    /// `None`: it opens when an operator says so.
    pub opens_at: Option<UnixMillis>,
    /// `None`: it closes when an operator says so.
    pub closes_at: Option<UnixMillis>,
    pub state: SaleState,
    /// How long a hold waits for its payment.
    pub hold: Duration,
    pub limits: Limits,
    pub currency: Currency,
    /// The stops of a journey in their order; empty for an event, which has one leg.
    pub stops: Vec<StopId>,
    pub pools: Vec<Pool>,
    /// `None`: the node's configured buffer.
    pub buffer: Option<Buffer>,
    /// Grows by one with every change; the inventory takes a definition only if it is newer than the one it has.
    pub version: u64,
}

impl Sale {
    pub const MAX_POOLS: usize = 64;
    pub const MAX_STOPS: usize = 65;
    pub const MAX_CAPACITY: u32 = 100_000_000;
    pub const MAX_HOLD: Duration = Duration::from_secs(7 * 24 * 3600);

    /// How many legs every pool of this sale has; one for an event.
    pub fn leg_count(&self) -> u8 {
        u8::try_from(self.stops.len().saturating_sub(1)).unwrap_or(u8::MAX).max(1)
    }

    /// The pool and its index.
    pub fn pool(&self, id: &str) -> Option<(usize, &Pool)> {
        self.pools.iter().enumerate().find(|(_, pool)| pool.id.as_str() == id)
    }

    /// May it be bought from at this moment, and if not, why not?
    pub fn phase(&self, now: UnixMillis) -> Phase {
        if self.state == SaleState::Closed || self.closes_at.is_some_and(|at| at <= now) {
            return Phase::Closed;
        }
        match self.opens_at {
            Some(at) if at <= now => match self.state {
                SaleState::Paused => Phase::Paused,
                SaleState::Active | SaleState::Closed => Phase::Open,
            },
            opens_at => Phase::NotOpen { opens_at },
        }
    }

    /// All legs of the journey, the whole event.
    pub fn whole(&self) -> Legs {
        Legs { from: 0, to: self.leg_count() }
    }
}

/// What an operator last said; the window says the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SaleState {
    Active,
    Paused,
    Closed,
}

/// Where a sale stands at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    NotOpen { opens_at: Option<UnixMillis> },
    Open,
    Paused,
    Closed,
}

/// How many units one person may have in a sale, held or paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub per_buyer: u32,
    /// Counts for lines that name a passenger.
    pub per_passenger: u32,
}

/// A block of interchangeable units inside a sale: a ticket tier, a seat class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    pub id: PoolId,
    /// Units per leg.
    pub capacity: u32,
    /// The price of each leg in the smallest unit of the currency; one entry for an event.
    pub fares: Vec<i64>,
}

impl Pool {
    /// The price of one unit over these legs.
    pub fn price(&self, legs: Legs) -> i64 {
        self.fares[usize::from(legs.from)..usize::from(legs.to)].iter().sum()
    }
}

/// The adjacent legs `[from, to)` of a journey; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Legs {
    pub from: u8,
    pub to: u8,
}

impl Legs {
    pub fn iter(self) -> std::ops::Range<u8> {
        self.from..self.to
    }
}

/// How much each shard may hold beyond its fair part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Buffer {
    /// Units per pool, leg and node.
    Units(u32),
    /// A fraction of the fair part: 0.1 is "10%".
    Fraction(f64),
}

impl Eq for Buffer {}

/// The text is neither a number of units nor a percentage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a number of units such as 50, or a percentage such as \"10%\" up to \"1000%\"")]
pub struct BadBuffer;

impl std::str::FromStr for Buffer {
    type Err = BadBuffer;

    fn from_str(text: &str) -> Result<Self, BadBuffer> {
        match text.strip_suffix('%') {
            Some(percent) => match percent.trim().parse::<f64>() {
                Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(Self::Fraction(percent / 100.0)),
                _ => Err(BadBuffer),
            },
            None => text.trim().parse().map(Self::Units).map_err(|_| BadBuffer),
        }
    }
}

impl std::fmt::Display for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Units(units) => write!(f, "{units}"),
            // Rounded where binary fractions would otherwise print 7.000000000000001%.
            Self::Fraction(fraction) => write!(f, "{}%", (fraction * 1e8).round() / 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sale(opens_at: Option<i64>, closes_at: Option<i64>, state: SaleState) -> Sale {
        Sale {
            id: "s".parse().unwrap(),
            name: String::new(),
            opens_at: opens_at.map(UnixMillis),
            closes_at: closes_at.map(UnixMillis),
            state,
            hold: Duration::from_secs(300),
            limits: Limits { per_buyer: 1, per_passenger: 1 },
            currency: Currency::CNY,
            stops: Vec::new(),
            pools: Vec::new(),
            buffer: None,
            version: 1,
        }
    }

    #[test]
    fn the_window_opens_at_its_first_and_closes_at_its_last_millisecond() {
        let sale = sale(Some(10), Some(20), SaleState::Active);
        assert_eq!(sale.phase(UnixMillis(9)), Phase::NotOpen { opens_at: Some(UnixMillis(10)) });
        assert_eq!(sale.phase(UnixMillis(10)), Phase::Open);
        assert_eq!(sale.phase(UnixMillis(19)), Phase::Open);
        assert_eq!(sale.phase(UnixMillis(20)), Phase::Closed);
    }

    #[test]
    fn a_sale_without_an_opening_waits_for_the_operator() {
        assert_eq!(sale(None, None, SaleState::Active).phase(UnixMillis(9)), Phase::NotOpen { opens_at: None });
    }

    #[test]
    fn a_paused_sale_is_paused_and_a_closed_one_closed_whatever_the_window() {
        assert_eq!(sale(Some(0), None, SaleState::Paused).phase(UnixMillis(9)), Phase::Paused);
        assert_eq!(sale(Some(10), None, SaleState::Closed).phase(UnixMillis(9)), Phase::Closed);
    }

    #[test]
    fn a_buffer_reads_back_what_it_prints() {
        for text in ["0", "50", "10%", "7%", "12.5%", "1000%"] {
            assert_eq!(text.parse::<Buffer>().unwrap().to_string(), text);
        }
        for odd in ["", "-1", "ten", "-5%", "1001%", "NaN%", "%"] {
            assert_eq!(odd.parse::<Buffer>(), Err(BadBuffer), "{odd}");
        }
    }
}
