//! The registrar's part of WooCommerce: settings, and the calls of `wc/v3/webhooks`.

use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{
    answers::{self, KEY_IN_QUERY, Needs, REST_ROUTE, heard},
    app::site_address,
    wire,
};
use crate::{
    entity::ExternalId,
    http_call::{ApiRequest, ApiResponse, Fault, Loopback},
    key::ConnectionKey,
    keys::WebhookSecret,
    platform::{
        lenient::{read, read_list},
        pull::Access,
        settings::{OwnSettings, SettingsError, read_own},
        webhooks::{Desired, Occasion, Page, Saving, Setup, Webhook, WebhookApi, WebhookStatus},
    },
    platforms::woocommerce::{
        WooCommerce,
        api::{Credentials, call},
    },
    timestamp::Timestamp,
};

/// The most webhooks on one page.
const PAGE_SIZE: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    site: String,
    #[serde(default)]
    consumer_key: Option<Zeroizing<String>>,
    #[serde(default)]
    consumer_secret: Option<Zeroizing<String>>,
    #[serde(default)]
    rest_route: bool,
    #[serde(default)]
    key_in_query: bool,
}

fn wrong(field: &str, why: impl Into<String>) -> SettingsError {
    SettingsError::new(field, why)
}

fn credential(field: &str, prefix: &str, value: Zeroizing<String>) -> Result<String, SettingsError> {
    let rest = value.strip_prefix(prefix).unwrap_or_default();
    if rest.is_empty() || rest.len() > 200 || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(wrong(field, format!("must be as WooCommerce shows it: {prefix} and letters and digits")));
    }
    Ok((*value).clone())
}

impl Setup for WooCommerce {
    fn settings(
        &self,
        _key: &ConnectionKey,
        members: Map<String, Value>,
        loopback: Loopback,
    ) -> Result<OwnSettings, SettingsError> {
        let input: Input = read_own(members)?;
        let site = site_address(&input.site, loopback).map_err(|error| wrong("site", error.to_string()))?;
        let credentials = match (input.consumer_key, input.consumer_secret) {
            (None, None) => None,
            (Some(key), Some(secret)) => {
                let credentials = Credentials {
                    consumer_key: credential("consumer_key", "ck_", key)?,
                    consumer_secret: credential("consumer_secret", "cs_", secret)?,
                };
                let text =
                    serde_json::to_string(&credentials).map_err(|_| wrong("consumer_key", "cannot be written"))?;
                Some(Zeroizing::new(text))
            }
            (Some(_), None) => return Err(wrong("consumer_secret", "is missing beside consumer_key")),
            (None, Some(_)) => return Err(wrong("consumer_key", "is missing beside consumer_secret")),
        };
        let ways = [(REST_ROUTE, input.rest_route), (KEY_IN_QUERY, input.key_in_query)];
        let ways = ways.into_iter().filter(|(_, on)| *on).map(|(name, on)| (name.to_owned(), on.into()));
        Ok(OwnSettings { site, credentials, own: ways.collect(), brought: Vec::new(), sender: None })
    }

    fn found_out(&self) -> &'static [&'static str] {
        &[REST_ROUTE, KEY_IN_QUERY]
    }

    fn webhooks(&self) -> Option<&'static dyn WebhookApi> {
        Some(&Self)
    }

    fn manual_instructions(&self) -> &'static str {
        "enter a webhook for each topic at the store, with delivery_url and the secret that `make secret` prints for it"
    }
}

impl WebhookApi for WooCommerce {
    fn another_way(&self, access: &Access<'_>, answer: &ApiResponse, occasion: Occasion) -> Option<Map<String, Value>> {
        // The key may only go into a URL that travels encrypted.
        let occasion = if access.site.starts_with("https://") { occasion } else { Occasion::Routine };
        answers::another_way(access.settings, answer, occasion)
    }

