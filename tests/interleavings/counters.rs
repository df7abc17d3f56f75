//! The counters that claims share without a lock, in every interleaving.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread;

use crate::Model;
use crate::domain::Buffer;
use crate::inventory::LegStock;
use crate::parcel::Parcel;
use crate::shard::{LegShard, Permit, Shut};

pub(crate) const MODELS: &[Model] = &[
    ("two takes of the last unit let one claim through", two_takes_of_the_last_unit),
    ("a refill beside takes and drops loses no unit for good", a_refill_beside_takes),
    ("a claim beyond the share leaves no debt behind", a_claim_beyond_the_share),
    ("a refill below what is in flight lets more through once that is back", a_refill_below_what_is_in_flight),
    ("a permit that gets half of its legs gives them back once", half_of_the_legs),
    ("a parcel is begun or taken back, by one side alone", a_parcel),
];

/// More preemptions find nothing that these have not found in years of other people's models, and take minutes.
const PREEMPTIONS: usize = 3;

fn every_interleaving(model: fn()) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        model();
    });
    count.load(Ordering::Relaxed)
}

fn stock(free: u32) -> LegStock {
    let id = |id: &str| id.parse().expect("an id");
    LegStock { sale: id("s"), pool: "p".parse().expect("an id"), leg: 0, free, held: 0, sold: 0 }
}

/// A leg of which this node, alone, may let everything through.
fn leg(free: u32) -> Arc<LegShard> {
    let leg = Arc::new(LegShard::default());
    leg.learn(1, &stock(free));
    refill(&leg, 1.0);
    leg
}

fn refill(leg: &LegShard, weights: f64) {
    leg.refill(1.0, weights, Buffer::Units(0));
}

fn take(leg: &Arc<LegShard>, units: u32) -> Result<Permit, Shut> {
    let mut permit = Permit::to_ask();
    permit.take(leg, units).map(|()| permit)
}

/// At rest nothing is in flight, and the next refill lets through what the inventory has.
fn assert_at_rest(leg: &LegShard, free: u32) {
    assert_eq!(leg.in_flight(), 0);
    leg.learn(u64::MAX, &stock(free));
    refill(leg, 1.0);
    assert_eq!(leg.left(), free);
}

fn two_takes_of_the_last_unit() -> usize {
    every_interleaving(|| {
        let leg = leg(1);
        let other = Arc::clone(&leg);
        let theirs = thread::spawn(move || take(&other, 1));
        let ours = take(&leg, 1);
        let theirs = theirs.join().expect("no panic");
        assert_eq!(u8::from(ours.is_ok()) + u8::from(theirs.is_ok()), 1);
        assert_eq!((leg.left(), leg.in_flight()), (0, 1));
        drop((ours, theirs));
        assert_eq!(leg.left(), 1);
        assert_at_rest(&leg, 1);
    })
}

fn a_refill_beside_takes() -> usize {
    every_interleaving(|| {
        let leg = leg(2);
        let refused = {
            let leg = Arc::clone(&leg);
            thread::spawn(move || drop(take(&leg, 1)))
        };
        let granted = {
            let leg = Arc::clone(&leg);
            thread::spawn(move || take(&leg, 1).map(Permit::spend).is_ok())
        };
        refill(&leg, 1.0);
        assert!(leg.in_flight() >= 0);
        refused.join().expect("no panic");
        let granted = granted.join().expect("no panic");
        assert_at_rest(&leg, if granted { 1 } else { 2 });
    })
}

fn a_claim_beyond_the_share() -> usize {
    every_interleaving(|| {
        let leg = leg(4);
        refill(&leg, 2.0);
        let many = {
            let leg = Arc::clone(&leg);
            thread::spawn(move || take(&leg, 3).is_ok())
        };
        let few = take(&leg, 2).is_ok();
        refill(&leg, 2.0);
        let _ = (few, many.join().expect("no panic"));
        assert_at_rest(&leg, 4);
    })
}

fn a_refill_below_what_is_in_flight() -> usize {
    every_interleaving(|| {
        let leg = leg(4);
        let many = take(&leg, 3).expect("there are four");
        let back = thread::spawn(move || drop(many));
        refill(&leg, 4.0);
        let one = take(&leg, 1).map(drop);
        back.join().expect("no panic");
        assert!(leg.left() <= 1, "a share of one");
        refill(&leg, 4.0);
        assert!(one.is_ok() || take(&leg, 1).is_ok(), "one more refill is enough");
        assert_at_rest(&leg, 4);
    })
}

fn half_of_the_legs() -> usize {
    every_interleaving(|| {
        let (first, second) = (leg(1), leg(1));
        let other = Arc::clone(&second);
        let theirs = thread::spawn(move || take(&other, 1));
        let mut ours = Permit::to_ask();
        let both = ours.take(&first, 1).and_then(|()| ours.take(&second, 1));
        drop(ours);
        let theirs = theirs.join().expect("no panic");
        assert!(both.is_ok() || theirs.is_ok(), "one of the two gets the unit");
        assert_eq!(first.left(), 1);
        drop(theirs);
        assert_at_rest(&first, 1);
        assert_at_rest(&second, 1);
    })
}

fn a_parcel() -> usize {
    every_interleaving(|| {
        let parcel = Arc::new(Parcel::new(Vec::new(), None));
        let outlet = {
            let parcel = Arc::clone(&parcel);
            thread::spawn(move || parcel.begin())
        };
        let taken_back = parcel.begin();
        assert!(parcel.is_begun());
        assert!(taken_back != outlet.join().expect("no panic"));
    })
}
