//! CloudBlue Connect: requests that want an answer, the tier configurations that some of them wait for, the assets that
//! result from them, and webhooks that only say that there is something to do.
//!
//! Its behaviour is described in `shared/commerce/src/platforms/cloudblue/`. Where the platform's documentation is
//! silent, the simulator varies. The token is in one header, the other, or both. A webhook calls by POST or by GET. A
//! change by the API triggers webhooks, or does not. A trigger that fails is sent again twice, and after that only with
//! the next change.

mod rql;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
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

use super::{Clock, Delivery, Simulator, Trouble, Truth, json_answer, page, segments};

/// The account's products.
pub const PRODUCTS: [&str; 2] = ["PRD-000-000-001", "PRD-000-000-002"];

const CLASSES: [&str; 2] = ["fulfillment_request", "tier_config_request"];
const API: [&str; 2] = ["public", "v1"];
const TOKEN_SECONDS: i64 = 600;
const RETRIES: u32 = 2;
/// The classes of objects that a webhook can have.
const OBJECT_CLASSES: [&str; 6] = [
    "fulfillment_request",
    "tier_config_request",
    "tier_account_request",
    "listing_request",
    "billing_request",
    "usage_file",
];

/// The platform with one vendor's account.
pub struct Connect {
    clock: Clock,
    inner: Mutex<Inner>,
}

/// A webhook as the platform keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// The webhook's id, `WH-…`.
    pub id: String,
    /// `event`, or one of the validators, which nothing calls here.
    pub kind: String,
    /// The class of objects whose changes trigger it.
    pub class: String,
    /// The product whose changes trigger it.
    pub product: String,
    /// The URL that it calls.
    pub url: String,
    /// The secret that signs the token. The API shows it.
    pub secret: String,
    /// `true` while it calls.
    pub active: bool,
    /// The name that people see.
    pub label: String,
    /// The headers of its calls, besides the token.
    pub headers: Value,
    /// `true` when something has changed since the last trigger.
    due: bool,
    last_success: Option<Timestamp>,
    last_failure: Option<Timestamp>,
    failures: u64,
}

impl Webhook {
    /// Returns a webhook as the API or the platform's pages make it.
    fn new(id: String, class: &str, product: &str, url: &str, secret: &str) -> Self {
        Self {
            id,
            kind: "event".into(),
            class: class.into(),
            product: product.into(),
            url: url.into(),
            secret: secret.into(),
            active: true,
            label: "orders".into(),
            headers: json!({"Content-Type": "application/json"}),
            due: false,
            last_success: None,
            last_failure: None,
            failures: 0,
        }
    }

    /// Takes the complete body of a call, or returns its errors.
    fn take(&mut self, body: &Value) -> Result<(), Vec<String>> {
        let required = [
            "object_class",
            "label",
            "product_id",
            "description",
            "external_url",
            "jwt_secret",
            "active",
            "http_method",
        ];
        let missing: Vec<String> = required
            .iter()
            .filter(|name| body.get(**name).is_none_or(Value::is_null))
            .map(|name| format!("{name}: this field is required."))
            .collect();
        let wrong = |error: &str| Err(vec![error.to_owned()]);
        if !missing.is_empty() {
            return Err(missing);
        }
        let text = |name: &str, most: usize| {
            let given = body[name].as_str().filter(|text| !text.is_empty() && text.len() <= most);
            given.map(str::to_owned)
        };
        let (Some(class), Some(label), Some(product), Some(_), Some(url), Some(secret)) = (
            text("object_class", 100),
            text("label", 100),
            text("product_id", 100),
            text("description", 1000),
            text("external_url", 4096),
            text("jwt_secret", 100),
        ) else {
            return wrong("Not a valid string.");
        };
        if !OBJECT_CLASSES.contains(&class.as_str()) {
            return wrong("object_class: not a valid choice.");
        }
        if !PRODUCTS.contains(&product.as_str()) {
            return wrong("product_id: object does not exist.");
        }
        if url::Url::parse(&url).is_err() {
            return wrong("external_url: enter a valid URL.");
        }
        if body["http_method"] != "POST" {
            return wrong("http_method: not a valid choice.");
        }
        let Some(active) = body["active"].as_bool() else { return wrong("active: must be a valid boolean.") };
        let kind = body["type"].as_str().unwrap_or("event").to_owned();
        let headers = body.get("headers").cloned().unwrap_or_else(|| json!({}));
        *self = Self { kind, class, product, url, secret, active, label, headers, ..self.clone() };
        Ok(())
    }

    fn calls(&self) -> bool {
        self.active && self.kind == "event"
    }
}

