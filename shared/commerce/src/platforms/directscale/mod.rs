//! DirectScale (since bought by Exigo), a platform for direct selling. A client has a live and a stage environment; a
//! connection's id is the client's id, or `{client}.stage`.
//!
//! Its quirks, from its documentation, class documentation and public client extensions:
//!
//! - Events carry only changes, and no lines or totals: an order is put together from its events, facet by facet.
//! - The proof is a static bearer key, which may contain any punctuation; it covers neither the body nor the client's
//!   id.
//! - Events come late, repeated and in any order; `EventDateUtc` dates them all, deletes included. The finalization of
//!   an order can be reported several times, and before its creation.
//! - The documentation's own examples end in a trailing comma, which is not JSON. They are accepted all the same.
//! - Legacy events are chosen by number; the documentation does not say whether `EventType` then holds the number or
//!   the name.
//! - Client code can send events of its own, with any bodies, a bare number included. A delivery with an answer other
//!   than 200 is sent again, so such events are kept as records.
//! - No API for webhooks is documented: they are entered by hand.

mod api;
mod delivery;
mod events;
mod mapping;
mod pull;
mod webhooks;
mod wire;

use super::Platform;
use crate::http_call::Hosts;

/// DirectScale, as each function sees it.
pub struct DirectScale;

/// The descriptor of DirectScale.
pub const PLATFORM: Platform = Platform {
    name: "directscale",
    hosts: Hosts::Below(&[".corpadmin.directscale.com", ".corpadmin.directscalestage.com"]),
    delivery: &DirectScale,
    mapping: &DirectScale,
    budget: api::BUDGET,
    pull: Some(&DirectScale),
    lists: None,
    act: None,
    notices: None,
    setup: &DirectScale,
    installation: None,
};

/// Returns the client of a connection, and its environment, empty for the live one.
fn client(connection: &str) -> (&str, &str) {
    connection.split_once('.').unwrap_or((connection, ""))
}
