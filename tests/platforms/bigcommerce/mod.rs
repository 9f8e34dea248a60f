//! A BigCommerce store: its API with token, quota and pages, its webhooks with their retries, and the actions of its
//! shoppers and its merchant.
//!
//! It follows BigCommerce's documentation, as described in `shared/commerce/src/platforms/bigcommerce/`. Deliveries are
//! thin, and signed with the app's client secret. An order's update is accompanied by one of its status. A sale updates
//! its products. Unpaid orders are reported too, and a paid one may be set back to unpaid. An address or a variant
//! changes without its parent's time. A cart that became an order is gone, and so are the prices of a deleted price
//! list. An archived order stays visible. A failed delivery is tried eleven more times, and then its webhook is
//! switched off. A token sees only its own app's webhooks, and only one of them may exist for each topic and
//! destination.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard},
};

use bytes::Bytes;
use commerce::{
    entity::EntityKind,
    http_call::{ApiRequest, ApiResponse, Fault},
    platform::mapping::declared_scopes,
    platforms::bigcommerce::PLATFORM,
    scheme::{
        jwt::{Algorithm, Rules},
        standard_webhooks::STANDARD_HEADERS,
    },
    timestamp::{Timestamp, parse_utc},
};
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method};
use rand::{Rng, rngs::StdRng};
use serde_json::{Value, json};

use super::{Clock, Delivery, Trouble, Truth, json_answer, page, query, segments};

/// The store's hash, which is the connection's id.
pub const STORE: &str = "abc123";
/// The app's id.
pub const CLIENT_ID: &str = "bigcommerce-client-id";
/// The app's secret, which signs all its deliveries.
pub const CLIENT_SECRET: &str = "bigcommerce-client-secret-0123456789";
/// The token of the store's API.
pub const ACCESS_TOKEN: &str = "bigcommerce-access-token";

/// The permissions that the app asks for.
pub const GRANTS: &str =
    "store_v2_products_read_only store_v2_orders store_v2_customers_read_only store_cart_read_only";

/// The header that carries the webhook's own secret.
const SECRET_HEADER: &str = "X-Commerce-Hooks-Key";
/// The most webhooks that one app may have for one topic.
const HOOKS_OF_A_SCOPE: usize = 10;
/// The topic that reports a webhook that is switched off. Its webhook must have a destination of its own.
const DELIVERY_EXCEPTION: &str = "store/hook/deliveryException";
/// The wait of each retry after the attempt before it, in seconds.
const RETRIES: [i64; 11] = [60, 180, 300, 600, 900, 1800, 3600, 7200, 21_600, 50_400, 86_400];
/// The number of API calls that one window allows.
const QUOTA: u32 = 150;
/// The length of a window, in seconds.
const WINDOW_SECONDS: i64 = 30;
/// The names of some statuses of orders, by their ids.
const STATUSES: [(u64, &str); 7] = [
    (11, "Awaiting Fulfillment"),
    (2, "Shipped"),
    (3, "Partially Shipped"),
    (10, "Completed"),
    (5, "Cancelled"),
    (0, "Incomplete"),
    (14, "Partially Refunded"),
];
/// Currencies, with their numbers of decimal places.
const CURRENCIES: [(&str, u32); 4] = [("USD", 2), ("EUR", 2), ("JPY", 0), ("KWD", 3)];

/// The rules by which the token of the app's callbacks is signed.
pub const PAYLOAD: Rules<'static> = Rules {
    algorithm: Algorithm::HS256,
    issuer: None,
    audience: None,
    required: &[],
    by_kid: false,
    max_lifetime_seconds: None,
    max_age_seconds: None,
};

/// A webhook as the store keeps it.
#[derive(Clone, PartialEq, Debug)]
pub struct Hook {
    /// The webhook's id.
    pub id: u64,
    /// The id of the app that owns it.
    pub client_id: String,
    /// The topic, or a prefix of topics before a `*`.
    pub scope: String,
    /// The URL that it delivers to.
    pub destination: String,
    /// The headers of each delivery; null if there are none.
    pub headers: Value,
    /// `true` while it delivers, which ends with a failed last retry.
    pub is_active: bool,
    /// The time of its creation.
    pub created: Timestamp,
}

impl Hook {
    fn shown(&self, now: Timestamp) -> Value {
        json!({
            "id": self.id, "client_id": self.client_id, "store_hash": STORE, "scope": self.scope,
            "destination": self.destination, "headers": self.headers, "is_active": self.is_active,
            "created_at": self.created.seconds(), "updated_at": now.seconds(),
        })
    }

