//! What only Shopify has: the installation of its app, the compliance topics at the app's address, two client secrets at
//! once, and the budget of points.

use std::{collections::BTreeSet, sync::Arc};

use cloud::coordination::Coordination;
use commerce::{
    connection::{Connection, ConnectionStatus},
    entity::EntityKind,
    http_call::Loopback,
    job::{Job, Trigger},
    key::ConnectionKey,
    platform::{mapping::declared_scopes, notice::Notice},
    platforms::shopify::PLATFORM,
    request::WebhookPath,
};
use http::StatusCode;
use lambda_http::{Body, Response};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tests::{
    platforms::{
        Delivery, Simulator,
        shopify::{ACCESS_TOKEN, CLIENT_ID, GRANTS, SHOP, Shop, client_secret},
    },
    truth::{BETWEEN_QUESTIONS, Connected, connect},
    world::{BASE, Outside, World, gateway_event, message, outcomes, request},
};

const APPS: &str = "https://hooks.example.com/apps/shopify";
const COMPLIANCE: [&str; 3] = ["customers/redact", "customers/data_request", "shop/redact"];
const SITE: &str = "http://127.0.0.1:20000";
const NEW_SECRET: &str = "another-client-secret-of-64-characters-0123456789abcdef012345678";

fn world() -> (World, Arc<Shop>) {
    let mut world = World::new();
    let shop = Arc::new(Shop::new(world.clock.function()));
    let at = |site: &str| (site.to_owned(), Arc::clone(&shop) as Arc<dyn Simulator>);
    world.outside = Outside::Simulated(vec![at(&format!("https://{SHOP}")), at(SITE)]);
    (world, shop)
}

fn key() -> ConnectionKey {
    WebhookPath::parse(PLATFORM.name, SHOP, None).unwrap().key
}

fn connection(world: &World) -> Option<Connection> {
    world.tables.connection(&key()).connection
}

async fn get(world: &World, url: &str) -> Response<Body> {
    let (path, query) = url.strip_prefix(BASE).unwrap().split_once('?').unwrap();
    world.visit("GET", path, query, "").await
}

fn text(response: &Response<Body>) -> String {
    String::from_utf8(response.body().as_ref().to_vec()).unwrap()
}

async fn open(world: &World, shop: &Shop) -> Response<Body> {
    get(world, &format!("{APPS}/open?{}", shop.signed(&[("id_token", &shop.session_token(&json!({})))]))).await
}

async fn installed() -> (World, Arc<Shop>) {
    let (world, shop) = world();
    assert_eq!(open(&world, &shop).await.status(), StatusCode::OK);
    world.run_jobs().await;
    world.clock.pass_seconds(60);
    (world, shop)
}

fn topics(shop: &Shop) -> BTreeSet<String> {
    shop.hooks().into_iter().map(|hook| hook.topic).collect()
}

