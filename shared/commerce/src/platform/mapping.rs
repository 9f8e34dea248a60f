//! The processor's part of a platform: the meaning of its topics, and the mapping of deliveries to entities.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{
    change::Change,
    connection::Connection,
    entity::{EntityKind, ExternalId},
    key::ConnectionKey,
    outcome::Rule,
    platform::{Platform, delivery::PROBE, notice::Notices},
    redaction::Pseudonym,
    timestamp::Timestamp,
    transfer::{Action, Direction, EntityProcessor, Listing, Transfer},
};

/// A delivery to map.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// The connection that it belongs to.
    pub connection: &'a ConnectionKey,
    /// The topic (`scope`): the platform's own event name.
    pub scope: &'a str,
    /// The platform's id of the delivery.
    pub delivery_id: Option<&'a str>,
    /// The kind of entity that its topic resolved to.
    pub entity: EntityKind,
    /// The event that its topic reports.
    pub action: Action,
    /// The raw bytes.
    pub body: &'a [u8],
    /// The moment of observation.
    pub received: Timestamp,
}

/// The meaning of a delivery, or of a pulled answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mapped {
    /// A change of one entity.
    Change(ExternalId, Change),
    /// A change that counts only if its entity is known here, alive or deleted; otherwise the rule ignores it.
    IfKnown(ExternalId, Change, Rule),
    /// The entity that it is about: all else has to be pulled.
    Pull(ExternalId),
    /// The entity that it is about, which has to be pulled, and the facts that only the delivery has, kept beside the
    /// pulled ones.
    PullWith(ExternalId, Change),
    /// All known entities of a kind whose ids begin with one of these: they have to be pulled.
    Known(EntityKind, Vec<String>),
    /// Several entities, each of which is brought up to date alone.
    Split(Vec<Transfer>),
    /// Something in a list at the platform, which has to be read.
    List(Listing),
    /// The platform's demand to redact these persons.
    Redact(BTreeSet<Pseudonym>),
    /// Nothing that is kept.
    Ignored(Rule),
}

/// The reason for which a delivery could not be mapped. It never repeats the body.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MapError {
    /// The body is not as the platform documents, at the named place.
    #[error("the body is not what the platform documents, at {0}")]
    Malformed(String),
    /// The body holds more than the platform documents; the text says what.
    #[error("the body holds {0}")]
    TooLarge(String),
    /// The platform delivered an error object.
    #[error("the platform delivered its error {0} in place of the entity")]
    PlatformError(String),
}

/// The processor's part of a platform.
pub trait Mapping: Sync {
    /// Returns the entity processors. Webhooks are made for their topics.
    fn processors(&self) -> &'static [EntityProcessor];

    /// Returns the named rule for a topic that no entity processor declares.
    fn ignores(&self, _scope: &str) -> Option<Rule> {
        None
    }

    /// Returns whether deliveries can carry this topic, because settings for any other would have no effect. Where
    /// nobody knows all topics, every text that can be a name counts.
    fn is_scope(&self, scope: &str) -> bool {
        let name = (1..=200).contains(&scope.len()) && !scope.chars().any(char::is_control) && scope != PROBE;
        let declares =
            self.processors().iter().any(|one| one.takes_webhooks() && one.scopes.iter().any(|own| own.name == scope));
        name && (self.fallback().is_some() || declares)
    }

    /// Returns the kind and event for unknown topics, where they are not to be ignored.
    fn fallback(&self) -> Option<(EntityKind, Action)> {
        None
    }

    /// Returns the part that maps deliveries by their connection's settings, where these alone know the topics.
    fn by_settings(&self) -> Option<&'static dyn BySettings> {
        None
    }

    /// Returns whether the platform's API returns one entity of a kind by its id, for a connection with these settings.
    fn pulls(&self, _settings: &Map<String, Value>, entity: EntityKind) -> bool {
        self.processors().iter().any(|processor| processor.entity == entity && processor.pull)
    }

    /// Checks that a connection accepts a delivery with these claims in its proof.
    ///
    /// # Errors
    /// The rule by which the delivery is ignored.
    fn admits(&self, _connection: &Connection, _claims: &BTreeMap<String, String>) -> Result<(), Rule> {
        Ok(())
    }

    /// Maps a delivery.
    ///
    /// # Errors
    /// [`MapError`]; the delivery is then quarantined.
    fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError>;

    /// Adds the user on whose account the event happened, where the delivery names one and the entity keeps it.
    fn by_user(&self, _incoming: &Incoming<'_>, _user: &str, mapped: Mapped) -> Mapped {
        mapped
    }

    /// Returns the list that contains an entity, where the platform delivered an error in its place.
    fn recover(&self, _incoming: &Incoming<'_>) -> Option<Listing> {
        None
    }

    /// Returns the names of the members in which a body, or a record kept as it came, holds a customer's id: in lower
    /// case, letters and digits alone. A redaction looks for the person there.
    fn customer_members(&self) -> &'static [&'static str] {
        &["customerid"]
    }

    /// Returns whether the platform delivers deletes of entities that never existed, such as the same id of another
    /// kind.
    fn tells_of_strangers(&self) -> bool {
        false
    }
}

