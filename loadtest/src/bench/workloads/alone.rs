//! Few who ask: nobody who is alone waits for a batch, and at a rate that all can serve nobody waits in line.

use crate::bench::Bench;
use crate::bench::peers::{Naive, Stock};
use crate::bench::workloads::PLENTY;

/// Claims per second that even the naive design can serve on two cores.
const RATE: f64 = 4000.0;

pub(super) async fn lone(bench: &mut Bench) -> anyhow::Result<()> {
    both(bench, "lone buyer", 1, None).await
}

pub(super) async fn open(bench: &mut Bench) -> anyhow::Result<()> {
    both(bench, "open", 256, Some(RATE)).await
}

async fn both(bench: &mut Bench, workload: &str, connections: usize, rate: Option<f64>) -> anyhow::Result<()> {
    if !bench.wants(workload) {
        return Ok(());
    }
    for repetition in 0..bench.options.repetitions {
        let mut pressure = bench.pressure(connections);
        pressure.rate = rate;
        let sales = [bench.fresh("rush")];
        bench.site.sale(&sales[0], PLENTY).await?;
        let target = bench.ours(&sales);
        let ours = bench.slice_of_ours((workload, repetition), (&sales, &target), pressure, true).await?;
        bench.keep(ours);

        for is_waiting in [false, true] {
            let sale = bench.fresh("rush");
            let servers = bench.options.servers.clone();
            Stock::NAIVE.set(&servers, &sale, PLENTY).await?;
            let target = if is_waiting { bench.naive_waiting(&sale) } else { bench.naive(&sale) };
            let naive = bench.slice((workload, repetition), &target, pressure, async |_| Ok(())).await?;
            bench.naive_rows += naive.report.outcome("201");
            Naive::stored(&servers, bench.naive_rows).await?;
            bench.keep(naive);
        }
    }
    Ok(())
}
