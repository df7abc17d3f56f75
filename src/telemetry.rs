//! Logs: text for people, JSON for machines, always on the standard error, since the standard output is a command's answer.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::Subscriber;
use tracing_subscriber::util::SubscriberInitExt;

/// The filter is none that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log.filter: {0}")]
pub struct BadFilter(String);

/// Sends the logs of this process to the standard error. A second call changes nothing: the first subscriber stays.
pub fn init(filter: &str, json: bool) -> Result<(), BadFilter> {
    let filter = EnvFilter::try_new(filter).map_err(|why| BadFilter(why.to_string()))?;
    let logs = Subscriber::builder().with_env_filter(filter).with_writer(io::stderr);
    let _already_there = if json {
        logs.json().flatten_event(true).finish().try_init()
    } else {
        logs.with_ansi(wants_colours()).finish().try_init()
    };
    Ok(())
}

/// Colours are for a terminal, unless its user has asked for none.
fn wants_colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_may_be_asked_for_twice() {
        assert_eq!(init("off", false), Ok(()));
        assert_eq!(init("off", true), Ok(()));
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error_of_the_configuration() {
        let why = init("info,rushgate=lowd", false).unwrap_err();
        assert!(why.to_string().starts_with("log.filter: "), "{why}");
    }
}
