//! The rotation of the signing keys while all platforms deliver: nothing is ever refused, and a step that broke off
//! goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cloud::coordination::{Coordination, Note, deployment};
use commerce::{
    envelope::{Envelope, Provenance},
    http_call::Loopback,
    keys::KeyRing,
    platform::find,
    platforms::PLATFORMS,
    request::WebhookPath,
    scheme::APP_KEY_ID,
    timestamp::Timestamp,
};
use rand::{SeedableRng, rngs::StdRng};
use registrar::problem::Problem;
use serde_json::{Value, json};
use tests::{
    platforms::{Delivery, Simulator, simulators},
    world::{
        BASE, CONNECTION, Outside, Registers, World, coded, gateway_event, key, message, request, shown, signs_by_app,
    },
};

const OLD: &str = "sample";
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
/// Two days, and the time by which the note of a key's use may be late, in seconds.
const QUIET: i64 = 48 * HOUR + 300;

/// The time between two rounds of changes, in seconds. A shop's points pay for what a round makes the processor ask.
const BETWEEN_CHANGES: i64 = 5;

/// All platforms, connected and delivering.
struct Traffic {
    world: World,
    simulators: Vec<Arc<dyn Simulator>>,
    random: StdRng,
    taken: usize,
    /// The one registrar of the whole test with its caches; `None` makes each call a cold start.
    lasting: Option<Registers>,
    delivered: usize,
}

impl Traffic {
    async fn begin(lasting: bool) -> Self {
        let mut world = World::new();
        world.loopback = Loopback::Allowed;
        let simulators = simulators(world.clock.function());
        let site = |place: usize| format!("http://127.0.0.1:{}", 20_000 + place);
        world.outside =
            Outside::Simulated(simulators.iter().enumerate().map(|(n, one)| (site(n), Arc::clone(one))).collect());
        for (place, simulator) in simulators.iter().enumerate() {
            let settings = simulator.settings(&site(place)).to_string();
            let (status, shown) =
                world.admin_of(simulator.platform(), "PUT", &simulator.connection(), "", &settings).await;
            assert_eq!(status, 200, "{shown}");
        }
        let lasting = lasting.then(|| world.registrar());
        let random = StdRng::seed_from_u64(1);
        let traffic = Self { world, simulators, random, taken: 0, lasting, delivered: 0 };
        traffic.enter_by_hand();
        traffic.run_jobs().await;
        traffic
    }

    fn of(&self, platform: &str) -> &Arc<dyn Simulator> {
        self.simulators.iter().find(|simulator| simulator.platform() == platform).unwrap()
    }

    fn ring(&self) -> KeyRing {
        KeyRing::parse(&self.world.signing.value().unwrap()).unwrap()
    }

    /// Enters the webhooks with the signing key's secret where somebody has to do it by hand.
    fn enter_by_hand(&self) {
        for simulator in &self.simulators {
            let path = WebhookPath::parse(simulator.platform(), &simulator.connection(), None).unwrap();
            let platform = find(PLATFORMS, simulator.platform()).unwrap();
            if platform.setup.webhooks().is_none() {
                let per_scope = platform.delivery.secret_per_scope();
                let secret = |scope: &str| {
                    let scope = per_scope.then_some(scope);
                    self.ring().signing().webhook_secret(&path, scope).reveal().to_owned()
                };
                simulator.subscribe(&format!("{BASE}{path}"), &secret);
            }
        }
    }

    async fn rotate(&self) -> Result<Value, Problem> {
        match &self.lasting {
            Some(registrar) => registrar.rotate(None).await.map(shown),
            None => self.world.registrar().rotate(None).await.map(shown),
        }
    }

    async fn report(&self) -> Value {
        match &self.lasting {
            Some(registrar) => shown(registrar.rotation().await.unwrap()),
            None => shown(self.world.registrar().rotation().await.unwrap()),
        }
    }

    async fn sweep(&self) {
        match &self.lasting {
            Some(registrar) => registrar.sweep().await.unwrap(),
            None => self.world.registrar().sweep().await.unwrap(),
        }
    }

    async fn run_jobs(&self) {
        let mut tries = 0;
        while let Some((job, delay)) = self.world.queues.next_job() {
            self.world.clock.pass_seconds(i64::from(delay));
            let ran = match &self.lasting {
                Some(registrar) => registrar.run(&job.text()).await,
                None => self.world.registrar().run(&job.text()).await,
            };
            ran.unwrap();
            tries += 1;
            assert!(tries < 1000, "there is no end of jobs");
        }
    }

