//! Claims of one node, its batcher and its end, in random orders of their steps.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{Either, select};
use rushgate::admission::Shards;
use rushgate::admission::pressure::Pressure;
use rushgate::clock::{Clock, ManualClock};
use rushgate::config::settings::AnswerAfter;
use rushgate::domain::{Ask, Buffer, OrderSecret, UnixMillis};
use rushgate::epochs::Epochs;
use rushgate::inventory::{Fault, Inventory, Snapshot};
use rushgate::meters::Meters;
use rushgate::queue::{Publisher, Unconfirmed};
use shuttle::future::{block_on, spawn, yield_now};
use shuttle::rand::{Rng, thread_rng};

use crate::Model;
use crate::confirm::batch::{Batcher, Desk, DeskMeters, Limits};
use crate::confirm::{Answer, Claims, Parts, Request};
use crate::doubles::{BadLine, Broker, Fate, SCOPE, sale};
use crate::shutdown::Shutdown;
use crate::spans::Spans;

pub(crate) const MODELS: &[Model] = &[
    ("every claim hears one answer and leaves nothing behind", every_claim_is_answered),
    ("a node that stops answers who is in flight", a_node_that_stops),
    ("a node that is forced to stop leaves nobody waiting", a_node_that_is_forced),
];

/// Orders of events per model; a thousand take about a second.
const ORDERS: usize = 1500;
const SEED: u64 = 1;
/// So many that nobody waits for a refill, which a clock paces.
const CAPACITY: u32 = 100;
/// A claim's time, and the shutdown's. Nobody turns the clock, so that it never comes.
const NEVER: Duration = Duration::from_secs(3600);

fn in_random_orders(model: fn()) -> usize {
    let given = std::env::var("RUSHGATE_INTERLEAVINGS_SEED").ok();
    let seed = given.map_or(SEED, |seed| seed.parse().expect("a seed is a number"));
    println!("seed {seed}:");
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let clock = clock.expect("a runtime that runs nothing");
    let _timeouts_can_be_made = clock.enter();
    shuttle::check_random_with_seed(model, seed, ORDERS);
    ORDERS
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Quiet,
    InTheMiddle,
    Forced,
}

fn every_claim_is_answered() -> usize {
    in_random_orders(|| block_on(a_life(End::Quiet)))
}

fn a_node_that_stops() -> usize {
    in_random_orders(|| block_on(a_life(End::InTheMiddle)))
}

fn a_node_that_is_forced() -> usize {
    in_random_orders(|| block_on(a_life(End::Forced)))
}

/// Buyers come, one of them leaves, the backends answer when and what they want, and the node ends.
async fn a_life(end: End) {
    let node = Node::new().await;
    node.choose_what_goes_wrong();
    let opening = spawn(open_gates(Arc::clone(&node.inventory), Arc::clone(&node.broker)));
    let buyers = [("alice", "k", 1), ("alice", "k", 1), ("alice", "m", 4), ("bob", "k", 1)];
    let leaver = thread_rng().gen_range(0..buyers.len());
    let mut asking = Vec::new();
    for (number, request) in buyers.into_iter().enumerate() {
        let claims = node.claims.clone();
        asking.push(spawn(async move {
            let claim = pin!(claim(claims, request));
            if number != leaver {
                return Some(claim.await);
            }
            match select(claim, pin!(pass_some_time())).await {
                Either::Left((answer, _)) => Some(answer),
                Either::Right(_) => None,
            }
        }));
    }
    let shutdown = node.shutdown.clone();
    let stopping = spawn(async move {
        pass_some_time().await;
        match end {
            End::Quiet => {}
            End::InTheMiddle => shutdown.begin(),
            End::Forced => shutdown.force(),
        }
    });
    let mut answers = Vec::new();
    for claim in asking {
        // Whoever left hears nothing. Whoever did not and never hears anything is a deadlock, which the checker reports.
        answers.extend(claim.await.expect("no panic"));
    }
    for other in [stopping, opening] {
        other.await.expect("no panic");
    }
    node.end(end, &answers).await;
}

async fn claim(claims: Claims, (buyer, key, quantity): (&str, &str, u64)) -> Answer {
    let request = Request {
        sale: "s",
        buyer: buyer.parse().expect("a buyer"),
        key: Some(key.parse().expect("a key")),
        ask: Ask::Quantity(quantity),
        trace: None,
    };
    claims.claim(request, || Some(((), crate::confirm::deadline(NEVER)))).await
}

async fn pass_some_time() {
    for _ in 0..thread_rng().gen_range(0..12) {
        yield_now().await;
    }
}

