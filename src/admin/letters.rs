//! Answers about dead letters, and what operators do with them: send them again, or drop them.

use serde_json::{Value, json};

use crate::admin::balance::{dead, lanes};
use crate::admin::problem::{Code, Problem};
use crate::admin::{Answer, Parts, line};
use crate::queue::envelope::{Content, Envelope};
use crate::store::DeadLetter;

/// Characters of a body that a list shows.
const PREVIEW: usize = 160;

/// What to do with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Replay,
    Drop,
}

/// How many there are, and a page of those that are in the store already. `next` goes on where the page ends. Those that are still in the
/// queue are not known while the broker is away.
pub(super) async fn list(parts: &Parts, after: u64, limit: u32) -> Result<Answer, Problem> {
    let lanes = lanes(parts).await;
    let in_queue = lanes.as_ref().ok().map(|lanes| dead(lanes));
    let in_store = parts.store.count_dead_letters().await?;
    let letters = parts.store.dead_letters(after, limit).await?;
    let is_full = letters.len() == limit as usize;
    let mut body = json!({
        "messages": in_queue.map(|in_queue| in_queue + in_store),
        "in_queue": in_queue,
        "in_store": in_store,
        "is_full": in_store >= DeadLetter::MOST,
        "letters": letters.iter().map(document).collect::<Vec<_>>(),
        "next": letters.last().filter(|_| is_full).map(|last| last.id),
    });
    if let Err(why) = lanes {
        body["why_no_lanes"] = why.into();
    }
    Ok(Answer::ok(body))
}

/// One with its whole body: as text if it is one, else as hexadecimal digits.
pub(super) async fn show(parts: &Parts, id: u64) -> Result<Answer, Problem> {
    let letter = letter(parts, id).await?;
    let mut body = document(&letter);
    let text = std::str::from_utf8(&letter.body).ok();
    body["text"] = text.into();
    body["hex"] = if text.is_some() { Value::Null } else { hex::encode(&letter.body).into() };
    Ok(Answer::ok(body))
}

/// Sends it again or drops it, or tells what that would do.
pub(super) async fn act(parts: &Parts, id: u64, act: Act, (who, dry_run): (&str, bool)) -> Result<Answer, Problem> {
    let letter = letter(parts, id).await?;
    if act == Act::Replay && matches!(content(&letter), Some(Content::Barrier { .. })) {
        let why = "A barrier says that all before it is stored; sent again, it would say so of what is not. Drop it.";
        return Err(Problem::new(Code::NotPossible, why));
    }
    let before = document(&letter);
    if !dry_run {
        if act == Act::Replay {
            parts.topology.put(letter.body).await.map_err(|fault| {
                let why = "it may be in a lane; to replay it again does no harm, since the store knows its orders by their ids";
                Problem::new(Code::Unknown, format!("{fault}; {why}"))
            })?;
        }
        // Whoever dies here leaves the row of a letter that is in a lane again, and the next replay does no harm.
        let dropped = parts.store.drop_dead_letter(id).await;
        let dropped =
            dropped.map_err(|fault| Problem::new(Code::Unknown, format!("{fault}; look before you repeat")))?;
        let what = match act {
            Act::Replay => "dead_letter.replay",
            Act::Drop if dropped => "dead_letter.drop",
            // Another operator was first.
            Act::Drop => return Err(unknown()),
        };
        parts.log(line(parts.clock.now(), who, (what, subject(id)), &before, &Value::Null)).await;
    }
    let body = json!({"letter": id, "before": before, "after": null, "effect": "applied", "dry_run": dry_run});
    Ok(Answer::ok(body))
}

async fn letter(parts: &Parts, id: u64) -> Result<DeadLetter, Problem> {
    parts.store.dead_letter(id).await?.ok_or_else(unknown)
}

fn unknown() -> Problem {
    Problem::new(Code::UnknownDeadLetter, "There is no such dead letter.")
}

fn subject(id: u64) -> String {
    format!("dead-letter/{id}")
}

/// What is in it, if all of it is there and can be read.
fn content(letter: &DeadLetter) -> Option<Content> {
    Envelope::decode(&letter.body).ok().filter(|_| letter.is_whole()).map(|envelope| envelope.content)
}

fn document(letter: &DeadLetter) -> Value {
    let (holds, orders) = match content(letter) {
        Some(Content::Orders { orders, .. }) => (Some("orders"), Some(orders)),
        Some(Content::Barrier { .. }) => (Some("barrier"), None),
        None => (None, None),
    };
    let orders = orders.map(|orders| orders.iter().map(|order| order.id.to_string()).collect::<Vec<_>>());
    json!({
        "id": letter.id,
        "at": letter.kept_at.to_string(),
        "lane": letter.lane,
        "reason": letter.reason,
        "bytes": letter.bytes,
        "holds": holds,
        "orders": orders,
        "preview": preview(&letter.body),
    })
}

/// The beginning of a body in characters that a terminal shows.
fn preview(body: &[u8]) -> String {
    let beginning = &body[..body.len().min(4 * PREVIEW)];
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    String::from_utf8_lossy(beginning).chars().take(PREVIEW).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_is_short_and_can_be_printed() {
        assert_eq!(preview(b"a\n\x1b[31mb\xff"), "a  [31mb\u{fffd}");
        assert_eq!(preview("票".repeat(500).as_bytes()), "票".repeat(PREVIEW));
        assert_eq!(preview(b""), "");
    }
}