    /// Delivers, and asserts that the receiver accepts the delivery, whatever key signed it.
    async fn deliver(&mut self, simulator: &dyn Simulator, delivery: &Delivery) {
        let status = self.answer(delivery).await;
        assert_eq!(status, 200, "{} refused: {delivery:?}", simulator.platform());
        simulator.answered(delivery, status);
        self.delivered += 1;
    }

    async fn answer(&self, delivery: &Delivery) -> u16 {
        let event = gateway_event(delivery, self.world.clock.now()).unwrap();
        self.world.receiver.receive(request(&event)).await.status().as_u16()
    }

    /// Makes changes at every platform, delivers and processes them, and returns the keys that proved each platform's
    /// deliveries.
    async fn happen(&mut self) -> BTreeMap<String, BTreeSet<String>> {
        self.world.clock.pass_seconds(BETWEEN_CHANGES);
        for simulator in self.simulators.clone() {
            // Not every change causes a delivery.
            let mut deliveries = Vec::new();
            for _ in 0..50 {
                simulator.change(&mut self.random);
                deliveries = simulator.outbox();
                if !deliveries.is_empty() {
                    break;
                }
            }
            for delivery in &deliveries {
                self.deliver(&*simulator, delivery).await;
            }
        }
        self.process().await
    }

    async fn process(&mut self) -> BTreeMap<String, BTreeSet<String>> {
        let sent = self.world.queues.sent();
        let messages: Vec<_> =
            sent.iter().enumerate().skip(self.taken).map(|(n, (sealed, _))| message(n, sealed.text())).collect();
        self.taken = sent.len();
        self.world.process(&messages).await;
        let mut keys: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for envelope in messages.iter().map(|message| Envelope::parse(&message.body).unwrap()) {
            if envelope.provenance == Provenance::Delivery {
                keys.entry(envelope.key.platform).or_default().insert(envelope.key_id);
            }
        }
        keys
    }

    /// Lets time pass in steps, with traffic, the schedule, and the jobs that follow.
    async fn pass(&mut self, seconds: i64, step: i64) {
        for _ in 0..seconds / step {
            self.world.clock.pass_seconds(step);
            self.happen().await;
            self.sweep().await;
            self.run_jobs().await;
        }
    }
}

/// Asserts which key proved the deliveries: `managed` for webhooks that we manage, `by_hand` for those entered by hand.
fn assert_proven(keys: &BTreeMap<String, BTreeSet<String>>, managed: &str, by_hand: &str) {
    assert_eq!(keys.len(), coded().count(), "all platforms deliver: {keys:?}");
    for (name, keys) in keys {
        let platform = find(PLATFORMS, name).unwrap();
        let is_by_hand = platform.setup.webhooks().is_none();
        let expected = match is_by_hand {
            true => by_hand,
            // The secret of an app does not rotate with our keys. The tests of its platform rotate it.
            false if signs_by_app(platform) => APP_KEY_ID,
            false => managed,
        };
        // A client may send a key of its own.
        let ours: Vec<_> = keys.iter().filter(|key| !key.starts_with("brought-")).collect();
        assert!(ours.iter().all(|key| *key == expected), "{name} by {keys:?}, not {expected}");
        assert!(!ours.is_empty() || is_by_hand, "{name} by {keys:?}");
    }
}

fn ids(report: &Value) -> Vec<(&str, &str, &str)> {
    let text = |key: &'_ Value, name: &str| -> &'static str {
        match key[name].as_str() {
            Some("incoming") => "incoming",
            Some("outgoing") => "outgoing",
            Some("sign") => "sign",
            Some("verify") => "verify",
            _ => "",
        }
    };
    let keys = report["keys"].as_array().unwrap().iter();
    keys.map(|key| (key["id"].as_str().unwrap(), text(key, "state"), text(key, "phase"))).collect()
}

