//! Batches on their way in.

use rushgate::domain::{Epoch, OrderStatus, Partition, PassengerId};
use rushgate::store::{OrderRow, RecordFault, Recordable, Recorded};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::rig::{Rig, id, line, scope, train};

fn fresh(fresh: u32) -> Recorded {
    Recorded { fresh, ..Recorded::default() }
}

fn known(known: u32) -> Recorded {
    Recorded { known, ..Recorded::default() }
}

pub(super) async fn a_batch_is_recorded_once_however_often_it_comes(rig: &Rig) {
    rig.selling(10).await;
    let mut recorder = rig.store.recorder().await.unwrap();
    assert_eq!(recorder.record(&[]).await.unwrap(), Recorded::default());
    assert_eq!(recorder.record(&rig.orders(0..4)).await.unwrap(), fresh(4));
    assert_eq!(recorder.record(&rig.orders(0..4)).await.unwrap(), known(4));
    assert_eq!(rig.record(&rig.orders(2..6)).await, Recorded { fresh: 2, known: 2, ..Recorded::default() });
    assert_eq!(rig.live().await, 6);
    rig.store.cancel(id(0), None).await.unwrap();
    assert_eq!(rig.record(&rig.orders(0..4)).await, known(4), "an order that ended is known all the same");
    assert_eq!((rig.live().await, rig.status(0).await), (5, Some(OrderStatus::Cancelled)));
}

pub(super) async fn an_order_reads_back_as_it_was_granted(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    rig.put(&train("g1", 10, 90)).await;
    let mut first = line("first", 1, 3, 1);
    first.passenger = Some("p-1".parse::<PassengerId>().unwrap());
    first.seat = Some("window".parse().unwrap());
    let mut one = rig.order_of("g1", 1, vec![first, line("second", 0, 4, 5)]);
    one.scope = scope(7, 3);
    rig.record(std::slice::from_ref(&one)).await;
    let OrderRow { order, status, scope, recorded_at, changed_at } = rig.store.order(id(1)).await.unwrap().unwrap();
    assert_eq!((order, scope, status), (one.order, one.scope, OrderStatus::Held));
    assert!(recorded_at >= rig.start && recorded_at == changed_at);
    assert_eq!(rig.store.history(id(1)).await.unwrap(), [(recorded_at, OrderStatus::Held)]);
    assert_eq!(rig.moves().await, [], "a hold is no move: the inventory made it");
}

pub(super) async fn an_order_that_stands_twice_in_a_batch_is_one(rig: &Rig) {
    rig.selling(10).await;
    let batch = [rig.order(1), rig.order(2), rig.order(1)];
    assert_eq!(rig.record(&batch).await, Recorded { fresh: 2, known: 1, ..Recorded::default() });
    assert_eq!(rig.live().await, 2);
}

pub(super) async fn overlapping_batches_of_many_recorders_are_recorded_once(rig: &Rig) {
    rig.selling(1000).await;
    let mut writers = JoinSet::new();
    for n in 0..8 {
        let (store, batch) = (rig.another(), rig.orders(n * 20..n * 20 + 100));
        writers.spawn(async move {
            // As a writer does: what is not known to be stored is replayed on a new recorder.
            for _ in 0..20 {
                match store.recorder().await.unwrap().record(&batch).await {
                    Ok(recorded) => return recorded.fresh,
                    Err(RecordFault::Unavailable(_)) => {}
                    Err(fault) => panic!("{fault}"),
                }
            }
            panic!("twenty tries were not enough");
        });
    }
    let fresh: u32 = writers.join_all().await.into_iter().sum();
    assert_eq!((fresh, rig.live().await), (240, 240));
}

pub(super) async fn nothing_of_a_batch_over_the_guard_is_stored(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(0..8).await;
    let mut recorder = rig.store.recorder().await.unwrap();
    let fault = recorder.record(&rig.orders(8..11)).await.unwrap_err();
    assert_eq!(fault, RecordFault::Guard { sale: "c".parse().unwrap(), pool: "standard".parse().unwrap(), leg: 0 });
    assert_eq!((rig.status(8).await, rig.live().await), (None, 8));
    assert_eq!(recorder.record(&rig.orders(8..10)).await.unwrap(), fresh(2), "the recorder goes on after it");
    assert_eq!(rig.live().await, 10);
}

