//! Answers about this process and what it sees of the others.

use serde_json::{Value, json};

use crate::admin::problem::{Code, Problem};
use crate::admin::{Answer, Parts, line};
use crate::config::Covered;
use crate::config::diff::Changed;
use crate::config::settings::Role;
use crate::inventory::NodeBeat;
use crate::reload::Reloaded;
use crate::store::Change;

const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn live() -> Answer {
    Answer::text(TEXT, "ok\n".to_owned())
}

/// `verbose` lists each check; a process that is not ready lists them in any case.
pub(super) fn ready(parts: &Parts, verbose: bool) -> Answer {
    let draining = parts.process.shutdown.has_begun();
    let is_ready = !draining && parts.process.readiness.is_ready();
    let text = if is_ready && !verbose { "ok\n".to_owned() } else { parts.process.readiness.list(draining) };
    Answer { status: if is_ready { 200 } else { 503 }, ..Answer::text(TEXT, text) }
}

pub(super) fn metrics(parts: &Parts) -> Answer {
    if let Some(shards) = &parts.shards {
        // The shards count them without a meter. Read here and not with the gauges, which are up to two seconds old.
        parts.meters.counter("rushgate_refills_total", &[]).absolute(shards.looks());
    }
    Answer::text("text/plain; version=0.0.4; charset=utf-8", parts.meters.render())
}

pub(super) fn nodes(parts: &Parts) -> Result<Answer, Problem> {
    let Some(shards) = &parts.shards else {
        let why = "This process is no gateway and hears of no nodes; ask a gateway.";
        return Err(Problem::new(Code::NoGateway, why));
    };
    let nodes: Vec<_> = shards.nodes().iter().map(node).collect();
    let roles: Vec<_> = parts.process.roles.iter().map(|role| role_name(*role)).collect();
    let this = json!({"node": parts.process.node.as_str(), "roles": roles});
    Ok(Answer::ok(json!({"this": this, "nodes": nodes})))
}

fn node(beat: &NodeBeat) -> Value {
    json!({"node": beat.node.as_str(), "weight": beat.weight, "status": told_status(beat)})
}

/// What a node tells about itself; null if it is no JSON.
pub(super) fn told_status(beat: &NodeBeat) -> Value {
    serde_json::from_str(&beat.status).unwrap_or_default()
}

pub(super) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Gateway => "gateway",
        Role::Writer => "writer",
    }
}

/// Begins a shutdown of this process: it says that it is not ready, finishes what is in flight, and ends.
pub(super) async fn drain(parts: &Parts, who: &str, dry_run: bool) -> Answer {
    let process = &parts.process;
    let before = process.shutdown.has_begun();
    if !dry_run && !before {
        let (before, after) = (json!({"draining": false}), json!({"draining": true}));
        let subject = process.node.to_string();
        parts.log(line(parts.clock.now(), who, ("node.drain", subject), &before, &after)).await;
        process.shutdown.begin();
    }
    let body = json!({
        "node": process.node.as_str(),
        "before": {"draining": before},
        "after": {"draining": true},
        "effect": if before { "unchanged" } else { "applied" },
        "dry_run": dry_run,
    });
    Answer::json(if before || dry_run { 200 } else { 202 }, body)
}

/// The settings that run, without secrets.
pub(super) fn config(parts: &Parts) -> Answer {
    Answer::text(TEXT, parts.process.reloader.show())
}

/// Reads the configuration again. `before` and `after` are what counts from now on; `needs_restart` is what does not yet, and
/// `covered` what the file says and a source above it says otherwise.
pub(super) async fn reload(parts: &Parts, who: &str, dry_run: bool) -> Result<Answer, Problem> {
    let process = &parts.process;
    let Reloaded { changed, needs_restart, covered } = process.reloader.reload(who, dry_run).await?;
    let (before, after) = Changed::values(&changed);
    let waiting =
        |Changed { key, before, after }: &Changed| json!({"key": key, "running": before, "configured": after});
    let beneath = |Covered { key, value, at, by }: &Covered| json!({"key": key, "configured": value, "at": at.to_string(), "by": by.to_string()});
    Ok(Answer::ok(json!({
        "node": process.node.as_str(),
        "before": before,
        "after": after,
        "effect": if changed.is_empty() { "unchanged" } else { "applied" },
        "needs_restart": needs_restart.iter().map(waiting).collect::<Vec<_>>(),
        "covered": covered.iter().map(beneath).collect::<Vec<_>>(),
        "dry_run": dry_run,
    })))
}

pub(super) async fn changes(parts: &Parts, subject: Option<&str>, limit: u32) -> Result<Answer, Problem> {
    let changes = parts.store.changes(subject, limit).await?;
    Ok(Answer::ok(json!({"changes": changes.iter().map(change).collect::<Vec<_>>()})))
}

fn change(change: &Change) -> Value {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    json!({
        "at": change.at.to_string(),
        "who": change.who,
        "what": change.what,
        "subject": change.subject,
        "before": parsed(&change.before),
        "after": parsed(&change.after),
    })
}
