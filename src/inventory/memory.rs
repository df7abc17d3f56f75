//! The inventory inside the process: one lock, and the readable model that the Redis one is tested against.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::domain::{
    Claim, NodeId, Order, OrderId, OrderStatus, OutboxId, Partition, Phase, Refusal, Sale, SaleId, Scope, UnixMillis,
};
use crate::inventory::footprint::{Footprint, LegKey, Person, Tally, counters_of};
use crate::inventory::{
    Changes, Confirmed, Defined, Fault, Inventory, KnownOrder, LegStock, NodeBeat, OutboxEntry, Snapshot, StockMove,
    Verdict,
};

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

/// What a scope holds.
#[derive(Debug)]
struct Room {
    door: Door,
    /// Grows by one with each move that changes a sale or a counter.
    version: u64,
    sales: BTreeMap<SaleId, (Sale, u64)>,
    counters: BTreeMap<LegKey, Counter>,
    orders: BTreeMap<OrderId, KnownOrder>,
    people: HashMap<Person, Vec<(OrderId, u32)>>,
    outbox: BTreeMap<EntryKey, Vec<OrderId>>,
    last_entry: EntryKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Built,
    Open,
    Fenced,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    free: u32,
    held: u32,
    sold: u32,
    /// The version at which it changed last.
    changed: u64,
}

/// When an outbox entry was written, and which of that millisecond it is.
type EntryKey = (i64, u64);

#[async_trait]
impl Inventory for MemoryInventory {
    async fn confirm(&self, scope: Scope, claims: &[Claim], now: UnixMillis) -> Result<Confirmed, Fault> {
        let written_at = self.clock.now();
        self.within(scope, |room| room.confirm(claims, now, written_at))
    }

    async fn apply(&self, scope: Scope, moves: &[StockMove]) -> Result<(), Fault> {
        self.within(scope, |room| room.apply(moves))
    }

