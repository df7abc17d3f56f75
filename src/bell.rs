//! A bell that rings once, for many who hardly ever look up: what a shutdown is made of.
//!
//! Every connection listens for the end of the process, at each of its turns, and a turn is a few microseconds. Waiting on a shared
//! notification takes its lock each time; here a listener has a place of its own, and a turn costs it one load.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::task::AtomicWaker;

/// See the [module](self). Cheap to clone; all clones are one bell.
#[derive(Clone, Default)]
pub struct Bell(Arc<Inner>);

#[derive(Default)]
struct Inner {
    rung: AtomicBool,
    listeners: Mutex<Listeners>,
}

#[derive(Default)]
struct Listeners {
    next: u64,
    wakers: HashMap<u64, Arc<AtomicWaker>>,
}

/// One who waits for the bell.
pub struct Listener {
    bell: Bell,
    number: u64,
    waker: Arc<AtomicWaker>,
    /// What is registered.
    known: Option<Waker>,
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("rung", &self.has_rung()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("bell", &self.bell).finish_non_exhaustive()
    }
}

impl Bell {
    /// Wakes everybody, now and for good.
    pub fn ring(&self) {
        self.0.rung.store(true, Ordering::SeqCst);
        let wakers: Vec<_> = self.listeners().wakers.values().map(Arc::clone).collect();
        for waker in wakers {
            waker.wake();
        }
    }

    pub fn has_rung(&self) -> bool {
        self.0.rung.load(Ordering::SeqCst)
    }

    /// Resolves when it rings.
    pub async fn rung(&self) {
        let mut listener = self.listen();
        poll_fn(|cx| listener.poll(cx)).await;
    }

    pub fn listen(&self) -> Listener {
        let waker = Arc::new(AtomicWaker::new());
        let mut listeners = self.listeners();
        let number = listeners.next;
        listeners.next += 1;
        listeners.wakers.insert(number, Arc::clone(&waker));
        drop(listeners);
        Listener { bell: self.clone(), number, waker, known: None }
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        // Every change is one insertion or removal.
        self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Ready when the bell has rung; otherwise the task is woken when it does.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.bell.has_rung() {
            return Poll::Ready(());
        }
        if self.known.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.waker.register(cx.waker());
        self.known = Some(cx.waker().clone());
        // It may have rung before anybody was registered.
        if self.bell.has_rung() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.bell.listeners().wakers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn everybody_who_waits_is_woken_and_who_comes_later_does_not_wait() {
        let bell = Bell::default();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let bell = bell.clone();
                crate::tasks::spawn(async move { bell.rung().await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(waiting.iter().all(|task| !task.is_finished()));
        bell.ring();
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(bell.rung().now_or_never(), Some(()));
        assert!(bell.listeners().wakers.is_empty(), "nobody listens any more");
    }

    #[tokio::test]
    async fn a_listener_that_moves_to_another_task_is_woken_there() {
        let bell = Bell::default();
        let mut listener = bell.listen();
        assert!(poll_fn(|cx| Poll::Ready(listener.poll(cx))).await.is_pending());
        let elsewhere = crate::tasks::spawn(async move { poll_fn(|cx| listener.poll(cx)).await });
        tokio::task::yield_now().await;
        bell.ring();
        elsewhere.await.unwrap();
    }
}
