//! What is remembered, and what it takes.

use crate::bench::figures::Measured;
use crate::bench::process::{Class, Load, memory};
use crate::bench::workloads::{PLENTY, granted};
use crate::bench::{Bench, Pressure};

const IDLE: usize = 10_000;
const HOLDS: u64 = 300_000;

/// Connections on which nobody says anything.
pub(super) async fn idle(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.options.wants("memory") {
        return Ok(());
    }
    let connections = if bench.options.quick { 100 } else { IDLE };
    let target = bench.ours(&["gone".to_owned()]);
    // Each asks once, so that what a connection keeps is there.
    let arguments = [
        format!("--to={}", target.to[0]),
        format!("--connections={connections}"),
        format!("--requests={connections}"),
        "--seconds=60".to_owned(),
        "--linger=2".to_owned(),
        target.crowd[0].clone(),
    ];
    let load = Load::ready(&arguments, Class::AsItComes).await?;
    let pid = bench.site.gateways[0].server.pid;
    let (report, resident) = tokio::join!(load.run(), async {
        tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
        memory(pid)
    });
    let mut measured = empty("memory", "idle connections", connections, report?);
    measured.figures.insert("MB".to_owned(), megabytes(resident?));
    bench.keep(measured);
    Ok(())
}

/// Orders that are held, and nothing else that grows.
pub(super) async fn holds(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.options.wants("memory") {
        return Ok(());
    }
    let holds = if bench.options.quick { 1000 } else { HOLDS };
    let sales = [bench.fresh("holds")];
    bench.site.sale(&sales[0], PLENTY).await?;
    let pid = bench.site.gateways[0].server.pid;
    let (gateway, redis) = (memory(pid)?, bench.site.redis_memory().await?);
    let pressure = Pressure { connections: 256, seconds: 60.0, rate: None, requests: Some(holds) };
    let target = bench.ours(&sales);
    let mut measured = bench.slice_of_ours(("memory", 0), (&sales, &target), pressure, true).await?;
    // What was only on its way is gone after a while: the rates forget within a second or two.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    #[expect(clippy::cast_precision_loss, reason = "memory of a machine is far below 2^52")]
    let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / granted(&measured.report).max(1) as f64;
    let (gateway, redis) = (each(memory(pid)?, gateway), each(bench.site.redis_memory().await?, redis));
    measured.figures.insert("gateway bytes/hold".to_owned(), gateway);
    measured.figures.insert("redis bytes/hold".to_owned(), redis);
    bench.keep(measured);
    Ok(())
}

/// A slice of which nothing is known but what was asked.
fn empty(workload: &str, design: &str, connections: usize, report: crate::load::tally::Report) -> Measured {
    Measured {
        workload: workload.to_owned(),
        design: design.to_owned(),
        connections,
        repetition: 0,
        rate: None,
        cpu: std::collections::BTreeMap::new(),
        settled: 0.0,
        report,
        figures: std::collections::BTreeMap::new(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "memory of a machine is far below 2^52")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
