//! The bundle as it is deployed: real binaries and the real SDK on the local AWS, with simulated stores beside it.
//! `make test` starts the stack and sets the environment.
//!
//! Each test has its own connection, so the tests run side by side. They wait for conditions, and fail if one does not
//! come.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod browser;
mod changes;
mod endpoints;
mod verify;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::AttributeValue;
use cloud::{
    aws::{Aws, Patience, variable},
    outbound::{Guarded, Outbound},
    secrets::{KeepSecret, Keys, SecretSource, SecretsManager},
    state::{DynamoEntities, Entities, Put},
};
use commerce::{
    change::{Change, Delete, State},
    connection::DeletePolicy,
    entity::{EntityKey, EntityKind},
    http_call::{ApiRequest, Loopback},
    item::{Item, Projection, Writer},
    keys::KeyRing,
    origin::Origin,
    platform::{
        find,
        mapping::{declared_scopes, processor},
    },
    platforms::{PLATFORMS, woocommerce},
    request::WebhookPath,
};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use rand::{SeedableRng, rngs::StdRng};
use registrar::ADMIN_TOKEN;
use serde_json::{Map, Value, json};
use sha2::Sha256;
use tests::{
    merchant::{connection_id, install_bigcommerce, install_woocommerce, open},
    platforms::{
        Http, Simulator, Truth, Wire, bigcommerce, cloudblue, directscale, listen, shopify, woocommerce::Store,
    },
    truth::Connected,
    world::{PLATFORM, app_credentials, app_credentials_at, event, events},
};
use tools::events::Event;

use crate::browser::Browser;

/// The longest wait. The emulator takes a second or two for most things.
const PATIENCE: Duration = Duration::from_secs(60);
/// Held by the test that writes the apps' credentials, which are one secret.
static WRITES_APPS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Stack {
    aws: Aws,
    api_url: String,
    http: Guarded,
    ring: Arc<KeyRing>,
}

impl Stack {
    async fn new() -> Self {
        let aws = Aws::from_env(Patience::Worker).expect("run `make test`, which brings a stack up");
        let ring = ring(&aws, "SIGNING_KEYS").await;
        Self { aws, api_url: variable("API_URL").unwrap(), http: Guarded::new(Loopback::Allowed).unwrap(), ring }
    }

    async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let mut request = ApiRequest {
            method,
            url: format!("{}{path}", self.api_url).parse().unwrap(),
            headers: HeaderMap::new(),
            body: body.to_owned().into(),
        };
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let answer = self.http.call(request).await.unwrap();
        (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
    }

    async fn admin(&self, method: Method, connection: &str, body: &Value) -> (u16, Value) {
        self.admin_of(PLATFORM, method, connection, body).await
    }

