//! The calls to Shopify's Admin GraphQL API, and the meaning of its answers.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroize;

use super::wire::{self, Cost};
use crate::{
    entity::ExternalId,
    http_call::{ApiRequest, ApiResponse, Fault},
    key::ConnectionId,
    platform::{
        lenient,
        pull::{Access, Budget},
    },
    timestamp::Timestamp,
};

/// The version of the API. A version is supported for a year; the webhooks that it makes deliver in its form.
pub(super) const VERSION: &str = "2026-10";

/// The rate of calls. Shopify limits points and not calls, and [`rest`] keeps to the points. A standard plan's points run
/// out before this budget does. On a greater plan, this budget comes first.
pub(super) const BUDGET: Budget = Budget { calls: 120, seconds: 60 };

/// The most points that one call may cost.
pub(super) const MOST_POINTS: f64 = 1_000.0;

/// The wait where the platform does not say how fast points come back, in seconds.
const UNKNOWN_SECONDS: i64 = 10;

/// The ending of every shop's own host.
const DOMAIN: &str = ".myshopify.com";

/// The credentials for the API of one shop.
#[derive(Serialize, Deserialize, Zeroize)]
#[zeroize(drop)]
pub struct Credentials {
    /// The opaque token.
    pub access_token: String,
    /// The token that renews it, where it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// The time from which it is invalid, in seconds since 1970; `None` where it does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

/// Builds the call of a query with its variables.
pub(super) fn call(access: &Access<'_>, query: &str, variables: &Value) -> Result<ApiRequest, Fault> {
    let broken = |what: &str| Fault::Connection(format!("the connection's {what} cannot be read; connect it again"));
    let credentials: Credentials = serde_json::from_str(access.credentials).map_err(|_| broken("credentials"))?;
    let mut url = Url::parse(access.site).map_err(|_| broken("site"))?;
    let path = ["admin", "api", VERSION, "graphql.json"];
    url.path_segments_mut().map_err(|()| broken("site"))?.pop_if_empty().extend(path);
    let request = ApiRequest::with_secret(Method::POST, url, "x-shopify-access-token", &credentials.access_token)?;
    Ok(request.json(&json!({ "query": query, "variables": variables })))
}

/// Returns the id of an object in GraphQL.
///
/// # Errors
/// [`Fault::Unreadable`] for an id that Shopify cannot have.
pub(super) fn gid(kind: &str, id: &ExternalId) -> Result<String, Fault> {
    let digits = id.as_str().bytes().all(|byte| byte.is_ascii_digit());
    let id = digits.then_some(id).ok_or_else(|| Fault::Unreadable("an id that Shopify cannot have".into()))?;
    Ok(format!("gid://shopify/{kind}/{id}"))
}

/// Checks that an answer is of the API, and reports no error.
///
/// # Errors
/// The [`Fault`] that the answer means.
pub(super) fn check(response: &ApiResponse, now: Timestamp) -> Result<(), Fault> {
    if !response.is_success() {
        return Err(fault(response, now));
    }
    let envelope: wire::Envelope = lenient::read(&response.body)?;
    match envelope.errors {
        None | Some(Value::Null) => Ok(()),
        Some(errors) => Err(meaning(&errors, envelope.extensions.cost.as_ref())),
    }
}

/// Maps an unsuccessful status to a fault. 402 is a shop that does not pay, 423 one that is locked, 430 a shop's limit
/// for suspicious calls.
fn fault(response: &ApiResponse, now: Timestamp) -> Fault {
    match response.status {
        402 | 423 => Fault::Connection(format!("the shop is frozen or locked ({})", response.status)),
        430 => Fault::Throttled { seconds: response.retry_after(now).unwrap_or(60) },
        _ => response.fault(now),
    }
}

/// Returns the fault that the errors of an answer mean. An error's message may repeat content, so only codes are told.
fn meaning(errors: &Value, cost: Option<&Cost>) -> Fault {
    let code = |error: &Value| error.pointer("/extensions/code").and_then(Value::as_str).map(str::to_owned);
    let codes: Vec<String> = match errors {
        Value::Array(errors) => errors.iter().filter_map(code).collect(),
        // A refused token is answered 401 with a text here; any other text is told by its status alone.
        _ => Vec::new(),
    };
    let has = |code: &str| codes.iter().any(|known| known == code);
    if has("THROTTLED") {
        return Fault::Throttled { seconds: cost.map_or(UNKNOWN_SECONDS, Cost::seconds_until_paid) };
    }
    if has("INTERNAL_SERVER_ERROR") || has("TIMEOUT") {
        return Fault::Unavailable("the platform failed within its answer".into());
    }
    if has("ACCESS_DENIED") || has("SHOP_INACTIVE") {
        return Fault::Connection(
            "Shopify refuses the call: the app lacks a permission, or the shop is closed; open the app in the shop's \
             admin and grant what it asks for"
                .into(),
        );
    }
    let known = codes.iter().find(|code| code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
    Fault::Unreadable(match known {
        Some(code) => format!("errors, with the code {code:.60}"),
        None => "errors, without a code".into(),
    })
}

/// Returns the time, in seconds, for which the shop's calls have to rest until any call can be paid for, by the state of
/// the bucket in an answer.
pub(super) fn rest(response: &ApiResponse) -> Option<i64> {
    let envelope: wire::Envelope = lenient::read(&response.body).ok()?;
    let status = envelope.extensions.cost?.throttle_status?;
    // A bucket that never holds as much as the dearest call has to be full.
    let wanted = MOST_POINTS.min(status.maximum_available);
    let seconds = status.seconds_until(wanted);
    (seconds > 0).then_some(seconds)
}

/// Returns the connection of a shop, whose host must be exactly `{name}.myshopify.com`.
pub(super) fn shop(host: &str) -> Option<ConnectionId> {
    let name = host.strip_suffix(DOMAIN)?;
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let legal = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (begins && legal).then(|| host.parse().ok())?
}
