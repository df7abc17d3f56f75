//! `POST /v1/orders/{order}/payment` for buyers, `POST /v1/payments/callback` for the provider.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::HeaderName;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::config::settings::PaymentProvider;
use crate::domain::{Invalid, Object, OrderId, OrderStatus};
use crate::http::door::{Call, Door};
use crate::http::limits::{json_body, whole_body};
use crate::http::orders::{Found, not_held, store_is_down};
use crate::http::problem::{Code, Problem};
use crate::http::reply::{self, Reply};
use crate::payment::Notice;
use crate::store::{OrderRow, PaymentOutcome, PaymentState};

const SIGNATURE: HeaderName = HeaderName::from_static("rushgate-signature");

/// How a buyer wants to pay.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    method: String,
}

/// Starts paying. In the sandbox that is all of it; else the answer says what to tell the provider.
pub(super) async fn pay(door: &Door, order: &str, call: &Call<'_>, body: &mut Incoming) -> Result<Reply, Problem> {
    let (id, buyer) = door.order_of(order, call.headers)?;
    let body = json_body(call.headers, body, door.body_limit(call)).await?;
    let provider = door.parts.payments.provider();
    check_wish(&body, provider)?;
    let deadline = door.deadline(call);
    let row = match door.find(id, &buyer, deadline).await? {
        Found::Stored(row) => row,
        Found::Granted(_) | Found::Deciding => return Ok(reply::pending(id, StatusCode::ACCEPTED)),
    };
    match (row.status, provider) {
        // Paid before: the same answer again.
        (OrderStatus::Paid, _) => Ok(door.order(&row.order, row.status)),
        (OrderStatus::Held, PaymentProvider::Sandbox) => pay_in_sandbox(door, *row, deadline).await,
        (OrderStatus::Held, PaymentProvider::SignedCallback) => Ok(how_to_pay(&row)),
        (OrderStatus::Expired, _) if is_being_settled(door, id, deadline).await? => {
            Ok(reply::pending(id, StatusCode::ACCEPTED))
        }
        (ended, _) => Err(not_held(ended).detail(format!("The order is {ended}. Nothing was charged."))),
    }
}

/// Takes a notice of the provider. Every answer of 200 means that it is kept and need not come again.
pub(super) async fn callback(door: &Door, call: &Call<'_>, body: &mut Incoming) -> Result<Reply, Problem> {
    let body = whole_body(body, door.body_limit(call)).await?;
    let payments = door.parts.payments.clone();
    let mut signatures = call.headers.map.get_all(SIGNATURE).iter();
    let signature = signatures.next().filter(|_| signatures.next().is_none()).and_then(|value| value.to_str().ok());
    payments.verify(signature, &body).map_err(|error| Problem::from(Code::BadSignature).detail(error.to_string()))?;
    let event = match Notice::parse(&body).map_err(|wrong| Problem::invalid(&wrong))? {
        Notice::Paid(event) => event,
        Notice::Other => return Ok(reply::json(StatusCode::OK, &json!({"outcome": "ignored"}))),
    };
    let outcome = door.ask(door.deadline(call), async move { payments.apply(&event).await }).await?;
    let said = match outcome.map_err(|fault| store_is_down(&fault))? {
        PaymentOutcome::Paid(row) => json!({"outcome": "paid", "status": row.status.as_str()}),
        PaymentOutcome::RefundDue(row) => json!({"outcome": "refund_due", "status": row.status.as_str()}),
        PaymentOutcome::Late(row) => json!({"outcome": "late", "status": row.status.as_str()}),
        PaymentOutcome::Unmatched => json!({"outcome": "unmatched"}),
        PaymentOutcome::Mismatch { due } => {
            json!({"outcome": "mismatch", "due": {"amount": due.amount, "currency": due.currency.as_str()}})
        }
    };
    Ok(reply::json(StatusCode::OK, &said))
}

/// Was it paid too late, and is it not known yet what comes of that?
async fn is_being_settled(door: &Door, id: OrderId, deadline: Instant) -> Result<bool, Problem> {
    let store = Arc::clone(&door.parts.store);
    let payments = door.ask(deadline, async move { store.payments(id).await }).await?;
    Ok(payments.map_err(|fault| store_is_down(&fault))?.iter().any(|payment| payment.state == PaymentState::Late))
}

async fn pay_in_sandbox(door: &Door, row: OrderRow, deadline: Instant) -> Result<Reply, Problem> {
    let id = row.order.id;
    let payments = door.parts.payments.clone();
    let outcome = door.ask(deadline, async move { payments.pay_in_sandbox(&row.order).await }).await?;
    match outcome.map_err(|fault| store_is_down(&fault))? {
        PaymentOutcome::Paid(row) => Ok(door.order(&row.order, row.status)),
        // It was held a moment ago: the payment came too late, its units were gone, and its money is noted to be given back.
        PaymentOutcome::RefundDue(row) => Err(not_held(row.status).with("refund_due", true)),
        PaymentOutcome::Late(_) | PaymentOutcome::Unmatched => Ok(reply::pending(id, StatusCode::ACCEPTED)),
        PaymentOutcome::Mismatch { due } => Err(Problem::from(Code::NotHeld)
            .detail(format!(
                "The order's price is {} {} now; the payment is to be given back.",
                due.amount, due.currency
            ))
            .with("refund_due", true)),
    }
}

fn how_to_pay(row: &OrderRow) -> Reply {
    let order = &row.order;
    let document = json!({
        "order": order.id.to_string(),
        "status": row.status.as_str(),
        "payment": {
            "method": "signed-callback",
            "reference": order.id.to_string(),
            "amount": order.price.amount,
            "currency": order.price.currency.as_str(),
            "pay_by": order.pay_by.to_string(),
        },
    });
    reply::json(StatusCode::OK, &document)
}

fn check_wish(body: &[u8], provider: PaymentProvider) -> Result<(), Problem> {
    let method = match provider {
        PaymentProvider::Sandbox => "sandbox",
        PaymentProvider::SignedCallback => "signed-callback",
    };
    let Object(wish) = serde_json::from_slice::<Object<Wish>>(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Problem::invalid(&[Invalid::new("", error)]),
        _ => Problem::malformed(format!("the body is no JSON: {error}")),
    })?;
    if wish.method == method {
        return Ok(());
    }
    Err(Problem::invalid(&[Invalid::new("/method", format!("must be {method}"))]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(body: &[u8]) -> Option<Code> {
        check_wish(body, PaymentProvider::Sandbox).err().map(|problem| problem.code)
    }

    #[test]
    fn a_wish_names_the_method_that_there_is() {
        assert_eq!(code(br#"{"method":"sandbox"}"#), None);
        assert_eq!(check_wish(br#"{"method":"signed-callback"}"#, PaymentProvider::SignedCallback), Ok(()));
        for odd in [
            "{}",
            "[]",
            r#"["sandbox"]"#,
            r#"{"method":1}"#,
            r#"{"method":"card"}"#,
            r#"{"method":"sandbox","more":1}"#,
        ] {
            assert_eq!(code(odd.as_bytes()), Some(Code::Invalid), "{odd}");
        }
        for odd in ["{", "x", r#"{"method":"sandbox"}}"#] {
            assert_eq!(code(odd.as_bytes()), Some(Code::Malformed), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_wish_or_a_problem(body in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(matches!(code(&body), Some(Code::Malformed | Code::Invalid)));
        }
    }
}
