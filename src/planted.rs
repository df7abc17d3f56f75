//! For unit tests: a store, an inventory and a queue whose content is planted by hand, sound or broken.
//!
//! Real backends cannot be made to hold what the audit has to find; these can.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::ManualClock;
use crate::domain::{
    BuyerId, Claim, Currency, Epoch, Fingerprint, Legs, Line, Money, NodeId, Order, OrderEvent, OrderId, OrderSecret,
    OrderStatus, OutboxId, Partition, PoolId, Sale, SaleDocument, SaleId, Scope, UnixMillis,
};
use crate::epochs::Epochs;
use crate::inventory::{
    self, Changes, Confirmed, Defined, Inventory, KnownOrder, LegStock, NodeBeat, OutboxEntry, Snapshot, StockMove,
};
use crate::meters::Meters;
use crate::queue::{self, LaneDepth, LaneId, Topology};
use crate::shutdown::Shutdown;
use crate::store::orders::LegTally;
use crate::store::partitions::StoreSnapshot;
use crate::store::{
    self, CancelOutcome, Change, OrderFilter, OrderRow, Orders, PartitionRow, PartitionState, Partitions, PaymentEvent,
    PaymentOutcome, PaymentRow, PaymentState, PutSale, Recorder, SaleTally, Sales, Schema, Store, StoredSale,
};

pub(crate) const SCOPE: Scope = Scope { partition: Partition(0), epoch: Epoch(1) };
pub(crate) const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// All that a control plane works on, with nothing in it.
#[derive(Debug)]
pub(crate) struct Planted {
    pub(crate) store: Arc<PlantedStore>,
    pub(crate) inventory: Arc<PlantedInventory>,
    pub(crate) topology: Arc<PlantedTopology>,
    pub(crate) epochs: Epochs,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) shutdown: Shutdown,
}

impl Planted {
    /// With partition 0 joined.
    pub(crate) async fn new() -> Self {
        let planted = Self {
            store: Arc::default(),
            inventory: Arc::default(),
            topology: Arc::default(),
            epochs: Epochs::new(1),
            clock: Arc::new(ManualClock::at(NOW)),
            shutdown: Shutdown::new(),
        };
        let joined = planted.epochs.changed();
        let (store, inventory) = (Arc::clone(&planted.store), Arc::clone(&planted.inventory));
        planted.shutdown.spawn(planted.epochs.clone().follow(
            store,
            inventory,
            Meters::new(),
            planted.shutdown.clone(),
        ));
        joined.await;
        planted
    }

    /// A sale that store and inventory know, with pools `p` (10 units) over so many legs.
    pub(crate) fn sale(&self, id: &str, legs: usize) -> Sale {
        let stops: Vec<_> = (0..=legs).map(|stop| format!("S{stop}")).collect();
        let json = serde_json::json!({
            "name": id, "currency": "CNY", "opens_at": NOW.to_string(), "limit_per_buyer": 4,
            "stops": if legs > 1 { stops } else { Vec::new() },
            "pools": [if legs > 1 { serde_json::json!({"id": "p", "capacity": 10, "fares": vec![100; legs]}) }
                      else { serde_json::json!({"id": "p", "capacity": 10, "price": 100}) }],
        });
        let sale = serde_json::from_value::<SaleDocument>(json).unwrap().into_sale(id.parse().unwrap()).unwrap();
        self.store
            .lock()
            .sales
            .insert(sale.id.clone(), StoredSale { sale: sale.clone(), applied_version: sale.version });
        self.inventory.lock().sales.insert(sale.id.clone(), sale.clone());
        sale
    }

    /// An order of one unit of `p` on the first leg, known to store and inventory alike, with a history and payments to match.
    pub(crate) fn order(&self, sale: &Sale, id: u8, buyer: &str, status: OrderStatus) -> Order {
        let order = order(sale, id, buyer);
        self.store.plant(&order, status);
        self.inventory.plant(&order, status);
        order
    }
}

/// An order of one unit of `p` on the first leg.
pub(crate) fn order(sale: &Sale, id: u8, buyer: &str) -> Order {
    let legs = Legs { from: 0, to: 1 };
    Order {
        id: OrderId([id; 16]),
        fingerprint: Fingerprint(u64::from(id)),
        sale: sale.id.clone(),
        buyer: buyer.parse().unwrap(),
        granted_at: NOW,
        pay_by: NOW.plus(sale.hold),
        price: Money { amount: 100, currency: Currency::CNY },
        lines: vec![Line { pool: "p".parse().unwrap(), legs, quantity: 1, passenger: None, seat: None }],
    }
}

