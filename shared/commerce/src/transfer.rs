//! Owns the declarations about entities: a platform's entity processors, the meaning of each topic (`scope`), and the
//! late resolution of a topic that says too little, from the presets of a connection.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    entity::{self, EntityKind, ExternalId},
    timestamp::Timestamp,
};

/// The event that a topic reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The entity is new.
    Created,
    /// The entity has changed.
    Updated,
    /// The entity was deleted.
    Deleted,
    /// The entity was restored.
    Restored,
}

/// The direction in which an entity travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The entity travels from the platform to the state here.
    Import,
    /// The entity travels from here to the platform, and takes no webhooks.
    Export,
    /// The entity travels in both directions.
    Bidirectional,
}

/// The way in which a platform's API lists many entities of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polling {
    /// The API lists all entities, or those changed since a time.
    Incremental,
    /// The API lists only all entities, so polling is rarer.
    Full,
}

/// The part of an entity that a delivery carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// The whole entity, trusted where the proof covers the body.
    Full,
    /// The entity's id or less; all else is pulled.
    Thin,
    /// Some fields that travel together, each group a facet. The API's fields beyond them are pulled in addition.
    Partial,
}

/// The owner of the change that a topic reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// The entity itself.
    Own,
    /// A child of the entity, by name. It cannot be transferred alone, so its change becomes its parent's transfer.
    Child(&'static str),
}

/// A topic (`scope`) that an entity processor takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scope {
    /// The platform's own event name.
    pub name: &'static str,
    /// The event that it reports about the entity.
    pub action: Action,
    /// The owner of the change.
    pub via: Via,
}

/// Makes a topic of the entity itself.
pub const fn own(name: &'static str, action: Action) -> Scope {
    Scope { name, action, via: Via::Own }
}

/// Makes a topic of a child. For the parent it is an update, whatever happened to the child.
pub const fn child(name: &'static str, of: &'static str) -> Scope {
    Scope { name, action: Action::Updated, via: Via::Child(of) }
}

/// The declaration of one entity of a platform.
#[derive(Debug)]
pub struct EntityProcessor {
    /// The kind of entity.
    pub entity: EntityKind,
    /// The direction in which it travels.
    pub direction: Direction,
    /// The part of it that a delivery carries.
    pub payload: Payload,
    /// `true` when the platform's API returns one by its id.
    pub pull: bool,
    /// The way in which the platform's API lists many, or `None` where it cannot.
    pub polling: Option<Polling>,
    /// The platform's event names, each with its meaning. The registrar makes webhooks for them.
    pub scopes: &'static [Scope],
    /// The kinds that it refers to and is incomplete without. They are pulled when they are not known yet.
    pub requires: &'static [EntityKind],
    /// The kinds that change with it. They are pulled each time that it has changed.
    pub followed_by: &'static [EntityKind],
}

impl EntityProcessor {
    /// Returns whether webhooks deliver it.
    pub fn takes_webhooks(&self) -> bool {
        self.direction != Direction::Export && !self.scopes.is_empty()
    }
}

/// A connection's rule for a topic that only its own conventions explain: "`message/created` whose `/reference` begins
/// with `Car:` is about the product with the rest as its id".
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The topic.
    pub scope: String,
    /// The place of the reference in the body, as a JSON pointer (RFC 6901).
    #[serde(default = "default_pointer")]
    pub at: String,
    /// The beginning of the reference; the rest is the id. Empty: all of it is the id.
    #[serde(default)]
    pub prefix: String,
    /// The kind of entity that it refers to.
    pub entity: EntityKind,
}

fn default_pointer() -> String {
    "/id".to_owned()
}

/// Resolves a delivery to a transfer by its connection's presets, or returns `None` when no preset fits.
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

/// A request to bring one entity up to date.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Transfer {
    /// The kind of entity.
    pub entity: EntityKind,
    /// The entity's id at the platform.
    pub id: ExternalId,
    /// The reason for the transfer.
    pub reason: String,
    /// The time of the source's last change, if the sender knows it. An item that is as new need not be pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Timestamp>,
    /// A hash of what the source showed of the entity, if the sender saw it. An item with the same content need not be
    /// pulled. It outweighs `changed`, because not every change moves a date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Shown>,
    /// `true` when the transfer matters only if the entity is known here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_known: bool,
}

impl Transfer {
    /// Makes a transfer of one entity.
    pub fn new(entity: EntityKind, id: ExternalId, reason: impl Into<String>) -> Self {
        Self { entity, id, reason: reason.into(), changed: None, shown: None, only_known: false }
    }
}

/// A hash of what a list shows of an entity, so that a list can be read without a call for each entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shown {
    /// The canonical members that the list shows; empty for the whole entity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// The hash of these members, or of the whole entity.
    pub hash: String,
}

impl Shown {
    /// Hashes an entity as a whole.
    pub fn whole(content: &entity::Content) -> Self {
        Self { members: Vec::new(), hash: content.hash() }
    }

    /// Hashes some of an entity's canonical members.
    pub fn part(content: &entity::Content, members: &[&str]) -> Self {
        let members: Vec<String> = members.iter().map(|name| (*name).to_owned()).collect();
        Self { hash: content.hash_of(&members), members }
    }

    /// Returns whether a content has the same hash.
    pub fn is(&self, content: &entity::Content) -> bool {
        let hash = if self.members.is_empty() { content.hash() } else { content.hash_of(&self.members) };
        hash == self.hash
    }
}

/// A list at the platform, and the progress of reading it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listing {
    /// The name of the list, in the words of the platform's mapping.
    pub what: String,
    /// The position to continue at. Only the platform's mapping can read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// The time at which reading began; `None` before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Timestamp>,
    /// The number of pages read.
    #[serde(default, skip_serializing_if = "crate::json::is_default")]
    pub pages: u32,
}

impl Listing {
    /// Makes a list that is still to be read.
    pub fn new(what: impl Into<String>, cursor: Option<String>) -> Self {
        Self { what: what.into(), cursor, begun: None, pages: 0 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
