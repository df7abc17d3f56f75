//! What a writer has in hand: deliveries, taken apart, in their order.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::{OutboxId, Scope};
use crate::queue::Delivery;
use crate::queue::envelope::{Content, Envelope};
use crate::queue::traces::Traces;
use crate::store::Recordable;

/// A run of deliveries of one lane.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// To be done in this order.
    pub items: Vec<Item>,
    /// All orders of all items.
    pub orders: usize,
    /// The last delivery that is to be acknowledged, with all before it; `None` if there are only poisoned ones.
    pub last: Option<Delivery>,
    /// The outbox entries that can go once everything is stored.
    pub cleared: BTreeMap<Scope, Vec<OutboxId>>,
}

/// A part of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Orders of messages that follow each other, for one transaction.
    Orders {
        orders: Vec<Recordable>,
        traces: Traces,
    },
    Barrier {
        scope: Scope,
        lane: u16,
    },
    Poison {
        delivery: Delivery,
        reason: String,
    },
}

impl Batch {
    /// Takes one more delivery apart.
    pub(super) fn add(&mut self, delivery: Delivery) {
        match Envelope::decode(&delivery.body) {
            Ok(Envelope { scope, content: Content::Orders { outbox, orders }, .. }) => {
                self.orders += orders.len();
                self.cleared.entry(scope).or_default().extend(outbox);
                let orders = orders.into_iter().map(|order| Recordable { scope, order: Arc::unwrap_or_clone(order) });
                let its_traces = delivery.traces.clone();
                match self.items.last_mut() {
                    Some(Item::Orders { orders: before, traces }) => {
                        before.extend(orders);
                        traces.append(its_traces);
                    }
                    _ => self.items.push(Item::Orders { orders: orders.collect(), traces: its_traces }),
                }
                self.last = Some(delivery);
            }
            Ok(Envelope { scope, content: Content::Barrier { lane }, .. }) => {
                self.items.push(Item::Barrier { scope, lane });
                self.last = Some(delivery);
            }
            Err(reason) => self.items.push(Item::Poison { delivery, reason: reason.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Epoch, Partition, record};

    const SCOPE: Scope = Scope { partition: Partition(0), epoch: Epoch(1) };

    fn delivery(tag: u64, body: Vec<u8>) -> Delivery {
        Delivery { tag, body, redelivered: false, traces: Traces::default(), parked: None }
    }

    fn orders(outbox: &str) -> Vec<u8> {
        let order = record::parse("abababababababababababababababab 0 s b 1 2 3 CNY p/0/1/1/-/-").expect("a record");
        Envelope::orders(SCOPE, Some(outbox.parse().expect("an id")), vec![order]).encode()
    }

    #[test]
    fn messages_that_follow_each_other_are_one_transaction() {
        let mut batch = Batch::default();
        batch.add(delivery(1, orders("1-0")));
        batch.add(delivery(2, orders("2-0")));
        assert!(matches!(&batch.items[..], [Item::Orders { orders, .. }] if orders.len() == 2));
        assert_eq!(batch.cleared[&SCOPE].len(), 2);
        assert_eq!(batch.last.map(|last| last.tag), Some(2));
    }

    #[test]
    fn a_barrier_stands_between_what_came_before_and_after() {
        let mut batch = Batch::default();
        batch.add(delivery(1, orders("1-0")));
        batch.add(delivery(2, Envelope::barrier(SCOPE, 3).encode()));
        batch.add(delivery(3, orders("2-0")));
        assert!(matches!(&batch.items[..], [Item::Orders { .. }, Item::Barrier { lane: 3, .. }, Item::Orders { .. }]));
    }

    #[test]
    fn what_cannot_be_read_is_set_apart_and_not_acknowledged() {
        let mut batch = Batch::default();
        batch.add(delivery(1, orders("1-0")));
        batch.add(delivery(2, b"hello".to_vec()));
        assert!(matches!(&batch.items[..], [Item::Orders { .. }, Item::Poison { .. }]));
        assert_eq!(batch.last.map(|last| last.tag), Some(1));
    }
}
