//! The weather between nodes and backends: what becomes of each call, and what befalls whom at which time. All of it from the seed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rushgate::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;

use crate::trace::Trace;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Backend {
    Inventory,
    Queue,
    Store,
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    /// It takes long, but not too long.
    Slow,
    /// It is refused at once; nothing was done.
    Refused,
    /// It never arrives, and the caller waits until its patience ends.
    Lost,
    /// It is done, and the connection breaks before the answer comes.
    Reset,
    /// It is done, and the caller waits for the answer until its patience ends.
    ReplyLost,
    /// The caller's patience ends, and after that it is done.
    Late,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    NotDone,
    Unknown,
}

/// The weather of a run.
#[derive(Debug)]
pub(crate) struct Sky {
    pub(crate) trace: Trace,
    /// Out of how many calls one has a fate of its own, per backend; 0: none.
    odds: [u32; 3],
    /// All is well from now on.
    calm: AtomicBool,
    /// Who cannot reach what; no node: nobody can.
    cut: Mutex<BTreeSet<(Option<usize>, Backend)>>,
    /// What is under way when its sender has lost patience.
    pub(crate) wire: Shutdown,
}

/// A node as long as it lives. One that comes back is another.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) node: usize,
    pub(crate) died: CancellationToken,
}

/// A node's way to a backend. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) sky: Arc<Sky>,
    life: Arc<Life>,
    backend: Backend,
    /// How long the caller waits.
    pub(crate) patience: Duration,
}

impl Sky {
    pub(crate) fn from_seed(recording: bool) -> Self {
        let odds = || [0, 100, 30, 12][fastrand::usize(..4)];
        Self {
            trace: Trace::new(recording),
            odds: [odds(), odds(), odds()],
            calm: AtomicBool::new(false),
            cut: Mutex::default(),
            wire: Shutdown::new(),
        }
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::SeqCst)
    }

    pub(crate) fn calm_down(&self) {
        self.calm.store(true, Ordering::SeqCst);
        self.cuts(BTreeSet::clear);
    }

    pub(crate) fn cuts<T>(&self, change: impl FnOnce(&mut BTreeSet<(Option<usize>, Backend)>) -> T) -> T {
        change(&mut self.cut.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Short, and often none at all.
    pub(crate) async fn latency(&self) {
        let millis = fastrand::u64(0..8).saturating_sub(4);
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    /// One in so many, as long as the weather lasts.
    pub(crate) fn strikes(&self, backend: Backend) -> bool {
        let odds = self.odds[backend as usize];
        !self.is_calm() && odds > 0 && fastrand::u32(0..odds) == 0
    }
}

impl Line {
    pub(crate) fn new(sky: &Arc<Sky>, life: &Arc<Life>, backend: Backend, patience: Duration) -> Self {
        Self { sky: Arc::clone(sky), life: Arc::clone(life), backend, patience }
    }

    /// Asks the backend something: `act` is what the backend does, when the request comes there.
    pub(crate) async fn call<T, F>(
        &self,
        what: &'static str,
        act: impl FnOnce() -> F + Send + 'static,
    ) -> Result<T, Cut>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        if self.life.died.is_cancelled() {
            return std::future::pending().await;
        }
        let fate = self.fate();
        if fate != Fate::Good {
            self.sky.trace.note(|| format!("node {} {what}: {fate:?}", self.life.node));
        }
        match fate {
            Fate::Good | Fate::Slow => {
                if fate == Fate::Slow {
                    tokio::time::sleep(self.patience.mul_f64(0.2 + 0.7 * fastrand::f64())).await;
                } else {
                    self.sky.latency().await;
                }
                Ok(act().await)
            }
            Fate::Refused => Err(Cut::NotDone),
            Fate::Lost => self.lose_patience().await,
            Fate::Reset | Fate::ReplyLost => {
                self.sky.latency().await;
                act().await;
                if fate == Fate::ReplyLost {
                    return self.lose_patience().await;
                }
                Err(Cut::Unknown)
            }
            Fate::Late => {
                let late = self.patience + Duration::from_millis(fastrand::u64(0..1500));
                self.sky.wire.spawn(async move {
                    tokio::time::sleep(late).await;
                    act().await;
                });
                self.lose_patience().await
            }
        }
    }

    async fn lose_patience<T>(&self) -> Result<T, Cut> {
        tokio::time::sleep(self.patience).await;
        Err(Cut::Unknown)
    }

    /// Is there no way to the backend at this moment?
    pub(crate) fn is_cut(&self) -> bool {
        self.sky.cuts(|cut| cut.contains(&(None, self.backend)) || cut.contains(&(Some(self.life.node), self.backend)))
    }

    pub(crate) fn strikes(&self) -> bool {
        self.sky.strikes(self.backend)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.life.died.is_cancelled()
    }

    fn fate(&self) -> Fate {
        if self.is_cut() {
            return if fastrand::bool() { Fate::Refused } else { Fate::Lost };
        }
        if !self.strikes() {
            return Fate::Good;
        }
        [Fate::Slow, Fate::Slow, Fate::Refused, Fate::Lost, Fate::Reset, Fate::ReplyLost, Fate::Late]
            [fastrand::usize(..7)]
    }
}

/// What befalls somebody at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The node dies, and comes back after this time.
    Crash { node: usize, back: Duration },
    /// The node does not reach a backend, or nobody does.
    Cut { node: Option<usize>, backend: Backend, time: Duration },
    /// The inventory dies with all that it remembers, but for so much of a thousandth of its moves.
    Restart { away: Duration, keeps: u32 },
    /// The inventory's own check fails.
    Fence,
    /// Every lane is taken from who has it.
    DropLanes,
    /// A node's wall clock jumps; the store's for `None`.
    Jump { node: Option<usize>, millis: i64 },
}

/// When what happens, for a run of this length with so many nodes.
pub(crate) fn plan(nodes: usize, length: Duration) -> Vec<(Duration, Event)> {
    let mut plan = Vec::new();
    let millis = |range: std::ops::Range<u64>| Duration::from_millis(fastrand::u64(range));
    for _ in 0..fastrand::usize(1..7) {
        let at = length.mul_f64(fastrand::f64());
        let node = fastrand::usize(..nodes);
        let some = |node| fastrand::bool().then_some(node);
        match fastrand::u32(0..12) {
            0..3 => plan.push((at, Event::Crash { node, back: millis(0..3000) })),
            3..6 => {
                let backend = [Backend::Inventory, Backend::Queue, Backend::Store][fastrand::usize(..3)];
                plan.push((at, Event::Cut { node: some(node), backend, time: millis(100..4000) }));
            }
            6..8 => plan.push((at, restart())),
            8 => plan.push((at, Event::Fence)),
            9 => plan.push((at, Event::DropLanes)),
            10 => plan.push((at, Event::Jump { node: some(node), millis: fastrand::i64(-3000..3000) })),
            // A power cut takes several at once, but neither the store nor the queue, which are replicated.
            _ => {
                let dies = (0..nodes).filter(|_| fastrand::u32(0..3) > 0);
                plan.extend(dies.map(|node| (at, Event::Crash { node, back: millis(0..2000) })));
                plan.push((at, restart()));
            }
        }
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

fn restart() -> Event {
    let keeps = if fastrand::bool() { 0 } else { fastrand::u32(300..1000) };
    Event::Restart { away: Duration::from_millis(fastrand::u64(0..1500)), keeps }
}
