//! Owns proof. Only this module makes a [`Verified`], so its holder knows that the request was proven; nothing else may
//! go on the queue.
//!
//! There is no default scheme, no way to switch verification off, and an empty key is an error.
//!
//! A verified request can be queued:
//!
//! ```
//! # use commerce::{envelope::Sealed, platform::delivery::Delivery, request::{WebhookPath, RawRequest}};
//! # use commerce::{scheme::Refusal, verify::{Material, verify}};
//! fn queue(
//!     platform: &dyn Delivery,
//!     path: &WebhookPath,
//!     request: &RawRequest,
//!     keys: &Material<'_>,
//! ) -> Result<Sealed, Refusal> {
//!     Ok(Sealed::from_verified(&verify(platform, path, request, keys)?, None))
//! }
//! ```
//!
//! An unverified request cannot, because that does not compile:
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
//!     Sealed::from_verified(request, None)
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
//! // Nor can the write half be put together by hand.
//! fn queue_by_hand(text: String) -> Sealed {
//!     Sealed { text, ..todo!() }
//! }
//! ```

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;

use crate::{
    apps::{App, Requirement},
    declaration::{Answer, Arrived, Examined, Sender},
    keys::{BroughtKey, KeyRing, WebhookSecret},
    platform::delivery::Delivery,
    request::{RawRequest, WebhookPath, has_too_many_values},
    scheme::{APP_KEY_ID, Refusal, Scheme, Strength, bearer, hmac, jwt, standard_webhooks},
    timestamp::Timestamp,
};

/// The material to check proofs with.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    /// The signing keys, from which secrets are derived.
    pub ring: &'a KeyRing,
    /// The app at this platform, where there is one.
    pub app: Option<&'a App>,
    /// The keys that the client of this connection brought; `None` when they were not read.
    pub brought: Option<&'a [BroughtKey]>,
    /// The time.
    pub now: Timestamp,
}

/// The topic (`scope`) of a delivery that names none, where the platform does not sign by topic.
pub const UNNAMED_SCOPE: &str = "unnamed";

/// A proven delivery, the only one that can be sealed for the queue. Only [`verify`] makes it.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified {
    path: WebhookPath,
    scope: String,
    delivery_id: Option<String>,
    user: Option<String>,
    key_id: String,
    strength: Strength,
    received: Timestamp,
    claims: BTreeMap<String, String>,
    body: Bytes,
}

impl Verified {
    /// Returns the webhook's path: platform, connection and generation.
    pub fn path(&self) -> &WebhookPath {
        &self.path
    }

    /// Returns the topic: the platform's own event name.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Returns the platform's id of the delivery, where it gives one. Not unique.
    pub fn delivery_id(&self) -> Option<&str> {
        self.delivery_id.as_deref()
    }

    /// Returns the user on whose account it happened, where the delivery says.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Returns the id of the key that proved it.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Returns the coverage of the proof.
    pub fn strength(&self) -> Strength {
        self.strength
    }

    /// Returns the time at which API Gateway took the request.
    pub fn received(&self) -> Timestamp {
        self.received
    }

    /// Returns the further claims of the proof.
    pub fn claims(&self) -> &BTreeMap<String, String> {
        &self.claims
    }

