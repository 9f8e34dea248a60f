//! The bundle on in-memory edges: the real three functions, with twins of the queues, tables, secrets and vault.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
};

use cloud::{
    key_sets::KeySets,
    memory::{MemoryBus, MemoryPlatform, MemoryQueues, MemorySecret, MemoryTables, MemoryVault},
    outbound::Outbound,
    proof_keys::CachedProofKeys,
    queue::Jobs,
    secrets::{AppCredentials, Keys},
    senders::CachedSenders,
    telemetry::traced,
};
use commerce::{
    change_event::Detail,
    connection::Connection,
    http_call::{ApiRequest, ApiResponse, Fault, Loopback},
    item::Item,
    job::Job,
    key::ConnectionKey,
    platform::Platform,
    platforms::{INBOUND, PLATFORMS},
    request::WebhookPath,
    scheme::{Scheme, hmac::KeySource},
    timestamp::Timestamp,
};
use futures_util::future::BoxFuture;
use lambda_http::{Body, Request, Response};
use processor::{Changes, Disposition, Message, Processor, batch::Report};
use receiver::Receiver;
use registrar::{ADMIN_TOKEN, PERMISSIONS, Registrar};
use serde_json::{Value, json};
use tools::events::{Event, sample_ring};

use crate::platforms::{Delivery, Simulator, Wire, bigcommerce, shopify, woocommerce::Store};

/// The platform of the sample events.
pub const PLATFORM: &str = "woocommerce";
/// The connection of the sample events.
pub const CONNECTION: &str = "shop.example.com";
/// The address of the receiver.
pub const BASE: &str = "https://hooks.example.com";
/// The admin key.
pub const ADMIN_KEY: &str = "an-admin-key-of-at-least-32-bytes";

/// Returns the platforms whose deliveries mean the same for every connection: all but declared senders.
pub fn coded() -> impl Iterator<Item = &'static Platform> {
    PLATFORMS.iter().filter(|platform| platform.mapping.by_settings().is_none())
}

/// Returns whether all connections of a platform sign with one secret, which is the app's own.
pub fn signs_by_app(platform: &Platform) -> bool {
    matches!(platform.delivery.scheme(), Scheme::Hmac(scheme) if scheme.keys == KeySource::AppSecret)
}

/// Returns the text of the signing ring, which has the sample key.
pub fn signing_keys() -> String {
    json!({ "keys": [{ "id": tools::events::SAMPLE_KEY_ID, "state": "sign", "secret": tools::events::SAMPLE_KEY }] })
        .to_string()
}

/// The key of links that begin an installation. It is public: only the local AWS accepts it.
pub const INSTALL_KEY: &str = "commerce-hooks-sample-install-key";

/// Returns the text of the app credentials: the simulated platforms' signing secrets, and the key of installation
/// links.
pub fn app_credentials() -> String {
    json!({
        "bigcommerce": { "client_id": bigcommerce::CLIENT_ID, "client_secret": bigcommerce::CLIENT_SECRET },
        "shopify": { "client_id": shopify::CLIENT_ID, "client_secret": shopify::client_secret() },
        "woocommerce": { "install_key": INSTALL_KEY },
    })
    .to_string()
}

/// Returns the text of the app credentials for a simulated platform that listens at a site.
pub fn app_credentials_at(site: &str) -> String {
    let mut credentials: Value = serde_json::from_str(&app_credentials()).unwrap();
    credentials["bigcommerce"]["login_url"] = site.into();
    credentials["bigcommerce"]["api_url"] = site.into();
    credentials["shopify"]["api_url"] = site.into();
    credentials.to_string()
}

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub struct Clock(Arc<AtomicI64>);

impl Default for Clock {
    /// Returns a clock at one minute after the first recorded delivery.
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(1_795_225_781_000_000)))
    }
}

impl Clock {
    /// Returns the time.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }

    /// Lets time pass.
    pub fn pass_seconds(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }

    /// Lets less than a second pass.
    pub fn pass_micros(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }

    /// Returns the clock as the functions take it.
    pub fn function(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let clock = self.clone();
        // Each reading takes a microsecond, so that no two are equal.
        Arc::new(move || Timestamp::from_micros(clock.0.fetch_add(1, Ordering::SeqCst)))
    }
}

/// The outside that calls to platforms reach.
#[derive(Clone)]
pub enum Outside {
    /// A simulated WooCommerce store.
    Store(Store),
    /// Simulated platforms, each at its site.
    Simulated(Vec<(String, Arc<dyn Simulator>)>),
    /// A scripted platform.
    Scripted(MemoryPlatform),
    /// A platform that never answers.
    Silent,
    /// A scripted platform, except for one host that never answers.
    SilentAt(String, MemoryPlatform),
}

