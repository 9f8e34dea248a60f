//! Owns the words in which every accepted delivery ends, with their reasons and rules.

use std::fmt;

/// The end of one message. Summed over distinct delivery ids, the outcomes equal the number of acknowledged deliveries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The message changed what a reader of the table sees.
    Applied,
    /// The state already says what the change says.
    Unchanged,
    /// The state already held newer content, or a stronger mark.
    Superseded,
    /// A named rule keeps the message out of the state.
    Ignored(Rule),
    /// The message became this many messages, each of which succeeds or fails alone.
    Split(usize),
    /// The message is in the dead-letter queue with its reason, and can be replayed.
    Quarantined(Reason),
}

impl Outcome {
    /// Returns the outcome's name, the value of the metric's dimension.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Superseded => "superseded",
            Self::Ignored(_) => "ignored",
            Self::Split(_) => "split",
            Self::Quarantined(_) => "quarantined",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ignored(rule) => write!(f, "ignored: {}", rule.0),
            Self::Split(parts) => write!(f, "split: {parts}"),
            Self::Quarantined(reason) => write!(f, "quarantined: {}", reason.name()),
            other => f.write_str(other.name()),
        }
    }
}

/// The name of a rule by which messages are ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rule(pub &'static str);

impl Rule {
    /// No entity processor declares the topic (`scope`).
    pub const UNKNOWN_SCOPE: Self = Self("unknown-scope");
    /// Nobody connected this connection.
    pub const UNKNOWN_CONNECTION: Self = Self("unknown-connection");
    /// The connection was disconnected; its webhooks may still deliver for a while.
    pub const DISCONNECTED: Self = Self("disconnected");
    /// The path's generation is not the connection's.
    pub const RETIRED_GENERATION: Self = Self("retired-generation");
    /// The connection's settings exclude this topic.
    pub const UNWANTED_SCOPE: Self = Self("unwanted-scope");
    /// The connection is paused; polling later finds the changes that it missed.
    pub const PAUSED: Self = Self("paused");
    /// The registrar sent the delivery, to test that deliveries arrive.
    pub const PROBE: Self = Self("probe");
    /// The change is our own action at the platform.
    pub const ECHO: Self = Self("echo");
    /// Notes of a full sync's pages are missing, so nobody can tell which entities it did not list.
    pub const SWEEP_INCOMPLETE: Self = Self("sweep-incomplete");
    /// The delete is of an entity that was never here and is not at the platform either.
    pub const NEVER_HERE: Self = Self("never-here");
    /// A list shortly before already had every entry that the delivery stands for.
    pub const FOUND: Self = Self("found-before");
    /// The change counts only if its entity is known here, and it is not.
    pub const NOT_KNOWN: Self = Self("not-known-here");
    /// The delivery is about no entity; the registrar has a note of it.
    pub const NOTED: Self = Self("noted-for-the-registrar");
    /// The message carried the platform's count of an entity, which was compared.
    pub const COUNTED: Self = Self("counted");
    /// The command to project an entity's items again under another delete policy was carried out.
    pub const REPROJECTED: Self = Self("reprojected");
    /// The command to erase a connection's state was carried out.
    pub const ERASED: Self = Self("erased");
    /// The command to erase a state met a connection that is no longer disconnected.
    pub const CONNECTED_AGAIN: Self = Self("connected-again");
    /// The command to tell readers of every entity was carried out.
    pub const SNAPSHOT_TOLD: Self = Self("snapshot-told");
    /// The command to verify a connection was carried out.
    pub const VERIFIED: Self = Self("verified");
    /// A verification met one that began later.
    pub const VERIFIED_ANEW: Self = Self("verified-anew");
    /// The platform demanded a redaction, which the registrar orders.
    pub const DEMANDED: Self = Self("redaction-demanded");
    /// The command to redact a person was carried out.
    pub const REDACTED: Self = Self("redacted");
    /// The connection's policy ignores deletes of this entity.
    pub const DELETES_IGNORED: Self = Self("deletes-ignored");
}

/// The reason for which a message is in the dead-letter queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// The message is unreadable for this release: not JSON, malformed, or of an unknown version.
    UnknownMessage,
    /// The message names a platform that this release does not have.
    UnknownPlatform,
    /// The proven body did not fit a message, or an entity or answer exceeds the limits on size.
    TooLarge,
    /// The body, or the platform's answer, is not as the platform documents.
    Malformed,
    /// The platform delivered an error in place of an entity, or a list without end.
    PlatformError,
    /// The item would exceed DynamoDB's limit, even without `extra`, the platform's fields beyond the canonical ones.
    ItemTooLarge,
    /// The change is so old that its entity's item may have been removed and have expired since.
    TooOld,
    /// Other writers changed the entity's item, or a notice, before each of five writes.
    Contention,
    /// The table could not be read or written.
    StateUnavailable,
    /// The platform's API could not be reached, or answered with a failure of its own.
    PlatformUnavailable,
    /// The platform's API refuses the connection's credentials or does not know the endpoint.
    ConnectionFault,
    /// The platform refused an action.
    ActionRefused,
    /// The deadline cut off the message ten times.
    OutOfTime,
    /// The code panicked on this message.
    Panic,
    /// The message was deferred too often.
    DeferredTooOften,
}

impl Reason {
    /// Returns the reason's name, as in the message attribute and in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownMessage => "unknown-message",
            Self::UnknownPlatform => "unknown-platform",
            Self::TooLarge => "too-large",
            Self::Malformed => "malformed",
            Self::PlatformError => "platform-error",
            Self::ItemTooLarge => "item-too-large",
            Self::TooOld => "too-old",
            Self::Contention => "contention",
            Self::StateUnavailable => "state-unavailable",
            Self::PlatformUnavailable => "platform-unavailable",
            Self::ConnectionFault => "connection-fault",
            Self::ActionRefused => "action-refused",
            Self::OutOfTime => "out-of-time",
            Self::Panic => "panic",
            Self::DeferredTooOften => "deferred-too-often",
        }
    }
}
