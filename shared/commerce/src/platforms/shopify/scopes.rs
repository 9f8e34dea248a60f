//! Shopify's topics (`scope`), with their meanings.

use crate::{
    entity::EntityKind,
    transfer::{Action, Direction, EntityProcessor, Payload, Polling, Scope, child, own},
};

/// Makes the processor of an entity that is pulled: a delivery names it, or something of it.
const fn pulled(entity: EntityKind, scopes: &'static [Scope], requires: &'static [EntityKind]) -> EntityProcessor {
    EntityProcessor {
        entity,
        direction: Direction::Import,
        payload: Payload::Thin,
        pull: true,
        polling: Some(Polling::Incremental),
        scopes,
        requires,
        followed_by: &[],
    }
}

/// The entity processors.
pub(super) static PROCESSORS: &[EntityProcessor] = &[
    pulled(
        EntityKind::Customer,
        &[
            own("customers/create", Action::Created),
            own("customers/update", Action::Updated),
            own("customers/delete", Action::Deleted),
            own("customers/enable", Action::Updated),
            own("customers/disable", Action::Updated),
            own(CUSTOMERS_REDACT, Action::Updated),
        ],
        &[],
    ),
    pulled(
        EntityKind::Category,
        &[
            own("collections/create", Action::Created),
            own("collections/update", Action::Updated),
            own("collections/delete", Action::Deleted),
        ],
        &[],
    ),
    pulled(
        EntityKind::Product,
        &[
            own("products/create", Action::Created),
            own("products/update", Action::Updated),
            own("products/delete", Action::Deleted),
            child("variants/in_stock", "variant"),
            child("variants/out_of_stock", "variant"),
            child("inventory_items/create", "inventory item"),
            child("inventory_items/update", "inventory item"),
            child("inventory_items/delete", "inventory item"),
            child("inventory_levels/connect", "inventory level"),
            child("inventory_levels/update", "inventory level"),
            child("inventory_levels/disconnect", "inventory level"),
        ],
        &[],
    ),
    pulled(
        EntityKind::Order,
        &[
            own("orders/create", Action::Created),
            own("orders/updated", Action::Updated),
            own("orders/edited", Action::Updated),
            own("orders/paid", Action::Updated),
            own("orders/fulfilled", Action::Updated),
            own("orders/partially_fulfilled", Action::Updated),
            own("orders/cancelled", Action::Updated),
            own("orders/delete", Action::Deleted),
            child("order_transactions/create", "transaction"),
            child("refunds/create", "refund"),
            child("fulfillments/create", "fulfillment"),
            child("fulfillments/update", "fulfillment"),
        ],
        &[EntityKind::Customer, EntityKind::Product],
    ),
    // The Admin API shows no carts, so a delivery is all that is known of one.
    EntityProcessor {
        entity: EntityKind::Cart,
        direction: Direction::Import,
        payload: Payload::Full,
        pull: false,
        polling: None,
        scopes: &[
            own("carts/create", Action::Created),
            own("carts/update", Action::Updated),
            own("checkouts/create", Action::Created),
            own("checkouts/update", Action::Updated),
            own("checkouts/delete", Action::Deleted),
        ],
        requires: &[],
        followed_by: &[],
    },
];

/// The topic of an app that was removed.
pub(super) const APP_UNINSTALLED: &str = "app/uninstalled";

/// The topic of permissions that were granted or withdrawn.
pub(super) const SCOPES_UPDATE: &str = "app/scopes_update";

/// The compliance topic of a customer who wants to know what is kept of him.
pub(super) const CUSTOMERS_DATA_REQUEST: &str = "customers/data_request";

/// The compliance topic of a customer who is to be redacted.
pub(super) const CUSTOMERS_REDACT: &str = "customers/redact";

/// The compliance topic of a shop, two days after it removed the app, whose state is to be erased.
pub(super) const SHOP_REDACT: &str = "shop/redact";

/// The compliance topics. The app has one address for them, for all shops, and no webhook can be made for one.
pub(super) const COMPLIANCE: [&str; 3] = [CUSTOMERS_DATA_REQUEST, CUSTOMERS_REDACT, SHOP_REDACT];

/// Returns the permission that a webhook of a topic needs.
pub(super) fn permission(scope: &str) -> Option<&'static str> {
    let (what, _) = scope.split_once('/')?;
    match what {
        "products" | "variants" | "collections" => Some("read_products"),
        "inventory_items" | "inventory_levels" => Some("read_inventory"),
        "customers" => Some("read_customers"),
        "orders" | "order_transactions" | "refunds" | "carts" | "checkouts" => Some("read_orders"),
        "fulfillments" => Some("read_fulfillments"),
        _ => None,
    }
}
