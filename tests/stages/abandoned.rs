//! A buyer who leaves while a claim is under way: the claim's future is dropped at its every poll, on every way that it can take.
//! No unit and no place in line is lost, and an order that the inventory was asked for goes its way to the end.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rushgate::confirm::Answer;
use rushgate::domain::Refusal;
use rushgate::inventory::{Fault, Inventory};
use rushgate::queue::Unconfirmed;
use tokio::task::JoinSet;

use crate::claims::{is_granted, settle};
use crate::doubles::{Fate, Node, SCOPE};

/// Polls that any claim is done with.
const MOST_POLLS: usize = 200;
/// Polls between which time stands still, so that the claim is dropped at every step of the others too.
const DENSE_POLLS: usize = 20;

/// Begins the work in a world of its own again and again, and drops it after no poll, one poll, two, … until it comes to its end.
/// `after` looks at what is left each time, and is told the answer if there was one. Returns how many polls the work took.
async fn at_every_poll<W, T>(
    world: impl AsyncFn() -> W,
    work: impl AsyncFn(&W) -> T,
    after: impl AsyncFn(W, usize, Option<T>),
) -> usize {
    for polls in 0..MOST_POLLS {
        let world = world().await;
        let answer = polled(work(&world), polls).await;
        let ended = answer.is_some();
        after(world, polls, answer).await;
        if ended {
            return polls;
        }
    }
    panic!("no end after {MOST_POLLS} polls");
}

/// What comes of a future that is polled so many times and then dropped.
async fn polled<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    for poll in 0..polls {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(answer);
        }
        if poll < DENSE_POLLS {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    None
}

