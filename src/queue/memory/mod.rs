//! The queue inside one process, for the embedded gateway and for tests.
//!
//! It keeps the contract as the broker does: lanes are bounded and have one consumer at a time, the others wait in line; what a
//! dropped lane had not acknowledged goes back to the front; a scope that is not open confirms nothing. It does not outlive the
//! process; so what must survive a crash is confirmed only when the writer has stored it (see [`ConfirmWhen`]).

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::config::settings;
use crate::domain::Scope;
use crate::meters::{Histogram, Meters};
use crate::queue::envelope::Envelope;
use crate::queue::traces::Traces;
use crate::queue::{Fault, LaneDepth, LaneId, Parked, Publisher, Queue, Strain, Topology, Unconfirmed};

mod lane;

/// Messages of a lane, waiting or delivered, at most. A message is a batch of orders of some 20 KB at the very most.
const LANE_MESSAGES: usize = 4096;

/// What a confirm means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfirmWhen {
    /// The message is in a lane, as a broker would have it on disk; but this queue has none, and a crash loses it.
    Queued,
    /// Its consumer has acknowledged it, and so stored it: a crash loses nothing that was confirmed.
    Stored,
}

/// An in-process queue.
pub fn open(settings: &settings::Queue, meters: &Meters, confirm: ConfirmWhen) -> Queue {
    bounded(settings, meters, (confirm, LANE_MESSAGES))
}

/// An in-process queue whose lanes hold at most so many messages each.
pub fn bounded(settings: &settings::Queue, meters: &Meters, (confirm, lane_messages): (ConfirmWhen, usize)) -> Queue {
    let memory = Arc::new(Memory {
        state: Mutex::new(State {
            scopes: HashSet::new(),
            lanes: (0..settings.lanes.max(1)).map(|_| Line::default()).collect(),
            dead: Line::default(),
            turn: 0,
            takings: 0,
        }),
        room: Notify::new(),
        confirm,
        lane_messages,
        confirm_timeout: settings.confirm_timeout,
        confirms: meters.histogram("rushgate_publish_confirm_duration_seconds", &[]),
    });
    let shared = Shared(memory);
    Queue { publisher: Arc::new(shared.clone()), consumer: Arc::new(shared.clone()), topology: Arc::new(shared) }
}

#[derive(Debug, Clone)]
struct Shared(Arc<Memory>);

struct Memory {
    state: Mutex<State>,
    /// Somewhere a lane has room again.
    room: Notify,
    confirm: ConfirmWhen,
    lane_messages: usize,
    confirm_timeout: Duration,
    confirms: Histogram,
}

struct State {
    scopes: HashSet<Scope>,
    lanes: Vec<Line>,
    /// What was parked.
    dead: Line,
    /// The lane that is next in the round.
    turn: usize,
    takings: u64,
}

/// One lane: its messages and those who wait for them.
#[derive(Default)]
struct Line {
    ready: VecDeque<Message>,
    /// Delivered to the first in line, by the number of the delivery.
    delivered: BTreeMap<u64, Message>,
    /// The consumers; the first of them is served.
    consumers: VecDeque<u64>,
    changed: Arc<Notify>,
}

struct Message {
    body: Vec<u8>,
    traces: Traces,
    redelivered: bool,
    parked: Option<Parked>,
    /// Told when the message is acknowledged; dropped untold when it is parked.
    stored: Option<oneshot::Sender<()>>,
    /// Since when its confirm is outstanding, where that waits for the acknowledgement.
    unconfirmed: Option<Instant>,
}

impl Message {
    fn new(body: Vec<u8>) -> Self {
        Self { body, traces: Traces::default(), redelivered: false, parked: None, stored: None, unconfirmed: None }
    }
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and the state is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full(&self) -> String {
        format!("all lanes are full, {} messages each", self.lane_messages)
    }

    /// Puts a message into the next lane that has room. Returns a wait for its acknowledgement.
    fn push(&self, scope: Scope, (body, traces): (&[u8], &Traces)) -> Result<oneshot::Receiver<()>, Refused> {
        let mut state = self.state();
        if !state.scopes.contains(&scope) {
            return Err(Refused::Closed);
        }
        let lanes = state.lanes.len();
        let first = state.turn;
        let index = (0..lanes)
            .map(|step| (first + step) % lanes)
            .find(|&index| state.lanes[index].len() < self.lane_messages)
            .ok_or(Refused::Full)?;
        state.turn = (index + 1) % lanes;
        let (stored, wait) = oneshot::channel();
        let unconfirmed = (self.confirm == ConfirmWhen::Stored).then(Instant::now);
        let (traces, stored) = (traces.clone(), Some(stored));
        state.lanes[index].push(Message { traces, stored, unconfirmed, ..Message::new(body.to_vec()) });
        Ok(wait)
    }
}

