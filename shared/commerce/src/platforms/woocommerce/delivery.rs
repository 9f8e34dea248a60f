//! The receiver's part of WooCommerce.

use http::StatusCode;
use serde_json::Map;

use crate::{
    platform::delivery::{Delivery, PROBE, Probe},
    platforms::woocommerce::WooCommerce,
    request::{RawRequest, WebhookPath},
    scheme::{
        Scheme,
        hmac::{Algorithm, Encoding, Hmac, KeySource},
    },
    timestamp::Timestamp,
};

/// The signature, `base64(HMAC-SHA256(secret, body))` [`class-wc-webhook.php`, `generate_signature`].
const SIGNATURE: Hmac = Hmac {
    header: "x-wc-webhook-signature",
    algorithm: Algorithm::Sha256,
    encoding: Encoding::Base64,
    prefix: "",
    keys: KeySource::Derived,
};

impl Delivery for WooCommerce {
    /// Returns whether this is the ping after a registration: `webhook_id=1`, unsigned, without any of the store's
    /// headers [`class-wc-webhook.php`, `deliver_ping`]. Every later delivery sends another ping until one is answered
    /// with 200.
    fn is_handshake(&self, request: &RawRequest) -> bool {
        let digits = request.body.strip_prefix(b"webhook_id=").unwrap_or_default();
        let own_headers = request.headers.keys().any(|name| name.as_str().starts_with("x-wc-"));
        !own_headers && (1..=20).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
    }

    fn scope(&self, request: &RawRequest) -> Option<String> {
        let topic = request.single_header("x-wc-webhook-topic")?;
        (1..=200).contains(&topic.len()).then(|| topic.to_owned())
    }

    fn delivery_id(&self, request: &RawRequest) -> Option<String> {
        let id = request.single_header("x-wc-webhook-delivery-id")?;
        (1..=100).contains(&id.len()).then(|| id.to_owned())
    }

    fn scheme(&self) -> Scheme {
        Scheme::Hmac(SIGNATURE)
    }

    fn secret_per_scope(&self) -> bool {
        true
    }

    fn probe(&self, _path: &WebhookPath, _now: Timestamp) -> Probe {
        Probe { headers: vec![("x-wc-webhook-topic", PROBE.to_owned())], body: "{}".to_owned(), claims: Map::new() }
    }

    /// Returns 200 always: 200 to 302 count for deliveries, but only 200 for the ping.
    fn accepted(&self) -> StatusCode {
        StatusCode::OK
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::timestamp::Timestamp;

    fn request(body: &'static str, topic: Option<&'static str>) -> RawRequest {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(topic) = topic {
            headers.insert("x-wc-webhook-topic", HeaderValue::from_static(topic));
        }
        let body = Bytes::from_static(body.as_bytes());
        RawRequest { target: String::new(), method: Method::POST, headers, body, received: Timestamp::from_micros(0) }
    }

    #[test]
    fn only_the_bare_ping_is_a_handshake() {
        assert!(WooCommerce.is_handshake(&request("webhook_id=1", None)));
        for body in [
            "webhook_id=",
            "webhook_id=x",
            "webhook_id=1&a=b",
            "webhook_id=1\n",
            "{}",
            "",
            "webhook_id=123456789012345678901",
        ] {
            assert!(!WooCommerce.is_handshake(&request(body, None)), "{body}");
        }
        assert!(!WooCommerce.is_handshake(&request("webhook_id=1", Some("order.updated"))));
    }

    #[test]
    fn the_topic_is_the_scope() {
        assert_eq!(WooCommerce.scope(&request("{}", Some("order.updated"))).as_deref(), Some("order.updated"));
        assert_eq!(WooCommerce.scope(&request("{}", None)), None);
        assert_eq!(WooCommerce.scope(&request("{}", Some(""))), None);
    }
}
