//! The planner: what a buffer costs and what it is good for, before the day.
//!
//! The formula is [`advice`](crate::domain::advice)'s. Beside it a crowd is sent, in virtual time, through the code that sells: the
//! shards, refills, heartbeats and batches of real nodes (`node`) over one inventory that is as fast as a budget of calls allows
//! (`server`). Some of the nodes die when half of the stock is gone (`run`). One seed gives one crowd ([`crowd`]), the same for every
//! buffer, and one outcome.
//!
//! # How exact it is
//!
//! Virtual time goes in steps of one millisecond, so what takes less takes one: a round trip, a place in Redis' line. The nodes cost no
//! CPU, the broker confirms in a fixed time, and a balancer sends no claim to a node that is gone. [`ERROR`] is how far a live run of the
//! same numbers is from it at the most, as long as its machines are not busy; `tests/gateway/plan.rs` holds that.
//!
//! What it draws, [`chart`] and [`page`] write as text.

use std::num::NonZero;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::advice::{Advice, Expected};
use crate::domain::{Buffer, Sale};
use crate::inventory::Inventory;
use crate::plan::crowd::Shape;

pub mod chart;
pub mod crowd;
mod node;
pub mod page;
mod run;
mod server;

/// How far a live run of the same numbers may be from a row, as a part of it: of its calls and of its time to sell out.
pub const ERROR: f64 = 0.15;

/// Units that are simulated, at the most; each is a claim that is decided, once for every buffer.
pub const MAX_STOCK: u32 = 100_000;
pub const MAX_NODES: u32 = 64;
/// Claims per second, at the most: so many buyers of one moment are in memory at once.
pub const MAX_PEAK: f64 = 5_000_000.0;
/// In what time a death may be noticed: what a node takes as its timeout.
pub const DETECTION: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
/// How long the stock may last, in virtual time.
pub const MAX_LENGTH: Duration = Duration::from_secs(15 * 60);
/// Buffers in one plan.
pub const MAX_ROWS: usize = 16;

/// Figures that are as near as one in so many are equal: that is chance.
const NEAR: u64 = 20;

/// Makes the inventory of a simulated sale. Who builds the process chooses which.
pub type MakeInventory = fn(Arc<dyn Clock>) -> Arc<dyn Inventory>;

/// What a plan is made for.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Units of the pool.
    pub stock: u32,
    pub nodes: u32,
    /// Nodes that die, all at once, when half of the stock is gone.
    pub survive: u32,
    /// Claims, each of another buyer and for one unit.
    pub buyers: u64,
    pub shape: Shape,
    /// In what time they all come.
    pub within: Duration,
    /// The arrivals at the busiest node, as a multiple of the average.
    pub skew: f64,
    /// Calls per second that the inventory can answer; the rest wait in line.
    pub budget: u32,
    /// What a call takes besides its place in line. Whole milliseconds, at least one.
    pub round_trip: Duration,
    pub gateway: Gateway,
}

/// What of a gateway's settings the simulated nodes run with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gateway {
    pub refill_interval: Duration,
    /// How long a death is not noticed.
    pub node_timeout: Duration,
    pub batch_max: usize,
    pub batches_in_flight: usize,
    /// How long a node waits for an answer of the inventory.
    pub inventory_timeout: Duration,
    pub request_timeout: Duration,
    /// Claims that a node decides at one time.
    pub claims_at_once: usize,
}

impl Gateway {
    pub fn of(settings: &Settings) -> Self {
        let Settings { shard, inventory, http, .. } = settings;
        Self {
            refill_interval: shard.refill_interval,
            node_timeout: shard.node_timeout,
            batch_max: inventory.batch_max,
            batches_in_flight: inventory.batches_in_flight,
            inventory_timeout: inventory.timeout,
            request_timeout: http.request_timeout,
            // A quarter of the connections is kept for those who pay, cancel or look.
            claims_at_once: (http.max_connections - http.max_connections / 4).max(1),
        }
    }
}

