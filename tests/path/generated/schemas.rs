//! Makes `schemas/entities`: a JSON Schema and a TypeScript type of every canonical entity, as the table holds it; and
//! `schemas/declaration.json`, for those who write declarations.

use std::{collections::BTreeMap, fmt::Write};

use commerce::{
    declaration::Declaration,
    entity::{
        Cart, CategoryEntity, Coupon, Customer, EntityKind, Order, Price, Product, Record, Request, SCHEMA_VERSION,
        Subscription,
    },
};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

/// Returns the schemas, by kind of entity.
pub fn entities() -> BTreeMap<EntityKind, Value> {
    BTreeMap::from([
        (EntityKind::Customer, schema::<Customer>(EntityKind::Customer)),
        (EntityKind::Product, schema::<Product>(EntityKind::Product)),
        (EntityKind::Order, schema::<Order>(EntityKind::Order)),
        (EntityKind::Cart, schema::<Cart>(EntityKind::Cart)),
        (EntityKind::Coupon, schema::<Coupon>(EntityKind::Coupon)),
        (EntityKind::Category, schema::<CategoryEntity>(EntityKind::Category)),
        (EntityKind::Price, schema::<Price>(EntityKind::Price)),
        (EntityKind::Subscription, schema::<Subscription>(EntityKind::Subscription)),
        (EntityKind::Request, schema::<Request>(EntityKind::Request)),
        (EntityKind::Record, schema::<Record>(EntityKind::Record)),
    ])
}

/// Returns the schema of a type as it is written, with nothing defined elsewhere.
pub fn written<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.inline_subschemas = true;
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Returns the schema of a declaration. Proofs nest, so it has definitions.
pub fn declaration() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Declaration>().to_value();
    let members = schema.as_object_mut().unwrap();
    members.insert("$id".into(), "urn:commerce-hooks:schema:declaration:1".into());
    members.insert("title".into(), "Declaration of a sender".into());
    schema
}

fn schema<T: JsonSchema>(kind: EntityKind) -> Value {
    let mut schema = written::<T>();
    as_kept(&mut schema);
    let members = schema.as_object_mut().unwrap();
    members.insert("$id".into(), format!("urn:commerce-hooks:schema:{kind}:{SCHEMA_VERSION}").into());
    members.insert("title".into(), kind.as_str().into());
    members.insert("required".into(), json!(["id"]));
    schema
}

/// Changes a schema to what the table holds: an empty member is absent, and never null.
fn as_kept(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(as_kept),
        Value::Object(members) => {
            members.remove("required");
            if let Some(Value::Array(kinds)) = members.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [kind] = kinds.as_slice() {
                    let kind = kind.clone();
                    members.insert("type".into(), kind);
                }
            }
            if let Some(Value::Array(choice)) = members.get_mut("anyOf") {
                choice.retain(|one| one["type"] != "null");
                if let [Value::Object(one)] = choice.as_slice() {
                    let one = one.clone();
                    members.remove("anyOf");
                    for (name, value) in one {
                        members.entry(name).or_insert(value);
                    }
                }
            }
            if members.get("format").and_then(Value::as_str).is_some_and(|format| format.contains("int")) {
                members.remove("format");
            }
            members.values_mut().for_each(as_kept);
        }
        _ => {}
    }
}

/// Returns the TypeScript types of the schemas.
pub fn typescript(schemas: &BTreeMap<EntityKind, Value>) -> String {
    let mut text = "// The canonical entities, as `fields` of an item of the table `Entities` holds them. Made from the code by `make pages`.\n\
                    // An empty member is absent. Amounts are decimal numbers as text; times are RFC 3339 in UTC.\n"
        .to_owned();
    for (kind, schema) in schemas {
        write!(text, "\n/** {} */\nexport interface {} ", one_line(schema), name(*kind)).unwrap();
        interface(&mut text, schema, 0);
        text.push('\n');
    }
    text.push_str("\n/** Every canonical entity, by the first part of its sort key. */\nexport interface Entities {\n");
    for kind in schemas.keys() {
        writeln!(text, "  {}: {};", kind.as_str(), name(*kind)).unwrap();
    }
    text.push_str("}\n");
    text
}

