//! Owns the inputs to begin with: the samples in `events/`, the tests' data, the presets and their vectors; and inputs
//! that are large in one way.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use commerce::{envelope::Body, platforms::PLATFORMS};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the JSON files of a folder and its own folders, by their names, in order.
fn files(folder: &Path) -> Vec<(PathBuf, Value)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        match (path.is_dir(), path.extension().is_some_and(|extension| extension == "json")) {
            (true, _) => found.extend(files(&path)),
            (false, true) => {
                if let Ok(value) = serde_json::from_slice(&fs::read(&path).unwrap()) {
                    found.push((path, value));
                }
            }
            _ => {}
        }
    }
    found
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn http(method: &str, target: &str, headers: &Value, body: &str) -> String {
    let headers: String =
        headers.as_object().into_iter().flatten().map(|(name, value)| format!("{name}: {}\n", text(value))).collect();
    format!("{method} {target}\n{headers}\n{body}")
}

/// Returns the inputs of every target, by its name.
pub fn seeds() -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let mut all: BTreeMap<&'static str, Vec<Vec<u8>>> = BTreeMap::new();
    let mut add = |target: &'static str, input: String| {
        let inputs = all.entry(target).or_default();
        if input.len() <= 32 * 1024 {
            inputs.push(input.into_bytes());
        }
    };
    let of = |path: &Path| {
        let folder = path.parent().and_then(|folder| folder.file_name()).unwrap_or_default().to_owned();
        PLATFORMS.iter().map(|platform| platform.name).find(|name| folder == *name).filter(|name| *name != "custom")
    };
    for (path, value) in files(&root().join("events")) {
        if let Some(records) = value["Records"].as_array() {
            for record in records {
                let message = text(&record["body"]);
                let read: Value = serde_json::from_str(&message).unwrap();
                if let (Some(platform), Some(body)) = (of(&path), read["content"]["delivery"]["text"].as_str()) {
                    add(platform, format!("map {}\n{body}", text(&read["scope"])));
                }
                // The same with a body that unpacks to some thousand times its length.
                if path.ends_with("001-product_created.sqs.json") {
                    let mut bomb = read;
                    bomb["content"] = serde_json::json!({ "delivery": Body::pack(&vec![b'a'; 6 << 20]) });
                    add("envelope", bomb.to_string());
                }
                add("envelope", message);
            }
        } else if of(&path).is_some() {
            let method = text(&value["requestContext"]["http"]["method"]);
            let request = http(&method, &text(&value["rawPath"]), &value["headers"], &text(&value["body"]));
            if let Some(token) =
                value["headers"]["authorization"].as_str().and_then(|value| value.strip_prefix("Bearer "))
            {
                add("tokens", token.to_owned());
            }
            add("request", request.clone());
            add("proofs", request);
        }
    }
    for (path, value) in files(&root().join("tests/path/data")) {
        let Some(platform) = of(&path) else { continue };
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file == "scopes.json" {
            for (scope, delivery) in value.as_object().into_iter().flatten() {
                add(platform, format!("map {scope}\n{}", text(&delivery["body"])));
            }
        }
        if let Some(scope) = value["scope"].as_str().filter(|_| file.starts_with("golden")) {
            add(platform, format!("map {scope}\n{}", text(&value["body"])));
        }
        if let (Some(answers), Some(kind)) = (value["answers"].as_array(), value["entity"].as_str()) {
            let answers: Vec<String> =
                answers.iter().map(|answer| format!("{}\n{}", answer["status"], text(&answer["body"]))).collect();
            add(platform, format!("pull {kind} {}\n{}", text(&value["id"]), answers.join("\n--\n")));
            add(platform, format!("list {kind}\n{}", answers.join("\n--\n")));
        }
    }
    let presets: BTreeMap<String, Value> = serde_json::from_str(include_str!("../../presets.json")).unwrap();
    for (name, preset) in &presets {
        add("declaration", preset.to_string());
        let settings = serde_json::json!({ "preset": name, "declaration": preset, "keys": ["a secret of a sender"] });
        add("settings", format!("custom\n{settings}"));
        let vectors = root().join(format!("shared/commerce/presets/vectors/{name}.yaml"));
        let vectors: Value = serde_saphyr::from_str(&fs::read_to_string(vectors).unwrap()).unwrap();
        for vector in vectors.as_array().into_iter().flatten() {
            let sent = &vector["request"];
            let of = |member: &str, other: &str| sent[member].as_str().unwrap_or(other).to_owned();
            let (method, target) = (of("method", "POST"), of("target", "/hooks/custom/a"));
            let body = of("body", "");
            add("declared", format!("{name}\n{}", http(&method, &target, &sent["headers"], &body)));
            let topic = text(&vector["extracted"]["topic"]);
            add("custom", format!("{name} {topic}\n{body}"));
        }
        for expression in expressions(preset) {
            add(
                "filter",
                format!("{expression}\n{{\"id\":1,\"data\":{{\"object\":{{\"id\":\"x\",\"amount\":100}}}}}}"),
            );
        }
    }
    for (platform, body) in [
        ("woocommerce", r#"{"site":"https://a.example.com","consumer_key":"ck_1","consumer_secret":"cs_1"}"#),
        ("woocommerce", r#"{"site":"https://a.example.com","ignores":["order.updated"],"deletes":{"order":"remove"}}"#),
        ("bigcommerce", r#"{"access_token":"token"}"#),
        ("directscale", r#"{"api_key":"key","presets":[{"scope":"x","entity":"order","at":"/id"}]}"#),
        ("cloudblue", r#"{"api_key":"ApiKey SU-1:2","products":{"PRD-1":"observe"}}"#),
    ] {
        add("settings", format!("{platform}\n{body}"));
    }
    add("keys", r#"{"keys":[{"id":"a","state":"sign","secret":"0123456789abcdef0123456789abcdef"}]}"#.to_owned());
    add("keys", "0123456789abcdef0123456789abcdef".to_owned());
    add("keys", r#"{"bigcommerce":{"client_id":"i","client_secret":"s","require":"both"}}"#.to_owned());
    add("keys", r#"{"woocommerce":{"jwks":{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}}}"#.to_owned());
    for token in [r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#, "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.AAAA"] {
        add("tokens", token.to_owned());
    }
    for job in [
        r#"{"check":{"platform":"woocommerce","connection":"shop.example.com","why":"schedule"}}"#,
        r#"{"poll":{"platform":"woocommerce","connection":"shop.example.com","entity":"order","fetch":"full"}}"#,
    ] {
        add("job", job.to_owned());
    }
    for item in [
        r#"{"pk":"woocommerce#shop.example.com","sk":"order#1","fields":{"id":"1"},"extra":"{\"a\":1}","deleted":false,"changed_at":"2026-11-21T01:48:40.000000Z","v":{"s":1795225720000000,"r":1795225722100000,"o":true,"m":1,"h":"x"},"t":{"f":1795225722100000},"rev":"x","by":"m 1"}"#,
        r#"{"pk":"woocommerce#shop.example.com","sk":"order#1","deleted":true,"changed_at":"","t":{"g":1795225722100000},"rev":"x","by":"m 1"}"#,
        r#"{"pk":"directscale#acme","sk":"order#1","facets":"{\"\":{\"v\":{\"r\":1}}}","deleted":false,"changed_at":"","rev":"x","by":"m 1"}"#,
    ] {
        add("item", item.to_owned());
    }
    all
}

/// Returns the expressions of a preset.
fn expressions(preset: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![preset];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    match value
                        .as_str()
                        .filter(|_| ["content", "split", "id", "when", "found"].contains(&name.as_str()))
                    {
                        Some(text) if !text.contains('\n') => found.push(text.to_owned()),
                        _ => open.push(value),
                    }
                }
            }
            Value::Array(values) => open.extend(values),
            _ => {}
        }
    }
    found
}

/// Returns inputs that are large in one way, put behind the beginning of an honest one.
pub fn large(length: usize) -> Vec<(&'static str, Vec<u8>)> {
    let repeated = |what: &'static str, before: &str, part: &str, behind: &str| {
        (what, format!("{before}{}{behind}", part.repeat(length / part.len())).into_bytes())
    };
    let members: String = (0..length / 12).map(|at| format!("\"{at:06}\":0,")).collect();
    let fields: String = (0..length / 8).map(|at| format!("{at:06}=&")).collect();
    vec![
        repeated("deep lists", "", "[", ""),
        repeated("deep objects", "", "{\"a\":", ""),
        repeated("closed lists", "", "[]", ""),
        repeated("objects in a list", "[", "{},", "{}]"),
        repeated("small objects", "[", "{\"a\":0},", "0]"),
        repeated("lists in a list", "[", "[],", "[]]"),
        repeated("numbers", "[", "0,", "0]"),
        repeated("a number", "{\"id\":", "9", "}"),
        repeated("a fraction", "{\"id\":0.", "1", "}"),
        repeated("an exponent", "{\"id\":1e", "9", "}"),
        repeated("a text", "{\"id\":\"", "a", "\"}"),
        repeated("a name", "{\"", "a", "\":0}"),
        repeated("escapes", "{\"id\":\"", "\\u0041", "\"}"),
        repeated("surrogates", "{\"id\":\"", "\\ud83d\\ude00", "\"}"),
        repeated("white space", "{\"id\":", " ", "1}"),
        repeated("the same member", "{", "\"id\":1,", "\"id\":1}"),
        ("members", format!("{{{members}\"id\":1}}").into_bytes()),
        repeated("fields", "", "a&", "a"),
        repeated("the same field", "", "id=1&", "id=1"),
        ("other fields", fields.into_bytes()),
        repeated("signs of percent", "", "%41", ""),
        repeated("zeros", "", "\0", ""),
        repeated("no text", "", "\u{fffe}", ""),
        repeated("dots", "", ".", ""),
        repeated("slashes", "", "/", ""),
        repeated("lines", "", "\n", ""),
        repeated("headers", "", "a: b\n", "\n{}"),
        repeated("commas", "", ",", ""),
        repeated("answers", "", "200\n{}\n--\n", "200\n{}"),
    ]
}
