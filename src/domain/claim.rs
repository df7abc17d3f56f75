//! What a buyer asks for, checked against the sale.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use crate::domain::id::{BuyerId, Fingerprint, IdempotencyKey, OrderId, OrderSecret, PassengerId, PoolId};
use crate::domain::money::Money;
use crate::domain::order::{Line, Order, SeatPreference};
use crate::domain::record;
use crate::domain::sale::{Legs, Sale};
use crate::domain::time::UnixMillis;

/// An order that nobody has granted yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub order: Order,
}

/// A request as it came: texts that nobody has checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask<'a> {
    /// Units of the only pool, over the whole journey.
    Quantity(u64),
    Lines(Vec<AskedLine<'a>>),
}

/// One line of a request as it came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AskedLine<'a> {
    pub pool: Option<&'a str>,
    pub from: Option<&'a str>,
    pub to: Option<&'a str>,
    /// One, if it is not given.
    pub quantity: Option<u64>,
    pub passenger: Option<&'a str>,
    pub seat: Option<&'a str>,
}

/// One thing that is wrong with a request: where, as a JSON pointer, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pub at: String,
    pub why: String,
}

impl Invalid {
    pub fn new(at: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { at: at.into(), why: why.to_string() }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.why)
    }
}

impl Claim {
    /// The most lines that one claim may have.
    pub const MAX_LINES: usize = 16;
    /// The most units that one claim may have, over all its lines. One byte of the inventory's record counts them.
    pub const MAX_UNITS: u64 = 200;

    /// Checks a request against the sale, prices it, and derives its order id. All that is wrong is said at once.
    pub fn check(
        sale: &Sale,
        buyer: BuyerId,
        key: &IdempotencyKey,
        ask: &Ask<'_>,
        (secret, now): (&OrderSecret, UnixMillis),
    ) -> Result<Self, Vec<Invalid>> {
        let lines = check_lines(sale, ask)?;
        let mut canonical = String::new();
        record::write_lines(&lines, &mut canonical);
        let amount = lines.iter().map(|line| price(sale, line)).sum();
        let order = Order {
            id: OrderId::derive(secret, &sale.id, &buyer, key),
            fingerprint: Fingerprint::of(&canonical),
            sale: sale.id.clone(),
            buyer,
            granted_at: now,
            pay_by: now.plus(sale.hold),
            price: Money { amount, currency: sale.currency },
            lines,
        };
        Ok(Self { order })
    }
}

fn price(sale: &Sale, line: &Line) -> i64 {
    sale.pool(line.pool.as_str()).map_or(0, |(_, pool)| pool.price(line.legs) * i64::from(line.quantity))
}

fn check_lines(sale: &Sale, ask: &Ask<'_>) -> Result<Vec<Line>, Vec<Invalid>> {
    let only;
    let asked: &[AskedLine<'_>] = match ask {
        Ask::Quantity(quantity) => {
            only = [AskedLine { quantity: Some(*quantity), ..AskedLine::default() }];
            &only
        }
        Ask::Lines(lines) => lines,
    };
    if asked.is_empty() || asked.len() > Claim::MAX_LINES {
        return Err(vec![Invalid::new("/lines", format!("must have 1 to {} lines", Claim::MAX_LINES))]);
    }
    let mut wrong = Vec::new();
    let mut lines = Vec::with_capacity(asked.len());
    for (index, line) in asked.iter().enumerate() {
        let at = match ask {
            Ask::Quantity(_) => String::new(),
            Ask::Lines(_) => format!("/lines/{index}"),
        };
        lines.extend(check_line(sale, line, &at, &mut wrong));
    }
    let units: u64 = lines.iter().map(|line| u64::from(line.quantity)).sum();
    if units > Claim::MAX_UNITS {
        wrong.push(Invalid::new("", format!("must have at most {} units in all", Claim::MAX_UNITS)));
    }
    let mut travelling = HashSet::new();
    for passenger in lines.iter().filter_map(|line| line.passenger.as_ref()) {
        if !travelling.insert(passenger) {
            wrong.push(Invalid::new("/lines", format!("passenger {passenger} is named twice")));
        }
    }
    if wrong.is_empty() { Ok(lines) } else { Err(wrong) }
}

fn check_line(sale: &Sale, asked: &AskedLine<'_>, at: &str, wrong: &mut Vec<Invalid>) -> Option<Line> {
    let before = wrong.len();
    let pool = check_pool(sale, asked.pool, at, wrong);
    let legs = check_legs(sale, asked, at, wrong);
    let quantity = asked.quantity.unwrap_or(1);
    if quantity == 0 || quantity > Claim::MAX_UNITS {
        wrong.push(Invalid::new(format!("{at}/quantity"), format!("must be 1 to {}", Claim::MAX_UNITS)));
    } else if quantity > 1 && asked.passenger.is_some() {
        wrong.push(Invalid::new(format!("{at}/quantity"), "must be 1 for a line that names a passenger"));
    }
    let passenger = check_name::<PassengerId>(asked.passenger, at, "passenger", wrong);
    let seat = check_name::<SeatPreference>(asked.seat, at, "seat", wrong);
    if wrong.len() > before {
        return None;
    }
    Some(Line { pool: pool?, legs: legs?, quantity: u32::try_from(quantity).ok()?, passenger, seat })
}

fn check_name<T: FromStr<Err: fmt::Display>>(
    text: Option<&str>,
    at: &str,
    field: &str,
    wrong: &mut Vec<Invalid>,
) -> Option<T> {
    text?.parse().map_err(|error| wrong.push(Invalid::new(format!("{at}/{field}"), error))).ok()
}

