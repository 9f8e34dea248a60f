//! The bundle on in-memory edges: the three functions as they are, with twins of queue, tables, secrets and vault.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use cloud::{
    memory::{MemoryPlatform, MemoryQueues, MemorySecret, MemoryTables, MemoryVault},
    outbound::Outbound,
    secrets::Keys,
};
use commerce::{
    api::{ApiRequest, ApiResponse, Fault},
    connection::{Connection, ConnectionKey, ConnectionStatus, Generation},
    item::Item,
    platforms::{PLATFORMS, Platform},
    request::HookPath,
    stamp::Stamp,
};
use futures_util::future::BoxFuture;
use lambda_http::{Body, Request, Response};
use processor::{End, Message, Processor, batch::Report};
use receiver::Receiver;
use registrar::{ADMIN_TOKEN, Edges, Registrar};
use serde_json::{Value, json};
use tools::events::{Event, sample_ring};

use crate::platforms::woocommerce::{Store, Wire};

/// The platform of the sample events.
pub const PLATFORM: &str = "woocommerce";
/// The connection of the sample events.
pub const CONNECTION: &str = "shop.example.com";
/// Where the receiver is reached.
pub const BASE: &str = "https://hooks.example.com";
/// The admin key.
pub const ADMIN_KEY: &str = "an-admin-key-of-at-least-32-bytes";

/// The text of the signing ring: the sample key.
pub fn signing_keys() -> String {
    json!({ "keys": [{ "id": tools::events::SAMPLE_KEY_ID, "state": "sign", "secret": tools::events::SAMPLE_KEY }] })
        .to_string()
}

/// A clock that stands until it is moved.
#[derive(Clone)]
pub struct Clock(Arc<AtomicI64>);

impl Default for Clock {
    /// A minute after the first recorded delivery.
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(1_795_225_781_000_000)))
    }
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> Stamp {
        Stamp::from_micros(self.0.load(Ordering::SeqCst))
    }

    /// Lets time pass.
    pub fn pass_seconds(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }

    fn function(&self) -> Arc<dyn Fn() -> Stamp + Send + Sync> {
        let clock = self.clone();
        // Each look takes a microsecond, so that no two are the same.
        Arc::new(move || Stamp::from_micros(clock.0.fetch_add(1, Ordering::SeqCst)))
    }
}

/// What platforms are called with: a simulated store, or something scripted.
#[derive(Clone)]
pub enum Outside {
    /// A store.
    Store(Store),
    /// Something scripted.
    Scripted(MemoryPlatform),
    /// Something that never answers.
    Silent,
}

impl Outbound for Outside {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, Fault> {
        match self {
            Self::Store(store) => store.call(request).await,
            Self::Scripted(platform) => platform.call(request).await,
            Self::Silent => std::future::pending().await,
        }
    }
}

/// The bundle.
#[derive(Clone)]
pub struct World {
    /// The clock of all functions.
    pub clock: Clock,
    /// Both queues.
    pub queues: MemoryQueues,
    /// Both tables.
    pub tables: MemoryTables,
    /// The signing keys.
    pub signing: MemorySecret,
    /// The receiver.
    pub receiver: Arc<Receiver<MemoryQueues, MemorySecret>>,
    /// What platforms are called with.
    pub outside: Outside,
}

/// Posts straight to the receiver.
struct Direct(Arc<Receiver<MemoryQueues, MemorySecret>>, Clock);