fn path(status: OrderStatus) -> Vec<OrderStatus> {
    match status {
        OrderStatus::Held => vec![status],
        OrderStatus::Refunded => vec![OrderStatus::Held, OrderStatus::Paid, status],
        _ => vec![OrderStatus::Held, status],
    }
}

#[derive(Debug, Default)]
pub(crate) struct PlantedStore(Mutex<StoreState>);

#[derive(Debug, Default)]
pub(crate) struct StoreState {
    pub(crate) sales: BTreeMap<SaleId, StoredSale>,
    pub(crate) log: Vec<Change>,
    pub(crate) orders: BTreeMap<OrderId, OrderRow>,
    pub(crate) histories: HashMap<OrderId, Vec<(UnixMillis, OrderStatus)>>,
    pub(crate) payments: HashMap<OrderId, Vec<PaymentRow>>,
    pub(crate) moves: Vec<(OrderId, SaleId, OrderStatus)>,
    /// What the guard counts beside the truth.
    pub(crate) guard_off: i64,
    /// Somebody else changes the sale before the next put.
    pub(crate) race: u32,
    pub(crate) down: bool,
}

impl PlantedStore {
    pub(crate) fn lock(&self) -> MutexGuard<'_, StoreState> {
        self.0.lock().unwrap()
    }

    fn up(&self) -> Result<MutexGuard<'_, StoreState>, store::Fault> {
        let state = self.lock();
        if state.down { Err(store::Fault("it is down".to_owned())) } else { Ok(state) }
    }

    pub(crate) fn plant(&self, order: &Order, status: OrderStatus) {
        let row = OrderRow { order: order.clone(), status, scope: SCOPE, recorded_at: NOW, changed_at: NOW };
        let mut state = self.lock();
        state.orders.insert(order.id, row);
        state.histories.insert(order.id, path(status).into_iter().map(|status| (NOW, status)).collect());
        if path(status).contains(&OrderStatus::Paid) {
            state.payments.insert(order.id, vec![payment(order, "e", PaymentState::Applied)]);
        }
    }
}

pub(crate) fn payment(order: &Order, event: &str, state: PaymentState) -> PaymentRow {
    let event = PaymentEvent { id: format!("{event}-{}", order.id), order: order.id, paid: order.price };
    PaymentRow { event, state, received_at: NOW }
}

fn units(state: &StoreState, sale: &SaleId, (pool, leg): (&PoolId, u8), status: OrderStatus) -> u32 {
    let rows = state.orders.values().filter(|row| row.order.sale == *sale && row.status == status);
    rows.map(|row| on(&row.order, pool, leg)).sum()
}

fn on(order: &Order, pool: &PoolId, leg: u8) -> u32 {
    let lines = order.lines.iter().filter(|line| line.pool == *pool && line.legs.iter().contains(&leg));
    lines.map(|line| line.quantity).sum()
}

#[async_trait]
impl Store for PlantedStore {
    async fn schema(&self) -> Result<Schema, store::Fault> {
        Ok(Schema::Current)
    }

    async fn migrate(&self) -> Result<Vec<String>, store::Fault> {
        Ok(Vec::new())
    }

    async fn order_secret(&self, fresh: OrderSecret) -> Result<OrderSecret, store::Fault> {
        Ok(fresh)
    }

    async fn recorder(&self) -> Result<Box<dyn Recorder>, store::Fault> {
        Err(store::Fault("records nothing".to_owned()))
    }

    async fn now(&self) -> Result<UnixMillis, store::Fault> {
        Ok(NOW)
    }
}

#[async_trait]
impl Partitions for PlantedStore {
    async fn partition(&self, partition: Partition) -> Result<Option<PartitionRow>, store::Fault> {
        let (epoch, state, identity) = (SCOPE.epoch, PartitionState::Open, "planted".to_owned());
        Ok(Some(PartitionRow { partition, epoch, state, min_epoch: epoch, identity }))
    }

    async fn fence(&self, _: Partition, _: Option<Epoch>) -> Result<Option<Epoch>, store::Fault> {
        Ok(None)
    }

    async fn barriers(&self, _: Scope) -> Result<Vec<u16>, store::Fault> {
        Ok(Vec::new())
    }

    async fn set_min_epoch(&self, _: Scope) -> Result<(), store::Fault> {
        Ok(())
    }

    async fn snapshot(&self, _: Partition, _: u16) -> Result<StoreSnapshot, store::Fault> {
        Ok(StoreSnapshot::default())
    }

