//! Fetching: the first import, what hooks did not tell, what is gone, and how much of it there was. In the end the table says what the
//! platforms' APIs say, whatever goes wrong meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use cloud::{coordination::Coordination, memory::TableFault, queue::Jobs};
use commerce::{
    api::{ApiRequest, ApiResponse, Fault},
    connection::{ConnectionKey, ConnectionStatus, Cursor},
    entity::EntityKind,
    envelope::{Envelope, IMPORT},
    item::Item,
    job::{Cause, Job},
    loss::{DIFFERENCES, Differences},
    platforms::{PLATFORMS, find},
    request::HookPath,
};
use futures_util::future::BoxFuture;
use http::Method;
use processor::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tests::{
    platforms::{Delivery, Simulator, Trouble, Truth, bigcommerce, cloudblue, woocommerce::Store},
    truth::Connected,
    world::{self, Outside, World, gateway_event, request},
};

const SITE: &str = "http://127.0.0.1:20000";
const HOUR: i64 = 3600;
const WEEK: i64 = 7 * 24 * HOUR;

/// A simulated platform in which something happens while its lists are gone through.
struct Busy {
    inner: Arc<dyn Simulator>,
    random: Mutex<StdRng>,
    busy: AtomicBool,
}

impl Simulator for Busy {
    fn platform(&self) -> &'static str {
        self.inner.platform()
    }
    fn connection(&self) -> String {
        self.inner.connection()
    }
    fn settings(&self, site: &str) -> Value {
        self.inner.settings(site)
    }
    fn subscribe(&self, delivery_url: &str, secret: &dyn Fn(&str) -> String) {
        self.inner.subscribe(delivery_url, secret);
    }
    fn change(&self, random: &mut StdRng) {
        self.inner.change(random);
    }
    fn outbox(&self) -> Vec<Delivery> {
        self.inner.outbox()
    }
    fn answered(&self, delivery: &Delivery, status: u16) {
        self.inner.answered(delivery, status);
    }
    fn answer<'a>(&'a self, request: &'a ApiRequest) -> BoxFuture<'a, Result<ApiResponse, Fault>> {
        if self.busy.load(Ordering::SeqCst) && request.method == Method::GET {
            let mut random = self.random.lock().unwrap();
            if random.random_ratio(1, 2) {
                self.inner.change(&mut random);
            }
        }
        self.inner.answer(request)
    }
    fn trouble(&self, troubles: &[Trouble]) {
        self.inner.trouble(troubles);
    }
    fn entities(&self) -> Vec<(EntityKind, String, Truth)> {
        self.inner.entities()
    }
    fn calls(&self) -> Vec<String> {
        self.inner.calls()
    }
}

/// A platform, and the bundle.
struct Shop {
    world: World,
    simulator: Arc<Busy>,
    key: ConnectionKey,
    random: StdRng,
    taken: usize,
    /// What was found to differ, by kind of entity: missed, stale, unmapped.
    differences: BTreeMap<String, (u64, u64, u64)>,
}

impl Shop {
    fn new(seed: u64, make: impl FnOnce(&World) -> Arc<dyn Simulator>) -> Self {
        let mut world = World::new();
        world.allow_loopback = true;
        let (inner, random) = (make(&world), Mutex::new(StdRng::seed_from_u64(seed + 1000)));
        let simulator = Arc::new(Busy { inner, random, busy: AtomicBool::new(false) });
        let shared: Arc<dyn Simulator> = simulator.clone();
        world.outside = Outside::Simulated(vec![(SITE.to_owned(), shared)]);
        let key = HookPath::parse(simulator.platform(), &simulator.connection(), None).unwrap().key;
        let random = StdRng::seed_from_u64(seed);
        Self { world, simulator, key, random, taken: 0, differences: BTreeMap::new() }
    }

    fn changes(&mut self, count: usize) {
        for _ in 0..count {
            self.simulator.change(&mut self.random);
            let seconds = self.random.random_range(0..3);
            self.world.clock.pass_seconds(seconds);
        }
    }

    async fn connect(&mut self, more: Value) {
        let mut settings = self.simulator.settings(SITE);
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (platform, connection) = (self.simulator.platform(), self.simulator.connection());
        let (status, shown) = self.world.admin_of(platform, "PUT", &connection, "", &settings.to_string()).await;
        assert_eq!(status, 200, "{shown}");
    }

    /// What hooks tell goes nowhere.
    fn lose_hooks(&self) {
        self.simulator.outbox();
    }

    async fn deliver_hooks(&self) {
        for delivery in self.simulator.outbox() {
            self.world.clock.pass_seconds(1);
            let event = gateway_event(&delivery, self.world.clock.now()).unwrap();
            let status = self.world.receiver.receive(request(&event)).await.status().as_u16();
            assert_eq!(status, 200);
            self.simulator.answered(&delivery, status);
        }
    }

