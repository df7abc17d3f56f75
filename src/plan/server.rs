//! The inventory's server: one call at a time, each a budget's part of a second, and a way to it and back.
//!
//! What was sent to it is done, whether or not its node still lives or waits: a node that has had no answer within its timeout does not
//! know what came of the call, as in the world.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::domain::{BuyerId, Claim, NodeId, OrderId, OutboxId, Partition, Refusal, Sale, SaleId, Scope, UnixMillis};
use crate::inventory::{
    Changes, Confirmed, Defined, Fault, Inventory, KnownOrder, LegStock, NodeBeat, OutboxEntry, Revived, Snapshot,
    StockMove, Verdict,
};
use crate::plan::Calls;
use crate::shutdown::Shutdown;

/// Stands before an inventory and lets it take its time.
#[derive(Debug)]
pub(super) struct Server {
    inner: Arc<dyn Inventory>,
    /// What one call takes of it.
    service: Duration,
    round_trip: Duration,
    /// How long a node waits for an answer.
    timeout: Duration,
    seen: Arc<Mutex<Seen>>,
    /// Runs what was sent. It outlives the nodes.
    sent: Shutdown,
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
    pub(super) fn new(
        inner: Arc<dyn Inventory>,
        stock: u32,
        (budget, round_trip, timeout): (u32, Duration, Duration),
    ) -> Self {
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
        let service = Duration::from_secs(1) / budget.max(1);
        Self { inner, service, round_trip, timeout, seen: Arc::new(Mutex::new(seen)), sent: Shutdown::new() }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
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

    /// Takes a place in line, and returns what waits for it and for the way.
    fn travel(&self, kind: Kind) -> impl Future<Output = ()> + use<> {
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
        tokio::time::sleep_until(done + self.round_trip)
    }

    /// Sends a call, and waits for its answer no longer than a node does.
    async fn send<T: Send + 'static>(
        &self,
        kind: Kind,
        call: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let travel = self.travel(kind);
        let sent = self.sent.spawn(async move {
            travel.await;
            call.await
        });
        match tokio::time::timeout(self.timeout, sent).await {
            Ok(Ok(Some(answer))) => answer,
            _ => Err(Fault::Unknown("no answer in time".to_owned())),
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (inner, seen, claims) = (Arc::clone(&self.inner), Arc::clone(&self.seen), claims.to_vec());
        let call = async move {
            let confirmed = inner.confirm(scope, &claims, now).await?;
            lock(&seen).learn(&confirmed);
            Ok(confirmed)
        };
        self.send(Kind::Confirm, call).await
    }

    async fn changes(&self, scope: Scope, since: u64) -> Result<Changes, Fault> {
        let inner = Arc::clone(&self.inner);
        self.send(Kind::Refill, async move { inner.changes(scope, since).await }).await
    }

    async fn beat(&self, beat: &NodeBeat, timeout: Duration) -> Result<Vec<NodeBeat>, Fault> {
        let (inner, beat) = (Arc::clone(&self.inner), beat.clone());
        self.send(Kind::Heartbeat, async move { inner.beat(&beat, timeout).await }).await
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

    async fn orders_of(&self, scope: Scope, sale: &SaleId, buyer: &BuyerId) -> Result<Vec<KnownOrder>, Fault> {
        self.inner.orders_of(scope, sale, buyer).await
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

#[cfg(test)]
mod tests {
    use crate::clock::ManualClock;
    use crate::inventory::memory::MemoryInventory;
    use crate::plan::node::SCOPE;
    use crate::planted::{self, NOW, Planted};

    use super::*;

    const AWAY: Duration = Duration::from_millis(20);

    async fn server(timeout: Duration) -> (Server, Vec<Claim>) {
        let sale = Planted::new().await.sale("s", 1);
        let claims = vec![Claim { order: planted::order(&sale, 1, "b") }];
        let server =
            Server::new(Arc::new(MemoryInventory::new(Arc::new(ManualClock::at(NOW)))), 10, (1000, AWAY, timeout));
        server.rebuild(SCOPE, &Snapshot { sales: vec![sale], orders: Vec::new() }).await.unwrap();
        server.open(SCOPE).await.unwrap();
        (server, claims)
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_node_that_dies_has_sent_is_done() {
        let (server, claims) = server(AWAY * 10).await;
        let call = server.confirm(SCOPE, &claims, NOW);
        assert!(tokio::time::timeout(AWAY / 2, call).await.is_err(), "it died while the call was on its way");
        assert_eq!((server.free(), server.seen().calls().confirm), (10, 1));
        tokio::time::sleep(AWAY).await;
        assert_eq!(server.free(), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_too_late_is_not_known_and_the_call_is_done() {
        let (server, claims) = server(AWAY).await;
        let late = server.confirm(SCOPE, &claims, NOW).await;
        assert!(matches!(late, Err(Fault::Unknown(_))), "its place in line is beyond the timeout: {late:?}");
        tokio::time::sleep(AWAY).await;
        assert_eq!(server.free(), 9);
        let (server, claims) = self::server(AWAY + Duration::from_millis(2)).await;
        assert_eq!(server.confirm(SCOPE, &claims, NOW).await.unwrap().verdicts, [Verdict::Granted]);
    }
}
