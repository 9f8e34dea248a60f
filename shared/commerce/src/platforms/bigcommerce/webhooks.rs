//! The registrar's part of BigCommerce: settings, and the calls of `v3/hooks`.

use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::wire;
use crate::{
    entity::ExternalId,
    http_call::{ApiRequest, ApiResponse, Fault, Loopback, site_url},
    key::ConnectionKey,
    keys::WebhookSecret,
    platform::{
        lenient,
        pull::Access,
        settings::{MISSING_PERMISSIONS, OwnSettings, SettingsError, missing_permissions, read_own},
        webhooks::{Desired, Page, Saving, Setup, Webhook, WebhookApi, WebhookStatus},
    },
    platforms::bigcommerce::{
        BigCommerce,
        api::{Credentials, call, fault},
        scopes::DELIVERY_EXCEPTION,
    },
    timestamp::Timestamp,
};

/// The number of webhooks that a page is asked for. The maximum is not documented; samples show this number.
const PAGE_SIZE: usize = 100;
/// [`super::delivery::SECRET_HEADER`], as people write it.
const HEADER: &str = "X-Commerce-Hooks-Key";
/// The query that makes a URL different from that of every other webhook.
const OWN_ADDRESS: &str = "?for=delivery-exception";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    site: Option<String>,
    #[serde(default)]
    access_token: Option<Zeroizing<String>>,
    /// The permissions that the store did not grant, as the installation found out. They are only shown.
    #[serde(default)]
    missing_permissions: Vec<String>,
}

fn wrong(field: &str, why: impl Into<String>) -> SettingsError {
    SettingsError::new(field, why)
}

impl Setup for BigCommerce {
    /// Reads the settings. The connection's id is the store's hash, so the site follows from it.
    fn settings(
        &self,
        key: &ConnectionKey,
        members: Map<String, Value>,
        loopback: Loopback,
    ) -> Result<OwnSettings, SettingsError> {
        let input: Input = read_own(members)?;
        let path = format!("/stores/{}", key.connection);
        let site = match input.site {
            None => format!("https://api.bigcommerce.com{path}"),
            Some(_) if loopback == Loopback::Refused => {
                return Err(wrong("site", "follows from the connection's id, which is the store's hash; leave it out"));
            }
            Some(site) => {
                let site = site_url(&site, Loopback::Allowed).map_err(|error| wrong("site", error.to_string()))?;
                if !site.ends_with(&path) {
                    return Err(wrong("site", format!("must end with {path}")));
                }
                site
            }
        };
        let credentials = match input.access_token {
            None => None,
            Some(token) => {
                if token.is_empty() || token.len() > 200 || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(wrong("access_token", "must be as BigCommerce shows it, without spaces"));
                }
                let credentials = Credentials { access_token: (*token).clone() };
                let text =
                    serde_json::to_string(&credentials).map_err(|_| wrong("access_token", "cannot be written"))?;
                Some(Zeroizing::new(text))
            }
        };
        let own = missing_permissions(input.missing_permissions, "OAuth scopes")?;
        Ok(OwnSettings { site, credentials, own, brought: Vec::new(), sender: None })
    }

    fn found_out(&self) -> &'static [&'static str] {
        &[MISSING_PERMISSIONS]
    }

    fn webhooks(&self) -> Option<&'static dyn WebhookApi> {
        Some(&Self)
    }

    fn manual_instructions(&self) -> &'static str {
        "make a webhook for each topic with POST /v3/hooks of BigCommerce's API: scope, destination (the delivery_url; for \
         store/hook/deliveryException with ?for=delivery-exception behind it, because it must have one of its own), \
         is_active true, and headers {\"X-Commerce-Hooks-Key\": the secret that `make secret` prints}. The access \
         token must be allowed to read products, customers, orders and carts"
    }
}

/// The calls of `reference/webhooks.v3.yml`. A token sees only the webhooks of its own app.
impl WebhookApi for BigCommerce {
    /// Returns the delivery URL, with a query for `store/hook/deliveryException`, whose destination must be no other
    /// webhook's (`events/index.mdx`). The query makes the difference, and leads to the same route.
    fn url(&self, scope: &str, delivery_url: &str) -> String {
        match scope {
            DELIVERY_EXCEPTION => format!("{delivery_url}{OWN_ADDRESS}"),
            _ => delivery_url.to_owned(),
        }
    }

