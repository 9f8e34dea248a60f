//! Declared senders on the whole path: connected over the admin interface, received, processed, pulled and listed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use cloud::memory::MemoryPlatform;
use commerce::{
    change::Change,
    declaration::Declaration,
    entity::EntityKind,
    envelope::Envelope,
    http_call::{ApiRequest, ApiResponse, Fault},
    item::Item,
    platform::{
        Platform, find,
        mapping::{Incoming, Mapped, Meant, Resolved, Settled, map_delivery, resolve},
    },
    platforms::PLATFORMS,
};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::Sha256;
use tests::platforms::{Delivery, json_answer};
use tests::world::{BASE, Outside, World, coded, gateway_event, message, outcomes, request, signs_by_app};
use tools::events::{self, sample_app_secret, sample_ring};

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

/// Asks the admin interface to try a declaration.
async fn tried(world: &World, trial: &Value) -> (u16, Value) {
    let response = world.ask(Some(&world.bearer("read")), "POST", "/admin/try", "", &trial.to_string()).await;
    (response.status().as_u16(), serde_json::from_slice(response.body().as_ref()).unwrap())
}

#[tokio::test]
async fn a_sender_gets_the_text_that_it_waits_for() {
    let vector = &vectors()["dropbox-sign"][0];
    let world = connected("dropbox-sign", vector).await;
    let event = gateway_event(&vector.delivery(), world.clock.now()).unwrap();
    let response = world.receiver.receive(request(&event)).await;
    assert_eq!(
        (response.status(), response.body().as_ref()),
        (200.try_into().unwrap(), &b"Hello API Event Received"[..])
    );
    assert!(response.headers().contains_key("x-message-id"));
    let mut forged = vector.delivery();
    forged.body = vector.request.body.replace("signature_request_sent", "signature_request_declined").into();
    let event = gateway_event(&forged, world.clock.now()).unwrap();
    let response = world.receiver.receive(request(&event)).await;
    assert_eq!((response.status(), response.body().as_ref()), (401.try_into().unwrap(), &b""[..]));
}

#[tokio::test]
async fn a_trial_shows_every_vector_s_proof_and_never_a_key() {
    let (world, mut shown) = (World::new(), 0);
    for (preset, vectors) in vectors() {
        let declaration = commerce::platforms::custom::preset(&preset).unwrap();
        for vector in vectors {
            let what = format!("{preset}, {}", vector.source);
            let Sent { method, target, url, headers, body } = vector.request.clone();
            let url = url.unwrap_or_else(|| "https://hooks.example.com/hooks/custom/a".to_owned());
            let mut request = json!({ "url": url, "headers": headers, "body": body });
            request.as_object_mut().unwrap().extend(method.map(|method| ("method".to_owned(), method.into())));
            request.as_object_mut().unwrap().extend(target.map(|target| ("target".to_owned(), target.into())));
            let mut trial = json!({
                "declaration": declaration, "keys": vector.keys(), "constants": vector.constants, "now": vector.now,
                "request": request,
            });
            let (status, result) = tried(&world, &trial).await;
            assert_eq!((status, &result["refused"]), (200, &Value::Null), "{what}: {result}");
            assert!(result["delivery"].is_object() || result["handshake"].is_object(), "{what}: {result}");
            let steps = result["steps"].to_string();
            for key in vector.keys() {
                let key = key["key"].as_str().or(key.as_str()).unwrap();
                // A published vector's key may be in its body by chance, as `12345` is.
                assert!(!steps.contains(key) || vector.request.body.contains(key), "{what}: {steps}");
            }
            // Without the headers, and with another body, it is refused, and the reason is told.
            trial["request"] = json!({ "url": url, "body": "{\"x\":1}" });
            let (status, result) = tried(&world, &trial).await;
            assert_eq!((status, &result["delivery"]), (200, &Value::Null), "{what}: {result}");
            assert!(result["refused"].is_string() || result["handshake"].is_object(), "{what}: {result}");
            shown += 1;
        }
    }
    assert!(shown > 80, "{shown}");
    assert!(world.queues.sent().is_empty() && world.queues.jobs().is_empty() && world.state().is_empty());
}

