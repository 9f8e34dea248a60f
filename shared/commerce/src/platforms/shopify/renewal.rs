//! The renewal of offline tokens, which expire within the hour.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

use super::api::Credentials;
use crate::{
    apps::App,
    http_call::{ApiRequest, ApiResponse, Fault},
    platform::{lenient, pull::Access, renewal::Renewal},
    platforms::shopify::Shopify,
    timestamp::Timestamp,
};

/// The answer of the address for tokens, to a code, a session token or a refresh token.
#[derive(Deserialize)]
pub(super) struct Granted {
    pub access_token: Zeroizing<String>,
    #[serde(default)]
    pub refresh_token: Option<Zeroizing<String>>,
    /// The lifetime of the token, in seconds; absent for one that does not expire.
    #[serde(default)]
    pub expires_in: Option<i64>,
    /// The granted permissions.
    #[serde(default)]
    pub scope: String,
}

impl Granted {
    /// Returns the time at which the token expires, in seconds since 1970.
    pub fn expires_at(&self, now: Timestamp) -> Option<i64> {
        Some(now.seconds().saturating_add(self.expires_in?.clamp(0, 10 * 365 * 86_400)))
    }
}

/// Builds a call to a shop's address for tokens.
pub(super) fn token_call(site: &str, app: &App, grant: &Value) -> Option<ApiRequest> {
    let url = Url::parse(&format!("{}/admin/oauth/access_token", site.trim_end_matches('/'))).ok()?;
    let mut body = json!({ "client_id": app.client_id, "client_secret": app.client_secret.as_ref()?.as_str() });
    for (name, value) in grant.as_object()? {
        body[name] = value.clone();
    }
    Some(ApiRequest::open(Method::POST, url).json(&body))
}

impl Renewal for Shopify {
    fn expires_at(&self, credentials: &str) -> Option<Timestamp> {
        let credentials: Credentials = serde_json::from_str(credentials).ok()?;
        credentials.refresh_token.as_ref()?;
        Some(Timestamp::from_micros(credentials.expires_at?.saturating_mul(1_000_000)))
    }

    fn ask(&self, access: &Access<'_>, app: &App) -> Result<ApiRequest, Fault> {
        let broken =
            || Fault::Connection("the connection's credentials cannot be renewed; install the app again".into());
        let credentials: Credentials = serde_json::from_str(access.credentials).map_err(|_| broken())?;
        let token = credentials.refresh_token.as_ref().ok_or_else(broken)?;
        let grant = json!({ "grant_type": "refresh_token", "refresh_token": token });
        token_call(access.site, app, &grant)
            .ok_or_else(|| Fault::Connection("the app's client_secret is not configured".into()))
    }

    fn renewed(&self, response: &ApiResponse, now: Timestamp) -> Result<Zeroizing<String>, Fault> {
        if (400..429).contains(&response.status) && response.status != 408 {
            return Err(Fault::Connection(format!(
                "the shop does not renew the app's token ({}): open the app in the shop's admin, which grants another",
                response.status
            )));
        }
        if !response.is_success() {
            return Err(response.fault(now));
        }
        let granted: Granted = lenient::read(&response.body)?;
        let expires_at = granted.expires_at(now);
        let credentials = Credentials {
            access_token: granted.access_token.to_string(),
            refresh_token: granted.refresh_token.as_ref().map(|token| token.to_string()),
            expires_at,
        };
        let text = serde_json::to_string(&credentials);
        text.map(Zeroizing::new).map_err(|_| Fault::Unreadable("the renewed token".into()))
    }
}
