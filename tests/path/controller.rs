//! The controller: after any damage to a connection's webhooks, and any failed call of the repair, the next sweep makes
//! them what they should be.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use cloud::{
    connections::Connections,
    coordination::{Coordination, Note},
};
use commerce::{
    activity::Activity,
    connection::{Connection, ConnectionStatus, Retention},
    entity::EntityKind,
    health::{Verdict, WebhookRecord},
    http_call::{ApiRequest, ApiResponse, Fault, Loopback},
    job::{Job, Trigger},
    key::{ConnectionKey, Generation},
    platform::{
        Platform, find,
        mapping::{Incoming, MapError, Mapped, Mapping, Resolved, declared_scopes, processor, resolve},
        notice::{NOTICE, Notice, UNINSTALLED},
    },
    platforms,
    request::WebhookPath,
    timestamp::Timestamp,
    transfer::EntityProcessor,
};
use futures_util::future::BoxFuture;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tests::{
    platforms::{
        Delivery, Simulator, Trouble, Wrapper, bigcommerce, changing, cloudblue, page, reads, shopify,
        woocommerce::Store,
    },
    world::{
        self, BASE, Direct, Outside, World, delivered, gateway_event, message, outcomes, request, shown, signs_by_app,
    },
};

const SITE: &str = "http://127.0.0.1:20000";
const ELSEWHERE: &str = "https://elsewhere.example.com/hooks";
const DAY: i64 = 86_400;
/// A generation that no connection of these tests has.
const ANOTHER_GENERATION: u32 = 7;

/// The way in which a call fails.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Status(u16),
    /// The platform's own way to ask the caller to wait.
    TooMany,
    AnswerLost,
    TimeOut,
    /// A refusal, if the call would make something.
    NotMade,
}

/// The number that stands for every call.
const EVERY: usize = usize::MAX;

/// A platform whose calls can fail, or have something else happen in between.
struct Faulty {
    inner: Arc<dyn Simulator>,
    wrong: Mutex<Option<(usize, Wrong)>>,
    meanwhile: Mutex<Option<(usize, BoxFuture<'static, ()>)>>,
    seen: AtomicUsize,
}

impl Faulty {
    /// Makes the call with this number fail, counted from now, or [`EVERY`] call; with `None`, no call.
    fn wrong(&self, wrong: Option<(usize, Wrong)>) {
        self.seen.store(0, Ordering::SeqCst);
        *self.wrong.lock().unwrap() = wrong;
    }
}

impl Wrapper for Faulty {
    fn inner(&self) -> &dyn Simulator {
        &*self.inner
    }

    fn respond<'a>(&'a self, request: &'a ApiRequest) -> BoxFuture<'a, Result<ApiResponse, Fault>> {
        let number = self.seen.fetch_add(1, Ordering::SeqCst);
        let wrong = self.wrong.lock().unwrap().filter(|(at, _)| [number, EVERY].contains(at)).map(|(_, wrong)| wrong);
        let meanwhile = self.meanwhile.lock().unwrap().take_if(|(at, _)| *at == number);
        Box::pin(async move {
            if let Some((_, meanwhile)) = meanwhile {
                meanwhile.await;
            }
            match wrong {
                Some(Wrong::NotMade) if request.method == "POST" && !reads(request) => Ok(page(422, "<html>no</html>")),
                None | Some(Wrong::NotMade) => self.inner.answer(request).await,
                Some(Wrong::Status(status)) => Ok(page(status, "<html>no</html>")),
                Some(Wrong::TooMany) => {
                    self.inner.trouble(&[Trouble::TooMany(5)]);
                    self.inner.answer(request).await
                }
                Some(Wrong::TimeOut) => Err(Fault::Unavailable("no answer in time".into())),
                Some(Wrong::AnswerLost) => {
                    let _ = self.inner.answer(request).await;
                    Err(Fault::Unavailable("the answer was lost".into()))
                }
            }
        })
    }
}

/// A simulated platform, with the changes that a merchant or the platform itself can make to its webhooks.
pub(crate) enum Hooked {
    Woo(Store),
    Big(Arc<bigcommerce::Simulator>),
    Blue(Arc<cloudblue::Connect>),
    Shop(Arc<shopify::Shop>),
}

/// A webhook at its platform.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hook {
    pub scope: String,
    pub url: String,
    pub active: bool,
    pub id: String,
    /// The secret that it signs with, or sends along; empty where the app's own secret signs.
    secret: String,
}

impl Hooked {
    pub(crate) fn hooks(&self) -> Vec<Hook> {
        let hook = |id: String, scope: String, url: String, active: bool, secret: String| Hook {
            scope,
            url,
            active,
            id,
            secret,
        };
        let mut hooks: Vec<_> = match self {
            Self::Woo(store) => (store.webhooks().into_iter())
                .map(|h| hook(h.id.to_string(), h.topic, h.delivery_url, h.status == "active", h.secret))
                .collect(),
            Self::Big(store) => (store.hooks().into_iter())
                .map(|h| hook(h.id.to_string(), h.scope, h.destination, h.is_active, h.headers.to_string()))
                .collect(),
            Self::Blue(connect) => (connect.webhooks().into_iter())
                .map(|h| hook(h.id, format!("{}@{}", h.class, h.product), h.url, h.active, h.secret))
                .collect(),
            Self::Shop(shop) => (shop.hooks().into_iter())
                .map(|h| hook(h.id.to_string(), h.topic, h.uri, true, String::new()))
                .collect(),
        };
        hooks.sort();
        hooks
    }

    /// Returns whether a webhook can be off. If not, the platform removes one whose deliveries fail.
    fn switches(&self) -> bool {
        !matches!(self, Self::Shop(_))
    }

    /// Does to a webhook what the platform does when its deliveries fail: switches it off, or removes it.
    pub(crate) fn give_up(&self, id: &str) {
        match self {
            Self::Woo(store) => store.edit_webhook(id.parse().unwrap(), |hook| hook.status = "disabled".into()),
            Self::Big(store) => store.edit_hook(id.parse().unwrap(), |hook| hook.is_active = false),
            Self::Blue(connect) => connect.edit_webhook(id, |hook| hook.active = false),
            Self::Shop(_) => self.remove(id),
        }
    }

    pub(crate) fn remove(&self, id: &str) {
        match self {
            Self::Woo(store) => store.remove_webhook(id.parse().unwrap()),
            Self::Big(store) => store.remove_hook(id.parse().unwrap()),
            Self::Blue(connect) => connect.remove_webhook(id),
            Self::Shop(shop) => shop.remove_hook(id.parse().unwrap()),
        }
    }

    pub(crate) fn move_to(&self, id: &str, url: &str) {
        match self {
            Self::Woo(store) => store.edit_webhook(id.parse().unwrap(), |hook| hook.delivery_url = url.into()),
            Self::Big(store) => store.edit_hook(id.parse().unwrap(), |hook| hook.destination = url.into()),
            Self::Blue(connect) => connect.edit_webhook(id, |hook| hook.url = url.into()),
            Self::Shop(shop) => shop.edit_hook(id.parse().unwrap(), |hook| hook.uri = url.into()),
        }
    }

    pub(crate) fn add(&self, scope: &str, url: &str) {
        match self {
            Self::Woo(store) => _ = store.add_webhook(scope, url),
            Self::Big(store) => _ = store.hook(scope, url, "theirs"),
            Self::Blue(connect) => {
                let (class, product) = scope.split_once('@').unwrap();
                connect.add_webhook(class, product, url);
            }
            Self::Shop(shop) => shop.add_hook(scope, url),
        }
    }

    /// Makes a second webhook of the same topic for the same connection. At Shopify there is one of each topic and
    /// address, so the second one has the address of another generation.
    pub(crate) fn double(&self, hook: &Hook) {
        let url = match self {
            Self::Shop(_) => format!("{}/{ANOTHER_GENERATION}", hook.url),
            _ => hook.url.clone(),
        };
        self.add(&hook.scope, &url);
    }

