//! The bytes under hyper: what hyper does not do about them, and the contract wants.
//!
//! - A client that does not take its answers is given up (hyper has no limit on writing).
//! - A client that is slow in the middle of a head is refused, and soon, while one that rests between two requests may rest longer
//!   than the balancer in front lets it: whoever closes a connection that is at rest should be the one who sends on it.
//! - A request that says its length twice is told to the handler ([`Framing`]).
//! - What hyper refuses by itself, because it is no HTTP, it refuses with an empty body; here that becomes a problem like any other.
//! - A client that is still sending when it is refused would lose the refusal in a reset; so it is listened to a little longer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::config::live::Live;
use crate::http::framing::Framing;
use crate::http::problem::Code;

/// How long a connection may rest between two requests at least, and twice that at most: longer than balancers keep one by default (60 s
/// and less), so that they close it, and none sends a request into a connection that is being closed.
const REST: Duration = Duration::from_secs(75);
/// How long a client may take no byte of its answer.
const STALL: Duration = Duration::from_secs(10);
/// How long, and for how many bytes, a refused client is listened to, so that it gets to read the refusal.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// A connection's bytes.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    seen: Arc<Seen>,
    framing: Framing,
    head_timeout: Live<Duration>,
    /// Runs while a head is urgent.
    head_deadline: Option<Pin<Box<Sleep>>>,
    /// Runs from one look at whether anything has come to the next.
    rest: Pin<Box<Sleep>>,
    /// Whom it wakes.
    rest_waker: Option<Waker>,
    /// Something has come since the last look.
    came: bool,
    stalled: Option<Pin<Box<Sleep>>>,
    /// What is written in place of a refusal of hyper's own, and how much of it is.
    refusal: Vec<u8>,
    refused: usize,
}

/// What the wire and the handlers of one connection tell each other.
#[derive(Debug, Default)]
pub(super) struct Seen {
    length_twice: AtomicBool,
    unread: AtomicBool,
    heard: AtomicBool,
}

impl Seen {
    /// Has a request said its length twice? It is the one with the `Transfer-Encoding`, and the last of its connection.
    pub(super) fn length_twice(&self) -> bool {
        self.length_twice.load(Ordering::Relaxed)
    }

    /// Has anything come on this connection?
    pub(super) fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// A request is answered without being read to its end.
    pub(super) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, seen: Arc<Seen>, head_timeout: impl Into<Live<Duration>>) -> Self {
        Self {
            stream,
            seen,
            framing: Framing::default(),
            head_timeout: head_timeout.into(),
            head_deadline: None,
            rest: Box::pin(tokio::time::sleep(REST)),
            rest_waker: None,
            came: false,
            stalled: None,
            refusal: Vec::new(),
            refused: 0,
        }
    }

    /// Refuses a request whose head did not come in time; one that sent nothing is left without a word.
    pub(super) async fn refuse_slow_head(&mut self) {
        let too_slow = self.head_deadline.as_ref().is_some_and(|deadline| deadline.is_elapsed());
        if !too_slow || !self.framing.is_mid_head() {
            return;
        }
        let refusal = raw(Code::RequestTimeout);
        let sent = tokio::time::timeout(LINGER, async {
            self.stream.write_all(&refusal).await?;
            self.stream.shutdown().await
        });
        if let Ok(Ok(())) = sent.await {
            self.seen.leave_unread();
        }
    }

    /// Listens to a refused client until it has heard, or long enough.
    pub(super) async fn linger(mut self) {
        if !self.seen.unread.load(Ordering::Relaxed) {
            return;
        }
        let mut left = LINGER_BYTES;
        let mut sink = [0; 4096];
        let drained = async {
            while left > 0 {
                match self.stream.read(&mut sink).await {
                    Ok(0) | Err(_) => return,
                    Ok(read) => left = left.saturating_sub(read),
                }
            }
        };
        // Whether it has heard or the time is over: the connection ends here.
        let _ = tokio::time::timeout(LINGER, drained).await;
    }

    /// Waits for more of an urgent head, but not for ever.
    fn poll_head_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.framing.is_urgent() {
            return self.poll_rest(cx);
        }
        let timeout = self.head_timeout.get();
        let deadline = self.head_deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Waits for the next request, but not for ever; then it is as if the client had closed. A request takes no reading of the clock:
    /// the look comes every so often, and asks only whether there was one.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It wakes this task already, which is so at every turn but the first.
        if !self.rest.is_elapsed() && self.rest_waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        loop {
            // A task that has used up its turn is not even heard, and comes again.
            let is_heard = tokio::task::coop::has_budget_remaining();
            if self.rest.as_mut().poll(cx).is_pending() {
                self.rest_waker = is_heard.then(|| cx.waker().clone());
                return Poll::Pending;
            }
            if !std::mem::take(&mut self.came) {
                return Poll::Ready(Ok(()));
            }
            self.rest.as_mut().reset(Instant::now() + REST);
        }
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.refused < self.refusal.len() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.refusal[self.refused..]);
            match ready!(patient(&mut self.stalled, written, cx))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.refused += written,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if Pin::new(&mut this.stream).poll_read(cx, buf)?.is_pending() {
            return this.poll_head_deadline(cx);
        }
        this.came = true;
        this.seen.heard.store(true, Ordering::Relaxed);
        if this.framing.read(&buf.filled()[before..]) {
            this.seen.length_twice.store(true, Ordering::Relaxed);
        }
        if !this.framing.is_urgent() {
            this.head_deadline = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_refusal(cx))?;
        if let Some((answers, code)) = without_bare_refusal(buf) {
            this.refusal.clear();
            this.refusal.extend_from_slice(answers);
            this.refusal.extend_from_slice(&raw(code));
            this.refused = 0;
            this.seen.leave_unread();
            // Whatever of it cannot be written yet goes out with the flush that follows.
            return match this.poll_refusal(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(buf.len())),
            };
        }
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        patient(&mut this.stalled, written, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_refusal(cx))?;
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        patient(&mut this.stalled, flushed, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_refusal(cx))?;
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        patient(&mut this.stalled, shut, cx)
    }
}

