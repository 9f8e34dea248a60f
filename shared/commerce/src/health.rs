//! Owns the record of each webhook at the platform, and its health.

use serde::{Deserialize, Serialize};

use crate::{entity::ExternalId, key::Generation, timestamp::Timestamp};

/// A webhook that we made, as the `Connections` table holds it under the sort key `subscription#{scope}`. Platforms do not
/// return secrets, so key and generation say which secret was last set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WebhookRecord {
    /// The topic (`scope`), in the platform's own words.
    pub scope: String,
    /// The webhook's id at the platform.
    pub id: ExternalId,
    /// The URL that it delivers to.
    pub url: String,
    /// The signing key that its secret was derived from.
    pub key_id: String,
    /// The fingerprint of the secret that it was given, because a secret derived now under the same key id may be
    /// another. Records of earlier releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The generation that its secret was derived for.
    pub generation: Generation,
    /// The webhook's health, as last seen.
    #[serde(default)]
    pub health: Health,
}

/// The state of a webhook's health.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Switched on, with nothing against it.
    #[default]
    Healthy,
    /// Switched on, but quiet for much longer than its longest pause before.
    Silent,
    /// Switched off by the platform, or by somebody there.
    SwitchedOff,
    /// Missing at the platform.
    Missing,
    /// Entered by hand; the platform does not report on it.
    Manual,
}

/// The health of one webhook, as kept between two checks.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Health {
    /// The last verdict.
    pub verdict: Verdict,
    /// The time since which the verdict holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The reason for the last verdict that was not healthy; for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The number of times that it was switched on again since it last stayed on.
    #[serde(default)]
    pub trips: u32,
    /// The time at which it was last switched on again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reactivated_at: Option<Timestamp>,
    /// The time before which it is not switched on again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// The last time at which it was known to be on. Later changes may have been missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_at: Option<Timestamp>,
}

impl Health {
    /// Makes the health of a webhook that has just been made.
    pub fn new(now: Timestamp) -> Self {
        Self { since: Some(now), good_at: Some(now), ..Self::default() }
    }
}
