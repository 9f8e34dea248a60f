//! What the registrar has to know of CloudBlue Connect: settings, and with them the policies by which requests are answered.

use std::collections::BTreeMap;

use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::mapping::call;
use crate::{
    api::{ApiRequest, Fault, site_url},
    connection::ConnectionKey,
    platforms::{Access, Hooks, OwnSettings, SettingsError, Subscriptions, read_own},
};

/// The registrar's view.
pub struct CloudBlue;

/// Where the API is [`specs.yml`, `servers`].
const SITE: &str = "https://api.connect.cloudblue.com/public/v1";

/// What precedes a key in the header; the platform shows it as a part of the key.
const API_KEY: &str = "ApiKey ";

/// The types of requests [`specs.yml`]: those of fulfilment, then what tier configurations have beyond them.
const TYPES: [&str; 10] =
    ["purchase", "change", "suspend", "resume", "cancel", "adjustment", "renew", "transfer", "setup", "update"];

/// The types of connections between vendor and distributor.
const CONNECTION_TYPES: [&str; 3] = ["production", "test", "preview"];

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

/// A rule of a product's policy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRule {
    /// When it fits.
    #[serde(default)]
    pub when: When,
    /// Approve.
    #[serde(default)]
    pub approve: Option<Approve>,
    /// Refuse, for good.
    #[serde(default)]
    pub fail: Option<Fail>,
    /// Ask the customer.
    #[serde(default)]
    pub inquire: Option<Inquire>,
    /// Leave it to somebody else.
    #[serde(default)]
    pub observe: Option<bool>,
}

/// Conditions, all of which must hold; one that is absent does.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// One of these types.
    #[serde(default, rename = "type")]
    pub kind: Option<Vec<String>>,
    /// The customer's country is one of these.
    #[serde(default)]
    pub country_in: Option<Vec<String>>,
    /// The customer's country is none of these.
    #[serde(default)]
    pub country_not_in: Option<Vec<String>>,
    /// The request has this parameter, and it is empty.
    #[serde(default)]
    pub empty_parameter: Option<String>,
    /// One of these types of connection.
    #[serde(default)]
    pub connection_type: Option<Vec<String>>,
}

/// How to approve.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// The template of what the customer is told.
    pub template: String,
}

/// How to refuse.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// Why.
    pub reason: String,
}

/// How to ask.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inquire {
    /// The template of what the customer is told.
    pub template: String,
    /// What is wrong with which parameter.
    #[serde(default)]
    pub errors: BTreeMap<String, String>,
}

impl PolicyRule {
    /// Reads a rule and checks all of it.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(rule: &Value) -> Result<(), String> {
        let Value::Object(members) = rule else { return Err("a rule must be an object".into()) };
        let rule: Self = read_own(members.clone()).map_err(|error| error.why)?;
        let When { kind, country_in, country_not_in, empty_parameter, connection_type } = &rule.when;
        one_of("type", kind.as_ref(), |kind| TYPES.contains(&kind), "of the types of requests, such as purchase")?;
        let country = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase());
        one_of("country_in", country_in.as_ref(), country, "countries in two capital letters, such as DE")?;
        one_of("country_not_in", country_not_in.as_ref(), country, "countries in two capital letters, such as DE")?;
        let known = |kind: &str| CONNECTION_TYPES.contains(&kind);
        one_of("connection_type", connection_type.as_ref(), known, "of production, test and preview")?;
        if empty_parameter.as_ref().is_some_and(|id| !is_short(id, 100)) {
            return Err("empty_parameter must be the id of a parameter".into());
        }
        let actions = [rule.approve.is_some(), rule.fail.is_some(), rule.inquire.is_some(), rule.observe.is_some()];
        if actions.iter().filter(|there| **there).count() != 1 {
            return Err("must have exactly one of approve, fail, inquire and observe".into());
        }
        if rule.observe == Some(false) {
            return Err("observe can only be true".into());
        }
        let template = rule.approve.as_ref().map(|approve| &approve.template);
        let template = template.or(rule.inquire.as_ref().map(|inquire| &inquire.template));
        if template.is_some_and(|template| !is_id(template, "TL-")) {
            return Err("template must be the id of a template, such as TL-123-456-789".into());
        }
        // The platform's own limit for tier configuration requests.
        if rule.fail.as_ref().is_some_and(|fail| !is_short(&fail.reason, 500)) {
            return Err("reason must be a text of 1 to 500 bytes".into());
        }
        let errors = rule.inquire.iter().flat_map(|inquire| &inquire.errors);
        if errors.into_iter().any(|(id, message)| !is_short(id, 100) || !is_short(message, 500)) {
            return Err("errors must map ids of parameters to texts of 1 to 500 bytes".into());
        }
        Ok(())
    }
}

