//! Owns the state of an entity as the `Entities` table holds it: its attributes, its fingerprint, its size, and the
//! delete policies, which are projections and never touch the state itself.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    change::{Marks, StandIn, State, Version, Winner},
    connection::DeletePolicy,
    entity::{Content, EntityKey},
    origin::Origin,
    timestamp::{Timestamp, parse_utc},
};

/// The greatest item that DynamoDB takes, in bytes, attribute names included.
pub const MAX_ITEM_BYTES: usize = 400 * 1024;

/// The time, in seconds, for which the versions of an entity stay after the policy `remove` has emptied it.
pub const REMOVED_FOR_SECONDS: i64 = 30 * 24 * 60 * 60;

/// The age, in seconds, from which a change may meet an item that has expired since, under the policy `remove`. Alone,
/// such a change must not bring the entity back.
pub const TOO_OLD_SECONDS: i64 = REMOVED_FOR_SECONDS - 7 * 24 * 60 * 60;

/// One item of `Entities`. Bookkeeping attributes have short names, because each KB costs a write unit.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Item {
    /// The partition key: `{platform}#{connection}`.
    pub pk: String,
    /// The sort key: `{entity}#{external id}`.
    pub sk: String,
    /// The canonical fields; absent when nothing but a delete was seen, or when the policy removed them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
    /// The platform's fields beyond them, as one JSON text, because they can have any shape, and DynamoDB refuses deep
    /// nesting, empty names and large numbers.
    #[serde(default, skip_serializing_if = "Map::is_empty", with = "json_text")]
    pub extra: Map<String, Value>,
    /// The places of the platform's entity that could not be read and were dropped, in the platform's own words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
    /// The facets of an entity that came in parts, as one JSON text: each with its version and content, and the full
    /// payload below them under `""`. `fields` and `extra` are then all of them put together.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "json_text")]
    pub facets: BTreeMap<String, Winner>,
    /// The values in `fields` that a delete has overwritten under the policy `update`, `null` for none, as one JSON
    /// text.
    #[serde(default, skip_serializing_if = "Map::is_empty", with = "json_text")]
    pub was: Map<String, Value>,
    /// `true` when the entity is deleted at its source or has nothing to show; never when it is deleted with the policy
    /// `update`.
    pub deleted: bool,
    /// The time of the last visible change here, RFC 3339 with six digits of a second. A clock: it moves with
    /// everything that a reader sees and with nothing else, never goes back, and sorts as text.
    pub changed_at: String,
    /// Set when the last write moved only bookkeeping, so that filters of the stream can skip it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
    /// Set when the policy `remove` dropped a content that has not come again. The shown content, if any, is then an
    /// older one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Set when a person whom the entity names was redacted. It stays, so that later contents are redacted, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
    /// Set when `extra` was dropped because the item would have been too large.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// The winner's version.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The version of the content that is shown in place of the winner's.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<Version>,
    /// The times joined beside the upserts.
    #[serde(rename = "t", default)]
    pub marks: Marks,
    /// The fingerprint of the state's versions and marks. Every write is conditional on its staying the same.
    pub rev: String,
    /// The message that wrote the item last, and its attempt: `{message id} {attempt}`.
    pub by: String,
    /// The origin of the last write, such as a webhook or a poll; absent from items of older releases.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The trace id of the delivery, or of the order, that brought the last write; absent from items of older releases.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The time of receipt of what brought the last write; absent from items of older releases.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub received: Option<Timestamp>,
    /// The expiry, in seconds since 1970; only of a deleted entity with the policy `remove`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
}

mod json_text {
    use serde::{
        Deserialize, Deserializer, Serialize, Serializer,
        de::{DeserializeOwned, Error as _},
        ser::Error as _,
    };

    pub fn serialize<T: Serialize, S: Serializer>(map: &T, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&serde_json::to_string(map).map_err(S::Error::custom)?)
    }

    pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        crate::entity::depth::read(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// The name under which an item keeps the full payload beside its facets.
const FULL: &str = "";

/// The error for an item that is larger than DynamoDB takes, even without `extra`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the item would be {0} bytes, of which DynamoDB takes {MAX_ITEM_BYTES}")]
pub struct TooLarge(pub usize);

/// The writer of an item.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The message and its attempt: `{message id} {attempt}`.
    pub by: &'a str,
    /// The origin of the message, such as a webhook or a poll.
    pub origin: Origin,
    /// The trace id of the message.
    pub trace: Option<&'a str>,
    /// The time of receipt of the message.
    pub received: Option<Timestamp>,
    /// The time of writing.
    pub now: Timestamp,
}

