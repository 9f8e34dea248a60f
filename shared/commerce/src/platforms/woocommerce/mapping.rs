//! The processor's part of WooCommerce: its entity processors, and the mapping of its REST objects to canonical
//! entities.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{answers::is_word, lists, wire};
use crate::{
    change::{Change, Delete, Facets, Upsert},
    entity::{
        Address, AppliedCoupon, Category, Choice, Content, Coupon, CouponId, Customer, CustomerId, EntityKind,
        ExternalId, Fee, Line, Order, OrderId, Payment, Product, ProductId, Refund, ShippingLine, Stock, Tax, Totals,
    },
    outcome::Rule,
    platform::{
        lenient,
        mapping::{Incoming, MapError, Mapped, Mapping},
    },
    platforms::woocommerce::WooCommerce,
    timestamp::Timestamp,
    transfer::{Action, Direction, EntityProcessor, Listing, Payload, Polling, Scope, own},
};

/// The mapping's number. It rises when the mapping's output changes, so that replayed deliveries win over their former
/// mapping.
const MAPPING: u32 = 2;

/// Makes the processor of an entity whose deliveries carry it whole. WooCommerce cannot list customers by their time,
/// so polling them takes a full sync.
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

/// The entity processors. A webhook for `customer.restored` could be made, but no event is mapped to it, so it never
/// fires [`class-wc-webhook.php`].
static PROCESSORS: &[EntityProcessor] = &[
    whole(
        EntityKind::Customer,
        Polling::Full,
        &[
            own("customer.created", Action::Created),
            own("customer.updated", Action::Updated),
            own("customer.deleted", Action::Deleted),
        ],
        &[],
    ),
    whole(
        EntityKind::Product,
        Polling::Incremental,
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
        Polling::Incremental,
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
        Polling::Incremental,
        &[
            own("coupon.created", Action::Created),
            own("coupon.updated", Action::Updated),
            own("coupon.deleted", Action::Deleted),
            own("coupon.restored", Action::Restored),
        ],
        &[],
    ),
];

/// The rule for `action.woocommerce_*`: any WordPress action, whose argument can be anything.
const ACTION: Rule = Rule("woocommerce-action");
/// The rule for drafts of the block checkout: not paid, often without an address, purged later.
const CHECKOUT_DRAFT: Rule = Rule("woocommerce-checkout-draft");
/// The rule for entities that somebody has begun to enter, and has not finished.
const UNFINISHED: Rule = Rule("woocommerce-unfinished");
/// The rule for users who are no customers, because WordPress' user events include administrators and editors. Buyers
/// and known users are kept.
const NOT_A_CUSTOMER: Rule = Rule("woocommerce-not-a-customer");
/// The rule for an entity that was gone before the delivery was made, so the store delivered its own 404.
const VANISHED: Rule = Rule("woocommerce-vanished");

/// The members left out of every `extra`: links of the API, and local times beside their UTC twins.
const REDUNDANT: &[&str] = &["_links", "date_created", "date_modified", "date_completed", "date_paid", "date_expires"];
/// The members left out of products: those that change although nobody changes the product, and those that follow from
/// others.
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
/// The members left out of orders: those that follow from others, or from the caller.
const VOLATILE_ORDER: &[&str] = &["is_editable", "needs_payment", "needs_processing", "currency_symbol"];

impl Mapping for WooCommerce {
    fn processors(&self) -> &'static [EntityProcessor] {
        PROCESSORS
    }

    fn ignores(&self, scope: &str) -> Option<Rule> {
        scope.starts_with("action.").then_some(ACTION)
    }

    fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
        let (head, _) = lenient::entity::<wire::Head>(incoming.body)?;
        let Some(id) = head.id.clone() else {
            let status = head.error_status();
            let Some(code) = head.code else { return Err(MapError::Malformed("id".into())) };
            // Codes are words of WordPress and plugins; any other text is not repeated.
            let code = if is_word(&code) { code } else { "code".to_owned() };
            return match status {
                Some(404) => Ok(Mapped::Ignored(VANISHED)),
                _ => Err(MapError::PlatformError(code)),
            };
        };
        let received = incoming.received;
        if incoming.action == Action::Deleted {
            return Ok(Mapped::Change(id, Change::Delete(Delete { source: None, received })));
        }
        known(id, &head, incoming.entity, incoming.body, received, incoming.action == Action::Restored)
    }

    /// Returns the list that contains the entity, except for customers, which WooCommerce cannot list by their time.
    fn recover(&self, incoming: &Incoming<'_>) -> Option<Listing> {
        lists::recover(incoming.entity, incoming.received)
    }

    /// Returns `true`: products, coupons and orders are posts of WordPress, and trashing one delivers deletes of that
    /// id for others, too.
    fn tells_of_strangers(&self) -> bool {
        true
    }
}

/// Maps the body of an entity; `observed` if the store shows its present state.
pub(super) fn entity(entity: EntityKind, body: &[u8], received: Timestamp, observed: bool) -> Result<Mapped, MapError> {
    let (head, _) = lenient::entity::<wire::Head>(body)?;
    let id = head.id.clone().ok_or_else(|| MapError::Malformed("id".into()))?;
    known(id, &head, entity, body, received, observed)
}

