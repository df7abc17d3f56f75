//! The public API, on hyper: HTTP/1.1 behind a load balancer.
//!
//! In reading order:
//!
//! - [`Server`]: the listener, its connections, and how they end
//! - `routes`: every route on one screen; `claims`, `orders`, `payments`, `sales`, `health`, `openapi` behind them
//! - `reply` and `problem`: the one table from outcomes to answers
//! - `trace`: whose trace a request belongs to
//! - `ask`, `limits`, `buyer`, `rate`, `gcra`, `places`: what a request has to be before anybody looks at it
//! - `wire`, `framing`: the bytes under hyper
//!
//! Everything has a limit, and nothing that a client sends is a 500. Requests that cost nothing are not queued: what cannot be
//! answered now is refused now, and says when to come back.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::admission::Shards;
use crate::admission::refusals::Refusals;
use crate::bell::{Bell, Listener};
use crate::clock::Clock;
use crate::config::live::{self, Live};
use crate::config::settings::Http as Settings;
use crate::confirm::Claims;
use crate::cores::Seats;
use crate::epochs::Epochs;
use crate::http::buyer::Buyers;
use crate::http::door::Door;
use crate::http::places::OwnedPlace;
use crate::http::rate::Rates;
use crate::http::wire::{Seen, Wire};
use crate::inventory::Inventory;
use crate::meters::{Gauge, Meters};
use crate::payment::Payments;
use crate::readiness::Readiness;
use crate::shutdown::Shutdown;
use crate::spans::Spans;
use crate::store::Store;

mod ask;
mod buyer;
mod claims;
mod door;
mod framing;
mod gcra;
mod headers;
mod health;
mod limits;
mod meters;
mod openapi;
mod orders;
mod payments;
mod places;
mod problem;
mod rate;
mod reply;
mod routes;
mod sales;
mod trace;
mod wire;

/// The code of every problem, by its number.
pub const CODES: &[&str] = &problem::Code::NAMES;
/// Connections that the kernel may keep for a busy accept loop; it caps this at `net.core.somaxconn`.
pub const BACKLOG: u32 = 4096;
/// What hyper buffers of one connection, at most; a head must fit into half of it.
const BUFFER_BYTES: usize = 32 * 1024;
const HEAD_BYTES: usize = 16 * 1024;
/// How long the accept loop rests when the process has no more file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// Who waits in a listener that was handed over is let in when this node has joined, so that a restart is a short wait and no
/// refusal. At the latest then, so that health checks hear why it has not: a balancer waits for an answer longer than this.
const JOIN_PATIENCE: Duration = Duration::from_secs(2);
const JOIN_INTERVAL: Duration = Duration::from_millis(10);
/// How long a connection that was let in last may take to say a first word: who connects has mostly asked by then.
const FIRST_WORD: Duration = Duration::from_millis(250);
/// What the future of a request may take: more than that the allocator gives slowly.
const REQUEST_BYTES: usize = 1024;
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// All that requests are answered with.
#[derive(Debug)]
pub struct Parts {
    pub claims: Claims,
    pub shards: Shards,
    pub epochs: Epochs,
    pub store: Arc<dyn Store>,
    pub inventory: Arc<dyn Inventory>,
    pub payments: Payments,
    pub readiness: Arc<Readiness>,
    /// What buyers were told.
    pub refusals: Refusals,
    pub meters: Meters,
    pub clock: Arc<dyn Clock>,
    pub spans: Spans,
}

/// A listener that is bound and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    /// The listener was there before this process, and those who come in between wait in it.
    is_handed: bool,
    address: SocketAddr,
    live: live::Http,
    buyers: Buyers,
    rates: Rates,
    seats: Seats,
}

/// Why there can be no server.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {listen}: {cause}")]
    Listen { listen: String, cause: io::Error },
    #[error("{key}: {why}")]
    Setting { key: &'static str, why: String },
}

impl Server {
    /// Checks the settings and binds, unless a listener was handed over; `live` are those of the settings that may change. Port 0 takes
    /// a free one, see [`Server::address`].
    pub async fn bind(
        settings: &Settings,
        live: live::Http,
        handed: Option<std::net::TcpListener>,
    ) -> Result<Self, BindError> {
        let buyers =
            Buyers::new(settings).map_err(|why| BindError::Setting { key: "http.jwt_secret", why: why.to_owned() })?;
        let rates = Rates::new(settings, &live).map_err(|odd| BindError::Setting {
            key: "http.trusted_proxies",
            why: format!("{odd:?} is neither a network such as 10.0.0.0/8 nor an address"),
        })?;
        let failed = |cause| BindError::Listen { listen: settings.listen.clone(), cause };
        let is_handed = handed.is_some();
        let listener = match handed {
            Some(listener) => TcpListener::from_std(listener),
            None => listen(&settings.listen).await,
        }
        .map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, is_handed, address, live, buyers, rates, seats: Seats::default() })
    }

    /// With cores of its own for the connections.
    #[must_use]
    pub fn on(self, seats: Seats) -> Self {
        Self { seats, ..self }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until a shutdown begins, and then, for `drain_delay`, while saying that it is not ready. Then takes nothing new, and
    /// returns when what was in flight is answered.
    pub async fn serve(self, parts: Parts, drain_delay: impl Into<Live<Duration>>, shutdown: Shutdown) {
        let drain_delay = drain_delay.into();
        let open = parts.meters.gauge("rushgate_connections", &[]);
        let closing = Bell::default();
        let door = Arc::new(Door::new(parts, self.live, (self.buyers, self.rates), shutdown.clone()));
        let connections =
            Arc::new(Connections { builder: builder(), door, seats: self.seats, closing: closing.clone(), open });
        shutdown.spawn(housekeeping(Arc::clone(&connections.door), closing.clone()));
        if self.is_handed {
            let ready = until_ready(&connections.door.parts.readiness, &shutdown);
            let _or_time_is_up = tokio::time::timeout(JOIN_PATIENCE, ready).await;
        }
        tokio::select! {
            biased;
            () = drained(&shutdown, &drain_delay) => {}
            () = accept(&self.listener, &connections) => {}
        }
        drop(self.listener);
        closing.ring();
        // All places are free when all connections have ended.
        connections.door.connections.all_free().await;
    }
}