    fn list(&self, access: &Access<'_>, page: u32) -> Result<ApiRequest, Fault> {
        let mut request = call(access, Method::GET, &["webhooks"])?;
        request
            .url
            .query_pairs_mut()
            .append_pair("per_page", &PAGE_SIZE.to_string())
            .append_pair("page", &page.to_string())
            // Without a stable order, a webhook made in between moves another off the page.
            .append_pair("orderby", "id")
            .append_pair("order", "asc");
        Ok(request)
    }

    fn listed(&self, response: &ApiResponse, page: u32, now: Timestamp) -> Result<Page, Fault> {
        let heard = heard(response, now)?;
        if !heard.is_success() {
            return Err(heard.fault(Needs::Read));
        }
        let webhooks: Vec<wire::Webhook> = read_list(heard.body)?;
        // The header has the number of pages. Some proxies drop it; then a full page means that there may be another.
        let pages = response.headers.get("x-wp-totalpages").and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
        let more = pages.map_or(webhooks.len() >= PAGE_SIZE, |pages| page < pages);
        Ok(Page { webhooks: webhooks.into_iter().map(read_webhook).collect(), more })
    }

    /// Builds the call that makes a webhook. Its status is `active`, whatever the body says.
    fn create(&self, access: &Access<'_>, scope: &str, url: &str, secret: &WebhookSecret) -> Result<ApiRequest, Fault> {
        let body = json!({
            "name": format!("commerce-hooks {scope}"),
            "topic": scope,
            "delivery_url": url,
            "secret": secret.reveal(),
        });
        Ok(call(access, Method::POST, &["webhooks"])?.json(&body))
    }

    /// Sets a webhook again. Switching it on leaves its count of failures unchanged (`class-wc-webhook.php`): until a
    /// delivery succeeds, the next failure switches it off again.
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
        let Desired { scope, url, secret, active } = desired;
        let status = if *active { "active" } else { "paused" };
        let body = json!({ "topic": scope, "delivery_url": url, "secret": secret.reveal(), "status": status });
        Ok(Saving::Ask(call(access, Method::PUT, &["webhooks", id.as_str()])?.json(&body)))
    }

    fn saved(&self, response: &ApiResponse, now: Timestamp) -> Result<Webhook, Fault> {
        let heard = heard(response, now)?;
        if !heard.is_success() {
            return Err(heard.fault(Needs::Write));
        }
        Ok(read_webhook(read(heard.body)?))
    }

    /// Builds the call that removes a webhook. Without `force` the answer is 501, because webhooks have no trash.
    fn delete(&self, access: &Access<'_>, id: &ExternalId) -> Result<ApiRequest, Fault> {
        let mut request = call(access, Method::DELETE, &["webhooks", id.as_str()])?;
        request.url.query_pairs_mut().append_pair("force", "true");
        Ok(request)
    }

    fn deleted(&self, response: &ApiResponse, now: Timestamp) -> Result<(), Fault> {
        let heard = heard(response, now)?;
        let gone = matches!(heard.status, 400 | 404)
            && heard.code().is_some_and(|code| {
                matches!(code.as_str(), "woocommerce_rest_shop_webhook_invalid_id" | "woocommerce_rest_invalid_id")
            });
        if heard.is_success() || gone { Ok(()) } else { Err(heard.fault(Needs::Write)) }
    }
}

