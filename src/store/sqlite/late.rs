//! Payments that came too late, when the inventory has said whether their units could be taken again.

use async_trait::async_trait;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use super::changes::{become_paid, payment, set_state, take_and_give_back};
use super::orders::by_id;
use super::recorder::take;
use crate::clock::Clock;
use crate::domain::Epoch;
use crate::store::failure::Failure;
use crate::store::guard::Units;
use crate::store::judge::{NoRoom, judge_late, outcome};
use crate::store::pool::run;
use crate::store::rows::{self, LateColumns, unsigned};
use crate::store::{Fault, Judged, LateClaim, LatePayment, LatePayments, PaymentState};

#[async_trait]
impl LatePayments for SqliteStore {
    async fn late_payments(&self, limit: u32) -> Result<Vec<LatePayment>, Fault> {
        run!(self.readers(), conn => late_payments(&mut conn, limit))
    }

    async fn settle_late(&self, event: &str, claim: LateClaim) -> Result<Judged, Fault> {
        run!(self.writer(), conn => settle(&mut conn, self.clock(), event, claim))
    }
}

async fn late_payments(conn: &mut SqliteConnection, limit: u32) -> Result<Vec<LatePayment>, Failure> {
    let select = "SELECT p.event_id, p.order_id, p.amount, p.currency, p.state, p.received_at, o.sale_id \
                  FROM payment_events p JOIN orders o ON o.order_id = p.order_id \
                  WHERE p.state = 'late' ORDER BY p.received_at, p.event_id LIMIT ?";
    rows::all(sqlx::query_as::<_, LateColumns>(select).bind(i64::from(limit)).fetch_all(conn).await?)
}

/// Once more if the guard does not hold, to give back what the inventory has taken.
async fn settle(
    conn: &mut SqliteConnection,
    clock: &dyn Clock,
    event: &str,
    claim: LateClaim,
) -> Result<Judged, Failure> {
    match try_settle(conn, clock, (event, claim), NoRoom::Fails).await {
        Err(Failure::Guard { .. }) => try_settle(conn, clock, (event, claim), NoRoom::GivesBack).await,
        settled => settled,
    }
}

async fn try_settle(
    conn: &mut SqliteConnection,
    clock: &dyn Clock,
    (event, claim): (&str, LateClaim),
    no_room: NoRoom,
) -> Result<Judged, Failure> {
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    let now = clock.now();
    let unknown = || Failure::Broken(format!("there is no late payment {event}"));
    let stored = payment(&mut tx, event).await?.ok_or_else(unknown)?;
    let row = by_id(&mut tx, stored.event.order).await?.ok_or_else(unknown)?;
    let mut state = stored.state;
    if state == PaymentState::Late {
        state = judge_late(&row, claim, epoch(&mut tx, claim).await?);
    }
    if state == stored.state {
        tx.rollback().await?;
        return Ok(Judged { outcome: outcome(state, Some(row)), is_new: false });
    }
    let was_live = row.status.is_live();
    if state == PaymentState::Applied && !was_live && no_room == NoRoom::GivesBack {
        state = PaymentState::RefundDue;
        take_and_give_back(&mut tx, &row, now).await?;
    } else if state == PaymentState::Applied {
        become_paid(&mut tx, &row, now).await?;
        if !was_live {
            take(&mut tx, &Units::of_order(&row.order)).await?;
        }
    }
    set_state(&mut tx, event, state).await?;
    let row = by_id(&mut tx, stored.event.order).await?;
    tx.commit().await?;
    Ok(Judged { outcome: outcome(state, row), is_new: true })
}

/// The current epoch of the partition in which the units were taken.
async fn epoch(conn: &mut SqliteConnection, claim: LateClaim) -> Result<Option<Epoch>, Failure> {
    let LateClaim::Taken(scope) = claim else { return Ok(None) };
    let epoch: Option<i64> = sqlx::query_scalar("SELECT epoch FROM inventory_partitions WHERE partition_id = ?")
        .bind(i64::from(scope.partition.0))
        .fetch_optional(conn)
        .await?;
    epoch.map(|epoch| unsigned("inventory_partitions.epoch", epoch).map(Epoch)).transpose()
}
