//! Snapshots of each hop: a recorded request's message, its outcome, and its item.

use commerce::{
    change::Change,
    entity::EntityKind,
    envelope::{Content, Envelope},
    http_call::{Hosts, Loopback},
    platform::{
        Platform, find,
        mapping::{Incoming, Mapped, Resolved, resolve},
        pull::{Access, Next, Wanted},
    },
    platforms::PLATFORMS,
    request::WebhookPath,
    timestamp::Timestamp,
    transfer::Action,
};
use serde_json::{Map, Value, json};
use tests::{
    platforms::json_answer,
    world::{PLATFORM, World, coded, events, key},
};

#[tokio::test]
async fn each_hop_of_the_recording() {
    let world = World::connected();
    let mut queued = 0;
    for event in events() {
        let answer = world.receive(&event).await.status().as_u16();
        let outcomes = world.drain(queued).await;
        let message = world.queues.sent().get(queued).map(|(sealed, _)| {
            queued += 1;
            let mut message: Value = serde_json::from_str(sealed.text()).unwrap();
            // The bodies are the events' bodies, byte for byte.
            let Content::Delivery(body) = Envelope::parse(sealed.text()).unwrap().content else { panic!() };
            assert_eq!(body.unpack().unwrap(), event.body());
            message["content"] = "the body".into();
            message
        });
        let entity = event.scope().map(|scope| scope.split('.').next().unwrap().to_owned());
        let id = serde_json::from_str::<Value>(event.body()).map(|body| body["id"].to_string());
        let item = entity.zip(id.ok()).map(|(entity, id)| {
            let mut item = serde_json::to_value(world.item(&format!("{entity}#{id}"))).unwrap();
            item["changed_at"] = "a time".into();
            // The number of the attempt follows the message's id.
            let by = item["by"].as_str().and_then(|by| by.split(' ').next()).map(str::to_owned);
            item["by"] = by.into();
            item
        });
        let hops = json!({ "answer": answer, "message": message, "outcome": outcomes.first(), "item": item });
        insta::assert_json_snapshot!(event.name.as_str(), hops);
    }
}

/// Bodies of the recorded platform's entities, with the fields that the recording never fills.
const GOLDEN: [(&str, EntityKind, Action); 7] = [
    ("order", EntityKind::Order, Action::Updated),
    ("product", EntityKind::Product, Action::Updated),
    ("variation", EntityKind::Product, Action::Updated),
    ("customer", EntityKind::Customer, Action::Updated),
    ("coupon", EntityKind::Coupon, Action::Created),
    ("restored-coupon", EntityKind::Coupon, Action::Restored),
    ("guest-order", EntityKind::Order, Action::Created),
];

/// Each body of the recorded platform's entities maps to its snapshot.
#[test]
fn golden_entities() {
    for (name, entity, action) in GOLDEN {
        let mapped = recorded(name, entity, action);
        let Mapped::Change(id, Change::Upsert(upsert)) = mapped else { panic!("{name}: {mapped:?}") };
        let golden = json!({
            "id": id,
            "source": upsert.source.map(|at| at.to_string()),
            "observed": upsert.observed,
            "content": upsert.content,
        });
        insta::assert_json_snapshot!(format!("golden-{name}"), golden);
    }
}

fn recorded(name: &str, entity: EntityKind, action: Action) -> Mapped {
    let file = format!("{}/path/data/{PLATFORM}/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let body = std::fs::read(&file).unwrap_or_else(|_| panic!("{file} is missing"));
    let received = Timestamp::from_millis(1_795_225_721_000);
    let mapping = find(PLATFORMS, PLATFORM).unwrap().mapping;
    let connection = &key();
    let incoming = Incoming { connection, scope: "", delivery_id: None, entity, action, body: &body, received };
    mapping.map(&incoming).unwrap()
}

/// Returns the golden files of a platform, with their names.
fn golden_files(platform: &Platform) -> Vec<(String, Value)> {
    let folder = format!("{}/path/data/{}", env!("CARGO_MANIFEST_DIR"), platform.name);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.file_name().unwrap().to_str().unwrap().starts_with("golden-"));
    files.sort();
    let read = |file: std::path::PathBuf| {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap())
    };
    files.into_iter().map(read).collect()
}

fn golden(platform: &Platform, data: &Value) -> (EntityKind, Mapped) {
    let received = Timestamp::from_millis(1_795_225_721_000);
    match data.get("answers") {
        Some(answers) => {
            let entity = serde_json::from_value(data["entity"].clone()).unwrap();
            (entity, pulled(platform, data, answers.as_array().unwrap(), received))
        }
        None => delivered(platform, data, received),
    }
}

