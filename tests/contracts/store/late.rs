//! Payments that came too late, and what the inventory said to them.

use std::sync::Arc;

use rushgate::domain::{Epoch, OrderStatus, Partition};
use rushgate::store::{CancelOutcome, Judged, LateClaim, PaymentOutcome, PaymentState};
use tokio::task::JoinSet;

use super::rig::{GRACE, OVER, Rig, expire, id, line, payment, scope, train};

const TAKEN: LateClaim = LateClaim::Taken(scope(0, 1));

/// Sells so many units in epoch 1. The orders with these numbers are recorded, and expired.
async fn expired(rig: &Rig, capacity: u32, numbers: std::ops::Range<u32>) {
    rig.selling(capacity).await;
    rig.store.fence(Partition(0), None).await.unwrap();
    let count = numbers.end - numbers.start;
    rig.recorded(numbers).await;
    rig.advance(OVER);
    assert_eq!(expire(&*rig.store, GRACE, 1000).await, count);
}

async fn pay_late(rig: &Rig, event: &str, n: u32) {
    let judged = rig.store.pay(&payment(event, n), GRACE).await.unwrap();
    assert!(matches!(judged, Judged { outcome: PaymentOutcome::Late(_), is_new: true }), "{judged:?}");
}

async fn settle(rig: &Rig, event: &str, claim: LateClaim) -> Judged {
    rig.store.settle_late(event, claim).await.unwrap()
}

fn is_paid(judged: &Judged) -> bool {
    matches!(judged.outcome, PaymentOutcome::Paid(_))
}

fn is_refund_due(judged: &Judged) -> bool {
    matches!(judged.outcome, PaymentOutcome::RefundDue(_))
}

async fn statuses(rig: &Rig, n: u32) -> Vec<OrderStatus> {
    rig.store.history(id(n)).await.unwrap().into_iter().map(|(_, status)| status).collect()
}

async fn late(rig: &Rig) -> Vec<String> {
    rig.store.late_payments(100).await.unwrap().into_iter().map(|late| late.event.id).collect()
}

pub(super) async fn a_late_payment_pays_an_expired_order_whose_units_were_taken_again(rig: &Rig) {
    expired(rig, 2, 1..2).await;
    pay_late(rig, "e1", 1).await;
    let waiting = rig.store.late_payments(10).await.unwrap();
    assert_eq!((waiting.len(), &waiting[0].event, waiting[0].sale.as_str()), (1, &payment("e1", 1), "c"));
    let Judged { outcome: PaymentOutcome::Paid(row), is_new: true } = settle(rig, "e1", TAKEN).await else {
        panic!("its units were taken");
    };
    assert_eq!((row.order.id, row.status), (id(1), OrderStatus::Paid));
    assert_eq!(rig.store.order(id(1)).await.unwrap().unwrap(), *row);
    let again = settle(rig, "e1", LateClaim::Refused).await;
    assert_eq!(again, Judged { outcome: PaymentOutcome::Paid(row.clone()), is_new: false }, "it stays as it is");
    let repeated = rig.store.pay(&payment("e1", 1), GRACE).await.unwrap();
    assert_eq!(repeated, Judged { outcome: PaymentOutcome::Paid(row), is_new: false });
    assert_eq!((rig.live().await, late(rig).await), (1, Vec::new()));
    assert_eq!(statuses(rig, 1).await, [OrderStatus::Held, OrderStatus::Expired, OrderStatus::Paid]);
    assert_eq!(rig.moves().await, [(id(1), OrderStatus::Expired), (id(1), OrderStatus::Paid)]);
    assert!(matches!(rig.store.refund(id(1)).await.unwrap(), CancelOutcome::Done(_)));
    assert_eq!((rig.live().await, rig.tally().await.refunds_due), (0, 1));
}

pub(super) async fn a_late_payment_pays_an_order_that_did_not_expire_yet(rig: &Rig) {
    rig.selling(1).await;
    rig.store.fence(Partition(0), None).await.unwrap();
    rig.recorded(1..2).await;
    rig.advance(OVER);
    pay_late(rig, "e1", 1).await;
    assert!(is_paid(&settle(rig, "e1", TAKEN).await));
    assert_eq!((rig.live().await, expire(&*rig.store, GRACE, 10).await), (1, 0));
    assert_eq!(statuses(rig, 1).await, [OrderStatus::Held, OrderStatus::Paid]);
}

