//! From a buyer's request to its answer: admission, the inventory's verdict, the broker's confirm.
//!
//! The whole story of a claim is [`Claims::claim`]: what memory can refuse is refused at a look. What it lets through is decided in
//! batches ([`batch`]) and told to the broker (`publish`), in tasks that a client's disconnect cannot cancel: once the inventory was
//! asked, the order goes its way to the end, whoever still listens.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{Either, ready};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::admission::in_line::{Arrival, InLine};
use crate::admission::pressure::Pressure;
use crate::admission::{Permit, SaleShard, Shards, Shut};
use crate::clock::Clock;
use crate::confirm::batch::{Batcher, Waiting};
use crate::crash::{self, CrashPoint};
use crate::domain::{
    Ask, BuyerId, Claim, IdempotencyKey, Invalid, Order, OrderId, OrderSecret, OrderStatus, Partition, Phase, Refusal,
    Scope, TraceContext, Wanted,
};
use crate::epochs::{Epochs, NotJoined};
use crate::queue::Publisher;

pub mod batch;
mod publish;

/// What a buyer asks for.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub sale: &'a str,
    pub buyer: BuyerId,
    /// `None`: this request is like no other.
    pub key: Option<IdempotencyKey>,
    pub ask: Ask<'a>,
    /// The trace that it belongs to.
    pub trace: Option<Arc<TraceContext>>,
}

/// What a buyer hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The order is in the queue, stored by the broker. `replayed`: it was granted to the same request before.
    Granted {
        order: Arc<Order>,
        status: OrderStatus,
        replayed: bool,
    },
    /// It is not known in time whether it is; ask for the order.
    Pending {
        order: OrderId,
    },
    Refused(Refusal),
    /// The request does not fit the sale; nothing was asked.
    Invalid(Vec<Invalid>),
    Unserved(Unserved),
}

/// This node could not ask; nothing was reserved, and asking again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unserved {
    /// Too many are waiting, or what was granted before piles up.
    Busy,
    /// The inventory is being rebuilt.
    Recovering,
    /// A backend is not there.
    Unavailable,
}

impl Unserved {
    /// The stable code of this answer, in problems and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Recovering => "recovering",
            Self::Unavailable => "unavailable",
        }
    }
}

impl From<NotJoined> for Unserved {
    fn from(reason: NotJoined) -> Self {
        match reason {
            NotJoined::Unavailable(_) => Self::Unavailable,
            NotJoined::Recovering(_) => Self::Recovering,
        }
    }
}

/// Answers claims. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Claims(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    line: InLine<Answer>,
    /// One per partition.
    batchers: Vec<mpsc::Sender<Waiting>>,
}

/// What claims are answered with.
#[derive(Debug, Clone)]
pub struct Parts {
    pub shards: Shards,
    pub epochs: Epochs,
    pub pressure: Pressure,
    pub publisher: Arc<dyn Publisher>,
    pub clock: Arc<dyn Clock>,
    /// Set once the store has told it.
    pub secret: Arc<OnceLock<OrderSecret>>,
}

impl Parts {
    /// A sale, or the answer to a claim on one that this node does not know.
    pub fn sale(&self, id: &str) -> Result<Arc<SaleShard>, Answer> {
        if let Some(shard) = self.shards.sale(id) {
            return Ok(shard);
        }
        // Only one who has heard of everything may say that there is no such sale.
        let Ok(id) = id.parse() else { return Err(Answer::Refused(Refusal::UnknownSale)) };
        let partition = Partition::of(&id, self.epochs.partitions());
        Err(match self.epochs.scope(partition) {
            Ok(_) if self.shards.is_filled(partition) => Answer::Refused(Refusal::UnknownSale),
            Ok(_) => Answer::Unserved(Unserved::Unavailable),
            Err(reason) => Answer::Unserved(reason.into()),
        })
    }

    /// What it takes to answer any claim on an open sale, be it from memory; or why there is no answer.
    pub fn means(&self, partition: Partition) -> Result<(&OrderSecret, Scope), Unserved> {
        let secret = self.secret.get().ok_or(Unserved::Unavailable)?;
        Ok((secret, self.epochs.scope(partition)?))
    }

    /// Why nothing more may be granted here, if so. What memory can refuse is refused all the same.
    pub fn closed(&self, partition: Partition) -> Option<Unserved> {
        if self.publisher.ready().is_err() {
            return Some(Unserved::Unavailable);
        }
        self.pressure.is_closed(partition).then_some(Unserved::Busy)
    }
}

impl Claims {
    /// `batchers` has one for every partition, in their order.
    pub fn new(parts: Parts, batchers: &[Batcher]) -> Self {
        let batchers = batchers.iter().map(Batcher::sender).collect();
        Self(Arc::new(Inner { parts, line: InLine::default(), batchers }))
    }

