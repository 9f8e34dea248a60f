//! What platforms gave the vendor of an app: the credentials in the secret `AppCredentials`.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    json::{self, JsonError},
    keys::plain,
    scheme::jwt::PublicKeys,
};

/// What has to prove a delivery of a platform that signs it and sends a secret header of ours with it, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Requirement {
    /// One of the two; one that is there and wrong is refused all the same.
    #[default]
    Either,
    /// The signature.
    Signature,
    /// The header.
    Header,
    /// Both.
    Both,
}

/// What a platform gave the vendor of an app.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The app's id. Not secret.
    #[serde(default)]
    pub client_id: String,
    /// The secret that the platform signs with.
    #[serde(default)]
    pub client_secret: Option<Zeroizing<String>>,
    /// What has to prove a delivery, where the platform offers more than one proof.
    #[serde(default)]
    pub require: Requirement,
    /// Public keys of the platform as a JWK set, where it signs with one.
    #[serde(default)]
    pub jwks: Option<serde_json::Value>,
    /// Where anybody could begin an installation: what links have to carry as `key` to lead anywhere, such as
    /// `{"woocommerce":{"install_key":"…"}}` for `…/install?site=…&key=…`. It keeps strangers out and is no proof of anything: whoever
    /// was given a link can hand it on. Takes effect within minutes.
    #[serde(default)]
    pub install_key: Option<Zeroizing<String>>,
    /// Where anybody could begin an installation: whether anybody may. Without it and without an `install_key`, nobody may. What comes so
    /// is confirmed by an operator before all of it is fetched.
    #[serde(default)]
    pub open: bool,
    /// How many stores may connect themselves within an hour.
    #[serde(default = "installs_per_hour")]
    pub installs_per_hour: u32,
    /// For local runs: where codes are exchanged, in place of the platform's own host. On this machine, or it is not called.
    #[serde(default)]
    pub login_url: Option<String>,
    /// For local runs: where the platform's API is.
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
    fn check(&self, platform: &str) -> Result<(), AppsError> {
        for secret in [&self.client_secret, &self.install_key].into_iter().flatten() {
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

/// A secret that is no list of apps. Repeats nothing of it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppsError {
    /// Not the form.
    #[error(
        "the secret is not {{\"<platform>\":{{\"client_id\":…,\"client_secret\":…,\"require\":\"either\"|\"signature\"|\"header\"|\"both\"}}}}"
    )]
    Shape,
    /// A member is there twice: of two, one would be believed silently.
    #[error("{0} is there twice")]
    Twice(String),
    /// A platform that there is none of; its name, where it is a plain word.
    #[error("there is no platform {0}")]
    UnknownPlatform(String),
    /// An empty secret would prove everything.
    #[error("the client_secret or the install_key of {0} is empty")]
    Empty(String),
    /// A secret with what no secret holds.
    #[error("the client_secret or the install_key of {0} has spaces around it or control characters in it")]
    NoSecret(String),
    /// No set of public keys that can be used.
    #[error("the jwks of {0} has no public key that can be used")]
    Jwks(String),
    /// An address that is none.
    #[error("the login_url or the api_url of {0} is no address")]
    Address(String),
}

impl Apps {
    /// Reads a secret's value; `is_platform` knows the names of platforms. An empty one, as it is when nobody has filled it in, has no apps.
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
                // It may be a secret that went astray.
                let word =
                    platform.len() <= 20 && platform.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
                let name = if word { platform } else { "with a name as it is given" };
                return Err(AppsError::UnknownPlatform(name.to_owned()));
            }
            app.check(platform)?;
        }
        Ok(Self(apps))
    }

    /// The app at a platform.
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
