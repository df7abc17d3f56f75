//! The trace that a request belongs to: the headers of W3C Trace Context, its span, and what its log lines say.
//!
//! Nobody is answered otherwise for it. A request without a `traceparent` pays one look at its headers.

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode, Uri};

use crate::domain::TraceContext;
use crate::http::routes::Route;
use crate::spans::{Spans, Traced};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Bytes of a path that a span tells. What has a route is shorter, unless somebody made up its names.
const MOST_PATH: usize = 256;

/// What came with a request; `None` also for what cannot be read, or came twice.
pub(super) fn context(headers: &HeaderMap) -> Option<TraceContext> {
    let parent = headers.get(TRACEPARENT)?;
    if headers.get_all(TRACEPARENT).iter().nth(1).is_some() {
        return None;
    }
    TraceContext::read(parent.as_bytes(), headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes))
}

/// Under which a request's log lines are told, whatever their level.
pub(super) fn log_span(traced: &Traced) -> tracing::Span {
    tracing::error_span!("request", trace_id = %traced.context.trace)
}

/// Tells how a request was answered. There is nothing of the buyer in it.
pub(super) fn answered(spans: &Spans, traced: Traced, (method, uri): (&Method, &Uri), status: StatusCode) {
    if !traced.is_recorded() {
        return;
    }
    let method = if is_known(method) { method.as_str() } else { "_OTHER" };
    let mut attributes = vec![
        ("http.request.method", method.into()),
        ("url.scheme", "http".into()),
        ("http.response.status_code", status.as_u16().into()),
    ];
    let mut name = if method == "_OTHER" { "HTTP" } else { method }.to_owned();
    if let Some(route) = Route::find(uri.path()) {
        name = format!("{name} {}", route.template());
        attributes.extend([("http.route", route.template().into()), ("url.path", shortened(uri.path()).into())]);
    }
    let failed = status.is_server_error().then(|| status.to_string());
    if failed.is_some() {
        attributes.push(("error.type", status.as_str().into()));
    }
    traced.answered(spans, name, attributes, failed);
}

/// Others would be as many names as a client can make up.
fn is_known(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH]
        .contains(method)
}

fn shortened(path: &str) -> &str {
    &path[..path.floor_char_boundary(MOST_PATH)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(all: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_context_comes_once_and_its_state_in_as_many_headers_as_it_likes() {
        let all = headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "a=1"), (TRACESTATE, "b=2")]);
        let context = context(&all).unwrap();
        assert_eq!((context.to_string(), context.state()), (PARENT.to_owned(), Some("a=1,b=2")));
    }

    #[test]
    fn what_came_twice_or_not_at_all_is_none() {
        assert_eq!(context(&headers(&[])), None);
        assert_eq!(context(&headers(&[(TRACESTATE, "a=1")])), None);
        assert_eq!(context(&headers(&[(TRACEPARENT, PARENT), (TRACEPARENT, PARENT)])), None);
    }
}
