//! Fetching: the backfill, changes that no webhook delivered, deletes, and the count of drift. In the end, the table
//! agrees with the platforms' APIs, whatever fails in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use cloud::{memory::TableFault, queue::Jobs};
use commerce::{
    connection::ConnectionStatus,
    cursor::{Cursor, Fetch},
    entity::EntityKind,
    envelope::{Envelope, IMPORT},
    http_call::{ApiRequest, ApiResponse, Fault, Loopback},
    item::Item,
    job::{Job, Trigger},
    key::ConnectionKey,
    platform::{
        find,
        mapping::{Resolved, resolve},
    },
    platforms::PLATFORMS,
    request::WebhookPath,
    timestamp::Timestamp,
    transfer::Polling,
};
use futures_util::future::BoxFuture;
use http::Method;
use processor::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tests::{
    platforms::{Simulator, Trouble, Truth, Wrapper, bigcommerce, cloudblue, reads, shopify, woocommerce::Store},
    truth::{BETWEEN_QUESTIONS, Connected},
    world::{self, Outside, World, gateway_event, request},
};

use crate::controller::Hooked;

const SITE: &str = "http://127.0.0.1:20000";
const HOUR: i64 = 3600;
const WEEK: i64 = 7 * 24 * HOUR;

/// A simulated platform in which something happens while its lists are read.
struct Busy {
    inner: Arc<dyn Simulator>,
    random: Mutex<StdRng>,
    busy: AtomicBool,
    /// `true` while lists answer with more entries than any page may have.
    floods: AtomicBool,
    /// The end of the paths whose calls something in front of the store refuses, with a page of its own.
    refused: Mutex<Option<&'static str>>,
}

impl Wrapper for Busy {
    fn inner(&self) -> &dyn Simulator {
        &*self.inner
    }

    fn respond<'a>(&'a self, request: &'a ApiRequest) -> BoxFuture<'a, Result<ApiResponse, Fault>> {
        if self.refused.lock().unwrap().is_some_and(|refused| request.url.path().ends_with(refused)) {
            let page = ApiResponse {
                status: 403,
                headers: http::HeaderMap::new(),
                body: bytes::Bytes::from_static(b"<html>Forbidden</html>"),
            };
            return Box::pin(async { Ok(page) });
        }
        if self.busy.load(Ordering::SeqCst) && reads(request) {
            let mut random = self.random.lock().unwrap();
            if random.random_ratio(1, 2) {
                self.inner.change(&mut random);
            }
        }
        if self.floods.load(Ordering::SeqCst)
            && request.method == Method::GET
            && request.url.path().ends_with("/products")
        {
            let entries: Vec<_> = (1..=1001).map(|id| json!({ "id": id })).collect();
            return Box::pin(async move { Ok(tests::platforms::json_answer(200, &json!(entries))) });
        }
        self.inner.answer(request)
    }
}

/// A platform with the bundle.
pub(crate) struct Shop {
    pub(crate) world: World,
    simulator: Arc<Busy>,
    pub(crate) key: ConnectionKey,
    random: StdRng,
    taken: usize,
    /// The drift that polling found, by kind of entity: missed, stale, unmapped.
    differences: BTreeMap<String, (u64, u64, u64)>,
}

impl Shop {
    pub(crate) fn new(seed: u64, make: impl FnOnce(&World) -> Arc<dyn Simulator>) -> Self {
        let mut world = World::new();
        world.loopback = Loopback::Allowed;
        let (inner, random) = (make(&world), Mutex::new(StdRng::seed_from_u64(seed + 1000)));
        let simulator =
            Arc::new(Busy { inner, random, busy: false.into(), floods: false.into(), refused: Mutex::default() });
        let shared: Arc<dyn Simulator> = simulator.clone();
        world.outside = Outside::Simulated(vec![(SITE.to_owned(), shared)]);
        let key = WebhookPath::parse(simulator.platform(), &simulator.connection(), None).unwrap().key;
        let random = StdRng::seed_from_u64(seed);
        Self { world, simulator, key, random, taken: 0, differences: BTreeMap::new() }
    }

    pub(crate) fn changes(&mut self, count: usize) {
        for _ in 0..count {
            self.simulator.change(&mut self.random);
            let seconds = self.random.random_range(0..3);
            self.world.clock.pass_seconds(seconds);
        }
    }

    pub(crate) async fn connect(&mut self, more: Value) {
        let mut settings = self.simulator.settings(SITE);
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (platform, connection) = (self.simulator.platform(), self.simulator.connection());
        let (status, shown) = self.world.admin_of(platform, "PUT", &connection, "", &settings.to_string()).await;
        assert_eq!(status, 200, "{shown}");
    }

    /// Drops all deliveries.
    pub(crate) fn lose_hooks(&self) {
        self.simulator.outbox();
    }

    async fn deliver_hooks(&self) {
        self.deliver_hooks_to(&[200]).await;
    }

    /// Delivers the outbox, and asserts that each answer is one of these.
    async fn deliver_hooks_to(&self, answers: &[u16]) {
        for delivery in self.simulator.outbox() {
            self.world.clock.pass_seconds(1);
            // Deliveries to other addresses are lost.
            let Some(event) = gateway_event(&delivery, self.world.clock.now()) else { continue };
            let status = self.world.receiver.receive(request(&event)).await.status().as_u16();
            assert!(answers.contains(&status), "{status}");
            self.simulator.answered(&delivery, status);
        }
    }

    /// Checks the connection as the schedule does, and runs everything that follows to its end.
    async fn check(&mut self) {
        let job = Job::check(&self.key, Trigger::Schedule);
        self.world.queues.send_jobs(&[(job, 0)]).await.unwrap();
        self.settle().await;
    }

