//! Connections of the hot path: few, shared by all calls, and replaced when they stop answering.
//!
//! The client library's own manager keeps a connection whose answers never come, since it takes a timeout for a passing thing.
//! Here a second timeout in a row, or any error that a connection does not survive, ends it, and a short task connects again
//! with a jittered backoff until it succeeds. There is no standing task, so nothing has to be told that the process stops.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, SendError};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisError, Value,
};

use crate::inventory::Fault;
use crate::inventory::redis::fault;
use crate::shutdown::Shutdown;

/// So many batches are in flight at once, and a few reads; one more connection serves while another is being replaced.
const LINKS: usize = 2;
/// So many calls wait in a connection for the socket; further ones wait outside, within their timeout.
const BUFFER: usize = 256;
/// So many timeouts in a row end a connection: one may be the server's pause, two are the connection's death.
const TIMEOUTS: u32 = 2;
const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const LAST_BACKOFF: Duration = Duration::from_secs(1);
/// An idle connection is probed after this long, and as often again.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// What a server is reached with.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) info: ConnectionInfo,
    pub(super) timeout: Duration,
}

impl Target {
    pub(super) fn new(url: &str, timeout: Duration) -> Result<Self, RedisError> {
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE));
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(timeout * 4);
        let info = url.into_connection_info()?.set_tcp_settings(tcp);
        // The third version of the protocol is the one in which a lost connection is told at once.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Ok(Self { info: info.set_redis_settings(settings), timeout })
    }

    pub(super) fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout))
            .set_pipeline_buffer_size(BUFFER)
    }
}

/// The run id of the server at the other end.
pub(super) async fn run_id(connection: &mut MultiplexedConnection) -> Result<String, RedisError> {
    let info: String = redis::cmd("INFO").arg("server").query_async(connection).await?;
    Ok(field(&info, "run_id").to_owned())
}

/// The run id and the replication id of a master.
///
/// A server that was demoted, took another's older data and was promoted again is still the same run, and even has its scripts; but
/// whoever is promoted begins a new replication id. Measured on Redis 7.0: so does a master whose first replica comes, and one that
/// has had no replica for `repl-backlog-ttl` (an hour). These two have lost nothing, and cannot be told from the others: a needless
/// recovery, once.
pub(super) async fn history(connection: &mut MultiplexedConnection, run_id: &str) -> Result<String, Fault> {
    let info = redis::cmd("INFO").arg("replication").query_async::<String>(connection).await;
    let info = info.map_err(|error| fault::of(&error))?;
    if field(&info, "role") != "master" {
        let master = format!("{}:{}", field(&info, "master_host"), field(&info, "master_port"));
        return Err(Fault::Fenced(format!("the server is a replica of {master}")));
    }
    Ok(format!("{run_id}/{}", field(&info, "master_replid")))
}

/// A line of what INFO tells; empty if it is not there.
pub(super) fn field<'a>(info: &'a str, name: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    info.lines().find_map(value).unwrap_or_default().trim()
}

