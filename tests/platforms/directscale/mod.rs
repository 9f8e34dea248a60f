//! A DirectScale client: its events, which carry a few fields each, and its Extension API, which knows only associates.
//!
//! Its behaviour is described in `shared/commerce/src/platforms/directscale/`. DirectScale sends a delivery again,
//! under the same message id and without end, until the answer is exactly 200. A delivery carries the entered key or an
//! older key of the client's own, equally often. A body may end in a trailing comma, leave fields out, name legacy
//! events and kinds of orders by number, or not be an object. Some deliveries name the user who had signed in.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard},
};

use bytes::Bytes;
use commerce::{
    entity::EntityKind,
    http_call::{ApiRequest, ApiResponse, Fault},
    timestamp::Timestamp,
};
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method};
use rand::{Rng, rngs::StdRng};
use serde_json::{Map, Value, json};

use super::{Clock, Delivery, Simulator, Trouble, Truth, json_answer, page, segments};

/// The client's id.
pub const CLIENT: &str = "acme";
/// An older key of the client's own, which DirectScale still sends and the client still accepts.
pub const BROUGHT_KEY: &str = "k3y-of-the~client!%41^$_";
/// The key of the Extension API.
pub const API_KEY: &str = "0ur+key/for=the%20api!";

/// The truth about an entity, as its events have told it.
#[derive(Clone, Default)]
struct Known {
    fields: Map<String, Value>,
    gone: bool,
}

/// A member of an event, and its meaning in the canonical entity.
struct Member {
    name: &'static str,
    json: String,
    /// The path of the canonical field; empty if the member is not canonical.
    at: Vec<String>,
    /// The value of the canonical field; `null` for none.
    is: Value,
}

struct Inner {
    hook: Option<(String, String)>,
    outbox: Vec<Delivery>,
    sent: u64,
    last_micros: i64,
    next_id: u64,
    orders: Vec<u64>,
    payments: Vec<(u64, u64)>,
    packages: Vec<(u64, u64)>,
    associates: BTreeMap<u64, Map<String, Value>>,
    subscriptions: Vec<u64>,
    items: Vec<u64>,
    known: BTreeMap<(EntityKind, String), Known>,
    troubles: VecDeque<Trouble>,
    calls: Vec<String>,
}

/// A simulated client.
pub struct DirectScale {
    clock: Clock,
    inner: Mutex<Inner>,
}

