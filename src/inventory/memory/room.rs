//! What a scope holds, and every move that is made in it.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::bugs::{self, Bug};
use crate::domain::{
    Claim, Order, OrderHint, OrderId, OrderStatus, OutboxId, Phase, Refusal, Sale, SaleId, UnixMillis,
};
use crate::inventory::footprint::{Footprint, LegKey, Person, Tally, counters_of};
use crate::inventory::{
    Confirmed, Defined, Fault, KnownOrder, LegStock, OutboxEntry, Revived, Snapshot, StockMove, Verdict,
};

/// What a scope holds.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) door: Door,
    /// Grows by one with each move that changes a sale or a counter.
    pub(super) version: u64,
    pub(super) sales: BTreeMap<SaleId, (Sale, u64)>,
    pub(super) counters: BTreeMap<LegKey, Counter>,
    pub(super) orders: BTreeMap<OrderId, KnownOrder>,
    /// The orders in which they were granted, each with the version at which it was.
    granted: Vec<(u64, OrderHint)>,
    people: HashMap<Person, Vec<(OrderId, u32)>>,
    /// Expired orders that were refused their units when a late payment came.
    refused_late: HashSet<OrderId>,
    pub(super) outbox: BTreeMap<EntryKey, Vec<OrderId>>,
    last_entry: EntryKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Built,
    Open,
    Fenced,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counter {
    free: u32,
    held: u32,
    sold: u32,
    /// The version at which it changed last.
    pub(super) changed: u64,
}

/// When an outbox entry was written, and which of that millisecond it is.
pub(super) type EntryKey = (i64, u64);

impl Room {
    pub(super) fn empty() -> Self {
        Self {
            door: Door::Built,
            version: 0,
            sales: BTreeMap::new(),
            counters: BTreeMap::new(),
            orders: BTreeMap::new(),
            granted: Vec::new(),
            people: HashMap::new(),
            refused_late: HashSet::new(),
            outbox: BTreeMap::new(),
            last_entry: (0, 0),
        }
    }

