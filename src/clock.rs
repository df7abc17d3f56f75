//! The one reading of the time. Whoever needs an instant is given a [`Clock`], so that a test can own it.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::domain::UnixMillis;

/// An answer that took longer says too little about when it was true.
const WORTH_HEARING: Duration = Duration::from_secs(1);

/// Tells the time of day.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    fn now(&self) -> UnixMillis;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the place that reads the system's clock")]
    fn now(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that others share, such as a database server's: what it said last, and the time since then by a clock that nobody sets. So
/// the machine's own may be wrong, or jump. Until the other has said anything it is the operating system's.
#[derive(Debug)]
pub struct FollowedClock {
    began: Instant,
    /// What the other's clock stood at when this one began, in Unix microseconds.
    at_beginning: AtomicI64,
}

/// The other has said nothing yet.
const UNHEARD: i64 = i64::MIN;

impl FollowedClock {
    /// Takes note of what it said to a question that was asked then and is answered now; it was true half-way between.
    pub fn hear(&self, said: UnixMillis, asked: Instant) {
        let took = asked.elapsed();
        if took <= WORTH_HEARING {
            let at_beginning = said.0.saturating_mul(1000).saturating_sub(self.micros_until(asked + took / 2));
            self.at_beginning.store(at_beginning, Ordering::Relaxed);
        }
    }

    fn micros_until(&self, at: Instant) -> i64 {
        i64::try_from(at.saturating_duration_since(self.began).as_micros()).unwrap_or(i64::MAX)
    }
}

impl Default for FollowedClock {
    fn default() -> Self {
        Self { began: Instant::now(), at_beginning: AtomicI64::new(UNHEARD) }
    }
}

impl Clock for FollowedClock {
    fn now(&self) -> UnixMillis {
        match self.at_beginning.load(Ordering::Relaxed) {
            UNHEARD => SystemClock.now(),
            at_beginning => UnixMillis(at_beginning.saturating_add(self.micros_until(Instant::now())) / 1000),
        }
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn at(now: UnixMillis) -> Self {
        Self(AtomicI64::new(now.0))
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_followed_clock_goes_on_from_what_it_heard() {
        let clock = FollowedClock::default();
        let (before, unheard, after) = (SystemClock.now(), clock.now(), SystemClock.now());
        assert!(before <= unheard && unheard <= after, "nothing was heard yet");
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(200)).await;
        clock.hear(UnixMillis(5000), asked);
        assert_eq!(clock.now(), UnixMillis(5100), "it was true half-way");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(clock.now(), UnixMillis(8100));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_took_long_is_not_taken_for_the_time() {
        let clock = FollowedClock::default();
        clock.hear(UnixMillis(5000), Instant::now());
        let asked = Instant::now();
        tokio::time::advance(Duration::from_secs(2)).await;
        clock.hear(UnixMillis(1_000_000), asked);
        assert_eq!(clock.now(), UnixMillis(7000));
    }
}
