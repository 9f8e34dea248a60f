//! The installation and uninstallation of apps: by merchants in the browser, by platforms in callbacks, and against
//! impostors.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    sync::{Arc, Mutex},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use cloud::{
    connections::{Check, Loaded},
    coordination::{Coordination, deployment, strangers},
};
use commerce::{
    connection::{Connection, ConnectionStatus},
    cursor::Cursor,
    drift::Drift,
    entity::EntityKind,
    health::{Health, Verdict, WebhookRecord},
    http_call::Loopback,
    install::sha256,
    job::{Job, Trigger},
    key::{ConnectionKey, Generation},
    platform::mapping::declared_scopes,
    platforms::{bigcommerce::PLATFORM as BIGCOMMERCE, woocommerce::PLATFORM as WOOCOMMERCE},
    request::WebhookPath,
    scheme::jwt::{Algorithm, Rules, unproven_claims},
    timestamp::Timestamp,
};
use futures_util::future::BoxFuture;
use registrar::page::{View, load_page};
use serde_json::{Value, json};
use tests::{
    platforms::{
        Delivery, Simulator, Trouble, Wire,
        bigcommerce::{self, ACCESS_TOKEN, CLIENT_ID, CLIENT_SECRET, GRANTS, PAYLOAD, STORE},
        woocommerce,
    },
    world::{BASE, INSTALL_KEY, Outside, World, gateway_event, request},
};

const APPS: &str = "https://hooks.example.com/apps/bigcommerce";
const SITE: &str = "https://shop.example.com";
const TROUBLES: [Trouble; 4] = [Trouble::Broken, Trouble::Slow, Trouble::AnswerLost, Trouble::TooMany(5)];

struct Seen {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

async fn come(world: &World, method: &str, url: &str, body: &str) -> Seen {
    let (path, query) =
        url.strip_prefix(BASE).unwrap().split_once('?').unwrap_or((url.strip_prefix(BASE).unwrap(), ""));
    let response = world.visit(method, path, query, body).await;
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    let seen = Seen {
        status: response.status().as_u16(),
        headers: response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: String::from_utf8(response.body().to_vec()).unwrap(),
    };
    assert_eq!((&*seen.headers["cache-control"], &*seen.headers["x-content-type-options"]), ("no-store", "nosniff"));
    assert_eq!(seen.headers["referrer-policy"], "no-referrer");
    assert!(seen.headers["content-security-policy"].starts_with("default-src 'none'; style-src 'sha256-"));
    assert!(!seen.body.contains("<script"));
    seen
}

async fn get(world: &World, url: &str) -> Seen {
    come(world, "GET", url, "").await
}

fn key(platform: &str, connection: &str) -> ConnectionKey {
    WebhookPath::parse(platform, connection, None).unwrap().key
}

fn connection(world: &World, key: &ConnectionKey) -> Connection {
    world.tables.connection(key).connection.unwrap()
}

// BigCommerce.

fn bigcommerce() -> (World, Arc<bigcommerce::Simulator>) {
    let mut world = World::new();
    let store = Arc::new(bigcommerce::Simulator::new(world.clock.function(), false));
    let at = |site: &str| (site.to_owned(), Arc::clone(&store) as Arc<dyn Simulator>);
    world.outside =
        Outside::Simulated(vec![at("https://login.bigcommerce.com"), at("https://api.bigcommerce.com"), at(LOCAL)]);
    (world, store)
}

const LOCAL: &str = "http://127.0.0.1:20000";

fn store_key() -> ConnectionKey {
    key("bigcommerce", STORE)
}

/// Asserts that the store has one webhook for each topic, which delivers to this connection's path with this ending.
fn assert_hooks(world: &World, store: &bigcommerce::Simulator, ending: &str) {
    let hooks = store.hooks();
    let scopes: BTreeSet<_> = hooks.iter().map(|hook| hook.scope.as_str()).collect();
    assert_eq!(scopes, declared_scopes(&BIGCOMMERCE).collect());
    assert_eq!(scopes.len(), hooks.len());
    let path = format!("{BASE}/hooks/bigcommerce/{STORE}{ending}");
    assert!(hooks.iter().all(|hook| hook.is_active && hook.destination.split('?').next() == Some(&*path)), "{hooks:?}");
    let records = world.tables.connection(&store_key()).webhooks;
    assert_eq!(records.into_keys().collect::<Vec<_>>(), scopes.into_iter().map(str::to_owned).collect::<Vec<_>>());
}

async fn callback(world: &World, store: &bigcommerce::Simulator, action: &str, changes: &Value) -> Seen {
    get(world, &format!("{APPS}/{action}?signed_payload_jwt={}", store.signed_payload(changes))).await
}

async fn installed() -> (World, Arc<bigcommerce::Simulator>) {
    let (world, store) = bigcommerce();
    assert_eq!(get(&world, &store.authorize(APPS)).await.status, 200);
    world.run_jobs().await;
    world.clock.pass_seconds(60);
    (world, store)
}

#[tokio::test]
async fn a_merchant_installs_and_the_hooks_come_by_themselves() {
    let (world, store) = bigcommerce();
    assert!(callback(&world, &store, "load", &json!({})).await.body.contains("not connected yet"));
    let page = get(&world, &store.authorize(APPS)).await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("being set up") && page.body.contains(STORE), "{}", page.body);
    let policy = &page.headers["content-security-policy"];
    assert!(policy.contains("frame-ancestors https://*.mybigcommerce.com https://login.bigcommerce.com "), "{policy}");
    let style = page.body.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    assert!(policy.contains(&format!("style-src 'sha256-{}'", STANDARD.encode(sha256(style)))));
    assert!(store.hooks().is_empty(), "not while the merchant waits");
    assert_eq!(world.queues.jobs()[0].0, Job::check(&store_key(), Trigger::Connected));

    world.run_jobs().await;
    assert_hooks(&world, &store, "");
    let page = callback(&world, &store, "load", &json!({})).await;
    assert!(page.status == 200 && page.body.contains("All is well"), "{}", page.body);
    assert!(page.body.contains("<code>store/order/created</code>"));
    let connection = connection(&world, &store_key());
    assert_eq!(connection.site, format!("https://api.bigcommerce.com/stores/{STORE}"));
    assert_eq!((connection.generation, connection.status), (Generation::FIRST, ConnectionStatus::Active));
    assert!(connection.settings.is_empty(), "nothing is missing");
}