struct Inner {
    key: String,
    policy: Value,
    hooks: Vec<Webhook>,
    made: usize,
    /// `true` when somebody has entered the webhooks by hand, and the settings name their ids.
    by_hand: bool,
    requests: BTreeMap<String, Value>,
    tiers: BTreeMap<String, Value>,
    assets: BTreeMap<String, Value>,
    actions: BTreeMap<(String, String), u32>,
    outbox: Vec<Delivery>,
    triggers: u64,
    changed_by_api: u64,
    troubles: VecDeque<Trouble>,
    calls: Vec<String>,
    page_size: usize,
}

impl Connect {
    /// Makes an account that only watches: others answer its products' requests.
    pub fn new(clock: Clock) -> Self {
        let inner = Inner {
            key: "ApiKey SU-000-000-001:0123456789abcdef".into(),
            policy: json!("observe"),
            hooks: Vec::new(),
            made: 0,
            by_hand: false,
            requests: BTreeMap::new(),
            tiers: BTreeMap::new(),
            assets: BTreeMap::new(),
            actions: BTreeMap::new(),
            outbox: Vec::new(),
            triggers: 0,
            changed_by_api: 0,
            troubles: VecDeque::new(),
            calls: Vec::new(),
            page_size: 1000,
        };
        Self { clock, inner: Mutex::new(inner) }
    }

    /// Makes an account with a policy for all products, in the form of the settings. With another policy than
    /// `observe`, nobody else answers.
    pub fn with_policy(clock: Clock, policy: Value) -> Self {
        let connect = Self::new(clock);
        connect.lock().policy = policy;
        connect
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Returns the number of times that the API approved, failed or inquired each request, by its id and the action.
    pub fn actions(&self) -> BTreeMap<(String, String), u32> {
        self.lock().actions.clone()
    }

    /// Returns the numbers of requests, tier configuration requests, assets and webhooks.
    pub fn counts(&self) -> [usize; 4] {
        let inner = self.lock();
        [inner.requests.len(), inner.tiers.len(), inner.assets.len(), inner.hooks.len()]
    }

    /// Returns whether any request waits for an answer.
    pub fn is_waiting(&self) -> bool {
        let inner = self.lock();
        inner.requests.values().chain(inner.tiers.values()).any(|request| request["status"] == "pending")
    }

    /// Returns all webhooks, oldest first.
    pub fn webhooks(&self) -> Vec<Webhook> {
        self.lock().hooks.clone()
    }

    /// Adds a webhook of somebody else, and returns its id.
    pub fn add_webhook(&self, class: &str, product: &str, url: &str) -> String {
        self.lock().add(class, product, url, "theirs")
    }

    /// Changes a webhook, as somebody can on the platform's pages.
    pub fn edit_webhook(&self, id: &str, change: impl FnOnce(&mut Webhook)) {
        change(self.lock().hooks.iter_mut().find(|hook| hook.id == id).unwrap());
    }

    /// Removes a webhook, as somebody can on the platform's pages.
    pub fn remove_webhook(&self, id: &str) {
        self.lock().hooks.retain(|hook| hook.id != id);
    }

    /// Runs every webhook now, as somebody can on the platform's pages.
    pub fn run_now(&self) {
        self.lock().hooks.iter_mut().for_each(|hook| hook.due = true);
    }

    /// Revokes the key, and issues another.
    pub fn replace_key(&self, key: &str) {
        self.lock().key = key.into();
    }

    /// Limits a page to fewer entries than were asked for.
    pub fn set_page_size(&self, page_size: usize) {
        self.lock().page_size = page_size;
    }

    /// Orders a product, and returns the request's id. With `blocked`, a tier has to be configured first.
    pub fn purchase(&self, random: &mut StdRng, blocked: bool) -> String {
        let now = (self.clock)();
        self.lock().purchase(random, now, blocked)
    }
}

/// Writes a time as the platform does: without a fraction if it has none.
fn written(at: Timestamp) -> String {
    at.to_string().replace('Z', "+00:00")
}

fn is_tiers(id: &str) -> bool {
    id.starts_with("TCR-")
}

fn pick<'a, T: ?Sized>(random: &mut StdRng, from: &[&'a T]) -> &'a T {
    from[random.random_range(0..from.len())]
}

impl Inner {
    fn observes(&self) -> bool {
        self.policy == "observe"
    }

    fn next_id(&mut self) -> String {
        self.made += 1;
        format!("WH-000-000-{:03}", self.made)
    }

    fn add(&mut self, class: &str, product: &str, url: &str, secret: &str) -> String {
        let id = self.next_id();
        self.hooks.push(Webhook::new(id.clone(), class, product, url, secret));
        id
    }

