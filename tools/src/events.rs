//! The sample events: signed API Gateway requests, recorded from a real store, and the resulting SQS events.
//!
//! The files in `events/` are signed with the sample key below, which the local AWS accepts beside its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use commerce::{
    apps::App,
    envelope::Sealed,
    keys::KeyRing,
    platform::{Platform, find},
    platforms::PLATFORMS,
    request::{RawRequest, WebhookPath},
    scheme::{Scheme, hmac::KeySource, jwt::unproven_claims},
    timestamp::Timestamp,
    verify::{Material, sign, verify},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

/// The id of the key that the sample events are signed with.
pub const SAMPLE_KEY_ID: &str = "sample";
/// The key that the sample events are signed with. It is public: only the local AWS accepts it.
pub const SAMPLE_KEY: &str = "commerce-hooks-sample-key--public--never-deploy-it";

/// Returns the ring that the sample events are signed with.
pub fn sample_ring() -> KeyRing {
    let text = json!({ "keys": [{ "id": SAMPLE_KEY_ID, "state": "sign", "secret": SAMPLE_KEY }] }).to_string();
    match KeyRing::parse(&text) {
        Ok(ring) => ring,
        Err(error) => unreachable!("the sample key is no key: {error}"),
    }
}

/// Returns the secret of the sample app at a platform where every store signs with the app's own secret. It follows from
/// the ring, so that it is as public as the sample key.
pub fn sample_app_secret(ring: &KeyRing, platform: &str) -> String {
    let path = WebhookPath::parse(platform, "app", None);
    path.map(|path| ring.signing().webhook_secret(&path, None).reveal().to_owned()).unwrap_or_default()
}

/// Returns the sample app at a platform whose signature alone proves, and `None` where a derived secret does.
fn sample_app(ring: &KeyRing, platform: &Platform) -> Option<App> {
    let Scheme::Hmac(scheme) = platform.delivery.scheme() else { return None };
    let secret = (scheme.keys == KeySource::AppSecret).then(|| sample_app_secret(ring, platform.name))?;
    serde_json::from_value(json!({ "client_id": "sample", "client_secret": secret })).ok()
}

/// One sample event.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// The name of its file, without the ending.
    pub name: String,
    /// The API Gateway event, payload format 2.0.
    pub request: Value,
}

/// Returns the folder of a platform's sample events.
pub fn folder(platform: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../events").join(platform)
}

/// Reads all sample events of a platform in the order of their names, which is the order in which they were sent.
///
/// # Errors
/// Returns an error if the folder or a file cannot be read.
pub fn load(platform: &str) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    for entry in fs::read_dir(folder(platform))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else { continue };
        if !name.ends_with(".sqs") {
            events.push(Event { name: name.to_owned(), request: serde_json::from_slice(&fs::read(&path)?)? });
        }
    }
    events.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(events)
}

impl Event {
    /// Returns the path and the query as they are received.
    fn target(&self) -> String {
        let text = |name: &str| self.request[name].as_str().unwrap_or_default();
        match text("rawQueryString") {
            "" => text("rawPath").to_owned(),
            query => format!("{}?{query}", text("rawPath")),
        }
    }

    /// Returns the request as the receiver sees it.
    pub fn raw(&self) -> RawRequest {
        let mut headers = HeaderMap::new();
        for (name, value) in self.request["headers"].as_object().into_iter().flatten() {
            let name = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_str(value.as_str().unwrap_or_default());
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        let method = self.request["requestContext"]["http"]["method"].as_str().unwrap_or("POST");
        let received = self.request["requestContext"]["timeEpoch"].as_i64().unwrap_or_default();
        RawRequest {
            target: self.target(),
            method: method.parse().unwrap_or(Method::POST),
            headers,
            body: Bytes::from(self.body().to_owned()),
            received: Timestamp::from_millis(received),
        }
    }

    /// Returns the body as it was sent.
    pub fn body(&self) -> &str {
        self.request["body"].as_str().unwrap_or_default()
    }

    /// Returns the webhook's path.
    pub fn path(&self) -> Option<WebhookPath> {
        let part = |name: &str| self.request["pathParameters"][name].as_str();
        WebhookPath::parse(part("platform")?, part("connection")?, part("generation"))
    }

    fn platform(&self) -> Option<&'static Platform> {
        find(PLATFORMS, &self.path()?.key.platform)
    }

