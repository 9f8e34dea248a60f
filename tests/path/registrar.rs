//! The registrar, as it connects and disconnects a simulated store.

use commerce::{keys::KeyRing, platform::mapping::declared_scopes, platforms::woocommerce, scheme::jwt::Hs256};
use registrar::ADMIN_TOKEN;
use serde_json::{Value, json};
use tests::{
    platforms::{Simulator, Trouble, woocommerce::Webhook},
    world::{ADMIN_KEY, BASE, CONNECTION, World, key},
};

const SITE: &str = "https://shop.example.com";

fn body() -> String {
    json!({ "site": SITE, "consumer_key": "ck_1", "consumer_secret": "cs_1" }).to_string()
}

async fn put(world: &World) -> (u16, Value) {
    world.admin("PUT", CONNECTION, "", &body()).await
}

fn scopes() -> Vec<&'static str> {
    declared_scopes(&woocommerce::PLATFORM).collect()
}

fn hook(world: &World, topic: &str) -> Webhook {
    world.store().webhooks().into_iter().find(|hook| hook.topic == topic).unwrap()
}

fn methods(calls: &[String]) -> Vec<&str> {
    calls.iter().filter_map(|call| call.split(' ').next()).filter(|method| *method != "GET").collect()
}

#[tokio::test]
async fn connecting_makes_every_hook_once_however_often_it_is_asked() {
    let world = World::new();
    let (status, shown) = put(&world).await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!(shown["changes"]["created"].as_array().unwrap().len(), scopes().len());
    let hooks = world.store().webhooks();
    assert_eq!(hooks.len(), scopes().len());
    assert!(hooks.iter().all(|hook| hook.delivery_url == format!("{BASE}/hooks/woocommerce/shop.example.com")));
    let mut secrets: Vec<_> = hooks.iter().map(|hook| hook.secret.clone()).collect();
    secrets.dedup();
    assert_eq!(secrets.len(), hooks.len(), "each has a secret of its own");
    assert!(world.store().all_pinged(), "each ping was answered with exactly 200");
    assert!(world.queues.sent().is_empty(), "and nothing came of it");

    world.store().calls();
    let record = world.tables.connection(&key());
    for _ in 0..3 {
        let (status, shown) = put(&world).await;
        assert_eq!((status, &shown["changes"]["kept"]), (200, &json!(scopes().len())));
        assert_eq!(methods(&world.store().calls()), [""; 0], "nothing was changed at the store");
    }
    assert_eq!(world.tables.connection(&key()), record, "nor here");
}

