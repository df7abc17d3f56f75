//! The one task that publishes into one scope's exchange: many messages in flight, each with its own verdict.
//!
//! What may be said of a message when things go wrong:
//! - not begun: it was not sent;
//! - the exchange is gone (404): the broker refused one message that it had not confirmed, and all that came after it. Which one
//!   it does not say, so only the last message is known not to be in; those before it may be;
//! - everything else, a refusal (nack) included, which may come from one of several queues: unknown.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Confirmation, ExchangeKind, PublisherConfirm};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, timeout};

use crate::domain::Scope;
use crate::queue::Unconfirmed;
use crate::queue::rabbitmq::link::Link;
use crate::queue::rabbitmq::parcel::Parcel;
use crate::queue::rabbitmq::session::{CALL_TIMEOUT, Session};
use crate::queue::rabbitmq::topology::{Names, TRACES, is_not_found, persistent};

/// Messages without a confirm at a time. Measured on a quorum queue: 33 times the rate of one at a time; more in flight only adds
/// latency.
const WINDOW: usize = 256;
/// Confirm timeouts without a confirm after which the connection is given up, though it may look alive.
const STALL_TIMEOUTS: u32 = 5;
/// How long an outlet without messages keeps its channel.
const IDLE: Duration = Duration::from_secs(60);
/// How often an outlet looks whether it is idle, stalled or blocked.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Request {
    pub(super) parcel: Arc<Parcel>,
    pub(super) verdict: Verdict,
}

type Verdict = oneshot::Sender<Result<(), Unconfirmed>>;

/// See the [module](self).
pub(super) struct Outlet {
    link: Arc<Link>,
    exchange: ShortString,
    lanes: u64,
    /// The lane of the next message.
    turn: u64,
    /// Tells this outlet's message ids from others'.
    mark: u32,
    confirm_timeout: Duration,
    /// Since when the oldest message has been waiting for its confirm, as of the last look.
    unconfirmed: watch::Sender<Option<Instant>>,
}

/// Why an outlet stopped using a channel.
enum Ended {
    /// Nothing to do, or the link is closed.
    Idle,
    /// The exchange is not there.
    Gone,
    /// The connection is of no use.
    Lost(String),
}

impl Outlet {
    pub(super) fn new(link: Arc<Link>, names: &Names, scope: Scope, confirm_timeout: Duration) -> Self {
        Self {
            link,
            exchange: names.exchange(scope),
            lanes: names.lanes.into(),
            // Many nodes do not all begin with the first lane.
            turn: fastrand::u16(..).into(),
            mark: fastrand::u32(..),
            confirm_timeout,
            unconfirmed: watch::Sender::new(None),
        }
    }

    /// Tells how old the oldest message without a confirm is.
    pub(super) fn unconfirmed(&self) -> watch::Receiver<Option<Instant>> {
        self.unconfirmed.subscribe()
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut next = None;
        loop {
            if next.is_none() {
                tokio::select! {
                    request = timeout(IDLE, requests.recv()) => next = request.ok().flatten(),
                    () = self.link.closed() => {}
                }
            }
            if next.is_none() {
                return;
            }
            let Some(session) = self.link.writable().await else { return };
            if next.as_ref().is_some_and(|request: &Request| request.parcel.is_begun()) {
                // Taken back while there was no connection.
                next = None;
                continue;
            }
            let asked_before = requests.len();
            match self.open(&session).await {
                Ok(channel) => match self.pump((&session, &channel), &mut requests, &mut next).await {
                    Ended::Idle => return,
                    Ended::Lost(why) => {
                        session.fail(why);
                        // Only then: in between, a queue that takes nothing would look like one without a strain.
                        self.link.left(&session).await;
                        self.unconfirmed.send_replace(None);
                    }
                    // Looks once more, and if there are messages waiting, says so to them.
                    Ended::Gone => {}
                },
                Err(Ended::Idle) => return,
                Err(Ended::Lost(why)) => session.fail(why),
                Err(Ended::Gone) => {
                    self.refuse(next, &mut requests, asked_before);
                    return;
                }
            }
        }
    }

