//! A WooCommerce store: its keys, its webhooks with their quirks, its entities, and its deliveries.
//!
//! Its behaviour follows WooCommerce's source, as described in `shared/commerce/src/platforms/woocommerce/`. A new
//! webhook is always active, and pings before the API answers. The API never shows secrets. Two webhooks may be equal.
//! `DELETE` needs `force`. The answer about a missing webhook is 404 to `DELETE` and 400 otherwise. A failed delivery
//! is lost, and the seventh in a row disables the webhook.
//!
//! The following was seen at a real store, and is easily overlooked. Users have any role, and are listed by it.
//! Variations are in no list of products, and have another form in the list of their product. A delete with `force` or
//! in a batch is not reported. Trashing reports the same id for other kinds of entities too. Using a coupon, renaming a
//! category and deleting a refund change no date. The owner of a webhook may lose his rights. Sites differ too: see
//! [`Site`].

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use commerce::{
    entity::EntityKind,
    http_call::{ApiRequest, ApiResponse, Fault},
    scheme::hmac::{Algorithm, Encoding, Hmac},
    timestamp::Timestamp,
};
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method};
use rand::{Rng, rngs::StdRng};
use serde_json::{Value, json};

use super::{Clock, Delivery, Simulator, Trouble, Truth, Wire, json_answer, listen, page, query};

/// A webhook as the store keeps it.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its id.
    pub id: u64,
    /// The topic that it delivers.
    pub topic: String,
    /// The URL that it delivers to.
    pub delivery_url: String,
    /// The secret that it signs with. The API never shows it.
    pub secret: String,
    /// `active`, `paused` or `disabled`.
    pub status: String,
    /// `true` when its owner has no rights any more: the store then delivers its own refusal.
    pub without_rights: bool,
    failures: u32,
    pending_delivery: bool,
}

/// The site that the store runs on.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// The status of the page at `/wp-json` (not found, or the front page) if the API is at `?rest_route=` only.
    pub plain_permalinks: Option<u16>,
    /// `true` when the host removes the header `Authorization`.
    pub strips_authorization: bool,
    /// The site that everything is redirected to.
    pub redirects_to: Option<String>,
    /// The text before every answer of the API: a byte order mark, or a warning of PHP.
    pub before: String,
    /// The end of the paths that get a page in place of an answer, and the page's status.
    pub page_for: Option<(String, u16)>,
    /// `true` while a plugin or the core is being updated.
    pub in_maintenance: bool,
}

struct Inner {
    site: Site,
    key: (String, String),
    /// Further keys, issued to apps.
    granted: Vec<(String, String)>,
    /// Another key, which may only read.
    reads: Option<(String, String)>,
    webhooks: BTreeMap<u64, Webhook>,
    entities: BTreeMap<(String, String), Value>,
    troubles: VecDeque<Trouble>,
    calls: Vec<String>,
    outbox: Vec<Delivery>,
    gone: BTreeSet<(String, String)>,
    on_call: Option<(String, Arc<dyn Fn() + Send + Sync>)>,
    page_size: usize,
    is_old: bool,
}

/// A simulated store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Mutex<Inner>>,
    wire: Arc<dyn Wire>,
    next_id: Arc<AtomicU64>,
    seconds: Arc<AtomicU64>,
    clock: Option<Clock>,
}

/// The signature of the store's deliveries.
const SIGNATURE: Hmac = Hmac {
    header: "x-wc-webhook-signature",
    algorithm: Algorithm::Sha256,
    encoding: Encoding::Base64,
    prefix: "",
    keys: commerce::scheme::hmac::KeySource::Derived,
};

/// The topics that a webhook can have.
const TOPICS: [&str; 15] = [
    "coupon.created",
    "coupon.updated",
    "coupon.deleted",
    "coupon.restored",
    "customer.created",
    "customer.updated",
    "customer.deleted",
    "order.created",
    "order.updated",
    "order.deleted",
    "order.restored",
    "product.created",
    "product.updated",
    "product.deleted",
    "product.restored",
];

impl Store {
    /// Makes an empty store with one API key.
    pub fn new(wire: Arc<dyn Wire>, consumer_key: &str, consumer_secret: &str) -> Self {
        let inner = Inner {
            site: Site::default(),
            key: (consumer_key.into(), consumer_secret.into()),
            granted: Vec::new(),
            reads: None,
            webhooks: BTreeMap::new(),
            entities: BTreeMap::new(),
            troubles: VecDeque::new(),
            calls: Vec::new(),
            outbox: Vec::new(),
            gone: BTreeSet::new(),
            on_call: None,
            page_size: 100,
            is_old: false,
        };
        let next_id = Arc::new(AtomicU64::new(1));
        Self {
            inner: Arc::new(Mutex::new(inner)),
            wire,
            next_id,
            seconds: Arc::new(AtomicU64::new(1_795_225_721)),
            clock: None,
        }
    }

    /// Returns the same store with a clock for its timestamps.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Listens on a port of its own, and returns the site's address.
    pub async fn listen(&self) -> String {
        listen(Arc::new(self.clone())).await
    }

