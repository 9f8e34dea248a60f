//! Owns the name of a store: platform, connection and generation.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One store or account on a platform: the tenant. Its id matches `[a-z0-9][a-z0-9._-]{0,99}` and is lower-cased on
/// entry.
///
/// The id is part of paths, table keys and `MessageGroupId`, so no text outside the grammar may become one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConnectionId(String);

/// The error for a text that is not a connection id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a connection id is 1 to 100 of a-z, 0-9, '.', '_' and '-', and starts with a letter or digit")]
pub struct NotAConnectionId;

impl ConnectionId {
    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConnectionId {
    type Err = NotAConnectionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = text.to_ascii_lowercase();
        let bytes = id.as_bytes();
        let starts = bytes.first().is_some_and(u8::is_ascii_alphanumeric);
        let legal = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte));
        if starts && legal && bytes.len() <= 100 { Ok(Self(id)) } else { Err(NotAConnectionId) }
    }
}

impl TryFrom<String> for ConnectionId {
    type Error = NotAConnectionId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The count of times that a connection was connected, from 1. It is part of the webhook's path and derived secrets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(u32);

impl Generation {
    /// The generation of a connection that was connected once.
    pub const FIRST: Self = Self(1);

    /// Returns the generation as a number, at least 1.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Returns the generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Parses the canonical form that paths carry: digits without a leading zero, at least 1.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.parse::<u32>().ok()?;
        (number >= 1 && number.to_string() == text).then_some(Self(number))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Platform and connection: the partition key of every table, and the queue's `MessageGroupId`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ConnectionKey {
    /// The platform's name, as in the list of platforms.
    pub platform: String,
    /// The connection at that platform.
    pub connection: ConnectionId,
}

impl fmt::Display for ConnectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.platform, self.connection)
    }
}

impl From<ConnectionId> for String {
    fn from(id: ConnectionId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_ids_keep_to_their_grammar() {
        for good in ["shop.example.com", "0", "a_b-c.d", "Shop.Example.COM", &"a".repeat(100)] {
            assert_eq!(good.parse::<ConnectionId>().map(|id| id.0), Ok(good.to_ascii_lowercase()), "{good}");
        }
        for bad in ["", ".a", "-a", "_a", "a/b", "a#b", "a b", "å", "a%20", &"a".repeat(101)] {
            assert_eq!(bad.parse::<ConnectionId>(), Err(NotAConnectionId), "{bad}");
        }
    }

    #[test]
    fn a_generation_has_one_spelling() {
        assert_eq!(Generation::parse("1"), Some(Generation::FIRST));
        assert_eq!(Generation::parse("12"), Some(Generation(12)));
        for bad in ["", "0", "01", "+1", "-1", "1.0", "4294967296"] {
            assert_eq!(Generation::parse(bad), None, "{bad}");
        }
    }
}
