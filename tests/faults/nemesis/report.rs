//! What a run of the nemesis tells: what was done, what buyers heard, and for how long they were left without an answer.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::checker::Invariant;
use crate::log::{Act, Entry, Kind};
use crate::nemesis::vitals::Vitals;
use crate::run::Outcome;

/// A fault while it lasted, in microseconds of the client log.
#[derive(Debug, Clone)]
pub(crate) struct Injected {
    pub(crate) kind: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

pub(crate) struct Report<'a> {
    pub(crate) seed: u64,
    pub(crate) injected: &'a [Injected],
    pub(crate) outcome: &'a Outcome,
    pub(crate) before: &'a Vitals,
    pub(crate) after: &'a Vitals,
}

impl Report<'_> {
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let log = &self.outcome.log;
        let mut line = |words: String| {
            let _ = writeln!(text, "{words}");
        };
        line(format!("nemesis, seed {}", self.seed));
        line(format!("  faults injected: {}", self.injected.len()));
        for (kind, (count, longest)) in self.by_kind() {
            line(format!("    {count:3} × {kind}; a buyer waited {:.1} s at most", longest.as_secs_f64()));
        }
        line(format!("  orders placed: {}", self.outcome.found.orders.len()));
        line("  answers:".to_owned());
        for ((act, kind, said), count) in answers(log) {
            line(format!("    {count:6} × {act:?} {kind:?} {said}"));
        }
        let (unknown, resolved) = unknowns(log);
        line(format!("  unknowns resolved: {resolved} of {unknown}"));
        line(format!("  epochs: {}", self.outcome.found.epoch));
        line(format!("  invariants checked: {:?}, violations: {}", Invariant::ALL, self.outcome.violations.len()));
        line(format!("  before: {}\n  after:  {}", self.before, self.after));
        text
    }

    /// How often each kind came, and the longest that a claim which it overlapped was without a definite answer.
    fn by_kind(&self) -> BTreeMap<&str, (usize, Duration)> {
        let waits = waits(&self.outcome.log);
        let mut kinds: BTreeMap<&str, (usize, Duration)> = BTreeMap::new();
        for injected in self.injected {
            let overlapping = waits.iter().filter(|(from, to)| *from <= injected.to && *to >= injected.from);
            let longest = overlapping.map(|(from, to)| to - from).max().unwrap_or(0);
            let (count, so_far) = kinds.entry(&injected.kind).or_default();
            *count += 1;
            *so_far = (*so_far).max(Duration::from_micros(longest));
        }
        kinds
    }
}

/// From the first time that each claim was asked to its first answer that was one, or to the last that it heard.
fn waits(log: &[Entry]) -> Vec<(u64, u64)> {
    let mut claims: BTreeMap<_, (u64, u64, bool)> = BTreeMap::new();
    for entry in log.iter().filter(|entry| entry.act == Act::Claim) {
        let (_, last, known) = claims.entry(entry.claim()).or_insert((entry.at, entry.at, false));
        if !*known {
            *last = entry.at;
        }
        *known |= entry.kind == Kind::Ok || (entry.kind == Kind::No && entry.status != Some(503));
    }
    claims.into_values().map(|(from, to, _)| (from, to)).collect()
}

/// The longest that anybody was without a definite answer to a claim.
pub(crate) fn longest_wait(log: &[Entry]) -> Duration {
    Duration::from_micros(waits(log).into_iter().map(|(from, to)| to - from).max().unwrap_or(0))
}

fn answers(log: &[Entry]) -> BTreeMap<(Act, Kind, String), usize> {
    let mut answers = BTreeMap::new();
    for entry in log.iter().filter(|entry| entry.kind != Kind::Invoke) {
        let said = match (entry.status, &entry.code) {
            (Some(status), Some(code)) => format!("{status} {code}"),
            (Some(status), None) => status.to_string(),
            (None, _) => "no answer".to_owned(),
        };
        *answers.entry((entry.act, entry.kind, said)).or_default() += 1;
    }
    answers
}

/// Claims, payments and cancellations that were unknown at some time, and how many of them were known in the end.
pub(crate) fn unknowns(log: &[Entry]) -> (usize, usize) {
    let mut subjects: BTreeMap<_, (bool, bool)> = BTreeMap::new();
    for entry in log.iter().filter(|entry| entry.act != Act::Read && entry.kind != Kind::Invoke) {
        let (unknown, known) = subjects.entry((entry.act, entry.claim())).or_default();
        *unknown |= entry.kind == Kind::Unknown;
        *known |= entry.kind == Kind::Ok || (entry.kind == Kind::No && entry.status != Some(503));
    }
    let unknown = subjects.values().filter(|(unknown, _)| *unknown);
    (unknown.clone().count(), unknown.filter(|(_, known)| *known).count())
}
