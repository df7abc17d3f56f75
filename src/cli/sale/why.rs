//! `rushgate sale why`: why a claim was refused, for who has the buyer on the phone.

use clap::Args;
use serde_json::Value;

use crate::cli::remote::{each, encoded, table, told};
use crate::domain::{BuyerId, OrderId, SaleId};

/// What is asked about.
#[derive(Debug, Args)]
pub(super) struct Why {
    #[arg(required_unless_present = "order")]
    sale: Option<SaleId>,
    /// The buyer, as the shop names them.
    #[arg(required_unless_present = "order")]
    buyer: Option<BuyerId>,
    /// Units that they came for; one, if it is not said.
    #[arg(long, conflicts_with = "order")]
    quantity: Option<u32>,
    /// The pool that they came for; any, if it is not said.
    #[arg(long, conflicts_with = "order")]
    pool: Option<String>,
    /// The stop where their journey begins.
    #[arg(long, conflicts_with = "order")]
    from: Option<String>,
    /// The stop where it ends.
    #[arg(long, conflicts_with = "order")]
    to: Option<String>,
    /// What became of this order, instead of what a buyer would hear.
    #[arg(long, conflicts_with_all = ["sale", "buyer"])]
    order: Option<OrderId>,
}

impl Why {
    pub(super) fn path(&self) -> String {
        let given = [
            ("order", self.order.map(|order| order.to_string())),
            ("sale", self.sale.as_ref().map(ToString::to_string)),
            ("buyer", self.buyer.as_ref().map(ToString::to_string)),
            ("quantity", self.quantity.map(|quantity| quantity.to_string())),
            ("pool", self.pool.clone()),
            ("from", self.from.clone()),
            ("to", self.to.clone()),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(&value?))));
        format!("/admin/v1/why?{}", given.collect::<Vec<_>>().join("&"))
    }
}

pub(super) fn shown(answer: &Value) -> String {
    let also =
        each(&answer["also"]).map(|also| format!("  also {}: {}\n", told(&also["code"]), told(&also["because"])));
    let rest = if answer["story"].is_null() { shown_buyer(answer) } else { shown_story(answer) };
    format!("{}: {}\n{}{rest}", told(&answer["verdict"]), told(&answer["because"]), also.collect::<String>())
}

fn shown_story(answer: &Value) -> String {
    let rows = each(&answer["story"]).map(|step| [told(&step["at"]), told(&step["says"])]);
    shown_table(["WHEN", "WHAT"], rows.collect())
}

fn shown_buyer(answer: &Value) -> String {
    let facts = &answer["facts"];
    let orders = each(&facts["orders"]).map(|order| {
        let status = if order["recorded"] == false { ", not in the store yet" } else { "" };
        let status = format!("{}{status}", told(&order["status"]));
        [told(&order["order"]), status, told(&order["units"]), told(&order["granted_at"]), told(&order["pay_by"])]
    });
    let legs = each(&facts["stock"]).flat_map(|pool| each(&pool["legs"]).map(move |leg| (pool, leg)));
    let legs = legs.map(|(pool, leg)| {
        [told(&pool["pool"]), told(&leg["leg"]), told(&leg["free"]), told(&leg["held"]), told(&leg["sold"])]
    });
    let orders = shown_table(["ORDER", "STATUS", "UNITS", "GRANTED", "PAY BY"], orders.collect());
    let legs = shown_table(["POOL", "LEG", "FREE", "HELD", "SOLD"], legs.collect());
    let not_known = each(&facts["not_known"]).map(|what| format!("not known: {}\n", told(what)));
    format!("{orders}{legs}{}\n{}", not_known.collect::<String>(), shown_memory(answer))
}

fn shown_memory(answer: &Value) -> String {
    let memory = &answer["memory"];
    let node = told(&memory["node"]);
    let last = match each(&answer["told"]).next() {
        Some(last) => format!("{node} told this buyer {} at {}.", told(&last["code"]), told(&last["at"])),
        None => format!("{node} remembers no refusal of this buyer."),
    };
    let since = if memory["half_since"].is_null() { &memory["begun_at"] } else { &memory["half_since"] };
    format!("{last} Its memory is its own; half of it goes back no further than {}.\n", told(since))
}

/// Nothing for no rows.
fn shown_table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    if rows.is_empty() { String::new() } else { format!("\n{}", table(header, rows)) }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches, Parser};
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        why: Why,
    }

    fn path(args: &[&str]) -> Option<String> {
        let args = ["why"].iter().chain(args);
        let matches = Only::command().try_get_matches_from(args).ok()?;
        Some(Only::from_arg_matches(&matches).unwrap().why.path())
    }

    #[test]
    fn a_buyer_is_asked_about_whatever_is_in_the_name() {
        assert_eq!(path(&["s", "auth0|1&2"]).unwrap(), "/admin/v1/why?sale=s&buyer=auth0%7C1%262");
        assert_eq!(path(&["s", "b", "--quantity", "2"]).unwrap(), "/admin/v1/why?sale=s&buyer=b&quantity=2");
        let order = "ab".repeat(16);
        assert_eq!(path(&["--order", &order]).unwrap(), format!("/admin/v1/why?order={order}"));
        for wrong in [&["s"][..], &[], &["s", "b", "--order", &order], &["--order", &order, "--quantity", "1"]] {
            assert_eq!(path(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_answer_begins_with_the_verdict_and_ends_with_how_far_the_memory_goes() {
        let answer = json!({
            "verdict": "limit_reached", "because": "Enough.", "also": [{"code": "sold_out", "because": "Nothing is left."}],
            "facts": {"orders": [{"order": "ab", "status": "held", "units": 1, "recorded": false, "granted_at": "1", "pay_by": "2"}],
                      "stock": [{"pool": "p", "legs": [{"leg": 0, "free": 0, "held": 0, "sold": 9}]}], "not_known": []},
            "told": [{"at": "3", "code": "sold_out"}],
            "memory": {"node": "n1", "half_since": "2", "begun_at": "1"},
        });
        let text = shown(&answer);
        for line in [
            "limit_reached: Enough.\n  also sold_out: Nothing is left.\n",
            "ab     held, not in the store yet  1      1        2\n",
            "p     0    0     0     9\n",
            "n1 told this buyer sold_out at 3. Its memory is its own; half of it goes back no further than 2.\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn an_order_is_told_step_by_step() {
        let story = json!({"verdict": "expired", "because": "Late.", "story": [{"at": "1", "what": "granted", "says": "It was granted."}]});
        assert_eq!(shown(&story), "expired: Late.\n\nWHEN  WHAT\n1     It was granted.\n");
    }
}
