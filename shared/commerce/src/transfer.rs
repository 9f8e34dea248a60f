//! Owns what is declared about entities: the entity processors of a platform, what each scope means, and how a scope that says
//! too little is resolved late, from the presets of a connection.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    entity::{self, EntityKind, ExternalId},
    timestamp::Timestamp,
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
    /// From here to the platform. Takes no webhooks.
    Export,
    /// Both.
    Bidirectional,
}

/// How the platform's API can be asked for many of an entity at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polling {
    /// For those that have changed since a time, and for all.
    Incremental,
    /// Only for all, and therefore rarer.
    Full,
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
    /// Whether webhooks bring it in.
    pub fn takes_webhooks(&self) -> bool {
        self.direction != Direction::Export && !self.scopes.is_empty()
    }
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

/// One entity to bring up to date, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Transfer {
    /// The kind of entity.
    pub entity: EntityKind,
    /// Its id at the platform.
    pub id: ExternalId,
    /// Why it is to be brought up to date.
    pub reason: String,
    /// When the source changed it last, as far as whoever asks knows: what is as new here already need not be pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Timestamp>,
    /// What the source shows of it, where whoever asks has seen that: what is here and says the same need not be pulled. It counts more
    /// than a date, for not everything that changes moves one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Shown>,
    /// Whether it matters only if it is known here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_known: bool,
}

impl Transfer {
    /// Of one entity.
    pub fn new(entity: EntityKind, id: ExternalId, reason: impl Into<String>) -> Self {
        Self { entity, id, reason: reason.into(), changed: None, shown: None, only_known: false }
    }
}

/// What a list shows of an entity, as a hash: a list may be gone through without a call for each of its entries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shown {
    /// The canonical members that the list shows; none of them: the entity as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// The hash of these, or of the whole.
    pub hash: String,
}

impl Shown {
    /// An entity as a whole.
    pub fn whole(content: &entity::Content) -> Self {
        Self { members: Vec::new(), hash: content.hash() }
    }

    /// Some of its canonical members.
    pub fn part(content: &entity::Content, members: &[&str]) -> Self {
        let members: Vec<String> = members.iter().map(|name| (*name).to_owned()).collect();
        Self { hash: content.hash_of(&members), members }
    }

    /// Whether a content says the same.
    pub fn is(&self, content: &entity::Content) -> bool {
        let hash = if self.members.is_empty() { content.hash() } else { content.hash_of(&self.members) };
        hash == self.hash
    }
}

/// A list of the platform's, and how far it was gone through.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listing {
    /// Which list, in the words of the platform's mapping.
    pub what: String,
    /// Where to go on. Only the platform's mapping can read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// When it was begun; none while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Timestamp>,
    /// How many pages were gone through.
    #[serde(default, skip_serializing_if = "crate::json::is_default")]
    pub pages: u32,
}

impl Listing {
    /// A list that is to be gone through.
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