    /// Takes the members to change, or returns the wrong one with its error.
    fn take(&mut self, members: &Value) -> Result<(), Value> {
        for (name, value) in members.as_object().into_iter().flatten() {
            match (name.as_str(), value) {
                ("scope", Value::String(scope)) if scope.starts_with("store/") => self.scope.clone_from(scope),
                ("destination", Value::String(url)) if is_destination(url) => self.destination.clone_from(url),
                ("is_active", Value::Bool(is_active)) => self.is_active = *is_active,
                ("headers", Value::Null) => self.headers = Value::Null,
                ("headers", Value::Object(headers)) if headers.values().all(Value::is_string) => {
                    self.headers = value.clone();
                }
                ("scope" | "destination" | "is_active" | "headers", _) => {
                    return Err(json!({ name: "error.expected.valid" }));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Returns whether a URL may be a destination: https on its own port. On this machine, which the platform cannot reach,
/// any URL may.
fn is_destination(text: &str) -> bool {
    let Ok(url) = text.parse::<url::Url>() else { return false };
    let here = url.host_str().is_some_and(|host| host == "127.0.0.1" || host == "localhost");
    here || (url.scheme() == "https" && url.port().is_none())
}

struct Inner {
    now: Timestamp,
    token: Option<String>,
    /// The permissions that the merchant grants when the app is installed.
    grants: String,
    /// Codes that nobody has exchanged yet, with the address for which each is valid.
    codes: BTreeMap<String, String>,
    hooks: Vec<Hook>,
    outbox: VecDeque<Delivery>,
    retries: Vec<(Timestamp, Delivery)>,
    /// The ids of messages, with the id of each one's webhook.
    sent: BTreeMap<String, u64>,
    window: Timestamp,
    used: u32,
    troubles: VecDeque<Trouble>,
    calls: Vec<String>,
    next_id: u64,
    next_hook: u64,
    page_size: usize,
    over_quota: usize,
    ever: BTreeSet<(EntityKind, String)>,
    products: BTreeMap<u64, Value>,
    variants: BTreeMap<u64, Vec<Value>>,
    categories: BTreeMap<u64, Value>,
    customers: BTreeMap<u64, Value>,
    addresses: BTreeMap<u64, Vec<Value>>,
    orders: BTreeMap<u64, Order>,
    carts: BTreeMap<String, Value>,
    /// The fates of carts, which only deliveries tell.
    fates: BTreeMap<String, Value>,
    abandoned: BTreeMap<String, Timestamp>,
    price_lists: [u64; 2],
    /// Price records by price list and variant, then by currency.
    prices: BTreeMap<(u64, u64), BTreeMap<String, Value>>,
}

struct Order {
    own: Value,
    lines: Vec<Value>,
    addresses: Vec<Value>,
    shipments: Vec<Value>,
    coupons: Vec<Value>,
    fees: Vec<Value>,
    refunds: Vec<Value>,
}

/// A simulated store.
pub struct Simulator {
    inner: Mutex<Inner>,
    clock: Clock,
    stale_retries: bool,
}

impl Simulator {
    /// Makes an empty store. With `stale_retries`, a retry carries the timestamp of the first attempt; without, it is
    /// signed anew. BigCommerce does not document which is true.
    pub fn new(clock: Clock, stale_retries: bool) -> Self {
        let now = clock();
        let inner = Inner {
            now,
            token: Some(ACCESS_TOKEN.into()),
            grants: GRANTS.into(),
            codes: BTreeMap::new(),
            hooks: Vec::new(),
            outbox: VecDeque::new(),
            retries: Vec::new(),
            sent: BTreeMap::new(),
            window: now,
            used: 0,
            troubles: VecDeque::new(),
            calls: Vec::new(),
            next_id: 100,
            next_hook: 20_000_001,
            page_size: 250,
            over_quota: 0,
            ever: BTreeSet::new(),
            products: BTreeMap::new(),
            variants: BTreeMap::new(),
            categories: BTreeMap::new(),
            customers: BTreeMap::new(),
            addresses: BTreeMap::new(),
            orders: BTreeMap::new(),
            carts: BTreeMap::new(),
            fates: BTreeMap::new(),
            abandoned: BTreeMap::new(),
            price_lists: [1, 2],
            prices: BTreeMap::new(),
        };
        Self { inner: Mutex::new(inner), clock, stale_retries }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap();
        inner.now = (self.clock)();
        inner
    }

    /// Limits a page of entities to fewer entries than were asked for.
    pub fn set_page_size(&self, page_size: usize) {
        self.lock().page_size = page_size;
    }

    /// Returns the number of calls beyond the quota.
    pub fn over_quota(&self) -> usize {
        self.lock().over_quota
    }

    /// Returns all webhooks.
    pub fn hooks(&self) -> Vec<Hook> {
        self.lock().hooks.clone()
    }

    /// Makes one webhook, without regard to the others, and returns its id.
    pub fn hook(&self, scope: &str, destination: &str, secret: &str) -> u64 {
        let hook = json!({ "scope": scope, "destination": destination, "headers": { SECRET_HEADER: secret } });
        let mut inner = self.lock();
        let hook = inner.new_hook(&hook).unwrap();
        let id = hook.id;
        inner.add_hook(hook);
        id
    }

    /// Changes one webhook, as its app or the platform does.
    pub fn edit_hook(&self, id: u64, change: impl FnOnce(&mut Hook)) {
        change(self.lock().hooks.iter_mut().find(|hook| hook.id == id).unwrap());
    }

    /// Removes one webhook.
    pub fn remove_hook(&self, id: u64) {
        self.lock().hooks.retain(|hook| hook.id != id);
    }

    /// Switches all webhooks on again, as an app does.
    pub fn activate_hooks(&self) {
        self.lock().hooks.iter_mut().for_each(|hook| hook.is_active = true);
    }

    /// Revokes the token.
    pub fn revoke(&self) {
        self.lock().token = None;
    }

    /// Issues another token; the one before becomes invalid.
    pub fn replace_token(&self, token: &str) {
        self.lock().token = Some(token.into());
    }

    /// Uninstalls the app: it sends the last delivery, and then drops the token and the app's webhooks.
    pub fn uninstall(&self) {
        let mut inner = self.lock();
        inner.tell("store/app/uninstalled", json!({ "type": "store" }));
        inner.token = None;
        inner.hooks.retain(|hook| hook.client_id != CLIENT_ID);
    }

    /// Sets the permissions that the merchant grants from now on.
    pub fn grant(&self, scopes: &str) {
        self.lock().grants = scopes.into();
    }

    /// Returns the valid token, if there is one.
    pub fn token(&self) -> Option<String> {
        self.lock().token.clone()
    }

    /// Begins an installation of the app whose callbacks are below `apps_url`. Returns the URL that the merchant's
    /// browser is sent to.
    pub fn authorize(&self, apps_url: &str) -> String {
        let mut inner = self.lock();
        inner.next_id += 1;
        let code = format!("code-{}", inner.next_id);
        inner.codes.insert(code.clone(), format!("{apps_url}/auth"));
        let scopes = inner.grants.replace(' ', "+");
        format!(
            "{apps_url}/auth?account_uuid=00000000-0000-4000-8000-000000000001&code={code}&context=stores%2F{STORE}&scope={scopes}"
        )
    }

    /// Returns the token of the app's other callbacks, signed with the app's secret. `changes` replace claims; null
    /// removes one.
    pub fn signed_payload(&self, changes: &Value) -> String {
        let now = self.lock().now.seconds();
        let jti = {
            let mut inner = self.lock();
            inner.next_id += 1;
            format!("jti-{}", inner.next_id)
        };
        let mut claims = json!({
            "aud": CLIENT_ID, "iss": "bc", "iat": now, "nbf": now - 5, "exp": now + 86_400, "jti": jti,
            "sub": format!("stores/{STORE}"), "user": { "id": 101, "email": "u@example.com", "locale": "en-US" },
            "owner": { "id": 100, "email": "o@example.com" }, "url": "/", "channel_id": null,
        });
        for (name, value) in changes.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|name, value| !value.is_null() || name == "channel_id");
        PAYLOAD.sign(claims.as_object().unwrap(), CLIENT_SECRET.as_bytes()).unwrap()
    }
}

/// An order in the making. Amounts are in minor units.
struct Sale {
    id: u64,
    currency: &'static str,
    places: u32,
    percent: i64,
    inclusive: bool,
    count: i32,
    with_coupon: bool,
    with_manual: bool,
    /// `true` when the lines have their cost after discounts.
    told: bool,
    net: i64,
    tax: i64,
    /// The sum of the lines before discounts, without tax, and its tax.
    subtotal: (i64, i64),
    coupon_off: i64,
    manual_off: i64,
}

impl Sale {
    fn begin(id: u64, random: &mut StdRng) -> Self {
        let (currency, places) = CURRENCIES[random.random_range(0..CURRENCIES.len())];
        let (percent, inclusive) = ([0, 8, 19][random.random_range(0..3)], random.random_bool(0.4));
        let (count, with_coupon, with_manual, told) = (0, false, false, false);
        let (net, tax, subtotal, coupon_off, manual_off) = (0, 0, (0, 0), 0, 0);
        Self {
            id,
            currency,
            places,
            percent,
            inclusive,
            count,
            with_coupon,
            with_manual,
            told,
            net,
            tax,
            subtotal,
            coupon_off,
            manual_off,
        }
    }

    fn code(&self) -> String {
        format!("SAVE{}", self.id)
    }

    /// Splits an entered amount into the amount without tax and its tax.
    fn split(&self, entered: i64) -> (i64, i64) {
        let percent = self.percent;
        if self.inclusive {
            let net = (entered * 100 + (100 + percent) / 2) / (100 + percent);
            (net, entered - net)
        } else {
            (entered, (entered * percent + 50) / 100)
        }
    }

    /// Returns the discounts on a line, and adds them to the sale's sums.
    fn discounts(&mut self, entered: i64, random: &mut StdRng) -> Vec<Value> {
        let (code, places, mut off) = (self.code(), self.places, Vec::new());
        if self.with_coupon {
            let amount = random.random_range(0..=entered / 3);
            self.coupon_off += amount;
            let amount = padded(amount, places);
            off.push(json!({ "id": "coupon", "amount": amount, "name": code, "code": code, "target": "order" }));
        }
        if self.with_manual {
            let amount = random.random_range(0..=entered / 3);
            self.manual_off += amount;
            off.push(json!({
                "id": "manual-discount", "amount": padded(amount, places), "name": "Manual Discount", "code": null,
                "target": "order",
            }));
        }
        off
    }

    /// Returns the order's own members, except for its charges.
    fn order(&self, customer: Option<u64>, now: Timestamp, random: &mut StdRng) -> Value {
        let (id, total, money) = (self.id, self.net + self.tax, |minor: i64| padded(minor, self.places));
        let gift = if random.random_bool(0.2) { random.random_range(0..=total / 2) } else { 0 };
        let credit = if random.random_bool(0.2) { random.random_range(0..=total / 2) } else { 0 };
        let link = |part: &str| {
            let resource = format!("/orders/{id}/{part}");
            json!({ "url": format!("https://api.bigcommerce.com/stores/{STORE}/v2{resource}"), "resource": resource })
        };
        let mut own = json!({
            "id": id, "customer_id": customer.unwrap_or(0), "date_created": mail_date(now),
            "date_modified": mail_date(now), "date_shipped": "", "status_id": 0, "status": "Incomplete",
            "custom_status": "Incomplete", "subtotal_ex_tax": money(self.subtotal.0),
            "subtotal_inc_tax": money(self.subtotal.0 + self.subtotal.1), "subtotal_tax": money(self.subtotal.1),
            "total_ex_tax": money(self.net), "total_inc_tax": money(total), "total_tax": money(self.tax),
            "is_tax_inclusive_pricing": self.inclusive, "discount_amount": money(self.manual_off),
            "coupon_discount": money(self.coupon_off), "store_credit_amount": money(credit),
            "gift_certificate_amount": money(gift), "refunded_amount": "0.0000", "items_total": self.count,
            "payment_method": "Manual", "currency_code": self.currency, "default_currency_code": self.currency,
            "is_deleted": false, "customer_message": "",
            "billing_address": { "first_name": "Ann", "last_name": "Shopper", "street_1": "1 Road", "city": "Austin",
                "state": "Texas", "zip": "78701", "country": "United States", "country_iso2": "US",
                "email": "ann@example.com", "form_fields": [] },
        });
        for part in ["products", "shipping_addresses", "coupons", "consignments", "fees"] {
            own[part] = link(part);
        }
        own
    }
}

impl super::Simulator for Simulator {
    fn platform(&self) -> &'static str {
        PLATFORM.name
    }

    fn connection(&self) -> String {
        STORE.into()
    }

    fn settings(&self, site: &str) -> Value {
        json!({ "site": format!("{site}/stores/{STORE}"), "access_token": self.token().as_deref().unwrap_or(ACCESS_TOKEN) })
    }

    fn subscribe(&self, delivery_url: &str, secret: &dyn Fn(&str) -> String) {
        for scope in declared_scopes(&PLATFORM) {
            let own = if scope == DELIVERY_EXCEPTION { "?for=delivery-exception" } else { "" };
            self.hook(scope, &format!("{delivery_url}{own}"), &secret(scope));
        }
    }

    fn change(&self, random: &mut StdRng) {
        self.lock().change(random);
    }

    fn outbox(&self) -> Vec<Delivery> {
        let mut inner = self.lock();
        let now = inner.now;
        let mut taken: Vec<Delivery> = inner.outbox.drain(..).collect();
        // A removed webhook sends nothing again.
        let (hooks, sent): (BTreeSet<_>, _) = (inner.hooks.iter().map(|hook| hook.id).collect(), &inner.sent);
        let is_there = |delivery: &Delivery| {
            sent.get(header(delivery, STANDARD_HEADERS.id)).is_some_and(|hook| hooks.contains(hook))
        };
        let (due, later): (Vec<_>, Vec<_>) =
            inner.retries.iter().filter(|(_, retry)| is_there(retry)).cloned().partition(|(at, _)| *at <= now);
        inner.retries = later;
        for (_, mut retry) in due {
            if !self.stale_retries {
                sign(&mut retry, now);
            }
            taken.push(retry);
        }
        taken
    }

    fn answered(&self, delivery: &Delivery, status: u16) {
        let id = header(delivery, STANDARD_HEADERS.id);
        let mut inner = self.lock();
        let again = inner.retries.iter().any(|(_, retry)| header(retry, STANDARD_HEADERS.id) == id);
        if (200..300).contains(&status) || again {
            return;
        }
        let Some(&hook) = inner.sent.get(id) else { return };
        match RETRIES.get(delivery.attempts as usize) {
            Some(wait) => {
                let due = inner.now.plus_seconds(*wait);
                inner.retries.push((due, Delivery { attempts: delivery.attempts + 1, ..delivery.clone() }));
            }
            None => {
                let hook = inner.hooks.iter_mut().find(|known| known.id == hook && known.is_active);
                let Some(hook) = hook else { return };
                hook.is_active = false;
                let data = json!({ "type": "webhook", "id": hook.id, "error_code": 90002, "message": "deactivated" });
                inner.tell(DELIVERY_EXCEPTION, data);
            }
        }
    }

    fn answer<'a>(&'a self, request: &'a ApiRequest) -> BoxFuture<'a, Result<ApiResponse, Fault>> {
        let mut inner = self.lock();
        inner.calls.push(format!("{} {}", request.method, request.url.path()));
        let trouble = inner.troubles.pop_front().unwrap_or(Trouble::None);
        let answer = match trouble {
            Trouble::TooMany(seconds) => {
                let mut answer = error(429, "Too many requests");
                inner.limits(&mut answer, i64::from(seconds) * 1000);
                Ok(answer)
            }
            Trouble::Broken => Ok(page(500, "<html>Internal Server Error</html>")),
            Trouble::NotFoundPage => Ok(page(404, "<html>404 Not Found</html>")),
            Trouble::Slow => Err(Fault::Unavailable("no answer in time".into())),
            Trouble::AnswerLost => {
                inner.limited(request);
                Err(Fault::Unavailable("the answer was lost".into()))
            }
            Trouble::None => Ok(inner.limited(request)),
        };
        Box::pin(std::future::ready(answer))
    }

    fn trouble(&self, troubles: &[Trouble]) {
        self.lock().troubles.extend(troubles);
    }

    fn entities(&self) -> Vec<(EntityKind, String, Truth)> {
        let inner = self.lock();
        let truth = |(kind, id): &(EntityKind, String)| {
            let number = id.parse::<u64>().unwrap_or_default();
            let there = match kind {
                EntityKind::Product => inner.products.contains_key(&number),
                EntityKind::Category => inner.categories.contains_key(&number),
                EntityKind::Customer => inner.customers.contains_key(&number),
                EntityKind::Order if inner.orders[&number].own["is_deleted"] == true => false,
                // An order that was never paid is not an order, but a paid one may have been set back.
                EntityKind::Order if inner.orders[&number].own["status_id"] == 0 => {
                    return Some((*kind, id.clone(), Truth::IfKnown));
                }
                EntityKind::Order => true,
                EntityKind::Cart => inner.carts.contains_key(id),
                _ => inner.prices.keys().any(|(list, variant)| format!("{list}:{variant}") == *id),
            };
            let fate = inner.fates.get(id).filter(|_| *kind == EntityKind::Cart).cloned();
            let truth = match (there, fate) {
                (true, None) => Truth::Api,
                (true, Some(fields)) => Truth::With(fields),
                (false, None) => Truth::Gone,
                (false, Some(fields)) => Truth::GoneWith(fields),
            };
            Some((*kind, id.clone(), truth))
        };
        inner.ever.iter().filter_map(truth).collect()
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().calls)
    }
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> &'a str {
    delivery.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

/// Signs a delivery with the time `now`, and keeps its id.
fn sign(delivery: &mut Delivery, now: Timestamp) {
    let id = header(delivery, STANDARD_HEADERS.id).to_owned();
    let signature = STANDARD_HEADERS.sign(CLIENT_SECRET.as_bytes(), &id, now.seconds(), &delivery.body);
    let of_signature = [STANDARD_HEADERS.timestamp, STANDARD_HEADERS.signature];
    delivery.headers.retain(|(name, _)| !of_signature.contains(&name.as_str()));
    delivery.headers.push((STANDARD_HEADERS.timestamp.into(), now.seconds().to_string()));
    delivery.headers.push((STANDARD_HEADERS.signature.into(), signature));
}

/// Writes a time as v3 does.
fn iso(at: Timestamp) -> String {
    Timestamp::from_millis(at.seconds() * 1000).to_string().replace('Z', "+00:00")
}

/// Writes a time as v2 does.
fn mail_date(at: Timestamp) -> String {
    let text = iso(at);
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let day = days[at.seconds().div_euclid(86_400).rem_euclid(7) as usize];
    let month = months[text[5..7].parse::<usize>().unwrap() - 1];
    format!("{day}, {} {month} {} {} +0000", &text[8..10], &text[..4], &text[11..19])
}

/// Reads a time of v3 or v2.
fn time(text: &str) -> Option<Timestamp> {
    let parts: Vec<&str> = text.split(' ').collect();
    let [_, day, month, year, hour, _] = parts.as_slice() else { return parse_utc(text).map(Timestamp::from) };
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|known| known == month)? + 1;
    parse_utc(&format!("{year}-{month:02}-{day}T{hour}Z")).map(Timestamp::from)
}

/// Writes money as v2 does, from minor units of a currency with so many decimal places.
fn padded(minor: i64, places: u32) -> String {
    let (one, rest) = (10_i64.pow(places), 10_i64.pow(4 - places));
    format!("{}.{:04}", minor / one, minor % one * rest)
}

/// Reads money of v2, as minor units.
fn minor(text: &str, places: u32) -> i64 {
    text.replace('.', "").parse::<i64>().unwrap() / 10_i64.pow(4 - places)
}

/// Writes money as v3 does.
fn plain(minor: i64, places: u32) -> Value {
    json!(minor as f64 / 10_f64.powi(places as i32))
}

fn error(status: u16, title: &str) -> ApiResponse {
    error_with(status, title, json!({}))
}

fn error_with(status: u16, title: &str, errors: Value) -> ApiResponse {
    let body = json!({ "status": status, "title": title, "type": "https://developer.bigcommerce.com/status-codes",
    "errors": errors });
    json_answer(status, &body)
}

fn no_hook(id: &str) -> ApiResponse {
    error(404, &format!("Webhook with id [{id}] not found"))
}

fn not_found_v2() -> ApiResponse {
    json_answer(404, &json!([{ "status": 404, "message": "The requested resource was not found." }]))
}

fn found(entity: Option<&Value>) -> ApiResponse {
    match entity {
        Some(entity) => json_answer(200, &json!({ "data": entity, "meta": {} })),
        None => error(404, "The resource was not found."),
    }
}

fn pages(query: &BTreeMap<String, String>) -> Option<(usize, usize)> {
    let number = |name: &str, otherwise: usize| query.get(name).map_or(Some(otherwise), |text| text.parse().ok());
    Some((number("limit", 50).filter(|limit| (1..=250).contains(limit))?, number("page", 1).filter(|page| *page > 0)?))
}

fn v3_list(all: &[Value], query: &BTreeMap<String, String>) -> ApiResponse {
    let Some((limit, number)) = pages(query) else { return error(422, "limit or page is invalid") };
    let shown: Vec<_> = all.iter().skip((number - 1) * limit).take(limit).collect();
    let pagination = json!({
        "total": all.len(), "count": shown.len(), "per_page": limit, "current_page": number,
        "total_pages": all.len().div_ceil(limit),
    });
    json_answer(200, &json!({ "data": shown, "meta": { "pagination": pagination } }))
}

fn v2_list(all: &[Value], query: &BTreeMap<String, String>) -> ApiResponse {
    let Some((limit, number)) = pages(query) else { return error(413, "limit is too large") };
    let shown: Vec<_> = all.iter().skip((number - 1) * limit).take(limit).cloned().collect();
    match shown.is_empty() {
        true => page(204, ""),
        false => json_answer(200, &Value::Array(shown)),
    }
}

impl Inner {
    /// Sets the headers of the quota, which every answer has.
    fn limits(&self, answer: &mut ApiResponse, reset: i64) {
        let left = u64::from(QUOTA.saturating_sub(self.used));
        for (name, value) in [
            ("x-rate-limit-time-window-ms", WINDOW_SECONDS as u64 * 1000),
            ("x-rate-limit-time-reset-ms", reset.max(0) as u64),
            ("x-rate-limit-requests-quota", u64::from(QUOTA)),
            ("x-rate-limit-requests-left", left),
        ] {
            answer.headers.insert(name, HeaderValue::from(value));
        }
    }

    fn limited(&mut self, request: &ApiRequest) -> ApiResponse {
        if self.now >= self.window.plus_seconds(WINDOW_SECONDS) {
            (self.window, self.used) = (self.now, 0);
        }
        let mut answer = match self.used < QUOTA {
            true => self.route(request),
            false => {
                self.over_quota += 1;
                error(429, "Too many requests")
            }
        };
        self.used = (self.used + 1).min(QUOTA);
        let reset = (self.window.plus_seconds(WINDOW_SECONDS).micros() - self.now.micros()) / 1000;
        self.limits(&mut answer, reset);
        answer
    }

    /// Exchanges a code, once, for a token that replaces the one before. The answer to an invalid code is not
    /// documented.
    fn exchange(&mut self, request: &ApiRequest) -> ApiResponse {
        let Ok(form) = serde_json::from_slice::<Value>(&request.body) else { return error(400, "Input is invalid") };
        if (form["client_id"].as_str(), form["client_secret"].as_str()) != (Some(CLIENT_ID), Some(CLIENT_SECRET)) {
            return json_answer(401, &json!({ "error": "invalid_client" }));
        }
        let of_code = form["code"].as_str().and_then(|code| self.codes.remove(code));
        let fits = of_code.as_deref() == form["redirect_uri"].as_str()
            && form["grant_type"] == "authorization_code"
            && form["context"] == format!("stores/{STORE}");
        if of_code.is_none() || !fits {
            return json_answer(400, &json!({ "error": "invalid_grant" }));
        }
        self.next_id += 1;
        let token = format!("{ACCESS_TOKEN}-{}", self.next_id);
        self.token = Some(token.clone());
        let user = json!({ "id": 101, "username": "u@example.com", "email": "u@example.com" });
        json_answer(
            200,
            &json!({
                "access_token": token, "scope": self.grants, "user": user, "owner": user,
                "context": format!("stores/{STORE}"), "account_uuid": "00000000-0000-4000-8000-000000000001",
            }),
        )
    }

    fn route(&mut self, request: &ApiRequest) -> ApiResponse {
        if request.method == Method::POST && request.url.path() == "/oauth2/token" {
            return self.exchange(request);
        }
        let token = request.headers.get("x-auth-token").and_then(|value| value.to_str().ok());
        if token.is_none() || token != self.token.as_deref() {
            return error(401, "Unauthorized");
        }
        let path = segments(request);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let ["stores", STORE, path @ ..] = path.as_slice() else { return page(404, "<html>No such store</html>") };
        let query = query(request);
        if let ["v3", "hooks", hook @ ..] = path {
            return self.hooks_api(request, hook, &query);
        }
        if request.method != Method::GET {
            return page(405, "");
        }
        let id = |text: &str| text.parse::<u64>().unwrap_or_default();
        match path {
            ["v2", "store"] => json_answer(200, &json!({ "id": STORE, "name": "Jars" })),
            ["v2", "time"] => json_answer(200, &json!({ "time": self.now.seconds() })),
            ["v3", "catalog", "products", product] => {
                let mut shown = self.products.get(&id(product)).cloned();
                let included = query.get("include").map(String::as_str).unwrap_or_default();
                if let Some(Value::Object(members)) = &mut shown {
                    for name in ["images", "custom_fields"] {
                        if !included.split(',').any(|known| known == name) {
                            members.remove(name);
                        }
                    }
                }
                found(shown.as_ref())
            }
            ["v3", "catalog", "products", product, "variants"] => match self.variants.get(&id(product)) {
                Some(variants) => v3_list(variants, &query),
                None => found(None),
            },
            ["v3", "catalog", "products"] => {
                if query.get("sort").map(String::as_str) != Some("date_modified") {
                    return error(422, "no test wants another order");
                }
                self.many(self.products.values(), "date_modified:min", &query)
            }
            ["v3", "catalog", "categories"] => self.many(self.categories.values(), "", &query),
            ["v2", "orders"] => {
                let shown = self.orders.values().map(|order| &order.own).filter(|own| own["is_deleted"] != true);
                self.many(shown, "min_date_modified", &query)
            }
            ["v3", "catalog", "categories", category] => found(self.categories.get(&id(category))),
            ["v3", "customers"] if !query.contains_key("id:in") => {
                self.many(self.customers.values(), "date_modified:min", &query)
            }
            ["v3", "customers"] => {
                let wanted = query.get("id:in").map(String::as_str).unwrap_or_default();
                let customers = wanted.split(',').filter_map(|wanted| self.customer(id(wanted)));
                v3_list(&customers.collect::<Vec<_>>(), &query)
            }
            ["v3", "customers", "addresses"] => {
                let wanted = query.get("customer_id:in").map(String::as_str).unwrap_or_default();
                let addresses =
                    wanted.split(',').filter_map(|wanted| self.addresses.get(&id(wanted))).flatten().cloned();
                v3_list(&addresses.collect::<Vec<_>>(), &query)
            }
            ["v3", "carts", cart] => found(self.carts.get(*cart)),
            ["v3", "pricelists", list, "records", _] if !self.price_lists.contains(&id(list)) => found(None),
            ["v3", "pricelists", list, "records", variant] => self.price_records(id(list), id(variant), &query),
            ["v3", "orders", order, "payment_actions", "refunds"] => match self.orders.get(&id(order)) {
                Some(order) => json_answer(200, &json!({ "data": order.refunds, "meta": {} })),
                None => found(None),
            },
            ["v2", "orders", order, part @ ..] => self.order_part(id(order), part, &query),
            _ => page(404, "<html>404 Not Found</html>"),
        }
    }

    fn price_records(&self, list: u64, variant: u64, query: &BTreeMap<String, String>) -> ApiResponse {
        let records = self.prices.get(&(list, variant));
        let mut shown: Vec<Value> = records.into_iter().flat_map(BTreeMap::values).cloned().collect();
        let included = query.get("include").map(String::as_str).unwrap_or_default();
        if !included.split(',').any(|part| part == "bulk_pricing_tiers") {
            shown.iter_mut().for_each(|record| _ = record.as_object_mut().unwrap().remove("bulk_pricing_tiers"));
        }
        v3_list(&shown, query)
    }

    fn order_part(&self, order: u64, part: &[&str], query: &BTreeMap<String, String>) -> ApiResponse {
        let Some(order) = self.orders.get(&order) else { return not_found_v2() };
        match part {
            [] => json_answer(200, &order.own),
            ["products"] => v2_list(&order.lines, query),
            ["shipping_addresses"] => v2_list(&order.addresses, query),
            ["shipments"] => v2_list(&order.shipments, query),
            ["coupons"] => v2_list(&order.coupons, query),
            ["fees"] if order.fees.is_empty() => page(204, ""),
            ["fees"] => json_answer(200, &json!({ "fees": order.fees })),
            _ => page(404, "<html>404 Not Found</html>"),
        }
    }

    /// Lists entities by the time of their last change, if they have one. If the query has the parameter that `min`
    /// names, lists only those that have changed since that time.
    fn many<'a>(
        &self,
        all: impl Iterator<Item = &'a Value>,
        min: &str,
        query: &BTreeMap<String, String>,
    ) -> ApiResponse {
        let modified = |entity: &&Value| time(entity["date_modified"].as_str().unwrap_or_default());
        let since = query.get(min).map(|text| time(text));
        if since == Some(None) {
            return error(422, "a time without its day or hour");
        }
        let mut found: Vec<&Value> = all.filter(|entity| since.is_none_or(|since| modified(entity) >= since)).collect();
        found.sort_by_key(modified);
        let found: Vec<Value> = found.into_iter().cloned().collect();
        let mut query = query.clone();
        let asked = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(50);
        query.insert("limit".into(), self.page_size.min(asked).to_string());
        if min == "min_date_modified" { v2_list(&found, &query) } else { v3_list(&found, &query) }
    }

    /// Answers the calls that create, list, show, change and remove webhooks.
    fn hooks_api(&mut self, request: &ApiRequest, path: &[&str], query: &BTreeMap<String, String>) -> ApiResponse {
        let now = self.now;
        let enveloped = |hook: &Hook| json_answer(200, &json!({ "data": hook.shown(now), "meta": {} }));
        let own = |hook: &Hook| hook.client_id == CLIENT_ID;
        let place = |id: &str| self.hooks.iter().position(|hook| own(hook) && hook.id.to_string() == id);
        let refused = |errors| error_with(422, "JSON data is missing or invalid", errors);
        match (request.method.as_str(), path) {
            ("GET", []) => {
                let wanted = |hook: &&Hook| {
                    let shown = hook.shown(now);
                    let is = |name: &str| {
                        let known = shown[name].as_str().map_or_else(|| shown[name].to_string(), str::to_owned);
                        query.get(name).is_none_or(|wanted| known == *wanted)
                    };
                    own(hook) && is("scope") && is("destination") && is("is_active")
                };
                let shown: Vec<_> = self.hooks.iter().filter(wanted).map(|hook| hook.shown(now)).collect();
                v3_list(&shown, query)
            }
            ("GET", [id]) => place(id).map_or_else(|| no_hook(id), |place| enveloped(&self.hooks[place])),
            ("DELETE", [id]) => {
                let Some(place) = place(id) else { return no_hook(id) };
                enveloped(&self.hooks.remove(place))
            }
            ("POST", []) | ("PUT", [_]) => {
                let Ok(Value::Object(members)) = serde_json::from_slice(&request.body) else {
                    return error(400, "Input is invalid");
                };
                let needed: &[&str] = if path.is_empty() { &["scope", "destination"] } else { &[] };
                if let Some(name) = needed.iter().find(|name| !members.contains_key(**name)) {
                    return refused(json!({ *name: "error.path.missing." }));
                }
                if members.is_empty() {
                    return refused(json!({ "": "error.path.missing." }));
                }
                let members = Value::Object(members);
                let changed = match path {
                    [id, ..] => {
                        let Some(place) = place(id) else { return no_hook(id) };
                        let mut hook = self.hooks[place].clone();
                        hook.take(&members).map(|()| hook)
                    }
                    [] => self.new_hook(&members),
                };
                let changed = match changed {
                    Ok(changed) => changed,
                    Err(errors) => return refused(errors),
                };
                if let Some(what) = self.conflict(&changed) {
                    return refused(json!({ "scope": what }));
                }
                let answer = enveloped(&changed);
                match self.hooks.iter_mut().find(|hook| hook.id == changed.id) {
                    Some(hook) => *hook = changed,
                    None => self.add_hook(changed),
                }
                answer
            }
            _ => page(405, ""),
        }
    }

    fn new_hook(&self, members: &Value) -> Result<Hook, Value> {
        let mut hook = Hook {
            id: self.next_hook,
            client_id: CLIENT_ID.into(),
            scope: String::new(),
            destination: String::new(),
            headers: Value::Null,
            is_active: true,
            created: self.now,
        };
        hook.take(members).map(|()| hook)
    }

    fn add_hook(&mut self, hook: Hook) {
        self.next_hook += 1;
        self.hooks.push(hook);
    }

    /// Returns the reason why a webhook cannot exist beside the others, if there is one.
    fn conflict(&self, hook: &Hook) -> Option<&'static str> {
        let others = || self.hooks.iter().filter(|other| other.id != hook.id && other.client_id == hook.client_id);
        let of_scope = || others().filter(|other| other.scope == hook.scope);
        let at_address = || others().filter(|other| other.destination == hook.destination);
        let is_meta = |hook: &Hook| hook.scope == DELIVERY_EXCEPTION;
        if of_scope().any(|other| other.destination == hook.destination) {
            return Some("a hook of this scope and destination exists");
        }
        if of_scope().count() >= if is_meta(hook) { 1 } else { HOOKS_OF_A_SCOPE } {
            return Some("there are too many hooks of this scope");
        }
        if at_address().any(|other| is_meta(hook) || is_meta(other)) {
            return Some("the destination of the hook for delivery exceptions must be its own");
        }
        None
    }