impl Wire for Direct {
    fn post(&self, url: String, headers: Vec<(String, String)>, body: Bytes) -> BoxFuture<'_, u16> {
        Box::pin(async move {
            self.1.pass_seconds(1);
            let Some(path) = url.strip_prefix(BASE) else { return 0 };
            let parts: Vec<&str> = path.split('/').skip(2).collect();
            let names = ["platform", "connection", "generation"];
            let parameters: BTreeMap<_, _> = names.into_iter().zip(parts).collect();
            let headers: BTreeMap<_, _> = headers.into_iter().collect();
            let event = json!({
                "version": "2.0", "routeKey": "POST /hooks/{platform}/{connection}", "rawPath": path,
                "rawQueryString": "", "headers": headers, "pathParameters": parameters,
                "requestContext": {
                    "http": { "method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "store" },
                    "stage": "$default", "timeEpoch": self.1.now().micros() / 1000,
                },
                "body": String::from_utf8(body.to_vec()).unwrap(), "isBase64Encoded": false,
            });
            self.0.receive(request(&event)).await.status().as_u16()
        })
    }
}

/// An API Gateway event as the function gets it.
pub fn request(event: &Value) -> Request {
    lambda_http::request::from_str(&event.to_string()).unwrap()
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// With a simulated store behind it that has the key `ck_1`, `cs_1`.
    pub fn new() -> Self {
        let (clock, queues, signing) = (Clock::default(), MemoryQueues::default(), MemorySecret::new(&signing_keys()));
        let keys = Keys::new(signing.clone());
        let receiver = Arc::new(Receiver::new(PLATFORMS, queues.clone(), keys, clock.function()));
        let store = Store::new(Arc::new(Direct(Arc::clone(&receiver), clock.clone())), "ck_1", "cs_1");
        let outside = Outside::Store(store);
        Self { clock, queues, tables: MemoryTables::default(), signing, receiver, outside }
    }

    /// With the sample connection, entered by hand.
    pub fn connected() -> Self {
        let world = Self::new();
        world.connect(None);
        world
    }

    /// Puts the sample connection there, with or without credentials for the store.
    pub fn connect(&self, credentials: Option<&str>) {
        let connection = Connection {
            revision: 1,
            status: ConnectionStatus::Active,
            generation: Generation::FIRST,
            site: "https://shop.example.com".into(),
            credentials: credentials.map(|plain| format!("{}|{plain}", key())),
            deletes: BTreeMap::new(),
        };
        self.tables.connect(&key(), connection);
    }

    /// The sample connection as the table has it.
    pub fn connection(&self) -> Connection {
        self.tables.connection(&key()).connection.unwrap()
    }

    /// The simulated store.
    pub fn store(&self) -> &Store {
        match &self.outside {
            Outside::Store(store) => store,
            _ => panic!("there is no store here"),
        }
    }

    /// A processor, new each time, as a cold start would make it.
    pub fn processor(&self) -> Processor<MemoryTables, MemoryQueues, MemoryVault, Outside> {
        self.processor_for(PLATFORMS)
    }

    /// A processor for other platforms.
    pub fn processor_for(
        &self,
        platforms: &'static [Platform],
    ) -> Processor<MemoryTables, MemoryQueues, MemoryVault, Outside> {
        let (tables, queues, outside) = (self.tables.clone(), self.queues.clone(), self.outside.clone());
        Processor::new(platforms, tables, queues, MemoryVault, outside, self.clock.function())
    }

    /// A registrar, new each time.
    pub fn registrar(&self) -> Registrar<MemoryTables, MemoryVault, MemorySecret, Outside> {
        let edges = Edges {
            connections: self.tables.clone(),
            vault: MemoryVault,
            signing_keys: Keys::new(self.signing.clone()),
            admin_keys: Keys::new(MemorySecret::new(ADMIN_KEY)),
            outbound: self.outside.clone(),
        };
        Registrar::new(PLATFORMS, edges, BASE, false, self.clock.function())
    }

    /// Lets the receiver answer a sample event.
    pub async fn receive(&self, event: &Event) -> Response<Body> {
        self.receiver.receive(request(&event.request)).await
    }

    /// Processes messages as one batch, with time enough.
    pub async fn process(&self, messages: &[Message]) -> Report {
        let deadline = self.clock.now().plus_seconds(60);
        self.processor().process(messages, deadline).await
    }

    /// Processes everything that is on the queue by now, as one batch, and gives the outcomes in order.
    pub async fn drain(&self, already: usize) -> Vec<String> {
        let sent = self.queues.sent();
        let messages: Vec<_> =
            sent.iter().enumerate().skip(already).map(|(n, (sealed, _))| message(n, sealed.text())).collect();
        let report = self.process(&messages).await;
        outcomes(&report)
    }

    /// Asks the admin interface as somebody with a good token.
    pub async fn admin(&self, method: &str, connection: &str, query: &str, body: &str) -> (u16, Value) {
        let ring = commerce::keys::KeyRing::parse(ADMIN_KEY).unwrap();
        let token = ADMIN_TOKEN.mint(&ring, self.clock.now(), 900).unwrap();
        self.admin_with(&format!("Bearer {token}"), method, connection, query, body).await
    }

    /// Asks the admin interface with any `Authorization`.
    pub async fn admin_with(
        &self,
        authorization: &str,
        method: &str,
        connection: &str,
        query: &str,
        body: &str,
    ) -> (u16, Value) {
        let path = format!("/admin/connections/{PLATFORM}/{connection}");
        let event = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query,
            "headers": { "authorization": authorization },
            "queryStringParameters": query.split_once('=').map(|(name, value)| json!({ name: value })),
            "pathParameters": { "platform": PLATFORM, "connection": connection },
            "requestContext": {
                "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "x" },
                "stage": "$default",
            },
            "body": body, "isBase64Encoded": false,
        });
        let response = self.registrar().answer(request(&event)).await;
        let body = serde_json::from_slice(response.body().as_ref()).unwrap_or_default();
        (response.status().as_u16(), body)
    }

    /// Everything in the table, without what only says when and by whom it was written.
    pub fn state(&self) -> Vec<Item> {
        let mut items = self.tables.items();
        for item in &mut items {
            item.by.clear();
            item.changed_at.clear();
        }
        items
    }

    /// One item.
    pub fn item(&self, sort: &str) -> Item {
        self.tables.items().into_iter().find(|item| item.sk == sort).unwrap_or_else(|| panic!("no {sort}"))
    }
}

