//! The texts that Redis holds and answers, and what they mean.

use std::fmt::Write as _;

use redis::Value;

use crate::domain::{
    Claim, NodeId, Order, OrderHint, OrderId, OrderStatus, OutboxId, Refusal, Sale, SaleDocument, SaleId, SaleState,
    UnixMillis, record,
};
use crate::inventory::footprint::LegKey;
use crate::inventory::redis::keys;
use crate::inventory::{
    Changes, Confirmed, Defined, Fault, KnownOrder, LegStock, NodeBeat, OutboxEntry, Revived, Verdict,
};

/// How long the text of an order id is, and with the units how long a person's part is.
const ID: usize = 32;
const PART: usize = 34;

/// What the scripts keep of a sale: `state opens closes per_buyer per_passenger version`.
pub(super) fn header(sale: &Sale) -> String {
    let state = match sale.state {
        SaleState::Active => 'A',
        SaleState::Paused => 'P',
        SaleState::Closed => 'C',
    };
    let instant = |at: Option<UnixMillis>| at.map_or_else(|| "-".to_owned(), |at| at.0.to_string());
    format!(
        "{state} {} {} {} {} {}",
        instant(sale.opens_at),
        instant(sale.closes_at),
        sale.limits.per_buyer,
        sale.limits.per_passenger,
        sale.version
    )
}

pub(super) fn document(sale: &Sale) -> String {
    serde_json::to_string(&SaleDocument::from(sale)).expect("a document has text keys only")
}

/// What is kept of an order: the letter of its status, and its record without the id, which is the field's name.
pub(super) fn record(order: &Order, status: OrderStatus) -> String {
    let mut text = String::with_capacity(192);
    write_record(order, status, &mut text);
    text
}

pub(super) fn write_record(order: &Order, status: OrderStatus, out: &mut String) {
    out.push(status.letter());
    record::write_without_id(order, out);
}

/// `capacity free held sold`
pub(super) fn counter(stock: &LegStock) -> String {
    let capacity = stock.free + stock.held + stock.sold;
    format!("{capacity} {} {} {}", stock.free, stock.held, stock.sold)
}

/// A person's orders with their units.
pub(super) fn entry(orders: &[(OrderId, u32)]) -> String {
    let mut text = String::with_capacity(PART * orders.len());
    for (id, units) in orders {
        // Writing to a String cannot fail.
        let _ = write!(text, "{id}{units:02x}");
    }
    text
}

/// What stands for the name of a sale where a part of a page is granted orders.
const GRANTED: &str = "#";

