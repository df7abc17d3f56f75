//! What happens to an order once it is recorded.

use std::cmp::Reverse;
use std::time::Duration;

use async_trait::async_trait;
use rushgate::domain::{BuyerId, Order, OrderEvent, OrderId, OrderStatus, SaleId, UnixMillis};
use rushgate::store::{
    CancelOutcome, Due, Expiry, Fault, Judged, LegTally, OrderFilter, OrderRow, Orders, PaymentEvent, PaymentRow,
    PaymentState, SaleTally, StaleState,
};

use super::{MemoryStore, State};

#[async_trait]
impl Orders for MemoryStore {
    async fn order(&self, id: OrderId) -> Result<Option<OrderRow>, Fault> {
        self.read(|state| state.orders.get(&id).map(|row| OrderRow::clone(row)))
    }

    async fn orders(&self, filter: &OrderFilter) -> Result<Vec<OrderRow>, Fault> {
        self.read(|state| {
            let mut rows: Vec<_> = state.orders.values().filter(|row| matches(filter, row)).collect();
            if filter.after.is_none() {
                rows.sort_by_key(|row| Reverse((row.recorded_at, row.order.id)));
            }
            let limit = filter.limit.min(OrderFilter::MAX_LIMIT) as usize;
            rows.into_iter().take(limit).map(|row| OrderRow::clone(row)).collect()
        })
    }

    async fn pay(&self, event: &PaymentEvent, grace: Duration) -> Result<Judged, Fault> {
        let now = self.now();
        self.transact(|state| state.pay(event, grace, now))
    }

    async fn cancel(&self, id: OrderId, buyer: Option<&BuyerId>) -> Result<CancelOutcome, Fault> {
        let now = self.now();
        self.transact(|state| state.end((id, buyer), OrderEvent::Cancel, now))
    }

    async fn refund(&self, id: OrderId) -> Result<CancelOutcome, Fault> {
        let now = self.now();
        self.transact(|state| state.end((id, None), OrderEvent::Refund, now))
    }

    async fn expire(&self, grace: Duration, due: Due) -> Result<Expiry, Fault> {
        let now = self.now();
        if self.read(|state| state.overdue(grace, due, now).is_empty())? {
            return Ok(Expiry::Expired(0));
        }
        let mut refused = None;
        let expired = self.transact(|state| {
            let rows = state.overdue(grace, due, now);
            // All that an expiry is refused for here is what is stored.
            let Some(first) = rows.first().map(|row| &row.order) else { return Ok(0) };
            let named = |fault: &Fault| format!("order {} of {}: {fault}", first.id, first.sale);
            state.expire(&rows, now).inspect_err(|fault| refused = Some(named(fault)))?;
            Ok(u32::try_from(rows.len()).unwrap_or(due.limit))
        });
        match refused {
            Some(why) => Ok(Expiry::Refused(why)),
            None => expired.map(Expiry::Expired),
        }
    }

    async fn stock_moves(&self, limit: u32) -> Result<Vec<(OrderId, SaleId, OrderStatus)>, Fault> {
        self.read(|state| {
            let mut moves: Vec<_> = state.moves.iter().collect();
            moves.sort_by_key(|((id, to), (_, at))| (*at, *id, *to));
            moves.into_iter().take(limit as usize).map(|((id, to), (sale, _))| (*id, sale.clone(), *to)).collect()
        })
    }

    async fn stock_moved(&self, moves: &[(OrderId, OrderStatus)]) -> Result<(), Fault> {
        self.transact(|state| {
            for done in moves {
                state.moves.remove(done);
            }
            Ok(())
        })
    }

    async fn next_release(&self, sale: &SaleId, grace: Duration) -> Result<Option<UnixMillis>, Fault> {
        self.read(|state| {
            let held = state.orders.values().filter(|row| row.order.sale == *sale && row.status == OrderStatus::Held);
            held.map(|row| row.order.pay_by.plus(grace)).min()
        })
    }

