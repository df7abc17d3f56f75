//! The shadow sales, and what buyers ask of them.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::SaleDocument;
use crate::domain::document::PoolDocument;

const POOL: &str = "standard";
const STOPS: [&str; 5] = ["JNK", "TNA", "XZE", "NJH", "SHH"];
/// Before any rehearsal: who asked before the opening would measure a refusal.
const LONG_AGO: &str = "2020-01-01T00:00:00Z";

/// A line of a claim, and of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) pool: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) quantity: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) passenger: Option<String>,
}

/// What a buyer asks for, and the units that it takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ask {
    pub(super) body: Value,
    pub(super) lines: Vec<Line>,
}

/// Units by place: a pool and a leg, such as `standard/0`.
pub(super) type Units = BTreeMap<String, u64>;

/// One pool, one leg.
pub(super) fn concert(stock: u32, hold: Duration) -> SaleDocument {
    let pools = vec![PoolDocument { id: POOL.to_owned(), capacity: stock, price: Some(55_350), fares: None }];
    SaleDocument { name: "rehearsal: a concert".to_owned(), limit_per_buyer: Some(1), pools, ..common(hold) }
}

/// Four legs, and two pools: ten seats of the second class for one of the first.
pub(super) fn train_run(stock: u32, hold: Duration) -> SaleDocument {
    let pool = |id: &str, capacity, fares: [i64; 4]| PoolDocument {
        id: id.to_owned(),
        capacity,
        price: None,
        fares: Some(fares.to_vec()),
    };
    let pools = vec![
        pool("second", stock, [4000, 12_000, 9000, 13_000]),
        pool("first", stock.div_ceil(10), [7000, 20_000, 15_000, 21_000]),
    ];
    let stops = STOPS.iter().map(|stop| (*stop).to_owned()).collect();
    SaleDocument { name: "rehearsal: a train run".to_owned(), limit_per_buyer: Some(2), stops, pools, ..common(hold) }
}

fn common(hold: Duration) -> SaleDocument {
    SaleDocument {
        name: String::new(),
        opens_at: Some(LONG_AGO.to_owned()),
        closes_at: None,
        hold: Some(format!("{}ms", hold.as_millis())),
        limit_per_buyer: None,
        limit_per_passenger: None,
        currency: "CNY".to_owned(),
        stops: Vec::new(),
        pools: Vec::new(),
        buffer: None,
        state: None,
        // None with this name may be there already: a rehearsal takes no other sale's place.
        version: Some(0),
    }
}

pub(super) fn one_ticket() -> Ask {
    let line = Line { pool: POOL.to_owned(), from: None, to: None, quantity: Some(1), passenger: None };
    Ask { body: json!({"quantity": 1}), lines: vec![line] }
}

/// Two stops, one or two passengers, one of ten in the first class.
pub(super) fn journey(buyer: &str, chance: &mut Rng) -> Ask {
    let from = chance.usize(..STOPS.len() - 1);
    let to = chance.usize(from + 1..STOPS.len());
    let pool = if chance.f64() < 0.1 { "first" } else { "second" };
    let passengers = if chance.f64() < 0.3 { 2 } else { 1 };
    of_lines(
        (0..passengers).map(|number| seat(pool, (STOPS[from], STOPS[to]), &format!("{buyer}-p{number}"))).collect(),
    )
}

/// One unit of a pool, from the first stop to the last.
pub(super) fn whole_way(sale: &SaleDocument, pool: &str, buyer: &str) -> Ask {
    match (sale.stops.first(), sale.stops.last()) {
        (Some(first), Some(last)) => of_lines(vec![seat(pool, (first, last), &format!("{buyer}-p0"))]),
        _ => one_ticket(),
    }
}

fn seat(pool: &str, (from, to): (&str, &str), passenger: &str) -> Line {
    let text = |text: &str| Some(text.to_owned());
    Line { pool: pool.to_owned(), from: text(from), to: text(to), quantity: None, passenger: text(passenger) }
}

fn of_lines(lines: Vec<Line>) -> Ask {
    Ask { body: json!({"lines": lines}), lines }
}

/// The names of all places at which units are counted.
pub(super) fn places(sale: &SaleDocument) -> impl Iterator<Item = (String, &PoolDocument)> {
    let legs = sale.stops.len().saturating_sub(1).max(1);
    sale.pools.iter().flat_map(move |pool| (0..legs).map(move |leg| (place(&pool.id, leg), pool)))
}

pub(super) fn place(pool: &str, leg: usize) -> String {
    format!("{pool}/{leg}")
}

/// Units by place that these lines take.
pub(super) fn footprint(sale: &SaleDocument, lines: &[Line]) -> Units {
    let mut units = Units::new();
    let last = sale.stops.len().saturating_sub(1).max(1);
    let index = |stop: &Option<String>, otherwise| {
        stop.as_ref().and_then(|stop| sale.stops.iter().position(|other| other == stop)).unwrap_or(otherwise)
    };
    for line in lines {
        for leg in index(&line.from, 0)..index(&line.to, last) {
            *units.entry(place(&line.pool, leg)).or_default() += line.quantity.unwrap_or(1);
        }
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SaleId;

    const HOLD: Duration = Duration::from_millis(1500);

    fn units(of: &[(&str, u64)]) -> Units {
        of.iter().map(|(place, units)| ((*place).to_owned(), *units)).collect()
    }

    #[test]
    fn both_sales_are_sales_that_take_the_place_of_no_other() {
        for document in [concert(10, HOLD), train_run(10, HOLD)] {
            assert_eq!(document.version, Some(0));
            let id: SaleId = "rehearsal-s".parse().unwrap();
            let sale = document.into_sale(id).unwrap();
            assert_eq!(sale.hold, HOLD);
        }
    }

    #[test]
    fn lines_take_units_on_each_leg_between_their_stops() {
        let train = train_run(11, HOLD);
        assert_eq!(places(&train).count(), 8);
        let line = |from: &str, to: &str| seat("second", (from, to), "p");
        let family = [line("JNK", "XZE"), line("TNA", "XZE")];
        assert_eq!(footprint(&train, &family), units(&[("second/0", 1), ("second/1", 2)]));
        assert_eq!(footprint(&concert(1, HOLD), &one_ticket().lines), units(&[("standard/0", 1)]));
        assert_eq!(footprint(&train, &whole_way(&train, "first", "b").lines).len(), 4);
    }

    #[test]
    fn a_journey_goes_forward_and_is_drawn_from_the_buyer_s_chance() {
        let asks = |seed| {
            let mut chance = Rng::with_seed(seed);
            (0..200).map(|_| journey("b", &mut chance)).collect::<Vec<_>>()
        };
        assert_eq!(asks(1), asks(1));
        assert_ne!(asks(1), asks(2));
        let train = train_run(10, HOLD);
        assert!(asks(1).iter().all(|ask| !footprint(&train, &ask.lines).is_empty()));
        assert!(
            asks(1).iter().any(|ask| ask.lines.len() == 2) && asks(1).iter().any(|ask| ask.lines[0].pool == "first")
        );
    }
}
