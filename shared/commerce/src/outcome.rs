//! Owns the words in which every accepted delivery ends, and the reasons and rules that go with them.

use std::fmt;

/// How one message ended. Sums over distinct delivery ids add up to what was acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// What a reader of the table sees has changed.
    Applied,
    /// The change says what the state says already.
    Unchanged,
    /// Newer content, or a stronger mark, was there already.
    Superseded,
    /// A named rule says that this is not for the state.
    Ignored(Rule),
    /// Became so many messages, each of which succeeds or fails alone.
    Split(usize),
    /// Put into the dead-letter queue with its reason; can be replayed.
    Quarantined(Reason),
}

impl Outcome {
    /// The outcome's name, the value of the metric's dimension.
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

/// The name of a rule by which deliveries are ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rule(pub &'static str);

impl Rule {
    /// No entity processor declares the scope.
    pub const UNKNOWN_SCOPE: Self = Self("unknown-scope");
    /// Nobody connected this connection.
    pub const UNKNOWN_CONNECTION: Self = Self("unknown-connection");
    /// The connection was disconnected; its webhooks may go on for a while.
    pub const DISCONNECTED: Self = Self("disconnected");
    /// The delivery came over a path whose generation is not the connection's.
    pub const RETIRED_GENERATION: Self = Self("retired-generation");
    /// The connection's settings say that this scope is not wanted.
    pub const UNWANTED_SCOPE: Self = Self("unwanted-scope");
    /// The connection is paused; what is missed is polled afterwards.
    pub const PAUSED: Self = Self("paused");
    /// Sent by the registrar, to find out whether deliveries get through.
    pub const PROBE: Self = Self("probe");
    /// A change that was made from here.
    pub const ECHO: Self = Self("echo");
    /// Not all is known of what a full fetch came upon, so nobody can tell what was not among it.
    pub const SWEEP_INCOMPLETE: Self = Self("sweep-incomplete");
    /// A delete of what was never here, and is not at the platform either.
    pub const NEVER_HERE: Self = Self("never-here");
    /// What it stands for was found in a list shortly before.
    pub const FOUND: Self = Self("found-before");
    /// It matters only if it is known here, and it is not.
    pub const NOT_KNOWN: Self = Self("not-known-here");
    /// Nothing of the state; kept for the registrar.
    pub const NOTED: Self = Self("noted-for-the-registrar");
    /// How many of an entity there are at the platform, which was compared.
    pub const COUNTED: Self = Self("counted");
    /// The order to show what is marked by other policies, which is done.
    pub const REPROJECTED: Self = Self("reprojected");
    /// The order to erase a connection's state, which is done.
    pub const ERASED: Self = Self("erased");
    /// The order to erase the state of a connection that is not disconnected any more.
    pub const CONNECTED_AGAIN: Self = Self("connected-again");
    /// The connection's policy does not take deletes of this entity.
    pub const DELETES_IGNORED: Self = Self("deletes-ignored");
}

/// Why a message is in the dead-letter queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// The message is none that this release can read: not JSON, or of an unknown version.
    UnknownMessage,
    /// The message names a platform that this release does not have.
    UnknownPlatform,
    /// The body was proven but did not fit a message.
    TooLarge,
    /// The body is not what the platform documents.
    Malformed,
    /// The platform delivered an error object where an entity should be.
    PlatformError,
    /// The item would be larger than DynamoDB takes, even without what the platform has beyond the canonical fields.
    ItemTooLarge,
    /// The change is older than what expiry could have erased.
    TooOld,
    /// The entity's item was written by others five times in a row.
    Contention,
    /// The table could not be read or written.
    StateUnavailable,
    /// The platform's API could not be reached or answered with a failure of its own.
    PlatformUnavailable,
    /// The platform's API refuses the connection's credentials or does not know its endpoint.
    ConnectionFault,
    /// The platform refused what was to be done there.
    ActionRefused,
    /// It was cut off by the deadline ten times.
    OutOfTime,
    /// The code panicked on this message.
    Panic,
    /// The message was deferred too often.
    DeferredTooOften,
}

impl Reason {
    /// The reason's name, as message attribute and in logs.
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