pub(super) async fn the_guard_names_the_leg_that_does_not_hold(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    rig.put(&train("g1", 10, 3)).await;
    rig.record(&[rig.order_of("g1", 1, vec![line("second", 2, 3, 2)])]).await;
    let mut recorder = rig.store.recorder().await.unwrap();
    let batch = [
        rig.order_of("g1", 2, vec![line("first", 0, 4, 10)]),
        rig.order_of("g1", 3, vec![line("second", 0, 2, 3)]),
        rig.order_of("g1", 4, vec![line("second", 2, 4, 2)]),
    ];
    let fault = recorder.record(&batch).await.unwrap_err();
    assert_eq!(fault, RecordFault::Guard { sale: "g1".parse().unwrap(), pool: "second".parse().unwrap(), leg: 2 });
    assert_eq!(rig.store.tally(&"g1".parse().unwrap()).await.unwrap().legs.iter().map(|leg| leg.live).sum::<u32>(), 2);
    assert_eq!(recorder.record(&batch[..2]).await.unwrap(), fresh(2));
    let legs = rig.store.tally(&"g1".parse().unwrap()).await.unwrap().legs;
    assert_eq!(legs.iter().map(|leg| leg.live).collect::<Vec<_>>(), [10, 10, 10, 10, 3, 3, 2, 0]);
}

pub(super) async fn a_sale_that_is_unknown_is_a_guard_that_does_not_hold(rig: &Rig) {
    rig.selling(10).await;
    let mut recorder = rig.store.recorder().await.unwrap();
    let batch = [rig.order(1), rig.order_of("nobody", 2, vec![line("standard", 0, 1, 1)])];
    let fault = recorder.record(&batch).await.unwrap_err();
    assert!(matches!(fault, RecordFault::Guard { ref sale, .. } if sale.as_str() == "nobody"), "{fault}");
    assert_eq!(rig.status(1).await, None);
}

pub(super) async fn recorders_never_grant_more_than_the_capacity_between_them(rig: &Rig) {
    rig.selling(50).await;
    let mut writers = JoinSet::new();
    for n in 0..8 {
        let (store, orders) = (rig.another(), rig.orders(n * 10..n * 10 + 10));
        writers.spawn(async move {
            let mut recorder = store.recorder().await.unwrap();
            let mut refused = 0;
            for one in orders {
                match recorder.record(std::slice::from_ref(&one)).await {
                    Ok(_) => {}
                    Err(RecordFault::Guard { .. }) => refused += 1,
                    Err(fault) => panic!("{fault}"),
                }
            }
            refused
        });
    }
    let refused: u32 = writers.join_all().await.into_iter().sum();
    assert_eq!((refused, rig.live().await), (30, 50));
}

pub(super) async fn a_batch_with_content_that_does_not_fit_is_rejected_whole(rig: &Rig) {
    rig.selling(10_000).await;
    let huge = rig.order_of("c", 2, vec![line("standard", 0, 1, 1); 400]);
    let mut recorder = rig.store.recorder().await.unwrap();
    let fault = recorder.record(&[rig.order(1), huge.clone(), rig.order(3)]).await.unwrap_err();
    assert!(matches!(fault, RecordFault::Rejected(_)), "{fault}");
    assert_eq!((rig.status(1).await, rig.status(3).await), (None, None));
    recorder.quarantine(&[huge], "does not fit").await.unwrap();
    assert_eq!(recorder.record(&[rig.order(1), rig.order(3)]).await.unwrap(), fresh(2));
    assert_eq!((rig.live().await, rig.tally().await.quarantined), (2, 1));
}

fn in_epoch(mut one: Recordable, epoch: u64) -> Recordable {
    one.scope = scope(0, epoch);
    one
}

pub(super) async fn orders_of_an_old_epoch_are_kept_as_stale(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(0..2).await;
    rig.store.fence(Partition(0), None).await.unwrap();
    rig.store.fence(Partition(0), Some(Epoch(1))).await.unwrap();
    assert_eq!(rig.record(&[rig.order(2)]).await, fresh(1), "fenced alone is not late: the barrier is still to come");
    rig.store.set_min_epoch(scope(0, 2)).await.unwrap();
    let mut elsewhere = rig.order(9);
    elsewhere.scope = scope(1, 1);
    let batch = [rig.order(0), rig.order(3), in_epoch(rig.order(4), 2), elsewhere];
    for (fresh, known) in [(2, 1), (0, 3)] {
        let recorded = Recorded { fresh, known, stale: vec![id(3)], ..Recorded::default() };
        assert_eq!(rig.record(&batch).await, recorded, "a partition's epochs are its own");
    }
    assert_eq!((rig.status(3).await, rig.live().await), (None, 5));
    assert_eq!(rig.tally().await.stale, 1);
}

