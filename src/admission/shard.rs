//! A node's part of one leg's free stock: a counter that lets claims through, and the permits that it hands out.
//!
//! The counters are hints, never ownership. What a permit lets through the inventory still decides, so a race in here can only
//! cost a call too many or a refill more, not a unit.

use std::sync::Arc;

use crossbeam::utils::CachePadded;

use crate::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use crate::domain::{Buffer, share};
use crate::inventory::LegStock;

/// One leg of one pool on this node.
#[derive(Debug, Default)]
pub struct LegShard {
    /// Units that may still be let through. Every claim reads it, so it has a cache line of its own.
    left: CachePadded<AtomicI64>,
    /// Units let through and not decided yet.
    in_flight: AtomicI64,
    /// The most that it may let through after a refill.
    share: AtomicU32,
    known: Known,
    buffer: BufferUse,
}

/// What became of the units beyond the node's fair part. Counted by those who refill and decide, never by those who take.
#[derive(Debug, Default)]
struct BufferUse {
    /// How many of the units that a refill left are beyond the fair part; they are taken last.
    there: AtomicI64,
    used: AtomicU64,
    wasted: AtomicU64,
}

/// What the inventory last said of this leg.
#[derive(Debug, Default)]
struct Known {
    version: AtomicU64,
    free: AtomicU32,
    held: AtomicU32,
    sold: AtomicU32,
}

/// Why a leg did not let a claim through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// This node's shard is empty, but the inventory had units when it was last heard.
    Empty,
    /// The inventory had nothing free, and nothing that may come back.
    SoldOut,
    /// The inventory had nothing free, but something held.
    AllHeld,
}

impl LegShard {
    /// Takes units if there are so many left. Looks before it writes: a crowd at an empty shard costs no write at all.
    ///
    /// A claim for more than this node may ever hold could wait for refills for ever, while the inventory has enough: it is let
    /// through beyond the share. `left` is below zero while more is in flight than the share.
    pub(super) fn take(&self, units: u32) -> Result<(), Shut> {
        let wanted = i64::from(units);
        let mut left = self.left.load(Ordering::Relaxed);
        loop {
            if left < wanted && !self.is_beyond_share(units) {
                return Err(self.shut(units));
            }
            match self.left.compare_exchange_weak(left, left - wanted, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(seen) => left = seen,
            }
        }
        self.in_flight.fetch_add(wanted, Ordering::Relaxed);
        Ok(())
    }

    /// What [`Self::take`] would be refused for at this moment.
    ///
    /// Who finds it shut sees all that was done before the last units were taken, and before the inventory's figures were learnt.
    pub(super) fn is_shut(&self, units: u32) -> Option<Shut> {
        let is_open = self.left.load(Ordering::Acquire) >= i64::from(units) || self.is_beyond_share(units);
        (!is_open).then(|| self.shut(units))
    }

    /// Is this more than a refill can bring, but not more than the inventory has for this node beside what is in flight?
    fn is_beyond_share(&self, units: u32) -> bool {
        let free = i64::from(self.known.free.load(Ordering::Relaxed));
        units > self.share.load(Ordering::Relaxed) && free - self.in_flight().max(0) >= i64::from(units)
    }

    fn shut(&self, units: u32) -> Shut {
        if self.known.free.load(Ordering::Acquire) >= units {
            Shut::Empty
        } else if self.known.held.load(Ordering::Acquire) > 0 {
            Shut::AllHeld
        } else {
            Shut::SoldOut
        }
    }

    /// The units were decided: granted ones are gone, others may be let through again.
    fn settle(&self, units: u32, granted: bool) {
        let units = i64::from(units);
        if !granted {
            self.left.fetch_add(units, Ordering::Relaxed);
        }
        self.in_flight.fetch_sub(units, Ordering::Relaxed);
    }

    /// Takes note of what the inventory says, unless something newer is known. The caller keeps writers apart.
    pub(super) fn learn(&self, version: u64, stock: &LegStock) -> bool {
        if version < self.known.version.load(Ordering::Relaxed) {
            return false;
        }
        self.known.version.store(version, Ordering::Relaxed);
        self.known.free.store(stock.free, Ordering::Release);
        self.known.held.store(stock.held, Ordering::Release);
        self.known.sold.store(stock.sold, Ordering::Relaxed);
        true
    }

