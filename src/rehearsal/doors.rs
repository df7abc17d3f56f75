//! The way to the gateways: keep-alive connections, a bounded number of them, plain HTTP.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use tokio::sync::Semaphore;

/// Longer than a gateway takes for any answer (`http.request_timeout`), so that a buyer hears it.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than gateways and balancers let a connection rest, so that none is closed while it is being asked.
const REST: Duration = Duration::from_secs(20);
/// No answer of the public API is longer.
const MAX_ANSWER: usize = 1024 * 1024;
/// The longest that a buyer lets itself be told to wait, in seconds.
const MAX_RETRY_AFTER: f64 = 3600.0;
/// Connections at most, where the system would allow more, and where it does not tell.
const MOST: usize = 8192;
const USUAL_FILES: usize = 1024;

/// Asks gateways.
#[derive(Debug)]
pub(super) struct Doors {
    client: Client<HttpConnector, Full<Bytes>>,
    /// Requests at once. Who waits for one of them waits since their request was due.
    free: Semaphore,
}

/// One request.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: Bytes,
}

/// What came back.
#[derive(Debug, Default, Clone)]
pub(super) struct Reply {
    /// 0: nothing did.
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    /// Null if it was no JSON.
    pub(super) body: Value,
    /// The beginning of what was said, or why nothing was.
    pub(super) said: String,
    /// No connection was made to ask it on, so nobody can have done anything.
    pub(super) is_unsent: bool,
}

impl Doors {
    /// For so many buyers at once, at so many gateways.
    pub(super) fn new(buyers: usize, gateways: usize) -> Self {
        // Half of the files for connections that are asked, half for those that rest.
        let most = buyers.clamp(1, (open_files() / 2).clamp(16, MOST));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(REST)
            .pool_max_idle_per_host(most.div_ceil(gateways.max(1)))
            .build(connector);
        Self { client, free: Semaphore::new(most) }
    }

    pub(super) async fn ask(&self, question: Question<'_>) -> Reply {
        let _permit = self.free.acquire().await;
        match tokio::time::timeout(TIMEOUT, self.answer(question)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(nothing)) => nothing,
            Err(_) => Reply { said: "no answer in time".to_owned(), ..Reply::default() },
        }
    }

    async fn answer(&self, Question { method, url, headers, body }: Question<'_>) -> Result<Reply, Reply> {
        let nothing = |said: String, is_unsent| Reply { said, is_unsent, ..Reply::default() };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = url.parse().map_err(|error| nothing(format!("{url}: {error}"), true))?;
        request.headers_mut().clone_from(headers);
        let response = self.client.request(request).await;
        let response = response.map_err(|error| nothing(causes(&error), error.is_connect()))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| nothing(error.to_string(), false))?.to_bytes();
        let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<f64>().ok());
        let seconds = seconds.filter(|seconds| (0.0..=MAX_RETRY_AFTER).contains(seconds));
        Ok(Reply {
            status: head.status.as_u16(),
            retry_after: seconds.map(Duration::from_secs_f64),
            body: serde_json::from_slice(&body).unwrap_or_default(),
            said: String::from_utf8_lossy(&body).chars().take(300).collect(),
            is_unsent: false,
        })
    }
}

impl Reply {
    /// A text of the body.
    pub(super) fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }

    pub(super) fn told(&self) -> String {
        if self.status == 0 { self.said.clone() } else { format!("{} {}", self.status, self.said) }
    }
}

/// An error and what is behind it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        said = format!("{said}: {cause}");
        next = cause.source();
    }
    said
}

/// How many files this process may have open.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    limit_of(&limits).unwrap_or(USUAL_FILES)
}

fn limit_of(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_reached_nobody_is_told_from_what_nobody_answered() {
        let ask = async |address: std::net::SocketAddr| {
            let (method, url, headers) = (Method::POST, format!("http://{address}/"), HeaderMap::new());
            Doors::new(1, 1).ask(Question { method, url, headers: &headers, body: Bytes::new() }).await
        };
        let there = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = there.local_addr().unwrap();
        let (unanswered, ()) = tokio::join!(ask(address), async {
            use tokio::io::AsyncReadExt;
            let (mut caller, _) = there.accept().await.unwrap();
            // It hears the whole question, and leaves.
            assert!(caller.read(&mut [0; 1024]).await.unwrap() > 0);
        });
        assert_eq!((unanswered.status, unanswered.is_unsent), (0, false), "{unanswered:?}");
        drop(there);
        let refused = ask(address).await;
        assert_eq!((refused.status, refused.is_unsent), (0, true), "{refused:?}");
    }

    #[test]
    fn the_limit_of_files_is_the_soft_one_or_the_usual_one() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax processes  7  8  processes\nMax open files  4096  524288  files\n";
        assert_eq!(limit_of(limits), Some(4096));
        assert_eq!(limit_of("Max open files  unlimited  unlimited  files"), None);
        assert_eq!(limit_of(""), None);
    }
}
