//! The input of real WooCommerce stores: odd bodies, sites that do not answer as WordPress does, and changes that they
//! never report.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use cloud::{
    coordination::{Coordination, Note},
    queue::Jobs,
};
use commerce::{
    entity::EntityKey,
    item::Item,
    job::{Job, Trigger},
    key::ConnectionKey,
    request::WebhookPath,
};
use futures_util::FutureExt;
use processor::Message;
use serde_json::{Value, json};
use tests::{
    platforms::{Delivery, Simulator, woocommerce::Store},
    truth::Connected,
    world::{self, Outside, World, gateway_event, message, outcomes, request},
};

const SITE: &str = "https://shop.example.com";
const NAME: &str = "shop.example.com";
const HOUR: i64 = 3600;
const WEEK: i64 = 7 * 24 * HOUR;

/// A store with the bundle. Deliveries are delivered, queued messages are processed, and deferred ones get their time.
struct Shop {
    world: World,
    store: Store,
    key: ConnectionKey,
    taken: usize,
    outcomes: Vec<String>,
}

impl Shop {
    fn new() -> Self {
        let mut world = World::new();
        let wire = Arc::new(world::Direct(Arc::clone(&world.receiver), world.clock.clone()));
        let store = Store::new(wire, "ck_1", "cs_1").with_clock(world.clock.function());
        world.outside = Outside::Simulated(vec![(SITE.to_owned(), Arc::new(store.clone()) as Arc<dyn Simulator>)]);
        let key = WebhookPath::parse("woocommerce", NAME, None).unwrap().key;
        Self { world, store, key, taken: 0, outcomes: Vec::new() }
    }

    async fn put(&self, site: &str, key: (&str, &str)) -> (u16, Value) {
        let body = json!({ "site": site, "consumer_key": key.0, "consumer_secret": key.1 }).to_string();
        self.world.admin("PUT", NAME, "", &body).await
    }

    async fn connected() -> Self {
        let mut shop = Self::new();
        shop.connect().await;
        shop
    }

    async fn connect(&mut self) {
        let (status, shown) = self.put(SITE, ("ck_1", "cs_1")).await;
        assert_eq!(status, 200, "{shown}");
        self.settle().await;
    }

    fn now(&self) -> String {
        self.world.clock.now().to_string()[..19].to_owned()
    }

    /// Delivers a body as the store would, runs everything to its end, and returns the outcomes.
    async fn deliver(&mut self, topic: &str, body: &Value) -> Vec<String> {
        assert!(self.store.deliver(topic, &body.to_string()).await.contains(&200));
        self.settle().await
    }

    async fn fetch(&mut self, what: &str) -> Vec<String> {
        let (status, shown) = self.world.admin("POST", &format!("{NAME}/{what}"), "", "{}").await;
        assert!((200..300).contains(&status), "{status} {shown}");
        self.settle().await
    }

    async fn check(&mut self, why: Trigger) -> Vec<String> {
        self.world.queues.send_jobs(&[(Job::check(&self.key, why), 0)]).await.unwrap();
        self.settle().await
    }

    async fn settle(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        let mut waiting: Vec<Message> = Vec::new();
        for round in 0.. {
            assert!(round < 2000, "there is no end of it: {:?}", all.iter().rev().take(20).collect::<Vec<_>>());
            for delivery in self.store.outbox() {
                self.world.clock.pass_seconds(1);
                let status = self.answer(&delivery).await;
                self.store.answered(&delivery, status);
            }
            let jobs = self.world.run_jobs().await;
            let sent = self.world.queues.sent();
            waiting.extend(sent.iter().enumerate().skip(self.taken).map(|(n, (sealed, _))| message(n, sealed.text())));
            self.taken = sent.len();
            if waiting.is_empty() && jobs == 0 {
                break;
            }
            let report = self.world.process(&waiting).await;
            all.extend(outcomes(&report));
            waiting.retain(|message| report.failures.contains(&message.id));
            waiting.iter_mut().for_each(|message| message.attempts += 1);
            let put_off = self.world.queues.sent().iter().skip(self.taken).map(|(_, delay)| *delay).max();
            self.world.clock.pass_seconds(i64::from(put_off.unwrap_or(if waiting.is_empty() { 0 } else { 700 })));
        }
        self.outcomes.extend(all.clone());
        all
    }