    /// Says to those who asked before the exchange was looked for that it is closed. Those who asked later ask again.
    fn refuse(&self, next: Option<Request>, requests: &mut mpsc::Receiver<Request>, asked_before: usize) {
        requests.close();
        let waiting = std::iter::from_fn(|| requests.try_recv().ok()).take(asked_before);
        for request in next.into_iter().chain(waiting) {
            if request.parcel.begin() {
                let _ = request.verdict.send(Err(self.closed()));
            }
        }
    }

    /// A channel for the exchange, if that is there: to ask costs one round trip, and spares the guess which message was the
    /// first to be refused.
    async fn open(&self, session: &Session) -> Result<Channel, Ended> {
        let opened = async {
            let channel = session.channel().await.map_err(|fault| Ended::Lost(fault.0))?;
            let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
            let table = FieldTable::default();
            channel
                .exchange_declare(self.exchange.clone(), ExchangeKind::Direct, passive, table)
                .await
                .map_err(|e| ended(&e))?;
            channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|e| ended(&e))?;
            Ok(channel)
        };
        match timeout(CALL_TIMEOUT, opened).await {
            Ok(opened) => opened,
            Err(_) => Err(Ended::Lost(format!("no channel within {CALL_TIMEOUT:?}"))),
        }
    }

    /// Publishes what comes, until something ends it. `next` is the message that comes first; it is left there if it was not
    /// begun.
    async fn pump(
        &mut self,
        (session, channel): (&Session, &Channel),
        requests: &mut mpsc::Receiver<Request>,
        next: &mut Option<Request>,
    ) -> Ended {
        let mut flight = Flight::new(self.mark);
        let mut sending: Option<BoxFuture<'_, _>> = None;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = loop {
            let blocked = self.link.is_blocked();
            if sending.is_none()
                && !blocked
                && let Some(Request { parcel, verdict }) = next.take()
                && parcel.begin()
            {
                let number = flight.begin(verdict);
                sending = Some(self.send(channel, number, parcel).boxed());
            }
            let has_room = sending.is_none() && next.is_none() && flight.waiting.len() < WINDOW && !blocked;
            tokio::select! {
                biased;
                () = session.failed() => break Ended::Lost(session.reason()),
                settled = flight.settled() => if let Some(ended) = flight.answer(settled) {
                    break ended;
                },
                sent = async { sending.as_mut().expect("guarded").await }, if sending.is_some() => {
                    sending = None;
                    match sent {
                        (number, Ok(confirm)) => flight.add(number, confirm),
                        (_, Err(error)) => break ended(&error),
                    }
                }
                request = requests.recv(), if has_room => match request {
                    Some(request) => *next = Some(request),
                    None => break Ended::Idle,
                },
                _ = look.tick() => {
                    self.unconfirmed.send_replace(flight.oldest());
                    if let Some(ended) = flight.look(blocked, self.confirm_timeout * STALL_TIMEOUTS) {
                        break ended;
                    }
                }
            }
        };
        drop(sending);
        if !matches!(ended, Ended::Lost(_)) {
            self.unconfirmed.send_replace(None);
        }
        match &ended {
            Ended::Gone => flight.abandon("the exchange is gone", Some(self.closed())),
            Ended::Lost(why) => flight.abandon(why, None),
            Ended::Idle => flight.abandon("the publisher ended", None),
        }
        ended
    }

    fn send<'a>(
        &mut self,
        channel: &'a Channel,
        number: u64,
        parcel: Arc<Parcel>,
    ) -> impl Future<Output = (u64, lapin::Result<PublisherConfirm>)> + Send + use<'a> {
        let lane = self.turn % self.lanes;
        self.turn += 1;
        let exchange = self.exchange.clone();
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let mut properties = persistent().with_message_id(format!("{:08x}-{number}", self.mark).into());
        if let Some(traces) = parcel.traces() {
            let mut headers = FieldTable::default();
            headers.insert(TRACES.into(), AMQPValue::LongString(traces.into()));
            properties = properties.with_headers(headers);
        }
        async move {
            let key = lane.to_string().into();
            (number, channel.basic_publish(exchange, key, options, parcel.body(), properties).await)
        }
    }

    fn closed(&self) -> Unconfirmed {
        Unconfirmed::NotSent(format!("the exchange {} is closed", self.exchange))
    }
}

fn ended(error: &lapin::Error) -> Ended {
    if is_not_found(error) { Ended::Gone } else { Ended::Lost(error.to_string()) }
}

