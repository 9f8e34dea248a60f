//! Owns the origin of a change: by what it came here.

use serde::{Deserialize, Serialize};

/// The origin of a change: the way by which it came here. Items and change events tell it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A delivery of the platform.
    Webhook,
    /// A sync of what has changed since the one before.
    Poll,
    /// A sync of all entities.
    FullSync,
    /// The fetch of all entities after connecting, or on request.
    Backfill,
    /// A dead letter that was brought back.
    Replay,
    /// A comparison with the platform that found a difference.
    Repair,
    /// Another delete policy of the connection.
    Policy,
    /// The redaction of a person.
    Redaction,
}
