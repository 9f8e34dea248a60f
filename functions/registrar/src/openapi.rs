//! The description of the admin interface (OpenAPI 3.1), made from the table of its routes and the types of its
//! answers. It is compiled only for the tests, which write `openapi.json`; the function serves that file.

use std::collections::BTreeSet;

use commerce::{
    platform::{Platform, settings::MIN_POLL_SECONDS},
    transfer::Preset,
    trial::TrialResult,
    verification::MAX_SAMPLE,
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    answers::{
        Begun, Connection, ConnectionList, EndpointList, NewEndpoint, PlanSteps, PollList, Presets, RedactionReceipt,
        Revealed, Rotation, SnapshotBegun, SubscriptionList, VerificationReport,
    },
    routes::{PERMISSIONS, Parameter, Place, ROUTES, Route},
};

/// The statuses of the problems of every route.
const ALWAYS: [u16; 3] = [401, 403, 503];

/// Returns the description.
pub fn document(platforms: &[Platform]) -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation(route, platforms);
    }
    let mut responses = Map::new();
    for (status, description) in PROBLEMS {
        let content = json!({ "application/problem+json": { "schema": reference("Problem") } });
        responses.insert(status.to_string(), json!({ "description": description, "content": content }));
    }
    let mut schemas = answers();
    let fetched: BTreeSet<_> =
        platforms.iter().flat_map(|one| one.mapping.processors()).map(|one| one.entity.as_str()).collect();
    schemas
        .insert("Entity".to_owned(), json!({ "type": "string", "enum": fetched, "description": "A kind of entity." }));
    schemas.extend(requests().into_iter().map(|(name, schema)| (name.to_owned(), schema)));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "commerce-hooks: the admin interface",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Every write may be sent again: what is done already is not done twice.",
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": format!(
                    "HS256 with the admin key, for the audience commerce-hooks/admin, good for an hour at most. What it may do is in \
                     its claim `scope`, separated by spaces: {}. `make token` prints one.",
                    PERMISSIONS.join(", ")
                ),
            } },
        },
    })
}

const PROBLEMS: [(u16, &str); 7] = [
    (401, "There is no good token."),
    (403, "The token is not good for this."),
    (404, "There is no such platform or connection."),
    (409, "The connection is in a state that does not allow it, or was changed meanwhile."),
    (422, "The request cannot be taken, or the store refuses it; `detail` says what to change."),
    (502, "The store does not answer as it should."),
    (503, "Something here failed. Nothing is lost."),
];

fn operation(route: &Route, platforms: &[Platform]) -> Value {
    let mut responses = Map::new();
    let content = json!({ "application/json": { "schema": reference(route.answer) } });
    responses.insert(route.status.to_string(), json!({ "description": route.summary, "content": content }));
    for status in ALWAYS.iter().chain(route.problems) {
        responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{status}") }));
    }
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "description": route.description,
        "security": [{ "token": [route.permission] }],
        "parameters": route.parameters.iter().map(|one| parameter(one, platforms)).collect::<Value>(),
        "responses": responses,
    });
    if let Some(body) = &route.body {
        let content = json!({ "application/json": { "schema": reference(body.schema) } });
        operation["requestBody"] = json!({ "required": body.required, "content": content });
    }
    operation
}

fn parameter(parameter: &Parameter, platforms: &[Platform]) -> Value {
    let (place, required) = match parameter.place {
        Place::Path => ("path", true),
        Place::Query => ("query", false),
    };
    json!({
        "name": parameter.name, "in": place, "required": required, "description": parameter.description,
        "schema": (parameter.schema)(platforms),
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Returns an object with these members and no others. A member whose name ends with a question mark may be left out.
fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let required: Vec<_> = members.iter().filter(|(name, _)| !name.ends_with('?')).map(|(name, _)| *name).collect();
    let properties: Map<_, _> =
        members.iter().map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema.clone())).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// Returns an object with these members and any others beside.
fn open<const N: usize>(members: [(&str, Value); N]) -> Value {
    let mut object = object(members);
    object["additionalProperties"] = true.into();
    object
}

fn a(kind: &str, description: &str) -> Value {
    json!({ "type": kind, "description": description })
}

fn list(of: &Value) -> Value {
    json!({ "type": "array", "items": of })
}

fn by_entity(of: &Value, description: &str) -> Value {
    json!({
        "type": "object", "propertyNames": reference("Entity"), "additionalProperties": of, "description": description,
    })
}

/// Returns the schemas of the answers, derived from their types.
fn answers() -> Map<String, Value> {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    generator.subschema_for::<ConnectionList>();
    generator.subschema_for::<Connection>();
    generator.subschema_for::<SubscriptionList>();
    generator.subschema_for::<PlanSteps>();
    generator.subschema_for::<PollList>();
    generator.subschema_for::<Begun>();
    generator.subschema_for::<Presets>();
    generator.subschema_for::<RedactionReceipt>();
    generator.subschema_for::<SnapshotBegun>();
    generator.subschema_for::<EndpointList>();
    generator.subschema_for::<NewEndpoint>();
    generator.subschema_for::<VerificationReport>();
    generator.subschema_for::<Revealed>();
    generator.subschema_for::<Rotation>();
    generator.subschema_for::<TrialResult>();
    let mut schemas = generator.take_definitions(true);
    // Clients send presets, too, and their members then have defaults.
    schemas.insert("Preset".to_owned(), sent::<Preset>());
    schemas.values_mut().for_each(plain);
    schemas
}

/// Returns the schema of what a client sends.
fn sent<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator: SchemaGenerator = settings.into_generator();
    let mut schema = generator.root_schema_for::<T>().to_value();
    if let Some(members) = schema.as_object_mut() {
        members.retain(|name, _| !matches!(name.as_str(), "$defs" | "components" | "title"));
    }
    schema
}

