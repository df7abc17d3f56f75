//! One run: everything is started, every workload is measured in turns, and what was sold is counted after each.
//!
//! - [`site`], [`peers`], [`process`], [`api`]: ours, what it is measured against, and how both are reached
//! - [`workloads`]: who is asked what, and what must be true afterwards
//! - [`figures`]: medians, and ratios within a repetition
//! - [`goals`], [`table`], [`chart`]: what is made of them

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::bench::figures::{Measured, Run};
use crate::bench::peers::{Naive, Peer};
use crate::bench::process::{Class, Load};
use crate::bench::site::{Servers, Site};

mod api;
mod chart;
mod figures;
mod goals;
mod peers;
mod process;
mod site;
mod table;
mod workloads;

/// Measures ours against its peers; `loadtest/bench` calls it with everything in place.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    servers: Servers,
    /// The program under test.
    #[arg(long)]
    program: PathBuf,
    /// Another build of it, a gateway of which is measured in turns with ours, sold out and in a rush.
    #[arg(long)]
    beside: Option<PathBuf>,
    /// The spikeSystem design, built; without it that peer is left out.
    #[arg(long)]
    local_lock: Option<PathBuf>,
    /// Where the results go.
    #[arg(long)]
    out: PathBuf,
    /// A folder for configurations and logs.
    #[arg(long)]
    dir: PathBuf,
    /// Asserts what must be true, and measures next to nothing.
    #[arg(long)]
    quick: bool,
    /// Workloads, by the beginning of their names; all of them if none is given.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How this came to be run, as the results tell it.
    #[arg(long, default_value = "loadtest/bench")]
    called_as: String,
    /// What was built, as the results name it.
    #[arg(long, default_value = "unknown")]
    commit: String,
}

impl Options {
    fn wants(&self, workload: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| workload.starts_with(wanted.as_str()))
    }
}

/// Everything that runs, and what was measured so far.
struct Bench {
    options: Options,
    site: Site,
    naive: Naive,
    parts: Peer,
    bare_granted: Peer,
    bare_refused: Peer,
    bare_on_cores: Peer,
    lock: Option<Locks>,
    measured: Vec<Measured>,
    /// Of sales and crowds, so that none comes twice.
    serial: u32,
    naive_rows: u64,
}

/// The spikeSystem design, with stock and without.
struct Locks {
    granted: Peer,
    refused: Peer,
}

/// Who is asked, and whose CPU is counted.
#[derive(Clone)]
struct Target {
    design: String,
    to: Vec<std::net::SocketAddr>,
    crowd: Vec<String>,
    watched: Vec<(&'static str, u32)>,
}

/// How a slice is loaded.
#[derive(Clone, Copy)]
struct Pressure {
    connections: usize,
    seconds: f64,
    rate: Option<f64>,
    requests: Option<u64>,
}

pub(crate) async fn run(mut options: Options) -> anyhow::Result<()> {
    if options.quick {
        (options.repetitions, options.seconds) = (1, 0.3);
    }
    anyhow::ensure!(
        options.beside.is_none() || options.wants("sold out") || options.wants("rush"),
        "--beside is measured sold out and in a rush, and neither is wanted"
    );
    let mut bench = Bench::start(options).await?;
    let outcome = workloads::all(&mut bench).await;
    // What was measured until something went wrong is worth keeping.
    let Bench { options, site, measured, .. } = bench;
    let run = Run::new(measured, &options, &site.servers).await?;
    std::fs::create_dir_all(&options.out)?;
    let write =
        |name: &str, text: String| std::fs::write(options.out.join(name), text).with_context(|| name.to_owned());
    write("bench.json", serde_json::to_string_pretty(&run)? + "\n")?;
    write("bench.svg", chart::draw(&run))?;
    let text = table::markdown(&run);
    write("bench.md", text.clone())?;
    say(&text);
    let stopped = site.stop().await;
    if let (Err(_), Err(error)) = (&outcome, &stopped) {
        tell(&format!("{error:#}"));
    }
    outcome.and(stopped)
}

#[expect(clippy::print_stdout, reason = "this is what was asked for")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "whoever waits wants to see that something happens")]
fn tell(text: &str) {
    eprintln!("{text}");
}

impl Bench {
    async fn start(options: Options) -> anyhow::Result<Self> {
        tell("starting");
        let site = Site::start(&options.servers, &options.program, &options.dir).await?;
        let naive = Naive::start(&options.servers, &options.dir).await?;
        let parts = Peer::parts(&options.servers, &options.dir).await?;
        site.sale("sample", 1).await?;
        site.sale("gone", 1).await?;
        let gateway = site.gateways[0].public;
        workloads::sell_out(&site, "gone").await?;
        let (granted, refused) = peers::answers_of_ours(gateway, "sample", "gone").await?;
        let bare_granted = Peer::bare(&granted, false, &options.dir).await?;
        let bare_refused = Peer::bare(&refused, false, &options.dir).await?;
        let bare_on_cores = Peer::bare(&refused, true, &options.dir).await?;
        let lock = match &options.local_lock {
            None => None,
            Some(program) => Some(Locks {
                granted: Peer::local_lock(program, &options.servers, 1_000_000_000, &options.dir).await?,
                refused: Peer::local_lock(program, &options.servers, 0, &options.dir).await?,
            }),
        };
        let (measured, serial, naive_rows) = (Vec::new(), 0, 0);
        Ok(Self {
            options,
            site,
            naive,
            parts,
            bare_granted,
            bare_refused,
            bare_on_cores,
            lock,
            measured,
            serial,
            naive_rows,
        })
    }