/// Returns the fingerprint of a state: two states with the same fingerprint are the same. A counter would not do,
/// because it starts again when an item has expired.
pub fn fingerprint(state: &State) -> String {
    let win = state.win.as_ref().map(|win| &win.version);
    let text = if state.facets.is_empty() {
        serde_json::to_vec(&(win, state.marks))
    } else {
        let facets: BTreeMap<_, _> = state.facets.iter().map(|(name, facet)| (name, &facet.version)).collect();
        serde_json::to_vec(&(win, state.marks, facets))
    };
    let mut text = text.unwrap_or_default();
    for (name, winner) in all_winners(state).filter(|(_, winner)| winner.content.is_none()) {
        let instead = winner.instead.as_ref().map(|stand_in| &stand_in.version);
        text.extend(serde_json::to_vec(&(name, instead)).unwrap_or_default());
    }
    URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, &text).as_ref()[..16])
}

fn all_winners(state: &State) -> impl Iterator<Item = (&str, &Winner)> {
    let full = state.win.iter().map(|win| (FULL, win));
    full.chain(state.facets.iter().map(|(name, facet)| (name.as_str(), facet)))
}

/// The way in which states of an entity are shown.
#[derive(Clone, Copy, Debug)]
pub struct Projection<'a> {
    /// The effect of a delete.
    pub policy: DeletePolicy,
    /// The fields of a deleted entity, with [`DeletePolicy::Update`].
    pub deleted_fields: &'a Map<String, Value>,
    /// `true` when the contents of the state are redacted.
    pub redacted: bool,
}

impl<'a> Projection<'a> {
    /// Makes the projection of states that are not redacted.
    pub fn new(policy: DeletePolicy, deleted_fields: &'a Map<String, Value>) -> Self {
        Self { policy, deleted_fields, redacted: false }
    }

    /// Sets whether the contents of the states are redacted.
    #[must_use]
    pub fn redacted(self, redacted: bool) -> Self {
        Self { redacted, ..self }
    }

    /// Returns a reader's view of a state: whether it is deleted, and the hash of its content.
    pub fn visible(&self, state: &State) -> (bool, Option<String>) {
        let (deleted, hash) = state.visible();
        match self.policy {
            DeletePolicy::Remove if deleted => (true, None),
            DeletePolicy::Update if deleted => {
                let mut content = state.content().map(Cow::into_owned).unwrap_or_default();
                content.fields.extend(self.deleted_fields.clone());
                (false, Some(content.hash()))
            }
            // An entity without content is never shown as alive, unless it has no marks: it was never heard of.
            _ => (deleted || hash.is_none() && state.marks != Marks::default(), hash.map(Cow::into_owned)),
        }
    }

    /// Projects a state to an item. With the policy `update`, a deleted entity shows `deleted_fields` over its own.
    ///
    /// # Errors
    /// [`TooLarge`] when it does not fit even without `extra`.
    pub fn item(
        &self,
        key: &EntityKey,
        state: &State,
        before: Option<&Item>,
        writer: Writer<'_>,
    ) -> Result<Item, TooLarge> {
        let deleted = state.is_deleted();
        let removed = deleted && self.policy == DeletePolicy::Remove;
        let updated = deleted && self.policy == DeletePolicy::Update;
        let state = if removed { Cow::Owned(state.without_content()) } else { Cow::Borrowed(state) };
        let content = state.content().map(Cow::into_owned);
        let blank = content.is_none() && !updated;
        let mut content = content.unwrap_or_default();
        let mut facets = BTreeMap::new();
        if !state.facets.is_empty() {
            facets = all_winners(&state).map(|(name, winner)| (name.to_owned(), winner.clone())).collect();
        }
        let mut was = Map::new();
        for (name, value) in self.deleted_fields.iter().filter(|_| updated) {
            let before = content.fields.insert(name.clone(), value.clone());
            was.insert(name.clone(), before.unwrap_or_default());
        }
        let stand_in = state.win.as_ref().filter(|_| facets.is_empty()).and_then(|win| win.instead.as_ref());
        let mut item = Item {
            pk: key.partition(),
            sk: key.sort(),
            fields: content.fields,
            extra: content.extra,
            unreadable: content.unreadable,
            instead: stand_in.map(|stand_in| stand_in.version.clone()),
            facets,
            was,
            deleted: (deleted || blank) && !updated,
            partial: state.lacks_content() || blank && !deleted,
            changed_at: writer.now.sortable(),
            unchanged: true,
            redacted: self.redacted,
            truncated: false,
            version: state.win.as_ref().map(|win| win.version.clone()),
            marks: state.marks,
            rev: fingerprint(&state),
            by: writer.by.to_owned(),
            origin: Some(writer.origin),
            trace: writer.trace.map(str::to_owned),
            received: writer.received,
            expires: removed.then(|| writer.now.seconds().saturating_add(REMOVED_FOR_SECONDS)),
        };
        // An item that was truncated once returns from the table without its `extra`, and must stay marked.
        item.truncated = before.is_some_and(|before| before.truncated && before.version == item.version && !removed);
        if item.size() > MAX_ITEM_BYTES {
            item.truncate();
            let size = item.size();
            if size > MAX_ITEM_BYTES {
                return Err(TooLarge(size));
            }
        }
        item.unchanged = before.is_some_and(|before| item.shows_the_same(before));
        let last = before.and_then(|before| parse_utc(&before.changed_at)).map(Timestamp::from);
        item.changed_at = match last {
            Some(last) if item.unchanged => last,
            Some(last) => writer.now.max(Timestamp::from_micros(last.micros().saturating_add(1))),
            None => writer.now,
        }
        .sortable();
        Ok(item)
    }
}