#[tokio::test]
async fn another_installation_takes_the_new_token_and_keeps_the_rest() {
    let (world, store) = installed().await;
    let key = store_key();
    let mut set = connection(&world, &key);
    set.ignores.insert("store/cart/created".into());
    world.tables.connect(&key, set.clone());
    let (hooks, token) = (store.hooks(), store.token().unwrap());
    // The store's permissions have changed: one of the four required ones is left.
    store.grant("store_v2_products store_v2_information");
    let callback_url = store.authorize(APPS);
    assert_eq!(get(&world, &callback_url).await.status, 200);
    world.run_jobs().await;
    let now = connection(&world, &key);
    let fresh = store.token().unwrap();
    assert!(fresh != token && now.credentials.as_ref().unwrap().contains(&format!("{fresh}\"")));
    assert_eq!((now.generation, &now.ignores), (set.generation, &set.ignores));
    // Notices from before the new token are outdated.
    assert!(now.connected_at > set.connected_at);
    let missing = json!(["store_v2_orders_read_only", "store_v2_customers_read_only", "store_cart_read_only"]);
    assert_eq!(now.settings["missing_permissions"], missing);
    assert_eq!(store.hooks(), hooks);
    let page = callback(&world, &store, "load", &json!({})).await.body;
    assert!(page.contains("<code>store_cart_read_only</code>") && page.contains("needs attention"), "{page}");

    // The code is spent: sending it again fails and changes nothing.
    let again = get(&world, &callback_url).await;
    assert!(again.status == 401 && !again.body.contains("code-"), "{}", again.body);
    assert_eq!((connection(&world, &key), store.token()), (now, Some(fresh)));
    store.grant(GRANTS);
    assert_eq!(get(&world, &store.authorize(APPS)).await.status, 200);
    assert!(connection(&world, &key).settings.is_empty());
}

#[tokio::test]
async fn an_installation_that_fails_half_way_goes_on_by_itself() {
    let scopes = declared_scopes(&BIGCOMMERCE).count();
    for trouble in TROUBLES {
        // Before the exchange, nothing is known about the store, and nothing is kept.
        let (world, store) = bigcommerce();
        store.trouble(&[trouble]);
        let page = get(&world, &store.authorize(APPS)).await;
        assert!(page.status == 502 && page.body.contains("begin again"), "{trouble:?}: {}", page.body);
        assert!(world.tables.connection(&store_key()).connection.is_none() && world.queues.jobs().is_empty());
        assert_eq!(get(&world, &store.authorize(APPS)).await.status, 200);
        world.run_jobs().await;
        assert_hooks(&world, &store, "");
        // After it, jobs do the rest, whichever call fails.
        for after in [1, 2, 3, scopes, scopes + 1] {
            let (world, store) = bigcommerce();
            store.trouble(&[vec![Trouble::None; after], vec![trouble]].concat());
            assert_eq!(get(&world, &store.authorize(APPS)).await.status, 200, "{trouble:?} after {after}");
            world.run_jobs().await;
            assert_hooks(&world, &store, "");
        }
    }
}

/// The exchange revokes the former token, so the new one is kept even if the store cannot be asked.
#[tokio::test]
async fn a_new_token_is_not_lost_while_the_store_is_down() {
    let (world, store) = installed().await;
    store.trouble(&[Trouble::None, Trouble::Broken, Trouble::Broken]);
    assert_eq!(get(&world, &store.authorize(APPS)).await.status, 200);
    assert!(connection(&world, &store_key()).credentials.unwrap().contains(&store.token().unwrap()));
}

#[tokio::test]
async fn an_app_that_is_uninstalled_starts_clean_the_next_time() {
    let (world, store) = installed().await;
    store.uninstall();
    let token = store.signed_payload(&json!({}));
    let url = format!("{APPS}/uninstall?signed_payload_jwt={token}");
    let done = get(&world, &url).await;
    assert_eq!((done.status, done.body.as_str()), (200, ""));
    assert_eq!(connection(&world, &store_key()).status, ConnectionStatus::Active, "the store is asked first");
    assert_eq!(world.queues.jobs().last().unwrap().0, Job::check(&store_key(), Trigger::Told));
    assert_eq!(get(&world, &url).await.status, 401, "it counts once");
    world.run_jobs().await;
    let gone = connection(&world, &store_key());
    assert_eq!((gone.status, gone.credentials), (ConnectionStatus::Disconnected, None));
    assert!(world.tables.connection(&store_key()).webhooks.is_empty());
    assert!(callback(&world, &store, "load", &json!({})).await.body.contains("is disconnected"));
    assert_eq!(callback(&world, &store, "uninstall", &json!({})).await.status, 200, "gone already");

    world.clock.pass_seconds(60);
    assert_eq!(get(&world, &store.authorize(APPS)).await.status, 200);
    world.run_jobs().await;
    assert_eq!(connection(&world, &store_key()).generation, Generation::FIRST.next());
    assert_hooks(&world, &store, "/2");
    let now = world.clock.now().seconds();
    let before = json!({ "iat": now - 61, "nbf": now - 61, "exp": now + 86_000 });
    assert_eq!(callback(&world, &store, "uninstall", &before).await.status, 401, "said before it was connected");
    assert_eq!(get(&world, &url).await.status, 401);
    assert_eq!(connection(&world, &store_key()).status, ConnectionStatus::Active);
}

#[tokio::test]
async fn an_app_may_be_installed_again_before_all_is_gone() {
    let (world, store) = installed().await;
    let token = store.signed_payload(&json!({}));
    let url = format!("{APPS}/uninstall?signed_payload_jwt={token}");
    store.uninstall();
    assert_eq!(get(&world, &url).await.status, 200);
    world.clock.pass_seconds(1);
    assert_eq!(get(&world, &store.authorize(APPS)).await.status, 200);
    world.run_jobs().await;
    let connection = connection(&world, &store_key());
    // Notices of its former life are outdated.
    assert_eq!((connection.status, connection.generation.number()), (ConnectionStatus::Active, 1));
    assert_hooks(&world, &store, "");
    assert_eq!(get(&world, &url).await.status, 401);
}

