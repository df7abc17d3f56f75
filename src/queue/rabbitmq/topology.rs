//! Every name and every declaration at the broker, in one place. A declaration with other arguments than the first one is refused
//! by the broker (406), so nothing is left to its defaults, which differ between versions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, ErrorKind, ExchangeKind};

use crate::domain::Scope;
use crate::queue::envelope::{CATCH_ALL, Envelope};
use crate::queue::rabbitmq::link::Link;
use crate::queue::rabbitmq::session::in_time;
use crate::queue::{Fault, LaneDepth, LaneId, Topology};

/// Messages that a lane holds at most; beyond, the broker refuses (nacks) them. At 64 orders a message, 6.4 million orders.
const LANE_MESSAGES: i64 = 100_000;
/// How often a message may come back from a consumer that died before the broker takes it for poison and moves it to the dead
/// letters. Poison is parked by the writer itself, so what this counts are crashes and cut connections, and all that was
/// prefetched counts with it: generous.
const DELIVERY_LIMIT: i64 = 1000;
/// Two processes that declare the same quorum queue at the same instant on a fresh broker can make it fail with 541, which ends
/// the connection of the loser; it finds the queue when it asks again.
const DECLARE_ATTEMPTS: u32 = 5;
const DECLARE_PAUSE: Duration = Duration::from_millis(300);
/// Longest namespace: the longest name, `{namespace}.orders.p65535.e{20 digits}`, must fit into the 255 bytes of AMQP.
pub(super) const MAX_NAMESPACE: usize = 200;
const NOT_FOUND: u16 = 404;

/// What things are called at the broker.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) namespace: Arc<str>,
    pub(super) lanes: u16,
}

impl Names {
    /// The exchange of a scope. Its routing keys are the numbers of the lanes.
    pub(super) fn exchange(&self, scope: Scope) -> ShortString {
        format!("{}.orders.{scope}", self.namespace).into()
    }

    /// The queue of a lane. The catch-all and the dead letters have an exchange of the same name in front of them.
    pub(super) fn queue(&self, lane: LaneId) -> ShortString {
        match lane {
            LaneId::Number(number) => format!("{}.lane.{number}", self.namespace),
            LaneId::Unroutable => format!("{}.unroutable", self.namespace),
            LaneId::Dead => format!("{}.dead", self.namespace),
        }
        .into()
    }

    /// What the queue of this name is called elsewhere: its lane, if it is one of ours.
    pub(super) fn lane_of(&self, queue: &str) -> String {
        let ours = queue.strip_prefix(&*self.namespace).and_then(|name| name.strip_prefix('.'));
        let lane = ours.map(|name| name.strip_prefix("lane.").unwrap_or(name));
        lane.unwrap_or(queue).to_owned()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = LaneId> + use<> {
        (0..self.lanes).map(LaneId::Number).chain([LaneId::Unroutable, LaneId::Dead])
    }

    /// Makes the lanes, the catch-all and the dead letters.
    async fn declare(&self, channel: &Channel) -> Result<(), Fault> {
        for lane in [LaneId::Dead, LaneId::Unroutable] {
            let name = self.queue(lane);
            let fanout =
                channel.exchange_declare(name, ExchangeKind::Fanout, durable_exchange(), FieldTable::default());
            in_time("declaring an exchange", fanout).await?;
        }
        for lane in self.all() {
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            let declared = channel.queue_declare(self.queue(lane), options, self.arguments(lane));
            in_time("declaring a queue", declared).await?;
        }
        for lane in [LaneId::Dead, LaneId::Unroutable] {
            bind(channel, self.queue(lane), self.queue(lane), "".into()).await?;
        }
        Ok(())
    }

    pub(super) fn arguments(&self, lane: LaneId) -> FieldTable {
        let mut arguments = vec![
            ("x-queue-type", text("quorum")),
            ("x-max-length", AMQPValue::LongLongInt(LANE_MESSAGES)),
            ("x-overflow", text("reject-publish")),
        ];
        if lane != LaneId::Dead {
            arguments.extend([
                // The order within a lane, and the meaning of a barrier, rest on this.
                ("x-single-active-consumer", AMQPValue::Boolean(true)),
                ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
                ("x-dead-letter-exchange", AMQPValue::LongString(self.queue(LaneId::Dead).as_str().into())),
                // The default may lose the message on its way.
                ("x-dead-letter-strategy", text("at-least-once")),
            ]);
        }
        table(arguments)
    }

    async fn open(&self, channel: &Channel, scope: Scope) -> Result<(), Fault> {
        let exchange = self.exchange(scope);
        let catch_all = AMQPValue::LongString(self.queue(LaneId::Unroutable).as_str().into());
        let arguments = table(vec![("alternate-exchange", catch_all)]);
        let declared = channel.exchange_declare(exchange.clone(), ExchangeKind::Direct, durable_exchange(), arguments);
        in_time("declaring an exchange", declared).await?;
        for number in 0..self.lanes {
            let queue = self.queue(LaneId::Number(number));
            bind(channel, queue, exchange.clone(), number.to_string().into()).await?;
        }
        Ok(())
    }
}

fn durable_exchange() -> ExchangeDeclareOptions {
    ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() }
}

