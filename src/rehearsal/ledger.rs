//! The ledger of a rehearsal: everything that buyers heard, for the end to compare with what is there.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::domain::OrderId;
use crate::rehearsal::sale::Units;

/// The longest that is told apart, in microseconds: an hour. A claim that is asked again may take as long as patience lasts.
const LONGEST: u64 = 3_600_000_000;
/// Into how many slices the time of the crowd is cut for the charts.
pub(super) const SLICES: usize = 40;
/// So many contradictions are told; all are counted.
const TOLD: usize = 20;

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $text:literal $meaning:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum $name {
            $($(#[$of])* $variant,)+
        }

        impl $name {
            pub(super) const ALL: [Self; [$($text),+].len()] = [$(Self::$variant),+];

            pub(super) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// What it means to a buyer.
            pub(super) fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)+
                }
            }
        }
    };
}

names! {
    /// The answers to a claim that there are, the good ones first.
    Outcome {
        Held = "held" "yes: an order is held",
        Replayed = "replayed" "yes: the same as before",
        Pending = "pending" "not known in time; asked again",
        SoldOut = "sold_out" "no: nothing is left",
        AllHeld = "all_held" "no: nothing is free, some are unpaid",
        LimitReached = "limit_reached" "no: this buyer has theirs",
        NotOpen = "not_open" "no: the sale has not opened",
        Paused = "paused" "no: the sale is paused",
        Closed = "closed" "no: the sale has closed",
        UnknownSale = "unknown_sale" "no: there is no such sale",
        RateLimited = "rate_limited" "too many from one; asked again",
        Busy = "busy" "too many wait; asked again",
        Recovering = "recovering" "the inventory is rebuilt; asked again",
        Unavailable = "unavailable" "a backend is away; asked again",
        NoAnswer = "no_answer" "the connection gave nothing; asked again",
        Odd = "odd" "nothing that the interface knows",
    }
}

names! {
    /// What became of orders.
    Ending {
        Paid = "paid" "yes: paid, and confirmed",
        TooLate = "too_late" "no: the hold was over",
        Cancelled = "cancelled" "no: given back by the buyer",
        Never = "never" "no: not paid, to expire by itself",
    }
}

names! {
    /// What an answer means for the next step.
    Kind {
        Yes = "yes" "granted",
        No = "no" "refused",
        Later = "later" "ask again",
    }
}

/// All of it. Buyers write at the same time; what is written is short.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Heard>);

/// What was heard until now.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Buyers who came.
    pub(super) came: u64,
    /// Buyers who did not come, because as many as may be were there already.
    pub(super) away: u64,
    /// Requests to the public API, and those that no answer came to, or none that the interface has for them.
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) answers: BTreeMap<Outcome, u64>,
    pub(super) endings: BTreeMap<Ending, u64>,
    /// How long claims took to be granted or refused, from when the *claim* was due, whatever was asked in between; and requests
    /// that heard to ask again, from when each was due.
    pub(super) times: BTreeMap<Kind, Times>,
    /// The same over the time of the crowd.
    pub(super) slices: Vec<Slice>,
    /// Claims that were granted.
    pub(super) accepted: u64,
    /// Every order that a buyer heard yes for; `true`: and its payment was confirmed. The end takes them to compare them.
    pub(super) orders: HashMap<OrderId, bool>,
    /// Units promised, by place.
    pub(super) promised: Units,
    /// Claims and payments whose outcome is not known.
    pub(super) pending: u64,
    /// Claims and payments that heard nothing but to ask again, or reached nobody, until patience ended, and of which nothing was done.
    pub(super) unserved: u64,
    /// Answers that the interface does not know, or that contradict earlier ones.
    pub(super) odd: u64,
    pub(super) odd_said: Vec<String>,
}

/// How long things took, in microseconds.
#[derive(Debug, Clone)]
pub(super) struct Times(Histogram<u64>);

/// A part of the time of the crowd.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    pub(super) answers: BTreeMap<Kind, u64>,
    pub(super) times: Times,
}

