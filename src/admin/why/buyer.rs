//! What a buyer would hear now, and what this node told them lately.

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::admin::problem::{Code, Problem};
use crate::admin::why::Wants;
use crate::admin::{Answer, Gate, Parts, sales};
use crate::admission::pressure::Bound;
use crate::admission::{SaleShard, Shards, Shut};
use crate::confirm;
use crate::domain::{
    Ask, AskedLine, BuyerId, Claim, IdempotencyKey, Order, OrderSecret, OrderStatus, Phase, Sale, SaleId, StopId,
    UnixMillis, Wanted,
};
use crate::inventory::{KnownOrder, LegStock};
use crate::store::{OrderFilter, OrderRow};

const GRANTED: &str = "would_be_granted";

/// A rule that says no, and why, in a sentence.
struct Reason {
    code: &'static str,
    because: String,
}

fn reason(code: &'static str, because: impl Into<String>) -> Reason {
    Reason { code, because: because.into() }
}

/// An order of the buyer in the sale.
struct Known {
    order: Order,
    status: OrderStatus,
    /// Whether it is in the store; `None`: that does not say.
    recorded: Option<bool>,
    /// Whether it counts for the limit: by the inventory, which decides that; by the store, if that cannot be asked.
    counts: bool,
}

/// What is known beside the sale.
struct Facts {
    orders: Vec<Known>,
    /// As the inventory says; as this node last heard, if that cannot be asked.
    stock: Vec<LegStock>,
    /// What could not be asked.
    not_known: Vec<String>,
}

pub(super) async fn answer(parts: &Parts, (id, buyer): (&SaleId, &BuyerId), wants: &Wants) -> Result<Answer, Problem> {
    let (Some(shards), Some(gate)) = (&parts.shards, &parts.gate) else {
        return Err(Problem::new(
            Code::NoGateway,
            "This process is no gateway and tells no buyer anything; ask a gateway.",
        ));
    };
    let told = told(parts, gate, id, buyer);
    let shard = match gate.claims.sale(id.as_str()) {
        Ok(shard) => shard,
        Err(answer) => {
            let Reason { code, because } = no_sale(parts, id, &answer);
            return Ok(Answer::ok(json!({
                "verdict": code, "because": because, "also": [], "facts": {"node": node(parts)}, "told": told,
                "memory": memory(parts, gate),
            })));
        }
    };
    let asks = asks(&shard.sale, wants)?;
    let facts = facts(parts, &shard, buyer).await;
    let reasons = reasons(parts, gate, &shard, (&asks, &facts));
    let (verdict, because) = match reasons.first() {
        Some(Reason { code, because }) => (*code, because.clone()),
        None => (GRANTED, granted(&facts)),
    };
    Ok(Answer::ok(json!({
        "verdict": verdict,
        "because": because,
        "also": reasons.iter().skip(1).map(|reason| json!({"code": reason.code, "because": reason.because})).collect::<Vec<_>>(),
        "facts": document(parts, (shards, gate), &shard, buyer, (&asks, &facts)),
        "told": told,
        "memory": memory(parts, gate),
    })))
}

/// What may be meant: one request, or the same of each pool where none is named.
fn asks(sale: &Sale, wants: &Wants) -> Result<Vec<Wanted>, Problem> {
    let named = wants.pool.as_deref();
    let pools = sale.pools.iter().map(|pool| pool.id.as_str()).filter(|pool| named.is_none_or(|named| named == *pool));
    let line = |pool| AskedLine {
        pool: Some(pool),
        from: wants.from.as_deref(),
        to: wants.to.as_deref(),
        quantity: wants.quantity,
        ..AskedLine::default()
    };
    let wanted = |pool| Wanted::of_ask(sale, &Ask::Lines(vec![line(pool)])).and_then(|lines| lines.first().copied());
    let asks: Vec<_> = pools.filter_map(wanted).collect();
    if !asks.is_empty() {
        return Ok(asks);
    }
    // Whoever asks for that hears `invalid`, in these words.
    let (buyer, key): (BuyerId, IdempotencyKey) = ("x".parse().map_err(no)?, "x".parse().map_err(no)?);
    let ask = Ask::Lines(vec![line(named.or_else(|| Some(sale.pools.first()?.id.as_str())).unwrap_or_default())]);
    let checked = Claim::check(sale, buyer, &key, &ask, (&OrderSecret::new([0; 32]), UnixMillis(0)));
    Err(Problem::invalid(&checked.err().unwrap_or_default()))
}

