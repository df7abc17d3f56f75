//! The client log: what buyers asked and what they were told, one JSON line each, in the order in which it happened to them.
//!
//! It is all that the checker believes of the outside. It is written as things happen, so that it is whole up to the moment at which a
//! run dies, and nothing in it was asked of the system afterwards.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::client::Reply;

/// What a buyer wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Act {
    Claim,
    Pay,
    Cancel,
    Read,
}

/// What the line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// It is asked now.
    Invoke,
    Ok,
    /// A definite no: it was not done by this request.
    No,
    /// It may have been done, or may still be.
    Unknown,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Microseconds since the log began.
    pub(crate) at: u64,
    /// Which request: its invocation and its answer share the number.
    pub(crate) request: u64,
    pub(crate) kind: Kind,
    pub(crate) act: Act,
    pub(crate) sale: String,
    pub(crate) buyer: String,
    /// The idempotency key of the claim that this is about.
    pub(crate) key: String,
    /// The claim's body.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) asked: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// The stable code of a problem, or what happened to the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// The answer's body, if it shows an order.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) told: Value,
}

impl Entry {
    /// The claim that it is about.
    pub(crate) fn claim(&self) -> (&str, &str, &str) {
        (&self.sale, &self.buyer, &self.key)
    }

    /// The order that it names.
    pub(crate) fn order(&self) -> Option<&str> {
        self.told["order"].as_str()
    }
}

/// What a request is about.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) sale: String,
    pub(crate) buyer: String,
    pub(crate) key: String,
    pub(crate) asked: Value,
}

/// A log that is being written.
pub(crate) struct Log {
    began: Instant,
    path: PathBuf,
    lines: Mutex<Lines>,
}

struct Lines {
    file: File,
    requests: u64,
}

impl Log {
    pub(crate) fn create(path: &Path) -> Self {
        let file = File::create(path).expect("a log file");
        Self { began: Instant::now(), path: path.to_owned(), lines: Mutex::new(Lines { file, requests: 0 }) }
    }

    /// Writes that something is asked, and returns the request's number.
    pub(crate) fn invoke(&self, act: Act, about: &Subject) -> u64 {
        let mut lines = self.lines.lock().expect("the log");
        lines.requests += 1;
        let request = lines.requests;
        let mut entry = self.entry(request, act, about);
        if act == Act::Claim {
            entry.asked = about.asked.clone();
        }
        lines.write(&entry);
        request
    }

    /// Writes what came of it, and returns that.
    pub(crate) fn answered(&self, request: u64, act: Act, about: &Subject, reply: &Result<Reply, String>) -> Entry {
        let mut entry = self.entry(request, act, about);
        match reply {
            Ok(reply) => {
                let says_when = reply.header("retry-after").is_some();
                assert!(reply.status != 503 || says_when, "who is sent away is told for how long: {reply:?}");
                entry.kind = judge(reply);
                entry.status = Some(reply.status);
                if reply.body["code"].is_string() {
                    entry.code = Some(reply.code().to_owned());
                }
                if reply.body["order"].is_string() {
                    entry.told = reply.body.clone();
                }
            }
            Err(error) => {
                entry.kind = Kind::Unknown;
                // The long form names addresses and internals; its last words say what happened.
                entry.code = Some(error.chars().rev().take(80).collect::<Vec<_>>().into_iter().rev().collect());
            }
        }
        self.lines.lock().expect("the log").write(&entry);
        entry
    }

    /// The instant that the next line would have.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).expect("a short run")
    }

    /// All that was written so far.
    pub(crate) fn read(&self) -> Vec<Entry> {
        let text = {
            // Not in the middle of a line.
            let _lines = self.lines.lock().expect("the log");
            std::fs::read_to_string(&self.path).expect("the log")
        };
        text.lines().map(|line| serde_json::from_str(line).expect("a line of the log")).collect()
    }

    fn entry(&self, request: u64, act: Act, about: &Subject) -> Entry {
        Entry {
            at: self.now(),
            request,
            kind: Kind::Invoke,
            act,
            sale: about.sale.clone(),
            buyer: about.buyer.clone(),
            key: about.key.clone(),
            asked: Value::Null,
            status: None,
            code: None,
            told: Value::Null,
        }
    }
}

impl Lines {
    fn write(&mut self, entry: &Entry) {
        let line = serde_json::to_string(entry).expect("an entry is JSON");
        writeln!(self.file, "{line}").expect("the log is written");
    }
}

/// What an answer says, by the public contract.
fn judge(reply: &Reply) -> Kind {
    match reply.status {
        200 | 201 if reply.body["status"] == "pending" => Kind::Unknown,
        200 | 201 => Kind::Ok,
        400..=499 if !reply.code().is_empty() => Kind::No,
        503 if ["busy", "recovering", "unavailable"].contains(&reply.code()) => Kind::No,
        _ => Kind::Unknown,
    }
}
