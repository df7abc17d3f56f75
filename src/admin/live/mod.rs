//! The live feed: how the site stands, once a second, for whoever watches.
//!
//! - [`snapshot`]: what is told; `sampler` puts it together
//! - `nodes`: who is heard; `latency`: how long claims take; `health`: how the backends are
//!
//! One sampler serves all watchers, and runs only while there are some. Each is given the newest snapshot when it can take one: who is slow
//! misses some, and nothing is queued for anybody.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::admin::Parts;
use crate::admin::live::sampler::Sampler;
use crate::admin::live::snapshot::Snapshot;
use crate::admin::problem::{Code, Problem};
use crate::shutdown::Shutdown;

mod health;
mod latency;
mod nodes;
mod sampler;
pub mod snapshot;

/// Those who watch at one time. The other connections are for those who do something.
const WATCHERS: usize = 16;
/// Between two looks at who beats.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS_PER_SNAPSHOT: u32 = 10;
/// Snapshots that are taken for nobody before the sampler rests: who asks for one now and then gets rates with it.
const LINGER: u32 = 10;
/// Without a snapshot for so long something is wrong, and a watcher had better come again.
const SILENCE: Duration = Duration::from_secs(10);
/// A watcher who takes nothing for so long is cut: it sleeps, or what is between has lost it, and another may have its seat.
const UNREAD: Duration = Duration::from_secs(10);
/// How long a single snapshot may be waited for: rates need two.
const ONCE: Duration = Duration::from_secs(3);
/// Milliseconds after which a watcher whose stream has ended comes again.
const RETRY: &str = "retry: 1000\n\n";

/// A watcher's events, as bytes on the wire.
pub(super) type Events = BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

/// Hands out snapshots. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    shutdown: Shutdown,
    seats: Arc<Semaphore>,
    /// `None` while nothing is sampled.
    newest: watch::Sender<Option<Told>>,
    is_sampling: Mutex<bool>,
}

/// A snapshot as it is sent.
#[derive(Debug, Clone)]
struct Told {
    event: Bytes,
    has_rates: bool,
}

impl Feed {
    /// Until this shutdown begins.
    pub(super) fn new(parts: Parts, shutdown: Shutdown) -> Self {
        let (seats, newest) = (Arc::new(Semaphore::new(WATCHERS)), watch::Sender::new(None));
        Self(Arc::new(Inner { parts, shutdown, seats, newest, is_sampling: Mutex::default() }))
    }

    /// Snapshots as server-sent events, until then at the latest. `pulse` tells when they are taken no more.
    pub(super) fn watch(&self, until: Instant, pulse: Pulse) -> Result<Events, Problem> {
        let seat = Arc::clone(&self.0.seats).try_acquire_owned().map_err(|_| {
            let why = format!("{WATCHERS} watch already, and no more may at one time; ask for ?once=true instead.");
            Problem::new(Code::Busy, why)
        })?;
        let watcher = Watcher { newest: self.subscribe(), until, shutdown: self.0.shutdown.clone(), _seat: seat };
        let snapshots = stream::unfold(watcher, Watcher::next);
        let mut events = stream::once(async { Bytes::from_static(RETRY.as_bytes()) }).chain(snapshots).boxed();
        pulse.beat();
        let taken = stream::poll_fn(move |context| {
            pulse.beat();
            events.poll_next_unpin(context)
        });
        Ok(taken.map(|event| Ok(Frame::data(event))).boxed())
    }

    /// One snapshot, with rates if they can be had.
    pub(super) async fn once(&self) -> Result<String, Problem> {
        let mut newest = self.subscribe();
        let told =
            async { newest.wait_for(|told| told.as_ref().is_some_and(|told| told.has_rates)).await.ok()?.clone() };
        let no = |why: &str| Problem::new(Code::Unavailable, why);
        let told = tokio::select! {
            () = self.0.shutdown.begun() => return Err(no("The process is stopping, and takes no snapshots.")),
            told = tokio::time::timeout(ONCE, told) => told.ok().flatten(),
        };
        let told = told.ok_or_else(|| no("No snapshot was ready in time; ask again."))?;
        Ok(String::from_utf8_lossy(told.json()).into_owned())
    }

