//! Processes: wiring, nothing else. Only here is a backend chosen.
//!
//! [`Server`] is a whole process. Its listeners are bound first, so that a port in use is said at once; then it answers that it is
//! not ready, and why, until its store and its inventory can be used.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::admin;
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::config::live::{self, LiveSettings};
use crate::config::settings::Role;
use crate::cores::Seats;
use crate::domain::{Partition, SaleId};
use crate::http;
use crate::readiness::Readiness;
use crate::reload::{self, Reloader};
use crate::roles::gateway::Gateway;
use crate::roles::process::Process;
use crate::sales::Definitions;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::supervisor::{Sockets, Supervisor};

mod backends;
mod embedded;
mod gateway;
mod process;
mod writer;

/// How long the back of a process may take to end once its front has.
const BACK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last spans may take to be exported. Then they are dropped: what they tell of is done.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// A process whose listeners are bound, and that does not answer yet.
#[derive(Debug)]
pub struct Server {
    process: Process,
    public: Option<http::Server>,
    admin: admin::server::Admin,
    supervisor: Supervisor,
    seats: Seats,
}

/// What a process serves, for whoever started it.
#[derive(Debug, Clone)]
pub struct Serving {
    pub node: String,
    pub roles: Vec<Role>,
    /// `None`: it is no gateway.
    pub public: Option<SocketAddr>,
    pub admin: SocketAddr,
}

