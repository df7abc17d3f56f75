//! Who asks. The balancer or app in front vouches for `X-Buyer-Id`, or a token does.

use std::fmt;

use hyper::HeaderMap;
use hyper::header;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use crate::config::settings::{Auth, Http as Settings};
use crate::domain::{BuyerId, UnixMillis};
use crate::http::headers::{Headers, Name};
use crate::http::problem::{Code, Problem};

/// How far the clocks of who makes tokens and who reads them may be apart, in milliseconds.
const LEEWAY: f64 = 5_000.0;

/// How buyers are told apart.
pub(super) struct Buyers(How);

enum How {
    Header,
    Jwt { key: Box<DecodingKey>, validation: Box<Validation> },
}

/// What a token must say. Times are in seconds, and may have fractions.
#[derive(Debug, Deserialize)]
struct Token {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
}

impl fmt::Debug for Buyers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            How::Header => "Buyers(header)",
            How::Jwt { .. } => "Buyers(jwt)",
        })
    }
}

impl Buyers {
    /// `Err` says what is wrong with the settings.
    pub(super) fn new(settings: &Settings) -> Result<Self, &'static str> {
        match settings.auth {
            Auth::Header => Ok(Self(How::Header)),
            Auth::Jwt if settings.jwt_secret.0.is_empty() => Err("must not be empty with auth = \"jwt\""),
            Auth::Jwt => {
                let mut validation = Validation::new(Algorithm::HS256);
                // The times are checked here, on the process's own clock.
                validation.validate_exp = false;
                validation.validate_aud = false;
                validation.set_required_spec_claims(&["exp", "sub"]);
                let key = DecodingKey::from_secret(settings.jwt_secret.0.as_bytes());
                Ok(Self(How::Jwt { key: Box::new(key), validation: Box::new(validation) }))
            }
        }
    }

    /// The buyer who sent these headers. The time is asked only where it matters.
    pub(super) fn buyer(&self, headers: &Headers<'_>, now: impl FnOnce() -> UnixMillis) -> Result<BuyerId, Problem> {
        match &self.0 {
            How::Header => by_header(headers),
            How::Jwt { key, validation } => by_token(headers.map, (key, validation), now()),
        }
    }
}

fn by_header(headers: &Headers<'_>) -> Result<BuyerId, Problem> {
    let no = |why: &str| unauthenticated(format!("X-Buyer-Id: {why}"), "Buyer");
    let value = headers.only(Name::Buyer).ok_or_else(|| no("must come, and once"))?;
    let text = value.to_str().map_err(|_| no("must be ASCII"))?;
    text.parse().map_err(|error: crate::domain::id::BadId| no(&error.to_string()))
}

fn by_token(
    headers: &HeaderMap,
    (key, validation): (&DecodingKey, &Validation),
    now: UnixMillis,
) -> Result<BuyerId, Problem> {
    let no = |why: &str| unauthenticated(format!("Authorization: {why}"), "Bearer");
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(no("must come, and once")) };
    let bytes = value.as_bytes();
    let token = match bytes.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
        _ => return Err(no("must be a bearer token")),
    };
    let token = jsonwebtoken::decode::<Token>(token, key, validation).map_err(|_| no("the token is not valid"))?.claims;
    #[expect(clippy::cast_precision_loss, reason = "the times of tokens are far below 2^53 milliseconds")]
    let now = now.0 as f64;
    // Written so that a time that is no number is no good time.
    let lives = now < token.exp * 1000.0 + LEEWAY;
    let begun = token.nbf.is_none_or(|nbf| nbf * 1000.0 - LEEWAY <= now);
    if !lives || !begun {
        return Err(no("the token has expired, or is not valid yet"));
    }
    token.sub.parse().map_err(|error| no(&format!("the token's sub {error}")))
}