impl DirectScale {
    /// Makes an empty client.
    pub fn new(clock: Clock) -> Self {
        let inner = Inner {
            hook: None,
            outbox: Vec::new(),
            sent: 0,
            last_micros: 0,
            next_id: 1000,
            orders: Vec::new(),
            payments: Vec::new(),
            packages: Vec::new(),
            associates: BTreeMap::new(),
            subscriptions: Vec::new(),
            items: Vec::new(),
            known: BTreeMap::new(),
            troubles: VecDeque::new(),
            calls: Vec::new(),
        };
        Self { clock, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

fn text(name: &'static str, at: &[&str], value: &str) -> Member {
    let is = if value.is_empty() { Value::Null } else { json!(value) };
    Member { name, json: json!(value).to_string(), at: at.iter().map(|part| (*part).to_owned()).collect(), is }
}

fn null(name: &'static str, at: &[&str]) -> Member {
    Member { json: "null".into(), is: Value::Null, ..text(name, at, "") }
}

/// Returns a member with a number, which the canonical entity keeps as a text with the same digits.
fn number(name: &'static str, at: &[&str], digits: &str) -> Member {
    Member { json: digits.to_owned(), ..text(name, at, digits) }
}

/// Returns a member that is not canonical.
fn other(name: &'static str, json: impl ToString) -> Member {
    Member { name, json: json.to_string(), at: Vec::new(), is: Value::Null }
}

fn pick<T: Copy>(random: &mut StdRng, from: &[T]) -> T {
    from[random.random_range(0..from.len())]
}

fn set(fields: &mut Map<String, Value>, at: &[String], is: &Value) {
    let Some((first, rest)) = at.split_first() else { return };
    if rest.is_empty() {
        match is {
            Value::Null => _ = fields.remove(first),
            is => _ = fields.insert(first.clone(), is.clone()),
        }
        return;
    }
    let inner = fields.entry(first.clone()).or_insert_with(|| json!({})).as_object_mut().unwrap();
    set(inner, rest, is);
    if inner.is_empty() {
        fields.remove(first);
    }
}

impl Inner {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Returns a time with .NET's ticks, which have seven digits. No two times share a microsecond, because nobody
    /// could tell which of them is later.
    fn event_time(&mut self, random: &mut StdRng, now: Timestamp) -> String {
        self.last_micros = now.micros().max(self.last_micros + 1);
        let seconds = self.last_micros.div_euclid(1_000_000);
        let ticks = self.last_micros.rem_euclid(1_000_000) * 10 + random.random_range(0..10);
        format!("{}.{ticks:07}Z", at_second(seconds).trim_end_matches('Z'))
    }

    /// Puts a body into the outbox under a new message id. Returns that id, and the user who had signed in, if any.
    fn send(&mut self, random: &mut StdRng, body: String) -> (String, Option<&'static str>) {
        self.sent += 1;
        let message = format!("{:08x}-{:04x}-4000-8000-{:012x}", random.random::<u32>(), self.sent, self.sent);
        let mut headers = vec![
            ("content-type".to_owned(), "application/json; charset=UTF-8".to_owned()),
            ("authorization".to_owned(), String::new()),
            ("x-directscale-client-id".to_owned(), if random.random_bool(0.5) { "Acme" } else { CLIENT }.to_owned()),
            ("x-directscale-message-id".to_owned(), message.clone()),
        ];
        let user = random.random_bool(0.3).then(|| pick(random, &["admin", "ada@example.com", "Jos\u{e9} M."]));
        headers.extend(user.map(|user| ("x-directscale-user".to_owned(), user.to_owned())));
        let mut delivery =
            Delivery { method: Method::POST, url: String::new(), headers, body: Bytes::from(body), attempts: 0 };
        self.address(&mut delivery);
        self.outbox.push(delivery);
        (message, user)
    }

    /// Sets the URL and the key as they are entered now. The entered key and the client's own take turns.
    fn address(&mut self, delivery: &mut Delivery) {
        let Some((url, secret)) = &self.hook else { return };
        delivery.url.clone_from(url);
        let turn = self.sent + u64::from(delivery.attempts);
        let key = if turn.is_multiple_of(2) { secret.as_str() } else { BROUGHT_KEY };
        for (name, value) in &mut delivery.headers {
            if name == "authorization" {
                *value = format!("Bearer {key}");
            }
        }
    }

    /// Sends one event about an entity, and keeps what the event tells.
    fn tell(
        &mut self,
        random: &mut StdRng,
        now: Timestamp,
        (kind, id): (EntityKind, u64),
        (event, ids): (&str, &[(&str, u64)]),
        mut members: Vec<Member>,
    ) {
        let known = self.known.entry((kind, id.to_string())).or_default();
        known.gone = event.starts_with("Delete") || members.iter().any(|m| m.name == "IsVoid" && m.json == "true");
        known.fields.insert("id".into(), json!(id.to_string()));
        if kind == EntityKind::Order {
            known.fields.insert("number".into(), json!(id.to_string()));
        }
        // Sometimes a member is missing, and its field keeps its value. But an amount without its currency has none,
        // and a currency without an amount says nothing.
        let place = random.random_range(0..members.len());
        let left_out = (random.random_bool(0.2) && members[place].name != "IsVoid").then(|| members.remove(place));
        let absent = left_out.as_ref().map_or("", |member| member.name);
        let says_nothing = match absent {
            "Amount" => "CurrencyCode",
            "OrderTotal" => "OrderCurrency",
            _ => "",
        };
        if !known.gone {
            for member in members.iter().filter(|member| member.name != says_nothing) {
                set(&mut known.fields, &member.at, &member.is);
            }
            if let Some(member) = left_out.filter(|member| ["CurrencyCode", "OrderCurrency"].contains(&member.name)) {
                set(&mut known.fields, &member.at, &Value::Null);
            }
        }
        let time = self.event_time(random, now);
        let legacy = [
            "EnrollmentEvent",
            "OrderEvent",
            "CreateAssociateEvent",
            "UpdateAssociateEvent",
            "CreateSubscriptionEvent",
            "UpdateSubscriptionEvent",
        ];
        let name = match (legacy.iter().position(|name| *name == event), random.random_range(0..3)) {
            (Some(place), 0) => place.to_string(),
            (Some(place), 1) => format!("\"{place}\""),
            _ => format!("\"{event}\""),
        };
        let mut parts: Vec<String> = ids.iter().map(|(name, id)| format!("\"{name}\":{id}")).collect();
        parts.extend(members.iter().map(|member| format!("\"{}\":{}", member.name, member.json)));
        parts.push(format!("\"EventDateUtc\":\"{time}\""));
        if random.random_bool(0.5) {
            parts.push("\"EventCategory\":\"OrderEvents\"".into());
        }
        parts.push(format!("\"EventType\":{name}"));
        let end = if random.random_bool(0.2) { ",\n}" } else { "}" };
        self.send(random, format!("{{{}{end}", parts.join(",\n")));
    }

    /// Sends an event that is kept as a record of its own.
    fn record(&mut self, random: &mut StdRng, event: Option<&str>, body: String) {
        let (message, user) = self.send(random, body);
        let mut fields = Map::from_iter([("id".to_owned(), json!(message))]);
        fields.extend(event.map(|event| ("event".to_owned(), json!(event))));
        fields.extend(user.map(|user| ("user".to_owned(), json!(user))));
        self.known.insert((EntityKind::Record, message), Known { fields, gone: false });
    }

    fn order_core(&self, random: &mut StdRng, id: u64, status: &str, customer: &'static str) -> Vec<Member> {
        let buyer = (id % 7 + 70).to_string();
        let placed = at_second(1_795_000_000 + i64::try_from(id).unwrap());
        let kind = pick(random, &["\"Standard\"", "\"AutoShip\"", "1", "\"2\""]);
        vec![
            number(customer, &["customer"], &buyer),
            text("OrderDateUtc", &["created_at"], &placed),
            text("OrderStatus", &["status"], status),
            other("OrderType", kind),
        ]
    }

    fn order(&mut self, random: &mut StdRng, now: Timestamp, event: &str, id: u64) {
        let key = (EntityKind::Order, id);
        let words: &[&str] =
            if event == "CreateOrderEvent" { &["Pending processing"] } else { &["Paid", "Declined", "Fraud review"] };
        let status = pick(random, words);
        if event != "OrderEvent" {
            let members = self.order_core(random, id, status, "CustomerId");
            return self.tell(random, now, key, (event, &[("OrderNumber", id)]), members);
        }
        let mut members = self.order_core(random, id, status, "DistributorId");
        let total = format!("{}.{:02}", random.random_range(1..500), random.random_range(0..100));
        members.push(number("OrderTotal", &["totals", "total"], &total));
        members.push(text("OrderCurrency", &["currency"], pick(random, &["USD", "EUR"])));
        members.push(other("OrderCountry", json!("US")));
        self.tell(random, now, key, (event, &[("OrderId", id)]), members);
    }

    fn payment(&mut self, random: &mut StdRng, now: Timestamp, (order, payment): (u64, u64)) {
        let name = payment.to_string();
        let amount = format!("{}.{:02}", random.random_range(0..1000), random.random_range(0..100));
        let members = vec![
            text("PaymentStatus", &["payments", &name, "status"], pick(random, &["Pending", "Paid", "Rejected"])),
            text("PaymentType", &["payments", &name, "kind"], "Charge"),
            number("Amount", &["payments", &name, "amount"], &amount),
            text("CurrencyCode", &["payments", &name, "currency"], pick(random, &["USD", "EUR", "JPY"])),
        ];
        let ids = [("OrderNumber", order), ("OrderPaymentId", payment)];
        self.tell(random, now, (EntityKind::Order, order), ("CreateOrderPaymentEvent", &ids), members);
    }

    fn package(&mut self, random: &mut StdRng, now: Timestamp, (order, package): (u64, u64)) {
        let name = package.to_string();
        let at = |field: &str| ["packages", &name, field].map(str::to_owned).to_vec();
        let status = pick(random, &["Packed", "Shipped", "Lost"]);
        let mut members = vec![
            Member { at: at("status"), ..text("PackageStatus", &[], status) },
            other("WarehouseId", 1),
            Member { at: at("method"), ..number("ShipMethodId", &[], &random.random_range(1..4).to_string()) },
            Member { at: at("carrier"), ..text("Carrier", &[], pick(random, &["UPS", "DHL"])) },
            other("ShipByDateUtc", json!("2026-12-24T00:00:00Z")),
        ];
        if status == "Shipped" {
            members
                .push(Member { at: at("tracking_number"), ..text("TrackingNumber", &[], &format!("1Z{}", self.sent)) });
            members.push(Member { at: at("shipped_at"), ..text("ShippedDateUtc", &[], "2026-11-21T10:00:00Z") });
        } else {
            members.push(Member { at: at("tracking_number"), ..null("TrackingNumber", &[]) });
            members.push(Member { at: at("shipped_at"), ..null("ShippedDateUtc", &[]) });
        }
        let ids = [("OrderNumber", order), ("PackageId", package)];
        self.tell(random, now, (EntityKind::Order, order), ("UpdateOrderPackageStatusEvent", &ids), members);
    }

    fn associate(&mut self, random: &mut StdRng, now: Timestamp, event: &str, id: u64) {
        let key = (EntityKind::Customer, id);
        if event == "EnrollmentEvent" {
            self.associates.entry(id).or_default();
            let members = vec![
                text("EnrollmentDateUtc", &["created_at"], &at_second(1_795_000_000)),
                other("DistributorType", json!("1")),
                other("DistributorStatus", json!("Active")),
                other("DistributorCountry", json!("US")),
                other("SponsorId", json!("2")),
            ];
            return self.tell(random, now, key, (event, &[("DistributorId", id)]), members);
        }
        let names = (pick(random, &["Ada", "Grace", "Jos\u{e9}"]), pick(random, &["Lovelace", "Hopper"]));
        let email = format!("a{id}.{}@example.com", random.random_range(0..100));
        let company = pick(random, &["", "Acme Ltd."]);
        let now_is =
            json!({ "FirstName": names.0, "LastName": names.1, "EmailAddress": email, "CompanyName": company });
        self.associates.insert(id, now_is.as_object().unwrap().clone());
        let members = vec![
            other("Username", json!(format!("user{id}"))),
            text("FirstName", &["first_name"], names.0),
            text("LastName", &["last_name"], names.1),
            text("CompanyName", &["billing", "company"], company),
            text("EmailAddress", &["email"], &email),
            other("AssociateStatus", 1),
            other("AssociateType", 2),
            other("WebAliases", json!([format!("user{id}")])),
            other("BackOfficeId", json!(format!("B{id}"))),
            other("ExternalReferenceId", Value::Null),
        ];
        self.tell(random, now, key, (event, &[("AssociateId", id)]), members);
    }

    fn subscription(&mut self, random: &mut StdRng, now: Timestamp, event: &str, id: u64) {
        let void = event == "UpdateSubscriptionEvent" && random.random_bool(0.3);
        let expires = at_second(1_800_000_000 + random.random_range(0..1000));
        let members = vec![
            number("AssociateId", &["customer"], &(id % 7 + 70).to_string()),
            text("SubscriptionName", &["name"], pick(random, &["Gold", "Silver"])),
            text("ExpirationDateUtc", &["expires_at"], &expires),
            other("IsVoid", void),
        ];
        self.tell(random, now, (EntityKind::Subscription, id), (event, &[("SubscriptionId", id)]), members);
    }

    fn item(&mut self, random: &mut StdRng, now: Timestamp, event: &str, id: u64) {
        let members = vec![
            text("Sku", &["sku"], &format!("SKU-{id}")),
            other("TrackStock", random.random_bool(0.5)),
            other("HasOptions", false),
        ];
        self.tell(random, now, (EntityKind::Product, id), (event, &[("ItemId", id)]), members);
    }

    fn custom(&mut self, random: &mut StdRng) {
        let n = random.random_range(0..1000);
        match random.random_range(0..4) {
            0 => self.record(random, None, n.to_string()),
            1 => self.record(random, None, format!("[{n}, \"a\", ]")),
            2 => self.record(random, None, format!("\"{n} points\"")),
            _ => {
                let body = format!("{{\"EventType\":\"AcmeRewards\",\"Points\":{n},\"For\":{{\"\":[null,1e300]}}}}");
                self.record(random, Some("AcmeRewards"), body);
            }
        }
    }

    fn change(&mut self, random: &mut StdRng, now: Timestamp) {
        if self.hook.is_none() {
            return;
        }
        match random.random_range(0..14) {
            0 | 1 => {
                let id = self.id();
                self.orders.push(id);
                self.order(random, now, "CreateOrderEvent", id);
            }
            2..=4 if !self.orders.is_empty() => {
                let id = pick(random, &self.orders);
                let event = pick(random, &["FinalizeOrderEvent", "FinalizeOrderEvent", "OrderEvent"]);
                self.order(random, now, event, id);
            }
            5 | 6 if !self.orders.is_empty() => {
                if self.payments.is_empty() || random.random_bool(0.6) {
                    let new = (pick(random, &self.orders), self.id());
                    self.payments.push(new);
                }
                let payment = pick(random, &self.payments);
                self.payment(random, now, payment);
            }
            7 if !self.orders.is_empty() => {
                if self.packages.is_empty() || random.random_bool(0.4) {
                    let new = (pick(random, &self.orders), self.id());
                    self.packages.push(new);
                }
                let package = pick(random, &self.packages);
                self.package(random, now, package);
            }
            8 => {
                let id = self.id();
                let event = pick(random, &["EnrollmentEvent", "CreateAssociateEvent"]);
                self.associate(random, now, event, id);
            }
            9 if !self.associates.is_empty() => {
                let id = pick(random, &self.associates.keys().copied().collect::<Vec<_>>());
                self.associate(random, now, "UpdateAssociateEvent", id);
            }
            10 => {
                let new = self.subscriptions.is_empty() || random.random_bool(0.4);
                let event = if new { "CreateSubscriptionEvent" } else { "UpdateSubscriptionEvent" };
                if new {
                    let id = self.id();
                    self.subscriptions.push(id);
                }
                let id = if new { self.next_id } else { pick(random, &self.subscriptions) };
                self.subscription(random, now, event, id);
            }
            11 if !self.items.is_empty() && random.random_bool(0.5) => {
                let place = random.random_range(0..self.items.len());
                let id = self.items.swap_remove(place);
                self.item(random, now, "DeleteInventoryItemEvent", id);
            }
            12 => {
                // DirectScale reports the daily run twice at once, in two messages.
                let time = self.event_time(random, now);
                for _ in 0..2 {
                    let body = format!("{{\"EventDateUtc\":\"{time}\",\"EventType\":\"DailyEvent\",}}");
                    self.record(random, Some("DailyEvent"), body);
                }
            }
            13 => self.custom(random),
            _ => {
                let id = self.id();
                self.items.push(id);
                self.item(random, now, "CreateInventoryItemEvent", id);
            }
        }
    }

    /// Answers `AssociateService/v1/GetAssociate`. Nobody has seen the case of its names, so it uses both.
    fn get_associate(&self, body: &[u8]) -> ApiResponse {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let found = asked["associateId"].as_u64().and_then(|id| Some((id, self.associates.get(&id)?)));
        // The answer for an unknown associate is not documented.
        let Some((id, associate)) = found else {
            let message = json!({ "Status": 1, "Message": "Associate not found" });
            let answers = [Value::Null, json!({}), message];
            return json_answer(200, &answers[body.len() % 3]);
        };
        let mut shown =
            Map::from_iter([("AssociateId".to_owned(), json!(id)), ("Rank".to_owned(), json!({ "level": 3 }))]);
        shown.extend(associate.clone());
        if id.is_multiple_of(2) {
            let camel = |name: &str| format!("{}{}", name[..1].to_ascii_lowercase(), &name[1..]);
            shown = shown.into_iter().map(|(name, value)| (camel(&name), value)).collect();
        }
        json_answer(200, &Value::Object(shown))
    }

    fn answer(&mut self, request: &ApiRequest) -> Result<ApiResponse, Fault> {
        self.calls.push(format!("{} {}", request.method, request.url.path()));
        let trouble = self.troubles.pop_front().unwrap_or(Trouble::None);
        match trouble {
            Trouble::TooMany(seconds) => {
                let mut answer = page(429, "Too many requests");
                answer.headers.insert("retry-after", HeaderValue::from(seconds));
                return Ok(answer);
            }
            Trouble::Broken => return Ok(page(500, "<html>Server Error in '/' Application.</html>")),
            Trouble::NotFoundPage => return Ok(page(404, "<html>404 - File or directory not found.</html>")),
            Trouble::Slow => return Err(Fault::Unavailable("no answer".into())),
            Trouble::AnswerLost | Trouble::None => {}
        }
        let given = request.headers.get("authorization").and_then(|value| value.to_str().ok());
        let answer = if given != Some(format!("Bearer {API_KEY}").as_str()) {
            page(401, "Unauthorized")
        } else if request.method == Method::POST
            && segments(request) == ["api", "extension", "services", "AssociateService", "v1", "GetAssociate"]
        {
            self.get_associate(&request.body)
        } else {
            page(404, "<html>404 - File or directory not found.</html>")
        };
        if trouble == Trouble::AnswerLost { Err(Fault::Unavailable("no answer".into())) } else { Ok(answer) }
    }
}

/// Writes a whole second as the canonical entities do.
fn at_second(seconds: i64) -> String {
    Timestamp::from_micros(seconds * 1_000_000).to_string()
}

impl Simulator for DirectScale {
    fn platform(&self) -> &'static str {
        "directscale"
    }

    fn connection(&self) -> String {
        CLIENT.into()
    }

    fn settings(&self, site: &str) -> Value {
        json!({ "site": site, "api_key": API_KEY, "accept": [BROUGHT_KEY] })
    }

    fn subscribe(&self, delivery_url: &str, secret: &dyn Fn(&str) -> String) {
        self.lock().hook = Some((delivery_url.to_owned(), secret("")));
    }

    fn change(&self, random: &mut StdRng) {
        let now = (self.clock)();
        self.lock().change(random, now);
    }

    fn outbox(&self) -> Vec<Delivery> {
        std::mem::take(&mut self.lock().outbox)
    }

    fn answered(&self, delivery: &Delivery, status: u16) {
        if status == 200 {
            return;
        }
        let mut again = Delivery { attempts: delivery.attempts + 1, ..delivery.clone() };
        let mut inner = self.lock();
        inner.address(&mut again);
        inner.outbox.push(again);
    }

    fn answer<'a>(&'a self, request: &'a ApiRequest) -> BoxFuture<'a, Result<ApiResponse, Fault>> {
        Box::pin(async move { self.lock().answer(request) })
    }

    fn trouble(&self, troubles: &[Trouble]) {
        self.lock().troubles.extend(troubles);
    }

    fn entities(&self) -> Vec<(EntityKind, String, Truth)> {
        let truth = |known: &Known| match known.gone {
            true => Truth::Gone,
            false => Truth::Fields(Value::Object(known.fields.clone())),
        };
        self.lock().known.iter().map(|((kind, id), known)| (*kind, id.clone(), truth(known))).collect()
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().calls)
    }
}