/// The address of each page of the app has a token of the same form as an uninstallation, so the token is only a hint.
#[tokio::test]
async fn a_token_of_a_page_uninstalls_nothing() {
    let (world, store) = installed().await;
    let (before, hooks, token) = (connection(&world, &store_key()), store.hooks(), store.token());
    let token_of_page = store.signed_payload(&json!({}));
    let at = |action: &str| format!("{APPS}/{action}?signed_payload_jwt={token_of_page}");
    assert_eq!(get(&world, &at("load")).await.status, 200);
    assert_eq!(get(&world, &at("uninstall")).await.status, 200);
    world.run_jobs().await;
    let now = connection(&world, &store_key());
    assert_eq!((now.status, now.credentials, now.generation), (before.status, before.credentials, before.generation));
    assert_eq!((store.hooks(), store.token()), (hooks, token));
    assert_hooks(&world, &store, "");
    assert_eq!(get(&world, &at("uninstall")).await.status, 401, "it counts once");
    assert!(get(&world, &at("load")).await.body.contains("All is well"));
}

/// An uninstallation that fails after its proof can come again.
#[tokio::test]
async fn an_uninstallation_that_fails_is_not_spent() {
    let (world, store) = installed().await;
    let url = format!("{APPS}/uninstall?signed_payload_jwt={}", store.signed_payload(&json!({})));
    world.queues.refuse(true);
    assert_eq!(get(&world, &url).await.status, 503);
    world.queues.refuse(false);
    assert_eq!(get(&world, &url).await.status, 200);
    assert_eq!(world.queues.jobs().len(), 1);
}

#[tokio::test]
async fn a_user_who_is_removed_changes_nothing() {
    let (world, store) = installed().await;
    let before = world.tables.connection(&store_key());
    let url = format!("{APPS}/remove_user?signed_payload_jwt={}", store.signed_payload(&json!({})));
    assert_eq!(get(&world, &url).await.status, 200);
    assert_eq!(get(&world, &url).await.status, 401, "it counts once");
    assert_eq!(world.tables.connection(&store_key()), before);
}

#[tokio::test]
async fn forged_and_expired_payloads_are_refused() {
    let (world, store) = installed().await;
    let before = world.tables.connection(&store_key());
    let now = world.clock.now().seconds();
    let wrong = [
        json!({ "iat": now - 90_000, "nbf": now - 90_000, "exp": now - 3600 }),
        json!({ "iat": now + 3600, "nbf": now + 3600, "exp": now + 86_400 }),
        json!({ "nbf": now + 3600 }),
        json!({ "exp": now + 90_000 }),
        json!({ "aud": "another-app" }),
        json!({ "aud": null }),
        json!({ "iss": "bigcommerce" }),
        json!({ "iss": null }),
        json!({ "sub": null }),
        json!({ "sub": STORE }),
        json!({ "sub": "stores/../abc123" }),
        json!({ "sub": "stores/ABC123" }),
        json!({ "sub": "stores/" }),
        json!({ "jti": null }),
        json!({ "jti": "" }),
        json!({ "jti": 7 }),
        json!({ "iat": null }),
        json!({ "exp": null }),
    ];
    let mut tokens: Vec<String> = wrong.iter().map(|changes| store.signed_payload(changes)).collect();
    let good = store.signed_payload(&json!({}));
    let claims = unproven_claims(&good).unwrap();
    tokens.push(PAYLOAD.sign(&claims, b"another secret").unwrap());
    tokens.push(PAYLOAD.sign(&claims, CLIENT_ID.as_bytes()).unwrap());
    let hs512 = Rules { algorithm: Algorithm::HS512, ..PAYLOAD };
    tokens.push(hs512.sign(&claims, CLIENT_SECRET.as_bytes()).unwrap());
    let parts: Vec<_> = good.split('.').collect();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    tokens.push(format!("{none}.{}.", parts[1]));
    tokens.push(format!("{none}.{}.{}", parts[1], parts[2]));
    tokens.push(format!("{}.{}.{}A", parts[0], parts[1], parts[2]));
    tokens.push("not.a.token".into());
    for action in ["load", "uninstall", "remove_user"] {
        for token in &tokens {
            let page = get(&world, &format!("{APPS}/{action}?signed_payload_jwt={token}")).await;
            assert_eq!(page.status, 401, "{action}: {:?}", unproven_claims(token));
            for told in ["aud", "expired", "signature", "claim", "signed_payload"] {
                assert!(!page.body.split("</style>").nth(1).unwrap().contains(told), "{told}");
            }
        }
        for query in ["", "?signed_payload_jwt=", &format!("?signed_payload_jwt={good}&signed_payload_jwt={good}")] {
            assert_eq!(get(&world, &format!("{APPS}/{action}{query}")).await.status, 400);
        }
        assert_eq!(come(&world, "POST", &format!("{APPS}/{action}?signed_payload_jwt={good}"), "").await.status, 405);
    }
    assert!(world.tables.connection(&store_key()) == before && world.queues.jobs().is_empty());
    assert_eq!(get(&world, &format!("{APPS}/uninstall?signed_payload_jwt={good}")).await.status, 200, "the good one");
}

/// One environment keeps running while the app's secret is replaced.
#[tokio::test]
async fn a_secret_that_was_replaced_is_fetched_again() {
    let (world, store) = bigcommerce();
    let app = |secret: &str| json!({ "bigcommerce": { "client_id": CLIENT_ID, "client_secret": secret } }).to_string();
    world.apps.set(Some(&app("the-secret-that-was-there-before-it")));
    let registrar = world.registrar();
    let load = |token: String| {
        let query = format!("signed_payload_jwt={token}");
        let (world, registrar) = (&world, &registrar);
        async move { world.visit_at(registrar, "GET", "/apps/bigcommerce/load", &query, "").await.status().as_u16() }
    };
    let claims = unproven_claims(&store.signed_payload(&json!({}))).unwrap();
    let before = PAYLOAD.sign(&claims, b"the-secret-that-was-there-before-it").unwrap();
    assert_eq!(load(before.clone()).await, 200);
    world.apps.set(Some(&app(CLIENT_SECRET)));
    // A code counts once, so it is not tried with a secret that was fetched longer ago.
    world.clock.pass_seconds(31);
    let url = store.authorize(APPS);
    let query = url.split_once('?').unwrap().1;
    let done = world.visit_at(&registrar, "GET", "/apps/bigcommerce/auth", query, "").await;
    assert_eq!(done.status().as_u16(), 200);
    assert_eq!(load(before.clone()).await, 401);
    world.clock.pass_seconds(31);
    world.apps.set(Some(&app("the-secret-that-was-there-before-it")));
    assert_eq!(load(before).await, 200, "a proof that fails has it fetched again");
}

