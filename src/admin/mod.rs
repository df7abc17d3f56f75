//! The control plane: a listener of its own, for operators, scripts and Prometheus; never through the load balancer.
//!
//! - [`server`]: connections, limits, timeouts; `guard`: who may ask
//! - [`routes`]: from method, path and query to a [`routes::Call`]
//! - `sales`, `orders`, `letters`, `balance`, `process`: a call's answer; [`problem`]: its no
//! - `assets`: the console's files, from `src/console`
//! - [`live`]: how the site stands, once a second, for consoles
//! - `why`: why a claim was refused, for a support desk
//! - [`plan`]: what a buffer would do now, and has done
//! - [`gauges`]: the metrics that nobody moves by working; [`drift`]: those for which inventory and store are compared
//! - [`client`]: the same API from the other side, for the commands
//!
//! Every change is in the audit log with who, when, what, before and after, and can be tried by `?dry_run=true`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::admin::assets::Asset;
use crate::admin::live::Feed;
use crate::admin::problem::{Code, Problem};
use crate::admin::routes::Call;
use crate::admission::Shards;
use crate::admission::refusals::Refusals;
use crate::audit::{Auditor, Repairer};
use crate::clock::Clock;
use crate::config::settings::Role;
use crate::confirm;
use crate::domain::{NodeId, SaleId, UnixMillis};
use crate::epochs::Epochs;
use crate::inventory::Inventory;
use crate::meters::Meters;
use crate::queue::{Publisher, Topology};
use crate::readiness::Readiness;
use crate::reload::Reloader;
use crate::sales::Definitions;
use crate::shutdown::Shutdown;
use crate::store::{Change, Store, keep_logged};

mod assets;
mod balance;
pub mod client;
pub mod drift;
pub mod gauges;
mod guard;
mod letters;
pub mod live;
mod orders;
pub mod plan;
pub mod problem;
mod process;
pub mod routes;
mod sales;
pub mod server;
pub mod why;

pub use server::{Admin, BindError};

/// What the control plane looks at and works with.
#[derive(Debug, Clone)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub inventory: Arc<dyn Inventory>,
    pub topology: Arc<dyn Topology>,
    /// For orders that a repair drives again.
    pub publisher: Arc<dyn Publisher>,
    pub epochs: Epochs,
    pub clock: Arc<dyn Clock>,
    pub meters: Meters,
    pub definitions: Definitions,
    /// `None` in a process that is no gateway.
    pub shards: Option<Shards>,
    pub gate: Option<Gate>,
    pub process: Process,
}

/// What claims are answered with on a gateway, and what was said.
#[derive(Debug, Clone)]
pub struct Gate {
    pub claims: confirm::Parts,
    pub refusals: Refusals,
}

/// This process, as far as its operators care.
#[derive(Clone)]
pub struct Process {
    pub node: NodeId,
    pub roles: Vec<Role>,
    pub backends: BackendNames,
    pub readiness: Arc<Readiness>,
    pub reloader: Reloader,
    /// What a drain begins.
    pub shutdown: Shutdown,
}

/// What inventory, queue and store are called, such as `redis`.
#[derive(Debug, Clone, Copy)]
pub struct BackendNames {
    pub inventory: &'static str,
    pub queue: &'static str,
    pub store: &'static str,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("node", &self.node).field("roles", &self.roles).finish_non_exhaustive()
    }
}

impl Parts {
    /// Proves the invariants on the same backends.
    pub fn auditor(&self) -> Auditor {
        let (store, inventory) = (Arc::clone(&self.store), Arc::clone(&self.inventory));
        Auditor::new(store, inventory, Arc::clone(&self.topology), self.epochs.clone())
    }

    /// Repairs what has one right answer.
    fn repairer(&self) -> Repairer {
        Repairer::new(self.auditor(), Arc::clone(&self.publisher))
    }

    /// Writes a line of the audit log about something that is done.
    async fn log(&self, change: Change) {
        let Change { who, what, subject, before, after, .. } = &change;
        tracing::info!(who, what, subject, before, after, "changed by an operator");
        keep_logged(&*self.store, &change).await;
    }
}

/// An answer before it is bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    Json(Value),
    Text(&'static str, String),
    Asset(Asset),
}

impl Answer {
    fn json(status: u16, body: Value) -> Self {
        Self { status, body: Body::Json(body) }
    }

    fn ok(body: Value) -> Self {
        Self::json(200, body)
    }

    fn text(content_type: &'static str, text: String) -> Self {
        Self { status: 200, body: Body::Text(content_type, text) }
    }
}

