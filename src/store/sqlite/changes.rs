//! Changes of an order's status. Each is one transaction: the conditional update, the history, the stock move, the guard.
//!
//! `BEGIN IMMEDIATE` makes them one after the other, so what is read first still holds when it is written.

use std::time::Duration;

use sqlx::sqlite::{Sqlite, SqliteConnection};
use sqlx::{Connection, QueryBuilder};

use super::orders::by_id;
use crate::clock::Clock;
use crate::crash::{self, CrashPoint};
use crate::domain::{BuyerId, Money, OrderEvent, OrderId, OrderStatus, SaleId, UnixMillis, record};
use crate::store::failure::Failure;
use crate::store::guard::{RowUnits, Units};
use crate::store::judge::{check_same, judge, outcome};
use crate::store::rows::{self, PaymentColumns, due_by, millis, order_id, parsed};
use crate::store::{CancelOutcome, Due, Expiry, Judged, OrderRow, PaymentEvent, PaymentRow, PaymentState};

/// An order that became something else.
pub(super) struct Changed {
    pub(super) id: OrderId,
    pub(super) sale: SaleId,
    pub(super) status: OrderStatus,
}

pub(super) async fn pay(
    conn: &mut SqliteConnection,
    clock: &dyn Clock,
    event: &PaymentEvent,
    grace: Duration,
) -> Result<Judged, Failure> {
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    let now = clock.now();
    let order = by_id(&mut tx, event.order).await?;
    if let Some(stored) = payment(&mut tx, &event.id).await? {
        check_same(&stored, event)?;
        tx.rollback().await?;
        return Ok(Judged { outcome: outcome(stored.state, order), is_new: false });
    }
    let state = order.as_ref().map_or(PaymentState::Unmatched, |row| judge(row, event.paid, now, grace));
    insert_payment(&mut tx, event, state, (now, grace)).await?;
    if let (PaymentState::Applied, Some(row)) = (state, &order) {
        crash::reach(CrashPoint::CallbackInserted);
        become_paid(&mut tx, row, now).await?;
        crash::reach(CrashPoint::CallbackUpdated);
    }
    let order = by_id(&mut tx, event.order).await?;
    tx.commit().await?;
    crash::reach(CrashPoint::CallbackCommitted);
    Ok(Judged { outcome: outcome(state, order), is_new: true })
}

/// Applies the payments that waited for these orders, which are rows since a moment ago and held. What counts is when a payment
/// came: it is not the payer's fault that the order was still under way. Returns how many of them are to be given back.
pub(super) async fn apply_waiting(
    conn: &mut SqliteConnection,
    orders: &[OrderId],
    now: UnixMillis,
) -> Result<u32, Failure> {
    #[derive(sqlx::FromRow)]
    struct Waiting {
        event_id: String,
        order_id: Vec<u8>,
        amount: i64,
        currency: String,
        grace: i64,
        received_at: i64,
    }
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT event_id, order_id, amount, currency, grace, received_at FROM payment_events \
         WHERE state = 'unmatched' AND order_id IN (",
    );
    push_ids(&mut query, orders);
    query.push(") ORDER BY received_at, event_id");
    let waiting: Vec<Waiting> = query.build_query_as().persistent(false).fetch_all(&mut *conn).await?;
    let mut refunds_due = 0;
    for event in waiting {
        let id = order_id(&event.order_id)?;
        let row = by_id(conn, id).await?.ok_or_else(|| Failure::Broken(format!("order {id} is gone")))?;
        let paid = Money { amount: event.amount, currency: parsed("payment_events.currency", &event.currency)? };
        let grace = Duration::from_millis(rows::unsigned("payment_events.grace", event.grace)?);
        let state = judge(&row, paid, UnixMillis(event.received_at), grace);
        set_state(conn, &event.event_id, state).await?;
        refunds_due += u32::from(state.is_due_back());
        if state == PaymentState::Applied {
            become_paid(conn, &row, now).await?;
        }
    }
    Ok(refunds_due)
}

