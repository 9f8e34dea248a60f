//! What the processor has to know of BigCommerce: its entity processors, which entity a callback is about, the calls
//! that make its bucket, and how its REST objects become canonical entities.

use std::{collections::BTreeSet, mem::take, slice};

use http::Method;
use rust_decimal::Decimal;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use url::Url;

use super::wire;
use crate::{
    api::{ApiRequest, ApiResponse, Fault},
    change::{Change, Delete, Facets, Upsert},
    entity::{
        Address, Cart, Category, CategoryEntity, Choice, Content, CurrencyPrice, Customer, CustomerId, EntityKind,
        ExternalId, Line, Order, OrderId, Package, Payment, Price, Product, ProductId, ShippingLine, Stock, Totals,
    },
    envelope::{Listing, Transfer},
    outcome::Rule,
    platforms::{
        Access, Budget, Incoming, Listed, MapError, Mapped, Mapping, Next, Notice, UNINSTALLED, Wanted, paging::Place,
    },
    stamp::Stamp,
    transfer::{Action, Direction, EntityProcessor, Payload, Polling, Scope, child, own},
};

/// The processor's view.
pub struct BigCommerce;

/// Rises when the mapping's output changes, so that replayed deliveries win over what was made of them before.
const MAPPING: u32 = 1;

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
            own("store/cart/abandoned", Action::Updated),
            own("store/cart/couponApplied", Action::Updated),
            own("store/cart/converted", Action::Updated),
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
        ],
        &[],
    ),
];

/// The store is closed, or the app was removed; whether it comes in the second case is not documented.
const APP_UNINSTALLED: &str = "store/app/uninstalled";
/// Deliveries fail: 90001 will be retried, 90002 switched a hook off, 90003 blocked the domain for a while.
pub(super) const DELIVERY_EXCEPTION: &str = "store/hook/deliveryException";

/// What apps attach to entities. None of the entities here holds it.
const METAFIELD: Rule = Rule("bigcommerce-metafield");
/// Readers of the store's newsletter.
const SUBSCRIBER: Rule = Rule("bigcommerce-subscriber");
/// What is sent for one channel beside what is sent for the store.
const CHANNEL_COPY: Rule = Rule("bigcommerce-channel-copy");
/// Name, address or currency of the store.
const STORE_INFORMATION: Rule = Rule("bigcommerce-store-information");
/// Orders that a shopper began and never paid: they, too, are told of as created.
const INCOMPLETE_ORDER: Rule = Rule("bigcommerce-incomplete-order");

/// Left out of products: what changes without anybody changing the product.
const VOLATILE_PRODUCT: &[&str] = &["total_sold", "view_count", "reviews_count", "reviews_rating_sum"];
/// Left out of categories, as above.
const VOLATILE_CATEGORY: &[&str] = &["views"];
/// Left out of customers: what follows from the rest.
const VOLATILE_CUSTOMER: &[&str] = &["attribute_count"];
/// Left out of orders: links to what is pulled, or could be.
const LINKS: &[&str] = &["products", "shipping_addresses", "coupons", "consignments", "fees"];
/// Left out of carts: with them, anybody could check out as the shopper.
const SECRET_CART: &[&str] = &["redirect_urls"];
/// Left out of price records: what the entity has already, and what a price says only of now.
const REDUNDANT_RECORD: &[&str] = &["calculated_price", "date_created"];

/// The statuses that all stores have, by their id; merchants name them anew [`orders.v2.oas2.yml`, `order_statuses`].
const STATUSES: [&str; 15] = [
    "Incomplete",
    "Pending",
    "Shipped",
    "Partially Shipped",
    "Refunded",
    "Cancelled",
    "Declined",
    "Awaiting Payment",
    "Awaiting Pickup",
    "Awaiting Shipment",
    "Completed",
    "Awaiting Fulfillment",
    "Manual Verification Required",
    "Disputed",
    "Partially Refunded",
];

/// The most that a page of v3 holds.
const V3_PAGE: usize = 250;
/// What a page of v2 holds by default. Whether more can be had is not documented for all lists, and a page that is
/// shorter than was asked for must mean that it is the last.
const V2_PAGE: usize = 50;
/// More pages than any list has.
const MAX_PAGES: usize = 40;
/// How long an overloaded store is left alone, in seconds.
const OVERLOADED_SECONDS: i64 = 120;

