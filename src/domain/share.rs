//! How things are split: sales over partitions, free stock over nodes.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::domain::id::SaleId;
use crate::domain::sale::Buffer;

/// A part of the inventory: the unit of placement, of batching and of recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(pub u16);

impl Partition {
    /// The partition of a sale: the first 32 bits of SHA-256 of its id, modulo the number of partitions.
    pub fn of(sale: &SaleId, partitions: u16) -> Self {
        let digest = Sha256::digest(sale.as_str().as_bytes());
        let first = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        Self(u16::try_from(first % u32::from(partitions.max(1))).unwrap_or(0))
    }

    /// All partitions of an inventory that has this many.
    pub fn all(partitions: u16) -> impl Iterator<Item = Self> {
        (0..partitions.max(1)).map(Self)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The generation of a partition of the inventory; it grows by one each time the partition is rebuilt. The first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition in one epoch: every key, exchange and script of the inventory belongs to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    pub partition: Partition,
    pub epoch: Epoch,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}.e{}", self.partition, self.epoch)
    }
}

/// How many units a node's shard may hold of `free`, before what it has in flight is taken off:
///
/// `min(free, ceil(free × weight ÷ weights) + buffer)`
///
/// `weights` is the sum over all nodes alive, this one included. A fractional buffer is a part of the fair part, rounded up.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=free; capacities stay far below 2^53"
)]
pub fn share(free: u32, weight: f64, weights: f64, buffer: Buffer) -> u32 {
    let part = if weights > 0.0 { (weight / weights).clamp(0.0, 1.0) } else { 1.0 };
    let fair = (f64::from(free) * part).ceil();
    let extra = match buffer {
        Buffer::Units(units) => f64::from(units),
        Buffer::Fraction(fraction) => (fair * fraction).ceil(),
    };
    (fair + extra).clamp(0.0, f64::from(free)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_alone_may_hold_everything() {
        assert_eq!(share(1000, 1.0, 1.0, Buffer::Units(0)), 1000);
    }

    #[test]
    fn four_nodes_hold_a_quarter_and_the_buffer() {
        assert_eq!(share(1000, 1.0, 4.0, Buffer::Units(0)), 250);
        assert_eq!(share(1000, 1.0, 4.0, Buffer::Units(50)), 300);
        assert_eq!(share(1000, 1.0, 4.0, Buffer::Fraction(0.1)), 275);
    }

    #[test]
    fn a_share_never_exceeds_what_is_free() {
        assert_eq!(share(10, 1.0, 2.0, Buffer::Units(500)), 10);
        assert_eq!(share(0, 1.0, 2.0, Buffer::Units(500)), 0);
    }

    #[test]
    fn the_last_unit_is_in_every_share() {
        assert_eq!(share(1, 1.0, 100.0, Buffer::Units(0)), 1);
    }

    #[test]
    fn a_heavier_node_holds_more() {
        assert_eq!(share(900, 2.0, 3.0, Buffer::Units(0)), 600);
    }

    #[test]
    fn a_sale_stays_in_its_partition() {
        let sale: SaleId = "concert-1".parse().unwrap();
        assert_eq!(Partition::of(&sale, 8), Partition::of(&sale, 8));
        assert_eq!(Partition::of(&sale, 1), Partition(0));
    }
}
