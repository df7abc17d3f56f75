//! `POST /v1/sales/{sale}/orders`: the claim.

use hyper::StatusCode;
use hyper::body::Incoming;

use crate::confirm::{self, Answer, Request};
use crate::crash::{self, CrashPoint};
use crate::domain::BuyerId;
use crate::http::ask;
use crate::http::door::{Call, Door};
use crate::http::limits::json_body;
use crate::http::meters::Outcome;
use crate::http::problem::Problem;
use crate::http::reply::{self, Reply};

/// Answers a claim, and counts it.
pub(super) async fn claim(door: &Door, sale: &str, call: &Call<'_>, body: &mut Incoming) -> Result<Reply, Problem> {
    let answered = decide(door, sale, call, body).await;
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
    let known = || door.parts.shards.look(sale, |shard| shard.sale.id.clone());
    door.meters.count(sale, known, outcome, call.began.elapsed());
    answered
}

/// From the cheapest question to the dearest.
async fn decide(door: &Door, sale: &str, call: &Call<'_>, body: &mut Incoming) -> Result<Reply, Problem> {
    door.rates.address(*call.peer, call.headers.map, call.began)?;
    let buyer = door.buyers.buyer(call.headers, || door.parts.clock.now())?;
    let refusals = &door.parts.refusals;
    let mark = refusals.mark(sale, buyer.as_str());
    let answered = answer(door, (sale, buyer), call, body).await;
    if let Err(problem) = &answered {
        refusals.note(mark, problem.code as u8, call.began);
    }
    answered
}

/// What this buyer hears.
async fn answer(
    door: &Door,
    (sale, buyer): (&str, BuyerId),
    call: &Call<'_>,
    body: &mut Incoming,
) -> Result<Reply, Problem> {
    door.rates.buyer(&buyer, call.began)?;
    let key = ask::key(call.headers)?;
    let body = json_body(call.headers, body, door.body_limit(call)).await?;
    let body = ask::Body::parse(&body)?;
    let request = Request { sale, buyer, key, ask: body.ask(), trace: call.trace.cloned() };
    // The time that a slow body took is not taken from those who decide.
    let enter = || Some((door.claims_in_flight.try_take()?, confirm::deadline(door.live.request_timeout.get())));
    let answer = door.parts.claims.claim(request, enter).await;
    // Only an order's document tells of the sale, and to hold one costs other cores their time.
    let granted = matches!(answer, Answer::Granted { .. });
    let shard = granted.then(|| door.parts.shards.sale(sale)).flatten();
    reply::claim(answer, shard.as_ref().map_or(&[], |shard| &shard.sale.stops))
}
