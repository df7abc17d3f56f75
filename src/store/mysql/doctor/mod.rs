//! A look at the server for `rushgate doctor`, over a connection of its own that is set up as every other one. What it writes it rolls
//! back.

use std::time::Duration;

use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use self::meet::{meet, refused, told};
use super::{CONNECTIONS, MIGRATOR, STATEMENTS, applied};
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::config::settings::{self, Role};
use crate::domain::UnixMillis;
use crate::finding::{Findings, Silence, remedy};
use crate::store::failure::{Failure, within};
use crate::store::schema;

mod meet;
mod room;

/// How long one answer may take here; what the program allows is `store.timeout`.
const PATIENCE: Duration = Duration::from_secs(3);
/// A transaction that is open for longer than this holds others up: none of ours takes as long.
const LONG_TRANSACTION: i64 = 30;
/// How far behind a replica may be before reports surprise people, in seconds.
const MAX_LAG: u64 = 10;

/// Looks at the server of these settings, from its name to its rights.
pub async fn examine(settings: &Settings, mut findings: Findings) {
    if let Some(conn) = meet(&mut findings, &settings.store.url, "store.url").await {
        let silence = Silence::default();
        let mut look = Look { conn, findings: findings.clone(), silence: silence.clone() };
        if !silence.bounds(look.primary(settings)).await {
            findings.stopped(PATIENCE);
        }
    }
}

/// Looks at the replica of these settings: whether it is one, and how far behind.
pub async fn examine_replica(settings: &settings::Store, mut findings: Findings) {
    if let Some(conn) = meet(&mut findings, &settings.read_url, "store.read_url").await {
        let silence = Silence::default();
        let mut look = Look { conn, findings: findings.clone(), silence: silence.clone() };
        if !silence.bounds(look.replica()).await {
            findings.stopped(PATIENCE);
        }
    }
}

struct Look {
    conn: MySqlConnection,
    findings: Findings,
    silence: Silence,
}

/// Waits for an answer, and goes no further without one.
async fn heard<T, E: Into<Failure>>(
    silence: &Silence,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match within(PATIENCE, asked).await {
        Err(Failure::TooLate(_)) => silence.end().await,
        answer => answer,
    }
}

impl Look {
    async fn primary(&mut self, settings: &Settings) {
        // Each lane of a writer has a recorder, the catch-all and the dead letters too, and each recorder a connection of its own.
        let is_writer = settings.node.roles.contains(&Role::Writer);
        let lanes = if is_writer { usize::from(settings.queue.lanes) + 2 } else { 0 };
        self.version().await;
        let is_current = self.schema().await;
        if is_current {
            self.deployment(settings.inventory.partitions).await;
        }
        self.session().await;
        self.durability().await;
        self.binary_log().await;
        self.connections(lanes).await;
        self.prepared_statements(lanes).await;
        self.locks().await;
        self.clock().await;
        self.rights(is_current).await;
    }

    async fn replica(&mut self) {
        self.version().await;
        self.schema().await;
        self.lag().await;
    }

    /// One value as a text. A name that this version does not have is an error like another.
    async fn value(&mut self, expression: &str) -> Result<String, Failure> {
        let select = format!("SELECT CAST({expression} AS CHAR)");
        let row = heard(&self.silence, self.conn.fetch_one(AssertSqlSafe(select))).await?;
        Ok(row.try_get::<Option<String>, _>(0)?.unwrap_or_default())
    }

    async fn version(&mut self) {
        let (version, comment) = match (self.value("VERSION()").await, self.value("@@version_comment").await) {
            (Ok(version), comment) => (version, comment.unwrap_or_default()),
            (Err(failure), _) => {
                return self.findings.wrong("answers", told(&failure), refused(&failure, "store.url").1);
            }
        };
        let is_mariadb = version.contains("MariaDB");
        // MariaDB may lead with a number for clients that are older than it.
        let plain = version.trim_start_matches("5.5.5-");
        let mut numbers = plain.split(['.', '-']).filter_map(|number| number.parse::<u64>().ok());
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let oldest = if is_mariadb { (10, 11) } else { (8, 0) };
        let told = format!("{plain} ({comment})");
        if found < oldest {
            let why = "MySQL 8, or MariaDB 10.11, is the oldest whose statements are used here";
            return self.findings.wrong("version", told, remedy(why, "upgrade the server"));
        }
        self.findings.ok("version", told);
    }