async fn bind(channel: &Channel, queue: ShortString, exchange: ShortString, key: ShortString) -> Result<(), Fault> {
    let bound = channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default());
    in_time("binding a queue", bound).await
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn table(entries: Vec<(&str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

/// Puts one message straight into a queue, confirmed. For a channel on which nothing else is published.
pub(super) async fn put(channel: &Channel, queue: ShortString, body: &[u8], headers: FieldTable) -> Result<(), Fault> {
    in_time("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = persistent().with_headers(headers);
    let confirmed = async { channel.basic_publish("".into(), queue.clone(), options, body, properties).await?.await };
    match in_time("publishing", confirmed).await? {
        // The only message in flight, so a returned message is this one.
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Err(Fault(format!("there is no queue {queue}"))),
        Confirmation::Nack(None) => Err(Fault(format!("the broker refused a message for {queue}: is it full?"))),
        Confirmation::NotRequested => Err(Fault("the channel confirms nothing".to_owned())),
    }
}

/// The header with a message's [`Traces`](crate::queue::traces::Traces).
pub(super) const TRACES: &str = "traces";

/// The properties that every message has: kept on disk, a text.
pub(super) fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2).with_content_type("text/plain".into())
}

/// Did the broker say that a queue or an exchange is not there?
pub(super) fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == NOT_FOUND)
}

/// [`Topology`] at a broker.
#[derive(Debug, Clone)]
pub(super) struct Declarations {
    pub(super) names: Names,
    /// The most lanes that this process has heard of; as many as it has itself, or more.
    pub(super) widest: Arc<AtomicU16>,
    /// For what is only asked and declared.
    pub(super) consuming: Arc<Link>,
    /// For barriers and replays, which are messages.
    pub(super) publishing: Arc<Link>,
}

impl Declarations {
    /// The names, with every lane that there may be.
    fn wide(&self) -> Names {
        Names { lanes: self.lanes(), ..self.names.clone() }
    }
}

#[async_trait]
impl Topology for Declarations {
    async fn declare(&self) -> Result<(), Fault> {
        let _user = self.consuming.in_use();
        let mut attempt = 1;
        loop {
            let declared = async { self.wide().declare(&self.consuming.channel().await?).await };
            match declared.await {
                Ok(()) => return Ok(()),
                Err(fault) if attempt >= DECLARE_ATTEMPTS => return Err(fault),
                Err(fault) => tracing::info!(%fault, attempt, "declaring again"),
            }
            attempt += 1;
            tokio::time::sleep(DECLARE_PAUSE.mul_f64(0.5 + fastrand::f64())).await;
        }
    }

    async fn open(&self, scope: Scope) -> Result<(), Fault> {
        let _user = self.consuming.in_use();
        self.wide().open(&self.consuming.channel().await?, scope).await
    }

