//! The inventory inside the process: one lock, and the readable model that the Redis one is tested against.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::domain::{BuyerId, Claim, NodeId, OrderId, OutboxId, Partition, Sale, SaleId, Scope, UnixMillis};
use crate::inventory::footprint::{Person, counters_of};
use crate::inventory::memory::room::{Door, Room, entry_key, leg_stock};
use crate::inventory::{
    Changes, Confirmed, Defined, Fault, Inventory, KnownOrder, LegStock, NodeBeat, OutboxEntry, Revived, Snapshot,
    StockMove,
};

mod room;

/// How many orders one page has.
const PAGE: usize = 500;

/// Counts units for the nodes of one process.
pub struct MemoryInventory {
    clock: Arc<dyn Clock>,
    identity: String,
    state: Mutex<State>,
}

impl MemoryInventory {
    /// An inventory without any scope. The clock tells the age of outbox entries and of heartbeats.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, identity: format!("{:032x}", fastrand::u128(..)), state: Mutex::default() }
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, Fault> {
        self.state.lock().map_err(|_| Fault::Fenced("a move panicked half-way".to_owned()))
    }

    /// Makes one move in a scope, if it is open.
    fn within<T>(&self, scope: Scope, make: impl FnOnce(&mut Room) -> T) -> Result<T, Fault> {
        let mut state = self.state()?;
        match state.rooms.get_mut(&scope) {
            None => Err(Fault::Fenced("it is not there".to_owned())),
            Some(room) if room.door == Door::Open => Ok(make(room)),
            Some(room) => Err(Fault::Fenced(format!("it is {:?}", room.door).to_lowercase())),
        }
    }
}

impl fmt::Debug for MemoryInventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryInventory").field("identity", &self.identity).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    rooms: HashMap<Scope, Room>,
    nodes: BTreeMap<NodeId, (UnixMillis, NodeBeat)>,
}

#[async_trait]
impl Inventory for MemoryInventory {
    async fn confirm(&self, scope: Scope, claims: &[Claim], now: UnixMillis) -> Result<Confirmed, Fault> {
        let written_at = self.clock.now();
        self.within(scope, |room| room.confirm(claims, now, written_at))
    }

    async fn apply(&self, scope: Scope, moves: &[StockMove]) -> Result<(), Fault> {
        self.within(scope, |room| room.apply(moves))
    }

    async fn revive(&self, scope: Scope, order: OrderId) -> Result<Revived, Fault> {
        self.within(scope, |room| room.revive(order))
    }

    async fn changes(&self, scope: Scope, since: u64) -> Result<Changes, Fault> {
        self.within(scope, |room| Changes {
            version: room.version,
            sales: room.sales.values().filter(|(_, changed)| *changed > since).map(|(sale, _)| sale.clone()).collect(),
            stock: room.counters.iter().filter(|(_, counter)| counter.changed > since).map(leg_stock).collect(),
            granted: room.granted_since(since),
        })
    }

    async fn define(&self, scope: Scope, sale: &Sale) -> Result<Defined, Fault> {
        self.within(scope, |room| room.define(sale))
    }

    async fn stock(&self, scope: Scope, sale: &SaleId) -> Result<Vec<LegStock>, Fault> {
        self.within(scope, |room| {
            let sale = room.sales.get(sale).map(|(sale, _)| sale);
            sale.into_iter().flat_map(counters_of).filter_map(|(key, _)| room.leg_stock(&key)).collect()
        })
    }

    async fn order(&self, scope: Scope, id: OrderId) -> Result<Option<KnownOrder>, Fault> {
        self.within(scope, |room| room.orders.get(&id).cloned())
    }

    async fn orders_of(&self, scope: Scope, sale: &SaleId, buyer: &BuyerId) -> Result<Vec<KnownOrder>, Fault> {
        self.within(scope, |room| room.orders_of(&Person::Buyer(sale.clone(), buyer.clone())))
    }