    /// Returns whether it is this program's.
    async fn schema(&mut self) -> bool {
        let rows = heard(&self.silence, applied(&mut self.conn)).await;
        let compared = rows.and_then(|rows| schema::compare(&MIGRATOR, &rows));
        schema::tell(&mut self.findings, &MIGRATOR, compared)
    }

    /// What the first process that started wrote down, and all others must agree with.
    async fn deployment(&mut self, partitions: u16) {
        let select = "SELECT CAST(partitions AS CHAR) FROM deployment WHERE id = 1";
        let row = heard(&self.silence, self.conn.fetch_optional(select)).await;
        match row.map(|row| row.and_then(|row| text(&row, 0)?.parse::<u16>().ok())) {
            Ok(None) => self.findings.ok("deployment", "not begun: the first process that starts writes it down"),
            Ok(Some(begun)) if begun == partitions => {
                self.findings.ok("deployment", format!("begun with {begun} partitions, as here"));
            }
            Ok(Some(begun)) => {
                let why = "no process starts: sales would lie in other partitions than those they are sold from";
                let found = format!("begun with inventory.partitions = {begun}, and here it is {partitions}");
                self.findings.wrong("deployment", found, remedy(why, format!("set inventory.partitions to {begun}")));
            }
            Err(failure) => self.findings.unknown("deployment", told(&failure)),
        }
    }

    /// What every session of the program sets for itself, and what a proxy in between may have lost.
    async fn session(&mut self) {
        let isolation = match self.value("@@SESSION.transaction_isolation").await {
            Ok(isolation) => Ok(isolation),
            Err(_) => self.value("@@SESSION.tx_isolation").await,
        };
        let mend =
            "connect to the server itself: something in between (a proxy, a pooler) does not keep what a session sets";
        match isolation.as_deref() {
            Ok("READ-COMMITTED") => self.findings.ok("isolation", "READ COMMITTED, set by each session"),
            Ok(other) => {
                let why = "decisions are conditional updates that must see what is committed, no less and no older";
                self.findings.wrong("isolation", other, remedy(why, mend));
            }
            Err(failure) => self.findings.unknown("isolation", told(failure)),
        }
        match self.value("@@SESSION.sql_mode").await {
            Ok(mode) if mode.contains("STRICT_ALL_TABLES") => {
                self.findings.ok("sql mode", "strict, set by each session");
            }
            Ok(mode) => {
                let why = "a name that is too long would be cut in silence";
                self.findings.wrong("sql mode", mode, remedy(why, mend));
            }
            Err(failure) => self.findings.unknown("sql mode", told(&failure)),
        }
        match self.value("@@SESSION.time_zone").await {
            Ok(zone) if zone == "+00:00" => self.findings.ok("time zone", "UTC, set by each session"),
            Ok(zone) => {
                let why = "an hour that comes twice in autumn would make orders an hour younger";
                self.findings.wrong("time zone", zone, remedy(why, mend));
            }
            Err(failure) => self.findings.unknown("time zone", told(&failure)),
        }
    }

    /// What is committed stays: that is assumed of the store, and these settings make it so.
    async fn durability(&mut self) {
        match self.value("@@GLOBAL.innodb_flush_log_at_trx_commit").await.as_deref() {
            Ok("1") => self.findings.ok("commits", "innodb_flush_log_at_trx_commit 1"),
            Ok(other) => {
                let why = "the last second of stored orders is lost with the machine, and the messages that brought \
                           them are \
                           acknowledged";
                let mend = "SET GLOBAL innodb_flush_log_at_trx_commit = 1, and the same in its configuration";
                self.findings.warn("commits", format!("innodb_flush_log_at_trx_commit {other}"), remedy(why, mend));
            }
            Err(failure) => self.findings.unknown("commits", told(failure)),
        }
        match self.value("@@GLOBAL.innodb_doublewrite").await.as_deref() {
            Ok(off @ ("0" | "OFF" | "DETECT_ONLY")) => {
                let why = "a page that is half written when the power goes cannot be mended";
                self.findings.warn(
                    "double write",
                    format!("innodb_doublewrite {off}"),
                    remedy(why, "innodb_doublewrite = ON in its configuration, and a restart"),
                );
            }
            Ok(_) => self.findings.ok("double write", "on"),
            Err(failure) => self.findings.unknown("double write", told(failure)),
        }
    }

