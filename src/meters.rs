//! Every metric: its name, its meaning, its unit, and the handle that moves it.
//!
//! There is no process-wide recorder: each process part is given its [`Meters`], so that three nodes and a writer fit into one
//! test process. Handles are made once and held, since a look-up costs about eight times a count on a held one.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use metrics::{Counter, Gauge, Histogram};
use metrics::{Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Buckets of all `_seconds` histograms, in seconds: from a tenth of a millisecond, which is what a refusal from memory takes,
/// to the ten seconds at which every caller has gone.
const SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Buckets of batch sizes.
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Every metric, with its kind, unit and meaning. What is not in here cannot be counted.
const ALL: &[(Kind, &str, Option<Unit>, &str)] = &[
    (Kind::Counter, "rushgate_claims_total", None, "Claims answered, by sale and outcome."),
    (Kind::Histogram, "rushgate_claim_duration_seconds", Some(Unit::Seconds), "From a claim's arrival to its answer."),
    (Kind::Gauge, "rushgate_shard_units", None, "Units that this node may still let through, on the scarcest leg."),
    (
        Kind::Gauge,
        "rushgate_shard_buffer_units",
        None,
        "Units of a shard beyond the node's fair part, on the leg where they are most.",
    ),
    (
        Kind::Counter,
        "rushgate_shard_buffer_used_units_total",
        None,
        "Units that this node let through beyond its fair part, between two looks at the inventory.",
    ),
    (
        Kind::Counter,
        "rushgate_shard_buffer_wasted_units_total",
        None,
        "Units that this node let through and that the inventory did not have.",
    ),
    (
        Kind::Gauge,
        "rushgate_shard_buffer_advised_units",
        None,
        "The buffer, now, with which the other shards reach every free unit when the heaviest node dies.",
    ),
    (
        Kind::Gauge,
        "rushgate_shard_stranded_units",
        None,
        "Free units that the other shards would not reach at one look if this node died now, on the leg where they are most.",
    ),
    (
        Kind::Counter,
        "rushgate_refills_total",
        None,
        "Looks of this node at what has changed in the inventory that it had an answer to.",
    ),
    (Kind::Gauge, "rushgate_inventory_units", None, "Units by state, on the scarcest leg, as this node last heard."),
    (Kind::Histogram, "rushgate_inventory_batch_claims", None, "Claims in one call of the inventory."),
    (Kind::Histogram, "rushgate_inventory_call_duration_seconds", Some(Unit::Seconds), "One call of the inventory."),
    (Kind::Gauge, "rushgate_outbox_entries", None, "Granted batches that are not known to be in the store."),
    (
        Kind::Histogram,
        "rushgate_publish_confirm_duration_seconds",
        Some(Unit::Seconds),
        "From a publish to the broker's confirm.",
    ),
    (Kind::Gauge, "rushgate_admission_closed", None, "1 while this bound keeps the node closed to new grants."),
    (
        Kind::Counter,
        "rushgate_admission_closings_total",
        None,
        "Times that this bound closed a partition to new grants.",
    ),
    (Kind::Gauge, "rushgate_lane_messages", None, "Messages that wait in a lane."),
    (Kind::Histogram, "rushgate_writer_batch_orders", None, "Orders in one transaction of the writer."),
    (Kind::Gauge, "rushgate_writer_lag_seconds", Some(Unit::Seconds), "Age of the order that the writer stored last."),
    (Kind::Counter, "rushgate_expired_total", None, "Orders that were not paid in time."),
    (
        Kind::Gauge,
        "rushgate_expiry_refused_orders",
        None,
        "Unpaid orders whose time is up and that the store refuses to expire.",
    ),
    (Kind::Counter, "rushgate_returned_units_total", None, "Stock moves that gave units back to the inventory."),
    (Kind::Counter, "rushgate_relayed_total", None, "Outbox entries that were published again."),
    (Kind::Counter, "rushgate_refund_due_total", None, "Payments whose money is to be given back."),
    (Kind::Counter, "rushgate_dead_letters_total", None, "Messages that were parked."),
    (Kind::Gauge, "rushgate_dead_letters", None, "Parked messages in the store, which wait for an operator."),
    (Kind::Gauge, "rushgate_quarantined_orders", None, "Accepted orders that cannot be recorded, when all is quiet."),
    (Kind::Gauge, "rushgate_epoch", None, "The epoch that this process has joined."),
    (
        Kind::Counter,
        "rushgate_recoveries_total",
        None,
        "Recoveries that this process completed; to open the first epoch is none.",
    ),
    (Kind::Gauge, "rushgate_drift_units", None, "Units by which inventory and store disagree when all is quiet."),
    (Kind::Gauge, "rushgate_connections", None, "Open connections of the public listener."),
    (Kind::Counter, "rushgate_spans_exported_total", None, "Spans that the collector has taken."),
    (
        Kind::Counter,
        "rushgate_spans_dropped_total",
        None,
        "Spans that were too many, or that the collector did not take.",
    ),
    (Kind::Gauge, "rushgate_ready", None, "1 if the process is ready for traffic."),
    (Kind::Gauge, "rushgate_config_last_reload_successful", None, "1 if the last reload of the config was taken."),
    (
        Kind::Gauge,
        "rushgate_config_last_reload_success_timestamp_seconds",
        Some(Unit::Seconds),
        "When the config was last taken, as seconds since 1970.",
    ),
    (Kind::Gauge, "rushgate_build_info", None, "1, with the version as a label."),
];

/// Those of them whose values this process also reads: heartbeats tell the others, and the live feed operators.
const READ: &[&str] = &[
    "rushgate_claims_total",
    "rushgate_connections",
    "rushgate_admission_closed",
    "rushgate_drift_units",
    "rushgate_quarantined_orders",
    "rushgate_writer_lag_seconds",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The metrics of one process part. Cheap to clone.
#[derive(Clone)]
pub struct Meters {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    values: Values,
}

/// Upper ends of buckets, and how many samples are at most so large.
pub type Buckets = Vec<(f64, u64)>;

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meters")
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

impl Meters {
    pub fn new() -> Self {
        let buckets = [("_seconds", SECONDS), ("_claims", SIZES), ("_orders", SIZES)];
        let builder = buckets.into_iter().fold(PrometheusBuilder::new(), |builder, (suffix, buckets)| {
            builder.set_buckets_for_metric(Matcher::Suffix(suffix.to_owned()), buckets).expect("there are buckets")
        });
        let recorder = builder.build_recorder();
        for (kind, name, unit, meaning) in ALL {
            let (name, meaning) = (KeyName::from_const_str(name), (*meaning).into());
            match kind {
                Kind::Counter => recorder.describe_counter(name, *unit, meaning),
                Kind::Gauge => recorder.describe_gauge(name, *unit, meaning),
                Kind::Histogram => recorder.describe_histogram(name, *unit, meaning),
            }
        }
        let meters = Self { handle: recorder.handle(), recorder: Arc::new(recorder), values: Values::default() };
        meters.gauge("rushgate_build_info", &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
        meters
    }

    /// The handle of a counter. Ask once and hold it.
    pub fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        let exported = self.recorder.register_counter(&key(Kind::Counter, name, labels), &METADATA);
        if READ.contains(&name) { self.values.counter((name, labels), exported) } else { exported }
    }

    pub fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        let exported = self.recorder.register_gauge(&key(Kind::Gauge, name, labels), &METADATA);
        if READ.contains(&name) { self.values.gauge((name, labels), exported) } else { exported }
    }

    pub fn histogram(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Histogram {
        self.recorder.register_histogram(&key(Kind::Histogram, name, labels), &METADATA)
    }

    /// All metrics in the Prometheus text format.
    pub fn render(&self) -> String {
        self.values.export();
        self.handle.render()
    }

    /// Shows the labels and the value of each series of a metric that is read.
    pub fn read(&self, name: &'static str, each: impl FnMut(&[(&'static str, String)], f64)) {
        debug_assert!(READ.contains(&name), "{name} is not in the list of those that are read");
        self.values.read(name, each);
    }

    /// The buckets of a histogram so far, by the value of its one label. Renders all metrics, since the exporter does not show samples
    /// otherwise: once a second, while somebody looks.
    pub fn buckets(&self, name: &str, label: &str) -> HashMap<String, Buckets> {
        let (series, end) = (format!("{name}_bucket{{{label}=\""), "\",le=\"");
        let mut buckets: HashMap<String, Buckets> = HashMap::new();
        for line in self.render().lines().filter_map(|line| line.strip_prefix(&series)) {
            let parsed = line.split_once(end).and_then(|(value, rest)| {
                let (end, count) = rest.split_once("\"} ")?;
                Some((value, end.parse().ok()?, count.parse().ok()?))
            });
            if let Some((value, end, count)) = parsed {
                buckets.entry(value.to_owned()).or_default().push((end, count));
            }
        }
        buckets
    }

    /// Folds recorded samples into the histograms; to be called every few seconds, off the hot threads.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// The values that are read. They are counted here and shown to the exporter when it is asked, since what it holds itself it only prints.
