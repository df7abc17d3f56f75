//! `rushgate rehearse`: a crowd on a shadow sale, and the truth about what it heard.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::remote::{Remote, each, told};
use crate::cli::{Exit, Failure};
use crate::clock::SystemClock;
use crate::config::Loaded;
use crate::config::settings::Secret;
use crate::rehearsal::crowd::Crowd;
use crate::rehearsal::progress::{Look, Progress, Stage};
use crate::rehearsal::report::Report;
use crate::rehearsal::settings::{Defaults, Settings};
use crate::rehearsal::verdict::Verdict;
use crate::rehearsal::{Expected, Rehearsal};
use crate::shutdown::Shutdown;

/// Between two pictures of the bars.
const PICTURE: Duration = Duration::from_millis(100);

/// Send a crowd to a sale of its own, and prove that what it heard is true; as the k6 scripts do, without k6.
///
/// It makes a sale called rehearsal-… through the admin API, lets buyers come at random instants, and compares every answer with balance,
/// orders and audit. The sale is closed at the end, also after Ctrl-C (once: those who are there get their answers, and what was is
/// verified; twice: at once; a lost terminal is as one) and closes by itself if the rehearsal is killed. It sells nothing of any other sale, but its orders go to the
/// store, and its claims take the gateways' time: on a deployment that sells at this moment, real buyers feel it.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rushgate rehearse
  rushgate rehearse --crowd real --gateway http://10.0.0.1:8080 --gateway http://10.0.0.2:8080 --rate 2000 --stock 1200
  rushgate rehearse --crowd soak --duration 8h --seed 7 --out reports
  rushgate rehearse --crowd train --dry-run

Crowds: rush, more and more buyers, each once, for less than they want; too-late, everything is sold and paid before they
come; real, one of a hundred gets a ticket, some click twice, pay late or never, cancel, or come back; train, four legs, two
classes, families; soak, half an hour of orders that are made, cancelled, left to expire and sold again.

The verdict says OVERSOLD, LOST, LOST PAYMENT, STRANDED, UNSERVED, PENDING, CONTRADICTED, UNEXPLAINED, UNASKED, UNASKED
PAYMENT or NOT VERIFIED; loadtest/README.md has what each means.

