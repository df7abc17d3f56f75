//! The store behind bad lines: lost before the commit, committed and its answer lost, late, away.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rushgate::domain::{BuyerId, Epoch, OrderId, OrderStatus, Partition, Refusal, Sale, SaleId, Scope, UnixMillis};
use rushgate::store::{
    CancelOutcome, Change, DeadLetter, DeadLetters, Deployment, Due, Expiry, Fault, Judged, LateClaim, LatePayment,
    LatePayments, OrderFilter, OrderRow, Orders, PartitionRow, Partitions, PaymentEvent, PaymentRow, PutSale,
    RecordFault, Recordable, Recorded, Recorder, Recounted, Repairs, SaleTally, Sales, Schema, StaleOrder, StaleOrders,
    StaleState, Store, StoreSnapshot, StoredSale,
};

use crate::checker::Watcher;
use crate::faults::{Cut, Line};
use crate::memory_store::MemoryStore;

/// One node's way to the store.
#[derive(Debug, Clone)]
pub(crate) struct StoreLine {
    store: MemoryStore,
    watcher: Arc<Watcher>,
    line: Line,
}

fn cut(cut: Cut) -> Fault {
    Fault(format!("{cut:?}"))
}

impl StoreLine {
    pub(crate) fn new(store: &MemoryStore, watcher: &Arc<Watcher>, line: Line) -> Self {
        Self { store: store.clone(), watcher: Arc::clone(watcher), line }
    }