    /// Returns the time as the store writes it: UTC without a zone, in whole seconds.
    fn now(&self) -> String {
        let seconds = match &self.clock {
            Some(clock) => clock().seconds(),
            None => i64::try_from(self.seconds.load(Ordering::Relaxed)).unwrap(),
        };
        Timestamp::from_millis(seconds * 1000).to_string().trim_end_matches('Z').to_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Changes the site that the store runs on.
    pub fn edit_site(&self, change: impl FnOnce(&mut Site)) {
        change(&mut self.lock().site);
    }

    /// Returns all webhooks.
    pub fn webhooks(&self) -> Vec<Webhook> {
        self.lock().webhooks.values().cloned().collect()
    }

    /// Adds a webhook of somebody else, and returns its id.
    pub fn add_webhook(&self, topic: &str, delivery_url: &str) -> u64 {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let hook = Webhook {
            id,
            topic: topic.into(),
            delivery_url: delivery_url.into(),
            secret: "theirs".into(),
            status: "active".into(),
            without_rights: false,
            failures: 0,
            pending_delivery: false,
        };
        self.lock().webhooks.insert(id, hook);
        id
    }

    /// Changes a webhook, as the merchant can on the store's pages.
    pub fn edit_webhook(&self, id: u64, change: impl FnOnce(&mut Webhook)) {
        change(self.lock().webhooks.get_mut(&id).unwrap());
    }

    /// Removes a webhook, as the merchant can on the store's pages.
    pub fn remove_webhook(&self, id: u64) {
        self.lock().webhooks.remove(&id);
    }

    /// Revokes the key, and issues another.
    pub fn replace_key(&self, consumer_key: &str, consumer_secret: &str) {
        self.lock().key = (consumer_key.into(), consumer_secret.into());
    }

    /// Issues a key that may only read.
    pub fn let_read(&self, consumer_key: &str, consumer_secret: &str) {
        self.lock().reads = Some((consumer_key.into(), consumer_secret.into()));
    }

    /// Makes a call fail after so many good ones.
    pub fn trouble_after(&self, calls: usize, trouble: Trouble) {
        self.lock().troubles.extend(std::iter::repeat_n(Trouble::None, calls).chain([trouble]));
    }

    /// Sets what happens elsewhere during each call with this method.
    pub fn on_call(&self, method: &str, then: impl Fn() + Send + Sync + 'static) {
        self.lock().on_call = Some((method.to_owned(), Arc::new(then)));
    }

    /// Limits a page to fewer entries than were asked for, as some hosts do.
    pub fn set_page_size(&self, page_size: usize) {
        self.lock().page_size = page_size;
    }

    /// Sets an entity as the API shows it; `None` removes it for good.
    pub fn set(&self, resource: &str, id: u64, entity: Option<Value>) {
        let key = (resource.to_owned(), id.to_string());
        match entity {
            Some(entity) => _ = self.lock().entities.insert(key, entity),
            None => {
                let mut inner = self.lock();
                inner.entities.remove(&key);
                inner.gone.insert(key);
            }
        }
    }

    /// Delivers to every active webhook of a topic, and returns the statuses.
    pub async fn deliver(&self, topic: &str, body: &str) -> Vec<u16> {
        let matching = |hook: &&Webhook| hook.topic == topic && hook.status == "active";
        let hooks: Vec<_> = self.lock().webhooks.values().filter(matching).cloned().collect();
        let mut statuses = Vec::new();
        for hook in hooks {
            statuses.push(self.deliver_to(&hook, body).await);
        }
        statuses
    }

    /// Delivers to one webhook, whatever its status, because a removed webhook still sends its queued deliveries.
    pub async fn deliver_to(&self, hook: &Webhook, body: &str) -> u16 {
        let delivery = self.delivery(hook, body);
        let status = self.wire.send(delivery.clone()).await;
        self.answered(&delivery, status);
        // The store saves the webhook after a delivery, which pings again until a ping succeeds.
        let hook = self.lock().webhooks.get(&hook.id).filter(|hook| hook.pending_delivery).cloned();
        if let Some(hook) = hook {
            self.ping(&hook).await;
        }
        status
    }

    fn delivery(&self, hook: &Webhook, body: &str) -> Delivery {
        let refusal = error(401, "woocommerce_rest_cannot_view", "Sorry, you cannot view this resource.").body;
        let refusal = String::from_utf8(refusal.to_vec()).unwrap();
        // A delete carries only the id, which needs no rights.
        let body = if hook.without_rights && !hook.topic.ends_with(".deleted") { &refusal } else { body };
        let (resource, event) = hook.topic.split_once('.').unwrap();
        // Delivery ids depend only on the webhook and the second; here, a second passes with every third delivery.
        let second = self.seconds.fetch_add(1, Ordering::Relaxed) / 3;
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("x-wc-webhook-source", "https://shop.example.com/".to_owned()),
            ("x-wc-webhook-topic", hook.topic.clone()),
            ("x-wc-webhook-resource", resource.to_owned()),
            ("x-wc-webhook-event", event.to_owned()),
            (SIGNATURE.header, SIGNATURE.sign(hook.secret.as_bytes(), body.as_bytes())),
            ("x-wc-webhook-id", hook.id.to_string()),
            ("x-wc-webhook-delivery-id", format!("{:032x}", u128::from(hook.id) << 64 | u128::from(second))),
        ];
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let body = Bytes::copy_from_slice(body.as_bytes());
        Delivery { method: Method::POST, url: hook.delivery_url.clone(), headers, body, attempts: 0 }
    }

