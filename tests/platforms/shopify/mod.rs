//! A Shopify shop: its Admin GraphQL API with tokens and a bucket of points, its webhooks with their retries, the grant
//! of the app's permissions, the compliance topics, and the actions of its shoppers and its merchant.
//!
//! It follows Shopify's documentation, as described in `docs/platforms/shopify.md`. A delivery is signed with the oldest
//! secret that was not revoked, over its body alone. A failed delivery is tried eight more times, at the address that it
//! had at first, and then its webhook is removed. Stock changes without its product's time. A token sees only its own
//! app's webhooks, and only one of them may exist for each topic and address. The API knows no carts and checkouts. An
//! answer tells what it cost and what is left; a call that cannot be paid for is refused with the status 200.

pub mod bulk;
mod graphql;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use commerce::{
    entity::EntityKind,
    http_call::{ApiRequest, ApiResponse, Fault},
    install::sha256,
    platform::mapping::declared_scopes,
    platforms::shopify::PLATFORM,
    scheme::{
        Scheme,
        hmac::{Algorithm, Encoding, Hmac, KeySource},
        jwt::{Algorithm as JwtAlgorithm, Rules},
    },
    timestamp::{Timestamp, parse_utc},
};
use futures_util::future::BoxFuture;
use graphql::{Document, Root};
use http::{HeaderValue, Method, header};
use rand::{Rng, rngs::StdRng};
use serde_json::{Map, Value, json};
use tools::events::{sample_app_secret, sample_ring};
use url::form_urlencoded;

use super::{Clock, Delivery, Simulator, Trouble, Truth, json_answer, operation, page, query};

/// The shop's host, which is the connection's id.
pub const SHOP: &str = "fir-and-fern.myshopify.com";
/// The app's id.
pub const CLIENT_ID: &str = "shopify-client-id";
/// The token of the shop's API, before the app is installed by its merchant.
pub const ACCESS_TOKEN: &str = "shpat_sample_access_token";
/// The permissions that the app asks for.
pub const GRANTS: &str = "read_products,read_inventory,read_locations,read_customers,read_orders,read_fulfillments";

/// The wait of each retry after the attempt before it, in seconds. Their sum is four hours; the steps are not documented.
const RETRIES: [i64; 8] = [60, 120, 300, 600, 1200, 2400, 3600, 6120];
/// The points that come back each second on a standard plan.
const STANDARD: f64 = 100.0;
/// The seconds after which an empty bucket is full.
const BUCKET_SECONDS: f64 = 20.0;
/// The most points of one call.
const POINTS_OF_A_CALL: f64 = 1_000.0;
/// The shop's currency.
const CURRENCY: &str = "EUR";
/// The shop's locations.
const LOCATIONS: [u64; 5] = [501, 502, 503, 504, 505];

/// Returns the secret that signs, in samples and at first.
pub fn client_secret() -> String {
    sample_app_secret(&sample_ring(), PLATFORM.name)
}

/// A webhook.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The id.
    pub id: u64,
    /// The topic, as deliveries name it.
    pub topic: String,
    /// The address.
    pub uri: String,
}

/// The kinds of objects, each with its name in ids, in its list, and here.
const KINDS: [(&str, &str, EntityKind); 4] = [
    ("Customer", "customers", EntityKind::Customer),
    ("Collection", "collections", EntityKind::Category),
    ("Product", "products", EntityKind::Product),
    ("Order", "orders", EntityKind::Order),
];

