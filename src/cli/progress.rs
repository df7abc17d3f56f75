//! Progress of long work: on a terminal only, so that a pipe and a log stay quiet.

use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

/// Waits for the work, and says on a terminal what is waited for and for how long.
pub(super) async fn progress<F: Future>(what: &str, work: F) -> F::Output {
    if !io::stderr().is_terminal() {
        return work.await;
    }
    let begun = Instant::now();
    let mut second = tokio::time::interval_at(begun + Duration::from_secs(1), Duration::from_secs(1));
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                // Back to the line's beginning, and nothing left on it.
                let _nobody_sees_it = write!(io::stderr(), "\r\x1b[K");
                return done;
            }
            _ = second.tick() => {
                let _nobody_sees_it = write!(io::stderr(), "\r{what} … {} s", begun.elapsed().as_secs());
            }
        }
    }
}
