//! The contract of the queue, over both backends; then what only one of them can go through: faults of the broker and of the
//! network, and the bound of memory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicRejectOptions, ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use rushgate::config::settings;
use rushgate::domain::{Epoch, Order, OrderId, Partition, Scope, TraceContext};
use rushgate::meters::Meters;
use rushgate::queue::envelope::{Content, Envelope};
use rushgate::queue::memory::ConfirmWhen;
use rushgate::queue::traces::Traces;
use rushgate::queue::{Delivery, Fault, Lane, LaneDepth, LaneId, Parked, Queue, Strain, Unconfirmed};
use rushgate::shutdown::Shutdown;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::servers;
use fake_broker::{FakeBroker, Temper};
use tcp_proxy::{Mode, Proxy};

#[path = "../support/fake_broker.rs"]
mod fake_broker;
#[expect(dead_code, reason = "the fault suite misbehaves in more ways")]
#[path = "../support/tcp_proxy.rs"]
mod tcp_proxy;

const SCOPE: Scope = Scope { partition: Partition(0), epoch: Epoch(1) };
const OTHER: Scope = Scope { partition: Partition(1), epoch: Epoch(1) };
const LANES: u16 = 3;
/// Longer than anything here takes when it works.
const PATIENCE: Duration = Duration::from_secs(60);

/// A queue with its lanes declared and one scope open.
struct Bench {
    queue: Queue,
    shutdown: Shutdown,
    settings: settings::Queue,
    meters: Meters,
    /// The broker, if there is one; past all proxies.
    broker: Option<String>,
}

impl Bench {
    fn settings(url: &str) -> settings::Queue {
        settings::Queue {
            url: url.into(),
            namespace: servers::unique("queue"),
            lanes: LANES,
            confirm_timeout: Duration::from_secs(5),
            ..settings::Queue::default()
        }
    }

    async fn memory() -> Self {
        let (settings, meters) = (Self::settings(""), Meters::new());
        let queue = rushgate::queue::memory::open(&settings, &meters, ConfirmWhen::Queued);
        queue.topology.open(SCOPE).await.unwrap();
        Self { queue, shutdown: Shutdown::new(), settings, meters, broker: None }
    }

    async fn rabbitmq() -> Self {
        let bench = Self::connect(Self::settings(&servers::amqp_url()));
        bench.queue.topology.declare().await.unwrap();
        bench.queue.topology.open(SCOPE).await.unwrap();
        bench
    }

    /// Over a proxy, with a confirm timeout that a test can wait for. Nothing is declared yet.
    async fn proxied(mode: Mode) -> (Self, Proxy) {
        let proxy = Proxy::start(broker_address(), mode).await;
        let uri: lapin::uri::AMQPUri = servers::amqp_url().parse().unwrap();
        let url = servers::amqp_url()
            .replace(&format!("{}:{}", uri.authority.host, uri.authority.port), &proxy.address.to_string());
        let settings = settings::Queue { confirm_timeout: Duration::from_millis(500), ..Self::settings(&url) };
        (Self::connect(settings), proxy)
    }

    fn connect(settings: settings::Queue) -> Self {
        let (shutdown, meters) = (Shutdown::new(), Meters::new());
        let queue = rushgate::queue::rabbitmq::connect(&settings, &shutdown, &meters);
        Self { queue, shutdown, settings, meters, broker: Some(servers::amqp_url()) }
    }

    async fn publish(&self, number: u64) -> Result<(), Unconfirmed> {
        self.queue.publisher.publish(numbered(SCOPE, number)).await
    }

    async fn publish_all(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.publish(number).await.unwrap();
        }
    }

    async fn take(&self, lane: u16) -> Box<dyn Lane> {
        self.queue.consumer.consume(LaneId::Number(lane)).await.unwrap()
    }

    /// All that is in the lanes, lane by lane, in order, with whether it was redelivered. Empties them.
    async fn drain(&self) -> BTreeMap<u16, Vec<(u64, bool)>> {
        self.queue.topology.barrier(SCOPE).await.unwrap();
        let mut drained = BTreeMap::new();
        for number in 0..LANES {
            let mut lane = self.take(number).await;
            let found: &mut Vec<_> = drained.entry(number).or_default();
            loop {
                let delivery = lane.next().await.unwrap();
                lane.ack(&delivery).await.unwrap();
                match number_of(&delivery) {
                    Some(number) => found.push((number, delivery.redelivered)),
                    None => break,
                }
            }
        }
        drained
    }

    /// The numbers that are in the lanes, sorted. Empties them.
    async fn drain_numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<_> = self.drain().await.into_values().flatten().map(|(number, _)| number).collect();
        numbers.sort_unstable();
        numbers
    }

    async fn depth(&self, lane: LaneId) -> LaneDepth {
        let depths = self.queue.topology.depths().await.unwrap();
        depths.into_iter().find(|depth| depth.lane == lane).unwrap()
    }

    /// Waits until the publisher says that it is ready, and that nothing blocks it.
    async fn ready(&self) {
        let publisher = &self.queue.publisher;
        until("the publisher is ready", || publisher.ready().is_ok() && publisher.strain().blocked.is_none()).await;
    }

    /// Why it is there and takes nothing, if so.
    fn blocked(&self) -> Option<String> {
        assert_eq!(self.queue.publisher.ready(), Ok(()));
        self.queue.publisher.strain().blocked
    }

    /// Waits until some message has been without a confirm for so long.
    async fn strained(&self, age: Duration) {
        until("a message is without its confirm", || {
            self.queue.publisher.strain().oldest_unconfirmed.is_some_and(|oldest| oldest >= age)
        })
        .await;
    }

    async fn end(self) {
        drop(self.queue);
        self.shutdown.begin();
        assert!(self.shutdown.finish(Duration::from_secs(5)).await, "the shutdown was clean, and in time");
        if self.broker.is_some() {
            let by_hand = ByHand::connect().await;
            by_hand.delete_all(&self.settings.namespace).await;
        }
    }
}

/// The broker as an operator reaches it.
struct ByHand {
    connection: Connection,
}

impl ByHand {
    async fn connect() -> Self {
        Self { connection: Connection::connect(&servers::amqp_url(), ConnectionProperties::default()).await.unwrap() }
    }

