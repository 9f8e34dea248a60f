//! The errors of the admin interface: problem details (RFC 9457), each of which names the thing and the next step.

use cloud::EdgeError;
use commerce::{http_call::Fault, platform::settings::SettingsError};
use http::{HeaderValue, StatusCode, header};
use lambda_http::{Body, Response};
use serde_json::json;

/// The reason for which a request failed, with one variant for each cause.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The token is missing or invalid. Nothing more is said, because the caller is unknown.
    #[error("a valid bearer token is needed")]
    Unauthorized,
    /// The token lacks this permission.
    #[error("the token is not good for this: it needs the permission {0}")]
    Forbidden(&'static str),
    /// The route, the platform or the id does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The path does not have this method, but these.
    #[error("the methods here are {}", .0.join(", "))]
    Method(Vec<&'static str>),
    /// The request cannot be accepted as it is.
    #[error("{0}")]
    Invalid(String),
    /// A setting cannot be accepted.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// The connection is in a state that does not allow the request, or another request has changed it.
    #[error("{0}")]
    Conflict(String),
    /// The store refuses the credentials, or the address is no store.
    #[error("{0}; then send the same request again")]
    Refused(Fault),
    /// The store does not answer as it should.
    #[error("{0}; what was done is recorded: send the same request again")]
    Platform(Fault),
    /// Something failed on our side. The log has the cause.
    #[error("something here failed; nothing is lost: send the same request again")]
    Ours(#[from] EdgeError),
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Connection(_) => Self::Refused(fault),
            Fault::Throttled { .. } | Fault::Unavailable(_) | Fault::Unreadable(_) | Fault::TooLarge(_) => {
                Self::Platform(fault)
            }
        }
    }
}

impl Problem {
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not-found"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-request"),
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed"),
            Self::Settings(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-settings"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            Self::Refused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "refused-by-store"),
            Self::Platform(_) => (StatusCode::BAD_GATEWAY, "store-unavailable"),
            Self::Ours(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        }
    }

    /// Returns the cause, for our logs only.
    pub fn for_log(&self) -> String {
        match self {
            Self::Ours(error) => error.to_string(),
            other => other.to_string(),
        }
    }

    /// Returns the response.
    pub fn into_response(self) -> Response<Body> {
        let (status, slug) = self.kind();
        if let Self::Ours(error) = &self {
            cloud::telemetry::error("registrar", &error.to_string());
        }
        let body = json!({
            "type": format!("urn:commerce-hooks:problem:{slug}"),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": self.to_string(),
        });
        let mut response = Response::new(Body::Text(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let told = match &self {
            Self::Unauthorized => Some((header::WWW_AUTHENTICATE, "Bearer".to_owned())),
            Self::Forbidden(scope) => {
                Some((header::WWW_AUTHENTICATE, format!(r#"Bearer error="insufficient_scope", scope="{scope}""#)))
            }
            Self::Method(allowed) => Some((header::ALLOW, allowed.join(", "))),
            _ => None,
        };
        if let Some((name, value)) = told.and_then(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))) {
            headers.insert(name, value);
        }
        response
    }
}
