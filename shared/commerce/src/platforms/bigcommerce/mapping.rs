//! What the processor has to know of BigCommerce: its entity processors, which entity a callback is about, and its lists. How
//! entities are pulled is in [`super::pull`].

use std::{collections::BTreeSet, slice};

use http::Method;
use serde_json::{Map, Value, json};
use url::Url;

use super::{pull, wire};
use crate::{
    change::{Change, Delete, Facets, Upsert},
    entity::{Content, EntityKind, ExternalId},
    http_call::{ApiRequest, ApiResponse, Fault},
    outcome::Rule,
    platform::{
        lenient,
        lists::{Listed, Lists},
        mapping::{Incoming, MapError, Mapped, Mapping},
        notice::{Notice, Notices, UNINSTALLED},
        paging::Place,
        pull::{Access, Budget, Next, Pull, Wanted},
    },
    timestamp::Timestamp,
    transfer::{Action, Direction, EntityProcessor, Listing, Payload, Polling, Scope, Transfer, child, own},
};

/// The processor's view.
pub struct BigCommerce;

/// Rises when the mapping's output changes, so that replayed deliveries win over what was made of them before.
pub(super) const MAPPING: u32 = 2;

/// A callback holds an id, or less.
const fn thin(
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

/// The exact scopes and no wildcards, which would bring what is ignored, too [`webhooks/events/index.mdx`].
static PROCESSORS: &[EntityProcessor] = &[
    thin(
        EntityKind::Customer,
        Some(Polling::Changed),
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
        // They have no time.
        Some(Polling::Sweep),
        &[
            own("store/category/created", Action::Created),
            own("store/category/updated", Action::Updated),
            own("store/category/deleted", Action::Deleted),
        ],
        &[],
    ),
    thin(
        EntityKind::Product,
        Some(Polling::Changed),
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
            // The `*` is in the scope of the delivery itself, too.
            child("store/channel/*/inventory/product/stock_changed", "inventory"),
            child("store/channel/*/inventory/product/low_stock_reached", "inventory"),
            child("store/channel/*/inventory/product/out_of_stock_reached", "inventory"),
            child("store/channel/*/inventory/product/settings_changed", "inventory"),
        ],
        &[],
    ),
    thin(
        EntityKind::Order,
        Some(Polling::Changed),
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
    // A record is the price in one currency; the entity is all that a variant has in a list, so a deleted record is an
    // update.
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

/// A cart was not touched for an hour. Only this says so.
const CART_ABANDONED: &str = "store/cart/abandoned";
/// A cart became an order, whose id only this says: the cart is gone by then.
const CART_CONVERTED: &str = "store/cart/converted";
/// One price list, and several, went with all their prices, of which nothing tells one by one.
const PRICE_LIST_DELETED: &str = "store/priceList/deleted";
const PRICE_LISTS_DELETED: &str = "store/priceLists/deleted";

/// The store is closed, or the app was removed; whether it comes in the second case is not documented.
const APP_UNINSTALLED: &str = "store/app/uninstalled";
/// Deliveries fail: 90001 will be retried, 90002 switched a webhook off, 90003 blocked the domain for a while.
pub(super) const DELIVERY_EXCEPTION: &str = "store/hook/deliveryException";

/// What apps attach to entities. None of the entities here holds it.
const METAFIELD: Rule = Rule("bigcommerce-metafield");
/// Readers of the store's newsletter.
const SUBSCRIBER: Rule = Rule("bigcommerce-subscriber");
/// What is sent for one channel beside what is sent for the store.
const CHANNEL_COPY: Rule = Rule("bigcommerce-channel-copy");
/// Name, address or currency of the store.
const STORE_INFORMATION: Rule = Rule("bigcommerce-store-information");
/// Orders that a shopper began and never paid: they, too, are told of as created. One that is known may be set back to that.
pub(super) const INCOMPLETE_ORDER: Rule = Rule("bigcommerce-incomplete-order");

/// The most that a page of v3 holds.
pub(super) const V3_PAGE: usize = 250;
/// What a page of v2 holds by default. Whether more can be had is not documented for all lists, and a page that is
/// shorter than was asked for must mean that it is the last.
pub(super) const V2_PAGE: usize = 50;
/// A callback that is older has a wrong date: the last retry is 48 hours after the first attempt [`overview.mdx`].
const RETRIED_SECONDS: i64 = 72 * 60 * 60;
/// How long an overloaded store is left alone, in seconds.
const OVERLOADED_SECONDS: i64 = 120;

/// The smallest plans have 150 calls in 30 seconds for all apps of a store together; this leaves a third to the
/// others [`api-rate-limits.mdx`].
pub(super) const BUDGET: Budget = Budget { calls: 100, seconds: 30 };

impl Mapping for BigCommerce {
    fn processors(&self) -> &'static [EntityProcessor] {
        PROCESSORS
    }

    fn ignores(&self, scope: &str) -> Option<Rule> {
        let parts: Vec<&str> = scope.split('/').collect();
        match *parts.as_slice() {
            ["store", .., "metafield", _] => Some(METAFIELD),
            ["store", "subscriber", ..] => Some(SUBSCRIBER),
            ["store", "channel", id, ..] if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) => {
                Some(CHANNEL_COPY)
            }
            ["store", "information", ..] => Some(STORE_INFORMATION),
            _ => None,
        }
    }

    fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
        let Incoming { entity, scope, received, .. } = *incoming;
        let callback = wire::callback(incoming.body)?;
        let entries = match &callback.data {
            Value::Array(entries) => entries.as_slice(),
            one => slice::from_ref(one),
        };
        if matches!(scope, PRICE_LIST_DELETED | PRICE_LISTS_DELETED) {
            return price_lists(entries);
        }
        let ids: Option<BTreeSet<ExternalId>> = entries.iter().map(|entry| subject(entity, scope, entry)).collect();
        let ids = ids.filter(|ids| !ids.is_empty()).ok_or_else(|| MapError::Malformed("data: the id".into()))?;
        let mut rest = ids.into_iter();
        match (rest.next(), rest.len()) {
            (Some(id), 0) if entity != EntityKind::Price => Ok(match incoming.action {
                Action::Deleted => Mapped::Change(id, Change::Delete(Delete { source: None, received })),
                _ => match fate(scope, &id, entries, callback.created_at, received) {
                    Some(fate) => Mapped::PullWith(id, fate),
                    None => Mapped::Pull(id),
                },
            }),
            (first, _) => {
                let transfer = |id| Transfer::new(entity, id, format!("named by {scope}"));
                Ok(Mapped::Split(first.into_iter().chain(rest).map(transfer).collect()))
            }
        }
    }
}

