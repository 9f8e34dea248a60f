//! The receiver's part of DirectScale.

use serde_json::{Map, json};

use super::{client, wire};
use crate::{
    platform::delivery::{Delivery, PROBE, Probe},
    platforms::directscale::DirectScale,
    request::{RawRequest, WebhookPath},
    scheme::{Scheme, bearer::Bearer},
    timestamp::Timestamp,
};

/// The longest name of a user that is kept, in bytes.
const MAX_USER_BYTES: usize = 256;

/// The numbers of legacy events, with their names. 1 and 5 are presumed from their neighbours.
pub(super) const LEGACY: &[(&str, &str)] = &[
    ("0", "EnrollmentEvent"),
    ("1", "OrderEvent"),
    ("2", "CreateAssociateEvent"),
    ("3", "UpdateAssociateEvent"),
    ("4", "CreateSubscriptionEvent"),
    ("5", "UpdateSubscriptionEvent"),
];

impl Delivery for DirectScale {
    /// Returns `EventType`, the only place that names the event. For legacy events it may be the number, which becomes
    /// the name.
    fn scope(&self, request: &RawRequest) -> Option<String> {
        let name = wire::Head::of(&request.body).ok()?.event()?;
        Some(LEGACY.iter().find(|(number, _)| *number == name).map_or(name, |(_, name)| (*name).to_owned()))
    }

    /// Returns `X-Directscale-User`, which is present when somebody had signed in. Only the bearer key covers it.
    fn user(&self, request: &RawRequest) -> Option<String> {
        let mut values = request.headers.get_all("x-directscale-user").iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let user = std::str::from_utf8(value.as_bytes()).ok()?.trim();
        ((1..=MAX_USER_BYTES).contains(&user.len()) && !user.chars().any(char::is_control)).then(|| user.to_owned())
    }

    fn delivery_id(&self, request: &RawRequest) -> Option<String> {
        let id = request.single_header("x-directscale-message-id")?;
        ((1..=100).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())).then(|| id.to_owned())
    }

    fn scheme(&self) -> Scheme {
        Scheme::Bearer(Bearer { header: "authorization" })
    }

    fn probe(&self, path: &WebhookPath, _now: Timestamp) -> Probe {
        let (client, _) = client(path.key.connection.as_str());
        let headers = vec![("x-directscale-client-id", client.to_owned())];
        Probe { headers, body: json!({ "EventType": PROBE }).to_string(), claims: Map::new() }
    }

    /// Returns whether the client's id is right. Several clients of one merchant may share a key.
    fn belongs(&self, path: &WebhookPath, request: &RawRequest) -> bool {
        let (client, _) = client(path.key.connection.as_str());
        request.single_header("x-directscale-client-id").is_some_and(|given| given.eq_ignore_ascii_case(client))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, HeaderValue, Method};

    use super::*;
    use crate::{
        keys::{BroughtKey, KeyRing},
        scheme::Refusal,
        timestamp::Timestamp,
        verify::{Material, UNNAMED_SCOPE, verify},
    };

    const BROUGHT: &str = "they$brought!%41^~_- key";

    fn request(headers: &[(&'static str, &str)], body: &str) -> RawRequest {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let body = Bytes::copy_from_slice(body.as_bytes());
        RawRequest {
            target: String::new(),
            method: Method::POST,
            headers: map,
            body,
            received: Timestamp::from_micros(0),
        }
    }

    #[test]
    fn the_scope_is_in_the_body_by_name_or_number() {
        let scope = |body: &str| DirectScale.scope(&request(&[], body));
        assert_eq!(scope(r#"{"EventType":"FinalizeOrderEvent"}"#).as_deref(), Some("FinalizeOrderEvent"));
        assert_eq!(scope(r#"{"EventType":"MyOwn.Event",}"#).as_deref(), Some("MyOwn.Event"));
        for (number, name) in LEGACY {
            assert_eq!(scope(&format!(r#"{{"EventType":"{number}"}}"#)).as_deref(), Some(*name));
            assert_eq!(scope(&format!(r#"{{"EventType":{number}}}"#)).as_deref(), Some(*name));
        }
        for body in [
            "5",
            "[]",
            "",
            "{}",
            r#"{"EventType":null}"#,
            r#"{"EventType":{}}"#,
            r#"{"EventType":"a\nb"}"#,
            r#"{"EventType":"A","EventType":"A"}"#,
            r#"{"EventType":"A","eventType":"B"}"#,
            r#"{"EventType":"A""#,
        ] {
            assert_eq!(scope(body), None, "{body}");
        }
    }

    #[test]
    fn the_message_id_is_what_can_be_one() {
        let id = |value: &str| DirectScale.delivery_id(&request(&[("x-directscale-message-id", value)], ""));
        assert_eq!(id("0b1c-2d").as_deref(), Some("0b1c-2d"));
        assert_eq!((id("a b"), id(&"x".repeat(101))), (None, None));
    }

    #[test]
    fn a_user_is_what_can_be_a_name() {
        let user = |value: &str| {
            let mut request = request(&[], "");
            request.headers.insert("x-directscale-user", HeaderValue::from_bytes(value.as_bytes()).unwrap());
            DirectScale.user(&request)
        };
        for good in ["admin", "ada.lovelace@example.com", "Jos\u{e9} M.", &"x".repeat(256)] {
            assert_eq!(user(good).as_deref(), Some(good));
        }
        assert_eq!(user("  ada ").as_deref(), Some("ada"));
        for bad in ["", " ", "a\tb", "a\u{85}b", &"x".repeat(257)] {
            assert_eq!(user(bad), None, "{bad}");
        }
        assert_eq!(DirectScale.user(&request(&[], "")), None);
        assert_eq!(DirectScale.user(&request(&[("x-directscale-user", "a"), ("x-directscale-user", "b")], "")), None);
    }

    #[test]
    fn a_key_proves_only_for_the_client_that_is_named() {
        let ring = KeyRing::parse("0123456789abcdef0123456789abcdef").unwrap();
        let path = WebhookPath::parse("directscale", "acme.stage", None).unwrap();
        let brought = [BroughtKey::of(BROUGHT)];
        let keys = Material { ring: &ring, app: None, brought: Some(&brought), now: Timestamp::from_micros(0) };
        let prove = |key: &str, clients: &[&str]| {
            let key = format!("Bearer {key}");
            let mut headers = vec![("authorization", key.as_str())];
            headers.extend(clients.iter().map(|client| ("x-directscale-client-id", *client)));
            verify(&DirectScale, &path, &request(&headers, "7"), &keys).map(|verified| verified.scope().to_owned())
        };
        let derived = ring.signing().webhook_secret(&path, None);
        for key in [derived.reveal(), BROUGHT] {
            assert_eq!(prove(key, &["ACME"]), Ok(UNNAMED_SCOPE.to_owned()));
            for clients in [&["acme.stage"][..], &["other"], &[], &["acme", "acme"]] {
                assert_eq!(prove(key, clients), Err(Refusal::OtherConnection), "{clients:?}");
            }
        }
        assert_eq!(prove("another key that is long", &["acme"]), Err(Refusal::WrongProof));
    }
}