fn no(error: impl std::fmt::Display) -> Problem {
    Problem::new(Code::Invalid, error)
}

/// Why a claim would hear nothing of a sale.
fn no_sale(parts: &Parts, id: &SaleId, answer: &confirm::Answer) -> Reason {
    match answer {
        confirm::Answer::Unserved(unserved) => {
            let why = parts.epochs.of_sale(id).err().map_or_else(
                || "it is still hearing what there is".to_owned(),
                |reason| format!("it cannot ask the inventory now: {reason}"),
            );
            reason(
                unserved.code(),
                format!("This node has not heard of the sale, and does not say that there is none: {why}."),
            )
        }
        _ => reason("unknown_sale", "This node has heard of all sales that there are, and of no such one."),
    }
}

fn granted(facts: &Facts) -> String {
    let says = if facts.not_known.is_empty() {
        "Nothing speaks against it: the sale is open, there are units, and the buyer may have them."
    } else {
        "Nothing that is known speaks against it, but not all is known."
    };
    format!("{says} Passengers, rates and the number of claims that are being decided are not judged here.")
}

async fn facts(parts: &Parts, shard: &SaleShard, buyer: &BuyerId) -> Facts {
    let mut not_known = Vec::new();
    let sale = &shard.sale.id;
    let (mut stock, mut counting) = (shard.stock(), None);
    match parts.epochs.scope(shard.partition) {
        Err(reason) => not_known.push(format!("stock and orders, but for what was last heard: {reason}")),
        Ok(scope) => {
            match parts.inventory.stock(scope, sale).await {
                Ok(asked) if !asked.is_empty() => stock = asked,
                Ok(_) => {}
                Err(fault) => not_known.push(format!("stock, but for what this node last heard: {fault}")),
            }
            match parts.inventory.orders_of(scope, sale, buyer).await {
                Ok(orders) => counting = Some(orders),
                Err(fault) => not_known.push(format!("orders that the store does not have yet: {fault}")),
            }
        }
    }
    // After the inventory, so that an order that goes from there to here meanwhile is in both, and not in none.
    let filter = OrderFilter {
        sale: Some(sale.clone()),
        buyer: Some(buyer.clone()),
        limit: OrderFilter::MAX_LIMIT,
        fresh: true,
        ..OrderFilter::default()
    };
    let recorded = match parts.store.orders(&filter).await {
        Ok(rows) => Some(rows),
        Err(fault) => {
            not_known.push(format!("orders that are over, and which are recorded: {fault}"));
            None
        }
    };
    Facts { orders: merged(counting, recorded), stock, not_known }
}

/// What counts comes first. `None`: that could not be asked.
fn merged(counting: Option<Vec<KnownOrder>>, recorded: Option<Vec<OrderRow>>) -> Vec<Known> {
    let is_asked = counting.is_some();
    let mut orders: Vec<_> = counting
        .into_iter()
        .flatten()
        .map(|KnownOrder { order, status }| {
            let recorded = recorded.as_ref().map(|rows| rows.iter().any(|row| row.order.id == order.id));
            Known { order, status, recorded, counts: true }
        })
        .collect();
    for OrderRow { order, status, .. } in recorded.into_iter().flatten() {
        if orders.iter().all(|known| known.order.id != order.id) {
            orders.push(Known { order, status, recorded: Some(true), counts: !is_asked && status.is_live() });
        }
    }
    orders
}

/// All that speaks against it, in the order in which a claim meets it.
fn reasons(parts: &Parts, gate: &Gate, shard: &SaleShard, (asks, facts): (&[Wanted], &Facts)) -> Vec<Reason> {
    let mut reasons = Vec::new();
    reasons.extend(by_phase(&shard.sale, parts.clock.now()));
    // Without the means to answer at all not even memory says no.
    reasons.extend(unable(parts, gate, shard));
    // What this node would say from memory comes before all that has to be asked for.
    let shut: Vec<_> = asks.iter().map(|wanted| shard.shut(&[*wanted])).collect();
    if shut.iter().all(|shut| matches!(shut, Some(Shut::SoldOut | Shut::AllHeld))) {
        reasons.extend(exhausted(shard, asks, &shard.stock()));
    }
    reasons.extend(closed(parts, gate, shard));
    reasons.extend(over_limit(&shard.sale, (asks, facts)));
    if !reasons.iter().any(|reason| ["sold_out", "all_held"].contains(&reason.code)) {
        reasons.extend(exhausted(shard, asks, &facts.stock));
    }
    reasons
}

