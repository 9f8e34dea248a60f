//! BigCommerce's topics (`scope`), with their meanings.

use crate::{
    entity::EntityKind,
    outcome::Rule,
    transfer::{Action, Direction, EntityProcessor, Payload, Polling, Scope, child, own},
};

/// Makes the processor of an entity whose callbacks hold an id, or less.
pub(super) const fn thin(
    entity: EntityKind,
    polling: Option<Polling>,
    scopes: &'static [Scope],
    requires: &'static [EntityKind],
) -> EntityProcessor {
    EntityProcessor {
        entity,
        direction: Direction::Import,
        payload: Payload::Thin,
        pull: true,
        polling,
        scopes,
        requires,
        followed_by: &[],
    }
}

/// The entity processors. They name exact topics, because wildcards would also deliver ignored ones
/// [`webhooks/events/index.mdx`].
pub(super) static PROCESSORS: &[EntityProcessor] = &[
    thin(
        EntityKind::Customer,
        Some(Polling::Incremental),
        &[
            own("store/customer/created", Action::Created),
            own("store/customer/updated", Action::Updated),
            own("store/customer/deleted", Action::Deleted),
            child("store/customer/address/created", "address"),
            child("store/customer/address/updated", "address"),
            child("store/customer/address/deleted", "address"),
            child("store/customer/payment/instrument/default/updated", "payment instrument"),
        ],
        &[],
    ),
    thin(
        EntityKind::Category,
        // Categories have no time.
        Some(Polling::Full),
        &[
            own("store/category/created", Action::Created),
            own("store/category/updated", Action::Updated),
            own("store/category/deleted", Action::Deleted),
        ],
        &[],
    ),
    thin(
        EntityKind::Product,
        Some(Polling::Incremental),
        &[
            own("store/product/created", Action::Created),
            own("store/product/updated", Action::Updated),
            own("store/product/deleted", Action::Deleted),
            child("store/product/inventory/updated", "inventory"),
            child("store/product/inventory/order/updated", "inventory"),
            child("store/sku/created", "variant"),
            child("store/sku/updated", "variant"),
            child("store/sku/deleted", "variant"),
            child("store/sku/inventory/updated", "inventory"),
            child("store/sku/inventory/order/updated", "inventory"),
            // The `*` is in the topic of the delivery itself, too.
            child("store/channel/*/inventory/product/stock_changed", "inventory"),
            child("store/channel/*/inventory/product/low_stock_reached", "inventory"),
            child("store/channel/*/inventory/product/out_of_stock_reached", "inventory"),
            child("store/channel/*/inventory/product/settings_changed", "inventory"),
        ],
        &[],
    ),
    thin(
        EntityKind::Order,
        Some(Polling::Incremental),
        &[
            own("store/order/created", Action::Created),
            own("store/order/updated", Action::Updated),
            own("store/order/archived", Action::Deleted),
            own("store/order/statusUpdated", Action::Updated),
            child("store/order/message/created", "message"),
            child("store/order/refund/created", "refund"),
            child("store/order/transaction/created", "transaction"),
            child("store/order/transaction/updated", "transaction"),
            child("store/shipment/created", "shipment"),
            child("store/shipment/updated", "shipment"),
            child("store/shipment/deleted", "shipment"),
        ],
        &[EntityKind::Customer, EntityKind::Product],
    ),
    thin(
        EntityKind::Cart,
        None,
        &[
            own("store/cart/created", Action::Created),
            own("store/cart/updated", Action::Updated),
            own("store/cart/deleted", Action::Deleted),
            own(CART_ABANDONED, Action::Updated),
            own("store/cart/couponApplied", Action::Updated),
            own(CART_CONVERTED, Action::Updated),
            child("store/cart/lineItem/created", "line item"),
            child("store/cart/lineItem/updated", "line item"),
            child("store/cart/lineItem/deleted", "line item"),
        ],
        &[],
    ),
    // A record is the price in one currency, and the entity has all of a variant's prices in a list, so a deleted
    // record is an update.
    thin(
        EntityKind::Price,
        None,
        &[
            child("store/priceList/record/created", "record"),
            child("store/priceList/record/updated", "record"),
            child("store/priceList/record/deleted", "record"),
            child("store/priceList/records/created", "record"),
            child("store/priceList/records/updated", "record"),
            child("store/priceList/records/deleted", "record"),
            child(PRICE_LIST_DELETED, "price list"),
            child(PRICE_LISTS_DELETED, "price list"),
        ],
        &[],
    ),
];

/// The topic of a cart that was not touched for an hour. Nothing else reports this.
pub(super) const CART_ABANDONED: &str = "store/cart/abandoned";

/// The topic of a cart that became an order. Nothing else names the order's id, because the cart is gone by then.
pub(super) const CART_CONVERTED: &str = "store/cart/converted";

/// The topics of one deleted price list, and of several, with all their prices, whose deletion has no callbacks of its
/// own.
pub(super) const PRICE_LIST_DELETED: &str = "store/priceList/deleted";

pub(super) const PRICE_LISTS_DELETED: &str = "store/priceLists/deleted";

/// The topic of a store that was closed, or of an app that was removed. The second case is not documented.
pub(super) const APP_UNINSTALLED: &str = "store/app/uninstalled";

/// The topic of failed deliveries: 90001 will be retried, 90002 switched a webhook off, 90003 blocked the domain for a
/// while.
pub(super) const DELIVERY_EXCEPTION: &str = "store/hook/deliveryException";

/// The rule for metafields, which apps attach to entities. No entity here holds them.
pub(super) const METAFIELD: Rule = Rule("bigcommerce-metafield");

/// The rule for subscribers of the store's newsletter.
pub(super) const SUBSCRIBER: Rule = Rule("bigcommerce-subscriber");

/// The rule for the copies of deliveries that are sent for one channel.
pub(super) const CHANNEL_COPY: Rule = Rule("bigcommerce-channel-copy");

/// The rule for the name, address or currency of the store.
pub(super) const STORE_INFORMATION: Rule = Rule("bigcommerce-store-information");

/// The rule for orders that a shopper began and never paid, which are also reported as created. A known order may be
/// set back to that.
pub(super) const INCOMPLETE_ORDER: Rule = Rule("bigcommerce-incomplete-order");
