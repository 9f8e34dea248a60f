//! Owns the change events: what a reader is told when something that he can see in the table changes.
//!
//! An event is [CloudEvents 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md) in JSON. It is made
//! of two images of one item, the one before and the one after a write, and of nothing else: the same write makes the same
//! event, however often it is retried. A consumer keeps the last `sequence` of each subject, and drops an event whose
//! `sequence` is not greater.

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    entity::{EntityKind, SCHEMA_VERSION},
    item::Item,
    origin::Origin,
    timestamp::{Timestamp, parse_utc},
};

/// The largest event in bytes. EventBridge takes entries of 256 KB, with the bus, the source and the type.
pub const MAX_EVENT_BYTES: usize = 250_000;

/// The longest previous value that travels along, in bytes of JSON.
const MAX_BEFORE_BYTES: usize = 256;

/// The part of a change that an event carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "kebab-case")]
pub enum Detail {
    /// The ids and names only: no personal data travels.
    Ids,
    /// The entity, and previous values where they are small.
    Full,
}

/// The kind of change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// The entity was not here.
    Created,
    /// The entity shows something else.
    Updated,
    /// The entity is deleted at its source.
    Deleted,
    /// The entity was deleted, and is there again.
    Restored,
    /// The content was dropped here, by a policy, with its connection, or, in part, with a person.
    Erased,
    /// Nothing happened: the entity as it is, for a new reader.
    Snapshot,
}

impl ChangeKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Created, Self::Updated, Self::Deleted, Self::Restored, Self::Erased, Self::Snapshot];

    /// Returns the last part of an event's type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
            Self::Restored => "restored",
            Self::Erased => "erased",
            Self::Snapshot => "snapshot",
        }
    }
}

/// A change of one entity, as a CloudEvent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChangeEvent {
    /// The version of CloudEvents: `1.0`.
    pub specversion: String,
    /// The id of the change: the same on every retry.
    pub id: String,
    /// The connection: `/woocommerce/shop.example.com`.
    pub source: String,
    /// The kind of entity and the kind of change: `order.created`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The entity: `order/13`.
    pub subject: String,
    /// The time of the change in the table, RFC 3339 in UTC.
    pub time: String,
    /// The position among the changes of the subject, as text of fixed width: a greater one is a later change.
    pub sequence: String,
    /// The media type of `data`: `application/json`.
    pub datacontenttype: String,
    /// The id of the JSON Schema of the entity in `data`.
    pub dataschema: String,
    /// The change.
    pub data: ChangeData,
}

/// The data of a change event.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChangeData {
    /// The part of the change that the event carries. `ids` stands here, too, where the whole would be larger than an event.
    pub detail: Detail,
    /// `true` when the entity is deleted at its source.
    pub deleted: bool,
    /// The origin of the change, such as a webhook or a poll; absent when the item was removed, and for items that an older
    /// release wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Origin"))]
    pub origin: Option<Origin>,
    /// The trace id of the delivery that brought the change; absent when the item was removed, and for items that an older
    /// release wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub trace: Option<String>,
    /// The canonical entity, as the table shows it; absent with `ids`, and where nothing is left of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<Map<String, Value>>,
    /// The canonical fields that changed, sorted by name.
    pub changed: Vec<ChangedField>,
}

/// A canonical field that changed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChangedField {
    /// The name of the field.
    pub field: String,
    /// The value before the change; absent with `ids`, where there was none, where it is large, and where the content was
    /// dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
}

/// Returns the event of a write, or of an item that was removed; `None` where a reader sees the same before and after.
pub fn change_event(before: Option<&Item>, after: Option<&Item>, detail: Detail) -> Option<ChangeEvent> {
    let kind = kind(before, after)?;
    let item = after.or(before)?;
    told(item, kind, before, after, detail)
}

/// Writes an event, with the ids alone where the whole would be too large.
fn told(
    item: &Item,
    kind: ChangeKind,
    before: Option<&Item>,
    after: Option<&Item>,
    detail: Detail,
) -> Option<ChangeEvent> {
    let event = write(item, kind, before, after, detail)?;
    let fits = |event: &ChangeEvent| serde_json::to_string(event).is_ok_and(|text| text.len() <= MAX_EVENT_BYTES);
    if detail == Detail::Ids || fits(&event) { Some(event) } else { write(item, kind, before, after, Detail::Ids) }
}

/// Returns the event that tells a new reader of an item as it is; `None` for what is no item of ours.
pub fn snapshot_event(item: &Item, detail: Detail) -> Option<ChangeEvent> {
    told(item, ChangeKind::Snapshot, Some(item), Some(item), detail)
}