pub(super) async fn a_late_payment_that_is_refused_is_due_back_once(rig: &Rig) {
    expired(rig, 1, 1..2).await;
    pay_late(rig, "e1", 1).await;
    for is_new in [true, false, false] {
        let refused = settle(rig, "e1", LateClaim::Refused).await;
        assert!(is_refund_due(&refused) && refused.is_new == is_new, "{refused:?}");
    }
    let taken = settle(rig, "e1", TAKEN).await;
    assert!(is_refund_due(&taken) && !taken.is_new, "what is due back stays so: {taken:?}");
    assert_eq!((rig.status(1).await, rig.live().await), (Some(OrderStatus::Expired), 0));
    let tally = rig.tally().await;
    assert_eq!((tally.refunds_due, tally.late), (1, 0));
    pay_late(rig, "e2", 1).await;
    assert_eq!(late(rig).await, ["e2"], "another payment is another try");
}

pub(super) async fn what_was_taken_in_an_epoch_that_is_over_changes_nothing(rig: &Rig) {
    expired(rig, 1, 1..2).await;
    pay_late(rig, "e1", 1).await;
    assert_eq!(rig.store.fence(Partition(0), Some(Epoch(1))).await.unwrap(), Some(Epoch(2)));
    let over = settle(rig, "e1", TAKEN).await;
    assert!(matches!(over, Judged { outcome: PaymentOutcome::Late(_), is_new: false }), "{over:?}");
    let nowhere = settle(rig, "e1", LateClaim::Taken(scope(7, 1))).await;
    assert!(matches!(nowhere.outcome, PaymentOutcome::Late(_)), "a partition without a row has no epoch: {nowhere:?}");
    assert_eq!((rig.status(1).await, rig.live().await), (Some(OrderStatus::Expired), 0));
    assert_eq!((late(rig).await, rig.moves().await.len()), (vec!["e1".to_owned()], 1));
    assert!(is_paid(&settle(rig, "e1", LateClaim::Taken(scope(0, 2))).await));
}

pub(super) async fn what_ends_an_order_before_the_verdict_makes_its_late_payments_due_back(rig: &Rig) {
    expired(rig, 10, 1..2).await;
    pay_late(rig, "first", 1).await;
    pay_late(rig, "second", 1).await;
    assert!(is_paid(&settle(rig, "second", TAKEN).await));
    assert!(is_refund_due(&settle(rig, "first", TAKEN).await), "another payment paid it");
    rig.record(&[rig.order(2)]).await;
    pay_late(rig, "e2", 2).await;
    assert!(matches!(rig.store.cancel(id(2), None).await.unwrap(), CancelOutcome::Done(_)));
    assert!(is_refund_due(&settle(rig, "e2", TAKEN).await), "the buyer cancelled it");
    assert_eq!((rig.live().await, rig.tally().await.refunds_due), (1, 2));
    assert_eq!(statuses(rig, 2).await, [OrderStatus::Held, OrderStatus::Cancelled]);
}

pub(super) async fn units_that_the_guard_has_no_room_for_are_given_back(rig: &Rig) {
    expired(rig, 1, 1..2).await;
    pay_late(rig, "e1", 1).await;
    rig.record(&[rig.order(2)]).await;
    for is_new in [true, false] {
        let settled = settle(rig, "e1", TAKEN).await;
        let PaymentOutcome::RefundDue(row) = &settled.outcome else { panic!("there is no room: {settled:?}") };
        assert_eq!((row.status, settled.is_new), (OrderStatus::Refunded, is_new));
    }
    assert_eq!((rig.status(1).await, rig.live().await), (Some(OrderStatus::Refunded), 1));
    let path = [OrderStatus::Held, OrderStatus::Expired, OrderStatus::Paid, OrderStatus::Refunded];
    assert_eq!(statuses(rig, 1).await, path);
    let moves = rig.moves().await.into_iter().map(|(_, to)| to).collect::<Vec<_>>();
    assert_eq!(moves, path[1..], "the inventory takes them back as those of a refund, in this order");
    let payments = rig.store.payments(id(1)).await.unwrap();
    assert_eq!((payments.len(), payments[0].state), (1, PaymentState::RefundDue));
    let next = rig.store.pay(&payment("e2", 1), GRACE).await.unwrap();
    assert!(is_refund_due(&next), "{next:?}");
}

pub(super) async fn a_late_payment_of_a_journey_counts_on_every_leg(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    rig.put(&train("g1", 10, 4)).await;
    rig.store.fence(Partition(0), None).await.unwrap();
    let mut orders = [
        rig.order_of("g1", 1, vec![line("first", 0, 4, 2), line("second", 1, 3, 3)]),
        rig.order_of("g1", 2, vec![line("second", 0, 3, 1)]),
        rig.order_of("g1", 3, vec![line("first", 1, 2, 1), line("second", 2, 4, 2)]),
    ];
    for one in &mut orders {
        one.order.price = payment("", 1).paid;
    }
    rig.record(&orders[..2]).await;
    rig.advance(OVER);
    assert_eq!(expire(&*rig.store, GRACE, 10).await, 2);
    rig.record(&orders[2..]).await;
    let live = async || {
        let legs = rig.store.tally(&"g1".parse().unwrap()).await.unwrap().legs;
        assert!(legs.iter().all(|leg| leg.live == leg.held + leg.paid), "{legs:?}");
        legs.iter().map(|leg| leg.live).collect::<Vec<_>>()
    };
    pay_late(rig, "e1", 1).await;
    pay_late(rig, "e2", 2).await;
    assert!(is_paid(&settle(rig, "e2", TAKEN).await));
    assert_eq!(live().await, [0, 1, 0, 0, 1, 1, 3, 2]);
    assert!(is_refund_due(&settle(rig, "e1", TAKEN).await), "one leg has no room");
    assert_eq!(live().await, [0, 1, 0, 0, 1, 1, 3, 2], "and the others are as they were");
}

