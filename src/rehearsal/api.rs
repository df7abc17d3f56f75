//! The public API as a buyer sees it: one request, one answer, told apart by what the buyer may do next.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use crate::clock::Clock;
use crate::domain::{OrderId, UnixMillis};
use crate::payment;
use crate::rehearsal::doors::{Doors, Question, Reply};
use crate::rehearsal::ledger::{Kind, Ledger, Outcome};
use crate::rehearsal::sale::Line;
use crate::rehearsal::settings::Settings;

const BUYER: HeaderName = HeaderName::from_static("x-buyer-id");
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SIGNATURE: HeaderName = HeaderName::from_static("rushgate-signature");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Of a bearer token, beyond the rehearsal.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// To wait where an answer did not say how long.
const PAUSE: Duration = Duration::from_secs(1);
const AGAIN: [Outcome; 4] = [Outcome::RateLimited, Outcome::Busy, Outcome::Recovering, Outcome::Unavailable];
const REFUSALS: [Outcome; 7] = [
    Outcome::SoldOut,
    Outcome::AllHeld,
    Outcome::LimitReached,
    Outcome::NotOpen,
    Outcome::Paused,
    Outcome::Closed,
    Outcome::UnknownSale,
];
/// A no is an answer that was asked for: only what is none counts as a failed request.
const EXPECTED: [u16; 6] = [403, 404, 409, 410, 429, 503];

/// An order as a buyer is told of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    pub(super) id: OrderId,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) pay_by: UnixMillis,
    pub(super) lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// Granted.
    Yes(Outcome, Order),
    /// Refused, for good; it may be otherwise then.
    No(Outcome, Option<UnixMillis>),
    /// Ask again later.
    Later(Outcome, Later),
    /// There is no such order.
    Absent,
    /// No answer that the interface knows.
    Odd(String),
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Later {
    pub(super) after: Duration,
    /// Nothing was done by this request.
    pub(super) is_known: bool,
    /// It may have been made.
    pub(super) order: Option<String>,
}

/// What came of a payment or a cancellation.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ended {
    Done,
    /// It had ended before.
    Before,
    /// To be asked again. `is_unsent`: it reached nobody.
    Later {
        after: Duration,
        is_unsent: bool,
    },
    Odd(String),
}

impl Answer {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Yes(outcome, _) | Self::No(outcome, _) | Self::Later(outcome, _) => *outcome,
            Self::Absent => Outcome::Pending,
            Self::Odd(_) => Outcome::Odd,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Yes(..) => Kind::Yes,
            Self::No(..) => Kind::No,
            Self::Later(..) | Self::Absent | Self::Odd(_) => Kind::Later,
        }
    }
}

/// What all buyers ask with.
#[derive(Debug)]
pub(super) struct Api {
    doors: Doors,
    pub(super) settings: Settings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ledger: Ledger,
}

impl Api {
    pub(super) fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let doors = Doors::new(settings.vus, settings.gateways.len());
        Self { doors, settings, clock, ledger: Ledger::default() }
    }

    /// How a buyer of this name introduces itself.
    pub(super) fn introduce(&self, buyer: &str) -> anyhow::Result<HeaderMap> {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON)]);
        let secret = &self.settings.jwt_secret.0;
        if secret.is_empty() {
            headers.insert(BUYER, buyer.parse().context("a name that no header can carry")?);
            return Ok(headers);
        }
        let life = self.settings.duration + self.settings.hold + self.settings.patience * 2 + TOKEN_LIFE;
        let claims = json!({"sub": buyer, "exp": self.clock.now().plus(life).0 / 1000});
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).context("signing a token")?;
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().context("a token that no header can carry")?);
        Ok(headers)
    }

    pub(super) async fn claim(
        &self,
        gateway: &str,
        (sale, key): (&str, &str),
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Answer {
        let mut headers = headers.clone();
        if let Ok(key) = HeaderValue::from_str(key) {
            headers.insert(KEY, key);
        }
        let url = format!("{gateway}/v1/sales/{sale}/orders");
        understood(&self.send(Method::POST, url, (&headers, body.clone())).await)
    }

    /// Asks for an order.
    pub(super) async fn look(&self, gateway: &str, order: &str, headers: &HeaderMap) -> Answer {
        let url = format!("{gateway}/v1/orders/{order}");
        let reply = self.send(Method::GET, url, (headers, Bytes::new())).await;
        if reply.status == 404 { Answer::Absent } else { understood(&reply) }
    }

    pub(super) async fn pay(&self, gateway: &str, order: &Order, headers: &HeaderMap) -> Ended {
        let url = format!("{gateway}/v1/orders/{}/payment", order.id);
        let reply = self.send(Method::POST, url, (headers, self.wish())).await;
        if reply.body["payment"].is_null() { ended(&reply, "paid") } else { self.notice(gateway, order).await }
    }

    pub(super) async fn cancel(&self, gateway: &str, order: OrderId, headers: &HeaderMap) -> Ended {
        let url = format!("{gateway}/v1/orders/{order}");
        ended(&self.send(Method::DELETE, url, (headers, Bytes::new())).await, "cancelled")
    }

    /// How buyers pay here.
    fn wish(&self) -> Bytes {
        let method = if self.settings.callback_secret.0.is_empty() { "sandbox" } else { "signed-callback" };
        json!({"method": method}).to_string().into()
    }

    /// What the provider tells when the buyer has paid there: the same event, however often it is told.
    async fn notice(&self, gateway: &str, order: &Order) -> Ended {
        let Order { id, amount, currency, .. } = order;
        let body = json!({
            "event": format!("rehearsal-{id}"), "status": "paid", "order": id.to_string(), "amount": amount,
            "currency": currency,
        });
        let reply = self.callback(gateway, body.to_string()).await;
        match reply.text("outcome") {
            "paid" if reply.status == 200 => Ended::Done,
            "refund_due" if reply.status == 200 => Ended::Before,
            "late" | "unmatched" if reply.status == 200 => Ended::Later { after: PAUSE, is_unsent: false },
            _ => ended(&reply, "paid"),
        }
    }

    async fn callback(&self, gateway: &str, body: String) -> Reply {
        let signature = payment::sign(&self.settings.callback_secret.0, self.clock.now(), body.as_bytes());
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON)]);
        headers.insert(SIGNATURE, signature.parse().expect("digits and letters"));
        self.send(Method::POST, format!("{gateway}/v1/payments/callback"), (&headers, body.into())).await
    }

    async fn send(&self, method: Method, url: String, (headers, body): (&HeaderMap, Bytes)) -> Reply {
        let reply = self.doors.ask(Question { method, url, headers, body }).await;
        let mut heard = self.ledger.open();
        heard.requests += 1;
        heard.failed += u64::from(!(200..300).contains(&reply.status) && !EXPECTED.contains(&reply.status));
        reply
    }
}

