//! From the queue to the store: takes a lane, records its batches in transactions, acknowledges, and clears the outbox.
//!
//! In this order, and never another: commit, then acknowledge, then remove the outbox entry. Whatever dies in between, the
//! batch comes again, and the store knows its orders by their ids.
//!
//! While the store is away, a writer keeps what it has in hand and asks for no more: giving it back would count as a failed
//! delivery, and a broker drops what failed too often. After a while it does give its lane back, once: another writer may reach
//! the store, and this one takes the lane anew only when it can store what it brings.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use crate::bugs::{self, Bug};
use crate::clock::Clock;
use crate::crash::{self, CrashPoint};
use crate::inventory::Inventory;
use crate::meters::{Counter, Gauge, Histogram, Meters};
use crate::queue::{Consumer, Delivery, Lane, LaneId, Topology};
use crate::shutdown::Shutdown;
use crate::spans::Spans;
use crate::store::{Recorder, Store};
use crate::writer::batch::{Batch, Item};

mod batch;
mod letters;
mod record;

pub use letters::keep_dead_letters;

/// Between two tries of something that failed: doubled from the first to the last, with jitter.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(2);
/// How long a writer rests after a batch that was not full, for orders that come one by one: each alone is a transaction and a flush of
/// the disk. No buyer waits for it. The first one after a silence is stored at once.
const REST: Duration = Duration::from_millis(10);
/// How long a writer that cannot reach the store keeps its lane: longer than a store needs to restart or fail over.
const LANE_PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks whether there are more lanes.
const LANES_INTERVAL: Duration = Duration::from_secs(5);

/// What writers are made of. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub consumer: Arc<dyn Consumer>,
    /// Its outbox is cleared of what is stored, and it is fenced if the store's guard finds more granted than there is.
    pub inventory: Arc<dyn Inventory>,
    pub clock: Arc<dyn Clock>,
    pub meters: WriterMeters,
    pub spans: Spans,
    /// Orders in one transaction, at most; a single message may carry more.
    pub batch_max: usize,
}

/// The handles that every batch moves.
#[derive(Clone)]
pub struct WriterMeters {
    batch_orders: Histogram,
    lag: Gauge,
    dead_letters: Counter,
    refund_due: Counter,
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
            refund_due: meters.counter("rushgate_refund_due_total", &[]),
        }
    }
}

/// Writes all lanes until the shutdown: the catch-all, and as many numbered ones as any process of the deployment came with, also
/// one that came later. A message that lies in a lane into which nobody publishes any more is an order all the same.
pub async fn write_lanes(parts: Parts, topology: Arc<dyn Topology>, shutdown: Shutdown) {
    let write = |lane| shutdown.spawn_essential("lane", write_lane(parts.clone(), lane, shutdown.clone()));
    write(LaneId::Unroutable);
    let mut written = 0;
    loop {
        let lanes = topology.lanes();
        (written..lanes).map(LaneId::Number).for_each(&write);
        written = lanes;
        if shutdown.sleep(LANES_INTERVAL).await {
            return;
        }
        match parts.store.lanes().await {
            Ok(lanes) => topology.widen(lanes),
            Err(fault) => tracing::debug!(%fault, "it is not known whether there are more lanes"),
        }
    }
}