    /// Answers the calls of `/notifications/webhooks`.
    fn webhooks(&mut self, method: &Method, path: &[&str], body: &Value, query: &str) -> ApiResponse {
        let place = path.first().map(|id| self.hooks.iter().position(|hook| hook.id == *id));
        match (method, path, place) {
            (&Method::GET, [], _) => {
                let hooks: Vec<Value> = self.hooks.iter().map(show).collect();
                self.list("/notifications/webhooks", hooks.iter(), query)
            }
            (&Method::POST, [], _) => {
                let mut hook = Webhook::new(String::new(), "", "", "", "");
                if let Err(errors) = hook.take(body) {
                    return refused(&errors);
                }
                hook.id = self.next_id();
                self.hooks.push(hook);
                json_answer(201, &show(&self.hooks[self.hooks.len() - 1]))
            }
            (_, [_] | [_, "trigger"], Some(None)) => found(None),
            (&Method::GET, [_], Some(Some(place))) => json_answer(200, &show(&self.hooks[place])),
            (&Method::PUT, [_], Some(Some(place))) => match self.hooks[place].take(body) {
                Err(errors) => refused(&errors),
                Ok(()) => json_answer(200, &show(&self.hooks[place])),
            },
            (&Method::DELETE, [_], Some(Some(place))) => {
                self.hooks.remove(place);
                ApiResponse { status: 204, headers: http::HeaderMap::new(), body: Bytes::new() }
            }
            (&Method::POST, [_, "trigger"], Some(Some(place))) => {
                self.hooks[place].due = true;
                json_answer(200, &json!({}))
            }
            _ => page(404, "<html>Nothing here</html>"),
        }
    }

    /// Makes the webhooks of a request's product and class due.
    fn tell(&mut self, id: &str) {
        let request = self.request(id).unwrap();
        let product = product_of(request).to_owned();
        let class = CLASSES[usize::from(is_tiers(id))];
        let of = |hook: &&mut Webhook| hook.product == product && hook.class == class;
        self.hooks.iter_mut().filter(of).for_each(|hook| hook.due = true);
    }

    fn request(&self, id: &str) -> Option<&Value> {
        if is_tiers(id) { self.tiers.get(id) } else { self.requests.get(id) }
    }

    fn request_mut(&mut self, id: &str) -> Option<&mut Value> {
        if is_tiers(id) { self.tiers.get_mut(id) } else { self.requests.get_mut(id) }
    }

    /// Marks a request as changed.
    fn touch(&mut self, id: &str, now: Timestamp) {
        let request = self.request_mut(id).unwrap();
        if is_tiers(id) {
            request["events"]["updated"]["at"] = json!(written(now));
        } else {
            request["updated"] = json!(written(now));
        }
    }

    fn touch_asset(&mut self, id: &str, now: Timestamp) {
        self.assets.get_mut(id).unwrap()["events"]["updated"]["at"] = json!(written(now));
    }

    /// Sets a request's status, with its consequences. The caller decides whether to tell the webhooks.
    fn set_status(&mut self, id: &str, status: &str, now: Timestamp) {
        let request = self.request_mut(id).unwrap();
        request["status"] = json!(status);
        if status == "inquiring" {
            // Anybody who has the link can fill in the parameters.
            request["params_form_url"] = json!(format!("https://vendor.example.com/?code=s3cr3t-form&request_id={id}"));
        } else {
            request.as_object_mut().unwrap().remove("params_form_url");
        }
        let event = match status {
            "inquiring" => Some("inquired"),
            "pending" => Some("pended"),
            "approved" | "failed" if !is_tiers(id) => Some(status),
            _ => None,
        };
        if let Some(event) = event {
            let by = json!({"id": "SU-000-000-001", "name": "key"});
            request["events"][event] = json!({"at": written(now), "by": by});
        }
        self.touch(id, now);
        if is_tiers(id) {
            // Requests that waited for the tier go on or fail.
            let next = match status {
                "approved" => "pending",
                "failed" => "failed",
                _ => return,
            };
            let waits = |request: &Value| {
                request["status"] == "tiers_setup" && request["external_attributes"]["waits_for"] == id
            };
            let waiting: Vec<String> =
                self.requests.iter().filter(|(_, request)| waits(request)).map(|(id, _)| id.clone()).collect();
            for request in waiting {
                self.set_status(&request, next, now);
                self.tell(&request);
            }
            return;
        }
        let request = &self.requests[id];
        let asset = request["asset"]["id"].as_str().unwrap().to_owned();
        let kind = request["type"].as_str().unwrap().to_owned();
        let items = request["asset"]["items"].clone();
        let params = request["asset"]["params"].clone();
        let current = self.assets[&asset]["status"].clone();
        let next = match (status, kind.as_str()) {
            ("approved", "purchase" | "change" | "resume") => json!("active"),
            ("approved", "cancel") => json!("terminated"),
            ("approved", "suspend") => json!("suspended"),
            ("failed", "purchase") => json!("terminated"),
            ("failed", "cancel") => json!("active"),
            _ => current.clone(),
        };
        let kept = self.assets.get_mut(&asset).unwrap();
        kept["params"] = params;
        if status == "approved" {
            kept["items"] = items;
        }
        if status == "approved" || next != current {
            kept["status"] = next;
        }
        self.touch_asset(&asset, now);
    }

