//! What the processor has to know of WooCommerce: its entity processors, and how its REST objects become canonical entities.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use super::wire;
use crate::{
    api::{ApiRequest, ApiResponse, Fault},
    change::{Change, Delete, Facets, Upsert},
    entity::{
        Address, AppliedCoupon, Category, Choice, Content, Coupon, CouponId, Customer, CustomerId, EntityKind,
        ExternalId, Fee, Line, Order, OrderId, Payment, Product, ProductId, Refund, ShippingLine, Stock, Tax, Totals,
    },
    envelope::{Listing, Transfer},
    outcome::Rule,
    platforms::{
        Access, Budget, Incoming, Listed, MapError, Mapped, Mapping, Next, Wanted,
        lenient::{read, read_list},
        paging::Place,
    },
    stamp::{Stamp, parse_utc},
    transfer::{Action, Direction, EntityProcessor, Payload, Polling, Scope, own},
};

/// The processor's view.
pub struct WooCommerce;

/// Rises when the mapping's output changes, so that replayed deliveries win over what was made of them before.
const MAPPING: u32 = 1;

/// A body holds all of the entity. Customers cannot be asked for by their time, so polling them takes a full sweep.
const fn whole(
    entity: EntityKind,
    polling: Polling,
    scopes: &'static [Scope],
    requires: &'static [EntityKind],
) -> EntityProcessor {
    EntityProcessor {
        entity,
        direction: Direction::Import,
        payload: Payload::Full,
        pull: true,
        polling: Some(polling),
        scopes,
        requires,
        followed_by: &[],
    }
}

/// `customer.restored` could be created, but no event is mapped to it, so it never fires [`class-wc-webhook.php`].
static PROCESSORS: &[EntityProcessor] = &[
    whole(
        EntityKind::Customer,
        Polling::Sweep,
        &[
            own("customer.created", Action::Created),
            own("customer.updated", Action::Updated),
            own("customer.deleted", Action::Deleted),
        ],
        &[],
    ),
    whole(
        EntityKind::Product,
        Polling::Changed,
        &[
            own("product.created", Action::Created),
            own("product.updated", Action::Updated),
            own("product.deleted", Action::Deleted),
            own("product.restored", Action::Restored),
        ],
        &[],
    ),
    whole(
        EntityKind::Order,
        Polling::Changed,
        &[
            own("order.created", Action::Created),
            own("order.updated", Action::Updated),
            own("order.deleted", Action::Deleted),
            own("order.restored", Action::Restored),
        ],
        &[EntityKind::Customer, EntityKind::Product],
    ),
    whole(
        EntityKind::Coupon,
        Polling::Changed,
        &[
            own("coupon.created", Action::Created),
            own("coupon.updated", Action::Updated),
            own("coupon.deleted", Action::Deleted),
            own("coupon.restored", Action::Restored),
        ],
        &[],
    ),
];

/// `action.woocommerce_*`: any WordPress action, whose argument can be anything.
const ACTION: Rule = Rule("woocommerce-action");
/// Drafts of the block checkout: not paid, often without an address, purged later.
const CHECKOUT_DRAFT: Rule = Rule("woocommerce-checkout-draft");
/// The user events of WordPress tell of administrators and editors, too.
const NOT_A_CUSTOMER: Rule = Rule("woocommerce-not-a-customer");
/// The entity was gone before the delivery was made, so the store delivered its own 404.
const VANISHED: Rule = Rule("woocommerce-vanished");

/// Left out of `extra` everywhere: links of the API, local times beside their UTC twins.
const REDUNDANT: &[&str] = &["_links", "date_created", "date_modified", "date_completed", "date_paid", "date_expires"];
/// Left out of products: what changes without anybody changing the product, and what follows from the rest.
const VOLATILE_PRODUCT: &[&str] = &[
    "related_ids",
    "price_html",
    "total_sales",
    "average_rating",
    "rating_count",
    "on_sale",
    "purchasable",
    "backordered",
    "backorders_allowed",
    "has_options",
    "shipping_required",
    "shipping_taxable",
];
/// Left out of orders: what follows from the rest, or from who asks.
const VOLATILE_ORDER: &[&str] = &["is_editable", "needs_payment", "needs_processing", "currency_symbol"];

