//! What an operator's repair asks for.

use async_trait::async_trait;
use rushgate::domain::{OrderId, SaleId};
use rushgate::store::{Fault, Recounted, Repairs};

use super::{MemoryStore, units};

#[async_trait]
impl Repairs for MemoryStore {
    async fn recount(&self, sale: &SaleId) -> Result<Vec<Recounted>, Fault> {
        self.transact(|state| {
            let live = state.orders.values().filter(|row| row.order.sale == *sale && row.status.is_live());
            let live = units(live.map(|row| &row.order));
            let mut wrong = Vec::new();
            for (key, guard) in state.guard.iter_mut().filter(|((of, ..), _)| of == sale) {
                let counted = live.get(key).copied().unwrap_or(0);
                if counted != guard.live && counted <= guard.capacity {
                    let (_, pool, leg) = key.clone();
                    wrong.push(Recounted { pool, leg, was: guard.live, live: counted });
                    guard.live = counted;
                }
            }
            Ok(wrong)
        })
    }

    async fn match_payments(&self, orders: &[OrderId]) -> Result<(), Fault> {
        let now = self.now();
        self.transact(|state| {
            for order in orders {
                if state.orders.contains_key(order) {
                    state.settle_waiting(*order, now);
                }
            }
            Ok(())
        })
    }

    async fn quarantined(&self, sale: &SaleId, limit: u32) -> Result<Vec<OrderId>, Fault> {
        self.read(|state| {
            let aside = state.quarantined.values().filter(|order| order.sale == *sale);
            let aside = aside.map(|order| order.id).filter(|id| !state.orders.contains_key(id));
            aside.take(limit as usize).collect()
        })
    }
}
