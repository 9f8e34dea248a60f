//! A comparison of the table with the simulated platforms.

use commerce::{
    change::Change,
    entity::{EntityKey, EntityKind},
    http_call::Loopback,
    item::Item,
    key::ConnectionKey,
    platform::{
        find,
        mapping::Mapped,
        pull::{Access, Next, Wanted},
        settings::{Settings, settings},
    },
    platforms::PLATFORMS,
    request::WebhookPath,
    timestamp::Timestamp,
};
use serde_json::Value;
use tools::events::sample_ring;

use crate::{
    platforms::{Simulator, Truth},
    world::{BASE, World},
};

/// The time between two questions about entities, in seconds. Platforms limit the rate of calls, and Shopify's bucket of
/// points is full again after it.
pub const BETWEEN_QUESTIONS: i64 = 20;

/// A number of troubles that no test exceeds.
const MAX_TROUBLES: usize = 100;

/// A connected simulated platform.
pub struct Connected<'a> {
    /// The simulated platform.
    pub simulator: &'a dyn Simulator,
    /// The key of its connection.
    pub key: ConnectionKey,
    settings: Settings,
}

/// Connects a simulated platform at a site, and returns the connection's key. If webhooks are entered by hand, tells
/// the platform where to deliver to.
///
/// # Panics
/// Panics if it cannot be connected.
pub async fn connect(world: &World, simulator: &dyn Simulator, site: &str) -> ConnectionKey {
    let (platform, connection) = (simulator.platform(), simulator.connection());
    let settings = simulator.settings(site).to_string();
    let (status, shown) = world.admin_of(platform, "PUT", &connection, "", &settings).await;
    assert_eq!(status, 200, "{platform}: {shown}");
    let path = WebhookPath::parse(platform, &connection, None).unwrap();
    if shown["subscriptions"].as_array().unwrap().iter().all(|hook| hook["status"] == "manual") {
        let secret = |scope: &str| {
            let bound = find(PLATFORMS, platform).unwrap().delivery.secret_per_scope().then_some(scope);
            sample_ring().signing().webhook_secret(&path, bound).reveal().to_owned()
        };
        simulator.subscribe(&format!("{BASE}{path}"), &secret);
    }
    path.key
}

impl<'a> Connected<'a> {
    /// Returns a platform that is connected at a site.
    pub fn new(simulator: &'a dyn Simulator, site: &str) -> Self {
        Self::at(simulator, site, &simulator.connection())
    }

    /// Returns a platform that is connected at a site under another id.
    pub fn at(simulator: &'a dyn Simulator, site: &str, connection: &str) -> Self {
        let platform = find(PLATFORMS, simulator.platform()).unwrap();
        let key = WebhookPath::parse(platform.name, connection, None).unwrap().key;
        let body = simulator.settings(site).to_string();
        let settings = settings(platform, &key, body.as_bytes(), Loopback::Allowed).unwrap();
        Self { simulator, key, settings }
    }

    /// Returns the key of one of its entities.
    pub fn entity(&self, kind: EntityKind, id: &str) -> EntityKey {
        EntityKey { connection: self.key.clone(), kind, id: id.parse().unwrap() }
    }

    /// Returns an entity as the platform's API shows it now.
    ///
    /// # Errors
    /// Returns an error if the API does not answer.
    pub async fn asked(
        &self,
        key: &EntityKey,
        clock: &(dyn Fn() -> Timestamp + Send + Sync),
    ) -> Result<Mapped, String> {
        let Settings { site, credentials, own, .. } = &self.settings;
        let credentials = credentials.as_ref().unwrap();
        let access = Access { site, credentials, settings: own };
        let wanted = Wanted { access, entity: key.kind, id: &key.id, at: clock() };
        let puller = find(PLATFORMS, self.simulator.platform()).unwrap().pull.unwrap();
        // Some troubles that were meant for the bundle's calls may still be left.
        for _ in 0..MAX_TROUBLES {
            let mut answers = Vec::new();
            while let Ok(next) = puller.pull(&wanted, &answers) {
                match next {
                    Next::Done(mapped) => return Ok(mapped),
                    Next::Ask(request) => match self.simulator.answer(&request).await {
                        Ok(answer) => answers.push(answer),
                        Err(_) => break,
                    },
                }
            }
        }
        Err(format!("{} {}: the API does not answer", key.partition(), key.sort()))
    }

    /// Compares an item with the truth.
    ///
    /// # Errors
    /// Returns the difference.
    pub async fn compare(
        &self,
        key: &EntityKey,
        truth: &Truth,
        item: Option<&Item>,
        clock: &(dyn Fn() -> Timestamp + Send + Sync),
    ) -> Result<(), String> {
        let name = format!("{} {}", key.partition(), key.sort());
        let there = || item.filter(|item| !item.deleted).ok_or(format!("{name} is not there: {item:?}"));
        let says = |item: &Item, fields: &Value| {
            for (member, value) in fields.as_object().unwrap() {
                let found = item.fields.get(member).unwrap_or(&Value::Null);
                if found != value {
                    return Err(format!("{name}: {member} is {value}, not {found}"));
                }
            }
            Ok(())
        };
        match truth {
            Truth::Gone | Truth::GoneWith(_) if item.is_some_and(|item| !item.deleted) => {
                Err(format!("{name} is gone: {item:?}"))
            }
            Truth::Gone => Ok(()),
            Truth::GoneWith(fields) => says(item.ok_or(format!("{name} is not there"))?, fields),
            Truth::IfKnown if item.is_none() => Ok(()),
            Truth::Fields(fields) => says(there()?, fields),
            Truth::Api | Truth::With(_) | Truth::IfKnown => match self.asked(key, clock).await? {
                // An entity that matters only if it is known may be absent here.
                Mapped::IfKnown(..) if item.is_none() => Ok(()),
                Mapped::Change(_, Change::Upsert(mut upsert)) | Mapped::IfKnown(_, Change::Upsert(mut upsert), _) => {
                    if let Truth::With(fields) = truth {
                        std::sync::Arc::make_mut(&mut upsert.content)
                            .fields
                            .extend(fields.as_object().unwrap().clone());
                    }
                    let state = there()?.state();
                    let content = state.content().unwrap();
                    if *content == *upsert.content {
                        Ok(())
                    } else {
                        Err(format!("{name} is {:?}, not {content:?}", upsert.content))
                    }
                }
                other => Err(format!("{name}: the API says {other:?}")),
            },
        }
    }
}
