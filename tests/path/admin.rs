//! The admin interface, driven from the description that it serves: who gets in, the answers of each route, and that
//! only `reveal` reveals a secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cloud::coordination::{Coordination, Note};
use commerce::{
    activity::{Activity, SEEN},
    connection::{Connection, ConnectionStatus},
    drift::{DRIFT, Drift},
    http_call::Loopback,
    job::{Job, Trigger},
    key::Generation,
    keys::KeyRing,
    platform::{find, mapping::declared_scopes},
    platforms::PLATFORMS,
    request::WebhookPath,
};
use registrar::{ADMIN_TOKEN, PERMISSIONS};
use serde_json::{Value, json};
use tests::{
    platforms::{Simulator, simulators},
    world::{ADMIN_KEY, BASE, CONNECTION, Outside, PLATFORM, World, key},
};
use tools::events::{SAMPLE_KEY, sample_ring};

const SITE: &str = "https://shop.example.com";
const BY_HAND: &str = "hand.example.com";

/// One operation of the description.
struct Operation {
    id: String,
    method: String,
    path: String,
    scope: String,
    described: Value,
}

impl Operation {
    fn path_of(&self, platform: &str, connection: &str) -> String {
        self.path.replace("{platform}", platform).replace("{connection}", connection)
    }

    fn success(&self) -> u16 {
        let responses = self.described["responses"].as_object().unwrap();
        responses.keys().find(|status| status.starts_with('2')).unwrap().parse().unwrap()
    }
}

async fn document(world: &World) -> Value {
    let (status, document) = ask(world, "GET", "/admin/openapi.json", "", "").await;
    assert_eq!(status, 200);
    document
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, described) in methods.as_object().unwrap() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            operations.push(Operation {
                id: text(&described["operationId"]),
                method: method.to_ascii_uppercase(),
                path: path.clone(),
                scope: text(&described["security"][0]["token"][0]),
                described: described.clone(),
            });
        }
    }
    assert!(operations.len() > 20);
    operations
}

async fn ask(world: &World, method: &str, path: &str, query: &str, body: &str) -> (u16, Value) {
    let response = world.ask(Some(&world.bearer(&PERMISSIONS.join(" "))), method, path, query, body).await;
    assert_eq!(response.headers()["cache-control"], "no-store", "{method} {path}");
    (response.status().as_u16(), serde_json::from_slice(response.body().as_ref()).unwrap())
}

fn of(action: &str) -> String {
    format!("/admin/connections/{PLATFORM}/{CONNECTION}{action}")
}

fn settings() -> Value {
    json!({ "site": SITE, "consumer_key": "ck_1", "consumer_secret": "cs_1" })
}

/// Makes a world with a connected store, and one whose webhooks are entered by hand.
async fn connected() -> World {
    let world = World::new();
    assert_eq!(ask(&world, "PUT", &of(""), "", &settings().to_string()).await.0, 200);
    let site = json!({ "site": format!("https://{BY_HAND}") }).to_string();
    assert_eq!(world.admin("PUT", BY_HAND, "", &site).await.0, 200);
    world.run_jobs().await;
    world.store().calls();
    world
}

