//! Stopping: asked once to drain, asked twice, or too late, to quit.
//!
//! A [`Shutdown`] is handed down to everything that runs. Soft comes first: take nothing new, finish what is in flight. Hard
//! comes when the deadline passes: stop where you are. A task that the process cannot do without and that stops by itself is a
//! failure, and begins a shutdown of its own.
//!
//! Whoever waits for one of several things says which comes first (`biased;`), and the shutdown is the first: chance would
//! otherwise choose among those that are ready, and no run could be repeated from its seed. `tests/floors.rs` holds that.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::bell::Bell;
use crate::tasks::{self, JoinHandle};

/// The handle through which a process is asked to stop, and waits for what runs in it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    soft: Bell,
    hard: Bell,
    tasks: TaskTracker,
    failed: Arc<AtomicBool>,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything to finish what it has and stop.
    pub fn begin(&self) {
        self.soft.ring();
    }

    /// Asks everything to stop where it is.
    pub fn force(&self) {
        self.soft.ring();
        self.hard.ring();
    }

    pub fn has_begun(&self) -> bool {
        self.soft.has_rung()
    }

    /// Resolves when a shutdown begins.
    pub async fn begun(&self) {
        self.soft.rung().await;
    }

    /// Resolves when what is still running must stop where it is.
    pub async fn forced(&self) {
        self.hard.rung().await;
    }

    /// Sleeps, but not beyond the beginning of a shutdown. Returns whether one has begun.
    pub async fn sleep(&self, time: Duration) -> bool {
        self.wait(tokio::time::sleep(time)).await
    }

    /// Waits for it, but not beyond the beginning of a shutdown. Returns whether one has begun.
    pub async fn wait(&self, for_it: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = self.soft.rung() => true,
            () = for_it => self.has_begun(),
        }
    }

    /// Runs a task that the shutdown waits for; it is dropped when the shutdown is forced.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let mut hard = self.hard.listen();
        // On the heap, or the future below would have room for it twice: where it comes from, and where it is pinned.
        let mut task = Box::pin(task);
        tasks::spawn(self.tasks.track_future(async move {
            poll_fn(|cx| match hard.poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => task.as_mut().poll(cx).map(Some),
            })
            .await
        }))
    }

    /// Runs a task that must not end before a shutdown begins. If it does, or if it panics, the process stops and has failed.
    pub fn spawn_essential<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shutdown = self.clone();
        let running = self.spawn(task);
        tasks::spawn(self.tasks.track_future(async move {
            let ended = running.await;
            if ended.is_err() || !shutdown.has_begun() {
                tracing::error!(task = name, panicked = ended.is_err(), "a task that must not end has ended; stopping");
                shutdown.failed.store(true, Ordering::SeqCst);
                shutdown.begin();
            }
        }));
    }

    /// Waits for all tasks; forces them when the deadline passes. Returns whether everything ended as it should.
    pub async fn finish(&self, deadline: Duration) -> bool {
        self.tasks.close();
        let in_time = tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok();
        if !in_time {
            tracing::warn!(?deadline, "tasks are still running at the deadline; forcing them");
            self.force();
            self.tasks.wait().await;
        }
        // What was forced, by the deadline or by a second signal, may have stopped in the middle of something.
        !self.hard.has_rung() && !self.failed.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shutdown_waits_for_what_is_in_flight() {
        let shutdown = Shutdown::new();
        let (done, wait) = tokio::sync::oneshot::channel::<()>();
        let task = shutdown.spawn(async move { wait.await.is_ok() });
        shutdown.begin();
        done.send(()).unwrap();
        assert!(shutdown.finish(Duration::from_secs(5)).await);
        assert_eq!(task.await.unwrap(), Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_forced_at_the_deadline() {
        let shutdown = Shutdown::new();
        let task = shutdown.spawn(std::future::pending::<()>());
        shutdown.begin();
        assert!(!shutdown.finish(Duration::from_secs(5)).await);
        assert_eq!(task.await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_task_that_must_not_end_stops_the_process_when_it_ends() {
        let shutdown = Shutdown::new();
        shutdown.spawn_essential("short", async {});
        shutdown.begun().await;
        assert!(!shutdown.finish(Duration::from_secs(5)).await);
    }
}
