//! One contract for every platform in the list: each topic, each tampering of its proof, each malformed body. A new
//! platform brings only data: `data/{platform}/scopes.json` and `settings.json`, and its sample events.

use std::collections::{BTreeMap, BTreeSet};

use commerce::{
    envelope::Envelope,
    platform::{Platform, mapping::declared_scopes},
    request::WebhookPath,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tests::world::{World, coded, message, outcomes, request, signs_by_app};
use tools::events::{self, Event, sample_ring};

/// A delivery of one topic, and its outcome on a connection without credentials.
#[derive(Deserialize, Clone)]
struct Case {
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    body: Value,
    ends: String,
}

fn data(platform: &Platform, name: &str) -> String {
    let file = format!("{}/path/data/{}/{name}.json", env!("CARGO_MANIFEST_DIR"), platform.name);
    std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{file} is missing"))
}

fn cases(platform: &Platform) -> BTreeMap<String, Case> {
    serde_json::from_str(&data(platform, "scopes")).unwrap()
}

/// Returns the first sample event of a platform that carries a proof.
fn sample(platform: &Platform) -> Event {
    let ring = sample_ring();
    events::load(platform.name).unwrap().into_iter().find(|event| event.sealed(&ring).is_some()).unwrap()
}

fn delivery(platform: &Platform, case: &Case) -> Event {
    let mut event = sample(platform);
    for (name, value) in &case.headers {
        event.request["headers"][name] = value.clone();
    }
    event.request["body"] = match &case.body {
        Value::Null => "".into(),
        Value::String(text) => text.as_str().into(),
        body => body.to_string().into(),
    };
    event.request["requestContext"]["http"]["method"] = case.method.as_deref().unwrap_or("POST").into();
    event.sign(&sample_ring());
    event
}

/// Makes a world with each platform's sample connection, without credentials.
async fn connected() -> World {
    let world = World::new();
    for platform in coded() {
        let path = sample(platform).path().unwrap();
        let connection = path.key.connection.as_str();
        let (status, body) = world.admin_of(platform.name, "PUT", connection, "", &data(platform, "settings")).await;
        assert_eq!(status, 200, "{}: {body}", platform.name);
    }
    world
}

async fn answer(world: &World, event: &Event) -> u16 {
    world.receiver.receive(request(&event.request)).await.status().as_u16()
}

/// Sends one delivery, processes it, and returns its outcome.
async fn ends(world: &World, event: &Event) -> String {
    let before = world.queues.sent().len();
    assert_eq!(answer(world, event).await, 200, "{event:?}");
    let sent = world.queues.sent();
    let report = world.process(&[message(before, sent[before].0.text())]).await;
    outcomes(&report).remove(0)
}

#[tokio::test]
async fn each_scope() {
    for platform in coded() {
        let cases = cases(platform);
        let declared: BTreeSet<_> = declared_scopes(platform).map(str::to_owned).collect();
        assert_eq!(cases.keys().cloned().collect::<BTreeSet<_>>(), declared, "{}", platform.name);
        for (scope, case) in cases {
            let world = connected().await;
            let event = delivery(platform, &case);
            assert_eq!(ends(&world, &event).await, case.ends, "{} {scope}", platform.name);
            let sent = world.queues.sent();
            assert_eq!(Envelope::parse(sent[0].0.text()).unwrap().scope, scope, "{}", platform.name);
            // A repeated delivery changes nothing that a reader sees.
            let state = world.state();
            let again = ends(&world, &event).await;
            assert_ne!(again, "applied", "{} {scope}", platform.name);
            let visible = |world: &World| -> Vec<_> {
                world.state().into_iter().map(|item| (item.sk, item.deleted, item.fields, item.extra)).collect()
            };
            let before: Vec<_> = state.into_iter().map(|i| (i.sk, i.deleted, i.fields, i.extra)).collect();
            assert_eq!(visible(&world), before, "{} {scope}", platform.name);
        }
    }
}

#[tokio::test]
async fn an_unknown_scope_is_no_error_of_the_sender() {
    for platform in coded() {
        let world = connected().await;
        let (known, case) = cases(platform).pop_first().unwrap();
        let text = serde_json::to_string(&(&case.headers, &case.body)).unwrap().replace(&known, "no_such_scope");
        let (headers, body) = serde_json::from_str(&text).unwrap();
        let case = Case { headers, body, ..case };
        let end = ends(&world, &delivery(platform, &case)).await;
        let kept = platform.mapping.fallback().is_some();
        assert_eq!(end, if kept { "applied" } else { "ignored: unknown-scope" }, "{}", platform.name);
    }
}

#[tokio::test]
async fn each_tampering_of_the_proof() {
    for platform in coded() {
        let world = connected().await;
        let (_, case) = cases(platform).pop_first().unwrap();
        let good = delivery(platform, &case);
        let name = platform.name;
        assert_eq!(answer(&world, &good).await, 200, "{name}");
        let refused = |what: &str, event: Event| {
            let (world, what) = (world.clone(), format!("{name}: {what}"));
            async move { assert_eq!(answer(&world, &event).await, 401, "{what}") }
        };
        // The headers that signing changes are the proof.
        let mut other = good.clone();
        let other_key = commerce::keys::KeyRing::parse("another-key-of-at-least-32-bytes!").unwrap();
        other.sign(&other_key);
        refused("another key", other.clone()).await;
        let proofs: Vec<String> = good.request["headers"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(header, value)| other.request["headers"][header.as_str()] != **value)
            .map(|(header, _)| header.clone())
            .collect();
        assert!(!proofs.is_empty(), "{name} has no proof");
        for header in &proofs {
            let value = good.request["headers"][header].as_str().unwrap().to_owned();
            let with = |value: Value| {
                let mut event = good.clone();
                event.request["headers"][header] = value;
                event
            };
            let mut without = good.clone();
            without.request["headers"].as_object_mut().unwrap().remove(header);
            refused("no proof", without).await;
            for bad in ["", " ", "Bearer ", "Bearer", "x", "Bearer x.y.z", "é", &"a".repeat(10_000)] {
                refused(bad, with(bad.into())).await;
            }
            refused("the proof twice", with(format!("{value},{value}").into())).await;
            refused("cut off", with(value[..value.len() - 1].into())).await;
            for place in [0, value.len() / 2, value.len() - 2] {
                let mut bytes = value.clone().into_bytes();
                bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
                refused("one character changed", with(String::from_utf8(bytes).unwrap().into())).await;
            }
        }
        let mut queued = 1;
        for (part, value) in [("connection", "another"), ("generation", "2")] {
            let mut elsewhere = good.clone();
            elsewhere.request["pathParameters"][part] = value.into();
            // All generations have the app's own secret, so it is the processor that ignores the others.
            if part == "generation" && signs_by_app(platform) {
                assert_eq!(ends(&world, &elsewhere).await, "ignored: retired-generation", "{name}");
                queued += 1;
                continue;
            }
            refused("another path", elsewhere).await;
        }
        let mut method = good.clone();
        method.request["requestContext"]["http"]["method"] = "PUT".into();
        assert_eq!(answer(&world, &method).await, 405, "{name}");
        assert_eq!(world.queues.sent().len(), queued, "{name}: only what was proven was queued");
    }
}

/// Returns texts that are nobody's delivery.
fn malformed() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "{",
        "}",
        "[",
        "[]",
        "{}",
        "null",
        "true",
        "5",
        "-0",
        "1e400",
        "\"x\"",
        "\"\\ud800\"",
        "{\"a\"}",
        "{\"id\":}",
        "{\"id\":1,}",
        "\u{feff}{}",
        "{\"id\":{\"id\":{}}}",
        "<html></html>",
        "a=b&c=d",
        "[{\"id\":1},{\"id\":2}]",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push("[".repeat(100_000));
    texts.push(format!("{}1{}", "{\"a\":".repeat(1_000), "}".repeat(1_000)));
    texts.push(format!("{{\"id\":\"{}\"}}", "x".repeat(300)));
    texts
}

