//! Arguments → config → telemetry → the command; exit code.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use anyhow::Context;
use mimalloc::MiMalloc;
use rushgate::cli::{Cli, Exit, Failure};
use rushgate::config::load_needed;
use rushgate::config::settings::Scheduling;
use rushgate::reload::Source;
use rushgate::scheduling;
use rushgate::supervisor::Sockets;
use rushgate::telemetry;

/// What a claim allocates on its core is freed by the thread of the batches, which this allocator is made for.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    install_tls();
    match run() {
        Ok(exit) => exit.into(),
        Err(failure) => failure.tell().into(),
    }
}

fn run() -> Result<Exit, Failure> {
    let cli = Cli::read()?;
    let sources = cli.sources();
    let config = load_needed(&sources, cli.need())?;
    let log = &config.settings.log;
    let logs = telemetry::init(&log.filter, log.wants_json(io::stderr().is_terminal()))?;
    // This and the sockets before there are threads.
    if cli.serves() && config.settings.node.scheduling == Scheduling::Batch {
        scheduling::batch();
    }
    let handed = Sockets::handed().context("taking the sockets of LISTEN_FDS")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the threads")?;
    let source = Source { sources, logs, covered: config.covered.clone() };
    let done = runtime.block_on(cli.run(config, source, handed));
    // Work that nobody waits for any more, such as a simulation that took too long, must not keep the process.
    runtime.shutdown_background();
    done
}

/// The clients of all three servers take the process's provider; without one, the first connection over TLS panics.
fn install_tls() {
    let installed = rustls::crypto::ring::default_provider().install_default();
    installed.expect("nothing has run before, and nothing else installs a provider");
}
