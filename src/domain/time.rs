//! Instants, in milliseconds since 1970-01-01 UTC.

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time, in milliseconds since 1970-01-01 UTC. Printed as RFC 3339.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct UnixMillis(pub i64);

/// The text is no RFC 3339 instant such as `2026-11-21T12:00:00Z`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 instant such as 2026-11-21T12:00:00Z")]
pub struct BadInstant;

impl UnixMillis {
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads an RFC 3339 instant; finer digits than milliseconds are cut.
    pub fn parse(text: &str) -> Result<Self, BadInstant> {
        let instant = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| BadInstant)?;
        i64::try_from(instant.unix_timestamp_nanos() / 1_000_000).map(Self).map_err(|_| BadInstant)
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .and_then(|instant| instant.format(&Rfc3339).ok());
        match text {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} ms", self.0),
        }
    }
}

impl fmt::Debug for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_reads_back_what_it_prints() {
        let instant = UnixMillis(1_795_262_400_123);
        assert_eq!(UnixMillis::parse(&instant.to_string()), Ok(instant));
    }

    #[test]
    fn a_zone_is_understood() {
        assert_eq!(UnixMillis::parse("2026-11-21T20:00:00+08:00"), UnixMillis::parse("2026-11-21T12:00:00Z"));
    }

    #[test]
    fn an_earlier_instant_is_no_time_after_a_later_one() {
        assert_eq!(UnixMillis(5).since(UnixMillis(9)), Duration::ZERO);
        assert_eq!(UnixMillis(9).since(UnixMillis(5)), Duration::from_millis(4));
    }
}
