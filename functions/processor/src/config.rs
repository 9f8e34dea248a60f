//! The processor's configuration, from its environment.

use cloud::{
    EdgeError,
    aws::{flag, variable},
};
use commerce::http_call::Loopback;

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
    /// The choice of whether platforms may be on this machine, for local runs only.
    pub loopback: Loopback,
}

impl Config {
    /// Reads `INBOX_URL`, `DLQ_URL`, `JOBS_URL`, `ENTITIES_TABLE`, `CONNECTIONS_TABLE`, `COORDINATION_TABLE`,
    /// `CREDENTIALS_KEY` and `ALLOW_LOOPBACK_PLATFORMS`.
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
            loopback: Loopback::allowed_if(flag("ALLOW_LOOPBACK_PLATFORMS")),
        })
    }
}
