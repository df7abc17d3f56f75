//! Each invariant broken once, and found with the orders that break it.

use super::*;
use crate::domain::{Limits, Order, OrderStatus, Sale};
use crate::planted::{self, NOW, Planted, SCOPE, payment};
use crate::queue::LaneId;
use crate::store::{Change, PaymentState};

pub(super) fn auditor(planted: &Planted) -> Auditor {
    let (store, inventory) = (Arc::clone(&planted.store), Arc::clone(&planted.inventory));
    Auditor::new(store, inventory, Arc::clone(&planted.topology) as _, planted.epochs.clone())
}

pub(super) async fn audit(planted: &Planted) -> Report {
    auditor(planted).audit(None, Duration::ZERO, &CancellationToken::new()).await.unwrap()
}

/// The only finding.
pub(super) async fn finding(planted: &Planted) -> Finding {
    let report = audit(planted).await;
    let [finding] = report.sales[0].findings.as_slice() else { panic!("must be one finding: {report:#?}") };
    let verdict = if finding.confirmed { Verdict::Broken } else { Verdict::InMotion };
    assert_eq!((report.verdict, report.sales[0].verdict), (verdict, verdict));
    finding.clone()
}

fn names(ids: &[u8]) -> Vec<String> {
    ids.iter().map(|id| OrderId([*id; 16]).to_string()).collect()
}

pub(super) fn blames(finding: &Finding, invariant: Invariant, ids: &[u8]) {
    assert_eq!((finding.invariant, finding.confirmed), (invariant, true), "{finding:?}");
    assert_eq!((&finding.orders, finding.count), (&names(ids), ids.len() as u64), "{finding:?}");
}

/// One order of every status, and one of every kind of payment.
pub(super) async fn sound() -> (Planted, Sale) {
    let planted = Planted::new().await;
    let sale = planted.sale("s", 3);
    for (id, status) in (1..).zip(OrderStatus::ALL) {
        let order = planted.order(&sale, id, &format!("buyer-{id}"), status);
        if !status.is_live() {
            let refund_due = payment(&order, "late", PaymentState::RefundDue);
            planted.store.lock().payments.entry(order.id).or_default().push(refund_due);
        }
    }
    (planted, sale)
}

#[tokio::test]
async fn a_sound_sale_is_clean() {
    let (planted, _) = sound().await;
    let report = audit(&planted).await;
    assert_eq!(report.verdict, Verdict::Clean, "{report:#?}");
    assert_eq!((report.sales[0].orders, report.motion.is_quiet()), (5, true));
}

#[tokio::test]
async fn i1_a_leg_with_more_live_units_than_its_capacity_is_broken() {
    let (planted, sale) = sound().await;
    for id in 11..=19 {
        planted.order(&sale, id, &format!("buyer-{id}"), OrderStatus::Paid);
    }
    let report = audit(&planted).await;
    let over = report.sales[0].findings.iter().find(|finding| finding.invariant == Invariant::I1).unwrap();
    assert_eq!((over.what.as_str(), over.count), ("p/0: 11 live units of 10", 11));
    assert_eq!((report.verdict, &over.orders[0]), (Verdict::Broken, &names(&[19])[0]));
}

#[tokio::test]
async fn i1_a_guard_that_counts_wrong_is_broken() {
    let (planted, _) = sound().await;
    planted.store.lock().guard_off = 1;
    let report = audit(&planted).await;
    let whats: Vec<_> = report.sales[0].findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(whats[0], "p/0: the guard counts 3 live units, the orders 2");
    assert_eq!((whats.len(), report.verdict), (3, Verdict::Broken));
}

#[tokio::test]
async fn i2_counters_that_do_not_add_up_to_the_capacity_are_broken() {
    let (planted, _) = sound().await;
    planted.inventory.lock().off = (0, 1, 0);
    let report = audit(&planted).await;
    let finding = &report.sales[0].findings[0];
    assert_eq!((finding.invariant, report.verdict), (Invariant::I2, Verdict::Broken));
    assert_eq!(finding.what, "p/0: 8 free + 2 held + 1 sold are not 10");
}

#[tokio::test]
async fn i4_a_buyer_above_the_limit_is_broken() {
    let (planted, sale) = sound().await;
    for id in 11..=15 {
        planted.order(&sale, id, "greedy", OrderStatus::Held);
    }
    let finding = finding(&planted).await;
    blames(&finding, Invariant::I4, &[11, 12, 13, 14, 15]);
    assert_eq!(finding.what, "a buyer has 5 units, and may have 4");
}

