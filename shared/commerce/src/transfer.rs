//! Owns what is declared about entities: the entity processors of a platform, what each scope means, and how a scope that says
//! too little is resolved late, from the presets of a connection.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    entity::{EntityKind, ExternalId},
    envelope::Transfer,
    outcome::Rule,
    platforms::Mapping,
};

/// What a scope says has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The entity is new.
    Created,
    /// The entity has changed.
    Updated,
    /// The entity is gone.
    Deleted,
    /// The entity came back.
    Restored,
}

/// Which way an entity travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the platform to the state here.
    Import,
    /// From here to the platform. Takes no hooks.
    Export,
    /// Both.
    Bidirectional,
}

/// How the platform's API can be asked for many of an entity at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polling {
    /// For those that have changed since a time, and for all.
    Changed,
    /// Only for all: a full sweep, and therefore rarer.
    Sweep,
}

/// What a delivery carries of the entity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// All of it: believed where the proof covers the body.
    Full,
    /// Its id, or less: all else is pulled.
    Thin,
    /// Some fields that travel together, each a facet. What the API knows beyond them is pulled in addition.
    Partial,
}

/// Whose change a scope tells of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// The entity's own.
    Own,
    /// That of a child, which cannot be transferred alone and becomes its parent's transfer. The child's name.
    Child(&'static str),
}

/// A scope that an entity processor takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scope {
    /// The platform's own event name.
    pub name: &'static str,
    /// What it says has happened to the entity.
    pub action: Action,
    /// Whose change it is.
    pub via: Via,
}

/// A scope of the entity itself.
pub const fn own(name: &'static str, action: Action) -> Scope {
    Scope { name, action, via: Via::Own }
}

/// A scope of a child: to its parent it is an update, whatever happened to the child.
pub const fn child(name: &'static str, of: &'static str) -> Scope {
    Scope { name, action: Action::Updated, via: Via::Child(of) }
}

/// An entity of a platform: what is declared of it.
#[derive(Debug)]
pub struct EntityProcessor {
    /// The kind of entity.
    pub entity: EntityKind,
    /// Which way it travels.
    pub direction: Direction,
    /// What a delivery carries of it.
    pub payload: Payload,
    /// Whether the platform's API can be asked for one by its id.
    pub pull: bool,
    /// How the platform's API can be asked for many; none where it cannot.
    pub polling: Option<Polling>,
    /// The platform's event names, each with its meaning. The registrar subscribes to them.
    pub scopes: &'static [Scope],
    /// What it refers to and is incomplete without: pulled when it is not known yet.
    pub requires: &'static [EntityKind],
    /// What changes with it, and is pulled each time that it has changed.
    pub followed_by: &'static [EntityKind],
}

impl EntityProcessor {
    /// Whether hooks bring it in.
    pub fn takes_hooks(&self) -> bool {
        self.direction != Direction::Export && !self.scopes.is_empty()
    }
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
/// by a named rule, and counted: it is no error of the sender, who would switch the hook off.
pub fn resolve(mapping: &dyn Mapping, scope: &str) -> Resolved {
    let declared = mapping.processors().iter().filter(|processor| processor.takes_hooks()).find_map(|processor| {
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

/// How a connection resolves a scope that only its own conventions explain: "`message/created` whose `/reference` begins with
/// `Car:` is about the product with what follows as its id".
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The scope.
    pub scope: String,
    /// Where in the body the reference is, as a JSON pointer (RFC 6901).
    #[serde(default = "default_pointer")]
    pub at: String,
    /// What the reference begins with; the rest is the id. Empty: all of it is.
    #[serde(default)]
    pub prefix: String,
    /// The kind of entity that is meant.
    pub entity: EntityKind,
}

fn default_pointer() -> String {
    "/id".to_owned()
}

/// The transfer that a delivery means by the presets of its connection; none when no preset fits it.
pub fn late(presets: &[Preset], scope: &str, body: &[u8]) -> Option<Transfer> {
    let mut fitting = presets.iter().filter(|preset| preset.scope == scope).peekable();
    fitting.peek()?;
    let body: Value = serde_json::from_slice(body).ok()?;
    fitting.find_map(|preset| {
        let reference = match body.pointer(&preset.at)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        let id: ExternalId = reference.strip_prefix(&preset.prefix)?.parse().ok()?;
        Some(Transfer::new(preset.entity, id, format!("preset for {scope}")))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        api::{ApiResponse, Fault},
        platforms::{Budget, Incoming, MapError, Mapped, Next, Wanted, declared_scopes},
    };

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
    fn what_is_only_exported_takes_no_hooks() {
        assert_eq!(resolve(&Exporting, "product.updated"), Resolved::Ignored(Rule::UNKNOWN_SCOPE));
        assert_eq!(declared_scopes(&Exporting).count(), 0);
    }

    #[test]
    fn a_preset_finds_the_entity_behind_a_reference() {
        let presets = [
            Preset {
                scope: "message/created".into(),
                at: "/id".into(),
                prefix: "Boat:".into(),
                entity: EntityKind::Order,
            },
            Preset {
                scope: "message/created".into(),
                at: "/id".into(),
                prefix: "Car:".into(),
                entity: EntityKind::Product,
            },
        ];
        let found =
            |scope: &str, body: &str| late(&presets, scope, body.as_bytes()).map(|t| (t.entity, t.id.to_string()));
        assert_eq!(found("message/created", r#"{"id":"Car:1234"}"#), Some((EntityKind::Product, "1234".into())));
        assert_eq!(found("message/created", r#"{"id":"Boat:7"}"#), Some((EntityKind::Order, "7".into())));
        for body in [r#"{"id":"Plane:1"}"#, r#"{"id":"Car:"}"#, r#"{"id":{}}"#, "{}", "5", "no JSON"] {
            assert_eq!(found("message/created", body), None, "{body}");
        }
        assert_eq!(found("message/deleted", r#"{"id":"Car:1234"}"#), None);
    }
}
