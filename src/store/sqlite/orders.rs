//! What happens to orders once they are recorded; how their status changes is in [`super::changes`].

use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::sqlite::{Sqlite, SqliteConnection};
use sqlx::{Connection, QueryBuilder};

use super::{LONG_LIMIT, SqliteStore, changes};
use crate::domain::{BuyerId, OrderEvent, OrderId, OrderStatus, SaleId, UnixMillis};
use crate::store::failure::Failure;
use crate::store::pool::run;
use crate::store::rows::{self, LegColumns, OrderColumns, PaymentColumns, order_columns, order_id, parsed, status};
use crate::store::tally::{Aside, Count};
use crate::store::{
    CancelOutcome, Due, Expiry, Fault, Judged, OrderFilter, OrderRow, Orders, PaymentEvent, PaymentRow, SaleTally,
};

#[async_trait]
impl Orders for SqliteStore {
    async fn order(&self, id: OrderId) -> Result<Option<OrderRow>, Fault> {
        run!(self.readers(), conn => by_id(&mut conn, id))
    }

    async fn orders(&self, filter: &OrderFilter) -> Result<Vec<OrderRow>, Fault> {
        run!(self.readers(), conn => list(&mut conn, filter))
    }

    async fn pay(&self, event: &PaymentEvent, grace: Duration) -> Result<Judged, Fault> {
        run!(self.writer(), conn => changes::pay(&mut conn, self.clock(), event, grace))
    }

    async fn cancel(&self, id: OrderId, buyer: Option<&BuyerId>) -> Result<CancelOutcome, Fault> {
        run!(self.writer(), conn => changes::end(&mut conn, self.clock(), (id, buyer), OrderEvent::Cancel))
    }

    async fn refund(&self, id: OrderId) -> Result<CancelOutcome, Fault> {
        run!(self.writer(), conn => changes::end(&mut conn, self.clock(), (id, None), OrderEvent::Refund))
    }

    async fn expire(&self, grace: Duration, due: Due) -> Result<Expiry, Fault> {
        run!(self.writer(), conn => changes::expire(&mut conn, self.clock(), grace, due))
    }

    async fn stock_moves(&self, limit: u32) -> Result<Vec<(OrderId, SaleId, OrderStatus)>, Fault> {
        run!(self.readers(), conn => stock_moves(&mut conn, limit))
    }

    async fn stock_moved(&self, moves: &[(OrderId, OrderStatus)]) -> Result<(), Fault> {
        run!(self.writer(), conn => stock_moved(&mut conn, moves))
    }

    async fn next_release(&self, sale: &SaleId, grace: Duration) -> Result<Option<UnixMillis>, Fault> {
        run!(self.readers(), conn => next_release(&mut conn, sale, grace))
    }

    async fn tally(&self, sale: &SaleId) -> Result<SaleTally, Fault> {
        run!(self.readers(), LONG_LIMIT, conn => tally(&mut conn, sale))
    }

    async fn payments(&self, order: OrderId) -> Result<Vec<PaymentRow>, Fault> {
        run!(self.readers(), conn => payments(&mut conn, order))
    }

    async fn history(&self, order: OrderId) -> Result<Vec<(UnixMillis, OrderStatus)>, Fault> {
        run!(self.readers(), conn => history(&mut conn, order))
    }
}

pub(super) async fn by_id(conn: &mut SqliteConnection, id: OrderId) -> Result<Option<OrderRow>, Failure> {
    let select = concat!("SELECT ", order_columns!(), " FROM orders WHERE order_id = ?");
    let row: Option<OrderColumns> = sqlx::query_as(select).bind(id.0.to_vec()).fetch_optional(conn).await?;
    row.map(OrderRow::try_from).transpose()
}

async fn list(conn: &mut SqliteConnection, filter: &OrderFilter) -> Result<Vec<OrderRow>, Failure> {
    let mut query = QueryBuilder::<Sqlite>::new(concat!("SELECT ", order_columns!(), " FROM orders WHERE 1 = 1"));
    if let Some(sale) = &filter.sale {
        query.push(" AND sale_id = ").push_bind(sale.as_str());
    }
    if let Some(buyer) = &filter.buyer {
        query.push(" AND buyer_id = ").push_bind(buyer.as_str());
    }
    if let Some(status) = filter.status {
        query.push(" AND status = ").push_bind(status.as_str());
    }
    match filter.after {
        Some(after) => query.push(" AND order_id > ").push_bind(after.0.to_vec()).push(" ORDER BY order_id"),
        None => query.push(" ORDER BY recorded_at DESC, order_id DESC"),
    };
    query.push(" LIMIT ").push_bind(i64::from(filter.limit.min(OrderFilter::MAX_LIMIT)));
    rows::all(query.build_query_as::<OrderColumns>().fetch_all(conn).await?)
}

