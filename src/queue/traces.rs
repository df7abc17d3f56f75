//! The traces that orders of a message belong to. They travel beside the message, so that who knows nothing of them reads it as ever.
//!
//! Only traces that are recorded travel, and only so many: one line for each, `{order} {traceparent} {tracestate, if any}`. What does not
//! fit, or is relayed from the outbox, or is replayed from the dead letters, is stored without its trace.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::domain::{OrderId, TraceContext};

/// Bytes of all lines: they fit into the smallest frame that a broker may ask for.
const MOST_BYTES: usize = 3 * 1024;

/// Orders and their traces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces(Vec<(OrderId, Arc<TraceContext>)>);

impl Traces {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn of(&self, order: OrderId) -> Option<&TraceContext> {
        self.0.iter().find(|(known, _)| *known == order).map(|(_, context)| &**context)
    }

    pub fn contexts(&self) -> impl Iterator<Item = &TraceContext> {
        self.0.iter().map(|(_, context)| &**context)
    }

    /// Keeps those of these orders.
    pub fn retain(&mut self, is_kept: impl Fn(OrderId) -> bool) {
        self.0.retain(|(order, _)| is_kept(*order));
    }

    /// Takes those of another message in.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// As they travel; `None` if there is nothing to tell.
    pub fn encode(&self) -> Option<String> {
        let mut text = String::new();
        for (order, context) in self.0.iter().filter(|(_, context)| context.is_sampled()) {
            let before = text.len();
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{order} {context}", if before == 0 { "" } else { "\n" });
            if let Some(state) = context.state() {
                let _ = write!(text, " {state}");
            }
            if text.len() > MOST_BYTES {
                text.truncate(before);
                break;
            }
        }
        (!text.is_empty()).then_some(text)
    }

    /// Reads what came. Lines that say nothing are left out, and so is all that is too long: no order is lost for its trace.
    pub fn decode(text: &str) -> Self {
        if text.len() > MOST_BYTES {
            return Self::default();
        }
        Self(text.lines().filter_map(line).collect())
    }
}

fn line(line: &str) -> Option<(OrderId, Arc<TraceContext>)> {
    // A state may have spaces in it.
    let mut parts = line.splitn(3, ' ');
    let (order, parent, state) = (parts.next()?.parse().ok()?, parts.next()?, parts.next());
    Some((order, Arc::new(TraceContext::read(parent.as_bytes(), state.map(str::as_bytes))?)))
}

impl FromIterator<(OrderId, Arc<TraceContext>)> for Traces {
    fn from_iter<I: IntoIterator<Item = (OrderId, Arc<TraceContext>)>>(traces: I) -> Self {
        Self(traces.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn context(parent: &str, state: Option<&str>) -> Arc<TraceContext> {
        Arc::new(TraceContext::read(parent.as_bytes(), state.map(str::as_bytes)).expect("a context"))
    }

    fn many(count: u8, state: Option<&str>) -> Traces {
        (0..count).map(|n| (OrderId([n; 16]), context(PARENT, state))).collect()
    }

    #[test]
    fn traces_arrive_as_they_were_sent() {
        let traces: Traces =
            [(OrderId([1; 16]), context(PARENT, None)), (OrderId([2; 16]), context(PARENT, Some("a=b c,d=e")))]
                .into_iter()
                .collect();
        let text = traces.encode().unwrap();
        assert_eq!(text, format!("{} {PARENT}\n{} {PARENT} a=b c,d=e", "01".repeat(16), "02".repeat(16)));
        assert_eq!(Traces::decode(&text), traces);
        assert_eq!(traces.of(OrderId([2; 16])).unwrap().state(), Some("a=b c,d=e"));
        assert_eq!(traces.of(OrderId([3; 16])), None);
    }

    #[test]
    fn only_what_is_recorded_travels() {
        let quiet: Traces = [(OrderId([1; 16]), context(&PARENT.replace("-01", "-00"), None))].into_iter().collect();
        assert_eq!((quiet.encode(), Traces::default().encode()), (None, None));
    }

    #[test]
    fn however_many_there_are_they_fit() {
        for (state, least) in [(None, 30), (Some(&*format!("k={}", "v".repeat(250))), 8)] {
            let text = many(200, state).encode().unwrap();
            assert!(text.len() <= MOST_BYTES, "{}", text.len());
            let arrived = Traces::decode(&text);
            assert!(arrived.contexts().count() >= least);
            assert!(arrived.contexts().all(|context| *context == *many(1, state).0[0].1), "none is cut");
        }
    }

    #[test]
    fn what_is_no_trace_is_left_out() {
        let one = many(1, None);
        let text = one.encode().unwrap();
        for odd in ["", "hello", &*format!("xx {PARENT}"), &*format!("{} {PARENT}x", "01".repeat(16)), "\u{0}"] {
            assert_eq!(Traces::decode(&format!("{odd}\n{text}\n{odd}")), one, "{odd:?}");
        }
        assert_eq!(Traces::decode(&"x".repeat(MOST_BYTES + 1)), Traces::default());
    }
}
