//! Backends as small as the doors need them: one sale, one partition, counters without limits per buyer. The real ones have
//! suites of their own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime;
use tokio::sync::Semaphore;

use crate::domain::{
    BuyerId, Claim, Epoch, NodeId, Order, OrderEvent, OrderId, OrderStatus, OutboxId, Partition, Refusal, Sale, SaleId,
    Scope, UnixMillis,
};
use crate::inventory::{
    self, Changes, Confirmed, Defined, Inventory, KnownOrder, LegStock, NodeBeat, OutboxEntry, Revived, Snapshot,
    StockMove, Verdict,
};
use crate::queue::envelope::Envelope;
use crate::queue::traces::Traces;
use crate::queue::{Publisher, Strain, Unconfirmed};
use crate::store::partitions::StoreSnapshot;
use crate::store::{
    CancelOutcome, Due, Expiry, Fault, Judged, LateClaim, LatePayment, LatePayments, OrderFilter, OrderRow, Orders,
    PartitionRow, PartitionState, Partitions, PaymentEvent, PaymentOutcome, PaymentRow, SaleTally, StaleOrder,
    StaleOrders, StaleState,
};

const SCOPE: Scope = Scope { partition: Partition(0), epoch: Epoch(1) };

/// An inventory, a publisher and a store in one.
#[derive(Debug)]
pub(super) struct Backends {
    sale: Sale,
    granted: Mutex<HashMap<OrderId, KnownOrder>>,
    stored: Mutex<HashMap<OrderId, OrderRow>>,
    events: Mutex<HashMap<String, PaymentOutcome>>,
    pub(super) store_is_down: AtomicBool,
    /// A batch is decided when it gets a permit.
    pub(super) decides: Semaphore,
    /// A publish is confirmed when it gets a permit.
    pub(super) confirms: Semaphore,
    /// The runtime on which the store was asked for an order last.
    pub(super) asked_on: Mutex<Option<runtime::Id>>,
    /// What the last message told of its orders' traces.
    pub(super) traces: Mutex<Traces>,
}

impl Backends {
    pub(super) fn new(sale: Sale) -> Arc<Self> {
        Arc::new(Self {
            sale,
            granted: Mutex::default(),
            stored: Mutex::default(),
            events: Mutex::default(),
            store_is_down: AtomicBool::new(false),
            decides: Semaphore::new(1_000_000),
            confirms: Semaphore::new(1_000_000),
            asked_on: Mutex::default(),
            traces: Mutex::default(),
        })
    }

    /// Does what the writer does.
    pub(super) fn write(&self) {
        for (id, known) in &*self.granted.lock().unwrap() {
            let row = OrderRow {
                order: known.order.clone(),
                status: known.status,
                scope: SCOPE,
                recorded_at: UnixMillis(0),
                changed_at: UnixMillis(0),
            };
            self.stored.lock().unwrap().entry(*id).or_insert(row);
        }
    }

    pub(super) fn expire(&self, id: OrderId) {
        self.stored.lock().unwrap().get_mut(&id).unwrap().status = OrderStatus::Expired;
    }

    /// The inventory hears that all orders have ended.
    pub(super) fn end_granted(&self) {
        self.granted.lock().unwrap().values_mut().for_each(|known| known.status = OrderStatus::Expired);
    }

    pub(super) fn granted(&self) -> Vec<Order> {
        self.granted.lock().unwrap().values().map(|known| known.order.clone()).collect()
    }

    fn stock_now(&self) -> Vec<LegStock> {
        let pool = &self.sale.pools[0];
        let held: u32 = self.granted.lock().unwrap().values().map(|known| known.order.units()).sum();
        let leg = |leg| LegStock {
            sale: self.sale.id.clone(),
            pool: pool.id.clone(),
            leg,
            free: pool.capacity - held,
            held: 0,
            sold: held,
        };
        (0..self.sale.leg_count()).map(leg).collect()
    }

    fn up(&self) -> Result<(), Fault> {
        if self.store_is_down.load(Ordering::SeqCst) { Err(Fault("gone".to_owned())) } else { Ok(()) }
    }
}

pub(super) fn no_part<T>() -> Result<T, Fault> {
    Err(Fault("no part of these tests".to_owned()))
}

fn no_part_either<T>() -> Result<T, inventory::Fault> {
    Err(inventory::Fault::NotDone("no part of these tests".to_owned()))
}