Exit codes: 0 true and fast enough; 2 a promise is broken; 1 too slow, unserved, interrupted or not verified, or no sale could
be made; 64 wrong usage.")]
pub(super) struct Rehearse {
    /// Who comes: rush, too-late, real, train or soak.
    #[arg(long, value_name = "CROWD", default_value = "rush")]
    crowd: Crowd,
    /// A public listener, or a balancer before several; may be repeated, and buyers ask a random one each time.
    #[arg(long = "gateway", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    gateways: Vec<String>,
    /// Units; of the train's second class, with a tenth of it in the first. By default as the crowd wants it.
    #[arg(long, value_name = "UNITS")]
    stock: Option<u32>,
    /// Buyers per second, at the peak.
    #[arg(long, value_name = "BUYERS")]
    rate: Option<u32>,
    /// How long they come. Times --rate it is 20 million buyers at most, for every order is remembered.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// How long a hold waits for its payment; at least 1s.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    hold: Option<Duration>,
    /// How long a buyer asks on, and how long the end waits until all is quiet.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    patience: Option<Duration>,
    /// Of a hundred who have an order, how many ask for the same again, and then for another one.
    #[arg(long, value_name = "PERCENT")]
    repeat: Option<u32>,
    /// Buyers at once, at most; who would be one more does not come. By default as the crowd, its rate and its hold want it.
    #[arg(long, value_name = "BUYERS")]
    vus: Option<usize>,
    /// Of a hundred buyers, how many may not come because none was free for them.
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    away: u32,
    /// Milliseconds within which 99 of 100 claims are granted, from when each claim was due, with all that it was told to wait.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    p99_yes_ms: u32,
    /// Milliseconds within which 99 of 100 claims are refused.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    p99_no_ms: u32,
    /// The key of buyers' bearer tokens, where http.auth is jwt. Better given by the environment: arguments can be seen.
    #[arg(long, value_name = "SECRET", env = "JWT_SECRET", hide_env_values = true, default_value = "")]
    jwt_secret: String,
    /// The key of the payment provider, where it signs: the rehearsal plays it. Better given by the environment.
    #[arg(long, value_name = "SECRET", env = "CALLBACK_SECRET", hide_env_values = true, default_value = "")]
    callback_secret: String,
    /// Another seed is another crowd of the same size; the same seed asks in the same order.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Write the report there: rehearsal-CROWD.txt, .json and .html, which needs nothing else.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Look whether everything is there, say what would be done and who would come first, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Rehearse {
    pub(super) async fn run(self, loaded: Loaded) -> Result<Exit, Failure> {
        let settings = self.settings();
        let wrong = settings.wrong();
        if !wrong.is_empty() {
            return Err(Failure::usage(wrong.join("\n       ")));
        }
        if let Some(folder) = &self.out {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let (admin, stop) = (self.remote.client(&loaded.settings)?, Shutdown::new());
        let rehearsal = Rehearsal::new(settings, admin, Arc::new(SystemClock), stop.clone());
        if rehearsal.to_come() == 0 {
            return Err(Failure::usage("--rate and --duration are so small that nobody would come"));
        }
        if self.dry_run {
            let first = rehearsal.try_out().await?;
            return self.remote.print(&plan(&rehearsal, &first), shown_plan);
        }
        let report = watched(&rehearsal, &stop).await?;
        let written = self.out.as_deref().map(|folder| write(&report, self.crowd, folder)).transpose();
        let files = written.as_ref().ok().cloned().flatten().unwrap_or_default();
        let mut document = report.document();
        document["files"] = files.iter().map(|file| file.display().to_string()).collect();
        let printed = self.remote.print(&document, |_| shown(&report, &files));
        exit(report.verdict()).after(written.and(printed))
    }

    fn settings(&self) -> Settings {
        let Defaults { stock, rate, duration, hold, patience, repeat } = self.crowd.defaults();
        let (stock, rate, hold) = (self.stock.unwrap_or(stock), self.rate.unwrap_or(rate), self.hold.unwrap_or(hold));
        Settings {
            crowd: self.crowd,
            gateways: self.gateways.iter().map(|url| url.strip_suffix('/').unwrap_or(url).to_owned()).collect(),
            jwt_secret: Secret(self.jwt_secret.clone()),
            callback_secret: Secret(self.callback_secret.clone()),
            stock,
            rate,
            duration: self.duration.unwrap_or(duration),
            hold,
            patience: self.patience.unwrap_or(patience),
            repeat: self.repeat.unwrap_or(repeat),
            vus: self.vus.unwrap_or_else(|| self.crowd.at_once(rate, stock, hold)),
            away: self.away,
            p99_yes_ms: self.p99_yes_ms,
            p99_no_ms: self.p99_no_ms,
            seed: self.seed,
        }
    }
}

fn exit(verdict: &Verdict) -> Exit {
    match (verdict.passed(), verdict.is_untrue()) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Broken,
        (false, false) => Exit::Failed,
    }
}

/// Runs it, with bars on a terminal, and heeds who wants it to end.
async fn watched(rehearsal: &Rehearsal, stop: &Shutdown) -> Result<Report, Failure> {
    let progress = Progress::default();
    let signals = Signals::new()?;
    tokio::select! {
        biased;
        report = rehearsal.run(&progress) => Ok(report?),
        () = heed(signals, stop, rehearsal.sale()) => Err(rehearsal.left().into()),
        never = draw(&progress) => match never {},
    }
}

/// What asks it to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// The terminal is gone; none for who was started not to mind (`nohup`).
    hang_up: Option<Signal>,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hang_up = if ignores_hang_up(&status) { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, hang_up })
    }

    async fn next(&mut self) {
        let hung_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hung_up => {}
        }
    }
}