async fn rotated_under_traffic(lasting: bool) {
    let mut traffic = Traffic::begin(lasting).await;
    for _ in 0..5 {
        traffic.world.clock.pass_seconds(MINUTE);
        let keys = traffic.happen().await;
        assert_proven(&keys, OLD, OLD);
    }
    assert_eq!(traffic.report().await["stage"], "none");
    // A store's queue can hold a delivery for any time.
    let store = Arc::clone(traffic.of("woocommerce"));
    let mut held = Vec::new();
    while held.len() < 2 {
        store.change(&mut traffic.random);
        held.extend(store.outbox());
    }

    let new = a_new_key_waits_until_it_is_known(&mut traffic).await;
    all_but_those_by_hand_are_moved(&mut traffic, &new).await;
    let straggled = a_straggler_keeps_the_former_key(&mut traffic, &*store, &held[0]).await;

    // Then the former key goes, and nothing is refused.
    let done = straggled.plus_seconds(QUIET + 10 * MINUTE);
    while traffic.world.clock.now() < done {
        assert_eq!(traffic.ring().iter().count() == 2, traffic.world.clock.now() <= straggled.plus_seconds(QUIET));
        traffic.pass(MINUTE, MINUTE).await;
    }
    let report = traffic.report().await;
    assert_eq!((&report["stage"], ids(&report)), (&json!("none"), vec![(new.as_str(), "sign", "")]));
    let keys = traffic.happen().await;
    assert_proven(&keys, &new, &new);
    assert_eq!(traffic.answer(&held[1]).await, 401, "the former key proves nothing any more");
    assert!(traffic.delivered > 300, "{}", traffic.delivered);
}

/// Begins the rotation, and waits until every receiver knows the new key. Returns its id.
async fn a_new_key_waits_until_it_is_known(traffic: &mut Traffic) -> String {
    // The new key exists but does not sign yet, however often a rotation is requested.
    let begun = traffic.world.clock.now();
    let report = traffic.rotate().await.unwrap();
    let new = ids(&report)[1].0.to_owned();
    assert!(new.starts_with("k-2026112") && new.len() == 17, "{new}");
    assert_eq!(ids(&report), [(OLD, "sign", ""), (&new, "verify", "incoming")]);
    assert_eq!((&report["stage"], report["kept_by"].as_array().unwrap().len()), (&json!("waiting"), 1));
    let secret = traffic.ring().iter().map(|key| String::from_utf8(key.secret().to_vec()).unwrap()).last().unwrap();
    assert_eq!(secret.len(), 64);
    assert!(!report.to_string().contains(&secret) && !report.to_string().contains(tools::events::SAMPLE_KEY));
    let ring = traffic.world.signing.value();
    for _ in 0..3 {
        assert_eq!(ids(&traffic.rotate().await.unwrap()), ids(&report), "asked twice, it is one");
    }
    assert_eq!(traffic.world.signing.value(), ring);

    // Time passes minute by minute until every receiver knows the new key.
    while traffic.report().await["stage"] == "waiting" {
        assert!(traffic.world.clock.now() < begun.plus_seconds(HOUR), "it does not end");
        traffic.world.clock.pass_seconds(MINUTE);
        let keys = traffic.happen().await;
        assert_proven(&keys, OLD, OLD);
        traffic.run_jobs().await;
        traffic.sweep().await;
        // A job makes the new key sign. The jobs that follow run later.
        while traffic.report().await["stage"] == "waiting"
            && let Some((job, _)) = traffic.world.queues.next_job()
        {
            match &traffic.lasting {
                Some(registrar) => registrar.run(&job.text()).await.unwrap(),
                None => traffic.world.registrar().run(&job.text()).await.unwrap(),
            }
        }
    }
    assert!(traffic.world.clock.now() >= begun.plus_seconds(420), "no sooner than all know it");
    let report = traffic.report().await;
    let managed = coded().filter(|platform| platform.setup.webhooks().is_some()).count();
    assert_eq!((&report["stage"], &report["elsewhere"]["count"]), (&json!("moving"), &json!(managed)), "{report}");
    assert_eq!(ids(&report), [(new.as_str(), "sign", ""), (OLD, "verify", "outgoing")]);
    new
}

