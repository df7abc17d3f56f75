//! Definitions of sales with their guard, and the log of changes.

use async_trait::async_trait;
use sqlx::mysql::{MySql, MySqlConnection};
use sqlx::{Connection, QueryBuilder};

use super::{MySqlStore, inserted, padded, portions};
use crate::domain::{Sale, SaleId};
use crate::store::failure::Failure;
use crate::store::guard;
use crate::store::pool::run;
use crate::store::rows::{self, ChangeColumns, SaleColumns, definition, signed};
use crate::store::{Change, Fault, PutSale, Sales, StoredSale};

#[async_trait]
impl Sales for MySqlStore {
    async fn sale(&self, id: &SaleId) -> Result<Option<StoredSale>, Fault> {
        run!(self.primary, conn => sale(&mut conn, id))
    }

    async fn sales(&self) -> Result<Vec<StoredSale>, Fault> {
        let select = "SELECT sale_id, applied_version, definition FROM sales ORDER BY sale_id";
        run!(self.primary, conn => several(&mut conn, select))
    }

    async fn sale_ids(&self, after: Option<&SaleId>, limit: u32) -> Result<Vec<SaleId>, Fault> {
        run!(self.primary, conn => sale_ids(&mut conn, after, limit))
    }

    async fn put_sale(&self, sale: &Sale, change: &Change) -> Result<PutSale, Fault> {
        run!(self.primary, conn => put_sale(&mut conn, sale, change))
    }

    async fn mark_applied(&self, id: &SaleId, version: u64) -> Result<(), Fault> {
        run!(self.primary, conn => mark_applied(&mut conn, id, version))
    }

    async fn unapplied(&self) -> Result<Vec<StoredSale>, Fault> {
        let select =
            "SELECT sale_id, applied_version, definition FROM sales WHERE applied_version < version ORDER BY sale_id";
        run!(self.primary, conn => several(&mut conn, select))
    }

    async fn log_change(&self, change: &Change) -> Result<(), Fault> {
        run!(self.primary, conn => log_change(&mut conn, change))
    }

    async fn changes(&self, subject: Option<&str>, limit: u32) -> Result<Vec<Change>, Fault> {
        run!(self.primary, conn => changes(&mut conn, subject, limit))
    }
}

async fn sale(conn: &mut MySqlConnection, id: &SaleId) -> Result<Option<StoredSale>, Failure> {
    let row: Option<SaleColumns> =
        sqlx::query_as("SELECT sale_id, applied_version, definition FROM sales WHERE sale_id = ?")
            .bind(id.as_str())
            .fetch_optional(conn)
            .await?;
    row.map(StoredSale::try_from).transpose()
}

async fn several(conn: &mut MySqlConnection, select: &'static str) -> Result<Vec<StoredSale>, Failure> {
    rows::all(sqlx::query_as::<_, SaleColumns>(select).fetch_all(conn).await?)
}

async fn sale_ids(conn: &mut MySqlConnection, after: Option<&SaleId>, limit: u32) -> Result<Vec<SaleId>, Failure> {
    let ids: Vec<String> = sqlx::query_scalar("SELECT sale_id FROM sales WHERE sale_id > ? ORDER BY sale_id LIMIT ?")
        .bind(after.map_or("", SaleId::as_str))
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?;
    ids.iter().map(|id| rows::parsed("sales.sale_id", id)).collect()
}

async fn put_sale(conn: &mut MySqlConnection, sale: &Sale, change: &Change) -> Result<PutSale, Failure> {
    let mut tx = conn.begin().await?;
    if !swap_definition(&mut tx, sale).await? {
        let current = self::sale(&mut tx, &sale.id).await?;
        tx.rollback().await?;
        return Ok(PutSale::Conflict(current.map(Box::new)));
    }
    raise_guard(&mut tx, sale).await?;
    log_change(&mut tx, change).await?;
    tx.commit().await?;
    Ok(PutSale::Stored)
}

/// Stores the definition if it follows the stored one.
async fn swap_definition(conn: &mut MySqlConnection, sale: &Sale) -> Result<bool, Failure> {
    let text = definition(sale)?;
    if sale.version == 1 {
        let insert = "INSERT INTO sales (sale_id, version, applied_version, definition) VALUES (?, 1, 0, ?)";
        return inserted(sqlx::query(insert).bind(sale.id.as_str()).bind(text).execute(conn).await);
    }
    let swapped = sqlx::query("UPDATE sales SET version = ?, definition = ? WHERE sale_id = ? AND version = ?")
        .bind(signed(sale.version))
        .bind(text)
        .bind(sale.id.as_str())
        .bind(signed(sale.version.saturating_sub(1)))
        .execute(conn)
        .await?;
    Ok(swapped.rows_affected() == 1)
}

