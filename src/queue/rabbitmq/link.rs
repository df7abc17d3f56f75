//! A connection that is made again for ever: one for publishing and one for consuming, since the broker blocks connections that
//! publish, and a writer must go on draining then.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::uri::AMQPUri;
use lapin::{Channel, Event};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::queue::Fault;
use crate::queue::rabbitmq::session::{CALL_TIMEOUT, Session, Unconnected};
use crate::shutdown::Shutdown;

/// The pause before the first new attempt, and the longest one. Each is cut at random by up to a half, so that many nodes do not
/// knock together.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often a connection is looked at: the broker's own close comes without an event.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long after the last use a stopping process keeps the connection: what is in flight may publish again in between.
const LINGER: Duration = Duration::from_millis(250);

/// A supervised connection.
pub(super) struct Link {
    name: &'static str,
    state: watch::Sender<State>,
    /// A token for everyone who is using the connection; a stopping process waits for them.
    users: TaskTracker,
}

#[derive(Debug, Clone)]
enum State {
    /// There is no connection, and the last attempt to make one was refused.
    Down(String),
    /// There was one, and nothing has refused another yet: a broker that is frozen answers no attempt either.
    Lost(String),
    Up {
        session: Arc<Session>,
        /// Why the broker takes no more messages on it, if so.
        blocked: Option<String>,
    },
    Closed,
}

impl State {
    /// The session, if it is of use.
    fn session(&self) -> Option<Arc<Session>> {
        match self {
            Self::Up { session, .. } if session.is_connected() => Some(Arc::clone(session)),
            Self::Up { .. } | Self::Down(_) | Self::Lost(_) | Self::Closed => None,
        }
    }

    fn is_blocked(&self) -> bool {
        matches!(self, Self::Up { blocked: Some(_), .. })
    }
}

impl Link {
    /// Starts to connect, and never stops before the shutdown.
    pub(super) fn start(name: &'static str, uri: Result<AMQPUri, String>, shutdown: &Shutdown) -> Arc<Self> {
        let link = Arc::new(Self {
            name,
            state: watch::Sender::new(State::Down("connecting".to_owned())),
            users: TaskTracker::new(),
        });
        shutdown.spawn_essential(name, supervise(Arc::clone(&link), uri, shutdown.clone()));
        link
    }

    /// Keeps the connection from being closed by a shutdown while the token lives.
    pub(super) fn in_use(&self) -> TaskTrackerToken {
        self.users.token()
    }

    /// A channel for one task. Waits for the connection, but not for long.
    pub(super) async fn channel(&self) -> Result<Channel, Fault> {
        let deadline = Instant::now() + CALL_TIMEOUT;
        loop {
            let session = timeout_at(deadline, self.session(|state| state.session().is_some())).await;
            let Ok(Some(session)) = session else {
                return Err(Fault(self.trouble().unwrap_or_else(|| "not connected".to_owned())));
            };
            match session.channel().await {
                Ok(channel) => return Ok(channel),
                Err(fault) if session.is_connected() => return Err(fault),
                // It ended before anybody noticed.
                Err(fault) => session.fail(fault.0),
            }
        }
    }

    /// The session, once the broker takes messages on it; `None` when the link is closed.
    pub(super) async fn writable(&self) -> Option<Arc<Session>> {
        self.session(|state| state.session().is_some() && !state.is_blocked()).await
    }

    /// The session, once the state is what is wanted; `None` when the link is closed.
    async fn session(&self, is_wanted: impl Fn(&State) -> bool) -> Option<Arc<Session>> {
        let mut states = self.state.subscribe();
        let state = states.wait_for(|state| matches!(state, State::Closed) || is_wanted(state)).await;
        state.ok()?.session()
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.state.borrow().is_blocked()
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(&*self.state.borrow(), State::Closed)
    }

    /// Resolves when this session, which has failed, is the link's no more.
    pub(super) async fn left(&self, session: &Arc<Session>) {
        let is_another = |state: &State| state.session().is_none_or(|now| !Arc::ptr_eq(&now, session));
        // The sender lives as long as `self`, so there is no other way to end.
        let _ = self.state.subscribe().wait_for(is_another).await;
    }

    /// Resolves when the link is closed.
    pub(super) async fn closed(&self) {
        // The sender lives as long as `self`, so there is no other way to end.
        let _ = self.state.subscribe().wait_for(|state| matches!(state, State::Closed)).await;
    }

