//! CloudBlue Connect, where distributors order subscriptions from vendors, and vendors answer each order: approved, failed, or
//! sent back with a question.
//!
//! What is strange about it, as its specification (`connect-python-openapi-client`, `specs.yml`), its own connectors for Zapier and
//! MuleSoft, and its pages about webhooks show:
//!
//! - A delivery is only a trigger. It names no request; one can stand for many changes, and many can become one. So whatever it
//!   says, the lists are gone through: what is pending, and what has changed within a day.
//! - Its proof is a token (HS256) that says which webhook calls. It covers neither body nor time of sending, and can be replayed until
//!   it expires.
//! - The documentation has the token in `Authorization`, the vendor's own MuleSoft connector reads it from `Authentication`.
//! - A webhook can deliver by GET, without a body. Whether a failed delivery is sent again is not documented.
//! - A webhook is for one product and one class of objects, so what is subscribed to is `{class}@{product}`; and its API gives its
//!   secret back in plain text.
//! - Requests wait in `tiers_setup` for the tier configuration requests (`TCR-…`) that they need, so these come first.
//! - Actions on a request answer with the request, those on a tier configuration request with parts of it or with nothing.
//! - Parameters can be passwords. Quantities are texts, some names are the text `None`, and an empty tier is `{}`.

mod act;
mod api;
mod delivery;
mod lists;
mod mapping;
mod policy;
mod pull;
mod webhooks;
mod wire;

use super::Platform;
use crate::http_call::Hosts;

/// CloudBlue Connect, as each function sees it.
pub struct CloudBlue;

/// The descriptor.
pub const PLATFORM: Platform = Platform {
    name: "cloudblue",
    hosts: Hosts::Only(&["api.connect.cloudblue.com"]),
    delivery: &CloudBlue,
    mapping: &CloudBlue,
    budget: api::BUDGET,
    pull: Some(&CloudBlue),
    lists: Some(&CloudBlue),
    act: Some(&CloudBlue),
    notices: None,
    setup: &CloudBlue,
    installation: None,
};
