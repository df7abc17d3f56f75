//! Places, of which so many may be taken at one time. How many that is may change: if it is fewer, nobody is sent away, and a place that
//! becomes free stays empty until there are few enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::config::live::Live;

#[derive(Debug)]
pub(super) struct Places {
    taken: AtomicUsize,
    /// The setting, and what part of it these places are.
    setting: Live<usize>,
    part: fn(usize) -> usize,
    freed: Notify,
}

/// A place, free again when it is dropped. Whoever waits is not woken by it: it is for places that nobody waits for, and costs no more than
/// counting does.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a Places);

/// A place of a task of its own, free again when it is dropped.
#[derive(Debug)]
pub(super) struct OwnedPlace(Arc<Places>);

impl Places {
    pub(super) fn new(setting: Live<usize>, part: fn(usize) -> usize) -> Self {
        Self { taken: AtomicUsize::new(0), setting, part, freed: Notify::new() }
    }

    /// Takes a place if one is free.
    pub(super) fn try_take(&self) -> Option<Place<'_>> {
        self.count_one_more().then(|| Place(self))
    }

    /// The same for a task of its own.
    pub(super) fn try_take_owned(self: &Arc<Self>) -> Option<OwnedPlace> {
        self.count_one_more().then(|| OwnedPlace(Arc::clone(self)))
    }

    fn count_one_more(&self) -> bool {
        let most = (self.part)(self.setting.get());
        let one_more = |taken| (taken < most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Acquire, Ordering::Relaxed, one_more).is_ok()
    }

    /// Are more taken than there may be by now?
    pub(super) fn are_too_many(&self) -> bool {
        self.taken.load(Ordering::Relaxed) > (self.part)(self.setting.get())
    }

    /// Waits until one is free. One at a time may wait.
    pub(super) async fn take(self: &Arc<Self>) -> OwnedPlace {
        loop {
            let (freed, changed) = (self.freed.notified(), self.setting.changed());
            if let Some(place) = self.try_take_owned() {
                return place;
            }
            tokio::select! {
                biased;
                () = freed => {}
                () = changed => {}
            }
        }
    }

    /// Waits until all are free.
    pub(super) async fn all_free(&self) {
        while self.taken.load(Ordering::Acquire) > 0 {
            self.freed.notified().await;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Release);
    }
}

impl Drop for OwnedPlace {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Release);
        // Kept for whoever looks next, if nobody waits.
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn so_many_may_be_taken_and_a_dropped_one_again() {
        let places = Places::new(Live::new(8), |most| most / 4);
        let (one, two) = (places.try_take().unwrap(), places.try_take().unwrap());
        assert!(places.try_take().is_none());
        drop(one);
        assert!(places.try_take().is_some());
        drop(two);
    }

    #[test]
    fn with_fewer_places_nobody_is_sent_away_and_nobody_comes_in_before_there_are_few_enough() {
        let most = Live::new(3);
        let places = Places::new(most.clone(), |most| most);
        let mut taken: Vec<_> = (0..3).map(|_| places.try_take().unwrap()).collect();
        assert!(!places.are_too_many());
        most.set(1);
        for _ in 0..2 {
            assert!(places.are_too_many());
            taken.pop();
            assert!(places.try_take().is_none());
        }
        assert!(!places.are_too_many());
        taken.pop();
        assert!(places.try_take().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_gets_what_becomes_free_or_is_added() {
        let most = Live::new(1);
        let places = Arc::new(Places::new(most.clone(), |most| most));
        let one = places.take().await;
        let waiting = async { places.take().await };
        let (two, ()) = tokio::join!(waiting, async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            most.set(2);
        });
        let waiting = async { places.take().await };
        let (three, ()) = tokio::join!(waiting, async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            drop(one);
        });
        let all_free = tokio::time::timeout(Duration::from_millis(1), places.all_free());
        assert!(all_free.await.is_err());
        tokio::join!(places.all_free(), async { drop((two, three)) });
    }
}
