//! CloudBlue Connect, where distributors order subscriptions from vendors, and vendors answer each order: approved,
//! failed, or sent back with a question.
//!
//! Its quirks, from its specification (`connect-python-openapi-client`, `specs.yml`), its own connectors for Zapier and
//! MuleSoft, and its pages about webhooks:
//!
//! - A delivery is only a trigger. It names no request; one delivery can stand for many changes, and many deliveries
//!   for one change. So every delivery leads to reading the lists: of pending requests, and of changes within a day.
//! - Its proof is a token (HS256) that names the calling webhook. It covers neither the body nor the time of sending,
//!   and can be replayed until it expires.
//! - The documentation has the token in `Authorization`; the vendor's own MuleSoft connector reads it from
//!   `Authentication`.
//! - A webhook can deliver by GET, without a body. The documentation does not say whether a failed delivery is sent
//!   again.
//! - A webhook is for one product and one class of objects, so its topic (`scope`) is `{class}@{product}`. The API
//!   returns its secret in plain text.
//! - Requests wait in `tiers_setup` for the tier configuration requests (`TCR-…`) that they need, so these come first.
//! - Actions on a request answer with the request, those on a tier configuration request with parts of it or with
//!   nothing.
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

/// The descriptor of CloudBlue Connect.
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