    /// Returns the received bytes.
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

/// The findings of a scheme.
struct Proof {
    key_id: String,
    strength: Strength,
    claims: BTreeMap<String, String>,
}

impl Proof {
    fn new(key_id: impl Into<String>, strength: Strength) -> Self {
        Self { key_id: key_id.into(), strength, claims: BTreeMap::new() }
    }
}

/// The result of a request of a declared sender.
#[derive(Debug)]
pub enum Arrival {
    /// A proven delivery.
    Delivery(Box<Verified>),
    /// A handshake, and its answer.
    Handshake(Answer),
}

/// Proves one request that was sent to `path`, as its sender's declaration says.
///
/// # Errors
/// The [`Refusal`] that fits. The caller answers all of them alike.
pub fn verify_declared(
    path: &WebhookPath,
    request: &RawRequest,
    sender: &Sender,
    now: Timestamp,
) -> Result<Arrival, Refusal> {
    let Sender { declaration, url, constants, account, keys } = sender;
    let RawRequest { method, target, headers, body, received } = request;
    // A generation has its own URL.
    if !url.ends_with(&path.to_string()) {
        return Err(Refusal::OtherConnection);
    }
    let arrived = Arrived { method: method.as_str(), target, url, headers, body, constants };
    let (proven, extracted) = match declaration.examine(&arrived, keys, now, None) {
        Examined::Delivery(proven, extracted) => (proven, extracted),
        Examined::Handshake(answer) => return Ok(Arrival::Handshake(answer)),
        Examined::Refused(refusal) => return Err(refusal),
    };
    // What is in parts names its account in each of them; the processor compares those.
    if account.is_some() && extracted.account.is_some() && extracted.account != *account {
        return Err(Refusal::OtherConnection);
    }
    Ok(Arrival::Delivery(Box::new(Verified {
        path: path.clone(),
        scope: extracted.topic.unwrap_or_else(|| UNNAMED_SCOPE.to_owned()),
        delivery_id: extracted.message,
        user: None,
        key_id: proven.key_id,
        strength: proven.strength,
        received: *received,
        claims: declaration.noted(&arrived),
        body: body.clone(),
    })))
}

/// Adds the headers that prove a request, made with a derived secret, for probes and samples.
///
/// Where the app's configuration requires the signature that only the platform and the app can make, it is made with
/// the app's secret, too. Without an `app` it is left out, and the secret header alone is the proof.
///
/// # Errors
/// [`Refusal::MalformedProof`] when a header cannot be made, [`Refusal::MissingProof`] when the scheme needs a header
/// that the request lacks, [`Refusal::NoApp`] when the app has no secret to sign with, [`Refusal::NotOurs`] when only
/// the platform can sign.
pub fn sign(
    scheme: Scheme,
    request: &mut RawRequest,
    secret: &WebhookSecret,
    claims: &serde_json::Map<String, serde_json::Value>,
    app: Option<&App>,
) -> Result<(), Refusal> {
    let secret = secret.reveal();
    let standard = |request: &RawRequest, scheme: standard_webhooks::StandardWebhooks, key: &[u8]| {
        let id = request.single_header(scheme.id).ok_or(Refusal::MissingProof)?;
        let at = request.single_header(scheme.timestamp).and_then(|at| at.parse().ok()).ok_or(Refusal::MissingProof)?;
        Ok(scheme.sign(key, id, at, &request.body))
    };
    let set = |request: &mut RawRequest, header: &'static str, value: String| {
        let mut value: http::HeaderValue = value.parse().map_err(|_| Refusal::MalformedProof)?;
        value.set_sensitive(true);
        request.headers.insert(http::HeaderName::from_static(header), value);
        Ok(())
    };
    let (header, value) = match scheme {
        Scheme::Hmac(scheme) => {
            let app_secret;
            let key = match scheme.keys {
                hmac::KeySource::Derived | hmac::KeySource::Brought => secret.as_bytes(),
                hmac::KeySource::AppSecret => {
                    app_secret = app.and_then(|app| app.client_secret.as_ref()).ok_or(Refusal::NoApp)?;
                    app_secret.as_bytes()
                }
            };
            (scheme.header, scheme.sign(key, &request.body))
        }
        Scheme::Signature(_) | Scheme::Declared => return Err(Refusal::NotOurs),
        Scheme::Jwt(scheme) => {
            let app_secret;
            let key = match scheme.keys {
                jwt::KeySource::Derived => secret.as_bytes(),
                jwt::KeySource::AppSecret => {
                    app_secret = app.and_then(|app| app.client_secret.as_ref()).ok_or(Refusal::NoApp)?;
                    app_secret.as_bytes()
                }
                jwt::KeySource::AppPublicKeys => return Err(Refusal::NotOurs),
            };
            let token = scheme.rules.sign(claims, key)?;
            (scheme.headers.first().copied().unwrap_or("authorization"), format!("{}{token}", scheme.prefix))
        }
        Scheme::Bearer(scheme) => (scheme.header, format!("Bearer {secret}")),
        Scheme::StandardWebhooks(scheme) => (scheme.signature, standard(request, scheme, secret.as_bytes())?),
        Scheme::AppSigned { signature, header } => {
            let required = |app: &&App| matches!(app.require, Requirement::Signature | Requirement::Both);
            if let Some(app) = app.filter(required) {
                let key = app.client_secret.as_ref().ok_or(Refusal::NoApp)?;
                let value = standard(request, signature, key.as_bytes())?;
                set(request, signature.signature, value)?;
            }
            (header, secret.to_owned())
        }
    };
    set(request, header, value)
}

