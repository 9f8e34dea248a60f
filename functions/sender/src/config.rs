//! The sender's configuration, from its environment.

use cloud::{
    EdgeError,
    aws::{flag, variable},
};
use commerce::http_call::Loopback;

/// The sender's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the table of connections, which has the endpoints.
    pub connections: String,
    /// The name of the table of notes.
    pub coordination: String,
    /// The ARN of the key that encrypts secrets.
    pub credentials_key: String,
    /// The URL of the queue of deliveries.
    pub deliveries: String,
    /// The URL of the queue of deliveries that were given up.
    pub undelivered: String,
    /// The choice of whether endpoints may be on this machine, for local runs only.
    pub loopback: Loopback,
}

impl Config {
    /// Reads `CONNECTIONS_TABLE`, `COORDINATION_TABLE`, `CREDENTIALS_KEY`, `DELIVERIES_URL`, `UNDELIVERED_URL` and
    /// `ALLOW_LOOPBACK_PLATFORMS`.
    ///
    /// # Errors
    /// An error that names the missing variable.
    pub fn from_env() -> Result<Self, EdgeError> {
        Ok(Self {
            connections: variable("CONNECTIONS_TABLE")?,
            coordination: variable("COORDINATION_TABLE")?,
            credentials_key: variable("CREDENTIALS_KEY")?,
            deliveries: variable("DELIVERIES_URL")?,
            undelivered: variable("UNDELIVERED_URL")?,
            loopback: Loopback::allowed_if(flag("ALLOW_LOOPBACK_PLATFORMS")),
        })
    }
}