    async fn open_partition(&self, _: Scope, _: &str) -> Result<bool, store::Fault> {
        Ok(true)
    }
}

#[async_trait]
impl Sales for PlantedStore {
    async fn sale(&self, id: &SaleId) -> Result<Option<StoredSale>, store::Fault> {
        Ok(self.up()?.sales.get(id).cloned())
    }

    async fn sales(&self) -> Result<Vec<StoredSale>, store::Fault> {
        Ok(self.up()?.sales.values().cloned().collect())
    }

    async fn put_sale(&self, sale: &Sale, change: &Change) -> Result<PutSale, store::Fault> {
        let mut state = self.up()?;
        if state.race > 0 {
            state.race -= 1;
            state.sales.get_mut(&sale.id).expect("only a known sale can be raced for").sale.version += 1;
        }
        let current = state.sales.get(&sale.id).cloned();
        if sale.version != current.as_ref().map_or(0, |current| current.sale.version) + 1 {
            return Ok(PutSale::Conflict(current.map(Box::new)));
        }
        let applied_version = current.map_or(0, |current| current.applied_version);
        state.sales.insert(sale.id.clone(), StoredSale { sale: sale.clone(), applied_version });
        state.log.push(change.clone());
        Ok(PutSale::Stored)
    }

    async fn mark_applied(&self, id: &SaleId, version: u64) -> Result<(), store::Fault> {
        let mut state = self.up()?;
        if let Some(stored) = state.sales.get_mut(id) {
            stored.applied_version = stored.applied_version.max(version);
        }
        Ok(())
    }

    async fn unapplied(&self) -> Result<Vec<StoredSale>, store::Fault> {
        let state = self.up()?;
        Ok(state.sales.values().filter(|stored| stored.applied_version < stored.sale.version).cloned().collect())
    }

    async fn log_change(&self, change: &Change) -> Result<(), store::Fault> {
        self.up()?.log.push(change.clone());
        Ok(())
    }

    async fn changes(&self, subject: Option<&str>, limit: u32) -> Result<Vec<Change>, store::Fault> {
        let state = self.up()?;
        let matching = state.log.iter().rev().filter(|change| subject.is_none_or(|subject| change.subject == subject));
        Ok(matching.take(limit as usize).cloned().collect())
    }
}

#[async_trait]
impl Orders for PlantedStore {
    async fn order(&self, id: OrderId) -> Result<Option<OrderRow>, store::Fault> {
        Ok(self.up()?.orders.get(&id).cloned())
    }

    async fn orders(&self, filter: &OrderFilter) -> Result<Vec<OrderRow>, store::Fault> {
        let state = self.up()?;
        let rows = state.orders.values().filter(|row| {
            filter.sale.as_ref().is_none_or(|sale| row.order.sale == *sale)
                && filter.buyer.as_ref().is_none_or(|buyer| row.order.buyer == *buyer)
                && filter.status.is_none_or(|status| row.status == status)
                && filter.after.is_none_or(|after| row.order.id > after)
        });
        Ok(rows.take(filter.limit.min(1000) as usize).cloned().collect())
    }

    async fn pay(&self, _: &PaymentEvent, _: Duration) -> Result<PaymentOutcome, store::Fault> {
        Ok(PaymentOutcome::Unmatched)
    }

    async fn cancel(&self, id: OrderId, _: Option<&BuyerId>) -> Result<CancelOutcome, store::Fault> {
        self.end(id, OrderEvent::Cancel)
    }

    async fn refund(&self, id: OrderId) -> Result<CancelOutcome, store::Fault> {
        self.end(id, OrderEvent::Refund)
    }

    async fn expire(&self, _: Duration, _: u32) -> Result<u32, store::Fault> {
        Ok(0)
    }

    async fn stock_moves(&self, limit: u32) -> Result<Vec<(OrderId, SaleId, OrderStatus)>, store::Fault> {
        Ok(self.up()?.moves.iter().take(limit as usize).cloned().collect())
    }

    async fn stock_moved(&self, _: &[(OrderId, OrderStatus)]) -> Result<(), store::Fault> {
        Ok(())
    }

    async fn next_release(&self, _: &SaleId, _: Duration) -> Result<Option<UnixMillis>, store::Fault> {
        Ok(None)
    }

