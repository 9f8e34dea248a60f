//! The lists of entities, for polling.

use std::{collections::BTreeSet, slice};

use http::Method;
use serde_json::Value;

use super::wire;
use crate::{
    entity::EntityKind,
    http_call::{ApiRequest, ApiResponse, Fault},
    platform::{
        lenient,
        lists::{Listed, Lists},
        mapping::{MapError, Mapped},
        paging::PageCursor,
        pull::Access,
    },
    platforms::bigcommerce::{
        BigCommerce,
        api::{call, fault},
    },
    timestamp::Timestamp,
    transfer::{Listing, Transfer},
};

/// The most entries on a page of v3.
pub(super) const V3_PAGE: usize = 250;

/// The default number of entries on a page of v2. A greater number is not documented for all lists, and a page with
/// fewer entries than were asked for must be the last.
pub(super) const V2_PAGE: usize = 50;

impl Lists for BigCommerce {
    fn page_size(&self, listing: &Listing) -> usize {
        if listed_entity(listing).is_ok_and(|entity| entity == EntityKind::Order) { V2_PAGE } else { V3_PAGE }
    }

    /// Returns the list for polling. Even the list of all is in the order of changes, so that an entity that changes
    /// meanwhile comes again later.
    fn poll(&self, entity: EntityKind, since: Option<Timestamp>) -> Option<Listing> {
        let what = collection(entity)?.1;
        (since.is_none() || entity != EntityKind::Category).then(|| PageCursor::start(what, since))
    }

    fn list(&self, access: &Access<'_>, listing: &Listing) -> Result<ApiRequest, Fault> {
        let (entity, place) = (listed_entity(listing)?, PageCursor::of(listing)?);
        // Without a time of day, the API would take the present one.
        let from = place.from().map(|from| format!("{from}Z"));
        let (number, size) = place.page(if entity == EntityKind::Order { V2_PAGE } else { V3_PAGE });
        let (number, size) = (number.to_string(), size.to_string());
        let (path, min, sort): (&[&str], _, &[(&str, &str)]) = match entity {
            EntityKind::Order => (&["v2", "orders"], "min_date_modified", &[("sort", "date_modified:asc")]),
            EntityKind::Customer => (&["v3", "customers"], "date_modified:min", &[("sort", "date_modified:asc")]),
            EntityKind::Product => (
                &["v3", "catalog", "products"],
                "date_modified:min",
                &[("sort", "date_modified"), ("direction", "asc"), ("include_fields", "date_modified")],
            ),
            _ => (&["v3", "catalog", "categories"], "", &[]),
        };
        let mut query = sort.to_vec();
        query.extend(from.as_deref().map(|from| (min, from)));
        query.extend([("limit", size.as_str()), ("page", &number)]);
        call(access, Method::GET, path, &query)
    }

    fn read_page(
        &self,
        _access: &Access<'_>,
        listing: &Listing,
        response: &ApiResponse,
        at: Timestamp,
    ) -> Result<Listed, Fault> {
        let (entity, place) = (listed_entity(listing)?, PageCursor::of(listing)?);
        if !response.is_success() {
            return Err(fault(response, at));
        }
        let (entries, pagination): (Vec<wire::Entry>, _) = match entity {
            // An empty list of v2 is 204 without content.
            EntityKind::Order if response.status == 204 || response.body.is_empty() => (Vec::new(), None),
            EntityKind::Order => (lenient::read_list(&response.body)?, None),
            _ => {
                let page: wire::Page<wire::Entry> = lenient::read(&response.body)?;
                (page.data, page.meta.pagination)
            }
        };
        let times: Vec<_> = entries.iter().map(|entry| entry.date_modified.map(Timestamp::from)).collect();
        if times.iter().flatten().any(|time| place.is_passed_by(*time)) {
            return Err(Fault::Unreadable("a list of what has changed with what has not".into()));
        }
        // An address or a variant changes without its parent's time. So when all are listed, all are pulled.
        let parts = matches!(entity, EntityKind::Customer | EntityKind::Product);
        let found = entries.into_iter().zip(&times).map(|(entry, changed)| Transfer {
            changed: changed.filter(|_| !parts || place.since.is_some()),
            ..Transfer::new(entity, entry.id, format!("listed in {}", listing.what))
        });
        let found: Vec<_> = found.collect();
        let (number, size) = place.page(if entity == EntityKind::Order { V2_PAGE } else { V3_PAGE });
        let last = pagination.as_ref().and_then(|pagination| pagination.total_pages).map(|all| all <= number as u64);
        // The store may have returned fewer entries than were asked for, and counted its pages by that.
        let given = pagination.and_then(|pagination| usize::try_from(pagination.per_page?).ok());
        let given = given.filter(|given| (1..size).contains(given));
        let next = place.next((number - 1) * given.unwrap_or(size), size, &times, last);
        let next = next.map(|next| PageCursor { most: given.unwrap_or(next.most), ..next }.listing(&listing.what));
        Ok(Listed { found, next })
    }
}

/// The listed kinds of entity, with the names of their lists.
pub(super) const COLLECTIONS: [(EntityKind, &str); 4] = [
    (EntityKind::Customer, "customers"),
    (EntityKind::Category, "categories"),
    (EntityKind::Product, "products"),
    (EntityKind::Order, "orders"),
];

pub(super) fn collection(entity: EntityKind) -> Option<(EntityKind, &'static str)> {
    COLLECTIONS.into_iter().find(|(known, _)| *known == entity)
}

pub(super) fn listed_entity(listing: &Listing) -> Result<EntityKind, Fault> {
    let found = COLLECTIONS.iter().find(|(_, what)| *what == listing.what);
    found.map(|(entity, _)| *entity).ok_or_else(|| Fault::Unreadable(format!("there is no list {:?}", listing.what)))
}

/// Maps to all prices of the deleted price lists.
pub(super) fn price_lists(entries: &[Value]) -> Result<Mapped, MapError> {
    let no_id = || MapError::Malformed("data: the id".into());
    let mut lists = BTreeSet::new();
    for entry in entries {
        let ids = match &entry["price_list_ids"] {
            Value::Array(ids) => ids.as_slice(),
            Value::Null => slice::from_ref(&entry["price_list_id"]),
            one => slice::from_ref(one),
        };
        for id in ids {
            let id = wire::id_of(id).filter(|id| !id.as_str().contains(':')).ok_or_else(no_id)?;
            lists.insert(format!("{id}:"));
        }
    }
    if lists.is_empty() { Err(no_id()) } else { Ok(Mapped::Known(EntityKind::Price, lists.into_iter().collect())) }
}
