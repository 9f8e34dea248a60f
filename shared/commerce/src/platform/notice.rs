//! Reports of a platform about a connection itself, not about an entity; the registrar reads them.

use crate::{
    platform::mapping::{Incoming, MapError},
    timestamp::Timestamp,
};

/// The prefix of the names of notes that hold a [`Notice`].
pub const NOTICE: &str = "notice#";

/// The time for which such a note is kept, in seconds.
pub const NOTICE_SECONDS: i64 = 400 * 24 * 60 * 60;

/// The kind of the [`Notice`] that the app was removed at the platform.
pub const UNINSTALLED: &str = "uninstalled";

/// The prefix of the kinds of [`Notice`]s that a webhook delivers refusals in place of entities, because its owner at
/// the platform has lost permissions there; the topic (`scope`) follows.
pub const WITHOUT_RIGHTS: &str = "hook-without-rights#";

/// A report about a connection that the registrar has to know.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Notice {
    /// The kind: [`UNINSTALLED`], `delivery-exception`. Of one kind, the last notice is kept.
    pub kind: String,
    /// The platform's further words, for people. Nothing secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The time of receipt.
    pub received: Timestamp,
}

/// A platform that reports on connections themselves.
pub trait Notices: Sync {
    /// Returns the topics that are about the connection itself and not about an entity, for the registrar alone. They
    /// have webhooks, too.
    fn scopes(&self) -> &'static [&'static str] {
        &[]
    }

    /// Reads a delivery of one of [`Notices::scopes`].
    ///
    /// # Errors
    /// [`MapError`]; the delivery is then quarantined.
    fn read(&self, _scope: &str, _body: &[u8], _received: Timestamp) -> Result<Notice, MapError> {
        Err(MapError::Malformed("the topic: it tells the registrar nothing".into()))
    }

    /// Returns the notice for the registrar when the platform delivered an error in place of an entity.
    fn complaint(&self, _incoming: &Incoming<'_>) -> Option<Notice> {
        None
    }
}
