//! Actions at a platform, by the connection's settings.

use serde_json::{Map, Value};

use crate::{
    entity::EntityKind,
    http_call::{ApiRequest, ApiResponse, Fault},
    platform::{mapping::Mapped, pull::Wanted},
};
/// A decision to act at the platform, by the connection's settings.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Decision {
    /// The action: `approve`, `fail`, `inquire`.
    pub action: String,
    /// The action's arguments, which only the platform's mapping can read.
    pub with: Value,
    /// `true` when nothing can follow the action.
    pub last: bool,
}

/// The progress of an action at the platform, given the answers so far.
#[derive(Clone, Debug)]
pub enum Acted {
    /// A call to make; its answer is added to the others.
    Ask(ApiRequest),
    /// The action is done, and this is the entity since.
    Done(Mapped),
    /// The action no longer applies: the platform shows this other state than the one that was decided on.
    Void(Mapped),
    /// The platform refuses the action for good; the reason, without secrets.
    Refused(String),
}

/// A platform that has actions.
pub trait Act: Sync {
    /// Returns whether there are actions for this kind of entity, by the connection's settings.
    fn acts_on(&self, _entity: EntityKind, _settings: &Map<String, Value>) -> bool {
        false
    }

    /// Decides on the action for a pulled entity, by the connection's settings.
    fn decide(&self, _wanted: &Wanted<'_>, _answers: &[ApiResponse]) -> Option<Decision> {
        None
    }

    /// Carries out a decision, call after call. The first call reads the entity again, and the action is taken only if
    /// the decision still fits.
    ///
    /// # Errors
    /// As [`Pull::pull`](super::pull::Pull::pull).
    fn act(&self, _wanted: &Wanted<'_>, decision: &Decision, _answers: &[ApiResponse]) -> Result<Acted, Fault> {
        Err(Fault::Unreadable(format!("there is no action {:?}", decision.action)))
    }
}
