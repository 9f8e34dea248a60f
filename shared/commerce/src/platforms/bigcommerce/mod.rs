//! BigCommerce, a hosted platform: all stores are behind one API, each under its hash, which is the connection's id
//! here.
//!
//! What is strange about it, as its documentation (`bigcommerce/docs`) and its OpenAPI files show:
//!
//! - A callback says only which entity, never how it is; so every entity is pulled. The `hash` in it has no key and
//!   proves nothing.
//! - All stores of an app share one key, the app's client secret. `producer` in the signed body says which store it is.
//! - The signature is in samples of code only, never spelled out. Hence the second factor, a secret header of our own.
//! - `store/order/created` comes for orders that were never paid (status 0), too.
//! - The id of `store/customer/address/…` is the address's under the type `customer`, and the scope of
//!   `store/channel/*/inventory/…` has a literal `*`.
//! - v2 has bare objects, money in strings, times as in mails, and 204 for an empty list; v3 has `data` and `meta`,
//!   numbers, and ISO 8601.
//! - A webhook that fails for 48 hours is switched off, and a domain that fails for a tenth of two minutes is blocked for
//!   three.
//! - Nothing proves a callback of the installation but the exchange of its code; each exchange makes the token of before
//!   worthless. The other callbacks are GETs with a token good for a day, also the one that uninstalls.
//! - There is one webhook for each scope and destination, and the one that tells of failed deliveries must have a
//!   destination that no other webhook has: its own query makes it another.

mod api;
mod app;
mod delivery;
mod lists;
mod mapping;
mod notices;
mod order;
mod pull;
mod scopes;
mod webhooks;
mod wire;

use super::Platform;
use crate::http_call::Hosts;

/// BigCommerce, as each function sees it.
pub struct BigCommerce;

/// The descriptor.
pub const PLATFORM: Platform = Platform {
    name: "bigcommerce",
    hosts: Hosts::Only(&["api.bigcommerce.com"]),
    delivery: &BigCommerce,
    mapping: &BigCommerce,
    budget: api::BUDGET,
    pull: Some(&BigCommerce),
    lists: Some(&BigCommerce),
    act: None,
    notices: Some(&BigCommerce),
    setup: &BigCommerce,
    installation: Some(&BigCommerce),
};