/// Proves one request that was sent to `path`, with any of the given keys. It reads nothing of the body before that.
///
/// # Errors
/// The [`Refusal`] that fits. The caller answers all of them alike.
pub fn verify(
    platform: &dyn Delivery,
    path: &WebhookPath,
    request: &RawRequest,
    keys: &Material<'_>,
) -> Result<Verified, Refusal> {
    if !platform.methods().contains(&request.method) {
        return Err(Refusal::Method);
    }
    // Where each topic has its own secret, the topic is in a header and part of the proof.
    let bound = match platform.secret_per_scope() {
        true => Some(platform.scope(request).ok_or(Refusal::MissingScope)?),
        false => None,
    };
    let derived: Vec<(&str, WebhookSecret)> =
        keys.ring.iter().map(|key| (key.id(), key.webhook_secret(path, bound.as_deref()))).collect();
    let proof = prove(platform.scheme(), request, &derived, keys)?;
    // A body that would take too much memory is not read here; the processor puts it aside.
    let unread;
    let request = if has_too_many_values(&request.body) {
        unread = RawRequest { body: Bytes::new(), ..request.clone() };
        (&unread, &request.body)
    } else {
        (request, &request.body)
    };
    let (request, body) = request;
    if !platform.belongs(path, request) {
        return Err(Refusal::OtherConnection);
    }
    let scope = bound.or_else(|| platform.scope(request)).unwrap_or_else(|| UNNAMED_SCOPE.to_owned());
    Ok(Verified {
        path: path.clone(),
        scope,
        delivery_id: platform.delivery_id(request),
        user: platform.user(request),
        key_id: proof.key_id,
        strength: proof.strength,
        received: request.received,
        claims: platform.noted(request).into_iter().chain(proof.claims).collect(),
        body: body.clone(),
    })
}

fn prove(
    scheme: Scheme,
    request: &RawRequest,
    derived: &[(&str, WebhookSecret)],
    keys: &Material<'_>,
) -> Result<Proof, Refusal> {
    let secrets: Vec<&str> = derived.iter().map(|(_, secret)| secret.reveal()).collect();
    let id_of = |place: usize| derived.get(place).map(|(id, _)| (*id).to_owned()).unwrap_or_default();
    match scheme {
        Scheme::Hmac(scheme) => prove_by_hmac(scheme, request, derived, keys),
        // Such a request goes through `verify_declared`, which has the sender's keys.
        Scheme::Declared => Err(Refusal::EmptyKey),
        Scheme::Signature(scheme) => {
            let jwks = keys.app.and_then(|app| app.jwks.as_ref()).ok_or(Refusal::NoApp)?;
            Ok(Proof::new(scheme.verify(request, &jwt::PublicKeys::from_jwks(jwks)?)?, Strength::Body))
        }
        Scheme::Jwt(scheme) => {
            let token = scheme.token(request)?;
            let verified = match scheme.keys {
                jwt::KeySource::Derived => {
                    let secrets = derived.iter().map(|(id, secret)| (*id, secret.reveal().as_bytes())).collect();
                    scheme.rules.verify(token, &jwt::Keys::Secrets(secrets), keys.now)?
                }
                jwt::KeySource::AppSecret => {
                    let secret = keys.app.and_then(|app| app.client_secret.as_ref()).ok_or(Refusal::NoApp)?;
                    let secrets = vec![(APP_KEY_ID, secret.as_bytes())];
                    scheme.rules.verify(token, &jwt::Keys::Secrets(secrets), keys.now)?
                }
                jwt::KeySource::AppPublicKeys => {
                    let jwks = keys.app.and_then(|app| app.jwks.as_ref()).ok_or(Refusal::NoApp)?;
                    let public = jwt::PublicKeys::from_jwks(jwks)?;
                    scheme.rules.verify(token, &jwt::Keys::Public(&public), keys.now)?
                }
            };
            let sealed = scheme.sealed.iter();
            let claims =
                sealed.filter_map(|name| Some(((*name).to_owned(), verified.text(name)?.to_owned()))).collect();
            Ok(Proof { claims, ..Proof::new(verified.key_id.clone(), Strength::Caller) })
        }
        Scheme::Bearer(scheme) => match (scheme.verify(request, &secrets), keys.brought) {
            (Ok(place), _) => Ok(Proof::new(id_of(place), Strength::Caller)),
            (Err(Refusal::WrongProof), Some(brought)) => {
                Ok(Proof::new(scheme.verify_brought(request, brought)?, Strength::Caller))
            }
            (Err(refusal), _) => Err(refusal),
        },
        Scheme::StandardWebhooks(scheme) => {
            let secrets: Vec<&[u8]> = secrets.iter().map(|secret| secret.as_bytes()).collect();
            match scheme.verify(request, &secrets, keys.now)? {
                signed if signed.fresh => Ok(Proof::new(id_of(signed.key), Strength::Body)),
                _ => Err(Refusal::Stale),
            }
        }
        Scheme::AppSigned { signature, header } => {
            let by_header = secret_header(header, request, &secrets).map(id_of);
            let by_signature = app_signature(signature, request, keys);
            app_signed(keys.app.map(|app| app.require).unwrap_or_default(), by_header, by_signature)
        }
    }
}

