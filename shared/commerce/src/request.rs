//! Owns the request as a platform sent it, before anything about it is believed, and the path that it was sent to.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use crate::{
    key::{ConnectionId, ConnectionKey, Generation},
    timestamp::Timestamp,
};

/// One HTTP request, not proven. Its body is the bytes as they came, which is what platforms sign.
#[derive(Clone)]
pub struct RawRequest {
    /// The method, `POST` nearly always.
    pub method: Method,
    /// The headers, names in lower case.
    pub headers: HeaderMap,
    /// The body's bytes, already decoded where API Gateway sent them as base64.
    pub body: Bytes,
    /// When API Gateway took the request (`requestContext.timeEpoch`): the moment of observation.
    pub received: Timestamp,
}

impl RawRequest {
    /// The value of a header that must not be ambiguous: `None` when it is absent, repeated or not visible ASCII.
    pub fn single_header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        value.to_str().ok()
    }
}

/// Headers and bodies may hold secrets, so only their sizes show.
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

/// Returns a segment of a path without its percent signs; none where one of them is not followed by two hex digits, or where what is
/// left is no text.
pub fn decoded(segment: &str) -> Option<String> {
    let is_whole = |after: &str| after.get(..2).is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let whole = segment.split('%').skip(1).all(is_whole);
    whole.then(|| percent_decode_str(segment).decode_utf8().ok().map(Cow::into_owned))?
}

/// The most values that an entity may hold, as it is delivered or shown: an order of a thousand lines. What is not known of an entity is
/// kept as a tree, in which the smallest objects take some 80 times their text: without a bound, one store could take the memory of all.
pub const MAX_VALUES: usize = 50_000;

/// The most values that a page of a list may hold, of which only one is held at a time.
pub const MAX_PAGE_VALUES: usize = 200_000;

/// What a value takes as part of a tree, in bytes: the smallest objects, of one member each, take some 650.
const VALUE_BYTES: usize = 256;

/// How many values a JSON text holds, by its commas and brackets: never fewer than there are.
pub fn values(text: &[u8]) -> usize {
    text.iter().filter(|byte| matches!(byte, b',' | b'{' | b'[')).count()
}

/// Whether a JSON text holds more values than an entity can have.
pub fn has_too_many_values(body: &[u8]) -> bool {
    body.len() > MAX_VALUES && values(body) > MAX_VALUES
}

/// Whether a JSON text holds more values than a page of a list can have.
pub fn is_too_large_a_page(body: &[u8]) -> bool {
    body.len() > MAX_PAGE_VALUES && values(body) > MAX_PAGE_VALUES
}

/// What a JSON text and the tree that is read from it take in memory, in bytes, roughly.
pub fn weight(text: &[u8]) -> usize {
    text.len() + VALUE_BYTES * values(text)
}

/// Where a webhook points: `/hooks/{platform}/{connection}` for the first generation, with `/{generation}` for later ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebhookPath {
    /// Platform and connection.
    pub key: ConnectionKey,
    /// The generation that the webhook was made for.
    pub generation: Generation,
}

impl WebhookPath {
    /// Reads the parts of a webhook's path; `None` when they are not in their grammar. Whether the platform exists is not asked.
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
