//! What people see of sales.

use super::*;

#[test]
fn a_change_is_told_field_by_field() {
    let pools = |capacity| json!([{"id": "p", "capacity": capacity, "price": 5}]);
    let answer = json!({
        "sale": "s", "effect": "applied", "dry_run": false,
        "before": {"name": "C", "state": "active", "buffer": "10%", "version": 1, "pools": pools(10)},
        "after": {"name": "C", "state": "paused", "version": 2, "pools": pools(15)},
    });
    let told = "s is version 2 now.\n  pool p capacity: 10 → 15\n  state: active → paused\n  buffer: 10% → -\n";
    assert_eq!(shown_change(&answer), told);
}

#[test]
fn a_dry_run_says_that_nothing_was_changed() {
    let mut answer =
        json!({"sale": "s", "effect": "applied", "dry_run": true, "before": null, "after": {"version": 1}});
    assert_eq!(shown_change(&answer), "s would be version 1; nothing was changed.\n");
    answer["effect"] = "stored".into();
    answer["why"] = "recovering".into();
    assert_eq!(shown_change(&answer), "s would be stored as version 1, and applied later.\n  why later: recovering\n");
}

#[test]
fn a_balance_shows_the_equation_and_what_disturbs_it() {
    let balance = json!({
        "sale": "s", "phase": "open", "version": 2, "applied_version": 2,
        "legs": [{"pool": "p", "leg": 0, "from": "A", "to": "B", "capacity": 10, "free": 7, "held": 2, "sold": 1, "balanced": true,
                  "store": {"capacity": 10, "live": 3, "held": 2, "paid": 1}}],
        "outbox_entries": 1, "lanes": [{"lane": "0", "messages": 3}, {"lane": "dead", "messages": 2}], "stock_moves": 0,
        "refunds_due": 1, "stale": 0, "quarantined": 0, "dead_letters": 2,
        "drift": {"units": 1, "in_motion": false, "orders": ["ab"]},
        "nodes": [{"node": "n1", "weight": 1.0, "shards": {"p": [4]}}],
    });
    let text = shown_balance(&balance);
    for line in [
        "s is open, version 2.",
        "p     A → B  10 =      7     2       1       2 held, 1 paid",
        "On their way: 1 outbox entries, 3 messages, 0 stock moves.",
        "Drift: 1 units.\n  ab\n",
        "1 refunds due.",
        "2 dead letters.",
        "n1    1.0     p 4",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let mut unknown = balance;
    (unknown["lanes"], unknown["dead_letters"], unknown["why_no_lanes"]) =
        (json!(null), json!(null), json!("it is away"));
    let text = shown_balance(&unknown);
    for line in ["1 outbox entries, ? messages, 0 stock", "Messages and dead letters are not known: it is away.\n"] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_buffer_is_units_a_percentage_or_the_nodes_own() {
    assert_eq!(buffer_value("50"), json!(50));
    assert_eq!(buffer_value("20%"), json!("20%"));
    assert_eq!(buffer_value("default"), json!(null));
}

#[test]
fn a_file_makes_a_new_sale_unless_it_may_replace_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.json");
    fs::write(&file, r#"{"name":"C","version":4}"#).unwrap();
    let mut create = Create { sale: "s".parse().unwrap(), file, replace: false, dry_run: false };
    assert_eq!(document(&create).unwrap()["version"], 0);
    create.replace = true;
    assert_eq!(document(&create).unwrap()["version"], 4);
    fs::write(&create.file, "{").unwrap();
    assert!(document(&create).is_err());
}
