//! The simulated platforms on this machine, for `make run`. Installs the app at them as merchants would, and connects
//! those that have no apps. Then makes some changes there, delivers them, and prints each delivery as a line of JSON,
//! then the states of the webhooks, then the address of a page that a merchant sees. The APIs answer until the process
//! ends. The bundle's environment says where everything is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a simulation")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cloud::{
    aws::{Aws, Patience, variable},
    outbound::{Guarded, Outbound},
    secrets::{KeepSecret, Keys, SecretsManager},
};
use commerce::{
    http_call::{ApiRequest, Loopback},
    platform::find,
    platforms::PLATFORMS,
};
use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, Method};
use rand::{SeedableRng, rngs::StdRng};
use registrar::ADMIN_TOKEN;
use serde_json::{Value, json};
use tests::{
    merchant::{connection_id, install_bigcommerce, install_woocommerce},
    platforms::{Delivery, Http, Simulator, bigcommerce, cloudblue, directscale, listen, shopify, woocommerce},
    world::app_credentials_at,
};

/// The number of changes at each platform after it is connected.
const CHANGES: usize = 14;

/// The number of changes before it is connected.
const BEFORE: usize = 8;
/// The longest time to wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// A simulated platform with its address.
struct Player {
    simulator: Arc<dyn Simulator>,
    /// The simulator as BigCommerce's, which can install the app and sign its callbacks.
    bigcommerce: Option<Arc<bigcommerce::Simulator>>,
    site: String,
    connection: String,
}

impl Player {
    async fn new(simulator: Arc<dyn Simulator>) -> Self {
        let site = listen(Arc::clone(&simulator)).await;
        Self { connection: simulator.connection(), simulator, bigcommerce: None, site }
    }
}

struct Bundle {
    aws: Aws,
    http: Guarded,
    api_url: String,
    token: String,
}

impl Bundle {
    async fn new() -> Self {
        let aws = Aws::from_env(Patience::Worker).expect("run `make run`, which sets the environment");
        let admin = Keys::new(SecretsManager::new(aws.secretsmanager(), variable("ADMIN_KEY").unwrap()));
        let admin = admin.current(cloud::now()).await.unwrap();
        let token = ADMIN_TOKEN.mint(&admin, cloud::now(), 900, "read write reveal", Some("make run")).unwrap();
        Self { aws, http: Guarded::new(Loopback::Allowed).unwrap(), api_url: variable("API_URL").unwrap(), token }
    }

