//! Processes of the benchmark's own, and what each costs.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::load;

/// How long one who was asked to stop may take.
const STOP: Duration = Duration::from_secs(60);

/// The command that runs a program in a session of its own, under the same process id, for as long as the thread lives that starts it:
/// the benchmark's only one.
///
/// A session is what the scheduler deals the cores out to (`CONFIG_SCHED_AUTOGROUP`), as it does to services: Redis, the broker and the
/// store have one each. In one with the load, a gateway took the cores from them for many of the scheduler's turns.
fn owned(program: &Path, class: Class) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "setsid"]);
    if class == Class::Batch {
        command.args(["chrt", "--batch", "0"]);
    }
    command.arg(program);
    command
}

/// What the kernel's scheduler takes a process for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// For what it makes of itself: ours puts itself into the batch class, the rest stays in the usual one.
    AsItComes,
    /// For one that waits for its turn when it has something to do, and takes no core from those in the usual class.
    Batch,
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) pid: u32,
    child: Child,
}

impl Server {
    /// Starts a program with its output in a file.
    pub(super) fn start(program: &Path, arguments: &[String], log: &Path, class: Class) -> anyhow::Result<Self> {
        let out = std::fs::File::create(log).with_context(|| format!("{}", log.display()))?;
        anyhow::ensure!(program.is_file(), "there is no {}", program.display());
        let child = owned(program, class)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start setpriv")?;
        Ok(Self { pid: child.id().context("it has ended already")?, child })
    }

    /// Asks it to stop.
    pub(super) fn ask_to_stop(&self) {
        signal(self.pid, "TERM");
    }

    /// Waits until it has stopped, as it should.
    pub(super) async fn stopped(mut self) -> anyhow::Result<()> {
        let ended = tokio::time::timeout(STOP, self.child.wait()).await.context("it does not stop")??;
        anyhow::ensure!(ended.success(), "it ended with {ended}");
        Ok(())
    }
}

/// Stops a process where it is, and lets it go on when this is dropped.
#[derive(Debug)]
pub(super) struct Frozen(u32);

impl Frozen {
    pub(super) fn new(pid: u32) -> Self {
        signal(pid, "STOP");
        Self(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
}

fn signal(pid: u32, name: &str) {
    // It is a child of ours that nobody has waited for, so the number is still its own.
    let _ = std::process::Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
}

/// What a process has used of the processors, in user and kernel mode.
pub(super) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("a process has ended")?;
    // The name in parentheses may hold anything; after it come fields 3, 4, …; user time is the 14th, kernel time the 15th.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at - 3).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
    // The kernel counts in hundredths of a second towards programs, whatever its own tick is.
    Ok(Duration::from_millis((ticks(14) + ticks(15)) * 10))
}

/// Memory that is really there, in bytes.
pub(super) fn memory(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("a process has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}

/// A load generator whose connections are open and that waits for the word.
pub(super) struct Load {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Load {
    pub(super) async fn ready(arguments: &[String], class: Class) -> anyhow::Result<Self> {
        let mut child = owned(&std::env::current_exe()?, class)
            .arg("load")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the load")?;
        let input = child.stdin.take().context("no input")?;
        let mut output = BufReader::new(child.stdout.take().context("no output")?).lines();
        let said = output.next_line().await?.context("the load generator ended")?;
        anyhow::ensure!(said == "ready", "the load generator said {said:?}");
        Ok(Self { child, input, output })
    }

    pub(super) async fn run(mut self) -> anyhow::Result<load::tally::Report> {
        self.input.write_all(b"go\n").await?;
        let report = self.output.next_line().await?.context("the load generator ended without a word")?;
        self.child.wait().await?;
        Ok(serde_json::from_str(&report)?)
    }
}