fn check_pool(sale: &Sale, asked: Option<&str>, at: &str, wrong: &mut Vec<Invalid>) -> Option<PoolId> {
    let found = match asked {
        Some(id) => sale.pool(id).map(|(_, pool)| pool.id.clone()),
        None if sale.pools.len() == 1 => Some(sale.pools[0].id.clone()),
        None => None,
    };
    if found.is_none() {
        let pools: Vec<_> = sale.pools.iter().map(|pool| pool.id.as_str()).collect();
        wrong.push(Invalid::new(format!("{at}/pool"), format!("must be one of {}", pools.join(", "))));
    }
    found
}

fn check_legs(sale: &Sale, asked: &AskedLine<'_>, at: &str, wrong: &mut Vec<Invalid>) -> Option<Legs> {
    let whole = sale.whole();
    let stop = |text: Option<&str>, field: &str, otherwise: u8, wrong: &mut Vec<Invalid>| match text {
        None => Some(otherwise),
        Some(text) => {
            let found = sale.stops.iter().position(|stop| stop.as_str() == text).and_then(|i| u8::try_from(i).ok());
            if found.is_none() {
                wrong.push(Invalid::new(format!("{at}/{field}"), "is no stop of this sale"));
            }
            found
        }
    };
    let from = stop(asked.from, "from", whole.from, wrong)?;
    let to = stop(asked.to, "to", whole.to, wrong)?;
    if from >= to {
        wrong.push(Invalid::new(format!("{at}/to"), "must be a later stop than from"));
        return None;
    }
    Some(Legs { from, to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::document::SaleDocument;

    fn sale(json: serde_json::Value) -> Sale {
        let document: SaleDocument = serde_json::from_value(json).unwrap();
        document.into_sale("s".parse().unwrap()).unwrap()
    }

    fn train() -> Sale {
        sale(serde_json::json!({
            "name": "G1", "currency": "CNY", "stops": ["JNK", "TNA", "XZE", "SHH"],
            "pools": [{"id": "first", "capacity": 10, "fares": [10, 20, 30]}, {"id": "second", "capacity": 90, "fares": [1, 2, 3]}],
        }))
    }

    fn concert() -> Sale {
        sale(
            serde_json::json!({"name": "C", "currency": "CNY", "pools": [{"id": "standard", "capacity": 10, "price": 55350}]}),
        )
    }

    fn check(sale: &Sale, ask: &Ask<'_>) -> Result<Claim, Vec<Invalid>> {
        let (buyer, key) = ("b".parse().unwrap(), "k".parse().unwrap());
        Claim::check(sale, buyer, &key, ask, (&OrderSecret::new([0; 32]), UnixMillis(1000)))
    }

    fn pointers(result: Result<Claim, Vec<Invalid>>) -> Vec<String> {
        result.expect_err("must be invalid").into_iter().map(|invalid| invalid.at).collect()
    }

    #[test]
    fn a_quantity_is_a_line_of_the_only_pool() {
        let claim = check(&concert(), &Ask::Quantity(2)).unwrap();
        assert_eq!(claim.order.price.amount, 110_700);
        assert_eq!(claim.order.pay_by, UnixMillis(301_000));
        let line = AskedLine { pool: Some("standard"), quantity: Some(2), ..AskedLine::default() };
        assert_eq!(check(&concert(), &Ask::Lines(vec![line])).unwrap(), claim);
    }

    #[test]
    fn a_journey_costs_the_fares_of_its_legs() {
        let line = AskedLine { pool: Some("first"), from: Some("TNA"), to: Some("SHH"), ..AskedLine::default() };
        let claim = check(&train(), &Ask::Lines(vec![line])).unwrap();
        assert_eq!(claim.order.price.amount, 50);
        assert_eq!(claim.order.lines[0].legs, Legs { from: 1, to: 3 });
    }

    #[test]
    fn zero_and_huge_quantities_are_invalid() {
        for quantity in [0, 201, u64::MAX] {
            assert_eq!(pointers(check(&concert(), &Ask::Quantity(quantity))), ["/quantity"]);
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let backwards = AskedLine { pool: Some("first"), from: Some("SHH"), to: Some("JNK"), ..AskedLine::default() };
        let unknown =
            AskedLine { pool: Some("third"), from: Some("nowhere"), seat: Some("roof"), ..AskedLine::default() };
        let ask = Ask::Lines(vec![backwards, unknown]);
        assert_eq!(pointers(check(&train(), &ask)), ["/lines/0/to", "/lines/1/pool", "/lines/1/from", "/lines/1/seat"]);
    }

    #[test]
    fn a_passenger_has_one_place_in_a_claim() {
        let line = AskedLine { pool: Some("first"), passenger: Some("p-1"), ..AskedLine::default() };
        assert_eq!(pointers(check(&train(), &Ask::Lines(vec![line.clone(), line.clone()]))), ["/lines"]);
        let two = AskedLine { quantity: Some(2), ..line };
        assert_eq!(pointers(check(&train(), &Ask::Lines(vec![two]))), ["/lines/0/quantity"]);
    }

    #[test]
    fn lines_are_few_but_some() {
        assert_eq!(pointers(check(&train(), &Ask::Lines(Vec::new()))), ["/lines"]);
        assert_eq!(pointers(check(&train(), &Ask::Lines(vec![AskedLine::default(); 17]))), ["/lines"]);
    }

    #[test]
    fn a_sale_with_two_pools_wants_one_named() {
        assert_eq!(pointers(check(&train(), &Ask::Quantity(1))), ["/pool"]);
    }
}