/// The sample connection.
pub fn key() -> ConnectionKey {
    HookPath::parse(PLATFORM, CONNECTION, None).unwrap().key
}

/// The sample events.
pub fn events() -> Vec<Event> {
    tools::events::load(PLATFORM).unwrap()
}

/// The sample event whose name begins so.
pub fn event(prefix: &str) -> Event {
    events().into_iter().find(|event| event.name.starts_with(prefix)).unwrap()
}

/// A message with a text.
pub fn message(n: usize, text: &str) -> Message {
    Message { id: format!("m{n}"), receipt_handle: format!("r{n}"), body: text.to_owned(), attempts: 1 }
}

/// The messages of all recorded deliveries.
pub fn messages() -> Vec<Message> {
    let ring = sample_ring();
    let sealed = events().into_iter().filter_map(|event| event.sealed(&ring));
    sealed.enumerate().map(|(n, sealed)| message(n, sealed.text())).collect()
}

/// A message of the sample connection, as the receiver would make it.
pub fn delivered(scope: &str, body: &str, received_ms: i64) -> Message {
    let mut event = event("027");
    event.request["headers"]["x-wc-webhook-topic"] = scope.into();
    event.request["requestContext"]["timeEpoch"] = received_ms.into();
    event.request["body"] = body.into();
    event.sign(&sample_ring());
    message(usize::try_from(received_ms % 100_000).unwrap(), event.sealed(&sample_ring()).unwrap().text())
}

/// How the messages of a batch ended.
pub fn outcomes(report: &Report) -> Vec<String> {
    report
        .ends
        .iter()
        .map(|(_, end)| match end {
            End::Outcome(outcome) => outcome.to_string(),
            End::Deferred(seconds) => format!("deferred by {seconds} s"),
            End::Failed(reason, _) => format!("failed: {}", reason.name()),
            End::Unfinished => "unfinished".to_owned(),
        })
        .collect()
}
