//! The command line: arguments in, an exit code out.
//!
//! A command is a file with a struct of its arguments, an example of its use, and a `run`. To add one: a variant of `Command`
//! and an arm in [`Cli::run`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Flag, Loaded, Need, Sources};
use crate::reload::Source;
use crate::supervisor::Sockets;

mod audit;
mod completions;
mod config;
mod dead_letters;
mod doctor;
mod exit;
mod man;
mod migrate;
mod online;
mod plan;
mod progress;
mod ready;
mod rehearse;
mod remote;
mod sale;
mod serve;
mod top;

pub use exit::{Exit, Failure};

/// A flash-sale ticket gateway: sells exactly what there is, at the speed of memory, and loses no accepted order.
#[derive(Debug, Parser)]
#[command(name = "rushgate", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Example:
  rushgate serve                                 everything in one process, a sample sale open
  rushgate serve --config config/gateway.toml    one gateway of several

Exit codes: 0 done, 1 failed, 2 the audit found a broken invariant, 64 wrong usage, 78 wrong config.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Migrate(migrate::Migrate),
    Config(config::Config),
    Sale(sale::Sale),
    Audit(audit::Audit),
    Ready(ready::Ready),
    Plan(plan::Plan),
    Rehearse(rehearse::Rehearse),
    DeadLetters(dead_letters::DeadLetters),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    Man(man::ManPages),
    Top(top::Top),
}

/// Where the settings come from; the same for every command.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// Read the settings from this TOML file; without it, the defaults run everything in one process.
    #[arg(long, global = true, value_name = "FILE", env = "RUSHGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Set one key, above file and environment; may be repeated.
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE", value_parser = set_flag)]
    set: Vec<Flag>,
}

impl Cli {
    /// Reads the arguments of this process. A call for help ends here too.
    pub fn read() -> Result<Self, Failure> {
        Ok(Self::try_parse()?)
    }

    /// Where the settings that the command works with come from.
    pub fn sources(&self) -> Sources {
        let mut flags = self.config.set.clone();
        if let Command::Serve(serve) = &self.command {
            flags.extend(serve.flags());
        }
        let mut sources = Sources::of_process(self.config.config.clone(), flags);
        if matches!(self.need(), Need::Section(_) | Need::Readable(_)) {
            // The environment of a shell may have the URLs of a deployment and not its config file, which makes no sense to a process that
            // serves.
            sources.env.retain(|(name, _)| name.to_string_lossy().starts_with(remote::SETTINGS));
        }
        if matches!(self.command, Command::Plan(_)) {
            // It simulates with what concerns shards and batches, and serves nothing.
            let is_used =
                |name: &std::ffi::OsStr| plan::SETTINGS.iter().any(|used| name.to_string_lossy().starts_with(used));
            sources.env.retain(|(name, _)| is_used(name));
        }
        sources
    }

    /// How much of its settings has to be right.
    ///
    /// Who asks another process needs only where its admin API is. A health check must hear of a process that sells on although its file has
    /// become a wrong one; whoever changes something must not ask another process than is meant, because the file could not be read.
    pub fn need(&self) -> Need {
        match self.command {
            Command::Ready(_) => Need::Readable(remote::SECTION),
            Command::Doctor(_) | Command::Completions(_) | Command::Man(_) => Need::Anything,
            Command::Sale(_) | Command::Audit(_) | Command::DeadLetters(_) | Command::Top(_) | Command::Rehearse(_) => {
                Need::Section(remote::SECTION)
            }
            Command::Serve(_) | Command::Migrate(_) | Command::Config(_) | Command::Plan(_) => Need::Whole,
        }
    }

    /// Does it serve, as a gateway or a writer?
    pub fn serves(&self) -> bool {
        matches!(self.command, Command::Serve(_))
    }

    /// Runs it with what was loaded from there. `handed`: sockets from a supervisor, for the command that serves.
    pub async fn run(self, loaded: Loaded, source: Source, handed: Sockets) -> Result<Exit, Failure> {
        match self.command {
            Command::Serve(serve) => serve.run(loaded, source, handed).await,
            Command::Migrate(migrate) => migrate.run(loaded).await,
            Command::Config(config) => config.run(loaded, self.config.config).await,
            Command::Sale(sale) => sale.run(loaded).await,
            Command::Audit(audit) => audit.run(loaded).await,
            Command::Ready(ready) => ready.run(loaded).await,
            Command::Plan(plan) => plan.run(loaded).await,
            Command::Rehearse(rehearse) => rehearse.run(loaded).await,
            Command::DeadLetters(letters) => letters.run(loaded).await,
            Command::Doctor(doctor) => doctor.run(source).await,
            Command::Completions(completions) => completions.run(),
            Command::Man(pages) => pages.run(),
            Command::Top(top) => top.run(loaded).await,
        }
    }
}

fn set_flag(text: &str) -> Result<Flag, String> {
    let (path, value) = text.split_once('=').ok_or("expected SECTION.KEY=VALUE")?;
    Ok(Flag { name: "--set".to_owned(), path: path.trim().to_owned(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_keeps_the_rules_of_its_parser() {
        Cli::command().debug_assert();
    }

    /// Every command that does something, such as `sale open`, with the flags that it takes.
    fn leaves() -> Vec<(String, Vec<String>)> {
        fn collect(command: &clap::Command, path: &str, leaves: &mut Vec<(String, Vec<String>)>) {
            let mut below = command.get_subcommands().filter(|below| below.get_name() != "help").peekable();
            if below.peek().is_none() {
                let flags = command.get_arguments().filter_map(clap::Arg::get_long).map(str::to_owned).collect();
                leaves.push((path.trim_start().to_owned(), flags));
            }
            below.for_each(|below| collect(below, &format!("{path} {}", below.get_name()), leaves));
        }
        let mut command = Cli::command();
        command.build();
        let mut leaves_of_all = Vec::new();
        collect(&command, "", &mut leaves_of_all);
        assert!(leaves_of_all.len() > 20, "{leaves_of_all:?}");
        leaves_of_all
    }

    /// What these print is for another program already.
    const NO_ANSWER: &[&str] = &["completions", "man"];

    /// What these do can be done again without anybody noticing, or is written where the user says.
    const CHANGES_NOTHING: &[&str] = &[
        "serve",
        "config check",
        "config show",
        "config explain",
        "config template",
        "sale list",
        "sale show",
        "sale balance",
        "sale why",
        "ready",
        "plan",
        "dead-letters list",
        "dead-letters show",
        "doctor",
        "top",
        "completions",
        "man",
    ];

    #[test]
    fn every_command_that_prints_an_answer_prints_it_as_json_too() {
        let has_json = |flags: &[String]| flags.iter().any(|flag| flag == "json");
        let without: Vec<_> =
            leaves().into_iter().filter(|(_, flags)| !has_json(flags)).map(|(path, _)| path).collect();
        assert_eq!(without, NO_ANSWER);
    }

    #[test]
    fn every_command_that_changes_something_can_be_tried_first() {
        let has_dry_run = |flags: &[String]| flags.iter().any(|flag| flag == "dry-run");
        let without: Vec<_> =
            leaves().into_iter().filter(|(_, flags)| !has_dry_run(flags)).map(|(path, _)| path).collect();
        let (mut without, mut expected) = (without, CHANGES_NOTHING.to_vec());
        without.sort_unstable();
        expected.sort_unstable();
        assert_eq!(without, expected);
    }

    #[test]
    fn the_help_of_every_command_has_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example:\n  rushgate "), "{}", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
