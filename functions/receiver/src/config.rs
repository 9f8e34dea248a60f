//! The receiver's configuration, from its environment.

use cloud::{
    EdgeError,
    aws::{flag, variable},
};
use commerce::http_call::Loopback;

/// The receiver's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The URL of the inbox.
    pub inbox: String,
    /// The ARN of the secret with the signing keys.
    pub signing_keys: String,
    /// The ARN of the secret with the app credentials.
    pub app_credentials: String,
    /// The name of the table of keys that clients brought.
    pub proof_keys: String,
    /// The name of the table of declared senders.
    pub senders: String,
    /// The choice of whether platforms may be on this machine.
    pub loopback: Loopback,
}

impl Config {
    /// Reads `INBOX_URL`, `SIGNING_KEYS`, `APP_CREDENTIALS`, `PROOF_KEYS_TABLE`, `SENDERS_TABLE` and
    /// `ALLOW_LOOPBACK_PLATFORMS`.
    ///
    /// # Errors
    /// An error that names the missing variable.
    pub fn from_env() -> Result<Self, EdgeError> {
        Ok(Self {
            inbox: variable("INBOX_URL")?,
            signing_keys: variable("SIGNING_KEYS")?,
            app_credentials: variable("APP_CREDENTIALS")?,
            proof_keys: variable("PROOF_KEYS_TABLE")?,
            senders: variable("SENDERS_TABLE")?,
            loopback: Loopback::allowed_if(flag("ALLOW_LOOPBACK_PLATFORMS")),
        })
    }
}
