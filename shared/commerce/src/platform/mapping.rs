//! What the processor has to know of a platform: what its topics mean, and how an entity is read and fetched.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    change::Change,
    connection::Connection,
    entity::{EntityKind, ExternalId},
    key::ConnectionKey,
    outcome::Rule,
    platform::{Platform, delivery::PROBE, notice::Notices},
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

/// What the processor has to know of a platform.
pub trait Mapping: Sync {
    /// The entity processors; their scopes are what is subscribed to.
    fn processors(&self) -> &'static [EntityProcessor];

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
        name && (self.fallback().is_some() || declares)
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
}

/// The most entities that one delivery, or one page of a list, stands for: each becomes a message. BigCommerce takes up to 1,000 price
/// records in one call, and tells of them in one delivery [`price_lists.v3.yml`, `upsertPriceListRecords`]; no page of any platform
/// has more than that.
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

/// Whether deliveries of a platform can come with this scope: those of its entities, and those for the registrar.
pub fn is_scope(platform: &Platform, scope: &str) -> bool {
    platform.mapping.is_scope(scope) || notice_scopes(platform).contains(&scope)
}

/// With the delete policy `update`: the fields that a deleted entity has.
pub fn deleted_fields() -> Map<String, Value> {
    Map::from_iter([("status".to_owned(), json!("deleted"))])
}

/// All scopes that a platform's entity processors declare, and those for the registrar: what is subscribed to.
pub fn declared_scopes(platform: &Platform) -> impl Iterator<Item = &'static str> + use<> {
    let hooked = platform.mapping.processors().iter().filter(|processor| processor.takes_webhooks());
    let entities = hooked.flat_map(|processor| processor.scopes.iter().map(|scope| scope.name));
    entities.chain(notice_scopes(platform).iter().copied())
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
