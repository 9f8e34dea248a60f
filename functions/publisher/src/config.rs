//! The publisher's configuration, from its environment.

use cloud::{EdgeError, aws::variable};
use commerce::change_event::Detail;

/// The publisher's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the bus.
    pub bus: String,
    /// The part of each change that travels.
    pub detail: Detail,
}

impl Config {
    /// Reads `CHANGES_BUS` and `CHANGE_EVENTS` (`ids` or `full`).
    ///
    /// # Errors
    /// An error that names the variable that is missing or says something else.
    pub fn from_env() -> Result<Self, EdgeError> {
        let detail = match variable("CHANGE_EVENTS")?.as_str() {
            "ids" => Detail::Ids,
            "full" => Detail::Full,
            other => return Err(EdgeError::new("CHANGE_EVENTS", format!("must be ids or full, not {other:?}"))),
        };
        Ok(Self { bus: variable("CHANGES_BUS")?, detail })
    }
}