    /// Asks the admin interface below `/admin/connections`.
    async fn admin(&self, method: Method, path: &str, body: &Value) -> Value {
        let url = format!("{}/admin/connections{path}", self.api_url).parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.http.call(ApiRequest { method, url, headers, body: body.into() }).await.unwrap();
        assert!(answer.status < 300, "{path}: {}", String::from_utf8_lossy(&answer.body));
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Connects a platform in its own way: a merchant installs the app, or somebody enters the values that the platform
    /// gave.
    async fn connect(&self, player: &Player) {
        let Player { simulator, bigcommerce, site, connection } = player;
        let platform = simulator.platform();
        match (bigcommerce, find(PLATFORMS, platform).unwrap().installation) {
            (Some(store), _) => install_bigcommerce(&self.http, &self.api_url, store).await,
            (None, Some(_)) if platform == "woocommerce" => install_woocommerce(&self.http, &self.api_url, site).await,
            _ => {
                let path = format!("/{platform}/{connection}");
                let shown = self.admin(Method::PUT, &path, &simulator.settings(site)).await;
                let hooks = shown["subscriptions"].as_array().unwrap();
                if hooks.iter().all(|hook| hook["status"] == "manual") {
                    // Somebody enters the values that the registrar shows.
                    let revealed = self.admin(Method::POST, &format!("{path}/reveal"), &json!({})).await;
                    let secrets = revealed["secrets"].as_array().unwrap();
                    let secret = |scope: &str| {
                        let of = |entry: &&Value| entry["scope"].is_null() || entry["scope"] == scope;
                        text(&secrets.iter().find(of).unwrap()["secret"])
                    };
                    simulator.subscribe(&text(&revealed["delivery_url"]), &secret);
                }
            }
        }
    }

    /// Returns the webhooks as soon as each is as it should be.
    async fn subscriptions(&self, player: &Player) -> Value {
        let path = format!("/{}/{}/subscriptions", player.simulator.platform(), player.connection);
        let started = Instant::now();
        loop {
            let shown = self.admin(Method::GET, &path, &Value::Null).await;
            let rows = shown["subscriptions"].as_array().unwrap();
            let good = |row: &Value| matches!(row["status"].as_str(), Some("active" | "manual"));
            if !rows.is_empty() && rows.iter().all(good) {
                return shown["subscriptions"].clone();
            }
            assert!(started.elapsed() < PATIENCE, "{path}: {shown}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Sends one delivery, and returns its status and its message's id.
    async fn send(&self, delivery: &Delivery) -> (u16, Option<String>) {
        let Delivery { method, url, headers, body, .. } = delivery.clone();
        let mut request = ApiRequest { method, url: url.parse().unwrap(), headers: HeaderMap::new(), body };
        for (name, value) in headers {
            request.headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        match self.http.call(request).await {
            Ok(answer) => {
                let id = answer.headers.get("x-message-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
                (answer.status, id)
            }
            Err(_) => (0, None),
        }
    }

    /// Connects the platform, makes changes there, and delivers them. Returns the webhooks afterwards.
    async fn play(&self, player: &Player, seed: u64) -> Value {
        let Player { simulator, connection, .. } = player;
        let mut random = StdRng::seed_from_u64(seed);
        // Backfill fetches the earlier changes.
        for _ in 0..BEFORE {
            simulator.change(&mut random);
        }
        simulator.outbox();
        self.connect(player).await;
        self.subscriptions(player).await;
        for _ in 0..CHANGES {
            simulator.change(&mut random);
            for delivery in simulator.outbox() {
                let (status, message) = self.send(&delivery).await;
                simulator.answered(&delivery, status);
                let line = json!({
                    "platform": simulator.platform(), "connection": connection, "scope": scope(&**simulator, &delivery),
                    "status": status, "message": message,
                });
                println!("{line}");
            }
        }
        let rows = self.subscriptions(player).await;
        json!({ "platform": simulator.platform(), "connection": connection, "subscriptions": rows })
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn scope(simulator: &dyn Simulator, delivery: &Delivery) -> String {
    let mut headers = HeaderMap::new();
    for (name, value) in &delivery.headers {
        headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let (method, body, received) = (delivery.method.clone(), delivery.body.clone(), cloud::now());
    let raw = commerce::request::RawRequest { target: String::new(), method, headers, body, received };
    let scope = find(PLATFORMS, simulator.platform()).unwrap().delivery.scope(&raw);
    scope.unwrap_or_else(|| commerce::verify::UNNAMED_SCOPE.to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let bundle = Bundle::new().await;
    let clock: tests::platforms::Clock = Arc::new(cloud::now);
    let policy = json!([
        { "when": { "empty_parameter": "domain" }, "inquire": { "template": "TL-000-000-002", "errors": { "domain": "Enter a domain." } } },
        { "approve": { "template": "TL-000-000-001" } },
    ]);
    let shop = woocommerce::Store::new(Arc::new(Http(bundle.http.clone())), "ck_1", "cs_1");
    let store = Arc::new(bigcommerce::Simulator::new(Arc::clone(&clock), false));
    let connect = cloudblue::Connect::with_policy(Arc::clone(&clock), policy);
    let mut players = Vec::new();
    for simulator in [
        Arc::clone(&store) as Arc<dyn Simulator>,
        Arc::new(connect),
        Arc::new(directscale::DirectScale::new(Arc::clone(&clock))),
        Arc::new(shopify::Shop::new(Arc::clone(&clock))),
        Arc::new(shop.with_clock(clock)),
    ] {
        players.push(Player::new(simulator).await);
    }
    // The bundle has to know the platform's address and signing secret.
    let apps = SecretsManager::new(bundle.aws.secretsmanager(), variable("APP_CREDENTIALS").unwrap());
    apps.replace(&app_credentials_at(&players[0].site)).await.unwrap();
    players[0].bigcommerce = Some(store);
    // The connection's id is derived from the site.
    if let Some(shop) = players.last_mut() {
        shop.connection = connection_id(&shop.site);
    }
    for shown in join_all(players.iter().map(|player| bundle.play(player, 7))).await {
        println!("{shown}");
    }
    let token = players[0].bigcommerce.as_ref().unwrap().signed_payload(&json!({}));
    println!("{}", json!({ "page": format!("{}/apps/bigcommerce/load?signed_payload_jwt={token}", bundle.api_url) }));
    // The APIs answer until `make stop`.
    std::future::pending::<()>().await;
}
