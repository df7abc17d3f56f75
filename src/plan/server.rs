//! The inventory's server: one call at a time, each a budget's part of a second, and a way to it and back.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::domain::{Claim, NodeId, OrderId, OutboxId, Partition, Refusal, Sale, SaleId, Scope, UnixMillis};
use crate::inventory::{
    Changes, Confirmed, Defined, Fault, Inventory, KnownOrder, LegStock, NodeBeat, OutboxEntry, Revived, Snapshot,
    StockMove, Verdict,
};
use crate::plan::Calls;

/// Stands before an inventory and lets it take its time.
#[derive(Debug)]
pub(super) struct Server {
    inner: Arc<dyn Inventory>,
    /// What one call takes of it.
    service: Duration,
    round_trip: Duration,
    seen: Mutex<Seen>,
}

/// What was seen since the crowd came.
#[derive(Debug)]
pub(super) struct Seen {
    /// When the line before it is empty.
    idle_at: Instant,
    since: Instant,
    pub(super) free: u32,
    pub(super) sold_out_at: Option<Instant>,
    pub(super) calls: Calls,
    pub(super) needless: u64,
    /// Calls, second by second.
    seconds: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Confirm,
    Refill,
    Heartbeat,
}

impl Server {
    pub(super) fn new(inner: Arc<dyn Inventory>, stock: u32, (budget, round_trip): (u32, Duration)) -> Self {
        let now = Instant::now();
        let seen = Seen {
            idle_at: now,
            since: now,
            free: stock,
            sold_out_at: None,
            calls: Calls::default(),
            needless: 0,
            seconds: Vec::new(),
        };
        Self { inner, service: Duration::from_secs(1) / budget.max(1), round_trip, seen: Mutex::new(seen) }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Units that are free at this moment.
    pub(super) fn free(&self) -> u32 {
        self.seen().free
    }

    /// Begins to count: the crowd comes now.
    pub(super) fn count_from_now(&self) {
        let mut seen = self.seen();
        (seen.since, seen.calls) = (Instant::now(), Calls::default());
        seen.seconds.clear();
    }

    /// Waits for a place in line, and for the way. A caller that is gone meanwhile has asked all the same, and hears nothing.
    async fn travel(&self, kind: Kind) {
        let done = {
            let mut seen = self.seen();
            let now = Instant::now();
            match kind {
                Kind::Confirm => seen.calls.confirm += 1,
                Kind::Refill => seen.calls.refill += 1,
                Kind::Heartbeat => seen.calls.heartbeat += 1,
            }
            seen.idle_at = seen.idle_at.max(now) + self.service;
            let done = seen.idle_at;
            let second = usize::try_from((done - seen.since).as_secs()).unwrap_or(usize::MAX);
            if seen.seconds.len() <= second {
                seen.seconds.resize(second + 1, 0);
            }
            seen.seconds[second] += 1;
            done
        };
        tokio::time::sleep_until(done + self.round_trip).await;
    }
}

impl Seen {
    pub(super) fn calls(&self) -> Calls {
        Calls { most_per_second: self.seconds.iter().copied().max().unwrap_or(0), ..self.calls }
    }

    /// There is one pool, and it has one leg.
    fn learn(&mut self, confirmed: &Confirmed) {
        let is_needless =
            |verdict: &&Verdict| matches!(verdict, Verdict::Refused(Refusal::SoldOut | Refusal::AllHeld { .. }));
        self.needless += confirmed.verdicts.iter().filter(is_needless).count() as u64;
        if let Some(stock) = confirmed.stock.first() {
            self.free = stock.free;
            if stock.free == 0 {
                self.sold_out_at.get_or_insert_with(Instant::now);
            }
        }
    }
}

#[async_trait]
impl Inventory for Server {
    async fn confirm(&self, scope: Scope, claims: &[Claim], now: UnixMillis) -> Result<Confirmed, Fault> {
        self.travel(Kind::Confirm).await;
        let confirmed = self.inner.confirm(scope, claims, now).await?;
        self.seen().learn(&confirmed);
        Ok(confirmed)
    }

    async fn changes(&self, scope: Scope, since: u64) -> Result<Changes, Fault> {
        self.travel(Kind::Refill).await;
        self.inner.changes(scope, since).await
    }

    async fn beat(&self, beat: &NodeBeat, timeout: Duration) -> Result<Vec<NodeBeat>, Fault> {
        self.travel(Kind::Heartbeat).await;
        self.inner.beat(beat, timeout).await
    }

    // The rest no simulated node asks for.

    async fn apply(&self, scope: Scope, moves: &[StockMove]) -> Result<(), Fault> {
        self.inner.apply(scope, moves).await
    }

    async fn revive(&self, scope: Scope, order: OrderId) -> Result<Revived, Fault> {
        self.inner.revive(scope, order).await
    }

    async fn define(&self, scope: Scope, sale: &Sale) -> Result<Defined, Fault> {
        self.inner.define(scope, sale).await
    }

    async fn stock(&self, scope: Scope, sale: &SaleId) -> Result<Vec<LegStock>, Fault> {
        self.inner.stock(scope, sale).await
    }

    async fn order(&self, scope: Scope, id: OrderId) -> Result<Option<KnownOrder>, Fault> {
        self.inner.order(scope, id).await
    }

    async fn orders(&self, scope: Scope, cursor: Option<String>) -> Result<(Vec<KnownOrder>, Option<String>), Fault> {
        self.inner.orders(scope, cursor).await
    }

    async fn outbox_behind(
        &self,
        scope: Scope,
        entry: Option<&OutboxId>,
        min_age: Duration,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, Fault> {
        self.inner.outbox_behind(scope, entry, min_age, limit).await
    }

    async fn outbox_len(&self, scope: Scope) -> Result<u64, Fault> {
        self.inner.outbox_len(scope).await
    }

    async fn outbox_remove(&self, scope: Scope, entries: &[OutboxId]) -> Result<(), Fault> {
        self.inner.outbox_remove(scope, entries).await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), Fault> {
        self.inner.leave(node).await
    }

    async fn join(&self, scope: Scope) -> Result<(), Fault> {
        self.inner.join(scope).await
    }

    async fn identity(&self, partition: Partition) -> Result<String, Fault> {
        self.inner.identity(partition).await
    }

    async fn salvage(&self, scope: Scope, after: Option<OutboxId>, limit: usize) -> Result<Vec<OutboxEntry>, Fault> {
        self.inner.salvage(scope, after, limit).await
    }

    async fn rebuild(&self, scope: Scope, snapshot: &Snapshot) -> Result<(), Fault> {
        self.inner.rebuild(scope, snapshot).await
    }

    async fn open(&self, scope: Scope) -> Result<(), Fault> {
        self.inner.open(scope).await
    }

    async fn fence(&self, scope: Scope) -> Result<(), Fault> {
        self.inner.fence(scope).await
    }
}
