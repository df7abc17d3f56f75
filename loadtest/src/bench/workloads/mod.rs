//! The workloads, in the order in which they are measured.
//!
//! - [`rush`]: sold out, and stock for everybody
//! - [`stored`]: all the way to a committed row; the writer by itself; a store with a million orders
//! - [`shapes`]: the real shape of a sale, a train with twelve legs, many sales and many nodes
//! - [`alone`]: one buyer, and a rate that every design can serve
//! - [`memory`]: what a hold and an idle connection take

use anyhow::{Context as _, ensure};

use crate::bench::figures::Measured;
use crate::bench::peers::{Naive, Peer};
use crate::bench::process::Frozen;
use crate::bench::site::{Gone, Node, Site, stored as stored_units};
use crate::bench::{Bench, Pressure, Target, api};
use crate::load::tally::Report;

mod alone;
mod memory;
mod rush;
mod shapes;
mod stored;

/// More than any run can sell, and as many as a pool may have.
const PLENTY: u32 = 100_000_000;

pub(super) const OURS: &str = "rushgate";
pub(super) const AT_ONCE: &str = "rushgate, on Redis";
pub(super) const INHERITED: &str = "rushgate, in the usual class";
pub(super) const BESIDE: &str = "rushgate, another build";
pub(super) const BARE: &str = "bare hyper";
pub(super) const BARE_ON_CORES: &str = "bare hyper, on cores";
pub(super) const NAIVE: &str = "naive";
pub(super) const NAIVE_IN_BATCH: &str = "naive, in the batch class";
pub(super) const PARTS: &str = "the parts alone";
pub(super) const LOCK: &str = "spikeSystem's design";

pub(super) async fn all(bench: &mut Bench) -> anyhow::Result<()> {
    // First, while nothing has grown yet.
    memory::idle(bench).await?;
    memory::holds(bench).await?;
    rush::sold_out(bench).await?;
    rush::rush(bench).await?;
    stored::end_to_end(bench).await?;
    stored::writer(bench).await?;
    alone::lone(bench).await?;
    alone::open(bench).await?;
    shapes::real(bench).await?;
    shapes::train(bench).await?;
    shapes::sales(bench).await?;
    shapes::nodes(bench).await?;
    stored::million(bench).await
}

