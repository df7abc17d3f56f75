//! Which trace a request belongs to, as W3C Trace Context writes it: the headers `traceparent` and `tracestate`.
//!
//! Level 1 is spoken, the flag that level 2 added is kept, and of a higher version is read what this one knows. What is malformed is no
//! context, and never an error: a trace is nobody's reason to refuse a buyer.

use std::fmt;
use std::sync::Arc;

/// Nothing longer is read. Version 00 has 55 bytes; later ones may be longer.
const MOST_PARENT: usize = 256;
/// Bytes of a `tracestate` that are passed on, as many as the standard wants at least. Members that do not fit are left out, the last first.
const MOST_STATE: usize = 512;
/// Members of a `tracestate`, at most.
const MOST_MEMBERS: usize = 32;
/// Bytes of a member's key and of its value, at most.
const MOST_WORD: usize = 256;

/// The parts of a `traceparent`: version, trace, parent, flags.
const VERSION: usize = 2;
const TRACE: usize = 32;
const SPAN: usize = 16;
const LENGTH: usize = VERSION + 1 + TRACE + 1 + SPAN + 1 + 2;

const SAMPLED: u8 = 1;
/// Of level 2: the trace's id was drawn at random.
const RANDOM: u8 = 2;

/// A trace; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// A piece of work of a trace; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

/// A place in a trace: the span that is the parent of what comes next. Written as a `traceparent`.
#[derive(Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub trace: TraceId,
    pub span: SpanId,
    flags: u8,
    /// The members of a `tracestate`, checked.
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// Where a trace begins that is recorded, and whose id was drawn at random.
    pub fn root(trace: TraceId, span: SpanId) -> Self {
        Self { trace, span, flags: SAMPLED | RANDOM, state: None }
    }

    /// Reads a `traceparent` and what came with it as `tracestate`. A wrong state is left out; a wrong parent makes it `None`.
    pub fn read<'a>(parent: &[u8], states: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let (version, known) = (parent.get(..VERSION)?, parent.get(..LENGTH)?);
        let is_later = version != b"00";
        let rest = &parent[LENGTH..];
        let fits =
            parent.len() <= MOST_PARENT && if is_later { matches!(rest, [] | [b'-', ..]) } else { rest.is_empty() };
        let mut parts = known.split(|byte| *byte == b'-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version] = digits(version)?;
        let (trace, span, [flags]) = (digits(trace)?, digits(span)?, digits(flags)?);
        if !fits || version == 0xff || trace == [0; 16] || span == [0; 8] {
            return None;
        }
        let flags = flags & if is_later { SAMPLED } else { SAMPLED | RANDOM };
        Some(Self { trace: TraceId(trace), span: SpanId(span), flags, state: state(states) })
    }

    /// The same trace, below this span.
    pub fn below(&self, span: SpanId) -> Self {
        Self { span, ..self.clone() }
    }

    /// Did whoever was before say that this trace is recorded?
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// What stands in `tracestate`.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} {:?}", self.state)
    }
}

macro_rules! in_hex {
    ($($name:ident: $digits:literal),+) => {
        $(
            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    let mut digits = [0; $digits];
                    hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
                    f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, "{self}")
                }
            }
        )+
    };
}

in_hex!(TraceId: 32, SpanId: 16);

/// So many bytes, each of two hexadecimal digits in small letters.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let small = text.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    (small && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// One `tracestate` of all that came, or none if anything in it is wrong.
fn state<'a>(states: impl IntoIterator<Item = &'a [u8]>) -> Option<Arc<str>> {
    let mut kept = String::new();
    let mut keys: Vec<&[u8]> = Vec::new();
    let members = states.into_iter().flat_map(|state| state.split(|byte| *byte == b','));
    for member in members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
        let at = member.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&member[..at], &member[at + 1..]);
        if !is_key(key) || !is_value(value) || keys.contains(&key) || keys.len() == MOST_MEMBERS {
            return None;
        }
        keys.push(key);
        let comma = usize::from(!kept.is_empty());
        if kept.len() + comma + member.len() <= MOST_STATE {
            kept.push_str(if kept.is_empty() { "" } else { "," });
            kept.push_str(std::str::from_utf8(member).ok()?);
        }
    }
    (!kept.is_empty()).then(|| kept.into())
}

