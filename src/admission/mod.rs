//! The first and cheapest no: which claims this node lets through, decided from memory.
//!
//! Each node holds a shard of every pool's free stock (`shard`), set anew whenever the inventory says that something changed
//! (`refill`), by how many nodes are alive (`registry`); `status` is what they tell each other beside that. The same request is asked
//! once at a time (`in_line`). When a pool is gone but not all of it is paid, `release_times` knows when to come back. When what is
//! granted piles up behind the inventory, `pressure` closes the node to more. `refusals` remembers what was said to whom lately.
//!
//! Nothing in here grants: a permit is leave to ask the inventory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use crossbeam::atomic::AtomicCell;
use dashmap::DashSet;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::live::Live;
use crate::domain::{
    Buffer, BuildById, Epoch, OrderHint, OrderId, Partition, Sale, SaleId, Scope, UnixMillis, Wanted, each_leg,
};
use crate::inventory::{Changes, LegStock, NodeBeat};

pub mod in_line;
pub mod pressure;
pub mod refill;
pub mod refusals;
pub mod registry;
pub mod release_times;
mod shard;
pub mod status;

pub use shard::{LegShard, Permit, Shut};

/// All shards of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shards(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    partitions: u16,
    weight: Live<f64>,
    /// The sum over all nodes alive, as the bits of an `f64`.
    weights: AtomicU64,
    /// For sales that do not set their own.
    buffer: Live<Buffer>,
    nodes: ArcSwap<Vec<NodeBeat>>,
    sales: ArcSwap<HashMap<SaleId, Arc<SaleShard>, foldhash::fast::RandomState>>,
    /// Every order that was granted, by any node, as far as this one has heard.
    granted: DashSet<OrderHint, BuildById>,
    /// By partition, the epoch whose versions the counters have. Keeps those apart who learn; those who take permits never wait for it.
    begun: Mutex<Vec<Epoch>>,
    refills: Vec<Refills>,
}

/// The refills of one partition: who wants one, and how many there were.
#[derive(Debug, Default)]
struct Refills {
    wanted: Notify,
    /// How many there were.
    done: AtomicU64,
    /// There was one more, or there will be no more.
    one_more: Notify,
    /// One copy, so that nobody pairs a version with another's scope.
    news: AtomicCell<Option<News>>,
}

/// How much of what was granted this node has heard.
#[derive(Debug, Clone, Copy)]
struct News {
    /// What was heard of another epoch says nothing about this one.
    scope: Scope,
    /// The version up to which all granted orders are known. Counters may be known beyond it, from this node's own batches.
    version: u64,
    until: Instant,
}

/// What the count of refills stands at when they have ended.
const NO_MORE: u64 = u64::MAX;

/// One sale on this node: its definition, and a counter per pool and leg.
#[derive(Debug)]
pub struct SaleShard {
    pub sale: Sale,
    pub partition: Partition,
    /// In the order of the sale's pools, then of their legs.
    pools: Vec<Vec<Arc<LegShard>>>,
    /// When unpaid units may come back, in Unix milliseconds; 0: not known.
    next_release: Arc<AtomicI64>,
}

impl Shards {
    /// `buffer` is for sales that do not set their own.
    pub fn new(partitions: u16, weight: impl Into<Live<f64>>, buffer: impl Into<Live<Buffer>>) -> Self {
        let (weight, buffer) = (weight.into(), buffer.into());
        Self(Arc::new(Inner {
            partitions,
            weights: AtomicU64::new(weight.get().to_bits()),
            weight,
            buffer,
            nodes: ArcSwap::default(),
            sales: ArcSwap::default(),
            granted: DashSet::default(),
            begun: Mutex::new(Partition::all(partitions).map(|_| Epoch(0)).collect()),
            refills: Partition::all(partitions).map(|_| Refills::default()).collect(),
        }))
    }

    /// Looks at one sale, if this node has heard of it, without a count of who holds it: that costs each core the others' time.
    pub fn look<T>(&self, id: &str, look: impl FnOnce(&SaleShard) -> T) -> Option<T> {
        self.0.sales.load().get(id).map(|shard| look(shard))
    }

    /// One sale, if this node has heard of it.
    pub fn sale(&self, id: &str) -> Option<Arc<SaleShard>> {
        self.0.sales.load().get(id).map(Arc::clone)
    }

    /// All sales that this node has heard of.
    pub fn sales(&self) -> Vec<Arc<SaleShard>> {
        self.0.sales.load().values().map(Arc::clone).collect()
    }

    /// The nodes alive, as last heard.
    pub fn nodes(&self) -> Arc<Vec<NodeBeat>> {
        self.0.nodes.load_full()
    }

    /// Has this node heard of all that the partition sells?
    pub fn is_filled(&self, partition: Partition) -> bool {
        self.refills(partition).is_some_and(|refills| refills.done.load(Ordering::Acquire) > 0)
    }

    /// Could a request for this order be a repetition of one that was granted? If not, a refusal from memory is its first answer.
    ///
    /// Good for a refusal only after [`Self::has_heard_of_all`]: what was heard until then is known then. An order that another node granted
    /// since, out of a unit that came back since, is missed for as long as what was heard is news: a few refills at the most.
    pub fn may_be_granted(&self, order: OrderId) -> bool {
        self.0.granted.contains(&order.hint())
    }