    /// Puts a delivery for every active webhook of a topic into the outbox.
    fn tell(&self, topic: &str, body: &str) {
        let matching = |hook: &&Webhook| hook.topic == topic && hook.status == "active";
        let hooks: Vec<_> = self.lock().webhooks.values().filter(matching).cloned().collect();
        for hook in hooks {
            let delivery = self.delivery(&hook, body);
            self.lock().outbox.push(delivery);
        }
    }

    async fn ping(&self, hook: &Webhook) {
        let headers = vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
        let body = Bytes::from(format!("webhook_id={}", hook.id));
        let url = hook.delivery_url.clone();
        let status = self.wire.send(Delivery { method: Method::POST, url, headers, body, attempts: 0 }).await;
        if let Some(hook) = self.lock().webhooks.get_mut(&hook.id) {
            hook.pending_delivery = status != 200;
        }
    }

    /// Returns whether every webhook's ping was answered with exactly 200.
    pub fn all_pinged(&self) -> bool {
        self.lock().webhooks.values().all(|hook| !hook.pending_delivery)
    }

    async fn respond(&self, request: &ApiRequest) -> Result<ApiResponse, Fault> {
        if request.url.path().starts_with("/wc-auth/") {
            return Ok(self.app_page(request).await);
        }
        let (trouble, site, right) = {
            let mut inner = self.lock();
            let place = query(request)
                .get("rest_route")
                .map_or(request.url.path().to_owned(), |route| format!("/wp-json{route}"));
            inner.calls.push(format!("{} {place}", request.method));
            let right = inner.right(request);
            (inner.troubles.pop_front(), inner.site.clone(), right)
        };
        let then = self.lock().on_call.clone().filter(|(method, _)| request.method == method.as_str());
        if let Some((_, then)) = then {
            then();
        }
        match trouble {
            Some(Trouble::TooMany(seconds)) => {
                let mut answer = page(429, "Too many requests");
                answer.headers.insert("retry-after", HeaderValue::from(seconds));
                return Ok(answer);
            }
            Some(Trouble::Broken) => return Ok(page(500, "There has been a critical error on this website.")),
            Some(Trouble::NotFoundPage) => return Ok(page(404, "<html>Nothing found</html>")),
            Some(Trouble::Slow) => return Err(Fault::Unavailable("no answer in time".into())),
            Some(Trouble::AnswerLost | Trouble::None) | None => {}
        }
        if let Some(answer) = site.instead(request) {
            return Ok(answer);
        }
        let mut answer = match right {
            Right::Nobody => error(401, "woocommerce_rest_cannot_view", "Sorry, you cannot list resources."),
            Right::Unknown => error(401, "woocommerce_rest_authentication_error", "Consumer key is invalid."),
            Right::ReadOnly if request.method != Method::GET => error(
                401,
                "woocommerce_rest_authentication_error",
                "The API key provided does not have write permissions.",
            ),
            Right::ReadOnly | Right::All => self.route(request).await,
        };
        if !site.before.is_empty() {
            answer.body = [site.before.as_bytes(), &answer.body].concat().into();
            // The status is sent before PHP prints its text.
            if !site.before.starts_with('\u{feff}') {
                answer.status = 200;
            }
        }
        match trouble {
            Some(Trouble::AnswerLost) => Err(Fault::Unavailable("no answer".into())),
            _ => Ok(answer),
        }
    }

