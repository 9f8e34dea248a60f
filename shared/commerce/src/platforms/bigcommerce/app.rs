//! Owns the installation of BigCommerce's app: the four callbacks of `apps/guide/auth.mdx` and `callbacks.mdx`.

use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    apps::App,
    http_call::{ApiRequest, Hosts, Loopback},
    install::{Evidence, Installation, Once, Rejection, Reply, Step, Vendor, Visit},
    key::ConnectionId,
    platform::{lenient, settings::MISSING_PERMISSIONS},
    platforms::bigcommerce::BigCommerce,
    scheme::jwt::{Algorithm, Keys, LEEWAY_SECONDS, Rules},
    timestamp::Timestamp,
};

/// The host where codes are exchanged.
const LOGIN_URL: &str = "https://login.bigcommerce.com";
/// The permissions that are needed, each as read-only or in full.
const NEEDED: [(&str, &str); 4] = [
    ("store_v2_products_read_only", "store_v2_products"),
    ("store_v2_orders_read_only", "store_v2_orders"),
    ("store_v2_customers_read_only", "store_v2_customers"),
    ("store_cart_read_only", "store_cart"),
];
/// The longest lifetime of a signed payload, in seconds: the documented day, and the difference of clocks.
const MAX_LIFETIME_SECONDS: i64 = 86_400 + LEEWAY_SECONDS;

/// The answer of the exchange. It also names the person who installed the app, which is not kept.
#[derive(Deserialize)]
struct Granted {
    access_token: Zeroizing<String>,
    #[serde(default)]
    scope: String,
    context: String,
}

impl Installation for BigCommerce {
    fn hosts(&self) -> Hosts {
        Hosts::Only(&["login.bigcommerce.com"])
    }

    /// Returns the hosts of the control panel, which is at the store's own host below `mybigcommerce.com`.
    fn framed_by(&self) -> &'static [&'static str] {
        &["https://*.mybigcommerce.com", "https://login.bigcommerce.com", "https://*.bigcommerce.com"]
    }

    fn actions(&self) -> &'static [&'static str] {
        &["auth", "load", "uninstall", "remove_user"]
    }

    fn visit(&self, visit: &Visit, vendor: &Vendor<'_>, known: &[Evidence]) -> Result<Step, Rejection> {
        if !self.actions().contains(&visit.action.as_str()) {
            return Err(Rejection::NoAction);
        }
        if visit.method != Method::GET {
            return Err(Rejection::Method);
        }
        let app = vendor.app.filter(|app| !app.client_id.is_empty()).ok_or(Rejection::NoApp)?;
        let secret = app.client_secret.as_ref().ok_or(Rejection::NoApp)?;
        if visit.action == "auth" {
            return auth(visit, vendor, app, secret, known);
        }
        let (connection, once) = payload(visit, app, secret)?;
        Ok(match visit.action.as_str() {
            "load" => Step::Show(connection),
            "uninstall" => Step::Uninstall { connection, once },
            _ => Step::Nothing(once),
        })
    }
}

/// Exchanges the code, which is the only proof. Only the exchange shows its worth, so nothing in the query is trusted,
/// not even the name of the store.
fn auth(visit: &Visit, vendor: &Vendor<'_>, app: &App, secret: &str, known: &[Evidence]) -> Result<Step, Rejection> {
    let (code, scope, context) = (visit.parameter("code")?, visit.parameter("scope")?, visit.parameter("context")?);
    if store(context).is_none() {
        return Err(Rejection::Malformed("context names no store; open the app from the control panel again".into()));
    }
    let Some(Evidence::Answer(answer)) = known.first() else {
        let login = app.login_url.as_deref().filter(|_| vendor.loopback == Loopback::Allowed).unwrap_or(LOGIN_URL);
        let url = Url::parse(&format!("{}/oauth2/token", login.trim_end_matches('/')));
        let url = url.map_err(|_| Rejection::NoApp)?;
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))]);
        let request = ApiRequest { method: Method::POST, url, headers, body: bytes::Bytes::new() };
        return Ok(Step::Ask(request.json(&json!({
            "client_id": app.client_id, "client_secret": secret, "code": code, "context": context, "scope": scope,
            "grant_type": "authorization_code", "redirect_uri": format!("{}/auth", vendor.apps_url),
        }))));
    };
    // The status of a refused code is not documented.
    if (400..429).contains(&answer.status) && answer.status != 408 {
        return Err(Rejection::NotProven(format!("the exchange of the code was answered {}", answer.status)));
    }
    if !answer.is_success() {
        return Err(answer.fault(visit.now).into());
    }
    let granted: Granted = lenient::read(&answer.body).map_err(crate::http_call::Fault::from)?;
    let connection = store(&granted.context)
        .ok_or_else(|| Rejection::NotProven("the exchange of the code named no store".into()))?;
    let has = |name: &str| granted.scope.split([' ', '+']).any(|scope| scope == name);
    let missing: Vec<_> = NEEDED.iter().filter(|(read, all)| !has(read) && !has(all)).map(|(read, _)| *read).collect();
    let mut settings = json!({ "access_token": granted.access_token.as_str(), MISSING_PERMISSIONS: missing });
    if let Some(api) = app.api_url.as_deref().filter(|_| vendor.loopback == Loopback::Allowed) {
        settings["site"] = format!("{}/stores/{connection}", api.trim_end_matches('/')).into();
    }
    let settings = Zeroizing::new(settings.to_string());
    Ok(Step::Install { connection, settings, proven: true, invited: true, reply: Reply::Store })
}

/// Verifies `signed_payload_jwt`. The algorithm is not documented; the official clients sign and check HS256.
fn payload(visit: &Visit, app: &App, secret: &str) -> Result<(ConnectionId, Once), Rejection> {
    let rules = Rules {
        algorithm: Algorithm::HS256,
        issuer: Some("bc"),
        audience: Some(&app.client_id),
        required: &["sub", "jti", "iat"],
        by_kid: false,
        max_lifetime_seconds: Some(MAX_LIFETIME_SECONDS),
        max_age_seconds: None,
    };
    let token = visit.parameter("signed_payload_jwt")?;
    let not_proven = |why: &str| Rejection::NotProven(format!("signed_payload_jwt: {why}"));
    let token = rules
        .verify(token, &Keys::Secrets(vec![("app", secret.as_bytes())]), visit.now)
        .map_err(|refusal| not_proven(&refusal.to_string()))?;
    let connection = token.text("sub").and_then(store).ok_or_else(|| not_proven("sub names no store"))?;
    let id = token.text("jti").filter(|id| !id.is_empty()).ok_or_else(|| not_proven("jti is no text"))?;
    // The claims are already verified as times, with fractions at most.
    let seconds = |claim: &str| {
        let number = token.claims.get(claim)?;
        number.as_i64().or_else(|| format!("{:.0}", number.as_f64()?.floor()).parse().ok())
    };
    let (Some(issued), Some(until)) = (seconds("iat"), seconds("exp")) else { return Err(not_proven("a time")) };
    let stamp = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
    let until = stamp(until.saturating_add(LEEWAY_SECONDS));
    Ok((connection, Once { id: id.to_owned(), issued: stamp(issued), until }))
}

/// Returns the store of `stores/{hash}`.
fn store(context: &str) -> Option<ConnectionId> {
    let hash = context.strip_prefix("stores/")?;
    let is_hash = hash.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    is_hash.then(|| hash.parse().ok())?
}