    async fn channel(&self) -> Channel {
        self.connection.create_channel().await.unwrap()
    }

    async fn delete_all(&self, namespace: &str) {
        let channel = self.channel().await;
        let lanes = (0..LANES + 2).map(|lane| format!("lane.{lane}"));
        for name in lanes.chain(["unroutable".to_owned(), "dead".to_owned()]) {
            let name = format!("{namespace}.{name}");
            channel.queue_delete(name.clone().into(), QueueDeleteOptions::default()).await.unwrap();
            channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.unwrap();
        }
        for scope in [SCOPE, OTHER] {
            let name = format!("{namespace}.orders.{scope}");
            channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.unwrap();
        }
    }

    /// Takes all lanes off the scope's exchange.
    async fn unbind(&self, namespace: &str) {
        let channel = self.channel().await;
        for lane in 0..LANES {
            let (queue, exchange) = (format!("{namespace}.lane.{lane}"), format!("{namespace}.orders.{SCOPE}"));
            let key = lane.to_string();
            channel.queue_unbind(queue.into(), exchange.into(), key.into(), FieldTable::default()).await.unwrap();
        }
    }
}

fn broker_address() -> SocketAddr {
    let uri: lapin::uri::AMQPUri = servers::amqp_url().parse().unwrap();
    format!("{}:{}", uri.authority.host, uri.authority.port).parse().unwrap()
}

/// A message that can be told from the others.
fn numbered(scope: Scope, number: u64) -> Envelope {
    Envelope::orders(scope, Some(number.to_string().parse().unwrap()), Vec::<Order>::new())
}

/// Its number; none for a barrier.
fn number_of(delivery: &Delivery) -> Option<u64> {
    match Envelope::decode(&delivery.body).unwrap().content {
        Content::Orders { outbox, .. } => Some(outbox[0].as_str().parse().unwrap()),
        Content::Barrier { .. } => None,
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Makes one test of each contract, for each backend.
macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        contract!(@backend memory $($name)*);
        contract!(@backend rabbitmq $($name)*);
    };
    (@backend $backend:ident $($name:ident)*) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let test = async {
                        let bench = super::Bench::$backend().await;
                        super::$name(&bench).await;
                        bench.end().await;
                    };
                    super::timeout(super::PATIENCE, test).await.expect("the test ends in time");
                }
            )*
        }
    };
}

contract! {
    a_confirmed_message_is_delivered_as_it_was_sent,
    a_large_message_is_delivered_as_it_was_sent,
    the_traces_of_its_orders_travel_with_a_message,
    a_lane_keeps_its_order,
    messages_are_spread_over_all_lanes,
    what_a_dropped_lane_had_not_acknowledged_comes_again_first,
    an_acknowledgement_covers_all_before_it,
    a_parked_message_goes_to_the_dead_letters_and_nothing_else_does,
    a_dead_letter_says_where_it_comes_from_and_stays_until_it_is_acknowledged,
    what_is_put_is_in_a_lane_behind_all_that_is_there,
    a_lane_has_one_consumer_and_the_next_takes_over,
    a_tag_of_an_earlier_taking_acknowledges_nothing,
    a_wait_that_was_given_up_loses_nothing,
    a_closed_scope_confirms_nothing_and_others_go_on,
    a_scope_that_is_opened_again_confirms_again,
    a_barrier_comes_behind_everything,
    depths_say_what_waits_and_who_consumes,
    what_is_no_lane_is_refused,
    many_publishers_at_once_lose_nothing_and_send_nothing_twice,
    an_exchange_closed_under_load_confirms_only_what_is_in_the_lanes,
    a_confirm_is_measured,
}

async fn a_confirmed_message_is_delivered_as_it_was_sent(bench: &Bench) {
    bench.publish(7).await.unwrap();
    assert_eq!(bench.queue.publisher.ready(), Ok(()));
    let drained = bench.drain().await;
    assert_eq!(drained.into_values().flatten().collect::<Vec<_>>(), [(7, false)]);
}

async fn a_large_message_is_delivered_as_it_was_sent(bench: &Bench) {
    let record = "abababababababababababababababab 0000000000000123 s b 1 2 55350 CNY second/0/3/1/p-1/window";
    let order = rushgate::domain::record::parse(record).unwrap();
    let envelope = Envelope::orders(SCOPE, None, vec![order; 5000]);
    assert!(envelope.encode().len() > 3 * 131_072, "it does not fit into a frame of AMQP");
    bench.queue.publisher.publish(envelope.clone()).await.unwrap();
    let (delivery, _) = first_of_any(bench).await;
    assert_eq!(Envelope::decode(&delivery.body), Ok(envelope));
}

async fn the_traces_of_its_orders_travel_with_a_message(bench: &Bench) {
    let parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let trace = |state: &'static str| Arc::new(TraceContext::read(parent, [state.as_bytes()]).unwrap());
    let traces: Traces = [(OrderId([1; 16]), trace("a=1")), (OrderId([2; 16]), trace(""))].into_iter().collect();
    let envelope = numbered(SCOPE, 7).traced(traces.clone());
    let bytes = envelope.encode();
    bench.queue.publisher.publish(envelope).await.unwrap();
    let (delivery, lane) = first_of_any(bench).await;
    assert_eq!(delivery.traces, traces);
    assert_eq!(delivery.body, bytes, "whoever knows nothing of traces reads what was always there");
    assert_eq!(bytes, numbered(SCOPE, 7).encode());
    // Delivered again, they are still there.
    drop(lane);
    assert_eq!(first_of_any(bench).await.0.traces, traces);
}

/// The first message of whichever lane has one, and that lane.
async fn first_of_any(bench: &Bench) -> (Delivery, Box<dyn Lane>) {
    let mut waiting = JoinSet::new();
    for number in 0..LANES {
        let mut lane = bench.take(number).await;
        waiting.spawn(async move { (lane.next().await.unwrap(), lane) });
    }
    waiting.join_next().await.unwrap().unwrap()
}

