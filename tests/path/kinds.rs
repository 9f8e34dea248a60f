//! Input that real systems send and no documentation shows, for every platform: a byte order mark, one odd member,
//! invalid numbers, deep nesting, a redirect, a refused list. The golden entities of a platform are enough as input.

use bytes::Bytes;
use commerce::{
    change::{Change, State},
    connection::DeletePolicy,
    entity::{Content, EntityKey, EntityKind},
    http_call::{ApiResponse, Fault, Hosts},
    item::{Item, Projection, Writer},
    origin::Origin,
    platform::{
        Platform,
        mapping::{Incoming, Mapped, Resolved, resolve},
        pull::{Access, Next, Wanted},
    },
    request::WebhookPath,
    timestamp::Timestamp,
    transfer::Action,
};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value, json};
use tests::world::coded;

const AT: Timestamp = Timestamp::from_millis(1_795_000_000_000);

/// An entity as a platform sends it: in one delivery, or in the answers to a pull.
#[derive(Clone)]
struct Specimen {
    name: String,
    delivered: Option<(String, EntityKind, Action)>,
    entity: EntityKind,
    id: String,
    /// The status and the body of each answer.
    bodies: Vec<(u16, Value)>,
    /// The URLs that the answers belong to, in the order of calls if nothing is odd.
    urls: Vec<url::Url>,
}

fn specimens(platform: &Platform) -> Vec<Specimen> {
    let folder = format!("{}/path/data/{}", env!("CARGO_MANIFEST_DIR"), platform.name);
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let Some(data) = std::fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok())
        else {
            continue;
        };
        if let Some(answers) = data["answers"].as_array() {
            let status = |answer: &Value| u16::try_from(answer["status"].as_u64().unwrap_or(200)).unwrap();
            found.push(Specimen {
                name,
                delivered: None,
                entity: serde_json::from_value(data["entity"].clone()).unwrap(),
                id: data["id"].as_str().unwrap().to_owned(),
                bodies: answers.iter().map(|answer| (status(answer), answer["body"].clone())).collect(),
                urls: Vec::new(),
            });
        } else if let (Some(scope), true) = (data["scope"].as_str(), data["body"].is_object()) {
            let Resolved::Entity(entity, action) = resolve(platform, scope) else { continue };
            let delivered = Some((scope.to_owned(), entity, action));
            found.push(Specimen {
                name,
                delivered,
                entity,
                id: String::new(),
                bodies: vec![(200, data["body"].clone())],
                urls: Vec::new(),
            });
        } else if let Some(id) = data["id"].as_u64() {
            // The body of an entity is the same in a delivery and in an answer.
            let entity = match name.rsplit('-').next().unwrap() {
                "variation" => EntityKind::Product,
                kind => serde_json::from_value(kind.into()).unwrap(),
            };
            let scope = format!("{}.updated", if name == "variation" { "product" } else { entity.as_str() });
            let pulled = Specimen {
                name,
                delivered: None,
                entity,
                id: id.to_string(),
                bodies: vec![(200, data.clone())],
                urls: Vec::new(),
            };
            found.push(Specimen { delivered: Some((scope, entity, Action::Updated)), ..pulled.clone() });
            found.push(pulled);
        }
    }
    assert!(!found.is_empty(), "{}", platform.name);
    // Some golden files exist because something is wrong with them.
    found.retain_mut(|specimen| {
        (specimen.delivered.is_some() || record(platform, specimen)) && read(platform, specimen, text).is_ok()
    });
    assert!(found.len() >= 4, "{}", platform.name);
    found
}

/// Records the URLs of a pull. Returns whether there is an answer to each.
fn record(platform: &Platform, specimen: &mut Specimen) -> bool {
    let (site, credentials, settings) = (site(platform), credentials(), Map::new());
    let access = Access { site: &site, credentials: &credentials, settings: &settings };
    let id = specimen.id.parse().unwrap();
    let wanted = Wanted { access, entity: specimen.entity, id: &id, at: AT };
    let mut answers = Vec::new();
    while let Ok(Next::Ask(request)) = platform.pull.unwrap().pull(&wanted, &answers) {
        let Some((status, body)) = specimen.bodies.get(answers.len()) else { return false };
        answers.push(answer(*status, text(0, body)));
        specimen.urls.push(request.url);
    }
    true
}

fn site(platform: &Platform) -> String {
    match platform.hosts {
        Hosts::Only(hosts) => format!("https://{}/golden", hosts[0]),
        Hosts::Below(domains) => format!("https://golden{}", domains[0]),
        Hosts::Site => "https://shop.example.com".into(),
    }
}

fn credentials() -> String {
    json!({ "access_token": "t", "api_key": "k", "consumer_key": "ck_1", "consumer_secret": "cs_1" }).to_string()
}

fn answer(status: u16, body: String) -> ApiResponse {
    ApiResponse { status, headers: HeaderMap::new(), body: Bytes::from(body) }
}