/// The most entities of a connection that a snapshot tells of in a second.
pub const SNAPSHOT_PER_SECOND: u32 = 50;

/// The order to tell of every entity of a connection, and its progress.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// The time at which it began.
    pub begun: Timestamp,
    /// The kind of entity; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<EntityKind>,
    /// The position to continue at in the known entities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The number of entities that were told so far.
    #[serde(default)]
    pub told: u64,
}

/// Returns the kind of change that a reader sees.
fn kind(before: Option<&Item>, after: Option<&Item>) -> Option<ChangeKind> {
    let shows = |item: &Item| !item.fields.is_empty() || !item.extra.is_empty();
    match (before, after) {
        (None, None) => None,
        (None, Some(after)) if after.deleted => Some(ChangeKind::Deleted),
        (None, Some(_)) => Some(ChangeKind::Created),
        // An item that showed nothing is removed without a word.
        (Some(before), None) => shows(before).then_some(ChangeKind::Erased),
        (Some(before), Some(after)) if after.shows_the_same(before) => None,
        (Some(before), Some(after)) => Some(match (before.deleted, after.deleted) {
            _ if is_redaction(after, before.redacted) => ChangeKind::Erased,
            (false, true) => ChangeKind::Deleted,
            (true, false) => ChangeKind::Restored,
            (true, true) if shows(before) && !shows(after) => ChangeKind::Erased,
            _ => ChangeKind::Updated,
        }),
    }
}

fn write(
    item: &Item,
    kind: ChangeKind,
    before: Option<&Item>,
    after: Option<&Item>,
    detail: Detail,
) -> Option<ChangeEvent> {
    let (platform, connection) = item.pk.split_once('#')?;
    let (entity, id) = item.sk.split_once('#')?;
    let entity: EntityKind = serde_json::from_value(entity.into()).ok()?;
    let at = Timestamp::from(parse_utc(&item.changed_at)?);
    // An item that was removed tells no time of its own. It was removed after its last change.
    let at = if after.is_some() { at } else { Timestamp::from_micros(at.micros().saturating_add(1)) };
    let sequence = at.sortable();
    let shown = after.map(|after| after.fields.clone()).filter(|fields| !fields.is_empty());
    Some(ChangeEvent {
        specversion: "1.0".to_owned(),
        id: event_id(&item.pk, &item.sk, kind.as_str(), &sequence),
        source: format!("/{platform}/{connection}"),
        kind: format!("{entity}.{}", kind.as_str()),
        subject: format!("{entity}/{id}"),
        time: sequence.clone(),
        sequence,
        datacontenttype: "application/json".to_owned(),
        dataschema: format!("urn:commerce-hooks:schema:{entity}:{SCHEMA_VERSION}"),
        data: ChangeData {
            detail,
            deleted: after.is_none_or(|after| after.deleted),
            origin: after.and_then(|after| after.origin),
            trace: after.and_then(|after| after.trace.clone()),
            entity: shown.filter(|_| detail == Detail::Full),
            changed: changed(before, after, detail),
        },
    })
}

/// Returns whether a write dropped what names a person: of all that is about him, or of what only mentions him.
fn is_redaction(after: &Item, was_redacted: bool) -> bool {
    after.redacted && !was_redacted || after.origin == Some(Origin::Redaction)
}

/// Returns the id of an event: a hash of its item, its type and its place among the item's changes.
fn event_id(pk: &str, sk: &str, kind: &str, sequence: &str) -> String {
    let text = [pk, sk, kind, sequence].map(|part| format!("{}:{part}", part.len())).concat();
    URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..18])
}

