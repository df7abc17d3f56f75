//! Where values come from, and what is wrong with them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Default,
    /// Line and column count from 1; 0 is the file as a whole.
    File {
        path: Arc<Path>,
        line: usize,
        column: usize,
    },
    /// The variable's name.
    Env(String),
    /// The flag's name.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0, .. } => write!(f, "{}", path.display()),
            Self::File { path, line, .. } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A value that was given and does not count, since a source above says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    pub key: String,
    /// As it stands in a file, without what must not be seen.
    pub value: String,
    pub at: Origin,
    /// Whose word counts.
    pub by: Origin,
}

impl Covered {
    /// Is it the same, wherever it stands in its file?
    pub fn is_known_as(&self, other: &Self) -> bool {
        (&self.key, &self.value, &self.by) == (&other.key, &other.value, &other.by)
    }
}

impl fmt::Display for Covered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} in {} is covered by {}", self.key, self.value, self.at, self.by)
    }
}

/// One thing that is wrong with the configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub at: Origin,
    pub message: String,
}

impl Problem {
    /// Where it is, as compilers print it, so that editors find the place.
    pub fn place(&self) -> String {
        match &self.at {
            Origin::File { column, line: 1.., .. } => format!("{}:{column}", self.at),
            at => at.to_string(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.message)
    }
}

/// All that is wrong with the configuration, in the order of the sources. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} error{}", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}