/// A write that has to go on within [`STALL`].
fn patient<T>(
    stalled: &mut Option<Pin<Box<Sleep>>>,
    written: Poll<io::Result<T>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    if written.is_ready() {
        *stalled = None;
        return written;
    }
    let sleep = stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
    match sleep.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        Poll::Pending => Poll::Pending,
    }
}

/// What hyper wrote before a refusal of its own, and the code of that; `None` if there is none. It is the last thing that hyper
/// writes on a connection, and the only answer of this server that is a 4xx without a body.
fn without_bare_refusal(written: &[u8]) -> Option<(&[u8], Code)> {
    if !written.ends_with(b"\r\n\r\n") {
        return None;
    }
    let start = memchr::memmem::rfind(written, b"HTTP/1.1 4")?;
    let (answers, head) = written.split_at(start);
    memchr::memmem::find(head, b"\r\ncontent-length: 0\r\n")?;
    let code = match head.get(9..12)? {
        b"414" => Code::UriTooLong,
        b"431" => Code::HeadersTooLarge,
        _ => Code::Malformed,
    };
    Some((answers, code))
}

/// An answer for which there is no request.
fn raw(code: Code) -> Vec<u8> {
    let (status, document) = (code.status(), code.document());
    format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\
         x-request-id: {:016x}\r\n\r\n{document}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        document.len(),
        fastrand::u64(..),
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_refusal_is_told_from_every_other_answer() {
        let refusal = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert_eq!(without_bare_refusal(refusal), Some((&b""[..], Code::Malformed)));
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let both = [&answer[..], b"HTTP/1.1 431 x\r\ncontent-length: 0\r\n\r\n"].concat();
        assert_eq!(without_bare_refusal(&both), Some((&answer[..], Code::HeadersTooLarge)));
        assert_eq!(without_bare_refusal(answer), None);
        assert_eq!(without_bare_refusal(b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n"), None);
        assert_eq!(without_bare_refusal(b"HTTP/1.1 404 Not Found\r\ncontent-length: 90\r\n\r\n"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (ours, theirs) = tokio::io::duplex(16);
        let mut wire = Wire::new(ours, Arc::default(), STALL);
        let error = wire.write_all(&[b'x'; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_at_rest_is_closed_after_a_while_and_one_in_use_is_not() {
        let request = b"GET / HTTP/1.1\r\n\r\n";
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let mut wire = Wire::new(ours, Arc::default(), STALL);
        let mut read = [0; 64];
        // Ten times nearly as long as it may rest at least.
        for _ in 0..10 {
            theirs.write_all(request).await.unwrap();
            assert_eq!(wire.read(&mut read).await.unwrap(), request.len());
            let waiting = tokio::time::timeout(REST.mul_f64(0.9), wire.read(&mut read)).await;
            assert!(waiting.is_err(), "it rests, and stays open");
        }
        let begun = Instant::now();
        assert_eq!(wire.read(&mut read).await.unwrap(), 0, "as if the client had closed");
        assert!(begun.elapsed() <= REST * 2, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_refusal_of_hypers_own_becomes_a_problem() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let mut wire = Wire::new(ours, Arc::default(), STALL);
        wire.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        wire.shutdown().await.unwrap();
        let mut said = String::new();
        theirs.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{said}");
        assert!(said.ends_with(Code::Malformed.document()), "{said}");
    }
}
