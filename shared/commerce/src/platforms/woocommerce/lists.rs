//! The lists of a store: a whole collection, its changes, and the entities that a delivered error may stand for.
//!
//! Some changes move no date: the use of a coupon, a category's name in its products, the deletion of a refund, a
//! quantity that an import writes. So lists of all have whole entries, which are compared with the known content; only
//! different ones are pulled. Variations are in no list of products: those of each listed product are listed after it.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    answers::{Needs, heard},
    lists, mapping, wire,
};
use crate::{
    change::Change,
    entity::{EntityKind, ExternalId},
    http_call::{ApiRequest, ApiResponse, Fault},
    platform::{
        lenient,
        lists::{Listed, Lists},
        mapping::Mapped,
        paging::PageCursor,
        pull::Access,
    },
    platforms::woocommerce::{
        WooCommerce,
        api::{self, call, collection},
    },
    timestamp::Timestamp,
    transfer::{Listing, Shown, Transfer},
};

const ENTITIES: [EntityKind; 4] = [EntityKind::Customer, EntityKind::Product, EntityKind::Order, EntityKind::Coupon];
/// The most entries on one page.
pub const PAGE_SIZE: usize = 100;
/// The number of whole entities on one page. A store builds them one by one, within the time limit of a call.
const WHOLE_PAGE: usize = 50;
/// The number of variations that the next page repeats, because some may be removed during the reading.
const OVERLAP: usize = 10;
/// The time before an error object's receipt in which its entity may have changed, in seconds. A job that may be slow
/// sends deliveries.
const RECOVERED_SECONDS: i64 = 900;
/// The overlap of a list with the last one that was read, in seconds, because clocks differ.
const FOUND_MARGIN_SECONDS: i64 = 300;

/// The ending of the name of a list of a whole collection. Its order is by id, which older stores support, too.
const ALL: &str = "/all";
/// The ending of the name of a list of changes.
const CHANGED: &str = "/changed";
/// The ending of the name of a list in place of an error.
const RECOVERED: &str = "/recovered";

/// The members that the list of variations shows in the same form as the variation's own product. The rest has another
/// form there.
const SHOWN_OF_VARIATIONS: &[&str] = &["price", "regular_price", "sale_price", "sku", "status", "stock", "updated_at"];
/// WooCommerce's names of these members, and of the id and the date.
const FIELDS_OF_VARIATIONS: &str =
    "id,date_modified_gmt,price,regular_price,sale_price,sku,status,stock_quantity,stock_status";

/// The progress of reading a list.
#[derive(Serialize, Deserialize)]
struct Walk {
    #[serde(flatten)]
    place: PageCursor,
    /// The products whose variations come before the list continues.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parents: Vec<ExternalId>,
    /// The number of variations read of the first of them.
    #[serde(default, skip_serializing_if = "crate::json::is_default")]
    done: usize,
    /// The latest products with variations, because pages overlap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    before: Vec<ExternalId>,
    /// `true` when the list itself has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
}

impl Walk {
    fn of(listing: &Listing) -> Result<Self, Fault> {
        let walk = listing.cursor.as_deref().and_then(|text| serde_json::from_str(text).ok());
        walk.ok_or_else(|| Fault::Unreadable(format!("the list {:?} has no cursor", listing.what)))
    }

    /// Returns the rest of the list, if there is one.
    fn listing(self, what: &str) -> Option<Listing> {
        let over = self.ended && self.parents.is_empty();
        (!over).then(|| Listing::new(what, serde_json::to_string(&self).ok()))
    }

    /// Returns the walk after all, or some, variations of the first parent.
    fn after_variations(mut self, done: usize, last: bool) -> Self {
        if last {
            self.parents.remove(0);
        }
        self.done = if last { 0 } else { done };
        self
    }
}

/// The kind of a list: its entity, and whether it has all of them.
struct Kind<'a> {
    collection: &'a str,
    entity: EntityKind,
    whole: bool,
}

