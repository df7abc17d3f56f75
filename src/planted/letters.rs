//! Of the store that holds what it is told to: dead letters, and what a repair asks for.

use async_trait::async_trait;

use crate::domain::{OrderId, OrderStatus, SaleId};
use crate::planted::{NOW, PlantedStore};
use crate::store::{self, DeadLetter, DeadLetters, PaymentState, Recounted, Repairs};

#[async_trait]
impl Repairs for PlantedStore {
    async fn recount(&self, _: &SaleId) -> Result<Vec<Recounted>, store::Fault> {
        self.up()?.guard_off = 0;
        Ok(Vec::new())
    }

    async fn match_payments(&self, orders: &[OrderId]) -> Result<(), store::Fault> {
        let mut state = self.up()?;
        for id in orders {
            let row = state.orders[id].clone();
            for payment in state.payments.get_mut(id).into_iter().flatten() {
                if payment.state == PaymentState::Unmatched {
                    let fits = row.status == OrderStatus::Held && payment.event.paid == row.order.price;
                    payment.state = if fits { PaymentState::Applied } else { PaymentState::RefundDue };
                }
            }
            if row.status == OrderStatus::Held {
                state.orders.get_mut(id).expect("it is there").status = OrderStatus::Paid;
                state.histories.entry(*id).or_default().push((NOW, OrderStatus::Paid));
                state.moves.push((*id, row.order.sale, OrderStatus::Paid));
            }
        }
        Ok(())
    }

    async fn quarantined(&self, sale: &SaleId, limit: u32) -> Result<Vec<OrderId>, store::Fault> {
        let state = self.up()?;
        let orders = state.quarantined.iter().filter(|order| order.sale == *sale);
        Ok(orders.take(limit as usize).map(|order| order.id).collect())
    }
}

#[async_trait]
impl DeadLetters for PlantedStore {
    async fn keep_dead_letter(&self, lane: &str, reason: &str, body: &[u8]) -> Result<(), store::Fault> {
        let mut state = self.up()?;
        let id = state.letters.last().map_or(1, |last| last.id + 1);
        state.letters.push(DeadLetter {
            id,
            lane: lane.to_owned(),
            reason: reason.to_owned(),
            kept_at: NOW,
            bytes: body.len() as u64,
            body: body.to_vec(),
        });
        Ok(())
    }

    async fn dead_letters(&self, after: u64, limit: u32) -> Result<Vec<DeadLetter>, store::Fault> {
        let state = self.up()?;
        let behind = state.letters.iter().filter(|letter| letter.id > after).take(limit as usize);
        Ok(behind.map(|letter| state.heads.get(&letter.id).unwrap_or(letter).clone()).collect())
    }

    async fn dead_letter(&self, id: u64) -> Result<Option<DeadLetter>, store::Fault> {
        Ok(self.up()?.letters.iter().find(|letter| letter.id == id).cloned())
    }

    async fn drop_dead_letter(&self, id: u64) -> Result<bool, store::Fault> {
        let mut state = self.up()?;
        let before = state.letters.len();
        state.letters.retain(|letter| letter.id != id);
        Ok(state.letters.len() < before)
    }

    async fn count_dead_letters(&self) -> Result<u64, store::Fault> {
        let state = self.up()?;
        Ok(state.letters.len() as u64 + state.letters_beside)
    }
}