    async fn orders(&self, scope: Scope, cursor: Option<String>) -> Result<(Vec<KnownOrder>, Option<String>), Fault> {
        let after = match cursor.as_deref().map(str::parse::<OrderId>) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(_)) => return Err(Fault::NotDone("this is no cursor of mine".to_owned())),
        };
        self.within(scope, |room| {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let page: Vec<_> = room.orders.range((from, Bound::Unbounded)).take(PAGE).collect();
            let next = if page.len() == PAGE { page.last().map(|(id, _)| id.to_string()) } else { None };
            (page.into_iter().map(|(_, known)| known.clone()).collect(), next)
        })
    }

    async fn outbox_behind(
        &self,
        scope: Scope,
        entry: Option<&OutboxId>,
        min_age: Duration,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, Fault> {
        let now = self.clock.now();
        // What is no id of an entry stands before all of them.
        let from = entry.and_then(entry_key).map_or(Bound::Unbounded, Bound::Excluded);
        self.within(scope, |room| {
            let behind = room.outbox.range((from, Bound::Unbounded));
            let aged = behind.take_while(|((at, _), _)| UnixMillis(*at).plus(min_age) <= now);
            aged.take(limit).map(|(key, ids)| room.entry(*key, ids)).collect()
        })
    }

    async fn outbox_len(&self, scope: Scope) -> Result<u64, Fault> {
        self.within(scope, |room| room.outbox.len() as u64)
    }

    async fn outbox_remove(&self, scope: Scope, entries: &[OutboxId]) -> Result<(), Fault> {
        self.within(scope, |room| {
            for key in entries.iter().filter_map(entry_key) {
                room.outbox.remove(&key);
            }
        })
    }

    async fn beat(&self, beat: &NodeBeat, timeout: Duration) -> Result<Vec<NodeBeat>, Fault> {
        let now = self.clock.now();
        let mut state = self.state()?;
        state.nodes.insert(beat.node.clone(), (now, beat.clone()));
        Ok(state.nodes.values().filter(|(at, _)| now.since(*at) <= timeout).map(|(_, beat)| beat.clone()).collect())
    }

    async fn leave(&self, node: &NodeId) -> Result<(), Fault> {
        self.state()?.nodes.remove(node);
        Ok(())
    }

    async fn join(&self, scope: Scope) -> Result<(), Fault> {
        self.within(scope, |_| ())
    }

    async fn identity(&self, _partition: Partition) -> Result<String, Fault> {
        Ok(self.identity.clone())
    }

    async fn salvage(&self, scope: Scope, after: Option<OutboxId>, limit: usize) -> Result<Vec<OutboxEntry>, Fault> {
        let state = self.state()?;
        let Some(room) = state.rooms.get(&scope) else { return Ok(Vec::new()) };
        let from = after.as_ref().and_then(entry_key).map_or(Bound::Unbounded, Bound::Excluded);
        let entries = room.outbox.range((from, Bound::Unbounded)).take(limit);
        Ok(entries.map(|(key, ids)| room.entry(*key, ids)).collect())
    }

    async fn rebuild(&self, scope: Scope, snapshot: &Snapshot) -> Result<(), Fault> {
        let room = Room::of(snapshot)?;
        self.state()?.rooms.insert(scope, room);
        Ok(())
    }

    async fn open(&self, scope: Scope) -> Result<(), Fault> {
        let mut state = self.state()?;
        match state.rooms.get_mut(&scope) {
            None => return Err(Fault::Fenced("it is not there".to_owned())),
            Some(room) if room.door == Door::Fenced => return Err(Fault::Fenced("it is fenced".to_owned())),
            Some(room) => room.door = Door::Open,
        }
        state.rooms.retain(|other, _| other.partition != scope.partition || other.epoch >= scope.epoch);
        Ok(())
    }

    async fn fence(&self, scope: Scope) -> Result<(), Fault> {
        self.state()?.rooms.entry(scope).or_insert_with(Room::empty).door = Door::Fenced;
        Ok(())
    }
}
