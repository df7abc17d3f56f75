//! How changes of a sale travel, over planted backends.

use std::collections::HashMap;
use std::sync::Arc;

use super::*;
use crate::domain::{Epoch, OrderStatus, SaleState, Scope};
use crate::planted::{Planted, SCOPE};
use crate::store::Sales as _;

fn definitions(planted: &Planted) -> Definitions {
    let defaults = settings::Sale::default();
    let (store, inventory) = (Arc::clone(&planted.store), Arc::clone(&planted.inventory));
    let clock = Arc::clone(&planted.clock);
    Definitions::new(store, inventory, planted.epochs.clone(), clock, defaults)
}

fn document() -> Edit {
    let json = serde_json::json!({"name": "C", "currency": "CNY", "pools": [{"id": "p", "capacity": 10, "price": 5}]});
    Edit::Put(Box::new(serde_json::from_value(json).unwrap()))
}

fn id() -> SaleId {
    "s".parse().unwrap()
}

fn capacity(sale: &Sale) -> u32 {
    sale.pools[0].capacity
}

fn take(units: i64) -> Edit {
    Edit::AddStock { pool: "p".to_owned(), delta: -units }
}

#[tokio::test]
async fn a_new_sale_is_stored_applied_and_logged() {
    let planted = Planted::new().await;
    let changed = definitions(&planted).change(&id(), &document(), "admin/ann", false).await.unwrap();
    assert_eq!((changed.before, changed.effect), (None, Effect::Applied));
    assert_eq!(planted.store.lock().sales[&id()].applied_version, 1);
    assert_eq!(planted.inventory.lock().sales[&id()], changed.after);
    let line = planted.store.lock().log[0].clone();
    assert_eq!((line.who.as_str(), line.what.as_str(), line.subject.as_str()), ("admin/ann", "sale.put", "s"));
    assert_eq!(line.before, "");
    assert!(line.after.contains("\"capacity\":10"), "{}", line.after);
}

#[tokio::test]
async fn a_sale_that_says_nothing_of_its_hold_has_the_one_that_is_configured_when_it_is_made() {
    let planted = Planted::new().await;
    let (defaults, clock) = (live::Sale::from(settings::Sale::default()), Arc::clone(&planted.clock));
    let (store, inventory) = (Arc::clone(&planted.store), Arc::clone(&planted.inventory));
    let definitions = Definitions::new(store, inventory, planted.epochs.clone(), clock, defaults.clone());
    let made = async |id: &str| {
        let changed = definitions.change(&id.parse().unwrap(), &document(), "admin", false).await.unwrap();
        (changed.after.hold, changed.after.limits.per_buyer)
    };
    assert_eq!(made("s").await, (Duration::from_secs(300), 1));
    defaults.hold.set(Duration::from_secs(60));
    defaults.limit_per_buyer.set(3);
    assert_eq!(made("t").await, (Duration::from_secs(60), 3));
}

#[tokio::test]
async fn a_definition_that_an_inventory_of_the_past_took_waits_for_the_next_one() {
    let planted = Planted::new().await;
    planted.store.lock().recoveries = 1;
    let definitions = definitions(&planted);
    let changed = definitions.change(&id(), &document(), "admin", false).await.unwrap();
    assert!(matches!(changed.effect, Effect::Stored { .. }), "{:?}", changed.effect);
    assert_eq!(planted.inventory.lock().sales[&id()].version, 1, "it was asked, and answered");
    assert_eq!(planted.store.lock().sales[&id()].applied_version, 0);

    let next = Scope { epoch: Epoch(SCOPE.epoch.0 + 1), ..SCOPE };
    planted.epochs.assume(next);
    assert_eq!(definitions.apply_waiting(&mut HashMap::new()).await, Ok(Vec::new()));
    assert_eq!(planted.store.lock().sales[&id()].applied_version, 1);
}

#[tokio::test]
async fn a_dry_run_tells_and_changes_nothing() {
    let planted = Planted::new().await;
    let changed = definitions(&planted).change(&id(), &document(), "admin", true).await.unwrap();
    assert_eq!((capacity(&changed.after), changed.effect), (10, Effect::Applied));
    assert!(planted.store.lock().sales.is_empty());
    assert!(planted.store.lock().log.is_empty());
    assert!(planted.inventory.lock().sales.is_empty());
}

#[tokio::test]
async fn what_is_so_already_is_not_logged_again() {
    let planted = Planted::new().await;
    planted.sale("s", 1);
    let changed = definitions(&planted).change(&id(), &Edit::Resume, "admin", false).await.unwrap();
    assert_eq!((changed.effect, changed.after.version), (Effect::Unchanged, 1));
    assert!(planted.store.lock().log.is_empty());
}

#[tokio::test]
async fn a_change_that_loses_a_race_is_decided_anew() {
    let planted = Planted::new().await;
    planted.sale("s", 1);
    planted.store.lock().race = 2;
    let changed = definitions(&planted).change(&id(), &Edit::Pause, "admin", false).await.unwrap();
    assert_eq!((changed.after.state, changed.after.version), (SaleState::Paused, 4));
}

#[tokio::test]
async fn a_change_of_a_named_version_that_loses_a_race_is_refused() {
    let planted = Planted::new().await;
    let sale = planted.sale("s", 1);
    planted.store.lock().race = 1;
    let named = SaleDocument { name: "new".to_owned(), ..SaleDocument::from(&sale) };
    let refused = definitions(&planted).change(&id(), &Edit::Put(Box::new(named)), "admin", false).await;
    assert_eq!(refused, Err(Refused::Conflict { version: 2 }));
}

