//! Every problem that the API can answer with: its stable code, its status, its words (RFC 9457).
//!
//! A problem that says nothing about its particular case is a constant: its bytes are made at compile time, since under a rush
//! most answers are the same few refusals.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;

use crate::domain::Invalid;

macro_rules! codes {
    ($($variant:ident = $code:literal $status:literal $title:literal $detail:literal)*) => {
        /// The stable codes. Clients hold on to them: add freely, rename nothing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(super) enum Code {
            $($variant,)*
        }

        impl Code {
            pub(super) const ALL: [Self; [$($status),*].len()] = [$(Self::$variant),*];

            /// Of all codes, by their numbers.
            pub(super) const NAMES: [&'static str; Self::ALL.len()] = [$($code),*];

            pub(super) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            pub(super) fn status(self) -> StatusCode {
                let status: u16 = match self {
                    $(Self::$variant => $status,)*
                };
                StatusCode::from_u16(status).expect("the table has real statuses")
            }

            /// The document of a case that needs no more words.
            pub(super) fn document(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!(
                        "{\"type\":\"urn:rushgate:problem:", $code, "\",\"title\":\"", $title, "\",\"status\":", $status,
                        ",\"code\":\"", $code, "\",\"detail\":\"", $detail, "\"}"
                    ),)*
                }
            }
        }
    };
}

codes! {
    // Refusals of a claim.
    SoldOut = "sold_out" 409 "Sold out" "Nothing is free, and nothing is held that might come back."
    AllHeld = "all_held" 409 "All held" "Nothing is free, but some units are unpaid and may come back."
    LimitReached = "limit_reached" 409 "Limit reached" "The buyer, or a passenger, has as many units as one may have."
    NotOpen = "not_open" 403 "Not open" "The sale has not opened yet."
    Closed = "closed" 410 "Closed" "The sale has closed."
    Paused = "paused" 409 "Paused" "The sale is paused."
    UnknownSale = "unknown_sale" 404 "Unknown sale" "There is no such sale."
    KeyReused = "key_reused" 422 "Key reused" "The Idempotency-Key was used for another request."
    // Orders and payments.
    NotFound = "not_found" 404 "Not found" "There is nothing here for this caller."
    NotHeld = "not_held" 409 "Not held" "The order is not held any more."
    BadSignature = "bad_signature" 401 "Bad signature" "The notice is not signed by the payment provider, or not lately."
    // Requests that cannot be understood.
    Malformed = "malformed" 400 "Malformed" "The request cannot be read."
    Invalid = "invalid" 422 "Invalid" "The request does not fit; see errors."
    Unauthenticated = "unauthenticated" 401 "Unauthenticated" "It is not known who asks."
    MethodNotAllowed = "method_not_allowed" 405 "Method not allowed" "The resource does not have this method; see Allow."
    RequestTimeout = "request_timeout" 408 "Request timeout" "The request did not arrive in time."
    TooLarge = "too_large" 413 "Too large" "The body is larger than this server reads."
    UriTooLong = "uri_too_long" 414 "URI too long" "The URI is longer than this server reads."
    UnsupportedMediaType = "unsupported_media_type" 415 "Unsupported media type" "The body must be plain application/json."
    HeadersTooLarge = "headers_too_large" 431 "Headers too large" "The headers are larger than this server reads."
    // Nothing was done; ask again.
    RateLimited = "rate_limited" 429 "Rate limited" "Too many claims in a short time. Nothing was reserved."
    Busy = "busy" 503 "Busy" "Too many requests wait at this moment. Nothing was done; ask again."
    Recovering = "recovering" 503 "Recovering" "The inventory is being rebuilt. Nothing was done; ask again."
    Unavailable = "unavailable" 503 "Unavailable" "A backend is not there. Nothing was reserved; ask again."
}

/// How the last member of every code's document begins.
const DETAIL: &str = ",\"detail\":";
/// About what a member takes: most tell an instant.
const MEMBER_BYTES: usize = 64;

/// One answer that is a problem.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    pub(super) code: Code,
    detail: Option<Cow<'static, str>>,
    /// Extension members as they stand in the document, each with a comma before it.
    members: Vec<u8>,
    /// Seconds.
    pub(super) retry_after: Option<u32>,
    /// `Allow`, or `WWW-Authenticate`.
    pub(super) header: Option<(hyper::header::HeaderName, &'static str)>,
    /// What is left of the request is not read, so the connection cannot be used again.
    pub(super) close: bool,
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self { code, detail: None, members: Vec::new(), retry_after: None, header: None, close: false }
    }
}