impl Mapping for WooCommerce {
    fn processors(&self) -> &'static [EntityProcessor] {
        PROCESSORS
    }

    fn ignores(&self, scope: &str) -> Option<Rule> {
        scope.starts_with("action.").then_some(ACTION)
    }

    fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
        let head: wire::Head<'_> = read(incoming.body)?;
        let Some(id) = head.id.clone() else {
            let status = head.error_status();
            let Some(code) = head.code else { return Err(MapError::Malformed("id".into())) };
            // Codes are words of WordPress and plugins; whatever else stands there is not repeated.
            let word = code.len() <= 100 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            let code = if word { code } else { "code".to_owned() };
            return match status {
                Some(404) => Ok(Mapped::Ignored(VANISHED)),
                _ => Err(MapError::PlatformError(code)),
            };
        };
        let received = incoming.received;
        if incoming.action == Action::Deleted {
            return Ok(Mapped::Change(id, Change::Delete(Delete { source: None, received })));
        }
        let observed = incoming.action == Action::Restored;
        upsert(incoming.entity, id, incoming.body, received, observed, &head.status, &head.role)
    }

    /// An error object does not name the entity that it stands for; but the entity has just been changed. Customers cannot be asked
    /// for by their time.
    fn recover(&self, incoming: &Incoming<'_>) -> Option<Listing> {
        let what = collection(incoming.entity).ok().filter(|_| incoming.entity != EntityKind::Customer)?;
        let since = incoming.received.plus_seconds(-RECOVERED_SECONDS).timestamp()?;
        let cursor = serde_json::to_string(&Cursor { since: format!("{since:.0}"), page: 1 }).ok()?;
        Some(Listing::new(what, Some(cursor)))
    }

    fn poll(&self, entity: EntityKind, since: Option<Stamp>) -> Option<Listing> {
        let name = collection(entity).ok()?;
        match (entity, since) {
            (EntityKind::Customer, Some(_)) => None,
            (_, None) => Some(Place::start(&format!("{name}{ALL}"), None)),
            (_, Some(_)) => Some(Place::start(&format!("{name}{CHANGED}"), since)),
        }
    }

    /// `modified_after` is read as local time unless `dates_are_gmt` says otherwise. Older stores know neither, and list everything:
    /// then the pages are more.
    fn list(&self, access: &Access<'_>, listing: &Listing) -> Result<ApiRequest, Fault> {
        if let Some((name, changed)) = polled(listing) {
            return poll_page(access, name, changed, &Place::of(listing)?);
        }
        let cursor = cursor(listing)?;
        let mut request = call(access, Method::GET, &[&listing.what])?;
        request
            .url
            .query_pairs_mut()
            .append_pair("modified_after", cursor.since.trim_end_matches('Z'))
            .append_pair("dates_are_gmt", "true")
            .append_pair("orderby", "id")
            .append_pair("order", "asc")
            .append_pair("per_page", &PAGE_SIZE.to_string())
            .append_pair("page", &cursor.page.to_string());
        Ok(request)
    }

    fn listed(
        &self,
        _access: &Access<'_>,
        listing: &Listing,
        response: &ApiResponse,
        at: Stamp,
    ) -> Result<Listed, Fault> {
        if let Some((name, changed)) = polled(listing) {
            return read_poll(name, changed, listing, response, at);
        }
        if !response.is_success() {
            return Err(response.fault(at));
        }
        let entity = ENTITIES.into_iter().find(|entity| collection(*entity).is_ok_and(|name| name == listing.what));
        let entity = entity.ok_or_else(|| Fault::Unreadable(format!("there is no list {:?}", listing.what)))?;
        let entries: Vec<wire::Entry> = read_list(&response.body)?;
        let more = entries.len() >= PAGE_SIZE;
        let since = parse_utc(&cursor(listing)?.since);
        if entries.iter().any(|entry| entry.date_modified_gmt.is_some() && entry.date_modified_gmt < since) {
            return Err(Fault::Unreadable("the store is too old to list what has changed".into()));
        }
        let transfer = |id| Transfer::new(entity, id, "in place of an error");
        let found = entries.into_iter().map(|entry| entry.id).map(transfer).collect();
        let mut next = cursor(listing)?;
        next.page += 1;
        let cursor = serde_json::to_string(&next).ok();
        Ok(Listed { found, next: more.then(|| Listing::new(listing.what.clone(), cursor)) })
    }

    fn page_size(&self, _listing: &Listing) -> usize {
        PAGE_SIZE
    }

    /// The list tells how many it has in all, whatever a page holds. Variations are in a list of their own.
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

    fn counted(&self, response: &ApiResponse) -> Option<u64> {
        response.headers.get("x-wp-total")?.to_str().ok()?.trim().parse().ok()
    }

    /// The store is somebody's server, and the API has no limits of its own: this is to be polite.
    fn budget(&self) -> Budget {
        Budget { calls: 120, seconds: 60 }
    }

    fn pull(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Result<Next, Fault> {
        let Wanted { access, entity, id, at } = *wanted;
        let Some(response) = answers.first() else {
            return call(&access, Method::GET, &[collection(entity)?, id.as_str()]).map(Next::Ask);
        };
        if response.status == 404 && is_not_found(entity, &response.body) {
            let gone = Change::Delete(Delete { source: None, received: at });
            return Ok(Next::Done(Mapped::Change(id.clone(), gone)));
        }
        if !response.is_success() {
            return Err(response.fault(at));
        }
        let head: wire::Head<'_> = read(&response.body)?;
        if head.id.as_ref() != Some(id) {
            return Err(Fault::Unreadable("another id than was asked for".into()));
        }
        let mapped = upsert(entity, id.clone(), &response.body, at, true, &head.status, &head.role);
        mapped.map(Next::Done).map_err(Fault::from)
    }
}