/// Proves a request by a code over its body, with the keys of the scheme's source.
fn prove_by_hmac(
    scheme: hmac::Hmac,
    request: &RawRequest,
    derived: &[(&str, WebhookSecret)],
    keys: &Material<'_>,
) -> Result<Proof, Refusal> {
    let by = |keys: Vec<(&str, &str)>| {
        let secrets: Vec<&str> = keys.iter().map(|(_, secret)| *secret).collect();
        let place = scheme.verify(request, &secrets)?;
        Ok(Proof::new(keys.get(place).map(|(id, _)| *id).unwrap_or_default(), Strength::Body))
    };
    let derived = || derived.iter().map(|(id, secret)| (*id, secret.reveal())).collect();
    match scheme.keys {
        hmac::KeySource::Derived => by(derived()),
        hmac::KeySource::AppSecret => {
            by(keys.app.filter(|app| app.client_secret.is_some()).ok_or(Refusal::NoApp)?.secrets().collect())
        }
        hmac::KeySource::Brought => {
            let brought = keys.brought.unwrap_or_default().iter();
            let brought = brought.filter_map(|key| Some((key.id.as_str(), key.secret.as_ref()?.as_str())));
            by(brought.chain(derived()).collect())
        }
    }
}

/// Returns the position of the derived secret that a header holds.
fn secret_header(header: &str, request: &RawRequest, secrets: &[&str]) -> Result<usize, Refusal> {
    if !request.headers.contains_key(header) {
        return Err(Refusal::MissingProof);
    }
    let given = request.single_header(header).ok_or(Refusal::MalformedProof)?;
    let found = secrets
        .iter()
        .enumerate()
        .fold(None, |found, (place, secret)| if bearer::is_secret(given, secret) { Some(place) } else { found });
    found.ok_or(Refusal::WrongProof)
}

/// Checks the app's signature, and returns whether it is fresh.
fn app_signature(
    scheme: standard_webhooks::StandardWebhooks,
    request: &RawRequest,
    keys: &Material<'_>,
) -> Result<bool, Refusal> {
    if !scheme.is_present(request) {
        return Err(Refusal::MissingProof);
    }
    let secret = keys.app.and_then(|app| app.client_secret.as_ref()).ok_or(Refusal::NoApp)?;
    scheme.verify(request, &[secret.as_bytes()], keys.now).map(|signed| signed.fresh)
}

