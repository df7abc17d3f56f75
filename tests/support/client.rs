//! A small HTTP client for tests: JSON in, JSON out, connections kept.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;

/// Longer than any answer may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Talks to one listener. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    base: String,
    pool: Pool<HttpConnector, Full<Bytes>>,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The stable code of a problem.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn order(&self) -> String {
        self.body["order"].as_str().unwrap_or_else(|| panic!("no order in {self:?}")).to_owned()
    }
}

impl Client {
    /// `base` such as `http://127.0.0.1:8080`.
    pub(crate) fn new(base: &str) -> Self {
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(2))
            .build(HttpConnector::new());
        Self { base: base.to_owned(), pool }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Reply, String> {
        self.send(Method::GET, path, headers, None).await
    }

    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Result<Reply, String> {
        self.send(Method::POST, path, headers, Some(body.to_string())).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<Reply, String> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let mut request = request.body(Full::from(body.unwrap_or_default())).map_err(|error| error.to_string())?;
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).map_err(|error| error.to_string())?;
            let value = HeaderValue::try_from(*value).map_err(|error| error.to_string())?;
            request.headers_mut().insert(name, value);
        }
        let reply = async {
            let response = self.pool.request(request).await.map_err(|error| format!("{error:?}"))?;
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            let body = serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
            Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, body })
        };
        tokio::time::timeout(TIMEOUT, reply).await.map_err(|_| "no answer in time".to_owned())?
    }

    /// A claim of this buyer, with or without an idempotency key.
    pub(crate) async fn claim(
        &self,
        sale: &str,
        buyer: &str,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Reply, String> {
        let mut headers = vec![("x-buyer-id", buyer)];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        self.post(&format!("/v1/sales/{sale}/orders"), &headers, body).await
    }

    /// Pays an order in the sandbox.
    pub(crate) async fn pay(&self, order: &str, buyer: &str) -> Result<Reply, String> {
        let body = serde_json::json!({"method": "sandbox"});
        self.post(&format!("/v1/orders/{order}/payment"), &[("x-buyer-id", buyer)], &body).await
    }

    pub(crate) async fn order(&self, order: &str, buyer: &str) -> Result<Reply, String> {
        self.get(&format!("/v1/orders/{order}"), &[("x-buyer-id", buyer)]).await
    }
}
