//! Partitions, epochs and the snapshot of a recovery.

use rushgate::domain::OrderStatus::{Cancelled, Held, Paid};
use rushgate::domain::{Epoch, Partition};
use rushgate::store::PartitionState;
use tokio::task::JoinSet;

use super::rig::{GRACE, Rig, concert, id, payment, scope};

pub(super) async fn a_partition_has_no_row_before_it_is_fenced(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    assert_eq!(rig.store.partition(Partition(3)).await.unwrap(), None);
    assert_eq!(rig.store.fence(Partition(3), None).await.unwrap(), Some(Epoch(1)));
    let row = rig.store.partition(Partition(3)).await.unwrap().unwrap();
    assert_eq!((row.partition, row.epoch, row.state), (Partition(3), Epoch(1), PartitionState::Fenced));
    assert_eq!((row.min_epoch, row.identity.as_str()), (Epoch(0), ""));
    assert_eq!(rig.store.fence(Partition(3), None).await.unwrap(), None);
    assert_eq!(rig.store.fence(Partition(3), Some(Epoch(7))).await.unwrap(), None);
    assert_eq!(rig.store.fence(Partition(3), Some(Epoch(1))).await.unwrap(), Some(Epoch(2)));
}

pub(super) async fn of_two_who_fence_at_once_one_wins(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    for seen in [None, Some(Epoch(1)), Some(Epoch(2))] {
        let mut recoverers = JoinSet::new();
        for _ in 0..8 {
            let store = rig.another();
            recoverers.spawn(async move { store.fence(Partition(0), seen).await.unwrap() });
        }
        let won: Vec<_> = recoverers.join_all().await.into_iter().flatten().collect();
        assert_eq!(won, [Epoch(seen.map_or(1, |epoch| epoch.0 + 1))]);
    }
}

pub(super) async fn only_the_current_scope_is_opened(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    assert!(!rig.store.open_partition(scope(0, 1), "run-1").await.unwrap());
    rig.store.fence(Partition(0), None).await.unwrap();
    rig.store.fence(Partition(0), Some(Epoch(1))).await.unwrap();
    assert!(!rig.store.open_partition(scope(0, 1), "run-1").await.unwrap());
    assert!(rig.store.open_partition(scope(0, 2), "run-2").await.unwrap());
    assert!(rig.store.open_partition(scope(0, 2), "run-2").await.unwrap(), "opening is safe to repeat");
    let row = rig.store.partition(Partition(0)).await.unwrap().unwrap();
    assert_eq!((row.epoch, row.state, row.identity.as_str()), (Epoch(2), PartitionState::Open, "run-2"));
    rig.store.fence(Partition(0), Some(Epoch(2))).await.unwrap();
    let row = rig.store.partition(Partition(0)).await.unwrap().unwrap();
    assert_eq!((row.state, row.identity.as_str()), (PartitionState::Fenced, ""));
}

pub(super) async fn barriers_are_stored_once_per_lane_and_scope(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    let mut recorder = rig.store.recorder().await.unwrap();
    for lane in [3, 0, 3] {
        recorder.barrier(scope(0, 2), lane).await.unwrap();
    }
    recorder.barrier(scope(0, 1), 9).await.unwrap();
    recorder.barrier(scope(1, 2), 9).await.unwrap();
    assert_eq!(rig.store.barriers(scope(0, 2)).await.unwrap(), [0, 3]);
    assert!(rig.store.barriers(scope(0, 3)).await.unwrap().is_empty());
}

pub(super) async fn min_epoch_is_set_by_the_current_epoch_only(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    let refused = async |epoch| {
        let fault = rig.store.set_min_epoch(scope(0, epoch)).await.unwrap_err();
        assert!(fault.0.contains("partition 0"), "{fault}");
    };
    refused(1).await;
    rig.store.fence(Partition(0), None).await.unwrap();
    rig.store.fence(Partition(0), Some(Epoch(1))).await.unwrap();
    refused(1).await;
    assert_eq!(rig.store.partition(Partition(0)).await.unwrap().unwrap().min_epoch, Epoch(0));
    rig.store.set_min_epoch(scope(0, 2)).await.unwrap();
    rig.store.set_min_epoch(scope(0, 2)).await.unwrap();
    refused(1).await;
    refused(3).await;
    assert_eq!(rig.store.partition(Partition(0)).await.unwrap().unwrap().min_epoch, Epoch(2));
}

pub(super) async fn a_snapshot_has_the_sales_of_the_partition_and_all_their_orders(rig: &Rig) {
    let sale = rig.selling(10).await;
    let elsewhere = (0..1000)
        .map(|n| concert(&format!("x{n}"), 5))
        .find(|other| Partition::of(&other.id, 4) != Partition::of(&sale.id, 4));
    let elsewhere = elsewhere.unwrap();
    rig.put(&elsewhere).await;
    rig.recorded(0..5).await;
    rig.record(&[rig.order_of(elsewhere.id.as_str(), 77, rig.order(0).order.lines)]).await;
    rig.store.pay(&payment("e", 1), GRACE).await.unwrap();
    rig.store.cancel(id(2), None).await.unwrap();

    let snapshot = rig.store.snapshot(Partition::of(&sale.id, 4), 4).await.unwrap();
    assert_eq!(snapshot.sales, [sale]);
    let mut orders = snapshot.orders;
    orders.sort_by_key(|(order, _)| order.buyer.clone());
    let statuses: Vec<_> = orders.iter().map(|(_, status)| *status).collect();
    assert_eq!(statuses, [Held, Paid, Cancelled, Held, Held]);
    assert_eq!(orders[0].0, rig.order(0).order);

    let whole = rig.store.snapshot(Partition(0), 1).await.unwrap();
    assert_eq!((whole.sales.len(), whole.orders.len()), (2, 6));
}

pub(super) async fn a_snapshot_waits_for_no_batch_and_sees_none_in_half(rig: &Rig) {
    rig.selling(10_000).await;
    rig.put(&concert("d", 10_000)).await;
    let store = rig.another();
    let batches: Vec<_> = (0..40)
        .map(|batch| {
            // Every batch has as many orders of one sale as of the other.
            let orders = (batch * 50..(batch + 1) * 50).map(|n| {
                let sale = if n % 2 == 0 { "c" } else { "d" };
                rig.order_of(sale, n, rig.order(0).order.lines)
            });
            orders.collect::<Vec<_>>()
        })
        .collect();
    let mut writer = JoinSet::new();
    writer.spawn(async move {
        let mut recorder = store.recorder().await.unwrap();
        for batch in &batches {
            recorder.record(batch).await.unwrap();
        }
    });
    let mut seen = 0;
    while seen < 2000 {
        let snapshot = rig.store.snapshot(Partition(0), 1).await.unwrap();
        let of_c = snapshot.orders.iter().filter(|(order, _)| order.sale.as_str() == "c").count();
        assert_eq!(of_c * 2, snapshot.orders.len(), "both sales are seen at the same moment");
        assert!(snapshot.orders.len() >= seen);
        seen = snapshot.orders.len();
    }
    writer.join_all().await;
}
