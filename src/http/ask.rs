//! The body and the key of a claim: from bytes to [`Ask`], which the domain then checks against the sale.
//!
//! What is right is read in one pass that borrows its texts. Only when that fails is the body read again as a free value, to
//! tell what is no JSON (malformed) from what is JSON but no claim (invalid), and then all that is wrong is said at once.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use crate::domain::{Ask, AskedLine, IdempotencyKey, Invalid, Object};
use crate::http::headers::{Headers, Name};
use crate::http::problem::Problem;

/// The most errors that one answer lists.
const MAX_ERRORS: usize = 32;
const QUANTITY: &str = "must be a whole number, not below zero";

/// A claim's body, as JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body<'a> {
    quantity: Option<u64>,
    #[serde(borrow)]
    lines: Option<Vec<Object<LineBody<'a>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LineBody<'a> {
    #[serde(borrow)]
    pool: Option<Text<'a>>,
    #[serde(borrow)]
    from: Option<Text<'a>>,
    #[serde(borrow)]
    to: Option<Text<'a>>,
    quantity: Option<u64>,
    #[serde(borrow)]
    passenger: Option<Text<'a>>,
    #[serde(borrow)]
    seat: Option<Text<'a>>,
}

/// A text that is copied only if it has escapes. Behind an `Option`, serde borrows it only in a type of its own.
#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Body<'a> {
    /// Reads a body that has either `quantity` or `lines`.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Problem> {
        match serde_json::from_slice::<Object<Self>>(bytes) {
            Ok(Object(body)) if body.quantity.is_some() != body.lines.is_some() => Ok(body),
            Ok(_) => Err(Problem::invalid(&[Invalid::new("", "must have either quantity or lines")])),
            Err(error) => Err(explain(bytes, &error)),
        }
    }

    /// The same as the domain takes it.
    pub(super) fn ask(&self) -> Ask<'_> {
        match (&self.lines, self.quantity) {
            (Some(lines), _) => Ask::Lines(lines.iter().map(|Object(line)| line.asked()).collect()),
            (None, quantity) => Ask::Quantity(quantity.unwrap_or_default()),
        }
    }
}

impl LineBody<'_> {
    fn asked(&self) -> AskedLine<'_> {
        fn text<'t>(text: Option<&'t Text<'_>>) -> Option<&'t str> {
            text.map(|Text(text)| &**text)
        }
        AskedLine {
            pool: text(self.pool.as_ref()),
            from: text(self.from.as_ref()),
            to: text(self.to.as_ref()),
            quantity: self.quantity,
            passenger: text(self.passenger.as_ref()),
            seat: text(self.seat.as_ref()),
        }
    }
}

/// Reads the `Idempotency-Key`: a quoted string (RFC 8941) or the same without quotes.
pub(super) fn key(headers: &Headers<'_>) -> Result<Option<IdempotencyKey>, Problem> {
    let Some(value) = headers.first(Name::IdempotencyKey) else { return Ok(None) };
    if headers.is_repeated(Name::IdempotencyKey) {
        return Err(Problem::malformed("Idempotency-Key: must come once"));
    }
    let bytes = value.as_bytes();
    let bare = match bytes.strip_prefix(b"\"") {
        Some(rest) => Cow::Owned(
            unquoted(rest).ok_or_else(|| Problem::malformed("Idempotency-Key: is not a well-formed quoted string"))?,
        ),
        None => Cow::Borrowed(bytes),
    };
    let text = std::str::from_utf8(&bare).map_err(|_| Problem::malformed("Idempotency-Key: must be ASCII"))?;
    text.parse().map(Some).map_err(|error| Problem::malformed(format!("Idempotency-Key: {error}")))
}

/// What stands between the quotes, the first of which is gone already.
fn unquoted(rest: &[u8]) -> Option<Vec<u8>> {
    let inner = rest.strip_suffix(b"\"")?;
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => return None,
            b'\\' => text.push(*bytes.next().filter(|next| matches!(next, b'"' | b'\\'))?),
            byte => text.push(byte),
        }
    }
    Some(text)
}