    fn purchase(&mut self, random: &mut StdRng, now: Timestamp, blocked: bool) -> String {
        let number = self.assets.len() + 1;
        let product = PRODUCTS[random.random_range(0..PRODUCTS.len())];
        let country = pick(random, &["DE", "FR", "US"]);
        let id = format!("AS-0000-0000-{number:04}");
        let account = |id: &str, kind: &str| {
            json!({
                "id": id, "type": kind, "name": format!("Account {id}"), "external_id": format!("ext-{id}"), "tax_id": "",
                "contact_info": {"address_line1": "1 Main Street", "city": "X", "country": country, "contact": {
                    "first_name": "None", "last_name": "None", "email": "somebody@example.com"}},
            })
        };
        let item = product.replace('-', "_");
        let domain = if random.random_bool(0.3) { String::new() } else { format!("d{number}.example.com") };
        let phone = if number.is_multiple_of(2) { "" } else { "5550100" };
        let asset = json!({
            "id": id, "status": "processing", "renewal_expiration_date": if number.is_multiple_of(3) { json!(written(now.plus_seconds(31_536_000))) } else { json!(null) }, "external_id": format!("ext-{number}"), "external_uid": format!("uid-{number}"),
            "product": {"id": product, "name": format!("Product {product}"), "status": "published"},
            "connection": {
                "id": "CT-0000-0000-0000", "type": pick(random, &["production", "test", "preview"]),
                "provider": {"id": "PA-1", "name": "P"}, "vendor": {"id": "VA-000-111", "name": "V"}, "hub": {"id": "HB-1", "name": "None"},
            },
            "events": {"created": {"at": written(now)}, "updated": {"at": written(now)}},
            "items": [{
                "id": format!("{item}_0001"), "global_id": format!("{product}-0001"), "mpn": "SKU-A", "display_name": "Seat",
                "period": "Monthly", "type": "Licenses", "item_type": "Reservation", "old_quantity": "0",
                "quantity": if random.random_bool(0.1) { json!("unlimited") } else { json!(random.random_range(1..50).to_string()) },
            }],
            "params": [
                {"id": "domain", "name": "domain", "type": "text", "phase": "ordering", "value": domain, "value_error": "",
                 "structured_value": {}, "constraints": {"required": true}},
                {"id": "phone", "name": "phone", "type": "phone", "phase": "ordering", "value": "", "value_error": "",
                 "structured_value": {"country_code": "", "area_code": "", "phone_number": phone, "extension": ""}},
                {"id": "extras", "name": "extras", "type": "checkbox", "phase": "ordering", "value": "", "value_error": "",
                 "structured_value": {"backup": number.is_multiple_of(2), "support": false}},
                {"id": "admin_password", "name": "admin_password", "type": "password", "phase": "ordering",
                 "value": format!("s3cr3t-{number}"), "value_error": "", "constraints": {"required": true}},
            ],
            "tiers": {"customer": account(&format!("TA-{number}"), "customer"), "tier1": account("TA-9001", "reseller"), "tier2": {}},
            "configuration": {"params": [{"id": "partner_password", "type": "password", "value": "s3cr3t-partner"}]},
            "marketplace": {"id": "MP-12345", "name": "EU"}, "contract": {"id": "CRD-00000-00000-00000", "name": "Distribution"},
        });
        let mut asset = asset;
        if number.is_multiple_of(7) {
            // Old assets look like this.
            asset["items"][0].as_object_mut().unwrap().remove("id");
        }
        self.assets.insert(id.clone(), asset);
        let waits_for = blocked.then(|| self.tier_config(product, country, now));
        let status = if blocked { "tiers_setup" } else { pick(random, &["pending", "pending", "pending", "draft"]) };
        self.add_request(&id, "purchase", status, waits_for.as_deref(), now)
    }

    fn tier_config(&mut self, product: &str, country: &str, now: Timestamp) -> String {
        let id = format!("TCR-000-000-{:03}-001", self.tiers.len() + 1);
        let tiers = json!({
            "id": id, "type": "setup", "status": "pending", "notes": "", "environment": "production", "assignee": "",
            "configuration": {
                "id": format!("TC-{}", self.tiers.len() + 1), "product": {"id": product, "name": "P"}, "tier_level": 1,
                "account": {"id": "TA-9001", "name": "None"}, "connection": {"id": "CT-0000-0000-0000", "type": "production"},
                "params": [{"id": "partner_password", "type": "password", "value": "s3cr3t-partner"}],
            },
            "parent_configuration": {}, "template": {"id": "TL-000-000-001"},
            "params": [{"id": "partner_id", "type": "text", "value": "p-1", "constraints": {"required": true}}],
            "tiers": {"tier1": {"id": "TA-9001", "contact_info": {"country": country}}, "tier2": {}},
            "events": {"created": {"at": written(now)}, "updated": {"at": written(now)}, "inquired": null},
        });
        self.tiers.insert(id.clone(), tiers);
        self.tell(&id);
        id
    }

