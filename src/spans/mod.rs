//! Spans: how long a piece of work took, and to whose trace it belongs.
//!
//! A [`TraceContext`] comes with a request, goes with its order through confirm and the queue, and ends at the writer. It costs nobody
//! anything who brings none. Spans are told only where a collector is configured, which takes a build with the feature `otlp`; without,
//! contexts are passed on all the same, and log lines name their trace.
//!
//! Most work is done for many at once: one call of the inventory, one message, one transaction. So its span stands in the trace of the
//! first of them, and has a link to each. Spans are told when they are over, into a channel that drops what it cannot take: to be seen is
//! no reason to wait.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::live::Live;
use crate::config::settings;
use crate::domain::{NodeId, SpanId, TraceContext, TraceId};
use crate::meters::{Counter, Meters};
use crate::shutdown::Shutdown;

#[cfg(feature = "otlp")]
mod otlp;

/// Spans that may wait to be exported. At some 500 bytes each, a megabyte.
const WAITING_SPANS: usize = 2048;
/// Links of one span, at most.
const MOST_LINKS: usize = 64;

/// Takes spans, and says which requests have one. Cheap to clone; the default takes none.
#[derive(Clone, Default)]
pub struct Spans(Option<Arc<Recorder>>);

struct Recorder {
    /// Of the requests that come without a context, how many begin a trace: from 0 to 1.
    ratio: Live<f64>,
    waiting: mpsc::Sender<Span>,
    dropped: Counter,
}

/// A piece of work that is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub name: String,
    pub kind: Kind,
    pub context: TraceContext,
    /// `None`: its trace begins with it.
    pub parent: Option<SpanId>,
    pub links: Vec<TraceContext>,
    pub began: SystemTime,
    pub took: Duration,
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it did not do what it should have done, if so.
    pub failed: Option<String>,
}

/// What a span is to those on the other side of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Answers who asks from outside.
    Server,
    /// Asks a backend.
    Client,
    /// Sends what another process takes up later.
    Producer,
    /// Takes up what another process has sent.
    Consumer,
}

/// An attribute's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
}

/// A request that belongs to a trace.
#[derive(Debug)]
pub struct Traced {
    /// The parent of all that is done for it.
    pub context: Arc<TraceContext>,
    /// `None`: no span is told of it.
    beginning: Option<Beginning>,
}

/// How a span began.
#[derive(Debug)]
struct Beginning {
    parent: Option<SpanId>,
    began: SystemTime,
    since: Instant,
}

/// A piece of work that goes on. It is told when it is [done](Self::done).
#[derive(Debug)]
pub struct Work<'a> {
    spans: &'a Spans,
    /// `None`: none of those that it is done for is recorded.
    span: Option<(Span, Instant)>,
}

/// Opens the way to the collector of these settings, if they name one. It ends with the shutdown: what waits then is still exported.
pub fn open(
    settings: &settings::Trace,
    ratio: &Live<f64>,
    node: &NodeId,
    (meters, shutdown): (&Meters, &Shutdown),
) -> Result<Spans, BadEndpoint> {
    if settings.otlp_endpoint.is_empty() {
        return Ok(Spans::default());
    }
    let (spans, waiting) = Spans::bounded(WAITING_SPANS, ratio.clone(), meters);
    export(waiting, &settings.otlp_endpoint, node, (meters, shutdown)).map_err(BadEndpoint)?;
    Ok(spans)
}

#[cfg(feature = "otlp")]
use otlp::export;

/// The rules of the configuration let no process come here.
#[cfg(not(feature = "otlp"))]
fn export(_: mpsc::Receiver<Span>, _: &settings::ServerUrl, _: &NodeId, _: (&Meters, &Shutdown)) -> Result<(), String> {
    Err("this build has no feature otlp".to_owned())
}

/// No collector can be reached in this way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("trace.otlp_endpoint: {0}")]
pub struct BadEndpoint(String);

impl Spans {
    /// Spans for whoever takes them from the other end; so many may wait there.
    pub fn bounded(waiting: usize, ratio: Live<f64>, meters: &Meters) -> (Self, mpsc::Receiver<Span>) {
        let (sender, receiver) = mpsc::channel(waiting);
        let dropped = meters.counter("rushgate_spans_dropped_total", &[]);
        (Self(Some(Arc::new(Recorder { ratio, waiting: sender, dropped }))), receiver)
    }