    /// Builds the call that lists webhooks, not by destination, because webhooks that deliver to a former URL have to
    /// be found, too.
    fn list(&self, access: &Access<'_>, page: u32) -> Result<ApiRequest, Fault> {
        let (page, limit) = (page.to_string(), PAGE_SIZE.to_string());
        call(access, Method::GET, &["v3", "hooks"], &[("page", &page), ("limit", &limit)])
    }

    fn listed(&self, response: &ApiResponse, page: u32, now: Timestamp) -> Result<Page, Fault> {
        if !response.is_success() {
            return Err(fault(response, now));
        }
        let listed: wire::Page<wire::Hook> = lenient::read(&response.body)?;
        let pagination = listed.meta.pagination.as_ref();
        let more = match pagination.and_then(|pagination| pagination.total_pages) {
            Some(pages) => u64::from(page) < pages,
            // Without the number of pages and a link to the next one, a full page means that there may be another.
            None => {
                let next = pagination.is_some_and(|pagination| pagination.links["next"].is_string());
                next || listed.data.len() >= PAGE_SIZE
            }
        };
        Ok(Page { webhooks: listed.data.into_iter().map(read_webhook).collect(), more })
    }

    /// Builds the call that makes a webhook. A second webhook of the same topic and destination is refused
    /// [`overview.mdx`, "Limits"], with an undocumented status: after any, the webhooks have to be listed again.
    fn create(&self, access: &Access<'_>, scope: &str, url: &str, secret: &WebhookSecret) -> Result<ApiRequest, Fault> {
        Ok(call(access, Method::POST, &["v3", "hooks"], &[])?.json(&form(scope, url, secret)))
    }

    fn update(
        &self,
        access: &Access<'_>,
        id: &ExternalId,
        desired: &Desired<'_>,
        answers: &[ApiResponse],
        now: Timestamp,
    ) -> Result<Saving, Fault> {
        if let Some(answer) = answers.first() {
            return self.saved(answer, now).map(Saving::Done);
        }
        let mut body = form(desired.scope, desired.url, desired.secret);
        body["is_active"] = desired.active.into();
        Ok(Saving::Ask(call(access, Method::PUT, &["v3", "hooks", id.as_str()], &[])?.json(&body)))
    }

    /// Returns `true` (`overview.mdx`); the token is invalid afterwards, too.
    fn go_with_the_app(&self) -> bool {
        true
    }

    /// Reads the saved webhook. The overview shows the answer without the specification's surrounding `data`.
    fn saved(&self, response: &ApiResponse, now: Timestamp) -> Result<Webhook, Fault> {
        if !response.is_success() {
            return Err(fault(response, now));
        }
        let mut body: Value = lenient::read(&response.body)?;
        let webhook = body.get_mut("data").map(Value::take).unwrap_or(body);
        let webhook =
            serde_json::from_value(webhook).map_err(|_| Fault::Unreadable("the webhook that was saved".into()))?;
        Ok(read_webhook(webhook))
    }

    fn delete(&self, access: &Access<'_>, id: &ExternalId) -> Result<ApiRequest, Fault> {
        call(access, Method::DELETE, &["v3", "hooks", id.as_str()], &[])
    }

    /// Reads the answer to a removal. When the app is uninstalled, BigCommerce removes its webhooks and revokes its
    /// token (`overview.mdx`), so with a refused token no webhook is left. Webhooks need no permission that a valid
    /// token could lack.
    fn deleted(&self, response: &ApiResponse, now: Timestamp) -> Result<(), Fault> {
        let gone = match response.status {
            401 | 403 => true,
            404 => wire::is_not_found(&response.body),
            _ => response.is_success(),
        };
        if gone { Ok(()) } else { Err(fault(response, now)) }
    }
}

fn form(scope: &str, url: &str, secret: &WebhookSecret) -> Value {
    json!({ "scope": scope, "destination": url, "is_active": true, "headers": { HEADER: secret.reveal() } })
}

