//! Rows as both dialects give them, and the one place where they become domain types.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::FromRow;

use super::failure::Failure;
use crate::domain::{
    Epoch, Fingerprint, Money, Order, OrderId, OrderStatus, Partition, Sale, SaleDocument, SaleId, Scope, UnixMillis,
    record,
};
use crate::store::{
    Change, DeadLetter, LatePayment, OrderRow, PartitionRow, PartitionState, PaymentEvent, PaymentRow, PaymentState,
    StaleOrder, StoredSale,
};

/// The columns of [`OrderColumns`]. Named and not `*`, so that a column that a later program adds does not confuse this one.
macro_rules! order_columns {
    () => {
        "order_id, sale_id, buyer_id, partition_id, epoch, fingerprint, status, amount, currency, granted_at, pay_by, \
         recorded_at, changed_at, line_items"
    };
}
pub(super) use order_columns;

#[derive(FromRow)]
pub(super) struct OrderColumns {
    order_id: Vec<u8>,
    sale_id: String,
    buyer_id: String,
    partition_id: i64,
    epoch: i64,
    fingerprint: i64,
    status: String,
    amount: i64,
    currency: String,
    granted_at: i64,
    pay_by: i64,
    recorded_at: i64,
    changed_at: i64,
    line_items: String,
}

impl TryFrom<OrderColumns> for OrderRow {
    type Error = Failure;

    fn try_from(row: OrderColumns) -> Result<Self, Failure> {
        Ok(Self {
            order: Order {
                id: order_id(&row.order_id)?,
                fingerprint: Fingerprint(row.fingerprint.cast_unsigned()),
                sale: parsed("orders.sale_id", &row.sale_id)?,
                buyer: parsed("orders.buyer_id", &row.buyer_id)?,
                granted_at: UnixMillis(row.granted_at),
                pay_by: UnixMillis(row.pay_by),
                price: Money { amount: row.amount, currency: parsed("orders.currency", &row.currency)? },
                lines: record::parse_lines(&row.line_items).map_err(|error| Failure::Broken(error.to_string()))?,
            },
            status: parsed("orders.status", &row.status)?,
            scope: scope(row.partition_id, row.epoch)?,
            recorded_at: UnixMillis(row.recorded_at),
            changed_at: UnixMillis(row.changed_at),
        })
    }
}

#[derive(FromRow)]
pub(super) struct PaymentColumns {
    event_id: String,
    order_id: Vec<u8>,
    amount: i64,
    currency: String,
    state: String,
    received_at: i64,
}

impl TryFrom<PaymentColumns> for PaymentRow {
    type Error = Failure;

    fn try_from(row: PaymentColumns) -> Result<Self, Failure> {
        let paid = Money { amount: row.amount, currency: parsed("payment_events.currency", &row.currency)? };
        let state = PaymentState::ALL.into_iter().find(|state| state.as_str() == row.state);
        Ok(Self {
            event: PaymentEvent { id: row.event_id, order: order_id(&row.order_id)?, paid },
            state: state.ok_or_else(|| odd("payment_events.state", &row.state))?,
            received_at: UnixMillis(row.received_at),
        })
    }
}

#[derive(FromRow)]
pub(super) struct LateColumns {
    #[sqlx(flatten)]
    payment: PaymentColumns,
    sale_id: String,
}

impl TryFrom<LateColumns> for LatePayment {
    type Error = Failure;

    fn try_from(row: LateColumns) -> Result<Self, Failure> {
        let PaymentRow { event, .. } = row.payment.try_into()?;
        Ok(Self { event, sale: parsed("orders.sale_id", &row.sale_id)? })
    }
}

#[derive(FromRow)]
pub(super) struct StaleColumns {
    partition_id: i64,
    epoch: i64,
    record: String,
    kept_at: i64,
    state: String,
    reason: String,
}

impl TryFrom<StaleColumns> for StaleOrder {
    type Error = Failure;

    fn try_from(row: StaleColumns) -> Result<Self, Failure> {
        Ok(Self {
            order: record::parse(&row.record).map_err(|error| Failure::Broken(error.to_string()))?,
            scope: scope(row.partition_id, row.epoch)?,
            kept_at: UnixMillis(row.kept_at),
            state: parsed("stale_orders.state", &row.state)?,
            reason: row.reason,
        })
    }
}

#[derive(FromRow)]
pub(super) struct DeadLetterColumns {
    id: i64,
    lane: String,
    reason: String,
    kept_at: i64,
    bytes: i64,
    body: Vec<u8>,
}

impl TryFrom<DeadLetterColumns> for DeadLetter {
    type Error = Failure;