impl Outbound for Outside {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, Fault> {
        match self {
            Self::Store(store) => store.answer(&request).await,
            Self::Simulated(simulators) => {
                let at = |site: &str| request.url.as_str().starts_with(site);
                let simulator = simulators.iter().find(|(site, _)| at(site)).expect("a call to nowhere");
                simulator.1.answer(&request).await
            }
            Self::Scripted(platform) => platform.call(request).await,
            Self::SilentAt(host, _) if request.url.host_str() == Some(host) => std::future::pending().await,
            Self::SilentAt(_, platform) => platform.call(request).await,
            Self::Silent => std::future::pending().await,
        }
    }
}

/// The way from the registrar to our own receiver, for probes.
#[derive(Clone, Default)]
pub struct Own(Arc<(AtomicUsize, AtomicBool)>);

impl Own {
    /// Returns the number of probes that took this way.
    pub fn calls(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    /// Cuts the way, or opens it again.
    pub fn cut(&self, cut: bool) {
        self.0.1.store(cut, Ordering::SeqCst);
    }
}

/// The reach of the registrar: the platforms, and the receiver at our own address.
pub struct Reach {
    outside: Outside,
    own: Own,
    receiver: Arc<Receives>,
    clock: Clock,
}

impl Outbound for Reach {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, Fault> {
        if !request.url.as_str().starts_with(BASE) {
            return self.outside.call(request).await;
        }
        self.own.0.0.fetch_add(1, Ordering::SeqCst);
        if self.own.0.1.load(Ordering::SeqCst) {
            return Err(Fault::Unavailable("the platform could not be reached".into()));
        }
        let headers =
            request.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        let delivery = Delivery {
            method: request.method.clone(),
            url: request.url.to_string(),
            headers: headers.collect(),
            body: request.body,
            attempts: 0,
        };
        let event = gateway_event(&delivery, self.clock.now()).unwrap();
        let (parts, body) = self.receiver.receive(crate::world::request(&event)).await.into_parts();
        let body = bytes::Bytes::copy_from_slice(body.as_ref());
        Ok(ApiResponse { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

/// The bundle.
#[derive(Clone)]
pub struct World {
    /// The way to our own receiver.
    pub own: Own,
    /// The clock of all functions.
    pub clock: Clock,
    /// Both queues.
    pub queues: MemoryQueues,
    /// The bus of change events, as far as the processor uses it.
    pub bus: MemoryBus,
    /// All tables.
    pub tables: MemoryTables,
    /// The signing keys.
    pub signing: MemorySecret,
    /// The app credentials.
    pub apps: MemorySecret,
    /// The receiver.
    pub receiver: Arc<Receives>,
    /// The choice of whether platforms may be on this machine.
    pub loopback: Loopback,
    /// The outside that calls to platforms reach.
    pub outside: Outside,
}

/// The receiver in memory.
pub type Receives = Receiver<MemoryQueues, MemorySecret, MemoryTables, MemoryTables, MemoryPlatform>;
/// The processor in memory.
pub type Processes = Processor<InMemory>;
/// The registrar in memory.
pub type Registers = Registrar<InMemory>;

/// The edges of the functions in memory.
pub struct InMemory;

impl registrar::Parts for InMemory {
    type Connections = MemoryTables;
    type Vault = MemoryVault;
    type Secret = MemorySecret;
    type Outbound = Reach;
    type Notes = MemoryTables;
    type ProofKeys = MemoryTables;
    type Senders = MemoryTables;
    type Jobs = MemoryQueues;
    type Inbox = MemoryQueues;
    type Endpoints = MemoryTables;
}

impl processor::Parts for InMemory {
    type Entities = MemoryTables;
    type Queues = MemoryQueues;
    type Vault = MemoryVault;
    type Outbound = Outside;
    type Notes = MemoryTables;
    type Jobs = MemoryQueues;
    type Bus = MemoryBus;
}

/// The direct way to the receiver.
pub struct Direct(pub Arc<Receives>, pub Clock);

impl Wire for Direct {
    fn send(&self, delivery: Delivery) -> BoxFuture<'_, u16> {
        Box::pin(async move {
            self.1.pass_seconds(1);
            let Some(event) = gateway_event(&delivery, self.1.now()) else { return 0 };
            self.0.receive(request(&event)).await.status().as_u16()
        })
    }
}

/// Returns the event that API Gateway makes of a delivery, or `None` if the delivery goes elsewhere.
pub fn gateway_event(delivery: &Delivery, now: Timestamp) -> Option<Value> {
    let to = delivery.url.strip_prefix(BASE)?;
    let (path, query) = to.split_once('?').unwrap_or((to, ""));
    let parts: Vec<&str> = path.split('/').skip(2).collect();
    let parameters: BTreeMap<_, _> = ["platform", "connection", "generation"].into_iter().zip(parts).collect();
    // API Gateway joins repeated headers.
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in &delivery.headers {
        let joined = headers.get(name.as_str()).map(|before| format!("{before},{value}"));
        headers.insert(name, joined.unwrap_or_else(|| value.clone()));
    }
    let method = delivery.method.as_str();
    Some(json!({
        "version": "2.0", "routeKey": format!("{method} /hooks/{{platform}}/{{connection}}"), "rawPath": path,
        "rawQueryString": query, "headers": headers, "pathParameters": parameters,
        "requestContext": {
            "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "store" },
            "stage": "$default", "timeEpoch": now.micros() / 1000, "requestId": request_id(),
        },
        "body": String::from_utf8(delivery.body.to_vec()).unwrap(), "isBase64Encoded": false,
    }))
}

/// Returns an id as API Gateway gives one to each request.
fn request_id() -> String {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    format!("request-{}", TAKEN.fetch_add(1, Ordering::SeqCst))
}

/// Returns an API Gateway event as the function gets it.
pub fn request(event: &Value) -> Request {
    lambda_http::request::from_str(&event.to_string()).unwrap()
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// Makes a world with a simulated store behind it, which has the key `ck_1`, `cs_1`.
    pub fn new() -> Self {
        let (clock, queues, tables) = (Clock::default(), MemoryQueues::default(), MemoryTables::default());
        let key_sets = MemoryPlatform::new(|_| Err(Fault::Unavailable("the key set could not be fetched".into())));
        let (signing, apps) = (MemorySecret::new(&signing_keys()), MemorySecret::new(&app_credentials()));
        let edges = receiver::Edges {
            queue: queues.clone(),
            signing_keys: Keys::new(signing.clone()),
            apps: AppCredentials::new(apps.clone()),
            proof_keys: CachedProofKeys::new(tables.clone()),
            senders: CachedSenders::new(tables.clone()),
            key_sets: KeySets::new(key_sets),
        };
        let receiver = Arc::new(Receiver::new(INBOUND, edges, clock.function()));
        let store = Store::new(Arc::new(Direct(Arc::clone(&receiver), clock.clone())), "ck_1", "cs_1");
        let outside = Outside::Store(store);
        Self {
            own: Own::default(),
            clock,
            queues,
            bus: MemoryBus::default(),
            tables,
            signing,
            apps,
            receiver,
            loopback: Loopback::Refused,
            outside,
        }
    }

    /// Makes a world with the sample connection, whose webhooks are entered by hand.
    pub fn connected() -> Self {
        let world = Self::new();
        world.connect(None);
        world
    }

    /// Adds the sample connection, with or without credentials for the store.
    pub fn connect(&self, credentials: Option<&str>) {
        let credentials = credentials.map(|plain| format!("{}|{plain}", key()));
        let connection = Connection { revision: 1, credentials, ..Connection::new("https://shop.example.com") };
        self.tables.connect(&key(), connection);
    }

    /// Returns the sample connection as the table has it.
    pub fn connection(&self) -> Connection {
        self.tables.connection(&key()).connection.unwrap()
    }

    /// Returns the simulated store.
    pub fn store(&self) -> &Store {
        match &self.outside {
            Outside::Store(store) => store,
            _ => panic!("there is no store here"),
        }
    }

    /// Makes a new processor, as a cold start would.
    pub fn processor(&self) -> Processes {
        self.processor_for(PLATFORMS)
    }

    /// Makes a new processor for other platforms.
    pub fn processor_for(&self, platforms: &'static [Platform]) -> Processes {
        let edges = processor::Edges {
            entities: self.tables.clone(),
            queues: self.queues.clone(),
            vault: MemoryVault,
            outbound: self.outside.clone(),
            notes: self.tables.clone(),
            jobs: self.queues.clone(),
            changes: Some(Changes { bus: self.bus.clone(), detail: Detail::Full }),
        };
        Processor::new(platforms, edges, self.loopback, self.clock.function())
    }

    /// Makes a new registrar.
    pub fn registrar(&self) -> Registers {
        self.registrar_at(BASE)
    }

    /// Makes a new registrar for a deployment with another address.
    pub fn registrar_at(&self, base: &str) -> Registers {
        self.registrar_for(PLATFORMS, base)
    }

    /// Makes a new registrar for other platforms, at an address.
    pub fn registrar_for(&self, platforms: &'static [Platform], base: &str) -> Registers {
        let edges = registrar::Edges {
            connections: self.tables.clone(),
            vault: MemoryVault,
            signing_keys: Keys::new(self.signing.clone()),
            admin_keys: Keys::new(MemorySecret::new(ADMIN_KEY)),
            outbound: Reach {
                outside: self.outside.clone(),
                own: self.own.clone(),
                receiver: Arc::clone(&self.receiver),
                clock: self.clock.clone(),
            },
            notes: self.tables.clone(),
            proof_keys: self.tables.clone(),
            senders: self.tables.clone(),
            apps: AppCredentials::new(self.apps.clone()),
            jobs: self.queues.clone(),
            inbox: self.queues.clone(),
            endpoints: self.tables.clone(),
        };
        Registrar::new(platforms, edges, base, self.loopback, self.clock.function())
            .telling_of_changes(true)
            .sending_webhooks(true)
    }

    /// Runs the registrar's own queue one job after another, delays included, until only jobs are left that wait for an
    /// entity's next run. Returns the number of jobs that ran.
    ///
    /// # Panics
    /// Panics if a job fails ten times, or the jobs do not end.
    pub async fn run_jobs(&self) -> usize {
        let (mut done, mut waiting) = (0, Vec::new());
        while let Some((job, delay)) = self.queues.next_job() {
            if self.waits(&job) {
                waiting.push((job, delay));
                continue;
            }
            self.clock.pass_seconds(i64::from(delay));
            let mut tries = 0;
            // As `main` has it: each line names the message of the job.
            let message = || [format!("job-{done}")];
            while let Err(problem) = traced(message(), self.registrar().run(&job.text())).await {
                tries += 1;
                assert!(tries < 10, "{job:?}: {problem}");
                self.clock.pass_seconds(360);
            }
            done += 1;
            assert!(done < 10_000, "there is no end of jobs");
        }
        self.queues.send_jobs(&waiting).await.expect("queues in memory take everything");
        done
    }

    fn waits(&self, job: &Job) -> bool {
        let Job::Poll { key, entity } = job else { return false };
        let cursor = self.tables.connection(key).cursors.remove(entity);
        cursor.is_some_and(|cursor| cursor.run.is_none() && cursor.next.is_some_and(|next| next > self.clock.now()))
    }

    /// Lets the receiver answer a sample event.
    pub async fn receive(&self, event: &Event) -> Response<Body> {
        self.receiver.receive(request(&event.request)).await
    }

    /// Processes messages as one batch, with enough time.
    pub async fn process(&self, messages: &[Message]) -> Report {
        let deadline = self.clock.now().plus_seconds(60);
        self.processor().process(messages, deadline).await
    }

    /// Processes everything on the queue after the first `already` messages as one batch, and returns the outcomes in
    /// order.
    pub async fn drain(&self, already: usize) -> Vec<String> {
        let sent = self.queues.sent();
        let messages: Vec<_> =
            sent.iter().enumerate().skip(already).map(|(n, (sealed, _))| message(n, sealed.text())).collect();
        let report = self.process(&messages).await;
        outcomes(&report)
    }

    /// Asks the admin interface about a connection of the sample platform, with a token that has all permissions.
    pub async fn admin(&self, method: &str, connection: &str, query: &str, body: &str) -> (u16, Value) {
        self.admin_of(PLATFORM, method, connection, query, body).await
    }

    /// Asks the admin interface about a connection of any platform, with a token that has all permissions.
    pub async fn admin_of(
        &self,
        platform: &str,
        method: &str,
        connection: &str,
        query: &str,
        body: &str,
    ) -> (u16, Value) {
        self.ask_admin(&self.bearer(&PERMISSIONS.join(" ")), platform, method, connection, query, body).await
    }

    /// Returns an `Authorization` with these permissions.
    ///
    /// # Panics
    /// Never panics, because the key is valid.
    pub fn bearer(&self, scopes: &str) -> String {
        let ring = commerce::keys::KeyRing::parse(ADMIN_KEY).unwrap();
        format!("Bearer {}", ADMIN_TOKEN.mint(&ring, self.clock.now(), 900, scopes, None).unwrap())
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
        self.ask_admin(authorization, PLATFORM, method, connection, query, body).await
    }

    async fn ask_admin(
        &self,
        authorization: &str,
        platform: &str,
        method: &str,
        connection: &str,
        query: &str,
        body: &str,
    ) -> (u16, Value) {
        let path = format!("/admin/connections/{platform}/{connection}");
        let response = self.ask(Some(authorization), method, &path, query, body).await;
        let body = serde_json::from_slice(response.body().as_ref()).unwrap_or_default();
        (response.status().as_u16(), body)
    }

    /// Asks the registrar over HTTP as API Gateway does, with one route for everything below a path.
    pub async fn ask(
        &self,
        authorization: Option<&str>,
        method: &str,
        path: &str,
        query: &str,
        body: &str,
    ) -> Response<Body> {
        let headers: BTreeMap<_, _> = authorization.map(|value| ("authorization", value)).into_iter().collect();
        let event = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query, "headers": headers,
            "pathParameters": { "proxy": path.trim_start_matches("/admin/") },
            "requestContext": {
                "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "x" },
                "stage": "$default", "requestId": request_id(),
            },
            "body": body, "isBase64Encoded": false,
        });
        self.registrar().answer(request(&event)).await
    }

