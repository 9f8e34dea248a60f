//! What is recorded of each webhook at the platform, and how it is doing.

use serde::{Deserialize, Serialize};

use crate::{entity::ExternalId, key::Generation, timestamp::Timestamp};

/// A webhook that we made, as the `Connections` table holds it under the sort key `webhook#{scope}`. Platforms do
/// not give secrets back, so key and generation say which secret was set last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WebhookRecord {
    /// The platform's own event name.
    pub scope: String,
    /// Its id at the platform.
    pub id: ExternalId,
    /// Where it delivers to.
    pub url: String,
    /// The signing key that its secret was derived from.
    pub key_id: String,
    /// What tells the secret that it was given apart from others: one that is derived now under the same id may be another. Records of before
    /// have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The generation that its secret was derived for.
    pub generation: Generation,
    /// How it was doing when it was looked at last.
    #[serde(default)]
    pub health: Health,
}

/// How a webhook does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is on, and nothing speaks against it.
    #[default]
    Healthy,
    /// It is on, but has been quiet for much longer than it ever was.
    Silent,
    /// The platform, or somebody there, has switched it off.
    SwitchedOff,
    /// It is not there.
    Missing,
    /// It is entered by hand; the platform does not tell.
    Manual,
}

/// What is remembered of a webhook's health between two looks.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Health {
    /// The last verdict.
    pub verdict: Verdict,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Why it is not healthy, or was not the last time; for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How often it was switched on again since it last stayed on.
    #[serde(default)]
    pub trips: u32,
    /// When it was switched on again last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reactivated_at: Option<Timestamp>,
    /// Before that it is not switched on again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// When it was known to be on last: what happened after that may have been missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_at: Option<Timestamp>,
}

impl Health {
    /// Of a webhook that has just been made.
    pub fn new(now: Timestamp) -> Self {
        Self { since: Some(now), good_at: Some(now), ..Self::default() }
    }
}