    /// Answers an app's authorization page as the owner, and returns the URL that he is sent to.
    ///
    /// # Errors
    /// Returns the page's text if something is wrong.
    pub async fn authorize(&self, url: &str, approve: bool) -> Result<String, String> {
        let url: url::Url = url.parse().unwrap();
        let query: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
        let given = |name: &str| query.get(name).filter(|value| !value.is_empty()).cloned();
        let need = |name: &str| given(name).ok_or_else(|| format!("Error: Missing parameter {name}."));
        need("app_name")?;
        let (user, back, callback, scope) =
            (need("user_id")?, need("return_url")?, need("callback_url")?, need("scope")?);
        if !["read", "write", "read_write"].contains(&scope.as_str()) {
            return Err(format!("Error: Invalid scope {scope}."));
        }
        let here = |url: &str| url.starts_with("http://127.0.0.1:") || url.starts_with("http://localhost");
        if !callback.starts_with("https://") && !here(&callback) {
            return Err("Error: The callback_url needs to be over SSL.".into());
        }
        let user: String = url::form_urlencoded::byte_serialize(user.as_bytes()).collect();
        let end = |success: u8| {
            let sign = if back.contains('?') { '&' } else { '?' };
            Ok(format!("{back}{sign}success={success}&user_id={user}"))
        };
        if !approve {
            return end(0);
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let key = (format!("ck_{id:040x}"), format!("cs_{id:040x}"));
        self.lock().granted.push(key.clone());
        let body = json!({
            "key_id": id, "user_id": query["user_id"], "consumer_key": key.0, "consumer_secret": key.1,
            "key_permissions": scope,
        });
        let headers = vec![("content-type".to_owned(), "application/json;charset=UTF-8".to_owned())];
        let body = Bytes::from(body.to_string());
        let status = self.wire.send(Delivery { method: Method::POST, url: callback, headers, body, attempts: 0 }).await;
        if status != 200 {
            self.lock().granted.retain(|known| *known != key);
            return Err(
                "Error: An error occurred in the request and at the time were unable to send the consumer data.".into(),
            );
        }
        end(1)
    }

    /// Returns the keys that apps have.
    pub fn granted(&self) -> Vec<(String, String)> {
        self.lock().granted.clone()
    }

    /// Answers the authorization pages of apps over HTTP. The first page only asks for the owner's click.
    async fn app_page(&self, request: &ApiRequest) -> ApiResponse {
        let done = match request.url.path() {
            "/wc-auth/v1/authorize" => return page(200, "<html>Approve or deny</html>"),
            "/wc-auth/v1/access_granted" => self.authorize(request.url.as_str(), true).await,
            _ => self.authorize(request.url.as_str(), false).await,
        };
        let Ok(location) = done else { return page(401, "<html>Error</html>") };
        let mut answer = page(302, "");
        answer.headers.insert("location", HeaderValue::from_str(&location).unwrap());
        answer
    }

    async fn route(&self, request: &ApiRequest) -> ApiResponse {
        let query = query(request);
        let path = match query.get("rest_route") {
            Some(route) => route.strip_prefix("/wc/v3/"),
            None => request.url.path().split_once("/wp-json/wc/v3/").map(|(_, path)| path),
        };
        let Some(path) = path else { return page(404, "<html></html>") };
        let (resource, id) = path.split_once('/').map_or((path, None), |(resource, id)| (resource, Some(id)));
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match (&request.method, resource, id) {
            (&Method::GET, "webhooks", None) => self.list(&query),
            (&Method::POST, "webhooks", None) => self.create(&body).await,
            (&Method::PUT, "webhooks", Some(id)) => self.update(id, &body).await,
            (&Method::DELETE, "webhooks", Some(id)) => self.delete(id, &query),
            (&Method::GET, "orders" | "products" | "coupons" | "customers", None) => self.many(resource, &query),
            (&Method::GET, "products", Some(id)) if id.ends_with("/variations") => {
                self.variations(id.trim_end_matches("/variations"), &query)
            }
            (&Method::GET, "orders" | "products" | "customers" | "coupons", Some(id)) => {
                match self.lock().entities.get(&(resource.to_owned(), id.to_owned())) {
                    Some(entity) => json_answer(200, entity),
                    None => {
                        let code = match resource {
                            "orders" => "woocommerce_rest_shop_order_invalid_id",
                            "products" => "woocommerce_rest_product_invalid_id",
                            "coupons" => "woocommerce_rest_shop_coupon_invalid_id",
                            _ => "woocommerce_rest_invalid_id",
                        };
                        error(404, code, "Invalid ID.")
                    }
                }
            }
            _ => error(404, "rest_no_route", "No route was found matching the URL and request method."),
        }
    }

    /// Lists a collection by id or by the time of the last change, or only what has changed after a time, which
    /// customers cannot be asked for. Answers with an empty list if that time has a zone or comes without
    /// `dates_are_gmt`: it would be local, which no test wants.
    fn many(&self, resource: &str, query: &BTreeMap<String, String>) -> ApiResponse {
        let since = query.get("modified_after").filter(|_| resource != "customers" && !self.lock().is_old);
        let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
        let (Some(per_page @ 1..=100), page @ 1..) = (number("per_page"), number("page").unwrap_or(1)) else {
            return error(400, "rest_invalid_param", "Invalid parameter(s): per_page");
        };
        let by_time = match query.get("orderby").map(String::as_str) {
            Some("id") | None => false,
            Some("modified") if resource != "customers" && !self.lock().is_old => true,
            _ => return error(400, "rest_invalid_param", "Invalid parameter(s): orderby"),
        };
        let in_utc = query.get("dates_are_gmt").map(String::as_str) == Some("true");
        if since.is_some_and(|since| !in_utc || since.contains(['Z', '+'])) {
            return json_answer(200, &json!([]));
        }
        let role = json!(query.get("role").map_or("customer", String::as_str));
        let inner = self.lock();
        let per_page = per_page.min(inner.page_size);
        let of = inner.entities.iter().filter(|((of, _), _)| of == resource).map(|(_, entity)| entity);
        let shown = |entity: &&Value| {
            let in_trash = entity["status"] == "trash";
            let has_role = resource != "customers" || [&entity["role"], &json!("all")].contains(&&role);
            let is_variation = entity["type"] == "variation";
            !in_trash
                && has_role
                && !is_variation
                && since.is_none_or(|since| entity["date_modified_gmt"].as_str() > Some(since))
        };
        let mut found: Vec<_> = of.filter(shown).collect();
        found.sort_by_key(|entity| {
            let time = entity["date_modified_gmt"].as_str().filter(|_| by_time);
            (time, entity["id"].as_u64())
        });
        let (total, offset) = (found.len(), number("offset").unwrap_or((page - 1) * per_page));
        let cut = |entity: &Value| with_fields(entity.clone(), query);
        let mut answer = json_answer(200, &found.into_iter().skip(offset).take(per_page).map(cut).collect());
        answer.headers.insert("x-wp-total", HeaderValue::from(total));
        answer
    }

    /// Lists the variations of a product, which have another form here than as products of their own.
    fn variations(&self, parent: &str, query: &BTreeMap<String, String>) -> ApiResponse {
        let inner = self.lock();
        if !inner.entities.contains_key(&("products".to_owned(), parent.to_owned())) {
            return error(404, "woocommerce_rest_product_invalid_id", "Invalid ID.");
        }
        let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
        if query.get("orderby").map(String::as_str) != Some("id") {
            return error(400, "rest_invalid_param", "Invalid parameter(s): orderby");
        }
        let of = inner.entities.iter().filter(|((of, _), entity)| {
            of == "products" && entity["type"] == "variation" && entity["parent_id"].as_u64() == parent.parse().ok()
        });
        let mut found: Vec<Value> = of.map(|(_, entity)| entity.clone()).collect();
        found.sort_by_key(|entity| entity["id"].as_u64());
        let total = found.len();
        let per_page = number("per_page").unwrap_or(10).min(inner.page_size);
        let cut = |mut entity: Value| {
            entity["image"] = json!({ "id": 1, "src": "x" });
            for name in ["name", "images", "categories", "variations", "type", "parent_id"] {
                entity.as_object_mut().unwrap().remove(name);
            }
            with_fields(entity, query)
        };
        let page: Vec<Value> = found.into_iter().skip(number("offset").unwrap_or(0)).take(per_page).map(cut).collect();
        let mut answer = json_answer(200, &json!(page));
        answer.headers.insert("x-wp-total", HeaderValue::from(total));
        answer
    }

    /// Makes the store one of years ago, which does not know the time of the last change.
    pub fn grow_old(&self) {
        self.lock().is_old = true;
    }

    fn list(&self, query: &BTreeMap<String, String>) -> ApiResponse {
        let number = |name: &str, otherwise: usize| query.get(name).map_or(Ok(otherwise), |text| text.parse());
        let (Ok(per_page @ 1..=100), Ok(page @ 1..)) = (number("per_page", 10), number("page", 1)) else {
            return error(400, "rest_invalid_param", "Invalid parameter(s): per_page");
        };
        let inner = self.lock();
        let per_page = per_page.min(inner.page_size);
        let shown: Vec<_> = inner.webhooks.values().skip((page - 1) * per_page).take(per_page).map(show).collect();
        let mut answer = json_answer(200, &Value::Array(shown));
        let pages = inner.webhooks.len().div_ceil(per_page);
        answer.headers.insert("x-wp-total", HeaderValue::from(inner.webhooks.len()));
        answer.headers.insert("x-wp-totalpages", HeaderValue::from(pages));
        answer
    }

    async fn create(&self, body: &Value) -> ApiResponse {
        let topic = body["topic"].as_str().unwrap_or_default();
        if !TOPICS.contains(&topic) {
            return error(400, "woocommerce_rest_shop_webhook_invalid_topic", "Webhook topic must be valid.");
        }
        let url = body["delivery_url"].as_str().unwrap_or_default();
        if !url.starts_with("http") {
            return error(400, "woocommerce_rest_shop_webhook_invalid_delivery_url", "Delivery URL must be valid.");
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let hook = Webhook {
            id,
            topic: topic.into(),
            delivery_url: url.into(),
            // Without a secret, the store makes up a password that nobody ever learns.
            secret: body["secret"].as_str().map_or_else(|| format!("random-{id}"), str::to_owned),
            status: "active".into(),
            without_rights: false,
            failures: 0,
            pending_delivery: true,
        };
        self.lock().webhooks.insert(id, hook.clone());
        self.ping(&hook).await;
        json_answer(201, &show(&hook))
    }

    async fn update(&self, id: &str, body: &Value) -> ApiResponse {
        let (hook, ping) = {
            let mut inner = self.lock();
            let hook = id.parse().ok().and_then(|id: u64| inner.webhooks.get_mut(&id));
            let Some(hook) = hook else {
                return error(400, "woocommerce_rest_shop_webhook_invalid_id", "ID is invalid.");
            };
            let before = hook.delivery_url.clone();
            for (name, field) in [
                ("topic", &mut hook.topic),
                ("delivery_url", &mut hook.delivery_url),
                ("secret", &mut hook.secret),
                ("status", &mut hook.status),
            ] {
                if let Some(value) = body[name].as_str() {
                    *field = value.to_owned();
                }
            }
            // The number of failures stays.
            (hook.clone(), hook.status == "active" && (hook.delivery_url != before || hook.pending_delivery))
        };
        if ping {
            self.ping(&hook).await;
        }
        json_answer(200, &show(&hook))
    }

    fn delete(&self, id: &str, query: &BTreeMap<String, String>) -> ApiResponse {
        let mut inner = self.lock();
        let Some(id) = id.parse().ok().filter(|id| inner.webhooks.contains_key(id)) else {
            return error(404, "woocommerce_rest_shop_webhook_invalid_id", "Invalid ID.");
        };
        if query.get("force").map(String::as_str) != Some("true") {
            return error(501, "woocommerce_rest_trash_not_supported", "Webhooks do not support trashing.");
        }
        json_answer(200, &show(&inner.webhooks.remove(&id).unwrap()))
    }
}

impl Simulator for Store {
    fn platform(&self) -> &'static str {
        "woocommerce"
    }

    fn connection(&self) -> String {
        "day.example.com".into()
    }

    fn settings(&self, site: &str) -> Value {
        let key = self.lock().key.clone();
        json!({ "site": site, "consumer_key": key.0, "consumer_secret": key.1 })
    }

    fn subscribe(&self, delivery_url: &str, secret: &dyn Fn(&str) -> String) {
        for topic in TOPICS {
            let id = self.add_webhook(topic, delivery_url);
            self.edit_webhook(id, |hook| hook.secret = secret(topic));
        }
    }

    /// Makes a change: somebody registers, the merchant edits the catalogue, or an order comes, proceeds or is trashed.
    fn change(&self, random: &mut StdRng) {
        let (resource, topic) = [
            ("orders", "order"),
            ("orders", "order"),
            ("products", "product"),
            ("customers", "customer"),
            ("coupons", "coupon"),
        ][random.random_range(0..5)];
        let existing: Vec<(String, Value)> = {
            let inner = self.lock();
            let of = inner.entities.iter().filter(|((of, _), _)| of == resource);
            of.map(|((_, id), entity)| (id.clone(), entity.clone())).collect()
        };
        let now = self.now();
        if existing.len() < 3 || random.random_ratio(1, 4) {
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            let entity = self.born(resource, id, &now, random);
            self.set(resource, id, Some(entity.clone()));
            self.tell(&format!("{topic}.created"), &entity.to_string());
            for _ in 0..random.random_range(0..3) {
                if resource == "products" && entity["type"] == "variable" {
                    self.add_variation(id, "7.50");
                }
            }
            return;
        }
        let (id, mut entity) = existing[random.random_range(0..existing.len())].clone();
        let number: u64 = id.parse().unwrap();
        let has_variations = entity["variations"].as_array().is_some_and(|list| !list.is_empty());
        if random.random_ratio(1, 6) && !has_variations {
            self.set(resource, number, None);
            // The store reports the id for its whole family of kinds.
            for topic in [topic, "product", "coupon"].into_iter().take(if resource == "customers" { 1 } else { 3 }) {
                self.tell(&format!("{topic}.deleted"), &json!({ "id": number }).to_string());
            }
            self.saved_variation(&entity, &now);
            return;
        }
        match resource {
            "orders" => {
                entity["status"] = json!(["processing", "on-hold", "completed", "refunded"][random.random_range(0..4)]);
            }
            "products" => entity["price"] = json!(format!("{}.50", random.random_range(1..100))),
            "customers" => {
                entity["last_name"] = json!(format!("Name{}", random.random_range(0..100)));
                // A customer who buys a subscription gets another role.
                if entity["is_paying_customer"] == true {
                    entity["role"] = json!(["customer", "subscriber"][random.random_range(0..2)]);
                }
            }
            _ => entity["usage_count"] = json!(random.random_range(0..100)),
        }
        entity["date_modified_gmt"] = json!(now);
        self.set(resource, number, Some(entity.clone()));
        // Now and then the webhook's owner cannot see the entity, and the store delivers the error in its place.
        let body = if resource != "customers" && random.random_ratio(1, 12) {
            json!({ "code": "woocommerce_rest_cannot_view", "message": "Sorry.", "data": { "status": 401 } })
        } else {
            entity
        };
        self.tell(&format!("{topic}.updated"), &body.to_string());
        self.saved_variation(&body, &now);
    }

    fn outbox(&self) -> Vec<Delivery> {
        std::mem::take(&mut self.lock().outbox)
    }

    fn sends_again(&self) -> bool {
        false
    }

    /// Counts failures in a row. A failed delivery is lost; the seventh in a row disables the webhook.
    fn answered(&self, delivery: &Delivery, status: u16) {
        let header = |name: &str| delivery.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.clone());
        let mut inner = self.lock();
        let id = header("x-wc-webhook-id").and_then(|id| id.parse().ok());
        let Some(hook) = id.and_then(|id: u64| inner.webhooks.get_mut(&id)) else { return };
        if (200..303).contains(&status) {
            hook.failures = 0;
        } else if hook.failures > 5 {
            hook.status = "disabled".into();
        } else {
            hook.failures += 1;
        }
    }