const ENTITIES: [EntityKind; 4] = [EntityKind::Customer, EntityKind::Product, EntityKind::Order, EntityKind::Coupon];
/// The most that one page holds.
const PAGE_SIZE: usize = 100;
/// How long before an error object came its entity may have changed, in seconds: deliveries are queued by a job that may be slow.
const RECOVERED_SECONDS: i64 = 900;

/// What the name of a list ends with that has all of a collection. By id, which older stores can, too.
const ALL: &str = "/all";
/// The same, of what has changed.
const CHANGED: &str = "/changed";

/// The collection of a list for polling, and whether it has only what has changed.
fn polled(listing: &Listing) -> Option<(&str, bool)> {
    let all = listing.what.strip_suffix(ALL).map(|name| (name, false));
    all.or_else(|| listing.what.strip_suffix(CHANGED).map(|name| (name, true)))
}

/// A page of a list for polling. Times are compared as UTC only when they have no zone and `dates_are_gmt` says so. Customers are
/// listed without a role, which means those with the role `customer`: others are not kept.
fn poll_page(access: &Access<'_>, name: &str, changed: bool, place: &Place) -> Result<ApiRequest, Fault> {
    let mut request = call(access, Method::GET, &[name])?;
    let mut query = request.url.query_pairs_mut();
    match place.from().filter(|_| changed) {
        Some(from) => query
            .append_pair("modified_after", &from)
            .append_pair("dates_are_gmt", "true")
            .append_pair("orderby", "modified"),
        None => query.append_pair("orderby", "id"),
    };
    query
        .append_pair("order", "asc")
        .append_pair("per_page", &PAGE_SIZE.to_string())
        .append_pair("offset", &place.offset.to_string())
        // What else there is would only be thrown away.
        .append_pair("_fields", "id,date_modified_gmt");
    drop(query);
    Ok(request)
}