    /// Uninstalls the app, as the merchant does.
    fn uninstall(&self) {
        match self {
            Self::Big(store) => store.uninstall(),
            Self::Shop(shop) => shop.uninstall(),
            Self::Woo(_) | Self::Blue(_) => unreachable!("it has no app"),
        }
    }

    /// Makes the app's token invalid.
    fn revoke(&self) {
        match self {
            Self::Big(store) => store.revoke(),
            Self::Shop(shop) => shop.revoke(),
            Self::Woo(_) | Self::Blue(_) => unreachable!("it has no app"),
        }
    }

    /// Replaces the app's token by another one.
    fn replace_token(&self, token: &str) {
        match self {
            Self::Big(store) => store.replace_token(token),
            Self::Shop(shop) => shop.replace_token(token),
            Self::Woo(_) | Self::Blue(_) => unreachable!("it has no app"),
        }
    }
}

pub(crate) struct Place {
    pub(crate) world: World,
    hooked: Hooked,
    faulty: Arc<Faulty>,
    platform: &'static Platform,
    pub(crate) key: ConnectionKey,
}

const PLACES: [&str; 4] = ["woocommerce", "bigcommerce", "cloudblue", "shopify"];
/// The platforms whose webhooks go with the app.
const WITH_APPS: [&str; 2] = ["bigcommerce", "shopify"];

impl Place {
    /// Makes a platform with one webhook of somebody else.
    fn new(name: &str) -> Self {
        let mut world = World::new();
        world.loopback = Loopback::Allowed;
        let clock = world.clock.function();
        let (hooked, inner, scope): (_, Arc<dyn Simulator>, _) = match name {
            "woocommerce" => {
                let wire = Arc::new(Direct(Arc::clone(&world.receiver), world.clock.clone()));
                let store = Store::new(wire, "ck_1", "cs_1").with_clock(clock);
                (Hooked::Woo(store.clone()), Arc::new(store), "order.updated".to_owned())
            }
            "bigcommerce" => {
                let store = Arc::new(bigcommerce::Simulator::new(clock, false));
                (Hooked::Big(Arc::clone(&store)), store, "store/order/updated".to_owned())
            }
            "shopify" => {
                let shop = Arc::new(shopify::Shop::new(clock));
                (Hooked::Shop(Arc::clone(&shop)), shop, "orders/updated".to_owned())
            }
            _ => {
                let connect = Arc::new(cloudblue::Connect::new(clock));
                (Hooked::Blue(Arc::clone(&connect)), connect, format!("fulfillment_request@{}", cloudblue::PRODUCTS[0]))
            }
        };
        hooked.add(&scope, "https://erp.example.com/");
        let platform = find(platforms::PLATFORMS, name).unwrap();
        let key = WebhookPath::parse(name, &inner.connection(), None).unwrap().key;
        let faulty =
            Arc::new(Faulty { inner, wrong: Mutex::new(None), meanwhile: Mutex::new(None), seen: AtomicUsize::new(0) });
        world.outside = Outside::Simulated(vec![(SITE.to_owned(), Arc::clone(&faulty) as Arc<dyn Simulator>)]);
        Self { world, hooked, faulty, platform, key }
    }

    async fn connected(name: &str) -> Self {
        Self::connected_with(name, |_| {}).await
    }

    pub(crate) async fn connected_with(name: &str, change: impl FnOnce(&mut Value)) -> Self {
        let place = Self::new(name);
        let (status, shown) = place.put_with(change).await;
        assert_eq!(status, 200, "{shown}");
        place.run().await;
        place.assert_right("connected");
        // Quotas are counted per half minute, and a healthy connection is left alone for longer.
        place.world.clock.pass_seconds(1800);
        place.faulty.calls();
        place
    }

    async fn put_with(&self, change: impl FnOnce(&mut Value)) -> (u16, Value) {
        let mut settings = self.faulty.settings(SITE);
        change(&mut settings);
        self.admin("PUT", &settings.to_string()).await
    }

    pub(crate) async fn admin(&self, method: &str, body: &str) -> (u16, Value) {
        self.world.admin_of(self.platform.name, method, self.key.connection.as_str(), "", body).await
    }

    /// Ends an entity's run without fetching anything, because these tests are about webhooks.
    async fn fetched(&self, entity: EntityKind) {
        let mut cursor = self.world.tables.connection(&self.key).cursors[&entity].clone();
        let Some(run) = cursor.run.take() else { return };
        cursor.since = cursor.since.max(Some(run.begun));
        cursor.swept = Some(run.begun);
        cursor.revision += 1;
        assert!(self.world.tables.save_cursor(&self.key, &cursor).await.unwrap());
    }

    /// Runs the registrar's queue to its end, without polling, and returns all its jobs.
    pub(crate) async fn run(&self) -> Vec<Job> {
        let mut ran = Vec::new();
        while let Some((job, delay)) = self.world.queues.next_job() {
            self.world.clock.pass_seconds(i64::from(delay));
            match &job {
                Job::Poll { entity, .. } => self.fetched(*entity).await,
                _ => self.world.registrar().run(&job.text()).await.unwrap(),
            }
            ran.push(job);
            assert!(ran.len() < 200, "there is no end of jobs: {ran:?}");
        }
        ran
    }

    async fn sweep(&self) -> Vec<Job> {
        self.world.registrar().sweep().await.unwrap();
        self.run().await
    }

    /// Runs one check and the jobs that follow, and returns those jobs.
    async fn check(&self, why: Trigger) -> Vec<Job> {
        let job = Job::check(&self.key, why);
        self.world.registrar().run(&job.text()).await.unwrap();
        self.run().await
    }

    fn connection(&self) -> Connection {
        self.world.tables.connection(&self.key).connection.unwrap()
    }

    fn record(&self, scope: &str) -> WebhookRecord {
        self.world.tables.connection(&self.key).webhooks[scope].clone()
    }

    fn ours(&self) -> Vec<Hook> {
        self.hooked
            .hooks()
            .into_iter()
            .filter(|hook| hook.secret != "theirs" && hook.url != "https://erp.example.com/")
            .collect()
    }

    /// Returns our webhooks of entities that can be polled.
    fn polled(&self) -> Vec<Hook> {
        let (hooks, mapping) = (self.platform.setup.webhooks().unwrap(), self.platform.mapping);
        let polled = |hook: &Hook| match resolve(self.platform, hooks.delivers(&hook.scope)) {
            Resolved::Entity(entity, _) => processor(mapping, entity).unwrap().polling.is_some(),
            _ => false,
        };
        self.ours().into_iter().filter(polled).collect()
    }

    fn hook(&self, scope: &str) -> Hook {
        self.ours().into_iter().find(|hook| hook.scope == scope).unwrap()
    }

    fn assert_right(&self, context: &str) {
        self.assert_right_at(BASE, context);
    }

    /// Asserts that each wanted webhook exists once, is on, has its address and secret, and is recorded, and that the
    /// only other one is not ours.
    fn assert_right_at(&self, base: &str, context: &str) {
        let (connection, hooks) = (self.connection(), self.platform.setup.webhooks().unwrap());
        let path = WebhookPath { key: self.key.clone(), generation: connection.generation };
        let delivery_url = format!("{base}{path}");
        let key = tools::events::sample_ring();
        let mut wanted: Vec<_> = hooks
            .wanted(self.platform, &connection.settings)
            .into_iter()
            .map(|scope| {
                let bound = self.platform.delivery.secret_per_scope().then_some(scope.as_str());
                let derived = || key.signing().webhook_secret(&path, bound).reveal().to_owned();
                let secret = if signs_by_app(self.platform) { String::new() } else { derived() };
                let url = hooks.url(&scope, &delivery_url);
                (scope, url, true, secret)
            })
            .collect();
        wanted.sort();
        assert!(!wanted.is_empty());
        let all = self.hooked.hooks();
        let (theirs, ours): (Vec<_>, Vec<_>) = all.into_iter().partition(|hook| hook.url == "https://erp.example.com/");
        assert_eq!(theirs.len(), 1, "{context}");
        let records = self.world.tables.connection(&self.key).webhooks;
        let recorded: BTreeSet<_> = records.values().map(|record| record.id.to_string()).collect();
        assert_eq!(recorded, ours.iter().map(|hook| hook.id.clone()).collect(), "{context}");
        assert_eq!(ours.len(), wanted.len(), "{context}: {ours:?}");
        for (hook, (scope, url, active, secret)) in ours.iter().zip(&wanted) {
            assert_eq!((&hook.scope, &hook.url, &hook.active), (scope, url, active), "{context}");
            assert_eq!(hook.secret.is_empty(), secret.is_empty(), "{context}: {scope}");
            assert!(hook.secret.contains(secret.as_str()), "{context}: {scope} has another secret");
        }
        assert!(records.values().all(|record| record.health.verdict == Verdict::Healthy), "{context}: {records:?}");
    }

