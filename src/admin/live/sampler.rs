//! Takes the snapshots: this node's memory, what it hears of the others, and the last look at each backend.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use crate::admin::live::health::Looks;
use crate::admin::live::latency::Latencies;
use crate::admin::live::nodes::{Counts, Node, Nodes};
use crate::admin::live::snapshot::{Health, LaneView, Latency, NodeView, PoolView, SaleView, ShardView, Snapshot};
use crate::admin::process::role_name;
use crate::admin::{Parts, sales};
use crate::admission::status::{self, SALES_TOLD};
use crate::admission::{SaleShard, Shards};
use crate::domain::{Buffer, UnixMillis, share};
use crate::meters::Meters;
use crate::queue::LaneDepth;

/// What has to be remembered from one snapshot to the next.
#[derive(Debug)]
pub(super) struct Sampler {
    parts: Parts,
    begun: Instant,
    nodes: Nodes,
    latencies: Latencies,
    pub(super) looks: Looks,
}

impl Sampler {
    pub(super) fn new(parts: Parts) -> Self {
        let nodes = Nodes::new(parts.process.node.clone());
        Self { parts, begun: Instant::now(), nodes, latencies: Latencies::default(), looks: Looks::default() }
    }

    /// Notices who beats. To be called more often than there are snapshots, so that silence is timed well.
    pub(super) fn hear(&mut self) {
        if let Some(shards) = &self.parts.shards {
            self.nodes.hear(&shards.nodes(), Instant::now());
        }
    }

    pub(super) async fn snapshot(&mut self) -> Snapshot {
        let latency = self.latency().await;
        let Parts { process, meters, clock, .. } = &self.parts;
        let draining = process.shutdown.has_begun();
        let mut snapshot = Snapshot {
            at: clock.now().to_string(),
            node: process.node.to_string(),
            roles: process.roles.iter().map(|role| role_name(*role).to_owned()).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: !draining && process.readiness.is_ready(),
            draining,
            latency,
            health: self.health(),
            outbox_entries: self.looks.inventory.found(),
            lanes: self.lanes(),
            dead_letters: self.looks.dead_letters(),
            writer_lag_seconds: gauge(meters, "rushgate_writer_lag_seconds"),
            admission_closed: admission_closed(meters),
            ..Snapshot::default()
        };
        if let Some(shards) = self.parts.shards.clone() {
            self.read_shards(&shards, &mut snapshot);
        }
        snapshot
    }

    fn read_shards(&mut self, shards: &Shards, snapshot: &mut Snapshot) {
        let Parts { meters, clock, .. } = &self.parts;
        let mut told = status::foremost(shards, clock.now());
        snapshot.sales_count = Some(told.len());
        told.truncate(SALES_TOLD);
        let (all, of_sales) = status::claims(meters, &told);
        self.nodes.count_own(Counts { at_seconds: self.begun.elapsed().as_secs_f64(), all, of_sales });
        let (drift, quarantined) =
            (by_sale(meters, "rushgate_drift_units"), by_sale(meters, "rushgate_quarantined_orders"));
        snapshot.sales = told
            .iter()
            .map(|shard| SaleView {
                claims: self.nodes.claims_of(shard.sale.id.as_str()),
                drift_units: drift.get(shard.sale.id.as_str()).copied(),
                quarantined: quarantined.get(shard.sale.id.as_str()).copied(),
                ..sale(&self.parts, shards, shard)
            })
            .collect();
        let free: Vec<_> =
            snapshot.sales.iter().map(|sale| sale.pools.iter().map(|pool| pool.free).collect()).collect();
        let scene =
            Scene { shards, sales: told.iter().map(AsRef::as_ref).zip(free).collect(), weights: weights(shards) };
        let own = (snapshot.ready, status::connections(meters));
        snapshot.nodes = self.nodes.view(Instant::now(), |node, view| scene.fill(node, view, own));
        snapshot.claims = self.nodes.claims();
    }

    /// Renders all metrics, which is not for a thread that answers claims.
    async fn latency(&mut self) -> Latency {
        let meters = self.parts.meters.clone();
        let read = move || meters.buckets("rushgate_claim_duration_seconds", "outcome");
        match tokio::task::spawn_blocking(read).await {
            Ok(buckets) => self.latencies.learn(Instant::now(), &buckets),
            Err(_) => Latency::default(),
        }
    }

