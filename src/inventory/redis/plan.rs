//! What the confirm script is told about a batch: every name once, and the claims as numbers that point at the names.
//!
//! Gateways are many and Redis is one, so what can be worked out here is.

use std::collections::HashMap;
use std::hash::Hash;

use crate::domain::{Claim, Order, OrderStatus, UnixMillis};
use crate::inventory::Fault;
use crate::inventory::footprint::{Footprint, LegKey};
use crate::inventory::redis::scripts::Args;
use crate::inventory::redis::{codec, keys};

/// About what one claim takes: its id, its record, its buyer.
const CLAIM_BYTES: usize = 256;

/// The arguments of the confirm script, and what is needed to read its answer.
#[derive(Debug)]
pub(super) struct Plan {
    /// The instant and the numbers, then order ids, records, sales, counter fields, people fields.
    pub(super) args: Args,
    /// The counters that the answer has, in its order.
    pub(super) legs: Vec<LegKey>,
}

impl Plan {
    pub(super) fn of(claims: &[Claim], now: UnixMillis) -> Result<Self, Fault> {
        let (mut sales, mut legs, mut people) = (Names::default(), Names::default(), Names::default());
        let mut body = Vec::new();
        for Claim { order } in claims {
            check_units(order)?;
            let footprint = Footprint::of(order);
            body.extend([sales.number(&order.sale), size(footprint.people.len())]);
            body.extend(footprint.people.iter().flat_map(|(person, units)| [people.number(person), *units]));
            body.push(size(footprint.legs.len()));
            body.extend(footprint.legs.iter().flat_map(|(leg, units)| [legs.number(leg), *units]));
        }
        let counts = [claims.len(), sales.list.len(), legs.list.len(), people.list.len()];
        let mut args = Args::with_room(2 + claims.len() + counts.iter().sum::<usize>(), claims.len() * CLAIM_BYTES);
        args.push(now.0.to_string().as_bytes());
        args.push(&pack(&counts.map(size), &body));
        for claim in claims {
            args.push(claim.order.id.digits().as_str().as_bytes());
        }
        for claim in claims {
            args.write(|out| codec::write_record(&claim.order, OrderStatus::Held, out));
        }
        for sale in &sales.list {
            args.push(keys::header(sale).as_bytes());
        }
        for leg in &legs.list {
            args.push(keys::counter(leg).as_bytes());
        }
        for person in &people.list {
            args.write(|out| keys::write_person(person, out));
        }
        Ok(Self { args, legs: legs.list })
    }
}

/// A person's entry has two digits for the units of an order.
fn check_units(order: &Order) -> Result<(), Fault> {
    if u64::from(order.units()) > Claim::MAX_UNITS {
        return Err(Fault::NotDone(format!("order {} has more than {} units", order.id, Claim::MAX_UNITS)));
    }
    Ok(())
}

/// A list of numbers in `MessagePack`, which Lua reads at a third of the cost of JSON.
fn pack(head: &[u32], body: &[u32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + 2 * (head.len() + body.len()));
    out.push(0xdd);
    out.extend(size(head.len() + body.len()).to_be_bytes());
    for number in head.iter().chain(body) {
        let [.., high, low] = number.to_be_bytes();
        match number {
            0..0x80 => out.push(low),
            0x80..0x100 => out.extend([0xcc, low]),
            0x100..0x1_0000 => out.extend([0xcd, high, low]),
            _ => {
                out.push(0xce);
                out.extend(number.to_be_bytes());
            }
        }
    }
    out
}

fn size(length: usize) -> u32 {
    u32::try_from(length).expect("a batch fits in memory many times over")
}

/// Numbers names as Lua does, from one.
#[derive(Debug)]
struct Names<T> {
    list: Vec<T>,
    numbers: HashMap<T, u32, foldhash::fast::RandomState>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { list: Vec::new(), numbers: HashMap::default() }
    }
}

impl<T: Clone + Eq + Hash> Names<T> {
    fn number(&mut self, name: &T) -> u32 {
        // Mostly the sale and the leg are those of the claim before.
        if self.list.last() == Some(name) {
            return size(self.list.len());
        }
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.list.push(name.clone());
        let number = size(self.list.len());
        self.numbers.insert(name.clone(), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_packed_as_short_as_they_are() {
        let packed = pack(&[0, 127, 128], &[255, 256, 65_535, 65_536]);
        let numbers =
            [&[0, 127][..], &[0xcc, 128], &[0xcc, 255], &[0xcd, 1, 0], &[0xcd, 255, 255], &[0xce, 0, 1, 0, 0]];
        assert_eq!(packed, [&[0xdd, 0, 0, 0, 7][..], &numbers.concat()].concat());
    }
}