    async fn settle(&mut self) {
        let mut waiting: Vec<Message> = Vec::new();
        for round in 0.. {
            assert!(round < 3000, "there is no end of it");
            let jobs = self.world.run_jobs().await;
            let sent = self.world.queues.sent();
            for (n, (sealed, _)) in sent.iter().enumerate().skip(self.taken) {
                waiting.push(world::message(n, sealed.text()));
            }
            self.taken = sent.len();
            if waiting.is_empty() && jobs == 0 {
                return;
            }
            let rest = waiting.split_off(waiting.len().min(10));
            let report = self.world.process(&waiting).await;
            for line in report.lines.iter().filter(|line| line["event"] == "differences") {
                // The line names the topics that should have reported it.
                let entity = line["entity"].as_str().unwrap();
                let scopes = line["scopes"].as_array().unwrap();
                let hooked = self.simulator.platform() != "cloudblue" || entity == "request";
                let platform = find(PLATFORMS, self.simulator.platform()).unwrap();
                let reports = |scope: &Value| match resolve(platform, scope.as_str().unwrap()) {
                    Resolved::Entity(reported, _) => reported.as_str() == entity,
                    _ => false,
                };
                assert!(scopes.iter().all(reports) && scopes.is_empty() != hooked, "{line}");
                let number = |name: &str| line[name].as_u64().unwrap();
                let counts = self.differences.entry(line["entity"].as_str().unwrap().to_owned()).or_default();
                counts.0 += number("missed");
                counts.1 += number("stale");
                counts.2 += number("unmapped");
            }
            waiting.retain(|message| report.failures.contains(&message.id));
            waiting.iter_mut().for_each(|message| message.attempts += 1);
            // Deferred and failed messages get their time; it does not hurt the others.
            let put_off = self.world.queues.sent().iter().skip(self.taken).map(|(_, delay)| *delay).max();
            let pause = if waiting.is_empty() { i64::from(put_off.unwrap_or(0)) } else { 700 };
            self.world.clock.pass_seconds(pause);
            waiting.extend(rest);
        }
    }

    fn cursor(&self, entity: EntityKind) -> Option<Cursor> {
        self.world.tables.connection(&self.key).cursors.get(&entity).cloned()
    }

    fn polled(&self) -> Vec<EntityKind> {
        let platform = find(PLATFORMS, self.simulator.platform()).unwrap();
        let kinds = platform.mapping.processors().iter().map(|processor| processor.entity);
        kinds.filter(|kind| platform.lists.is_some_and(|lists| lists.poll(*kind, None).is_some())).collect()
    }

    /// Returns the sort keys of entities that exist at the platform and can be listed.
    pub(crate) fn there(&self) -> BTreeSet<String> {
        let (polled, entities) = (self.polled(), self.simulator.entities());
        let there = entities.into_iter().filter(|(kind, _, truth)| *truth == Truth::Api && polled.contains(kind));
        there.map(|(kind, id, _)| format!("{kind}#{id}")).collect()
    }

    /// Returns the sort keys of entities that exist here.
    pub(crate) fn here(&self) -> BTreeSet<String> {
        let items = self.world.tables.items().into_iter().filter(|item| item.pk == self.key.to_string());
        items.filter(|item| !item.deleted).map(|item| item.sk).collect()
    }

    /// Returns the entities that differ from what the API shows, each by its kind and the truth about it, with whether it
    /// exists here.
    async fn differing(&self) -> Vec<(EntityKind, Truth, bool)> {
        let connected = Connected::new(&*self.simulator, SITE);
        let items: BTreeMap<String, Item> =
            self.world.tables.items().into_iter().map(|item| (item.sk.clone(), item)).collect();
        let (polled, clock) = (self.polled(), self.world.clock.function());
        let mut found = Vec::new();
        for (kind, id, truth) in self.simulator.entities().into_iter().filter(|(kind, ..)| polled.contains(kind)) {
            self.world.clock.pass_seconds(BETWEEN_QUESTIONS);
            let key = connected.entity(kind, &id);
            let item = items.get(&key.sort());
            if connected.compare(&key, &truth, item, &*clock).await.is_err() {
                found.push((kind, truth, item.is_some_and(|item| !item.deleted)));
            }
        }
        found
    }

    /// Compares the entities that can be polled with the API, and returns their number.
    async fn compare(&self, seed: u64) -> usize {
        let connected = Connected::new(&*self.simulator, SITE);
        let items: BTreeMap<String, Item> =
            self.world.tables.items().into_iter().map(|item| (item.sk.clone(), item)).collect();
        let (polled, clock) = (self.polled(), self.world.clock.function());
        let mut count = 0;
        for (kind, id, truth) in self.simulator.entities().into_iter().filter(|(kind, ..)| polled.contains(kind)) {
            self.world.clock.pass_seconds(BETWEEN_QUESTIONS);
            let key = connected.entity(kind, &id);
            let same = connected.compare(&key, &truth, items.get(&key.sort()), &*clock).await;
            assert_eq!(same, Ok(()), "seed {seed}");
            count += 1;
        }
        count
    }
}

/// Returns each platform that can be polled, with small pages.
fn shops(seed: u64) -> Vec<Shop> {
    vec![
        Shop::new(seed, |world| {
            let simulator = bigcommerce::Simulator::new(world.clock.function(), true);
            simulator.set_page_size(20);
            Arc::new(simulator)
        }),
        Shop::new(seed, |world| {
            let simulator = cloudblue::Connect::new(world.clock.function());
            simulator.set_page_size(7);
            Arc::new(simulator)
        }),
        Shop::new(seed, |world| {
            let simulator = shopify::Shop::new(world.clock.function());
            simulator.set_page_size(9);
            Arc::new(simulator)
        }),
        Shop::new(seed, |world| store(world, 7)),
    ]
}

pub(crate) fn store(world: &World, page_size: usize) -> Arc<dyn Simulator> {
    let wire = Arc::new(world::Direct(Arc::clone(&world.receiver), world.clock.clone()));
    let store = Store::new(wire, "ck_1", "cs_1").with_clock(world.clock.function());
    store.set_page_size(page_size);
    Arc::new(store)
}

