//! Changes of an order's status. Each is one transaction: the conditional update, the history, the stock move, the guard.
//!
//! Orders are locked before they are judged, and the guard comes last, since it is the row that everyone wants.

use std::time::Duration;

use sqlx::mysql::{MySql, MySqlConnection};
use sqlx::{Connection, QueryBuilder};

use super::guard::give_back;
use super::orders::locked;
use super::{CHUNK, ServerClock, padded, portions};
use crate::crash::{self, CrashPoint};
use crate::domain::{BuyerId, OrderEvent, OrderId, OrderStatus, SaleId, UnixMillis, record};
use crate::store::failure::Failure;
use crate::store::guard::Units;
use crate::store::rows::{due_by, order_id, parsed};
use crate::store::{CancelOutcome, Due, Expiry, OrderRow};

/// An order that became something else.
pub(super) struct Changed {
    pub(super) id: OrderId,
    pub(super) sale: SaleId,
    pub(super) status: OrderStatus,
}

/// A cancel or a refund.
pub(super) async fn end(
    conn: &mut MySqlConnection,
    clock: &ServerClock,
    (id, buyer): (OrderId, Option<&BuyerId>),
    event: OrderEvent,
) -> Result<CancelOutcome, Failure> {
    let mut tx = conn.begin().await?;
    let found = locked(&mut tx, id).await?.filter(|row| buyer.is_none_or(|buyer| row.order.buyer == *buyer));
    let Some(mut row) = found else {
        tx.rollback().await?;
        return Ok(CancelOutcome::NotFound);
    };
    let Some(status) = row.status.after(event) else {
        tx.rollback().await?;
        return Ok(CancelOutcome::NotPossible(Box::new(row)));
    };
    let now = clock.now(&mut tx).await?;
    let change = Changed { id, sale: row.order.sale.clone(), status };
    update_status(&mut tx, &[id], (row.status, status), now).await?;
    if event == OrderEvent::Refund {
        // The payment that paid the order is now one whose money is to be given back.
        sqlx::query("UPDATE payment_events SET state = 'refund_due' WHERE state = 'applied' AND order_id = ?")
            .bind(id.0.to_vec())
            .execute(&mut *tx)
            .await?;
    }
    follow(&mut tx, &[change], now).await?;
    let mut units = Units::default();
    units.add(&row.order.sale, &row.order.lines);
    give_back(&mut tx, &units).await?;
    tx.commit().await?;
    (row.status, row.changed_at) = (status, now);
    Ok(CancelOutcome::Done(Box::new(row)))
}

pub(super) async fn expire(
    conn: &mut MySqlConnection,
    clock: &ServerClock,
    grace: Duration,
    due: Due,
) -> Result<Expiry, Failure> {
    let mut tx = conn.begin().await?;
    let now = clock.now(&mut tx).await?;
    let rows = due_rows(&mut tx, due_by(now, grace), due).await?;
    let Some(first) = rows.first() else {
        tx.rollback().await?;
        return Ok(Expiry::Expired(0));
    };
    let named = format!("order {} of {}", hex::encode(&first.1), first.2);
    let expired = u32::try_from(rows.len()).unwrap_or(due.limit);
    match expire_rows(&mut tx, rows, now).await {
        Ok(()) => {}
        Err(failure) if failure.is_refusal() => {
            tx.rollback().await?;
            return Ok(Expiry::Refused(format!("{named}: {failure}")));
        }
        Err(failure) => return Err(failure),
    }
    crash::reach(CrashPoint::ExpiryUpdated);
    tx.commit().await?;
    crash::reach(CrashPoint::ExpiryCommitted);
    Ok(Expiry::Expired(expired))
}

type DueRow = (i64, Vec<u8>, String, String);

async fn due_rows(tx: &mut MySqlConnection, due_by: i64, due: Due) -> Result<Vec<DueRow>, Failure> {
    let rows = sqlx::query_as(
        // What another locks is being paid, cancelled or expired at this moment: it is not waited for.
        "SELECT seq, order_id, sale_id, line_items FROM orders FORCE INDEX (orders_due) \
         WHERE status = 'held' AND pay_by <= ? ORDER BY pay_by LIMIT ? OFFSET ? FOR UPDATE SKIP LOCKED",
    )
    .bind(due_by)
    .bind(i64::from(due.limit))
    .bind(i64::from(due.past))
    .fetch_all(&mut *tx)
    .await?;
    Ok(rows)
}

