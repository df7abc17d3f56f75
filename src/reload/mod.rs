//! Takes a changed configuration while the process runs: all of it or nothing, and the last good one stays.
//!
//! Three ask for it: a hang-up, the file itself (`follow`), and an operator. Whoever asks, the sources are read as at the start, with the
//! same environment and flags above the file, and checked as a whole. What is live is given to its [`crate::config::live`] cell, and
//! counts from then on; what is not is remembered as waiting for a restart. One reload runs at a time.
//!
//! A change is in the audit log, with who asked. What went wrong, and what waits, stands in the readiness probe's full answer; neither makes a
//! process unready, since it runs on as it did.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::diff::{Changed, Diff};
use crate::config::live::LiveSettings;
use crate::config::{Origin, Problem, Problems, Settings, Sources, load_from};
use crate::domain::NodeId;
use crate::meters::{Gauge, Meters};
use crate::shutdown::Shutdown;
use crate::store::{Change, Store, keep_logged};
use crate::telemetry::{BadFilter, Logs};

mod follow;

/// How long one who asks waits for another reload to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the audit log calls it.
const WHAT: &str = "config.reload";

/// Where a configuration comes from, and where it goes that is no setting of a module.
#[derive(Debug, Clone)]
pub struct Source {
    pub sources: Sources,
    pub logs: Logs,
}

/// What a reloader works with.
#[derive(Debug)]
pub struct Parts {
    pub source: Source,
    /// What the process started with.
    pub settings: Settings,
    /// The cells of it.
    pub live: LiveSettings,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub meters: Meters,
    pub node: NodeId,
    /// A process that stops takes no new configuration.
    pub shutdown: Shutdown,
}

/// Takes changed configurations. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reloader(Arc<Inner>);

struct Inner {
    source: Source,
    live: LiveSettings,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    node: NodeId,
    shutdown: Shutdown,
    /// One at a time.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// Somebody asked from where nobody can wait for an answer.
    asked: Notify,
    successful: Gauge,
    succeeded_at: Gauge,
}

/// Where the configuration stands.
#[derive(Debug)]
struct State {
    running: Settings,
    needs_restart: Vec<Changed>,
    /// Why the last reload changed nothing.
    failed: Option<String>,
}

