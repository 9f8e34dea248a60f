//! The registrar's part of CloudBlue Connect: settings, with the policies by which requests are answered, and the calls
//! of `/notifications/webhooks`.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{
    mapping::{FULFILLMENT, TIER_CONFIG},
    wire,
};
use crate::{
    entity::ExternalId,
    http_call::{ApiRequest, ApiResponse, Fault, Loopback, site_url},
    key::ConnectionKey,
    keys::WebhookSecret,
    platform::{
        Platform,
        lenient::{read, read_list},
        pull::Access,
        settings::{OwnSettings, SettingsError, read_own},
        webhooks::{Desired, Page, Saving, Setup, Webhook, WebhookApi, WebhookStatus},
    },
    platforms::cloudblue::{
        CloudBlue,
        api::{call, refusal, unreadable},
        lists::{PAGE_SIZE, is_last},
        policy::{MAX_LABEL, check_policy, is_id},
    },
    timestamp::Timestamp,
};

/// The URL of the API [`specs.yml`, `servers`].
const SITE: &str = "https://api.connect.cloudblue.com/public/v1";

/// The prefix of a key in the header. The platform shows it as a part of the key.
const API_KEY: &str = "ApiKey ";

/// The types of requests [`specs.yml`]: those of fulfilment, then the further ones of tier configurations.
pub(super) const TYPES: [&str; 10] =
    ["purchase", "change", "suspend", "resume", "cancel", "adjustment", "renew", "transfer", "setup", "update"];

/// The type of a webhook that reports events; the others ask for validation [`specs.yml`].
const EVENT: &str = "event";

/// The types of connections between vendor and distributor.
pub(super) const CONNECTION_TYPES: [&str; 3] = ["production", "test", "preview"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    api_key: Option<Zeroizing<String>>,
    #[serde(default)]
    site: Option<String>,
    #[serde(default)]
    webhooks: Vec<String>,
    #[serde(default)]
    products: BTreeMap<String, Value>,
}

pub(super) fn wrong(field: &str, why: impl Into<String>) -> SettingsError {
    SettingsError::new(field, why)
}

impl Setup for CloudBlue {
    fn settings(
        &self,
        _key: &ConnectionKey,
        members: Map<String, Value>,
        loopback: Loopback,
    ) -> Result<OwnSettings, SettingsError> {
        let input: Input = read_own(members)?;
        let site = input.site.as_deref().unwrap_or(SITE);
        let site = site_url(site, loopback).map_err(|error| wrong("site", error.to_string()))?;
        if site != SITE && loopback == Loopback::Refused {
            return Err(wrong("site", format!("is {SITE}; leave it out")));
        }
        let credentials = input.api_key.map(|key| {
            let key = key.trim();
            let secret = key.strip_prefix(API_KEY).unwrap_or(key);
            let parts = secret.split_once(':').is_some_and(|(user, secret)| is_id(user, "SU-") && !secret.is_empty());
            if !parts || secret.len() > 500 || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong("api_key", "must be as CloudBlue Connect shows it: ApiKey SU-000-000-000:…"));
            }
            Ok(Zeroizing::new(format!("{API_KEY}{secret}")))
        });
        if !input.webhooks.iter().all(|id| is_id(id, "WH-")) {
            return Err(wrong("webhooks", "must be a list of the ids of webhooks, such as WH-123-456-789"));
        }
        for (product, policy) in &input.products {
            if !is_id(product, "PRD-") {
                return Err(wrong("products", "must have ids of products for names, such as PRD-123-456-789"));
            }
            check_policy(product, policy)?;
        }
        let own = [("webhooks", json!(input.webhooks)), ("products", json!(input.products))];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(OwnSettings { site, credentials: credentials.transpose()?, own, brought: Vec::new(), sender: None })
    }

    fn webhooks(&self) -> Option<&'static dyn WebhookApi> {
        Some(&Self)
    }

    fn manual_instructions(&self) -> &'static str {
        "for each product make a webhook of the type event for fulfillment_request, and another for tier_config_request where the \
         product has tier configurations, with the address, and with the secret that `make secret` prints as its JWT secret; then \
         connect again with the ids of these webhooks (WH-…) under `webhooks`. With an api_key they are made for you, for the \
         products that `products` names and for no others"
    }
}