/// Maps the bodies as `text` writes them, or returns the reason why they cannot be mapped.
fn read(platform: &Platform, specimen: &Specimen, text: impl Fn(usize, &Value) -> String) -> Result<Mapped, String> {
    if let Some((scope, entity, action)) = &specimen.delivered {
        let connection = &WebhookPath::parse(platform.name, "golden", None).unwrap().key;
        let body = text(0, &specimen.bodies[0].1);
        let incoming = Incoming {
            connection,
            scope,
            delivery_id: Some("message-1"),
            entity: *entity,
            action: *action,
            body: body.as_bytes(),
            received: AT,
        };
        return platform.mapping.map(&incoming).map_err(|error| error.to_string());
    }
    asked(platform, specimen, |n| {
        let (status, body) = &specimen.bodies[n];
        answer(*status, text(n, body))
    })
    .map_err(|fault| match fault {
        Fault::Unreadable(_) => fault.to_string(),
        other => panic!("{} {}: {other:?}", platform.name, specimen.name),
    })
}

fn asked(platform: &Platform, specimen: &Specimen, answer: impl Fn(usize) -> ApiResponse) -> Result<Mapped, Fault> {
    let (site, credentials, settings) = (site(platform), credentials(), Map::new());
    let access = Access { site: &site, credentials: &credentials, settings: &settings };
    let id = specimen.id.parse().unwrap();
    let wanted = Wanted { access, entity: specimen.entity, id: &id, at: AT };
    let mut answers = Vec::new();
    loop {
        match platform.pull.unwrap().pull(&wanted, &answers)? {
            Next::Done(mapped) => return Ok(mapped),
            Next::Ask(request) => match specimen.urls.iter().position(|url| *url == request.url) {
                Some(n) => answers.push(answer(n)),
                None => return Err(Fault::Unreadable("it asks for more".into())),
            },
        }
    }
}

fn content(mapped: &Mapped) -> Option<&Content> {
    match mapped {
        Mapped::Change(_, Change::Upsert(upsert)) | Mapped::IfKnown(_, Change::Upsert(upsert), _) => {
            Some(&upsert.content)
        }
        _ => None,
    }
}

/// Returns the JSON pointer to the entity in a body: the whole body, or the content of an envelope.
fn root(body: &Value) -> &'static str {
    match body {
        Value::Object(members) if members.contains_key("data") && members.contains_key("meta") => match &body["data"] {
            Value::Array(_) => "/data/0",
            _ => "/data",
        },
        Value::Array(_) => "/0",
        _ => "",
    }
}

/// Replaces each member of the entity in the first body, one at a time. Returns its name and the changed specimen.
fn replaced(specimen: &Specimen, by: impl Fn(&Value) -> Option<Value>) -> Vec<(String, Specimen)> {
    let root = root(&specimen.bodies[0].1);
    let Some(Value::Object(members)) = specimen.bodies[0].1.pointer(root) else { return Vec::new() };
    let with = |(name, value): (&String, &Value)| {
        let mut changed = specimen.clone();
        let Some(Value::Object(members)) = changed.bodies[0].1.pointer_mut(root) else { return None };
        members.insert(name.clone(), by(value)?);
        Some((name.clone(), changed))
    };
    members.iter().filter_map(with).collect()
}

fn text(_: usize, body: &Value) -> String {
    if body.is_null() { String::new() } else { body.to_string() }
}

/// Collects the paths of all values.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| leaves(member, &format!("{at}/{name}"), found));
        }
        Value::Array(elements) => {
            elements.iter().enumerate().for_each(|(n, element)| leaves(element, &format!("{at}/{n}"), found));
        }
        _ => found.push(at.to_owned()),
    }
}

fn fields(content: &Content) -> Vec<String> {
    let mut found = Vec::new();
    leaves(&Value::Object(content.fields.clone()), "", &mut found);
    found
}

#[test]
fn a_byte_order_mark_changes_nothing() {
    for platform in coded() {
        for specimen in specimens(platform) {
            let marked = |n: usize, body: &Value| match text(n, body) {
                text if text.is_empty() => text,
                text => format!("\u{feff}{text}"),
            };
            let name = format!("{} {}", platform.name, specimen.name);
            assert_eq!(read(platform, &specimen, marked), read(platform, &specimen, text), "{name}");
        }
    }
}

#[test]
fn one_odd_member_is_dropped_by_its_name_or_tells_its_place() {
    for platform in coded() {
        let (mut dropped, mut told) = (0, 0);
        for specimen in specimens(platform) {
            let good = read(platform, &specimen, text).unwrap();
            let Some(before) = content(&good) else { continue };
            let odd = |value: &Value| match value {
                Value::Object(_) | Value::Array(_) => Some(json!(7)),
                _ => Some(json!({ "odd": [1] })),
            };
            for (member, changed) in replaced(&specimen, odd) {
                let name = format!("{} {}: {member}", platform.name, specimen.name);
                match read(platform, &changed, text) {
                    Ok(mapped) => {
                        let Some(after) = content(&mapped) else { continue };
                        let there = fields(after);
                        let lost: Vec<_> = fields(before).into_iter().filter(|leaf| !there.contains(leaf)).collect();
                        assert!(lost.is_empty() || !after.unreadable.is_empty(), "{name}: {lost:?}");
                        dropped += after.unreadable.len();
                    }
                    Err(why) => {
                        told += 1;
                        let known = [member.as_str(), "another id", "asks for more"];
                        assert!(known.iter().any(|place| why.contains(place)), "{name}: {why}");
                        assert!(!why.contains("no JSON"), "{name}: {why}");
                    }
                }
            }
        }
        assert!(dropped > 0 && told > 0, "{}: {dropped} {told}", platform.name);
    }
}