#[tokio::test]
async fn the_first_import_brings_everything_whatever_goes_wrong() {
    for seed in 0..3 {
        for mut shop in shops(seed) {
            shop.changes(150);
            shop.connect(json!({})).await;
            shop.lose_hooks();
            let troubles = [
                Trouble::None,
                Trouble::TooMany(5),
                Trouble::None,
                Trouble::Broken,
                Trouble::None,
                Trouble::AnswerLost,
                Trouble::Slow,
                Trouble::None,
                Trouble::None,
                Trouble::None,
                Trouble::Broken,
            ];
            shop.simulator.trouble(&troubles);
            // Two messages are refused, and three cursors are not written after their pages are queued.
            shop.world.queues.refuse_next(2);
            shop.world.tables.break_next([TableFault::CursorRefused; 3]);
            shop.settle().await;
            // Each check does what the former one could not do.
            for _ in 0..3 {
                shop.check().await;
            }
            let dead: Vec<_> = shop
                .world
                .queues
                .dead()
                .iter()
                .map(|letter| format!("{} {}", letter.reason.name(), letter.body))
                .collect();
            assert!(dead.is_empty(), "{dead:?}");
            assert!(shop.compare(seed).await > 20, "{}", shop.key);
            assert_eq!(shop.there(), shop.here().intersection(&shop.there()).cloned().collect(), "{}", shop.key);
            for kind in shop.polled() {
                let cursor = shop.cursor(kind).unwrap();
                assert!(cursor.run.is_none() && cursor.since.is_some() && cursor.swept == cursor.since, "{cursor:?}");
            }
            let sent = shop.world.queues.sent();
            let scopes: BTreeSet<_> =
                sent.iter().map(|(sealed, _)| Envelope::parse(sealed.text()).unwrap().scope).collect();
            assert!(scopes.contains(IMPORT), "{scopes:?}");
            assert!(shop.differences.is_empty(), "an import is no loss: {:?}", shop.differences);
        }
    }
}

#[tokio::test]
async fn nothing_is_passed_over_that_was_there_all_the_time() {
    for seed in 0..4 {
        for mut shop in shops(seed) {
            shop.changes(150);
            shop.connect(json!({})).await;
            let before = shop.there();
            shop.simulator.busy.store(true, Ordering::SeqCst);
            shop.settle().await;
            shop.simulator.busy.store(false, Ordering::SeqCst);
            let (here, after) = (shop.here(), shop.there());
            let lost: Vec<_> = before.intersection(&after).filter(|id| !here.contains(*id)).collect();
            assert!(lost.is_empty(), "seed {seed}, {}: {lost:?}", shop.key);
            // A later full sync finds what came, changed or went in the meantime.
            shop.world.clock.pass_seconds(WEEK);
            shop.lose_hooks();
            shop.check().await;
            shop.compare(seed).await;
        }
    }
}

#[tokio::test]
async fn what_hooks_did_not_tell_is_found() {
    for seed in 0..3 {
        for mut shop in shops(seed) {
            shop.changes(60);
            shop.connect(json!({})).await;
            shop.settle().await;
            shop.world.clock.pass_seconds(HOUR);
            shop.changes(60);
            shop.lose_hooks();
            shop.world.clock.pass_seconds(2 * HOUR);
            shop.check().await;
            let daily = |kind: &EntityKind| shop.cursor(*kind).unwrap().since > shop.cursor(*kind).unwrap().swept;
            assert!(shop.polled().iter().any(daily), "{}: what has changed was asked for", shop.key);
            let new: Vec<_> = shop.there().difference(&shop.here()).cloned().collect();
            // Only a full sync finds the customers of one platform and the categories of another.
            let lists_all_changes = shop.simulator.platform() == "shopify";
            let late = |id: &String| !lists_all_changes && (id.starts_with("customer#") || id.starts_with("category#"));
            assert!(new.iter().all(late), "{}: {new:?}", shop.key);
            shop.world.clock.pass_seconds(WEEK);
            shop.check().await;
            shop.compare(seed).await;
            let missed: u64 = shop.differences.values().map(|counts| counts.0).sum();
            assert!(missed > 0, "{}: {:?}", shop.key, shop.differences);
        }
    }
}

/// A full sync counts each entity that webhooks lost once. A product is listed without a time, because its stock changes
/// without one, and so it counts only if it is gone.
#[tokio::test]
async fn what_hooks_of_shopify_lost_is_counted_exactly() {
    for seed in 0..3 {
        let mut shop = shops(seed).into_iter().find(|shop| shop.key.platform == "shopify").unwrap();
        shop.changes(80);
        shop.connect(json!({})).await;
        shop.settle().await;
        shop.world.clock.pass_seconds(HOUR);
        shop.changes(60);
        shop.lose_hooks();
        shop.world.clock.pass_seconds(WEEK);
        let mut lost: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
        for (kind, truth, is_here) in shop.differing().await {
            match (kind, truth, is_here) {
                (EntityKind::Product, Truth::Api, _) => {}
                (_, Truth::Api, true) => lost.entry(kind.to_string()).or_default().1 += 1,
                _ => lost.entry(kind.to_string()).or_default().0 += 1,
            }
        }
        let kinds: Vec<_> = lost.keys().map(String::as_str).collect();
        assert_eq!(kinds, ["category", "customer", "order", "product"], "seed {seed}");
        shop.check().await;
        assert_eq!(shop.differences, lost, "seed {seed}");
        shop.compare(seed).await;
    }
}