    async fn read<T, F>(
        &self,
        what: &'static str,
        act: impl FnOnce(MemoryStore) -> F + Send + 'static,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>> + Send + 'static,
        T: Send + 'static,
    {
        let store = self.store.clone();
        self.line.call(what, move || act(store)).await.map_err(cut)?
    }

    /// What may commit is looked at when it has.
    async fn write<T, E, F>(
        &self,
        what: &'static str,
        act: impl FnOnce(MemoryStore) -> F + Send + 'static,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<Fault> + Send + 'static,
    {
        let (store, watcher) = (self.store.clone(), Arc::clone(&self.watcher));
        let act = move || async move {
            let done = act(store.clone()).await;
            watcher.store_changed(&store);
            done
        };
        self.line.call(what, act).await.map_err(cut)?
    }
}

#[async_trait]
impl Store for StoreLine {
    async fn schema(&self) -> Result<Schema, Fault> {
        self.read("schema", |store| async move { store.schema().await }).await
    }

    async fn migrate(&self) -> Result<Vec<String>, Fault> {
        self.read("migrate", |store| async move { store.migrate().await }).await
    }

    async fn deployment(&self, fresh: Deployment) -> Result<Deployment, Fault> {
        self.read("deployment", |store| async move { store.deployment(fresh).await }).await
    }

    async fn lanes(&self) -> Result<u16, Fault> {
        self.read("lanes", |store| async move { store.lanes().await }).await
    }

    async fn recorder(&self) -> Result<Box<dyn Recorder>, Fault> {
        self.read("connect", |_| async move { Ok(()) }).await?;
        Ok(Box::new(RecorderLine { line: self.clone() }))
    }

    async fn now(&self) -> Result<UnixMillis, Fault> {
        self.read("now", |store| async move { Store::now(&store).await }).await
    }
}

/// A writer's connection.
#[derive(Debug)]
struct RecorderLine {
    line: StoreLine,
}

#[async_trait]
impl Recorder for RecorderLine {
    async fn record(&mut self, batch: &[Recordable]) -> Result<Recorded, RecordFault> {
        let batch = batch.to_vec();
        self.line
            .line
            .sky
            .trace
            .note(|| format!("record {:?}", batch.iter().map(|one| (one.scope, one.order.id)).collect::<Vec<_>>()));
        self.line.write("record", |store| async move { store.recorder().await?.record(&batch).await }).await
    }

    async fn barrier(&mut self, scope: Scope, lane: u16) -> Result<(), RecordFault> {
        let act = move |store: MemoryStore| async move { store.recorder().await?.barrier(scope, lane).await };
        self.line.write("store a barrier", act).await
    }

    async fn quarantine(&mut self, orders: &[Recordable], reason: &str) -> Result<(), RecordFault> {
        let (orders, reason) = (orders.to_vec(), reason.to_owned());
        let act = |store: MemoryStore| async move { store.recorder().await?.quarantine(&orders, &reason).await };
        self.line.write("quarantine", act).await
    }
}

#[async_trait]
impl Partitions for StoreLine {
    async fn partition(&self, partition: Partition) -> Result<Option<PartitionRow>, Fault> {
        self.read("partition", move |store| async move { store.partition(partition).await }).await
    }

    async fn fence(&self, partition: Partition, seen: Option<Epoch>) -> Result<Option<Epoch>, Fault> {
        self.write("begin an epoch", move |store| async move { store.fence(partition, seen).await }).await
    }

    async fn barriers(&self, scope: Scope) -> Result<Vec<u16>, Fault> {
        self.read("barriers", move |store| async move { store.barriers(scope).await }).await
    }

    async fn set_min_epoch(&self, scope: Scope) -> Result<(), Fault> {
        self.write("set min_epoch", move |store| async move { store.set_min_epoch(scope).await }).await
    }

    async fn snapshot(&self, partition: Partition, partitions: u16) -> Result<StoreSnapshot, Fault> {
        self.read("snapshot", move |store| async move { store.snapshot(partition, partitions).await }).await
    }

    async fn open_partition(&self, scope: Scope, identity: &str) -> Result<bool, Fault> {
        let identity = identity.to_owned();
        self.write("open the partition", move |store| async move { store.open_partition(scope, &identity).await }).await
    }
}

#[async_trait]
impl Sales for StoreLine {
    async fn sale(&self, id: &SaleId) -> Result<Option<StoredSale>, Fault> {
        let id = id.clone();
        self.read("sale", |store| async move { store.sale(&id).await }).await
    }

    async fn sales(&self) -> Result<Vec<StoredSale>, Fault> {
        self.read("sales", |store| async move { store.sales().await }).await
    }

    async fn put_sale(&self, sale: &Sale, change: &Change) -> Result<PutSale, Fault> {
        let (sale, change) = (sale.clone(), change.clone());
        self.write("put a sale", |store| async move { store.put_sale(&sale, &change).await }).await
    }

    async fn mark_applied(&self, id: &SaleId, version: u64) -> Result<(), Fault> {
        let id = id.clone();
        self.write("mark a sale", move |store| async move { store.mark_applied(&id, version).await }).await
    }

    async fn sale_ids(&self, after: Option<&SaleId>, limit: u32) -> Result<Vec<SaleId>, Fault> {
        let after = after.cloned();
        self.read("sale ids", move |store| async move { store.sale_ids(after.as_ref(), limit).await }).await
    }

    async fn unapplied(&self) -> Result<Vec<StoredSale>, Fault> {
        self.read("unapplied", |store| async move { store.unapplied().await }).await
    }

    async fn log_change(&self, change: &Change) -> Result<(), Fault> {
        let change = change.clone();
        self.write("log a change", |store| async move { store.log_change(&change).await }).await
    }

    async fn changes(&self, subject: Option<&str>, limit: u32) -> Result<Vec<Change>, Fault> {
        let subject = subject.map(str::to_owned);
        self.read("changes", move |store| async move { store.changes(subject.as_deref(), limit).await }).await
    }
}

#[async_trait]
impl LatePayments for StoreLine {
    async fn late_payments(&self, limit: u32) -> Result<Vec<LatePayment>, Fault> {
        self.read("late_payments", move |store| async move { store.late_payments(limit).await }).await
    }

    async fn settle_late(&self, event: &str, claim: LateClaim) -> Result<Judged, Fault> {
        let event = event.to_owned();
        self.write("settle_late", move |store| async move { store.settle_late(&event, claim).await }).await
    }
}

#[async_trait]
impl DeadLetters for StoreLine {
    async fn keep_dead_letter(&self, lane: &str, reason: &str, body: &[u8]) -> Result<(), Fault> {
        let (lane, reason, body) = (lane.to_owned(), reason.to_owned(), body.to_vec());
        let act = |store: MemoryStore| async move { store.keep_dead_letter(&lane, &reason, &body).await };
        self.write("keep_dead_letter", act).await
    }

    async fn dead_letters(&self, after: u64, limit: u32) -> Result<Vec<DeadLetter>, Fault> {
        self.read("dead_letters", move |store| async move { store.dead_letters(after, limit).await }).await
    }

    async fn dead_letter(&self, id: u64) -> Result<Option<DeadLetter>, Fault> {
        self.read("dead_letter", move |store| async move { store.dead_letter(id).await }).await
    }

    async fn drop_dead_letter(&self, id: u64) -> Result<bool, Fault> {
        self.write("drop_dead_letter", move |store| async move { store.drop_dead_letter(id).await }).await
    }

    async fn count_dead_letters(&self) -> Result<u64, Fault> {
        self.read("count_dead_letters", |store| async move { store.count_dead_letters().await }).await
    }
}

#[async_trait]
impl Repairs for StoreLine {
    async fn recount(&self, sale: &SaleId) -> Result<Vec<Recounted>, Fault> {
        let sale = sale.clone();
        self.write("recount", move |store| async move { store.recount(&sale).await }).await
    }

    async fn match_payments(&self, orders: &[OrderId]) -> Result<(), Fault> {
        let orders = orders.to_vec();
        self.write("match_payments", move |store| async move { store.match_payments(&orders).await }).await
    }

    async fn quarantined(&self, sale: &SaleId, limit: u32) -> Result<Vec<OrderId>, Fault> {
        let sale = sale.clone();
        self.read("quarantined", move |store| async move { store.quarantined(&sale, limit).await }).await
    }
}

#[async_trait]
impl StaleOrders for StoreLine {
    async fn stale_orders(&self, state: StaleState, limit: u32) -> Result<Vec<StaleOrder>, Fault> {
        self.read("stale_orders", move |store| async move { store.stale_orders(state, limit).await }).await
    }

    async fn readmitted(&self, id: OrderId) -> Result<bool, Fault> {
        self.write("readmitted", move |store| async move { store.readmitted(id).await }).await
    }

    async fn refuse_stale(&self, id: OrderId, reason: &Refusal) -> Result<(), Fault> {
        let reason = reason.clone();
        self.write("refuse_stale", move |store| async move { store.refuse_stale(id, &reason).await }).await
    }
}

#[async_trait]
impl Orders for StoreLine {
    async fn order(&self, id: OrderId) -> Result<Option<OrderRow>, Fault> {
        self.read("order", move |store| async move { store.order(id).await }).await
    }

    async fn orders(&self, filter: &OrderFilter) -> Result<Vec<OrderRow>, Fault> {
        let filter = filter.clone();
        self.read("orders", |store| async move { store.orders(&filter).await }).await
    }

    async fn pay(&self, event: &PaymentEvent, grace: Duration) -> Result<Judged, Fault> {
        let event = event.clone();
        self.write("pay", move |store| async move { store.pay(&event, grace).await }).await
    }

    async fn cancel(&self, id: OrderId, buyer: Option<&BuyerId>) -> Result<CancelOutcome, Fault> {
        let buyer = buyer.cloned();
        self.write("cancel", move |store| async move { store.cancel(id, buyer.as_ref()).await }).await
    }

    async fn refund(&self, id: OrderId) -> Result<CancelOutcome, Fault> {
        self.write("refund", move |store| async move { store.refund(id).await }).await
    }

    async fn expire(&self, grace: Duration, due: Due) -> Result<Expiry, Fault> {
        self.write("expire", move |store| async move { store.expire(grace, due).await }).await
    }

    async fn stock_moves(&self, limit: u32) -> Result<Vec<(OrderId, SaleId, OrderStatus)>, Fault> {
        self.read("stock_moves", move |store| async move { store.stock_moves(limit).await }).await
    }

    async fn stock_moved(&self, moves: &[(OrderId, OrderStatus)]) -> Result<(), Fault> {
        let moves = moves.to_vec();
        self.write("stock_moved", |store| async move { store.stock_moved(&moves).await }).await
    }

    async fn next_release(&self, sale: &SaleId, grace: Duration) -> Result<Option<UnixMillis>, Fault> {
        let sale = sale.clone();
        self.read("next_release", move |store| async move { store.next_release(&sale, grace).await }).await
    }

    async fn tally(&self, sale: &SaleId) -> Result<SaleTally, Fault> {
        let sale = sale.clone();
        self.read("tally", |store| async move { store.tally(&sale).await }).await
    }

    async fn payments(&self, order: OrderId) -> Result<Vec<PaymentRow>, Fault> {
        self.read("payments", move |store| async move { store.payments(order).await }).await
    }

    async fn history(&self, order: OrderId) -> Result<Vec<(UnixMillis, OrderStatus)>, Fault> {
        self.read("history", move |store| async move { store.history(order).await }).await
    }
}
