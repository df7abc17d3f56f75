//! What a claim costs before and after it meets a server: everything here is memory and arithmetic.
//!
//! `cargo bench` measures all; `cargo bench -- refusal` one group. Times are of this machine; what must not grow unseen is held by
//! `loadtest/instructions`, which counts instead of timing.

use std::hint::black_box;
use std::sync::{Arc, OnceLock};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rushgate::admission::Shards;
use rushgate::admission::pressure::Pressure;
use rushgate::clock::{Clock, ManualClock};
use rushgate::config::settings;
use rushgate::confirm::{Claims, Parts, Request};
use rushgate::domain::{
    Ask, AskedLine, Buffer, Claim, Epoch, Order, OrderId, OrderSecret, Partition, Sale, SaleDocument, Scope,
    UnixMillis, Wanted,
};
use rushgate::epochs::Epochs;
use rushgate::inventory::{Changes, LegStock};
use rushgate::meters::Meters;
use rushgate::queue::envelope::Envelope;
use rushgate::queue::memory::ConfirmWhen;

const SCOPE: Scope = Scope { partition: Partition(0), epoch: Epoch(1) };
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn concert(id: &str) -> Sale {
    sale(id, &serde_json::json!({"pools": [{"id": "standard", "capacity": 1000, "price": 55_350}]}))
}

fn train(id: &str) -> Sale {
    let stops: Vec<_> = (0..=12).map(|stop| format!("S{stop}")).collect();
    sale(
        id,
        &serde_json::json!({"stops": stops, "pools": [{"id": "second", "capacity": 1000, "fares": vec![3_900; 12]}]}),
    )
}

fn sale(id: &str, of: &serde_json::Value) -> Sale {
    let mut document = serde_json::json!({"name": "Bench", "currency": "CNY", "opens_at": "2020-01-01T00:00:00Z"});
    document.as_object_mut().expect("an object").extend(of.as_object().expect("an object").clone());
    let document: SaleDocument = serde_json::from_value(document).expect("a document");
    document.into_sale(id.parse().expect("an id")).expect("a sale")
}

/// Shards that have heard of these sales, with so many units free on every leg.
fn shards(sales: Vec<Sale>, free: u32) -> Shards {
    let shards = Shards::new(1, 1.0, Buffer::Units(0));
    let stock = sales.iter().flat_map(|sale| {
        sale.pools.iter().flat_map(|pool| {
            (0..sale.leg_count()).map(|leg| LegStock {
                sale: sale.id.clone(),
                pool: pool.id.clone(),
                leg,
                free,
                held: 0,
                sold: pool.capacity - free,
            })
        })
    });
    let stock = stock.collect();
    shards.learn(SCOPE, &Changes { version: 1, stock, granted: Vec::new(), sales });
    shards
}

fn two_lines() -> Ask<'static> {
    let line = AskedLine { pool: Some("second"), from: Some("S0"), to: Some("S12"), ..AskedLine::default() };
    Ask::Lines(vec![line.clone(), line])
}

fn claim(sale: &Sale, buyer: &str, ask: &Ask<'_>) -> Claim {
    let secret = OrderSecret::new([7; 32]);
    let (buyer, key) = (buyer.parse().expect("a buyer"), buyer.parse().expect("a key"));
    Claim::check(sale, buyer, &key, ask, (&secret, NOW)).expect("it fits")
}