/// What every connection is served with.
struct Connections {
    builder: http1::Builder,
    door: Arc<Door>,
    seats: Seats,
    closing: Bell,
    open: Gauge,
}

impl Connections {
    /// Serves a connection in a task of its own, on a core that it stays on.
    fn open(self: &Arc<Self>, stream: StdStream, peer: SocketAddr, place: OwnedPlace) {
        let (closing, open, seat) = (self.closing.listen(), OpenConnection::new(&self.open), self.seats.take());
        let connections = Arc::clone(self);
        let core = seat.core().clone();
        let _there = core.enter();
        self.door.shutdown.spawn(async move {
            match TcpStream::from_std(stream) {
                Ok(stream) => connections.serve(stream, peer, closing).await,
                Err(error) => tracing::warn!(%peer, %error, "cannot serve a connection"),
            }
            drop((open, place, seat));
        });
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, mut closing: Listener) {
        let (door, seen) = (&*self.door, Arc::new(Seen::default()));
        let wire = Wire::new(stream, Arc::clone(&seen), door.live.header_timeout.clone());
        let (address, seen) = (&peer.ip(), &*seen);
        let service = service_fn(|request: Request<Incoming>| {
            // On the heap while there is a request: hyper keeps room for it for as long as the connection lives, and most rest.
            let (head, mut body) = request.into_parts();
            let answer = async move { Ok::<_, Infallible>(door.answer((&head, &mut body), address, seen).await) };
            debug_assert!(size_of_val(&answer) <= REQUEST_BYTES, "{} bytes for a request", size_of_val(&answer));
            Box::pin(answer)
        });
        let mut served = self.builder.serve_connection(TokioIo::new(wire), service);
        let ended = poll_fn(|cx| match Pin::new(&mut served).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending => closing.poll(cx).map(|()| None),
        })
        .await;
        // On the heap, too: it comes once, and a connection at rest would have room for it.
        Box::pin(async move {
            // hyper closes at once where nothing was read yet, and who has just come in would have no answer.
            let heard = poll_fn(|cx| match Pin::new(&mut served).poll(cx) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending if seen.has_heard() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            let ended = if let Some(ended) = ended {
                ended
            } else if let Ok(Some(ended)) = tokio::time::timeout(FIRST_WORD, heard).await {
                ended
            } else {
                Pin::new(&mut served).graceful_shutdown();
                (&mut served).await
            };
            let mut wire = served.into_parts().io.into_inner();
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "a connection ended early");
                wire.refuse_slow_head().await;
            }
            wire.linger().await;
        })
        .await;
    }
}

/// A connection in the gauge, for as long as it lives.
struct OpenConnection(Gauge);

impl OpenConnection {
    fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // `wire` keeps the time, for less than a timer of each request costs.
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES)
        .max_header_size(HEAD_BYTES)
        // Answers are small: one buffer and one call of the kernel for head and body.
        .writev(false)
        .keep_alive(true);
    builder
}

async fn listen(text: &str) -> io::Result<TcpListener> {
    let mut failed = None;
    for address in tokio::net::lookup_host(text).await? {
        let bound = (|| {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        })();
        match bound {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

/// Accepts while there are places; without one, those who come wait in the kernel.
async fn accept(listener: &TcpListener, connections: &Arc<Connections>) {
    loop {
        let place = connections.door.connections.take().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are written whole; waiting for more to send would only delay them.
                let _ = stream.set_nodelay(true);
                // Its core polls it, and no longer who accepted it.
                match stream.into_std() {
                    Ok(stream) => connections.open(stream, peer, place),
                    Err(error) => tracing::warn!(%peer, %error, "cannot take a connection to its core"),
                }
            }
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(%error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; is the limit of open files too low?");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Returns early for a shutdown.
async fn until_ready(readiness: &Readiness, shutdown: &Shutdown) {
    while !readiness.is_ready() && !shutdown.sleep(JOIN_INTERVAL).await {}
}

async fn drained(shutdown: &Shutdown, delay: &Live<Duration>) {
    shutdown.begun().await;
    tokio::time::sleep(delay.get()).await;
}

/// Tells the metrics whether this node is ready.
async fn housekeeping(door: Arc<Door>, closing: Bell) {
    let ready = door.parts.meters.gauge("rushgate_ready", &[]);
    loop {
        let is_ready = !door.shutdown.has_begun() && door.parts.readiness.is_ready();
        ready.set(if is_ready { 1.0 } else { 0.0 });
        tokio::select! {
            biased;
            () = closing.rung() => return,
            () = tokio::time::sleep(HOUSEKEEPING) => {}
        }
    }
}

#[cfg(test)]
mod tests;
