//! The store's contract in memory: one lock, and every change a transaction on a copy that takes the original's place or is dropped.
//!
//! It is derived from the contract and not from the backends, and the contract's suite runs over it. What it holds can be read raw, so
//! that who checks the system need not ask it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rushgate::clock::Clock;
use rushgate::domain::{Order, OrderId, OrderStatus, Partition, PoolId, Sale, SaleId, Scope, UnixMillis};
use rushgate::store::{
    Change, DeadLetter, Deployment, Fault, OrderRow, PartitionRow, PaymentRow, RecordFault, Recorder, Schema,
    StaleOrder, Store, StoredSale,
};

mod changes;
mod late;
mod letters;
mod orders;
mod partitions;
mod recorder;
mod repairs;
mod sales;
mod stale;

/// The only migration there is; the store's first one has this name everywhere.
const MIGRATION: &str = "0001 orders at rest";

/// A store that lives as long as its last handle. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MemoryStore(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// The tables.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    migrated: bool,
    deployment: Option<Deployment>,
    pub(crate) partitions: BTreeMap<Partition, PartitionRow>,
    barriers: BTreeSet<(Scope, u16)>,
    pub(crate) sales: BTreeMap<SaleId, StoredSale>,
    pub(crate) guard: BTreeMap<LegKey, Guard>,
    pub(crate) orders: BTreeMap<OrderId, Arc<OrderRow>>,
    /// What became of orders after they were recorded.
    pub(crate) events: BTreeMap<(OrderId, OrderStatus), UnixMillis>,
    pub(crate) payments: BTreeMap<String, Payment>,
    pub(crate) moves: BTreeMap<(OrderId, OrderStatus), (SaleId, UnixMillis)>,
    pub(crate) stale: BTreeMap<OrderId, StaleOrder>,
    pub(crate) quarantined: BTreeMap<OrderId, Order>,
    pub(crate) letters: BTreeMap<u64, DeadLetter>,
    last_letter: u64,
    changes: Vec<Change>,
}

pub(crate) type LegKey = (SaleId, PoolId, u8);

/// A leg's last line against a unit too many.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Guard {
    pub(crate) capacity: u32,
    pub(crate) live: u32,
}

/// A payment event, with the grace that it was promised.
#[derive(Debug, Clone)]
pub(crate) struct Payment {
    pub(crate) row: PaymentRow,
    grace: Duration,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store, without its schema.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner { clock, state: Mutex::default() }))
    }

    /// What is committed.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> UnixMillis {
        self.0.clock.now()
    }

    /// Reads from one consistent view.
    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T, Fault> {
        let state = self.state();
        if state.migrated { Ok(look(&state)) } else { Err(Fault("there are no tables".to_owned())) }
    }

    /// Makes a change, all of it or nothing.
    fn transact<T, E: From<Fault>>(&self, change: impl FnOnce(&mut State) -> Result<T, E>) -> Result<T, E> {
        let mut state = self.state();
        if !state.migrated {
            return Err(Fault("there are no tables".to_owned()).into());
        }
        let mut copy = state.clone();
        let changed = change(&mut copy)?;
        *state = copy;
        Ok(changed)
    }
}

/// What is stored contradicts itself or what was asked.
fn broken<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault(what.into()))
}

/// The units of some lines, leg by leg.
fn units<'a>(orders: impl IntoIterator<Item = &'a Order>) -> BTreeMap<LegKey, u32> {
    let mut units = BTreeMap::new();
    for order in orders {
        for line in &order.lines {
            for leg in line.legs.iter() {
                *units.entry((order.sale.clone(), line.pool.clone(), leg)).or_default() += line.quantity;
            }
        }
    }
    units
}

/// The legs that a sale has by its definition, with their capacities.
fn legs_of(sale: &Sale) -> impl Iterator<Item = (LegKey, u32)> {
    sale.pools.iter().flat_map(move |pool| {
        sale.whole().iter().map(move |leg| ((sale.id.clone(), pool.id.clone(), leg), pool.capacity))
    })
}

impl State {
    /// The guard: units that are not there undo the whole transaction.
    fn take(&mut self, units: BTreeMap<LegKey, u32>) -> Result<(), RecordFault> {
        for ((sale, pool, leg), units) in units {
            match self.guard.get_mut(&(sale.clone(), pool.clone(), leg)) {
                Some(guard) if guard.live + units <= guard.capacity => guard.live += units,
                _ => return Err(RecordFault::Guard { sale, pool, leg }),
            }
        }
        Ok(())
    }

    fn give_back(&mut self, units: BTreeMap<LegKey, u32>) -> Result<(), Fault> {
        for (key, units) in units {
            let guard = self.guard.get_mut(&key).filter(|guard| guard.live >= units);
            let Some(guard) = guard else { return broken(format!("the guard of {key:?} would fall below zero")) };
            guard.live -= units;
        }
        Ok(())
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn schema(&self) -> Result<Schema, Fault> {
        Ok(if self.state().migrated { Schema::Current } else { Schema::Behind { missing: 1 } })
    }

    async fn migrate(&self) -> Result<Vec<String>, Fault> {
        let before = std::mem::replace(&mut self.state().migrated, true);
        Ok(if before { Vec::new() } else { vec![MIGRATION.to_owned()] })
    }

    async fn deployment(&self, fresh: Deployment) -> Result<Deployment, Fault> {
        self.transact(|state| {
            let lanes = fresh.lanes;
            let stands = state.deployment.get_or_insert(fresh);
            stands.lanes = stands.lanes.max(lanes);
            Ok(stands.clone())
        })
    }

    async fn lanes(&self) -> Result<u16, Fault> {
        self.read(|state| state.deployment.as_ref().map_or(0, |deployment| deployment.lanes))
    }

    async fn recorder(&self) -> Result<Box<dyn Recorder>, Fault> {
        Ok(Box::new(recorder::MemoryRecorder::new(self.clone())))
    }

    async fn now(&self) -> Result<UnixMillis, Fault> {
        Ok(Self::now(self))
    }
}
