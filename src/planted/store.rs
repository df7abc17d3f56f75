//! A store that holds what it is told to.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{
    BuyerId, Epoch, Order, OrderEvent, OrderId, OrderStatus, Partition, PoolId, Refusal, Sale, SaleId, Scope,
    UnixMillis,
};
use crate::planted::{NOW, SCOPE, on};
use crate::store::orders::LegTally;
use crate::store::partitions::StoreSnapshot;
use crate::store::{
    self, CancelOutcome, Change, DeadLetter, Deployment, Due, Expiry, Judged, LateClaim, LatePayment, LatePayments,
    OrderFilter, OrderRow, Orders, PartitionRow, PartitionState, Partitions, PaymentEvent, PaymentOutcome, PaymentRow,
    PaymentState, PutSale, RecordFault, Recordable, Recorded, Recorder, SaleTally, Sales, Schema, StaleOrder,
    StaleOrders, StaleState, Store, StoredSale,
};

fn path(status: OrderStatus) -> Vec<OrderStatus> {
    match status {
        OrderStatus::Held => vec![status],
        OrderStatus::Refunded => vec![OrderStatus::Held, OrderStatus::Paid, status],
        _ => vec![OrderStatus::Held, status],
    }
}

#[derive(Debug, Default)]
pub(crate) struct PlantedStore(Arc<Mutex<StoreState>>);

#[derive(Debug, Default)]
pub(crate) struct StoreState {
    pub(crate) sales: BTreeMap<SaleId, StoredSale>,
    pub(crate) log: Vec<Change>,
    pub(crate) orders: BTreeMap<OrderId, OrderRow>,
    pub(crate) histories: HashMap<OrderId, Vec<(UnixMillis, OrderStatus)>>,
    pub(crate) payments: HashMap<OrderId, Vec<PaymentRow>>,
    pub(crate) moves: Vec<(OrderId, SaleId, OrderStatus)>,
    pub(crate) stale: Vec<StaleOrder>,
    /// What the guard counts beside the truth.
    pub(crate) guard_off: i64,
    /// Somebody else changes the sale before the next put.
    pub(crate) race: u32,
    pub(crate) down: bool,
    /// Whoever writes into the audit log hears nothing.
    pub(crate) log_hangs: bool,
    /// How many recoveries there were.
    pub(crate) recoveries: u64,
    pub(crate) quarantined: Vec<Order>,
    pub(crate) letters: Vec<DeadLetter>,
    /// What a list shows of letters, by id.
    pub(crate) heads: HashMap<u64, DeadLetter>,
    /// How many more of them are counted.
    pub(crate) letters_beside: u64,
    /// How many recorders it gives yet.
    pub(crate) recorders: usize,
    /// How many orders of one batch they record in time; `None`: their connections break whatever they are asked.
    pub(crate) in_time: Option<usize>,
    /// The orders that they recorded, batch by batch, and how many batches were too large.
    pub(crate) recorded: Vec<Vec<OrderId>>,
    pub(crate) late: usize,
    pub(crate) lanes: u16,
}

/// How long one records that does not get it done.
const LATE: Duration = Duration::from_secs(40);

/// Records nothing but how much it was asked to.
#[derive(Debug)]
struct PlantedRecorder(Arc<Mutex<StoreState>>);

#[async_trait]
impl Recorder for PlantedRecorder {
    async fn record(&mut self, batch: &[Recordable]) -> Result<Recorded, RecordFault> {
        let in_time = self.0.lock().unwrap().in_time;
        match in_time {
            None => Err(store::Fault("the connection broke".to_owned()).into()),
            Some(in_time) if batch.len() > in_time => {
                tokio::time::sleep(LATE).await;
                self.0.lock().unwrap().late += 1;
                Err(RecordFault::Late(store::Fault("not in time".to_owned())))
            }
            Some(_) => {
                self.0.lock().unwrap().recorded.push(batch.iter().map(|one| one.order.id).collect());
                Ok(Recorded::default())
            }
        }
    }

    async fn barrier(&mut self, _: Scope, _: u16) -> Result<(), RecordFault> {
        Err(store::Fault("the connection broke".to_owned()).into())
    }

    async fn quarantine(&mut self, _: &[Recordable], _: &str) -> Result<(), RecordFault> {
        Err(store::Fault("the connection broke".to_owned()).into())
    }
}

