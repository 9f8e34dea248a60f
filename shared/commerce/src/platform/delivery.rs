//! The receiver's part of a platform: the proof of a delivery, and what the delivery says about itself.

use std::{collections::BTreeMap, time::Duration};

use http::{Method, StatusCode};
use serde_json::{Map, Value};

use crate::{
    request::{RawRequest, WebhookPath},
    scheme::Scheme,
    timestamp::Timestamp,
};

/// The receiver's part of a platform.
pub trait Delivery: Sync {
    /// Returns the methods that it delivers with.
    fn methods(&self) -> &'static [Method] {
        &[Method::POST]
    }

    /// Returns whether a request is a handshake, which wants an answer and carries nothing. It is not proven, so it has
    /// no effect.
    fn is_handshake(&self, _request: &RawRequest) -> bool {
        false
    }

    /// Returns the topic (`scope`): the platform's own name for the event. Where each topic has its own secret, this is
    /// called before the proof, and must not read the body; otherwise after it.
    fn scope(&self, request: &RawRequest) -> Option<String>;

    /// Returns the platform's id of the delivery, for people. It need not be unique. Called after the proof.
    fn delivery_id(&self, request: &RawRequest) -> Option<String>;

    /// Returns the user on whose account the event happened, where the delivery says so. For people, and as reliable as
    /// the proof of the caller. Called after the proof; bounded, and without control characters.
    fn user(&self, _request: &RawRequest) -> Option<String> {
        None
    }

    /// Returns further values of the request that the message keeps, by their names, for people. A scheme's own claims
    /// of the same name win. Called after the proof; bounded.
    fn noted(&self, _request: &RawRequest) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Returns the scheme that proves a delivery.
    fn scheme(&self) -> Scheme;

    /// Returns whether each topic has its own secret, because the platform does not sign the topic.
    fn secret_per_scope(&self) -> bool {
        false
    }

    /// Returns whether a proven delivery is for the connection of its path, where the proof itself does not say so. An
    /// unreadable delivery is: it is put aside later, with its body.
    fn belongs(&self, _path: &WebhookPath, _request: &RawRequest) -> bool {
        true
    }

    /// Makes a delivery without content, with the topic [`PROBE`], by which the registrar tests that deliveries of this
    /// platform arrive. [`crate::verify::sign`] adds its proof.
    fn probe(&self, path: &WebhookPath, now: Timestamp) -> Probe;

    /// Returns the status that the platform takes for success.
    fn accepted(&self) -> StatusCode {
        StatusCode::OK
    }

    /// Returns the time that the platform waits for an answer: five seconds where nothing else is known, the default of
    /// stores' HTTP clients.
    fn patience(&self) -> Duration {
        Duration::from_secs(5)
    }
}

/// The topic of a probe. It fits the grammar of every platform's topics, and is none of them.
pub const PROBE: &str = "commerce_hooks_probe";

/// A delivery as a platform would send it, before it is signed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Probe {
    /// The headers beside those of the proof, in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
    /// The claims of the token, where the proof is one.
    pub claims: Map<String, Value>,
}