#[test]
fn a_number_that_is_none_never_passes_in_silence() {
    const BAD: &str = "1..23";
    let mut seen = 0;
    for platform in coded() {
        for specimen in specimens(platform) {
            let good = read(platform, &specimen, text).unwrap();
            let is_number = |value: &Value| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                text.parse::<f64>().is_ok().then(|| json!(BAD))
            };
            for ((member, changed), (_, without)) in replaced(&specimen, is_number)
                .into_iter()
                .zip(replaced(&specimen, |value| is_number(value).map(|_| Value::Null)))
            {
                // A member that is never kept is no loss.
                if read(platform, &without, text).as_ref() == Ok(&good) {
                    continue;
                }
                let name = format!("{} {}: {member}", platform.name, specimen.name);
                match read(platform, &changed, text) {
                    Ok(mapped) => {
                        let kept = content(&mapped).map(|content| serde_json::to_string(content).unwrap());
                        let ours = kept.is_none_or(|kept| kept.contains(BAD) || kept.contains("\"unreadable\""));
                        assert!(ours, "{name} is lost");
                    }
                    Err(why) => assert!(why.contains(&member) || why.contains("another id"), "{name}: {why}"),
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn what_is_nested_deeply_can_be_written_and_read_again() {
    for platform in coded() {
        for specimen in specimens(platform) {
            for depth in [60, 100, 124, 126, 127, 200, 2_000] {
                let deep = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
                let root = root(&specimen.bodies[0].1);
                let with = |n: usize, body: &Value| {
                    let mut body = body.clone();
                    if let (0, Some(Value::Object(members))) = (n, body.pointer_mut(root)) {
                        members.insert("zz_deep".into(), "@".into());
                    }
                    text(n, &body).replace("\"@\"", &deep)
                };
                let name = format!("{} {} {depth}", platform.name, specimen.name);
                let mapped = read(platform, &specimen, with).unwrap_or_else(|why| panic!("{name}: {why}"));
                let (Mapped::Change(id, change) | Mapped::IfKnown(id, change, _)) = mapped else { continue };
                let connection = WebhookPath::parse(platform.name, "golden", None).unwrap().key;
                let key = EntityKey { connection, kind: specimen.entity, id };
                let none = Map::new();
                let projection = Projection::new(DeletePolicy::Mark, &none);
                let item = projection
                    .item(
                        &key,
                        &State::of(&change),
                        None,
                        Writer { by: "m", origin: Origin::Webhook, trace: None, received: None, now: AT },
                    )
                    .unwrap();
                let attributes: std::collections::HashMap<_, _> =
                    serde_dynamo::aws_sdk_dynamodb_1::to_item(&item).unwrap();
                let read: Item = serde_dynamo::aws_sdk_dynamodb_1::from_item(attributes)
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(read, item, "{name}");
            }
        }
    }
}

#[test]
fn a_redirect_is_not_followed_and_its_target_is_told() {
    for platform in coded() {
        for specimen in specimens(platform).into_iter().filter(|specimen| specimen.delivered.is_none()) {
            let moved = |_| {
                let mut moved = answer(301, String::new());
                let location = HeaderValue::from_static("https://www.moved.example/somewhere?secret=1");
                moved.headers.insert(header::LOCATION, location);
                moved
            };
            let name = format!("{} {}", platform.name, specimen.name);
            match asked(platform, &specimen, moved) {
                Err(Fault::Connection(why)) => {
                    assert!(why.contains("www.moved.example") && !why.contains("secret"), "{name}: {why}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_refused_list_is_a_fault_of_the_connection_and_what_is_no_list_is_unreadable() {
    for platform in coded() {
        let (site, credentials, settings) = (site(platform), credentials(), Map::new());
        let access = Access { site: &site, credentials: &credentials, settings: &settings };
        for processor in platform.mapping.processors() {
            let Some(lists) = platform.lists else { continue };
            let Some(listing) = lists.poll(processor.entity, None) else { continue };
            let name = format!("{} {}", platform.name, processor.entity);
            let listed = |status, body: &str| lists.read_page(&access, &listing, &answer(status, body.to_owned()), AT);
            for status in [401, 403] {
                let refused = listed(status, "<html>Forbidden</html>");
                assert!(matches!(refused, Err(Fault::Connection(_))), "{name}: {refused:?}");
            }
            for body in ["<html>", "{}", "5", "\"x\"", "[[1]]", "[{\"id\":true}]", "{\"data\":7}"] {
                let unreadable = listed(200, body);
                // An answer that does not come from the API may be reported as such.
                let told = matches!(unreadable, Err(Fault::Unreadable(_) | Fault::Connection(_)));
                assert!(told, "{name}: {body}: {unreadable:?}");
            }
        }
    }
}
