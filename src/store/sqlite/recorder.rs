//! The writer's way in. There is one writing connection, so a recorder takes its turn for it like everyone else.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::sqlite::{Sqlite, SqliteConnection};
use sqlx::{Connection, QueryBuilder};

use super::changes::{apply_waiting, push_ids};
use super::{CHUNK, SqliteStore};
use crate::crash::{self, CrashPoint};
use crate::domain::{Epoch, OrderId, OrderStatus, Partition, Scope, UnixMillis};
use crate::store::batch::{Batch, Sorted, line_items, record_of};
use crate::store::failure::{Failure, within};
use crate::store::guard::{RowUnits, Units};
use crate::store::rows::{order_id, signed, unsigned};
use crate::store::{RecordFault, Recordable, Recorded, Recorder};

#[derive(Debug)]
pub(super) struct SqliteRecorder {
    store: SqliteStore,
}

impl SqliteRecorder {
    pub(super) fn new(store: SqliteStore) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Recorder for SqliteRecorder {
    async fn record(&mut self, batch: &[Recordable]) -> Result<Recorded, RecordFault> {
        let pool = self.store.writer();
        let mut conn = pool.lease().await?;
        let recorded = within(pool.limit(), record(&mut conn, batch, &self.store)).await?;
        Ok(conn.release(recorded))
    }

    async fn barrier(&mut self, scope: Scope, lane: u16) -> Result<(), RecordFault> {
        let pool = self.store.writer();
        let mut conn = pool.lease().await?;
        let insert =
            "INSERT INTO inventory_barriers (partition_id, epoch, lane) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
        let insert = sqlx::query(insert)
            .bind(i64::from(scope.partition.0))
            .bind(signed(scope.epoch.0))
            .bind(i64::from(lane))
            .execute(&mut *conn);
        within(pool.limit(), insert).await?;
        conn.release(());
        Ok(())
    }

    async fn quarantine(&mut self, orders: &[Recordable], reason: &str) -> Result<(), RecordFault> {
        let pool = self.store.writer();
        let mut conn = pool.lease().await?;
        within(pool.limit(), quarantine(&mut conn, orders, reason, self.store.clock().now())).await?;
        conn.release(());
        Ok(())
    }
}

async fn record(conn: &mut SqliteConnection, batch: &[Recordable], store: &SqliteStore) -> Result<Recorded, Failure> {
    let batch = Batch::of(batch);
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    let now = store.clock().now();
    let min_epochs = min_epochs(&mut tx).await?;
    let known = known(&mut tx, &batch.ids()).await?;
    let Sorted { fresh, stale, mut recorded } = batch.sort(&known, &min_epochs);
    for orders in stale.chunks(CHUNK) {
        keep_stale(&mut tx, orders, now).await?;
    }
    for orders in fresh.chunks(CHUNK) {
        insert(&mut tx, orders, now).await?;
        let ids: Vec<OrderId> = orders.iter().map(|one| one.order.id).collect();
        recorded.refunds_due += apply_waiting(&mut tx, &ids, now).await?;
    }
    crash::reach(CrashPoint::WriterInserted);
    take(&mut tx, &Units::of_orders(&fresh)).await?;
    crash::reach(CrashPoint::WriterGuarded);
    crash::during(CrashPoint::WriterCommitting, tx.commit()).await?;
    Ok(recorded)
}

async fn min_epochs(conn: &mut SqliteConnection) -> Result<HashMap<Partition, Epoch>, Failure> {
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("SELECT partition_id, min_epoch FROM inventory_partitions").fetch_all(conn).await?;
    let parse = |(partition, epoch)| {
        Ok((Partition(unsigned("partition_id", partition)?), Epoch(unsigned("min_epoch", epoch)?)))
    };
    rows.into_iter().map(parse).collect()
}

async fn known(conn: &mut SqliteConnection, ids: &[OrderId]) -> Result<HashSet<OrderId>, Failure> {
    let mut known = HashSet::new();
    for ids in ids.chunks(CHUNK) {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT order_id FROM orders WHERE order_id IN (");
        push_ids(&mut query, ids);
        let rows: Vec<Vec<u8>> = query.push(")").build_query_scalar().persistent(false).fetch_all(&mut *conn).await?;
        for id in rows {
            known.insert(order_id(&id)?);
        }
    }
    Ok(known)
}

async fn insert(conn: &mut SqliteConnection, orders: &[&Recordable], now: UnixMillis) -> Result<(), Failure> {
    let mut query = QueryBuilder::<Sqlite>::new(
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
    query.build().persistent(false).execute(conn).await?;
    Ok(())
}

/// The guard, last: units that are not there undo the whole batch.
pub(super) async fn take(conn: &mut SqliteConnection, units: &Units) -> Result<(), Failure> {
    for RowUnits { sale, pool, leg, units } in units.rows() {
        let guard = "UPDATE pool_legs SET live = live + ?1 \
                     WHERE sale_id = ?2 AND pool_id = ?3 AND leg = ?4 AND live + ?1 <= capacity";
        let taken = sqlx::query(guard)
            .bind(i64::from(units))
            .bind(sale.as_str())
            .bind(pool.as_str())
            .bind(i64::from(leg))
            .execute(&mut *conn)
            .await?;
        if taken.rows_affected() != 1 {
            return Err(Failure::Guard { sale: sale.clone(), pool: pool.clone(), leg });
        }
    }
    Ok(())
}

async fn keep_stale(conn: &mut SqliteConnection, orders: &[&Recordable], now: UnixMillis) -> Result<(), Failure> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO stale_orders (order_id, sale_id, partition_id, epoch, record, kept_at) ",
    );
    query.push_values(orders, |mut row, one| {
        row.push_bind(one.order.id.0.to_vec()).push_bind(one.order.sale.as_str());
        row.push_bind(i64::from(one.scope.partition.0)).push_bind(signed(one.scope.epoch.0));
        row.push_bind(record_of(one)).push_bind(now.0);
    });
    query.push(" ON CONFLICT DO NOTHING").build().persistent(false).execute(conn).await?;
    Ok(())
}

async fn quarantine(
    conn: &mut SqliteConnection,
    orders: &[Recordable],
    reason: &str,
    now: UnixMillis,
) -> Result<(), Failure> {
    let reason: String = reason.chars().take(1000).collect();
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    for orders in orders.chunks(CHUNK) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO quarantined_orders (order_id, sale_id, partition_id, epoch, record, reason, kept_at) ",
        );
        query.push_values(orders, |mut row, one| {
            row.push_bind(one.order.id.0.to_vec()).push_bind(one.order.sale.as_str());
            row.push_bind(i64::from(one.scope.partition.0)).push_bind(signed(one.scope.epoch.0));
            row.push_bind(record_of(one)).push_bind(reason.as_str()).push_bind(now.0);
        });
        query.push(" ON CONFLICT DO NOTHING").build().persistent(false).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}
