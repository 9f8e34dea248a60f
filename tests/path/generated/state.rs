//! The tables of `docs/state.md`: each kind of entity with its fields, and the platforms that fill them.

use std::fmt::Write;

use commerce::{
    change::Change,
    entity::{
        Cart, CategoryEntity, Coupon, Customer, EntityKind, Order, Price, Product, Record, Request, Subscription,
    },
    platform::mapping::Mapped,
};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};
use tests::world::coded;

use crate::hops::Golden;

/// The fields of a platform's entity, whole or in parts.
type Sample = (&'static str, Map<String, Value>);

/// Returns the tables.
pub fn tables() -> String {
    let samples = crate::hops::all_golden();
    let mut page = String::new();
    table::<Customer>(&mut page, EntityKind::Customer, &samples);
    table::<Product>(&mut page, EntityKind::Product, &samples);
    table::<Order>(&mut page, EntityKind::Order, &samples);
    table::<Cart>(&mut page, EntityKind::Cart, &samples);
    table::<Coupon>(&mut page, EntityKind::Coupon, &samples);
    table::<CategoryEntity>(&mut page, EntityKind::Category, &samples);
    table::<Price>(&mut page, EntityKind::Price, &samples);
    table::<Subscription>(&mut page, EntityKind::Subscription, &samples);
    table::<Request>(&mut page, EntityKind::Request, &samples);
    table::<Record>(&mut page, EntityKind::Record, &samples);
    page
}

fn table<T: JsonSchema>(page: &mut String, kind: EntityKind, samples: &[Golden]) {
    let of_kind = samples.iter().filter(|golden| golden.entity == kind);
    let samples: Vec<Sample> = of_kind.flat_map(|golden| fields(golden.platform, &golden.mapped)).collect();
    let mut platforms: Vec<_> = coded().map(|platform| platform.name).collect();
    platforms.retain(|name| samples.iter().any(|(platform, _)| platform == name));
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.inline_subschemas = true;
    let schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    let description = schema["description"].as_str().unwrap();
    writeln!(page, "\n### {kind}\n\n{description}\n\n| field | | | {} |", platforms.join(" | ")).unwrap();
    writeln!(page, "|---|---|---|{}", ":---:|".repeat(platforms.len())).unwrap();
    let samples: Vec<_> = samples.iter().map(|(platform, fields)| (*platform, Value::Object(fields.clone()))).collect();
    let values: Vec<_> = samples.iter().map(|(platform, value)| (*platform, value)).collect();
    rows(page, "", &schema, &values, &platforms);
}

/// Returns the fields that a platform fills, in the parts in which it sends them.
fn fields(platform: &'static str, mapped: &Mapped) -> Vec<Sample> {
    let (Mapped::Change(_, Change::Upsert(upsert))
    | Mapped::PullWith(_, Change::Upsert(upsert))
    | Mapped::IfKnown(_, Change::Upsert(upsert), _)) = mapped
    else {
        return Vec::new();
    };
    let facets = upsert.facets.values().map(|facet| facet.fields.clone());
    std::iter::once(upsert.content.fields.clone()).chain(facets).map(|fields| (platform, fields)).collect()
}

fn rows(page: &mut String, prefix: &str, schema: &Value, values: &[(&'static str, &Value)], platforms: &[&str]) {
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let values: Vec<_> = values.iter().filter_map(|(of, value)| Some((*of, value.get(name)?))).collect();
        let filled = platforms
            .iter()
            .map(|platform| if values.iter().any(|(of, value)| of == platform && !value.is_null()) { "✓" } else { "" });
        let description = member["description"].as_str().unwrap_or_default().replace('\n', " ");
        let filled = filled.collect::<Vec<_>>().join(" | ");
        writeln!(page, "| `{prefix}{name}` | {} | {description} | {filled} |", kind(member)).unwrap();
        let member = not_null(member);
        if member["items"]["properties"].is_object() {
            let items: Vec<_> = values
                .iter()
                .flat_map(|(of, value)| value.as_array().into_iter().flatten().map(|item| (*of, item)))
                .collect();
            rows(page, &format!("{prefix}{name}[]."), &member["items"], &items, platforms);
        } else if member["additionalProperties"]["properties"].is_object() {
            let items: Vec<_> = values
                .iter()
                .flat_map(|(of, value)| {
                    value.as_object().into_iter().flat_map(|members| members.values()).map(|item| (*of, item))
                })
                .collect();
            rows(page, &format!("{prefix}{name}.*."), &member["additionalProperties"], &items, platforms);
        } else if member["properties"].is_object() {
            rows(page, &format!("{prefix}{name}."), member, &values, platforms);
        }
    }
}

fn not_null(schema: &Value) -> &Value {
    let choice = schema["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null"));
    choice.unwrap_or(schema)
}

/// Describes a field's type in a few words.
fn kind(schema: &Value) -> String {
    let schema = not_null(schema);
    let names = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or_default(),
        name => name.as_str().unwrap_or("any"),
    };
    match names {
        "string" if schema["format"] == "date-time" => "time".into(),
        "string" if schema.get("pattern").is_some() => "amount".into(),
        "string" if schema["maxLength"] == 256 => "id".into(),
        "array" => format!("list of {}", plural(&kind(&schema["items"]))),
        "object" if schema["additionalProperties"].is_object() => "objects by id".into(),
        "string" => "text".into(),
        other => other.into(),
    }
}

fn plural(name: &str) -> String {
    format!("{name}s")
}