fn kind(listing: &Listing) -> Result<Kind<'_>, Fault> {
    let ends = [(ALL, true), (CHANGED, false), (RECOVERED, false)];
    let named = ends.into_iter().find_map(|(end, whole)| {
        let collection = listing.what.strip_suffix(end)?;
        let entity = ENTITIES.into_iter().find(|entity| api::collection(*entity).is_ok_and(|of| of == collection))?;
        Some(Kind { collection, entity, whole })
    });
    named.ok_or_else(|| Fault::Unreadable(format!("there is no list {:?}", listing.what)))
}

/// Returns the list for polling. WooCommerce cannot list customers by their time.
pub fn poll(entity: EntityKind, since: Option<Timestamp>) -> Option<Listing> {
    let name = api::collection(entity).ok()?;
    match (entity, since) {
        (EntityKind::Customer, Some(_)) => None,
        (_, None) => Some(PageCursor::start(&format!("{name}{ALL}"), None)),
        (_, Some(_)) => Some(PageCursor::start(&format!("{name}{CHANGED}"), since)),
    }
}

/// Returns the list that contains the entity of an error object, which does not name it. The entity has just been
/// changed.
pub fn recover(entity: EntityKind, received: Timestamp) -> Option<Listing> {
    let name = api::collection(entity).ok().filter(|_| entity != EntityKind::Customer)?;
    Some(PageCursor::start(&format!("{name}{RECOVERED}"), Some(received.plus_seconds(-RECOVERED_SECONDS))))
}

/// Returns the rest of a list, given that every change until a time was found: a shorter list, if it looked further
/// back.
pub fn rest_of(listing: Listing, found_until: Timestamp) -> Listing {
    let since = PageCursor::of(&listing).ok().and_then(|place| place.since);
    let from = found_until.plus_seconds(-FOUND_MARGIN_SECONDS);
    let shorter = kind(&listing).is_ok() && since.is_some_and(|since| since < from);
    if shorter { PageCursor::start(&listing.what, Some(from)) } else { listing }
}

/// Builds the call for a page. The store compares times as UTC only when they have no zone and `dates_are_gmt` is set.
pub fn page(access: &Access<'_>, listing: &Listing) -> Result<ApiRequest, Fault> {
    let (Kind { collection, entity, whole }, walk) = (kind(listing)?, Walk::of(listing)?);
    if let Some(parent) = walk.parents.first() {
        let mut request = call(access, Method::GET, &[collection, parent.as_str(), "variations"])?;
        request
            .url
            .query_pairs_mut()
            .append_pair("orderby", "id")
            .append_pair("order", "asc")
            .append_pair("per_page", &PAGE_SIZE.to_string())
            .append_pair("offset", &walk.done.to_string())
            .append_pair("_fields", FIELDS_OF_VARIATIONS);
        return Ok(request);
    }
    let mut request = call(access, Method::GET, &[collection])?;
    let mut query = request.url.query_pairs_mut();
    match walk.place.from().filter(|_| !whole) {
        Some(from) => query
            .append_pair("modified_after", &from)
            .append_pair("dates_are_gmt", "true")
            .append_pair("orderby", "modified"),
        None => query.append_pair("orderby", "id"),
    };
    query
        .append_pair("order", "asc")
        .append_pair("per_page", &page_size(whole).to_string())
        .append_pair("offset", &walk.place.offset.to_string());
    match entity {
        // Buyers may have any role; without this parameter, only the role `customer` is listed.
        EntityKind::Customer => _ = query.append_pair("role", "all"),
        // Other fields would only be discarded.
        EntityKind::Product if !whole => _ = query.append_pair("_fields", "id,date_modified_gmt,variations"),
        _ if !whole => _ = query.append_pair("_fields", "id,date_modified_gmt"),
        _ => {}
    }
    drop(query);
    Ok(request)
}

fn page_size(whole: bool) -> usize {
    if whole { WHOLE_PAGE } else { PAGE_SIZE }
}