#[tokio::test]
async fn a_capacity_below_what_is_in_use_is_refused_before_it_is_stored() {
    let planted = Planted::new().await;
    let sale = planted.sale("s", 1);
    planted.order(&sale, 1, "b", OrderStatus::Paid);
    planted.order(&sale, 2, "c", OrderStatus::Held);
    let refused = definitions(&planted).change(&id(), &take(9), "admin", false).await;
    assert_eq!(refused, Err(Refused::InUse { pool: "p".parse().unwrap(), leg: 0, live: 2 }));
    assert_eq!(planted.store.lock().sales[&id()].sale.version, 1);
    let changed = definitions(&planted).change(&id(), &take(8), "admin", false).await.unwrap();
    assert_eq!((capacity(&changed.after), changed.effect), (2, Effect::Applied));
}

#[tokio::test]
async fn units_are_not_taken_away_while_nobody_knows_what_is_in_use() {
    let planted = Planted::new().await;
    planted.sale("s", 1);
    planted.inventory.lock().down = true;
    let refused = definitions(&planted).change(&id(), &take(1), "admin", false).await;
    assert!(matches!(refused, Err(Refused::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_definition_that_the_inventory_refuses_is_taken_back_by_a_newer_one() {
    let planted = Planted::new().await;
    let before = planted.sale("s", 1);
    planted.order(&before, 1, "b", OrderStatus::Held);
    planted.order(&before, 2, "c", OrderStatus::Held);
    // Granted after the room was checked.
    let mut after = Sale { version: 2, name: "renamed".to_owned(), ..before.clone() };
    after.pools[0].capacity = 1;
    let definitions = definitions(&planted);
    let change = definitions.line("admin", "sale.put", Some(&before), &after);
    assert_eq!(planted.store.put_sale(&after, &change).await, Ok(PutSale::Stored));
    let refused = definitions.carry_changed(Some(before.clone()), after, "admin").await;
    assert_eq!(refused, Err(Refused::InUse { pool: "p".parse().unwrap(), leg: 0, live: 2 }));
    let stored = planted.store.lock().sales[&id()].clone();
    assert_eq!(stored, StoredSale { sale: Sale { version: 3, ..before }, applied_version: 3 });
    assert_eq!(planted.store.lock().log.last().unwrap().what, "sale.restore");
}

#[tokio::test]
async fn a_definition_waits_for_an_inventory_that_cannot_be_reached() {
    let planted = Planted::new().await;
    planted.sale("s", 1);
    planted.inventory.lock().down = true;
    let definitions = definitions(&planted);
    let changed = definitions.change(&id(), &Edit::Pause, "admin", false).await.unwrap();
    assert!(matches!(changed.effect, Effect::Stored { .. }), "{changed:?}");
    let waiting = definitions.apply_waiting(&mut HashMap::new()).await.unwrap();
    assert!(waiting[0].starts_with("s: "), "{waiting:?}");

    planted.inventory.lock().down = false;
    assert_eq!(definitions.apply_waiting(&mut HashMap::new()).await, Ok(Vec::new()));
    assert_eq!(planted.inventory.lock().sales[&id()].state, SaleState::Paused);
    assert_eq!(planted.store.lock().sales[&id()].applied_version, 2);
}

#[tokio::test]
async fn a_refused_definition_whose_author_died_is_taken_back_at_the_second_look() {
    let planted = Planted::new().await;
    let before = planted.sale("s", 1);
    planted.order(&before, 1, "b", OrderStatus::Held);
    let mut after = Sale { version: 2, name: "renamed".to_owned(), ..before.clone() };
    after.pools[0].capacity = 0;
    let definitions = definitions(&planted);
    let change = definitions.line("admin", "sale.put", Some(&before), &after);
    assert_eq!(planted.store.put_sale(&after, &change).await, Ok(PutSale::Stored));

    let mut refused = HashMap::new();
    assert_eq!(definitions.apply_waiting(&mut refused).await.unwrap().len(), 1);
    assert_eq!(planted.store.lock().sales[&id()].sale.version, 2, "its author may be about to take it back");
    definitions.apply_waiting(&mut refused).await.unwrap();
    let stored = planted.store.lock().sales[&id()].clone();
    assert_eq!((capacity(&stored.sale), stored.sale.version, stored.applied_version), (10, 3, 3));
    assert_eq!(stored.sale.name, "renamed");
}

#[tokio::test]
async fn an_inventory_of_the_past_has_no_definition_taken_back() {
    let planted = Planted::new().await;
    let before = planted.sale("s", 1);
    planted.order(&before, 1, "b", OrderStatus::Held);
    let mut after = Sale { version: 2, ..before.clone() };
    after.pools[0].capacity = 0;
    let definitions = definitions(&planted);
    let change = definitions.line("admin", "sale.put", Some(&before), &after);
    assert_eq!(planted.store.put_sale(&after, &change).await, Ok(PutSale::Stored));
    planted.store.lock().recoveries = 1;

    let mut refused = HashMap::new();
    for _ in 0..3 {
        assert_eq!(definitions.apply_waiting(&mut refused).await.unwrap().len(), 1);
    }
    assert_eq!(planted.store.lock().sales[&id()].sale, after);
}

#[tokio::test]
async fn a_store_that_cannot_be_asked_refuses() {
    let planted = Planted::new().await;
    planted.store.lock().down = true;
    let refused = definitions(&planted).change(&id(), &document(), "admin", false).await;
    assert_eq!(refused, Err(Refused::Unavailable("the store: it is down".to_owned())));
}