    async fn close(&self, scope: Scope) -> Result<(), Fault> {
        let _user = self.consuming.in_use();
        let channel = self.consuming.channel().await?;
        // The broker says yes to an exchange that is not there.
        let deleted = channel.exchange_delete(self.names.exchange(scope), ExchangeDeleteOptions::default());
        in_time("deleting an exchange", deleted).await
    }

    async fn is_open(&self, scope: Scope) -> Result<bool, Fault> {
        let _user = self.consuming.in_use();
        let channel = self.consuming.channel().await?;
        let passive = ExchangeDeclareOptions { passive: true, ..durable_exchange() };
        let exchange = self.names.exchange(scope);
        let asked = channel.exchange_declare(exchange, ExchangeKind::Direct, passive, FieldTable::default());
        let found = async {
            match asked.await {
                Err(error) if is_not_found(&error) => Ok(false),
                answer => answer.map(|()| true),
            }
        };
        in_time("asking for an exchange", found).await
    }

    async fn put(&self, body: Vec<u8>) -> Result<(), Fault> {
        let _user = self.publishing.in_use();
        let channel = self.publishing.channel().await?;
        put(&channel, self.names.queue(LaneId::Number(0)), &body, FieldTable::default()).await
    }

    async fn barrier(&self, scope: Scope) -> Result<(), Fault> {
        let _user = self.publishing.in_use();
        let channel = self.publishing.channel().await?;
        for lane in self.barriers() {
            let barrier = Envelope::barrier(scope, lane);
            // Past the scope's exchange, which is closed when barriers are sent.
            let queue = self.names.queue(if lane == CATCH_ALL { LaneId::Unroutable } else { LaneId::Number(lane) });
            put(&channel, queue, &barrier.encode(), FieldTable::default()).await?;
        }
        Ok(())
    }

    fn barriers(&self) -> Vec<u16> {
        (0..self.lanes()).chain([CATCH_ALL]).collect()
    }

    async fn depths(&self) -> Result<Vec<LaneDepth>, Fault> {
        let _user = self.consuming.in_use();
        let channel = self.consuming.channel().await?;
        let mut depths = Vec::new();
        for lane in self.wide().all() {
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let asked = channel.queue_declare(self.names.queue(lane), options, FieldTable::default());
            let queue = in_time("asking for a queue's depth", asked).await?;
            let (messages, consumers) = (queue.message_count().into(), queue.consumer_count().into());
            depths.push(LaneDepth { lane, messages, consumers });
        }
        Ok(depths)
    }

    fn lanes(&self) -> u16 {
        self.widest.load(Ordering::Relaxed)
    }

    fn widen(&self, lanes: u16) {
        self.widest.fetch_max(lanes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Epoch, Partition};

    #[test]
    fn names_carry_namespace_partition_and_epoch() {
        let names = Names { namespace: "rushgate".into(), lanes: 2 };
        let scope = Scope { partition: Partition(3), epoch: Epoch(7) };
        assert_eq!(names.exchange(scope).as_str(), "rushgate.orders.p3.e7");
        let queues: Vec<_> = names.all().map(|lane| names.queue(lane).to_string()).collect();
        assert_eq!(queues, ["rushgate.lane.0", "rushgate.lane.1", "rushgate.unroutable", "rushgate.dead"]);
    }

    #[test]
    fn a_queue_is_called_as_its_lane_is() {
        let names = Names { namespace: "rushgate".into(), lanes: 2 };
        for lane in names.all() {
            assert_eq!(names.lane_of(names.queue(lane).as_str()), lane.to_string());
        }
        assert_eq!(names.lane_of("rushgate-other.lane.0"), "rushgate-other.lane.0");
    }

    #[test]
    fn the_longest_names_fit() {
        let names = Names { namespace: "n".repeat(MAX_NAMESPACE).into(), lanes: u16::MAX };
        names.exchange(Scope { partition: Partition(u16::MAX), epoch: Epoch(u64::MAX) });
        names.queue(LaneId::Number(u16::MAX));
    }
}
