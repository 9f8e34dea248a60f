//! Fetching one entity from a platform, as it is now.

use serde_json::{Map, Value};

use crate::{
    connection::Connection,
    entity::{EntityKind, ExternalId},
    http_call::{ApiRequest, ApiResponse, Fault},
    outcome::Rule,
    platform::{Platform, mapping::Mapped},
    timestamp::Timestamp,
};
/// Where and as whom a platform's API is called.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    /// The store's or account's base URL, without a trailing slash.
    pub site: &'a str,
    /// The credentials, as [`Setup::settings`] packed them.
    pub credentials: &'a str,
    /// The platform's own settings, as [`Setup::settings`] checked them.
    pub settings: &'a Map<String, Value>,
}

/// One entity that is to be pulled.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Where and as whom.
    pub access: Access<'a>,
    /// The kind of entity.
    pub entity: EntityKind,
    /// Its id.
    pub id: &'a ExternalId,
    /// The instant before the first call.
    pub at: Timestamp,
}

/// What comes next, seen the answers so far.
#[derive(Clone, Debug)]
pub enum Next {
    /// This has to be asked; its answer is added to the others.
    Ask(ApiRequest),
    /// That is all.
    Done(Mapped),
}

/// How often a platform's API may be called for one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// So many calls,
    pub calls: u32,
    /// in so many seconds.
    pub seconds: u32,
}

/// How often a connection's API is called: as often as its platform allows, or a quarter of that until the connection is confirmed.
pub fn budget(platform: &Platform, connection: &Connection) -> Budget {
    let Budget { calls, seconds } = platform.budget;
    Budget { calls: if connection.unconfirmed { calls.div_ceil(4) } else { calls }, seconds }
}

/// Platforms that one entity can be fetched from.
pub trait Pull: Sync {
    /// Asks for one entity as it is now, call after call: some need several, which make one entity (its bucket). Done with a
    /// [`Mapped::Change`], [`Mapped::IfKnown`] or [`Mapped::Ignored`].
    ///
    /// Only the platform's own not-found answer for that very resource is a delete. Any other 404 is a fault of the connection.
    ///
    /// # Errors
    /// [`Fault::Connection`] when the site or the credentials are none, and the [`Fault`] that an answer means.
    fn pull(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Result<Next, Fault>;

    /// Of an entity that is not known here: the rule by which it will be ignored, as far as the answers to [`Mapping::pull`] show
    /// already. Spares the calls that would make it complete.
    fn only_if_known(&self, _wanted: &Wanted<'_>, _answers: &[ApiResponse]) -> Option<Rule> {
        None
    }
}