/// Sells the one unit there is, for good.
pub(super) async fn sell_out(site: &Site, sale: &str) -> anyhow::Result<()> {
    let gateway = site.gateways[0].public;
    let granted = api::claim(gateway, sale, "the-first").await?;
    ensure!(granted.status == 201, "{granted:?}");
    let order = granted.json()?["order"].as_str().unwrap_or_default().to_owned();
    let path = format!("/v1/orders/{order}/payment");
    let headers = "Content-Type: application/json\r\nX-Buyer-Id: the-first\r\n";
    api::until("it is paid", async || {
        let paid = api::send(gateway, "POST", &path, (headers, r#"{"method":"sandbox"}"#)).await?;
        Ok((paid.status == 200).then_some(()))
    })
    .await?;
    sold_out_at(&site.gateways[0], sale).await
}

/// Waits until this gateway answers that nothing is left.
async fn sold_out_at(gateway: &Node, sale: &str) -> anyhow::Result<()> {
    api::until("it is sold out", async || {
        Ok(api::claim(gateway.public, sale, "the-second").await?.body.contains("sold_out").then_some(()))
    })
    .await
}

impl Bench {
    /// Ours: the first gateway, for claims on these sales.
    fn ours(&self, sales: &[String]) -> Target {
        self.gateway(&self.site.gateways[0], sales)
    }

    /// Ours with a setting that is not the default, or of another build; `None` if this design is none of ours.
    fn ours_as(&self, design: &str, sales: &[String]) -> Option<Target> {
        let gateway = self.site.gateways.iter().find(|gateway| gateway.design == design)?;
        Some(self.gateway(gateway, sales))
    }

    fn gateway(&self, gateway: &Node, sales: &[String]) -> Target {
        let mut watched = vec![("gateway", gateway.server.pid), ("writer", self.site.writer.server.pid)];
        watched.extend(self.servers());
        let crowd = vec![format!("--sales={}", sales.join(","))];
        Target { design: gateway.design.to_owned(), to: vec![gateway.public], crowd, watched }
    }

    /// A gateway of another build, if one was named, until [`Site::keep_gateways`].
    async fn add_beside(&mut self) -> anyhow::Result<()> {
        match &self.options.beside {
            Some(program) => self.site.add_gateway(BESIDE, Some(program), &[]).await,
            None => Ok(()),
        }
    }

    /// Hyper alone, asked the same.
    fn bare(&self, granted: bool, like: &Target) -> Target {
        let peer = if granted { &self.bare_granted } else { &self.bare_refused };
        let watched = vec![("gateway", peer.server.pid)];
        Target { design: BARE.to_owned(), to: vec![peer.address], crowd: like.crowd.clone(), watched }
    }

    /// The same with a runtime for each core, as ours, asked for what is gone.
    fn bare_on_cores(&self, like: &Target) -> Target {
        let Peer { server, address } = &self.bare_on_cores;
        let watched = vec![("gateway", server.pid)];
        Target { design: BARE_ON_CORES.to_owned(), to: vec![*address], crowd: like.crowd.clone(), watched }
    }

    fn naive(&self, sale: &str) -> Target {
        let Naive { gateway, writer, .. } = &self.naive;
        let mut watched = vec![("gateway", gateway.server.pid), ("writer", writer.pid)];
        watched.extend(self.servers());
        Target { design: NAIVE.to_owned(), to: vec![gateway.address], crowd: vec![format!("--sales={sale}")], watched }
    }

    /// The same design, scheduled as ours.
    fn naive_in_batch(&self, sale: &str) -> Target {
        let Peer { server, address } = &self.naive.in_batch;
        let mut target = Target { design: NAIVE_IN_BATCH.to_owned(), to: vec![*address], ..self.naive(sale) };
        target.watched[0].1 = server.pid;
        target
    }

    fn parts(&self, sale: &str) -> Target {
        let Peer { server, address } = &self.parts;
        let mut watched = vec![("gateway", server.pid)];
        watched.extend(self.servers());
        Target { design: PARTS.to_owned(), to: vec![*address], crowd: vec![format!("--sales={sale}")], watched }
    }

    /// The spikeSystem design has an API of its own.
    fn lock(&self, granted: bool) -> Option<Target> {
        let locks = self.lock.as_ref()?;
        let peer = if granted { &locks.granted } else { &locks.refused };
        let mut watched = vec![("gateway", peer.server.pid)];
        watched.extend(self.servers());
        Some(Target {
            design: LOCK.to_owned(),
            to: vec![peer.address],
            crowd: vec!["--get=/buy/ticket".to_owned()],
            watched,
        })
    }

    /// Measures ours on these sales, and then counts what is gone: in the answers, the inventory, the guard and the rows.
    ///
    /// `with_writer`: the time and the CPU until all is stored are part of the slice. Without, the writer stands still meanwhile.
    async fn slice_of_ours(
        &mut self,
        named: (&str, usize),
        (sales, target): (&[String], &Target),
        pressure: Pressure,
        with_writer: bool,
    ) -> anyhow::Result<Measured> {
        let frozen = (!with_writer).then(|| Frozen::new(self.site.writer.server.pid));
        let (batches, claims) = self.batches(target).await?;
        let store = self.options.servers.mysql.clone();
        let mut measured = self
            .slice(named, target, pressure, async |report| {
                if with_writer { stored_units(&store, sales, granted(report)).await } else { Ok(()) }
            })
            .await?;
        let (batches_now, claims_now) = self.batches(target).await?;
        measured
            .figures
            .insert("claims per batch".to_owned(), (claims_now - claims) / (batches_now - batches).max(1.0));
        drop(frozen);
        self.check(sales, &measured.report).await?;
        Ok(measured)
    }

    /// Nothing twice, nothing lost, nothing stranded: of sales that nobody had bought from before.
    async fn check(&self, sales: &[String], report: &Report) -> anyhow::Result<()> {
        self.check_all(sales, granted(report), report.outcome("202")).await
    }

    /// The same for so many who ever heard yes, and perhaps.
    async fn check_all(&self, sales: &[String], held: u64, pending: u64) -> anyhow::Result<()> {
        stored_units(&self.options.servers.mysql, sales, held).await?;
        let mut rows = 0;
        for sale in sales {
            let gone = self.settled(sale).await?;
            ensure!(gone.rows == gone.buyers, "{sale}: a buyer has two orders: {gone:?}");
            rows += gone.rows;
        }
        ensure!((held..=held + pending).contains(&rows), "{rows} rows for {held} yes and {pending} perhaps");
        Ok(())
    }

    /// What is gone of a sale once all of it is stored: who heard perhaps may have an order that is still on its way. More in the store
    /// than is gone is waited for by nobody.
    async fn settled(&self, sale: &str) -> anyhow::Result<Gone> {
        let mut last = None;
        let all_stored = async || {
            let gone = self.site.gone(sale).await?;
            last = Some(gone);
            let is_on_its_way =
                gone.guard.min(gone.rows) < gone.inventory && gone.guard.max(gone.rows) <= gone.inventory;
            Ok((!is_on_its_way).then_some(gone))
        };
        let settled = api::until("what is gone is stored", all_stored).await;
        let gone = settled.with_context(|| format!("{sale}: {last:?}"))?;
        ensure!(gone.inventory == gone.guard && gone.guard == gone.rows, "{sale}: {gone:?}");
        Ok(gone)
    }

    /// Calls of the inventory, and the claims in them, of the gateway that a target is, so far.
    async fn batches(&self, target: &Target) -> anyhow::Result<(f64, f64)> {
        let is_asked = |gateway: &&Node| target.to.contains(&gateway.public);
        let admin = self.site.gateways.iter().find(is_asked).context("no gateway of ours is asked")?.admin;
        let name = "rushgate_inventory_batch_claims";
        let count = self.site.metric(admin, &format!("{name}_count")).await?;
        Ok((count, self.site.metric(admin, &format!("{name}_sum")).await?))
    }

    fn pressure(&self, connections: usize) -> Pressure {
        let connections = if self.options.quick { connections.min(32) } else { connections };
        Pressure { connections, seconds: self.options.seconds, rate: None, requests: None }
    }
}

/// How many were told yes. Only the first answer to an order is one: a repetition is told the same order once more.
fn granted(report: &Report) -> u64 {
    report.outcome("201")
}