/// Returns the entries of a list, which plugins that filter it may leave as an object with numeric names.
fn entries(body: &[u8]) -> Result<Vec<Box<RawValue>>, Fault> {
    let no_list = |_| Fault::Unreadable("its beginning: no JSON list".into());
    let mut from = serde_json::Deserializer::from_slice(body);
    let entries: Vec<Box<RawValue>> = lenient::list(&mut from).map_err(no_list)?;
    from.end().map_err(no_list)?;
    // As an answer, an object without members is more likely something else.
    if entries.is_empty() && body.starts_with(b"{") {
        return Err(Fault::Unreadable("its beginning: no JSON list".into()));
    }
    Ok(entries)
}

/// Reads the answer to [`page`].
pub fn read(listing: &Listing, response: &ApiResponse, at: Timestamp) -> Result<Listed, Fault> {
    let (Kind { entity, whole, .. }, walk) = (kind(listing)?, Walk::of(listing)?);
    let heard = heard(response, at)?;
    let too_old = || Fault::Unreadable("the store is too old to list what has changed".into());
    if let Some(parent) = walk.parents.first().cloned() {
        // The product was removed during the reading. Its variations are pulled if they are known.
        if heard.status == 404 && api::is_not_found(entity, heard.body) {
            return Ok(Listed { found: Vec::new(), next: walk.after_variations(0, true).listing(&listing.what) });
        }
        if !heard.is_success() {
            return Err(heard.fault(Needs::Read));
        }
        let entries = entries(heard.body)?;
        let reason = format!("variation of {parent}, listed in {}", listing.what);
        let found: Vec<_> = entries.iter().map(|entry| variation(entry, &reason)).collect::<Result<_, _>>()?;
        let end = walk.done.saturating_add(found.len());
        let last = found.is_empty() || total(response).is_some_and(|total| end >= total);
        let next = walk.after_variations((end - OVERLAP.min(found.len() / 2)).max(1), last);
        return Ok(Listed { found, next: next.listing(&listing.what) });
    }
    // The store may support only the order by id.
    if heard.status == 400 && !whole {
        return Err(too_old());
    }
    if !heard.is_success() {
        return Err(heard.fault(Needs::Read));
    }
    let entries = entries(heard.body)?;
    let (mut found, mut times, mut parents) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let head: wire::Entry<'_> = lenient::read(entry.get().as_bytes())?;
        let changed = head.date_modified_gmt.map(Timestamp::from);
        times.push(changed);
        if entity == EntityKind::Product && head.has_variations() && !walk.before.contains(&head.id) {
            parents.push(head.id.clone());
        }
        let transfer = Transfer { changed, ..Transfer::new(entity, head.id.clone(), reason(listing)) };
        found.push(if whole { shown(transfer, &entry, at) } else { transfer });
    }
    if !whole && times.iter().flatten().any(|time| walk.place.is_passed_by(*time)) {
        return Err(too_old());
    }
    let (begin, count) = (walk.place.offset, found.len());
    // Without a total, only an empty page is surely behind the last one: hosts may give fewer entries than were asked for.
    let last = count == 0 || total(response).is_some_and(|total| begin.saturating_add(count) >= total);
    // In the order by id, times say nothing of the position.
    let keys = if whole { vec![None; count] } else { times };
    let place = walk.place.clone().next(begin, page_size(whole), &keys, Some(last));
    let before = parents.iter().chain(&walk.before).take(page_size(whole)).cloned().collect();
    let next = Walk { ended: place.is_none(), place: place.unwrap_or_default(), parents, done: 0, before };
    Ok(Listed { found, next: next.listing(&listing.what) })
}

fn reason(listing: &Listing) -> String {
    match listing.what.ends_with(RECOVERED) {
        true => "in place of an error".to_owned(),
        false => format!("listed in {}", listing.what),
    }
}

fn total(response: &ApiResponse) -> Option<usize> {
    response.headers.get("x-wp-total")?.to_str().ok()?.parse().ok()
}

