//! Owns the credentials that platforms gave the vendor of an app, from the secret `AppCredentials`.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    json::{self, JsonError},
    keys::plain,
    scheme::{APP_KEY_ID, FORMER_APP_KEY_ID, jwt::PublicKeys},
};

/// The required proof of a delivery that a platform signs and also sends with a secret header of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Requirement {
    /// One of the two. The other may be missing or wrong.
    #[default]
    Either,
    /// The signature.
    Signature,
    /// The header.
    Header,
    /// Both.
    Both,
}

/// A platform's credentials for the vendor of an app.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The app's id. Not secret.
    #[serde(default)]
    pub client_id: String,
    /// The secret that the platform signs with.
    #[serde(default)]
    pub client_secret: Option<Zeroizing<String>>,
    /// The secret before, which the platform may sign with until it is revoked there. It proves as the present one does.
    #[serde(default)]
    pub former_client_secret: Option<Zeroizing<String>>,
    /// The required proof of a delivery, where the platform offers more than one.
    #[serde(default)]
    pub require: Requirement,
    /// The platform's public keys as a JWK set, where it signs with one.
    #[serde(default)]
    pub jwks: Option<serde_json::Value>,
    /// The key that links must carry as `key`, where anybody could begin an installation:
    /// `{"woocommerce":{"install_key":"…"}}` for `…/install?site=…&key=…`. It takes effect within minutes.
    ///
    /// It keeps strangers out and proves nothing, because anyone with a link can pass it on.
    #[serde(default)]
    pub install_key: Option<Zeroizing<String>>,
    /// `true` when anybody may begin an installation, where anybody could. Without it and without an `install_key`,
    /// nobody may. An operator confirms such an installation before all of the store is fetched.
    #[serde(default)]
    pub open: bool,
    /// The number of stores that may connect themselves within an hour.
    #[serde(default = "installs_per_hour")]
    pub installs_per_hour: u32,
    /// The URL where codes are exchanged, in place of the platform's own host, for local runs. It is on this machine,
    /// or it is not called.
    #[serde(default)]
    pub login_url: Option<String>,
    /// The URL of the platform's API, for local runs.
    #[serde(default)]
    pub api_url: Option<String>,
}

const fn installs_per_hour() -> u32 {
    100
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("client_id", &self.client_id)
            .field("require", &self.require)
            .finish_non_exhaustive()
    }
}

impl App {
    /// Returns the secrets that the platform may sign with, the present one first, with the ids that proofs by them have.
    pub fn secrets(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let named = [(APP_KEY_ID, &self.client_secret), (FORMER_APP_KEY_ID, &self.former_client_secret)];
        named.into_iter().filter_map(|(id, secret)| Some((id, secret.as_ref()?.as_str())))
    }

    fn check(&self, platform: &str) -> Result<(), AppsError> {
        for secret in [&self.client_secret, &self.former_client_secret, &self.install_key].into_iter().flatten() {
            if secret.is_empty() {
                return Err(AppsError::Empty(platform.to_owned()));
            }
            if secret.trim() != secret.as_str() || secret.chars().any(char::is_control) {
                return Err(AppsError::NoSecret(platform.to_owned()));
            }
        }
        if self.jwks.as_ref().is_some_and(|jwks| PublicKeys::from_jwks(jwks).is_err()) {
            return Err(AppsError::Jwks(platform.to_owned()));
        }
        if [&self.login_url, &self.api_url].into_iter().flatten().any(|url| Url::parse(url).is_err()) {
            return Err(AppsError::Address(platform.to_owned()));
        }
        Ok(())
    }
}

/// The credentials of the vendor's apps, by platform.
#[derive(Clone, Debug, Default)]
pub struct Apps(BTreeMap<String, App>);

/// An error for a secret that is not a list of apps. No variant repeats any of the secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppsError {
    /// The text has another form.
    #[error(
        "the secret is not {{\"<platform>\":{{\"client_id\":…,\"client_secret\":…,\"require\":\"either\"|\"signature\"|\"header\"|\"both\"}}}}"
    )]
    Shape,
    /// A member occurs twice, and one of the two would win silently.
    #[error("{0} is there twice")]
    Twice(String),
    /// A platform that does not exist, by its name if that is a plain word.
    #[error("there is no platform {0}")]
    UnknownPlatform(String),
    /// An empty secret, which would prove everything.
    #[error("a secret or the install_key of {0} is empty")]
    Empty(String),
    /// A secret with characters that no secret has.
    #[error("a secret or the install_key of {0} has spaces around it or control characters in it")]
    NoSecret(String),
    /// A JWK set without a usable public key.
    #[error("the jwks of {0} has no public key that can be used")]
    Jwks(String),
    /// An invalid URL.
    #[error("the login_url or the api_url of {0} is no address")]
    Address(String),
}