/// A delivery whose meaning is in its connection's settings.
#[derive(Clone, Copy)]
pub struct Settled<'a> {
    /// The connection's own settings.
    pub settings: &'a Map<String, Value>,
    /// The topic.
    pub scope: &'a str,
    /// The sender's id of the delivery.
    pub delivery_id: Option<&'a str>,
    /// The values of the request, beyond its body, that the receiver kept in the message.
    pub claims: &'a BTreeMap<String, String>,
    /// The raw bytes.
    pub body: &'a [u8],
    /// The moment of observation.
    pub received: Timestamp,
}

/// The meaning of a delivery by its connection's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Meant {
    /// One entity.
    Entity(EntityKind, Mapped),
    /// Several parts, each of which is a delivery of its own.
    Parts(Vec<Part>),
    /// Nothing that is kept.
    Ignored(Rule),
}

/// A part of a delivery that has many.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Its topic.
    pub scope: String,
    /// Its id.
    pub delivery_id: Option<String>,
    /// Its body.
    pub body: Bytes,
}

/// The claim of a message that is a part of a delivery.
pub const PART: &str = "part";

/// The mapping of deliveries by their connection's settings.
pub trait BySettings: Sync {
    /// Maps a delivery.
    ///
    /// # Errors
    /// [`MapError`]; the delivery is then quarantined.
    fn map(&self, delivery: &Settled<'_>) -> Result<Meant, MapError>;
}

/// The most entities that one delivery, or one page of a list, stands for; each becomes a message.
///
/// BigCommerce takes up to 1,000 price records in one call, and reports them in one delivery [`price_lists.v3.yml`,
/// `upsertPriceListRecords`]. No page of any platform has more.
pub const MAX_ENTRIES: usize = 1_000;

/// Maps a delivery: the only way to [`Mapping::map`] from outside of a platform's folder.
///
/// # Errors
/// [`MapError`], also for a delivery that stands for more than [`MAX_ENTRIES`].
pub fn map_delivery(mapping: &dyn Mapping, incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
    match mapping.map(incoming)? {
        Mapped::Split(parts) if parts.len() > MAX_ENTRIES => {
            Err(MapError::TooLarge(format!("more than {MAX_ENTRIES} entities")))
        }
        mapped => Ok(mapped),
    }
}

fn notice_scopes(platform: &Platform) -> &'static [&'static str] {
    platform.notices.map(Notices::scopes).unwrap_or_default()
}

/// Returns whether deliveries of a platform can carry this topic: those of its entities, and those for the registrar.
pub fn is_scope(platform: &Platform, scope: &str) -> bool {
    platform.mapping.is_scope(scope) || notice_scopes(platform).contains(&scope)
}

/// Returns the fields of a deleted entity under the delete policy `update`.
pub fn deleted_fields() -> Map<String, Value> {
    Map::from_iter([("status".to_owned(), json!("deleted"))])
}

/// Returns all topics that have webhooks: those that a platform's entity processors declare, and those for the
/// registrar.
pub fn declared_scopes(platform: &Platform) -> impl Iterator<Item = &'static str> + use<> {
    let hooked = platform.mapping.processors().iter().filter(|processor| processor.takes_webhooks());
    let entities = hooked.flat_map(|processor| processor.scopes.iter().map(|scope| scope.name));
    entities.chain(notice_scopes(platform).iter().copied())
}

/// The meaning of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolved {
    /// An event of an entity.
    Entity(EntityKind, Action),
    /// A notice for the registrar.
    Notice,
    /// Nothing that is kept.
    Ignored(Rule),
}

/// Resolves a topic at a platform. An unknown topic goes to the platform's fallback where it has one. Otherwise a named
/// rule ignores it, and it is counted: an error would make the sender switch the webhook off.
pub fn resolve(platform: &Platform, scope: &str) -> Resolved {
    let mapping = platform.mapping;
    let declared = mapping.processors().iter().filter(|processor| processor.takes_webhooks()).find_map(|processor| {
        let found = processor.scopes.iter().find(|declared| declared.name == scope)?;
        Some(Resolved::Entity(processor.entity, found.action))
    });
    let noticed = || notice_scopes(platform).contains(&scope).then_some(Resolved::Notice);
    declared.or_else(noticed).unwrap_or_else(|| match (mapping.ignores(scope), mapping.fallback()) {
        (Some(rule), _) => Resolved::Ignored(rule),
        (None, Some((entity, action))) => Resolved::Entity(entity, action),
        (None, None) => Resolved::Ignored(Rule::UNKNOWN_SCOPE),
    })
}

/// Returns the kinds of entity that travel from a platform to here.
pub fn imported(platform: &Platform) -> Vec<EntityKind> {
    let processors = platform.mapping.processors().iter();
    processors.filter(|declared| declared.direction != Direction::Export).map(|declared| declared.entity).collect()
}

/// Returns the processor of a kind of entity.
pub fn processor(mapping: &dyn Mapping, entity: EntityKind) -> Option<&'static EntityProcessor> {
    mapping.processors().iter().find(|processor| processor.entity == entity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::{Payload, own};

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
    }

    fn exporting() -> Platform {
        Platform {
            mapping: &Exporting,
            pull: None,
            lists: None,
            act: None,
            notices: None,
            ..crate::platforms::woocommerce::PLATFORM
        }
    }

    #[test]
    fn what_is_only_exported_takes_no_webhooks() {
        assert_eq!(resolve(&exporting(), "product.updated"), Resolved::Ignored(Rule::UNKNOWN_SCOPE));
        assert_eq!(declared_scopes(&exporting()).count(), 0);
    }
}