impl Scenario {
    /// All that is wrong with it, in the words of the command line; empty if nothing is.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |is_right: bool, why: String| {
            if !is_right {
                wrong.push(why);
            }
        };
        check(
            (1..=Sale::MAX_CAPACITY).contains(&self.stock),
            format!("the stock must be 1 to {} units; plan per pool", Sale::MAX_CAPACITY),
        );
        check((1..=MAX_NODES).contains(&self.nodes), format!("there must be 1 to {MAX_NODES} nodes"));
        check(self.survive < self.nodes.max(1), "of the nodes that may die, one must be left".to_owned());
        check(self.buyers > 0, "there must be buyers".to_owned());
        check(
            (Duration::from_millis(1)..=Duration::from_hours(24)).contains(&self.within),
            "the time within which they come must be 1ms to 24h".to_owned(),
        );
        check(
            self.skew >= 1.0 && self.skew <= f64::from(self.nodes.max(1)),
            "the skew must be 1 (an even balancer) to the number of nodes (all to one)".to_owned(),
        );
        check(
            (10..=10_000_000).contains(&self.budget),
            "the Redis budget must be 10 to 10000000 calls per second".to_owned(),
        );
        check(self.round_trip <= Duration::from_secs(1), "the round trip must be one second at the most".to_owned());
        let peak = self.expected().peak;
        check(
            self.within.is_zero() || peak <= MAX_PEAK,
            format!(
                "{peak:.0} claims per second are too many, at the most {MAX_PEAK}; fewer buyers, or more time for them"
            ),
        );
        let Gateway { node_timeout, inventory_timeout, .. } = self.gateway;
        let told = |time| humantime::format_duration(time);
        check(
            DETECTION.contains(&node_timeout),
            format!("deaths must be noticed within {} to {}", told(*DETECTION.start()), told(*DETECTION.end())),
        );
        let call = self.idle_call();
        check(
            call < inventory_timeout && call < node_timeout / 2,
            format!(
                "a call of Redis would take {} before anybody comes; nodes hear of each other if it takes less than half of the {} in \
                 which deaths are noticed, and than inventory.timeout, {}: with a larger budget or a shorter round trip",
                told(Duration::from_millis(u64::try_from(call.as_millis()).unwrap_or(u64::MAX))),
                told(node_timeout),
                told(inventory_timeout)
            ),
        );
        wrong
    }

    /// What a refill or a heartbeat takes when those of all nodes are in line.
    fn idle_call(&self) -> Duration {
        let line = 2.0 * f64::from(self.nodes) / f64::from(self.budget.max(1));
        Duration::from_secs_f64(line).saturating_add(self.round_trip)
    }

    /// Why it is too large to be simulated, if it is. The formula holds all the same.
    pub fn too_large(&self) -> Option<String> {
        if self.stock > MAX_STOCK {
            return Some(format!("{MAX_STOCK} units are simulated at the most"));
        }
        let lasts = self.lasts();
        (lasts > MAX_LENGTH).then(|| {
            format!(
                "the stock would last {}, and {} are simulated at the most; more buyers, or less time for them, make it shorter",
                humantime::format_duration(Duration::from_secs(lasts.as_secs())),
                humantime::format_duration(MAX_LENGTH)
            )
        })
    }

    /// When the last unit is asked for, or the last buyer comes.
    fn lasts(&self) -> Duration {
        let part = if self.buyers == 0 { 1.0 } else { (f64::from(self.stock) / number(self.buyers)).min(1.0) };
        self.shape.quantile(part, self.within)
    }

    /// The same as the formula takes it.
    pub fn expected(&self) -> Expected {
        Expected {
            stock: self.stock,
            nodes: self.nodes,
            survive: self.survive,
            skew: self.skew,
            peak: self.shape.peak(number(self.buyers), self.within),
            look: self.gateway.refill_interval,
            budget: f64::from(self.budget),
            batch_max: number(self.gateway.batch_max as u64),
        }
    }
}

/// What one buffer would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// As it is set: `10%`, or a number of units.
    pub buffer: String,
    /// The same in units per node, when nothing is sold yet.
    pub units: u32,
    /// From the first claim; `null` if the crowd was too small.
    pub sold_out_ms: Option<u64>,
    /// Calls of the inventory, from the first claim until the sold-out stock was known to all.
    pub calls: Calls,
    /// Claims that the inventory was asked for and had nothing for.
    pub needless: u64,
    /// Claims that found the shard empty and waited for a look at the inventory.
    pub waited: u64,
    /// Claims that heard no, or busy, while units were free.
    pub false_refusals: u64,
    /// Those of them from the death of a node until all had noticed it.
    pub false_refusals_in_death: u64,
    /// Claims that had no answer in time and were told where to ask.
    pub pending: u64,
    /// Claims that were at a node when it died, and were asked again at another.
    pub cut_off: u64,
    pub granted: u64,
    /// Of those that were granted: 99 in 100 were answered in this time.
    pub p99_ms: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Batches of claims.
    pub confirm: u64,
    /// Looks at what has changed.
    pub refill: u64,
    pub heartbeat: u64,
    /// In the busiest second.
    pub most_per_second: u64,
}

