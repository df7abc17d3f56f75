//! What happened in a run, in its order. Nothing is written down unless the run is to be compared or shown.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// The events of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    begun: Instant,
    lines: Option<Mutex<Vec<String>>>,
}

impl Trace {
    pub(crate) fn new(recording: bool) -> Self {
        Self { begun: Instant::now(), lines: recording.then(Mutex::default) }
    }

    /// Notes an event; what it is called is only asked for when somebody wants to know.
    pub(crate) fn note(&self, event: impl FnOnce() -> String) {
        if let Some(lines) = &self.lines {
            let line = format!("{:8.3} {}", self.begun.elapsed().as_secs_f64(), event());
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }

    /// All events so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.lines.as_ref().map(|lines| lines.lock().unwrap_or_else(PoisonError::into_inner).clone());
        lines.unwrap_or_default()
    }
}
