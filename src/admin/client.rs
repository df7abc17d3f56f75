//! The admin API from the other side: one connection per call, plain HTTP, since it goes to loopback or through a tunnel.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Fuse;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::admin::live::snapshot::Snapshot;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the server takes to say that it takes too long.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
const AUDIT_TIMEOUT: Duration = Duration::from_secs(16 * 60);
/// No answer has more than a thousand orders, or all sales.
const MAX_ANSWER: usize = 256 * 1024 * 1024;
/// No snapshot is so long.
const MAX_EVENT: usize = 8 * 1024 * 1024;
/// Snapshots come once a second.
const SILENCE: Duration = Duration::from_secs(5);
const DEFAULT_PORT: u16 = 9090;

/// Asks an admin API.
#[derive(Debug, Clone)]
pub struct Client {
    url: String,
    authority: String,
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
    operator: Option<HeaderValue>,
}

/// Why there is no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{url} is no URL of an admin API: {why}; it looks like http://127.0.0.1:9090")]
    BadUrl { url: String, why: String },
    #[error("the admin token has characters that no header can carry")]
    BadToken,
    #[error("nobody answers at {url} ({cause}): is `rushgate serve` running there? Name another with --admin URL")]
    Unreachable { url: String, cause: String },
    #[error("{url} did not answer in time; what was asked may have been done")]
    TimedOut { url: String },
    #[error("{url} broke off ({cause}); what was asked may have been done")]
    BrokeOff { url: String, cause: String },
    #[error("{url} does not speak as an admin API: {what}")]
    Strange { url: String, what: String },
    /// It said no.
    #[error("{detail} ({code})")]
    Problem { status: u16, code: String, detail: String },
}

impl Client {
    /// `token` may be empty, as may `operator`: the name under which the audit log tells of changes.
    pub fn new(url: &str, token: &str, operator: &str) -> Result<Self, ClientError> {
        let bad = |why: &str| ClientError::BadUrl { url: url.to_owned(), why: why.to_owned() };
        let uri: Uri = url.parse().map_err(|_| bad("it cannot be read"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(bad("it has TLS; put a tunnel in between")),
            _ => return Err(bad("it does not begin with http://")),
        }
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
        if authority.as_str().contains('@') || uri.path() != "/" || uri.query().is_some() {
            return Err(bad("there is more in it than a host and a port"));
        }
        let port = authority.port_u16().unwrap_or(DEFAULT_PORT);
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let authorization = match token {
            "" => None,
            token => {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ClientError::BadToken)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let operator = HeaderValue::from_str(operator).ok().filter(|operator| !operator.is_empty());
        let authority = format!("{}:{port}", authority.host());
        Ok(Self { url: url.trim_end_matches('/').to_owned(), authority, host, port, authorization, operator })
    }

    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.call(Method::GET, path, None).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub async fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        self.call(Method::POST, path, body).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Result<Value, ClientError> {
        self.call(Method::DELETE, path, None).await
    }

    /// Asks for an audit, which takes its time.
    pub async fn audit(&self, path: &str) -> Result<Value, ClientError> {
        self.within(AUDIT_TIMEOUT, Method::POST, path, None).await
    }

    /// Is the process ready, and each of its checks, a line each.
    pub async fn ready(&self) -> Result<(bool, String), ClientError> {
        let (status, body) = self.answer(CALL_TIMEOUT, Method::GET, "/readyz?verbose", None).await?;
        match status {
            200 | 503 => Ok((status == 200, String::from_utf8_lossy(&body).into_owned())),
            status => Err(self.strange(format!("it answers {status}"))),
        }
    }

    /// An answer that is a text.
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let (status, body) = self.answer(CALL_TIMEOUT, Method::GET, path, None).await?;
        if (200..300).contains(&status) {
            return Ok(String::from_utf8_lossy(&body).into_owned());
        }
        Err(self.understood(status, &body).err().unwrap_or_else(|| self.strange(format!("it answers {status}"))))
    }

    /// Reads a snapshot of the live feed.
    pub fn understand(&self, json: &str) -> Result<Snapshot, ClientError> {
        serde_json::from_str(json).map_err(|error| self.strange(format!("its feed is of another version ({error})")))
    }

    /// Opens the live feed.
    pub async fn watch(&self) -> Result<Watch, ClientError> {
        let stream = self.connect().await?;
        let request = self.request(Method::GET, "/admin/v1/live", None)?;
        let broke_off = |error: hyper::Error| self.broke_off(&error);
        let opening = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke_off)?;
            // How the connection ends, the answer tells.
            let moving: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async { drop(connection.await) });
            let mut moving = moving.fuse();
            let response = {
                let mut asked = std::pin::pin!(sender.send_request(request));
                tokio::select! {
                    response = &mut asked => response,
                    () = &mut moving => asked.await,
                }
            };
            Ok((response.map_err(broke_off)?, moving))
        };
        let opened = tokio::time::timeout(CALL_TIMEOUT, opening).await;
        let (response, moving) = opened.map_err(|_| ClientError::TimedOut { url: self.url.clone() })??;
        let status = response.status().as_u16();
        let mut watch = Watch { client: self.clone(), body: response.into_body(), moving, text: Vec::new() };
        if status == 200 {
            return Ok(watch);
        }
        while watch.more().await? {}
        match self.understood(status, &watch.text) {
            Ok(_) => Err(self.strange(format!("it answers {status}"))),
            Err(no) => Err(no),
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        self.within(CALL_TIMEOUT, method, path, body).await
    }

    async fn within(
        &self,
        timeout: Duration,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let (status, body) = self.answer(timeout, method, path, body).await?;
        self.understood(status, &body)
    }

    async fn answer(
        &self,
        timeout: Duration,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Bytes), ClientError> {
        let stream = self.connect().await?;
        let request = self.request(method, path, body)?;
        match tokio::time::timeout(timeout, self.exchange(stream, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut { url: self.url.clone() }),
        }
    }

    async fn connect(&self) -> Result<TcpStream, ClientError> {
        let unreachable = |cause: String| ClientError::Unreachable { url: self.url.clone(), cause };
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Err(_) => Err(unreachable("no connection within 5 seconds".to_owned())),
        }
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Some(operator) = &self.operator {
            request = request.header("x-operator", operator);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        request.body(Full::new(body.into())).map_err(|error| self.strange(error.to_string()))
    }

    async fn exchange(&self, stream: TcpStream, request: Request<Full<Bytes>>) -> Result<(u16, Bytes), ClientError> {
        let broke_off = |error: hyper::Error| self.broke_off(&error);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke_off)?;
        let talk = async {
            let response = sender.send_request(request).await.map_err(broke_off)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| self.strange(error.to_string()))?.to_bytes();
            Ok((status.as_u16(), body))
        };
        let mut talk = std::pin::pin!(talk);
        // The connection moves the bytes while the talk waits for them; whichever ends first, the talk has the last word.
        tokio::select! {
            answer = &mut talk => answer,
            _ended = connection => talk.await,
        }
    }

    fn understood(&self, status: u16, body: &[u8]) -> Result<Value, ClientError> {
        let parsed = serde_json::from_slice::<Value>(body);
        if (200..300).contains(&status) {
            return parsed.map_err(|error| self.strange(format!("the answer is no JSON ({error})")));
        }
        let Some((problem, code)) = parsed.as_ref().ok().and_then(|body| Some((body, body["code"].as_str()?))) else {
            return Err(self.strange(format!("it answers {status}")));
        };
        let errors = problem["errors"].as_array().into_iter().flatten();
        let errors = errors.map(|error| format!("{}: {}", told(&error["pointer"]), told(&error["detail"])));
        let detail: Vec<_> = std::iter::once(told(&problem["detail"]).to_owned()).chain(errors).collect();
        Err(ClientError::Problem { status, code: code.to_owned(), detail: detail.join("\n  ") })
    }

    fn broke_off(&self, error: &hyper::Error) -> ClientError {
        ClientError::BrokeOff { url: self.url.clone(), cause: error.to_string() }
    }

    fn strange(&self, what: String) -> ClientError {
        ClientError::Strange { url: self.url.clone(), what }
    }
}

