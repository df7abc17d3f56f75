//! What runs tasks. [`Shutdown`](crate::shutdown::Shutdown) takes it from here so that `tests/interleavings` can put a scheduler of its own
//! in its place; everybody else calls `Shutdown::spawn`.

pub use tokio::task::JoinHandle;

/// Runs a task beside the caller.
#[expect(clippy::disallowed_methods, reason = "the one place, which `Shutdown` alone calls")]
pub fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(task)
}
