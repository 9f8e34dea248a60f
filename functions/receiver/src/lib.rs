//! The receiver, which proves each delivery and puts it on the queue. It does not parse entities. Once the keys are
//! cached, an acknowledgement depends on SQS alone.

pub mod config;
pub mod reply;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cloud::{
    EdgeError,
    aws::within,
    key_sets::KeySets,
    outbound::Outbound,
    proof_keys::{CachedProofKeys, ProofKeys},
    queue::Inbox,
    secrets::{AppCredentials, Keys, SecretSource},
    senders::{CachedSenders, Senders},
    telemetry,
};
use commerce::{
    apps::Apps,
    declaration::{Key, Sender},
    envelope::Sealed,
    keys::{BroughtKey, KeyRing},
    platform::Inbound,
    request::{RawRequest, WebhookPath, decoded},
    scheme::{Refusal, Scheme},
    timestamp::Timestamp,
    verify::{Arrival, Material, Verified, verify, verify_declared},
};
use http::StatusCode;
use lambda_http::{Body, Request, RequestExt, Response, request::RequestContext};
use serde_json::json;

pub use crate::reply::Reply;

/// The longest time for putting a delivery on the queue.
const QUEUEING: Duration = Duration::from_secs(2);
/// The longest time for looking up the keys that a client brought.
const LOOKING_UP: Duration = Duration::from_secs(1);
/// The longest time for fetching a key set: half of what a sender waits at least.
const FETCHING: Duration = Duration::from_millis(2_500);
/// The time that a request and its answer take on their way, generously estimated.
const ON_THE_WAY: Duration = Duration::from_millis(500);
/// The longest time for fetching keys while Lambda initialises.
const WARMING: Duration = Duration::from_millis(1500);

