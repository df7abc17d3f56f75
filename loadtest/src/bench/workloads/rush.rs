//! Nothing left for a crowd, and enough for all of it. The writers stand still: this is about answers.

use anyhow::{Context as _, ensure};

use crate::bench::Bench;
use crate::bench::peers::{Naive, Stock, forget_parts};
use crate::bench::process::Frozen;
use crate::bench::workloads::{AT_ONCE, BARE, BESIDE, LOCK, NAIVE, NAIVE_IN_BATCH, PARTS, PLENTY, sold_out_at};

pub(super) async fn sold_out(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.options.wants("sold out") {
        return Ok(());
    }
    bench.add_beside().await?;
    let sales = ["gone".to_owned()];
    for gateway in &bench.site.gateways {
        sold_out_at(gateway, &sales[0]).await?;
    }
    let ours = bench.ours(&sales);
    let mut targets = vec![bench.bare(false, &ours), bench.bare_on_cores(&ours), ours];
    targets.extend(bench.lock(false));
    targets.extend(bench.ours_as(BESIDE, &sales));
    for connections in [64, 256] {
        for repetition in 0..bench.options.repetitions {
            fastrand::shuffle(&mut targets);
            for target in targets.clone() {
                let commands = bench.site.redis_commands().await?;
                let began = tokio::time::Instant::now();
                let pressure = bench.pressure(connections);
                let mut measured = bench.slice(("sold out", repetition), &target, pressure, async |_| Ok(())).await?;
                let took = began.elapsed().as_secs_f64();
                ensure!(measured.report.outcomes.keys().all(|kind| kind.starts_with("409")), "{measured:?}");
                #[expect(clippy::cast_precision_loss, reason = "counts of seconds are far below 2^52")]
                let per_second = (bench.site.redis_commands().await? - commands) as f64 / took;
                measured.figures.insert("redis commands/s".to_owned(), per_second);
                bench.keep(measured);
            }
        }
    }
    bench.site.keep_gateways(1).await
}

pub(super) async fn rush(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.options.wants("rush") {
        return Ok(());
    }
    bench.site.add_gateway(AT_ONCE, None, &["inventory.answer_after=inventory"]).await?;
    bench.add_beside().await?;
    for connections in [64, 256, 512] {
        for repetition in 0..bench.options.repetitions {
            let mut designs = vec![BARE, NAIVE, NAIVE_IN_BATCH, PARTS, LOCK];
            designs.extend(bench.site.gateways.iter().map(|gateway| gateway.design));
            fastrand::shuffle(&mut designs);
            for design in designs {
                one(bench, design, connections, repetition).await?;
            }
        }
    }
    bench.site.keep_gateways(1).await
}

async fn one(bench: &mut Bench, design: &str, connections: usize, repetition: usize) -> anyhow::Result<()> {
    let (named, pressure) = (("rush", repetition), bench.pressure(connections));
    let measured = match design {
        BARE => {
            let target = bench.bare(true, &bench.ours(&["rush".to_owned()]));
            bench.slice(named, &target, pressure, async |_| Ok(())).await?
        }
        NAIVE | NAIVE_IN_BATCH => {
            let sale = bench.fresh("rush");
            Stock::NAIVE.set(&bench.options.servers, &sale, PLENTY).await?;
            let frozen = Frozen::new(bench.naive.writer.pid);
            let target = if design == NAIVE { bench.naive(&sale) } else { bench.naive_in_batch(&sale) };
            let measured = bench.slice(named, &target, pressure, async |_| Ok(())).await?;
            let gone = Stock::NAIVE.gone(&bench.options.servers, &sale, PLENTY).await?;
            let granted = measured.report.outcome("201");
            ensure!(gone == (granted, granted), "{gone:?} gone: {measured:?}");
            bench.naive_rows += granted;
            drop(frozen);
            Naive::stored(&bench.options.servers, bench.naive_rows).await?;
            measured
        }
        PARTS => {
            let sale = bench.fresh("rush");
            Stock::PARTS.set(&bench.options.servers, &sale, PLENTY).await?;
            let measured = bench.slice(named, &bench.parts(&sale), pressure, async |_| Ok(())).await?;
            let gone = Stock::PARTS.gone(&bench.options.servers, &sale, PLENTY).await?;
            let granted = measured.report.outcome("201");
            ensure!(gone == (granted, granted), "{gone:?} gone: {measured:?}");
            forget_parts(&bench.options.servers, &sale).await?;
            measured
        }
        LOCK => {
            let Some(target) = bench.lock(true) else { return Ok(()) };
            bench.slice(named, &target, pressure, async |_| Ok(())).await?
        }
        _ => {
            let sales = [bench.fresh("rush")];
            bench.site.sale(&sales[0], PLENTY).await?;
            let target = bench.ours_as(design, &sales).context("no such design")?;
            bench.slice_of_ours(named, (&sales, &target), pressure, false).await?
        }
    };
    // What is no order is answered for less. The spikeSystem design says yes and no in its own way.
    let report = &measured.report;
    ensure!(design == LOCK || report.outcome("201") + report.outcome("202") == report.answers, "{measured:?}");
    bench.keep(measured);
    Ok(())
}