    /// Has the platform give one webhook up, removes one, duplicates one, and moves one. Returns the topic of the first.
    fn spoil(&self) -> String {
        let ours = self.polled();
        self.hooked.give_up(&ours[0].id);
        self.hooked.remove(&ours[1].id);
        self.hooked.double(&ours[2]);
        self.hooked.move_to(&ours[3].id, ELSEWHERE);
        ours[0].scope.clone()
    }

    /// Delivers something by one of Shopify's webhooks.
    async fn deliver_by(&self, hook: &Hook, body: &Value) -> u16 {
        let Hooked::Shop(shop) = &self.hooked else { unreachable!() };
        self.deliver(&shop.demand(&hook.scope, &hook.url, body)).await
    }

    async fn deliver(&self, delivery: &Delivery) -> u16 {
        let event = gateway_event(delivery, self.world.clock.now()).unwrap();
        self.world.receiver.receive(request(&event)).await.status().as_u16()
    }

    /// Keeps a notice that the app was removed at the platform.
    async fn told(&self, received: Timestamp) {
        let notice = Notice { kind: UNINSTALLED.into(), detail: String::new(), received };
        let name = format!("{NOTICE}{UNINSTALLED}");
        let revision = self.world.tables.note(&self.key, &name).await.unwrap().map_or(0, |note| note.revision) + 1;
        let note = Note { body: serde_json::to_string(&notice).unwrap(), revision, expires: i64::MAX };
        assert!(self.world.tables.keep(&self.key, &name, &note).await.unwrap());
    }

    async fn see(&self, name: &str, sighting: &Activity) {
        let before = self.world.tables.note(&self.key, &format!("seen#{name}")).await.unwrap();
        let revision = before.map_or(0, |note| note.revision) + 1;
        let note = Note { body: serde_json::to_string(sighting).unwrap(), revision, expires: i64::MAX };
        assert!(self.world.tables.keep(&self.key, &format!("seen#{name}"), &note).await.unwrap());
    }
}

fn polls(jobs: &[Job]) -> BTreeSet<EntityKind> {
    let polled = jobs.iter().filter_map(|job| match job {
        Job::Poll { entity, .. } => Some(*entity),
        _ => None,
    });
    polled.collect()
}

