//! Owns the messages of the registrar's own queue: the connection to check, and the reason. A job is a hint: the work
//! follows from the tables, so a lost, late or repeated job does no harm.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{entity::EntityKind, key::ConnectionKey, redaction::Pseudonym, timestamp::Timestamp};

/// The number of shards of the list of all connections. Each is swept by itself.
pub const SHARDS: u32 = 16;

/// Something for the registrar to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "kebab-case")]
pub enum Job {
    /// A sweep over one shard of the list of all connections, which queues a [`Job::Check`] for each.
    Sweep {
        /// The shard, below [`SHARDS`].
        shard: u32,
        /// The position to continue at, as the list gave it; `None` at its beginning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// The time at which the sweep began.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        begun: Option<Timestamp>,
    },
    /// A check of a connection: its webhooks and their health, polls that are due, the rest of a disconnection.
    Check {
        /// The connection.
        #[serde(flatten)]
        key: ConnectionKey,
        /// The reason.
        why: Trigger,
        /// The number of times that the check was put off.
        #[serde(default, skip_serializing_if = "crate::json::is_default")]
        tries: u8,
        /// The time since which another check that found all well suffices, because late jobs leave several checks for
        /// each connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
    },
    /// A fetch of the next pages of an entity.
    Poll {
        /// The connection.
        #[serde(flatten)]
        key: ConnectionKey,
        /// The kind of entity.
        entity: EntityKind,
    },
    /// A full sync of an entity, because more are known here than the platform has.
    Sync {
        /// The connection.
        #[serde(flatten)]
        key: ConnectionKey,
        /// The kind of entity.
        entity: EntityKind,
    },
    /// A verification of a sample of each connection in one shard of the list of all connections.
    VerifyAll {
        /// The shard, below [`SHARDS`].
        shard: u32,
        /// The position to continue at, as the list gave it; `None` at its beginning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// The number of entities of each kind.
        sample: u32,
    },
    /// A verification of a sample of a connection.
    Verify {
        /// The connection.
        #[serde(flatten)]
        key: ConnectionKey,
        /// The number of entities of each kind.
        sample: u32,
    },
    /// A redaction that the platform demanded.
    Redact {
        /// The connection.
        #[serde(flatten)]
        key: ConnectionKey,
        /// The persons.
        persons: BTreeSet<Pseudonym>,
    },
    /// The next steps of a rotation of the signing keys, as far as it can go.
    Rotate,
}

/// The reason to check a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// The schedule's turn.
    Schedule,
    /// The connection was installed, connected, or changed.
    Connected,
    /// Somebody asked for the check.
    Asked,
    /// The platform's API refused the connection's credentials.
    Refused,
    /// The platform reported something that the registrar has to know: there is a notice.
    Told,
}

impl Job {
    /// Makes a check of a connection, at its first try.
    pub fn check(key: &ConnectionKey, why: Trigger) -> Self {
        Self::Check { key: key.clone(), why, tries: 0, since: None }
    }

    /// Parses a message.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Returns the message's text.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns the `MessageGroupId`, so that the jobs of one connection do not delay the others'.
    pub fn group(&self) -> String {
        match self {
            Self::Sweep { shard, .. } => format!("sweep-{shard}"),
            Self::VerifyAll { shard, .. } => format!("verify-{shard}"),
            Self::Check { key, .. }
            | Self::Poll { key, .. }
            | Self::Sync { key, .. }
            | Self::Verify { key, .. }
            | Self::Redact { key, .. } => key.to_string(),
            Self::Rotate => "rotation".to_owned(),
        }
    }
}

/// Returns the shard of the list of all connections that a connection belongs to.
pub fn shard(key: &ConnectionKey) -> u32 {
    // Any hash that never changes would do; this is FNV-1a.
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
                Job::Redact { key: key("a"), persons: BTreeSet::from([Pseudonym::of_customer(&key("a"), "7")]) },
                r#"{"job":"redact","platform":"woocommerce","connection":"a","persons":["FE-BAi9LG_ZqSKO8KSdACA"]}"#,
            ),
            (Job::VerifyAll { shard: 3, after: None, sample: 20 }, r#"{"job":"verify-all","shard":3,"sample":20}"#),
            (
                Job::Verify { key: key("a"), sample: 20 },
                r#"{"job":"verify","platform":"woocommerce","connection":"a","sample":20}"#,
            ),
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
        // Computed elsewhere: a connection's shard must never change.
        assert_eq!(shard(&key("shop.example.com")), 7);
        let mut counts = [0; SHARDS as usize];
        for number in 0..10_000 {
            counts[shard(&key(&format!("shop{number}"))) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (500..750).contains(count)), "{counts:?}");
    }
}
