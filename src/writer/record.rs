//! Recording what is in hand, whatever the store does: replayed while it is away, halved while it refuses or is too slow.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::domain::{OutboxId, Scope};
use crate::queue::traces::Traces;
use crate::shutdown::Shutdown;
use crate::spans::{self, Kind};
use crate::store::{Fault, RecordFault, Recordable, Recorder};
use crate::writer::{BACKOFF_FIRST, LANE_PATIENCE, LaneWriter, pause};

impl LaneWriter {
    /// Records orders, however many transactions that takes, and tells it to their traces.
    pub(super) async fn write(
        &mut self,
        orders: Vec<Recordable>,
        traces: &Traces,
        shutdown: &Shutdown,
    ) -> Result<(), String> {
        let spans = self.parts.spans.clone();
        let work = spans.work("store orders", Kind::Consumer, traces.contexts());
        let work = work.with("rushgate.orders", || orders.len().into());
        let recorded = self.record(orders, traces, shutdown).await;
        work.done(&recorded);
        recorded
    }

    /// Records orders in one transaction; if the store refuses them, in halves, down to the one that it refuses, which is kept
    /// in quarantine. If they are not recorded in time, the same again would not be either: also in halves, and for a while.
    async fn record(&mut self, orders: Vec<Recordable>, traces: &Traces, shutdown: &Shutdown) -> Result<(), String> {
        let mut backoff = BACKOFF_FIRST;
        let mut parts = vec![orders];
        while let Some(part) = parts.pop() {
            if part.len() > self.in_time {
                parts.extend(cut(part, self.in_time));
                continue;
            }
            match self.try_record(&part, shutdown).await? {
                // Only as many as are thought to be the most prove anything.
                Ok(()) if part.len() == self.in_time => self.in_time += (self.in_time / 4).max(1),
                Ok(()) => {}
                Err(RecordFault::Late(_)) => {
                    if let [alone] = &part[..] {
                        let trace_id = trace_id(&part, traces);
                        tracing::error!(order = %alone.order.id, trace_id, "one order alone is not recorded in time");
                    }
                    self.in_time = (part.len() / 2).max(1);
                    parts.push(part);
                    pause(&mut backoff, shutdown).await;
                }
                Err(_) if part.len() > 1 => {
                    let half = part.len() / 2;
                    parts.extend(cut(part, half));
                }
                Err(fault) => self.quarantine((&part, traces), &fault, shutdown).await?,
            }
        }
        Ok(())
    }

    /// Stores that this lane's barrier has come.
    pub(super) async fn barrier(&mut self, scope: Scope, lane: u16, shutdown: &Shutdown) -> Result<(), String> {
        let mut backoff = BACKOFF_FIRST;
        loop {
            match self.recorder(shutdown).await?.barrier(scope, lane).await {
                Ok(()) => {
                    self.away_since = None;
                    return Ok(());
                }
                Err(fault) => self.dropped(&fault),
            }
            pause(&mut backoff, shutdown).await;
        }
    }

    /// Clears the outbox of what is stored. What stays because the inventory is away is published again, and cleared then.
    pub(super) async fn clear(&mut self, cleared: BTreeMap<Scope, Vec<OutboxId>>) {
        for (scope, entries) in cleared.into_iter().filter(|(_, entries)| !entries.is_empty()) {
            if let Err(fault) = self.parts.inventory.outbox_remove(scope, &entries).await {
                tracing::debug!(%scope, %fault, "the outbox was not cleared");
            }
        }
    }

