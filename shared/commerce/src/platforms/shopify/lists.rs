//! The lists of entities, for polling, and the list of an inventory item's products, for deliveries that name no
//! product.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    api::{call, check, gid},
    queries::{COLLECTIONS, CUSTOMERS, ORDERS, PRODUCTS, PRODUCTS_OF_ITEM},
    wire::{self, Answer, Entry, ItemProducts, Nodes},
};
use crate::{
    entity::{EntityKind, ExternalId},
    http_call::{ApiRequest, ApiResponse, Fault},
    platform::{
        lenient,
        lists::{Listed, Lists},
        pull::Access,
    },
    platforms::shopify::Shopify,
    timestamp::Timestamp,
    transfer::{Listing, Transfer},
};

/// The most entries on a page.
const PAGE: usize = 250;

/// The list of the products of an inventory item.
const ITEM: &str = "products of an inventory item";

/// The polled kinds of entity, with the names of their lists and their queries.
const COLLECTED: [(EntityKind, &str, &str); 4] = [
    (EntityKind::Customer, "customers", CUSTOMERS),
    (EntityKind::Category, "collections", COLLECTIONS),
    (EntityKind::Product, "products", PRODUCTS),
    (EntityKind::Order, "orders", ORDERS),
];

/// The position in a list, whose cursors stand for the last entry and not for a number.
#[derive(Serialize, Deserialize, Default)]
struct Place {
    /// The time from which changes count; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// The cursor of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

impl Place {
    fn of(listing: &Listing) -> Result<Self, Fault> {
        let place = listing.cursor.as_deref().and_then(|text| serde_json::from_str(text).ok());
        place.ok_or_else(|| Fault::Unreadable(format!("the list {:?} has no cursor", listing.what)))
    }

    fn listing(&self, what: &str) -> Listing {
        Listing::new(what, serde_json::to_string(self).ok())
    }
}

/// Returns the list of the products of an inventory item.
pub(super) fn item_listing(item: &ExternalId) -> Listing {
    Listing::new(ITEM, Some(item.to_string()))
}

fn listed(listing: &Listing) -> Result<(EntityKind, &'static str), Fault> {
    let found = COLLECTED.iter().find(|(_, what, _)| *what == listing.what);
    let found = found.map(|(entity, _, query)| (*entity, *query));
    found.ok_or_else(|| Fault::Unreadable(format!("there is no list {:?}", listing.what)))
}

impl Lists for Shopify {
    fn page_size(&self, _: &Listing) -> usize {
        PAGE
    }

    /// Returns the list for polling, in the order of changes: an entity that changes meanwhile comes again later.
    fn poll(&self, entity: EntityKind, since: Option<Timestamp>) -> Option<Listing> {
        let (_, what, _) = COLLECTED.iter().find(|(known, ..)| *known == entity)?;
        Some(Place { since, after: None }.listing(what))
    }

    fn list(&self, access: &Access<'_>, listing: &Listing) -> Result<ApiRequest, Fault> {
        if listing.what == ITEM {
            let item = listing.cursor.as_deref().and_then(|item| item.parse().ok());
            let item = item.ok_or_else(|| Fault::Unreadable("an inventory item without an id".into()))?;
            return call(access, PRODUCTS_OF_ITEM, &json!({ "id": gid("InventoryItem", &item)? }));
        }
        let ((_, query), place) = (listed(listing)?, Place::of(listing)?);
        let filter = place.since.map(|since| {
            // The search compares whole seconds.
            let from = Timestamp::from_micros(since.seconds().saturating_mul(1_000_000));
            format!("updated_at:>='{from}'")
        });
        call(access, query, &json!({ "first": PAGE, "after": place.after, "query": filter }))
    }

    fn read_page(
        &self,
        _access: &Access<'_>,
        listing: &Listing,
        response: &ApiResponse,
        at: Timestamp,
    ) -> Result<Listed, Fault> {
        check(response, at)?;
        if listing.what == ITEM {
            return products_of_item(response);
        }
        let ((entity, _), place) = (listed(listing)?, Place::of(listing)?);
        let page: Answer<Nodes<Entry>> = lenient::read(&response.body)?;
        let Nodes { nodes, page_info } = page.data.one;
        // The stock at a location may change without the product's time, so when all are listed, all are pulled.
        let dates = entity != EntityKind::Product || place.since.is_some();
        let found = nodes.into_iter().map(|entry| Transfer {
            changed: entry.updated_at.map(Timestamp::from).filter(|_| dates),
            ..Transfer::new(entity, entry.id, format!("listed in {}", listing.what))
        });
        let found: Vec<_> = found.collect();
        let next = match (page_info.has_next_page, page_info.end_cursor) {
            (false, _) => None,
            (true, Some(cursor)) if place.after.as_ref() != Some(&cursor) && !found.is_empty() => {
                Some(Place { after: Some(cursor), ..place }.listing(&listing.what))
            }
            (true, _) => return Err(Fault::Unreadable("pageInfo: a page that leads to none".into())),
        };
        Ok(Listed { found, next })
    }

    fn since(&self, listing: &Listing) -> Option<Timestamp> {
        Place::of(listing).ok()?.since
    }
}

/// Reads the products of an inventory item: one, or none if it is gone.
fn products_of_item(response: &ApiResponse) -> Result<Listed, Fault> {
    if wire::is_nothing(&response.body) {
        return Ok(Listed { found: Vec::new(), next: None });
    }
    let item: Answer<ItemProducts> = lenient::read(&response.body)?;
    let ids: std::collections::BTreeSet<_> =
        item.data.one.variants.nodes.into_iter().map(|variant| variant.product.id).collect();
    let transfer = |id| Transfer::new(EntityKind::Product, id, "its inventory has changed");
    Ok(Listed { found: ids.into_iter().map(transfer).collect(), next: None })
}
