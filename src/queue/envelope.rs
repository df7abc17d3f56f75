//! What goes over the wire: a header line, then one [record] per order.
//!
//! ```text
//! rushgate/1 orders p0.e1 {outbox ids with commas between, or -}
//! {order record}
//! …
//! ```
//!
//! or, from a recovery, `rushgate/1 barrier p0.e2 {lane}`.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::domain::record;
use crate::domain::{Epoch, Order, OutboxId, Partition, Scope};
use crate::queue::traces::Traces;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    pub scope: Scope,
    pub content: Content,
    /// Of its orders. They are no part of its bytes, and travel beside them.
    pub traces: Traces,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Orders {
        /// The entries that can go once these orders are stored; none for orders that are sent again for a replay.
        outbox: Vec<OutboxId>,
        orders: Vec<Arc<Order>>,
    },
    /// All that a lane got before this is stored once this is.
    Barrier { lane: u16 },
}

/// The bytes are no message of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a message: {0}")]
pub struct BadEnvelope(pub String);

/// The number that a barrier of the catch-all has; no lane has it.
pub const CATCH_ALL: u16 = u16::MAX;

const FORMAT: &str = "rushgate/1";

impl Envelope {
    pub fn orders(
        scope: Scope,
        outbox: impl IntoIterator<Item = OutboxId>,
        orders: impl IntoIterator<Item = impl Into<Arc<Order>>>,
    ) -> Self {
        let (outbox, orders) = (outbox.into_iter().collect(), orders.into_iter().map(Into::into).collect());
        Self { scope, content: Content::Orders { outbox, orders }, traces: Traces::default() }
    }

    pub fn barrier(scope: Scope, lane: u16) -> Self {
        Self { scope, content: Content::Barrier { lane }, traces: Traces::default() }
    }

    /// With the traces of its orders.
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut text = String::new();
        let Scope { partition, epoch } = self.scope;
        // Writing to a String cannot fail.
        match &self.content {
            Content::Barrier { lane } => {
                let _ = write!(text, "{FORMAT} barrier p{partition}.e{epoch} {lane}");
            }
            Content::Orders { outbox, orders } => {
                text.reserve(64 + orders.len() * 160);
                let _ = write!(text, "{FORMAT} orders p{partition}.e{epoch} ");
                for (at, id) in outbox.iter().enumerate() {
                    let _ = write!(text, "{}{id}", if at == 0 { "" } else { "," });
                }
                if outbox.is_empty() {
                    text.push('-');
                }
                for order in orders {
                    text.push('\n');
                    record::write(order, &mut text);
                }
            }
        }
        text.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, BadEnvelope> {
        let text = std::str::from_utf8(bytes).map_err(|_| BadEnvelope("not UTF-8".to_owned()))?;
        let mut lines = text.split('\n');
        let header = lines.next().unwrap_or_default();
        let bad = || BadEnvelope(format!("header {:?}", header.chars().take(100).collect::<String>()));
        let [FORMAT, kind, scope, argument] = header.split(' ').collect::<Vec<_>>()[..] else {
            return Err(bad());
        };
        let scope = parse_scope(scope).ok_or_else(bad)?;
        let content = match kind {
            "barrier" => Content::Barrier { lane: argument.parse().map_err(|_| bad())? },
            "orders" => Content::Orders {
                outbox: match argument {
                    "-" => Vec::new(),
                    ids => ids.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| bad())?,
                },
                orders: lines
                    .map(|line| record::parse(line).map(Arc::new))
                    .collect::<Result<_, _>>()
                    .map_err(|e| BadEnvelope(e.to_string()))?,
            },
            _ => return Err(bad()),
        };
        Ok(Self { scope, content, traces: Traces::default() })
    }
}

fn parse_scope(text: &str) -> Option<Scope> {
    let (partition, epoch) = text.strip_prefix('p')?.split_once(".e")?;
    Some(Scope { partition: Partition(partition.parse().ok()?), epoch: Epoch(epoch.parse().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope = Scope { partition: Partition(3), epoch: Epoch(7) };
    const RECORD: &str = "abababababababababababababababab 0000000000000123 s b 1 2 55350 CNY second/0/3/1/p-1/window";

    #[test]
    fn orders_arrive_as_they_were_sent() {
        let order = Arc::new(record::parse(RECORD).unwrap());
        for (ids, written) in [(vec![], "-"), (vec!["1-0"], "1-0"), (vec!["1-0", "2-0"], "1-0,2-0")] {
            let outbox = ids.into_iter().map(|id| id.parse().unwrap());
            let envelope = Envelope::orders(SCOPE, outbox, vec![Arc::clone(&order), Arc::clone(&order)]);
            let bytes = envelope.encode();
            let expected = format!("rushgate/1 orders p3.e7 {written}\n{RECORD}\n{RECORD}");
            assert_eq!(String::from_utf8_lossy(&bytes), expected);
            assert_eq!(Envelope::decode(&bytes), Ok(envelope));
        }
    }

    #[test]
    fn a_barrier_arrives_as_it_was_sent() {
        let barrier = Envelope::barrier(SCOPE, 2);
        assert_eq!(Envelope::decode(&barrier.encode()), Ok(barrier));
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_reason() {
        for odd in [
            "",
            "hello",
            "rushgate/2 orders p3.e7 -",
            "rushgate/1 orders 3.7 -",
            "rushgate/1 orders p3.e7 -\nx",
            "rushgate/1 orders p3.e7 1-0,",
            "\u{0}",
        ] {
            assert!(Envelope::decode(odd.as_bytes()).is_err(), "{odd:?}");
        }
        assert!(Envelope::decode(&[0xff]).is_err());
    }
}
