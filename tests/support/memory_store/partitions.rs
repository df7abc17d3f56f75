//! The partitions' rows, and what a recovery needs.

use async_trait::async_trait;
use rushgate::domain::{Epoch, Partition, SaleId, Scope};
use rushgate::store::{Fault, PartitionRow, PartitionState, Partitions, StoreSnapshot};

use super::{MemoryStore, broken};

#[async_trait]
impl Partitions for MemoryStore {
    async fn partition(&self, partition: Partition) -> Result<Option<PartitionRow>, Fault> {
        self.read(|state| state.partitions.get(&partition).cloned())
    }

    async fn fence(&self, partition: Partition, seen: Option<Epoch>) -> Result<Option<Epoch>, Fault> {
        self.transact(|state| {
            let row = state.partitions.get(&partition);
            if row.map(|row| row.epoch) != seen {
                return Ok(None);
            }
            let epoch = Epoch(seen.map_or(1, |seen| seen.0 + 1));
            let min_epoch = row.map_or(Epoch(0), |row| row.min_epoch);
            let (state_now, identity) = (PartitionState::Fenced, String::new());
            state
                .partitions
                .insert(partition, PartitionRow { partition, epoch, state: state_now, min_epoch, identity });
            Ok(Some(epoch))
        })
    }

    async fn barriers(&self, scope: Scope) -> Result<Vec<u16>, Fault> {
        self.read(|state| state.barriers.range((scope, 0)..=(scope, u16::MAX)).map(|(_, lane)| *lane).collect())
    }

    async fn set_min_epoch(&self, scope: Scope) -> Result<(), Fault> {
        self.transact(|state| match state.partitions.get_mut(&scope.partition) {
            Some(row) => {
                row.min_epoch = row.min_epoch.max(scope.epoch);
                Ok(())
            }
            None => broken(format!("partition {} has no row", scope.partition)),
        })
    }

    async fn snapshot(&self, partition: Partition, partitions: u16) -> Result<StoreSnapshot, Fault> {
        self.read(|state| {
            let sales = state.sales.values().map(|stored| &stored.sale);
            let sales: Vec<_> =
                sales.filter(|sale| Partition::of(&sale.id, partitions) == partition).cloned().collect();
            let of_these = |id: &SaleId| sales.iter().any(|sale| sale.id == *id);
            let orders = state.orders.values().filter(|row| of_these(&row.order.sale));
            let orders = orders.map(|row| (row.order.clone(), row.status)).collect();
            StoreSnapshot { sales, orders }
        })
    }

    async fn open_partition(&self, scope: Scope, identity: &str) -> Result<bool, Fault> {
        self.transact(|state| {
            let row = state.partitions.get_mut(&scope.partition).filter(|row| row.epoch == scope.epoch);
            Ok(row.is_some_and(|row| {
                (row.state, row.identity) = (PartitionState::Open, identity.to_owned());
                true
            }))
        })
    }
}
