//! WooCommerce, the commerce plugin of WordPress. Each store is its own site, without a vendor in between.
//!
//! Its quirks, from its source (`class-wc-webhook.php` and its neighbours) and recordings of a real store:
//!
//! - One webhook has one topic (`scope`), and headers, the topic among them, are not signed. A body that is proven for
//!   one topic could be sent as another, so each topic has its own secret.
//! - `X-WC-Webhook-Delivery-ID` hashes the webhook and the second: two deliveries within one second share it.
//! - A failed delivery is lost, and the seventh failure in a row disables the webhook. So every proven delivery is
//!   answered 200.
//! - A registration sends a ping: unsigned, form-encoded, and only the answer 200 accepts it.
//! - A GET inside the store makes the body when it is sent: `order.created` may show a later state, and when that GET
//!   fails, its error object is signed and delivered.
//! - When an owner lets an app in, the site sends its keys from server to server, unsigned, and without naming itself.
//!   After an answer other than 200, the site revokes the keys.
//! - Times are in seconds, so two states of an order can share one. Deletes have no time at all, only an id.
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
/// The descriptor of WooCommerce.
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
