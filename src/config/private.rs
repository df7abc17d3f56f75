//! Values that are never printed whole, so that no log line and no panic can give them away.

use std::fmt;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(pub String);

impl Secret {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "\"\"" } else { "\"…\"" })
    }
}

/// Where a server is, and often who may enter: printed without user and password. Empty: no server.
///
/// There is no `Display`, since a text that cannot be connected to would one day be connected to; [`ServerUrl::as_str`] is the
/// whole URL, [`ServerUrl::redacted`] the one for people.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ServerUrl(pub String);

impl From<&str> for ServerUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl From<String> for ServerUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl ServerUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What stands before `://`.
    pub fn scheme(&self) -> Option<&str> {
        self.0.split_once("://").map(|(scheme, _)| scheme)
    }

    /// The host, without the brackets of an IPv6 address, and the port if one is named.
    pub fn address(&self) -> Option<(&str, Option<u16>)> {
        let (_, rest) = self.0.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
        let (host, port) = match address.strip_prefix('[') {
            Some(v6) => v6.split_once(']').map(|(host, port)| (host, port.strip_prefix(':')))?,
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(str::parse).transpose().ok()?;
        (!host.is_empty()).then_some((host, port))
    }

    /// The URL without user and password.
    ///
    /// Whatever stands before the last `@` goes: a password with an unescaped `/` or `@` in it must not be printed either.
    pub fn redacted(&self) -> String {
        let Some((before, after)) = self.0.rsplit_once('@') else { return self.0.clone() };
        match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://…@{after}"),
            None => format!("…@{after}"),
        }
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.redacted(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_of_a_url_are_not_printed() {
        for url in [
            "redis://user:canary@host:1/0",
            "redis://:canary@host:1/0",
            "redis://user:can/canary@host:1/0",
            "redis://user:canary@canary@host:1/0",
            "redis:user:canary@host:1/0",
        ] {
            let (redacted, debug) = (ServerUrl::from(url).redacted(), format!("{:?}", ServerUrl::from(url)));
            assert!(redacted.ends_with("…@host:1/0") && !redacted.contains("canary"), "{redacted}");
            assert!(!debug.contains("canary"), "{debug}");
        }
        assert_eq!(ServerUrl::from("sqlite://rushgate.db").redacted(), "sqlite://rushgate.db");
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret("canary".to_owned())), "\"…\"");
        assert_eq!(format!("{:?}", Secret::default()), "\"\"");
    }

    #[test]
    fn the_address_of_a_url_is_its_host_and_port() {
        for (url, address) in [
            ("redis://127.0.0.1:6379", Some(("127.0.0.1", Some(6379)))),
            ("amqp://user:p@ss@broker/%2f", Some(("broker", None))),
            ("mysql://[::1]:3306/rushgate?x=1", Some(("::1", Some(3306)))),
            ("redis://:port", None),
            ("redis://host:port", None),
            ("host:6379", None),
        ] {
            assert_eq!(ServerUrl::from(url).address(), address, "{url}");
        }
    }
}
