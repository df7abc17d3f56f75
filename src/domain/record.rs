//! The text form of an order: one line, the same in the inventory's record, its outbox and the queue's messages.
//!
//! ```text
//! {id} {fingerprint} {sale} {buyer} {granted_at} {pay_by} {amount} {currency} {line}[,{line}…]
//! line = {pool}/{from}/{to}/{quantity}/{passenger or -}/{seat or -}
//! ```
//!
//! Text and not JSON, since the Lua scripts take it apart with one pattern, an operator can read it in `redis-cli`, and it is
//! a third of the size. Names cannot contain the separators (see [`crate::domain::id`]). Fields are only ever added at the end.

use crate::domain::id::{Fingerprint, NOBODY, OrderId};
use crate::domain::money::Money;
use crate::domain::order::{Line, Order};
use crate::domain::sale::Legs;
use crate::domain::time::UnixMillis;

/// The text is no order's record: which field, and the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad order record: {field} in {text:?}")]
pub struct BadRecord {
    pub field: &'static str,
    pub text: String,
}

/// Appends the order's record, without a line end.
pub fn write(order: &Order, out: &mut String) {
    out.push_str(order.id.digits().as_str());
    out.push(' ');
    write_without_id(order, out);
}

/// The same from the fingerprint on. It is written twice for every order, and half as fast with the general formatter.
pub fn write_without_id(order: &Order, out: &mut String) {
    let mut fingerprint = [0; 16];
    hex::encode_to_slice(order.fingerprint.0.to_be_bytes(), &mut fingerprint).expect("8 bytes have 16 digits");
    out.push_str(std::str::from_utf8(&fingerprint).expect("hexadecimal digits are text"));
    let mut digits = itoa::Buffer::new();
    let mut number = |out: &mut String, number: i64| {
        out.push(' ');
        out.push_str(digits.format(number));
    };
    out.push(' ');
    out.push_str(order.sale.as_str());
    out.push(' ');
    out.push_str(order.buyer.as_str());
    number(out, order.granted_at.0);
    number(out, order.pay_by.0);
    number(out, order.price.amount);
    out.push(' ');
    out.push_str(order.price.currency.as_str());
    out.push(' ');
    write_lines(&order.lines, out);
}

/// Appends the lines of an order as text.
pub fn write_lines(lines: &[Line], out: &mut String) {
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let passenger = line.passenger.as_ref().map_or(NOBODY, |passenger| passenger.as_str());
        let seat = line.seat.map_or(NOBODY, |seat| seat.as_str());
        let mut digits = itoa::Buffer::new();
        out.push_str(line.pool.as_str());
        for number in [u32::from(line.legs.from), u32::from(line.legs.to), line.quantity] {
            out.push('/');
            out.push_str(digits.format(number));
        }
        for text in [passenger, seat] {
            out.push('/');
            out.push_str(text);
        }
    }
}

/// Reads the record of one order.
pub fn parse(text: &str) -> Result<Order, BadRecord> {
    let mut fields = text.split(' ');
    let mut next = |field| fields.next().ok_or_else(|| bad(field, text));
    Ok(Order {
        id: parsed::<OrderId>(next("id")?, "id", text)?,
        fingerprint: Fingerprint(u64::from_str_radix(next("fingerprint")?, 16).map_err(|_| bad("fingerprint", text))?),
        sale: parsed(next("sale")?, "sale", text)?,
        buyer: parsed(next("buyer")?, "buyer", text)?,
        granted_at: UnixMillis(parsed(next("granted_at")?, "granted_at", text)?),
        pay_by: UnixMillis(parsed(next("pay_by")?, "pay_by", text)?),
        price: Money {
            amount: parsed(next("amount")?, "amount", text)?,
            currency: parsed(next("currency")?, "currency", text)?,
        },
        lines: parse_lines(next("lines")?)?,
    })
}

/// Reads the lines of an order; at least one.
pub fn parse_lines(text: &str) -> Result<Vec<Line>, BadRecord> {
    text.split(',').map(parse_line).collect()
}

fn parse_line(text: &str) -> Result<Line, BadRecord> {
    let mut fields = text.split('/');
    let mut next = |field| fields.next().ok_or_else(|| bad(field, text));
    let line = Line {
        pool: parsed(next("pool")?, "pool", text)?,
        legs: Legs { from: parsed(next("from")?, "from", text)?, to: parsed(next("to")?, "to", text)? },
        quantity: parsed(next("quantity")?, "quantity", text)?,
        passenger: present(next("passenger")?).map(|name| parsed(name, "passenger", text)).transpose()?,
        seat: present(next("seat")?).map(|name| parsed(name, "seat", text)).transpose()?,
    };
    if line.legs.from >= line.legs.to || line.quantity == 0 {
        return Err(bad("legs or quantity", text));
    }
    Ok(line)
}

fn present(text: &str) -> Option<&str> {
    (text != NOBODY).then_some(text)
}

fn parsed<T: std::str::FromStr>(part: &str, field: &'static str, text: &str) -> Result<T, BadRecord> {
    part.parse().map_err(|_| bad(field, text))
}

fn bad(field: &'static str, text: &str) -> BadRecord {
    BadRecord { field, text: text.chars().take(200).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::Currency;
    use crate::domain::order::SeatPreference;

    fn order() -> Order {
        let line = Line {
            pool: "second".parse().unwrap(),
            legs: Legs { from: 0, to: 3 },
            quantity: 1,
            passenger: Some("p-1".parse().unwrap()),
            seat: Some(SeatPreference::Window),
        };
        Order {
            id: OrderId([0xab; 16]),
            fingerprint: Fingerprint(0x0123),
            sale: "g1-2026-11-21".parse().unwrap(),
            buyer: "auth0|7,/".parse().unwrap(),
            granted_at: UnixMillis(1),
            pay_by: UnixMillis(2),
            price: Money { amount: 55350, currency: Currency::CNY },
            lines: vec![line.clone(), Line { passenger: None, seat: None, quantity: 2, ..line }],
        }
    }

    #[test]
    fn a_record_reads_back_what_it_writes() {
        let mut text = String::new();
        write(&order(), &mut text);
        assert_eq!(
            text,
            "abababababababababababababababab 0000000000000123 g1-2026-11-21 auth0|7,/ 1 2 55350 CNY \
             second/0/3/1/p-1/window,second/0/3/2/-/-"
        );
        assert_eq!(parse(&text), Ok(order()));
    }

    #[test]
    fn fields_that_a_later_version_adds_are_passed_over() {
        let mut text = String::new();
        write(&order(), &mut text);
        text.push_str(" and more");
        assert_eq!(parse(&text), Ok(order()));
    }

    #[test]
    fn a_broken_record_says_which_field() {
        let mut text = String::new();
        write(&order(), &mut text);
        assert_eq!(parse(&text.replace("55350", "x")).unwrap_err().field, "amount");
        assert_eq!(parse("").unwrap_err().field, "id");
        assert_eq!(parse_lines("second/3/3/1/-/-").unwrap_err().field, "legs or quantity");
        assert_eq!(parse_lines("second/0/1/0/-/-").unwrap_err().field, "legs or quantity");
    }
}
