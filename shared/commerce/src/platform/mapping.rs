//! What the processor has to know of a platform: what its topics mean, and how an entity is read and fetched.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    change::Change,
    connection::Connection,
    entity::{EntityKind, ExternalId},
    http_call::{ApiRequest, ApiResponse, Fault},
    key::ConnectionKey,
    outcome::Rule,
    platform::{delivery::PROBE, notice::Notice},
    timestamp::Timestamp,
    transfer::{Action, EntityProcessor, Listing, Transfer},
};

/// A delivery that is to be mapped.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// Whose it is.
    pub connection: &'a ConnectionKey,
    /// The platform's own event name.
    pub scope: &'a str,
    /// What the platform calls the delivery.
    pub delivery_id: Option<&'a str>,
    /// What its scope resolved to.
    pub entity: EntityKind,
    /// What its scope says has happened.
    pub action: Action,
    /// The raw bytes.
    pub body: &'a [u8],
    /// The moment of observation.
    pub received: Timestamp,
}

/// What a delivery, or a pulled answer, says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mapped {
    /// A change of one entity.
    Change(ExternalId, Change),
    /// A change that counts only if its entity is known here, alive or deleted; else it is ignored by the rule.
    IfKnown(ExternalId, Change, Rule),
    /// Only which entity it is about: all else has to be pulled.
    Pull(ExternalId),
    /// Only which entity it is about, which has to be pulled, and what the delivery alone knows of it, kept beside what is pulled.
    PullWith(ExternalId, Change),
    /// All entities of a kind that are known here and whose ids begin with one of these: they have to be asked for.
    Known(EntityKind, Vec<String>),
    /// Several entities, each of which is brought up to date alone.
    Split(Vec<Transfer>),
    /// Something in a list of the platform's, which has to be gone through.
    List(Listing),
    /// Nothing that is kept.
    Ignored(Rule),
}

/// Why a delivery could not be mapped. Never repeats what the body says.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MapError {
    /// The body is not what the platform documents; names the place.
    #[error("the body is not what the platform documents, at {0}")]
    Malformed(String),
    /// It holds more than anything that the platform documents; names what there is too much of.
    #[error("the body holds {0}")]
    TooLarge(String),
    /// The platform delivered an error object.
    #[error("the platform delivered its error {0} in place of the entity")]
    PlatformError(String),
}

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

/// One page of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// What is in it.
    pub found: Vec<Transfer>,
    /// Where it goes on, in this list or in the next one.
    pub next: Option<Listing>,
}

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

/// How often a platform's API may be called for one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// So many calls,
    pub calls: u32,
    /// in so many seconds.
    pub seconds: u32,
}

/// How often a connection's API is called: as often as its platform allows, or a quarter of that until the connection is confirmed.
pub fn budget(mapping: &dyn Mapping, connection: &Connection) -> Budget {
    let Budget { calls, seconds } = mapping.budget();
    Budget { calls: if connection.unconfirmed { calls.div_ceil(4) } else { calls }, seconds }
}

/// What the processor has to know of a platform.
pub trait Mapping: Sync {
    /// The entity processors; their scopes are what is subscribed to.
    fn processors(&self) -> &'static [EntityProcessor];