/// Checks a value against a schema of the description. An error names the place.
fn check(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    // The schema's references lead into the description.
    let mut whole = document.clone();
    whole["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    whole["allOf"] = json!([schema]);
    let validator = jsonschema::options().should_validate_formats(true).build(&whole).unwrap();
    let errors: Vec<_> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

/// Asserts that an operation declares such an answer.
fn assert_declared(document: &Value, operation: &Operation, status: u16, body: &Value) {
    let mut response = &operation.described["responses"][status.to_string()];
    assert!(response.is_object(), "{}: {status} is not declared: {body}", operation.id);
    if let Some(reference) = response["$ref"].as_str() {
        response = document.pointer(reference.strip_prefix('#').unwrap()).unwrap();
    }
    let (_, content) = response["content"].as_object().unwrap().iter().next().unwrap();
    check(document, &content["schema"], body).unwrap_or_else(|error| panic!("{}: {error}", operation.id));
}

#[tokio::test]
async fn no_route_is_open() {
    let world = connected().await;
    let record = world.tables.connection(&key());
    let ring = KeyRing::parse(ADMIN_KEY).unwrap();
    let other = KeyRing::parse("another-key-of-at-least-32-bytes!").unwrap();
    let (now, all) = (world.clock.now(), PERMISSIONS.join(" "));
    let mint = |ring, at, scopes: &str| format!("Bearer {}", ADMIN_TOKEN.mint(ring, at, 900, scopes, None).unwrap());
    let good = mint(&ring, now, &all);
    let document = document(&world).await;
    for operation in operations(&document) {
        let Operation { id, method, scope, .. } = &operation;
        let path = operation.path_of(PLATFORM, CONNECTION);
        let nobody = [
            None,
            Some(mint(&ring, now.plus_seconds(-3600), &all)),
            Some(mint(&ring, now.plus_seconds(600), &all)),
            Some(mint(&other, now, &all)),
            Some(format!("{good}x")),
            Some(good.trim_start_matches("Bearer ").to_owned()),
        ];
        for authorization in nobody {
            let response = world.ask(authorization.as_deref(), method, &path, "", "{}").await;
            assert_eq!(response.status(), 401, "{id}: {authorization:?}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            let problem = serde_json::from_slice(response.body().as_ref()).unwrap();
            assert_declared(&document, &operation, 401, &problem);
        }
        let others: Vec<_> = PERMISSIONS.into_iter().filter(|other| other != scope).collect();
        for too_little in ["", &others.join(" "), &format!("{scope}s"), &scope.to_uppercase()] {
            let response = world.ask(Some(&mint(&ring, now, too_little)), method, &path, "", "{}").await;
            assert_eq!(response.status(), 403, "{id}: {too_little}");
            let named = format!(r#"Bearer error="insufficient_scope", scope="{scope}""#);
            assert_eq!(response.headers()["www-authenticate"], named.as_str());
            let problem: Value = serde_json::from_slice(response.body().as_ref()).unwrap();
            assert_eq!(problem["type"], "urn:commerce-hooks:problem:forbidden");
            assert!(problem["detail"].as_str().unwrap().ends_with(scope), "{problem}");
            assert_declared(&document, &operation, 403, &problem);
        }
        // A token with this permission alone is let in.
        if operation.method == "GET" {
            let response = world.ask(Some(&mint(&ring, now, scope)), method, &path, "", "").await;
            assert!(!matches!(response.status().as_u16(), 401 | 403), "{id}");
        }
    }
    assert_eq!(world.tables.connection(&key()), record, "nothing was done");
    assert!(world.queues.jobs().is_empty());
    assert!(world.store().calls().iter().all(|call| call.starts_with("GET")), "nor at the store");
}

#[tokio::test]
async fn the_description_holds_together() {
    fn walk(document: &Value, value: &Value, used: &mut BTreeSet<String>) {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let found = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
            assert!(found.is_some(), "{reference} leads nowhere");
            used.insert(reference.to_owned());
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(document, item, used)),
            Value::Object(members) => members.values().for_each(|member| walk(document, member, used)),
            _ => {}
        }
    }
    let world = World::new();
    let document = document(&world).await;
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let mut used = BTreeSet::new();
    walk(&document, &document, &mut used);
    for kind in ["schemas", "responses"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(used.contains(&format!("#/components/{kind}/{name}")), "nothing uses {name}");
        }
    }
    let mut ids = BTreeSet::new();
    for Operation { id, method, path, scope, described } in operations(&document) {
        assert!(ids.insert(id.clone()), "{id} is there twice");
        assert!(["GET", "PUT", "POST", "DELETE"].contains(&method.as_str()));
        assert!(
            document["components"]["securitySchemes"]["token"].is_object() && PERMISSIONS.contains(&scope.as_str())
        );
        let in_path: BTreeSet<_> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let parameters = described["parameters"].as_array().unwrap();
        let declared: BTreeSet<_> = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "path" && parameter["required"] == true)
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(in_path, declared, "{id}");
        assert!(parameters.iter().all(|parameter| parameter["schema"].is_object()), "{id}");
        assert!(
            described["responses"].as_object().unwrap().values().all(|one| {
                one["$ref"].is_string() || (one["description"].is_string() && one["content"].is_object())
            })
        );
        assert!(described["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{id}");
    }
    assert!(
        document == registrar::openapi::document(PLATFORMS),
        "openapi.json is the description of these types: `make pages`"
    );
}

/// Returns the body for each operation that takes one.
fn body_of(id: &str) -> String {
    match id {
        "connect" => settings(),
        "revoke" => json!({ "generation": 1 }),
        "poll" => json!({ "since": "2026-11-20T00:00:00Z" }),
        "import" => json!({ "entity": "order" }),
        "redact" => json!({ "customer": 7, "email": "ada@mail.example" }),
        "setSettings" => {
            json!({ "ignores": ["order.deleted"], "polls": { "order": 600 }, "retention": { "erase-after-days": 7 } })
        }
        "setPresets" => {
            json!({ "presets": [{ "scope": "action.x", "at": "/arg", "prefix": "o-", "entity": "order" }] })
        }
        "tryDeclaration" => json!({
            "declaration": { "sender": "A", "proof": { "header": { "name": "x-token" } }, "extract": {} },
            "keys": ["a secret"],
            "request": { "headers": { "x-token": "a secret" }, "body": "{}" },
        }),
        _ => return String::new(),
    }
    .to_string()
}

#[tokio::test]
async fn every_route_answers_as_described_and_twice_the_same() {
    let world = connected().await;
    let document = document(&world).await;
    let mut operations = operations(&document);
    // Operations that end others come last.
    let place =
        |id: &str| ["showVerification", "pause", "resume", "revoke", "disconnect"].iter().position(|last| *last == id);
    operations.sort_by_key(|operation| place(&operation.id));
    // Those of endpoints make another one each time.
    for operation in operations.into_iter().filter(|operation| !operation.path.starts_with("/admin/endpoints")) {
        let Operation { id, method, .. } = &operation;
        let connection = if id == "reveal" { BY_HAND } else { CONNECTION };
        let path = operation.path_of(PLATFORM, connection);
        let (status, first) = ask(&world, method, &path, "", &body_of(id)).await;
        assert_declared(&document, &operation, status, &first);
        if operation.path == "/admin/rotation" {
            continue;
        }
        assert_eq!(status, operation.success(), "{id}: {first}");
        let record = world.tables.connection(&key());
        let (status, second) = ask(&world, method, &path, "", &body_of(id)).await;
        assert_declared(&document, &operation, status, &second);
        assert_eq!((status, second), (operation.success(), first), "{id}");
        assert_eq!(world.tables.connection(&key()), record, "{id}");
        world.run_jobs().await;
    }
    assert!(world.store().webhooks().is_empty());
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let world = connected().await;
    let token = world.bearer(&PERMISSIONS.join(" "));
    for path in ["/admin", "/admin/", "/admin/connections/", "/admin/rotation/x", "/", "", "/hooks/woocommerce/x"] {
        let (status, problem) = ask(&world, "GET", path, "", "").await;
        assert_eq!((status, &problem["type"]), (404, &json!("urn:commerce-hooks:problem:not-found")), "{path}");
    }
    for (path, allowed) in
        [(of(""), "GET, PUT, DELETE"), (of("/settings"), "GET, PUT"), (of("/pause"), "POST"), (of("/plan"), "GET")]
    {
        let response = world.ask(Some(&token), "PATCH", &path, "", "").await;
        assert_eq!((response.status().as_u16(), &response.headers()["allow"]), (405, &allowed.parse().unwrap()));
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
    for (path, detail) in [
        ("/admin/connections/nobody/x", "there is no platform"),
        ("/admin/connections/woocommerce/a%20b", "a connection id is"),
        ("/admin/connections/woocommerce/none/plan", "woocommerce#none is not connected"),
    ] {
        let (status, problem) = ask(&world, "GET", path, "", "").await;
        assert!(status == 404 && problem["detail"].as_str().unwrap().starts_with(detail), "{problem}");
    }
    // Each spelling names the same connection.
    let (status, shown) = ask(&world, "GET", "/admin/connections/woocommerce/Shop%2Eexample.com", "", "").await;
    assert_eq!((status, &shown["connection"]), (200, &json!(CONNECTION)));
    // Without a token, nobody learns which paths exist.
    for path in ["/admin/nothing", "/admin/rotation"] {
        assert_eq!(world.ask(None, "PATCH", path, "", "").await.status(), 401);
    }
}

#[tokio::test]
async fn the_list_gives_each_connection_once() {
    let world = World::new();
    let connect = |platform: &str, number: usize| {
        let key = WebhookPath::parse(platform, &format!("shop{number}"), None).unwrap().key;
        world.tables.connect(&key, Connection::new(SITE));
    };
    (0..250).for_each(|number| connect(PLATFORM, number));
    (0..60).for_each(|number| connect("bigcommerce", number));
    let walk = async |query: &str, limit: usize| {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let (status, page) =
                ask(&world, "GET", "/admin/connections", &format!("{query}&limit={limit}{cursor}"), "").await;
            assert_eq!(status, 200, "{page}");
            let connections = page["connections"].as_array().unwrap();
            assert!(connections.len() <= limit);
            found.extend(connections.iter().map(|one| format!("{}#{}", one["platform"], one["connection"])));
            let Some(next) = page["next"].as_str() else { return found };
            cursor = format!("&cursor={next}");
        }
    };
    for (query, limit, count) in [("platform=woocommerce", 7, 250), ("platform=bigcommerce", 100, 60), ("", 7, 310)] {
        let found = walk(query, limit).await;
        let once: BTreeSet<_> = found.iter().collect();
        assert_eq!((found.len(), once.len()), (count, count), "{query}");
        let fits = |name: &&String| query.split_once('=').is_none_or(|(_, of)| name.starts_with(&format!("\"{of}\"")));
        assert!(once.iter().all(fits));
    }
    let (_, page) = ask(&world, "GET", "/admin/connections", "platform=woocommerce&limit=7", "").await;
    assert_eq!(page["connections"].as_array().unwrap().len(), 7);
    let next = page["next"].as_str().unwrap();
    for bad in [
        format!("platform=bigcommerce&cursor={next}"),
        format!("cursor={next}A"),
        "cursor=".into(),
        "cursor=%00".into(),
        "limit=0".into(),
        "limit=101".into(),
        "limit=-1".into(),
        "limit=seven".into(),
        "platform=nobody".into(),
    ] {
        let (status, problem) = ask(&world, "GET", "/admin/connections", &bad, "").await;
        assert_eq!((status, &problem["type"]), (422, &json!("urn:commerce-hooks:problem:invalid-request")), "{bad}");
    }
}

/// Collects each string in a value.
fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(members) => members.values().for_each(|member| strings(member, found)),
        _ => {}
    }
}