    fn answer<'a>(&'a self, request: &'a ApiRequest) -> BoxFuture<'a, Result<ApiResponse, Fault>> {
        Box::pin(self.respond(request))
    }

    fn trouble(&self, troubles: &[Trouble]) {
        self.lock().troubles.extend(troubles);
    }

    fn entities(&self) -> Vec<(EntityKind, String, Truth)> {
        let inner = self.lock();
        let kind = |resource: &str| match resource {
            "orders" => EntityKind::Order,
            "products" => EntityKind::Product,
            "customers" => EntityKind::Customer,
            _ => EntityKind::Coupon,
        };
        // Users who buy nothing do not count.
        let buys = |entity: &Value| entity["role"] == "customer" || entity["is_paying_customer"] == true;
        let there = inner.entities.iter().filter(|((resource, _), entity)| resource != "customers" || buys(entity));
        let there = there.map(|((resource, id), _)| (kind(resource), id.clone(), Truth::Api));
        let gone = inner.gone.iter().map(|(resource, id)| (kind(resource), id.clone(), Truth::Gone));
        there.chain(gone).collect()
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().calls)
    }
}

impl Store {
    /// Adds a variation to a product, and reports both.
    pub fn add_variation(&self, parent: u64, price: &str) -> u64 {
        let (id, now) = (self.next_id.fetch_add(1, Ordering::Relaxed), self.now());
        let variation = json!({
            "id": id, "type": "variation", "parent_id": parent, "name": "Thing - L", "sku": format!("T-{id}"), "price": price,
            "date_created_gmt": now, "date_modified_gmt": now, "status": "publish", "variations": [],
            "attributes": [{ "id": 1, "name": "Size", "option": "L" }],
        });
        self.set("products", id, Some(variation.clone()));
        self.tell("product.created", &variation.to_string());
        self.saved_variation(&variation, &now);
        id
    }

