//! The checker on logs and findings made by hand: each invariant has one that breaks it.

use std::collections::BTreeMap;

use serde_json::json;

use crate::checker::{Invariant, check, order_id};
use crate::findings::{Counter, Findings, OrderRow, PaymentRow};
use crate::log::{Act, Entry, Kind};
use crate::sales::SaleSpec;

const SECRET: [u8; 32] = [7; 32];

/// One buyer, alice, who has the only unit of a sale, and paid.
struct World {
    sales: Vec<SaleSpec>,
    log: Vec<Entry>,
    found: Findings,
}

fn id(buyer: &str) -> String {
    order_id(&SECRET, ("s", buyer, "k"))
}

fn entry(request: u64, kind: Kind, act: Act, buyer: &str) -> Entry {
    let at = 10 * request + u64::from(kind != Kind::Invoke);
    Entry {
        at,
        request,
        kind,
        act,
        sale: "s".to_owned(),
        buyer: buyer.to_owned(),
        key: "k".to_owned(),
        asked: if act == Act::Claim && kind == Kind::Invoke { json!({"quantity": 1}) } else { json!(null) },
        status: None,
        code: None,
        told: json!(null),
    }
}

impl World {
    fn new() -> Self {
        let mut world =
            Self { sales: vec![SaleSpec::concert("s", 1, 1, 2)], log: Vec::new(), found: Findings::default() };
        let leg = ("s".to_owned(), "standard".to_owned(), 0);
        world.found.secret = SECRET.to_vec();
        world.found.guard = BTreeMap::from([(leg.clone(), (1, 1))]);
        world.found.counters = BTreeMap::from([(leg, Counter { capacity: 1, free: 0, held: 0, sold: 1 })]);
        world.found.outbox = 0;
        world.row("alice", "paid");
        world.ask(1, Act::Claim, "alice", (Kind::Ok, 201));
        world.ask(2, Act::Pay, "alice", (Kind::Ok, 200));
        world.found.events.push((id("alice"), "paid".to_owned(), 5));
        let order = id("alice");
        world.found.payments.push(PaymentRow { event: "e".to_owned(), order, state: "applied".to_owned() });
        world
    }

    fn ask(&mut self, request: u64, act: Act, buyer: &str, (kind, status): (Kind, u16)) {
        self.log.push(entry(request, Kind::Invoke, act, buyer));
        let mut answer = entry(request, kind, act, buyer);
        answer.status = Some(status);
        if kind == Kind::Ok {
            answer.told = json!({"order": id(buyer), "amount": 55350, "currency": "CNY"});
        }
        self.log.push(answer);
    }

    fn row(&mut self, buyer: &str, status: &str) {
        self.found.orders.push(OrderRow {
            id: id(buyer),
            sale: "s".to_owned(),
            buyer: buyer.to_owned(),
            status: status.to_owned(),
            amount: 55350,
            currency: "CNY".to_owned(),
            lines: vec!["standard/0/1/1/-/-".to_owned()],
        });
        let letter = status.chars().next().unwrap().to_ascii_uppercase();
        self.found.inventory_orders.insert(id(buyer), letter);
    }

    fn counter(&mut self) -> &mut Counter {
        self.found.counters.values_mut().next().unwrap()
    }

    /// Which invariants are broken.
    fn broken(&self) -> Vec<Invariant> {
        let mut broken: Vec<_> =
            check(&self.sales, &self.log, &self.found).into_iter().map(|violation| violation.invariant).collect();
        broken.dedup();
        broken
    }
}

fn breaks(invariant: Invariant, harm: impl FnOnce(&mut World)) {
    let mut world = World::new();
    harm(&mut world);
    let broken = world.broken();
    assert!(broken.contains(&invariant), "{invariant:?} is not among {broken:?}");
}

#[test]
fn a_whole_world_has_nothing_wrong() {
    let world = World::new();
    assert_eq!(check(&world.sales, &world.log, &world.found), []);
}

#[test]
fn i1_more_live_units_than_capacity() {
    breaks(Invariant::I1, |world| {
        world.ask(3, Act::Claim, "bob", (Kind::Ok, 201));
        world.row("bob", "held");
    });
    breaks(Invariant::I1, |world| *world.found.guard.values_mut().next().unwrap() = (1, 0));
    breaks(Invariant::I1, |world| world.found.sampled.push("I1: two of one".to_owned()));
    breaks(Invariant::I1, |world| world.found.quarantined.push(id("bob")));
}

#[test]
fn i2_counters_that_do_not_add_up() {
    breaks(Invariant::I2, |world| world.counter().sold = 2);
    breaks(Invariant::I2, |world| world.found.sampled.push("I2: two of one".to_owned()));
}