/// Lets calls through one by one, and at last all of them.
async fn open_gates(inventory: Arc<BadLine>, broker: Arc<Broker>) {
    for _ in 0..6 {
        pass_some_time().await;
        if thread_rng().gen_bool(0.5) { &inventory.gate } else { &broker.gate }.add_permits(1);
    }
    inventory.gate.add_permits(100);
    broker.gate.add_permits(100);
}

/// A gateway without its door, on the checker's tasks.
struct Node {
    claims: Claims,
    shards: Shards,
    inventory: Arc<BadLine>,
    broker: Arc<Broker>,
    shutdown: Shutdown,
}

impl Node {
    async fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(UnixMillis(1_000_000)));
        let inventory = Arc::new(BadLine::new(Arc::clone(&clock)));
        let snapshot = Snapshot { sales: vec![sale(CAPACITY)], orders: Vec::new() };
        inventory.inner.rebuild(SCOPE, &snapshot).await.expect("rebuilt");
        inventory.inner.open(SCOPE).await.expect("open");
        let (broker, shutdown) = (Arc::new(Broker::silent()), Shutdown::new());
        let epochs = Epochs::new(1);
        epochs.assume(SCOPE);
        let shards = Shards::new(1, 1.0, Buffer::Units(0));
        shards.learn(SCOPE, &inventory.changes(SCOPE, 0).await.expect("changes"));
        let publisher = Arc::clone(&broker) as Arc<dyn Publisher>;
        let desk = Desk {
            partition: SCOPE.partition,
            inventory: Arc::clone(&inventory) as Arc<dyn Inventory>,
            publisher: Arc::clone(&publisher),
            shards: shards.clone(),
            epochs: epochs.clone(),
            clock: Arc::clone(&clock),
            meters: DeskMeters::new(&Meters::new()),
            spans: Spans::default(),
        };
        let batcher =
            Batcher::new(desk, Limits { batch_max: 2, batches_in_flight: 2, answer_after: AnswerAfter::Broker });
        let secret = Arc::new(OnceLock::from(OrderSecret::new([7; 32])));
        let pressure = Pressure::new(1);
        let parts = Parts { shards: shards.clone(), epochs, pressure, publisher, clock, secret };
        let claims = Claims::new(parts, std::slice::from_ref(&batcher));
        shutdown.spawn(batcher.run(shutdown.clone()));
        Self { claims, shards, inventory, broker, shutdown }
    }

    fn choose_what_goes_wrong(&self) {
        let mut chance = thread_rng();
        let mut fates = self.inventory.fates.lock().expect("no panic");
        for _ in 0..chance.gen_range(0..3) {
            fates.push_back(match chance.gen_range(0..4) {
                0 => Fate::Fails(Fault::NotDone(String::new())),
                1 => Fate::Fails(Fault::Unknown(String::new())),
                2 => Fate::Fails(Fault::Fenced(String::new())),
                _ => Fate::ReplyLost,
            });
        }
        *self.broker.refuses.lock().expect("no panic") = match chance.gen_range(0..4) {
            0 => Some(Unconfirmed::NotSent(String::new())),
            1 => Some(Unconfirmed::Unknown(String::new())),
            _ => None,
        };
    }

    /// Waits until nothing runs any more, and looks at what is left.
    async fn end(self, end: End, answers: &[Answer]) {
        let Self { claims, shards, inventory, broker, shutdown } = self;
        for _ in 0..10_000 {
            if claims.in_flight() == 0 {
                break;
            }
            yield_now().await;
        }
        assert_eq!(claims.in_flight(), 0, "a place in line is left");
        drop(claims);
        shutdown.begin();
        assert_eq!(shutdown.finish(NEVER).await, end != End::Forced);
        let stock = inventory.stock(SCOPE, &"s".parse().expect("an id")).await.expect("stock");
        assert_eq!(stock[0].free + stock[0].held, CAPACITY);
        shards.learn(SCOPE, &inventory.changes(SCOPE, 0).await.expect("changes"));
        shards.refill_all();
        let shard = shards.sale("s").expect("the sale");
        assert_eq!(shards.left(&shard), [[stock[0].free]], "a permit is lost");
        let outbox = inventory.outbox(SCOPE, Duration::ZERO, 100).await.expect("the outbox");
        let on_their_way: BTreeSet<_> = outbox.iter().flat_map(|entry| &entry.orders).map(|order| order.id).collect();
        let (known, _) = inventory.orders(SCOPE, None).await.expect("orders");
        assert!(known.iter().all(|known| on_their_way.contains(&known.order.id)), "an order is on no way to the store");
        let refuses = broker.refuses.lock().expect("no panic").is_some();
        let got = broker.got.lock().expect("no panic");
        for answer in answers {
            if let Answer::Granted { order, .. } = answer {
                assert!(!refuses && got.contains(&order.id), "yes without the broker's confirm");
            }
        }
    }
}