    fn try_from(row: DeadLetterColumns) -> Result<Self, Failure> {
        Ok(Self {
            id: unsigned("dead_letters.id", row.id)?,
            lane: row.lane,
            reason: row.reason,
            kept_at: UnixMillis(row.kept_at),
            bytes: unsigned("the length of dead_letters.body", row.bytes)?,
            body: row.body,
        })
    }
}

#[derive(FromRow)]
pub(super) struct SaleColumns {
    sale_id: String,
    applied_version: i64,
    definition: String,
}

impl TryFrom<SaleColumns> for StoredSale {
    type Error = Failure;

    fn try_from(row: SaleColumns) -> Result<Self, Failure> {
        let id: SaleId = parsed("sales.sale_id", &row.sale_id)?;
        let document: SaleDocument = serde_json::from_str(&row.definition)
            .map_err(|error| odd("sales.definition", &format!("{id}: {error}")))?;
        let sale =
            document.into_sale(id.clone()).map_err(|wrong| odd("sales.definition", &format!("{id}: {wrong:?}")))?;
        Ok(Self { sale, applied_version: unsigned("sales.applied_version", row.applied_version)? })
    }
}

/// A sale's definition as it is stored.
pub(super) fn definition(sale: &Sale) -> Result<String, Failure> {
    serde_json::to_string(&SaleDocument::from(sale)).map_err(|error| Failure::Broken(error.to_string()))
}

#[derive(FromRow)]
pub(super) struct PartitionColumns {
    partition_id: i64,
    epoch: i64,
    state: String,
    min_epoch: i64,
    identity: String,
}

impl TryFrom<PartitionColumns> for PartitionRow {
    type Error = Failure;

    fn try_from(row: PartitionColumns) -> Result<Self, Failure> {
        let scope = scope(row.partition_id, row.epoch)?;
        let state = match row.state.as_str() {
            "fenced" => PartitionState::Fenced,
            "open" => PartitionState::Open,
            other => return Err(odd("inventory_partitions.state", other)),
        };
        let min_epoch = Epoch(unsigned("inventory_partitions.min_epoch", row.min_epoch)?);
        Ok(Self { partition: scope.partition, epoch: scope.epoch, state, min_epoch, identity: row.identity })
    }
}

#[derive(FromRow)]
pub(super) struct ChangeColumns {
    at: i64,
    who: String,
    what: String,
    subject: String,
    was: String,
    became: String,
}

impl From<ChangeColumns> for Change {
    fn from(row: ChangeColumns) -> Self {
        Self {
            at: UnixMillis(row.at),
            who: row.who,
            what: row.what,
            subject: row.subject,
            before: row.was,
            after: row.became,
        }
    }
}

/// A row of the guard, of one sale or of one of its pools.
#[derive(FromRow)]
pub(super) struct LegColumns {
    pub(super) pool_id: String,
    pub(super) leg: i64,
    pub(super) capacity: i64,
    pub(super) live: i64,
}

/// An order's history, the oldest first.
pub(super) fn history(rows: Vec<(String, i64)>) -> Result<Vec<(UnixMillis, OrderStatus)>, Failure> {
    let parse = |(text, at): (String, i64)| Ok((UnixMillis(at), status(&text)?));
    let mut history: Vec<_> = rows.into_iter().map(parse).collect::<Result<_, Failure>>()?;
    // Within one millisecond an order's statuses follow each other as they are declared.
    history.sort_unstable();
    Ok(history)
}

/// The instant before or at which an order's `pay_by` must lie so that it is over by `now`.
pub(super) fn due_by(now: UnixMillis, grace: Duration) -> i64 {
    now.0.saturating_sub(millis(grace))
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Turns all rows, or names the first that cannot be.
pub(super) fn all<R, T: TryFrom<R, Error = Failure>>(rows: Vec<R>) -> Result<Vec<T>, Failure> {
    rows.into_iter().map(T::try_from).collect()
}

pub(super) fn order_id(bytes: &[u8]) -> Result<OrderId, Failure> {
    bytes.try_into().map(OrderId).map_err(|_| odd("order_id", &hex::encode(bytes)))
}

pub(super) fn status(text: &str) -> Result<OrderStatus, Failure> {
    parsed("status", text)
}

pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(column: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| odd(column, text))
}

/// A number that is never below zero, in the width that it has outside.
pub(super) fn unsigned<T: TryFrom<i64>>(column: &str, number: i64) -> Result<T, Failure> {
    T::try_from(number).map_err(|_| odd(column, &number.to_string()))
}

/// A number of ours in the width that the store has for it; more than that there never is.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn scope(partition: i64, epoch: i64) -> Result<Scope, Failure> {
    Ok(Scope { partition: Partition(unsigned("partition_id", partition)?), epoch: Epoch(unsigned("epoch", epoch)?) })
}

fn odd(column: &str, value: &str) -> Failure {
    Failure::Broken(format!("{column} holds {:?}, which cannot be", value.chars().take(200).collect::<String>()))
}