async fn a_lane_keeps_its_order(bench: &Bench) {
    bench.publish_all(0..200).await;
    let drained = bench.drain().await;
    for found in drained.values() {
        assert!(found.is_sorted(), "{found:?}");
    }
    assert_eq!(drained.values().map(Vec::len).sum::<usize>(), 200);
}

async fn messages_are_spread_over_all_lanes(bench: &Bench) {
    bench.publish_all(0..30).await;
    let lengths: Vec<_> = bench.drain().await.into_values().map(|found| found.len()).collect();
    assert_eq!(lengths, [10, 10, 10]);
}

/// Fills every lane with so many messages, and returns the first lane's numbers in their order.
async fn fill(bench: &Bench, each: u64) -> (Box<dyn Lane>, Vec<Delivery>) {
    bench.publish_all(0..each * u64::from(LANES)).await;
    let mut lane = bench.take(0).await;
    let mut deliveries = Vec::new();
    for _ in 0..each {
        deliveries.push(lane.next().await.unwrap());
    }
    (lane, deliveries)
}

async fn what_a_dropped_lane_had_not_acknowledged_comes_again_first(bench: &Bench) {
    let (lane, before) = fill(bench, 5).await;
    drop(lane);
    bench.publish_all(100..100 + u64::from(LANES)).await;
    let mut lane = bench.take(0).await;
    for expected in &before {
        let again = lane.next().await.unwrap();
        assert_eq!((&again.body, again.redelivered), (&expected.body, true));
    }
    // It may be called redelivered, too: a broker sends ahead, and the lane that was dropped may have been sent it.
    assert!(number_of(&lane.next().await.unwrap()).unwrap() >= 100);
}

async fn an_acknowledgement_covers_all_before_it(bench: &Bench) {
    let (mut lane, deliveries) = fill(bench, 5).await;
    assert!(deliveries.is_sorted_by_key(|delivery| delivery.tag));
    lane.ack(&deliveries[2]).await.unwrap();
    // Again, or one that it covered: nothing more to acknowledge, and no harm.
    lane.ack(&deliveries[2]).await.unwrap();
    lane.ack(&deliveries[0]).await.unwrap();
    drop(lane);
    let mut lane = bench.take(0).await;
    for expected in &deliveries[3..] {
        assert_eq!(lane.next().await.unwrap().body, expected.body);
    }
    drop(lane);
    assert_eq!(bench.drain().await[&0].len(), 2);
}

async fn a_parked_message_goes_to_the_dead_letters_and_nothing_else_does(bench: &Bench) {
    let (mut lane, deliveries) = fill(bench, 4).await;
    lane.park(&deliveries[1], "it is poison").await.unwrap();
    lane.park(&deliveries[1], "it is poison").await.expect_err("it is gone already");
    assert_eq!(bench.depth(LaneId::Dead).await.messages, 1);
    // Up to the parked one itself: the one before it.
    lane.ack(&deliveries[1]).await.unwrap();
    drop(lane);
    let left: Vec<_> = bench.drain().await[&0].iter().map(|(number, _)| *number).collect();
    assert_eq!(left, [number_of(&deliveries[2]).unwrap(), number_of(&deliveries[3]).unwrap()]);
    assert_eq!(bench.depth(LaneId::Dead).await.messages, 1);
}

async fn a_dead_letter_says_where_it_comes_from_and_stays_until_it_is_acknowledged(bench: &Bench) {
    let (mut lane, deliveries) = fill(bench, 3).await;
    assert_eq!(deliveries[0].parked, None);
    lane.park(&deliveries[1], "it is poison").await.unwrap();
    lane.park(&deliveries[0], "it is poison too").await.unwrap();
    let mut dead = bench.queue.consumer.consume(LaneId::Dead).await.unwrap();
    let first = dead.next().await.unwrap();
    let parked = Parked { lane: "0".to_owned(), reason: "it is poison".to_owned() };
    assert_eq!((&first.body, first.redelivered, &first.parked), (&deliveries[1].body, false, &Some(parked.clone())));
    dead.park(&first, "again").await.expect_err("it is dead already");
    drop(dead);
    let mut dead = bench.queue.consumer.consume(LaneId::Dead).await.unwrap();
    let again = dead.next().await.unwrap();
    assert_eq!((&again.body, again.redelivered, again.parked.as_ref()), (&first.body, true, Some(&parked)));
    dead.ack(&again).await.unwrap();
    let second = dead.next().await.unwrap();
    assert_eq!((&second.body, second.parked.unwrap().reason.as_str()), (&deliveries[0].body, "it is poison too"));
    dead.ack(&Delivery { parked: None, ..second }).await.unwrap();
    drop(dead);
    assert_eq!(bench.depth(LaneId::Dead).await.messages, 0);
}

async fn what_is_put_is_in_a_lane_behind_all_that_is_there(bench: &Bench) {
    bench.publish_all(0..3 * u64::from(LANES)).await;
    // Recovery puts while the exchanges are closed; and what is put may be no message at all.
    bench.queue.topology.close(SCOPE).await.unwrap();
    let bodies = [numbered(SCOPE, 1000).encode(), b"no message".to_vec()];
    for body in &bodies {
        bench.queue.topology.put(body.clone()).await.unwrap();
    }
    let mut lane = bench.take(0).await;
    for _ in 0..3 {
        assert!(number_of(&lane.next().await.unwrap()).unwrap() < 1000);
    }
    for body in &bodies {
        assert_eq!(lane.next().await.unwrap().body, *body);
    }
}

async fn a_lane_has_one_consumer_and_the_next_takes_over(bench: &Bench) {
    let (mut first, mut second) = (bench.take(0).await, bench.take(0).await);
    bench.publish_all(0..20 * u64::from(LANES)).await;
    let mut last = None;
    for _ in 0..20 {
        tokio::select! {
            biased;
            _ = second.next() => panic!("the second consumer got a message while the first had the lane"),
            delivery = first.next() => last = Some(delivery.unwrap()),
        }
    }
    let last = last.unwrap();
    first.ack(&last).await.unwrap();
    drop(first);
    bench.publish_all(1000..1000 + u64::from(LANES)).await;
    let taken_over = second.next().await.unwrap();
    assert!(number_of(&taken_over).unwrap() >= 1000, "what was acknowledged stays so");
    second.ack(&taken_over).await.unwrap();
}