/// What moves the bytes of a connection for as long as it is polled.
type Moving = Fuse<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// A live feed, as it comes.
pub struct Watch {
    client: Client,
    body: Incoming,
    moving: Moving,
    text: Vec<u8>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Watch {
    /// The next snapshot, as JSON. `None`: the process has ended the feed in good order; open it again. Safe to drop while waiting.
    pub async fn next(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.text.drain(..end + 2).collect();
                let event = String::from_utf8_lossy(&event);
                if let Some(json) = event.lines().find_map(|line| line.strip_prefix("data: ")) {
                    return Ok(Some(json.to_owned()));
                }
            } else if !self.more().await? {
                return Ok(None);
            }
        }
    }

    async fn more(&mut self) -> Result<bool, ClientError> {
        let Self { body, moving, .. } = self;
        let came = async {
            let mut came = std::pin::pin!(body.frame());
            tokio::select! {
                frame = &mut came => frame,
                () = moving => came.await,
            }
        };
        let frame = match tokio::time::timeout(SILENCE, came).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return Err(self.client.broke_off(&error)),
            Ok(None) => return Ok(false),
            Err(_) => return Err(self.client.strange(format!("it has been silent for {} s", SILENCE.as_secs()))),
        };
        self.text.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
        if self.text.len() > MAX_EVENT {
            return Err(self.client.strange("what it sends is no feed".to_owned()));
        }
        Ok(true)
    }
}

fn told(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port() {
        for (url, authority) in [
            ("http://127.0.0.1:9090", "127.0.0.1:9090"),
            ("http://localhost:9191/", "localhost:9191"),
            ("http://[::1]:9090", "[::1]:9090"),
            ("http://gate.example", "gate.example:9090"),
        ] {
            assert_eq!(Client::new(url, "", "").unwrap().authority, authority);
        }
        for url in ["https://a:1", "127.0.0.1:9090", "http://", "http://a/b", "http://u:p@a", "ftp://a", "a b"] {
            assert!(matches!(Client::new(url, "", ""), Err(ClientError::BadUrl { .. })), "{url}");
        }
    }

    #[tokio::test]
    async fn where_nobody_listens_the_url_and_the_way_out_are_named() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Client::new(&format!("http://{free}"), "", "").unwrap().get("/admin/v1/sales").await.unwrap_err();
        let said = error.to_string();
        for part in [format!("http://{free}"), "rushgate serve".to_owned(), "--admin".to_owned()] {
            assert!(said.contains(&part), "{said}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let client = Client::new("http://127.0.0.1:9090", "canary", "").unwrap();
        assert!(!format!("{client:?}").contains("canary"));
    }
}
