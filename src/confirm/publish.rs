//! Many batches, one message: what the inventory has granted is told to the broker, and then the buyers hear yes.
//!
//! A message costs the broker as much as dozens of orders in it. So, as with the inventory's calls, a message is whatever waits while
//! the last ones are out: a lone order goes at once, and under a rush the messages grow by themselves.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::admission::in_line::Place;
use crate::bugs::{self, Bug};
use crate::confirm::Answer;
use crate::confirm::batch::Desk;
use crate::crash::{self, CrashPoint};
use crate::domain::{Order, OrderStatus, OutboxId, Scope};
use crate::inventory::StockMove;
use crate::queue::envelope::Envelope;
use crate::queue::traces::Traces;
use crate::shutdown::Shutdown;
use crate::spans::{self, Kind};

/// Messages that may be out at one time, unless they are full. Two keep the broker busy while a confirm travels; more make messages
/// smaller.
const MESSAGES_IN_FLIGHT: usize = 2;
/// Orders that make a message full: it waits for nobody, so that a broker that is far away, and well, is not the slower for it.
const FULL: usize = 512;

/// What a batch has to tell the broker, and who waits for that.
pub(super) struct Granted {
    pub(super) scope: Scope,
    pub(super) outbox: Option<OutboxId>,
    /// Each order once.
    pub(super) orders: Vec<Arc<Order>>,
    /// Of some of these orders.
    pub(super) traces: Traces,
    /// With whether it was granted before.
    pub(super) waiting: Vec<(Arc<Order>, bool, Place<Answer>)>,
}

/// A batch with its place among those that are not confirmed.
pub(super) type InPlace = (Granted, OwnedSemaphorePermit);

impl Granted {
    /// With those of these traces that belong to its orders.
    pub(super) fn traced(self, mut traces: Traces) -> Self {
        traces.retain(|id| self.orders.iter().any(|order| order.id == id));
        Self { traces, ..self }
    }

    /// Answers all who still wait.
    pub(super) fn answer(&mut self, answer: impl Fn(Arc<Order>, bool) -> Answer) {
        for (order, replayed, place) in self.waiting.drain(..) {
            place.answer(answer(order, replayed));
        }
    }
}

pub(super) fn held(order: Arc<Order>, replayed: bool) -> Answer {
    Answer::Granted { order, status: OrderStatus::Held, replayed }
}

/// Publishes until no batch can come any more.
pub(super) async fn keep_publishing(desk: Arc<Desk>, mut granted: mpsc::Receiver<InPlace>, shutdown: Shutdown) {
    let messages = Arc::new(Semaphore::new(MESSAGES_IN_FLIGHT));
    let publish = |batches: Vec<InPlace>, message: Option<OwnedSemaphorePermit>| {
        let desk = Arc::clone(&desk);
        shutdown.spawn(async move {
            for batches in by_scope(batches) {
                desk.publish(batches).await;
            }
            drop(message);
        });
    };
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            biased;
            message = Arc::clone(&messages).acquire_owned(), if !waiting.is_empty() => {
                publish(std::mem::take(&mut waiting), message.ok());
            }
            batch = granted.recv() => match batch {
                Some(batch) => waiting.push(batch),
                None => break,
            },
        }
        if waiting.iter().map(|(granted, _): &InPlace| granted.orders.len()).sum::<usize>() >= FULL {
            publish(std::mem::take(&mut waiting), None);
        }
    }
    if !waiting.is_empty() {
        publish(waiting, None);
    }
}

/// Batches of different epochs go to different exchanges. In nearly all cases there is one epoch.
fn by_scope(batches: Vec<InPlace>) -> Vec<Vec<InPlace>> {
    let mut scopes: Vec<Vec<InPlace>> = Vec::new();
    for batch in batches {
        match scopes.iter_mut().find(|known| known[0].0.scope == batch.0.scope) {
            Some(known) => known.push(batch),
            None => scopes.push(vec![batch]),
        }
    }
    scopes
}

impl Desk {
    /// Tells the broker, and only then the buyers. What is not confirmed stays in the outbox and is published again from there.
    async fn publish(&self, mut batches: Vec<InPlace>) {
        crash::reach(CrashPoint::VerdictReceived);
        let scope = batches[0].0.scope;
        let outbox: Vec<_> = batches.iter_mut().filter_map(|(granted, _)| granted.outbox.take()).collect();
        let orders: Vec<_> = batches.iter_mut().flat_map(|(granted, _)| std::mem::take(&mut granted.orders)).collect();
        let mut traces = Traces::default();
        for (granted, _) in &mut batches {
            traces.append(std::mem::take(&mut granted.traces));
        }
        let work = self.spans.work("publish orders", Kind::Producer, traces.contexts());
        let work = work
            .with("rushgate.orders", || orders.len().into())
            .with("rushgate.partition", || scope.partition.0.into());
        let give_back = bugs::is_planted(Bug::ReleaseOnTimeout).then(|| orders.clone());
        let published = self.publisher.publish(Envelope::orders(scope, outbox, orders).traced(traces.clone()));
        let result = crash::during(CrashPoint::PublishWritten, published).await;
        work.done(&result);
        match &result {
            Ok(()) => crash::reach(CrashPoint::ConfirmReceived),
            Err(fault) => {
                let waiting: usize = batches.iter().map(|(granted, _)| granted.waiting.len()).sum();
                let trace_ids = spans::told(traces.contexts());
                tracing::warn!(%scope, %fault, waiting, trace_ids, "orders were not confirmed");
                if let Some(orders) = give_back {
                    let give_back = |order: &Arc<Order>| StockMove { order: order.id, to: OrderStatus::Expired };
                    let moves: Vec<_> = orders.iter().map(give_back).collect();
                    let _ = self.inventory.apply(scope, &moves).await;
                }
            }
        }
        for (mut granted, _place) in batches {
            granted.answer(|order, replayed| match result {
                Ok(()) => held(order, replayed),
                Err(_) => Answer::Pending { order: order.id },
            });
        }
    }
}