/// A no from memory, as most of a crowd hears it.
fn refusal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("refusal");
    for (name, sale, ask) in
        [("one leg", concert("s"), Ask::Quantity(1)), ("twelve legs, two lines", train("s"), two_lines())]
    {
        let shards = shards(vec![sale], 0);
        let epochs = Epochs::new(1);
        epochs.assume(SCOPE);
        let (meters, queue) = (Meters::new(), settings::Queue::default());
        let parts = Parts {
            shards,
            epochs,
            pressure: Pressure::new(1),
            publisher: rushgate::queue::memory::open(&queue, &meters, ConfirmWhen::Queued).publisher,
            clock: Arc::new(ManualClock::at(NOW)) as Arc<dyn Clock>,
            secret: Arc::new(OnceLock::from(OrderSecret::new([7; 32]))),
        };
        let claims = Claims::new(parts, &[]);
        let request = Request { sale: "s", buyer: "b".parse().expect("a buyer"), key: None, ask, trace: None };
        assert!(claims.refusal(&request).is_some());
        group.bench_function(name, |bencher| bencher.iter(|| claims.refusal(black_box(&request))));
    }
    group.finish();
}

/// The shard by itself: leave to ask, given back.
fn shard(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard");
    for (name, sale, ask) in
        [("one leg", concert("s"), Ask::Quantity(1)), ("twelve legs, two lines", train("s"), two_lines())]
    {
        let wanted = Wanted::of_ask(&sale, &ask).expect("it fits");
        let shard = shards(vec![sale], 1000).sale("s").expect("it is known");
        group.bench_function(name, |bencher| bencher.iter(|| drop(shard.permit(black_box(&wanted)))));
    }
    group.finish();
}

/// Finding a sale among so many.
fn look_up(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("look-up");
    for many in [1, 10_000] {
        let shards = shards((0..many).map(|number| concert(&format!("sale-{number}"))).collect(), 1);
        let id = format!("sale-{}", many / 2);
        group.bench_function(format!("among {many}"), |bencher| {
            bencher.iter(|| shards.look(black_box(&id), |shard| shard.sale.version));
        });
    }
    group.finish();
}

/// From a request to an order.
fn checking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checking");
    let (secret, concert, train) = (OrderSecret::new([7; 32]), concert("s"), train("s"));
    let (buyer, key) = ("b".parse().expect("a buyer"), "k".parse().expect("a key"));
    group.bench_function("order id", |bencher| {
        bencher.iter(|| OrderId::derive(&secret, &concert.id, black_box(&buyer), &key));
    });
    group.bench_function("one leg", |bencher| bencher.iter(|| claim(&concert, "b", black_box(&Ask::Quantity(1)))));
    let lines = two_lines();
    group.bench_function("twelve legs, two lines", |bencher| bencher.iter(|| claim(&train, "b", black_box(&lines))));
    group.finish();
}

/// A message of a hundred orders.
fn envelope(criterion: &mut Criterion) {
    let sale = concert("concert-2026");
    let order = |number| Arc::new(claim(&sale, &format!("buyer-{number}"), &Ask::Quantity(1)).order);
    let orders: Vec<Arc<Order>> = (0..100).map(order).collect();
    let outbox = Some("1-0".parse().expect("an entry"));
    let envelope = Envelope::orders(SCOPE, outbox, orders);
    let bytes = envelope.encode();
    let mut group = criterion.benchmark_group("envelope");
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&envelope).encode()));
    group.bench_function("decode", |bencher| {
        bencher.iter_batched(|| bytes.clone(), |bytes| Envelope::decode(&bytes), BatchSize::SmallInput);
    });
    group.finish();
}

/// What every answer adds to the metrics.
fn metrics(criterion: &mut Criterion) {
    let meters = Meters::new();
    let counter = meters.counter("rushgate_claims_total", &[("sale", "s"), ("outcome", "sold_out")]);
    let histogram = meters.histogram("rushgate_claim_duration_seconds", &[("outcome", "sold_out")]);
    let mut group = criterion.benchmark_group("metrics");
    group.bench_function("counter", |bencher| bencher.iter(|| counter.increment(black_box(1))));
    group.bench_function("histogram", |bencher| bencher.iter(|| histogram.record(black_box(0.001))));
    group.finish();
    meters.upkeep();
}

criterion_group!(benches, refusal, shard, look_up, checking, envelope, metrics);
criterion_main!(benches);