/// The answer of a script, taken apart from the front.
#[derive(Debug)]
pub(super) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    /// Reads `ok`, or why the scope is fenced.
    pub(super) fn of(value: Value) -> Result<Self, Fault> {
        let Value::Array(items) = value else { return Err(unreadable("not a list")) };
        let mut reply = Self(items.into_iter());
        match reply.text()?.as_str() {
            "ok" => Ok(reply),
            "fenced" => Err(Fault::Fenced(reply.text()?)),
            other => Err(unreadable(other)),
        }
    }

    fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    fn text(&mut self) -> Result<String, Fault> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => String::from_utf8(bytes).map_err(|_| unreadable("not UTF-8")),
            Some(Value::SimpleString(text)) => Ok(text),
            Some(Value::Okay) => Ok("OK".to_owned()),
            Some(Value::Int(number)) => Ok(number.to_string()),
            Some(other) => Err(unreadable(&format!("{other:?}"))),
            None => Err(unreadable("too short")),
        }
    }

    fn parsed<T: std::str::FromStr>(&mut self) -> Result<T, Fault> {
        let text = self.text()?;
        text.parse().map_err(|_| unreadable(&text))
    }

    pub(super) fn confirmed(mut self, claims: &[Claim], legs: Vec<LegKey>) -> Result<Confirmed, Fault> {
        let outbox = self.text()?;
        let outbox = if outbox.is_empty() { None } else { Some(outbox.parse().map_err(|_| unreadable(&outbox))?) };
        let version = self.parsed()?;
        let letters = self.text()?;
        if letters.len() != claims.len() {
            return Err(unreadable(&letters));
        }
        let mut verdicts = Vec::with_capacity(claims.len());
        for (claim, letter) in claims.iter().zip(letters.chars()) {
            // What is to be said of it stands behind, for those of whom there is something.
            let about = if matches!(letter, 'K' | 'N' | 'L') { self.text()? } else { String::new() };
            verdicts.push(verdict(claim.order.id, letter, &about)?);
        }
        let mut stock = Vec::with_capacity(legs.len());
        for leg in legs {
            let text = self.text()?;
            if !text.is_empty() {
                stock.push(leg_stock(leg, &text)?);
            }
        }
        Ok(Confirmed { version, verdicts, outbox, stock })
    }

    pub(super) fn revived(mut self) -> Result<Revived, Fault> {
        match self.text()?.as_str() {
            "taken" => Ok(Revived::Taken),
            "refused" => Ok(Revived::Refused),
            other => Err(unreadable(other)),
        }
    }

    pub(super) fn defined(mut self) -> Result<Defined, Fault> {
        match self.text()?.as_str() {
            "applied" => Ok(Defined::Applied),
            "not_newer" => Ok(Defined::NotNewer),
            "in_use" => {
                let field = self.text()?;
                let key = keys::parse_counter(&field).ok_or_else(|| unreadable(&field))?;
                Ok(Defined::InUse { pool: key.pool, leg: key.leg, live: self.parsed()? })
            }
            other => Err(unreadable(other)),
        }
    }

    /// Adds a page to what changed, and tells whether there is another.
    pub(super) fn changes(mut self, changes: &mut Changes) -> Result<bool, Fault> {
        changes.version = self.parsed()?;
        let more = self.text()? == "1";
        while !self.is_empty() {
            let (name, text) = (self.text()?, self.text()?);
            match keys::parse_counter(&name) {
                Some(key) => changes.stock.push(leg_stock(key, &text)?),
                None if name == GRANTED => changes.granted.extend(hints(&text)?),
                None => changes.sales.push(sale(&name, &text)?),
            }
        }
        Ok(more)
    }

    pub(super) fn stock(mut self) -> Result<Vec<LegStock>, Fault> {
        let mut stock = Vec::new();
        while !self.is_empty() {
            let (field, text) = (self.text()?, self.text()?);
            stock.push(leg_stock(keys::parse_counter(&field).ok_or_else(|| unreadable(&field))?, &text)?);
        }
        Ok(stock)
    }

    pub(super) fn order(mut self, id: OrderId) -> Result<Option<KnownOrder>, Fault> {
        if self.is_empty() { Ok(None) } else { known(id, &self.text()?).map(Some) }
    }

    pub(super) fn orders(mut self) -> Result<(Vec<KnownOrder>, Option<String>), Fault> {
        let cursor = self.text()?;
        Ok((self.orders_of()?, (cursor != "0").then_some(cursor)))
    }

    pub(super) fn orders_of(mut self) -> Result<Vec<KnownOrder>, Fault> {
        let mut orders = Vec::new();
        while !self.is_empty() {
            orders.push(known(self.parsed()?, &self.text()?)?);
        }
        Ok(orders)
    }

    pub(super) fn outbox(mut self) -> Result<Vec<OutboxEntry>, Fault> {
        let mut entries = Vec::new();
        while !self.is_empty() {
            let (id, ids) = (self.parsed::<OutboxId>()?, order_ids(&self.text()?, ID)?);
            let mut orders = Vec::with_capacity(ids.len());
            for id in ids {
                let record = self.text()?;
                // Only a salvage meets one that is lost.
                if !record.is_empty() {
                    orders.push(known(id, &record)?.order);
                }
            }
            entries.push(OutboxEntry { id, orders });
        }
        Ok(entries)
    }

    pub(super) fn number(mut self) -> Result<u64, Fault> {
        self.parsed()
    }

    pub(super) fn nodes(mut self) -> Result<Vec<NodeBeat>, Fault> {
        let mut nodes = Vec::new();
        while !self.is_empty() {
            nodes.push(NodeBeat { node: self.parsed::<NodeId>()?, weight: self.parsed()?, status: self.text()? });
        }
        nodes.sort_by(|one, other| one.node.cmp(&other.node));
        Ok(nodes)
    }
}

