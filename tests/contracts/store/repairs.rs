//! What an operator's repair sets right.

use std::sync::Arc;

use rushgate::domain::OrderStatus;
use rushgate::store::{Recounted, Store};
use tokio::task::JoinSet;

use super::rig::{GRACE, HOLD, Rig, concert, id, line, payment, train};

pub(super) async fn a_guard_that_counts_wrong_is_counted_again(rig: &Rig) {
    let sale = rig.selling(10).await;
    rig.put(&train("t", 5, 5)).await;
    rig.recorded(0..4).await;
    rig.record(&[rig.order_of("t", 9, vec![line("second", 1, 3, 2)])]).await;
    rig.store.pay(&payment("e", 1), GRACE).await.unwrap();
    rig.store.cancel(id(2), None).await.unwrap();
    assert_eq!(rig.store.recount(&sale.id).await.unwrap(), [], "it was right");
    rig.sql("UPDATE pool_legs SET live = 7 WHERE sale_id = 'c'").await;
    rig.sql("UPDATE pool_legs SET live = 1 WHERE sale_id = 't' AND pool_id = 'second' AND leg IN (0, 2)").await;
    let row = |pool: &str, leg, was, live| Recounted { pool: pool.parse().unwrap(), leg, was, live };
    assert_eq!(rig.store.recount(&sale.id).await.unwrap(), [row("standard", 0, 7, 3)]);
    assert_eq!(rig.live().await, 3);
    let of_train = rig.store.recount(&"t".parse().unwrap()).await.unwrap();
    assert_eq!(of_train, [row("second", 0, 1, 0), row("second", 2, 1, 2)]);
    assert_eq!(rig.store.recount(&"nobody".parse().unwrap()).await.unwrap(), []);
}

pub(super) async fn a_guard_of_more_than_there_is_is_left(rig: &Rig) {
    let sale = rig.selling(3).await;
    rig.recorded(0..3).await;
    rig.sql("UPDATE pool_legs SET live = 1, capacity = 2 WHERE sale_id = 'c'").await;
    assert_eq!(rig.store.recount(&sale.id).await.unwrap(), []);
    let tally = rig.store.tally(&sale.id).await.unwrap();
    assert_eq!((tally.legs[0].live, tally.legs[0].held), (1, 3));
}

/// Recorders, cancels and recounts at once: whatever order they come in, the guard is right at the end, and was before.
pub(super) async fn a_recount_beside_those_who_write_is_exact(rig: &Rig) {
    let sale = rig.selling(1000).await;
    let mut work = JoinSet::new();
    for writer in 0..4 {
        let batches: Vec<_> =
            (0..10).map(|batch| rig.orders(writer * 100 + batch * 10..writer * 100 + batch * 10 + 10)).collect();
        let store: Arc<dyn Store> = Arc::clone(&rig.store);
        work.spawn(async move {
            let mut recorder = store.recorder().await.unwrap();
            for batch in batches {
                recorder.record(&batch).await.unwrap();
                store.cancel(batch[0].order.id, None).await.unwrap();
            }
        });
    }
    let mut wrong = 0;
    while !work.is_empty() {
        wrong += rig.store.recount(&sale.id).await.unwrap().len();
        while work.try_join_next().is_some_and(|ended| ended.is_ok()) {}
    }
    assert_eq!(wrong, 0, "nothing was wrong at any moment");
    assert_eq!(rig.live().await, 400 - 40);
}

pub(super) async fn a_payment_that_was_left_behind_is_applied_as_its_recording_would_have(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(0..3).await;
    rig.store.pay(&payment("in-time", 0), GRACE).await.unwrap();
    rig.store.cancel(id(1), None).await.unwrap();
    rig.store.pay(&payment("too-late", 1), GRACE).await.unwrap();
    // As if they had come before their orders, and the recording had overlooked them.
    rig.sql("UPDATE payment_events SET state = 'unmatched'").await;
    rig.sql("DELETE FROM order_events WHERE status = 'paid'").await;
    rig.sql("DELETE FROM stock_moves").await;
    rig.sql("UPDATE orders SET status = 'held' WHERE status = 'paid'").await;
    rig.advance(HOLD + GRACE * 2);
    rig.store.match_payments(&[id(0), id(1), id(2), id(99)]).await.unwrap();
    assert_eq!(
        [rig.status(0).await, rig.status(1).await, rig.status(2).await],
        [Some(OrderStatus::Paid), Some(OrderStatus::Cancelled), Some(OrderStatus::Held),]
    );
    let states =
        async |n| rig.store.payments(id(n)).await.unwrap().iter().map(|row| row.state.as_str()).collect::<Vec<_>>();
    assert_eq!((states(0).await, states(1).await), (vec!["applied"], vec!["refund_due"]));
    assert_eq!(rig.moves().await, [(id(0), OrderStatus::Paid)]);
    rig.store.match_payments(&[id(0), id(1)]).await.unwrap();
    assert_eq!(rig.moves().await.len(), 1, "once");
    assert_eq!(rig.live().await, 2);
}

pub(super) async fn orders_in_quarantine_are_named_until_they_are_rows(rig: &Rig) {
    let sale = rig.selling(10).await;
    rig.put(&concert("d", 10)).await;
    let mut orders = rig.orders(0..3);
    orders.push(rig.order_of("d", 3, vec![line("standard", 0, 1, 1)]));
    rig.store.recorder().await.unwrap().quarantine(&orders, "odd").await.unwrap();
    let mut expected: Vec<_> = (0..3).map(id).collect();
    expected.sort_unstable();
    assert_eq!(rig.store.quarantined(&sale.id, 10).await.unwrap(), expected);
    assert_eq!(rig.store.quarantined(&sale.id, 2).await.unwrap(), expected[..2]);
    rig.recorded(0..1).await;
    expected.retain(|order| *order != id(0));
    assert_eq!(rig.store.quarantined(&sale.id, 10).await.unwrap(), expected);
}
