//! Does a request say twice how long its body is? A pure reading of what comes in.
//!
//! hyper lets `Transfer-Encoding` win over `Content-Length`, forgets the latter, and closes the connection after the answer. That
//! is safe, but the contract says that such a request is malformed, and no handler could see that it is. So the wire reads along:
//! lines of heads, past bodies of a known length, up to the first head that has a `Transfer-Encoding`. After that one the
//! connection is not used again, so there is nothing more to read.
//!
//! The same reading tells a client that is slow in the middle of a head from one that rests between two requests.

/// The longest part of a line that matters: `content-length:` and the digits of a length.
const KEPT: usize = 48;
const ENCODING: &[u8] = b"transfer-encoding";
const LENGTH: &[u8] = b"content-length";
/// Where the value of a length begins.
const VALUE: usize = LENGTH.len() + 1;

/// Where in a connection's input the reading stands.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// The beginning of the current line.
    line: [u8; KEPT],
    kept: usize,
    /// Of the current head, so far.
    lines: u32,
    length: Option<u64>,
    encoded: bool,
    /// A head has ended.
    begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    Done,
}

impl Default for Framing {
    fn default() -> Self {
        Self { state: State::Head, line: [0; KEPT], kept: 0, lines: 0, length: None, encoded: false, begun: false }
    }
}

impl Framing {
    /// Reads on. Returns whether a head has ended that says its length twice.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            if self.state == State::Head && !self.is_mid_head() {
                bytes = without_empty_lines(bytes);
            }
            if bytes.is_empty() {
                return false;
            }
            match self.state {
                State::Done => return false,
                State::Body(left) => {
                    let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[skipped..];
                    let left = left - u64::try_from(skipped).unwrap_or(left);
                    self.state = if left == 0 { State::Head } else { State::Body(left) };
                }
                State::Head
                    if !self.is_mid_head()
                        && let Some(head) = Head::at(bytes) =>
                {
                    bytes = &bytes[head.bytes..];
                    (self.length, self.encoded) = (head.length, head.encoded);
                    if self.end_head() {
                        return true;
                    }
                }
                State::Head => {
                    let Some(end) = memchr::memchr(b'\n', bytes) else {
                        self.keep(bytes);
                        return false;
                    };
                    self.keep(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                    if self.end_line() {
                        return true;
                    }
                }
            }
        }
    }

    /// Has a head begun that has not ended?
    pub(super) fn is_mid_head(&self) -> bool {
        self.state == State::Head && (self.lines > 0 || self.kept > 0)
    }

    /// Is a head awaited that must come soon: the rest of one, or the first?
    pub(super) fn is_urgent(&self) -> bool {
        !self.begun || self.is_mid_head()
    }

    fn keep(&mut self, part: &[u8]) {
        for &byte in part {
            if self.kept == KEPT {
                return;
            }
            // A length is kept, however long the padding before it is.
            if self.kept != VALUE || !is_padding(byte) {
                self.line[self.kept] = byte;
                self.kept += 1;
            }
        }
    }

    fn end_line(&mut self) -> bool {
        let line = &self.line[..self.kept];
        self.kept = 0;
        if is_blank(line) {
            return self.lines > 0 && self.end_head();
        }
        match framing_of(line) {
            Some(Of::Encoding) => self.encoded = true,
            Some(Of::Length(length)) => self.length = Some(length),
            None => {}
        }
        self.lines += 1;
        false
    }

    fn end_head(&mut self) -> bool {
        let twice = self.encoded && self.length.is_some();
        self.state = match self.length {
            _ if self.encoded => State::Done,
            Some(length) if length > 0 => State::Body(length),
            _ => State::Head,
        };
        (self.kept, self.lines, self.length, self.encoded, self.begun) = (0, 0, None, false, true);
        twice
    }
}

/// A head that has come as a whole, as nearly every one does: nothing of it needs to be kept.
struct Head {
    bytes: usize,
    length: Option<u64>,
    encoded: bool,
}

impl Head {
    /// The head at the beginning of these bytes, if its end is there too.
    fn at(bytes: &[u8]) -> Option<Self> {
        let mut head = Self { bytes: 0, length: None, encoded: false };
        for end in memchr::memchr_iter(b'\n', bytes) {
            let line = &bytes[head.bytes..end];
            head.bytes = end + 1;
            if is_blank(line) {
                return Some(head);
            }
            match framing_of(line) {
                Some(Of::Encoding) => head.encoded = true,
                Some(Of::Length(length)) => head.length = Some(length),
                None => {}
            }
        }
        None
    }
}

