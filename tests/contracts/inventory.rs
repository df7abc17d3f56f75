//! The contract of the inventory, over both backends. What only Redis can suffer is in `inventory_redis`.
#![expect(clippy::unwrap_used, reason = "what the set-up of a test cannot do fails the test")]

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use rushgate::clock::SystemClock;
use rushgate::config::settings;
use rushgate::domain::{
    Ask, AskedLine, Claim, Epoch, IdempotencyKey, Limits, OrderId, OrderSecret, OrderStatus, OutboxId, Partition,
    PoolId, Refusal, Sale, SaleDocument, SaleState, Scope, UnixMillis,
};
use rushgate::inventory::memory::MemoryInventory;
use rushgate::inventory::redis::RedisInventory;
use rushgate::inventory::{
    Confirmed, Defined, Fault, Inventory, KnownOrder, LegStock, NodeBeat, OutboxEntry, Revived, Snapshot, StockMove,
    Verdict,
};
use rushgate::shutdown::Shutdown;
use serde_json::json;

use crate::servers;

/// All sales of this suite are open at this instant unless they say otherwise.
pub(crate) const NOW: UnixMillis = UnixMillis(1_795_262_400_000);
pub(crate) const SCOPE: Scope = Scope { partition: Partition(0), epoch: Epoch(1) };

/// An inventory with one open scope, and a way to talk to it in few words.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    pub(crate) inventory: Arc<dyn Inventory>,
    pub(crate) scope: Scope,
}

impl Bench {
    pub(crate) async fn opened(inventory: Arc<dyn Inventory>) -> Self {
        let bench = Self { inventory, scope: SCOPE };
        bench.inventory.rebuild(SCOPE, &Snapshot::default()).await.unwrap();
        bench.inventory.open(SCOPE).await.unwrap();
        bench
    }

    pub(crate) async fn with(self, sale: &Sale) -> Self {
        assert_eq!(self.inventory.define(self.scope, sale).await, Ok(Defined::Applied));
        self
    }

    pub(crate) async fn confirm(&self, claims: &[Claim]) -> Confirmed {
        self.confirm_at(claims, NOW).await
    }

    async fn confirm_at(&self, claims: &[Claim], now: UnixMillis) -> Confirmed {
        self.inventory.confirm(self.scope, claims, now).await.unwrap()
    }

    pub(crate) async fn verdict(&self, claim: &Claim) -> Verdict {
        self.confirm(std::slice::from_ref(claim)).await.verdicts.remove(0)
    }

    async fn apply(&self, order: OrderId, to: OrderStatus) {
        self.inventory.apply(self.scope, &[StockMove { order, to }]).await.unwrap();
    }

    async fn revive(&self, claim: &Claim) -> Revived {
        self.inventory.revive(self.scope, claim.order.id).await.unwrap()
    }

    /// `[free, held, sold]` per counter, in the order of pools and legs.
    pub(crate) async fn counters(&self, sale: &Sale) -> Vec<[u32; 3]> {
        numbers(&self.inventory.stock(self.scope, &sale.id).await.unwrap())
    }

    /// All orders, in the order of their ids.
    async fn orders(&self) -> Vec<KnownOrder> {
        let (mut all, mut cursor) = (std::collections::BTreeMap::new(), None);
        loop {
            let (page, next) = self.inventory.orders(self.scope, cursor).await.unwrap();
            all.extend(page.into_iter().map(|known| (known.order.id, known)));
            if next.is_none() {
                return all.into_values().collect();
            }
            cursor = next;
        }
    }

    async fn status(&self, claim: &Claim) -> Option<OrderStatus> {
        self.inventory.order(self.scope, claim.order.id).await.unwrap().map(|known| known.status)
    }
}

fn numbers(stock: &[LegStock]) -> Vec<[u32; 3]> {
    stock.iter().map(|leg| [leg.free, leg.held, leg.sold]).collect()
}

async fn memory() -> Bench {
    Bench::opened(Arc::new(MemoryInventory::new(Arc::new(SystemClock)))).await
}

pub(crate) fn redis_settings(url: String) -> settings::Inventory {
    settings::Inventory {
        backend: settings::InventoryBackend::Redis,
        url: url.into(),
        namespace: servers::unique("inventory"),
        timeout: Duration::from_secs(2),
        ..settings::Inventory::default()
    }
}

/// Waits until the inventory has a connection of either kind.
pub(crate) async fn reached(settings: &settings::Inventory) -> Arc<RedisInventory> {
    let inventory = Arc::new(RedisInventory::connect(settings, &Shutdown::new()).unwrap());
    until("a connection", async || {
        let hot = inventory.outbox_len(SCOPE).await;
        !matches!(hot, Err(Fault::NotDone(_))) && inventory.identity(SCOPE.partition).await.is_ok()
    })
    .await;
    inventory
}

async fn redis() -> Bench {
    Bench::opened(reached(&redis_settings(servers::redis_url())).await).await
}

/// Asks again until it is so; fails after ten seconds.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "waited for {what} in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn sale(id: &str, document: serde_json::Value) -> Sale {
    let mut document: SaleDocument = serde_json::from_value(document).unwrap();
    document.opens_at.get_or_insert_with(|| "2020-01-01T00:00:00Z".to_owned());
    document.into_sale(id.parse().unwrap()).unwrap()
}

/// One pool, one leg, and a limit that is in nobody's way.
pub(crate) fn concert(capacity: u32) -> Sale {
    limited(capacity, 1000)
}

fn limited(capacity: u32, limit_per_buyer: u32) -> Sale {
    sale(
        "concert",
        json!({"name": "C", "currency": "CNY", "limit_per_buyer": limit_per_buyer,
               "pools": [{"id": "standard", "capacity": capacity, "price": 55350}]}),
    )
}

/// Two pools over three legs: A to B to C to D.
fn train(first: u32, second: u32) -> Sale {
    sale(
        "train",
        json!({"name": "T", "currency": "CNY", "stops": ["A", "B", "C", "D"], "limit_per_buyer": 1000,
               "pools": [{"id": "first", "capacity": first, "fares": [10, 20, 30]},
                         {"id": "second", "capacity": second, "fares": [1, 2, 3]}]}),
    )
}

fn check(sale: &Sale, buyer: &str, key: &str, ask: &Ask<'_>) -> Claim {
    let (buyer, key) = (buyer.parse().unwrap(), key.parse::<IdempotencyKey>().unwrap());
    Claim::check(sale, buyer, &key, ask, (&OrderSecret::new([7; 32]), NOW)).unwrap()
}

/// Some units of a sale with one pool and one leg.
pub(crate) fn some(sale: &Sale, buyer: &str, key: &str, quantity: u64) -> Claim {
    check(sale, buyer, key, &Ask::Quantity(quantity))
}

pub(crate) fn one(sale: &Sale, buyer: &str) -> Claim {
    some(sale, buyer, "k", 1)
}

fn line<'a>(pool: &'a str, from: &'a str, to: &'a str, quantity: u64) -> AskedLine<'a> {
    AskedLine { pool: Some(pool), from: Some(from), to: Some(to), quantity: Some(quantity), ..AskedLine::default() }
}

fn seat<'a>(pool: &'a str, from: &'a str, to: &'a str, passenger: &'a str) -> AskedLine<'a> {
    AskedLine { passenger: Some(passenger), ..line(pool, from, to, 1) }
}

fn lines(sale: &Sale, buyer: &str, lines: Vec<AskedLine<'_>>) -> Claim {
    check(sale, buyer, "k", &Ask::Lines(lines))
}

fn known(claim: &Claim, status: OrderStatus) -> Verdict {
    Verdict::Known(KnownOrder { order: claim.order.clone(), status })
}

fn limit_reached(orders: &[&Claim]) -> Verdict {
    Verdict::Refused(Refusal::LimitReached { orders: orders.iter().map(|claim| claim.order.id).collect() })
}

const ALL_HELD: Verdict = Verdict::Refused(Refusal::AllHeld { next_release_at: None });
const SOLD_OUT: Verdict = Verdict::Refused(Refusal::SoldOut);

macro_rules! over_both {
    ($($(#[$attribute:meta])* async fn $name:ident($bench:ident: Bench) $body:block)+) => {
        $($(#[$attribute])* async fn $name($bench: Bench) $body)+

        mod memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::memory().await).await;
            })+
        }

        mod redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::redis().await).await;
            })+
        }
    };
}

