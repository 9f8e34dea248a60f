//! The registrar's part of DirectScale: settings only, because its webhooks are entered by hand.

use serde::Deserialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::client;
use crate::{
    http_call::{Loopback, site_url},
    key::ConnectionKey,
    platform::{
        settings::{OwnSettings, SettingsError, read_own},
        webhooks::{Setup, WebhookApi},
    },
    platforms::directscale::{
        DirectScale,
        api::{Credentials, Service, Services},
    },
};

/// The shortest key that is accepted from DirectScale, in bytes.
const MIN_KEY_BYTES: usize = 16;
/// The most keys that are accepted.
const MAX_KEYS: usize = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    site: Option<String>,
    #[serde(default)]
    api_key: Option<Zeroizing<String>>,
    #[serde(default)]
    accept: Vec<Zeroizing<String>>,
    #[serde(default)]
    services: Option<Services>,
}

fn wrong(field: &str, why: impl Into<String>) -> SettingsError {
    SettingsError::new(field, why)
}

/// Returns whether a text is a key as a header carries it: HTTP strips spaces from its ends.
fn is_key(key: &str, least: usize) -> bool {
    (least..=4096).contains(&key.len()) && key.bytes().all(|byte| matches!(byte, b' '..=b'~')) && key.trim() == key
}

/// Returns the site of a client's environment.
fn default_site(connection: &str) -> Option<String> {
    let (client, environment) = client(connection);
    let label = client.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !label || client.ends_with('-') || client.len() > 63 {
        return None;
    }
    match environment {
        "" if client == connection => Some(format!("https://{client}.corpadmin.directscale.com")),
        "stage" => Some(format!("https://{client}.corpadmin.directscalestage.com")),
        _ => None,
    }
}

impl Setup for DirectScale {
    fn settings(
        &self,
        key: &ConnectionKey,
        members: Map<String, Value>,
        loopback: Loopback,
    ) -> Result<OwnSettings, SettingsError> {
        let input: Input = read_own(members)?;
        let own_site = default_site(key.connection.as_str()).ok_or_else(|| {
            wrong("connection", "must be the client's id, or {client}.stage for its stage environment")
        })?;
        let site = match input.site {
            None => own_site,
            Some(site) if loopback == Loopback::Allowed => {
                site_url(&site, Loopback::Allowed).map_err(|error| wrong("site", error.to_string()))?
            }
            Some(_) => return Err(wrong("site", "follows from the connection's id; leave it out")),
        };
        let credentials = match &input.api_key {
            None => None,
            Some(api_key) if is_key(api_key, 1) => {
                let credentials = Credentials { api_key: (**api_key).clone() };
                let text = serde_json::to_string(&credentials).map_err(|_| wrong("api_key", "cannot be written"))?;
                Some(Zeroizing::new(text))
            }
            Some(_) => return Err(wrong("api_key", "must be as Extension Settings shows it")),
        };
        if input.accept.len() > MAX_KEYS || !input.accept.iter().all(|key| is_key(key, MIN_KEY_BYTES)) {
            let why = format!(
                "must be up to {MAX_KEYS} keys as Extension Settings shows them, of at least {MIN_KEY_BYTES} characters"
            );
            return Err(wrong("accept", why));
        }
        let mut own = Map::new();
        if let Some(services) = input.services {
            check_services(&services)?;
            let services = serde_json::to_value(&services).map_err(|_| wrong("services", "cannot be written"))?;
            own.insert("services".into(), services);
        }
        Ok(OwnSettings { site, credentials, own, brought: input.accept, sender: None })
    }

    fn webhooks(&self) -> Option<&'static dyn WebhookApi> {
        None
    }

    fn manual_instructions(&self) -> &'static str {
        "in Corporate Admin > Tools > Developer Tools > Event Setup, add delivery_url for each event id; the key \
         that DirectScale sends is set in Extension Settings: the one that `make secret` prints, or one of your own, given \
         here in `accept`"
    }
}

