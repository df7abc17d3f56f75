//! The metrics that nobody moves by working: how full things are. They are read every two seconds.

use std::collections::HashMap;
use std::time::Duration;

use crate::admin::Parts;
use crate::admin::plan::{BufferGauges, Weights};
use crate::admission::{SaleShard, Shards};
use crate::domain::{PoolId, SaleId};
use crate::meters::{Gauge, Meters};
use crate::shutdown::Shutdown;

const INTERVAL: Duration = Duration::from_secs(2);
/// Sales that have gauges of their own; a label per sale must not grow without end.
const SALES: usize = 200;

/// Reads until the shutdown. `letters`: also how many dead letters the store has, which one kind of process asks it for, the writers.
pub async fn keep_measured(parts: Parts, letters: bool, shutdown: Shutdown) {
    let mut gauges = Gauges::new(parts);
    while !shutdown.sleep(INTERVAL).await {
        gauges.read_queue().await;
        gauges.read_shards();
        if letters {
            gauges.read_letters().await;
        }
        gauges.parts.meters.upkeep();
    }
}

#[derive(Debug)]
struct Gauges {
    parts: Parts,
    outbox: Gauge,
    ready: Gauge,
    pools: HashMap<(SaleId, PoolId), PoolGauges>,
    buffers: BufferGauges,
    sales: Seen,
}

#[derive(Debug)]
struct PoolGauges {
    left: Gauge,
    free: Gauge,
    held: Gauge,
    sold: Gauge,
}

/// The first sales that were seen.
#[derive(Debug, Default)]
struct Seen {
    sales: std::collections::HashSet<SaleId>,
    said: bool,
}

impl Seen {
    fn has_room_for(&mut self, sale: &SaleId) -> bool {
        if self.sales.contains(sale) {
            return true;
        }
        if self.sales.len() < SALES {
            return self.sales.insert(sale.clone());
        }
        if !self.said {
            tracing::warn!(sales = SALES, "there are more sales than have metrics of their own");
            self.said = true;
        }
        false
    }
}

impl Gauges {
    fn new(parts: Parts) -> Self {
        let (outbox, ready) =
            (parts.meters.gauge("rushgate_outbox_entries", &[]), parts.meters.gauge("rushgate_ready", &[]));
        let (sales, buffers) = (Seen::default(), BufferGauges::default());
        Self { parts, outbox, ready, pools: HashMap::new(), buffers, sales }
    }

    async fn read_queue(&self) {
        let process = &self.parts.process;
        let is_ready = !process.shutdown.has_begun() && process.readiness.is_ready();
        self.ready.set(if is_ready { 1.0 } else { 0.0 });
        if let Some(entries) = self.outbox_entries().await {
            self.outbox.set(number(entries));
        }
        for depth in self.parts.topology.depths().await.unwrap_or_default() {
            let lane = depth.lane.to_string();
            self.parts.meters.gauge("rushgate_lane_messages", &[("lane", &lane)]).set(number(depth.messages));
        }
    }

    /// `None` if it is not known: nothing is not what is seen then.
    async fn outbox_entries(&self) -> Option<u64> {
        let mut entries = 0;
        for scope in self.parts.epochs.all().ok()? {
            let len = self.parts.inventory.outbox_len(scope).await;
            entries += len.inspect_err(|fault| self.parts.epochs.report(scope, fault)).ok()?;
        }
        Some(entries)
    }

    /// Those that are still in the queue are a lane like others.
    async fn read_letters(&self) {
        if let Ok(letters) = self.parts.store.count_dead_letters().await {
            self.parts.meters.gauge("rushgate_dead_letters", &[]).set(number(letters));
        }
    }

    /// From this node's memory alone.
    fn read_shards(&mut self) {
        let Some(shards) = &self.parts.shards else { return };
        let weights = Weights::of(shards, &self.parts.process.node);
        let mut sales = shards.sales();
        sales.sort_by(|a, b| a.sale.id.cmp(&b.sale.id));
        for sale in sales {
            if !self.sales.has_room_for(&sale.sale.id) {
                continue;
            }
            let buffer = shards.buffer_of(&sale.sale);
            self.buffers.read(&self.parts.meters, &sale, (&weights, buffer));
            for (pool, (left, figures)) in scarcest(shards, &sale) {
                let id = &sale.sale.id;
                let gauges = self
                    .pools
                    .entry((id.clone(), pool.clone()))
                    .or_insert_with(|| PoolGauges::new(&self.parts.meters, id, &pool));
                let (free, held, sold) = figures;
                gauges.left.set(left);
                gauges.free.set(free);
                gauges.held.set(held);
                gauges.sold.set(sold);
            }
        }
    }
}

impl PoolGauges {
    fn new(meters: &Meters, sale: &SaleId, pool: &PoolId) -> Self {
        let of = [("sale", sale.as_str()), ("pool", pool.as_str())];
        let units = |state| meters.gauge("rushgate_inventory_units", &[of[0], of[1], ("state", state)]);
        Self {
            left: meters.gauge("rushgate_shard_units", &of),
            free: units("free"),
            held: units("held"),
            sold: units("sold"),
        }
    }
}

/// What a node may let through, and free, held and sold units, of each pool's scarcest leg.
type Scarcest = (PoolId, (u32, (u32, u32, u32)));

fn scarcest(shards: &Shards, sale: &SaleShard) -> Vec<Scarcest> {
    let stock = sale.stock();
    let pools = sale.sale.pools.iter().zip(shards.left(sale));
    let scarce = pools.filter_map(|(pool, left)| {
        let leg = stock.iter().filter(|stock| stock.pool == pool.id).min_by_key(|stock| stock.free)?;
        let left = left.into_iter().min().unwrap_or(0);
        Some((pool.id.clone(), (left, (leg.free, leg.held, leg.sold))))
    });
    scarce.collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_sales_have_gauges() {
        let mut seen = Seen::default();
        for number in 0..SALES {
            assert!(seen.has_room_for(&format!("s{number}").parse().unwrap()));
        }
        assert!(!seen.has_room_for(&"one-more".parse().unwrap()));
        assert!(seen.has_room_for(&"s0".parse().unwrap()));
    }
}
