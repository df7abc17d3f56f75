//! What was accepted and does not arrive, found with the orders that it is about.

use std::sync::atomic::Ordering;

use super::tests::{audit, auditor, blames, finding, sound};
use super::*;
use crate::domain::{Order, OrderStatus};
use crate::planted::{self, SCOPE};
use crate::queue::LaneId;
use crate::queue::envelope::Envelope;
use crate::store::{DeadLetter, DeadLetters};

/// What is said of an order in a dead letter.
const IN_A_LETTER: &str = "accepted, and in no row but in a dead letter";

#[tokio::test]
async fn i3_an_order_that_is_in_no_row_but_in_a_dead_letter_is_broken() {
    let (planted, sale) = sound().await;
    let orders = [11, 1].map(|id| planted::order(&sale, id, "b"));
    let body = Envelope::orders(SCOPE, None, orders.to_vec()).encode();
    for body in [body.as_slice(), b"odd", b"rushgate/1 barrier p0.e1 0"] {
        planted.store.keep_dead_letter("0", "odd", body).await.unwrap();
    }
    let found = finding(&planted).await;
    blames(&found, Invariant::I3, &[11]);
    assert_eq!((found.what.as_str(), audit(&planted).await.motion.dead_letters), (IN_A_LETTER, 3));
    // What the outbox has too is brought by the relay.
    planted.inventory.plant_in_motion(&orders[0]);
    let report = audit(&planted).await;
    let lettered = report.sales[0].findings.iter().find(|finding| finding.invariant == Invariant::I3).unwrap();
    assert_eq!((lettered.confirmed, report.verdict), (false, Verdict::InMotion));
    planted.inventory.lock().outbox.clear();
    planted.store.plant(&orders[0], OrderStatus::Held);
    assert_eq!(audit(&planted).await.verdict, Verdict::Clean, "a letter whose orders are rows is none to worry about");
}

#[tokio::test]
async fn i3_the_beginning_of_a_letter_is_not_taken_for_all_of_it() {
    let (planted, sale) = sound().await;
    let body = Envelope::orders(SCOPE, None, vec![planted::order(&sale, 11, "b")]).encode();
    planted.store.keep_dead_letter("0", "odd", &body).await.unwrap();
    let whole = planted.store.lock().letters[0].clone();
    planted.store.lock().heads.insert(1, DeadLetter { body: body[..40].to_vec(), ..whole });
    blames(&finding(&planted).await, Invariant::I3, &[11]);
}

#[tokio::test]
async fn i3_an_order_in_quarantine_is_broken() {
    let (planted, sale) = sound().await;
    planted.store.lock().quarantined.push(planted::order(&sale, 11, "b"));
    blames(&finding(&planted).await, Invariant::I3, &[11]);
}

#[tokio::test]
async fn i3_an_order_that_the_store_has_lost_is_broken() {
    let (planted, sale) = sound().await;
    planted.inventory.plant(&planted::order(&sale, 11, "b"), OrderStatus::Paid);
    let report = audit(&planted).await;
    blames(&report.sales[0].findings[0], Invariant::I3, &[11]);
}

#[tokio::test(start_paused = true)]
async fn who_audits_while_rows_are_on_their_way_hears_how_many_and_never_that_there_are_none() {
    let (planted, sale) = sound().await;
    let orders = [11, 12, 13].map(|id| planted::order(&sale, id, &format!("new-{id}")));
    for order in &orders {
        planted.inventory.plant_in_motion(order);
    }
    let counts = |report: &Report| (report.sales[0].orders, report.sales[0].arrived, report.sales[0].awaited);
    let report = audit(&planted).await;
    assert_eq!((report.verdict, counts(&report)), (Verdict::InMotion, (5, 0, 3)));
    // The writer stores them while the audit waits.
    let arriving = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        for order in &orders {
            planted.store.plant(order, OrderStatus::Held);
        }
        planted.inventory.lock().outbox.clear();
    };
    let (auditor, go) = (auditor(&planted), CancellationToken::new());
    let (report, ()) = tokio::join!(auditor.audit(None, Duration::from_secs(10), &go), arriving);
    let report = report.unwrap();
    assert_eq!((report.verdict, counts(&report)), (Verdict::Clean, (8, 3, 0)));
    let report = audit(&planted).await;
    assert_eq!((report.verdict, counts(&report)), (Verdict::Clean, (8, 0, 0)));
}

#[tokio::test]
async fn more_orders_on_their_way_than_get_a_second_look_are_not_called_clean() {
    let (planted, sale) = sound().await;
    let ids = (0..=SUSPECTS).map(|at| OrderId((1_000_000 + at as u128).to_be_bytes()));
    for id in ids {
        planted.inventory.plant(&Order { id, ..planted::order(&sale, 11, "b") }, OrderStatus::Held);
    }
    let report = audit(&planted).await;
    let last = report.sales[0].findings.iter().find(|finding| finding.what.contains("second look")).unwrap();
    assert_eq!((last.what.as_str(), last.confirmed), ("orders without a second look: 1; ask again", false));
}

#[tokio::test(start_paused = true)]
async fn i11_an_outbox_that_nobody_drains_is_broken_and_its_orders_are_named() {
    let (planted, sale) = sound().await;
    planted.inventory.plant_in_motion(&planted::order(&sale, 11, "b"));
    planted.inventory.lock().outbox_age = Duration::from_secs(61);
    let report = audit(&planted).await;
    blames(&report.findings[0], Invariant::I11, &[11]);
    assert_eq!(report.verdict, Verdict::Broken);
    let other = planted.sale("t", 1);
    let one = auditor(&planted).audit(Some(&other.id), Duration::ZERO, &CancellationToken::new()).await.unwrap();
    assert_eq!(one.verdict, Verdict::Clean, "it is not of this sale");
}

#[tokio::test(start_paused = true)]
async fn i11_a_lane_that_nobody_takes_is_broken_after_a_long_wait() {
    let (planted, _) = sound().await;
    *planted.topology.deep.lock().unwrap() = vec![(LaneId::Number(3), 2)];
    let wait = async |seconds| {
        let wait = Duration::from_secs(seconds);
        auditor(&planted).audit(None, wait, &CancellationToken::new()).await.unwrap()
    };
    assert_eq!(wait(10).await.verdict, Verdict::InMotion, "somebody takes it");
    planted.topology.is_left.store(true, Ordering::Relaxed);
    assert_eq!(wait(1).await.verdict, Verdict::InMotion, "that is too short to tell");
    let report = wait(10).await;
    assert_eq!((report.findings[0].invariant, report.verdict), (Invariant::I11, Verdict::Broken));
    assert_eq!(report.findings[0].what, "lane 3 has 2 messages, and nobody takes them");
}
