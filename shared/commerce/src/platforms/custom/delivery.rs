//! The receiver's part of declared senders. [`crate::verify::verify_declared`] proves their deliveries.

use http::Method;

use crate::{
    platform::delivery::{Delivery, Probe},
    platforms::custom::Custom,
    request::{RawRequest, WebhookPath},
    scheme::Scheme,
    timestamp::Timestamp,
};

impl Delivery for Custom {
    /// Returns the methods that a declaration can name, the handshakes' included.
    fn methods(&self) -> &'static [Method] {
        &[Method::POST, Method::GET, Method::PUT]
    }

    fn scope(&self, _request: &RawRequest) -> Option<String> {
        None
    }

    fn delivery_id(&self, _request: &RawRequest) -> Option<String> {
        None
    }

    fn scheme(&self) -> Scheme {
        Scheme::Declared
    }

    fn probe(&self, _path: &WebhookPath, _now: Timestamp) -> Probe {
        Probe::default()
    }
}
