//! What was aimed at, and what came of it.

use crate::bench::figures::{Measured, Run, Series};
use crate::bench::workloads::{BARE, BARE_ON_CORES, BESIDE, LOCK, NAIVE, NAIVE_IN_BATCH, OURS, PARTS};

/// A bound for a figure that was measured.
pub(super) struct Goal {
    pub(super) what: &'static str,
    pub(super) bound: Bound,
    pub(super) figures: Figures,
}

/// What was measured of a goal; `None`: not in this run.
#[derive(Clone, Copy, Default)]
pub(super) struct Figures {
    pub(super) ours: Option<f64>,
    /// The same of the least that answers at all, where there is such a one: hyper on cores for a refusal, the parts alone for an order.
    pub(super) floor: Option<f64>,
    /// Ours, against the naive design in the batch class, where the goal is against that design.
    pub(super) alike: Option<f64>,
    /// Ours, of the build that is measured beside this one.
    pub(super) beside: Option<f64>,
}

#[derive(Clone, Copy)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    pub(super) fn is_met(&self) -> Option<bool> {
        self.figures.ours.map(|measured| match self.bound {
            Bound::AtLeast(bound) => measured >= bound,
            Bound::AtMost(bound) => measured <= bound,
        })
    }
}

const ANSWERING: &[&str] = &["gateway", "redis", "broker"];

#[expect(clippy::too_many_lines, reason = "a table, one goal after the other")]
pub(super) fn goals(run: &Run) -> Vec<Goal> {
    let at_least = |what, bound, figures| Goal { what, bound: Bound::AtLeast(bound), figures };
    let at_most = |what, bound, figures| Goal { what, bound: Bound::AtMost(bound), figures };
    let with_floor = |floor, of: &dyn Fn(&'static str) -> Option<f64>| Figures {
        ours: of(OURS),
        floor: of(floor),
        alike: None,
        beside: of(BESIDE),
    };
    let only = |ours| Figures { ours, ..Figures::default() };
    let rate = Measured::rate_of_answers;
    let gateway = |one: &Measured| one.cpu_of(&["gateway"]);
    let redis = |one: &Measured| one.cpu_of(&["redis"]);
    let answering = |one: &Measured| one.cpu_of(ANSWERING);
    let p99 = |one: &Measured| one.report.accepted.p99;
    let p50 = |one: &Measured| one.report.accepted.p50;
    let sold_out = |design| run.series("sold out", design, None);
    let rush = |design, connections| run.series("rush", design, Some(connections));
    let against_naive = |connections, of: &dyn Fn(&Measured) -> f64| {
        let ratio = |design, naive| rush(design, connections).ratio(rush(naive, connections), of);
        let of = |design| ratio(design, NAIVE);
        Figures { ours: of(OURS), floor: of(PARTS), alike: ratio(OURS, NAIVE_IN_BATCH), beside: of(BESIDE) }
    };
    let stored = |design| run.series("end to end", design, None);
    let alone = |design| run.series("lone buyer", design, None);
    let train = |design| run.series("train", design, None);
    let memory = |design, figure: &'static str| {
        run.series("memory", design, None).slices().map(|one| one.figure(figure)).find(|value| !value.is_nan())
    };
    let drained = |design| run.series("writer", design, None);
    vec![
        at_least(
            "sold out: requests/s, of bare hyper's",
            0.92,
            with_floor(BARE_ON_CORES, &|design| sold_out(design).ratio(sold_out(BARE), rate)),
        ),
        at_most(
            "sold out: CPU of the gateway, of bare hyper's",
            1.15,
            with_floor(BARE_ON_CORES, &|design| sold_out(design).ratio(sold_out(BARE), gateway)),
        ),
        at_least("rush, 256 connections: orders/s, of the naive design's", 4.0, against_naive(256, &rate)),
        at_least("rush, 512 connections: orders/s, of the naive design's", 4.0, against_naive(512, &rate)),
        at_least(
            "rush, 256 connections: orders/s, of bare hyper's",
            0.40,
            with_floor(PARTS, &|design| rush(design, 256).ratio(rush(BARE, 256), rate)),
        ),
        at_least(
            "rush, 512 connections: orders/s, of bare hyper's",
            0.40,
            with_floor(PARTS, &|design| rush(design, 512).ratio(rush(BARE, 512), rate)),
        ),
        at_most(
            "rush, 256 connections: µs of gateway, Redis and broker per order",
            18.0,
            with_floor(PARTS, &|design| rush(design, 256).median(answering)),
        ),
        at_least("to a committed row: orders/s, of bare hyper's", 0.30, only(stored(OURS).ratio(stored(BARE), rate))),
        at_most(
            "to a committed row: µs of all processes per order",
            24.0,
            only(stored(OURS).median(Measured::cpu_of_all)),
        ),
        at_most(
            "to a committed row: seconds until the lanes are empty",
            1.0,
            only(stored(OURS).median(|one| one.settled)),
        ),
        at_least(
            "sold out, 256 connections: requests/s, of spikeSystem's design",
            2.5,
            with_floor(BARE_ON_CORES, &|design| {
                at_256(run, "sold out", design).ratio(at_256(run, "sold out", LOCK), rate)
            }),
        ),
        at_least(
            "rush, 256 connections: orders/s, of spikeSystem's design",
            4.5,
            with_floor(PARTS, &|design| rush(design, 256).ratio(rush(LOCK, 256), rate)),
        ),
        at_most(
            "rush, 256 connections: CPU of Redis per order, of one EVALSHA per order",
            0.35,
            against_naive(256, &redis),
        ),
        at_least(
            "writer: rows/s, of one row per transaction",
            30.0,
            only(drained(OURS).ratio(drained(NAIVE), |one| one.figure("rows/s"))),
        ),
        at_least("writer: rows/s, of the orders/s of the rush", 1.0, only(writer_against_rush(run))),
        at_most(
            "a lone buyer: p50, of the naive design's",
            1.2,
            Figures {
                alike: alone(OURS).ratio(alone(NAIVE_IN_BATCH), p50),
                ..only(alone(OURS).ratio(alone(NAIVE), p50))
            },
        ),
        at_most("rush, 512 connections: p99, of the naive design's", 0.4, against_naive(512, &p99)),
        at_most("memory: bytes per hold in the gateway", 300.0, only(memory(OURS, "gateway bytes/hold"))),
        at_most("memory: bytes per hold in Redis", 400.0, only(memory(OURS, "redis bytes/hold"))),
        at_most("memory: MB of a gateway with 10,000 idle connections", 150.0, only(memory("idle connections", "MB"))),
        at_most(
            "twelve legs, two lines: CPU, of one leg's",
            1.6,
            only(train("twelve legs, two lines").ratio(train("one leg"), answering)),
        ),
    ]
}

fn at_256<'r>(run: &'r Run, workload: &'r str, design: &'r str) -> Series<'r> {
    run.series(workload, design, Some(256))
}

/// Both alone on the machine: the writer with nothing but the lanes to empty, the rush with no writer beside it.
fn writer_against_rush(run: &Run) -> Option<f64> {
    let rows = run.series("writer", OURS, None).median(|one| one.figure("rows/s"))?;
    Some(rows / run.series("rush", OURS, Some(256)).median(Measured::rate_of_answers)?)
}
