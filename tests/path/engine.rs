//! The transfer engine: topics that are resolved late, splits, children, required entities, budgets, deletes, notices,
//! clients' own keys, and actions at a platform.

use std::sync::{Arc, Mutex};

use cloud::memory::MemoryPlatform;
use commerce::{
    connection::{Connection, DeletePolicy},
    entity::EntityKind,
    envelope::Envelope,
    http_call::{ApiRequest, ApiResponse, Loopback},
    key::ConnectionKey,
    request::WebhookPath,
};
use futures_util::future::join;
use processor::Message;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tests::{
    platforms::{Simulator, Trouble, cloudblue::Connect, json_answer},
    world::{BASE, Outside, World, delivered, gateway_event, key, message, outcomes, request},
};
use tools::events::sample_ring;

const WOO: &str = r#"{"consumer_key":"ck_1","consumer_secret":"cs_1"}"#;
const LATER: i64 = 1_795_225_730_000;

/// Returns the key of a connection.
fn of(platform: &str, connection: &str) -> ConnectionKey {
    WebhookPath::parse(platform, connection, None).unwrap().key
}

/// Makes a world with one connection that has credentials, and a platform that answers by a function.
fn scripted(
    key: &ConnectionKey,
    site: &str,
    credentials: &str,
    change: impl FnOnce(&mut Connection),
    answer: impl Fn(&ApiRequest) -> ApiResponse + Send + Sync + 'static,
) -> (World, MemoryPlatform) {
    let mut world = World::new();
    let platform = MemoryPlatform::new(move |request| Ok(answer(request)));
    world.outside = Outside::Scripted(platform.clone());
    let credentials = Some(format!("{key}|{credentials}"));
    let mut connection = Connection { revision: 1, credentials, ..Connection::new(site) };
    change(&mut connection);
    world.tables.connect(key, connection);
    (world, platform)
}

/// Returns a proven delivery as the processor gets it.
fn proven(key: &ConnectionKey, scope: &str, strength: &str, body: &Value, n: usize) -> Message {
    let text = json!({
        "version": 1, "provenance": "delivery", "platform": key.platform, "connection": key.connection, "generation": 1,
        "scope": scope, "delivery_id": format!("d{n}"), "key_id": "sample", "strength": strength,
        "received": (LATER + i64::try_from(n).unwrap()) * 1000, "content": { "delivery": { "text": body.to_string() } },
    });
    message(n, &text.to_string())
}

/// Returns the messages that were queued after the first `since`.
fn queued(world: &World, since: usize) -> Vec<Message> {
    let sent = world.queues.sent();
    sent.iter().enumerate().skip(since).map(|(n, (sealed, _))| message(1000 + n, sealed.text())).collect()
}

async fn process(world: &World, messages: &[Message]) -> Vec<String> {
    outcomes(&world.process(messages).await)
}

mod bigcommerce {
    use super::*;

    fn store() -> ConnectionKey {
        of("bigcommerce", "abc123")
    }

    const SITE: &str = "https://api.bigcommerce.com/stores/abc123";
    const TOKEN: &str = r#"{"access_token":"tok"}"#;

    fn callback(scope: &str, data: &Value, n: usize) -> Message {
        let body = json!({ "scope": scope, "store_id": "1", "data": data, "hash": "x", "created_at": 1, "producer": "stores/abc123" });
        proven(&store(), scope, "body", &body, n)
    }

    fn product(id: u64) -> ApiResponse {
        let date = "2026-11-21T01:00:00+00:00";
        json_answer(
            200,
            &json!({ "data": { "id": id, "name": "Jar", "price": 7.95, "base_variant_id": 1, "date_modified": date }, "meta": {} }),
        )
    }

    fn last_number(request: &ApiRequest) -> u64 {
        request.url.path_segments().and_then(|mut path| path.next_back()?.parse().ok()).unwrap_or(0)
    }

    #[tokio::test]
    async fn each_part_of_a_split_succeeds_or_fails_alone() {
        let (world, _) = scripted(
            &store(),
            SITE,
            TOKEN,
            |_| {},
            |request| match request.url.path() {
                path if path.ends_with("/345") => json_answer(
                    200,
                    &json!({ "data": [{ "price_list_id": 2, "variant_id": 345, "price": 5.5, "currency": "eur" }], "meta": {} }),
                ),
                path if path.ends_with("/346") => json_answer(500, &json!({})),
                _ => json_answer(404, &json!({ "status": 404, "title": "no such record", "type": "x" })),
            },
        );
        let records = json!([{ "price_list_id": 2, "variant_id": 345 }, { "price_list_id": 2, "variant_id": 346 }, { "price_list_id": 2, "variant_id": 347 }]);
        assert_eq!(process(&world, &[callback("store/priceList/records/updated", &records, 1)]).await, ["split: 3"]);
        let parts = queued(&world, 0);
        let envelopes: Vec<_> = parts.iter().map(|part| Envelope::parse(&part.body).unwrap()).collect();
        assert!(
            envelopes.iter().all(|envelope| envelope.delivery_id.as_deref() == Some("d1")),
            "its parent's delivery"
        );
        assert_eq!(process(&world, &parts).await, ["applied", "failed: platform-unavailable", "applied"]);
        assert!(world.tables.items().iter().any(|item| item.sk == "price#2:345" && !item.deleted));
        assert!(world.tables.items().iter().any(|item| item.sk == "price#2:347" && item.deleted));
    }

    #[tokio::test]
    async fn children_become_their_parent_s_transfer_and_many_are_one_pull() {
        let (world, platform) = scripted(
            &store(),
            SITE,
            TOKEN,
            |_| {},
            |_| {
                json_answer(
                    200,
                    &json!({ "data": [{ "id": 32, "email": "a@example.com", "date_modified": "2026-11-21T01:00:00Z" }], "meta": {} }),
                )
            },
        );
        let address = |n: usize| {
            callback(
                "store/customer/address/created",
                &json!({ "type": "customer", "id": 60 + n, "address": { "customer_id": 32 } }),
                n,
            )
        };
        let own = callback("store/customer/updated", &json!({ "type": "customer", "id": 32 }), 9);
        let ends = process(&world, &[address(1), address(2), own]).await;
        assert_eq!(ends, ["applied", "unchanged", "unchanged"]);
        assert_eq!(platform.asked().len(), 1);
        assert_eq!(world.tables.items().len(), 1);
        assert_eq!(world.item("customer#32").fields["email"], "a@example.com");
    }

