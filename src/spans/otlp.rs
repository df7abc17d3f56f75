//! Spans to an OpenTelemetry collector: OTLP over HTTP, protobuf, in batches.
//!
//! One task exports, one batch at a time, and each has its time. While a collector is away or slow, what does not fit into the channel
//! is dropped by whoever tells it, and what cannot be exported is dropped here; both are counted, and the log says so once.
//!
//! Batches, bounds and drops are ours and not the SDK's: its processor has a thread of its own, and tells nobody what it has dropped.

use std::time::Duration;

use opentelemetry::trace::{Link, SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::config::settings::ServerUrl;
use crate::domain::{NodeId, TraceContext};
use crate::meters::{Counter, Meters};
use crate::shutdown::Shutdown;
use crate::spans::{Kind, Span, Value};

/// Spans in one call, at most.
const BATCH_SPANS: usize = 512;
/// How long a span waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// How long a call may take. It is not tried again: there are newer spans.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// Exports what waits to this collector, until the shutdown, and then the rest.
pub(super) fn export(
    waiting: mpsc::Receiver<Span>,
    endpoint: &ServerUrl,
    node: &NodeId,
    (meters, shutdown): (&Meters, &Shutdown),
) -> Result<(), String> {
    let exporter = Exporter::new(endpoint, node, meters)?;
    shutdown.spawn(exporter.run(waiting, shutdown.clone()));
    Ok(())
}

/// The way to a collector.
#[derive(Debug)]
struct Exporter {
    collector: SpanExporter,
    endpoint: String,
    scope: InstrumentationScope,
    exported: Counters,
    is_failing: bool,
}

struct Counters {
    exported: Counter,
    dropped: Counter,
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counters")
    }
}

impl Exporter {
    fn new(endpoint: &ServerUrl, node: &NodeId, meters: &Meters) -> Result<Self, String> {
        let mut collector = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .map_err(|error| error.to_string())?;
        let resource = Resource::builder_empty()
            .with_service_name(env!("CARGO_PKG_NAME"))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", node.to_string()));
        collector.set_resource(&resource.build());
        Ok(Self {
            collector,
            endpoint: endpoint.redacted(),
            scope: InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
            exported: Counters {
                exported: meters.counter("rushgate_spans_exported_total", &[]),
                dropped: meters.counter("rushgate_spans_dropped_total", &[]),
            },
            is_failing: false,
        })
    }

    async fn run(mut self, mut waiting: mpsc::Receiver<Span>, shutdown: Shutdown) {
        let mut batch = Vec::with_capacity(BATCH_SPANS);
        while !shutdown.wait(gathered(&mut waiting, &mut batch)).await && !batch.is_empty() {
            self.export(&mut batch).await;
        }
        waiting.close();
        while !batch.is_empty() || waiting.recv_many(&mut batch, BATCH_SPANS).await > 0 {
            self.export(&mut batch).await;
        }
    }

    async fn export(&mut self, batch: &mut Vec<Span>) {
        let spans: Vec<_> = batch.drain(..).map(|span| data(span, &self.scope)).collect();
        let count = spans.len() as u64;
        let failed = match timeout(EXPORT_TIMEOUT, self.collector.export(spans)).await {
            Ok(exported) => exported.err().map(|error| error.to_string()),
            Err(_) => Some(format!("no answer within {EXPORT_TIMEOUT:?}")),
        };
        match &failed {
            None => self.exported.exported.increment(count),
            Some(_) => self.exported.dropped.increment(count),
        }
        match &failed {
            Some(reason) if !self.is_failing => {
                tracing::warn!(
                    collector = self.endpoint,
                    reason,
                    "spans are not exported; they are dropped and counted"
                );
            }
            None if self.is_failing => tracing::info!(collector = self.endpoint, "spans are exported again"),
            _ => {}
        }
        self.is_failing = failed.is_some();
    }
}

/// Waits for a span, and a while for those after it. Leaves an empty batch if there can be none any more.
async fn gathered(waiting: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) {
    if waiting.recv_many(batch, BATCH_SPANS).await == 0 {
        return;
    }
    let full =
        async { while batch.len() < BATCH_SPANS && waiting.recv_many(batch, BATCH_SPANS - batch.len()).await > 0 {} };
    let _or_that_is_all = timeout(GATHER, full).await;
}

fn data(span: Span, scope: &InstrumentationScope) -> SpanData {
    let Span { name, kind, context, parent, links, began, took, attributes, failed } = span;
    let mut all = SpanLinks::default();
    all.links = links.iter().map(|link| Link::with_context(outer(link, true))).collect();
    SpanData {
        span_context: outer(&context, false),
        parent_span_id: parent
            .map_or(opentelemetry::SpanId::INVALID, |parent| opentelemetry::SpanId::from_bytes(parent.0)),
        parent_span_is_remote: matches!(kind, Kind::Server | Kind::Consumer),
        span_kind: match kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Producer => SpanKind::Producer,
            Kind::Consumer => SpanKind::Consumer,
        },
        name: name.into(),
        start_time: began,
        end_time: began + took,
        attributes: attributes.into_iter().map(|(name, value)| attribute(name, value)).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: all,
        status: failed.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope.clone(),
    }
}

fn attribute(name: &'static str, value: Value) -> KeyValue {
    match value {
        Value::Text(text) => KeyValue::new(name, text),
        Value::Number(number) => KeyValue::new(name, number),
    }
}

/// The same context as the SDK has it.
fn outer(context: &TraceContext, is_remote: bool) -> SpanContext {
    let state = context.state().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    SpanContext::new(
        opentelemetry::TraceId::from_bytes(context.trace.0),
        opentelemetry::SpanId::from_bytes(context.span.0),
        TraceFlags::new(context.flags()),
        is_remote,
        state,
    )
}