    /// Records until the store has said yes or no, or was too late.
    async fn try_record(
        &mut self,
        orders: &[Recordable],
        shutdown: &Shutdown,
    ) -> Result<Result<(), RecordFault>, String> {
        let mut backoff = BACKOFF_FIRST;
        loop {
            match self.recorder(shutdown).await?.record(orders).await {
                Ok(recorded) => {
                    self.away_since = None;
                    self.count(orders);
                    self.parts.meters.refund_due.increment(recorded.refunds_due.into());
                    if !recorded.stale.is_empty() {
                        tracing::warn!(orders = ?recorded.stale, "orders came too late for their epoch; kept as stale");
                    }
                    return Ok(Ok(()));
                }
                Err(fault @ RecordFault::Unavailable(_)) => self.dropped(&fault),
                Err(late @ RecordFault::Late(_)) => {
                    self.dropped(&late);
                    return Ok(Err(late));
                }
                Err(refused) => {
                    self.away_since = None;
                    return Ok(Err(refused));
                }
            }
            pause(&mut backoff, shutdown).await;
        }
    }

    /// One order that cannot be recorded. If the guard refused it, more was granted than there is: nothing more may be.
    async fn quarantine(
        &mut self,
        (orders, traces): (&[Recordable], &Traces),
        fault: &RecordFault,
        shutdown: &Shutdown,
    ) -> Result<(), String> {
        let trace_id = trace_id(orders, traces);
        tracing::error!(?orders, %fault, trace_id, "an order cannot be recorded; it is kept in quarantine");
        if let (RecordFault::Guard { .. }, Some(first)) = (fault, orders.first()) {
            tracing::error!(scope = %first.scope, "more was granted than there is: the inventory is fenced");
            if let Err(fault) = self.parts.inventory.fence(first.scope).await {
                tracing::error!(%fault, "the inventory could not be fenced");
            }
        }
        let mut backoff = BACKOFF_FIRST;
        loop {
            match self.recorder(shutdown).await?.quarantine(orders, &fault.to_string()).await {
                Ok(()) => {
                    self.away_since = None;
                    return Ok(());
                }
                Err(fault) => self.dropped(&fault),
            }
            pause(&mut backoff, shutdown).await;
        }
    }

    /// The connection to the store, a new one if the last one failed. Given up for a shutdown, and when the store has been away
    /// for so long that another writer may be of more use to this lane.
    async fn recorder(&mut self, shutdown: &Shutdown) -> Result<&mut Box<dyn Recorder>, String> {
        let mut backoff = BACKOFF_FIRST;
        while self.recorder.is_none() {
            if shutdown.has_begun() {
                return Err("stopped while the store was away; what was in hand comes again".to_owned());
            }
            if self.away_since.is_some_and(|since| since.elapsed() >= LANE_PATIENCE) {
                return Err(format!("the store has been away for {LANE_PATIENCE:?}; the lane is left to others"));
            }
            match self.parts.store.recorder().await {
                Ok(recorder) => self.recorder = Some(recorder),
                Err(fault) => {
                    tracing::warn!(%fault, "the store is away");
                    pause(&mut backoff, shutdown).await;
                }
            }
        }
        self.recorder.as_mut().ok_or_else(|| "no recorder".to_owned())
    }

    /// After a fault nobody knows what is open on the connection.
    fn dropped(&mut self, fault: &RecordFault) {
        let reason = match fault {
            RecordFault::Unavailable(Fault(reason)) | RecordFault::Late(Fault(reason)) => reason.clone(),
            other => other.to_string(),
        };
        tracing::warn!(reason, "not recorded; trying again on a new connection");
        self.recorder = None;
        self.away_since.get_or_insert_with(Instant::now);
    }

    fn count(&self, orders: &[Recordable]) {
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        self.parts.meters.batch_orders.record(orders.len() as f64);
        if let Some(oldest) = orders.iter().map(|recordable| recordable.order.granted_at).min() {
            self.parts.meters.lag.set(self.parts.clock.now().since(oldest).as_secs_f64());
        }
    }
}

/// The trace of one order, for a log line.
fn trace_id(orders: &[Recordable], traces: &Traces) -> Option<String> {
    spans::told(orders.iter().filter_map(|recordable| traces.of(recordable.order.id)))
}

/// The first so many and the rest; to be taken from the end, so the first come last.
fn cut(mut part: Vec<Recordable>, first: usize) -> [Vec<Recordable>; 2] {
    let rest = part.split_off(first);
    [rest, part]
}
