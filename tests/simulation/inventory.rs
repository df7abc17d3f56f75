//! The inventory as a server that can die: it comes back as another, empty or with an older copy of what it knew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use rushgate::bugs::{self, Bug};
use rushgate::clock::Clock;
use rushgate::domain::{BuyerId, Claim, NodeId, OrderId, OutboxId, Partition, Sale, SaleId, Scope, UnixMillis};
use rushgate::inventory::memory::MemoryInventory;
use rushgate::inventory::{
    Changes, Confirmed, Defined, Fault, Inventory, KnownOrder, LegStock, NodeBeat, OutboxEntry, Revived, Snapshot,
    StockMove,
};
use tokio::time::Instant;

use crate::checker::Watcher;
use crate::faults::{Cut, Line};

/// The inventory's process, and its disk.
#[derive(Debug)]
pub(crate) struct Server {
    clock: Arc<ServerClock>,
    watcher: Arc<Watcher>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    memory: Arc<MemoryInventory>,
    run: u32,
    /// In which run a scope was opened: another run must not sell from it.
    opened_in: BTreeMap<Scope, u32>,
    /// Every move, so that an older copy can be made.
    log: Vec<(UnixMillis, Move)>,
}

#[derive(Debug, Clone)]
enum Move {
    Confirm(Scope, Vec<Claim>, UnixMillis),
    Apply(Scope, Vec<StockMove>),
    Revive(Scope, OrderId),
    Define(Scope, Sale),
    OutboxRemove(Scope, Vec<OutboxId>),
    Rebuild(Scope, Snapshot),
    /// And the run in which it was opened.
    Open(Scope, u32),
    Fence(Scope),
}

/// The server's time, or, while moves are made again, theirs.
#[derive(Debug)]
struct ServerClock {
    real: Arc<dyn Clock>,
    fixed: Mutex<Option<UnixMillis>>,
}