struct Inner {
    now: Timestamp,
    next_id: u64,
    /// The secrets that are not revoked, the oldest first.
    secrets: Vec<String>,
    token: Option<String>,
    /// The token that renews it, and the time at which it expires.
    renewable: Option<(String, Timestamp)>,
    codes: BTreeSet<String>,
    grants: String,
    hooks: Vec<Hook>,
    outbox: Vec<Delivery>,
    retries: Vec<(Timestamp, Delivery)>,
    /// The webhook of each delivery, by the delivery's id.
    sent: BTreeMap<String, u64>,
    objects: BTreeMap<(&'static str, u64), Value>,
    ever: BTreeSet<(&'static str, u64)>,
    /// The carts and checkouts, as their deliveries told them; `None` for one that is gone.
    carts: BTreeMap<String, Option<Value>>,
    /// The bodies of living carts and checkouts, with the topics' first part.
    open: Vec<(&'static str, Value)>,
    points: f64,
    points_at: Timestamp,
    points_a_second: f64,
    spent: f64,
    refused: usize,
    page_size: u64,
    bulk: bulk::Operations,
    troubles: VecDeque<Trouble>,
    calls: Vec<String>,
}

/// A simulated shop.
pub struct Shop {
    clock: Clock,
    inner: Mutex<Inner>,
}

impl Shop {
    /// Makes an empty shop.
    pub fn new(clock: Clock) -> Self {
        let inner = Inner {
            now: clock(),
            next_id: 1_000,
            secrets: vec![client_secret()],
            token: Some(ACCESS_TOKEN.into()),
            renewable: None,
            codes: BTreeSet::new(),
            grants: GRANTS.into(),
            hooks: Vec::new(),
            outbox: Vec::new(),
            retries: Vec::new(),
            sent: BTreeMap::new(),
            objects: BTreeMap::new(),
            ever: BTreeSet::new(),
            carts: BTreeMap::new(),
            open: Vec::new(),
            points: STANDARD * BUCKET_SECONDS,
            points_at: clock(),
            points_a_second: STANDARD,
            spent: 0.0,
            refused: 0,
            page_size: u64::MAX,
            bulk: bulk::Operations::default(),
            troubles: VecDeque::new(),
            calls: Vec::new(),
        };
        Self { clock, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap();
        inner.now = (self.clock)();
        inner
    }

    /// Limits a page of a list to fewer entries than were asked for.
    pub fn set_page_size(&self, page_size: u64) {
        self.lock().page_size = page_size;
    }

    /// Gives the shop a plan on which so many points come back each second, and fills its bucket.
    pub fn set_plan(&self, points_a_second: f64) {
        let mut inner = self.lock();
        (inner.points_a_second, inner.points) = (points_a_second, points_a_second * BUCKET_SECONDS);
    }

    /// Adds products with three variants at two locations, and an order of three lines for each of them.
    pub fn fill(&self, count: usize, random: &mut StdRng) {
        let mut inner = self.lock();
        for _ in 0..count {
            let product = inner.create_product_with(3, Some(2), random);
            inner.create_order_of(product, Some(3), random);
        }
    }

    /// Returns the points that were spent, and the number of calls that could not be paid for.
    pub fn spent(&self) -> (f64, usize) {
        let inner = self.lock();
        (inner.spent, inner.refused)
    }

    /// Returns all webhooks.
    pub fn hooks(&self) -> Vec<Hook> {
        self.lock().hooks.clone()
    }

    /// Makes a webhook, as another program with the app's token can.
    ///
    /// # Panics
    /// Panics if there is one of the same topic and address, as there is at most one.
    pub fn add_hook(&self, topic: &str, uri: &str) {
        let mut inner = self.lock();
        let hook = Hook { id: inner.id(), topic: topic.into(), uri: String::new() };
        let saved = inner.save(hook, &json!({ "uri": uri }));
        assert_eq!(saved["userErrors"], json!([]), "{topic} at {uri}");
    }

    /// Changes a webhook, as another program with the app's token can.
    pub fn edit_hook(&self, id: u64, change: impl FnOnce(&mut Hook)) {
        change(self.lock().hooks.iter_mut().find(|hook| hook.id == id).unwrap());
    }

    /// Removes a webhook, as Shopify does when its deliveries have failed for hours.
    pub fn remove_hook(&self, id: u64) {
        self.lock().hooks.retain(|hook| hook.id != id);
    }

    /// Makes another client secret. The oldest one signs until it is revoked.
    pub fn new_secret(&self, secret: &str) {
        self.lock().secrets.push(secret.into());
    }

    /// Revokes the oldest client secret.
    pub fn revoke_oldest_secret(&self) {
        self.lock().secrets.remove(0);
    }

    /// Returns the valid token, if there is one.
    pub fn token(&self) -> Option<String> {
        self.lock().token.clone()
    }

    /// Makes the token invalid.
    pub fn revoke(&self) {
        self.lock().token = None;
    }

    /// Issues another token; the one before becomes invalid.
    pub fn replace_token(&self, token: &str) {
        self.lock().token = Some(token.into());
    }

    /// Makes the token that renews the token invalid.
    pub fn forget_renewal(&self) {
        if let Some((token, _)) = &mut self.lock().renewable {
            *token = "another".into();
        }
    }

    /// Sets the permissions that the merchant grants from now on.
    pub fn grant(&self, scopes: &str) {
        self.lock().grants = scopes.into();
    }

    /// Uninstalls the app: it sends the last delivery, and then drops the token and the app's webhooks.
    pub fn uninstall(&self) {
        let mut inner = self.lock();
        inner.tell("app/uninstalled", &json!({ "id": 7, "myshopify_domain": SHOP }));
        inner.token = None;
        inner.hooks.clear();
    }

    /// Returns the signed query of an address of the app, with these parameters beside the shop and the time.
    pub fn signed(&self, parameters: &[(&str, &str)]) -> String {
        self.lock().signed(SHOP, parameters)
    }

    /// Returns the signed query of an address of the app, for any host.
    pub fn signed_for(&self, host: &str) -> String {
        self.lock().signed(host, &[])
    }

    /// Returns a session token of somebody who works at the shop. `changes` replace claims.
    pub fn session_token(&self, changes: &Value) -> String {
        let inner = self.lock();
        let now = inner.now.seconds();
        let mut claims = json!({
            "iss": format!("https://{SHOP}/admin"), "dest": format!("https://{SHOP}"), "aud": CLIENT_ID, "sub": "42",
            "exp": now + 60, "nbf": now, "iat": now, "jti": format!("jti-{now}"), "sid": "s1",
        });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let rules = Rules {
            algorithm: JwtAlgorithm::HS256,
            issuer: None,
            audience: None,
            required: &[],
            by_kid: false,
            max_lifetime_seconds: None,
            max_age_seconds: None,
        };
        rules.sign(claims.as_object().unwrap(), inner.secrets[0].as_bytes()).unwrap()
    }

    /// Returns the address of the app that the merchant grants its permissions by, as the shop sends the browser there
    /// from the address of its own that the app sent it to.
    pub fn granted(&self, location: &str) -> String {
        let location: url::Url = location.parse().unwrap();
        let parameters: BTreeMap<_, _> = location.query_pairs().into_owned().collect();
        assert_eq!((location.path(), parameters["client_id"].as_str()), ("/admin/oauth/authorize", CLIENT_ID));
        let mut inner = self.lock();
        let code = format!("code-{}", inner.id());
        inner.codes.insert(code.clone());
        let query = inner.signed(SHOP, &[("code", &code), ("state", &parameters["state"])]);
        format!("{}?{query}", parameters["redirect_uri"])
    }

    /// Returns a delivery of a compliance topic, for the app's address for them.
    pub fn demand(&self, topic: &str, url: &str, body: &Value) -> Delivery {
        self.lock().delivery(topic, url, body)
    }
}

fn gid(kind: &str, id: u64) -> String {
    format!("gid://shopify/{kind}/{id}")
}

fn number(gid: &str) -> u64 {
    gid.rsplit('/').next().and_then(|id| id.parse().ok()).unwrap_or_default()
}

/// Writes a time as GraphQL does.
fn iso(at: Timestamp) -> String {
    Timestamp::from_millis(at.seconds() * 1000).to_string()
}

/// Writes an amount of minor units.
fn plain(minor: i64) -> String {
    format!("{}.{:02}", minor / 100, minor % 100)
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> &'a str {
    delivery.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

fn signature() -> Hmac {
    match PLATFORM.delivery.scheme() {
        Scheme::Hmac(scheme) => scheme,
        other => unreachable!("{other:?}"),
    }
}

impl Simulator for Shop {
    fn platform(&self) -> &'static str {
        PLATFORM.name
    }

    fn connection(&self) -> String {
        SHOP.into()
    }

    fn settings(&self, site: &str) -> Value {
        json!({ "site": site, "access_token": self.token().as_deref().unwrap_or(ACCESS_TOKEN) })
    }

    fn subscribe(&self, delivery_url: &str, _secret: &dyn Fn(&str) -> String) {
        let mut inner = self.lock();
        for topic in declared_scopes(&PLATFORM) {
            let id = inner.id();
            inner.hooks.push(Hook { id, topic: topic.into(), uri: delivery_url.into() });
        }
    }

    fn change(&self, random: &mut StdRng) {
        self.lock().change(random);
    }

    fn outbox(&self) -> Vec<Delivery> {
        let mut inner = self.lock();
        let now = inner.now;
        let mut taken: Vec<Delivery> = inner.outbox.drain(..).collect();
        let (due, later): (Vec<_>, Vec<_>) = inner.retries.drain(..).partition(|(at, _)| *at <= now);
        inner.retries = later;
        taken.extend(due.into_iter().map(|(_, retry)| retry));
        taken
    }

    fn answered(&self, delivery: &Delivery, status: u16) {
        let id = header(delivery, "x-shopify-webhook-id");
        let mut inner = self.lock();
        let again = inner.retries.iter().any(|(_, retry)| header(retry, "x-shopify-webhook-id") == id);
        if (200..300).contains(&status) || again {
            return;
        }
        match RETRIES.get(delivery.attempts as usize) {
            Some(wait) => {
                let due = inner.now.plus_seconds(*wait);
                inner.retries.push((due, Delivery { attempts: delivery.attempts + 1, ..delivery.clone() }));
            }
            None => {
                let hook = inner.sent.get(id).copied();
                inner.hooks.retain(|known| Some(known.id) != hook);
            }
        }
    }

    fn answer<'a>(&'a self, request: &'a ApiRequest) -> BoxFuture<'a, Result<ApiResponse, Fault>> {
        let mut inner = self.lock();
        let operation = operation(request);
        inner.calls.push(operation.unwrap_or_else(|| format!("{} {}", request.method, request.url.path())));
        let answer = match inner.troubles.pop_front().unwrap_or(Trouble::None) {
            Trouble::TooMany(seconds) => {
                inner.points = 0.0;
                Ok(inner.throttled(f64::from(seconds) * inner.points_a_second))
            }
            Trouble::Broken => Ok(page(500, "<html>Internal Server Error</html>")),
            Trouble::NotFoundPage => Ok(page(404, "<html>404 Not Found</html>")),
            Trouble::Slow => Err(Fault::Unavailable("no answer in time".into())),
            Trouble::AnswerLost => {
                inner.route(request);
                Err(Fault::Unavailable("the answer was lost".into()))
            }
            Trouble::None => Ok(inner.route(request)),
        };
        Box::pin(std::future::ready(answer))
    }

    fn trouble(&self, troubles: &[Trouble]) {
        self.lock().troubles.extend(troubles);
    }

    fn entities(&self) -> Vec<(EntityKind, String, Truth)> {
        let inner = self.lock();
        let kind_of = |name: &str| KINDS.iter().find(|(known, ..)| *known == name).unwrap().2;
        let truth = |key: &(&'static str, u64)| if inner.objects.contains_key(key) { Truth::Api } else { Truth::Gone };
        let objects = inner.ever.iter().map(|key| (kind_of(key.0), key.1.to_string(), truth(key)));
        let carts = inner
            .carts
            .iter()
            .map(|(id, cart)| (EntityKind::Cart, id.clone(), cart.clone().map_or(Truth::Gone, Truth::Fields)));
        objects.chain(carts).collect()
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().calls)
    }
}

impl Inner {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    // Deliveries.

    fn delivery(&mut self, topic: &str, url: &str, body: &Value) -> Delivery {
        let id = self.id();
        let body = body.to_string();
        let signed = signature().sign(self.secrets[0].as_bytes(), body.as_bytes());
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("x-shopify-topic", topic.to_owned()),
            ("x-shopify-hmac-sha256", signed),
            ("x-shopify-shop-domain", SHOP.to_owned()),
            ("x-shopify-api-version", "2026-10".to_owned()),
            ("x-shopify-webhook-id", format!("{id:08x}-0000-4000-8000-000000000001")),
            ("x-shopify-event-id", format!("{:08x}-0000-4000-8000-000000000002", self.now.micros() & 0xffff_ffff)),
            ("x-shopify-triggered-at", self.now.to_string()),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Delivery { method: Method::POST, url: url.to_owned(), headers, body: Bytes::from(body), attempts: 0 }
    }

    fn tell(&mut self, topic: &str, body: &Value) {
        let hooks: Vec<Hook> = self.hooks.iter().filter(|hook| hook.topic == topic).cloned().collect();
        for hook in hooks {
            let delivery = self.delivery(topic, &hook.uri, body);
            self.sent.insert(header(&delivery, "x-shopify-webhook-id").to_owned(), hook.id);
            self.outbox.push(delivery);
        }
    }

    /// Tells of an object by its number, as a delivery has it.
    fn tell_of(&mut self, topic: &str, kind: &str, id: u64) {
        let at = iso(self.now);
        self.tell(topic, &json!({ "id": id, "admin_graphql_api_id": gid(kind, id), "updated_at": at }));
    }

    // The API.

    fn signed(&self, host: &str, parameters: &[(&str, &str)]) -> String {
        let time = self.now.seconds().to_string();
        let mut all: BTreeMap<&str, &str> = parameters.iter().copied().collect();
        all.extend([("shop", host), ("timestamp", time.as_str()), ("host", "YWRtaW4uc2hvcGlmeS5jb20")]);
        let message = form_urlencoded::Serializer::new(String::new()).extend_pairs(&all).finish();
        let of_query = Hmac {
            header: "hmac",
            algorithm: Algorithm::Sha256,
            encoding: Encoding::Hex,
            prefix: "",
            keys: KeySource::AppSecret,
        };
        format!("{message}&hmac={}", of_query.sign(self.secrets[0].as_bytes(), message.as_bytes()))
    }

    /// Grants a token for a code, once, or for a session token.
    fn grant(&mut self, request: &ApiRequest) -> ApiResponse {
        let Ok(form) = serde_json::from_slice::<Value>(&request.body) else { return page(400, "bad request") };
        let secret = form["client_secret"].as_str().unwrap_or_default();
        if form["client_id"] != CLIENT_ID || !self.secrets.iter().any(|known| known == secret) {
            return json_answer(401, &json!({ "error": "invalid_client" }));
        }
        let is_good = match form["grant_type"].as_str() {
            Some("urn:ietf:params:oauth:grant-type:token-exchange") => {
                form["subject_token"].as_str().is_some_and(|token| token.matches('.').count() == 2)
                    && form["requested_token_type"] == "urn:shopify:params:oauth:token-type:offline-access-token"
            }
            // A renewal ends the tokens before it.
            Some("refresh_token") => {
                let known = self.renewable.as_ref().map(|(token, _)| token.as_str());
                known.is_some() && form["refresh_token"].as_str() == known
            }
            _ => form["code"].as_str().is_some_and(|code| self.codes.remove(code)),
        };
        if !is_good {
            return json_answer(400, &json!({ "error": "invalid_request" }));
        }
        let token = format!("shpat_{}", self.id());
        self.token = Some(token.clone());
        let mut granted = json!({ "access_token": token, "scope": self.grants });
        self.renewable = None;
        if form["expiring"] == "1" || form["grant_type"] == "refresh_token" {
            let refresh = format!("shprt_{}", self.id());
            granted["refresh_token"] = refresh.clone().into();
            granted["expires_in"] = 3600.into();
            granted["refresh_token_expires_in"] = 7_776_000.into();
            self.renewable = Some((refresh, self.now.plus_seconds(3600)));
        }
        json_answer(200, &granted)
    }

    fn route(&mut self, request: &ApiRequest) -> ApiResponse {
        if request.url.host_str() == Some(bulk::HOST) {
            return match self.bulk.file(request.url.path(), self.now) {
                Some(body) => ApiResponse { status: 200, headers: http::HeaderMap::new(), body },
                None => page(403, "<Error><Code>ExpiredToken</Code></Error>"),
            };
        }
        match (&request.method, request.url.path()) {
            (&Method::POST, "/admin/oauth/access_token") => self.grant(request),
            (&Method::GET, "/admin/oauth/authorize") => {
                let mut answer = page(302, "");
                let location = query(request).remove("redirect_uri").unwrap_or_default();
                answer.headers.insert(header::LOCATION, HeaderValue::from_str(&location).unwrap());
                answer
            }
            (&Method::POST, "/admin/api/2026-10/graphql.json") => self.graphql(request),
            _ => page(404, "<html>Not Found</html>"),
        }
    }

    fn graphql(&mut self, request: &ApiRequest) -> ApiResponse {
        let token = request.headers.get("x-shopify-access-token").and_then(|value| value.to_str().ok());
        let is_over = self.renewable.as_ref().is_some_and(|(_, until)| *until <= self.now);
        if token.is_none() || token != self.token.as_deref() || is_over {
            let text = "[API] Invalid API key or access token (unrecognized login or wrong password)";
            return json_answer(401, &json!({ "errors": text }));
        }
        let Ok(call) = serde_json::from_slice::<Value>(&request.body) else { return page(400, "bad request") };
        let empty = Map::new();
        let variables = call["variables"].as_object().unwrap_or(&empty);
        let Some(document) = call["query"].as_str().and_then(|text| Document::read(text, variables)) else {
            return self.wrong("undefinedField", "syntax error");
        };
        let cost = document.cost();
        self.refill();
        if cost > POINTS_OF_A_CALL {
            return self.wrong("MAX_COST_EXCEEDED", "Query cost is too high");
        }
        if cost > self.points {
            self.refused += 1;
            return self.throttled(cost);
        }
        let (mut data, mut actual) = (Map::new(), document.base());
        for root in document.roots() {
            let value = match self.resolve(&root) {
                Ok(value) => value,
                Err(code) => return self.wrong(code, "refused"),
            };
            let most = if KINDS.iter().any(|(_, list, _)| *list == root.name) { self.page_size } else { u64::MAX };
            match document.select(&root, &value, most) {
                Ok((value, points)) => {
                    actual += points;
                    data.insert(root.alias.to_owned(), value);
                }
                Err(field) => return self.wrong("undefinedField", &format!("Field '{field}' doesn't exist")),
            }
        }
        assert!(actual <= cost, "{actual} of {cost}: {}", call["query"]);
        self.points -= actual;
        self.spent += actual;
        let body = json!({ "data": data, "extensions": { "cost": self.told(cost, Some(actual)) } });
        json_answer(200, &body)
    }

    fn refill(&mut self) {
        let seconds = (self.now.micros() - self.points_at.micros()) as f64 / 1e6;
        self.points = (self.points + seconds * self.points_a_second).min(self.points_a_second * BUCKET_SECONDS);
        self.points_at = self.now;
    }

    fn told(&self, requested: f64, actual: Option<f64>) -> Value {
        json!({
            "requestedQueryCost": requested, "actualQueryCost": actual,
            "throttleStatus": {
                "maximumAvailable": self.points_a_second * BUCKET_SECONDS,
                "currentlyAvailable": self.points.floor(), "restoreRate": self.points_a_second,
            },
        })
    }

    fn throttled(&self, requested: f64) -> ApiResponse {
        json_answer(
            200,
            &json!({
                "errors": [{ "message": "Throttled", "extensions": { "code": "THROTTLED" } }],
                "extensions": { "cost": self.told(requested, None) },
            }),
        )
    }

    fn wrong(&self, code: &str, message: &str) -> ApiResponse {
        json_answer(200, &json!({ "errors": [{ "message": message, "extensions": { "code": code } }] }))
    }

    fn resolve(&mut self, root: &Root<'_>) -> Result<Value, &'static str> {
        let text = |name: &str| root.arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let object = |inner: &Self, kind: &'static str| {
            inner.objects.get(&(kind, number(&text("id")))).cloned().unwrap_or_default()
        };
        Ok(match root.name {
            "customer" => object(self, "Customer"),
            "collection" => object(self, "Collection"),
            "product" => object(self, "Product"),
            "order" => object(self, "Order"),
            "inventoryItem" => self.item(&text("id")),
            "nodes" => {
                let ids = root.arguments["ids"].as_array().cloned().unwrap_or_default();
                ids.iter().map(|id| self.item(id.as_str().unwrap_or_default())).collect()
            }
            "webhookSubscriptions" => self.hooks.iter().map(shown).collect(),
            "webhookSubscriptionCreate" => {
                let hook = Hook { id: self.id(), topic: topic(&text("topic")), uri: String::new() };
                self.save(hook, &root.arguments["webhookSubscription"])
            }
            "webhookSubscriptionUpdate" => {
                let id = number(&text("id"));
                match self.hooks.iter().find(|hook| hook.id == id).cloned() {
                    Some(hook) => self.save(hook, &root.arguments["webhookSubscription"]),
                    None => json!({ "webhookSubscription": null, "userErrors": [{ "field": ["id"] }] }),
                }
            }
            "webhookSubscriptionDelete" => {
                let (id, before) = (number(&text("id")), self.hooks.len());
                self.hooks.retain(|hook| hook.id != id);
                match self.hooks.len() < before {
                    true => json!({ "deletedWebhookSubscriptionId": text("id"), "userErrors": [] }),
                    false => json!({ "deletedWebhookSubscriptionId": null, "userErrors": [{ "field": ["id"] }] }),
                }
            }
            "bulkOperationRunQuery" => {
                let id = gid("BulkOperation", self.id());
                let Self { bulk, objects, now, .. } = self;
                bulk.run(id, &text("query"), *now, |list| {
                    let (kind, ..) = KINDS.iter().find(|(_, name, _)| *name == list)?;
                    Some(objects.iter().filter(|((known, _), _)| known == kind).map(|(_, one)| one.clone()).collect())
                })
            }
            "bulkOperation" => self.bulk.shown(&text("id"), self.now),
            name => {
                let (kind, ..) = KINDS.iter().find(|(_, list, _)| *list == name).ok_or("undefinedField")?;
                let first = root.arguments.get("first").and_then(Value::as_u64).unwrap_or(u64::MAX);
                self.list(kind, &text("query"), &text("after"), usize::try_from(first).unwrap())
            }
        })
    }

    /// Returns a list in the order of changes, from a time and after a cursor: the entries of a page, and one more if there
    /// is one.
    fn list(&self, kind: &str, filter: &str, after: &str, first: usize) -> Value {
        let since = filter.strip_prefix("updated_at:>='").and_then(|rest| parse_utc(rest.trim_end_matches('\'')));
        let after = after.split_once('|').map(|(at, id)| (at, id.parse().unwrap_or(0)));
        let of_kind = self.objects.iter().filter(|((known, _), _)| *known == kind);
        let all = of_kind.map(|((_, id), object)| (object["updatedAt"].as_str().unwrap(), *id));
        let is_since = |at: &str| since.is_none_or(|since| parse_utc(at).is_some_and(|at| at >= since));
        let mut found: Vec<(&str, u64)> =
            all.filter(|one| after.is_none_or(|after| *one > after) && is_since(one.0)).collect();
        found.sort_unstable();
        let shown = found.into_iter().take(first.saturating_add(1)).map(
            |(updated, id)| json!({ "id": gid(kind, id), "updatedAt": updated, "__cursor": format!("{updated}|{id}") }),
        );
        shown.collect()
    }

    /// Returns an inventory item, with the variant that it belongs to.
    fn item(&self, id: &str) -> Value {
        let products = self.objects.iter().filter(|((kind, _), _)| *kind == "Product");
        for (_, product) in products {
            let variants = product["variants"].as_array().unwrap();
            if let Some(variant) = variants.iter().find(|variant| variant["inventoryItem"]["id"] == id) {
                let mut item = variant["inventoryItem"].clone();
                item["variants"] = json!([{ "product": { "id": product["id"] } }]);
                return item;
            }
        }
        Value::Null
    }

    /// Saves a webhook. Of one topic and address there is one.
    fn save(&mut self, mut hook: Hook, members: &Value) -> Value {
        hook.uri = members["uri"].as_str().unwrap_or_default().to_owned();
        let same = |known: &Hook| known.id != hook.id && known.topic == hook.topic && known.uri == hook.uri;
        let is_known = declared_scopes(&PLATFORM).any(|topic| topic == hook.topic);
        let is_compliance =
            ["customers/redact", "customers/data_request", "shop/redact"].contains(&hook.topic.as_str());
        if self.hooks.iter().any(same) || !is_known || is_compliance || !hook.uri.starts_with("http") {
            return json!({ "webhookSubscription": null, "userErrors": [{ "field": ["webhookSubscription", "uri"] }] });
        }
        let shown = shown(&hook);
        self.hooks.retain(|known| known.id != hook.id);
        self.hooks.push(hook);
        json!({ "webhookSubscription": shown, "userErrors": [] })
    }

    // The shop.

    fn put(&mut self, kind: &'static str, id: u64, object: Value) {
        self.ever.insert((kind, id));
        self.objects.insert((kind, id), object);
    }

    fn touch(&mut self, kind: &'static str, id: u64, change: impl FnOnce(&mut Value)) {
        let at = iso(self.now);
        if let Some(object) = self.objects.get_mut(&(kind, id)) {
            change(object);
            object["updatedAt"] = at.into();
        }
    }

    fn any(&self, kind: &str, random: &mut StdRng) -> Option<u64> {
        let ids: Vec<u64> = self.objects.keys().filter(|(known, _)| *known == kind).map(|(_, id)| *id).collect();
        (!ids.is_empty()).then(|| ids[random.random_range(0..ids.len())])
    }

    fn change(&mut self, random: &mut StdRng) {
        match random.random_range(0..100) {
            0..9 => self.create_customer(random),
            9..16 => self.update_customer(random),
            16..18 => self.delete_customer(random),
            18..24 => self.change_collection(random),
            24..36 => self.create_product(random),
            36..44 => self.update_product(random),
            44..56 => self.change_stock(random),
            56..59 => self.delete_product(random),
            59..74 => self.create_order(random),
            74..86 => self.update_order(random),
            86..88 => self.delete_order(random),
            _ => self.change_cart(random),
        }
    }

    fn place(&mut self, random: &mut StdRng) -> Value {
        let city = ["Aarhus", "Gent", "Łódź", "Genève"][random.random_range(0..4)];
        json!({
            "id": gid("MailingAddress", self.id()), "firstName": "Nora", "lastName": "Lind", "company": null,
            "address1": format!("Main Street {}", random.random_range(1..99)), "address2": null, "city": city,
            "provinceCode": null, "province": null, "zip": "8000", "countryCodeV2": "DK", "phone": "+4555550100",
        })
    }

    fn create_customer(&mut self, random: &mut StdRng) {
        let (id, at, place) = (self.id(), iso(self.now), self.place(random));
        let customer = json!({
            "id": gid("Customer", id), "firstName": format!("Nora {id}"), "lastName": "Lind", "state": "ENABLED",
            "locale": "da", "note": null, "tags": ["vip"], "taxExempt": false, "verifiedEmail": true,
            "createdAt": at, "updatedAt": at,
            "defaultEmailAddress": { "emailAddress": format!("nora{id}@example.com"), "marketingState": "SUBSCRIBED" },
            "defaultPhoneNumber": null, "defaultAddress": place, "addressesV2": [place],
        });
        self.put("Customer", id, customer);
        self.tell_of("customers/create", "Customer", id);
    }

    fn update_customer(&mut self, random: &mut StdRng) {
        let Some(id) = self.any("Customer", random) else { return };
        let (place, n) = (self.place(random), random.random_range(0..1000));
        self.touch("Customer", id, |customer| {
            customer["firstName"] = format!("Nora {n}").into();
            customer["defaultAddress"] = place.clone();
            customer["addressesV2"].as_array_mut().unwrap().push(place);
        });
        self.tell_of("customers/update", "Customer", id);
        if random.random_bool(0.2) {
            self.touch("Customer", id, |customer| customer["state"] = "DISABLED".into());
            self.tell_of("customers/disable", "Customer", id);
        }
    }

    /// Deletes a customer who has no orders, as no other can be deleted.
    fn delete_customer(&mut self, random: &mut StdRng) {
        let Some(id) = self.any("Customer", random) else { return };
        let buyer = gid("Customer", id);
        if !self.objects.iter().any(|((kind, _), order)| *kind == "Order" && order["customer"]["id"] == buyer.as_str())
        {
            self.objects.remove(&("Customer", id));
            self.tell("customers/delete", &json!({ "id": id }));
        }
    }

    fn change_collection(&mut self, random: &mut StdRng) {
        let at = iso(self.now);
        match (self.any("Collection", random), random.random_range(0..5)) {
            (Some(id), 0) => {
                self.objects.remove(&("Collection", id));
                self.tell("collections/delete", &json!({ "id": id }));
                let of = gid("Collection", id);
                let products: Vec<u64> =
                    self.objects.keys().filter(|(kind, _)| *kind == "Product").map(|(_, id)| *id).collect();
                for product in products {
                    let all = &self.objects[&("Product", product)]["collections"];
                    if all.as_array().unwrap().iter().any(|one| one["id"] == of.as_str()) {
                        self.touch("Product", product, |product| {
                            product["collections"].as_array_mut().unwrap().retain(|one| one["id"] != of.as_str());
                        });
                        self.tell_of("products/update", "Product", product);
                    }
                }
            }
            (Some(id), 1 | 2) => {
                let title = format!("Firs {}", random.random_range(0..1000));
                self.touch("Collection", id, |collection| collection["title"] = title.into());
                self.tell_of("collections/update", "Collection", id);
            }
            _ => {
                let id = self.id();
                let collection = json!({
                    "id": gid("Collection", id), "title": format!("Collection {id}"), "handle": format!("c-{id}"),
                    "descriptionHtml": "", "sortOrder": "BEST_SELLING", "templateSuffix": null, "updatedAt": at,
                    "image": null,
                });
                self.put("Collection", id, collection);
                self.tell_of("collections/create", "Collection", id);
            }
        }
    }

    /// Makes a variant with stock at so many locations, or at any number of them.
    fn variant(&mut self, place: usize, places: Option<usize>, random: &mut StdRng) -> Value {
        let (id, item, price) = (self.id(), self.id(), random.random_range(100..9_000));
        let places = places.unwrap_or_else(|| random.random_range(1..=LOCATIONS.len()));
        let levels: Vec<Value> = LOCATIONS[..places]
            .iter()
            .map(|location| {
                let counted = |name: &str, quantity: i64| json!({ "name": name, "quantity": quantity });
                json!({
                    "id": gid("InventoryLevel", *location), "location": { "id": gid("Location", *location) },
                    "quantities": [
                        counted("available", random.random_range(0..50)), counted("committed", 1),
                        counted("incoming", 0), counted("on_hand", 51),
                    ],
                })
            })
            .collect();
        let before = random.random_bool(0.3).then(|| plain(price + 500));
        let stock = available(&levels);
        json!({
            "id": gid("ProductVariant", id), "title": format!("Size {place}"), "sku": format!("SKU-{id}"),
            "barcode": null, "price": plain(price), "compareAtPrice": before, "position": place + 1,
            "inventoryPolicy": "DENY", "inventoryQuantity": stock,
            "selectedOptions": [{ "name": "Size", "value": place.to_string() }],
            "inventoryItem": {
                "__typename": "InventoryItem", "id": gid("InventoryItem", item), "tracked": true,
                "inventoryLevels": levels,
            },
        })
    }

    fn create_product(&mut self, random: &mut StdRng) {
        // Now and then there is one whose variants take several calls.
        let count = if random.random_ratio(1, 12) { 40 } else { random.random_range(1..4) };
        self.create_product_with(count, None, random);
    }

    fn create_product_with(&mut self, count: usize, places: Option<usize>, random: &mut StdRng) -> u64 {
        let (id, at) = (self.id(), iso(self.now));
        let variants: Vec<Value> = (0..count).map(|place| self.variant(place, places, random)).collect();
        let collections: Vec<Value> =
            self.any("Collection", random).into_iter().map(|id| json!({ "id": gid("Collection", id) })).collect();
        let image =
            json!({ "__typename": "MediaImage", "image": { "url": format!("https://cdn.example.com/{id}.jpg") } });
        let product = json!({
            "id": gid("Product", id), "title": format!("Fir No. {id}"), "handle": format!("fir-{id}"),
            "status": "ACTIVE", "vendor": "Fir & Fern", "productType": "Tree", "tags": ["green"],
            "descriptionHtml": "<p>A fir.</p>", "onlineStoreUrl": null, "hasOnlyDefaultVariant": count == 1,
            "tracksInventory": true, "totalInventory": total_of(&variants), "createdAt": at, "publishedAt": at,
            "updatedAt": at, "options": [{ "name": "Size", "values": ["0", "1"] }],
            "priceRangeV2": { "minVariantPrice": { "amount": lowest(&variants), "currencyCode": CURRENCY } },
            "collections": collections, "media": [image, { "__typename": "Video" }], "variants": variants,
        });
        self.put("Product", id, product);
        self.tell_of("products/create", "Product", id);
        id
    }

    fn update_product(&mut self, random: &mut StdRng) {
        let Some(id) = self.any("Product", random) else { return };
        let (title, price) = (format!("Spruce {}", random.random_range(0..1000)), random.random_range(100..9_000));
        self.touch("Product", id, |product| {
            product["title"] = title.into();
            product["variants"][0]["price"] = plain(price).into();
            let lowest = lowest(product["variants"].as_array().unwrap());
            product["priceRangeV2"]["minVariantPrice"]["amount"] = lowest;
        });
        self.tell_of("products/update", "Product", id);
    }

    /// Changes the stock of a variant at one location. The product's time stays.
    fn change_stock(&mut self, random: &mut StdRng) {
        let Some(id) = self.any("Product", random) else { return };
        let (quantity, at) = (random.random_range(0..50), iso(self.now));
        let product = self.objects.get_mut(&("Product", id)).unwrap();
        let variants = product["variants"].as_array_mut().unwrap();
        let place = random.random_range(0..variants.len());
        let variant = &mut variants[place];
        let levels = variant["inventoryItem"]["inventoryLevels"].as_array_mut().unwrap();
        let place = random.random_range(0..levels.len());
        let level = &mut levels[place];
        level["quantities"][0]["quantity"] = quantity.into();
        let location = number(level["location"]["id"].as_str().unwrap());
        let stock = available(levels);
        let was_there = variant["inventoryQuantity"].as_i64().unwrap() > 0;
        variant["inventoryQuantity"] = stock.into();
        let item = number(variant["inventoryItem"]["id"].as_str().unwrap());
        let variant = number(variant["id"].as_str().unwrap());
        product["totalInventory"] = total_of(product["variants"].as_array().unwrap());
        let body = json!({
            "inventory_item_id": item, "location_id": location, "available": quantity, "updated_at": at,
            "admin_graphql_api_id": format!("gid://shopify/InventoryLevel/{location}?inventory_item_id={item}"),
        });
        self.tell("inventory_levels/update", &body);
        if was_there && stock == 0 {
            self.tell("variants/out_of_stock", &json!({ "id": variant, "product_id": id }));
        }
    }

    fn delete_product(&mut self, random: &mut StdRng) {
        let Some(id) = self.any("Product", random) else { return };
        let product = self.objects.remove(&("Product", id)).unwrap();
        self.tell("products/delete", &json!({ "id": id }));
        for variant in product["variants"].as_array().unwrap() {
            let item = number(variant["inventoryItem"]["id"].as_str().unwrap());
            self.tell("inventory_items/delete", &json!({ "id": item }));
        }
    }

    fn create_order(&mut self, random: &mut StdRng) {
        let Some(product) = self.any("Product", random) else { return };
        self.create_order_of(product, None, random);
    }

    /// Makes an order with so many lines, or with any number of them.
    fn create_order_of(&mut self, product: u64, count: Option<usize>, random: &mut StdRng) {
        let id = self.id();
        let sale = Sale {
            gross: random.random_bool(0.5),
            rate: [19, 7, 25][random.random_range(0..3)],
            seen: [(CURRENCY, 100), ("USD", 109), ("SEK", 1131)][random.random_range(0..3)],
        };
        let code = random.random_bool(0.4).then_some("SPRING");
        let variants = self.objects[&("Product", product)]["variants"].as_array().unwrap().clone();
        let any = |random: &mut StdRng| if random.random_ratio(1, 15) { 40 } else { random.random_range(1..4) };
        let count = count.unwrap_or_else(|| any(random));
        let (mut lines, mut total, mut tax) = (Vec::new(), 0, 0);
        for n in 0..count {
            let variant = &variants[n % variants.len()];
            let quantity = random.random_range(1..4);
            let (original, id) = (random.random_range(100..9_000) * quantity, self.id());
            let off = if code.is_some() { original / 10 } else { 0 };
            let part = sale.tax(original - off);
            total += original - off + if sale.gross { 0 } else { part };
            tax += part;
            let allocation = json!({
                "allocatedAmountSet": sale.money(off),
                "discountApplication": { "__typename": "DiscountCodeApplication", "code": code },
            });
            lines.push(json!({
                "id": gid("LineItem", id), "name": "Fir", "sku": variant["sku"], "vendor": "Fir & Fern",
                "variantTitle": null, "quantity": quantity, "currentQuantity": quantity, "isGiftCard": false,
                "product": { "id": gid("Product", product) }, "variant": { "id": variant["id"] },
                "originalTotalSet": sale.money(original),
                "discountAllocations": if code.is_some() { vec![allocation] } else { Vec::new() },
                "taxLines": [sale.tax_line(part)],
            }));
        }
        let (freight, fee) = (random.random_range(0..1_000), random.random_range(0..3) * 50);
        let (freight_tax, fee_tax) = (sale.tax(freight), sale.tax(fee));
        let tip = random.random_range(0..3) * 100;
        total += freight + fee + tip + if sale.gross { 0 } else { freight_tax + fee_tax };
        tax += freight_tax + fee_tax;
        let fees = match fee {
            0 => json!([]),
            _ => json!([{
                "id": gid("AdditionalFee", self.id()), "name": "Packaging", "price": sale.money(fee),
                "taxLines": [sale.tax_line(fee_tax)],
            }]),
        };
        let (at, place) = (iso(self.now), self.place(random));
        let buyer = self.any("Customer", random).map(|id| json!({ "id": gid("Customer", id) }));
        let mut order = json!({
            "id": gid("Order", id), "name": format!("#{id}"), "email": "nora@example.com", "phone": null, "note": null,
            "tags": [], "test": false, "sourceName": "web", "poNumber": null, "confirmationNumber": format!("C{id}"),
            "displayFinancialStatus": "PENDING", "displayFulfillmentStatus": "UNFULFILLED",
            "returnStatus": "NO_RETURN", "cancelReason": null, "cancelledAt": null, "closedAt": null, "createdAt": at,
            "processedAt": at, "updatedAt": at, "currencyCode": CURRENCY, "presentmentCurrencyCode": sale.seen.0,
            "taxesIncluded": sale.gross, "discountCodes": code.into_iter().collect::<Vec<_>>(),
        });
        let amounts = json!({
            "paymentGatewayNames": ["shopify_payments"], "customer": buyer, "billingAddress": place,
            "shippingAddress": place, "totalPriceSet": sale.money(total), "totalTaxSet": sale.money(tax),
            "totalDiscountsSet": sale.money(0), "totalTipReceivedSet": sale.money(tip),
            "totalRefundedSet": sale.money(0), "currentTotalPriceSet": sale.money(total),
            "originalTotalDutiesSet": null, "taxLines": [sale.tax_line(tax)], "additionalFees": fees,
            "shippingLines": [{
                "id": gid("ShippingLine", self.id()), "title": "Post", "code": "post",
                "discountedPriceSet": sale.money(freight), "taxLines": [sale.tax_line(freight_tax)],
            }],
            "transactions": [], "refunds": [], "fulfillments": [], "lineItems": lines,
        });
        order.as_object_mut().unwrap().extend(amounts.as_object().unwrap().clone());
        self.put("Order", id, order);
        self.tell_of("orders/create", "Order", id);
    }

    fn update_order(&mut self, random: &mut StdRng) {
        let Some(id) = self.any("Order", random) else { return };
        let (part, at, n) = (self.id(), iso(self.now), random.random_range(0..1000));
        let total = self.objects[&("Order", id)]["totalPriceSet"].clone();
        let of_part = |part: u64| json!({ "id": part, "order_id": id });
        match random.random_range(0..6) {
            0 => {
                self.touch("Order", id, |order| {
                    let sale = json!({
                        "id": gid("OrderTransaction", part), "kind": "SALE", "status": "SUCCESS", "processedAt": at,
                        "amountSet": total,
                    });
                    order["transactions"].as_array_mut().unwrap().push(sale);
                    order["displayFinancialStatus"] = "PAID".into();
                });
                self.tell("order_transactions/create", &of_part(part));
                self.tell_of("orders/paid", "Order", id);
            }
            1 => {
                self.touch("Order", id, |order| {
                    let package = json!({
                        "id": gid("Fulfillment", part), "status": "SUCCESS", "createdAt": at,
                        "trackingInfo": [{ "company": "Post", "number": format!("P{part}") }],
                    });
                    order["fulfillments"].as_array_mut().unwrap().push(package);
                    order["displayFulfillmentStatus"] = "FULFILLED".into();
                });
                self.tell("fulfillments/create", &of_part(part));
                self.tell_of("orders/fulfilled", "Order", id);
            }
            2 => {
                self.touch("Order", id, |order| {
                    let refund = json!({ "id": gid("Refund", part), "note": "broken", "totalRefundedSet": total });
                    order["refunds"].as_array_mut().unwrap().push(refund);
                    order["totalRefundedSet"] = total.clone();
                });
                self.tell("refunds/create", &of_part(part));
            }
            3 => {
                self.touch("Order", id, |order| {
                    order["cancelledAt"] = at.clone().into();
                    order["cancelReason"] = "CUSTOMER".into();
                });
                self.tell_of("orders/cancelled", "Order", id);
            }
            4 => {
                self.touch("Order", id, |order| order["note"] = format!("edited {n}").into());
                self.tell("orders/edited", &json!({ "order_edit": { "id": part, "order_id": id } }));
            }
            _ => self.touch("Order", id, |order| order["note"] = format!("note {n}").into()),
        }
        self.tell_of("orders/updated", "Order", id);
    }

    fn delete_order(&mut self, random: &mut StdRng) {
        let Some(id) = self.any("Order", random) else { return };
        self.objects.remove(&("Order", id));
        self.tell("orders/delete", &json!({ "id": id }));
    }

    /// Changes a cart or a checkout. One of them changes at most once a second, because nobody could tell which of two
    /// changes within a second is later.
    fn change_cart(&mut self, random: &mut StdRng) {
        let at = iso(self.now);
        let quantity = random.random_range(1..9);
        let line = json!({
            "id": 71, "product_id": 72, "variant_id": 73, "title": "Fir", "sku": "F", "quantity": quantity,
            "price": "3.50", "line_price": plain(350 * quantity),
        });
        let old = (!self.open.is_empty() && random.random_bool(0.6)).then(|| random.random_range(0..self.open.len()));
        let (place, event) = match old {
            Some(place) if self.open[place].1["updated_at"] == at.as_str() => return,
            Some(place) => (place, "update"),
            None => {
                let (id, kind) = (self.id(), ["carts", "checkouts"][random.random_range(0..2)]);
                let token = format!("token-{id}");
                let body = match kind {
                    "carts" => json!({ "id": token, "token": token, "note": null, "created_at": at }),
                    _ => json!({
                        "id": id, "token": token, "cart_token": null, "email": "nora@example.com", "currency": CURRENCY,
                        "total_price": "3.50", "discount_codes": [], "created_at": at, "completed_at": null,
                    }),
                };
                self.open.push((kind, body));
                (self.open.len() - 1, "create")
            }
        };
        let (kind, body) = &mut self.open[place];
        body["line_items"] = json!([line]);
        body["updated_at"] = at.into();
        let (kind, body) = (*kind, body.clone());
        let id = match kind {
            "carts" => hashed(body["token"].as_str().unwrap()),
            _ => body["id"].to_string(),
        };
        if kind == "checkouts" && event == "update" && random.random_bool(0.2) {
            self.open.remove(place);
            self.carts.insert(id, None);
            return self.tell("checkouts/delete", &json!({ "id": body["id"] }));
        }
        let mut fields = json!({ "id": id });
        if kind == "checkouts" {
            fields["email"] = body["email"].clone();
            fields["currency"] = CURRENCY.into();
        }
        let told = json!({ "id": "71", "product": "72", "variation": "73", "name": "Fir", "sku": "F" });
        fields["lines"] = json!([told]);
        for (name, value) in [("quantity", quantity.to_string()), ("price", "3.5".into()), ("total", total(quantity))] {
            fields["lines"][0][name] = value.into();
        }
        self.carts.insert(id, Some(fields));
        self.tell(&format!("{kind}/{event}"), &body);
    }
}

/// Returns the id of a cart with a token, which nobody may read from it.
fn hashed(token: &str) -> String {
    format!("cart-{}", URL_SAFE_NO_PAD.encode(&sha256(token)[..12]))
}

/// Returns the canonical amount of so many firs.
fn total(quantity: i64) -> String {
    let text = plain(350 * quantity);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The way in which an order's amounts are made.
struct Sale {
    gross: bool,
    rate: i64,
    /// The currency that the buyer sees, and a hundred times its rate.
    seen: (&'static str, i64),
}

impl Sale {
    fn tax(&self, amount: i64) -> i64 {
        if self.gross { amount * self.rate / (100 + self.rate) } else { amount * self.rate / 100 }
    }

    fn money(&self, minor: i64) -> Value {
        let amount = |minor: i64, currency: &str| json!({ "amount": plain(minor), "currencyCode": currency });
        let seen = minor * self.seen.1 / 100;
        json!({ "shopMoney": amount(minor, CURRENCY), "presentmentMoney": amount(seen, self.seen.0) })
    }

    fn tax_line(&self, tax: i64) -> Value {
        json!({ "title": "VAT", "ratePercentage": self.rate, "priceSet": self.money(tax) })
    }
}

fn available(levels: &[Value]) -> i64 {
    levels.iter().map(|level| level["quantities"][0]["quantity"].as_i64().unwrap()).sum()
}

fn total_of(variants: &[Value]) -> Value {
    variants.iter().map(|variant| variant["inventoryQuantity"].as_i64().unwrap()).sum::<i64>().into()
}

fn lowest(variants: &[Value]) -> Value {
    let minor = |variant: &Value| variant["price"].as_str().unwrap().replace('.', "").parse::<i64>().unwrap();
    variants.iter().map(minor).min().map(plain).into()
}

/// Returns the topic as deliveries name it.
fn topic(name: &str) -> String {
    let found = declared_scopes(&PLATFORM).find(|scope| scope.replace('/', "_").to_ascii_uppercase() == name);
    found.unwrap_or_default().to_owned()
}

fn shown(hook: &Hook) -> Value {
    let topic = hook.topic.replace('/', "_").to_ascii_uppercase();
    json!({ "id": gid("WebhookSubscription", hook.id), "topic": topic, "uri": hook.uri })
}