/// What whoever started a process may want to tell a person.
#[derive(Debug, Clone, Copy)]
pub enum News<'a> {
    /// The listeners answer; whether they are ready is another question.
    Serving(&'a Serving),
    /// This sale can be bought from, here.
    SampleIsOpen { sale: &'a SaleId, public: SocketAddr },
}

impl Server {
    /// Binds the listeners of these settings, but for those that were handed over; what is live of the settings is read again from where
    /// they came.
    pub async fn bind(settings: Settings, source: reload::Source, handed: Sockets) -> anyhow::Result<Self> {
        let live = LiveSettings::new(&settings);
        let public = if settings.node.roles.contains(&Role::Gateway) {
            let bound = http::Server::bind(&settings.http, live.http.clone(), handed.public).await;
            Some(bound.context("the public listener")?)
        } else {
            let unused = handed.public.is_none();
            anyhow::ensure!(unused, "a public socket was handed over, and this process is no gateway (node.roles)");
            None
        };
        let admin = admin::server::Admin::bind(&settings.admin, handed.admin).await.context("the admin listener")?;
        let process = Process::new(settings, live, source)?;
        Ok(Self { process, public, admin, supervisor: Supervisor::default(), seats: Seats::default() })
    }

    /// With somebody who is told how this process stands.
    pub fn under(self, supervisor: Supervisor) -> Self {
        Self { supervisor, ..self }
    }

    /// With cores of their own for the public listener's connections.
    pub fn on(self, seats: Seats) -> Self {
        Self { public: self.public.map(|public| public.on(seats.clone())), seats, ..self }
    }

    /// Asks this process to stop; asked twice, to stop where it is.
    pub fn stopper(&self) -> Stopper {
        Stopper {
            front: self.process.front.clone(),
            back: self.process.back.clone(),
            exporting: self.process.exporting.clone(),
        }
    }

    /// Reads its configuration again while it runs.
    pub fn reloader(&self) -> Reloader {
        self.process.reloader.clone()
    }

    /// Serves until it is asked to stop, with a sample sale if that is wanted. Returns whether everything ended as it should.
    pub async fn run(self, sample: bool, tell: impl Fn(News<'_>)) -> bool {
        let Self { process, public, admin, supervisor, seats } = self;
        let serving = Serving {
            node: process.node.to_string(),
            roles: process.settings.node.roles.clone(),
            public: public.as_ref().map(http::Server::address),
            admin: admin.address(),
        };
        let definitions = definitions(&process);
        let gateway = public.is_some().then(|| Gateway::new(&process));
        process.front.spawn(end_with(process.back.clone(), process.front.clone()));
        let readiness = Arc::new(readiness(&process, gateway.as_ref()));
        let takes = stop_takes(&process);
        process.back.spawn(supervisor.clone().keep_told(Arc::clone(&readiness), takes, process.front.clone()));
        let ended = Shutdown::new();
        ended.spawn(supervisor.keep_watched(seats));
        open_doors(&process, (public, admin), Arc::clone(&readiness), (gateway.as_ref(), &definitions));
        process.front.spawn_essential("reload", process.reloader.clone().keep_reloading());
        tell(News::Serving(&serving));
        // A store that hangs does not keep a process from stopping.
        let _unless_it_stops = until(&process.front, process.join()).await;
        if process.settings.node.roles.contains(&Role::Writer) {
            writer::start(&process, definitions.clone());
        }
        if let Some(gateway) = gateway {
            let shards = gateway.shards.clone();
            gateway.start(&process, readiness);
            let opened = embedded::open_sample(&definitions, &process.epochs, &shards);
            if sample
                && let Some(Some(sale)) = until(&process.front, opened).await
                && let Some(public) = serving.public
            {
                tell(News::SampleIsOpen { sale: &sale, public });
            }
        }
        process.front.begun().await;
        tracing::info!("stopping");
        let live::Node { drain_delay, drain_timeout, .. } = &process.live.node;
        let front = process.front.finish(drain_delay.get() + drain_timeout.get()).await;
        process.back.begin();
        let back = process.back.finish(BACK_TIMEOUT).await;
        process.exporting.begin();
        if !process.exporting.finish(EXPORT_TIMEOUT).await {
            tracing::warn!("the last spans were not exported in time");
        }
        // A back that hangs while it ends is still watched.
        ended.force();
        front && back
    }
}

/// How long a stop may take that begins now.
fn stop_takes(process: &Process) -> impl Fn() -> Duration + Send + use<> {
    let live::Node { drain_delay, drain_timeout, .. } = process.live.node.clone();
    let has_spans = !process.settings.trace.otlp_endpoint.is_empty();
    let back = if has_spans { BACK_TIMEOUT + EXPORT_TIMEOUT } else { BACK_TIMEOUT };
    move || drain_delay.get() + drain_timeout.get() + back
}

/// Ends the front when the back ends by itself: a door behind which nobody works must not stay open.
async fn end_with(back: Shutdown, front: Shutdown) {
    tokio::select! {
        biased;
        () = front.begun() => {}
        () = back.begun() => front.begin(),
    }
}

/// What comes of it, unless a shutdown begins first.
async fn until<T>(shutdown: &Shutdown, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = shutdown.begun() => None,
        done = work => Some(done),
    }
}

/// Stops a process from outside of it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stopper {
    front: Shutdown,
    back: Shutdown,
    exporting: Shutdown,
}

impl Stopper {
    pub fn stop(&self) {
        if self.front.has_begun() {
            self.front.force();
            self.back.force();
            self.exporting.force();
        }
        self.front.begin();
    }
}

fn definitions(process: &Process) -> Definitions {
    Definitions::new(
        Arc::clone(&process.backends.store),
        Arc::clone(&process.backends.inventory),
        process.epochs.clone(),
        Arc::clone(&process.clock),
        process.live.sale.clone(),
    )
}

