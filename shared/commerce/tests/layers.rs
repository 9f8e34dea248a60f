//! Holds the order of this crate's modules: a file uses only what stands below it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The modules, from the ground up. What stands in one line may not use each other; a folder's own files may.
const LAYERS: &[&[&str]] = &[
    &["timestamp", "outcome", "origin", "json"],
    &["key", "http_call"],
    &["entity", "request", "activity"],
    &["transfer", "change", "keys", "health", "redaction"],
    &["job", "cursor"],
    &["connection", "rotation", "scheme"],
    &["apps", "declaration", "item"],
    &["change_event", "verification"],
    &["endpoint"],
    &["install"],
    &["platform"],
    &["verify"],
    &["envelope", "trial"],
    &["drift"],
    &["platforms"],
];

fn layer(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|modules| modules.contains(&module))
        .unwrap_or_else(|| panic!("{module} has no place in LAYERS"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules that a text names after `crate::`, alone or in a list.
fn named(text: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            modules.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            continue;
        };
        let (mut depth, mut word) = (0, String::new());
        for c in list.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => modules.extend(first(&std::mem::take(&mut word))),
                _ if depth == 0 => word.push(c),
                _ => {}
            }
        }
        modules.extend(first(&word));
    }
    modules
}

fn first(path: &str) -> Option<String> {
    let module = path.trim().split("::").next()?.to_owned();
    (!module.is_empty()).then_some(module)
}

/// A file without its comments, and without its tests: they may look at anything.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_module_uses_one_above_it_or_beside_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&source, &mut found);
    let (mut wrong, mut arrows) = (Vec::new(), 0);
    for file in &found {
        let relative = file.strip_prefix(&source).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.strip_suffix(".rs").unwrap_or(first);
        if module == "lib" || relative.ends_with("tests.rs") {
            continue;
        }
        let own = layer(module);
        for other in named(&code(&fs::read_to_string(file).unwrap())) {
            arrows += 1;
            if other != module && layer(&other) >= own {
                wrong.push(format!("{} uses {other}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that run up or across:\n{}", wrong.join("\n"));
    assert!(arrows > 100, "the files were read: {arrows}");
    let declared = named_modules(&fs::read_to_string(source.join("lib.rs")).unwrap());
    let placed: BTreeSet<_> =
        LAYERS.iter().flat_map(|modules| modules.iter().map(|module| (*module).to_owned())).collect();
    assert_eq!(declared, placed, "every module has its place");
}

fn named_modules(lib: &str) -> BTreeSet<String> {
    lib.lines().filter_map(|line| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned())).collect()
}

/// A platform is a folder: it uses none of the others.
#[test]
fn no_platform_uses_another() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/platforms");
    let mut found = Vec::new();
    files(&folder, &mut found);
    let names: BTreeSet<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert!(names.len() >= 4, "{names:?}");
    for file in found {
        let own = file.strip_prefix(&folder).unwrap().components().next().unwrap();
        let own = own.as_os_str().to_str().unwrap();
        if !names.contains(own) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for other in names.iter().filter(|name| *name != own) {
            for path in [format!("platforms::{other}"), format!("super::{other}")] {
                assert!(!code(&text).contains(&path), "{} uses {path}", file.display());
            }
        }
    }
}
