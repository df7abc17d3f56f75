//! A batch on its way into the store: each order once, and told apart.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::domain::Line;
use crate::domain::{Epoch, OrderId, Partition, record};
use crate::store::{Recordable, Recorded};

/// The orders of a batch, each once, in the order of their ids: two writers then lock rows in the same order.
pub(super) struct Batch<'b> {
    came: usize,
    orders: BTreeMap<OrderId, &'b Recordable>,
}

/// A batch told apart.
pub(super) struct Sorted<'b> {
    pub(super) fresh: Vec<&'b Recordable>,
    pub(super) stale: Vec<&'b Recordable>,
    pub(super) recorded: Recorded,
}

impl<'b> Batch<'b> {
    /// Of an order that stands in the batch twice, the one of the newer epoch counts.
    pub(super) fn of(batch: &'b [Recordable]) -> Self {
        let mut orders: BTreeMap<OrderId, &Recordable> = BTreeMap::new();
        for one in batch {
            let kept = orders.entry(one.order.id).or_insert(one);
            if kept.scope.epoch < one.scope.epoch {
                *kept = one;
            }
        }
        Self { came: batch.len(), orders }
    }

    pub(super) fn ids(&self) -> Vec<OrderId> {
        self.orders.keys().copied().collect()
    }

    pub(super) fn partitions(&self) -> BTreeSet<Partition> {
        self.orders.values().map(|one| one.scope.partition).collect()
    }

    /// Is one of them below its partition's `min_epoch`? It is stale unless it is known.
    pub(super) fn has_old_epochs(&self, min_epochs: &HashMap<Partition, Epoch>) -> bool {
        self.orders.values().any(|one| is_old(one, min_epochs))
    }

    /// Known orders change nothing, whatever their epoch; of the others those below their partition's `min_epoch` are stale.
    pub(super) fn sort(self, known: &HashSet<OrderId>, min_epochs: &HashMap<Partition, Epoch>) -> Sorted<'b> {
        let unknown = self.orders.into_values().filter(|one| !known.contains(&one.order.id));
        let (stale, fresh): (Vec<_>, Vec<_>) = unknown.partition(|one| is_old(one, min_epochs));
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let recorded = Recorded {
            fresh: count(fresh.len()),
            known: count(self.came - fresh.len() - stale.len()),
            stale: stale.iter().map(|one| one.order.id).collect(),
            refunds_due: 0,
        };
        Sorted { fresh, stale, recorded }
    }
}

fn is_old(one: &Recordable, min_epochs: &HashMap<Partition, Epoch>) -> bool {
    min_epochs.get(&one.scope.partition).is_some_and(|min_epoch| one.scope.epoch < *min_epoch)
}

/// The text of an order's lines, as its row has it.
pub(super) fn line_items(lines: &[Line]) -> String {
    let mut text = String::new();
    record::write_lines(lines, &mut text);
    text
}

/// The text of an order that is kept aside.
pub(super) fn record_of(one: &Recordable) -> String {
    let mut text = String::new();
    record::write(&one.order, &mut text);
    text
}