/// A golden sample, and the result of its mapping.
pub struct Golden {
    pub platform: &'static str,
    pub name: String,
    /// The sample itself.
    pub sample: Value,
    pub entity: EntityKind,
    pub mapped: Mapped,
}

/// Returns the golden samples of all platforms, with the results of their mappings.
pub fn all_golden() -> Vec<Golden> {
    let recorded = GOLDEN.map(|(name, entity, action)| {
        let file = format!("{}/path/data/{PLATFORM}/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let sample = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let mapped = recorded(name, entity, action);
        Golden { platform: PLATFORM, name: name.to_owned(), sample, entity, mapped }
    });
    let others = coded().filter(|platform| platform.name != PLATFORM).flat_map(|platform| {
        golden_files(platform).into_iter().map(|(name, sample)| {
            let (entity, mapped) = golden(platform, &sample);
            Golden { platform: platform.name, name, sample, entity, mapped }
        })
    });
    recorded.into_iter().chain(others).collect()
}

/// Each platform's entities, from a delivery or from the answers of its API, map to their snapshots.
#[test]
fn golden_entities_of_every_platform() {
    for platform in coded().filter(|platform| platform.name != PLATFORM) {
        let files = golden_files(platform);
        assert!(files.len() >= 4, "{}", platform.name);
        for (name, data) in files {
            let (_, mapped) = golden(platform, &data);
            let text = format!("{mapped:?}");
            assert!(!text.contains("never-kept"), "{name}");
            insta::assert_json_snapshot!(format!("{}-{name}", platform.name), shown(&mapped));
        }
    }
}

fn delivered(platform: &Platform, data: &Value, received: Timestamp) -> (EntityKind, Mapped) {
    let scope = data["scope"].as_str().unwrap();
    let body = data["body"].as_str().map_or_else(|| data["body"].to_string(), str::to_owned);
    let Resolved::Entity(entity, action) = resolve(platform, scope) else { panic!("{scope}") };
    let connection = &WebhookPath::parse(platform.name, "golden", None).unwrap().key;
    let (body, delivery_id) = (body.as_bytes(), Some("message-1"));
    let incoming = Incoming { connection, scope, delivery_id, entity, action, body, received };
    (entity, platform.mapping.map(&incoming).unwrap())
}

fn pulled(platform: &Platform, data: &Value, scripted: &[Value], at: Timestamp) -> Mapped {
    let site = match platform.hosts {
        Hosts::Only(hosts) => format!("https://{}/golden", hosts[0]),
        Hosts::Below(domains) => format!("https://golden{}", domains[0]),
        Hosts::Site => "https://shop.example.com".into(),
    };
    let credentials = json!({ "access_token": "t", "api_key": "k" }).to_string();
    let settings = Map::new();
    let access = Access { site: &site, credentials: &credentials, settings: &settings };
    let entity = serde_json::from_value(data["entity"].clone()).unwrap();
    let id = data["id"].as_str().unwrap().parse().unwrap();
    let wanted = Wanted { access, entity, id: &id, at };
    let mut answers = Vec::new();
    loop {
        match platform.pull.unwrap().pull(&wanted, &answers).unwrap() {
            Next::Done(mapped) => {
                assert_eq!(answers.len(), scripted.len(), "it asked for less than there is");
                return mapped;
            }
            Next::Ask(request) => {
                assert_eq!(platform.hosts.check(&site, &request, Loopback::Refused), Ok(()));
                let answer = &scripted[answers.len()];
                let status = answer["status"].as_u64().unwrap().try_into().unwrap();
                answers.push(json_answer(status, &answer["body"]));
            }
        }
    }
}

/// Shows the result of a mapping, without the mapping's number.
pub fn shown(mapped: &Mapped) -> Value {
    match mapped {
        Mapped::Change(id, Change::Upsert(upsert)) => json!({
            "id": id,
            "source": upsert.source.map(|at| at.to_string()),
            "observed": upsert.observed,
            "content": if upsert.facets.is_empty() { json!(upsert.content) } else { Value::Null },
            "facets": upsert.facets,
        }),
        Mapped::Change(id, change) => json!({ "id": id, "change": format!("{change:?}") }),
        Mapped::IfKnown(id, change, rule) => {
            json!({ "if_known": shown(&Mapped::Change(id.clone(), change.clone())), "else": rule.0 })
        }
        other => json!(format!("{other:?}")),
    }
}