#[tokio::test]
async fn a_trial_that_is_wrong_is_told_where() {
    let world = World::new();
    let stripe = commerce::platforms::custom::preset("stripe").unwrap();
    let mut wrong = stripe.clone();
    wrong["proof"]["signed"]["algorithm"] = "md5".into();
    for (trial, place) in [
        (json!({ "request": {} }), "declaration"),
        (json!({ "declaration": wrong, "request": {} }), "declaration.proof.signed.algorithm: "),
        (json!({ "declaration": stripe, "request": { "header": {} } }), "request.header: "),
        (json!({ "declaration": stripe, "request": { "headers": { "a b": "x" } } }), "request.headers.a b: "),
        (json!({ "declaration": stripe, "request": { "headers": { "a": "\n" } } }), "request.headers.a: "),
        (json!({ "declaration": stripe, "request": {}, "now": i64::MAX }), "now: "),
        (json!({ "declaration": stripe, "request": {}, "keys": [7] }), "keys[0]: "),
    ] {
        let (status, problem) = tried(&world, &trial).await;
        assert_eq!(status, 422, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(place), "{place} {problem}");
    }
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

const SECRET: &str = "whsec_the secret of a test";
const CREDENTIAL: &str = "sk_test_the credential of a test";

/// Stripe's API, as far as the preset calls it: objects by their ids, and lists by the newest first, a page of two each.
#[derive(Clone, Default)]
struct Stripe(Arc<Mutex<BTreeMap<String, Value>>>);

impl Stripe {
    fn set(&self, collection: &str, object: Value) {
        let id = object["id"].as_str().unwrap().to_owned();
        self.0.lock().unwrap().insert(format!("{collection}/{id}"), object);
    }

    fn answer(&self, request: &ApiRequest) -> Result<ApiResponse, Fault> {
        let authorized = request.headers.get("authorization").and_then(|value| value.to_str().ok());
        if authorized != Some(&format!("Bearer {CREDENTIAL}")) {
            return Ok(json_answer(401, &json!({ "error": { "type": "invalid_request_error" } })));
        }
        assert_eq!(request.url.host_str(), Some("api.stripe.com"));
        let path = request.url.path().strip_prefix("/v1/").unwrap();
        let objects = self.0.lock().unwrap();
        if path.contains('/') {
            let missing = json!({ "error": { "code": "resource_missing" } });
            return Ok(objects.get(path).map_or_else(|| json_answer(404, &missing), |object| json_answer(200, object)));
        }
        let query: BTreeMap<_, _> = request.url.query_pairs().into_owned().collect();
        let own: Vec<&Value> =
            objects.range(format!("{path}/")..format!("{path}0")).map(|(_, object)| object).collect();
        let after = query.get("starting_after");
        let rest: Vec<&Value> = own
            .into_iter()
            .filter(|object| object["deleted"] != true)
            .filter(|object| after.is_none_or(|after| object["id"].as_str().unwrap() > after.as_str()))
            .collect();
        let page: Vec<_> = rest.iter().take(2).collect();
        Ok(json_answer(200, &json!({ "object": "list", "has_more": rest.len() > 2, "data": page })))
    }
}

/// Signs as Stripe does, by the implementation of the RustCrypto project rather than by ours.
fn signed(world: &World, body: &Value, secret: &str) -> Delivery {
    let (at, body) = (world.clock.now().seconds(), body.to_string());
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{at}.{body}").as_bytes());
    let code = hex::encode(mac.finalize().into_bytes());
    Delivery {
        method: http::Method::POST,
        url: format!("{BASE}/hooks/custom/stripe"),
        headers: vec![("stripe-signature".to_owned(), format!("t={at},v1={code}"))],
        body: body.into(),
        attempts: 0,
    }
}

fn event(id: &str, topic: &str, created: i64, object: &Value) -> Value {
    json!({ "id": id, "object": "event", "type": topic, "created": created, "data": { "object": object } })
}

fn customer(id: &str, name: &str) -> Value {
    json!({
        "id": id, "object": "customer", "name": name, "email": format!("{id}@example.com"), "created": 1_700_000_000,
        "address": { "line1": "Road 1", "city": "Bern", "country": "CH", "postal_code": "3000", "line2": null, "state": null },
        "livemode": false, "metadata": { "crm": "7" },
    })
}

async fn connected_to_stripe(credential: bool) -> (World, Stripe) {
    let (mut world, stripe) = (World::new(), Stripe::default());
    let answers = stripe.clone();
    world.outside = Outside::Scripted(MemoryPlatform::new(move |request| answers.answer(request)));
    let mut settings = json!({ "preset": "stripe", "keys": [{ "id": "2026", "key": SECRET }] });
    if credential {
        settings["credential"] = CREDENTIAL.into();
    }
    let (status, shown) = world.admin_of("custom", "PUT", "stripe", "", &settings.to_string()).await;
    assert_eq!(status, 200, "{shown}");
    assert!(!shown.to_string().contains(SECRET) && !shown.to_string().contains(CREDENTIAL), "{shown}");
    (world, stripe)
}

/// Processes what waits, and what that queues, and runs the registrar's jobs, until nothing is left.
async fn settle(world: &World, already: &mut usize) -> Vec<String> {
    let mut ended = Vec::new();
    for _ in 0..20 {
        let jobs = world.run_jobs().await;
        let ends = world.drain(*already).await;
        *already = world.queues.sent().len();
        if jobs == 0 && ends.is_empty() {
            return ended;
        }
        ended.extend(ends);
        world.clock.pass_seconds(5);
    }
    panic!("it never ends: {ended:?}");
}

fn item(world: &World, sort: &str) -> Item {
    world.state().into_iter().find(|item| item.sk == sort).unwrap_or_else(|| panic!("there is no {sort}"))
}

#[tokio::test]
async fn stripe_is_mapped_imported_and_kept() {
    let (world, stripe) = connected_to_stripe(true).await;
    for n in 1..=5 {
        stripe.set("customers", customer(&format!("cus_{n}"), &format!("Customer {n}")));
    }
    stripe.set(
        "products",
        json!({ "id": "prod_1", "name": "Tea", "active": true, "created": 1, "updated": 2, "images": [] }),
    );
    let price = json!({ "id": "price_1", "product": "prod_1", "currency": "kwd", "unit_amount": 1099, "unit_amount_decimal": "1099" });
    stripe.set("prices", price);
    let payment = json!({
        "id": "pi_1", "amount": 123_456_789, "amount_received": 0, "currency": "eur", "customer": "cus_1", "created": 3,
        "status": "succeeded", "payment_method_types": ["card"], "latest_charge": "ch_1",
    });
    stripe.set("payment_intents", payment.clone());
    let subscription = json!({
        "id": "sub_1", "status": "active", "customer": "cus_1", "created": 3, "cancel_at": null,
        "items": { "data": [{ "id": "si_1", "quantity": 2, "price": { "id": "price_1", "product": "prod_1" } }] },
    });
    stripe.set("subscriptions", subscription);
    let mut already = 0;
    settle(&world, &mut already).await;
    let kept: Vec<String> = world.state().into_iter().map(|item| item.sk).collect();
    assert_eq!(
        kept,
        [
            "customer#cus_1",
            "customer#cus_2",
            "customer#cus_3",
            "customer#cus_4",
            "customer#cus_5",
            "order#pi_1",
            "price#price_1",
            "product#prod_1",
            "subscription#sub_1",
        ]
    );
    let order = item(&world, "order#pi_1");
    assert_eq!(order.fields["totals"], json!({ "total": "1234567.89" }));
    assert_eq!((&order.fields["currency"], &order.fields["customer"]), (&json!("EUR"), &json!("cus_1")));
    assert_eq!(item(&world, "price#price_1").fields["prices"], json!([{ "currency": "KWD", "price": "1.099" }]));
    assert_eq!(item(&world, "subscription#sub_1").fields["items"][0]["quantity"], "2");
    let ada = item(&world, "customer#cus_1");
    assert_eq!(ada.fields["billing"]["postcode"], "3000");
    assert_eq!(ada.extra["metadata"], json!({ "crm": "7" }));

    // A delivery holds the whole, and needs no call. A late one does not overwrite a newer one.
    let asked = |world: &World| match &world.outside {
        Outside::Scripted(platform) => platform.asked().len(),
        _ => 0,
    };
    let (calls, now) = (asked(&world), world.clock.now().seconds() + 10);
    world.clock.pass_seconds(10);
    let newer = event("evt_2", "customer.updated", now + 1, &customer("cus_1", "Newer"));
    let older = event("evt_1", "customer.updated", now, &customer("cus_1", "Older"));
    world.clock.pass_seconds(10);
    for (body, end) in [(&newer, "applied"), (&older, "superseded"), (&newer, "unchanged")] {
        assert_eq!(send(&world, &signed(&world, body, SECRET)).await, 200);
        assert_eq!(world.drain(already).await, [end]);
        already = world.queues.sent().len();
    }
    assert_eq!(item(&world, "customer#cus_1").fields["first_name"], "Newer");
    assert_eq!(asked(&world), calls);

    // A delete is asked about, because an old one could be sent again.
    let deleted = event("evt_3", "customer.deleted", now + 5, &customer("cus_2", "Customer 2"));
    assert_eq!(send(&world, &signed(&world, &deleted, SECRET)).await, 200);
    assert_eq!(world.drain(already).await, ["unchanged"], "the customer is there");
    already = world.queues.sent().len();
    stripe.set("customers", json!({ "id": "cus_2", "object": "customer", "deleted": true }));
    assert_eq!(send(&world, &signed(&world, &deleted, SECRET)).await, 200);
    assert_eq!(world.drain(already).await, ["applied"]);
    assert!(item(&world, "customer#cus_2").deleted);

    // What nobody mapped, and what another secret signed.
    already = world.queues.sent().len();
    let other = event("evt_4", "invoice.paid", now, &json!({ "id": "in_1" }));
    assert_eq!(send(&world, &signed(&world, &other, SECRET)).await, 200);
    assert_eq!(world.drain(already).await, ["ignored: unknown-scope"]);
    already = world.queues.sent().len();
    assert_eq!(send(&world, &signed(&world, &newer, "whsec_another secret")).await, 401);
    assert_eq!(world.queues.sent().len(), already);
}

#[tokio::test]
async fn keys_of_a_declared_sender_change_without_a_refused_delivery() {
    let (world, _) = connected_to_stripe(false).await;
    let body = event("evt_1", "customer.updated", 1, &customer("cus_1", "Ada"));
    assert_eq!(send(&world, &signed(&world, &body, SECRET)).await, 200);
    let (status, shown) = world.admin_of("custom", "POST", "stripe/reveal", "", "").await;
    assert_eq!(status, 409, "no key is shown: {shown}");
    let (_, shown) = world.admin_of("custom", "GET", "stripe", "", "").await;
    assert!(shown.to_string().contains("/hooks/custom/stripe") && !shown.to_string().contains(SECRET), "{shown}");
    let set = |keys: Value| {
        let world = world.clone();
        async move {
            let settings = json!({ "preset": "stripe", "keys": keys }).to_string();
            world.admin_of("custom", "PUT", "stripe", "", &settings).await
        }
    };
    assert_eq!(set(json!([{ "id": "old", "key": SECRET }, { "id": "new", "key": "whsec_new" }])).await.0, 200);
    world.clock.pass_seconds(6);
    for secret in [SECRET, "whsec_new"] {
        assert_eq!(send(&world, &signed(&world, &body, secret)).await, 200, "{secret}");
    }
    assert_eq!(set(json!(["whsec_new"])).await.0, 200);
    world.clock.pass_seconds(61);
    assert_eq!(send(&world, &signed(&world, &body, SECRET)).await, 401, "a withdrawn key works a minute longer");
    assert_eq!(send(&world, &signed(&world, &body, "whsec_new")).await, 200);
    // Forgers cost a read in five seconds, and unknown connections one in a minute.
    let reads = world.tables.sender_reads();
    for _ in 0..50 {
        assert_eq!(send(&world, &signed(&world, &body, "forged")).await, 401);
    }
    let mut nobody = signed(&world, &body, SECRET);
    nobody.url = format!("{BASE}/hooks/custom/nobody");
    for _ in 0..50 {
        assert_eq!(send(&world, &nobody).await, 401);
    }
    assert!(world.tables.sender_reads() <= reads + 2, "{}", world.tables.sender_reads() - reads);
    // A revoked connection takes nothing until its settings are sent again, and then at its next address.
    let (status, shown) = world.admin_of("custom", "POST", "stripe/revoke", "", "{\"generation\":1}").await;
    assert!(status < 300, "{shown}");
    world.clock.pass_seconds(61);
    assert_eq!(send(&world, &signed(&world, &body, "whsec_new")).await, 401);
    assert_eq!(set(json!(["whsec_new"])).await.0, 200);
    world.clock.pass_seconds(61);
    let mut moved = signed(&world, &body, "whsec_new");
    assert_eq!(send(&world, &moved).await, 401, "the former address");
    moved.url += "/2";
    assert_eq!(send(&world, &moved).await, 200);
    // A disconnected one has no keys left.
    assert!(world.admin_of("custom", "DELETE", "stripe", "", "").await.0 < 300);
    world.clock.pass_seconds(61);
    assert_eq!(send(&world, &moved).await, 401);
}

#[tokio::test]
async fn a_body_with_many_becomes_a_message_for_each_part() {
    let world = World::new();
    let declaration = json!({
        "sender": "Many",
        "proof": { "header": { "name": "X-Key" } },
        "extract": { "topic": ["{json:/type}"], "id": ["{json:/id}"], "account": ["{json:/shop}"] },
        "split": ".events[]",
        "map": [
            { "topic": "order.*", "entity": "order", "content": "{status, totals: {total: .total}, extra: {shop}}" },
            { "topic": "gone", "entity": "order", "action": "deleted" },
        ],
    });
    let settings = json!({ "declaration": declaration, "keys": ["a key of a test"], "account": "one" });
    let (status, shown) = world.admin_of("custom", "PUT", "many", "", &settings.to_string()).await;
    assert_eq!(status, 200, "{shown}");
    let part = |kind: &str, id: u32, shop: &str| json!({ "type": kind, "id": id, "shop": shop, "status": "paid", "total": 10.5 });
    let events = [
        part("order.paid", 1, "one"),
        part("order.paid", 2, "two"),
        part("gone", 3, "one"),
        part("other", 4, "one"),
        json!({ "type": "order.paid", "shop": "one" }),
    ];
    let delivery = Delivery {
        method: http::Method::POST,
        url: format!("{BASE}/hooks/custom/many"),
        headers: vec![("x-key".to_owned(), "a key of a test".to_owned())],
        body: json!({ "events": events }).to_string().into(),
        attempts: 0,
    };
    assert_eq!(send(&world, &delivery).await, 200);
    assert_eq!(world.drain(0).await, ["split: 5"]);
    let mut ended = world.drain(1).await;
    ended.sort();
    assert_eq!(
        ended,
        ["applied", "applied", "ignored: custom-other-account", "ignored: unknown-scope", "quarantined: malformed",]
    );
    let order = item(&world, "order#1");
    assert_eq!((&order.fields["totals"]["total"], &order.extra["shop"]), (&json!("10.5"), &json!("one")));
}

#[tokio::test]
async fn a_handshake_is_answered_as_the_declaration_says() {
    let world = World::new();
    let settings = json!({ "preset": "meta", "keys": ["a secret"], "constants": { "verify_token": "my token" } });
    assert_eq!(world.admin_of("custom", "PUT", "meta", "", &settings.to_string()).await.0, 200);
    for (token, status, answer) in [("my%20token", 200, "1158201444"), ("another", 401, "")] {
        let delivery = Delivery {
            method: http::Method::GET,
            url: format!(
                "{BASE}/hooks/custom/meta?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={token}"
            ),
            headers: Vec::new(),
            body: "".into(),
            attempts: 0,
        };
        let event = gateway_event(&delivery, world.clock.now()).unwrap();
        let response = world.receiver.receive(request(&event)).await;
        assert_eq!(response.status().as_u16(), status, "{token}");
        assert_eq!(response.body().as_ref(), answer.as_bytes(), "{token}");
        assert!(world.queues.sent().is_empty());
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_by_name() {
    let world = World::new();
    let valid = json!({ "sender": "S", "proof": { "header": { "name": "X-Key" } } });
    let with = |member: &str, value: Value| {
        let mut declaration = valid.clone();
        declaration[member] = value;
        json!({ "declaration": declaration, "keys": ["k"] })
    };
    for (settings, told) in [
        (json!({}), "declaration: is missing"),
        (json!({ "preset": "nobody", "keys": ["k"] }), "preset: is none"),
        (json!({ "preset": "stripe" }), "keys: is missing"),
        (
            json!({ "preset": "stripe", "keys": [{ "id": "a", "key": "k" }, { "id": "a", "key": "l" }] }),
            "keys: has the same id twice",
        ),
        (json!({ "preset": "adyen", "keys": ["not hex"] }), "keys: key-1 has not the form"),
        (json!({ "preset": "github", "keys": ["k"], "credential": "c" }), "credential: is of no use"),
        (json!({ "preset": "stripe", "keys": ["k"], "polls": { "coupon": 600 } }), "polls: custom has no coupon"),
        (
            with("map", json!([{ "topic": "a", "entity": "order" }])),
            "declaration: map[0]: needs content, or order below pull",
        ),
        (
            with("map", json!([{ "topic": "a", "entity": "order", "content": ".a |" }])),
            "declaration: map[0].content: is no jq",
        ),
        (
            with("map", json!([{ "topic": "*", "entity": "record" }, { "topic": "a", "entity": "record" }])),
            "declaration: map[1]: never counts",
        ),
        (with("split", json!("def f: f; f")), "declaration: split: \"def\" cannot be used"),
        (with("pull", json!({ "order": { "path": "/a", "content": "." } })), "declaration: api: must say how"),
        (with("colour", json!(1)), "declaration: "),
    ] {
        let (status, shown) = world.admin_of("custom", "PUT", "a", "", &settings.to_string()).await;
        assert_eq!(status, 422, "{settings}: {shown}");
        assert!(shown["detail"].as_str().unwrap().starts_with(told), "{told}: {shown}");
    }
}

/// A platform that has code, described as data.
#[derive(Deserialize)]
struct Described {
    /// The connection's settings, without keys.
    settings: Value,
    /// The sample deliveries whose meaning cannot be declared, and why.
    cannot: BTreeMap<String, String>,
}

/// What a delivery asks for: the kind of entity, its id, and whether it is a delete; or that it is ignored.
type Asked = Option<(EntityKind, String, bool)>;

fn asked(kind: EntityKind, mapped: &Mapped) -> Asked {
    match mapped {
        Mapped::Change(id, change) | Mapped::IfKnown(id, change, _) | Mapped::PullWith(id, change) => {
            Some((kind, id.to_string(), matches!(change, Change::Delete(_))))
        }
        Mapped::Pull(id) => Some((kind, id.to_string(), false)),
        Mapped::Split(transfers) => match transfers.as_slice() {
            [one] => Some((one.entity, one.id.to_string(), false)),
            several => panic!("{} transfers", several.len()),
        },
        _ => None,
    }
}

/// Returns what the code of a platform makes of a delivery.
fn asked_by_code(platform: &Platform, sealed: &Envelope, body: &[u8]) -> Asked {
    let Resolved::Entity(entity, action) = resolve(platform, &sealed.scope) else { return None };
    let incoming = Incoming {
        connection: &sealed.key,
        scope: &sealed.scope,
        delivery_id: sealed.delivery_id.as_deref(),
        entity,
        action,
        body,
        received: sealed.received,
    };
    asked(entity, &map_delivery(platform.mapping, &incoming).unwrap())
}

#[tokio::test]
async fn platforms_that_have_code_mean_the_same_when_they_are_declared() {
    let mut compared = BTreeMap::new();
    for platform in coded() {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("path/data/custom/{}.yaml", platform.name));
        let Described { mut settings, cannot } = yaml(&file);
        let ring = sample_ring();
        let (mut met, custom) = (BTreeSet::new(), find(PLATFORMS, "custom").unwrap());
        for mut event in events::load(platform.name).unwrap() {
            event.sign(&ring);
            let (Some(sealed), Some(path)) = (event.sealed(&ring), event.path()) else { continue };
            let sealed = Envelope::parse(sealed.text()).unwrap();
            if cannot.contains_key(&event.name) {
                met.insert(event.name.clone());
                continue;
            }
            // The sender's key is the secret that the platform signs with.
            let bound = platform.delivery.secret_per_scope().then_some(sealed.scope.as_str());
            let derived = || ring.signing().webhook_secret(&path, bound).reveal().to_owned();
            let key = if signs_by_app(platform) { sample_app_secret(&ring, platform.name) } else { derived() };
            settings["keys"] = json!([key]);
            let world = World::new();
            world.clock.pass_seconds(sealed.received.seconds() - world.clock.now().seconds());
            let (status, shown) = world.admin_of("custom", "PUT", "declared", "", &settings.to_string()).await;
            assert_eq!(status, 200, "{}: {shown}", platform.name);
            let mut moved = event.request.clone();
            moved["rawPath"] = "/hooks/custom/declared".into();
            moved["pathParameters"] = json!({ "platform": "custom", "connection": "declared" });
            let what = format!("{} {}", platform.name, event.name);
            assert_eq!(world.receiver.receive(request(&moved)).await.status().as_u16(), 200, "{what}");
            let declared = Envelope::parse(world.queues.sent()[0].0.text()).unwrap();
            assert_eq!((&declared.scope, declared.strength), (&sealed.scope, sealed.strength), "{what}");
            let own = world.tables.connection(&declared.key).connection.unwrap().settings;
            let delivery = Settled {
                settings: &own,
                scope: &declared.scope,
                delivery_id: declared.delivery_id.as_deref(),
                claims: &declared.claims,
                body: event.body().as_bytes(),
                received: declared.received,
            };
            let meant = match custom.mapping.by_settings().unwrap().map(&delivery).unwrap() {
                Meant::Entity(kind, mapped) => asked(kind, &mapped),
                Meant::Ignored(_) => None,
                Meant::Parts(parts) => panic!("{what}: {} parts", parts.len()),
            };
            assert_eq!(meant, asked_by_code(platform, &sealed, event.body().as_bytes()), "{what}");
            *compared.entry(platform.name).or_insert(0) += 1;
        }
        assert_eq!(met, cannot.into_keys().collect(), "{}: what cannot be declared is there", platform.name);
    }
    assert!(compared.values().sum::<usize>() >= 28, "{compared:?}");
}
