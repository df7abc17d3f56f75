//! `POST /v1/sales/{sale}/orders`: the claim.

use hyper::body::Incoming;
use hyper::header::HeaderName;
use hyper::{HeaderMap, StatusCode};

use crate::confirm::{self, Request};
use crate::crash::{self, CrashPoint};
use crate::domain::BuyerId;
use crate::http::ask;
use crate::http::door::{Call, Door};
use crate::http::limits::json_body;
use crate::http::meters::Outcome;
use crate::http::problem::Problem;
use crate::http::reply::{self, Reply};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Answers a claim, and counts it.
pub(super) async fn claim(
    door: &Door,
    sale: &str,
    (headers, body): (&HeaderMap, Incoming),
    call: Call<'_>,
) -> Result<Reply, Problem> {
    let answered = decide(door, sale, (headers, body), call).await;
    let outcome = match &answered {
        Ok(reply) => match reply.status() {
            StatusCode::CREATED => Outcome::Held,
            StatusCode::OK => Outcome::Replayed,
            _ => Outcome::Pending,
        },
        Err(problem) => Outcome::Problem(problem.code),
    };
    if outcome == Outcome::Held {
        crash::after(CrashPoint::AnswerWritten);
    }
    let took = call.began.elapsed();
    let known = door.parts.shards.look(sale, |shard| door.meters.count(Some(&shard.sale.id), outcome, took));
    if known.is_none() {
        door.meters.count(None, outcome, took);
    }
    answered
}

/// From the cheapest question to the dearest.
async fn decide(
    door: &Door,
    sale: &str,
    (headers, body): (&HeaderMap, Incoming),
    call: Call<'_>,
) -> Result<Reply, Problem> {
    door.rates.address(call.peer, headers, call.began)?;
    let buyer = door.buyers.buyer(headers, door.parts.clock.now())?;
    let refusals = &door.parts.refusals;
    let mark = refusals.mark(sale, buyer.as_str());
    let answered = answer(door, (sale, buyer), (headers, body), call).await;
    if let Err(problem) = &answered {
        refusals.note(mark, problem.code as u8, call.began);
    }
    answered
}

/// What this buyer hears.
async fn answer(
    door: &Door,
    (sale, buyer): (&str, BuyerId),
    (headers, body): (&HeaderMap, Incoming),
    call: Call<'_>,
) -> Result<Reply, Problem> {
    door.rates.buyer(&buyer, call.began)?;
    let key = ask::key(headers.get_all(KEY))?;
    let body = json_body(headers, body, door.body_limit(call)).await?;
    let body = ask::Body::parse(&body)?;
    let request = Request { sale, buyer, key, ask: body.ask(), trace: call.trace.cloned() };
    // The time that a slow body took is not taken from those who decide.
    let enter = || Some((door.claims_in_flight.try_take()?, confirm::deadline(door.live.request_timeout.get())));
    let answer = door.parts.claims.claim(request, enter).await;
    let shard = door.parts.shards.sale(sale);
    reply::claim(answer, shard.as_ref().map_or(&[], |shard| &shard.sale.stops))
}
