//! `/livez`: the process runs. `/readyz`: it is fit for traffic. Both are answered from memory.

use hyper::StatusCode;
use hyper::header::HeaderValue;

use crate::http::door::Door;
use crate::http::reply::{Reply, with_body};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(super) fn live() -> Reply {
    with_body(StatusCode::OK, TEXT, "ok\n".into())
}

/// `?verbose` lists each check; a process that is not ready lists them in any case.
pub(super) fn ready(door: &Door, query: Option<&str>) -> Reply {
    let draining = door.shutdown.has_begun();
    let ready = !draining && door.parts.readiness.is_ready();
    let verbose = query
        .is_some_and(|query| query.split('&').any(|part| matches!(part, "verbose" | "verbose=true" | "verbose=1")));
    let body = if ready && !verbose { "ok\n".to_owned() } else { door.parts.readiness.list(draining) };
    with_body(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, TEXT, body.into())
}
