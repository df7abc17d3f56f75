//! The store on MySQL 8 and later, and MariaDB 10.11 and later.
//!
//! The clock is the server's, so that all processes agree on who was late. Isolation is READ COMMITTED: every decision is a
//! locked read or a conditional update, and there are no gap locks to run into but for those of a key that is there twice. Transactions
//! lock in one order, orders and then the guard, so that deadlocks are rare; one that happens is tried again where that is safe. The statements keep to
//! what MySQL and MariaDB have in common (see `migrations/README.md`).

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::Migrator;
use sqlx::mysql::{MySql, MySqlConnectOptions, MySqlConnection, MySqlQueryResult};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Transaction};

use crate::config::settings;
use crate::domain::{OrderSecret, UnixMillis};
use crate::store::failure::Failure;
use crate::store::pool::{Pool, run};
use crate::store::rows::{self, signed};
use crate::store::schema::{self, AppliedColumns};
use crate::store::{Deployment, Fault, Recorder, Schema, Store};

mod changes;
mod dead_letters;
pub mod doctor;
mod guard;
mod late;
mod orders;
mod partitions;
mod payments;
mod recorder;
mod repairs;
mod sales;
mod stale;

static MIGRATOR: Migrator = sqlx::migrate!("migrations/mysql");

/// Ids in one statement, at most.
const CHUNK: usize = 1024;
/// Rows in one INSERT, at most. A MySQL with a binary log writes the values into the statement's text one by one, and moves the rest
/// of the text each time: measured on MySQL 9.7, a row cost 185 µs in an INSERT of 256 and 25 µs in one of 64.
const INSERT_CHUNK: usize = 64;
/// Statements that stay prepared on a connection: more than there are. One that goes is closed, of which the server says nothing; and
/// since the driver leaves Nagle's algorithm on (sqlx#4335), what is sent next waits for a delayed acknowledgement, 40 ms long and perhaps
/// with rows locked. For the same reason no statement here is of one use only.
const STATEMENTS: usize = 256;
/// Connections of one process, its recorders not counted.
const CONNECTIONS: usize = 8;
/// How long a walk over all orders of a sale may take, and how long one migration waits for another.
const LONG_LIMIT: Duration = Duration::from_secs(600);
/// How long a migration may take. One that copies a large table goes on in the server when its client gives up, and nobody notes then that
/// it was done.
const MIGRATION_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// After how long of silence the server drops a connection, and with it the locks of a process that is frozen in the middle of
/// a transaction: until then nobody can pay these orders, and a recovery may wait for them. More than [`crate::store::pool`] lets a
/// connection rest.
const SILENCE: Duration = Duration::from_secs(10);

/// A store on a MySQL server, and a replica of it for searches if there is one.
#[derive(Debug)]
pub struct MySqlStore {
    primary: Arc<Pool<MySqlConnection>>,
    replica: Option<Pool<MySqlConnection>>,
    clock: ServerClock,
}

/// The server's clock, and how far it is moved.
#[derive(Debug, Clone)]
struct ServerClock(Arc<AtomicI64>);

impl MySqlStore {
    /// A store at the URLs of the settings. Connects when it is first asked for something, so it can be made while the server is
    /// down. `clock_offset` is added to the server's clock, in milliseconds: zero, unless a test moves it.
    pub fn connect(settings: &settings::Store, clock_offset: Arc<AtomicI64>) -> Result<Self, Fault> {
        let replica = match settings.read_url.as_str() {
            "" => None,
            url => Some(pool(url, settings.timeout)?),
        };
        let primary = Arc::new(pool(settings.url.as_str(), settings.timeout)?);
        Ok(Self { primary, replica, clock: ServerClock(clock_offset) })
    }

    /// Where orders are searched; what is decided or proved is read from the primary.
    fn searches(&self) -> &Pool<MySqlConnection> {
        self.replica.as_ref().unwrap_or(&self.primary)
    }
}

