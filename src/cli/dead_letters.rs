//! `rushgate dead-letters`: messages that could not be stored, and what becomes of them.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::remote::{Remote, each, table, told};
use crate::cli::{Exit, Failure};
use crate::config::Loaded;

/// Look into messages that could not be stored, send them again, or drop them; asks a running process by its admin API.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rushgate dead-letters list
  rushgate dead-letters show 7
  rushgate dead-letters replay 7 --dry-run
  rushgate dead-letters drop 7")]
pub(super) struct DeadLetters {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List dead letters, the oldest first, with the orders in each that can be read.
    #[command(after_help = "Example:
  rushgate dead-letters list --limit 20
  rushgate dead-letters list --after 1042 --json")]
    List(List),
    /// Show one with its whole body.
    #[command(after_help = "Example:
  rushgate dead-letters show 7")]
    Show(Named),
    /// Send one to the writers again, behind all that waits; harmless for orders that are stored already.
    #[command(after_help = "Example:
  rushgate dead-letters replay 7 --dry-run
  rushgate dead-letters replay 7")]
    Replay(Act),
    /// Drop one for good.
    #[command(after_help = "Example:
  rushgate dead-letters drop 7 --dry-run
  rushgate dead-letters drop 7")]
    Drop(Act),
}

#[derive(Debug, Args)]
struct List {
    /// Only those after this one; the last line of a full list tells how to go on.
    #[arg(long, value_name = "ID", default_value_t = 0)]
    after: u64,
    /// How many, at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

#[derive(Debug, Args)]
struct Named {
    #[arg(value_name = "ID")]
    letter: u64,
}

#[derive(Debug, Args)]
struct Act {
    #[arg(value_name = "ID")]
    letter: u64,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl DeadLetters {
    pub(super) async fn run(self, loaded: Loaded) -> Result<Exit, Failure> {
        let client = self.remote.client(&loaded.settings)?;
        let path = |letter: u64, action: &str, dry_run: bool| {
            format!("/admin/v1/dead-letters/{letter}{action}{}", if dry_run { "?dry_run=true" } else { "" })
        };
        let (answer, shown): (Value, fn(&Value) -> String) = match self.action {
            Action::List(List { after, limit }) => {
                (client.get(&format!("/admin/v1/dead-letters?after={after}&limit={limit}")).await?, shown_list)
            }
            Action::Show(Named { letter }) => (client.get(&path(letter, "", false)).await?, shown_letter),
            Action::Replay(Act { letter, dry_run }) => {
                (client.post(&path(letter, "/replay", dry_run), None).await?, shown_replay)
            }
            Action::Drop(Act { letter, dry_run }) => (client.delete(&path(letter, "", dry_run)).await?, shown_drop),
        };
        self.remote.print(&answer, shown)
    }
}

fn shown_list(answer: &Value) -> String {
    let rows = each(&answer["letters"]).map(|letter| {
        let [id, at, lane, bytes, reason] = ["id", "at", "lane", "bytes", "reason"].map(|field| told(&letter[field]));
        [id, at, lane, bytes, held(letter), reason]
    });
    let [all, in_queue] = ["messages", "in_queue"].map(|field| told(&answer[field]));
    let mut lines = vec![table(["ID", "AT", "LANE", "BYTES", "HOLDS", "REASON"], rows)];
    lines.push(match answer["why_no_lanes"].as_str() {
        None => format!("{all} dead letters, {in_queue} of them still in the queue.\n"),
        Some(why) => {
            let in_store = told(&answer["in_store"]);
            format!("{in_store} dead letters in the store; those still in the queue are not known: {why}.\n")
        }
    });
    if answer["is_full"] == true {
        lines.push("The store takes no more; drop some, so that those in the queue can follow.\n".to_owned());
    }
    if !answer["next"].is_null() {
        lines.push(format!("There are more: --after {}\n", told(&answer["next"])));
    }
    lines.concat()
}

fn held(letter: &Value) -> String {
    match letter["holds"].as_str() {
        Some("orders") => format!("{} orders", each(&letter["orders"]).count()),
        Some(other) => other.to_owned(),
        None => "?".to_owned(),
    }
}

fn shown_letter(letter: &Value) -> String {
    let [id, at, lane, bytes, reason] = ["id", "at", "lane", "bytes", "reason"].map(|field| told(&letter[field]));
    let mut lines = vec![format!("{id} of lane {lane}, kept at {at}, {bytes} bytes, {}.", held(letter))];
    lines.push(format!("Why: {reason}"));
    lines.extend(each(&letter["orders"]).map(|order| format!("  {}", told(order))));
    lines.push(String::new());
    lines.push(match letter["text"].as_str() {
        // It may have been sent to make a terminal do something.
        Some(text) => text.chars().filter(|c| !c.is_control() || *c == '\n').collect(),
        None => told(&letter["hex"]),
    });
    lines.join("\n") + "\n"
}

fn shown_replay(answer: &Value) -> String {
    let (id, holds) = (told(&answer["letter"]), held(&answer["before"]));
    let done = if answer["dry_run"] == true {
        "would be sent to the writers again; nothing was done"
    } else {
        "is sent to the writers again"
    };
    let mut text = format!("{id} ({holds}) {done}.\n");
    if answer["before"]["holds"].is_null() {
        text.push_str("  It cannot be read, so a writer of this version parks it again.\n");
    }
    text
}

fn shown_drop(answer: &Value) -> String {
    let (id, holds) = (told(&answer["letter"]), held(&answer["before"]));
    let done = if answer["dry_run"] == true { "would be dropped; nothing was done" } else { "is dropped" };
    let orders: Vec<_> = each(&answer["before"]["orders"]).map(|order| format!("  {}\n", told(order))).collect();
    format!("{id} ({holds}) {done}.\n{}", orders.concat())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn letter() -> Value {
        json!({"id": 7, "at": "2026-01-01T00:00:00Z", "lane": "2", "reason": "odd", "bytes": 9, "holds": "orders", "orders": ["ab"]})
    }

    #[test]
    fn a_list_tells_what_is_in_each_and_how_to_go_on() {
        let odd =
            json!({"id": 8, "at": "2026-01-01T00:00:00Z", "lane": "2", "reason": "odd", "bytes": 9, "holds": null});
        let text =
            shown_list(&json!({"messages": 5, "in_queue": 3, "is_full": true, "letters": [letter(), odd], "next": 8}));
        for line in [
            "7   2026-01-01T00:00:00Z  2     9      1 orders  odd",
            "8   2026-01-01T00:00:00Z  2     9      ?         odd",
            "5 dead letters, 3 of them still in the queue.",
            "The store takes no more",
            "--after 8",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let text = shown_list(&json!({"in_store": 1, "letters": [letter()], "why_no_lanes": "it is away"}));
        let told = "1 dead letters in the store; those still in the queue are not known: it is away.\n";
        assert!(text.ends_with(told), "{text}");
    }

    #[test]
    fn a_letter_does_nothing_to_the_terminal() {
        let mut shown = letter();
        shown["text"] = "a\u{1b}[2J\nb".into();
        assert!(shown_letter(&shown).ends_with("Why: odd\n  ab\n\na[2J\nb\n"), "{}", shown_letter(&shown));
        (shown["text"], shown["hex"]) = (json!(null), json!("ff00"));
        assert!(shown_letter(&shown).ends_with("\nff00\n"));
    }

    #[test]
    fn a_dry_run_says_that_nothing_was_done() {
        let answer = |dry_run, letter: Value| json!({"letter": 7, "before": letter, "dry_run": dry_run});
        assert_eq!(shown_replay(&answer(false, letter())), "7 (1 orders) is sent to the writers again.\n");
        assert!(shown_replay(&answer(true, json!({"holds": null}))).ends_with("parks it again.\n"));
        assert_eq!(shown_drop(&answer(true, letter())), "7 (1 orders) would be dropped; nothing was done.\n  ab\n");
    }
}