fn read_poll(name: &str, changed: bool, listing: &Listing, response: &ApiResponse, at: Stamp) -> Result<Listed, Fault> {
    let too_old = || Fault::Unreadable("the store is too old to list what has changed".into());
    // It may know the order by id only.
    if response.status == 400 && changed {
        return Err(too_old());
    }
    if !response.is_success() {
        return Err(response.fault(at));
    }
    let entity = ENTITIES.into_iter().find(|entity| collection(*entity).is_ok_and(|known| known == name));
    let entity = entity.ok_or_else(|| Fault::Unreadable(format!("there is no list {:?}", listing.what)))?;
    let entries: Vec<wire::Entry> = read_list(&response.body)?;
    let times: Vec<_> = entries.iter().map(|entry| entry.date_modified_gmt.map(Stamp::from)).collect();
    let place = Place::of(listing)?;
    if changed && times.iter().flatten().any(|time| place.is_passed_by(*time)) {
        return Err(too_old());
    }
    let found = entries.into_iter().zip(&times).map(|(entry, changed)| Transfer {
        changed: *changed,
        ..Transfer::new(entity, entry.id, format!("listed in {}", listing.what))
    });
    let found: Vec<_> = found.collect();
    let total = response.headers.get("x-wp-total").and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let last = total.map_or(found.len() < PAGE_SIZE, |total| place.offset.saturating_add(found.len()) >= total);
    let begin = place.offset;
    // By id, times say nothing of the place.
    let keys = if changed { times } else { vec![None; found.len()] };
    let next = place.next(begin, PAGE_SIZE, &keys, Some(last)).map(|next| next.listing(&listing.what));
    Ok(Listed { found, next })
}

/// How far a list was gone through.
#[derive(Serialize, Deserialize)]
struct Cursor {
    since: String,
    page: u32,
}

fn cursor(listing: &Listing) -> Result<Cursor, Fault> {
    let cursor = listing.cursor.as_deref().and_then(|text| serde_json::from_str(text).ok());
    cursor.ok_or_else(|| Fault::Unreadable(format!("the list {:?} has no cursor", listing.what)))
}

fn collection(entity: EntityKind) -> Result<&'static str, Fault> {
    match entity {
        EntityKind::Customer => Ok("customers"),
        EntityKind::Product => Ok("products"),
        EntityKind::Order => Ok("orders"),
        EntityKind::Coupon => Ok("coupons"),
        other => Err(Fault::Unreadable(format!("WooCommerce has no {other}"))),
    }
}

/// The call of `wc/v3` for a path below it.
pub(super) fn call(access: &Access<'_>, method: Method, path: &[&str]) -> Result<ApiRequest, Fault> {
    let broken = |what: &str| Fault::Connection(format!("the connection's {what} cannot be read; connect it again"));
    let credentials: super::subscriptions::Credentials =
        serde_json::from_str(access.credentials).map_err(|_| broken("credentials"))?;
    let mut url = Url::parse(access.site).map_err(|_| broken("site"))?;
    url.path_segments_mut().map_err(|()| broken("site"))?.pop_if_empty().extend(["wp-json", "wc", "v3"]).extend(path);
    Ok(ApiRequest::basic(method, url, &credentials.consumer_key, &credentials.consumer_secret))
}

/// Whether a 404 is about the resource that was asked for. The CRUD controllers say
/// `woocommerce_rest_{post type}_invalid_id`, the customers' controller `woocommerce_rest_invalid_id`; a 404 of a firewall, of
/// a theme, or of a site without the plugin (`rest_no_route`) says something else.
fn is_not_found(entity: EntityKind, body: &[u8]) -> bool {
    let codes: &[&str] = match entity {
        EntityKind::Customer => &["woocommerce_rest_invalid_id", "woocommerce_rest_customer_invalid_id"],
        EntityKind::Product => &["woocommerce_rest_product_invalid_id"],
        EntityKind::Order => &["woocommerce_rest_shop_order_invalid_id"],
        EntityKind::Coupon => &["woocommerce_rest_shop_coupon_invalid_id"],
        _ => &[],
    };
    read::<wire::Head<'_>>(body).is_ok_and(|head| head.code.is_some_and(|code| codes.contains(&code.as_str())))
}