    #[tokio::test]
    async fn a_connection_can_ignore_noisy_children() {
        let noisy = "store/product/inventory/order/updated";
        let change = |connection: &mut Connection| _ = connection.ignores.insert(noisy.into());
        let (world, platform) = scripted(&store(), SITE, TOKEN, change, |_| product(174));
        let data = json!({ "type": "product", "id": 174, "inventory": { "product_id": 174, "method": "relative", "value": -1 } });
        assert_eq!(process(&world, &[callback(noisy, &data, 1)]).await, ["ignored: unwanted-scope"]);
        assert!(platform.asked().is_empty());
    }

    #[tokio::test]
    async fn a_budget_holds_over_all_environments() {
        let (world, platform) = scripted(&store(), SITE, TOKEN, |_| {}, |request| product(last_number(request)));
        let wanted: Vec<_> = (1..=120)
            .map(|id| callback("store/product/updated", &json!({ "type": "product", "id": id }), id))
            .collect();
        let (one, other) = wanted.split_at(60);
        // Two environments run at once, each with its own leases.
        let (one, other) = join(process(&world, one), process(&world, other)).await;
        let ends: Vec<_> = one.into_iter().chain(other).collect();
        let applied = ends.iter().filter(|end| *end == "applied").count();
        assert!(applied <= 100 && applied > 80, "{applied}");
        assert_eq!(platform.asked().len(), applied);
        assert!(ends.iter().all(|end| end == "applied" || end.starts_with("deferred")), "{ends:?}");
        world.clock.pass_seconds(31);
        let copies = queued(&world, 0);
        assert_eq!(copies.len(), 120 - applied);
        assert!(process(&world, &copies).await.iter().all(|end| end == "applied"));
    }

    #[tokio::test]
    async fn what_one_message_is_told_all_of_them_heed() {
        let (world, platform) = scripted(
            &store(),
            SITE,
            TOKEN,
            |_| {},
            |_| {
                let mut answer = json_answer(429, &json!({ "status": 429, "title": "Too many requests" }));
                for (name, value) in [("x-rate-limit-time-reset-ms", "14500"), ("x-rate-limit-requests-left", "0")] {
                    answer.headers.insert(name, value.parse().unwrap());
                }
                answer
            },
        );
        let wanted = |id: usize| callback("store/product/updated", &json!({ "type": "product", "id": id }), id);
        assert_eq!(process(&world, &[wanted(1)]).await, ["deferred by 15 s"]);
        assert_eq!(process(&world, &[wanted(2), wanted(3)]).await, ["deferred by 15 s", "deferred by 15 s"]);
        assert_eq!(platform.asked().len(), 1);
    }

    #[tokio::test]
    async fn no_call_goes_to_a_host_that_is_not_the_platform_s() {
        for site in [
            "https://attacker.example/stores/abc123",
            "http://127.0.0.1:1/stores/abc123",
            "https://api.bigcommerce.com.attacker.example",
        ] {
            let (world, platform) = scripted(&store(), site, TOKEN, |_| {}, |_| product(1));
            let wanted = callback("store/product/updated", &json!({ "type": "product", "id": 1 }), 1);
            assert_eq!(process(&world, &[wanted]).await, ["failed: connection-fault"], "{site}");
            assert!(platform.asked().is_empty());
        }
    }

    #[tokio::test]
    async fn a_delete_that_only_proves_its_caller_needs_the_platform_s_word() {
        let (world, _) = scripted(&store(), SITE, TOKEN, |connection| connection.credentials = None, |_| product(1));
        let body = json!({ "scope": "store/product/deleted", "data": { "type": "product", "id": 1 }, "producer": "stores/abc123" });
        let deleted = |strength: &str, n| proven(&store(), "store/product/deleted", strength, &body, n);
        assert_eq!(process(&world, &[deleted("caller", 1)]).await, ["quarantined: connection-fault"]);
        assert!(world.state().is_empty());
        assert_eq!(process(&world, &[deleted("body", 2)]).await, ["applied"]);
    }

    fn item(world: &World, sort: &str) -> commerce::item::Item {
        world.item(sort)
    }

    fn not_found() -> ApiResponse {
        json_answer(404, &json!({ "status": 404, "title": "Not found", "type": "about:blank" }))
    }

    /// Makes a store with one cart, which may be removed.
    fn with_cart() -> (World, Arc<Mutex<Option<Value>>>) {
        let cart =
            json!({ "id": "c-1", "cart_amount": 9.5, "updated_time": "2026-11-21T00:10:00+00:00", "line_items": {} });
        let cart = Arc::new(Mutex::new(Some(cart)));
        let there = Arc::clone(&cart);
        let answer = move |_: &ApiRequest| match there.lock().unwrap().as_ref() {
            Some(cart) => json_answer(200, &json!({ "data": cart, "meta": {} })),
            None => not_found(),
        };
        (scripted(&store(), SITE, TOKEN, |_| {}, answer).0, cart)
    }

    fn at(scope: &str, data: &Value, strength: &str, seconds: i64, n: usize) -> Message {
        let body = json!({ "scope": scope, "data": data, "created_at": seconds, "producer": "stores/abc123" });
        proven(&store(), scope, strength, &body, n)
    }