    async fn binary_log(&mut self) {
        match self.value("@@GLOBAL.log_bin").await.as_deref() {
            Ok("0" | "OFF") => return self.findings.ok("binary log", "none: there is no replica to fail over to"),
            Ok(_) => {}
            Err(failure) => return self.findings.unknown("binary log", told(failure)),
        }
        let format = self.value("@@GLOBAL.binlog_format").await.unwrap_or_else(|_| "ROW".to_owned());
        if format == "STATEMENT" {
            let why =
                "the server refuses every write of a session with READ COMMITTED (error 1665): nothing can be stored";
            let mend = "SET GLOBAL binlog_format = ROW, and the same in its configuration; then restart the processes";
            return self.findings.wrong("binary log", "binlog_format STATEMENT", remedy(why, mend));
        }
        match self.value("@@GLOBAL.sync_binlog").await.as_deref() {
            Ok("1") => self.findings.ok("binary log", format!("{format}, sync_binlog 1")),
            Ok(other) => {
                let why = "after a crash of the machine a replica may have orders that this server has lost, or the \
                           other way round";
                let mend = "SET GLOBAL sync_binlog = 1, and the same in its configuration";
                self.findings.warn("binary log", format!("{format}, sync_binlog {other}"), remedy(why, mend));
            }
            Err(failure) => self.findings.unknown("binary log", told(failure)),
        }
    }

    /// When a transaction began the server tells in the time of its own machine, whatever zone the session has.
    async fn locks(&mut self) {
        let select = "SELECT CAST(COALESCE(SUM(trx_state = 'LOCK WAIT'), 0) AS CHAR), \
                      CAST(COALESCE(CAST(UNIX_TIMESTAMP() AS SIGNED) - CAST(UNIX_TIMESTAMP(MIN(trx_started)) AS SIGNED), 0) AS CHAR) \
                      FROM information_schema.innodb_trx";
        let zone = |zone: &str| format!("SET SESSION time_zone = '{zone}'");
        if let Err(failure) = heard(&self.silence, self.conn.execute(AssertSqlSafe(zone("SYSTEM")))).await {
            return self.findings.unknown("locks", told(&failure));
        }
        let row = heard(&self.silence, self.conn.fetch_one(select)).await;
        if let Err(failure) = heard(&self.silence, self.conn.execute(AssertSqlSafe(zone("+00:00")))).await {
            return self.findings.unknown("locks", told(&failure));
        }
        let row = match row {
            Ok(row) => row,
            Err(failure) => {
                return self.findings.unknown("locks", format!("{} (GRANT PROCESS shows them)", told(&failure)));
            }
        };
        let number = |column| text(&row, column).and_then(|number| number.parse::<i64>().ok());
        let (Some(waiting), Some(oldest @ 0..)) = (number(0), number(1)) else {
            return self.findings.unknown("locks", "it does not tell how long its transactions are open");
        };
        let found = format!("{waiting} transactions wait for a lock; the oldest is open for {oldest} s");
        if oldest > LONG_TRANSACTION {
            let why = "what it has locked nobody can pay, expire or store, and a recovery waits for it";
            let mend =
                "SELECT * FROM information_schema.innodb_trx ORDER BY trx_started; KILL the connection of the oldest";
            self.findings.warn("locks", found, remedy(why, mend));
        } else {
            self.findings.ok("locks", found);
        }
    }

