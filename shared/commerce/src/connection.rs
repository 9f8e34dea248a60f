//! Owns the connection: its record as the `Connections` table holds it, its status and its policies.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{entity::EntityKind, key::Generation, timestamp::Timestamp, transfer::Preset};

/// The status of a connection, which decides whether its deliveries are processed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Status"))]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionStatus {
    /// Connected: its deliveries become state.
    Active,
    /// Paused from here: its webhooks are off, nothing is polled, and deliveries that still arrive are ignored. Polling
    /// later finds the changes that it missed.
    Paused,
    /// Being disconnected: its webhooks are being removed, with its credentials, which still exist.
    Disconnecting,
    /// Disconnected: its credentials are gone, and late deliveries are ignored.
    Disconnected,
}

/// The effect of a delete at the source on the state here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "kebab-case")]
pub enum DeletePolicy {
    /// Mark as deleted and keep the fields. A delete loses nothing.
    #[default]
    Mark,
    /// Ignore the delete.
    Ignore,
    /// Drop the fields, keep the versions, and let the item expire.
    Remove,
    /// Treat the delete as an update: the entity stays, with the few fields that the platform's mapping gives for a
    /// delete from the id alone (such as its status).
    Update,
}

/// The fate of a connection's state after a disconnection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Retention {
    /// Kept.
    #[default]
    Keep,
    /// Erased this many days later, unless the store is connected again before that.
    EraseAfterDays(u16),
}

/// A connection as the `Connections` table holds it under the sort key `connection`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Connection {
    /// The number of writes of the record. Each write is conditional on no other in between.
    #[serde(default)]
    pub revision: u64,
    /// The status.
    pub status: ConnectionStatus,
    /// The generation whose deliveries count; older ones are ignored.
    pub generation: Generation,
    /// The store's or account's base URL, without a trailing slash.
    pub site: String,
    /// The platform's credentials, encrypted with KMS under the context {platform, connection, purpose}, in base64.
    /// `None` for a connection whose webhooks were entered by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
    /// The effect of a delete, by entity; absent means `mark`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deletes: BTreeMap<EntityKind, DeletePolicy>,
    /// The entities whose policy was changed and whose deleted items are still shown by the former one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub reproject: BTreeSet<EntityKind>,
    /// The topics (`scope`) that are ignored here, such as noisy children. A topic that ends in `*` stands for all with
    /// that beginning.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ignores: BTreeSet<String>,
    /// The rules for topics that only this connection's conventions explain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presets: Vec<Preset>,
    /// The platform's own settings, as its folder checked them. Nothing secret.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub settings: Map<String, Value>,
    /// The time between two polls of each entity, in seconds; 0 means never, absent means the default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub polls: BTreeMap<EntityKind, u32>,
    /// The fate of its state after a disconnection.
    #[serde(default)]
    pub retention: Retention,
    /// The time at which it was last connected.
    #[serde(default)]
    pub connected_at: Option<Timestamp>,
    /// The time since which it has been paused. It stays after a resumption until the fetch of missed changes has
    /// begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Timestamp>,
    /// The time at which it was disconnected, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnected_at: Option<Timestamp>,
    /// The time at which its state was erased, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
    /// `true` when the store has connected itself and nobody has confirmed it. Its API is then called less often, and
    /// not all of it is fetched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
    /// The signing key that the secrets of all its webhooks are derived from; `None` while they are derived from
    /// several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_with: Option<String>,
    /// `true` once persons were redacted here, so that the processor looks for them in what it writes. It stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacts: bool,
}

impl Connection {
    /// Returns whether the connection is active or paused: nobody has begun to disconnect it.
    pub fn is_connected(&self) -> bool {
        matches!(self.status, ConnectionStatus::Active | ConnectionStatus::Paused)
    }

    /// Makes an active connection to a site, with default settings.
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
            redacts: false,
        }
    }

    /// Returns whether deliveries of a topic are ignored here.
    pub fn is_unwanted(&self, scope: &str) -> bool {
        self.ignores.contains(scope) || self.ignores.iter().any(|pattern| is_meant(pattern, scope))
    }

    /// Sets the effect of deletes, and records the entities for which it changes.
    pub fn set_deletes(&mut self, deletes: BTreeMap<EntityKind, DeletePolicy>) {
        let before = std::mem::replace(&mut self.deletes, deletes);
        let kinds: BTreeSet<EntityKind> = before.keys().chain(self.deletes.keys()).copied().collect();
        let policy = |of: &BTreeMap<EntityKind, DeletePolicy>, kind| of.get(&kind).copied().unwrap_or_default();
        self.reproject.extend(kinds.into_iter().filter(|kind| policy(&before, *kind) != policy(&self.deletes, *kind)));
    }

    /// Returns the effect of a delete of this kind of entity here.
    pub fn delete_policy(&self, entity: EntityKind) -> DeletePolicy {
        self.deletes.get(&entity).copied().unwrap_or_default()
    }
}

/// Returns whether one of [`Connection::ignores`] stands for a topic.
pub fn is_meant(pattern: &str, scope: &str) -> bool {
    pattern == scope || pattern.strip_suffix('*').is_some_and(|begin| !begin.is_empty() && scope.starts_with(begin))
}
