//! Files that are generated from the code and checked in for readers. Each must be as it would be generated now. With
//! `WRITE_PAGES=1` the tests write them, as `make pages` does.

mod admin_api;
mod mappings;
mod state;

use std::{env, fs, path::PathBuf};

use commerce::platforms::PLATFORMS;
use registrar::openapi;

/// Asserts that a file of the repository has this text. Writes the file first if `WRITE_PAGES` is set.
fn assert_generated(path: &str, text: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if env::var_os("WRITE_PAGES").is_some() {
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

/// A mapping whose output changes gets a higher number. Otherwise a replay would not win over the output of an earlier
/// release for the same delivery.
#[test]
fn a_mapping_that_makes_something_else_has_another_number() {
    for platform in PLATFORMS {
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
