//! The endpoints of the vendor's own application, to which the sender sends changes on.

use std::collections::BTreeSet;

use cloud::{connections::Vault, endpoints::Endpoints, telemetry};
use commerce::{
    endpoint::{Endpoint, FORMER_SECONDS, Filter, endpoint_key, endpoint_url, is_type},
    key::ConnectionKey,
    platform::find,
    request::WebhookPath,
    scheme::{jwt::Claims, standard_webhooks::to_whsec},
};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    Parts, Registrar,
    admin::{asker, flag, members},
    answers::{EndpointList, NewEndpoint, ShownEndpoint},
    problem::Problem,
};

/// The most endpoints: each event is compared with all of them.
const MAX_ENDPOINTS: usize = 50;
/// The most members of a filter.
const MAX_FILTER: usize = 100;

impl<P: Parts> Registrar<P> {
    /// Lists the endpoints.
    pub(crate) async fn list_endpoints(&self) -> Result<EndpointList, Problem> {
        let endpoints = self.edges.endpoints.endpoints().await?;
        Ok(EndpointList { endpoints: endpoints.iter().map(ShownEndpoint::from).collect() })
    }

    /// Shows an endpoint.
    pub(crate) async fn show_endpoint(&self, id: &str) -> Result<ShownEndpoint, Problem> {
        Ok(ShownEndpoint::from(&self.endpoint(id).await?))
    }

    /// Makes an endpoint. Its secret is in this answer, and in no other.
    pub(crate) async fn make_endpoint(&self, body: &[u8], claims: &Claims) -> Result<NewEndpoint, Problem> {
        let wanted = self.wanted_endpoint(body, None)?;
        if !self.sends_webhooks {
            let why = "this stack sends no changes on; deploy it with WebhooksOut=true";
            return Err(Problem::Conflict(why.into()));
        }
        if self.edges.endpoints.endpoints().await?.len() >= MAX_ENDPOINTS {
            return Err(Problem::Conflict(format!("there are {MAX_ENDPOINTS} endpoints; DELETE one of them first")));
        }
        let random: [u8; 8] = cloud::random()?;
        let id = random.iter().fold("ep-".to_owned(), |id, byte| format!("{id}{byte:02x}"));
        let (secret, cipher) = self.new_secret(&key(&id)?).await?;
        let endpoint = Endpoint { id, secret: cipher, revision: 1, created: (self.clock)(), ..wanted };
        self.write_endpoint(&endpoint).await?;
        tell("endpoint-made", &endpoint.id, claims);
        Ok(NewEndpoint { endpoint: ShownEndpoint::from(&endpoint), secret: secret.to_string() })
    }

    /// Sets an endpoint's address and filter, and whether it is paused.
    pub(crate) async fn set_endpoint(&self, id: &str, body: &[u8], claims: &Claims) -> Result<ShownEndpoint, Problem> {
        let before = self.endpoint(id).await?;
        let mut endpoint = self.wanted_endpoint(body, Some(before.clone()))?;
        if endpoint != before {
            endpoint.revision += 1;
            self.write_endpoint(&endpoint).await?;
            tell("endpoint-set", id, claims);
        }
        Ok(ShownEndpoint::from(&endpoint))
    }

    /// Removes an endpoint. What is on its way to it is dropped.
    pub(crate) async fn remove_endpoint(&self, id: &str, claims: &Claims) -> Result<ShownEndpoint, Problem> {
        let endpoint = self.endpoint(id).await?;
        self.edges.endpoints.remove_endpoint(&endpoint.id).await?;
        tell("endpoint-removed", id, claims);
        Ok(ShownEndpoint::from(&endpoint))
    }

    /// Makes a new secret for an endpoint. For a day, the former one signs, too.
    pub(crate) async fn renew_secret(&self, id: &str, claims: &Claims) -> Result<NewEndpoint, Problem> {
        let mut endpoint = self.endpoint(id).await?;
        let (secret, cipher) = self.new_secret(&key(id)?).await?;
        let former = std::mem::replace(&mut endpoint.secret, cipher);
        endpoint.former = Some((former, (self.clock)().plus_seconds(FORMER_SECONDS)));
        endpoint.revision += 1;
        self.write_endpoint(&endpoint).await?;
        tell("endpoint-secret-renewed", id, claims);
        Ok(NewEndpoint { endpoint: ShownEndpoint::from(&endpoint), secret: secret.to_string() })
    }