    /// Answers one claim. `enter` gives what it takes to decide a claim that memory cannot refuse: a place among those that are being
    /// decided, and the deadline by which it is answered. Without it the answer is busy. Memory is asked at the call, not at the first poll.
    pub fn claim<'a, P: Send + 'a>(
        &'a self,
        request: Request<'a>,
        enter: impl FnOnce() -> Option<(P, Instant)>,
    ) -> impl Future<Output = Answer> + Send + 'a {
        if let Some(refusal) = self.refusal(&request) {
            return Either::Left(ready(Answer::Refused(refusal)));
        }
        let Some((place, deadline)) = enter() else {
            return Either::Left(ready(Answer::Unserved(Unserved::Busy)));
        };
        // On the heap, as most of a crowd needs no room for it.
        Either::Right(Box::pin(async move {
            let _place = place;
            self.decide(request, deadline).await
        }))
    }

    /// What memory says to most of a crowd: that nothing is left of what it came for. It waits for no server, writes nothing that another
    /// core reads but the locks of the two maps that it looks into, and says only what a decision would say; `None` if that takes more
    /// than a look.
    pub fn refusal(&self, request: &Request<'_>) -> Option<Refusal> {
        let Parts { shards, clock, .. } = &self.0.parts;
        shards.look(request.sale, |shard| {
            if shard.sale.phase(clock.now()) != Phase::Open {
                return None;
            }
            let wanted = Wanted::of_ask(&shard.sale, &request.ask)?;
            let refusal = match shard.shut(&wanted)? {
                Shut::Empty => return None,
                Shut::SoldOut => Refusal::SoldOut,
                Shut::AllHeld => Refusal::AllHeld { next_release_at: shard.next_release() },
            };
            self.is_certain(request, shard, &wanted).then_some(refusal)
        })?
    }

    /// Is this the first that is heard of the request, so that nobody can have granted it?
    fn is_certain(&self, request: &Request<'_>, shard: &SaleShard, wanted: &[Wanted]) -> bool {
        let Parts { shards, .. } = &self.0.parts;
        let Ok((secret, scope)) = self.0.parts.means(shard.partition) else { return false };
        let Some(key) = &request.key else { return true };
        let order = OrderId::derive(secret, &shard.sale.id, &request.buyer, key);
        // In this order: what was heard until then is known then, and who leaves the line granted is known as granted before.
        shards.has_heard_of_all(scope, shard, wanted) && !self.0.line.contains(order) && !shards.may_be_granted(order)
    }

    /// Answers a claim that memory alone has no answer to.
    async fn decide(&self, request: Request<'_>, deadline: Instant) -> Answer {
        let shard = match self.sale(request.sale) {
            Ok(shard) => shard,
            Err(answer) => return answer,
        };
        let now = self.0.parts.clock.now();
        let refusal = refused_by_phase(shard.sale.phase(now));
        let has_key = request.key.is_some();
        if let Some(refusal) = &refusal
            && !has_key
        {
            return Answer::Refused(refusal.clone());
        }
        let key = request.key.unwrap_or_else(fresh_key);
        let Some(secret) = self.0.parts.secret.get() else { return Answer::Unserved(Unserved::Unavailable) };
        let claim = match Claim::check(&shard.sale, request.buyer, &key, &request.ask, (secret, now)) {
            Ok(claim) => claim,
            Err(wrong) => return Answer::Invalid(wrong),
        };
        // A repetition of a granted request hears what became of that, from the inventory, and no refusal from here.
        if let Some(refusal) = refusal
            && !(has_key && self.0.parts.shards.may_be_granted(claim.order.id))
        {
            return Answer::Refused(refusal);
        }
        if let Err(reason) = self.0.parts.epochs.scope(shard.partition) {
            return Answer::Unserved(reason.into());
        }
        self.line_up(&shard, (claim, request.trace), has_key, deadline).await
    }

    /// How many claims are being decided.
    pub fn in_flight(&self) -> usize {
        self.0.line.len()
    }

    /// Is this order being decided on this node?
    pub fn is_deciding(&self, order: OrderId) -> bool {
        self.0.line.contains(order)
    }

    /// A sale, or the answer to a claim on one that this node does not know.
    pub fn sale(&self, id: &str) -> Result<Arc<SaleShard>, Answer> {
        self.0.parts.sale(id)
    }

    /// Waits behind the same request, or asks.
    async fn line_up(
        &self,
        shard: &SaleShard,
        (claim, trace): (Claim, Option<Arc<TraceContext>>),
        has_key: bool,
        deadline: Instant,
    ) -> Answer {
        let order = claim.order.id;
        loop {
            match self.0.line.enter(order) {
                Arrival::Behind(first) => match tokio::time::timeout_at(deadline, first.answer()).await {
                    Err(_) => return Answer::Pending { order },
                    Ok(Some(Answer::Granted { order, .. })) if order.fingerprint != claim.order.fingerprint => {
                        return Answer::Refused(Refusal::KeyReused);
                    }
                    Ok(Some(Answer::Granted { order, status, .. })) => {
                        return Answer::Granted { order, status, replayed: true };
                    }
                    Ok(Some(Answer::Pending { order })) => return Answer::Pending { order },
                    // The first one was refused, or left without an answer: this one asks for itself.
                    Ok(_) => {}
                },
                Arrival::First(place) => {
                    let permit = match self.permit(shard, &claim, has_key, deadline).await {
                        Ok(permit) => permit,
                        Err(answer) => return answer,
                    };
                    crash::reach(CrashPoint::PermitTaken);
                    let answer = place.wait();
                    let waiting = Waiting { claim, permit, place, trace };
                    if self.0.batchers[usize::from(shard.partition.0)].try_send(waiting).is_err() {
                        return Answer::Unserved(Unserved::Busy);
                    }
                    return match tokio::time::timeout_at(deadline, answer.answer()).await {
                        Ok(Some(answer)) => with_release_time(answer, shard),
                        // It was sent, so it may be decided: this is no time to say no.
                        Ok(None) | Err(_) => Answer::Pending { order },
                    };
                }
            }
        }
    }

    /// Leave to ask the inventory. Where the shard is empty but the inventory is not, waits for a refill, with all who wait.
    ///
    /// While this node is closed to new grants, who would have been let through hears so; nothing was reserved. What memory can
    /// refuse it still refuses: sold out stays sold out. And a repetition of a granted request is pending, which is the truth: its
    /// order is there, asking for it tells the rest, and to confirm it here would add a message to those that are too many.
    async fn permit(
        &self,
        shard: &SaleShard,
        claim: &Claim,
        has_key: bool,
        deadline: Instant,
    ) -> Result<Permit, Answer> {
        let shards = &self.0.parts.shards;
        let order = claim.order.id;
        // It was checked against this very sale.
        let wanted = Wanted::of_lines(&shard.sale, &claim.order.lines).unwrap_or_default();
        let is_known = || has_key && shards.may_be_granted(order);
        loop {
            let permit = shard.permit(&wanted);
            // Before what is known, as in `is_certain`.
            let has_heard = match permit {
                Err(Shut::SoldOut | Shut::AllHeld) if has_key => self.has_heard_of_all(shard, &wanted),
                _ => Ok(true),
            };
            let refusal = match (permit, self.0.parts.closed(shard.partition)) {
                (_, Some(_)) if is_known() => return Err(Answer::Pending { order }),
                (Ok(_) | Err(Shut::Empty), Some(unserved)) => return Err(Answer::Unserved(unserved)),
                (Ok(permit), None) => return Ok(permit),
                (Err(_), None) if is_known() => return Ok(Permit::to_ask()),
                // What this node has heard of others' grants is older than the counters, of an epoch before, or no news: no time to
                // refuse a repetition.
                (Err(_), _) if !has_heard? => {
                    self.refilled(shard, deadline).await?;
                    continue;
                }
                (Err(Shut::SoldOut), _) => Refusal::SoldOut,
                (Err(Shut::AllHeld), _) => Refusal::AllHeld { next_release_at: shard.next_release() },
                (Err(Shut::Empty), None) => {
                    self.refilled(shard, deadline).await?;
                    continue;
                }
            };
            return Err(Answer::Refused(refusal));
        }
    }

    fn has_heard_of_all(&self, shard: &SaleShard, wanted: &[Wanted]) -> Result<bool, Answer> {
        let scope = self.0.parts.epochs.scope(shard.partition).map_err(|reason| Answer::Unserved(reason.into()))?;
        Ok(self.0.parts.shards.has_heard_of_all(scope, shard, wanted))
    }

    async fn refilled(&self, shard: &SaleShard, deadline: Instant) -> Result<(), Answer> {
        match tokio::time::timeout_at(deadline, self.0.parts.shards.refilled(shard.partition)).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Answer::Unserved(Unserved::Busy)),
        }
    }
}

fn refused_by_phase(phase: Phase) -> Option<Refusal> {
    match phase {
        Phase::Open => None,
        Phase::NotOpen { opens_at } => Some(Refusal::NotOpen { opens_at }),
        Phase::Paused => Some(Refusal::Paused),
        Phase::Closed => Some(Refusal::Closed),
    }
}

/// The inventory knows that units are held, not until when.
fn with_release_time(answer: Answer, shard: &SaleShard) -> Answer {
    match answer {
        Answer::Refused(Refusal::AllHeld { next_release_at: None }) => {
            Answer::Refused(Refusal::AllHeld { next_release_at: shard.next_release() })
        }
        answer => answer,
    }
}

/// A key that nobody else has: 128 random bits.
fn fresh_key() -> IdempotencyKey {
    format!("{:032x}", fastrand::u128(..)).parse().expect("hexadecimal digits are a key")
}

/// How long a claim may take, from its arrival.
pub fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout
}