fn open_doors(
    process: &Process,
    (public, admin): (Option<http::Server>, admin::server::Admin),
    readiness: Arc<Readiness>,
    (gateway, definitions): (Option<&Gateway>, &Definitions),
) {
    let Process { settings, backends, epochs, meters, clock, front, .. } = process;
    if let (Some(server), Some(gateway)) = (public, gateway) {
        let (store, clock) = (Arc::clone(&backends.store), Arc::clone(clock));
        let parts = http::Parts {
            claims: gateway.claims.clone(),
            shards: gateway.shards.clone(),
            epochs: epochs.clone(),
            payments: process.payments(),
            store,
            inventory: Arc::clone(&backends.inventory),
            readiness: Arc::clone(&readiness),
            refusals: gateway.refusals.clone(),
            meters: meters.clone(),
            clock,
            spans: process.spans.clone(),
        };
        front.spawn_essential("http", server.serve(parts, process.live.node.drain_delay.clone(), front.clone()));
    }
    let parts = admin::Parts {
        store: Arc::clone(&backends.store),
        inventory: Arc::clone(&backends.inventory),
        topology: Arc::clone(&backends.queue.topology),
        publisher: Arc::clone(&backends.queue.publisher),
        epochs: epochs.clone(),
        clock: Arc::clone(clock),
        meters: meters.clone(),
        definitions: definitions.clone(),
        shards: gateway.map(|gateway| gateway.shards.clone()),
        gate: gateway.map(|gateway| admin::Gate { claims: gateway.parts.clone(), refusals: gateway.refusals.clone() }),
        process: admin::Process {
            node: process.node.clone(),
            roles: settings.node.roles.clone(),
            backends: backends::names(settings),
            readiness,
            reloader: process.reloader.clone(),
            shutdown: front.clone(),
        },
    };
    let is_writer = settings.node.roles.contains(&Role::Writer);
    let measuring = admin::gauges::keep_measured(parts.clone(), is_writer, process.back.clone());
    process.back.spawn_essential("gauges", measuring);
    if is_writer {
        process.back.spawn_essential("drift", admin::drift::keep_compared(parts.clone(), process.back.clone()));
    }
    // The control plane stays as long as anything does: a drain is watched through it.
    process.back.spawn_essential("admin", admin.serve(parts, process.back.clone()));
}

/// Fit for traffic is a node that has joined once, and has a broker to speak to.
///
/// What all nodes suffer from alike takes none of them out: a balancer without nodes answers 502, also to those who pay, cancel or
/// ask. So a partition that recovers is only noted, and so is what piles up before a broker that blocks or does not confirm. A
/// Redis that does not answer takes no node out either: what was joined stays joined until the inventory itself says otherwise,
/// claims hear `pending` or `unavailable`, and the rest goes on from the store. Out is who never joined, and who has no broker to
/// speak to: for all that this node knows, others have one.
fn readiness(process: &Process, gateway: Option<&Gateway>) -> Readiness {
    let (epochs, partitions) = (process.epochs.clone(), process.settings.inventory.partitions);
    let publisher = Arc::clone(&process.backends.queue.publisher);
    let (joined, standing) = (epochs.clone(), epochs.clone());
    let reloader = process.reloader.clone();
    let readiness = Readiness::new()
        .with_note(move || reloader.notes())
        .with_standing("store", &process.store_standing)
        .with("inventory", move || joined.has_joined().map_err(|reason| reason.to_string()))
        .with("queue", move || publisher.ready())
        .with_note(move || {
            let out =
                |partition| standing.scope(partition).err().map(|reason| format!("partition {partition}: {reason}"));
            Partition::all(partitions).filter_map(out).collect()
        });
    let Some(gateway) = gateway else { return readiness };
    let (shards, pressure) = (gateway.shards.clone(), gateway.parts.pressure.clone());
    readiness
        .with("shards", move || {
            let filled = Partition::all(partitions).any(|partition| shards.is_filled(partition));
            filled.then_some(()).ok_or_else(|| "the inventory has not been heard yet".to_owned())
        })
        .with_note(move || {
            let closed = |partition| {
                let told = move |bound| format!("partition {partition} is closed to new claims: {bound}");
                pressure.closed_by(partition).map(told)
            };
            Partition::all(partitions).flat_map(closed).collect()
        })
}