impl Apps {
    /// Parses a secret's value; `is_platform` knows the names of platforms. An empty value, which nobody has filled in
    /// yet, has no apps.
    ///
    /// # Errors
    /// An [`AppsError`] that does not repeat the secret.
    pub fn parse(text: &str, is_platform: impl Fn(&str) -> bool) -> Result<Self, AppsError> {
        let text = plain(text);
        if text.is_empty() {
            return Ok(Self::default());
        }
        let apps: BTreeMap<String, App> = json::read(text.as_bytes()).map_err(|wrong| match wrong {
            JsonError::Twice(name) => AppsError::Twice(name),
            JsonError::Form(_) | JsonError::TooDeep => AppsError::Shape,
        })?;
        for (platform, app) in &apps {
            if !is_platform(platform) {
                // The name may be a misplaced secret.
                let word =
                    platform.len() <= 20 && platform.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
                let name = if word { platform } else { "with a name as it is given" };
                return Err(AppsError::UnknownPlatform(name.to_owned()));
            }
            app.check(platform)?;
        }
        Ok(Self(apps))
    }

    /// Returns the app at a platform.
    pub fn get(&self, platform: &str) -> Option<&App> {
        self.0.get(platform)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<Apps, AppsError> {
        Apps::parse(text, |name| ["bigcommerce", "cloudblue", "woocommerce"].contains(&name))
    }

    #[test]
    fn app_credentials_are_taken_as_a_whole_or_not_at_all() {
        let refused = |text: &str| parse(text).map(|_| ()).unwrap_err();
        let named = |error: fn(String) -> AppsError, name: &str| error(name.to_owned());
        for (text, error) in [
            (r#"{"bigcomerce":{"client_secret":"x"}}"#, named(AppsError::UnknownPlatform, "bigcomerce")),
            (r#"{"0s3cr3t":{"client_secret":"x"}}"#, named(AppsError::UnknownPlatform, "with a name as it is given")),
            (
                r#"{"bigcommerce":{"client_id":"a"},"bigcommerce":{"client_id":"b"}}"#,
                named(AppsError::Twice, "bigcommerce"),
            ),
            (r#"{"bigcommerce":{"client_secret":"a","client_secret":"b"}}"#, named(AppsError::Twice, "client_secret")),
            (r#"{"bigcommerce":{"client_secret":""}}"#, named(AppsError::Empty, "bigcommerce")),
            (r#"{"bigcommerce":{"client_secret":"a "}}"#, named(AppsError::NoSecret, "bigcommerce")),
            (r#"{"woocommerce":{"install_key":"a\n"}}"#, named(AppsError::NoSecret, "woocommerce")),
            (r#"{"cloudblue":{"jwks":{"keys":"x"}}}"#, named(AppsError::Jwks, "cloudblue")),
            (r#"{"cloudblue":{"jwks":{"keys":[]}}}"#, named(AppsError::Jwks, "cloudblue")),
            (r#"{"cloudblue":{"jwks":7}}"#, named(AppsError::Jwks, "cloudblue")),
            (r#"{"cloudblue":{"jwks":{"keys":[{"kty":"oct","k":"AAAA"}]}}}"#, named(AppsError::Jwks, "cloudblue")),
            (r#"{"bigcommerce":{"login_url":"login"}}"#, named(AppsError::Address, "bigcommerce")),
            (r#"{"bigcommerce":{"secret":"x"}}"#, AppsError::Shape),
            (r#"{"bigcommerce":"x"}"#, AppsError::Shape),
            ("[]", AppsError::Shape),
            ("{", AppsError::Shape),
        ] {
            assert_eq!(refused(text), error, "{text}");
            assert!(!refused(text).to_string().contains("s3cr3t"), "{text}");
        }
        for empty in ["", " ", "{}", "\u{feff}{}"] {
            assert!(parse(empty).unwrap().get("bigcommerce").is_none(), "{empty:?}");
        }
        let good = parse("\u{feff}{\"bigcommerce\":{\"client_secret\":\"x\"}}").unwrap();
        assert_eq!(good.get("bigcommerce").unwrap().client_secret.as_deref().map(String::as_str), Some("x"));
    }
}
