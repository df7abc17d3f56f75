//! The queue as a broker behind bad lines. What it has confirmed it keeps; lanes can be taken from who has them at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rushgate::config::settings;
use rushgate::domain::Scope;
use rushgate::meters::Meters;
use rushgate::queue::envelope::Envelope;
use rushgate::queue::memory::{self, ConfirmWhen};
use rushgate::queue::{
    Consumer, Delivery, Fault, Lane, LaneDepth, LaneId, Publisher, Queue, Strain, Topology, Unconfirmed,
};
use tokio::sync::Notify;

use crate::faults::{Cut, Line};

/// The broker.
#[derive(Debug)]
pub(crate) struct Broker {
    queue: Queue,
    /// Counts how often all lanes were taken from their consumers.
    drops: AtomicU64,
    dropped: Notify,
    /// Deliveries that are neither acknowledged nor given back.
    in_hand: AtomicU64,
}

impl Broker {
    pub(crate) fn new(settings: &settings::Queue, meters: &Meters) -> Self {
        let queue = memory::open(settings, meters, ConfirmWhen::Queued);
        Self { queue, drops: AtomicU64::new(0), dropped: Notify::new(), in_hand: AtomicU64::new(0) }
    }

    pub(crate) fn drop_lanes(&self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
        self.dropped.notify_waiters();
    }

    /// Messages that are not acknowledged, and dead letters.
    pub(crate) async fn left(&self) -> (u64, u64) {
        let depths = self.queue.topology.depths().await.unwrap_or_default();
        let (dead, waiting): (Vec<_>, Vec<_>) = depths.iter().partition(|depth| depth.lane == LaneId::Dead);
        let sum = |depths: Vec<&LaneDepth>| depths.iter().map(|depth| depth.messages).sum::<u64>();
        (sum(waiting) + self.in_hand.load(Ordering::SeqCst), sum(dead))
    }

    /// One node's three faces of it.
    pub(crate) fn faces(self: &Arc<Self>, line: &Line) -> Queue {
        let face = Face { broker: Arc::clone(self), line: line.clone() };
        Queue { publisher: Arc::new(face.clone()), consumer: Arc::new(face.clone()), topology: Arc::new(face) }
    }
}

#[derive(Debug, Clone)]
struct Face {
    broker: Arc<Broker>,
    line: Line,
}

impl Face {
    async fn call<T, F>(&self, what: &'static str, act: impl FnOnce(Queue) -> F + Send + 'static) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>> + Send + 'static,
        T: Send + 'static,
    {
        let queue = self.broker.queue.clone();
        self.line.call(what, move || act(queue)).await.map_err(cut)?
    }
}

fn cut(cut: Cut) -> Fault {
    Fault(format!("{cut:?}"))
}

#[async_trait]
impl Publisher for Face {
    async fn publish(&self, envelope: Envelope) -> Result<(), Unconfirmed> {
        let publisher = Arc::clone(&self.broker.queue.publisher);
        // A network may carry a message twice where a client sends it again by itself.
        let twice = self.line.strikes().then(|| envelope.clone());
        self.line.sky.trace.note(|| format!("publish {envelope:?} twice: {}", twice.is_some()));
        let act = move || async move {
            if let Some(envelope) = twice {
                publisher.publish(envelope).await?;
            }
            publisher.publish(envelope).await
        };
        match self.line.call("publish", act).await {
            Ok(result) => result,
            Err(Cut::NotDone) => Err(Unconfirmed::NotSent("refused".to_owned())),
            Err(Cut::Unknown) => Err(Unconfirmed::Unknown("no confirm".to_owned())),
        }
    }

    fn strain(&self) -> Strain {
        self.broker.queue.publisher.strain()
    }

    fn ready(&self) -> Result<(), String> {
        if self.line.is_cut() { Err("there is no connection".to_owned()) } else { self.broker.queue.publisher.ready() }
    }
}

#[async_trait]
impl Consumer for Face {
    async fn consume(&self, lane: LaneId) -> Result<Box<dyn Lane>, Fault> {
        let inner = self.call("consume", move |queue| async move { queue.consumer.consume(lane).await }).await?;
        Ok(Box::new(BadLane {
            face: self.clone(),
            inner: Some(inner),
            drops: self.broker.drops.load(Ordering::SeqCst),
            slow: None,
            in_hand: 0,
        }))
    }
}

