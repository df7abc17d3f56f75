//! How orders end, and who wins when several want to end them.

use std::sync::Arc;
use std::time::Duration;

use rushgate::domain::OrderStatus;
use rushgate::expiry::expire_due;
use rushgate::shutdown::Shutdown;
use rushgate::store::{CancelOutcome, Due, Expiry, PaymentOutcome, PaymentState, RecordFault};
use tokio::task::JoinSet;

use super::rig::{GRACE, HOLD, OVER, Rig, expire, id, line, payment, train};

pub(super) async fn a_buyer_cancels_their_own_order_only(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(1..2).await;
    let cancel = async |buyer: &str| rig.store.cancel(id(1), Some(&buyer.parse().unwrap())).await.unwrap();
    assert_eq!(cancel("b2").await, CancelOutcome::NotFound);
    assert_eq!(cancel("B1").await, CancelOutcome::NotFound);
    let CancelOutcome::Done(row) = cancel("b1").await else { panic!("it is theirs") };
    assert_eq!(row.status, OrderStatus::Cancelled);
    assert_eq!(rig.store.order(id(1)).await.unwrap().unwrap(), *row);
    assert_eq!(cancel("b1").await, CancelOutcome::NotPossible(row));
    assert_eq!(rig.live().await, 0);
    assert_eq!(rig.moves().await, [(id(1), OrderStatus::Cancelled)]);
    assert_eq!(rig.store.cancel(id(99), None).await.unwrap(), CancelOutcome::NotFound);
}

pub(super) async fn an_order_is_cancelled_once(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(0..3).await;
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let store = Arc::clone(&rig.store);
        tasks.spawn(async move { store.cancel(id(1), None).await.unwrap() });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, CancelOutcome::Done(_))).count(), 1);
    assert_eq!((rig.live().await, rig.moves().await.len()), (2, 1));
}

pub(super) async fn a_paid_order_is_refunded_and_its_payment_due_back(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(1..3).await;
    assert!(matches!(rig.store.refund(id(1)).await.unwrap(), CancelOutcome::NotPossible(_)), "it is not paid");
    rig.store.pay(&payment("e1", 1), GRACE).await.unwrap();
    assert!(matches!(rig.store.cancel(id(1), None).await.unwrap(), CancelOutcome::NotPossible(_)), "it is paid");
    let CancelOutcome::Done(row) = rig.store.refund(id(1)).await.unwrap() else { panic!("it is paid") };
    assert_eq!(row.status, OrderStatus::Refunded);
    assert!(matches!(rig.store.refund(id(1)).await.unwrap(), CancelOutcome::NotPossible(_)));
    assert_eq!(rig.live().await, 1);
    assert_eq!(rig.moves().await, [(id(1), OrderStatus::Paid), (id(1), OrderStatus::Refunded)]);
    assert_eq!(rig.store.payments(id(1)).await.unwrap()[0].state, PaymentState::RefundDue);
    assert_eq!(rig.tally().await.refunds_due, 1);
    let history: Vec<_> = rig.store.history(id(1)).await.unwrap().into_iter().map(|(_, status)| status).collect();
    assert_eq!(history, [OrderStatus::Held, OrderStatus::Paid, OrderStatus::Refunded]);
}

pub(super) async fn what_is_over_expires_in_portions(rig: &Rig) {
    rig.selling(10).await;
    rig.recorded(0..5).await;
    let mut later = rig.order(5);
    later.order.pay_by = later.order.pay_by.plus(OVER * 10);
    rig.record(&[later]).await;
    rig.store.pay(&payment("e0", 0), GRACE).await.unwrap();
    assert_eq!(expire(&*rig.store, GRACE, 10).await, 0);
    rig.advance(HOLD + GRACE / 2);
    assert_eq!(expire(&*rig.store, GRACE, 10).await, 0, "within the grace nothing ends");
    rig.advance(GRACE);
    assert_eq!(expire(&*rig.store, GRACE, 3).await, 3);
    assert_eq!(expire(&*rig.store, GRACE, 3).await, 1);
    assert_eq!(expire(&*rig.store, GRACE, 3).await, 0);
    assert_eq!((rig.live().await, rig.status(5).await), (2, Some(OrderStatus::Held)));
    let moves = rig.moves().await;
    assert_eq!(moves.len(), 5);
    assert_eq!(moves[0], (id(0), OrderStatus::Paid), "the oldest move first");
    assert!(moves[1..].iter().all(|(_, kind)| *kind == OrderStatus::Expired));
    assert_eq!(rig.store.history(id(1)).await.unwrap()[1].1, OrderStatus::Expired);
}