fn by_phase(sale: &Sale, now: UnixMillis) -> Option<Reason> {
    match sale.phase(now) {
        Phase::Open => None,
        Phase::NotOpen { opens_at: Some(at) } => Some(reason("not_open", format!("The sale opens at {at}."))),
        Phase::NotOpen { opens_at: None } => Some(reason("not_open", "The sale opens when an operator opens it.")),
        Phase::Paused => Some(reason("paused", "An operator has paused the sale.")),
        Phase::Closed => Some(match sale.closes_at {
            Some(at) if at <= now => reason("closed", format!("The sale closed at {at}.")),
            _ => reason("closed", "An operator has closed the sale."),
        }),
    }
}

/// Why this node answers no claim on an open sale, if so.
fn unable(parts: &Parts, gate: &Gate, shard: &SaleShard) -> Option<Reason> {
    let unserved = gate.claims.means(shard.partition).err()?;
    let because = match parts.epochs.scope(shard.partition) {
        _ if gate.claims.secret.get().is_none() => {
            "This node has not read the secret of order ids from the store yet.".to_owned()
        }
        Err(why) => format!("This node cannot ask the inventory now: {why}."),
        Ok(_) => "This node could not ask the inventory a moment ago.".to_owned(),
    };
    Some(reason(unserved.code(), because))
}

/// Why this node grants nothing more, if so.
fn closed(parts: &Parts, gate: &Gate, shard: &SaleShard) -> Option<Reason> {
    let unserved = gate.claims.closed(shard.partition)?;
    let bounds: Vec<_> = gate.claims.pressure.closed_by(shard.partition).map(|bound| bound.to_string()).collect();
    let because = match parts.publisher.ready() {
        Err(why) => format!("This node has no queue to send orders to: {why}."),
        Ok(()) => format!("This node is closed to new grants until less waits behind it: {}.", bounds.join("; ")),
    };
    Some(reason(unserved.code(), because))
}

fn over_limit(sale: &Sale, (asks, facts): (&[Wanted], &Facts)) -> Option<Reason> {
    let asked = asks.iter().map(|wanted| wanted.units).min()?;
    let counting = || facts.orders.iter().filter(|known| known.counts);
    let has: u32 = counting().map(|known| known.order.units()).sum();
    let limit = sale.limits.per_buyer;
    (has + asked > limit).then(|| {
        let named: Vec<_> = counting().map(|known| format!("{} ({})", known.order.id, known.status)).collect();
        let orders = if named.is_empty() { String::new() } else { format!(" in {}", named.join(", ")) };
        let because =
            format!("A buyer may have {limit} of this sale; this one has {has}{orders}, and asks for {asked} more.");
        reason("limit_reached", because)
    })
}

/// `None`: there is enough for one of these.
fn exhausted(shard: &SaleShard, asks: &[Wanted], stock: &[LegStock]) -> Option<Reason> {
    let mut held = false;
    for wanted in asks {
        held |= short(&shard.sale, wanted, stock)?;
    }
    Some(match (held, shard.next_release()) {
        (false, _) => reason("sold_out", "Nothing is free, and nothing is unpaid that might come back."),
        (true, Some(at)) => {
            reason("all_held", format!("Nothing is free; the first unpaid units may come back at {at}."))
        }
        (true, None) => reason("all_held", "Nothing is free, but some units are unpaid and may come back."),
    })
}

/// Whether a leg that has too few has unpaid units; `None` if none has too few.
fn short(sale: &Sale, wanted: &Wanted, stock: &[LegStock]) -> Option<bool> {
    let pool = &sale.pools[wanted.pool].id;
    let legs = wanted.legs.iter().map(|leg| stock.iter().find(|known| known.pool == *pool && known.leg == leg));
    let few: Vec<_> = legs.filter(|leg| leg.is_none_or(|leg| leg.free < wanted.units)).collect();
    (!few.is_empty()).then(|| few.iter().any(|leg| leg.is_some_and(|leg| leg.held > 0)))
}

