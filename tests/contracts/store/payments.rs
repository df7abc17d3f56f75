//! Payments, whatever order they come in.

use std::time::Duration;

use rushgate::domain::{Money, OrderStatus};
use rushgate::store::{CancelOutcome, PaymentOutcome, PaymentState, RecordFault};
use tokio::task::JoinSet;

use super::rig::{GRACE, HOLD, OVER, Rig, expire, id, payment};

async fn states(rig: &Rig, n: u32) -> Vec<(String, PaymentState)> {
    let payments = rig.store.payments(id(n)).await.unwrap();
    payments.into_iter().map(|row| (row.event.id, row.state)).collect()
}

pub(super) async fn a_payment_pays_the_order(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(1..2).await;
    let PaymentOutcome::Paid(row) = rig.store.pay(&payment("e1", 1), GRACE).await.unwrap().outcome else {
        panic!("not paid")
    };
    assert_eq!((row.order.id, row.status), (id(1), OrderStatus::Paid));
    assert_eq!(rig.store.order(id(1)).await.unwrap().unwrap(), *row);
    let history = rig.store.history(id(1)).await.unwrap();
    assert_eq!(history, [(row.recorded_at, OrderStatus::Held), (row.changed_at, OrderStatus::Paid)]);
    assert_eq!(rig.moves().await, [(id(1), OrderStatus::Paid)]);
    let payments = rig.store.payments(id(1)).await.unwrap();
    assert_eq!((payments.len(), payments[0].state), (1, PaymentState::Applied));
    assert_eq!(payments[0].event, payment("e1", 1));
    assert!(payments[0].received_at >= rig.start);
    assert_eq!(rig.live().await, 1);
}

pub(super) async fn the_same_payment_twenty_times_at_once_is_one(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(1..2).await;
    let mut callbacks = JoinSet::new();
    for n in 0..20 {
        let store = if n % 2 == 0 { rig.another() } else { std::sync::Arc::clone(&rig.store) };
        callbacks.spawn(async move { store.pay(&payment("e1", 1), GRACE).await.unwrap() });
    }
    let heard = callbacks.join_all().await;
    for judged in &heard {
        assert!(matches!(judged.outcome, PaymentOutcome::Paid(_)), "{judged:?}");
    }
    assert_eq!(heard.iter().filter(|judged| judged.is_new).count(), 1, "one of them decided it");
    assert_eq!(states(rig, 1).await, [("e1".to_owned(), PaymentState::Applied)]);
    assert_eq!(rig.moves().await, [(id(1), OrderStatus::Paid)]);
    assert_eq!(rig.store.history(id(1)).await.unwrap().len(), 2);
}

pub(super) async fn of_many_payments_of_one_order_one_pays_it(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(1..2).await;
    let mut callbacks = JoinSet::new();
    for n in 0..12 {
        let store = rig.another();
        callbacks.spawn(async move { store.pay(&payment(&format!("e{n}"), 1), GRACE).await.unwrap().outcome });
    }
    let outcomes = callbacks.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, PaymentOutcome::Paid(_))).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, PaymentOutcome::RefundDue(_))).count(), 11);
    assert_eq!(rig.tally().await.refunds_due, 11);
    assert_eq!(rig.moves().await.len(), 1);
}

pub(super) async fn an_amount_or_currency_that_is_not_the_orders_is_a_mismatch(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(1..2).await;
    let due = rig.order(1).order.price;
    let mut less = payment("less", 1);
    less.paid.amount -= 1;
    let mut dollars = payment("dollars", 1);
    dollars.paid.currency = "USD".parse().unwrap();
    for event in [&less, &dollars, &less] {
        assert_eq!(rig.store.pay(event, GRACE).await.unwrap().outcome, PaymentOutcome::Mismatch { due });
    }
    assert_eq!(rig.status(1).await, Some(OrderStatus::Held));
    assert_eq!(rig.tally().await.refunds_due, 2);
    assert!(matches!(rig.store.pay(&payment("right", 1), GRACE).await.unwrap().outcome, PaymentOutcome::Paid(_)));
}

pub(super) async fn a_payment_within_the_grace_is_taken_and_after_it_is_not(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(1..3).await;
    rig.advance(HOLD + GRACE / 2);
    assert!(matches!(rig.store.pay(&payment("e1", 1), GRACE).await.unwrap().outcome, PaymentOutcome::Paid(_)));
    rig.advance(GRACE);
    let PaymentOutcome::Late(row) = rig.store.pay(&payment("e2", 2), GRACE).await.unwrap().outcome else {
        panic!("it came too late");
    };
    assert_eq!(row.status, OrderStatus::Held, "its end is the expiry's");
    assert_eq!(expire(&*rig.store, GRACE, 10).await, 1);
    let PaymentOutcome::Late(row) = rig.store.pay(&payment("e2", 2), GRACE).await.unwrap().outcome else {
        panic!("the same event has the same outcome");
    };
    assert_eq!(row.status, OrderStatus::Expired);
    let tally = rig.tally().await;
    assert_eq!((tally.refunds_due, tally.late), (0, 1));
}

pub(super) async fn a_payment_for_an_order_that_ended_is_a_refund_due(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(1..4).await;
    rig.store.cancel(id(1), None).await.unwrap();
    rig.store.pay(&payment("e2", 2), GRACE).await.unwrap();
    rig.advance(OVER);
    expire(&*rig.store, GRACE, 10).await;
    for n in 1..4 {
        let outcome = rig.store.pay(&payment(&format!("late{n}"), n), GRACE).await.unwrap().outcome;
        let expired = n == 3;
        assert_eq!(matches!(outcome, PaymentOutcome::RefundDue(_)), !expired, "{n}: {outcome:?}");
        assert_eq!(matches!(outcome, PaymentOutcome::Late(_)), expired, "an expired one may be paid yet: {outcome:?}");
    }
    assert_eq!(rig.live().await, 1);
    assert_eq!(rig.tally().await.refunds_due, 2);
}

