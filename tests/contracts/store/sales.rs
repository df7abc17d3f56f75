//! Definitions of sales, their guard, and the log of changes.

use rushgate::domain::{Sale, SaleState};
use rushgate::store::{CancelOutcome, PutSale, RecordFault};
use serde_json::json;
use tokio::task::JoinSet;

use super::rig::{Rig, change, concert, id, line, sale, train};

pub(super) async fn a_sale_reads_back_as_it_was_put(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    let mut sale = train("g1", 10, 90);
    sale.name = String::from("G1 北京南 → 上海虹桥 🚄");
    sale.opens_at = Some(rig.start);
    assert_eq!(rig.store.put_sale(&sale, &change("sale.put", "g1")).await.unwrap(), PutSale::Stored);
    let stored = rig.store.sale(&sale.id).await.unwrap().unwrap();
    assert_eq!((&stored.sale, stored.applied_version), (&sale, 0));
    assert_eq!(rig.store.unapplied().await.unwrap(), [stored]);
    rig.store.mark_applied(&sale.id, 1).await.unwrap();
    assert_eq!(rig.store.unapplied().await.unwrap(), []);
    assert_eq!(rig.store.sale(&sale.id).await.unwrap().unwrap().applied_version, 1);
    rig.put(&concert("a", 1)).await;
    let all = rig.store.sales().await.unwrap();
    assert_eq!(all.iter().map(|stored| stored.sale.id.as_str()).collect::<Vec<_>>(), ["a", "g1"]);
    let ids = async |after: Option<&str>, limit| {
        let ids = rig.store.sale_ids(after.map(|id| id.parse().unwrap()).as_ref(), limit).await.unwrap();
        ids.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(ids(None, 8).await, ["a", "g1"]);
    assert_eq!(ids(None, 1).await, ["a"]);
    assert_eq!(ids(Some("a"), 8).await, ["g1"]);
    assert_eq!(ids(Some("g1"), 8).await, Vec::<String>::new());
    assert_eq!(rig.store.sale(&"G1".parse().unwrap()).await.unwrap(), None);
}

pub(super) async fn of_two_changes_of_one_version_one_wins(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    for version in 1..=3 {
        let mut operators = JoinSet::new();
        for n in 0..8 {
            let store = rig.another();
            let sale = Sale { version, ..concert("c", 100 + n) };
            operators.spawn(async move { store.put_sale(&sale, &change("sale.put", "c")).await.unwrap() });
        }
        let outcomes = operators.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == PutSale::Stored).count(), 1);
    }
    assert_eq!(rig.store.changes(Some("c"), 100).await.unwrap().len(), 3, "only changes that took place are logged");
}

pub(super) async fn a_conflict_shows_what_is_stored(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    let later = Sale { version: 2, ..concert("c", 5) };
    assert_eq!(rig.store.put_sale(&later, &change("x", "c")).await.unwrap(), PutSale::Conflict(None));
    let sale = rig.selling(10).await;
    let PutSale::Conflict(Some(stored)) = rig.store.put_sale(&sale, &change("x", "c")).await.unwrap() else {
        panic!("the same version twice is a conflict");
    };
    assert_eq!((stored.sale, stored.applied_version), (sale, 1));
}

pub(super) async fn the_guard_stands_at_the_larger_capacity_until_the_change_is_applied(rig: &Rig) {
    let sale = rig.selling(10).await;
    let capacity = async || rig.tally().await.legs[0].capacity;
    let more = Sale { version: 2, ..concert("c", 15) };
    rig.store.put_sale(&more, &change("sale.put", "c")).await.unwrap();
    assert_eq!(capacity().await, 15);
    rig.store.mark_applied(&sale.id, 2).await.unwrap();
    let less = Sale { version: 3, state: SaleState::Paused, ..concert("c", 4) };
    rig.store.put_sale(&less, &change("sale.put", "c")).await.unwrap();
    assert_eq!(capacity().await, 15);
    rig.recorded(0..3).await;
    rig.store.mark_applied(&sale.id, 3).await.unwrap();
    assert_eq!(capacity().await, 4);
    rig.store.mark_applied(&sale.id, 3).await.unwrap();
    assert_eq!((capacity().await, rig.live().await), (4, 3));
}