    /// Forgets versions, not figures: the next epoch counts its versions anew.
    pub(super) fn forget_version(&self) {
        self.known.version.store(0, Ordering::Relaxed);
    }

    /// Sets the counter to this node's share of what is free, less what is in flight.
    pub(super) fn refill(&self, weight: f64, weights: f64, buffer: Buffer) {
        let free = self.known.free.load(Ordering::Relaxed);
        let share = share::share(free, weight, weights, buffer);
        self.share.store(share, Ordering::Relaxed);
        // Below zero, if more is in flight than the share: what comes back of it must not open a shard that has nothing.
        let left = i64::from(share) - self.in_flight().max(0);
        let before = self.left.swap(left, Ordering::Relaxed);
        let beyond = i64::from(share - share::share(free, weight, weights, Buffer::Units(0)));
        let there = self.buffer.there.swap(beyond.min(left.max(0)), Ordering::Relaxed);
        let used = u64::try_from((there - before).clamp(0, there)).unwrap_or(0);
        if used > 0 {
            self.buffer.used.fetch_add(used, Ordering::Relaxed);
        }
    }

    /// Units that were let through beyond the node's fair part, and units that were let through and that the inventory did not have.
    pub(super) fn buffer_use(&self) -> (u64, u64) {
        (self.buffer.used.load(Ordering::Relaxed), self.buffer.wasted.load(Ordering::Relaxed))
    }

    /// The version of what it knows.
    pub(super) fn version(&self) -> u64 {
        self.known.version.load(Ordering::Relaxed)
    }

    /// Units that were let through and are not decided yet.
    pub(super) fn in_flight(&self) -> i64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Units that may still be let through.
    pub fn left(&self) -> u32 {
        u32::try_from(self.left.load(Ordering::Relaxed).max(0)).unwrap_or(u32::MAX)
    }

    /// Free, held and sold units of the whole sale, as the inventory last said.
    pub fn known(&self) -> (u32, u32, u32) {
        let load = |units: &AtomicU32| units.load(Ordering::Relaxed);
        (load(&self.known.free), load(&self.known.held), load(&self.known.sold))
    }
}

/// Leave to ask the inventory for these units. Dropped, it gives them back to the shard, unless they were granted.
#[derive(Debug, Default)]
#[must_use = "a permit gives its units back when it is dropped"]
pub struct Permit {
    taken: Vec<(Arc<LegShard>, u32)>,
    granted: bool,
}

impl Permit {
    /// A permit for no units, for a request that may be known to the inventory already whatever the shard has left.
    pub fn to_ask() -> Self {
        Self::default()
    }

    /// Takes one more leg; what was taken before goes back when the permit is dropped.
    pub(super) fn take(&mut self, leg: &Arc<LegShard>, units: u32) -> Result<(), Shut> {
        leg.take(units)?;
        self.taken.push((Arc::clone(leg), units));
        Ok(())
    }

    /// Who asked for the units asked in vain. Counted are those that the inventory, as it is known by now, did not have.
    pub fn waste(self) {
        for (leg, units) in self.taken.iter().filter(|(leg, units)| leg.known().0 < *units) {
            leg.buffer.wasted.fetch_add(u64::from(*units), Ordering::Relaxed);
        }
    }