    /// Scopes that tell of the connection itself and not of an entity: only the registrar has to know. Subscribed to as well.
    fn notices(&self) -> &'static [&'static str] {
        &[]
    }

    /// Reads a delivery of one of [`Mapping::notices`].
    ///
    /// # Errors
    /// [`MapError`]; the delivery is then quarantined.
    fn notice(&self, _scope: &str, _body: &[u8], _received: Timestamp) -> Result<Notice, MapError> {
        Err(MapError::Malformed("the scope: it tells the registrar nothing".into()))
    }

    /// A named rule for scopes that no entity processor declares.
    fn ignores(&self, _scope: &str) -> Option<Rule> {
        None
    }

    /// Whether deliveries can come with this scope: what is set for another one would do nothing. Where nobody knows all of them, any
    /// that can be a name is one.
    fn is_scope(&self, scope: &str) -> bool {
        let name = (1..=200).contains(&scope.len()) && !scope.chars().any(char::is_control) && scope != PROBE;
        let declares =
            self.processors().iter().any(|one| one.takes_webhooks() && one.scopes.iter().any(|own| own.name == scope));
        name && (self.fallback().is_some() || declares || self.notices().contains(&scope))
    }

    /// What takes scopes that nobody knows, where they are not to be ignored.
    fn fallback(&self) -> Option<(EntityKind, Action)> {
        None
    }

    /// Whether a connection takes a delivery with these claims in its proof.
    ///
    /// # Errors
    /// The rule by which it is ignored.
    fn admits(&self, _connection: &Connection, _claims: &BTreeMap<String, String>) -> Result<(), Rule> {
        Ok(())
    }

    /// Maps a delivery.
    ///
    /// # Errors
    /// [`MapError`]; the delivery is then quarantined.
    fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError>;

    /// Adds on whose account it happened, where the delivery says so and that is kept.
    fn by_user(&self, _incoming: &Incoming<'_>, _user: &str, mapped: Mapped) -> Mapped {
        mapped
    }

    /// Where the platform delivered an error in place of an entity: the list in which that entity has to be.
    fn recover(&self, _incoming: &Incoming<'_>) -> Option<Listing> {
        None
    }

    /// Whether the platform tells of deletes of what never was, such as the same id of another kind.
    fn tells_of_strangers(&self) -> bool {
        false
    }

    /// What the registrar has to know where the platform delivered an error in place of an entity.
    fn complaint(&self, _incoming: &Incoming<'_>) -> Option<Notice> {
        None
    }

    /// How often the API may be called for one connection.
    fn budget(&self) -> Budget;

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

    /// The call for the next page of a list.
    ///
    /// # Errors
    /// As [`Mapping::pull`].
    fn list(&self, _access: &Access<'_>, listing: &Listing) -> Result<ApiRequest, Fault> {
        Err(Fault::Unreadable(format!("there is no list {:?}", listing.what)))
    }

    /// The list of an entity for polling it: of those that have changed since a time, or of all of them. Its entries come in an
    /// order in which none is passed over when others come, go or change meanwhile; one may come twice.
    fn poll(&self, _entity: EntityKind, _since: Option<Timestamp>) -> Option<Listing> {
        None
    }

    /// The call that tells how many there are of an entity, of those that are kept as wholes: children are not counted. None where
    /// the platform cannot be asked so cheaply.
    fn count(&self, _access: &Access<'_>, _entity: EntityKind) -> Option<Result<ApiRequest, Fault>> {
        None
    }

    /// Reads the answer to [`Mapping::count`].
    fn counted(&self, _response: &ApiResponse) -> Option<u64> {
        None
    }

    /// A list that is begun, where all that had changed until then was found before: what is left of it.
    fn rest_of(&self, listing: Listing, _found_until: Timestamp) -> Listing {
        listing
    }

    /// Reads the answer to [`Mapping::list`].
    ///
    /// # Errors
    /// As [`Mapping::pull`].
    fn listed(
        &self,
        _access: &Access<'_>,
        listing: &Listing,
        _response: &ApiResponse,
        _at: Timestamp,
    ) -> Result<Listed, Fault> {
        Err(Fault::Unreadable(format!("there is no list {:?}", listing.what)))
    }

    /// How many entries a page of a list was asked for: one that has more is none.
    fn page_size(&self, _listing: &Listing) -> usize {
        MAX_ENTRIES
    }

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

    /// With the delete policy `update`: the fields that a deleted entity has, known from its id alone.
    fn deleted_fields(&self, _entity: EntityKind, _id: &ExternalId) -> Map<String, Value> {
        Map::from_iter([("status".to_owned(), json!("deleted"))])
    }
}

/// The most entities that one delivery, or one page of a list, stands for: each becomes a message. BigCommerce takes up to 1,000 price
/// records in one call, and tells of them in one delivery [`price_lists.v3.yml`, `upsertPriceListRecords`]; no page of any platform
/// has more than that.
pub const MAX_ENTRIES: usize = 1_000;