pub(super) async fn a_guard_below_what_is_live_is_a_fault_and_changes_nothing(rig: &Rig) {
    let sale = rig.selling(10).await;
    rig.recorded(0..6).await;
    let less = Sale { version: 2, ..concert("c", 5) };
    rig.store.put_sale(&less, &change("sale.put", "c")).await.unwrap();
    let fault = rig.store.mark_applied(&sale.id, 2).await.unwrap_err();
    assert!(fault.0.contains("c/standard/0") && fault.0.contains("6 live"), "{fault}");
    assert_eq!(rig.tally().await.legs[0].capacity, 10);
    assert_eq!(rig.store.unapplied().await.unwrap().len(), 1);
    assert!(matches!(rig.store.cancel(id(0), None).await.unwrap(), CancelOutcome::Done(_)));
    rig.store.mark_applied(&sale.id, 2).await.unwrap();
    assert_eq!(rig.tally().await.legs[0].capacity, 5);
    assert!(rig.store.mark_applied(&"nobody".parse().unwrap(), 1).await.is_err());
}

pub(super) async fn pools_that_are_gone_leave_the_guard_when_they_are_empty(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    let both = json!({"name": "C", "currency": "CNY", "pools": [
        {"id": "standard", "capacity": 5, "price": 100}, {"id": "vip", "capacity": 2, "price": 100},
    ]});
    rig.put(&sale("c", both)).await;
    rig.record(&[rig.order_of("c", 1, vec![line("vip", 0, 1, 1)])]).await;
    let one = Sale { version: 2, ..concert("c", 5) };
    rig.store.put_sale(&one, &change("sale.put", "c")).await.unwrap();
    assert_eq!(rig.tally().await.legs.len(), 2);
    assert!(rig.store.mark_applied(&one.id, 2).await.is_err());
    rig.store.cancel(id(1), None).await.unwrap();
    rig.store.mark_applied(&one.id, 2).await.unwrap();
    assert_eq!(rig.tally().await.legs.len(), 1);
    let mut recorder = rig.store.recorder().await.unwrap();
    let fault = recorder.record(&[rig.order_of("c", 2, vec![line("vip", 0, 1, 1)])]).await.unwrap_err();
    assert!(matches!(fault, RecordFault::Guard { .. }), "{fault}");
}

pub(super) async fn an_old_version_that_is_applied_late_lowers_nothing(rig: &Rig) {
    let sale = rig.selling(10).await;
    rig.store.put_sale(&Sale { version: 2, ..concert("c", 20) }, &change("sale.put", "c")).await.unwrap();
    rig.store.mark_applied(&sale.id, 1).await.unwrap();
    assert_eq!(rig.tally().await.legs[0].capacity, 20);
    assert_eq!(rig.store.unapplied().await.unwrap()[0].applied_version, 1);
    rig.store.mark_applied(&sale.id, 2).await.unwrap();
    rig.store.mark_applied(&sale.id, 1).await.unwrap();
    assert_eq!(rig.store.sale(&sale.id).await.unwrap().unwrap().applied_version, 2);
}

pub(super) async fn changes_are_listed_newest_first(rig: &Rig) {
    rig.selling(10).await;
    rig.store.log_change(&change("config.set", "buffer")).await.unwrap();
    rig.store.log_change(&change("sale.pause", "c")).await.unwrap();
    let what = async |subject, limit| {
        let changes = rig.store.changes(subject, limit).await.unwrap();
        changes.into_iter().map(|change| change.what).collect::<Vec<_>>()
    };
    assert_eq!(what(None, 10).await, ["sale.pause", "config.set", "sale.put"]);
    assert_eq!(what(Some("c"), 10).await, ["sale.pause", "sale.put"]);
    assert_eq!(what(None, 1).await, ["sale.pause"]);
    assert_eq!(rig.store.changes(None, 1).await.unwrap(), [change("sale.pause", "c")]);
}
