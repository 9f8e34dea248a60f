//! The receiver's part of BigCommerce.

use std::time::Duration;

use serde_json::{Map, json};

use super::wire;
use crate::{
    platform::delivery::{Delivery, PROBE, Probe},
    platforms::bigcommerce::BigCommerce,
    request::{RawRequest, WebhookPath},
    scheme::{Scheme, standard_webhooks::STANDARD_HEADERS},
    timestamp::Timestamp,
};

/// The header that webhooks are made with. Its value is this connection's derived secret.
pub const SECRET_HEADER: &str = "x-commerce-hooks-key";

impl Delivery for BigCommerce {
    /// Returns ten seconds, as integrators report; it is not documented.
    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Returns the topic (`scope`) in the callback, which is the event itself even for a webhook for `store/order/*`.
    fn scope(&self, request: &RawRequest) -> Option<String> {
        let scope = wire::callback(&request.body).ok()?.scope?;
        (1..=200).contains(&scope.len()).then_some(scope)
    }

    fn probe(&self, path: &WebhookPath, now: Timestamp) -> Probe {
        let producer = format!("stores/{}", path.key.connection);
        let body = json!({ "scope": PROBE, "producer": producer, "data": {}, "created_at": now.seconds() });
        Probe { headers: Vec::new(), body: body.to_string(), claims: Map::new() }
    }

    fn delivery_id(&self, request: &RawRequest) -> Option<String> {
        let id = request.single_header(STANDARD_HEADERS.id)?;
        (1..=200).contains(&id.len()).then(|| id.to_owned())
    }

    /// Returns the scheme. The signature's key is the app's client secret as it is: the samples encode it in base64
    /// only because their library decodes it [`https-webhook-overview.mdx`, "Security"].
    fn scheme(&self) -> Scheme {
        Scheme::AppSigned { signature: STANDARD_HEADERS, header: SECRET_HEADER }
    }

    /// Returns whether `producer`, `stores/{hash}`, names the path's connection. Nothing else does, because the app's
    /// key is the same for all stores.
    fn belongs(&self, path: &WebhookPath, request: &RawRequest) -> bool {
        let Ok(callback) = wire::callback(&request.body) else { return true };
        let hash = callback.producer.as_deref().and_then(|producer| producer.strip_prefix("stores/"));
        // Connection ids are in lower case.
        hash.is_some_and(|hash| hash.eq_ignore_ascii_case(path.key.connection.as_str()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::{
        apps::App,
        keys::KeyRing,
        scheme::{Refusal, Strength},
        timestamp::Timestamp,
        verify::{Material, verify},
    };

    const AT: i64 = 1_760_000_005;
    const APP_SECRET: &str = "bc_client_secret_example_0001";
    const BODY: &str = r#"{"scope":"store/order/created","store_id":"1000000001","data":{"type":"order","id":4711},"hash":"0000000000000000000000000000000000000001","created_at":1760000000,"producer":"stores/abc123"}"#;

    fn request(body: &str, headers: &[(&'static str, &str)]) -> RawRequest {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        let headers = HeaderMap::from_iter(headers);
        let body = Bytes::copy_from_slice(body.as_bytes());
        RawRequest { target: String::new(), method: Method::POST, headers, body, received: Timestamp::from_micros(0) }
    }

    fn path(connection: &str) -> WebhookPath {
        WebhookPath::parse("bigcommerce", connection, None).unwrap()
    }

    #[test]
    fn scope_and_id_are_read_from_body_and_header() {
        let full = request(BODY, &[("webhook-id", "msg_1")]);
        assert_eq!(BigCommerce.scope(&full).as_deref(), Some("store/order/created"));
        assert_eq!(BigCommerce.delivery_id(&full).as_deref(), Some("msg_1"));
        for body in ["", "[]", "{}", r#"{"scope":5}"#, r#"{"scope":""}"#, "\u{0}"] {
            assert_eq!(BigCommerce.scope(&request(body, &[])), None, "{body}");
        }
        assert_eq!(BigCommerce.delivery_id(&request(BODY, &[])), None);
    }

    #[test]
    fn the_producer_says_whose_it_is() {
        let belongs = |body: &str, to: &str| BigCommerce.belongs(&path(to), &request(body, &[]));
        assert!(belongs(BODY, "abc123") && belongs(&BODY.replace("abc123", "ABC123"), "abc123"));
        for other in ["abc12", "abc1234", "stores-abc123"] {
            assert!(!belongs(BODY, other), "{other}");
        }
        for none in ["{}", r#"{"producer":null}"#, r#"{"producer":"abc123"}"#, r#"{"producer":["stores/abc123"]}"#] {
            assert!(!belongs(none, "abc123"), "{none}");
        }
        let twice = r#"{"producer":"stores/abc123","producer":"stores/other"}"#;
        assert!(!belongs(twice, "abc123"), "the last of two counts, and none is not an answer");
        for unreadable in ["", "<html>", "{\"producer\":\"stores/o", "[]"] {
            assert!(belongs(unreadable, "abc123"), "{unreadable}");
        }
    }

    /// The signature was computed elsewhere.
    #[test]
    fn a_signature_covers_the_body_and_a_secret_header_only_the_caller() {
        let signature = "v1,jL0DMr4guYncIqiK5vnrUYCkEkZ5Q7MNhepWzzcp8G0=";
        let timestamp = AT.to_string();
        let signed =
            [("webhook-id", "msg_example_0001"), ("webhook-timestamp", &timestamp), ("webhook-signature", signature)];
        let ring = KeyRing::parse("0123456789abcdef0123456789abcdef").unwrap();
        let app: App = serde_json::from_str(&format!(r#"{{"client_id":"a","client_secret":"{APP_SECRET}"}}"#)).unwrap();
        let keys = Material { ring: &ring, app: Some(&app), brought: None, now: Timestamp::from_millis(AT * 1000) };
        let strength = |connection: &str, headers: &[(&'static str, &str)]| {
            verify(&BigCommerce, &path(connection), &request(BODY, headers), &keys).map(|verified| verified.strength())
        };
        assert_eq!(strength("abc123", &signed), Ok(Strength::Body));
        assert_eq!(strength("other", &signed), Err(Refusal::OtherConnection));
        let secret = ring.signing().webhook_secret(&path("abc123"), None);
        assert_eq!(strength("abc123", &[(SECRET_HEADER, secret.reveal())]), Ok(Strength::Caller));
        assert_eq!(strength("abc123", &[(SECRET_HEADER, "wrong")]), Err(Refusal::WrongProof));
        assert_eq!(strength("abc123", &[]), Err(Refusal::MissingProof));
    }
}
