//! Lanes: one channel each, so that the end of one is not the end of another, and a tag of one means nothing to the next.

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::queue::rabbitmq::session::{CALL_TIMEOUT, in_time};
use crate::queue::rabbitmq::topology::{Declarations, TRACES, is_not_found, put};
use crate::queue::tags::Taking;
use crate::queue::traces::Traces;
use crate::queue::{Consumer, Delivery, Fault, Lane, LaneId, Parked, Topology};
use crate::shutdown::Shutdown;

/// Messages that the broker sends ahead of their acknowledgement; more than a writer's batch takes.
const PREFETCH: u16 = 64;
/// Of dead letters one: each that is sent ahead counts as delivered when its consumer dies, and a broker has a limit for that.
const PREFETCH_DEAD: u16 = 1;
/// The headers of a dead letter: those that a writer sets, and those of the broker, for what it moved itself.
const REASON: &str = "reason";
const LANE: &str = "lane";
const BROKER_REASON: &str = "x-first-death-reason";
const BROKER_QUEUE: &str = "x-first-death-queue";

/// [`Consumer`] at a broker.
#[derive(Debug)]
pub(super) struct BrokerConsumer {
    topology: Declarations,
    shutdown: Shutdown,
}

impl BrokerConsumer {
    pub(super) fn new(topology: Declarations, shutdown: &Shutdown) -> Self {
        Self { topology, shutdown: shutdown.clone() }
    }

    async fn subscribe(&self, channel: &Channel, lane: LaneId) -> lapin::Result<lapin::Consumer> {
        let queue = self.topology.names.queue(lane);
        let prefetch = if lane == LaneId::Dead { PREFETCH_DEAD } else { PREFETCH };
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), FieldTable::default()).await
    }
}

#[async_trait]
impl Consumer for BrokerConsumer {
    async fn consume(&self, lane: LaneId) -> Result<Box<dyn Lane>, Fault> {
        if let LaneId::Number(number) = lane
            && number >= self.topology.lanes()
        {
            return Err(Fault(format!("there is no lane {lane}")));
        }
        let user = self.topology.consuming.in_use();
        let mut declared = false;
        loop {
            let channel = self.topology.consuming.channel().await?;
            match timeout(CALL_TIMEOUT, self.subscribe(&channel, lane)).await {
                Ok(Ok(deliveries)) => {
                    return Ok(Box::new(BrokerLane {
                        lane,
                        topology: self.topology.clone(),
                        shutdown: self.shutdown.clone(),
                        taking: Taking::new(),
                        outstanding: BTreeSet::new(),
                        parking: None,
                        open: Some(Open { channel, deliveries, user }),
                    }));
                }
                // A broker that is new, or has lost everything.
                Ok(Err(error)) if is_not_found(&error) && !declared => {
                    self.topology.declare().await?;
                    declared = true;
                }
                Ok(Err(error)) => return Err(Fault(format!("taking lane {lane}: {error}"))),
                Err(_) => return Err(Fault(format!("taking lane {lane}: no answer within {CALL_TIMEOUT:?}"))),
            }
        }
    }
}

/// A header that is a text.
fn text(headers: Option<&FieldTable>, name: &str) -> Option<String> {
    match headers?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        _ => None,
    }
}

struct BrokerLane {
    lane: LaneId,
    topology: Declarations,
    shutdown: Shutdown,
    taking: Taking,
    /// Delivered and not acknowledged. The broker ends the channel when it is told of a delivery that it does not know.
    outstanding: BTreeSet<u64>,
    /// For dead letters.
    parking: Option<Channel>,
    /// Until it is dropped.
    open: Option<Open>,
}

struct Open {
    channel: Channel,
    deliveries: lapin::Consumer,
    user: TaskTrackerToken,
}

impl BrokerLane {
    fn open(&mut self) -> &mut Open {
        self.open.as_mut().expect("a lane is open until it is dropped")
    }

    fn parked(&self, headers: Option<&FieldTable>) -> Parked {
        let text = |name| text(headers, name);
        let lane = text(LANE).or_else(|| Some(self.topology.names.lane_of(&text(BROKER_QUEUE)?)));
        let reason = text(REASON).or_else(|| Some(format!("the broker moved it: {}", text(BROKER_REASON)?)));
        let unknown = || Parked::UNKNOWN.to_owned();
        Parked { lane: lane.unwrap_or_else(unknown), reason: reason.unwrap_or_else(unknown) }
    }

    async fn acknowledge(&mut self, number: u64, multiple: bool) -> Result<(), Fault> {
        let channel = &self.open().channel;
        in_time("acknowledging", channel.basic_ack(number, BasicAckOptions { multiple })).await
    }
}

#[async_trait]
impl Lane for BrokerLane {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        match self.open().deliveries.next().await {
            Some(Ok(delivery)) => {
                self.outstanding.insert(delivery.delivery_tag);
                let tag = self.taking.tag(delivery.delivery_tag);
                let headers = delivery.properties.headers().as_ref();
                let parked = (self.lane == LaneId::Dead).then(|| self.parked(headers));
                let traces = text(headers, TRACES).map(|traces| Traces::decode(&traces)).unwrap_or_default();
                Ok(Delivery { tag, body: delivery.data, redelivered: delivery.redelivered, traces, parked })
            }
            Some(Err(error)) => Err(Fault(format!("lane {}: {error}", self.lane))),
            None => Err(Fault(format!("lane {}: the broker ended it", self.lane))),
        }
    }

    async fn ack(&mut self, up_to: &Delivery) -> Result<(), Fault> {
        let number = self.taking.number(up_to.tag)?;
        // The last of them may have been parked.
        let Some(&last) = self.outstanding.range(..=number).next_back() else { return Ok(()) };
        self.acknowledge(last, true).await?;
        self.outstanding = self.outstanding.split_off(&(last + 1));
        Ok(())
    }

    async fn park(&mut self, delivery: &Delivery, reason: &str) -> Result<(), Fault> {
        if self.lane == LaneId::Dead {
            return Err(Fault("a dead letter is parked already".to_owned()));
        }
        let number = self.taking.number(delivery.tag)?;
        if !self.outstanding.contains(&number) {
            return Err(Fault("the message was acknowledged before".to_owned()));
        }
        let parking = match self.parking.take() {
            Some(channel) => channel,
            None => self.topology.publishing.channel().await?,
        };
        let mut headers = FieldTable::default();
        headers.insert(REASON.into(), AMQPValue::LongString(reason.into()));
        headers.insert(LANE.into(), AMQPValue::LongString(self.lane.to_string().into()));
        // An error drops the channel, and the message stays in the lane.
        put(&parking, self.topology.names.queue(LaneId::Dead), &delivery.body, headers).await?;
        self.parking = Some(parking);
        tracing::warn!(lane = %self.lane, reason, "a message was parked");
        self.acknowledge(number, false).await?;
        self.outstanding.remove(&number);
        Ok(())
    }
}

impl Drop for BrokerLane {
    fn drop(&mut self) {
        // Left to lapin, the cancelling of the consumer and the closing of the channel race each other, and the loser ends the
        // whole connection.
        if let Some(Open { channel, deliveries, user }) = self.open.take()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            self.shutdown.spawn(async move {
                let _ = in_time("closing a lane", channel.close(200, "OK".into())).await;
                drop((deliveries, user));
            });
        }
    }
}

impl fmt::Debug for BrokerLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerLane").field("lane", &self.lane).finish_non_exhaustive()
    }
}