    /// Updates the list and the date of a variation's product after the variation was saved or deleted, and reports the
    /// product.
    fn saved_variation(&self, variation: &Value, now: &str) {
        let Some(parent) = variation["parent_id"].as_u64().filter(|_| variation["type"] == "variation") else { return };
        let product = {
            let mut inner = self.lock();
            let of = inner.entities.values().filter(|entity| entity["parent_id"].as_u64() == Some(parent));
            let mut ids: Vec<u64> = of.filter_map(|entity| entity["id"].as_u64()).collect();
            ids.sort_unstable();
            let Some(product) = inner.entities.get_mut(&("products".to_owned(), parent.to_string())) else { return };
            product["variations"] = json!(ids);
            product["date_modified_gmt"] = json!(now);
            product.clone()
        };
        self.tell("product.updated", &product.to_string());
    }

    /// Changes an entity without reporting it.
    pub fn edit(&self, resource: &str, id: u64, change: impl FnOnce(&mut Value)) {
        change(self.lock().entities.get_mut(&(resource.to_owned(), id.to_string())).unwrap());
    }

    /// Deletes an entity, and the variations of a product, without reporting it, as `force` and batches do.
    pub fn force_delete(&self, resource: &str, id: u64) {
        let variations: Vec<u64> = {
            let inner = self.lock();
            let of = inner.entities.values().filter(|entity| entity["parent_id"].as_u64() == Some(id));
            of.filter(|entity| entity["type"] == "variation").filter_map(|entity| entity["id"].as_u64()).collect()
        };
        for gone in variations.into_iter().chain([id]) {
            self.set(resource, gone, None);
        }
    }

