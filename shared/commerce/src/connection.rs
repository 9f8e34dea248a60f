//! Owns what a connection is: its id's grammar, its generation, and its record as the `Connections` table holds it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{entity::EntityKind, key::Generation, timestamp::Timestamp, transfer::Preset};

/// Whether deliveries of a connection are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionStatus {
    /// Connected: its deliveries become state.
    Active,
    /// Switched off from here for a while: its webhooks are off, nothing is polled, and what comes all the same is ignored. What was
    /// missed is polled afterwards.
    Paused,
    /// Being disconnected: its webhooks are going, its credentials are still there to remove them with.
    Disconnecting,
    /// Disconnected: credentials gone, deliveries that straggle in are ignored.
    Disconnected,
}

/// What a delete at the source does to the state here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeletePolicy {
    /// Mark as deleted and keep the fields. Nothing is lost by a delete.
    #[default]
    Mark,
    /// Do not take the delete at all.
    Ignore,
    /// Drop the fields, keep the versions, and let the item expire.
    Remove,
    /// Take it for an update: the entity stays, with the few fields that the platform's mapping gives for a delete, from the id
    /// alone (its status, for one).
    Update,
}

/// What becomes of a connection's state when it is disconnected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Retention {
    /// It is kept.
    #[default]
    Keep,
    /// It is erased so many days afterwards, unless the store is connected again before that.
    EraseAfterDays(u16),
}

/// A connection as the `Connections` table holds it under the sort key `connection`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Connection {
    /// How often the record was written; each write is on the condition that nobody else wrote in between.
    #[serde(default)]
    pub revision: u64,
    /// Whether deliveries are taken.
    pub status: ConnectionStatus,
    /// The generation whose deliveries count; older ones are ignored.
    pub generation: Generation,
    /// The store's or account's base URL, without a trailing slash.
    pub site: String,
    /// The platform's credentials, encrypted with KMS under the context {platform, connection, purpose}, in base64. None
    /// for a connection whose webhooks were entered by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
    /// What a delete does, per entity; absent is `mark`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deletes: BTreeMap<EntityKind, DeletePolicy>,
    /// Entities whose policy was changed, of which what is marked is still shown by the former one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub reproject: BTreeSet<EntityKind>,
    /// Scopes that are not wanted here: children that make noise, for one. What ends in `*` stands for all that begin so.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ignores: BTreeSet<String>,
    /// How scopes are resolved that only this connection's conventions explain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presets: Vec<Preset>,
    /// The platform's own settings, as its folder checked them. Nothing secret.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub settings: Map<String, Value>,
    /// How often each entity is polled, in seconds; 0 is never, absent is the default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub polls: BTreeMap<EntityKind, u32>,
    /// What becomes of its state when it is disconnected.
    #[serde(default)]
    pub retention: Retention,
    /// When it was connected last.
    #[serde(default)]
    pub connected_at: Option<Timestamp>,
    /// Since when it has been paused, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Timestamp>,
    /// When it was disconnected, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnected_at: Option<Timestamp>,
    /// When its state was erased, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
    /// Whether it has connected itself and nobody has confirmed it: its API is called less often, and not everything is fetched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
    /// The signing key that all of its subscriptions are derived from; none while they are not all derived from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_with: Option<String>,
}

impl Connection {
    /// A connection to a site, active, with nothing said about it yet.
    pub fn new(site: &str) -> Self {
        Self {
            revision: 0,
            status: ConnectionStatus::Active,
            generation: Generation::FIRST,
            site: site.to_owned(),
            credentials: None,
            deletes: BTreeMap::new(),
            reproject: BTreeSet::new(),
            ignores: BTreeSet::new(),
            presets: Vec::new(),
            settings: Map::new(),
            polls: BTreeMap::new(),
            retention: Retention::Keep,
            connected_at: None,
            paused_at: None,
            disconnected_at: None,
            erased_at: None,
            unconfirmed: false,
            signed_with: None,
        }
    }

    /// Whether deliveries of a scope are not wanted here.
    pub fn is_unwanted(&self, scope: &str) -> bool {
        self.ignores.contains(scope) || self.ignores.iter().any(|pattern| is_meant(pattern, scope))
    }

    /// Sets what a delete does, and remembers of which entities that is news.
    pub fn set_deletes(&mut self, deletes: BTreeMap<EntityKind, DeletePolicy>) {
        let before = std::mem::replace(&mut self.deletes, deletes);
        let kinds: BTreeSet<EntityKind> = before.keys().chain(self.deletes.keys()).copied().collect();
        let policy = |of: &BTreeMap<EntityKind, DeletePolicy>, kind| of.get(&kind).copied().unwrap_or_default();
        self.reproject.extend(kinds.into_iter().filter(|kind| policy(&before, *kind) != policy(&self.deletes, *kind)));
    }

    /// What a delete of this kind of entity does here.
    pub fn delete_policy(&self, entity: EntityKind) -> DeletePolicy {
        self.deletes.get(&entity).copied().unwrap_or_default()
    }
}

/// Whether a scope is meant by one of [`Connection::ignores`].
pub fn is_meant(pattern: &str, scope: &str) -> bool {
    pattern == scope || pattern.strip_suffix('*').is_some_and(|begin| !begin.is_empty() && scope.starts_with(begin))
}