pub(super) async fn payment_ends_and_expiry_begins_at_the_same_millisecond(rig: &Rig) {
    const MILLISECOND: Duration = Duration::from_millis(1);
    rig.selling(10).await;
    rig.recorded(1..3).await;
    rig.advance((HOLD + GRACE).checked_sub(MILLISECOND).unwrap());
    assert_eq!(expire(&*rig.store, GRACE, 10).await, 0);
    assert!(matches!(rig.store.pay(&payment("e1", 1), GRACE).await.unwrap().outcome, PaymentOutcome::Paid(_)));
    rig.advance(MILLISECOND);
    assert!(matches!(rig.store.pay(&payment("e2", 2), GRACE).await.unwrap().outcome, PaymentOutcome::Late(_)));
    assert_eq!(rig.store.next_release(&"c".parse().unwrap(), GRACE).await.unwrap(), rig.store.now().await.ok());
    assert_eq!(expire(&*rig.store, GRACE, 10).await, 1);
}

pub(super) async fn an_order_that_the_store_refuses_to_expire_keeps_no_other_one_waiting(rig: &Rig) {
    rig.selling(10).await;
    rig.put(&train("g1", 10, 10)).await;
    let broken = [4, 9].map(|n| rig.order_of("g1", n, vec![line("first", 1, 2, 1)]));
    let sound = [1, 2, 3, 5, 6, 7, 8].map(|n| rig.order(n));
    rig.record(&[&broken[..], &sound[..]].concat()).await;
    rig.forget_live("g1", "first", 1).await;
    rig.advance(OVER);
    let round = async || {
        let (round, ended) = expire_due(&*rig.store, (GRACE, 0), &Shutdown::new()).await;
        (round.expired, round.refused, ended.unwrap())
    };
    assert_eq!(round().await, (7, 2, 0));
    assert_eq!(round().await, (0, 2, 0), "they are looked at again");
    let alone = rig.store.expire(GRACE, Due { past: 1, limit: 1 }).await.unwrap();
    assert!(matches!(&alone, Expiry::Refused(why) if why.contains("of g1")), "{alone:?}");
    for n in 1..10 {
        let expected = if n == 4 || n == 9 { OrderStatus::Held } else { OrderStatus::Expired };
        assert_eq!(rig.status(n).await, Some(expected), "{n}");
    }
    assert_eq!(rig.live().await, 0, "the sound ones have given back what they had");
}

pub(super) async fn orders_that_are_refused_by_the_hundred_keep_no_other_one_waiting(rig: &Rig) {
    rig.selling(10).await;
    rig.put(&train("g1", 300, 10)).await;
    let broken: Vec<_> = (0..250).map(|n| rig.order_of("g1", n, vec![line("first", 1, 2, 1)])).collect();
    rig.record(&broken).await;
    let mut behind = rig.order(250);
    behind.order.pay_by = behind.order.pay_by.plus(Duration::from_millis(1));
    rig.record(&[behind]).await;
    rig.forget_live("g1", "first", 1).await;
    rig.advance(OVER);
    let (mut past, mut rounds) = (0, Vec::new());
    for _ in 0..4 {
        let (round, ended) = expire_due(&*rig.store, (GRACE, past), &Shutdown::new()).await;
        past = ended.unwrap();
        rounds.push((round.expired, round.refused, past));
    }
    assert_eq!(rounds.iter().map(|(expired, ..)| expired).sum::<u32>(), 1, "{rounds:?}");
    assert_eq!(rig.status(250).await, Some(OrderStatus::Expired));
    assert_eq!(
        rounds.iter().map(|(_, _, next)| *next).collect::<Vec<_>>(),
        [100, 200, 0, 100],
        "each begins where the last gave up"
    );
}

pub(super) async fn expiry_frees_every_leg_of_a_journey(rig: &Rig) {
    rig.store.migrate().await.unwrap();
    rig.put(&train("g1", 10, 10)).await;
    let batch = [
        rig.order_of("g1", 1, vec![line("first", 0, 4, 2), line("second", 1, 2, 3)]),
        rig.order_of("g1", 2, vec![line("second", 0, 3, 4)]),
        rig.order_of("g1", 3, vec![line("first", 2, 3, 1)]),
    ];
    rig.record(&batch).await;
    let live = async || {
        let legs = rig.store.tally(&"g1".parse().unwrap()).await.unwrap().legs;
        assert!(legs.iter().all(|leg| leg.live == leg.held + leg.paid));
        legs.iter().map(|leg| leg.live).collect::<Vec<_>>()
    };
    assert_eq!(live().await, [2, 2, 3, 2, 4, 7, 4, 0]);
    rig.store.cancel(id(3), None).await.unwrap();
    assert_eq!(live().await, [2, 2, 2, 2, 4, 7, 4, 0]);
    rig.advance(OVER);
    assert_eq!(expire(&*rig.store, GRACE, 10).await, 2);
    assert_eq!(live().await, [0; 8]);
}

