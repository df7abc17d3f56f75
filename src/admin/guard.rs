//! Who may ask: the token, and no web page that an operator's browser happens to have open.

use hyper::header::{self, HeaderMap};
use hyper::http::uri::Authority;
use subtle::ConstantTimeEq;

use crate::admin::problem::{Code, Problem};
use crate::config::settings::Secret;

/// An operator's name, if the client says one.
const OPERATOR: &str = "x-operator";
const OPERATOR_MAX: usize = 64;

/// Checks who asks.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    /// Empty: whoever reaches the listener, which is on loopback then, may ask.
    token: Secret,
}

impl Guard {
    pub(super) fn new(token: Secret) -> Self {
        Self { token }
    }

    /// May the console's page be had? It needs no token, but must not be one of another's name.
    pub(super) fn check_page(&self, headers: &HeaderMap) -> Result<(), Problem> {
        check_origin(headers)?;
        if self.token.0.is_empty() { check_host(headers) } else { Ok(()) }
    }

    /// Who asks, as the audit log tells it.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<String, Problem> {
        self.check_page(headers)?;
        let name = if self.token.0.is_empty() {
            "local"
        } else {
            let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let given = given.and_then(|value| value.split_once(' '));
            let bearer =
                given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map_or("", |(_, token)| token);
            if !bool::from(bearer.trim().as_bytes().ct_eq(self.token.0.as_bytes())) {
                return Err(Problem::new(Code::Unauthenticated, "The admin token is missing or wrong."));
            }
            "admin"
        };
        Ok(match operator(headers) {
            Some(operator) => format!("{name}/{operator}"),
            None => name.to_owned(),
        })
    }
}

/// A page of another site may send requests from the operator's browser, but not without its origin.
fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if authority.is_some() && authority == host {
        return Ok(());
    }
    Err(Problem::new(Code::CrossOrigin, "Requests of pages from elsewhere are not answered."))
}

/// Where nobody needs a token, a name that was made to point to loopback must not do instead of one.
fn check_host(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(host) = headers.get(header::HOST) else { return Ok(()) };
    let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    let is_local = authority.is_some_and(|authority| {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok()
    });
    if is_local {
        return Ok(());
    }
    Err(Problem::new(Code::CrossOrigin, "Without a token only localhost and addresses are answered, not names."))
}

fn operator(headers: &HeaderMap) -> Option<&str> {
    let name = headers.get(OPERATOR)?.to_str().ok()?;
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@+".contains(&byte);
    ((1..=OPERATOR_MAX).contains(&name.len()) && name.bytes().all(sane)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn check(token: &str, pairs: &[(&'static str, &str)]) -> Result<String, Code> {
        Guard::new(Secret(token.to_owned())).check(&headers(pairs)).map_err(|problem| problem.code)
    }

    #[test]
    fn the_token_and_nothing_else_opens() {
        assert_eq!(check("t0ken", &[("authorization", "Bearer t0ken")]), Ok("admin".to_owned()));
        assert_eq!(check("t0ken", &[("authorization", "bearer t0ken")]), Ok("admin".to_owned()));
        for wrong in ["Bearer t0kem", "Bearer t0ke", "Bearer", "Bearer ", "Basic t0ken", "t0ken", ""] {
            assert_eq!(check("t0ken", &[("authorization", wrong)]), Err(Code::Unauthenticated), "{wrong}");
        }
        assert_eq!(check("t0ken", &[]), Err(Code::Unauthenticated));
    }

    #[test]
    fn an_operator_is_named_if_the_name_is_sane() {
        let named = |name| check("", &[("host", "127.0.0.1:9090"), ("x-operator", name)]).unwrap();
        assert_eq!(named("ann@shop.example"), "local/ann@shop.example");
        assert_eq!(named("ann smith"), "local");
        assert_eq!(named(&"x".repeat(65)), "local");
    }

    #[test]
    fn a_page_from_elsewhere_is_not_answered() {
        let from = |origin| check("", &[("host", "127.0.0.1:9090"), ("origin", origin)]);
        assert_eq!(from("http://127.0.0.1:9090"), Ok("local".to_owned()));
        for origin in ["http://evil.example", "null", "http://127.0.0.1:8080"] {
            assert_eq!(from(origin), Err(Code::CrossOrigin), "{origin}");
        }
    }

    #[test]
    fn a_name_that_points_to_loopback_needs_a_token() {
        for host in ["127.0.0.1:9090", "[::1]:9090", "localhost:9090", "localhost"] {
            assert_eq!(check("", &[("host", host)]), Ok("local".to_owned()), "{host}");
        }
        assert_eq!(check("", &[("host", "rebound.example:9090")]), Err(Code::CrossOrigin));
        let with_token = [("host", "gate.example"), ("authorization", "Bearer t")];
        assert_eq!(check("t", &with_token), Ok("admin".to_owned()));
    }
}