fn upsert(
    entity: EntityKind,
    id: ExternalId,
    body: &[u8],
    received: Stamp,
    observed: bool,
    status: &Option<String>,
    role: &Option<String>,
) -> Result<Mapped, MapError> {
    // Trashing sends an update, too, which would revive what the delete marks.
    if entity != EntityKind::Customer && status.as_deref() == Some("trash") {
        return Ok(Mapped::Change(id, Change::Delete(Delete { source: None, received })));
    }
    let (source, content) = match entity {
        EntityKind::Customer if role.as_deref() != Some("customer") => {
            return Ok(Mapped::Ignored(NOT_A_CUSTOMER));
        }
        EntityKind::Order if status.as_deref() == Some("checkout-draft") => return Ok(Mapped::Ignored(CHECKOUT_DRAFT)),
        EntityKind::Customer => customer(read(body)?)?,
        EntityKind::Product => product(read(body)?)?,
        EntityKind::Order => order(read(body)?)?,
        EntityKind::Coupon => coupon(read(body)?)?,
        other => return Err(MapError::Malformed(format!("the scope: WooCommerce has no {other}"))),
    };
    let source = source.map(Stamp::from);
    let content = content.with_unbalanced(entity);
    let upsert = Upsert { source, received, observed, mapping: MAPPING, content, facets: Facets::new() };
    Ok(Mapped::Change(id, Change::Upsert(upsert)))
}

type Dated = (Option<jiff::Timestamp>, Content);

fn content(entity: &impl Serialize, mut rest: Map<String, Value>, volatile: &[&str]) -> Result<Content, MapError> {
    rest.retain(|name, _| !REDUNDANT.contains(&name.as_str()) && !volatile.contains(&name.as_str()));
    Content::new(entity, rest).map_err(|_| MapError::Malformed("the whole".into()))
}

/// Puts what lines have beyond the canonical fields under `extra`, by the platform's name of the list and the line's id.
fn keep_rest<T>(
    extra: &mut Map<String, Value>,
    name: &str,
    lines: Vec<T>,
    split: impl Fn(&mut T) -> (&ExternalId, Map<String, Value>),
) -> Vec<T> {
    let mut lines = lines;
    let mut by_id = Map::new();
    for line in &mut lines {
        let (id, rest) = split(line);
        by_id.insert(id.to_string(), Value::Object(rest));
    }
    extra.insert(name.to_owned(), Value::Object(by_id));
    lines
}

fn customer(wire: wire::Customer) -> Result<Dated, MapError> {
    let entity = Customer {
        id: CustomerId(wire.id),
        email: wire.email,
        first_name: wire.first_name,
        last_name: wire.last_name,
        billing: address(wire.billing),
        shipping: address(wire.shipping),
        created_at: wire.date_created_gmt,
        updated_at: wire.date_modified_gmt,
    };
    Ok((wire.date_modified_gmt, content(&entity, wire.rest, &[])?))
}

fn address(wire: Option<wire::Address>) -> Address {
    let wire = wire.unwrap_or_default();
    Address {
        first_name: wire.first_name,
        last_name: wire.last_name,
        company: wire.company,
        line1: wire.address_1,
        line2: wire.address_2,
        city: wire.city,
        region: wire.state,
        postcode: wire.postcode,
        country: wire.country,
        email: wire.email,
        phone: wire.phone,
    }
}

