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

impl UnixMillis {
    /// The date and the time of day; `None` for what has no year of four digits.
    fn rfc3339(self) -> Option<([u8; 24], usize)> {
        let instant = OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1000)).ok()?;
        let millis = u16::try_from(self.0.rem_euclid(1000)).ok()?;
        let year = u16::try_from(instant.year()).ok().filter(|year| *year <= 9999)?;
        let mut text = *b"0000-00-00T00:00:00.000Z";
        put(&mut text[0..4], year);
        put(&mut text[5..7], u8::from(instant.month()).into());
        put(&mut text[8..10], instant.day().into());
        put(&mut text[11..13], instant.hour().into());
        put(&mut text[14..16], instant.minute().into());
        put(&mut text[17..19], instant.second().into());
        put(&mut text[20..23], millis);
        // No more digits of the second than it has.
        let mut end = 23;
        while text[end - 1] == b'0' && end > 20 {
            end -= 1;
        }
        if end == 20 {
            end -= 1;
        }
        text[end] = b'Z';
        Some((text, end + 1))
    }
}

/// Writes a number with leading zeros. Every answer to a claim has two instants: by the general formatter they cost as much as all else
/// in it.
fn put(digits: &mut [u8], mut number: u16) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rfc3339() {
            Some((text, length)) => f.write_str(std::str::from_utf8(&text[..length]).unwrap_or_default()),
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
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_printed_as_others_print_it(millis in -62_167_219_200_000_i64..253_402_300_800_000) {
            for millis in [millis, millis / 1000 * 1000, millis / 100 * 100] {
                let instant = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).unwrap();
                prop_assert_eq!(UnixMillis(millis).to_string(), instant.format(&Rfc3339).unwrap());
            }
        }
    }

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
