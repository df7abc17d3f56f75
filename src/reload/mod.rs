//! Takes a changed configuration while the process runs: all of it or nothing, and the last good one stays.
//!
//! Three ask for it: a hang-up, the file itself (`follow`), and an operator. Whoever asks, the sources are read as at the start, with the
//! same environment and flags above the file, and checked as a whole. What is live is given to its [`crate::config::live`] cell, and
//! counts from then on; what is not is remembered as waiting for a restart. One reload runs at a time.
//!
//! A change is in the audit log, with who asked. The line is written beside the reloads, so that a store that hangs keeps none of them waiting.
//! What went wrong, and what waits, stands in the readiness probe's full answer; neither makes a process unready, since it runs on as it did.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use crate::clock::Clock;
use crate::config::diff::{Changed, Diff};
use crate::config::live::LiveSettings;
use crate::config::{Covered, Origin, Problem, Problems, Settings, Sources, load_from};
use crate::domain::NodeId;
use crate::meters::{Gauge, Meters};
use crate::shutdown::Shutdown;
use crate::store::{Change, Store, keep_logged};
use crate::tasks::JoinHandle;
use crate::telemetry::{BadFilter, Logs};

mod follow;

/// How long one who asks waits for another reload to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an operator waits for the line in the audit log, of what counts already.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

/// How long a process that stops waits for it.
const LAST_LOG_PATIENCE: Duration = Duration::from_secs(2);

/// Lines of the audit log that may be on their way at one time.
const LINES: usize = 16;

/// What the audit log calls it.
const WHAT: &str = "config.reload";

/// Keys that a note names.
const NAMED: usize = 10;

/// Problems that are kept.
const KEPT: usize = 20;

/// Where a configuration comes from, and where it goes that is no setting of a module.
#[derive(Debug, Clone)]
pub struct Source {
    pub sources: Sources,
    pub logs: Logs,
    /// What was given at the start and did not count.
    pub covered: Vec<Covered>,
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
    lines: Arc<Semaphore>,
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
    covered: Vec<Covered>,
    /// Why the last reload changed nothing; the first of the reasons.
    failed: Option<Problems>,
}

