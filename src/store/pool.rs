//! Connections for the operations that share them.
//!
//! A connection comes back only when its work said that it is done ([`Lease::release`]). Work that failed, was late, or was
//! dropped half-way takes its connection along, and the server rolls back what it left open. That is why this is not sqlx's
//! pool: there a cancelled `BEGIN` leaves a transaction open on a connection that the next borrower gets, a connection to a
//! frozen server is never given up, and an unreachable server is only told as "timed out". Here an acquire is one plain
//! connect, so its error names the cause.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::Connection;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::failure::{Failure, within};

/// A connection that rested longer is not used again. Less than the silence after which a MySQL server hangs up
/// (`mysql::SILENCE`).
pub(super) const MAX_REST: Duration = Duration::from_secs(5);
/// A connection that rested longer is asked whether it still lives.
const TRUSTED_REST: Duration = Duration::from_secs(1);
/// How often work that lost a race on the server is begun, at most.
pub(super) const MAX_TRIES: u32 = 5;

/// Runs work on a leased connection and gives the connection back; again, if the server let another transaction win.
///
/// `run!(pool, conn => work(&mut conn))`, where the work is made anew for each try. Bounded by the pool's limit, or by one
/// that is given: `run!(pool, limit, conn => …)`.
macro_rules! run {
    ($pool:expr, $conn:ident => $work:expr) => {
        run!($pool, $pool.limit(), $conn => $work)
    };
    ($pool:expr, $limit:expr, $conn:ident => $work:expr) => {{
        let mut tries = 0;
        loop {
            tries += 1;
            let mut $conn = $pool.lease().await?;
            match $crate::store::failure::within($limit, $work).await {
                Ok(value) => break Ok::<_, $crate::store::Fault>($conn.release(value)),
                Err(failure) if failure.is_lost_race() && tries < $crate::store::pool::MAX_TRIES => {}
                Err(failure) => {
                    $pool.note(&failure);
                    break Err(failure.into());
                }
            }
        }
    }};
}
pub(super) use run;

type Connect<C> = Box<dyn Fn() -> BoxFuture<'static, Result<C, sqlx::Error>> + Send + Sync>;

/// A few connections of one kind, opened when they are needed.
pub(super) struct Pool<C> {
    connect: Connect<C>,
    resting: Mutex<Vec<(C, Instant)>>,
    permits: Semaphore,
    limit: Duration,
}

impl<C: Connection> Pool<C> {
    /// At most `size` connections; each wait for one, and each work on one, takes at most `limit`.
    pub(super) fn new(size: usize, limit: Duration, connect: Connect<C>) -> Self {
        Self { connect, resting: Mutex::default(), permits: Semaphore::new(size), limit }
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// A connection that is not counted and does not come back.
    pub(super) async fn connect(&self) -> Result<C, Failure> {
        within(self.limit, (self.connect)()).await
    }

    pub(super) async fn lease(&self) -> Result<Lease<'_, C>, Failure> {
        let Ok(Ok(permit)) = tokio::time::timeout(self.limit, self.permits.acquire()).await else {
            return Err(Failure::Broken(format!("no connection came free within {:?}", self.limit)));
        };
        let conn = match self.rested().await {
            Some(conn) => conn,
            None => self.connect().await?,
        };
        Ok(Lease { conn: Some(conn), pool: self, _permit: permit })
    }

    /// After a connection was lost, those that rest were probably lost with it: they are not tried one after the other.
    pub(super) fn note(&self, failure: &Failure) {
        if failure.is_lost_connection() {
            self.resting().clear();
        }
    }

    async fn rested(&self) -> Option<C> {
        loop {
            let (mut conn, since) = self.resting().pop()?;
            let rest = since.elapsed();
            if rest <= TRUSTED_REST || (rest <= MAX_REST && within(TRUSTED_REST, conn.ping()).await.is_ok()) {
                return Some(conn);
            }
        }
    }

    fn resting(&self) -> std::sync::MutexGuard<'_, Vec<(C, Instant)>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("free", &self.permits.available_permits()).finish_non_exhaustive()
    }
}

/// A connection in use. Dropped without [`Lease::release`], it is closed.
pub(super) struct Lease<'p, C: Connection> {
    conn: Option<C>,
    pool: &'p Pool<C>,
    _permit: SemaphorePermit<'p>,
}

impl<C: Connection> Lease<'_, C> {
    /// The work is done and has left nothing open: gives the connection back, and the work's value on.
    pub(super) fn release<T>(mut self, value: T) -> T {
        if let Some(conn) = self.conn.take() {
            self.pool.resting().push((conn, Instant::now()));
        }
        value
    }
}

impl<C: Connection> Deref for Lease<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        self.conn.as_ref().expect("a lease has its connection until it is released")
    }
}

impl<C: Connection> DerefMut for Lease<'_, C> {
    fn deref_mut(&mut self) -> &mut C {
        self.conn.as_mut().expect("a lease has its connection until it is released")
    }
}
