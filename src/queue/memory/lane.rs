//! A place in the line of a lane.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{Line, Memory, Message, Shared, State};
use crate::queue::tags::Taking;
use crate::queue::{Consumer, Delivery, Fault, Lane, LaneId, Parked};

#[async_trait]
impl Consumer for Shared {
    async fn consume(&self, lane: LaneId) -> Result<Box<dyn Lane>, Fault> {
        let mut state = self.0.state();
        state.takings += 1;
        let consumer = state.takings;
        let changed = match state.line(lane) {
            Some(found) => {
                found.consumers.push_back(consumer);
                Arc::clone(&found.changed)
            }
            None if lane == LaneId::Unroutable => Arc::default(),
            None => return Err(Fault(format!("there is no lane {lane}"))),
        };
        Ok(Box::new(Taken {
            memory: Arc::clone(&self.0),
            lane,
            consumer,
            taking: Taking::new(),
            delivered: 0,
            changed,
        }))
    }
}

/// A place in the line of a lane.
#[derive(Debug)]
struct Taken {
    memory: Arc<Memory>,
    lane: LaneId,
    consumer: u64,
    taking: Taking,
    /// The number of the last delivery.
    delivered: u64,
    changed: Arc<Notify>,
}

impl Taken {
    /// The lane's next message, if it is this consumer's turn and there is one.
    fn take(&mut self) -> Option<Delivery> {
        let mut state = self.memory.state();
        let line = state.line(self.lane)?;
        if line.consumers.front() != Some(&self.consumer) {
            return None;
        }
        let message = line.ready.pop_front()?;
        self.delivered += 1;
        let tag = self.taking.tag(self.delivered);
        let delivery = Delivery {
            tag,
            body: message.body.clone(),
            traces: message.traces.clone(),
            redelivered: message.redelivered,
            parked: message.parked.clone(),
        };
        line.delivered.insert(self.delivered, message);
        Some(delivery)
    }

    /// Takes what was delivered out of the lane: `remove` gets it with the number of the delivery.
    fn settle<T>(
        &self,
        delivery: &Delivery,
        remove: impl FnOnce(&mut State, u64) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let number = self.taking.number(delivery.tag)?;
        let mut state = self.memory.state();
        let settled = remove(&mut state, number);
        drop(state);
        self.memory.room.notify_waiters();
        settled
    }
}

#[async_trait]
impl Lane for Taken {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        let changed = Arc::clone(&self.changed);
        loop {
            let mut listening = std::pin::pin!(changed.notified());
            listening.as_mut().enable();
            if let Some(delivery) = self.take() {
                return Ok(delivery);
            }
            listening.await;
        }
    }

    async fn ack(&mut self, up_to: &Delivery) -> Result<(), Fault> {
        self.settle(up_to, |state, number| {
            let Some(Line { delivered, .. }) = state.line(self.lane) else { return Ok(()) };
            let later = delivered.split_off(&(number + 1));
            for message in std::mem::replace(delivered, later).into_values() {
                // Nobody waits where a confirm means less, or where the wait was too long.
                message.stored.map(|stored| stored.send(()));
            }
            Ok(())
        })
    }

    async fn park(&mut self, delivery: &Delivery, reason: &str) -> Result<(), Fault> {
        if self.lane == LaneId::Dead {
            return Err(Fault("a dead letter is parked already".to_owned()));
        }
        let most = self.memory.lane_messages;
        self.settle(delivery, |state, number| {
            if state.dead.len() >= most {
                return Err(Fault(format!("there are {most} dead letters, and no room for more")));
            }
            let message = state.line(self.lane).and_then(|line| line.delivered.remove(&number));
            let message = message.ok_or_else(|| Fault("the message was acknowledged before".to_owned()))?;
            let parked = Parked { lane: self.lane.to_string(), reason: reason.to_owned() };
            state.dead.push(Message { parked: Some(parked), ..Message::new(message.body) });
            tracing::warn!(lane = %self.lane, reason, dead = state.dead.len(), "a message was parked");
            Ok(())
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut state = self.memory.state();
        let Some(line) = state.line(self.lane) else { return };
        if line.consumers.front() == Some(&self.consumer) {
            // Only the first in line was served, so all that is delivered was delivered to it.
            for (_, message) in std::mem::take(&mut line.delivered).into_iter().rev() {
                line.ready.push_front(Message { redelivered: true, ..message });
            }
        }
        line.consumers.retain(|consumer| *consumer != self.consumer);
        line.changed.notify_waiters();
    }
}