#[tokio::test]
async fn where_hooks_tell_everything_nothing_is_lost() {
    for mut shop in shops(7) {
        shop.changes(40);
        shop.connect(json!({})).await;
        shop.lose_hooks();
        shop.settle().await;
        for _ in 0..6 {
            shop.changes(10);
            shop.deliver_hooks().await;
            shop.settle().await;
            shop.world.clock.pass_seconds(2 * HOUR);
            shop.deliver_hooks().await;
            shop.check().await;
        }
        shop.world.clock.pass_seconds(WEEK);
        shop.deliver_hooks().await;
        shop.check().await;
        shop.compare(7).await;
        assert!(shop.differences.is_empty(), "{}: {:?}", shop.key, shop.differences);
    }
}

fn product(id: u64, price: &str, at: &str) -> Option<Value> {
    Some(json!({ "id": id, "name": "Jar", "price": price, "date_modified_gmt": at, "date_created_gmt": at }))
}

fn shop_with_products(count: u64, page_size: usize) -> (Shop, Store) {
    let mut kept = None;
    let shop = Shop::new(1, |world| {
        let wire = Arc::new(world::Direct(Arc::clone(&world.receiver), world.clock.clone()));
        let store = Store::new(wire, "ck_1", "cs_1").with_clock(world.clock.function());
        store.set_page_size(page_size);
        kept = Some(store.clone());
        Arc::new(store)
    });
    let store = kept.unwrap();
    (1..=count).for_each(|id| store.set("products", id, product(id, "1.00", "2026-11-20T00:00:00")));
    (shop, store)
}

fn written(world: &World) -> String {
    world.clock.now().to_string()[..19].to_owned()
}

#[tokio::test]
async fn losses_are_counted_exactly() {
    let (mut shop, store) = shop_with_products(9, 20);
    shop.connect(json!({})).await;
    shop.settle().await;
    assert_eq!(shop.here().len(), 9);
    shop.world.clock.pass_seconds(HOUR);
    let at = written(&shop.world);
    store.set("products", 1, product(1, "2.00", &at));
    store.set("products", 2, product(2, "2.00", &at));
    store.set("products", 10, product(10, "2.00", &at));
    store.set("products", 3, None);
    // Product 11 cannot be read, and product 12 is too young to be missed.
    store.set("products", 11, Some(json!({ "id": 11, "price": "1..23", "date_modified_gmt": at })));
    shop.world.clock.pass_seconds(2 * HOUR);
    let young = written(&shop.world);
    store.set("products", 12, product(12, "2.00", &young));
    shop.check().await;
    assert_eq!(shop.differences.get("product"), Some(&(1, 2, 1)));
    assert!(shop.here().contains("product#12") && shop.here().contains("product#3"));
    shop.world.clock.pass_seconds(WEEK);
    shop.check().await;
    assert!(!shop.here().contains("product#3"));
    // The full sync finds the unreadable one again, and the deleted one.
    assert_eq!(shop.differences.get("product"), Some(&(2, 2, 2)));
    let losses = shop.world.registrar().losses(&shop.key).await.unwrap();
    let total = &losses[&EntityKind::Product];
    assert_eq!(losses.len(), 1, "{losses:?}");
    assert_eq!((total.missed, total.stale, total.unmapped), (2, 2, 2));
}

#[tokio::test]
async fn what_is_not_to_be_polled_is_not() {
    let (mut shop, _store) = shop_with_products(3, 100);
    shop.connect(json!({ "polls": { "product": 0, "order": 0, "customer": 0, "coupon": 600 } })).await;
    for _ in 0..3 {
        shop.world.clock.pass_seconds(WEEK);
        shop.check().await;
    }
    let calls = shop.simulator.calls();
    assert!(!calls.iter().any(|call| call.ends_with("/products") || call.ends_with("/customers")), "{calls:?}");
    assert!(calls.iter().any(|call| call.ends_with("/coupons")), "{calls:?}");
    assert!(shop.here().is_empty() && shop.cursor(EntityKind::Product).is_none());
}

#[tokio::test]
async fn the_cursor_does_not_pass_what_was_not_queued() {
    let (mut shop, _store) = shop_with_products(30, 10);
    let only = json!({ "polls": { "order": 0, "customer": 0, "coupon": 0 } });
    shop.connect(only).await;
    let registrar = shop.world.registrar();
    let (check, _) = shop.world.queues.next_job().unwrap();
    registrar.run(&check.text()).await.unwrap();
    let (job, _) = shop.world.queues.next_job().unwrap();
    let begun = shop.cursor(EntityKind::Product).unwrap();
    for lost in 1..4 {
        // The inbox refuses the page's messages.
        shop.world.queues.refuse_next(lost);
        assert!(registrar.run(&job.text()).await.is_err());
        shop.world.queues.refuse_next(0);
        assert_eq!(shop.cursor(EntityKind::Product), Some(begun.clone()));
    }
    shop.world.tables.break_next([TableFault::CursorRefused]);
    assert!(registrar.run(&job.text()).await.is_err());
    assert_eq!(shop.cursor(EntityKind::Product), Some(begun));
    let queued = shop.world.queues.sent().len();
    assert_eq!(queued, 10, "what was queued is queued again");
    registrar.run(&job.text()).await.unwrap();
    shop.settle().await;
    assert_eq!(shop.here().len(), 30);
}