/// Empty lines before a request are passed over, as hyper does: here, and not with every look for a head behind them.
fn without_empty_lines(mut bytes: &[u8]) -> &[u8] {
    while let [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// What a header says of how its body is framed.
enum Of {
    Encoding,
    Length(u64),
}

fn is_blank(line: &[u8]) -> bool {
    matches!(line, [] | b"\r")
}

/// What may stand before the digits of a length and changes nothing of it.
fn is_padding(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'0')
}

fn framing_of(line: &[u8]) -> Option<Of> {
    // The hyphen tells the two from nearly all others at a look.
    match (line.get(7), line.get(8)) {
        (_, Some(b'-')) if is_named(line, ENCODING) => Some(Of::Encoding),
        (Some(b'-'), Some(b'l' | b'L')) if is_named(line, LENGTH) => {
            let value = line.get(VALUE..).unwrap_or_default().trim_ascii_end();
            let begin = value.iter().position(|byte| !is_padding(*byte)).unwrap_or(value.len());
            let value = &value[begin..];
            // What is no length hyper refuses.
            Some(Of::Length(std::str::from_utf8(value).unwrap_or_default().parse().unwrap_or_default()))
        }
        _ => None,
    }
}

fn is_named(line: &[u8], name: &[u8]) -> bool {
    let Some((begin, rest)) = line.split_at_checked(name.len()) else { return false };
    matches!(rest.first(), None | Some(b':')) && begin.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TWICE: &str =
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n";

    fn twice(input: &str) -> bool {
        Framing::default().read(input.as_bytes())
    }

    #[test]
    fn a_head_that_says_its_length_twice_is_seen() {
        assert!(twice(TWICE));
        assert!(twice("POST / HTTP/1.1\r\ncontent-length: 5\r\nTRANSFER-ENCODING:chunked\r\n\r\n"));
        assert!(twice("\r\n\r\nPOST / HTTP/1.1\ncontent-length:5\ntransfer-encoding: chunked\n\n"));
    }

    #[test]
    fn once_is_enough() {
        assert!(!twice("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
        assert!(!twice("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345"));
        assert!(!twice("GET / HTTP/1.1\r\nX-Content-Length: 5\r\nX: transfer-encoding: chunked\r\n\r\n"));
    }

    #[test]
    fn a_body_is_no_head() {
        let body = "\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n";
        let request = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert!(!twice(&format!("{request}{request}GET / HTTP/1.1\r\n\r\n")));
        assert!(twice(&format!("{request}{request}{TWICE}")));
    }

    #[test]
    fn a_head_is_urgent_that_is_the_first_or_has_begun() {
        let mut framing = Framing::default();
        assert!(framing.is_urgent() && !framing.is_mid_head());
        framing.read(b"POST / HT");
        assert!(framing.is_urgent() && framing.is_mid_head());
        framing.read(b"TP/1.1\r\nContent-Length: 3\r\n\r\n12");
        assert!(!framing.is_urgent(), "a body has its own deadline");
        framing.read(b"3\r\n");
        assert!(!framing.is_urgent(), "it rests");
        framing.read(b"G");
        assert!(framing.is_urgent() && framing.is_mid_head());
    }

    #[test]
    fn only_an_empty_line_ends_a_head() {
        for odd in [" ", "\t", "\r", " \r", "x"] {
            for cut in [false, true] {
                let head =
                    format!("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{odd}\r\nContent-Length: 5\r\n\r\n");
                assert!(if cut { read_bytewise(&head).1 } else { twice(&head) }, "{odd:?}");
            }
        }
    }

    #[test]
    fn a_length_is_found_behind_any_padding() {
        for padding in ["", "0", "  ", "\t0"] {
            let padding = padding.repeat(60);
            let request = format!("POST / HTTP/1.1\r\nContent-Length:{padding}{}\r\n\r\n{TWICE}", TWICE.len());
            assert!(!twice(&request) && !read_bytewise(&request).1, "a body is no head");
        }
    }

    #[test]
    fn empty_lines_are_passed_over_once() {
        // Were each looked at again for every one before it, this would take minutes.
        let mut framing = Framing::default();
        assert!(!framing.read(&b"\r\n\n".repeat(1_000_000)));
        assert!(framing.is_urgent(), "no head has come yet");
        assert!(framing.read(TWICE.as_bytes()));
    }

    /// The reading, and whether a head said its length twice.
    fn read_bytewise(input: &str) -> (Framing, bool) {
        let mut framing = Framing::default();
        let twice = input.bytes().any(|byte| framing.read(&[byte]));
        (framing, twice)
    }

    proptest! {
        #[test]
        fn a_head_that_comes_as_a_whole_is_read_as_one_that_comes_byte_by_byte(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "\r\n", "\n", "\r", " ", "\t", "0", "5", "62", ":", "content-length", "Content-Length: ", "transfer-encoding",
                "Transfer-Encoding: ", "chunked", "GET / HTTP/1.1\r\n", "x: y\r\n", "                              ",
            ]), 0..40),
        ) {
            let input = pieces.concat();
            let mut whole = Framing::default();
            let twice = whole.read(input.as_bytes());
            let (bytewise, seen) = read_bytewise(&input);
            prop_assert_eq!(twice, seen);
            if !twice {
                prop_assert_eq!((whole.state, whole.is_mid_head()), (bytewise.state, bytewise.is_mid_head()));
            }
        }

        #[test]
        fn how_the_bytes_are_cut_makes_no_difference(cuts in prop::collection::vec(1_usize..40, 1..40), pipelined in 0_usize..4) {
            let before = "POST / HTTP/1.1\r\nHost: example.test\r\nContent-Length: 7\r\n\r\n\r\nbody\n".repeat(pipelined);
            let input = format!("{before}{TWICE}");
            let mut framing = Framing::default();
            let (mut rest, mut seen, mut cuts) = (input.as_bytes(), false, cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (part, more) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                seen |= framing.read(part);
                rest = more;
            }
            prop_assert!(seen);
        }

        #[test]
        fn no_input_can_break_it(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            Framing::default().read(&bytes);
        }
    }
}
