//! The receiver: proves each delivery and puts it on the queue. It does not parse entities, and its only dependency on the
//! way to an acknowledgement is SQS.

pub mod config;
pub mod reply;

use std::sync::Arc;

use bytes::Bytes;
use cloud::{
    queue::Inbox,
    secrets::{Keys, SecretSource},
    telemetry,
};
use commerce::{
    envelope::Sealed,
    platforms::{Delivery, Platform, find},
    request::{HookPath, RawRequest},
    stamp::Stamp,
    verify::{Refusal, Verified, verify},
};
use lambda_http::{Body, Request, RequestExt, Response, request::RequestContext};
use serde_json::json;

pub use crate::reply::Reply;

/// The receiver on its edges.
pub struct Receiver<Q, S> {
    platforms: &'static [Platform],
    queue: Q,
    keys: Keys<S>,
    clock: Arc<dyn Fn() -> Stamp + Send + Sync>,
}

impl<Q: Inbox + Sync, S: SecretSource + Sync> Receiver<Q, S> {
    /// On these edges.
    pub fn new(
        platforms: &'static [Platform],
        queue: Q,
        keys: Keys<S>,
        clock: Arc<dyn Fn() -> Stamp + Send + Sync>,
    ) -> Self {
        Self { platforms, queue, keys, clock }
    }

    /// Fetches the keys while Lambda initialises; a failure shows with the first delivery.
    pub async fn warm(&self) {
        let _ = self.keys.current((self.clock)()).await;
    }

    /// Answers one HTTP request.
    pub async fn receive(&self, request: Request) -> Response<Body> {
        self.take(request).await.into_response()
    }

    /// The steps.
    async fn take(&self, request: Request) -> Reply {
        let Some(path) = hook_path(&request) else { return Reply::NotFound };
        let Some(platform) = find(self.platforms, &path.key.platform) else { return Reply::NotFound };
        let delivery = platform.delivery;
        let raw = raw(request, (self.clock)());
        if delivery.is_handshake(&raw) {
            return Reply::Greeted(delivery.accepted());
        }
        let verified = match self.prove(delivery, &path, &raw).await {
            Ok(verified) => verified,
            Err(reply) => return reply,
        };
        let sealed = Sealed::from_verified(&verified);
        match self.queue.send(&sealed, 0).await {
            Ok(message_id) => Reply::Accepted(delivery.accepted(), message_id),
            Err(error) => {
                telemetry::error("not-queued", &format!("{}: {error}", path.key));
                Reply::Unavailable
            }
        }
    }

    /// Proves a request with the keys at hand and, should that fail, once more with keys fetched anew: a rotation may have
    /// happened since.
    async fn prove(&self, delivery: &dyn Delivery, path: &HookPath, raw: &RawRequest) -> Result<Verified, Reply> {
        let now = (self.clock)();
        let ring = self.keys.current(now).await.map_err(|error| {
            telemetry::error("no-keys", &error.to_string());
            Reply::Unavailable
        })?;
        let mut proven = verify(delivery, path, raw, &ring);
        if proven == Err(Refusal::WrongProof)
            && let Some(fresh) = self.keys.after_failed_proof(now).await
        {
            proven = verify(delivery, path, raw, &fresh);
        }
        proven.map_err(|refusal| {
            telemetry::emit(&json!({
                "level": "WARN",
                "event": "refused",
                "platform": path.key.platform,
                "connection": path.key.connection,
                "generation": path.generation,
                "why": refusal.to_string(),
            }));
            Reply::Refused
        })
    }
}

/// The path's parts, as API Gateway's route found them.
fn hook_path(request: &Request) -> Option<HookPath> {
    let parameters = request.path_parameters_ref()?;
    HookPath::parse(parameters.first("platform")?, parameters.first("connection")?, parameters.first("generation"))
}

/// The request as it came: the body's bytes untouched, and the time when API Gateway took it (`now` where there is none).
fn raw(request: Request, now: Stamp) -> RawRequest {
    let received = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) if context.time_epoch > 0 => Stamp::from_millis(context.time_epoch),
        _ => now,
    };
    let (parts, body) = request.into_parts();
    let body = match body {
        Body::Text(text) => Bytes::from(text),
        Body::Binary(bytes) => Bytes::from(bytes),
        _ => Bytes::new(),
    };
    RawRequest { method: parts.method, headers: parts.headers, body, received }
}