over_both! {
    async fn a_claim_is_granted_once_and_known_afterwards(bench: Bench) {
        let sale = concert(10);
        let (bench, claim) = (bench.with(&sale).await, some(&sale, "b", "k", 2));
        let confirmed = bench.confirm(std::slice::from_ref(&claim)).await;
        assert_eq!(confirmed.verdicts, [Verdict::Granted]);
        assert!(confirmed.outbox.is_some());
        assert_eq!(numbers(&confirmed.stock), [[8, 2, 0]]);

        let again = bench.confirm(std::slice::from_ref(&claim)).await;
        assert_eq!(again.verdicts, [known(&claim, OrderStatus::Held)]);
        assert_eq!(again.outbox, None);
        assert_eq!(numbers(&again.stock), [[8, 2, 0]]);
    }

    async fn the_first_promise_comes_back_whatever_the_repeat_says(bench: Bench) {
        let sale = concert(10);
        let (bench, first) = (bench.with(&sale).await, one(&sale, "b"));
        let mut repeat = first.clone();
        repeat.order.granted_at = NOW.plus(Duration::from_secs(9));
        repeat.order.pay_by = NOW.plus(Duration::from_secs(99));
        assert_eq!(bench.verdict(&first).await, Verdict::Granted);
        assert_eq!(bench.verdict(&repeat).await, known(&first, OrderStatus::Held));
    }

    async fn a_key_that_was_used_for_another_request_is_refused(bench: Bench) {
        let sale = concert(10);
        let bench = bench.with(&sale).await;
        assert_eq!(bench.verdict(&some(&sale, "b", "k", 1)).await, Verdict::Granted);
        assert_eq!(bench.verdict(&some(&sale, "b", "k", 2)).await, Verdict::Refused(Refusal::KeyReused));
        assert_eq!(bench.counters(&sale).await, [[9, 1, 0]]);
    }

    async fn equal_claims_in_one_batch_meet_each_other(bench: Bench) {
        let sale = concert(10);
        let bench = bench.with(&sale).await;
        let (claim, other) = (some(&sale, "b", "k", 1), some(&sale, "b", "k", 2));
        let confirmed = bench.confirm(&[claim.clone(), claim.clone(), other]).await;
        assert_eq!(
            confirmed.verdicts,
            [Verdict::Granted, known(&claim, OrderStatus::Held), Verdict::Refused(Refusal::KeyReused)]
        );
        assert_eq!(bench.counters(&sale).await, [[9, 1, 0]]);
    }

    async fn a_scope_is_joined_while_it_is_open(bench: Bench) {
        assert_eq!(bench.inventory.join(bench.scope).await, Ok(()));
        let next = Scope { epoch: Epoch(2), ..bench.scope };
        assert!(matches!(bench.inventory.join(next).await, Err(Fault::Fenced(_))), "it never was");
        bench.inventory.rebuild(next, &Snapshot::default()).await.unwrap();
        assert!(matches!(bench.inventory.join(next).await, Err(Fault::Fenced(_))), "it is not open yet");
        bench.inventory.open(next).await.unwrap();
        assert_eq!(bench.inventory.join(next).await, Ok(()));
        bench.inventory.fence(next).await.unwrap();
        assert!(matches!(bench.inventory.join(next).await, Err(Fault::Fenced(_))), "it is closed again");
    }

    async fn an_empty_batch_decides_nothing(bench: Bench) {
        let decided = bench.confirm(&[]).await;
        assert_eq!(decided, Confirmed { version: decided.version, verdicts: vec![], outbox: None, stock: vec![] });
    }

    async fn all_lines_are_granted_or_none(bench: Bench) {
        let sale = train(2, 2);
        let bench = bench.with(&sale).await;
        let both = lines(&sale, "b", vec![line("first", "A", "B", 1), line("second", "A", "B", 3)]);
        assert_eq!(bench.verdict(&both).await, SOLD_OUT);
        assert_eq!(bench.counters(&sale).await, [[2, 0, 0]; 6]);
    }

    async fn lines_over_the_same_leg_add_up(bench: Bench) {
        let sale = train(3, 0);
        let bench = bench.with(&sale).await;
        let too_many = lines(&sale, "b", vec![line("first", "A", "C", 2), line("first", "B", "D", 2)]);
        assert_eq!(bench.verdict(&too_many).await, SOLD_OUT);
        let just_enough = lines(&sale, "c", vec![line("first", "A", "C", 2), line("first", "B", "D", 1)]);
        let confirmed = bench.confirm(&[just_enough]).await;
        assert_eq!(confirmed.verdicts, [Verdict::Granted]);
        assert_eq!(numbers(&confirmed.stock), [[1, 2, 0], [0, 3, 0], [2, 1, 0]]);
    }

    async fn a_unit_is_sold_again_on_the_legs_where_it_is_free(bench: Bench) {
        let sale = train(1, 0);
        let bench = bench.with(&sale).await;
        assert_eq!(bench.verdict(&lines(&sale, "a", vec![line("first", "A", "B", 1)])).await, Verdict::Granted);
        assert_eq!(bench.verdict(&lines(&sale, "b", vec![line("first", "A", "D", 1)])).await, ALL_HELD);
        assert_eq!(bench.verdict(&lines(&sale, "c", vec![line("first", "B", "D", 1)])).await, Verdict::Granted);
        assert_eq!(bench.counters(&sale).await[..3], [[0, 1, 0]; 3]);
    }

    async fn a_buyer_has_no_more_units_than_the_limit(bench: Bench) {
        let sale = limited(100, 3);
        let bench = bench.with(&sale).await;
        let first = some(&sale, "b", "1", 2);
        assert_eq!(bench.verdict(&first).await, Verdict::Granted);
        assert_eq!(bench.verdict(&some(&sale, "b", "2", 2)).await, limit_reached(&[&first]));
        let second = some(&sale, "b", "3", 1);
        assert_eq!(bench.verdict(&second).await, Verdict::Granted);
        assert_eq!(bench.verdict(&some(&sale, "b", "4", 1)).await, limit_reached(&[&first, &second]));
        assert_eq!(bench.verdict(&some(&sale, "other", "1", 4)).await, limit_reached(&[]));
        assert_eq!(bench.verdict(&some(&sale, "other", "2", 3)).await, Verdict::Granted);
    }

    async fn the_orders_that_count_for_a_buyer_are_told_while_they_live_and_those_of_nobody_else(bench: Bench) {
        let (sale, other) = (limited(400, 300), Sale { id: "other".parse().unwrap(), ..limited(9, 9) });
        let bench = bench.with(&sale).await.with(&other).await;
        let claims: Vec<_> = (0..300).map(|key| some(&sale, "b", &key.to_string(), 1)).collect();
        assert!(bench.confirm(&claims).await.verdicts.iter().all(|verdict| *verdict == Verdict::Granted));
        bench.confirm(&[some(&sale, "c", "1", 1), some(&other, "b", "1", 1)]).await;
        bench.apply(claims[0].order.id, OrderStatus::Paid).await;
        bench.apply(claims[1].order.id, OrderStatus::Expired).await;
        let of = async |buyer: &str| {
            let buyer = buyer.parse().unwrap();
            let mut orders = bench.inventory.orders_of(bench.scope, &sale.id, &buyer).await.unwrap();
            orders.sort_by_key(|known| known.order.id);
            orders
        };
        let status = |number| if number == 0 { OrderStatus::Paid } else { OrderStatus::Held };
        let live = claims.iter().enumerate().filter(|(number, _)| *number != 1);
        let mut expected: Vec<_> =
            live.map(|(number, claim)| KnownOrder { order: claim.order.clone(), status: status(number) }).collect();
        expected.sort_by_key(|known| known.order.id);
        assert_eq!(of("b").await, expected);
        assert_eq!(of("nobody").await, []);
    }

    async fn a_buyer_s_claims_in_one_batch_count_together(bench: Bench) {
        let sale = limited(100, 3);
        let bench = bench.with(&sale).await;
        let claims: Vec<_> = (0..4).map(|key| some(&sale, "b", &key.to_string(), 2 - key / 2)).collect();
        let (first, last) = (&claims[0], &claims[2]);
        assert_eq!(
            bench.confirm(&claims).await.verdicts,
            [Verdict::Granted, limit_reached(&[first]), Verdict::Granted, limit_reached(&[first, last])]
        );
        assert_eq!(bench.counters(&sale).await, [[97, 3, 0]]);
    }

    async fn a_limit_is_for_one_sale(bench: Bench) {
        let one_sale = limited(10, 1);
        let other_sale = Sale { id: "other".parse().unwrap(), ..one_sale.clone() };
        let bench = bench.with(&one_sale).await.with(&other_sale).await;
        let confirmed = bench.confirm(&[one(&one_sale, "b"), one(&other_sale, "b")]).await;
        assert_eq!(confirmed.verdicts, [Verdict::Granted, Verdict::Granted]);
    }

    async fn a_passenger_travels_once_whoever_buys(bench: Bench) {
        let sale = train(10, 10);
        let bench = bench.with(&sale).await;
        let first = lines(&sale, "a", vec![seat("first", "A", "B", "p"), seat("second", "A", "B", "q")]);
        let second = lines(&sale, "b", vec![seat("first", "C", "D", "r"), seat("first", "C", "D", "p")]);
        let third = lines(&sale, "c", vec![seat("first", "C", "D", "r")]);
        assert_eq!(
            bench.confirm(&[first.clone(), second.clone(), third]).await.verdicts,
            [Verdict::Granted, limit_reached(&[&first]), Verdict::Granted]
        );
        assert_eq!(bench.verdict(&lines(&sale, "d", vec![seat("first", "A", "B", "q")])).await, limit_reached(&[&first]));
        let nobody = lines(&sale, "e", vec![line("first", "A", "B", 5)]);
        assert_eq!(bench.verdict(&nobody).await, Verdict::Granted);
        bench.apply(first.order.id, OrderStatus::Expired).await;
        assert_eq!(bench.verdict(&lines(&sale, "d", vec![seat("first", "A", "B", "q")])).await, Verdict::Granted);
    }

    async fn a_window_is_kept_to_the_millisecond(bench: Bench) {
        let (opens, closes) = (UnixMillis(NOW.0 + 10), UnixMillis(NOW.0 + 20));
        let sale = Sale { opens_at: Some(opens), closes_at: Some(closes), ..concert(10) };
        let bench = bench.with(&sale).await;
        let at = async |buyer: &str, now| bench.confirm_at(&[one(&sale, buyer)], UnixMillis(now)).await.verdicts.remove(0);
        assert_eq!(at("a", opens.0 - 1).await, Verdict::Refused(Refusal::NotOpen { opens_at: Some(opens) }));
        assert_eq!(at("b", opens.0).await, Verdict::Granted);
        assert_eq!(at("c", closes.0 - 1).await, Verdict::Granted);
        assert_eq!(at("d", closes.0).await, Verdict::Refused(Refusal::Closed));
        assert!(matches!(at("b", closes.0).await, Verdict::Known(_)), "what was granted stays known after the window");
    }

    async fn an_operator_s_word_is_kept(bench: Bench) {
        let waiting = Sale { opens_at: None, ..concert(10) };
        let bench = bench.with(&waiting).await;
        let claim = one(&waiting, "b");
        assert_eq!(bench.verdict(&claim).await, Verdict::Refused(Refusal::NotOpen { opens_at: None }));
        let paused = Sale { state: SaleState::Paused, version: 2, ..concert(10) };
        let bench = bench.with(&paused).await;
        assert_eq!(bench.verdict(&claim).await, Verdict::Refused(Refusal::Paused));
        let bench = bench.with(&Sale { version: 3, ..concert(10) }).await;
        assert_eq!(bench.verdict(&claim).await, Verdict::Granted);
        let closed = Sale { state: SaleState::Closed, version: 4, ..concert(10) };
        let bench = bench.with(&closed).await;
        assert_eq!(bench.verdict(&one(&closed, "c")).await, Verdict::Refused(Refusal::Closed));
    }

    async fn a_sale_that_nobody_defined_is_unknown(bench: Bench) {
        let sale = concert(10);
        let confirmed = bench.confirm(&[one(&sale, "b")]).await;
        assert_eq!(confirmed.verdicts, [Verdict::Refused(Refusal::UnknownSale)]);
        assert_eq!(confirmed.stock, []);
        assert_eq!(bench.counters(&sale).await, Vec::<[u32; 3]>::new());
    }

    async fn nothing_free_is_all_held_until_all_is_paid(bench: Bench) {
        let sale = concert(2);
        let bench = bench.with(&sale).await;
        let (first, second) = (one(&sale, "a"), one(&sale, "b"));
        assert_eq!(bench.confirm(&[first.clone(), second.clone()]).await.verdicts, [Verdict::Granted, Verdict::Granted]);
        assert_eq!(bench.verdict(&one(&sale, "c")).await, ALL_HELD);
        bench.apply(first.order.id, OrderStatus::Paid).await;
        assert_eq!(bench.verdict(&one(&sale, "c")).await, ALL_HELD);
        bench.apply(second.order.id, OrderStatus::Paid).await;
        assert_eq!(bench.verdict(&one(&sale, "c")).await, SOLD_OUT);
    }

    async fn one_held_leg_of_those_that_are_full_gives_hope(bench: Bench) {
        let sale = train(1, 0);
        let bench = bench.with(&sale).await;
        let over = |buyer: &str, from: &str, to: &str| lines(&sale, buyer, vec![line("first", from, to, 1)]);
        let sold = over("a", "B", "C");
        bench.confirm(&[sold.clone(), over("b", "C", "D")]).await;
        bench.apply(sold.order.id, OrderStatus::Paid).await;
        assert_eq!(bench.verdict(&over("c", "A", "C")).await, SOLD_OUT);
        assert_eq!(bench.verdict(&over("d", "B", "D")).await, ALL_HELD, "sold, then held");
        assert_eq!(bench.verdict(&over("e", "A", "B")).await, Verdict::Granted);
        assert_eq!(bench.verdict(&over("f", "A", "C")).await, ALL_HELD, "held, then sold");
    }

    async fn reasons_have_one_order(bench: Bench) {
        // Everything is wrong at once; then one thing less with each step.
        let sale = Sale { state: SaleState::Paused, ..limited(1, 1) };
        let bench = bench.with(&sale).await;
        let open = Sale { version: 2, ..limited(1, 1) };
        let (claim, same_key) = (some(&sale, "b", "1", 1), some(&sale, "b", "1", 2));
        assert_eq!(bench.verdict(&same_key).await, Verdict::Refused(Refusal::Paused));
        let bench = bench.with(&open).await;
        assert_eq!(bench.verdict(&claim).await, Verdict::Granted);
        let bench = bench.with(&Sale { version: 3, ..sale.clone() }).await;
        assert_eq!(bench.verdict(&same_key).await, Verdict::Refused(Refusal::KeyReused));
        assert_eq!(bench.verdict(&some(&sale, "b", "2", 1)).await, Verdict::Refused(Refusal::Paused));
        let bench = bench.with(&Sale { version: 4, ..open.clone() }).await;
        assert_eq!(bench.verdict(&some(&sale, "b", "2", 1)).await, limit_reached(&[&claim]));
        assert_eq!(bench.verdict(&some(&sale, "c", "2", 1)).await, ALL_HELD);
    }

    async fn sixty_four_tasks_with_repeats_sell_exactly_what_there_is(bench: Bench) {
        let sale = limited(500, 1);
        let bench = bench.with(&sale).await;
        let task = |task: u64| {
            let (bench, sale) = (bench.clone(), sale.clone());
            async move {
                let mut granted = Vec::new();
                for round in 0..8 {
                    // Buyers 0..800 over all tasks, each asked for by two tasks at once, and by each of these twice.
                    let claims: Vec<_> = (0..25).map(|i| one(&sale, &format!("b{}", (task / 2 * 25 + i + round) % 800))).collect();
                    let twice: Vec<_> = claims.iter().chain(&claims).cloned().collect();
                    let confirmed = bench.confirm(&twice).await;
                    let ids = twice.iter().zip(&confirmed.verdicts).filter(|(_, verdict)| **verdict == Verdict::Granted);
                    granted.extend(ids.map(|(claim, _)| claim.order.id));
                }
                granted
            }
        };
        let shutdown = Shutdown::new();
        let tasks: Vec<_> = (0..64).map(|number| shutdown.spawn(task(number))).collect();
        let granted: Vec<_> = join_all(tasks).await.into_iter().flat_map(|granted| granted.unwrap().unwrap()).collect();
        assert_eq!(granted.len(), 500);
        assert_eq!(granted.iter().collect::<HashSet<_>>().len(), 500, "no order is granted twice");
        assert_eq!(bench.counters(&sale).await, [[0, 500, 0]]);
        assert_eq!(bench.orders().await.len(), 500);
    }

    async fn every_move_of_an_order_is_made_once(bench: Bench) {
        let sale = concert(100);
        let bench = bench.with(&sale).await;
        let mut expected = [100_u32, 0, 0];
        for from in OrderStatus::ALL {
            for to in OrderStatus::ALL {
                let claim = some(&sale, &format!("{from}-{to}"), "k", 3);
                bench.confirm(std::slice::from_ref(&claim)).await;
                bench.apply(claim.order.id, from).await;
                bench.apply(claim.order.id, to).await;
                bench.apply(claim.order.id, to).await;
                let end = match (from, to) {
                    (OrderStatus::Held, to) => to,
                    (OrderStatus::Paid, OrderStatus::Cancelled | OrderStatus::Refunded) => to,
                    (from, _) => from,
                };
                assert_eq!(bench.status(&claim).await, Some(end), "{from} to {to}");
                match end {
                    OrderStatus::Held => expected = [expected[0] - 3, expected[1] + 3, expected[2]],
                    OrderStatus::Paid => expected = [expected[0] - 3, expected[1], expected[2] + 3],
                    OrderStatus::Expired | OrderStatus::Cancelled | OrderStatus::Refunded => {}
                }
                assert_eq!(bench.counters(&sale).await, [expected], "{from} to {to}");
            }
        }
    }

    async fn an_expired_order_takes_its_units_again(bench: Bench) {
        let sale = limited(10, 3);
        let bench = bench.with(&sale).await;
        let claim = some(&sale, "b", "1", 2);
        bench.verdict(&claim).await;
        bench.apply(claim.order.id, OrderStatus::Expired).await;
        let before = bench.inventory.changes(bench.scope, 0).await.unwrap().version;
        for _ in 0..2 {
            assert_eq!(bench.revive(&claim).await, Revived::Taken);
            assert_eq!((bench.counters(&sale).await, bench.status(&claim).await), (vec![[8, 0, 2]], Some(OrderStatus::Paid)));
        }
        let changes = bench.inventory.changes(bench.scope, before).await.unwrap();
        assert_eq!((numbers(&changes.stock), changes.version), (vec![[8, 0, 2]], before + 1), "the shards hear of it, once");
        assert_eq!(bench.verdict(&some(&sale, "b", "2", 2)).await, limit_reached(&[&claim]), "it counts for its buyer");
        assert_eq!(bench.verdict(&claim).await, known(&claim, OrderStatus::Paid));
    }

    async fn a_held_order_is_sold_when_its_payment_comes_late(bench: Bench) {
        let sale = concert(1);
        let bench = bench.with(&sale).await;
        let claim = one(&sale, "b");
        bench.verdict(&claim).await;
        assert_eq!(bench.revive(&claim).await, Revived::Taken);
        assert_eq!((bench.counters(&sale).await, bench.status(&claim).await), (vec![[0, 0, 1]], Some(OrderStatus::Paid)));
    }

    async fn who_was_refused_once_is_refused_from_then_on(bench: Bench) {
        let sale = concert(1);
        let bench = bench.with(&sale).await;
        let (late, other) = (one(&sale, "late"), one(&sale, "other"));
        bench.verdict(&late).await;
        bench.apply(late.order.id, OrderStatus::Expired).await;
        bench.verdict(&other).await;
        let version = bench.inventory.changes(bench.scope, 0).await.unwrap().version;
        assert_eq!(bench.revive(&late).await, Revived::Refused);
        bench.apply(other.order.id, OrderStatus::Cancelled).await;
        assert_eq!(bench.revive(&late).await, Revived::Refused, "two who ask must not hear two verdicts");
        assert_eq!((bench.counters(&sale).await, bench.status(&late).await), (vec![[1, 0, 0]], Some(OrderStatus::Expired)));
        assert_eq!(bench.verdict(&late).await, known(&late, OrderStatus::Expired), "it answers as before");
        assert_eq!(bench.inventory.outbox(bench.scope, Duration::ZERO, 1).await.unwrap()[0].orders, std::slice::from_ref(&late.order));
        assert_eq!(bench.inventory.changes(bench.scope, 0).await.unwrap().version, version + 1, "a refusal changes nothing");
        // In the next epoch it is asked anew.
        let snapshot = Snapshot { sales: vec![sale.clone()], orders: bench.orders().await };
        let next = Bench { scope: Scope { epoch: Epoch(2), ..SCOPE }, ..bench };
        next.inventory.rebuild(next.scope, &snapshot).await.unwrap();
        next.inventory.open(next.scope).await.unwrap();
        assert_eq!(next.revive(&late).await, Revived::Taken);
    }

    async fn a_journey_is_revived_on_all_its_legs_or_on_none(bench: Bench) {
        let sale = train(1, 3);
        let bench = bench.with(&sale).await;
        let long = |buyer| lines(&sale, buyer, vec![line("first", "A", "D", 1), line("second", "A", "B", 2), line("second", "B", "C", 1)]);
        let (fits, collides) = (long("a"), long("b"));
        for claim in [&fits, &collides] {
            assert_eq!(bench.verdict(claim).await, Verdict::Granted);
            bench.apply(claim.order.id, OrderStatus::Expired).await;
        }
        assert_eq!(bench.revive(&fits).await, Revived::Taken);
        let revived = [[0, 0, 1], [0, 0, 1], [0, 0, 1], [1, 0, 2], [2, 0, 1], [3, 0, 0]];
        assert_eq!(bench.counters(&sale).await, revived);
        assert_eq!(bench.revive(&collides).await, Revived::Refused);
        assert_eq!(bench.counters(&sale).await, revived, "nothing of it was taken");
    }

    async fn nobody_comes_over_a_limit_by_a_late_payment(bench: Bench) {
        let sale = Sale { limits: Limits { per_buyer: 2, per_passenger: 1 }, ..train(10, 10) };
        let bench = bench.with(&sale).await;
        let (mine, of_passenger) = (lines(&sale, "b", vec![line("first", "A", "B", 2)]), lines(&sale, "c", vec![seat("first", "A", "B", "p")]));
        for claim in [&mine, &of_passenger] {
            bench.verdict(claim).await;
            bench.apply(claim.order.id, OrderStatus::Expired).await;
        }
        let one_more = check(&sale, "b", "2", &Ask::Lines(vec![line("second", "A", "B", 1)]));
        let elsewhere = lines(&sale, "d", vec![seat("second", "C", "D", "p")]);
        assert_eq!(bench.confirm(&[one_more, elsewhere]).await.verdicts, [Verdict::Granted, Verdict::Granted]);
        let before = bench.counters(&sale).await;
        assert_eq!((bench.revive(&mine).await, bench.revive(&of_passenger).await), (Revived::Refused, Revived::Refused));
        assert_eq!(bench.counters(&sale).await, before);
    }

    async fn what_comes_late_after_a_revival_is_followed_if_it_is_an_end(bench: Bench) {
        let sale = limited(1, 1);
        let bench = bench.with(&sale).await;
        for (key, end) in [("1", OrderStatus::Cancelled), ("2", OrderStatus::Refunded)] {
            let claim = some(&sale, "b", key, 1);
            assert_eq!(bench.verdict(&claim).await, Verdict::Granted, "the one before is over");
            if end == OrderStatus::Refunded {
                bench.apply(claim.order.id, OrderStatus::Expired).await;
            }
            assert_eq!(bench.revive(&claim).await, Revived::Taken);
            bench.apply(claim.order.id, OrderStatus::Expired).await;
            assert_eq!(bench.status(&claim).await, Some(OrderStatus::Paid), "it expired before it was revived, not after");
            assert_eq!(bench.counters(&sale).await, [[0, 0, 1]]);
            bench.apply(claim.order.id, end).await;
            assert_eq!((bench.counters(&sale).await, bench.status(&claim).await), (vec![[1, 0, 0]], Some(end)));
            assert_eq!(bench.revive(&claim).await, Revived::Refused);
        }
    }

    async fn only_what_is_held_paid_or_expired_is_revived(bench: Bench) {
        let sale = concert(10);
        let bench = bench.with(&sale).await;
        for end in [OrderStatus::Cancelled, OrderStatus::Refunded] {
            let claim = one(&sale, end.as_str());
            bench.verdict(&claim).await;
            bench.apply(claim.order.id, end).await;
            assert_eq!(bench.revive(&claim).await, Revived::Refused, "{end}");
        }
        assert_eq!(bench.revive(&one(&sale, "stranger")).await, Revived::Refused);
        assert_eq!(bench.counters(&sale).await, [[10, 0, 0]]);
        bench.inventory.fence(bench.scope).await.unwrap();
        let fenced = bench.inventory.revive(bench.scope, one(&sale, "stranger").order.id).await;
        assert!(matches!(fenced, Err(Fault::Fenced(_))), "{fenced:?}");
    }

    async fn a_late_payment_counts_in_a_sale_that_is_closed(bench: Bench) {
        let sale = concert(1);
        let bench = bench.with(&sale).await;
        let claim = one(&sale, "b");
        bench.verdict(&claim).await;
        bench.apply(claim.order.id, OrderStatus::Expired).await;
        let bench = bench.with(&Sale { state: SaleState::Closed, version: 2, ..sale }).await;
        assert_eq!(bench.revive(&claim).await, Revived::Taken, "the claim came in time");
    }

    async fn moves_of_one_call_are_made_in_their_order(bench: Bench) {
        let sale = train(10, 10);
        let bench = bench.with(&sale).await;
        let (one, other) = (lines(&sale, "a", vec![line("first", "A", "C", 2)]), lines(&sale, "b", vec![line("first", "B", "D", 3)]));
        bench.confirm(&[one.clone(), other.clone()]).await;
        let step = |claim: &Claim, to| StockMove { order: claim.order.id, to };
        let stranger = StockMove { order: OrderId([9; 16]), to: OrderStatus::Paid };
        let moves = [
            step(&one, OrderStatus::Paid), stranger, step(&other, OrderStatus::Expired),
            step(&one, OrderStatus::Refunded), step(&other, OrderStatus::Paid),
        ];
        bench.inventory.apply(bench.scope, &moves).await.unwrap();
        assert_eq!((bench.status(&one).await, bench.status(&other).await), (Some(OrderStatus::Refunded), Some(OrderStatus::Expired)));
        assert_eq!(bench.counters(&sale).await, [[10, 0, 0]; 6]);
        bench.inventory.apply(bench.scope, &[]).await.unwrap();
    }

    async fn an_end_frees_the_limit_and_answers_as_a_tombstone(bench: Bench) {
        let sale = limited(1, 1);
        let bench = bench.with(&sale).await;
        for (round, end) in [OrderStatus::Expired, OrderStatus::Cancelled, OrderStatus::Refunded].into_iter().enumerate() {
            let claim = some(&sale, "b", &round.to_string(), 1);
            assert_eq!(bench.verdict(&claim).await, Verdict::Granted);
            if end == OrderStatus::Refunded {
                bench.apply(claim.order.id, OrderStatus::Paid).await;
                assert_eq!(bench.verdict(&some(&sale, "b", "x", 1)).await, limit_reached(&[&claim]));
            }
            bench.apply(claim.order.id, end).await;
            assert_eq!(bench.verdict(&claim).await, known(&claim, end));
        }
        assert_eq!(bench.counters(&sale).await, [[1, 0, 0]]);
    }

    async fn the_outbox_has_what_was_granted_until_it_is_removed(bench: Bench) {
        let sale = limited(10, 1);
        let bench = bench.with(&sale).await;
        let (a, b, c) = (one(&sale, "a"), one(&sale, "b"), one(&sale, "c"));
        let first = bench.confirm(&[a.clone(), some(&sale, "a", "2", 1), b.clone()]).await.outbox.unwrap();
        let second = bench.confirm(std::slice::from_ref(&c)).await.outbox.unwrap();
        assert_eq!(bench.confirm(&[a.clone(), b.clone()]).await.outbox, None);
        assert!(first < second);
        assert_eq!(bench.inventory.outbox_len(bench.scope).await, Ok(2));

        let aged = async |age, limit| bench.inventory.outbox(bench.scope, age, limit).await.unwrap();
        let entries = aged(Duration::ZERO, 10).await;
        assert_eq!(entries.iter().map(|entry| &entry.id).collect::<Vec<_>>(), [&first, &second]);
        assert_eq!(entries[0].orders, [a.order.clone(), b.order.clone()]);
        assert_eq!(entries[1].orders, std::slice::from_ref(&c.order));
        assert_eq!(aged(Duration::ZERO, 1).await, entries[..1]);
        let behind = async |entry: &OutboxId, limit| {
            let behind = bench.inventory.outbox_behind(bench.scope, Some(entry), Duration::ZERO, limit);
            behind.await.unwrap()
        };
        assert_eq!(behind(&first, 10).await, entries[1..]);
        assert_eq!(behind(&second, 10).await, []);
        assert_eq!(behind(&"no-entry".parse().unwrap(), 10).await, entries, "nothing stands before a stranger");

        bench.apply(a.order.id, OrderStatus::Expired).await;
        assert_eq!(aged(Duration::ZERO, 10).await, entries, "an order's end changes no entry");
        let stranger: OutboxId = "no-entry".parse().unwrap();
        bench.inventory.outbox_remove(bench.scope, &[first.clone(), stranger, first.clone()]).await.unwrap();
        assert_eq!(aged(Duration::ZERO, 10).await, entries[1..]);
        assert_eq!(behind(&first, 10).await, entries[1..], "what stood behind a removed entry still does");
        bench.inventory.outbox_remove(bench.scope, &[second]).await.unwrap();
        assert_eq!(bench.inventory.outbox_len(bench.scope).await, Ok(0));
        assert_eq!(bench.verdict(&one(&sale, "d")).await, Verdict::Granted, "an empty outbox takes the next entry");
    }

    async fn the_outbox_of_a_closed_scope_is_salvaged_page_by_page(bench: Bench) {
        let sale = concert(10);
        let bench = bench.with(&sale).await;
        let (mut ids, mut orders) = (Vec::new(), Vec::new());
        for buyer in ["a", "b", "c", "d", "e"] {
            let claims = [one(&sale, buyer), some(&sale, buyer, "2", 1)];
            ids.push(bench.confirm(&claims).await.outbox.unwrap());
            orders.push(claims.map(|claim| claim.order).to_vec());
        }
        bench.inventory.outbox_remove(bench.scope, &ids[..1]).await.unwrap();
        bench.inventory.fence(bench.scope).await.unwrap();
        let page = async |after, limit| bench.inventory.salvage(bench.scope, after, limit).await.unwrap();
        let first = page(None, 3).await;
        assert_eq!(first.iter().map(|entry| &entry.id).collect::<Vec<_>>(), ids[1..4].iter().collect::<Vec<_>>());
        assert_eq!(first.into_iter().map(|entry| entry.orders).collect::<Vec<_>>(), orders[1..4]);
        let second = page(Some(ids[3].clone()), 3).await;
        assert_eq!(second, [OutboxEntry { id: ids[4].clone(), orders: orders[4].clone() }]);
        assert_eq!(page(Some(ids[4].clone()), 3).await, []);
        let never = Scope { epoch: Epoch(9), ..bench.scope };
        assert_eq!(bench.inventory.salvage(never, None, 3).await, Ok(Vec::new()));
    }

    async fn an_outbox_entry_is_shown_when_it_is_old_enough(bench: Bench) {
        let sale = concert(10);
        let bench = bench.with(&sale).await;
        bench.confirm(&[one(&sale, "a")]).await;
        let aged = async |age| bench.inventory.outbox(bench.scope, age, 10).await.unwrap().len();
        assert_eq!(aged(Duration::from_secs(3600)).await, 0);
        assert_eq!(aged(Duration::MAX).await, 0);
        let since = tokio::time::Instant::now();
        until("the entry to age", async || aged(Duration::from_millis(200)).await == 1).await;
        assert!(since.elapsed() >= Duration::from_millis(150), "{:?}", since.elapsed());
    }

    async fn changes_are_what_changed_and_nothing_else(bench: Bench) {
        let (sale, train) = (concert(10), train(5, 5));
        let bench = bench.with(&sale).await.with(&train).await;
        let changes = async |since| bench.inventory.changes(bench.scope, since).await.unwrap();
        let all = changes(0).await;
        assert_eq!(all.sales.iter().map(|sale| sale.id.as_str()).collect::<HashSet<_>>(), HashSet::from(["concert", "train"]));
        assert!(all.sales.contains(&sale) && all.sales.contains(&train));
        assert_eq!(all.stock.len(), 7);
        let quiet = changes(all.version).await;
        assert_eq!((quiet.version, quiet.sales.len(), quiet.stock.len()), (all.version, 0, 0));

        let claim = lines(&train, "b", vec![line("second", "B", "C", 2)]);
        bench.confirm(std::slice::from_ref(&claim)).await;
        let one_leg = changes(all.version).await;
        let expected = LegStock {
            sale: train.id.clone(), pool: "second".parse().unwrap(), leg: 1, free: 3, held: 2, sold: 0,
        };
        assert_eq!((one_leg.sales.len(), &one_leg.stock), (0, &vec![expected]));
        assert!(one_leg.version > all.version);

        bench.confirm(&[claim.clone(), lines(&train, "c", vec![line("second", "A", "D", 9)])]).await;
        assert_eq!(changes(one_leg.version).await.version, one_leg.version, "a refusal changes nothing");
        bench.apply(claim.order.id, OrderStatus::Paid).await;
        let paid = changes(one_leg.version).await;
        assert_eq!(numbers(&paid.stock), [[3, 0, 2]]);
        bench.apply(claim.order.id, OrderStatus::Paid).await;
        assert_eq!(changes(paid.version).await.version, paid.version, "a move that was made already changes nothing");
        let bench = bench.with(&Sale { version: 2, name: "D".to_owned(), ..sale }).await;
        let renamed = bench.inventory.changes(bench.scope, paid.version).await.unwrap();
        assert_eq!(renamed.sales[0].name, "D");
        assert_eq!(renamed.sales.len(), 1);
    }

    async fn a_first_look_shows_all_of_many_sales(bench: Bench) {
        let sales: Vec<_> = (0..120).map(|i| Sale { id: format!("train-{i}").parse().unwrap(), ..wide_train() }).collect();
        let snapshot = Snapshot { sales: sales.clone(), orders: Vec::new() };
        let scope = Scope { epoch: Epoch(2), ..bench.scope };
        bench.inventory.rebuild(scope, &snapshot).await.unwrap();
        bench.inventory.open(scope).await.unwrap();
        let changes = bench.inventory.changes(scope, 0).await.unwrap();
        assert_eq!(changes.sales.len(), 120);
        let legs: HashSet<_> = changes.stock.iter().map(|leg| (leg.sale.clone(), leg.pool.clone(), leg.leg)).collect();
        assert_eq!((changes.stock.len(), legs.len()), (120 * 40, 120 * 40));
        assert_eq!(bench.inventory.changes(scope, changes.version).await.unwrap().stock, []);
    }

    async fn only_a_newer_definition_is_taken(bench: Bench) {
        let sale = Sale { version: 5, ..concert(10) };
        let bench = bench.with(&sale).await;
        for version in [4, 5] {
            let other = Sale { version, ..concert(20) };
            assert_eq!(bench.inventory.define(bench.scope, &other).await, Ok(Defined::NotNewer));
            assert_eq!(bench.counters(&sale).await, [[10, 0, 0]]);
        }
        let newer = Sale { version: 16, ..concert(20) };
        assert_eq!(bench.inventory.define(bench.scope, &newer).await, Ok(Defined::Applied));
        assert_eq!(bench.counters(&sale).await, [[20, 0, 0]]);
        assert_eq!(bench.inventory.define(bench.scope, &Sale { version: 15, ..concert(30) }).await, Ok(Defined::NotNewer));
    }

    async fn capacities_grow_and_shrink_around_what_is_live(bench: Bench) {
        let sale = concert(10);
        let bench = bench.with(&sale).await;
        let (held, sold) = (some(&sale, "a", "k", 3), some(&sale, "b", "k", 4));
        bench.confirm(&[held, sold.clone()]).await;
        bench.apply(sold.order.id, OrderStatus::Paid).await;
        let to = async |capacity, version| {
            bench.inventory.define(bench.scope, &Sale { version, ..concert(capacity) }).await.unwrap()
        };
        assert_eq!(to(15, 2).await, Defined::Applied);
        assert_eq!(bench.counters(&sale).await, [[8, 3, 4]]);
        let pool: PoolId = "standard".parse().unwrap();
        assert_eq!(to(6, 3).await, Defined::InUse { pool, leg: 0, live: 7 });
        assert_eq!(bench.counters(&sale).await, [[8, 3, 4]]);
        assert_eq!(to(7, 3).await, Defined::Applied);
        assert_eq!(bench.counters(&sale).await, [[0, 3, 4]]);
        assert_eq!(bench.verdict(&one(&sale, "c")).await, ALL_HELD);
    }

    async fn a_pool_comes_and_goes_but_not_with_live_units_in_it(bench: Bench) {
        let both = train(5, 5);
        let mut only_first = Sale { version: 2, ..both.clone() };
        only_first.pools.truncate(1);
        let bench = bench.with(&both).await;
        let claim = lines(&both, "b", vec![line("second", "B", "D", 2)]);
        bench.confirm(std::slice::from_ref(&claim)).await;
        let in_use = Defined::InUse { pool: "second".parse().unwrap(), leg: 1, live: 2 };
        assert_eq!(bench.inventory.define(bench.scope, &only_first).await, Ok(in_use));
        assert_eq!(bench.counters(&both).await.len(), 6);

        bench.apply(claim.order.id, OrderStatus::Expired).await;
        let bench = bench.with(&only_first).await;
        assert_eq!(bench.counters(&both).await, [[5, 0, 0]; 3]);
        let late = bench.confirm(&[lines(&both, "c", vec![line("second", "A", "B", 1)])]).await;
        assert_eq!((late.verdicts, late.stock), (vec![SOLD_OUT], vec![]));
        let bench = bench.with(&Sale { version: 3, ..both.clone() }).await;
        assert_eq!(bench.verdict(&lines(&both, "c", vec![line("second", "A", "B", 1)])).await, Verdict::Granted);
    }

    async fn a_rebuilt_scope_is_what_the_old_one_was(bench: Bench) {
        let (sale, train) = (limited(10, 2), train(5, 5));
        let bench = bench.with(&sale).await.with(&train).await;
        let claims = [
            some(&sale, "a", "1", 1), some(&sale, "a", "2", 1), some(&sale, "b|/,%", "1", 2), some(&sale, "c", "1", 2),
            lines(&train, "d", vec![seat("first", "A", "C", "p"), seat("first", "A", "C", "q"), line("second", "B", "D", 2)]),
        ];
        bench.confirm(&claims).await;
        for (claim, to) in [(0, OrderStatus::Paid), (2, OrderStatus::Expired), (4, OrderStatus::Paid)] {
            bench.apply(claims[claim].order.id, to).await;
        }
        let orders = join_all(claims.iter().map(|claim| bench.inventory.order(bench.scope, claim.order.id))).await;
        let orders = orders.into_iter().map(|order| order.unwrap().unwrap()).collect();
        let snapshot = Snapshot { sales: vec![sale.clone(), train.clone()], orders };
        let next = Bench { scope: Scope { epoch: Epoch(2), ..bench.scope }, ..bench.clone() };
        let before = (bench.counters(&sale).await, bench.counters(&train).await, bench.orders().await);
        for _ in 0..2 {
            next.inventory.rebuild(next.scope, &snapshot).await.unwrap();
        }
        next.inventory.open(next.scope).await.unwrap();
        assert_eq!((next.counters(&sale).await, next.counters(&train).await, next.orders().await), before);
        assert_eq!(next.inventory.outbox_len(next.scope).await, Ok(0));

        assert_eq!(next.verdict(&claims[2]).await, known(&claims[2], OrderStatus::Expired));
        assert_eq!(next.verdict(&some(&sale, "a", "3", 1)).await, limit_reached(&[&claims[0], &claims[1]]));
        assert_eq!(next.verdict(&some(&sale, "b|/,%", "3", 2)).await, Verdict::Granted);
        assert_eq!(next.verdict(&lines(&train, "e", vec![seat("first", "C", "D", "q")])).await, limit_reached(&[&claims[4]]));
        next.apply(claims[4].order.id, OrderStatus::Refunded).await;
        assert_eq!(next.counters(&train).await, [[5, 0, 0]; 6]);
        assert_eq!(next.verdict(&lines(&train, "e", vec![seat("first", "C", "D", "q")])).await, Verdict::Granted);
    }

    async fn changes_tell_which_orders_were_granted_and_when(bench: Bench) {
        let sale = limited(2, 2);
        let bench = bench.with(&sale).await;
        let granted = async |bench: &Bench, since| {
            let changes = bench.inventory.changes(bench.scope, since).await.unwrap();
            (changes.version, changes.granted)
        };
        let (before, none) = granted(&bench, 0).await;
        assert_eq!(none, []);
        let (first, second, late) = (one(&sale, "a"), one(&sale, "b"), one(&sale, "c"));
        bench.confirm(std::slice::from_ref(&first)).await;
        let (after_first, told) = granted(&bench, before).await;
        assert_eq!(told, [first.order.id.hint()]);
        // One is granted, one known and one refused; whoever sees that nothing is left sees who has it.
        bench.confirm(&[second.clone(), first.clone(), late]).await;
        let (after_second, told) = granted(&bench, after_first).await;
        assert_eq!(told, [second.order.id.hint()]);
        assert_eq!(granted(&bench, after_second).await, (after_second, vec![]));
        assert_eq!(granted(&bench, 0).await.1.len(), 2);
        // An order that ended still has its answer, in the next epoch too.
        bench.apply(first.order.id, OrderStatus::Expired).await;
        let known = [(&first, OrderStatus::Expired), (&second, OrderStatus::Held)];
        let orders = known.map(|(claim, status)| KnownOrder { order: claim.order.clone(), status }).to_vec();
        let next = Bench { scope: Scope { epoch: Epoch(2), ..bench.scope }, ..bench.clone() };
        next.inventory.rebuild(next.scope, &Snapshot { sales: vec![sale.clone()], orders }).await.unwrap();
        next.inventory.open(next.scope).await.unwrap();
        let (rebuilt, told) = granted(&next, 0).await;
        assert_eq!(told.len(), 2);
        next.confirm(&[one(&sale, "d")]).await;
        assert_eq!(granted(&next, rebuilt).await.1, [one(&sale, "d").order.id.hint()]);
    }

    async fn a_rebuild_leaves_nothing_of_what_was_there(bench: Bench) {
        let (sale, train) = (limited(10, 1), train(5, 5));
        let bench = bench.with(&sale).await.with(&train).await;
        let claim = one(&sale, "b");
        bench.confirm(&[claim.clone(), lines(&train, "b", vec![seat("first", "A", "C", "p")])]).await;
        let snapshot = Snapshot { sales: vec![sale.clone()], orders: Vec::new() };
        bench.inventory.rebuild(bench.scope, &snapshot).await.unwrap();
        bench.inventory.open(bench.scope).await.unwrap();
        assert_eq!(bench.orders().await, []);
        assert_eq!(bench.inventory.outbox_len(bench.scope).await, Ok(0));
        assert_eq!(bench.inventory.changes(bench.scope, 0).await.unwrap().sales, std::slice::from_ref(&sale));
        assert_eq!((bench.counters(&sale).await, bench.counters(&train).await), (vec![[10, 0, 0]], vec![]));
        assert_eq!(bench.verdict(&claim).await, Verdict::Granted);
    }

    async fn a_snapshot_with_more_than_there_is_makes_no_scope(bench: Bench) {
        let sale = concert(1);
        let live = |buyer: &str| KnownOrder { order: one(&sale, buyer).order, status: OrderStatus::Held };
        let scope = Scope { epoch: Epoch(2), ..bench.scope };
        let too_many = Snapshot { sales: vec![sale.clone()], orders: vec![live("a"), live("b")] };
        let fault = bench.inventory.rebuild(scope, &too_many).await.unwrap_err();
        assert!(matches!(&fault, Fault::NotDone(why) if why.contains("2 held") && why.contains("capacity of 1")), "{fault}");
        let twice = Snapshot { sales: vec![sale.clone()], orders: vec![live("a"), live("a")] };
        assert!(matches!(bench.inventory.rebuild(scope, &twice).await, Err(Fault::NotDone(_))));
        let orphan = Snapshot { sales: vec![], orders: vec![live("a")] };
        assert!(matches!(bench.inventory.rebuild(scope, &orphan).await, Err(Fault::NotDone(_))));
        assert!(matches!(bench.inventory.open(scope).await, Err(Fault::Fenced(_))));
        let ended = KnownOrder { status: OrderStatus::Expired, ..live("a") };
        let archived = Snapshot { sales: vec![], orders: vec![ended.clone()] };
        bench.inventory.rebuild(scope, &archived).await.unwrap();
        bench.inventory.open(scope).await.unwrap();
        assert_eq!(bench.inventory.order(scope, ended.order.id).await, Ok(Some(ended)));
    }

    async fn a_scope_that_is_not_open_does_nothing(bench: Bench) {
        let sale = concert(10);
        let bench = bench.with(&sale).await;
        let never = Bench { scope: Scope { partition: Partition(1), ..bench.scope }, ..bench.clone() };
        assert_closed(&never, &sale).await;
        never.inventory.rebuild(never.scope, &Snapshot::default()).await.unwrap();
        assert_closed(&never, &sale).await;
        assert_eq!(bench.counters(&sale).await, [[10, 0, 0]]);

        for _ in 0..2 {
            bench.inventory.fence(bench.scope).await.unwrap();
            assert_closed(&bench, &sale).await;
            assert!(matches!(bench.inventory.open(bench.scope).await, Err(Fault::Fenced(_))), "only a rebuild leads back");
        }
        bench.inventory.fence(Scope { epoch: Epoch(99), ..bench.scope }).await.unwrap();
        let snapshot = Snapshot { sales: vec![sale.clone()], orders: Vec::new() };
        bench.inventory.rebuild(bench.scope, &snapshot).await.unwrap();
        for _ in 0..2 {
            bench.inventory.open(bench.scope).await.unwrap();
        }
        assert_eq!(bench.counters(&sale).await, [[10, 0, 0]]);
    }

    async fn an_opened_epoch_ends_those_before_it(bench: Bench) {
        let sale = concert(10);
        let bench = bench.with(&sale).await;
        bench.confirm(&[one(&sale, "b")]).await;
        let next = Bench { scope: Scope { epoch: Epoch(2), ..bench.scope }, ..bench.clone() };
        let neighbour = Bench { scope: Scope { partition: Partition(7), ..bench.scope }, ..bench.clone() };
        neighbour.inventory.rebuild(neighbour.scope, &Snapshot::default()).await.unwrap();
        neighbour.inventory.open(neighbour.scope).await.unwrap();
        next.inventory.rebuild(next.scope, &Snapshot::default()).await.unwrap();
        assert_eq!(bench.counters(&sale).await, [[9, 1, 0]], "a rebuild touches no other epoch");
        next.inventory.open(next.scope).await.unwrap();
        assert_eq!(next.orders().await, []);
        assert_closed(&bench, &sale).await;
        assert_eq!(neighbour.orders().await, [], "another partition is not concerned");
    }

    async fn orders_are_read_page_by_page(bench: Bench) {
        let sale = concert(5000);
        let bench = bench.with(&sale).await;
        let claims: Vec<_> = (0..1600).map(|i| one(&sale, &format!("b{i}"))).collect();
        for batch in claims.chunks(400) {
            bench.confirm(batch).await;
        }
        bench.apply(claims[7].order.id, OrderStatus::Paid).await;
        let orders = bench.orders().await;
        assert_eq!(orders.len(), 1600);
        let paid: Vec<_> = orders.iter().filter(|known| known.status == OrderStatus::Paid).collect();
        assert_eq!(paid.iter().map(|known| &known.order).collect::<Vec<_>>(), [&claims[7].order]);
        let (first, next) = bench.inventory.orders(bench.scope, None).await.unwrap();
        assert!(first.len() < 1600 && next.is_some());
        let odd = bench.inventory.orders(bench.scope, Some("where was I?".to_owned())).await;
        assert!(matches!(odd, Err(Fault::NotDone(_))));
        assert_eq!(bench.inventory.order(bench.scope, OrderId([1; 16])).await, Ok(None));
    }

    async fn nodes_hear_of_each_other_until_they_fall_silent(bench: Bench) {
        let beat = |node: &str, weight| NodeBeat {
            node: node.parse().unwrap(), weight, status: format!("{{\"node\": \"{node} says\\n 'hi'\"}}"),
        };
        let (a, b) = (beat("a", 1.0), beat("b", 0.1 + 0.2));
        let hear = async |of: &NodeBeat, timeout| bench.inventory.beat(of, timeout).await.unwrap();
        let long = Duration::from_secs(60);
        assert_eq!(hear(&b, long).await, std::slice::from_ref(&b));
        assert_eq!(hear(&a, long).await, [a.clone(), b.clone()]);
        let heavier = NodeBeat { weight: 2.5, ..a.clone() };
        assert_eq!(hear(&heavier, long).await, [heavier.clone(), b.clone()]);
        until("b's silence to be long", async || hear(&a, Duration::from_millis(50)).await == [a.clone()]).await;
        assert_eq!(hear(&a, long).await, [a.clone(), b.clone()]);
        bench.inventory.leave(&b.node).await.unwrap();
        bench.inventory.leave(&"stranger".parse().unwrap()).await.unwrap();
        assert_eq!(hear(&a, long).await, [a]);
    }

    async fn an_inventory_keeps_its_identity(bench: Bench) {
        let identity = bench.inventory.identity(Partition(0)).await.unwrap();
        assert!(!identity.is_empty());
        assert_eq!(bench.inventory.identity(Partition(0)).await, Ok(identity));
    }

    async fn odd_names_are_only_names(bench: Bench) {
        let sale = Sale { id: "a.b-c_d".parse().unwrap(), ..limited(1000, 1) };
        let bench = bench.with(&sale).await;
        let odd = ["a/b", "a,b", "|", "%d", "%", "^.*$", "[a", "\"'\\", "#", "{x}", "b", "b,concert,b", "~!@$&()+=;:<>?`"];
        for buyer in odd {
            let claim = some(&sale, buyer, "1", 1);
            assert_eq!(bench.verdict(&claim).await, Verdict::Granted, "{buyer}");
            assert_eq!(bench.verdict(&claim).await, known(&claim, OrderStatus::Held), "{buyer}");
            assert_eq!(bench.verdict(&some(&sale, buyer, "2", 1)).await, limit_reached(&[&claim]), "{buyer}");
            bench.apply(claim.order.id, OrderStatus::Cancelled).await;
            assert_eq!(bench.verdict(&some(&sale, buyer, "3", 1)).await, Verdict::Granted, "{buyer}");
        }
        let held = u32::try_from(odd.len()).unwrap();
        assert_eq!(bench.counters(&sale).await, [[1000 - held, held, 0]]);
        let train = train(100, 100);
        let bench = bench.with(&train).await;
        for passenger in odd.into_iter().filter(|name| !name.contains(['/', ','])) {
            let claim = |key| check(&train, "b", key, &Ask::Lines(vec![seat("first", "A", "B", passenger)]));
            let (first, second) = (claim(&format!("1{passenger}")), claim(&format!("2{passenger}")));
            assert_eq!(bench.verdict(&first).await, Verdict::Granted, "{passenger}");
            assert_eq!(bench.verdict(&second).await, limit_reached(&[&first]), "{passenger}");
            bench.apply(first.order.id, OrderStatus::Expired).await;
            assert_eq!(bench.verdict(&second).await, Verdict::Granted, "{passenger}");
        }
    }

    async fn a_full_batch_of_full_claims_is_one_move(bench: Bench) {
        let train = wide_train();
        let bench = bench.with(&train).await;
        let claims: Vec<_> = (0..512).map(|buyer| full_claim(&train, buyer, "1")).collect();
        let confirmed = bench.confirm(&claims).await;
        assert!(confirmed.verdicts.iter().all(|verdict| *verdict == Verdict::Granted));
        assert_eq!(confirmed.stock.len(), 40);
        let held: u32 = confirmed.stock.iter().map(|leg| leg.held).sum();
        assert_eq!(held, 512 * 16 * 10, "sixteen lines of ten legs each");
        assert_eq!(bench.inventory.outbox(bench.scope, Duration::ZERO, 9).await.unwrap()[0].orders.len(), 512);
        let expire: Vec<_> = claims.iter().map(|claim| StockMove { order: claim.order.id, to: OrderStatus::Expired }).collect();
        bench.inventory.apply(bench.scope, &expire).await.unwrap();
        assert!(bench.counters(&train).await.iter().all(|leg| *leg == [100_000, 0, 0]));
        let again: Vec<_> = (0..512).map(|buyer| full_claim(&train, buyer, "2")).collect();
        assert!(bench.confirm(&again).await.verdicts.iter().all(|verdict| *verdict == Verdict::Granted));
    }
}