fn is_key(key: &[u8]) -> bool {
    let begins = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let goes_on = |byte: &u8| begins(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@');
    key.first().is_some_and(begins) && key.len() <= MOST_WORD && key.iter().all(goes_on)
}

fn is_value(value: &[u8]) -> bool {
    let fits = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    (1..=MOST_WORD).contains(&value.len()) && value.iter().all(fits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of the standard.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(parent: &str, states: &[&str]) -> Option<TraceContext> {
        TraceContext::read(parent.as_bytes(), states.iter().map(|state| state.as_bytes()))
    }

    fn kept(states: &[&str]) -> Option<String> {
        read(EXAMPLE, states).expect("the parent is right").state().map(ToOwned::to_owned)
    }

    #[test]
    fn the_examples_of_the_standard_are_read() {
        let sampled = read(EXAMPLE, &[]).unwrap();
        assert_eq!(sampled.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(sampled.span.to_string(), "00f067aa0ba902b7");
        assert!(sampled.is_sampled());
        assert_eq!(sampled.to_string(), EXAMPLE);
        let not = read("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", &[]).unwrap();
        assert!(!not.is_sampled());
        assert_eq!(
            kept(&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"]).unwrap(),
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
        );
        assert_eq!(kept(&["rojo=1", "congo=2"]).unwrap(), "rojo=1,congo=2", "several headers are one list");
        assert_eq!(kept(&["fw529a3039@dt=FfAAA,,  foo=1\t, "]).unwrap(), "fw529a3039@dt=FfAAA,foo=1");
    }

    #[test]
    fn the_flag_of_level_two_is_kept_and_those_of_nobody_are_not() {
        let passed_on = |parent: &str| read(parent, &[]).unwrap().to_string();
        assert_eq!(passed_on(&EXAMPLE.replace("-01", "-03")), EXAMPLE.replace("-01", "-03"));
        assert_eq!(passed_on(&EXAMPLE.replace("-01", "-ff")), EXAMPLE.replace("-01", "-03"));
    }

    #[test]
    fn of_a_later_version_is_read_what_this_one_knows() {
        let later = EXAMPLE.replacen("00", "cc", 1).replace("-01", "-03");
        for tail in ["", "-", "-what-the-future-will-be-like"] {
            assert_eq!(read(&format!("{later}{tail}"), &[]).unwrap().to_string(), EXAMPLE, "{tail}");
        }
        for tail in [".what-the-future", "0", " "] {
            assert_eq!(read(&format!("{later}{tail}"), &[]), None, "{tail}");
        }
        assert_eq!(read(&format!("{later}-{}", "x".repeat(MOST_PARENT)), &[]), None, "it is too long");
    }

    #[test]
    fn what_is_malformed_is_no_context() {
        let odd = [
            String::new(),
            "00".to_owned(),
            EXAMPLE.to_uppercase(),
            EXAMPLE.replacen("00", "ff", 1),
            EXAMPLE.replacen("00", "0x", 1),
            format!("{EXAMPLE}-extra"),
            format!(" {EXAMPLE}"),
            format!("{EXAMPLE}\n"),
            EXAMPLE[..LENGTH - 1].to_owned(),
            EXAMPLE.replace('-', "_"),
            EXAMPLE.replacen('4', "-", 1),
            EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(TRACE)),
            EXAMPLE.replace("00f067aa0ba902b7", &"0".repeat(SPAN)),
            EXAMPLE.replace("00f067aa0ba902b7", "00f067aa0ba902bg"),
            EXAMPLE.replace("-01", "-0 "),
        ];
        for odd in odd {
            assert_eq!(read(&odd, &[]), None, "{odd:?}");
        }
    }

    #[test]
    fn a_state_that_is_wrong_is_left_out_and_the_parent_stays() {
        for odd in ["foo", "=1", "foo=", "Foo=1", "foo=1=2", "foo=\u{e9}", "foo=1,foo=2", "foo bar=1", "_a=1"] {
            assert_eq!(kept(&[odd]), None, "{odd:?}");
        }
        assert_eq!(kept(&[&format!("{}=1", "k".repeat(MOST_WORD + 1))]), None);
        assert_eq!(kept(&[&format!("k={}", "v".repeat(MOST_WORD + 1))]), None);
        let members = |count: usize| (0..count).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
        assert_eq!(kept(&[&members(MOST_MEMBERS)]), Some(members(MOST_MEMBERS)));
        assert_eq!(kept(&[&members(MOST_MEMBERS + 1)]), None);
    }

    #[test]
    fn members_that_do_not_fit_are_left_out_whole() {
        let long = |key: &str, length: usize| format!("{key}={}", "v".repeat(length));
        let fits = format!("{},{}", long("a", 250), long("b", 200));
        assert_eq!(kept(&[&format!("{fits},{},d=1", long("c", 100))]), Some(format!("{fits},d=1")));
    }

    #[test]
    fn what_is_below_a_span_is_of_the_same_trace() {
        let parent = read(EXAMPLE, &["rojo=1"]).unwrap();
        let below = parent.below(SpanId([7; 8]));
        assert_eq!(below.to_string(), EXAMPLE.replace("00f067aa0ba902b7", "0707070707070707"));
        assert_eq!(below.state(), Some("rojo=1"));
        assert_eq!(TraceContext::root(TraceId([1; 16]), SpanId([7; 8])).flags(), SAMPLED | RANDOM);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it_and_what_it_reads_it_reads_again(
            parent in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..80),
                "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[a-z-]{0,9})?".prop_map(String::into_bytes),
            ],
            states in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..80),
                "([a-z0-9@]{1,9}=[!-+./-<>-~]{1,200},? ?){0,9}".prop_map(String::into_bytes),
            ], 0..4),
        ) {
            if let Some(context) = TraceContext::read(&parent, states.iter().map(Vec::as_slice)) {
                let written = context.to_string();
                prop_assert_eq!(written.len(), LENGTH);
                prop_assert!(context.state().is_none_or(|state| state.len() <= MOST_STATE));
                let state = context.state().map(str::as_bytes);
                prop_assert_eq!(TraceContext::read(written.as_bytes(), state), Some(context.clone()));
            }
        }
    }
}