    #[tokio::test]
    async fn a_cart_says_which_order_it_became_though_it_is_gone() {
        let data = json!({ "type": "cart", "id": "c-1", "orderId": 252 });
        for (strength, known) in [("body", true), ("caller", true), ("body", false), ("caller", false)] {
            let (world, cart) = with_cart();
            if known {
                let created = callback("store/cart/created", &json!({ "type": "cart", "id": "c-1" }), 1);
                assert_eq!(process(&world, &[created]).await, ["applied"]);
                assert_eq!(item(&world, "cart#c-1").fields.get("status"), None);
            }
            *cart.lock().unwrap() = None;
            world.clock.pass_seconds(60);
            let converted = at("store/cart/converted", &data, strength, LATER / 1000, 2);
            assert_eq!(process(&world, std::slice::from_ref(&converted)).await, ["applied"]);
            let told = |world: &World| {
                let item = item(world, "cart#c-1");
                let total = item.fields.get("total").cloned();
                (item.deleted, item.fields["status"].clone(), item.fields["order"].clone(), total)
            };
            let right = (true, json!("converted"), json!("252"), known.then(|| json!("9.5")));
            assert_eq!(told(&world), right, "{strength} {known}");
            assert_ne!(process(&world, &[converted]).await, ["applied"]);
            // The following delete keeps it.
            let deleted = callback("store/cart/deleted", &json!({ "type": "cart", "id": "c-1" }), 3);
            assert_eq!(process(&world, &[deleted]).await, ["unchanged"]);
            assert_eq!(told(&world), right, "{strength} {known}");
        }
        // An emptied cart has no status, so it can be told from a converted one.
        let (world, cart) = with_cart();
        *cart.lock().unwrap() = None;
        let deleted = callback("store/cart/deleted", &json!({ "type": "cart", "id": "c-1" }), 1);
        assert_eq!(process(&world, &[deleted]).await, ["applied"]);
        assert_eq!(item(&world, "cart#c-1").fields.get("status"), None);
    }

    #[tokio::test]
    async fn a_cart_is_abandoned_until_somebody_touches_it() {
        let (world, cart) = with_cart();
        let data = json!({ "type": "cart", "id": "c-1" });
        let at_one = 1_795_223_400; // 2026-11-21T01:10:00Z
        let abandoned = at("store/cart/abandoned", &data, "caller", at_one, 1);
        assert_eq!(process(&world, std::slice::from_ref(&abandoned)).await, ["applied"]);
        let status = |world: &World| item(world, "cart#c-1").fields.get("status").cloned();
        let whole = item(&world, "cart#c-1");
        assert_eq!((status(&world), whole.deleted), (Some(json!("abandoned")), false));
        assert_eq!(whole.fields["total"], "9.5");
        // A cart that was fetched again without a change is still abandoned.
        world.clock.pass_seconds(60);
        assert_eq!(process(&world, &[callback("store/cart/updated", &data, 2)]).await, ["unchanged"]);
        assert_eq!(status(&world), Some(json!("abandoned")));
        cart.lock().unwrap().as_mut().unwrap()["updated_time"] = json!("2026-11-21T01:30:00+00:00");
        assert_eq!(process(&world, &[callback("store/cart/updated", &data, 3)]).await, ["applied"]);
        assert_eq!(status(&world), None);
        // A late repetition is from before that change.
        assert_ne!(process(&world, &[abandoned]).await, ["applied"]);
        assert_eq!(status(&world), None);
    }

    #[tokio::test]
    async fn what_only_a_delivery_knows_comes_back_with_it_when_the_platform_does_not_answer() {
        let (world, _) = scripted(&store(), SITE, TOKEN, |_| {}, |_| json_answer(500, &json!({})));
        let data = json!({ "type": "cart", "id": "c-1", "orderId": 252 });
        let converted = at("store/cart/converted", &data, "body", LATER / 1000, 1);
        assert_eq!(process(&world, std::slice::from_ref(&converted)).await, ["failed: platform-unavailable"]);
        assert!(world.state().is_empty());
        let (world, _) = scripted(&store(), SITE, TOKEN, |connection| connection.credentials = None, |_| not_found());
        assert_eq!(process(&world, &[converted]).await, ["quarantined: connection-fault"]);
        assert!(world.state().is_empty());
    }

    /// The platform's list may not have a new customer yet.
    #[tokio::test]
    async fn a_customer_who_is_told_of_too_early_is_there_with_the_next_hint() {
        let there = Arc::new(Mutex::new(json!([])));
        let shown = Arc::clone(&there);
        let answer = move |_: &ApiRequest| json_answer(200, &json!({ "data": *shown.lock().unwrap(), "meta": {} }));
        let (world, _) = scripted(&store(), SITE, TOKEN, |_| {}, answer);
        let told = |scope: &str, n: usize| callback(scope, &json!({ "type": "customer", "id": 5 }), n);
        assert_eq!(process(&world, &[told("store/customer/created", 1)]).await, ["applied"]);
        assert!(item(&world, "customer#5").deleted);
        *there.lock().unwrap() = json!([{ "id": 5, "email": "ann@example.com" }]);
        world.clock.pass_seconds(1);
        // Several hints are one pull.
        let again: Vec<_> = (2..10).map(|n| told("store/customer/updated", n)).collect();
        let ends = process(&world, &again).await;
        assert_eq!(ends.iter().filter(|end| *end == "applied").count(), 1, "{ends:?}");
        let found = item(&world, "customer#5");
        assert!(!found.deleted && found.fields["email"] == "ann@example.com");
    }