/// Turns a choice of constants, each with a description, into an enumeration, whose own description is enough. Drops
/// the formats of numbers, which are those of Rust.
fn plain(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Object(members) => {
            let constants = members.get("oneOf").and_then(Value::as_array).and_then(|choice| {
                let constants = choice.iter().map(|one| one.get("const").filter(|_| one["type"] == "string").cloned());
                constants.collect::<Option<Vec<_>>>()
            });
            if let Some(constants) = constants {
                members.remove("oneOf");
                members.insert("type".into(), "string".into());
                members.entry("enum").or_insert(constants.into());
            }
            if members.get("format").and_then(Value::as_str).is_some_and(|format| format.contains("int")) {
                members.remove("format");
            }
            members.values_mut().for_each(plain);
        }
        _ => {}
    }
}

/// Returns the schemas of request bodies and of what depends on the platform: the settings, and small bodies.
fn requests() -> Vec<(&'static str, Value)> {
    let seconds = json!({
        "type": "integer", "minimum": 0, "description": format!("0 is never; else at least {MIN_POLL_SECONDS}."),
    });
    let policies = json!({ "type": "string", "enum": ["mark", "ignore", "remove", "update"] });
    let settings = || {
        [
            (
                "deletes?",
                by_entity(&policies, "The effect of a delete, by kind of entity; `mark` where none is named."),
            ),
            ("ignores?", list(&a("string", "A topic."))),
            ("presets?", list(&reference("Preset"))),
            ("polls?", by_entity(&seconds, "How often each kind of entity is polled, in seconds.")),
            ("retention?", reference("Retention")),
        ]
    };
    let mut new = open(settings());
    new["description"] =
        "The settings, the store's site and its credentials. docs/platforms/ has a page for each platform with all it takes.".into();
    let mut set = open(settings());
    set["description"] = "Beside these, what the platform has of its own. No site and no credentials.".into();
    let since =
        json!({ "type": "string", "format": "date-time", "description": "From when on; else from the last time." });
    let revoked = a("integer", "The generation that is revoked, as the connection shows it.");
    let retired = a("string", "The id of the key to go on without, though something still keeps it.");
    let named = object([("id", a("string", "The key's id.")), ("key", a("string", "The key."))]);
    let key = json!({ "anyOf": [a("string", "A key, as the sender shows it."), named] });
    let header = json!({ "anyOf": [a("string", "Its line."), list(&a("string", "One of its lines."))] });
    let request = object([
        ("method?", a("string", "Its method; POST without one.")),
        ("target?", a("string", "Its path and query.")),
        ("url?", a("string", "The URL that the sender was given.")),
        ("headers?", json!({ "type": "object", "additionalProperties": header })),
        ("body?", a("string", "Its body.")),
    ]);
    vec![
        (
            "Problem",
            object([
                ("type", a("string", "urn:commerce-hooks:problem: and the kind.")),
                ("title", a("string", "The status in words.")),
                ("status", a("integer", "The status.")),
                ("detail", a("string", "What is wrong, and the next step.")),
            ]),
        ),
        ("NewConnection", new),
        ("Settings", set),
        ("Retention", retention()),
        ("Revocation", object([("generation", revoked)])),
        ("Poll", object([("entity?", reference("Entity")), ("since?", since)])),
        (
            "Person",
            object([
                (
                    "customer?",
                    json!({ "type": ["string", "integer"], "description": "The customer's id at the platform." }),
                ),
                ("email?", a("string", "An e-mail address.")),
                (
                    "again?",
                    json!({ "type": "boolean", "default": false, "description": "Begins anew if it was done before." }),
                ),
            ]),
        ),
        (
            "EndpointRequest",
            object([
                ("url", a("string", "The address, over https.")),
                ("platforms?", list(&a("string", "A platform."))),
                ("connections?", list(&a("string", "A connection: `woocommerce/shop.example.com`."))),
                ("types?", list(&a("string", "`order.created`, `order.*` or `*.deleted`."))),
                ("paused?", json!({ "type": "boolean", "default": false, "description": "Delivers nothing." })),
            ]),
        ),
        ("SnapshotRequest", object([("entity?", reference("Entity"))])),
        (
            "VerificationRequest",
            object([
                ("full?", json!({ "type": "boolean", "default": false, "description": "All entities." })),
                (
                    "sample?",
                    json!({
                        "type": "integer", "minimum": 1, "maximum": MAX_SAMPLE, "default": 20,
                        "description": "This many entities of each kind.",
                    }),
                ),
                ("repair?", json!({ "type": "boolean", "default": false, "description": "Fetches what differs." })),
                ("entity?", reference("Entity")),
            ]),
        ),
        ("Import", object([("entity?", reference("Entity"))])),
        (
            "RevealRequest",
            object([("scope?", a("string", "Only the secret of this topic, where each has one of its own."))]),
        ),
        (
            "Trial",
            object([
                ("declaration", a("object", "The declaration.")),
                ("request", request),
                ("keys?", list(&key)),
                ("account?", a("string", "The account that the connection is for.")),
                ("constants?", json!({ "type": "object", "additionalProperties": { "type": "string" } })),
                ("now?", a("integer", "The time to take for now, in seconds since 1970.")),
            ]),
        ),
        ("Retirement", object([("retire?", retired)])),
        ("Description", json!({ "type": "object", "description": "OpenAPI 3.1." })),
    ]
}

fn retention() -> Value {
    json!({
        "description": "What becomes of the state when the connection is disconnected.",
        "anyOf": [
            { "const": "keep" },
            object([("erase-after-days", json!({ "type": "integer", "minimum": 0, "maximum": 65535 }))]),
        ],
    })
}
