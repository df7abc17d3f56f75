//! What is counted about claims. Handles are made when a sale or an outcome is first seen, and held.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::domain::SaleId;
use crate::http::problem::Code;
use crate::meters::{Counter, Histogram, Meters};

/// How a claim ended, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Held,
    Replayed,
    Pending,
    Problem(Code),
}

/// The meters of claims.
pub(super) struct ClaimMeters {
    meters: Meters,
    durations: [OnceLock<Histogram>; Outcome::COUNT],
    /// Only sales that this node knows: nobody can grow this from outside.
    sales: ArcSwap<HashMap<SaleId, Arc<SaleCounters>, foldhash::fast::RandomState>>,
    /// For claims on sales that this node does not know.
    others: SaleCounters,
}

/// One counter per outcome.
struct SaleCounters([OnceLock<Counter>; Outcome::COUNT]);

impl fmt::Debug for ClaimMeters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimMeters")
    }
}

impl Outcome {
    const COUNT: usize = 3 + Code::ALL.len();

    fn label(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Replayed => "replayed",
            Self::Pending => "pending",
            Self::Problem(code) => code.as_str(),
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Held => 0,
            Self::Replayed => 1,
            Self::Pending => 2,
            Self::Problem(code) => 3 + code as usize,
        }
    }
}

impl Default for SaleCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| OnceLock::new()))
    }
}

impl ClaimMeters {
    pub(super) fn new(meters: &Meters) -> Self {
        Self {
            meters: meters.clone(),
            durations: std::array::from_fn(|_| OnceLock::new()),
            sales: ArcSwap::default(),
            others: SaleCounters::default(),
        }
    }

    /// Counts a claim. `known` is the sale, if this node knows it; asked only where none was counted before.
    pub(super) fn count(&self, sale: &str, known: impl FnOnce() -> Option<SaleId>, outcome: Outcome, took: Duration) {
        match self.sales.load().get(sale) {
            Some(counters) => counters.count(&self.meters, sale, outcome),
            None => match known() {
                Some(sale) => self.meet(&sale).count(&self.meters, sale.as_str(), outcome),
                None => self.others.count(&self.meters, "", outcome),
            },
        }
        let duration = self.durations[outcome.index()]
            .get_or_init(|| self.meters.histogram("rushgate_claim_duration_seconds", &[("outcome", outcome.label())]));
        duration.record(took);
    }

    fn meet(&self, sale: &SaleId) -> Arc<SaleCounters> {
        self.sales.rcu(|sales| {
            let mut sales = HashMap::clone(sales);
            sales.entry(sale.clone()).or_default();
            sales
        });
        self.sales.load().get(sale).map(Arc::clone).unwrap_or_default()
    }
}

impl SaleCounters {
    fn count(&self, meters: &Meters, sale: &str, outcome: Outcome) {
        let labels = [("sale", sale), ("outcome", outcome.label())];
        self.0[outcome.index()].get_or_init(|| meters.counter("rushgate_claims_total", &labels)).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_place_and_name() {
        let problems = Code::ALL.into_iter().map(Outcome::Problem);
        let outcomes: Vec<_> =
            [Outcome::Held, Outcome::Replayed, Outcome::Pending].into_iter().chain(problems).collect();
        let indices: Vec<_> = outcomes.iter().map(|outcome| outcome.index()).collect();
        assert_eq!(indices, (0..Outcome::COUNT).collect::<Vec<_>>());
        let mut labels: Vec<_> = outcomes.iter().map(|outcome| outcome.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Outcome::COUNT);
    }

    #[test]
    fn claims_are_counted_by_sale_and_outcome() {
        let meters = Meters::new();
        let claims = ClaimMeters::new(&meters);
        let sale: SaleId = "s".parse().unwrap();
        for outcome in [Outcome::Held, Outcome::Held, Outcome::Problem(Code::SoldOut)] {
            claims.count("s", || Some(sale.clone()), outcome, Duration::from_millis(1));
        }
        claims.count("t", || None, Outcome::Problem(Code::UnknownSale), Duration::from_millis(1));
        let text = meters.render();
        for line in [
            "rushgate_claims_total{sale=\"s\",outcome=\"held\"} 2",
            "rushgate_claims_total{sale=\"s\",outcome=\"sold_out\"} 1",
            "rushgate_claims_total{sale=\"\",outcome=\"unknown_sale\"} 1",
            "rushgate_claim_duration_seconds_count{outcome=\"held\"} 2",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
