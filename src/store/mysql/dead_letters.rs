//! Messages that could not be stored as orders.

use async_trait::async_trait;
use sqlx::mysql::MySqlConnection;

use super::{MySqlStore, ServerClock};
use crate::store::Fault;
use crate::store::dead_letters::{DeadLetter, DeadLetters, cut};
use crate::store::failure::Failure;
use crate::store::pool::run;
use crate::store::rows::{self, DeadLetterColumns, signed, unsigned};

#[async_trait]
impl DeadLetters for MySqlStore {
    async fn keep_dead_letter(&self, lane: &str, reason: &str, body: &[u8]) -> Result<(), Fault> {
        run!(self.primary, conn => keep(&mut conn, &self.clock, (lane, reason), body))
    }

    async fn dead_letters(&self, after: u64, limit: u32) -> Result<Vec<DeadLetter>, Fault> {
        run!(self.primary, conn => list(&mut conn, after, limit))
    }

    async fn dead_letter(&self, id: u64) -> Result<Option<DeadLetter>, Fault> {
        run!(self.primary, conn => by_id(&mut conn, id))
    }

    async fn drop_dead_letter(&self, id: u64) -> Result<bool, Fault> {
        run!(self.primary, conn => delete(&mut conn, id))
    }

    async fn count_dead_letters(&self) -> Result<u64, Fault> {
        run!(self.primary, conn => count(&mut conn))
    }
}

async fn keep(
    conn: &mut MySqlConnection,
    clock: &ServerClock,
    (lane, reason): (&str, &str),
    body: &[u8],
) -> Result<(), Failure> {
    let now = clock.now(conn).await?;
    sqlx::query("INSERT INTO dead_letters (lane, reason, body, kept_at) VALUES (?, ?, ?, ?)")
        .bind(cut(lane, DeadLetter::LANE))
        .bind(cut(reason, DeadLetter::REASON))
        .bind(body)
        .bind(now.0)
        .execute(conn)
        .await?;
    Ok(())
}

async fn list(conn: &mut MySqlConnection, after: u64, limit: u32) -> Result<Vec<DeadLetter>, Failure> {
    let select = "SELECT id, lane, reason, kept_at, LENGTH(body) AS bytes, SUBSTRING(body, 1, ?) AS body \
                  FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?";
    let rows = sqlx::query_as::<_, DeadLetterColumns>(select)
        .bind(signed(DeadLetter::HEAD as u64))
        .bind(signed(after))
        .bind(i64::from(limit.min(DeadLetter::MAX_LIMIT)));
    rows::all(rows.fetch_all(conn).await?)
}

async fn by_id(conn: &mut MySqlConnection, id: u64) -> Result<Option<DeadLetter>, Failure> {
    let select = "SELECT id, lane, reason, kept_at, LENGTH(body) AS bytes, body FROM dead_letters WHERE id = ?";
    let row: Option<DeadLetterColumns> = sqlx::query_as(select).bind(signed(id)).fetch_optional(conn).await?;
    row.map(DeadLetter::try_from).transpose()
}

async fn delete(conn: &mut MySqlConnection, id: u64) -> Result<bool, Failure> {
    let deleted = sqlx::query("DELETE FROM dead_letters WHERE id = ?").bind(signed(id)).execute(conn).await?;
    Ok(deleted.rows_affected() > 0)
}

async fn count(conn: &mut MySqlConnection) -> Result<u64, Failure> {
    let count = sqlx::query_scalar("SELECT COUNT(*) FROM dead_letters").fetch_one(conn).await?;
    unsigned("the number of dead letters", count)
}