#[tokio::test]
async fn i4_ended_orders_do_not_count_for_a_buyer() {
    let (planted, sale) = sound().await;
    for id in 11..=14 {
        planted.order(&sale, id, "patient", OrderStatus::Held);
    }
    planted.order(&sale, 15, "patient", OrderStatus::Expired);
    assert_eq!(audit(&planted).await.verdict, Verdict::Clean);
}

#[tokio::test]
async fn i4_a_limit_that_was_lowered_since_breaks_nothing() {
    let (planted, sale) = sound().await;
    for id in 11..=14 {
        planted.order(&sale, id, "early", OrderStatus::Paid);
    }
    let lowered = Sale { limits: Limits { per_buyer: 1, per_passenger: 1 }, ..sale.clone() };
    let document = |sale: &Sale| serde_json::to_string(&crate::domain::SaleDocument::from(sale)).unwrap();
    let change = Change {
        at: NOW,
        who: "admin".to_owned(),
        what: "sale.put".to_owned(),
        subject: "s".to_owned(),
        before: document(&sale),
        after: document(&lowered),
    };
    planted.store.lock().log.push(change);
    planted.store.lock().sales.get_mut(&sale.id).unwrap().sale = lowered;
    assert_eq!(audit(&planted).await.verdict, Verdict::Clean);
}

#[tokio::test]
async fn i4_a_passenger_above_the_limit_is_broken() {
    let (planted, sale) = sound().await;
    for id in [11, 12] {
        let mut order = planted::order(&sale, id, &format!("buyer-{id}"));
        order.lines[0].passenger = Some("p-1".parse().unwrap());
        planted.store.plant(&order, OrderStatus::Held);
        planted.inventory.plant(&order, OrderStatus::Held);
    }
    let finding = finding(&planted).await;
    blames(&finding, Invariant::I4, &[11, 12]);
    assert_eq!(finding.what, "a passenger has 2 places, and may have 1");
}

#[tokio::test]
async fn i6_an_illegal_history_is_broken() {
    use OrderStatus::{Cancelled, Expired, Held, Paid};
    for history in [vec![Held, Expired, Cancelled], vec![Cancelled], vec![Held], vec![Held, Held, Cancelled], vec![]] {
        let (planted, _) = sound().await;
        let history = history.into_iter().map(|status| (NOW, status)).collect();
        planted.store.lock().histories.insert(OrderId([4; 16]), history);
        blames(&finding(&planted).await, Invariant::I6, &[4]);
    }
    let (planted, _) = sound().await;
    planted.store.lock().histories.insert(OrderId([3; 16]), vec![(NOW, Held), (NOW, Paid), (NOW, Expired)]);
    blames(&finding(&planted).await, Invariant::I6, &[3]);
}

#[tokio::test]
async fn i7_an_ended_order_whose_units_are_not_back_is_broken() {
    let (planted, _) = sound().await;
    planted.inventory.lock().orders.get_mut(&OrderId([3; 16])).unwrap().status = OrderStatus::Held;
    let report = audit(&planted).await;
    let findings = &report.sales[0].findings;
    blames(&findings[0], Invariant::I7, &[3]);
    assert!(findings[1..].iter().all(|finding| finding.invariant == Invariant::I9), "{findings:#?}");
    assert_eq!(findings[1].what, "p/0: the inventory has 2 held and 1 sold, the store 1 and 1");
}

#[tokio::test]
async fn i7_an_ended_order_that_the_inventory_forgot_is_broken() {
    let (planted, _) = sound().await;
    planted.inventory.lock().orders.remove(&OrderId([4; 16]));
    blames(&finding(&planted).await, Invariant::I7, &[4]);
}

#[tokio::test]
async fn i7_a_move_that_waits_is_in_motion() {
    let (planted, sale) = sound().await;
    planted.inventory.lock().orders.get_mut(&OrderId([3; 16])).unwrap().status = OrderStatus::Held;
    planted.store.lock().moves.push((OrderId([3; 16]), sale.id, OrderStatus::Expired));
    let report = audit(&planted).await;
    assert_eq!((report.verdict, report.motion.stock_moves), (Verdict::InMotion, 1), "{report:#?}");
    assert!(report.sales[0].findings.iter().all(|finding| !finding.confirmed));
}

