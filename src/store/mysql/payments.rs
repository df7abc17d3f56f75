//! Payments: of an order that is there, and of one that is still under way.
//!
//! A payment and the recording of its order may run at the same moment, and neither sees what the other has not committed. So each
//! writes first and then looks for the other with a lock: the payment writes its event and looks for the order, the recording
//! writes the order and looks for events. A locked look waits for what is not committed, so at least one of them sees the other;
//! if both wait, the server lets one win, and the other begins again.

use std::time::Duration;

use sqlx::mysql::{MySql, MySqlConnection};
use sqlx::{Connection, QueryBuilder};

use super::changes::{become_paid, push_ids};
use super::orders::{by_id, locked};
use super::{ServerClock, inserted};
use crate::crash::{self, CrashPoint};
use crate::domain::{Money, OrderId, OrderStatus, UnixMillis};
use crate::store::failure::Failure;
use crate::store::judge::{check_same, judge, outcome};
use crate::store::rows::{self, PaymentColumns, millis, order_id, parsed};
use crate::store::{Judged, OrderRow, PaymentEvent, PaymentRow, PaymentState};

pub(super) async fn pay(
    conn: &mut MySqlConnection,
    clock: &ServerClock,
    event: &PaymentEvent,
    grace: Duration,
) -> Result<Judged, Failure> {
    let mut tx = conn.begin().await?;
    let mut order = locked(&mut tx, event.order).await?;
    if let Some(stored) = payment(&mut tx, &event.id).await? {
        check_same(&stored, event)?;
        tx.rollback().await?;
        return Ok(Judged { outcome: outcome(stored.state, order), is_new: false });
    }
    let now = clock.now(&mut tx).await?;
    let mut state = order.as_ref().map_or(PaymentState::Unmatched, |row| judge(row, event.paid, now, grace));
    if !insert(&mut tx, event, state, (now, grace)).await? {
        tx.rollback().await?;
        return repeated(conn, event).await;
    }
    if order.is_none() {
        order = locked(&mut tx, event.order).await?;
        if let Some(row) = &order {
            state = judge(row, event.paid, now, grace);
            set_state(&mut tx, &event.id, state).await?;
        }
    }
    if let (PaymentState::Applied, Some(row)) = (state, &mut order) {
        crash::reach(CrashPoint::CallbackInserted);
        pay_order(&mut tx, row, now).await?;
        crash::reach(CrashPoint::CallbackUpdated);
    }
    tx.commit().await?;
    crash::reach(CrashPoint::CallbackCommitted);
    Ok(Judged { outcome: outcome(state, order), is_new: true })
}

/// Applies the payments that waited for these orders, which are rows since a moment ago and held. What counts is when a payment
/// came: it is not the payer's fault that the order was still under way. Returns how many of them are to be given back.
pub(super) async fn apply_waiting(
    conn: &mut MySqlConnection,
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
    let mut query = QueryBuilder::<MySql>::new(
        "SELECT event_id, order_id, amount, currency, grace, received_at \
         FROM payment_events FORCE INDEX (payment_events_of_order) WHERE state = 'unmatched' AND order_id IN (",
    );
    push_ids(&mut query, orders);
    query.push(") ORDER BY received_at, event_id FOR UPDATE");
    let waiting: Vec<Waiting> = query.build_query_as().fetch_all(&mut *conn).await?;
    let mut refunds_due = 0;
    for event in waiting {
        let id = order_id(&event.order_id)?;
        let mut row = by_id(conn, id).await?.ok_or_else(|| Failure::Broken(format!("order {id} is gone")))?;
        let paid = Money { amount: event.amount, currency: parsed("payment_events.currency", &event.currency)? };
        let grace = Duration::from_millis(rows::unsigned("payment_events.grace", event.grace)?);
        let state = judge(&row, paid, UnixMillis(event.received_at), grace);
        set_state(conn, &event.event_id, state).await?;
        refunds_due += u32::from(state.is_due_back());
        if state == PaymentState::Applied {
            pay_order(conn, &mut row, now).await?;
        }
    }
    Ok(refunds_due)
}

pub(super) async fn pay_order(conn: &mut MySqlConnection, row: &mut OrderRow, now: UnixMillis) -> Result<(), Failure> {
    become_paid(conn, row, now).await?;
    (row.status, row.changed_at) = (OrderStatus::Paid, now);
    Ok(())
}

/// The same event at the same moment, for an order that is not there yet: the other one was first.
async fn repeated(conn: &mut MySqlConnection, event: &PaymentEvent) -> Result<Judged, Failure> {
    let stored = payment(conn, &event.id).await?;
    let stored = stored.ok_or_else(|| Failure::Broken(format!("payment event {} came and went", event.id)))?;
    check_same(&stored, event)?;
    Ok(Judged { outcome: outcome(stored.state, by_id(conn, event.order).await?), is_new: false })
}

pub(super) async fn payment(conn: &mut MySqlConnection, id: &str) -> Result<Option<PaymentRow>, Failure> {
    let select =
        "SELECT event_id, order_id, amount, currency, state, received_at FROM payment_events WHERE event_id = ?";
    let row: Option<PaymentColumns> = sqlx::query_as(select).bind(id).fetch_optional(conn).await?;
    row.map(PaymentRow::try_from).transpose()
}

async fn insert(
    conn: &mut MySqlConnection,
    event: &PaymentEvent,
    state: PaymentState,
    (at, grace): (UnixMillis, Duration),
) -> Result<bool, Failure> {
    let insert = "INSERT INTO payment_events (event_id, order_id, amount, currency, state, grace, received_at) \
                  VALUES (?, ?, ?, ?, ?, ?, ?)";
    let insert = sqlx::query(insert)
        .bind(&event.id)
        .bind(event.order.0.to_vec())
        .bind(event.paid.amount)
        .bind(event.paid.currency.as_str())
        .bind(state.as_str())
        .bind(millis(grace))
        .bind(at.0);
    inserted(insert.execute(conn).await)
}

pub(super) async fn set_state(conn: &mut MySqlConnection, event: &str, state: PaymentState) -> Result<(), Failure> {
    let update = "UPDATE payment_events SET state = ? WHERE event_id = ?";
    sqlx::query(update).bind(state.as_str()).bind(event).execute(conn).await?;
    Ok(())
}