    /// Returns a customer with at most ten addresses.
    fn customer(&self, id: u64) -> Option<Value> {
        let mut shown = self.customers.get(&id)?.clone();
        let addresses = self.addresses.get(&id).map(Vec::as_slice).unwrap_or_default();
        shown["address_count"] = json!(addresses.len());
        shown["addresses"] = addresses.iter().take(10).cloned().collect();
        Some(shown)
    }

    /// Puts a delivery into the outbox for each webhook that wants it.
    fn tell(&mut self, scope: &str, data: Value) {
        let wants = |hook: &Hook| match hook.scope.strip_suffix('*') {
            Some(prefix) => scope.starts_with(prefix),
            None => hook.scope == scope,
        };
        let event = self.id();
        let body = json!({
            "scope": scope, "store_id": "1000000001", "data": data, "hash": format!("{event:040x}"),
            "created_at": self.now.seconds(), "producer": format!("stores/{STORE}"),
        });
        for hook in self.hooks.iter().filter(|hook| hook.is_active && wants(hook)) {
            let id = format!("msg_{event}_{}", hook.id);
            self.sent.insert(id.clone(), hook.id);
            let mut headers =
                vec![("content-type".into(), "application/json".into()), (STANDARD_HEADERS.id.into(), id)];
            for (name, value) in hook.headers.as_object().into_iter().flatten() {
                headers.push((name.to_ascii_lowercase(), value.as_str().unwrap_or_default().to_owned()));
            }
            let (url, body) = (hook.destination.clone(), Bytes::from(body.to_string()));
            let mut delivery = Delivery { method: Method::POST, url, headers, body, attempts: 0 };
            sign(&mut delivery, self.now);
            self.outbox.push_back(delivery);
        }
    }

