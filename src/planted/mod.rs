//! For unit tests: a store, an inventory and a queue whose content is planted by hand, sound or broken.
//!
//! Real backends cannot be made to hold what the audit has to find; these can.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::clock::ManualClock;
use crate::domain::{
    Currency, Epoch, Fingerprint, Legs, Line, Money, Order, OrderId, OrderStatus, Partition, PoolId, Sale,
    SaleDocument, Scope, UnixMillis,
};
use crate::epochs::Epochs;
use crate::meters::Meters;
use crate::queue::envelope::Envelope;
use crate::queue::{self, LaneDepth, LaneId, Publisher, Strain, Topology, Unconfirmed};
use crate::shutdown::Shutdown;
use crate::store::StoredSale;

mod inventory;
mod letters;
mod store;

pub(crate) use inventory::PlantedInventory;
pub(crate) use store::{PlantedStore, payment};

pub(crate) const SCOPE: Scope = Scope { partition: Partition(0), epoch: Epoch(1) };
pub(crate) const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// All that a control plane works on, with nothing in it.
#[derive(Debug)]
pub(crate) struct Planted {
    pub(crate) store: Arc<PlantedStore>,
    pub(crate) inventory: Arc<PlantedInventory>,
    pub(crate) topology: Arc<PlantedTopology>,
    pub(crate) publisher: Arc<PlantedPublisher>,
    pub(crate) epochs: Epochs,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) shutdown: Shutdown,
}

impl Planted {
    /// With partition 0 joined.
    pub(crate) async fn new() -> Self {
        let planted = Self {
            store: Arc::default(),
            inventory: Arc::default(),
            topology: Arc::default(),
            publisher: Arc::default(),
            epochs: Epochs::new(1),
            clock: Arc::new(ManualClock::at(NOW)),
            shutdown: Shutdown::new(),
        };
        let joined = planted.epochs.changed();
        let (store, inventory) = (Arc::clone(&planted.store), Arc::clone(&planted.inventory));
        planted.shutdown.spawn(planted.epochs.clone().follow(
            store,
            inventory,
            Meters::new(),
            planted.shutdown.clone(),
        ));
        joined.await;
        planted
    }

    /// A sale that store and inventory know, with pools `p` (10 units) over so many legs.
    pub(crate) fn sale(&self, id: &str, legs: usize) -> Sale {
        let stops: Vec<_> = (0..=legs).map(|stop| format!("S{stop}")).collect();
        let json = serde_json::json!({
            "name": id, "currency": "CNY", "opens_at": NOW.to_string(), "limit_per_buyer": 4,
            "stops": if legs > 1 { stops } else { Vec::new() },
            "pools": [if legs > 1 { serde_json::json!({"id": "p", "capacity": 10, "fares": vec![100; legs]}) }
                      else { serde_json::json!({"id": "p", "capacity": 10, "price": 100}) }],
        });
        let sale = serde_json::from_value::<SaleDocument>(json).unwrap().into_sale(id.parse().unwrap()).unwrap();
        self.store
            .lock()
            .sales
            .insert(sale.id.clone(), StoredSale { sale: sale.clone(), applied_version: sale.version });
        self.inventory.lock().sales.insert(sale.id.clone(), sale.clone());
        sale
    }

    /// An order of one unit of `p` on the first leg, known to store and inventory alike, with a history and payments to match.
    pub(crate) fn order(&self, sale: &Sale, id: u8, buyer: &str, status: OrderStatus) -> Order {
        let order = order(sale, id, buyer);
        self.store.plant(&order, status);
        self.inventory.plant(&order, status);
        order
    }
}

/// An order of one unit of `p` on the first leg.
pub(crate) fn order(sale: &Sale, id: u8, buyer: &str) -> Order {
    let legs = Legs { from: 0, to: 1 };
    Order {
        id: OrderId([id; 16]),
        fingerprint: Fingerprint(u64::from(id)),
        sale: sale.id.clone(),
        buyer: buyer.parse().unwrap(),
        granted_at: NOW,
        pay_by: NOW.plus(sale.hold),
        price: Money { amount: 100, currency: Currency::CNY },
        lines: vec![Line { pool: "p".parse().unwrap(), legs, quantity: 1, passenger: None, seat: None }],
    }
}

/// How many units it has on this leg.
fn on(order: &Order, pool: &PoolId, leg: u8) -> u32 {
    let lines = order.lines.iter().filter(|line| line.pool == *pool && line.legs.iter().contains(&leg));
    lines.map(|line| line.quantity).sum()
}

/// A broker that keeps what it is sent to itself.
#[derive(Debug, Default)]
pub(crate) struct PlantedPublisher(pub(crate) Mutex<Vec<Envelope>>);

#[async_trait]
impl Publisher for PlantedPublisher {
    async fn publish(&self, envelope: Envelope) -> Result<(), Unconfirmed> {
        self.0.lock().unwrap().push(envelope);
        Ok(())
    }

    fn strain(&self) -> Strain {
        Strain::default()
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Lanes that are as deep as they are told, and what was put into them.
#[derive(Debug, Default)]
pub(crate) struct PlantedTopology {
    pub(crate) deep: Mutex<Vec<(LaneId, u64)>>,
    pub(crate) put: Mutex<Vec<Vec<u8>>>,
    /// It confirms nothing.
    pub(crate) is_mute: AtomicBool,
    /// Nobody consumes them.
    pub(crate) is_left: AtomicBool,
    /// It never tells how deep they are.
    pub(crate) is_silent: AtomicBool,
}

#[async_trait]
impl Topology for PlantedTopology {
    async fn declare(&self) -> Result<(), queue::Fault> {
        Ok(())
    }

    async fn open(&self, _: Scope) -> Result<(), queue::Fault> {
        Ok(())
    }

    async fn close(&self, _: Scope) -> Result<(), queue::Fault> {
        Ok(())
    }

    async fn is_open(&self, _: Scope) -> Result<bool, queue::Fault> {
        Ok(true)
    }

    async fn put(&self, body: Vec<u8>) -> Result<(), queue::Fault> {
        if self.is_mute.load(Ordering::Relaxed) {
            return Err(queue::Fault("no confirm".to_owned()));
        }
        self.put.lock().unwrap().push(body);
        Ok(())
    }

    async fn barrier(&self, _: Scope) -> Result<(), queue::Fault> {
        Ok(())
    }

    async fn depths(&self) -> Result<Vec<LaneDepth>, queue::Fault> {
        if self.is_silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let consumers = u64::from(!self.is_left.load(Ordering::Relaxed));
        let depth = |&(lane, messages)| LaneDepth { lane, messages, consumers };
        Ok(self.deep.lock().unwrap().iter().map(depth).collect())
    }

    fn widen(&self, _: u16) {}

    fn lanes(&self) -> u16 {
        1
    }
}
