//! `rushgate man`: the manual, a page for the program and one for each command.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_mangen::Man;

use crate::cli::{Cli, Exit, Failure};

/// Print the manual page of the program, or write all pages, one for each command, into a folder.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rushgate man | man -l -
  rushgate man --dir /usr/local/share/man/man1")]
pub(super) struct ManPages {
    /// Write rushgate.1, rushgate-serve.1 and so on there; the folder is made if it is missing.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl ManPages {
    pub(super) fn run(&self) -> Result<Exit, Failure> {
        let Some(dir) = &self.dir else {
            let mut page = Vec::new();
            Man::new(Cli::command().disable_help_subcommand(true)).render(&mut page)?;
            io::stdout().write_all(&page)?;
            return Ok(Exit::Done);
        };
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        clap_mangen::generate_to(Cli::command(), dir).with_context(|| format!("cannot write to {}", dir.display()))?;
        writeln!(io::stdout(), "wrote the pages to {}", dir.display())?;
        Ok(Exit::Done)
    }
}
