//! What becomes what: the one table from outcomes to answers.
//!
//! | outcome | status | code | headers |
//! |---|---|---|---|
//! | granted | 201 | | `Location` |
//! | granted before | 200 | | `Location`, `Idempotent-Replayed` |
//! | not known in time | 202 | | `Location`, `Retry-After` |
//! | refused | 403, 404, 409, 410, 422 | the refusal's | |
//! | does not fit the sale | 422 | `invalid` | |
//! | not served | 503 | `busy`, `recovering`, `unavailable` | `Retry-After` |

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::confirm::{Answer, Unserved};
use crate::domain::{
    Line, Order, OrderDigits, OrderId, OrderStatus, PassengerId, Refusal, SeatPreference, StopId, UnixMillis,
};
use crate::http::problem::{Code, Problem};

/// A whole answer.
pub(super) type Reply = Response<Full<Bytes>>;

/// Seconds after which an order that is not known yet is worth asking for again.
const PENDING_RETRY: u32 = 1;
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An order as its buyer sees it.
#[derive(Debug, Serialize)]
pub(super) struct OrderDocument<'a> {
    #[serde(serialize_with = "digits")]
    order: OrderDigits,
    sale: &'a str,
    status: &'a str,
    amount: i64,
    currency: &'a str,
    #[serde(serialize_with = "instant")]
    granted_at: UnixMillis,
    #[serde(serialize_with = "instant")]
    pay_by: UnixMillis,
    #[serde(serialize_with = "lines")]
    lines: (&'a [Line], &'a [StopId]),
}

#[derive(Debug, Serialize)]
struct LineDocument<'a> {
    pool: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    quantity: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    passenger: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seat: Option<&'a str>,
}

impl<'a> OrderDocument<'a> {
    /// `stops` are the sale's; where they are not known, a journey's lines say only their pool.
    pub(super) fn new(order: &'a Order, status: OrderStatus, stops: &'a [StopId]) -> Self {
        Self {
            order: order.id.digits(),
            sale: order.sale.as_str(),
            status: status.as_str(),
            amount: order.price.amount,
            currency: order.price.currency.as_str(),
            granted_at: order.granted_at,
            pay_by: order.pay_by,
            lines: (&order.lines, stops),
        }
    }
}

/// As RFC 3339.
#[derive(Serialize)]
struct Instant(#[serde(serialize_with = "instant")] UnixMillis);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn instant<S: serde::Serializer>(at: &UnixMillis, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

fn lines<S: serde::Serializer>((lines, stops): &(&[Line], &[StopId]), serializer: S) -> Result<S::Ok, S::Error> {
    let stop = |index: u8| stops.get(usize::from(index)).map(StopId::as_str);
    serializer.collect_seq(lines.iter().map(|line| LineDocument {
        pool: line.pool.as_str(),
        from: stop(line.legs.from),
        to: stop(line.legs.to),
        quantity: line.quantity,
        passenger: line.passenger.as_ref().map(PassengerId::as_str),
        seat: line.seat.map(SeatPreference::as_str),
    }))
}

fn digits<S: serde::Serializer>(order: &OrderDigits, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(order.as_str())
}

/// The answer to a claim. `stops` are the sale's.
pub(super) fn claim(answer: Answer, stops: &[StopId]) -> Result<Reply, Problem> {
    match answer {
        Answer::Granted { order, status, replayed } => {
            let document = OrderDocument::new(&order, status, stops);
            let code = if replayed { StatusCode::OK } else { StatusCode::CREATED };
            let mut reply = json(code, &document);
            reply.headers_mut().insert(header::LOCATION, location(order.id));
            if replayed {
                reply.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            }
            Ok(reply)
        }
        Answer::Pending { order } => Ok(pending(order, StatusCode::ACCEPTED)),
        Answer::Refused(refusal) => Err(refused(refusal)),
        Answer::Invalid(errors) => Err(Problem::invalid(&errors)),
        Answer::Unserved(unserved) => Err(unserved_for(unserved)),
    }
}

/// The order is on its way; ask again.
pub(super) fn pending(order: OrderId, status: StatusCode) -> Reply {
    #[derive(Serialize)]
    struct Pending {
        #[serde(serialize_with = "digits")]
        order: OrderDigits,
        status: &'static str,
    }
    let mut reply = json(status, &Pending { order: order.digits(), status: "pending" });
    reply.headers_mut().insert(header::LOCATION, location(order));
    reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(PENDING_RETRY));
    reply
}

