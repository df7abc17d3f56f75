//! What every process has, whatever its role: backends, epochs, meters, and two shutdowns.
//!
//! The front is what takes requests in; the back is what they are answered with. A process that stops ends the front first, so
//! that whatever is in flight still finds everything that it needs.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{Clock, FollowedClock};
use crate::config::Settings;
use crate::config::live::LiveSettings;
use crate::domain::{NodeId, OrderSecret};
use crate::epochs::Epochs;
use crate::meters::Meters;
use crate::payment::{self, Payments};
use crate::readiness::Standing;
use crate::reload::{self, Reloader};
use crate::roles::backends::Backends;
use crate::shutdown::Shutdown;
use crate::spans::{self, Spans};
use crate::store::{Deployment, Schema, Store};

/// Between two looks at a store that is not ready.
const STORE_INTERVAL: Duration = Duration::from_millis(500);
/// Between two rounds of folding samples into histograms.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Between two questions for the store's time. In between the clocks of two machines part by far less than a millisecond.
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);

/// The ground that roles stand on. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Process {
    /// As they were at the start.
    pub settings: Arc<Settings>,
    /// What of them may change.
    pub live: LiveSettings,
    pub reloader: Reloader,
    pub node: NodeId,
    /// The store's, if that is on a server: orders of all nodes are to be paid by the same clock.
    pub clock: Arc<dyn Clock>,
    followed: Arc<FollowedClock>,
    pub meters: Meters,
    pub backends: Backends,
    pub epochs: Epochs,
    pub secret: Arc<OnceLock<OrderSecret>>,
    pub store_standing: Standing,
    pub front: Shutdown,
    pub back: Shutdown,
    pub spans: Spans,
    /// What takes the spans out, which is over when nobody tells any more.
    pub exporting: Shutdown,
}

impl Process {
    pub(super) fn new(settings: Settings, live: LiveSettings, source: reload::Source) -> anyhow::Result<Self> {
        let followed = Arc::new(FollowedClock::default());
        let clock = Arc::clone(&followed) as Arc<dyn Clock>;
        let (meters, front, back, exporting) = (Meters::new(), Shutdown::new(), Shutdown::new(), Shutdown::new());
        let node: NodeId = settings.node.id.parse()?;
        let spans = spans::open(&settings.trace, &live.trace.sample_ratio, &node, (&meters, &exporting))?;
        let backends = Backends::new(&settings, &clock, &meters, &back)?;
        let reloader = Reloader::new(reload::Parts {
            source,
            settings: settings.clone(),
            live: live.clone(),
            store: Arc::clone(&backends.store),
            clock: Arc::clone(&clock),
            meters: meters.clone(),
            node: node.clone(),
            shutdown: front.clone(),
        });
        Ok(Self {
            epochs: Epochs::new(settings.inventory.partitions),
            secret: Arc::default(),
            store_standing: Standing::not_seen(),
            settings: Arc::new(settings),
            live,
            reloader,
            node,
            backends,
            clock,
            followed,
            meters,
            front,
            back,
            spans,
            exporting,
        })
    }

    /// Takes payments.
    pub(super) fn payments(&self) -> Payments {
        let parts = payment::Parts {
            store: Arc::clone(&self.backends.store),
            inventory: Arc::clone(&self.backends.inventory),
            epochs: self.epochs.clone(),
            clock: Arc::clone(&self.clock),
            settings: self.settings.payment.clone(),
        };
        Payments::new(parts, &self.meters)
    }

    /// Waits until the store can be used, then follows it. Returns early only for a shutdown.
    pub(super) async fn join(&self) {
        self.prepare_store().await;
        // A store of its own has no other clock than this one.
        if !self.backends.store_is_own {
            self.hear_time().await;
            let this = self.clone();
            self.back.spawn_essential("clock", async move {
                while !this.back.sleep(CLOCK_INTERVAL).await {
                    this.hear_time().await;
                }
            });
        }
        let epochs = self.epochs.clone();
        let Backends { store, inventory, .. } = self.backends.clone();
        self.back.spawn_essential("epochs", epochs.follow(store, inventory, self.meters.clone(), self.back.clone()));
        let (meters, back) = (self.meters.clone(), self.back.clone());
        self.back.spawn_essential("upkeep", async move {
            while !back.sleep(UPKEEP_INTERVAL).await {
                meters.upkeep();
            }
        });
    }

    async fn hear_time(&self) {
        let asked = Instant::now();
        match self.backends.store.now().await {
            Ok(said) => self.followed.hear(said, asked),
            Err(fault) => tracing::debug!(%fault, "the store does not tell the time"),
        }
    }

    /// The store is there, its schema is this program's, and it has told the deployment's secret.
    ///
    /// A store that belongs to this process alone is migrated here; one that is shared is migrated by an operator.
    async fn prepare_store(&self) {
        let mut said = String::new();
        loop {
            match self.try_store(&*self.backends.store).await {
                Ok(secret) => {
                    // Nobody else sets it.
                    let _first = self.secret.set(secret);
                    self.store_standing.set(Ok(()));
                    tracing::info!("the store is ready");
                    return;
                }
                Err(reason) => {
                    if said != reason {
                        let store = self.settings.store.url.redacted();
                        tracing::warn!(store, reason, "the store is not ready");
                        said.clone_from(&reason);
                    }
                    self.store_standing.set(Err(reason));
                }
            }
            if self.front.sleep(STORE_INTERVAL).await {
                return;
            }
        }
    }

    async fn try_store(&self, store: &dyn Store) -> Result<OrderSecret, String> {
        match store.schema().await.map_err(|fault| fault.to_string())? {
            Schema::Current => {}
            Schema::Behind { .. } if self.backends.store_is_own => {
                let applied = store.migrate().await.map_err(|fault| fault.to_string())?;
                tracing::info!(applied = applied.join(", "), "the store's schema is up to date");
            }
            Schema::Behind { missing } => {
                return Err(format!("the schema is {missing} migrations behind: run `rushgate migrate --config FILE`"));
            }
            Schema::Ahead => return Err("the schema is newer than this program: update rushgate".to_owned()),
        }
        let mut fresh = [0; 32];
        getrandom::fill(&mut fresh).map_err(|error| format!("no random bytes: {error}"))?;
        let partitions = self.settings.inventory.partitions;
        let ours = Deployment { secret: OrderSecret::new(fresh), partitions, lanes: self.settings.queue.lanes };
        let deployment = store.deployment(ours).await.map_err(|fault| fault.to_string())?;
        if deployment.partitions != partitions {
            return Err(format!(
                "the deployment was begun with inventory.partitions = {}, and here it is {partitions}: sales would lie in other \
                 partitions than those they are sold from",
                deployment.partitions
            ));
        }
        self.backends.queue.topology.widen(deployment.lanes);
        Ok(deployment.secret)
    }
}
