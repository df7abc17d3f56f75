//! An inventory that counts what it is told to.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{
    BuyerId, Claim, NodeId, Order, OrderId, OrderStatus, OutboxId, Partition, Sale, SaleId, Scope, UnixMillis,
};
use crate::inventory::{
    self, Changes, Confirmed, Defined, Inventory, KnownOrder, LegStock, NodeBeat, OutboxEntry, Revived, Snapshot,
    StockMove,
};
use crate::planted::on;

#[derive(Debug, Default)]
pub(crate) struct PlantedInventory(Mutex<InventoryState>);

#[derive(Debug, Default)]
pub(crate) struct InventoryState {
    pub(crate) sales: BTreeMap<SaleId, Sale>,
    pub(crate) orders: BTreeMap<OrderId, KnownOrder>,
    pub(crate) outbox: Vec<OutboxEntry>,
    /// How old they are.
    pub(crate) outbox_age: Duration,
    /// What the counters say beside the truth: free, held, sold.
    pub(crate) off: (i64, i64, i64),
    pub(crate) version: u64,
    pub(crate) down: bool,
    /// Its scope answers nothing but this.
    pub(crate) fenced: bool,
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

    async fn revive(&self, _: Scope, order: OrderId) -> Result<Revived, inventory::Fault> {
        match self.up()?.orders.get_mut(&order) {
            Some(known) if matches!(known.status, OrderStatus::Held | OrderStatus::Expired | OrderStatus::Paid) => {
                known.status = OrderStatus::Paid;
                Ok(Revived::Taken)
            }
            _ => Ok(Revived::Refused),
        }
    }

    async fn changes(&self, _: Scope, _: u64) -> Result<Changes, inventory::Fault> {
        let state = self.up()?;
        let stock = state.sales.values().flat_map(|sale| state.stock(sale)).collect();
        Ok(Changes {
            version: state.version,
            sales: state.sales.values().cloned().collect(),
            stock,
            granted: Vec::new(),
        })
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

    async fn orders_of(&self, _: Scope, sale: &SaleId, buyer: &BuyerId) -> Result<Vec<KnownOrder>, inventory::Fault> {
        let state = self.up()?;
        let counts =
            |known: &&KnownOrder| known.order.sale == *sale && known.order.buyer == *buyer && known.status.is_live();
        Ok(state.orders.values().filter(counts).cloned().collect())
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

    async fn outbox_behind(
        &self,
        _: Scope,
        entry: Option<&OutboxId>,
        min_age: Duration,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, inventory::Fault> {
        let state = self.up()?;
        let behind = state
            .outbox
            .iter()
            .filter(|known| entry.is_none_or(|entry| known.id > *entry) && state.outbox_age >= min_age);
        Ok(behind.take(limit).cloned().collect())
    }

    async fn outbox_len(&self, _: Scope) -> Result<u64, inventory::Fault> {
        Ok(self.up()?.outbox.len() as u64)
    }

    async fn join(&self, _: Scope) -> Result<(), inventory::Fault> {
        if self.up()?.fenced { Err(inventory::Fault::Fenced("it is lost".to_owned())) } else { Ok(()) }
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

    async fn salvage(&self, _: Scope, _: Option<OutboxId>, _: usize) -> Result<Vec<OutboxEntry>, inventory::Fault> {
        Ok(Vec::new())
    }

    async fn rebuild(&self, _: Scope, _: &Snapshot) -> Result<(), inventory::Fault> {
        Ok(())
    }

    async fn open(&self, _: Scope) -> Result<(), inventory::Fault> {
        Ok(())
    }

    async fn fence(&self, _: Scope) -> Result<(), inventory::Fault> {
        self.up()?.fenced = true;
        Ok(())
    }
}