async fn expire_rows(tx: &mut MySqlConnection, rows: Vec<DueRow>, now: UnixMillis) -> Result<(), Failure> {
    let mut units = Units::default();
    let mut changed = Vec::with_capacity(rows.len());
    let mut numbers: Vec<i64> = rows.iter().map(|(seq, ..)| *seq).collect();
    for (_, id, sale, line_items) in rows {
        let sale = parsed("orders.sale_id", &sale)?;
        let lines = record::parse_lines(&line_items).map_err(|error| Failure::Broken(error.to_string()))?;
        units.add(&sale, &lines);
        changed.push(Changed { id: order_id(&id)?, sale, status: OrderStatus::Expired });
    }
    changed.sort_unstable_by_key(|order| order.id);
    numbers.sort_unstable();
    for numbers in numbers.chunks(CHUNK) {
        // By what the look has locked. By the ids it would be another index, in which one who pays stands and waits for the row.
        update(tx, numbers.len(), (OrderStatus::Held, OrderStatus::Expired), now, |query| {
            query.push("seq IN (");
            let mut list = query.separated(", ");
            for seq in padded(numbers) {
                list.push_bind(seq);
            }
        })
        .await?;
    }
    follow(tx, &changed, now).await?;
    give_back(tx, &units).await
}

pub(super) async fn become_paid(conn: &mut MySqlConnection, row: &OrderRow, now: UnixMillis) -> Result<(), Failure> {
    let paid = Changed { id: row.order.id, sale: row.order.sale.clone(), status: OrderStatus::Paid };
    update_status(conn, &[paid.id], (row.status, paid.status), now).await?;
    follow(conn, &[paid], now).await
}

/// Paid and refunded at once: the inventory has taken units for an expired order, and has to give them back.
pub(super) async fn take_and_give_back(
    conn: &mut MySqlConnection,
    row: &OrderRow,
    now: UnixMillis,
) -> Result<(), Failure> {
    update_status(conn, &[row.order.id], (row.status, OrderStatus::Refunded), now).await?;
    let became = |status| Changed { id: row.order.id, sale: row.order.sale.clone(), status };
    follow(conn, &[became(OrderStatus::Paid), became(OrderStatus::Refunded)], now).await
}

async fn update_status(
    conn: &mut MySqlConnection,
    ids: &[OrderId],
    change: (OrderStatus, OrderStatus),
    now: UnixMillis,
) -> Result<(), Failure> {
    update(conn, ids.len(), change, now, |query| {
        query.push("order_id IN (");
        push_ids(query, ids);
    })
    .await
}

/// The conditional update of so many orders; all of them, or something is broken, since they are locked. `of` says which, but for the
/// last bracket.
async fn update(
    conn: &mut MySqlConnection,
    orders: usize,
    (from, to): (OrderStatus, OrderStatus),
    now: UnixMillis,
    of: impl FnOnce(&mut QueryBuilder<MySql>),
) -> Result<(), Failure> {
    let mut query = QueryBuilder::<MySql>::new("UPDATE orders SET status = ");
    query.push_bind(to.as_str()).push(", changed_at = ").push_bind(now.0);
    query.push(" WHERE status = ").push_bind(from.as_str()).push(" AND ");
    of(&mut query);
    let updated = query.push(")").build().execute(conn).await?;
    if updated.rows_affected() == orders as u64 {
        return Ok(());
    }
    Err(Failure::Broken(format!("{} of {orders} orders went from {from} to {to}", updated.rows_affected())))
}

/// What stands in the same transaction as a change of status: the order's history, and the move that the inventory follows.
async fn follow(conn: &mut MySqlConnection, changed: &[Changed], now: UnixMillis) -> Result<(), Failure> {
    for changed in portions(changed) {
        let mut history = QueryBuilder::<MySql>::new("INSERT INTO order_events (order_id, status, at) ");
        history.push_values(changed, |mut row, order| {
            row.push_bind(order.id.0.to_vec()).push_bind(order.status.as_str()).push_bind(now.0);
        });
        history.build().execute(&mut *conn).await?;
        let mut moves = QueryBuilder::<MySql>::new("INSERT INTO stock_moves (order_id, kind, sale_id, at) ");
        moves.push_values(changed, |mut row, order| {
            row.push_bind(order.id.0.to_vec()).push_bind(order.status.as_str());
            row.push_bind(order.sale.as_str()).push_bind(now.0);
        });
        moves.build().execute(&mut *conn).await?;
    }
    Ok(())
}

/// The inside of `order_id IN (…)`, see [`padded`].
pub(super) fn push_ids(query: &mut QueryBuilder<MySql>, ids: &[OrderId]) {
    let mut list = query.separated(", ");
    for id in padded(ids) {
        list.push_bind(id.0.to_vec());
    }
}