pub(super) async fn of_many_who_settle_one_late_payment_one_does(rig: &Rig) {
    expired(rig, 2, 1..2).await;
    pay_late(rig, "e1", 1).await;
    let mut tasks = JoinSet::new();
    for n in 0..12 {
        let store = if n % 2 == 0 { rig.another() } else { Arc::clone(&rig.store) };
        tasks.spawn(async move { store.settle_late("e1", TAKEN).await.unwrap() });
    }
    let settled = tasks.join_all().await;
    assert!(settled.iter().all(is_paid), "{settled:?}");
    assert_eq!(settled.iter().filter(|settled| settled.is_new).count(), 1);
    assert_eq!((rig.live().await, rig.moves().await.len()), (1, 2));
}

/// Each order is expired, cancelled and paid late at the same moment, whatever comes first.
pub(super) async fn late_payments_expiry_and_cancel_at_once_end_in_one(rig: &Rig) {
    const ORDERS: u32 = 30;
    rig.selling(ORDERS).await;
    rig.store.fence(Partition(0), None).await.unwrap();
    rig.recorded(0..ORDERS).await;
    rig.advance(OVER);
    let mut tasks = JoinSet::new();
    for n in 0..ORDERS {
        pay_late(rig, &format!("e{n}"), n).await;
        let (one, other) = (Arc::clone(&rig.store), Arc::clone(&rig.store));
        tasks.spawn(async move { drop(one.settle_late(&format!("e{n}"), TAKEN).await.unwrap()) });
        if n % 3 == 0 {
            tasks.spawn(async move { drop(other.cancel(id(n), None).await.unwrap()) });
        }
    }
    for _ in 0..3 {
        let store = rig.another();
        tasks.spawn(async move {
            expire(&*store, GRACE, 7).await;
        });
    }
    tasks.join_all().await;
    let mut due = 0;
    for n in 0..ORDERS {
        let (status, payments) = (rig.status(n).await.unwrap(), rig.store.payments(id(n)).await.unwrap());
        let expected = match status {
            OrderStatus::Paid => PaymentState::Applied,
            OrderStatus::Cancelled => PaymentState::RefundDue,
            other => panic!("order {n} is {other}"),
        };
        assert_eq!((payments.len(), payments[0].state), (1, expected), "order {n} is {status}");
        due += u64::from(expected == PaymentState::RefundDue);
    }
    let tally = rig.tally().await;
    assert_eq!((tally.refunds_due, tally.late), (due, 0));
}

/// What a recovery reads after its fence has all late payments that will ever count for the epoch before it.
pub(super) async fn no_late_payment_is_settled_behind_a_fence(rig: &Rig) {
    const ORDERS: u32 = 40;
    expired(rig, ORDERS, 0..ORDERS).await;
    for n in 0..ORDERS {
        pay_late(rig, &format!("e{n}"), n).await;
    }
    let mut tasks = JoinSet::new();
    for n in 0..ORDERS {
        let store = Arc::clone(&rig.store);
        tasks.spawn(async move { drop(store.settle_late(&format!("e{n}"), TAKEN).await.unwrap()) });
    }
    tasks.join_next().await.unwrap().unwrap();
    let recoverer = rig.another();
    assert_eq!(recoverer.fence(Partition(0), Some(Epoch(1))).await.unwrap(), Some(Epoch(2)));
    let mut seen = recoverer.snapshot(Partition(0), 1).await.unwrap().orders;
    tasks.join_all().await;
    seen.sort_by_key(|(order, _)| order.id);
    assert!(seen.iter().any(|(_, status)| *status == OrderStatus::Paid));
    for (order, status) in seen {
        let now = rig.store.order(order.id).await.unwrap().unwrap().status;
        assert_eq!(now, status, "order {}", order.id);
    }
}

pub(super) async fn a_payment_that_never_came_is_a_fault(rig: &Rig) {
    expired(rig, 1, 1..2).await;
    assert!(rig.store.settle_late("nothing", TAKEN).await.is_err());
    rig.store.pay(&payment("e9", 9), GRACE).await.unwrap();
    assert!(rig.store.settle_late("e9", TAKEN).await.is_err(), "its order is not there");
}