/// Answers calls. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Answers {
    parts: Parts,
    feed: Feed,
    /// One audit at a time: it reads everything.
    audit: Arc<Semaphore>,
}

impl Answers {
    /// `shutdown` ends what goes on between calls.
    pub fn new(parts: Parts, shutdown: Shutdown) -> Self {
        Self { feed: Feed::new(parts.clone(), shutdown), parts, audit: Arc::new(Semaphore::new(1)) }
    }

    /// Answers one call. `who` asks; `body` is empty where the call has none.
    pub async fn answer(&self, call: Call, who: &str, body: &[u8]) -> Result<Answer, Problem> {
        let parts = &self.parts;
        match call {
            Call::Asset(asset) => Ok(Answer { status: 200, body: Body::Asset(asset) }),
            Call::Live => Ok(process::live()),
            Call::Ready { verbose } => Ok(process::ready(parts, verbose)),
            Call::Metrics => Ok(process::metrics(parts)),
            Call::Config => Ok(process::config(parts)),
            Call::Reload { dry_run } => process::reload(parts, who, dry_run).await,
            Call::Nodes => process::nodes(parts),
            // Those who go on watching are served by the listener.
            Call::Watch { .. } => Ok(Answer::text("application/json", self.feed.once().await?)),
            Call::Why(question) => why::answer(parts, question).await,
            Call::Drain { dry_run } => Ok(process::drain(parts, who, dry_run).await),
            Call::StaleOrders { state, limit } => orders::stale(parts, state, limit).await,
            Call::Changes { subject, limit } => process::changes(parts, subject.as_deref(), limit).await,
            Call::Sales => sales::list(parts).await,
            Call::Sale(sale) => sales::show(parts, &sale).await,
            Call::Change { sale, change, dry_run } => {
                let edit = sales::edit(change, body)?;
                sales::change(parts, &sale, &edit, (who, dry_run)).await
            }
            Call::Balance(sale) => balance::balance(parts, &sale).await,
            Call::Plan { sale, preview } => plan::preview(parts, &sale, &preview),
            Call::Orders(filter) => orders::list(parts, &filter).await,
            Call::Order(order) => orders::show(parts, order).await,
            Call::EndOrder { order, event, dry_run } => orders::end(parts, order, event, (who, dry_run)).await,
            Call::DeadLetters { after, limit } => letters::list(parts, after, limit).await,
            Call::DeadLetter(id) => letters::show(parts, id).await,
            Call::ActOnDeadLetter { id, act, dry_run } => letters::act(parts, id, act, (who, dry_run)).await,
            Call::Repair { sale, wait, dry_run } => self.repair(sale.as_ref(), (wait, dry_run), who).await,
            Call::Audit { sale, wait } => self.audit(sale.as_ref(), wait, &CancellationToken::new()).await,
        }
    }

    /// Audits one sale or all, until it is told to stop.
    pub async fn audit(
        &self,
        sale: Option<&SaleId>,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Answer, Problem> {
        let _one = self.audit.try_acquire().map_err(|_| running())?;
        let report = self.parts.auditor().audit(sale, wait, stop).await?;
        Ok(Answer::ok(serde_json::to_value(report).unwrap_or_default()))
    }

    /// Audits, repairs, and audits again, to its end whether anybody listens or not.
    async fn repair(
        &self,
        sale: Option<&SaleId>,
        (wait, dry_run): (Duration, bool),
        who: &str,
    ) -> Result<Answer, Problem> {
        let _one = self.audit.try_acquire().map_err(|_| running())?;
        let parts = &self.parts;
        let repair = parts.repairer().repair(sale, (wait, dry_run), &CancellationToken::new()).await?;
        for action in repair.actions.iter().filter(|_| !dry_run) {
            let what = format!("repair.{}", action.kind.as_str());
            let after = serde_json::to_value(action).unwrap_or_default();
            parts.log(line(parts.clock.now(), who, (&what, action.subject.clone()), &Value::Null, &after)).await;
        }
        Ok(Answer::ok(serde_json::to_value(repair).unwrap_or_default()))
    }
}

fn running() -> Problem {
    Problem::new(Code::AuditRunning, "An audit is running on this node; ask again when it is done.")
}

/// A line of the audit log.
fn line(at: UnixMillis, who: &str, (what, subject): (&str, String), before: &Value, after: &Value) -> Change {
    let text = |value: &Value| if value.is_null() { String::new() } else { value.to_string() };
    Change { at, who: who.to_owned(), what: what.to_owned(), subject, before: text(before), after: text(after) }
}

#[cfg(test)]
mod tests;
