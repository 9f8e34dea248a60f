//! Owns the description of the admin interface (OpenAPI 3.1), made from the table of its routes.

use std::collections::BTreeSet;

use commerce::{
    connection::{ConnectionStatus, DeletePolicy},
    health::Verdict,
    keys::{KeyState, Phase},
    platform::{Platform, settings::MIN_POLL_SECONDS},
    rotation::Stage,
};
use serde_json::{Map, Value, json};

use crate::routes::{PERMISSIONS, Parameter, Place, ROUTES, Route};

/// What can be wrong with every request.
const ALWAYS: [u16; 3] = [401, 403, 503];

/// The description.
pub(crate) fn document(platforms: &[Platform]) -> Value {
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
    let schemas: Map<String, Value> =
        schemas(platforms).into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
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

/// An object with these members and no others; a name that ends with a question mark may be left out.
fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let required: Vec<_> = members.iter().filter(|(name, _)| !name.ends_with('?')).map(|(name, _)| *name).collect();
    let properties: Map<_, _> =
        members.iter().map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema.clone())).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// The same with any others beside.
fn open<const N: usize>(members: [(&str, Value); N]) -> Value {
    let mut object = object(members);
    object["additionalProperties"] = true.into();
    object
}

fn a(kind: &str, description: &str) -> Value {
    json!({ "type": kind, "description": description })
}

fn maybe(kind: &str, description: &str) -> Value {
    json!({ "type": [kind, "null"], "description": description })
}

fn stamp(description: &str) -> Value {
    json!({ "type": ["string", "null"], "format": "date-time", "description": description })
}

fn list(of: &Value) -> Value {
    json!({ "type": "array", "items": of })
}

fn by_entity(of: &Value, description: &str) -> Value {
    json!({
        "type": "object", "propertyNames": reference("Entity"), "additionalProperties": of, "description": description,
    })
}

/// What a rotation's report looks like.
fn rotation() -> Value {
    let ids = |description: &str| json!({ "type": "array", "items": { "type": "string" }, "description": description });
    let key = open([
        ("id", a("string", "The key's id.")),
        (
            "state",
            json!({ "enum": [KeyState::Sign, KeyState::Verify], "description": "Whether new things are signed with it." }),
        ),
        (
            "phase",
            json!({ "enum": [Phase::Incoming, Phase::Outgoing, null], "description": "Null where no rotation touches it." }),
        ),
        ("since", stamp("Since when it has been in its state and phase, if a rotation brought it there.")),
        ("last_used", stamp("When it proved something last.")),
    ]);
    let elsewhere = open([
        ("count", a("integer", "How many connections have subscriptions on another key than the one that signs.")),
        ("connections", ids("Some of them.")),
    ]);
    open([
        ("stage", json!({ "enum": [Stage::None.name(), Stage::Waiting.name(), Stage::Moving.name()] })),
        ("keys", list(&key)),
        ("elsewhere", elsewhere),
        (
            "by_hand",
            ids("Connections that lately delivered with the key that goes: somebody has to enter the new one there."),
        ),
        ("next_step_not_before", stamp("When the next step can be taken at the earliest.")),
        ("kept_by", ids("What keeps it from being taken now.")),
    ])
}