fn document(
    parts: &Parts,
    (shards, gate): (&Shards, &Gate),
    shard: &SaleShard,
    buyer: &BuyerId,
    (asks, facts): (&[Wanted], &Facts),
) -> Value {
    let sale = &shard.sale;
    let counting = facts.orders.iter().filter(|known| known.counts);
    let orders = facts.orders.iter().map(|Known { order, status, recorded, .. }| {
        json!({
            "order": order.id.to_string(), "status": status.as_str(), "units": order.units(), "recorded": recorded,
            "granted_at": order.granted_at.to_string(), "pay_by": order.pay_by.to_string(),
        })
    });
    let closed_by = gate.claims.pressure.closed_by(shard.partition).map(Bound::name);
    let mut node = node(parts);
    node["closed_by"] = closed_by.collect::<Vec<_>>().into();
    node["shard"] = json!(crate::admission::status::left(shards, shard));
    json!({
        "at": parts.clock.now().to_string(),
        "sale": sale.id.as_str(),
        "buyer": buyer.as_str(),
        "quantity": asks.iter().map(|wanted| wanted.units).min(),
        "phase": sales::phase(parts, sale),
        "opens_at": sale.opens_at.map(|at| at.to_string()),
        "closes_at": sale.closes_at.map(|at| at.to_string()),
        "limit": {"per_buyer": sale.limits.per_buyer, "has": counting.map(|known| known.order.units()).sum::<u32>()},
        "orders": orders.collect::<Vec<_>>(),
        "stock": asks.iter().map(|wanted| stock(sale, wanted, &facts.stock)).collect::<Vec<_>>(),
        "next_release_at": shard.next_release().map(|at| at.to_string()),
        "node": node,
        "not_known": facts.not_known,
    })
}

/// The legs that one request would need.
fn stock(sale: &Sale, wanted: &Wanted, stock: &[LegStock]) -> Value {
    let pool = &sale.pools[wanted.pool];
    let stop = |index: u8| sale.stops.get(usize::from(index)).map(StopId::as_str);
    let legs =
        wanted.legs.iter().filter_map(|leg| stock.iter().find(|known| known.pool == pool.id && known.leg == leg));
    let legs = legs.map(|leg| {
        json!({
            "leg": leg.leg, "from": stop(leg.leg), "to": stop(leg.leg + 1),
            "free": leg.free, "held": leg.held, "sold": leg.sold,
        })
    });
    let verdict = match short(sale, wanted, stock) {
        None => "enough",
        Some(true) => "all_held",
        Some(false) => "sold_out",
    };
    json!({"pool": pool.id.as_str(), "capacity": pool.capacity, "stock": verdict, "legs": legs.collect::<Vec<_>>()})
}

fn node(parts: &Parts) -> Value {
    let process = &parts.process;
    json!({
        "node": process.node.as_str(),
        "ready": process.readiness.is_ready(),
        "draining": process.shutdown.has_begun(),
        "why_not_ready": process.readiness.failing(),
    })
}

/// The last refusal of this buyer by this node, if it is remembered.
fn told(parts: &Parts, gate: &Gate, sale: &SaleId, buyer: &BuyerId) -> Value {
    let last = gate.refusals.last(gate.refusals.mark(sale.as_str(), buyer.as_str()), Instant::now());
    let line = |last: crate::admission::refusals::Remembered| json!({"at": ago(parts, last.ago), "code": last.code, "seconds_ago": last.ago.as_secs_f64()});
    last.map(line).into_iter().collect()
}

fn memory(parts: &Parts, gate: &Gate) -> Value {
    let memory = gate.refusals.memory(Instant::now());
    json!({
        "node": parts.process.node.as_str(),
        "says": "What was told is this node's own memory, of the last refusal for each buyer; other nodes remember theirs, and a restart forgets.",
        "begun_at": ago(parts, memory.age),
        "oldest_at": memory.oldest.map(|age| ago(parts, age)),
        "half_since": memory.median.map(|age| ago(parts, age)),
        "places": memory.places,
        "taken": memory.taken,
    })
}

/// To a tenth of a second, as no finer is remembered.
fn ago(parts: &Parts, age: std::time::Duration) -> String {
    let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    let at = parts.clock.now().0.saturating_sub(millis);
    UnixMillis(at - at.rem_euclid(100)).to_string()
}
