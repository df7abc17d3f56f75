//! What every request passes, whatever it asks for: its id, its framing, its place among those in flight, its log line.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::Method;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts as Head;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::Instrument;

use crate::admission::SaleShard;
use crate::config::live;
use crate::confirm::Unserved;
use crate::domain::{SaleId, TraceContext};
use crate::http::buyer::Buyers;
use crate::http::headers::{Headers, Name};
use crate::http::limits::Limit;
use crate::http::meters::ClaimMeters;
use crate::http::places::Places;
use crate::http::problem::{Code, Problem};
use crate::http::rate::Rates;
use crate::http::reply::{self, Reply};
use crate::http::wire::Seen;
use crate::http::{Parts, routes, trace};
use crate::shutdown::Shutdown;
use crate::spans::Traced;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID: usize = 128;
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// All that requests are answered with.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) parts: Parts,
    pub(super) live: live::Http,
    pub(super) buyers: Buyers,
    pub(super) rates: Rates,
    pub(super) meters: ClaimMeters,
    /// Connections that may be open at one time.
    pub(super) connections: Arc<Places>,
    /// Claims that may be decided at one time: fewer than there are connections, so that a crowd of them leaves room for those
    /// who pay, cancel or look.
    pub(super) claims_in_flight: Places,
    /// Calls of the store and the inventory on behalf of orders.
    orders_in_flight: Arc<Places>,
    pub(super) shutdown: Shutdown,
    /// The process's runtime, where all that connections share is: what a core opened would depend on that one thread.
    process: Handle,
}

/// A request beside its body, and where and when it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) head: &'a Head,
    pub(super) headers: &'a Headers<'a>,
    /// A reference, for the future of a request has no room to spare.
    pub(super) peer: &'a IpAddr,
    pub(super) began: Instant,
    pub(super) trace: Option<&'a Arc<TraceContext>>,
    /// It says twice how long its body is.
    pub(super) length_twice: bool,
}

impl Door {
    /// On the process's runtime.
    pub(super) fn new(parts: Parts, live: live::Http, (buyers, rates): (Buyers, Rates), shutdown: Shutdown) -> Self {
        let connections = &live.max_connections;
        Self {
            meters: ClaimMeters::new(&parts.meters),
            connections: Arc::new(Places::new(connections.clone(), |most| most)),
            claims_in_flight: Places::new(connections.clone(), |most| most - most / 4),
            orders_in_flight: Arc::new(Places::new(connections.clone(), |most| (most / 4).max(1))),
            parts,
            live,
            buyers,
            rates,
            shutdown,
            process: Handle::current(),
        }
    }

    /// Answers one request. There is always an answer.
    pub(super) async fn answer(&self, (head, body): (&Head, &mut Incoming), peer: &IpAddr, seen: &Seen) -> Reply {
        let headers = &Headers::of(&head.headers);
        let encoded = headers.has_transfer_encoding;
        let length_twice = encoded && seen.length_twice();
        let call = Call { head, headers, peer, began: Instant::now(), trace: None, length_twice };
        let is_api = || head.uri.path().starts_with("/v1/");
        let mut reply = if let Some(traced) = self.parts.spans.enter(trace::context(&head.headers), is_api) {
            // On the heap, as all that few requests need: every one has room for what its future may ever hold.
            Box::pin(self.answer_traced(traced, call, body)).await
        } else {
            told(&call, routes::answer(self, &call, body).await)
        };
        let status = reply.status();
        let replied = reply.headers_mut();
        // A chunked request may hide where it ends, and a draining node wants to be left. Where there may be fewer connections than there
        // are, they must end somehow, or nobody new comes in: those of a balancer never do by themselves.
        if encoded || self.shutdown.has_begun() || self.connections.are_too_many() {
            replied.insert(header::CONNECTION, CLOSE);
        }
        if matches!(head.method, Method::GET | Method::HEAD) && !replied.contains_key(header::CACHE_CONTROL) {
            replied.insert(header::CACHE_CONTROL, NO_STORE);
        }
        if status.is_client_error() {
            seen.leave_unread();
        }
        reply
    }

