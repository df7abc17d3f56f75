//! The benchmark of Rushgate. `loadtest/bench` builds all that it needs, starts private servers, and calls this.
//!
//! - `load`: the load generator, a process of its own, so that its CPU is counted apart
//! - `peers`: what ours is measured against, each a process of its own too
//! - `bench`: who starts what, in which order, and what is made of the figures

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod load;
mod peers;

/// Measures Rushgate against its peers, all in one run.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(bench::Options),
    Load(load::Options),
    Peer(peers::Options),
}

/// As ours has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::print_stderr, reason = "this is how a program says why it failed")]
fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rushgate-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        // One thread: it waits more than it works.
        Command::Run(options) => {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(bench::run(options))
        }
        Command::Load(options) => load::run(&options),
        Command::Peer(options) => peers::run(options),
    }
}
