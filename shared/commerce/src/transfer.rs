//! Owns what is declared about entities: which scopes an entity processor takes, and what each of them means.

use crate::{entity::EntityKind, outcome::Rule, platforms::Mapping};

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

/// An entity of a platform, with the scopes that tell of it. The scopes are what the registrar subscribes to.
#[derive(Debug)]
pub struct EntityProcessor {
    /// The kind of entity.
    pub entity: EntityKind,
    /// The platform's event names, each with its meaning.
    pub scopes: &'static [(&'static str, Action)],
}

/// What a scope resolves to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolved {
    /// An entity, and what has happened to it.
    Entity(EntityKind, Action),
    /// Nothing that is kept.
    Ignored(Rule),
}

/// Finds what a scope means to a platform. An unknown scope is ignored by a named rule, and counted; it is no error of the
/// sender, who would switch the hook off.
pub fn resolve(mapping: &dyn Mapping, scope: &str) -> Resolved {
    let declared = mapping.processors().iter().find_map(|processor| {
        let (_, action) = processor.scopes.iter().find(|(name, _)| *name == scope)?;
        Some(Resolved::Entity(processor.entity, *action))
    });
    declared.unwrap_or_else(|| Resolved::Ignored(mapping.ignores(scope).unwrap_or(Rule::UNKNOWN_SCOPE)))
}