/// Returns bodies that hold secrets of a store, in the right places and in wrong ones.
fn bodies_with_secrets(settings: &Value) -> Vec<(&'static str, Value)> {
    let mut wrong = settings.clone();
    wrong["site"] = json!(7);
    let mut without_site = settings.clone();
    without_site.as_object_mut().unwrap().remove("site");
    let elsewhere = ["setSettings", "setPresets", "revoke", "poll", "import", "reveal"];
    let whole = [settings.clone(), wrong, Value::String(settings.to_string())].map(|body| ("connect", body));
    let elsewhere = elsewhere.map(|id| (id, settings.clone()));
    whole.into_iter().chain([("setSettings", without_site)]).chain(elsewhere).collect()
}

#[tokio::test]
async fn no_answer_holds_a_secret_but_what_is_revealed() {
    let mut world = World::new();
    world.loopback = Loopback::Allowed;
    let simulators: Vec<_> = simulators(world.clock.function())
        .into_iter()
        .zip(20_000..)
        .map(|(simulator, port): (_, u16)| (format!("http://127.0.0.1:{port}"), simulator))
        .collect();
    world.outside = Outside::Simulated(simulators.iter().map(|(site, one)| (site.clone(), Arc::clone(one))).collect());
    let document = document(&world).await;
    let mut revealed = BTreeMap::new();
    for (site, simulator) in &simulators {
        let (name, connection) = (simulator.platform(), simulator.connection());
        let platform = find(PLATFORMS, name).unwrap();
        let settings = simulator.settings(site);
        let secret_members = ["consumer_key", "consumer_secret", "access_token", "api_key", "accept"];
        let mut secrets = vec![SAMPLE_KEY.to_owned(), ADMIN_KEY.to_owned()];
        for name in secret_members {
            strings(&settings[name], &mut secrets);
        }
        assert!(secrets.len() > 2 || platform.pull.is_none(), "{name}");
        let path = |generation: Option<&str>| WebhookPath::parse(name, &connection, generation).unwrap();
        for generation in [None, Some("2")] {
            let scopes = declared_scopes(platform).map(Some).chain([None]);
            let secret = |scope| sample_ring().signing().webhook_secret(&path(generation), scope).reveal().to_owned();
            secrets.extend(scopes.map(secret));
        }
        let holds = |text: &str| secrets.iter().find(|secret| text.contains(secret.as_str())).cloned();
        let mut bodies = bodies_with_secrets(&settings);
        // A rotation makes another key, which is looked for below.
        let last = ["disconnect", "reveal", "rotate"];
        let others = operations(&document).into_iter().filter(|one| !last.contains(&one.id.as_str()));
        bodies.extend(others.map(|operation| {
            let id: &'static str = operation.id.leak();
            (id, serde_json::from_str(&body_of(id)).unwrap_or_else(|_| json!({})))
        }));
        bodies.push(("disconnect", json!({})));
        let by_id: BTreeMap<_, _> = operations(&document).into_iter().map(|one| (one.id.clone(), one)).collect();
        for (id, body) in bodies {
            // The quota is counted per half minute.
            world.clock.pass_seconds(31);
            let operation = &by_id[id];
            let at = operation.path_of(name, &connection);
            let (_, answer) = ask(&world, &operation.method, &at, "", &body.to_string()).await;
            assert_eq!(holds(&answer.to_string()), None, "{name}: {id}");
            world.run_jobs().await;
            if id == "pause" {
                let at = format!("/admin/connections/{name}/{connection}/reveal");
                let (status, answer) = ask(&world, "POST", &at, "", "").await;
                assert_eq!(holds(&answer.to_string()).is_some(), status == 200, "{answer}");
                revealed.insert(name, status);
            }
        }
    }
    for (method, path) in [("POST", "/admin/rotation"), ("GET", "/admin/rotation")] {
        let (status, answer) = ask(&world, method, path, "", "").await;
        let ring: Value = serde_json::from_str(&world.signing.value().unwrap()).unwrap();
        let keys = ring["keys"].as_array().unwrap();
        assert_eq!((status, keys.len()), (200, 2), "{answer}");
        assert!(keys.iter().all(|key| !answer.to_string().contains(key["secret"].as_str().unwrap())));
    }
    // The registrar manages the webhooks of all platforms but one.
    let managed = |name: &str| find(PLATFORMS, name).unwrap().setup.webhooks().is_some();
    assert_eq!(revealed.len(), simulators.len());
    assert!(revealed.iter().all(|(name, status)| *status == if managed(name) { 409 } else { 200 }), "{revealed:?}");
}

