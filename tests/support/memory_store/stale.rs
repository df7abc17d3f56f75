//! Orders that came too late for their epoch.

use async_trait::async_trait;
use rushgate::domain::{OrderId, Refusal};
use rushgate::store::{Fault, StaleOrder, StaleOrders, StaleState};

use super::MemoryStore;

#[async_trait]
impl StaleOrders for MemoryStore {
    async fn stale_orders(&self, wanted: StaleState, limit: u32) -> Result<Vec<StaleOrder>, Fault> {
        self.read(|state| {
            let mut orders: Vec<_> = state.stale.values().filter(|stale| stale.state == wanted).cloned().collect();
            orders.sort_by_key(|stale| (stale.kept_at, stale.order.id));
            orders.truncate(limit as usize);
            orders
        })
    }

    async fn readmitted(&self, id: OrderId) -> Result<bool, Fault> {
        self.transact(|state| {
            let is_stored = state.orders.contains_key(&id);
            let Some(stale) = state.stale.get_mut(&id) else { return Ok(false) };
            if stale.state == StaleState::Waiting && is_stored {
                stale.state = StaleState::Readmitted;
            }
            Ok(stale.state == StaleState::Readmitted)
        })
    }

    async fn refuse_stale(&self, id: OrderId, reason: &Refusal) -> Result<(), Fault> {
        self.transact(|state| {
            let is_stored = state.orders.contains_key(&id);
            if let Some(stale) =
                state.stale.get_mut(&id).filter(|stale| stale.state == StaleState::Waiting && !is_stored)
            {
                (stale.state, stale.reason) = (StaleState::Refused, reason.code().to_owned());
            }
            Ok(())
        })
    }
}