    async fn answer(&self, delivery: &Delivery) -> u16 {
        let event = gateway_event(delivery, self.world.clock.now()).unwrap();
        self.world.receiver.receive(request(&event)).await.status().as_u16()
    }

    fn find(&self, sort: &str) -> Option<Item> {
        let pk = self.key.to_string();
        self.world.tables.items().into_iter().find(|item| item.pk == pk && item.sk == sort)
    }

    fn item(&self, sort: &str) -> Item {
        self.find(sort).unwrap_or_else(|| panic!("no {sort}"))
    }

    /// Returns the sort keys of entities that exist here.
    fn here(&self) -> Vec<String> {
        let pk = self.key.to_string();
        let items = self.world.tables.items().into_iter().filter(|item| item.pk == pk && !item.deleted);
        items.map(|item| item.sk).collect()
    }

    /// Compares all entities with the store's API.
    async fn compare(&self) {
        let connected = Connected::at(&self.store, SITE, NAME);
        let clock = self.world.clock.function();
        for (kind, id, truth) in self.store.entities() {
            let key: EntityKey = connected.entity(kind, &id);
            let item = self.find(&key.sort());
            assert_eq!(connected.compare(&key, &truth, item.as_ref(), &*clock).await, Ok(()));
        }
    }
}

fn order(id: u64, at: &str, more: Value) -> Value {
    let mut order =
        json!({ "id": id, "status": "processing", "currency": "EUR", "total": "20.00", "date_modified_gmt": at });
    order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    order
}

fn user(id: u64, role: &str, pays: bool, at: &str) -> Value {
    json!({ "id": id, "role": role, "is_paying_customer": pays, "email": format!("u{id}@example.org"), "date_modified_gmt": at })
}

fn case(name: &str) -> (String, Value) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/path/data/woocommerce/odd.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let case = &cases["odd"][name];
    (case["scope"].as_str().unwrap().to_owned(), case["body"].clone())
}

// Bodies.

