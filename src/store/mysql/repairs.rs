//! What an operator's repair asks for.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::Connection;
use sqlx::mysql::MySqlConnection;

use super::orders::locked;
use super::payments::apply_waiting;
use super::{LONG_LIMIT, MySqlStore, ServerClock};
use crate::domain::{OrderId, SaleId};
use crate::store::Fault;
use crate::store::failure::{Failure, within};
use crate::store::pool::run;
use crate::store::repairs::{Recounted, Repairs};
use crate::store::rows::order_id;
use crate::store::tally::Count;

#[async_trait]
impl Repairs for MySqlStore {
    async fn recount(&self, sale: &SaleId) -> Result<Vec<Recounted>, Fault> {
        run!(self.primary, LONG_LIMIT, conn => recount(&mut conn, sale, self.primary.limit()))
    }

    async fn match_payments(&self, orders: &[OrderId]) -> Result<(), Fault> {
        for &order in orders {
            run!(self.primary, conn => match_payments(&mut conn, &self.clock, order))?;
        }
        Ok(())
    }

    async fn quarantined(&self, sale: &SaleId, limit: u32) -> Result<Vec<OrderId>, Fault> {
        run!(self.primary, conn => quarantined(&mut conn, sale, limit))
    }
}

async fn recount(conn: &mut MySqlConnection, sale: &SaleId, step: Duration) -> Result<Vec<Recounted>, Failure> {
    let mut tx = conn.begin().await?;
    let select =
        "SELECT pool_id, leg, capacity, live FROM pool_legs WHERE sale_id = ? ORDER BY pool_id, leg FOR UPDATE";
    let guard = sqlx::query_as(select).bind(sale.as_str()).fetch_all(&mut *tx).await?;
    let mut count = Count::default();
    // READ COMMITTED: a view of its own, made now that the guard is locked.
    let mut orders = sqlx::query_as::<_, (String, String)>("SELECT status, line_items FROM orders WHERE sale_id = ?")
        .bind(sale.as_str())
        .fetch(&mut *tx);
    while let Some((status, line_items)) = within(step, orders.try_next()).await? {
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

/// The order is locked before its payments, as everywhere.
async fn match_payments(conn: &mut MySqlConnection, clock: &ServerClock, order: OrderId) -> Result<(), Failure> {
    let mut tx = conn.begin().await?;
    if locked(&mut tx, order).await?.is_none() {
        tx.rollback().await?;
        return Ok(());
    }
    let now = clock.now(&mut tx).await?;
    apply_waiting(&mut tx, &[order], now).await?;
    tx.commit().await?;
    Ok(())
}

async fn quarantined(conn: &mut MySqlConnection, sale: &SaleId, limit: u32) -> Result<Vec<OrderId>, Failure> {
    let select = "SELECT q.order_id FROM quarantined_orders q WHERE q.sale_id = ? \
                  AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = q.order_id) ORDER BY q.order_id LIMIT ?";
    let ids: Vec<Vec<u8>> =
        sqlx::query_scalar(select).bind(sale.as_str()).bind(i64::from(limit)).fetch_all(conn).await?;
    ids.iter().map(|id| order_id(id)).collect()
}
