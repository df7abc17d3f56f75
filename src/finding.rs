//! What a look at a deployment found: one thing that was checked, how it stands, why that matters, and what mends it.
//!
//! The looks themselves lie beside what they look at; `rushgate doctor` puts them together.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;

use crate::clock::{Clock, SystemClock};
use crate::domain::UnixMillis;

/// Clocks of two machines that are synchronised are closer than this by far.
const MAX_SKEW: i64 = 1000;

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// It cannot be known from here; `found` says why.
    Unknown,
    /// It sells, and there is a risk that somebody should have chosen.
    Warning,
    /// It does not sell, or breaks a promise.
    Wrong,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Of what, such as `redis`.
    pub part: &'static str,
    pub check: &'static str,
    pub state: State,
    pub found: String,
    /// Why it matters; empty if all is well.
    pub why: String,
    /// The command or the setting that mends it; empty if all is well.
    pub mend: String,
}

/// Collects what is found of one part. A clone collects into the same list, so what was found is kept by whoever ends a look.
#[derive(Debug, Clone)]
pub struct Findings {
    part: &'static str,
    list: Arc<Mutex<Vec<Finding>>>,
}

/// Why something matters, and what mends it.
#[derive(Debug, Clone)]
pub struct Remedy(pub String, pub String);

/// A remedy of two texts.
pub fn remedy(why: impl Into<String>, mend: impl Into<String>) -> Remedy {
    Remedy(why.into(), mend.into())
}

impl Findings {
    pub fn of(part: &'static str) -> Self {
        Self { part, list: Arc::default() }
    }

    pub fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(check, State::Ok, found.into(), remedy("", ""));
    }

    /// `why` it cannot be known stands where others tell what was found.
    pub fn unknown(&mut self, check: &'static str, why: impl Into<String>) {
        self.add(check, State::Unknown, why.into(), remedy("", ""));
    }

    pub fn warn(&mut self, check: &'static str, found: impl Into<String>, remedy: Remedy) {
        self.add(check, State::Warning, found.into(), remedy);
    }

    pub fn wrong(&mut self, check: &'static str, found: impl Into<String>, remedy: Remedy) {
        self.add(check, State::Wrong, found.into(), remedy);
    }

    /// How far another clock is from this machine's. `said`: what it told, asked for after `before`.
    pub fn clock(&mut self, check: &'static str, said: UnixMillis, before: UnixMillis) {
        let after = SystemClock.now();
        let skew = said.0 - i64::midpoint(before.0, after.0);
        // It was asked at some instant in between.
        let least = skew.abs() - (after.0 - before.0) / 2;
        let direction = if skew < 0 { "behind" } else { "ahead of" };
        let amount = humantime::format_duration(Duration::from_millis(skew.unsigned_abs()));
        let found =
            if skew == 0 { "as this machine's".to_owned() } else { format!("{amount} {direction} this machine's") };
        if least <= MAX_SKEW {
            self.ok(check, found);
        } else {
            let why = "orders are due by the store's clock, tokens and payment signatures are judged by a gateway's, \
                       and log lines \
                       of two machines do not fit together";
            self.warn(
                check,
                found,
                remedy(why, "run chrony or systemd-timesyncd on both machines; timedatectl status"),
            );
        }
    }

    /// A server that has answered so far has kept the next answer to itself.
    pub fn stopped(&mut self, patience: Duration) {
        let why = "whoever buys waits as long, and what is left to look at is not known";
        let mend = "look at its load, its disk and its log, and ask again";
        self.wrong("answers", format!("it stopped answering: nothing within {patience:?}"), remedy(why, mend));
    }

    pub fn done(self) -> Vec<Finding> {
        std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&mut self, check: &'static str, state: State, found: String, Remedy(why, mend): Remedy) {
        let finding = Finding { part: self.part, check, state, found, why, mend };
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
    }
}

/// Ends a look at the first answer that does not come: a connection that keeps one to itself gives no later one either, and each would be
/// waited for.
#[derive(Debug, Clone, Default)]
pub struct Silence(Arc<Notify>);

impl Silence {
    /// For whoever has waited long enough: goes no further.
    pub async fn end<T>(&self) -> T {
        self.0.notify_one();
        std::future::pending().await
    }

    /// Returns whether the look came to its own end.
    pub async fn bounds(&self, look: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = look => true,
            () = self.0.notified() => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_a_minute_off_is_told_and_one_that_answers_slowly_is_not() {
        let mut findings = Findings::of("redis");
        let now = SystemClock.now();
        findings.clock("clock", UnixMillis(now.0 - 60_000), now);
        // It took a minute to answer, so it may have been right at any instant of that minute.
        findings.clock("clock", UnixMillis(now.0 - 60_000), UnixMillis(now.0 - 60_000));
        let found = findings.done();
        assert_eq!((found[0].state, found[1].state), (State::Warning, State::Ok));
        assert!(found[0].found.contains("1m behind") || found[0].found.contains("59s"), "{}", found[0].found);
    }
}
