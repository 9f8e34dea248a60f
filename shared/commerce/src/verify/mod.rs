//! Owns proof. [`Verified`] can only be made here, so whatever holds one was proven; nothing else may go on the queue.
//!
//! There is no default scheme, no way to switch verification off, and an empty key is an error.
//!
//! What was verified can be queued:
//!
//! ```
//! # use commerce::{envelope::Sealed, keys::KeyRing, platforms::Delivery, request::{HookPath, RawRequest}};
//! # use commerce::verify::{Refusal, verify};
//! fn queue(platform: &dyn Delivery, path: &HookPath, request: &RawRequest, ring: &KeyRing) -> Result<Sealed, Refusal> {
//!     Ok(Sealed::from_verified(&verify(platform, path, request, ring)?))
//! }
//! ```
//!
//! A request that was not verified cannot, because it does not compile:
//!
//! ```compile_fail,E0451
//! # use commerce::verify::Verified;
//! // A `Verified` has no public fields and no public constructor.
//! fn forge(other: Verified) -> Verified {
//!     Verified { ..other }
//! }
//! ```
//!
//! ```compile_fail,E0308
//! # use commerce::{envelope::Sealed, request::RawRequest};
//! // A raw request is no proof.
//! fn queue_unproven(request: &RawRequest) -> Sealed {
//!     Sealed::from_verified(request)
//! }
//! ```
//!
//! ```compile_fail,E0277
//! # use commerce::envelope::Sealed;
//! // The queue's write half cannot be read from bytes; only the read half can.
//! fn queue_bytes(text: &str) -> Sealed {
//!     serde_json::from_str(text).unwrap()
//! }
//! ```
//!
//! ```compile_fail,E0639
//! # use commerce::envelope::{Content, Envelope, Sealed};
//! // The read half, from which a deferral is sealed, cannot be made up.
//! fn defer_by_hand(read: Envelope, content: Content) -> Sealed {
//!     Sealed::deferred(&Envelope { content, ..read })
//! }
//! ```
//!
//! ```compile_fail,E0451
//! # use commerce::envelope::Sealed;
//! // Nor can it be put together by hand.
//! fn queue_by_hand(text: String) -> Sealed {
//!     Sealed { text, ..todo!() }
//! }
//! ```

pub mod hmac;
pub mod jwt;

use std::fmt;

use bytes::Bytes;

use crate::{
    keys::KeyRing,
    platforms::Delivery,
    request::{HookPath, RawRequest},
    stamp::Stamp,
};

/// How a platform proves its deliveries, with the parameters as data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// A code over the body, made with a secret that is derived from a signing key.
    Hmac(hmac::Hmac),
}

/// What a proof covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// The body: what it says is what the platform said.
    Body,
    /// Only the caller: the body is a hint, and the entity must be pulled.
    Caller,
}

/// Why a request was refused. For our logs and tests only: outside, every refusal looks the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// No proof where the scheme wants it.
    #[error("no proof")]
    MissingProof,
    /// A proof that cannot be read, or more than one where one is meant.
    #[error("malformed proof")]
    MalformedProof,
    /// A proof that no key made.
    #[error("wrong proof")]
    WrongProof,
    /// The scope, to which the secret is bound, is not named.
    #[error("no scope")]
    MissingScope,
    /// A key is empty; a mistake of ours.
    #[error("empty key")]
    EmptyKey,
    /// A token that is signed well but says the wrong thing.
    #[error("claim {0}")]
    Claim(&'static str),
}

/// A delivery that was proven: the only thing that can be sealed for the queue. Made by [`verify`] alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified {
    path: HookPath,
    scope: String,
    delivery_id: Option<String>,
    key_id: String,
    strength: Strength,
    received: Stamp,
    body: Bytes,
}

impl Verified {
    /// The hook's path: platform, connection and generation.
    pub fn path(&self) -> &HookPath {
        &self.path
    }

    /// The platform's own event name.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// What the platform calls the delivery, where it says. Not unique.
    pub fn delivery_id(&self) -> Option<&str> {
        self.delivery_id.as_deref()
    }

    /// The key that proved it.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// What the proof covers.
    pub fn strength(&self) -> Strength {
        self.strength
    }

    /// When API Gateway took the request.
    pub fn received(&self) -> Stamp {
        self.received
    }

    /// The bytes as they came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("path", &self.path)
            .field("scope", &self.scope)
            .field("key_id", &self.key_id)
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Proves one request that was sent to `path`, with any of the keys in `ring`.
///
/// # Errors
/// The [`Refusal`] that fits. The caller answers all of them alike.
pub fn verify(
    platform: &dyn Delivery,
    path: &HookPath,
    request: &RawRequest,
    ring: &KeyRing,
) -> Result<Verified, Refusal> {
    let scope = platform.scope(request).ok_or(Refusal::MissingScope)?;
    let bound_scope = platform.secret_per_scope().then_some(scope.as_str());
    let (key_id, strength) = match platform.scheme() {
        Scheme::Hmac(scheme) => {
            let secrets: Vec<_> = ring.iter().map(|key| key.webhook_secret(path, bound_scope)).collect();
            let secrets: Vec<_> = secrets.iter().map(|secret| secret.reveal()).collect();
            let index = scheme.verify(request, &secrets)?;
            (ring.iter().nth(index).map(|key| key.id().to_owned()), Strength::Body)
        }
    };
    Ok(Verified {
        path: path.clone(),
        scope,
        delivery_id: platform.delivery_id(request),
        key_id: key_id.ok_or(Refusal::WrongProof)?,
        strength,
        received: request.received,
        body: request.body.clone(),
    })
}
