//! The listener: connections, limits and timeouts around [`Answers`].

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::assets::{self, Asset};
use crate::admin::guard::Guard;
use crate::admin::live::{Events, Pulse};
use crate::admin::problem::{Code, Problem};
use crate::admin::routes::{self, Call};
use crate::admin::{Answer, Answers, Body, Parts};
use crate::config::settings;
use crate::shutdown::Shutdown;

/// Operators, scripts and scrapers; not a crowd.
const MAX_CONNECTIONS: usize = 64;
/// A train of 64 pools with 64 fares each has about 60 KiB.
const MAX_BODY: usize = 256 * 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may take until its caller is told that its outcome is not known.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// The same for an audit, which reads everything.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// No connection is older than an audit may get, so that none is held for ever.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// Before that a watcher's stream ends in good order, and it comes again.
const LEAVE: Duration = Duration::from_secs(30);
/// Bytes that wait in this process for a peer to take them, and about as many again in the system. An answer may be longer.
const BUFFER: usize = 32 * 1024;
/// A peer that acknowledges nothing for so long is gone.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);
/// How long open connections are waited for when the listener closes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for a watcher, whose stream has ended then: one that does not read it would not notice.
const WATCHER_CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Pause after an accept that failed, which is for want of file handles, or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The control plane's listener, bound and not served yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    guard: Guard,
}

/// The listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {listen}: {cause}")]
    Io { listen: String, cause: io::Error },
    #[error("admin.token must be set: {0} is not a loopback address")]
    NoToken(SocketAddr),
}

