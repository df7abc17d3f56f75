//! What an operator's repair asks for.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::changes::apply_waiting;
use super::orders::by_id;
use super::{LONG_LIMIT, SqliteStore};
use crate::domain::{OrderId, SaleId, UnixMillis};
use crate::store::Fault;
use crate::store::failure::Failure;
use crate::store::pool::run;
use crate::store::repairs::{Recounted, Repairs};
use crate::store::rows::order_id;
use crate::store::tally::Count;

#[async_trait]
impl Repairs for SqliteStore {
    async fn recount(&self, sale: &SaleId) -> Result<Vec<Recounted>, Fault> {
        run!(self.writer(), LONG_LIMIT, conn => recount(&mut conn, sale))
    }

    async fn match_payments(&self, orders: &[OrderId]) -> Result<(), Fault> {
        for &order in orders {
            run!(self.writer(), conn => match_payments(&mut conn, self.clock().now(), order))?;
        }
        Ok(())
    }

    async fn quarantined(&self, sale: &SaleId, limit: u32) -> Result<Vec<OrderId>, Fault> {
        run!(self.readers(), conn => quarantined(&mut conn, sale, limit))
    }
}

async fn recount(conn: &mut SqliteConnection, sale: &SaleId) -> Result<Vec<Recounted>, Failure> {
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    let select = "SELECT pool_id, leg, capacity, live FROM pool_legs WHERE sale_id = ? ORDER BY pool_id, leg";
    let guard = sqlx::query_as(select).bind(sale.as_str()).fetch_all(&mut *tx).await?;
    let mut count = Count::default();
    let mut orders = sqlx::query_as::<_, (String, String)>("SELECT status, line_items FROM orders WHERE sale_id = ?")
        .bind(sale.as_str())
        .fetch(&mut *tx);
    while let Some((status, line_items)) = orders.try_next().await? {
        count.add(&status, &line_items)?;
    }
    drop(orders);
    let wrong = count.wrong(guard)?;
    for row in &wrong {
        sqlx::query("UPDATE pool_legs SET live = ? WHERE sale_id = ? AND pool_id = ? AND leg = ?")
            .bind(i64::from(row.live))
            .bind(sale.as_str())
            .bind(row.pool.as_str())
            .bind(i64::from(row.leg))
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(wrong)
}

async fn match_payments(conn: &mut SqliteConnection, now: UnixMillis, order: OrderId) -> Result<(), Failure> {
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    if by_id(&mut tx, order).await?.is_none() {
        tx.rollback().await?;
        return Ok(());
    }
    apply_waiting(&mut tx, &[order], now).await?;
    tx.commit().await?;
    Ok(())
}

async fn quarantined(conn: &mut SqliteConnection, sale: &SaleId, limit: u32) -> Result<Vec<OrderId>, Failure> {
    let select = "SELECT q.order_id FROM quarantined_orders q WHERE q.sale_id = ? \
                  AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = q.order_id) ORDER BY q.order_id LIMIT ?";
    let ids: Vec<Vec<u8>> =
        sqlx::query_scalar(select).bind(sale.as_str()).bind(i64::from(limit)).fetch_all(conn).await?;
    ids.iter().map(|id| order_id(id)).collect()
}
