//! Logs: text for people, JSON for machines, always on the standard error, since the standard output is a command's answer.
//!
//! While a backend is away, every batch of claims has the same to tell, hundreds of times in a second. So each place in the
//! source may warn only so often in a while; then its next warning is led by how many were left out. Errors are rare, and
//! never left out.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber as Traces};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, Subscriber};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// What one place may warn of in [`WHILE`].
const WARNINGS: u32 = 10;
const WHILE: Duration = Duration::from_secs(10);
/// Stands before the filter of the settings, which may say otherwise. The broker's client logs as errors, and several times,
/// what its link tells once as a warning.
const FIRST_FILTER: &str = "lapin=off";

/// The filter is none that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log.filter: {0}")]
pub struct BadFilter(String);

/// The logs of a process, whose filter may be changed. Cheap to clone. The default is of nobody's logs, and takes any filter.
#[derive(Clone, Default)]
pub struct Logs(Option<Arc<SetFilter>>);

type SetFilter = dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync;

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logs")
    }
}

impl Logs {
    /// Has them told by this filter from now on.
    pub fn set_filter(&self, filter: &str) -> Result<(), BadFilter> {
        let filter = parsed(filter)?;
        self.0.as_ref().map_or(Ok(()), |set| set(filter)).map_err(|why| BadFilter(why.to_string()))
    }
}

/// Sends the logs of this process to the standard error. A second call changes nothing: the first subscriber stays.
pub fn init(filter: &str, json: bool) -> Result<Logs, BadFilter> {
    let logs = Subscriber::builder().with_writer(io::stderr).with_env_filter(parsed(filter)?);
    Ok(if json {
        // What is said within a request's span carries its fields itself; see `lifted`.
        let logs = logs.json().flatten_event(true).with_current_span(false).with_span_list(false);
        let logs = logs.map_event_format(|format| Bounded::new(format, true));
        let logs = logs.with_filter_reloading();
        let handle = logs.reload_handle();
        Logs(logs.finish().try_init().is_ok().then(|| Arc::new(move |filter| handle.reload(filter)) as _))
    } else {
        let logs = logs.with_ansi(wants_colours()).map_event_format(|format| Bounded::new(format, false));
        let logs = logs.with_filter_reloading();
        let handle = logs.reload_handle();
        Logs(logs.finish().try_init().is_ok().then(|| Arc::new(move |filter| handle.reload(filter)) as _))
    })
}

fn parsed(filter: &str) -> Result<EnvFilter, BadFilter> {
    EnvFilter::try_new(format!("{FIRST_FILTER},{filter}")).map_err(|why| BadFilter(why.to_string()))
}

/// Colours are for a terminal, unless its user has asked for none.
fn wants_colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Leaves out warnings of which there are too many.
#[derive(Debug)]
struct Bounded<F> {
    format: F,
    json: bool,
    places: DashMap<Identifier, Place>,
}

/// A place in the source that warns.
#[derive(Debug)]
struct Place {
    /// When the current while began.
    since: Instant,
    said: u32,
    left_out: u64,
}

impl<F> Bounded<F> {
    fn new(format: F, json: bool) -> Self {
        Self { format, json, places: DashMap::new() }
    }

    /// May this be said? Then also how many before it were left out.
    fn admit(&self, event: &Metadata<'_>) -> Option<u64> {
        if *event.level() != Level::WARN {
            return Some(0);
        }
        let now = Instant::now();
        let fresh = || Place { since: now, said: 0, left_out: 0 };
        let mut place = self.places.entry(event.callsite()).or_insert_with(fresh);
        let left_out = place.left_out;
        if now.duration_since(place.since) >= WHILE {
            *place = fresh();
        }
        if place.said == WARNINGS {
            place.left_out += 1;
            return None;
        }
        place.said += 1;
        Some(if place.said == 1 { left_out } else { 0 })
    }

    fn write_left_out(&self, to: &mut Writer<'_>, event: &Metadata<'_>, left_out: u64) -> fmt::Result {
        let (level, target) = (event.level(), event.target());
        if self.json {
            to.write_str("{\"timestamp\":\"")?;
            SystemTime.format_time(to)?;
            let rest = format_args!("\"level\":\"{level}\",\"message\":\"left out what the next line says\"");
            return writeln!(to, "\",{rest},\"times\":{left_out},\"target\":\"{target}\"}}");
        }
        SystemTime.format_time(to)?;
        writeln!(to, "  {level} {target}: left out what the next line says times={left_out}")
    }
}