impl Admin {
    /// Binds, unless a listener was handed over. Port 0 takes a free one.
    pub async fn bind(settings: &settings::Admin, handed: Option<std::net::TcpListener>) -> Result<Self, BindError> {
        let failed = |cause| BindError::Io { listen: settings.listen.clone(), cause };
        let listener = match handed {
            Some(listener) => TcpListener::from_std(listener),
            None => TcpListener::bind(&settings.listen).await,
        }
        .map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if settings.token.0.is_empty() && !address.ip().is_loopback() {
            return Err(BindError::NoToken(address));
        }
        Ok(Self { listener, address, guard: Guard::new(settings.token.clone()) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until this shutdown begins, which may be a later one than the one that a drain begins.
    pub async fn serve(self, parts: Parts, shutdown: Shutdown) {
        let (guard, answers) = (Arc::new(self.guard), Answers::new(parts, shutdown.clone()));
        let (permits, graceful) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), GracefulShutdown::new());
        loop {
            let accepted = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, self.listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = shutdown.begun() => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    hold_little(&stream);
                    let ends = Instant::now() + CONNECTION_TIMEOUT;
                    let (guard, answers) = (Arc::clone(&guard), answers.clone());
                    let door = Door { guard, answers, shutdown: shutdown.clone(), ends, pulse: Pulse::default() };
                    let closed = door.clone().closed();
                    let connection = graceful.watch(door.connection(stream));
                    shutdown.spawn(async move {
                        let _permit = permit;
                        // A client that leaves in mid-sentence is not worth a word.
                        tokio::select! {
                            _ended = tokio::time::timeout_at(ends, connection) => {}
                            () = closed => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin listener cannot accept");
                    shutdown.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        if tokio::time::timeout(CLOSE_TIMEOUT, graceful.shutdown()).await.is_err() {
            tracing::debug!("connections to the admin listener are still open");
        }
    }
}

/// One connection's way in.
#[derive(Debug, Clone)]
struct Door {
    guard: Arc<Guard>,
    answers: Answers,
    shutdown: Shutdown,
    /// When the connection is cut.
    ends: Instant,
    /// Of a stream of events that goes over it.
    pulse: Pulse,
}

/// Whole, or in parts for as long as somebody reads them.
type Reply = Response<Either<Full<Bytes>, StreamBody<Events>>>;

impl Door {
    /// Resolves when a shutdown has begun and the connection has had the time to end, or when its watcher takes nothing more.
    async fn closed(self) {
        tokio::select! {
            () = self.shutdown.begun() => {}
            () = self.pulse.stopped() => return,
        }
        tokio::time::sleep(if self.pulse.has_begun() { WATCHER_CLOSE_TIMEOUT } else { CLOSE_TIMEOUT }).await;
    }

    fn connection(
        self,
        stream: TcpStream,
    ) -> impl hyper_util::server::graceful::GracefulConnection<Output = hyper::Result<()>, Error = hyper::Error>
    + Send
    + 'static {
        let service = service_fn(move |request| {
            let door = self.clone();
            async move { Ok::<_, Infallible>(door.reply(request).await) }
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service)
    }

    async fn reply(self, request: Request<Incoming>) -> Reply {
        self.answer(request).await.unwrap_or_else(refusal)
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Reply, Problem> {
        let (head, body) = request.into_parts();
        let call = routes::call(&head.method, head.uri.path(), head.uri.query());
        let who = match &call {
            Ok(Call::Asset(_)) => self.guard.check_page(&head.headers).map(|()| String::new())?,
            Ok(call) if call.is_open() => String::new(),
            _ => self.guard.check(&head.headers)?,
        };
        let call = call?;
        let body = if call.has_body() { read(&head.headers, body).await? } else { Bytes::new() };
        let answered = match call {
            Call::Watch { once: false } => return self.watch(),
            Call::Audit { sale, wait } => {
                // Whoever no longer listens stops the audit; it reads only, so it may be stopped anywhere.
                let stop = CancellationToken::new();
                let _stopped_when_dropped = stop.clone().drop_guard();
                let answers = self.answers.clone();
                self.run(AUDIT_TIMEOUT, async move { answers.audit(sale.as_ref(), wait, &stop).await }).await
            }
            call => {
                let answers = self.answers.clone();
                let timeout = if matches!(call, Call::Repair { .. }) { AUDIT_TIMEOUT } else { CALL_TIMEOUT };
                self.run(timeout, async move { answers.answer(call, &who, &body).await }).await
            }
        };
        answered.map(|Answer { status, body }| match body {
            Body::Json(body) => response(status, "application/json", body.to_string()),
            Body::Text(content_type, text) => response(status, content_type, text),
            Body::Asset(asset) => file(&asset, head.headers.get(header::IF_NONE_MATCH)),
        })
    }

    /// A stream of events, over a connection that carries nothing after it.
    fn watch(&self) -> Result<Reply, Problem> {
        let events = self.answers.feed.watch(self.ends - LEAVE, self.pulse.clone())?;
        let mut reply = response(200, "text/event-stream", String::new());
        reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        *reply.body_mut() = Either::Right(StreamBody::new(events));
        Ok(reply)
    }

    /// Runs a call to its end, whether its caller still listens or not: half a change is worse than one too many.
    async fn run(
        &self,
        timeout: Duration,
        work: impl Future<Output = Result<Answer, Problem>> + Send + 'static,
    ) -> Result<Answer, Problem> {
        match tokio::time::timeout(timeout, self.shutdown.spawn(work)).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) => Err(Problem::new(Code::Unknown, "The process is stopping; the outcome is not known.")),
            Ok(Err(panic)) => {
                tracing::error!(%panic, "a call of the admin API has panicked");
                Err(Problem::new(Code::Unknown, "The call failed in an unforeseen way; its outcome is not known."))
            }
            Err(_) => Err(Problem::new(Code::Unknown, "It takes too long; it goes on, and its outcome is not known.")),
        }
    }
}

/// What is underway to a slow watcher is old when it comes, so it shall be little; and a peer that is gone is not waited for.
fn hold_little(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let set = socket.set_send_buffer_size(BUFFER);
    #[cfg(target_os = "linux")]
    let set = set.and_then(|()| socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)));
    if let Err(error) = set {
        tracing::debug!(%error, "an admin connection keeps the system's buffers and timeouts");
    }
}

async fn read(headers: &header::HeaderMap, body: Incoming) -> Result<Bytes, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(Code::UnsupportedMediaType, "The body must be application/json."));
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::new(Code::TooLarge, format!("The body may have {MAX_BODY} bytes.")))
        }
        Ok(Err(error)) => Err(Problem::new(Code::Malformed, error)),
        Err(_) => Err(Problem::new(Code::RequestTimeout, "The body did not arrive in time.")),
    }
}

/// A file of the console, unless its reader has it already.
fn file(asset: &Asset, known: Option<&HeaderValue>) -> Reply {
    let Some((content, tag)) = asset.read() else {
        return refusal(Problem::new(Code::NotFound, "There is nothing here any more."));
    };
    let is_known = known
        .and_then(|known| known.to_str().ok())
        .is_some_and(|known| known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag));
    let mut response = response(if is_known { 304 } else { 200 }, asset.content_type(), String::new());
    if !is_known {
        *response.body_mut() = Either::Left(Full::new(content));
    }
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::from_str(&tag).expect("a tag is made of hexadecimal digits"));
    for (name, value) in [
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, assets::POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(problem: Problem) -> Reply {
    let (code, allow) = (problem.code, problem.allow);
    let mut response = response(code.status().as_u16(), "application/problem+json", problem.document().to_string());
    let headers = response.headers_mut();
    if let Some(allow) = allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    if code == Code::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if matches!(code, Code::Busy | Code::Unavailable | Code::NotRecorded | Code::AuditRunning | Code::ReloadRunning) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn response(status: u16, content_type: &'static str, body: String) -> Reply {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(body))));
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("answers have real statuses");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