fn unauthenticated(detail: String, challenge: &'static str) -> Problem {
    Problem::from(Code::Unauthenticated).detail(detail).header(header::WWW_AUTHENTICATE, challenge)
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};
    use jsonwebtoken::{EncodingKey, Header};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::settings::Secret;

    const BUYER: HeaderName = HeaderName::from_static("x-buyer-id");
    const NOW: UnixMillis = UnixMillis(1_795_262_400_000);
    const SECONDS: i64 = NOW.0 / 1000;

    fn jwt() -> Buyers {
        let settings = Settings { auth: Auth::Jwt, jwt_secret: Secret("hush".to_owned()), ..Settings::default() };
        Buyers::new(&settings).unwrap()
    }

    fn token(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
        jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    fn bearer(token: &str) -> HeaderMap {
        [(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap())].into_iter().collect()
    }

    fn named(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (BUYER, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn the_buyer_is_who_the_header_names() {
        let buyers = Buyers::new(&Settings::default()).unwrap();
        assert_eq!(buyers.buyer(&Headers::of(&named(&["auth0|7"])), || NOW).unwrap().as_str(), "auth0|7");
    }

    #[test]
    fn nobody_two_or_an_odd_name_is_unauthenticated() {
        let buyers = Buyers::new(&Settings::default()).unwrap();
        let long = "x".repeat(129);
        for values in [&[][..], &["a", "b"], &["a", "a"], &[""], &["a b"], &[&long]] {
            let problem = buyers.buyer(&Headers::of(&named(values)), || NOW).unwrap_err();
            assert_eq!(problem.code, Code::Unauthenticated, "{values:?}");
            assert!(problem.header.is_some());
        }
    }

    #[test]
    fn the_buyer_is_the_subject_of_the_token() {
        let claims = json!({"sub": "u-1", "exp": SECONDS + 60, "nbf": SECONDS - 1, "aud": "shop"});
        let headers = bearer(&token(Algorithm::HS256, "hush", &claims));
        assert_eq!(jwt().buyer(&Headers::of(&headers), || NOW).unwrap().as_str(), "u-1");
    }

    #[test]
    fn a_header_does_not_replace_the_token() {
        assert_eq!(jwt().buyer(&Headers::of(&named(&["u-1"])), || NOW).unwrap_err().code, Code::Unauthenticated);
    }

    #[test]
    fn tokens_that_are_not_ours_or_not_of_now_are_refused() {
        let good = json!({"sub": "u-1", "exp": SECONDS + 60});
        let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJ1LTEiLCJleHAiOjk5OTk5OTk5OTl9.";
        for (name, token) in [
            ("another secret", token(Algorithm::HS256, "other", &good)),
            ("another algorithm", token(Algorithm::HS512, "hush", &good)),
            ("no algorithm", unsigned.to_owned()),
            ("no sub", token(Algorithm::HS256, "hush", &json!({"exp": SECONDS + 60}))),
            ("no exp", token(Algorithm::HS256, "hush", &json!({"sub": "u-1"}))),
            ("expired", token(Algorithm::HS256, "hush", &json!({"sub": "u-1", "exp": SECONDS - 6}))),
            (
                "too early",
                token(Algorithm::HS256, "hush", &json!({"sub": "u-1", "exp": SECONDS + 60, "nbf": SECONDS + 6})),
            ),
            ("an odd sub", token(Algorithm::HS256, "hush", &json!({"sub": "u 1", "exp": SECONDS + 60}))),
            ("a sub that is no text", token(Algorithm::HS256, "hush", &json!({"sub": 1, "exp": SECONDS + 60}))),
            ("nothing", String::new()),
        ] {
            assert_eq!(
                jwt().buyer(&Headers::of(&bearer(&token)), || NOW).unwrap_err().code,
                Code::Unauthenticated,
                "{name}"
            );
        }
    }

    #[test]
    fn clocks_may_be_a_little_apart() {
        let claims = json!({"sub": "u-1", "exp": SECONDS - 4, "nbf": SECONDS + 4});
        assert!(jwt().buyer(&Headers::of(&bearer(&token(Algorithm::HS256, "hush", &claims))), || NOW).is_ok());
    }

    #[test]
    fn tokens_need_a_secret() {
        assert!(Buyers::new(&Settings { auth: Auth::Jwt, ..Settings::default() }).is_err());
    }

    proptest! {
        #[test]
        fn no_header_can_break_it(bytes in prop::collection::vec(32_u8..=255, 0..200)) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let headers: HeaderMap = [(header::AUTHORIZATION, value.clone()), (BUYER, value)].into_iter().collect();
            prop_assert!(jwt().buyer(&Headers::of(&headers), || NOW).is_err());
            let _ = Buyers::new(&Settings::default()).unwrap().buyer(&Headers::of(&headers), || NOW);
        }
    }
}
