//! A runtime for each core, for the connections.
//!
//! A connection stays where it is: its socket, its timers and its tasks are one thread's, so nobody steals them, no thread is woken to look
//! for work, and what the core has in its caches is of use. What all connections share (batches, the inventory, the broker, the store) runs
//! on the process's own runtime. With hyper alone, this takes up to an eighth off the CPU of an answer, by machine.
//!
//! A core gets as many connections as any other, not as much work: those of a balancer that keeps its connections busy alike are alike.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};

/// Every so many tasks, one that another thread has woken: an order that was granted. By default it is one in dozens, and while a crowd of
/// refusals keeps a core busy, it would take that long to answer a batch.
const WOKEN_INTERVAL: u32 = 2;

/// The cores' runtimes, which end when this is dropped.
#[derive(Debug, Default)]
pub struct Cores {
    runtimes: Vec<Runtime>,
    seats: Seats,
}

/// The way into them. Cheap to clone.
///
/// Without any, all is on the runtime of whoever asks: tests move its time.
#[derive(Debug, Clone, Default)]
pub struct Seats(Arc<[Arc<Core>]>);

#[derive(Debug)]
struct Core {
    handle: Handle,
    taken: AtomicUsize,
}

/// A place on a core, free again when it is dropped.
#[derive(Debug)]
pub struct Seat(Arc<Core>);

impl Cores {
    /// As many as the runtime of whoever calls has threads: one for each core that this process may use, or `TOKIO_WORKER_THREADS`.
    pub fn start() -> io::Result<Self> {
        let mut cores = Self::default();
        for number in 0..Handle::current().metrics().num_workers() {
            // Those that are there already end as they should if this one cannot begin.
            cores.runtimes.push(runtime(number)?);
        }
        cores.seats = Seats(cores.runtimes.iter().map(|runtime| Core::of(runtime.handle().clone())).collect());
        Ok(cores)
    }

    pub fn seats(&self) -> Seats {
        self.seats.clone()
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        for runtime in self.runtimes.drain(..) {
            // To wait for them is not allowed where other tasks run.
            runtime.shutdown_background();
        }
    }
}

/// One thread. Not the runtime for one thread alone: that one calls the kernel for each task that another thread wakes, and a batch wakes
/// many at once.
fn runtime(number: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(format!("core-{number}"))
        .global_queue_interval(WOKEN_INTERVAL)
        .enable_all()
        .build()
}

impl Core {
    fn of(handle: Handle) -> Arc<Self> {
        Arc::new(Self { handle, taken: AtomicUsize::new(0) })
    }
}

impl Seats {
    /// A seat on the core that has the fewest.
    pub fn take(&self) -> Seat {
        let fewest = self.0.iter().min_by_key(|core| core.taken.load(Ordering::Relaxed));
        let core = fewest.map_or_else(|| Core::of(Handle::current()), Arc::clone);
        core.taken.fetch_add(1, Ordering::Relaxed);
        Seat(core)
    }

    /// Resolves when every core has come to a new task since this was called: never, if one is stuck.
    pub async fn all_take_turns(&self) {
        let turns: Vec<_> = self.0.iter().map(|core| core.handle.spawn(async {})).collect();
        for turn in turns {
            // A runtime that is ending takes no turn, and is not stuck.
            let _taken = turn.await;
        }
    }
}

impl Seat {
    /// The runtime to run on.
    pub fn core(&self) -> &Handle {
        &self.0.handle
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn connections_are_spread_and_a_free_seat_is_taken_next() {
        let cores = Cores::start().unwrap();
        let (seats, count) = (cores.seats(), cores.runtimes.len());
        assert_eq!(count, 3, "as many as threads here");
        let id = |seat: &Seat| seat.core().id();
        let mut taken: Vec<_> = (0..2 * count).map(|_| seats.take()).collect();
        for runtime in &cores.runtimes {
            assert_eq!(taken.iter().filter(|seat| id(seat) == runtime.handle().id()).count(), 2);
        }
        let freed = id(&taken.remove(0));
        assert_eq!(id(&seats.take()), freed);
    }

    #[tokio::test]
    async fn a_core_that_is_stuck_takes_no_turn() {
        let cores = Cores::start().unwrap();
        let seats = cores.seats();
        seats.all_take_turns().await;
        let (free, stuck) = std::sync::mpsc::channel::<()>();
        seats.take().core().spawn(async move { stuck.recv().is_ok() });
        let mut turns = pin!(seats.all_take_turns());
        assert!(timeout(Duration::from_millis(50), &mut turns).await.is_err());
        free.send(()).unwrap();
        timeout(Duration::from_secs(10), turns).await.unwrap();
    }

    #[tokio::test]
    async fn who_is_woken_by_another_thread_does_not_wait_for_all_who_are_busy() {
        const WOKEN: usize = 200;
        let cores = Cores::start().unwrap();
        let seat = cores.seats().take();
        // Nothing runs there before everybody is in line.
        let (open, gate) = std::sync::mpsc::channel::<()>();
        seat.core().spawn(async move { gate.recv().is_ok() });
        let turns = Arc::new(AtomicUsize::new(0));
        for _ in 0..8 {
            let turns = Arc::clone(&turns);
            seat.core().spawn(poll_fn(move |cx| {
                turns.fetch_add(1, Ordering::Relaxed);
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            }));
        }
        let woken: Vec<_> = (0..WOKEN)
            .map(|_| {
                let turns = Arc::clone(&turns);
                seat.core().spawn(async move { turns.load(Ordering::Relaxed) })
            })
            .collect();
        open.send(()).unwrap();
        let mut last = 0;
        for woken in woken {
            last = last.max(timeout(Duration::from_secs(20), woken).await.unwrap().unwrap());
        }
        assert!(last < 4 * WOKEN, "{last} turns of the busy before {WOKEN} that were woken");
    }

    #[tokio::test]
    async fn without_cores_all_is_on_the_runtime_of_who_asks() {
        assert_eq!(Seats::default().take().core().id(), Handle::current().id());
    }
}