    fn born(&self, resource: &str, id: u64, now: &str, random: &mut StdRng) -> Value {
        let mut entity = json!({ "id": id, "date_created_gmt": now, "date_modified_gmt": now });
        let customers: Vec<Value> = {
            let inner = self.lock();
            let of = inner.entities.iter().filter(|((of, _), user)| of == "customers" && user["role"] != "editor");
            of.map(|(_, customer)| customer["id"].clone()).collect()
        };
        let more = match resource {
            "orders" => json!({
                "number": id.to_string(), "status": "pending", "currency": "EUR",
                "total": format!("{}.00", random.random_range(1..500)),
                "customer_id": customers.first().cloned().unwrap_or(json!(0)),
                "line_items": [{ "id": id * 10, "name": "Thing", "product_id": 0, "quantity": random.random_range(1..5) }],
            }),
            "products" => {
                let kind = ["simple", "simple", "variable"][random.random_range(0..3)];
                json!({ "name": format!("Thing {id}"), "sku": format!("T-{id}"), "price": "9.50", "type": kind, "variations": [] })
            }
            "customers" => {
                let (role, pays) = [("customer", false), ("customer", true), ("subscriber", true), ("editor", false)]
                    [random.random_range(0..4)];
                json!({ "email": format!("c{id}@example.com"), "first_name": "Cleo", "role": role, "is_paying_customer": pays })
            }
            _ => json!({ "code": format!("save{id}"), "amount": "5.00", "discount_type": "percent", "usage_count": 0 }),
        };
        entity.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        if resource == "orders" {
            entity.as_object_mut().unwrap().extend(charged(id, random).as_object().unwrap().clone());
        }
        entity
    }
}