impl Problem {
    /// All that does not fit, each with its place as a JSON pointer.
    pub(super) fn invalid(errors: &[Invalid]) -> Self {
        let error = |wrong: &Invalid| serde_json::json!({"pointer": wrong.at, "detail": wrong.why});
        Self::from(Code::Invalid).with("errors", errors.iter().map(error).collect::<Vec<_>>())
    }

    pub(super) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::from(Code::Malformed).detail(detail)
    }

    pub(super) fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds an extension member, whose name is in no document yet.
    pub(super) fn with(mut self, member: &'static str, value: impl Serialize) -> Self {
        debug_assert!(!self.has(member), "{member} is there already");
        self.members.reserve(MEMBER_BYTES);
        self.members.push(b',');
        write_json(&mut self.members, member);
        self.members.push(b':');
        write_json(&mut self.members, value);
        self
    }

    fn has(&self, member: &str) -> bool {
        let name = format!("\"{member}\":");
        [self.code.document().as_bytes(), &self.members]
            .iter()
            .any(|text| memchr::memmem::find(text, name.as_bytes()).is_some())
    }

    pub(super) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(super) fn header(mut self, name: hyper::header::HeaderName, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    pub(super) fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// The body of the answer. Most of a crowd hears when units may come back, so nothing is taken apart for that.
    pub(super) fn document(self) -> Bytes {
        let plain = self.code.document();
        if self.detail.is_none() && self.members.is_empty() {
            return Bytes::from_static(plain.as_bytes());
        }
        let mut document = Vec::with_capacity(plain.len() + self.members.len() + MEMBER_BYTES);
        match self.detail {
            None => document.extend_from_slice(plain.trim_end_matches('}').as_bytes()),
            Some(detail) => {
                let before = plain.rfind(DETAIL).expect("every document has a detail") + DETAIL.len();
                document.extend_from_slice(&plain.as_bytes()[..before]);
                write_json(&mut document, detail);
            }
        }
        document.extend_from_slice(&self.members);
        document.push(b'}');
        document.into()
    }
}

fn write_json(document: &mut Vec<u8>, value: impl Serialize) {
    serde_json::to_writer(document, &value).expect("the members are plain values, and lists of them");
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;

    #[test]
    fn what_is_added_to_a_document_stands_in_it() {
        let members = [("opens_at", Value::Null), ("next_release_at", "x\"y".into()), ("orders", vec!["a"].into())];
        let problem = members
            .iter()
            .fold(Problem::from(Code::AllHeld), |problem, (member, value)| problem.with(member, value.clone()));
        let document: Map<String, Value> = serde_json::from_slice(&problem.document()).unwrap();
        let mut expected: Map<String, Value> = serde_json::from_str(Code::AllHeld.document()).unwrap();
        expected.extend(members.map(|(member, value)| (member.to_owned(), value)));
        assert_eq!(document, expected);
    }

    #[test]
    fn every_code_is_a_document_that_says_the_same_as_the_table() {
        for code in Code::ALL {
            let document: Value = serde_json::from_str(code.document()).unwrap();
            assert_eq!(document["code"], code.as_str());
            assert_eq!(document["status"], code.status().as_u16());
            assert_eq!(document["type"], format!("urn:rushgate:problem:{}", code.as_str()));
            assert!(code.status().is_client_error() || code.status() == StatusCode::SERVICE_UNAVAILABLE, "{code:?}");
        }
    }

    #[test]
    fn a_particular_case_keeps_the_members_of_its_code() {
        for code in Code::ALL {
            let problem = Problem::from(code).with("next_release_at", "x").detail("\"quoted\"");
            let document: Map<String, Value> = serde_json::from_slice(&problem.document()).unwrap();
            let mut expected: Map<String, Value> = serde_json::from_str(code.document()).unwrap();
            expected.insert("next_release_at".to_owned(), "x".into());
            expected.insert("detail".to_owned(), "\"quoted\"".into());
            assert_eq!(document, expected);
        }
    }
}
