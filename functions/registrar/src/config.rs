//! Owns what the registrar reads from its environment.

use cloud::{
    EdgeError,
    aws::{flag, variable},
};
use commerce::http_call::Loopback;

/// The registrar's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the table of connections.
    pub connections: String,
    /// Name of the table of notes.
    pub coordination: String,
    /// Name of the table of keys that clients brought.
    pub proof_keys: String,
    /// ARN of the key that credentials are encrypted with.
    pub credentials_key: String,
    /// ARN of the secret with the signing keys.
    pub signing_keys: String,
    /// ARN of the secret with the admin keys.
    pub admin_key: String,
    /// ARN of the secret with the app credentials.
    pub app_credentials: String,
    /// URL of the registrar's own queue.
    pub jobs: String,
    /// URL of the processor's queue.
    pub inbox: String,
    /// Where platforms reach the receiver.
    pub public_base_url: String,
    /// For local runs: platforms may be on this machine.
    pub loopback: Loopback,
}

impl Config {
    /// Reads `CONNECTIONS_TABLE`, `COORDINATION_TABLE`, `PROOF_KEYS_TABLE`, `CREDENTIALS_KEY`, `SIGNING_KEYS`, `ADMIN_KEY`,
    /// `APP_CREDENTIALS`, `JOBS_URL`, `INBOX_URL`, `PUBLIC_BASE_URL` and `ALLOW_LOOPBACK_PLATFORMS`.
    ///
    /// # Errors
    /// Names the variable that is missing.
    pub fn from_env() -> Result<Self, EdgeError> {
        Ok(Self {
            connections: variable("CONNECTIONS_TABLE")?,
            coordination: variable("COORDINATION_TABLE")?,
            proof_keys: variable("PROOF_KEYS_TABLE")?,
            credentials_key: variable("CREDENTIALS_KEY")?,
            signing_keys: variable("SIGNING_KEYS")?,
            admin_key: variable("ADMIN_KEY")?,
            app_credentials: variable("APP_CREDENTIALS")?,
            jobs: variable("JOBS_URL")?,
            inbox: variable("INBOX_URL")?,
            public_base_url: variable("PUBLIC_BASE_URL")?,
            loopback: Loopback::allowed_if(flag("ALLOW_LOOPBACK_PLATFORMS")),
        })
    }
}
