//! Doing something at a platform, by the connection's settings.

use serde_json::{Map, Value};

use crate::{
    entity::EntityKind,
    http_call::{ApiRequest, ApiResponse, Fault},
    platform::{mapping::Mapped, pull::Wanted},
};
/// Something that is to be done at the platform, by the connection's settings.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Decision {
    /// What: `approve`, `fail`, `inquire`.
    pub action: String,
    /// With what; only the platform's mapping can read it.
    pub with: Value,
    /// Whether nothing can follow it.
    pub last: bool,
}

/// How far something that is done at the platform has come, seen the answers so far.
#[derive(Clone, Debug)]
pub enum Acted {
    /// This has to be asked; its answer is added to the others.
    Ask(ApiRequest),
    /// It is done, and this is the entity since.
    Done(Mapped),
    /// It is not to be done any more: the platform shows another state than the one that was decided on, which is this.
    Void(Mapped),
    /// The platform refuses it, for good; the reason, without what may be secret.
    Refused(String),
}

/// Platforms that something can be done at.
pub trait Act: Sync {
    /// Whether anything is to be done at the platform about this kind of entity, by the connection's settings.
    fn acts_on(&self, _entity: EntityKind, _settings: &Map<String, Value>) -> bool {
        false
    }

    /// What is to be done about an entity as it was pulled, by the connection's settings.
    fn decide(&self, _wanted: &Wanted<'_>, _answers: &[ApiResponse]) -> Option<Decision> {
        None
    }

    /// Does what was decided, call after call. The first call reads the entity again, and what is decided is done only if it
    /// still fits.
    ///
    /// # Errors
    /// As [`Mapping::pull`].
    fn act(&self, _wanted: &Wanted<'_>, decision: &Decision, _answers: &[ApiResponse]) -> Result<Acted, Fault> {
        Err(Fault::Unreadable(format!("there is no action {:?}", decision.action)))
    }
}