#[tokio::test]
async fn i7_an_order_that_is_being_paid_late_is_in_motion() {
    let (planted, sale) = sound().await;
    let expired = planted::order(&sale, 3, "b");
    planted.inventory.lock().orders.get_mut(&expired.id).unwrap().status = OrderStatus::Paid;
    let waiting = payment(&expired, "late", PaymentState::Late);
    planted.store.lock().payments.insert(expired.id, vec![waiting]);
    let report = audit(&planted).await;
    assert_eq!((report.verdict, report.motion.late_payments), (Verdict::InMotion, 1), "{report:#?}");
    assert!(report.sales[0].findings.iter().all(|finding| !finding.confirmed), "{report:#?}");
    planted.store.lock().payments.get_mut(&expired.id).unwrap()[0].state = PaymentState::RefundDue;
    let report = audit(&planted).await;
    let unfollowed = report.sales[0].findings.iter().find(|finding| finding.invariant == Invariant::I7).unwrap();
    blames(unfollowed, Invariant::I7, &[3]);
}

#[tokio::test]
async fn i6_an_expired_order_that_was_paid_late_is_sound() {
    let (planted, sale) = sound().await;
    let order = planted.order(&sale, 9, "late", OrderStatus::Paid);
    let path = [OrderStatus::Held, OrderStatus::Expired, OrderStatus::Paid];
    planted.store.lock().histories.insert(order.id, path.map(|status| (NOW, status)).to_vec());
    assert_eq!(audit(&planted).await.verdict, Verdict::Clean);
    let odd = [OrderStatus::Held, OrderStatus::Cancelled, OrderStatus::Paid];
    planted.store.lock().histories.insert(order.id, odd.map(|status| (NOW, status)).to_vec());
    blames(&finding(&planted).await, Invariant::I6, &[9]);
}

#[tokio::test]
async fn i8_a_payment_that_is_on_no_paid_order_is_broken() {
    let plant = async |id: u8, change: fn(&mut Vec<crate::store::PaymentRow>, &Order)| {
        let (planted, sale) = sound().await;
        let order = planted::order(&sale, id, "b");
        change(planted.store.lock().payments.entry(order.id).or_default(), &order);
        blames(&finding(&planted).await, Invariant::I8, &[id]);
    };
    plant(2, |payments, _| payments.clear()).await;
    plant(2, |payments, order| payments.push(payment(order, "twice", PaymentState::Applied))).await;
    plant(2, |payments, _| payments[0].event.paid.amount = 1).await;
    plant(1, |payments, order| payments.push(payment(order, "odd", PaymentState::Applied))).await;
    plant(3, |payments, order| payments.push(payment(order, "odd", PaymentState::Applied))).await;
    plant(1, |payments, order| payments.push(payment(order, "left", PaymentState::Unmatched))).await;
    plant(5, |payments, _| payments.clear()).await;
}

#[tokio::test]
async fn i9_an_order_that_only_the_inventory_has_is_stranded() {
    let (planted, sale) = sound().await;
    planted.inventory.plant(&planted::order(&sale, 11, "b"), OrderStatus::Held);
    let report = audit(&planted).await;
    blames(&report.sales[0].findings[0], Invariant::I9, &[11]);
    assert_eq!(report.verdict, Verdict::Broken);
}

#[tokio::test]
async fn i9_a_live_order_that_the_inventory_forgot_is_broken() {
    let (planted, _) = sound().await;
    planted.inventory.lock().orders.remove(&OrderId([2; 16]));
    let report = audit(&planted).await;
    blames(&report.sales[0].findings[0], Invariant::I9, &[2]);
}

#[tokio::test]
async fn i9_free_units_that_the_store_does_not_know_are_broken() {
    let (planted, _) = sound().await;
    planted.inventory.lock().off = (-1, 0, 0);
    let report = audit(&planted).await;
    let whats: Vec<_> = report.sales[0].findings.iter().map(|finding| finding.what.as_str()).collect();
    assert!(whats.contains(&"p/0: 7 free units, with 2 live of 10"), "{whats:#?}");
}

#[tokio::test]
async fn i11_an_order_on_its_way_to_the_store_is_in_motion() {
    let (planted, sale) = sound().await;
    planted.inventory.plant_in_motion(&planted::order(&sale, 11, "b"));
    let report = audit(&planted).await;
    assert_eq!((report.verdict, report.motion.outbox_entries), (Verdict::InMotion, 1), "{report:#?}");
}

#[tokio::test]
async fn i11_messages_in_a_lane_are_in_motion_and_dead_letters_are_told() {
    let (planted, sale) = sound().await;
    *planted.topology.deep.lock().unwrap() = vec![(LaneId::Number(0), 2), (LaneId::Unroutable, 1), (LaneId::Dead, 4)];
    let report = audit(&planted).await;
    assert_eq!((report.verdict, report.motion.lane_messages, report.motion.dead_letters), (Verdict::InMotion, 3, 4));
    // A sale by itself is clean: each of its orders is where it belongs.
    let one = auditor(&planted).audit(Some(&sale.id), Duration::ZERO, &CancellationToken::new()).await.unwrap();
    assert_eq!(one.verdict, Verdict::Clean);
}