/// The hot connections.
pub(super) struct Links {
    slots: Vec<Arc<Slot>>,
    next: AtomicUsize,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("slots", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Links {
    /// Begins to connect, and does not wait for it.
    pub(super) fn new(target: &Target, shutdown: &Shutdown) -> Result<Self, RedisError> {
        let client = Client::open(target.info.clone())?;
        let slots = (0..LINKS).map(|_| {
            let slot = Arc::new(Slot {
                client: client.clone(),
                target: target.clone(),
                shutdown: shutdown.clone(),
                state: Mutex::new(State { link: None, why: "not connected yet".to_owned(), connecting: false }),
            });
            slot.connect();
            slot
        });
        Ok(Self { slots: slots.collect(), next: AtomicUsize::new(0) })
    }

    /// Sends a command that is made for the server at the other end; `make` gets its run id.
    pub(super) async fn send(&self, make: impl FnOnce(&str) -> Cmd) -> Result<Value, Fault> {
        let (slot, link) = self.pick()?;
        let answer = make(&link.run_id).query_async::<Value>(&mut link.connection.clone()).await;
        match answer {
            Ok(value) => {
                link.timeouts.store(0, Ordering::Relaxed);
                Ok(value)
            }
            Err(error) => {
                slot.note(&link, &error);
                Err(fault::of(&error))
            }
        }
    }

    fn pick(&self) -> Result<(&Arc<Slot>, Arc<Link>), Fault> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        for offset in 0..self.slots.len() {
            let slot = &self.slots[start.wrapping_add(offset) % self.slots.len()];
            if let Some(link) = slot.state().link.clone() {
                return Ok((slot, link));
            }
            slot.connect();
        }
        let why = self.slots.first().map(|slot| slot.state().why.clone()).unwrap_or_default();
        Err(Fault::NotDone(format!("no connection to Redis: {why}")))
    }
}

/// A connection that is up.
struct Link {
    connection: MultiplexedConnection,
    run_id: String,
    /// In a row.
    timeouts: AtomicU32,
    /// Set when the other end has closed it.
    closed: Arc<AtomicBool>,
}

/// The place of one connection, which outlives the connections that fill it.
struct Slot {
    client: Client,
    target: Target,
    shutdown: Shutdown,
    state: Mutex<State>,
}

struct State {
    link: Option<Arc<Link>>,
    /// Why there is no link.
    why: String,
    connecting: bool,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every write is of one field after another, so a panic between them leaves nothing torn.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides whether a connection survives an error.
    fn note(self: &Arc<Self>, link: &Arc<Link>, error: &RedisError) {
        let dead = if error.is_timeout() {
            link.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS
        } else {
            link.timeouts.store(0, Ordering::Relaxed);
            error.is_unrecoverable_error()
        };
        if dead {
            self.lose(&error.to_string(), |current| Arc::ptr_eq(current, link));
        }
    }

    /// Takes the link out, if it is the one that is meant, and connects again.
    fn lose(self: &Arc<Self>, why: &str, is_meant: impl FnOnce(&Arc<Link>) -> bool) {
        let mut state = self.state();
        if !state.link.as_ref().is_some_and(is_meant) {
            return;
        }
        state.link = None;
        why.clone_into(&mut state.why);
        drop(state);
        tracing::warn!(why, "a connection to Redis is replaced");
        self.connect();
    }

    /// Begins to connect, unless that is going on. It ends when it succeeds, when nobody needs the slot any more, or with the
    /// first failure after a shutdown has begun.
    fn connect(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state().connecting, true) {
            return;
        }
        let (slot, shutdown) = (Arc::downgrade(self), self.shutdown.clone());
        self.shutdown.spawn(async move {
            let mut backoff = FIRST_BACKOFF;
            while let Some(slot) = slot.upgrade() {
                if slot.try_connect().await {
                    return;
                }
                if shutdown.has_begun() {
                    slot.state().connecting = false;
                    return;
                }
                drop(slot);
                shutdown.sleep(backoff.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                backoff = (backoff * 2).min(LAST_BACKOFF);
            }
        });
    }

    /// Returns whether the slot has a link now.
    async fn try_connect(self: &Arc<Self>) -> bool {
        let closed = Arc::new(AtomicBool::new(false));
        let config = self.target.config().set_push_sender(self.watch(Arc::clone(&closed)));
        let connected = async {
            let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            let run_id = run_id(&mut connection).await?;
            Ok::<_, RedisError>((connection, run_id))
        };
        match connected.await {
            Ok((connection, run_id)) => {
                let link = Link { connection, run_id, timeouts: AtomicU32::new(0), closed: Arc::clone(&closed) };
                let mut state = self.state();
                state.connecting = false;
                state.link = Some(Arc::new(link));
                drop(state);
                // It may have been closed before it stood in its place, where its end would have been noticed.
                if closed.load(Ordering::SeqCst) {
                    self.lose("closed at once", |current| Arc::ptr_eq(&current.closed, &closed));
                }
                true
            }
            Err(error) => {
                let mut state = self.state();
                if state.why != error.to_string() {
                    tracing::warn!(%error, "Redis cannot be reached; trying on");
                    state.why = error.to_string();
                }
                false
            }
        }
    }

    /// What the client library calls when the other end closes the connection.
    fn watch(self: &Arc<Self>, closed: Arc<AtomicBool>) -> impl Fn(PushInfo) -> Result<(), SendError> + use<> {
        let slot: Weak<Self> = Arc::downgrade(self);
        move |push| {
            if push.kind == PushKind::Disconnection {
                closed.store(true, Ordering::SeqCst);
                if let Some(slot) = slot.upgrade() {
                    slot.lose("the server closed it", |current| Arc::ptr_eq(&current.closed, &closed));
                }
            }
            Ok(())
        }
    }
}
