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
        part("config", async |findings| of_config(loaded, findings)),
        part("machine", async |findings| machine::examine(settings, findings)),
        part("listeners", |findings| listeners::examine(settings, asked, findings)),
    ];
    match settings.inventory.backend {
        InventoryBackend::Memory => {}
        InventoryBackend::Redis => {
            parts.push(part("redis", |findings| inventory::redis::doctor::examine(&settings.inventory, findings)));
            parts.push(part("partitions", |findings| partitions(settings, findings)));
        }
    }
    match settings.queue.backend {
        QueueBackend::Memory => {}
        QueueBackend::Rabbitmq => {
            parts.push(part("rabbitmq", |findings| queue::rabbitmq::doctor::examine(&settings.queue, findings)));
        }
    }
    match settings.store.backend {
        StoreBackend::Sqlite => {
            parts.push(part("sqlite", |findings| store::sqlite::doctor::examine(&settings.store, findings)));
        }
        StoreBackend::Mysql => {
            parts.push(part("mysql", |findings| store::mysql::doctor::examine(settings, findings)));
            if !settings.store.read_url.is_empty() {
                parts
                    .push(part("replica", |findings| store::mysql::doctor::examine_replica(&settings.store, findings)));
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

/// What the look has found until its time is over is kept.
fn part<'a, L: Future<Output = ()> + Send + 'a>(name: &'static str, look: impl FnOnce(Findings) -> L) -> Part<'a> {
    let mut findings = Findings::of(name);
    let look = look(findings.clone());
    let bounded = async move {
        if tokio::time::timeout(PATIENCE, look).await.is_err() {
            findings.stopped(PATIENCE);
        }
        findings.done()
    };
    Part { name, look: bounded.boxed() }
}

fn of_config(loaded: &Loaded, mut findings: Findings) {
    let settings = &loaded.settings;
    findings.ok("settings", format!("right; {} keys are set", loaded.set_keys()));
    if settings.payment.provider == crate::config::settings::PaymentProvider::Sandbox && is_shared(settings) {
        let why = "whoever asks has paid: for trials only";
        let mend = "payment.provider = \"signed-callback\" with RUSHGATE__PAYMENT__CALLBACK_SECRET";
        findings.warn("payment", "payment.provider is sandbox", remedy(why, mend));
    }
}

/// Is it a deployment of several processes, and no trial in one?
fn is_shared(settings: &Settings) -> bool {
    settings.inventory.backend != InventoryBackend::Memory
}

/// Which epoch of each partition is open by the store, and whether inventory and queue have it.
async fn partitions(settings: &Settings, mut findings: Findings) {
    match open_scopes(settings, &mut findings).await {
        Ok(scopes) if scopes.is_empty() => {}
        Ok(scopes) => {
            tokio::join!(
                inventory::redis::doctor::examine_scopes(&settings.inventory, &scopes, findings.clone()),
                queue::rabbitmq::doctor::examine_scopes(&settings.queue, &scopes, findings)
            );
        }
        Err(why) => findings.unknown("epochs", why),
    }
}

async fn open_scopes(settings: &Settings, findings: &mut Findings) -> Result<Vec<Scope>, String> {
    let told = |fault: &dyn std::fmt::Display| fault.to_string().replace(['\r', '\n'], " ");
    let store = match settings.store.backend {
        // To open a file as a process does would make it, or files beside it.
        StoreBackend::Sqlite => store::sqlite::doctor::opened(&settings.store).await?,
        StoreBackend::Mysql => roles::open_store(settings).map_err(|error| told(&format!("{error:#}")))?,
    };
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
    async fn a_part_that_never_ends_is_told_with_what_it_found_and_holds_nobody_up() {
        let found = part("redis", async |mut findings: Findings| {
            findings.ok("version", "7.0");
            std::future::pending::<()>().await;
        });
        let found = found.look.await;
        let told: Vec<_> = found.iter().map(|finding| (finding.part, finding.check, finding.state)).collect();
        assert_eq!(told, [("redis", "version", State::Ok), ("redis", "answers", State::Wrong)]);
    }
}