impl Calls {
    pub fn all(&self) -> u64 {
        self.confirm + self.refill + self.heartbeat
    }
}

/// A plan: what the formula says, and what was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub scenario: Scenario,
    pub seed: u64,
    pub advice: Advice,
    /// From the smallest buffer to the largest; none where nothing was simulated.
    pub rows: Vec<Row>,
}

impl Plan {
    /// What the formula alone says.
    pub fn by_formula(scenario: Scenario, seed: u64) -> Self {
        let advice = scenario.expected().advice();
        Self { scenario, seed, advice, rows: Vec::new() }
    }

    /// The row to set. What is lost counts before what is slow, and that before what is dear: of the rows with the fewest false refusals
    /// those that sell out first, of these those with the fewest calls, of these those with the fewest claims that waited or asked in
    /// vain; all but the first to one in twenty. Of what is left the smallest buffer.
    pub fn recommended(&self) -> usize {
        let mut best: Vec<_> = (0..self.rows.len()).collect();
        let mut keep_least = |figure: fn(&Row) -> u64, near: u64| {
            let least = best.iter().map(|index| figure(&self.rows[*index])).min().unwrap_or(0);
            let most = least.saturating_add(least.checked_div(near).unwrap_or(0));
            best.retain(|index| figure(&self.rows[*index]) <= most);
        };
        keep_least(|row| row.false_refusals, 0);
        keep_least(|row| row.sold_out_ms.unwrap_or(u64::MAX), NEAR);
        keep_least(|row| row.calls.all(), NEAR);
        keep_least(|row| row.waited + row.needless, NEAR);
        best.first().copied().unwrap_or(0)
    }

    /// The row of the formula's buffer, if it was simulated.
    pub fn formula(&self) -> Option<usize> {
        let advised = self.advice.buffer.to_string();
        self.rows.iter().position(|row| row.buffer == advised)
    }
}

/// The buffers to try where nobody says which: some that are usual, the formula's, and the one that is set.
pub fn usual_buffers(advice: &Advice, is_set: Buffer) -> Vec<Buffer> {
    let usual = [0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0].map(Buffer::Fraction);
    usual.into_iter().chain([advice.buffer, is_set]).collect()
}

/// It was told to stop.
#[derive(Debug, thiserror::Error)]
#[error("the simulation was stopped before its end")]
pub struct Stopped;

/// Simulates each of these buffers, on as many threads as there are cores, until it is told to stop.
///
/// The scenario has nothing wrong with it and is not too large. Of buffers with the same text one is simulated; a part and a number that
/// come to the same units at first are two, since the part shrinks with the stock.
pub fn simulate(
    scenario: &Scenario,
    buffers: &[Buffer],
    seed: u64,
    inventory: MakeInventory,
    stop: &AtomicBool,
) -> Result<Plan, Stopped> {
    let buffers = in_order(scenario, buffers);
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(vec![None; buffers.len()]);
    let workers = thread::available_parallelism().map_or(1, NonZero::get).min(buffers.len());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(buffer) = buffers.get(at) else { break };
                    let row = run::run(scenario, *buffer, (seed, inventory), stop);
                    rows.lock().unwrap_or_else(PoisonError::into_inner)[at] = row;
                }
            });
        }
    });
    let rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    let rows = rows.into_iter().collect::<Option<Vec<_>>>().ok_or(Stopped)?;
    Ok(Plan { rows, ..Plan::by_formula(scenario.clone(), seed) })
}

/// By their units; of those that are the same text, one.
fn in_order(scenario: &Scenario, buffers: &[Buffer]) -> Vec<Buffer> {
    let mut buffers = buffers.to_vec();
    buffers.sort_by_cached_key(|buffer| (units(scenario, *buffer), buffer.to_string()));
    buffers.dedup_by_key(|buffer| buffer.to_string());
    buffers
}

/// What a buffer is in units per node, when nothing is sold yet.
fn units(scenario: &Scenario, buffer: Buffer) -> u32 {
    match buffer {
        Buffer::Units(units) => units,
        Buffer::Fraction(_) => {
            let all = f64::from(scenario.nodes);
            let share = |buffer| crate::domain::share::share(scenario.stock, 1.0, all, buffer);
            share(buffer) - share(Buffer::Units(0))
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "crowds stay far below 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