async fn a_tag_of_an_earlier_taking_acknowledges_nothing(bench: &Bench) {
    let (lane, deliveries) = fill(bench, 2).await;
    drop(lane);
    let mut lane = bench.take(0).await;
    let again = lane.next().await.unwrap();
    lane.ack(&deliveries[0]).await.expect_err("it was delivered to another");
    lane.park(&deliveries[0], "stale").await.expect_err("it was delivered to another");
    lane.ack(&again).await.unwrap();
}

async fn a_wait_that_was_given_up_loses_nothing(bench: &Bench) {
    let mut lane = bench.take(0).await;
    let mut got = Vec::new();
    let publishing = bench.publish_all(0..50 * u64::from(LANES));
    let receiving = async {
        while got.len() < 50 {
            // Often dropped in the middle of a wait.
            if let Ok(delivery) = timeout(Duration::from_micros(300), lane.next()).await {
                got.push(number_of(&delivery.unwrap()).unwrap());
            }
        }
    };
    tokio::join!(publishing, receiving);
    assert!(got.is_sorted(), "{got:?}");
    assert_eq!(got.iter().collect::<BTreeSet<_>>().len(), 50);
}

async fn a_closed_scope_confirms_nothing_and_others_go_on(bench: &Bench) {
    let never = Scope { partition: Partition(9), epoch: Epoch(9) };
    bench.queue.topology.open(OTHER).await.unwrap();
    bench.publish(1).await.unwrap();
    assert_eq!(bench.queue.topology.is_open(SCOPE).await, Ok(true));
    bench.queue.topology.close(SCOPE).await.unwrap();
    for (scope, open) in [(SCOPE, false), (never, false), (OTHER, true)] {
        assert_eq!(bench.queue.topology.is_open(scope).await, Ok(open), "{scope}");
    }
    // Safe to repeat, and for what never was.
    bench.queue.topology.close(SCOPE).await.unwrap();
    bench.queue.topology.close(never).await.unwrap();
    bench.publish(2).await.expect_err("it is closed");
    for (scope, open) in [(SCOPE, false), (never, false), (OTHER, true)] {
        assert_eq!(bench.queue.topology.is_open(scope).await, Ok(open), "{scope}");
    }
    for (scope, number) in [(SCOPE, 3), (never, 4)] {
        let refused = bench.queue.publisher.publish(numbered(scope, number)).await;
        assert!(matches!(refused, Err(Unconfirmed::NotSent(_))), "{refused:?}");
    }
    bench.queue.publisher.publish(numbered(OTHER, 5)).await.unwrap();
    assert_eq!(bench.queue.publisher.ready(), Ok(()));
    assert_eq!(bench.drain_numbers().await, [1, 5]);
}

async fn a_scope_that_is_opened_again_confirms_again(bench: &Bench) {
    bench.publish(1).await.unwrap();
    bench.queue.topology.close(SCOPE).await.unwrap();
    bench.publish(2).await.expect_err("it is closed");
    bench.queue.topology.open(SCOPE).await.unwrap();
    bench.queue.topology.open(SCOPE).await.unwrap();
    bench.publish(3).await.unwrap();
    assert_eq!(bench.drain_numbers().await, [1, 3]);
}

async fn a_barrier_comes_behind_everything(bench: &Bench) {
    let bench_ref = bench;
    futures_util::future::join_all((0..90).map(|number| bench_ref.publish(number))).await;
    bench.queue.topology.close(SCOPE).await.unwrap();
    bench.queue.topology.barrier(SCOPE).await.unwrap();
    let mut before = Vec::new();
    for number in 0..LANES {
        let mut lane = bench.take(number).await;
        loop {
            let delivery = lane.next().await.unwrap();
            let envelope = Envelope::decode(&delivery.body).unwrap();
            if envelope.content == (Content::Barrier { lane: number }) {
                assert_eq!(envelope.scope, SCOPE);
                break;
            }
            before.push(number_of(&delivery).unwrap());
        }
    }
    before.sort_unstable();
    assert_eq!(before, (0..90).collect::<Vec<_>>());
}

async fn depths_say_what_waits_and_who_consumes(bench: &Bench) {
    bench.publish_all(0..6).await;
    let lanes: Vec<_> = bench.queue.topology.depths().await.unwrap();
    let numbered = (0..LANES).map(|lane| LaneDepth { lane: LaneId::Number(lane), messages: 2, consumers: 0 });
    let others = [LaneId::Unroutable, LaneId::Dead].map(|lane| LaneDepth { lane, messages: 0, consumers: 0 });
    assert_eq!(lanes, numbered.chain(others).collect::<Vec<_>>());
    assert_eq!(bench.queue.topology.lanes(), LANES);
    let mut lane = bench.take(1).await;
    lane.next().await.unwrap();
    assert_eq!(bench.depth(LaneId::Number(1)).await.consumers, 1);
}

async fn what_is_no_lane_is_refused(bench: &Bench) {
    bench.queue.consumer.consume(LaneId::Number(LANES)).await.expect_err("there is none");
    for lane in [LaneId::Unroutable, LaneId::Dead] {
        bench.queue.consumer.consume(lane).await.unwrap();
    }
}

async fn many_publishers_at_once_lose_nothing_and_send_nothing_twice(bench: &Bench) {
    let mut publishers = JoinSet::new();
    for publisher in 0..64 {
        let queue = bench.queue.clone();
        publishers.spawn(async move {
            for number in 0..50 {
                queue.publisher.publish(numbered(SCOPE, publisher * 50 + number)).await.unwrap();
            }
        });
    }
    publishers.join_all().await;
    assert_eq!(bench.drain_numbers().await, (0..3200).collect::<Vec<_>>());
}

