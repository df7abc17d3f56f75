//! When what is granted cannot go its way: no more is granted, and the way back is as short as it can be.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rushgate::admission::pressure::{Bound, Limits};
use rushgate::confirm::{Answer, Unserved};
use rushgate::domain::{OutboxId, Refusal};
use rushgate::inventory::Inventory;
use rushgate::queue::{LaneId, Strain};

use crate::doubles::{Node, SCOPE};

/// Longer than it takes until every reading was taken anew.
const LOOK: Duration = Duration::from_millis(1100);

const BUSY: Answer = Answer::Unserved(Unserved::Busy);

fn limits() -> Limits {
    Limits { outbox: 4.into(), lane: 100.into(), unconfirmed: Duration::from_secs(1).into() }
}

fn closed_by(node: &Node) -> Vec<Bound> {
    node.pressure.closed_by(SCOPE.partition).collect()
}

fn is_granted(answer: &Answer) -> bool {
    matches!(answer, Answer::Granted { replayed: false, .. })
}

/// The outbox, oldest entry first.
async fn outbox(node: &Node) -> Vec<OutboxId> {
    let entries = node.inventory.outbox(SCOPE, Duration::ZERO, 1000).await.expect("the outbox");
    entries.into_iter().map(|entry| entry.id).collect()
}

#[tokio::test(start_paused = true)]
async fn an_outbox_beyond_its_bound_grants_nothing_until_it_is_down_to_half() {
    let node = Node::selling(100).await;
    node.under_pressure(limits());
    for number in 0..5 {
        assert!(is_granted(&node.claim(&format!("b{number}"), None).await), "four are not too many");
    }
    tokio::time::sleep(LOOK).await;
    assert_eq!(closed_by(&node), [Bound::Outbox]);
    let before = node.stock().await;
    assert_eq!(node.claim("late", None).await, BUSY);
    assert_eq!((node.stock().await, node.left()), (before, 95), "nothing was reserved");
    for (left, still) in [(4, true), (3, true), (2, false)] {
        let entries = outbox(&node).await;
        node.inventory.outbox_remove(SCOPE, &entries[left..]).await.expect("removed");
        tokio::time::sleep(LOOK).await;
        assert_eq!(node.pressure.is_closed(SCOPE.partition), still, "{left} are left");
    }
    assert!(is_granted(&node.claim("late", None).await), "it opens by itself");
    let figures = node.meters.render();
    assert!(figures.contains("rushgate_admission_closings_total{bound=\"outbox\"} 1"), "{figures}");
    assert!(figures.contains("rushgate_admission_closed{bound=\"outbox\"} 0"), "{figures}");
}

#[tokio::test(start_paused = true)]
async fn each_bound_closes_by_itself_and_opens_again() {
    let node = Node::selling(100).await;
    let lanes = node.under_pressure(limits());
    let strain = |strain: Strain| *node.broker.strain.lock().unwrap() = strain;
    let aged = |millis| Strain { blocked: None, oldest_unconfirmed: Some(Duration::from_millis(millis)) };
    let deep = |lane, messages| *lanes.0.lock().unwrap() = Some(vec![(LaneId::Number(0), 1), (lane, messages)]);
    let expect = async |what: &str, bounds: &[Bound]| {
        tokio::time::sleep(LOOK).await;
        assert_eq!(closed_by(&node), bounds, "{what}");
        let answer = node.claim(what, None).await;
        assert_eq!(answer == BUSY, !bounds.is_empty(), "{what}: {answer:?}");
    };
    strain(Strain { blocked: Some("it is short of memory".to_owned()), oldest_unconfirmed: None });
    expect("blocked", &[Bound::Blocked]).await;
    strain(aged(900));
    expect("unblocked-and-young", &[]).await;
    strain(aged(1001));
    expect("old", &[Bound::Unconfirmed]).await;
    strain(aged(501));
    expect("not-young-enough", &[Bound::Unconfirmed]).await;
    strain(Strain::default());
    expect("confirmed", &[]).await;
    deep(LaneId::Number(1), 101);
    expect("deep", &[Bound::Lanes]).await;
    *lanes.0.lock().unwrap() = None;
    expect("not-to-be-seen", &[Bound::Lanes]).await;
    deep(LaneId::Unroutable, 51);
    expect("catch-all", &[Bound::Lanes]).await;
    deep(LaneId::Dead, 1000);
    expect("dead", &[]).await;
}

