//! Owns the installation at a WooCommerce site: the site's `/wc-auth/v1/authorize`, as in `class-wc-auth.php`.

use http::Method;
use serde::Deserialize;
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    http_call::{Hosts, Loopback, SiteError, site_url},
    install::{Evidence, Installation, Rejection, Reply, Step, Vendor, Visit, same_secret, sha256},
    key::ConnectionId,
    platforms::woocommerce::WooCommerce,
};

/// The longest connection id, in characters.
const MAX_ID: usize = 100;

/// Our name on the site's page.
const APP_NAME: &str = "Commerce Hooks";
/// The permission that is asked for and required, because webhooks are made.
const PERMISSION: &str = "read_write";

/// The keys that the site sends. It does not name itself, and anybody could send them.
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

    fn actions(&self) -> &'static [&'static str] {
        &["install", "callback", "return"]
    }

    fn visit(&self, visit: &Visit, vendor: &Vendor<'_>, known: &[Evidence]) -> Result<Step, Rejection> {
        match (visit.action.as_str(), &visit.method) {
            ("install", &Method::GET) => install(visit, vendor),
            ("callback", &Method::POST) => callback(visit, vendor, known),
            ("return", &Method::GET) => Ok(Step::Respond(returned(visit.parameter("success")? == "1"))),
            ("install" | "callback" | "return", _) => Err(Rejection::Method),
            _ => Err(Rejection::NoAction),
        }
    }
}

/// The prefix of the intent of an uninvited installation.
const UNINVITED: &str = "uninvited ";

/// Begins an installation. A visitor with a key that the vendor gave out is invited; others may come if the vendor
/// allows it.
fn install(visit: &Visit, vendor: &Vendor<'_>) -> Result<Step, Rejection> {
    let app = vendor.app.ok_or(Rejection::NoApp)?;
    let given = visit.query.get("key").map_or("", String::as_str);
    let invited = app.install_key.as_ref().is_some_and(|key| same_secret(key, given));
    if !invited && !app.open {
        return Err(if app.install_key.is_some() { Rejection::NoAction } else { Rejection::Closed });
    }
    let (site, _) = site_connection(visit.parameter("site")?, vendor.loopback)?;
    let mut location = Url::parse(&format!("{site}/wc-auth/v1/authorize")).map_err(|_| unfit())?;
    location
        .query_pairs_mut()
        .append_pair("app_name", APP_NAME)
        .append_pair("scope", PERMISSION)
        .append_pair("user_id", vendor.nonce)
        .append_pair("return_url", &format!("{}/return", vendor.apps_url))
        .append_pair("callback_url", &format!("{}/callback", vendor.apps_url));
    let intent = if invited { site } else { format!("{UNINVITED}{site}") };
    Ok(Step::Begin { intent, location, invited })
}

/// Connects the site that the nonce stands for. A call with the keys shows that they are that site's.
fn callback(visit: &Visit, vendor: &Vendor<'_>, known: &[Evidence]) -> Result<Step, Rejection> {
    let keys: Keys = serde_json::from_slice(&visit.body)
        .map_err(|_| Rejection::Malformed("the body must be the keys as WooCommerce sends them".into()))?;
    if keys.key_permissions != PERMISSION {
        return Err(Rejection::Malformed("the key must be allowed to read and write; begin again".into()));
    }
    let Some(Evidence::Intent(intent)) = known.first() else { return Ok(Step::Spend(keys.user_id.to_string())) };
    let (site, invited) = match intent.strip_prefix(UNINVITED) {
        Some(site) => (site, false),
        None => (intent.as_str(), true),
    };
    let (site, connection) = site_connection(site, vendor.loopback)?;
    let settings = json!({
        "site": site, "consumer_key": keys.consumer_key.as_str(), "consumer_secret": keys.consumer_secret.as_str(),
    });
    let settings = Zeroizing::new(settings.to_string());
    Ok(Step::Install { connection, settings, proven: false, invited, reply: Reply::Ok })
}

/// Returns the page that the site sends its owner to. Anybody can visit it, so it says nothing of any store.
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

fn unfit() -> Rejection {
    Rejection::Malformed("the site's address cannot be used; give it as https://shop.example.com".into())
}

/// The parts that people copy along with a site's address: the beginnings of its API and its administrators' pages.
const NOT_OF_THE_SITE: &[&str] = &["index.php", "wp-admin", "wp-json", "wp-login.php"];

/// Checks the address of a site, as [`site_url`] does, and leaves out parts that are not the site's.
///
/// # Errors
/// As [`site_url`].
pub fn site_address(text: &str, loopback: Loopback) -> Result<String, SiteError> {
    let site = site_url(text, loopback)?;
    let mut parts = site.split('/');
    // The scheme, an empty part, and the host.
    let mut kept: Vec<&str> = parts.by_ref().take(3).collect();
    kept.extend(parts.take_while(|part| !NOT_OF_THE_SITE.contains(&part.to_ascii_lowercase().as_str())));
    Ok(kept.join("/"))
}

