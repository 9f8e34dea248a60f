//! Makes what describes change events: `schemas/changes`, the TypeScript types, `schemas/asyncapi.json`, and the samples in
//! `events/changes`.

use std::collections::BTreeMap;

use commerce::{
    change_event::{ChangeEvent, ChangeKind, Detail, change_event, snapshot_event},
    entity::EntityKind,
};
use serde_json::{Value, json};

use super::schemas::{interface, name, written};
use crate::publisher::recorded;

/// Returns the schema of the change events of each kind of entity, with the entity's schema in it.
pub fn schemas(entities: &BTreeMap<EntityKind, Value>) -> BTreeMap<EntityKind, Value> {
    entities.iter().map(|(kind, entity)| (*kind, schema(*kind, entity))).collect()
}

fn schema(kind: EntityKind, entity: &Value) -> Value {
    let mut schema = written::<ChangeEvent>();
    let id = entity["$id"].as_str().unwrap();
    schema["$id"] = id.replace(":schema:", ":schema:change:").into();
    schema["title"] = format!("Change of a {kind}").into();
    let types: Vec<_> = ChangeKind::ALL.iter().map(|change| format!("{kind}.{}", change.as_str())).collect();
    let properties = &mut schema["properties"];
    properties["specversion"]["const"] = "1.0".into();
    properties["type"]["enum"] = types.into();
    properties["subject"]["pattern"] = format!("^{kind}/").into();
    properties["dataschema"]["const"] = id.into();
    properties["time"]["format"] = "date-time".into();
    let mut entity = entity.clone();
    entity.as_object_mut().unwrap().retain(|member, _| !member.starts_with('$') && member != "title");
    // Some platforms tell of parts, which need not have the id.
    entity.as_object_mut().unwrap().remove("required");
    properties["data"]["properties"]["entity"] = entity;
    schema
}

/// Returns the TypeScript types.
pub fn typescript() -> String {
    let types: Vec<_> = ChangeKind::ALL.iter().map(|change| format!("\"{}\"", change.as_str())).collect();
    let mut schema = written::<ChangeEvent>();
    schema["properties"]["type"]["tsType"] = "`${K}.${ChangeKind}`".into();
    schema["properties"]["data"]["properties"]["entity"]["tsType"] = "Entities[K]".into();
    let mut text = format!(
        "// Change events. Made from the code by `make pages`.\nimport type {{ Entities }} from \"./entities\";\n\n\
         /** What happened to an entity. */\nexport type ChangeKind = {};\n\n\
         /** A change of an entity of kind `K`, as a CloudEvent: the `detail` of an event of the bus. */\n\
         export interface ChangeEvent<K extends keyof Entities = keyof Entities> ",
        types.join(" | ")
    );
    interface(&mut text, &schema, 0);
    text.push('\n');
    text
}

/// Returns the AsyncAPI document: one channel, and a message for each kind of entity.
pub fn asyncapi(schemas: &BTreeMap<EntityKind, Value>) -> Value {
    let message = |(kind, schema): (&EntityKind, &Value)| {
        let message = json!({
            "name": format!("{}Changed", name(*kind)),
            "title": schema["title"],
            "contentType": "application/cloudevents+json",
            "payload": {
                "schemaFormat": "application/schema+json;version=draft-2020-12",
                "schema": { "$ref": format!("./changes/{kind}.json") },
            },
        });
        (kind.as_str().to_owned(), message)
    };
    let messages: serde_json::Map<_, _> = schemas.iter().map(message).collect();
    let references: serde_json::Map<_, _> = messages
        .keys()
        .map(|kind| (kind.clone(), json!({ "$ref": format!("#/components/messages/{kind}") })))
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "commerce-hooks: changes",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Changes in the state of stores, in the detail of events of an EventBridge bus.",
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {
            "changes": {
                "address": null,
                "description": "The bus that is the output ChangesBus of the stack. Its entries have the source commerce-hooks, and as detail-type the type of the event.",
                "messages": references,
            },
        },
        "operations": {
            "tell": {
                "action": "send",
                "channel": { "$ref": "#/channels/changes" },
                "summary": "Tells of a change that a reader of the table can see, at least once.",
            },
        },
        "components": { "messages": messages },
    })
}

/// Returns events as a rule hands them to its targets, by the names of their files: the first of each type of the recording.
pub async fn samples() -> BTreeMap<String, Value> {
    let mut samples = BTreeMap::new();
    let world = recorded().await;
    let changes = world.tables.stream().into_iter();
    let changes = changes.filter_map(|(before, after)| change_event(before.as_ref(), after.as_ref(), Detail::Full));
    let items = world.tables.items();
    let snapshots = items.iter().filter_map(|item| snapshot_event(item, Detail::Full));
    for event in changes.chain(snapshots) {
        let sample = json!({
            "version": "0",
            "id": "00000000-0000-4000-8000-000000000000",
            "detail-type": event.kind,
            "source": "commerce-hooks",
            "account": "000000000000",
            "time": format!("{}Z", &event.time[..19]),
            "region": "eu-central-1",
            "resources": [],
            "detail": event,
        });
        samples.entry(event.kind).or_insert(sample);
    }
    samples
}
