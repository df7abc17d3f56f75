//! Definitions of sales with their guard, and the log of changes.

use async_trait::async_trait;
use rushgate::domain::SaleId;
use rushgate::store::{Change, Fault, PutSale, Sales, StoredSale};

use super::{MemoryStore, State, broken, legs_of};

#[async_trait]
impl Sales for MemoryStore {
    async fn sale(&self, id: &SaleId) -> Result<Option<StoredSale>, Fault> {
        self.read(|state| state.sales.get(id).cloned())
    }

    async fn sales(&self) -> Result<Vec<StoredSale>, Fault> {
        self.read(|state| state.sales.values().cloned().collect())
    }

    async fn put_sale(&self, sale: &rushgate::domain::Sale, change: &Change) -> Result<PutSale, Fault> {
        self.transact(|state| {
            let stored = state.sales.get(&sale.id);
            if sale.version != stored.map_or(0, |stored| stored.sale.version) + 1 {
                return Ok(PutSale::Conflict(stored.cloned().map(Box::new)));
            }
            let applied_version = stored.map_or(0, |stored| stored.applied_version);
            state.sales.insert(sale.id.clone(), StoredSale { sale: sale.clone(), applied_version });
            for (key, capacity) in legs_of(sale) {
                let guard = state.guard.entry(key).or_default();
                guard.capacity = guard.capacity.max(capacity);
            }
            state.changes.push(change.clone());
            Ok(PutSale::Stored)
        })
    }

    async fn mark_applied(&self, id: &SaleId, version: u64) -> Result<(), Fault> {
        self.transact(|state| {
            let Some(stored) = state.sales.get_mut(id) else { return broken(format!("there is no sale {id}")) };
            stored.applied_version = stored.applied_version.max(version.min(stored.sale.version));
            if stored.sale.version == version { lower_guard(state, id) } else { Ok(()) }
        })
    }

    async fn sale_ids(&self, after: Option<&SaleId>, limit: u32) -> Result<Vec<SaleId>, Fault> {
        let behind = |id: &&SaleId| after.is_none_or(|after| *id > after);
        self.read(|state| state.sales.keys().filter(behind).take(limit as usize).cloned().collect())
    }

    async fn unapplied(&self) -> Result<Vec<StoredSale>, Fault> {
        let waits = |stored: &&StoredSale| stored.applied_version < stored.sale.version;
        self.read(|state| state.sales.values().filter(waits).cloned().collect())
    }

    async fn log_change(&self, change: &Change) -> Result<(), Fault> {
        self.transact(|state| {
            state.changes.push(change.clone());
            Ok(())
        })
    }

    async fn changes(&self, subject: Option<&str>, limit: u32) -> Result<Vec<Change>, Fault> {
        self.read(|state| {
            let of =
                state.changes.iter().rev().filter(|change| subject.is_none_or(|subject| change.subject == subject));
            of.take(limit as usize).cloned().collect()
        })
    }
}

/// The guard falls to what the definition says; more cannot be live, or something is broken.
fn lower_guard(state: &mut State, id: &SaleId) -> Result<(), Fault> {
    let sale = state.sales[id].sale.clone();
    let wanted: std::collections::BTreeMap<_, _> = legs_of(&sale).collect();
    for (key, guard) in state.guard.iter_mut().filter(|((sale, ..), _)| sale == id) {
        let falls_to = wanted.get(key).copied().unwrap_or(0);
        if guard.live > falls_to {
            let (sale, pool, leg) = key;
            return broken(format!("{sale}/{pool}/{leg} has {} live units, more than {falls_to}", guard.live));
        }
        guard.capacity = falls_to;
    }
    state.guard.retain(|key, _| key.0 != *id || wanted.contains_key(key));
    Ok(())
}
