//! Owns the state of an entity as the `Entities` table holds it: its attributes, its fingerprint, its size, and the policies
//! for deletes, which are projections and never touch the state itself.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    change::{Marks, State, Version, Winner},
    connection::DeletePolicy,
    entity::{Content, EntityKey},
    stamp::Stamp,
};

/// What DynamoDB takes, in bytes, names of attributes included.
pub const MAX_ITEM_BYTES: usize = 400 * 1024;

/// How long the versions of an entity stay that the policy `remove` has emptied.
pub const REMOVED_FOR_SECONDS: i64 = 30 * 24 * 60 * 60;

/// With the policy `remove`, a change that was received longer ago than this may meet an item that has expired since; on its
/// own it must not bring the entity back.
pub const TOO_OLD_SECONDS: i64 = REMOVED_FOR_SECONDS - 7 * 24 * 60 * 60;

/// One item of `Entities`. Attribute names of bookkeeping are short: each KB costs a write unit.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Item {
    /// Partition key: `{platform}#{connection}`.
    pub pk: String,
    /// Sort key: `{entity}#{external id}`.
    pub sk: String,
    /// The canonical fields; absent when nothing but a delete was seen, or the policy removed them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
    /// What the platform has beyond them, as one JSON text: it can be of any shape, and DynamoDB refuses deep nesting, empty
    /// names and large numbers.
    #[serde(default, skip_serializing_if = "Map::is_empty", with = "json_text")]
    pub extra: Map<String, Value>,
    /// Places of the platform's entity that could not be read and were dropped, in the platform's own words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
    /// Of an entity that came in parts, as one JSON text: each facet with its version and content, and under `""` the
    /// full payload below them. `fields` and `extra` are then what they come to together.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "json_text")]
    pub facets: BTreeMap<String, Winner>,
    /// With the policy `update`, deleted: what stands in `fields` otherwise for those that the delete has set, `null`
    /// for nothing, as one JSON text.
    #[serde(default, skip_serializing_if = "Map::is_empty", with = "json_text")]
    pub was: Map<String, Value>,
    /// Whether the entity is deleted at its source; never with the policy `update`.
    pub deleted: bool,
    /// When what a reader sees last changed here, RFC 3339. Does not move when only versions or marks did, so that readers of
    /// the stream can tell.
    pub changed_at: String,
    /// `extra` was dropped, for the item would have been too large.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// The winner's version.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The times joined beside it.
    #[serde(rename = "t", default)]
    pub marks: Marks,
    /// The fingerprint of version and marks, on whose sameness every write is conditional.
    pub rev: String,
    /// The message that wrote it last.
    pub by: String,
    /// When the item goes by itself, seconds since 1970; only with the policy `remove`, and deleted.
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

/// The item is larger than DynamoDB takes, even without `extra`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the item would be {0} bytes, of which DynamoDB takes {MAX_ITEM_BYTES}")]
pub struct TooLarge(pub usize);

/// Who writes an item, and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The message.
    pub by: &'a str,
    /// The time of writing.
    pub now: Stamp,
}

/// What identifies a state: two states with the same fingerprint are the same. A counter would not do, for it starts again
/// when an item has expired.
pub fn fingerprint(state: &State) -> String {
    let win = state.win.as_ref().map(|win| &win.version);
    let text = if state.facets.is_empty() {
        serde_json::to_vec(&(win, state.marks))
    } else {
        let facets: BTreeMap<_, _> = state.facets.iter().map(|(name, facet)| (name, &facet.version)).collect();
        serde_json::to_vec(&(win, state.marks, facets))
    };
    URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, &text.unwrap_or_default()).as_ref()[..16])
}