/// Completes the transfer of a whole entry of a list of all. An entity that is kept only if it is known needs no call
/// when it is not. An entry that cannot be mapped is pulled, and put aside by itself.
fn shown(transfer: Transfer, entry: &RawValue, at: Timestamp) -> Transfer {
    let mapped = mapping::entity(transfer.entity, entry.get().as_bytes(), at, true);
    let (change, only_known) = match mapped {
        Ok(Mapped::Change(_, change)) => (change, false),
        Ok(Mapped::IfKnown(_, change, _)) => (change, true),
        _ => return transfer,
    };
    let Change::Upsert(upsert) = change else { return transfer };
    Transfer { shown: Some(Shown::whole(&upsert.content)), only_known, ..transfer }
}

/// Makes the transfer of an entry of a list of variations.
fn variation(entry: &RawValue, reason: &str) -> Result<Transfer, Fault> {
    let body = entry.get().as_bytes();
    let head: wire::Entry<'_> = lenient::read(body)?;
    let transfer = Transfer {
        changed: head.date_modified_gmt.map(Timestamp::from),
        ..Transfer::new(EntityKind::Product, head.id.clone(), reason)
    };
    let content = mapping::content_of_product(body).ok();
    let shown = content.map(|content| Shown::part(&content, SHOWN_OF_VARIATIONS));
    Ok(Transfer { shown, ..transfer })
}

impl Lists for WooCommerce {
    fn poll(&self, entity: EntityKind, since: Option<Timestamp>) -> Option<Listing> {
        lists::poll(entity, since)
    }

    fn since(&self, listing: &Listing) -> Option<Timestamp> {
        PageCursor::of(listing).ok()?.since
    }

    fn rest_of(&self, listing: Listing, found_until: Timestamp) -> Listing {
        lists::rest_of(listing, found_until)
    }

    fn list(&self, access: &Access<'_>, listing: &Listing) -> Result<ApiRequest, Fault> {
        lists::page(access, listing)
    }

    fn read_page(
        &self,
        _access: &Access<'_>,
        listing: &Listing,
        response: &ApiResponse,
        at: Timestamp,
    ) -> Result<Listed, Fault> {
        lists::read(listing, response, at)
    }

    fn page_size(&self, _listing: &Listing) -> usize {
        lists::PAGE_SIZE
    }

    /// Builds the call for the count, which every page of the list carries. Variations are in lists of their own.
    fn count(&self, access: &Access<'_>, entity: EntityKind) -> Option<Result<ApiRequest, Fault>> {
        let asked = collection(entity).and_then(|name| call(access, Method::GET, &[name]));
        Some(asked.map(|mut request| {
            request
                .url
                .query_pairs_mut()
                .append_pair("orderby", "id")
                .append_pair("per_page", "1")
                .append_pair("_fields", "id");
            request
        }))
    }

