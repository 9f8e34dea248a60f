//! The receiver's part of Shopify.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};

use crate::{
    platform::{
        delivery::{Delivery, PROBE, Probe},
        lenient,
    },
    platforms::shopify::Shopify,
    request::{RawRequest, WebhookPath},
    scheme::{
        Scheme,
        hmac::{Algorithm, Encoding, Hmac, KeySource},
    },
    timestamp::Timestamp,
};

/// The header with the topic.
pub(super) const TOPIC: &str = "x-shopify-topic";
/// The header with the shop.
pub(super) const SHOP: &str = "x-shopify-shop-domain";
/// The header with the id of the delivery, which a retry repeats.
const DELIVERY: &str = "x-shopify-webhook-id";
/// The header with the id of the event, which the deliveries of all its topics share.
const EVENT: &str = "x-shopify-event-id";
/// The header with the time of the event.
const TRIGGERED_AT: &str = "x-shopify-triggered-at";

/// The signature over the body.
pub(super) const SIGNATURE: Hmac = Hmac {
    header: "x-shopify-hmac-sha256",
    algorithm: Algorithm::Sha256,
    encoding: Encoding::Base64,
    prefix: "",
    keys: KeySource::AppSecret,
};

impl Delivery for Shopify {
    /// Returns the five seconds after which Shopify gives up.
    fn patience(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn scope(&self, request: &RawRequest) -> Option<String> {
        text(request, TOPIC)
    }

    fn delivery_id(&self, request: &RawRequest) -> Option<String> {
        text(request, DELIVERY)
    }

    /// Returns the id and the time of the event. Nothing follows from them, because they are not signed: they are for
    /// people who follow an event through its deliveries.
    fn noted(&self, request: &RawRequest) -> BTreeMap<String, String> {
        let noted = [("event", EVENT), ("triggered_at", TRIGGERED_AT)].into_iter();
        noted.filter_map(|(name, header)| Some((name.to_owned(), text(request, header)?))).collect()
    }

    fn scheme(&self) -> Scheme {
        Scheme::Hmac(SIGNATURE)
    }

    /// Returns whether the header names the path's shop, and the signed body no other one: that of some topics names it.
    fn belongs(&self, path: &WebhookPath, request: &RawRequest) -> bool {
        let is_path_s = |shop: &str| shop.eq_ignore_ascii_case(path.key.connection.as_str());
        let Some(shop) = request.single_header(SHOP) else { return false };
        let body: Map<String, Value> = lenient::read(&request.body).unwrap_or_default();
        let mut named = ["shop_domain", "myshopify_domain"].iter().filter_map(|name| body.get(*name)?.as_str());
        is_path_s(shop) && named.all(is_path_s)
    }

    fn probe(&self, path: &WebhookPath, now: Timestamp) -> Probe {
        let headers = vec![(TOPIC, PROBE.to_owned()), (SHOP, path.key.connection.to_string())];
        Probe { headers, body: json!({ "id": now.seconds() }).to_string(), claims: Map::new() }
    }
}

/// Returns a header's value if it is no longer than a name.
fn text(request: &RawRequest, header: &str) -> Option<String> {
    let value = request.single_header(header)?;
    (1..=200).contains(&value.len()).then(|| value.to_owned())
}