/// Why a body is no claim.
fn explain(bytes: &[u8], error: &serde_json::Error) -> Problem {
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => return Problem::malformed(format!("the body is no JSON: {error}")),
    };
    let mut wrong = Vec::new();
    match &value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("quantity", value) => whole_number(value, "/quantity", &mut wrong),
                    ("lines", Value::Null) => {}
                    ("lines", Value::Array(lines)) => {
                        for (index, line) in lines.iter().enumerate() {
                            explain_line(line, &format!("/lines/{index}"), &mut wrong);
                        }
                    }
                    ("lines", _) => wrong.push(Invalid::new("/lines", "must be a list")),
                    (name, _) => wrong.push(unknown("", name)),
                }
            }
        }
        _ => wrong.push(Invalid::new("", "must be an object")),
    }
    if wrong.is_empty() {
        // A field that comes twice, for one; as a free value the last one wins.
        wrong.push(Invalid::new("", error));
    }
    wrong.truncate(MAX_ERRORS);
    Problem::invalid(&wrong)
}

fn explain_line(line: &Value, at: &str, wrong: &mut Vec<Invalid>) {
    let Value::Object(fields) = line else {
        wrong.push(Invalid::new(at, "must be an object"));
        return;
    };
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("quantity", value) => whole_number(value, &format!("{at}/quantity"), wrong),
            ("pool" | "from" | "to" | "passenger" | "seat", Value::Null | Value::String(_)) => {}
            ("pool" | "from" | "to" | "passenger" | "seat", _) => {
                wrong.push(Invalid::new(format!("{at}/{name}"), "must be a text"));
            }
            (name, _) => wrong.push(unknown(at, name)),
        }
    }
}

fn whole_number(value: &Value, at: &str, wrong: &mut Vec<Invalid>) {
    if !value.is_null() && !value.is_u64() {
        wrong.push(Invalid::new(at, QUANTITY));
    }
}

