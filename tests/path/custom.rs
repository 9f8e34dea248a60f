//! Declared senders on the whole path: connected over the admin interface, received, processed, pulled and listed.

use std::{collections::BTreeMap, fs, path::PathBuf};

use commerce::declaration::Declaration;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tests::platforms::Delivery;
use tests::world::{BASE, World, gateway_event, message, outcomes, request};

/// A request that a preset has to prove.
#[derive(Clone, Deserialize)]
struct Vector {
    source: String,
    keys: Vec<Value>,
    #[serde(default)]
    now: Option<i64>,
    request: Sent,
    #[serde(default)]
    constants: BTreeMap<String, String>,
}

#[derive(Clone, Deserialize)]
struct Sent {
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    url: Option<String>,
    headers: BTreeMap<String, String>,
    body: String,
}

fn yaml<T: DeserializeOwned>(path: &PathBuf) -> T {
    let value: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the vectors of every preset, by its name.
fn vectors() -> BTreeMap<String, Vec<Vector>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/commerce/presets/vectors");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), yaml(&path))).collect()
}

impl Vector {
    fn keys(&self) -> Vec<Value> {
        let key = |key: &Value| match key {
            Value::String(_) => key.clone(),
            named => json!({ "id": named["id"], "key": named["text"] }),
        };
        self.keys.iter().map(key).collect()
    }

    fn delivery(&self) -> Delivery {
        let target = self.request.target.clone().unwrap_or_else(|| "/hooks/custom/a".to_owned());
        Delivery {
            method: self.request.method.as_deref().unwrap_or("POST").parse().unwrap(),
            url: format!("{BASE}{target}"),
            headers: self.request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect(),
            body: self.request.body.clone().into(),
            attempts: 0,
        }
    }

    /// Returns whether it was sent to where the connection `a` is; a published one may have been sent elsewhere.
    fn is_at_home(&self) -> bool {
        let url = self.request.url.as_deref().unwrap_or("https://hooks.example.com/hooks/custom/a");
        url == "https://hooks.example.com/hooks/custom/a"
            && self.request.target.as_deref().is_none_or(|target| target.split('?').next() == Some("/hooks/custom/a"))
    }
}

/// Makes a world with the connection `a` of a preset.
async fn connected(preset: &str, vector: &Vector) -> World {
    let world = World::new();
    if let Some(now) = vector.now {
        world.clock.pass_seconds(now - world.clock.now().seconds());
    }
    let mut constants = vector.constants.clone();
    // The token of a handshake is not part of the vector of a delivery.
    let text = commerce::platforms::custom::preset(preset).unwrap().to_string();
    for name in text.split("{constant:").skip(1).filter_map(|rest| rest.split(['}', '|', '?']).next()) {
        constants.entry(name.to_owned()).or_insert_with(|| "a constant".to_owned());
    }
    let settings = json!({ "preset": preset, "keys": vector.keys(), "constants": constants });
    let (status, body) = world.admin_of("custom", "PUT", "a", "", &settings.to_string()).await;
    assert_eq!(status, 200, "{preset}: {body}");
    world
}

async fn send(world: &World, delivery: &Delivery) -> u16 {
    let event = gateway_event(delivery, world.clock.now()).unwrap();
    world.receiver.receive(request(&event)).await.status().as_u16()
}

/// Processes all that was queued since, and returns how it ended.
async fn ends(world: &World, since: usize) -> Vec<String> {
    let sent = world.queues.sent();
    let messages: Vec<_> =
        sent.iter().enumerate().skip(since).map(|(at, (sealed, ..))| message(at, sealed.text())).collect();
    outcomes(&world.process(&messages).await)
}

#[tokio::test]
async fn every_preset_s_vectors_take_the_whole_path() {
    let (mut taken, mut elsewhere) = (0, Vec::new());
    for (preset, vectors) in vectors() {
        let declaration = Declaration::read(commerce::platforms::custom::preset(&preset).unwrap()).unwrap();
        for vector in vectors {
            let what = format!("{preset}, {}", vector.source);
            if !vector.is_at_home() {
                elsewhere.push(what);
                continue;
            }
            let world = connected(&preset, &vector).await;
            let delivery = vector.delivery();
            assert_eq!(send(&world, &delivery).await, declaration.answers.accepted, "{what}");
            // Some published vectors sign a text that is no delivery.
            let document = declaration.body.document(&delivery.body).unwrap();
            let is_delivery = serde_json::from_slice::<Value>(&document).is_ok();
            let expected: &[&str] = match is_delivery {
                true => &["applied", "split", "ignored: unknown-scope"],
                false => &["quarantined: malformed"],
            };
            for end in ends(&world, 0).await {
                assert!(expected.contains(&end.as_str()), "{what}: {end}");
            }
            // Nobody else's request, and nothing that was changed, gets in.
            let queued = world.queues.sent().len();
            let mut other = delivery.clone();
            other.headers.clear();
            other.body = "{}".into();
            other.url = format!("{BASE}/hooks/custom/a");
            let refused = send(&world, &other).await;
            assert!([declaration.answers.refused, 405].contains(&refused), "{what}: {refused}");
            assert_eq!(world.queues.sent().len(), queued, "{what}");
            taken += 1;
        }
    }
    assert!(taken >= 80, "{taken} taken, {} elsewhere: {elsewhere:#?}", elsewhere.len());
}
