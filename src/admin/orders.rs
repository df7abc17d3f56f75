//! Answers about orders, and their ends by an operator's hand.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::admin::problem::{Code, Problem};
use crate::admin::{Answer, Parts, line};
use crate::domain::{Order, OrderEvent, OrderId, OrderStatus, PassengerId, Sale, SaleId, SeatPreference, StopId};
use crate::inventory::KnownOrder;
use crate::store::{CancelOutcome, OrderFilter, OrderRow, PaymentRow, StaleState};

/// Orders that match. `next` goes on where this page ends, for a walk by id, which begins at `after=000…`.
pub(super) async fn list(parts: &Parts, filter: &OrderFilter) -> Result<Answer, Problem> {
    let rows = parts.store.orders(filter).await?;
    let is_full = rows.len() == filter.limit as usize;
    let next = rows.last().filter(|_| is_full && filter.after.is_some()).map(|row| row.order.id.to_string());
    let mut sales: HashMap<SaleId, Option<Sale>> = HashMap::new();
    let mut orders = Vec::with_capacity(rows.len());
    for row in &rows {
        if !sales.contains_key(&row.order.sale) {
            sales.insert(row.order.sale.clone(), sale_of(parts, &row.order).await?);
        }
        orders.push(recorded(row, sales[&row.order.sale].as_ref()));
    }
    Ok(Answer::ok(json!({"orders": orders, "next": next})))
}

/// Orders that came too late for their epoch and are in this state, those kept longest first.
pub(super) async fn stale(parts: &Parts, state: StaleState, limit: u32) -> Result<Answer, Problem> {
    let orders = parts.store.stale_orders(state, limit).await?.into_iter().map(|stale| {
        json!({
            "order": stale.order.id.to_string(),
            "sale": stale.order.sale.as_str(),
            "buyer": stale.order.buyer.as_str(),
            "units": stale.order.units(),
            "scope": stale.scope.to_string(),
            "kept_at": stale.kept_at.to_string(),
            "state": stale.state.as_str(),
            "reason": stale.reason,
        })
    });
    Ok(Answer::ok(json!({"orders": orders.collect::<Vec<_>>()})))
}

pub(super) async fn show(parts: &Parts, id: OrderId) -> Result<Answer, Problem> {
    Ok(Answer::ok(document_of(parts, id).await?))
}

/// One order with its history and its payments, and what the inventory knows of it.
pub(super) async fn document_of(parts: &Parts, id: OrderId) -> Result<Value, Problem> {
    let known = known(parts, id).await;
    let Some(row) = parts.store.order(id).await? else {
        // Granted, and not in the store yet.
        let known = known.map_err(|why| Problem::new(Code::Unavailable, why))?;
        let Some(KnownOrder { order, status }) = known else { return Err(unknown()) };
        let sale = sale_of(parts, &order).await?;
        let mut body = document(&order, status, sale.as_ref());
        body["recorded_at"] = Value::Null;
        body["inventory_status"] = status.as_str().into();
        return Ok(body);
    };
    let sale = sale_of(parts, &row.order).await?;
    let history = parts.store.history(id).await?;
    let history = history.iter().map(|(at, status)| json!({"at": at.to_string(), "status": status.as_str()}));
    let payments = parts.store.payments(id).await?;
    let mut body = recorded(&row, sale.as_ref());
    body["history"] = history.collect();
    body["payments"] = payments.iter().map(payment).collect();
    body["inventory_status"] = match known {
        Ok(known) => known.map(|known| known.status.as_str()).into(),
        Err(_cannot_be_asked) => Value::Null,
    };
    Ok(body)
}

