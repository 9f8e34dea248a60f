//! What a platform tells of a connection itself and not of an entity; the registrar reads it.

use crate::{
    platform::mapping::{Incoming, MapError},
    timestamp::Timestamp,
};

/// What the names of notes begin with that hold a [`Notice`].
pub const NOTICE: &str = "notice#";

/// How long such a note is kept, in seconds.
pub const NOTICE_SECONDS: i64 = 400 * 24 * 60 * 60;

/// The kind of the [`Notice`] that the app was removed at the platform.
pub const UNINSTALLED: &str = "uninstalled";

/// What the kinds of [`Notice`]s begin with that say that a webhook delivers refusals in place of entities, for whoever owns it at the platform
/// has lost his rights there; its scope follows.
pub const WITHOUT_RIGHTS: &str = "hook-without-rights#";

/// Something about a connection that the registrar has to know.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Notice {
    /// What kind: [`UNINSTALLED`], `delivery-exception`. Of one kind, the last is kept.
    pub kind: String,
    /// For people: what the platform says beyond it. Nothing secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// When it was received.
    pub received: Timestamp,
}

/// Platforms that tell of connections themselves.
pub trait Notices: Sync {
    /// Scopes that tell of the connection itself and not of an entity: only the registrar has to know. Subscribed to as well.
    fn scopes(&self) -> &'static [&'static str] {
        &[]
    }

    /// Reads a delivery of one of [`Mapping::notices`].
    ///
    /// # Errors
    /// [`MapError`]; the delivery is then quarantined.
    fn read(&self, _scope: &str, _body: &[u8], _received: Timestamp) -> Result<Notice, MapError> {
        Err(MapError::Malformed("the scope: it tells the registrar nothing".into()))
    }

    /// What the registrar has to know where the platform delivered an error in place of an entity.
    fn complaint(&self, _incoming: &Incoming<'_>) -> Option<Notice> {
        None
    }
}