#[tokio::test]
async fn whichever_call_goes_wrong_the_next_sweep_converges() {
    let wrongs = [
        Wrong::Status(422),
        Wrong::Status(429),
        Wrong::TooMany,
        Wrong::Status(500),
        Wrong::Status(409),
        Wrong::AnswerLost,
        Wrong::TimeOut,
    ];
    for name in PLACES {
        for wrong in wrongs {
            for number in 0.. {
                let context = format!("{name}: {wrong:?} at call {number}");
                let place = Place::connected(name).await;
                place.spoil();
                place.faulty.wrong(Some((number, wrong)));
                place.sweep().await;
                let reached = place.faulty.seen.load(Ordering::SeqCst) > number;
                place.faulty.wrong(None);
                place.world.clock.pass_seconds(3600);
                place.sweep().await;
                place.assert_right(&context);
                assert!(place.world.tables.connection(&place.key).check.unwrap().trouble.is_none(), "{context}");
                // After that, nothing is left to do.
                place.faulty.calls();
                place.world.clock.pass_seconds(3600);
                place.sweep().await;
                assert!(changing(&place.faulty.calls()).is_empty(), "{context}");
                if !reached {
                    assert!(number > 5, "{context}: it takes more calls than that");
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn connecting_converges_too_whichever_call_goes_wrong() {
    for name in PLACES {
        for wrong in [Wrong::Status(422), Wrong::Status(500), Wrong::AnswerLost] {
            for number in 1.. {
                let place = Place::new(name);
                place.faulty.wrong(Some((number, wrong)));
                place.put_with(|_| {}).await;
                let reached = place.faulty.seen.load(Ordering::SeqCst) > number;
                place.faulty.wrong(None);
                place.world.clock.pass_seconds(60);
                // The job that the request sent does the rest.
                place.run().await;
                place.assert_right(&format!("{name}: {wrong:?} at call {number}"));
                if !reached {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn what_a_hook_may_have_missed_is_fetched() {
    for name in PLACES {
        let place = Place::connected(name).await;
        let off = place.spoil();
        let jobs = place.sweep().await;
        assert!(!polls(&jobs).is_empty(), "{name}: {jobs:?}");
        // What cannot be off was removed, and nothing has to be known before it is made again.
        let (probes, trips, reason) = match place.hooked.switches() {
            true => (1, 1, "switched off by the platform"),
            false => (0, 0, "it was not there any more"),
        };
        assert_eq!(place.world.own.calls(), probes, "{name}: one probe, if any");
        let health = place.record(&off).health;
        assert!(health.reason.starts_with(reason), "{name}: {health:?}");
        assert_eq!((health.trips, health.verdict), (trips, Verdict::Healthy), "{name}");
        // The probe is a delivery, but touches nothing.
        assert_eq!(place.world.drain(0).await, vec!["ignored: probe"; probes], "{name}");
        assert!(place.world.tables.items().is_empty());
        let shown = place.admin("GET", "").await.1;
        assert!(shown["subscriptions"].as_array().unwrap().iter().all(|hook| hook["verdict"] == "healthy"), "{shown}");
    }
    // Each kind of harm makes the registrar fetch the entity whose deliveries were lost.
    type Harm = fn(&Place, &Hook);
    let harm: [(&str, Harm); 3] = [
        ("off", |place, hook| place.hooked.give_up(&hook.id)),
        ("gone", |place, hook| place.hooked.remove(&hook.id)),
        ("moved", |place, hook| place.hooked.move_to(&hook.id, ELSEWHERE)),
    ];
    for (name, scope, entity) in
        [("woocommerce", "coupon.deleted", EntityKind::Coupon), ("shopify", "collections/delete", EntityKind::Category)]
    {
        for (what, harm) in harm {
            let place = Place::connected(name).await;
            harm(&place, &place.hook(scope));
            assert_eq!(polls(&place.sweep().await), BTreeSet::from([entity]), "{name}: {what}");
        }
    }
}

#[tokio::test]
async fn a_look_at_what_is_well_is_one_call_and_writes_nothing() {
    for name in PLACES {
        let place = Place::connected(name).await;
        place.check(Trigger::Schedule).await;
        place.faulty.calls();
        let before = place.world.tables.connection(&place.key);
        place.check(Trigger::Schedule).await;
        let after = place.world.tables.connection(&place.key);
        assert_eq!((before.connection, before.webhooks, before.check), (after.connection, after.webhooks, after.check));
        let calls = place.faulty.calls();
        assert!(calls.len() == 1 && changing(&calls).is_empty(), "{name}: {calls:?}");
        assert_eq!(place.world.own.calls(), 0, "{name}: nothing to probe for");
    }
}

#[tokio::test]
async fn a_probe_that_fails_switches_nothing_on() {
    for name in PLACES {
        for queue in [true, false] {
            let place = Place::connected(name).await;
            let hook = place.ours().remove(0);
            place.hooked.give_up(&hook.id);
            if queue {
                place.world.queues.refuse(true)
            } else {
                place.world.own.cut(true)
            }
            let job = Job::check(&place.key, Trigger::Asked);
            if !place.hooked.switches() {
                // Shopify removes a webhook after hours of failures, so one that is made again cannot go at once.
                place.world.registrar().run(&job.text()).await.unwrap();
                place.assert_right(name);
                assert_eq!(place.world.own.calls(), 0, "{name}: it waits for no probe");
                continue;
            }
            for _ in 0..3 {
                place.world.registrar().run(&job.text()).await.unwrap();
                assert!(!place.hook(&hook.scope).active, "{name}: it would be switched off again at once");
            }
            assert_eq!(place.world.own.calls(), 3, "{name}: one probe for each look");
            let health = place.record(&hook.scope).health;
            assert_eq!((health.verdict, health.trips), (Verdict::SwitchedOff, 0), "{name}");
            let why = if queue { "our own endpoint answered 503" } else { "our own endpoint did not answer" };
            assert!(health.reason.contains(why), "{name}: {health:?}");
            let shown = place.admin("GET", "").await.1;
            let shown =
                shown["subscriptions"].as_array().unwrap().iter().find(|shown| shown["scope"] == *hook.scope).unwrap();
            assert!(shown["verdict"] == "switched-off" && shown["reason"].as_str().unwrap().contains(why), "{shown}");
            place.world.queues.refuse(false);
            place.world.own.cut(false);
            place.sweep().await;
            place.assert_right(name);
        }
    }
}

/// A webhook that is held back stays off even if it was moved as well and another one has to be made.
#[tokio::test]
async fn what_is_held_back_stays_off_while_other_hooks_are_made() {
    for name in PLACES {
        let place = Place::connected(name).await;
        let ours = place.ours();
        place.hooked.give_up(&ours[0].id);
        if place.hooked.switches() {
            place.hooked.move_to(&ours[0].id, ELSEWHERE);
        }
        place.hooked.remove(&ours[1].id);
        place.world.own.cut(true);
        place.sweep().await;
        let scopes: Vec<_> = place.ours().into_iter().filter(|hook| hook.active).map(|hook| hook.scope).collect();
        let held_back = usize::from(place.hooked.switches());
        let expected: Vec<_> = ours[held_back..].iter().map(|hook| hook.scope.clone()).collect();
        assert_eq!(scopes, expected, "{name}");
        place.world.own.cut(false);
        place.sweep().await;
        place.assert_right(name);
    }
}

/// A probe without the app's own signature would never get through where that signature is required.
#[tokio::test]
async fn a_probe_is_signed_as_the_app_s_configuration_wants_it() {
    for require in ["either", "signature", "header", "both"] {
        let place = Place::connected("bigcommerce").await;
        let apps = json!({ "bigcommerce": {
            "client_id": bigcommerce::CLIENT_ID, "client_secret": bigcommerce::CLIENT_SECRET, "require": require,
        } });
        place.world.apps.set(Some(&apps.to_string()));
        place.hooked.give_up(&place.ours()[0].id);
        place.sweep().await;
        place.assert_right(require);
        assert_eq!(place.world.own.calls(), 1);
    }
}

#[tokio::test]
async fn what_trips_again_cools_down_and_is_told_of_once() {
    for name in PLACES {
        let place = Place::connected(name).await;
        let scope = place.polled()[0].scope.clone();
        let trip = || place.hooked.give_up(&place.hook(&scope).id);
        let health = || place.record(&scope).health;
        if !place.hooked.switches() {
            // What was removed is made again at each look, and what it missed is fetched.
            for times in 1..=3 {
                trip();
                place.world.clock.pass_seconds(60);
                let jobs = place.check(Trigger::Schedule).await;
                place.assert_right(name);
                assert!(!polls(&jobs).is_empty(), "{name}, time {times}: {jobs:?}");
                assert_eq!((health().trips, health().not_before, place.world.own.calls()), (0, None, 0), "{name}");
            }
            continue;
        }
        let waits = |seconds: i64| {
            let health = health();
            let left = health.not_before.unwrap().seconds() - health.reactivated_at.unwrap().seconds();
            assert_eq!((left, health.verdict), (seconds, Verdict::Healthy), "{name}: {health:?}");
        };
        trip();
        place.check(Trigger::Schedule).await;
        place.assert_right(name);
        waits(15 * 60);

        trip();
        place.world.clock.pass_seconds(300);
        place.check(Trigger::Schedule).await;
        assert!(!place.hook(&scope).active, "{name}: it cools down");
        let told = health();
        assert_eq!((told.verdict, told.trips, place.world.own.calls()), (Verdict::SwitchedOff, 1, 1), "{name}");
        place.world.clock.pass_seconds(300);
        place.check(Trigger::Schedule).await;
        assert_eq!(health(), told, "{name}: it is told of once");
        place.world.clock.pass_seconds(300);
        let jobs = place.check(Trigger::Schedule).await;
        place.assert_right(name);
        assert!(!polls(&jobs).is_empty(), "{name}");
        assert_eq!(health().trips, 2);
        waits(30 * 60);

        // A `PUT` waits only for the probe.
        trip();
        place.world.clock.pass_seconds(60);
        assert_eq!(place.put_with(|_| {}).await.0, 200);
        place.assert_right(name);
        assert_eq!((health().trips, place.world.own.calls()), (3, 3), "{name}");
        waits(60 * 60);

        place.world.clock.pass_seconds(DAY);
        place.check(Trigger::Schedule).await;
        assert_eq!((health().trips, health().not_before), (0, None), "{name}: it has stayed on");
        place.world.clock.pass_seconds(1200);
        trip();
        place.check(Trigger::Schedule).await;
        assert_eq!(health().trips, 1);
    }
}

#[tokio::test]
async fn silence_shows_against_a_scope_s_own_past() {
    for name in PLACES {
        let place = Place::connected(name).await;
        let scope = place.ours()[0].scope.clone();
        let delivered = place.platform.setup.webhooks().unwrap().delivers(&scope).to_owned();
        let sighting = |last: Timestamp, generation: Generation| Activity {
            last,
            generation,
            key_id: "sample".into(),
            gaps: vec![600; 5],
        };
        let now = place.world.clock.now();
        // A sighting of another generation says nothing about this one.
        place.see(&delivered, &sighting(now.plus_seconds(-DAY), Generation::FIRST.next())).await;
        place.check(Trigger::Schedule).await;
        assert_eq!(place.record(&scope).health.verdict, Verdict::Healthy, "{name}");
        place.see(&delivered, &sighting(now.plus_seconds(-DAY), Generation::FIRST)).await;
        place.check(Trigger::Schedule).await;
        let health = place.record(&scope).health;
        assert_eq!(health.verdict, Verdict::Silent, "{name}");
        assert!(health.reason.starts_with("nothing for 24 hours"), "{name}: {health:?}");
        let shown = place.admin("GET", "").await.1;
        assert!(shown["subscriptions"].as_array().unwrap().iter().any(|hook| hook["verdict"] == "silent"), "{shown}");
        assert!(changing(&place.faulty.calls()).is_empty(), "{name}: there is nothing to be done at the platform");
        place.see(&delivered, &sighting(now, Generation::FIRST)).await;
        place.check(Trigger::Schedule).await;
        place.assert_right(name);
    }
}

#[tokio::test]
async fn what_was_entered_by_hand_is_manual_and_shows_when_it_was_seen() {
    let world = World::connected();
    let at = world.clock.now();
    let note = |last| {
        let sighting = Activity { last, generation: Generation::FIRST, key_id: "sample".into(), gaps: Vec::new() };
        Note { body: serde_json::to_string(&sighting).unwrap(), revision: 1, expires: i64::MAX }
    };
    assert!(world.tables.keep(&world::key(), "seen#order.updated", &note(at)).await.unwrap());
    let shown = world.admin("GET", world::CONNECTION, "", "").await.1;
    for hook in shown["subscriptions"].as_array().unwrap() {
        let seen = hook["scope"] == "order.updated";
        let expected = (json!("manual"), if seen { json!(at.to_string()) } else { Value::Null });
        assert_eq!((hook["verdict"].clone(), hook["last_delivery"].clone()), expected, "{hook}");
    }
}

#[tokio::test]
async fn a_pause_switches_off_and_what_it_missed_is_fetched() {
    for name in PLACES {
        let place = Place::connected(name).await;
        let (before, registrar) = (place.ours(), || place.world.registrar());
        let connection = shown(registrar().pause(place.platform, &place.key).await.unwrap());
        assert_eq!(connection["status"], "paused", "{connection}");
        let is_quiet = || match place.hooked.switches() {
            true => place.ours().iter().all(|hook| !hook.active),
            false => place.ours() == before,
        };
        assert!(is_quiet(), "{name}");
        let paused = place.connection();
        registrar().pause(place.platform, &place.key).await.unwrap();
        place.world.clock.pass_seconds(3600);
        place.sweep().await;
        assert_eq!(place.connection(), paused, "{name}: twice is once");
        assert!(is_quiet(), "{name}: and it stays so");

        // Resuming breaks off if webhooks cannot be listed, but the beginning of the pause stays recorded.
        place.faulty.wrong(Some((0, Wrong::Status(500))));
        assert!(registrar().resume(place.platform, &place.key).await.is_err(), "{name}");
        let half = place.connection();
        assert_eq!((half.status, half.paused_at), (ConnectionStatus::Active, paused.paused_at), "{name}");
        let jobs = place.sweep().await;
        place.assert_right(name);
        assert!(!polls(&jobs).is_empty(), "{name}: {jobs:?}");
        assert_eq!((place.connection().paused_at, place.world.own.calls()), (None, 0), "{name}: it was our own hand");
        let connection = shown(registrar().resume(place.platform, &place.key).await.unwrap());
        assert_eq!(connection["status"], "active");
    }
    let place = Place::connected("woocommerce").await;
    let Hooked::Woo(store) = &place.hooked else { unreachable!() };
    let hook =
        store.webhooks().into_iter().find(|hook| hook.topic == "order.deleted" && hook.secret != "theirs").unwrap();
    place.world.registrar().pause(place.platform, &place.key).await.unwrap();
    assert_eq!(store.deliver_to(&hook, r#"{"id":13}"#).await, 200);
    assert_eq!(place.world.drain(0).await, ["ignored: paused"]);
    // Where webhooks cannot be switched off, all deliveries of a pause come.
    let place = Place::connected("shopify").await;
    place.world.registrar().pause(place.platform, &place.key).await.unwrap();
    assert_eq!(place.deliver_by(&place.hook("orders/delete"), &json!({ "id": 13 })).await, 200);
    assert_eq!(place.world.drain(0).await, ["ignored: paused"]);
}

#[tokio::test]
async fn revoking_makes_what_leaked_worth_nothing_at_once() {
    for name in PLACES {
        let place = Place::connected(name).await;
        let (former, is_by_app) = (place.ours(), signs_by_app(place.platform));
        // The generation rises even if no call reaches the platform.
        place.faulty.wrong(Some((0, Wrong::TimeOut)));
        assert!(place.world.registrar().revoke(place.platform, &place.key, None).await.is_err(), "{name}");
        assert_eq!(place.connection().generation, Generation::FIRST.next(), "{name}");
        assert_eq!(place.ours(), former, "{name}");
        let jobs = place.run().await;
        place.assert_right(name);
        let is_new = |hook: &Hook| {
            let differs = |former: &Hook| former.url != hook.url && (former.secret != hook.secret || is_by_app);
            former.iter().all(differs)
        };
        assert!(place.ours().iter().all(is_new), "{name}");
        assert!(!polls(&jobs).is_empty(), "{name}: what came over the old path is fetched");
        // Two requests that name the same generation revoke it once.
        for _ in 0..2 {
            let named = Some(Generation::FIRST.next());
            let connection = shown(place.world.registrar().revoke(place.platform, &place.key, named).await.unwrap());
            assert_eq!(connection["generation"], 3);
        }
        place.assert_right(name);
    }
    let place = Place::connected("woocommerce").await;
    let Hooked::Woo(store) = &place.hooked else { unreachable!() };
    let leaked = store.webhooks().into_iter().find(|hook| hook.topic == "order.deleted").unwrap();
    place.world.registrar().revoke(place.platform, &place.key, None).await.unwrap();
    assert_eq!(store.deliver_to(&leaked, r#"{"id":13}"#).await, 200);
    assert_eq!(place.world.drain(0).await, ["ignored: retired-generation"]);
    let place = Place::connected("shopify").await;
    let leaked = place.hook("orders/delete");
    place.world.registrar().revoke(place.platform, &place.key, None).await.unwrap();
    assert_eq!(place.deliver_by(&leaked, &json!({ "id": 13 })).await, 200);
    assert_eq!(place.world.drain(0).await, ["ignored: retired-generation"]);
}

#[tokio::test]
async fn another_base_url_moves_hooks_and_orphans_none() {
    for name in PLACES {
        let place = Place::connected(name).await;
        let job = Job::check(&place.key, Trigger::Schedule);
        let ids = |place: &Place| place.ours().into_iter().map(|hook| hook.id).collect::<BTreeSet<_>>();
        let before = ids(&place);
        place.world.registrar_at("https://hooks.example.net").run(&job.text()).await.unwrap();
        place.assert_right_at("https://hooks.example.net", name);
        assert_eq!(ids(&place), before, "{name}: they are the same ones");
    }
}

/// A release with fewer topics.
struct Fewer;

impl Mapping for Fewer {
    fn processors(&self) -> &'static [EntityProcessor] {
        &WOOCOMMERCE.mapping.processors()[..2]
    }
    fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
        WOOCOMMERCE.mapping.map(incoming)
    }
}

const WOOCOMMERCE: Platform = platforms::woocommerce::PLATFORM;
static BEFORE: [Platform; 1] = [Platform { mapping: &Fewer, lists: None, notices: None, ..WOOCOMMERCE }];

#[tokio::test]
async fn a_release_with_other_scopes_makes_and_removes_hooks() {
    let place = Place::connected("woocommerce").await;
    let scopes = |place: &Place| place.ours().into_iter().map(|hook| hook.scope).collect::<BTreeSet<_>>();
    let (all, job) = (scopes(&place), Job::check(&place.key, Trigger::Schedule));
    place.world.registrar_for(&BEFORE, BASE).run(&job.text()).await.unwrap();
    let fewer: BTreeSet<_> = declared_scopes(&BEFORE[0]).map(str::to_owned).collect();
    assert!(!fewer.is_empty() && fewer.len() < all.len());
    assert_eq!(scopes(&place), fewer, "what nothing is done with is not subscribed to");
    let records = place.world.tables.connection(&place.key).webhooks;
    assert_eq!(records.into_keys().collect::<BTreeSet<_>>(), fewer);
    place.sweep().await;
    place.assert_right("what has come to it");
    assert_eq!(scopes(&place), all);
}

#[tokio::test]
async fn a_plan_is_shown_without_being_run() {
    for name in PLACES {
        let place = Place::connected(name).await;
        place.spoil();
        let before = (place.hooked.hooks(), place.world.tables.connection(&place.key));
        let path = format!("/admin/connections/{}/{}/plan", place.key.platform, place.key.connection);
        let shown = place.world.ask(Some(&place.world.bearer("read")), "GET", &path, "", "").await;
        let planned: Value = serde_json::from_slice(shown.body().as_ref()).unwrap();
        let steps = planned["steps"].as_array().unwrap();
        let counts = ["create", "update", "delete"].map(|what| steps.iter().filter(|step| step["do"] == what).count());
        // The record still has the moved webhook, which comes back. So does one that is off.
        let off = usize::from(place.hooked.switches());
        assert_eq!(counts, [2 - off, 1 + off, 1], "{name}: {planned}");
        assert_eq!((place.hooked.hooks(), place.world.tables.connection(&place.key)), before, "{name}");
        assert!(changing(&place.faulty.calls()).is_empty());
    }
}

#[tokio::test]
async fn trouble_is_kept_until_it_is_over_and_never_fails_the_job() {
    let place = Place::connected("woocommerce").await;
    let Hooked::Woo(store) = &place.hooked else { unreachable!() };
    let trouble =
        || place.world.tables.connection(&place.key).check.and_then(|check| Some((check.trouble?, check.since?)));
    store.replace_key("ck_2", "cs_2");
    let at = place.world.clock.now();
    place.check(Trigger::Refused).await;
    let (why, since) = trouble().unwrap();
    assert!(why.contains("401") && since >= at, "{why}");
    place.world.clock.pass_seconds(7200);
    place.sweep().await;
    assert_eq!(trouble(), Some((why, since)), "since then");
    let shown = place.admin("GET", "").await.1;
    assert_eq!(shown["trouble"]["since"], since.to_string(), "{shown}");
    place.faulty.wrong(Some((0, Wrong::TimeOut)));
    place.check(Trigger::Schedule).await;
    assert_eq!(trouble().unwrap(), ("no answer in time".to_owned(), since), "another one, and no day without");
    store.replace_key("ck_1", "cs_1");
    place.sweep().await;
    assert_eq!(trouble(), None);
    // If webhooks cannot be listed, only a refusal shows trouble, which stays until somebody connects anew.
    let world = World::new();
    let key = WebhookPath::parse("directscale", "client", None).unwrap().key;
    let connection =
        Connection { revision: 1, credentials: Some(format!("{key}|x")), ..Connection::new("https://x.example") };
    world.tables.connect(&key, connection);
    for (why, trouble) in
        [(Trigger::Schedule, false), (Trigger::Refused, true), (Trigger::Schedule, true), (Trigger::Connected, false)]
    {
        world.registrar().run(&Job::check(&key, why).text()).await.unwrap();
        let kept = world.tables.connection(&key).check.unwrap().trouble;
        assert_eq!(kept.is_some(), trouble, "{why:?}: {kept:?}");
    }
}

/// A check is repeated only if the platform asks for time, and not without end.
#[tokio::test]
async fn a_store_that_asks_for_time_all_day_is_not_asked_ever_more_often() {
    let cases = PLACES.into_iter().flat_map(|name| [(name, Wrong::Status(429)), (name, Wrong::TooMany)]);
    for (name, wrong) in cases {
        let place = Place::connected(name).await;
        place.faulty.wrong(Some((EVERY, wrong)));
        let trouble = || place.world.tables.connection(&place.key).check.unwrap().trouble;
        let tries = place.check(Trigger::Asked).await;
        let expected: Vec<_> = (1..=5)
            .map(|tries| Job::Check { key: place.key.clone(), why: Trigger::Asked, tries, since: None })
            .collect();
        assert_eq!(tries, expected, "{name}");
        assert!(trouble().is_some(), "{name}");
        for _ in 0..3 {
            place.world.clock.pass_seconds(3600);
            assert_eq!(place.check(Trigger::Schedule).await, [], "{name}: the next sweep comes anyway");
        }
        place.faulty.wrong(Some((0, wrong)));
        let mut ran = place.check(Trigger::Asked).await;
        ran.retain(|job| matches!(job, Job::Check { .. }));
        assert_eq!(ran, expected[..1], "{name}");
        assert_eq!(trouble(), None, "{name}");
        place.assert_right(name);
    }
}

/// Late jobs of several sweeps may run close together.
#[tokio::test]
async fn what_was_well_since_a_sweep_began_is_left_alone_by_it() {
    for name in PLACES {
        let place = Place::connected(name).await;
        let calls = async |since| {
            place.faulty.calls();
            let job = Job::Check { key: place.key.clone(), why: Trigger::Schedule, tries: 0, since };
            place.world.registrar().run(&job.text()).await.unwrap();
            place.run().await;
            place.faulty.calls().len()
        };
        place.world.clock.pass_seconds(2 * 3600);
        let sweeps = [place.world.clock.now(), place.world.clock.now().plus_seconds(3600)];
        place.world.clock.pass_seconds(4000);
        // The jobs of two sweeps have waited; one check is enough for both.
        assert_eq!(calls(Some(sweeps[0])).await, 1, "{name}");
        place.world.clock.pass_seconds(100);
        assert_eq!((calls(Some(sweeps[1])).await, calls(None).await), (0, 1), "{name}");
        place.world.clock.pass_seconds(3600);
        assert_eq!(
            calls(Some(place.world.clock.now().plus_seconds(-10))).await,
            1,
            "{name}: the next sweep looks again"
        );
    }
}

/// A sweep must not read the secret for each connection.
#[tokio::test]
async fn the_ring_that_hooks_are_made_with_is_a_minute_old_at_most() {
    let place = Place::connected("woocommerce").await;
    let (registrar, job) = (place.world.registrar(), Job::check(&place.key, Trigger::Asked).text());
    let before = place.world.signing.fetches();
    for (passes, fetches) in [(0, 1), (59, 1), (2, 2), (30, 2)] {
        place.world.clock.pass_seconds(passes);
        registrar.run(&job).await.unwrap();
        assert_eq!(place.world.signing.fetches() - before, fetches);
    }
}

/// A probe of our own does not count as a delivery of the store.
#[tokio::test]
async fn a_probe_is_nothing_that_the_store_has_sent() {
    let place = Place::connected("bigcommerce").await;
    let Hooked::Big(store) = &place.hooked else { unreachable!() };
    let shown = async || {
        let query = format!("signed_payload_jwt={}", store.signed_payload(&json!({})));
        let page = place.world.visit("GET", "/apps/bigcommerce/load", &query, "").await;
        assert_eq!(page.status(), 200);
        page.into_body()
    };
    let last = place.world.clock.now();
    let sighting = Activity { last, generation: Generation::FIRST, key_id: "sample".into(), gaps: Vec::new() };
    let before = shown().await;
    place.see(commerce::platform::delivery::PROBE, &sighting).await;
    assert_eq!(shown().await.as_ref(), before.as_ref());
    place.see(&place.ours()[0].scope, &sighting).await;
    assert_ne!(shown().await.as_ref(), before.as_ref());
}

/// A disconnection between any two calls of a request that makes webhooks leaves none of them.
#[tokio::test]
async fn a_disconnection_in_the_midst_of_connecting_leaves_no_hook() {
    for name in PLACES {
        for number in 1..5 {
            let place = Place::new(name);
            let (world, platform, key) = (place.world.clone(), place.platform.name, place.key.clone());
            let disconnect = async move {
                let (status, shown) = world.admin_of(platform, "DELETE", key.connection.as_str(), "", "").await;
                assert_eq!(status, 200, "{shown}");
            };
            *place.faulty.meanwhile.lock().unwrap() = Some((number, Box::pin(disconnect)));
            let (status, shown) = place.put_with(|_| {}).await;
            let context = format!("{name}, call {number}");
            assert_eq!(status, 409, "{context}: {shown}");
            place.run().await;
            assert_eq!(place.ours(), [], "{context}");
            let loaded = place.world.tables.connection(&place.key);
            assert_eq!(loaded.connection.unwrap().status, ConnectionStatus::Disconnected, "{context}");
            assert!(loaded.webhooks.is_empty(), "{context}");
            place.world.clock.pass_seconds(60);
            assert_eq!(place.put_with(|_| {}).await.0, 200, "{context}");
            place.run().await;
            place.assert_right(&context);
        }
    }
}

/// A connection that is made between any two calls of a disconnection stays, with everything that it needs.
#[tokio::test]
async fn connecting_in_the_midst_of_a_disconnection_keeps_what_was_connected() {
    for name in PLACES {
        for number in 0..5 {
            let place = Place::connected(name).await;
            let (world, platform, key) = (place.world.clone(), place.platform.name, place.key.clone());
            let settings = place.faulty.settings(SITE).to_string();
            let connect = async move {
                let (status, shown) = world.admin_of(platform, "PUT", key.connection.as_str(), "", &settings).await;
                assert_eq!(status, 200, "{shown}");
            };
            place.faulty.seen.store(0, Ordering::SeqCst);
            *place.faulty.meanwhile.lock().unwrap() = Some((number, Box::pin(connect)));
            let (status, shown) = place.admin("DELETE", "").await;
            let context = format!("{name}, call {number}");
            assert_eq!(status, 409, "{context}: {shown}");
            place.run().await;
            place.assert_right(&context);
            assert_eq!(place.connection().generation, Generation::FIRST.next(), "{context}");
        }
    }
}

/// The sender of a notice may know no more than an address, and a notice may come late.
#[tokio::test]
async fn an_uninstallation_counts_when_the_platform_shows_it() {
    for (name, left) in WITH_APPS.into_iter().flat_map(|name| [(name, 0), (name, 1)]) {
        let place = Place::connected(name).await;
        let now = place.world.clock.now();
        place.told(now).await;
        let again = |tries| Job::Check { key: place.key.clone(), why: Trigger::Told, tries, since: None };
        assert_eq!(place.check(Trigger::Told).await, [again(1), again(2)]);
        assert!(place.world.clock.now() > now.plus_seconds(600), "some minutes later");
        place.assert_right("nothing shows of it");
        for hook in place.ours().into_iter().skip(left) {
            place.hooked.remove(&hook.id);
        }
        place.check(Trigger::Told).await;
        if left == 0 {
            assert_eq!(place.connection().status, ConnectionStatus::Disconnected);
        } else {
            place.assert_right("one was left");
        }
    }
}

/// A notice is kept. It is enough to finish an uninstallation, but not for one that happens much later.
#[tokio::test]
async fn what_was_told_of_an_uninstallation_counts_for_two_days_and_until_all_is_gone() {
    for name in WITH_APPS {
        let told = async || {
            let place = Place::connected(name).await;
            let received = place.world.clock.now();
            place.told(received).await;
            place
        };
        let place = told().await;
        place.hooked.uninstall();
        place
            .world
            .tables
            .connect(&place.key, Connection { status: ConnectionStatus::Disconnecting, ..place.connection() });
        place.world.clock.pass_seconds(3 * DAY);
        place.check(Trigger::Schedule).await;
        assert_eq!(place.connection().status, ConnectionStatus::Disconnected, "{name}: what broke off goes on");

        let place = told().await;
        place.check(Trigger::Told).await;
        place.world.clock.pass_seconds(3 * DAY);
        place.hooked.uninstall();
        place.check(Trigger::Schedule).await;
        let status = place.connection().status;
        assert_eq!(status, ConnectionStatus::Active, "{name}: it was not true then, and says nothing of today");
        assert!(place.world.tables.connection(&place.key).check.unwrap().trouble.is_some(), "{name}");
    }
}

/// Changes that a pause missed are fetched even if a webhook can never be made again.
#[tokio::test]
async fn what_a_pause_missed_is_fetched_though_a_hook_cannot_be_made() {
    for name in ["woocommerce", "shopify"] {
        let place = Place::connected(name).await;
        place.world.registrar().pause(place.platform, &place.key).await.unwrap();
        place.hooked.remove(&place.ours()[0].id);
        place.faulty.wrong(Some((EVERY, Wrong::TimeOut)));
        assert!(place.world.registrar().resume(place.platform, &place.key).await.is_err());
        assert!(place.connection().paused_at.is_some(), "a store that does not answer is asked again");
        place.faulty.wrong(Some((EVERY, Wrong::NotMade)));
        let jobs = place.run().await;
        assert!(!polls(&jobs).is_empty(), "{name}: {jobs:?}");
        assert_eq!(place.connection().paused_at, None, "{name}");
        assert!(place.world.tables.connection(&place.key).check.unwrap().trouble.is_some(), "{name}");
        place.faulty.wrong(None);
        place.sweep().await;
        place.assert_right(name);
    }
}

#[tokio::test]
async fn an_app_that_is_removed_at_the_platform_is_disconnected() {
    for (name, told) in WITH_APPS.into_iter().flat_map(|name| [(name, true), (name, false)]) {
        let place = Place::connected(name).await;
        let mut random = StdRng::seed_from_u64(7);
        let mut stragglers = Vec::new();
        while stragglers.is_empty() {
            place.faulty.change(&mut random);
            stragglers = place.faulty.outbox();
        }
        place.hooked.uninstall();
        for delivery in place.faulty.outbox() {
            assert_eq!(place.deliver(&delivery).await, 200);
        }
        assert_eq!(place.world.drain(0).await, ["ignored: noted-for-the-registrar"]);
        // The registrar is told, or finds that its token is refused.
        if told {
            place.check(Trigger::Told).await
        } else {
            place.sweep().await
        };
        let loaded = place.world.tables.connection(&place.key);
        let connection = loaded.connection.unwrap();
        assert_eq!(
            (connection.status, &connection.credentials),
            (ConnectionStatus::Disconnected, &None),
            "{name}, {told}"
        );
        assert!(
            loaded.webhooks.is_empty()
                && loaded.cursors.is_empty()
                && loaded.check.is_none_or(|check| check.trouble.is_none())
        );
        let taken = place.world.queues.sent().len();
        for delivery in &stragglers {
            assert_eq!(place.deliver(delivery).await, 200);
        }
        assert!(
            !stragglers.is_empty() && place.world.drain(taken).await.iter().all(|end| end == "ignored: disconnected")
        );
        place.sweep().await;
        assert_eq!(place.connection(), connection, "and that is all");
    }
}

/// A notice from before the latest installation disconnects nothing.
#[tokio::test]
async fn an_old_notice_disconnects_nothing() {
    for name in WITH_APPS {
        let place = Place::connected(name).await;
        let received = place.connection().connected_at.unwrap().plus_seconds(-1);
        place.told(received).await;
        place.check(Trigger::Told).await;
        place.assert_right("told of what is past");
        place.hooked.revoke();
        place.check(Trigger::Told).await;
        assert_eq!(place.connection().status, ConnectionStatus::Active, "{name}");
        assert!(place.world.tables.connection(&place.key).check.unwrap().trouble.is_some(), "{name}");
    }
}

/// A notice means nothing on a platform whose webhooks stay when the app goes, because there is no app.
#[tokio::test]
async fn a_platform_whose_hooks_stay_is_not_told_of_uninstallations() {
    let place = Place::connected("woocommerce").await;
    let Hooked::Woo(store) = &place.hooked else { unreachable!() };
    place.told(place.world.clock.now()).await;
    assert_eq!(place.check(Trigger::Told).await, []);
    place.assert_right("told");
    store.replace_key("ck_2", "cs_2");
    place.check(Trigger::Told).await;
    assert_eq!(place.connection().status, ConnectionStatus::Active);
    assert!(place.world.tables.connection(&place.key).check.unwrap().trouble.is_some());
}

/// A notice from the time of the former credentials does not disconnect a connection that was made since.
#[tokio::test]
async fn connecting_with_other_credentials_is_connecting_anew() {
    for name in WITH_APPS {
        let place = Place::connected(name).await;
        place.told(place.world.clock.now()).await;
        place.world.clock.pass_seconds(1);
        let before = place.connection().connected_at;
        place.hooked.replace_token("another");
        assert_eq!(place.put_with(|_| {}).await.0, 200);
        assert!(place.connection().connected_at > before);
        place.run().await;
        for hook in place.ours() {
            place.hooked.remove(&hook.id);
        }
        place.check(Trigger::Told).await;
        place.assert_right("connected anew");
        // A later notice does.
        place.told(place.world.clock.now()).await;
        place.hooked.uninstall();
        place.check(Trigger::Told).await;
        assert_eq!(place.connection().status, ConnectionStatus::Disconnected, "{name}");
        assert!(place.ours().is_empty(), "{name}");
    }
}

/// A disconnection that the platform reported needs no list of webhooks, because the token may be revoked already.
#[tokio::test]
async fn a_disconnection_that_the_platform_told_of_needs_no_list() {
    for name in WITH_APPS {
        let place = Place::connected(name).await;
        place.hooked.revoke();
        let mut leaving = place.connection();
        (leaving.status, leaving.revision) = (ConnectionStatus::Disconnecting, leaving.revision + 1);
        assert!(place.world.tables.save(&place.key, &leaving).await.unwrap());
        place.sweep().await;
        let status = place.connection().status;
        assert_eq!(status, ConnectionStatus::Disconnecting, "{name}: a token may be refused for other reasons");
        assert!(place.world.tables.connection(&place.key).check.unwrap().trouble.is_some(), "{name}");
        place.check(Trigger::Told).await;
        let loaded = place.world.tables.connection(&place.key);
        assert_eq!(loaded.connection.unwrap().status, ConnectionStatus::Disconnected, "{name}");
        assert!(loaded.webhooks.is_empty() && loaded.check.unwrap().trouble.is_none(), "{name}");
    }
}

/// Missed changes are counted from the last good check, however many checks have found trouble since.
#[tokio::test]
async fn the_last_good_look_is_remembered_through_trouble() {
    let place = Place::connected("woocommerce").await;
    let scope = place.polled()[0].scope.clone();
    place.world.clock.pass_seconds(2 * 3600);
    place.check(Trigger::Schedule).await;
    let good = place.world.tables.connection(&place.key).check.unwrap().at;
    place.faulty.wrong(Some((0, Wrong::TimeOut)));
    place.world.clock.pass_seconds(2 * 3600);
    place.check(Trigger::Schedule).await;
    place.faulty.wrong(None);
    place.hooked.give_up(&place.hook(&scope).id);
    place.world.own.cut(true);
    for _ in 0..2 {
        place.world.clock.pass_seconds(2 * 3600);
        place.check(Trigger::Schedule).await;
        assert_eq!(place.record(&scope).health.good_at, Some(good));
    }
    place.world.own.cut(false);
    let jobs = place.check(Trigger::Schedule).await;
    place.assert_right("mended");
    assert!(!polls(&jobs).is_empty(), "{jobs:?}");
    assert!(place.record(&scope).health.good_at > Some(good));
}

#[tokio::test]
async fn a_disconnection_that_breaks_off_is_finished_by_the_next_sweep() {
    for name in PLACES {
        for number in 0.. {
            let place = Place::connected(name).await;
            place.faulty.wrong(Some((number, Wrong::Status(500))));
            place.admin("DELETE", "").await;
            let reached = place.faulty.seen.load(Ordering::SeqCst) > number;
            place.faulty.wrong(None);
            place.world.clock.pass_seconds(60);
            place.sweep().await;
            assert!(place.ours().is_empty(), "{name}, call {number}");
            assert_eq!(place.connection().status, ConnectionStatus::Disconnected, "{name}, call {number}");
            if !reached {
                break;
            }
            // A second installation starts clean.
            if number == 0 {
                place.world.clock.pass_seconds(60);
                assert_eq!(place.put_with(|_| {}).await.0, 200);
                place.run().await;
                place.assert_right(name);
                assert_eq!(place.connection().generation, Generation::FIRST.next());
            }
        }
    }
}

#[tokio::test]
async fn state_is_erased_after_its_grace_and_not_when_connected_again() {
    let erasing = |settings: &mut Value| settings["retention"] = json!({ "erase-after-days": 30 });
    for again in [false, true] {
        let place = Place::connected_with("woocommerce", erasing).await;
        assert_eq!(place.connection().retention, Retention::EraseAfterDays(30));
        // Erasing takes more than one message.
        let mut item = {
            let world = World::connected();
            let body = r#"{"id":13,"status":"processing","date_modified_gmt":"2026-11-21T01:48:40"}"#;
            world.process(&[delivered("order.updated", body, 1_795_225_700_000)]).await;
            world.tables.items().remove(0)
        };
        item.pk = place.key.to_string();
        for id in 0..2_500 {
            item.sk = format!("order#{id}");
            cloud::state::Entities::put(&place.world.tables, &item, None).await.unwrap();
        }
        assert_eq!(place.admin("DELETE", "").await.0, 200);
        place.world.clock.pass_seconds(30 * DAY - 3600);
        place.sweep().await;
        assert!(place.world.queues.sent().is_empty(), "not yet");
        place.world.clock.pass_seconds(3600);
        place.sweep().await;
        let erased_at = place.connection().erased_at;
        assert_eq!((place.world.queues.sent().len(), erased_at.is_some()), (1, true));
        if again {
            assert_eq!(place.put_with(erasing).await.0, 200);
            assert_eq!(place.connection().erased_at, None);
            assert_eq!(place.world.drain(0).await, ["ignored: connected-again"]);
            assert_eq!(place.world.tables.items().len(), 2_500);
            continue;
        }
        // The message may be lost, so it is sent again for a while.
        let job = Job::check(&place.key, Trigger::Schedule).text();
        place.world.registrar().run(&job).await.unwrap();
        assert_eq!((place.world.queues.sent().len(), place.connection().erased_at), (2, erased_at));
        place.world.clock.pass_seconds(2 * DAY);
        place.world.registrar().run(&job).await.unwrap();
        assert_eq!((place.world.queues.sent().len(), place.connection().erased_at), (2, erased_at));
        let sent = place.world.queues.sent();
        let ends = outcomes(&place.world.process(&[message(0, sent[0].0.text())]).await);
        assert_eq!(ends, ["split: 1"]);
        assert_eq!(place.world.tables.items().len(), 500);
        assert_eq!(place.world.drain(2).await, ["ignored: erased"]);
        assert!(place.world.tables.items().is_empty());
        // A repeated message finds nothing.
        let sent = place.world.queues.sent();
        let ends = outcomes(&place.world.process(&[message(0, sent[0].0.text())]).await);
        assert_eq!(ends, ["ignored: erased"]);
    }
}

/// The record is written before the message is sent, so a message that could not be sent is sent later. Connecting
/// again in the middle keeps the rest.
#[tokio::test]
async fn erasing_breaks_off_when_connected_again() {
    let erasing = |settings: &mut Value| settings["retention"] = json!({ "erase-after-days": 1 });
    let place = Place::connected_with("woocommerce", erasing).await;
    let mut item = {
        let world = World::connected();
        let body = r#"{"id":13,"status":"processing","date_modified_gmt":"2026-11-21T01:48:40"}"#;
        world.process(&[delivered("order.updated", body, 1_795_225_700_000)]).await;
        world.tables.items().remove(0)
    };
    item.pk = place.key.to_string();
    for id in 0..2_100 {
        item.sk = format!("order#{id}");
        cloud::state::Entities::put(&place.world.tables, &item, None).await.unwrap();
    }
    assert_eq!(place.admin("DELETE", "").await.0, 200);
    place.run().await;
    place.world.clock.pass_seconds(DAY);
    place.world.queues.refuse(true);
    let job = Job::check(&place.key, Trigger::Schedule).text();
    assert!(place.world.registrar().run(&job).await.is_err());
    place.world.queues.refuse(false);
    assert!(place.connection().erased_at.is_some() && place.world.queues.sent().is_empty());
    place.world.registrar().run(&job).await.unwrap();
    assert_eq!(place.world.drain(0).await, ["split: 1"]);
    assert_eq!(place.put_with(erasing).await.0, 200);
    assert_eq!(place.world.drain(1).await, ["ignored: connected-again"]);
    assert_eq!(place.world.tables.items().len(), 100);
}

#[tokio::test]
async fn a_sweep_checks_every_connection_exactly_once() {
    let world = World::new();
    for number in 0..2_000 {
        let key = WebhookPath::parse("directscale", &format!("client{number}"), None).unwrap().key;
        let connection = Connection { revision: 1, ..Connection::new("https://api.example.com") };
        assert!(world.tables.save(&key, &connection).await.unwrap());
    }
    let registrar = world.registrar();
    registrar.sweep().await.unwrap();
    let mut checked = BTreeSet::new();
    while let Some((job, _)) = world.queues.next_job() {
        if let Job::Check { key, .. } = &job {
            assert!(checked.insert(key.clone()), "{key} twice");
        }
        registrar.run(&job.text()).await.unwrap();
    }
    assert_eq!(checked.len(), 2_000);
    // Delays spread the checks.
    registrar.sweep().await.unwrap();
    registrar.run(&world.queues.next_job().unwrap().0.text()).await.unwrap();
    assert!(world.queues.jobs().contains(&(Job::Rotate, 0)), "by itself");
    let delays: BTreeSet<_> = world.queues.jobs().iter().map(|(_, delay)| *delay).collect();
    assert!(delays.len() > 50 && delays.iter().all(|delay| (0..=900).contains(delay)), "{delays:?}");
}
