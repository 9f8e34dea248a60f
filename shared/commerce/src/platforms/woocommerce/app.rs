//! How a WooCommerce site lets us in: `/wc-auth/v1/authorize` of the site, as `class-wc-auth.php` does it.

use http::Method;
use serde::Deserialize;
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    api::{Hosts, site_url},
    connection::ConnectionId,
    install::{Installation, Known, Reply, Step, Turned, Vendor, Visit},
};

/// The installation.
pub struct WooCommerce;

/// What the site's page calls us.
const APP_NAME: &str = "Commerce Hooks";
/// What is asked for, and has to be given: hooks are made.
const PERMISSION: &str = "read_write";

/// What the site sends. It does not say which site it is, and anybody could send it.
#[derive(Deserialize)]
struct Keys {
    user_id: Zeroizing<String>,
    consumer_key: Zeroizing<String>,
    consumer_secret: Zeroizing<String>,
    key_permissions: String,
}

impl Installation for WooCommerce {
    fn hosts(&self) -> Hosts {
        Hosts::Site
    }

    fn visit(&self, visit: &Visit, vendor: &Vendor<'_>, known: &[Known]) -> Result<Step, Turned> {
        match (visit.action.as_str(), &visit.method) {
            ("install", &Method::GET) => install(visit, vendor),
            ("callback", &Method::POST) => callback(visit, vendor, known),
            ("return", &Method::GET) => Ok(Step::Tell(returned(visit.parameter("success")? == "1"))),
            ("install" | "callback" | "return", _) => Err(Turned::Method),
            _ => Err(Turned::NoAction),
        }
    }
}

fn install(visit: &Visit, vendor: &Vendor<'_>) -> Result<Step, Turned> {
    let (site, _) = site(visit.parameter("site")?, vendor.allow_loopback)?;
    let mut location = Url::parse(&format!("{site}/wc-auth/v1/authorize")).map_err(|_| unfit())?;
    location
        .query_pairs_mut()
        .append_pair("app_name", APP_NAME)
        .append_pair("scope", PERMISSION)
        .append_pair("user_id", vendor.nonce)
        .append_pair("return_url", &format!("{}/return", vendor.apps_url))
        .append_pair("callback_url", &format!("{}/callback", vendor.apps_url));
    Ok(Step::Begin { intent: site, location })
}

/// The nonce says which site was meant, and a call with the keys shows that they are that site's.
fn callback(visit: &Visit, vendor: &Vendor<'_>, known: &[Known]) -> Result<Step, Turned> {
    let keys: Keys = serde_json::from_slice(&visit.body)
        .map_err(|_| Turned::Malformed("the body must be the keys as WooCommerce sends them".into()))?;
    if keys.key_permissions != PERMISSION {
        return Err(Turned::Malformed("the key must be allowed to read and write; begin again".into()));
    }
    let Some(Known::Intent(intent)) = known.first() else { return Ok(Step::Spend(keys.user_id.to_string())) };
    let (site, connection) = site(intent, vendor.allow_loopback)?;
    let settings = json!({
        "site": site, "consumer_key": keys.consumer_key.as_str(), "consumer_secret": keys.consumer_secret.as_str(),
    });
    let settings = Zeroizing::new(settings.to_string());
    Ok(Step::Install { connection, settings, proven: false, reply: Reply::Ok })
}

/// Where the site sends its owner. Anybody can come here: it says nothing of any store.
fn returned(success: bool) -> Reply {
    let (title, text) = if success {
        ("Connected", "Your store is connected. Its webhooks are being set up now; you can close this page.")
    } else {
        (
            "Not connected",
            "Access was not granted, and nothing was changed at your store. To try again, open the link that brought you here once more and choose “Approve”.",
        )
    };
    Reply::Page { title: title.to_owned(), text: text.to_owned() }
}

fn unfit() -> Turned {
    Turned::Malformed("the site's address cannot be used; give it as https://shop.example.com".into())
}

/// A site's address and the connection that it becomes: its host, its port where it has one of its own, and its path.
fn site(text: &str, allow_loopback: bool) -> Result<(String, ConnectionId), Turned> {
    let site = site_url(text, allow_loopback).map_err(|error| Turned::Malformed(format!("the site {error}")))?;
    let (_, place) = site.split_once("://").ok_or_else(unfit)?;
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    if !path.is_empty() && !path.split('/').all(plain) {
        return Err(Turned::Malformed("the site's path must be of letters, digits, and - . _ ~".into()));
    }
    let legal = |c: char| if c.is_ascii_alphanumeric() || "._".contains(c) { c } else { '-' };
    let id: String = host.chars().map(legal).collect();
    let id = if path.is_empty() { id } else { format!("{id}_{}", path.replace('/', "_").replace('~', "-")) };
    Ok((site.clone(), id.parse().map_err(|_| unfit())?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_site_becomes_a_connection_s_id() {
        for (text, id) in [
            ("https://Shop.Example.com/", "shop.example.com"),
            ("https://shop.example.com/Sub/dir~1", "shop.example.com_sub_dir-1"),
            ("https://shop.example.com/a/../b", "shop.example.com_b"),
            ("https://bücher.example", "xn--bcher-kva.example"),
            ("http://127.0.0.1:8080", "127.0.0.1-8080"),
        ] {
            assert_eq!(site(text, true).unwrap().1.as_str(), id);
        }
        let long = format!("https://shop.example.com/{}", "a".repeat(90));
        for bad in ["https://shop.example.com/%2e%2e%2fa", "https://shop.example.com//a", "https://_/", &long] {
            assert!(matches!(site(bad, false), Err(Turned::Malformed(_))), "{bad}");
        }
    }
}