/// A field that does not belong there; its name is escaped as JSON pointers want it, and cut to a readable length.
fn unknown(at: &str, name: &str) -> Invalid {
    let name: String = name.chars().take(64).collect();
    Invalid::new(format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), "is not known here")
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::http::problem::Code;

    fn problem(body: &str) -> (Code, Vec<String>) {
        let problem = Body::parse(body.as_bytes()).expect_err(body);
        let code = problem.code;
        let document: Value = serde_json::from_slice(&problem.document()).unwrap();
        let errors = document["errors"].as_array().cloned().unwrap_or_default();
        (code, errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect())
    }

    fn keyed(values: &[&[u8]]) -> Result<Option<String>, Code> {
        let mut map = HeaderMap::new();
        for value in values {
            map.append("idempotency-key", HeaderValue::from_bytes(value).unwrap());
        }
        key(&Headers::of(&map)).map(|key| key.map(|key| key.to_string())).map_err(|problem| problem.code)
    }

    #[test]
    fn a_quantity_is_read() {
        assert_eq!(Body::parse(br#"{"quantity":2}"#).unwrap().ask(), Ask::Quantity(2));
        assert_eq!(Body::parse(br#"{"quantity":2,"lines":null}"#).unwrap().ask(), Ask::Quantity(2));
    }

    #[test]
    fn lines_are_read_and_borrowed() {
        let body =
            br#"{"lines":[{"pool":"second","from":"JNK","to":"S\u0048H","passenger":"p-1","seat":"window"},{}]}"#;
        let body = Body::parse(body).unwrap();
        let lines = body.lines.as_ref().unwrap();
        assert!(matches!(lines[0].0.pool, Some(Text(Cow::Borrowed(_)))));
        let first = AskedLine {
            pool: Some("second"),
            from: Some("JNK"),
            to: Some("SHH"),
            quantity: None,
            passenger: Some("p-1"),
            seat: Some("window"),
        };
        assert_eq!(body.ask(), Ask::Lines(vec![first, AskedLine::default()]));
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        let deep = "[".repeat(5000);
        for body in ["", " ", "{", "{\"quantity\":1}x", "{'quantity':1}", "{\"quantity\":01}", "\u{0}", &deep] {
            assert_eq!(problem(body).0, Code::Malformed, "{body}");
        }
        assert_eq!(Body::parse(b"{\"quantity\":\xff}").unwrap_err().code, Code::Malformed);
    }

    #[test]
    fn what_is_no_claim_is_invalid_place_by_place() {
        for (body, expected) in [
            ("[]", vec![""]),
            ("null", vec![""]),
            ("[1,null]", vec![""]),
            (r#"{"lines":[["second",null,null,1,null,null]]}"#, vec!["/lines/0"]),
            ("{}", vec![""]),
            (r#"{"quantity":1,"lines":[]}"#, vec![""]),
            (r#"{"quantity":1,"quantity":2}"#, vec![""]),
            (r#"{"quantity":"1"}"#, vec!["/quantity"]),
            (r#"{"quantity":-1}"#, vec!["/quantity"]),
            (r#"{"quantity":1.5}"#, vec!["/quantity"]),
            (r#"{"quantity":18446744073709551616}"#, vec!["/quantity"]),
            (r#"{"quantity":1,"a/b~":2}"#, vec!["/a~1b~0"]),
            (r#"{"lines":{}}"#, vec!["/lines"]),
            (
                r#"{"lines":[1,{"pool":2,"colour":"red","quantity":true}]}"#,
                vec!["/lines/0", "/lines/1/colour", "/lines/1/pool", "/lines/1/quantity"],
            ),
        ] {
            assert_eq!(problem(body), (Code::Invalid, expected.iter().map(ToString::to_string).collect()), "{body}");
        }
    }

    #[test]
    fn an_answer_lists_only_so_many_errors() {
        let body = format!("{{\"lines\":[{}]}}", vec!["1"; 1000].join(","));
        assert_eq!(problem(&body).1.len(), MAX_ERRORS);
    }

    #[test]
    fn a_key_means_the_same_with_quotes_and_without() {
        assert_eq!(keyed(&[]), Ok(None));
        assert_eq!(keyed(&[b"8e03978e-40d5"]), Ok(Some("8e03978e-40d5".to_owned())));
        assert_eq!(keyed(&[b"\"8e03978e-40d5\""]), Ok(Some("8e03978e-40d5".to_owned())));
        assert_eq!(keyed(&[br#""a\"b\\c""#]), Ok(Some(r#"a"b\c"#.to_owned())));
    }

    #[test]
    fn odd_keys_are_malformed() {
        let long = vec![b'k'; 256];
        for odd in [&b""[..], b"\"", b"\"\"", b"\"a", b"\"a\"b\"", b"\"a\\b\"", b"\"a\\\"", b"a b", b"\xff", &long] {
            assert_eq!(keyed(&[odd]), Err(Code::Malformed), "{odd:?}");
        }
        assert_eq!(keyed(&[b"a", b"a"]), Err(Code::Malformed));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        let name = prop_oneof!["quantity", "lines", "pool", "from", "to", "passenger", "seat", ".{0,4}"];
        leaf.prop_recursive(3, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name.clone(), inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_ask_or_a_problem(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(problem) = Body::parse(&bytes) {
                prop_assert!(matches!(problem.code, Code::Malformed | Code::Invalid));
            }
        }

        #[test]
        fn any_json_is_an_ask_or_invalid(value in any_json()) {
            match Body::parse(value.to_string().as_bytes()) {
                Ok(body) => { body.ask(); }
                Err(problem) => prop_assert_eq!(problem.code, Code::Invalid),
            }
        }

        #[test]
        fn any_header_is_a_key_or_malformed(bytes in prop::collection::vec(32_u8..=255, 0..300)) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let map = [("idempotency-key".parse().unwrap(), value)].into_iter().collect();
            if let Err(problem) = key(&Headers::of(&map)) {
                prop_assert_eq!(problem.code, Code::Malformed);
            }
        }
    }
}
