//! The store in one file: for one process, and still a real database.
//!
//! SQLite has one writer at a time, so there is one connection that writes, and everyone waits their turn for it; readers have
//! their own and never wait (WAL). The store's clock is the one that is given. Commits are flushed to disk: the process may be
//! killed, and the machine may lose its power.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::domain::{OrderSecret, UnixMillis};
use crate::store::failure::Failure;
use crate::store::pool::{Pool, run};
use crate::store::rows;
use crate::store::schema::{self, AppliedColumns};
use crate::store::{Deployment, Fault, Recorder, Schema, Store};

mod changes;
mod dead_letters;
pub mod doctor;
mod late;
mod orders;
mod partitions;
mod recorder;
mod repairs;
mod sales;
mod stale;

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// Rows in one statement, at most; SQLite takes 32,766 parameters.
const CHUNK: usize = 1000;
/// How many reads may run at once.
const READERS: usize = 4;
/// How long one operation may take, its wait for the writing connection included.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a walk over all orders of a sale may take: a million are read in a few seconds.
const LONG_LIMIT: Duration = Duration::from_secs(120);
/// How long to wait for another process that writes to the same file.
const BUSY: Duration = Duration::from_secs(5);
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// A store in an SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    writer: Pool<SqliteConnection>,
    readers: Pool<SqliteConnection>,
    clock: Arc<dyn Clock>,
}

/// See [`SqliteStore::lock`]. The system lets go of it when the process ends, however that happens.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "it is held, not used")] File);

/// The file of a URL, in a folder that is there.
fn file(url: &str) -> Result<(SqliteConnectOptions, PathBuf), Fault> {
    let options = SqliteConnectOptions::from_str(url).map_err(|error| Fault(format!("{url}: {error}")))?;
    let path = options.get_filename().to_owned();
    if path.as_os_str().is_empty() || url.contains(":memory:") || url.contains("mode=memory") {
        return Err(Fault(format!("{url}: must name a file; orders are not kept in memory alone")));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| Fault(format!("{}: {error}", folder.display())))?;
    }
    Ok((options, path))
}

impl SqliteStore {
    /// A store in the file of a URL such as `sqlite://rushgate.db`. Makes the folder, and the file when it is first needed.
    pub fn open(url: &str, clock: Arc<dyn Clock>) -> Result<Self, Fault> {
        let (options, path) = file(url)?;
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .disable_statement_logging();
        let reading = options.clone().pragma("query_only", "ON");
        Ok(Self::over(path, &options, &reading, clock))
    }

    fn over(
        path: PathBuf,
        writing: &SqliteConnectOptions,
        reading: &SqliteConnectOptions,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let pool = |size, options: &SqliteConnectOptions| {
            let options = options.clone();
            let connect = move || -> futures_util::future::BoxFuture<'static, _> {
                let options = options.clone();
                Box::pin(async move { connect(&options).await })
            };
            Pool::new(size, LIMIT, Box::new(connect))
        };
        Self(Arc::new(Inner { path, writer: pool(1, writing), readers: pool(READERS, reading), clock }))
    }

    /// Keeps other processes from serving from this file, as long as the lock lives: each has an inventory of its own, and would
    /// take the other's epoch for broken.
    pub fn lock(url: &str) -> Result<Lock, Fault> {
        let (_, path) = file(url)?;
        let mut beside = path.clone().into_os_string();
        beside.push(".lock");
        let lock = File::create(&beside).map_err(|error| Fault(format!("{}: {error}", beside.display())))?;
        match lock.try_lock() {
            Ok(()) => Ok(Lock(lock)),
            Err(TryLockError::WouldBlock) => {
                Err(Fault(format!("{}: another process serves from this file", path.display())))
            }
            Err(TryLockError::Error(error)) => Err(Fault(format!("{}: {error}", beside.display()))),
        }
    }

    fn writer(&self) -> &Pool<SqliteConnection> {
        &self.0.writer
    }

    fn readers(&self) -> &Pool<SqliteConnection> {
        &self.0.readers
    }

    fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }
}

