//! The calls to a declared sender's API.

use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use url::Url;

use crate::{
    declaration::{Declaration, map::PathTemplate},
    http_call::{ApiRequest, ApiResponse, Fault},
    json,
    platform::pull::{Access, Budget},
};

/// The rate of calls. A declaration cannot know what its API allows; this is polite.
pub(super) const BUDGET: Budget = Budget { calls: 60, seconds: 30 };

/// Builds a call with the headers that the declaration names.
pub(super) fn call(
    declaration: &Declaration,
    access: &Access<'_>,
    path: &PathTemplate,
    id: &str,
    cursor: &str,
) -> Result<ApiRequest, Fault> {
    let broken = |what: &str| Fault::Connection(format!("the connection's {what} cannot be used; connect it again"));
    let path = path.fill(id, cursor).ok_or_else(|| Fault::Unreadable("an id that would climb the path".into()))?;
    let site = Url::parse(access.site).map_err(|_| broken("site"))?;
    let url = Url::parse(&format!("{}{path}", access.site.trim_end_matches('/'))).map_err(|_| broken("site"))?;
    if url.origin() != site.origin() {
        return Err(broken("site"));
    }
    let mut request = ApiRequest::open(Method::GET, url);
    for (name, value) in declaration.api.iter().flat_map(|api| &api.headers) {
        let secret = value.contains("{credential}");
        let value = zeroize::Zeroizing::new(value.replace("{credential}", access.credentials));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| broken("declaration"))?;
        let mut value = HeaderValue::from_str(&value).map_err(|_| broken("credential"))?;
        value.set_sensitive(secret);
        request.headers.insert(name, value);
    }
    Ok(request)
}

/// Reads an answer as JSON in which no member is there twice.
pub(super) fn read(response: &ApiResponse) -> Result<Value, Fault> {
    json::value(&response.body).map_err(|error| Fault::Unreadable(error.to_string()))
}

/// Returns what expressions know of an answer beside its body: its status.
pub(super) fn answered(response: &ApiResponse) -> Value {
    json!({ "status": response.status })
}