/// Writes one lane until the shutdown.
pub async fn write_lane(parts: Parts, lane: LaneId, shutdown: Shutdown) {
    let mut backoff = BACKOFF_FIRST;
    let mut in_time = usize::MAX;
    while !shutdown.has_begun() {
        let ended = tokio::select! {
            biased;
            () = shutdown.begun() => return,
            ended = take(&parts, lane) => ended,
        };
        match ended {
            Ok((recorder, consumed)) => {
                let mut writer = LaneWriter {
                    parts: parts.clone(),
                    recorder: Some(recorder),
                    away_since: None,
                    in_time,
                    has_acknowledged: false,
                    lane: consumed,
                };
                if let Err(reason) = writer.run(&shutdown).await {
                    tracing::warn!(%lane, reason, "the lane is taken anew");
                }
                in_time = writer.in_time;
                // To take a lane is no progress: one that ends as soon as it is taken is not to be taken in a hurry.
                if writer.has_acknowledged {
                    backoff = BACKOFF_FIRST;
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
    /// Since when the store has not done what it was asked.
    away_since: Option<Instant>,
    /// Orders that one transaction gets done in time, as far as is known.
    in_time: usize,
    has_acknowledged: bool,
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
            let is_full = batch.orders >= self.parts.batch_max;
            crash::reach(CrashPoint::WriterReceived);
            if let Some(last) = batch.last.as_ref().filter(|_| bugs::is_planted(Bug::AckBeforeCommit)) {
                self.lane.ack(last).await.map_err(|fault| fault.to_string())?;
            }
            for item in batch.items {
                match item {
                    Item::Orders { orders, traces } => self.write(orders, &traces, shutdown).await?,
                    Item::Barrier { scope, lane } => self.barrier(scope, lane, shutdown).await?,
                    Item::Poison { delivery, reason } => self.park(&delivery, &reason).await?,
                }
            }
            if let Some(last) = batch.last {
                crash::reach(CrashPoint::WriterCommitted);
                self.lane.ack(&last).await.map_err(|fault| fault.to_string())?;
                self.has_acknowledged = true;
                crash::reach(CrashPoint::WriterAcknowledged);
            }
            self.clear(batch.cleared).await;
            if !is_full {
                shutdown.sleep(REST).await;
            }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::clock::SystemClock;
    use crate::config::settings;
    use crate::domain::{Scope, SpanId, TraceContext, TraceId};
    use crate::planted::{Planted, SCOPE, order};
    use crate::queue::envelope::Envelope;
    use crate::queue::memory::ConfirmWhen;
    use crate::queue::{self, Fault, LaneDepth, Publisher, Queue};
    use crate::spans::Kind;

    fn parts(planted: &Planted, consumer: Arc<dyn Consumer>) -> Parts {
        Parts {
            store: Arc::<crate::planted::PlantedStore>::clone(&planted.store),
            consumer,
            inventory: Arc::<crate::planted::PlantedInventory>::clone(&planted.inventory),
            clock: Arc::new(SystemClock),
            meters: WriterMeters::new(&Meters::new()),
            spans: Spans::default(),
            batch_max: 10,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_whose_store_stays_away_leaves_its_lane_to_another() {
        let planted = Planted::new().await;
        let settings = settings::Queue { lanes: 1, ..settings::Queue::default() };
        let Queue { publisher, consumer, topology } =
            queue::memory::open(&settings, &Meters::new(), ConfirmWhen::Queued);
        topology.open(SCOPE).await.unwrap();
        let sale = planted.sale("s", 1);
        publisher.publish(Envelope::orders(SCOPE, None, vec![order(&sale, 1, "b")])).await.unwrap();
        planted.store.lock().recorders = 2;
        let writing = write_lane(parts(&planted, Arc::clone(&consumer)), LaneId::Number(0), planted.shutdown.clone());
        planted.shutdown.spawn(writing);
        while planted.store.lock().recorders == 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Next in line: one whose way to the store is whole.
        let mut next = consumer.consume(LaneId::Number(0)).await.unwrap();
        let got = tokio::time::timeout(Duration::from_secs(120), next.next()).await;
        assert!(got.expect("the lane is given back").unwrap().redelivered);
        planted.shutdown.force();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_stored_is_told_to_the_traces_that_came_with_it() {
        let planted = Planted::new().await;
        let settings = settings::Queue { lanes: 1, ..settings::Queue::default() };
        let Queue { publisher, consumer, topology } =
            queue::memory::open(&settings, &Meters::new(), ConfirmWhen::Queued);
        topology.open(SCOPE).await.unwrap();
        let sale = planted.sale("s", 9);
        let mut contexts = Vec::new();
        for n in 1..=3 {
            let order = order(&sale, n, "b");
            let context = Arc::new(TraceContext::root(TraceId([n; 16]), SpanId([n; 8])));
            let traces = [(order.id, Arc::clone(&context))].into_iter().collect();
            contexts.push(TraceContext::clone(&context));
            publisher.publish(Envelope::orders(SCOPE, None, vec![order]).traced(traces)).await.unwrap();
        }
        let (spans, mut told) = Spans::bounded(8, 0.0.into(), &Meters::new());
        let parts = Parts { spans, ..parts(&planted, consumer) };
        (planted.store.lock().recorders, planted.store.lock().in_time) = (usize::MAX, Some(usize::MAX));
        planted.shutdown.spawn(write_lane(parts, LaneId::Number(0), planted.shutdown.clone()));
        let span = told.recv().await.unwrap();
        assert_eq!((&*span.name, span.kind, &span.failed), ("store orders", Kind::Consumer, &None));
        assert_eq!((span.context.trace, span.parent), (contexts[0].trace, Some(contexts[0].span)));
        assert_eq!(span.links, contexts, "one batch, for all of them");
        planted.shutdown.force();
    }

    /// Sends messages of four orders to a writer, and waits until all orders are recorded. Returns how many each batch had.
    async fn recorded(planted: &Planted, publisher: &dyn Publisher, messages: u8) -> Vec<usize> {
        let sale = planted.sale("s", 1);
        let before = planted.store.lock().recorded.len();
        let mut sent = Vec::new();
        for message in 0..messages {
            let orders: Vec<_> = (0..4).map(|n| order(&sale, 4 * message + n, "b")).collect();
            sent.extend(orders.iter().map(|order| order.id));
            publisher.publish(Envelope::orders(SCOPE, None, orders)).await.unwrap();
        }
        let all = async {
            loop {
                let batches = planted.store.lock().recorded[before..].to_vec();
                if batches.iter().map(Vec::len).sum::<usize>() >= sent.len() {
                    return batches;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let batches = tokio::time::timeout(Duration::from_secs(3600), all).await.expect("they are recorded");
        assert_eq!(batches.concat(), sent, "each once, and in their order");
        batches.iter().map(Vec::len).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_order_is_stored_at_once_and_those_that_come_one_by_one_behind_it_together() {
        let planted = Planted::new().await;
        let settings = settings::Queue { lanes: 1, ..settings::Queue::default() };
        let Queue { publisher, consumer, topology } =
            queue::memory::open(&settings, &Meters::new(), ConfirmWhen::Queued);
        topology.open(SCOPE).await.unwrap();
        (planted.store.lock().recorders, planted.store.lock().in_time) = (usize::MAX, Some(usize::MAX));
        planted.shutdown.spawn(write_lane(parts(&planted, consumer), LaneId::Number(0), planted.shutdown.clone()));
        let sale = planted.sale("s", 9);
        let begun = Instant::now();
        for n in 1..=6 {
            publisher.publish(Envelope::orders(SCOPE, None, vec![order(&sale, n, "b")])).await.unwrap();
            tokio::time::sleep(REST / 10).await;
        }
        assert!(begun.elapsed() < REST);
        let sizes = || planted.store.lock().recorded.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(), [1]);
        tokio::time::sleep(REST).await;
        assert_eq!(sizes(), [1, 5]);
        planted.shutdown.force();
    }

    /// Each try that is too large takes longer than a lane is kept: what was learned from one must not be lost with it.
    #[tokio::test(start_paused = true)]
    async fn what_is_not_recorded_in_time_is_recorded_in_smaller_parts() {
        for in_time in 1..=3 {
            let planted = Planted::new().await;
            let settings = settings::Queue { lanes: 1, ..settings::Queue::default() };
            let Queue { publisher, consumer, topology } =
                queue::memory::open(&settings, &Meters::new(), ConfirmWhen::Queued);
            topology.open(SCOPE).await.unwrap();
            (planted.store.lock().recorders, planted.store.lock().in_time) = (usize::MAX, Some(in_time));
            planted.shutdown.spawn(write_lane(parts(&planted, consumer), LaneId::Number(0), planted.shutdown.clone()));
            recorded(&planted, &*publisher, 3).await;
            let late = planted.store.lock().late;
            assert!((1..=8).contains(&late), "{late} tries were too large where {in_time} are in time");
            // When the store is as fast as it was, so is the writer after a while.
            planted.store.lock().in_time = Some(usize::MAX);
            let parts = recorded(&planted, &*publisher, 60).await;
            assert!(parts.contains(&12), "{parts:?}");
            planted.shutdown.force();
        }
    }

    /// Gives lanes that end at once.
    #[derive(Debug, Default)]
    struct Ending(AtomicUsize);

    #[derive(Debug)]
    struct Ended;

    #[async_trait]
    impl Consumer for Ending {
        async fn consume(&self, _: LaneId) -> Result<Box<dyn Lane>, Fault> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(Box::new(Ended))
        }
    }

    #[async_trait]
    impl Lane for Ended {
        async fn next(&mut self) -> Result<Delivery, Fault> {
            Err(Fault("the broker ended it".to_owned()))
        }

        async fn ack(&mut self, _: &Delivery) -> Result<(), Fault> {
            Ok(())
        }

        async fn park(&mut self, _: &Delivery, _: &str) -> Result<(), Fault> {
            Ok(())
        }
    }

    /// Gives lanes in which nothing ever comes, and notes them.
    #[derive(Debug, Default)]
    struct Quiet(std::sync::Mutex<Vec<LaneId>>);

    #[derive(Debug)]
    struct Silent;

    #[async_trait]
    impl Consumer for Quiet {
        async fn consume(&self, lane: LaneId) -> Result<Box<dyn Lane>, Fault> {
            self.0.lock().unwrap().push(lane);
            Ok(Box::new(Silent))
        }
    }

    #[async_trait]
    impl Lane for Silent {
        async fn next(&mut self) -> Result<Delivery, Fault> {
            std::future::pending().await
        }

        async fn ack(&mut self, _: &Delivery) -> Result<(), Fault> {
            Ok(())
        }

        async fn park(&mut self, _: &Delivery, _: &str) -> Result<(), Fault> {
            Ok(())
        }
    }

    /// As many lanes as it is told of.
    #[derive(Debug)]
    struct Wide(AtomicU16);

    #[async_trait]
    impl Topology for Wide {
        async fn declare(&self) -> Result<(), Fault> {
            Ok(())
        }
        async fn open(&self, _: Scope) -> Result<(), Fault> {
            Ok(())
        }
        async fn close(&self, _: Scope) -> Result<(), Fault> {
            Ok(())
        }
        async fn is_open(&self, _: Scope) -> Result<bool, Fault> {
            Ok(true)
        }
        async fn put(&self, _: Vec<u8>) -> Result<(), Fault> {
            Ok(())
        }
        async fn barrier(&self, _: Scope) -> Result<(), Fault> {
            Ok(())
        }
        async fn depths(&self) -> Result<Vec<LaneDepth>, Fault> {
            Ok(Vec::new())
        }
        fn lanes(&self) -> u16 {
            self.0.load(Ordering::SeqCst)
        }
        fn widen(&self, lanes: u16) {
            self.0.fetch_max(lanes, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_another_process_came_with_is_written_too() {
        let planted = Planted::new().await;
        planted.store.lock().recorders = usize::MAX;
        let topology = Arc::new(Wide(AtomicU16::new(2)));
        let consumer = Arc::new(Quiet::default());
        let given = Arc::clone(&consumer) as Arc<dyn Consumer>;
        planted.shutdown.spawn(write_lanes(parts(&planted, given), topology, planted.shutdown.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        planted.store.lock().lanes = 3;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let mut taken = consumer.0.lock().unwrap().clone();
        taken.sort();
        let numbered = (0..3).map(LaneId::Number);
        assert_eq!(taken, numbered.chain([LaneId::Unroutable]).collect::<Vec<_>>(), "each of them once");
        planted.shutdown.force();
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_ends_again_and_again_is_taken_less_and_less_often() {
        let planted = Planted::new().await;
        planted.store.lock().recorders = usize::MAX;
        let consumer = Arc::new(Ending::default());
        let given = Arc::clone(&consumer) as Arc<dyn Consumer>;
        planted.shutdown.spawn(write_lane(parts(&planted, given), LaneId::Number(0), planted.shutdown.clone()));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let taken = consumer.0.load(Ordering::SeqCst);
        assert!(taken < 100, "taken {taken} times in a minute");
        planted.shutdown.force();
    }
}
