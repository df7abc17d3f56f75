//! From a claim to its answer, when the inventory or the broker misbehaves.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rushgate::config::settings::AnswerAfter;
use rushgate::confirm::{Answer, Unserved};
use rushgate::domain::{Ask, AskedLine, Claim, Epoch, Order, OrderStatus, Refusal, Scope, UnixMillis};
use rushgate::inventory::{Fault, Inventory, NodeBeat, Snapshot, StockMove};
use rushgate::queue::Unconfirmed;
use tokio::task::JoinSet;

use crate::doubles::{Fate, Node, SCOPE};

pub(crate) fn is_granted(answer: &Answer) -> bool {
    matches!(answer, Answer::Granted { replayed: false, .. })
}

/// Lets everything run that can.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_asked_again_and_meets_its_first_verdict() {
    let node = Node::selling(5).await;
    node.inventory.fates.lock().unwrap().push_back(Fate::ReplyLost);
    let answer = node.claim("alice", Some("k")).await;
    assert!(matches!(answer, Answer::Granted { .. }), "{answer:?}");
    assert_eq!(node.stock().await, (4, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_stays_unknown_is_pending_and_never_a_no() {
    for second in
        [Fate::ReplyLost, Fate::Fails(Fault::NotDone(String::new())), Fate::Fails(Fault::Fenced(String::new()))]
    {
        let node = Node::selling(5).await;
        node.inventory.fates.lock().unwrap().extend([Fate::ReplyLost, second.clone()]);
        let answer = node.claim("alice", Some("k")).await;
        assert!(matches!(answer, Answer::Pending { .. }), "{second:?}: {answer:?}");
        assert_eq!(node.stock().await, (4, 1, 0), "no unit comes back because something timed out");
    }
}

/// Nothing is left, and the unit that came back meanwhile was granted to bob by another node.
async fn granted_elsewhere() -> (Node, Node) {
    let here = Node::selling(1).await;
    let there = Node::beside(&here).await;
    let Answer::Granted { order, .. } = here.claim("alice", Some("a")).await else { panic!("there is one unit") };
    settle().await;
    here.inventory.is_silent.store(true, Ordering::SeqCst);
    let moved = StockMove { order: order.id, to: OrderStatus::Expired };
    there.inventory.apply(SCOPE, &[moved]).await.unwrap();
    settle().await;
    assert!(is_granted(&there.claim("bob", Some("b")).await));
    (here, there)
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hears_no_news_refuses_no_repetition() {
    let (here, _there) = granted_elsewhere().await;
    settle().await;
    let answer = here.claim("bob", Some("b")).await;
    assert_eq!(answer, Answer::Unserved(Unserved::Busy), "it cannot know");
    here.inventory.is_silent.store(false, Ordering::SeqCst);
    let answer = here.claim("bob", Some("b")).await;
    assert!(matches!(answer, Answer::Granted { replayed: true, .. }), "{answer:?}");
    assert!(matches!(here.claim("carol", Some("c")).await, Answer::Refused(Refusal::AllHeld { .. })));
}

#[tokio::test(start_paused = true)]
async fn what_was_heard_of_another_epoch_refuses_no_repetition() {
    let (here, there) = granted_elsewhere().await;
    let next = Scope { epoch: Epoch(2), ..SCOPE };
    let (orders, _) = there.inventory.orders(SCOPE, None).await.unwrap();
    let sales = there.inventory.changes(SCOPE, 0).await.unwrap().sales;
    there.inventory.rebuild(next, &Snapshot { sales, orders }).await.unwrap();
    there.inventory.open(next).await.unwrap();
    here.inventory.is_silent.store(false, Ordering::SeqCst);
    // At this moment no refill has run in it, and the last one in the epoch before is news.
    here.epochs.assume(next);
    let answer = here.claim("bob", Some("b")).await;
    assert!(matches!(answer, Answer::Granted { replayed: true, .. }), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_done_is_unserved_and_reserves_nothing() {
    for (fault, unserved) in
        [(Fault::NotDone(String::new()), Unserved::Unavailable), (Fault::Fenced(String::new()), Unserved::Recovering)]
    {
        let node = Node::selling(5).await;
        node.inventory.fates.lock().unwrap().push_back(Fate::Fails(fault));
        assert_eq!(node.claim("alice", None).await, Answer::Unserved(unserved));
        assert_eq!((node.stock().await, node.left()), ((5, 0, 0), 5));
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_yes_before_the_broker_has_confirmed() {
    let node = Arc::new(Node::behind_gates(5).await);
    node.inventory.gate.add_permits(100);
    let mut asking = JoinSet::new();
    asking.spawn({
        let node = Arc::clone(&node);
        async move { node.claim("alice", None).await }
    });
    settle().await;
    assert_eq!(node.stock().await, (4, 1, 0), "the inventory has granted it");
    assert!(asking.try_join_next().is_none());
    node.broker.gate.add_permits(1);
    assert!(is_granted(&asking.join_all().await[0]));
}

#[tokio::test(start_paused = true)]
async fn whom_the_inventorys_word_is_enough_hears_yes_before_the_broker_which_is_told_all_the_same() {
    let node = Node::answering_after(AnswerAfter::Inventory, 5).await;
    node.inventory.gate.add_permits(100);
    assert!(is_granted(&node.claim("alice", Some("k")).await));
    settle().await;
    assert_eq!(node.broker.got.lock().unwrap().len(), 1, "it was told, and has not confirmed");
    assert!(matches!(node.claim("alice", Some("k")).await, Answer::Granted { replayed: true, .. }));
    assert_eq!(node.stock().await, (4, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_confirm_bounds_what_is_granted_on_the_inventorys_word_too() {
    let node = Arc::new(Node::answering_after(AnswerAfter::Inventory, 1000).await);
    node.inventory.gate.add_permits(1000);
    for number in 0..128 {
        assert!(is_granted(&node.claim(&format!("b{number}"), None).await));
    }
    let one_too_many = node.claim("late", None).await;
    assert!(matches!(one_too_many, Answer::Pending { .. }), "{one_too_many:?}");
    assert_eq!(node.stock().await, (872, 128, 0), "it has not been asked for yet");
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_does_not_confirm_is_pending() {
    for refused in [Unconfirmed::NotSent(String::new()), Unconfirmed::Unknown(String::new())] {
        let node = Node::selling(5).await;
        *node.broker.refuses.lock().unwrap() = Some(refused);
        let answer = node.claim("alice", Some("k")).await;
        assert!(matches!(answer, Answer::Pending { .. }), "{answer:?}");
        // The same request later is told to the broker again, and only then hears yes.
        *node.broker.refuses.lock().unwrap() = None;
        let again = node.claim("alice", Some("k")).await;
        assert!(matches!(again, Answer::Granted { replayed: true, .. }), "{again:?}");
        assert_eq!(node.broker.messages.load(Ordering::SeqCst), 2);
        assert_eq!(node.stock().await, (4, 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_whatever_waits_while_the_last_call_is_out() {
    let node = Arc::new(Node::behind_gates(100).await);
    node.broker.gate.add_permits(100);
    let mut asking = JoinSet::new();
    for number in 0..10 {
        let node = Arc::clone(&node);
        asking.spawn(async move { node.claim(&format!("b{number}"), None).await });
        if number == 0 {
            settle().await;
        }
    }
    settle().await;
    assert_eq!(*node.inventory.calls.lock().unwrap(), [1], "the first waits for nobody, and its call is still out");
    node.inventory.gate.add_permits(100);
    while let Some(answer) = asking.join_next().await {
        assert!(is_granted(&answer.unwrap()));
    }
    assert_eq!(*node.inventory.calls.lock().unwrap(), [1, 9]);
    assert_eq!(node.broker.messages.load(Ordering::SeqCst), 2, "one message per batch");
}

#[tokio::test(start_paused = true)]
async fn the_same_request_twice_at_once_is_asked_once_and_answered_twice() {
    let node = Arc::new(Node::behind_gates(5).await);
    let mut asking = JoinSet::new();
    for _ in 0..3 {
        let node = Arc::clone(&node);
        asking.spawn(async move { node.claim("alice", Some("k")).await });
    }
    settle().await;
    node.inventory.gate.add_permits(100);
    node.broker.gate.add_permits(100);
    let answers: Vec<_> = asking.join_all().await;
    assert_eq!(answers.iter().filter(|answer| is_granted(answer)).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| matches!(answer, Answer::Granted { .. })), "{answers:?}");
    assert_eq!(*node.inventory.calls.lock().unwrap(), [1]);
}

#[tokio::test(start_paused = true)]
async fn whose_request_got_the_last_unit_and_is_not_confirmed_yet_waits_with_it_while_others_are_refused() {
    let node = Arc::new(Node::behind_gates(1).await);
    node.inventory.gate.add_permits(100);
    let mut asking = JoinSet::new();
    for _ in 0..2 {
        let node = Arc::clone(&node);
        asking.spawn(async move { node.claim("alice", Some("k")).await });
        settle().await;
    }
    let other = node.claim("bob", Some("k")).await;
    assert!(matches!(other, Answer::Refused(Refusal::AllHeld { .. })), "{other:?}");
    node.broker.gate.add_permits(100);
    let answers = asking.join_all().await;
    assert!(answers.iter().all(|answer| matches!(answer, Answer::Granted { .. })), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_comes_too_late_asks_nobody_but_who_was_granted_hears_it_again() {
    let node = Node::selling(1).await;
    assert!(is_granted(&node.claim("alice", Some("k")).await));
    let calls = node.inventory.calls.lock().unwrap().len();
    for number in 0..100 {
        let key = format!("k{number}");
        let answer = node.claim(&format!("b{number}"), (number % 2 == 0).then_some(key.as_str())).await;
        assert!(matches!(answer, Answer::Refused(Refusal::AllHeld { .. })), "{answer:?}");
    }
    assert_eq!(node.inventory.calls.lock().unwrap().len(), calls);
    let again = node.claim("alice", Some("k")).await;
    assert!(matches!(again, Answer::Granted { replayed: true, .. }), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn what_another_node_granted_is_known_here_as_soon_as_nothing_is_left() {
    let node = Node::selling(1).await;
    let other = Node::beside(&node).await;
    assert!(is_granted(&other.claim("alice", Some("k")).await));
    assert!(node.shards.refilled(SCOPE.partition).await);
    let again = node.claim("alice", Some("k")).await;
    assert!(matches!(again, Answer::Granted { replayed: true, .. }), "{again:?}");
    let late = node.claim("bob", Some("k")).await;
    assert!(matches!(late, Answer::Refused(Refusal::AllHeld { .. })), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn who_meets_an_empty_shard_waits_while_the_inventory_still_has_units() {
    let node = Arc::new(Node::behind_gates(2).await);
    node.broker.gate.add_permits(100);
    let mut asking = JoinSet::new();
    for number in 0..6 {
        let node = Arc::clone(&node);
        asking.spawn(async move { node.claim(&format!("b{number}"), None).await });
    }
    // Two have the permits, and the inventory has not decided: for all that is known the rest may still get them.
    settle().await;
    assert_eq!(asking.len(), 6);
    assert!(asking.try_join_next().is_none(), "nobody is told that it is sold out");
    node.inventory.gate.add_permits(100);
    let answers = asking.join_all().await;
    assert_eq!(answers.iter().filter(|answer| is_granted(answer)).count(), 2, "{answers:?}");
    let gone = answers.iter().filter(|answer| matches!(answer, Answer::Refused(Refusal::AllHeld { .. }))).count();
    assert_eq!(gone, 4, "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_claim_for_more_than_this_nodes_share_is_let_through_while_the_inventory_has_enough() {
    let node = Node::selling(6).await;
    let beat = |name: &str| NodeBeat { node: name.parse().unwrap(), weight: 1.0, status: String::new() };
    node.shards.learn_nodes(["a", "b", "c", "d"].map(beat).to_vec());
    assert_eq!(node.left(), 2, "a quarter, rounded up");
    let answer = node.claim_many("alice", None, 4).await;
    assert!(is_granted(&answer), "{answer:?}");
    let answer = node.claim_many("bob", None, 4).await;
    assert!(matches!(answer, Answer::Refused(Refusal::AllHeld { .. })), "two are left, and all know it: {answer:?}");
    assert_eq!(node.stock().await, (2, 4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_family_is_one_claim_at_every_leg_and_never_waits_for_a_refill_that_cannot_come() {
    let node = Node::selling(3).await;
    let beat = |name: &str| NodeBeat { node: name.parse().unwrap(), weight: 1.0, status: String::new() };
    node.shards.learn_nodes(["a", "b"].map(beat).to_vec());
    assert_eq!(node.left(), 2, "a half, rounded up");
    let family = || Ask::Lines(vec![AskedLine { quantity: Some(1), ..AskedLine::default() }; 3]);
    let answer = node.claim_for("alice", None, family()).await;
    assert!(is_granted(&answer), "more than the share, and all that there is: {answer:?}");
    let node = Node::selling(2).await;
    let answer = node.claim_for("bob", None, family()).await;
    assert_eq!(answer, Answer::Refused(Refusal::SoldOut), "more than there is");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_answers_who_is_in_flight() {
    let node = Node::selling(3).await;
    assert!(is_granted(&node.claim("alice", None).await));
    let Node { claims, shards, shutdown, .. } = node;
    shutdown.begin();
    drop((claims, shards));
    assert!(shutdown.finish(Duration::from_secs(5)).await, "everything ended by itself");
}

#[tokio::test(start_paused = true)]
async fn whom_another_node_has_just_granted_the_last_but_one_unit_is_not_refused_here() {
    let node = Node::selling(2).await;
    // Another node grants alice a unit; this one has not heard of it.
    let theirs = Node::selling(2).await;
    let Answer::Granted { order, .. } = theirs.claim("alice", Some("k")).await else { panic!("granted") };
    let claim = Claim { order: Order::clone(&order) };
    node.inventory.inner.confirm(SCOPE, &[claim], UnixMillis(1_000_000)).await.unwrap();
    // The last unit goes here, so this node knows that nothing is free, but not who else has got what.
    assert!(is_granted(&node.claim("bob", None).await));
    let again = node.claim("alice", Some("k")).await;
    assert!(matches!(again, Answer::Granted { replayed: true, .. }), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_confirm_bounds_what_is_granted() {
    let node = Arc::new(Node::behind_gates(1000).await);
    node.inventory.gate.add_permits(1000);
    let mut asking = JoinSet::new();
    for number in 0..200 {
        let node = Arc::clone(&node);
        asking.spawn(async move { node.claim(&format!("b{number}"), None).await });
        // One after the other, so that each is a batch.
        settle().await;
    }
    let (_, held, _) = node.stock().await;
    assert_eq!(held, 128, "no more than may be unconfirmed");
    assert_eq!(node.broker.messages.load(Ordering::SeqCst), 2, "the rest waits to be told in one message");
    node.broker.gate.add_permits(1000);
    let answers = asking.join_all().await;
    assert!(answers.iter().all(is_granted), "the rest is decided when there is room");
    assert_eq!(node.inventory.calls.lock().unwrap().iter().sum::<usize>(), 200);
}

#[tokio::test(start_paused = true)]
async fn what_is_granted_while_messages_are_out_is_told_in_one() {
    let node = Arc::new(Node::behind_gates(1000).await);
    node.inventory.gate.add_permits(1000);
    let mut asking = JoinSet::new();
    for number in 0..20 {
        let node = Arc::clone(&node);
        asking.spawn(async move { node.claim(&format!("b{number}"), None).await });
        settle().await;
    }
    // Two are out with an order each; eighteen wait for the first of them to be confirmed.
    node.broker.gate.add_permits(3);
    assert!(asking.join_all().await.iter().all(is_granted));
    assert_eq!(node.broker.messages.load(Ordering::SeqCst), 3);
    assert_eq!(node.broker.got.lock().unwrap().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_full_waits_for_no_other() {
    let node = Arc::new(Node::behind_gates(2000).await);
    node.inventory.gate.add_permits(4);
    let mut asking = JoinSet::new();
    for number in 0..2000 {
        let node = Arc::clone(&node);
        asking.spawn(async move { node.claim(&format!("b{number}"), None).await });
    }
    // A batch of one, and three of 128, with two messages out: the rest is not full.
    settle().await;
    assert_eq!(node.broker.messages.load(Ordering::SeqCst), 2);
    node.inventory.gate.add_permits(100);
    settle().await;
    assert!(node.broker.messages.load(Ordering::SeqCst) > 2, "full ones go, though nothing is confirmed");
    node.open_gates();
    assert!(asking.join_all().await.iter().all(is_granted));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_slow_and_well_does_not_hold_the_inventory_up() {
    let node = Arc::new(Node::selling(1000).await);
    let call = Duration::from_millis(2);
    *node.inventory.confirm_takes.lock().unwrap() = call;
    // Fifty batches are unconfirmed at any time.
    *node.broker.takes.lock().unwrap() = call * 50;
    let begun = tokio::time::Instant::now();
    let mut asking = JoinSet::new();
    for number in 0..500 {
        let node = Arc::clone(&node);
        asking.spawn(async move { node.claim(&format!("b{number}"), None).await });
        tokio::time::sleep(call).await;
    }
    assert!(asking.join_all().await.iter().all(is_granted));
    let calls = node.inventory.calls.lock().unwrap().len();
    assert!(calls > 490, "each claim found the inventory free: {calls} calls");
    assert!(begun.elapsed() < call * 560, "{:?}", begun.elapsed());
}
