//! The calls to CloudBlue Connect's API, and the meaning of its answers.

use http::{Method, header};
use url::Url;

use super::wire;
use crate::{
    entity::EntityKind,
    http_call::{ApiRequest, ApiResponse, Fault},
    platform::{
        lenient::read,
        mapping::MapError,
        pull::{Access, Budget, Wanted},
    },
};

/// The rate of calls. The platform names no limit; this is polite.
pub(super) const BUDGET: Budget = Budget { calls: 300, seconds: 30 };

pub(super) fn unreadable(error: MapError) -> Fault {
    Fault::Unreadable(error.to_string())
}

/// Builds the call for a path below the API's URL.
pub(super) fn call(access: &Access<'_>, method: Method, path: &[&str]) -> Result<ApiRequest, Fault> {
    let broken = || Fault::Connection("the connection's site cannot be read; connect it again".into());
    let mut url = Url::parse(access.site).map_err(|_| broken())?;
    url.path_segments_mut().map_err(|()| broken())?.pop_if_empty().extend(path);
    ApiRequest::with_secret(method, url, header::AUTHORIZATION.as_str(), access.credentials)
}

/// Returns the path of one entity.
pub(super) fn path<'a>(wanted: &Wanted<'a>) -> Result<Vec<&'a str>, Fault> {
    let id = wanted.id.as_str();
    match wanted.entity {
        EntityKind::Request if id.starts_with("TCR-") => Ok(vec!["tier", "config-requests", id]),
        EntityKind::Request => Ok(vec!["requests", id]),
        EntityKind::Subscription => Ok(vec!["assets", id]),
        other => Err(Fault::Unreadable(format!("CloudBlue Connect has no {other}"))),
    }
}

/// Returns the platform's own error by its code, because the texts may repeat what was sent.
pub(super) fn refusal(answer: &ApiResponse) -> Option<String> {
    let error: wire::Error = read(&answer.body).ok().filter(|_| matches!(answer.status, 400 | 409))?;
    let code = &error.error_code;
    let word =
        (1..=50).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let code = if word { code.as_str() } else { "an error" };
    Some(format!("{code}, {} errors", error.errors.as_array().map_or(0, Vec::len)))
}