    /// The same for a request that belongs to a trace.
    async fn answer_traced(&self, traced: Traced, call: Call<'_>, body: &mut Incoming) -> Reply {
        let span = trace::log_span(&traced);
        let with_trace = Call { trace: Some(&traced.context), ..call };
        let answered = routes::answer(self, &with_trace, body).instrument(span.clone()).await;
        let reply = span.in_scope(|| told(&call, answered));
        trace::answered(&self.parts.spans, traced, (&call.head.method, &call.head.uri), reply.status());
        reply
    }

    /// How much of a body is read, and until when.
    pub(super) fn body_limit(&self, call: &Call<'_>) -> Limit {
        Limit { bytes: self.live.max_body.get(), deadline: self.deadline(call) }
    }

    /// When a request that came so must be answered.
    pub(super) fn deadline(&self, call: &Call<'_>) -> Instant {
        call.began + self.live.request_timeout.get()
    }

    /// Waits for a backend until the deadline. The call itself goes on to its end: it is neither the client's to cancel by
    /// leaving, nor safe to drop in the middle.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        let Some(place) = self.orders_in_flight.try_take_owned() else {
            return Err(reply::unserved_for(Unserved::Busy));
        };
        let work = async move {
            let _place = place;
            work.await
        };
        let task = {
            let _there = self.process.enter();
            self.shutdown.spawn(work.in_current_span())
        };
        match tokio::time::timeout_at(deadline, task).await {
            Ok(Ok(Some(result))) => Ok(result),
            _ => Err(unknown()),
        }
    }

    /// A sale that this node knows.
    pub(super) fn sale(&self, id: &SaleId) -> Option<Arc<SaleShard>> {
        self.parts.shards.sale(id.as_str())
    }
}

/// What a request is answered with, by its id, and its line in the log.
fn told(call: &Call<'_>, answered: Result<Reply, Problem>) -> Reply {
    let mut reply = answered.unwrap_or_else(reply::problem);
    let (method, status, id) = (&call.head.method, reply.status().as_u16(), request_id(call.headers));
    tracing::debug!(%method, path = call.head.uri.path(), status, ?id, took = ?call.began.elapsed(), "answered");
    reply.headers_mut().insert(REQUEST_ID, id);
    reply
}

/// A backend did not say in time what came of it.
pub(super) fn unknown() -> Problem {
    Problem::from(Code::Unavailable)
        .detail("It is not known in time what came of it. Asking again is safe: nothing is done twice.")
        .retry_after(fastrand::u32(1..=3))
}

/// The id that came with the request if it is fit to be logged and sent back, or a new one.
fn request_id(headers: &Headers<'_>) -> HeaderValue {
    let sane =
        |id: &&HeaderValue| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    headers.first(Name::RequestId).filter(sane).cloned().unwrap_or_else(|| {
        let mut digits = [0; 16];
        hex::encode_to_slice(fastrand::u64(..).to_be_bytes(), &mut digits).expect("8 bytes have 16 digits");
        HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&digits))
            .expect("hexadecimal digits are a header's value")
    })
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    #[test]
    fn a_sane_request_id_is_kept_and_another_replaced() {
        let with = |id: &str| {
            let map = [(REQUEST_ID, HeaderValue::from_str(id).unwrap())].into_iter().collect();
            request_id(&Headers::of(&map))
        };
        assert_eq!(with("req-1"), "req-1");
        for odd in [String::new(), "a b".to_owned(), "x".repeat(129)] {
            assert_eq!(with(&odd).len(), 16, "{odd}");
        }
        assert_ne!(request_id(&Headers::of(&HeaderMap::new())), request_id(&Headers::of(&HeaderMap::new())));
    }
}