impl Item {
    /// Returns whether a message wrote the item last, in whichever attempt.
    pub fn is_written_by(&self, message: &str) -> bool {
        self.by.split(' ').next() == Some(message)
    }

    /// Returns the state that the item holds.
    pub fn state(&self) -> State {
        // Before `partial` existed, only the expiry showed that the policy `remove` had emptied an item.
        let emptied = self.expires.is_some();
        let mut facets = self.facets.clone();
        for facet in
            facets.values_mut().filter(|facet| emptied && facet.content.as_deref() == Some(&Content::default()))
        {
            facet.content = None;
        }
        let win = match facets.remove(FULL) {
            Some(full) => Some(full),
            None if !facets.is_empty() => None,
            None => {
                let mut content = Content {
                    fields: self.fields.clone(),
                    extra: self.extra.clone(),
                    unreadable: self.unreadable.clone(),
                };
                for (name, value) in &self.was {
                    match value {
                        Value::Null => _ = content.fields.remove(name),
                        value => _ = content.fields.insert(name.clone(), value.clone()),
                    }
                }
                self.version.clone().map(|version| match &self.instead {
                    Some(of) => {
                        let instead = Some(Box::new(StandIn { version: of.clone(), content: content.into() }));
                        Winner { version, content: None, instead }
                    }
                    None if self.partial || emptied => Winner { version, content: None, instead: None },
                    None => Winner::new(version, content),
                })
            }
        };
        State { win, facets, marks: self.marks }
    }

    /// Returns whether writing this item in place of `before` would change only its writer.
    pub fn is_as(&self, before: &Self) -> bool {
        self.shows_the_same(before)
            && self.rev == fingerprint(&before.state())
            && self.expires.is_some() == before.expires.is_some()
            && self.was.is_empty() == before.was.is_empty()
    }

    /// Returns whether a reader sees the same in both.
    pub fn shows_the_same(&self, other: &Self) -> bool {
        let seen = |item: &Self| (item.deleted, item.truncated, item.partial, item.redacted);
        seen(self) == seen(other)
            && self.fields == other.fields
            && self.extra == other.extra
            && self.unreadable == other.unreadable
    }

    /// Drops the full payload's fields beyond the canonical ones. Those of facets stay, because they are small.
    fn truncate(&mut self) {
        self.truncated = true;
        self.extra = Map::new();
        if let Some(full) = self.facets.get_mut(FULL).and_then(|full| full.content.as_mut()) {
            Arc::make_mut(full).extra = Map::new();
        }
        if !self.facets.is_empty() {
            self.extra = self.state().content().map(|content| content.extra.clone()).unwrap_or_default();
        }
    }

    /// Returns the size as DynamoDB counts it, in bytes, rounded up where its rule gives a range.
    pub fn size(&self) -> usize {
        match serde_json::to_value(self) {
            Ok(Value::Object(attributes)) => {
                attributes.iter().map(|(name, value)| name.len() + attribute_size(value)).sum()
            }
            _ => usize::MAX,
        }
    }
}

