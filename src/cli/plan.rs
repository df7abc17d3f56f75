//! `rushgate plan`: what buffer to set.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::progress::progress;
use crate::cli::remote::{Remote, SETTINGS as REMOTE, each, table};
use crate::cli::{Exit, Failure};
use crate::config::{Loaded, Settings};
use crate::domain::{Buffer, SaleId};
use crate::inventory::memory::MemoryInventory;
use crate::plan::crowd::Shape;
use crate::plan::{self, Gateway, MAX_ROWS, Scenario, chart, page};

/// The settings from the environment that matter to this command.
pub(super) const SETTINGS: [&str; 6] = [
    REMOTE,
    "RUSHGATE__SHARD__",
    "RUSHGATE__INVENTORY__BATCH",
    "RUSHGATE__INVENTORY__TIMEOUT",
    "RUSHGATE__HTTP__REQUEST_TIMEOUT",
    "RUSHGATE__HTTP__MAX_CONNECTIONS",
];

/// How long the simulation may take. Most take a second or two.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where nobody says how large the crowd is: so many want each unit.
const BUYERS_PER_UNIT: u64 = 10;

/// Say what buffer to set, by formula and by simulation.
///
/// The simulation sends the same crowd for each buffer, in virtual time, through the code that sells, lets nodes die when half of the
/// stock is sold, and counts. The same numbers and the same seed give the same plan. Shard and batch settings come from the config.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rushgate plan --stock 10000 --nodes 4 --survive 1
  rushgate plan --stock 10000 --nodes 8 --survive 2 --buyers 500000 --arrivals spike --within 30s --skew 1.5
  rushgate plan --stock 10000 --nodes 4 --redis-budget 2000 --round-trip 5ms --buffers 0%,10%,500 --out plan
  rushgate plan --from-live concert-1 --buyers 200000 --json

Columns: UNITS, the buffer per node when nothing is sold; CALLS and PEAK/S, calls of Redis, in all and in the busiest
second; IN VAIN, claims let through for which nothing was left; WAITED, claims that waited for a look at Redis; FALSE NO,
claims refused while units were free. Recommended is the smallest buffer of those with the fewest false refusals, then
the fastest sale, the fewest calls, and the fewest claims that waited or asked in vain, each to 5 %.

What is too large to be simulated, a stock of more than 100,000 units or one that lasts for more than 15 minutes, is
planned by formula alone.")]
pub(super) struct Plan {
    /// Units of the pool.
    #[arg(long, value_name = "UNITS", required_unless_present = "from_live")]
    stock: Option<u32>,
    /// Gateway nodes of equal weight.
    #[arg(long, value_name = "N", required_unless_present = "from_live")]
    nodes: Option<u32>,
    /// Nodes that may die at once; 1 by default, where there are several.
    #[arg(long, value_name = "K")]
    survive: Option<u32>,
    /// Claims that come, each of another buyer; ten for each unit by default.
    #[arg(long, value_name = "B")]
    buyers: Option<u64>,
    /// How they come: spike (most at once, then ever fewer), steady, or ramp.
    #[arg(long, value_name = "SHAPE", default_value = "spike")]
    arrivals: Shape,
    /// In what time they come.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    within: Duration,
    /// The claims at the busiest node, as a multiple of the average; 1 for an even balancer.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    skew: f64,
    /// How long a death is not noticed; by default what the config says.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    detection: Option<Duration>,
    /// Calls per second that Redis may be given; it answers no more.
    #[arg(long, value_name = "CALLS", default_value_t = 10_000)]
    redis_budget: u32,
    /// How far away Redis is, there and back, in whole milliseconds.
    #[arg(long, value_name = "DURATION", default_value = "1ms", value_parser = humantime::parse_duration)]
    round_trip: Duration,
    /// The buffers to try; by default some that are usual, the one by formula, and the one that is set.
    #[arg(long, value_name = "BUFFER,…", value_delimiter = ',')]
    buffers: Vec<Buffer>,
    /// Another seed is another crowd of the same size.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Write the curves there: plan.svg, and plan.html, which needs nothing else.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Plan for what is left of this running sale: free units, nodes and buffer come from the admin API, unless they are given. Shard and
    /// batch settings still come from the config here.
    #[arg(long, value_name = "SALE")]
    from_live: Option<SaleId>,
    /// The pool of that sale, where it has several.
    #[arg(long, value_name = "POOL", requires = "from_live")]
    pool: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Said of a plan for a running sale.
const NOT_READ: &str =
    "Refill interval, batches and timeouts come from the config here, and are not read from the running nodes.";

/// What a running sale says of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Live {
    /// On the leg with the most.
    free: u32,
    nodes: u32,
    buffer: Buffer,
}