/// Sends a delivery to the app's own address, with its headers.
async fn visit(world: &World, delivery: &Delivery) -> u16 {
    let path = delivery.url.strip_prefix(BASE).unwrap();
    let mut event = json!({
        "version": "2.0", "routeKey": "POST /apps/{platform}/{action}", "rawPath": path, "rawQueryString": "",
        "headers": {}, "pathParameters": { "platform": "shopify", "action": "compliance" },
        "requestContext": {
            "http": { "method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "x" },
            "stage": "$default",
        },
        "body": String::from_utf8(delivery.body.to_vec()).unwrap(), "isBase64Encoded": false,
    });
    for (name, value) in &delivery.headers {
        event["headers"][name] = value.as_str().into();
    }
    world.registrar().answer(request(&event)).await.status().as_u16()
}

async fn demand(world: &World, shop: &Shop, topic: &str, body: &Value) -> u16 {
    visit(world, &shop.demand(topic, &format!("{APPS}/compliance"), body)).await
}

async fn receive(world: &World, delivery: &Delivery) -> u16 {
    let event = gateway_event(delivery, world.clock.now()).unwrap();
    world.receiver.receive(request(&event)).await.status().as_u16()
}

/// Delivers what the shop tells, and processes everything until nothing is left. Calls that have to wait are made later.
async fn settle(world: &World, shop: &Shop) {
    let from = world.queues.sent().len();
    for delivery in shop.outbox() {
        assert_eq!(receive(world, &delivery).await, 200, "{delivery:?}");
    }
    drain(world, from).await;
}

async fn drain(world: &World, mut from: usize) {
    while world.queues.sent().len() > from {
        let upto = world.queues.sent().len();
        for ends in world.drain(from).await {
            assert!(!ends.starts_with("quarantined") && !ends.starts_with("failed"), "{ends}");
        }
        from = upto;
        world.clock.pass_seconds(20);
        world.run_jobs().await;
    }
}

#[tokio::test]
async fn a_merchant_opens_the_embedded_app_and_the_hooks_come_by_themselves() {
    let (world, shop) = world();
    let page = open(&world, &shop).await;
    assert_eq!(page.status(), StatusCode::OK);
    assert!(text(&page).contains("being set up"), "{}", text(&page));
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("frame-ancestors https://admin.shopify.com https://*.myshopify.com"), "{policy}");
    assert_eq!(shop.calls(), ["POST /admin/oauth/access_token"], "nothing else while the merchant waits");
    world.run_jobs().await;
    let wanted: BTreeSet<_> =
        declared_scopes(&PLATFORM).filter(|scope| !COMPLIANCE.contains(scope)).map(str::to_owned).collect();
    assert_eq!(topics(&shop), wanted);
    assert_eq!(shop.hooks().len(), wanted.len());
    assert!(shop.hooks().iter().all(|hook| hook.uri == format!("{BASE}/hooks/shopify/{SHOP}")));
    let found = connection(&world).unwrap();
    assert_eq!((found.site.as_str(), found.status), (&*format!("https://{SHOP}"), ConnectionStatus::Active));
    shop.calls();
    let token = shop.token();
    let page = open(&world, &shop).await;
    assert!(text(&page).contains("All is well"), "{}", text(&page));
    assert_eq!((shop.calls(), shop.token()), (Vec::new(), token), "a shop that is well needs no other token");
}

#[tokio::test]
async fn a_merchant_grants_by_a_redirection_whose_state_counts_once() {
    let (world, shop) = world();
    let begun = get(&world, &format!("{APPS}/open?{}", shop.signed(&[]))).await;
    assert_eq!(begun.status(), StatusCode::FOUND);
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    assert!(
        location.starts_with(&format!("https://{SHOP}/admin/oauth/authorize?client_id={CLIENT_ID}&")),
        "{location}"
    );
    let back = shop.granted(&location);
    assert_eq!(get(&world, &back).await.status(), StatusCode::OK);
    assert_ne!(shop.token().as_deref(), Some(ACCESS_TOKEN));
    let revision = connection(&world).unwrap().revision;
    assert_eq!(get(&world, &back).await.status(), StatusCode::UNAUTHORIZED, "the state is spent");
    // A code with a state that nobody began with, or none.
    for parameters in [&[("code", "c"), ("state", "made-up")][..], &[("code", "c")]] {
        let answer = get(&world, &format!("{APPS}/callback?{}", shop.signed(parameters))).await;
        assert!(answer.status().is_client_error());
    }
    assert_eq!(connection(&world).unwrap().revision, revision);
}