    fn add_request(
        &mut self,
        asset: &str,
        kind: &str,
        status: &str,
        waits_for: Option<&str>,
        now: Timestamp,
    ) -> String {
        let of_asset = |request: &&Value| request["asset"]["id"] == asset;
        let number = self.requests.values().filter(of_asset).count() + 1;
        let id = format!("{}-{number:03}", asset.replace("AS-", "PR-"));
        // A request shows its asset without the asset's own times.
        let mut shown = self.assets[asset].clone();
        shown.as_object_mut().unwrap().remove("events");
        let request = json!({
            "id": id, "type": kind, "status": status, "note": "", "reason": "", "answered": false, "assignee": "",
            "activation_key": format!("Your password is s3cr3t-{number}."), "effective_date": null,
            "created": written(now), "updated": written(now), "previous_approved_request": {},
            "external_attributes": {"waits_for": waits_for.unwrap_or_default()},
            "marketplace": {"id": "MP-12345", "name": "EU"}, "contract": {"id": "CRD-00000-00000-00000"}, "asset": shown,
        });
        self.requests.insert(id.clone(), request);
        self.tell(&id);
        id
    }

    /// Returns the id of a random request with one of these statuses.
    fn some_request(&self, random: &mut StdRng, statuses: &[&str]) -> Option<String> {
        let all = self.requests.iter().chain(&self.tiers);
        let fitting = |request: &Value| statuses.contains(&request["status"].as_str().unwrap());
        let found: Vec<&String> = all.filter(|(_, request)| fitting(request)).map(|(id, _)| id).collect();
        (!found.is_empty()).then(|| found[random.random_range(0..found.len())].clone())
    }

    /// Requests a change of an asset that has no open request. Returns `None` if there is no such asset.
    fn modify(&mut self, random: &mut StdRng, now: Timestamp) -> Option<String> {
        let over = ["approved", "failed", "revoked"];
        let open = |request: &&Value| !over.contains(&request["status"].as_str().unwrap());
        let busy: BTreeSet<&str> =
            self.requests.values().filter(open).map(|request| request["asset"]["id"].as_str().unwrap()).collect();
        let free = |asset: &&Value| !busy.contains(asset["id"].as_str().unwrap());
        let alive = |asset: &&Value| matches!(asset["status"].as_str().unwrap(), "active" | "suspended");
        let found: Vec<&Value> = self.assets.values().filter(free).filter(alive).collect();
        let asset = found.get(random.random_range(0..found.len().max(1)))?;
        let id = asset["id"].as_str().unwrap().to_owned();
        let kinds: &[&str] = match asset["status"].as_str().unwrap() {
            "suspended" => &["resume", "cancel"],
            _ => &["change", "change", "suspend", "cancel", "adjustment", "renew", "transfer"],
        };
        let kind = pick(random, kinds);
        let request = self.add_request(&id, kind, "pending", None, now);
        if kind == "change" {
            let item = &mut self.requests.get_mut(&request).unwrap()["asset"]["items"][0];
            item["old_quantity"] = item["quantity"].clone();
            item["quantity"] = json!(random.random_range(1..50).to_string());
        }
        if kind == "cancel" {
            self.assets.get_mut(&id).unwrap()["status"] = json!("terminating");
            self.touch_asset(&id, now);
        }
        Some(request)
    }

    /// Fills in the parameters as the customer, which makes the request pending again.
    fn fill_in(&mut self, id: &str, now: Timestamp) {
        let request = self.request_mut(id).unwrap();
        let params = if is_tiers(id) { &mut request["params"] } else { &mut request["asset"]["params"] };
        for param in params.as_array_mut().unwrap() {
            match param["type"].as_str() {
                Some("phone") => param["structured_value"]["phone_number"] = json!("5550199"),
                Some("checkbox") => param["structured_value"]["support"] = json!(true),
                _ if param["value"] == "" => param["value"] = json!("filled.example.com"),
                _ => {}
            }
            param["value_error"] = json!("");
        }
        self.set_status(id, "pending", now);
        self.tell(id);
    }

    /// Handles a request as somebody else of the account or the distributor does. Returns whether there was one to
    /// handle.
    fn others(&mut self, random: &mut StdRng, now: Timestamp) -> bool {
        let Some(id) = self.some_request(random, &["pending", "scheduled", "revoking"]) else { return false };
        let status = self.request(&id).unwrap()["status"].as_str().unwrap().to_owned();
        let next = match status.as_str() {
            "scheduled" => pick(random, &["approved", "revoking"]),
            "revoking" => "revoked",
            _ if is_tiers(&id) => pick(random, &["approved", "approved", "failed", "inquiring"]),
            _ => pick(random, &["approved", "approved", "approved", "failed", "inquiring", "scheduled"]),
        };
        if next == "failed" {
            self.request_mut(&id).unwrap()["reason"] = json!("Not today.");
        }
        self.set_status(&id, next, now);
        self.tell(&id);
        true
    }

