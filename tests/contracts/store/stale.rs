//! Orders that came too late for their epoch, until they are stored or refused.

use rushgate::domain::{Epoch, Partition, Refusal};
use rushgate::store::{Recordable, StaleState};

use super::rig::{Rig, id, scope};

/// Sells ten units in epoch 2; the first epoch is over.
async fn second_epoch(rig: &Rig) {
    rig.selling(10).await;
    rig.store.fence(Partition(0), None).await.unwrap();
    rig.store.fence(Partition(0), Some(Epoch(1))).await.unwrap();
    rig.store.set_min_epoch(scope(0, 2)).await.unwrap();
}

async fn listed(rig: &Rig, state: StaleState) -> Vec<rushgate::domain::OrderId> {
    rig.store.stale_orders(state, 100).await.unwrap().into_iter().map(|stale| stale.order.id).collect()
}

pub(super) async fn stale_orders_are_listed_as_they_came(rig: &Rig) {
    second_epoch(rig).await;
    let orders = rig.orders(1..4);
    assert_eq!(rig.record(&orders[..1]).await.stale, [id(1)]);
    rig.advance(std::time::Duration::from_secs(1));
    rig.record(&orders).await;
    let waiting = rig.store.stale_orders(StaleState::Waiting, 100).await.unwrap();
    assert_eq!(waiting.len(), 3);
    let (first, kept) = (&orders[0], &waiting[0]);
    assert_eq!((&kept.order, kept.scope, kept.state), (&first.order, first.scope, StaleState::Waiting));
    assert!(kept.reason.is_empty() && kept.kept_at >= rig.start && kept.kept_at < waiting[1].kept_at, "{kept:?}");
    assert_eq!(rig.store.stale_orders(StaleState::Waiting, 2).await.unwrap(), waiting[..2]);
    assert_eq!(listed(rig, StaleState::Refused).await, []);
}

pub(super) async fn a_stale_order_is_readmitted_when_it_is_stored(rig: &Rig) {
    second_epoch(rig).await;
    rig.record(&rig.orders(1..3)).await;
    assert!(!rig.store.readmitted(id(1)).await.unwrap(), "it is not stored yet");
    rig.record(&[Recordable { scope: scope(0, 2), ..rig.order(1) }]).await;
    for _ in 0..2 {
        assert!(rig.store.readmitted(id(1)).await.unwrap());
    }
    rig.store.refuse_stale(id(1), &Refusal::SoldOut).await.unwrap();
    assert_eq!(listed(rig, StaleState::Readmitted).await, [id(1)]);
    assert_eq!(listed(rig, StaleState::Waiting).await, [id(2)]);
    assert!(!rig.store.readmitted(id(9)).await.unwrap(), "nobody knows it");
    assert_eq!((rig.live().await, rig.tally().await.stale), (1, 1));
}

pub(super) async fn a_stale_order_that_is_refused_stays_so_and_is_counted(rig: &Rig) {
    second_epoch(rig).await;
    rig.record(&rig.orders(1..3)).await;
    for refusal in [Refusal::SoldOut, Refusal::Closed] {
        rig.store.refuse_stale(id(1), &refusal).await.unwrap();
    }
    assert_eq!(rig.record(&[rig.order(1)]).await.stale, [id(1)], "the same message comes again");
    let refused = rig.store.stale_orders(StaleState::Refused, 100).await.unwrap();
    assert_eq!((refused.len(), refused[0].order.id, refused[0].reason.as_str()), (1, id(1), "sold_out"));
    let tally = rig.tally().await;
    assert_eq!((tally.stale, tally.stale_refused, tally.legs[0].live), (1, 1, 0));
    // Its buyer asks once more, and this time there is a unit.
    rig.record(&[Recordable { scope: scope(0, 2), ..rig.order(1) }]).await;
    assert_eq!(rig.tally().await.stale_refused, 0);
}

pub(super) async fn one_that_was_stored_meanwhile_is_not_refused(rig: &Rig) {
    second_epoch(rig).await;
    rig.record(&[rig.order(1)]).await;
    rig.record(&[Recordable { scope: scope(0, 2), ..rig.order(1) }]).await;
    rig.store.refuse_stale(id(1), &Refusal::SoldOut).await.unwrap();
    assert_eq!(listed(rig, StaleState::Waiting).await, [id(1)]);
    assert!(rig.store.readmitted(id(1)).await.unwrap());
}
