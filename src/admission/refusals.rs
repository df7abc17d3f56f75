//! What this node told whom lately: the last refusals, for the support desk's question why.
//!
//! A table of one size, each buyer of a sale with one place in it, where whoever comes later to the same place takes it. Nobody waits for
//! anybody: a refusal costs one store, to a place that hardly two of a crowd share. Neither sale nor buyer is kept, only a number that
//! nobody can make without this process's key; 40 bits of it tell one buyer from another.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::time::Instant;

use crate::atomic::{AtomicU64, Ordering};

/// Places in the table: half a megabyte.
const PLACES: usize = 65_536;
const CODE_BITS: u32 = 8;
const TIME_BITS: u32 = 32;
const MARK_BITS: u32 = 64 - TIME_BITS - CODE_BITS;
/// The unit of a time in the table, in milliseconds: what there is room for lasts 13 years.
const TICK: u64 = 100;

/// The table. Cheap to clone.
#[derive(Clone)]
pub struct Refusals(Arc<Inner>);

struct Inner {
    key: RandomState,
    begun: Instant,
    codes: &'static [&'static str],
    places: Box<[Place]>,
}

/// In one word, so that it is of one buyer: the upper bits of the mark, then ticks since the table began, then the code's number plus
/// one. 0: nothing.
type Place = AtomicU64;

/// A buyer of a sale, as the table knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

/// One refusal that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    pub code: &'static str,
    /// To the nearest tenth of a second.
    pub ago: Duration,
}

/// How much the table knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub places: usize,
    pub taken: usize,
    /// Since it began; nothing is known of before.
    pub age: Duration,
    /// The age of the oldest refusal that is remembered, and of the one in the middle; `None` if there is none.
    pub oldest: Option<Duration>,
    pub median: Option<Duration>,
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusals")
    }
}

impl Refusals {
    /// `codes` are all that can be noted, by their numbers.
    pub fn new(codes: &'static [&'static str]) -> Self {
        let places = (0..PLACES).map(|_| Place::default()).collect();
        Self(Arc::new(Inner { key: RandomState::default(), begun: Instant::now(), codes, places }))
    }

    /// Where a buyer of a sale is noted.
    pub fn mark(&self, sale: &str, buyer: &str) -> Mark {
        Mark(self.0.key.hash_one((sale, buyer)))
    }

    /// Notes a refusal: the number of its code, and when the claim came.
    pub fn note(&self, of: Mark, code: u8, at: Instant) {
        let millis = u64::try_from(at.saturating_duration_since(self.0.begun).as_millis()).unwrap_or(u64::MAX);
        let ticks = (millis.saturating_add(TICK / 2) / TICK).min(u32::MAX.into());
        let word = upper(of.0) | ticks << CODE_BITS | (u64::from(code) + 1);
        self.place(of).store(word, Ordering::Relaxed);
    }

    /// The last refusal of this buyer, if nobody has taken its place since.
    pub fn last(&self, of: Mark, now: Instant) -> Option<Remembered> {
        let word = self.place(of).load(Ordering::Relaxed);
        if upper(word) != upper(of.0) {
            return None;
        }
        let code = usize::try_from((word & 0xff).checked_sub(1)?).ok()?;
        Some(Remembered { code: self.0.codes.get(code)?, ago: self.ago(ticks(word), now) })
    }

    /// Looks through the whole table.
    pub fn memory(&self, now: Instant) -> Memory {
        let words = self.0.places.iter().map(|place| place.load(Ordering::Relaxed)).filter(|word| *word > 0);
        // Whoever asks shares a thread with claims, so nothing is sorted.
        let mut times: Vec<_> = words.map(ticks).collect();
        let (taken, oldest) = (times.len(), times.iter().min().copied());
        let median = (taken > 0).then(|| *times.select_nth_unstable((taken - 1) / 2).1);
        Memory {
            places: PLACES,
            taken,
            age: now.saturating_duration_since(self.0.begun),
            oldest: oldest.map(|ticks| self.ago(ticks, now)),
            median: median.map(|ticks| self.ago(ticks, now)),
        }
    }

    fn ago(&self, ticks: u64, now: Instant) -> Duration {
        now.saturating_duration_since(self.0.begun).saturating_sub(Duration::from_millis(ticks * TICK))
    }

    #[expect(clippy::cast_possible_truncation, reason = "only the last bits are wanted")]
    fn place(&self, of: Mark) -> &Place {
        &self.0.places[of.0 as usize % PLACES]
    }
}

