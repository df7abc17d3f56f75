//! What a repair mends, and what it leaves.

use std::time::Duration;

use super::repair::{Action, Kind};
use super::*;
use crate::domain::{OrderStatus, Sale};
use crate::inventory::KnownOrder;
use crate::planted::{self, Planted, payment};
use crate::queue::envelope::Content;
use crate::store::PaymentState;

/// A held and a paid order, and whoever works behind a repair: writers, returns, recovery.
async fn sound() -> (Planted, Sale) {
    let planted = Planted::new().await;
    let sale = planted.sale("s", 1);
    planted.order(&sale, 1, "b1", OrderStatus::Held);
    planted.order(&sale, 2, "b2", OrderStatus::Paid);
    let (store, inventory) = (Arc::clone(&planted.store), Arc::clone(&planted.inventory));
    let publisher = Arc::clone(&planted.publisher);
    planted.shutdown.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let messages = std::mem::take(&mut *publisher.0.lock().unwrap());
            for message in messages {
                let Content::Orders { outbox, orders } = message.content else { panic!("driven as {message:?}") };
                assert!(outbox.is_empty(), "{outbox:?}");
                for order in &orders {
                    store.plant(order, OrderStatus::Held);
                }
            }
            for (id, _, status) in std::mem::take(&mut store.lock().moves) {
                inventory.lock().orders.get_mut(&id).unwrap().status = status;
            }
            if inventory.lock().fenced {
                let rows = store.lock().orders.clone().into_values();
                let known = rows.map(|row| (row.order.id, KnownOrder { order: row.order, status: row.status }));
                let mut state = inventory.lock();
                (state.orders, state.off, state.fenced) = (known.collect(), (0, 0, 0), false);
                store.lock().recoveries += 1;
            }
        }
    });
    (planted, sale)
}

async fn run(planted: &Planted, only: Option<&Sale>, dry_run: bool) -> Repair {
    let (store, inventory) = (Arc::clone(&planted.store), Arc::clone(&planted.inventory));
    let auditor = Auditor::new(store, inventory, Arc::clone(&planted.topology) as _, planted.epochs.clone());
    let repairer = Repairer::new(auditor, Arc::clone(&planted.publisher) as _);
    let only = only.map(|sale| &sale.id);
    repairer.repair(only, (Duration::ZERO, dry_run), &CancellationToken::new()).await.unwrap()
}

/// Tries it dry, and does it: both tell of this one step, and afterwards all is well.
async fn heals(planted: &Planted, kind: Kind, ids: &[u8]) -> Action {
    let dry = run(planted, None, true).await;
    assert_eq!((dry.verdict(), &dry.after), (Verdict::Broken, &None), "{dry:#?}");
    let again = run(planted, None, true).await;
    assert_eq!(again, dry, "a dry run changes nothing");
    let done = run(planted, None, false).await;
    assert_eq!(done.verdict(), Verdict::Clean, "{done:#?}");
    let [foretold] = dry.actions.as_slice() else { panic!("one step: {:#?}", dry.actions) };
    let [action] = done.actions.as_slice() else { panic!("one step: {:#?}", done.actions) };
    let orders: Vec<_> = ids.iter().map(|id| OrderId([*id; 16]).to_string()).collect();
    assert_eq!((foretold.kind, foretold.done, &foretold.why_not, &foretold.orders), (kind, false, &None, &orders));
    assert_eq!((action.kind, action.done, &action.why_not, &action.orders), (kind, true, &None, &orders));
    action.clone()
}

#[tokio::test(start_paused = true)]
async fn what_is_sound_is_left_alone() {
    let (planted, _) = sound().await;
    let repair = run(&planted, None, false).await;
    assert_eq!((repair.actions.len(), repair.verdict()), (0, Verdict::Clean));
}