#[derive(Clone, Default)]
struct Values(Arc<Mutex<HashMap<Series, Value>>>);

/// A metric and its labels.
type Series = (&'static str, Vec<(&'static str, String)>);

struct Value {
    /// As it is, or the bits of an `f64` for a gauge.
    held: Arc<AtomicU64>,
    exported: Exported,
}

enum Exported {
    Counter(Counter),
    Gauge(Gauge),
}

impl Value {
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    fn get(&self) -> f64 {
        let held = self.held.load(Ordering::Acquire);
        if matches!(self.exported, Exported::Counter(_)) { held as f64 } else { f64::from_bits(held) }
    }
}

impl Values {
    fn counter(&self, of: (&'static str, &[(&'static str, &str)]), exported: Counter) -> Counter {
        Counter::from_arc(self.held(of, Exported::Counter(exported)))
    }

    fn gauge(&self, of: (&'static str, &[(&'static str, &str)]), exported: Gauge) -> Gauge {
        Gauge::from_arc(self.held(of, Exported::Gauge(exported)))
    }

    fn held(&self, (name, labels): (&'static str, &[(&'static str, &str)]), exported: Exported) -> Arc<AtomicU64> {
        let series = (name, labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect());
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = values.entry(series).or_insert_with(|| Value { held: Arc::default(), exported });
        Arc::clone(&value.held)
    }

    fn read(&self, name: &str, mut each: impl FnMut(&[(&'static str, String)], f64)) {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((_, labels), value) in values.iter().filter(|((of, _), _)| *of == name) {
            each(labels, value.get());
        }
    }

    fn export(&self) {
        for value in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            match &value.exported {
                Exported::Counter(counter) => counter.absolute(value.held.load(Ordering::Acquire)),
                Exported::Gauge(gauge) => gauge.set(value.get()),
            }
        }
    }
}

