//! How often a key may come, for any number of keys, in a table of one size.
//!
//! The generic cell rate algorithm keeps one instant per key: when the next cell would arrive if they came evenly. Here it shares a
//! word with a part of the key's hash, and eight words share a cache line, which is all that a key is looked for in. So a count is one
//! line of memory and one exchange, and nothing grows with the crowd. Two things follow:
//!
//! - Where more than eight keys of a line came within the last second, the one that has the most left is forgotten, and may come again as if
//!   it never had: a flood of keys makes the limit softer, never harder.
//! - Two keys count as one if 24 bits of their hashes are the same beside those of their line; the hashes are seeded, so nobody can aim
//!   for that.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::live::Live;

/// Lines: at 64 bytes each a megabyte, for 131,072 keys within a second.
const LINES: usize = 16_384;
const WAYS: usize = 8;
/// The lower part of a word is an instant in microseconds, the upper one the mark of its key. Instants wrap within two weeks; one
/// that lies further ahead than a burst takes is a leftover, and counts as none.
const TIME_BITS: u32 = 40;
const TIME: u64 = (1 << TIME_BITS) - 1;
/// A whole burst takes a second.
const BURST: u64 = 1_000_000;
/// Others may change the line meanwhile; who loses so often is let through.
const TRIES: usize = 8;

/// Lets every key come so often in a second: at once, or evenly. How often may change: what was counted stays, and lies at most a second
/// ahead.
pub(super) struct Limiter {
    /// 0: there is no limit.
    per_second: Live<u32>,
    /// Not there before there was a limit.
    lines: OnceLock<Box<Lines>>,
    began: Instant,
}

type Lines = [Line];

/// Begins where a line of the cache does.
#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU64; WAYS]);

impl Limiter {
    pub(super) fn new(per_second: impl Into<Live<u32>>) -> Self {
        Self { per_second: per_second.into(), lines: OnceLock::new(), began: Instant::now() }
    }

    /// Is there no limit at this moment?
    pub(super) fn is_off(&self) -> bool {
        self.per_second.get() == 0
    }

    /// Counts one of this key, by its hash, or says how long to wait for the next.
    pub(super) fn count(&self, hash: u64, now: Instant) -> Result<(), Duration> {
        // Microseconds from one to the next.
        let Some(interval) = BURST.checked_div(self.per_second.get().into()) else { return Ok(()) };
        let interval = interval.max(1);
        let lines = self.lines.get_or_init(|| (0..LINES).map(|_| Line::default()).collect());
        let micros = u64::try_from(now.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX);
        // Zero stands for nothing.
        let mark = (hash >> TIME_BITS).max(1) << TIME_BITS;
        #[expect(clippy::cast_possible_truncation, reason = "the lower bits are all that is wanted")]
        let Line(line) = &lines[hash as usize % LINES];
        for _ in 0..TRIES {
            let (word, before) = find(line, mark, micros);
            let ahead = if before & !TIME == mark { ahead(before, micros) } else { 0 };
            if ahead + interval > BURST {
                return Err(Duration::from_micros(ahead + interval - BURST));
            }
            let after = mark | ((micros + ahead + interval) & TIME);
            if word.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The word of this key, or the one that is missed least, with its value.
fn find(line: &[AtomicU64; WAYS], mark: u64, micros: u64) -> (&AtomicU64, u64) {
    let mut least = (&line[0], 0, u64::MAX);
    for word in line {
        let value = word.load(Ordering::Relaxed);
        if value & !TIME == mark {
            return (word, value);
        }
        let ahead = ahead(value, micros);
        if ahead < least.2 {
            least = (word, value, ahead);
        }
    }
    (least.0, least.1)
}

/// How far the instant of a word lies ahead; zero if it is over.
fn ahead(value: u64, micros: u64) -> u64 {
    let ahead = value.wrapping_sub(micros) & TIME;
    if ahead <= BURST { ahead } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many of a key are taken, one every so often.
    fn taken(limiter: &Limiter, hash: u64, times: u32, every: Duration) -> usize {
        let at = |number| limiter.began + every * number;
        (0..times).filter(|number| limiter.count(hash, at(*number)).is_ok()).count()
    }

    #[test]
    fn the_table_is_a_megabyte() {
        assert_eq!(size_of::<Line>() * LINES, 1 << 20);
    }

    #[test]
    fn a_key_may_come_so_often_at_once_and_then_evenly() {
        let limiter = Limiter::new(4);
        assert_eq!(taken(&limiter, 7, 10, Duration::ZERO), 4);
        assert_eq!(limiter.count(7, limiter.began), Err(Duration::from_millis(250)));
        let later = limiter.began + Duration::from_millis(250);
        assert_eq!(limiter.count(7, later), Ok(()));
        assert_eq!(limiter.count(7, later), Err(Duration::from_millis(250)));
        assert_eq!(taken(&Limiter::new(4), 7, 40, Duration::from_millis(250)), 40);
    }

    #[test]
    fn a_key_that_rested_has_all_of_its_burst_again_and_no_more() {
        let limiter = Limiter::new(4);
        taken(&limiter, 7, 4, Duration::ZERO);
        for rest in [Duration::from_secs(1), Duration::from_secs(3600), Duration::from_secs(40 * 24 * 3600)] {
            let again = limiter.began + rest;
            assert_eq!((0..10).filter(|_| limiter.count(7, again).is_ok()).count(), 4, "after {rest:?}");
        }
    }

    #[test]
    fn keys_are_counted_apart_also_where_they_share_a_line() {
        let limiter = Limiter::new(1);
        for key in 1..=8_u64 {
            assert_eq!(taken(&limiter, key << TIME_BITS, 3, Duration::ZERO), 1, "{key}");
        }
    }

    #[test]
    fn a_flood_of_keys_refuses_nobody() {
        let limiter = Limiter::new(1);
        for key in 1..1_000_u64 {
            assert_eq!(limiter.count(key << TIME_BITS, limiter.began), Ok(()), "{key}");
        }
    }

    #[test]
    fn a_changed_rate_counts_from_the_next_one_on() {
        let per_second = Live::new(1);
        let limiter = Limiter::new(per_second.clone());
        assert_eq!(taken(&limiter, 7, 10, Duration::ZERO), 1);
        per_second.set(4);
        assert_eq!(limiter.count(7, limiter.began), Err(Duration::from_millis(250)), "the second is used up");
        assert_eq!(taken(&limiter, 8, 10, Duration::ZERO), 4);
        let later = limiter.began + Duration::from_secs(1);
        per_second.set(2);
        assert_eq!((0..10).filter(|_| limiter.count(7, later).is_ok()).count(), 2);
        per_second.set(0);
        assert!(limiter.is_off());
        assert_eq!(taken(&limiter, 7, 1000, Duration::ZERO), 1000);
    }

    proptest! {
        /// Against the algorithm with one exact instant.
        #[test]
        fn it_counts_like_the_algorithm(per_second in 1_u32..200, gaps in prop::collection::vec(0_u64..400_000, 1..100)) {
            let limiter = Limiter::new(per_second);
            let (mut now, mut arrival) = (0_u64, 0_u64);
            for gap in gaps {
                now += gap;
                let next = arrival.max(now) + (BURST / u64::from(per_second)).max(1);
                let expected = next - now <= BURST;
                if expected {
                    arrival = next;
                }
                prop_assert_eq!(limiter.count(7, limiter.began + Duration::from_micros(now)).is_ok(), expected);
            }
        }
    }
}
