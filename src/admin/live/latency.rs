//! How long claims take: percentiles of the last seconds, from the buckets of the histogram that the metrics have.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::admin::live::snapshot::{Latency, Percentiles};
use crate::meters::Buckets;

const WINDOW: Duration = Duration::from_secs(10);
/// What a buyer hears where there is nothing for them; no answer about this node's own trouble.
const REFUSALS: &[&str] =
    &["sold_out", "all_held", "limit_reached", "not_open", "paused", "closed", "unknown_sale", "key_reused"];

/// The buckets of the last ten seconds, of which only the growth counts.
#[derive(Debug, Default)]
pub(super) struct Latencies(VecDeque<(Instant, Counted)>);

/// Claims by the time that they took at most.
#[derive(Debug, Clone, Default)]
struct Counted {
    held: Buckets,
    refused: Buckets,
}

impl Latencies {
    /// Takes the buckets of each outcome so far, and tells of what came within the window.
    pub(super) fn learn(&mut self, now: Instant, buckets: &HashMap<String, Buckets>) -> Latency {
        let sum =
            |outcomes: &[&str]| outcomes.iter().filter_map(|outcome| buckets.get(*outcome)).fold(Buckets::new(), add);
        let counted = Counted { held: sum(&["held"]), refused: sum(REFUSALS) };
        // One that is as old as the window stays: the growth since then is what is asked for.
        while self.0.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
        let latency = self.0.front().map_or(Latency::default(), |(_, before)| Latency {
            held: percentiles(&counted.held, &before.held),
            refused: percentiles(&counted.refused, &before.refused),
        });
        self.0.push_back((now, counted));
        latency
    }
}

fn add(mut sum: Buckets, more: &Buckets) -> Buckets {
    if sum.is_empty() {
        return more.clone();
    }
    for ((_, sum), (_, more)) in sum.iter_mut().zip(more) {
        *sum += more;
    }
    sum
}

/// Of what has come since `before`, which has the same buckets, or none; `None`: nothing has.
fn percentiles(now: &Buckets, before: &Buckets) -> Option<Percentiles> {
    let before = before.iter().map(|(_, count)| *count).chain(std::iter::repeat(0));
    let grown: Vec<_> = now.iter().zip(before).map(|((end, now), before)| (*end, now.saturating_sub(before))).collect();
    let count = grown.last().map_or(0, |(_, count)| *count);
    (count > 0).then(|| Percentiles {
        p50: percentile(&grown, count, 0.5),
        p95: percentile(&grown, count, 0.95),
        p99: percentile(&grown, count, 0.99),
        p999: percentile(&grown, count, 0.999),
    })
}

/// Interpolated within the bucket that has it, as Prometheus does; what is beyond the last end counts as that.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn percentile(buckets: &Buckets, count: u64, part: f64) -> f64 {
    let rank = part * count as f64;
    let (mut start, mut below) = (0.0, 0);
    for (end, at_most) in buckets {
        if *at_most as f64 >= rank {
            if end.is_infinite() {
                return start;
            }
            let within = (*at_most - below) as f64;
            return start + (end - start) * if within > 0.0 { (rank - below as f64) / within } else { 1.0 };
        }
        (start, below) = (*end, *at_most);
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many within 1 ms, within 10 ms, and longer.
    fn buckets(counts: [u64; 3]) -> Buckets {
        let [first, second, third] = counts;
        vec![(0.001, first), (0.01, first + second), (f64::INFINITY, first + second + third)]
    }

    fn of(outcome: &str, counts: [u64; 3]) -> HashMap<String, Buckets> {
        [(outcome.to_owned(), buckets(counts))].into()
    }

    #[test]
    fn a_percentile_is_interpolated_within_its_bucket() {
        let percentiles = percentiles(&buckets([50, 50, 0]), &Buckets::new()).unwrap();
        assert!((percentiles.p50 - 0.001).abs() < 1e-9, "{percentiles:?}");
        assert!((percentiles.p95 - 0.0091).abs() < 1e-9, "{percentiles:?}");
        assert!((percentiles.p99 - 0.00982).abs() < 1e-9, "{percentiles:?}");
    }

    #[test]
    fn what_took_longer_than_any_bucket_counts_as_the_last_end() {
        let percentiles = percentiles(&buckets([0, 0, 3]), &Buckets::new()).unwrap();
        assert!((percentiles.p50 - 0.01).abs() < 1e-9, "{percentiles:?}");
    }

    #[test]
    fn only_the_last_ten_seconds_count_and_nobody_is_null() {
        let (mut latencies, begun) = (Latencies::default(), Instant::now());
        let second = |number| begun + Duration::from_secs(number);
        assert_eq!(latencies.learn(begun, &of("held", [100, 0, 0])), Latency::default(), "it is the first look");
        assert_eq!(latencies.learn(second(1), &of("held", [100, 0, 0])), Latency::default(), "nobody asked since");
        let slow = latencies.learn(second(2), &of("held", [100, 10, 0])).held.unwrap();
        assert!(slow.p50 > 0.001, "{slow:?}");
        assert!(latencies.learn(second(10), &of("held", [100, 10, 0])).held.is_some());
        assert!(latencies.learn(second(11), &of("held", [100, 10, 0])).held.is_some());
        assert!(latencies.learn(second(12), &of("held", [100, 10, 0])).held.is_none(), "it was eleven seconds ago");
        assert!(latencies.0.len() <= 11);
    }

    #[test]
    fn refusals_are_counted_together_and_trouble_is_none() {
        let (mut latencies, begun) = (Latencies::default(), Instant::now());
        latencies.learn(begun, &HashMap::new());
        let mut both = of("sold_out", [1, 0, 0]);
        both.extend(of("all_held", [0, 1, 0]));
        both.extend(of("busy", [0, 0, 100]));
        let latency = latencies.learn(begun + Duration::from_secs(1), &both);
        assert!(latency.held.is_none());
        assert!((latency.refused.unwrap().p999 - 0.00998).abs() < 1e-4, "{latency:?}");
    }
}