fn verdict(id: OrderId, letter: char, about: &str) -> Result<Verdict, Fault> {
    Ok(Verdict::Refused(match letter {
        'G' => return Ok(Verdict::Granted),
        'K' => return Ok(Verdict::Known(known(id, about)?)),
        'R' => Refusal::KeyReused,
        'U' => Refusal::UnknownSale,
        'N' => Refusal::NotOpen {
            opens_at: if about == "-" { None } else { Some(UnixMillis(about.parse().map_err(|_| unreadable(about))?)) },
        },
        'P' => Refusal::Paused,
        'C' => Refusal::Closed,
        'L' => Refusal::LimitReached { orders: order_ids(about, PART)? },
        'S' => Refusal::SoldOut,
        'A' => Refusal::AllHeld { next_release_at: None },
        odd => return Err(unreadable(&odd.to_string())),
    }))
}

/// The order ids at the heads of parts of one length.
fn order_ids(text: &str, part: usize) -> Result<Vec<OrderId>, Fault> {
    let id = |start| text.get(start..start + ID).and_then(|id: &str| id.parse().ok()).ok_or_else(|| unreadable(text));
    (0..text.len()).step_by(part).map(id).collect()
}

fn known(id: OrderId, text: &str) -> Result<KnownOrder, Fault> {
    let status = text.chars().next().and_then(OrderStatus::from_letter).ok_or_else(|| unreadable(text))?;
    let order = record::parse(&format!("{id} {}", &text[1..])).map_err(|error| unreadable(&error.to_string()))?;
    Ok(KnownOrder { order, status })
}

fn sale(id: &str, document: &str) -> Result<Sale, Fault> {
    let id: SaleId = id.parse().map_err(|_| unreadable(id))?;
    let parsed: SaleDocument =
        serde_json::from_str(document).map_err(|error| unreadable(&format!("sale {id}: {error}")))?;
    parsed.into_sale(id.clone()).map_err(|wrong| unreadable(&format!("sale {id}: {wrong:?}")))
}

fn leg_stock(key: LegKey, text: &str) -> Result<LegStock, Fault> {
    let mut numbers = text.split(' ').skip(1).map(|number| number.parse().map_err(|_| unreadable(text)));
    let mut next = || numbers.next().unwrap_or_else(|| Err(unreadable(text)));
    let (free, held, sold) = (next()?, next()?, next()?);
    Ok(LegStock { sale: key.sale, pool: key.pool, leg: key.leg, free, held, sold })
}

/// The move was made, or may have been, but what it answered is not understood: a newer version may have written it.
fn hints(text: &str) -> Result<Vec<OrderHint>, Fault> {
    let hint = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse().ok();
    text.as_bytes().chunks(OrderHint::DIGITS).map(hint).collect::<Option<_>>().ok_or_else(|| unreadable(text))
}

fn unreadable(what: &str) -> Fault {
    Fault::Unknown(format!("the answer cannot be read: {}", what.chars().take(200).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Value {
        Value::Array(texts.iter().map(|text| Value::BulkString(text.as_bytes().to_vec())).collect())
    }

    #[test]
    fn a_fenced_scope_says_why() {
        let fault = Reply::of(texts(&["fenced", "it is not there"])).unwrap_err();
        assert_eq!(fault, Fault::Fenced("it is not there".to_owned()));
    }

    #[test]
    fn an_answer_that_cannot_be_read_may_have_been_a_move() {
        for odd in [texts(&[]), texts(&["maybe"]), Value::Nil, Value::Array(vec![Value::Nil])] {
            assert!(matches!(Reply::of(odd), Err(Fault::Unknown(_))));
        }
        assert!(matches!(Reply::of(texts(&["ok", "many"])).unwrap().number(), Err(Fault::Unknown(_))));
        assert!(matches!(verdict(OrderId([0; 16]), 'X', ""), Err(Fault::Unknown(_))));
        assert!(matches!(verdict(OrderId([0; 16]), 'K', "ü"), Err(Fault::Unknown(_))));
        assert!(matches!(verdict(OrderId([0; 16]), 'L', "ü"), Err(Fault::Unknown(_))));
    }
}