/// What was begun on one channel and has no verdict yet.
struct Flight {
    mark: u32,
    confirms: FuturesUnordered<BoxFuture<'static, Settled>>,
    /// By number, which grows.
    waiting: BTreeMap<u64, (Instant, Verdict)>,
    last: u64,
    /// Numbers of messages that came back, and whose confirm has not come yet.
    returned: HashSet<u64>,
    /// When the last verdict was given, or the broker was last seen to block.
    moved: Instant,
}

type Settled = (u64, lapin::Result<Confirmation>);

impl Flight {
    fn new(mark: u32) -> Self {
        Self {
            mark,
            confirms: FuturesUnordered::new(),
            waiting: BTreeMap::new(),
            last: 0,
            returned: HashSet::new(),
            moved: Instant::now(),
        }
    }

    fn begin(&mut self, verdict: Verdict) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, (Instant::now(), verdict));
        self.last
    }

    fn add(&mut self, number: u64, confirm: PublisherConfirm) {
        self.confirms.push(confirm.map(move |confirmation| (number, confirmation)).boxed());
    }

    /// All confirms that are there. Waits for the first.
    async fn settled(&mut self) -> Vec<Settled> {
        let Some(first) = self.confirms.next().await else { return std::future::pending().await };
        let mut settled = vec![first];
        while let Some(Some(more)) = self.confirms.next().now_or_never() {
            settled.push(more);
        }
        settled
    }

    /// Gives the verdicts.
    ///
    /// A message that no queue took comes back before its confirm, but lapin hangs it on whichever confirm it resolves next. That
    /// one was resolved no later than the message's own, so it is in this lot or an earlier one: all are looked through before
    /// anything is said.
    fn answer(&mut self, settled: Vec<Settled>) -> Option<Ended> {
        self.moved = Instant::now();
        for (_, confirmation) in &settled {
            if let Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) = confirmation {
                self.returned.extend(self.number(message));
            }
        }
        let mut end = None;
        for (number, confirmation) in settled {
            let verdict = match confirmation {
                Ok(_) if self.returned.remove(&number) => {
                    Err(Unconfirmed::NotSent("no queue took the message, and none catches all".to_owned()))
                }
                Ok(Confirmation::Ack(_)) => Ok(()),
                Ok(Confirmation::Nack(_)) => {
                    Err(Unconfirmed::Unknown("refused by the broker: is a lane full?".to_owned()))
                }
                Ok(Confirmation::NotRequested) => Err(Unconfirmed::Unknown("the channel confirms nothing".to_owned())),
                Err(error) => {
                    // Its verdict depends on what else is in flight; the end of the channel gives it.
                    end = end.or_else(|| Some(ended(&error)));
                    continue;
                }
            };
            if let Some((_, waiting)) = self.waiting.remove(&number) {
                // Nobody may be waiting any more.
                let _ = waiting.send(verdict);
            }
        }
        end
    }

    fn number(&self, message: &BasicReturnMessage) -> Option<u64> {
        let id = message.properties.message_id().as_ref()?.as_str();
        tracing::error!(id, key = message.routing_key.as_str(), "a message came back: the catch-all queue is missing");
        let (mark, number) = id.split_once('-')?;
        if mark == format!("{:08x}", self.mark) { number.parse().ok() } else { None }
    }

    /// When the oldest message that has no verdict was begun.
    fn oldest(&self) -> Option<Instant> {
        self.waiting.values().next().map(|(begun, _)| *begun)
    }

    /// Is it idle, or stalled?
    fn look(&mut self, blocked: bool, stall: Duration) -> Option<Ended> {
        let Some(begun) = self.oldest() else {
            return (self.moved.elapsed() > IDLE).then_some(Ended::Idle);
        };
        if blocked {
            self.moved = Instant::now();
        }
        let stalled = begun.elapsed() > stall && self.moved.elapsed() > stall;
        stalled.then(|| Ended::Lost(format!("no confirm for {stall:?}")))
    }

    /// Gives verdicts to all that is left: unknown, but for the last one, of which more may be known.
    fn abandon(self, why: &str, last: Option<Unconfirmed>) {
        let mut last = last;
        for (number, (_, waiting)) in self.waiting.into_iter().rev() {
            let known = if number == self.last { last.take() } else { None };
            let _ = waiting.send(Err(known.unwrap_or_else(|| Unconfirmed::Unknown(why.to_owned()))));
        }
    }
}
