//! Lists, figures, and what is said of orders that are not there.

use std::time::Duration;

use rushgate::domain::{OrderId, OrderStatus};
use rushgate::store::{Due, Expiry, LegTally, OrderFilter, OrderRow, SaleTally};

use super::rig::{GRACE, HOLD, OVER, Rig, concert, id, line, payment, train};

async fn list(rig: &Rig, filter: OrderFilter) -> Vec<OrderId> {
    let rows: Vec<OrderRow> = rig.store.orders(&filter).await.unwrap();
    rows.into_iter().map(|row| row.order.id).collect()
}

pub(super) async fn orders_are_listed_newest_first_and_filtered(rig: &Rig) {
    let sale = rig.selling(10).await;
    rig.put(&concert("d", 10)).await;
    for n in 0..4 {
        let sale = if n == 2 { "d" } else { "c" };
        rig.record(&[rig.order_of(sale, n, vec![line("standard", 0, 1, 1)])]).await;
        rig.advance(Duration::from_secs(1));
    }
    rig.store.cancel(id(1), None).await.unwrap();
    let all = OrderFilter { limit: 10, ..OrderFilter::default() };
    assert_eq!(list(rig, all.clone()).await, [id(3), id(2), id(1), id(0)]);
    assert_eq!(list(rig, OrderFilter { limit: 2, ..all.clone() }).await, [id(3), id(2)]);
    assert_eq!(list(rig, OrderFilter { limit: 0, ..all.clone() }).await, []);
    assert_eq!(list(rig, OrderFilter { sale: Some(sale.id.clone()), ..all.clone() }).await, [id(3), id(1), id(0)]);
    let held = OrderFilter { status: Some(OrderStatus::Held), sale: Some(sale.id), ..all.clone() };
    assert_eq!(list(rig, held).await, [id(3), id(0)]);
    assert_eq!(list(rig, OrderFilter { buyer: Some("b2".parse().unwrap()), ..all.clone() }).await, [id(2)]);
    assert_eq!(list(rig, OrderFilter { status: Some(OrderStatus::Refunded), ..all }).await, []);
}

pub(super) async fn a_walk_by_id_meets_every_order_once(rig: &Rig) {
    let sale = rig.selling(1500).await;
    rig.recorded(0..1500).await;
    let mut expected: Vec<_> = (0..1500).map(id).collect();
    expected.sort_unstable();
    let mut met = Vec::new();
    let mut after = OrderId([0; 16]);
    loop {
        let filter =
            OrderFilter { sale: Some(sale.id.clone()), after: Some(after), limit: 5000, ..OrderFilter::default() };
        let page = list(rig, filter).await;
        assert!(page.len() <= 1000, "a page has its limit");
        let Some(last) = page.last() else { break };
        after = *last;
        met.extend(page);
    }
    // The walk begins after an id, and the smallest of all is order 0's.
    assert_eq!(id(0), OrderId([0; 16]));
    assert_eq!(met, expected[1..]);
}

pub(super) async fn the_next_release_is_the_earliest_held_order_of_the_sale(rig: &Rig) {
    let sale = rig.selling(10).await;
    rig.put(&concert("d", 10)).await;
    assert_eq!(rig.store.next_release(&sale.id, GRACE).await.unwrap(), None);
    let mut batch = rig.orders(0..3);
    for (n, one) in (0..).zip(&mut batch) {
        one.order.pay_by = one.order.pay_by.plus(Duration::from_secs(n));
    }
    let mut other = rig.order_of("d", 9, vec![line("standard", 0, 1, 1)]);
    other.order.pay_by = rig.start;
    batch.push(other);
    rig.record(&batch).await;
    let release = |seconds| Some(rig.start.plus(HOLD + GRACE + Duration::from_secs(seconds)));
    assert_eq!(rig.store.next_release(&sale.id, GRACE).await.unwrap(), release(0));
    rig.store.pay(&payment("e0", 0), GRACE).await.unwrap();
    assert_eq!(rig.store.next_release(&sale.id, GRACE).await.unwrap(), release(1));
    rig.store.cancel(id(1), None).await.unwrap();
    assert_eq!(rig.store.next_release(&sale.id, GRACE).await.unwrap(), release(2));
    rig.store.cancel(id(2), None).await.unwrap();
    assert_eq!(rig.store.next_release(&sale.id, GRACE).await.unwrap(), None);
}

pub(super) async fn a_tally_counts_orders_units_and_legs(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    rig.put(&train("g1", 10, 20)).await;
    rig.put(&concert("c", 5)).await;
    let batch = [
        rig.order_of("g1", 1, vec![line("first", 0, 2, 1)]),
        rig.order_of("g1", 2, vec![line("first", 1, 4, 2), line("second", 3, 4, 5)]),
        rig.order_of("g1", 3, vec![line("second", 0, 1, 1)]),
        rig.order(4),
    ];
    rig.record(&batch).await;
    rig.store.pay(&payment("e1", 1), GRACE).await.unwrap();
    rig.store.pay(&payment("e2", 1), GRACE).await.unwrap();
    rig.store.cancel(id(3), None).await.unwrap();
    rig.store.recorder().await.unwrap().quarantine(&rig.orders(9..10), "x").await.unwrap();
    let tally = rig.store.tally(&"g1".parse().unwrap()).await.unwrap();
    let leg = |pool: &str, leg, held, paid| LegTally {
        pool: pool.parse().unwrap(),
        leg,
        capacity: if pool == "first" { 10 } else { 20 },
        live: held + paid,
        held,
        paid,
    };
    let expected = SaleTally {
        by_status: vec![
            (OrderStatus::Held, 1, 7),
            (OrderStatus::Paid, 1, 1),
            (OrderStatus::Expired, 0, 0),
            (OrderStatus::Cancelled, 1, 1),
            (OrderStatus::Refunded, 0, 0),
        ],
        legs: vec![
            leg("first", 0, 0, 1),
            leg("first", 1, 2, 1),
            leg("first", 2, 2, 0),
            leg("first", 3, 2, 0),
            leg("second", 0, 0, 0),
            leg("second", 1, 0, 0),
            leg("second", 2, 0, 0),
            leg("second", 3, 5, 0),
        ],
        refunds_due: 1,
        moves_waiting: 2,
        late: 0,
        stale: 0,
        stale_refused: 0,
        quarantined: 0,
    };
    assert_eq!(tally, expected);
    assert_eq!(rig.tally().await.quarantined, 1);
    rig.forget_live("g1", "first", 1).await;
    let broken = &rig.store.tally(&"g1".parse().unwrap()).await.unwrap().legs[1];
    assert_eq!((broken.live, broken.held + broken.paid), (0, 3), "the two counts are independent");
    rig.advance(OVER);
    let refused = rig.store.expire(GRACE, Due::first(10)).await.unwrap();
    assert!(matches!(refused, Expiry::Refused(_)), "a guard would fall below zero: {refused:?}");
    assert_eq!(rig.status(2).await, Some(OrderStatus::Held));
}

pub(super) async fn an_order_that_nobody_knows_has_nothing(rig: &Rig) {
    rig.selling(10).await;
    assert_eq!(rig.store.order(id(1)).await.unwrap(), None);
    assert_eq!(rig.store.history(id(1)).await.unwrap(), []);
    assert_eq!(rig.store.payments(id(1)).await.unwrap(), []);
    let nothing = rig.store.tally(&"nobody".parse().unwrap()).await.unwrap();
    assert!(nothing.legs.is_empty() && nothing.by_status.iter().all(|(_, orders, units)| orders + units == 0));
}