    async fn tally(&self, id: &SaleId) -> Result<SaleTally, store::Fault> {
        let state = self.up()?;
        let Some(StoredSale { sale, .. }) = state.sales.get(id) else { return Ok(SaleTally::default()) };
        let mut tally = SaleTally {
            moves_waiting: state.moves.iter().filter(|(_, sale, _)| sale == id).count() as u64,
            ..SaleTally::default()
        };
        for status in OrderStatus::ALL {
            let rows = || state.orders.values().filter(|row| row.order.sale == *id && row.status == status);
            let units = rows().map(|row| u64::from(row.order.units())).sum();
            tally.by_status.push((status, rows().count() as u64, units));
        }
        for pool in &sale.pools {
            for leg in 0..sale.leg_count() {
                let held = units(&state, id, (&pool.id, leg), OrderStatus::Held);
                let paid = units(&state, id, (&pool.id, leg), OrderStatus::Paid);
                let live = u32::try_from(i64::from(held + paid) + state.guard_off).unwrap();
                tally.legs.push(LegTally { pool: pool.id.clone(), leg, capacity: pool.capacity, live, held, paid });
            }
        }
        Ok(tally)
    }

    async fn payments(&self, order: OrderId) -> Result<Vec<PaymentRow>, store::Fault> {
        Ok(self.up()?.payments.get(&order).cloned().unwrap_or_default())
    }

    async fn history(&self, order: OrderId) -> Result<Vec<(UnixMillis, OrderStatus)>, store::Fault> {
        Ok(self.up()?.histories.get(&order).cloned().unwrap_or_default())
    }
}

impl PlantedStore {
    fn end(&self, id: OrderId, event: OrderEvent) -> Result<CancelOutcome, store::Fault> {
        let mut state = self.up()?;
        let Some(row) = state.orders.get_mut(&id) else { return Ok(CancelOutcome::NotFound) };
        let Some(status) = row.status.after(event) else {
            return Ok(CancelOutcome::NotPossible(Box::new(row.clone())));
        };
        row.status = status;
        let row = row.clone();
        state.histories.entry(id).or_default().push((NOW, status));
        state.moves.push((id, row.order.sale.clone(), status));
        Ok(CancelOutcome::Done(Box::new(row)))
    }
}

#[derive(Debug, Default)]
pub(crate) struct PlantedInventory(Mutex<InventoryState>);

#[derive(Debug, Default)]
pub(crate) struct InventoryState {
    pub(crate) sales: BTreeMap<SaleId, Sale>,
    pub(crate) orders: BTreeMap<OrderId, KnownOrder>,
    pub(crate) outbox: Vec<OutboxEntry>,
    /// What the counters say beside the truth: free, held, sold.
    pub(crate) off: (i64, i64, i64),
    pub(crate) version: u64,
    pub(crate) down: bool,
}

impl PlantedInventory {
    pub(crate) fn lock(&self) -> MutexGuard<'_, InventoryState> {
        self.0.lock().unwrap()
    }

    fn up(&self) -> Result<MutexGuard<'_, InventoryState>, inventory::Fault> {
        let state = self.lock();
        if state.down { Err(inventory::Fault::NotDone("it is down".to_owned())) } else { Ok(state) }
    }

    pub(crate) fn plant(&self, order: &Order, status: OrderStatus) {
        self.lock().orders.insert(order.id, KnownOrder { order: order.clone(), status });
    }

    /// In the outbox and in the inventory, and not in the store yet.
    pub(crate) fn plant_in_motion(&self, order: &Order) {
        self.plant(order, OrderStatus::Held);
        let entry = OutboxEntry { id: format!("{}-0", order.id).parse().unwrap(), orders: vec![order.clone()] };
        self.lock().outbox.push(entry);
    }
}

impl InventoryState {
    fn stock(&self, sale: &Sale) -> Vec<LegStock> {
        let off = |units: u32, off: i64| u32::try_from(i64::from(units) + off).unwrap();
        let mut stock = Vec::new();
        for pool in &sale.pools {
            for leg in 0..sale.leg_count() {
                let count = |status| {
                    let orders =
                        self.orders.values().filter(|known| known.order.sale == sale.id && known.status == status);
                    orders.map(|known| on(&known.order, &pool.id, leg)).sum::<u32>()
                };
                let (held, sold) = (count(OrderStatus::Held), count(OrderStatus::Paid));
                stock.push(LegStock {
                    sale: sale.id.clone(),
                    pool: pool.id.clone(),
                    leg,
                    free: off(pool.capacity.saturating_sub(held + sold), self.off.0),
                    held: off(held, self.off.1),
                    sold: off(sold, self.off.2),
                });
            }
        }
        stock
    }
}

#[async_trait]
impl Inventory for PlantedInventory {
    async fn confirm(&self, _: Scope, _: &[Claim], _: UnixMillis) -> Result<Confirmed, inventory::Fault> {
        Err(inventory::Fault::NotDone("grants nothing".to_owned()))
    }

