//! What a payment does to an order, and what the payer hears.

use std::time::Duration;

use super::failure::Failure;
use crate::domain::{Epoch, Money, OrderEvent, UnixMillis};
use crate::store::{LateClaim, OrderRow, PaymentEvent, PaymentOutcome, PaymentRow, PaymentState};

/// Judges a payment that came at `at` for an order that stands as it does now. Only `Applied` changes the order.
pub(super) fn judge(row: &OrderRow, paid: Money, at: UnixMillis, grace: Duration) -> PaymentState {
    if row.order.price != paid {
        PaymentState::Mismatch
    } else if row.status.after(OrderEvent::Pay).is_some() && at < row.order.pay_by.plus(grace) {
        PaymentState::Applied
    } else if row.status.after(OrderEvent::PayLate).is_some() {
        PaymentState::Late
    } else {
        PaymentState::RefundDue
    }
}

/// Judges a late payment again, once the inventory was asked, for an order that stands as it does now. `epoch` is the partition's
/// current one. Only `Applied` changes the order; `Late` means that what the inventory said is no longer true.
pub(super) fn judge_late(row: &OrderRow, claim: LateClaim, epoch: Option<Epoch>) -> PaymentState {
    match claim {
        _ if row.status.after(OrderEvent::PayLate).is_none() => PaymentState::RefundDue,
        LateClaim::Refused => PaymentState::RefundDue,
        LateClaim::Taken(scope) if epoch == Some(scope.epoch) => PaymentState::Applied,
        LateClaim::Taken(_) => PaymentState::Late,
    }
}

/// What follows where the guard has no room for units that the inventory has taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// Nothing is changed.
    Fails,
    /// The order is paid and refunded at once, which has the inventory give them back.
    GivesBack,
}

/// What is said to a payment in this state, with the order as it is now.
pub(super) fn outcome(state: PaymentState, row: Option<OrderRow>) -> PaymentOutcome {
    match (state, row) {
        (PaymentState::Applied, Some(row)) => PaymentOutcome::Paid(Box::new(row)),
        (PaymentState::RefundDue, Some(row)) => PaymentOutcome::RefundDue(Box::new(row)),
        (PaymentState::Late, Some(row)) => PaymentOutcome::Late(Box::new(row)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Epoch, Fingerprint, Order, OrderId, OrderStatus, Partition, Scope};

    const GRACE: Duration = Duration::from_millis(5);

    fn row(status: OrderStatus) -> OrderRow {
        let order = Order {
            id: OrderId([1; 16]),
            fingerprint: Fingerprint(1),
            sale: "s".parse().unwrap(),
            buyer: "b".parse().unwrap(),
            granted_at: UnixMillis(0),
            pay_by: UnixMillis(100),
            price: price(),
            lines: Vec::new(),
        };
        let scope = Scope { partition: Partition(0), epoch: Epoch(1) };
        OrderRow { order, status, scope, recorded_at: UnixMillis(0), changed_at: UnixMillis(0) }
    }

    fn price() -> Money {
        Money { amount: 100, currency: "CNY".parse().unwrap() }
    }

    #[test]
    fn the_last_millisecond_of_the_grace_is_in_time_and_the_next_is_not() {
        let at = |at| judge(&row(OrderStatus::Held), price(), UnixMillis(at), GRACE);
        assert_eq!(at(104), PaymentState::Applied);
        assert_eq!(at(105), PaymentState::Late);
    }

    #[test]
    fn only_a_held_order_is_paid() {
        for status in OrderStatus::ALL {
            let applied = judge(&row(status), price(), UnixMillis(0), GRACE) == PaymentState::Applied;
            assert_eq!(applied, status == OrderStatus::Held, "{status}");
        }
    }

    #[test]
    fn a_payment_is_late_only_for_an_order_that_may_still_be_paid() {
        for status in OrderStatus::ALL {
            let state = judge(&row(status), price(), UnixMillis(105), GRACE);
            let may_be_paid = matches!(status, OrderStatus::Held | OrderStatus::Expired);
            let expected = if may_be_paid { PaymentState::Late } else { PaymentState::RefundDue };
            assert_eq!(state, expected, "{status}");
        }
    }

    #[test]
    fn what_was_taken_counts_in_the_epoch_in_which_it_was() {
        let taken = LateClaim::Taken(Scope { partition: Partition(0), epoch: Epoch(1) });
        let expired = row(OrderStatus::Expired);
        assert_eq!(judge_late(&expired, taken, Some(Epoch(1))), PaymentState::Applied);
        assert_eq!(judge_late(&expired, taken, Some(Epoch(2))), PaymentState::Late);
        assert_eq!(judge_late(&expired, LateClaim::Refused, None), PaymentState::RefundDue);
        for over in [OrderStatus::Paid, OrderStatus::Cancelled, OrderStatus::Refunded] {
            assert_eq!(judge_late(&row(over), taken, Some(Epoch(2))), PaymentState::RefundDue, "{over}");
        }
    }

    #[test]
    fn another_amount_is_a_mismatch_even_where_the_order_is_over() {
        let paid = Money { amount: 99, ..price() };
        assert_eq!(judge(&row(OrderStatus::Expired), paid, UnixMillis(0), GRACE), PaymentState::Mismatch);
    }
}