/// What changes nothing, and is not counted.
impl Api {
    /// What a gateway says of a sale.
    pub(super) async fn sale(&self, gateway: &str, sale: &str) -> Reply {
        let (url, headers) = (format!("{gateway}/v1/sales/{sale}"), HeaderMap::new());
        self.doors.ask(Question { method: Method::GET, url, headers: &headers, body: Bytes::new() }).await
    }

    /// Does this gateway know the sale, and that it is open?
    pub(super) async fn is_open(&self, gateway: &str, sale: &str) -> Result<(), String> {
        let reply = self.sale(gateway, sale).await;
        match reply.text("state") {
            "open" if reply.status == 200 => Ok(()),
            "" => Err(reply.told()),
            state => Err(format!("it says that the sale is {state}")),
        }
    }

    /// Would this gateway know who asks, and how they pay? Asks for an order that cannot be there.
    pub(super) async fn probe(&self, gateway: &str, buyer: &str) -> anyhow::Result<Reply> {
        let headers = self.introduce(buyer)?;
        let url = format!("{gateway}/v1/orders/{}/payment", "0".repeat(32));
        Ok(self.doors.ask(Question { method: Method::POST, url, headers: &headers, body: self.wish() }).await)
    }

    /// Would this gateway believe the provider? Tells it something that changes nothing.
    pub(super) async fn probe_callback(&self, gateway: &str) -> Reply {
        let body = json!({
            "event": "rehearsal", "status": "pending", "order": "0".repeat(32), "amount": 0, "currency": "CNY",
        });
        self.callback(gateway, body.to_string()).await
    }
}

fn understood(reply: &Reply) -> Answer {
    let (code, after) = (reply.text("code"), reply.retry_after.unwrap_or(PAUSE));
    if reply.text("status") == "pending" && !reply.text("order").is_empty() {
        let order = Some(reply.text("order").to_owned());
        return Answer::Later(Outcome::Pending, Later { after, is_known: false, order });
    }
    if matches!(reply.status, 200 | 201)
        && let Some(order) = order_of(reply)
    {
        return Answer::Yes(if reply.status == 201 { Outcome::Held } else { Outcome::Replayed }, order);
    }
    if let Some(outcome) = REFUSALS.into_iter().find(|outcome| outcome.as_str() == code) {
        return Answer::No(outcome, UnixMillis::parse(reply.text("next_release_at")).ok());
    }
    if let Some(outcome) = AGAIN.into_iter().find(|outcome| outcome.as_str() == code) {
        return Answer::Later(outcome, Later { after, is_known: true, order: None });
    }
    if is_lost(reply) {
        return Answer::Later(Outcome::NoAnswer, Later { after: PAUSE, is_known: reply.is_unsent, order: None });
    }
    Answer::Odd(reply.told())
}