fn product(wire: wire::Product) -> Result<Dated, MapError> {
    let entity = Product {
        id: ProductId(wire.id),
        parent: wire.parent_id.map(ProductId),
        kind: wire.kind,
        name: wire.name,
        sku: wire.sku,
        barcode: wire.global_unique_id,
        status: wire.status,
        price: wire.price,
        regular_price: wire.regular_price,
        sale_price: wire.sale_price,
        currency: None,
        stock: Stock { quantity: wire.stock_quantity, status: wire.stock_status },
        description: wire.description,
        url: wire.permalink,
        categories: wire.categories.into_iter().map(|c| Category { id: c.id, name: c.name }).collect(),
        images: wire.images.into_iter().filter_map(|image| image.src).collect(),
        choices: wire.attributes.into_iter().map(choice).collect(),
        variations: wire.variations.into_iter().map(ProductId).collect(),
        created_at: wire.date_created_gmt,
        updated_at: wire.date_modified_gmt,
    };
    Ok((wire.date_modified_gmt, content(&entity, wire.rest, VOLATILE_PRODUCT)?))
}

fn choice(wire: wire::Attribute) -> Choice {
    let mut values = wire.options;
    values.extend(wire.option);
    Choice { name: wire.name, values }
}

fn order(mut wire: wire::Order) -> Result<Dated, MapError> {
    use std::mem::take;
    let extra = &mut wire.rest;
    let lines = keep_rest(extra, "line_items", wire.line_items, |line| (&line.id, take(&mut line.rest)));
    let shipping = keep_rest(extra, "shipping_lines", wire.shipping_lines, |line| (&line.id, take(&mut line.rest)));
    let fees = keep_rest(extra, "fee_lines", wire.fee_lines, |line| (&line.id, take(&mut line.rest)));
    let coupons = keep_rest(extra, "coupon_lines", wire.coupon_lines, |line| (&line.id, take(&mut line.rest)));
    let taxes = keep_rest(extra, "tax_lines", wire.tax_lines, |line| (&line.id, take(&mut line.rest)));
    let entity = Order {
        id: OrderId(wire.id),
        number: wire.number,
        parent: wire.parent_id.map(OrderId),
        status: wire.status,
        currency: wire.currency,
        customer: wire.customer_id.map(CustomerId),
        totals: Totals {
            total: wire.total,
            tax: wire.total_tax,
            shipping: wire.shipping_total,
            shipping_tax: wire.shipping_tax,
            discount: wire.discount_total,
            discount_tax: wire.discount_tax,
            prices_include_tax: wire.prices_include_tax,
            ..Totals::default()
        },
        lines: lines
            .into_iter()
            .map(|line| Line {
                id: line.id,
                product: line.product_id.map(ProductId),
                variation: line.variation_id.map(ProductId),
                name: line.name,
                sku: line.sku,
                quantity: line.quantity,
                price: line.price,
                subtotal: line.subtotal,
                total: line.total,
                tax: line.total_tax,
            })
            .collect(),
        shipping_lines: shipping
            .into_iter()
            .map(|line| ShippingLine {
                id: line.id,
                method: line.method_id,
                title: line.method_title,
                total: line.total,
                tax: line.total_tax,
            })
            .collect(),
        fees: fees
            .into_iter()
            .map(|line| Fee { id: line.id, name: line.name, total: line.total, tax: line.total_tax })
            .collect(),
        coupons: coupons
            .into_iter()
            .map(|line| AppliedCoupon { id: line.id, code: line.code, discount: line.discount, tax: line.discount_tax })
            .collect(),
        taxes: taxes
            .into_iter()
            .map(|line| Tax {
                id: line.id,
                code: line.rate_code,
                label: line.label,
                rate: line.rate_percent,
                total: line.tax_total,
                shipping: line.shipping_tax_total,
            })
            .collect(),
        refunds: wire
            .refunds
            .into_iter()
            .map(|refund| Refund { id: refund.id, reason: refund.reason, total: refund.total })
            .collect(),
        billing: address(wire.billing),
        shipping: address(wire.shipping),
        payment: Payment {
            method: wire.payment_method,
            title: wire.payment_method_title,
            transaction: wire.transaction_id,
            paid_at: wire.date_paid_gmt,
        },
        payments: Default::default(),
        packages: Default::default(),
        note: wire.customer_note,
        created_at: wire.date_created_gmt,
        updated_at: wire.date_modified_gmt,
        completed_at: wire.date_completed_gmt,
    };
    Ok((wire.date_modified_gmt, content(&entity, wire.rest, VOLATILE_ORDER)?))
}