/// The problem that a refusal is.
pub(super) fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::UnknownSale => Code::UnknownSale.into(),
        Refusal::NotOpen { opens_at } => Problem::from(Code::NotOpen).with("opens_at", opens_at.map(Instant)),
        Refusal::Paused => Code::Paused.into(),
        Refusal::Closed => Code::Closed.into(),
        Refusal::SoldOut => Code::SoldOut.into(),
        Refusal::AllHeld { next_release_at } => {
            Problem::from(Code::AllHeld).with("next_release_at", next_release_at.map(Instant))
        }
        Refusal::LimitReached { orders } => {
            let orders: Vec<_> = orders.iter().map(ToString::to_string).collect();
            Problem::from(Code::LimitReached).with("orders", orders)
        }
        Refusal::KeyReused => Code::KeyReused.into(),
    }
}

/// The problem of one who was not served. The wait is drawn, so that those who were sent away together do not come back together.
pub(super) fn unserved_for(unserved: Unserved) -> Problem {
    let (code, longest) = match unserved {
        Unserved::Busy => (Code::Busy, 2),
        Unserved::Recovering => (Code::Recovering, 3),
        Unserved::Unavailable => (Code::Unavailable, 5),
    };
    Problem::from(code).retry_after(fastrand::u32(1..=longest))
}

/// An answer whose body is this value.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    let mut body = Vec::with_capacity(384);
    serde_json::to_writer(&mut body, value).expect("the documents have text keys and no failing parts");
    with_body(status, JSON, body.into())
}

/// An answer with a body of this type.
pub(super) fn with_body(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, content_type);
    reply
}

