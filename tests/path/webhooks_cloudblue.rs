//! CloudBlue Connect's webhooks, one for each product and class of requests: made, repaired and removed by the
//! registrar, and their deliveries.

use std::sync::Arc;

use cloud::queue::Jobs;
use commerce::{
    connection::ConnectionStatus,
    http_call::Loopback,
    job::{Job, Trigger},
    key::ConnectionKey,
    request::WebhookPath,
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tests::{
    platforms::{
        Delivery, Simulator, Trouble, changing,
        cloudblue::{Connect, PRODUCTS, Webhook},
    },
    world::{BASE, Outside, World, gateway_event, message, outcomes, request},
};

const SITE: &str = "http://127.0.0.1:20000";
const CONNECTION: &str = "va-000-111";
const URL: &str = "https://hooks.example.com/hooks/cloudblue/va-000-111";

struct Account {
    world: World,
    connect: Arc<Connect>,
}

impl Account {
    fn new() -> Self {
        let mut world = World::new();
        world.loopback = Loopback::Allowed;
        let policy = json!([{ "approve": { "template": "TL-000-000-001" } }]);
        let connect = Arc::new(Connect::with_policy(world.clock.function(), policy));
        world.outside = Outside::Simulated(vec![(SITE.to_owned(), Arc::clone(&connect) as Arc<dyn Simulator>)]);
        Self { world, connect }
    }

    /// Makes an account with all its webhooks.
    async fn connected() -> Self {
        let account = Self::new();
        assert_eq!(account.put().await.0, 200);
        account.connect.calls();
        account
    }

    async fn put(&self) -> (u16, Value) {
        self.put_with(|_| {}).await
    }

    async fn put_with(&self, change: impl FnOnce(&mut Value)) -> (u16, Value) {
        let mut settings = self.connect.settings(SITE);
        change(&mut settings);
        self.admin("PUT", &settings.to_string()).await
    }

    async fn admin(&self, method: &str, body: &str) -> (u16, Value) {
        self.world.admin_of("cloudblue", method, CONNECTION, "", body).await
    }

    /// Returns the product and class of each webhook that delivers here, sorted.
    fn ours(&self) -> Vec<(String, String)> {
        let here = |hook: &Webhook| hook.url.starts_with(BASE);
        let all = self.connect.webhooks().into_iter().filter(here);
        let mut kinds: Vec<_> = all.map(|hook| (hook.product, hook.class)).collect();
        kinds.sort();
        kinds
    }

    /// Returns the ids of the admitted webhooks, from the connection's record.
    fn admitted(&self) -> Value {
        self.world.tables.connection(&key()).connection.unwrap().settings["webhooks"].clone()
    }

    fn ids(&self) -> Vec<String> {
        self.connect.webhooks().into_iter().map(|hook| hook.id).collect()
    }

    /// Delivers, processes messages until nothing is left, and returns all outcomes.
    async fn deliver(&self, deliveries: Vec<Delivery>) -> Vec<String> {
        self.deliver_after(self.world.queues.sent().len(), deliveries).await
    }

    /// Delivers, processes all messages after the first `taken` until nothing is left, and returns all outcomes.
    async fn deliver_after(&self, mut taken: usize, deliveries: Vec<Delivery>) -> Vec<String> {
        for delivery in deliveries {
            let event = gateway_event(&delivery, self.world.clock.now()).unwrap();
            let status = self.world.receiver.receive(request(&event)).await.status().as_u16();
            assert_eq!(status, 200, "{delivery:?}");
            self.connect.answered(&delivery, status);
        }
        let mut ends = Vec::new();
        loop {
            let sent = self.world.queues.sent();
            let waiting: Vec<_> =
                sent.iter().enumerate().skip(taken).map(|(n, (sealed, _))| message(n, sealed.text())).collect();
            if waiting.is_empty() {
                return ends;
            }
            taken = sent.len();
            assert!(ends.len() < 2000, "it does not end: {ends:?}");
            self.world.clock.pass_seconds(200);
            ends.extend(outcomes(&self.world.process(&waiting).await));
        }
    }
}

fn key() -> ConnectionKey {
    WebhookPath::parse("cloudblue", CONNECTION, None).unwrap().key
}

/// Returns the webhooks that these products should have.
fn both(products: &[&str]) -> Vec<(String, String)> {
    let classes = ["fulfillment_request", "tier_config_request"];
    products.iter().flat_map(|product| classes.map(|class| (product.to_string(), class.to_owned()))).collect()
}

fn changes(shown: &Value) -> [usize; 3] {
    ["created", "updated", "deleted"].map(|name| shown["changes"][name].as_array().unwrap().len())
}

#[tokio::test]
async fn each_product_gets_both_webhooks_once_however_often_it_is_asked() {
    let account = Account::new();
    let (status, shown) = account.put().await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!(changes(&shown), [4, 0, 0]);
    assert_eq!(account.ours(), both(&PRODUCTS));
    let hooks = account.connect.webhooks();
    assert!(hooks.iter().all(|hook| hook.url == URL && hook.active && hook.kind == "event"), "{hooks:?}");
    assert!(hooks.iter().all(|hook| hook.headers == json!({ "Content-Type": "application/json" })));
    assert_eq!(account.admitted(), json!(account.ids()));
    let text = shown.to_string();
    assert!(hooks.iter().all(|hook| hook.secret.len() == 64 && !text.contains(&hook.secret)), "{text}");
    assert!(!text.contains("0123456789abcdef"), "nor the key: {text}");

    account.connect.calls();
    let record = account.world.tables.connection(&key());
    for _ in 0..3 {
        let (status, shown) = account.put().await;
        assert_eq!((status, &shown["changes"]["kept"]), (200, &json!(4)));
    }
    assert!(changing(&account.connect.calls()).is_empty(), "nothing was changed at the platform");
    assert_eq!(account.world.tables.connection(&key()), record, "nor here");
}

#[tokio::test]
async fn a_product_that_is_taken_out_takes_its_webhooks_along() {
    let account = Account::connected().await;
    let without = |settings: &mut Value| {
        settings["products"].as_object_mut().unwrap().remove(PRODUCTS[0]);
    };
    let (status, shown) = account.put_with(without).await;
    assert_eq!((status, changes(&shown)), (200, [0, 0, 2]));
    assert_eq!(account.ours(), both(&PRODUCTS[1..]));
    assert_eq!(account.admitted(), json!(account.ids()), "what is gone is not admitted any more");
    // The settings name the wanted products; without a name, no webhook is wanted.
    let (_, shown) = account.put_with(|settings| settings["products"] = json!({})).await;
    assert_eq!(changes(&shown), [0, 0, 2]);
    assert!(account.ids().is_empty());
    assert_eq!(account.admitted(), json!([]));
    let (_, shown) = account.put().await;
    assert_eq!((changes(&shown), account.ours()), ([4, 0, 0], both(&PRODUCTS)));
}

#[tokio::test]
async fn what_was_changed_at_the_platform_is_put_right() {
    type Spoil = fn(&Connect, &Webhook);
    let spoilt: [(&str, Spoil, [usize; 3]); 6] = [
        ("off", |connect, hook| connect.edit_webhook(&hook.id, |hook| hook.active = false), [0, 1, 0]),
        ("gone", |connect, hook| connect.remove_webhook(&hook.id), [1, 0, 0]),
        (
            "twice",
            |connect, hook| {
                connect.add_webhook(&hook.class, &hook.product, &hook.url);
            },
            [0, 0, 1],
        ),
        (
            "elsewhere",
            |connect, hook| connect.edit_webhook(&hook.id, |hook| hook.url = "https://x.y/".into()),
            [0, 1, 0],
        ),
        // The recorded webhook becomes one of another class: one webhook is missing, and one is superfluous.
        (
            "other class",
            |connect, hook| connect.edit_webhook(&hook.id, |hook| hook.class = "usage_file".into()),
            [1, 0, 1],
        ),
        ("validator", |connect, hook| connect.edit_webhook(&hook.id, |hook| hook.kind = "validator".into()), [1, 0, 1]),
    ];
    for (name, spoil, expected) in spoilt {
        let account = Account::connected().await;
        let hook = account.connect.webhooks().remove(2);
        spoil(&account.connect, &hook);
        let (status, shown) = account.put().await;
        assert_eq!((status, changes(&shown)), (200, expected), "{name}: {shown}");
        assert_eq!(account.ours(), both(&PRODUCTS), "{name}");
        let hooks = account.connect.webhooks();
        assert!(hooks.iter().all(|all| all.url == URL && all.active && all.secret == hook.secret), "{name}: {hooks:?}");
        assert_eq!(account.admitted(), json!(account.ids()), "{name}");
        let (_, shown) = account.put().await;
        assert_eq!(shown["changes"]["kept"], 4, "{name}");
    }
}

#[tokio::test]
async fn webhooks_of_others_are_not_touched() {
    let account = Account::new();
    let elsewhere = format!("{BASE}/hooks/cloudblue/va-000-222");
    for url in ["https://erp.example.com/hooks/cloudblue/va-000-111", &elsewhere] {
        account.connect.add_webhook("fulfillment_request", PRODUCTS[0], url);
    }
    let before = account.connect.webhooks();
    let theirs = |account: &Account| -> Vec<Webhook> {
        account.connect.webhooks().into_iter().filter(|hook| hook.secret == "theirs").collect()
    };
    account.put().await;
    assert_eq!(account.ids().len(), 6);
    assert_eq!(theirs(&account), before);
    assert!(account.admitted().as_array().unwrap().iter().all(|id| before.iter().all(|hook| hook.id != *id)));
    account.put_with(|settings| settings["products"] = json!({ PRODUCTS[1]: "observe" })).await;
    assert_eq!(theirs(&account), before);
    let (status, shown) = account.admin("DELETE", "").await;
    assert_eq!((status, &shown["status"]), (200, &json!("disconnected")));
    assert_eq!(account.connect.webhooks(), before, "theirs are left, and no other");
}

#[tokio::test]
async fn a_connect_that_breaks_off_is_finished_by_the_next() {
    for trouble in [Trouble::AnswerLost, Trouble::Slow, Trouble::Broken, Trouble::TooMany(1)] {
        for at in 0..5 {
            let account = Account::new();
            let mut troubles = vec![Trouble::None; at];
            troubles.push(trouble);
            account.connect.trouble(&troubles);
            // The calls are the list, then one for each webhook.
            let (status, shown) = account.put().await;
            assert_eq!(status, 502, "{trouble:?} at {at}: {shown}");
            let (status, shown) = account.put().await;
            assert_eq!(status, 200, "{trouble:?} at {at}: {shown}");
            assert_eq!(account.ours(), both(&PRODUCTS), "{trouble:?} at {at}: no duplicate, none missing");
            assert_eq!(account.admitted(), json!(account.ids()));
            let (_, shown) = account.put().await;
            assert_eq!(shown["changes"]["kept"], 4);
            let secrets: Vec<_> = account.connect.webhooks().into_iter().map(|hook| hook.secret).collect();
            assert!(secrets.iter().all(|secret| *secret == secrets[0]), "and each with the secret that counts");
        }
    }
}

#[tokio::test]
async fn what_the_platform_refuses_is_told_without_its_texts() {
    let account = Account::new();
    let unknown = |settings: &mut Value| settings["products"] = json!({ "PRD-999": "observe" });
    let (status, problem) = account.put_with(unknown).await;
    assert_eq!(status, 422, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("VAL_001") && !detail.contains("object does not exist"), "{detail}");
    // The list proves the key.
    let account = Account::new();
    let (status, problem) = account.put_with(|settings| settings["api_key"] = json!("SU-1:other")).await;
    assert_eq!((status, &problem["type"]), (422, &json!("urn:commerce-hooks:problem:refused-by-store")));
    assert!(account.world.tables.connection(&key()).connection.is_none(), "what is not proven is not kept");
    assert_eq!(account.connect.calls().len(), 1);
}

#[tokio::test]
async fn disconnecting_removes_them_and_connecting_anew_makes_others() {
    let account = Account::connected().await;
    let former = account.connect.webhooks();
    account.connect.purchase(&mut StdRng::seed_from_u64(3), false);
    account.connect.run_now();
    let late = account.connect.outbox();
    assert_eq!(account.admin("DELETE", "").await.0, 200);
    assert!(account.ids().is_empty());
    let connection = account.world.tables.connection(&key()).connection.unwrap();
    assert!(connection.status == ConnectionStatus::Disconnected && connection.credentials.is_none());
    let ends = account.deliver(late.clone()).await;
    assert!(ends.iter().all(|end| end == "ignored: disconnected") && ends.len() == late.len(), "{ends:?}");
    let (status, shown) = account.put().await;
    assert_eq!((status, &shown["generation"], changes(&shown)), (200, &json!(2), [4, 0, 0]));
    let hooks = account.connect.webhooks();
    assert!(hooks.iter().all(|hook| hook.url == format!("{URL}/2") && hook.secret != former[0].secret));
    assert_eq!(account.admitted(), json!(account.ids()));
}

#[tokio::test]
async fn what_they_deliver_is_admitted_and_requests_are_answered() {
    let account = Account::connected().await;
    let ids = account.ids();
    let mut random = StdRng::seed_from_u64(5);
    for _ in 0..6 {
        account.connect.purchase(&mut random, false);
    }
    account.connect.purchase(&mut random, true);
    account.connect.run_now();
    let triggers = account.connect.outbox();
    assert_eq!(triggers.len(), ids.len(), "one of each");
    let ends = account.deliver(triggers).await;
    assert!(!ends.is_empty() && ends.iter().all(|end| !end.contains("foreign")), "{ends:?}");
    assert!(account.connect.actions().keys().any(|(_, action)| action == "approve"), "{ends:?}");

    // After a repair, the new webhook is admitted in place of the former one.
    account.connect.remove_webhook(&ids[0]);
    account.put().await;
    account.connect.run_now();
    let triggers = account.connect.outbox();
    assert!(account.ids().contains(&"WH-000-000-005".to_owned()) && triggers.len() == 4);
    let ends = account.deliver(triggers).await;
    assert!(!ends.is_empty() && ends.iter().all(|end| !end.contains("foreign")), "{ends:?}");

    // A webhook with our secret that nobody has announced is foreign.
    let stray = account.connect.add_webhook("fulfillment_request", PRODUCTS[0], URL);
    let secret = account.connect.webhooks()[0].secret.clone();
    account.connect.edit_webhook(&stray, |hook| hook.secret = secret);
    account.connect.run_now();
    let ends = account.deliver(account.connect.outbox()).await;
    assert_eq!(ends.iter().filter(|end| *end == "ignored: cloudblue-foreign-webhook").count(), 1, "{ends:?}");
}

#[tokio::test]
async fn webhooks_that_were_entered_by_hand_become_the_connection_s_own() {
    let account = Account::new();
    let by_hand = |settings: &mut Value| {
        settings.as_object_mut().unwrap().remove("api_key");
    };
    let (status, shown) = account.put_with(by_hand).await;
    assert_eq!(status, 200);
    assert!(shown["subscriptions"].as_array().unwrap().iter().all(|hook| hook["status"] == "manual"), "{shown}");
    assert!(account.connect.calls().is_empty(), "nothing is asked without a key");
    account.connect.subscribe(shown["delivery_url"].as_str().unwrap(), &|_| "entered by hand".into());
    let entered = account.ids();
    let (_, shown) = account.put_with(by_hand).await;
    assert_eq!(shown["settings"]["webhooks"], json!(entered));
    assert!(account.connect.calls().is_empty());
    // With a key, they get the right secret, and stay the same webhooks.
    let (status, shown) = account.put().await;
    assert_eq!((status, changes(&shown)), (200, [0, 4, 0]));
    assert_eq!(account.ids(), entered);
    assert!(account.connect.webhooks().iter().all(|hook| hook.secret.len() == 64));
    // An id that the client names is admitted while it is named.
    let more = |settings: &mut Value| settings["webhooks"].as_array_mut().unwrap().push(json!("WH-900"));
    account.put_with(more).await;
    assert_eq!(account.admitted(), json!([entered.clone(), vec!["WH-900".into()]].concat()));
    account.put().await;
    assert_eq!(account.admitted(), json!(entered));
}

#[tokio::test]
async fn showing_tells_how_they_are_at_the_platform_and_no_secret() {
    let account = Account::connected().await;
    let hook = account.connect.webhooks().remove(1);
    account.connect.edit_webhook(&hook.id, |hook| hook.active = false);
    account.connect.remove_webhook(&account.ids()[3]);
    let (status, shown) = account.admin("GET", "").await;
    assert_eq!(status, 200);
    let subscriptions = shown["subscriptions"].as_array().unwrap();
    let of = |id: &str| subscriptions.iter().find(|shown| shown["id"] == id).unwrap();
    assert_eq!(of(&hook.id)["scope"], format!("{}@{}", hook.class, hook.product));
    assert_eq!(of(&hook.id)["status"], "inactive");
    let count = |status: &str| subscriptions.iter().filter(|shown| shown["status"] == status).count();
    assert_eq!([count("active"), count("inactive"), count("missing")], [2, 1, 1]);
    assert!(!shown.to_string().contains(&hook.secret));
}

#[tokio::test]
async fn what_the_platform_tells_of_failures_is_shown() {
    let account = Account::connected().await;
    account.connect.run_now();
    for failed in account.connect.outbox() {
        account.connect.answered(&failed, 503);
    }
    let failures = async || {
        let (_, shown) = account.admin("GET", "").await;
        let rows = shown["subscriptions"].as_array().unwrap().iter();
        rows.map(|row| row["failures"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(failures().await, [1; 4]);
    // The repeated deliveries succeed.
    account.deliver(account.connect.outbox()).await;
    assert_eq!(failures().await, [0; 4]);
}

/// The texts in a request or an asset of the simulator that let their holder act.
const SECRETS: [&str; 2] = ["s3cr3t", "code="];

#[tokio::test]
async fn all_subscriptions_of_one_moment_are_imported_and_polled() {
    let account = Account::new();
    let mut random = StdRng::seed_from_u64(3);
    for _ in 0..130 {
        account.connect.purchase(&mut random, false);
    }
    let policy = json!([{ "inquire": { "template": "TL-000-000-002" } }]);
    let observe = |settings: &mut Value| {
        settings["products"] = PRODUCTS.iter().map(|product| ((*product).to_owned(), policy.clone())).collect();
    };
    assert_eq!(account.put_with(observe).await.0, 200);
    assert!(account.world.run_jobs().await > 0);
    let ends = account.deliver_after(0, Vec::new()).await;
    assert!(ends.iter().all(|end| !end.contains("quarantined") && !end.contains("failed")), "{ends:?}");
    let kept = |account: &Account| -> Vec<String> {
        let items = account.world.tables.items().into_iter().filter(|item| item.sk.starts_with("subscription#"));
        items.map(|item| item.sk).collect()
    };
    assert_eq!(kept(&account).len(), 130);
    // No webhook reports the next purchase.
    account.world.clock.pass_seconds(1800);
    account.connect.purchase(&mut random, false);
    account.connect.outbox();
    let taken = account.world.queues.sent().len();
    account.world.clock.pass_seconds(7200);
    let check = Job::check(&key(), Trigger::Schedule);
    account.world.queues.send_jobs(&[(check, 0)]).await.unwrap();
    account.world.run_jobs().await;
    account.deliver_after(taken, Vec::new()).await;
    assert_eq!(kept(&account).len(), 131);
    // The policy inquires about requests, so each has a link with a code now. Neither the code nor a password is kept.
    assert!(account.connect.actions().keys().any(|(_, action)| action == "inquire"));
    let table = serde_json::to_string(&account.world.tables.items()).unwrap();
    assert!(table.contains("inquiring") && SECRETS.iter().all(|secret| !table.contains(secret)));
    assert!(table.contains("PRD-000-000-001-0001"), "an old item goes by its global id");
}