    async fn admin_of(&self, platform: &str, method: Method, connection: &str, body: &Value) -> (u16, Value) {
        let token =
            ADMIN_TOKEN.mint(&*ring(&self.aws, "ADMIN_KEY").await, cloud::now(), 300, "read write", None).unwrap();
        let headers = [("authorization", format!("Bearer {token}")), ("content-type", "application/json".into())];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let path = format!("/admin/connections/{platform}/{connection}");
        let (status, text) = self.call(method, &path, &headers, &body.to_string()).await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    /// Sets the credentials of the apps of some platforms, and keeps those of the others.
    async fn set_apps(&self, of: &Value) {
        let _writes = WRITES_APPS.lock().await;
        let secret = SecretsManager::new(self.aws.secretsmanager(), variable("APP_CREDENTIALS").unwrap());
        let mut apps: Map<String, Value> = serde_json::from_str(&secret.fetch().await.unwrap()).unwrap();
        apps.extend(of.as_object().unwrap().clone());
        secret.replace(&json!(apps).to_string()).await.unwrap();
    }

    /// Makes a connection whose webhooks are entered by hand.
    async fn connected(&self, connection: &str) {
        let site = json!({ "site": format!("https://{connection}") });
        assert_eq!(self.admin(Method::PUT, connection, &site).await.0, 200);
    }

    async fn post(&self, event: &Event) -> u16 {
        let headers = event.request["headers"].as_object().unwrap();
        let sent =
            headers.iter().filter(|(name, _)| !matches!(name.as_str(), "host" | "content-length" | "accept-encoding"));
        let headers: Vec<_> = sent.map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
        let (status, body) =
            self.call(Method::POST, event.request["rawPath"].as_str().unwrap(), &headers, event.body()).await;
        assert!(body.is_empty(), "{body}");
        status
    }

    async fn item(&self, connection: &str, sort: &str) -> Option<Item> {
        self.item_of(PLATFORM, connection, sort).await
    }

    async fn item_of(&self, platform: &str, connection: &str, sort: &str) -> Option<Item> {
        let key = [("pk", format!("{platform}#{connection}")), ("sk", sort.to_owned())];
        let key = key.into_iter().map(|(name, value)| (name.to_owned(), AttributeValue::S(value))).collect();
        let request = self.aws.dynamodb().get_item().table_name(variable("ENTITIES_TABLE").unwrap()).set_key(Some(key));
        let found = request.consistent_read(true).send().await.unwrap().item?;
        Some(serde_dynamo::aws_sdk_dynamodb_1::from_item(found).unwrap())
    }

    /// Waits until an item is as it should be, and returns it.
    async fn until(&self, connection: &str, sort: &str, condition: impl Fn(&Item) -> bool) -> Item {
        self.until_of(PLATFORM, connection, sort, condition).await
    }

    async fn until_of(&self, platform: &str, connection: &str, sort: &str, condition: impl Fn(&Item) -> bool) -> Item {
        let started = Instant::now();
        loop {
            let item = self.item_of(platform, connection, sort).await;
            match item {
                Some(item) if condition(&item) => return item,
                other => assert!(started.elapsed() < PATIENCE, "{platform} {connection} {sort} stays {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns the bodies of the dead letters with a reason and a connection.
    async fn letters(&self, reason: &str, connection: &str) -> Vec<String> {
        let queue = variable("DLQ_URL").unwrap();
        let sqs = self.aws.sqs();
        let request = sqs.receive_message().queue_url(&queue).max_number_of_messages(10).visibility_timeout(0);
        let answer = request.message_attribute_names("All").send().await.unwrap();
        let letters = answer.messages.unwrap_or_default().into_iter().filter(|letter| {
            let attributes = letter.message_attributes.clone().unwrap_or_default();
            let is = |name: &str, value: &str| attributes.get(name).and_then(|a| a.string_value()) == Some(value);
            is("reason", reason)
                && is("connection", connection)
                && is("platform", PLATFORM)
                && attributes.contains_key("scope")
        });
        letters.filter_map(|letter| letter.body).collect()
    }

    async fn until_letters(&self, reason: &str, connection: &str, number: usize) -> Vec<String> {
        let started = Instant::now();
        loop {
            let letters = self.letters(reason, connection).await;
            if letters.len() == number {
                return letters;
            }
            assert!(started.elapsed() < PATIENCE, "{} letters with {reason}", letters.len());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns a sample event for another connection, signed with the stack's own key.
    fn event(&self, prefix: &str, connection: &str) -> Event {
        self.changed(prefix, connection, |_| {})
    }

    fn changed(&self, prefix: &str, connection: &str, change: impl FnOnce(&mut Value)) -> Event {
        let mut event = event(prefix);
        event.request["pathParameters"]["connection"] = connection.into();
        event.request["rawPath"] = format!("/hooks/{PLATFORM}/{connection}").into();
        change(&mut event.request);
        event.sign(&self.ring);
        event
    }
}

async fn ring(aws: &Aws, secret: &'static str) -> Arc<KeyRing> {
    let source = SecretsManager::new(aws.secretsmanager(), variable(secret).unwrap());
    Keys::new(source).current(cloud::now()).await.unwrap()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn make(arguments: &[&str]) -> Output {
    let env = format!("ENV={}", variable("ENV_FILE").unwrap());
    Command::new("make").current_dir(root()).arg("-s").args(arguments).arg(env).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn the_recording_becomes_state() {
    let (stack, connection) = (Stack::new().await, "recording.example.com");
    stack.connected(connection).await;
    for sample in events() {
        assert_eq!(stack.post(&stack.event(&sample.name, connection)).await, 200, "{}", sample.name);
    }
    let completed = |item: &Item| item.deleted && item.fields.get("status").is_some_and(|status| status == "completed");
    let order = stack.until(connection, "order#13", completed).await;
    stack
        .until(connection, "customer#2", |item| {
            item.deleted && item.fields.get("last_name").is_some_and(|n| n == "Lindqvist")
        })
        .await;
    stack
        .until(connection, "product#10", |item| {
            item.deleted && item.fields.get("price").is_some_and(|price| price == "13.50")
        })
        .await;
    stack.until(connection, "product#11", |item| !item.deleted && item.fields["kind"] == "variable").await;
    // A duplicate and a late update revive nothing.
    assert_eq!(stack.post(&stack.event("027", connection)).await, 200);
    assert_eq!(stack.post(&stack.event("022", connection)).await, 200);
    let received = |item: &Item| item.version.as_ref().map(|version| version.received);
    let both = |item: &Item| item.marks.gone > order.marks.gone && received(item) > received(&order);
    assert!(stack.until(connection, "order#13", both).await.deleted);
}

#[tokio::test]
async fn the_sample_events_are_accepted_as_they_are() {
    let stack = Stack::new().await;
    stack.connected("shop.example.com").await;
    assert_eq!(stack.post(&event("018")).await, 200);
    stack.until("shop.example.com", "order#13", |item| item.fields["number"] == "13").await;
}

#[tokio::test]
async fn what_is_not_proven_is_refused() {
    let (stack, connection) = (Stack::new().await, "refused.example.com");
    stack.connected(connection).await;
    let mut tampered = stack.event("018", connection);
    tampered.request["body"] = tampered.body().replace("76.00", "0.01").into();
    assert_eq!(stack.post(&tampered).await, 401);
    let mut wrong_key = stack.event("018", connection);
    wrong_key.sign(&KeyRing::parse("another-key-of-at-least-32-bytes!").unwrap());
    assert_eq!(stack.post(&wrong_key).await, 401);
    let mut of_another = stack.event("018", "another.example.com");
    of_another.request["rawPath"] = format!("/hooks/{PLATFORM}/{connection}").into();
    assert_eq!(stack.post(&of_another).await, 401, "valid, but for another connection");
    let mut other_topic = stack.event("026", connection);
    other_topic.request["headers"]["x-wc-webhook-topic"] = "order.deleted".into();
    assert_eq!(stack.post(&other_topic).await, 401, "valid, but for another topic");
    let mut nowhere = stack.event("018", connection);
    nowhere.request["rawPath"] = format!("/hooks/nosuch/{connection}").into();
    assert_eq!(stack.post(&nowhere).await, 404);
    assert_eq!(stack.admin(Method::GET, "nobody.example.com", &Value::Null).await.0, 404);
    let path = format!("/admin/connections/{PLATFORM}/{connection}");
    assert_eq!(stack.call(Method::GET, &path, &[("authorization", "Bearer x.y.z")], "").await.0, 401);
    // Only a proven delivery after all of that comes through.
    assert_eq!(stack.post(&stack.event("014", connection)).await, 200);
    stack.until(connection, "product#10", |_| true).await;
    assert!(stack.item(connection, "order#13").await.is_none());
}

#[tokio::test]
async fn a_body_that_api_gateway_encodes_is_the_same_body() {
    let (stack, connection) = (Stack::new().await, "base64.example.com");
    stack.connected(connection).await;
    let encoded =
        stack.changed("018", connection, |event| event["headers"]["content-type"] = "application/octet-stream".into());
    assert_eq!(stack.post(&encoded).await, 200);
    let order = stack.until(connection, "order#13", |_| true).await;
    assert_eq!(order.fields["billing"]["city"], "Malmö");
}

#[tokio::test]
async fn a_large_body_travels_compressed() {
    let (stack, connection) = (Stack::new().await, "large.example.com");
    stack.connected(connection).await;
    let text = "Linen ".repeat(50_000);
    let large = stack.changed("014", connection, |event| {
        event["body"] = json!({ "id": 10, "description": text }).to_string().into()
    });
    assert_eq!(stack.post(&large).await, 200);
    let product = stack.until(connection, "product#10", |_| true).await;
    assert_eq!(product.fields["description"].as_str().unwrap().len(), text.len());
}

#[tokio::test]
async fn a_poisoned_message_does_not_touch_the_good_ones_beside_it() {
    let (stack, connection) = (Stack::new().await, "poison.example.com");
    stack.connected(connection).await;
    let poison = stack.changed("018", connection, |event| event["body"] = r#"{"id":13,"total":"many"}"#.into());
    for event in
        [stack.event("014", connection), poison, stack.event("015", connection), stack.event("011", connection)]
    {
        assert_eq!(stack.post(&event).await, 200);
    }
    for sort in ["product#10", "product#11", "customer#2"] {
        stack.until(connection, sort, |_| true).await;
    }
    let letter = stack.until_letters("malformed", connection, 1).await.remove(0);
    assert!(letter.contains("many"), "with the original body");
    assert!(stack.item(connection, "order#13").await.is_none());
}

#[tokio::test]
async fn dead_letters_come_back_when_their_cause_is_mended() {
    let (stack, connection) = (Stack::new().await, "redrive.example.com");
    let store = Store::new(Arc::new(Http(stack.http.clone())), "ck_1", "cs_1");
    store.set("orders", 13, Some(json!({ "id": 13, "status": "on-hold", "date_modified_gmt": "2026-11-21T01:00:00" })));
    let site = store.listen().await;
    assert_eq!(stack.admin(Method::PUT, connection, &json!({ "site": site })).await.0, 200);
    // A transfer request cannot be served before its connection has credentials.
    let transfer = json!({
        "version": 1, "provenance": "envelope", "platform": PLATFORM, "connection": connection, "generation": 1,
        "scope": "order.updated", "key_id": "initial", "strength": "body", "received": cloud::now().micros(),
        "content": { "transfer": { "entity": "order", "id": "13", "reason": "test" } },
    });
    let send = stack.aws.sqs().send_message().queue_url(variable("INBOX_URL").unwrap());
    send.message_body(transfer.to_string()).message_group_id("test").send().await.unwrap();
    stack.until_letters("connection-fault", connection, 1).await;

    let dry = text(&make(&["redrive", "REASON=connection-fault"]));
    assert!(dry.contains("connection-fault") && dry.contains("Nothing was moved"), "{dry}");
    stack.until_letters("connection-fault", connection, 1).await;

    // The connection gets its credentials, which removes the cause.
    let body = json!({ "site": site, "consumer_key": "ck_1", "consumer_secret": "cs_1" });
    assert_eq!(stack.admin(Method::PUT, connection, &body).await.0, 200);
    let moved = text(&make(&["redrive", "REASON=connection-fault", "RUN=1"]));
    assert!(!moved.contains("Nothing was moved"), "{moved}");
    stack.until(connection, "order#13", |item| item.fields["status"] == "on-hold").await;
    stack.until_letters("connection-fault", connection, 0).await;
}

#[tokio::test]
async fn failed_jobs_come_back() {
    let (stack, connection) = (Stack::new().await, "jobs.example.com");
    let store = Store::new(Arc::new(Http(stack.http.clone())), "ck_1", "cs_1");
    let site = store.listen().await;
    let body = json!({ "site": site, "consumer_key": "ck_1", "consumer_secret": "cs_1" });
    assert_eq!(stack.admin(Method::PUT, connection, &body).await.0, 200);
    subscribed(&stack, PLATFORM, connection, all_active).await;
    // Somebody switches a webhook off, and the job that would notice it has failed.
    let hook = store.webhooks()[0].id;
    store.edit_webhook(hook, |hook| hook.status = "disabled".into());
    let job = json!({ "job": "check", "platform": PLATFORM, "connection": connection, "why": "schedule" });
    let queue = variable("FAILED_JOBS_URL").unwrap();
    stack.aws.sqs().send_message().queue_url(queue).message_body(job.to_string()).send().await.unwrap();
    let dry = text(&make(&["redrive", "QUEUE=jobs"]));
    assert!(dry.contains("check") && dry.contains("Nothing was moved"), "{dry}");
    let moved = text(&make(&["redrive", "QUEUE=jobs", "REASON=check", "RUN=1"]));
    assert!(!moved.contains("Nothing was moved"), "{moved}");
    let again = text(&make(&["redrive", "QUEUE=jobs"]));
    assert!(again.contains("The dead-letter queue is empty."), "{again}");
    let started = Instant::now();
    while store.webhooks()[0].status != "active" {
        assert!(started.elapsed() < PATIENCE * 3, "{:?}", store.webhooks());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_store_is_connected_delivers_and_is_disconnected() {
    let (stack, connection) = (Stack::new().await, "store.example.com");
    let store = Store::new(Arc::new(Http(stack.http.clone())), "ck_1", "cs_1");
    let site = store.listen().await;
    let body = json!({ "site": site, "consumer_key": "ck_1", "consumer_secret": "cs_1" });
    let scopes = declared_scopes(&woocommerce::PLATFORM).count();
    store.add_webhook("order.updated", "https://erp.example.com/");

    let wrong = json!({ "site": site, "consumer_key": "ck_1", "consumer_secret": "cs_wrong" });
    assert_eq!(stack.admin(Method::PUT, connection, &wrong).await.0, 422);
    let (status, shown) = stack.admin(Method::PUT, connection, &body).await;
    assert_eq!((status, shown["changes"]["created"].as_array().map(Vec::len)), (200, Some(scopes)), "{shown}");
    assert!(store.all_pinged());
    let (status, shown) = stack.admin(Method::PUT, connection, &body).await;
    assert_eq!((status, &shown["changes"]["kept"]), (200, &json!(scopes)));
    assert_eq!(store.webhooks().len(), scopes + 1, "created once");
    let (_, shown) = stack.admin(Method::GET, connection, &Value::Null).await;
    let active = shown["subscriptions"].as_array().unwrap().iter().filter(|s| s["status"] == "active").count();
    assert_eq!(active, scopes);

    let order = json!({ "id": 7, "status": "processing", "total": "1.00", "date_modified_gmt": "2026-11-21T01:48:40" });
    store.set("orders", 7, Some(order.clone()));
    assert_eq!(store.deliver("order.created", &order.to_string()).await, [200]);
    stack.until(connection, "order#7", |item| item.fields["status"] == "processing").await;
    // The store confirms a delete, so that an old one that is sent again deletes nothing.
    assert_eq!(store.deliver("order.deleted", r#"{"id":7}"#).await, [200]);
    stack.until(connection, "order#7", |item| item.marks.seen.is_some() && !item.deleted).await;
    store.set("orders", 7, None);
    assert_eq!(store.deliver("order.deleted", r#"{"id":7}"#).await, [200]);
    stack.until(connection, "order#7", |item| item.deleted).await;

    assert_eq!(stack.admin(Method::DELETE, connection, &Value::Null).await.0, 200);
    assert_eq!(store.webhooks().len(), 1, "only the one that is not ours");
    let record = stack.admin(Method::GET, connection, &Value::Null).await.1;
    assert_eq!((&record["status"], &record["subscriptions"]), (&json!("disconnected"), &json!([])));
}

#[tokio::test]
async fn more_keys_than_dynamodb_takes_at_once_are_read_in_parts() {
    let (stack, connection) = (Stack::new().await, "many.example.com");
    stack.connected(connection).await;
    let (entities, connections) = (variable("ENTITIES_TABLE").unwrap(), variable("CONNECTIONS_TABLE").unwrap());
    let table = DynamoEntities::new(stack.aws.dynamodb(), entities, connections);
    let connection = WebhookPath::parse(PLATFORM, connection, None).unwrap().key;
    let key = |n: u64| EntityKey { connection: connection.clone(), kind: EntityKind::Coupon, id: n.into() };
    let now = cloud::now();
    let gone = State::of(&Change::Delete(Delete { source: None, received: now }));
    let none = Map::new();
    let projection = Projection::new(DeletePolicy::Mark, &none);
    for n in 0..130 {
        let writer = Writer { by: "test", origin: Origin::Webhook, trace: None, received: None, now };
        let item = projection.item(&key(n), &gone, None, writer).unwrap();
        assert_eq!(table.put(&item, None).await.unwrap(), Put::Written);
    }
    // The keys are twice as many as the items: absent items are absent, existing ones are found.
    let keys: Vec<_> = (0..260).map(key).collect();
    let read = table.read(&keys, std::slice::from_ref(&connection)).await.unwrap();
    assert_eq!(read.items.len(), 130);
    assert!(read.connections.contains_key(&connection));
    // A write over an item that it does not know conflicts, and returns the stored item.
    let other = State::of(&Change::Delete(Delete { source: None, received: now.plus_seconds(1) }));
    let item = projection
        .item(&key(0), &other, None, Writer { by: "other", origin: Origin::Webhook, trace: None, received: None, now })
        .unwrap();
    for expected in [None, Some("another")] {
        let Put::Conflict(Some(stored)) = table.put(&item, expected).await.unwrap() else { panic!("no conflict") };
        assert_eq!(*stored, read.items[&key(0)].clone().open().unwrap().0);
    }
    assert_eq!(table.put(&item, Some(&read.items[&key(0)].clone().open().unwrap().0.rev)).await.unwrap(), Put::Written);
}

#[tokio::test]
async fn make_prints_secrets_that_stores_can_sign_with() {
    let (stack, connection) = (Stack::new().await, "by-hand.example.com");
    stack.connected(connection).await;
    let connection_argument = format!("CONNECTION={connection}");
    let printed = make(&["secret", "PLATFORM=woocommerce", &connection_argument, "SCOPE=order.deleted"]);
    assert!(printed.status.success(), "{}", text(&printed));
    let secret = String::from_utf8(printed.stdout).unwrap().trim().to_owned();
    let store = Store::new(Arc::new(Http(stack.http.clone())), "ck_1", "cs_1");
    let id = store.add_webhook("order.deleted", &format!("{}/hooks/{PLATFORM}/{connection}", stack.api_url));
    store.edit_webhook(id, |hook| hook.secret = secret);
    assert_eq!(store.deliver("order.deleted", r#"{"id":5}"#).await, [200]);
    stack.until(connection, "order#5", |item| item.deleted).await;
    let wrong = make(&["secret", "PLATFORM=woocommerce", &connection_argument, "SCOPE=order.exploded"]);
    assert!(!wrong.status.success() && text(&wrong).contains("SCOPE must be one of"), "{}", text(&wrong));
}

/// A child process that is killed with its group at the end, in any case.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn cargo_lambda_runs_the_functions_with_the_sample_events() {
    use std::os::unix::process::CommandExt;

    let stack = Stack::new().await;
    stack.connected("shop.example.com").await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let env_file = variable("ENV_FILE").unwrap();
    let log = std::fs::File::create(root().join(".local/test/cargo-lambda.log")).unwrap();
    let watch = ["lambda", "watch", "--ignore-changes", "--invoke-address", "127.0.0.1", "--invoke-port", &port];
    let child = Command::new("cargo")
        .args(watch)
        .args(["--env-file", &env_file])
        .current_dir(root())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let _watching = Watching(child);
    let invoke = |function: &str, file: &str| {
        let arguments = ["lambda", "invoke", function, "--invoke-address", "127.0.0.1", "--invoke-port", &port];
        let file = format!("events/{PLATFORM}/{file}");
        Command::new("cargo").args(arguments).args(["--data-file", &file]).current_dir(root()).output().unwrap()
    };
    // The first invocation compiles the function, and is answered after that.
    let started = Instant::now();
    while std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
        assert!(started.elapsed() < PATIENCE, "cargo lambda watch does not listen; see .local/test/cargo-lambda.log");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answered = invoke("receiver", "018-order_created.json");
    let response: Value = serde_json::from_slice(&answered.stdout).unwrap_or_else(|_| panic!("{}", text(&answered)));
    assert_eq!(response["statusCode"], 200, "{response}");
    assert!(response["headers"]["x-message-id"].is_string(), "{response}");
    let answered = invoke("processor", "015-product_created.sqs.json");
    let response: Value = serde_json::from_slice(&answered.stdout).unwrap_or_else(|_| panic!("{}", text(&answered)));
    assert_eq!(response, json!({ "batchItemFailures": [] }));
    stack.until("shop.example.com", "product#11", |item| item.fields["name"] == "Tin").await;
}

/// Connects a simulated platform with the values that it gave somebody, and enters its webhooks by hand if necessary.
/// Returns the connection's id.
async fn connects(stack: &Stack, simulator: &dyn Simulator, site: &str) -> String {
    let (platform, connection) = (simulator.platform(), simulator.connection());
    let (status, shown) = stack.admin_of(platform, Method::PUT, &connection, &simulator.settings(site)).await;
    assert_eq!(status, 200, "{platform}: {shown}");
    let manual = shown["subscriptions"].as_array().unwrap().iter().all(|hook| hook["status"] == "manual");
    if manual {
        let path = WebhookPath::parse(platform, &connection, None).unwrap();
        let secret = stack.ring.signing().webhook_secret(&path, None).reveal().to_owned();
        simulator.subscribe(shown["delivery_url"].as_str().unwrap(), &|_| secret.clone());
    }
    connection
}

/// Returns the present entities that are in no list that could be fetched.
fn unlisted(simulator: &dyn Simulator) -> BTreeSet<(EntityKind, String)> {
    let mapping = find(PLATFORMS, simulator.platform()).unwrap().mapping;
    let listed = |kind: EntityKind| processor(mapping, kind).is_some_and(|processor| processor.polling.is_some());
    let known = simulator.entities().into_iter().filter(|(kind, ..)| !listed(*kind));
    known.map(|(kind, id, _)| (kind, id)).collect()
}

/// Waits until the table agrees with a platform on every entity except `but_for`, while the platform goes on
/// delivering.
async fn agrees(
    stack: &Stack,
    simulator: &dyn Simulator,
    site: &str,
    connection: &str,
    but_for: &BTreeSet<(EntityKind, String)>,
) {
    let connected = Connected::at(simulator, site, connection);
    let started = Instant::now();
    let entities = simulator.entities();
    assert!(
        entities.len() > 3 && entities.iter().any(|(_, _, truth)| *truth != Truth::Gone),
        "{}",
        simulator.platform()
    );
    for (kind, id, truth) in entities {
        if but_for.contains(&(kind, id.clone())) {
            continue;
        }
        let key = connected.entity(kind, &id);
        loop {
            let item = stack.item_of(simulator.platform(), connection, &key.sort()).await;
            match connected.compare(&key, &truth, item.as_ref(), &cloud::now).await {
                Ok(()) => break,
                Err(differs) => assert!(started.elapsed() < PATIENCE * 3, "{differs}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            // Actions from here, such as an approval, make the platform deliver their consequences.
            deliver(stack, simulator).await;
        }
    }
}

async fn deliver(stack: &Stack, simulator: &dyn Simulator) {
    let wire = Http(stack.http.clone());
    for delivery in simulator.outbox() {
        let status = wire.send(delivery.clone()).await;
        assert_eq!(status, 200, "{delivery:?}");
        simulator.answered(&delivery, status);
    }
}

/// Waits until the webhooks of a connection are as they should be, and returns them.
async fn subscribed(stack: &Stack, platform: &str, connection: &str, good: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let started = Instant::now();
    loop {
        let path = format!("{connection}/subscriptions");
        let (status, shown) = stack.admin_of(platform, Method::GET, &path, &Value::Null).await;
        if let Some(rows) = shown["subscriptions"].as_array().filter(|rows| status == 200 && good(rows)) {
            return rows.clone();
        }
        assert!(started.elapsed() < PATIENCE * 3, "{platform} {connection}: {shown}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn all_active(rows: &[Value]) -> bool {
    !rows.is_empty() && rows.iter().all(|row| row["status"] == "active")
}

/// Connects a simulated platform, makes changes there, delivers them, and waits until the table agrees with the
/// platform.
async fn plays(simulator: Arc<dyn Simulator>, changes: usize) {
    let stack = Stack::new().await;
    let site = listen(Arc::clone(&simulator)).await;
    let connection = connects(&stack, &*simulator, &site).await;
    // A job makes the webhooks that the request had no time for.
    let stands = |row: &Value| ["active", "manual"].contains(&row["status"].as_str().unwrap_or_default());
    subscribed(&stack, simulator.platform(), &connection, |rows| rows.iter().all(stands)).await;
    let mut random = StdRng::seed_from_u64(11);
    for _ in 0..changes {
        simulator.change(&mut random);
        deliver(&stack, &*simulator).await;
    }
    agrees(&stack, &*simulator, &site, &connection, &BTreeSet::new()).await;
    verify::is_equal(simulator.platform(), &connection).await;
}

/// A merchant installs the app, works, opens the app's page, and uninstalls the app, all over HTTP.
#[tokio::test]
async fn bigcommerce_is_installed_plays_and_is_uninstalled() {
    let stack = Stack::new().await;
    let store = Arc::new(bigcommerce::Simulator::new(Arc::new(cloud::now), false));
    let site = listen(Arc::clone(&store) as Arc<dyn Simulator>).await;
    stack.set_apps(&serde_json::from_str(&app_credentials_at(&site)).unwrap()).await;
    let mut random = StdRng::seed_from_u64(11);
    // Nobody reports the earlier changes: backfill fetches them.
    for _ in 0..8 {
        store.change(&mut random);
    }
    store.outbox();
    let before = unlisted(&*store);
    install_bigcommerce(&stack.http, &stack.api_url, &store).await;
    let connection = store.connection();
    subscribed(&stack, "bigcommerce", &connection, all_active).await;
    for _ in 0..8 {
        store.change(&mut random);
        deliver(&stack, &*store).await;
    }
    agrees(&stack, &*store, &site, &connection, &before).await;
    stack.damage_is_repaired(&*store, &connection).await;

    let page =
        format!("{}/apps/bigcommerce/load?signed_payload_jwt={}", stack.api_url, store.signed_payload(&json!({})));
    look_at(&page).await;

    let token = store.signed_payload(&json!({}));
    store.uninstall();
    let callback = format!("{}/apps/bigcommerce/uninstall?signed_payload_jwt={token}", stack.api_url);
    assert_eq!(open(&stack.http, &callback).await.status, 200);
    assert_eq!(open(&stack.http, &callback).await.status, 401, "it counts once");
    let started = Instant::now();
    loop {
        let (_, shown) = stack.admin_of("bigcommerce", Method::GET, &connection, &Value::Null).await;
        if shown["status"] == "disconnected" {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{shown}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Opens the app's page in a wide and in a narrow browser. Asserts that it fits, and that nothing complains.
async fn look_at(page: &str) {
    let Some(browser) = Browser::start().await else { return };
    for (name, width, height) in [("wide", 1200, 800), ("narrow", 400, 800)] {
        browser.size(width, height).await;
        browser.open(page).await;
        let fits = browser.value("document.documentElement.scrollWidth <= window.innerWidth").await;
        assert_eq!(fits, true, "it must not scroll sideways when it is {name}");
        let text = browser.value("document.body.innerText").await;
        let text = text.as_str().unwrap();
        assert!(text.contains("abc123") && text.contains("order") && !text.contains("store/order/created"), "{text}");
        // The single webhooks are there for whoever opens them.
        browser.value("document.querySelectorAll('summary').forEach(summary => summary.click())").await;
        let opened = browser.value("document.body.innerText").await;
        assert!(opened.as_str().unwrap().contains("store/order/created"), "{opened}");
        let fits = browser.value("document.documentElement.scrollWidth <= window.innerWidth").await;
        assert_eq!(fits, true, "it must not scroll sideways when it is {name} and opened");
        let background = browser.value("getComputedStyle(document.body).backgroundColor").await;
        assert_ne!(background, "rgba(0, 0, 0, 0)", "its style is allowed by its own policy");
        browser.picture(&root().join(format!(".local/test/load-{name}.png"))).await;
        let complaints = browser.complaints().await;
        let ours = complaints.iter().filter(|complaint| !complaint.contains("favicon.ico"));
        assert_eq!(ours.count(), 0, "{complaints:?}");
    }
}

/// A site hands over its keys, its webhooks are made, and its entities are fetched. The schedule repairs any damage
/// there by itself.
#[tokio::test]
async fn woocommerce_is_installed_and_looked_after() {
    let stack = Stack::new().await;
    let clock: tests::platforms::Clock = Arc::new(cloud::now);
    let shop = Store::new(Arc::new(Http(stack.http.clone())), "ck_1", "cs_1").with_clock(clock);
    let mut random = StdRng::seed_from_u64(5);
    for _ in 0..10 {
        shop.change(&mut random);
    }
    let site = listen(Arc::new(shop.clone())).await;
    install_woocommerce(&stack.http, &stack.api_url, &site).await;
    let connection = connection_id(&site);
    let rows = subscribed(&stack, PLATFORM, &connection, all_active).await;
    assert_eq!(rows.len(), declared_scopes(&woocommerce::PLATFORM).count());
    let before = unlisted(&shop);
    agrees(&stack, &shop, &site, &connection, &before).await;

    let hooks = shop.webhooks();
    shop.edit_webhook(hooks[0].id, |hook| hook.status = "disabled".into());
    shop.edit_webhook(hooks[1].id, |hook| hook.delivery_url = "https://elsewhere.example.com/".into());
    shop.remove_webhook(hooks[2].id);
    // Only the other webhooks report the changes in the meantime.
    let wire = Http(stack.http.clone());
    for _ in 0..12 {
        shop.change(&mut random);
        for delivery in shop.outbox().into_iter().filter(|delivery| delivery.url.starts_with(&stack.api_url)) {
            let status = wire.send(delivery.clone()).await;
            shop.answered(&delivery, status);
        }
    }
    let (lost, wanted) = (shop.webhooks().len(), declared_scopes(&woocommerce::PLATFORM).count());
    // The moved webhook is made again before it is removed.
    let is_right = |rows: &[Value]| all_active(rows) && rows.len() == wanted && shop.webhooks().len() > lost;
    subscribed(&stack, PLATFORM, &connection, is_right).await;
    let started = Instant::now();
    let right =
        || shop.webhooks().iter().all(|hook| hook.status == "active" && hook.delivery_url == hooks[0].delivery_url);
    while !right() {
        assert!(started.elapsed() < PATIENCE * 3, "{:?}", shop.webhooks());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    agrees(&stack, &shop, &site, &connection, &before).await;
    verify::is_equal(PLATFORM, &connection).await;
    let (status, shown) = stack.admin(Method::DELETE, &connection, &Value::Null).await;
    assert_eq!((status, &shown["status"]), (200, &json!("disconnected")));
    assert!(shop.webhooks().is_empty(), "nothing is left behind");
}

#[tokio::test]
async fn cloudblue_plays_and_its_requests_are_approved_once() {
    let policy = json!([
        { "when": { "empty_parameter": "domain" }, "inquire": { "template": "TL-2", "errors": { "domain": "Enter a domain." } } },
        { "approve": { "template": "TL-1" } },
    ]);
    let connect = Arc::new(cloudblue::Connect::with_policy(Arc::new(cloud::now), policy));
    plays(Arc::clone(&connect) as Arc<dyn Simulator>, 10).await;
    let actions = connect.actions();
    assert!(actions.keys().any(|(_, action)| action == "approve"), "{actions:?}");
    assert!(actions.iter().all(|((_, action), times)| action == "inquire" || *times == 1), "{actions:?}");
}

#[tokio::test]
async fn shopify_plays() {
    let stack = Stack::new().await;
    let apps: Value = serde_json::from_str(&app_credentials()).unwrap();
    stack.set_apps(&json!({ "shopify": apps["shopify"] })).await;
    let shop = shopify::Shop::new(Arc::new(cloud::now));
    // On Plus, the test waits for no points.
    shop.set_plan(1_000.0);
    plays(Arc::new(shop), 25).await;
}

#[tokio::test]
async fn directscale_plays() {
    plays(Arc::new(directscale::DirectScale::new(Arc::new(cloud::now))), 12).await;
}

#[tokio::test]
async fn declared_senders_deliver_and_greet() {
    let (stack, secret) = (Stack::new().await, "whsec_the secret of a test");
    let settings = json!({ "preset": "stripe", "keys": [{ "id": "2026", "key": secret }] });
    let (status, shown) = stack.admin_of("custom", Method::PUT, "declared", &settings).await;
    assert_eq!(status, 200, "{shown}");
    assert!(shown.to_string().contains("/hooks/custom/declared") && !shown.to_string().contains(secret), "{shown}");
    let at = cloud::now().seconds();
    let payment = json!({ "id": "pi_1", "amount": 1099, "currency": "eur", "status": "succeeded", "created": at });
    let event =
        json!({ "id": "evt_1", "type": "payment_intent.succeeded", "created": at, "data": { "object": payment } });
    let body = event.to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{at}.{body}").as_bytes());
    let signature = format!("t={at},v1={}", hex::encode(mac.finalize().into_bytes()));
    let headers = [("stripe-signature", signature.as_str()), ("content-type", "application/json")];
    assert_eq!(stack.call(Method::POST, "/hooks/custom/declared", &headers, &body).await.0, 200);
    let order = stack.until_of("custom", "declared", "order#pi_1", |item| !item.deleted).await;
    assert_eq!((&order.fields["totals"]["total"], &order.fields["currency"]), (&json!("10.99"), &json!("EUR")));
    for path in ["/hooks/custom/declared/2", "/hooks/custom/another"] {
        assert_eq!(stack.call(Method::POST, path, &headers, &body).await.0, 401, "{path}");
    }
    let forged = body.replace("1099", "1");
    assert_eq!(stack.call(Method::POST, "/hooks/custom/declared", &headers, &forged).await.0, 401);

    let settings = json!({ "preset": "meta", "keys": ["a secret"], "constants": { "verify_token": "my token" } });
    assert_eq!(stack.admin_of("custom", Method::PUT, "greets", &settings).await.0, 200);
    let greeting = "/hooks/custom/greets?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=";
    for (token, answer) in [("my%20token", (200, "1158201444")), ("another", (401, ""))] {
        let (status, text) = stack.call(Method::GET, &format!("{greeting}{token}"), &[], "").await;
        assert_eq!((status, text.as_str()), answer);
    }
}

#[tokio::test]
async fn a_trigger_can_come_by_get() {
    let stack = Stack::new().await;
    let webhooks = json!({ "webhooks": ["WH-000-000-001"] });
    assert_eq!(stack.admin_of("cloudblue", Method::PUT, "va-get", &webhooks).await.0, 200);
    let sample = tools::events::load("cloudblue").unwrap().into_iter().find(|event| event.name.contains("trigger"));
    let mut get = sample.unwrap();
    get.request["pathParameters"]["connection"] = "va-get".into();
    get.sign(&stack.ring);
    let token = get.request["headers"]["authorization"].as_str().unwrap().to_owned();
    let (status, _) = stack.call(Method::GET, "/hooks/cloudblue/va-get", &[("authorization", &token)], "").await;
    assert_eq!(status, 200);
    let (status, _) =
        stack.call(Method::GET, "/hooks/cloudblue/va-get", &[("authorization", "Bearer x.y.z")], "").await;
    assert_eq!(status, 401);
    // Stores of another platform never deliver by GET.
    let (status, _) = stack.call(Method::GET, "/hooks/woocommerce/va-get", &[], "").await;
    assert_eq!(status, 405);
}