    async fn changes(&self, scope: Scope, since: u64) -> Result<Changes, Fault> {
        self.within(scope, |room| Changes {
            version: room.version,
            sales: room.sales.values().filter(|(_, changed)| *changed > since).map(|(sale, _)| sale.clone()).collect(),
            stock: room.counters.iter().filter(|(_, counter)| counter.changed > since).map(leg_stock).collect(),
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

    async fn outbox(&self, scope: Scope, min_age: Duration, limit: usize) -> Result<Vec<OutboxEntry>, Fault> {
        let now = self.clock.now();
        self.within(scope, |room| {
            let aged = room.outbox.iter().take_while(|((at, _), _)| UnixMillis(*at).plus(min_age) <= now);
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

    async fn identity(&self, _partition: Partition) -> Result<String, Fault> {
        Ok(self.identity.clone())
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

impl Room {
    fn empty() -> Self {
        Self {
            door: Door::Built,
            version: 0,
            sales: BTreeMap::new(),
            counters: BTreeMap::new(),
            orders: BTreeMap::new(),
            people: HashMap::new(),
            outbox: BTreeMap::new(),
            last_entry: (0, 0),
        }
    }

    fn of(snapshot: &Snapshot) -> Result<Self, Fault> {
        let tally = Tally::of(snapshot).map_err(Fault::NotDone)?;
        let counter = |stock: LegStock| {
            let counter = Counter { free: stock.free, held: stock.held, sold: stock.sold, changed: 1 };
            (LegKey { sale: stock.sale, pool: stock.pool, leg: stock.leg }, counter)
        };
        Ok(Self {
            version: 1,
            sales: snapshot.sales.iter().map(|sale| (sale.id.clone(), (sale.clone(), 1))).collect(),
            counters: tally.stock.into_iter().map(counter).collect(),
            orders: snapshot.orders.iter().map(|known| (known.order.id, known.clone())).collect(),
            people: tally.people.into_iter().collect(),
            ..Self::empty()
        })
    }

    fn confirm(&mut self, claims: &[Claim], now: UnixMillis, written_at: UnixMillis) -> Confirmed {
        let version = self.version + 1;
        let (mut granted, mut asked) = (Vec::new(), Vec::new());
        let mut verdicts = Vec::with_capacity(claims.len());
        for Claim { order } in claims {
            let footprint = Footprint::of(order);
            let verdict = self.decide(order, &footprint, now);
            if verdict == Verdict::Granted {
                self.grant(order, &footprint, version);
                granted.push(order.id);
            }
            asked.extend(footprint.legs.into_iter().map(|(key, _)| key));
            verdicts.push(verdict);
        }
        let outbox = (!granted.is_empty()).then(|| {
            self.version = version;
            self.write_entry(granted, written_at)
        });
        let mut seen = HashSet::new();
        let stock = asked.iter().filter(|key| seen.insert(*key)).filter_map(|key| self.leg_stock(key)).collect();
        Confirmed { version: self.version, verdicts, outbox, stock }
    }

    /// Refusals have one order: what is known, the sale, the limits, the stock.
    fn decide(&self, order: &Order, footprint: &Footprint, now: UnixMillis) -> Verdict {
        if let Some(known) = self.orders.get(&order.id) {
            let same = known.order.fingerprint == order.fingerprint;
            return if same { Verdict::Known(known.clone()) } else { Verdict::Refused(Refusal::KeyReused) };
        }
        let Some((sale, _)) = self.sales.get(&order.sale) else { return Verdict::Refused(Refusal::UnknownSale) };
        match sale.phase(now) {
            Phase::Open => {}
            Phase::NotOpen { opens_at } => return Verdict::Refused(Refusal::NotOpen { opens_at }),
            Phase::Paused => return Verdict::Refused(Refusal::Paused),
            Phase::Closed => return Verdict::Refused(Refusal::Closed),
        }
        for (person, units) in &footprint.people {
            let limit = match person {
                Person::Buyer(..) => sale.limits.per_buyer,
                Person::Passenger(..) => sale.limits.per_passenger,
            };
            let has = self.people.get(person).map_or(&[][..], Vec::as_slice);
            if has.iter().map(|(_, units)| units).sum::<u32>() + units > limit {
                let orders = has.iter().map(|(id, _)| *id).collect();
                return Verdict::Refused(Refusal::LimitReached { orders });
            }
        }
        let counters = footprint.legs.iter().map(|(key, units)| (self.counters.get(key), units));
        let mut exhausted = counters.filter(|(counter, units)| counter.is_none_or(|counter| counter.free < **units));
        match exhausted.next() {
            None => Verdict::Granted,
            Some(first) if std::iter::once(first).chain(exhausted).any(|(c, _)| c.is_some_and(|c| c.held > 0)) => {
                Verdict::Refused(Refusal::AllHeld { next_release_at: None })
            }
            Some(_) => Verdict::Refused(Refusal::SoldOut),
        }
    }

    fn grant(&mut self, order: &Order, footprint: &Footprint, version: u64) {
        for (key, units) in &footprint.legs {
            self.shift(key, *units, (Place::Free, Place::Held), version);
        }
        for (person, units) in &footprint.people {
            self.people.entry(person.clone()).or_default().push((order.id, *units));
        }
        self.orders.insert(order.id, KnownOrder { order: order.clone(), status: OrderStatus::Held });
    }

    fn apply(&mut self, moves: &[StockMove]) {
        let version = self.version + 1;
        for StockMove { order: id, to } in moves {
            let Some(known) = self.orders.get_mut(id) else { continue };
            let from = known.status;
            let makes_sense = match from {
                OrderStatus::Held => *to != OrderStatus::Held,
                OrderStatus::Paid => *to == OrderStatus::Refunded,
                OrderStatus::Expired | OrderStatus::Cancelled | OrderStatus::Refunded => false,
            };
            if !makes_sense {
                continue;
            }
            known.status = *to;
            let footprint = Footprint::of(&known.order);
            for (key, units) in &footprint.legs {
                self.shift(key, *units, (Place::of(from), Place::of(*to)), version);
            }
            if !to.is_live() {
                for (person, _) in &footprint.people {
                    self.forget(person, *id);
                }
            }
            self.version = version;
        }
    }

    fn define(&mut self, sale: &Sale) -> Defined {
        let known = self.sales.get(&sale.id).map(|(known, _)| known);
        if known.is_some_and(|known| known.version >= sale.version) {
            return Defined::NotNewer;
        }
        let wanted: Vec<_> = counters_of(sale).collect();
        let gone = known.into_iter().flat_map(counters_of).map(|(key, _)| (key, 0));
        let gone: Vec<_> = gone.filter(|(key, _)| wanted.iter().all(|(kept, _)| kept != key)).collect();
        for (key, capacity) in wanted.iter().chain(&gone) {
            let live = self.counters.get(key).map_or(0, |counter| counter.held + counter.sold);
            if live > *capacity {
                return Defined::InUse { pool: key.pool.clone(), leg: key.leg, live };
            }
        }
        self.version += 1;
        for (key, _) in gone {
            self.counters.remove(&key);
        }
        for (key, capacity) in wanted {
            let counter = self.counters.entry(key).or_default();
            counter.free = capacity - counter.held - counter.sold;
            counter.changed = self.version;
        }
        self.sales.insert(sale.id.clone(), (sale.clone(), self.version));
        Defined::Applied
    }

    /// Moves units of one leg.
    fn shift(&mut self, key: &LegKey, units: u32, (from, to): (Place, Place), version: u64) {
        let counter = self.counters.get_mut(key).expect("a counter outlives the units that are held or sold of it");
        *counter.place(from) -= units;
        *counter.place(to) += units;
        counter.changed = version;
    }

    fn forget(&mut self, person: &Person, id: OrderId) {
        if let Some(has) = self.people.get_mut(person) {
            has.retain(|(order, _)| *order != id);
            if has.is_empty() {
                self.people.remove(person);
            }
        }
    }

    fn write_entry(&mut self, ids: Vec<OrderId>, written_at: UnixMillis) -> OutboxId {
        let (last_at, last_number) = self.last_entry;
        let key = if written_at.0 > last_at { (written_at.0, 0) } else { (last_at, last_number + 1) };
        self.last_entry = key;
        self.outbox.insert(key, ids);
        outbox_id(key)
    }

    fn entry(&self, key: EntryKey, ids: &[OrderId]) -> OutboxEntry {
        let orders = ids.iter().filter_map(|id| self.orders.get(id)).map(|known| known.order.clone());
        OutboxEntry { id: outbox_id(key), orders: orders.collect() }
    }

    fn leg_stock(&self, key: &LegKey) -> Option<LegStock> {
        self.counters.get_key_value(key).map(leg_stock)
    }
}

/// Where units are.
#[derive(Debug, Clone, Copy)]
enum Place {
    Free,
    Held,
    Sold,
}

impl Place {
    /// Where the units of an order in this state are.
    fn of(status: OrderStatus) -> Self {
        match status {
            OrderStatus::Held => Self::Held,
            OrderStatus::Paid => Self::Sold,
            OrderStatus::Expired | OrderStatus::Cancelled | OrderStatus::Refunded => Self::Free,
        }
    }
}

impl Counter {
    fn place(&mut self, place: Place) -> &mut u32 {
        match place {
            Place::Free => &mut self.free,
            Place::Held => &mut self.held,
            Place::Sold => &mut self.sold,
        }
    }
}

fn leg_stock((key, counter): (&LegKey, &Counter)) -> LegStock {
    let Counter { free, held, sold, .. } = *counter;
    LegStock { sale: key.sale.clone(), pool: key.pool.clone(), leg: key.leg, free, held, sold }
}

/// The same form as the ids of a Redis stream.
fn outbox_id((at, number): EntryKey) -> OutboxId {
    format!("{at}-{number}").parse().expect("digits and a dash make an outbox id")
}

fn entry_key(id: &OutboxId) -> Option<EntryKey> {
    let (at, number) = id.as_str().split_once('-')?;
    Some((at.parse().ok()?, number.parse().ok()?))
}
