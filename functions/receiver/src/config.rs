//! Owns what the receiver reads from its environment.

use cloud::{EdgeError, aws::variable};

/// The receiver's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// URL of the queue.
    pub inbox: String,
    /// ARN of the secret with the signing keys.
    pub signing_keys: String,
}

impl Config {
    /// Reads `INBOX_URL` and `SIGNING_KEYS`.
    ///
    /// # Errors
    /// Names the variable that is missing.
    pub fn from_env() -> Result<Self, EdgeError> {
        Ok(Self { inbox: variable("INBOX_URL")?, signing_keys: variable("SIGNING_KEYS")? })
    }
}
