//! A message on its way from a caller to an outlet.

use crate::atomic::{AtomicBool, Ordering};

/// A message, shared between the one who waits for it and the outlet. Whoever begins it first decides: the outlet sends it, or
/// the caller, whose time is up, takes it back.
#[derive(Debug)]
pub(super) struct Parcel {
    body: Vec<u8>,
    traces: Option<String>,
    begun: AtomicBool,
}

impl Parcel {
    pub(super) fn new(body: Vec<u8>, traces: Option<String>) -> Self {
        Self { body, traces, begun: AtomicBool::new(false) }
    }

    /// True for the first who asks.
    pub(super) fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn traces(&self) -> Option<&str> {
        self.traces.as_deref()
    }
}
