//! The one table of the statuses that requests are answered with. Bodies are empty, because a caller that cannot prove
//! a delivery must learn nothing, and one that can has no use for a body. Only what a declaration describes has one: the
//! answer to a handshake, and the text that a sender waits for.

use commerce::declaration::Answer;
use http::{HeaderName, HeaderValue, StatusCode};
use lambda_http::{Body, Response};

/// The reply to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The delivery was queued.
    Accepted {
        /// The platform's status.
        status: StatusCode,
        /// The text that a declared sender waits for.
        text: Option<String>,
        /// The message id from SQS.
        id: String,
    },
    /// A handshake was answered, and nothing was queued: the platform's status.
    Greeted(StatusCode),
    /// The platform does not exist, or the path has no valid connection.
    NotFound,
    /// The platform does not deliver with this method.
    Method,
    /// A handshake of a declared sender was answered as its declaration says, and nothing was queued.
    Answered(Answer),
    /// The request is not proven: the platform's status for that.
    Refused(StatusCode),
    /// Something failed on our side, and the platform should try again.
    Unavailable,
}

impl Reply {
    /// Returns the status of the reply.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Accepted { status, .. } | Self::Greeted(status) | Self::Refused(status) => *status,
            Self::Answered(answer) => StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK),
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the response. It carries the trace id, with which a delivery can be followed from the sender's log through
    /// ours, and the message id.
    pub fn into_response(self, trace: Option<&str>) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = self.status();
        if let Self::Answered(answer) = &self {
            for (name, value) in &answer.headers {
                if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                    response.headers_mut().insert(name, value);
                }
            }
            *response.body_mut() = Body::Text(answer.body.clone());
        }
        if let Self::Accepted { text, id, .. } = self {
            if let Ok(id) = HeaderValue::from_str(&id) {
                response.headers_mut().insert("x-message-id", id);
            }
            *response.body_mut() = text.map_or(Body::Empty, Body::Text);
        }
        if let Some(trace) = trace.and_then(|trace| HeaderValue::from_str(trace).ok()) {
            response.headers_mut().insert("x-trace-id", trace);
        }
        response
    }
}