/// Maps a delivery: the only way to [`Mapping::map`] from outside of a platform's folder.
///
/// # Errors
/// [`MapError`], also for a delivery that stands for more than [`MAX_ENTRIES`].
pub fn mapped(mapping: &dyn Mapping, incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
    match mapping.map(incoming)? {
        Mapped::Split(parts) if parts.len() > MAX_ENTRIES => {
            Err(MapError::TooLarge(format!("more than {MAX_ENTRIES} entities")))
        }
        mapped => Ok(mapped),
    }
}

/// Reads a page of a list: the only way to [`Mapping::listed`] from outside of a platform's folder.
///
/// # Errors
/// The [`Fault`] that the answer means, also for a page of more than was asked for.
pub fn listed(
    mapping: &dyn Mapping,
    access: &Access<'_>,
    listing: &Listing,
    response: &ApiResponse,
    at: Timestamp,
) -> Result<Listed, Fault> {
    let listed = mapping.listed(access, listing, response, at)?;
    let most = mapping.page_size(listing).min(MAX_ENTRIES);
    if listed.found.len() > most {
        return Err(Fault::Unreadable(format!("a page of more than the {most} entries that were asked for")));
    }
    Ok(listed)
}

/// All scopes that a platform's entity processors declare, and those for the registrar: what is subscribed to.
pub fn declared_scopes(mapping: &dyn Mapping) -> impl Iterator<Item = &'static str> {
    let hooked = mapping.processors().iter().filter(|processor| processor.takes_webhooks());
    let entities = hooked.flat_map(|processor| processor.scopes.iter().map(|scope| scope.name));
    entities.chain(mapping.notices().iter().copied())
}

/// What a scope resolves to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolved {
    /// An entity, and what has happened to it.
    Entity(EntityKind, Action),
    /// Something that the registrar has to know.
    Notice,
    /// Nothing that is kept.
    Ignored(Rule),
}

/// Finds what a scope means to a platform. An unknown scope goes to the platform's fallback where it has one; else it is ignored
/// by a named rule, and counted: it is no error of the sender, who would switch the webhook off.
pub fn resolve(mapping: &dyn Mapping, scope: &str) -> Resolved {
    let declared = mapping.processors().iter().filter(|processor| processor.takes_webhooks()).find_map(|processor| {
        let found = processor.scopes.iter().find(|declared| declared.name == scope)?;
        Some(Resolved::Entity(processor.entity, found.action))
    });
    let noticed = || mapping.notices().contains(&scope).then_some(Resolved::Notice);
    declared.or_else(noticed).unwrap_or_else(|| match (mapping.ignores(scope), mapping.fallback()) {
        (Some(rule), _) => Resolved::Ignored(rule),
        (None, Some((entity, action))) => Resolved::Entity(entity, action),
        (None, None) => Resolved::Ignored(Rule::UNKNOWN_SCOPE),
    })
}

/// The processor of a kind of entity.
pub fn processor(mapping: &dyn Mapping, entity: EntityKind) -> Option<&'static EntityProcessor> {
    mapping.processors().iter().find(|processor| processor.entity == entity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::{Direction, Payload, own};

    struct Exporting;

    impl Mapping for Exporting {
        fn processors(&self) -> &'static [EntityProcessor] {
            static PROCESSORS: &[EntityProcessor] = &[EntityProcessor {
                entity: EntityKind::Product,
                direction: Direction::Export,
                payload: Payload::Full,
                pull: true,
                polling: None,
                scopes: &[own("product.updated", Action::Updated)],
                requires: &[],
                followed_by: &[],
            }];
            PROCESSORS
        }
        fn map(&self, _: &Incoming<'_>) -> Result<Mapped, MapError> {
            Err(MapError::Malformed("never".into()))
        }
        fn budget(&self) -> Budget {
            Budget { calls: 1, seconds: 1 }
        }
        fn pull(&self, _: &Wanted<'_>, _: &[ApiResponse]) -> Result<Next, Fault> {
            Err(Fault::Unreadable("never".into()))
        }
    }

    #[test]
    fn what_is_only_exported_takes_no_webhooks() {
        assert_eq!(resolve(&Exporting, "product.updated"), Resolved::Ignored(Rule::UNKNOWN_SCOPE));
        assert_eq!(declared_scopes(&Exporting).count(), 0);
    }
}
