//! Answers by kind, and how long they took.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::load::connection::Answer;

/// The longest that is told apart, in microseconds.
const LONGEST: u64 = 60_000_000;

/// What one connection, or all of them, heard.
pub(super) struct Tally {
    pub(super) seconds: f64,
    outcomes: Vec<(u16, String, u64)>,
    errors: BTreeMap<String, u64>,
    accepted: Histogram<u64>,
    refused: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 3).expect("these bounds are right");
        Self {
            seconds: 0.0,
            outcomes: Vec::new(),
            errors: BTreeMap::new(),
            accepted: histogram(),
            refused: histogram(),
        }
    }
}

/// A tally as the benchmark reads it. Latencies are in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) seconds: f64,
    pub(crate) answers: u64,
    /// By status, and code if it is a refusal: `201`, `409 sold_out`.
    pub(crate) outcomes: BTreeMap<String, u64>,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) accepted: Latency,
    pub(crate) refused: Latency,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Tally {
    pub(super) fn count(&mut self, answer: &Answer<'_>, took: Duration) {
        let known = self.outcomes.iter_mut().find(|(status, code, _)| *status == answer.status && code == answer.code);
        match known {
            Some((_, _, count)) => *count += 1,
            None => self.outcomes.push((answer.status, answer.code.to_owned(), 1)),
        }
        let histogram = if answer.status < 300 { &mut self.accepted } else { &mut self.refused };
        histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LONGEST).max(1));
    }

    pub(super) fn fail(&mut self, error: &io::Error) {
        *self.errors.entry(error.to_string()).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.seconds = self.seconds.max(other.seconds);
        for (status, code, count) in &other.outcomes {
            match self.outcomes.iter_mut().find(|(s, c, _)| s == status && c == code) {
                Some((_, _, sum)) => *sum += count,
                None => self.outcomes.push((*status, code.clone(), *count)),
            }
        }
        for (error, count) in &other.errors {
            *self.errors.entry(error.clone()).or_default() += count;
        }
        self.accepted.add(&other.accepted).expect("the same bounds");
        self.refused.add(&other.refused).expect("the same bounds");
    }

    pub(super) fn report(&self) -> Report {
        let name = |status: &u16, code: &str| format!("{status} {code}").trim_end().to_owned();
        Report {
            seconds: self.seconds,
            answers: self.outcomes.iter().map(|(_, _, count)| count).sum(),
            outcomes: self.outcomes.iter().map(|(status, code, count)| (name(status, code), *count)).collect(),
            errors: self.errors.clone(),
            accepted: latency(&self.accepted),
            refused: latency(&self.refused),
        }
    }
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    let at = |quantile| milliseconds(histogram.value_at_quantile(quantile));
    Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: milliseconds(histogram.max()) }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of minutes are far below 2^52")]
fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

impl Report {
    pub(crate) fn outcome(&self, name: &str) -> u64 {
        self.outcomes.get(name).copied().unwrap_or_default()
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of seconds is far below 2^52")]
    pub(crate) fn per_second(&self) -> f64 {
        self.answers as f64 / self.seconds
    }
}
