//! A supervisor such as systemd: the sockets that it hands over, and what it is told.
//!
//! A socket that it holds outlives the process. Whoever connects between two processes waits in the kernel for the next one, so a
//! restart refuses nobody. What it is told (`sd_notify`) is whether this process is ready, why not, that it is stopping and for how
//! long, and, if a watchdog is set, that its tasks still take their turns. Without a supervisor all of this is nothing.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fmt, io};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::SockRef;

use crate::cores::Seats;
use crate::readiness::Readiness;
use crate::shutdown::Shutdown;

/// What the sockets are called, in `FileDescriptorName=` of a socket unit.
const PUBLIC: &str = "public";
const ADMIN: &str = "admin";
/// Sockets are numbered from here.
const FIRST: usize = 3;
/// Between two looks at the checks.
const INTERVAL: Duration = Duration::from_millis(100);

/// Listeners that are bound already; what is not there is bound by this process.
#[derive(Debug, Default)]
pub struct Sockets {
    pub public: Option<TcpListener>,
    pub admin: Option<TcpListener>,
}

/// A socket that was handed over is not what this process can use.
#[derive(Debug, thiserror::Error)]
pub enum BadSocket {
    #[error(
        "{count} sockets were handed over and {names} are named (LISTEN_FDNAMES): each needs its FileDescriptorName="
    )]
    Unnamed { count: usize, names: usize },
    #[error("the socket {fd} is called {name:?}: FileDescriptorName= is public or admin")]
    UnknownName { fd: usize, name: String },
    #[error("two sockets are called {0:?}: a listener has one")]
    Twice(String),
    #[error("the socket {name} ({fd}) is no listener for TCP: {cause}")]
    NoListener { fd: usize, name: String, cause: io::Error },
}

impl Sockets {
    /// What was handed to this process (`LISTEN_FDS`). To be called once, before there are threads: it takes `LISTEN_FDS` and `LISTEN_PID`
    /// out of the environment, so that no child takes the sockets for its own. `LISTEN_FDNAMES` stays, and means nothing without them.
    pub fn handed() -> Result<Self, BadSocket> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut handed = ListenFd::from_env();
        let names: Vec<_> = names.split(':').filter(|name| !name.is_empty()).collect();
        let mut sockets = Self::default();
        if handed.len() == 0 {
            return Ok(sockets);
        }
        if handed.len() != names.len() {
            return Err(BadSocket::Unnamed { count: handed.len(), names: names.len() });
        }
        for (index, name) in names.into_iter().enumerate() {
            let fd = FIRST + index;
            let place = match name {
                PUBLIC => &mut sockets.public,
                ADMIN => &mut sockets.admin,
                _ => return Err(BadSocket::UnknownName { fd, name: name.to_owned() }),
            };
            let no_listener = |cause| BadSocket::NoListener { fd, name: name.to_owned(), cause };
            let listener = handed.take_tcp_listener(index).and_then(usable).map_err(no_listener)?;
            if place.replace(listener).is_some() {
                return Err(BadSocket::Twice(name.to_owned()));
            }
        }
        Ok(sockets)
    }
}

/// A socket that listens and is ready to be waited for.
fn usable(listener: Option<TcpListener>) -> io::Result<TcpListener> {
    let listener = listener.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is not there"))?;
    if !SockRef::from(&listener).is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen (Accept=no is needed)"));
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What supervises this process, if anything does. Cheap to clone.
#[derive(Clone, Default)]
pub struct Supervisor {
    listens: bool,
    watchdog: Option<Duration>,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("listens", &self.listens).field("watchdog", &self.watchdog).finish()
    }
}

impl Supervisor {
    /// The one of this process (`NOTIFY_SOCKET`, `WATCHDOG_USEC`). By default there is none: several processes of a test have one
    /// environment, and none of them may speak for all.
    pub fn of_process() -> Self {
        Self { listens: env::var_os("NOTIFY_SOCKET").is_some(), watchdog: sd_notify::watchdog_enabled() }
    }

    /// Tells how this process stands, whenever that changes, until it stops.
    ///
    /// Ready is said once, when all checks hold; from then on a check that fails is a matter of the balancer, and the supervisor
    /// hears of it in words only. `takes`: how long a stop may take that begins now; it is asked for, so that a drain which is longer than
    /// the supervisor's own timeout is not cut off.
    pub async fn keep_told(self, readiness: Arc<Readiness>, takes: impl Fn() -> Duration, shutdown: Shutdown) {
        if !self.listens {
            return shutdown.begun().await;
        }
        let (mut announced, mut said) = (false, String::new());
        loop {
            let failing = readiness.failing();
            if failing.is_none() && !announced {
                announced = tell(&[NotifyState::Ready]);
            }
            let status = failing.map_or_else(|| "ready".to_owned(), |why| format!("not ready: {why}"));
            if status != said && tell(&[NotifyState::Status(&status)]) {
                said = status;
            }
            if shutdown.sleep(INTERVAL).await {
                break;
            }
        }
        tell(&[
            NotifyState::Stopping,
            NotifyState::ExtendTimeoutUsec(takes().as_micros().try_into().unwrap_or(u32::MAX)),
            NotifyState::Status("stopping: what is in flight is finished"),
        ]);
    }

    /// Tells the watchdog, for as long as it is polled, that tasks of this process still take their turns: it is not frozen, and not all of
    /// its threads are stuck, nor any core with the connections it has. A process that is stops being one: the supervisor kills it, and its
    /// part of the stock is sold by the others. A single task that hangs is not noticed here.
    pub async fn keep_watched(self, seats: Seats) {
        let Some(limit) = self.watchdog else { return std::future::pending().await };
        loop {
            tell(&[NotifyState::Watchdog]);
            // Twice within the limit, as is the custom; a core that is slow to take its turn has the rest of it.
            tokio::join!(tokio::time::sleep(limit / 2), seats.all_take_turns());
        }
    }
}

/// Returns whether it could be said.
fn tell(states: &[NotifyState<'_>]) -> bool {
    let told = sd_notify::notify(states);
    if let Err(error) = &told {
        tracing::debug!(%error, "the supervisor cannot be told");
    }
    told.is_ok()
}
