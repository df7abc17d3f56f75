//! Buyers: they claim under a key, ask again with the same key whenever they do not know, and pay, cancel, or let it be.

use std::sync::Arc;
use std::time::Duration;

use rushgate::confirm::{self, Answer};
use rushgate::domain::{Ask, AskedLine, BuyerId, IdempotencyKey, Legs, Line, Money, Order, OrderId, Sale};
use rushgate::store::{CancelOutcome, Orders, PaymentEvent, PaymentOutcome};
use tokio::time::Instant;

use crate::ledger::Request;
use crate::world::{REFILL_INTERVAL, REQUEST_TIMEOUT, SECRET, World};

/// How many people there are; some come several times, and so reach their limit.
const PEOPLE: usize = 24;
const PASSENGERS: usize = 12;
/// How long at most a node refuses a repetition by what it has heard: five refills.
const NEWS: Duration = REFILL_INTERVAL.saturating_mul(5);

/// One request of one buyer, and how it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    buyer: BuyerId,
    key: IdempotencyKey,
    sale: String,
    /// Stops, quantity and passenger; no stops for an event.
    line: (Option<(String, String)>, u32, Option<String>),
    pub(crate) id: OrderId,
    price: Money,
}

impl Wish {
    /// A wish for some units of a sale, over some of its legs.
    pub(crate) fn of(
        sale: &Sale,
        buyer: &str,
        key: &str,
        (legs, quantity): (Legs, u32),
        passenger: Option<String>,
    ) -> (Self, Request) {
        let (buyer, key): (BuyerId, IdempotencyKey) = (buyer.parse().unwrap(), key.parse().unwrap());
        let stop = |index: u8| sale.stops[usize::from(index)].to_string();
        let pool = &sale.pools[0];
        let price = Money { amount: pool.price(legs) * i64::from(quantity), currency: sale.currency };
        let wish = Self {
            id: OrderId::derive(&SECRET, &sale.id, &buyer, &key),
            line: ((!sale.stops.is_empty()).then(|| (stop(legs.from), stop(legs.to))), quantity, passenger.clone()),
            sale: sale.id.to_string(),
            buyer: buyer.clone(),
            key,
            price,
        };
        let passenger = passenger.map(|name| name.parse().unwrap());
        let lines = vec![Line { pool: pool.id.clone(), legs, quantity, passenger, seat: None }];
        let sale = sale.id.clone();
        let (was_granted, was_refused, is_open) = (false, false, true);
        (wish, Request { buyer, sale, lines, price, was_granted, was_refused, is_open })
    }

    fn ask(&self) -> Ask<'_> {
        let (stops, quantity, passenger) = &self.line;
        match stops {
            None => Ask::Quantity(u64::from(*quantity)),
            Some((from, to)) => Ask::Lines(vec![AskedLine {
                from: Some(from),
                to: Some(to),
                quantity: Some(u64::from(*quantity)),
                passenger: passenger.as_deref(),
                ..AskedLine::default()
            }]),
        }
    }
}

/// What a client heard.
#[derive(Debug)]
enum Heard {
    Yes(Arc<Order>),
    No(&'static str),
    /// Nothing was reserved, says the node; asking again may help.
    NotNow,
    Unknown,
}

/// Comes some time, wants something, and deals with what it gets.
pub(crate) async fn buyer(world: Arc<World>, number: usize, comes: Duration) {
    tokio::time::sleep(comes).await;
    let sales = world.watcher.sales();
    let sale = &sales[usize::from(sales.len() > 1 && fastrand::u32(0..3) == 0)];
    let legs = if sale.stops.is_empty() {
        sale.whole()
    } else {
        let from = fastrand::u8(0..sale.leg_count());
        Legs { from, to: fastrand::u8(from + 1..=sale.leg_count()) }
    };
    let passenger = (!sale.stops.is_empty() && fastrand::bool()).then(|| format!("p{}", fastrand::usize(..PASSENGERS)));
    let quantity = if passenger.is_some() { 1 } else { fastrand::u32(1..3) };
    let name = format!("b{}", fastrand::usize(..PEOPLE));
    let (wish, request) = Wish::of(sale, &name, &format!("k{number}"), (legs, quantity), passenger);
    world.watcher.ledger().requests.insert(wish.id, request);
    if let Some(order) = claim(&world, &wish).await {
        deal_with(&world, &wish, &order).await;
    }
}

/// Asks until it is known. Returns the order that was granted.
///
/// After an unknown, a no is believed when it comes again: what nodes have heard of each other's grants is news for a while only.
pub(crate) async fn claim(world: &Arc<World>, wish: &Wish) -> Option<Arc<Order>> {
    let (mut doubts, mut refused_at) = (false, None::<Instant>);
    loop {
        let asked = Instant::now();
        let heard = ask_once(world, wish).await;
        world.sky.trace.note(|| format!("client {} {} heard {heard:?}", wish.buyer, wish.id));
        write_down(world, wish, &heard, doubts && refused_at.is_none_or(|at| asked < at + NEWS));
        match heard {
            Heard::Yes(order) => return Some(order),
            Heard::No(_) if !doubts || refused_at.is_some_and(|at| asked >= at + NEWS) => return None,
            Heard::No(_) => refused_at = refused_at.or(Some(Instant::now())),
            Heard::NotNow => {}
            Heard::Unknown => (doubts, refused_at) = (true, None),
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(20..400))).await;
    }
}

