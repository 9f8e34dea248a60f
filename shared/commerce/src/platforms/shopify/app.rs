//! Owns the installation of Shopify's app. A visit of the app's own address is signed in its query. It brings a session
//! token where the app is embedded in the admin and Shopify manages its installation: that is exchanged for an offline
//! token. Otherwise the visitor is sent to the shop to grant the permissions, and comes back with a code.

use http::Method;
use serde_json::{Value, json};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::{
    api::shop,
    compliance,
    renewal::{Granted, token_call},
};
use crate::{
    apps::App,
    http_call::{Fault, Hosts, Loopback},
    install::{Evidence, Installation, Rejection, Reply, Step, Vendor, Visit},
    key::ConnectionId,
    platform::{lenient, settings::MISSING_PERMISSIONS},
    platforms::shopify::Shopify,
    scheme::{
        hmac::{Algorithm, Encoding, Hmac, KeySource},
        jwt::{self, Keys, Rules},
    },
};

/// The permissions that the app asks for and needs.
const NEEDED: [&str; 6] =
    ["read_products", "read_inventory", "read_locations", "read_customers", "read_orders", "read_fulfillments"];
/// The greatest age of a signed query, both ways, in seconds, as Shopify's own libraries have it.
const MOST_SECONDS: i64 = 90;
/// The longest lifetime of a session token, in seconds: the documented minute, with some to spare.
const SESSION_SECONDS: i64 = 300;
/// The parameter with the session token.
const SESSION: &str = "id_token";

/// The signature of a query, in hex.
const QUERY: Hmac = Hmac {
    header: "hmac",
    algorithm: Algorithm::Sha256,
    encoding: Encoding::Hex,
    prefix: "",
    keys: KeySource::AppSecret,
};

impl Installation for Shopify {
    fn hosts(&self) -> Hosts {
        Hosts::Below(&[".myshopify.com"])
    }

    fn framed_by(&self) -> &'static [&'static str] {
        &["https://admin.shopify.com", "https://*.myshopify.com"]
    }

    fn actions(&self) -> &'static [&'static str] {
        &["open", "callback", "compliance"]
    }

    fn visit(&self, visit: &Visit, vendor: &Vendor<'_>, known: &[Evidence]) -> Result<Step, Rejection> {
        match (visit.action.as_str(), &visit.method) {
            ("compliance", _) => compliance::visit(visit, vendor),
            ("open", &Method::GET) => open(visit, vendor, known),
            ("callback", &Method::GET) => callback(visit, vendor, known),
            ("open" | "callback", _) => Err(Rejection::Method),
            _ => Err(Rejection::NoAction),
        }
    }
}

/// Opens the app: shows the connection of a shop that is connected, and connects any other.
fn open(visit: &Visit, vendor: &Vendor<'_>, known: &[Evidence]) -> Result<Step, Rejection> {
    let (app, connection) = proven(visit, vendor)?;
    let session = visit.query.get(SESSION).map(|token| session(token, app, &connection, visit)).transpose()?;
    let is_connected = match known.first() {
        None => return Ok(Step::Look(connection)),
        Some(Evidence::Connected(is_connected)) => *is_connected,
        Some(_) => false,
    };
    if is_connected {
        return Ok(Step::Show(connection));
    }
    let site = site(&connection, app, vendor.loopback);
    let Some(token) = session else {
        let mut location = Url::parse(&format!("{site}/admin/oauth/authorize")).map_err(|_| Rejection::NoApp)?;
        location
            .query_pairs_mut()
            .append_pair("client_id", &app.client_id)
            .append_pair("scope", &NEEDED.join(","))
            .append_pair("redirect_uri", &format!("{}/callback", vendor.apps_url))
            .append_pair("state", vendor.nonce);
        return Ok(Step::Begin { intent: connection.to_string(), location, invited: true });
    };
    let grant = json!({
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "requested_token_type": "urn:shopify:params:oauth:token-type:offline-access-token",
        "expiring": "1",
    });
    exchange(visit, vendor, app, connection, &grant, known.get(1))
}

/// Exchanges the code, once the state shows that we sent this shop's visitor there.
fn callback(visit: &Visit, vendor: &Vendor<'_>, known: &[Evidence]) -> Result<Step, Rejection> {
    let (app, connection) = proven(visit, vendor)?;
    let (code, state) = (visit.parameter("code")?, visit.parameter("state")?);
    match known.first() {
        Some(Evidence::Intent(intent)) if *intent == connection.to_string() => {}
        Some(_) => return Err(Rejection::NotProven("the state is of another shop".into())),
        None => return Ok(Step::Spend(state.to_owned())),
    }
    exchange(visit, vendor, app, connection, &json!({ "code": code, "expiring": "1" }), known.get(1))
}

