//! Owns the GraphQL queries: the files in `queries/`, each with the fragments that it uses.

macro_rules! query {
    ($($file:literal),+) => { concat!($(include_str!(concat!("queries/", $file, ".graphql"))),+) };
}

pub(super) const PRODUCT: &str = query!("product", "variants", "levels");
pub(super) const MORE_VARIANTS: &str = query!("more_variants", "variants", "levels");
pub(super) const MORE_LEVELS: &str = query!("more_levels", "levels");
pub(super) const COLLECTION: &str = query!("collection");
pub(super) const CUSTOMER: &str = query!("customer", "place");
pub(super) const ORDER: &str = query!("order", "lines", "money", "place");
pub(super) const MORE_LINES: &str = query!("more_lines", "lines", "money");
pub(super) const ORDERS: &str = query!("orders");
pub(super) const PRODUCTS: &str = query!("products");
pub(super) const CUSTOMERS: &str = query!("customers");
pub(super) const COLLECTIONS: &str = query!("collections");
pub(super) const PRODUCTS_OF_ITEM: &str = query!("products_of_item");
pub(super) const WEBHOOKS: &str = query!("webhooks");
pub(super) const WEBHOOK_CREATE: &str = query!("webhook_create");
pub(super) const WEBHOOK_UPDATE: &str = query!("webhook_update");
pub(super) const WEBHOOK_DELETE: &str = query!("webhook_delete");

/// All queries and mutations, for tests against the schema.
pub const ALL: &[&str] = &[
    PRODUCT,
    MORE_VARIANTS,
    MORE_LEVELS,
    COLLECTION,
    CUSTOMER,
    ORDER,
    MORE_LINES,
    ORDERS,
    PRODUCTS,
    CUSTOMERS,
    COLLECTIONS,
    PRODUCTS_OF_ITEM,
    WEBHOOKS,
    WEBHOOK_CREATE,
    WEBHOOK_UPDATE,
    WEBHOOK_DELETE,
];
