//! The pull of one entity from a platform, in its present state.

use serde_json::{Map, Value};

use crate::{
    connection::Connection,
    entity::{EntityKind, ExternalId},
    http_call::{ApiRequest, ApiResponse, Fault},
    outcome::Rule,
    platform::{Platform, mapping::Mapped},
    timestamp::Timestamp,
};
/// The site and the credentials to call a platform's API with.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    /// The store's or account's base URL, without a trailing slash.
    pub site: &'a str,
    /// The credentials, as [`Setup::settings`](super::webhooks::Setup::settings) packed them.
    pub credentials: &'a str,
    /// The platform's own settings, as [`Setup::settings`](super::webhooks::Setup::settings) checked them.
    pub settings: &'a Map<String, Value>,
}

/// One entity to pull.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The site and the credentials.
    pub access: Access<'a>,
    /// The kind of entity.
    pub entity: EntityKind,
    /// The entity's id.
    pub id: &'a ExternalId,
    /// The instant before the first call.
    pub at: Timestamp,
}

/// The next step of a pull, given the answers so far.
#[derive(Clone, Debug)]
pub enum Next {
    /// A call to make; its answer is added to the others.
    Ask(ApiRequest),
    /// The pull is complete.
    Done(Mapped),
}

/// The reason for which an entity is not complete yet, where a pull reads its parts one after the other: a call has to be
/// made first, the pull ends early, or it fails.
pub enum Stop {
    /// The call, or the early end.
    Next(Box<Next>),
    /// The failure.
    Fault(Fault),
}

impl Stop {
    /// Makes the stop of an answer that cannot be read; `what` names the place.
    pub fn unreadable(what: impl Into<String>) -> Self {
        Self::Fault(Fault::Unreadable(what.into()))
    }

    /// Returns the next step of a pull that ended so.
    ///
    /// # Errors
    /// The [`Fault`] by which it failed.
    pub fn next(mapped: Result<Mapped, Self>) -> Result<Next, Fault> {
        match mapped {
            Ok(mapped) => Ok(Next::Done(mapped)),
            Err(Self::Next(next)) => Ok(*next),
            Err(Self::Fault(fault)) => Err(fault),
        }
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The rate at which a platform's API may be called for one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// The number of calls.
    pub calls: u32,
    /// The period, in seconds.
    pub seconds: u32,
}

/// Returns the rate of calls to a connection's API: the platform's, or a quarter of it until the connection is
/// confirmed.
pub fn budget(platform: &Platform, connection: &Connection) -> Budget {
    let Budget { calls, seconds } = platform.budget;
    Budget { calls: if connection.unconfirmed { calls.div_ceil(4) } else { calls }, seconds }
}

/// A platform that one entity can be pulled from.
pub trait Pull: Sync {
    /// Pulls one entity in its present state, call after call: some need several calls, which make up one entity (its
    /// bucket). Ends with a [`Mapped::Change`], [`Mapped::IfKnown`] or [`Mapped::Ignored`].
    ///
    /// Only the platform's own not-found answer for that very resource is a delete. Any other 404 is a fault of the
    /// connection.
    ///
    /// # Errors
    /// [`Fault::Connection`] when the site or the credentials are invalid, and the [`Fault`] that an answer means.
    fn pull(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Result<Next, Fault>;

    /// Returns the rule by which an entity that is not known here will be ignored, if the answers to [`Pull::pull`]
    /// already show that. It saves the calls that would complete the entity.
    fn only_if_known(&self, _wanted: &Wanted<'_>, _answers: &[ApiResponse]) -> Option<Rule> {
        None
    }

    /// Returns the time for which the connection's calls have to rest after this answer, in seconds, where the platform
    /// limits something else than their number, and says how much of it is left.
    fn rest(&self, _answer: &ApiResponse) -> Option<i64> {
        None
    }
}
