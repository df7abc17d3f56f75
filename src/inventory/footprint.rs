//! What an order takes, and what the orders of a snapshot take together. Both backends count by this.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use crate::domain::{BuyerId, Order, OrderId, OrderStatus, PassengerId, PoolId, Sale, SaleId};
use crate::inventory::{LegStock, Snapshot};

/// One counter: a leg of a pool of a sale.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LegKey {
    pub(super) sale: SaleId,
    pub(super) pool: PoolId,
    pub(super) leg: u8,
}

/// Someone whose units in a sale are limited.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Person {
    Buyer(SaleId, BuyerId),
    Passenger(SaleId, PassengerId),
}

/// What one order takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Footprint {
    /// Units by leg: each leg once, in the order of the lines.
    pub(super) legs: Vec<(LegKey, u32)>,
    /// Units by person: each person once, the buyer first, then the passengers in the order of the lines.
    pub(super) people: Vec<(Person, u32)>,
}

impl Footprint {
    pub(super) fn of(order: &Order) -> Self {
        let (mut legs, mut people) = (Ordered::default(), Ordered::default());
        *people.at(Person::Buyer(order.sale.clone(), order.buyer.clone())) += order.units();
        for line in &order.lines {
            for leg in line.legs.iter() {
                *legs.at(LegKey { sale: order.sale.clone(), pool: line.pool.clone(), leg }) += line.quantity;
            }
            if let Some(passenger) = &line.passenger {
                *people.at(Person::Passenger(order.sale.clone(), passenger.clone())) += line.quantity;
            }
        }
        Self { legs: legs.list, people: people.list }
    }
}

/// What a snapshot comes to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The counters of all sales, in the order of the sales, their pools and legs.
    pub(super) stock: Vec<LegStock>,
    /// Who has which orders, with their units, in the order of the snapshot.
    pub(super) people: Vec<(Person, Vec<(OrderId, u32)>)>,
}

impl Tally {
    /// Counts all live orders, or says what is wrong with the snapshot.
    pub(super) fn of(snapshot: &Snapshot) -> Result<Self, String> {
        let mut stock = Ordered::<LegKey, (u32, u32, u32)>::default();
        for (key, capacity) in snapshot.sales.iter().flat_map(counters_of) {
            *stock.at(key) = (capacity, 0, 0);
        }
        let mut seen = HashSet::new();
        if let Some(twice) = snapshot.orders.iter().find(|known| !seen.insert(known.order.id)) {
            return Err(format!("order {} stands twice", twice.order.id));
        }
        let mut people = Ordered::<Person, Vec<(OrderId, u32)>>::default();
        for known in snapshot.orders.iter().filter(|known| known.status.is_live()) {
            let footprint = Footprint::of(&known.order);
            for (key, units) in footprint.legs {
                let Some((_, held, sold)) = stock.get_mut(&key) else {
                    return Err(format!("order {} is for {key:?}, which no sale has", known.order.id));
                };
                *(if known.status == OrderStatus::Held { held } else { sold }) += units;
            }
            for (person, units) in footprint.people {
                people.at(person).push((known.order.id, units));
            }
        }
        let stock = stock.list.into_iter().map(|(key, (capacity, held, sold))| {
            let Some(free) = capacity.checked_sub(held + sold) else {
                return Err(format!("{key:?} has {held} held and {sold} sold units, but a capacity of {capacity}"));
            };
            Ok(LegStock { sale: key.sale, pool: key.pool, leg: key.leg, free, held, sold })
        });
        Ok(Self { stock: stock.collect::<Result<_, _>>()?, people: people.list })
    }
}

/// The counters that a sale has by its definition, with their capacities, in the order of its pools and legs.
pub(super) fn counters_of(sale: &Sale) -> impl Iterator<Item = (LegKey, u32)> {
    sale.pools.iter().flat_map(move |pool| {
        sale.whole().iter().map(move |leg| {
            let key = LegKey { sale: sale.id.clone(), pool: pool.id.clone(), leg };
            (key, pool.capacity)
        })
    })
}

/// Up to so many keys are looked through one by one: most orders have one buyer and one leg, and no use for a table.
const FEW: usize = 8;

/// A map that remembers in which order its keys came.
#[derive(Debug)]
struct Ordered<K, V> {
    list: Vec<(K, V)>,
    /// Of more than a few.
    index: HashMap<K, usize>,
}

impl<K, V> Default for Ordered<K, V> {
    fn default() -> Self {
        Self { list: Vec::new(), index: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash, V: Default> Ordered<K, V> {
    fn at(&mut self, key: K) -> &mut V {
        let index = self.find(&key).unwrap_or_else(|| {
            self.list.push((key, V::default()));
            self.index_the_last();
            self.list.len() - 1
        });
        &mut self.list[index].1
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.find(key).map(|index| &mut self.list[index].1)
    }

    fn find(&self, key: &K) -> Option<usize> {
        if self.list.len() <= FEW {
            return self.list.iter().position(|(known, _)| known == key);
        }
        self.index.get(key).copied()
    }

    fn index_the_last(&mut self) {
        let indexed = if self.list.len() == FEW + 1 { 0 } else { self.list.len() - 1 };
        if self.list.len() > FEW {
            let keys = self.list[indexed..].iter().zip(indexed..);
            self.index.extend(keys.map(|((key, _), index)| (key.clone(), index)));
        }
    }
}