enum Refused {
    Closed,
    Full,
}

impl State {
    /// `None` for the unroutable ones: every lane is always bound here, so nothing is ever unroutable, and that lane stays empty.
    fn line(&mut self, lane: LaneId) -> Option<&mut Line> {
        match lane {
            LaneId::Number(number) => self.lanes.get_mut(usize::from(number)),
            LaneId::Unroutable => None,
            LaneId::Dead => Some(&mut self.dead),
        }
    }
}

impl Line {
    fn len(&self) -> usize {
        self.ready.len() + self.delivered.len()
    }

    fn push(&mut self, message: Message) {
        self.ready.push_back(message);
        self.changed.notify_waiters();
    }

    /// Since when a confirm is outstanding; what was delivered is older than what was not.
    fn unconfirmed(&self) -> Option<Instant> {
        self.delivered.values().chain(&self.ready).find_map(|message| message.unconfirmed)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

#[async_trait]
impl Publisher for Shared {
    async fn publish(&self, envelope: Envelope) -> Result<(), Unconfirmed> {
        let memory = &*self.0;
        let began = Instant::now();
        let body = envelope.encode();
        let room = async {
            loop {
                // Listens before it looks, so that room made in between is not missed.
                let mut listening = std::pin::pin!(memory.room.notified());
                listening.as_mut().enable();
                match memory.push(envelope.scope, (&body, &envelope.traces)) {
                    Ok(stored) => return Ok(stored),
                    Err(Refused::Closed) => {
                        return Err(Unconfirmed::NotSent(format!("{} is not open", envelope.scope)));
                    }
                    Err(Refused::Full) => listening.await,
                }
            }
        };
        let deadline = began + memory.confirm_timeout;
        let stored = timeout_at(deadline, room).await.unwrap_or_else(|_| Err(Unconfirmed::NotSent(memory.full())))?;
        if memory.confirm == ConfirmWhen::Stored {
            match timeout_at(deadline, stored).await {
                Ok(Ok(())) => {}
                Ok(Err(_parked)) => return Err(Unconfirmed::Unknown("the message was parked".to_owned())),
                Err(_late) => return Err(Unconfirmed::Unknown("the message is not stored yet".to_owned())),
            }
        }
        memory.confirms.record(began.elapsed());
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn strain(&self) -> Strain {
        let state = self.0.state();
        let is_full = state.lanes.iter().all(|lane| lane.len() >= self.0.lane_messages);
        Strain {
            blocked: is_full.then(|| self.0.full()),
            oldest_unconfirmed: state.lanes.iter().filter_map(Line::unconfirmed).min().map(|since| since.elapsed()),
        }
    }
}

#[async_trait]
impl Topology for Shared {
    async fn declare(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn open(&self, scope: Scope) -> Result<(), Fault> {
        self.0.state().scopes.insert(scope);
        Ok(())
    }

    async fn close(&self, scope: Scope) -> Result<(), Fault> {
        self.0.state().scopes.remove(&scope);
        Ok(())
    }

    async fn is_open(&self, scope: Scope) -> Result<bool, Fault> {
        Ok(self.0.state().scopes.contains(&scope))
    }

    async fn put(&self, body: Vec<u8>) -> Result<(), Fault> {
        // Beyond the bound if need be, as barriers are.
        self.0.state().lanes[0].push(Message::new(body));
        Ok(())
    }

    async fn barrier(&self, scope: Scope) -> Result<(), Fault> {
        let mut state = self.0.state();
        for (lane, line) in (0..).zip(&mut state.lanes) {
            // Beyond the bound if need be: a recovery must not wait for room that its own writers make.
            line.push(Message::new(Envelope::barrier(scope, lane).encode()));
        }
        Ok(())
    }

    async fn depths(&self) -> Result<Vec<LaneDepth>, Fault> {
        let depth = |lane, messages: usize, consumers: usize| LaneDepth {
            lane,
            messages: messages.try_into().unwrap_or(u64::MAX),
            consumers: consumers.try_into().unwrap_or(u64::MAX),
        };
        let state = self.0.state();
        let numbered = (0..).zip(&state.lanes);
        let mut depths: Vec<_> = numbered
            .map(|(number, line)| depth(LaneId::Number(number), line.ready.len(), line.consumers.len()))
            .collect();
        let dead = depth(LaneId::Dead, state.dead.ready.len(), state.dead.consumers.len());
        depths.extend([depth(LaneId::Unroutable, 0, 0), dead]);
        Ok(depths)
    }

    /// What another process put into other lanes ended with it.
    fn widen(&self, _: u16) {}

    fn lanes(&self) -> u16 {
        u16::try_from(self.0.state().lanes.len()).unwrap_or(u16::MAX)
    }
}
