//! `rushgate config`: what the settings are, where they come from, and what is wrong with them.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::online::{Probe, probe};
use crate::cli::{Exit, Failure};
use crate::config::show::{template, template_document};
use crate::config::{Key, Loaded};

/// Validate the settings, print them with their origin, explain a key.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rushgate config check --config shop.toml --online")]
pub(super) struct Config {
    #[command(subcommand)]
    command: Command,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    json: bool,
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
  rushgate config show --config shop.toml | grep -v '# default'
  rushgate config show --config shop.toml --json")]
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
        let (text, document, exit) = match self.command {
            Command::Check { online } => {
                let probes = if online { probe(&loaded.settings).await } else { Vec::new() };
                let exit = if probes.iter().all(|probe| probe.outcome.is_ok()) { Exit::Done } else { Exit::Failed };
                let told = file.as_ref().map(|file| format!(" in {}", file.display())).unwrap_or_default();
                let set = loaded.set_keys();
                let mut text = format!("The configuration{told} is right; {set} keys are set.\n");
                text.extend(probes.iter().map(told_probe));
                let servers: Vec<_> = probes.iter().map(probe_document).collect();
                (text, json!({"file": file, "right": true, "set_keys": set, "servers": servers}), exit)
            }
            Command::Show => (loaded.show(), loaded.document(), Exit::Done),
            Command::Explain { key } => {
                let key = key.as_deref();
                let explained = loaded.explain(key).zip(loaded.explain_document(key));
                let (text, document) = explained.ok_or_else(|| unknown(key.unwrap_or_default()))?;
                (text, document, Exit::Done)
            }
            Command::Template => (template(), template_document(), Exit::Done),
        };
        let text = if self.json { format!("{document:#}\n") } else { text };
        io::stdout().write_all(text.as_bytes())?;
        Ok(exit)
    }
}

fn told_probe(probe: &Probe) -> String {
    match &probe.outcome {
        Ok(time) => format!("{}: {} can be reached ({time:.1?})\n", probe.key, probe.target),
        Err(why) => format!("{}: {} cannot be reached: {why}\n", probe.key, probe.target),
    }
}

fn probe_document(probe: &Probe) -> Value {
    let seconds = probe.outcome.as_ref().ok().map(std::time::Duration::as_secs_f64);
    let why = probe.outcome.as_ref().err();
    json!({"key": probe.key, "server": probe.target, "reached": why.is_none(), "seconds": seconds, "why": why})
}

fn unknown(key: &str) -> Failure {
    Failure::usage(format!("unknown key `{key}`; the nearest is `{}`", Key::nearest(key)))
}