/// Moves the webhooks, and asserts that those entered by hand keep the former key.
async fn all_but_those_by_hand_are_moved(traffic: &mut Traffic, new: &str) {
    // The webhooks move, one connection after another, and all deliver in the meantime.
    let moved_at = traffic.world.clock.now();
    while let Some((job, delay)) = traffic.world.queues.next_job() {
        traffic.world.clock.pass_seconds(i64::from(delay));
        traffic.happen().await;
        let ran = match &traffic.lasting {
            Some(registrar) => registrar.run(&job.text()).await,
            None => traffic.world.registrar().run(&job.text()).await,
        };
        ran.unwrap();
        traffic.happen().await;
    }
    let mut by_hand_by_old = false;
    for _ in 0..10 {
        traffic.world.clock.pass_seconds(MINUTE);
        let keys = traffic.happen().await;
        assert_proven(&keys, new, OLD);
        by_hand_by_old |= keys["directscale"].contains(OLD);
    }
    assert!(by_hand_by_old);
    let report = traffic.report().await;
    assert_eq!(report["elsewhere"], json!({ "count": 0, "connections": [] }), "{report}");

    // A webhook that was entered by hand keeps the former key for any time, and is named.
    traffic.pass(3 * 24 * HOUR, 6 * HOUR).await;
    assert!(traffic.world.clock.now() > moved_at.plus_seconds(QUIET));
    let report = traffic.report().await;
    assert_eq!(report["stage"], "moving");
    let client = format!("directscale#{}", traffic.of("directscale").connection());
    assert_eq!(report["by_hand"], json!([client]));
    assert!(report["kept_by"][0].as_str().unwrap().starts_with("sample proved a delivery last at "), "{report}");

    // The former key proves another delivery.
    for tries in 0.. {
        assert!(tries < 100, "the former key is not used any more");
        if traffic.happen().await.get("directscale").is_some_and(|keys| keys.contains(OLD)) {
            break;
        }
    }
}

/// Enters the new key by hand, and asserts that a delivery signed before keeps the former key. Returns the time at
/// which that delivery came.
async fn a_straggler_keeps_the_former_key(traffic: &mut Traffic, store: &dyn Simulator, held: &Delivery) -> Timestamp {
    // Somebody enters the new key, but a late delivery shows that the former one is still needed.
    traffic.enter_by_hand();
    for delivery in traffic.of("directscale").outbox() {
        traffic.answer(&delivery).await;
    }
    // The client also sends keys of its own, so the former key has proven nothing for some hours.
    traffic.pass(28 * HOUR, 4 * HOUR).await;
    let straggled = traffic.world.clock.now();
    traffic.deliver(store, held).await;
    assert_eq!(traffic.process().await["woocommerce"], BTreeSet::from([OLD.to_owned()]));
    traffic.pass(44 * HOUR, 4 * HOUR).await;
    traffic.pass(225 * MINUTE, 75 * MINUTE).await;
    let report = traffic.report().await;
    let due = straggled.plus_seconds(QUIET).seconds();
    assert_eq!(report["next_step_not_before"], Timestamp::from_millis(due * 1000).to_string());
    assert_eq!((&report["stage"], &report["by_hand"]), (&json!("moving"), &json!([])), "{report}");
    straggled
}

#[tokio::test]
async fn a_key_is_rotated_while_all_platforms_deliver() {
    rotated_under_traffic(false).await;
}

#[tokio::test]
async fn and_by_a_registrar_that_has_everything_cached() {
    rotated_under_traffic(true).await;
}

/// Makes a store whose webhooks we manage.
async fn store(ring: &str) -> World {
    let world = World::new();
    world.signing.set(Some(ring));
    let body = json!({ "site": "https://shop.example.com", "consumer_key": "ck_1", "consumer_secret": "cs_1" });
    let (status, shown) = world.admin("PUT", CONNECTION, "", &body.to_string()).await;
    assert_eq!(status, 200, "{shown}");
    world.run_jobs().await;
    world
}