#[async_trait]
impl Publisher for Backends {
    async fn publish(&self, envelope: Envelope) -> Result<(), Unconfirmed> {
        *self.traces.lock().unwrap() = envelope.traces;
        self.confirms.acquire().await.unwrap().forget();
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn strain(&self) -> Strain {
        Strain::default()
    }
}

#[async_trait]
impl Inventory for Backends {
    async fn confirm(&self, _: Scope, claims: &[Claim], _: UnixMillis) -> Result<Confirmed, inventory::Fault> {
        self.decides.acquire().await.unwrap().forget();
        let mut verdicts = Vec::new();
        for claim in claims {
            let free = self.stock_now()[0].free;
            let mut granted = self.granted.lock().unwrap();
            verdicts.push(match granted.get(&claim.order.id) {
                Some(known) if known.order.fingerprint != claim.order.fingerprint => {
                    Verdict::Refused(Refusal::KeyReused)
                }
                Some(known) => Verdict::Known(known.clone()),
                None if free < claim.order.units() => Verdict::Refused(Refusal::SoldOut),
                None => {
                    let known = KnownOrder { order: claim.order.clone(), status: OrderStatus::Held };
                    granted.insert(claim.order.id, known);
                    Verdict::Granted
                }
            });
        }
        Ok(Confirmed { version: 2, verdicts, outbox: Some("1".parse().unwrap()), stock: self.stock_now() })
    }

    async fn changes(&self, _: Scope, since: u64) -> Result<Changes, inventory::Fault> {
        let sales = if since == 0 { vec![self.sale.clone()] } else { Vec::new() };
        Ok(Changes { version: since + 2, sales, stock: self.stock_now(), granted: Vec::new() })
    }

    async fn order(&self, _: Scope, id: OrderId) -> Result<Option<KnownOrder>, inventory::Fault> {
        Ok(self.granted.lock().unwrap().get(&id).cloned())
    }

    async fn identity(&self, _: Partition) -> Result<String, inventory::Fault> {
        Ok("one".to_owned())
    }

    async fn apply(&self, _: Scope, _: &[StockMove]) -> Result<(), inventory::Fault> {
        no_part_either()
    }
    async fn revive(&self, _: Scope, _: OrderId) -> Result<Revived, inventory::Fault> {
        no_part_either()
    }
    async fn define(&self, _: Scope, _: &Sale) -> Result<Defined, inventory::Fault> {
        no_part_either()
    }
    async fn stock(&self, _: Scope, _: &SaleId) -> Result<Vec<LegStock>, inventory::Fault> {
        no_part_either()
    }
    async fn orders_of(&self, _: Scope, _: &SaleId, _: &BuyerId) -> Result<Vec<KnownOrder>, inventory::Fault> {
        no_part_either()
    }
    async fn orders(&self, _: Scope, _: Option<String>) -> Result<(Vec<KnownOrder>, Option<String>), inventory::Fault> {
        no_part_either()
    }
    async fn outbox_behind(
        &self,
        _: Scope,
        _: Option<&OutboxId>,
        _: Duration,
        _: usize,
    ) -> Result<Vec<OutboxEntry>, inventory::Fault> {
        no_part_either()
    }
    async fn outbox_len(&self, _: Scope) -> Result<u64, inventory::Fault> {
        no_part_either()
    }
    async fn join(&self, _: Scope) -> Result<(), inventory::Fault> {
        Ok(())
    }
    async fn outbox_remove(&self, _: Scope, _: &[OutboxId]) -> Result<(), inventory::Fault> {
        no_part_either()
    }
    async fn beat(&self, _: &NodeBeat, _: Duration) -> Result<Vec<NodeBeat>, inventory::Fault> {
        no_part_either()
    }
    async fn leave(&self, _: &NodeId) -> Result<(), inventory::Fault> {
        no_part_either()
    }
    async fn salvage(&self, _: Scope, _: Option<OutboxId>, _: usize) -> Result<Vec<OutboxEntry>, inventory::Fault> {
        no_part_either()
    }
    async fn rebuild(&self, _: Scope, _: &Snapshot) -> Result<(), inventory::Fault> {
        no_part_either()
    }
    async fn open(&self, _: Scope) -> Result<(), inventory::Fault> {
        no_part_either()
    }
    async fn fence(&self, _: Scope) -> Result<(), inventory::Fault> {
        no_part_either()
    }
}

#[async_trait]
impl Orders for Backends {
    async fn order(&self, id: OrderId) -> Result<Option<OrderRow>, Fault> {
        self.up()?;
        *self.asked_on.lock().unwrap() = Some(runtime::Handle::current().id());
        Ok(self.stored.lock().unwrap().get(&id).cloned())
    }