/// Returns the size of an attribute's value, in bytes, by DynamoDB's rules:
///
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>
fn attribute_size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(number) => number.to_string().len().div_ceil(2) + 2,
        Value::String(text) => text.len(),
        Value::Array(elements) => 3 + elements.iter().map(|element| 1 + attribute_size(element)).sum::<usize>(),
        Value::Object(members) => {
            3 + members.iter().map(|(name, member)| 1 + name.len() + attribute_size(member)).sum::<usize>()
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pk, self.sk)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        change::{Change, Delete, Facets, Upsert},
        entity::EntityKind,
        key::ConnectionKey,
    };

    const THEN: &str = "2026-01-01T00:00:00Z";
    const THEN_SORTABLE: &str = "2026-01-01T00:00:00.000000Z";
    const NOW: Timestamp = Timestamp::from_millis(1_795_219_200_123);
    const WRITER: Writer<'static> =
        Writer { by: "m1", origin: Origin::Webhook, trace: Some("t1"), received: None, now: NOW };

    fn key() -> EntityKey {
        let connection =
            ConnectionKey { platform: "woocommerce".into(), connection: "shop.example.com".parse().unwrap() };
        EntityKey { connection, kind: EntityKind::Order, id: 13.into() }
    }

    fn upsert(received: i64, name: &str, extra: &str) -> Change {
        let object = |value: Value| value.as_object().unwrap().clone();
        let fields = object(json!({"name": name}));
        let content = Content { fields, extra: object(json!({"more": extra})), ..Content::default() };
        let received = Timestamp::from_millis(received);
        Change::Upsert(Upsert {
            source: Some(received),
            received,
            observed: false,
            mapping: 1,
            content: content.into(),
            facets: Facets::new(),
        })
    }

    fn part(received: i64, facet: &str, fields: Value) -> Change {
        let content = Content::facet(fields.as_object().unwrap().clone(), Map::new());
        let at = Timestamp::from_millis(received);
        Change::Upsert(Upsert::partial(Some(at), at, false, 1, Facets::from([(facet.into(), content.into())])))
    }

    fn delete(received: i64) -> Change {
        Change::Delete(Delete { source: None, received: Timestamp::from_millis(received) })
    }

    fn project(state: &State, policy: DeletePolicy, before: Option<&Item>) -> Result<Item, TooLarge> {
        let deleted_fields =
            Map::from_iter([("status".to_owned(), json!("deleted")), ("name".to_owned(), json!("gone"))]);
        Projection::new(policy, &deleted_fields).item(&key(), state, before, WRITER)
    }

    #[test]
    fn an_item_knows_its_message_in_whichever_attempt() {
        let none = Map::new();
        let projection = Projection::new(DeletePolicy::Mark, &none);
        for by in ["m1", "m1 b7", "m1 2"] {
            let writer = Writer { by, ..WRITER };
            let item = projection.item(&key(), &State::of(&upsert(1, "a", "b")), None, writer).unwrap();
            assert!(item.is_written_by("m1") && !item.is_written_by("m") && !item.is_written_by("m12"), "{by}");
        }
    }

    #[test]
    fn an_item_has_its_keys_and_gives_its_state_back() {
        let state = State::of(&upsert(1, "A", "x"));
        let item = project(&state, DeletePolicy::Mark, None).unwrap();
        assert_eq!((item.pk.as_str(), item.sk.as_str()), ("woocommerce#shop.example.com", "order#13"));
        assert_eq!(item.changed_at, "2026-11-21T00:00:00.123000Z");
        assert_eq!(item.state(), state);
        let text = serde_json::to_string(&item).unwrap();
        assert_eq!(serde_json::from_str::<Item>(&text).unwrap(), item);
    }

    #[test]
    fn an_item_of_facets_shows_what_they_come_to_and_gives_each_back() {
        let core = State::of(&part(2, "core", json!({"name": null, "status": "Paid"})));
        let item = project(&core, DeletePolicy::Mark, None).unwrap();
        assert_eq!((Value::Object(item.fields.clone()), item.version.clone()), (json!({"status": "Paid"}), None));
        assert_eq!(item.state(), core);
        let state = core.merge(&upsert(1, "A", "x")).state.merge(&part(3, "p", json!({"b": 1}))).state;
        let item = project(&state, DeletePolicy::Mark, Some(&item)).unwrap();
        assert_eq!(Value::Object(item.fields.clone()), json!({"status": "Paid", "b": 1}));
        assert_eq!(item.extra["more"], "x");
        let text = serde_json::to_string(&item).unwrap();
        assert_eq!(serde_json::from_str::<Item>(&text).unwrap().state(), state);
        // A newer full payload replaces all facets.
        let full = project(&state.merge(&upsert(4, "B", "y")).state, DeletePolicy::Mark, Some(&item)).unwrap();
        assert!(full.facets.is_empty() && !serde_json::to_string(&full).unwrap().contains("facets"));
        // Facets count in the fingerprint.
        let later = state.merge(&part(5, "p", json!({"b": 1}))).state;
        assert_ne!(fingerprint(&later), fingerprint(&state));
        let moved = project(&later, DeletePolicy::Mark, Some(&Item { changed_at: THEN.into(), ..item })).unwrap();
        assert_eq!((moved.changed_at.as_str(), moved.unchanged), (THEN_SORTABLE, true));
    }

    #[test]
    fn too_large_keeps_what_facets_have() {
        let big = "x".repeat(MAX_ITEM_BYTES);
        let state = State::of(&upsert(1, "A", &big)).merge(&part(2, "p", json!({"b": 1}))).state;
        let item = project(&state, DeletePolicy::Mark, None).unwrap();
        assert!(item.truncated && item.extra.is_empty() && item.fields["name"] == "A" && item.fields["b"] == 1);
        assert_eq!(item.state().facets, state.facets);
        let state = State::of(&part(2, "p", json!({"b": big})));
        assert!(project(&state, DeletePolicy::Mark, None).unwrap_err().0 > MAX_ITEM_BYTES);
    }

    #[test]
    fn changed_at_moves_with_what_is_visible_only() {
        let old = Item {
            changed_at: THEN.into(),
            ..project(&State::of(&upsert(1, "A", "x")), DeletePolicy::Mark, None).unwrap()
        };
        assert!(!old.unchanged);
        let version_only = old.state().merge(&upsert(2, "A", "x")).state;
        let moved = project(&version_only, DeletePolicy::Mark, Some(&old)).unwrap();
        assert_eq!((moved.changed_at.as_str(), moved.unchanged), (THEN_SORTABLE, true));
        assert_ne!(moved.rev, old.rev);
        let visible = old.state().merge(&delete(2)).state;
        for policy in [DeletePolicy::Mark, DeletePolicy::Remove, DeletePolicy::Update] {
            let shown = project(&visible, policy, Some(&old)).unwrap();
            assert_eq!(
                (shown.changed_at.as_str(), shown.unchanged),
                ("2026-11-21T00:00:00.123000Z", false),
                "{policy:?}"
            );
        }
    }

    #[test]
    fn changed_at_never_goes_back() {
        let ahead = "2027-01-01T00:00:00.5Z";
        let old = project(&State::of(&upsert(1, "A", "x")), DeletePolicy::Mark, None).unwrap();
        let old = Item { changed_at: ahead.into(), ..old };
        let next = project(&old.state().merge(&upsert(2, "B", "x")).state, DeletePolicy::Mark, Some(&old)).unwrap();
        assert_eq!(next.changed_at, "2027-01-01T00:00:00.500001Z");
        let next = project(&next.state().merge(&delete(3)).state, DeletePolicy::Remove, Some(&next)).unwrap();
        assert_eq!(next.changed_at, "2027-01-01T00:00:00.500002Z");
    }

    #[test]
    fn erasing_by_policy_is_seen_and_what_comes_under_it_is_not() {
        let none = Map::new();
        let shown = |policy| Projection::new(policy, &none);
        let outcome = |policy, state: &State, change: &Change| {
            state.merge_as(change, |state| shown(policy).visible(state)).outcome.name()
        };
        let state = State::of(&upsert(1, "A", "x"));
        assert_eq!(outcome(DeletePolicy::Remove, &State::default(), &delete(3)), "applied");
        assert_eq!(outcome(DeletePolicy::Remove, &state, &delete(3)), "applied");
        let state = state.merge(&delete(3)).state;
        assert_eq!(outcome(DeletePolicy::Remove, &state, &upsert(2, "B", "x")), "unchanged");
        assert_eq!(outcome(DeletePolicy::Mark, &state, &upsert(2, "B", "x")), "applied");
        let removed = project(&state, DeletePolicy::Remove, None).unwrap();
        let removed = Item { changed_at: THEN.into(), ..removed };
        let later = removed.state().merge(&upsert(2, "B", "x")).state;
        let later = project(&later, DeletePolicy::Remove, Some(&removed)).unwrap();
        assert_eq!((later.changed_at.as_str(), later.unchanged), (THEN_SORTABLE, true));
    }

    #[test]
    fn a_revival_without_its_content_is_never_alive_and_blank() {
        let seen = |change: Change| match change {
            Change::Upsert(upsert) => Change::Upsert(Upsert { observed: true, ..upsert }),
            other => other,
        };
        let dated = |source: i64, received: i64, name: &str| match upsert(received, name, "x") {
            Change::Upsert(upsert) => Change::Upsert(Upsert { source: Some(Timestamp::from_millis(source)), ..upsert }),
            other => other,
        };
        let after = |changes: &[Change]| {
            changes.iter().fold(None::<Item>, |item, change| {
                let state = item.as_ref().map(Item::state).unwrap_or_default().merge(change).state;
                Some(project(&state, DeletePolicy::Remove, item.as_ref()).unwrap())
            })
        };
        let (u1, u3, d) = (dated(1, 10, "v1"), dated(3, 25, "v3"), delete(28));
        let back = seen(dated(2, 30, "v2"));
        let item = after(&[u1.clone(), u3.clone(), d.clone(), back.clone()]).unwrap();
        assert_eq!((item.deleted, item.partial, item.fields["name"].as_str()), (false, true, Some("v2")));
        let other = after(&[u1.clone(), back.clone(), u3.clone(), d.clone()]).unwrap();
        assert_eq!((other.deleted, other.partial, other.fields["name"].as_str()), (false, false, Some("v3")));
        assert_eq!((&item.version, item.marks), (&other.version, other.marks));
        // The same delivery again, or a fetch, ends it.
        let again = project(&item.state().merge(&u3).state, DeletePolicy::Remove, Some(&item)).unwrap();
        assert_eq!((again.partial, again.fields["name"].as_str()), (false, Some("v3")));
        let fetched = seen(dated(4, 40, "v4"));
        let [one, two] = [&item, &other]
            .map(|item| project(&item.state().merge(&fetched).state, DeletePolicy::Remove, Some(item)).unwrap());
        assert!(!one.partial && one.shows_the_same(&two) && one.rev == two.rev);
        // With nothing at all to show, it is not shown as alive.
        let restored = after(&[u1, d, Change::Restore { received: Timestamp::from_millis(30) }]).unwrap();
        assert!(restored.deleted && restored.partial && restored.fields.is_empty() && restored.expires.is_none());
    }

    #[test]
    fn what_was_emptied_before_there_was_a_word_for_it_is_partial() {
        let state = State::of(&upsert(1, "A", "x")).merge(&delete(2)).state;
        let old = Item { partial: false, ..project(&state, DeletePolicy::Remove, None).unwrap() };
        assert!(old.state().lacks_content());
        let state = State::of(&part(1, "core", json!({"b": 1}))).merge(&delete(2)).state;
        let mut old = Item { partial: false, ..project(&state, DeletePolicy::Remove, None).unwrap() };
        old.facets.values_mut().for_each(|facet| facet.content = Some(Arc::default()));
        assert!(old.state().lacks_content());
    }

    #[test]
    fn switching_the_policy_applies_to_what_is_marked() {
        let state = State::of(&upsert(1, "A", "x")).merge(&delete(2)).state;
        let marked = project(&state, DeletePolicy::Mark, None).unwrap();
        let removed = project(&marked.state(), DeletePolicy::Remove, Some(&marked)).unwrap();
        assert!(removed.deleted && removed.fields.is_empty() && removed.expires.is_some() && !removed.unchanged);
        let kept = project(&removed.state(), DeletePolicy::Mark, Some(&removed)).unwrap();
        assert!(kept.deleted && kept.partial && kept.fields.is_empty() && kept.expires.is_none());
        let updated = project(&marked.state(), DeletePolicy::Update, Some(&marked)).unwrap();
        assert_eq!((updated.deleted, updated.fields["name"].as_str()), (false, Some("gone")));
    }

    #[test]
    fn remove_drops_the_fields_and_a_revival_clears_the_expiry() {
        let state = State::of(&upsert(1, "A", "x")).merge(&delete(2)).state;
        let removed = project(&state, DeletePolicy::Remove, None).unwrap();
        assert!(removed.deleted && removed.fields.is_empty() && removed.extra.is_empty());
        assert_eq!(removed.expires, Some(NOW.seconds() + REMOVED_FOR_SECONDS));
        let revived = removed.state().merge(&upsert(3, "B", "x")).state;
        let item = project(&revived, DeletePolicy::Remove, Some(&removed)).unwrap();
        assert_eq!((item.deleted, item.expires, item.fields["name"].as_str()), (false, None, Some("B")));
    }

    #[test]
    fn update_shows_a_delete_as_fields_and_a_revival_shows_the_true_ones() {
        let state = State::of(&upsert(1, "A", "x")).merge(&delete(2)).state;
        let item = project(&state, DeletePolicy::Update, None).unwrap();
        assert_eq!((item.deleted, item.expires), (false, None));
        assert_eq!(Value::Object(item.fields.clone()), json!({"name": "gone", "status": "deleted"}));
        assert_eq!(Value::Object(item.was.clone()), json!({"name": "A", "status": null}));
        let text = serde_json::to_string(&item).unwrap();
        assert_eq!(serde_json::from_str::<Item>(&text).unwrap().state(), state);
        let revived = item.state().merge(&upsert(3, "A", "x")).state;
        let item = project(&revived, DeletePolicy::Update, Some(&item)).unwrap();
        assert_eq!(Value::Object(item.fields.clone()), json!({"name": "A"}));
        assert!(item.was.is_empty());
        // For an entity that was never seen, only the delete is known.
        let unseen = project(&State::of(&delete(2)), DeletePolicy::Update, None).unwrap();
        assert_eq!((unseen.fields.len(), unseen.state()), (2, State::of(&delete(2))));
    }

    #[test]
    fn too_large_drops_extra_first() {
        let big = "x".repeat(MAX_ITEM_BYTES);
        let state = State::of(&upsert(1, "A", &big));
        let item = project(&state, DeletePolicy::Mark, None).unwrap();
        assert!(item.truncated && item.extra.is_empty() && item.fields["name"] == "A");
        // Later bookkeeping does not make it look whole; new content does.
        let later = project(&item.state().merge(&delete(0)).state, DeletePolicy::Mark, Some(&item)).unwrap();
        assert!(later.truncated);
        let whole = project(&item.state().merge(&upsert(2, "B", "x")).state, DeletePolicy::Mark, Some(&item)).unwrap();
        assert!(!whole.truncated);
        assert!(project(&State::of(&upsert(1, &big, "")), DeletePolicy::Mark, None).unwrap_err().0 > MAX_ITEM_BYTES);
    }

    /// Makes one of few changes, so that ties are common. Observed ones are those of a fetch or a restore.
    fn change() -> impl Strategy<Value = Change> {
        (0_i64..5, 0_i64..4, 0_usize..7).prop_map(|(received, source, kind)| {
            let dated = |change: Change, observed| match change {
                Change::Upsert(upsert) => Change::Upsert(Upsert {
                    source: (source > 0).then(|| Timestamp::from_millis(source)),
                    observed,
                    ..upsert
                }),
                other => other,
            };
            match kind {
                0 => delete(received),
                1 => Change::Restore { received: Timestamp::from_millis(received) },
                2 => dated(upsert(received, "B", "x"), true),
                3 => part(received, "core", json!({"name": "B", "note": null})),
                4 => part(received, "p#1", json!({"p": {"1": {"c": 1}}})),
                _ => dated(upsert(received, "A", "x"), false),
            }
        })
    }

    const POLICIES: [DeletePolicy; 4] =
        [DeletePolicy::Mark, DeletePolicy::Ignore, DeletePolicy::Remove, DeletePolicy::Update];

    /// Writes and reads the item again after each change, each under its own policy.
    fn written<'a>(changes: impl IntoIterator<Item = (&'a Change, DeletePolicy)>) -> Option<Item> {
        changes.into_iter().fold(None::<Item>, |before, (change, policy)| {
            let state = before.as_ref().map(Item::state).unwrap_or_default().merge(change).state;
            let item = project(&state, policy, before.as_ref()).unwrap();
            Some(serde_json::from_str(&serde_json::to_string(&item).unwrap()).unwrap())
        })
    }

    type Decides = (Option<Version>, Vec<(String, Version)>, Marks);

    fn decides(state: &State) -> Decides {
        let facets = state.facets.iter().map(|(name, facet)| (name.clone(), facet.version.clone()));
        (state.win.as_ref().map(|win| win.version.clone()), facets.collect(), state.marks)
    }

    /// Makes any JSON, with any number.
    fn any_json() -> impl Strategy<Value = Value> {
        let number = prop_oneof![
            any::<f64>().prop_filter("JSON has no others", |number| number.is_finite()).prop_map(|n| json!(n)),
            any::<u64>().prop_map(|n| json!(n)),
            any::<i64>().prop_map(|n| json!(n)),
            (any::<i32>(), 1_u32..400).prop_map(|(a, b)| json!(f64::from(a) / f64::from(b))),
        ];
        let leaf = prop_oneof![
            1 => Just(json!(null)),
            1 => any::<bool>().prop_map(|b| json!(b)),
            4 => number,
            1 => ".*".prop_map(|s: String| json!(s)),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::btree_map(".{0,6}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        // An item is read as it was written, whatever it contains and however often.
        #[test]
        fn what_is_read_is_what_was_written(fields in any_json(), extra in any_json()) {
            let object = |name: &str, value: Value| Map::from_iter([(name.to_owned(), value)]);
            let content = Content { fields: object("f", fields), extra: object("e", extra), unreadable: vec!["x".into()] };
            let Change::Upsert(made) = upsert(1, "A", "x") else { unreachable!() };
            let state = State::of(&Change::Upsert(Upsert { content: content.clone().into(), ..made }));
            let item = project(&state, DeletePolicy::Mark, None).unwrap();
            let read: Item = serde_json::from_str(&serde_json::to_string(&item).unwrap()).unwrap();
            prop_assert_eq!(&read, &item);
            let hash = read.state().win.unwrap().content.unwrap().hash();
            prop_assert_eq!(hash, content.hash());
        }

        // The same holds for a text with any digits: the kept number stays.
        #[test]
        fn numbers_of_any_length_settle_at_once(number in "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?") {
            let kept: Value = serde_json::from_str(&number).unwrap();
            let again: Value = serde_json::from_str(&kept.to_string()).unwrap();
            prop_assert_eq!(again, kept);
        }

        // 11. A policy never changes what decides, whatever the policy was before. An item has an expiry exactly when
        //     it is deleted under `remove`. What is alive is never blank.
        #[test]
        fn policies_are_projections(changes in proptest::collection::vec((change(), 0_usize..4), 1..7)) {
            let steps = changes.iter().map(|(change, policy)| (change, POLICIES[*policy]));
            let last = changes.last().map(|(_, policy)| POLICIES[*policy]).unwrap();
            let item = written(steps).unwrap();
            let state = changes.iter().fold(State::default(), |state, (change, _)| state.merge(change).state);
            let read = item.state();
            prop_assert_eq!(decides(&read), decides(&state));
            prop_assert_eq!(&fingerprint(&read), &item.rev);
            let deleted = state.is_deleted();
            prop_assert_eq!(item.expires.is_some(), last == DeletePolicy::Remove && deleted);
            let updated = last == DeletePolicy::Update && deleted;
            prop_assert_eq!(item.was.is_empty(), !updated);
            prop_assert!(item.deleted || !item.fields.is_empty() || !item.extra.is_empty() || read.content().is_some());
            prop_assert!(!item.deleted || deleted || item.partial);
            if !item.partial && item.expires.is_none() {
                prop_assert_eq!(&read, &state);
            }
        }

        // 11. Under `remove`, the same changes give the same in any order except for partial items, and entirely after
        //     a fetch.
        #[test]
        fn removing_does_not_break_the_join(changes in proptest::collection::vec(change(), 1..7), seed in any::<u64>()) {
            let mut other = changes.clone();
            let mut seed = seed;
            for place in (1..other.len()).rev() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                other.swap(place, usize::try_from(seed >> 33).unwrap() % (place + 1));
            }
            let run = |changes: &[Change]| written(changes.iter().map(|change| (change, DeletePolicy::Remove))).unwrap();
            let (one, two) = (run(&changes), run(&other));
            prop_assert_eq!(decides(&one.state()), decides(&two.state()));
            if !one.partial && !two.partial {
                prop_assert!(one.shows_the_same(&two), "{one:?} {two:?}");
            }
            prop_assert_eq!(one.expires.is_some(), two.expires.is_some());
            let Change::Upsert(fetched) = upsert(9, "C", "x") else { unreachable!() };
            let fetched = Change::Upsert(Upsert { observed: true, ..fetched });
            let [one, two] = [&one, &two].map(|item| {
                project(&item.state().merge(&fetched).state, DeletePolicy::Remove, Some(item)).unwrap()
            });
            prop_assert!(one.shows_the_same(&two) && !one.partial && !one.deleted && one.rev == two.rev);
        }

        // The clock of a reader: it moves exactly with the visible state, and forward.
        #[test]
        fn changed_at_is_a_clock(changes in proptest::collection::vec((change(), 0_usize..4, -5_i64..5), 1..7)) {
            let deleted_fields = Map::from_iter([("status".to_owned(), json!("deleted"))]);
            let mut before: Option<Item> = None;
            for (change, policy, now) in &changes {
                let state = before.as_ref().map(Item::state).unwrap_or_default().merge(change).state;
                let writer = Writer { by: "m", now: Timestamp::from_micros(NOW.micros() + now), ..WRITER };
                let projection = Projection::new(POLICIES[*policy], &deleted_fields);
                let item = projection.item(&key(), &state, before.as_ref(), writer).unwrap();
                prop_assert_eq!(item.changed_at.len(), THEN_SORTABLE.len());
                if let Some(before) = &before {
                    let same = item.shows_the_same(before);
                    prop_assert_eq!(item.unchanged, same);
                    prop_assert_eq!(item.changed_at == before.changed_at, same);
                    prop_assert!(item.changed_at >= before.changed_at);
                }
                before = Some(item);
            }
        }
    }
}
