//! Owns what a connection is: its id's grammar, its generation, and its record as the `Connections` table holds it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    entity::{EntityKind, ExternalId},
    stamp::Stamp,
    transfer::{Listing, Preset},
};

/// One installed store or account on a platform: the tenant. `[a-z0-9][a-z0-9._-]{0,99}`, lower-cased on entry.
///
/// It lands in paths, table keys and `MessageGroupId`, so nothing outside the grammar may ever become one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConnectionId(String);

/// The text is no connection id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a connection id is 1 to 100 of a-z, 0-9, '.', '_' and '-', and starts with a letter or digit")]
pub struct NotAConnectionId;

impl ConnectionId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConnectionId {
    type Err = NotAConnectionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = text.to_ascii_lowercase();
        let bytes = id.as_bytes();
        let starts = bytes.first().is_some_and(u8::is_ascii_alphanumeric);
        let legal = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte));
        if starts && legal && bytes.len() <= 100 { Ok(Self(id)) } else { Err(NotAConnectionId) }
    }
}

impl TryFrom<String> for ConnectionId {
    type Error = NotAConnectionId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ConnectionId> for String {
    fn from(id: ConnectionId) -> Self {
        id.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How often a connection was connected anew; part of the hook's path and of its derived secrets. The first is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(u32);

impl Generation {
    /// The generation of a connection that was connected once.
    pub const FIRST: Self = Self(1);

    /// As a number, at least 1.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Reads the canonical form that paths carry: digits without a leading zero, at least 1.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.parse::<u32>().ok()?;
        (number >= 1 && number.to_string() == text).then_some(Self(number))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Platform and connection: the partition key of every table, and the queue's `MessageGroupId`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ConnectionKey {
    /// The platform's name, as in the list of platforms.
    pub platform: String,
    /// The connection at that platform.
    pub connection: ConnectionId,
}

impl fmt::Display for ConnectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.platform, self.connection)
    }
}

/// Whether deliveries of a connection are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionStatus {
    /// Connected: its deliveries become state.
    Active,
    /// Switched off from here for a while: its hooks are off, nothing is polled, and what comes all the same is ignored. What was
    /// missed is polled afterwards.
    Paused,
    /// Being disconnected: its hooks are going, its credentials are still there to remove them with.
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
    /// for a connection whose hooks were entered by hand.
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
    pub connected_at: Option<Stamp>,
    /// Since when it has been paused, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Stamp>,
    /// When it was disconnected, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnected_at: Option<Stamp>,
    /// When its state was erased, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Stamp>,
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

/// A subscription that we made, as the `Connections` table holds it under the sort key `subscription#{scope}`. Platforms do
/// not give secrets back, so key and generation say which secret was set last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SubscriptionRecord {
    /// The platform's own event name.
    pub scope: String,
    /// Its id at the platform.
    pub id: ExternalId,
    /// Where it delivers to.
    pub url: String,
    /// The signing key that its secret was derived from.
    pub key_id: String,
    /// What tells the secret that it was given apart from others: one that is derived now under the same id may be another. Records of before
    /// have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The generation that its secret was derived for.
    pub generation: Generation,
    /// How it was doing when it was looked at last.
    #[serde(default)]
    pub health: Health,
}

/// How a subscription does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is on, and nothing speaks against it.
    #[default]
    Healthy,
    /// It is on, but has been quiet for much longer than it ever was.
    Silent,
    /// The platform, or somebody there, has switched it off.
    SwitchedOff,
    /// It is not there.
    Missing,
    /// It is entered by hand; the platform does not tell.
    Manual,
}

/// What is remembered of a subscription's health between two looks.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Health {
    /// The last verdict.
    pub verdict: Verdict,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Stamp>,
    /// Why it is not healthy, or was not the last time; for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How often it was switched on again since it last stayed on.
    #[serde(default)]
    pub trips: u32,
    /// When it was switched on again last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reactivated_at: Option<Stamp>,
    /// Before that it is not switched on again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Stamp>,
    /// When it was known to be on last: what happened after that may have been missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_at: Option<Stamp>,
}

impl Health {
    /// Of a subscription that has just been made.
    pub fn new(now: Stamp) -> Self {
        Self { since: Some(now), good_at: Some(now), ..Self::default() }
    }
}

/// How far an entity has been fetched, as the `Connections` table holds it under the sort key `cursor#{entity}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cursor {
    /// The kind of entity.
    pub entity: EntityKind,
    /// How often it was written; each write is on the condition that nobody else wrote in between.
    pub revision: u64,
    /// Everything that had changed until then is on the queue; none while nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Stamp>,
    /// When all of them were gone through last, which also finds what is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swept: Option<Stamp>,
    /// What is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// The generation of the connection that all this is of: what was queued for another one is ignored.
    #[serde(default = "first_generation")]
    pub generation: Generation,
    /// When the job is to come that begins the next run, where that is not left to the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Stamp>,
    /// What was fetched last, of which something may still be on the queue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<Fetched>,
    /// Why it cannot be fetched, while it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// When it was last asked how many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Stamp>,
}

/// Why an entity cannot be fetched, and since when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stopped {
    /// What the platform's answer was worth. Nothing secret.
    pub why: String,
    /// Since when no page could be had.
    pub since: Stamp,
}

fn first_generation() -> Generation {
    Generation::FIRST
}

impl Cursor {
    /// Of an entity that nothing was fetched of, in a generation of its connection.
    pub fn new(entity: EntityKind, generation: Generation) -> Self {
        Self {
            entity,
            revision: 0,
            since: None,
            swept: None,
            run: None,
            generation,
            next: None,
            recent: Vec::new(),
            stopped: None,
            counted: None,
        }
    }
}

/// Fetching that has ended, or was broken off.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fetched {
    /// What was fetched.
    pub fetch: Fetch,
    /// From when on changes counted; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Stamp>,
    /// When its last page was queued.
    pub at: Stamp,
}

/// What is fetched of an entity at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fetch {
    /// All of them, for the first time or by request.
    Import,
    /// What has changed since the last time.
    Changed,
    /// All of them, to find what is gone and what no time tells.
    Sweep,
}

/// Fetching that is under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Run {
    /// What is fetched.
    pub fetch: Fetch,
    /// When it began: what changes afterwards is the next one's.
    pub begun: Stamp,
    /// From when on changes count; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Stamp>,
    /// When it came further last, or when the job that goes on with it is to come.
    pub at: Stamp,
    /// The next page.
    pub next: Listing,
    /// How many pages were queued.
    pub pages: u32,
    /// How many entities were queued.
    pub found: u64,
    /// What is to be fetched when it has ended, because it was asked for meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Fetch>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_ids_keep_to_their_grammar() {
        for good in ["shop.example.com", "0", "a_b-c.d", "Shop.Example.COM", &"a".repeat(100)] {
            assert_eq!(good.parse::<ConnectionId>().map(|id| id.0), Ok(good.to_ascii_lowercase()), "{good}");
        }
        for bad in ["", ".a", "-a", "_a", "a/b", "a#b", "a b", "å", "a%20", &"a".repeat(101)] {
            assert_eq!(bad.parse::<ConnectionId>(), Err(NotAConnectionId), "{bad}");
        }
    }

    #[test]
    fn a_generation_has_one_spelling() {
        assert_eq!(Generation::parse("1"), Some(Generation::FIRST));
        assert_eq!(Generation::parse("12"), Some(Generation(12)));
        for bad in ["", "0", "01", "+1", "-1", "1.0", "4294967296"] {
            assert_eq!(Generation::parse(bad), None, "{bad}");
        }
    }
}