    async fn pay(&self, event: &PaymentEvent, _: Duration) -> Result<Judged, Fault> {
        self.up()?;
        if let Some(outcome) = self.events.lock().unwrap().get(&event.id) {
            return Ok(Judged { outcome: outcome.clone(), is_new: false });
        }
        let outcome = match self.stored.lock().unwrap().get_mut(&event.order) {
            None => PaymentOutcome::Unmatched,
            Some(row) if row.order.price != event.paid => PaymentOutcome::Mismatch { due: row.order.price },
            Some(row) => match row.status.after(OrderEvent::Pay) {
                Some(paid) => {
                    row.status = paid;
                    PaymentOutcome::Paid(Box::new(row.clone()))
                }
                None => PaymentOutcome::RefundDue(Box::new(row.clone())),
            },
        };
        self.events.lock().unwrap().insert(event.id.clone(), outcome.clone());
        Ok(Judged { outcome, is_new: true })
    }

    async fn cancel(&self, id: OrderId, buyer: Option<&BuyerId>) -> Result<CancelOutcome, Fault> {
        self.up()?;
        Ok(match self.stored.lock().unwrap().get_mut(&id) {
            Some(row) if buyer.is_none_or(|buyer| row.order.buyer == *buyer) => {
                match row.status.after(OrderEvent::Cancel) {
                    Some(cancelled) => {
                        row.status = cancelled;
                        CancelOutcome::Done(Box::new(row.clone()))
                    }
                    None => CancelOutcome::NotPossible(Box::new(row.clone())),
                }
            }
            _ => CancelOutcome::NotFound,
        })
    }

    async fn orders(&self, _: &OrderFilter) -> Result<Vec<OrderRow>, Fault> {
        no_part()
    }
    async fn refund(&self, _: OrderId) -> Result<CancelOutcome, Fault> {
        no_part()
    }
    async fn expire(&self, _: Duration, _: Due) -> Result<Expiry, Fault> {
        no_part()
    }
    async fn stock_moves(&self, _: u32) -> Result<Vec<(OrderId, SaleId, OrderStatus)>, Fault> {
        no_part()
    }
    async fn stock_moved(&self, _: &[(OrderId, OrderStatus)]) -> Result<(), Fault> {
        no_part()
    }
    async fn next_release(&self, _: &SaleId, _: Duration) -> Result<Option<UnixMillis>, Fault> {
        no_part()
    }
    async fn tally(&self, _: &SaleId) -> Result<SaleTally, Fault> {
        no_part()
    }
    async fn payments(&self, _: OrderId) -> Result<Vec<PaymentRow>, Fault> {
        no_part()
    }
    async fn history(&self, _: OrderId) -> Result<Vec<(UnixMillis, OrderStatus)>, Fault> {
        no_part()
    }
}

#[async_trait]
impl LatePayments for Backends {
    async fn late_payments(&self, _: u32) -> Result<Vec<LatePayment>, Fault> {
        no_part()
    }
    async fn settle_late(&self, _: &str, _: LateClaim) -> Result<Judged, Fault> {
        no_part()
    }
}

#[async_trait]
impl StaleOrders for Backends {
    async fn stale_orders(&self, _: StaleState, _: u32) -> Result<Vec<StaleOrder>, Fault> {
        no_part()
    }
    async fn readmitted(&self, _: OrderId) -> Result<bool, Fault> {
        no_part()
    }
    async fn refuse_stale(&self, _: OrderId, _: &Refusal) -> Result<(), Fault> {
        no_part()
    }
}

#[async_trait]
impl Partitions for Backends {
    async fn partition(&self, partition: Partition) -> Result<Option<PartitionRow>, Fault> {
        let (epoch, min_epoch, identity) = (SCOPE.epoch, SCOPE.epoch, "one".to_owned());
        Ok(Some(PartitionRow { partition, epoch, state: PartitionState::Open, min_epoch, identity }))
    }

    async fn fence(&self, _: Partition, _: Option<Epoch>) -> Result<Option<Epoch>, Fault> {
        no_part()
    }
    async fn barriers(&self, _: Scope) -> Result<Vec<u16>, Fault> {
        no_part()
    }
    async fn set_min_epoch(&self, _: Scope) -> Result<(), Fault> {
        no_part()
    }
    async fn snapshot(&self, _: Partition, _: u16) -> Result<StoreSnapshot, Fault> {
        no_part()
    }
    async fn open_partition(&self, _: Scope, _: &str) -> Result<bool, Fault> {
        no_part()
    }
}