/// The guard stands at the larger of what it was and what it will be, until the inventory has the new definition.
async fn raise_guard(conn: &mut MySqlConnection, sale: &Sale) -> Result<(), Failure> {
    let mut pools: Vec<_> = sale.pools.iter().collect();
    // The order of the guard's rows, as everyone locks them.
    pools.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    let rows = pools.into_iter().flat_map(|pool| sale.whole().iter().map(move |leg| (pool, leg)));
    for rows in portions(&rows.collect::<Vec<_>>()) {
        let mut query = QueryBuilder::<MySql>::new("INSERT INTO pool_legs (sale_id, pool_id, leg, capacity, live) ");
        query.push_values(rows, |mut row, (pool, leg)| {
            row.push_bind(sale.id.as_str()).push_bind(pool.id.as_str()).push_bind(i64::from(*leg));
            row.push_bind(i64::from(pool.capacity)).push("0");
        });
        query.push(" ON DUPLICATE KEY UPDATE capacity = GREATEST(capacity, VALUES(capacity))");
        query.build().execute(&mut *conn).await?;
    }
    Ok(())
}

async fn mark_applied(conn: &mut MySqlConnection, id: &SaleId, version: u64) -> Result<(), Failure> {
    let mut tx = conn.begin().await?;
    let select = "SELECT sale_id, applied_version, definition FROM sales WHERE sale_id = ? FOR UPDATE";
    let row: Option<SaleColumns> = sqlx::query_as(select).bind(id.as_str()).fetch_optional(&mut *tx).await?;
    let Some(stored) = row.map(StoredSale::try_from).transpose()? else {
        return Err(Failure::Broken(format!("there is no sale {id}")));
    };
    sqlx::query("UPDATE sales SET applied_version = GREATEST(applied_version, ?) WHERE sale_id = ?")
        .bind(signed(version.min(stored.sale.version)))
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
    if stored.sale.version == version {
        lower_guard(&mut tx, &stored.sale).await?;
    }
    tx.commit().await?;
    Ok(())
}

async fn lower_guard(conn: &mut MySqlConnection, sale: &Sale) -> Result<(), Failure> {
    let select =
        "SELECT pool_id, leg, capacity, live FROM pool_legs WHERE sale_id = ? ORDER BY pool_id, leg FOR UPDATE";
    let guard = sqlx::query_as(select).bind(sale.id.as_str()).fetch_all(&mut *conn).await?;
    for row in guard::lowered(sale, guard)? {
        let mut query = match row.capacity {
            Some(capacity) => {
                let mut query = QueryBuilder::<MySql>::new("UPDATE pool_legs SET capacity = ");
                query.push_bind(i64::from(capacity));
                query
            }
            None => QueryBuilder::new("DELETE FROM pool_legs"),
        };
        query.push(" WHERE sale_id = ").push_bind(sale.id.as_str()).push(" AND pool_id = ").push_bind(row.pool);
        query.push(" AND leg IN (");
        let mut list = query.separated(", ");
        for leg in padded(&row.legs) {
            list.push_bind(leg);
        }
        query.push(")").build().execute(&mut *conn).await?;
    }
    Ok(())
}

async fn log_change(conn: &mut MySqlConnection, change: &Change) -> Result<(), Failure> {
    sqlx::query("INSERT INTO change_log (at, who, what, subject, was, became) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(change.at.0)
        .bind(&change.who)
        .bind(&change.what)
        .bind(&change.subject)
        .bind(&change.before)
        .bind(&change.after)
        .execute(conn)
        .await?;
    Ok(())
}

async fn changes(conn: &mut MySqlConnection, subject: Option<&str>, limit: u32) -> Result<Vec<Change>, Failure> {
    let rows: Vec<ChangeColumns> =
        match subject {
            Some(subject) => sqlx::query_as(
                "SELECT at, who, what, subject, was, became FROM change_log WHERE subject = ? ORDER BY id DESC LIMIT ?",
            )
            .bind(subject)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?,
            None => {
                sqlx::query_as("SELECT at, who, what, subject, was, became FROM change_log ORDER BY id DESC LIMIT ?")
                    .bind(i64::from(limit))
                    .fetch_all(conn)
                    .await?
            }
        };
    Ok(rows.into_iter().map(Change::from).collect())
}
