//! The partitions' rows, and what a recovery needs.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::{LONG_LIMIT, SqliteStore};
use crate::domain::{Epoch, Partition, Scope};
use crate::store::failure::Failure;
use crate::store::pool::run;
use crate::store::rows::{self, OrderColumns, PartitionColumns, SaleColumns, order_columns, signed, unsigned};
use crate::store::{Fault, OrderRow, PartitionRow, Partitions, StoreSnapshot, StoredSale};

#[async_trait]
impl Partitions for SqliteStore {
    async fn partition(&self, partition: Partition) -> Result<Option<PartitionRow>, Fault> {
        run!(self.readers(), conn => row(&mut conn, partition))
    }

    async fn fence(&self, partition: Partition, seen: Option<Epoch>) -> Result<Option<Epoch>, Fault> {
        run!(self.writer(), conn => fence(&mut conn, partition, seen))
    }

    async fn barriers(&self, scope: Scope) -> Result<Vec<u16>, Fault> {
        run!(self.readers(), conn => barriers(&mut conn, scope))
    }

    async fn set_min_epoch(&self, scope: Scope) -> Result<(), Fault> {
        run!(self.writer(), conn => set_min_epoch(&mut conn, scope))
    }

    async fn snapshot(&self, partition: Partition, partitions: u16) -> Result<StoreSnapshot, Fault> {
        run!(self.readers(), LONG_LIMIT, conn => snapshot(&mut conn, partition, partitions))
    }

    async fn open_partition(&self, scope: Scope, identity: &str) -> Result<bool, Fault> {
        run!(self.writer(), conn => open_partition(&mut conn, scope, identity))
    }
}

async fn row(conn: &mut SqliteConnection, partition: Partition) -> Result<Option<PartitionRow>, Failure> {
    let select =
        "SELECT partition_id, epoch, state, min_epoch, identity FROM inventory_partitions WHERE partition_id = ?";
    let row: Option<PartitionColumns> =
        sqlx::query_as(select).bind(i64::from(partition.0)).fetch_optional(conn).await?;
    row.map(PartitionRow::try_from).transpose()
}

async fn fence(
    conn: &mut SqliteConnection,
    partition: Partition,
    seen: Option<Epoch>,
) -> Result<Option<Epoch>, Failure> {
    let moved = match seen {
        None => {
            let insert = "INSERT INTO inventory_partitions (partition_id, epoch, state, min_epoch, identity) \
                          VALUES (?, 1, 'fenced', 0, '') ON CONFLICT DO NOTHING";
            sqlx::query(insert).bind(i64::from(partition.0))
        }
        Some(seen) => {
            let update = "UPDATE inventory_partitions SET epoch = epoch + 1, state = 'fenced', identity = '' \
                          WHERE partition_id = ? AND epoch = ?";
            sqlx::query(update).bind(i64::from(partition.0)).bind(signed(seen.0))
        }
    };
    let moved = moved.execute(conn).await?.rows_affected() == 1;
    Ok(moved.then_some(Epoch(seen.map_or(1, |epoch| epoch.0 + 1))))
}

async fn barriers(conn: &mut SqliteConnection, scope: Scope) -> Result<Vec<u16>, Failure> {
    let lanes: Vec<i64> =
        sqlx::query_scalar("SELECT lane FROM inventory_barriers WHERE partition_id = ? AND epoch = ? ORDER BY lane")
            .bind(i64::from(scope.partition.0))
            .bind(signed(scope.epoch.0))
            .fetch_all(conn)
            .await?;
    lanes.into_iter().map(|lane| unsigned("inventory_barriers.lane", lane)).collect()
}

async fn set_min_epoch(conn: &mut SqliteConnection, scope: Scope) -> Result<(), Failure> {
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

async fn open_partition(conn: &mut SqliteConnection, scope: Scope, identity: &str) -> Result<bool, Failure> {
    let open = "UPDATE inventory_partitions SET state = 'open', identity = ? WHERE partition_id = ? AND epoch = ?";
    let opened = sqlx::query(open)
        .bind(identity)
        .bind(i64::from(scope.partition.0))
        .bind(signed(scope.epoch.0))
        .execute(conn)
        .await?;
    Ok(opened.rows_affected() == 1)
}

/// In WAL a transaction sees the database as it was at its first read.
async fn snapshot(
    conn: &mut SqliteConnection,
    partition: Partition,
    partitions: u16,
) -> Result<StoreSnapshot, Failure> {
    let mut tx = conn.begin().await?;
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
        while let Some(row) = stream.try_next().await? {
            let row = OrderRow::try_from(row)?;
            snapshot.orders.push((row.order, row.status));
        }
        drop(stream);
        snapshot.sales.push(sale);
    }
    tx.commit().await?;
    Ok(snapshot)
}