async fn stock_moves(conn: &mut SqliteConnection, limit: u32) -> Result<Vec<(OrderId, SaleId, OrderStatus)>, Failure> {
    let moves: Vec<(Vec<u8>, String, String)> =
        sqlx::query_as("SELECT order_id, sale_id, kind FROM stock_moves ORDER BY at, order_id, kind LIMIT ?")
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?;
    let parse = |(id, sale, kind): (Vec<u8>, String, String)| {
        Ok((order_id(&id)?, parsed("stock_moves.sale_id", &sale)?, status(&kind)?))
    };
    moves.into_iter().map(parse).collect()
}

async fn stock_moved(conn: &mut SqliteConnection, moves: &[(OrderId, OrderStatus)]) -> Result<(), Failure> {
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    for (id, kind) in moves {
        sqlx::query("DELETE FROM stock_moves WHERE order_id = ? AND kind = ?")
            .bind(id.0.to_vec())
            .bind(kind.as_str())
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(())
}

async fn next_release(
    conn: &mut SqliteConnection,
    sale: &SaleId,
    grace: Duration,
) -> Result<Option<UnixMillis>, Failure> {
    let first: Option<i64> = sqlx::query_scalar("SELECT MIN(pay_by) FROM orders WHERE sale_id = ? AND status = 'held'")
        .bind(sale.as_str())
        .fetch_one(conn)
        .await?;
    Ok(first.map(|pay_by| UnixMillis(pay_by).plus(grace)))
}

/// In WAL a transaction sees the database as it was at its first read.
async fn tally(conn: &mut SqliteConnection, sale: &SaleId) -> Result<SaleTally, Failure> {
    let mut tx = conn.begin().await?;
    let mut count = Count::default();
    let mut orders = sqlx::query_as::<_, (String, String)>("SELECT status, line_items FROM orders WHERE sale_id = ?")
        .bind(sale.as_str())
        .fetch(&mut *tx);
    while let Some((status, line_items)) = orders.try_next().await? {
        count.add(&status, &line_items)?;
    }
    drop(orders);
    let guard: Vec<LegColumns> =
        sqlx::query_as("SELECT pool_id, leg, capacity, live FROM pool_legs WHERE sale_id = ? ORDER BY pool_id, leg")
            .bind(sale.as_str())
            .fetch_all(&mut *tx)
            .await?;
    let aside: Aside = sqlx::query_as(
        "SELECT (SELECT COUNT(*) FROM payment_events p JOIN orders o ON o.order_id = p.order_id \
                 WHERE p.state IN ('refund_due', 'mismatch') AND o.sale_id = ?1) AS refunds_due, \
                (SELECT COUNT(*) FROM stock_moves WHERE sale_id = ?1) AS moves_waiting, \
                (SELECT COUNT(*) FROM payment_events p JOIN orders o ON o.order_id = p.order_id \
                 WHERE p.state = 'late' AND o.sale_id = ?1) AS late, \
                (SELECT COUNT(*) FROM stale_orders s WHERE s.sale_id = ?1 AND s.state = 'waiting' \
                 AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = s.order_id)) AS stale, \
                (SELECT COUNT(*) FROM stale_orders s WHERE s.sale_id = ?1 AND s.state = 'refused' \
                 AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = s.order_id)) AS stale_refused, \
                (SELECT COUNT(*) FROM quarantined_orders q WHERE q.sale_id = ?1 \
                 AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = q.order_id)) AS quarantined",
    )
    .bind(sale.as_str())
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    count.into_tally(guard, &aside)
}

async fn payments(conn: &mut SqliteConnection, order: OrderId) -> Result<Vec<PaymentRow>, Failure> {
    let select = "SELECT event_id, order_id, amount, currency, state, received_at FROM payment_events \
                  WHERE state IN ('applied', 'refund_due', 'unmatched', 'mismatch', 'late') AND order_id = ? \
                  ORDER BY received_at, event_id";
    rows::all(sqlx::query_as::<_, PaymentColumns>(select).bind(order.0.to_vec()).fetch_all(conn).await?)
}

async fn history(conn: &mut SqliteConnection, order: OrderId) -> Result<Vec<(UnixMillis, OrderStatus)>, Failure> {
    let select = "SELECT status, at FROM order_events WHERE order_id = ? \
                  UNION ALL SELECT 'held', recorded_at FROM orders WHERE order_id = ?";
    rows::history(sqlx::query_as(select).bind(order.0.to_vec()).bind(order.0.to_vec()).fetch_all(conn).await?)
}