#[tokio::test]
async fn a_connection_that_is_paused_is_fetched_no_further() {
    let (mut shop, _store) = shop_with_products(300, 10);
    shop.connect(json!({ "polls": { "order": 0, "customer": 0, "coupon": 0 } })).await;
    let registrar = shop.world.registrar();
    let (check, _) = shop.world.queues.next_job().unwrap();
    registrar.run(&check.text()).await.unwrap();
    let (job, _) = shop.world.queues.next_job().unwrap();
    registrar.run(&job.text()).await.unwrap();
    let run = shop.cursor(EntityKind::Product).unwrap().run.unwrap();
    assert_eq!((run.pages, run.found), (1, 10), "a job fetches a page, and leaves the rest to the next");
    // At 120 pulls a minute, ten take five seconds.
    assert_eq!(shop.world.queues.jobs(), [(job.clone(), 5)], "when the page can have been pulled");
    registrar.run(&job.text()).await.unwrap();
    assert_eq!(shop.cursor(EntityKind::Product).unwrap().run, Some(run), "one that comes too early is another one");
    let mut connection = shop.world.tables.connection(&shop.key).connection.unwrap();
    let active = connection.clone();
    connection.status = ConnectionStatus::Paused;
    shop.world.tables.connect(&shop.key, connection);
    let sent = shop.world.queues.sent().len();
    registrar.run(&job.text()).await.unwrap();
    assert_eq!((shop.world.queues.sent().len(), shop.cursor(EntityKind::Product).unwrap().run), (sent, None));
    shop.world.tables.connect(&shop.key, active);
    shop.check().await;
    assert_eq!(shop.here().len(), 300);
}

#[tokio::test]
async fn a_run_that_lost_its_job_is_gone_on_with() {
    let (mut shop, _store) = shop_with_products(30, 10);
    shop.connect(json!({})).await;
    let (check, _) = shop.world.queues.next_job().unwrap();
    shop.world.registrar().run(&check.text()).await.unwrap();
    while shop.world.queues.next_job().is_some() {}
    shop.check().await;
    assert_eq!(shop.here().len(), 0, "it may yet come");
    shop.world.clock.pass_seconds(HOUR);
    shop.check().await;
    assert_eq!(shop.here().len(), 30);
}

#[tokio::test]
async fn a_store_that_is_too_old_is_still_gone_through_in_full() {
    let (mut shop, store) = shop_with_products(30, 10);
    store.grow_old();
    shop.connect(json!({})).await;
    shop.settle().await;
    assert_eq!(shop.here().len(), 30);
    store.set("products", 31, product(31, "2.00", &written(&shop.world)));
    shop.world.clock.pass_seconds(2 * HOUR);
    shop.check().await;
    assert!(!shop.here().contains("product#31"), "it does not tell what has changed");
    assert_eq!(shop.cursor(EntityKind::Product).unwrap().run, None, "nothing stays that would cover what comes");
    shop.world.clock.pass_seconds(22 * HOUR);
    shop.check().await;
    assert_eq!(shop.here().len(), 31, "once a day it is gone through as a whole");
}

