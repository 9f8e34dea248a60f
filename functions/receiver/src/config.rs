//! Owns what the receiver reads from its environment.

use cloud::{EdgeError, aws::variable};

/// The receiver's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// URL of the queue.
    pub inbox: String,
    /// ARN of the secret with the signing keys.
    pub signing_keys: String,
    /// ARN of the secret with the app credentials.
    pub app_credentials: String,
    /// Name of the table of keys that clients brought.
    pub proof_keys: String,
}

impl Config {
    /// Reads `INBOX_URL`, `SIGNING_KEYS`, `APP_CREDENTIALS` and `PROOF_KEYS_TABLE`.
    ///
    /// # Errors
    /// Names the variable that is missing.
    pub fn from_env() -> Result<Self, EdgeError> {
        Ok(Self {
            inbox: variable("INBOX_URL")?,
            signing_keys: variable("SIGNING_KEYS")?,
            app_credentials: variable("APP_CREDENTIALS")?,
            proof_keys: variable("PROOF_KEYS_TABLE")?,
        })
    }
}
