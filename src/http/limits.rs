//! What of a request is read at all: bodies of a known kind, size and pace.

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use tokio::time::Instant;

use crate::http::headers::{Headers, Name};
use crate::http::problem::{Code, Problem};

/// How much of a body is read, and until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) bytes: usize,
    pub(super) deadline: Instant,
}

/// Reads a JSON body. It must say that it is one, and there must be one.
pub(super) async fn json_body<B>(headers: &Headers<'_>, body: B, limit: Limit) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() {
        return Err(Problem::malformed("a JSON body is needed"));
    }
    if !is_json(headers) {
        return Err(Problem::from(Code::UnsupportedMediaType).close());
    }
    let bytes = whole_body(body, limit).await?;
    if bytes.is_empty() { Err(Problem::malformed("a JSON body is needed")) } else { Ok(bytes) }
}

/// Reads a body of any kind. Too large is said before anything is read, where the length is known.
pub(super) async fn whole_body<B>(mut body: B, limit: Limit) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > u64::try_from(limit.bytes).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    // Mostly it came with the head, and in one piece: that needs no timer, no copy, and no room for them.
    let first = match body.frame().now_or_never() {
        Some(frame) => data(frame, limit.bytes)?,
        None => Some(Bytes::new()),
    };
    match first {
        Some(first) if !body.is_end_stream() => Box::pin(rest_of_body(body, first, limit)).await,
        first => Ok(first.unwrap_or_default()),
    }
}

async fn rest_of_body<B>(mut body: B, first: Bytes, limit: Limit) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut read = BytesMut::from(first);
    while !body.is_end_stream() {
        let Ok(frame) = tokio::time::timeout_at(limit.deadline, body.frame()).await else {
            return Err(Problem::from(Code::RequestTimeout).close());
        };
        let Some(more) = data(frame, limit.bytes - read.len())? else { break };
        read.extend_from_slice(&more);
    }
    Ok(read.freeze())
}

/// What a frame brings, at most so many bytes; `None` if there is no more.
fn data<E>(frame: Option<Result<Frame<Bytes>, E>>, room: usize) -> Result<Option<Bytes>, Problem> {
    match frame.map(|frame| frame.map(Frame::into_data)) {
        None => Ok(None),
        Some(Err(_)) => Err(Problem::malformed("the body ended early, or is not well framed").close()),
        Some(Ok(Ok(data))) if data.len() > room => Err(too_large()),
        Some(Ok(data)) => Ok(Some(data.unwrap_or_default())),
    }
}

fn too_large() -> Problem {
    Problem::from(Code::TooLarge).close()
}

fn is_json(headers: &Headers<'_>) -> bool {
    let Some(kind) = headers.only(Name::ContentType) else { return false };
    let kind = kind.as_bytes();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/json") && !headers.has_content_encoding
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use futures_util::stream;
    use http_body_util::{Full, StreamBody};
    use hyper::HeaderMap;
    use hyper::header::{self, HeaderValue};

    use super::*;

    fn limit() -> Limit {
        Limit { bytes: 8, deadline: Instant::now() + Duration::from_secs(3) }
    }

    fn headers(kind: Option<&'static str>) -> HeaderMap {
        kind.map(|kind| (header::CONTENT_TYPE, HeaderValue::from_static(kind))).into_iter().collect()
    }

    fn frames(parts: &[&'static str]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let frames: Vec<_> = parts.iter().map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))).collect();
        StreamBody::new(stream::iter(frames))
    }

    async fn json(kind: Option<&'static str>, body: &'static str) -> Result<Bytes, Code> {
        json_body(&Headers::of(&headers(kind)), Full::new(Bytes::from_static(body.as_bytes())), limit())
            .await
            .map_err(|p| p.code)
    }

    #[tokio::test]
    async fn a_body_must_be_json_by_name() {
        for kind in ["application/json", "Application/JSON; charset=utf-8", "application/json ;x"] {
            assert_eq!(json(Some(kind), "{}").await, Ok(Bytes::from_static(b"{}")), "{kind}");
        }
        for kind in [None, Some("text/plain"), Some("application/jsonp"), Some("application/x-www-form-urlencoded")] {
            assert_eq!(json(kind, "{}").await, Err(Code::UnsupportedMediaType), "{kind:?}");
        }
    }

    #[tokio::test]
    async fn no_body_is_malformed() {
        assert_eq!(json(Some("application/json"), "").await, Err(Code::Malformed));
        assert_eq!(json(None, "").await, Err(Code::Malformed));
    }

    #[tokio::test]
    async fn the_last_byte_that_fits_is_read_and_one_more_is_too_large() {
        assert_eq!(json(Some("application/json"), "12345678").await.unwrap().len(), 8);
        assert_eq!(json(Some("application/json"), "123456789").await, Err(Code::TooLarge));
        assert_eq!(whole_body(frames(&["1234", "5678"]), limit()).await.unwrap(), "12345678");
        assert_eq!(whole_body(frames(&["1234", "5678", "9"]), limit()).await.unwrap_err().code, Code::TooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_in_time_is_given_up() {
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        assert_eq!(whole_body(body, limit()).await.unwrap_err().code, Code::RequestTimeout);
    }
}
