//! Visits every world that can be reached, the nearest first, until one breaks a promise.

use std::collections::VecDeque;

use crate::promises;
use crate::protocol::{Protocol, Step};
use crate::world::World;

/// What there was to see.
#[derive(Debug)]
pub(crate) struct Explored {
    pub(crate) worlds: usize,
    /// How many steps the farthest world is away.
    pub(crate) depth: u32,
    pub(crate) violation: Option<Violation>,
    /// Was there a world in which everybody heard yes? If not, the bounds leave too little.
    pub(crate) sold_to_all: bool,
}

#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) what: String,
    /// The shortest way there.
    pub(crate) trace: Vec<Step>,
}

/// How each world was reached: from which, by what.
type Origins = Vec<(u32, Option<Step>)>;

pub(crate) fn explore(protocol: &Protocol) -> Explored {
    let first = protocol.first();
    let mut seen = Seen::new();
    let mut origins: Origins = vec![(0, None)];
    let mut open = VecDeque::from([(first, 0, 0)]);
    let mut next = Vec::new();
    let mut explored = Explored { worlds: 0, depth: 0, violation: None, sold_to_all: false };
    seen.insert(&first);
    while let Some((world, at, depth)) = open.pop_front() {
        explored.worlds += 1;
        explored.depth = depth;
        explored.sold_to_all |= world.asks.iter().all(|ask| *ask == crate::world::Ask::Promised);
        if let Some(what) = promises::broken(&world, protocol.units) {
            explored.violation = Some(Violation { what, trace: trace(&origins, at) });
            break;
        }
        protocol.next(&world, &mut next);
        for (step, then) in next.drain(..) {
            if seen.insert(&then) {
                let index = u32::try_from(origins.len()).expect("less than four thousand million worlds");
                origins.push((at, Some(step)));
                open.push_back((then, index, depth + 1));
            }
        }
    }
    explored
}

fn trace(origins: &Origins, mut at: u32) -> Vec<Step> {
    let mut steps = Vec::new();
    while let (before, Some(step)) = origins[at as usize] {
        steps.push(step);
        at = before;
    }
    steps.reverse();
    steps
}

/// The worlds that were met, each by 64 bits of it: of ten million worlds, two look the same with a chance of three in a million.
///
/// A table of its own, because it does nearly all the work and is quick without optimisation.
struct Seen {
    slots: Vec<u64>,
    len: usize,
}

impl Seen {
    fn new() -> Self {
        Self { slots: vec![0; 1 << 16], len: 0 }
    }

    /// True for a world that was not met before.
    fn insert(&mut self, world: &World) -> bool {
        if self.len * 2 > self.slots.len() {
            let slots = vec![0; self.slots.len() * 4];
            for digest in std::mem::replace(&mut self.slots, slots) {
                if digest != 0 {
                    let at = self.slot(digest);
                    self.slots[at] = digest;
                }
            }
        }
        let digest = digest(world);
        let at = self.slot(digest);
        if self.slots[at] == digest {
            return false;
        }
        self.slots[at] = digest;
        self.len += 1;
        true
    }

    /// Where this digest is, or would be.
    fn slot(&self, digest: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(digest).expect("a machine of 64 bits") & mask;
        while self.slots[at] != 0 && self.slots[at] != digest {
            at = (at + 1) & mask;
        }
        at
    }
}

fn digest(world: &World) -> u64 {
    let mut digest = 0;
    for word in world.packed() {
        let product = u128::from(digest ^ word ^ 0x2d35_8dcc_aa6c_78a5) * 0x8bb8_4b93_962e_acc9;
        let [low, high] = [product & u128::from(u64::MAX), product >> 64];
        digest = u64::try_from(low ^ high).expect("two halves");
    }
    // Zero is an empty slot.
    digest.max(1)
}
