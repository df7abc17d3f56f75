//! What the live feed tells, as JSON. What is not known is null, and never 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A site at one moment, as one of its processes sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// RFC 3339.
    pub at: String,
    pub node: String,
    pub roles: Vec<String>,
    pub version: String,
    pub ready: bool,
    pub draining: bool,
    /// How many sales there are; null in a process that is no gateway, which has heard of none.
    pub sales_count: Option<usize>,
    /// The first of them: those that sell or are about to, then by id.
    pub sales: Vec<SaleView>,
    /// Every gateway that is heard, or was a minute ago.
    pub nodes: Vec<NodeView>,
    /// Sums over the nodes that are heard.
    pub claims: Claims,
    /// This node's, over the last ten seconds.
    pub latency: Latency,
    pub health: Health,
    pub outbox_entries: Option<u64>,
    /// Empty: not known.
    pub lanes: Vec<LaneView>,
    /// In the queue and in the store.
    pub dead_letters: Option<u64>,
    /// Of this process; null where it is no writer.
    pub writer_lag_seconds: Option<f64>,
    /// What keeps this node closed to new grants, such as `outbox`.
    pub admission_closed: Vec<String>,
}

/// Claims by outcome.
pub type Claims = BTreeMap<String, Rate>;

/// Per second, by outcome.
pub type Rates = BTreeMap<String, f64>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    pub total: u64,
    /// Null until it was counted twice.
    pub per_second: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SaleView {
    pub sale: String,
    pub name: String,
    /// `not_open`, `open`, `paused` or `closed`.
    pub phase: String,
    pub version: u64,
    /// In units or percent.
    pub buffer: String,
    pub opens_at: Option<String>,
    pub closes_at: Option<String>,
    pub pools: Vec<PoolView>,
    /// Empty also where a node that is heard does not tell of this sale.
    pub claims: Claims,
    /// Only writers compare inventory and store.
    pub drift_units: Option<u64>,
    pub quarantined: Option<u64>,
}

/// Units of a pool on its scarcest leg.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolView {
    pub pool: String,
    pub capacity: u32,
    pub legs: u8,
    pub free: u32,
    pub held: u32,
    pub sold: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    pub node: String,
    /// The one that answers.
    pub this: bool,
    pub weight: f64,
    pub state: State,
    /// Since its last heartbeat was noticed; null where it does not number them.
    pub silent_seconds: Option<f64>,
    pub version: String,
    pub ready: Option<bool>,
    pub connections: Option<u64>,
    /// Empty until it was heard twice, and while it is silent.
    pub claims: Rates,
    /// By sale and pool.
    pub shards: BTreeMap<String, BTreeMap<String, ShardView>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    #[default]
    Alive,
    /// Two of its heartbeats are missing.
    Late,
    /// It was silent for so long that its part is the others'.
    Gone,
    /// It said that it goes.
    Left,
}

/// Units of a shard on its scarcest leg.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardView {
    /// What it may still let through.
    pub left: u32,
    /// The node's fair part of what is free, and what its shard may hold beyond that.
    pub fair: u32,
    pub buffer: u32,
}

/// In seconds; null where nobody asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub held: Option<Percentiles>,
    pub refused: Option<Percentiles>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    pub inventory: BackendView,
    pub queue: BackendView,
    pub store: BackendView,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BackendView {
    pub backend: String,
    /// Null until it was looked at.
    pub ok: Option<bool>,
    /// How long the last look took.
    pub seconds: Option<f64>,
    pub why: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LaneView {
    pub lane: String,
    pub messages: u64,
    pub consumers: u64,
}
