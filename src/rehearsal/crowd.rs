//! The crowds: how buyers come, what they ask for, and what they do with an order. They are those of the k6 scripts.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use fastrand::Rng;

use crate::domain::SaleDocument;
use crate::rehearsal::sale::{Ask, concert, journey, one_ticket, train_run};
use crate::rehearsal::schedule::Curve;
use crate::rehearsal::settings::Defaults;

/// Who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowd {
    /// More and more buyers, each once, for less than they want; they pay at once.
    Rush,
    /// Everything is sold and paid before they come: they hear nothing but no.
    TooLate,
    /// One of a hundred gets a ticket; some click twice, pay late or never, cancel, or come back for what was not paid.
    Real,
    /// Four legs, two classes, one or two passengers, any two stops.
    Train,
    /// For a long time orders are made, cancelled, left to expire and sold again.
    Soak,
}

/// What of a hundred buyers with an order do with it; the others never pay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Habits {
    pub(super) fast: f64,
    pub(super) slow: f64,
    pub(super) cancel: f64,
    /// Of a hundred who hear `all_held`, how many come back when units are released.
    pub(super) come_back: f64,
}

/// The part of a hold after which slow buyers pay: between these two.
pub(super) const SLOW: f64 = 0.3;
pub(super) const SLOWEST: f64 = 0.9;

/// The text names no crowd.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be rush, too-late, real, train or soak")]
pub struct BadCrowd;

impl Crowd {
    pub const ALL: [Self; 5] = [Self::Rush, Self::TooLate, Self::Real, Self::Train, Self::Soak];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rush => "rush",
            Self::TooLate => "too-late",
            Self::Real => "real",
            Self::Train => "train",
            Self::Soak => "soak",
        }
    }

    /// What it is where nobody says otherwise.
    pub fn defaults(self) -> Defaults {
        let of = |stock, rate, duration, hold, patience, repeat| {
            let [duration, hold, patience] = [duration, hold, patience].map(Duration::from_secs);
            Defaults { stock, rate, duration, hold, patience, repeat }
        };
        match self {
            Self::Rush => of(2000, 300, 30, 300, 30, 0),
            Self::TooLate => of(100, 1000, 30, 300, 30, 0),
            Self::Real => of(150, 300, 60, 10, 30, 10),
            Self::Train => of(1000, 200, 30, 10, 30, 0),
            Self::Soak => of(10_000, 50, 1800, 30, 60, 5),
        }
    }

    pub(super) fn habits(self) -> Habits {
        let of = |fast, slow, cancel, come_back| Habits { fast, slow, cancel, come_back };
        match self {
            Self::Rush | Self::TooLate => of(100.0, 0.0, 0.0, 0.0),
            Self::Real => of(60.0, 20.0, 5.0, 5.0),
            Self::Train => of(70.0, 10.0, 10.0, 5.0),
            Self::Soak => of(5.0, 5.0, 40.0, 20.0),
        }
    }

    /// How many come when, at this peak in buyers per second.
    pub(super) fn curve(self, rate: u32, duration: Duration) -> Curve {
        match self {
            Self::Rush | Self::Real | Self::Train => Curve::ramping(rate, duration),
            Self::TooLate | Self::Soak => Curve::constant(rate, duration),
        }
    }

    /// Is everything sold before they come?
    pub(super) fn is_sold_out(self) -> bool {
        self == Self::TooLate
    }

    /// The sale that they come for, of so many units.
    pub(super) fn sale(self, stock: u32, hold: Duration) -> SaleDocument {
        if self == Self::Train { train_run(stock, hold) } else { concert(stock, hold) }
    }

    pub(super) fn ask(self, buyer: &str, chance: &mut Rng) -> Ask {
        if self == Self::Train { journey(buyer, chance) } else { one_ticket() }
    }

    /// How many buyers with these habits are there at once, with some to spare.
    pub fn at_once(self, rate: u32, stock: u32, hold: Duration) -> usize {
        let Habits { slow, cancel, come_back, .. } = self.habits();
        let (rate, percent) = (f64::from(rate), f64::from(rate) * hold.as_secs_f64() / 100.0);
        let with_orders = 1.5 * percent * (slow * f64::midpoint(SLOW, SLOWEST) + cancel * SLOW / 2.0);
        let all = rate + with_orders.min(stock.into()) + percent * come_back;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number above nothing")]
        let all = all.ceil().clamp(0.0, 1e9) as usize;
        all.max(100)
    }
}

impl fmt::Display for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Crowd {
    type Err = BadCrowd;

    fn from_str(text: &str) -> Result<Self, BadCrowd> {
        Self::ALL.into_iter().find(|crowd| crowd.as_str() == text).ok_or(BadCrowd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crowd_has_a_name_and_no_more_than_all_of_its_habits() {
        for crowd in Crowd::ALL {
            assert_eq!(crowd.as_str().parse(), Ok(crowd));
            let Habits { fast, slow, cancel, .. } = crowd.habits();
            assert!(fast + slow + cancel <= 100.0, "{crowd}");
        }
        assert_eq!("chaos".parse::<Crowd>(), Err(BadCrowd));
    }

    #[test]
    fn who_waits_with_an_order_is_one_of_those_who_are_there_at_once() {
        let hold = Duration::from_secs(10);
        assert_eq!(Crowd::Rush.at_once(50, 2000, hold), 100, "never fewer than that");
        assert_eq!(Crowd::Rush.at_once(300, 2000, hold), 300);
        // The 150 with an order, and 5 of a hundred of the 3000 who hear all_held within a hold.
        assert_eq!(Crowd::Real.at_once(300, 150, hold), 300 + 150 + 150);
    }
}
