//! The edges of commerce-hooks: what pure code asks for and the world answers. Each edge is a narrow trait (the IAM policy of
//! the function that uses it is as narrow), its AWS implementation beside it, and a twin in [`memory`] for tests.

pub mod aws;
pub mod budget;
pub mod connections;
pub mod coordination;
pub mod memory;
pub mod outbound;
pub mod proof_keys;
pub mod queue;
pub mod secrets;
pub mod state;
pub mod telemetry;

use commerce::timestamp::Timestamp;

/// The time now. The only place where a clock is read.
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A text that nobody can guess: 32 random bytes in hex.
///
/// # Errors
/// When the system has no randomness to give.
pub fn nonce() -> Result<String, EdgeError> {
    Ok(random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Random bytes that nobody can guess.
///
/// # Errors
/// When the system has none.
pub fn random<const N: usize>() -> Result<[u8; N], EdgeError> {
    use aws_lc_rs::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| EdgeError::new("random bytes", "the system has none"))?;
    Ok(bytes)
}

/// Something at an edge failed. The text is for our logs; it names the operation, never what was in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {cause}")]
pub struct EdgeError {
    /// What was tried.
    pub operation: &'static str,
    /// What came of it.
    pub cause: String,
    /// Whether trying again at once cannot help.
    pub lasting: bool,
}

impl EdgeError {
    /// An error of an operation.
    pub fn new(operation: &'static str, cause: impl Into<String>) -> Self {
        Self { operation, cause: cause.into(), lasting: false }
    }
}
