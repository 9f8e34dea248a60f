//! Owns what the registrar's own queue carries: which connection has to be looked after, and why. A job is a hint: what has to be
//! done follows from the tables, so one that is lost, late or repeated does no harm.

use serde::{Deserialize, Serialize};

use crate::{entity::EntityKind, key::ConnectionKey, timestamp::Timestamp};

/// How many parts the list of all connections has: each is gone through by itself.
pub const SHARDS: u32 = 16;

/// Something for the registrar to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "kebab-case")]
pub enum Job {
    /// Go on with one part of the list of all connections: a [`Job::Check`] for each.
    Sweep {
        /// Which part, below [`SHARDS`].
        shard: u32,
        /// Where to go on, as the list gave it; none at its beginning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// When the sweep began.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        begun: Option<Timestamp>,
    },
    /// Look after a connection: its subscriptions and their health, what is due to be polled, what is left of a disconnection.
    Check {
        /// Which connection.
        #[serde(flatten)]
        key: ConnectionKey,
        /// Why.
        why: Trigger,
        /// How often it was put off already.
        #[serde(default, skip_serializing_if = "crate::json::is_default")]
        tries: u8,
        /// A look since then, at which all was well, is enough: when jobs come late, there are several for each connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
    },
    /// Fetch the next pages of an entity.
    Poll {
        /// Which connection.
        #[serde(flatten)]
        key: ConnectionKey,
        /// The kind of entity.
        entity: EntityKind,
    },
    /// Go through all of an entity: more are known here than there are at the platform.
    Sync {
        /// Which connection.
        #[serde(flatten)]
        key: ConnectionKey,
        /// The kind of entity.
        entity: EntityKind,
    },
    /// Take a rotation of the signing keys that is under way as far as it can go.
    Rotate,
}

/// Why a connection is looked after.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// It is time to.
    Schedule,
    /// It was installed, connected, or changed.
    Connected,
    /// Somebody asked for it.
    Asked,
    /// The platform's API refused its credentials.
    Refused,
    /// The platform told something about it that the registrar has to know: there is a notice.
    Told,
}

impl Job {
    /// Looks after a connection, for the first time for this reason.
    pub fn check(key: &ConnectionKey, why: Trigger) -> Self {
        Self::Check { key: key.clone(), why, tries: 0, since: None }
    }

    /// Reads a message.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The message's text.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The `MessageGroupId`: the jobs of one connection must not delay the others'.
    pub fn group(&self) -> String {
        match self {
            Self::Sweep { shard, .. } => format!("sweep-{shard}"),
            Self::Check { key, .. } | Self::Poll { key, .. } | Self::Sync { key, .. } => key.to_string(),
            Self::Rotate => "rotation".to_owned(),
        }
    }
}

/// The part of the list of all connections that a connection is in.
pub fn shard(key: &ConnectionKey) -> u32 {
    // Any hash that stays the same for ever would do; this is FNV-1a.
    let hash =
        key.to_string().bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash % SHARDS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::request::WebhookPath;

    fn key(connection: &str) -> ConnectionKey {
        WebhookPath::parse("woocommerce", connection, None).unwrap().key
    }

    /// Jobs wait in the queue across releases.
    #[test]
    fn the_form_is_a_promise() {
        let jobs = [
            (Job::Sweep { shard: 3, after: Some("x".into()), begun: None }, r#"{"job":"sweep","shard":3,"after":"x"}"#),
            (
                Job::check(&key("a"), Trigger::Schedule),
                r#"{"job":"check","platform":"woocommerce","connection":"a","why":"schedule"}"#,
            ),
            (
                Job::Check { key: key("a"), why: Trigger::Told, tries: 2, since: None },
                r#"{"job":"check","platform":"woocommerce","connection":"a","why":"told","tries":2}"#,
            ),
            (Job::Rotate, r#"{"job":"rotate"}"#),
            (
                Job::Poll { key: key("a"), entity: EntityKind::Order },
                r#"{"job":"poll","platform":"woocommerce","connection":"a","entity":"order"}"#,
            ),
        ];
        for (job, text) in jobs {
            assert_eq!((job.text().as_str(), Job::parse(text)), (text, Some(job)));
        }
        assert_eq!(Job::parse("{}"), None);
    }

    #[test]
    fn a_connection_stays_in_its_part_and_the_parts_are_alike() {
        // Computed elsewhere: where a connection is listed must stay the same.
        assert_eq!(shard(&key("shop.example.com")), 7);
        let mut counts = [0; SHARDS as usize];
        for number in 0..10_000 {
            counts[shard(&key(&format!("shop{number}"))) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (500..750).contains(count)), "{counts:?}");
    }
}
