//! Advice about buffers, by the formula alone and from this node's memory: what one would do now, and what the set one has done.

use std::collections::HashMap;

use serde_json::json;

use crate::admin::problem::{Code, Problem};
use crate::admin::{Answer, Parts};
use crate::admission::{SaleShard, Shards};
use crate::domain::advice::{self, stranded};
use crate::domain::{Buffer, Invalid, NodeId, PoolId, SaleId, share};
use crate::meters::{Counter, Gauge, Meters};

/// What a preview is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// `None`: the one that is set.
    pub buffer: Option<Buffer>,
    /// Nodes that may die at once: the heaviest are assumed to. `None`: one, where there are several.
    pub survive: Option<usize>,
    /// The arrivals at the busiest node, as a multiple of the average.
    pub skew: f64,
}

/// What this buffer would do to a sale at this moment.
pub(super) fn preview(parts: &Parts, id: &SaleId, preview: &Preview) -> Result<Answer, Problem> {
    let Some(shards) = &parts.shards else {
        return Err(Problem::new(Code::NoGateway, "This process is no gateway and has no shards; ask a gateway."));
    };
    let Some(shard) = shards.sale(id.as_str()) else {
        return Err(Problem::new(Code::UnknownSale, "This node has heard of no such sale."));
    };
    let nodes = Weights::of(shards, &parts.process.node);
    let survive = preview.survive.unwrap_or_else(|| 1.min(nodes.count() - 1));
    check((survive, preview.skew), nodes.count())?;
    let is_set = shards.buffer_of(&shard.sale);
    let buffer = preview.buffer.unwrap_or(is_set);
    let weights = nodes.lightest_first();
    let (living, dying) = weights.split_at(weights.len() - survive);
    let gone = dying.iter().sum();
    let advised = advice::advised(living.iter().copied(), gone, preview.skew);
    let reached =
        |free| weights.iter().map(|weight| u64::from(share::share(free, *weight, nodes.all(), buffer))).sum::<u64>();
    let pools = free_units(&shard).into_iter().zip(shard.buffer_use()).map(|(pool, (used, wasted))| {
        json!({
            "pool": pool.pool.as_str(),
            "capacity": pool.capacity,
            "free": pool.least(),
            "free_max": pool.most(u64::from),
            "fair_units": pool.most(|free| nodes.share(free, Buffer::Units(0))),
            "buffer_units": pool.most(|free| nodes.beyond_fair(free, buffer)),
            "advised_units": pool.most(|free| nodes.beyond_fair(free, advised)),
            "stranded_units": pool.most(|free| stranded(free, living, gone, buffer)),
            "needless_claims_max": pool.most(|free| reached(free).saturating_sub(u64::from(free))),
            "buffer_used_units": used,
            "buffer_wasted_units": wasted,
        })
    });
    Ok(Answer::ok(json!({
        "sale": id.as_str(),
        "node": parts.process.node.as_str(),
        "nodes": nodes.count(),
        "survive": survive,
        "skew": preview.skew,
        "buffer": buffer.to_string(),
        "set": is_set.to_string(),
        "advised": advised.to_string(),
        "pools": pools.collect::<Vec<_>>(),
    })))
}

fn check((survive, skew): (usize, f64), nodes: usize) -> Result<(), Problem> {
    let mut wrong = Vec::new();
    if survive >= nodes {
        wrong.push(Invalid::new("?survive", format!("must be less than the {nodes} nodes alive")));
    }
    if !(skew >= 1.0 && skew <= f64::from(u32::try_from(nodes).unwrap_or(u32::MAX))) {
        wrong.push(Invalid::new("?skew", format!("must be 1 to {nodes}, the number of nodes alive")));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Problem::invalid(&wrong)) }
}

/// The units of a pool that are free, leg by leg. What a buffer does is told of the leg where it does most: on a train all may be gone
/// on one leg, and most of it be free on another.
struct Free {
    pool: PoolId,
    capacity: u32,
    legs: Vec<u32>,
}

impl Free {
    /// For the whole journey.
    fn least(&self) -> u32 {
        self.legs.iter().copied().min().unwrap_or(0)
    }

    fn most<T: Ord + Default>(&self, figure: impl Fn(u32) -> T) -> T {
        self.legs.iter().copied().map(figure).max().unwrap_or_default()
    }
}

fn free_units(shard: &SaleShard) -> Vec<Free> {
    let stock = shard.stock();
    let of_pool = |pool: &crate::domain::Pool| {
        let legs = stock.iter().filter(|leg| leg.pool == pool.id).map(|leg| leg.free).collect();
        Free { pool: pool.id.clone(), capacity: pool.capacity, legs }
    };
    shard.sale.pools.iter().map(of_pool).collect()
}

/// This node's weight, and those of the others alive.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    own: f64,
    others: Vec<f64>,
}

impl Weights {
    pub(super) fn of(shards: &Shards, node: &NodeId) -> Self {
        let nodes = shards.nodes();
        let own = nodes.iter().find(|beat| beat.node == *node).map_or(1.0, |beat| beat.weight);
        let others = nodes.iter().filter(|beat| beat.node != *node).map(|beat| beat.weight);
        Self { own, others: others.collect() }
    }