    fn tell_of(&mut self, scope: &str, kind: &str, id: u64) {
        self.tell(scope, json!({ "type": kind, "id": id }));
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn made(&mut self, kind: EntityKind, id: impl ToString) {
        self.ever.insert((kind, id.to_string()));
    }

    fn change(&mut self, random: &mut StdRng) {
        // Changes that need products or customers begin by making some.
        if self.products.is_empty() {
            return self.create_product(random);
        }
        if self.customers.is_empty() {
            return self.create_customer(random);
        }
        match random.random_range(0..100) {
            0..6 => self.create_customer(random),
            6..12 => self.update_customer(random),
            12..20 => self.change_address(random),
            20..22 => self.delete_customer(random),
            22..28 => self.change_category(random),
            28..35 => self.create_product(random),
            35..45 => self.update_product(random),
            45..50 => self.change_variant(random),
            50..52 => self.delete_product(random),
            52..66 => self.create_order(random),
            66..80 => self.update_order(random),
            80..86 => self.change_shipment(random),
            86..88 => self.archive_order(random),
            88..95 => self.change_cart(random),
            _ => self.change_price(random),
        }
    }

    fn create_customer(&mut self, random: &mut StdRng) {
        let id = self.id();
        let customer = json!({
            "id": id, "email": format!("shopper-{id}@example.com"), "first_name": "Ann",
            "last_name": format!("Shopper {id}"),
            "company": "", "phone": "", "notes": "", "customer_group_id": random.random_range(0..3), "channel_ids": [1],
            "date_created": iso(self.now), "date_modified": iso(self.now),
        });
        self.customers.insert(id, customer);
        self.addresses.insert(id, Vec::new());
        self.made(EntityKind::Customer, id);
        self.tell_of("store/customer/created", "customer", id);
    }

    fn update_customer(&mut self, random: &mut StdRng) {
        let Some(id) = any(random, &self.customers) else { return };
        let company = format!("Company {}", random.random_range(0..1000));
        let now = iso(self.now);
        let customer = self.customers.get_mut(&id).unwrap();
        customer["company"] = json!(company);
        customer["date_modified"] = json!(now);
        self.tell_of("store/customer/updated", "customer", id);
        if random.random_bool(0.1) {
            self.tell_of("store/customer/payment/instrument/default/updated", "customer", id);
        }
    }

    /// Changes an address. Its customer keeps the time of the last change, and gets no update of its own.
    fn change_address(&mut self, random: &mut StdRng) {
        let Some(id) = any(random, &self.customers) else { return };
        let new = self.id();
        let addresses = self.addresses.get_mut(&id).unwrap();
        let street = format!("{} Road", random.random_range(1..1000));
        let place = random.random_range(0..=addresses.len());
        let (scope, address) = match addresses.get_mut(place) {
            None => {
                addresses.push(json!({
                    "id": new, "customer_id": id, "first_name": "Ann", "last_name": "Shopper", "address1": street,
                    "address2": "",
                    "city": "Austin", "state_or_province": "Texas", "postal_code": "78701", "country_code": "US",
                    "country": "United States", "phone": "", "address_type": "residential",
                }));
                ("store/customer/address/created", new)
            }
            Some(address) if random.random_bool(0.7) => {
                address["address1"] = json!(street);
                ("store/customer/address/updated", address["id"].as_u64().unwrap())
            }
            Some(_) => ("store/customer/address/deleted", addresses.remove(place)["id"].as_u64().unwrap()),
        };
        self.tell(scope, json!({ "type": "customer", "id": address, "address": { "customer_id": id } }));
    }

    fn delete_customer(&mut self, random: &mut StdRng) {
        let Some(id) = any(random, &self.customers) else { return };
        self.customers.remove(&id);
        self.addresses.remove(&id);
        self.tell_of("store/customer/deleted", "customer", id);
    }

    fn change_category(&mut self, random: &mut StdRng) {
        let name = format!("Category {}", random.random_range(0..1000));
        let known = any(random, &self.categories);
        match (known, random.random_range(0..10)) {
            (Some(id), 0) => {
                self.categories.remove(&id);
                self.tell_of("store/category/deleted", "category", id);
            }
            (Some(id), 1..6) => {
                self.categories.get_mut(&id).unwrap()["name"] = json!(name);
                self.tell_of("store/category/updated", "category", id);
            }
            _ => {
                let id = self.id();
                let category = json!({
                    "id": id, "parent_id": known.unwrap_or(0), "name": name, "description": "", "views": 0,
                    "is_visible": true,
                    "custom_url": { "url": format!("/category-{id}/"), "is_customized": false },
                });
                self.categories.insert(id, category);
                self.made(EntityKind::Category, id);
                self.tell_of("store/category/created", "category", id);
            }
        }
    }

    fn create_product(&mut self, random: &mut StdRng) {
        let id = self.id();
        // One in three has options; one in twenty has more variants than a page holds.
        let variants = match random.random_range(0..20) {
            0 => 251,
            1..7 => random.random_range(2..5),
            _ => 0,
        };
        let base = self.id();
        let price = f64::from(random.random_range(100..10_000)) / 100.0;
        let product = json!({
            "id": id, "name": format!("Jar {id}"), "type": "physical", "sku": format!("JAR-{id}"), "price": price,
            "sale_price": 0,
            "calculated_price": price, "cost_price": 0, "categories": any(random,
            &self.categories).into_iter().collect::<Vec<_>>(),
            "inventory_level": 100, "inventory_tracking": if variants == 0 { "product" } else { "variant" },
            "is_visible": true,
            "availability": "available", "total_sold": 0, "view_count": 0, "date_created": iso(self.now),
            "date_modified": iso(self.now), "base_variant_id": (variants == 0).then_some(base),
            "custom_url": { "url": format!("/jar-{id}/"), "is_customized": false }, "description": "<p>A jar.</p>",
            "gtin": "", "upc": "",
            "images": [{ "url_zoom": format!("https://cdn.example.com/{id}.jpg"), "sort_order": 0,
            "is_thumbnail": true }],
            "custom_fields": [],
        });
        self.products.insert(id, product);
        let made: Vec<u64> = (0..variants).map(|_| self.id()).collect();
        let show = |(number, variant): (usize, &u64)| {
            json!({
                "id": variant, "product_id": id, "sku": format!("JAR-{id}-{number}"), "price": null, "sale_price": null,
                "calculated_price": price, "inventory_level": 10, "purchasing_disabled": false, "image_url": "",
                "option_values": [{ "option_display_name": "Size", "label": format!("{number}") }],
            })
        };
        let all = match variants {
            0 => vec![json!({ "id": base, "product_id": id, "sku": format!("JAR-{id}"), "option_values": [] })],
            _ => made.iter().enumerate().map(show).collect(),
        };
        self.variants.insert(id, all);
        self.made(EntityKind::Product, id);
        self.tell_of("store/product/created", "product", id);
        // A delivery for each variant would only make tests slow.
        for variant in made.into_iter().take(5) {
            self.tell(
                "store/sku/created",
                json!({ "type": "sku", "id": variant, "sku": { "product_id": id, "variant_id": variant } }),
            );
        }
    }

    fn update_product(&mut self, random: &mut StdRng) {
        let Some(id) = any(random, &self.products) else { return };
        let now = iso(self.now);
        let product = self.products.get_mut(&id).unwrap();
        product["date_modified"] = json!(now);
        let stock = random.random_bool(0.3) && product["inventory_tracking"] == "product";
        if stock {
            let level = random.random_range(0..500);
            product["inventory_level"] = json!(level);
            let inventory = json!({ "product_id": id, "method": "absolute", "value": level });
            self.tell(
                "store/product/inventory/updated",
                json!({ "type": "product", "id": id, "inventory": inventory }),
            );
        } else {
            let price = f64::from(random.random_range(100..10_000)) / 100.0;
            product["price"] = json!(price);
            product["calculated_price"] = json!(price);
        }
        self.tell_of("store/product/updated", "product", id);
    }

    /// Changes a variant, which is not a change of its product.
    fn change_variant(&mut self, random: &mut StdRng) {
        let Some(id) = any(random, &self.products) else { return };
        let variants = self.variants.get_mut(&id).unwrap();
        let place = random.random_range(0..variants.len());
        if self.products[&id]["base_variant_id"].is_u64() {
            return;
        }
        let variant = variants[place]["id"].as_u64().unwrap();
        let sku = json!({ "type": "sku", "id": variant, "sku": { "product_id": id, "variant_id": variant } });
        match random.random_range(0..3) {
            0 if variants.len() > 1 => {
                variants.remove(place);
                self.tell("store/sku/deleted", sku);
            }
            1 => {
                variants[place]["inventory_level"] = json!(random.random_range(0..100));
                let inventory = json!({ "product_id": id, "method": "absolute", "value": 1, "variant_id": variant });
                self.tell(
                    "store/sku/inventory/updated",
                    json!({ "type": "sku", "id": variant, "inventory": inventory }),
                );
                let events = ["stock_changed", "low_stock_reached", "out_of_stock_reached", "settings_changed"];
                let event = events[random.random_range(0..events.len())];
                let scope = format!("store/channel/*/inventory/product/{event}");
                self.tell(&scope, json!({ "variant_id": variant, "product_id": id, "location_id": 1 }));
            }
            _ => {
                variants[place]["calculated_price"] = json!(f64::from(random.random_range(100..10_000)) / 100.0);
                self.tell("store/sku/updated", sku);
            }
        }
    }

    fn delete_product(&mut self, random: &mut StdRng) {
        let Some(id) = any(random, &self.products) else { return };
        self.products.remove(&id);
        self.variants.remove(&id);
        self.tell_of("store/product/deleted", "product", id);
    }

    /// Creates an order with all kinds of amounts, some of them zero, in one of several currencies, with prices with or
    /// without tax.
    fn create_order(&mut self, random: &mut StdRng) {
        let id = self.id();
        let customer = any(random, &self.customers).filter(|_| random.random_bool(0.8));
        let mut sale = Sale::begin(id, random);
        // One in thirty has more lines than a page holds.
        sale.count = if random.random_range(0..30) == 0 { 51 } else { random.random_range(1..4) };
        (sale.with_coupon, sale.with_manual) = (random.random_bool(0.4), random.random_bool(0.4));
        // Older orders do not have this member.
        sale.told = random.random_bool(0.8);
        let mut lines = Vec::new();
        for _ in 0..sale.count {
            let Some(product) = any(random, &self.products) else { return };
            lines.push(self.sell(&mut sale, product, random));
        }
        let order = self.bill(&mut sale, customer, lines, random);
        self.orders.insert(id, order);
        self.made(EntityKind::Order, id);
        self.tell_of("store/order/created", "order", id);
        // One in four is never paid.
        if random.random_bool(0.75) {
            self.set_status(id, 11);
            self.sold(id);
        }
    }

    /// Returns a line of a sale.
    fn sell(&mut self, sale: &mut Sale, product: u64, random: &mut StdRng) -> Value {
        let (quantity, each) = (random.random_range(1..4_i64), random.random_range(100..10_000_i64));
        let entered = quantity * each;
        let off = sale.discounts(entered, random);
        let taken_off: i64 =
            off.iter().map(|off| off["amount"].as_str().unwrap()).map(|text| minor(text, sale.places)).sum();
        let (before, after) = (sale.split(entered), sale.split(entered - taken_off));
        (sale.net, sale.tax) = (sale.net + after.0, sale.tax + after.1);
        sale.subtotal = (sale.subtotal.0 + before.0, sale.subtotal.1 + before.1);
        let variant = self.variants[&product][0]["id"].clone();
        let line = self.id();
        let one = sale.split(each);
        let options: Vec<Value> = (0..random.random_range(0..2))
            .map(
                |_| json!({ "id": self.id(), "display_name": "Size", "display_value": "S", "type": "Multiple choice" }),
            )
            .collect();
        let money = |minor: i64| padded(minor, sale.places);
        let mut shown = json!({
            "id": line, "order_id": sale.id, "product_id": product, "variant_id": variant, "order_address_id": sale.id,
            "name": format!("Jar {product}"), "sku": format!("JAR-{product}"), "type": "physical",
            "quantity": quantity, "base_price": money(each), "price_ex_tax": money(one.0),
            "price_inc_tax": money(one.0 + one.1), "price_tax": money(one.1), "base_total": money(entered),
            "total_ex_tax": money(before.0), "total_inc_tax": money(before.0 + before.1), "total_tax": money(after.1),
            "product_options": options, "applied_discounts": off,
            "is_refunded": false, "quantity_refunded": 0, "refund_amount": "0.0000",
        });
        if sale.told {
            shown["discounted_total_inc_tax"] = json!(money(after.0 + after.1));
        }
        shown
    }

    /// Returns the order of a sale with these lines.
    fn bill(&mut self, sale: &mut Sale, customer: Option<u64>, lines: Vec<Value>, random: &mut StdRng) -> Order {
        let mut charge =
            |chance: f64| sale.split(if random.random_bool(chance) { random.random_range(1..2000) } else { 0 });
        let (shipping, handling, wrapping, fee) = (charge(0.7), charge(0.3), charge(0.3), charge(0.3));
        for (more, more_tax) in [shipping, handling, wrapping, fee] {
            (sale.net, sale.tax) = (sale.net + more, sale.tax + more_tax);
        }
        let (id, money) = (sale.id, |minor: i64| padded(minor, sale.places));
        let mut own = sale.order(customer, self.now, random);
        for (name, (cost, tax)) in [("shipping", shipping), ("handling", handling), ("wrapping", wrapping)] {
            own[format!("{name}_cost_ex_tax")] = json!(money(cost));
            own[format!("{name}_cost_inc_tax")] = json!(money(cost + tax));
            own[format!("{name}_cost_tax")] = json!(money(tax));
        }
        let address = json!({
            "id": id, "order_id": id, "first_name": "Ann", "last_name": "Shopper", "street_1": "1 Road", "city": "Austin",
            "state": "Texas", "zip": "78701", "country": "United States", "country_iso2": "US",
            "shipping_method": "Ground", "cost_ex_tax": money(shipping.0), "cost_tax": money(shipping.1),
        });
        let coupons = sale.with_coupon.then(|| {
            let coupon = self.id();
            json!({ "id": coupon, "coupon_id": 1, "order_id": id, "code": sale.code(), "amount": "10", "type": 1,
                "discount": money(sale.coupon_off) })
        });
        let fees = (fee != (0, 0)).then(|| {
            let number = self.id();
            json!({ "id": number, "type": "custom_fee", "display_name_customer": "Insurance",
                "display_name_merchant": "Insurance fee", "source": "v2", "base_cost": money(fee.0),
                "cost_ex_tax": money(fee.0), "cost_inc_tax": money(fee.0 + fee.1), "cost_tax": money(fee.1),
                "tax_class_id": null })
        });
        Order {
            own,
            lines,
            addresses: vec![address],
            shipments: Vec::new(),
            coupons: coupons.into_iter().collect(),
            fees: fees.into_iter().collect(),
            refunds: Vec::new(),
        }
    }

    /// Changes the products of a sale, and reports them.
    fn sold(&mut self, order: u64) {
        let now = iso(self.now);
        for line in self.orders[&order].lines.clone() {
            let (id, quantity) = (line["product_id"].as_u64().unwrap(), line["quantity"].as_i64().unwrap());
            let Some(product) = self.products.get_mut(&id) else { continue };
            product["total_sold"] = json!(product["total_sold"].as_i64().unwrap() + quantity);
            product["date_modified"] = json!(now);
            if product["inventory_tracking"] == "product" {
                product["inventory_level"] = json!(product["inventory_level"].as_i64().unwrap() - quantity);
                let inventory = json!({ "product_id": id, "method": "relative", "value": -quantity });
                let data = json!({ "type": "product", "id": id, "inventory": inventory });
                self.tell("store/product/inventory/order/updated", data);
            } else if let Some(variant) =
                self.variants.get_mut(&id).unwrap().iter_mut().find(|variant| variant["id"] == line["variant_id"])
            {
                variant["inventory_level"] = json!(variant["inventory_level"].as_i64().unwrap_or_default() - quantity);
                let inventory =
                    json!({ "product_id": id, "method": "relative", "value": -quantity, "variant_id": variant["id"] });
                let data = json!({ "type": "sku", "id": variant["id"], "inventory": inventory });
                self.tell("store/sku/inventory/order/updated", data);
            }
            self.tell_of("store/product/updated", "product", id);
        }
    }

    /// Sets the time of an order's last change, and reports the order.
    fn touch(&mut self, id: u64) {
        let now = mail_date(self.now);
        self.orders.get_mut(&id).unwrap().own["date_modified"] = json!(now);
        self.tell_of("store/order/updated", "order", id);
    }

    fn set_status(&mut self, id: u64, status: u64) {
        let name = STATUSES.iter().find(|(known, _)| *known == status).map(|(_, name)| *name);
        let own = &mut self.orders.get_mut(&id).unwrap().own;
        let before = own["status_id"].clone();
        own["status_id"] = json!(status);
        own["status"] = json!(name);
        own["custom_status"] = json!(name);
        self.touch(id);
        let change = json!({ "previous_status_id": before, "new_status_id": status });
        self.tell("store/order/statusUpdated", json!({ "type": "order", "id": id, "status": change }));
    }

    fn update_order(&mut self, random: &mut StdRng) {
        let Some(id) = any(random, &self.orders) else { return };
        let own = &mut self.orders.get_mut(&id).unwrap().own;
        if own["is_deleted"] == true {
            return;
        }
        if own["status_id"] == 0 {
            self.set_status(id, 11);
            return self.sold(id);
        }
        match random.random_range(0..6) {
            3 => {
                let message = json!({ "order_message_id": self.id() });
                self.tell("store/order/message/created", json!({ "type": "order", "id": id, "message": message }));
            }
            0 => {
                let (currency, total) = (own["default_currency_code"].clone(), own["total_inc_tax"].clone());
                let (_, places) = CURRENCIES.into_iter().find(|(known, _)| currency == *known).unwrap();
                let amount = random.random_range(1..=minor(total.as_str().unwrap(), places) / 4 + 1);
                let (refund, payment, now) = (self.id(), self.id(), iso(self.now));
                let shown = json!({
                    "id": refund, "order_id": id, "user_id": 0, "created": now, "reason": "JsonError size",
                    "total_amount": plain(amount, places), "total_tax": 0, "uses_merchant_override_values": false,
                    "items": [{ "item_type": "ORDER", "item_id": id, "requested_amount": plain(amount, places) }],
                    "payments": [{ "id": payment, "provider_id": "storecredit", "amount": plain(amount, places),
                        "offline": true, "is_declined": false, "declined_message": "" }],
                });
                // The order's own `refunded_amount` always stays 0.
                self.orders.get_mut(&id).unwrap().refunds.push(shown);
                self.set_status(id, 14);
                self.tell(
                    "store/order/refund/created",
                    json!({ "type": "order", "id": id, "refund": { "refund_id": refund } }),
                );
            }
            1 => {
                own["customer_message"] = json!(format!("Ring {} times", random.random_range(1..9)));
                self.touch(id);
            }
            2 => {
                own["payment_provider_id"] = json!(format!("tx-{}", random.random_range(0..1000)));
                let transaction = self.id().to_string();
                let data = json!({
                    "type": "transaction", "order_id": id.to_string(), "transaction_id": transaction,
                    "transaction_status": "ok",
                    "transaction_type": "capture", "result": { "code": "", "message": "", "type": "" },
                });
                self.tell("store/order/transaction/created", data);
                self.touch(id);
            }
            _ => {
                let (status, _) = STATUSES[random.random_range(0..STATUSES.len())];
                self.set_status(id, status);
            }
        }
    }

    fn change_shipment(&mut self, random: &mut StdRng) {
        let Some(id) = any(random, &self.orders) else { return };
        let (new, now) = (self.id(), mail_date(self.now));
        let order = self.orders.get_mut(&id).unwrap();
        if order.own["status_id"] == 0 || order.own["is_deleted"] == true {
            return;
        }
        let number = format!("T{}", random.random_range(0..100_000));
        let place = random.random_range(0..=order.shipments.len());
        let (scope, shipment) = match order.shipments.get_mut(place) {
            None => {
                order.shipments.push(json!({
                    "id": new, "order_id": id, "tracking_number": number, "shipping_provider": "",
                    "tracking_carrier": "ups",
                    "shipping_method": "Ground", "date_created": now, "items": [],
                }));
                ("store/shipment/created", new)
            }
            Some(shipment) if random.random_bool(0.6) => {
                shipment["tracking_number"] = json!(number);
                ("store/shipment/updated", shipment["id"].as_u64().unwrap())
            }
            Some(_) => ("store/shipment/deleted", order.shipments.remove(place)["id"].as_u64().unwrap()),
        };
        self.tell(scope, json!({ "type": "shipment", "id": shipment, "orderId": id }));
        self.touch(id);
    }

    fn archive_order(&mut self, random: &mut StdRng) {
        let Some(id) = any(random, &self.orders) else { return };
        self.orders.get_mut(&id).unwrap().own["is_deleted"] = json!(true);
        self.tell_of("store/order/archived", "order", id);
    }

    fn change_cart(&mut self, random: &mut StdRng) {
        let places: BTreeMap<u64, String> = (0..).zip(self.carts.keys().cloned()).collect();
        let known = any(random, &places).map(|place| places[&place].clone());
        let Some(product) = any(random, &self.products) else { return };
        let (number, line, now) = (self.id(), self.id(), iso(self.now));
        let price = f64::from(random.random_range(100..10_000)) / 100.0;
        let item = json!({
            "id": format!("00000000-0000-4000-9000-{line:012x}"), "product_id": product,
            "variant_id": self.variants[&product][0]["id"], "name": format!("Jar {product}"), "quantity": 1,
            "list_price": price,
            "sale_price": price, "extended_list_price": price, "extended_sale_price": price,
        });
        match (known, random.random_range(0..10)) {
            (Some(id), 0..2) => {
                self.carts.remove(&id);
                self.tell("store/cart/deleted", json!({ "type": "cart", "id": id }));
            }
            // It is abandoned after an hour without a change.
            (Some(id), 2) if self.idle(&id) >= 3600 => {
                self.fates.insert(id.clone(), json!({ "status": "abandoned" }));
                self.abandoned.insert(id.clone(), self.now);
                self.tell("store/cart/abandoned", json!({ "type": "cart", "id": id, "token": "t" }));
            }
            (Some(id), 3) if self.idle(&id) > 0 => {
                // A cart that became an order is no longer a cart.
                self.carts.remove(&id);
                self.fates.insert(id.clone(), json!({ "status": "converted", "order": number.to_string() }));
                self.tell("store/cart/converted", json!({ "type": "cart", "id": id, "orderId": number }));
                self.tell("store/cart/deleted", json!({ "type": "cart", "id": id }));
            }
            // A change within the same second as the abandonment could be from before or after it.
            (Some(id), 4..8) if self.abandoned.get(&id).is_some_and(|at| at.seconds() == self.now.seconds()) => {}
            (Some(id), 4) => {
                self.fates.remove(&id);
                let cart = self.carts.get_mut(&id).unwrap();
                cart["coupons"] = json!([{ "id": "c", "code": format!("TEN{number}") }]);
                cart["updated_time"] = json!(now);
                self.tell("store/cart/couponApplied", json!({ "type": "cart", "id": id, "couponId": 1 }));
            }
            (Some(id), 5..8) => {
                self.fates.remove(&id);
                let cart = self.carts.get_mut(&id).unwrap();
                let items = cart["line_items"]["physical_items"].as_array_mut().unwrap();
                let (event, line) = match random.random_range(0..3) {
                    0 if items.len() > 1 => ("deleted", items.remove(0)["id"].clone()),
                    1 if !items.is_empty() => {
                        items[0]["quantity"] = json!(random.random_range(1..9));
                        ("updated", items[0]["id"].clone())
                    }
                    _ => {
                        let line = item["id"].clone();
                        items.push(item);
                        ("created", line)
                    }
                };
                cart["updated_time"] = json!(now);
                let data = json!({ "type": "cart_line_item", "id": line, "cartId": id });
                self.tell(&format!("store/cart/lineItem/{event}"), data);
                self.tell("store/cart/updated", json!({ "type": "cart", "id": id }));
            }
            _ => {
                let id = format!("00000000-0000-4000-8000-{number:012x}");
                let cart = json!({
                    "id": id, "customer_id": any(random, &self.customers).unwrap_or(0), "email": "",
                    "currency": { "code": "USD" },
                    "tax_included": false, "base_amount": price, "discount_amount": 0, "cart_amount": price,
                    "coupons": [],
                    "line_items": { "physical_items": [item], "digital_items": [], "gift_certificates": [],
                    "custom_items": [] },
                    "created_time": now, "updated_time": now,
                });
                self.carts.insert(id.clone(), cart);
                self.made(EntityKind::Cart, &id);
                self.tell("store/cart/created", json!({ "type": "cart", "id": id }));
            }
        }
    }

    /// Returns the seconds since the last change of a cart.
    fn idle(&self, cart: &str) -> i64 {
        let since = self.carts[cart]["updated_time"].as_str().and_then(time);
        since.map_or(0, |since| self.now.seconds() - since.seconds())
    }

    /// Deletes one price list or both with all their prices, and puts new ones in their place.
    fn delete_price_lists(&mut self, random: &mut StdRng) {
        let gone: Vec<u64> = match random.random_range(0..3) {
            0 => self.price_lists.to_vec(),
            place => vec![self.price_lists[place - 1]],
        };
        self.prices.retain(|(list, _), _| !gone.contains(list));
        for place in 0..self.price_lists.len() {
            if gone.contains(&self.price_lists[place]) {
                self.price_lists[place] = self.id();
            }
        }
        match gone.as_slice() {
            [one] => self.tell("store/priceList/deleted", json!({ "price_list_id": one })),
            several => self.tell("store/priceLists/deleted", json!({ "price_list_ids": several })),
        }
    }

    fn change_price(&mut self, random: &mut StdRng) {
        if random.random_range(0..12) == 0 {
            return self.delete_price_lists(random);
        }
        let Some(product) = any(random, &self.products) else { return };
        let now = iso(self.now);
        let list = self.price_lists[random.random_range(0..2)];
        let currency = if random.random_bool(0.5) { "usd" } else { "eur" };
        let variants: Vec<u64> =
            self.variants[&product].iter().take(2).filter_map(|variant| variant["id"].as_u64()).collect();
        let tiers = json!([{ "quantity_min": 10, "quantity_max": 19, "type": "percent", "amount": 1.5 },
            { "quantity_min": 20, "quantity_max": null, "type": "fixed", "amount": 7.25 }]);
        let mut data = Vec::new();
        let delete = random.random_bool(0.2);
        for variant in variants {
            if delete {
                let Some(records) = self.prices.get_mut(&(list, variant)) else { continue };
                if records.remove(currency).is_none() {
                    continue;
                }
                if records.is_empty() {
                    self.prices.remove(&(list, variant));
                }
            } else {
                let record = json!({
                    "price_list_id": list, "variant_id": variant, "currency": currency, "product_id": product,
                    "sale_price": 0,
                    "price": f64::from(random.random_range(100..10_000)) / 100.0, "date_modified": now,
                    "bulk_pricing_tiers": if random.random_bool(0.5) { json!([]) } else { tiers.clone() },
                });
                self.prices.entry((list, variant)).or_default().insert(currency.into(), record);
                self.made(EntityKind::Price, format!("{list}:{variant}"));
            }
            data.push(json!({ "price_list_id": list, "variant_id": variant, "currency": currency }));
        }
        if data.is_empty() {
            return;
        }
        let scope = if delete { "store/priceList/records/deleted" } else { "store/priceList/records/updated" };
        self.tell(scope, Value::Array(data));
    }
}

/// Returns a random id of those that exist.
fn any<T>(random: &mut StdRng, all: &BTreeMap<u64, T>) -> Option<u64> {
    let place = random.random_range(0..all.len().max(1));
    all.keys().nth(place).copied()
}
