//! The writer's way in: a connection of its own, one transaction per batch.
//!
//! In a transaction: the partitions' `min_epoch`, locked against the recovery that raises it; the insert, in the order of the ids;
//! payments that waited; and last the guard, the row that everyone wants. That nearly all orders are new is taken for granted: only
//! where one was not, or may be too late for its epoch, are the ids that are known looked for before.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::mysql::{MySql, MySqlConnection};
use sqlx::{Connection, QueryBuilder};
use tokio::time::Instant;

use super::changes::push_ids;
use super::guard::{Guard, take_units};
use super::payments::apply_waiting;
use super::{CHUNK, ServerClock, portions};
use crate::crash::{self, CrashPoint};
use crate::domain::{Epoch, OrderId, OrderStatus, Partition, Scope, UnixMillis};
use crate::store::batch::{Batch, Sorted, line_items, record_of};
use crate::store::failure::{Failure, within};
use crate::store::guard::Units;
use crate::store::pool::{MAX_REST, Pool};
use crate::store::rows::{order_id, signed, unsigned};
use crate::store::{Fault, RecordFault, Recordable, Recorded, Recorder};

/// How often a batch is begun again because one of its orders was there.
const LOOKS: u32 = 2;

/// A recorder has its connection between two calls, as long as nothing went wrong: a call takes it, and what fails, is late or is
/// dropped half-way does not put it back.
#[derive(Debug)]
pub(super) struct MySqlRecorder {
    conn: Option<MySqlConnection>,
    used: Instant,
    /// The last batch had orders that were known: messages that come again come in numbers.
    met_known: bool,
    pool: Arc<Pool<MySqlConnection>>,
    clock: ServerClock,
}

impl MySqlRecorder {
    pub(super) async fn new(pool: Arc<Pool<MySqlConnection>>, clock: ServerClock) -> Result<Self, Failure> {
        let conn = Some(pool.connect().await?);
        Ok(Self { conn, used: Instant::now(), met_known: false, pool, clock })
    }

    async fn take(&mut self) -> Result<MySqlConnection, RecordFault> {
        let conn =
            self.conn.take().ok_or_else(|| Fault("this recorder failed before; a new one is needed".to_owned()))?;
        if self.used.elapsed() <= MAX_REST {
            return Ok(conn);
        }
        // Nothing is under way on it, and the server may have dropped it.
        drop(conn);
        // One that cannot be had in time says nothing about the batch.
        self.pool.connect().await.map_err(|failure| RecordFault::Unavailable(failure.into()))
    }

    /// Puts the connection back, unless the call left it in a state that nobody knows.
    fn put<T>(&mut self, conn: MySqlConnection, outcome: Result<T, Failure>) -> Result<T, RecordFault> {
        let outcome = outcome.map_err(RecordFault::from);
        if !matches!(outcome, Err(RecordFault::Unavailable(_) | RecordFault::Late(_))) {
            (self.conn, self.used) = (Some(conn), Instant::now());
        }
        outcome
    }
}

/// What a recording goes by. At first: that no order is known and every unit is there, as it nearly always is.
#[derive(Clone, Copy)]
struct Attempt {
    /// Known orders are looked for.
    looks: bool,
    guard: Guard,
}

#[async_trait]
impl Recorder for MySqlRecorder {
    async fn record(&mut self, batch: &[Recordable]) -> Result<Recorded, RecordFault> {
        let mut conn = self.take().await?;
        let mut attempt = Attempt { looks: self.met_known, guard: Guard::Together };
        let mut looks_left = LOOKS;
        let outcome = loop {
            let outcome = within(self.pool.limit(), record(&mut conn, batch, &self.clock, attempt)).await;
            match &outcome {
                // From the beginning: another recorder may store one of the orders even between our look and our insert.
                Err(failure) if failure.is_duplicate() && looks_left > 0 => {
                    (attempt.looks, looks_left) = (true, looks_left - 1);
                }
                Err(Failure::Guard { .. }) if attempt.guard == Guard::Together => attempt.guard = Guard::OneByOne,
                _ => break outcome,
            }
        };
        if attempt.looks {
            self.met_known = outcome.as_ref().is_ok_and(|recorded| recorded.known > 0);
        }
        self.put(conn, outcome)
    }

    async fn barrier(&mut self, scope: Scope, lane: u16) -> Result<(), RecordFault> {
        let mut conn = self.take().await?;
        let insert = "INSERT INTO inventory_barriers (partition_id, epoch, lane) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE lane = lane";
        let insert = sqlx::query(insert)
            .bind(i64::from(scope.partition.0))
            .bind(signed(scope.epoch.0))
            .bind(i64::from(lane))
            .execute(&mut conn);
        let outcome = within(self.pool.limit(), insert).await;
        self.put(conn, outcome.map(|_| ()))
    }

    async fn quarantine(&mut self, orders: &[Recordable], reason: &str) -> Result<(), RecordFault> {
        let mut conn = self.take().await?;
        let outcome = within(self.pool.limit(), quarantine(&mut conn, orders, reason, &self.clock)).await;
        self.put(conn, outcome)
    }
}

async fn record(
    conn: &mut MySqlConnection,
    batch: &[Recordable],
    clock: &ServerClock,
    attempt: Attempt,
) -> Result<Recorded, Failure> {
    let mut tx = conn.begin().await?;
    match fill(&mut tx, Batch::of(batch), clock, attempt).await {
        Ok(recorded) => {
            crash::during(CrashPoint::WriterCommitting, tx.commit()).await?;
            Ok(recorded)
        }
        // Whatever it was: MySQL undoes only the statement for some errors, and what came before it must not be committed.
        Err(failure) => match tx.rollback().await {
            Ok(()) => Err(failure),
            Err(again) => Err(Failure::Broken(format!("{failure}; and its rollback: {again}"))),
        },
    }
}

