//! Many claims, one call: a batch is whatever waits while the last call is out.
//!
//! There is no timer. A lone claim is a batch of one and waits for nobody; under a rush the batches grow by themselves.
//!
//! A yes waits for the broker's confirm, unless [`AnswerAfter::Inventory`] is set: then the inventory's word is enough for the buyer,
//! and the broker is told all the same. Either way the outbox holds the batch until the store has it.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::admission::in_line::Place;
use crate::admission::{Permit, Shards};
use crate::bugs::{self, Bug};
use crate::clock::Clock;
use crate::config::settings::AnswerAfter;
use crate::confirm::publish::{self, Granted};
use crate::confirm::{Answer, Unserved};
use crate::crash::{self, CrashPoint};
use crate::domain::{Claim, Order, OrderStatus, Partition, Refusal, Scope, TraceContext};
use crate::epochs::Epochs;
use crate::inventory::{Changes, Confirmed, Fault, Inventory, Verdict};
use crate::meters::{Histogram, Meters};
use crate::queue::Publisher;
use crate::queue::traces::Traces;
use crate::shutdown::Shutdown;
use crate::spans::{self, Kind, Spans};

/// Batches that may be decided or unconfirmed at one time, so many more than calls that these never wait for a broker that is well:
/// its latency times its throughput, generously.
const BATCHES_UNCONFIRMED: usize = 128;
/// Claims that may wait, in batches: past that the answer is busy, at once.
const WAITING_BATCHES: usize = 32;

/// A claim that was let through, and who waits for its answer.
#[derive(Debug)]
pub struct Waiting {
    pub(super) claim: Claim,
    pub(super) permit: Permit,
    pub(super) place: Place<Answer>,
    pub(super) trace: Option<Arc<TraceContext>>,
}

/// The settings of a batcher.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Claims in one call, at most.
    pub batch_max: usize,
    pub batches_in_flight: usize,
    pub answer_after: AnswerAfter,
}

/// Decides the claims of one partition.
#[derive(Debug)]
pub struct Batcher {
    waiting: mpsc::Receiver<Waiting>,
    sender: mpsc::Sender<Waiting>,
    desk: Arc<Desk>,
    limits: Limits,
}

/// What a batch is decided with.
#[derive(Debug)]
pub struct Desk {
    pub partition: Partition,
    pub inventory: Arc<dyn Inventory>,
    pub publisher: Arc<dyn Publisher>,
    pub shards: Shards,
    pub epochs: Epochs,
    pub clock: Arc<dyn Clock>,
    pub meters: DeskMeters,
    pub spans: Spans,
}

/// The handles that every batch moves.
#[derive(Clone)]
pub struct DeskMeters {
    batch_claims: Histogram,
    call_duration: Histogram,
}

impl std::fmt::Debug for DeskMeters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeskMeters")
    }
}

impl DeskMeters {
    pub fn new(meters: &Meters) -> Self {
        Self {
            batch_claims: meters.histogram("rushgate_inventory_batch_claims", &[]),
            call_duration: meters.histogram("rushgate_inventory_call_duration_seconds", &[("call", "confirm")]),
        }
    }
}

impl Batcher {
    pub fn new(desk: Desk, limits: Limits) -> Self {
        let (sender, waiting) = mpsc::channel(limits.batch_max * WAITING_BATCHES);
        Self { waiting, sender, desk: Arc::new(desk), limits }
    }

    pub(super) fn sender(&self) -> mpsc::Sender<Waiting> {
        self.sender.clone()
    }

    /// Decides batches until nobody can send any more.
    pub async fn run(self, shutdown: Shutdown) {
        let Self { mut waiting, sender, desk, limits } = self;
        drop(sender);
        let calls = Arc::new(Semaphore::new(limits.batches_in_flight));
        let unconfirmed = Arc::new(Semaphore::new(BATCHES_UNCONFIRMED));
        let (publishing, granted) = mpsc::channel(BATCHES_UNCONFIRMED);
        shutdown.spawn(publish::keep_publishing(Arc::clone(&desk), granted, shutdown.clone()));
        loop {
            // A place to wait for the broker first: what is granted must not pile up between the inventory and it.
            let Ok(place) = Arc::clone(&unconfirmed).acquire_owned().await else { return };
            let Ok(call) = Arc::clone(&calls).acquire_owned().await else { return };
            let mut batch = Vec::with_capacity(limits.batch_max);
            if waiting.recv_many(&mut batch, limits.batch_max).await == 0 {
                return;
            }
            let (desk, publishing) = (Arc::clone(&desk), publishing.clone());
            shutdown.spawn(async move {
                let decided = desk.decide(batch).await;
                drop(call);
                if let Some(mut granted) = decided {
                    if limits.answer_after == AnswerAfter::Inventory || bugs::is_planted(Bug::AnswerBeforeConfirm) {
                        granted.answer(publish::held);
                    }
                    // There is room for as many as there are places. Nobody takes it any more only when all has to stop at once.
                    let _all_has_to_stop = publishing.send((granted, place)).await;
                }
            });
        }
    }
}