    /// What a request belongs to that came with this context. One that came with none begins a trace if it is drawn for that, and `may_begin`.
    pub fn enter(&self, came: Option<TraceContext>, may_begin: impl FnOnce() -> bool) -> Option<Traced> {
        let (context, parent) = match (came, &self.0) {
            (None, None) => return None,
            (None, Some(recorder)) => {
                let is_drawn = fastrand::f64() < recorder.ratio.get() && may_begin();
                if !is_drawn {
                    return None;
                }
                (TraceContext::root(fresh_trace(), fresh_span()), None)
            }
            (Some(parent), Some(_)) if parent.is_sampled() => (parent.below(fresh_span()), Some(parent.span)),
            (Some(context), _) => return Some(Traced { context: Arc::new(context), beginning: None }),
        };
        let beginning = Some(Beginning { parent, began: now(), since: Instant::now() });
        Some(Traced { context: Arc::new(context), beginning })
    }

    /// Begins a piece of work that is done for all of these.
    pub fn work<'c>(&self, name: &str, kind: Kind, of: impl IntoIterator<Item = &'c TraceContext>) -> Work<'_> {
        let recorded = self.0.is_some();
        let mut of = of.into_iter().filter(|context| recorded && context.is_sampled()).take(MOST_LINKS).peekable();
        let span = of.peek().map(|first| (first.below(fresh_span()), first.span)).map(|(context, parent)| Span {
            name: name.to_owned(),
            kind,
            context,
            parent: Some(parent),
            links: of.cloned().collect(),
            began: now(),
            took: Duration::ZERO,
            attributes: Vec::new(),
            failed: None,
        });
        Work { spans: self, span: span.map(|span| (span, Instant::now())) }
    }

    fn tell(&self, span: Span) {
        if let Some(recorder) = &self.0
            && recorder.waiting.try_send(span).is_err()
        {
            recorder.dropped.increment(1);
        }
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Spans" } else { "Spans(none)" })
    }
}

impl Traced {
    /// Is a span told of it?
    pub fn is_recorded(&self) -> bool {
        self.beginning.is_some()
    }

    /// Tells that it was answered.
    pub fn answered(self, spans: &Spans, name: String, attributes: Vec<(&'static str, Value)>, failed: Option<String>) {
        let Some(Beginning { parent, began, since }) = self.beginning else { return };
        let context = Arc::unwrap_or_clone(self.context);
        let (kind, links, took) = (Kind::Server, Vec::new(), since.elapsed());
        spans.tell(Span { name, kind, context, parent, links, began, took, attributes, failed });
    }
}

impl Work<'_> {
    /// With an attribute.
    pub fn with(mut self, name: &'static str, value: impl FnOnce() -> Value) -> Self {
        if let Some((span, _)) = &mut self.span {
            span.attributes.push((name, value()));
        }
        self
    }