impl Plan {
    pub(super) async fn run(self, loaded: Loaded) -> Result<Exit, Failure> {
        let live = match &self.from_live {
            Some(sale) => Some(self.read(sale, &loaded.settings).await?),
            None => None,
        };
        let scenario = self.scenario(&loaded.settings, live);
        let wrong = scenario.wrong();
        if !wrong.is_empty() {
            return Err(Failure::usage(wrong.join("\n       ")));
        }
        let is_set = live.map_or(loaded.settings.shard.buffer, |live| live.buffer);
        let buffers = match &self.buffers[..] {
            [] => plan::usual_buffers(&scenario.expected().advice(), is_set),
            given if given.len() <= MAX_ROWS => given.to_vec(),
            _ => return Err(Failure::usage(format!("there may be {MAX_ROWS} buffers"))),
        };
        let mut notes = Vec::from_iter(live.map(|_| NOT_READ.to_owned()));
        let (plan, files) = if let Some(why) = scenario.too_large() {
            notes.push(format!("By formula alone, without simulation and curves: {why}."));
            (plan::Plan::by_formula(scenario, self.seed), Vec::new())
        } else {
            let plan = progress("simulating", simulate(scenario, buffers, self.seed)).await?;
            let files = self.out.as_deref().map(|folder| write(&plan, folder)).transpose()?;
            (plan, files.unwrap_or_default())
        };
        self.remote.print(&document(&plan, &files, &notes), |_| shown(&plan, &files, &notes))
    }

    async fn read(&self, sale: &SaleId, settings: &Settings) -> Result<Live, Failure> {
        let answer = self.remote.client(settings)?.get(&format!("/admin/v1/sales/{sale}/plan")).await?;
        live(&answer, self.pool.as_deref(), self.stock).map_err(Failure::Failed)
    }

    fn scenario(&self, settings: &Settings, live: Option<Live>) -> Scenario {
        let stock = self.stock.or(live.map(|live| live.free)).unwrap_or(0);
        let nodes = self.nodes.or(live.map(|live| live.nodes)).unwrap_or(0);
        let mut gateway = Gateway::of(settings);
        gateway.node_timeout = self.detection.unwrap_or(gateway.node_timeout);
        Scenario {
            stock,
            nodes,
            survive: self.survive.unwrap_or_else(|| 1.min(nodes.saturating_sub(1))),
            buyers: self.buyers.unwrap_or(u64::from(stock) * BUYERS_PER_UNIT),
            shape: self.arrivals,
            within: self.within,
            skew: self.skew,
            budget: self.redis_budget,
            round_trip: self.round_trip,
            gateway,
        }
    }
}

/// What matters of the answer of an admin API. `stock`: what is planned for in place of what is free.
fn live(answer: &Value, pool: Option<&str>, stock: Option<u32>) -> anyhow::Result<Live> {
    let pools: Vec<_> = each(&answer["pools"]).collect();
    let name = |pool: &Value| pool["pool"].as_str().unwrap_or_default().to_owned();
    let chosen = match (pool, &pools[..]) {
        (None, [only]) => *only,
        (Some(wanted), pools) if pools.iter().any(|pool| name(pool) == wanted) => {
            pools.iter().find(|pool| name(pool) == wanted).context("it is there")?
        }
        _ => {
            let names: Vec<_> = pools.iter().map(|pool| name(pool)).collect();
            return Err(anyhow!("the sale has the pools {}; name one with --pool", names.join(", ")));
        }
    };
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let (free, nodes) = (number(&chosen["free_max"]), number(&answer["nodes"]));
    let buffer = answer["set"].as_str().and_then(|text| text.parse().ok());
    let (Some(free), Some(nodes), Some(buffer)) = (free, nodes, buffer) else {
        return Err(anyhow!("the answer of the admin API tells no free units, nodes and buffer"));
    };
    if free == 0 && stock.is_none() {
        return Err(anyhow!("nothing of {} is free any more: there is nothing to plan", name(chosen)));
    }
    Ok(Live { free, nodes, buffer })
}