/// Asserts that every webhook's delivery is accepted.
async fn assert_taken(world: &World) {
    for hook in world.store().webhooks() {
        assert_eq!(world.store().deliver_to(&hook, r#"{"id":1}"#).await, 200, "{}", hook.topic);
    }
}

#[tokio::test]
async fn what_breaks_off_at_any_step_goes_on() {
    // The secret is as CloudFormation generates it.
    let world = store(tools::events::SAMPLE_KEY).await;
    let mut stages = Vec::new();
    for passes in [0, 7 * MINUTE, QUIET] {
        world.clock.pass_seconds(passes);
        let before = world.signing.value();

        // Another registrar holds the lease.
        let note = world.tables.note(&deployment(), "rotation").await.unwrap();
        let revision = note.map_or(0, |note| note.revision) + 1;
        let lease = Note { body: "{}".into(), revision, expires: world.clock.now().seconds() + 60 };
        assert!(world.tables.keep(&deployment(), "rotation", &lease).await.unwrap());
        let refused = world.registrar().rotate(None).await;
        assert!(matches!(refused, Err(Problem::Conflict(_))), "{refused:?}");
        world.registrar().sweep().await.unwrap();
        world.run_jobs().await;
        assert_eq!(world.signing.value(), before, "it writes nothing meanwhile");
        assert_taken(&world).await;

        // The other one crashes without a write. This one takes the step, but its answer is lost.
        world.clock.pass_seconds(61);
        world.signing.lose_next_answer();
        assert!(matches!(world.registrar().rotate(None).await, Err(Problem::Ours(_))));
        let after = world.signing.value();
        assert_ne!(after, before);
        assert_taken(&world).await;

        // A repeated request begins no other rotation, and the schedule does the rest of the step.
        let report =
            if passes == QUIET { world.registrar().rotation().await } else { world.registrar().rotate(None).await };
        stages.push(shown(report.unwrap())["stage"].clone());
        assert_eq!(world.signing.value(), after);
        world.registrar().sweep().await.unwrap();
        world.run_jobs().await;
        assert_taken(&world).await;
        world.drain(0).await;
    }
    assert_eq!(stages, ["waiting", "moving", "none"]);
    let ring = KeyRing::parse(&world.signing.value().unwrap()).unwrap();
    assert_eq!(ring.iter().count(), 1);
    assert_eq!(world.connection().signed_with.as_deref(), Some(ring.signing().id()));
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_keeps_the_former_key() {
    let world = store(tools::events::SAMPLE_KEY).await;
    world.registrar().rotate(None).await.unwrap();
    world.clock.pass_seconds(7 * MINUTE);
    world.store().replace_key("ck_2", "cs_2");
    let report = shown(world.registrar().rotate(None).await.unwrap());
    assert_eq!(report["stage"], "moving");
    for _ in 0..5 {
        world.run_jobs().await;
        world.clock.pass_seconds(24 * HOUR);
        world.registrar().sweep().await.unwrap();
    }
    let report = shown(world.registrar().rotation().await.unwrap());
    assert_eq!(report["elsewhere"], json!({ "count": 1, "connections": [key().to_string()] }));
    assert_eq!(report["kept_by"], json!(["connections with webhooks on another key: 1"]));
    assert_taken(&world).await;
    // Most of its webhooks move, and then the store fails.
    world.run_jobs().await;
    world.store().replace_key("ck_1", "cs_1");
    world.store().trouble_after(8, tests::platforms::Trouble::Broken);
    world.registrar().sweep().await.unwrap();
    while let Some((job, _)) = world.queues.next_job() {
        let _ = world.registrar().run(&job.text()).await;
    }
    let hooks = world.tables.connection(&key()).webhooks;
    let keys: BTreeSet<_> = hooks.values().map(|record| record.key_id.as_str()).collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert_eq!(world.connection().signed_with, None);
    assert_eq!(shown(world.registrar().rotation().await.unwrap())["elsewhere"]["count"], 1);
    world.clock.pass_seconds(24 * HOUR);
    world.registrar().rotate(None).await.unwrap();
    assert_taken(&world).await;
    world.run_jobs().await;
    world.clock.pass_seconds(3 * 24 * HOUR);
    world.registrar().sweep().await.unwrap();
    world.run_jobs().await;
    assert_eq!(shown(world.registrar().rotation().await.unwrap())["stage"], "none");
    assert_taken(&world).await;
}

/// A store that nobody has repaired for a week does not keep the key.
#[tokio::test]
async fn a_store_that_was_given_up_keeps_no_key() {
    let world = store(tools::events::SAMPLE_KEY).await;
    world.store().replace_key("ck_2", "cs_2");
    world.registrar().rotate(None).await.unwrap();
    for days in 1.. {
        world.clock.pass_seconds(24 * HOUR);
        world.registrar().sweep().await.unwrap();
        world.run_jobs().await;
        let report = shown(world.registrar().rotation().await.unwrap());
        if report["stage"] == "none" {
            assert!(days > 7, "{days}");
            break;
        }
        assert!(days < 10, "{report}");
        let elsewhere = report["elsewhere"]["count"].as_u64().unwrap();
        let given_up = report["given_up"].as_array().unwrap().len();
        assert_eq!((elsewhere, given_up), if report["stage"] == "moving" { (1, 0) } else { (0, 0) }, "{report}");
    }
}

/// CloudFormation makes another key if the secret's template is edited, and somebody may enter one by hand.
#[tokio::test]
async fn a_key_that_was_replaced_by_another_is_one_that_hooks_are_moved_to() {
    let other = "another-key-of-at-least-32-characters";
    let of_one_id = |secret: &str| json!({ "keys": [{ "id": "k", "state": "sign", "secret": secret }] }).to_string();
    let bare = (tools::events::SAMPLE_KEY.to_owned(), other.to_owned());
    for (before, after) in [bare, (of_one_id(tools::events::SAMPLE_KEY), of_one_id(other))] {
        let world = store(&before).await;
        let plan = async || {
            let (status, plan) = world.admin("GET", &format!("{CONNECTION}/plan"), "", "").await;
            assert_eq!(status, 200, "{plan}");
            plan["steps"].as_array().unwrap().clone()
        };
        assert!(plan().await.is_empty(), "nothing was replaced");
        world.signing.set(Some(&after));
        world.clock.pass_seconds(10 * MINUTE);
        let hooks = world.store().webhooks();
        assert_eq!(world.store().deliver_to(&hooks[0], r#"{"id":1}"#).await, 401);
        let steps = plan().await;
        assert_eq!(steps.len(), hooks.len(), "{steps:?}");
        let why = if before.starts_with('{') { "replaced" } else { "secret" };
        assert!(steps.iter().all(|step| step["why"] == why), "{steps:?}");
        world.registrar().sweep().await.unwrap();
        world.run_jobs().await;
        assert!(plan().await.is_empty());
        for hook in world.store().webhooks() {
            assert_eq!(world.store().deliver_to(&hook, r#"{"id":1}"#).await, 200, "{}", hook.topic);
        }
        let (_, shown) = world.admin("GET", &format!("{CONNECTION}/subscriptions"), "", "").await;
        assert!(shown.to_string().contains("its key was"), "an operator sees it: {shown}");
    }
}

/// Records of a former release, whose bare keys all had one id, get the key's present id without an alarm.
#[tokio::test]
async fn records_of_before_are_brought_up_to_date_without_an_alarm() {
    let world = store(tools::events::SAMPLE_KEY).await;
    for mut record in world.tables.connection(&key()).webhooks.into_values() {
        (record.key_id, record.fingerprint) = ("initial".into(), None);
        cloud::connections::Connections::save_webhook(&world.tables, &key(), &record).await.unwrap();
    }
    world.clock.pass_seconds(HOUR);
    world.registrar().sweep().await.unwrap();
    world.run_jobs().await;
    let ring = KeyRing::parse(tools::events::SAMPLE_KEY).unwrap();
    for record in world.tables.connection(&key()).webhooks.into_values() {
        assert_eq!((record.key_id.as_str(), record.fingerprint.is_some()), (ring.signing().id(), true));
        assert_eq!((record.health.verdict, record.health.reason.as_str()), (commerce::health::Verdict::Healthy, ""));
    }
    for hook in world.store().webhooks() {
        assert_eq!(world.store().deliver_to(&hook, r#"{"id":1}"#).await, 200, "{}", hook.topic);
    }
}

#[tokio::test]
async fn a_compromised_key_is_retired_at_once() {
    let world = store(tools::events::SAMPLE_KEY).await;
    let ids = || -> Vec<String> {
        let ring = KeyRing::parse(&world.signing.value().unwrap()).unwrap();
        ring.iter().map(|key| key.id().to_owned()).collect()
    };
    world.registrar().rotate(None).await.unwrap();
    world.clock.pass_seconds(7 * MINUTE);
    world.registrar().rotate(None).await.unwrap();
    let both = ids();
    assert!(both[1].starts_with("initial-"), "{both:?}");
    world.clock.pass_seconds(2 * MINUTE);
    for wrong in ["unknown", &both[0]] {
        let refused = world.registrar().rotate(Some(wrong)).await;
        assert!(matches!(refused, Err(Problem::Invalid(_))), "{refused:?}");
    }
    assert_eq!(ids(), both);
    let leaked = world.store().webhooks();
    let ask = async |body: &str| {
        world.ask(Some(&world.bearer("rotate")), "POST", "/admin/rotation", "", body).await.status().as_u16()
    };
    assert_eq!((ask(r#"{"retire":7}"#).await, ask(&json!({ "retire": both[1] }).to_string()).await), (422, 200));
    assert_eq!(ids(), both[..1]);
    world.clock.pass_seconds(10 * MINUTE);
    for hook in &leaked {
        assert_eq!(world.store().deliver_to(hook, r#"{"id":1}"#).await, 401, "{}", hook.topic);
    }
    world.run_jobs().await;
    assert_taken(&world).await;
}