#[tokio::test(start_paused = true)]
async fn a_stranded_order_is_driven_again_and_stored() {
    let (planted, sale) = sound().await;
    planted.inventory.plant(&planted::order(&sale, 11, "b"), OrderStatus::Held);
    heals(&planted, Kind::Drive, &[11]).await;
    assert_eq!(planted.store.lock().orders[&OrderId([11; 16])].status, OrderStatus::Held);
    assert_eq!(planted.store.lock().recoveries, 0, "the counters were right all along");
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_counts_wrong_is_recounted() {
    let (planted, _) = sound().await;
    planted.store.lock().guard_off = 1;
    heals(&planted, Kind::Recount, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_waits_for_an_order_that_is_there_is_applied() {
    let (planted, sale) = sound().await;
    let left = payment(&planted::order(&sale, 1, "b1"), "left", PaymentState::Unmatched);
    planted.store.lock().payments.insert(OrderId([1; 16]), vec![left]);
    heals(&planted, Kind::MatchPayments, &[1]).await;
    assert_eq!(planted.inventory.lock().orders[&OrderId([1; 16])].status, OrderStatus::Paid);
}

#[tokio::test(start_paused = true)]
async fn an_inventory_that_forgot_an_order_is_rebuilt() {
    let (planted, _) = sound().await;
    planted.inventory.lock().orders.remove(&OrderId([2; 16]));
    let action = heals(&planted, Kind::Rebuild, &[2]).await;
    assert_eq!(action.subject, "p0.e1");
    assert_eq!(action.what, "rebuild the inventory from the store; it is p0.e2 now");
}

#[tokio::test(start_paused = true)]
async fn an_inventory_that_did_not_follow_an_end_is_rebuilt() {
    let (planted, sale) = sound().await;
    planted.order(&sale, 3, "b3", OrderStatus::Expired);
    planted.inventory.lock().orders.get_mut(&OrderId([3; 16])).unwrap().status = OrderStatus::Held;
    heals(&planted, Kind::Rebuild, &[3]).await;
}

#[tokio::test(start_paused = true)]
async fn an_inventory_whose_counters_drifted_is_rebuilt() {
    let (planted, _) = sound().await;
    planted.inventory.lock().off = (-1, 1, 0);
    heals(&planted, Kind::Rebuild, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn counters_that_differ_while_things_move_are_left_to_arrive() {
    let (planted, sale) = sound().await;
    planted.inventory.plant_in_motion(&planted::order(&sale, 11, "b"));
    let repair = run(&planted, None, false).await;
    assert_eq!((repair.actions.len(), repair.verdict()), (0, Verdict::InMotion), "{repair:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_that_would_forget_an_order_is_not_made() {
    let (planted, sale) = sound().await;
    planted.inventory.lock().orders.remove(&OrderId([2; 16]));
    planted.inventory.plant(&planted::order(&sale, 11, "b"), OrderStatus::Paid);
    let repair = run(&planted, None, false).await;
    let [action] = repair.actions.as_slice() else { panic!("one step: {:#?}", repair.actions) };
    assert_eq!((action.kind, action.done, repair.verdict()), (Kind::Rebuild, false, Verdict::Broken));
    let why = action.why_not.as_deref().unwrap();
    assert_eq!(why, "it would forget orders of s that only the inventory has");
    assert_eq!(planted.store.lock().recoveries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_for_one_sale_looks_at_all_sales_of_its_scope() {
    let (planted, sale) = sound().await;
    let other = planted.sale("t", 1);
    planted.inventory.lock().orders.remove(&OrderId([2; 16]));
    planted.inventory.plant(&planted::order(&other, 11, "b"), OrderStatus::Held);
    let repair = run(&planted, Some(&sale), false).await;
    let [action] = repair.actions.as_slice() else { panic!("one step: {:#?}", repair.actions) };
    assert_eq!((action.done, planted.store.lock().recoveries), (false, 0), "{action:?}");
    let repair = run(&planted, None, false).await;
    assert_eq!(repair.verdict(), Verdict::Clean, "{repair:#?}");
    let kinds: Vec<_> = repair.actions.iter().map(|action| (action.kind, action.done)).collect();
    assert_eq!(kinds, [(Kind::Drive, true), (Kind::Rebuild, true)]);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_the_store_refused_is_not_driven_at_it_again() {
    let (planted, sale) = sound().await;
    let order = planted::order(&sale, 11, "b");
    planted.inventory.plant(&order, OrderStatus::Held);
    planted.store.lock().quarantined.push(order);
    let repair = run(&planted, None, false).await;
    assert!(repair.actions.iter().all(|action| action.kind == Kind::Rebuild && !action.done), "{repair:#?}");
    assert_eq!((repair.verdict(), planted.store.lock().orders.len()), (Verdict::Broken, 2));
}

#[tokio::test(start_paused = true)]
async fn a_repair_reads_back_what_it_writes() {
    let (planted, _) = sound().await;
    planted.store.lock().guard_off = 1;
    let repair = run(&planted, None, true).await;
    let json = serde_json::to_value(&repair).unwrap();
    assert_eq!((&json["actions"][0]["kind"], &json["dry_run"]), (&"recount".into(), &true.into()));
    assert_eq!(serde_json::from_value::<Repair>(json).unwrap(), repair);
}
