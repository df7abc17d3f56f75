//! Logs: text for people, JSON for machines, always on the standard error, since the standard output is a command's answer.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::Subscriber;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::settings::{Log, LogFormat};

/// The filter is none that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log.filter: {0}")]
pub struct BadFilter(String);

/// Sends the logs of this process to the standard error. A second call changes nothing: the first subscriber stays.
pub fn init(log: &Log) -> Result<(), BadFilter> {
    let filter = EnvFilter::try_new(&log.filter).map_err(|why| BadFilter(why.to_string()))?;
    let terminal = io::stderr().is_terminal();
    let logs = Subscriber::builder().with_env_filter(filter).with_writer(io::stderr);
    let _already_there = match log.format {
        LogFormat::Auto if !terminal => logs.json().flatten_event(true).finish().try_init(),
        LogFormat::Json => logs.json().flatten_event(true).finish().try_init(),
        // Colours are for a terminal, unless its user has asked for none.
        LogFormat::Auto | LogFormat::Text => logs.with_ansi(terminal && wants_colours()).finish().try_init(),
    };
    Ok(())
}

fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_may_be_asked_for_twice() {
        let log = Log { format: LogFormat::Auto, filter: "off".to_owned() };
        assert_eq!(init(&log), Ok(()));
        assert_eq!(init(&Log { format: LogFormat::Json, ..log }), Ok(()));
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error_of_the_configuration() {
        let why = init(&Log { format: LogFormat::Text, filter: "info,rushgate=lowd".to_owned() }).unwrap_err();
        assert!(why.to_string().starts_with("log.filter: "), "{why}");
    }
}