fn changed(before: Option<&Item>, after: Option<&Item>, detail: Detail) -> Vec<ChangedField> {
    let none = Map::new();
    let redacted = after.is_some_and(|after| after.redacted || after.origin == Some(Origin::Redaction));
    let (before, after) = (before.map_or(&none, |item| &item.fields), after.map_or(&none, |item| &item.fields));
    let mut names: Vec<&String> =
        before.keys().chain(after.keys().filter(|name| !before.contains_key(*name))).collect();
    names.retain(|name| before.get(*name) != after.get(*name));
    names.sort();
    // What was dropped here does not travel once more.
    let tells = detail == Detail::Full && !after.is_empty() && !redacted;
    let small = |value: &Value| value.to_string().len() <= MAX_BEFORE_BYTES;
    let field = |name: &String| ChangedField {
        field: name.clone(),
        before: before.get(name).filter(|value| tells && small(value)).cloned(),
    };
    names.into_iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        change::{Change, Delete, Facets, State, Upsert},
        connection::DeletePolicy,
        entity::{Content, EntityKey},
        item::{Projection, Writer},
        key::ConnectionKey,
    };

    const BEGIN: i64 = 1_795_219_200_000_000;

    fn key() -> EntityKey {
        let connection =
            ConnectionKey { platform: "woocommerce".into(), connection: "shop.example.com".parse().unwrap() };
        EntityKey { connection, kind: EntityKind::Order, id: 13.into() }
    }

    fn upsert(at: i64, fields: Value) -> Change {
        let fields = fields.as_object().unwrap().clone();
        let received = Timestamp::from_micros(BEGIN + at);
        let content = Content { fields, ..Content::default() };
        Change::Upsert(Upsert {
            source: Some(received),
            received,
            observed: false,
            mapping: 1,
            content: content.into(),
            facets: Facets::new(),
        })
    }

    fn restored(at: i64, fields: Value) -> Change {
        match upsert(at, fields) {
            Change::Upsert(upsert) => Change::Upsert(Upsert { observed: true, ..upsert }),
            other => other,
        }
    }

    fn delete(at: i64) -> Change {
        Change::Delete(Delete { source: None, received: Timestamp::from_micros(BEGIN + at) })
    }

    fn put(before: Option<&Item>, changes: &[Change], policy: DeletePolicy, at: i64) -> Item {
        let state = changes
            .iter()
            .fold(before.map(Item::state).unwrap_or_default(), |state, change| state.join(State::of(change)));
        let deleted_fields = json!({ "status": "deleted" }).as_object().unwrap().clone();
        let projection = Projection::new(policy, &deleted_fields);
        let writer = Writer {
            by: "m",
            origin: Origin::Webhook,
            trace: Some("t1"),
            received: None,
            now: Timestamp::from_micros(BEGIN + at),
        };
        projection.item(&key(), &state, before, writer).unwrap()
    }

    fn full(before: Option<&Item>, after: Option<&Item>) -> Option<ChangeEvent> {
        change_event(before, after, Detail::Full)
    }

    #[test]
    fn a_life_is_told_by_its_names() {
        let mark = DeletePolicy::Mark;
        let new = put(None, &[upsert(1, json!({"id": "13", "status": "pending"}))], mark, 10);
        let paid = put(Some(&new), &[upsert(2, json!({"id": "13", "status": "paid", "note": "x"}))], mark, 20);
        let same = put(Some(&paid), &[upsert(2, json!({"id": "13", "status": "paid", "note": "x"}))], mark, 30);
        let gone = put(Some(&paid), &[delete(3_000_000)], mark, 40);
        let back = put(Some(&gone), &[restored(4_000_000, json!({"id": "13", "status": "paid"}))], mark, 50);
        let created = full(None, Some(&new)).unwrap();
        assert_eq!(
            serde_json::to_value(&created).unwrap(),
            json!({
                "specversion": "1.0", "id": created.id, "source": "/woocommerce/shop.example.com", "type": "order.created",
                "subject": "order/13", "time": "2026-11-21T00:00:00.000010Z", "sequence": "2026-11-21T00:00:00.000010Z",
                "datacontenttype": "application/json", "dataschema": "urn:commerce-hooks:schema:order:1",
                "data": {
                    "detail": "full", "deleted": false, "origin": "webhook", "trace": "t1",
                    "entity": { "id": "13", "status": "pending" },
                    "changed": [{ "field": "id" }, { "field": "status" }],
                },
            })
        );
        let updated = full(Some(&new), Some(&paid)).unwrap();
        let fields: Vec<_> = updated.data.changed.iter().map(|one| (one.field.as_str(), one.before.clone())).collect();
        assert_eq!(fields, [("note", None), ("status", Some(json!("pending")))]);
        assert_eq!(full(Some(&paid), Some(&same)), None, "nothing that a reader sees");
        let kinds = [(Some(&paid), Some(&gone)), (Some(&gone), Some(&back)), (Some(&back), None)];
        let kinds = kinds.map(|(before, after)| full(before, after).unwrap().kind);
        assert_eq!(kinds, ["order.deleted", "order.restored", "order.erased"]);
        assert_eq!(full(None, Some(&gone)).unwrap().kind, "order.deleted", "it was never seen");
    }

    #[test]
    fn what_a_policy_drops_is_erased_once() {
        let new = put(None, &[upsert(1, json!({"id": "13", "note": "s3cr3t"}))], DeletePolicy::Mark, 10);
        let marked = put(Some(&new), &[delete(3_000_000)], DeletePolicy::Mark, 20);
        let removed = put(Some(&marked), &[], DeletePolicy::Remove, 30);
        let erased = full(Some(&marked), Some(&removed)).unwrap();
        assert_eq!((erased.kind.as_str(), &erased.data.entity), ("order.erased", &None));
        for event in [erased, full(Some(&marked), None).unwrap()] {
            assert!(!serde_json::to_string(&event).unwrap().contains("s3cr3t"), "{event:?}");
        }
        assert_eq!(full(Some(&removed), None), None, "its bookkeeping expires without a word");
    }

    #[test]
    fn with_ids_no_value_travels() {
        let new = put(None, &[upsert(1, json!({"id": "13", "note": "s3cr3t"}))], DeletePolicy::Mark, 10);
        let next = put(Some(&new), &[upsert(2, json!({"id": "13", "note": "another"}))], DeletePolicy::Mark, 20);
        let event = change_event(Some(&new), Some(&next), Detail::Ids).unwrap();
        let text = serde_json::to_string(&event).unwrap();
        assert!(!text.contains("s3cr3t") && !text.contains("another") && text.contains(r#""field":"note""#), "{text}");
        // The id does not depend on the part that travels.
        assert_eq!(event.id, full(Some(&new), Some(&next)).unwrap().id);
    }

    #[test]
    fn what_is_too_large_for_an_event_says_so() {
        let large = put(None, &[upsert(1, json!({"id": "13", "note": "x".repeat(260_000)}))], DeletePolicy::Mark, 10);
        let event = full(None, Some(&large)).unwrap();
        assert_eq!((event.data.detail, event.data.entity), (Detail::Ids, None));
        let next = put(Some(&large), &[upsert(2, json!({"id": "13", "note": "short"}))], DeletePolicy::Mark, 20);
        let event = full(Some(&large), Some(&next)).unwrap();
        assert_eq!(
            (event.data.detail, &event.data.changed[0].before),
            (Detail::Full, &None),
            "the value before is large"
        );
    }

    fn step() -> impl Strategy<Value = (Change, DeletePolicy)> {
        let change = prop_oneof![
            (1..9_i64, 0..3_i64)
                .prop_map(|(at, status)| upsert(at * 1_000_000, json!({"id": "13", "status": status.to_string()}))),
            (1..9_i64, 0..3_i64)
                .prop_map(|(at, status)| restored(at * 1_000_000, json!({"id": "13", "status": status.to_string()}))),
            (1..9_i64).prop_map(|at| delete(at * 1_000_000)),
        ];
        let policy = prop_oneof![Just(DeletePolicy::Mark), Just(DeletePolicy::Remove), Just(DeletePolicy::Update),];
        (change, policy)
    }

    proptest! {
        /// However events are shuffled and doubled, a consumer that keeps the greatest sequence ends with the table.
        #[test]
        fn the_greatest_sequence_is_what_the_table_shows(
            steps in proptest::collection::vec(step(), 1..12),
            order in any::<prop::sample::Index>(),
        ) {
            let (mut item, mut events): (Option<Item>, Vec<ChangeEvent>) = (None, Vec::new());
            for (n, (change, policy)) in steps.iter().enumerate() {
                let next = put(item.as_ref(), std::slice::from_ref(change), *policy, i64::try_from(n).unwrap());
                events.extend(full(item.as_ref(), Some(&next)));
                prop_assert_eq!(full(item.as_ref(), Some(&next)), full(item.as_ref(), Some(&next)), "a retry is the same");
                item = Some(next);
            }
            let ids: BTreeMap<_, _> = events.iter().map(|event| (event.id.clone(), event.sequence.clone())).collect();
            prop_assert_eq!(ids.len(), events.len(), "each has an id of its own");
            prop_assert!(events.windows(2).all(|pair| pair[0].sequence < pair[1].sequence), "in the order of the changes");
            let item = item.unwrap();
            let doubled = events.len() * 2;
            let mut kept: Option<&ChangeEvent> = None;
            for n in 0..doubled {
                let event = &events[(order.index(doubled) + n * 7) % events.len()];
                if kept.is_none_or(|kept| event.sequence > kept.sequence) {
                    kept = Some(event);
                }
            }
            for event in &events {
                if kept.is_none_or(|kept| event.sequence > kept.sequence) {
                    kept = Some(event);
                }
            }
            let kept = kept.unwrap();
            prop_assert_eq!(kept.data.deleted, item.deleted);
            prop_assert_eq!(kept.data.entity.clone().unwrap_or_default(), item.fields);
        }
    }
}