/// The receiver on its edges.
pub struct Receiver<Q, S, P, D, O> {
    platforms: &'static [Inbound],
    edges: Edges<Q, S, P, D, O>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// The edges of a [`Receiver`].
pub struct Edges<Q, S, P, D, O> {
    /// The queue for deliveries.
    pub queue: Q,
    /// The keys that webhook secrets are derived from.
    pub signing_keys: Keys<S>,
    /// The app credentials that platforms gave to the vendor; read only for platforms that sign with them.
    pub apps: AppCredentials<S>,
    /// The keys that clients brought; read only for platforms whose clients bring keys, when no derived one fits.
    pub proof_keys: CachedProofKeys<P>,
    /// The declared senders; read only for connections that have one.
    pub senders: CachedSenders<D>,
    /// The key sets that declared senders publish.
    pub key_sets: KeySets<O>,
}

/// The keys to prove one request with, as far as they are at hand.
#[derive(Default)]
struct AtHand {
    ring: Option<Arc<KeyRing>>,
    apps: Option<Arc<Apps>>,
    brought: Option<Arc<[BroughtKey]>>,
}

impl<Q: Inbox + Sync, S: SecretSource + Sync, P: ProofKeys + Sync, D: Senders + Sync, O: Outbound + Sync>
    Receiver<Q, S, P, D, O>
{
    /// Makes a receiver on these edges.
    pub fn new(
        platforms: &'static [Inbound],
        edges: Edges<Q, S, P, D, O>,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> Self {
        Self { platforms, edges, clock }
    }

    /// Fetches the keys while Lambda initialises. A failure shows with the first delivery.
    pub async fn warm(&self) {
        let now = (self.clock)();
        let (keys, apps) = (&self.edges.signing_keys, &self.edges.apps);
        let _ = tokio::join!(keys.current_within(now, WARMING), apps.current_within(now, WARMING));
    }

    /// Answers one HTTP request. Each answer carries the request's trace id, which every line of the log about it names.
    pub async fn receive(&self, request: Request) -> Response<Body> {
        let trace = trace(&request);
        let taken = self.take(request, trace.as_deref());
        telemetry::traced(trace.clone(), taken).await.into_response(trace.as_deref())
    }

    /// Takes one request through all steps, and returns the reply.
    async fn take(&self, request: Request, trace: Option<&str>) -> Reply {
        let Some(path) = webhook_path(&request) else { return Reply::NotFound };
        let known = |platform: &&Inbound| platform.name == path.key.platform;
        let Some(platform) = self.platforms.iter().find(known) else { return Reply::NotFound };
        let delivery = platform.delivery;
        let raw = raw(request, (self.clock)());
        if delivery.scheme() == Scheme::Declared {
            return self.take_declared(platform, &path, &raw, trace).await;
        }
        if delivery.is_handshake(&raw) {
            return Reply::Greeted(delivery.accepted());
        }
        let verified = match self.prove(platform, &path, &raw).await {
            Ok(verified) => verified,
            Err(reply) => return reply,
        };
        self.queue(&path, &verified, delivery.accepted(), None, trace).await
    }

    /// Puts a proven delivery on the queue.
    async fn queue(
        &self,
        path: &WebhookPath,
        verified: &Verified,
        status: StatusCode,
        text: Option<String>,
        trace: Option<&str>,
    ) -> Reply {
        let sealed = Sealed::from_verified(verified, trace);
        match within(QUEUEING, || self.edges.queue.send(&sealed, 0)).await {
            Ok(id) => {
                telemetry::emit(&json!({
                    "level": "INFO",
                    "event": "queued",
                    "connection": path.key.to_string(),
                    "message_id": id,
                }));
                Reply::Accepted { status, text, id }
            }
            Err(error) => {
                telemetry::error("not-queued", &format!("{}: {error}", path.key));
                Reply::Unavailable
            }
        }
    }

    /// Takes one request of a declared sender through all steps.
    async fn take_declared(
        &self,
        platform: &Inbound,
        path: &WebhookPath,
        raw: &RawRequest,
        trace: Option<&str>,
    ) -> Reply {
        let now = (self.clock)();
        let known = match within(LOOKING_UP, || self.edges.senders.sender(&path.key, now)).await {
            Ok(known) => known,
            Err(error) => {
                telemetry::error("no-sender", &format!("{}: {error}", path.key));
                return Reply::Unavailable;
            }
        };
        let mut arrival = match &known {
            Some(sender) => self.arrival(path, raw, sender, now).await,
            None => Ok(Err(Refusal::EmptyKey)),
        };
        let mut answers = known.as_ref().map(|sender| sender.declaration.answers.clone()).unwrap_or_default();
        if matches!(arrival, Ok(Err(_)))
            && let Some(fresh) = self.edges.senders.after_failed_proof(&path.key, now).await
        {
            arrival = self.arrival(path, raw, &fresh, now).await;
            answers = fresh.declaration.answers.clone();
        }
        match arrival {
            Err(error) => {
                telemetry::error("no-keys", &format!("{}: {error}", path.key));
                Reply::Unavailable
            }
            Ok(Ok(Arrival::Handshake(answer))) => Reply::Answered(answer),
            Ok(Ok(Arrival::Delivery(verified))) => {
                let status = answers.accepted();
                self.queue(path, &verified, status, answers.text, trace).await
            }
            Ok(Err(refusal)) => {
                refused(platform, path, refusal, now);
                if refusal == Refusal::Method { Reply::Method } else { Reply::Refused(answers.refused()) }
            }
        }
    }

    /// Proves a request with a sender's keys, and with the key set that it publishes, which is fetched anew if no key of
    /// it fits.
    ///
    /// # Errors
    /// The key set cannot be fetched. Within: the request is not proven.
    async fn arrival(
        &self,
        path: &WebhookPath,
        raw: &RawRequest,
        sender: &Sender,
        now: Timestamp,
    ) -> Result<Result<Arrival, Refusal>, EdgeError> {
        let Some(url) = sender.declaration.key_set() else { return Ok(verify_declared(path, raw, sender, now)) };
        let with = |set: Arc<str>| {
            let mut sender = sender.clone();
            sender.keys.push(Key { id: "set".to_owned(), text: set.to_string().into() });
            verify_declared(path, raw, &sender, now)
        };
        let known = within(FETCHING, || self.edges.key_sets.set(url, false, now)).await?;
        let proven = with(Arc::clone(&known));
        if !matches!(proven, Err(Refusal::WrongProof)) {
            return Ok(proven);
        }
        let fresh = within(FETCHING, || self.edges.key_sets.set(url, true, now)).await?;
        Ok(if fresh == known { proven } else { with(fresh) })
    }

    /// Proves a request with the keys at hand; if that fails, with those that the client brought; and once more with
    /// keys fetched anew, because a rotation may have happened since.
    ///
    /// # Errors
    /// The reply to a request that cannot be proven.
    async fn prove(&self, platform: &Inbound, path: &WebhookPath, raw: &RawRequest) -> Result<Verified, Reply> {
        let unavailable = |error: EdgeError| {
            telemetry::error("no-keys", &error.to_string());
            Reply::Unavailable
        };
        let now = (self.clock)();
        let scheme = platform.delivery.scheme();
        // A sender that is refused may never deliver again, so the keys are looked for as long as it waits.
        let patience = platform.delivery.patience().saturating_sub(QUEUEING + ON_THE_WAY);
        let (ring, apps) = tokio::join!(self.edges.signing_keys.current_within(now, patience), async {
            match scheme.wants_app() {
                true => self.edges.apps.current_within(now, patience).await.map(Some),
                false => Ok(None),
            }
        });
        let mut keys =
            AtHand { ring: Some(ring.map_err(unavailable)?), apps: apps.map_err(unavailable)?, brought: None };
        let mut proven = keys.verify(platform, path, raw, now);
        // Forgers must not run up the bill, so a request that cannot belong to the connection costs no lookup.
        if proven == Err(Refusal::WrongProof) && scheme.wants_brought() && platform.delivery.belongs(path, raw) {
            let brought = within(LOOKING_UP, || self.edges.proof_keys.brought(&path.key, now)).await;
            keys.brought = Some(brought.map_err(unavailable)?);
            proven = keys.verify(platform, path, raw, now);
            if proven == Err(Refusal::WrongProof)
                && let Some(fresh) = self.edges.proof_keys.after_failed_proof(&path.key, now).await
            {
                keys.brought = Some(fresh);
                proven = keys.verify(platform, path, raw, now);
            }
        }
        if matches!(proven, Err(Refusal::WrongProof | Refusal::NoApp)) {
            let (ring, apps) = tokio::join!(self.edges.signing_keys.after_failed_proof(now), async {
                if scheme.wants_app() { self.edges.apps.after_failed_proof(now).await } else { None }
            });
            if ring.is_some() || apps.is_some() {
                keys = AtHand { ring: ring.or(keys.ring), apps: apps.or(keys.apps), brought: keys.brought };
                proven = keys.verify(platform, path, raw, now);
            }
        }
        proven.map_err(|refusal| {
            refused(platform, path, refusal, now);
            match refusal {
                Refusal::Method => Reply::Method,
                _ => Reply::Refused(StatusCode::UNAUTHORIZED),
            }
        })
    }
}

/// Logs and counts a request that is not proven.
fn refused(platform: &Inbound, path: &WebhookPath, refusal: Refusal, now: Timestamp) {
    telemetry::emit(&json!({
        "level": "WARN",
        "event": "refused",
        "platform": path.key.platform,
        "connection": path.key.connection,
        "generation": path.generation,
        "why": refusal.to_string(),
    }));
    telemetry::emit(&telemetry::count("Refused", platform.name, 1, now));
}

impl AtHand {
    fn verify(
        &self,
        platform: &Inbound,
        path: &WebhookPath,
        raw: &RawRequest,
        now: Timestamp,
    ) -> Result<Verified, Refusal> {
        let ring = self.ring.as_deref().ok_or(Refusal::EmptyKey)?;
        let app = self.apps.as_deref().and_then(|apps| apps.get(platform.name));
        verify(platform.delivery, path, raw, &Material { ring, app, brought: self.brought.as_deref(), now })
    }
}

/// Returns the trace id of a request: the id that API Gateway or the function URL gave it, or else Lambda's.
fn trace(request: &Request) -> Option<String> {
    let front = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.request_id.clone(),
        _ => None,
    };
    let called = || request.lambda_context_ref().map(|context| context.request_id.clone());
    front.or_else(called).filter(|id| !id.is_empty())
}

/// Returns the parts of the path: as API Gateway's route found them, or from the path itself at a function URL, which
/// has no routes.
fn webhook_path(request: &Request) -> Option<WebhookPath> {
    let route = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.route_key.as_deref(),
        _ => None,
    };
    if route != Some("$default") {
        let parameters = request.path_parameters_ref()?;
        return WebhookPath::parse(
            parameters.first("platform")?,
            parameters.first("connection")?,
            parameters.first("generation"),
        );
    }
    let parts: Option<Vec<String>> = request.raw_http_path().strip_prefix("/hooks/")?.split('/').map(decoded).collect();
    match &parts?[..] {
        [platform, connection] => WebhookPath::parse(platform, connection, None),
        [platform, connection, generation] => WebhookPath::parse(platform, connection, Some(generation)),
        _ => None,
    }
}

/// Returns the request as it came: the body's bytes untouched, and the time at which API Gateway took it, or `now`
/// without one.
fn raw(request: Request, now: Timestamp) -> RawRequest {
    let received = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) if context.time_epoch > 0 => {
            Timestamp::from_millis(context.time_epoch)
        }
        _ => now,
    };
    let target = target(&request);
    let (parts, body) = request.into_parts();
    let body = match body {
        Body::Text(text) => Bytes::from(text),
        Body::Binary(bytes) => Bytes::from(bytes),
        _ => Bytes::new(),
    };
    RawRequest { method: parts.method, target, headers: parts.headers, body, received }
}

/// Returns the path and the query as they were received, still encoded.
fn target(request: &Request) -> String {
    let path = request.raw_http_path();
    match request.uri().query().filter(|query| !query.is_empty()) {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}
