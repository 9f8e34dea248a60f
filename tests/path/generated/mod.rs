//! Files that are generated from the code and checked in for readers. Each must be as it would be generated now. With
//! `WRITE_PAGES=1` the tests write them, as `make pages` does.

mod admin_api;
mod changes;
mod mappings;
mod schemas;
mod senders;
mod state;

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use commerce::{
    change::Change, declaration::Declaration, entity::EntityKind, platform::mapping::Mapped, platforms::PLATFORMS,
};
use registrar::openapi;
use serde_json::{Value, json};
use tests::world::coded;

/// Asserts that a file of the repository has this text. Writes the file first if `WRITE_PAGES` is set.
fn assert_generated(path: &str, text: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if env::var_os("WRITE_PAGES").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    let there = fs::read_to_string(&file).unwrap_or_default();
    assert!(there == text, "{path} is not what the code says: `make pages` writes it");
}

#[test]
fn the_description_of_the_admin_interface() {
    let document = openapi::document(PLATFORMS);
    assert_generated("functions/registrar/openapi.json", &format!("{document:#}\n"));
    assert_generated("docs/admin-api.md", &admin_api::page(&document));
}

/// The line that begins the generated part of a page; everything before it is written by hand.
const GENERATED: &str = "<!-- Below: made from the code by `make pages`. -->\n";

#[test]
fn the_fields_of_every_entity() {
    let path = "docs/state.md";
    let page = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap();
    let (by_hand, _) = page.split_once(GENERATED).expect("the page has the line that the tables begin at");
    assert_generated(path, &format!("{by_hand}{GENERATED}{}", state::tables()));
}

#[test]
fn the_senders_that_are_described_as_data() {
    let path = "docs/senders.md";
    let page = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap();
    let (by_hand, _) = page.split_once(GENERATED).expect("the page has the line that the table begins at");
    assert_generated(path, &format!("{by_hand}{GENERATED}{}", senders::table()));
}

#[test]
fn the_presets_as_functions_have_them() {
    assert_generated("shared/commerce/presets.json", &senders::presets());
}

/// A mapping whose output changes gets a higher number. Otherwise a replay would not win over the output of an earlier
/// release for the same delivery.
#[test]
fn a_mapping_that_makes_something_else_has_another_number() {
    for platform in coded() {
        let path = format!("tests/path/data/{}/mapping.json", platform.name);
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(&path);
        let before = fs::read(&file).map(|text| serde_json::from_slice(&text).unwrap()).unwrap_or_default();
        let now = mappings::made(platform.name);
        assert_eq!(mappings::forgotten(&before, &now), Vec::<String>::new(), "{}: raise MAPPING", platform.name);
        assert_generated(&path, &format!("{:#}\n", serde_json::to_value(&now).unwrap()));
    }
}

#[test]
fn a_forgotten_number_is_noticed() {
    let made = |number, sample: &str, output: &str| {
        let made = mappings::Made { number, sample: sample.into(), output: output.into() };
        std::collections::BTreeMap::from([("golden".to_owned(), made)])
    };
    let before = made(2, "s", "o");
    for fine in [made(2, "s", "o"), made(3, "s", "other"), made(2, "another", "other")] {
        assert_eq!(mappings::forgotten(&before, &fine), Vec::<String>::new());
    }
    assert_eq!(mappings::forgotten(&before, &made(2, "s", "other")), ["golden"]);
}

/// A schema of the same version takes everything that it took before: fields come, and none goes or gets another type.
#[test]
fn the_schemas_of_the_entities() {
    let schemas = schemas::entities();
    assert_eq!(schemas.len(), 10);
    assert_compatible("entities", &schemas);
    let types = schemas::typescript(&schemas);
    assert!(!types.contains("Record<"), "the entity `Record` hides TypeScript's own");
    assert_generated("schemas/typescript/entities.d.ts", &types);
}

#[test]
fn the_schema_of_declarations() {
    let schema = schemas::declaration();
    assert_generated("schemas/declaration.json", &format!("{schema:#}\n"));
    let validator = jsonschema::options().build(&schema).unwrap();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut fitting = 0;
    for folder in ["shared/commerce/presets", "tests/path/data/custom"] {
        for file in fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let declaration: Value = serde_saphyr::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
            let declaration = declaration.pointer("/settings/declaration").unwrap_or(&declaration);
            let errors: Vec<_> = validator.iter_errors(declaration).map(|error| error.to_string()).collect();
            assert_eq!(errors, Vec::<String>::new(), "{}", file.display());
            fitting += 1;
        }
    }
    assert!(fitting > 80, "{fitting}");
    // What the schema refuses, the reader refuses, too.
    let stripe = commerce::platforms::custom::preset("stripe").unwrap();
    for (place, wrong) in [
        ("/sender", Value::Null),
        ("/proof", json!({})),
        ("/proof", json!({ "signed": {} })),
        ("/proof/signed/algorithm", "hmac-md5".into()),
        ("/proof/signed/at", json!({ "cookie": "a" })),
        ("/proof/signed/time/past", json!(-1)),
        ("/extract/topic", "{json:/type}".into()),
        ("/map/0/entity", "invoice".into()),
        ("/map/0", json!({ "topic": "a", "entity": "order", "verb": "made" })),
    ] {
        let mut declaration = stripe.clone();
        *declaration.pointer_mut(place).unwrap() = wrong;
        assert!(!validator.is_valid(&declaration), "{place}");
        assert!(Declaration::read(declaration).is_err(), "{place}");
    }
}

