//! The calls to BigCommerce's API, and the meaning of its answers.

use http::Method;
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroize;

use crate::{
    http_call::{ApiRequest, ApiResponse, Fault},
    platform::pull::{Access, Budget},
    timestamp::Timestamp,
};

/// The greatest age of a callback, in seconds. An older one has a wrong date, because the last retry is 48 hours after
/// the first attempt [`overview.mdx`].
pub(super) const RETRIED_SECONDS: i64 = 72 * 60 * 60;

/// The wait for an overloaded store, in seconds.
pub(super) const OVERLOADED_SECONDS: i64 = 120;

/// The rate of calls. The smallest plans allow 150 calls in 30 seconds for all apps of a store together; this leaves a
/// third to the others [`api-rate-limits.mdx`].
pub(super) const BUDGET: Budget = Budget { calls: 100, seconds: 30 };

/// Builds the call for a path below the store's.
pub(super) fn call(
    access: &Access<'_>,
    method: Method,
    path: &[&str],
    query: &[(&str, &str)],
) -> Result<ApiRequest, Fault> {
    let broken = |what: &str| Fault::Connection(format!("the connection's {what} cannot be read; connect it again"));
    // A URL resolves these away, and the result would be another resource.
    if path.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err(Fault::Unreadable("an id that BigCommerce cannot have".into()));
    }
    let credentials: super::api::Credentials =
        serde_json::from_str(access.credentials).map_err(|_| broken("credentials"))?;
    let mut url = Url::parse(access.site).map_err(|_| broken("site"))?;
    url.path_segments_mut().map_err(|()| broken("site"))?.pop_if_empty().extend(path);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    ApiRequest::with_secret(method, url, "x-auth-token", &credentials.access_token)
}

/// Maps an unsuccessful answer to a fault [`api-rate-limits.mdx`, `status-codes.mdx`].
pub(super) fn fault(response: &ApiResponse, now: Timestamp) -> Fault {
    match response.status {
        429 => {
            let reset = response.headers.get("x-rate-limit-time-reset-ms");
            let millis = reset.and_then(|value| value.to_str().ok()?.trim().parse::<u32>().ok());
            // Without the header, the store is overloaded, and not this connection's quota used up.
            let seconds = millis.map_or(OVERLOADED_SECONDS, |millis| i64::from(millis.div_ceil(1000).max(1)));
            Fault::Throttled { seconds }
        }
        423 => Fault::Unavailable("the platform answered 423".into()),
        _ => response.fault(now),
    }
}

/// A token for the API of one store. It does not expire.
#[derive(Serialize, Deserialize, Zeroize)]
#[zeroize(drop)]
pub struct Credentials {
    /// The opaque token.
    pub access_token: String,
}