fn key(kind: Kind, name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    debug_assert!(ALL.iter().any(|(k, n, ..)| *k == kind && *n == name), "{name} is not in the list of metrics");
    Key::from_parts(name, labels.iter().map(|(key, value)| Label::new(*key, (*value).to_owned())).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_is_rendered() {
        let meters = Meters::new();
        let of = [("sale", "s"), ("outcome", "held")];
        meters.counter("rushgate_claims_total", &of).increment(2);
        meters.counter("rushgate_claims_total", &of).increment(1);
        meters.counter("rushgate_claims_total", &[("sale", "t"), ("outcome", "held")]).increment(5);
        let open = meters.gauge("rushgate_connections", &[]);
        open.increment(3.0);
        open.decrement(1.0);
        let read = |name| {
            let mut found = Vec::new();
            meters.read(name, |labels, value| {
                found.push((labels.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>().join(" "), value));
            });
            found.sort_by(|a, b| a.0.cmp(&b.0));
            found
        };
        assert_eq!(read("rushgate_claims_total"), [("s held".to_owned(), 3.0), ("t held".to_owned(), 5.0)]);
        assert_eq!(read("rushgate_connections"), [(String::new(), 2.0)]);
        assert_eq!(read("rushgate_drift_units"), []);
        let text = meters.render();
        assert!(text.contains("rushgate_claims_total{sale=\"s\",outcome=\"held\"} 3\n"), "{text}");
        assert!(text.contains("rushgate_connections 2\n"), "{text}");
    }

    #[test]
    fn a_histogram_shows_its_buckets_by_its_label() {
        let meters = Meters::new();
        let held = meters.histogram("rushgate_claim_duration_seconds", &[("outcome", "held")]);
        for seconds in [0.0004, 0.0004, 3.0, 60.0] {
            held.record(seconds);
        }
        let buckets = meters.buckets("rushgate_claim_duration_seconds", "outcome");
        let held = &buckets["held"];
        assert_eq!((buckets.len(), held.len()), (1, SECONDS.len() + 1));
        assert_eq!((held[1], held[2], held[14], held[15]), ((0.00025, 0), (0.0005, 2), (5.0, 3), (10.0, 3)));
        assert_eq!(held[16], (f64::INFINITY, 4));
    }

    #[test]
    fn what_is_counted_is_rendered_with_its_meaning() {
        let meters = Meters::new();
        meters.counter("rushgate_claims_total", &[("sale", "s"), ("outcome", "held")]).increment(2);
        let text = meters.render();
        assert!(text.contains("rushgate_claims_total{sale=\"s\",outcome=\"held\"} 2"), "{text}");
        assert!(text.contains("# HELP rushgate_claims_total Claims answered"), "{text}");
    }

    #[test]
    fn two_meters_do_not_see_each_other() {
        let (one, other) = (Meters::new(), Meters::new());
        one.counter("rushgate_expired_total", &[]).increment(1);
        assert!(!other.render().contains("rushgate_expired_total 1"));
    }

    #[test]
    fn a_held_handle_costs_less_than_a_look_up() {
        let meters = Meters::new();
        let labels = [("sale", "s"), ("outcome", "held")];
        let held = meters.counter("rushgate_claims_total", &labels);
        let time = |count: &dyn Fn()| {
            let rounds = (0..20).map(|_| {
                let begun = tokio::time::Instant::now();
                (0..1000).for_each(|_| count());
                begun.elapsed()
            });
            // The best round is the one in which nothing else ran.
            rounds.min().unwrap_or_default()
        };
        let look_up = time(&|| meters.counter("rushgate_claims_total", &labels).increment(1));
        let held = time(&|| held.increment(1));
        assert!(held * 2 < look_up, "{held:?} for a thousand, and {look_up:?}");
    }

    #[test]
    fn every_metric_keeps_the_naming_rules() {
        for (kind, name, _, meaning) in ALL {
            assert!(name.starts_with("rushgate_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(meaning.ends_with('.'), "{name}");
        }
    }
}