/// Combines the two proofs. A required proof must be right; the other one can only help.
///
/// The other one may be wrong for the platform's own reasons: no page says whether the app's secret signs for a token
/// that belongs to one store. A stale signature alone proves nothing; with the right header it is a retry, and proves
/// only the caller.
fn app_signed(
    require: Requirement,
    by_header: Result<String, Refusal>,
    by_signature: Result<bool, Refusal>,
) -> Result<Proof, Refusal> {
    match (require, by_header, by_signature) {
        (_, Ok(key), Ok(fresh)) => Ok(Proof::new(key, if fresh { Strength::Body } else { Strength::Caller })),
        (Requirement::Either | Requirement::Header, Ok(key), Err(_)) => Ok(Proof::new(key, Strength::Caller)),
        (Requirement::Either | Requirement::Signature, Err(_), Ok(true)) => Ok(Proof::new(APP_KEY_ID, Strength::Body)),
        (Requirement::Either | Requirement::Signature, Err(_), Ok(false)) => Err(Refusal::Stale),
        (Requirement::Signature | Requirement::Both, _, Err(refusal)) => Err(refusal),
        // The header is missing or wrong; if the signature is wrong, too, newer keys may repair that.
        (_, Err(Refusal::MissingProof), Err(refusal)) => Err(refusal),
        (_, Err(refusal), _) => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
    use serde_json::json;

    use super::{standard_webhooks::STANDARD_HEADERS, *};
    use crate::apps::Apps;

    const HEADER: &str = "x-key";
    const SECRET: &str = "the-app's-client-secret";
    const NOW: i64 = 1_800_000_000;

    struct Signed;

    impl Delivery for Signed {
        fn probe(&self, _: &WebhookPath, _: Timestamp) -> crate::platform::delivery::Probe {
            crate::platform::delivery::Probe::default()
        }
        fn scope(&self, _: &RawRequest) -> Option<String> {
            None
        }
        fn delivery_id(&self, _: &RawRequest) -> Option<String> {
            None
        }
        fn scheme(&self) -> Scheme {
            Scheme::AppSigned { signature: STANDARD_HEADERS, header: HEADER }
        }
        fn accepted(&self) -> StatusCode {
            StatusCode::OK
        }
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Part {
        None,
        Right,
        Stale,
        Wrong,
    }

    fn proven(require: &str, header: Part, signature: Part) -> Result<Strength, Refusal> {
        let ring = KeyRing::parse("0123456789abcdef0123456789abcdef").unwrap();
        let path = WebhookPath::parse("signed", "store", None).unwrap();
        let apps = json!({ "bigcommerce": { "client_id": "id", "client_secret": SECRET, "require": require } });
        let apps = Apps::parse(&apps.to_string(), |_| true).unwrap();
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        };
        let derived = ring.signing().webhook_secret(&path, None);
        match header {
            Part::None => {}
            Part::Wrong => set(HEADER, "something else"),
            Part::Right | Part::Stale => set(HEADER, derived.reveal()),
        }
        if signature != Part::None {
            let at = if signature == Part::Stale { NOW - 21_600 } else { NOW };
            let secret = if signature == Part::Wrong { "another secret" } else { SECRET };
            set("webhook-id", "msg_1");
            set("webhook-timestamp", &at.to_string());
            set("webhook-signature", &STANDARD_HEADERS.sign(secret.as_bytes(), "msg_1", at, b"{}"));
        }
        let request = RawRequest {
            target: String::new(),
            method: Method::POST,
            headers,
            body: "{}".into(),
            received: Timestamp::from_micros(0),
        };
        let now = Timestamp::from_millis(NOW * 1000);
        let keys = Material { ring: &ring, app: apps.get("bigcommerce"), brought: None, now };
        verify(&Signed, &path, &request, &keys).map(|verified| verified.strength())
    }

    #[test]
    fn which_of_signature_and_header_is_required_is_configuration_and_one_always_is() {
        use Part::{None as Absent, Right, Stale, Wrong};
        use Refusal::{MissingProof, Stale as TooOld, WrongProof};
        let (body, caller) = (Ok(Strength::Body), Ok(Strength::Caller));
        for (header, signature, either, by_signature, by_header, both) in [
            (Right, Right, body, body, body, body),
            (Right, Absent, caller, Err(MissingProof), caller, Err(MissingProof)),
            (Absent, Right, body, body, Err(MissingProof), Err(MissingProof)),
            (Absent, Absent, Err(MissingProof), Err(MissingProof), Err(MissingProof), Err(MissingProof)),
            // A retry that carries the first try's timestamp.
            (Right, Stale, caller, caller, caller, caller),
            (Absent, Stale, Err(TooOld), Err(TooOld), Err(MissingProof), Err(MissingProof)),
            // A proof that is not required does no harm when it is wrong.
            (Wrong, Right, body, body, Err(WrongProof), Err(WrongProof)),
            (Right, Wrong, caller, Err(WrongProof), caller, Err(WrongProof)),
            (Wrong, Wrong, Err(WrongProof), Err(WrongProof), Err(WrongProof), Err(WrongProof)),
            (Absent, Wrong, Err(WrongProof), Err(WrongProof), Err(WrongProof), Err(WrongProof)),
            (Wrong, Absent, Err(WrongProof), Err(MissingProof), Err(WrongProof), Err(MissingProof)),
            (Wrong, Stale, Err(TooOld), Err(TooOld), Err(WrongProof), Err(WrongProof)),
        ] {
            let proven = |require| proven(require, header, signature);
            assert_eq!(proven("either"), either);
            assert_eq!(proven("signature"), by_signature);
            assert_eq!(proven("header"), by_header);
            assert_eq!(proven("both"), both);
        }
    }

    #[test]
    fn an_app_without_a_secret_proves_nothing_by_signature() {
        assert!(Apps::parse(r#"{"bigcommerce":{"client_secret":""}}"#, |_| true).is_err());
        assert!(
            Apps::parse(r#"{"bigcommerce":{"secret":"x"}}"#, |_| true).is_err(),
            "a misspelt name must not be taken for no secret"
        );
        assert!(Apps::parse("", |_| true).unwrap().get("bigcommerce").is_none());
        assert!(Apps::parse("{}", |_| true).unwrap().get("bigcommerce").is_none());
    }

    /// A platform that proves its deliveries by one scheme.
    struct By(Scheme);

    impl Delivery for By {
        fn probe(&self, _: &WebhookPath, _: Timestamp) -> crate::platform::delivery::Probe {
            crate::platform::delivery::Probe::default()
        }
        fn scope(&self, _: &RawRequest) -> Option<String> {
            None
        }
        fn delivery_id(&self, _: &RawRequest) -> Option<String> {
            None
        }
        fn scheme(&self) -> Scheme {
            self.0
        }
    }

    #[test]
    fn a_code_is_made_with_the_key_of_the_schemes_source_alone() {
        use hmac::{Algorithm, Encoding, Hmac, KeySource};
        let hmac =
            |keys| Hmac { header: HEADER, algorithm: Algorithm::Sha256, encoding: Encoding::Hex, prefix: "", keys };
        let ring = KeyRing::parse("0123456789abcdef0123456789abcdef").unwrap();
        let path = WebhookPath::parse("signed", "store", None).unwrap();
        let apps = json!({ "shop": { "client_secret": SECRET } });
        let apps = Apps::parse(&apps.to_string(), |_| true).unwrap();
        let derived = ring.signing().webhook_secret(&path, None);
        let brought = [BroughtKey::with_secret("the sender's own secret")];
        let signing = ring.signing().id();
        for (source, secret, key_id) in [
            (KeySource::Derived, derived.reveal(), Ok(signing)),
            (KeySource::Derived, SECRET, Err(Refusal::WrongProof)),
            (KeySource::AppSecret, SECRET, Ok(APP_KEY_ID)),
            (KeySource::AppSecret, derived.reveal(), Err(Refusal::WrongProof)),
            (KeySource::Brought, "the sender's own secret", Ok(brought[0].id.as_str())),
            (KeySource::Brought, derived.reveal(), Ok(signing)),
            (KeySource::Brought, SECRET, Err(Refusal::WrongProof)),
        ] {
            let scheme = hmac(source);
            let mut headers = HeaderMap::new();
            let code = scheme.sign(secret.as_bytes(), b"{}");
            headers.insert(HeaderName::from_static(HEADER), HeaderValue::from_str(&code).unwrap());
            let request = RawRequest {
                target: String::new(),
                method: Method::POST,
                headers,
                body: "{}".into(),
                received: Timestamp::from_micros(0),
            };
            let now = Timestamp::from_millis(NOW * 1000);
            let keys = Material { ring: &ring, app: apps.get("shop"), brought: Some(&brought), now };
            let verified = verify(&By(Scheme::Hmac(scheme)), &path, &request, &keys);
            let proven = verified.map(|verified| (verified.key_id().to_owned(), verified.strength()));
            assert_eq!(proven, key_id.map(|id| (id.to_owned(), Strength::Body)), "{source:?}");
            let without = Material { ring: &ring, app: None, brought: None, now };
            let refused = verify(&By(Scheme::Hmac(scheme)), &path, &request, &without).err();
            match source {
                KeySource::Derived => assert_eq!(refused, key_id.err()),
                KeySource::AppSecret => assert_eq!(refused, Some(Refusal::NoApp)),
                KeySource::Brought => assert_eq!(refused.is_some(), key_id != Ok(signing)),
            }
            // A probe as we would send it proves itself.
            let mut probe = RawRequest { headers: HeaderMap::new(), ..request };
            sign(Scheme::Hmac(scheme), &mut probe, &derived, &serde_json::Map::new(), apps.get("shop")).unwrap();
            assert!(verify(&By(Scheme::Hmac(scheme)), &path, &probe, &keys).is_ok());
        }
        assert!(!format!("{brought:?}").contains("secret"), "a brought key is never printed");
    }

    #[test]
    fn a_signature_is_checked_with_the_apps_public_keys() {
        use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
        use base64::{
            Engine,
            engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
        };
        let pair = Ed25519KeyPair::generate().unwrap();
        let jwk = json!({
            "kty": "OKP", "crv": "Ed25519", "kid": "platform-1", "x": URL_SAFE_NO_PAD.encode(pair.public_key()),
        });
        let apps = json!({ "shop": { "jwks": { "keys": [jwk] } } });
        let apps = Apps::parse(&apps.to_string(), |_| true).unwrap();
        let scheme = crate::scheme::signature::Signature {
            header: HEADER,
            algorithm: jwt::Algorithm::EdDSA,
            encoding: hmac::Encoding::Base64,
            prefix: "",
        };
        let ring = KeyRing::parse("0123456789abcdef0123456789abcdef").unwrap();
        let path = WebhookPath::parse("signed", "store", None).unwrap();
        let proven = |signed: &[u8], app| {
            let mut headers = HeaderMap::new();
            let signature = STANDARD.encode(pair.sign(signed));
            headers.insert(HeaderName::from_static(HEADER), HeaderValue::from_str(&signature).unwrap());
            let request = RawRequest {
                target: String::new(),
                method: Method::POST,
                headers,
                body: "{}".into(),
                received: Timestamp::from_micros(0),
            };
            let keys = Material { ring: &ring, app, brought: None, now: Timestamp::from_millis(NOW * 1000) };
            let verified = verify(&By(Scheme::Signature(scheme)), &path, &request, &keys)?;
            Ok((verified.key_id().to_owned(), verified.strength()))
        };
        assert_eq!(proven(b"{}", apps.get("shop")), Ok(("platform-1".to_owned(), Strength::Body)));
        assert_eq!(proven(b"{ }", apps.get("shop")), Err(Refusal::WrongProof));
        assert_eq!(proven(b"{}", None), Err(Refusal::NoApp));
        assert!(!Scheme::Signature(scheme).can_sign());
    }

    #[test]
    fn a_signature_of_long_ago_proves_nothing() {
        let ring = KeyRing::parse("0123456789abcdef0123456789abcdef").unwrap();
        let path = WebhookPath::parse("signed", "store", None).unwrap();
        let derived = ring.signing().webhook_secret(&path, None);
        let scheme = Scheme::StandardWebhooks(STANDARD_HEADERS);
        for (at, expected) in [(NOW, Ok(Strength::Body)), (NOW - 21_600, Err(Refusal::Stale))] {
            let mut headers = HeaderMap::new();
            headers.insert("webhook-id", HeaderValue::from_static("msg_1"));
            headers.insert("webhook-timestamp", HeaderValue::from(at));
            let mut request = RawRequest {
                target: String::new(),
                method: Method::POST,
                headers,
                body: "{}".into(),
                received: Timestamp::from_micros(0),
            };
            sign(scheme, &mut request, &derived, &serde_json::Map::new(), None).unwrap();
            let now = Timestamp::from_millis(NOW * 1000);
            let keys = Material { ring: &ring, app: None, brought: None, now };
            let proven = verify(&By(scheme), &path, &request, &keys).map(|verified| verified.strength());
            assert_eq!(proven, expected, "{at}");
        }
    }

    /// A platform that tells who did it.
    struct Told;

    impl Delivery for Told {
        fn probe(&self, _: &WebhookPath, _: Timestamp) -> crate::platform::delivery::Probe {
            crate::platform::delivery::Probe::default()
        }
        fn scope(&self, request: &RawRequest) -> Option<String> {
            std::str::from_utf8(&request.body).ok().map(|body| format!("{} bytes", body.len()))
        }
        fn delivery_id(&self, _: &RawRequest) -> Option<String> {
            Some("delivery-1".to_owned())
        }
        fn user(&self, _: &RawRequest) -> Option<String> {
            Some("user-1".to_owned())
        }
        fn scheme(&self) -> Scheme {
            Scheme::Bearer(bearer::Bearer { header: HEADER })
        }
    }

    #[test]
    fn what_is_proven_is_what_came() {
        let ring = KeyRing::parse("0123456789abcdef0123456789abcdef").unwrap();
        let path = WebhookPath::parse("signed", "store", None).unwrap();
        let derived = ring.signing().webhook_secret(&path, None);
        let now = Timestamp::from_millis(NOW * 1000);
        let proven = |body: String| {
            let mut request = RawRequest {
                target: String::new(),
                method: Method::POST,
                headers: HeaderMap::new(),
                body: body.into(),
                received: now,
            };
            sign(Told.scheme(), &mut request, &derived, &serde_json::Map::new(), None).unwrap();
            let keys = Material { ring: &ring, app: None, brought: None, now };
            verify(&Told, &path, &request, &keys).unwrap()
        };
        let verified = proven(r#"{"person":"Perpetua"}"#.to_owned());
        assert_eq!(verified.path(), &path);
        assert_eq!((verified.scope(), verified.delivery_id()), ("21 bytes", Some("delivery-1")));
        assert_eq!((verified.user(), verified.received()), (Some("user-1"), now));
        assert_eq!(verified.body(), r#"{"person":"Perpetua"}"#);
        let printed = format!("{verified:?}");
        assert!(printed.contains("21 bytes") && !printed.contains("Perpetua"), "{printed}");
        // A body of too many values is kept, but the platform does not read it.
        let many = format!("[{}1]", "1,".repeat(60_000));
        let verified = proven(many.clone());
        assert_eq!((verified.scope(), verified.body().len()), ("0 bytes", many.len()));
    }

    #[test]
    fn a_declared_sender_is_proven_at_its_address_and_for_its_account() {
        use crate::declaration::{Declaration, Key, Sender};
        let declaration = json!({
            "sender": "A",
            "proof": { "signed": {
                "algorithm": "hmac-sha256", "text": "{body}", "at": { "header": "X-Sign" }, "encoding": "hex",
            } },
            "extract": { "topic": ["{json:/topic}"], "account": ["{json:/account}"] },
        });
        let sender = |account: Option<&str>| Sender {
            declaration: Declaration::read(declaration.clone()).unwrap(),
            url: "https://hooks.example.com/hooks/custom/store".to_owned(),
            constants: BTreeMap::new(),
            account: account.map(str::to_owned),
            keys: vec![Key { id: "k1".to_owned(), text: SECRET.to_owned().into() }],
        };
        let came = |path: &str, sender: &Sender, body: &str| {
            let path = WebhookPath::parse("custom", path, None).unwrap();
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
            let code = hex::encode(aws_lc_rs::hmac::sign(&key, body.as_bytes()));
            let mut headers = HeaderMap::new();
            headers.insert("x-sign", HeaderValue::from_str(&code).unwrap());
            let now = Timestamp::from_millis(NOW * 1000);
            let request = RawRequest {
                target: path.to_string(),
                method: Method::POST,
                headers,
                body: body.to_owned().into(),
                received: now,
            };
            match verify_declared(&path, &request, sender, now)? {
                Arrival::Delivery(verified) => Ok((verified.key_id().to_owned(), verified.scope().to_owned())),
                Arrival::Handshake(_) => unreachable!("no handshake was declared"),
            }
        };
        let of = |topic: &str| Ok(("k1".to_owned(), topic.to_owned()));
        let (ours, any) = (sender(Some("a1")), sender(None));
        assert_eq!(came("store", &ours, r#"{"topic":"t","account":"a1"}"#), of("t"));
        assert_eq!(came("store", &ours, r#"{"topic":"t","account":"a2"}"#), Err(Refusal::OtherConnection));
        assert_eq!(came("store", &ours, r#"{"account":"a1"}"#), of(UNNAMED_SCOPE));
        // What is in parts names its account in each of them.
        assert_eq!(came("store", &ours, r#"{"topic":"t"}"#), of("t"));
        assert_eq!(came("store", &any, r#"{"topic":"t","account":"a2"}"#), of("t"));
        assert_eq!(came("another", &any, r#"{"topic":"t"}"#), Err(Refusal::OtherConnection));
    }
}