async fn an_exchange_closed_under_load_confirms_only_what_is_in_the_lanes(bench: &Bench) {
    let mut publishers = JoinSet::new();
    for publisher in 0..32 {
        let queue = bench.queue.clone();
        publishers.spawn(async move {
            let mut verdicts = Vec::new();
            for number in publisher * 1_000_000.. {
                let verdict = queue.publisher.publish(numbered(SCOPE, number)).await;
                verdicts.push((number, verdict.clone()));
                if matches!(verdict, Err(Unconfirmed::NotSent(_))) {
                    return verdicts;
                }
            }
            verdicts
        });
    }
    until("there is something in the lanes", {
        let meters = bench.meters.clone();
        move || meters.render().contains("rushgate_publish_confirm_duration_seconds_count")
    })
    .await;
    bench.queue.topology.close(SCOPE).await.unwrap();
    let verdicts: BTreeMap<_, _> = publishers.join_all().await.into_iter().flatten().collect();
    let delivered: BTreeSet<_> = bench.drain_numbers().await.into_iter().collect();
    for (number, verdict) in &verdicts {
        match verdict {
            Ok(()) => assert!(delivered.contains(number), "{number} was confirmed and is not there"),
            Err(Unconfirmed::NotSent(_)) => assert!(!delivered.contains(number), "{number} was not sent and is there"),
            Err(Unconfirmed::Unknown(_)) => {}
        }
    }
}

async fn a_confirm_is_measured(bench: &Bench) {
    bench.publish_all(0..3).await;
    let text = bench.meters.render();
    assert!(text.contains("rushgate_publish_confirm_duration_seconds_count 3"), "{text}");
}

