//! The simulated platforms on this machine, for `make run`: connects them to a deployed bundle, lets some things happen there,
//! delivers what tells of them, and prints each delivery as a line of JSON, then `{"ready":true}`. Its APIs answer until its input
//! ends. The bundle's environment says where everything is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a simulation")]

use std::{io::Read, sync::Arc};

use aws_sdk_dynamodb::types::AttributeValue;
use cloud::{
    aws::{Aws, Patience, variable},
    outbound::{Guarded, Outbound},
    secrets::{Keys, SecretSource, SecretsManager},
};
use commerce::{
    api::ApiRequest,
    platforms::{PLATFORMS, find},
    request::HookPath,
};
use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, Method};
use rand::{SeedableRng, rngs::StdRng};
use registrar::ADMIN_TOKEN;
use serde_json::{Value, json};
use tests::{
    platforms::{Delivery, Simulator, bigcommerce, cloudblue, directscale, listen},
    world::app_credentials,
};

/// How much happens at each platform.
const CHANGES: usize = 14;

struct Bundle {
    aws: Aws,
    http: Guarded,
    api_url: String,
    token: String,
    keys: Arc<commerce::keys::KeyRing>,
}

impl Bundle {
    async fn new() -> Self {
        let aws = Aws::from_env(Patience::Worker).expect("run `make run`, which sets the environment");
        let secret = |name| SecretsManager::new(aws.secretsmanager(), variable(name).unwrap());
        let admin = Keys::new(secret("ADMIN_KEY")).current(cloud::now()).await.unwrap();
        let keys = Keys::new(secret("SIGNING_KEYS")).current(cloud::now()).await.unwrap();
        // What the platforms sign with has to be known here.
        let (apps, id) = (app_credentials(), variable("APP_CREDENTIALS").unwrap());
        if secret("APP_CREDENTIALS").fetch().await.unwrap() != apps {
            aws.secretsmanager().put_secret_value().secret_id(id).secret_string(apps).send().await.unwrap();
        }
        let token = ADMIN_TOKEN.mint(&admin, cloud::now(), 900, "read write", None).unwrap();
        let http = Guarded::new(true).unwrap();
        Self { aws, http, api_url: variable("API_URL").unwrap(), token, keys }
    }

    /// Forgets a simulated platform of an earlier run, for each run simulates another one.
    async fn forget(&self, simulator: &Arc<dyn Simulator>) {
        let partition = AttributeValue::S(format!("{}#{}", simulator.platform(), simulator.connection()));
        let dynamodb = self.aws.dynamodb();
        for table in ["ENTITIES_TABLE", "CONNECTIONS_TABLE", "COORDINATION_TABLE", "PROOF_KEYS_TABLE"] {
            let table = variable(table).unwrap();
            loop {
                let query = dynamodb.query().table_name(&table).key_condition_expression("pk = :pk");
                let found = query.expression_attribute_values(":pk", partition.clone()).send().await.unwrap();
                let items = found.items.unwrap_or_default();
                if items.is_empty() {
                    break;
                }
                for mut item in items {
                    item.retain(|name, _| matches!(name.as_str(), "pk" | "sk"));
                    dynamodb.delete_item().table_name(&table).set_key(Some(item)).send().await.unwrap();
                }
            }
        }
    }

    async fn connect(&self, simulator: &Arc<dyn Simulator>) {
        let site = listen(Arc::clone(simulator)).await;
        let (platform, connection) = (simulator.platform(), simulator.connection());
        let url = format!("{}/admin/connections/{platform}/{connection}", self.api_url).parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        let body = simulator.settings(&site).to_string().into();
        let answer = self.http.call(ApiRequest { method: Method::PUT, url, headers, body }).await.unwrap();
        assert_eq!(answer.status, 200, "{platform}: {}", String::from_utf8_lossy(&answer.body));
        let shown: Value = serde_json::from_slice(&answer.body).unwrap();
        let manual = shown["subscriptions"].as_array().unwrap().iter().all(|hook| hook["status"] == "manual");
        if !manual {
            return;
        }
        let generation = shown["generation"].to_string();
        let path = HookPath::parse(platform, &connection, Some(&generation)).unwrap();
        let bound = find(PLATFORMS, platform).unwrap().delivery.secret_per_scope();
        let secret = |scope: &str| {
            let signing = self.keys.signing();
            signing.webhook_secret(&path, bound.then_some(scope)).reveal().to_owned()
        };
        simulator.subscribe(shown["delivery_url"].as_str().unwrap(), &secret);
    }

    /// Sends one delivery; its status and its message's id.
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

    /// Lets something happen at a platform, and delivers what tells of it.
    async fn play(&self, simulator: Arc<dyn Simulator>, seed: u64) {
        self.forget(&simulator).await;
        self.connect(&simulator).await;
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..CHANGES {
            simulator.change(&mut random);
            for delivery in simulator.outbox() {
                let (status, message) = self.send(&delivery).await;
                simulator.answered(&delivery, status);
                let line = json!({
                    "platform": simulator.platform(), "connection": simulator.connection(), "scope": scope(&*simulator, &delivery),
                    "status": status, "message": message,
                });
                println!("{line}");
            }
        }
    }
}

fn scope(simulator: &dyn Simulator, delivery: &Delivery) -> String {
    let mut headers = HeaderMap::new();
    for (name, value) in &delivery.headers {
        headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let (method, body, received) = (delivery.method.clone(), delivery.body.clone(), cloud::now());
    let raw = commerce::request::RawRequest { method, headers, body, received };
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
    let simulators: [Arc<dyn Simulator>; 3] = [
        Arc::new(bigcommerce::Simulator::new(Arc::clone(&clock), false)),
        Arc::new(cloudblue::Connect::with_policy(Arc::clone(&clock), policy)),
        Arc::new(directscale::DirectScale::new(clock)),
    ];
    join_all(simulators.into_iter().map(|simulator| bundle.play(simulator, 7))).await;
    println!("{}", json!({ "ready": true }));
    // The APIs answer while somebody wants them to.
    let (done, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = done.send(());
    });
    let _ = ended.await;
}
