//! From the queue to the store: takes a lane, records its batches in transactions, acknowledges, and clears the outbox.
//!
//! In this order, and never another: commit, then acknowledge, then remove the outbox entry. Whatever dies in between, the
//! batch comes again, and the store knows its orders by their ids.
//!
//! While the store is away, a writer keeps what it has in hand and asks for no more: giving it back would count as a failed
//! delivery, and a broker drops what failed too often.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use crate::clock::Clock;
use crate::inventory::Inventory;
use crate::meters::{Counter, Gauge, Histogram, Meters};
use crate::queue::{Consumer, Delivery, Lane, LaneId};
use crate::shutdown::Shutdown;
use crate::store::{Recorder, Store};
use crate::writer::batch::{Batch, Item};

mod batch;
mod record;

/// Between two tries of something that failed: doubled from the first to the last, with jitter.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(2);

/// What writers are made of. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub consumer: Arc<dyn Consumer>,
    /// Its outbox is cleared of what is stored, and it is fenced if the store's guard finds more granted than there is.
    pub inventory: Arc<dyn Inventory>,
    pub clock: Arc<dyn Clock>,
    pub meters: WriterMeters,
    /// Orders in one transaction, at most; a single message may carry more.
    pub batch_max: usize,
}

/// The handles that every batch moves.
#[derive(Clone)]
pub struct WriterMeters {
    batch_orders: Histogram,
    lag: Gauge,
    dead_letters: Counter,
}

impl std::fmt::Debug for WriterMeters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WriterMeters")
    }
}

impl WriterMeters {
    pub fn new(meters: &Meters) -> Self {
        Self {
            batch_orders: meters.histogram("rushgate_writer_batch_orders", &[]),
            lag: meters.gauge("rushgate_writer_lag_seconds", &[]),
            dead_letters: meters.counter("rushgate_dead_letters_total", &[]),
        }
    }
}

/// Writes one lane until the shutdown.
pub async fn write_lane(parts: Parts, lane: LaneId, shutdown: Shutdown) {
    let mut backoff = BACKOFF_FIRST;
    while !shutdown.has_begun() {
        let ended = tokio::select! {
            () = shutdown.begun() => return,
            ended = take(&parts, lane) => ended,
        };
        match ended {
            Ok((recorder, consumed)) => {
                backoff = BACKOFF_FIRST;
                let mut writer = LaneWriter { parts: parts.clone(), recorder: Some(recorder), lane: consumed };
                if let Err(reason) = writer.run(&shutdown).await {
                    tracing::warn!(%lane, reason, "the lane is taken anew");
                }
            }
            Err(reason) => tracing::warn!(%lane, reason, "the lane cannot be written"),
        }
        pause(&mut backoff, &shutdown).await;
    }
}

/// The store first: a lane is taken only by one who can store what it brings.
async fn take(parts: &Parts, lane: LaneId) -> Result<(Box<dyn Recorder>, Box<dyn Lane>), String> {
    let recorder = parts.store.recorder().await.map_err(|fault| fault.to_string())?;
    let lane = parts.consumer.consume(lane).await.map_err(|fault| fault.to_string())?;
    Ok((recorder, lane))
}

async fn pause(backoff: &mut Duration, shutdown: &Shutdown) {
    shutdown.sleep(backoff.mul_f64(0.5 + fastrand::f64())).await;
    *backoff = (*backoff * 2).min(BACKOFF_LAST);
}

/// One lane, taken once.
struct LaneWriter {
    parts: Parts,
    /// `None`: the last one failed and was dropped.
    recorder: Option<Box<dyn Recorder>>,
    lane: Box<dyn Lane>,
}

impl LaneWriter {
    /// Writes batch after batch. Ends without an error only for a shutdown, and then with nothing in hand.
    async fn run(&mut self, shutdown: &Shutdown) -> Result<(), String> {
        loop {
            let first = tokio::select! {
                biased;
                () = shutdown.begun() => return Ok(()),
                first = self.lane.next() => first.map_err(|fault| fault.to_string())?,
            };
            let batch = self.gather(first)?;
            for item in batch.items {
                match item {
                    Item::Orders(orders) => self.record(orders, shutdown).await?,
                    Item::Barrier { scope, lane } => self.barrier(scope, lane, shutdown).await?,
                    Item::Poison { delivery, reason } => self.park(&delivery, &reason).await?,
                }
            }
            if let Some(last) = batch.last {
                self.lane.ack(&last).await.map_err(|fault| fault.to_string())?;
            }
            self.clear(batch.cleared).await;
        }
    }

    /// This delivery and all that wait behind it, up to a batch. It waits for none.
    fn gather(&mut self, first: Delivery) -> Result<Batch, String> {
        let mut batch = Batch::default();
        batch.add(first);
        while batch.orders < self.parts.batch_max {
            match self.lane.next().now_or_never() {
                Some(Ok(delivery)) => batch.add(delivery),
                Some(Err(fault)) => return Err(fault.to_string()),
                None => break,
            }
        }
        Ok(batch)
    }

    async fn park(&mut self, delivery: &Delivery, reason: &str) -> Result<(), String> {
        tracing::error!(reason, "a message cannot be read; it is parked in the dead letters");
        self.parts.meters.dead_letters.increment(1);
        self.lane.park(delivery, reason).await.map_err(|fault| fault.to_string())
    }
}