    /// Has this node heard of every order that was granted in this scope before the counters of these lines became what it knows,
    /// and not too long ago? Its own batches tell it the counters, and nothing of what other nodes granted.
    pub fn has_heard_of_all(&self, scope: Scope, shard: &SaleShard, wanted: &[Wanted]) -> bool {
        let Some(refills) = self.refills(scope.partition) else { return false };
        refills.news.load().is_some_and(|news| {
            let is_news = news.scope == scope && Instant::now() < news.until;
            is_news && shard.legs(wanted).all(|leg| leg.version() <= news.version)
        })
    }

    /// Takes note of what the inventory said changed in this scope. Of an epoch older than the counters' only what was granted counts: a
    /// batch may have been on its way for as long as a recovery takes. Returns whether all of it counted.
    pub fn learn(&self, scope: Scope, changes: &Changes) -> bool {
        // Before the counters: who sees that nothing is left must see who got it.
        changes.granted.iter().for_each(|hint| {
            self.0.granted.insert(*hint);
        });
        let mut begun = self.begun();
        match begun.get_mut(usize::from(scope.partition.0)) {
            Some(epoch) if scope.epoch > *epoch => self.begin_with(epoch, scope),
            Some(epoch) if scope.epoch == *epoch => {}
            _ => return false,
        }
        if !changes.sales.is_empty() {
            let mut sales = HashMap::clone(&self.0.sales.load());
            for sale in &changes.sales {
                let known = sales.get(&sale.id).map(Arc::clone);
                sales.insert(sale.id.clone(), Arc::new(SaleShard::new(sale, known.as_deref(), self.0.partitions)));
            }
            self.0.sales.store(Arc::new(sales));
            for sale in &changes.sales {
                self.refill_sale(sale.id.as_str());
            }
        }
        let sales = self.0.sales.load();
        for stock in &changes.stock {
            let Some(shard) = sales.get(&stock.sale) else { continue };
            let Some(leg) = shard.leg(stock) else { continue };
            if leg.learn(changes.version, stock) {
                leg.refill(self.weight(), self.weights(), self.buffer_of(&shard.sale));
            }
        }
        true
    }

    /// Takes note of who is alive.
    pub fn learn_nodes(&self, nodes: Vec<NodeBeat>) {
        let weights: f64 = nodes.iter().map(|node| node.weight).sum();
        let before = f64::from_bits(self.0.weights.swap(weights.to_bits(), Ordering::Relaxed));
        self.0.nodes.store(Arc::new(nodes));
        if (before - weights).abs() > f64::EPSILON {
            tracing::info!(before, weights, "the weights of the nodes alive have changed");
            self.refill_all();
        }
    }

    /// Sets every counter anew from what is known.
    pub fn refill_all(&self) {
        let _one_at_a_time = self.begun();
        for id in self.0.sales.load().keys() {
            self.refill_sale(id.as_str());
        }
    }

    /// Asks for a refill and waits until there was one. Returns whether there will be another.
    pub async fn refilled(&self, partition: Partition) -> bool {
        let Some(refills) = self.refills(partition) else { return false };
        // Listens before it looks, so that one in between is not missed.
        let one_more = refills.one_more.notified();
        if refills.done.load(Ordering::Acquire) == NO_MORE {
            return false;
        }
        refills.wanted.notify_one();
        one_more.await;
        refills.done.load(Ordering::Acquire) != NO_MORE
    }

    /// How often this node has looked at the inventory for what has changed, over all partitions.
    pub fn looks(&self) -> u64 {
        let done = self.0.refills.iter().map(|refills| refills.done.load(Ordering::Relaxed));
        done.filter(|done| *done != NO_MORE).sum()
    }

    /// How many units this node may let through at this moment, per pool and leg.
    pub fn left(&self, shard: &SaleShard) -> Vec<Vec<u32>> {
        shard.pools.iter().map(|legs| legs.iter().map(|leg| leg.left()).collect()).collect()
    }

    /// The buffer that this sale's shards have.
    pub fn buffer_of(&self, sale: &Sale) -> Buffer {
        sale.buffer.unwrap_or_else(|| self.0.buffer.get())
    }

    pub(super) fn weight(&self) -> f64 {
        self.0.weight.get()
    }