impl<S, N, F> FormatEvent<S, N> for Bounded<F>
where
    S: Traces + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(left_out) = self.admit(event.metadata()) else { return Ok(()) };
        if left_out > 0 {
            self.write_left_out(&mut to, event.metadata(), left_out)?;
        }
        if self.json && context.lookup_current().is_some() {
            let mut line = String::new();
            self.format.format_event(context, Writer::new(&mut line), event)?;
            return to.write_str(&lifted(context, &line).unwrap_or(line));
        }
        self.format.format_event(context, to, event)
    }
}

/// A line with the fields of its span, which are JSON too, before its own: a collector looks for them there. `None` if it has none.
fn lifted<S, N>(context: &FmtContext<'_, S, N>, line: &str) -> Option<String>
where
    S: Traces + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let span = context.lookup_current()?;
    let extensions = span.extensions();
    let fields = extensions.get::<FormattedFields<N>>()?.as_str();
    let fields = fields.strip_prefix('{')?.strip_suffix('}').filter(|fields| !fields.is_empty())?;
    Some(format!("{{{fields},{}", line.strip_prefix('{')?))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    /// Where the logs of a test go.
    #[derive(Debug, Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Sink {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    impl Sink {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(ToOwned::to_owned).collect()
        }
    }

    fn warn(what: u32) {
        tracing::warn!(what, "again");
    }

    async fn warn_too_often() {
        (0..100).for_each(warn);
        tracing::warn!("something else");
        (0..100).for_each(|what| tracing::error!(what, "an error"));
        tokio::time::advance(WHILE).await;
        (100..200).for_each(warn);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_warns_only_so_often_and_then_tells_how_often_it_did_not() {
        let sink = Sink::default();
        let logs = Subscriber::builder().with_writer(sink.clone()).with_ansi(false);
        let logs = logs.map_event_format(|format| Bounded::new(format, false)).finish();
        let _here = tracing::subscriber::set_default(logs);
        warn_too_often().await;
        let lines = sink.lines();
        assert_eq!(lines.iter().filter(|line| line.contains("again")).count(), 20);
        assert_eq!(lines.iter().filter(|line| line.contains("something else")).count(), 1);
        assert_eq!(lines.iter().filter(|line| line.contains("an error")).count(), 100);
        let told = lines.iter().position(|line| line.contains("times=90")).unwrap();
        assert!(lines[told + 1].contains("what=100"), "{:?}", &lines[told..]);
        assert_eq!(lines.len(), 20 + 1 + 100 + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_left_out_is_json_among_json() {
        let sink = Sink::default();
        let logs = Subscriber::builder().with_writer(sink.clone()).json().flatten_event(true);
        let logs = logs.map_event_format(|format| Bounded::new(format, true)).finish();
        let _here = tracing::subscriber::set_default(logs);
        warn_too_often().await;
        let lines = sink.lines().into_iter().map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap());
        let told: Vec<_> = lines.filter(|line| line["times"] == 90).collect();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0]["level"], "WARN");
        assert!(told[0]["timestamp"].is_string());
    }

    #[test]
    fn what_is_said_within_a_request_carries_its_trace() {
        let sink = Sink::default();
        let logs = Subscriber::builder().with_writer(sink.clone()).json().flatten_event(true);
        let logs = logs.with_current_span(false).with_span_list(false);
        let logs = logs.map_event_format(|format| Bounded::new(format, true)).finish();
        let _here = tracing::subscriber::set_default(logs);
        tracing::error_span!("request", trace_id = "4bf9").in_scope(|| tracing::info!(n = 1, "within"));
        tracing::info!("without");
        let lines: Vec<serde_json::Value> =
            sink.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (&lines[0]["trace_id"], &lines[0]["message"], &lines[0]["n"]),
            (&"4bf9".into(), &"within".into(), &1.into())
        );
        assert_eq!((&lines[1]["trace_id"], &lines[1]["message"]), (&serde_json::Value::Null, &"without".into()));
    }

    #[test]
    fn logs_may_be_asked_for_twice() {
        assert!(init("off", false).is_ok());
        assert!(init("off", true).is_ok());
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error_of_the_configuration() {
        let why = init("info,rushgate=lowd", false).unwrap_err();
        assert!(why.to_string().starts_with("log.filter: "), "{why}");
    }
}