fn read_webhook(webhook: wire::Hook) -> Webhook {
    let word = webhook.status.as_str().filter(|word| *word != "active");
    let status = match (webhook.is_active, word) {
        (Some(true), _) | (None, None) => WebhookStatus::Active,
        (_, word) => WebhookStatus::Inactive(word.unwrap_or("deactivated").to_owned()),
    };
    let url = webhook.destination.as_str().unwrap_or_default().to_owned();
    Webhook { id: webhook.id, scope: webhook.scope.unwrap_or_default(), url, status, failures: None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{collections::BTreeSet, sync::LazyLock};

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::{
        http_call::Loopback,
        keys::KeyRing,
        platform::{mapping::declared_scopes, settings::Settings},
        platforms::bigcommerce::delivery::SECRET_HEADER,
        request::WebhookPath,
    };

    const NOW: Timestamp = Timestamp::from_micros(0);
    const BASE: &str = "https://api.bigcommerce.com/stores/abc123/v3/hooks";

    fn access() -> Access<'static> {
        static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        Access {
            site: "https://api.bigcommerce.com/stores/abc123",
            credentials: r#"{"access_token":"tok"}"#,
            settings: &NONE,
        }
    }

    fn answer(status: u16, body: &Value) -> ApiResponse {
        ApiResponse { status, headers: HeaderMap::new(), body: Bytes::from(body.to_string()) }
    }

    /// Returns a webhook as the specification shows one.
    fn shown() -> Value {
        json!({
            "id": 20_000_001, "client_id": "abc", "store_hash": "abc123", "scope": "store/order/created",
            "destination": "https://x/hooks", "headers": null, "is_active": true, "created_at": 1_760_000_000,
            "updated_at": 1_760_000_000, "events_history_enabled": false,
        })
    }

    fn settings(body: &str, loopback: Loopback) -> Result<Settings, SettingsError> {
        let path = WebhookPath::parse("bigcommerce", "abc123", None).unwrap();
        crate::platform::settings::settings(&super::super::PLATFORM, &path.key, body.as_bytes(), loopback)
    }

    fn error(body: &str, loopback: Loopback) -> (String, String) {
        match settings(body, loopback) {
            Ok(_) => unreachable!("{body} was taken"),
            Err(SettingsError { field, why }) => (field, why),
        }
    }

    #[test]
    fn the_site_follows_from_the_connection_s_id() {
        let read = settings(r#"{"access_token":"tok"}"#, Loopback::Refused).unwrap();
        assert_eq!(read.site, "https://api.bigcommerce.com/stores/abc123");
        assert_eq!(read.credentials.unwrap().as_str(), r#"{"access_token":"tok"}"#);
        assert!(settings("{}", Loopback::Refused).unwrap().credentials.is_none());

        let local = r#"{"site":"http://127.0.0.1:1234/stores/abc123/"}"#;
        assert_eq!(settings(local, Loopback::Allowed).unwrap().site, "http://127.0.0.1:1234/stores/abc123");
        assert_eq!(error(local, Loopback::Refused).0, "site");
        for other in [
            "https://api.bigcommerce.com/stores/other",
            "http://127.0.0.1:1234",
            "https://api.example.com/stores/abc123",
            "http://10.0.0.1/stores/abc123",
        ] {
            assert_eq!(error(&format!(r#"{{"site":"{other}"}}"#), Loopback::Allowed).0, "site", "{other}");
        }
    }

    #[test]
    fn what_was_not_granted_is_kept() {
        let own =
            settings(r#"{"access_token":"tok","missing_permissions":["store_cart"]}"#, Loopback::Refused).unwrap().own;
        assert_eq!(Value::Object(own), json!({ "missing_permissions": ["store_cart"] }));
        assert!(settings(r#"{"missing_permissions":[]}"#, Loopback::Refused).unwrap().own.is_empty());
        assert_eq!(error(r#"{"missing_permissions":["store cart"]}"#, Loopback::Refused).0, "missing_permissions");
    }

    #[test]
    fn a_bad_token_is_named_and_not_repeated() {
        for token in ["", "s3cr3t s3cr3t", "s3cr3t\\u00e9", "s3cr3t\\n"] {
            let (field, why) = error(&format!(r#"{{"access_token":"{token}"}}"#), Loopback::Refused);
            assert!(field == "access_token" && !why.contains("s3cr3t"), "{why}");
        }
        assert_eq!(error(r#"{"accessToken":"a"}"#, Loopback::Refused).0, "body");
    }

    #[test]
    fn calls_carry_the_token() {
        let none = Map::new();
        let access =
            |credentials| Access { site: "https://api.bigcommerce.com/stores/abc123", credentials, settings: &none };
        let request = BigCommerce.delete(&access(r#"{"access_token":"tok"}"#), &7.into()).unwrap();
        assert_eq!(format!("{request:?}"), "DELETE https://api.bigcommerce.com/stores/abc123/v3/hooks/7");
        assert!(request.headers["x-auth-token"] == "tok" && request.headers["x-auth-token"].is_sensitive());
        assert!(matches!(BigCommerce.delete(&access(""), &7.into()), Err(Fault::Connection(_))));
    }

    #[test]
    fn by_hand_names_the_header_that_is_verified_and_the_address_that_is_made() {
        assert!(HEADER.eq_ignore_ascii_case(SECRET_HEADER));
        for text in [HEADER, DELIVERY_EXCEPTION, OWN_ADDRESS] {
            assert!(BigCommerce.manual_instructions().contains(text), "{text}");
        }
    }

    #[test]
    fn calls_are_those_of_v3_webhooks() {
        let ring = KeyRing::parse("0123456789abcdef0123456789abcdef").unwrap();
        let secret = ring.signing().webhook_secret(&WebhookPath::parse("bigcommerce", "abc123", None).unwrap(), None);
        let list = BigCommerce.list(&access(), 2).unwrap();
        assert_eq!(format!("{list:?}"), format!("GET {BASE}?page=2&limit=100"));
        let create = BigCommerce.create(&access(), "store/cart/created", "https://x/hooks", &secret).unwrap();
        assert_eq!(format!("{create:?}"), format!("POST {BASE}"));
        let desired = Desired { scope: "store/cart/created", url: "https://x/hooks", secret: &secret, active: true };
        let Saving::Ask(update) = BigCommerce.update(&access(), &7.into(), &desired, &[], NOW).unwrap() else {
            unreachable!()
        };
        assert_eq!(format!("{update:?}"), format!("PUT {BASE}/7"));
        let webhook = json!({
            "scope": "store/cart/created", "destination": "https://x/hooks", "is_active": true,
            "headers": { "X-Commerce-Hooks-Key": secret.reveal() },
        });
        for request in [&create, &update] {
            assert_eq!(serde_json::from_slice::<Value>(&request.body).unwrap(), webhook);
            assert!(request.headers["content-type"] == "application/json" && request.headers["x-auth-token"] == "tok");
        }
        let id = "../catalog".parse().unwrap();
        let delete = BigCommerce.delete(&access(), &id).unwrap();
        assert_eq!(format!("{delete:?}"), format!("DELETE {BASE}/..%2Fcatalog"));
        let nobody = Access { credentials: "", ..access() };
        assert!(matches!(BigCommerce.list(&nobody, 1), Err(Fault::Connection(_))));
    }

    #[test]
    fn one_webhook_alone_has_an_address_of_its_own() {
        let scopes: Vec<_> = declared_scopes(&super::super::PLATFORM).collect();
        let urls: BTreeSet<_> = scopes.iter().map(|scope| BigCommerce.url(scope, "https://x/hooks")).collect();
        let both = ["https://x/hooks".to_owned(), "https://x/hooks?for=delivery-exception".to_owned()];
        assert_eq!(urls, BTreeSet::from(both.clone()));
        let own = scopes.iter().filter(|scope| BigCommerce.url(scope, "https://x/hooks") == both[1]);
        assert_eq!(own.collect::<Vec<_>>(), [&DELIVERY_EXCEPTION]);
    }

    #[test]
    fn pages_end_where_they_say_or_when_one_is_not_full() {
        let more = |webhooks: usize, page: u32, meta: &Value| {
            let body = json!({ "data": vec![shown(); webhooks], "meta": meta });
            let listed = BigCommerce.listed(&answer(200, &body), page, NOW).unwrap();
            assert_eq!(listed.webhooks.len(), webhooks);
            listed.more
        };
        let total = |pages: u64| json!({ "pagination": { "total_pages": pages, "links": { "next": "?page=2" } } });
        assert!(more(50, 1, &total(2)), "a page may be shorter than was asked for");
        assert!(!more(100, 2, &total(2)) && !more(0, 1, &total(0)));
        let next = |next: Value| json!({ "pagination": { "per_page": 50, "links": { "next": next } } });
        assert!(more(50, 1, &next(json!("?page=2&limit=50"))) && !more(50, 1, &next(Value::Null)));
        assert!(more(100, 1, &json!({})) && !more(99, 1, &json!({})) && !more(0, 1, &json!({ "pagination": null })));
        let bare = BigCommerce.listed(&answer(200, &json!({ "data": [shown()] })), 1, NOW).unwrap();
        assert!(bare.webhooks.len() == 1 && !bare.more);
    }

    #[test]
    fn a_webhook_is_read_whatever_else_it_has() {
        let changed = |name: &str, value: Value| {
            let mut webhook = shown();
            webhook[name] = value;
            let page = BigCommerce.listed(&answer(200, &json!({ "data": [webhook], "meta": {} })), 1, NOW).unwrap();
            page.webhooks[0].clone()
        };
        let webhook = changed("headers", json!({ "X-Other": "1" }));
        assert_eq!(
            (webhook.id, webhook.scope.as_str(), webhook.url.as_str()),
            (20_000_001.into(), "store/order/created", "https://x/hooks")
        );
        let status = |name: &str, value: Value| changed(name, value).status;
        let off = |word: &str| WebhookStatus::Inactive(word.to_owned());
        assert_eq!(status("is_active", json!(true)), WebhookStatus::Active);
        assert_eq!(status("is_active", json!(false)), off("deactivated"));
        assert_eq!(status("is_active", Value::Null), WebhookStatus::Active, "where it is not told");
        let told = |webhook: Value| BigCommerce.saved(&answer(200, &webhook), NOW).unwrap().status;
        assert_eq!(told(json!({ "id": 1, "is_active": false, "status": "inactive" })), off("inactive"));
        assert_eq!(told(json!({ "id": 1, "is_active": false, "status": "active" })), off("deactivated"));
        assert_eq!(told(json!({ "id": 1, "status": "deactivated" })), off("deactivated"));
        // A webhook that delivers to a queue in place of a URL is nobody's here, but must not hide the others.
        assert_eq!(changed("destination", json!({ "topic": "t" })).url, "");
    }

    #[test]
    fn what_was_saved_is_read_with_and_without_its_envelope() {
        for (status, body) in [(200, json!({ "data": shown(), "meta": {} })), (201, shown())] {
            assert_eq!(BigCommerce.saved(&answer(status, &body), NOW).unwrap().id, 20_000_001.into());
        }
        for body in [json!({}), json!([]), json!(null), json!({ "data": null }), json!({ "data": { "scope": "x" } })] {
            let read = BigCommerce.saved(&answer(200, &body), NOW);
            assert!(matches!(read, Err(Fault::Unreadable(_))), "{body}");
        }
        // The same webhook exists already: the webhooks are listed again before it counts as a failure.
        let twice = json!({ "status": 422, "title": "x", "errors": { "scope": "x" } });
        assert!(matches!(BigCommerce.saved(&answer(422, &twice), NOW), Err(Fault::Connection(_))));
        assert!(matches!(BigCommerce.saved(&answer(409, &twice), NOW), Err(Fault::Connection(_))));
    }

    #[test]
    fn a_store_that_is_busy_says_for_how_long() {
        let mut busy = answer(429, &json!({}));
        busy.headers.insert("x-rate-limit-time-reset-ms", HeaderValue::from_static("15001"));
        let wait = Fault::Throttled { seconds: 16 };
        assert_eq!(BigCommerce.listed(&busy, 1, NOW), Err(wait.clone()));
        assert_eq!(BigCommerce.saved(&busy, NOW), Err(wait.clone()));
        assert_eq!(BigCommerce.deleted(&busy, NOW), Err(wait));
        assert!(matches!(BigCommerce.listed(&answer(401, &json!({})), 1, NOW), Err(Fault::Connection(_))));
    }

    #[test]
    fn gone_already_is_success_but_any_404_is_not() {
        let gone = json!({ "status": 404, "title": "Webhook with id [7] not found", "type": "x" });
        assert_eq!(BigCommerce.deleted(&answer(404, &gone), NOW), Ok(()));
        assert_eq!(BigCommerce.deleted(&answer(200, &json!({ "data": shown() })), NOW), Ok(()));
        for status in [401, 403] {
            assert_eq!(BigCommerce.deleted(&answer(status, &json!({})), NOW), Ok(()), "{status}");
        }
        assert!(BigCommerce.deleted(&answer(404, &json!("<html>")), NOW).is_err());
        assert!(BigCommerce.deleted(&answer(404, &json!({ "status": 404, "title": "No route" })), NOW).is_err());
        assert!(BigCommerce.deleted(&answer(500, &json!({})), NOW).is_err());
    }
}