    /// Resolves when this node's weight has changed since this call.
    fn weight_changed(&self) -> impl Future<Output = ()> + use<'_> {
        self.0.weight.changed()
    }

    /// Resolves when this node's weight or buffer has changed since this call.
    fn tuned(&self) -> impl Future<Output = ()> + use<'_> {
        let (weight, buffer) = (self.0.weight.changed(), self.0.buffer.changed());
        async {
            tokio::select! {
                biased;
                () = weight => {}
                () = buffer => {}
            }
        }
    }

    fn weights(&self) -> f64 {
        f64::from_bits(self.0.weights.load(Ordering::Relaxed))
    }

    fn refills(&self, partition: Partition) -> Option<&Refills> {
        self.0.refills.get(usize::from(partition.0))
    }

    fn refill_sale(&self, id: &str) {
        let sales = self.0.sales.load();
        let Some(shard) = sales.get(id) else { return };
        let buffer = self.buffer_of(&shard.sale);
        for leg in shard.pools.iter().flatten() {
            leg.refill(self.weight(), self.weights(), buffer);
        }
    }

    fn begun(&self) -> MutexGuard<'_, Vec<Epoch>> {
        // Whoever panicked has left counters that the next refill sets.
        self.0.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on everything is learnt anew in this scope, which this process has joined: also where a store was set back, and its epochs
    /// with it.
    fn begin(&self, scope: Scope) {
        if let Some(epoch) = self.begun().get_mut(usize::from(scope.partition.0)) {
            self.begin_with(epoch, scope);
        }
    }

    /// A new epoch counts its versions anew.
    fn begin_with(&self, epoch: &mut Epoch, scope: Scope) {
        *epoch = scope.epoch;
        if let Some(refills) = self.refills(scope.partition) {
            refills.news.store(None);
        }
        for shard in self.0.sales.load().values().filter(|shard| shard.partition == scope.partition) {
            shard.pools.iter().flatten().for_each(|leg| leg.forget_version());
        }
    }
}

impl Refills {
    /// There was a refill.
    fn count_one(&self) {
        self.done.fetch_add(1, Ordering::AcqRel);
        self.one_more.notify_waiters();
    }

    /// There will be none any more.
    fn end(&self) {
        self.done.store(NO_MORE, Ordering::Release);
        self.one_more.notify_waiters();
    }
}

impl SaleShard {
    fn new(sale: &Sale, known: Option<&Self>, partitions: u16) -> Self {
        let counters = |pool: &crate::domain::Pool| {
            let legs = (0..sale.leg_count()).map(|leg| known.and_then(|known| known.counter(pool.id.as_str(), leg)));
            legs.map(Option::unwrap_or_default).collect()
        };
        Self {
            partition: Partition::of(&sale.id, partitions),
            pools: sale.pools.iter().map(counters).collect(),
            next_release: known.map(|known| Arc::clone(&known.next_release)).unwrap_or_default(),
            sale: sale.clone(),
        }
    }

    /// Leave to ask for all these lines, or what shut the first leg that had too little.
    pub fn permit(&self, wanted: &[Wanted]) -> Result<Permit, Shut> {
        let mut permit = Permit::default();
        for (pool, leg, units) in each_leg(wanted) {
            permit.take(&self.pools[pool][usize::from(leg)], units)?;
        }
        Ok(permit)
    }

    /// What [`Self::permit`] would be refused for at this moment; nothing is taken.
    pub fn shut(&self, wanted: &[Wanted]) -> Option<Shut> {
        each_leg(wanted).find_map(|(pool, leg, units)| self.pools[pool][usize::from(leg)].is_shut(units))
    }

    /// The counters of all legs of these lines.
    fn legs<'a>(&'a self, wanted: &'a [Wanted]) -> impl Iterator<Item = &'a Arc<LegShard>> {
        wanted.iter().flat_map(|line| line.legs.iter().map(|leg| &self.pools[line.pool][usize::from(leg)]))
    }

    /// Per pool, over all legs: units that were let through beyond this node's fair part, and units let through that the inventory did
    /// not have.
    pub fn buffer_use(&self) -> Vec<(u64, u64)> {
        let of_pool = |legs: &Vec<Arc<LegShard>>| {
            legs.iter().map(|leg| leg.buffer_use()).fold((0, 0), |(used, wasted), (u, w)| (used + u, wasted + w))
        };
        self.pools.iter().map(of_pool).collect()
    }

    /// The counters as this node last heard of them.
    pub fn stock(&self) -> Vec<LegStock> {
        let mut stock = Vec::new();
        for (pool, legs) in self.sale.pools.iter().zip(&self.pools) {
            for (leg, shard) in (0..).zip(legs) {
                let (free, held, sold) = shard.known();
                stock.push(LegStock { sale: self.sale.id.clone(), pool: pool.id.clone(), leg, free, held, sold });
            }
        }
        stock
    }

    /// When unpaid units may come back at the earliest, if that is known.
    pub fn next_release(&self) -> Option<UnixMillis> {
        Some(self.next_release.load(Ordering::Relaxed)).filter(|at| *at > 0).map(UnixMillis)
    }

    fn learn_next_release(&self, at: Option<UnixMillis>) {
        self.next_release.store(at.map_or(0, |at| at.0), Ordering::Relaxed);
    }

    fn leg(&self, stock: &LegStock) -> Option<&Arc<LegShard>> {
        let (pool, _) = self.sale.pool(stock.pool.as_str())?;
        self.pools[pool].get(usize::from(stock.leg))
    }

    fn counter(&self, pool: &str, leg: u8) -> Option<Arc<LegShard>> {
        let (pool, _) = self.sale.pool(pool)?;
        self.pools[pool].get(usize::from(leg)).map(Arc::clone)
    }
}