    fn trigger(&mut self, place: usize, attempts: u32, now: Timestamp) -> Delivery {
        self.triggers += 1;
        let hook = &self.hooks[place];
        let claims = json!({"webhook_id": hook.id, "exp": now.seconds() + TOKEN_SECONDS});
        let token = format!("Bearer {}", token(&claims, &hook.secret));
        let mut headers: Vec<(String, String)> = match self.triggers % 3 {
            0 => vec![("authentication".into(), token)],
            1 => vec![("authorization".into(), token)],
            _ => vec![("authentication".into(), token.clone()), ("authorization".into(), token)],
        };
        let url = hook.url.clone();
        if self.triggers.is_multiple_of(5) {
            return Delivery { method: Method::GET, url, headers, body: Bytes::new(), attempts };
        }
        for (name, value) in hook.headers.as_object().into_iter().flatten() {
            headers.push((name.to_lowercase(), value.as_str().unwrap().to_owned()));
        }
        let body = json!({
            "webhook_id": hook.id, "webhook_name": hook.label, "object_class": hook.class, "account_id": "VA-000-111",
            "product_id": hook.product, "api_url": "https://api.connect.cloudblue.com/public/v1",
            "triggered_at": written(now), "last_success_at": hook.last_success.map(written),
            "last_failure_at": hook.last_failure.map(written), "processing_timeout": 600, "data": {},
        });
        Delivery { method: Method::POST, url, headers, body: Bytes::from(body.to_string()), attempts }
    }

    fn route(&mut self, request: &ApiRequest, now: Timestamp) -> ApiResponse {
        let path = segments(request);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let Some(path) = path.strip_prefix(&API) else { return page(404, "<html>Nothing here</html>") };
        let given = request.headers.get("authorization").and_then(|value| value.to_str().ok());
        if given != Some(&self.key) {
            return error(401, "AUTH_001", &["API request is unauthorized."]);
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let query = request.url.query().unwrap_or_default();
        match (&request.method, path) {
            (&Method::GET, ["requests"]) => self.list("/requests", self.requests.values(), query),
            (&Method::GET, ["tier", "config-requests"]) => {
                self.list("/tier/config-requests", self.tiers.values(), query)
            }
            (&Method::GET, ["assets"]) => self.list("/assets", self.assets.values(), query),
            (method, ["notifications", "webhooks", rest @ ..]) => self.webhooks(method, rest, &body, query),
            (&Method::GET, ["assets", id]) => found(self.assets.get(*id)),
            (&Method::GET, ["requests", id]) => found(self.requests.get(*id)),
            (&Method::GET, ["tier", "config-requests", id]) => found(self.tiers.get(*id)),
            (&Method::PUT, ["requests", id]) => self.put(id, &body["asset"]["params"], now),
            (&Method::PUT, ["tier", "config-requests", id]) => self.put(id, &body["params"], now),
            (&Method::POST, ["requests", id, action]) => self.act(id, action, &body, body["template_id"].as_str(), now),
            (&Method::POST, ["tier", "config-requests", id, action]) => {
                let answer = self.act(id, action, &body, body["template"]["id"].as_str(), now);
                match (answer.status, *action) {
                    (200, "approve") => {
                        json_answer(200, &json!({"template": {"id": body["template"]["id"], "representation": "x"}}))
                    }
                    (200, _) => ApiResponse { status: 204, headers: http::HeaderMap::new(), body: Bytes::new() },
                    _ => answer,
                }
            }
            _ => page(404, "<html>Nothing here</html>"),
        }
    }

    fn list<'a>(&self, path: &str, all: impl Iterator<Item = &'a Value>, query: &str) -> ApiResponse {
        match rql::list(path, all, query, self.page_size) {
            Err(wrong) => error(400, "VAL_001", &[&wrong]),
            Ok(rql::Page { shown, range }) => {
                let mut answer = json_answer(200, &json!(shown));
                answer.headers.insert("content-range", HeaderValue::from_str(&range).unwrap());
                answer
            }
        }
    }