/// The app's secret is fetched again only for the first code after a while, not for each made-up one.
#[tokio::test]
async fn made_up_codes_do_not_run_up_the_bill() {
    let (world, store) = bigcommerce();
    let registrar = world.registrar();
    let auth = |query: String| {
        let (world, registrar) = (&world, &registrar);
        async move { world.visit_at(registrar, "GET", "/apps/bigcommerce/auth", &query, "").await.status().as_u16() }
    };
    for code in 0..20 {
        assert_eq!(auth(format!("code=made-up-{code}&scope=s&context=stores%2Fabc123")).await, 401);
    }
    assert_eq!(world.apps.fetches(), 1);
    world.clock.pass_seconds(31);
    for _ in 0..2 {
        assert_eq!(auth(store.authorize(APPS).split_once('?').unwrap().1.to_owned()).await, 200);
    }
    assert_eq!(world.apps.fetches(), 2);
}

#[tokio::test]
async fn codes_that_nobody_gave_out_lead_nowhere() {
    let (world, store) = bigcommerce();
    let query = |code: &str, context: &str| format!("{APPS}/auth?code={code}&scope=s&context={context}");
    assert_eq!(get(&world, &query("made-up", "stores%2Fabc123")).await.status, 401);
    // This code was issued for another address.
    let other = store.authorize("https://other.example.com").replace("https://other.example.com", APPS);
    assert_eq!(get(&world, &other).await.status, 401);
    // An invalid store in the query is refused without a call.
    store.calls();
    for context in ["abc123", "stores%2F..%2Fx", "stores%2FABC", ""] {
        assert_eq!(get(&world, &query("made-up", context)).await.status, 400, "{context}");
    }
    assert_eq!(get(&world, &format!("{APPS}/auth")).await.status, 400);
    assert!(store.calls().is_empty());
    world.apps.set(Some("{}"));
    assert_eq!(get(&world, &store.authorize(APPS)).await.status, 404, "no app");
    assert!(world.tables.connection(&store_key()).connection.is_none());
}

#[tokio::test]
async fn what_is_not_there_is_not_there() {
    let (world, _) = bigcommerce();
    for path in [
        "bigcommerce/other",
        "nobody/auth",
        "cloudblue/auth",
        "bigcommerce/<script>",
        "bigcommerce",
        "bigcommerce/made-up-word?a=1&a=2",
        "nobody/made-up-word",
    ] {
        assert_eq!(get(&world, &format!("{BASE}/apps/{path}")).await.status, 404, "{path}");
    }
    // An unknown word fetches no secret.
    world.apps.set(None);
    assert_eq!(get(&world, &format!("{APPS}/made-up-word")).await.status, 404);
    assert_eq!(get(&world, &format!("{APPS}/auth?code=1&scope=s&context=stores%2Fabc123")).await.status, 503);
}

#[tokio::test]
async fn local_runs_may_have_the_platform_on_this_machine() {
    let (mut world, store) = bigcommerce();
    let app = |login: &str| {
        json!({ "bigcommerce": {
            "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "login_url": login, "api_url": LOCAL,
        }})
    };
    world.apps.set(Some(&app(LOCAL).to_string()));
    assert_eq!(get(&world, &store.authorize(APPS)).await.status, 200);
    let site = |world: &World| connection(world, &store_key()).site;
    assert_eq!(site(&world), format!("https://api.bigcommerce.com/stores/{STORE}"), "not where it is not allowed");
    world.tables = Default::default();
    world.loopback = Loopback::Allowed;
    assert_eq!(get(&world, &store.authorize(APPS)).await.status, 200);
    assert_eq!(site(&world), format!("{LOCAL}/stores/{STORE}"));
    world.apps.set(Some(&app("https://login.example.com").to_string()));
    assert_eq!(get(&world, &store.authorize(APPS)).await.status, 502, "nowhere else, even then");
}

// WooCommerce.

/// The way of a site's requests to the receiver and the registrar.
#[derive(Default)]
struct ToBoth(Mutex<Option<World>>);

impl Wire for ToBoth {
    fn send(&self, delivery: Delivery) -> BoxFuture<'_, u16> {
        let world = self.0.lock().unwrap().clone().unwrap();
        Box::pin(async move {
            if delivery.url.starts_with(&format!("{BASE}/apps/")) {
                let body = String::from_utf8(delivery.body.to_vec()).unwrap();
                return come(&world, "POST", &delivery.url, &body).await.status;
            }
            let event = gateway_event(&delivery, world.clock.now()).unwrap();
            world.receiver.receive(request(&event)).await.status().as_u16()
        })
    }
}

/// Makes a world with two sites.
fn woocommerce() -> (World, woocommerce::Store, woocommerce::Store) {
    let mut world = World::new();
    let wire = Arc::new(ToBoth::default());
    let store = |name: &str| {
        let wire = Arc::clone(&wire) as Arc<dyn Wire>;
        woocommerce::Store::new(wire, &format!("ck_{name}"), &format!("cs_{name}"))
    };
    let (shop, other) = (store("shop"), store("other"));
    let simulated = |store: &woocommerce::Store| Arc::new(store.clone()) as Arc<dyn Simulator>;
    world.outside = Outside::Simulated(vec![
        (SITE.to_owned(), simulated(&shop)),
        ("https://other.example.com".to_owned(), simulated(&other)),
    ]);
    *wire.0.lock().unwrap() = Some(world.clone());
    (world, shop, other)
}

/// Begins an installation, and returns the address that the owner is sent to.
async fn begin(world: &World, site: &str) -> String {
    let site: String = url::form_urlencoded::byte_serialize(site.as_bytes()).collect();
    let sent = get(world, &format!("{BASE}/apps/woocommerce/install?site={site}&key={INSTALL_KEY}")).await;
    assert_eq!((sent.status, sent.body.as_str()), (302, ""));
    assert!(sent.headers["content-security-policy"].ends_with("frame-ancestors 'none'"));
    sent.headers["location"].clone()
}

fn shop_key() -> ConnectionKey {
    key("woocommerce", "shop.example.com")
}

fn assert_webhooks(world: &World, shop: &woocommerce::Store) {
    let hooks = shop.webhooks();
    let topics: BTreeSet<_> = hooks.iter().map(|hook| hook.topic.as_str()).collect();
    assert_eq!(topics, declared_scopes(&WOOCOMMERCE).collect());
    assert!(hooks.len() == topics.len() && hooks.iter().all(|hook| hook.status == "active"));
    assert_eq!(world.tables.connection(&shop_key()).webhooks.len(), topics.len());
}

