//! Owns the one notion of time: UTC microseconds, passed as an argument and never read from a clock.

use std::fmt;

use jiff::{
    civil::{self, DateTime},
    fmt::temporal::Pieces,
};
use serde::{Deserialize, Serialize};

/// A moment in UTC, in microseconds since 1970. Some platforms send microseconds, and in milliseconds their events
/// would tie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Makes a timestamp from microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Makes a timestamp from milliseconds since 1970, the unit of API Gateway's `requestContext.timeEpoch`.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// Returns the microseconds since 1970.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since 1970, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Returns this moment moved by whole seconds, which may be negative.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// Returns the milliseconds that have passed since an earlier instant, and 0 since a later one.
    pub fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0).max(0) / 1000
    }

    /// Returns the calendar form, or `None` outside the years that jiff's calendar covers.
    pub fn timestamp(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_microsecond(self.0).ok()
    }
}

impl Timestamp {
    /// Returns RFC 3339 with exactly six fractional digits, which sorts as text in the order of time. Outside the
    /// calendar's years it returns the number of microseconds.
    pub fn sortable(self) -> String {
        self.timestamp().map_or_else(|| self.to_string(), |at| format!("{at:.6}"))
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(at: jiff::Timestamp) -> Self {
        Self(at.as_microsecond())
    }
}

/// The RFC 3339 form, with only as many fractional digits as needed. Outside the calendar's years: the number of
/// microseconds.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.timestamp() {
            Some(at) => write!(f, "{at}"),
            None => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The last moment that a [`jiff::Timestamp`] can hold, to the second. A time in the last days of the year 9999 stands
/// for no end.
pub const NO_END: jiff::Timestamp = jiff::Timestamp::constant(253_402_207_200, 0);

/// The error for a text that is not a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no time")]
pub struct NotATime;

/// Parses a date and time, with a zone or without one. A time without a zone is in UTC (`2026-11-21T01:48:39`).
///
/// A time later than can be held becomes [`NO_END`]: .NET's greatest date, and `9999-12-31`, which people enter for
/// "never". .NET's least date (`0001-01-01T00:00:00`) and MySQL's zero date stand for no time and give `None`.
///
/// # Errors
/// [`NotATime`].
pub fn parse_time(text: &str) -> Result<Option<jiff::Timestamp>, NotATime> {
    let text = text.trim();
    if text.starts_with("0000-00-00") {
        return Ok(None);
    }
    let pieces = Pieces::parse(text).map_err(|_| NotATime)?;
    let date = pieces.date();
    if date == civil::date(1, 1, 1) || date == civil::date(0, 12, 31) && pieces.offset().is_some() {
        return Ok(None);
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(Some(at.min(NO_END)));
    }
    if date >= civil::date(9999, 12, 30) {
        return Ok(Some(NO_END));
    }
    let civil: DateTime = text.parse().map_err(|_| NotATime)?;
    jiff::tz::TimeZone::UTC.to_timestamp(civil).map(Some).map_err(|_| NotATime)
}

/// Parses a time as [`parse_time`] does, and returns `None` for an error, too.
pub fn parse_utc(text: &str) -> Option<jiff::Timestamp> {
    parse_time(text).ok().flatten()
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
        assert_eq!(Timestamp::from(bare).to_string(), "2026-11-21T01:48:39Z");
        assert_eq!(parse_utc("yesterday"), None);
    }

    #[test]
    fn no_end_and_no_time_are_told_apart_from_what_is_no_time() {
        for text in [
            "9999-12-31T23:59:59.9999999",
            "9999-12-31T23:59:59.9999999Z",
            "9999-12-31T00:00:00",
            "9999-12-31T23:59:59+02:00",
            "9999-12-31 23:59:59",
            "9999-12-31",
            "9999-12-30T23:00:00Z",
        ] {
            assert_eq!(parse_time(text), Ok(Some(NO_END)), "{text}");
        }
        assert_eq!(NO_END.to_string(), "9999-12-30T22:00:00Z");
        assert_eq!(parse_time("9999-12-29T00:00:00Z").unwrap().unwrap().to_string(), "9999-12-29T00:00:00Z");
        for text in
            ["0001-01-01T00:00:00", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.0000000+00:00", "0000-00-00 00:00:00"]
        {
            assert_eq!(parse_time(text), Ok(None), "{text}");
        }
        for text in
            ["", "yesterday", "9999-13-31", "10000-01-01T00:00:00Z", "2026-02-30T00:00:00", "9999-12-31T25:00:00"]
        {
            assert_eq!(parse_time(text), Err(NotATime), "{text}");
        }
    }

    #[test]
    fn sortable_texts_sort_as_time_does() {
        let texts = [1_795_219_200_000_000, 1_795_219_200_000_001, 1_795_219_200_100_000, 1_795_219_201_000_000];
        let texts = texts.map(|micros| Timestamp::from_micros(micros).sortable());
        assert_eq!(texts[0], "2026-11-21T00:00:00.000000Z");
        assert!(texts.is_sorted(), "{texts:?}");
    }

    #[test]
    fn extreme_stamps_do_not_overflow() {
        assert_eq!(Timestamp::from_micros(i64::MAX).plus_seconds(1).micros(), i64::MAX);
        assert_eq!(Timestamp::from_micros(i64::MAX).timestamp(), None);
        assert_eq!(Timestamp::from_micros(-1).seconds(), -1);
    }
}