    /// Why nothing can be published now, if so. Does no I/O.
    pub(super) fn trouble(&self) -> Option<String> {
        self.outage().or_else(|| self.blocked())
    }

    /// Why there is no broker to speak to, if so.
    pub(super) fn outage(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Down(why) => Some(format!("not connected: {why}")),
            State::Closed => Some("closed: the process is stopping".to_owned()),
            State::Lost(_) | State::Up { .. } => None,
        }
    }

    /// Why a broker that is there takes nothing, if so.
    pub(super) fn blocked(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Lost(why) => Some(format!("not connected: {why}")),
            State::Up { blocked: Some(why), .. } => Some(format!("blocked by the broker: {why}")),
            State::Up { blocked: None, .. } | State::Down(_) | State::Closed => None,
        }
    }

    fn set_off(&self, state: State) {
        if let State::Down(why) | State::Lost(why) = &state {
            tracing::warn!(link = self.name, why, "no connection to the broker");
        }
        self.state.send_replace(state);
    }

    /// Stays with a session until it is of no use any more, and says why.
    async fn attend(&self, session: &Arc<Session>) -> String {
        let mut events = std::pin::pin!(session.events());
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        self.state.send_replace(State::Up { session: Arc::clone(session), blocked: None });
        tracing::info!(link = self.name, "connected to the broker");
        loop {
            tokio::select! {
                () = session.failed() => return session.reason(),
                Some(event) = events.next() => match event {
                    Event::ConnectionBlocked(why) => self.set_blocked(Some(why)),
                    Event::ConnectionUnblocked => self.set_blocked(None),
                    // The end of a channel is an event, too, and no concern of the others.
                    Event::Error(error) if !session.is_connected() => return error.to_string(),
                    _ => {}
                },
                _ = look.tick() => if !session.is_connected() {
                    return "the broker closed the connection".to_owned();
                },
            }
        }
    }

    fn set_blocked(&self, why: Option<String>) {
        if let Some(why) = &why {
            tracing::warn!(link = self.name, why, "the broker takes no more messages");
        } else {
            tracing::info!(link = self.name, "the broker takes messages again");
        }
        self.state.send_modify(|state| {
            if let State::Up { blocked, .. } = state {
                *blocked = why;
            }
        });
    }

    /// Resolves when the process is stopping and nobody has used the connection for a while.
    async fn quiet(&self, shutdown: &Shutdown) {
        shutdown.begun().await;
        self.users.close();
        loop {
            self.users.wait().await;
            tokio::time::sleep(LINGER).await;
            if self.users.is_empty() {
                return;
            }
        }
    }

    fn close(&self) -> Option<Arc<Session>> {
        match self.state.send_replace(State::Closed) {
            State::Up { session, .. } => Some(session),
            State::Down(_) | State::Lost(_) | State::Closed => None,
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("name", &self.name).field("trouble", &self.trouble()).finish_non_exhaustive()
    }
}

async fn supervise(link: Arc<Link>, uri: Result<AMQPUri, String>, shutdown: Shutdown) {
    // Also when this task is dropped: a connection that nobody supervises must not stay.
    let closing = Closing(Arc::clone(&link));
    tokio::select! {
        () = link.quiet(&shutdown) => {}
        () = reconnect(&link, uri) => {}
    }
    if let Some(session) = link.close() {
        session.fail("closed: the process is stopping");
        session.close().await;
    }
    drop(closing);
}

struct Closing(Arc<Link>);

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(session) = self.0.close() {
            session.cut();
        }
    }
}

/// Never returns.
async fn reconnect(link: &Link, uri: Result<AMQPUri, String>) {
    let uri = match uri {
        Ok(uri) => uri,
        Err(why) => {
            link.set_off(State::Down(why));
            return std::future::pending().await;
        }
    };
    let mut pause = FIRST_PAUSE;
    let mut was_there = false;
    loop {
        let began = Instant::now();
        match Session::connect(uri.clone(), link.name).await {
            Ok(session) => {
                let session = Arc::new(session);
                let why = link.attend(&session).await;
                session.fail(why.clone());
                session.cut();
                link.set_off(State::Lost(why));
                was_there = true;
                if began.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
            }
            Err(Unconnected::Silent(why)) if was_there => link.set_off(State::Lost(why)),
            Err(Unconnected::Silent(why) | Unconnected::Refused(why)) => {
                link.set_off(State::Down(why));
                was_there = false;
            }
        }
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}
