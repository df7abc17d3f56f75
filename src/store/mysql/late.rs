//! Payments that came too late, when the inventory has said whether their units could be taken again.

use async_trait::async_trait;
use sqlx::Connection;
use sqlx::mysql::MySqlConnection;

use super::changes::take_and_give_back;
use super::guard::{Guard, take_units};
use super::orders::locked;
use super::payments::{pay_order, payment, set_state};
use super::{MySqlStore, ServerClock};
use crate::domain::{Epoch, OrderStatus};
use crate::store::failure::Failure;
use crate::store::guard::Units;
use crate::store::judge::{NoRoom, judge_late, outcome};
use crate::store::pool::run;
use crate::store::rows::{self, LateColumns, unsigned};
use crate::store::{Fault, Judged, LateClaim, LatePayment, LatePayments, PaymentState};

#[async_trait]
impl LatePayments for MySqlStore {
    async fn late_payments(&self, limit: u32) -> Result<Vec<LatePayment>, Fault> {
        run!(self.primary, conn => late_payments(&mut conn, limit))
    }

    async fn settle_late(&self, event: &str, claim: LateClaim) -> Result<Judged, Fault> {
        run!(self.primary, conn => settle(&mut conn, &self.clock, event, claim))
    }
}

async fn late_payments(conn: &mut MySqlConnection, limit: u32) -> Result<Vec<LatePayment>, Failure> {
    let select = "SELECT p.event_id, p.order_id, p.amount, p.currency, p.state, p.received_at, o.sale_id \
                  FROM payment_events p JOIN orders o ON o.order_id = p.order_id \
                  WHERE p.state = 'late' ORDER BY p.received_at, p.event_id LIMIT ?";
    rows::all(sqlx::query_as::<_, LateColumns>(select).bind(i64::from(limit)).fetch_all(conn).await?)
}

/// Once more if the guard does not hold, to give back what the inventory has taken.
async fn settle(
    conn: &mut MySqlConnection,
    clock: &ServerClock,
    event: &str,
    claim: LateClaim,
) -> Result<Judged, Failure> {
    let mut tx = conn.begin().await?;
    match try_settle(&mut tx, clock, (event, claim), NoRoom::Fails).await {
        Ok(settled) => {
            tx.commit().await?;
            return Ok(settled);
        }
        Err(Failure::Guard { .. }) => tx.rollback().await?,
        Err(failure) => return Err(failure),
    }
    let mut tx = conn.begin().await?;
    let settled = try_settle(&mut tx, clock, (event, claim), NoRoom::GivesBack).await?;
    tx.commit().await?;
    Ok(settled)
}

/// The partition is locked before the order, as the recording of batches does it, and against the recovery that would move it.
async fn try_settle(
    conn: &mut MySqlConnection,
    clock: &ServerClock,
    (event, claim): (&str, LateClaim),
    no_room: NoRoom,
) -> Result<Judged, Failure> {
    let unknown = || Failure::Broken(format!("there is no late payment {event}"));
    let order = payment(conn, event).await?.ok_or_else(unknown)?.event.order;
    let epoch = epoch(conn, claim).await?;
    let mut row = locked(conn, order).await?.ok_or_else(unknown)?;
    // Whoever changes it locks its order first.
    let stored = payment(conn, event).await?.ok_or_else(unknown)?.state;
    let mut state = stored;
    if state == PaymentState::Late {
        state = judge_late(&row, claim, epoch);
    }
    if state == stored {
        return Ok(Judged { outcome: outcome(state, Some(row)), is_new: false });
    }
    let was_live = row.status.is_live();
    let gives_back = state == PaymentState::Applied && !was_live && no_room == NoRoom::GivesBack;
    if gives_back {
        state = PaymentState::RefundDue;
    }
    let now = clock.now(conn).await?;
    set_state(conn, event, state).await?;
    if gives_back {
        take_and_give_back(conn, &row, now).await?;
        (row.status, row.changed_at) = (OrderStatus::Refunded, now);
    } else if state == PaymentState::Applied {
        pay_order(conn, &mut row, now).await?;
        if !was_live {
            take_units(conn, &Units::of_order(&row.order), Guard::Together).await?;
        }
    }
    Ok(Judged { outcome: outcome(state, Some(row)), is_new: true })
}

/// The current epoch of the partition in which the units were taken.
async fn epoch(conn: &mut MySqlConnection, claim: LateClaim) -> Result<Option<Epoch>, Failure> {
    let LateClaim::Taken(scope) = claim else { return Ok(None) };
    let select = "SELECT epoch FROM inventory_partitions WHERE partition_id = ? LOCK IN SHARE MODE";
    let epoch: Option<i64> = sqlx::query_scalar(select).bind(i64::from(scope.partition.0)).fetch_optional(conn).await?;
    epoch.map(|epoch| unsigned("inventory_partitions.epoch", epoch).map(Epoch)).transpose()
}