impl ServerClock {
    /// Its time at this statement. Asked for after the locks are there: what waited long for a lock may be late by then.
    async fn now(&self, conn: &mut MySqlConnection) -> Result<UnixMillis, Failure> {
        let now: i64 =
            sqlx::query_scalar("SELECT CAST(FLOOR(UNIX_TIMESTAMP(NOW(6)) * 1000) AS SIGNED)").fetch_one(conn).await?;
        Ok(UnixMillis(now + self.0.load(Ordering::SeqCst)))
    }
}

/// Connections that are as this store needs them, whatever the server's defaults are: strict, or a text that is too long would be
/// cut in silence; and with waits for locks, of rows and of tables, that end before the caller's limit does: who waits for a lock is not
/// gone for the server when its client is.
fn pool(url: &str, limit: Duration) -> Result<Pool<MySqlConnection>, Fault> {
    let options = MySqlConnectOptions::from_str(url)
        // The error does not repeat the URL, which may hold a password.
        .map_err(|error| Fault(format!("the URL is no mysql://user@host:port/database: {error}")))?
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging();
    let lock_wait = (limit.as_secs() / 2).max(1);
    let silence = SILENCE.as_secs();
    let session = format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', innodb_lock_wait_timeout = {lock_wait}, \
         lock_wait_timeout = {lock_wait}, wait_timeout = {silence}"
    );
    let connect = move || -> futures_util::future::BoxFuture<'static, _> {
        let (options, session) = (options.clone(), session.clone());
        Box::pin(async move {
            let mut conn = options.connect().await?;
            conn.execute(AssertSqlSafe(session)).await?;
            Ok(conn)
        })
    };
    Ok(Pool::new(CONNECTIONS, limit, Box::new(connect)))
}

/// Cuts rows into portions whose sizes are powers of two. A statement for many rows is prepared once per size and connection:
/// the server describes every parameter of a new statement in a packet of its own, which takes longer than to insert the rows.
fn portions<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = 1 << rows.len().min(INSERT_CHUNK).checked_ilog2()?;
        let (portion, rest) = rows.split_at(size);
        rows = rest;
        Some(portion)
    })
}

/// Fills up a list with its last item until its size is a power of two, for the same reason; in `IN (…)` it does not matter.
fn padded<T: Copy>(items: &[T]) -> impl Iterator<Item = T> {
    let last = items.last().copied();
    let fill = items.len().next_power_of_two() - items.len();
    items.iter().copied().chain(last.into_iter().cycle().take(fill))
}

