//! All the way to a committed row.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use crate::bench::Bench;
use crate::bench::peers::{Naive, Stock};
use crate::bench::process::Frozen;
use crate::bench::site::stored;
use crate::bench::workloads::{PLENTY, granted};

/// A sustained rush takes longer than a slice.
const SUSTAINED: f64 = 2.5;
const MILLION: u64 = 1_000_000;

pub(super) async fn end_to_end(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.options.wants("end to end") {
        return Ok(());
    }
    for repetition in 0..bench.options.repetitions {
        let mut order = [0, 1, 2];
        fastrand::shuffle(&mut order);
        for which in order {
            let named = ("end to end", repetition);
            let mut pressure = bench.pressure(256);
            pressure.seconds *= SUSTAINED;
            let measured = match which {
                0 => ours(bench, named).await?,
                1 => {
                    let target = bench.bare(true, &bench.ours(&["rush".to_owned()]));
                    bench.slice(named, &target, pressure, async |_| Ok(())).await?
                }
                _ => {
                    let sale = bench.fresh("rush");
                    let servers = bench.options.servers.clone();
                    Stock::NAIVE.set(&servers, &sale, PLENTY).await?;
                    let before = bench.naive_rows;
                    let measured = bench
                        .slice(named, &bench.naive(&sale), pressure, async |report| {
                            Naive::stored(&servers, before + granted(report)).await
                        })
                        .await?;
                    bench.naive_rows += granted(&measured.report);
                    measured
                }
            };
            bench.keep(measured);
        }
    }
    Ok(())
}

async fn ours(bench: &mut Bench, named: (&str, usize)) -> anyhow::Result<crate::bench::figures::Measured> {
    let sales = [bench.fresh("rush")];
    bench.site.sale(&sales[0], PLENTY).await?;
    let mut pressure = bench.pressure(256);
    pressure.seconds *= SUSTAINED;
    let target = bench.ours(&sales);
    bench.slice_of_ours(named, (&sales, &target), pressure, true).await
}

/// Fills the queue while the writers stand still, and then looks how fast they empty it.
pub(super) async fn writer(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.options.wants("writer") {
        return Ok(());
    }
    let repetitions = bench.options.repetitions.min(3);
    for repetition in 0..repetitions {
        let named = ("writer", repetition);
        let pressure = bench.pressure(256);
        let servers = bench.options.servers.clone();

        let sales = [bench.fresh("rush")];
        bench.site.sale(&sales[0], PLENTY).await?;
        let frozen = Frozen::new(bench.site.writer.server.pid);
        let target = bench.ours(&sales);
        let mut measured = bench.slice(named, &target, pressure, async |_| Ok(())).await?;
        let began = Instant::now();
        drop(frozen);
        stored(&servers.mysql, &sales, granted(&measured.report)).await?;
        drained(&mut measured, began.elapsed());
        bench.check(&sales, &measured.report).await?;
        bench.keep(measured);

        let sale = bench.fresh("rush");
        Stock::NAIVE.set(&servers, &sale, PLENTY).await?;
        let frozen = Frozen::new(bench.naive.writer.pid);
        let mut measured = bench.slice(named, &bench.naive(&sale), pressure, async |_| Ok(())).await?;
        let began = Instant::now();
        drop(frozen);
        bench.naive_rows += granted(&measured.report);
        Naive::stored(&servers, bench.naive_rows).await?;
        drained(&mut measured, began.elapsed());
        bench.keep(measured);
    }
    Ok(())
}

fn drained(measured: &mut crate::bench::figures::Measured, took: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "a count of seconds is far below 2^52")]
    let rows = granted(&measured.report) as f64;
    measured.figures.insert("rows/s".to_owned(), rows / took.as_secs_f64());
}

/// The same as end to end, with a million orders in the store.
pub(super) async fn million(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.options.wants("million") {
        return Ok(());
    }
    let most = if bench.options.quick { 1000 } else { MILLION };
    let mut there = bench.site.orders().await?;
    while there < most {
        let sales = [bench.fresh("fill")];
        bench.site.sale(&sales[0], PLENTY).await?;
        let mut pressure = bench.pressure(256);
        pressure.seconds = 10.0;
        pressure.requests = Some(most - there);
        let target = bench.ours(&sales);
        let filled = bench.slice_of_ours(("fill", 0), (&sales, &target), pressure, true).await?;
        let now = bench.site.orders().await?;
        ensure!(now > there, "{filled:?}");
        there = now;
    }
    for repetition in 0..bench.options.repetitions.min(3) {
        let measured = ours(bench, ("million", repetition)).await?;
        bench.keep(measured);
    }
    Ok(())
}