    /// A name that nothing has had.
    fn fresh(&mut self, kind: &str) -> String {
        self.serial += 1;
        format!("{kind}-{}", self.serial)
    }

    fn servers(&self) -> [(&'static str, u32); 3] {
        let Servers { redis_pid, broker_pid, mysql_pid, .. } = self.options.servers;
        [("redis", redis_pid), ("broker", broker_pid), ("database", mysql_pid)]
    }

    /// Loads a target and counts what it took; the CPU until `settled` is over is counted in.
    async fn slice(
        &mut self,
        (workload, repetition): (&str, usize),
        target: &Target,
        pressure: Pressure,
        settled: impl AsyncFnOnce(&crate::load::tally::Report) -> anyhow::Result<()>,
    ) -> anyhow::Result<Measured> {
        let Pressure { connections, seconds, rate, requests } = pressure;
        let to: Vec<_> = target.to.iter().map(ToString::to_string).collect();
        let (seed, prefix) = (self.serial, self.fresh("b"));
        let mut arguments = vec![
            format!("--to={}", to.join(",")),
            format!("--connections={connections}"),
            format!("--seconds={seconds}"),
            format!("--seed={seed}"),
            format!("--prefix={prefix}"),
        ];
        arguments.extend(rate.map(|rate| format!("--rate={rate}")));
        arguments.extend(requests.map(|requests| format!("--requests={requests}")));
        arguments.extend(target.crowd.iter().cloned());
        // A load that takes cores is paid for by whom it asks: the faster a client, the dearer its server. Clients elsewhere do no such
        // thing. Where there is time enough for both, latencies are true only if it takes its turn at once.
        let is_closed = rate.is_none() && connections > 1;
        let load = Load::ready(&arguments, if is_closed { Class::Batch } else { Class::AsItComes }).await?;
        let cpu = |watched: &[(&'static str, u32)]| -> anyhow::Result<Vec<_>> {
            watched.iter().map(|(_, pid)| process::cpu(*pid)).collect()
        };
        let before = cpu(&target.watched)?;
        let report = load.run().await?;
        let began = tokio::time::Instant::now();
        settled(&report).await?;
        let settled = began.elapsed().as_secs_f64();
        let spent = cpu(&target.watched)?.into_iter().zip(before).map(|(after, before)| after.saturating_sub(before));
        anyhow::ensure!(report.errors.is_empty(), "{workload} {}: {report:?}", target.design);
        #[expect(clippy::cast_precision_loss, reason = "a count of seconds is far below 2^52")]
        let answers = report.answers.max(1) as f64;
        let mut each = BTreeMap::<String, f64>::new();
        for ((name, _), spent) in target.watched.iter().zip(spent) {
            *each.entry((*name).to_owned()).or_default() += spent.as_secs_f64() * 1e6 / answers;
        }
        Ok(Measured {
            workload: workload.to_owned(),
            design: target.design.clone(),
            connections,
            repetition,
            rate,
            cpu: each,
            settled,
            report,
            figures: BTreeMap::new(),
        })
    }

    fn keep(&mut self, measured: Measured) {
        let Measured { workload, design, connections, repetition, report, .. } = &measured;
        let sum: f64 = measured.cpu.values().sum();
        tell(&format!(
            "{workload:<12} {design:<22} {connections:>5} connections  #{repetition}  {:>8.0} /s  {sum:>6.1} us  {:?}",
            report.per_second(),
            report.outcomes
        ));
        self.measured.push(measured);
    }
}