/// Maps the body of an entity whose head is read.
fn known(
    id: ExternalId,
    head: &wire::Head,
    entity: EntityKind,
    body: &[u8],
    received: Timestamp,
    observed: bool,
) -> Result<Mapped, MapError> {
    let status = head.status.as_deref().filter(|_| entity != EntityKind::Customer);
    // Trashing sends an update, too, which would revive the deleted entity.
    if status == Some("trash") {
        return Ok(Mapped::Change(id, Change::Delete(Delete { source: None, received })));
    }
    let (source, content) = match entity {
        EntityKind::Customer => read(body, customer)?,
        EntityKind::Product => read(body, product)?,
        EntityKind::Order => read(body, order)?,
        EntityKind::Coupon => read(body, coupon)?,
        other => return Err(MapError::Malformed(format!("the topic: WooCommerce has no {other}"))),
    };
    let source = source.map(Timestamp::from);
    let content = content.with_unbalanced(entity);
    let upsert =
        Upsert { source, received, observed, mapping: MAPPING, content: content.into(), facets: Facets::new() };
    let change = Change::Upsert(upsert);
    let rule = match (entity, status) {
        (EntityKind::Customer, _) if buys(head.role.as_deref(), head.is_paying_customer) => None,
        (EntityKind::Customer, _) => Some(NOT_A_CUSTOMER),
        (EntityKind::Order, Some("checkout-draft")) => Some(CHECKOUT_DRAFT),
        (EntityKind::Order, Some("auto-draft" | "draft" | "new")) => Some(UNFINISHED),
        (EntityKind::Product, Some("auto-draft" | "importing")) => Some(UNFINISHED),
        (EntityKind::Coupon, Some("auto-draft")) => Some(UNFINISHED),
        _ => None,
    };
    Ok(match rule {
        None => Mapped::Change(id, change),
        Some(rule) => Mapped::IfKnown(id, change, rule),
    })
}

/// Returns whether a user of the site buys there. Plugins give buyers other roles, such as `subscriber` for the holder
/// of a subscription. A user who is named by an order, or known here, counts as a buyer elsewhere.
fn buys(role: Option<&str>, is_paying_customer: Option<bool>) -> bool {
    role == Some("customer") || is_paying_customer == Some(true)
}

/// Returns the content of a product, or of a list's entry for one.
pub(super) fn content_of_product(body: &[u8]) -> Result<Content, MapError> {
    Ok(read(body, product)?.1)
}

type Dated = (Option<jiff::Timestamp>, Content);

/// Reads an entity, with the places that had to be dropped.
fn read<T: DeserializeOwned>(body: &[u8], map: impl Fn(T) -> Result<Dated, MapError>) -> Result<Dated, MapError> {
    let (wire, unreadable) = lenient::entity(body)?;
    let (source, content) = map(wire)?;
    Ok((source, content.with_unreadable(unreadable)))
}

fn content(entity: &impl Serialize, mut rest: Map<String, Value>, volatile: &[&str]) -> Result<Content, MapError> {
    rest.retain(|name, _| !REDUNDANT.contains(&name.as_str()) && !volatile.contains(&name.as_str()));
    Content::new(entity, rest).map_err(|_| MapError::Malformed("the whole".into()))
}

fn missing(name: &str) -> MapError {
    MapError::Malformed(name.to_owned())
}

/// Puts the members of lines beyond the canonical fields under `extra`, by the platform's name of the list and the
/// line's id.
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
        // Lines that are being made all have the id 0.
        let names = (2..).map(|nth| format!("{id}#{nth}"));
        let name = std::iter::once(id.to_string()).chain(names).find(|name| !by_id.contains_key(name));
        by_id.insert(name.unwrap_or_default(), Value::Object(rest));
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

fn address(wire: wire::Address) -> Address {
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
        status: wire.status.ok_or_else(|| missing("status"))?,
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
        lines: lines.into_iter().map(line).collect(),
        shipping_lines: shipping.into_iter().map(shipping_line).collect(),
        fees: fees
            .into_iter()
            .map(|line| Fee { id: line.id, name: line.name, total: line.total, tax: line.total_tax })
            .collect(),
        coupons: coupons
            .into_iter()
            .map(|line| AppliedCoupon { id: line.id, code: line.code, discount: line.discount, tax: line.discount_tax })
            .collect(),
        taxes: taxes.into_iter().map(tax).collect(),
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

fn line(wire: wire::Line) -> Line {
    Line {
        id: wire.id,
        product: wire.product_id.map(ProductId),
        variation: wire.variation_id.map(ProductId),
        name: wire.name,
        sku: wire.sku,
        quantity: wire.quantity,
        price: wire.price,
        subtotal: wire.subtotal,
        total: wire.total,
        tax: wire.total_tax,
    }
}

fn shipping_line(wire: wire::ShippingLine) -> ShippingLine {
    ShippingLine {
        id: wire.id,
        method: wire.method_id,
        title: wire.method_title,
        total: wire.total,
        tax: wire.total_tax,
    }
}

fn tax(wire: wire::Tax) -> Tax {
    Tax {
        id: wire.id,
        code: wire.rate_code,
        label: wire.label,
        rate: wire.rate_percent,
        total: wire.tax_total,
        shipping: wire.shipping_tax_total,
    }
}

fn coupon(wire: wire::Coupon) -> Result<Dated, MapError> {
    let entity = Coupon {
        id: CouponId(wire.id),
        code: wire.code.ok_or_else(|| missing("code"))?,
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
