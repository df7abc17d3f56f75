//! What sales are like: most come too late, trains have legs, many sales are open, many nodes sell them.

use anyhow::ensure;
use serde_json::json;

use crate::bench::process::Frozen;
use crate::bench::site::{live, stored};
use crate::bench::workloads::{OURS, PLENTY, granted};
use crate::bench::{Bench, Target};

/// One in a hundred wins, roughly: so many units per second of a slice, over all sales.
const UNITS_PER_SECOND: f64 = 600.0;

/// Four sales that are soon gone, one in ten requests a repetition.
pub(super) async fn real(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.options.wants("real") {
        return Ok(());
    }
    for repetition in 0..bench.options.repetitions {
        let sales: Vec<String> = (0..4).map(|_| bench.fresh("real")).collect();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
        let capacity = (UNITS_PER_SECOND * bench.options.seconds / 4.0) as u32;
        for sale in &sales {
            bench.site.sale(sale, capacity).await?;
        }
        let mut target = bench.ours(&sales);
        target.crowd.push("--repeats=10".to_owned());
        let pressure = bench.pressure(256);
        let measured = bench.slice_of_ours(("real shape", repetition), (&sales, &target), pressure, true).await?;
        ensure!(granted(&measured.report) <= 4 * u64::from(capacity), "more than there is: {measured:?}");
        bench.keep(measured);
    }
    Ok(())
}

/// A train with twelve legs, two lines a claim, against one leg and one line.
pub(super) async fn train(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.options.wants("train") {
        return Ok(());
    }
    for repetition in 0..bench.options.repetitions {
        for (design, legs, lines) in [("one leg", 1, 1), ("twelve legs, two lines", 12, 2)] {
            let sales = [bench.fresh("train")];
            bench.site.create(&sales[0], &train_of(legs)).await?;
            let line = json!({"pool": "second", "from": "S0", "to": format!("S{legs}"), "quantity": 1});
            let body = json!({"lines": vec![line; lines]}).to_string();
            let mut target = Target { design: design.to_owned(), ..bench.ours(&sales) };
            target.crowd.push(format!("--body={body}"));
            let pressure = bench.pressure(256);
            let frozen = Frozen::new(bench.site.writer.server.pid);
            let measured = bench.slice(("train", repetition), &target, pressure, async |_| Ok(())).await?;
            drop(frozen);
            let units = granted(&measured.report) * (legs * lines) as u64;
            stored(&bench.options.servers.mysql, &sales, units).await?;
            let gone = bench.site.gone(&sales[0]).await?;
            ensure!((gone.inventory, gone.guard) == (units, units), "{units} units: {gone:?}");
            ensure!(gone.rows == granted(&measured.report), "{gone:?}");
            bench.keep(measured);
        }
    }
    Ok(())
}

fn train_of(legs: usize) -> serde_json::Value {
    let stops: Vec<_> = (0..=legs).map(|stop| format!("S{stop}")).collect();
    let pool = json!({"id": "second", "capacity": PLENTY, "fares": vec![3_900; legs]});
    json!({"name": "Bench", "opens_at": "2020-01-01T00:00:00Z", "currency": "CNY", "hold": "3600s", "limit_per_buyer": 4,
        "stops": stops, "pools": [pool]})
}

/// One claim costs the same, however many sales are open.
pub(super) async fn sales(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.options.wants("sales") {
        return Ok(());
    }
    let steps: &[usize] = if bench.options.quick { &[1, 10] } else { &[1, 10, 1000, 10_000] };
    let mut sales: Vec<String> = Vec::new();
    for many in steps {
        while sales.len() < *many {
            let sale = bench.fresh("many");
            bench.site.announce(&sale, 1_000_000).await?;
            sales.push(sale);
        }
        for sale in sales.last().into_iter().chain(sales.first()) {
            bench.site.knows(sale).await?;
        }
        // A request names one of a hundred of them: the line of arguments is not to be the limit.
        let step = (sales.len() / 100).max(1);
        let asked: Vec<String> = sales.iter().step_by(step).cloned().collect();
        let design = format!("{many} open");
        growth(bench, "sales", &design, &asked).await?;
    }
    Ok(())
}

/// One claim costs the same, however many nodes share the stock.
pub(super) async fn nodes(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.options.wants("nodes") {
        return Ok(());
    }
    let steps: &[usize] = if bench.options.quick { &[1, 2] } else { &[1, 2, 4, 8] };
    for many in steps {
        while bench.site.gateways.len() < *many {
            bench.site.add_gateway(OURS, None, &[]).await?;
        }
        let sale = [bench.fresh("nodes")];
        bench.site.sale(&sale[0], PLENTY).await?;
        let design = format!("{many} nodes");
        growth(bench, "nodes", &design, &sale).await?;
    }
    bench.site.keep_gateways(1).await
}

async fn growth(bench: &mut Bench, workload: &str, design: &str, sales: &[String]) -> anyhow::Result<()> {
    // The smaller steps sold from some of them.
    let (mut yes, mut perhaps) = (live(&bench.options.servers.mysql, sales).await?, 0);
    for repetition in 0..bench.options.repetitions.min(3) {
        let mut target = Target { design: design.to_owned(), ..bench.ours(sales) };
        target.to = bench.site.gateways.iter().map(|gateway| gateway.public).collect();
        target.watched.extend(bench.site.gateways.iter().skip(1).map(|gateway| ("gateway", gateway.server.pid)));
        let pressure = bench.pressure(256);
        let frozen = Frozen::new(bench.site.writer.server.pid);
        let measured = bench.slice((workload, repetition), &target, pressure, async |_| Ok(())).await?;
        drop(frozen);
        yes += granted(&measured.report);
        perhaps += measured.report.outcome("202");
        bench.check_all(sales, yes, perhaps).await?;
        bench.keep(measured);
    }
    Ok(())
}