/// A transaction that reads everything as it was at its beginning.
async fn consistent(conn: &mut MySqlConnection) -> Result<Transaction<'_, MySql>, Failure> {
    conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    Ok(conn.begin_with("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?)
}

/// Did the row go in, or was its key there already? (The number of affected rows does not tell: the driver has MySQL count the
/// rows that match.)
fn inserted(result: Result<MySqlQueryResult, sqlx::Error>) -> Result<bool, Failure> {
    match result.map_err(Failure::from) {
        Ok(_) => Ok(true),
        Err(failure) if failure.is_duplicate() => Ok(false),
        Err(failure) => Err(failure),
    }
}

#[async_trait]
impl Store for MySqlStore {
    async fn schema(&self) -> Result<Schema, Fault> {
        let rows = run!(self.primary, conn => applied(&mut conn))?;
        Ok(schema::compare(&MIGRATOR, &rows)?)
    }

    async fn migrate(&self) -> Result<Vec<String>, Fault> {
        run!(self.primary, MIGRATION_LIMIT, conn => migrate(&mut conn))
    }

    async fn deployment(&self, fresh: Deployment) -> Result<Deployment, Fault> {
        run!(self.primary, conn => deployment(&mut conn, &fresh))
    }

    async fn lanes(&self) -> Result<u16, Fault> {
        run!(self.primary, conn => lanes(&mut conn))
    }

    async fn recorder(&self) -> Result<Box<dyn Recorder>, Fault> {
        Ok(Box::new(recorder::MySqlRecorder::new(Arc::clone(&self.primary), self.clock.clone()).await?))
    }

    async fn now(&self) -> Result<UnixMillis, Fault> {
        run!(self.primary, conn => self.clock.now(&mut conn))
    }
}

async fn applied(conn: &mut MySqlConnection) -> Result<Vec<AppliedColumns>, Failure> {
    let tables = "SELECT COUNT(*) FROM information_schema.tables \
                  WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations'";
    if sqlx::query_scalar::<_, i64>(tables).fetch_one(&mut *conn).await? == 0 {
        return Ok(Vec::new());
    }
    let rows = "SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version";
    Ok(sqlx::query_as(rows).fetch_all(conn).await?)
}

/// Under a lock of the server: of two processes one waits, and then finds nothing to do. The migrator's own lock is none on
/// MariaDB, which does not wait for ever when it is asked to wait for minus one second, and the migrator does not look.
async fn migrate(conn: &mut MySqlConnection) -> Result<Vec<String>, Failure> {
    let lock = "SELECT GET_LOCK(SHA2(CONCAT('rushgate migrate ', DATABASE()), 224), ?)";
    let locked: Option<i64> = sqlx::query_scalar(lock).bind(LONG_LIMIT.as_secs()).fetch_one(&mut *conn).await?;
    if locked != Some(1) {
        return Err(Failure::Broken("another process does not finish its migration".to_owned()));
    }
    let before = applied(conn).await?;
    // A table is seldom free of others; a migration waits for its turn.
    let brief: i64 =
        sqlx::query_scalar("SELECT CAST(@@SESSION.lock_wait_timeout AS SIGNED)").fetch_one(&mut *conn).await?;
    wait_for_tables(conn, signed(LONG_LIMIT.as_secs())).await?;
    MIGRATOR.run_direct(None, conn, false).await?;
    wait_for_tables(conn, brief).await?;
    conn.execute("DO RELEASE_LOCK(SHA2(CONCAT('rushgate migrate ', DATABASE()), 224))").await?;
    Ok(schema::missing(&MIGRATOR, &before).into_iter().map(schema::name).collect())
}

async fn wait_for_tables(conn: &mut MySqlConnection, seconds: i64) -> Result<(), Failure> {
    conn.execute(AssertSqlSafe(format!("SET SESSION lock_wait_timeout = {seconds}"))).await?;
    Ok(())
}

async fn deployment(conn: &mut MySqlConnection, fresh: &Deployment) -> Result<Deployment, Failure> {
    // Of several at once the first row stays; the others change nothing.
    sqlx::query(
        "INSERT INTO deployment (id, order_secret, partitions) VALUES (1, ?, ?) ON DUPLICATE KEY UPDATE id = id",
    )
    .bind(fresh.secret.as_bytes().to_vec())
    .bind(fresh.partitions)
    .execute(&mut *conn)
    .await?;
    sqlx::query("UPDATE deployment SET lanes = GREATEST(lanes, ?)").bind(fresh.lanes).execute(&mut *conn).await?;
    let columns = "SELECT order_secret, partitions FROM deployment WHERE id = 1";
    let (secret, partitions): (Vec<u8>, i64) = sqlx::query_as(columns).fetch_one(&mut *conn).await?;
    let secret = secret.try_into().map_err(|_| Failure::Broken("the order secret has not 32 bytes".to_owned()))?;
    let partitions = rows::unsigned("deployment.partitions", partitions)?;
    let lanes = lanes(conn).await?;
    Ok(Deployment { secret: OrderSecret::new(secret), partitions, lanes })
}

async fn lanes(conn: &mut MySqlConnection) -> Result<u16, Failure> {
    let lanes = sqlx::query_scalar("SELECT lanes FROM deployment").fetch_optional(conn).await?;
    rows::unsigned("deployment.lanes", lanes.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_are_powers_of_two_and_all_there_is() {
        let rows: Vec<u32> = (0..201).collect();
        let sizes: Vec<usize> = portions(&rows).map(<[u32]>::len).collect();
        assert_eq!(sizes, [64, 64, 64, 8, 1]);
        assert_eq!(portions(&rows).flatten().copied().collect::<Vec<_>>(), rows);
        assert_eq!(portions::<u32>(&[]).count(), 0);
    }

    #[test]
    fn a_padded_list_repeats_its_last_item() {
        assert_eq!(padded(&[1, 2, 3, 4, 5]).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 5, 5, 5]);
        assert_eq!(padded(&[1, 2]).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(padded::<u32>(&[]).count(), 0);
    }
}