impl ServerClock {
    fn fix(&self, at: Option<UnixMillis>) {
        *self.fixed.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

impl Clock for ServerClock {
    fn now(&self) -> UnixMillis {
        let fixed = *self.fixed.lock().unwrap_or_else(PoisonError::into_inner);
        fixed.unwrap_or_else(|| self.real.now())
    }
}

/// The embedded inventory never waits.
fn at_once<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("the inventory in memory never waits")
}

impl Server {
    pub(crate) fn new(real: Arc<dyn Clock>, watcher: Arc<Watcher>) -> Self {
        let clock = Arc::new(ServerClock { real, fixed: Mutex::default() });
        let memory = Arc::new(MemoryInventory::new(Arc::clone(&clock) as Arc<dyn Clock>));
        let state = State { memory, run: 1, opened_in: BTreeMap::new(), log: Vec::new() };
        Self { clock, watcher, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process dies and comes back with the first so many thousandths of its moves.
    pub(crate) fn restart(&self, keeps: u32) {
        let mut state = self.state();
        let kept = state.log.len() * keeps as usize / 1000;
        state.log.truncate(kept);
        state.run += 1;
        state.opened_in.clear();
        state.memory = Arc::new(MemoryInventory::new(Arc::clone(&self.clock) as Arc<dyn Clock>));
        for (at, made) in state.log.clone() {
            self.clock.fix(Some(at));
            // It was made once, and is made again in the same state.
            make(&mut state, &made).expect("a move that was made");
        }
        self.clock.fix(None);
    }

    /// Its own check fails: it closes whatever is open.
    pub(crate) fn fence_all(&self) {
        let scopes: Vec<_> = self.state().opened_in.keys().copied().collect();
        for scope in scopes {
            self.change(Move::Fence(scope)).map(drop).expect("a fence is always made");
        }
    }

    /// Looks into a scope.
    fn within<T>(&self, scope: Scope, look: impl FnOnce(&MemoryInventory) -> Result<T, Fault>) -> Result<T, Fault> {
        look(&*self.of_this_run(scope)?)
    }

    /// Makes a move in a scope of this run.
    fn move_within(&self, scope: Scope, made: Move) -> Result<Done, Fault> {
        self.of_this_run(scope)?;
        self.change(made)
    }

    /// What knows that a scope was opened in another run: its scripts, which are not loaded, and the run id that it was opened with.
    fn of_this_run(&self, scope: Scope) -> Result<Arc<MemoryInventory>, Fault> {
        let state = self.state();
        let opened_in = state.opened_in.get(&scope);
        let is_restart = opened_in.is_some_and(|run| *run != state.run) && !bugs::is_planted(Bug::NoRestartCheck);
        if opened_in.is_none() || is_restart {
            return Err(Fault::Fenced("the script is not loaded".to_owned()));
        }
        Ok(Arc::clone(&state.memory))
    }

    fn change(&self, made: Move) -> Result<Done, Fault> {
        let mut state = self.state();
        let done = make(&mut state, &made)?;
        let at = self.clock.now();
        state.log.push((at, made));
        let memory = Arc::clone(&state.memory);
        let open: Vec<_> = state.opened_in.keys().copied().collect();
        drop(state);
        for scope in open {
            self.watcher.inventory_changed(scope, &memory);
        }
        Ok(done)
    }

    /// What it holds, for the checker.
    pub(crate) fn raw(&self) -> Arc<MemoryInventory> {
        Arc::clone(&self.state().memory)
    }
}

/// What came of a move.
enum Done {
    Confirmed(Confirmed),
    Defined(Defined),
    Revived(Revived),
    Nothing,
}

fn make(state: &mut State, made: &Move) -> Result<Done, Fault> {
    let memory = Arc::clone(&state.memory);
    match made {
        Move::Confirm(scope, claims, now) => return at_once(memory.confirm(*scope, claims, *now)).map(Done::Confirmed),
        Move::Define(scope, sale) => return at_once(memory.define(*scope, sale)).map(Done::Defined),
        Move::Revive(scope, order) => return at_once(memory.revive(*scope, *order)).map(Done::Revived),
        Move::Apply(scope, moves) => at_once(memory.apply(*scope, moves))?,
        Move::OutboxRemove(scope, entries) => at_once(memory.outbox_remove(*scope, entries))?,
        Move::Rebuild(scope, snapshot) => at_once(memory.rebuild(*scope, snapshot))?,
        Move::Open(scope, run) => {
            at_once(memory.open(*scope))?;
            state.opened_in.retain(|other, _| other.partition != scope.partition || other.epoch >= scope.epoch);
            state.opened_in.insert(*scope, *run);
        }
        Move::Fence(scope) => at_once(memory.fence(*scope))?,
    }
    Ok(Done::Nothing)
}

/// One node's way to the inventory.
#[derive(Debug)]
pub(crate) struct InventoryLine {
    server: Arc<Server>,
    line: Line,
}

impl InventoryLine {
    pub(crate) fn new(server: &Arc<Server>, line: Line) -> Self {
        Self { server: Arc::clone(server), line }
    }

    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        act: impl FnOnce(&Server) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let server = Arc::clone(&self.server);
        match self.line.call(what, move || async move { act(&server) }).await {
            Ok(result) => result,
            Err(Cut::NotDone) => Err(Fault::NotDone("refused".to_owned())),
            Err(Cut::Unknown) => Err(Fault::Unknown("no answer".to_owned())),
        }
    }
}

#[async_trait]
impl Inventory for InventoryLine {
    async fn confirm(&self, scope: Scope, claims: &[Claim], now: UnixMillis) -> Result<Confirmed, Fault> {
        let made = Move::Confirm(scope, claims.to_vec(), now);
        let (asked, patience) = (Instant::now(), self.line.patience);
        let ids: Vec<_> = claims.iter().map(|claim| claim.order.id).collect();
        self.call("confirm", move |server| {
            if asked.elapsed() > patience {
                server.watcher.ledger().came_late.extend(ids);
            }
            match server.move_within(scope, made)? {
                Done::Confirmed(confirmed) => Ok(confirmed),
                _ => Err(Fault::Unknown("another answer".to_owned())),
            }
        })
        .await
    }

    async fn apply(&self, scope: Scope, moves: &[StockMove]) -> Result<(), Fault> {
        let made = Move::Apply(scope, moves.to_vec());
        self.call("apply", move |server| server.move_within(scope, made).map(drop)).await
    }

    async fn revive(&self, scope: Scope, order: OrderId) -> Result<Revived, Fault> {
        let made = Move::Revive(scope, order);
        self.call("revive", move |server| match server.move_within(scope, made)? {
            Done::Revived(revived) => Ok(revived),
            _ => Err(Fault::Unknown("another answer".to_owned())),
        })
        .await
    }

    async fn changes(&self, scope: Scope, since: u64) -> Result<Changes, Fault> {
        self.call("changes", move |server| server.within(scope, |memory| at_once(memory.changes(scope, since)))).await
    }