    async fn endpoint(&self, id: &str) -> Result<Endpoint, Problem> {
        let endpoints = self.edges.endpoints.endpoints().await?;
        let known = endpoints.into_iter().find(|endpoint| endpoint.id == id);
        known.ok_or_else(|| Problem::NotFound(format!("there is no endpoint {id:?}; GET /admin/endpoints lists them")))
    }

    async fn write_endpoint(&self, endpoint: &Endpoint) -> Result<(), Problem> {
        if self.edges.endpoints.save_endpoint(endpoint).await? {
            return Ok(());
        }
        let why = format!("{} was changed by another request meanwhile; send this one again", endpoint.id);
        Err(Problem::Conflict(why))
    }

    /// Makes a secret of 32 random bytes, and encrypts it.
    async fn new_secret(&self, key: &ConnectionKey) -> Result<(Zeroizing<String>, String), Problem> {
        let random: Zeroizing<[u8; 32]> = Zeroizing::new(cloud::random()?);
        let secret = Zeroizing::new(to_whsec(random.as_slice()));
        let cipher = self.edges.vault.encrypt(key, &secret).await?;
        Ok((secret, cipher))
    }

    /// Reads a request into an endpoint, over the one before it.
    fn wanted_endpoint(&self, body: &[u8], before: Option<Endpoint>) -> Result<Endpoint, Problem> {
        let mut members = members(body, &["url", "platforms", "connections", "types", "paused"])?;
        let url = members.remove("url").and_then(|url| url.as_str().map(str::to_owned));
        let url = url.ok_or_else(|| Problem::Invalid("url: must be the address of the endpoint".into()))?;
        let url = endpoint_url(&url, self.loopback).map_err(|error| Problem::Invalid(format!("url: {error}")))?;
        let paused = flag(&mut members, "paused")?;
        let filter = Filter {
            platforms: self.texts(&mut members, "platforms", |name| find(self.platforms, name).is_some())?,
            connections: self.texts(&mut members, "connections", |name| {
                name.split_once('/').is_some_and(|(platform, connection)| {
                    let path = WebhookPath::parse(platform, connection, None);
                    find(self.platforms, platform).is_some() && path.is_some()
                })
            })?,
            types: self.texts(&mut members, "types", is_type)?,
        };
        let base = before.unwrap_or_else(|| Endpoint {
            id: String::new(),
            revision: 0,
            url: String::new(),
            filter: Filter::default(),
            paused: false,
            created: (self.clock)(),
            secret: String::new(),
            former: None,
        });
        Ok(Endpoint { url: url.into(), filter, paused, ..base })
    }

    fn texts(
        &self,
        members: &mut Map<String, Value>,
        name: &'static str,
        is_one: impl Fn(&str) -> bool,
    ) -> Result<BTreeSet<String>, Problem> {
        let known = match name {
            "platforms" => "names of platforms, such as woocommerce",
            "connections" => "names such as woocommerce/shop.example.com",
            _ => "types such as order.created, order.* or *.deleted",
        };
        let wrong = || Problem::Invalid(format!("{name}: must be a list of at most {MAX_FILTER} {known}"));
        let Some(given) = members.remove(name) else { return Ok(BTreeSet::new()) };
        let texts: BTreeSet<String> = serde_json::from_value(given).map_err(|_| wrong())?;
        if texts.len() > MAX_FILTER || !texts.iter().all(|text| is_one(text)) {
            return Err(wrong());
        }
        Ok(texts)
    }
}

fn key(id: &str) -> Result<ConnectionKey, Problem> {
    endpoint_key(id).ok_or_else(|| Problem::NotFound(format!("there is no endpoint {id:?}")))
}

/// Logs what was done to an endpoint, and by whose token.
fn tell(event: &str, id: &str, claims: &Claims) {
    telemetry::emit(&json!({ "level": "INFO", "event": event, "endpoint": id, "by": asker(claims) }));
}