    pub(super) fn of(snapshot: &Snapshot) -> Result<Self, Fault> {
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
            granted: snapshot.orders.iter().map(|known| (1, known.order.id.hint())).collect(),
            people: tally.people.into_iter().collect(),
            ..Self::empty()
        })
    }

    pub(super) fn confirm(&mut self, claims: &[Claim], now: UnixMillis, written_at: UnixMillis) -> Confirmed {
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
        if let Some(has) = self.over_limit(sale, footprint) {
            return Verdict::Refused(Refusal::LimitReached { orders: has.iter().map(|(id, _)| *id).collect() });
        }
        let counters = footprint.legs.iter().map(|(key, units)| (self.counters.get(key), units));
        let beyond = u32::from(bugs::is_planted(Bug::GrantOneTooMany));
        let has_too_few =
            |counter: Option<&Counter>, units| counter.is_none_or(|counter| counter.free + beyond < units);
        let mut exhausted = counters.filter(|(counter, units)| has_too_few(*counter, **units));
        match exhausted.next() {
            None => Verdict::Granted,
            Some(first) if std::iter::once(first).chain(exhausted).any(|(c, _)| c.is_some_and(|c| c.held > 0)) => {
                Verdict::Refused(Refusal::AllHeld { next_release_at: None })
            }
            Some(_) => Verdict::Refused(Refusal::SoldOut),
        }
    }

    /// What the first person has who would come over a limit of the sale.
    fn over_limit(&self, sale: &Sale, footprint: &Footprint) -> Option<&[(OrderId, u32)]> {
        if bugs::is_planted(Bug::ForgetTheLimit) {
            return None;
        }
        footprint.people.iter().find_map(|(person, units)| {
            let limit = match person {
                Person::Buyer(..) => sale.limits.per_buyer,
                Person::Passenger(..) => sale.limits.per_passenger,
            };
            let has = self.people.get(person).map_or(&[][..], Vec::as_slice);
            (has.iter().map(|(_, units)| units).sum::<u32>() + units > limit).then_some(has)
        })
    }

    fn grant(&mut self, order: &Order, footprint: &Footprint, version: u64) {
        for (key, units) in &footprint.legs {
            self.shift(key, *units, (Place::Free, Place::Held), version);
        }
        for (person, units) in &footprint.people {
            self.people.entry(person.clone()).or_default().push((order.id, *units));
        }
        self.orders.insert(order.id, KnownOrder { order: order.clone(), status: OrderStatus::Held });
        self.granted.push((version, order.id.hint()));
    }

    pub(super) fn granted_since(&self, since: u64) -> Vec<OrderHint> {
        let first = self.granted.partition_point(|(version, _)| *version <= since);
        self.granted[first..].iter().map(|(_, hint)| *hint).collect()
    }

    pub(super) fn apply(&mut self, moves: &[StockMove]) {
        let version = self.version + 1;
        for StockMove { order: id, to } in moves {
            let Some(known) = self.orders.get_mut(id) else { continue };
            let from = known.status;
            let makes_sense = match from {
                OrderStatus::Held => *to != OrderStatus::Held,
                OrderStatus::Paid => matches!(to, OrderStatus::Cancelled | OrderStatus::Refunded),
                OrderStatus::Expired | OrderStatus::Cancelled | OrderStatus::Refunded => false,
            };
            let again = bugs::is_planted(Bug::ReleaseTwice) && from == *to && !to.is_live();
            if !makes_sense && !again {
                continue;
            }
            let from = if again { OrderStatus::Held } else { from };
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

    pub(super) fn revive(&mut self, id: OrderId) -> Revived {
        let Some(KnownOrder { order, status }) = self.orders.get(&id) else { return Revived::Refused };
        let (from, footprint) = (*status, Footprint::of(order));
        match from {
            OrderStatus::Paid => return Revived::Taken,
            OrderStatus::Held => {}
            OrderStatus::Expired => {
                let is_free = |(key, units): &(LegKey, u32)| self.counters.get(key).is_some_and(|c| c.free >= *units);
                let sale = self.sales.get(&order.sale).map(|(sale, _)| sale);
                let may_have = sale.is_some_and(|sale| self.over_limit(sale, &footprint).is_none());
                if self.refused_late.contains(&id) || !may_have || !footprint.legs.iter().all(is_free) {
                    self.refused_late.insert(id);
                    return Revived::Refused;
                }
            }
            OrderStatus::Cancelled | OrderStatus::Refunded => return Revived::Refused,
        }
        self.version += 1;
        for (key, units) in &footprint.legs {
            self.shift(key, *units, (Place::of(from), Place::Sold), self.version);
        }
        if from == OrderStatus::Expired {
            for (person, units) in footprint.people {
                self.people.entry(person).or_default().push((id, units));
            }
        }
        self.orders.entry(id).and_modify(|known| known.status = OrderStatus::Paid);
        Revived::Taken
    }

    pub(super) fn define(&mut self, sale: &Sale) -> Defined {
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
        let place = counter.place(from);
        // A planted bug is to be found by what it does to the counters, not by a panic.
        *place = if cfg!(feature = "planted-bugs") { place.saturating_sub(units) } else { *place - units };
        *counter.place(to) += units;
        counter.changed = version;
    }

    /// Those that count for a person.
    pub(super) fn orders_of(&self, person: &Person) -> Vec<KnownOrder> {
        let ids = self.people.get(person).into_iter().flatten();
        ids.filter_map(|(id, _)| self.orders.get(id)).cloned().collect()
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

    pub(super) fn entry(&self, key: EntryKey, ids: &[OrderId]) -> OutboxEntry {
        let orders = ids.iter().filter_map(|id| self.orders.get(id)).map(|known| known.order.clone());
        OutboxEntry { id: outbox_id(key), orders: orders.collect() }
    }

    pub(super) fn leg_stock(&self, key: &LegKey) -> Option<LegStock> {
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

pub(super) fn leg_stock((key, counter): (&LegKey, &Counter)) -> LegStock {
    let Counter { free, held, sold, .. } = *counter;
    LegStock { sale: key.sale.clone(), pool: key.pool.clone(), leg: key.leg, free, held, sold }
}

/// The same form as the ids of a Redis stream.
fn outbox_id((at, number): EntryKey) -> OutboxId {
    format!("{at}-{number}").parse().expect("digits and a dash make an outbox id")
}

pub(super) fn entry_key(id: &OutboxId) -> Option<EntryKey> {
    let (at, number) = id.as_str().split_once('-')?;
    Some((at.parse().ok()?, number.parse().ok()?))
}