    async fn apply(&self, _: Scope, moves: &[StockMove]) -> Result<(), inventory::Fault> {
        let mut state = self.up()?;
        for StockMove { order, to } in moves {
            if let Some(known) = state.orders.get_mut(order) {
                known.status = *to;
            }
        }
        Ok(())
    }

    async fn changes(&self, _: Scope, _: u64) -> Result<Changes, inventory::Fault> {
        let state = self.up()?;
        let stock = state.sales.values().flat_map(|sale| state.stock(sale)).collect();
        Ok(Changes { version: state.version, sales: state.sales.values().cloned().collect(), stock })
    }

    async fn define(&self, _: Scope, sale: &Sale) -> Result<Defined, inventory::Fault> {
        let mut state = self.up()?;
        if let Some(known) = state.sales.get(&sale.id) {
            if known.version >= sale.version {
                return Ok(Defined::NotNewer);
            }
            for leg in state.stock(known) {
                let live = leg.held + leg.sold;
                if sale.pool(leg.pool.as_str()).is_some_and(|(_, pool)| pool.capacity < live) {
                    return Ok(Defined::InUse { pool: leg.pool, leg: leg.leg, live });
                }
            }
        }
        state.sales.insert(sale.id.clone(), sale.clone());
        Ok(Defined::Applied)
    }

    async fn stock(&self, _: Scope, sale: &SaleId) -> Result<Vec<LegStock>, inventory::Fault> {
        let state = self.up()?;
        Ok(state.sales.get(sale).map(|sale| state.stock(sale)).unwrap_or_default())
    }

    async fn order(&self, _: Scope, id: OrderId) -> Result<Option<KnownOrder>, inventory::Fault> {
        Ok(self.up()?.orders.get(&id).cloned())
    }

    async fn orders(
        &self,
        _: Scope,
        cursor: Option<String>,
    ) -> Result<(Vec<KnownOrder>, Option<String>), inventory::Fault> {
        let state = self.up()?;
        let from: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let page: Vec<_> = state.orders.values().skip(from).take(3).cloned().collect();
        let next = (page.len() == 3).then(|| (from + 3).to_string());
        Ok((page, next))
    }

    async fn outbox(&self, _: Scope, _: Duration, limit: usize) -> Result<Vec<OutboxEntry>, inventory::Fault> {
        Ok(self.up()?.outbox.iter().take(limit).cloned().collect())
    }

    async fn outbox_len(&self, _: Scope) -> Result<u64, inventory::Fault> {
        Ok(self.up()?.outbox.len() as u64)
    }

    async fn outbox_remove(&self, _: Scope, _: &[OutboxId]) -> Result<(), inventory::Fault> {
        Ok(())
    }

    async fn beat(&self, beat: &NodeBeat, _: Duration) -> Result<Vec<NodeBeat>, inventory::Fault> {
        Ok(vec![beat.clone()])
    }

    async fn leave(&self, _: &NodeId) -> Result<(), inventory::Fault> {
        Ok(())
    }

    async fn identity(&self, _: Partition) -> Result<String, inventory::Fault> {
        Ok("planted".to_owned())
    }

    async fn rebuild(&self, _: Scope, _: &Snapshot) -> Result<(), inventory::Fault> {
        Ok(())
    }

    async fn open(&self, _: Scope) -> Result<(), inventory::Fault> {
        Ok(())
    }

    async fn fence(&self, _: Scope) -> Result<(), inventory::Fault> {
        Ok(())
    }
}

/// Lanes that are as deep as they are told.
#[derive(Debug, Default)]
pub(crate) struct PlantedTopology(pub(crate) Mutex<Vec<(LaneId, u64)>>);

#[async_trait]
impl Topology for PlantedTopology {
    async fn declare(&self) -> Result<(), queue::Fault> {
        Ok(())
    }

    async fn open(&self, _: Scope) -> Result<(), queue::Fault> {
        Ok(())
    }

    async fn close(&self, _: Scope) -> Result<(), queue::Fault> {
        Ok(())
    }

    async fn barrier(&self, _: Scope) -> Result<(), queue::Fault> {
        Ok(())
    }

    async fn depths(&self) -> Result<Vec<LaneDepth>, queue::Fault> {
        let depth = |&(lane, messages)| LaneDepth { lane, messages, consumers: 1 };
        Ok(self.0.lock().unwrap().iter().map(depth).collect())
    }

    fn lanes(&self) -> u16 {
        1
    }
}