impl Desk {
    /// Asks the inventory, and answers all who are refused or cannot be served.
    async fn decide(&self, batch: Vec<Waiting>) -> Option<Granted> {
        let scope = match self.epochs.scope(self.partition) {
            Ok(scope) => scope,
            Err(reason) => {
                answer_all(batch, |_| Answer::Unserved(reason.clone().into()));
                return None;
            }
        };
        let traces: Traces =
            batch.iter().filter_map(|waiting| Some((waiting.claim.order.id, waiting.trace.clone()?))).collect();
        let (claims, mut waiters): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.claim, (waiting.permit, waiting.place))).unzip();
        let work = self.spans.work("confirm claims", Kind::Client, traces.contexts());
        let asked = self.ask(scope, &claims).await;
        work.with("rushgate.claims", || claims.len().into())
            .with("rushgate.partition", || scope.partition.0.into())
            .done(&asked);
        match asked {
            Ok(confirmed) => {
                let granted =
                    claims.iter().zip(&confirmed.verdicts).filter(|(_, verdict)| **verdict == Verdict::Granted);
                let granted = granted.map(|(claim, _)| claim.order.id.hint()).collect();
                spend(&confirmed.verdicts, &mut waiters);
                let (version, stock) = (confirmed.version, confirmed.stock.clone());
                self.shards.learn(scope, &Changes { version, stock, granted, sales: Vec::new() });
                distribute(scope, confirmed, claims, waiters).map(|granted| granted.traced(traces))
            }
            Err(fault) => {
                self.epochs.report(scope, &fault);
                let trace_ids = spans::told(traces.contexts());
                tracing::warn!(%scope, %fault, claims = claims.len(), trace_ids, "a batch was not decided");
                for (claim, (permit, place)) in claims.into_iter().zip(waiters) {
                    place.answer(match fault {
                        Fault::Fenced(_) => Answer::Unserved(Unserved::Recovering),
                        Fault::NotDone(_) => Answer::Unserved(Unserved::Unavailable),
                        Fault::Unknown(_) => {
                            permit.spend();
                            Answer::Pending { order: claim.order.id }
                        }
                    });
                }
                None
            }
        }
    }

    /// One call; one more if it is not known what came of it, since the first verdict comes back. A second fault cannot make
    /// a call undone that may have been done.
    async fn ask(&self, scope: Scope, claims: &[Claim]) -> Result<Confirmed, Fault> {
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        self.meters.batch_claims.record(claims.len() as f64);
        match self.call(scope, claims).await {
            Err(Fault::Unknown(first)) => match self.call(scope, claims).await {
                Err(Fault::Fenced(second)) => {
                    self.epochs.report(scope, &Fault::Fenced(second.clone()));
                    Err(Fault::Unknown(format!("{first}; then {second}")))
                }
                Err(second) => Err(Fault::Unknown(format!("{first}; then {second}"))),
                confirmed => confirmed,
            },
            result => result,
        }
    }

    async fn call(&self, scope: Scope, claims: &[Claim]) -> Result<Confirmed, Fault> {
        let begun = Instant::now();
        let asked = self.inventory.confirm(scope, claims, self.clock.now());
        let result = crash::during(CrashPoint::ScriptSent, asked).await;
        self.meters.call_duration.record(begun.elapsed());
        result
    }
}

/// What was granted is gone from what is free, so it must be in flight no more when the shards learn of that: a refill would leave it
/// out twice.
fn spend(verdicts: &[Verdict], waiters: &mut [(Permit, Place<Answer>)]) {
    for (_, (permit, _)) in verdicts.iter().zip(waiters).filter(|(verdict, _)| **verdict == Verdict::Granted) {
        std::mem::take(permit).spend();
    }
}

/// Answers who is refused; `permit`s of granted units are spent already.
fn distribute(
    scope: Scope,
    confirmed: Confirmed,
    claims: Vec<Claim>,
    waiters: Vec<(Permit, Place<Answer>)>,
) -> Option<Granted> {
    let mut waiting = Vec::with_capacity(claims.len());
    for ((verdict, claim), (permit, place)) in confirmed.verdicts.into_iter().zip(claims).zip(waiters) {
        match verdict {
            Verdict::Granted => waiting.push((Arc::new(claim.order), false, place)),
            // It was granted before, but perhaps nobody told the broker: it is told again, and the store knows it by its id.
            Verdict::Known(known) if known.status == OrderStatus::Held => {
                waiting.push((Arc::new(known.order), true, place));
            }
            // The store has decided about it since, so it has it.
            Verdict::Known(known) => {
                place.answer(Answer::Granted { order: Arc::new(known.order), status: known.status, replayed: true });
            }
            Verdict::Refused(refusal) => {
                if matches!(refusal, Refusal::SoldOut | Refusal::AllHeld { .. }) {
                    permit.waste();
                } else {
                    drop(permit);
                }
                place.answer(Answer::Refused(refusal));
            }
        }
    }
    let orders = each_once(&waiting);
    let traces = Traces::default();
    (!orders.is_empty()).then_some(Granted { scope, outbox: confirmed.outbox, orders, traces, waiting })
}

/// A replay of an order that is in the batch already is told to the broker once.
fn each_once(waiting: &[(Arc<Order>, bool, Place<Answer>)]) -> Vec<Arc<Order>> {
    let orders = waiting.iter().map(|(order, ..)| order);
    if waiting.iter().all(|(_, replayed, _)| !replayed) {
        return orders.map(Arc::clone).collect();
    }
    let mut told = HashSet::with_capacity(waiting.len());
    orders.filter(|order| told.insert(order.id)).map(Arc::clone).collect()
}

fn answer_all(batch: Vec<Waiting>, answer: impl Fn(&Claim) -> Answer) {
    for Waiting { claim, permit, place, .. } in batch {
        drop(permit);
        place.answer(answer(&claim));
    }
}