/// A cancel or a refund.
pub(super) async fn end(
    conn: &mut SqliteConnection,
    clock: &dyn Clock,
    (id, buyer): (OrderId, Option<&BuyerId>),
    event: OrderEvent,
) -> Result<CancelOutcome, Failure> {
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    let now = clock.now();
    let found = by_id(&mut tx, id).await?.filter(|row| buyer.is_none_or(|buyer| row.order.buyer == *buyer));
    let Some(mut row) = found else {
        tx.rollback().await?;
        return Ok(CancelOutcome::NotFound);
    };
    let Some(status) = row.status.after(event) else {
        tx.rollback().await?;
        return Ok(CancelOutcome::NotPossible(Box::new(row)));
    };
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
    conn: &mut SqliteConnection,
    clock: &dyn Clock,
    grace: Duration,
    due: Due,
) -> Result<Expiry, Failure> {
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    let now = clock.now();
    let rows = due_rows(&mut tx, due_by(now, grace), due).await?;
    let Some(first) = rows.first() else {
        tx.rollback().await?;
        return Ok(Expiry::Expired(0));
    };
    let named = format!("order {} of {}", hex::encode(&first.0), first.1);
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

type DueRow = (Vec<u8>, String, String);

async fn due_rows(tx: &mut SqliteConnection, due_by: i64, due: Due) -> Result<Vec<DueRow>, Failure> {
    let rows = sqlx::query_as(
        "SELECT order_id, sale_id, line_items FROM orders WHERE status = 'held' AND pay_by <= ? ORDER BY pay_by LIMIT ? OFFSET ?",
    )
    .bind(due_by)
    .bind(i64::from(due.limit))
    .bind(i64::from(due.past))
    .fetch_all(&mut *tx)
    .await?;
    Ok(rows)
}

async fn expire_rows(tx: &mut SqliteConnection, rows: Vec<DueRow>, now: UnixMillis) -> Result<(), Failure> {
    let mut units = Units::default();
    let mut changed = Vec::with_capacity(rows.len());
    for (id, sale, line_items) in rows {
        let sale = parsed("orders.sale_id", &sale)?;
        let lines = record::parse_lines(&line_items).map_err(|error| Failure::Broken(error.to_string()))?;
        units.add(&sale, &lines);
        changed.push(Changed { id: order_id(&id)?, sale, status: OrderStatus::Expired });
    }
    let ids: Vec<OrderId> = changed.iter().map(|order| order.id).collect();
    for ids in ids.chunks(super::CHUNK) {
        update_status(tx, ids, (OrderStatus::Held, OrderStatus::Expired), now).await?;
    }
    follow(tx, &changed, now).await?;
    give_back(tx, &units).await
}

pub(super) async fn become_paid(conn: &mut SqliteConnection, row: &OrderRow, now: UnixMillis) -> Result<(), Failure> {
    let paid = Changed { id: row.order.id, sale: row.order.sale.clone(), status: OrderStatus::Paid };
    update_status(conn, &[paid.id], (row.status, paid.status), now).await?;
    follow(conn, &[paid], now).await
}

/// Paid and refunded at once: the inventory has taken units for an expired order, and has to give them back.
pub(super) async fn take_and_give_back(
    conn: &mut SqliteConnection,
    row: &OrderRow,
    now: UnixMillis,
) -> Result<(), Failure> {
    update_status(conn, &[row.order.id], (row.status, OrderStatus::Refunded), now).await?;
    let became = |status| Changed { id: row.order.id, sale: row.order.sale.clone(), status };
    follow(conn, &[became(OrderStatus::Paid), became(OrderStatus::Refunded)], now).await
}

/// The conditional update; all of them, or something is broken, since nobody else writes in between.
async fn update_status(
    conn: &mut SqliteConnection,
    ids: &[OrderId],
    (from, to): (OrderStatus, OrderStatus),
    now: UnixMillis,
) -> Result<(), Failure> {
    let mut query = QueryBuilder::<Sqlite>::new("UPDATE orders SET status = ");
    query.push_bind(to.as_str()).push(", changed_at = ").push_bind(now.0);
    query.push(" WHERE status = ").push_bind(from.as_str()).push(" AND order_id IN (");
    push_ids(&mut query, ids);
    let updated = query.push(")").build().persistent(ids.len() == 1).execute(conn).await?;
    if updated.rows_affected() == ids.len() as u64 {
        return Ok(());
    }
    Err(Failure::Broken(format!("{} of {} orders went from {from} to {to}", updated.rows_affected(), ids.len())))
}

/// What stands in the same transaction as a change of status: the order's history, and the move that the inventory follows.
async fn follow(conn: &mut SqliteConnection, changed: &[Changed], now: UnixMillis) -> Result<(), Failure> {
    for changed in changed.chunks(super::CHUNK) {
        let persistent = changed.len() == 1;
        let mut history = QueryBuilder::<Sqlite>::new("INSERT INTO order_events (order_id, status, at) ");
        history.push_values(changed, |mut row, order| {
            row.push_bind(order.id.0.to_vec()).push_bind(order.status.as_str()).push_bind(now.0);
        });
        history.build().persistent(persistent).execute(&mut *conn).await?;
        let mut moves = QueryBuilder::<Sqlite>::new("INSERT INTO stock_moves (order_id, kind, sale_id, at) ");
        moves.push_values(changed, |mut row, order| {
            row.push_bind(order.id.0.to_vec()).push_bind(order.status.as_str());
            row.push_bind(order.sale.as_str()).push_bind(now.0);
        });
        moves.build().persistent(persistent).execute(&mut *conn).await?;
    }
    Ok(())
}

async fn give_back(conn: &mut SqliteConnection, units: &Units) -> Result<(), Failure> {
    for RowUnits { sale, pool, leg, units } in units.rows() {
        let given = sqlx::query("UPDATE pool_legs SET live = live - ? WHERE sale_id = ? AND pool_id = ? AND leg = ?")
            .bind(i64::from(units))
            .bind(sale.as_str())
            .bind(pool.as_str())
            .bind(i64::from(leg))
            .execute(&mut *conn)
            .await?;
        if given.rows_affected() != 1 {
            return Err(Failure::Broken(format!(
                "the guard of {sale}/{pool} has no leg {leg}, of which units come back"
            )));
        }
    }
    Ok(())
}

pub(super) async fn payment(conn: &mut SqliteConnection, id: &str) -> Result<Option<PaymentRow>, Failure> {
    let select =
        "SELECT event_id, order_id, amount, currency, state, received_at FROM payment_events WHERE event_id = ?";
    let row: Option<PaymentColumns> = sqlx::query_as(select).bind(id).fetch_optional(conn).await?;
    row.map(PaymentRow::try_from).transpose()
}

pub(super) async fn set_state(conn: &mut SqliteConnection, event: &str, state: PaymentState) -> Result<(), Failure> {
    let update = "UPDATE payment_events SET state = ? WHERE event_id = ?";
    sqlx::query(update).bind(state.as_str()).bind(event).execute(conn).await?;
    Ok(())
}

async fn insert_payment(
    conn: &mut SqliteConnection,
    event: &PaymentEvent,
    state: PaymentState,
    (at, grace): (UnixMillis, Duration),
) -> Result<(), Failure> {
    let insert = "INSERT INTO payment_events (event_id, order_id, amount, currency, state, grace, received_at) \
                  VALUES (?, ?, ?, ?, ?, ?, ?)";
    sqlx::query(insert)
        .bind(&event.id)
        .bind(event.order.0.to_vec())
        .bind(event.paid.amount)
        .bind(event.paid.currency.as_str())
        .bind(state.as_str())
        .bind(millis(grace))
        .bind(at.0)
        .execute(conn)
        .await?;
    Ok(())
}

/// The inside of `order_id IN (…)`.
pub(super) fn push_ids(query: &mut QueryBuilder<Sqlite>, ids: &[OrderId]) {
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(id.0.to_vec());
    }
}
