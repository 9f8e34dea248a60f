//! What the registrar has to know of BigCommerce: settings, and how hooks are made by hand.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

use super::mapping::call;
use crate::{
    api::{ApiRequest, Fault, site_url},
    connection::ConnectionKey,
    platforms::{Access, Hooks, OwnSettings, SettingsError, Subscriptions, read_own},
};

/// The registrar's view.
pub struct BigCommerce;

/// A token for the API of one store. It does not expire.
#[derive(Serialize, Deserialize, Zeroize)]
#[zeroize(drop)]
pub struct Credentials {
    /// Opaque.
    pub access_token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    site: Option<String>,
    #[serde(default)]
    access_token: Option<Zeroizing<String>>,
}

fn wrong(field: &str, why: impl Into<String>) -> SettingsError {
    SettingsError::new(field, why)
}

impl Subscriptions for BigCommerce {
    /// The connection's id is the store's hash, so the site follows from it.
    fn settings(
        &self,
        key: &ConnectionKey,
        members: Map<String, Value>,
        allow_loopback: bool,
    ) -> Result<OwnSettings, SettingsError> {
        let input: Input = read_own(members)?;
        let path = format!("/stores/{}", key.connection);
        let site = match input.site {
            None => format!("https://api.bigcommerce.com{path}"),
            Some(_) if !allow_loopback => {
                return Err(wrong("site", "follows from the connection's id, which is the store's hash; leave it out"));
            }
            Some(site) => {
                let site = site_url(&site, true).map_err(|error| wrong("site", error.to_string()))?;
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
        Ok(OwnSettings { site, credentials, own: Map::new(), brought: Vec::new() })
    }

    /// The store's profile: it needs the token's store and next to no permission.
    fn check(&self, access: &Access<'_>) -> Result<Option<ApiRequest>, Fault> {
        call(access, Method::GET, &["v2", "store"], &[]).map(Some)
    }

    fn hooks(&self) -> Option<&'static dyn Hooks> {
        None
    }

    fn by_hand(&self) -> &'static str {
        "make a hook for each scope with POST /v3/hooks of BigCommerce's API: scope, destination (the delivery_url), \
         is_active true, and headers {\"X-Commerce-Hooks-Key\": the secret that `make secret` prints}. The access \
         token must be allowed to read information, products, customers, orders and carts"
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        platforms::{self, Settings, bigcommerce::delivery::SECRET_HEADER},
        request::HookPath,
    };

    fn settings(body: &str, allow_loopback: bool) -> Result<Settings, SettingsError> {
        let path = HookPath::parse("bigcommerce", "abc123", None).unwrap();
        platforms::settings(&super::super::PLATFORM, &path.key, body.as_bytes(), allow_loopback)
    }

    fn error(body: &str, allow_loopback: bool) -> (String, String) {
        match settings(body, allow_loopback) {
            Ok(_) => unreachable!("{body} was taken"),
            Err(SettingsError { field, why }) => (field, why),
        }
    }

    #[test]
    fn the_site_follows_from_the_connection_s_id() {
        let read = settings(r#"{"access_token":"tok"}"#, false).unwrap();
        assert_eq!(read.site, "https://api.bigcommerce.com/stores/abc123");
        assert_eq!(read.credentials.unwrap().as_str(), r#"{"access_token":"tok"}"#);
        assert!(settings("{}", false).unwrap().credentials.is_none());

        let local = r#"{"site":"http://127.0.0.1:1234/stores/abc123/"}"#;
        assert_eq!(settings(local, true).unwrap().site, "http://127.0.0.1:1234/stores/abc123");
        assert_eq!(error(local, false).0, "site");
        for other in [
            "https://api.bigcommerce.com/stores/other",
            "http://127.0.0.1:1234",
            "https://api.example.com/stores/abc123",
            "http://10.0.0.1/stores/abc123",
        ] {
            assert_eq!(error(&format!(r#"{{"site":"{other}"}}"#), true).0, "site", "{other}");
        }
    }

    #[test]
    fn a_bad_token_is_named_and_not_repeated() {
        for token in ["", "s3cr3t s3cr3t", "s3cr3t\\u00e9", "s3cr3t\\n"] {
            let (field, why) = error(&format!(r#"{{"access_token":"{token}"}}"#), false);
            assert!(field == "access_token" && !why.contains("s3cr3t"), "{why}");
        }
        assert_eq!(error(r#"{"accessToken":"a"}"#, false).0, "body");
    }

    #[test]
    fn the_check_is_a_call_with_the_token() {
        let none = Map::new();
        let access =
            |credentials| Access { site: "https://api.bigcommerce.com/stores/abc123", credentials, settings: &none };
        let request = BigCommerce.check(&access(r#"{"access_token":"tok"}"#)).unwrap().unwrap();
        assert_eq!(format!("{request:?}"), "GET https://api.bigcommerce.com/stores/abc123/v2/store");
        assert!(request.headers["x-auth-token"] == "tok" && request.headers["x-auth-token"].is_sensitive());
        assert!(matches!(BigCommerce.check(&access("")), Err(Fault::Connection(_))));
    }

    #[test]
    fn by_hand_names_the_header_that_is_verified() {
        assert!(BigCommerce.by_hand().to_ascii_lowercase().contains(SECRET_HEADER));
    }
}