fn order_of(reply: &Reply) -> Option<Order> {
    Some(Order {
        id: reply.text("order").parse().ok()?,
        amount: reply.body["amount"].as_i64()?,
        currency: reply.text("currency").to_owned(),
        pay_by: UnixMillis::parse(reply.text("pay_by")).ok()?,
        lines: serde_json::from_value(reply.body["lines"].clone()).ok()?,
    })
}

fn ended(reply: &Reply, wanted: &str) -> Ended {
    let code = reply.text("code");
    if reply.status == 200 && reply.text("status") == wanted {
        return Ended::Done;
    }
    if reply.status == 409 && code == "not_held" {
        return Ended::Before;
    }
    let again = matches!(reply.status, 200 | 202) || AGAIN.iter().any(|outcome| outcome.as_str() == code);
    if again || is_lost(reply) {
        return Ended::Later { after: reply.retry_after.unwrap_or(PAUSE), is_unsent: reply.is_unsent };
    }
    Ended::Odd(reply.told())
}

/// Nobody has answered, or only a balancer that has lost its gateway.
fn is_lost(reply: &Reply) -> bool {
    reply.status == 0 || (matches!(reply.status, 502..=504) && reply.text("code").is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "00ff10ab5c0000000000000000123456";

    fn reply(status: u16, body: &serde_json::Value) -> Reply {
        Reply { status, body: body.clone(), said: body.to_string(), ..Reply::default() }
    }

    fn granted() -> serde_json::Value {
        json!({
            "order": ORDER, "sale": "s", "status": "held", "amount": 55350, "currency": "CNY",
            "pay_by": "2026-11-21T12:00:00Z", "lines": [{"pool": "standard", "quantity": 1}],
        })
    }

    #[test]
    fn a_yes_is_an_order_with_all_that_the_interface_says() {
        let kinds = |status| understood(&reply(status, &granted())).outcome();
        assert_eq!([201, 200, 202].map(kinds), [Outcome::Held, Outcome::Replayed, Outcome::Odd]);
        for field in ["order", "amount", "pay_by", "lines"] {
            let mut body = granted();
            body[field] = serde_json::Value::Null;
            assert_eq!(understood(&reply(201, &body)).outcome(), Outcome::Odd, "without {field}");
        }
    }

    #[test]
    fn a_refusal_is_a_no_and_what_may_pass_is_asked_again() {
        let of = |status, code: &str| understood(&reply(status, &json!({"code": code, "status": status})));
        assert_eq!(of(409, "sold_out"), Answer::No(Outcome::SoldOut, None));
        assert_eq!((of(410, "closed").kind(), of(429, "rate_limited").kind()), (Kind::No, Kind::Later));
        let Answer::Later(Outcome::Busy, Later { after, is_known: true, order: None }) = of(503, "busy") else {
            panic!("{:?}", of(503, "busy"))
        };
        assert_eq!(after, PAUSE);
        assert!(matches!(of(401, "unauthenticated"), Answer::Odd(_)));
        let held = json!({"code": "all_held", "next_release_at": "2026-11-21T12:00:00Z"});
        assert!(matches!(understood(&reply(409, &held)), Answer::No(Outcome::AllHeld, Some(_))));
    }

    #[test]
    fn what_nobody_answered_may_have_been_done_all_the_same() {
        for lost in [reply(0, &json!(null)), reply(502, &json!("<html>")), reply(504, &json!(null))] {
            let Answer::Later(Outcome::NoAnswer, later) = understood(&lost) else { panic!("{lost:?}") };
            assert!(!later.is_known);
        }
        let unsent = Reply { is_unsent: true, ..Reply::default() };
        let Answer::Later(Outcome::NoAnswer, later) = understood(&unsent) else { panic!("{unsent:?}") };
        assert!(later.is_known, "what reached nobody was not done");
        assert_eq!(ended(&unsent, "paid"), Ended::Later { after: PAUSE, is_unsent: true });
        let pending = understood(&reply(202, &json!({"order": ORDER, "status": "pending"})));
        let Answer::Later(Outcome::Pending, later) = pending else { panic!("{pending:?}") };
        assert_eq!((later.is_known, later.order.as_deref()), (false, Some(ORDER)));
    }

    #[test]
    fn an_end_is_done_was_before_or_is_asked_again() {
        let of = |status, body| ended(&reply(status, &body), "paid");
        assert_eq!(of(200, json!({"status": "paid"})), Ended::Done);
        assert_eq!(of(409, json!({"code": "not_held", "status": 409})), Ended::Before);
        assert_eq!(of(202, json!({"status": "pending"})), Ended::Later { after: PAUSE, is_unsent: false });
        assert_eq!(of(503, json!({"code": "unavailable"})), Ended::Later { after: PAUSE, is_unsent: false });
        assert_eq!(of(0, json!(null)), Ended::Later { after: PAUSE, is_unsent: false });
        assert!(matches!(of(422, json!({"code": "invalid"})), Ended::Odd(_)));
    }
}