    fn read_count(&self, response: &ApiResponse) -> Option<u64> {
        response.headers.get("x-wp-total")?.to_str().ok()?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};
    use serde_json::{Map, Value, json};

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_760_000_000_000);

    fn asked(listing: &Listing) -> String {
        let none = Map::new();
        let credentials = r#"{"consumer_key":"ck_1","consumer_secret":"cs_1"}"#;
        let access = Access { site: "https://shop.example.com", credentials, settings: &none };
        let url = page(&access, listing).unwrap().url;
        let query: Vec<_> = url.query_pairs().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{} {}", url.path().strip_prefix("/wp-json/wc/v3/").unwrap(), query.join(" "))
    }

    fn answer(status: u16, total: Option<u32>, body: &Value) -> ApiResponse {
        let total = total.map(|total| (http::HeaderName::from_static("x-wp-total"), HeaderValue::from(total)));
        ApiResponse { status, headers: HeaderMap::from_iter(total), body: Bytes::from(body.to_string()) }
    }

    fn entries(ids: &[u64]) -> Value {
        ids.iter().map(|id| json!({ "id": id, "date_modified_gmt": "2025-10-09T08:54:00" })).collect()
    }

    fn ids(listed: &Listed) -> Vec<&str> {
        listed.found.iter().map(|transfer| transfer.id.as_str()).collect()
    }

    #[test]
    fn lists_for_polling_have_times_without_a_zone() {
        assert_eq!(
            asked(&poll(EntityKind::Order, Some(AT)).unwrap()),
            "orders modified_after=2025-10-09T08:53:19 dates_are_gmt=true orderby=modified order=asc per_page=100 \
             offset=0 _fields=id,date_modified_gmt"
        );
        let all = |name: &str, more: &str| format!("{name} orderby=id order=asc per_page=50 offset=0{more}");
        assert_eq!(asked(&poll(EntityKind::Product, None).unwrap()), all("products", ""), "whole");
        assert_eq!(asked(&poll(EntityKind::Customer, None).unwrap()), all("customers", " role=all"));
        assert_eq!(poll(EntityKind::Customer, Some(AT)), None, "they cannot be asked for by their time");
        assert_eq!(recover(EntityKind::Customer, AT), None);

        let listed = |since, answer: &ApiResponse| read(&poll(EntityKind::Product, since).unwrap(), answer, AT);
        let offset = |listed: Listed| listed.next.map(|next| Walk::of(&next).unwrap().place.offset);
        let of = |total, ids: &[u64]| answer(200, total, &entries(ids));
        assert_eq!(offset(listed(None, &of(Some(9), &[1, 2, 3, 4])).unwrap()), Some(2), "hosts may give fewer");
        assert_eq!(offset(listed(None, &of(Some(4), &[1, 2, 3, 4])).unwrap()), None);
        assert_eq!(offset(listed(None, &of(None, &[1, 2, 3, 4])).unwrap()), Some(2), "and no total");
        assert_eq!(offset(listed(None, &of(None, &[])).unwrap()), None);
        assert_eq!(offset(listed(None, &of(Some(9), &[])).unwrap()), None, "a total may be too large");
        let found = listed(Some(AT), &of(None, &[1])).unwrap().found;
        assert_eq!(found[0].changed, Some(AT.plus_seconds(40)));
        // Older stores do not support the order, or list unchanged entities.
        assert!(matches!(listed(Some(AT), &answer(400, None, &json!([]))), Err(Fault::Unreadable(_))));
        assert!(matches!(listed(Some(AT.plus_seconds(60)), &of(None, &[1])), Err(Fault::Unreadable(_))));
        assert!(listed(None, &of(None, &[1])).is_ok());
    }

    #[test]
    fn a_list_may_be_an_object_with_numbers_for_names() {
        let all = poll(EntityKind::Order, Some(AT)).unwrap();
        let body = json!({ "0": { "id": 7001, "date_modified_gmt": "2025-10-09T08:54:00" }, "2": { "id": "7002" } });
        assert_eq!(ids(&read(&all, &answer(200, None, &body), AT).unwrap()), ["7001", "7002"]);
        for wrong in [json!({ "code": "x" }), json!({ "a": { "id": 1 } }), json!([{ "name": 1 }]), json!([[1]])] {
            assert!(matches!(read(&all, &answer(200, None, &wrong), AT), Err(Fault::Unreadable(_))), "{wrong}");
        }
    }

    #[test]
    fn entries_of_all_are_compared_by_what_they_say() {
        let listed = |entity, entry: Value| {
            let listed = read(&poll(entity, None).unwrap(), &answer(200, None, &json!([entry])), AT).unwrap();
            (listed.found[0].shown.clone().map(|shown| shown.hash), listed.found[0].only_known)
        };
        let order = |quantity: u8| {
            json!({ "id": 1, "status": "processing", "date_modified_gmt": "2025-10-09T08:54:00",
                "line_items": [{ "id": 1, "quantity": quantity }] })
        };
        let (one, only_known) = listed(EntityKind::Order, order(1));
        assert!(one.is_some() && !only_known);
        assert_ne!(one, listed(EntityKind::Order, order(2)).0);
        assert_eq!(one, listed(EntityKind::Order, order(1)).0);
        // A user who buys nothing matters only if known here.
        let user = |role: &str, paying: bool| {
            listed(EntityKind::Customer, json!({ "id": 2, "role": role, "is_paying_customer": paying }))
        };
        assert!(user("subscriber", false).1 && !user("customer", false).1 && !user("administrator", true).1);
        // An entry that cannot be mapped is pulled, and put aside by itself.
        assert_eq!(listed(EntityKind::Order, json!({ "id": 3, "status": [] })), (None, false));
    }

    #[test]
    fn variations_come_after_their_products() {
        let all = poll(EntityKind::Product, None).unwrap();
        let page = json!([{ "id": 1 }, { "id": 2, "variations": [{ "id": 21 }] }, { "id": 3, "variations": [31, 32] }]);
        let next = read(&all, &answer(200, Some(9), &page), AT).unwrap().next.unwrap();
        let fields = format!("_fields={FIELDS_OF_VARIATIONS}");
        let start = "variations orderby=id order=asc per_page=100 offset=";
        assert_eq!(asked(&next), format!("products/2/{start}0 {fields}"));
        // The product was removed meanwhile.
        let gone = json!({ "code": "woocommerce_rest_product_invalid_id", "data": { "status": 404 } });
        let next = read(&next, &answer(404, None, &gone), AT).unwrap().next.unwrap();
        assert_eq!(asked(&next), format!("products/3/{start}0 {fields}"));
        // Hosts may return fewer.
        let some = read(&next, &answer(200, Some(3), &json!([{ "id": 31, "price": "5" }, { "id": 32 }])), AT).unwrap();
        assert_eq!(ids(&some), ["31", "32"]);
        assert_eq!(some.found[0].shown.as_ref().unwrap().members, SHOWN_OF_VARIATIONS);
        let next = some.next.unwrap();
        assert_eq!(asked(&next), format!("products/3/{start}1 {fields}"));
        let rest = read(&next, &answer(200, Some(3), &json!([{ "id": 32 }, { "id": 33 }])), AT).unwrap();
        // Then the list continues, and overlapping products are not listed again.
        let next = rest.next.unwrap();
        assert_eq!(asked(&next), "products orderby=id order=asc per_page=50 offset=2");
        let last =
            read(&next, &answer(200, Some(4), &json!([{ "id": 3, "variations": [31] }, { "id": 4 }])), AT).unwrap();
        assert_eq!((ids(&last), &last.next), (vec!["3", "4"], &None));
        // Any other refusal is a fault.
        let changed = poll(EntityKind::Product, Some(AT)).unwrap();
        assert!(asked(&changed).ends_with("_fields=id,date_modified_gmt,variations"));
        let page = json!([{ "id": 2, "date_modified_gmt": "2025-10-09T08:54:00", "variations": [21] }]);
        let next = read(&changed, &answer(200, Some(1), &page), AT).unwrap().next.unwrap();
        assert!(matches!(read(&next, &answer(403, None, &gone), AT), Err(Fault::Connection(_))));
    }

    #[test]
    fn what_a_list_has_found_the_next_one_does_not_look_for_again() {
        let listing = recover(EntityKind::Order, AT).unwrap();
        assert!(asked(&listing).starts_with("orders modified_after=2025-10-09T08:38:19 "), "{}", asked(&listing));
        let rest = rest_of(listing.clone(), AT.plus_seconds(-60));
        assert!(asked(&rest).starts_with("orders modified_after=2025-10-09T08:47:19 "), "{}", asked(&rest));
        assert_eq!(rest_of(listing.clone(), AT.plus_seconds(-7200)), listing, "never further back");
        let found = read(&listing, &answer(200, None, &entries(&[7])), AT).unwrap().found;
        assert_eq!((found[0].changed, found[0].reason.as_str()), (Some(AT.plus_seconds(40)), "in place of an error"));
    }
}
