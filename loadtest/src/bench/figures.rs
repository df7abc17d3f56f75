//! What was measured, and what can be said of it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bench::Options;
use crate::bench::site::Servers;
use crate::load::tally::Report;

/// One slice: a design under a load, once.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    pub(super) workload: String,
    pub(super) design: String,
    pub(super) connections: usize,
    pub(super) repetition: usize,
    /// Requests per second that were due; none: as fast as they were answered.
    pub(super) rate: Option<f64>,
    /// Microseconds per answer, by process.
    pub(super) cpu: BTreeMap<String, f64>,
    /// Seconds from the last answer until all was stored, where that was waited for.
    pub(super) settled: f64,
    pub(super) report: Report,
    /// What else was read, by name.
    pub(super) figures: BTreeMap<String, f64>,
}

/// All slices of a run, and where it was made.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) commit: String,
    pub(super) machine: String,
    pub(super) versions: String,
    pub(super) command: String,
    pub(super) quick: bool,
    pub(super) measured: Vec<Measured>,
}

/// Slices that differ in nothing but the repetition.
#[derive(Clone, Copy)]
pub(super) struct Series<'r> {
    run: &'r Run,
    workload: &'r str,
    design: &'r str,
    connections: Option<usize>,
}

impl Run {
    pub(super) async fn new(measured: Vec<Measured>, options: &Options, servers: &Servers) -> anyhow::Result<Self> {
        let client = redis::Client::open(servers.redis.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let redis = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("?");
        let mut store = <sqlx::MySqlConnection as sqlx::Connection>::connect(&servers.mysql).await?;
        let mysql: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut store).await?;
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(Self {
            commit: options.commit.clone(),
            machine: format!("{cores} cores ({}), Linux {}", model.trim_start_matches([' ', '\t', ':']), kernel.trim()),
            versions: format!(
                "Redis {redis}, {mysql}, RabbitMQ {}",
                std::env::var("BENCH_BROKER_VERSION").unwrap_or_default()
            ),
            command: options.called_as.clone(),
            quick: options.quick,
            measured,
        })
    }

    pub(super) fn series<'r>(&'r self, workload: &'r str, design: &'r str, connections: Option<usize>) -> Series<'r> {
        Series { run: self, workload, design, connections }
    }
}

impl Series<'_> {
    pub(super) fn slices(&self) -> impl Iterator<Item = &Measured> {
        self.run.measured.iter().filter(|one| {
            one.workload == self.workload
                && one.design == self.design
                && self.connections.is_none_or(|connections| connections == one.connections)
        })
    }

    /// The median over the repetitions; `None` if nothing was measured.
    pub(super) fn median(&self, of: impl Fn(&Measured) -> f64) -> Option<f64> {
        median(self.slices().map(of).collect())
    }

    /// The median of the ratios to another series, each within its repetition: what disturbed the one disturbed the other.
    pub(super) fn ratio(&self, other: Self, of: impl Fn(&Measured) -> f64) -> Option<f64> {
        let pairs = self.slices().filter_map(|ours| {
            let theirs = other.slices().find(|theirs| {
                theirs.repetition == ours.repetition
                    && (theirs.connections == ours.connections || other.connections.is_some())
            })?;
            Some(of(ours) / of(theirs))
        });
        median(pairs.collect())
    }
}

/// The middle one, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

impl Measured {
    pub(super) fn rate_of_answers(&self) -> f64 {
        self.report.per_second()
    }

    /// CPU of these processes together, in microseconds per answer.
    pub(super) fn cpu_of(&self, processes: &[&str]) -> f64 {
        processes.iter().filter_map(|process| self.cpu.get(*process)).sum()
    }

    pub(super) fn cpu_of_all(&self) -> f64 {
        self.cpu.values().sum()
    }

    pub(super) fn figure(&self, name: &str) -> f64 {
        self.figures.get(name).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