/// The store of these settings, whatever the state of its schema.
pub fn open_store(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    backends::store(settings, &clock)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything in one process, on free ports, with its store in this folder.
    async fn embedded(folder: &tempfile::TempDir) -> Server {
        let mut settings = Settings::default();
        settings.node.id = "n".to_owned();
        settings.http.listen = "127.0.0.1:0".to_owned();
        settings.admin.listen = "127.0.0.1:0".to_owned();
        settings.store.url = format!("sqlite://{}", folder.path().join("rushgate.db").display()).as_str().into();
        bind(settings).await.expect("a server")
    }

    async fn bind(settings: Settings) -> anyhow::Result<Server> {
        let node_id = settings.node.id.parse().unwrap();
        let sources = crate::config::Sources { file: None, env: Vec::new(), flags: Vec::new(), node_id };
        let source = reload::Source { sources, logs: crate::telemetry::Logs::default(), covered: Vec::new() };
        Server::bind(settings, source, Sockets::default()).await
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test(flavor = "multi_thread")]
    async fn a_second_process_does_not_sell_from_the_same_file() {
        let folder = tempfile::TempDir::new().unwrap();
        let first = embedded(&folder).await;
        let mut settings = Settings::clone(&first.process.settings);
        settings.node.id = "m".to_owned();
        let second = bind(settings.clone()).await.expect_err("each would have an inventory of its own");
        assert!(format!("{second:#}").contains("rushgate.db"), "{second:#}");
        drop(first);
        bind(settings).await.expect("the first one is gone");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_process_whose_back_has_ended_closes_its_doors_and_has_failed() {
        let folder = tempfile::TempDir::new().unwrap();
        let server = embedded(&folder).await;
        server.process.back.spawn_essential("short", async {});
        let ended = tokio::time::timeout(PATIENCE, server.run(false, |_| {})).await;
        assert_eq!(ended, Ok(false), "it ends by itself, and says that something was wrong");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_process_that_is_asked_to_stop_while_its_store_hangs_stops() {
        // A server that takes connections and never says anything.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut settings = Settings::default();
        settings.node.id = "n".to_owned();
        settings.http.listen = "127.0.0.1:0".to_owned();
        settings.admin.listen = "127.0.0.1:0".to_owned();
        settings.store.backend = crate::config::settings::StoreBackend::Mysql;
        settings.store.url = format!("mysql://nobody@{}/nothing", silent.local_addr().unwrap()).as_str().into();
        let server = bind(settings).await.expect("a server");
        let stopper = server.stopper();
        let running = server.run(false, move |_| stopper.stop());
        let begun = tokio::time::Instant::now();
        assert!(tokio::time::timeout(PATIENCE, running).await.expect("it stops"));
        assert!(begun.elapsed() < Duration::from_secs(3), "it took {:?}", begun.elapsed());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_process_that_had_to_stop_where_it_was_has_not_ended_as_it_should() {
        let folder = tempfile::TempDir::new().unwrap();
        let server = embedded(&folder).await;
        server.process.front.spawn(std::future::pending::<()>());
        let stopper = server.stopper();
        let ended =
            tokio::time::timeout(PATIENCE, server.run(false, move |_| (stopper.stop(), stopper.stop()).0)).await;
        assert_eq!(ended, Ok(false));
    }
    #[tokio::test(flavor = "multi_thread")]
    async fn a_process_waits_for_as_long_as_is_configured_when_it_stops() {
        let folder = tempfile::TempDir::new().unwrap();
        let server = embedded(&folder).await;
        server.process.front.spawn(std::future::pending::<()>());
        let (stopper, drain_timeout) = (server.stopper(), server.process.live.node.drain_timeout.clone());
        drain_timeout.set(Duration::from_secs(3600));
        let running = server.run(false, move |_| {
            drain_timeout.set(Duration::from_millis(100));
            stopper.stop();
        });
        assert_eq!(tokio::time::timeout(PATIENCE, running).await, Ok(false));
    }
}