#[tokio::test]
async fn what_has_to_be_entered_by_hand_is_revealed_and_nothing_else() {
    let world = connected().await;
    let by_hand = format!("/admin/connections/{PLATFORM}/{BY_HAND}/reveal");
    let (_, revealed) = ask(&world, "POST", &by_hand, "", "").await;
    assert_eq!(revealed["delivery_url"], format!("{BASE}/hooks/{PLATFORM}/{BY_HAND}"));
    let path = WebhookPath::parse(PLATFORM, BY_HAND, None).unwrap();
    let secret = |scope: &str| sample_ring().signing().webhook_secret(&path, Some(scope)).reveal().to_owned();
    let scopes = declared_scopes(find(PLATFORMS, PLATFORM).unwrap());
    let wanted: Value = scopes.map(|scope| json!({ "scope": scope, "secret": secret(scope) })).collect();
    assert_eq!(revealed["secrets"], wanted);
    let (_, one) = ask(&world, "POST", &by_hand, "", r#"{"scope":"order.deleted"}"#).await;
    assert_eq!(one["secrets"], json!([{ "scope": "order.deleted", "secret": secret("order.deleted") }]));
    for bad in [r#"{"scope":"nothing"}"#, r#"{"scope":null}"#, r#"{"scopes":[]}"#, "[]", "x"] {
        assert_eq!(ask(&world, "POST", &by_hand, "", bad).await.0, 422, "{bad}");
    }
    let (status, problem) = ask(&world, "POST", &of("/reveal"), "", "").await;
    assert_eq!((status, &problem["type"]), (409, &json!("urn:commerce-hooks:problem:conflict")));
    world.admin("DELETE", BY_HAND, "", "").await;
    assert_eq!(ask(&world, "POST", &by_hand, "", "").await.0, 409, "of a connection that is none any more");
}

#[tokio::test]
async fn settings_are_set_without_the_credentials_and_keep_them() {
    let world = connected().await;
    let before = world.connection();
    let sent = json!({
        "deletes": { "order": "remove" }, "ignores": ["customer.updated"], "polls": { "order": 0 }, "retention": "keep",
        "presets": [{ "scope": "action.x", "at": "/arg", "prefix": "", "entity": "order" }],
    });
    let (status, set) = ask(&world, "PUT", &of("/settings"), "", &sent.to_string()).await;
    assert_eq!((status, &set), (200, &sent));
    assert_eq!(ask(&world, "GET", &of("/settings"), "", "").await.1, set);
    let after = world.connection();
    assert_eq!(
        (&after.credentials, &after.site, after.revision),
        (&before.credentials, &before.site, before.revision + 1)
    );
    assert_eq!(world.queues.jobs(), [(Job::check(&key(), Trigger::Connected), 0)]);
    // This sets only the presets; the rest stays.
    let (_, presets) = ask(&world, "PUT", &of("/presets"), "", r#"{"presets":[]}"#).await;
    assert_eq!(presets, json!({ "presets": [] }));
    let (_, rest) = ask(&world, "GET", &of("/settings"), "", "").await;
    assert_eq!((&rest["ignores"], &rest["presets"]), (&sent["ignores"], &json!([])));
    // An absent setting becomes its default.
    let (_, bare) = ask(&world, "PUT", &of("/settings"), "", "{}").await;
    assert_eq!(bare, json!({ "deletes": {}, "ignores": [], "presets": [], "polls": {}, "retention": "keep" }));
    let record = world.connection();
    for bad in [
        "",
        "[]",
        r#"{"nothing":1}"#,
        r#"{"site":"https://other.example.com"}"#,
        r#"{"consumer_key":"ck_2","consumer_secret":"cs_2"}"#,
        r#"{"polls":{"order":1}}"#,
        r#"{"presets":[{"scope":"x","entity":"nothing"}]}"#,
    ] {
        assert_eq!(ask(&world, "PUT", &of("/settings"), "", bad).await.0, 422, "{bad}");
    }
    for bad in ["", "{}", r#"{"presets":1}"#, r#"{"presets":[],"ignores":[]}"#] {
        assert_eq!(ask(&world, "PUT", &of("/presets"), "", bad).await.0, 422, "{bad}");
    }
    assert_eq!(world.connection(), record);
    // It works too if the site is derived from the connection's id.
    let elsewhere = WebhookPath::parse("bigcommerce", "abc123", None).unwrap().key;
    world.tables.connect(
        &elsewhere,
        Connection { revision: 1, ..Connection::new("https://api.bigcommerce.com/stores/abc123") },
    );
    let path = "/admin/connections/bigcommerce/abc123/settings";
    assert_eq!(ask(&world, "PUT", path, "", r#"{"ignores":["store/cart/lineItem/*"]}"#).await.0, 200);
    assert_eq!(world.tables.connection(&elsewhere).connection.unwrap().ignores.len(), 1);
    // The platform's own settings come back as they were sent.
    let account = WebhookPath::parse("cloudblue", "va-1", None).unwrap().key;
    world.tables.connect(&account, Connection { revision: 1, ..Connection::new("https://api.connect.cloudblue.com") });
    let path = "/admin/connections/cloudblue/va-1/settings";
    let own = json!({ "products": { "PRD-000-000-001": "observe" }, "webhooks": ["WH-000-000-001"] });
    let (status, set) = ask(&world, "PUT", path, "", &own.to_string()).await;
    assert_eq!((status, &set["products"], &set["webhooks"]), (200, &own["products"], &own["webhooks"]), "{set}");
    assert_eq!(ask(&world, "PUT", path, "", &set.to_string()).await, (200, set));
}

#[tokio::test]
async fn pausing_resuming_and_revoking_reach_the_store() {
    let world = connected().await;
    let on = |world: &World| world.store().webhooks().iter().filter(|hook| hook.status == "active").count();
    let all = on(&world);
    let switch = async |action: &str, body: &str| {
        let (status, shown) = ask(&world, "POST", &of(action), "", body).await;
        assert_eq!(status, 200, "{shown}");
        world.run_jobs().await;
        shown
    };
    assert_eq!(switch("/pause", "").await["status"], "paused");
    assert_eq!((on(&world), world.store().webhooks().len()), (0, all));
    let paused_at = world.connection().paused_at;
    assert!(paused_at.is_some());
    switch("/pause", "").await;
    assert_eq!(world.connection().paused_at, paused_at, "since the first time");
    assert_eq!(ask(&world, "POST", &of("/poll"), "", "").await.0, 409, "nothing is fetched meanwhile");
    assert_eq!(switch("/resume", "").await["status"], "active");
    assert_eq!((on(&world), world.connection().paused_at), (all, None));

    let former = world.store().webhooks();
    switch("/revoke", r#"{"generation":1}"#).await;
    assert_eq!(world.connection().generation, Generation::FIRST.next());
    let hooks = world.store().webhooks();
    assert_eq!(hooks.len(), all);
    assert!(hooks.iter().all(|hook| hook.delivery_url == format!("{BASE}/hooks/{PLATFORM}/{CONNECTION}/2")));
    assert!(hooks.iter().all(|hook| former.iter().all(|former| former.secret != hook.secret)));
    switch("/revoke", r#"{"generation":1}"#).await;
    assert_eq!(world.connection().generation, Generation::FIRST.next(), "what is revoked is not revoked again");
    for bad in ["", "{}", r#"{"generation":3}"#, r#"{"generation":"2"}"#, r#"{"generation":-1}"#] {
        assert_eq!(ask(&world, "POST", &of("/revoke"), "", bad).await.0, 422, "{bad}");
    }
    world.admin("DELETE", CONNECTION, "", "").await;
    for (action, body) in [("/pause", ""), ("/resume", ""), ("/revoke", r#"{"generation":2}"#)] {
        assert_eq!(ask(&world, "POST", &of(action), "", body).await.0, 409, "{action}");
    }
    assert_eq!(world.connection().status, ConnectionStatus::Disconnected);
}

#[tokio::test]
async fn a_plan_is_shown_before_it_is_run() {
    let world = connected().await;
    let hooks = world.store().webhooks();
    let count = hooks.len();
    let (_, plan) = ask(&world, "GET", &of("/plan"), "", "").await;
    assert_eq!((&plan["steps"], plan["kept"].as_array().unwrap().len()), (&json!([]), count));
    world.store().edit_webhook(hooks[0].id, |hook| hook.status = "disabled".into());
    world.store().edit_webhook(hooks[1].id, |hook| hook.delivery_url = "https://elsewhere.example.com/".into());
    let twice = world.store().add_webhook(&hooks[2].topic, &hooks[2].delivery_url);
    let step = |what: &str, scope: &str, id: u64, url: Value, why: &str| json!({ "do": what, "scope": scope, "id": id.to_string(), "url": url, "why": why });
    let url = json!(hooks[0].delivery_url);
    let wanted = json!([
        step("update", &hooks[0].topic, hooks[0].id, url.clone(), "inactive"),
        step("update", &hooks[1].topic, hooks[1].id, url, "url"),
        step("delete", &hooks[2].topic, twice, Value::Null, "duplicate"),
    ]);
    world.store().calls();
    for _ in 0..2 {
        let (status, plan) = ask(&world, "GET", &of("/plan"), "", "").await;
        assert_eq!((status, &plan["steps"]), (200, &wanted));
    }
    assert!(world.store().calls().iter().all(|call| call.starts_with("GET")));
    assert_eq!(ask(&world, "POST", &of("/reconcile"), "", "").await.1["steps"], wanted);
    assert_eq!(world.store().webhooks().len(), count);
    assert_eq!(ask(&world, "POST", &of("/reconcile"), "", "").await.1["steps"], json!([]));
    let by_hand = format!("/admin/connections/{PLATFORM}/{BY_HAND}/plan");
    let nothing = json!({ "managed": false, "steps": [], "kept": [] });
    assert_eq!(ask(&world, "GET", &by_hand, "", "").await.1, nothing);
}

#[tokio::test]
async fn subscriptions_are_shown_with_their_health() {
    let world = connected().await;
    let hooks = world.store().webhooks();
    world.store().edit_webhook(hooks[0].id, |hook| hook.status = "disabled".into());
    world.store().edit_webhook(hooks[1].id, |hook| hook.topic = "action.other".into());
    let (_, shown) = ask(&world, "GET", &of("/subscriptions"), "", "").await;
    assert_eq!(shown["managed"], true);
    let verdict = |shown: &Value, scope: &str| {
        let rows = shown["subscriptions"].as_array().unwrap().iter();
        rows.filter(|row| row["scope"] == scope)
            .map(|row| format!("{} {}", row["status"], row["verdict"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(verdict(&shown, &hooks[0].topic), [r#""disabled" "switched-off""#]);
    assert_eq!(verdict(&shown, &hooks[1].topic), [r#""missing" "missing""#]);
    assert_eq!(verdict(&shown, &hooks[2].topic), [r#""active" "healthy""#]);
    // Each webhook shows its last delivery in this generation.
    let last = |shown: &Value, scope: &str| {
        let mut rows = shown["subscriptions"].as_array().unwrap().iter();
        rows.find(|row| row["scope"] == scope).unwrap()["last_delivery"].clone()
    };
    assert_eq!(last(&shown, "order.deleted"), Value::Null);
    let now = world.clock.now();
    for (scope, generation) in [("order.deleted", Generation::FIRST), ("order.created", Generation::FIRST.next())] {
        let sighting = Activity::next(None, now, generation, "sample");
        let note = Note { body: serde_json::to_string(&sighting).unwrap(), revision: 1, expires: i64::MAX };
        assert!(world.tables.keep(&key(), &format!("{SEEN}{scope}"), &note).await.unwrap());
    }
    let (_, shown) = ask(&world, "GET", &of("/subscriptions"), "", "").await;
    assert_eq!(last(&shown, "order.deleted"), now.to_string());
    assert_eq!(last(&shown, "order.created"), Value::Null);
    // The list is shown even if the store refuses the call.
    world.store().replace_key("ck_2", "cs_2");
    let (status, shown) = ask(&world, "GET", &of("/subscriptions"), "", "").await;
    assert!(status == 200 && shown["problem"].as_str().unwrap().contains("401"), "{shown}");
    assert_eq!(verdict(&shown, &hooks[2].topic), [r#""unknown" "healthy""#]);
    let by_hand = format!("/admin/connections/{PLATFORM}/{BY_HAND}/subscriptions");
    let (_, shown) = ask(&world, "GET", &by_hand, "", "").await;
    assert_eq!(
        (&shown["managed"], verdict(&shown, "order.updated")),
        (&json!(false), vec![r#""manual" "manual""#.into()])
    );
}

/// Returns the row of a topic, and asserts that the connection and the list of its webhooks show the same row.
async fn rows_of(world: &World, connection: &str, scope: &str) -> Value {
    let mut rows = Vec::new();
    for path in ["", "/subscriptions"] {
        let path = format!("/admin/connections/{PLATFORM}/{connection}{path}");
        let (status, shown) = ask(world, "GET", &path, "", "").await;
        assert_eq!(status, 200, "{shown}");
        rows.push(shown["subscriptions"].as_array().unwrap().iter().find(|row| row["scope"] == scope).unwrap().clone());
    }
    assert_eq!(rows[0], rows[1]);
    rows.remove(0)
}

#[tokio::test]
async fn a_subscription_looks_the_same_wherever_it_is_shown() {
    let world = connected().await;
    let see = async |connection: &str, scope: &str, last| {
        let key = WebhookPath::parse(PLATFORM, connection, None).unwrap().key;
        let sighting = Activity { gaps: vec![60; 9], ..Activity::next(None, last, Generation::FIRST, "sample") };
        let before = world.tables.note(&key, &format!("{SEEN}{scope}")).await.unwrap();
        let revision = before.map_or(0, |note| note.revision) + 1;
        let note = Note { body: serde_json::to_string(&sighting).unwrap(), revision, expires: i64::MAX };
        assert!(world.tables.keep(&key, &format!("{SEEN}{scope}"), &note).await.unwrap());
    };
    let looks = async |connection: &str, scope: &str, status: &str, verdict: Value, reason: &str| {
        let row = rows_of(&world, connection, scope).await;
        assert_eq!((&row["status"], &row["verdict"]), (&json!(status), &verdict), "{row}");
        let why = row["reason"].as_str().unwrap();
        assert!(if reason.is_empty() { why.is_empty() } else { why.starts_with(reason) }, "{row}");
        row
    };
    let hooks = world.store().webhooks();
    let now = world.clock.now();
    looks(CONNECTION, &hooks[0].topic, "active", json!("healthy"), "").await;
    // The list shows the change at once, before any check has found it.
    world.store().edit_webhook(hooks[0].id, |hook| hook.status = "disabled".into());
    looks(CONNECTION, &hooks[0].topic, "disabled", json!("switched-off"), "switched off by the platform (disabled)")
        .await;
    world.store().remove_webhook(hooks[1].id);
    looks(CONNECTION, &hooks[1].topic, "missing", json!("missing"), "it is not there").await;
    see(CONNECTION, &hooks[2].topic, now.plus_seconds(-86_400)).await;
    looks(CONNECTION, &hooks[2].topic, "active", json!("silent"), "nothing for 24 hours").await;
    // The next webhook was entered by hand.
    looks(BY_HAND, "order.updated", "manual", json!("manual"), "").await;
    see(BY_HAND, "order.updated", now).await;
    let row = looks(BY_HAND, "order.updated", "manual", json!("manual"), "").await;
    assert_eq!(row["last_delivery"], now.to_string());
    // Now the connections are paused.
    for connection in [CONNECTION, BY_HAND] {
        let path = format!("/admin/connections/{PLATFORM}/{connection}/pause");
        assert_eq!(ask(&world, "POST", &path, "", "").await.0, 200);
    }
    world.run_jobs().await;
    for hook in world.store().webhooks() {
        looks(CONNECTION, &hook.topic, "paused", Value::Null, "the connection is paused").await;
    }
    looks(BY_HAND, "order.updated", "manual", Value::Null, "the connection is paused").await;
}

#[tokio::test]
async fn what_was_lost_is_shown_beside_how_far_it_was_fetched() {
    let world = connected().await;
    let losses = async |entity: &str| {
        let (_, rows) = ask(&world, "GET", &of("/polls"), "", "").await;
        rows["polls"].as_array().unwrap().iter().find(|row| row["entity"] == entity).unwrap()["losses"].clone()
    };
    let none = json!({ "missed": 0, "stale": 0, "unmapped": 0, "since": null });
    assert_eq!(losses("order").await, none);
    let since = world.clock.now();
    let counted = Drift { missed: 2, stale: 1, unmapped: 3, since: Some(since) };
    let expires = since.seconds() + 100;
    let note = Note { body: serde_json::to_string(&counted).unwrap(), revision: 1, expires };
    assert!(world.tables.keep(&key(), &format!("{DRIFT}order"), &note).await.unwrap());
    assert_eq!(losses("order").await, json!({ "missed": 2, "stale": 1, "unmapped": 3, "since": since.to_string() }));
    assert_eq!(losses("product").await, none);
    world.clock.pass_seconds(101);
    assert_eq!(losses("order").await, none, "past");
}

#[tokio::test]
async fn a_rotation_takes_the_id_of_a_key_or_nothing() {
    let world = connected().await;
    for bad in [r#"{"retire":1}"#, r#"{"retire":""}"#, r#"{"retire":null}"#, r#"{"other":"x"}"#, "[]"] {
        assert_eq!(ask(&world, "POST", "/admin/rotation", "", bad).await.0, 422, "{bad}");
    }
    let (_, shown) = ask(&world, "GET", "/admin/rotation", "", "").await;
    assert_eq!(shown["stage"], "none", "{shown}");
}

#[tokio::test]
async fn fetching_is_begun_for_what_can_be_polled() {
    let world = connected().await;
    let pollable: Vec<_> = find(PLATFORMS, PLATFORM)
        .unwrap()
        .mapping
        .processors()
        .iter()
        .filter(|processor| processor.polling.is_some())
        .map(|processor| processor.entity)
        .collect();
    let (status, begun) = ask(&world, "POST", &of("/import"), "", "").await;
    assert_eq!((status, begun), (202, json!({ "fetch": "import", "begun": pollable })));
    let queued = |entities: &[_]| -> Vec<_> {
        entities.iter().map(|entity| (Job::Poll { key: key(), entity: *entity }, 0)).collect()
    };
    assert_eq!(world.queues.jobs(), queued(&pollable));
    world.run_jobs().await;
    let (_, rows) = ask(&world, "GET", &of("/polls"), "", "").await;
    assert_eq!(rows["polls"].as_array().unwrap().len(), pollable.len());
    for bad in [
        r#"{"entity":"nothing"}"#,
        r#"{"entity":1}"#,
        r#"{"since":"2999-01-01T00:00:00Z"}"#,
        r#"{"since":"yesterday"}"#,
        r#"{"since":1}"#,
        r#"{"everything":true}"#,
        "[]",
    ] {
        assert_eq!(ask(&world, "POST", &of("/poll"), "", bad).await.0, 422, "{bad}");
    }
    assert_eq!(ask(&world, "POST", &of("/import"), "", r#"{"since":"2026-01-01T00:00:00Z"}"#).await.0, 422);
    let by_hand = format!("/admin/connections/{PLATFORM}/{BY_HAND}/poll");
    assert_eq!(ask(&world, "POST", &by_hand, "", "").await.0, 409, "without credentials");
    assert!(world.queues.jobs().is_empty());
}