/// Returns the name of the TypeScript type of a kind.
pub fn name(kind: EntityKind) -> String {
    let (first, rest) = kind.as_str().split_at(1);
    format!("{}{rest}", first.to_uppercase())
}

fn one_line(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

/// Writes the members of an object as TypeScript. A member with the keyword `tsType` has the type that this says.
pub fn interface(text: &mut String, schema: &Value, level: usize) {
    let indent = "  ".repeat(level + 1);
    text.push_str("{\n");
    let required = |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let comment = one_line(member);
        if !comment.is_empty() {
            writeln!(text, "{indent}/** {comment} */").unwrap();
        }
        let mark = if required(name) { "" } else { "?" };
        write!(text, "{indent}{name}{mark}: ").unwrap();
        typed(text, member, level + 1);
        text.push_str(";\n");
    }
    write!(text, "{}}}", "  ".repeat(level)).unwrap();
}

fn typed(text: &mut String, schema: &Value, level: usize) {
    if let Some(written) = schema["tsType"].as_str() {
        return text.push_str(written);
    }
    if let Some(choice) = schema["oneOf"].as_array() {
        let values: Vec<_> = choice.iter().map(|one| one["const"].to_string()).collect();
        return text.push_str(&values.join(" | "));
    }
    match schema["type"].as_str() {
        Some("object") if schema["properties"].is_object() => interface(text, schema, level),
        Some("object") if schema["additionalProperties"].is_object() => {
            text.push_str("{ [id: string]: ");
            typed(text, &schema["additionalProperties"], level);
            text.push_str(" }");
        }
        Some("array") => {
            text.push_str("Array<");
            typed(text, &schema["items"], level);
            text.push('>');
        }
        Some("string") => text.push_str("string"),
        Some("boolean") => text.push_str("boolean"),
        Some("integer" | "number") => text.push_str("number"),
        _ => text.push_str("unknown"),
    }
}

/// Returns the places at which a schema refuses, or calls otherwise, what the one before described: a reader who relies on that one
/// would break.
pub fn incompatible(before: &Value, now: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", before, now, &mut found);
    found
}

fn compare(at: &str, before: &Value, now: &Value, found: &mut Vec<String>) {
    for keyword in ["type", "format", "pattern", "enum"] {
        if before.get(keyword) != now.get(keyword) {
            found.push(format!("{at}: another {keyword}"));
        }
    }
    for name in before["required"].as_array().into_iter().flatten() {
        if !now["required"].as_array().is_some_and(|names| names.contains(name)) {
            found.push(format!("{at}: {name} may be absent"));
        }
    }
    for (name, member) in before["properties"].as_object().into_iter().flatten() {
        match now["properties"].get(name) {
            Some(now) => compare(&format!("{at}/{name}"), member, now, found),
            None => found.push(format!("{at}/{name}: is gone")),
        }
    }
    for inner in ["items", "additionalProperties"] {
        if before[inner].is_object() {
            compare(&format!("{at}/{inner}"), &before[inner], &now[inner], found);
        }
    }
}

/// Returns the places of a value that a schema does not describe.
pub fn unknown(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    undescribed("", schema, value, &mut found);
    found
}

fn undescribed(at: &str, schema: &Value, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) if schema["properties"].is_object() => {
            for (name, member) in members {
                match schema["properties"].get(name) {
                    Some(schema) => undescribed(&format!("{at}/{name}"), schema, member, found),
                    None => found.push(format!("{at}/{name}")),
                }
            }
        }
        Value::Object(members) if schema["additionalProperties"].is_object() => {
            for (name, member) in members {
                undescribed(&format!("{at}/{name}"), &schema["additionalProperties"], member, found);
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| undescribed(&format!("{at}[]"), &schema["items"], item, found));
        }
        _ => {}
    }
}