    fn put(&mut self, id: &str, params: &Value, now: Timestamp) -> ApiResponse {
        let Some(request) = self.request_mut(id) else { return found(None) };
        if !matches!(request["status"].as_str().unwrap(), "pending" | "inquiring" | "draft") {
            return error(400, "REQ_004", &["The request cannot be changed in this status."]);
        }
        let own = if is_tiers(id) { &mut request["params"] } else { &mut request["asset"]["params"] };
        for param in params.as_array().into_iter().flatten() {
            let same = |own: &&mut Value| own["id"] == param["id"];
            let Some(own) = own.as_array_mut().unwrap().iter_mut().find(same) else {
                return error(400, "VAL_001", &["There is no such parameter."]);
            };
            for name in ["value", "value_error", "structured_value"] {
                if let Some(value) = param.get(name) {
                    own[name] = value.clone();
                }
            }
        }
        self.touch(id, now);
        if let Some(asset) = self.request(id).unwrap()["asset"]["id"].as_str().map(str::to_owned) {
            self.assets.get_mut(&asset).unwrap()["params"] = self.requests[id]["asset"]["params"].clone();
            self.touch_asset(&asset, now);
        }
        found(self.request(id))
    }

    fn act(&mut self, id: &str, action: &str, body: &Value, template: Option<&str>, now: Timestamp) -> ApiResponse {
        let Some(request) = self.request(id) else { return found(None) };
        let params = if is_tiers(id) { &request["params"] } else { &request["asset"]["params"] };
        let missing = |param: &Value| param["constraints"]["required"] == true && param["value"] == "";
        let is_missing = params.as_array().unwrap().iter().any(missing);
        let (from, to) = match action {
            "approve" => ("pending", "approved"),
            "fail" => ("pending", "failed"),
            "inquire" => ("pending", "inquiring"),
            "pend" => ("inquiring", "pending"),
            _ => return page(404, "<html>Nothing here</html>"),
        };
        if request["status"] != from {
            return error(400, "REQ_003", &["Only a pending request can be processed."]);
        }
        if action == "approve" && is_missing {
            return error(400, "REQ_005", &["Mandatory parameters are empty.", "somebody@example.com"]);
        }
        let templated = template.is_some_and(|template| template.starts_with("TL-"));
        // Inquiries about tier configurations have no body.
        if !templated && (action == "approve" || action == "inquire" && !is_tiers(id)) {
            return error(400, "VAL_001", &["template_id: this field is required."]);
        }
        if action == "fail" {
            let Some(reason) = body["reason"].as_str().filter(|reason| !reason.is_empty()) else {
                return error(400, "VAL_001", &["reason: this field is required."]);
            };
            let reason = json!(reason);
            self.request_mut(id).unwrap()["reason"] = reason;
        }
        self.set_status(id, to, now);
        *self.actions.entry((id.to_owned(), action.to_owned())).or_default() += 1;
        // It is not documented whether a change by the API triggers the webhooks.
        self.changed_by_api += 1;
        if self.changed_by_api.is_multiple_of(2) {
            self.tell(id);
        }
        found(self.request(id))
    }
}

fn product_of(request: &Value) -> &str {
    let asset = request["asset"]["product"]["id"].as_str();
    asset.or(request["configuration"]["product"]["id"].as_str()).unwrap()
}

fn token(claims: &Value, secret: &str) -> String {
    const CODE: Hmac = Hmac {
        header: "",
        algorithm: Algorithm::Sha256,
        encoding: Encoding::Base64,
        prefix: "",
        keys: commerce::scheme::hmac::KeySource::Derived,
    };
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"typ": "JWT", "alg": "HS256"})), part(claims));
    let code = CODE.sign(secret.as_bytes(), signed.as_bytes());
    format!("{signed}.{}", code.replace('+', "-").replace('/', "_").trim_end_matches('='))
}

/// Returns the id of the webhook that sent a delivery, from its token.
fn webhook_of(delivery: &Delivery) -> String {
    let proof = delivery.headers.iter().find(|(name, _)| name.starts_with("auth")).unwrap();
    let claims = proof.1.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims["webhook_id"].as_str().unwrap().to_owned()
}

/// Shows a webhook as the API does, including its secret.
fn show(hook: &Webhook) -> Value {
    json!({
        "id": hook.id, "type": hook.kind, "object_class": hook.class, "label": hook.label, "active": hook.active,
        "external_url": hook.url, "jwt_secret": hook.secret, "http_method": "POST", "description": null,
        "product": {"id": hook.product, "name": format!("Product {}", hook.product), "icon": null},
        "data": {}, "headers": hook.headers, "earliest_possible_trigger": null, "last_event": null,
        "stats": {"failure_since_last_success": hook.failures},
    })
}

fn found(entry: Option<&Value>) -> ApiResponse {
    match entry {
        Some(entry) => json_answer(200, entry),
        None => error(404, "NFND_000", &["Object not found."]),
    }
}

fn error(status: u16, code: &str, errors: &[&str]) -> ApiResponse {
    json_answer(status, &json!({"error_code": code, "errors": errors}))
}

fn refused(errors: &[String]) -> ApiResponse {
    json_answer(400, &json!({"error_code": "VAL_001", "errors": errors}))
}