impl Item {
    /// The state that the item holds.
    pub fn state(&self) -> State {
        let mut facets = self.facets.clone();
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
                self.version.clone().map(|version| Winner { version, content })
            }
        };
        State { win, facets, marks: self.marks }
    }

    /// What a state looks like as an item. With the policy `update`, a deleted entity shows `deleted_fields` over its
    /// own.
    ///
    /// # Errors
    /// [`TooLarge`] when it does not fit even without `extra`.
    pub fn project(
        key: &EntityKey,
        state: &State,
        policy: DeletePolicy,
        deleted_fields: &Map<String, Value>,
        before: Option<&Self>,
        writer: Writer<'_>,
    ) -> Result<Self, TooLarge> {
        let deleted = state.is_deleted();
        let removed = deleted && policy == DeletePolicy::Remove;
        let updated = deleted && policy == DeletePolicy::Update;
        let mut content = state.content().filter(|_| !removed).map(Cow::into_owned).unwrap_or_default();
        let mut facets = BTreeMap::new();
        if !state.facets.is_empty() {
            let full = state.win.iter().map(|win| (FULL, win));
            let all = full.chain(state.facets.iter().map(|(name, facet)| (name.as_str(), facet)));
            facets = all.map(|(name, winner)| (name.to_owned(), winner.clone())).collect();
        }
        if removed {
            facets.values_mut().for_each(|winner| winner.content = Content::default());
        }
        let mut was = Map::new();
        for (name, value) in deleted_fields.iter().filter(|_| updated) {
            let before = content.fields.insert(name.clone(), value.clone());
            was.insert(name.clone(), before.unwrap_or_default());
        }
        let same = before.is_some_and(|before| before.state().visible() == state.visible());
        let changed_at = match before {
            Some(before) if same => before.changed_at.clone(),
            _ => writer.now.to_string(),
        };
        let mut item = Self {
            pk: key.partition(),
            sk: key.sort(),
            fields: content.fields,
            extra: content.extra,
            unreadable: content.unreadable,
            facets,
            was,
            deleted: deleted && !updated,
            changed_at,
            truncated: false,
            version: state.win.as_ref().map(|win| win.version.clone()),
            marks: state.marks,
            rev: fingerprint(state),
            by: writer.by.to_owned(),
            expires: removed.then(|| writer.now.seconds().saturating_add(REMOVED_FOR_SECONDS)),
        };
        // What was truncated once comes back out of the table without its `extra`, and must go on saying so.
        item.truncated = before.is_some_and(|before| before.truncated && before.version == item.version && !removed);
        if item.size() > MAX_ITEM_BYTES {
            item.truncate();
        }
        match item.size() {
            size if size > MAX_ITEM_BYTES => Err(TooLarge(size)),
            _ => Ok(item),
        }
    }

    /// Drops what the full payload has beyond the canonical fields. What facets have stays: they are small.
    fn truncate(&mut self) {
        self.truncated = true;
        self.extra = Map::new();
        if let Some(full) = self.facets.get_mut(FULL) {
            full.content.extra = Map::new();
        }
        if !self.facets.is_empty() {
            self.extra = self.state().content().map(|content| content.extra.clone()).unwrap_or_default();
        }
    }

    /// The size as DynamoDB counts it, in bytes, rounded up where its rule is a range.
    pub fn size(&self) -> usize {
        match serde_json::to_value(self) {
            Ok(Value::Object(attributes)) => {
                attributes.iter().map(|(name, value)| name.len() + attribute_size(value)).sum()
            }
            _ => usize::MAX,
        }
    }
}

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
        connection::ConnectionKey,
        entity::EntityKind,
    };

    const NOW: Stamp = Stamp::from_millis(1_795_219_200_123);
    const WRITER: Writer<'static> = Writer { by: "m1", now: NOW };

    fn key() -> EntityKey {
        let connection =
            ConnectionKey { platform: "woocommerce".into(), connection: "shop.example.com".parse().unwrap() };
        EntityKey { connection, kind: EntityKind::Order, id: 13.into() }
    }

    fn upsert(received: i64, name: &str, extra: &str) -> Change {
        let object = |value: Value| value.as_object().unwrap().clone();
        let fields = object(json!({"name": name}));
        let content = Content { fields, extra: object(json!({"more": extra})), ..Content::default() };
        let received = Stamp::from_millis(received);
        Change::Upsert(Upsert {
            source: Some(received),
            received,
            observed: false,
            mapping: 1,
            content,
            facets: Facets::new(),
        })
    }

    fn part(received: i64, facet: &str, fields: Value) -> Change {
        let content = Content::facet(fields.as_object().unwrap().clone(), Map::new());
        let at = Stamp::from_millis(received);
        Change::Upsert(Upsert::partial(Some(at), at, false, 1, Facets::from([(facet.into(), content)])))
    }

    fn delete(received: i64) -> Change {
        Change::Delete(Delete { source: None, received: Stamp::from_millis(received) })
    }

    fn project(state: &State, policy: DeletePolicy, before: Option<&Item>) -> Result<Item, TooLarge> {
        let deleted_fields =
            Map::from_iter([("status".to_owned(), json!("deleted")), ("name".to_owned(), json!("gone"))]);
        Item::project(&key(), state, policy, &deleted_fields, before, WRITER)
    }

    #[test]
    fn an_item_has_its_keys_and_gives_its_state_back() {
        let state = State::of(&upsert(1, "A", "x"));
        let item = project(&state, DeletePolicy::Mark, None).unwrap();
        assert_eq!((item.pk.as_str(), item.sk.as_str()), ("woocommerce#shop.example.com", "order#13"));
        assert_eq!(item.changed_at, "2026-11-21T00:00:00.123Z");
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
        // A newer full payload leaves nothing of them.
        let full = project(&state.merge(&upsert(4, "B", "y")).state, DeletePolicy::Mark, Some(&item)).unwrap();
        assert!(full.facets.is_empty() && !serde_json::to_string(&full).unwrap().contains("facets"));
        // Facets count for the fingerprint.
        let later = state.merge(&part(5, "p", json!({"b": 1}))).state;
        assert_ne!(fingerprint(&later), fingerprint(&state));
        let moved = project(&later, DeletePolicy::Mark, Some(&Item { changed_at: "then".into(), ..item })).unwrap();
        assert_eq!(moved.changed_at, "then");
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
            changed_at: "then".into(),
            ..project(&State::of(&upsert(1, "A", "x")), DeletePolicy::Mark, None).unwrap()
        };
        let version_only = old.state().merge(&upsert(2, "A", "x")).state;
        let moved = project(&version_only, DeletePolicy::Mark, Some(&old)).unwrap();
        assert_eq!(moved.changed_at, "then");
        assert_ne!(moved.rev, old.rev);
        let visible = old.state().merge(&delete(2)).state;
        assert_ne!(project(&visible, DeletePolicy::Mark, Some(&old)).unwrap().changed_at, "then");
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
        // Of what was never seen, nothing but the delete is known.
        let unseen = project(&State::of(&delete(2)), DeletePolicy::Update, None).unwrap();
        assert_eq!((unseen.fields.len(), unseen.state()), (2, State::of(&delete(2))));
    }

    #[test]
    fn too_large_drops_extra_first() {
        let big = "x".repeat(MAX_ITEM_BYTES);
        let state = State::of(&upsert(1, "A", &big));
        let item = project(&state, DeletePolicy::Mark, None).unwrap();
        assert!(item.truncated && item.extra.is_empty() && item.fields["name"] == "A");
        // Bookkeeping later on does not make it look whole; new content does.
        let later = project(&item.state().merge(&delete(0)).state, DeletePolicy::Mark, Some(&item)).unwrap();
        assert!(later.truncated);
        let whole = project(&item.state().merge(&upsert(2, "B", "x")).state, DeletePolicy::Mark, Some(&item)).unwrap();
        assert!(!whole.truncated);
        assert!(project(&State::of(&upsert(1, &big, "")), DeletePolicy::Mark, None).unwrap_err().0 > MAX_ITEM_BYTES);
    }

    proptest! {
        // 11. A policy never changes the state; an expiry is there exactly if `remove`, and deleted.
        #[test]
        fn policies_are_projections(changes in proptest::collection::vec((0_i64..5, 0_usize..4), 1..6), policy in 0_usize..4) {
            let policy = [DeletePolicy::Mark, DeletePolicy::Ignore, DeletePolicy::Remove, DeletePolicy::Update][policy];
            let state = changes.iter().fold(State::default(), |state, (received, kind)| {
                state.merge(&match kind {
                    0 => delete(*received),
                    1 => upsert(*received, "A", "x"),
                    2 => part(*received, "core", json!({"name": "B", "note": null})),
                    _ => part(*received, "p#1", json!({"p": {"1": {"c": 1}}})),
                }).state
            });
            let item = project(&state, policy, None).unwrap();
            let read = item.state();
            let versions = |state: &State| {
                let facets = state.facets.iter().map(|(name, facet)| (name.clone(), facet.version.clone()));
                (state.win.as_ref().map(|win| win.version.clone()), facets.collect::<Vec<_>>())
            };
            prop_assert_eq!(read.marks, state.marks);
            prop_assert_eq!(versions(&read), versions(&state));
            prop_assert_eq!(&item.rev, &fingerprint(&state));
            prop_assert_eq!(&fingerprint(&read), &item.rev);
            prop_assert_eq!(item.expires.is_some(), policy == DeletePolicy::Remove && state.is_deleted());
            let updated = policy == DeletePolicy::Update && state.is_deleted();
            prop_assert_eq!(item.deleted, state.is_deleted() && !updated);
            prop_assert_eq!(item.was.is_empty(), !updated);
            prop_assert_eq!(item.fields.is_empty(), !updated && (state.content().is_none() || item.expires.is_some()));
            if item.expires.is_none() || state.facets.is_empty() {
                prop_assert_eq!(read.visible(), state.visible());
            }
            if item.expires.is_none() {
                prop_assert_eq!(read, state);
            }
        }
    }
}
