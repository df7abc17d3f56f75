//! Who is in line on this node: the same request, sent twice at once, is asked once and answered twice.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::SetOnce;

use crate::domain::{BuildById, OrderId};

/// The requests that are being decided. `T` is their decision.
#[derive(Debug)]
pub struct InLine<T>(Arc<Line<T>>);

type Line<T> = DashMap<OrderId, Decision<T>, BuildById>;

/// What all who ask for one order wait for; `None` if the first one left the line without it.
type Decision<T> = Arc<SetOnce<Option<T>>>;

/// What a request finds when it comes.
#[derive(Debug)]
pub enum Arrival<T> {
    /// Nobody asks for it yet.
    First(Place<T>),
    /// It is asked for already.
    Behind(Behind<T>),
}

/// A place in line. Dropped without an answer, it lets the next one who comes be the first.
#[derive(Debug)]
pub struct Place<T> {
    line: Arc<Line<T>>,
    order: OrderId,
    answer: Decision<T>,
}

/// A wait for the answer to the same request.
#[derive(Debug)]
pub struct Behind<T>(Decision<T>);

impl<T> Default for InLine<T> {
    fn default() -> Self {
        Self(Arc::new(DashMap::default()))
    }
}

impl<T: Clone> InLine<T> {
    pub fn enter(&self, order: OrderId) -> Arrival<T> {
        match self.0.entry(order) {
            Entry::Occupied(taken) => Arrival::Behind(Behind(Arc::clone(taken.get()))),
            Entry::Vacant(free) => {
                let answer = Decision::default();
                free.insert(Arc::clone(&answer));
                Arrival::First(Place { line: Arc::clone(&self.0), order, answer })
            }
        }
    }

    /// Is a request for this order being decided?
    pub fn contains(&self, order: OrderId) -> bool {
        self.0.contains_key(&order)
    }

    /// How many requests are being decided.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Place<T> {
    /// Tells everybody who asked.
    pub fn answer(self, decision: T) {
        // Nobody else sets it, and this place ends here.
        let _first = self.answer.set(Some(decision));
    }

    /// A wait for the answer that this place will give.
    pub fn wait(&self) -> Behind<T> {
        Behind(Arc::clone(&self.answer))
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        self.line.remove(&self.order);
        // Whoever waits for one that was not given asks for itself.
        let _if_none = self.answer.set(None);
    }
}

impl<T: Clone> Behind<T> {
    /// The answer; `None` if the first one left the line without.
    pub async fn answer(self) -> Option<T> {
        self.0.wait().await.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: OrderId = OrderId([1; 16]);

    #[tokio::test]
    async fn the_second_hears_what_the_first_is_told() {
        let line = InLine::default();
        let Arrival::First(place) = line.enter(ORDER) else { panic!("nobody was there") };
        let Arrival::Behind(behind) = line.enter(ORDER) else { panic!("somebody is there") };
        place.answer("yes");
        assert_eq!(behind.answer().await, Some("yes"));
        assert!(line.is_empty());
    }

    #[tokio::test]
    async fn one_who_leaves_without_an_answer_makes_room() {
        let line = InLine::<u8>::default();
        let Arrival::First(place) = line.enter(ORDER) else { panic!("nobody was there") };
        let Arrival::Behind(behind) = line.enter(ORDER) else { panic!("somebody is there") };
        drop(place);
        assert_eq!(behind.answer().await, None);
        assert!(matches!(line.enter(ORDER), Arrival::First(_)));
    }
}
