//! Owns the request as a platform sent it, before any of it is trusted, and the path that it was sent to.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use crate::{
    key::{ConnectionId, ConnectionKey, Generation},
    timestamp::Timestamp,
};

/// One unproven HTTP request. Its body is the received bytes, which platforms sign.
#[derive(Clone)]
pub struct RawRequest {
    /// The method, nearly always `POST`.
    pub method: Method,
    /// The path, and the query behind its question mark, as they were received.
    pub target: String,
    /// The headers, with names in lower case.
    pub headers: HeaderMap,
    /// The body's bytes, already decoded where API Gateway sent them as base64.
    pub body: Bytes,
    /// The moment of observation: the time at which API Gateway took the request (`requestContext.timeEpoch`).
    pub received: Timestamp,
}

impl RawRequest {
    /// Returns the value of a header that must not be ambiguous, or `None` when it is absent, repeated or not visible
    /// ASCII.
    pub fn single_header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        value.to_str().ok()
    }
}

/// The request's method, time and sizes only, because headers and bodies may hold secrets.
impl fmt::Debug for RawRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawRequest")
            .field("method", &self.method)
            .field("headers", &self.headers.len())
            .field("body", &self.body.len())
            .field("received", &self.received)
            .finish()
    }
}

/// Percent-decodes a segment of a path. Returns `None` when a percent sign is not followed by two hex digits, or when
/// the result is not UTF-8.
pub fn decoded(segment: &str) -> Option<String> {
    let is_whole = |after: &str| after.get(..2).is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let whole = segment.split('%').skip(1).all(is_whole);
    whole.then(|| percent_decode_str(segment).decode_utf8().ok().map(Cow::into_owned))?
}

/// The most values that an entity may hold, as delivered or in an answer: an order of a thousand lines.
///
/// Unknown fields of an entity are kept as a tree, in which the smallest objects take some 80 times their text. Without
/// a bound, one store could take the memory of all.
pub const MAX_VALUES: usize = 50_000;

/// The most values that a page of a list may hold, only one of which is held at a time.
pub const MAX_PAGE_VALUES: usize = 200_000;

/// The assumed memory of a value in a tree, in bytes. The smallest objects, of one member each, take some 650.
const VALUE_BYTES: usize = 256;

/// Estimates the number of values of a JSON text from its commas and brackets. The estimate is never below the number
/// of values within the outermost one.
pub fn values(text: &[u8]) -> usize {
    text.iter().filter(|byte| matches!(byte, b',' | b'{' | b'[')).count()
}

/// Returns whether a JSON text holds more values than an entity may have.
pub fn has_too_many_values(body: &[u8]) -> bool {
    body.len() > MAX_VALUES && values(body) > MAX_VALUES
}

/// Returns whether a JSON text holds more values than a page of a list may have.
pub fn is_too_large_a_page(body: &[u8]) -> bool {
    body.len() > MAX_PAGE_VALUES && values(body) > MAX_PAGE_VALUES
}

/// Estimates the memory of a JSON text and the tree read from it, in bytes.
pub fn weight(text: &[u8]) -> usize {
    text.len() + VALUE_BYTES * values(text)
}

/// The path that a webhook points at: `/hooks/{platform}/{connection}` for the first generation, with `/{generation}`
/// for later ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebhookPath {
    /// The platform and the connection.
    pub key: ConnectionKey,
    /// The generation that the webhook was made for.
    pub generation: Generation,
}

impl WebhookPath {
    /// Parses the parts of a webhook's path, or returns `None` when they violate their grammar. It does not check that
    /// the platform exists.
    pub fn parse(platform: &str, connection: &str, generation: Option<&str>) -> Option<Self> {
        let generation = match generation {
            None => Generation::FIRST,
            Some(text) => Generation::parse(text)?,
        };
        let connection = connection.parse::<ConnectionId>().ok()?;
        Some(Self { key: ConnectionKey { platform: platform.to_owned(), connection }, generation })
    }
}

impl fmt::Display for WebhookPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/hooks/{}/{}", self.key.platform, self.key.connection)?;
        if self.generation == Generation::FIRST { Ok(()) } else { write!(f, "/{}", self.generation) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_generation_has_no_part_of_its_own() {
        let first = WebhookPath::parse("woocommerce", "Shop.example.com", None).unwrap();
        assert_eq!(first.to_string(), "/hooks/woocommerce/shop.example.com");
        assert_eq!(WebhookPath::parse("woocommerce", "shop.example.com", Some("1")).unwrap(), first);
        let third = WebhookPath::parse("woocommerce", "shop.example.com", Some("3")).unwrap();
        assert_eq!(third.to_string(), "/hooks/woocommerce/shop.example.com/3");
        assert_eq!(WebhookPath::parse("woocommerce", "shop.example.com", Some("03")), None);
        assert_eq!(WebhookPath::parse("woocommerce", "shop example", None), None);
    }

    #[test]
    fn percent_signs_are_read_strictly() {
        assert_eq!(decoded("a%2Db%C3%A9").as_deref(), Some("a-bé"));
        for broken in ["%", "%2", "%zz", "%+1", "%ff", "%é1"] {
            assert_eq!(decoded(broken), None, "{broken}");
        }
    }
}