/// Verifies a query's signature, its time and the shop's name.
fn proven<'v>(visit: &Visit, vendor: &Vendor<'v>) -> Result<(&'v App, ConnectionId), Rejection> {
    let app = vendor.app.filter(|app| !app.client_id.is_empty()).ok_or(Rejection::NoApp)?;
    if app.client_secret.is_none() {
        return Err(Rejection::NoApp);
    }
    let mut message = form_urlencoded::Serializer::new(String::new());
    // The parameters are in the order of their names.
    message.extend_pairs(visit.query.iter().filter(|(name, _)| name.as_str() != "hmac"));
    let (message, given) = (message.finish(), visit.parameter("hmac")?);
    let made = |(_, secret): (&str, &str)| QUERY.proves(secret.as_bytes(), message.as_bytes(), given);
    if !app.secrets().any(made) {
        return Err(Rejection::NotProven("hmac".into()));
    }
    let at: i64 =
        visit.parameter("timestamp")?.parse().map_err(|_| Rejection::Malformed("timestamp must be a number".into()))?;
    if visit.now.seconds().abs_diff(at) > MOST_SECONDS.unsigned_abs() {
        return Err(Rejection::NotProven("timestamp: the address is too old; open the app again".into()));
    }
    let connection = shop(&visit.parameter("shop")?.to_ascii_lowercase())
        .ok_or_else(|| Rejection::Malformed("shop must be a host below myshopify.com".into()))?;
    Ok((app, connection))
}

/// Verifies a session token, which must be this shop's, and returns it.
fn session<'t>(token: &'t str, app: &App, connection: &ConnectionId, visit: &Visit) -> Result<&'t str, Rejection> {
    let rules = Rules {
        algorithm: jwt::Algorithm::HS256,
        issuer: None,
        audience: Some(&app.client_id),
        required: &["dest", "iat"],
        by_kid: false,
        max_lifetime_seconds: Some(SESSION_SECONDS),
        max_age_seconds: None,
    };
    let not_proven = |why: &str| Rejection::NotProven(format!("{SESSION}: {why}"));
    let secrets = app.secrets().map(|(id, secret)| (id, secret.as_bytes())).collect();
    let claims =
        rules.verify(token, &Keys::Secrets(secrets), visit.now).map_err(|refusal| not_proven(&refusal.to_string()))?;
    let dest = claims.text("dest").and_then(|dest| dest.strip_prefix("https://"));
    if dest.is_some_and(|dest| dest.eq_ignore_ascii_case(connection.as_str())) {
        Ok(token)
    } else {
        Err(not_proven("dest is another shop"))
    }
}

/// Returns the address of a shop, or the one that stands for it on this machine.
fn site(connection: &ConnectionId, app: &App, loopback: Loopback) -> String {
    match app.api_url.as_deref().filter(|_| loopback == Loopback::Allowed) {
        Some(api) => api.trim_end_matches('/').to_owned(),
        None => format!("https://{connection}"),
    }
}

/// Exchanges a code or a session token for an offline token, and connects the shop with it.
fn exchange(
    visit: &Visit,
    vendor: &Vendor<'_>,
    app: &App,
    connection: ConnectionId,
    grant: &Value,
    answer: Option<&Evidence>,
) -> Result<Step, Rejection> {
    let site = site(&connection, app, vendor.loopback);
    let Some(Evidence::Answer(answer)) = answer else {
        return token_call(&site, app, grant).map(Step::Ask).ok_or(Rejection::NoApp);
    };
    if (400..429).contains(&answer.status) && answer.status != 408 {
        return Err(Rejection::NotProven(format!("the exchange was answered {}", answer.status)));
    }
    if !answer.is_success() {
        return Err(answer.fault(visit.now).into());
    }
    let granted: Granted = lenient::read(&answer.body).map_err(Fault::from)?;
    // Who may write may read.
    let has = |needed: &str| {
        let writes = needed.replacen("read_", "write_", 1);
        granted.scope.split(',').map(str::trim).any(|scope| scope == needed || scope == writes)
    };
    let missing: Vec<_> = NEEDED.into_iter().filter(|needed| !has(needed)).collect();
    let mut settings = json!({ "access_token": granted.access_token.as_str(), MISSING_PERMISSIONS: missing });
    if let (Some(token), Some(expires_at)) = (&granted.refresh_token, granted.expires_at(visit.now)) {
        settings["refresh_token"] = token.as_str().into();
        settings["expires_at"] = expires_at.into();
    }
    if vendor.loopback == Loopback::Allowed && app.api_url.is_some() {
        settings["site"] = site.into();
    }
    let settings = Zeroizing::new(settings.to_string());
    Ok(Step::Install { connection, settings, proven: true, invited: true, reply: Reply::Store })
}