    /// The units are the buyer's now, or may be.
    pub fn spend(mut self) {
        self.granted = true;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for (leg, units) in &self.taken {
            leg.settle(*units, self.granted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(free: u32, held: u32) -> Arc<LegShard> {
        let leg = Arc::new(LegShard::default());
        let stock = LegStock { sale: "s".parse().unwrap(), pool: "p".parse().unwrap(), leg: 0, free, held, sold: 0 };
        leg.learn(1, &stock);
        leg.refill(1.0, 1.0, Buffer::Units(0));
        leg
    }

    #[test]
    fn a_dropped_permit_gives_its_units_back() {
        let leg = leg(3, 0);
        let mut permit = Permit::default();
        permit.take(&leg, 2).unwrap();
        assert_eq!(leg.left(), 1);
        drop(permit);
        assert_eq!(leg.left(), 3);
    }

    #[test]
    fn a_spent_permit_does_not() {
        let leg = leg(3, 0);
        let mut permit = Permit::default();
        permit.take(&leg, 2).unwrap();
        permit.spend();
        assert_eq!(leg.left(), 1);
        assert_eq!(leg.in_flight(), 0);
    }

    #[test]
    fn a_permit_is_for_all_legs_or_none() {
        let (many, few) = (leg(3, 0), leg(1, 0));
        let mut permit = Permit::default();
        permit.take(&many, 2).unwrap();
        assert_eq!(permit.take(&few, 2), Err(Shut::SoldOut));
        drop(permit);
        assert_eq!((many.left(), few.left()), (3, 1));
    }

    #[test]
    fn a_refill_leaves_out_what_is_in_flight() {
        let leg = leg(10, 0);
        let mut permit = Permit::default();
        permit.take(&leg, 4).unwrap();
        leg.refill(1.0, 1.0, Buffer::Units(0));
        assert_eq!(leg.left(), 6);
        leg.refill(1.0, 4.0, Buffer::Units(0));
        assert_eq!(leg.left(), 0, "a share of 3 with 4 in flight lets nobody through");
    }

    #[test]
    fn what_was_refused_opens_no_shard_that_has_nothing() {
        let leg = leg(2, 0);
        let mut permit = Permit::default();
        permit.take(&leg, 2).unwrap();
        let stock =
            LegStock { sale: "s".parse().unwrap(), pool: "p".parse().unwrap(), leg: 0, free: 0, held: 2, sold: 0 };
        leg.learn(2, &stock);
        leg.refill(1.0, 1.0, Buffer::Units(0));
        permit.waste();
        assert_eq!((leg.left(), leg.take(1)), (0, Err(Shut::AllHeld)));
    }

    #[test]
    fn what_no_refill_can_bring_is_let_through_up_to_what_is_free() {
        let leg = leg(6, 0);
        leg.refill(1.0, 4.0, Buffer::Units(0));
        assert_eq!(leg.left(), 2);
        let mut permit = Permit::default();
        permit.take(&leg, 4).unwrap();
        assert_eq!(permit.take(&leg, 3), Err(Shut::Empty), "four of the six are in flight");
        assert_eq!(permit.take(&leg, 1), Err(Shut::Empty), "what a refill can bring waits for one");
        drop(permit);
        assert_eq!(leg.left(), 2, "it gave back what it took");
    }

    #[test]
    fn what_a_buffer_was_good_for_is_counted() {
        let leg = leg(100, 0);
        let refill = || leg.refill(1.0, 4.0, Buffer::Units(10));
        refill();
        let take = |units| {
            let mut permit = Permit::default();
            permit.take(&leg, units).unwrap();
            permit
        };
        take(25).spend();
        refill();
        assert_eq!(leg.buffer_use(), (0, 0), "that was the fair part");
        take(28).spend();
        refill();
        refill();
        assert_eq!(leg.buffer_use(), (3, 0), "counted once");
        take(2).waste();
        assert_eq!((leg.buffer_use(), leg.left()), ((3, 0), 35), "another leg of the claim was the one without");
        let in_vain = take(2);
        let stock =
            LegStock { sale: "s".parse().unwrap(), pool: "p".parse().unwrap(), leg: 0, free: 1, held: 0, sold: 99 };
        leg.learn(2, &stock);
        in_vain.waste();
        assert_eq!(leg.buffer_use(), (3, 2));
    }

    #[test]
    fn an_empty_shard_tells_what_the_inventory_said() {
        assert_eq!(leg(0, 0).take(1), Err(Shut::SoldOut));
        assert_eq!(leg(0, 1).take(1), Err(Shut::AllHeld));
        let empty = leg(2, 0);
        empty.take(2).unwrap();
        assert_eq!(empty.take(1), Err(Shut::Empty));
    }

    #[test]
    fn older_news_does_not_replace_newer() {
        let leg = leg(5, 0);
        let stock =
            LegStock { sale: "s".parse().unwrap(), pool: "p".parse().unwrap(), leg: 0, free: 1, held: 4, sold: 0 };
        assert!(leg.learn(7, &stock));
        assert!(!leg.learn(6, &LegStock { free: 5, held: 0, ..stock }));
        assert_eq!(leg.known(), (1, 4, 0));
    }
}
