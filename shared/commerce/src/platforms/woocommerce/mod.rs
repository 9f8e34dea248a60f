//! WooCommerce, the commerce plugin of WordPress. Each store is a site of its own; there is no vendor in between.
//!
//! What is strange about it, as its source (`class-wc-webhook.php` and its neighbours) and recordings of a real store show:
//!
//! - One webhook has one topic, and headers, the topic among them, are not signed. A body that is proven for one topic could
//!   be sent as another; so each topic has a secret of its own.
//! - `X-WC-Webhook-Delivery-ID` hashes the webhook and the second: two deliveries within one second share it.
//! - A failed delivery is lost, and the seventh failure in a row disables the webhook. So whatever is proven is answered 200.
//! - On registration a ping arrives: unsigned, form-encoded, and it must be answered with exactly 200.
//! - The body is made when it is sent, by a GET inside the store: `order.created` may show a later state, and when that GET
//!   fails, its error object is signed and delivered.
//! - Who lets an app in has the site send its keys from server to server, unsigned, and without saying which site it is. An answer
//!   other than 200 makes the site take the keys back.
//! - Times have one second; two states of an order can share one. Deletes have no time at all, only an id.
//! - `deleted` means moved to the trash. Trashing an order also sends `product.deleted` with the order's id.

mod answers;
mod api;
mod app;
mod delivery;
mod lists;
mod mapping;
mod notices;
mod pull;
mod webhooks;
mod wire;

use super::Platform;
use crate::http_call::Hosts;

/// WooCommerce, as each function sees it.
pub struct WooCommerce;

pub use app::site_connection;
/// The descriptor.
pub const PLATFORM: Platform = Platform {
    name: "woocommerce",
    hosts: Hosts::Site,
    delivery: &WooCommerce,
    mapping: &WooCommerce,
    budget: api::BUDGET,
    pull: Some(&WooCommerce),
    lists: Some(&WooCommerce),
    act: None,
    notices: Some(&WooCommerce),
    setup: &WooCommerce,
    installation: Some(&WooCommerce),
};
