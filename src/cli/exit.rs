//! How a command ends, and what the shell is told about it.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::config::Problems;
use crate::telemetry::BadFilter;

/// What the shell is told. Scripts hold on to these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    /// The audit found a broken invariant.
    Broken = 2,
    /// The command line cannot be understood.
    Usage = 64,
    /// The configuration is wrong; nothing was begun.
    Config = 78,
}

impl Exit {
    /// What was found stands, whether it could be told or not: a reader that left makes nothing true.
    pub fn after<T>(self, told: Result<T, Failure>) -> Result<Self, Failure> {
        match (self, told) {
            (exit, Ok(_)) => Ok(exit),
            (Self::Done, Err(why)) => Err(why),
            (exit, Err(why)) => {
                why.tell();
                Ok(exit)
            }
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do its work.
#[derive(Debug)]
pub enum Failure {
    /// Also what a call for help or for the version ends with.
    Usage(clap::Error),
    Config(String),
    Failed(anyhow::Error),
}

impl Failure {
    /// A command line that can be parsed and still makes no sense.
    pub fn usage(message: impl std::fmt::Display) -> Self {
        // Without the usage: the parser would tell that of the whole program, and not of the command.
        let told = format!("{message}\n\nFor more information, try '--help'.\n");
        Self::Usage(clap::Error::raw(ErrorKind::ValueValidation, told))
    }

    /// Tells the user, and what to tell the shell.
    pub fn tell(&self) -> Exit {
        match self {
            Self::Usage(help) if !help.use_stderr() => {
                let _reader_left = help.print();
                Exit::Done
            }
            Self::Usage(error) => {
                let _reader_left = error.print();
                Exit::Usage
            }
            Self::Config(problems) => {
                let _reader_left = writeln!(io::stderr(), "rushgate: {problems}");
                Exit::Config
            }
            Self::Failed(error) if is_closed_pipe(error) => Exit::Done,
            Self::Failed(error) => {
                let _reader_left = writeln!(io::stderr(), "rushgate: {error:#}");
                Exit::Failed
            }
        }
    }
}

/// Whoever reads our output, such as `head`, has read enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        Self::Usage(error)
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Config(problems.to_string())
    }
}

impl From<BadFilter> for Failure {
    fn from(filter: BadFilter) -> Self {
        Self::Config(filter.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_uses_a_command_wrongly_is_not_told_how_to_use_the_program() {
        let Failure::Usage(error) = Failure::usage("that is odd") else { panic!("must be wrong usage") };
        assert_eq!(error.to_string(), "error: that is odd\n\nFor more information, try '--help'.\n");
    }

    #[test]
    fn what_was_found_stands_though_the_reader_left_or_the_disk_is_full() {
        let told = |kind: io::ErrorKind| Err::<(), _>(Failure::from(io::Error::from(kind)));
        let shell = |exit: Exit, kind| exit.after(told(kind)).unwrap_or_else(|why| why.tell());
        for (exit, closed, full) in [
            (Exit::Done, Exit::Done, Exit::Failed),
            (Exit::Failed, Exit::Failed, Exit::Failed),
            (Exit::Broken, Exit::Broken, Exit::Broken),
        ] {
            assert_eq!(shell(exit, io::ErrorKind::BrokenPipe), closed, "{exit:?}");
            assert_eq!(shell(exit, io::ErrorKind::StorageFull), full, "{exit:?}");
        }
    }
}