#[test]
fn the_schemas_of_the_change_events() {
    let schemas = changes::schemas(&schemas::entities());
    assert_compatible("changes", &schemas);
    assert_generated("schemas/typescript/changes.d.ts", &changes::typescript());
    assert_generated("schemas/asyncapi.json", &format!("{:#}\n", changes::asyncapi(&schemas)));
}

#[tokio::test]
async fn the_sample_changes_fit_their_schemas() {
    let schemas = changes::schemas(&schemas::entities());
    let samples = changes::samples().await;
    assert!(samples.len() > 8, "{:?}", samples.keys());
    for (kind, sample) in samples {
        let entity = serde_json::from_value(kind.split_once('.').unwrap().0.into()).unwrap();
        assert_fits(&schemas[&entity], &sample["detail"], &kind);
        assert_generated(&format!("events/changes/{kind}.json"), &format!("{sample:#}\n"));
    }
}

/// Asserts that the schemas below `schemas/` are these, and that readers of those before can read what these describe.
fn assert_compatible(folder: &str, schemas: &BTreeMap<EntityKind, Value>) {
    for (kind, schema) in schemas {
        let path = format!("schemas/{folder}/{kind}.json");
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(&path);
        let before: Option<Value> = fs::read(&file).ok().map(|text| serde_json::from_slice(&text).unwrap());
        if let Some(before) = before.filter(|before| before["$id"] == schema["$id"]) {
            let broken = schemas::incompatible(&before, schema);
            assert_eq!(broken, Vec::<String>::new(), "{path}: readers would break; raise SCHEMA_VERSION");
        }
        assert_generated(&path, &format!("{schema:#}\n"));
    }
}

/// Asserts that a schema takes a value, and describes each member of it.
fn assert_fits(schema: &Value, value: &Value, what: &str) {
    let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
    let errors: Vec<_> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(errors, Vec::<String>::new(), "{what}");
    assert_eq!(schemas::unknown(schema, value), Vec::<String>::new(), "{what}: the schema does not know them");
}

#[test]
fn an_added_field_is_compatible_and_a_removed_or_retyped_one_is_not() {
    let object = |properties: Value| json!({ "type": "object", "properties": properties, "required": ["id"] });
    let (text, list) = (json!({ "type": "string" }), |items: Value| json!({ "type": "array", "items": items }));
    let before = object(json!({ "id": text, "lines": list(object(json!({ "id": text, "sku": text }))) }));
    let added = object(
        json!({ "id": text, "new": text, "lines": list(object(json!({ "id": text, "sku": text, "x": text }))) }),
    );
    assert_eq!(schemas::incompatible(&before, &added), Vec::<String>::new());
    let removed = object(json!({ "id": text, "lines": list(object(json!({ "id": text }))) }));
    assert_eq!(schemas::incompatible(&before, &removed), ["/lines/items/sku: is gone"]);
    let retyped =
        object(json!({ "id": { "type": "integer" }, "lines": list(object(json!({ "id": text, "sku": text }))) }));
    assert_eq!(schemas::incompatible(&before, &retyped), ["/id: another type"]);
    let optional = json!({ "type": "object", "properties": before["properties"] });
    assert_eq!(schemas::incompatible(&before, &optional), [r#": "id" may be absent"#]);
}

/// The schema of each kind describes every member that a golden sample of any platform is mapped to.
#[test]
fn every_golden_sample_fits_its_schema() {
    let schemas = schemas::entities();
    let mut checked = 0;
    for golden in crate::hops::all_golden() {
        let (Mapped::Change(_, Change::Upsert(upsert)) | Mapped::IfKnown(_, Change::Upsert(upsert), _)) =
            &golden.mapped
        else {
            continue;
        };
        let mut schema = schemas[&golden.entity].clone();
        if !upsert.facets.is_empty() {
            // A part need not have the id.
            schema.as_object_mut().unwrap().remove("required");
        }
        let fields = Value::Object(upsert.content.fields.clone());
        assert_fits(&schema, &fields, &format!("{} {}", golden.platform, golden.name));
        checked += 1;
    }
    assert!(checked > 20, "{checked}");
}