    async fn tally(&self, sale: &SaleId) -> Result<SaleTally, Fault> {
        self.read(|state| state.tally(sale))
    }

    async fn payments(&self, order: OrderId) -> Result<Vec<PaymentRow>, Fault> {
        self.read(|state| {
            let rows = state.payments.values().map(|payment| &payment.row);
            let mut rows: Vec<_> = rows.filter(|row| row.event.order == order).cloned().collect();
            rows.sort_by(|a, b| (a.received_at, &a.event.id).cmp(&(b.received_at, &b.event.id)));
            rows
        })
    }

    async fn history(&self, order: OrderId) -> Result<Vec<(UnixMillis, OrderStatus)>, Fault> {
        self.read(|state| state.history(order))
    }
}

fn matches(filter: &OrderFilter, row: &OrderRow) -> bool {
    filter.sale.as_ref().is_none_or(|sale| row.order.sale == *sale)
        && filter.buyer.as_ref().is_none_or(|buyer| row.order.buyer == *buyer)
        && filter.status.is_none_or(|status| row.status == status)
        && filter.after.is_none_or(|after| row.order.id > after)
}

impl State {
    /// What an order became and when, its recording included.
    pub(crate) fn history(&self, order: OrderId) -> Vec<(UnixMillis, OrderStatus)> {
        let recorded = self.orders.get(&order).map(|row| (row.recorded_at, OrderStatus::Held));
        let events =
            OrderStatus::ALL.into_iter().filter_map(|status| Some((*self.events.get(&(order, status))?, status)));
        let mut history: Vec<_> = recorded.into_iter().chain(events).collect();
        history.sort_unstable();
        history
    }

    fn tally(&self, sale: &SaleId) -> SaleTally {
        let of_sale = |id: &OrderId| self.orders.get(id).is_some_and(|row| row.order.sale == *sale);
        let rows: Vec<_> = self.orders.values().filter(|row| row.order.sale == *sale).collect();
        let by_status = |status| {
            let of_status = || rows.iter().filter(|row| row.status == status);
            (status, of_status().count() as u64, of_status().map(|row| u64::from(row.order.units())).sum())
        };
        let legs = self.guard.iter().filter(|((of, ..), _)| of == sale).map(|((_, pool, leg), guard)| {
            let on_leg = |status| {
                let lines = rows.iter().filter(|row| row.status == status).flat_map(|row| &row.order.lines);
                lines
                    .filter(|line| line.pool == *pool && line.legs.iter().contains(leg))
                    .map(|line| line.quantity)
                    .sum()
            };
            let (held, paid) = (on_leg(OrderStatus::Held), on_leg(OrderStatus::Paid));
            LegTally { pool: pool.clone(), leg: *leg, capacity: guard.capacity, live: guard.live, held, paid }
        });
        let payments = |counts: fn(PaymentState) -> bool| {
            let counted = self.payments.values().filter(move |payment| counts(payment.row.state));
            counted.filter(|payment| of_sale(&payment.row.event.order)).count() as u64
        };
        let is_aside = |order: &Order| order.sale == *sale && !self.orders.contains_key(&order.id);
        let kept_as =
            |state| self.stale.values().filter(|stale| stale.state == state && is_aside(&stale.order)).count() as u64;
        SaleTally {
            by_status: OrderStatus::ALL.into_iter().map(by_status).collect(),
            legs: legs.collect(),
            refunds_due: payments(PaymentState::is_due_back),
            late: payments(|state| state == PaymentState::Late),
            moves_waiting: self.moves.values().filter(|(of, _)| of == sale).count() as u64,
            stale: kept_as(StaleState::Waiting),
            stale_refused: kept_as(StaleState::Refused),
            quarantined: self.quarantined.values().filter(|order| is_aside(order)).count() as u64,
        }
    }
}
