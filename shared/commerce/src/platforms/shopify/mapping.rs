//! The processor's part of Shopify: the entity that a delivery is about. The pull of entities is in [`super::pull`],
//! carts are in [`super::cart`].

use serde_json::{Map, Value};

use super::{cart, compliance, lists::item_listing, wire::id_of};
use crate::{
    entity::{EntityKind, ExternalId},
    platform::{
        lenient,
        mapping::{Incoming, MapError, Mapped, Mapping},
    },
    platforms::shopify::{
        Shopify,
        scopes::{CUSTOMERS_REDACT, PROCESSORS},
    },
    transfer::EntityProcessor,
};

/// The mapping's number. It rises when the mapping's output changes, so that replayed deliveries win over their former
/// mapping.
pub(super) const MAPPING: u32 = 1;

impl Mapping for Shopify {
    fn processors(&self) -> &'static [EntityProcessor] {
        PROCESSORS
    }

    fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
        if incoming.entity == EntityKind::Cart {
            return cart::map(incoming);
        }
        if incoming.scope == CUSTOMERS_REDACT {
            return compliance::persons(incoming.connection, incoming.body).map(Mapped::Redact);
        }
        let body: Map<String, Value> = lenient::read(incoming.body)?;
        let (place, is_item) = subject(incoming.scope);
        let id = Value::Object(body).pointer(place).and_then(id_of).filter(is_number);
        let id = id.ok_or_else(|| MapError::Malformed(format!("{}: the id", place.trim_start_matches('/'))))?;
        // What was deleted is pulled, too: the topic is not signed.
        Ok(if is_item { Mapped::List(item_listing(&id)) } else { Mapped::Pull(id) })
    }

    /// Returns the members for an order's and a cart's customer.
    fn customer_members(&self) -> &'static [&'static str] {
        &["customerid", "customer"]
    }
}

fn is_number(id: &ExternalId) -> bool {
    id.as_str().bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the place of the id in a delivery of a topic, and whether it is an inventory item's.
fn subject(scope: &str) -> (&'static str, bool) {
    match scope.split_once('/').unwrap_or((scope, "")) {
        ("variants", _) => ("/product_id", false),
        ("inventory_items", _) => ("/id", true),
        ("inventory_levels", _) => ("/inventory_item_id", true),
        ("refunds" | "fulfillments" | "order_transactions", _) => ("/order_id", false),
        ("orders", "edited") => ("/order_edit/order_id", false),
        _ => ("/id", false),
    }
}
