//! What became of an order, step by step, and why it is not paid.

use serde_json::{Value, json};

use crate::admin::problem::Problem;
use crate::admin::{Answer, Parts, orders};
use crate::domain::{OrderId, OrderStatus, UnixMillis};
use crate::store::{OrderFilter, OrderRow, PaymentRow, PaymentState, StaleOrder, StaleState};

/// Lines of the audit log about one order.
const CHANGES: u32 = 20;

/// One thing that happened.
struct Step {
    at: UnixMillis,
    what: &'static str,
    says: String,
}

pub(super) async fn answer(parts: &Parts, id: OrderId) -> Result<Answer, Problem> {
    let Some(row) = parts.store.order(id).await? else { return not_recorded(parts, id).await };
    let payments = parts.store.payments(id).await?;
    let changes = parts.store.changes(Some(&id.to_string()), CHANGES).await?;
    let by = |what: &str| changes.iter().find(|change| change.what == what).map(|change| change.who.as_str());
    let mut story = vec![granted(row.order.granted_at, row.order.pay_by), recorded(row.recorded_at)];
    // The first line is its recording.
    for (at, status) in parts.store.history(id).await?.into_iter().skip(1) {
        story.push(became(at, status, by));
    }
    story.extend(payments.iter().map(paid));
    let mut facts = orders::document_of(parts, id).await?;
    let inventory = facts["inventory_status"].as_str().map(str::to_owned);
    if let Some(step) = returned(&row, inventory.as_deref()) {
        story.push(step);
    }
    story.sort_by_key(|step| step.at);
    let because = because(&row, &payments, parts.clock.now(), by);
    if let Some(facts) = facts.as_object_mut() {
        // They are the story.
        facts.remove("history");
        facts.remove("payments");
    }
    Ok(Answer::ok(json!({"verdict": row.status.as_str(), "because": because, "story": told(&story), "facts": facts})))
}

fn told(story: &[Step]) -> Vec<Value> {
    story.iter().map(|Step { at, what, says }| json!({"at": at.to_string(), "what": what, "says": says})).collect()
}

/// It was granted and is on its way; or it came too late for its epoch; or nobody knows it.
async fn not_recorded(parts: &Parts, id: OrderId) -> Result<Answer, Problem> {
    for state in StaleState::ALL {
        let stale = parts.store.stale_orders(state, OrderFilter::MAX_LIMIT).await?;
        if let Some(stale) = stale.into_iter().find(|stale| stale.order.id == id) {
            return Ok(Answer::ok(of_stale(&stale)));
        }
    }
    let facts = orders::document_of(parts, id).await?;
    let status = facts["status"].as_str().unwrap_or_default().to_owned();
    let because = "It is granted, and on its way to the store; until it is there it cannot be paid.";
    Ok(Answer::ok(json!({"verdict": status, "because": because, "story": [], "facts": facts})))
}

fn of_stale(stale: &StaleOrder) -> Value {
    let because = match stale.state {
        StaleState::Waiting => {
            "Its message came after the inventory was rebuilt without it; whether it can have its units is being asked."
                .to_owned()
        }
        StaleState::Readmitted => {
            "Its message came after the inventory was rebuilt without it, and it was granted again.".to_owned()
        }
        StaleState::Refused => format!(
            "Its message came after the inventory was rebuilt without it, and there was nothing left for it ({}). Its buyer heard no yes \
             for it.",
            stale.reason
        ),
    };
    let steps = [
        granted(stale.order.granted_at, stale.order.pay_by),
        Step { at: stale.kept_at, what: "stale", says: "Its message came too late for its epoch.".to_owned() },
    ];
    json!({
        "verdict": format!("stale_{}", stale.state.as_str()),
        "because": because,
        "story": told(&steps),
        "facts": {
            "order": stale.order.id.to_string(), "sale": stale.order.sale.as_str(), "buyer": stale.order.buyer.as_str(),
            "units": stale.order.units(), "scope": stale.scope.to_string(), "reason": stale.reason,
        },
    })
}

fn granted(at: UnixMillis, pay_by: UnixMillis) -> Step {
    Step { at, what: "granted", says: format!("It was granted, to be paid by {pay_by}.") }
}

fn recorded(at: UnixMillis) -> Step {
    Step { at, what: "recorded", says: "It is in the store.".to_owned() }
}

fn became<'a>(at: UnixMillis, status: OrderStatus, by: impl Fn(&str) -> Option<&'a str>) -> Step {
    let says = match status {
        OrderStatus::Held => "It is held.".to_owned(),
        OrderStatus::Paid => "It is paid.".to_owned(),
        OrderStatus::Expired => "It was not paid in time, and expired.".to_owned(),
        OrderStatus::Cancelled => format!("It was cancelled by {}.", by("order.cancel").unwrap_or("its buyer")),
        OrderStatus::Refunded => {
            format!("Its money was given back by {}.", by("order.refund").unwrap_or("the program"))
        }
    };
    Step { at, what: status.as_str(), says }
}

fn paid(payment: &PaymentRow) -> Step {
    let money = &payment.event.paid;
    let came = format!("Payment {} of {} {} came", payment.event.id, money.amount, money.currency.as_str());
    let says = match payment.state {
        PaymentState::Applied => format!("{came}, and pays it."),
        PaymentState::RefundDue => format!("{came}, and is to be given back: the order was over, or paid by another."),
        PaymentState::Unmatched => format!("{came} before the order was recorded, and waits for it."),
        PaymentState::Mismatch => format!("{came}, which is not what it costs, and is to be given back."),
        PaymentState::Late => format!("{came} too late; whether the units can be taken again is being asked."),
    };
    Step { at: payment.received_at, what: "payment", says }
}

/// Whether the units of an order that is over are for sale again.
fn returned(row: &OrderRow, inventory: Option<&str>) -> Option<Step> {
    if row.status.is_live() {
        return None;
    }
    let says = match inventory {
        Some(status) if status == row.status.as_str() => "Its units are for sale again.".to_owned(),
        Some(status) => format!("Its units are on their way back to sale: the inventory has it as {status} still."),
        None => "Whether its units are for sale again the inventory does not say now.".to_owned(),
    };
    Some(Step { at: row.changed_at, what: "units", says })
}

fn because<'a>(
    row: &OrderRow,
    payments: &[PaymentRow],
    now: UnixMillis,
    by: impl Fn(&str) -> Option<&'a str>,
) -> String {
    let (at, pay_by) = (row.changed_at, row.order.pay_by);
    let due = if payments.iter().any(|payment| payment.state.is_due_back()) {
        " Money that came for it is to be given back."
    } else {
        ""
    };
    let late = if payments.iter().any(|payment| payment.state == PaymentState::Late) {
        " A payment that came late is being decided."
    } else {
        ""
    };
    let says = match row.status {
        OrderStatus::Held if now < pay_by => format!("It is held, and can be paid until {pay_by}."),
        OrderStatus::Held => {
            format!("It is held, and was to be paid by {pay_by}; it expires soon, unless a payment is on its way.")
        }
        OrderStatus::Paid => format!("It is paid since {at}."),
        OrderStatus::Expired => format!("It was not paid by {pay_by}, and expired at {at}."),
        OrderStatus::Cancelled => format!("It was cancelled at {at} by {}.", by("order.cancel").unwrap_or("its buyer")),
        OrderStatus::Refunded => {
            format!("It was paid, and given back at {at} by {}.", by("order.refund").unwrap_or("the program"))
        }
    };
    format!("{says}{late}{due}")
}
