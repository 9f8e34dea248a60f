//! The renewal of offline tokens, which expire within the hour.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

use crate::{apps::App, http_call::ApiRequest, timestamp::Timestamp};

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