/// Returns copies of a body, each with one value replaced by something else.
fn mutations(body: &Value) -> Vec<Value> {
    fn places(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(name, member)| {
                    places(member, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
                });
            }
            Value::Array(elements) => {
                elements.iter().enumerate().for_each(|(n, element)| places(element, &format!("{at}/{n}"), found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    places(body, "", &mut found);
    let others =
        [json!(null), json!({}), json!([]), json!(""), json!("x"), json!(-1), json!(1e300), json!(true), json!([{}])];
    let mutate = |(place, other): (&String, &Value)| {
        let mut body = body.clone();
        *body.pointer_mut(place).unwrap() = other.clone();
        body
    };
    found.iter().flat_map(|place| others.iter().map(move |other| (place, other))).map(mutate).collect()
}

#[tokio::test]
async fn each_malformed_body() {
    for platform in coded() {
        let world = connected().await;
        for (scope, case) in cases(platform) {
            let mutated = mutations(&case.body).into_iter().map(|body| body.to_string());
            for text in malformed().into_iter().chain(mutated) {
                let event = delivery(platform, &Case { body: Value::String(text.clone()), ..case.clone() });
                // A proven delivery is accepted, unless its body names another connection.
                let status = answer(&world, &event).await;
                assert!(status == 200 || status == 401, "{} {scope}: {status} for {text:.100}", platform.name);
            }
        }
        let sent = world.queues.sent();
        assert!(sent.len() > 100, "{}: {}", platform.name, sent.len());
        for (n, (sealed, _)) in sent.iter().enumerate() {
            let report = world.process(&[message(n, sealed.text())]).await;
            let end = outcomes(&report).remove(0);
            let fine = ["applied", "unchanged", "superseded", "ignored: ", "split: ", "quarantined: "];
            assert!(
                fine.iter().any(|word| end.starts_with(word)),
                "{}: {end} for {:.300}",
                platform.name,
                sealed.text()
            );
        }
    }
}

#[tokio::test]
async fn a_delivery_of_one_connection_is_none_of_another_s() {
    for platform in coded() {
        let world = connected().await;
        let (_, case) = cases(platform).pop_first().unwrap();
        let mut event = delivery(platform, &case);
        // The signature is valid, but for a path of somebody else.
        event.request["pathParameters"]["connection"] = "somebody-else".into();
        event.sign(&sample_ring());
        let path = event.path().unwrap();
        assert_eq!(path, WebhookPath::parse(platform.name, "somebody-else", None).unwrap());
        let status = answer(&world, &event).await;
        if status == 200 {
            // The proof holds for the other connection, which is unknown.
            let sent = world.queues.sent();
            let report = world.process(&[message(0, sent[0].0.text())]).await;
            assert_eq!(outcomes(&report), ["ignored: unknown-connection"], "{}", platform.name);
        } else {
            assert_eq!(status, 401, "{}", platform.name);
        }
        assert!(world.state().is_empty());
    }
}
