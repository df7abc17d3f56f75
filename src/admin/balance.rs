//! The one equation of a sale, live: `capacity = free + held + sold`, beside what the store says and what is on its way.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::admin::problem::Problem;
use crate::admin::process::told_status;
use crate::admin::{Answer, Parts, sales};
use crate::audit::report::NAMED;
use crate::audit::{Interrupted, Reading};
use crate::domain::{Sale, SaleId, StopId};
use crate::queue::{LaneDepth, LaneId};

/// How long the orders behind a drift are looked for; an audit takes the time that it needs.
const LOOK: Duration = Duration::from_secs(5);
/// How long the broker is asked for its lanes. The equation does without, and is wanted most while the broker is away.
const LANES: Duration = Duration::from_millis(500);

pub(super) async fn balance(parts: &Parts, id: &SaleId) -> Result<Answer, Problem> {
    sales::stored(parts, id).await?;
    let auditor = parts.auditor();
    let (reading, lanes) = tokio::join!(auditor.reading(id), lanes(parts));
    let reading = reading?;
    let Some(stored) = &reading.stored else { return Err(Interrupted::UnknownSale.into()) };
    let in_store = parts.store.count_dead_letters().await?;
    let dead_letters = lanes.as_ref().ok().map(|lanes| in_store + dead(lanes));
    let by_status = reading
        .tally
        .by_status
        .iter()
        .map(|(status, orders, units)| (status.as_str().to_owned(), json!({"orders": orders, "units": units})));
    let mut body = json!({
        "sale": id.as_str(),
        "at": parts.clock.now().to_string(),
        "phase": sales::phase(parts, &stored.sale),
        "version": stored.sale.version,
        "applied_version": stored.applied_version,
        "legs": legs(&stored.sale, &reading),
        "orders": by_status.collect::<Map<_, _>>(),
        "outbox_entries": reading.outbox_entries,
        "lanes": lanes.as_ref().ok().map(|lanes| lanes.iter().map(lane).collect::<Vec<_>>()),
        "stock_moves": reading.tally.moves_waiting,
        "refunds_due": reading.tally.refunds_due,
        "late_payments": reading.tally.late,
        "stale": reading.tally.stale,
        "stale_refused": reading.tally.stale_refused,
        "quarantined": reading.tally.quarantined,
        "dead_letters": dead_letters,
        "drift": drift(parts, id, &reading).await,
        "nodes": nodes(parts, id),
    });
    if let Err(why) = lanes {
        body["why_no_lanes"] = why.into();
    }
    Ok(Answer::ok(body))
}

/// How deep the lanes are, or why that is not known.
pub(super) async fn lanes(parts: &Parts) -> Result<Vec<LaneDepth>, String> {
    match tokio::time::timeout(LANES, parts.topology.depths()).await {
        Ok(depths) => depths.map_err(|fault| fault.to_string()),
        Err(_) => Err(format!("the broker has not answered within {LANES:?}")),
    }
}

pub(super) fn dead(lanes: &[LaneDepth]) -> u64 {
    lanes.iter().filter(|lane| lane.lane == LaneId::Dead).map(|lane| lane.messages).sum()
}

fn lane(lane: &LaneDepth) -> Value {
    json!({"lane": lane.lane.to_string(), "messages": lane.messages, "consumers": lane.consumers})
}

fn legs(sale: &Sale, reading: &Reading) -> Vec<Value> {
    let mut legs = Vec::new();
    for pool in &sale.pools {
        for leg in 0..sale.leg_count() {
            let stock = reading.stock.iter().find(|stock| stock.pool == pool.id && stock.leg == leg);
            let guard = reading.tally.legs.iter().find(|guard| guard.pool == pool.id && guard.leg == leg);
            let sum = stock.map(|stock| u64::from(stock.free) + u64::from(stock.held) + u64::from(stock.sold));
            let stop = |index: u8| sale.stops.get(usize::from(index)).map(StopId::as_str);
            legs.push(json!({
                "pool": pool.id.as_str(),
                "leg": leg,
                "from": stop(leg),
                "to": stop(leg + 1),
                "capacity": pool.capacity,
                "free": stock.map(|stock| stock.free),
                "held": stock.map(|stock| stock.held),
                "sold": stock.map(|stock| stock.sold),
                "balanced": sum == Some(u64::from(pool.capacity)),
                "store": guard.map(|guard| json!({
                    "capacity": guard.capacity, "live": guard.live, "held": guard.held, "paid": guard.paid,
                })),
            }));
        }
    }
    legs
}

/// Units by which inventory and store disagree while nothing moves, and the orders that they disagree on.
async fn drift(parts: &Parts, id: &SaleId, reading: &Reading) -> Value {
    let units = reading.drift();
    let mut drift = json!({"units": units, "in_motion": !reading.quiet, "orders": []});
    if units == 0 || !reading.quiet {
        return drift;
    }
    let stop = CancellationToken::new();
    let auditor = parts.auditor();
    match tokio::time::timeout(LOOK, auditor.differing(id, &stop)).await {
        Ok(Ok(findings)) => {
            let orders: Vec<_> = findings.into_iter().flat_map(|finding| finding.orders).take(NAMED).collect();
            drift["orders"] = orders.into();
        }
        Ok(Err(why)) => drift["why_no_orders"] = why.to_string().into(),
        Err(_) => drift["why_no_orders"] = "there are too many orders to look through here; run an audit".into(),
    }
    drift
}

/// What each node's shard of the sale may still let through: this node's now, the others' as they last told.
fn nodes(parts: &Parts, id: &SaleId) -> Vec<Value> {
    let Some(shards) = &parts.shards else { return Vec::new() };
    let here = shards.sale(id.as_str()).map(|shard| {
        let left = shard.sale.pools.iter().map(|pool| pool.id.to_string()).zip(shards.left(&shard));
        Value::Object(left.map(|(pool, left)| (pool, left.into())).collect())
    });
    let nodes = shards.nodes();
    let told = nodes.iter().map(|beat| {
        let shards = match &here {
            Some(here) if beat.node == parts.process.node => here.clone(),
            _ => told_status(beat)["shards"][id.as_str()].clone(),
        };
        json!({"node": beat.node.as_str(), "weight": beat.weight, "shards": shards})
    });
    told.collect()
}