impl PlantedStore {
    pub(crate) fn lock(&self) -> MutexGuard<'_, StoreState> {
        self.0.lock().unwrap()
    }

    pub(super) fn up(&self) -> Result<MutexGuard<'_, StoreState>, store::Fault> {
        let state = self.lock();
        if state.down { Err(store::Fault("it is down".to_owned())) } else { Ok(state) }
    }

    pub(crate) fn plant(&self, order: &Order, status: OrderStatus) {
        let row = OrderRow { order: order.clone(), status, scope: SCOPE, recorded_at: NOW, changed_at: NOW };
        let mut state = self.lock();
        state.orders.insert(order.id, row);
        state.histories.insert(order.id, path(status).into_iter().map(|status| (NOW, status)).collect());
        let paid = match status {
            OrderStatus::Paid => Some(PaymentState::Applied),
            OrderStatus::Refunded => Some(PaymentState::RefundDue),
            _ => None,
        };
        state.payments.insert(order.id, paid.map(|paid| payment(order, "e", paid)).into_iter().collect());
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

#[async_trait]
impl Store for PlantedStore {
    async fn schema(&self) -> Result<Schema, store::Fault> {
        Ok(Schema::Current)
    }

    async fn migrate(&self) -> Result<Vec<String>, store::Fault> {
        Ok(Vec::new())
    }

    async fn deployment(&self, fresh: Deployment) -> Result<Deployment, store::Fault> {
        Ok(fresh)
    }

    async fn lanes(&self) -> Result<u16, store::Fault> {
        Ok(self.up()?.lanes)
    }

    async fn recorder(&self) -> Result<Box<dyn Recorder>, store::Fault> {
        let mut state = self.up()?;
        if state.recorders == 0 {
            return Err(store::Fault("records nothing".to_owned()));
        }
        state.recorders -= 1;
        Ok(Box::new(PlantedRecorder(Arc::clone(&self.0))))
    }

    async fn now(&self) -> Result<UnixMillis, store::Fault> {
        Ok(NOW)
    }
}

#[async_trait]
impl Partitions for PlantedStore {
    async fn partition(&self, partition: Partition) -> Result<Option<PartitionRow>, store::Fault> {
        let epoch = Epoch(SCOPE.epoch.0 + self.lock().recoveries);
        let (state, identity) = (PartitionState::Open, "planted".to_owned());
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

    async fn sale_ids(&self, after: Option<&SaleId>, limit: u32) -> Result<Vec<SaleId>, store::Fault> {
        let state = self.up()?;
        let behind = state.sales.keys().filter(|id| after.is_none_or(|after| *id > after));
        Ok(behind.take(limit as usize).cloned().collect())
    }

    async fn unapplied(&self) -> Result<Vec<StoredSale>, store::Fault> {
        let state = self.up()?;
        Ok(state.sales.values().filter(|stored| stored.applied_version < stored.sale.version).cloned().collect())
    }

    async fn log_change(&self, change: &Change) -> Result<(), store::Fault> {
        let hangs = self.lock().log_hangs;
        if hangs {
            std::future::pending::<()>().await;
        }
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

    async fn pay(&self, _: &PaymentEvent, _: Duration) -> Result<Judged, store::Fault> {
        Ok(Judged { outcome: PaymentOutcome::Unmatched, is_new: true })
    }

    async fn cancel(&self, id: OrderId, _: Option<&BuyerId>) -> Result<CancelOutcome, store::Fault> {
        self.end(id, OrderEvent::Cancel)
    }

    async fn refund(&self, id: OrderId) -> Result<CancelOutcome, store::Fault> {
        self.end(id, OrderEvent::Refund)
    }

    async fn expire(&self, _: Duration, _: Due) -> Result<Expiry, store::Fault> {
        Ok(Expiry::Expired(0))
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
            late: state.late().filter(|late| late.sale == *id).count() as u64,
            quarantined: state.quarantined.iter().filter(|order| order.sale == *id).count() as u64,
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

impl StoreState {
    fn late(&self) -> impl Iterator<Item = LatePayment> {
        let payments = self.payments.values().flatten().filter(|payment| payment.state == PaymentState::Late);
        payments.filter_map(|payment| {
            let sale = self.orders.get(&payment.event.order)?.order.sale.clone();
            Some(LatePayment { event: payment.event.clone(), sale })
        })
    }
}

#[async_trait]
impl LatePayments for PlantedStore {
    async fn late_payments(&self, limit: u32) -> Result<Vec<LatePayment>, store::Fault> {
        Ok(self.up()?.late().take(limit as usize).collect())
    }

    async fn settle_late(&self, _: &str, _: LateClaim) -> Result<Judged, store::Fault> {
        Ok(Judged { outcome: PaymentOutcome::Unmatched, is_new: false })
    }
}

#[async_trait]
impl StaleOrders for PlantedStore {
    async fn stale_orders(&self, state: StaleState, limit: u32) -> Result<Vec<StaleOrder>, store::Fault> {
        Ok(self.up()?.stale.iter().filter(|stale| stale.state == state).take(limit as usize).cloned().collect())
    }

    async fn readmitted(&self, _: OrderId) -> Result<bool, store::Fault> {
        Ok(false)
    }

    async fn refuse_stale(&self, _: OrderId, _: &Refusal) -> Result<(), store::Fault> {
        Ok(())
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