fn one_of(name: &str, list: Option<&Vec<String>>, fits: impl Fn(&str) -> bool, what: &str) -> Result<(), String> {
    let wrong = list.is_some_and(|list| list.is_empty() || !list.iter().all(|element| fits(element)));
    if wrong { Err(format!("{name} must be a list {what}")) } else { Ok(()) }
}

fn is_short(text: &str, most: usize) -> bool {
    !text.trim().is_empty() && text.len() <= most && !text.chars().any(char::is_control)
}

fn is_id(text: &str, prefix: &str) -> bool {
    let rest = text.strip_prefix(prefix).unwrap_or_default();
    !rest.is_empty() && text.len() <= 100 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn wrong(field: &str, why: impl Into<String>) -> SettingsError {
    SettingsError::new(field, why)
}

fn check_policy(product: &str, policy: &Value) -> Result<(), SettingsError> {
    match policy {
        Value::String(word) if word == "observe" => Ok(()),
        Value::Array(rules) => rules.iter().enumerate().try_for_each(|(place, rule)| {
            PolicyRule::check(rule).map_err(|why| wrong(&format!("products.{product}[{place}]"), why))
        }),
        _ => Err(wrong(&format!("products.{product}"), "must be \"observe\" or a list of rules")),
    }
}

impl Subscriptions for CloudBlue {
    fn settings(
        &self,
        _key: &ConnectionKey,
        members: Map<String, Value>,
        allow_loopback: bool,
    ) -> Result<OwnSettings, SettingsError> {
        let input: Input = read_own(members)?;
        let site = input.site.as_deref().unwrap_or(SITE);
        let site = site_url(site, allow_loopback).map_err(|error| wrong("site", error.to_string()))?;
        if site != SITE && !allow_loopback {
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
        Ok(OwnSettings { site, credentials: credentials.transpose()?, own, brought: Vec::new() })
    }

    /// Whoever may work on requests may see the webhooks. The answer holds their secrets, and is not looked at.
    fn check(&self, access: &Access<'_>) -> Result<Option<ApiRequest>, Fault> {
        let mut request = call(access, Method::GET, &["notifications", "webhooks"])?;
        request.url.set_query(Some("limit=1"));
        Ok(Some(request))
    }

    fn hooks(&self) -> Option<&'static dyn Hooks> {
        None
    }

    fn by_hand(&self) -> &'static str {
        "for each product make a webhook of the type event for fulfillment_request, and another for tier_config_request where the \
         product has tier configurations, with the address, and with the secret that `make secret` prints as its JWT secret; then \
         connect again with the ids of these webhooks (WH-…) under `webhooks`"
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::platforms::{self, Settings};

    fn settings(body: &Value) -> Result<Settings, SettingsError> {
        let path = crate::request::HookPath::parse("cloudblue", "va-000-111", None).unwrap();
        platforms::settings(&super::super::PLATFORM, &path.key, body.to_string().as_bytes(), false)
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
        let path = crate::request::HookPath::parse("cloudblue", "va-000-111", None).unwrap();
        let local = br#"{"site":"http://127.0.0.1:8080/public/v1/"}"#;
        let read = platforms::settings(&super::super::PLATFORM, &path.key, local, true).unwrap();
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

    #[test]
    fn the_check_shows_the_key_to_the_platform_and_to_nobody_else() {
        let none = Map::new();
        let access = Access { site: SITE, credentials: "ApiKey SU-1:s3cr3t", settings: &none };
        let request = CloudBlue.check(&access).unwrap().unwrap();
        let shown = format!("{request:?} {:?}", request.headers);
        assert!(shown.starts_with(&format!("GET {SITE}/notifications/webhooks?limit=1")), "{shown}");
        assert!(!shown.contains("s3cr3t") && request.headers["authorization"] == "ApiKey SU-1:s3cr3t", "{shown}");
    }
}