/// Opens a connection. The first one turns the file to WAL, for which it needs the file alone, and for that SQLite does not wait by
/// itself as it does for everything else.
async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let begun = Instant::now();
    loop {
        match options.connect().await {
            Err(error) if is_busy(&error) && begun.elapsed() < BUSY => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// `SQLITE_BUSY`, which is 5 in the lowest byte; the others tell where it was met.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}

#[async_trait]
impl Store for SqliteStore {
    async fn schema(&self) -> Result<Schema, Fault> {
        if !self.0.path.exists() {
            return Ok(Schema::Behind { missing: MIGRATOR.iter().count() });
        }
        let rows = run!(self.readers(), conn => applied(&mut conn))?;
        Ok(schema::compare(&MIGRATOR, &rows)?)
    }

    async fn migrate(&self) -> Result<Vec<String>, Fault> {
        run!(self.writer(), LONG_LIMIT, conn => migrate(&mut conn))
    }

    async fn deployment(&self, fresh: Deployment) -> Result<Deployment, Fault> {
        run!(self.writer(), conn => deployment(&mut conn, &fresh))
    }

    async fn lanes(&self) -> Result<u16, Fault> {
        run!(self.writer(), conn => lanes(&mut conn))
    }

    async fn recorder(&self) -> Result<Box<dyn Recorder>, Fault> {
        Ok(Box::new(recorder::SqliteRecorder::new(self.clone())))
    }

    async fn now(&self) -> Result<UnixMillis, Fault> {
        Ok(self.clock().now())
    }
}

async fn applied(conn: &mut SqliteConnection) -> Result<Vec<AppliedColumns>, Failure> {
    let tables = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
    if sqlx::query_scalar::<_, i64>(tables).fetch_one(&mut *conn).await? == 0 {
        return Ok(Vec::new());
    }
    let rows = "SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version";
    Ok(sqlx::query_as(rows).fetch_all(conn).await?)
}

/// All that is missing, in one transaction: of two processes one waits, and then finds nothing to do.
async fn migrate(conn: &mut SqliteConnection) -> Result<Vec<String>, Failure> {
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    let before = applied(&mut tx).await?;
    MIGRATOR.run_direct(None, &mut *tx, false).await?;
    tx.commit().await?;
    Ok(schema::missing(&MIGRATOR, &before).into_iter().map(schema::name).collect())
}

async fn deployment(conn: &mut SqliteConnection, fresh: &Deployment) -> Result<Deployment, Failure> {
    sqlx::query("INSERT INTO deployment (id, order_secret, partitions) VALUES (1, ?, ?) ON CONFLICT DO NOTHING")
        .bind(fresh.secret.as_bytes().to_vec())
        .bind(fresh.partitions)
        .execute(&mut *conn)
        .await?;
    sqlx::query("UPDATE deployment SET lanes = MAX(lanes, ?)").bind(fresh.lanes).execute(&mut *conn).await?;
    let columns = "SELECT order_secret, partitions FROM deployment WHERE id = 1";
    let (secret, partitions): (Vec<u8>, i64) = sqlx::query_as(columns).fetch_one(&mut *conn).await?;
    let secret = secret.try_into().map_err(|_| Failure::Broken("the order secret has not 32 bytes".to_owned()))?;
    let partitions = rows::unsigned("deployment.partitions", partitions)?;
    let lanes = lanes(conn).await?;
    Ok(Deployment { secret: OrderSecret::new(secret), partitions, lanes })
}

async fn lanes(conn: &mut SqliteConnection) -> Result<u16, Failure> {
    let lanes = sqlx::query_scalar("SELECT lanes FROM deployment").fetch_optional(conn).await?;
    rows::unsigned("deployment.lanes", lanes.unwrap_or_default())
}
