//! Owns the units in which senders write times.

use serde::Deserialize;

use crate::timestamp::Timestamp;

/// The unit of a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Seconds since 1970, perhaps with a fraction.
    #[default]
    S,
    /// Milliseconds since 1970.
    Ms,
    /// RFC 3339.
    Rfc3339,
}

impl Unit {
    /// Reads a time; `None` when the text is none.
    pub fn read(self, text: &str) -> Option<Timestamp> {
        let digits =
            |text: &str| !text.is_empty() && text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Self::S => {
                let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
                let fits = digits(whole) && whole.len() <= 12 && digits(fraction);
                let seconds: i64 = whole.parse().ok().filter(|_| fits)?;
                let micros: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
                Some(Timestamp::from_micros(seconds.checked_mul(1_000_000)?.checked_add(micros)?))
            }
            Self::Ms => digits(text).then(|| text.parse().ok().map(Timestamp::from_millis)).flatten(),
            Self::Rfc3339 => text.parse::<jiff::Timestamp>().ok().map(Timestamp::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_their_units_alone() {
        let micros = |unit: Unit, text: &str| unit.read(text).map(Timestamp::micros);
        assert_eq!(micros(Unit::S, "1533204620"), Some(1_533_204_620_000_000));
        assert_eq!(micros(Unit::S, "1533204620.25"), Some(1_533_204_620_250_000));
        assert_eq!(micros(Unit::Ms, "1633519811129"), Some(1_633_519_811_129_000));
        assert_eq!(micros(Unit::Rfc3339, "2020-01-01T00:00:00-07:00"), Some(1_577_862_000_000_000));
        for bad in ["", "-1", "+1", "1e9", " 1", "1.", "1.x", "9999999999999999999", "now"] {
            assert_eq!(micros(Unit::S, bad), None, "{bad}");
            assert_eq!(micros(Unit::Ms, bad), None, "{bad}");
            assert_eq!(micros(Unit::Rfc3339, bad), None, "{bad}");
        }
    }
}