#[test]
fn i3_a_yes_without_its_row() {
    breaks(Invariant::I3, |world| world.ask(3, Act::Claim, "bob", (Kind::Ok, 201)));
    breaks(Invariant::I3, |world| world.found.orders[0].amount = 1);
    breaks(Invariant::I3, |world| world.found.orders[0].buyer = "bob".to_owned());
    breaks(Invariant::I3, |world| world.found.orders[0].lines[0] = "standard/0/1/2/-/-".to_owned());
    breaks(Invariant::I3, |world| world.log[1].told["amount"] = json!(1));
    breaks(Invariant::I3, |world| world.ask(3, Act::Read, "alice", (Kind::No, 404)));
}

#[test]
fn i4_a_buyer_above_the_limit() {
    breaks(Invariant::I4, |world| {
        world.row("alice", "held");
        world.found.orders[1].id = order_id(&SECRET, ("s", "alice", "other"));
    });
    breaks(Invariant::I4, |world| {
        world.row("carol", "held");
        world.row("dave", "held");
        for row in &mut world.found.orders[1..] {
            row.lines[0] = "standard/0/1/1/one-and-the-same/-".to_owned();
        }
    });
}

#[test]
fn i5_a_row_that_nobody_asked_for() {
    breaks(Invariant::I5, |world| world.row("mallory", "expired"));
    breaks(Invariant::I5, |world| world.found.orders[0].id = "0".repeat(32));
}

#[test]
fn i6_a_history_that_cannot_be() {
    breaks(Invariant::I6, |world| world.found.events.push((id("alice"), "cancelled".to_owned(), 6)));
    breaks(Invariant::I6, |world| world.found.events.clear());
    breaks(Invariant::I6, |world| world.found.events.push((id("bob"), "paid".to_owned(), 6)));
    breaks(Invariant::I6, |world| world.ask(3, Act::Cancel, "alice", (Kind::Ok, 200)));
}

#[test]
fn i7_an_end_that_the_inventory_has_not_seen_once() {
    breaks(Invariant::I7, |world| world.found.moves.push(id("alice")));
    breaks(Invariant::I7, |world| *world.counter() = Counter { capacity: 1, free: 1, held: 0, sold: 0 });
    breaks(Invariant::I7, |world| {
        world.found.inventory_orders.insert(id("alice"), 'H');
    });
}

#[test]
fn i8_a_payment_that_is_nowhere_or_twice() {
    breaks(Invariant::I8, |world| world.found.payments.clear());
    breaks(Invariant::I8, |world| world.found.payments.push(world.found.payments[0].clone()));
    breaks(Invariant::I8, |world| world.found.payments[0].state = "unmatched".to_owned());
    breaks(Invariant::I8, |world| world.found.orders[0].status = "expired".to_owned());
}

#[test]
fn i9_a_unit_that_nobody_can_buy() {
    breaks(Invariant::I9, |world| {
        world.found.orders[0].status = "expired".to_owned();
        *world.counter() = Counter { capacity: 1, free: 1, held: 0, sold: 0 };
    });
    breaks(Invariant::I9, |world| *world.counter() = Counter { capacity: 1, free: 1, held: 0, sold: 0 });
}

#[test]
fn i10_a_refusal_with_a_row_and_a_perhaps_for_ever() {
    breaks(Invariant::I10, |world| {
        world.ask(3, Act::Claim, "bob", (Kind::No, 409));
        world.row("bob", "expired");
    });
    breaks(Invariant::I10, |world| world.ask(3, Act::Claim, "bob", (Kind::Unknown, 202)));
    breaks(Invariant::I10, |world| world.log.push(entry(3, Kind::Invoke, Act::Claim, "bob")));
    breaks(Invariant::I10, |world| {
        world.ask(3, Act::Claim, "bob", (Kind::Unknown, 202));
        world.ask(4, Act::Claim, "bob", (Kind::No, 503));
    });
}

#[test]
fn i11_what_is_left_on_its_way() {
    breaks(Invariant::I11, |world| world.found.outbox = 1);
    breaks(Invariant::I11, |world| {
        world.found.lanes.insert("lane.0".to_owned(), 1);
    });
}

#[test]
fn a_perhaps_that_became_a_yes_or_a_no_is_resolved() {
    let mut world = World::new();
    world.ask(3, Act::Claim, "bob", (Kind::Unknown, 202));
    world.ask(4, Act::Claim, "bob", (Kind::No, 409));
    assert_eq!(world.broken(), []);
}