fn coupon(wire: wire::Coupon) -> Result<Dated, MapError> {
    let entity = Coupon {
        id: CouponId(wire.id),
        code: wire.code,
        kind: wire.discount_type,
        amount: wire.amount,
        currency: None,
        description: wire.description,
        used: wire.usage_count,
        usage_limit: wire.usage_limit,
        usage_limit_per_customer: wire.usage_limit_per_user,
        minimum: wire.minimum_amount,
        maximum: wire.maximum_amount,
        products: wire.product_ids.into_iter().map(ProductId).collect(),
        expires_at: wire.date_expires_gmt,
        created_at: wire.date_created_gmt,
        updated_at: wire.date_modified_gmt,
    };
    Ok((wire.date_modified_gmt, content(&entity, wire.rest, &[])?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};
    use serde_json::json;

    use super::*;

    const AT: Stamp = Stamp::from_millis(1_760_000_000_000);

    #[test]
    fn lists_for_polling_have_times_without_a_zone() {
        let none = Map::new();
        let credentials = r#"{"consumer_key":"ck_1","consumer_secret":"cs_1"}"#;
        let access = Access { site: "https://shop.example.com", credentials, settings: &none };
        let asked = |entity, since| {
            let listing = WooCommerce.poll(entity, since).unwrap();
            let url = WooCommerce.list(&access, &listing).unwrap().url;
            let query: Vec<_> = url.query_pairs().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} {}", url.path().strip_prefix("/wp-json/wc/v3/").unwrap(), query.join(" "))
        };
        assert_eq!(
            asked(EntityKind::Order, Some(AT)),
            "orders modified_after=2025-10-09T08:53:19 dates_are_gmt=true orderby=modified order=asc per_page=100 \
             offset=0 _fields=id,date_modified_gmt"
        );
        let all =
            |name: &str| format!("{name} orderby=id order=asc per_page=100 offset=0 _fields=id,date_modified_gmt");
        assert_eq!(asked(EntityKind::Product, None), all("products"));
        assert_eq!(asked(EntityKind::Customer, None), all("customers"));
        assert_eq!(WooCommerce.poll(EntityKind::Customer, Some(AT)), None, "they cannot be asked for by their time");

        let page = |status, total: Option<u32>, ids: &[u64]| {
            let entries: Vec<_> =
                ids.iter().map(|id| json!({ "id": id, "date_modified_gmt": "2025-10-09T08:54:00" })).collect();
            let body = Bytes::from(json!(entries).to_string());
            let total = total.map(|total| (http::HeaderName::from_static("x-wp-total"), HeaderValue::from(total)));
            ApiResponse { status, headers: HeaderMap::from_iter(total), body }
        };
        let listed = |since, answer: &ApiResponse| {
            let listing = WooCommerce.poll(EntityKind::Product, since).unwrap();
            WooCommerce.listed(&access, &listing, answer, AT)
        };
        let offset = |listed: Listed| listed.next.map(|next| Place::of(&next).unwrap().offset);
        assert_eq!(offset(listed(None, &page(200, Some(9), &[1, 2, 3, 4])).unwrap()), Some(2), "hosts may give fewer");
        assert_eq!(offset(listed(None, &page(200, Some(4), &[1, 2, 3, 4])).unwrap()), None);
        assert_eq!(offset(listed(None, &page(200, None, &[1, 2, 3, 4])).unwrap()), None);
        let found = listed(Some(AT), &page(200, None, &[1])).unwrap().found;
        assert_eq!(found[0].changed, Some(AT.plus_seconds(40)));
        // Older stores do not know the order, or list what has not changed.
        assert!(matches!(listed(Some(AT), &page(400, None, &[])), Err(Fault::Unreadable(_))));
        assert!(matches!(listed(Some(AT.plus_seconds(60)), &page(200, None, &[1])), Err(Fault::Unreadable(_))));
        assert!(listed(None, &page(200, None, &[1])).is_ok());
    }
}