/// What came of a reload. For a dry run: what would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// What counts from now on.
    pub changed: Vec<Changed>,
    /// What the sources say otherwise than what runs, and only a restart takes.
    pub needs_restart: Vec<Changed>,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Wrong(Problems),
    #[error("another reload is under way")]
    Busy,
    #[error("the process is stopping")]
    Stopping,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Reloader {
    pub fn new(parts: Parts) -> Self {
        let Parts { source, settings, live, store, clock, meters, node, shutdown } = parts;
        let this = Self(Arc::new(Inner {
            source,
            live,
            store,
            clock,
            node,
            shutdown,
            turn: tokio::sync::Mutex::default(),
            state: Mutex::new(State { running: settings, needs_restart: Vec::new(), failed: None }),
            asked: Notify::new(),
            successful: meters.gauge("rushgate_config_last_reload_successful", &[]),
            succeeded_at: meters.gauge("rushgate_config_last_reload_success_timestamp_seconds", &[]),
        }));
        // Whoever got here has read a right one.
        this.count(true);
        this
    }

    /// Reads the sources again, and takes what is live of them; for a dry run, says what that would be.
    ///
    /// Must run to its end: it is not to be dropped on the way.
    pub async fn reload(&self, who: &str, dry_run: bool) -> Result<Reloaded, Refused> {
        let _turn = self.turn().await?;
        let sources = self.0.source.sources.clone();
        // A file may hang, as one on a network does; that is no thread's matter who answers claims.
        let read = tokio::task::spawn_blocking(move || sources.read_file());
        let file = read.await.unwrap_or_else(|gone| Some(Err(io::Error::other(gone))));
        self.take(file, who, dry_run).await
    }

    /// Asks for a reload and does not wait for it. Asked often, it is done once.
    pub fn ask(&self) {
        if self.0.shutdown.has_begun() {
            tracing::warn!(refused = %Refused::Stopping, "the configuration was not read again");
        }
        self.0.asked.notify_one();
    }

    /// Reloads when it is asked to, and when the file has changed, until the shutdown.
    pub async fn keep_reloading(self) {
        let following = async {
            if let Some(file) = &self.0.source.sources.file {
                self.follow(file).await;
            }
        };
        let heeding = async {
            while !self.0.shutdown.wait(self.0.asked.notified()).await {
                if let Err(refused @ (Refused::Busy | Refused::Stopping)) = self.reload("signal", false).await {
                    tracing::warn!(%refused, "the configuration was not read again");
                }
            }
        };
        Box::pin(async { tokio::join!(following, heeding) }).await;
    }

    /// What is worth knowing of the configuration, one line each.
    pub fn notes(&self) -> Vec<String> {
        let state = self.state();
        let failed = state.failed.iter().map(|why| format!("config: the last reload changed nothing: {why}"));
        let waiting = state.needs_restart.iter().map(|Changed { key, before, after }| {
            format!("config: {key} needs a restart: {before} runs, and {after} is configured")
        });
        failed.chain(waiting).collect()
    }

    /// The settings that run, as text, without what must not be seen; and which of them a restart would change.
    pub fn show(&self) -> String {
        let state = self.state();
        let waiting = state
            .needs_restart
            .iter()
            .map(|waiting| format!("# {} = {} after a restart\n", waiting.key, waiting.after));
        state.running.to_string() + &waiting.collect::<String>()
    }

    /// Waits for its turn to reload.
    async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Refused> {
        let turn = tokio::time::timeout(PATIENCE, self.0.turn.lock()).await.map_err(|_| Refused::Busy)?;
        if self.0.shutdown.has_begun() { Err(Refused::Stopping) } else { Ok(turn) }
    }

    /// Follows the file: takes it whenever it has changed and rests.
    async fn follow(&self, path: &Path) {
        let mut seen = follow::Seen::default();
        while !self.0.shutdown.sleep(follow::INTERVAL).await {
            if !seen.has_settled(follow::Print::of(path).await) {
                continue;
            }
            let Ok(_turn) = self.turn().await else { continue };
            let file = match follow::read_at_rest(path, &self.0.source.sources).await {
                follow::Read::Text(text) if text.trim().is_empty() && self.would_change(&text) => {
                    Some(Err(follow::is_empty()))
                }
                follow::Read::Text(text) => Some(Ok(text)),
                follow::Read::Failed(why) => Some(Err(why)),
                follow::Read::Moved => continue,
            };
            seen.take();
            // What went wrong is told and kept.
            let _told = self.take(file, "file", false).await;
        }
    }

    /// Does this file say anything else than what runs?
    fn would_change(&self, text: &str) -> bool {
        let loaded = load_from(&self.0.source.sources, Some(Ok(text.to_owned())));
        let diff = loaded.and_then(|loaded| Diff::new(&self.state().running, &loaded));
        !diff.is_ok_and(|diff| diff.live.is_empty() && diff.restart.is_empty())
    }

    /// Takes what is live of these sources, or says why not. Nothing is changed before all of it is known to be right.
    async fn take(&self, file: Option<io::Result<String>>, who: &str, dry_run: bool) -> Result<Reloaded, Refused> {
        let running = self.state().running.clone();
        let loaded = load_from(&self.0.source.sources, file);
        let diff = loaded.and_then(|loaded| Diff::new(&running, &loaded));
        if dry_run {
            let Diff { live: changed, restart: needs_restart, .. } = diff.map_err(Refused::Wrong)?;
            return Ok(Reloaded { changed, needs_restart });
        }
        let diff = diff.and_then(|diff| self.set_filter(&running, &diff.running).map(|()| diff));
        let diff = diff.map_err(|problems| {
            tracing::error!(who, %problems, "the configuration was not taken; the last good one runs on");
            self.state().failed = Some(problems.to_string());
            self.count(false);
            Refused::Wrong(problems)
        })?;
        self.0.live.take(&diff.running);
        self.count(true);
        let known = std::mem::take(&mut self.state().needs_restart);
        for Changed { key, before, after } in diff.restart.iter().filter(|waiting| !known.contains(waiting)) {
            tracing::warn!(key, running = before, configured = after, "a changed setting needs a restart");
        }
        let reloaded = Reloaded { changed: diff.live, needs_restart: diff.restart };
        let needs_restart = reloaded.needs_restart.clone();
        *self.state() = State { running: diff.running, needs_restart, failed: None };
        self.log(who, &reloaded.changed).await;
        Ok(reloaded)
    }

    /// The one live setting that is in no cell.
    fn set_filter(&self, running: &Settings, next: &Settings) -> Result<(), Problems> {
        if next.log.filter == running.log.filter {
            return Ok(());
        }
        let problem = |why: BadFilter| Problem { at: Origin::Default, message: why.to_string() };
        self.0.source.logs.set_filter(&next.log.filter).map_err(|why| Problems(vec![problem(why)]))
    }

    /// Writes a change into the audit log.
    async fn log(&self, who: &str, changed: &[Changed]) {
        if changed.is_empty() {
            return;
        }
        let (before, after) = Changed::values(changed);
        let (who, what, subject) = (who.to_owned(), WHAT.to_owned(), self.0.node.to_string());
        let (before, after) = (before.to_string(), after.to_string());
        tracing::info!(who, what, subject, before, after, "the configuration has changed");
        keep_logged(&*self.0.store, &Change { at: self.0.clock.now(), who, what, subject, before, after }).await;
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds stay far below 2^53")]
    fn count(&self, successful: bool) {
        self.0.successful.set(if successful { 1.0 } else { 0.0 });
        if successful {
            self.0.succeeded_at.set(self.0.clock.now().0 as f64 / 1000.0);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
