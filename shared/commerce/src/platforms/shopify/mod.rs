//! Shopify, a hosted platform: each shop is at its own host below `myshopify.com`, which is the connection's id here.
//!
//! Its quirks, from its documentation (`shopify.dev`) and the public schema of its Admin GraphQL API; the page
//! `docs/platforms/shopify.md` names the sources:
//!
//! - The signature covers the body alone. Shop and topic are in headers that anybody who repeats a signed body could
//!   change, so nothing is believed of a delivery but that an entity has changed: every entity but a cart is pulled.
//! - All shops of an app share one key, the app's client secret. While it is rotated, the oldest secret that was not
//!   revoked signs.
//! - Ids are numbers in deliveries, and `gid://shopify/Order/1` in GraphQL. An inventory level names its item alone, so
//!   a query finds the product.
//! - GraphQL answers 200 to nearly everything. What was refused, and why, is in `errors`, and a missing entity is
//!   `null` without an error.
//! - A call costs points by what it asks for, and a bucket of points fills up again by the second. Each answer says how
//!   full it is.
//! - Offline tokens expire within the hour. Each renewal gives another refresh token, and ends the former one.
//! - A webhook cannot be switched off. One whose deliveries fail is removed.
//! - The compliance topics have no webhooks: the app has one address for them, for all shops.

mod api;
mod app;
mod cart;
mod compliance;
mod delivery;
mod lists;
mod mapping;
mod notices;
mod order;
mod pull;
pub mod queries;
mod renewal;
mod scopes;
mod webhooks;
mod wire;

use super::Platform;
use crate::http_call::Hosts;

/// Shopify, as each function sees it.
pub struct Shopify;

/// The descriptor of Shopify.
pub const PLATFORM: Platform = Platform {
    name: "shopify",
    hosts: Hosts::Below(&[".myshopify.com"]),
    delivery: &Shopify,
    mapping: &Shopify,
    budget: api::BUDGET,
    pull: Some(&Shopify),
    lists: Some(&Shopify),
    act: None,
    notices: Some(&Shopify),
    setup: &Shopify,
    installation: Some(&Shopify),
};
