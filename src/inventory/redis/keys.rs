//! Every key and every field. All keys of a partition share one hash tag, so that they lie in one slot of a cluster.

use crate::domain::{OrderId, SaleId, Scope};
use crate::inventory::footprint::{LegKey, Person};

/// The keys of a scope, in the order in which every script is given them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Hash: the state of the scope, and the run of the server in which it was rebuilt.
    Meta,
    /// Hash: sale → header, sale/document → JSON.
    Sales,
    /// Hash: sale/pool/leg → "capacity free held sold".
    Counters,
    /// Hash: order id → the letter of its status and its record without the id; behind it ` refused` if a late payment found no units.
    Orders,
    /// Hash: person → their orders, each 32 digits of the id and 2 of the units.
    People,
    /// Stream: one entry per batch, with the ids of its granted orders.
    Outbox,
    /// Sorted set: sales and counters by the version at which they changed last; `#` has the newest.
    Versions,
    /// Stream: the hints of all granted orders, in entries numbered by the version at which they were.
    Granted,
}

impl Part {
    pub(super) const ALL: [Self; 8] = [
        Self::Meta,
        Self::Sales,
        Self::Counters,
        Self::Orders,
        Self::People,
        Self::Outbox,
        Self::Versions,
        Self::Granted,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Sales => "sales",
            Self::Counters => "counters",
            Self::Orders => "orders",
            Self::People => "people",
            Self::Outbox => "outbox",
            Self::Versions => "versions",
            Self::Granted => "granted",
        }
    }

    /// Which of the scripts' KEYS it is.
    pub(super) fn number(self) -> usize {
        self as usize + 1
    }
}

pub(super) fn of_scope(namespace: &str, scope: Scope, part: Part) -> String {
    format!("{namespace}:{{{}}}:{}:{}", scope.partition, scope.epoch, part.name())
}

/// Hash: node → when it was last heard of, its weight, its status.
pub(super) fn nodes(namespace: &str) -> String {
    format!("{namespace}:nodes")
}

/// The field of a sale's header; its document is beside it.
pub(super) fn header(sale: &SaleId) -> String {
    sale.to_string()
}

pub(super) fn document(sale: &SaleId) -> String {
    format!("{sale}/document")
}

pub(super) fn counter(key: &LegKey) -> String {
    format!("{}/{}/{}", key.sale, key.pool, key.leg)
}

/// Reads the field of a counter back.
pub(super) fn parse_counter(field: &str) -> Option<LegKey> {
    let mut parts = field.split('/');
    let mut next = || parts.next();
    Some(LegKey { sale: next()?.parse().ok()?, pool: next()?.parse().ok()?, leg: next()?.parse().ok()? })
}

pub(super) fn person(person: &Person) -> String {
    let mut text = String::new();
    write_person(person, &mut text);
    text
}

pub(super) fn write_person(person: &Person, out: &mut String) {
    let parts = match person {
        Person::Buyer(sale, buyer) => ["b ", sale.as_str(), " ", buyer.as_str()],
        Person::Passenger(sale, passenger) => ["p ", sale.as_str(), " ", passenger.as_str()],
    };
    for part in parts {
        out.push_str(part);
    }
}

pub(super) fn order(id: OrderId) -> String {
    id.digits().as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Epoch, Partition};

    #[test]
    fn all_keys_of_a_partition_share_one_hash_tag() {
        let scope = Scope { partition: Partition(3), epoch: Epoch(7) };
        assert_eq!(of_scope("rg", scope, Part::Counters), "rg:{3}:7:counters");
        assert!(Part::ALL.iter().all(|part| of_scope("rg", scope, *part).contains(":{3}:")));
    }

    #[test]
    fn a_counter_reads_back_its_field() {
        let key = LegKey { sale: "g1-2026".parse().unwrap(), pool: "second".parse().unwrap(), leg: 63 };
        assert_eq!(parse_counter(&counter(&key)), Some(key));
        assert_eq!(parse_counter("#"), None);
    }

    #[test]
    fn the_parts_are_numbered_as_lua_does() {
        assert_eq!(Part::ALL.map(Part::number), [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
