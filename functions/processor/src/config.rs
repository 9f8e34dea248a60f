//! The processor's configuration, from its environment.

use cloud::{
    EdgeError,
    aws::{flag, variable},
    bus::changes,
};
use commerce::{change_event::Detail, http_call::Loopback};

/// The processor's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The URL of the inbox.
    pub inbox: String,
    /// The URL of the dead-letter queue.
    pub dead_letters: String,
    /// The URL of the registrar's queue.
    pub jobs: String,
    /// The name of the table of entities.
    pub entities: String,
    /// The name of the table of connections.
    pub connections: String,
    /// The name of the table of notes.
    pub coordination: String,
    /// The ARN of the key that encrypts credentials.
    pub credentials_key: String,
    /// The name of the bus of change events, and the part of an entity that travels, in a stack that tells readers.
    pub changes: Option<(String, Detail)>,
    /// The choice of whether platforms may be on this machine, for local runs only.
    pub loopback: Loopback,
}

impl Config {
    /// Reads `INBOX_URL`, `DLQ_URL`, `JOBS_URL`, `ENTITIES_TABLE`, `CONNECTIONS_TABLE`, `COORDINATION_TABLE`,
    /// `CREDENTIALS_KEY`, `CHANGES_BUS` and `CHANGE_EVENTS` if there is a bus, and `ALLOW_LOOPBACK_PLATFORMS`.
    ///
    /// # Errors
    /// An error that names the missing variable.
    pub fn from_env() -> Result<Self, EdgeError> {
        Ok(Self {
            inbox: variable("INBOX_URL")?,
            dead_letters: variable("DLQ_URL")?,
            jobs: variable("JOBS_URL")?,
            entities: variable("ENTITIES_TABLE")?,
            connections: variable("CONNECTIONS_TABLE")?,
            coordination: variable("COORDINATION_TABLE")?,
            credentials_key: variable("CREDENTIALS_KEY")?,
            changes: changes()?,
            loopback: Loopback::allowed_if(flag("ALLOW_LOOPBACK_PLATFORMS")),
        })
    }
}