    async fn clock(&mut self) {
        let before = SystemClock.now();
        match self.value("FLOOR(UNIX_TIMESTAMP(NOW(6)) * 1000)").await.map(|now| now.parse::<i64>()) {
            Ok(Ok(now)) => self.findings.clock("clock", UnixMillis(now), before),
            Ok(Err(error)) => self.findings.unknown("clock", error.to_string()),
            Err(failure) => self.findings.unknown("clock", told(&failure)),
        }
    }

    async fn rights(&mut self, is_current: bool) {
        if !is_current {
            return self.findings.unknown("writes", "tried when the schema is this program's");
        }
        match within(PATIENCE, try_writes(&mut self.conn)).await {
            Ok(()) => self
                .findings
                .ok("writes", "a row was written, changed and removed in a transaction that was rolled back"),
            Err(failure) => {
                let why = "orders are believed when they are stored, and they cannot be";
                let mend = match failure.mysql_number() {
                    Some(1142 | 1143 | 1044) => "GRANT SELECT, INSERT, UPDATE, DELETE ON DATABASE.* TO USER",
                    Some(1290 | 1792 | 1836) => {
                        "it is read-only, as a replica is: set store.url to the primary, or SET GLOBAL read_only = OFF"
                    }
                    Some(1665) => "SET GLOBAL binlog_format = ROW, and the same in its configuration",
                    Some(1114 | 1021 | 3) => "its disk is full: df on its machine",
                    Some(1205) => "somebody holds the table: SHOW PROCESSLIST",
                    _ => "the server's error log tells more",
                };
                self.findings.wrong("writes", told(&failure), remedy(why, mend));
            }
        }
    }

    async fn lag(&mut self) {
        let mut asked = heard(&self.silence, self.conn.fetch_optional("SHOW REPLICA STATUS")).await;
        if asked.is_err() {
            asked = heard(&self.silence, self.conn.fetch_optional("SHOW SLAVE STATUS")).await;
        }
        let row = match asked {
            Ok(Some(row)) => row,
            Ok(None) => {
                let why = "searches may be of another database than the one that sells";
                return self.findings.warn(
                    "lag",
                    "it is no replica",
                    remedy(why, "set store.read_url to a replica of store.url, or to \"\""),
                );
            }
            Err(failure) => {
                return self.findings.unknown(
                    "lag",
                    format!("{} (GRANT REPLICATION CLIENT, or SLAVE MONITOR, shows it)", told(&failure)),
                );
            }
        };
        let why = "searches are of a past that buyers have left behind; nothing is decided from them";
        let columns = ["Seconds_Behind_Source", "Seconds_Behind_Master"];
        let lag = columns.iter().find_map(|name| row.try_get::<Option<u64>, _>(*name).ok().flatten());
        match lag {
            None => self.findings.warn(
                "lag",
                "replication does not run",
                remedy(why, "SHOW REPLICA STATUS tells why; START REPLICA"),
            ),
            Some(lag) if lag > MAX_LAG => {
                self.findings.warn(
                    "lag",
                    format!("{lag} s behind"),
                    remedy(why, "SHOW REPLICA STATUS; more replica_parallel_workers"),
                );
            }
            Some(lag) => self.findings.ok("lag", format!("{lag} s behind")),
        }
    }
}

/// Servers tell some texts as bytes.
fn text(row: &MySqlRow, column: usize) -> Option<String> {
    let text = row.try_get::<String, _>(column);
    text.or_else(|_| row.try_get::<Vec<u8>, _>(column).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())).ok()
}

/// A row that no sale can have: its name is none.
async fn try_writes(conn: &mut MySqlConnection) -> Result<(), Failure> {
    let mut tx = conn.begin().await?;
    for statement in [
        "INSERT INTO sales (sale_id, version, applied_version, definition) VALUES ('rushgate doctor', 0, 0, '{}')",
        "UPDATE sales SET version = 1 WHERE sale_id = 'rushgate doctor'",
        "DELETE FROM sales WHERE sale_id = 'rushgate doctor'",
        "UPDATE orders SET status = status WHERE FALSE",
        "DELETE FROM orders WHERE FALSE",
    ] {
        tx.execute(statement).await?;
    }
    tx.rollback().await?;
    Ok(())
}