/// Does a process with this status ignore that its terminal is gone? It is signal 1, the lowest bit.
fn ignores_hang_up(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// The first signal lets nobody come any more, the second leaves everything but the closing of the sale, the third that too.
async fn heed(mut signals: Signals, stop: &Shutdown, sale: &str) {
    let say = |said: &str| {
        let _nobody_sees_it = writeln!(io::stderr(), "rushgate: {said}");
    };
    signals.next().await;
    stop.begin();
    say("nobody comes any more; the sale is closed and what was is verified (again: at once)");
    signals.next().await;
    stop.force();
    say(&format!("closing {sale} (again: without)"));
    signals.next().await;
}

/// Draws where it is, on a terminal only.
async fn draw(progress: &Progress) -> Infallible {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_finish(ProgressFinish::AndClear);
    let style = |template| ProgressStyle::with_template(template).expect("the template is right").progress_chars("━╸ ");
    let measured = style("{prefix:16} {bar:32} {human_pos}/{human_len} · {msg}");
    let unmeasured = style("{prefix:16} {spinner} {elapsed} · {msg}");
    let mut drawn = None;
    loop {
        let look = progress.look();
        if drawn != Some(look.stage) {
            drawn = Some(look.stage);
            bar.reset();
            bar.set_prefix(look.stage.told());
            bar.set_style(if look.of > 0 { measured.clone() } else { unmeasured.clone() });
            bar.set_length(look.of);
        }
        bar.set_message(message(&look));
        bar.set_position(look.done);
        bar.tick();
        tokio::time::sleep(PICTURE).await;
    }
}

fn message(Look { stage, yes, no, later, .. }: &Look) -> String {
    if matches!(stage, Stage::Making | Stage::SellingOut) {
        String::new()
    } else {
        format!("yes {yes} · no {no} · again {later}")
    }
}

/// Writes the report, and returns where it is.
fn write(report: &Report, crowd: Crowd, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    let json = format!("{:#}\n", report.document());
    for (kind, text) in [("txt", report.text()), ("json", json), ("html", report.page())] {
        let path = folder.join(format!("rehearsal-{crowd}.{kind}"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        files.push(path);
    }
    Ok(files)
}

fn shown(report: &Report, files: &[PathBuf]) -> String {
    let mut text = report.text();
    for file in files {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "wrote    {}", file.display());
    }
    text
}

fn plan(rehearsal: &Rehearsal, first: &[Expected]) -> Value {
    json!({"sale": rehearsal.sale(), "buyers": rehearsal.to_come(), "first": first, "dry_run": true})
}

fn shown_plan(plan: &Value) -> String {
    let mut text = format!(
        "{} would be made and closed again; {} buyers would come, at first:\n",
        told(&plan["sale"]),
        told(&plan["buyers"])
    );
    for one in each(&plan["first"]) {
        let at = one["at"].as_f64().unwrap_or_default();
        let _ = writeln!(text, "  {at:>8.4} s  buyer {}: {}", told(&one["buyer"]), one["claim"]);
    }
    text + "Nothing was changed.\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearsal::verdict::Word;

    #[test]
    fn only_a_broken_promise_is_told_apart_from_what_failed() {
        let of = |words: &[Word], missed: &[&str]| {
            let broken = words.iter().map(|word| (*word, String::new())).collect();
            exit(&Verdict { broken, missed: missed.iter().map(|said| (*said).to_owned()).collect() })
        };
        assert_eq!(of(&[], &[]), Exit::Done);
        assert_eq!(of(&[], &["P99"]), Exit::Failed);
        assert_eq!(of(&[Word::Unserved, Word::NotVerified], &[]), Exit::Failed);
        assert_eq!(of(&[Word::Pending, Word::NotVerified], &["P99"]), Exit::Broken);
        assert_eq!(of(&[Word::Oversold], &[]), Exit::Broken);
    }

    #[test]
    fn who_was_started_not_to_mind_a_lost_terminal_does_not() {
        assert!(ignores_hang_up("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hang_up("SigIgn:\t0000000000001000\n") && !ignores_hang_up(""));
    }

    #[test]
    fn a_plan_tells_who_would_come() {
        let first = json!([{"at": 0.5, "buyer": "0", "claim": {"quantity": 1}}]);
        let text = shown_plan(&json!({"sale": "rehearsal-rush-1", "buyers": 7, "first": first}));
        assert!(
            text.contains("7 buyers would come") && text.contains("  0.5000 s  buyer 0: {\"quantity\":1}\n"),
            "{text}"
        );
    }
}