/// The answer that a problem is.
pub(super) fn problem(problem: Problem) -> Reply {
    let (retry_after, header, close) = (problem.retry_after, problem.header.clone(), problem.close);
    let mut reply = with_body(problem.code.status(), PROBLEM_JSON, problem.document());
    let headers = reply.headers_mut();
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some((name, value)) = header {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

fn location(order: OrderId) -> HeaderValue {
    let mut path = *b"/v1/orders/00000000000000000000000000000000";
    path[11..].copy_from_slice(order.digits().as_str().as_bytes());
    HeaderValue::from_bytes(&path).expect("hexadecimal digits make a path")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{Currency, Fingerprint, Invalid, Legs, Line, Money};

    fn order() -> Order {
        let line = Line {
            pool: "second".parse().unwrap(),
            legs: Legs { from: 0, to: 2 },
            quantity: 1,
            passenger: Some("p-1".parse().unwrap()),
            seat: Some(SeatPreference::Window),
        };
        Order {
            id: OrderId([0xab; 16]),
            fingerprint: Fingerprint(1),
            sale: "g1".parse().unwrap(),
            buyer: "b".parse().unwrap(),
            granted_at: UnixMillis(1_795_262_400_000),
            pay_by: UnixMillis(1_795_262_700_000),
            price: Money { amount: 55350, currency: Currency::CNY },
            lines: vec![line],
        }
    }

    async fn answered(answer: Answer) -> (StatusCode, hyper::HeaderMap, Value) {
        let stops: Vec<StopId> = ["JNK", "TNA", "SHH"].map(|stop| stop.parse().unwrap()).into();
        let reply = claim(answer, &stops).unwrap_or_else(problem);
        let (parts, body) = reply.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_grant_is_created_and_a_replay_is_the_same_body() {
        let granted = |replayed| Answer::Granted { order: Arc::new(order()), status: OrderStatus::Held, replayed };
        let (status, headers, body) = answered(granted(false)).await;
        assert_eq!(status, StatusCode::CREATED);
        assert_eq!(headers["location"], "/v1/orders/abababababababababababababababab");
        assert!(!headers.contains_key("idempotent-replayed"));
        let expected = json!({
            "order": "abababababababababababababababab", "sale": "g1", "status": "held", "amount": 55350,
            "currency": "CNY", "granted_at": "2026-11-21T12:00:00Z", "pay_by": "2026-11-21T12:05:00Z",
            "lines": [{"pool": "second", "from": "JNK", "to": "SHH", "quantity": 1, "passenger": "p-1", "seat": "window"}],
        });
        assert_eq!(body, expected);
        let (status, headers, body) = answered(granted(true)).await;
        assert_eq!((status, body), (StatusCode::OK, expected));
        assert_eq!(headers["idempotent-replayed"], "true");
    }

    #[tokio::test]
    async fn what_is_not_known_in_time_is_accepted() {
        let (status, headers, body) = answered(Answer::Pending { order: OrderId([0xab; 16]) }).await;
        assert_eq!(status, StatusCode::ACCEPTED);
        assert_eq!(headers["retry-after"], "1");
        assert_eq!(headers["location"], "/v1/orders/abababababababababababababababab");
        assert_eq!(body, json!({"order": "abababababababababababababababab", "status": "pending"}));
    }

    #[tokio::test]
    async fn every_refusal_has_the_status_and_code_of_the_contract() {
        let at = UnixMillis(1_795_262_400_000);
        let table = [
            (Refusal::UnknownSale, 404, json!({})),
            (Refusal::NotOpen { opens_at: Some(at) }, 403, json!({"opens_at": "2026-11-21T12:00:00Z"})),
            (Refusal::NotOpen { opens_at: None }, 403, json!({"opens_at": null})),
            (Refusal::Paused, 409, json!({})),
            (Refusal::Closed, 410, json!({})),
            (Refusal::SoldOut, 409, json!({})),
            (Refusal::AllHeld { next_release_at: Some(at) }, 409, json!({"next_release_at": "2026-11-21T12:00:00Z"})),
            (
                Refusal::LimitReached { orders: vec![OrderId([0; 16])] },
                409,
                json!({"orders": ["00000000000000000000000000000000"]}),
            ),
            (Refusal::KeyReused, 422, json!({})),
        ];
        for (refusal, expected, members) in table {
            let (status, headers, body) = answered(Answer::Refused(refusal.clone())).await;
            assert_eq!(status.as_u16(), expected, "{refusal:?}");
            assert_eq!(headers["content-type"], "application/problem+json");
            assert_eq!(body["code"], refusal.code());
            for (name, value) in members.as_object().unwrap() {
                assert_eq!(&body[name], value, "{refusal:?}");
            }
        }
    }

    #[tokio::test]
    async fn one_who_is_not_served_hears_when_to_come_back() {
        for unserved in [Unserved::Busy, Unserved::Recovering, Unserved::Unavailable] {
            let (status, headers, body) = answered(Answer::Unserved(unserved)).await;
            assert_eq!((status.as_u16(), body["code"].as_str()), (503, Some(unserved.code())));
            let seconds: u32 = headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=5).contains(&seconds), "{seconds}");
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_is_told_place_by_place() {
        let (status, _, body) = answered(Answer::Invalid(vec![Invalid::new("/lines/0/to", "is no stop")])).await;
        assert_eq!(status.as_u16(), 422);
        assert_eq!(body["errors"], json!([{"pointer": "/lines/0/to", "detail": "is no stop"}]));
    }
}