#[tokio::test]
async fn its_deliveries_become_state_and_after_disconnecting_none_is_left() {
    let world = World::new();
    put(&world).await;
    let order =
        json!({ "id": 13, "status": "processing", "total": "76.00", "date_modified_gmt": "2026-11-21T01:48:40" });
    world.store().set("orders", 13, Some(order.clone()));
    assert_eq!(world.store().deliver("order.created", &order.to_string()).await, [200]);
    assert_eq!(world.drain(0).await, ["applied"]);
    world.store().set("orders", 13, None);
    assert_eq!(world.store().deliver("order.deleted", r#"{"id":13}"#).await, [200]);
    assert_eq!(world.drain(1).await, ["applied"]);
    assert!(world.item("order#13").deleted);

    let queued_at_the_store = hook(&world, "order.created");
    let (status, shown) = world.admin("DELETE", CONNECTION, "", "").await;
    assert_eq!((status, &shown["status"]), (200, &json!("disconnected")));
    assert!(world.store().webhooks().is_empty());
    let record = world.tables.connection(&key());
    assert!(record.webhooks.is_empty() && record.connection.unwrap().credentials.is_none());
    // A late delivery is acknowledged, and ignored by a rule.
    let body = order.to_string();
    assert_eq!(world.store().deliver_to(&queued_at_the_store, &body).await, 200);
    assert_eq!(world.drain(2).await, ["ignored: disconnected"]);
    // Disconnecting again changes nothing.
    assert_eq!(world.admin("DELETE", CONNECTION, "", "").await.0, 200);
}

#[tokio::test]
async fn connecting_anew_raises_the_generation() {
    let world = World::new();
    put(&world).await;
    let former = hook(&world, "order.deleted");
    world.admin("DELETE", CONNECTION, "", "").await;
    let (status, shown) = put(&world).await;
    assert_eq!((status, &shown["generation"]), (200, &json!(2)));
    let hooks = world.store().webhooks();
    assert!(hooks.iter().all(|hook| hook.delivery_url == format!("{BASE}/hooks/woocommerce/shop.example.com/2")));
    assert!(hooks.iter().all(|hook| hook.secret != former.secret));
    // A delivery of the former generation is proven, but ignored.
    assert_eq!(world.store().deliver_to(&former, r#"{"id":13}"#).await, 200);
    assert_eq!(world.drain(0).await, ["ignored: retired-generation"]);
}

#[tokio::test]
async fn hooks_of_others_are_not_touched() {
    let world = World::new();
    world.store().add_webhook("order.updated", "https://erp.example.com/hooks/woocommerce/shop.example.com");
    world.store().add_webhook("order.updated", &format!("{BASE}/hooks/woocommerce/other.example.com"));
    put(&world).await;
    assert_eq!(world.store().webhooks().len(), scopes().len() + 2);
    world.admin("DELETE", CONNECTION, "", "").await;
    let left = world.store().webhooks();
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|hook| hook.secret == "theirs"));
}

#[tokio::test]
async fn what_was_changed_at_the_store_is_put_right() {
    let world = World::new();
    put(&world).await;
    let hooks = world.store().webhooks();
    world.store().edit_webhook(hooks[0].id, |hook| hook.status = "disabled".into());
    world.store().edit_webhook(hooks[1].id, |hook| hook.delivery_url = "https://elsewhere.example.com/".into());
    world.store().add_webhook(&hooks[2].topic, &hooks[2].delivery_url);
    let (status, shown) = put(&world).await;
    assert_eq!(status, 200);
    let changed: Vec<_> = ["created", "updated", "deleted"].map(|name| shown["changes"][name].clone()).into();
    assert_eq!(changed, [json!([]), json!([hooks[0].topic, hooks[1].topic]), json!([hooks[2].topic])]);
    let after = world.store().webhooks();
    assert_eq!(after.len(), scopes().len());
    assert!(after.iter().all(|hook| hook.status == "active" && hook.delivery_url == hooks[0].delivery_url));
}

#[tokio::test]
async fn a_hook_that_the_store_gave_up_on_is_switched_on_again() {
    let world = World::new();
    put(&world).await;
    world.queues.refuse(true);
    for failure in 1..=7 {
        assert_eq!(world.store().deliver("order.deleted", r#"{"id":1}"#).await, [503], "failure {failure}");
    }
    // The seventh failure in a row disables it, and from then on nothing is sent.
    assert!(world.store().deliver("order.deleted", r#"{"id":1}"#).await.is_empty());
    world.queues.refuse(false);
    let (_, shown) = put(&world).await;
    assert_eq!(shown["changes"]["updated"], json!(["order.deleted"]));
    assert_eq!(world.store().deliver("order.deleted", r#"{"id":1}"#).await, [200]);
}

#[tokio::test]
async fn another_signing_key_sets_every_secret_again() {
    let world = World::new();
    put(&world).await;
    let before = world.store().webhooks();
    let rotated = json!({ "keys": [
        { "id": "new", "state": "sign", "secret": "a-new-key-of-at-least-32-bytes...." },
        { "id": "sample", "state": "verify", "secret": tools::events::SAMPLE_KEY },
    ] });
    world.signing.set(Some(&rotated.to_string()));
    let (_, shown) = put(&world).await;
    assert_eq!(shown["changes"]["updated"].as_array().unwrap().len(), scopes().len());
    let after = world.store().webhooks();
    assert_eq!(after.len(), before.len());
    assert!(after.iter().zip(&before).all(|(after, before)| after.id == before.id && after.secret != before.secret));
    assert_eq!(world.store().deliver("order.deleted", r#"{"id":1}"#).await, [200]);
}

#[tokio::test]
async fn a_connect_that_breaks_off_is_finished_by_the_next() {
    for trouble in [Trouble::Broken, Trouble::TooMany(1), Trouble::AnswerLost] {
        let world = World::new();
        world.store().set_page_size(4);
        world.store().add_webhook("order.updated", "https://erp.example.com/");
        world.store().trouble_after(3, trouble);
        let (status, _) = put(&world).await;
        assert_eq!(status, 502);
        let (status, shown) = put(&world).await;
        assert_eq!(status, 200, "{shown}");
        let ours: Vec<_> = world.store().webhooks().into_iter().filter(|hook| hook.secret != "theirs").collect();
        assert_eq!(ours.len(), scopes().len(), "no duplicate, none missing");
        let (_, shown) = put(&world).await;
        assert_eq!(shown["changes"]["kept"], json!(scopes().len()));
    }
}

#[tokio::test]
async fn of_two_requests_at_once_one_is_told_to_come_again() {
    let world = World::new();
    put(&world).await;
    // Another request writes the record while webhooks are being removed.
    let mut meanwhile = world.tables.connection(&key()).connection.unwrap();
    meanwhile.revision += 2;
    let tables = world.tables.clone();
    world.store().on_call("DELETE", move || tables.connect(&key(), meanwhile.clone()));
    let (status, problem) = world.admin("DELETE", CONNECTION, "", "").await;
    assert_eq!((status, &problem["type"]), (409, &json!("urn:commerce-hooks:problem:conflict")));
    assert!(world.tables.connection(&key()).connection.unwrap().credentials.is_some(), "and nothing is forgotten");
    assert_eq!(world.admin("DELETE", CONNECTION, "", "").await.0, 200);
    assert!(world.store().webhooks().is_empty());
}

#[tokio::test]
async fn what_is_wrong_is_named_with_the_next_step() {
    let world = World::new();
    let ask = async |method: &str, connection: &str, body: &str| world.admin(method, connection, "", body).await;
    let (status, problem) = ask("PUT", CONNECTION, "{").await;
    assert_eq!((status, &problem["type"]), (422, &json!("urn:commerce-hooks:problem:invalid-settings")));
    let (status, problem) = ask("PUT", CONNECTION, r#"{"site":"http://shop.example.com"}"#).await;
    assert_eq!((status, &problem["detail"]), (422, &json!("site: must begin with https://")));
    // A store on this machine is allowed only in local runs.
    assert_eq!(ask("PUT", CONNECTION, r#"{"site":"http://127.0.0.1:8080"}"#).await.0, 422);
    let wrong = body().replace("cs_1", "cs_2");
    let (status, problem) = ask("PUT", CONNECTION, &wrong).await;
    assert_eq!((status, &problem["type"]), (422, &json!("urn:commerce-hooks:problem:refused-by-store")));
    assert!(world.tables.connection(&key()).connection.is_none(), "what is not proven is not kept");
    assert_eq!(ask("GET", CONNECTION, "").await.0, 404);
    assert_eq!(ask("DELETE", CONNECTION, "").await.0, 404);
    assert_eq!(ask("PUT", "a b", &body()).await.0, 404);
    assert_eq!(ask("PATCH", CONNECTION, "").await.0, 405);

    put(&world).await;
    let elsewhere = body().replace(SITE, "https://other.example.com");
    assert_eq!(ask("PUT", CONNECTION, &elsewhere).await.0, 409);
    assert_eq!(ask("PUT", CONNECTION, &json!({ "site": SITE }).to_string()).await.0, 409);
}

#[tokio::test]
async fn a_store_that_is_gone_can_be_forgotten() {
    let world = World::new();
    put(&world).await;
    world.store().replace_key("ck_2", "cs_2");
    let (status, shown) = world.admin("GET", CONNECTION, "", "").await;
    assert!(status == 200 && shown["problem"].as_str().unwrap().contains("401"), "{shown}");
    assert_eq!(world.admin("DELETE", CONNECTION, "", "").await.0, 422);
    let (status, shown) = world.admin("DELETE", CONNECTION, "force=true", "").await;
    assert_eq!((status, &shown["status"]), (200, &json!("disconnected")));
    assert!(world.tables.connection(&key()).connection.unwrap().credentials.is_none());
}

#[tokio::test]
async fn a_connection_by_hand_shows_what_to_enter() {
    let world = World::new();
    let (status, shown) = world.admin("PUT", CONNECTION, "", &json!({ "site": SITE }).to_string()).await;
    assert_eq!(status, 200);
    assert_eq!(shown["delivery_url"], format!("{BASE}/hooks/woocommerce/shop.example.com"));
    assert_eq!(shown["subscriptions"].as_array().unwrap().len(), scopes().len());
    assert!(world.store().calls().is_empty());
    // Later credentials make it a connection like any other.
    let (_, shown) = put(&world).await;
    assert_eq!(shown["changes"]["created"].as_array().unwrap().len(), scopes().len());
}

#[tokio::test]
async fn showing_tells_how_the_hooks_are_at_the_store_and_no_secret() {
    let world = World::new();
    put(&world).await;
    let hooks = world.store().webhooks();
    world.store().edit_webhook(hooks[0].id, |hook| hook.status = "disabled".into());
    let (_, shown) = world.admin("GET", CONNECTION, "", "").await;
    let subscriptions = shown["subscriptions"].as_array().unwrap();
    let first = subscriptions.iter().find(|shown| shown["scope"] == hooks[0].topic.as_str()).unwrap();
    assert_eq!(first["status"], "disabled");
    assert_eq!((&first["key_id"], &first["generation"]), (&json!("sample"), &json!(1)));
    let text = shown.to_string();
    assert!(!text.contains("cs_1") && hooks.iter().all(|hook| !text.contains(&hook.secret)));
}

#[tokio::test]
async fn only_a_good_token_gets_in() {
    let world = World::new();
    let ring = KeyRing::parse(ADMIN_KEY).unwrap();
    let other = KeyRing::parse("another-key-of-at-least-32-bytes!").unwrap();
    let now = world.clock.now();
    let good = ADMIN_TOKEN.mint(&ring, now, 900, "read", None).unwrap();
    let day = Hs256 { max_lifetime_seconds: 86_400, ..ADMIN_TOKEN }.mint(&ring, now, 86_400, "read", None).unwrap();
    let other_audience = Hs256 { audience: "another", ..ADMIN_TOKEN }.mint(&ring, now, 900, "read", None).unwrap();
    let expired = ADMIN_TOKEN.mint(&ring, now.plus_seconds(-3600), 900, "read", None).unwrap();
    let early = ADMIN_TOKEN.mint(&ring, now.plus_seconds(600), 900, "read", None).unwrap();
    let forged = ADMIN_TOKEN.mint(&other, now, 900, "read", None).unwrap();
    for bad in [&day, &other_audience, &expired, &early, &forged, "", "x.y.z"] {
        let (status, problem) = world.admin_with(&format!("Bearer {bad}"), "GET", CONNECTION, "", "").await;
        assert_eq!((status, &problem["detail"]), (401, &json!("a valid bearer token is needed")), "{bad}");
    }
    assert_eq!(world.admin_with(&good, "GET", CONNECTION, "", "").await.0, 401, "without Bearer");
    assert_eq!(
        world.admin_with(&format!("Bearer {good}"), "GET", CONNECTION, "", "").await.0,
        404,
        "nothing there yet"
    );
}