fn read_webhook(webhook: wire::Webhook) -> Webhook {
    let status = match webhook.status.as_str() {
        "active" => WebhookStatus::Active,
        other => WebhookStatus::Inactive(other.to_owned()),
    };
    Webhook { id: webhook.id, scope: webhook.topic, url: webhook.delivery_url, status, failures: None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::LazyLock;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::{connection::DeletePolicy, entity::EntityKind, keys::KeyRing, platform::settings::Settings};

    const NOW: Timestamp = Timestamp::from_micros(0);
    const CREDENTIALS: &str = r#"{"consumer_key":"ck_1","consumer_secret":"cs_2"}"#;

    fn access() -> Access<'static> {
        static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        Access { site: "https://shop.example.com/sub", credentials: CREDENTIALS, settings: &NONE }
    }

    fn settings(body: &str) -> Result<Settings, SettingsError> {
        let path = crate::request::WebhookPath::parse("woocommerce", "shop", None).unwrap();
        crate::platform::settings::settings(&super::super::PLATFORM, &path.key, body.as_bytes(), Loopback::Refused)
    }

    fn answer(status: u16, body: &str) -> ApiResponse {
        ApiResponse { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn error(body: &str) -> (String, String) {
        match settings(body) {
            Ok(_) => unreachable!("{body} was taken"),
            Err(SettingsError { field, why }) => (field, why),
        }
    }

    #[test]
    fn settings_name_what_is_wrong_with_them() {
        let full = r#"{"site":"https://shop.example.com/","consumer_key":"ck_1","consumer_secret":"cs_2","deletes":{"order":"remove"}}"#;
        let read = settings(full).unwrap();
        assert_eq!(read.site, "https://shop.example.com");
        assert_eq!(read.credentials.unwrap().as_str(), CREDENTIALS);
        assert_eq!(read.deletes[&EntityKind::Order], DeletePolicy::Remove);
        assert!(settings(r#"{"site":"https://shop.example.com"}"#).unwrap().credentials.is_none());

        assert_eq!(error("{").0, "body");
        assert_eq!(error(r#"{"site":"https://a.example","consumerKey":"ck_1"}"#).0, "body");
        assert_eq!(error(r#"{"site":"http://a.example"}"#), ("site".into(), "must begin with https://".into()));
        assert_eq!(error(r#"{"site":"https://a.example","consumer_key":"ck_1"}"#).0, "consumer_secret");
        let (field, why) = error(r#"{"site":"https://a.example","consumer_key":"ck_1","consumer_secret":"s3cr3t!"}"#);
        assert!(field == "consumer_secret" && !why.contains("s3cr3t"), "{why}");
    }

    #[test]
    fn calls_are_those_of_wc_v3() {
        let ring = KeyRing::parse("0123456789abcdef0123456789abcdef").unwrap();
        let path = crate::request::WebhookPath::parse("woocommerce", "shop", None).unwrap();
        let secret = ring.signing().webhook_secret(&path, Some("order.updated"));
        let base = "https://shop.example.com/sub/wp-json/wc/v3/webhooks";
        let shown = |request: Result<ApiRequest, Fault>| format!("{:?}", request.unwrap());
        assert_eq!(
            shown(WooCommerce.list(&access(), 2)),
            format!("GET {base}?per_page=100&page=2&orderby=id&order=asc")
        );
        assert_eq!(shown(WooCommerce.delete(&access(), &7.into())), format!("DELETE {base}/7?force=true"));
        let create = WooCommerce.create(&access(), "order.updated", "https://x/hooks", &secret).unwrap();
        assert_eq!(format!("{create:?}"), format!("POST {base}"));
        assert!(String::from_utf8_lossy(&create.body).contains(secret.reveal()));
        let id = "../users".parse().unwrap();
        assert_eq!(shown(WooCommerce.delete(&access(), &id)), format!("DELETE {base}/..%2Fusers?force=true"));
    }

    #[test]
    fn sites_are_taken_as_people_copy_them() {
        let site = |text: &str| settings(&json!({ "site": text }).to_string()).unwrap().site;
        for end in [
            "",
            "/",
            "/wp-json/",
            "/wp-json",
            "/index.php",
            "/index.php/wp-json/wc/v3/",
            "/wp-json/wc/v3/orders",
            "/wp-admin/",
        ] {
            assert_eq!(site(&format!("https://shop.example.com{end}")), "https://shop.example.com", "{end}");
            assert_eq!(site(&format!("https://shop.example.com/sub{end}")), "https://shop.example.com/sub", "{end}");
        }
        assert_eq!(site("https://shop.example.com/my-wp-json"), "https://shop.example.com/my-wp-json");
    }

    #[test]
    fn ways_of_calling_are_settings() {
        let with = |settings: Value, site: &'static str| {
            let settings = settings.as_object().unwrap().clone();
            let access = Access { site, settings: &settings, ..access() };
            WooCommerce.delete(&access, &7.into()).unwrap()
        };
        let (sub, root) = ("https://shop.example.com/sub", "https://shop.example.com");
        let url = |request: ApiRequest| request.url.to_string();
        let route = "rest_route=%2Fwc%2Fv3%2Fwebhooks%2F7";
        assert_eq!(url(with(json!({ "rest_route": true }), sub)), format!("{sub}/?{route}&force=true"));
        assert_eq!(url(with(json!({ "rest_route": true }), root)), format!("{root}/?{route}&force=true"));
        let both = with(json!({ "rest_route": true, "key_in_query": true }), root);
        assert!(!format!("{both:?}").contains("cs_2") && !both.headers.contains_key("authorization"));
        assert_eq!(url(both), format!("{root}/?{route}&consumer_key=ck_1&consumer_secret=cs_2&force=true"));
        let open = with(json!({ "key_in_query": true }), "http://127.0.0.1:8080");
        assert!(open.headers.contains_key("authorization"), "never over http");
        assert_eq!(url(open), "http://127.0.0.1:8080/wp-json/wc/v3/webhooks/7?force=true");
        let kept = settings(r#"{"site":"https://shop.example.com","rest_route":true,"key_in_query":false}"#).unwrap();
        assert_eq!(Value::Object(kept.own), json!({ "rest_route": true }));
    }

    #[test]
    fn pages_end_where_the_header_says_or_the_page_is_not_full() {
        let webhook = r#"{"id":1,"status":"disabled","topic":"order.updated","delivery_url":"https://x"}"#;
        let mut page = answer(200, &format!("[{webhook}]"));
        let read = WooCommerce.listed(&page, 1, NOW).unwrap();
        assert!(!read.more);
        assert_eq!(read.webhooks[0].status, WebhookStatus::Inactive("disabled".into()));
        page.headers.insert("x-wp-totalpages", HeaderValue::from_static("2"));
        assert!(WooCommerce.listed(&page, 1, NOW).unwrap().more);
        assert!(!WooCommerce.listed(&page, 2, NOW).unwrap().more);
        assert!(matches!(WooCommerce.listed(&answer(200, "<html>"), 1, NOW), Err(Fault::Connection(_))));
        assert!(matches!(WooCommerce.listed(&answer(200, "[1]"), 1, NOW), Err(Fault::Unreadable(_))));
        for odd in [
            format!("\u{feff}[{webhook}]"),
            format!(r#"{{"3":{webhook}}}"#),
            format!("<b>Notice</b>: x [0]<br />[{webhook}]"),
        ] {
            assert_eq!(WooCommerce.listed(&answer(200, &odd), 1, NOW).unwrap().webhooks.len(), 1, "{odd}");
        }
        assert!(matches!(WooCommerce.listed(&answer(401, "{}"), 1, NOW), Err(Fault::Connection(_))));
    }

    #[test]
    fn gone_already_is_success_but_any_404_is_not() {
        let gone =
            r#"{"code":"woocommerce_rest_shop_webhook_invalid_id","message":"Invalid ID.","data":{"status":404}}"#;
        assert_eq!(WooCommerce.deleted(&answer(404, gone), NOW), Ok(()));
        assert_eq!(WooCommerce.deleted(&answer(200, "{}"), NOW), Ok(()));
        assert!(WooCommerce.deleted(&answer(404, r#"{"code":"rest_no_route"}"#), NOW).is_err());
        assert!(WooCommerce.deleted(&answer(404, "<html>"), NOW).is_err());
    }
}