async fn post_keys(world: &World, keys: &Value) -> u16 {
    come(world, "POST", &format!("{BASE}/apps/woocommerce/callback"), &keys.to_string()).await.status
}

fn nonce(location: &str) -> String {
    location.parse::<url::Url>().unwrap().query_pairs().find(|(name, _)| name == "user_id").unwrap().1.into_owned()
}

fn keys(nonce: &str, (key, secret): (&str, &str)) -> Value {
    json!({ "key_id": 1, "user_id": nonce, "consumer_key": key, "consumer_secret": secret, "key_permissions": "read_write" })
}

#[tokio::test]
async fn a_site_s_owner_approves_and_the_webhooks_come_by_themselves() {
    let (world, shop, _) = woocommerce();
    let location = begin(&world, "https://Shop.example.com/").await;
    assert!(location.starts_with(&format!("{SITE}/wc-auth/v1/authorize?app_name=")), "{location}");
    assert_eq!(nonce(&location).len(), 64);
    let back = shop.authorize(&location, true).await.unwrap();
    assert!(back.starts_with(&format!("{BASE}/apps/woocommerce/return?success=1&")), "{back}");
    let page = get(&world, &back).await;
    assert!(page.status == 200 && page.body.contains("<h1>Connected</h1>") && !page.body.contains(&nonce(&location)));
    let connection = connection(&world, &shop_key());
    assert_eq!((connection.site.as_str(), shop.granted().len()), (SITE, 1));
    assert!(connection.credentials.unwrap().contains(&shop.granted()[0].1));
    assert!(shop.webhooks().is_empty(), "not while the site waits for its answer");
    world.run_jobs().await;
    assert_webhooks(&world, &shop);
    assert!(shop.all_pinged());

    // A second installation uses the new key, and keeps the webhooks.
    let hooks: Vec<_> = shop.webhooks().into_iter().map(|hook| hook.id).collect();
    shop.authorize(&begin(&world, SITE).await, true).await.unwrap();
    world.run_jobs().await;
    let credentials = world.tables.connection(&shop_key()).connection.unwrap().credentials.unwrap();
    assert!(credentials.contains(&shop.granted()[1].1));
    assert_eq!(shop.webhooks().into_iter().map(|hook| hook.id).collect::<Vec<_>>(), hooks);
}

#[tokio::test]
async fn a_site_s_owner_denies() {
    let (world, shop, _) = woocommerce();
    let back = shop.authorize(&begin(&world, SITE).await, false).await.unwrap();
    let page = get(&world, &back).await;
    assert!(page.status == 200 && page.body.contains("Not connected") && page.body.contains("try again"));
    assert!(world.tables.connection(&shop_key()).connection.is_none() && shop.granted().is_empty());
}

#[tokio::test]
async fn nonces_count_once_in_their_time_and_for_their_site() {
    let (world, shop, other) = woocommerce();
    let location = begin(&world, SITE).await;
    shop.authorize(&location, true).await.unwrap();
    let before = world.tables.connection(&shop_key());
    assert!(shop.authorize(&location, true).await.is_err(), "spent");
    assert_eq!(shop.granted().len(), 1, "the site takes the key back");
    let late = begin(&world, SITE).await;
    world.clock.pass_seconds(1801);
    assert!(shop.authorize(&late, true).await.is_err(), "too late");
    let unknown = "0".repeat(64);
    for nonce in [unknown.as_str(), "", &nonce(&location), "nonce#x"] {
        assert_eq!(post_keys(&world, &keys(nonce, ("ck_other", "cs_other"))).await, 401, "{nonce}");
    }
    assert_eq!(world.tables.connection(&shop_key()), before);
    // The nonce names the site, so the keys of another site do not open it.
    let foreign = begin(&world, "https://other.example.com").await;
    assert!(shop.authorize(&foreign, true).await.is_err());
    assert!(other.authorize(&foreign, true).await.is_err(), "spent by that");
    assert!(world.tables.connection(&key("woocommerce", "other.example.com")).connection.is_none());
}

#[tokio::test]
async fn keys_that_do_not_open_the_site_are_not_kept() {
    let (world, shop, _) = woocommerce();
    for (bad, status) in [(("ck_wrong", "cs_wrong"), 401), (("ck_shop", "cs_other"), 401), (("shop", "cs_shop"), 400)] {
        let nonce = nonce(&begin(&world, SITE).await);
        assert_eq!(post_keys(&world, &keys(&nonce, bad)).await, status);
    }
    let nonce = nonce(&begin(&world, SITE).await);
    let mut read_only = keys(&nonce, ("ck_shop", "cs_shop"));
    read_only["key_permissions"] = "read".into();
    assert_eq!(post_keys(&world, &read_only).await, 400);
    for body in ["", "{}", "[]", "user_id=1"] {
        let url = format!("{BASE}/apps/woocommerce/callback");
        assert_eq!(come(&world, "POST", &url, body).await.status, 400);
    }
    assert!(world.tables.connection(&shop_key()).connection.is_none() && world.queues.jobs().is_empty());
    assert_eq!(post_keys(&world, &keys(&nonce, ("ck_shop", "cs_shop"))).await, 200, "the good ones");
    assert!(shop.webhooks().is_empty());
}

#[tokio::test]
async fn a_site_that_fails_half_way_is_connected_in_the_end() {
    let scopes = declared_scopes(&WOOCOMMERCE).count();
    for trouble in TROUBLES {
        let (world, shop, _) = woocommerce();
        shop.trouble_after(0, trouble);
        assert!(shop.authorize(&begin(&world, SITE).await, true).await.is_err(), "the keys are not proven");
        assert!(shop.granted().is_empty() && world.tables.connection(&shop_key()).connection.is_none());
        for after in [1, 2, scopes, scopes + 1] {
            let (world, shop, _) = woocommerce();
            shop.trouble_after(after, trouble);
            shop.authorize(&begin(&world, SITE).await, true).await.unwrap();
            world.run_jobs().await;
            assert_webhooks(&world, &shop);
        }
    }
}