    /// Sees to it that there will be snapshots. The one that is there counts as new.
    fn subscribe(&self) -> watch::Receiver<Option<Told>> {
        let mut is_sampling = self.is_sampling();
        let mut newest = self.0.newest.subscribe();
        newest.mark_changed();
        if !*is_sampling {
            *is_sampling = true;
            self.0.shutdown.spawn(self.clone().sample());
        }
        newest
    }

    fn is_sampling(&self) -> std::sync::MutexGuard<'_, bool> {
        self.0.is_sampling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Samples until nobody watches.
    async fn sample(self) {
        let mut begun = Begun { feed: &self, is_over: false };
        let mut sampler = Sampler::new(self.0.parts.clone());
        let looks = sampler.looks.clone();
        let sampling = async {
            let mut ticks = tokio::time::interval(LOOK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut looked, mut told, mut for_nobody) = (0, 0_u32, 0);
            while for_nobody < LINGER || !self.ends_unwatched() {
                ticks.tick().await;
                sampler.hear();
                if looked % LOOKS_PER_SNAPSHOT == 0 {
                    self.0.newest.send_replace(Told::new(&sampler.snapshot().await, told > 0));
                    told = told.saturating_add(1);
                    for_nobody = if self.0.newest.receiver_count() == 0 { for_nobody + 1 } else { 0 };
                }
                looked = (looked + 1) % LOOKS_PER_SNAPSHOT;
            }
        };
        tokio::select! {
            () = self.0.shutdown.begun() => {}
            () = sampling => begun.is_over = true,
            () = looks.keep(&self.0.parts) => {}
        }
    }

    /// Ends the sampling if there is nobody; whoever comes now begins it anew.
    fn ends_unwatched(&self) -> bool {
        let mut is_sampling = self.is_sampling();
        if self.0.newest.receiver_count() > 0 {
            return false;
        }
        *is_sampling = false;
        self.0.newest.send_replace(None);
        true
    }
}

/// A sampling that goes on. One that breaks off, as by a panic, leaves the feed to whoever comes next.
struct Begun<'a> {
    feed: &'a Feed,
    /// It has ended, and another may have begun since.
    is_over: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            *self.feed.is_sampling() = false;
            self.feed.0.newest.send_replace(None);
        }
    }
}

impl Told {
    const BEFORE: &str = "event: snapshot\ndata: ";
    const AFTER: &str = "\n\n";

    fn new(snapshot: &Snapshot, has_rates: bool) -> Option<Self> {
        let json = serde_json::to_string(snapshot).ok()?;
        Some(Self { event: [Self::BEFORE, &json, Self::AFTER].concat().into(), has_rates })
    }

    fn json(&self) -> &[u8] {
        &self.event[Self::BEFORE.len()..self.event.len() - Self::AFTER.len()]
    }
}

/// When somebody last took from a stream of events, if there is one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulse(Arc<Mutex<Option<Instant>>>);

impl Pulse {
    fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is there a stream?
    pub(super) fn has_begun(&self) -> bool {
        self.last().is_some()
    }

    /// Resolves when there is a stream from which nothing has been taken for too long.
    pub(super) async fn stopped(&self) {
        loop {
            let last = self.last();
            let ends = last.unwrap_or_else(Instant::now) + UNREAD;
            if last.is_some() && ends <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(ends).await;
        }
    }
}

/// One who watches.
struct Watcher {
    newest: watch::Receiver<Option<Told>>,
    until: Instant,
    shutdown: Shutdown,
    _seat: OwnedSemaphorePermit,
}

impl Watcher {
    /// The newest snapshot, as soon as there is one that it has not seen.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        let wait = self.until.min(Instant::now() + SILENCE);
        let event = tokio::select! {
            () = self.shutdown.begun() => None,
            event = tokio::time::timeout_at(wait, newer(&mut self.newest)) => event.ok().flatten(),
        };
        event.map(|event| (event, self))
    }
}

async fn newer(newest: &mut watch::Receiver<Option<Told>>) -> Option<Bytes> {
    loop {
        newest.changed().await.ok()?;
        if let Some(told) = newest.borrow_and_update().as_ref() {
            return Some(told.event.clone());
        }
    }
}
