//! `rushgate completions`: what a shell completes a command line with.

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::{Cli, Exit, Failure};

/// Print the completions of a shell; it reads them from a file, or anew when it starts.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rushgate completions bash > /etc/bash_completion.d/rushgate
  rushgate completions zsh > /usr/local/share/zsh/site-functions/_rushgate
  rushgate completions fish > ~/.config/fish/completions/rushgate.fish
  rushgate completions powershell >> $PROFILE
  rushgate completions elvish >> ~/.config/elvish/rc.elv")]
pub(super) struct Completions {
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "rushgate", &mut script);
        io::stdout().write_all(&script)?;
        Ok(Exit::Done)
    }
}