#[tokio::test]
async fn sites_that_are_none_are_not_visited() {
    let (world, ..) = woocommerce();
    for site in [
        "",
        "shop.example.com",
        "http://shop.example.com",
        "https://127.0.0.1",
        "http://127.0.0.1:8080",
        "https://[::1]",
        "https://169.254.169.254/latest",
        "https://2130706433",
        "https://shop.example.com:8443",
        "https://user:pass@shop.example.com",
        "https://shop.example.com/?a=b",
        "https://shop.example.com/#a",
        "https://shop.example.com/%2e%2e%2fadmin",
        "https://shop.example.com/a//b",
        "javascript:alert(1)",
        "https://<script>",
    ] {
        let site: String = url::form_urlencoded::byte_serialize(site.as_bytes()).collect();
        let page = get(&world, &format!("{BASE}/apps/woocommerce/install?site={site}&key={INSTALL_KEY}")).await;
        assert!(page.status == 400 && !page.headers.contains_key("location"), "{site}");
    }
    let traversed = begin(&world, "https://shop.example.com/a/../../b").await;
    assert!(traversed.starts_with("https://shop.example.com/b/wc-auth/v1/authorize?"), "{traversed}");
}

#[tokio::test]
async fn a_connection_to_another_site_is_not_taken_over() {
    for status in [ConnectionStatus::Active, ConnectionStatus::Disconnecting, ConnectionStatus::Disconnected] {
        let (world, shop, _) = woocommerce();
        let old = Connection { revision: 1, status, ..Connection::new("https://shop.example.com/old") };
        world.tables.connect(&shop_key(), old.clone());
        let keys = keys(&nonce(&begin(&world, SITE).await), ("ck_shop", "cs_shop"));
        let page = come(&world, "POST", &format!("{BASE}/apps/woocommerce/callback"), &keys.to_string()).await;
        assert!(page.status == 409 && page.body.contains("another site"), "{status:?}: {}", page.body);
        assert_eq!(connection(&world, &shop_key()), old);
        assert!(shop.webhooks().is_empty() && shop.calls().is_empty() && world.queues.jobs().is_empty());
    }
}