fn write_down(world: &World, wish: &Wish, heard: &Heard, is_doubtful: bool) {
    let mut ledger = world.watcher.ledger();
    ledger.count(match heard {
        Heard::Yes(_) => "yes",
        Heard::No(why) => why,
        Heard::NotNow => "not now",
        Heard::Unknown => "unknown",
    });
    let request = ledger.requests.get_mut(&wish.id).expect("the request was logged before it was sent");
    match heard {
        Heard::Yes(order) => {
            (request.was_granted, request.is_open) = (true, false);
            let promised = (&order.buyer, &order.lines, order.price, order.id);
            if promised != (&request.buyer, &request.lines, request.price, wish.id) {
                world.watcher.breaks("I3", format!("{request:?} was asked for, {order:?} promised"));
            }
        }
        Heard::No(_) if !is_doubtful => (request.was_refused, request.is_open) = (true, false),
        Heard::No(_) | Heard::NotNow | Heard::Unknown => {}
    }
}

async fn ask_once(world: &Arc<World>, wish: &Wish) -> Heard {
    let Some(gateway) = world.any_gateway() else { return Heard::NotNow };
    let key = Some(wish.key.clone());
    let request = confirm::Request { sale: &wish.sale, buyer: wish.buyer.clone(), key, ask: wish.ask(), trace: None };
    let answering = gateway.claims.claim(request, || Some(((), confirm::deadline(REQUEST_TIMEOUT))));
    // Some clients hang up early.
    let patience = if fastrand::u32(0..10) == 0 { REQUEST_TIMEOUT / 4 } else { REQUEST_TIMEOUT * 2 };
    let answer = tokio::select! {
        biased;
        () = gateway.life.died.cancelled() => return Heard::Unknown,
        answer = answering => answer,
        () = tokio::time::sleep(patience) => return Heard::Unknown,
    };
    match answer {
        Answer::Granted { order, .. } => Heard::Yes(order),
        Answer::Refused(refusal) => Heard::No(refusal.code()),
        Answer::Pending { .. } => Heard::Unknown,
        Answer::Unserved(_) => Heard::NotNow,
        Answer::Invalid(wrong) => {
            world.watcher.breaks("I3", format!("a sound request is called invalid: {wrong:?}"));
            Heard::NotNow
        }
    }
}

async fn deal_with(world: &Arc<World>, wish: &Wish, order: &Order) {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..1500))).await;
    let event = |n: u32, paid| PaymentEvent { id: format!("{}-{n}", wish.id), order: order.id, paid };
    match fastrand::u32(0..10) {
        0..4 => pay(world, event(1, wish.price)).await,
        4 => {
            pay(world, event(1, wish.price)).await;
            pay(world, event(2, wish.price)).await;
        }
        5 => {
            let less = Money { amount: wish.price.amount - 1, ..wish.price };
            pay(world, event(1, less)).await;
        }
        6 => {
            // About when the hold ends.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(1000..4000))).await;
            pay(world, event(1, wish.price)).await;
        }
        7 => cancel(world, wish).await,
        _ => {}
    }
}

/// Pays for an order, and for nothing else.
pub(crate) async fn pay_for(world: &Arc<World>, order: &Order) {
    pay(world, PaymentEvent { id: format!("{}-1", order.id), order: order.id, paid: order.price }).await;
}

/// The provider reports a payment until it is heard.
async fn pay(world: &Arc<World>, event: PaymentEvent) {
    world.watcher.ledger().payments.insert(event.id.clone(), event.order);
    loop {
        if let Some(gateway) = world.any_gateway() {
            let outcome = tokio::select! {
                biased;
                () = gateway.life.died.cancelled() => None,
                outcome = gateway.payments.apply(&event) => outcome.ok(),
            };
            world.sky.trace.note(|| format!("payment {event:?}: {outcome:?}"));
            match outcome {
                None => {}
                Some(PaymentOutcome::Paid(row)) if row.order.id != event.order => {
                    return world.watcher.breaks("I8", format!("{event:?} paid {row:?}"));
                }
                Some(_) => return,
            }
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(20..400))).await;
    }
}

async fn cancel(world: &Arc<World>, wish: &Wish) {
    for _ in 0..20 {
        if let Some(gateway) = world.any_gateway() {
            let outcome = tokio::select! {
                biased;
                () = gateway.life.died.cancelled() => None,
                outcome = gateway.store.cancel(wish.id, Some(&wish.buyer)) => outcome.ok(),
            };
            world.sky.trace.note(|| format!("cancel {}: {outcome:?}", wish.id));
            if let Some(CancelOutcome::Done(_) | CancelOutcome::NotPossible(_)) = outcome {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(20..400))).await;
    }
}
