//! `rushgate config`: what the settings are, where they come from, and what is wrong with them.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::online::probe;
use crate::cli::{Exit, Failure};
use crate::config::show::template;
use crate::config::{Key, Loaded};

/// Validate the settings, print them with their origin, explain a key.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rushgate config check --config shop.toml --online")]
pub(super) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say everything that is wrong, each with its place; exit with 78 if anything is.
    #[command(after_help = "Example:
  rushgate config check --config shop.toml
  rushgate config check --config shop.toml --online")]
    Check {
        /// Also try whether each configured server can be reached; exit with 1 if one cannot.
        #[arg(long)]
        online: bool,
    },
    /// Print every key with its effective value and where that comes from; no secrets.
    #[command(after_help = "Example:
  rushgate config show --config shop.toml | grep -v '# default'")]
    Show,
    /// Explain a key, the keys of a section, or all: its reason, what it may be, its default, its variable, whether a reload takes it.
    #[command(after_help = "Example:
  rushgate config explain shard.buffer
  rushgate config explain inventory")]
    Explain {
        /// Such as shard.buffer, or shard for all its keys.
        key: Option<String>,
    },
    /// Print a whole config file: every key with its default and its reason.
    #[command(after_help = "Example:
  rushgate config template > shop.toml")]
    Template,
}

impl Config {
    pub(super) async fn run(self, loaded: Loaded, file: Option<PathBuf>) -> Result<Exit, Failure> {
        let mut out = io::stdout();
        match self.command {
            Command::Check { online } => {
                let file = file.map(|file| format!(" in {}", file.display())).unwrap_or_default();
                writeln!(out, "The configuration{file} is right; {} keys are set.", loaded.set_keys())?;
                if online {
                    return check_online(&loaded, &mut out).await;
                }
            }
            Command::Show => write!(out, "{}", loaded.show())?,
            Command::Explain { key } => {
                let text = loaded.explain(key.as_deref()).ok_or_else(|| unknown(key.as_deref().unwrap_or_default()))?;
                write!(out, "{text}")?;
            }
            Command::Template => write!(out, "{}", template())?,
        }
        Ok(Exit::Done)
    }
}

async fn check_online(loaded: &Loaded, out: &mut impl Write) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    for probe in probe(&loaded.settings).await {
        match probe.outcome {
            Ok(time) => writeln!(out, "{}: {} can be reached ({time:.1?})", probe.key, probe.target)?,
            Err(why) => {
                exit = Exit::Failed;
                writeln!(out, "{}: {} cannot be reached: {why}", probe.key, probe.target)?;
            }
        }
    }
    Ok(exit)
}

fn unknown(key: &str) -> Failure {
    Failure::usage(format!("unknown key `{key}`; the nearest is `{}`", Key::nearest(key)))
}
