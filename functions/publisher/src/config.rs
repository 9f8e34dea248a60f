//! The publisher's configuration, from its environment.

use cloud::{EdgeError, aws::variable, bus::changes};
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
        variable("CHANGES_BUS")?;
        let (bus, detail) = changes()?.ok_or_else(|| EdgeError::new("CHANGES_BUS", "is empty"))?;
        Ok(Self { bus, detail })
    }
}
