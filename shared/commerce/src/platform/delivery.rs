//! What the receiver has to know of a platform: how a delivery is proven, and what it says about itself.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Map, Value};

use crate::{
    request::{RawRequest, WebhookPath},
    scheme::Scheme,
    timestamp::Timestamp,
};

/// What the receiver has to know of a platform.
pub trait Delivery: Sync {
    /// The methods that it delivers with.
    fn methods(&self) -> &'static [Method] {
        &[Method::POST]
    }

    /// Whether this is a greeting that wants an answer but carries nothing. It is not proven, so nothing may follow from it.
    fn is_handshake(&self, _request: &RawRequest) -> bool {
        false
    }

    /// The platform's own name for what has happened. Where each scope has a secret of its own, it is asked before the proof,
    /// and must not look at the body; else after it.
    fn scope(&self, request: &RawRequest) -> Option<String>;

    /// What the platform calls the delivery. For people: it need not be unique. Asked after the proof.
    fn delivery_id(&self, request: &RawRequest) -> Option<String>;

    /// On whose account it happened, where the delivery says so: for people, and as good as the proof of the caller. Asked after the
    /// proof; bounded, and without control characters.
    fn user(&self, _request: &RawRequest) -> Option<String> {
        None
    }

    /// How a delivery is proven.
    fn scheme(&self) -> Scheme;

    /// Whether each scope has a secret of its own, because the platform does not sign the scope.
    fn secret_per_scope(&self) -> bool {
        false
    }

    /// Whether a proven delivery is for the connection whose path it came over, where the proof does not say so by itself. One that
    /// cannot be read is: it is put aside later, with its body.
    fn belongs(&self, _path: &WebhookPath, _request: &RawRequest) -> bool {
        true
    }

    /// A delivery that tells of nothing, with the scope [`PROBE`]: with it, the registrar finds out whether a delivery of this
    /// platform gets through. What proves it is added by [`crate::verify::sign`].
    fn probe(&self, path: &WebhookPath, now: Timestamp) -> Probe;

    /// The status that the platform takes for success.
    fn accepted(&self) -> StatusCode {
        StatusCode::OK
    }

    /// How long the platform waits for an answer. Five seconds where nothing else is known: that is what HTTP clients of stores use who do not
    /// say otherwise.
    fn patience(&self) -> Duration {
        Duration::from_secs(5)
    }
}

/// The scope of a probe. It fits the grammar of every platform's scopes, and is none of them.
pub const PROBE: &str = "commerce_hooks_probe";

/// What a platform would send, before it is signed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Probe {
    /// Headers beside those of the proof, in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
    /// The claims of the token, where the proof is one.
    pub claims: Map<String, Value>,
}