/// Cancels a hold or refunds a payment, or tells what that would do.
pub(super) async fn end(
    parts: &Parts,
    id: OrderId,
    event: OrderEvent,
    (who, dry_run): (&str, bool),
) -> Result<Answer, Problem> {
    let Some(before) = parts.store.order(id).await? else {
        return Err(match known(parts, id).await {
            Ok(None) => unknown(),
            Ok(Some(_)) => {
                Problem::new(Code::NotRecorded, "The order is on its way to the store; ask again in a moment.")
            }
            Err(why) => Problem::new(Code::Unavailable, why),
        });
    };
    let Some(to) = before.status.after(event) else { return Err(not_possible(&before, event)) };
    let sale = sale_of(parts, &before.order).await?;
    if !dry_run {
        let outcome = match event {
            OrderEvent::Refund => parts.store.refund(id).await,
            _ => parts.store.cancel(id, None).await,
        };
        match outcome
            .map_err(|fault| Problem::new(Code::Unknown, format!("{fault}; look at the order before you repeat")))?
        {
            CancelOutcome::Done(_) => {}
            CancelOutcome::NotPossible(row) => return Err(not_possible(&row, event)),
            CancelOutcome::NotFound => return Err(unknown()),
        }
        let what = if event == OrderEvent::Refund { "order.refund" } else { "order.cancel" };
        let status = |status: OrderStatus| json!({"status": status.as_str()});
        let change = line(parts.clock.now(), who, (what, id.to_string()), &status(before.status), &status(to));
        parts.log(change).await;
    }
    let body = json!({
        "order": id.to_string(),
        "before": document(&before.order, before.status, sale.as_ref()),
        "after": document(&before.order, to, sale.as_ref()),
        "effect": "applied",
        "dry_run": dry_run,
    });
    Ok(Answer::ok(body))
}

fn unknown() -> Problem {
    Problem::new(Code::UnknownOrder, "There is no such order.")
}

fn not_possible(row: &OrderRow, event: OrderEvent) -> Problem {
    let detail = format!("An order that is {} is not one to {}.", row.status, event.as_str());
    Problem::new(Code::NotPossible, detail).with("status", row.status.as_str())
}

/// What the inventory knows of an order, whose sale may not be known.
async fn known(parts: &Parts, id: OrderId) -> Result<Option<KnownOrder>, String> {
    for scope in parts.epochs.all().map_err(|reason| reason.to_string())? {
        match parts.inventory.order(scope, id).await {
            Ok(None) => {}
            Ok(known) => return Ok(known),
            Err(fault) => {
                parts.epochs.report(scope, &fault);
                return Err(fault.to_string());
            }
        }
    }
    Ok(None)
}

async fn sale_of(parts: &Parts, order: &Order) -> Result<Option<Sale>, Problem> {
    if let Some(shard) = parts.shards.as_ref().and_then(|shards| shards.sale(order.sale.as_str())) {
        return Ok(Some(shard.sale.clone()));
    }
    Ok(parts.store.sale(&order.sale).await?.map(|stored| stored.sale))
}

fn recorded(row: &OrderRow, sale: Option<&Sale>) -> Value {
    let mut body = document(&row.order, row.status, sale);
    body["scope"] = row.scope.to_string().into();
    body["recorded_at"] = row.recorded_at.to_string().into();
    body["changed_at"] = row.changed_at.to_string().into();
    body
}

fn document(order: &Order, status: OrderStatus, sale: Option<&Sale>) -> Value {
    let stop = |index: u8| sale.and_then(|sale| sale.stops.get(usize::from(index))).map(StopId::as_str);
    let lines = order.lines.iter().map(|line| {
        json!({
            "pool": line.pool.as_str(),
            "legs": [line.legs.from, line.legs.to],
            "from": stop(line.legs.from),
            "to": stop(line.legs.to),
            "quantity": line.quantity,
            "passenger": line.passenger.as_ref().map(PassengerId::as_str),
            "seat": line.seat.map(SeatPreference::as_str),
        })
    });
    json!({
        "order": order.id.to_string(),
        "sale": order.sale.as_str(),
        "buyer": order.buyer.as_str(),
        "status": status.as_str(),
        "amount": order.price.amount,
        "currency": order.price.currency.as_str(),
        "granted_at": order.granted_at.to_string(),
        "pay_by": order.pay_by.to_string(),
        "lines": lines.collect::<Vec<_>>(),
    })
}

fn payment(payment: &PaymentRow) -> Value {
    json!({
        "event": payment.event.id,
        "amount": payment.event.paid.amount,
        "currency": payment.event.paid.currency.as_str(),
        "state": payment.state.as_str(),
        "received_at": payment.received_at.to_string(),
    })
}
