//! Owns the one table that turns what became of a request into a status. Bodies are empty: whoever cannot prove a delivery
//! learns nothing, and whoever can has no use for one.

use http::{HeaderValue, StatusCode};
use lambda_http::{Body, Response};

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Queued, under the id that SQS gave it. The status is the platform's.
    Accepted(StatusCode, String),
    /// A handshake; nothing was queued. The status is the platform's.
    Greeted(StatusCode),
    /// No such platform, or no connection id.
    NotFound,
    /// A method that the platform does not deliver with.
    Method,
    /// Not proven.
    Refused,
    /// A fault of ours: the platform should try again.
    Unavailable,
}

impl Reply {
    /// The table.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Accepted(status, _) | Self::Greeted(status) => *status,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Refused => StatusCode::UNAUTHORIZED,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The response. The message id goes with it, so that a delivery can be followed from the sender's log to ours.
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = self.status();
        if let Self::Accepted(_, id) = &self
            && let Ok(id) = HeaderValue::from_str(id)
        {
            response.headers_mut().insert("x-message-id", id);
        }
        response
    }
}