/// What each request and answer looks like.
fn schemas(platforms: &[Platform]) -> Vec<(&'static str, Value)> {
    let strings = || list(&a("string", "A scope."));
    let statuses = [
        ConnectionStatus::Active,
        ConnectionStatus::Paused,
        ConnectionStatus::Disconnecting,
        ConnectionStatus::Disconnected,
    ];
    let verdicts =
        json!([Verdict::Healthy, Verdict::Silent, Verdict::SwitchedOff, Verdict::Missing, Verdict::Manual, null]);
    let policies = [DeletePolicy::Mark, DeletePolicy::Ignore, DeletePolicy::Remove, DeletePolicy::Update];
    let deletes = || by_entity(&json!({ "enum": policies }), "What a delete does, per entity; mark without.");
    let presets = || list(&reference("Preset"));
    let processors = platforms.iter().flat_map(|platform| platform.mapping.processors());
    let entities: BTreeSet<_> = processors.map(|processor| processor.entity.as_str()).collect();
    let preset = object([
        ("scope", a("string", "The scope.")),
        ("at?", a("string", "Where in the body the reference is, as a JSON pointer; /id without.")),
        ("prefix?", a("string", "What the reference begins with; the rest is the entity's id.")),
        ("entity", reference("Entity")),
    ]);
    let retention = json!({
        "description": "What becomes of the state when the connection is disconnected.",
        "anyOf": [
            { "const": "keep" },
            object([("erase-after-days", json!({ "type": "integer", "minimum": 0, "maximum": 65535 }))]),
        ],
    });
    let seconds = json!({
        "type": "integer", "minimum": 0, "description": format!("0 is never; else at least {MIN_POLL_SECONDS}."),
    });
    let settings = || {
        [
            ("deletes?", deletes()),
            ("ignores?", strings()),
            ("presets?", presets()),
            ("polls?", by_entity(&seconds, "How often each entity is polled, in seconds.")),
            ("retention?", reference("Retention")),
        ]
    };
    let mut new = open(settings());
    new["description"] =
        "The settings, the store's site and its credentials: what the platform wants beside is in README.md.".into();
    let mut set = open(settings());
    set["description"] = "Beside these, what the platform has of its own. No site and no credentials.".into();
    let step = object([
        ("do", json!({ "enum": ["create", "update", "delete"] })),
        ("scope", a("string", "What the subscription delivers.")),
        ("id", maybe("string", "Its id at the platform.")),
        ("url", maybe("string", "Where it will deliver to.")),
        (
            "why",
            json!({ "enum": ["url", "secret", "replaced", "inactive", "paused", "duplicate", "undeclared", null] }),
        ),
    ]);
    let status = "active, missing, manual, unknown, paused where its connection is, or the platform's own word.";
    let failures = "How many deliveries have failed since one succeeded, where the platform tells.";
    let row = object([
        ("scope", a("string", "What it delivers.")),
        ("status", a("string", status)),
        ("id", maybe("string", "Its id at the platform.")),
        ("url", maybe("string", "Where it delivers to.")),
        ("key_id", maybe("string", "The signing key that its secret is derived from.")),
        ("generation", maybe("integer", "The generation that its secret is derived for.")),
        ("verdict", json!({ "enum": verdicts, "description": "How it does; null while its connection is paused." })),
        ("since", stamp("Since when, where that is remembered.")),
        ("reason", a("string", "Why it is not healthy, or was not the last time.")),
        ("last_delivery", stamp("When a delivery of it was seen last.")),
        ("trips", maybe("integer", "How often it was switched on again since it last stayed on.")),
        ("failures", maybe("integer", failures)),
        ("reactivated_at", stamp("When it was switched on again last.")),
        ("not_before", stamp("Before that it is not switched on again.")),
        ("good_at", stamp("When it was known to be on last.")),
    ]);
    let run = object([
        ("fetch", json!({ "enum": ["import", "changed", "sweep"] })),
        ("begun", stamp("When it began.")),
        ("pages", a("integer", "How many pages were queued.")),
        ("found", a("integer", "How many entities were queued.")),
    ]);
    let why = || ("why", a("string", "Why it cannot be fetched."));
    let stopped_since = || ("since", stamp("Since when no page could be had."));
    let stopped = object([("entity", reference("Entity")), why(), stopped_since()]);
    let polled = object([
        ("entity", reference("Entity")),
        ("every_seconds", maybe("integer", "How often it is polled by the settings; null is the default, 0 never.")),
        ("since", stamp("Everything that had changed until then is on the queue.")),
        ("swept", stamp("When all of them were gone through last.")),
        (
            "stopped",
            json!({ "anyOf": [object([why(), stopped_since()]), { "type": "null" }], "description": "Why it cannot be fetched, while it cannot." }),
        ),
        ("run", json!({ "anyOf": [run, { "type": "null" }], "description": "What is under way." })),
        (
            "losses",
            object([
                ("missed", a("integer", "How often it was not here, or was and should not have been.")),
                ("stale", a("integer", "How often its content was another one.")),
                ("unmapped", a("integer", "How often it could not be mapped, and was put aside.")),
                ("since", stamp("Since when they are counted; null where there were none.")),
            ]),
        ),
    ]);
    let notice = object([
        ("kind", a("string", "What kind.")),
        ("detail", a("string", "What the platform says beyond it.")),
        ("received", stamp("When it was received.")),
    ]);
    let changes = object([
        ("created", strings()),
        ("updated", strings()),
        ("deleted", strings()),
        ("kept", a("integer", "How many were as they should be.")),
    ]);
    let trouble = object([
        ("what", a("string", "What keeps it from being looked after, or has to be done by somebody.")),
        ("since", stamp("Since when.")),
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
        ("Entity", json!({ "type": "string", "enum": entities })),
        ("Status", json!({ "enum": statuses })),
        ("Preset", preset),
        ("Retention", retention),
        (
            "ConnectionList",
            object([
                (
                    "connections",
                    list(&object([
                        ("platform", a("string", "The platform.")),
                        ("connection", a("string", "The connection's id.")),
                        ("status", reference("Status")),
                        ("site", a("string", "The store's or account's base URL.")),
                        (
                            "signed_with",
                            maybe("string", "The signing key that all of its subscriptions are derived from."),
                        ),
                    ])),
                ),
                ("next", maybe("string", "The cursor of the next page; null at the end.")),
            ]),
        ),
        (
            "Connection",
            object([
                ("platform", a("string", "The platform.")),
                ("connection", a("string", "The connection's id.")),
                ("status", reference("Status")),
                ("site", a("string", "The store's or account's base URL.")),
                ("generation", a("integer", "The generation whose deliveries count.")),
                (
                    "confirmed",
                    a("boolean", "Whether an operator has connected or confirmed it, or the vendor has invited it."),
                ),
                ("deletes", deletes()),
                ("ignores", strings()),
                ("presets", presets()),
                ("settings", a("object", "The platform's own settings.")),
                ("notices", list(&notice)),
                ("delivery_url", a("string", "Where its hooks deliver to.")),
                ("subscriptions?", list(&row)),
                ("next?", a("string", "What to do next, where the hooks are entered by hand.")),
                (
                    "problem?",
                    a("string", "Why the store could not be asked: then the subscriptions are as they were seen last."),
                ),
                ("changes?", changes),
                ("paused_at?", stamp("Since when it has been paused, while it is.")),
                ("checked_at?", stamp("When it was looked after last without trouble.")),
                ("trouble?", trouble),
                ("stopped?", list(&stopped)),
            ]),
        ),
        ("NewConnection", new),
        ("Settings", set),
        ("Presets", object([("presets", presets())])),
        (
            "Revocation",
            object([("generation", a("integer", "The generation that is revoked, as the connection shows it."))]),
        ),
        (
            "SubscriptionList",
            object([
                ("managed", a("boolean", "Whether the registrar makes them; else they are entered by hand.")),
                ("subscriptions", list(&row)),
                ("problem", maybe("string", "Why the store could not be asked: then they are as they were seen last.")),
            ]),
        ),
        (
            "Plan",
            object([
                (
                    "managed",
                    a("boolean", "Whether the registrar makes the subscriptions; else there is nothing to do."),
                ),
                ("steps", list(&step)),
                ("kept", strings()),
            ]),
        ),
        (
            "Poll",
            object([
                ("entity?", reference("Entity")),
                (
                    "since?",
                    json!({ "type": "string", "format": "date-time", "description": "From when on; else from the last time." }),
                ),
            ]),
        ),
        ("Import", object([("entity?", reference("Entity"))])),
        ("Begun", object([("fetch", json!({ "enum": ["import", "changed"] })), ("begun", list(&reference("Entity")))])),
        ("PollList", object([("polls", list(&polled))])),
        (
            "RevealRequest",
            object([("scope?", a("string", "Only the secret of this scope, where each has one of its own."))]),
        ),
        (
            "Revealed",
            object([
                ("delivery_url", a("string", "Where the hooks have to deliver to.")),
                (
                    "secrets",
                    list(&object([
                        ("scope", maybe("string", "The scope that it is for; null where one is for all.")),
                        ("secret", a("string", "The secret.")),
                    ])),
                ),
                ("next", a("string", "How to enter them.")),
            ]),
        ),
        ("Rotation", rotation()),
        (
            "Retirement",
            object([("retire?", a("string", "The id of the key to go on without, though something still keeps it."))]),
        ),
        ("Description", json!({ "type": "object", "description": "OpenAPI 3.1." })),
    ]
}
