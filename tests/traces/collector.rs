//! A collector of spans: takes OTLP over HTTP, and reads of its protobuf what a test asks for.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Each with its path.
type Calls = Arc<Mutex<Vec<(String, Bytes)>>>;

/// What was sent to it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collector {
    calls: Calls,
    endpoint: String,
    /// Ends with the collector.
    serving: Arc<Mutex<JoinSet<()>>>,
}

/// A span as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) node: String,
    pub(crate) name: String,
    pub(crate) kind: u64,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) state: String,
    /// The spans that it is linked to.
    pub(crate) links: Vec<String>,
    pub(crate) attributes: Vec<(String, String)>,
    /// In nanoseconds since 1970.
    pub(crate) began: u64,
    pub(crate) ended: u64,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let this = Self { endpoint, ..Self::default() };
        let calls = Arc::clone(&this.calls);
        let serving = async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let calls = Arc::clone(&calls);
                let answer = service_fn(move |request| take(Arc::clone(&calls), request));
                connections
                    .spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        };
        this.serving.lock().unwrap().spawn(serving);
        this
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Everything that came, as bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.calls.lock().unwrap().iter().flat_map(|(_, body)| body.to_vec()).collect()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let calls = self.calls.lock().unwrap();
        assert!(calls.iter().all(|(path, _)| path == "/v1/traces"), "{calls:?}");
        calls.iter().flat_map(|(_, body)| spans(body)).collect()
    }
}

async fn take(calls: Calls, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    calls.lock().unwrap().push((path, body));
    Ok(Response::builder().header("content-type", "application/x-protobuf").body(Full::default()).unwrap())
}

/// The spans of an `ExportTraceServiceRequest`.
fn spans(request: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource_spans in all(request, 1) {
        let resource = attributes(&all(&resource_spans, 1).concat(), 1);
        let node = resource.iter().find(|(name, _)| name == "service.instance.id").unwrap().1.clone();
        assert!(resource.contains(&("service.name".to_owned(), "rushgate".to_owned())), "{resource:?}");
        assert!(
            resource.contains(&("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())),
            "{resource:?}"
        );
        for scope_spans in all(&resource_spans, 2) {
            spans.extend(all(&scope_spans, 2).iter().map(|bytes| Span {
                node: node.clone(),
                name: text(bytes, 5),
                kind: number(bytes, 6),
                trace: hex::encode(all(bytes, 1).concat()),
                id: hex::encode(all(bytes, 2).concat()),
                parent: hex::encode(all(bytes, 4).concat()),
                state: text(bytes, 3),
                links: all(bytes, 13).iter().map(|link| hex::encode(all(link, 2).concat())).collect(),
                attributes: attributes(bytes, 9),
                began: number(bytes, 7),
                ended: number(bytes, 8),
            }));
        }
    }
    spans
}

/// The attributes in this field; a number as it is written.
fn attributes(bytes: &[u8], field: u64) -> Vec<(String, String)> {
    let value = |value: Vec<u8>| match &all(&value, 1)[..] {
        [] => number(&value, 3).to_string(),
        texts => String::from_utf8(texts.concat()).unwrap(),
    };
    all(bytes, field).iter().map(|pair| (text(pair, 1), value(all(pair, 2).concat()))).collect()
}

fn text(bytes: &[u8], field: u64) -> String {
    String::from_utf8(all(bytes, field).concat()).unwrap()
}

fn number(bytes: &[u8], field: u64) -> u64 {
    fields(bytes).into_iter().find(|(known, ..)| *known == field).map_or(0, |(_, number, _)| number)
}

/// All of this field that are texts, bytes or messages.
fn all(bytes: &[u8], field: u64) -> Vec<Vec<u8>> {
    fields(bytes).into_iter().filter(|(known, ..)| *known == field).map(|(_, _, bytes)| bytes).collect()
}

/// The fields of a message: their numbers, with a number or bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let mut fixed = |length: usize| {
            let (number, rest) = bytes.split_at(length);
            bytes = rest;
            let mut whole = [0; 8];
            whole[..length].copy_from_slice(number);
            u64::from_le_bytes(whole)
        };
        let (number, inner) = match tag & 7 {
            0 => (varint(&mut bytes), Vec::new()),
            1 => (fixed(8), Vec::new()),
            5 => (fixed(4), Vec::new()),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (inner, rest) = bytes.split_at(length);
                bytes = rest;
                (0, inner.to_vec())
            }
            other => panic!("no wire type {other}"),
        };
        fields.push((tag >> 3, number, inner));
    }
    fields
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return number;
        }
    }
    panic!("a number without an end")
}
