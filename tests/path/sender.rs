//! The sender on the twins of its edges: changes go on to endpoints, signed, in the order of each subject, whatever an
//! endpoint does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

use bytes::Bytes;
use cloud::memory::{MemoryDeliveries, MemoryPlatform, MemoryTables, MemoryVault};
use commerce::{
    change_event::{ChangeEvent, Detail},
    endpoint::TRIED_SECONDS,
    http_call::{ApiRequest, ApiResponse, Fault},
};
use http::HeaderMap;
use sender::{Edges, Message, Parts, Sender};
use serde_json::{Value, json};
use tests::world::World;

use crate::publisher::{recorded, told};

struct InMemory;

impl Parts for InMemory {
    type Endpoints = MemoryTables;
    type Vault = MemoryVault;
    type Notes = MemoryTables;
    type Outbound = MemoryPlatform;
    type Deliveries = MemoryDeliveries;
}

/// An application that changes are sent to.
#[derive(Clone)]
struct Application {
    status: Arc<AtomicU16>,
    calls: Arc<Mutex<Vec<ApiRequest>>>,
    taken: Arc<Mutex<Vec<ChangeEvent>>>,
}

impl Application {
    fn new() -> Self {
        Self { status: Arc::new(AtomicU16::new(200)), calls: Arc::default(), taken: Arc::default() }
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn platform(&self) -> MemoryPlatform {
        let own = self.clone();
        MemoryPlatform::new(move |request| {
            own.calls.lock().unwrap().push(request.clone());
            let status = own.status.load(Ordering::SeqCst);
            if status == 0 {
                return Err(Fault::Unavailable("no answer".into()));
            }
            if status == 200 {
                own.taken.lock().unwrap().push(serde_json::from_slice(&request.body).unwrap());
            }
            Ok(ApiResponse { status, headers: HeaderMap::new(), body: Bytes::new() })
        })
    }

    fn taken(&self) -> Vec<ChangeEvent> {
        self.taken.lock().unwrap().clone()
    }

    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

struct Sending {
    world: World,
    application: Application,
    deliveries: MemoryDeliveries,
    sender: Sender<InMemory>,
}

impl Sending {
    fn new(world: World) -> Self {
        let (application, deliveries) = (Application::new(), MemoryDeliveries::new(world.clock.function()));
        let edges = Edges::<InMemory> {
            endpoints: world.tables.clone(),
            vault: MemoryVault,
            notes: world.tables.clone(),
            outbound: application.platform(),
            deliveries: deliveries.clone(),
        };
        let sender = Sender::new(edges, world.clock.function());
        Self { world, application, deliveries, sender }
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let token = self.world.bearer("read write reveal");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.world.ask(Some(&token), method, &format!("/admin/endpoints{path}"), "", &body).await;
        (answer.status().as_u16(), serde_json::from_slice(answer.body().as_ref()).unwrap())
    }

    /// Makes an endpoint. Returns its id and its secret.
    async fn endpoint(&self, more: Value) -> (String, String) {
        let mut body = json!({ "url": "https://app.example.com/changes?x=1" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, made) = self.ask("POST", "", &body).await;
        assert_eq!(status, 201, "{made}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        // The list is read again.
        self.world.clock.pass_seconds(31);
        (text(&made["endpoint"]["id"]), text(&made["secret"]))
    }

    /// Hands events of the bus to the sender, as a rule does.
    async fn tell(&self, events: &[ChangeEvent]) {
        let at = self.world.clock.now();
        let message = |(n, event): (usize, &ChangeEvent)| {
            let envelope = json!({ "source": "commerce-hooks", "detail-type": event.kind, "detail": event });
            Message {
                id: format!("m{n}"),
                receipt_handle: String::new(),
                body: envelope.to_string(),
                attempts: 1,
                sent: at,
            }
        };
        let messages: Vec<_> = events.iter().enumerate().map(message).collect();
        assert_eq!(self.sender.fan_out(&messages).await, Vec::<String>::new());
    }

    /// Delivers what is visible. Returns the number of deliveries that were received.
    async fn step(&self) -> usize {
        let received = self.deliveries.receive(10);
        let messages: Vec<_> = received
            .iter()
            .map(|waiting| Message {
                id: waiting.handle.clone(),
                receipt_handle: waiting.handle.clone(),
                body: serde_json::to_string(&waiting.delivery).unwrap(),
                attempts: waiting.attempts,
                sent: waiting.sent,
            })
            .collect();
        let failures = self.sender.deliver(&messages).await;
        for message in messages.iter().filter(|message| !failures.contains(&message.id)) {
            self.deliveries.remove(&message.id);
        }
        messages.len()
    }

    /// Delivers for so many seconds, or until nothing is left.
    async fn run(&self, seconds: i64) {
        let until = self.world.clock.now().plus_seconds(seconds);
        while !self.deliveries.is_empty() && self.world.clock.now() < until {
            if self.step().await == 0 {
                self.world.clock.pass_seconds(10);
            }
        }
    }
}

/// Sends events on to an endpoint, which takes them all.
pub async fn sent_on(world: &World, events: &[ChangeEvent]) {
    let sending = Sending::new(world.clone());
    sending.endpoint(json!({})).await;
    sending.tell(events).await;
    sending.run(24 * 3600).await;
    assert!(sending.deliveries.is_empty());
}

/// Returns the sequences of each subject, in the order in which they came.
fn by_subject(events: &[ChangeEvent]) -> BTreeMap<String, Vec<String>> {
    let mut subjects: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events {
        let subject = format!("{} {}", event.source, event.subject);
        subjects.entry(subject).or_default().push(event.sequence.clone());
    }
    subjects
}

fn in_order(sequences: &[String]) -> bool {
    sequences.windows(2).all(|pair| pair[0] <= pair[1])
}

#[tokio::test]
async fn an_endpoint_that_fails_for_an_hour_gets_everything_in_order_afterwards() {
    let world = recorded().await;
    let events = told(&world, 0, Detail::Full).await;
    let sending = Sending::new(world);
    sending.endpoint(json!({})).await;
    assert!(events.len() > 10);
    sending.application.answers(503);
    // More comes while it fails.
    let (first, rest) = events.split_at(events.len() / 2);
    sending.tell(first).await;
    sending.run(1_800).await;
    sending.tell(rest).await;
    sending.run(1_800).await;
    assert_eq!(sending.application.taken(), []);
    let calls = sending.application.calls();
    assert!((5..60).contains(&calls), "it is left alone: {calls} calls");
    sending.application.answers(200);
    sending.run(24 * 3600).await;
    let taken = sending.application.taken();
    let ids = |events: &[ChangeEvent]| events.iter().map(|event| event.id.clone()).collect::<BTreeSet<_>>();
    assert_eq!(ids(&taken), ids(&events));
    assert_eq!(taken.len(), events.len(), "none comes twice");
    assert!(by_subject(&taken).values().all(|sequences| in_order(sequences)));
    assert!(by_subject(&taken).values().any(|sequences| sequences.len() > 1));
    assert!(sending.deliveries.is_empty() && sending.deliveries.given_up().is_empty());
}

#[tokio::test]
async fn what_comes_late_or_twice_never_overtakes() {
    let world = recorded().await;
    let events = told(&world, 0, Detail::Full).await;
    let sending = Sending::new(world);
    sending.endpoint(json!({})).await;
    // The bus hands the later ones over first, and all once more.
    let reversed: Vec<_> = events.iter().rev().cloned().collect();
    sending.tell(&reversed).await;
    sending.run(3600).await;
    sending.world.clock.pass_seconds(600);
    sending.tell(&events).await;
    sending.run(3600).await;
    let taken = by_subject(&sending.application.taken());
    assert!(taken.values().all(|sequences| in_order(sequences)));
    for (subject, sequences) in by_subject(&events) {
        assert_eq!(taken[&subject].last(), sequences.iter().max(), "{subject} ends with its last state");
    }
}

/// Returns whether the specification's own library makes a signature that a call has, with this secret.
fn signs(secret: &str, call: &ApiRequest) -> bool {
    let header = |name: &str| call.headers[name].to_str().unwrap();
    let at = header("webhook-timestamp").parse().unwrap();
    let webhook = standardwebhooks::Webhook::new(secret).unwrap();
    let signature = webhook.sign(header("webhook-id"), at, &call.body).unwrap();
    header("webhook-signature").split(' ').any(|given| given == signature)
}

#[tokio::test]
async fn a_delivery_is_signed_as_standard_webhooks_with_the_former_secret_too() {
    let world = recorded().await;
    let event = told(&world, 0, Detail::Full).await.remove(0);
    let sending = Sending::new(world);
    let (id, first) = sending.endpoint(json!({})).await;
    let (status, renewed) = sending.ask("POST", &format!("/{id}/secret"), &Value::Null).await;
    assert_eq!(status, 200);
    let second = renewed["secret"].as_str().unwrap().to_owned();
    sending.world.clock.pass_seconds(31);
    sending.tell(std::slice::from_ref(&event)).await;
    sending.run(60).await;
    let call = sending.application.calls.lock().unwrap()[0].clone();
    assert_eq!(call.url.as_str(), "https://app.example.com/changes?x=1");
    let header = |name: &str| call.headers[name].to_str().unwrap().to_owned();
    assert_eq!((header("webhook-id"), header("content-type")), (event.id, "application/cloudevents+json".to_owned()));
    // The specification's own library makes the same signatures.
    assert_eq!((signs(&first, &call), signs(&second, &call)), (true, true));
    assert_ne!(first, second);
    // A day later only the new one signs.
    sending.world.clock.pass_seconds(25 * 3600);
    let world = recorded().await;
    let other = told(&world, 0, Detail::Full).await.pop().unwrap();
    sending.tell(&[other]).await;
    sending.run(60).await;
    let last = sending.application.calls.lock().unwrap().last().unwrap().clone();
    assert_eq!((signs(&first, &last), signs(&second, &last)), (false, true));
}

#[tokio::test]
async fn an_endpoint_gets_what_its_filter_lets_through() {
    let world = recorded().await;
    let events = told(&world, 0, Detail::Ids).await;
    let sending = Sending::new(world);
    for (filter, passes) in [
        (json!({ "types": ["order.*"] }), "order."),
        (json!({ "types": ["*.deleted"], "platforms": ["woocommerce"] }), ".deleted"),
        (json!({ "connections": ["woocommerce/other.example.com"] }), "nothing"),
        (json!({ "platforms": ["bigcommerce"] }), "nothing"),
        (json!({ "connections": ["woocommerce/shop.example.com"], "types": ["customer.created"] }), "customer.created"),
    ] {
        let (id, _) = sending.endpoint(filter.clone()).await;
        let before = sending.application.taken().len();
        sending.world.clock.pass_seconds(600);
        sending.tell(&events).await;
        sending.run(3600).await;
        let taken = sending.application.taken().split_off(before);
        let wanted = events.iter().filter(|event| event.kind.contains(passes)).count();
        assert_eq!(taken.len(), wanted, "{filter}");
        assert!(taken.iter().all(|event| event.kind.contains(passes)));
        assert_eq!(sending.ask("DELETE", &format!("/{id}"), &Value::Null).await.0, 200);
        sending.world.clock.pass_seconds(31);
    }
}

#[tokio::test]
async fn what_was_tried_for_three_days_is_put_aside_and_what_is_paused_waits() {
    let world = recorded().await;
    let events = told(&world, 0, Detail::Ids).await;
    let sending = Sending::new(world);
    let (id, _) = sending.endpoint(json!({ "types": ["product.*"] })).await;
    sending.application.answers(0);
    sending.tell(&events).await;
    sending.run(TRIED_SECONDS + 24 * 3600).await;
    let given_up = sending.deliveries.given_up().len();
    assert!(given_up > 1 && sending.deliveries.is_empty(), "{given_up}");
    sending.application.answers(200);
    let url = "https://app.example.com/changes";
    let paused = json!({ "url": url, "paused": true });
    assert_eq!(sending.ask("PUT", &format!("/{id}"), &paused).await.1["paused"], true);
    sending.world.clock.pass_seconds(3600);
    sending.tell(&events).await;
    sending.run(3600).await;
    assert_eq!(sending.application.taken(), []);
    assert_eq!(sending.ask("PUT", &format!("/{id}"), &json!({ "url": url })).await.1["paused"], false);
    sending.run(3600).await;
    assert_eq!(sending.application.taken().len(), events.len());
    // What is on its way to an endpoint that is removed is dropped.
    sending.world.clock.pass_seconds(600);
    sending.tell(&events).await;
    sending.ask("DELETE", &format!("/{id}"), &Value::Null).await;
    sending.world.clock.pass_seconds(31);
    let before = sending.application.calls();
    sending.run(3600).await;
    assert!(sending.deliveries.is_empty() && sending.application.calls() == before);
}

#[tokio::test]
async fn endpoints_are_kept_without_showing_their_secrets() {
    let sending = Sending::new(World::new());
    let (id, secret) = sending.endpoint(json!({ "types": ["order.created"] })).await;
    assert!(secret.starts_with("whsec_"));
    let (status, shown) = sending.ask("GET", &format!("/{id}"), &Value::Null).await;
    assert_eq!((status, &shown["types"]), (200, &json!(["order.created"])));
    let (_, listed) = sending.ask("GET", "", &Value::Null).await;
    assert_eq!(listed["endpoints"], json!([shown]));
    assert!(!listed.to_string().contains(&secret));
    for (body, detail) in [
        (json!({}), "url: must be the address of the endpoint"),
        (json!({ "url": "http://app.example.com" }), "url: must begin with https://"),
        (json!({ "url": "https://10.0.0.1/x" }), "url: must have a host name"),
        (json!({ "url": "https://app.example.com:8443/x" }), "url: must be on port 443"),
        (json!({ "url": "https://u:p@app.example.com/x" }), "url: must have no user"),
        (json!({ "url": "https://a.example.com", "types": ["order"] }), "types: must be a list"),
        (json!({ "url": "https://a.example.com", "platforms": ["x"] }), "platforms: must be a list"),
        (json!({ "url": "https://a.example.com", "connections": ["x/y"] }), "connections: must be a list"),
        (json!({ "url": "https://a.example.com", "secret": "x" }), "body: may have no other members"),
    ] {
        let (status, problem) = sending.ask("POST", "", &body).await;
        let given = problem["detail"].as_str().unwrap();
        assert!(status == 422 && given.starts_with(detail), "{body}: {given}");
    }
    assert_eq!(sending.ask("GET", "/ep-0000000000000000", &Value::Null).await.0, 404);
    // Only who may see secrets may make one.
    let token = sending.world.bearer("read write");
    let body = json!({ "url": "https://a.example.com" }).to_string();
    assert_eq!(sending.world.ask(Some(&token), "POST", "/admin/endpoints", "", &body).await.status(), 403);
}