pub(super) async fn a_payment_that_comes_before_its_order_waits_for_it(rig: &Rig) {
    rig.selling(10).await;
    for _ in 0..2 {
        assert_eq!(rig.store.pay(&payment("e1", 1), GRACE).await.unwrap().outcome, PaymentOutcome::Unmatched);
    }
    assert_eq!(states(rig, 1).await, [("e1".to_owned(), PaymentState::Unmatched)]);
    rig.recorded(0..3).await;
    let row = rig.store.order(id(1)).await.unwrap().unwrap();
    assert_eq!(row.status, OrderStatus::Paid);
    assert_eq!(rig.store.pay(&payment("e1", 1), GRACE).await.unwrap().outcome, PaymentOutcome::Paid(Box::new(row)));
    assert_eq!(states(rig, 1).await, [("e1".to_owned(), PaymentState::Applied)]);
    assert_eq!(rig.moves().await, [(id(1), OrderStatus::Paid)]);
    let history: Vec<_> = rig.store.history(id(1)).await.unwrap().into_iter().map(|(_, status)| status).collect();
    assert_eq!(history, [OrderStatus::Held, OrderStatus::Paid]);
    let tally = rig.tally().await;
    assert_eq!((tally.legs[0].paid, tally.legs[0].held), (1, 2));
}

pub(super) async fn a_waiting_payment_counts_from_when_it_came(rig: &Rig) {
    rig.selling(10).await;
    rig.store.pay(&payment("in time", 1), GRACE).await.unwrap();
    rig.advance(OVER);
    rig.store.pay(&payment("late", 2), GRACE).await.unwrap();
    rig.recorded(1..3).await;
    assert_eq!(rig.status(1).await, Some(OrderStatus::Paid), "the store was late, not the payer");
    assert_eq!(rig.status(2).await, Some(OrderStatus::Held));
    assert_eq!(states(rig, 2).await, [("late".to_owned(), PaymentState::Late)]);
    assert_eq!(expire(&*rig.store, GRACE, 10).await, 1);
}

pub(super) async fn of_payments_that_wait_the_first_that_fits_pays(rig: &Rig) {
    rig.selling(10).await;
    let mut wrong = payment("wrong", 1);
    wrong.paid = Money { amount: 1, ..wrong.paid };
    for event in [&wrong, &payment("z-first", 1), &payment("a-second", 1)] {
        rig.store.pay(event, GRACE).await.unwrap();
        rig.advance(Duration::from_secs(1));
    }
    assert_eq!(rig.record(&[rig.order(1)]).await.refunds_due, 2);
    assert_eq!(rig.record(&[rig.order(1)]).await.refunds_due, 0, "each is told once");
    let expected = [
        ("wrong".to_owned(), PaymentState::Mismatch),
        ("z-first".to_owned(), PaymentState::Applied),
        ("a-second".to_owned(), PaymentState::RefundDue),
    ];
    assert_eq!(states(rig, 1).await, expected);
    assert_eq!((rig.status(1).await, rig.tally().await.refunds_due), (Some(OrderStatus::Paid), 2));
}

/// Neither may look before the other has written and both walk away.
pub(super) async fn a_payment_and_its_order_at_once_always_meet(rig: &Rig) {
    const ORDERS: u32 = 120;
    rig.selling(ORDERS).await;
    let mut tasks = JoinSet::new();
    for n in 0..ORDERS {
        let (store, one) = (std::sync::Arc::clone(&rig.store), rig.order(n));
        tasks.spawn(async move {
            for _ in 0..20 {
                match store.recorder().await.unwrap().record(std::slice::from_ref(&one)).await {
                    Ok(_) => return,
                    Err(RecordFault::Unavailable(_)) => {}
                    Err(fault) => panic!("{fault}"),
                }
            }
            panic!("twenty tries were not enough");
        });
        let store = std::sync::Arc::clone(&rig.store);
        tasks.spawn(async move {
            store.pay(&payment(&format!("e{n}"), n), GRACE).await.unwrap();
        });
    }
    tasks.join_all().await;
    for n in 0..ORDERS {
        assert_eq!(rig.status(n).await, Some(OrderStatus::Paid), "order {n}");
        assert_eq!(states(rig, n).await, [(format!("e{n}"), PaymentState::Applied)]);
    }
    assert_eq!(rig.moves().await.len(), ORDERS as usize);
}

pub(super) async fn one_event_id_for_two_orders_is_a_fault(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(1..3).await;
    rig.store.pay(&payment("e1", 1), GRACE).await.unwrap();
    assert!(rig.store.pay(&payment("e1", 2), GRACE).await.is_err());
    let mut other_amount = payment("e1", 1);
    other_amount.paid.amount += 1;
    assert!(rig.store.pay(&other_amount, GRACE).await.is_err());
    assert_eq!(rig.status(2).await, Some(OrderStatus::Held));
    let outcome = rig.store.pay(&payment("E1", 2), GRACE).await.unwrap().outcome;
    assert!(matches!(outcome, PaymentOutcome::Paid(_)), "event ids differ in case: {outcome:?}");
    let done = rig.store.refund(id(2)).await.unwrap();
    assert!(matches!(done, CancelOutcome::Done(_)));
}
