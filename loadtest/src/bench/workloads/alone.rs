//! Few who ask: nobody who is alone waits for a batch, and at a rate that all can serve nobody waits in line.

use anyhow::Context as _;

use crate::bench::Bench;
use crate::bench::peers::{Naive, Stock};
use crate::bench::workloads::{INHERITED, NAIVE, NAIVE_IN_BATCH, OURS, PLENTY};

/// Claims per second that even the naive design can serve on two cores.
const RATE: f64 = 4000.0;

pub(super) async fn lone(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.options.wants("lone buyer") {
        return Ok(());
    }
    in_turns(bench, "lone buyer", &mut [OURS, NAIVE, NAIVE_IN_BATCH], (1, None)).await
}

pub(super) async fn open(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.options.wants("open") {
        return Ok(());
    }
    bench.site.add_gateway(INHERITED, None, &["node.scheduling=inherited"]).await?;
    in_turns(bench, "open", &mut [OURS, INHERITED, NAIVE, NAIVE_IN_BATCH], (256, Some(RATE))).await?;
    bench.site.keep_gateways(1).await
}

async fn in_turns(
    bench: &mut Bench,
    workload: &str,
    designs: &mut [&str],
    (connections, rate): (usize, Option<f64>),
) -> anyhow::Result<()> {
    let mut pressure = bench.pressure(connections);
    pressure.rate = rate;
    for repetition in 0..bench.options.repetitions {
        fastrand::shuffle(designs);
        for design in &*designs {
            let (named, sale) = ((workload, repetition), bench.fresh("rush"));
            let measured = if [OURS, INHERITED].contains(design) {
                let sales = [sale];
                bench.site.sale(&sales[0], PLENTY).await?;
                let target = bench.ours_as(design, &sales).context("no such design")?;
                bench.slice_of_ours(named, (&sales, &target), pressure, true).await?
            } else {
                let servers = bench.options.servers.clone();
                Stock::NAIVE.set(&servers, &sale, PLENTY).await?;
                let target = if *design == NAIVE { bench.naive(&sale) } else { bench.naive_in_batch(&sale) };
                let naive = bench.slice(named, &target, pressure, async |_| Ok(())).await?;
                bench.naive_rows += naive.report.outcome("201");
                Naive::stored(&servers, bench.naive_rows).await?;
                naive
            };
            bench.keep(measured);
        }
    }
    Ok(())
}
