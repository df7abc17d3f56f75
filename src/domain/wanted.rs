//! What a request wants, by its places in the sale: enough to look whether anything is left, and nothing to allocate.

use smallvec::SmallVec;

use crate::domain::claim::{Ask, AskedLine, Claim};
use crate::domain::id::PassengerId;
use crate::domain::order::{Line, SeatPreference};
use crate::domain::sale::{Legs, Sale};

/// One line: units of a pool over some legs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The pool's index in the sale.
    pub pool: usize,
    pub legs: Legs,
    pub units: u32,
}

/// The lines of one request; most have one.
pub type WantedLines = SmallVec<[Wanted; 4]>;

impl Wanted {
    /// The lines of a request, if it fits the sale. Exactly those fit that [`Claim::check`] takes; what is wrong with the others it
    /// says.
    pub fn of_ask(sale: &Sale, ask: &Ask<'_>) -> Option<WantedLines> {
        let whole;
        let asked = match ask {
            Ask::Quantity(quantity) => {
                whole = [AskedLine { quantity: Some(*quantity), ..AskedLine::default() }];
                &whole[..]
            }
            Ask::Lines(lines) => lines,
        };
        if asked.is_empty() || asked.len() > Claim::MAX_LINES || names_somebody_twice(asked) {
            return None;
        }
        let wanted: WantedLines = asked.iter().map(|line| Self::of_line(sale, line)).collect::<Option<_>>()?;
        let units: u64 = wanted.iter().map(|line| u64::from(line.units)).sum();
        (units <= Claim::MAX_UNITS).then_some(wanted)
    }

    /// The lines of a claim; none for a pool that the sale does not have any more.
    pub fn of_lines(sale: &Sale, lines: &[Line]) -> Option<WantedLines> {
        let wanted = |line: &Line| {
            let (pool, _) = sale.pool(line.pool.as_str())?;
            Some(Self { pool, legs: line.legs, units: line.quantity })
        };
        lines.iter().map(wanted).collect()
    }

    fn of_line(sale: &Sale, asked: &AskedLine<'_>) -> Option<Self> {
        let pool = match asked.pool {
            Some(id) => sale.pool(id)?.0,
            None if sale.pools.len() == 1 => 0,
            None => return None,
        };
        let whole = sale.whole();
        let stop = |text: Option<&str>, otherwise: u8| match text {
            None => Some(otherwise),
            Some(text) => sale.stops.iter().position(|stop| stop.as_str() == text).and_then(|at| u8::try_from(at).ok()),
        };
        let legs = Legs { from: stop(asked.from, whole.from)?, to: stop(asked.to, whole.to)? };
        let most = if asked.passenger.is_some() { 1 } else { Claim::MAX_UNITS };
        let quantity = asked.quantity.unwrap_or(1);
        let fits = legs.from < legs.to
            && (1..=most).contains(&quantity)
            && asked.passenger.is_none_or(PassengerId::fits)
            && asked.seat.is_none_or(|seat| seat.parse::<SeatPreference>().is_ok());
        fits.then_some(Self { pool, legs, units: u32::try_from(quantity).ok()? })
    }
}

/// Each leg of each pool that these lines want, once, with the units of all lines together: asked line by line, the last seats for a
/// family would look like a shard that is empty for the moment, and no refill would ever bring them.
pub fn each_leg(wanted: &[Wanted]) -> impl Iterator<Item = (usize, u8, u32)> {
    wanted.iter().enumerate().flat_map(move |(at, line)| {
        line.legs.iter().filter_map(move |leg| {
            let goes = move |other: &&Wanted| other.pool == line.pool && other.legs.iter().contains(&leg);
            let is_known = wanted[..at].iter().any(|earlier| goes(&earlier));
            let units = || wanted[at..].iter().filter(goes).map(|line| line.units).sum();
            (!is_known).then(|| (line.pool, leg, units()))
        })
    })
}

/// There are at most sixteen of them.
fn names_somebody_twice(asked: &[AskedLine<'_>]) -> bool {
    let is_named = |at: usize, name: &str| asked[..at].iter().any(|earlier| earlier.passenger == Some(name));
    asked.iter().enumerate().any(|(at, line)| line.passenger.is_some_and(|name| is_named(at, name)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::document::SaleDocument;
    use crate::domain::{OrderSecret, UnixMillis};

    fn train() -> Sale {
        let document = serde_json::json!({
            "name": "G1", "currency": "CNY", "stops": ["JNK", "TNA", "XZE", "SHH"],
            "pools": [{"id": "first", "capacity": 10, "fares": [10, 20, 30]}, {"id": "second", "capacity": 90, "fares": [1, 2, 3]}],
        });
        let document: SaleDocument = serde_json::from_value(document).unwrap();
        document.into_sale("s".parse().unwrap()).unwrap()
    }

    fn any_line() -> impl Strategy<Value = AskedLine<'static>> {
        let some = |texts: &'static [&'static str]| prop::option::of(prop::sample::select(texts));
        let stops = || some(&["JNK", "TNA", "XZE", "SHH", "nowhere"]);
        let quantity = prop::option::of(prop_oneof![0_u64..4, 198_u64..203]);
        let passenger = some(&["p-1", "p-2", "p-3", "", "a/b", "-"]);
        (some(&["first", "second", "third"]), stops(), stops(), quantity, passenger, some(&["window", "roof"]))
            .prop_map(|(pool, from, to, quantity, passenger, seat)| AskedLine {
                pool,
                from,
                to,
                quantity,
                passenger,
                seat,
            })
    }

    proptest! {
        #[test]
        fn what_fits_is_what_the_check_takes_and_wants_the_same(lines in prop::collection::vec(any_line(), 0..4)) {
            let (sale, secret) = (train(), OrderSecret::new([7; 32]));
            for ask in [Ask::Lines(lines.clone()), Ask::Quantity(lines.first().and_then(|line| line.quantity).unwrap_or(1))] {
                let (buyer, key) = ("b".parse().unwrap(), "k".parse().unwrap());
                let checked = Claim::check(&sale, buyer, &key, &ask, (&secret, UnixMillis(1))).ok();
                let expected = checked.map(|claim| Wanted::of_lines(&sale, &claim.order.lines).unwrap());
                prop_assert_eq!(Wanted::of_ask(&sale, &ask), expected);
            }
        }
    }

    #[test]
    fn a_leg_comes_once_with_the_units_of_all_lines() {
        let line = |pool, from, to, units| Wanted { pool, legs: Legs { from, to }, units };
        let legs: Vec<_> = each_leg(&[line(0, 0, 2, 1), line(0, 1, 3, 2), line(1, 1, 2, 4)]).collect();
        assert_eq!(legs, [(0, 0, 1), (0, 1, 3), (0, 2, 2), (1, 1, 4)]);
    }
}