#[tokio::test]
async fn links_with_a_key_are_for_those_who_were_given_one() {
    let (world, shop, _) = woocommerce();
    let link = |rest: &str| format!("{BASE}/apps/woocommerce/install?site=https%3A%2F%2Fshop.example.com{rest}");
    world.apps.set(Some(r#"{"woocommerce":{"install_key":"a-key-of-the-links"}}"#));
    for rest in
        ["", "&key=", "&key=a-key", "&key=A-KEY-OF-THE-LINKS", "&key=a-key-of-the-links2", "&Key=a-key-of-the-links"]
    {
        let page = get(&world, &link(rest)).await;
        assert!(page.status == 404 && !page.headers.contains_key("location"), "{rest}");
        assert!(page.body.contains("There is nothing here") && !page.body.contains("a-key"), "{}", page.body);
    }
    let sent = get(&world, &link("&key=a-key-of-the-links")).await;
    assert!(sent.status == 302 && !sent.headers["location"].contains("a-key"));
    shop.authorize(&sent.headers["location"], true).await.unwrap();
    assert_eq!(connection(&world, &shop_key()).site, SITE);
    world.apps.set(Some(r#"{"woocommerce":{"install_key":""}}"#));
    assert_eq!(get(&world, &link("&key=")).await.status, 503, "an empty one would keep nobody out");
}

/// The vendor decides who may install the app.
#[tokio::test]
async fn installing_is_closed_unless_the_vendor_opens_it() {
    let (world, shop, _) = woocommerce();
    let link = format!("{BASE}/apps/woocommerce/install?site=https%3A%2F%2Fshop.example.com");
    for closed in ["{}", r#"{"woocommerce":{}}"#, r#"{"woocommerce":{"open":false}}"#] {
        world.apps.set(Some(closed));
        let page = get(&world, &link).await;
        assert!(page.status == 404 && !page.headers.contains_key("location"), "{closed}");
    }
    world.apps.set(Some(r#"{"woocommerce":{"open":"yes"}}"#));
    assert_eq!(get(&world, &link).await.status, 503, "it may have been meant otherwise");
    // An open installation does not redirect by itself: its visitor sees the target first.
    world.apps.set(Some(r#"{"woocommerce":{"open":true}}"#));
    let page = get(&world, &link).await;
    assert!(page.status == 200 && !page.headers.contains_key("location"));
    assert!(page.body.contains("Go on to shop.example.com"), "{}", page.body);
    let begins = page.body.find("href=\"").unwrap() + 6;
    let onward = page.body[begins..].split('"').next().unwrap().replace("&amp;", "&");
    assert!(onward.starts_with(&format!("{SITE}/wc-auth/v1/authorize?")), "{onward}");
    shop.authorize(&onward, true).await.unwrap();
    assert!(connection(&world, &shop_key()).unconfirmed);
    let shown = async |method: &str, path: &str| {
        world.admin_of("woocommerce", method, &format!("shop.example.com{path}"), "", "").await
    };
    assert_eq!(shown("GET", "").await.1["confirmed"], false);
    let (status, confirmed) = shown("POST", "/confirm").await;
    assert_eq!((status, &confirmed["confirmed"]), (200, &json!(true)));
    assert!(!connection(&world, &shop_key()).unconfirmed);
    assert_eq!(shown("POST", "/confirm").await.0, 200, "the same again changes nothing");
    // A confirmed connection stays confirmed, whoever installs it again.
    shop.authorize(&onward_again(&world, &link).await, true).await.unwrap();
    assert!(!connection(&world, &shop_key()).unconfirmed);
}

async fn onward_again(world: &World, link: &str) -> String {
    let page = get(world, link).await;
    let begins = page.body.find("href=\"").unwrap() + 6;
    page.body[begins..].split('"').next().unwrap().replace("&amp;", "&")
}

/// An unconfirmed store costs only a part of what it could.
#[tokio::test]
async fn a_store_that_nobody_has_confirmed_is_not_fetched_as_a_whole() {
    let (world, shop, _) = woocommerce();
    for id in 1..=1_500 {
        shop.set("products", id, Some(json!({ "id": id, "name": "x", "date_modified_gmt": "2026-11-20T01:00:00" })));
    }
    world.apps.set(Some(r#"{"woocommerce":{"open":true}}"#));
    let link = format!("{BASE}/apps/woocommerce/install?site=https%3A%2F%2Fshop.example.com");
    shop.authorize(&onward_again(&world, &link).await, true).await.unwrap();
    world.run_jobs().await;
    let wanted = || {
        let sent = world.queues.sent().into_iter();
        let of = sent
            .filter(|(sealed, _)| sealed.text().contains(r#""entity":"product""#) && sealed.text().contains("import"));
        of.count()
    };
    let before = wanted();
    assert!((1_000..1_100).contains(&before), "{before}");
    world.clock.pass_seconds(3_600);
    let check = commerce::job::Job::check(&shop_key(), commerce::job::Trigger::Schedule);
    cloud::queue::Jobs::send_jobs(&world.queues, &[(check, 0)]).await.unwrap();
    world.run_jobs().await;
    assert_eq!(wanted(), before, "nor by and by");
    assert_eq!(world.admin_of("woocommerce", "POST", "shop.example.com/confirm", "", "").await.0, 200);
    world.run_jobs().await;
    assert!(wanted() >= 1_500, "{}", wanted());
}

/// Credentials that are entered late work at once, even in an environment that has seen none.
#[tokio::test]
async fn an_app_that_was_set_up_just_now_is_there_at_once() {
    let (world, ..) = woocommerce();
    let registrar = world.registrar();
    let query = format!("site=https%3A%2F%2Fshop.example.com&key={INSTALL_KEY}");
    let status =
        async || world.visit_at(&registrar, "GET", "/apps/woocommerce/install", &query, "").await.status().as_u16();
    let set_up = world.apps.value();
    world.apps.set(Some("{}"));
    assert_eq!(status().await, 404);
    world.apps.set(set_up.as_deref());
    world.clock.pass_seconds(31);
    assert_eq!(status().await, 302);
}

#[tokio::test]
async fn so_many_stores_connect_themselves_within_an_hour_and_no_more() {
    let (world, shop, other) = woocommerce();
    let app = json!({ "woocommerce": { "install_key": INSTALL_KEY, "installs_per_hour": 1 } });
    world.apps.set(Some(&app.to_string()));
    shop.authorize(&begin(&world, SITE).await, true).await.unwrap();
    let keys_of_other = async || {
        let nonce = nonce(&begin(&world, "https://other.example.com").await);
        post_keys(&world, &keys(&nonce, ("ck_other", "cs_other"))).await
    };
    assert_eq!(keys_of_other().await, 429);
    assert!(other.webhooks().is_empty() && other.calls().is_empty());
    // A connected site may install the app again.
    shop.authorize(&begin(&world, SITE).await, true).await.unwrap();
    world.clock.pass_seconds(3_600);
    assert_eq!(keys_of_other().await, 200);
}

/// Somebody who has any key of a connected site must not replace its good key by an installation.
#[tokio::test]
async fn a_key_that_may_only_read_does_not_take_the_place_of_a_good_one() {
    let (world, shop, _) = woocommerce();
    shop.authorize(&begin(&world, SITE).await, true).await.unwrap();
    world.run_jobs().await;
    world.clock.pass_seconds(60);
    let (before, hooks) = (world.tables.connection(&shop_key()), shop.webhooks());
    shop.let_read("ck_reads", "cs_reads");
    let keys_of = async |key| keys(&nonce(&begin(&world, SITE).await), key);
    assert_eq!(post_keys(&world, &keys_of(("ck_reads", "cs_reads")).await).await, 401);
    assert_eq!(world.tables.connection(&shop_key()), before);
    shop.calls();
    assert_eq!(post_keys(&world, &keys_of(("ck_shop", "cs_shop")).await).await, 200, "a good one does");
    assert_eq!(shop.calls().len(), 2, "one page, and one hook that is set to what it is");
    assert_eq!(shop.webhooks().len(), hooks.len());
    for (now, before) in shop.webhooks().iter().zip(&hooks) {
        assert_eq!((now.id, &now.secret, &now.status), (before.id, &before.secret, &before.status));
        assert_eq!((&now.delivery_url, &now.topic), (&before.delivery_url, &before.topic));
    }
    assert!(connection(&world, &shop_key()).credentials.unwrap().contains("ck_shop"));
}

/// Anybody can make us call a site, so we call it little.
#[tokio::test]
async fn a_proof_asks_for_one_page() {
    let (world, shop, _) = woocommerce();
    shop.set_page_size(1);
    for _ in 0..5 {
        shop.add_webhook("order.created", "https://elsewhere.example.com/");
    }
    let keys = keys(&nonce(&begin(&world, SITE).await), ("ck_shop", "cs_shop"));
    assert_eq!(post_keys(&world, &keys).await, 200);
    assert_eq!(shop.calls(), ["GET /wp-json/wc/v3/webhooks"]);
}

#[tokio::test]
async fn strangers_write_to_partitions_of_their_own() {
    let (world, _, _) = woocommerce();
    for _ in 0..40 {
        begin(&world, SITE).await;
    }
    assert!(world.tables.notes(&deployment(), "").await.unwrap().is_empty());
    let mut parts = Vec::new();
    for part in 0..16 {
        let mut hash = [0xff; 32];
        hash[0] = part << 4 | 7;
        parts.push(world.tables.notes(&strangers(&hash), "nonce#").await.unwrap().len());
    }
    assert_eq!(parts.iter().sum::<usize>(), 40);
    assert!(parts.iter().filter(|count| **count > 0).count() > 4, "{parts:?}");
}

// Pages.

const NOW: Timestamp = Timestamp::from_micros(1_795_225_781_000_000);

fn record(scope: &str, verdict: Verdict, reason: &str) -> (String, WebhookRecord) {
    let health = Health { verdict, reason: reason.into(), ..Health::default() };
    let record = WebhookRecord {
        scope: scope.into(),
        id: 1.into(),
        url: "https://hooks.example.com".into(),
        key_id: "k".into(),
        fingerprint: None,
        generation: Generation::FIRST,
        health,
    };
    (scope.to_owned(), record)
}

/// Returns the pages of a connection in all its states, with the texts that each must have.
fn pages() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let scopes = ["store/order/created", "store/order/updated", "store/product/updated", "store/cart/created"];
    let wanted: Vec<String> = scopes.map(str::to_owned).to_vec();
    let seen = BTreeMap::from([
        ("store/order/created".to_owned(), NOW.plus_seconds(-190)),
        ("store/order/updated".to_owned(), NOW.plus_seconds(-3700)),
        ("store/product/updated".to_owned(), NOW.plus_seconds(-200_000)),
    ]);
    let active = || Connection::new("https://api.bigcommerce.com/stores/abc123");
    let healthy = || scopes.iter().map(|scope| record(scope, Verdict::Healthy, "")).collect::<BTreeMap<_, _>>();
    let page = |loaded: &Loaded| {
        let drift = BTreeMap::from([(EntityKind::Order, Drift { missed: 2, stale: 1, ..Drift::default() })]);
        let platform = &BIGCOMMERCE;
        load_page(&View { platform, store: "abc123", loaded, wanted: &wanted, seen: &seen, drift: &drift, now: NOW })
    };
    let of = |connection: Connection| Loaded { connection: Some(connection), ..Loaded::default() };
    let mut well = Loaded { webhooks: healthy(), ..of(active()) };
    let cursor = Cursor { since: Some(NOW.plus_seconds(-7300)), ..Cursor::new(EntityKind::Order, Generation::FIRST) };
    well.cursors.insert(EntityKind::Order, cursor);
    let mut care = well.clone();
    for (scope, record) in [
        record("store/order/updated", Verdict::SwitchedOff, "90002: the destination answered 503"),
        record("store/product/updated", Verdict::Silent, "nothing for 40 hours, at most 6 before"),
        record("store/cart/created", Verdict::Missing, ""),
        record("store/cart/updated", Verdict::Manual, ""),
    ] {
        care.webhooks.insert(scope, record);
    }
    let mut trouble = well.clone();
    let told = Some("the platform refuses the credentials (401)".to_owned());
    trouble.check = Some(Check { at: NOW, trouble: told, since: Some(NOW.plus_seconds(-7200)) });
    let missing = json!(["store_v2_orders_read_only", "store_cart_read_only"]);
    trouble.connection.as_mut().unwrap().settings.insert("missing_permissions".into(), missing);
    let status = |status: ConnectionStatus| of(Connection { status, ..active() });
    vec![
        (
            "well",
            page(&well),
            vec!["All is well", "3 minutes ago", "1 hour ago", "2 days ago", "none yet", "by webhooks only"],
        ),
        ("care", page(&care), vec!["3 of 5 webhooks need attention", "90002: the destination", "made again by itself"]),
        ("trouble", page(&trouble), vec!["refuses the credentials", "2 hours ago", "store_cart_read_only"]),
        ("new", page(&of(active())), vec!["being set up", "being made"]),
        ("nobody", page(&Loaded::default()), vec!["not connected yet", "Install the app"]),
        (
            "paused",
            page(&Loaded { webhooks: care.webhooks.clone(), ..status(ConnectionStatus::Paused) }),
            vec!["is paused", "class=\"badge idle\">paused</span>"],
        ),
        ("going", page(&status(ConnectionStatus::Disconnecting)), vec!["being disconnected"]),
        ("gone", page(&status(ConnectionStatus::Disconnected)), vec!["is disconnected", "install the app once more"]),
    ]
}

/// With `PAGES_DIR`, the test writes the pages there, so that somebody can look at them.
#[test]
fn the_page_says_how_the_store_does_and_what_to_do() {
    for (name, page, says) in pages() {
        for text in says {
            assert!(page.contains(text), "{name}: {text}");
        }
        assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\">") && page.matches("<h1>").count() == 1, "{name}");
        if let Ok(directory) = std::env::var("PAGES_DIR") {
            std::fs::write(format!("{directory}/{name}.html"), &page).unwrap();
        }
    }
    let paused = &pages().into_iter().find(|page| page.0 == "paused").unwrap().1;
    let body = paused.split("</style>").nth(1).unwrap();
    for word in [">on<", "silent", "switched off", "being made", "Reason"] {
        assert!(!body.contains(word), "nothing is judged while it is paused: {word}");
    }
    let (_, well, _) = &pages()[0];
    assert!(
        well.contains(r#"<time datetime="2026-11-21T01:46:31Z" title="2026-11-21 01:46:31 UTC">3 minutes ago</time>"#),
        "{well}"
    );
    // There is a row for each of three kinds of entity, and for each of four webhooks.
    assert!(well.matches(" scope=\"col\">").count() == 5 + 3 && well.matches(" scope=\"row\">").count() == 3 + 4);
    let order = well.split("scope=\"row\">order<").nth(1).unwrap().split("</tr>").next().unwrap();
    for text in [">well<", ">3 minutes ago<", ">2 hours ago<", "Missed: \">3<small>Found by fetching"] {
        assert!(order.contains(text), "received, fetched and missed: {text} in {order}");
    }
    let care = &pages().into_iter().find(|page| page.0 == "care").unwrap().1;
    assert!(care.contains("1 of 2 need attention") && care.contains("What needs attention"), "{care}");
}

#[test]
fn what_others_wrote_is_text() {
    let evil = "<script>alert('1')</script>\"&";
    let (scope, bad) = record(evil, Verdict::Missing, evil);
    let mut connection = Connection::new(evil);
    connection.settings.insert("missing_permissions".into(), json!([evil]));
    let check = Check { at: NOW, trouble: Some(evil.into()), since: None };
    let loaded = Loaded {
        connection: Some(connection),
        webhooks: BTreeMap::from([(scope, bad)]),
        check: Some(check),
        ..Loaded::default()
    };
    let view = View {
        platform: &BIGCOMMERCE,
        store: evil,
        loaded: &loaded,
        wanted: &[format!("{evil}2")],
        seen: &BTreeMap::new(),
        drift: &BTreeMap::new(),
        now: NOW,
    };
    let page = load_page(&view);
    let escaped = "&lt;script&gt;alert('1')&lt;/script&gt;&quot;&amp;";
    assert!(!page.contains("<script") && page.matches("alert(").count() == page.matches(escaped).count(), "{page}");
    assert!(page.matches(escaped).count() >= 7, "{page}");
}

/// The other tests of this file print no secrets.
#[test]
fn the_log_has_no_secrets() {
    let this = std::env::current_exe().unwrap();
    let run =
        Command::new(this).args(["install::", "--nocapture", "--skip", "the_log_has_no_secrets"]).output().unwrap();
    let log = String::from_utf8(run.stdout).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("\"event\"")).collect();
    let says = |text: &str| lines.iter().any(|line| line.contains(text));
    assert!(
        says("\"event\":\"visit\"") && says("\"action\":\"uninstall\"") && says("the nonce is spent"),
        "{}",
        lines.len()
    );
    for secret in [
        CLIENT_SECRET,
        ACCESS_TOKEN,
        "eyJ",
        "code-",
        "jti-",
        "cs_0",
        "ck_0",
        "cs_shop",
        "ck_shop",
        "<script",
        "made-up",
        "a-key-of-the-links",
        "u@example.com",
    ] {
        assert!(!says(secret), "{secret}");
    }
    let is_nonce = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(!lines.iter().any(|line| line.split(|c: char| !c.is_ascii_alphanumeric()).any(is_nonce)));
}