#[tokio::test(start_paused = true)]
async fn an_audit_waits_for_what_is_in_motion() {
    let (planted, sale) = sound().await;
    let order = planted::order(&sale, 11, "b");
    planted.inventory.plant_in_motion(&order);
    let auditor = auditor(&planted);
    let stop = CancellationToken::new();
    let arrive = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        planted.store.plant(&order, OrderStatus::Held);
        planted.inventory.lock().outbox.clear();
    };
    let (report, ()) = tokio::join!(auditor.audit(None, Duration::from_secs(10), &stop), arrive);
    assert_eq!(report.unwrap().verdict, Verdict::Clean);
}

#[tokio::test(start_paused = true)]
async fn what_is_broken_is_told_also_while_other_things_move() {
    let (planted, sale) = sound().await;
    planted.inventory.plant_in_motion(&planted::order(&sale, 11, "b"));
    planted.inventory.plant(&planted::order(&sale, 12, "b"), OrderStatus::Held);
    let report = auditor(&planted).audit(None, Duration::from_secs(2), &CancellationToken::new()).await.unwrap();
    blames(&report.sales[0].findings.iter().find(|finding| finding.confirmed).unwrap().clone(), Invariant::I9, &[12]);
    assert_eq!(report.verdict, Verdict::Broken);
}

#[tokio::test]
async fn a_definition_that_is_not_applied_yet_is_in_motion() {
    let (planted, sale) = sound().await;
    planted.store.lock().sales.get_mut(&sale.id).unwrap().sale.version = 2;
    let finding = finding(&planted).await;
    assert_eq!((finding.invariant, finding.confirmed), (Invariant::I2, false));
}

#[tokio::test]
async fn many_offenders_are_counted_and_a_few_are_named() {
    let (planted, sale) = sound().await;
    for id in 100..=150 {
        let order = planted.order(&sale, id, &format!("buyer-{id}"), OrderStatus::Cancelled);
        planted.store.lock().histories.remove(&order.id);
    }
    let finding = finding(&planted).await;
    assert_eq!((finding.count, finding.orders.len()), (51, report::NAMED));
}

#[tokio::test]
async fn an_audit_says_why_it_proves_nothing() {
    let (planted, _) = sound().await;
    let auditor = auditor(&planted);
    let (go, stop) = (CancellationToken::new(), CancellationToken::new());
    stop.cancel();
    assert_eq!(auditor.audit(None, Duration::ZERO, &stop).await, Err(Interrupted::Stopped));
    let unknown = "x".parse().unwrap();
    assert_eq!(auditor.audit(Some(&unknown), Duration::ZERO, &go).await, Err(Interrupted::UnknownSale));
    planted.inventory.lock().down = true;
    let interrupted = auditor.audit(None, Duration::ZERO, &go).await;
    assert!(matches!(interrupted, Err(Interrupted::Unavailable(_))), "{interrupted:?}");
    planted.epochs.report(SCOPE, &inventory::Fault::Fenced("lost".to_owned()));
    let interrupted = auditor.audit(None, Duration::ZERO, &go).await;
    assert_eq!(interrupted, Err(Interrupted::Unavailable("recovering: lost".to_owned())));
}

#[tokio::test]
async fn differing_orders_are_named_without_an_audit() {
    let (planted, sale) = sound().await;
    planted.inventory.lock().orders.remove(&OrderId([2; 16]));
    let findings = auditor(&planted).differing(&sale.id, &CancellationToken::new()).await.unwrap();
    assert_eq!(findings[0].orders, names(&[2]));
}

#[test]
fn a_report_reads_back_what_it_writes() {
    let finding = Finding::broken(Invariant::I9, "stranded", &[OrderId([1; 16])]);
    let sale = SaleReport {
        sale: "s".to_owned(),
        verdict: Verdict::InMotion,
        orders: 1,
        arrived: 1,
        awaited: 2,
        findings: vec![finding],
        notes: vec!["one".to_owned()],
    };
    let report =
        Report { verdict: Verdict::Broken, sales: vec![sale], findings: Vec::new(), motion: Motion::default() };
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["verdict"], "broken");
    assert_eq!(json["sales"][0]["findings"][0]["invariant"], "I9");
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
}
