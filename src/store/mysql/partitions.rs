//! The partitions' rows, and what a recovery needs.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::mysql::MySqlConnection;

use super::{LONG_LIMIT, MySqlStore, consistent, inserted};
use crate::domain::{Epoch, Partition, Scope};
use crate::store::failure::{Failure, within};
use crate::store::pool::run;
use crate::store::rows::{self, OrderColumns, PartitionColumns, SaleColumns, order_columns, signed, unsigned};
use crate::store::{Fault, OrderRow, PartitionRow, Partitions, StoreSnapshot, StoredSale};

#[async_trait]
impl Partitions for MySqlStore {
    async fn partition(&self, partition: Partition) -> Result<Option<PartitionRow>, Fault> {
        run!(self.primary, conn => row(&mut conn, partition))
    }

    async fn fence(&self, partition: Partition, seen: Option<Epoch>) -> Result<Option<Epoch>, Fault> {
        run!(self.primary, conn => fence(&mut conn, partition, seen))
    }

    async fn barriers(&self, scope: Scope) -> Result<Vec<u16>, Fault> {
        run!(self.primary, conn => barriers(&mut conn, scope))
    }

    async fn set_min_epoch(&self, scope: Scope) -> Result<(), Fault> {
        run!(self.primary, conn => set_min_epoch(&mut conn, scope))
    }

    async fn snapshot(&self, partition: Partition, partitions: u16) -> Result<StoreSnapshot, Fault> {
        run!(self.primary, LONG_LIMIT, conn => snapshot(&mut conn, partition, (partitions, self.primary.limit())))
    }

    async fn open_partition(&self, scope: Scope, identity: &str) -> Result<bool, Fault> {
        run!(self.primary, conn => open_partition(&mut conn, scope, identity))
    }
}

async fn row(conn: &mut MySqlConnection, partition: Partition) -> Result<Option<PartitionRow>, Failure> {
    let select =
        "SELECT partition_id, epoch, state, min_epoch, identity FROM inventory_partitions WHERE partition_id = ?";
    let row: Option<PartitionColumns> =
        sqlx::query_as(select).bind(i64::from(partition.0)).fetch_optional(conn).await?;
    row.map(PartitionRow::try_from).transpose()
}

async fn fence(
    conn: &mut MySqlConnection,
    partition: Partition,
    seen: Option<Epoch>,
) -> Result<Option<Epoch>, Failure> {
    let Some(seen) = seen else {
        let insert = "INSERT INTO inventory_partitions (partition_id, epoch, state, min_epoch, identity) \
                      VALUES (?, 1, 'fenced', 0, '')";
        let first = inserted(sqlx::query(insert).bind(i64::from(partition.0)).execute(conn).await)?;
        return Ok(first.then_some(Epoch(1)));
    };
    let update = "UPDATE inventory_partitions SET epoch = epoch + 1, state = 'fenced', identity = '' \
                  WHERE partition_id = ? AND epoch = ?";
    let moved = sqlx::query(update).bind(i64::from(partition.0)).bind(signed(seen.0)).execute(conn).await?;
    Ok((moved.rows_affected() == 1).then_some(Epoch(seen.0 + 1)))
}

async fn barriers(conn: &mut MySqlConnection, scope: Scope) -> Result<Vec<u16>, Failure> {
    let lanes: Vec<i64> =
        sqlx::query_scalar("SELECT lane FROM inventory_barriers WHERE partition_id = ? AND epoch = ? ORDER BY lane")
            .bind(i64::from(scope.partition.0))
            .bind(signed(scope.epoch.0))
            .fetch_all(conn)
            .await?;
    lanes.into_iter().map(|lane| unsigned("inventory_barriers.lane", lane)).collect()
}

async fn set_min_epoch(conn: &mut MySqlConnection, scope: Scope) -> Result<(), Failure> {
    let set = sqlx::query("UPDATE inventory_partitions SET min_epoch = ? WHERE partition_id = ? AND epoch = ?")
        .bind(signed(scope.epoch.0))
        .bind(i64::from(scope.partition.0))
        .bind(signed(scope.epoch.0))
        .execute(conn)
        .await?;
    if set.rows_affected() == 1 {
        return Ok(());
    }
    Err(Failure::Broken(format!("partition {} is not in epoch {}", scope.partition, scope.epoch)))
}

async fn open_partition(conn: &mut MySqlConnection, scope: Scope, identity: &str) -> Result<bool, Failure> {
    let open = "UPDATE inventory_partitions SET state = 'open', identity = ? WHERE partition_id = ? AND epoch = ?";
    let opened = sqlx::query(open)
        .bind(identity)
        .bind(i64::from(scope.partition.0))
        .bind(signed(scope.epoch.0))
        .execute(conn)
        .await?;
    Ok(opened.rows_affected() == 1)
}

async fn snapshot(
    conn: &mut MySqlConnection,
    partition: Partition,
    (partitions, step): (u16, Duration),
) -> Result<StoreSnapshot, Failure> {
    let mut tx = consistent(conn).await?;
    let all: Vec<SaleColumns> =
        sqlx::query_as("SELECT sale_id, applied_version, definition FROM sales ORDER BY sale_id")
            .fetch_all(&mut *tx)
            .await?;
    let mut snapshot = StoreSnapshot::default();
    for StoredSale { sale, .. } in rows::all(all)? {
        if Partition::of(&sale.id, partitions) != partition {
            continue;
        }
        let select = concat!("SELECT ", order_columns!(), " FROM orders WHERE sale_id = ?");
        let mut stream = sqlx::query_as::<_, OrderColumns>(select).bind(sale.id.as_str()).fetch(&mut *tx);
        while let Some(row) = within(step, stream.try_next()).await? {
            let row = OrderRow::try_from(row)?;
            snapshot.orders.push((row.order, row.status));
        }
        drop(stream);
        snapshot.sales.push(sale);
    }
    tx.commit().await?;
    Ok(snapshot)
}
