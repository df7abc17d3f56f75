//! What a payment does to an order, and what the payer hears.

use std::time::Duration;

use super::failure::Failure;
use crate::domain::{Money, OrderEvent, UnixMillis};
use crate::store::{OrderRow, PaymentEvent, PaymentOutcome, PaymentRow, PaymentState};

/// Judges a payment that came at `at` for an order that stands as it does now. Only `Applied` changes the order.
pub(super) fn judge(row: &OrderRow, paid: Money, at: UnixMillis, grace: Duration) -> PaymentState {
    if row.order.price != paid {
        PaymentState::Mismatch
    } else if row.status.after(OrderEvent::Pay).is_some() && at < row.order.pay_by.plus(grace) {
        PaymentState::Applied
    } else {
        PaymentState::RefundDue
    }
}

/// What is said to a payment in this state, with the order as it is now.
pub(super) fn outcome(state: PaymentState, row: Option<OrderRow>) -> PaymentOutcome {
    match (state, row) {
        (PaymentState::Applied, Some(row)) => PaymentOutcome::Paid(Box::new(row)),
        (PaymentState::RefundDue, Some(row)) => PaymentOutcome::RefundDue(Box::new(row)),
        (PaymentState::Mismatch, Some(row)) => PaymentOutcome::Mismatch { due: row.order.price },
        (PaymentState::Unmatched, _) | (_, None) => PaymentOutcome::Unmatched,
    }
}

/// The same event id with another order or amount is no repetition, and no outcome of ours would be true for both.
pub(super) fn check_same(stored: &PaymentRow, event: &PaymentEvent) -> Result<(), Failure> {
    if stored.event == *event {
        return Ok(());
    }
    Err(Failure::Broken(format!("payment event {} came before, for another order or amount", event.id)))
}