pub(super) async fn a_stale_order_that_is_admitted_again_is_no_longer_stale(rig: &Rig) {
    rig.selling(10).await;
    rig.store.fence(Partition(0), None).await.unwrap();
    rig.store.fence(Partition(0), Some(Epoch(1))).await.unwrap();
    rig.store.set_min_epoch(scope(0, 2)).await.unwrap();
    assert_eq!(rig.record(&[rig.order(1)]).await.stale, [id(1)]);
    assert_eq!(rig.tally().await.stale, 1);
    assert_eq!(rig.record(&[rig.order(1), in_epoch(rig.order(1), 2)]).await.fresh, 1);
    assert_eq!((rig.tally().await.stale, rig.live().await), (0, 1));
}

pub(super) async fn quarantined_orders_are_kept_and_counted_once(rig: &Rig) {
    rig.selling(10).await;
    let mut recorder = rig.store.recorder().await.unwrap();
    for _ in 0..2 {
        recorder.quarantine(&rig.orders(0..3), &"why ".repeat(1000)).await.unwrap();
    }
    recorder.quarantine(&[], "nothing").await.unwrap();
    assert_eq!(rig.tally().await.quarantined, 3);
    recorder.record(&rig.orders(0..1)).await.unwrap();
    assert_eq!(rig.tally().await.quarantined, 2, "one that was recorded after all is out of it");
}

pub(super) async fn ids_that_differ_in_case_are_different(rig: &Rig) {
    rig.selling(10).await;
    rig.put(&super::rig::concert("C", 1)).await;
    rig.record(&[rig.order_of("C", 1, vec![line("standard", 0, 1, 1)])]).await;
    assert_eq!(rig.live().await, 0);
    let mut one = rig.order(2);
    one.order.buyer = "B1".parse().unwrap();
    rig.record(&[one]).await;
    let buyer = |name: &str| rushgate::store::OrderFilter {
        buyer: Some(name.parse().unwrap()),
        limit: 10,
        ..Default::default()
    };
    assert_eq!(rig.store.orders(&buyer("b1")).await.unwrap()[0].order.id, id(1));
    assert_eq!(rig.store.orders(&buyer("B1")).await.unwrap()[0].order.id, id(2));
    let mut recorder = rig.store.recorder().await.unwrap();
    let fault = recorder.record(&[rig.order_of("c", 3, vec![line("STANDARD", 0, 1, 1)])]).await.unwrap_err();
    assert!(matches!(fault, RecordFault::Guard { .. }), "{fault}");
}

pub(super) async fn odd_ids_come_back_unchanged(rig: &Rig) {
    rig.selling(10).await;
    let visible: String = (33..127_u8).map(char::from).collect();
    let buyers = [visible.as_str(), "auth0|1/2,3", "';DROP/**/TABLE/**/orders;--", "%_\\", "?", "{}"];
    for (n, buyer) in (0..).zip(buyers) {
        let mut one = rig.order(n);
        one.order.buyer = buyer.parse().unwrap();
        one.order.id.0[..3].copy_from_slice(&[0, 0xff, b'\'']);
        rig.record(std::slice::from_ref(&one)).await;
        assert_eq!(rig.store.order(one.order.id).await.unwrap().unwrap().order, one.order);
    }
    let longest = "x".repeat(128);
    let mut one = rig.order(7);
    one.order.buyer = longest.parse().unwrap();
    rig.record(&[one]).await;
    assert_eq!(rig.store.order(id(7)).await.unwrap().unwrap().order.buyer.as_str(), longest);
}

pub(super) async fn a_batch_larger_than_a_statement_is_recorded(rig: &Rig) {
    rig.selling(2500).await;
    assert_eq!(rig.record(&rig.orders(0..2500)).await, fresh(2500));
    assert_eq!(rig.record(&rig.orders(0..2500)).await, known(2500));
    assert_eq!(rig.live().await, 2500);
}

/// No assertion on the time: a shared machine decides it. What it was is printed.
pub(super) async fn ten_thousand_orders_in_batches(rig: &Rig) {
    rig.selling(10_000).await;
    let mut recorder = rig.store.recorder().await.unwrap();
    let orders = rig.orders(0..10_000);
    let begun = Instant::now();
    for batch in orders.chunks(512) {
        recorder.record(batch).await.unwrap();
    }
    let took = begun.elapsed();
    println!("10,000 orders in batches of 512: {took:?}, {:.0} a second", 10_000.0 / took.as_secs_f64());
    assert_eq!(rig.live().await, 10_000);
}