impl Pull for BigCommerce {
    fn pull(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Result<Next, Fault> {
        pull::pull(wanted, answers)
    }

    fn only_if_known(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Option<Rule> {
        let [order] = answers else { return None };
        let is_incomplete = |order: wire::Status| order.status_id == Some(0);
        let order = lenient::entity(&order.body).ok().filter(|_| wanted.entity == EntityKind::Order);
        order.is_some_and(|(order, _)| is_incomplete(order)).then_some(INCOMPLETE_ORDER)
    }
}

impl Lists for BigCommerce {
    fn page_size(&self, listing: &Listing) -> usize {
        if listed_entity(listing).is_ok_and(|entity| entity == EntityKind::Order) { V2_PAGE } else { V3_PAGE }
    }

    /// Of all, too, in the order of their changes: what changes meanwhile comes again further on.
    fn poll(&self, entity: EntityKind, since: Option<Timestamp>) -> Option<Listing> {
        let what = collection(entity)?.1;
        (since.is_none() || entity != EntityKind::Category).then(|| Place::start(what, since))
    }

    fn list(&self, access: &Access<'_>, listing: &Listing) -> Result<ApiRequest, Fault> {
        let (entity, place) = (listed_entity(listing)?, Place::of(listing)?);
        // Without a time of day the API would take that of now.
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
        let (entity, place) = (listed_entity(listing)?, Place::of(listing)?);
        if !response.is_success() {
            return Err(fault(response, at));
        }
        let (entries, pagination): (Vec<wire::Entry>, _) = match entity {
            // An empty list of v2 is no content.
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
        // An address or a variant changes without its parent's time: only being asked for all, all is asked for.
        let parts = matches!(entity, EntityKind::Customer | EntityKind::Product);
        let found = entries.into_iter().zip(&times).map(|(entry, changed)| Transfer {
            changed: changed.filter(|_| !parts || place.since.is_some()),
            ..Transfer::new(entity, entry.id, format!("listed in {}", listing.what))
        });
        let found: Vec<_> = found.collect();
        let (number, size) = place.page(if entity == EntityKind::Order { V2_PAGE } else { V3_PAGE });
        let last = pagination.as_ref().and_then(|pagination| pagination.total_pages).map(|all| all <= number as u64);
        // It may have given less than it was asked for, and counted its pages by that.
        let given = pagination.and_then(|pagination| usize::try_from(pagination.per_page?).ok());
        let given = given.filter(|given| (1..size).contains(given));
        let next = place.next((number - 1) * given.unwrap_or(size), size, &times, last);
        let next = next.map(|next| Place { most: given.unwrap_or(next.most), ..next }.listing(&listing.what));
        Ok(Listed { found, next })
    }
}

impl Notices for BigCommerce {
    fn scopes(&self) -> &'static [&'static str] {
        &[APP_UNINSTALLED, DELIVERY_EXCEPTION]
    }

    fn read(&self, scope: &str, body: &[u8], received: Timestamp) -> Result<Notice, MapError> {
        let callback = wire::callback(body)?;
        let digits = |name: &str| {
            let id = wire::id_of(&callback.data[name])?;
            id.as_str().bytes().all(|byte| byte.is_ascii_digit()).then(|| id.to_string())
        };
        let (kind, detail) = match scope {
            APP_UNINSTALLED => (UNINSTALLED, String::new()),
            _ => (
                "delivery-exception",
                [digits("error_code"), digits("id")].into_iter().flatten().collect::<Vec<_>>().join(" "),
            ),
        };
        Ok(Notice { kind: kind.to_owned(), detail, received })
    }
}

/// What can be listed, and what its list is called.
const COLLECTIONS: [(EntityKind, &str); 4] = [
    (EntityKind::Customer, "customers"),
    (EntityKind::Category, "categories"),
    (EntityKind::Product, "products"),
    (EntityKind::Order, "orders"),
];

fn collection(entity: EntityKind) -> Option<(EntityKind, &'static str)> {
    COLLECTIONS.into_iter().find(|(known, _)| *known == entity)
}

fn listed_entity(listing: &Listing) -> Result<EntityKind, Fault> {
    let found = COLLECTIONS.iter().find(|(_, what)| *what == listing.what);
    found.map(|(entity, _)| *entity).ok_or_else(|| Fault::Unreadable(format!("there is no list {:?}", listing.what)))
}

/// All prices of the lists that were deleted.
fn price_lists(entries: &[Value]) -> Result<Mapped, MapError> {
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

/// What became of a cart, which no answer of the API says. That it was abandoned counts until it is changed after that, so it is dated
/// by the callback; that it became an order is its end.
fn fate(
    scope: &str,
    id: &ExternalId,
    entries: &[Value],
    created_at: Option<i64>,
    received: Timestamp,
) -> Option<Change> {
    let status = match scope {
        CART_ABANDONED => "abandoned",
        CART_CONVERTED => "converted",
        _ => return None,
    };
    let order = ["orderId", "order_id"].iter().find_map(|name| wire::id_of(&entries.first()?[name]));
    let order = order.filter(|_| scope == CART_CONVERTED);
    let fields = [("id", json!(id)), ("status", json!(status)), ("order", json!(order))];
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let facets = Facets::from_iter([("fate".to_owned(), Content::facet(fields, Map::new()).into())]);
    let dated = created_at.map(|seconds| Timestamp::from_micros(seconds.saturating_mul(1_000_000)));
    let dated = dated.filter(|at| scope == CART_ABANDONED && at.plus_seconds(RETRIED_SECONDS) > received);
    let at = dated.unwrap_or(received);
    Some(Change::Upsert(Upsert::partial(Some(at), received, false, MAPPING, facets)))
}

/// The entity that an element of `data` is about.
fn subject(entity: EntityKind, scope: &str, data: &Value) -> Option<ExternalId> {
    let at = |place: &str| wire::id_of(data.pointer(place)?);
    if entity == EntityKind::Price {
        let (list, variant) = (at("/price_list_id")?, at("/variant_id")?);
        return (!list.as_str().contains(':')).then(|| format!("{list}:{variant}").parse().ok())?;
    }
    // The id is the child's where a child has one of its own; and each scope names the parent in its own way.
    let places: &[&str] = match scope.strip_prefix("store/")? {
        name if name.starts_with("customer/address/") => &["/address/customer_id"],
        name if name.starts_with("sku/") => &["/sku/product_id", "/inventory/product_id"],
        name if name.starts_with("product/inventory/") => &["/inventory/product_id", "/id"],
        name if name.starts_with("channel/") => &["/product_id", "/inventory/product_id"],
        name if name.starts_with("shipment/") => &["/orderId", "/order_id"],
        name if name.starts_with("order/transaction/") => &["/order_id", "/orderId"],
        name if name.starts_with("cart/lineItem/") => &["/cartId", "/cart_id"],
        _ => &["/id"],
    };
    places.iter().find_map(|place| at(place))
}

/// The call for a path below the store's.
pub(super) fn call(
    access: &Access<'_>,
    method: Method,
    path: &[&str],
    query: &[(&str, &str)],
) -> Result<ApiRequest, Fault> {
    let broken = |what: &str| Fault::Connection(format!("the connection's {what} cannot be read; connect it again"));
    // A URL resolves these away, and what is left would be another resource.
    if path.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err(Fault::Unreadable("an id that BigCommerce cannot have".into()));
    }
    let credentials: super::webhooks::Credentials =
        serde_json::from_str(access.credentials).map_err(|_| broken("credentials"))?;
    let mut url = Url::parse(access.site).map_err(|_| broken("site"))?;
    url.path_segments_mut().map_err(|()| broken("site"))?.pop_if_empty().extend(path);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    ApiRequest::with_secret(method, url, "x-auth-token", &credentials.access_token)
}

/// What an answer means that is no success [`api-rate-limits.mdx`, `status-codes.mdx`].
pub(super) fn fault(response: &ApiResponse, now: Timestamp) -> Fault {
    match response.status {
        429 => {
            let reset = response.headers.get("x-rate-limit-time-reset-ms");
            let millis = reset.and_then(|value| value.to_str().ok()?.trim().parse::<u32>().ok());
            // Without the header it is not this connection's quota that is used up: the store is overloaded.
            let seconds = millis.map_or(OVERLOADED_SECONDS, |millis| i64::from(millis.div_ceil(1000).max(1)));
            Fault::Throttled { seconds }
        }
        423 => Fault::Unavailable("the platform answered 423".into()),
        _ => response.fault(now),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;
    use crate::{
        platform::mapping::{Resolved, declared_scopes, resolve},
        request::WebhookPath,
    };

    const AT: Timestamp = Timestamp::from_millis(1_760_000_000_000);

    fn delivered(scope: &str, body: &str) -> Result<Mapped, MapError> {
        let Resolved::Entity(entity, action) = resolve(&super::super::PLATFORM, scope) else { unreachable!("{scope}") };
        let connection = WebhookPath::parse("bigcommerce", "abc123", None).unwrap().key;
        BigCommerce.map(&Incoming {
            connection: &connection,
            scope,
            delivery_id: None,
            entity,
            action,
            body: body.as_bytes(),
            received: AT,
        })
    }

    fn callback(scope: &str, data: &Value) -> Result<Mapped, MapError> {
        delivered(scope, &json!({ "scope": scope, "producer": "stores/abc123", "data": data }).to_string())
    }

    fn answer(status: u16, body: &Value) -> ApiResponse {
        ApiResponse { status, headers: HeaderMap::new(), body: Bytes::from(body.to_string()) }
    }

    fn v3(data: &Value) -> ApiResponse {
        answer(200, &json!({ "data": data, "meta": {} }))
    }

    fn no_content() -> ApiResponse {
        ApiResponse { status: 204, headers: HeaderMap::new(), body: Bytes::new() }
    }

    fn gone(id: &str) -> Mapped {
        Mapped::Change(id.parse().unwrap(), Change::Delete(Delete { source: None, received: AT }))
    }

    #[test]
    fn lists_for_polling_are_by_the_time_of_the_last_change_with_its_time_of_day() {
        let none = Map::new();
        let site = "https://api.bigcommerce.com/stores/abc123";
        let access = Access { site, credentials: r#"{"access_token":"tok"}"#, settings: &none };
        let asked = |listing: &Listing| {
            let request = BigCommerce.list(&access, listing).unwrap();
            let query: Vec<_> = request.url.query_pairs().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} {}", request.url.path().strip_prefix("/stores/abc123/").unwrap(), query.join(" "))
        };
        let poll = |entity, since| BigCommerce.poll(entity, since);
        let first = |entity, since| asked(&poll(entity, since).unwrap());
        for (entity, since, expected) in [
            (
                EntityKind::Product,
                Some(AT),
                "v3/catalog/products sort=date_modified direction=asc include_fields=date_modified \
                 date_modified:min=2025-10-09T08:53:19Z limit=250 page=1",
            ),
            (
                EntityKind::Customer,
                Some(AT),
                "v3/customers sort=date_modified:asc date_modified:min=2025-10-09T08:53:19Z limit=250 page=1",
            ),
            (
                EntityKind::Order,
                Some(AT),
                "v2/orders sort=date_modified:asc min_date_modified=2025-10-09T08:53:19Z limit=50 page=1",
            ),
            (EntityKind::Order, None, "v2/orders sort=date_modified:asc limit=50 page=1"),
            (EntityKind::Category, None, "v3/catalog/categories limit=250 page=1"),
        ] {
            assert_eq!(first(entity, since), expected);
        }
        assert_eq!(poll(EntityKind::Category, Some(AT)), None, "they have no time");
        assert_eq!(poll(EntityKind::Cart, None), None);

        let orders = poll(EntityKind::Order, Some(AT)).unwrap();
        let listed =
            |listing: &Listing, answer: &ApiResponse| BigCommerce.read_page(&access, listing, answer, AT).unwrap();
        assert_eq!(listed(&orders, &no_content()), Listed { found: vec![], next: None });
        let order = |id: u64, at: &str| json!({ "id": id, "date_modified": at, "status": "Pending" });
        let two = json!([order(7, "Thu, 09 Oct 2025 08:54:00 +0000"), order(8, "Thu, 09 Oct 2025 08:55:00 +0000")]);
        let page = listed(&orders, &answer(200, &two));
        let found: Vec<_> = page.found.iter().map(|found| (found.id.as_str(), found.changed)).collect();
        let at = |seconds| Some(AT.plus_seconds(seconds));
        assert_eq!(found, [("7", at(40)), ("8", at(100))]);
        // Whether a page is the last shows when the next one comes no further.
        let next = page.next.unwrap();
        assert!(asked(&next).contains("min_date_modified=2025-10-09T08:54:59Z"));
        let again = json!([order(8, "Thu, 09 Oct 2025 08:55:00 +0000")]);
        assert_eq!(listed(&next, &answer(200, &again)).next, None);

        // What has parts with no time of their own is asked for in any case when all are.
        let product = v3(&json!([{ "id": 5, "date_modified": "2025-10-09T08:54:00+00:00" }]));
        let changed = |since| listed(&poll(EntityKind::Product, since).unwrap(), &product).found[0].changed;
        assert_eq!((changed(Some(AT)), changed(None)), (at(40), None));
        let old = answer(200, &json!([order(7, "Thu, 09 Oct 2025 08:00:00 +0000")]));
        assert!(matches!(BigCommerce.read_page(&access, &orders, &old, AT), Err(Fault::Unreadable(_))));
    }

    /// Every row of what is documented: data, scopes, and the entity to pull, or none where it is deleted (`-`).
    #[test]
    fn every_callback_leads_to_its_entity() {
        let rows: &[(Value, &[&str], &str)] = &[
            (json!({"type":"product","id":205}), &["product/created", "product/updated"], "205"),
            (
                json!({"type":"product","id":205,"properties":["name"],"context":{"channel_id":1}}),
                &["product/updated"],
                "205",
            ),
            (json!({"type":"product","id":205}), &["product/deleted"], "-205"),
            (
                json!({"type":"product","id":206,"inventory":{"product_id":206,"method":"absolute","value":5}}),
                &["product/inventory/updated", "product/inventory/order/updated"],
                "206",
            ),
            (json!({"type":"product","id":206}), &["product/inventory/updated"], "206"),
            (
                json!({"type":"sku","id":7,"sku":{"product_id":206,"variant_id":509}}),
                &["sku/created", "sku/updated", "sku/deleted"],
                "206",
            ),
            (
                json!({"type":"sku","id":7,"inventory":{"product_id":206,"method":"relative","variant_id":509}}),
                &["sku/inventory/updated", "sku/inventory/order/updated"],
                "206",
            ),
            (
                json!({"variant_id":12,"product_id":"206","location_id":1}),
                &[
                    "channel/*/inventory/product/stock_changed",
                    "channel/*/inventory/product/low_stock_reached",
                    "channel/*/inventory/product/out_of_stock_reached",
                    "channel/*/inventory/product/settings_changed",
                ],
                "206",
            ),
            (json!({"type":"category","id":8}), &["category/created", "category/updated"], "8"),
            (json!({"type":"category","id":"8"}), &["category/deleted"], "-8"),
            (json!({"type":"order","id":250}), &["order/created", "order/updated", "order/statusUpdated"], "250"),
            (json!({"type":"order","id":250}), &["order/archived"], "-250"),
            (
                json!({"type":"order","id":250,"status":{"previous_status_id":0,"new_status_id":11}}),
                &["order/statusUpdated"],
                "250",
            ),
            (json!({"type":"order","id":250,"message":{"order_message_id":3}}), &["order/message/created"], "250"),
            (json!({"type":"order","id":250,"refund":{"refund_id":2}}), &["order/refund/created"], "250"),
            (
                json!({"type":"transaction","order_id":"250","transaction_id":"9","result":{"code":"x"}}),
                &["order/transaction/created", "order/transaction/updated"],
                "250",
            ),
            (
                json!({"type":"shipment","id":12,"orderId":251}),
                &["shipment/created", "shipment/updated", "shipment/deleted"],
                "251",
            ),
            (json!({"type":"customer","id":5}), &["customer/created", "customer/updated"], "5"),
            (json!({"type":"customer","id":5}), &["customer/payment/instrument/default/updated"], "5"),
            (json!({"type":"customer","id":5}), &["customer/deleted"], "-5"),
            (
                json!({"type":"customer","id":60,"address":{"customer_id":5}}),
                &["customer/address/created", "customer/address/updated", "customer/address/deleted"],
                "5",
            ),
            (json!({"type":"cart","id":"09346904-4175-44fd"}), &["cart/created", "cart/updated"], "09346904-4175-44fd"),
            (json!({"type":"cart","id":"09346904","couponId":1}), &["cart/couponApplied"], "09346904"),
            (json!({"type":"cart","id":"09346904"}), &["cart/deleted"], "-09346904"),
            (
                json!({"type":"cart_line_item","id":"e2a9","cartId":"09346904"}),
                &["cart/lineItem/created", "cart/lineItem/updated", "cart/lineItem/deleted"],
                "09346904",
            ),
        ];
        let mut seen = BTreeSet::new();
        for (data, scopes, expected) in rows {
            for scope in *scopes {
                let scope = format!("store/{scope}");
                let expected = match expected.strip_prefix('-') {
                    Some(id) => gone(id),
                    None => Mapped::Pull(expected.parse().unwrap()),
                };
                assert_eq!(callback(&scope, data), Ok(expected.clone()), "{scope} {data}");
                assert_eq!(callback(&scope, &json!([data])), Ok(expected), "{scope} {data}");
                seen.insert(scope);
            }
        }
        let prices = |scope: &&str| {
            scope.starts_with("store/priceList")
                || [CART_ABANDONED, CART_CONVERTED].contains(scope)
                || BigCommerce.scopes().contains(scope)
        };
        let missing: Vec<_> =
            declared_scopes(&super::super::PLATFORM).filter(|scope| !seen.contains(*scope) && !prices(scope)).collect();
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn what_names_no_entity_is_malformed() {
        for data in [
            json!(null),
            json!(5),
            json!([]),
            json!({}),
            json!({"id":null}),
            json!({"id":0}),
            json!({"id":-1}),
            json!({"id":"a\nb"}),
            json!({"id":{}}),
            json!([{"id":1},{}]),
        ] {
            let mapped = callback("store/order/updated", &data);
            assert_eq!(mapped, Err(MapError::Malformed("data: the id".into())), "{data}");
        }
        // The id of a child is never taken for its parent's.
        for scope in [
            "store/sku/updated",
            "store/shipment/updated",
            "store/customer/address/updated",
            "store/cart/lineItem/updated",
        ] {
            assert!(callback(scope, &json!({"id":1})).is_err(), "{scope}");
        }
        for body in ["", "[]", "<html>", r#"{"scope":"store/order/updated","data":"#] {
            assert!(delivered("store/order/updated", body).is_err(), "{body}");
        }
    }

    #[test]
    fn prices_come_in_crowds() {
        let split = |data: Value| match callback("store/priceList/records/updated", &data) {
            Ok(Mapped::Split(parts)) => {
                assert!(parts.iter().all(|part| part.entity == EntityKind::Price));
                parts.iter().map(|part| part.id.to_string()).collect()
            }
            Ok(other) => unreachable!("{other:?}"),
            Err(error) => vec![error.to_string()],
        };
        let record =
            |list: u32, variant: u32, currency: &str| json!({"price_list_id":list,"variant_id":variant,"c":currency});
        let many = json!([record(1, 7, "usd"), record(1, 8, "usd"), record(1, 7, "eur"), record(2, 7, "usd")]);
        assert_eq!(split(many), ["1:7", "1:8", "2:7"]);
        assert_eq!(split(record(1, 7, "usd")), ["1:7"]);
        assert_eq!(split(json!([{"price_list_id":"1","variant_id":"7"}])), ["1:7"]);
        for bad in [
            json!([]),
            json!([{"price_list_id":1}]),
            json!([{"variant_id":1}]),
            json!([{"price_list_id":"1:2","variant_id":1}]),
        ] {
            assert_eq!(split(bad.clone()), ["the body is not what the platform documents, at data: the id"], "{bad}");
        }
        let two = callback("store/order/archived", &json!([{"id":1},{"id":2}]));
        assert!(matches!(&two, Ok(Mapped::Split(parts)) if parts.len() == 2), "{two:?}");
    }

    #[test]
    fn what_became_of_a_cart_is_kept_beside_what_is_pulled() {
        let fate = |scope: &str, data: Value, at: Value| {
            let body = json!({ "scope": scope, "data": data, "created_at": at }).to_string();
            match delivered(scope, &body) {
                Ok(Mapped::PullWith(id, Change::Upsert(upsert))) => {
                    assert!(!upsert.observed && upsert.received == AT && upsert.facets.len() == 1);
                    let status = upsert.content.fields["status"].as_str().unwrap().to_owned();
                    let order = upsert.content.fields["order"].as_str().map(str::to_owned);
                    (id.to_string(), upsert.source, status, order)
                }
                other => unreachable!("{other:?}"),
            }
        };
        let is = |at: Timestamp, status: &str, order: Option<&str>| {
            ("c-1".to_owned(), Some(at), status.to_owned(), order.map(str::to_owned))
        };
        let cart = |order: Value| json!({ "type": "cart", "id": "c-1", "orderId": order });
        let ago = |seconds: i64| (AT.plus_seconds(-seconds), json!(AT.seconds() - seconds));
        let (at, seconds) = ago(3600);
        for order in [json!(252), json!("252")] {
            assert_eq!(fate(CART_CONVERTED, cart(order.clone()), seconds.clone()), is(AT, "converted", Some("252")));
            assert_eq!(fate(CART_CONVERTED, json!([cart(order)]), json!(null)), is(AT, "converted", Some("252")));
        }
        for odd in [json!(null), json!(0), json!({}), json!(true)] {
            assert_eq!(fate(CART_CONVERTED, cart(odd), seconds.clone()), is(AT, "converted", None));
        }
        assert_eq!(fate(CART_ABANDONED, cart(json!(252)), seconds), is(at, "abandoned", None));
        let (_, too_old) = ago(RETRIED_SECONDS);
        for odd in [json!(null), json!("soon"), json!(-1), json!(1e30), too_old] {
            assert_eq!(fate(CART_ABANDONED, cart(json!(null)), odd), is(AT, "abandoned", None));
        }
    }

    #[test]
    fn a_price_list_that_is_deleted_concerns_all_its_prices() {
        let known = |scope: &str, data: Value| match callback(scope, &data) {
            Ok(Mapped::Known(EntityKind::Price, prefixes)) => prefixes,
            Ok(other) => unreachable!("{other:?}"),
            Err(error) => vec![error.to_string()],
        };
        assert_eq!(known(PRICE_LIST_DELETED, json!({"price_list_id": 5})), ["5:"]);
        assert_eq!(known(PRICE_LISTS_DELETED, json!({"price_list_ids": [5, "6", 5]})), ["5:", "6:"]);
        assert_eq!(known(PRICE_LISTS_DELETED, json!({"price_list_ids": 5})), ["5:"]);
        assert_eq!(known(PRICE_LISTS_DELETED, json!([{"price_list_id": 5}, {"price_list_id": 7}])), ["5:", "7:"]);
        for bad in [
            json!(null),
            json!({}),
            json!({"price_list_ids": []}),
            json!({"price_list_ids": [5, null]}),
            json!({"price_list_ids": [true]}),
            json!({"price_list_id": "5:1"}),
            json!([]),
        ] {
            let why = ["the body is not what the platform documents, at data: the id"];
            assert_eq!(known(PRICE_LISTS_DELETED, bad.clone()), why, "{bad}");
        }
    }

    #[test]
    fn notices_carry_no_more_than_digits() {
        let notice = |scope: &str, data: Value| {
            let body = json!({ "scope": scope, "data": data }).to_string();
            BigCommerce.read(scope, body.as_bytes(), AT).map(|notice| (notice.kind, notice.detail, notice.received))
        };
        let exception = |detail: &str| Ok(("delivery-exception".to_owned(), detail.to_owned(), AT));
        let uninstalled = notice(APP_UNINSTALLED, json!({"type":"store"}));
        assert_eq!(uninstalled, Ok(("uninstalled".to_owned(), String::new(), AT)));
        let full = json!({"type":"webhook","id":20_000_001,"error_code":90002,"message":"text"});
        assert_eq!(notice(DELIVERY_EXCEPTION, full), exception("90002 20000001"));
        assert_eq!(notice(DELIVERY_EXCEPTION, json!({"id":"x y","error_code":"90001"})), exception("90001"));
        assert_eq!(notice(DELIVERY_EXCEPTION, json!(null)), exception(""));
        assert!(BigCommerce.read(APP_UNINSTALLED, b"<html>", AT).is_err());
    }

    #[test]
    fn what_is_ignored_has_a_named_rule() {
        for (scope, rule) in [
            ("store/product/metafield/updated", METAFIELD),
            ("store/order/metafield/created", METAFIELD),
            ("store/subscriber/created", SUBSCRIBER),
            ("store/channel/1/order/updated", CHANNEL_COPY),
            ("store/channel/1/cart/lineItem/created", CHANNEL_COPY),
            ("store/information/updated", STORE_INFORMATION),
            ("store/channel/*/category/updated", Rule::UNKNOWN_SCOPE),
            ("store/product/reviewed", Rule::UNKNOWN_SCOPE),
            ("", Rule::UNKNOWN_SCOPE),
        ] {
            assert_eq!(resolve(&super::super::PLATFORM, scope), Resolved::Ignored(rule), "{scope}");
        }
    }
}
