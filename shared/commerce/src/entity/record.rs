//! Owns the canonical record: an event that stands for itself.

use serde::{Deserialize, Serialize};

use super::ExternalId;

/// An event that no entity of this module stands for, kept as it came: its data is among the platform's own fields.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Record {
    /// The id of the message, or a hash of its body where it has none.
    pub id: ExternalId,
    /// The platform's name of the event; absent where the body is no object.
    pub event: Option<String>,
    /// The time of the event, as the platform tells it.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub occurred_at: Option<jiff::Timestamp>,
    /// The person who had signed in when it came to be, where the platform names one. Only the delivery's proof vouches for it.
    #[serde(default)]
    pub user: Option<String>,
}
