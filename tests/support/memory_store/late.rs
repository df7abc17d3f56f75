//! Payments that came too late, when the inventory has said whether their units could be taken again.

use async_trait::async_trait;
use rushgate::domain::{OrderEvent, OrderStatus, UnixMillis};
use rushgate::store::{Fault, Judged, LateClaim, LatePayment, LatePayments, PaymentState, RecordFault};

use super::{MemoryStore, State, broken, units};

#[async_trait]
impl LatePayments for MemoryStore {
    async fn late_payments(&self, limit: u32) -> Result<Vec<LatePayment>, Fault> {
        self.read(|state| {
            let late =
                state.payments.values().map(|payment| &payment.row).filter(|row| row.state == PaymentState::Late);
            let mut late: Vec<_> = late.collect();
            late.sort_by(|a, b| (a.received_at, &a.event.id).cmp(&(b.received_at, &b.event.id)));
            let of_order = |event: &rushgate::store::PaymentEvent| state.orders.get(&event.order);
            let late = late.into_iter().filter_map(|row| {
                let sale = of_order(&row.event)?.order.sale.clone();
                Some(LatePayment { event: row.event.clone(), sale })
            });
            late.take(limit as usize).collect()
        })
    }

    async fn settle_late(&self, event: &str, claim: LateClaim) -> Result<Judged, Fault> {
        let now = self.now();
        self.transact(|state| state.settle_late(event, claim, now))
    }
}

impl State {
    fn settle_late(&mut self, event: &str, claim: LateClaim, now: UnixMillis) -> Result<Judged, Fault> {
        let stored = self.payments.get(event).map(|payment| payment.row.clone());
        let row = stored.as_ref().and_then(|stored| self.orders.get(&stored.event.order));
        let (Some(stored), Some(row)) = (&stored, row.map(std::sync::Arc::clone)) else {
            return broken(format!("there is no late payment {event}"));
        };
        let id = row.order.id;
        let mut verdict = stored.state;
        if verdict == PaymentState::Late {
            verdict = match claim {
                _ if row.status.after(OrderEvent::PayLate).is_none() => PaymentState::RefundDue,
                LateClaim::Refused => PaymentState::RefundDue,
                LateClaim::Taken(scope) => {
                    let is_current = self.partitions.get(&scope.partition).is_some_and(|row| row.epoch == scope.epoch);
                    if is_current { PaymentState::Applied } else { PaymentState::Late }
                }
            };
        }
        let is_new = verdict != stored.state;
        if is_new && verdict == PaymentState::Applied {
            let before = self.guard.clone();
            let taken = if row.status.is_live() { Ok(()) } else { self.take(units([&row.order])) };
            self.become_(id, OrderStatus::Paid, now);
            match taken {
                Ok(()) => {}
                Err(RecordFault::Guard { .. }) => {
                    // What the inventory has taken, it has to give back.
                    self.guard = before;
                    self.become_(id, OrderStatus::Refunded, now);
                    verdict = PaymentState::RefundDue;
                }
                Err(fault) => return broken(fault.to_string()),
            }
        }
        if let Some(payment) = self.payments.get_mut(event) {
            payment.row.state = verdict;
        }
        Ok(Judged { outcome: self.outcome(verdict, id), is_new })
    }
}