/// Returns a site's address and its connection's id: the site's host. A port or a path follows it, and the beginning of
/// a hash of the whole address, because two sites of one host must not become the same connection.
///
/// # Errors
/// [`Rejection::Malformed`] for a text that is not a site's address.
pub fn site_connection(text: &str, loopback: Loopback) -> Result<(String, ConnectionId), Rejection> {
    let site = site_address(text, loopback).map_err(|error| Rejection::Malformed(format!("the site {error}")))?;
    let (_, place) = site.split_once("://").ok_or_else(unfit)?;
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    if !path.is_empty() && !path.split('/').all(plain) {
        return Err(Rejection::Malformed("the site's path must be of letters, digits, and - . _ ~".into()));
    }
    let legal = |c: char| if c.is_ascii_alphanumeric() || "._".contains(c) { c } else { '-' };
    let id: String = host.chars().map(legal).collect();
    // A public host has only legal characters, so the id is the host itself. No other site has that id: a host ends in
    // a top-level domain, and any addition ends in a hash.
    let id = if path.is_empty() && !host.contains(':') && site.starts_with("https://") {
        id
    } else {
        let rest = path.replace('/', "_").replace('~', "-");
        let mut id = if rest.is_empty() { id } else { format!("{id}_{rest}") };
        let hash = hex::encode(&sha256(&site)[..4]);
        id.truncate(MAX_ID - 1 - hash.len());
        format!("{id}-{hash}")
    };
    Ok((site.clone(), id.parse().map_err(|_| unfit())?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http_call::Loopback;

    #[test]
    fn a_site_becomes_a_connection_s_id() {
        let id = |text: &str| site_connection(text, Loopback::Allowed).unwrap().1.as_str().to_owned();
        for (text, expected) in
            [("https://Shop.Example.com/", "shop.example.com"), ("https://bücher.example", "xn--bcher-kva.example")]
        {
            assert_eq!(id(text), expected);
        }
        let long = format!("https://shop.example.com/{}", "a".repeat(90));
        let sites = [
            ("https://shop.example.com/Sub/dir~1", "shop.example.com_sub_dir-1"),
            ("https://shop.example.com/Sub_dir-1", "shop.example.com_sub_dir-1"),
            ("https://shop.example.com/Sub/dir-1", "shop.example.com_sub_dir-1"),
            ("https://shop.example.com/a/../b", "shop.example.com_b"),
            ("http://127.0.0.1:8080", "127.0.0.1-8080"),
            (&long, &format!("shop.example.com_{}", "a".repeat(74))),
            (&format!("{long}b"), &format!("shop.example.com_{}", "a".repeat(74))),
        ];
        let mut ids = std::collections::BTreeSet::new();
        for (text, begins) in sites {
            let id = id(text);
            let hash = id.strip_prefix(begins).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
            assert!(hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) && id.len() <= 100, "{id}");
            assert!(ids.insert(id), "{text}: no two are the same");
        }
        assert_eq!(
            id("https://shop.example.com/a/../b"),
            id("https://SHOP.example.com/b/"),
            "and one is always the same"
        );
        assert_eq!(id("https://shop.example.com/wp-json/wc/v3"), "shop.example.com");
        let hosts = ["a_b.example", "a-b.example", "a.b.example", "shop.example.com", "shop.example.com_sub.example"];
        let places = ["", "/sub", "/Sub", "/sub.example", "/s~b", "/s-b", "/s_b", "/s/b"];
        let mut ids = std::collections::BTreeMap::new();
        for site in hosts.iter().flat_map(|host| places.iter().map(move |place| format!("https://{host}{place}"))) {
            assert_eq!(ids.insert(id(&site), site.clone()), None, "{site}");
            assert_eq!(id(&site), id(&format!("{}/", site.replace("https://", "HTTPS://"))), "{site}");
        }
        assert_ne!(id("http://localhost"), id("https://localhost"));
        for bad in ["https://a_b.example+1", "https://shop.example.com.", "https://a..b.example", "https://a=b.example"]
        {
            assert!(matches!(site_connection(bad, Loopback::Allowed), Err(Rejection::Malformed(_))), "{bad}");
        }
        for bad in ["https://shop.example.com/%2e%2e%2fa", "https://shop.example.com//a", "https://_/"] {
            assert!(matches!(site_connection(bad, Loopback::Refused), Err(Rejection::Malformed(_))), "{bad}");
        }
    }
}
