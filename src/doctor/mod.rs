//! What is wrong with a deployment: its backends, the machine, and what listens there. Looks only; changes nothing.
//!
//! What is looked at of a backend lies beside that (`doctor` in its folder); here is what the machine has ([`machine`]), what listens
//! ([`listeners`]), where the partitions stand, and the order of it all.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, join_all};

use crate::config::settings::{InventoryBackend, QueueBackend, Role, StoreBackend};
use crate::config::{Loaded, Problems, Settings};
use crate::doctor::listeners::Asked;
use crate::domain::{Partition, Scope};
use crate::finding::{Finding, Findings, remedy};
use crate::inventory;
use crate::queue;
use crate::roles;
use crate::store;
use crate::store::{PartitionState, Schema};

pub mod listeners;
pub mod machine;

/// How long one part may take. Each of its questions has a bound of its own, which is much shorter.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is wrong with settings that are none, a finding for each problem.
pub fn of_problems(problems: &Problems) -> Vec<Finding> {
    let mut findings = Findings::of("config");
    for problem in &problems.0 {
        let why = "no process starts with it: it ends with exit code 78";
        findings.wrong(
            "settings",
            problem.to_string().replace(['\r', '\n'], " "),
            remedy(why, "rushgate config explain KEY tells what it may be"),
        );
    }
    findings.done()
}

/// All that can be looked at with these settings, side by side. `asked`: who to ask if a process runs. `seen` hears of each part that is
/// done.
pub async fn examine(loaded: &Loaded, asked: &Asked, seen: &(dyn Fn(&str) + Sync)) -> Vec<Finding> {
    let settings = &loaded.settings;
    let mut parts: Vec<Part<'_>> = vec![
        part("config", async { of_config(loaded) }),
        part("machine", async { machine::examine(settings) }),
        part("listeners", listeners::examine(settings, asked)),
    ];
    match settings.inventory.backend {
        InventoryBackend::Memory => {}
        InventoryBackend::Redis => {
            parts.push(part("redis", inventory::redis::doctor::examine(&settings.inventory)));
            parts.push(part("partitions", partitions(settings)));
        }
    }
    match settings.queue.backend {
        QueueBackend::Memory => {}
        QueueBackend::Rabbitmq => parts.push(part("rabbitmq", queue::rabbitmq::doctor::examine(&settings.queue))),
    }
    match settings.store.backend {
        StoreBackend::Sqlite => parts.push(part("sqlite", store::sqlite::doctor::examine(&settings.store))),
        StoreBackend::Mysql => {
            parts.push(part("mysql", store::mysql::doctor::examine(settings)));
            if !settings.store.read_url.is_empty() {
                parts.push(part("replica", store::mysql::doctor::examine_replica(&settings.store)));
            }
        }
    }
    let looks = parts.into_iter().map(|Part { name, look }| async move {
        let found = look.await;
        seen(name);
        found
    });
    join_all(looks).await.concat()
}

/// One part, and the look at it.
struct Part<'a> {
    name: &'static str,
    look: BoxFuture<'a, Vec<Finding>>,
}

fn part<'a>(name: &'static str, look: impl Future<Output = Vec<Finding>> + Send + 'a) -> Part<'a> {
    let bounded = async move {
        tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| {
            let mut findings = Findings::of(name);
            let why = "it answers, and too slowly to be looked at; whoever buys waits as long";
            findings.wrong(
                "answers",
                format!("not looked at within {PATIENCE:?}"),
                remedy(why, "look at its load and its disk"),
            );
            findings.done()
        })
    };
    Part { name, look: bounded.boxed() }
}

fn of_config(loaded: &Loaded) -> Vec<Finding> {
    let mut findings = Findings::of("config");
    let settings = &loaded.settings;
    findings.ok("settings", format!("right; {} keys are set", loaded.set_keys()));
    if settings.payment.provider == crate::config::settings::PaymentProvider::Sandbox && is_shared(settings) {
        let why = "whoever asks has paid: for trials only";
        let mend = "payment.provider = \"signed-callback\" with RUSHGATE__PAYMENT__CALLBACK_SECRET";
        findings.warn("payment", "payment.provider is sandbox", remedy(why, mend));
    }
    findings.done()
}

/// Is it a deployment of several processes, and no trial in one?
fn is_shared(settings: &Settings) -> bool {
    settings.inventory.backend != InventoryBackend::Memory
}

/// Which epoch of each partition is open by the store, and whether inventory and queue have it.
async fn partitions(settings: &Settings) -> Vec<Finding> {
    let mut findings = Findings::of("partitions");
    let scopes = match open_scopes(settings, &mut findings).await {
        Ok(scopes) => scopes,
        Err(why) => {
            findings.unknown("epochs", why);
            return findings.done();
        }
    };
    let mut found = findings.done();
    if !scopes.is_empty() {
        let (inventory, queue) = tokio::join!(
            inventory::redis::doctor::examine_scopes(&settings.inventory, &scopes),
            queue::rabbitmq::doctor::examine_scopes(&settings.queue, &scopes)
        );
        found.extend(inventory.into_iter().chain(queue));
    }
    found
}

async fn open_scopes(settings: &Settings, findings: &mut Findings) -> Result<Vec<Scope>, String> {
    let told = |fault: &dyn std::fmt::Display| fault.to_string().replace(['\r', '\n'], " ");
    // To open a file would make it.
    if settings.store.backend == StoreBackend::Sqlite && !store::sqlite::doctor::is_there(&settings.store) {
        return Err("looked at when the store is there".to_owned());
    }
    let store = roles::open_store(settings).map_err(|error| told(&format!("{error:#}")))?;
    if store.schema().await.map_err(|fault| told(&fault))? != Schema::Current {
        return Err("looked at when the store's schema is this program's".to_owned());
    }
    let (mut scopes, mut fenced, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for partition in Partition::all(settings.inventory.partitions) {
        match store.partition(partition).await.map_err(|fault| told(&fault))? {
            Some(row) if row.state == PartitionState::Open => scopes.push(Scope { partition, epoch: row.epoch }),
            Some(row) => fenced.push(format!("partition {partition} (epoch {})", row.epoch)),
            None => missing.push(partition.to_string()),
        }
    }
    let why = "claims of their sales hear 'recovering', and nothing of them is granted";
    if !fenced.is_empty() {
        let mend = "a writer recovers them within seconds, if one runs and reaches all three backends: rushgate ready";
        findings.warn("epochs", format!("being recovered: {}", fenced.join(", ")), remedy(why, mend));
    }
    if !missing.is_empty() {
        let mend = "run a writer, which brings them up: rushgate serve --config FILE --role writer";
        findings.warn("epochs", format!("never brought up: {}", missing.join(", ")), remedy(why, mend));
    }
    if !scopes.is_empty() {
        findings.ok("epochs", scopes.iter().map(|scope| format!("{scope} open")).collect::<Vec<_>>().join(", "));
    }
    Ok(scopes)
}

/// Has each role that is asked for.
fn has_role(settings: &Settings, role: Role) -> bool {
    settings.node.roles.contains(&role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::State;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_never_ends_is_told_and_holds_nobody_up() {
        let found = part("redis", std::future::pending()).look.await;
        assert_eq!((found.len(), found[0].part, found[0].state), (1, "redis", State::Wrong));
    }
}