    /// Returns the topic, if the request names one.
    pub fn scope(&self) -> Option<String> {
        self.platform()?.delivery.scope(&self.raw())
    }

    /// Signs the request with the ring's signing key. Leaves a handshake as it is. Leaves out a signature that only the
    /// platform can make with a secret of its own; then the secret header alone is the proof.
    pub fn sign(&mut self, ring: &KeyRing) {
        let (Some(path), Some(platform), raw) = (self.path(), self.platform(), self.raw()) else { return };
        let delivery = platform.delivery;
        let bound = match delivery.secret_per_scope() {
            true => match delivery.scope(&raw) {
                Some(scope) => Some(scope),
                None => return,
            },
            false => None,
        };
        let secret = ring.signing().webhook_secret(&path, bound.as_deref());
        // The claims come from the present token.
        let claims = match delivery.scheme() {
            Scheme::Jwt(scheme) => scheme.token(&raw).and_then(unproven_claims).unwrap_or_default(),
            _ => serde_json::Map::new(),
        };
        let before = raw.headers.clone();
        let mut raw = raw;
        let app = sample_app(ring, platform);
        if sign(delivery.scheme(), &mut raw, &secret, &claims, app.as_ref()).is_err() {
            return;
        }
        for (name, value) in raw.headers.iter().filter(|(name, value)| before.get(*name) != Some(*value)) {
            self.request["headers"][name.as_str()] = value.to_str().unwrap_or_default().into();
        }
        self.request["headers"]["content-length"] = raw.body.len().to_string().into();
    }

    /// Returns the message that the receiver makes of it. Returns `None` for a handshake, and if no key of the ring has
    /// signed it.
    pub fn sealed(&self, ring: &KeyRing) -> Option<Sealed> {
        let raw = self.raw();
        let platform = self.platform()?;
        let app = sample_app(ring, platform);
        let keys = Material { ring, app: app.as_ref(), brought: None, now: raw.received };
        let verified = verify(platform.delivery, &self.path()?, &raw, &keys).ok()?;
        Some(Sealed::from_verified(&verified, self.request["requestContext"]["requestId"].as_str()))
    }

    /// Returns the resulting SQS event.
    pub fn sqs(&self, ring: &KeyRing) -> Option<Value> {
        let sealed = self.sealed(ring)?;
        let sent = self.request["requestContext"]["timeEpoch"].to_string();
        Some(json!({ "Records": [{
            "messageId": format!("sample-{}", self.name),
            "receiptHandle": format!("sample-{}", self.name),
            "body": sealed.text(),
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": sent,
                "MessageGroupId": sealed.group(),
            },
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:sample",
            "awsRegion": "us-east-1",
        }] }))
    }
}

/// Returns the names of a platform's files, with the text that each should have.
///
/// # Errors
/// Returns an error if the folder or a file cannot be read.
pub fn files(platform: &str) -> io::Result<Vec<(String, String)>> {
    let ring = sample_ring();
    let mut files = Vec::new();
    let mut add = |name: String, value: &Value| -> io::Result<()> {
        files.push((name, serde_json::to_string_pretty(value)? + "\n"));
        Ok(())
    };
    for mut event in load(platform)? {
        event.sign(&ring);
        add(format!("{}.json", event.name), &event.request)?;
        if let Some(sqs) = event.sqs(&ring) {
            add(format!("{}.sqs.json", event.name), &sqs)?;
        }
    }
    Ok(files)
}
