//! Which backend keeps which contract. Nowhere else is one chosen.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use anyhow::Context;

use crate::admin::BackendNames;
use crate::clock::Clock;
use crate::config::Settings;
use crate::config::settings::{InventoryBackend, QueueBackend, StoreBackend};
use crate::inventory::Inventory;
use crate::inventory::memory::MemoryInventory;
use crate::inventory::redis::RedisInventory;
use crate::meters::Meters;
use crate::queue::memory::ConfirmWhen;
use crate::queue::{self, Queue};
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::store::mysql::MySqlStore;
use crate::store::sqlite::{Lock, SqliteStore};

/// The three of them. Cheap to clone. None of them has to be there yet: each says so when it is asked.
#[derive(Debug, Clone)]
pub(super) struct Backends {
    pub inventory: Arc<dyn Inventory>,
    pub queue: Queue,
    pub store: Arc<dyn Store>,
    /// No other process has this store: its schema is this process's to migrate.
    pub store_is_own: bool,
    /// No other process has this inventory: nobody else can be building it.
    pub inventory_is_own: bool,
    /// Sees to it that a store of its own is this process's alone.
    _lock: Option<Arc<Lock>>,
}

impl Backends {
    pub(super) fn new(
        settings: &Settings,
        clock: &Arc<dyn Clock>,
        meters: &Meters,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let inventory: Arc<dyn Inventory> = match settings.inventory.backend {
            InventoryBackend::Memory => Arc::new(MemoryInventory::new(Arc::clone(clock))),
            InventoryBackend::Redis => Arc::new(RedisInventory::connect(&settings.inventory, shutdown)?),
        };
        let queue = match settings.queue.backend {
            QueueBackend::Memory => queue::memory::open(&settings.queue, meters, ConfirmWhen::Stored),
            QueueBackend::Rabbitmq => queue::rabbitmq::connect(&settings.queue, shutdown, meters),
        };
        let lock = match settings.store.backend {
            StoreBackend::Sqlite => Some(SqliteStore::lock(settings.store.url.as_str()).context("opening the store")?),
            StoreBackend::Mysql => None,
        };
        Ok(Self {
            inventory,
            queue,
            store: store(settings, clock)?,
            store_is_own: settings.store.backend == StoreBackend::Sqlite,
            inventory_is_own: settings.inventory.backend == InventoryBackend::Memory,
            _lock: lock.map(Arc::new),
        })
    }
}

/// The store of these settings.
pub(super) fn store(settings: &Settings, clock: &Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Store>> {
    let url = settings.store.url.as_str();
    Ok(match settings.store.backend {
        StoreBackend::Sqlite => Arc::new(SqliteStore::open(url, Arc::clone(clock)).context("opening the store")?),
        StoreBackend::Mysql => {
            let on_time = Arc::new(AtomicI64::new(0));
            Arc::new(MySqlStore::connect(&settings.store, on_time).context("opening the store")?)
        }
    })
}

/// What operators know them as.
pub(super) fn names(settings: &Settings) -> BackendNames {
    BackendNames {
        inventory: match settings.inventory.backend {
            InventoryBackend::Memory => "memory",
            InventoryBackend::Redis => "redis",
        },
        queue: match settings.queue.backend {
            QueueBackend::Memory => "memory",
            QueueBackend::Rabbitmq => "rabbitmq",
        },
        store: match settings.store.backend {
            StoreBackend::Sqlite => "sqlite",
            StoreBackend::Mysql => "mysql",
        },
    }
}
