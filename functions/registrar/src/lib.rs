//! The registrar, which connects stores and disconnects them, and keeps the webhooks at their platforms alive in
//! between. It never touches entities: those that it finds become messages on the queue.
//!
//! HTTP requests ([`Registrar::answer`]), a schedule ([`Registrar::sweep`]) and its own queue ([`Registrar::run`]) call
//! it. Whatever fails half-way can be run again: each step is recorded as soon as it is done, and the next run starts
//! from the records.

mod admin;
pub mod answers;
mod apps;
mod check;
pub mod config;
mod connect;
mod converge;
mod decide;
mod disconnect;
mod endpoints;
mod entry;
pub mod health;
pub mod jobs;
mod lifecycle;
#[cfg(feature = "schema")]
pub mod openapi;
pub mod page;
mod poll;
mod probe;
pub mod problem;
pub mod reconcile;
mod records;
mod redact;
mod renewal;
mod rotation;
mod routes;
mod show;
mod snapshot;
mod trial;
mod verify;
mod webhooks;

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use cloud::{
    budget::Leases,
    connections::{Connections, Vault},
    coordination::Coordination,
    endpoints::Endpoints,
    outbound::Outbound,
    proof_keys::KeepProofKeys,
    queue::{Inbox, Jobs},
    secrets::{AppCredentials, KeepSecret, Keys, SecretSource},
    senders::KeepSenders,
    telemetry,
};
use commerce::{
    http_call::Loopback,
    platform::Platform,
    scheme::{
        Refusal,
        jwt::{Claims, Hs256},
    },
    timestamp::Timestamp,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use lambda_http::{Body, Request, Response};
use serde_json::Value;

pub use crate::routes::PERMISSIONS;
use crate::{entry::Way, problem::Problem};

/// The rules for admin tokens: minted with the admin key, for this audience, for an hour at most.
pub const ADMIN_TOKEN: Hs256 = Hs256 { audience: "commerce-hooks/admin", max_lifetime_seconds: 3600 };

/// The types of a [`Registrar`]'s edges: those of AWS, or their in-memory twins.
pub trait Parts {
    /// The table of connections.
    type Connections: Connections + Sync;
    /// The vault that encrypts credentials.
    type Vault: Vault + Sync;
    /// The secrets.
    type Secret: SecretSource + KeepSecret + Sync;
    /// The client for calls to platforms.
    type Outbound: Outbound + Sync;
    /// The notes about connections.
    type Notes: Coordination + Sync;
    /// The keys that clients brought.
    type ProofKeys: KeepProofKeys + Sync;
    /// The declared senders.
    type Senders: KeepSenders + Sync;
    /// The registrar's own queue.
    type Jobs: Jobs + Sync;
    /// The processor's queue.
    type Inbox: Inbox + Sync;
    /// The endpoints of the vendor's own application.
    type Endpoints: Endpoints + Sync;
}

/// The edges of a [`Registrar`].
pub struct Edges<P: Parts> {
    /// The table of connections.
    pub connections: P::Connections,
    /// The vault that encrypts credentials.
    pub vault: P::Vault,
    /// The keys that webhook secrets are derived from.
    pub signing_keys: Keys<P::Secret>,
    /// The keys that sign admin tokens.
    pub admin_keys: Keys<P::Secret>,
    /// The app credentials that platforms gave to the vendor.
    pub apps: AppCredentials<P::Secret>,
    /// The client for calls to platforms.
    pub outbound: P::Outbound,
    /// The notes about connections.
    pub notes: P::Notes,
    /// The keys that clients brought.
    pub proof_keys: P::ProofKeys,
    /// The declared senders.
    pub senders: P::Senders,
    /// The registrar's own queue.
    pub jobs: P::Jobs,
    /// The processor's queue.
    pub inbox: P::Inbox,
    /// The endpoints of the vendor's own application.
    pub endpoints: P::Endpoints,
}

/// The registrar on its edges.
pub struct Registrar<P: Parts> {
    pub(crate) platforms: &'static [Platform],
    pub(crate) edges: Edges<P>,
    pub(crate) leases: Leases,
    pub(crate) public_base_url: String,
    pub(crate) base_urls: OnceLock<BTreeSet<String>>,
    pub(crate) loopback: Loopback,
    pub(crate) tells_of_changes: bool,
    pub(crate) sends_webhooks: bool,
    pub(crate) clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl<P: Parts> Registrar<P> {
    /// Makes a registrar on these edges. `public_base_url` is the URL at which platforms reach the receiver; a trailing
    /// slash is dropped. With `loopback` allowed, for local runs only, stores may be on this machine.
    pub fn new(
        platforms: &'static [Platform],
        edges: Edges<P>,
        public_base_url: &str,
        loopback: Loopback,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> Self {
        let public_base_url = public_base_url.trim_end_matches('/').to_owned();
        let (leases, base_urls) = (Leases::default(), OnceLock::new());
        let (tells_of_changes, sends_webhooks) = (false, false);
        Self { platforms, edges, leases, public_base_url, base_urls, loopback, tells_of_changes, sends_webhooks, clock }
    }

    /// Sets whether the stack tells readers of changes, so that a snapshot can be asked for.
    #[must_use]
    pub fn telling_of_changes(self, tells_of_changes: bool) -> Self {
        Self { tells_of_changes, ..self }
    }

    /// Sets whether the stack sends changes on to endpoints, so that there can be some.
    #[must_use]
    pub fn sending_webhooks(self, sends_webhooks: bool) -> Self {
        Self { sends_webhooks, ..self }
    }

    /// Answers one HTTP request. Every line of the log about it names the id that API Gateway or the function URL gave it.
    pub async fn answer(&self, request: Request) -> Response<Body> {
        match entry::request_id(&request) {
            Some(id) => telemetry::traced([id], self.answer_traced(request)).await,
            None => self.answer_traced(request).await,
        }
    }

    async fn answer_traced(&self, request: Request) -> Response<Body> {
        let way = entry::way(&request);
        if let Some(Way::App { platform, action, own_address }) = way {
            return self.visit(request, &platform, &action, own_address).await;
        }
        let path = match way {
            Some(Way::Admin(path)) => path,
            _ => String::new(),
        };
        match self.administer(&request, &path).await {
            Ok((status, answer)) => match serde_json::to_value(&answer) {
                Ok(body) => json_response(status, &body),
                Err(error) => {
                    Problem::Ours(cloud::EdgeError::new("writing an answer", error.to_string())).into_response()
                }
            },
            Err(problem) => problem.into_response(),
        }
    }

    /// Checks the bearer token, and once more with keys fetched anew, because a rotation may have happened since.
    async fn authorize(&self, headers: &HeaderMap) -> Result<Claims, Problem> {
        let now = (self.clock)();
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(Problem::Unauthorized) };
        let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).ok_or(Problem::Unauthorized)?;
        let ring = self.edges.admin_keys.current(now).await?;
        let mut verified = ADMIN_TOKEN.verify(token, &ring, now);
        if verified == Err(Refusal::WrongProof)
            && let Some(fresh) = self.edges.admin_keys.after_failed_proof(now).await
        {
            verified = ADMIN_TOKEN.verify(token, &fresh, now);
        }
        verified.map_err(|refusal| {
            telemetry::warn("admin-refused", &refusal.to_string());
            Problem::Unauthorized
        })
    }
}

fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::Text(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