#[tokio::test]
async fn impostors_change_nothing() {
    let (world, shop) = world();
    let good = shop.signed(&[("id_token", &shop.session_token(&json!({})))]);
    let with_token = |changes: Value| shop.signed(&[("id_token", &shop.session_token(&changes))]);
    let now = world.clock.now().seconds();
    let of = |host: &str| shop.signed(&[]).replace(SHOP, host);
    let mut bad = vec![
        good.replace("host=", "host=x"),
        format!("{good}&embedded=1"),
        good.split("&hmac=").next().unwrap().to_owned(),
        good.replace("&hmac=", "&hmac=0"),
        of("evil.myshopify.com"),
        with_token(json!({ "dest": "https://another.myshopify.com" })),
        with_token(json!({ "aud": "another-app" })),
        with_token(json!({ "exp": now - 100, "iat": now - 160, "nbf": now - 160 })),
        with_token(json!({ "exp": now + 86_400 })),
        shop.signed(&[("id_token", "a.b.c")]),
        String::new(),
    ];
    // Rightly signed, but for no shop.
    for host in [
        "evil.example.com",
        "a.b.myshopify.com",
        "-a.myshopify.com",
        "myshopify.com",
        "a.myshopify.com.evil.com",
        "a_b.myshopify.com",
    ] {
        let shop = Shop::new(world.clock.function());
        bad.push(shop.signed_for(host));
    }
    for query in bad {
        let answer = get(&world, &format!("{APPS}/open?{query}")).await;
        assert!(matches!(answer.status().as_u16(), 400 | 401), "{} for {query}", answer.status());
        assert!(connection(&world).is_none() && world.tables.notes(&key(), "").await.unwrap().is_empty());
    }
    // Too old, and then good.
    world.clock.pass_seconds(200);
    assert_eq!(get(&world, &format!("{APPS}/open?{good}")).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(shop.calls(), Vec::<String>::new(), "nobody's word makes a call");
    assert_eq!(open(&world, &shop).await.status(), StatusCode::OK);
    for method in ["POST", "PUT"] {
        assert_eq!(world.visit(method, "/apps/shopify/open", &good, "").await.status().as_u16(), 405);
    }
}

#[tokio::test]
async fn what_the_merchant_does_not_grant_has_no_hooks_and_is_shown() {
    let (world, shop) = world();
    shop.grant("write_products,read_inventory,read_locations,read_customers,read_fulfillments");
    open(&world, &shop).await;
    world.run_jobs().await;
    assert_eq!(connection(&world).unwrap().settings["missing_permissions"], json!(["read_orders"]));
    assert!(!topics(&shop).contains("orders/create") && topics(&shop).contains("products/create"));
    shop.grant(GRANTS);
    world.clock.pass_seconds(60);
    // Nothing is wrong, so the merchant has to leave and come again.
    shop.uninstall();
    settle(&world, &shop).await;
    assert_eq!(connection(&world).unwrap().status, ConnectionStatus::Disconnected);
    world.clock.pass_seconds(60);
    open(&world, &shop).await;
    world.run_jobs().await;
    assert!(topics(&shop).contains("orders/create"));
}

#[tokio::test]
async fn two_client_secrets_prove_while_one_replaces_the_other() {
    let (world, shop) = installed().await;
    let mut random = StdRng::seed_from_u64(1);
    let deliveries = |random: &mut StdRng| {
        let mut found = Vec::new();
        while found.is_empty() {
            shop.change(random);
            found = shop.outbox();
        }
        found
    };
    let before = deliveries(&mut random);
    let apps = |present: &str, former: Option<&str>| {
        let mut app = json!({ "client_id": CLIENT_ID, "client_secret": present });
        if let Some(former) = former {
            app["former_client_secret"] = former.into();
        }
        world.apps.set(Some(&json!({ "shopify": app }).to_string()));
        world.clock.pass_seconds(400);
    };
    shop.new_secret(NEW_SECRET);
    apps(NEW_SECRET, Some(&client_secret()));
    for delivery in before.iter().chain(&deliveries(&mut random)) {
        assert_eq!(receive(&world, delivery).await, 200, "the oldest secret signs");
    }
    assert!(text(&open(&world, &shop).await).contains("All is well"), "a visit, too");
    shop.revoke_oldest_secret();
    let after = deliveries(&mut random);
    for delivery in after.iter().chain(&before) {
        assert_eq!(receive(&world, delivery).await, 200, "and retries of what it signed still come");
    }
    apps(NEW_SECRET, None);
    assert_eq!(receive(&world, &after[0]).await, 200);
    assert_eq!(receive(&world, &before[0]).await, 401, "the old secret proves no longer");
    assert_eq!(demand(&world, &shop, "shop/redact", &json!({ "shop_domain": "x.myshopify.com" })).await, 200);
}

#[tokio::test]
async fn a_customer_is_redacted_because_shopify_demands_it() {
    let (world, shop) = installed().await;
    let mut random = StdRng::seed_from_u64(3);
    for _ in 0..90 {
        shop.change(&mut random);
    }
    settle(&world, &shop).await;
    let orders = world.tables.items().into_iter().filter(|item| item.sk.starts_with("order#") && !item.deleted);
    let person = orders.filter_map(|order| Some(order.fields.get("customer")?.as_str()?.to_owned())).next().unwrap();
    let named = |world: &World| {
        let of_person = |item: &commerce::item::Item| {
            item.sk.starts_with("order#") && item.fields.get("customer").and_then(Value::as_str) == Some(&person)
        };
        world.tables.items().into_iter().filter(of_person).filter(|item| !item.deleted && !item.redacted).count()
    };
    assert!(named(&world) > 0);
    let id: u64 = person.parse().unwrap();
    let body = json!({
        "shop_id": 7, "shop_domain": SHOP, "customer": { "id": id, "email": format!("nora{id}@example.com") },
        "orders_to_redact": [],
    });
    let from = world.queues.sent().len();
    assert_eq!(demand(&world, &shop, "customers/redact", &body).await, 200);
    assert_eq!(demand(&world, &shop, "customers/redact", &body).await, 200, "again, as a retry");
    drain(&world, from).await;
    assert_eq!(named(&world), 0);
    let customer = world.item(&format!("customer#{id}"));
    assert!(customer.redacted && customer.fields.get("first_name").is_none(), "{customer:?}");
    // The same demand that comes as a delivery to the connection.
    let other = json!({ "shop_domain": SHOP, "customer": { "id": 77 }, "orders_to_redact": [] });
    let delivery = shop.demand("customers/redact", &format!("{BASE}/hooks/shopify/{SHOP}"), &other);
    let sent = world.queues.sent().len();
    assert_eq!(receive(&world, &delivery).await, 200);
    let report = world.process(&[message(sent, world.queues.sent()[sent].0.text())]).await;
    assert!(!outcomes(&report)[0].starts_with("quarantined"), "{:?}", outcomes(&report));
}

#[tokio::test]
async fn what_is_asked_for_is_noted_and_what_is_not_proven_does_nothing() {
    let (world, shop) = installed().await;
    let body = json!({
        "shop_id": 7, "shop_domain": SHOP, "customer": { "id": 1, "email": "nora@example.com" },
        "orders_requested": [1], "data_request": { "id": 9999 },
    });
    assert_eq!(demand(&world, &shop, "customers/data_request", &body).await, 200);
    let notes = world.tables.notes(&key(), "notice#data-requested").await.unwrap();
    let notice: Notice = serde_json::from_str(&notes[0].1.body).unwrap();
    assert_eq!((notes.len(), notice.detail.as_str()), (1, "9999"));
    assert!(!format!("{notes:?}").contains("nora"), "it names nobody");
    let url = format!("{APPS}/compliance");
    let good = shop.demand("shop/redact", &url, &json!({ "shop_domain": SHOP }));
    let header = |name: &str, value: &str| {
        let mut delivery = good.clone();
        delivery.headers.iter_mut().filter(|(known, _)| known == name).for_each(|(_, old)| *old = value.into());
        delivery
    };
    let wrong_body = Delivery { body: "{}".into(), ..good.clone() };
    for (delivery, status) in [
        (header("x-shopify-hmac-sha256", "AAAA"), 401),
        (header("x-shopify-hmac-sha256", ""), 401),
        (wrong_body, 401),
        (header("x-shopify-topic", "orders/create"), 400),
        (header("x-shopify-topic", "customers/redact"), 400),
        (shop.demand("customers/redact", &url, &json!({ "shop_domain": SHOP, "orders_to_redact": [] })), 400),
        (shop.demand("shop/redact", &url, &json!({ "shop_domain": "evil.example.com" })), 400),
        (shop.demand("shop/redact", &url, &json!([])), 400),
        // Of a shop that was never connected, nothing is kept.
        (shop.demand("shop/redact", &url, &json!({ "shop_domain": "another.myshopify.com" })), 200),
        (
            shop.demand(
                "customers/data_request",
                &url,
                &json!({ "shop_domain": "another.myshopify.com", "data_request": { "id": 1 } }),
            ),
            200,
        ),
    ] {
        assert_eq!(visit(&world, &delivery).await, status, "{delivery:?}");
    }
    assert_eq!(connection(&world).unwrap().status, ConnectionStatus::Active);
    assert_eq!(get(&world, &format!("{url}?a=b")).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_shop_that_has_left_is_erased_when_shopify_demands_it() {
    let (world, shop) = installed().await;
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..20 {
        shop.change(&mut random);
    }
    settle(&world, &shop).await;
    assert!(!world.tables.items().is_empty());
    let body = json!({ "shop_id": 7, "shop_domain": SHOP });
    assert_eq!(demand(&world, &shop, "shop/redact", &body).await, 409, "it is still connected");
    world.run_jobs().await;
    assert_eq!(connection(&world).unwrap().status, ConnectionStatus::Active, "and its token is good");
    shop.uninstall();
    settle(&world, &shop).await;
    let left = connection(&world).unwrap();
    assert_eq!((left.status, left.credentials), (ConnectionStatus::Disconnected, None));
    world.clock.pass_seconds(48 * 3600);
    let from = world.queues.sent().len();
    assert_eq!(demand(&world, &shop, "shop/redact", &body).await, 200);
    assert_eq!(demand(&world, &shop, "shop/redact", &body).await, 200);
    world.run_jobs().await;
    drain(&world, from).await;
    assert!(world.tables.items().is_empty(), "{:?}", world.tables.items());
}

/// A backfill is pulled within the points, without many calls that are refused, and in about the time that the points
/// take to come back.
#[tokio::test]
async fn a_backfill_spends_the_shop_s_points_and_no_more() {
    let (mut world, shop) = world();
    world.loopback = Loopback::Allowed;
    let mut random = StdRng::seed_from_u64(5);
    while shop.entities().len() < 250 {
        shop.change(&mut random);
        world.clock.pass_seconds(5);
    }
    shop.outbox();
    world.clock.pass_seconds(3600);
    let begun = world.clock.now();
    connect(&world, &*shop, SITE).await;
    let of_hooks = shop.spent().0;
    let mut from = 0;
    loop {
        world.run_jobs().await;
        let upto = world.queues.sent().len();
        if upto == from {
            break;
        }
        for ends in world.drain(from).await {
            assert!(!ends.starts_with("quarantined") && !ends.starts_with("failed"), "{ends}");
        }
        from = upto;
        world.clock.pass_seconds(5);
    }
    let (spent, refused) = shop.spent();
    let seconds = world.clock.now().seconds() - begun.seconds();
    let connected = Connected::new(&*shop, SITE);
    let mut count = 0;
    for (kind, id, truth) in shop.entities() {
        if kind == EntityKind::Cart || truth == tests::platforms::Truth::Gone {
            continue;
        }
        let entity = connected.entity(kind, &id);
        let item = world.tables.items().into_iter().find(|item| item.sk == entity.sort());
        world.clock.pass_seconds(BETWEEN_QUESTIONS);
        connected.compare(&entity, &truth, item.as_ref(), &*world.clock.function()).await.unwrap();
        count += 1;
    }
    println!("{count} entities: {of_hooks} points for webhooks, {spent} in all, {refused} calls refused, {seconds} s");
    // The bucket was full at first.
    assert!((seconds as f64) < spent / 100.0 * 2.0 + 120.0, "{seconds} s for {spent} points");
    assert!(refused * 20 < count, "{refused} of {count} calls could not be paid for");
}

/// An offline token lasts for an hour. It is renewed before that, by the jobs that use it, or because a delivery needs it.
#[tokio::test]
async fn a_token_that_expires_is_renewed_once_and_nothing_is_lost() {
    let (world, shop) = installed().await;
    let renewals = || shop.calls().iter().filter(|call| call.ends_with("/admin/oauth/access_token")).count();
    let first = shop.token();
    assert_eq!(renewals(), 1, "the installation's");
    world.clock.pass_seconds(1800);
    world.registrar().sweep().await.unwrap();
    world.run_jobs().await;
    assert_eq!((renewals(), shop.token()), (0, first.clone()), "there is time");
    // Two jobs find at once that it is due.
    world.clock.pass_seconds(1800 - 600);
    let registrar = world.registrar();
    let check = Job::check(&key(), Trigger::Schedule).text();
    let (one, other) = tokio::join!(registrar.run(&check), registrar.run(&check));
    assert!(one.is_ok() && other.is_ok());
    world.run_jobs().await;
    assert_eq!(renewals(), 1);
    assert_ne!(shop.token(), first);
    // Nobody needs it for hours, until a delivery comes.
    world.clock.pass_seconds(5 * 3600);
    let mut random = StdRng::seed_from_u64(4);
    while shop.entities().iter().all(|(kind, ..)| *kind != EntityKind::Customer) {
        shop.change(&mut random);
    }
    let from = world.queues.sent().len();
    for delivery in shop.outbox() {
        assert_eq!(receive(&world, &delivery).await, 200);
    }
    let ends = world.drain(from).await;
    assert!(ends.iter().any(|end| end.starts_with("failed")), "{ends:?}");
    world.run_jobs().await;
    assert_eq!(renewals(), 1);
    // The queue brings back what failed.
    drain(&world, from).await;
    assert!(world.tables.items().iter().any(|item| item.sk.starts_with("customer#")));
    // Once the token that renews it is invalid, too, the merchant has to open the app.
    shop.forget_renewal();
    world.clock.pass_seconds(5 * 3600);
    world.registrar().sweep().await.unwrap();
    world.run_jobs().await;
    let trouble = world.tables.connection(&key()).check.unwrap().trouble.unwrap();
    assert!(trouble.contains("401"), "{trouble}");
    assert_eq!(open(&world, &shop).await.status(), StatusCode::OK);
    world.run_jobs().await;
    assert_eq!(world.tables.connection(&key()).check.unwrap().trouble, None);
}
