//! How the backends are: each is looked at once a second for as long as somebody watches. One that does not answer delays nobody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::admin::Parts;
use crate::admin::live::snapshot::BackendView;
use crate::queue::{LaneDepth, LaneId};

const INTERVAL: Duration = Duration::from_secs(1);
/// After so long a backend is told to be silent. Its answer is waited for all the same, and no other call is made beside it, until nobody
/// watches any more: what is asked here changes nothing, so it may be dropped anywhere.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was last seen of each backend. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Looks {
    /// How many entries the outbox has.
    pub(super) inventory: Look<u64>,
    pub(super) queue: Look<Vec<LaneDepth>>,
    /// How many dead letters the store has.
    pub(super) store: Look<u64>,
}

/// The last look at one backend.
#[derive(Debug)]
pub(super) struct Look<T>(Arc<Mutex<Seen<T>>>);

#[derive(Debug)]
struct Seen<T> {
    /// `None`: not looked at yet.
    found: Option<Result<T, String>>,
    took: Option<Duration>,
}

impl<T> Clone for Look<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Look<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Seen { found: None, took: None })))
    }
}

impl<T: Clone> Look<T> {
    /// What it said, if it answered.
    pub(super) fn found(&self) -> Option<T> {
        self.seen().found.as_ref()?.as_ref().ok().cloned()
    }

    pub(super) fn view(&self, backend: &str) -> BackendView {
        let seen = self.seen();
        BackendView {
            backend: backend.to_owned(),
            ok: seen.found.as_ref().map(Result::is_ok),
            seconds: seen.took.map(|took| took.as_secs_f64()),
            why: seen.found.as_ref().and_then(|found| found.as_ref().err()).cloned(),
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, found: Result<T, String>, took: Duration) {
        // Whatever a cause holds, it is told on one line.
        let found = found.map_err(|why| why.replace(['\r', '\n'], " "));
        *self.seen() = Seen { found: Some(found), took: Some(took) };
    }

    async fn keep<F: Future<Output = Result<T, String>>>(&self, look: impl Fn() -> F) {
        loop {
            let begun = Instant::now();
            let mut looking = std::pin::pin!(look());
            let found = loop {
                if let Ok(found) = tokio::time::timeout(PATIENCE, &mut looking).await {
                    break found;
                }
                let silent = begun.elapsed();
                self.set(Err(format!("it has not answered for {} s", silent.as_secs())), silent);
            };
            self.set(found, begun.elapsed());
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

impl Looks {
    /// Looks until it is dropped.
    pub(super) async fn keep(&self, parts: &Parts) {
        tokio::join!(
            self.inventory.keep(|| outbox(parts)),
            self.queue.keep(|| lanes(parts)),
            self.store.keep(|| async { parts.store.count_dead_letters().await.map_err(|fault| fault.to_string()) }),
        );
    }

    /// In the queue and in the store.
    pub(super) fn dead_letters(&self) -> Option<u64> {
        let lanes = self.queue.found()?;
        let in_queue: u64 = lanes.iter().filter(|lane| lane.lane == LaneId::Dead).map(|lane| lane.messages).sum();
        Some(in_queue + self.store.found()?)
    }
}

async fn outbox(parts: &Parts) -> Result<u64, String> {
    let mut entries = 0;
    for scope in parts.epochs.all().map_err(|reason| reason.to_string())? {
        let len = parts.inventory.outbox_len(scope).await;
        entries += len.inspect_err(|fault| parts.epochs.report(scope, fault)).map_err(|fault| fault.to_string())?;
    }
    Ok(entries)
}

/// One that takes no messages is not well, even if it answers.
async fn lanes(parts: &Parts) -> Result<Vec<LaneDepth>, String> {
    let depths = parts.topology.depths().await.map_err(|fault| fault.to_string())?;
    parts.publisher.ready()?;
    match parts.publisher.strain().blocked {
        None => Ok(depths),
        Some(why) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_does_not_answer_is_told_to_be_silent_until_it_does() {
        let look = Look::<u64>::default();
        assert_eq!(look.view("x"), BackendView { backend: "x".to_owned(), ..BackendView::default() });
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(2500)).await;
            Ok(7)
        };
        let watched = async {
            tokio::time::sleep(Duration::from_millis(2100)).await;
            let view = look.view("x");
            assert_eq!((view.ok, view.why.as_deref()), (Some(false), Some("it has not answered for 2 s")));
            assert_eq!(look.found(), None);
            tokio::time::sleep(Duration::from_millis(500)).await;
            let view = look.view("x");
            assert_eq!((view.ok, view.seconds, view.why, look.found()), (Some(true), Some(2.5), None, Some(7)));
        };
        tokio::select! {
            biased;
            () = look.keep(slow) => {}
            () = watched => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cause_is_one_line() {
        let look = Look::<u64>::default();
        let failing = || async { Err("gone\nfor good".to_owned()) };
        let _for_ever = tokio::time::timeout(Duration::from_millis(1), look.keep(failing)).await;
        assert_eq!(look.view("x").why.as_deref(), Some("gone for good"));
    }
}