#[tokio::test]
async fn a_sweep_that_is_not_all_there_deletes_nothing() {
    let (mut shop, store) = shop_with_products(30, 10);
    shop.connect(json!({})).await;
    shop.settle().await;
    (1..=30).for_each(|id| store.set("products", id, None));
    let sent = shop.world.queues.sent();
    let swept = sent.iter().find(|(sealed, _)| sealed.text().contains(r#""swept":{"entity":"product""#)).unwrap();
    // Nothing is noted of another run.
    let begun = shop.cursor(EntityKind::Product).unwrap().swept.unwrap().micros();
    let other = swept.0.text().replace(&begun.to_string(), &(begun + 1).to_string());
    let report = shop.world.process(&[world::message(1, &other)]).await;
    assert_eq!(world::outcomes(&report), ["ignored: sweep-incomplete"]);
    let report = shop.world.process(&[world::message(1, swept.0.text())]).await;
    assert_eq!(world::outcomes(&report), ["split: 0"], "all of them were among it");
}

#[tokio::test]
async fn a_quota_is_kept() {
    let mut kept = None;
    let mut shop = Shop::new(3, |world| {
        let simulator = Arc::new(bigcommerce::Simulator::new(world.clock.function(), true));
        simulator.set_page_size(2);
        kept = Some(Arc::clone(&simulator));
        simulator
    });
    shop.changes(400);
    shop.connect(json!({})).await;
    shop.settle().await;
    // The platform's windows are not ours, so two of ours can briefly fall into one of its own.
    assert!(kept.unwrap().over_quota() <= 5);
    shop.compare(3).await;
}

#[tokio::test]
async fn what_has_changed_is_asked_for_in_whole_seconds() {
    for seed in 0..4 {
        for mut shop in shops(seed) {
            shop.world.clock.pass_micros(600_000);
            // Changes come in every second around the one from which they will be asked for.
            shop.changes(400);
            shop.world.clock.pass_seconds(540);
            shop.connect(json!({})).await;
            shop.lose_hooks();
            shop.settle().await;
            shop.world.clock.pass_seconds(2 * HOUR);
            shop.check().await;
            let mapping = find(PLATFORMS, shop.simulator.platform()).unwrap().mapping;
            for processor in mapping.processors().iter().filter(|one| one.polling == Some(Polling::Incremental)) {
                let cursor = shop.cursor(processor.entity).unwrap();
                assert!(cursor.run.is_none() && cursor.since > cursor.swept, "seed {seed}: {cursor:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_was_missed_is_not_covered_by_what_began_before() {
    let (mut shop, store) = shop_with_products(30, 10);
    shop.connect(json!({ "polls": { "order": 0, "customer": 0, "coupon": 0 } })).await;
    let registrar = shop.world.registrar();
    for _ in 0..2 {
        let (job, _) = shop.world.queues.next_job().unwrap();
        registrar.run(&job.text()).await.unwrap();
    }
    shop.world.drain(0).await;
    assert!(shop.here().contains("product#1"), "it was on the first page");
    let hook = store.webhooks().into_iter().find(|hook| hook.topic == "product.deleted").unwrap();
    store.edit_webhook(hook.id, |hook| hook.status = "disabled".into());
    store.set("products", 1, None);
    let check = Job::check(&shop.key, Trigger::Schedule);
    registrar.run(&check.text()).await.unwrap();
    let run = shop.cursor(EntityKind::Product).unwrap().run.unwrap();
    assert_eq!(
        (run.fetch, run.pages, run.again),
        (Fetch::Backfill, 1, Some(Fetch::Full)),
        "it goes on, and comes again"
    );
    shop.settle().await;
    assert_eq!((shop.here().len(), shop.cursor(EntityKind::Product).unwrap().run), (29, None));
    assert!(!shop.here().contains("product#1"));
}

#[tokio::test]
async fn what_was_queued_for_nothing_is_queued_again() {
    for (done, paused) in [(false, false), (true, false), (false, true), (true, true)] {
        let (mut shop, _store) = shop_with_products(30, 10);
        shop.connect(json!({})).await;
        if done {
            shop.world.run_jobs().await;
            assert_eq!(shop.cursor(EntityKind::Product).unwrap().run, None);
        } else {
            for _ in 0..2 {
                let (job, _) = shop.world.queues.next_job().unwrap();
                shop.world.registrar().run(&job.text()).await.unwrap();
            }
        }
        let (registrar, platform) = (shop.world.registrar(), find(PLATFORMS, &shop.key.platform).unwrap());
        if paused {
            registrar.pause(platform, &shop.key).await.unwrap();
            shop.settle().await;
            assert_eq!(shop.here().len(), 0, "it is ignored");
            shop.world.clock.pass_seconds(HOUR);
            registrar.resume(platform, &shop.key).await.unwrap();
        } else {
            registrar.revoke(platform, &shop.key, None).await.unwrap();
        }
        shop.settle().await;
        assert_eq!(shop.here().len(), 30, "done: {done}, paused: {paused}");
        assert!(shop.differences.is_empty(), "and is no loss: {:?}", shop.differences);
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_left_to_the_next_check() {
    let (mut shop, _store) = shop_with_products(30, 10);
    shop.connect(json!({ "polls": { "order": 0, "customer": 0, "coupon": 0 } })).await;
    let (check, _) = shop.world.queues.next_job().unwrap();
    shop.world.registrar().run(&check.text()).await.unwrap();
    let begun = shop.cursor(EntityKind::Product);
    shop.simulator.trouble(&[Trouble::Broken; 6]);
    let mut jobs = 0;
    while let Some((job, delay)) = shop.world.queues.next_job() {
        shop.world.clock.pass_seconds(i64::from(delay));
        shop.world.registrar().run(&job.text()).await.expect("a job that does not come back");
        jobs += 1;
    }
    let after = shop.cursor(EntityKind::Product).unwrap();
    assert_eq!((jobs, after.run), (6, begun.unwrap().run), "for half an hour, and then no more");
    assert_eq!(after.stopped.unwrap().why, "the platform answered 500", "and then people should know");
    shop.world.clock.pass_seconds(HOUR);
    shop.check().await;
    assert_eq!(shop.here().len(), 30);
}

#[tokio::test]
async fn a_platform_that_wants_to_be_left_alone_is_called_by_one_job() {
    let (mut shop, _store) = shop_with_products(30, 10);
    shop.connect(json!({ "polls": { "order": 0, "customer": 0, "coupon": 0 } })).await;
    let (check, _) = shop.world.queues.next_job().unwrap();
    shop.world.registrar().run(&check.text()).await.unwrap();
    let (job, _) = shop.world.queues.next_job().unwrap();
    shop.world.clock.pass_seconds(2 * HOUR);
    shop.simulator.trouble(&[Trouble::TooMany(600)]);
    shop.world.registrar().run(&job.text()).await.unwrap();
    let run = shop.cursor(EntityKind::Product).unwrap().run.unwrap();
    assert_eq!(run.at.seconds(), shop.world.clock.now().seconds() + 600);
    assert_eq!(shop.world.queues.jobs(), [(job.clone(), 600)]);
    shop.world.registrar().run(&check.text()).await.unwrap();
    assert_eq!(shop.world.queues.jobs(), [(job, 600)], "no other one");
    shop.settle().await;
    assert_eq!(shop.here().len(), 30);
}

#[tokio::test]
async fn a_list_that_is_longer_than_any_is_not_queued() {
    let (mut shop, _store) = shop_with_products(3, 10);
    shop.connect(json!({ "polls": { "order": 0, "customer": 0, "coupon": 0 } })).await;
    shop.simulator.floods.store(true, Ordering::SeqCst);
    shop.settle().await;
    assert!(shop.world.queues.sent().is_empty(), "{:?}", shop.world.queues.sent().len());
    let run = shop.cursor(EntityKind::Product).unwrap().run.unwrap();
    assert_eq!((run.fetch, run.pages), (Fetch::Backfill, 0));
    shop.simulator.floods.store(false, Ordering::SeqCst);
    shop.world.clock.pass_seconds(HOUR);
    shop.check().await;
    assert_eq!(shop.here().len(), 3);
}

#[tokio::test]
async fn what_is_polled_more_often_than_the_schedule_comes_has_one_job() {
    let (mut shop, _store) = shop_with_products(3, 10);
    shop.connect(json!({ "polls": { "product": 600, "order": 0, "customer": 0, "coupon": 0 } })).await;
    let begin = shop.world.clock.now();
    let (mut coming, mut runs) = (Vec::<(i64, Job)>::new(), BTreeSet::new());
    let check = Job::check(&shop.key, Trigger::Schedule);
    // A sweep comes each hour, some minutes early or late, and one job is lost.
    let checks = (0..10).map(|hour| (begin.seconds() + hour * HOUR + (hour % 3) * 180, check.clone()));
    coming.extend(checks);
    let lost_at = begin.seconds() + 5 * HOUR + HOUR / 2;
    let mut lost = false;
    while !coming.is_empty() {
        coming.sort_by_key(|(at, _)| *at);
        let (at, job) = coming.remove(0);
        let now = shop.world.clock.now().seconds();
        shop.world.clock.pass_seconds((at - now).max(0));
        if at >= begin.seconds() + 10 * HOUR {
            break;
        }
        if matches!(job, Job::Poll { .. }) && at > lost_at && !lost {
            lost = true;
            continue;
        }
        shop.world.registrar().run(&job.text()).await.unwrap();
        let now = shop.world.clock.now().seconds();
        while let Some((job, delay)) = shop.world.queues.next_job() {
            coming.push((now + i64::from(delay), job));
        }
        let polls = coming.iter().filter(|(_, job)| matches!(job, Job::Poll { .. })).count();
        assert!(polls <= 1, "{coming:?}");
        runs.extend(shop.cursor(EntityKind::Product).and_then(|cursor| cursor.since));
    }
    let during = |from: i64, to: i64| {
        let hours = |run: &&Timestamp| (from * HOUR..to * HOUR).contains(&(run.seconds() - begin.seconds()));
        runs.iter().filter(hours).count()
    };
    assert!((27..=31).contains(&during(0, 5)), "{}", during(0, 5));
    assert!(lost && during(5, 7) < 11, "one was lost: {}", during(5, 7));
    assert!((11..=13).contains(&during(8, 10)), "the schedule began another one: {}", during(8, 10));
}

/// Returns each platform that can be polled, with the handle for its webhooks.
fn hooked_shops(seed: u64) -> Vec<(Shop, Hooked)> {
    let (mut big, mut blue, mut other) = (None, None, None);
    let mut shops = Vec::new();
    let shop = Shop::new(seed, |world| {
        let simulator = Arc::new(bigcommerce::Simulator::new(world.clock.function(), true));
        simulator.set_page_size(20);
        big = Some(Arc::clone(&simulator));
        simulator
    });
    shops.push((shop, Hooked::Big(big.unwrap())));
    let shop = Shop::new(seed, |world| {
        let simulator = Arc::new(cloudblue::Connect::new(world.clock.function()));
        simulator.set_page_size(7);
        blue = Some(Arc::clone(&simulator));
        simulator
    });
    shops.push((shop, Hooked::Blue(blue.unwrap())));
    let shop = Shop::new(seed, |world| {
        let simulator = Arc::new(shopify::Shop::new(world.clock.function()));
        simulator.set_page_size(9);
        other = Some(Arc::clone(&simulator));
        simulator
    });
    shops.push((shop, Hooked::Shop(other.unwrap())));
    let (shop, store) = shop_with_products(0, 7);
    shops.push((shop, Hooked::Woo(store)));
    shops
}

/// Returns the topic, the address and the activity of each webhook that delivers to us.
fn hooks_here(hooked: &Hooked) -> Vec<(String, String, bool)> {
    let here = hooked.hooks().into_iter().filter(|hook| hook.url.starts_with(world::BASE));
    here.map(|hook| (hook.scope, hook.url, hook.active)).collect()
}

#[tokio::test]
async fn what_hooks_lost_while_they_were_not_right_is_found_when_they_are_again() {
    for seed in 0..3 {
        for (mut shop, hooked) in hooked_shops(seed) {
            shop.changes(60);
            shop.connect(json!({})).await;
            shop.lose_hooks();
            shop.settle().await;
            let wanted = hooks_here(&hooked);
            shop.world.clock.pass_seconds(HOUR);
            shop.changes(5);
            shop.deliver_hooks().await;
            shop.check().await;
            // Four webhooks of entities that can be polled: one off, one gone, one duplicated, one elsewhere.
            let platform = find(PLATFORMS, shop.simulator.platform()).unwrap();
            let delivers = |scope: &str| platform.setup.webhooks().unwrap().delivers(scope).to_owned();
            let polled = shop.polled();
            let mut ours = hooked.hooks();
            ours.retain(|hook| match resolve(platform, &delivers(&hook.scope)) {
                Resolved::Entity(entity, _) => polled.contains(&entity),
                _ => false,
            });
            let place = usize::try_from(seed).unwrap() * 3 % (ours.len() - 3);
            hooked.give_up(&ours[place].id);
            hooked.remove(&ours[place + 1].id);
            hooked.double(&ours[place + 2]);
            hooked.move_to(&ours[place + 3].id, "https://elsewhere.example.com/hooks");
            shop.changes(60);
            // The duplicate has another secret.
            shop.deliver_hooks_to(&[200, 401]).await;
            shop.settle().await;
            shop.world.clock.pass_seconds(HOUR);
            for _ in 0..2 {
                shop.check().await;
                shop.deliver_hooks_to(&[200, 401]).await;
                shop.settle().await;
            }
            assert_eq!(hooks_here(&hooked), wanted, "{}", shop.key);
            assert_eq!(hooked.hooks().len(), wanted.len(), "{}: none is left elsewhere", shop.key);
            shop.compare(seed).await;
        }
    }
}

#[tokio::test]
async fn what_changes_without_its_parent_s_time_is_found_too_when_its_hook_was_off() {
    let parts = [("bigcommerce", "store/customer/address/"), ("shopify", "inventory_levels/")];
    for (seed, (platform, part)) in (0..3).flat_map(|seed| parts.map(|part| (seed, part))) {
        let found = hooked_shops(seed).into_iter().find(|(shop, _)| shop.key.platform == platform);
        let (mut shop, hooked) = found.unwrap();
        shop.changes(60);
        shop.connect(json!({})).await;
        shop.lose_hooks();
        shop.settle().await;
        let parts: Vec<_> = hooked.hooks().into_iter().filter(|hook| hook.scope.starts_with(part)).collect();
        assert!(!parts.is_empty(), "{platform}");
        parts.iter().for_each(|hook| hooked.give_up(&hook.id));
        shop.changes(100);
        shop.deliver_hooks().await;
        shop.settle().await;
        shop.world.clock.pass_seconds(HOUR);
        shop.check().await;
        shop.compare(seed).await;
    }
}

#[tokio::test]
async fn what_was_missed_while_a_hook_was_off_is_looked_for_in_all() {
    let (mut shop, store) = shop_with_products(3, 10);
    shop.connect(json!({})).await;
    shop.settle().await;
    shop.world.clock.pass_seconds(3 * HOUR);
    // This is the webhook's last delivery.
    let at = written(&shop.world);
    let hook = store.webhooks().into_iter().find(|hook| hook.topic == "product.updated").unwrap();
    let body = product(1, "2.00", &at).unwrap().to_string();
    assert_eq!(store.deliver_to(&hook, &body).await, 200);
    shop.settle().await;
    for _ in 0..3 {
        shop.world.clock.pass_seconds(HOUR);
        shop.check().await;
    }
    store.edit_webhook(hook.id, |hook| hook.status = "disabled".into());
    // The other webhooks stayed on but delivered nothing either: a delete is in no list of changes.
    store.set("products", 2, None);
    let check = Job::check(&shop.key, Trigger::Schedule);
    shop.world.registrar().run(&check.text()).await.unwrap();
    assert_eq!(shop.cursor(EntityKind::Product).unwrap().run.unwrap().fetch, Fetch::Full);
    shop.settle().await;
    assert!(!shop.here().contains("product#2") && shop.here().contains("product#1"));
}

#[tokio::test]
async fn a_full_run_that_stands_still_for_a_day_gives_way() {
    let (mut shop, _store) = shop_with_products(30, 10);
    shop.connect(json!({ "polls": { "order": 0, "customer": 0, "coupon": 0 } })).await;
    let (check, _) = shop.world.queues.next_job().unwrap();
    shop.world.registrar().run(&check.text()).await.unwrap();
    let poll = Job::Poll { key: shop.key.clone(), entity: EntityKind::Product };
    let stands = async |shop: &Shop, hours: i64| {
        while shop.world.queues.next_job().is_some() {}
        shop.world.clock.pass_seconds(hours * HOUR);
        shop.simulator.trouble(&[Trouble::Broken]);
        shop.world.registrar().run(&poll.text()).await.unwrap();
        shop.cursor(EntityKind::Product).unwrap()
    };
    assert!(stands(&shop, 23).await.run.is_some());
    let given_up = stands(&shop, 2).await;
    assert!(given_up.run.is_none() && given_up.since.is_some(), "{given_up:?}");
    // Incremental syncs go on in the meantime, and the next full sync comes at its time.
    shop.world.clock.pass_seconds(2 * HOUR);
    shop.check().await;
    let polled = shop.cursor(EntityKind::Product).unwrap();
    assert!(polled.since > given_up.since && polled.swept == given_up.swept, "{polled:?}");
    shop.world.clock.pass_seconds(7 * 24 * HOUR);
    shop.check().await;
    assert_eq!(shop.here().len(), 30);
}

/// Returns a connection as the admin interface shows it, and its list of polls.
async fn shown(shop: &Shop) -> (Value, Value) {
    let (platform, connection) = (shop.simulator.platform(), shop.simulator.connection());
    let (status, shown) = shop.world.admin_of(platform, "GET", &connection, "", "").await;
    assert_eq!(status, 200, "{shown}");
    let (status, polls) = shop.world.admin_of(platform, "GET", &format!("{connection}/polls"), "", "").await;
    assert_eq!(status, 200, "{polls}");
    (shown, polls["polls"].clone())
}

fn of<'p>(polls: &'p Value, entity: &str) -> &'p Value {
    polls.as_array().unwrap().iter().find(|row| row["entity"] == entity).unwrap()
}

#[tokio::test]
async fn what_cannot_be_fetched_is_seen_until_it_can() {
    let (mut shop, _store) = shop_with_products(3, 100);
    *shop.simulator.refused.lock().unwrap() = Some("/products");
    shop.connect(json!({})).await;
    let began = shop.world.clock.now();
    shop.settle().await;
    for _ in 0..3 {
        shop.world.clock.pass_seconds(HOUR);
        shop.check().await;
    }
    let (connection, polls) = shown(&shop).await;
    let stopped = &of(&polls, "product")["stopped"];
    assert!(stopped["why"].as_str().unwrap().contains("403"), "{stopped}");
    let since: Timestamp = commerce::timestamp::parse_utc(stopped["since"].as_str().unwrap()).unwrap().into();
    assert!(since >= began && since < began.plus_seconds(HOUR), "since the first time: {stopped}");
    assert_eq!(of(&polls, "order")["stopped"], Value::Null);
    assert_eq!(connection["status"], "active");
    assert_eq!(connection["stopped"][0]["entity"], "product");
    // Polling resumes by itself.
    *shop.simulator.refused.lock().unwrap() = None;
    shop.world.clock.pass_seconds(HOUR);
    shop.check().await;
    assert_eq!(shop.here().len(), 3);
    let (connection, polls) = shown(&shop).await;
    assert_eq!((&of(&polls, "product")["stopped"], &connection["stopped"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn deletes_that_nobody_told_of_show_in_the_count() {
    let (mut shop, store) = shop_with_products(12, 100);
    store.set("products", 100, Some(json!({ "id": 100, "parent_id": 1, "name": "S", "type": "variation" })));
    shop.connect(json!({})).await;
    shop.settle().await;
    shop.lose_hooks();
    for id in [3, 5] {
        store.set("products", id, None);
    }
    // The next incremental sync counts them. The full sync waits for a day, because the last one was so recent.
    shop.world.clock.pass_seconds(2 * HOUR);
    shop.check().await;
    assert!(shop.here().contains("product#3"), "{:?}", shop.here());
    shop.world.clock.pass_seconds(23 * HOUR);
    shop.check().await;
    assert!(!shop.here().contains("product#3") && !shop.here().contains("product#5"), "{:?}", shop.here());
    let swept = shop.cursor(EntityKind::Product).unwrap().swept;
    // If the counts agree, no full sync comes before its time.
    shop.world.clock.pass_seconds(25 * HOUR);
    shop.check().await;
    assert_eq!(shop.cursor(EntityKind::Product).unwrap().swept, swept);
}