    /// Looks after the connection, as the schedule does, and lets everything that follows from it come to its end.
    async fn check(&mut self) {
        let job = Job::check(&self.key, Cause::Schedule);
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
                let number = |name: &str| line[name].as_u64().unwrap();
                let counts = self.differences.entry(line["entity"].as_str().unwrap().to_owned()).or_default();
                counts.0 += number("missed");
                counts.1 += number("stale");
                counts.2 += number("unmapped");
            }
            waiting.retain(|message| report.failures.contains(&message.id));
            waiting.iter_mut().for_each(|message| message.attempts += 1);
            // What was put off or failed has its time; the others do not mind.
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
        let mapping = find(PLATFORMS, self.simulator.platform()).unwrap().mapping;
        let kinds = mapping.processors().iter().map(|processor| processor.entity);
        kinds.filter(|kind| mapping.poll(*kind, None).is_some()).collect()
    }

    /// Those that are there at the platform and can be listed, by their sort keys.
    fn there(&self) -> BTreeSet<String> {
        let (polled, entities) = (self.polled(), self.simulator.entities());
        let there = entities.into_iter().filter(|(kind, _, truth)| *truth == Truth::Api && polled.contains(kind));
        there.map(|(kind, id, _)| format!("{kind}#{id}")).collect()
    }

    /// Those that are here, by their sort keys.
    fn here(&self) -> BTreeSet<String> {
        let items = self.world.tables.items().into_iter().filter(|item| item.pk == self.key.to_string());
        items.filter(|item| !item.deleted).map(|item| item.sk).collect()
    }

    /// Compares what can be polled with what the API says; gives how many there are.
    async fn compare(&self, seed: u64) -> usize {
        let connected = Connected::new(&*self.simulator, SITE);
        let items: BTreeMap<String, Item> =
            self.world.tables.items().into_iter().map(|item| (item.sk.clone(), item)).collect();
        let (polled, clock) = (self.polled(), self.world.clock.function());
        let mut count = 0;
        for (kind, id, truth) in self.simulator.entities().into_iter().filter(|(kind, ..)| polled.contains(kind)) {
            self.world.clock.pass_seconds(2);
            let key = connected.entity(kind, &id);
            let same = connected.compare(&key, &truth, items.get(&key.sort()), &*clock).await;
            assert_eq!(same, Ok(()), "seed {seed}");
            count += 1;
        }
        count
    }
}

/// Each platform that can be polled, with small pages.
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
        Shop::new(seed, |world| store(world, 7)),
    ]
}

fn store(world: &World, page_size: usize) -> Arc<dyn Simulator> {
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
            // A message is not taken, and cursors are not written when what they move over is queued.
            shop.world.queues.refuse_next(2);
            shop.world.tables.break_next([TableFault::CursorRefused; 3]);
            shop.settle().await;
            // What a look at the connection could not do, the next one does.
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
            // What came and changed meanwhile is found later, and what went with it.
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
            // Customers of one platform and categories of another are only found by a sweep.
            let late = |id: &String| id.starts_with("customer#") || id.starts_with("category#");
            assert!(new.iter().all(late), "{}: {new:?}", shop.key);
            shop.world.clock.pass_seconds(WEEK);
            shop.check().await;
            shop.compare(seed).await;
            let missed: u64 = shop.differences.values().map(|counts| counts.0).sum();
            assert!(missed > 0, "{}: {:?}", shop.key, shop.differences);
        }
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
    let (mut shop, store) = shop_with_products(9, 4);
    shop.connect(json!({})).await;
    shop.settle().await;
    assert_eq!(shop.here().len(), 9);
    shop.world.clock.pass_seconds(HOUR);
    let at = written(&shop.world);
    store.set("products", 1, product(1, "2.00", &at));
    store.set("products", 2, product(2, "2.00", &at));
    store.set("products", 10, product(10, "2.00", &at));
    store.set("products", 3, None);
    // The same as before, dated anew; nothing that can be read; and too young to be lost.
    store.set("products", 11, Some(json!({ "id": 11, "name": {}, "categories": "none", "date_modified_gmt": at })));
    shop.world.clock.pass_seconds(2 * HOUR);
    let young = written(&shop.world);
    store.set("products", 12, product(12, "2.00", &young));
    shop.check().await;
    assert_eq!(shop.differences.get("product"), Some(&(1, 2, 1)));
    assert!(shop.here().contains("product#12") && shop.here().contains("product#3"));
    shop.world.clock.pass_seconds(WEEK);
    shop.check().await;
    assert!(!shop.here().contains("product#3"));
    // The one that cannot be read is found again, and so is the one that is gone.
    assert_eq!(shop.differences.get("product"), Some(&(2, 2, 2)));
    let note = shop.world.tables.note(&shop.key, &format!("{DIFFERENCES}product")).await.unwrap().unwrap();
    let total = Differences::read(&note.body).unwrap();
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
        // The tenth message of a page and the end are as good as the first.
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
    assert_eq!((run.pages, run.found), (10, 100), "a job fetches so many pages, and leaves the rest to the next");
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
    shop.world.clock.pass_seconds(WEEK);
    shop.check().await;
    assert_eq!(shop.here().len(), 31);
}

#[tokio::test]
async fn a_sweep_that_is_not_all_there_deletes_nothing() {
    let (mut shop, store) = shop_with_products(30, 10);
    shop.connect(json!({})).await;
    shop.settle().await;
    (1..=30).for_each(|id| store.set("products", id, None));
    let sent = shop.world.queues.sent();
    let swept = sent.iter().find(|(sealed, _)| sealed.text().contains(r#""swept":{"entity":"product""#)).unwrap();
    // Of another run, nothing is noted.
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
    // Its stretches of time are not ours, so for a moment two of ours can fall into one.
    assert!(kept.unwrap().over_quota() <= 5);
    shop.compare(3).await;
}