/// The bits that a place and a mark have in common.
fn upper(number: u64) -> u64 {
    number >> (64 - MARK_BITS) << (64 - MARK_BITS)
}

fn ticks(word: u64) -> u64 {
    word >> CODE_BITS & u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: &[&str] = &["sold_out", "closed"];

    #[test]
    fn the_last_refusal_of_a_buyer_is_remembered_with_its_age() {
        let refusals = Refusals::new(CODES);
        let begun = refusals.0.begun;
        let at = |seconds| begun + Duration::from_secs(seconds);
        let (ann, other) = (refusals.mark("s", "ann"), refusals.mark("t", "ann"));
        assert_eq!(refusals.last(ann, at(9)), None);
        refusals.note(ann, 0, at(1));
        refusals.note(ann, 1, at(3));
        assert_eq!(refusals.last(ann, at(9)), Some(Remembered { code: "closed", ago: Duration::from_secs(6) }));
        assert_eq!(refusals.last(other, at(9)), None, "that is another sale");
        assert_ne!(refusals.mark("sa", "nn"), refusals.mark("s", "ann"));
    }

    #[test]
    fn whoever_comes_later_to_the_same_place_takes_it() {
        let refusals = Refusals::new(CODES);
        let (one, other) = (Mark(7), Mark(7 + (1 << 63)));
        refusals.note(one, 0, refusals.0.begun);
        assert_eq!(refusals.last(other, refusals.0.begun), None);
        refusals.note(other, 1, refusals.0.begun);
        assert_eq!(refusals.last(one, refusals.0.begun), None);
        assert_eq!(refusals.last(other, refusals.0.begun).map(|last| last.code), Some("closed"));
    }

    #[test]
    fn a_table_that_is_older_than_its_times_go_still_knows_its_buyers() {
        let refusals = Refusals::new(CODES);
        let (longest, now) =
            (Duration::from_millis(u64::from(u32::MAX) * TICK), Duration::from_secs(20 * 366 * 24 * 3600));
        let now = refusals.0.begun + now;
        refusals.note(Mark(7), 0, now);
        let ago = (now - refusals.0.begun).saturating_sub(longest);
        assert_eq!(refusals.last(Mark(7), now), Some(Remembered { code: "sold_out", ago }));
        assert_eq!(refusals.last(Mark(7 + (1 << 63)), now), None);
    }

    #[test]
    fn a_time_is_kept_to_the_nearest_tenth_of_a_second() {
        let refusals = Refusals::new(CODES);
        let at = |millis| refusals.0.begun + Duration::from_millis(millis);
        for (came, kept) in [(1_000, 1_000), (1_049, 1_000), (1_050, 1_100), (1_099, 1_100)] {
            refusals.note(Mark(7), 0, at(came));
            let ago = refusals.last(Mark(7), at(9_000)).map(|last| last.ago);
            assert_eq!(ago, Some(Duration::from_millis(9_000 - kept)), "{came}");
        }
    }

    #[test]
    fn it_tells_how_far_back_it_goes() {
        let refusals = Refusals::new(CODES);
        let at = |seconds| refusals.0.begun + Duration::from_secs(seconds);
        let nothing = refusals.memory(at(10));
        assert_eq!((nothing.taken, nothing.oldest, nothing.age), (0, None, Duration::from_secs(10)));
        for second in 0..5 {
            refusals.note(Mark(second), 0, at(second));
        }
        let memory = refusals.memory(at(10));
        assert_eq!((memory.places, memory.taken), (65_536, 5));
        assert_eq!((memory.oldest, memory.median), (Some(Duration::from_secs(10)), Some(Duration::from_secs(8))));
    }
}
