//! Owns what the processor reads from its environment.

use cloud::{
    EdgeError,
    aws::{flag, variable},
};
use commerce::http_call::Loopback;

/// The processor's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// URL of the queue.
    pub inbox: String,
    /// URL of the dead-letter queue.
    pub dead_letters: String,
    /// URL of the registrar's queue.
    pub jobs: String,
    /// Name of the table of entities.
    pub entities: String,
    /// Name of the table of connections.
    pub connections: String,
    /// Name of the table of notes.
    pub coordination: String,
    /// ARN of the key that credentials are encrypted with.
    pub credentials_key: String,
    /// For local runs: platforms may be on this machine.
    pub loopback: Loopback,
}

impl Config {
    /// Reads `INBOX_URL`, `DLQ_URL`, `JOBS_URL`, `ENTITIES_TABLE`, `CONNECTIONS_TABLE`, `COORDINATION_TABLE`,
    /// `CREDENTIALS_KEY` and `ALLOW_LOOPBACK_PLATFORMS`.
    ///
    /// # Errors
    /// Names the variable that is missing.
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
