//! What is known of a site, as far as the terminal shows it.

use std::collections::{BTreeMap, VecDeque};

use crate::admin::live::snapshot::{SaleView, Snapshot};

/// Seconds of history behind each sparkline: as many as a wide terminal has columns.
const HISTORY: usize = 300;

/// Everything that is drawn.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) snapshot: Option<Snapshot>,
    /// Claims per second by outcome, the newest last.
    pub(super) history: BTreeMap<String, VecDeque<u64>>,
    pub(super) link: Link,
    pub(super) is_held: bool,
    pub(super) helps: bool,
    pub(super) has_colours: bool,
    /// The sale that is chosen, by its id, so that it stays chosen when others come.
    chosen: Option<String>,
}

/// How the feed is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    Opening,
    Live,
    Lost {
        why: String,
    },
    /// There is none: this is one picture.
    Once,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Next,
    Previous,
    Hold,
    Help,
}

impl Picture {
    pub(super) fn new(has_colours: bool) -> Self {
        Self {
            snapshot: None,
            history: BTreeMap::new(),
            link: Link::Opening,
            is_held: false,
            helps: false,
            has_colours,
            chosen: None,
        }
    }

    /// Takes the next snapshot, unless the picture is held.
    pub(super) fn learn(&mut self, snapshot: Snapshot) {
        self.link = Link::Live;
        if self.is_held {
            return;
        }
        for outcome in snapshot.claims.keys() {
            self.history.entry(outcome.clone()).or_default();
        }
        for (outcome, seconds) in &mut self.history {
            let rate = snapshot.claims.get(outcome).and_then(|rate| rate.per_second).unwrap_or(0.0);
            seconds.push_back(rounded(rate));
            if seconds.len() > HISTORY {
                seconds.pop_front();
            }
        }
        self.snapshot = Some(snapshot);
    }

    /// The feed is lost; what was seen last stays.
    pub(super) fn lose(&mut self, why: String) {
        self.link = Link::Lost { why };
    }

    pub(super) fn press(&mut self, key: Key) {
        match key {
            Key::Hold => self.is_held = !self.is_held,
            Key::Help => self.helps = !self.helps,
            Key::Next | Key::Previous => {
                let Some(count) =
                    self.snapshot.as_ref().map(|snapshot| snapshot.sales.len()).filter(|count| *count > 0)
                else {
                    return;
                };
                let at = self.chosen_at();
                let at = if key == Key::Next { (at + 1).min(count - 1) } else { at.saturating_sub(1) };
                self.chosen = self.snapshot.as_ref().map(|snapshot| snapshot.sales[at].sale.clone());
            }
        }
    }

    /// The place of the chosen sale; the first where none is, or where it is gone.
    pub(super) fn chosen_at(&self) -> usize {
        let sales = self.snapshot.iter().flat_map(|snapshot| &snapshot.sales);
        sales.map(|sale| Some(&sale.sale)).position(|sale| sale == self.chosen.as_ref()).unwrap_or(0)
    }

    pub(super) fn chosen(&self) -> Option<&SaleView> {
        self.snapshot.as_ref()?.sales.get(self.chosen_at())
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are positive and small")]
fn rounded(rate: f64) -> u64 {
    rate.max(0.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::live::snapshot::Rate;

    fn snapshot(sales: &[&str], held: f64) -> Snapshot {
        let sale = |sale: &&str| SaleView { sale: (*sale).to_owned(), ..SaleView::default() };
        Snapshot {
            sales: sales.iter().map(sale).collect(),
            claims: [("held".to_owned(), Rate { total: 1, per_second: Some(held) })].into(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn arrows_choose_a_sale_which_stays_chosen_when_others_come_and_go() {
        let mut picture = Picture::new(false);
        picture.press(Key::Next);
        assert!(picture.chosen().is_none());
        picture.learn(snapshot(&["b", "c"], 0.0));
        let chosen = |picture: &Picture| picture.chosen().unwrap().sale.clone();
        assert_eq!(chosen(&picture), "b");
        picture.press(Key::Next);
        picture.press(Key::Next);
        assert_eq!(chosen(&picture), "c");
        picture.learn(snapshot(&["a", "b", "c"], 0.0));
        assert_eq!(chosen(&picture), "c");
        picture.press(Key::Previous);
        assert_eq!(chosen(&picture), "b");
        picture.learn(snapshot(&["a"], 0.0));
        assert_eq!(chosen(&picture), "a");
    }

    #[test]
    fn a_picture_that_is_held_stays_as_it_is() {
        let mut picture = Picture::new(false);
        picture.learn(snapshot(&["a"], 1.0));
        picture.press(Key::Hold);
        picture.learn(snapshot(&["b"], 9.0));
        assert_eq!((picture.chosen().unwrap().sale.as_str(), &picture.history["held"]), ("a", &VecDeque::from([1])));
        picture.press(Key::Hold);
        picture.learn(snapshot(&["b"], 9.4));
        assert_eq!((picture.chosen().unwrap().sale.as_str(), &picture.history["held"]), ("b", &VecDeque::from([1, 9])));
    }

    #[test]
    fn history_has_an_end_and_an_outcome_that_ends_goes_to_nothing() {
        let mut picture = Picture::new(false);
        for _ in 0..HISTORY + 9 {
            picture.learn(snapshot(&[], 3.0));
        }
        picture.learn(Snapshot::default());
        assert_eq!((picture.history["held"].len(), picture.history["held"].back()), (HISTORY, Some(&0)));
    }

    #[test]
    fn a_feed_that_is_lost_leaves_what_was_seen() {
        let mut picture = Picture::new(false);
        picture.learn(snapshot(&["a"], 1.0));
        picture.lose("nobody answers".to_owned());
        assert!(picture.snapshot.is_some());
        assert_eq!(picture.link, Link::Lost { why: "nobody answers".to_owned() });
        picture.learn(snapshot(&["a"], 1.0));
        assert_eq!(picture.link, Link::Live);
    }
}