pub(super) async fn pay_cancel_and_expiry_at_once_end_in_one(rig: &Rig) {
    const ORDERS: u32 = 40;
    rig.selling(ORDERS).await;
    rig.recorded(0..ORDERS).await;
    rig.advance(HOLD + GRACE / 2);
    let mut tasks = JoinSet::new();
    for n in 0..ORDERS {
        for _ in 0..2 {
            let store = Arc::clone(&rig.store);
            tasks.spawn(async move {
                let done = matches!(store.cancel(id(n), None).await.unwrap(), CancelOutcome::Done(_));
                (n, u32::from(done))
            });
        }
        let store = Arc::clone(&rig.store);
        tasks.spawn(async move {
            let outcome = store.pay(&payment(&format!("e{n}"), n), GRACE).await.unwrap().outcome;
            (n, u32::from(matches!(outcome, PaymentOutcome::Paid(_))))
        });
    }
    for _ in 0..4 {
        // A grace of nothing: for this expiry the orders are over, while the payments may still come.
        let store = rig.another();
        tasks.spawn(async move { (ORDERS, expire(&*store, Duration::ZERO, 7).await) });
    }
    let mut winners = vec![0; ORDERS as usize + 1];
    for (n, won) in tasks.join_all().await {
        winners[n as usize] += won;
    }
    let mut expired = 0;
    for n in 0..ORDERS {
        let status = rig.status(n).await.unwrap();
        expired += u32::from(status == OrderStatus::Expired);
        let by_others = u32::from(matches!(status, OrderStatus::Paid | OrderStatus::Cancelled));
        assert_eq!(winners[n as usize], by_others, "order {n} is {status}");
        let moves = rig.moves().await.into_iter().filter(|(order, _)| *order == id(n)).count();
        assert_eq!(moves, usize::from(status != OrderStatus::Held), "one move for order {n}, {status}");
        assert_eq!(rig.store.history(id(n)).await.unwrap().len(), 1 + moves);
    }
    assert_eq!(winners[ORDERS as usize], expired);
    let tally = rig.tally().await;
    let paid = tally.by_status.iter().find(|(status, ..)| *status == OrderStatus::Paid).unwrap().1;
    assert_eq!(tally.refunds_due + tally.late, u64::from(ORDERS) - paid, "every payment paid, is due back, or is late");
}

pub(super) async fn several_who_expire_share_the_work(rig: &Rig) {
    rig.selling(500).await;
    rig.recorded(0..500).await;
    rig.advance(OVER);
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        let store = rig.another();
        workers.spawn(async move {
            let mut expired = 0;
            loop {
                match expire(&*store, GRACE, 50).await {
                    0 => return expired,
                    some => expired += some,
                }
            }
        });
    }
    let expired: u32 = workers.join_all().await.into_iter().sum();
    // A worker that sees the rest locked by others stops early, so some may be left for the next round.
    let rest = expire(&*rig.store, GRACE, 500).await;
    assert_eq!((expired + rest, rig.live().await, rig.moves().await.len()), (500, 0, 500));
}

pub(super) async fn expiry_and_recording_at_once_keep_the_guard_right(rig: &Rig) {
    rig.selling(100).await;
    rig.recorded(0..100).await;
    rig.advance(OVER);
    let (expiring, recording) = (rig.another(), rig.another());
    let mut fresh = rig.orders(100..200);
    for one in &mut fresh {
        one.order.pay_by = one.order.pay_by.plus(OVER * 10);
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut expired = 0;
        while expired < 100 {
            expired += expire(&*expiring, GRACE, 10).await;
        }
    });
    tasks.spawn(async move {
        let mut recorder = recording.recorder().await.unwrap();
        for batch in fresh.chunks(10) {
            // There is room only once others expired: until then the guard holds the batch back.
            loop {
                match recorder.record(batch).await {
                    Ok(outcome) => break assert_eq!(outcome.fresh, 10),
                    Err(RecordFault::Guard { .. }) => {}
                    Err(RecordFault::Unavailable(_)) => recorder = recording.recorder().await.unwrap(),
                    Err(fault) => panic!("{fault}"),
                }
            }
        }
    });
    tasks.join_all().await;
    assert_eq!((rig.live().await, rig.moves().await.len()), (100, 100));
}

pub(super) async fn moves_are_forgotten_one_kind_at_a_time(rig: &Rig) {
    let sale = rig.selling(10).await;
    rig.recorded(1..4).await;
    rig.store.pay(&payment("e1", 1), GRACE).await.unwrap();
    rig.advance(GRACE);
    rig.store.refund(id(1)).await.unwrap();
    rig.store.cancel(id(2), None).await.unwrap();
    rig.advance(GRACE);
    rig.store.cancel(id(3), None).await.unwrap();
    let moves = rig.store.stock_moves(2).await.unwrap();
    assert_eq!(moves.len(), 2);
    assert_eq!(moves[0], (id(1), sale.id, OrderStatus::Paid));
    assert_eq!(rig.tally().await.moves_waiting, 4);
    let done = [(id(1), OrderStatus::Paid), (id(2), OrderStatus::Cancelled), (id(3), OrderStatus::Expired)];
    for _ in 0..2 {
        rig.store.stock_moved(&done).await.unwrap();
    }
    rig.store.stock_moved(&[]).await.unwrap();
    assert_eq!(rig.moves().await, [(id(1), OrderStatus::Refunded), (id(3), OrderStatus::Cancelled)]);
}