/// What came of a reload. For a dry run: what would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// What counts from now on.
    pub changed: Vec<Changed>,
    /// What the sources say otherwise than what runs, and only a restart takes.
    pub needs_restart: Vec<Changed>,
    /// What the file says otherwise than the environment or a flag, which stand above it: no reload and no restart takes it.
    pub covered: Vec<Covered>,
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
        let covered = source.covered.clone();
        let this = Self(Arc::new(Inner {
            source,
            live,
            store,
            clock,
            node,
            shutdown,
            turn: tokio::sync::Mutex::default(),
            lines: Arc::new(Semaphore::new(LINES)),
            state: Mutex::new(State { running: settings, needs_restart: Vec::new(), covered, failed: None }),
            asked: Notify::new(),
            successful: meters.gauge("rushgate_config_last_reload_successful", &[]),
            succeeded_at: meters.gauge("rushgate_config_last_reload_success_timestamp_seconds", &[]),
        }));
        // Whoever got here has read a right one.
        this.count(true);
        this
    }

    /// Reads the sources again, and takes what is live of them; for a dry run, says what that would be. Waits a moment for the line in the
    /// audit log: the change counts before.
    pub async fn reload(&self, who: &str, dry_run: bool) -> Result<Reloaded, Refused> {
        let (reloaded, logged) = self.read_and_take(who, dry_run).await?;
        if let Some(logged) = logged {
            let _in_time = tokio::time::timeout(LOG_PATIENCE, logged).await;
        }
        Ok(reloaded)
    }

    async fn read_and_take(&self, who: &str, dry_run: bool) -> Result<(Reloaded, Option<Logged>), Refused> {
        let _turn = self.turn().await?;
        let sources = self.0.source.sources.clone();
        // A file may hang, as one on a network does; that is no thread's matter who answers claims.
        let read = tokio::task::spawn_blocking(move || sources.read_file_again());
        let file = read.await.unwrap_or_else(|gone| Some(Err(io::Error::other(gone))));
        self.take(file, who, dry_run)
    }

    /// Asks for a reload and does not wait for it. Asked often, it is done once.
    pub fn ask(&self) {
        if self.0.shutdown.has_begun() {
            warn_unread(&Refused::Stopping);
        }
        self.0.asked.notify_one();
    }

    /// Reloads when it is asked to, and when the file has changed, until the shutdown. Whatever it waits for then, it is done with: what is
    /// taken is taken in one piece.
    pub async fn keep_reloading(self) {
        let following = async {
            if let Some(file) = &self.0.source.sources.file {
                self.follow(file).await;
            }
        };
        let heeding = async {
            loop {
                self.0.asked.notified().await;
                match self.read_and_take("signal", false).await {
                    // It was asked for, and will be done.
                    Err(Refused::Busy) => self.0.asked.notify_one(),
                    Err(refused @ Refused::Stopping) => warn_unread(&refused),
                    // What went wrong is told and kept.
                    Ok(_) | Err(Refused::Wrong(_)) => {}
                }
            }
        };
        let both = async {
            tokio::join!(following, heeding);
        };
        let _has_begun = self.0.shutdown.wait(Box::pin(both)).await;
    }

    /// What is worth knowing of the configuration, one line each. Keys and no values: anybody may read it.
    pub fn notes(&self) -> Vec<String> {
        let state = self.state();
        let failed = state
            .failed
            .iter()
            .map(|_| "config: the last reload changed nothing; GET /admin/v1/config and the log tell why".to_owned());
        failed.chain(waiting(&state.needs_restart)).collect()
    }

    /// The settings that run, as text, without what must not be seen; which of them a restart would change; what of the file does not
    /// count; and why the last reload changed nothing, if it did not.
    pub fn show(&self) -> String {
        let state = self.state();
        let waiting = state
            .needs_restart
            .iter()
            .map(|waiting| format!("# {} = {} after a restart\n", waiting.key, waiting.after));
        let failed = state.failed.iter().flat_map(|problems| {
            let problems =
                problems.0.iter().map(|problem| format!("#   {}\n", problem.to_string().replace(['\r', '\n'], " ")));
            std::iter::once("# the last reload changed nothing:\n".to_owned()).chain(problems)
        });
        let covered = state.covered.iter().map(|covered| format!("# {covered}\n"));
        state.running.to_string() + &waiting.chain(covered).chain(failed).collect::<String>()
    }

    /// Waits for its turn to reload.
    async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Refused> {
        let turn = tokio::time::timeout(PATIENCE, self.0.turn.lock()).await.map_err(|_| Refused::Busy)?;
        if self.0.shutdown.has_begun() { Err(Refused::Stopping) } else { Ok(turn) }
    }

    /// Follows the file, if it can be read more than once: takes it whenever it has changed and rests.
    async fn follow(&self, path: &Path) {
        if !follow::can_be_followed(path).await {
            tracing::info!(path = %path.display(), "the configuration can be read once; it is not followed");
            return;
        }
        let (mut seen, mut trouble) = (follow::Seen::default(), follow::Trouble::default());
        loop {
            tokio::time::sleep(follow::INTERVAL).await;
            let print = follow::Print::of(path).await;
            if !seen.has_settled(print) || trouble.rests(print) {
                continue;
            }
            let Ok(_turn) = self.turn().await else { continue };
            let file = match follow::read_at_rest(path, print, &self.0.source.sources).await {
                follow::Read::Text(text) => text,
                follow::Read::Failed(why) => {
                    seen.forget();
                    if trouble.is_news(print, &why) {
                        let _told = self.take(Some(Err(why)), "file", false);
                    }
                    continue;
                }
                follow::Read::Moved => continue,
            };
            trouble = follow::Trouble::default();
            seen.take();
            let cut_off = file.trim().is_empty() && self.would_change(&file);
            let file = if cut_off { Err(follow::is_empty()) } else { Ok(file) };
            // What went wrong is told and kept.
            let _told = self.take(Some(file), "file", false);
        }
    }

    /// Does this file say anything else than what runs?
    fn would_change(&self, text: &str) -> bool {
        let loaded = load_from(&self.0.source.sources, Some(Ok(text.to_owned())));
        let diff = loaded.and_then(|loaded| Diff::new(&self.state().running, &loaded));
        !diff.is_ok_and(|diff| diff.live.is_empty() && diff.restart.is_empty())
    }

    /// Takes what is live of these sources, or says why not. Nothing is changed before all of it is known to be right.
    /// The line in the audit log is on its way then.
    fn take(
        &self,
        file: Option<io::Result<String>>,
        who: &str,
        dry_run: bool,
    ) -> Result<(Reloaded, Option<Logged>), Refused> {
        let running = self.state().running.clone();
        let loaded = load_from(&self.0.source.sources, file);
        let diff = loaded.and_then(|loaded| Diff::new(&running, &loaded));
        if dry_run {
            let Diff { live: changed, restart: needs_restart, covered, .. } = diff.map_err(Refused::Wrong)?;
            return Ok((Reloaded { changed, needs_restart, covered }, None));
        }
        let diff = diff.and_then(|diff| self.set_filter(&running, &diff.running).map(|()| diff));
        let diff = diff.map_err(|problems| {
            tracing::error!(who, %problems, "the configuration was not taken; the last good one runs on");
            self.state().failed = Some(Problems(problems.0.iter().take(KEPT).cloned().collect()));
            self.count(false);
            Refused::Wrong(problems)
        })?;
        self.0.live.take(&diff.running);
        self.count(true);
        let known = std::mem::take(&mut self.state().needs_restart);
        for Changed { key, before, after } in diff.restart.iter().filter(|waiting| !known.contains(waiting)) {
            tracing::warn!(key, running = before, configured = after, "a changed setting needs a restart");
        }
        let known = std::mem::take(&mut self.state().covered);
        let is_news = |covered: &&Covered| !known.iter().any(|known| known.is_known_as(covered));
        for Covered { key, value, at, by } in diff.covered.iter().filter(is_news) {
            tracing::warn!(key, configured = value, %at, %by, "a setting of the file does not count, for it is covered");
        }
        let reloaded = Reloaded { changed: diff.live, needs_restart: diff.restart, covered: diff.covered };
        let (needs_restart, covered) = (reloaded.needs_restart.clone(), reloaded.covered.clone());
        *self.state() = State { running: diff.running, needs_restart, covered, failed: None };
        let logged = self.log(who, &reloaded.changed);
        Ok((reloaded, logged))
    }

    /// The one live setting that is in no cell.
    fn set_filter(&self, running: &Settings, next: &Settings) -> Result<(), Problems> {
        if next.log.filter == running.log.filter {
            return Ok(());
        }
        let problem = |why: BadFilter| Problem { at: Origin::Default, message: why.to_string() };
        self.0.source.logs.set_filter(&next.log.filter).map_err(|why| Problems(vec![problem(why)]))
    }

    /// Has a change written into the audit log.
    fn log(&self, who: &str, changed: &[Changed]) -> Option<Logged> {
        if changed.is_empty() {
            return None;
        }
        let (before, after) = Changed::values(changed);
        let (who, what, subject) = (who.to_owned(), WHAT.to_owned(), self.0.node.to_string());
        let (before, after) = (before.to_string(), after.to_string());
        tracing::info!(who, what, subject, before, after, "the configuration has changed");
        let change = Change { at: self.0.clock.now(), who, what, subject, before, after };
        let Ok(place) = Arc::clone(&self.0.lines).try_acquire_owned() else {
            tracing::error!(who = change.who, what = change.what, "too many lines wait; the audit log misses one");
            return None;
        };
        let (store, shutdown) = (Arc::clone(&self.0.store), self.0.shutdown.clone());
        Some(self.0.shutdown.spawn(async move {
            let too_late = async {
                shutdown.begun().await;
                tokio::time::sleep(LAST_LOG_PATIENCE).await;
            };
            tokio::select! {
                biased;
                () = keep_logged(&*store, &change) => {}
                () = too_late => {
                    let Change { who, what, subject, .. } = &change;
                    tracing::error!(who, what, subject, "the process stops; the audit log may miss a line");
                }
            }
            drop(place);
        }))
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

/// The line of a change on its way into the audit log.
type Logged = JoinHandle<Option<()>>;

fn warn_unread(refused: &Refused) {
    tracing::warn!(%refused, "the configuration was not read again");
}

/// Which keys wait for a restart, in a line of a bounded length.
fn waiting(keys: &[Changed]) -> Option<String> {
    let named: Vec<_> = keys.iter().take(NAMED).map(|waiting| waiting.key.as_str()).collect();
    let (named, verb) = (named.join(", "), if keys.len() == 1 { "needs" } else { "need" });
    match keys.len() {
        0 => None,
        1..=NAMED => Some(format!("config: {named} {verb} a restart")),
        more => Some(format!("config: {named} and {} more {verb} a restart", more - NAMED)),
    }
}

#[cfg(test)]
mod tests;