/// Returns the amounts of an order: all kinds, some of them zero, in one of several currencies.
fn charged(id: u64, random: &mut StdRng) -> Value {
    let (currency, places) = [("EUR", 2), ("USD", 2), ("JPY", 0), ("KWD", 3)][random.random_range(0..4)];
    let percent = [0, 8, 19][random.random_range(0..3)];
    let tax_on = |amount: i64| (amount * percent + 50) / 100;
    let money = |minor: i64| {
        let one = 10_i64.pow(places);
        let sign = if minor < 0 { "-" } else { "" };
        let (whole, rest) = (minor.abs() / one, minor.abs() % one);
        if places == 0 {
            format!("{sign}{whole}")
        } else {
            format!("{sign}{whole}.{rest:0width$}", width = places as usize)
        }
    };
    let discounted = random.random_bool(0.5);
    let (mut net, mut tax, mut off, mut off_tax, mut lines) = (0, 0, 0, 0, Vec::new());
    for n in 0..random.random_range(1..4) {
        let (quantity, each) = (random.random_range(1..5_i64), random.random_range(100..10_000_i64));
        let subtotal = quantity * each;
        let total = if discounted { subtotal - random.random_range(0..=subtotal / 2) } else { subtotal };
        (net, tax) = (net + total, tax + tax_on(total));
        (off, off_tax) = (off + subtotal - total, off_tax + tax_on(subtotal) - tax_on(total));
        lines.push(json!({
            "id": id * 10 + n, "name": "Thing", "product_id": 0, "quantity": quantity, "subtotal": money(subtotal),
            "subtotal_tax": money(tax_on(subtotal)), "total": money(total), "total_tax": money(tax_on(total)),
            "price": total as f64 / quantity as f64 / 10_f64.powi(places as i32),
        }));
    }
    let (shipping, fee) = (random.random_range(0..2_000_i64), random.random_range(0..2_000_i64));
    let line = |id: u64, title: &str, amount: i64| json!({ "id": id, "method_title": title, "name": title, "total": money(amount), "total_tax": money(tax_on(amount)) });
    let taxes = tax + tax_on(fee);
    let all = taxes + tax_on(shipping);
    let total = net + shipping + fee + all;
    let coupon = json!({ "id": id * 10 + 6, "code": "save", "discount": money(off), "discount_tax": money(off_tax) });
    let rate = json!({ "id": id * 10 + 7, "rate_code": "VAT-1", "label": "VAT", "rate_percent": percent,
        "tax_total": money(taxes), "shipping_tax_total": money(tax_on(shipping)) });
    let refund = json!({ "id": id * 10 + 8, "reason": "broken", "total": money(-(total / 4)) });
    json!({
        "currency": currency, "prices_include_tax": random.random_bool(0.5), "total": money(total),
        "total_tax": money(all), "shipping_total": money(shipping), "shipping_tax": money(tax_on(shipping)),
        "discount_total": money(off), "discount_tax": money(off_tax), "line_items": lines,
        "shipping_lines": [line(id * 10 + 4, "Post", shipping)], "fee_lines": [line(id * 10 + 5, "Gift wrap", fee)],
        "coupon_lines": if discounted { json!([coupon]) } else { json!([]) },
        "tax_lines": if percent > 0 { json!([rate]) } else { json!([]) },
        "refunds": if random.random_bool(0.3) { json!([refund]) } else { json!([]) },
    })
}

/// The rights of a call.
#[derive(Clone, Copy, PartialEq)]
enum Right {
    /// No key has got through.
    Nobody,
    /// The key is unknown.
    Unknown,
    /// The key may only read.
    ReadOnly,
    /// The key may do everything.
    All,
}

impl Inner {
    fn right(&self, request: &ApiRequest) -> Right {
        let header = request.headers.get("authorization").filter(|_| !self.site.strips_authorization);
        let basic = header.and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
        let decoded = basic.map(|text| String::from_utf8(STANDARD.decode(text).unwrap()).unwrap());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let pair = pair.map(|(key, secret)| (key.to_owned(), secret.to_owned()));
        let query = query(request);
        // The query counts only over https, which listening simulators do not have.
        let given = |name: &str| query.get(name).filter(|_| request.url.scheme() == "https").cloned();
        let Some(pair) = pair.or(given("consumer_key").zip(given("consumer_secret"))) else { return Right::Nobody };
        if std::iter::once(&self.key).chain(&self.granted).any(|key| *key == pair) {
            Right::All
        } else if self.reads.as_ref() == Some(&pair) {
            Right::ReadOnly
        } else {
            Right::Unknown
        }
    }
}

impl Site {
    /// Returns the page that comes in place of an answer of the API, if any.
    fn instead(&self, request: &ApiRequest) -> Option<ApiResponse> {
        if self.in_maintenance {
            let mut answer =
                page(503, "<html>Briefly unavailable for scheduled maintenance. Check back in a minute.</html>");
            answer.headers.insert("retry-after", HeaderValue::from(600));
            return Some(answer);
        }
        if let Some(target) = &self.redirects_to {
            let mut answer = page(301, "");
            let mut location: url::Url = target.parse().unwrap();
            location.set_path(request.url.path());
            location.set_query(request.url.query());
            answer.headers.insert("location", HeaderValue::from_str(location.as_str()).unwrap());
            return Some(answer);
        }
        if let Some(status) = self.plain_permalinks.filter(|_| !query(request).contains_key("rest_route")) {
            return Some(page(status, "<!DOCTYPE html><html><body>{Nothing} [found]</body></html>"));
        }
        let (end, status) = self.page_for.as_ref()?;
        request.url.path().ends_with(end.as_str()).then(|| page(*status, "<html>Blocked</html>"))
    }
}

fn with_fields(mut entity: Value, query: &BTreeMap<String, String>) -> Value {
    let fields: Option<Vec<&str>> = query.get("_fields").map(|fields| fields.split(',').collect());
    if let (Some(fields), Value::Object(members)) = (&fields, &mut entity) {
        members.retain(|name, _| fields.contains(&name.as_str()));
    }
    entity
}

fn show(hook: &Webhook) -> Value {
    json!({
        "id": hook.id,
        "name": format!("Webhook {}", hook.id),
        "status": hook.status,
        "topic": hook.topic,
        "resource": hook.topic.split('.').next(),
        "event": hook.topic.split('.').nth(1),
        "delivery_url": hook.delivery_url,
        "date_created": "2026-11-21T01:48:39",
    })
}

fn error(status: u16, code: &str, message: &str) -> ApiResponse {
    json_answer(status, &json!({ "code": code, "message": message, "data": { "status": status } }))
}