#[tokio::test]
async fn a_full_memory_queue_refuses_and_takes_again_when_there_is_room() {
    let settings =
        settings::Queue { lanes: 2, confirm_timeout: Duration::from_millis(50), ..settings::Queue::default() };
    let queue = rushgate::queue::memory::bounded(&settings, &Meters::new(), (ConfirmWhen::Queued, 2));
    queue.topology.open(SCOPE).await.unwrap();
    for number in 0..4 {
        assert_eq!(queue.publisher.strain(), Strain::default());
        queue.publisher.publish(numbered(SCOPE, number)).await.unwrap();
    }
    queue.publisher.strain().blocked.expect("it is full");
    assert_eq!(queue.publisher.ready(), Ok(()), "full is not away");
    let refused = queue.publisher.publish(numbered(SCOPE, 4)).await;
    assert!(matches!(refused, Err(Unconfirmed::NotSent(_))), "{refused:?}");
    let mut lane = queue.consumer.consume(LaneId::Number(0)).await.unwrap();
    let delivery = lane.next().await.unwrap();
    queue.publisher.strain().blocked.expect("delivered is not gone");
    lane.ack(&delivery).await.unwrap();
    assert_eq!(queue.publisher.strain(), Strain::default());
    queue.publisher.publish(numbered(SCOPE, 5)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_memory_queue_that_must_survive_a_crash_confirms_only_what_is_stored() {
    let settings = settings::Queue { lanes: 1, confirm_timeout: PATIENCE, ..settings::Queue::default() };
    let queue = rushgate::queue::memory::open(&settings, &Meters::new(), ConfirmWhen::Stored);
    queue.topology.open(SCOPE).await.unwrap();
    let mut lane = queue.consumer.consume(LaneId::Number(0)).await.unwrap();
    let mut publishing = std::pin::pin!(queue.publisher.publish(numbered(SCOPE, 0)));
    let early = timeout(PATIENCE / 2, publishing.as_mut()).await;
    assert!(early.is_err(), "it is delivered and not acknowledged: {early:?}");
    let strained = Strain { blocked: None, oldest_unconfirmed: Some(PATIENCE / 2) };
    assert_eq!(queue.publisher.strain(), strained);
    let delivery = lane.next().await.unwrap();
    assert_eq!(queue.publisher.strain(), strained, "delivered is not stored");
    lane.ack(&delivery).await.unwrap();
    assert_eq!(queue.publisher.strain(), Strain::default());
    publishing.await.unwrap();
    // One that is parked is not stored, and one that stays there is not known to be.
    let parking = async {
        let delivery = lane.next().await.unwrap();
        lane.park(&delivery, "odd").await.unwrap();
    };
    let (parked, ()) = tokio::join!(queue.publisher.publish(numbered(SCOPE, 1)), parking);
    assert!(matches!(parked, Err(Unconfirmed::Unknown(_))), "{parked:?}");
    let unread = queue.publisher.publish(numbered(SCOPE, 2)).await;
    assert!(matches!(unread, Err(Unconfirmed::Unknown(_))), "{unread:?}");
    let since = queue.publisher.strain().oldest_unconfirmed;
    assert_eq!(since, Some(PATIENCE), "its sender has left, and it is still there");
}

#[tokio::test]
async fn a_publish_waits_for_room() {
    let settings = settings::Queue { lanes: 1, confirm_timeout: PATIENCE, ..settings::Queue::default() };
    let queue = rushgate::queue::memory::bounded(&settings, &Meters::new(), (ConfirmWhen::Queued, 1));
    queue.topology.open(SCOPE).await.unwrap();
    queue.publisher.publish(numbered(SCOPE, 0)).await.unwrap();
    let mut lane = queue.consumer.consume(LaneId::Number(0)).await.unwrap();
    let making_room = async {
        let delivery = lane.next().await.unwrap();
        lane.ack(&delivery).await.unwrap();
    };
    let (published, ()) = tokio::join!(queue.publisher.publish(numbered(SCOPE, 1)), making_room);
    published.unwrap();
}

mod broker {
    use super::*;

    /// A test of one broker or none, with a limit of its own.
    async fn in_time(test: impl Future<Output = ()>) {
        timeout(PATIENCE, test).await.expect("the test ends in time");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_no_lane_is_bound_for_goes_to_the_catch_all_and_is_confirmed() {
        in_time(async {
            let bench = Bench::rabbitmq().await;
            ByHand::connect().await.unbind(&bench.settings.namespace).await;
            bench.publish(1).await.unwrap();
            assert_eq!(bench.depth(LaneId::Unroutable).await.messages, 1);
            let mut lane = bench.queue.consumer.consume(LaneId::Unroutable).await.unwrap();
            let delivery = lane.next().await.unwrap();
            assert_eq!(number_of(&delivery), Some(1));
            lane.ack(&delivery).await.unwrap();
            drop(lane);
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lanes_of_others_are_there_and_get_a_barrier_and_nothing_else() {
        in_time(async {
            let bench = Bench::rabbitmq().await;
            let topology = Arc::clone(&bench.queue.topology);
            topology.widen(LANES + 2);
            topology.widen(1);
            assert_eq!(topology.lanes(), LANES + 2);
            assert!((0..LANES + 2).all(|lane| topology.barriers().contains(&lane)), "{:?}", topology.barriers());
            topology.declare().await.unwrap();
            topology.open(OTHER).await.unwrap();
            bench.publish_all(0..4 * u64::from(LANES)).await;
            topology.barrier(SCOPE).await.unwrap();
            for number in LANES..LANES + 2 {
                let first = bench.take(number).await.next().await.unwrap();
                assert_eq!(Envelope::decode(&first.body).unwrap().content, Content::Barrier { lane: number });
            }
            let depths = topology.depths().await.unwrap();
            assert!(depths.iter().any(|depth| depth.lane == LaneId::Number(LANES + 1)), "{depths:?}");
            drop(topology);
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_has_more_lanes_than_the_exchange_is_bound_for_loses_nothing() {
        in_time(async {
            let bench = Bench::rabbitmq().await;
            let wider = Bench::connect(settings::Queue { lanes: LANES + 2, ..bench.settings.clone() });
            wider.publish_all(0..2 * u64::from(LANES + 2)).await;
            assert_eq!(bench.depth(LaneId::Unroutable).await.messages, 4);
            let numbered: Vec<_> = bench.drain().await.into_values().map(|messages| messages.len()).collect();
            assert_eq!(numbered, [2; LANES as usize]);
            wider.end().await;
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_barrier_comes_behind_what_no_lane_is_bound_for() {
        in_time(async {
            let bench = Bench::rabbitmq().await;
            ByHand::connect().await.unbind(&bench.settings.namespace).await;
            bench.publish(1).await.unwrap();
            bench.queue.topology.close(SCOPE).await.unwrap();
            bench.queue.topology.barrier(SCOPE).await.unwrap();
            let mut lane = bench.queue.consumer.consume(LaneId::Unroutable).await.unwrap();
            assert_eq!(number_of(&lane.next().await.unwrap()), Some(1));
            let barrier = Envelope::decode(&lane.next().await.unwrap().body).unwrap();
            assert!(matches!(barrier.content, Content::Barrier { lane } if lane >= LANES), "{barrier:?}");
            drop(lane);
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_dead_letter_that_the_broker_itself_moved_says_so() {
        in_time(async {
            let bench = Bench::rabbitmq().await;
            bench.publish_all(0..u64::from(LANES)).await;
            let by_hand = ByHand::connect().await;
            let channel = by_hand.channel().await;
            let queue = format!("{}.lane.1", bench.settings.namespace);
            let consume = channel.basic_consume(
                queue.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            );
            let rejected = consume.await.unwrap().next().await.unwrap().unwrap();
            rejected.acker.reject(BasicRejectOptions { requeue: false }).await.unwrap();
            let mut dead = bench.queue.consumer.consume(LaneId::Dead).await.unwrap();
            let letter = dead.next().await.unwrap();
            let parked = Parked { lane: "1".to_owned(), reason: "the broker moved it: rejected".to_owned() };
            assert_eq!((letter.body, letter.parked), (rejected.data, Some(parked)));
            drop(dead);
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_no_queue_at_all_took_is_not_confirmed() {
        in_time(async {
            let bench = Bench::rabbitmq().await;
            let by_hand = ByHand::connect().await;
            by_hand.unbind(&bench.settings.namespace).await;
            let catch_all = format!("{}.unroutable", bench.settings.namespace);
            by_hand.channel().await.queue_delete(catch_all.into(), QueueDeleteOptions::default()).await.unwrap();
            // Lane 0 is bound again, so that of many messages in flight a third is taken; the client hands the returned ones to
            // whichever confirm comes next.
            let (queue, exchange) = (
                format!("{}.lane.0", bench.settings.namespace),
                format!("{}.orders.{SCOPE}", bench.settings.namespace),
            );
            let options = lapin::options::QueueBindOptions::default();
            let channel = by_hand.channel().await;
            channel
                .queue_bind(queue.into(), exchange.into(), "0".into(), options, FieldTable::default())
                .await
                .unwrap();
            let bench_ref = &bench;
            let publishes = (0..300).map(|number| async move { (number, bench_ref.publish(number).await) });
            let verdicts = futures_util::future::join_all(publishes).await;
            let (taken, returned): (Vec<_>, Vec<_>) = verdicts.into_iter().partition(|(_, verdict)| verdict.is_ok());
            assert_eq!((taken.len(), returned.len()), (100, 200));
            assert!(returned.iter().all(|(_, verdict)| matches!(verdict, Err(Unconfirmed::NotSent(_)))));
            let taken: Vec<_> = taken.into_iter().map(|(number, _)| number).collect();
            // A barrier goes into the catch-all too.
            bench.queue.topology.declare().await.unwrap();
            assert_eq!(bench.drain_numbers().await, taken);
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn several_processes_may_declare_at_the_same_moment() {
        in_time(async {
            let settings = Bench::settings(&servers::amqp_url());
            let benches: Vec<_> = (0..4).map(|_| Bench::connect(settings.clone())).collect();
            let declared =
                futures_util::future::join_all(benches.iter().map(|bench| bench.queue.topology.declare())).await;
            assert_eq!(declared, [const { Ok::<(), Fault>(()) }; 4]);
            for bench in benches {
                bench.end().await;
            }
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_end_of_one_lane_is_not_the_end_of_another() {
        in_time(async {
            let bench = Bench::rabbitmq().await;
            let mut steady = bench.take(0).await;
            for round in 0..30 {
                drop((bench.take(1).await, bench.take(2).await));
                bench.queue.consumer.consume(LaneId::Number(99)).await.expect_err("there is none");
                bench.publish_all(round * 3..round * 3 + 3).await;
                let delivery = steady.next().await.unwrap();
                steady.ack(&delivery).await.unwrap();
                assert!(!delivery.redelivered);
            }
            drop(steady);
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lane_whose_queue_is_deleted_ends_with_an_error_and_can_be_taken_anew() {
        in_time(async {
            let bench = Bench::rabbitmq().await;
            let mut lane = bench.take(0).await;
            let queue = format!("{}.lane.0", bench.settings.namespace);
            let by_hand = ByHand::connect().await;
            by_hand.channel().await.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
            lane.next().await.expect_err("its queue is gone");
            drop(lane);
            let mut lane = bench.take(0).await;
            bench.queue.topology.open(SCOPE).await.unwrap();
            bench.publish_all(0..u64::from(LANES)).await;
            let delivery = lane.next().await.unwrap();
            lane.ack(&delivery).await.unwrap();
            drop(lane);
            bench.end().await;
        })
        .await;
    }

    /// Publishes over a proxy, and returns it with one message confirmed.
    async fn proxied() -> (Bench, Proxy) {
        let (bench, proxy) = Bench::proxied(Mode::Forward).await;
        bench.queue.topology.declare().await.unwrap();
        bench.queue.topology.open(SCOPE).await.unwrap();
        bench.ready().await;
        bench.publish(0).await.unwrap();
        (bench, proxy)
    }

    /// Publishes 300 messages at once; returns the verdicts, each of which must have come in time.
    async fn storm(bench: &Bench, from: u64) -> BTreeMap<u64, Result<(), Unconfirmed>> {
        let publishes = (from..from + 300).map(|number| async move {
            let began = Instant::now();
            let verdict = bench.publish(number).await;
            let limit = bench.settings.confirm_timeout + Duration::from_secs(1);
            assert!(began.elapsed() < limit, "{:?} for {verdict:?}", began.elapsed());
            (number, verdict)
        });
        futures_util::future::join_all(publishes).await.into_iter().collect()
    }

    /// Publishes until the queue has healed.
    async fn heal(bench: &Bench, number: u64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = bench.publish(number).await {
            assert!(Instant::now() < deadline, "not healed: {error}");
        }
    }

    fn check(verdicts: &BTreeMap<u64, Result<(), Unconfirmed>>, delivered: &[u64]) {
        let delivered: BTreeSet<_> = delivered.iter().collect();
        for (number, verdict) in verdicts {
            match verdict {
                Ok(()) => assert!(delivered.contains(number), "{number} was confirmed and is not there"),
                Err(Unconfirmed::NotSent(_)) => assert!(!delivered.contains(number), "{number} is there unsent"),
                Err(Unconfirmed::Unknown(_)) => {}
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_frozen_broker_holds_nobody_up_and_is_used_again_when_it_thaws() {
        in_time(async {
            let (bench, proxy) = proxied().await;
            proxy.set(Mode::Frozen);
            let verdicts = storm(&bench, 1).await;
            assert!(verdicts.values().all(Result::is_err));
            assert!(verdicts.values().any(|verdict| matches!(verdict, Err(Unconfirmed::Unknown(_)))));
            assert!(verdicts.values().any(|verdict| matches!(verdict, Err(Unconfirmed::NotSent(_)))));
            bench.strained(bench.settings.confirm_timeout / 2).await;
            assert_eq!(bench.queue.publisher.ready(), Ok(()), "it is there, for all that is known");
            proxy.set(Mode::Forward);
            heal(&bench, 1000).await;
            bench.ready().await;
            until("nothing is left of it", || bench.queue.publisher.strain() == Strain::default()).await;
            check(&verdicts, &bench.drain_numbers().await);
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_broker_that_stays_frozen_is_left_and_found_again() {
        in_time(async {
            let (bench, proxy) = proxied().await;
            proxy.set(Mode::Frozen);
            let verdicts = storm(&bench, 1).await;
            // For want of a confirm, at first; on a busy machine the next cause is there before anybody looks.
            until("the connection is given up", || {
                bench.blocked().is_some_and(|why| why.starts_with("not connected: "))
            })
            .await;
            until("attempts to make another have no answer", || {
                bench.blocked().is_some_and(|why| why.starts_with("not connected: no answer"))
            })
            .await;
            proxy.set(Mode::Refusing);
            proxy.cut();
            until("the next one is refused", || bench.queue.publisher.ready().is_err()).await;
            proxy.set(Mode::Forward);
            heal(&bench, 1000).await;
            check(&verdicts, &bench.drain_numbers().await);
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lost_confirms_leave_the_outcome_unknown_and_the_connection_is_made_anew() {
        in_time(async {
            let (bench, proxy) = proxied().await;
            proxy.set(Mode::Mute);
            let verdict = bench.publish(1).await;
            assert!(matches!(verdict, Err(Unconfirmed::Unknown(_))), "{verdict:?}");
            until("the connection is given up", || {
                bench.blocked().is_some_and(|why| why.starts_with("not connected: no confirm"))
            })
            .await;
            proxy.set(Mode::Forward);
            heal(&bench, 2).await;
            assert!(bench.drain_numbers().await.starts_with(&[0, 1]), "what is unknown may well be there");
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_cut_connection_heals_by_itself_and_loses_nothing_that_was_confirmed() {
        in_time(async {
            let (bench, proxy) = proxied().await;
            let mut verdicts = BTreeMap::new();
            for round in 1..=5 {
                let cutting = async {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..30))).await;
                    proxy.cut();
                };
                let (stormed, ()) = tokio::join!(storm(&bench, round * 1000), cutting);
                verdicts.extend(stormed);
                heal(&bench, round * 1000 + 999).await;
            }
            check(&verdicts, &bench.drain_numbers().await);
            assert!(verdicts.values().any(Result::is_ok));
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lane_of_a_cut_connection_ends_with_an_error_and_its_messages_come_again() {
        in_time(async {
            let (bench, proxy) = proxied().await;
            bench.publish_all(1..u64::from(LANES) * 2).await;
            let mut lane = bench.take(0).await;
            let before = [lane.next().await.unwrap(), lane.next().await.unwrap()];
            proxy.cut();
            lane.next().await.expect_err("the connection is cut");
            lane.ack(&before[1]).await.expect_err("the connection is cut");
            drop(lane);
            let mut lane = bench.take(0).await;
            for expected in before {
                assert_eq!(lane.next().await.unwrap().body, expected.body);
            }
            drop(lane);
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_broker_that_is_down_at_the_start_is_said_to_be_and_found_when_it_is_up() {
        in_time(async {
            let (bench, proxy) = Bench::proxied(Mode::Refusing).await;
            until("the cause is known", || {
                bench.queue.publisher.ready().is_err_and(|why| why != "not connected: connecting")
            })
            .await;
            let verdict = bench.publish(1).await;
            assert!(matches!(&verdict, Err(Unconfirmed::NotSent(why)) if why.contains("not connected")), "{verdict:?}");
            proxy.set(Mode::Forward);
            bench.ready().await;
            bench.queue.topology.declare().await.unwrap();
            bench.queue.topology.open(SCOPE).await.unwrap();
            bench.publish(2).await.unwrap();
            assert_eq!(bench.drain_numbers().await, [2]);
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_port_that_nobody_listens_on_and_a_bad_url_are_said_to_be_so() {
        in_time(async {
            for (url, why) in [
                ("amqp://127.0.0.1:1/%2f", "refused"),
                ("amqp://no-such-host.invalid/%2f", "not connected: IO error"),
                ("mqtt://127.0.0.1/", "queue.url"),
            ] {
                let (shutdown, settings) = (Shutdown::new(), Bench::settings(url));
                let queue = rushgate::queue::rabbitmq::connect(&settings, &shutdown, &Meters::new());
                until(why, || queue.publisher.ready().is_err_and(|said| said.contains(why))).await;
                shutdown.begin();
                assert!(shutdown.finish(Duration::from_secs(5)).await);
            }
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_wrong_password_is_said_to_be_so() {
        in_time(async {
            let mut uri: lapin::uri::AMQPUri = servers::amqp_url().parse().unwrap();
            uri.authority.userinfo.password = "wrong".to_owned();
            let bench = Bench::connect(Bench::settings(&uri.to_string()));
            until("the cause is known", || {
                bench.queue.publisher.ready().is_err_and(|why| why.contains("ACCESS_REFUSED"))
            })
            .await;
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_in_flight_when_the_shutdown_begins_is_finished() {
        in_time(async {
            let bench = Bench::rabbitmq().await;
            let publishing = storm(&bench, 0);
            bench.shutdown.begin();
            assert!(publishing.await.values().all(Result::is_ok));
            assert!(bench.shutdown.finish(Duration::from_secs(5)).await);
            let verdict = bench.publish(1000).await;
            assert!(matches!(verdict, Err(Unconfirmed::NotSent(_))), "{verdict:?}");
            ByHand::connect().await.delete_all(&bench.settings.namespace).await;
        })
        .await;
    }

    /// A queue at a broker that misbehaves.
    async fn fake(temper: Temper) -> (Bench, FakeBroker) {
        let broker = FakeBroker::start(temper).await;
        let settings =
            settings::Queue { confirm_timeout: Duration::from_millis(500), ..Bench::settings(&broker.url()) };
        let bench = Bench { broker: None, ..Bench::connect(settings) };
        bench.ready().await;
        (bench, broker)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_message_gets_its_own_verdict() {
        in_time(async {
            let (bench, _broker) = fake(Temper::Picky).await;
            let bench = Arc::new(bench);
            let mut publishers = JoinSet::new();
            for publisher in 0..16 {
                let bench = Arc::clone(&bench);
                publishers.spawn(async move {
                    for number in publisher * 1000..publisher * 1000 + 500 {
                        let refused = number % 10 == 3;
                        let verdict = bench.publish(number).await;
                        assert_eq!(verdict.is_err(), refused, "{number}: {verdict:?}");
                    }
                });
            }
            publishers.join_all().await;
            Arc::into_inner(bench).unwrap().end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_blocked_connection_holds_nobody_up_and_says_so() {
        in_time(async {
            let (bench, broker) = fake(Temper::Kind).await;
            bench.publish(1).await.unwrap();
            broker.set(Temper::Blocking);
            until("it is known to be blocked", || bench.blocked().is_some_and(|why| why.contains("low on memory")))
                .await;
            let verdicts = storm(&bench, 10).await;
            for verdict in verdicts.values() {
                assert!(matches!(verdict, Err(Unconfirmed::NotSent(_))), "{verdict:?}");
            }
            broker.set(Temper::Kind);
            bench.ready().await;
            bench.publish(2).await.unwrap();
            assert_eq!(broker.connections(), 2, "the connection that was blocked is the one that is used again");
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_connection_that_blocks_in_mid_storm_holds_nobody_up() {
        in_time(async {
            let (bench, broker) = fake(Temper::Kind).await;
            let blocking = async { broker.set(Temper::Blocking) };
            let (verdicts, ()) = tokio::join!(storm(&bench, 0), blocking);
            assert!(verdicts.values().any(Result::is_err));
            broker.set(Temper::Kind);
            heal(&bench, 1000).await;
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_broker_that_beats_but_never_confirms_is_left() {
        in_time(async {
            let (bench, broker) = fake(Temper::Silent).await;
            let verdict = bench.publish(1).await;
            assert!(matches!(verdict, Err(Unconfirmed::Unknown(_))), "{verdict:?}");
            bench.strained(bench.settings.confirm_timeout).await;
            until("the connection is made anew", || broker.connections() > 2).await;
            broker.set(Temper::Kind);
            heal(&bench, 2).await;
            bench.end().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn attempts_to_reach_a_speechless_broker_leave_nothing_behind() {
        in_time(async {
            let broker = FakeBroker::start(Temper::Speechless).await;
            let bench = Bench { broker: None, ..Bench::connect(Bench::settings(&broker.url())) };
            until("it was tried again", || broker.connections() > 2).await;
            assert!(broker.open() <= 2, "{} connections are open", broker.open());
            bench.queue.publisher.ready().expect_err("it does not answer");
            bench.end().await;
            until("the last ones are closed", || broker.open() == 0).await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_numbers_of_channels_may_come_round() {
        in_time(async {
            let bench = Bench::connect(Bench::settings(&servers::amqp_url()));
            // The broker ends this channel, since there is no queue yet; the client never opens its number again.
            drop(bench.queue.consumer.consume(LaneId::Unroutable).await.unwrap());
            for _ in 0..2100 {
                bench.queue.topology.close(OTHER).await.unwrap();
            }
            bench.end().await;
        })
        .await;
    }
}
