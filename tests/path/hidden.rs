//! The hidden members of entities, for all known data of every platform: secrets, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};
use tests::world::coded;

use serde_json::Value;

/// Collects the names of members that are in one but not in the other.
fn missing(name: &str, before: &Value, after: &Value, into: &mut BTreeSet<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in before {
                match after.get(name) {
                    Some(after) => missing(name, value, after, into),
                    None => _ = into.insert(name.clone()),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len(), "{name}");
            before.iter().zip(after).for_each(|(before, after)| missing(name, before, after, into));
        }
        _ => assert_eq!(before, after, "{name}"),
    }
}

/// Opens texts that are JSON: the bodies of deliveries and answers.
fn opened(value: Value) -> Value {
    match value {
        Value::String(text) if text.starts_with(['{', '[']) => {
            serde_json::from_str(&text).map_or(Value::String(text), opened)
        }
        Value::Array(elements) => elements.into_iter().map(opened).collect(),
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(name, value)| (name, opened(value))).collect())
        }
        other => other,
    }
}

#[test]
fn of_what_the_platforms_send_only_secrets_are_hidden() {
    let mut hidden: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("path/data")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap();
        // The folder of declared senders holds declarations, and nothing that was sent.
        if name == "custom" {
            continue;
        }
        let names = hidden.entry(name.to_owned()).or_default();
        for file in fs::read_dir(folder).unwrap() {
            let Some(text) = fs::read(file.unwrap().path()).ok() else { continue };
            let Ok(data) = serde_json::from_slice::<Value>(&text) else { continue };
            let before = serde_json::json!({ "data": opened(data) });
            let Value::Object(mut after) = before.clone() else { unreachable!() };
            commerce::entity::hide(&mut after);
            missing("", &before, &Value::Object(after), names);
        }
    }
    // Platforms with hidden members list them in a file.
    let expected = coded().map(|platform| {
        let file = format!("{}/path/data/{}/hidden.json", env!("CARGO_MANIFEST_DIR"), platform.name);
        let names = fs::read(file).map(|text| serde_json::from_slice::<BTreeSet<String>>(&text).unwrap());
        (platform.name.to_owned(), names.unwrap_or_default())
    });
    assert_eq!(hidden, expected.collect());
}