/// Every question is answered with the fence.
async fn assert_closed(bench: &Bench, sale: &Sale) {
    fn fenced<T: std::fmt::Debug>(what: &str, answer: Result<T, Fault>) {
        match answer {
            Err(Fault::Fenced(_)) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
    let (inventory, scope) = (&bench.inventory, bench.scope);
    let claim = one(sale, "late");
    fenced("confirm", inventory.confirm(scope, std::slice::from_ref(&claim), NOW).await);
    fenced("confirm nothing", inventory.confirm(scope, &[], NOW).await);
    fenced("apply", inventory.apply(scope, &[]).await);
    fenced("changes", inventory.changes(scope, 0).await);
    fenced("define", inventory.define(scope, &Sale { version: 99, ..sale.clone() }).await);
    fenced("stock", inventory.stock(scope, &sale.id).await);
    fenced("order", inventory.order(scope, claim.order.id).await);
    fenced("orders", inventory.orders(scope, None).await);
    fenced("outbox", inventory.outbox(scope, Duration::ZERO, 1).await);
    fenced("outbox_len", inventory.outbox_len(scope).await);
    fenced("outbox_remove", inventory.outbox_remove(scope, &["1-1".parse().unwrap()]).await);
}

/// Four pools over ten legs, with room for everybody.
pub(crate) fn wide_train() -> Sale {
    let stops: Vec<_> = (0..=10).map(|stop| format!("S{stop}")).collect();
    let pools: Vec<_> =
        (0..4).map(|pool| json!({"id": format!("p{pool}"), "capacity": 100_000, "fares": vec![1; 10]})).collect();
    let mut train = sale("wide", json!({"name": "W", "currency": "CNY", "stops": stops, "pools": pools}));
    train.limits.per_buyer = 16;
    train
}

/// Sixteen lines, each for a passenger of its own, over the whole journey.
pub(crate) fn full_claim(train: &Sale, buyer: usize, key: &str) -> Claim {
    let names: Vec<_> = (0..16).map(|i| (format!("p{}", i % 4), format!("{buyer}-{i}"))).collect();
    let lines = names.iter().map(|(pool, passenger)| seat(pool, "S0", "S10", passenger)).collect();
    check(train, &format!("b{buyer}"), key, &Ask::Lines(lines))
}

/// A seeded random walk over both backends: after each step they must have said and hold the same.
struct Walk {
    random: fastrand::Rng,
    benches: [Bench; 2],
    since: [u64; 2],
    sales: Vec<Sale>,
    /// Every claim that was ever made; some are made again.
    claims: Vec<Claim>,
}

impl Walk {
    async fn new(seed: u64) -> Self {
        let sales = vec![
            Sale { closes_at: Some(UnixMillis(NOW.0 + 900)), ..limited(12, 3) },
            Sale { limits: Limits { per_buyer: 4, per_passenger: 2 }, ..train(6, 3) },
        ];
        let random = fastrand::Rng::with_seed(seed);
        Self { random, benches: [memory().await, redis().await], since: [0; 2], sales, claims: Vec::new() }
    }

    fn claim(&mut self) -> Claim {
        if !self.claims.is_empty() && self.random.u8(..5) == 0 {
            return self.random.choice(&self.claims).unwrap().clone();
        }
        let (buyer, key) = (format!("b{}", self.random.u8(..5)), self.random.u8(..60).to_string());
        let claim = if self.random.bool() {
            check(&self.sales[0], &buyer, &key, &Ask::Quantity(self.random.u64(1..=2)))
        } else {
            let passengers: Vec<_> =
                (0..self.random.usize(1..=3)).map(|i| format!("p{i}{}", self.random.u8(..4))).collect();
            let mut line = |passenger| {
                let pool = if self.random.bool() { "first" } else { "second" };
                let from = self.random.usize(0..3);
                let to = self.random.usize(from + 1..4);
                let line = line(pool, ["A", "B", "C", "D"][from], ["A", "B", "C", "D"][to], 1);
                AskedLine { passenger: self.random.bool().then_some(passenger), ..line }
            };
            let lines = passengers.iter().map(|passenger| line(passenger.as_str())).collect();
            check(&self.sales[1], &buyer, &key, &Ask::Lines(lines))
        };
        self.claims.push(claim.clone());
        claim
    }

    async fn step(&mut self) {
        match self.random.u8(..20) {
            0..9 => {
                let batch: Vec<_> = (0..self.random.usize(1..8)).map(|_| self.claim()).collect();
                let now = UnixMillis(NOW.0 + self.random.i64(..1000));
                let [one, other] = self.both(async |bench| bench.confirm_at(&batch, now).await).await;
                assert_eq!((one.verdicts, one.stock), (other.verdicts, other.stock));
                assert_eq!(one.outbox.is_some(), other.outbox.is_some());
            }
            9..11 if !self.claims.is_empty() => {
                let order = self.random.choice(&self.claims).unwrap().order.id;
                let [one, other] =
                    self.both(async |bench| bench.inventory.revive(bench.scope, order).await.unwrap()).await;
                assert_eq!(one, other);
            }
            11..15 if !self.claims.is_empty() => {
                let moves: Vec<_> = (0..self.random.usize(1..6))
                    .map(|_| StockMove {
                        order: self.random.choice(&self.claims).unwrap().order.id,
                        to: self.random.choice(OrderStatus::ALL).unwrap(),
                    })
                    .collect();
                self.both(async |bench| bench.inventory.apply(bench.scope, &moves).await.unwrap()).await;
            }
            15..17 => {
                let index = self.random.usize(..2);
                let mut sale = self.sales[index].clone();
                sale.version += self.random.u64(..3);
                sale.pools.iter_mut().for_each(|pool| pool.capacity = self.random.u32(..15));
                if self.random.u8(..4) == 0 {
                    sale.pools.truncate(1);
                }
                let [one, other] =
                    self.both(async |bench| bench.inventory.define(bench.scope, &sale).await.unwrap()).await;
                assert_eq!(one, other);
            }
            17 => {
                let [one, other] = self
                    .both(async |bench| bench.inventory.outbox(bench.scope, Duration::ZERO, 3).await.unwrap())
                    .await;
                let orders =
                    |entries: &[OutboxEntry]| entries.iter().map(|entry| entry.orders.clone()).collect::<Vec<_>>();
                assert_eq!(orders(&one), orders(&other));
                for (bench, entries) in self.benches.iter().zip([one, other]) {
                    let ids: Vec<_> = entries.into_iter().map(|entry| entry.id).collect();
                    bench.inventory.outbox_remove(bench.scope, &ids).await.unwrap();
                }
            }
            18 => self.recover().await,
            _ => {}
        }
        self.compare().await;
    }

    async fn both<T>(&self, make: impl AsyncFn(&Bench) -> T) -> [T; 2] {
        [make(&self.benches[0]).await, make(&self.benches[1]).await]
    }

    /// Moves both to the next epoch, from what the first one knows.
    async fn recover(&mut self) {
        let bench = &self.benches[0];
        let sales = bench.inventory.changes(bench.scope, 0).await.unwrap().sales;
        let snapshot = Snapshot { sales, orders: bench.orders().await };
        let scope = Scope { epoch: Epoch(bench.scope.epoch.0 + 1), ..bench.scope };
        self.both(async |bench| {
            bench.inventory.fence(bench.scope).await.unwrap();
            bench.inventory.rebuild(scope, &snapshot).await.unwrap();
            bench.inventory.open(scope).await.unwrap();
        })
        .await;
        self.benches.iter_mut().for_each(|bench| bench.scope = scope);
        self.since = [0; 2];
    }

    async fn compare(&mut self) {
        let [one, other] = self.both(async |bench| bench.orders().await).await;
        assert_eq!(one, other);
        let mut seen = Vec::new();
        for (bench, since) in self.benches.iter().zip(&mut self.since) {
            let mut changes = bench.inventory.changes(bench.scope, *since).await.unwrap();
            *since = changes.version;
            changes.sales.sort_by(|one, other| one.id.cmp(&other.id));
            changes.stock.sort_by_key(|leg| (leg.sale.clone(), leg.pool.clone(), leg.leg));
            seen.push((changes.sales, changes.stock));
        }
        assert_eq!(seen[0], seen[1]);
        for sale in &self.sales {
            let [one, other] =
                self.both(async |bench| bench.inventory.stock(bench.scope, &sale.id).await.unwrap()).await;
            assert_eq!(one, other);
            // What is held and sold is what the orders say.
            let orders = self.both(async |bench| bench.orders().await).await;
            for leg in one {
                let units = |status| {
                    let orders =
                        orders[0].iter().filter(|known| known.status == status && known.order.sale == leg.sale);
                    let lines = orders.flat_map(|known| &known.order.lines);
                    lines
                        .filter(|line| line.pool == leg.pool && line.legs.iter().contains(&leg.leg))
                        .map(|line| line.quantity)
                        .sum::<u32>()
                };
                assert_eq!((leg.held, leg.sold), (units(OrderStatus::Held), units(OrderStatus::Paid)), "{leg:?}");
            }
        }
    }
}

/// The seed is in the failure's message: put it here to walk the same way again.
#[tokio::test(flavor = "multi_thread")]
async fn both_backends_say_and_hold_the_same_on_any_walk() {
    let first = fastrand::u64(..1 << 40);
    for seed in first..first + 12 {
        let walk = async {
            let mut walk = Walk::new(seed).await;
            for _ in 0..120 {
                walk.step().await;
            }
        };
        assert!(AssertUnwindSafe(walk).catch_unwind().await.is_ok(), "the walk with seed {seed} went wrong");
    }
}
