//! DirectScale (since bought by Exigo), a platform for direct selling. A client has a live and a stage environment; a
//! connection's id is the client's id, or `{client}.stage`.
//!
//! What is strange about it, as its documentation, class documentation and public client extensions show:
//!
//! - Events carry only what has changed, and no lines or totals: an order is put together from its events, facet by
//!   facet.
//! - The proof is a static bearer key, which may hold any punctuation; neither the body nor the client's id is covered
//!   by it.
//! - Events come late, repeated and in any order; `EventDateUtc` dates them all, deletes included. Finalizing an order
//!   can be told several times, and before its creation is.
//! - The documentation's own examples end in a trailing comma, which is no JSON. They are taken all the same.
//! - Legacy events are subscribed to by number; whether `EventType` then holds the number or the name is not
//!   documented.
//! - Client code can send events of its own, whose bodies are anything, a bare number included. Whatever is not 200 is
//!   sent again, so they are kept as records.
//! - No API for subscriptions is documented: they are entered by hand.

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

/// The descriptor.
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

/// The client that a connection is of, and its environment, empty for the live one.
fn client(connection: &str) -> (&str, &str) {
    connection.split_once('.').unwrap_or((connection, ""))
}