    fn all(&self) -> f64 {
        self.others.iter().sum::<f64>() + self.own
    }

    fn count(&self) -> usize {
        self.others.len() + 1
    }

    fn share(&self, free: u32, buffer: Buffer) -> u32 {
        share::share(free, self.own, self.all(), buffer)
    }

    /// Units that this node's shard may hold beyond its fair part of what is free.
    fn beyond_fair(&self, free: u32, buffer: Buffer) -> u32 {
        self.share(free, buffer) - self.share(free, Buffer::Units(0))
    }

    fn lightest_first(&self) -> Vec<f64> {
        let mut weights = self.others.clone();
        weights.push(self.own);
        weights.sort_by(f64::total_cmp);
        weights
    }

    /// The buffer with which the others reach all that is free when the heaviest node dies; none for one that is alone.
    fn advised(&self) -> Buffer {
        match self.lightest_first()[..] {
            [] | [_] => Buffer::Units(0),
            [ref living @ .., heaviest] => advice::advised(living.iter().copied(), heaviest, 1.0),
        }
    }
}

/// The metrics of what buffers are good for, pool by pool.
#[derive(Debug, Default)]
pub(super) struct BufferGauges(HashMap<(SaleId, PoolId), BufferMeters>);

#[derive(Debug)]
struct BufferMeters {
    buffer: Gauge,
    used: Counter,
    wasted: Counter,
    stranded: Gauge,
    advised: Gauge,
}

impl BufferGauges {
    /// Reads one sale, from this node's memory alone.
    pub(super) fn read(&mut self, meters: &Meters, shard: &SaleShard, (weights, buffer): (&Weights, Buffer)) {
        let advised = weights.advised();
        for (pool, (used, wasted)) in free_units(shard).into_iter().zip(shard.buffer_use()) {
            let of = [("sale", shard.sale.id.as_str()), ("pool", pool.pool.as_str())];
            let gauges = self.0.entry((shard.sale.id.clone(), pool.pool.clone())).or_insert_with(|| BufferMeters {
                buffer: meters.gauge("rushgate_shard_buffer_units", &of),
                used: meters.counter("rushgate_shard_buffer_used_units_total", &of),
                wasted: meters.counter("rushgate_shard_buffer_wasted_units_total", &of),
                stranded: meters.gauge("rushgate_shard_stranded_units", &of),
                advised: meters.gauge("rushgate_shard_buffer_advised_units", &of),
            });
            gauges.buffer.set(pool.most(|free| weights.beyond_fair(free, buffer)));
            gauges.used.absolute(used);
            gauges.wasted.absolute(wasted);
            gauges.stranded.set(pool.most(|free| stranded(free, &weights.others, weights.own, buffer)));
            gauges.advised.set(pool.most(|free| weights.beyond_fair(free, advised)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(own: f64, others: &[f64]) -> Weights {
        Weights { own, others: others.to_vec() }
    }

    #[test]
    fn the_buffer_is_what_a_shard_may_hold_beyond_its_fair_part() {
        let four = nodes(1.0, &[1.0; 3]);
        assert_eq!(four.beyond_fair(1000, Buffer::Units(50)), 50);
        assert_eq!(four.beyond_fair(1000, Buffer::Fraction(0.1)), 25);
        assert_eq!(nodes(1.0, &[]).beyond_fair(1000, Buffer::Units(50)), 0);
    }

    #[test]
    fn the_advice_is_for_the_death_of_the_heaviest() {
        let units = |nodes: &Weights| nodes.beyond_fair(1000, nodes.advised());
        assert_eq!(units(&nodes(1.0, &[1.0; 3])), 85, "34 % of 250");
        assert_eq!(units(&nodes(1.0, &[2.0, 1.0])), 250, "those of half the weight have to reach all");
        assert_eq!(units(&nodes(1.0, &[])), 0);
    }

    #[test]
    fn the_advice_is_the_same_whichever_node_is_asked() {
        for (own, others) in [(4.0, [1.0, 1.0]), (1.0, [4.0, 1.0]), (1.0, [1.0, 4.0])] {
            let advised = nodes(own, &others).advised();
            assert_eq!(advised, Buffer::Fraction(2.0), "{own}");
            assert_eq!(stranded(999, &[1.0, 1.0], 4.0, advised), 0, "{own}");
        }
    }

    #[test]
    fn what_a_buffer_does_is_told_of_the_leg_where_it_does_most() {
        let pool = Free { pool: "second".parse().unwrap(), capacity: 1000, legs: vec![0, 900, 20] };
        assert_eq!((pool.least(), pool.most(u64::from)), (0, 900));
        assert_eq!(pool.most(|free| stranded(free, &[1.0; 2], 1.0, Buffer::Units(0))), 300);
        assert_eq!(Free { legs: Vec::new(), ..pool }.most(u64::from), 0);
    }

    #[test]
    fn a_preview_must_leave_a_node() {
        let preview = |survive, skew| check((survive, skew), 3).is_ok();
        assert!(preview(2, 1.0) && preview(0, 3.0));
        assert!(!preview(3, 1.0) && !preview(1, 3.1) && !preview(1, 0.9) && !preview(1, f64::NAN));
    }
}
