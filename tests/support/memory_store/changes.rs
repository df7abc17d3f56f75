//! What payment, cancel, refund and expiry do to the tables.

use std::sync::Arc;
use std::time::Duration;

use rushgate::domain::{BuyerId, Money, OrderEvent, OrderId, OrderStatus, UnixMillis};
use rushgate::store::{
    CancelOutcome, Due, Fault, Judged, OrderRow, PaymentEvent, PaymentOutcome, PaymentRow, PaymentState,
};

use super::{Payment, State, broken, units};

/// A payment that came at `at`, for an order that stands like this.
fn judge(row: &OrderRow, paid: Money, at: UnixMillis, grace: Duration) -> PaymentState {
    if row.order.price != paid {
        return PaymentState::Mismatch;
    }
    match row.status {
        OrderStatus::Held if at < row.order.pay_by.plus(grace) => PaymentState::Applied,
        OrderStatus::Held | OrderStatus::Expired => PaymentState::Late,
        OrderStatus::Paid | OrderStatus::Cancelled | OrderStatus::Refunded => PaymentState::RefundDue,
    }
}

impl State {
    pub(super) fn pay(&mut self, event: &PaymentEvent, grace: Duration, now: UnixMillis) -> Result<Judged, Fault> {
        let is_new = !self.payments.contains_key(&event.id);
        let state = match self.payments.get(&event.id) {
            Some(stored) if stored.row.event == *event => stored.row.state,
            Some(_) => return broken(format!("payment event {} came before, for another order or amount", event.id)),
            None => {
                let row = self.orders.get(&event.order);
                let state = row.map_or(PaymentState::Unmatched, |row| judge(row, event.paid, now, grace));
                let row = PaymentRow { event: event.clone(), state, received_at: now };
                self.payments.insert(event.id.clone(), Payment { row, grace });
                if state == PaymentState::Applied {
                    self.become_(event.order, OrderStatus::Paid, now);
                }
                state
            }
        };
        Ok(Judged { outcome: self.outcome(state, event.order), is_new })
    }

    /// What is said to a payment in this state, with the order as it is now.
    pub(super) fn outcome(&self, state: PaymentState, order: OrderId) -> PaymentOutcome {
        let row = self.orders.get(&order).map(|row| Box::new(OrderRow::clone(row)));
        match (state, row) {
            (PaymentState::Applied, Some(row)) => PaymentOutcome::Paid(row),
            (PaymentState::Late, Some(row)) => PaymentOutcome::Late(row),
            (PaymentState::RefundDue, Some(row)) => PaymentOutcome::RefundDue(row),
            (PaymentState::Mismatch, Some(row)) => PaymentOutcome::Mismatch { due: row.order.price },
            (PaymentState::Unmatched, _) | (_, None) => PaymentOutcome::Unmatched,
        }
    }

    /// Payments that waited for an order count from when they came, the first first. Returns how many are to be given back.
    pub(super) fn settle_waiting(&mut self, id: OrderId, now: UnixMillis) -> u32 {
        let mut refunds_due = 0;
        let waits = |payment: &&Payment| payment.row.event.order == id && payment.row.state == PaymentState::Unmatched;
        let mut waiting: Vec<_> = self.payments.values().filter(waits).cloned().collect();
        waiting.sort_by(|a, b| (a.row.received_at, &a.row.event.id).cmp(&(b.row.received_at, &b.row.event.id)));
        for Payment { row, grace } in waiting {
            let state = judge(&self.orders[&id], row.event.paid, row.received_at, grace);
            if let Some(payment) = self.payments.get_mut(&row.event.id) {
                payment.row.state = state;
            }
            refunds_due += u32::from(state.is_due_back());
            if state == PaymentState::Applied {
                self.become_(id, OrderStatus::Paid, now);
            }
        }
        refunds_due
    }

    /// A cancel or a refund.
    pub(super) fn end(
        &mut self,
        (id, buyer): (OrderId, Option<&BuyerId>),
        event: OrderEvent,
        now: UnixMillis,
    ) -> Result<CancelOutcome, Fault> {
        let row = self.orders.get(&id).filter(|row| buyer.is_none_or(|buyer| row.order.buyer == *buyer));
        let Some(row) = row.map(Arc::clone) else { return Ok(CancelOutcome::NotFound) };
        let Some(status) = row.status.after(event) else {
            return Ok(CancelOutcome::NotPossible(Box::new(OrderRow::clone(&row))));
        };
        if event == OrderEvent::Refund {
            let paid =
                |payment: &&mut Payment| payment.row.event.order == id && payment.row.state == PaymentState::Applied;
            self.payments.values_mut().filter(paid).for_each(|payment| payment.row.state = PaymentState::RefundDue);
        }
        self.become_(id, status, now);
        self.give_back(units([&row.order]))?;
        Ok(CancelOutcome::Done(Box::new(OrderRow::clone(&self.orders[&id]))))
    }

    /// Those whose time is up, the longest overdue first.
    pub(super) fn overdue(&self, grace: Duration, which: Due, now: UnixMillis) -> Vec<Arc<OrderRow>> {
        let due = |row: &&Arc<OrderRow>| row.status == OrderStatus::Held && row.order.pay_by.plus(grace) <= now;
        let mut due: Vec<_> = self.orders.values().filter(due).map(Arc::clone).collect();
        due.sort_by_key(|row| row.order.pay_by);
        due.into_iter().skip(which.past as usize).take(which.limit as usize).collect()
    }

    pub(super) fn expire(&mut self, due: &[Arc<OrderRow>], now: UnixMillis) -> Result<(), Fault> {
        for row in due {
            self.become_(row.order.id, OrderStatus::Expired, now);
        }
        self.give_back(units(due.iter().map(|row| &row.order)))
    }

    /// The status, the history and the move that the inventory follows, which are one change.
    pub(super) fn become_(&mut self, id: OrderId, status: OrderStatus, now: UnixMillis) {
        let Some(row) = self.orders.get_mut(&id) else { return };
        let row = Arc::make_mut(row);
        (row.status, row.changed_at) = (status, now);
        self.events.insert((id, status), now);
        self.moves.insert((id, status), (row.order.sale.clone(), now));
    }
}