async fn fill(
    conn: &mut MySqlConnection,
    batch: Batch<'_>,
    clock: &ServerClock,
    attempt: Attempt,
) -> Result<Recorded, Failure> {
    let now = clock.now(conn).await?;
    let min_epochs = min_epochs(conn, &batch.partitions()).await?;
    let looks = attempt.looks || batch.has_old_epochs(&min_epochs);
    let known = if looks { known(conn, &batch.ids()).await? } else { HashSet::new() };
    let Sorted { fresh, stale, mut recorded } = batch.sort(&known, &min_epochs);
    for orders in portions(&stale) {
        keep_stale(conn, orders, now).await?;
    }
    for orders in portions(&fresh) {
        insert(conn, orders, now).await?;
    }
    for orders in fresh.chunks(CHUNK) {
        let ids: Vec<OrderId> = orders.iter().map(|one| one.order.id).collect();
        recorded.refunds_due += apply_waiting(conn, &ids, now).await?;
    }
    crash::reach(CrashPoint::WriterInserted);
    take_units(conn, &Units::of_orders(&fresh), attempt.guard).await?;
    crash::reach(CrashPoint::WriterGuarded);
    Ok(recorded)
}

/// Locked, so that whoever raises one waits for the batches that go by the old one.
async fn min_epochs(
    conn: &mut MySqlConnection,
    partitions: &BTreeSet<Partition>,
) -> Result<HashMap<Partition, Epoch>, Failure> {
    let mut min_epochs = HashMap::new();
    for partition in partitions {
        let select = "SELECT min_epoch FROM inventory_partitions WHERE partition_id = ? LOCK IN SHARE MODE";
        let row: Option<i64> =
            sqlx::query_scalar(select).bind(i64::from(partition.0)).fetch_optional(&mut *conn).await?;
        if let Some(epoch) = row {
            min_epochs.insert(*partition, Epoch(unsigned("inventory_partitions.min_epoch", epoch)?));
        }
    }
    Ok(min_epochs)
}

async fn known(conn: &mut MySqlConnection, ids: &[OrderId]) -> Result<HashSet<OrderId>, Failure> {
    let mut known = HashSet::new();
    for ids in ids.chunks(CHUNK) {
        let mut query = QueryBuilder::<MySql>::new("SELECT order_id FROM orders WHERE order_id IN (");
        push_ids(&mut query, ids);
        let rows: Vec<Vec<u8>> = query.push(")").build_query_scalar().fetch_all(&mut *conn).await?;
        for id in rows {
            known.insert(order_id(&id)?);
        }
    }
    Ok(known)
}

async fn insert(conn: &mut MySqlConnection, orders: &[&Recordable], now: UnixMillis) -> Result<(), Failure> {
    let mut query = QueryBuilder::<MySql>::new(
        "INSERT INTO orders (order_id, sale_id, buyer_id, partition_id, epoch, fingerprint, status, amount, currency, \
         granted_at, pay_by, recorded_at, changed_at, line_items) ",
    );
    query.push_values(orders, |mut row, Recordable { scope, order }| {
        row.push_bind(order.id.0.to_vec()).push_bind(order.sale.as_str()).push_bind(order.buyer.as_str());
        row.push_bind(i64::from(scope.partition.0)).push_bind(signed(scope.epoch.0));
        row.push_bind(order.fingerprint.0.cast_signed()).push_bind(OrderStatus::Held.as_str());
        row.push_bind(order.price.amount).push_bind(order.price.currency.as_str());
        row.push_bind(order.granted_at.0).push_bind(order.pay_by.0).push_bind(now.0).push_bind(now.0);
        row.push_bind(line_items(&order.lines));
    });
    query.build().execute(conn).await?;
    Ok(())
}

async fn keep_stale(conn: &mut MySqlConnection, orders: &[&Recordable], now: UnixMillis) -> Result<(), Failure> {
    let mut query = QueryBuilder::<MySql>::new(
        "INSERT INTO stale_orders (order_id, sale_id, partition_id, epoch, record, kept_at) ",
    );
    query.push_values(orders, |mut row, one| {
        row.push_bind(one.order.id.0.to_vec()).push_bind(one.order.sale.as_str());
        row.push_bind(i64::from(one.scope.partition.0)).push_bind(signed(one.scope.epoch.0));
        row.push_bind(record_of(one)).push_bind(now.0);
    });
    query.push(" ON DUPLICATE KEY UPDATE kept_at = kept_at").build().execute(conn).await?;
    Ok(())
}

async fn quarantine(
    conn: &mut MySqlConnection,
    orders: &[Recordable],
    reason: &str,
    clock: &ServerClock,
) -> Result<(), Failure> {
    let reason: String = reason.chars().take(1000).collect();
    let mut tx = conn.begin().await?;
    let now = clock.now(&mut tx).await?;
    for orders in portions(orders) {
        let mut query = QueryBuilder::<MySql>::new(
            "INSERT INTO quarantined_orders (order_id, sale_id, partition_id, epoch, record, reason, kept_at) ",
        );
        query.push_values(orders, |mut row, one| {
            row.push_bind(one.order.id.0.to_vec()).push_bind(one.order.sale.as_str());
            row.push_bind(i64::from(one.scope.partition.0)).push_bind(signed(one.scope.epoch.0));
            row.push_bind(record_of(one)).push_bind(reason.as_str()).push_bind(now.0);
        });
        query.push(" ON DUPLICATE KEY UPDATE kept_at = kept_at").build().execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}
