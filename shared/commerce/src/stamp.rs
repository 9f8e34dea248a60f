//! Owns the one notion of time: UTC microseconds, always handed in, never read from a clock.

use std::fmt;

use jiff::{Timestamp, civil::DateTime};
use serde::{Deserialize, Serialize};

/// A moment in UTC, in microseconds since 1970. Microseconds, because some platforms send them and milliseconds would
/// make their events tie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamp(i64);

impl Stamp {
    /// From microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From milliseconds since 1970, as API Gateway's `requestContext.timeEpoch` gives them.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// Microseconds since 1970.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This moment moved by whole seconds, which may be negative.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// The calendar form; `None` outside the years that a calendar knows.
    pub fn timestamp(self) -> Option<Timestamp> {
        Timestamp::from_microsecond(self.0).ok()
    }
}

impl From<Timestamp> for Stamp {
    fn from(at: Timestamp) -> Self {
        Self(at.as_microsecond())
    }
}

/// RFC 3339, with as many fractional digits as there are.
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.timestamp() {
            Some(at) => write!(f, "{at}"),
            None => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads a date and time that carries no zone but is known to be UTC (`2026-11-21T01:48:39`), or one that does carry a zone.
pub fn parse_utc(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let civil: DateTime = text.parse().ok()?;
    civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_time_without_a_zone_is_utc() {
        let bare = parse_utc("2026-11-21T01:48:39").unwrap();
        assert_eq!(bare, parse_utc("2026-11-21T01:48:39Z").unwrap());
        assert_eq!(bare, parse_utc("2026-11-21T02:48:39+01:00").unwrap());
        assert_eq!(Stamp::from(bare).to_string(), "2026-11-21T01:48:39Z");
        assert_eq!(parse_utc("yesterday"), None);
    }

    #[test]
    fn extreme_stamps_do_not_overflow() {
        assert_eq!(Stamp::from_micros(i64::MAX).plus_seconds(1).micros(), i64::MAX);
        assert_eq!(Stamp::from_micros(i64::MAX).timestamp(), None);
        assert_eq!(Stamp::from_micros(-1).seconds(), -1);
    }
}