impl WebhookApi for CloudBlue {
    /// Returns two topics (`scope`) for each product of the settings, because a webhook is for one product and one
    /// class of objects. Without products, there are none: we do not guess which of an account's products are meant.
    fn wanted(&self, _platform: &Platform, settings: &Map<String, Value>) -> Vec<String> {
        let products = settings.get("products").and_then(Value::as_object);
        let products: BTreeSet<&String> = products.into_iter().flat_map(Map::keys).collect();
        let both = |product: &String| [FULFILLMENT, TIER_CONFIG].map(|class| scope(class, product));
        products.into_iter().flat_map(both).collect()
    }

    /// Returns the class. A delivery names its class, and its product only inside.
    fn delivers<'s>(&self, scope: &'s str) -> &'s str {
        scope.split_once('@').map_or(scope, |(class, _)| class)
    }

    /// Adds the webhooks' ids to the settings. Tokens name their webhook, and only those of these webhooks are
    /// admitted.
    fn settings_with(&self, mut settings: Map<String, Value>, webhooks: &[ExternalId]) -> Map<String, Value> {
        let given = settings.get("webhooks").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let all: BTreeSet<&str> = given.chain(webhooks.iter().map(ExternalId::as_str)).collect();
        let all = json!(all);
        settings.insert("webhooks".to_owned(), all);
        settings
    }

    fn list(&self, access: &Access<'_>, page: u32) -> Result<ApiRequest, Fault> {
        let offset = u64::from(page.saturating_sub(1)) * PAGE_SIZE as u64;
        let mut request = call(access, Method::GET, &WEBHOOKS)?;
        request.url.set_query(Some(&format!("limit={PAGE_SIZE}&offset={offset}")));
        Ok(request)
    }

    /// Reads a page of webhooks. The list includes those of others in the account.
    fn listed(&self, response: &ApiResponse, _page: u32, now: Timestamp) -> Result<Page, Fault> {
        if !response.is_success() {
            return Err(response.fault(now));
        }
        let webhooks: Vec<wire::Webhook> = read_list(&response.body)?;
        let more = !is_last(response, webhooks.len());
        // Pages are counted by the size that was asked for. After a shorter page, some webhooks would be skipped, and
        // made again.
        if more && webhooks.len() < PAGE_SIZE {
            return Err(Fault::Unreadable("a page of webhooks is shorter than was asked for, and not the last".into()));
        }
        Ok(Page { webhooks: webhooks.into_iter().map(read_webhook).collect(), more })
    }

    fn create(&self, access: &Access<'_>, scope: &str, url: &str, secret: &WebhookSecret) -> Result<ApiRequest, Fault> {
        Ok(call(access, Method::POST, &WEBHOOKS)?.json(&body(scope, url, secret)?))
    }

    /// Reads, changes and writes a webhook as a whole: the documentation does not say whether a part would do, and
    /// additions by others, such as a header, stay.
    fn update(
        &self,
        access: &Access<'_>,
        id: &ExternalId,
        desired: &Desired<'_>,
        answers: &[ApiResponse],
        now: Timestamp,
    ) -> Result<Saving, Fault> {
        match answers {
            [] => Ok(Saving::Ask(call(access, Method::GET, &one(id))?)),
            [shown] if !shown.is_success() => Err(shown.fault(now)),
            [shown] => {
                let shown: Map<String, Value> = read(&shown.body).map_err(unreadable)?;
                let mut body = body(desired.scope, desired.url, desired.secret)?;
                for name in ["label", "description"] {
                    if let Some(text) =
                        shown.get(name).filter(|text| text.as_str().is_some_and(|text| !text.is_empty()))
                    {
                        body[name] = text.clone();
                    }
                }
                for name in ["data", "headers"] {
                    let kept = shown.get(name).and_then(Value::as_object).into_iter().flatten();
                    let kept: Map<String, Value> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
                    if let Some(ours) = body[name].as_object_mut() {
                        let given = std::mem::replace(ours, kept);
                        ours.extend(given);
                    }
                }
                body["active"] = desired.active.into();
                Ok(Saving::Ask(call(access, Method::PUT, &one(id))?.json(&body)))
            }
            [.., saved] => self.saved(saved, now).map(Saving::Done),
        }
    }

    fn saved(&self, response: &ApiResponse, now: Timestamp) -> Result<Webhook, Fault> {
        if let Some(why) = refusal(response) {
            return Err(Fault::Connection(format!("the platform refuses the webhook: {why}")));
        }
        if !response.is_success() {
            return Err(response.fault(now));
        }
        Ok(read_webhook(read(&response.body).map_err(unreadable)?))
    }

    fn delete(&self, access: &Access<'_>, id: &ExternalId) -> Result<ApiRequest, Fault> {
        call(access, Method::DELETE, &one(id))
    }

    fn deleted(&self, response: &ApiResponse, now: Timestamp) -> Result<(), Fault> {
        let gone = response.status == 404 && read::<wire::Error>(&response.body).is_ok();
        if response.is_success() || gone { Ok(()) } else { Err(response.fault(now)) }
    }
}

