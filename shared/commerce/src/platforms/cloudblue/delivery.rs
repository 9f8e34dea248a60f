//! The receiver's part of CloudBlue Connect.

use http::Method;
use serde_json::json;

use super::wire;
use crate::{
    platform::delivery::{Delivery, PROBE, Probe},
    platforms::cloudblue::CloudBlue,
    request::{RawRequest, WebhookPath},
    scheme::{
        Scheme,
        jwt::{Algorithm, Jwt, KeySource, Rules},
    },
    timestamp::Timestamp,
};

/// The topic (`scope`) of a delivery that names no class of objects, such as one by GET.
pub const TRIGGER: &str = "trigger";

/// The token: HS256 over the raw text of the webhook's `jwt_secret`, with `webhook_id` and `exp` [the sample in the
/// MuleSoft connector's `pom.xml`]. The documentation names one of the two headers, and the connector reads the other.
const TOKEN: Jwt = Jwt {
    headers: &["authorization", "authentication"],
    prefix: "Bearer ",
    keys: KeySource::Derived,
    rules: Rules {
        algorithm: Algorithm::HS256,
        issuer: None,
        audience: None,
        required: &["webhook_id"],
        by_kid: false,
        max_lifetime_seconds: None,
        max_age_seconds: None,
    },
    sealed: &["webhook_id"],
};

impl Delivery for CloudBlue {
    /// Returns the methods of a webhook's `http_method`.
    fn methods(&self) -> &'static [Method] {
        const METHODS: &[Method] = &[Method::POST, Method::GET];
        METHODS
    }

    fn scope(&self, request: &RawRequest) -> Option<String> {
        let class = wire::Trigger::read(&request.body).object_class;
        let word = |class: &String| {
            (1..=100).contains(&class.len()) && class.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        Some(class.filter(word).unwrap_or_else(|| TRIGGER.to_owned()))
    }

    fn probe(&self, _path: &WebhookPath, now: Timestamp) -> Probe {
        let claims = json!({ "webhook_id": PROBE, "exp": now.seconds() + 60 });
        let body = json!({ "object_class": PROBE }).to_string();
        Probe { headers: Vec::new(), body, claims: claims.as_object().cloned().unwrap_or_default() }
    }

    /// Returns the webhook and the time. Deliveries have no id, and these are the closest.
    fn delivery_id(&self, request: &RawRequest) -> Option<String> {
        let wire::Trigger { webhook_id, triggered_at, .. } = wire::Trigger::read(&request.body);
        let id = format!("{}/{}", webhook_id?, triggered_at?);
        (id.len() <= 100 && id.bytes().all(|byte| byte.is_ascii_graphic())).then_some(id)
    }

    fn scheme(&self) -> Scheme {
        Scheme::Jwt(TOKEN)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use bytes::Bytes;
    use http::{HeaderMap, HeaderName};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        keys::KeyRing,
        request::WebhookPath,
        scheme::{Refusal, Strength},
        timestamp::Timestamp,
        verify::{Material, Verified, verify},
    };

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
    const BODY: &str = r#"{"webhook_id":"WH-101-202-303","webhook_name":"orders","object_class":"fulfillment_request","account_id":"VA-000-111","product_id":"PRD-111-222-333","api_url":"https://attacker.example","triggered_at":"2024-02-03T04:05:06+00:00","last_success_at":null,"data":{}}"#;

    fn ring() -> KeyRing {
        KeyRing::parse("0123456789abcdef0123456789abcdef").unwrap()
    }

    fn path() -> WebhookPath {
        WebhookPath::parse("cloudblue", "va-000-111", None).unwrap()
    }

    fn token(claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"typ": "JWT", "alg": "HS256"})), part(claims));
        let secret = ring().signing().webhook_secret(&path(), None);
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.reveal().as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())))
    }

    fn good() -> String {
        format!("Bearer {}", token(&json!({"webhook_id": "WH-101-202-303", "exp": NOW.seconds() + 60})))
    }

    fn request(method: Method, headers: &[(&str, &str)], body: &str) -> RawRequest {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect();
        RawRequest {
            target: String::new(),
            method,
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
            received: NOW,
        }
    }

    fn proven(request: &RawRequest) -> Result<Verified, Refusal> {
        let ring = ring();
        verify(&CloudBlue, &path(), request, &Material { ring: &ring, app: None, brought: None, now: NOW })
    }

    #[test]
    fn the_token_proves_the_caller_from_either_header() {
        let good = good();
        for headers in [
            vec![("authorization", good.as_str())],
            vec![("authentication", good.as_str())],
            vec![("authorization", good.as_str()), ("authentication", good.as_str())],
        ] {
            let verified = proven(&request(Method::POST, &headers, BODY)).unwrap();
            assert_eq!(verified.strength(), Strength::Caller);
            assert_eq!(verified.scope(), "fulfillment_request");
            assert_eq!(verified.delivery_id(), Some("WH-101-202-303/2024-02-03T04:05:06+00:00"));
            assert_eq!(verified.claims()["webhook_id"], "WH-101-202-303");
        }
        let by_get = proven(&request(Method::GET, &[("authentication", &good)], "")).unwrap();
        assert_eq!((by_get.scope(), by_get.delivery_id()), (TRIGGER, None));
    }

    #[test]
    fn what_is_not_proven_is_refused() {
        let good = good();
        let other = format!("Bearer {}", token(&json!({"webhook_id": "WH-2", "exp": NOW.seconds() + 60})));
        let refused = |method, headers: &[(&str, &str)]| proven(&request(method, headers, BODY)).err();
        assert_eq!(refused(Method::POST, &[]), Some(Refusal::MissingProof));
        let differing = [("authorization", good.as_str()), ("authentication", other.as_str())];
        assert_eq!(refused(Method::POST, &differing), Some(Refusal::MalformedProof));
        assert_eq!(refused(Method::PUT, &[("authorization", &good)]), Some(Refusal::Method));
        let nameless = format!("Bearer {}", token(&json!({"exp": NOW.seconds() + 60})));
        assert_eq!(refused(Method::POST, &[("authorization", &nameless)]), Some(Refusal::Claim("a required one")));
        let over = format!("Bearer {}", token(&json!({"webhook_id": "WH-1", "exp": NOW.seconds() - 60})));
        assert_eq!(refused(Method::POST, &[("authorization", &over)]), Some(Refusal::Claim("exp")));
        let endless = format!("Bearer {}", token(&json!({"webhook_id": "WH-1"})));
        assert_eq!(refused(Method::POST, &[("authorization", &endless)]), Some(Refusal::Claim("exp")));
    }

    #[test]
    fn what_cannot_be_read_is_a_trigger_all_the_same() {
        let long = format!(r#"{{"object_class":"{}"}}"#, "a".repeat(101));
        for body in ["", "no JSON", "[1]", "5", "{}", r#"{"object_class":7}"#, r#"{"object_class":"A b"}"#, &long] {
            let request = request(Method::POST, &[], body);
            assert_eq!(CloudBlue.scope(&request).as_deref(), Some(TRIGGER), "{body}");
            assert_eq!(CloudBlue.delivery_id(&request), None, "{body}");
        }
        let usage = request(Method::POST, &[], r#"{"object_class":"usage_file","id":5}"#);
        assert_eq!(CloudBlue.scope(&usage).as_deref(), Some("usage_file"));
    }
}