    /// Visits the registrar below `/apps/`, as a browser or a platform does. The query is as it stands in an address.
    pub async fn visit(&self, method: &str, path: &str, query: &str, body: &str) -> Response<Body> {
        self.visit_at(&self.registrar(), method, path, query, body).await
    }

    /// Visits a registrar that has run for a while.
    pub async fn visit_at(
        &self,
        registrar: &Registers,
        method: &str,
        path: &str,
        query: &str,
        body: &str,
    ) -> Response<Body> {
        let parts: Vec<&str> = path.split('/').skip(2).collect();
        let parameters: BTreeMap<_, _> = ["platform", "action"].into_iter().zip(parts).collect();
        let event = json!({
            "version": "2.0", "routeKey": format!("{method} /apps/{{platform}}/{{action}}"), "rawPath": path,
            "rawQueryString": query, "headers": {}, "pathParameters": parameters,
            "requestContext": {
                "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "x" },
                "stage": "$default", "requestId": request_id(),
            },
            "body": body, "isBase64Encoded": false,
        });
        registrar.answer(request(&event)).await
    }

    /// Returns everything in the table, without what only says when and by whom it was written.
    pub fn state(&self) -> Vec<Item> {
        let mut items = self.tables.items();
        for item in &mut items {
            item.by.clear();
            item.trace = None;
            item.received = None;
            item.changed_at.clear();
            item.unchanged = false;
        }
        items
    }