/// The path of the webhooks.
const WEBHOOKS: [&str; 2] = ["notifications", "webhooks"];

/// Returns the path of one webhook.
fn one(id: &ExternalId) -> [&str; 3] {
    let [notifications, webhooks] = WEBHOOKS;
    [notifications, webhooks, id.as_str()]
}

/// Joins a class and a product to a topic. Neither contains the sign between them.
fn scope(class: &str, product: &str) -> String {
    format!("{class}@{product}")
}

/// Returns the whole form of a webhook, whose own headers must name its content type.
fn body(scope: &str, url: &str, secret: &WebhookSecret) -> Result<Value, Fault> {
    let unknown = || Fault::Unreadable(format!("there is no webhook for {scope:?}"));
    let (class, product) = scope.split_once('@').ok_or_else(unknown)?;
    let label: String = format!("commerce-hooks {class}").chars().take(MAX_LABEL).collect();
    Ok(json!({
        "type": EVENT,
        "object_class": class,
        "label": label,
        "product_id": product,
        "description": "Made by commerce-hooks, and kept as it was made.",
        "external_url": url,
        "jwt_secret": secret.reveal(),
        "active": true,
        "http_method": "POST",
        "data": {},
        "headers": { "Content-Type": "application/json" },
    }))
}

/// Reads a webhook. A validator delivers something else, whatever its class, so its topic is never a wanted one.
fn read_webhook(webhook: wire::Webhook) -> Webhook {
    let wire::Webhook { id, kind, object_class, product, external_url, active, stats } = webhook;
    let product = product.as_ref().map_or("", ExternalId::as_str);
    let scope = scope(&object_class.unwrap_or_default(), product);
    let scope = match kind {
        Some(kind) if kind != EVENT => format!("{kind}/{scope}"),
        _ => scope,
    };
    let status = match active {
        Some(false) => WebhookStatus::Inactive("inactive".to_owned()),
        _ => WebhookStatus::Active,
    };
    Webhook { id, scope, url: external_url.unwrap_or_default(), status, failures: stats.failure_since_last_success }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::platform::settings::Settings;

    const NOW: Timestamp = Timestamp::from_micros(0);

    fn settings(body: &Value) -> Result<Settings, SettingsError> {
        let path = crate::request::WebhookPath::parse("cloudblue", "va-000-111", None).unwrap();
        crate::platform::settings::settings(
            &super::super::PLATFORM,
            &path.key,
            body.to_string().as_bytes(),
            Loopback::Refused,
        )
    }

    fn error(body: Value) -> (String, String) {
        match settings(&body) {
            Ok(_) => unreachable!("{body} was taken"),
            Err(SettingsError { field, why }) => (field, why),
        }
    }

    #[test]
    fn a_key_is_taken_with_its_word_or_without() {
        for key in ["SU-1-2-3:abc", "ApiKey SU-1-2-3:abc", " ApiKey SU-1-2-3:abc\n"] {
            let read = settings(&json!({ "api_key": key })).unwrap();
            assert_eq!(read.credentials.unwrap().as_str(), "ApiKey SU-1-2-3:abc");
            assert_eq!(read.site, SITE);
        }
        assert!(settings(&json!({})).unwrap().credentials.is_none());
        for key in ["", "ApiKey ", "s3cr3t", "SU-1:", "SU-1:s3cr3t\r\nHost: x", "Bearer SU-1:s3cr3t"] {
            let (field, why) = error(json!({ "api_key": key }));
            assert!(field == "api_key" && !why.contains("s3cr3t"), "{key}");
        }
    }

    #[test]
    fn the_api_is_at_the_platform_s_host_only() {
        assert_eq!(error(json!({ "site": "https://api.connect.example.com/public/v1" })).0, "site");
        assert_eq!(error(json!({ "site": "http://127.0.0.1:8080" })).0, "site");
        let path = crate::request::WebhookPath::parse("cloudblue", "va-000-111", None).unwrap();
        let local = br#"{"site":"http://127.0.0.1:8080/public/v1/"}"#;
        let read =
            crate::platform::settings::settings(&super::super::PLATFORM, &path.key, local, Loopback::Allowed).unwrap();
        assert_eq!(read.site, "http://127.0.0.1:8080/public/v1");
    }

    #[test]
    fn policies_are_checked_by_product_and_rule() {
        let full = json!({ "webhooks": ["WH-1-2-3"], "products": {
            "PRD-1": "observe",
            "PRD-2": [
                { "when": { "type": ["purchase"], "country_not_in": ["DE"] }, "fail": { "reason": "Not sold there." } },
                { "when": { "empty_parameter": "domain" }, "inquire": { "template": "TL-1", "errors": { "domain": "Which?" } } },
                { "when": { "connection_type": ["test"] }, "observe": true },
                { "approve": { "template": "TL-2" } },
            ],
        }});
        assert_eq!(Value::Object(settings(&full).unwrap().own), full);

        let rule = |rule: Value| error(json!({ "products": { "PRD-2": [{ "observe": true }, rule] } }));
        for (wrong, why) in [
            (json!({}), "exactly one"),
            (json!({ "approve": { "template": "TL-1" }, "observe": true }), "exactly one"),
            (json!({ "observe": false }), "only be true"),
            (json!({ "aprove": { "template": "TL-1" } }), "unknown field aprove"),
            (json!({ "approve": {} }), "missing field template"),
            (json!({ "approve": { "template": "1" } }), "template"),
            (json!({ "inquire": { "template": "TL-" } }), "template"),
            (json!({ "inquire": { "template": "TL-1", "errors": { "a": "" } } }), "errors"),
            (json!({ "fail": { "reason": " " } }), "reason"),
            (json!({ "fail": { "reason": "x".repeat(501) } }), "reason"),
            (json!({ "when": { "type": ["buy"] }, "observe": true }), "type"),
            (json!({ "when": { "type": [] }, "observe": true }), "type"),
            (json!({ "when": { "country_in": ["Germany"] }, "observe": true }), "country_in"),
            (json!({ "when": { "country_not_in": ["de"] }, "observe": true }), "country_not_in"),
            (json!({ "when": { "connection_type": ["live"] }, "observe": true }), "connection_type"),
            (json!({ "when": { "empty_parameter": "" }, "observe": true }), "empty_parameter"),
            (json!({ "when": { "countries": ["DE"] }, "observe": true }), "unknown field countries"),
            (json!("approve"), "object"),
        ] {
            let (field, told) = rule(wrong.clone());
            assert_eq!(field, "products.PRD-2[1]", "{wrong}");
            assert!(told.contains(why), "{wrong}: {told}");
        }
        assert_eq!(error(json!({ "products": { "PRD-2": "approve" } })).0, "products.PRD-2");
        assert_eq!(error(json!({ "products": { "PRD_2": "observe" } })).0, "products");
        assert_eq!(error(json!({ "webhooks": ["WH-1", "1"] })).0, "webhooks");
        assert_eq!(error(json!({ "key": "SU-1:x" })), ("body".into(), "unknown field key".into()));
    }

    fn access(settings: &Map<String, Value>) -> Access<'_> {
        Access { site: SITE, credentials: "ApiKey SU-1:s3cr3t", settings }
    }

    fn answer(status: u16, body: &str) -> ApiResponse {
        ApiResponse { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn ranged(webhooks: usize, range: &str) -> ApiResponse {
        let webhooks: Vec<_> = (0..webhooks).map(|n| shown(&format!("WH-{n}"), &json!({}))).collect();
        let mut answer = answer(200, &json!(webhooks).to_string());
        answer.headers.insert("content-range", HeaderValue::from_str(range).unwrap());
        answer
    }

    /// Returns a webhook as the platform shows it, with these differences.
    fn shown(id: &str, differs: &Value) -> Value {
        let mut webhook = json!({
            "id": id, "type": "event", "object_class": "fulfillment_request", "label": "orders", "active": true,
            "external_url": "https://x/hooks", "jwt_secret": "s3cr3t", "description": null, "http_method": "POST",
            "product": { "id": "PRD-1", "name": "P", "icon": null }, "data": {}, "headers": {}, "last_event": null,
        });
        webhook.as_object_mut().unwrap().extend(differs.as_object().unwrap().clone());
        webhook
    }

    fn secret() -> WebhookSecret {
        let ring = crate::keys::KeyRing::parse("0123456789abcdef0123456789abcdef").unwrap();
        let path = crate::request::WebhookPath::parse("cloudblue", "va-000-111", None).unwrap();
        ring.signing().webhook_secret(&path, None)
    }

    fn wanted(products: &Value) -> Vec<String> {
        let settings = Map::from_iter([("products".to_owned(), products.clone())]);
        CloudBlue.wanted(&super::super::PLATFORM, &settings)
    }

    #[test]
    fn each_product_is_wanted_with_both_classes_and_no_product_with_none() {
        let both = |product: &str| [format!("fulfillment_request@{product}"), format!("tier_config_request@{product}")];
        let two = wanted(&json!({ "PRD-2": "observe", "PRD-10": [] }));
        assert_eq!(two, [both("PRD-10"), both("PRD-2")].concat());
        assert!(wanted(&json!({})).is_empty());
        assert!(CloudBlue.wanted(&super::super::PLATFORM, &Map::new()).is_empty());
    }

    #[test]
    fn what_is_admitted_is_what_was_given_and_what_was_made() {
        let with = |given: Value, made: &[&str]| {
            let ids: Vec<ExternalId> = made.iter().map(|id| id.parse().unwrap()).collect();
            let settings = Map::from_iter([("webhooks".to_owned(), given), ("products".to_owned(), json!({}))]);
            let settings = CloudBlue.settings_with(settings, &ids);
            assert_eq!(settings["products"], json!({}));
            settings["webhooks"].clone()
        };
        assert_eq!(with(json!(["WH-3", "WH-1"]), &["WH-2", "WH-1"]), json!(["WH-1", "WH-2", "WH-3"]));
        assert_eq!(with(json!([]), &[]), json!([]));
        assert_eq!(CloudBlue.settings_with(Map::new(), &["WH-1".parse().unwrap()])["webhooks"], json!(["WH-1"]));
    }

    #[test]
    fn calls_are_those_of_the_webhooks_and_show_no_secret() {
        let (none, secret, id) = (Map::new(), secret(), "WH-1-2-3".parse().unwrap());
        let (access, scope, url) = (access(&none), "tier_config_request@PRD-1", "https://x/hooks");
        let base = format!("{SITE}/notifications/webhooks");
        let list = CloudBlue.list(&access, 1).unwrap();
        let create = CloudBlue.create(&access, scope, url, &secret).unwrap();
        let desired = Desired { scope, url, secret: &secret, active: true };
        let Saving::Ask(get) = CloudBlue.update(&access, &id, &desired, &[], NOW).unwrap() else { unreachable!() };
        let shown = json!({ "id": "WH-1-2-3", "label": "theirs", "headers": { "X-A": "1" }, "jwt_secret": "s3cr3t" });
        let shown = answer(200, &shown.to_string());
        let Saving::Ask(update) = CloudBlue.update(&access, &id, &desired, &[shown], NOW).unwrap() else {
            unreachable!()
        };
        let delete = CloudBlue.delete(&access, &id).unwrap();
        for (request, expected) in [
            (&list, format!("GET {base}?limit=100&offset=0")),
            (&CloudBlue.list(&access, 3).unwrap(), format!("GET {base}?limit=100&offset=200")),
            (&create, format!("POST {base}")),
            (&get, format!("GET {base}/WH-1-2-3")),
            (&update, format!("PUT {base}/WH-1-2-3")),
            (&delete, format!("DELETE {base}/WH-1-2-3")),
            (&CloudBlue.delete(&access, &"../x".parse().unwrap()).unwrap(), format!("DELETE {base}/..%2Fx")),
        ] {
            assert_eq!(format!("{request:?}"), expected);
            assert!(request.headers["authorization"] == "ApiKey SU-1:s3cr3t");
            assert!(!format!("{:?}", request.headers).contains("s3cr3t"));
        }
        let body: Value = serde_json::from_slice(&create.body).unwrap();
        let expected = json!({
            "type": "event", "object_class": "tier_config_request", "label": "commerce-hooks tier_config_request",
            "product_id": "PRD-1", "description": body["description"], "external_url": url, "jwt_secret": secret.reveal(),
            "active": true, "http_method": "POST", "data": {}, "headers": { "Content-Type": "application/json" },
        });
        assert_eq!(body, expected);
        assert!(!body["description"].as_str().unwrap().is_empty());
        assert!(body["jwt_secret"].as_str().unwrap().len() <= 100, "the longest that the platform takes");
        let mut changed: Value = serde_json::from_slice(&update.body).unwrap();
        assert_eq!(changed["label"].take(), "theirs", "what people call it stays");
        assert_eq!(changed["headers"].take(), json!({ "X-A": "1", "Content-Type": "application/json" }));
        let mut made: Value = serde_json::from_slice(&create.body).unwrap();
        (made["label"], made["headers"]) = (Value::Null, Value::Null);
        assert_eq!(changed, made, "and the rest is ours");
        assert!(CloudBlue.create(&access, "trigger", url, &secret).is_err());
    }

    #[test]
    fn only_events_can_be_what_is_wanted() {
        let wanted = wanted(&json!({ "PRD-1": "observe" }));
        let read = |differs: Value| {
            let list = json!([shown("WH-1", &differs)]).to_string();
            let mut page = CloudBlue.listed(&answer(200, &list), 1, NOW).unwrap();
            assert!(!page.more && !format!("{page:?}").contains("s3cr3t"), "{page:?}");
            page.webhooks.remove(0)
        };
        let webhook = read(json!({}));
        assert_eq!((webhook.id.as_str(), webhook.scope.as_str()), ("WH-1", wanted[0].as_str()));
        assert_eq!((webhook.url.as_str(), webhook.status), ("https://x/hooks", WebhookStatus::Active));
        assert_eq!(read(json!({ "object_class": "tier_config_request" })).scope, wanted[1]);
        assert_eq!(read(json!({ "active": false })).status, WebhookStatus::Inactive("inactive".into()));
        for other in [
            json!({ "type": "validator" }),
            json!({ "type": "draft_tcr_t1_val", "object_class": "tier_config_request" }),
            json!({ "object_class": "usage_file" }),
            json!({ "object_class": null, "type": "change_validator" }),
            json!({ "product": { "id": "PRD-10" } }),
            json!({ "product": null, "external_url": null, "active": null }),
        ] {
            let scope = read(other.clone()).scope;
            assert!(!wanted.contains(&scope), "{other}: {scope}");
        }
        for nothing in [json!(null), json!(""), json!([]), json!({}), json!({ "failure_since_last_success": null })] {
            let webhook = read(json!({ "stats": nothing, "data": null, "headers": "", "active": "" }));
            assert_eq!((webhook.failures, webhook.scope.as_str()), (None, wanted[0].as_str()), "{nothing}");
        }
        assert_eq!(read(json!({ "stats": { "failure_since_last_success": "3" } })).failures, Some(3));
    }

    #[test]
    fn pages_go_on_until_the_range_ends_and_none_may_be_short() {
        let more = |answer: &ApiResponse| CloudBlue.listed(answer, 1, NOW).map(|page| page.more);
        assert_eq!(more(&ranged(100, "items 0-99/101")), Ok(true));
        assert_eq!(more(&ranged(100, "items 0-99/100")), Ok(false));
        assert_eq!(more(&ranged(1, "webhooks 100-100/101")), Ok(false));
        assert_eq!(more(&ranged(0, "items */0")), Ok(false));
        assert!(matches!(more(&ranged(50, "items 0-49/51")), Err(Fault::Unreadable(_))));
        assert!(matches!(more(&answer(401, "{}")), Err(Fault::Connection(_))));
        for body in ["<html>", r#"[{"jwt_secret":"s3cr3t"}]"#, r#"[{"id":"WH-1","external_url":["s3cr3t"]}]"#] {
            let error = more(&answer(200, body)).unwrap_err();
            assert!(matches!(error, Fault::Unreadable(_)) && !error.to_string().contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn what_is_saved_has_an_id_and_a_refusal_only_its_code() {
        let webhook = shown("WH-7", &json!({ "id": "WH-7" })).to_string();
        for status in [200, 201] {
            assert_eq!(CloudBlue.saved(&answer(status, &webhook), NOW).unwrap().id.as_str(), "WH-7");
        }
        let refused = r#"{"error_code":"VAL_001","errors":["jwt_secret: s3cr3t is too short"]}"#;
        let error = CloudBlue.saved(&answer(400, refused), NOW).unwrap_err();
        assert!(matches!(error, Fault::Connection(_)), "{error:?}");
        let told = error.to_string();
        assert!(told.contains("VAL_001") && !told.contains("s3cr3t"), "{told}");
        assert!(matches!(CloudBlue.saved(&answer(500, "<html>"), NOW), Err(Fault::Unavailable(_))));
        assert!(matches!(CloudBlue.saved(&answer(201, ""), NOW), Err(Fault::Unreadable(_))));
    }

    #[test]
    fn gone_already_is_success_but_any_404_is_not() {
        let gone = r#"{"error_code":"NFND_000","errors":["Object not found."]}"#;
        assert_eq!(CloudBlue.deleted(&answer(404, gone), NOW), Ok(()));
        assert_eq!(CloudBlue.deleted(&answer(204, ""), NOW), Ok(()));
        assert!(CloudBlue.deleted(&answer(404, "<html>"), NOW).is_err());
        assert!(CloudBlue.deleted(&answer(400, gone), NOW).is_err());
    }
}