fn check_services(services: &Services) -> Result<(), SettingsError> {
    let Some(Service { path, argument }) = &services.order else { return Ok(()) };
    let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if path.len() > 200 || !path.split('/').all(word) {
        return Err(wrong(
            "services",
            "path must be letters and digits with slashes between: OrderService/v1/GetOrder",
        ));
    }
    if argument.len() > 100 || !word(argument) {
        return Err(wrong("services", "argument must be letters and digits: orderNumber"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::{http_call::Loopback, platform::settings::Settings};

    fn settings(connection: &str, body: Value, loopback: Loopback) -> Result<Settings, SettingsError> {
        let path = crate::request::WebhookPath::parse("directscale", connection, None).unwrap();
        crate::platform::settings::settings(&super::super::PLATFORM, &path.key, body.to_string().as_bytes(), loopback)
    }

    fn error(connection: &str, body: Value) -> String {
        settings(connection, body, Loopback::Refused).err().unwrap().field
    }

    #[test]
    fn the_site_follows_from_the_connection() {
        let site = |connection: &str| settings(connection, json!({}), Loopback::Refused).map(|settings| settings.site);
        assert_eq!(site("acme").unwrap(), "https://acme.corpadmin.directscale.com");
        assert_eq!(site("acme.stage").unwrap(), "https://acme.corpadmin.directscalestage.com");
        for bad in ["acme.test", "acme.", "ac_me", "acme.stage.x", "acme-"] {
            assert_eq!(error(bad, json!({})), "connection", "{bad}");
        }
        let elsewhere = json!({ "site": "https://acme.corpadmin.directscale.com" });
        assert_eq!(error("acme", elsewhere), "site");
        assert_eq!(
            settings("acme", json!({ "site": "http://127.0.0.1:8080" }), Loopback::Allowed).unwrap().site,
            "http://127.0.0.1:8080"
        );
        assert_eq!(
            settings("acme", json!({ "site": "https://attacker.example" }), Loopback::Allowed).err().unwrap().field,
            "site"
        );
    }

    #[test]
    fn keys_are_taken_as_they_are_or_refused_without_being_told() {
        let keys = json!({ "api_key": "our%20key", "accept": ["a!$%^~_- {}\"'\\/?&=", "0123456789abcdef"] });
        let read = settings("acme", keys, Loopback::Refused).unwrap();
        assert_eq!(read.credentials.unwrap().as_str(), r#"{"api_key":"our%20key"}"#);
        assert_eq!(
            read.brought.iter().map(|key| key.as_str()).collect::<Vec<_>>(),
            ["a!$%^~_- {}\"'\\/?&=", "0123456789abcdef"]
        );
        assert!(read.own.is_empty());
        for bad in ["0123456789abcde", "0123456789abcdef ", "0123456789abcde\u{e9}", "0123456789\nabcdef"] {
            let refused = settings("acme", json!({ "accept": [bad] }), Loopback::Refused).err().unwrap();
            assert!(refused.field == "accept" && !refused.why.contains(bad), "{bad}");
        }
        assert_eq!(error("acme", json!({ "api_key": "" })), "api_key");
        assert_eq!(error("acme", json!({ "apiKey": "x" })), "body");
    }

    #[test]
    fn services_are_names_and_nothing_else() {
        let service =
            |path: &str, argument: &str| json!({ "services": { "order": { "path": path, "argument": argument } } });
        let good = service("OrderService/v1/GetOrderByOrderNumber", "orderNumber");
        assert_eq!(settings("acme", good.clone(), Loopback::Refused).unwrap().own, *good.as_object().unwrap());
        for bad in ["", "/a", "a//b", "../a", "a?b", "a%2f", "a/"] {
            assert_eq!(error("acme", service(bad, "x")), "services", "{bad}");
        }
        assert_eq!(error("acme", service("a", "b\"")), "services");
        assert_eq!(error("acme", json!({ "services": { "product": { "path": "a", "argument": "b" } } })), "body");
    }
}