impl Mapping for BigCommerce {
    fn processors(&self) -> &'static [EntityProcessor] {
        PROCESSORS
    }

    fn notices(&self) -> &'static [&'static str] {
        &[APP_UNINSTALLED, DELIVERY_EXCEPTION]
    }

    fn notice(&self, scope: &str, body: &[u8], received: Stamp) -> Result<Notice, MapError> {
        let callback = wire::callback(body).ok_or_else(not_json)?;
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
        let data = wire::callback(incoming.body).ok_or_else(not_json)?.data;
        let entries = match &data {
            Value::Array(entries) => entries.as_slice(),
            one => slice::from_ref(one),
        };
        let ids: Option<BTreeSet<ExternalId>> = entries.iter().map(|entry| subject(entity, scope, entry)).collect();
        let ids = ids.filter(|ids| !ids.is_empty()).ok_or_else(|| MapError::Malformed("data: the id".into()))?;
        let mut rest = ids.into_iter();
        match (rest.next(), rest.len()) {
            (Some(id), 0) if entity != EntityKind::Price => Ok(match incoming.action {
                Action::Deleted => Mapped::Change(id, Change::Delete(Delete { source: None, received })),
                _ => Mapped::Pull(id),
            }),
            (first, _) => {
                let transfer = |id| Transfer::new(entity, id, format!("named by {scope}"));
                Ok(Mapped::Split(first.into_iter().chain(rest).map(transfer).collect()))
            }
        }
    }

    fn page_size(&self, listing: &Listing) -> usize {
        if listed_entity(listing).is_ok_and(|entity| entity == EntityKind::Order) { V2_PAGE } else { V3_PAGE }
    }

    /// The smallest plans have 150 calls in 30 seconds for all apps of a store together; this leaves a third to the
    /// others [`api-rate-limits.mdx`].
    fn budget(&self) -> Budget {
        Budget { calls: 100, seconds: 30 }
    }

    fn pull(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Result<Next, Fault> {
        let mut bucket = Bucket { wanted: *wanted, answers: answers.iter() };
        let mapped = match wanted.entity {
            EntityKind::Product => bucket.product(),
            EntityKind::Category => bucket.category(),
            EntityKind::Customer => bucket.customer(),
            EntityKind::Order => bucket.order(),
            EntityKind::Cart => bucket.cart(),
            EntityKind::Price => bucket.price(),
            other => Err(Stop::Fault(Fault::Unreadable(format!("BigCommerce has no {other}")))),
        };
        match mapped {
            Ok(mapped) => Ok(Next::Done(mapped)),
            Err(Stop::Next(next)) => Ok(*next),
            Err(Stop::Fault(fault)) => Err(fault),
        }
    }

    /// Of all, too, in the order of their changes: what changes meanwhile comes again further on.
    fn poll(&self, entity: EntityKind, since: Option<Stamp>) -> Option<Listing> {
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

    fn listed(
        &self,
        _access: &Access<'_>,
        listing: &Listing,
        response: &ApiResponse,
        at: Stamp,
    ) -> Result<Listed, Fault> {
        let (entity, place) = (listed_entity(listing)?, Place::of(listing)?);
        if !response.is_success() {
            return Err(fault(response, at));
        }
        let (entries, pagination): (Vec<wire::Entry>, _) = match entity {
            // An empty list of v2 is no content.
            EntityKind::Order if response.status == 204 || response.body.is_empty() => (Vec::new(), None),
            EntityKind::Order => (response.read()?, None),
            _ => {
                let page: wire::Page<wire::Entry> = response.read()?;
                (page.data, page.meta.pagination)
            }
        };
        let times: Vec<_> = entries.iter().map(|entry| entry.date_modified.map(Stamp::from)).collect();
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

fn not_json() -> MapError {
    MapError::Malformed("its beginning: no JSON object".into())
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
    let credentials: super::subscriptions::Credentials =
        serde_json::from_str(access.credentials).map_err(|_| broken("credentials"))?;
    let mut url = Url::parse(access.site).map_err(|_| broken("site"))?;
    url.path_segments_mut().map_err(|()| broken("site"))?.pop_if_empty().extend(path);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    ApiRequest::with_secret(method, url, "x-auth-token", &credentials.access_token)
}

/// What an answer means that is no success [`api-rate-limits.mdx`, `status-codes.mdx`].
pub(super) fn fault(response: &ApiResponse, now: Stamp) -> Fault {
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

/// Why a bucket is not complete: something has to be asked first, or it ends before, or it cannot be.
enum Stop {
    Next(Box<Next>),
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn unreadable(what: impl Into<String>) -> Stop {
    Stop::Fault(Fault::Unreadable(what.into()))
}

fn done(mapped: Mapped) -> Stop {
    Stop::Next(Box::new(Next::Done(mapped)))
}

/// An entity with what must come with it: read from the answers as far as they go.
struct Bucket<'a> {
    wanted: Wanted<'a>,
    answers: slice::Iter<'a, ApiResponse>,
}

impl<'a> Bucket<'a> {
    /// The next answer; without it, its call is what comes next.
    fn answer(&mut self, path: &[&str], query: &[(&str, &str)]) -> Result<&'a ApiResponse, Stop> {
        match self.answers.next() {
            Some(answer) => Ok(answer),
            None => {
                let request = call(&self.wanted.access, Method::GET, path, query)?;
                Err(Stop::Next(Box::new(Next::Ask(request))))
            }
        }
    }

    fn read<T: DeserializeOwned>(&self, answer: &ApiResponse) -> Result<T, Stop> {
        if !answer.is_success() {
            return Err(fault(answer, self.wanted.at).into());
        }
        answer.read().map_err(Stop::from)
    }

    /// The answer for the entity itself, which alone can say that it is gone.
    fn first<T: DeserializeOwned>(&mut self, path: &[&str], query: &[(&str, &str)]) -> Result<T, Stop> {
        let answer = self.answer(path, query)?;
        if answer.status == 404 && wire::is_not_found(&answer.body) {
            return Err(done(self.gone()));
        }
        self.read(answer)
    }

    /// The answer for a part of an entity that was there a call ago. When it is not found, the whole has gone in
    /// between, and the next pull will say so.
    fn part(&mut self, path: &[&str], query: &[(&str, &str)]) -> Result<&'a ApiResponse, Stop> {
        let answer = self.answer(path, query)?;
        if answer.status == 404 && wire::is_not_found(&answer.body) {
            return Err(Fault::Unavailable("the entity is gone between two calls".into()).into());
        }
        Ok(answer)
    }

    /// All pages of a list of v3.
    fn v3_list<T: DeserializeOwned>(&mut self, path: &[&str], query: &[(&str, &str)]) -> Result<Vec<T>, Stop> {
        let mut found = Vec::new();
        for number in 1..=MAX_PAGES {
            let (limit, number_text) = (V3_PAGE.to_string(), number.to_string());
            let mut query = query.to_vec();
            query.extend([("limit", limit.as_str()), ("page", &number_text)]);
            let answer = self.part(path, &query)?;
            let page: wire::Page<T> = self.read(answer)?;
            let count = page.data.len();
            found.extend(page.data);
            let pages = page.meta.pagination.and_then(|pagination| pagination.total_pages);
            if pages.map_or(count < V3_PAGE, |pages| pages <= number as u64) {
                return Ok(found);
            }
        }
        Err(unreadable(format!("more than {MAX_PAGES} pages")))
    }

    /// All pages of a list of v2, which ends with a page that is not full, or with no content at all.
    fn v2_list<T: DeserializeOwned>(&mut self, path: &[&str]) -> Result<Vec<T>, Stop> {
        let mut found = Vec::new();
        for number in 1..=MAX_PAGES {
            let (limit, number) = (V2_PAGE.to_string(), number.to_string());
            let answer = self.part(path, &[("limit", &limit), ("page", &number)])?;
            if answer.status == 204 {
                return Ok(found);
            }
            let page: Vec<T> = self.read(answer)?;
            let full = page.len() >= V2_PAGE;
            found.extend(page);
            if !full {
                return Ok(found);
            }
        }
        Err(unreadable(format!("more than {MAX_PAGES} pages")))
    }

    fn gone(&self) -> Mapped {
        let delete = Delete { source: None, received: self.wanted.at };
        Mapped::Change(self.wanted.id.clone(), Change::Delete(delete))
    }

    fn is_wanted(&self, id: &ExternalId) -> Result<(), Stop> {
        if id == self.wanted.id { Ok(()) } else { Err(unreadable("another id than was asked for")) }
    }

    fn upsert(
        &self,
        source: Option<jiff::Timestamp>,
        entity: &impl Serialize,
        mut extra: Map<String, Value>,
        left_out: &[&str],
    ) -> Result<Mapped, Stop> {
        extra.retain(|name, _| !left_out.contains(&name.as_str()));
        let content = Content::new(entity, extra).map_err(|_| unreadable("the whole"))?;
        let source = source.map(Stamp::from);
        let upsert = Upsert {
            source,
            received: self.wanted.at,
            observed: true,
            mapping: MAPPING,
            content,
            facets: Facets::new(),
        };
        Ok(Mapped::Change(self.wanted.id.clone(), Change::Upsert(upsert)))
    }

    fn product(&mut self) -> Result<Mapped, Stop> {
        let id = self.wanted.id.as_str();
        let path = ["v3", "catalog", "products", id];
        let wire: wire::Data<wire::Product> = self.first(&path, &[("include", "images,custom_fields")])?;
        let mut wire = wire.data;
        self.is_wanted(&wire.id)?;
        let variants: Vec<wire::Variant> = match wire.base_variant_id {
            Some(_) => Vec::new(),
            None => self.v3_list(&["v3", "catalog", "products", id, "variants"], &[])?,
        };
        let mut extra = take(&mut wire.rest);
        // The others are told by their canonical name; prices and lines of orders name this one.
        extra.insert("base_variant_id".into(), json!(wire.base_variant_id));
        extra.insert("inventory_tracking".into(), json!(wire.inventory_tracking));
        extra.insert("upc".into(), json!(wire.gtin.as_ref().and(wire.upc.as_ref())));
        extra.insert("variants".into(), variants.iter().map(|v| (v.id.to_string(), variant(v))).collect());
        wire.images.sort_by_key(|image| (image.is_thumbnail != Some(true), image.sort_order));
        let counted = wire.inventory_tracking.as_deref() != Some("none");
        let entity = Product {
            id: ProductId(wire.id),
            parent: None,
            kind: wire.kind,
            name: wire.name,
            sku: wire.sku,
            barcode: wire.gtin.or(wire.upc),
            status: wire.availability,
            price: wire.calculated_price.or(wire.price),
            regular_price: wire.price,
            sale_price: wire.sale_price,
            currency: None,
            stock: Stock { quantity: wire.inventory_level.filter(|_| counted), status: None },
            description: wire.description,
            url: wire.custom_url.and_then(|custom| custom.url),
            categories: wire.categories.into_iter().map(|id| Category { id, name: None }).collect(),
            images: wire.images.into_iter().filter_map(|image| image.url_zoom.or(image.url_standard)).collect(),
            choices: choices(&variants),
            variations: variants.into_iter().map(|variant| ProductId(variant.id)).collect(),
            created_at: wire.date_created,
            updated_at: wire.date_modified,
        };
        self.upsert(wire.date_modified, &entity, extra, VOLATILE_PRODUCT)
    }

    /// A category has no times.
    fn category(&mut self) -> Result<Mapped, Stop> {
        let path = ["v3", "catalog", "categories", self.wanted.id.as_str()];
        let wire: wire::Data<wire::Category> = self.first(&path, &[])?;
        let wire = wire.data;
        self.is_wanted(&wire.id)?;
        let entity = CategoryEntity {
            id: wire.id,
            parent: wire.parent_id,
            name: wire.name,
            description: wire.description,
            visible: wire.is_visible,
            url: wire.custom_url.and_then(|custom| custom.url),
            updated_at: None,
        };
        self.upsert(None, &entity, wire.rest, VOLATILE_CATEGORY)
    }

    /// There is no path for one customer: one that is not in the list of those with its id is gone.
    fn customer(&mut self) -> Result<Mapped, Stop> {
        let id = self.wanted.id.as_str();
        let query = [("id:in", id), ("include", "addresses")];
        let page: wire::Page<wire::Customer> = self.first(&["v3", "customers"], &query)?;
        let Some(mut wire) = page.data.into_iter().next() else { return Ok(self.gone()) };
        self.is_wanted(&wire.id)?;
        let mut addresses = take(&mut wire.addresses);
        if wire.address_count.is_some_and(|count| count > addresses.len() as u64) {
            addresses = self.v3_list(&["v3", "customers", "addresses"], &[("customer_id:in", id)])?;
        }
        let mut extra = wire.rest;
        // None of them is the billing or the shipping address: shoppers choose with each order.
        let by_id =
            addresses.into_iter().filter_map(|wire| Some((wire.id.as_ref()?.to_string(), json!(address(wire)))));
        extra.insert("addresses".into(), by_id.collect());
        let entity = Customer {
            id: CustomerId(wire.id),
            email: wire.email,
            first_name: wire.first_name,
            last_name: wire.last_name,
            billing: Address::default(),
            shipping: Address::default(),
            created_at: wire.date_created,
            updated_at: wire.date_modified,
        };
        self.upsert(wire.date_modified, &entity, extra, VOLATILE_CUSTOMER)
    }

    fn order(&mut self) -> Result<Mapped, Stop> {
        let id = self.wanted.id.as_str();
        let mut wire: wire::Order = self.first(&["v2", "orders", id], &[])?;
        self.is_wanted(&wire.id)?;
        // Deleting an order archives it: the API goes on showing it.
        if wire.is_deleted == Some(true) {
            return Ok(self.gone());
        }
        if wire.status_id == Some(0) {
            return Ok(Mapped::Ignored(INCOMPLETE_ORDER));
        }
        let lines: Vec<wire::Line> = self.v2_list(&["v2", "orders", id, "products"])?;
        let addresses: Vec<wire::Address> = self.v2_list(&["v2", "orders", id, "shipping_addresses"])?;
        let shipments: Vec<wire::Shipment> = self.v2_list(&["v2", "orders", id, "shipments"])?;

        let mut extra = take(&mut wire.rest);
        extra.retain(|name, _| !LINKS.contains(&name.as_str()));
        extra.insert("status_id".into(), json!(wire.status_id));
        let seen = wire.currency_code.as_ref().filter(|code| wire.default_currency_code.as_ref() != Some(*code));
        extra.insert("currency_code".into(), json!(seen));
        let lines = keep_rest(&mut extra, "products", lines, |line| (&line.id, take(&mut line.rest)));
        let shipping_lines = addresses.iter().filter_map(shipping_line).collect();
        let mut places = addresses.into_iter();
        let shipping = places.next().map(address).unwrap_or_default();
        let others = places.filter_map(|wire| Some((wire.id.as_ref()?.to_string(), json!(address(wire)))));
        extra.insert("other_shipping_addresses".into(), others.collect());

        let entity = Order {
            number: Some(wire.id.to_string()),
            id: OrderId(wire.id),
            parent: None,
            status: status(wire.status_id, wire.status).ok_or_else(|| unreadable("status_id"))?,
            currency: wire.default_currency_code.or(wire.currency_code),
            customer: wire.customer_id.map(CustomerId),
            totals: Totals {
                total: wire.total_inc_tax,
                tax: wire.total_tax,
                shipping: wire.shipping_cost_ex_tax,
                shipping_tax: wire.shipping_cost_tax,
                discount: wire.discount_amount,
                discount_tax: None,
                prices_include_tax: None,
            },
            lines: lines
                .into_iter()
                .map(|line| Line {
                    id: line.id,
                    product: line.product_id.map(ProductId),
                    variation: line.variant_id.map(ProductId),
                    name: line.name,
                    sku: line.sku,
                    quantity: line.quantity,
                    price: line.price_ex_tax,
                    subtotal: None,
                    total: line.total_ex_tax,
                    tax: line.total_tax,
                })
                .collect(),
            shipping_lines,
            fees: Vec::new(),
            coupons: Vec::new(),
            taxes: Vec::new(),
            refunds: Vec::new(),
            billing: wire.billing_address.map(address).unwrap_or_default(),
            shipping,
            payment: Payment {
                method: wire.payment_method,
                title: None,
                transaction: wire.payment_provider_id,
                paid_at: None,
            },
            payments: Default::default(),
            packages: shipments.into_iter().map(|shipment| (shipment.id.to_string(), package(shipment))).collect(),
            note: wire.customer_message,
            created_at: wire.date_created,
            updated_at: wire.date_modified,
            completed_at: None,
        };
        self.upsert(wire.date_modified, &entity, extra, &[])
    }

    fn cart(&mut self) -> Result<Mapped, Stop> {
        let wire: wire::Data<wire::Cart> = self.first(&["v3", "carts", self.wanted.id.as_str()], &[])?;
        let wire = wire.data;
        self.is_wanted(&wire.id)?;
        let mut extra = wire.rest;
        let items = wire.line_items;
        let items = [items.physical_items, items.digital_items, items.gift_certificates, items.custom_items];
        let items = items.into_iter().flatten().collect();
        let items = keep_rest(&mut extra, "line_items", items, |item| (&item.id, take(&mut item.rest)));
        let entity = Cart {
            id: wire.id,
            customer: wire.customer_id.map(CustomerId),
            email: wire.email,
            currency: wire.currency.and_then(|currency| currency.code),
            total: wire.cart_amount,
            lines: items
                .into_iter()
                .map(|item| Line {
                    id: item.id,
                    product: item.product_id.map(ProductId),
                    variation: item.variant_id.map(ProductId),
                    name: item.name,
                    sku: item.sku,
                    quantity: item.quantity.unwrap_or(Decimal::ONE),
                    price: item.sale_price.or(item.list_price).or(item.amount),
                    subtotal: item.extended_list_price.or(item.amount),
                    total: item.extended_sale_price.or(item.extended_list_price).or(item.amount),
                    tax: None,
                })
                .collect(),
            coupons: wire.coupons.into_iter().filter_map(|coupon| coupon.code).collect(),
            created_at: wire.created_time,
            updated_at: wire.updated_time,
        };
        self.upsert(wire.updated_time, &entity, extra, SECRET_CART)
    }

    fn price(&mut self) -> Result<Mapped, Stop> {
        let Some((list, variant)) = self.wanted.id.as_str().split_once(':') else {
            return Err(unreadable("an id that is not {price list}:{variant}"));
        };
        let page: wire::Page<wire::Record> = self.first(&["v3", "pricelists", list, "records", variant], &[])?;
        let mut records = page.data;
        if records.is_empty() {
            return Ok(self.gone());
        }
        if records.iter().any(|record| record.price_list_id.as_str() != list || record.variant_id.as_str() != variant) {
            return Err(unreadable("another id than was asked for"));
        }
        for record in &mut records {
            record.currency.make_ascii_uppercase();
        }
        records.sort_by(|a, b| a.currency.cmp(&b.currency));
        let rest = records.iter_mut().map(|record| {
            let mut rest = take(&mut record.rest);
            rest.retain(|name, _| !REDUNDANT_RECORD.contains(&name.as_str()));
            (record.currency.clone(), Value::Object(rest))
        });
        let extra = Map::from_iter([("records".to_owned(), rest.collect())]);
        let (Some(list), Some(variant)) = (list.parse().ok(), variant.parse().ok()) else {
            return Err(unreadable("an id that is not {price list}:{variant}"));
        };
        let entity = Price {
            id: self.wanted.id.clone(),
            list,
            variation: ProductId(variant),
            prices: records
                .into_iter()
                .map(|record| CurrencyPrice {
                    currency: record.currency,
                    price: record.price,
                    sale_price: record.sale_price,
                    retail_price: record.retail_price,
                })
                .collect(),
        };
        // Each record has a time, the whole has none: the latest of them goes back when its record is deleted.
        self.upsert(None, &entity, extra, &[])
    }
}

/// Puts what lines have beyond the canonical fields under `extra`, by the platform's name of the list and the line's
/// id.
fn keep_rest<T>(
    extra: &mut Map<String, Value>,
    name: &str,
    mut lines: Vec<T>,
    split: impl Fn(&mut T) -> (&ExternalId, Map<String, Value>),
) -> Vec<T> {
    let mut by_id = Map::new();
    for line in &mut lines {
        let (id, rest) = split(line);
        by_id.insert(id.to_string(), Value::Object(rest));
    }
    extra.insert(name.to_owned(), Value::Object(by_id));
    lines
}

/// What a variant has of its own. Not all that BigCommerce gives of it: a product can have 600.
fn variant(wire: &wire::Variant) -> Value {
    json!({
        "sku": wire.sku,
        "barcode": wire.gtin.as_ref().or(wire.upc.as_ref()),
        "price": wire.calculated_price.or(wire.price),
        "regular_price": wire.price,
        "sale_price": wire.sale_price,
        "quantity": wire.inventory_level,
        "disabled": wire.purchasing_disabled.filter(|disabled| *disabled),
        "image": wire.image_url,
        "choices": wire
            .option_values
            .iter()
            .filter_map(|value| Some((value.option_display_name.clone()?, json!(value.label))))
            .collect::<Map<_, _>>(),
    })
}

/// What can be chosen of a product: what its variants are a choice of.
fn choices(variants: &[wire::Variant]) -> Vec<Choice> {
    let mut choices: Vec<Choice> = Vec::new();
    for value in variants.iter().flat_map(|variant| &variant.option_values) {
        let Some(label) = &value.label else { continue };
        match choices.iter_mut().find(|choice| choice.name == value.option_display_name) {
            Some(choice) if choice.values.contains(label) => {}
            Some(choice) => choice.values.push(label.clone()),
            None => choices.push(Choice { name: value.option_display_name.clone(), values: vec![label.clone()] }),
        }
    }
    choices
}

fn address(wire: wire::Address) -> Address {
    Address {
        first_name: wire.first_name,
        last_name: wire.last_name,
        company: wire.company,
        line1: wire.address1,
        line2: wire.address2,
        city: wire.city,
        region: wire.state_or_province,
        postcode: wire.postal_code,
        country: wire.country_code,
        email: wire.email,
        phone: wire.phone,
    }
}

fn shipping_line(wire: &wire::Address) -> Option<ShippingLine> {
    let (id, title) = (wire.id.clone()?, wire.shipping_method.clone()?);
    Some(ShippingLine { id, method: None, title: Some(title), total: wire.cost_ex_tax, tax: wire.cost_tax })
}

fn package(wire: wire::Shipment) -> Package {
    Package {
        status: None,
        carrier: wire.shipping_provider.or(wire.tracking_carrier),
        method: wire.shipping_method,
        tracking_number: wire.tracking_number,
        shipped_at: wire.date_created,
    }
}

/// By the id, where it is known: what else an order says of its status is the merchant's to choose.
fn status(id: Option<u64>, text: Option<String>) -> Option<String> {
    let known = id.and_then(|id| STATUSES.get(usize::try_from(id).ok()?)).map(|&name| name.to_owned());
    known.or(text).or_else(|| id.map(|id| id.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::{
        platforms::declared_scopes,
        request::HookPath,
        transfer::{Resolved, resolve},
    };

    const AT: Stamp = Stamp::from_millis(1_760_000_000_000);

    fn delivered(scope: &str, body: &str) -> Result<Mapped, MapError> {
        let Resolved::Entity(entity, action) = resolve(&BigCommerce, scope) else { unreachable!("{scope}") };
        let connection = HookPath::parse("bigcommerce", "abc123", None).unwrap().key;
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

    fn pull(entity: EntityKind, id: &str, answers: &[ApiResponse]) -> Result<Next, Fault> {
        let none = Map::new();
        let site = "https://api.bigcommerce.com/stores/abc123";
        let access = Access { site, credentials: r#"{"access_token":"tok"}"#, settings: &none };
        BigCommerce.pull(&Wanted { access, entity, id: &id.parse().unwrap(), at: AT }, answers)
    }

    /// Gives the scripted answers one after the other; what was asked for them, below the store's path, and what came
    /// of it.
    fn run(entity: EntityKind, id: &str, answers: &[ApiResponse]) -> (Vec<String>, Result<Mapped, Fault>) {
        let mut asked = Vec::new();
        for count in 0..=answers.len() {
            match pull(entity, id, &answers[..count]) {
                Ok(Next::Ask(request)) => {
                    assert_eq!(request.headers["x-auth-token"], "tok");
                    asked.push(request.url.as_str().split_once("/stores/abc123/").unwrap().1.to_owned());
                }
                Ok(Next::Done(mapped)) => return (asked, Ok(mapped)),
                Err(fault) => return (asked, Err(fault)),
            }
        }
        unreachable!("more is asked than is scripted: {asked:?}")
    }

    fn content(mapped: Result<Mapped, Fault>) -> (Option<String>, Value, Value) {
        let Ok(Mapped::Change(_, Change::Upsert(upsert))) = mapped else { unreachable!("{mapped:?}") };
        assert!(upsert.observed && upsert.received == AT);
        let source = upsert.source.map(|at| at.to_string());
        (source, Value::Object(upsert.content.fields), Value::Object(upsert.content.extra))
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
            |listing: &Listing, answer: &ApiResponse| BigCommerce.listed(&access, listing, answer, AT).unwrap();
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
        assert!(matches!(BigCommerce.listed(&access, &orders, &old, AT), Err(Fault::Unreadable(_))));
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
            (json!({"type":"cart","id":"09346904","token":"t"}), &["cart/abandoned"], "09346904"),
            (json!({"type":"cart","id":"09346904","couponId":1}), &["cart/couponApplied"], "09346904"),
            (json!({"type":"cart","id":"09346904","orderId":250}), &["cart/converted"], "09346904"),
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
        let prices = |scope: &&str| scope.starts_with("store/priceList/") || BigCommerce.notices().contains(scope);
        let missing: Vec<_> =
            declared_scopes(&BigCommerce).filter(|scope| !seen.contains(*scope) && !prices(scope)).collect();
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
    fn notices_carry_no_more_than_digits() {
        let notice = |scope: &str, data: Value| {
            let body = json!({ "scope": scope, "data": data }).to_string();
            BigCommerce.notice(scope, body.as_bytes(), AT).map(|notice| (notice.kind, notice.detail, notice.received))
        };
        let exception = |detail: &str| Ok(("delivery-exception".to_owned(), detail.to_owned(), AT));
        let uninstalled = notice(APP_UNINSTALLED, json!({"type":"store"}));
        assert_eq!(uninstalled, Ok(("uninstalled".to_owned(), String::new(), AT)));
        let full = json!({"type":"webhook","id":20_000_001,"error_code":90002,"message":"text"});
        assert_eq!(notice(DELIVERY_EXCEPTION, full), exception("90002 20000001"));
        assert_eq!(notice(DELIVERY_EXCEPTION, json!({"id":"x y","error_code":"90001"})), exception("90001"));
        assert_eq!(notice(DELIVERY_EXCEPTION, json!(null)), exception(""));
        assert!(BigCommerce.notice(APP_UNINSTALLED, b"<html>", AT).is_err());
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
            assert_eq!(resolve(&BigCommerce, scope), Resolved::Ignored(rule), "{scope}");
        }
    }

    fn product(base_variant_id: Value) -> Value {
        json!({
            "id": 174, "name": "Jar 1L", "type": "physical", "sku": "JAR-1L", "price": 9.95, "sale_price": 0,
            "calculated_price": 7.95,
            "categories": [21, 23], "brand_id": 36, "inventory_level": 12, "inventory_tracking": "product",
            "is_visible": true,
            "availability": "available", "date_created": "2025-02-01T10:00:00+00:00",
            "date_modified": "2025-03-01T11:22:33+00:00",
            "base_variant_id": base_variant_id, "custom_url": {"url": "/jar-1l/", "is_customized": false},
            "total_sold": 5,
            "view_count": 7, "gtin": "", "upc": "012345678905", "cost_price": 3.1,
            "images": [
                {"url_zoom": "https://cdn.example.com/b.jpg", "sort_order": 0, "is_thumbnail": false},
                {"url_standard": "https://cdn.example.com/a.jpg", "sort_order": 1, "is_thumbnail": true},
            ],
            "custom_fields": [{"id": 1, "name": "Glass", "value": "green"}],
        })
    }

    #[test]
    fn a_simple_product_is_one_call() {
        let (asked, mapped) = run(EntityKind::Product, "174", &[v3(&product(json!(345)))]);
        assert_eq!(asked, ["v3/catalog/products/174?include=images%2Ccustom_fields"]);
        let (source, fields, extra) = content(mapped);
        assert_eq!(source.as_deref(), Some("2025-03-01T11:22:33Z"));
        assert_eq!(
            fields,
            json!({
                "id": "174", "kind": "physical", "name": "Jar 1L", "sku": "JAR-1L", "barcode": "012345678905",
                "status": "available",
                "price": "7.95", "regular_price": "9.95", "stock": {"quantity": "12"}, "url": "/jar-1l/",
                "categories": [{"id": "21"}, {"id": "23"}],
                "images": ["https://cdn.example.com/a.jpg", "https://cdn.example.com/b.jpg"],
                "created_at": "2025-02-01T10:00:00Z", "updated_at": "2025-03-01T11:22:33Z",
            })
        );
        assert_eq!(
            extra,
            json!({
                "base_variant_id": "345", "brand_id": 36, "cost_price": 3.1, "inventory_tracking": "product",
                "is_visible": true,
                "custom_fields": [{"id": 1, "name": "Glass", "value": "green"}],
            })
        );
    }

    #[test]
    fn stock_that_nobody_counts_is_none() {
        let mut product = product(json!(345));
        product["inventory_tracking"] = json!("none");
        let (_, fields, _) = content(run(EntityKind::Product, "174", &[v3(&product)]).1);
        assert!(fields.get("stock").is_none());
    }

    #[test]
    fn variants_are_asked_for_until_their_last_page() {
        let variant = |id: u32, size: &str| {
            json!({
                "id": id, "sku": format!("JAR-{size}"), "price": null, "calculated_price": 7.95, "inventory_level": 3,
                "purchasing_disabled": false, "option_values": [{"option_display_name": "Size", "label": size}],
            })
        };
        let page = |number: u32, variants: Value| {
            answer(
                200,
                &json!({ "data": variants, "meta": {"pagination": {"total_pages": 2, "current_page": number}} }),
            )
        };
        let answers = [
            v3(&product(json!(null))),
            page(1, json!([variant(1, "S"), variant(2, "L")])),
            page(2, json!([variant(3, "S")])),
        ];
        let (asked, mapped) = run(EntityKind::Product, "174", &answers);
        let variants = "v3/catalog/products/174/variants?limit=250&page=";
        assert_eq!(asked[1..], [format!("{variants}1"), format!("{variants}2")]);
        let (_, fields, extra) = content(mapped);
        assert_eq!(fields["variations"], json!(["1", "2", "3"]));
        assert_eq!(fields["choices"], json!([{"name": "Size", "values": ["S", "L"]}]));
        assert_eq!(
            extra["variants"]["2"],
            json!({"sku": "JAR-L", "price": "7.95", "quantity": "3", "choices": {"Size": "L"}})
        );
        // Without a word about pages, one that is not full is the last.
        let (asked, mapped) = run(EntityKind::Product, "174", &[v3(&product(json!(null))), v3(&json!([]))]);
        assert!(asked.len() == 2 && mapped.is_ok());
        let endless: Vec<_> = std::iter::once(answers[0].clone())
            .chain(
                (0..MAX_PAGES).map(|_| answer(200, &json!({"data": [], "meta": {"pagination": {"total_pages": 999}}}))),
            )
            .collect();
        assert!(matches!(run(EntityKind::Product, "174", &endless).1, Err(Fault::Unreadable(_))));
    }

    fn order() -> Value {
        json!({
            "id": 250, "customer_id": 0, "date_created": "Tue, 05 Mar 2019 21:40:11 +0000",
            "date_modified": "Wed, 06 Mar 2019 21:40:11 +0000", "date_shipped": "", "status_id": 11, "status": "Wartet",
            "custom_status": "Wartet", "total_inc_tax": "67.8400", "total_tax": "7.8400",
            "shipping_cost_ex_tax": "10.0000",
            "shipping_cost_tax": "0.0000", "discount_amount": "0.0000", "refunded_amount": "5.0000",
            "currency_code": "EUR",
            "default_currency_code": "USD", "is_deleted": false, "payment_method": "Manual", "customer_message": "",
            "billing_address": {"first_name": "Ann", "street_1": "1 Road", "state": "Texas", "zip": "7",
            "country": "United States",
                "country_iso2": "US", "email": "ann@example.com", "form_fields": []},
            "products": {"url": "https://api.bigcommerce.com/x", "resource": "/orders/250/products"},
            "shipping_addresses": {"url": "https://api.bigcommerce.com/x",
            "resource": "/orders/250/shipping_addresses"},
            "coupons": {"url": "https://api.bigcommerce.com/x", "resource": "/orders/250/coupons"},
            "consignments": {"url": "https://api.bigcommerce.com/x", "resource": "/orders/250/consignments"},
            "fees": {"url": "https://api.bigcommerce.com/x", "resource": "/orders/250/fees"},
        })
    }

    fn line(id: usize) -> Value {
        json!({
            "id": id, "order_id": 250, "product_id": 174, "variant_id": 345, "name": "Jar", "sku": "JAR-1L",
            "quantity": 2,
            "price_ex_tax": "25.0000", "total_ex_tax": "50.0000", "total_tax": "7.8400", "base_price": "25.0000",
        })
    }

    #[test]
    fn an_order_is_a_bucket_of_several_calls() {
        let address = json!({
            "id": 9, "order_id": 250, "first_name": "Bob", "street_1": "2 Road", "country_iso2": "US",
            "shipping_method": "Ground",
            "cost_ex_tax": "10.0000", "cost_tax": "0.0000",
        });
        let shipment = json!({
            "id": 12, "order_id": 250, "tracking_number": "T1", "shipping_provider": "", "tracking_carrier": "ups",
            "shipping_method": "Ground", "date_created": "Thu, 07 Mar 2019 21:40:11 +0000",
        });
        let answers = [
            answer(200, &order()),
            answer(200, &json!([line(1)])),
            answer(200, &json!([address])),
            answer(200, &json!([shipment])),
        ];
        let (asked, mapped) = run(EntityKind::Order, "250", &answers);
        assert_eq!(
            asked,
            [
                "v2/orders/250",
                "v2/orders/250/products?limit=50&page=1",
                "v2/orders/250/shipping_addresses?limit=50&page=1",
                "v2/orders/250/shipments?limit=50&page=1",
            ]
        );
        let (source, fields, extra) = content(mapped);
        assert_eq!(source.as_deref(), Some("2019-03-06T21:40:11Z"));
        assert_eq!(
            fields,
            json!({
                "id": "250", "number": "250", "status": "Awaiting Fulfillment", "currency": "USD",
                "totals": {"total": "67.84", "tax": "7.84", "shipping": "10", "shipping_tax": "0", "discount": "0"},
                "lines": [{"id": "1", "product": "174", "variation": "345", "name": "Jar", "sku": "JAR-1L",
                "quantity": "2",
                    "price": "25", "total": "50", "tax": "7.84"}],
                "shipping_lines": [{"id": "9", "title": "Ground", "total": "10", "tax": "0"}],
                "billing": {"first_name": "Ann", "line1": "1 Road", "region": "Texas", "postcode": "7", "country": "US",
                    "email": "ann@example.com"},
                "shipping": {"first_name": "Bob", "line1": "2 Road", "country": "US"},
                "payment": {"method": "Manual"},
                "packages": {"12": {"carrier": "ups", "method": "Ground", "tracking_number": "T1",
                "shipped_at": "2019-03-07T21:40:11Z"}},
                "created_at": "2019-03-05T21:40:11Z", "updated_at": "2019-03-06T21:40:11Z",
            })
        );
        assert_eq!(extra["products"]["1"]["base_price"], "25.0000");
        assert_eq!(extra["refunded_amount"], "5.0000");
        assert_eq!((&extra["status_id"], &extra["currency_code"]), (&json!(11), &json!("EUR")));
        assert!(!extra.to_string().contains("https://"), "a link: {extra}");
    }

    #[test]
    fn lists_of_v2_end_with_a_page_that_is_not_full_or_with_no_content() {
        let full = |from: usize| answer(200, &(from..from + V2_PAGE).map(line).collect());
        let lines = |pages: &[ApiResponse]| {
            let mut answers = vec![answer(200, &order())];
            answers.extend_from_slice(pages);
            answers.extend([answer(200, &json!([])), no_content()]);
            let (asked, mapped) = run(EntityKind::Order, "250", &answers);
            assert_eq!(asked.len(), answers.len());
            content(mapped).1["lines"].as_array().map_or(0, Vec::len)
        };
        assert_eq!(lines(&[no_content()]), 0);
        assert_eq!(lines(&[answer(200, &json!([line(1)]))]), 1);
        assert_eq!(lines(&[full(1), answer(200, &json!([line(60)]))]), 51);
        assert_eq!(lines(&[full(1), no_content()]), 50);
    }

    #[test]
    fn incomplete_and_archived_orders_are_none() {
        let with = |name: &str, value: Value| {
            let mut order = order();
            order[name] = value;
            run(EntityKind::Order, "250", &[answer(200, &order)])
        };
        assert_eq!(with("status_id", json!(0)), (vec!["v2/orders/250".into()], Ok(Mapped::Ignored(INCOMPLETE_ORDER))));
        assert_eq!(with("is_deleted", json!(true)).1, Ok(gone("250")));
        assert!(matches!(with("id", json!(251)).1, Err(Fault::Unreadable(_))));
    }

    #[test]
    fn a_customer_comes_with_all_addresses() {
        let address = |id: u32| {
            json!({"id": id, "customer_id": 5, "address1": "1 Road", "country_code": "US",
        "country": "United States"})
        };
        let customer = |count: u32| {
            json!([{"id": 5, "email": "ann@example.com", "first_name": "Ann", "company": "Jars", "address_count": count,
                "addresses": [address(60)], "date_modified": "2025-03-01T11:22:33Z"}])
        };
        let first = "v3/customers?id%3Ain=5&include=addresses";
        let (asked, mapped) = run(EntityKind::Customer, "5", &[v3(&customer(1))]);
        assert_eq!(asked, [first]);
        let (_, fields, extra) = content(mapped);
        assert_eq!((&fields["email"], &extra["company"]), (&json!("ann@example.com"), &json!("Jars")));
        assert_eq!(extra["addresses"], json!({"60": {"line1": "1 Road", "country": "US"}}));

        let (asked, mapped) =
            run(EntityKind::Customer, "5", &[v3(&customer(2)), v3(&json!([address(60), address(61)]))]);
        assert_eq!(asked, [first, "v3/customers/addresses?customer_id%3Ain=5&limit=250&page=1"]);
        assert_eq!(content(mapped).2["addresses"].as_object().map(Map::len), Some(2));
        // An id that the query takes for two brings others, which are not taken.
        assert!(matches!(run(EntityKind::Customer, "4,5", &[v3(&customer(1))]).1, Err(Fault::Unreadable(_))));
    }

    #[test]
    fn categories_carts_and_prices() {
        let category = json!({"id": 8, "parent_id": 0, "name": "Jars", "is_visible": true, "views": 9,
        "custom_url": {"url": "/jars/"}});
        let (asked, mapped) = run(EntityKind::Category, "8", &[v3(&category)]);
        assert_eq!(asked, ["v3/catalog/categories/8"]);
        let expected = json!({"id": "8", "name": "Jars", "visible": true, "url": "/jars/"});
        assert_eq!(content(mapped), (None, expected, json!({})));

        let cart = json!({
            "id": "a-b", "customer_id": 0, "email": "", "currency": {"code": "USD"}, "cart_amount": 30.5,
            "coupons": [{"code": "TEN"}],
            "line_items": {
                "physical_items": [{"id": "l1", "product_id": 174, "variant_id": 345, "name": "Jar", "quantity": 2,
                "list_price": 11,
                    "sale_price": 10, "extended_list_price": 22, "extended_sale_price": 20, "is_taxable": true}],
                "gift_certificates": [{"id": "l2", "name": "Gift", "amount": 10.5}],
            },
            "updated_time": "2025-03-01T11:22:33+00:00",
            "redirect_urls": {"checkout_url": "https://example.com/?token=t"},
        });
        let (asked, mapped) = run(EntityKind::Cart, "a-b", &[v3(&cart)]);
        assert_eq!(asked, ["v3/carts/a-b"]);
        let (source, fields, extra) = content(mapped);
        assert_eq!(source.as_deref(), Some("2025-03-01T11:22:33Z"));
        assert_eq!(
            fields["lines"],
            json!([
                {"id": "l1", "product": "174", "variation": "345", "name": "Jar", "quantity": "2", "price": "10",
                "subtotal": "22",
                    "total": "20"},
                {"id": "l2", "name": "Gift", "quantity": "1", "price": "10.5", "subtotal": "10.5", "total": "10.5"},
            ])
        );
        assert_eq!((&fields["total"], &fields["coupons"]), (&json!("30.5"), &json!(["TEN"])));
        assert!(!extra.to_string().contains("token"));

        let record = |currency: &str, price: f64| {
            json!({"price_list_id": 1, "variant_id": 7, "currency": currency,
        "price": price, "sale_price": 0, "sku": "J"})
        };
        let (asked, mapped) = run(EntityKind::Price, "1:7", &[v3(&json!([record("usd", 9.5), record("eur", 8.0)]))]);
        assert_eq!(asked, ["v3/pricelists/1/records/7"]);
        let (source, fields, extra) = content(mapped);
        assert_eq!(source, None);
        assert_eq!(fields["prices"], json!([{"currency": "EUR", "price": "8"}, {"currency": "USD", "price": "9.5"}]));
        assert_eq!(extra, json!({"records": {"EUR": {"sku": "J"}, "USD": {"sku": "J"}}}));
        assert!(matches!(
            run(EntityKind::Price, "1:8", &[v3(&json!([record("usd", 9.5)]))]).1,
            Err(Fault::Unreadable(_))
        ));
        assert!(matches!(pull(EntityKind::Price, "17", &[]), Err(Fault::Unreadable(_))));
    }

    #[test]
    fn only_the_platform_s_own_not_found_is_a_delete() {
        let own = [json!({"status":404,"title":"Not found","type":"x"}), json!([{"status":404,"message":"Not found"}])];
        for (entity, id) in [
            (EntityKind::Product, "174"),
            (EntityKind::Category, "8"),
            (EntityKind::Customer, "5"),
            (EntityKind::Order, "250"),
            (EntityKind::Cart, "a-b"),
            (EntityKind::Price, "1:7"),
        ] {
            for body in &own {
                assert_eq!(run(entity, id, &[answer(404, body)]).1, Ok(gone(id)), "{entity}");
            }
            let page = ApiResponse { body: Bytes::from_static(b"<html>"), ..answer(404, &json!(null)) };
            assert!(matches!(run(entity, id, &[page]).1, Err(Fault::Connection(_))), "{entity}");
            assert!(matches!(run(entity, id, &[answer(410, &own[0])]).1, Err(Fault::Connection(_))), "{entity}");
            assert!(matches!(run(entity, id, &[no_content()]).1, Err(Fault::Unreadable(_))), "{entity}");
            assert!(matches!(run(entity, id, &[answer(200, &json!("?"))]).1, Err(Fault::Unreadable(_))), "{entity}");
        }
        for (entity, id) in [(EntityKind::Customer, "5"), (EntityKind::Price, "1:7")] {
            assert_eq!(run(entity, id, &[v3(&json!([]))]).1, Ok(gone(id)), "{entity}: an empty list");
        }
        // Of a part it says only that the whole has gone since.
        let between = run(EntityKind::Order, "250", &[answer(200, &order()), answer(404, &own[1])]);
        assert!(matches!(between.1, Err(Fault::Unavailable(_))));
    }

    #[test]
    fn faults_are_told_apart() {
        let fault = |status: u16, headers: &[(&'static str, &'static str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
            let answer = ApiResponse { headers: HeaderMap::from_iter(headers), ..answer(status, &json!({})) };
            run(EntityKind::Order, "250", &[answer]).1.unwrap_err()
        };
        const RESET: &str = "x-rate-limit-time-reset-ms";
        for (millis, seconds) in [("0", 1), ("1", 1), ("1000", 1), ("1001", 2), ("30000", 30), ("soon", 120)] {
            assert_eq!(fault(429, &[(RESET, millis)]), Fault::Throttled { seconds }, "{millis}");
        }
        assert_eq!(fault(429, &[]), Fault::Throttled { seconds: 120 });
        assert_eq!(fault(503, &[("retry-after", "9")]), Fault::Throttled { seconds: 9 });
        for status in [423, 500, 503, 507] {
            assert!(matches!(fault(status, &[]), Fault::Unavailable(_)), "{status}");
        }
        for status in [401, 403, 422] {
            assert!(matches!(fault(status, &[]), Fault::Connection(_)), "{status}");
        }
    }

    #[test]
    fn ids_stay_in_their_segment_of_the_path() {
        let asked = |id: &str| pull(EntityKind::Cart, id, &[]).map(|next| format!("{next:?}"));
        assert!(asked("../orders?x=1").unwrap().contains("/v3/carts/..%2Forders%3Fx=1"));
        for id in [".", ".."] {
            assert!(matches!(asked(id), Err(Fault::Unreadable(_))), "{id}");
        }
        assert!(matches!(pull(EntityKind::Price, "..:1", &[]), Err(Fault::Unreadable(_))));
        assert!(matches!(pull(EntityKind::Coupon, "1", &[]), Err(Fault::Unreadable(_))));
    }
}
