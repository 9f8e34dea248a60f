//! The edges of commerce-hooks: what pure code asks for and the world answers. Each edge is a trait as narrow as the
//! IAM policy of the function that uses it, with its AWS implementation beside it and a twin in [`memory`] for tests.

pub mod aws;
pub mod budget;
pub mod bus;
pub mod connections;
pub mod coordination;
pub mod endpoints;
pub mod key_sets;
pub mod memory;
pub mod outbound;
pub mod proof_keys;
pub mod queue;
pub mod secrets;
pub mod senders;
pub mod state;
pub mod telemetry;

use commerce::timestamp::Timestamp;

/// Returns the time now. No other code reads the wall clock.
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Returns an unguessable text: 32 random bytes in hex.
///
/// # Errors
/// [`EdgeError`] when the system has no randomness.
pub fn nonce() -> Result<String, EdgeError> {
    Ok(random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Returns unguessable bytes.
///
/// # Errors
/// [`EdgeError`] when the system has no randomness.
pub fn random<const N: usize>() -> Result<[u8; N], EdgeError> {
    use aws_lc_rs::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| EdgeError::new("random bytes", "the system has none"))?;
    Ok(bytes)
}

/// A failure at an edge. Its text is for our logs: it names the operation, never the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {cause}")]
pub struct EdgeError {
    /// The operation.
    pub operation: &'static str,
    /// The cause.
    pub cause: String,
    /// `true` when another attempt at once cannot help.
    pub lasting: bool,
}

impl EdgeError {
    /// Makes an error of an operation that another attempt may mend.
    pub fn new(operation: &'static str, cause: impl Into<String>) -> Self {
        Self { operation, cause: cause.into(), lasting: false }
    }
}