    async fn define(&self, scope: Scope, sale: &Sale) -> Result<Defined, Fault> {
        let made = Move::Define(scope, sale.clone());
        self.call("define", move |server| match server.move_within(scope, made)? {
            Done::Defined(defined) => Ok(defined),
            _ => Err(Fault::Unknown("another answer".to_owned())),
        })
        .await
    }

    async fn stock(&self, scope: Scope, sale: &SaleId) -> Result<Vec<LegStock>, Fault> {
        let sale = sale.clone();
        self.call("stock", move |server| server.within(scope, |memory| at_once(memory.stock(scope, &sale)))).await
    }

    async fn order(&self, scope: Scope, id: OrderId) -> Result<Option<KnownOrder>, Fault> {
        self.call("order", move |server| server.within(scope, |memory| at_once(memory.order(scope, id)))).await
    }

    async fn orders_of(&self, scope: Scope, sale: &SaleId, buyer: &BuyerId) -> Result<Vec<KnownOrder>, Fault> {
        let (sale, buyer) = (sale.clone(), buyer.clone());
        let asked =
            move |server: &Server| server.within(scope, |memory| at_once(memory.orders_of(scope, &sale, &buyer)));
        self.call("orders_of", asked).await
    }

    async fn orders(&self, scope: Scope, cursor: Option<String>) -> Result<(Vec<KnownOrder>, Option<String>), Fault> {
        self.call("orders", move |server| server.within(scope, |memory| at_once(memory.orders(scope, cursor)))).await
    }

    async fn outbox(&self, scope: Scope, min_age: Duration, limit: usize) -> Result<Vec<OutboxEntry>, Fault> {
        let look = move |memory: &MemoryInventory| at_once(memory.outbox(scope, min_age, limit));
        self.call("outbox", move |server| server.within(scope, look)).await
    }

    async fn outbox_behind(
        &self,
        scope: Scope,
        after: Option<&OutboxId>,
        min_age: Duration,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, Fault> {
        let after = after.cloned();
        let look = move |memory: &MemoryInventory| at_once(memory.outbox_behind(scope, after.as_ref(), min_age, limit));
        self.call("outbox_behind", move |server| server.within(scope, look)).await
    }

    async fn outbox_len(&self, scope: Scope) -> Result<u64, Fault> {
        self.call("outbox_len", move |server| server.within(scope, |memory| at_once(memory.outbox_len(scope)))).await
    }

    async fn outbox_remove(&self, scope: Scope, entries: &[OutboxId]) -> Result<(), Fault> {
        let made = Move::OutboxRemove(scope, entries.to_vec());
        self.call("outbox_remove", move |server| server.move_within(scope, made).map(drop)).await
    }

    async fn beat(&self, beat: &NodeBeat, timeout: Duration) -> Result<Vec<NodeBeat>, Fault> {
        let beat = beat.clone();
        self.call("beat", move |server| at_once(server.raw().beat(&beat, timeout))).await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), Fault> {
        let node = node.clone();
        self.call("leave", move |server| at_once(server.raw().leave(&node))).await
    }

    async fn join(&self, scope: Scope) -> Result<(), Fault> {
        self.call("join", move |server| server.within(scope, |memory| at_once(memory.join(scope)))).await
    }

    async fn salvage(&self, scope: Scope, after: Option<OutboxId>, limit: usize) -> Result<Vec<OutboxEntry>, Fault> {
        // What is left of another run is of use too: whatever it has was granted.
        self.call("salvage", move |server| at_once(server.raw().salvage(scope, after, limit))).await
    }

    async fn identity(&self, _: Partition) -> Result<String, Fault> {
        self.call("identity", |server| Ok(format!("run-{}", server.state().run))).await
    }

    async fn rebuild(&self, scope: Scope, snapshot: &Snapshot) -> Result<(), Fault> {
        let made = Move::Rebuild(scope, snapshot.clone());
        self.call("rebuild", move |server| server.change(made).map(drop)).await
    }

    async fn open(&self, scope: Scope) -> Result<(), Fault> {
        self.call("open", move |server| {
            let run = server.state().run;
            server.change(Move::Open(scope, run)).map(drop)
        })
        .await
    }

    async fn fence(&self, scope: Scope) -> Result<(), Fault> {
        self.call("fence", move |server| server.change(Move::Fence(scope)).map(drop)).await
    }
}