    #[tokio::test]
    async fn prices_go_with_their_list() {
        let gone = Arc::new(Mutex::new(false));
        let flag = Arc::clone(&gone);
        let answer = move |request: &ApiRequest| {
            let parts: Vec<&str> = request.url.path_segments().unwrap().collect();
            let (list, variant) = (parts[4].parse::<u64>().unwrap(), last_number(request));
            if *flag.lock().unwrap() && list == 5 {
                return not_found();
            }
            let record = json!({ "price_list_id": list, "variant_id": variant, "price": 5.5, "currency": "eur" });
            json_answer(200, &json!({ "data": [record], "meta": {} }))
        };
        let (world, platform) = scripted(&store(), SITE, TOKEN, |_| {}, answer);
        let record = |list: u64, variant: u64| json!({ "price_list_id": list, "variant_id": variant });
        let records = json!([record(4, 1), record(5, 1), record(5, 2), record(50, 1), record(6, 9)]);
        process(&world, &[callback("store/priceList/records/updated", &records, 1)]).await;
        world.clock.pass_seconds(60);
        assert_eq!(process(&world, &queued(&world, 0)).await, ["applied"; 5]);
        let (sent, before) = (world.queues.sent().len(), platform.asked().len());
        *gone.lock().unwrap() = true;
        world.clock.pass_seconds(60);
        let lists = callback("store/priceLists/deleted", &json!({ "price_list_ids": [5, 7] }), 2);
        assert_eq!(process(&world, &[lists]).await, ["split: 2"]);
        assert_eq!(process(&world, &queued(&world, sent)).await, ["applied", "applied"]);
        assert_eq!(platform.asked().len(), before + 2, "no other price is asked for");
        let deleted = |sort: &str| item(&world, sort).deleted;
        assert!(deleted("price#5:1") && deleted("price#5:2"));
        assert!(!deleted("price#4:1") && !deleted("price#50:1") && !deleted("price#6:9"));
        // Prices that are already deleted are not asked for.
        let list = callback("store/priceList/deleted", &json!({ "price_list_id": 5 }), 3);
        assert_eq!(process(&world, &[list]).await, ["split: 0"]);
    }