#[tokio::test]
async fn odd_bodies_are_kept_as_far_as_they_can_be_read() {
    for (name, sort, place, value) in [
        ("whole-variations", "product#501", "/variations", json!(["502", "503"])),
        ("lines-with-keys", "order#7001", "/lines/0/product", json!("501")),
        ("without-gmt", "order#7001", "/totals/total", json!("24.90")),
        ("empty-tax-id", "order#7001", "/shipping_lines/0/total", json!("4.90")),
        ("half-a-piece", "product#501", "/stock/quantity", json!("600.5")),
        ("numbers-for-texts", "product#501", "/sku", json!("CUP-1")),
        ("lists-for-addresses", "order#7001", "/billing", Value::Null),
        ("line-without-product", "order#7001", "/lines/0/product", Value::Null),
        ("variation", "product#502", "/parent", json!("501")),
    ] {
        let mut shop = Shop::connected().await;
        let (topic, body) = case(name);
        let ends = shop.deliver(&topic, &body).await;
        assert_eq!(ends[0], "applied", "{name}");
        let fields = Value::Object(shop.item(sort).fields);
        assert_eq!(fields.pointer(place).cloned().unwrap_or_default(), value, "{name}");
    }
    for (name, end) in [
        ("price-of-two-points", "quarantined: malformed"),
        ("empty-list", "quarantined: malformed"),
        ("refund", "quarantined: malformed"),
        ("checkout-draft", "ignored: woocommerce-checkout-draft"),
    ] {
        let mut shop = Shop::connected().await;
        let (topic, body) = case(name);
        assert_eq!(shop.deliver(&topic, &body).await, [end], "{name}");
        assert_eq!(shop.here(), [""; 0], "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_dropped_by_name_and_money_is_not() {
    let mut shop = Shop::connected().await;
    let odd = json!({
        "id": 5, "name": { "en": "Cup" }, "price": "9.50", "stock_quantity": "many", "categories": [{ "id": {}, "name": "x" }],
        "images": "none", "date_created_gmt": "yesterday", "date_modified_gmt": "2026-03-01T09:00:00",
    });
    assert_eq!(shop.deliver("product.updated", &odd).await, ["applied"]);
    let item = shop.item("product#5");
    assert_eq!((item.fields["price"].as_str(), item.fields.get("name")), (Some("9.50"), None));
    let names: Vec<_> = item.unreadable.iter().map(String::as_str).collect();
    for name in ["name", "stock_quantity", "images", "date_created_gmt"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(names.iter().any(|name| name.starts_with("categories[0]")), "{names:?}");
    for (member, value) in [
        ("price", json!("1_000")),
        ("regular_price", json!([])),
        ("id", json!(true)),
        ("id", json!(1.5)),
        ("date_modified_gmt", json!("yesterday")),
        ("variations", json!([{ "sku": "x" }])),
    ] {
        let mut body = odd.clone();
        body[member] = value;
        body["images"] = json!([]);
        assert_eq!(shop.deliver("product.updated", &body).await, ["quarantined: malformed"], "{member}");
    }
    // A body with a very deep member keeps its canonical fields.
    let mut deep = json!("leaf");
    (0..100).for_each(|_| deep = json!([{ "k": deep }]));
    let body = json!({ "id": 18, "price": "1", "date_modified_gmt": "2026-02-02T00:00:00", "meta_data": [{ "id": 1, "value": deep }] });
    assert_eq!(shop.deliver("product.updated", &body).await, ["applied"]);
    assert_eq!(shop.item("product#18").unreadable, ["meta_data"]);
}

#[tokio::test]
async fn two_lines_of_one_id_both_keep_what_they_have() {
    let mut shop = Shop::connected().await;
    let line = |name: &str| json!({ "id": 0, "quantity": 1, "meta_data": [{ "id": 1, "value": name }], "price": 1234567.8900000001 });
    let text = order(9, "2026-03-01T09:00:00", json!({ "line_items": [line("one"), line("two")] })).to_string();
    // The text is as the store wrote it, without a conversion to a float.
    let text = text.replace("1234567.89,", "1234567.8900000001,").replace("1234567.89}", "1234567.8900000001}");
    assert!(shop.store.deliver("order.updated", &text).await.contains(&200));
    assert_eq!(shop.settle().await, ["applied"]);
    let item = shop.item("order#9");
    assert_eq!(item.fields["lines"][0]["price"], "1234567.8900000001");
    let extra = Value::Object(item.extra).to_string();
    assert!(extra.contains("one") && extra.contains("two"), "{extra}");
}

#[tokio::test]
async fn drafts_count_only_if_the_order_is_known() {
    let mut shop = Shop::connected().await;
    for (status, rule) in [("auto-draft", "woocommerce-unfinished"), ("checkout-draft", "woocommerce-checkout-draft")] {
        let draft = order(40, "2026-03-01T09:00:00", json!({ "status": status }));
        assert_eq!(shop.deliver("order.updated", &draft).await, [format!("ignored: {rule}")]);
    }
    assert_eq!(shop.deliver("order.created", &order(40, "2026-03-01T09:01:00", json!({}))).await, ["applied"]);
    let again = order(40, "2026-03-01T09:02:00", json!({ "status": "auto-draft" }));
    assert_eq!(shop.deliver("order.updated", &again).await, ["applied"]);
    assert_eq!(shop.item("order#40").fields["status"], "auto-draft");
    let unfinished = json!({ "id": 41, "status": "auto-draft", "name": "AUTO-DRAFT" });
    assert_eq!(shop.deliver("product.updated", &unfinished).await, ["ignored: woocommerce-unfinished"]);
}

// Buyers.

#[tokio::test]
async fn buyers_have_any_role() {
    let mut shop = Shop::new();
    let born = "2026-11-20T00:00:00";
    for (id, role, pays) in [
        (1, "customer", false),
        (2, "subscriber", true),
        (3, "administrator", false),
        (4, "shop_manager", false),
        (5, "wholesale_customer", false),
    ] {
        shop.store.set("customers", id, Some(user(id, role, pays, born)));
    }
    // The manager has bought something himself.
    shop.store.set("orders", 90, Some(order(90, born, json!({ "customer_id": 4 }))));
    shop.connect().await;
    shop.fetch("import").await;
    assert_eq!(shop.here(), ["customer#1", "customer#2", "customer#4", "order#90"]);
    // A known customer is followed, whatever role he gets.
    let moved = |role: &str, at: &str| {
        let mut moved = user(1, role, false, at);
        moved["email"] = json!("moved@example.com");
        moved["billing"] = json!({ "city": "New Town" });
        moved
    };
    let now = shop.now();
    shop.store.set("customers", 1, Some(moved("subscriber", &now)));
    assert_eq!(shop.deliver("customer.updated", &moved("subscriber", &now)).await, ["applied"]);
    assert_eq!(shop.item("customer#1").fields["billing"]["city"], "New Town");
    // Strangers stay strangers.
    assert_eq!(
        shop.deliver("customer.updated", &user(3, "administrator", false, &now)).await,
        ["ignored: woocommerce-not-a-customer"]
    );
    // The full sync repairs what no delivery reported, and pulls only what differs.
    shop.world.clock.pass_seconds(25 * HOUR);
    let later = shop.now();
    shop.store.edit("customers", 1, |user| user["email"] = json!("again@example.com"));
    shop.store.edit("customers", 4, |user| {
        user["email"] = json!("boss@example.com");
        user["date_modified_gmt"] = json!(later);
    });
    shop.store.calls();
    shop.check(Trigger::Schedule).await;
    assert_eq!(shop.item("customer#1").fields["email"], "again@example.com");
    assert_eq!(shop.item("customer#4").fields["email"], "boss@example.com");
    let pulls: Vec<_> = shop.store.calls().into_iter().filter(|call| call.contains("/customers/")).collect();
    assert_eq!(pulls.len(), 2, "{pulls:?}");
    // Nobody reports the delete of a subscriber.
    shop.store.force_delete("customers", 2);
    shop.world.clock.pass_seconds(25 * HOUR);
    shop.check(Trigger::Schedule).await;
    assert!(shop.item("customer#2").deleted);
    shop.compare().await;
}

// Full syncs.

#[tokio::test]
async fn a_full_sync_mends_what_changed_without_its_date() {
    let mut shop = Shop::new();
    let at = "2026-11-20T00:00:00";
    let refunds = json!([{ "id": 91, "reason": "", "total": "-5.00" }]);
    shop.store.set(
        "orders",
        7001,
        Some(order(7001, at, json!({ "refunds": refunds, "line_items": [{ "id": 1, "quantity": 1 }] }))),
    );
    shop.store.set("orders", 7002, Some(order(7002, at, json!({}))));
    shop.store.set("coupons", 10, Some(json!({ "id": 10, "code": "ten", "usage_count": 4, "date_modified_gmt": at })));
    shop.store.set(
        "products",
        20,
        Some(json!({ "id": 20, "categories": [{ "id": 1, "name": "Old" }], "date_modified_gmt": at })),
    );
    shop.connect().await;
    assert_eq!(shop.here().len(), 4);
    let spoil = |shop: &Shop| {
        shop.store.edit("orders", 7001, |order| {
            order["refunds"] = json!([]);
            order["line_items"][0]["quantity"] = json!(3);
        });
        shop.store.edit("coupons", 10, |coupon| coupon["usage_count"] = json!(7));
        shop.store.edit("products", 20, |product| product["categories"][0]["name"] = json!("Renamed"));
    };
    spoil(&shop);
    shop.world.clock.pass_seconds(2 * HOUR);
    shop.check(Trigger::Schedule).await;
    assert_eq!(shop.item("coupon#10").fields["used"], json!(4), "no list of changes tells");
    shop.store.calls();
    shop.fetch("import").await;
    let calls = shop.store.calls();
    shop.compare().await;
    assert_eq!(shop.item("order#7001").fields.get("refunds"), None);
    assert!(!calls.iter().any(|call| call.ends_with("/orders/7002")), "what is the same is not asked for: {calls:?}");
    // The weekly full sync does the same by itself.
    shop.store.edit("coupons", 10, |coupon| coupon["usage_count"] = json!(9));
    shop.world.clock.pass_seconds(WEEK);
    shop.check(Trigger::Schedule).await;
    assert_eq!(shop.item("coupon#10").fields["used"], json!(9));
}

#[tokio::test]
async fn variations_come_with_their_products() {
    let mut shop = Shop::new();
    let at = "2026-11-20T00:00:00";
    shop.store.set("products", 1000, Some(json!({ "id": 1000, "type": "variable", "name": "Cup", "variations": [], "date_modified_gmt": at, "date_created_gmt": at })));
    let ids: Vec<u64> = (0..3).map(|_| shop.store.add_variation(1000, "7.70")).collect();
    shop.store.outbox();
    shop.connect().await;
    for id in &ids {
        assert_eq!(shop.item(&format!("product#{id}")).fields["price"], "7.70");
    }
    shop.compare().await;
    // A variation changes without a delivery, which moves its product's date.
    shop.world.clock.pass_seconds(HOUR);
    let now = shop.now();
    shop.store.edit("products", ids[0], |variation| {
        variation["price"] = json!("123.45");
        variation["date_modified_gmt"] = json!(now);
    });
    shop.store.edit("products", 1000, |product| product["date_modified_gmt"] = json!(now));
    shop.world.clock.pass_seconds(HOUR);
    shop.store.calls();
    shop.check(Trigger::Schedule).await;
    assert_eq!(shop.item(&format!("product#{}", ids[0])).fields["price"], "123.45", "an hourly poll finds it");
    let calls = shop.store.calls();
    assert!(!calls.iter().any(|call| call.ends_with(&format!("/products/{}", ids[1]))), "{calls:?}");
    // The full sync pulls only the variation whose stock alone has changed.
    shop.store.edit("products", ids[1], |variation| variation["stock_quantity"] = json!(3));
    shop.world.clock.pass_seconds(WEEK);
    shop.store.calls();
    shop.check(Trigger::Schedule).await;
    let pulled: Vec<_> = shop
        .store
        .calls()
        .into_iter()
        .filter(|call| ids.iter().any(|id| call.ends_with(&format!("/products/{id}"))))
        .collect();
    assert_eq!(pulled.len(), 1, "{pulled:?}");
    assert_eq!(shop.item(&format!("product#{}", ids[1])).fields["stock"]["quantity"], "3");
    // A forced delete takes them along without reporting it.
    shop.store.force_delete("products", 1000);
    shop.world.clock.pass_seconds(WEEK);
    shop.check(Trigger::Schedule).await;
    assert!(shop.item("product#1000").deleted && ids.iter().all(|id| shop.item(&format!("product#{id}")).deleted));
}

#[tokio::test]
async fn many_variations_and_small_pages_lose_none() {
    let mut shop = Shop::new();
    shop.store.set_page_size(3);
    let at = "2026-11-20T00:00:00";
    let mut all = Vec::new();
    for parent in [1000, 1001, 1002, 1003, 1004] {
        shop.store.set(
            "products",
            parent,
            Some(json!({ "id": parent, "type": "variable", "variations": [], "date_modified_gmt": at })),
        );
        all.push(parent);
        all.extend((0..parent % 1000 * 2).map(|_| shop.store.add_variation(parent, "1.00")));
    }
    shop.store.outbox();
    shop.connect().await;
    let mut expected: Vec<_> = all.iter().map(|id| format!("product#{id}")).collect();
    expected.sort();
    assert_eq!(shop.here(), expected);
    shop.world.clock.pass_seconds(WEEK);
    shop.check(Trigger::Schedule).await;
    assert_eq!(shop.here(), expected, "none is taken for gone");
    shop.compare().await;
}

// Deletes.

#[tokio::test]
async fn a_delete_of_what_never_was_leaves_nothing_and_is_not_forgotten() {
    let mut shop = Shop::connected().await;
    assert_eq!(shop.deliver("coupon.deleted", &json!({ "id": 207 })).await, ["ignored: never-here"]);
    assert!(shop.find("coupon#207").is_none());
    // A late delivery from before the delete makes the processor ask.
    let late = json!({ "id": 207, "code": "late", "date_modified_gmt": "2026-03-01T09:00:00" });
    assert_eq!(shop.deliver("coupon.updated", &late).await.len(), 1);
    assert!(shop.find("coupon#207").is_none_or(|item| item.deleted));
    // An existing coupon is kept.
    shop.store.set("coupons", 207, Some(late.clone()));
    assert_eq!(shop.deliver("coupon.updated", &late).await, ["applied"]);
    assert!(!shop.item("coupon#207").deleted);
    // A known coupon is marked.
    shop.store.set("coupons", 207, None);
    assert_eq!(shop.deliver("coupon.deleted", &json!({ "id": 207 })).await, ["applied"]);
    assert!(shop.item("coupon#207").deleted && shop.item("coupon#207").fields["code"] == "late");
}

#[tokio::test]
async fn a_delete_and_what_it_deletes_end_the_same_in_any_order() {
    let body = order(50, "2026-03-01T09:00:00", json!({}));
    for deleted_first in [true, false] {
        let mut shop = Shop::connected().await;
        let hook = |topic: &str| shop.store.webhooks().into_iter().find(|hook| hook.topic == topic).unwrap();
        let (created, deleted) = (hook("order.created"), hook("order.deleted"));
        shop.store.deliver_to(&created, &body.to_string()).await;
        shop.store.deliver_to(&deleted, r#"{"id":50}"#).await;
        let sent = shop.world.queues.sent();
        let mut messages: Vec<_> = (shop.taken..sent.len()).map(|n| message(n, sent[n].0.text())).collect();
        shop.taken = sent.len();
        if deleted_first {
            messages.reverse();
        }
        for one in &messages {
            shop.world.process(std::slice::from_ref(one)).await;
        }
        shop.settle().await;
        assert!(shop.find("order#50").is_none_or(|item| item.deleted), "{deleted_first}");
        assert_eq!(shop.here(), [""; 0]);
    }
}

#[tokio::test]
async fn a_pull_that_began_before_a_delete_of_what_is_not_here_does_not_keep_it() {
    let mut shop = Shop::connected().await;
    shop.store.set("orders", 60, Some(order(60, "2026-11-20T00:00:00", json!({}))));
    // The order is deleted while the store answers that it exists, and the delete is noted. Asked again, the store says
    // so.
    let (tables, store, key, clock) =
        (shop.world.tables.clone(), shop.store.clone(), shop.key.clone(), shop.world.clock.clone());
    let asked = AtomicUsize::new(0);
    shop.store.on_call("GET", move || match asked.fetch_add(1, Ordering::SeqCst) {
        0 => {
            let at = clock.now();
            let note = Note { body: at.micros().to_string(), revision: 1, expires: at.seconds() + 1000 };
            assert!(tables.keep(&key, "gone#order#60", &note).now_or_never().unwrap().unwrap());
        }
        _ => store.set("orders", 60, None),
    });
    let told = order(60, "2026-11-20T00:00:00", json!({ "status": "trash" }));
    let ends = shop.deliver("order.updated", &told).await;
    assert_eq!(ends, ["applied"]);
    assert!(shop.item("order#60").deleted);
}

// Sites.

#[tokio::test]
async fn a_site_with_plain_permalinks_is_called_by_its_route() {
    for status in [404, 200] {
        let mut shop = Shop::new();
        shop.store.edit_site(|site| site.plain_permalinks = Some(status));
        shop.store.set("orders", 1, Some(order(1, "2026-11-20T00:00:00", json!({}))));
        shop.connect().await;
        assert_eq!(
            shop.world.tables.connection(&shop.key).connection.unwrap().settings,
            json!({ "rest_route": true }).as_object().unwrap().clone()
        );
        assert_eq!(shop.here(), ["order#1"], "lists and pulls go that way");
        assert!(!shop.store.webhooks().is_empty());
        let (status, shown) = shop.put(SITE, ("ck_1", "cs_1")).await;
        assert_eq!((status, &shown["changes"]["created"]), (200, &json!([])), "the same again changes nothing");
        // Setting something else loses nothing of what connecting found out, unless it is taken back.
        let set = async |body: &str| {
            let path = format!("/admin/connections/woocommerce/{NAME}/settings");
            let set = shop.world.ask(Some(&shop.world.bearer("write")), "PUT", &path, "", body).await;
            assert_eq!(set.status(), 200);
            serde_json::from_slice::<Value>(set.body().as_ref()).unwrap()["rest_route"].clone()
        };
        assert_eq!(set(r#"{"polls":{"order":0}}"#).await, true);
        assert_eq!(set(r#"{"rest_route":false}"#).await, Value::Null);
    }
    // Plain permalinks may be switched on later.
    let mut shop = Shop::connected().await;
    shop.store.edit_site(|site| site.plain_permalinks = Some(404));
    shop.store.set("orders", 1, Some(order(1, "2026-11-20T00:00:00", json!({}))));
    shop.check(Trigger::Schedule).await;
    shop.fetch("import").await;
    assert_eq!(shop.here(), ["order#1"]);
    assert_eq!(shop.world.tables.connection(&shop.key).check.unwrap().trouble, None);
}

#[tokio::test]
async fn a_host_that_strips_authorization_gets_the_key_in_the_query() {
    let mut shop = Shop::new();
    shop.store.edit_site(|site| site.strips_authorization = true);
    shop.store.set("orders", 1, Some(order(1, "2026-11-20T00:00:00", json!({}))));
    shop.connect().await;
    assert_eq!(
        shop.world.tables.connection(&shop.key).connection.unwrap().settings,
        json!({ "key_in_query": true }).as_object().unwrap().clone()
    );
    assert_eq!(shop.here(), ["order#1"]);
    // A wrong key is reported as such, and not tried without end.
    shop.store.calls();
    let (status, shown) = shop.put(SITE, ("ck_9", "cs_9")).await;
    assert!(status == 422 && shown["detail"].as_str().unwrap().contains("does not know the key"), "{shown}");
    assert_eq!(shop.store.calls().len(), 2);
    // A check does not begin to show the key in the query.
    let mut shop = Shop::connected().await;
    shop.store.edit_site(|site| site.strips_authorization = true);
    shop.check(Trigger::Schedule).await;
    let connection = shop.world.tables.connection(&shop.key);
    assert!(connection.connection.unwrap().settings.is_empty());
    assert!(connection.check.unwrap().trouble.unwrap().contains("Authorization"));
}

#[tokio::test]
async fn what_is_wrong_with_a_site_is_told_with_what_to_do() {
    let told = async |change: &dyn Fn(&Store), key: (&str, &str)| {
        let shop = Shop::new();
        change(&shop.store);
        let (status, shown) = shop.put(SITE, key).await;
        (status, shown["detail"].as_str().unwrap_or_default().to_owned())
    };
    let good = ("ck_1", "cs_1");
    let redirect =
        |store: &Store| store.edit_site(|site| site.redirects_to = Some("https://www.shop.example.com".into()));
    let (status, why) = told(&redirect, good).await;
    assert!(status == 422 && why.contains("redirects to https://www.shop.example.com (301)"), "{status} {why}");
    let (status, why) = told(&|store| store.let_read("ck_2", "cs_2"), ("ck_2", "cs_2")).await;
    assert!(status == 422 && why.contains("Read/Write"), "{status} {why}");
    let (status, why) = told(&|_| {}, ("ck_3", "cs_3")).await;
    assert!(status == 422 && why.contains("does not know the key"), "{status} {why}");
    let (status, why) =
        told(&|store| store.edit_site(|site| site.page_for = Some(("/webhooks".into(), 403))), good).await;
    assert!(status == 422 && why.contains("firewall"), "{status} {why}");
    // Text before an answer does no harm.
    for before in
        ["\u{feff}", "<br />\n<b>Warning</b>: Undefined array key [0] in <b>/a.php</b> on line <b>1</b><br />\n"]
    {
        let mut shop = Shop::new();
        shop.store.edit_site(|site| site.before = before.into());
        shop.store.set("orders", 1, Some(order(1, "2026-11-20T00:00:00", json!({}))));
        shop.connect().await;
        assert_eq!(shop.here(), ["order#1"], "{before}");
        shop.store.set("orders", 1, None);
        assert_eq!(shop.deliver("order.deleted", &json!({ "id": 1 })).await, ["applied"], "{before}");
    }
    // The end of a site's address is dropped.
    let shop = Shop::new();
    for site in ["https://shop.example.com/wp-json/", "https://shop.example.com/index.php"] {
        let (status, shown) = shop.put(site, good).await;
        assert_eq!((status, shown["site"].as_str()), (200, Some(SITE)));
    }
}

#[tokio::test]
async fn maintenance_takes_a_minute_and_a_pause_ends_with_its_generation() {
    let mut shop = Shop::connected().await;
    shop.store.edit_site(|site| site.in_maintenance = true);
    assert!(shop.store.deliver("order.deleted", r#"{"id":1}"#).await.contains(&200));
    let sent = shop.world.queues.sent();
    let told = message(shop.taken, sent[shop.taken].0.text());
    assert_eq!(outcomes(&shop.world.process(&[told]).await), ["deferred by 60 s"]);
    shop.store.edit_site(|site| site.in_maintenance = false);
    let (status, _) = shop.world.admin("DELETE", NAME, "", "").await;
    assert_eq!(status, 200);
    shop.store.set("orders", 2, Some(order(2, "2026-11-20T00:00:00", json!({}))));
    let before = shop.world.clock.now();
    let (status, shown) = shop.put(SITE, ("ck_1", "cs_1")).await;
    assert_eq!((status, &shown["generation"]), (200, &json!(2)));
    shop.settle().await;
    assert_eq!(shop.here(), ["order#2"]);
    assert!(shop.world.clock.now() < before.plus_seconds(120));
}

// Errors in place of entities.

#[tokio::test]
async fn each_error_body_looks_back_to_the_last_one_only() {
    let mut shop = Shop::connected().await;
    shop.world.clock.pass_seconds(HOUR);
    let old = shop.now();
    for id in 1..=30 {
        shop.store.set("orders", id, Some(order(id, &old, json!({}))));
    }
    shop.world.clock.pass_seconds(600);
    let error = json!({ "code": "woocommerce_rest_cannot_view", "message": "Sorry.", "data": { "status": 401 } });
    assert_eq!(shop.deliver("order.updated", &error).await[0], "split: 30");
    assert_eq!(shop.here().len(), 30);
    shop.store.calls();
    // Nothing is listed again.
    assert_eq!(shop.deliver("order.updated", &error).await, ["ignored: found-before"]);
    // Listed entities that are known are not pulled again.
    let now = shop.now();
    shop.store.set("orders", 31, Some(order(31, &now, json!({}))));
    shop.world.clock.pass_seconds(90);
    assert_eq!(shop.deliver("order.updated", &error).await, ["split: 1", "applied"]);
    assert_eq!(shop.deliver("order.updated", &error).await, ["split: 1", "unchanged"]);
    let pulls = shop.store.calls().iter().filter(|call| call.contains("/orders/")).count();
    assert_eq!(pulls, 1);
}

#[tokio::test]
async fn a_webhook_whose_owner_lost_his_rights_is_made_anew_once() {
    let mut shop = Shop::connected().await;
    let of = |shop: &Shop, topic: &str| -> Vec<_> {
        shop.store.webhooks().into_iter().filter(|hook| hook.topic == topic).map(|hook| hook.id).collect()
    };
    let before: BTreeMap<_, _> = shop.store.webhooks().into_iter().map(|hook| (hook.topic, hook.id)).collect();
    let id = before["customer.updated"];
    shop.store.edit_webhook(id, |hook| hook.without_rights = true);
    let now = shop.now();
    shop.store.set("customers", 5, Some(user(5, "customer", true, &now)));
    let former = shop.store.webhooks().into_iter().find(|hook| hook.id == id).unwrap();
    let ends = shop.deliver("customer.updated", &user(5, "customer", true, &now)).await;
    assert_eq!(ends[0], "quarantined: platform-error");
    let hooks = of(&shop, "customer.updated");
    assert!(hooks.len() == 1 && hooks[0] != id, "one, and another: {hooks:?}");
    assert_eq!(shop.world.tables.connection(&shop.key).webhooks["customer.updated"].id.as_str(), hooks[0].to_string());
    assert_eq!(shop.item("customer#5").fields["email"], "u5@example.org", "what was missed is fetched");
    // The other webhooks stay, and a delivery that the former one had queued causes no further webhook.
    assert_eq!(of(&shop, "order.updated"), [before["order.updated"]]);
    shop.world.clock.pass_seconds(600);
    shop.store.deliver_to(&former, "{}").await;
    shop.settle().await;
    assert_eq!(of(&shop, "customer.updated"), hooks);
    // The new webhook delivers.
    let ends = shop.deliver("customer.updated", &user(5, "customer", true, &shop.now())).await;
    assert!(["applied", "unchanged"].contains(&ends[0].as_str()), "{ends:?}");
}

#[tokio::test]
async fn an_error_that_is_processed_late_looks_back_further_than_a_later_one() {
    let shop = Shop::connected().await;
    shop.world.clock.pass_seconds(HOUR);
    let error = json!({ "code": "woocommerce_rest_cannot_view", "message": "Sorry.", "data": { "status": 401 } });
    let mut errors = Vec::new();
    for id in 1..=2 {
        shop.store.set("orders", id, Some(order(id, &shop.now(), json!({}))));
        let queued = shop.world.queues.sent().len();
        assert!(shop.store.deliver("order.updated", &error.to_string()).await.contains(&200));
        errors.push(message(queued, shop.world.queues.sent()[queued].0.text()));
        shop.world.clock.pass_seconds(HOUR);
    }
    // The store did not answer when the first one was processed, and it came back after the second.
    for (error, sort) in errors.iter().rev().zip(["order#2", "order#1"]) {
        let queued = shop.world.queues.sent().len();
        let outcome = outcomes(&shop.world.process(std::slice::from_ref(error)).await);
        assert!(outcome[0].starts_with("split: "), "{sort}: {outcome:?}");
        shop.world.drain(queued).await;
        assert!(shop.world.tables.items().iter().any(|item| item.sk == sort), "{sort}");
    }
}