impl Simulator for Connect {
    fn platform(&self) -> &'static str {
        "cloudblue"
    }

    fn connection(&self) -> String {
        "va-000-111".into()
    }

    fn settings(&self, site: &str) -> Value {
        let inner = self.lock();
        let products: BTreeMap<_, _> = PRODUCTS.iter().map(|product| (*product, inner.policy.clone())).collect();
        let site = format!("{}/{}", site.trim_end_matches('/'), API.join("/"));
        let mut settings = json!({"site": site, "api_key": inner.key, "products": products});
        if inner.by_hand {
            settings["webhooks"] = inner.hooks.iter().map(|hook| hook.id.as_str()).collect();
        }
        settings
    }

    /// Gives each product a webhook for each class of requests. An existing webhook only gets the secret.
    fn subscribe(&self, delivery_url: &str, secret: &dyn Fn(&str) -> String) {
        let mut inner = self.lock();
        for (product, class) in PRODUCTS.into_iter().flat_map(|product| CLASSES.map(|class| (product, class))) {
            let secret = secret(class);
            let same = |hook: &&mut Webhook| {
                hook.product == product && hook.class == class && hook.url == delivery_url && hook.calls()
            };
            match inner.hooks.iter_mut().find(same) {
                Some(hook) => hook.secret = secret,
                None => {
                    inner.add(class, product, delivery_url, &secret);
                    inner.by_hand = true;
                }
            }
        }
    }

    fn change(&self, random: &mut StdRng) {
        let now = (self.clock)();
        let mut inner = self.lock();
        let done = match random.random_range(0..10) {
            0 | 1 => inner.modify(random, now).is_some(),
            2 | 3 if inner.observes() => inner.others(random, now),
            2..=6 => {
                let asked = inner.some_request(random, &["inquiring", "draft"]);
                asked.map(|id| inner.fill_in(&id, now)).is_some()
            }
            _ => false,
        };
        if !done {
            let blocked = random.random_bool(0.25);
            inner.purchase(random, now, blocked);
        }
    }

    fn outbox(&self) -> Vec<Delivery> {
        let now = (self.clock)();
        let mut inner = self.lock();
        for place in 0..inner.hooks.len() {
            if std::mem::take(&mut inner.hooks[place].due) && inner.hooks[place].calls() {
                let delivery = inner.trigger(place, 0, now);
                inner.outbox.push(delivery);
            }
        }
        std::mem::take(&mut inner.outbox)
    }

    fn answered(&self, delivery: &Delivery, status: u16) {
        let now = (self.clock)();
        let mut inner = self.lock();
        let id = webhook_of(delivery);
        // It may have been removed in the meantime.
        let Some(place) = inner.hooks.iter().position(|hook| hook.id == id) else { return };
        if (200..300).contains(&status) {
            (inner.hooks[place].last_success, inner.hooks[place].failures) = (Some(now), 0);
            return;
        }
        inner.hooks[place].last_failure = Some(now);
        inner.hooks[place].failures += 1;
        if delivery.attempts < RETRIES {
            let again = inner.trigger(place, delivery.attempts + 1, now);
            inner.outbox.push(again);
        }
    }

    fn answer<'a>(&'a self, request: &'a ApiRequest) -> BoxFuture<'a, Result<ApiResponse, Fault>> {
        Box::pin(async move {
            let now = (self.clock)();
            let mut inner = self.lock();
            inner.calls.push(format!("{} {}", request.method, request.url.path()));
            let lost = || Err(Fault::Unavailable("no answer".into()));
            match inner.troubles.pop_front().unwrap_or(Trouble::None) {
                Trouble::TooMany(seconds) => {
                    let mut answer = error(429, "THROTTLED", &[]);
                    answer.headers.insert("retry-after", HeaderValue::from(seconds));
                    Ok(answer)
                }
                Trouble::Broken => Ok(page(500, "<html>Internal error</html>")),
                Trouble::NotFoundPage => Ok(page(404, "<html>Nothing here</html>")),
                Trouble::Slow => lost(),
                Trouble::AnswerLost => {
                    inner.route(request, now);
                    lost()
                }
                Trouble::None => Ok(inner.route(request, now)),
            }
        })
    }

    fn trouble(&self, troubles: &[Trouble]) {
        self.lock().troubles.extend(troubles);
    }

    /// Returns all requests and assets. The API shows all of them, and the webhooks report all of them, because a
    /// request that is no longer pending has changed.
    fn entities(&self) -> Vec<(EntityKind, String, Truth)> {
        let inner = self.lock();
        let requests =
            inner.requests.keys().chain(inner.tiers.keys()).map(|id| (EntityKind::Request, id.clone(), Truth::Api));
        requests.chain(inner.assets.keys().map(|id| (EntityKind::Subscription, id.clone(), Truth::Api))).collect()
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().calls)
    }
}