/// A lane that may be taken away at any time, and whose deliveries take their time.
#[derive(Debug)]
struct BadLane {
    face: Face,
    /// `None`: it was taken away.
    inner: Option<Box<dyn Lane>>,
    /// How often all lanes had been taken away when it was taken.
    drops: u64,
    /// What is on its way to the consumer.
    slow: Option<Delivery>,
    in_hand: u64,
}

impl BadLane {
    fn inner(&mut self) -> Result<&mut Box<dyn Lane>, Fault> {
        self.inner.as_mut().ok_or_else(|| Fault("the lane was taken away".to_owned()))
    }

    fn take_away(&mut self) -> Fault {
        self.inner = None;
        self.put_down();
        Fault("the lane is taken away".to_owned())
    }

    fn put_down(&mut self) {
        self.face.broker.in_hand.fetch_sub(std::mem::take(&mut self.in_hand), Ordering::SeqCst);
    }

    fn is_gone(&mut self) -> bool {
        let drops = self.face.broker.drops.load(Ordering::SeqCst);
        drops != self.drops || self.face.line.is_cut() || self.face.line.is_dead()
    }
}

impl Drop for BadLane {
    fn drop(&mut self) {
        self.put_down();
    }
}

#[async_trait]
impl Lane for BadLane {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        if self.is_gone() {
            return Err(self.take_away());
        }
        if self.slow.is_none() {
            let Some(inner) = self.inner.as_mut() else { return Err(self.take_away()) };
            let delivery = tokio::select! {
                biased;
                () = self.face.broker.dropped.notified() => None,
                delivery = inner.next() => Some(delivery?),
            };
            let Some(delivery) = delivery else { return Err(self.take_away()) };
            self.in_hand += 1;
            self.face.broker.in_hand.fetch_add(1, Ordering::SeqCst);
            self.slow = Some(delivery);
            if self.face.line.strikes() {
                return Err(self.take_away());
            }
            if self.face.line.strikes() {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..400))).await;
            }
        }
        self.face.line.sky.latency().await;
        self.slow.take().ok_or_else(|| Fault("nothing is delivered".to_owned()))
    }

    async fn ack(&mut self, up_to: &Delivery) -> Result<(), Fault> {
        if self.is_gone() || self.face.line.strikes() {
            return Err(self.take_away());
        }
        self.inner()?.ack(up_to).await?;
        self.put_down();
        // What came after it is still in hand.
        if self.slow.is_some() {
            self.in_hand = 1;
            self.face.broker.in_hand.fetch_add(1, Ordering::SeqCst);
        }
        if self.face.line.strikes() {
            return Err(self.take_away());
        }
        Ok(())
    }

    async fn park(&mut self, delivery: &Delivery, reason: &str) -> Result<(), Fault> {
        self.inner()?.park(delivery, reason).await
    }
}

#[async_trait]
impl Topology for Face {
    async fn declare(&self) -> Result<(), Fault> {
        self.call("declare", |queue| async move { queue.topology.declare().await }).await
    }

    async fn open(&self, scope: Scope) -> Result<(), Fault> {
        self.call("open the exchange", move |queue| async move { queue.topology.open(scope).await }).await
    }

    async fn close(&self, scope: Scope) -> Result<(), Fault> {
        self.call("close the exchange", move |queue| async move { queue.topology.close(scope).await }).await
    }

    async fn is_open(&self, scope: Scope) -> Result<bool, Fault> {
        self.call("look for the exchange", move |queue| async move { queue.topology.is_open(scope).await }).await
    }

    async fn put(&self, body: Vec<u8>) -> Result<(), Fault> {
        self.call("put", move |queue| async move { queue.topology.put(body).await }).await
    }

    async fn barrier(&self, scope: Scope) -> Result<(), Fault> {
        self.call("barrier", move |queue| async move { queue.topology.barrier(scope).await }).await
    }

    async fn depths(&self) -> Result<Vec<LaneDepth>, Fault> {
        self.call("depths", |queue| async move { queue.topology.depths().await }).await
    }

    fn widen(&self, lanes: u16) {
        self.broker.queue.topology.widen(lanes);
    }

    fn lanes(&self) -> u16 {
        self.broker.queue.topology.lanes()
    }
}
