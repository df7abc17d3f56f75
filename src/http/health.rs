//! `/livez`: the process runs. `/readyz`: it is fit for traffic. Both are answered from memory.

use std::fmt::Write as _;

use hyper::StatusCode;
use hyper::header::HeaderValue;

use crate::http::door::Door;
use crate::http::reply::{Reply, with_body};
use crate::readiness::Readiness;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(super) fn live() -> Reply {
    with_body(StatusCode::OK, TEXT, "ok\n".into())
}

/// `?verbose` lists each check; a process that is not ready lists them in any case.
pub(super) fn ready(door: &Door, query: Option<&str>) -> Reply {
    let draining = door.shutdown.has_begun();
    let ready = !draining && door.parts.readiness.is_ready();
    let verbose = query
        .is_some_and(|query| query.split('&').any(|part| matches!(part, "verbose" | "verbose=true" | "verbose=1")));
    let body = if ready && !verbose { "ok\n".to_owned() } else { list(&door.parts.readiness, draining) };
    with_body(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, TEXT, body.into())
}

fn list(readiness: &Readiness, draining: bool) -> String {
    let mut text = String::new();
    let mut ready = !draining;
    let shutdown = ("shutdown", if draining { Err("draining".to_owned()) } else { Ok(()) });
    for (name, said) in readiness.checks().chain([shutdown]) {
        ready &= said.is_ok();
        // Writing to a String cannot fail.
        let _ = match said {
            Ok(()) => writeln!(text, "[+]{name} ok"),
            // One line per check, whatever the reason holds.
            Err(why) => writeln!(text, "[-]{name}: {}", why.replace(['\r', '\n'], " ")),
        };
    }
    text.push_str(if ready { "ready\n" } else { "not ready\n" });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_a_line_with_its_reason() {
        let readiness =
            Readiness::new().with("inventory", || Ok(())).with("store", || Err("gone\nfor good".to_owned()));
        assert_eq!(list(&readiness, false), "[+]inventory ok\n[-]store: gone for good\n[+]shutdown ok\nnot ready\n");
        let readiness = Readiness::new().with("inventory", || Ok(()));
        assert_eq!(list(&readiness, false), "[+]inventory ok\n[+]shutdown ok\nready\n");
        assert_eq!(list(&readiness, true), "[+]inventory ok\n[-]shutdown: draining\nnot ready\n");
    }
}