    /// Tells how it went.
    pub fn done<T, E: fmt::Display>(self, result: &Result<T, E>) {
        if let Some((mut span, since)) = self.span {
            span.took = since.elapsed();
            span.failed = result.as_ref().err().map(ToString::to_string);
            self.spans.tell(span);
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

/// The traces of these contexts for a log line, so many of them as one can be read with; `None` if there are none.
pub fn told<'c>(contexts: impl IntoIterator<Item = &'c TraceContext>) -> Option<String> {
    let traces: Vec<_> = contexts.into_iter().take(8).map(|context| context.trace.to_string()).collect();
    (!traces.is_empty()).then(|| traces.join(","))
}

fn fresh_trace() -> TraceId {
    TraceId(fastrand::u128(1..).to_be_bytes())
}

fn fresh_span() -> SpanId {
    SpanId(fastrand::u64(1..).to_be_bytes())
}

/// When a span began is told in the time of this machine, as everybody else's spans are.
#[expect(
    clippy::disallowed_methods,
    reason = "a span's beginning decides nothing, and a Clock has no more than milliseconds"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const NOT_SAMPLED: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn context(parent: &[u8]) -> TraceContext {
        TraceContext::read(parent, []).expect("a context")
    }

    fn root() -> TraceContext {
        TraceContext::root(fresh_trace(), fresh_span())
    }

    fn spans(waiting: usize, ratio: f64) -> (Spans, mpsc::Receiver<Span>, Meters) {
        let meters = Meters::new();
        let (spans, told) = Spans::bounded(waiting, Live::new(ratio), &meters);
        (spans, told, meters)
    }

    fn answered(spans: &Spans, came: Option<TraceContext>) -> Option<Arc<TraceContext>> {
        let traced = spans.enter(came, || true)?;
        let context = Arc::clone(&traced.context);
        traced.answered(spans, "GET /".to_owned(), vec![("n", 1_u16.into())], None);
        Some(context)
    }

    #[tokio::test]
    async fn a_request_of_a_recorded_trace_is_a_span_below_its_parent() {
        let (spans, mut told, _) = spans(8, 0.0);
        let below = answered(&spans, Some(context(SAMPLED))).unwrap();
        let span = told.try_recv().unwrap();
        assert_eq!((&span.context, span.kind), (&*below, Kind::Server));
        assert_eq!((span.context.trace, span.parent), (context(SAMPLED).trace, Some(context(SAMPLED).span)));
        assert_ne!(Some(span.context.span), span.parent);
        assert_eq!(span.attributes, [("n", Value::Number(1))]);
    }

    #[tokio::test]
    async fn a_trace_that_is_not_recorded_is_known_and_tells_nothing() {
        let (spans, mut told, _) = spans(8, 1.0);
        assert_eq!(*answered(&spans, Some(context(NOT_SAMPLED))).unwrap(), context(NOT_SAMPLED));
        spans.work("work", Kind::Client, &[context(NOT_SAMPLED)]).done(&Ok::<(), String>(()));
        assert!(told.try_recv().is_err());
        // Nobody records: a context is passed on as it came.
        let nowhere = Spans::default();
        assert_eq!(*answered(&nowhere, Some(context(SAMPLED))).unwrap(), context(SAMPLED));
        assert_eq!(answered(&nowhere, None), None);
    }

    #[tokio::test]
    async fn of_those_who_bring_no_trace_the_ratio_begins_one() {
        for (ratio, may_begin, begun) in [(0.0, true, false), (1.0, true, true), (1.0, false, false)] {
            let (spans, _told, _) = spans(8, ratio);
            let traced = spans.enter(None, || may_begin);
            assert_eq!(traced.is_some_and(|traced| traced.is_recorded()), begun, "{ratio} {may_begin}");
        }
        let (spans, mut told, _) = spans(8, 1.0);
        answered(&spans, None);
        assert_eq!(told.try_recv().unwrap().parent, None);
    }

    #[tokio::test]
    async fn work_for_many_stands_in_the_first_trace_and_is_linked_to_each() {
        let (spans, mut told, _) = spans(8, 0.0);
        let contexts = [context(NOT_SAMPLED), root(), root()];
        let failed = Err::<(), _>("it is away");
        spans.work("call", Kind::Client, &contexts).with("claims", || 3_usize.into()).done(&failed);
        let span = told.try_recv().unwrap();
        assert_eq!((span.context.trace, span.parent), (contexts[1].trace, Some(contexts[1].span)));
        assert_eq!(span.links, contexts[1..]);
        assert_eq!(span.failed.as_deref(), Some("it is away"));
        let many: Vec<_> = (0..2 * MOST_LINKS).map(|_| root()).collect();
        spans.work("call", Kind::Client, &many).done(&Ok::<(), String>(()));
        assert_eq!(told.try_recv().unwrap().links.len(), MOST_LINKS);
    }

    #[tokio::test]
    async fn a_span_that_nobody_takes_is_dropped_and_counted() {
        let (spans, _told, meters) = spans(2, 1.0);
        for _ in 0..5 {
            answered(&spans, None);
        }
        assert!(meters.render().contains("rushgate_spans_dropped_total 3\n"), "{}", meters.render());
    }

    #[cfg(not(feature = "otlp"))]
    #[tokio::test]
    async fn an_endpoint_is_an_error_in_a_build_that_exports_nothing() {
        let settings = settings::Trace { otlp_endpoint: "http://127.0.0.1:4318".into(), sample_ratio: 0.0 };
        let (meters, shutdown) = (Meters::new(), Shutdown::new());
        let opened = open(&settings, &Live::new(0.0), &"n".parse().unwrap(), (&meters, &shutdown));
        assert!(opened.unwrap_err().to_string().starts_with("trace.otlp_endpoint: "));
    }
}
