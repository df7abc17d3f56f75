//! What clients asked for, and what they were told.

use std::collections::{BTreeMap, BTreeSet};

use rushgate::domain::{BuyerId, Line, Money, OrderId, SaleId};

/// The log of all clients.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) requests: BTreeMap<OrderId, Request>,
    /// Payments that a provider reported, by their event.
    pub(crate) payments: BTreeMap<String, OrderId>,
    /// Claims that the network brought to the inventory when whoever sent them had lost patience. One may be granted after its buyer
    /// was told no elsewhere; nobody can know that, and the hold ends by itself.
    pub(crate) came_late: BTreeSet<OrderId>,
    pub(crate) answers: BTreeMap<&'static str, u64>,
}

/// One request, however often it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) buyer: BuyerId,
    pub(crate) sale: SaleId,
    pub(crate) lines: Vec<Line>,
    pub(crate) price: Money,
    /// Yes was heard, at least once.
    pub(crate) was_granted: bool,
    /// No was heard, and the client may believe it: nothing that it asked before is unanswered, or it heard it again later.
    pub(crate) was_refused: bool,
    /// What became of it is not known.
    pub(crate) is_open: bool,
}

impl Ledger {
    pub(crate) fn count(&mut self, answer: &'static str) {
        *self.answers.entry(answer).or_default() += 1;
    }
}