#[tokio::test(start_paused = true)]
async fn sold_out_stays_sold_out_while_the_node_is_closed() {
    let node = Node::selling(1).await;
    assert!(is_granted(&node.claim("alice", Some("k")).await));
    node.under_pressure(limits());
    *node.broker.strain.lock().unwrap() = Strain { blocked: Some(String::new()), oldest_unconfirmed: None };
    tokio::time::sleep(LOOK).await;
    for key in [None, Some("k")] {
        let answer = node.claim("bob", key).await;
        assert!(matches!(answer, Answer::Refused(Refusal::AllHeld { .. })), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repetition_of_a_granted_request_is_pending_while_the_node_is_closed() {
    for is_away in [false, true] {
        let node = Node::selling(5).await;
        let Answer::Granted { order, .. } = node.claim("alice", Some("k")).await else { panic!("granted") };
        node.under_pressure(limits());
        let fresh = if is_away {
            *node.broker.is_away.lock().unwrap() = Some("refused".to_owned());
            Unserved::Unavailable
        } else {
            *node.broker.strain.lock().unwrap() = Strain { blocked: Some(String::new()), oldest_unconfirmed: None };
            Unserved::Busy
        };
        tokio::time::sleep(LOOK).await;
        let messages = node.broker.messages.load(Ordering::SeqCst);
        assert_eq!(node.claim("alice", Some("k")).await, Answer::Pending { order: order.id });
        assert_eq!(node.claim("alice", Some("other")).await, Answer::Unserved(fresh), "that would be a new grant");
        assert_eq!(node.broker.messages.load(Ordering::SeqCst), messages, "and nothing more is sent");
        assert_eq!(node.stock().await, (4, 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_refill_when_the_node_closes_does_not_wait_on() {
    let node = std::sync::Arc::new(Node::behind_gates(1).await);
    node.under_pressure(limits());
    let mut asking = tokio::task::JoinSet::new();
    for buyer in ["alice", "bob"] {
        let node = std::sync::Arc::clone(&node);
        asking.spawn(async move { node.claim(buyer, None).await });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    *node.broker.strain.lock().unwrap() = Strain { blocked: Some(String::new()), oldest_unconfirmed: None };
    let answer = asking.join_next().await.expect("two ask").expect("an answer");
    assert_eq!(answer, BUSY, "one has the permit, the other hears that there is no point in waiting");
    node.shutdown.force();
}

#[tokio::test(start_paused = true)]
async fn a_bound_that_is_changed_counts_at_the_next_look() {
    let node = Node::selling(100).await;
    let limits = limits();
    let lanes = node.under_pressure(limits.clone());
    *lanes.0.lock().unwrap() = Some(vec![(LaneId::Number(0), 60)]);
    for number in 0..3 {
        node.claim(&format!("b{number}"), None).await;
    }
    tokio::time::sleep(LOOK).await;
    assert_eq!(closed_by(&node), []);
    limits.outbox.set(2);
    limits.lane.set(50);
    tokio::time::sleep(LOOK).await;
    assert_eq!(closed_by(&node), [Bound::Lanes, Bound::Outbox]);
    limits.outbox.set(6);
    limits.lane.set(120);
    tokio::time::sleep(LOOK).await;
    assert_eq!(closed_by(&node), []);
    node.broker.strain.lock().unwrap().oldest_unconfirmed = Some(Duration::from_millis(500));
    limits.unconfirmed.set(Duration::from_millis(400));
    tokio::time::sleep(LOOK).await;
    assert_eq!(closed_by(&node), [Bound::Unconfirmed]);
}
