//! Orders that came too late for their epoch.

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use crate::domain::{OrderId, Refusal};
use crate::store::failure::Failure;
use crate::store::pool::run;
use crate::store::rows::{self, StaleColumns};
use crate::store::{Fault, StaleOrder, StaleOrders, StaleState};

#[async_trait]
impl StaleOrders for SqliteStore {
    async fn stale_orders(&self, state: StaleState, limit: u32) -> Result<Vec<StaleOrder>, Fault> {
        run!(self.readers(), conn => stale_orders(&mut conn, state, limit))
    }

    async fn readmitted(&self, id: OrderId) -> Result<bool, Fault> {
        run!(self.writer(), conn => readmitted(&mut conn, id))
    }

    async fn refuse_stale(&self, id: OrderId, reason: &Refusal) -> Result<(), Fault> {
        run!(self.writer(), conn => refuse(&mut conn, id, reason))
    }
}

async fn stale_orders(conn: &mut SqliteConnection, state: StaleState, limit: u32) -> Result<Vec<StaleOrder>, Failure> {
    let select = "SELECT partition_id, epoch, record, kept_at, state, reason FROM stale_orders \
                  WHERE state = ? ORDER BY kept_at, order_id LIMIT ?";
    rows::all(
        sqlx::query_as::<_, StaleColumns>(select).bind(state.as_str()).bind(i64::from(limit)).fetch_all(conn).await?,
    )
}

async fn readmitted(conn: &mut SqliteConnection, id: OrderId) -> Result<bool, Failure> {
    let update = "UPDATE stale_orders SET state = 'readmitted' WHERE order_id = ? AND state = 'waiting' \
                  AND EXISTS (SELECT 1 FROM orders WHERE orders.order_id = stale_orders.order_id)";
    sqlx::query(update).bind(id.0.to_vec()).execute(&mut *conn).await?;
    let state: Option<String> = sqlx::query_scalar("SELECT state FROM stale_orders WHERE order_id = ?")
        .bind(id.0.to_vec())
        .fetch_optional(conn)
        .await?;
    Ok(state.as_deref() == Some(StaleState::Readmitted.as_str()))
}

/// One that is stored was not refused, whoever says so.
async fn refuse(conn: &mut SqliteConnection, id: OrderId, reason: &Refusal) -> Result<(), Failure> {
    let update = "UPDATE stale_orders SET state = 'refused', reason = ? WHERE order_id = ? AND state = 'waiting' \
                  AND NOT EXISTS (SELECT 1 FROM orders WHERE orders.order_id = stale_orders.order_id)";
    sqlx::query(update).bind(reason.code()).bind(id.0.to_vec()).execute(conn).await?;
    Ok(())
}
