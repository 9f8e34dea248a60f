//! The registrar's configuration, from its environment.

use cloud::{
    EdgeError,
    aws::{flag, variable},
};
use commerce::http_call::Loopback;

/// The registrar's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the table of connections.
    pub connections: String,
    /// The name of the table of notes.
    pub coordination: String,
    /// The name of the table of keys that clients brought.
    pub proof_keys: String,
    /// The name of the table of declared senders.
    pub senders: String,
    /// The ARN of the key that encrypts credentials.
    pub credentials_key: String,
    /// The ARN of the secret with the signing keys.
    pub signing_keys: String,
    /// The ARN of the secret with the admin keys.
    pub admin_key: String,
    /// The ARN of the secret with the app credentials.
    pub app_credentials: String,
    /// The URL of the registrar's own queue.
    pub jobs: String,
    /// The URL of the processor's queue.
    pub inbox: String,
    /// The URL at which platforms reach the receiver.
    pub public_base_url: String,
    /// `true` in a stack that tells readers of changes.
    pub tells_of_changes: bool,
    /// `true` in a stack that sends changes on to endpoints.
    pub sends_webhooks: bool,
    /// The choice of whether platforms may be on this machine, for local runs only.
    pub loopback: Loopback,
}

impl Config {
    /// Reads `CONNECTIONS_TABLE`, `COORDINATION_TABLE`, `PROOF_KEYS_TABLE`, `SENDERS_TABLE`, `CREDENTIALS_KEY`, `SIGNING_KEYS`,
    /// `ADMIN_KEY`, `APP_CREDENTIALS`, `JOBS_URL`, `INBOX_URL`, `PUBLIC_BASE_URL`, `CHANGE_EVENTS`, `WEBHOOKS_OUT` and
    /// `ALLOW_LOOPBACK_PLATFORMS`.
    ///
    /// # Errors
    /// An error that names the missing variable.
    pub fn from_env() -> Result<Self, EdgeError> {
        Ok(Self {
            connections: variable("CONNECTIONS_TABLE")?,
            coordination: variable("COORDINATION_TABLE")?,
            proof_keys: variable("PROOF_KEYS_TABLE")?,
            senders: variable("SENDERS_TABLE")?,
            credentials_key: variable("CREDENTIALS_KEY")?,
            signing_keys: variable("SIGNING_KEYS")?,
            admin_key: variable("ADMIN_KEY")?,
            app_credentials: variable("APP_CREDENTIALS")?,
            jobs: variable("JOBS_URL")?,
            inbox: variable("INBOX_URL")?,
            public_base_url: variable("PUBLIC_BASE_URL")?,
            sends_webhooks: flag("WEBHOOKS_OUT"),
            tells_of_changes: variable("CHANGE_EVENTS")? != "none",
            loopback: Loopback::allowed_if(flag("ALLOW_LOOPBACK_PLATFORMS")),
        })
    }
}
