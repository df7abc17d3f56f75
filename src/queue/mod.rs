//! Orders in motion: from a gateway that was granted them to a writer that stores them.
//!
//! This file is the contract; `memory` and `rabbitmq` keep it, and one suite (`tests/contracts/queue.rs`) runs over both. Only
//! `queue/rabbitmq` knows AMQP. What goes over the wire is [`envelope`]'s.
//!
//! A confirmed message is delivered at least once, in its lane's order, until it is acknowledged or parked. A lane has one
//! consumer at a time. Every scope has an exchange of its own: once that is closed, nothing published into it is ever
//! confirmed again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::Scope;
use crate::queue::envelope::Envelope;
use crate::queue::traces::Traces;

pub mod envelope;
pub mod memory;
pub mod rabbitmq;
mod tags;
pub mod traces;

/// The three faces of one queue.
#[derive(Debug, Clone)]
pub struct Queue {
    pub publisher: Arc<dyn Publisher>,
    pub consumer: Arc<dyn Consumer>,
    pub topology: Arc<dyn Topology>,
}

/// Sends batches of orders.
#[async_trait]
pub trait Publisher: fmt::Debug + Send + Sync + 'static {
    /// Sends one message into the exchange of its scope and returns when the queue has stored it durably.
    ///
    /// Returns within the configured `confirm_timeout`, also when the broker is frozen or has blocked the connection.
    async fn publish(&self, envelope: Envelope) -> Result<(), Unconfirmed>;

    /// Is there a queue to publish into? If not, why not. Does no I/O.
    ///
    /// One that is there and takes nothing is ready: what it suffers from is [`Self::strain`].
    fn ready(&self) -> Result<(), String>;

    /// How hard it is to be rid of a message at this moment. Does no I/O.
    fn strain(&self) -> Strain;
}

/// Receives what was sent.
#[async_trait]
pub trait Consumer: fmt::Debug + Send + Sync + 'static {
    /// Takes a lane. Where another consumer has it, waits on as the next in line.
    async fn consume(&self, lane: LaneId) -> Result<Box<dyn Lane>, Fault>;
}

/// A lane that this consumer has. Dropping it gives back what was not acknowledged.
#[async_trait]
pub trait Lane: fmt::Debug + Send {
    /// The next message. Waits for one; safe to drop while waiting. After an error the lane must be taken anew.
    async fn next(&mut self) -> Result<Delivery, Fault>;

    /// Acknowledges this delivery and all before it. An error means that they will be delivered again.
    async fn ack(&mut self, up_to: &Delivery) -> Result<(), Fault>;

    /// Moves one message to the dead letters, with a reason, and acknowledges it alone.
    async fn park(&mut self, delivery: &Delivery, reason: &str) -> Result<(), Fault>;
}

/// What must exist for messages to flow, and how full it is.
#[async_trait]
pub trait Topology: fmt::Debug + Send + Sync + 'static {
    /// Makes the lanes, the catch-all for unroutable messages, and the dead letters. Safe to repeat.
    async fn declare(&self) -> Result<(), Fault>;

    /// For recovery only: makes the scope's exchange and binds every lane to it. Safe to repeat.
    async fn open(&self, scope: Scope) -> Result<(), Fault>;

    /// For recovery only: removes the scope's exchange. Safe to repeat, and for a scope that never was.
    async fn close(&self, scope: Scope) -> Result<(), Fault>;

    /// Is the scope's exchange there?
    async fn is_open(&self, scope: Scope) -> Result<bool, Fault>;

    /// For recovery and replays: puts a message straight into a lane, past the exchanges, behind all that is there, confirmed. The
    /// lane takes it whatever it is.
    async fn put(&self, body: Vec<u8>) -> Result<(), Fault>;

    /// For recovery only: puts one barrier of the scope into every lane, the catch-all included, behind all that is there, confirmed.
    async fn barrier(&self, scope: Scope) -> Result<(), Fault>;

    /// What tells the barriers of a scope from each other: the numbers of the lanes, and [`envelope::CATCH_ALL`] if there is one.
    fn barriers(&self) -> Vec<u16> {
        (0..self.lanes()).collect()
    }

    /// How many messages wait, lane by lane, the catch-all and the dead letters included.
    async fn depths(&self) -> Result<Vec<LaneDepth>, Fault>;

    /// How many numbered lanes there are.
    fn lanes(&self) -> u16;

    /// Takes note that others publish, or once published, into this many lanes: from now on there are as many at least, where messages
    /// outlive a process. What is published here still goes into as many as are configured.
    fn widen(&self, lanes: u16);
}

/// One of the parallel, ordered parts of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LaneId {
    Number(u16),
    /// Where a message goes that no lane was bound for. It is an order all the same, so a writer drains it too.
    Unroutable,
    /// Where messages go that cannot be stored. A writer takes them from there into the store, undecoded, where operators look
    /// into them: to look into a broker's queue is to count a delivery of each message, and too many of those drop it. Here
    /// alone several consumers may share the lane, and nothing can be parked.
    Dead,
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Unroutable => f.write_str("unroutable"),
            Self::Dead => f.write_str("dead"),
        }
    }
}

/// How full a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneDepth {
    pub lane: LaneId,
    pub messages: u64,
    pub consumers: u64,
}

/// A message as it was delivered. It is not decoded yet: whether it can be is the writer's concern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Grows with every delivery of a lane that was taken once; means nothing elsewhere.
    pub tag: u64,
    pub body: Vec<u8>,
    pub redelivered: bool,
    /// Of its orders, as far as they came with it.
    pub traces: Traces,
    /// Of a dead letter.
    pub parked: Option<Parked>,
}

/// Where a dead letter comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// As a [`LaneId`] is written, or what is known instead.
    pub lane: String,
    /// In the words of whoever parked it, a writer or the broker.
    pub reason: String,
}

impl Parked {
    /// Of what is not told.
    pub(crate) const UNKNOWN: &str = "unknown";
}

/// What keeps messages from being confirmed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strain {
    /// Why the queue takes no message now, if so: it is full, it blocks, it does not answer.
    pub blocked: Option<String>,
    /// How long the oldest message that was sent has been waiting for its confirm, whether or not its sender still does.
    pub oldest_unconfirmed: Option<Duration>,
}

/// A message that is not known to be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unconfirmed {
    /// It was not sent.
    #[error("not published: {0}")]
    NotSent(String),
    /// It may be in the queue or not. Sending it again is safe: the store knows its orders by their ids.
    #[error("not known to be published: {0}")]
    Unknown(String),
}

/// The queue cannot do what was asked; asking again, on a new lane, is safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the queue: {0}")]
pub struct Fault(pub String);