/// Nothing is under way any more, and whatever is not held can be bought.
async fn assert_whole(node: &Node, capacity: u32, when: &str) {
    settle().await;
    assert_eq!(node.claims.in_flight(), 0, "{when}: a place in line is left");
    let (free, held, _) = node.stock().await;
    assert_eq!(free + held, capacity, "{when}: a unit is lost");
    let outbox = node.inventory.outbox(SCOPE, Duration::ZERO, 100).await.expect("the outbox");
    let orders: BTreeSet<_> = outbox.iter().flat_map(|entry| &entry.orders).map(|order| order.id).collect();
    assert_eq!(orders.len() as u64, node.orders().await, "{when}: an order is on no way to the store");
    assert!(node.shards.refilled(SCOPE.partition).await);
    assert_eq!(node.left(), free, "{when}: a permit is lost");
    for number in 0..free {
        let answer = node.claim(&format!("late{number}"), None).await;
        assert!(is_granted(&answer), "{when}: {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn on_the_way_to_a_yes() {
    let polls = at_every_poll(
        async || Node::selling(3).await,
        async |node| node.claim("alice", Some("k")).await,
        async |node, polls, answer| {
            assert!(answer.iter().all(is_granted), "{answer:?}");
            settle().await;
            let (_, held, _) = node.stock().await;
            assert_eq!(node.broker.got.lock().unwrap().len(), held as usize, "after {polls} polls");
            assert_whole(&node, 3, &format!("after {polls} polls")).await;
        },
    )
    .await;
    assert!(polls > 1, "there is something to drop");
}

#[tokio::test(start_paused = true)]
async fn on_the_way_to_a_no() {
    at_every_poll(
        async || {
            let node = Node::selling(6).await;
            assert!(is_granted(&node.claim_many("alice", None, 4).await));
            node
        },
        async |node| node.claim("alice", Some("k")).await,
        async |node, polls, answer| {
            let refused = |answer: &Answer| matches!(answer, Answer::Refused(Refusal::LimitReached { .. }));
            assert!(answer.iter().all(refused), "{answer:?}");
            assert_whole(&node, 6, &format!("after {polls} polls")).await;
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn on_the_way_to_what_is_not_known() {
    let unknown: [fn(&Node); 3] = [
        |node| node.inventory.fates.lock().unwrap().extend([Fate::ReplyLost, Fate::ReplyLost]),
        |node| {
            let away = Fate::Fails(Fault::Unknown(String::new()));
            node.inventory.fates.lock().unwrap().extend([away.clone(), away]);
        },
        |node| *node.broker.refuses.lock().unwrap() = Some(Unconfirmed::Unknown(String::new())),
    ];
    for goes_wrong in unknown {
        at_every_poll(
            async || {
                let node = Node::selling(3).await;
                goes_wrong(&node);
                node
            },
            async |node| node.claim("alice", Some("k")).await,
            async |node, polls, answer| {
                assert!(answer.iter().all(|answer| matches!(answer, Answer::Pending { .. })), "{answer:?}");
                settle().await;
                node.inventory.fates.lock().unwrap().clear();
                *node.broker.refuses.lock().unwrap() = None;
                assert_whole(&node, 3, &format!("after {polls} polls")).await;
            },
        )
        .await;
    }
}

/// A node whose inventory and broker are silent, and others' claims that wait for them.
struct Waiting {
    node: Arc<Node>,
    others: JoinSet<Answer>,
}

impl Waiting {
    async fn with(capacity: u32, others: &[(&'static str, Option<&'static str>)]) -> Self {
        let node = Arc::new(Node::behind_gates(capacity).await);
        let mut waiting = Self { node, others: JoinSet::new() };
        for &(buyer, key) in others {
            let node = Arc::clone(&waiting.node);
            waiting.others.spawn(async move { node.claim(buyer, key).await });
        }
        settle().await;
        waiting
    }

    /// Lets the inventory and the broker answer; all others must hear yes.
    async fn go_on(self, when: &str) -> Arc<Node> {
        self.node.open_gates();
        for answer in self.others.join_all().await {
            assert!(matches!(answer, Answer::Granted { .. }), "{when}: {answer:?}");
        }
        self.node
    }
}

#[tokio::test(start_paused = true)]
async fn behind_the_same_request() {
    at_every_poll(
        async || Waiting::with(3, &[("alice", Some("k"))]).await,
        async |waiting| {
            let claim = waiting.node.claim("alice", Some("k"));
            let open = async {
                settle().await;
                waiting.node.open_gates();
            };
            tokio::join!(claim, open).0
        },
        async |waiting, polls, answer| {
            let when = format!("after {polls} polls");
            assert!(answer.iter().all(|answer| matches!(answer, Answer::Granted { .. })), "{answer:?}");
            let node = waiting.go_on(&when).await;
            assert_eq!(node.stock().await.1, 1, "{when}: one request is one order");
            assert_whole(&node, 3, &when).await;
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn in_front_of_the_same_request() {
    at_every_poll(
        async || Waiting::with(3, &[]).await,
        async |waiting| {
            let claim = waiting.node.claim("alice", Some("k"));
            let open = async {
                settle().await;
                waiting.node.open_gates();
            };
            tokio::join!(claim, open).0
        },
        async |mut waiting, polls, answer| {
            let when = format!("after {polls} polls");
            assert!(answer.iter().all(is_granted), "{answer:?}");
            let node = Arc::clone(&waiting.node);
            waiting.others.spawn(async move { node.claim("alice", Some("k")).await });
            settle().await;
            let node = waiting.go_on(&when).await;
            assert_eq!(node.stock().await.1, 1, "{when}: one request is one order");
            assert_whole(&node, 3, &when).await;
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn while_it_waits_for_a_refill() {
    at_every_poll(
        async || Waiting::with(2, &[("bob", None), ("carol", None)]).await,
        async |waiting| {
            let claim = waiting.node.claim("alice", Some("k"));
            let open = async {
                settle().await;
                waiting.node.open_gates();
            };
            tokio::join!(claim, open).0
        },
        async |waiting, polls, answer| {
            let gone = |answer: &Answer| matches!(answer, Answer::Refused(Refusal::AllHeld { .. }));
            assert!(answer.iter().all(gone), "{answer:?}");
            let when = format!("after {polls} polls");
            let node = waiting.go_on(&when).await;
            assert_whole(&node, 2, &when).await;
        },
    )
    .await;
}
