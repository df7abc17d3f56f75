//! Tags that mean something only to the lane that gave them.
//!
//! A broker numbers the deliveries of every session from 1, so the tag of a message that one session delivered would
//! acknowledge another message in the next. Here each taking of a lane has a mark of its own, and its tags carry it.

use crate::queue::Fault;

/// Bits of a tag that count the deliveries; those above are the mark. 2^40 deliveries in one taking are years of a busy lane.
const NUMBER_BITS: u32 = 40;

/// One taking of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taking {
    mark: u64,
}

impl Taking {
    pub(super) fn new() -> Self {
        Self { mark: fastrand::u64(..) << NUMBER_BITS }
    }

    /// The tag of this taking's delivery with this number.
    pub(super) fn tag(self, number: u64) -> u64 {
        self.mark | number
    }

    /// The number of a delivery; an error if it is another taking's.
    pub(super) fn number(self, tag: u64) -> Result<u64, Fault> {
        let number = tag & ((1 << NUMBER_BITS) - 1);
        if self.tag(number) == tag {
            Ok(number)
        } else {
            Err(Fault("the delivery is of an earlier taking of the lane, and will come again".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_gives_its_number_back_to_its_own_taking_only() {
        let (one, other) = (Taking { mark: 1 << NUMBER_BITS }, Taking { mark: 2 << NUMBER_BITS });
        assert_eq!(one.number(one.tag(7)), Ok(7));
        assert!(other.number(one.tag(7)).is_err());
    }

    #[test]
    fn tags_grow() {
        let taking = Taking::new();
        assert!(taking.tag(1) < taking.tag(2));
    }
}