impl Ledger {
    pub(super) fn open(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    /// An answer to a claim.
    pub(super) fn answer(&mut self, (outcome, kind): (Outcome, Kind), took: Duration, progress: Option<f64>) {
        *self.answers.entry(outcome).or_default() += 1;
        self.time(kind, took, progress);
    }

    /// What a claim took. `progress`: how much of the crowd's time was over, from 0 to 1; none for who is not of the crowd.
    pub(super) fn time(&mut self, kind: Kind, took: Duration, progress: Option<f64>) {
        self.times.entry(kind).or_insert_with(Times::finely).add(took);
        let Some(progress) = progress else { return };
        if self.slices.is_empty() {
            self.slices = vec![Slice { answers: BTreeMap::new(), times: Times::coarsely() }; SLICES];
        }
        let slice = &mut self.slices[slice_of(progress)];
        *slice.answers.entry(kind).or_default() += 1;
        slice.times.add(took);
    }

    pub(super) fn ended(&mut self, ending: Ending) {
        *self.endings.entry(ending).or_default() += 1;
    }

    /// A yes: this order, which takes these units.
    pub(super) fn accept(&mut self, order: OrderId, units: &Units) {
        if self.orders.contains_key(&order) {
            // It is one order all the same, and takes its units once.
            return self.contradict(format!("{order} was granted to two requests"));
        }
        self.accepted += 1;
        self.orders.insert(order, false);
        for (place, units) in units {
            *self.promised.entry(place.clone()).or_default() += units;
        }
    }

    /// Something that cannot be.
    pub(super) fn contradict(&mut self, what: String) {
        self.odd += 1;
        if self.odd_said.len() < TOLD {
            self.odd_said.push(what);
        }
    }

    pub(super) fn answered(&self, kind: Kind) -> u64 {
        self.times.get(&kind).map_or(0, Times::count)
    }
}

fn slice_of(progress: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1")]
    let slice = (progress.clamp(0.0, 1.0) * 40.0) as usize;
    slice.min(SLICES - 1)
}

impl Times {
    fn finely() -> Self {
        Self::of(3)
    }

    /// For many of them.
    fn coarsely() -> Self {
        Self::of(2)
    }

    fn of(digits: u8) -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, digits).expect("these bounds are right"))
    }

    fn add(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LONGEST).max(1));
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Milliseconds within which this part of them, from 0 to 1, was answered.
    pub(super) fn quantile(&self, part: f64) -> f64 {
        milliseconds(self.0.value_at_quantile(part))
    }

    pub(super) fn max(&self) -> f64 {
        milliseconds(self.0.max())
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of minutes are far below 2^52")]
fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slice_ends_with_the_crowd_s_time() {
        assert_eq!([0.0, 0.024, 0.026, 0.999, 1.0, 7.0].map(slice_of), [0, 0, 1, 39, 39, 39]);
    }

    #[test]
    fn quantiles_are_of_all_answers_of_a_kind_and_nothing_is_longer_than_the_longest() {
        let mut heard = Heard::default();
        for millis in 1..=1000 {
            heard.answer((Outcome::Held, Kind::Yes), Duration::from_millis(millis), Some(0.5));
        }
        heard.answer((Outcome::SoldOut, Kind::No), Duration::from_secs(10_000), None);
        let times = &heard.times[&Kind::Yes];
        assert!((times.quantile(0.99) - 990.0).abs() < 1.0, "{}", times.quantile(0.99));
        assert!((3_599_000.0..3_602_000.0).contains(&heard.times[&Kind::No].max()));
        assert_eq!((heard.answered(Kind::Yes), heard.answered(Kind::Later)), (1000, 0));
        assert_eq!(heard.slices[20].answers, BTreeMap::from([(Kind::Yes, 1000)]));
    }

    #[test]
    fn an_order_that_two_requests_were_granted_is_a_contradiction() {
        let mut heard = Heard::default();
        let (order, units) = ("0".repeat(32).parse().unwrap(), Units::from([("standard/0".to_owned(), 2)]));
        heard.accept(order, &units);
        assert_eq!(heard.odd, 0);
        heard.accept(order, &units);
        assert_eq!((heard.odd, heard.accepted, heard.promised["standard/0"]), (1, 1, 2));
    }
}