    fn health(&self) -> Health {
        let backends = self.parts.process.backends;
        Health {
            inventory: self.looks.inventory.view(backends.inventory),
            queue: self.looks.queue.view(backends.queue),
            store: self.looks.store.view(backends.store),
        }
    }

    fn lanes(&self) -> Vec<LaneView> {
        let view = |depth: LaneDepth| LaneView {
            lane: depth.lane.to_string(),
            messages: depth.messages,
            consumers: depth.consumers,
        };
        self.looks.queue.found().unwrap_or_default().into_iter().map(view).collect()
    }
}

/// What nodes' shards are judged by.
struct Scene<'a> {
    shards: &'a Shards,
    /// With the free units of each pool on its scarcest leg.
    sales: Vec<(&'a SaleShard, Vec<u32>)>,
    weights: f64,
}

impl Scene<'_> {
    /// Adds a node's shards; and for this node what it knows better than its last heartbeat.
    fn fill(&self, node: &Node, view: &mut NodeView, (ready, connections): (bool, Option<u64>)) {
        if view.this {
            (view.ready, view.connections) = (Some(ready), connections);
            env!("CARGO_PKG_VERSION").clone_into(&mut view.version);
        }
        for (shard, free) in &self.sales {
            let id = shard.sale.id.as_str();
            let own = view.this.then(|| status::left(self.shards, shard));
            let Some(left) = own.as_ref().or_else(|| node.status.shards.get(id)) else { continue };
            let buffer = self.shards.buffer_of(&shard.sale);
            let pools = shard.sale.pools.iter().zip(free).filter_map(|(pool, free)| {
                let left = left.get(pool.id.as_str())?.iter().copied().min()?;
                let share = |buffer| share::share(*free, node.weight, self.weights, buffer);
                let fair = share(Buffer::Units(0));
                Some((pool.id.to_string(), ShardView { left, fair, buffer: share(buffer) - fair }))
            });
            view.shards.insert(id.to_owned(), pools.collect());
        }
    }
}

/// Of all nodes that are heard; of this one alone, while none is.
fn weights(shards: &Shards) -> f64 {
    let nodes = shards.nodes();
    if nodes.is_empty() { 1.0 } else { nodes.iter().map(|node| node.weight).sum() }
}

fn sale(parts: &Parts, shards: &Shards, shard: &SaleShard) -> SaleView {
    let sale = &shard.sale;
    let stock = shard.stock();
    let pools = sale.pools.iter().map(|pool| {
        let scarcest = stock.iter().filter(|leg| leg.pool == pool.id).min_by_key(|leg| leg.free);
        let (free, held, sold) = scarcest.map_or((0, 0, 0), |leg| (leg.free, leg.held, leg.sold));
        PoolView { pool: pool.id.to_string(), capacity: pool.capacity, legs: sale.leg_count(), free, held, sold }
    });
    SaleView {
        sale: sale.id.to_string(),
        name: sale.name.clone(),
        phase: sales::phase(parts, sale).to_owned(),
        version: sale.version,
        buffer: shards.buffer_of(sale).to_string(),
        opens_at: sale.opens_at.as_ref().map(UnixMillis::to_string),
        closes_at: sale.closes_at.as_ref().map(UnixMillis::to_string),
        pools: pools.collect(),
        ..SaleView::default()
    }
}

/// The bounds that keep any partition closed.
fn admission_closed(meters: &Meters) -> Vec<String> {
    let mut closed = BTreeSet::new();
    meters.read("rushgate_admission_closed", |labels, is_closed| {
        if let Some((_, bound)) = labels.iter().find(|(label, _)| *label == "bound").filter(|_| is_closed > 0.0) {
            closed.insert(bound.clone());
        }
    });
    closed.into_iter().collect()
}

fn gauge(meters: &Meters, name: &'static str) -> Option<f64> {
    let mut found = None;
    meters.read(name, |_, value| found = Some(value));
    found
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "they are set from whole numbers")]
fn by_sale(meters: &Meters, name: &'static str) -> HashMap<String, u64> {
    let mut sales = HashMap::new();
    meters.read(name, |labels, value| {
        if let Some((_, sale)) = labels.iter().find(|(label, _)| *label == "sale") {
            sales.insert(sale.clone(), value as u64);
        }
    });
    sales
}
