//! The writer's way in.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rushgate::domain::{OrderId, OrderStatus, Scope, UnixMillis, record};
use rushgate::store::{OrderRow, RecordFault, Recordable, Recorded, Recorder, StaleOrder, StaleState};

use super::{MemoryStore, State, units};

/// The longest text of an order's lines that a row takes.
const MAX_LINES: usize = 4096;

#[derive(Debug)]
pub(super) struct MemoryRecorder {
    store: MemoryStore,
}

impl MemoryRecorder {
    pub(super) fn new(store: MemoryStore) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Recorder for MemoryRecorder {
    async fn record(&mut self, batch: &[Recordable]) -> Result<Recorded, RecordFault> {
        let now = self.store.now();
        self.store.transact(|state| state.record(batch, now))
    }

    async fn barrier(&mut self, scope: Scope, lane: u16) -> Result<(), RecordFault> {
        self.store.transact(|state| {
            state.barriers.insert((scope, lane));
            Ok(())
        })
    }

    async fn quarantine(&mut self, orders: &[Recordable], _: &str) -> Result<(), RecordFault> {
        self.store.transact(|state| {
            for Recordable { order, .. } in orders {
                state.quarantined.entry(order.id).or_insert_with(|| order.clone());
            }
            Ok(())
        })
    }
}

impl State {
    fn record(&mut self, batch: &[Recordable], now: UnixMillis) -> Result<Recorded, RecordFault> {
        // Of an order that comes twice, the one of the newer epoch counts, and of two of one epoch the first.
        let mut once: BTreeMap<OrderId, &Recordable> = BTreeMap::new();
        for one in batch {
            let kept = once.entry(one.order.id).or_insert(one);
            if one.scope.epoch > kept.scope.epoch {
                *kept = one;
            }
        }
        let is_stale = |state: &Self, scope: Scope| {
            state.partitions.get(&scope.partition).is_some_and(|row| scope.epoch < row.min_epoch)
        };
        let (mut fresh, mut stale) = (Vec::new(), Vec::new());
        for one in once.into_values().filter(|one| !self.orders.contains_key(&one.order.id)) {
            if is_stale(self, one.scope) { stale.push(one) } else { fresh.push(one) }
        }
        let mut refunds_due = 0;
        for one in &fresh {
            refunds_due += self.insert(one, now)?;
        }
        for one in &stale {
            let Recordable { scope, order } = one;
            let (order, scope) = (order.clone(), *scope);
            let kept = StaleOrder { order, scope, kept_at: now, state: StaleState::Waiting, reason: String::new() };
            self.stale.entry(one.order.id).or_insert(kept);
        }
        self.take(units(fresh.iter().map(|one| &one.order)))?;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Recorded {
            fresh: count(fresh.len()),
            known: count(batch.len() - fresh.len() - stale.len()),
            stale: stale.iter().map(|one| one.order.id).collect(),
            refunds_due,
        })
    }

    /// Returns how many payments that waited for it are to be given back.
    fn insert(&mut self, one: &Recordable, now: UnixMillis) -> Result<u32, RecordFault> {
        let Recordable { scope, order } = one;
        let mut lines = String::new();
        record::write_lines(&order.lines, &mut lines);
        if lines.len() > MAX_LINES {
            return Err(RecordFault::Rejected(format!("the lines of order {} are too long", order.id)));
        }
        let (scope, status) = (*scope, OrderStatus::Held);
        let row = OrderRow { order: order.clone(), status, scope, recorded_at: now, changed_at: now };
        self.orders.insert(order.id, Arc::new(row));
        Ok(self.settle_waiting(order.id, now))
    }
}