    #[tokio::test]
    async fn a_price_list_of_any_length_is_gone_through_in_parts() {
        let (world, _) = scripted(
            &store(),
            SITE,
            TOKEN,
            |_| {},
            |request| {
                let variant = last_number(request);
                let record = json!({ "price_list_id": 5, "variant_id": variant, "price": 1, "currency": "eur" });
                json_answer(200, &json!({ "data": [record], "meta": {} }))
            },
        );
        let mut template = None;
        for list in [5, 6] {
            let record = json!({ "price_list_id": 5, "variant_id": 1 });
            if template.is_none() {
                process(&world, &[callback("store/priceList/record/updated", &record, 1)]).await;
                process(&world, &queued(&world, 0)).await;
                template = Some(item(&world, "price#5:1"));
            }
            let count = if list == 5 { 2_600 } else { 300 };
            for n in 0..count {
                let sk = format!("price#{list}:{}", 10_000 + n);
                let item = commerce::item::Item { sk, rev: format!("r{n}"), ..template.clone().unwrap() };
                cloud::state::Entities::put(&world.tables, &item, None).await.unwrap();
            }
        }
        let sent = world.queues.sent().len();
        let lists = callback("store/priceLists/deleted", &json!({ "price_list_ids": [5, 6] }), 2);
        assert_eq!(process(&world, &[lists]).await, ["split: 2501"]);
        let rest = queued(&world, sent);
        let last = rest.iter().filter(|message| message.body.contains(r#""known""#)).cloned().collect::<Vec<_>>();
        assert_eq!((rest.len(), last.len()), (2501, 1));
        assert_eq!(process(&world, &last).await, ["split: 401"]);
    }

    #[tokio::test]
    async fn an_order_that_is_set_back_to_incomplete_shows_it_if_it_is_known() {
        let status = Arc::new(Mutex::new((0, "Fri, 20 Nov 2026 21:40:11 +0000")));
        let shown = Arc::clone(&status);
        let answer = move |request: &ApiRequest| match request.url.path() {
            path if path.ends_with("/orders/250") => {
                let (status, modified) = *shown.lock().unwrap();
                json_answer(200, &json!({ "id": 250, "status_id": status, "date_modified": modified }))
            }
            path if path.ends_with("/refunds") => json_answer(200, &json!({ "data": [], "meta": {} })),
            _ => ApiResponse { status: 204, ..json_answer(200, &json!(null)) },
        };
        let (world, platform) = scripted(&store(), SITE, TOKEN, |_| {}, answer);
        let data = json!({ "type": "order", "id": 250 });
        let told = |n: usize| callback("store/order/statusUpdated", &data, n);
        assert_eq!(process(&world, &[told(1)]).await, ["ignored: bigcommerce-incomplete-order"]);
        assert_eq!(platform.asked().len(), 1, "what is not kept costs one call");
        assert!(world.state().is_empty());
        for (n, (id, name, modified)) in [
            (7, "Awaiting Payment", "Fri, 20 Nov 2026 21:41:11 +0000"),
            (0, "Incomplete", "Fri, 20 Nov 2026 21:42:11 +0000"),
            (11, "Awaiting Fulfillment", "Fri, 20 Nov 2026 21:43:11 +0000"),
        ]
        .into_iter()
        .enumerate()
        {
            *status.lock().unwrap() = (id, modified);
            world.clock.pass_seconds(60);
            assert_eq!(process(&world, &[told(2 + n)]).await, ["applied"], "{name}");
            assert_eq!(item(&world, "order#250").fields["status"], name);
        }
    }

    #[tokio::test]
    async fn an_entity_of_too_many_bytes_takes_nobody_s_memory() {
        let (world, platform) = scripted(
            &store(),
            SITE,
            TOKEN,
            |_| {},
            |request| {
                let lines = json!([{ "id": 1, "quantity": 1, "name": "x".repeat(3_000_000) }]);
                match request.url.path().ends_with("/250") {
                    true => {
                        json_answer(200, &json!({ "id": 250, "status_id": 1, "staff_notes": "x".repeat(3_000_000) }))
                    }
                    false => json_answer(200, &lines),
                }
            },
        );
        let wanted = callback("store/order/updated", &json!({ "type": "order", "id": 250 }), 1);
        assert_eq!(process(&world, &[wanted]).await, ["quarantined: too-large"]);
        assert!(platform.asked().len() <= 2, "{:?}", platform.asked());
    }

    #[tokio::test]
    async fn the_registrar_is_told_what_concerns_the_connection() {
        let (world, _) = scripted(&store(), SITE, TOKEN, |_| {}, |_| json_answer(200, &json!({})));
        let gone = callback("store/app/uninstalled", &json!({ "type": "store" }), 1);
        assert_eq!(
            process(&world, &[gone.clone(), gone]).await,
            ["ignored: noted-for-the-registrar", "ignored: noted-for-the-registrar"]
        );
        assert!(world.state().is_empty());
        let (status, shown) = world.admin_of("bigcommerce", "GET", "abc123", "", "").await;
        assert_eq!(status, 200);
        assert_eq!(shown["notices"].as_array().unwrap().len(), 1);
        assert_eq!(shown["notices"][0]["kind"], "uninstalled");
    }

    #[tokio::test]
    async fn a_delete_can_be_an_update_that_knows_only_the_id() {
        let there = Arc::new(Mutex::new(true));
        let shown = Arc::clone(&there);
        let update =
            |connection: &mut Connection| _ = connection.deletes.insert(EntityKind::Product, DeletePolicy::Update);
        let (world, _) = scripted(&store(), SITE, TOKEN, update, move |_| match *shown.lock().unwrap() {
            true => product(174),
            false => json_answer(404, &json!({ "status": 404, "title": "gone", "type": "x" })),
        });
        let callback = |scope: &str, n| callback(scope, &json!({ "type": "product", "id": 174 }), n);
        assert_eq!(process(&world, &[callback("store/product/created", 1)]).await, ["applied"]);
        *there.lock().unwrap() = false;
        assert_eq!(process(&world, &[callback("store/product/deleted", 2)]).await, ["applied"]);
        let item = world.item("product#174");
        assert_eq!(
            (item.deleted, item.fields["status"].as_str(), item.fields["name"].as_str()),
            (false, Some("deleted"), Some("Jar"))
        );
        // A product that comes back with something newer is as it was.
        *there.lock().unwrap() = true;
        assert_eq!(process(&world, &[callback("store/product/updated", 3)]).await, ["applied"]);
        assert_eq!(world.item("product#174").fields.get("status"), None);
        // The id of a product that was never seen is enough.
        *there.lock().unwrap() = false;
        let unseen = super::bigcommerce::callback("store/product/deleted", &json!({ "type": "product", "id": 175 }), 4);
        assert_eq!(process(&world, &[unseen]).await, ["applied"]);
        assert_eq!(world.item("product#175").fields["status"], "deleted");
    }
}

mod woocommerce {
    use super::*;

    fn with(change: impl FnOnce(&mut Connection)) -> World {
        let world = World::new();
        world.connect(Some(WOO));
        let mut connection = world.connection();
        change(&mut connection);
        world.tables.connect(&key(), connection);
        world
    }

    #[tokio::test]
    async fn presets_resolve_a_scope_that_says_too_little() {
        let preset = json!({ "scope": "message/created", "prefix": "Car:", "entity": "product" });
        let world = with(|connection| connection.presets = vec![serde_json::from_value(preset).unwrap()]);
        world.store().set(
            "products",
            1234,
            Some(json!({ "id": 1234, "name": "Car", "date_modified_gmt": "2026-11-21T01:00:00" })),
        );
        let said = |id: &str, at: i64| delivered("message/created", &json!({ "id": id }).to_string(), LATER + at);
        assert_eq!(
            process(&world, &[said("Car:1234", 1), said("Boat:1", 2)]).await,
            ["split: 1", "ignored: unknown-scope"]
        );
        assert_eq!(process(&world, &queued(&world, 0)).await, ["applied"]);
        assert_eq!(world.item("product#1234").fields["name"], "Car");
    }

    fn order(customer: u64, products: &[u64]) -> Value {
        let lines: Vec<_> = products.iter().map(|id| json!({ "id": id, "product_id": id, "quantity": 1 })).collect();
        json!({ "id": 13, "status": "processing", "customer_id": customer, "line_items": lines, "date_modified_gmt": "2026-11-21T01:00:00" })
    }

    #[tokio::test]
    async fn what_an_order_refers_to_and_nobody_knows_is_pulled_along_once() {
        let world = with(|_| {});
        let person = json!({ "id": 2, "role": "customer", "email": "a@example.com" });
        world.store().set("customers", 2, Some(person));
        world.store().set("products", 10, Some(json!({ "id": 10, "name": "Tea" })));
        let body = order(2, &[10, 10, 11]).to_string();
        assert_eq!(process(&world, &[delivered("order.created", &body, LATER)]).await, ["applied"]);
        let along = queued(&world, 0);
        assert_eq!(along.len(), 3, "the customer, and each product once");
        assert_eq!(process(&world, &along).await, ["applied"; 3]);
        assert_eq!(world.item("customer#2").fields["email"], "a@example.com");
        assert_eq!(world.item("product#10").fields["name"], "Tea");
        assert!(world.item("product#11").deleted, "the store does not have it");
        // A change of the order asks neither for known entities nor again for queued ones.
        let changed = body
            .replace("processing", "completed")
            .replace("01:00:00", "01:00:09")
            .replace(r#""customer_id":2"#, r#""customer_id":3"#);
        assert_eq!(process(&world, &[delivered("order.updated", &changed, LATER + 1)]).await, ["applied"]);
        assert_eq!(queued(&world, 3).len(), 1, "the other customer");
        let again = changed.replace("completed", "refunded").replace("01:00:09", "01:00:10");
        assert_eq!(process(&world, &[delivered("order.updated", &again, LATER + 2)]).await, ["applied"]);
        assert_eq!(queued(&world, 4).len(), 0);
    }

    #[tokio::test]
    async fn nothing_is_asked_for_without_end() {
        let world = with(|_| {});
        let mut message = delivered("order.created", &order(2, &[10]).to_string(), LATER);
        message.body = message.body.replace(r#""content""#, r#""depth":2,"content""#);
        assert_eq!(process(&world, &[message]).await, ["applied"]);
        assert!(queued(&world, 0).is_empty());
    }

    #[tokio::test]
    async fn in_place_of_an_error_the_entity_is_found_among_what_has_changed() {
        let world = with(|_| {});
        let now = "2026-11-21T01:48:40";
        world.store().set("orders", 13, Some(json!({ "id": 13, "status": "on-hold", "date_modified_gmt": now })));
        world.store().set(
            "orders",
            12,
            Some(json!({ "id": 12, "status": "on-hold", "date_modified_gmt": "2026-11-20T01:48:40" })),
        );
        let error = json!({ "code": "woocommerce_rest_cannot_view", "message": "Sorry.", "data": { "status": 401 } })
            .to_string();
        assert_eq!(process(&world, &[delivered("order.updated", &error, LATER)]).await, ["split: 1"]);
        assert_eq!(process(&world, &queued(&world, 0)).await, ["applied"]);
        assert_eq!(world.item("order#13").fields["status"], "on-hold");
        // An entity that should be in the list but is not must not be forgotten.
        let none = error.replace("order", "coupon");
        assert_eq!(
            process(&world, &[delivered("coupon.updated", &none, LATER)]).await,
            ["quarantined: platform-error"]
        );
        // Without credentials, the platform cannot be asked.
        world.connect(None);
        assert_eq!(
            process(&world, &[delivered("order.updated", &error, LATER)]).await,
            ["quarantined: platform-error"]
        );
    }
}

mod directscale {
    use super::*;

    async fn post(world: &World, bearer: &str) -> u16 {
        post_to(world, "acme", bearer).await
    }

    async fn post_to(world: &World, client: &str, bearer: &str) -> u16 {
        let body = json!({ "EventType": "DailyEvent", "EventDateUtc": "2026-11-21T01:00:00Z" });
        let delivery = tests::platforms::Delivery {
            method: http::Method::POST,
            url: format!("{BASE}/hooks/directscale/{client}"),
            headers: [
                ("authorization", bearer),
                ("x-directscale-client-id", &client.to_uppercase()),
                ("x-directscale-message-id", "m1"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
            body: body.to_string().into(),
            attempts: 0,
        };
        let event = gateway_event(&delivery, world.clock.now()).unwrap();
        world.receiver.receive(request(&event)).await.status().as_u16()
    }

    #[tokio::test]
    async fn keys_that_a_client_brought_are_accepted_side_by_side_and_can_be_withdrawn() {
        let world = World::new();
        let (one, two) = ("one!$%^~_- key of theirs", "another-key-of-theirs");
        let put = async |keys: &[&str]| {
            let (status, shown) =
                world.admin_of("directscale", "PUT", "acme", "", &json!({ "accept": keys }).to_string()).await;
            assert_eq!(status, 200, "{shown}");
            assert!(!shown.to_string().contains("theirs"), "{shown}");
        };
        assert_eq!(post(&world, &format!("Bearer {one}")).await, 401);
        put(&[one, two]).await;
        // The receiver remembers for a moment that there was no key.
        world.clock.pass_seconds(6);
        assert_eq!(post(&world, &format!("Bearer {one}")).await, 200);
        assert_eq!(post(&world, &format!("Bearer {two}")).await, 200);
        let path = WebhookPath::parse("directscale", "acme", None).unwrap();
        let derived = sample_ring().signing().webhook_secret(&path, None).reveal().to_owned();
        assert_eq!(post(&world, &format!("Bearer {derived}")).await, 200);
        // A forged request costs no read, whatever client it names.
        let reads = world.tables.brought_reads();
        for client in 0..200 {
            assert_eq!(post_to(&world, &format!("client{client}"), "Bearer a-made-up-key-of-some-length").await, 401);
        }
        assert_eq!(world.tables.brought_reads(), reads);
        put(&[two]).await;
        world.clock.pass_seconds(61);
        assert_eq!(post(&world, &format!("Bearer {one}")).await, 401);
        assert_eq!(post(&world, &format!("Bearer {two}")).await, 200);
    }
}

mod cloudblue {
    use super::*;

    /// Makes a world with an account that answers requests by a policy.
    async fn account(policy: Value) -> (World, Arc<Connect>) {
        let mut world = World::new();
        world.loopback = Loopback::Allowed;
        let connect = Arc::new(Connect::with_policy(world.clock.function(), policy));
        let site = "http://127.0.0.1:20000";
        world.outside = Outside::Simulated(vec![(site.to_owned(), Arc::clone(&connect) as Arc<dyn Simulator>)]);
        let settings = connect.settings(site).to_string();
        let (status, shown) = world.admin_of("cloudblue", "PUT", &connect.connection(), "", &settings).await;
        assert_eq!(status, 200, "{shown}");
        if shown["subscriptions"].as_array().unwrap().iter().all(|hook| hook["status"] == "manual") {
            let path = WebhookPath::parse("cloudblue", &connect.connection(), None).unwrap();
            let secret = sample_ring().signing().webhook_secret(&path, None).reveal().to_owned();
            connect.subscribe(&format!("{BASE}{path}"), &|_| secret.clone());
        }
        (world, connect)
    }

    /// Delivers the outbox, processes messages until the queue is empty, and returns all outcomes.
    async fn run(world: &World, connect: &Connect) -> Vec<String> {
        let mut taken = world.queues.sent().len();
        for delivery in connect.outbox() {
            world.clock.pass_seconds(1);
            let event = gateway_event(&delivery, world.clock.now()).unwrap();
            let status = world.receiver.receive(request(&event)).await.status().as_u16();
            connect.answered(&delivery, status);
        }
        let mut all = Vec::new();
        loop {
            let waiting = queued(world, taken);
            if waiting.is_empty() {
                return all;
            }
            taken += waiting.len();
            assert!(all.len() < 2_000, "it does not end: {:?}", &all[all.len() - 50..]);
            world.clock.pass_seconds(200);
            all.extend(process(world, &waiting).await);
        }
    }

    fn approve() -> Value {
        json!([{ "approve": { "template": "TL-000-000-001" } }])
    }

    #[tokio::test]
    async fn a_request_is_approved_once_however_often_it_is_told() {
        let (world, connect) = account(approve()).await;
        let id = connect.purchase(&mut StdRng::seed_from_u64(3), false);
        for _ in 0..4 {
            connect.run_now();
            run(&world, &connect).await;
        }
        assert_eq!(connect.actions().into_iter().collect::<Vec<_>>(), [((id.clone(), "approve".to_owned()), 1)]);
        assert_eq!(world.item(&format!("request#{id}")).fields["status"], "approved");
        let asset = world.tables.items().into_iter().find(|item| item.sk.starts_with("subscription#")).unwrap();
        assert_eq!(asset.fields["status"], "active", "the asset follows its request");
    }

    #[tokio::test]
    async fn what_was_done_from_here_is_not_processed_when_it_is_told() {
        let (world, connect) = account(approve()).await;
        connect.purchase(&mut StdRng::seed_from_u64(3), false);
        connect.run_now();
        run(&world, &connect).await;
        connect.run_now();
        let ends = run(&world, &connect).await;
        assert!(ends.iter().any(|end| end == "ignored: echo"), "{ends:?}");
    }

    /// An entry of a list is not pulled when what is here was pulled after the list was asked for, by our own clocks. Whatever
    /// changed later has a request of its own.
    #[tokio::test]
    async fn what_was_pulled_since_the_list_was_asked_for_is_not_pulled_again() {
        let (world, connect) = account(json!("observe")).await;
        let id = connect.purchase(&mut StdRng::seed_from_u64(3), false);
        // The platform tells in whole seconds that it changed just now, and the list shows that.
        let changed = world.clock.now();
        let entry = |n: usize| {
            let message = transfer(&world, &connect, &id, n);
            let mut body: Value = serde_json::from_str(&message.body).unwrap();
            body["content"]["transfer"]["changed"] = json!(changed.seconds() * 1_000_000);
            Message { body: body.to_string(), ..message }
        };
        let pulls = || connect.calls().iter().filter(|call| call.ends_with(&id)).count();
        pulls();
        // Two entries are on the queue. The second one waits, as the budget makes it.
        let (first, second) = (entry(1), entry(2));
        world.clock.pass_seconds(5);
        process(&world, &[first]).await;
        assert_eq!(pulls(), 1, "it was not known");
        let ends = process(&world, &[second]).await;
        assert_eq!((ends, pulls()), (vec!["unchanged".to_owned()], 0), "it was pulled since");
        // A list that is asked for only now may show a change that came after the pull, within the same second.
        let third = entry(3);
        process(&world, &[third]).await;
        assert_eq!(pulls(), 1);
    }

    /// Returns the transfer request for one request, as a list would make it.
    fn transfer(world: &World, connect: &Connect, id: &str, n: usize) -> Message {
        let text = json!({
            "version": 1, "provenance": "envelope", "platform": "cloudblue", "connection": connect.connection(), "generation": 1,
            "scope": "fulfillment_request", "key_id": "sample", "strength": "caller", "received": world.clock.now().micros(),
            "claims": { "webhook_id": "WH-000-000-001" },
            "content": { "transfer": { "entity": "request", "id": id, "reason": "test" } },
        });
        message(n, &text.to_string())
    }

    #[tokio::test]
    async fn two_at_once_act_once() {
        let (world, connect) = account(approve()).await;
        let id = connect.purchase(&mut StdRng::seed_from_u64(3), false);
        let (one, other) = (transfer(&world, &connect, &id, 1), transfer(&world, &connect, &id, 2));
        let (one, other) = (std::slice::from_ref(&one), std::slice::from_ref(&other));
        let (one, other) = join(process(&world, one), process(&world, other)).await;
        let mut ends = [one, other].concat();
        ends.sort();
        assert_eq!(connect.actions()[&(id, "approve".to_owned())], 1);
        assert_eq!(ends[0], "applied");
    }

    #[tokio::test]
    async fn a_crash_between_the_action_and_its_outcome_is_resumed() {
        let (world, connect) = account(approve()).await;
        let id = connect.purchase(&mut StdRng::seed_from_u64(3), false);
        // The first two calls read; the third acts, and its answer is lost.
        connect.trouble(&[Trouble::None, Trouble::None, Trouble::AnswerLost]);
        let told = transfer(&world, &connect, &id, 1);
        assert_eq!(process(&world, std::slice::from_ref(&told)).await, ["failed: platform-unavailable"]);
        assert_eq!(connect.actions()[&(id.clone(), "approve".to_owned())], 1);
        // Nobody acts during the guard's lease. After it, the request itself shows that the action is done.
        world.clock.pass_seconds(130);
        assert_eq!(process(&world, &[told]).await, ["applied"]);
        assert_eq!(connect.actions()[&(id.clone(), "approve".to_owned())], 1);
        assert_eq!(world.item(&format!("request#{id}")).fields["status"], "approved");
    }

    #[tokio::test]
    async fn a_crash_before_the_action_is_resumed() {
        let (world, connect) = account(approve()).await;
        let id = connect.purchase(&mut StdRng::seed_from_u64(3), false);
        connect.trouble(&[Trouble::None, Trouble::None, Trouble::Slow]);
        let told = transfer(&world, &connect, &id, 1);
        assert_eq!(process(&world, std::slice::from_ref(&told)).await, ["failed: platform-unavailable"]);
        assert!(connect.actions().is_empty());
        let waits = process(&world, std::slice::from_ref(&told)).await;
        assert!(waits[0].starts_with("deferred"), "{waits:?}");
        world.clock.pass_seconds(130);
        assert_eq!(process(&world, &[told]).await, ["applied"]);
        assert_eq!(connect.actions()[&(id, "approve".to_owned())], 1);
    }

    #[tokio::test]
    async fn policies_fail_and_inquire_too_and_observing_does_nothing() {
        for (policy, action, status) in [
            (json!([{ "fail": { "reason": "We do not sell there." } }]), Some("fail"), "failed"),
            (
                json!([{ "when": { "type": ["purchase"] }, "inquire": { "template": "TL-000-000-002", "errors": {} } }]),
                Some("inquire"),
                "inquiring",
            ),
            (json!([{ "when": { "type": ["cancel"] }, "approve": { "template": "TL-1" } }]), None, "pending"),
            (json!("observe"), None, "pending"),
        ] {
            let (world, connect) = account(policy.clone()).await;
            let id = connect.purchase(&mut StdRng::seed_from_u64(3), false);
            let end = process(&world, &[transfer(&world, &connect, &id, 1)]).await;
            assert_eq!(end, ["applied"], "{policy}");
            assert_eq!(world.item(&format!("request#{id}")).fields["status"], status, "{policy}");
            let done: Vec<_> = connect.actions().into_keys().map(|(_, action)| action).collect();
            assert_eq!(done, action.into_iter().collect::<Vec<_>>(), "{policy}");
        }
    }

    #[tokio::test]
    async fn what_the_platform_refuses_is_put_aside_and_not_tried_again_until_something_changes() {
        let refuses = Arc::new(Mutex::new(0));
        let tried = Arc::clone(&refuses);
        let pending = json!({ "id": "PR-1", "type": "purchase", "status": "pending", "updated": "2026-11-21T01:00:00+00:00",
            "asset": { "id": "AS-1", "status": "processing", "product": { "id": "PRD-1" }, "items": [], "params": [] } });
        let change = |connection: &mut Connection| {
            connection.settings =
                json!({ "webhooks": ["WH-1"], "products": { "PRD-1": approve() } }).as_object().unwrap().clone();
        };
        let key = of("cloudblue", "va-1");
        let (world, _) =
            scripted(&key, "https://api.connect.cloudblue.com/public/v1", "ApiKey x:y", change, move |request| {
                if request.method == http::Method::POST {
                    *tried.lock().unwrap() += 1;
                    return json_answer(400, &json!({ "error_code": "VAL_001", "errors": ["secret text"] }));
                }
                json_answer(200, &pending)
            });
        let text = json!({
            "version": 1, "provenance": "envelope", "platform": "cloudblue", "connection": "va-1", "generation": 1,
            "scope": "fulfillment_request", "key_id": "k", "strength": "caller", "received": LATER * 1000,
            "claims": { "webhook_id": "WH-1" }, "content": { "transfer": { "entity": "request", "id": "PR-1", "reason": "test" } },
        });
        let told = message(1, &text.to_string());
        let report = world.process(std::slice::from_ref(&told)).await;
        assert_eq!(outcomes(&report), ["quarantined: action-refused"]);
        assert!(!format!("{:?}", report.lines).contains("secret text"));
        assert_eq!(world.item("request#PR-1").fields["status"], "pending", "the state is written all the same");
        // The message may come back before it was put aside. Other messages change nothing for a while.
        assert_eq!(process(&world, std::slice::from_ref(&told)).await, ["quarantined: action-refused"]);
        let other = message(2, &told.body);
        assert_eq!(process(&world, std::slice::from_ref(&other)).await, ["unchanged"]);
        assert_eq!(*refuses.lock().unwrap(), 1);
        // After that, the platform may have been repaired.
        world.clock.pass_seconds(601);
        assert_eq!(process(&world, &[other]).await, ["quarantined: action-refused"]);
        assert_eq!(*refuses.lock().unwrap(), 2);
    }

    #[tokio::test]
    async fn what_never_comes_to_an_end_is_given_up() {
        let (world, connect) = account(approve()).await;
        let id = connect.purchase(&mut StdRng::seed_from_u64(3), false);
        let mut ends = Vec::new();
        for n in 0..6 {
            connect.trouble(&[Trouble::None, Trouble::None, Trouble::Slow]);
            ends.extend(process(&world, &[transfer(&world, &connect, &id, n)]).await);
            world.clock.pass_seconds(130);
        }
        connect.trouble(&[]);
        assert_eq!(ends[..5], ["failed: platform-unavailable"; 5]);
        assert_eq!(ends[5], "quarantined: action-refused");
        assert!(connect.actions().is_empty());
    }

    #[tokio::test]
    async fn a_webhook_of_somebody_else_is_ignored() {
        let (world, connect) = account(approve()).await;
        connect.purchase(&mut StdRng::seed_from_u64(3), false);
        let key = of("cloudblue", &connect.connection());
        let mut connection = world.tables.connection(&key).connection.unwrap();
        connection.settings["webhooks"] = json!(["WH-999-999-999"]);
        world.tables.connect(&key, connection);
        connect.run_now();
        let ends = run(&world, &connect).await;
        assert!(!ends.is_empty() && ends.iter().all(|end| end == "ignored: cloudblue-foreign-webhook"), "{ends:?}");
        assert!(connect.actions().is_empty());
    }

    #[tokio::test]
    async fn a_day_of_answering_answers_each_request_once() {
        let asks = json!({
            "when": { "empty_parameter": "domain" },
            "inquire": { "template": "TL-000-000-002", "errors": { "domain": "Enter a domain." } },
        });
        for seed in 0..2 {
            let policy = json!([asks, approve()[0]]);
            let (world, connect) = account(policy).await;
            let mut random = StdRng::seed_from_u64(seed);
            for step in 0..30 {
                connect.change(&mut random);
                if step % 5 == 0 {
                    connect.trouble(&[
                        Trouble::AnswerLost,
                        Trouble::Broken,
                        Trouble::TooMany(3),
                        Trouble::NotFoundPage,
                        Trouble::AnswerLost,
                    ]);
                }
                run(&world, &connect).await;
                world.clock.pass_seconds(120);
            }
            for _ in 0..10 {
                connect.run_now();
                world.clock.pass_seconds(200);
                run(&world, &connect).await;
            }
            assert!(!connect.is_waiting(), "seed {seed}");
            let actions = connect.actions();
            assert!(actions.len() > 5, "{actions:?}");
            let twice: Vec<_> =
                actions.iter().filter(|((_, action), times)| action != "inquire" && **times > 1).collect();
            assert!(twice.is_empty(), "seed {seed}: {twice:?}");
        }
    }
}
