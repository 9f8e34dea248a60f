//! BigCommerce, a hosted platform: all stores are behind one API, each under its hash, which is the connection's id
//! here.
//!
//! Its quirks, from its documentation (`bigcommerce/docs`) and its OpenAPI files:
//!
//! - A callback names an entity, without its content, so every entity is pulled. The callback's `hash` has no key and
//!   proves nothing.
//! - All stores of an app share one key, the app's client secret. `producer` in the signed body names the store.
//! - The signature is in samples of code only, never spelled out. Hence the second factor, a secret header of our own.
//! - `store/order/created` is also sent for orders that were never paid (status 0).
//! - `store/customer/address/…` carries the address's id under the type `customer`, and the topic (`scope`) of
//!   `store/channel/*/inventory/…` has a literal `*`.
//! - v2 has bare objects, money in strings, times as in mails, and 204 for an empty list; v3 has `data` and `meta`,
//!   numbers, and ISO 8601.
//! - A webhook that fails for 48 hours is switched off. A domain for which a tenth of the deliveries of two minutes
//!   fail is blocked for three minutes.
//! - Only the exchange of its code proves a callback of the installation; each exchange invalidates the former token.
//!   The other callbacks, the one for the uninstallation among them, are GETs with a token that is valid for a day.
//! - A topic and a destination can have one webhook only, and the webhook for failed deliveries must have a destination
//!   that no other webhook has: a query of its own makes the difference.

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

/// The descriptor of BigCommerce.
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
