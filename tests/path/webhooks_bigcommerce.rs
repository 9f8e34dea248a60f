//! BigCommerce's webhooks: made by `PUT`, repaired by the next one, and removed by `DELETE`. Webhooks of others are
//! never touched.

use std::{collections::BTreeSet, sync::Arc};

use commerce::{
    http_call::Loopback, key::ConnectionKey, platform::mapping::declared_scopes, platforms::bigcommerce::PLATFORM,
    request::WebhookPath,
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tests::{
    platforms::{
        Delivery, Simulator, Trouble,
        bigcommerce::{self, Hook, STORE},
    },
    world::{BASE, Outside, World, gateway_event, message, outcomes, request},
};
use tools::events::sample_ring;

const DELIVERY_EXCEPTION: &str = "store/hook/deliveryException";

type Store = bigcommerce::Simulator;

fn store() -> (World, Arc<Store>) {
    let mut world = World::new();
    world.loopback = Loopback::Allowed;
    let store = Arc::new(Store::new(world.clock.function(), false));
    world.outside = Outside::Simulated(vec![(site(), Arc::clone(&store) as Arc<dyn Simulator>)]);
    (world, store)
}

fn site() -> String {
    "http://127.0.0.1:20000".to_owned()
}

fn path() -> WebhookPath {
    WebhookPath::parse(PLATFORM.name, STORE, None).unwrap()
}

fn key() -> ConnectionKey {
    path().key
}

fn url() -> String {
    format!("{BASE}{}", path())
}

fn scopes() -> BTreeSet<String> {
    declared_scopes(&PLATFORM).map(str::to_owned).collect()
}

/// Returns the webhook as it has to be at the store.
fn wanted(scope: &str) -> (String, String, Value, bool) {
    let own = if scope == DELIVERY_EXCEPTION { "?for=delivery-exception" } else { "" };
    let secret = sample_ring().signing().webhook_secret(&path(), None).reveal().to_owned();
    (scope.to_owned(), format!("{}{own}", url()), json!({ "X-Commerce-Hooks-Key": secret }), true)
}

/// Asserts that the store has each of our webhooks exactly once, and as it has to be.
fn assert_right(world: &World, store: &Store) {
    let hooks = store.hooks().into_iter().filter(|hook| hook.destination.starts_with(BASE));
    let (mut there, mut ids) = (Vec::new(), BTreeSet::new());
    for hook in hooks {
        ids.insert(hook.id.to_string());
        there.push((hook.scope, hook.destination, hook.headers, hook.is_active));
    }
    there.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(there, scopes().iter().map(|scope| wanted(scope)).collect::<Vec<_>>());
    let records = world.tables.connection(&key()).webhooks;
    assert_eq!(records.keys().cloned().collect::<BTreeSet<_>>(), scopes());
    assert_eq!(records.values().map(|record| record.id.to_string()).collect::<BTreeSet<_>>(), ids);
}

async fn put(world: &World, store: &Store) -> (u16, Value) {
    // The quota is counted per half minute.
    world.clock.pass_seconds(31);
    let settings = store.settings(&site()).to_string();
    world.admin_of(PLATFORM.name, "PUT", STORE, "", &settings).await
}

async fn connected() -> (World, Arc<Store>) {
    let (world, store) = store();
    let (status, shown) = put(&world, &store).await;
    assert_eq!(status, 200, "{shown}");
    store.calls();
    (world, store)
}

fn hook(store: &Store, scope: &str) -> Hook {
    store.hooks().into_iter().find(|hook| hook.scope == scope).unwrap()
}

fn changes(store: &Store) -> Vec<String> {
    store.calls().into_iter().filter(|call| !call.starts_with("GET ")).collect()
}

async fn deliver(world: &World, store: &Store, delivery: &Delivery) -> u16 {
    world.clock.pass_seconds(1);
    let event = gateway_event(delivery, world.clock.now()).unwrap();
    let status = world.receiver.receive(request(&event)).await.status().as_u16();
    store.answered(delivery, status);
    status
}

#[tokio::test]
async fn connecting_makes_every_hook_once_however_often_it_is_asked() {
    let (world, store) = store();
    let (status, shown) = put(&world, &store).await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!(shown["changes"]["created"].as_array().unwrap().len(), scopes().len());
    assert_right(&world, &store);
    let active = |shown: &Value| {
        let subscriptions = shown["subscriptions"].as_array().unwrap();
        subscriptions.len() == scopes().len() && subscriptions.iter().all(|hook| hook["status"] == "active")
    };
    assert!(active(&shown), "{shown}");
    let (made, record) = (store.hooks(), world.tables.connection(&key()));
    store.calls();
    for _ in 0..3 {
        let (status, shown) = put(&world, &store).await;
        assert_eq!((status, &shown["changes"]["kept"]), (200, &json!(scopes().len())), "{shown}");
        assert_eq!(changes(&store), [""; 0]);
    }
    assert_eq!((store.hooks(), world.tables.connection(&key())), (made, record));
    let (_, shown) = world.admin_of(PLATFORM.name, "GET", STORE, "", "").await;
    assert!(active(&shown) && !shown.to_string().contains(bigcommerce::ACCESS_TOKEN), "{shown}");
}

#[tokio::test]
async fn what_was_changed_at_the_store_is_put_right() {
    let (world, store) = connected().await;
    let of = |scope: &str| hook(&store, scope).id;
    store.edit_hook(of("store/order/created"), |hook| hook.is_active = false);
    store.edit_hook(of("store/order/updated"), |hook| hook.destination = "https://elsewhere.example.com/".into());
    store.edit_hook(of(DELIVERY_EXCEPTION), |hook| hook.destination = url());
    store.remove_hook(of("store/cart/created"));
    // One more at a former address, and one at the same address, as old accounts have them.
    let (former, same) = ("store/cart/updated", "store/cart/deleted");
    store.hook(former, &format!("{}/1", url()), "former");
    store.hook(same, &url(), "twice");
    let (status, shown) = put(&world, &store).await;
    assert_eq!(status, 200, "{shown}");
    let changed = |name: &str| {
        let scopes = shown["changes"][name].as_array().unwrap();
        scopes.iter().map(|scope| scope.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    assert_eq!(changed("created"), BTreeSet::from(["store/cart/created".to_owned()]));
    let updated = ["store/order/created", "store/order/updated", DELIVERY_EXCEPTION].map(str::to_owned);
    assert_eq!(changed("updated"), BTreeSet::from(updated));
    assert_eq!(changed("deleted"), BTreeSet::from([former, same].map(str::to_owned)));
    assert_right(&world, &store);
    let (_, shown) = put(&world, &store).await;
    assert_eq!(shown["changes"]["kept"], json!(scopes().len()));
}

/// A webhook cannot be moved to the address of another one with the same topic, because only one may be there.
#[tokio::test]
async fn a_hook_that_was_moved_gives_way_to_the_one_in_its_place() {
    let (world, store) = connected().await;
    store.edit_hook(hook(&store, "store/order/created").id, |hook| hook.destination = format!("{}/1", url()));
    store.hook("store/order/created", &url(), "by hand");
    let (status, shown) = put(&world, &store).await;
    assert_eq!(status, 200, "{shown}");
    assert_right(&world, &store);
}

#[tokio::test]
async fn another_signing_key_sets_every_header_again() {
    let (world, store) = connected().await;
    let before = store.hooks();
    let rotated = json!({ "keys": [
        { "id": "new", "state": "sign", "secret": "a-new-key-of-at-least-32-bytes...." },
        { "id": "sample", "state": "verify", "secret": tools::events::SAMPLE_KEY },
    ] });
    world.signing.set(Some(&rotated.to_string()));
    let (status, shown) = put(&world, &store).await;
    assert_eq!((status, shown["changes"]["updated"].as_array().unwrap().len()), (200, scopes().len()));
    let after = store.hooks();
    assert_eq!(after.len(), before.len());
    assert!(after.iter().zip(&before).all(|(after, before)| after.id == before.id && after.headers != before.headers));
}

#[tokio::test]
async fn hooks_of_others_are_not_touched() {
    let (world, store) = store();
    // These fill two pages. One more delivers to another connection's address here. Another app's webhook has our own
    // address, and a token does not see it.
    for n in 0..120 {
        store.hook("store/order/updated", &format!("https://erp.example.com/{n}{}", path()), "theirs");
    }
    store.hook("store/order/updated", &format!("{BASE}/hooks/bigcommerce/another"), "theirs");
    let app = store.hook("store/product/updated", &url(), "theirs");
    store.edit_hook(app, |hook| hook.client_id = "another-app".into());
    let theirs = store.hooks();
    // The topic has more webhooks than the platform allows.
    let (status, _) = put(&world, &store).await;
    assert_eq!(status, 422);
    for hook in &theirs[..112] {
        store.edit_hook(hook.id, |hook| hook.scope = "store/information/updated".into());
    }
    let theirs = store.hooks()[..theirs.len()].to_vec();
    let (status, shown) = put(&world, &store).await;
    assert_eq!(status, 200, "{shown}");
    store.calls();
    let (_, shown) = put(&world, &store).await;
    assert_eq!((&shown["changes"]["kept"], changes(&store)), (&json!(scopes().len()), Vec::new()));
    let (mut kept, ours): (Vec<_>, Vec<_>) =
        store.hooks().into_iter().partition(|hook| theirs.iter().any(|their| their.id == hook.id));
    kept.sort_by_key(|hook| hook.id);
    assert_eq!((&kept, ours.len()), (&theirs, scopes().len()));
    let (status, shown) = world.admin_of(PLATFORM.name, "DELETE", STORE, "", "").await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!(store.hooks(), theirs);
}

#[tokio::test]
async fn a_connect_that_breaks_off_is_finished_by_the_next() {
    let troubles = [Trouble::AnswerLost, Trouble::Broken, Trouble::Slow, Trouble::TooMany(5), Trouble::NotFoundPage];
    for trouble in troubles {
        for after in [1, 4, scopes().len()] {
            let (world, store) = store();
            let mut queue = vec![Trouble::None; after];
            queue.push(trouble);
            store.trouble(&queue);
            let (status, shown) = put(&world, &store).await;
            // A refusal may mean that the webhook exists already, so the webhooks are listed again at once.
            let expected = if trouble == Trouble::NotFoundPage { 200 } else { 502 };
            assert_eq!(status, expected, "{trouble:?} after {after}: {shown}");
            let (status, shown) = put(&world, &store).await;
            assert_eq!(status, 200, "{trouble:?} after {after}: {shown}");
            assert_right(&world, &store);
            let (_, shown) = put(&world, &store).await;
            assert_eq!(shown["changes"]["kept"], json!(scopes().len()));
        }
    }
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_waited_for() {
    let (world, store) = store();
    let settings = store.settings(&site()).to_string();
    // Other calls use most of the quota.
    let request = || world.admin_of(PLATFORM.name, "GET", STORE, "", "");
    let (status, _) = put(&world, &store).await;
    assert_eq!(status, 200);
    world.clock.pass_seconds(31);
    for _ in 0..140 {
        assert_eq!(request().await.0, 200);
    }
    for hook in store.hooks() {
        store.edit_hook(hook.id, |hook| hook.is_active = false);
    }
    let (status, problem) = world.admin_of(PLATFORM.name, "PUT", STORE, "", &settings).await;
    assert!(status == 502 && problem["detail"].as_str().unwrap().contains("asks to wait"), "{problem}");
    let (status, shown) = put(&world, &store).await;
    assert_eq!(status, 200, "{shown}");
    assert_right(&world, &store);
}

#[tokio::test]
async fn its_deliveries_become_entities_and_after_disconnecting_none_is_left() {
    let (world, store) = connected().await;
    let mut random = StdRng::seed_from_u64(3);
    let mut taken = 0;
    for _ in 0..60 {
        store.change(&mut random);
        for delivery in store.outbox() {
            assert_eq!(delivery.url, url());
            assert_eq!(deliver(&world, &store, &delivery).await, 200, "{delivery:?}");
        }
        world.clock.pass_seconds(31);
        let sent = world.queues.sent();
        let messages: Vec<_> =
            sent.iter().enumerate().skip(taken).map(|(n, (sealed, _))| message(n, sealed.text())).collect();
        taken = sent.len();
        let ends = outcomes(&world.process(&messages).await);
        assert!(ends.iter().all(|end| !end.starts_with("failed")), "{ends:?}");
    }
    let kinds: BTreeSet<_> =
        world.tables.items().into_iter().map(|item| item.sk.split('#').next().unwrap().to_owned()).collect();
    assert!(kinds.contains("product") && kinds.contains("customer") && kinds.contains("order"), "{kinds:?}");

    store.change(&mut random);
    let stragglers = store.outbox();
    let (status, shown) = world.admin_of(PLATFORM.name, "DELETE", STORE, "", "").await;
    assert_eq!((status, &shown["status"]), (200, &json!("disconnected")), "{shown}");
    assert!(store.hooks().is_empty());
    let record = world.tables.connection(&key());
    assert!(record.webhooks.is_empty() && record.connection.unwrap().credentials.is_none());
    for _ in 0..20 {
        store.change(&mut random);
    }
    assert!(store.outbox().is_empty());
    // A delivery under way is acknowledged, and ignored by a rule.
    let taken = world.queues.sent().len();
    for delivery in &stragglers {
        assert_eq!(deliver(&world, &store, delivery).await, 200);
    }
    assert!(!stragglers.is_empty() && world.drain(taken).await.iter().all(|end| end == "ignored: disconnected"));
    assert_eq!(world.admin_of(PLATFORM.name, "DELETE", STORE, "", "").await.0, 200);

    // A new connection has another generation, and so another address and another header.
    let (status, shown) = put(&world, &store).await;
    assert_eq!((status, &shown["generation"]), (200, &json!(2)));
    assert!(store.hooks().iter().all(|hook| hook.destination.starts_with(&format!("{}/2", url()))));
}

/// The delivery that reports a switched-off webhook comes over the one webhook with an address of its own.
#[tokio::test]
async fn a_hook_that_the_store_gave_up_on_is_told_of_and_switched_on_again() {
    let (world, store) = connected().await;
    store.change(&mut StdRng::seed_from_u64(3));
    let refused = store.outbox().remove(0);
    store.answered(&refused, 503);
    let mut told = Vec::new();
    while told.is_empty() {
        world.clock.pass_seconds(86_400);
        for delivery in store.outbox() {
            match delivery.url == url() {
                true => store.answered(&delivery, 503),
                false => told.push(delivery),
            }
        }
    }
    assert_eq!(told.iter().map(|delivery| &delivery.url).collect::<Vec<_>>(), [&wanted(DELIVERY_EXCEPTION).1]);
    let off: Vec<_> = store.hooks().into_iter().filter(|hook| !hook.is_active).map(|hook| hook.scope).collect();
    assert_eq!(off.len(), 1);
    assert_eq!(deliver(&world, &store, &told[0]).await, 200);
    world.drain(0).await;
    let (_, shown) = world.admin_of(PLATFORM.name, "GET", STORE, "", "").await;
    assert_eq!(shown["notices"][0]["kind"], "delivery-exception", "{shown}");
    let subscriptions = shown["subscriptions"].as_array().unwrap();
    let shown_off = subscriptions.iter().filter(|hook| hook["status"] == "deactivated").map(|hook| &hook["scope"]);
    assert_eq!(shown_off.collect::<Vec<_>>(), [&off[0]]);
    let (_, shown) = put(&world, &store).await;
    assert_eq!(shown["changes"]["updated"], json!(off));
    assert_right(&world, &store);
}

#[tokio::test]
async fn hooks_that_were_made_by_hand_are_taken_over() {
    let (world, store) = store();
    store.subscribe(&url(), &|_| "entered by hand".to_owned());
    let before: BTreeSet<_> = store.hooks().iter().map(|hook| hook.id).collect();
    let (status, shown) = put(&world, &store).await;
    assert_eq!((status, shown["changes"]["updated"].as_array().unwrap().len()), (200, scopes().len()), "{shown}");
    assert_eq!(store.hooks().iter().map(|hook| hook.id).collect::<BTreeSet<_>>(), before);
    assert_right(&world, &store);
}

#[tokio::test]
async fn a_store_that_removed_the_app_can_be_forgotten() {
    let (world, store) = connected().await;
    store.uninstall();
    assert_eq!(world.admin_of(PLATFORM.name, "DELETE", STORE, "", "").await.0, 422);
    let (status, shown) = world.admin_of(PLATFORM.name, "DELETE", STORE, "force=true", "").await;
    assert_eq!((status, &shown["status"]), (200, &json!("disconnected")));
}