    /// Returns the item with a sort key.
    pub fn item(&self, sort: &str) -> Item {
        self.tables.items().into_iter().find(|item| item.sk == sort).unwrap_or_else(|| panic!("no {sort}"))
    }
}

/// Returns an answer of the registrar as its clients read it.
pub fn shown(answer: impl serde::Serialize) -> Value {
    serde_json::to_value(answer).unwrap()
}

/// Returns the key of the sample connection.
pub fn key() -> ConnectionKey {
    WebhookPath::parse(PLATFORM, CONNECTION, None).unwrap().key
}

/// Returns the sample events.
pub fn events() -> Vec<Event> {
    tools::events::load(PLATFORM).unwrap()
}

/// Returns the sample event whose name begins with `prefix`.
pub fn event(prefix: &str) -> Event {
    events().into_iter().find(|event| event.name.starts_with(prefix)).unwrap()
}

/// Returns a message with a text.
pub fn message(n: usize, text: &str) -> Message {
    Message { id: format!("m{n}"), receipt_handle: format!("r{n}"), body: text.to_owned(), attempts: 1 }
}

/// Returns the messages of all recorded deliveries.
pub fn messages() -> Vec<Message> {
    let ring = sample_ring();
    let sealed = events().into_iter().filter_map(|event| event.sealed(&ring));
    sealed.enumerate().map(|(n, sealed)| message(n, sealed.text())).collect()
}

/// Returns a message of the sample connection, as the receiver would make it.
pub fn delivered(scope: &str, body: &str, received_ms: i64) -> Message {
    let mut event = event("027");
    event.request["headers"]["x-wc-webhook-topic"] = scope.into();
    event.request["requestContext"]["timeEpoch"] = received_ms.into();
    event.request["body"] = body.into();
    event.sign(&sample_ring());
    message(usize::try_from(received_ms % 100_000).unwrap(), event.sealed(&sample_ring()).unwrap().text())
}

/// Returns the outcomes of a batch's messages.
pub fn outcomes(report: &Report) -> Vec<String> {
    report
        .ends
        .iter()
        .map(|(_, end)| match end {
            Disposition::Done(outcome) => outcome.to_string(),
            Disposition::Deferred(seconds) => format!("deferred by {seconds} s"),
            Disposition::Retry(reason, _) => format!("failed: {}", reason.name()),
            Disposition::Unfinished => "unfinished".to_owned(),
        })
        .collect()
}