async fn simulate(scenario: Scenario, buffers: Vec<Buffer>, seed: u64) -> Result<plan::Plan, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let work = tokio::task::spawn_blocking(move || {
        plan::simulate(&scenario, &buffers, seed, |clock| Arc::new(MemoryInventory::new(clock)), &stopped)
    });
    let Ok(done) = tokio::time::timeout(PATIENCE, work).await else {
        stop.store(true, Ordering::Relaxed);
        let limit = humantime::format_duration(PATIENCE);
        return Err(Failure::Failed(anyhow!(
            "the simulation took more than {limit} and was stopped; a smaller --stock, fewer --buffers or a larger --redis-budget \
             make it shorter"
        )));
    };
    let done = done.context("the simulation broke off")?;
    Ok(done.context("the simulation")?)
}

/// Writes the curves, and returns where they are.
fn write(plan: &plan::Plan, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut files = Vec::new();
    for (name, text) in [("plan.svg", chart::draw(plan)), ("plan.html", page::write(plan))] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        files.push(path);
    }
    Ok(files)
}

fn document(plan: &plan::Plan, files: &[PathBuf], notes: &[String]) -> Value {
    let plan::Plan { scenario, advice, rows, seed } = plan;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "scenario": {
            "stock": scenario.stock,
            "nodes": scenario.nodes,
            "survive": scenario.survive,
            "buyers": scenario.buyers,
            "arrivals": scenario.shape.as_str(),
            "within_ms": millis(scenario.within),
            "peak_per_second": scenario.expected().peak,
            "skew": scenario.skew,
            "detection_ms": millis(scenario.gateway.node_timeout),
            "redis_budget": scenario.budget,
            "round_trip_ms": millis(scenario.round_trip),
            "seed": seed,
        },
        "formula": {
            "buffer": advice.buffer.to_string(),
            "units": advice.units,
            "needed": advice.needed,
            "affordable": advice.affordable,
            "needless_max": advice.needless,
        },
        "rows": rows,
        "recommended": rows.get(plan.recommended()).map(|row| &row.buffer),
        "error": plan::ERROR,
        "files": files,
        "notes": notes,
    })
}

fn shown(plan: &plan::Plan, files: &[PathBuf], notes: &[String]) -> String {
    let asked: Vec<_> = page::asked(plan).into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let rows = plan.rows.iter().enumerate().map(|(index, row)| {
        let [buffer, units, calls, peak, vain, waited, no, p99, sold] = page::cells(row);
        [buffer, units, calls, peak, vain, waited, no, p99, sold, page::mark(plan, index).to_owned()]
    });
    let [buffer, units, calls, peak, vain, waited, no, p99, sold] = page::COLUMNS;
    let table = table([buffer, units, calls, peak, vain, waited, no, p99, sold, ""], rows);
    let error = plan::ERROR * 100.0;
    let mut lines = vec![asked.join("\n"), String::new()];
    if !plan.rows.is_empty() {
        lines.push(table);
    }
    lines.push(page::formula(plan));
    if !plan.rows.is_empty() {
        lines.push(format!("Calls and time of a live run are within {error:.0} % of the table's."));
    }
    lines.extend_from_slice(notes);
    lines.extend(files.iter().map(|file| format!("wrote {}", file.display())));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Value {
        json!({"nodes": 3, "set": "10%", "buffer": "10%", "pools": [
            {"pool": "first", "capacity": 10, "free": 0, "free_max": 7},
            {"pool": "second", "capacity": 90, "free": 0, "free_max": 0}]})
    }

    #[test]
    fn a_running_sale_is_read_by_its_pool() {
        let read = |pool| live(&answer(), pool, None);
        let expected = Live { free: 7, nodes: 3, buffer: Buffer::Fraction(0.1) };
        assert_eq!(read(Some("first")).unwrap(), expected);
        assert!(read(None).unwrap_err().to_string().contains("first, second"));
        assert!(read(Some("third")).unwrap_err().to_string().contains("--pool"));
        assert!(read(Some("second")).unwrap_err().to_string().contains("nothing of second is free"));
        assert_eq!(live(&answer(), Some("second"), Some(90)).unwrap().free, 0, "a stock that is given needs none free");
        assert!(
            live(&json!({"pools": [{"pool": "p"}]}), None, None)
                .unwrap_err()
                .to_string()
                .contains("tells no free units")
        );
    }
}
