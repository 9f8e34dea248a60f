//! The mapping of an order and its parts to the canonical order, above all its money.
//!
//! A line's `total_ex_tax` is before discounts. The rest after them is in `discounted_total_inc_tax`, tax included, and
//! each discount in `applied_discounts` [`orders.v2.oas2.yml`, `orderProducts`]. The order distinguishes manual and
//! coupon discounts. Discounts are without tax where prices are. Where prices include tax, both cases occur, so the one
//! that adds up counts.

use std::mem::take;

use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use super::{
    pull::{address, keep_rest},
    wire,
};
use crate::entity::{
    AppliedCoupon, Content, CustomerId, ExternalId, Fee, Line, Order, OrderId, Package, Payment, ProductId, Refund,
    ShippingLine, Totals, unbalanced,
};

/// The members left out of orders: links to parts that are pulled, or could be.
const LINKS: &[&str] = &["products", "shipping_addresses", "consignments"];

/// The statuses that all stores have, by their id; merchants can rename them [`orders.v2.oas2.yml`, `order_statuses`].
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

/// The most decimal places of a price of one. A price with more is left out, because it would be rounded.
const PRICE_SCALE: u32 = 4;

/// The parts of an order.
pub struct Parts {
    pub lines: Vec<wire::Line>,
    pub addresses: Vec<wire::Address>,
    pub shipments: Vec<wire::Shipment>,
    pub coupons: Vec<wire::Coupon>,
    pub fees: Vec<wire::Fee>,
    pub refunds: Vec<wire::Refund>,
}

/// Returns whether an order may have coupons: it links to them, or they took something off.
pub fn may_have_coupons(order: &wire::Order, lines: &[wire::Line]) -> bool {
    let taken_off = order.coupon_discount.is_some_and(|amount| !amount.is_zero());
    let mut discounts = lines.iter().flat_map(|line| &line.applied_discounts);
    order.coupons.is_object() || taken_off || discounts.any(|discount| discount.code.is_some())
}

/// Maps an order, and returns BigCommerce's fields beyond it, too. Returns `None` for an order without a status.
pub fn order(mut wire: wire::Order, parts: Parts) -> Option<(Order, Map<String, Value>)> {
    let mut extra = beyond(&mut wire);
    let lines = keep_rest(&mut extra, "products", parts.lines, |line| {
        let mut rest = take(&mut line.rest);
        rest.insert("applied_discounts".into(), line.applied_discounts.iter().map(shown).collect());
        rest.insert("total_inc_tax".into(), json!(line.total_inc_tax));
        (&line.id, rest)
    });
    let coupons = keep_rest(&mut extra, "coupons", parts.coupons, |coupon| (&coupon.id, take(&mut coupon.rest)));
    let refunds = keep_rest(&mut extra, "refunds", parts.refunds, |refund| (&refund.id, take(&mut refund.rest)));
    let fees = keep_rest(&mut extra, "fees", parts.fees, |fee| (&fee.id, take(&mut fee.rest)));
    let shipping_lines = parts.addresses.iter().filter_map(shipping_line).collect();
    let mut places = parts.addresses.into_iter();
    let shipping = places.next().map(address).unwrap_or_default();
    let others = places.filter_map(|wire| Some((wire.id.as_ref()?.to_string(), json!(address(wire)))));
    extra.insert("other_shipping_addresses".into(), others.collect());

    let fees = charges(&fees, &wire);
    let paid_with = |amount: Option<Decimal>| amount.filter(|amount| !amount.is_zero());
    let mut entity = Order {
        number: Some(wire.id.to_string()),
        id: OrderId(wire.id),
        parent: None,
        status: status(wire.status_id, wire.status)?,
        currency: wire.default_currency_code.or(wire.currency_code),
        customer: wire.customer_id.map(CustomerId),
        totals: Totals {
            total: wire.total_inc_tax,
            tax: wire.total_tax,
            shipping: wire.shipping_cost_ex_tax,
            shipping_tax: wire.shipping_cost_tax,
            discount: None,
            discount_tax: None,
            prices_include_tax: wire.is_tax_inclusive_pricing,
            // They paid for part of the total, so they are not part of the sum.
            store_credit: paid_with(wire.store_credit_amount),
            gift_certificates: paid_with(wire.gift_certificate_amount),
        },
        lines: Vec::new(),
        shipping_lines,
        fees,
        coupons: applied(coupons, &lines),
        taxes: Vec::new(),
        refunds: refunds
            .into_iter()
            .map(|refund| Refund { id: refund.id, reason: refund.reason, total: refund.total_amount })
            .collect(),
        billing: address(wire.billing_address),
        shipping,
        payment: Payment {
            method: wire.payment_method,
            title: None,
            transaction: wire.payment_provider_id,
            paid_at: None,
        },
        payments: Default::default(),
        packages: parts.shipments.into_iter().map(|shipment| (shipment.id.to_string(), package(shipment))).collect(),
        note: wire.customer_message,
        created_at: wire.date_created,
        updated_at: wire.date_modified,
        completed_at: None,
    };
    let stated = match (wire.discount_amount, wire.coupon_discount) {
        (None, None) => None,
        (manual, coupons) => manual.unwrap_or_default().checked_add(coupons.unwrap_or_default()),
    };
    discounted(&mut entity, &lines, stated, Discounts::WithoutTax);
    if wire.is_tax_inclusive_pricing == Some(true) {
        let mut other = entity.clone();
        discounted(&mut other, &lines, stated, Discounts::WithTax);
        if imbalances(&other) < imbalances(&entity) {
            entity = other;
        }
    }
    Some((entity, extra))
}

/// Takes the fields of an order beyond the canonical ones.
fn beyond(wire: &mut wire::Order) -> Map<String, Value> {
    let mut extra = take(&mut wire.rest);
    extra.retain(|name, _| !LINKS.contains(&name.as_str()));
    extra.insert("status_id".into(), json!(wire.status_id));
    let seen = wire.currency_code.as_ref().filter(|code| wire.default_currency_code.as_ref() != Some(*code));
    extra.insert("currency_code".into(), json!(seen));
    extra.insert("discount_amount".into(), json!(wire.discount_amount.filter(|amount| !amount.is_zero())));
    extra.insert("coupon_discount".into(), json!(wire.coupon_discount.filter(|amount| !amount.is_zero())));
    extra
}

/// Returns the number of sums of an order that do not add up.
fn imbalances(order: &Order) -> usize {
    Content::new(order, Map::new()).map_or(usize::MAX, |content| unbalanced(&content.fields).len())
}

/// The assumption about amounts of discounts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Discounts {
    WithoutTax,
    WithTax,
}

/// Fills in lines and discounts.
fn discounted(order: &mut Order, lines: &[wire::Line], stated: Option<Decimal>, discounts: Discounts) {
    order.lines = lines.iter().map(|wire| line(wire, discounts)).collect();
    let any = stated.is_some_and(|stated| !stated.is_zero());
    // The tax without discounts, minus the actual tax.
    let spared = lines.iter().try_fold(Decimal::ZERO, |sum, line| {
        let before = line.total_inc_tax?.checked_sub(line.total_ex_tax?)?;
        sum.checked_add(before.checked_sub(line.total_tax?)?)
    });
    let spared = spared.filter(|tax| any && !lines.is_empty() && !tax.is_sign_negative());
    order.totals.discount_tax = spared;
    order.totals.discount = match (discounts, stated, spared) {
        (Discounts::WithTax, Some(stated), Some(spared)) => stated.checked_sub(spared).map(|net| net.normalize()),
        _ => stated.map(|stated| stated.normalize()),
    };
}

fn line(wire: &wire::Line, discounts: Discounts) -> Line {
    let total = after_discounts(wire, discounts).map(|total| total.normalize());
    let of_one = || {
        let price = total?.checked_div(wire.quantity)?;
        let exact = price.checked_mul(wire.quantity) == total && price.normalize().scale() <= PRICE_SCALE;
        exact.then(|| price.normalize())
    };
    Line {
        id: wire.id.clone(),
        product: wire.product_id.clone().map(ProductId),
        variation: wire.variant_id.clone().map(ProductId),
        name: wire.name.clone(),
        sku: wire.sku.clone(),
        quantity: wire.quantity,
        price: if total == wire.total_ex_tax { wire.price_ex_tax } else { of_one() },
        subtotal: wire.total_ex_tax,
        total,
        tax: wire.total_tax,
    }
}

/// Returns the price of a line after all discounts, without tax.
fn after_discounts(wire: &wire::Line, discounts: Discounts) -> Option<Decimal> {
    let mut amounts = wire.applied_discounts.iter().filter_map(|discount| discount.amount);
    let taken_off = amounts.try_fold(Decimal::ZERO, |sum, more| sum.checked_add(more))?;
    let left = wire.discounted_total_inc_tax.zip(wire.total_tax).and_then(|(left, tax)| left.checked_sub(tax));
    // A store that does not keep it has 0 here, although the discounts are less than the price.
    let all = [wire.total_ex_tax, wire.total_inc_tax].into_iter().flatten().any(|all| taken_off >= all);
    let told = wire.discounted_total_inc_tax.is_some_and(|left| !left.is_zero() || all);
    match left.filter(|left| told && !left.is_sign_negative()) {
        Some(left) => Some(left),
        None => match discounts {
            Discounts::WithoutTax => wire.total_ex_tax?.checked_sub(taken_off),
            Discounts::WithTax => wire.total_inc_tax?.checked_sub(taken_off)?.checked_sub(wire.total_tax?),
        },
    }
}

/// Returns the fees, and other charges of the whole order.
fn charges(fees: &[wire::Fee], order: &wire::Order) -> Vec<Fee> {
    let own = |name: &'static str, label: &str, total: Option<Decimal>, tax: Option<Decimal>| {
        let charged = [total, tax].into_iter().flatten().any(|amount| !amount.is_zero());
        let id = name.parse().ok().filter(|_| charged)?;
        Some(Fee { id, name: Some(label.to_owned()), total, tax })
    };
    let net = |net: Option<Decimal>, gross: Option<Decimal>, tax: Option<Decimal>| {
        net.or_else(|| gross?.checked_sub(tax.unwrap_or_default()))
    };
    let custom = fees.iter().map(|fee| Fee {
        id: fee.id.clone(),
        name: fee.display_name_customer.clone().or_else(|| fee.display_name_merchant.clone()),
        total: net(fee.cost_ex_tax.or(fee.cost_exc_tax), fee.cost_inc_tax, fee.cost_tax),
        tax: fee.cost_tax,
    });
    let handled = net(order.handling_cost_ex_tax, order.handling_cost_inc_tax, order.handling_cost_tax);
    let wrapped = net(order.wrapping_cost_ex_tax, order.wrapping_cost_inc_tax, order.wrapping_cost_tax);
    custom
        .chain(own("handling", "Handling", handled, order.handling_cost_tax))
        .chain(own("wrapping", "Gift wrapping", wrapped, order.wrapping_cost_tax))
        .collect()
}

/// Returns the coupons of an order, and codes that only its lines name.
fn applied(coupons: Vec<wire::Coupon>, lines: &[wire::Line]) -> Vec<AppliedCoupon> {
    let mut applied: Vec<AppliedCoupon> = coupons
        .into_iter()
        .map(|coupon| AppliedCoupon { id: coupon.id, code: coupon.code, discount: coupon.discount, tax: None })
        .collect();
    let listed = applied.len();
    for discount in lines.iter().flat_map(|line| &line.applied_discounts) {
        let Some(code) = &discount.code else { continue };
        let Ok(id) = code.parse::<ExternalId>() else { continue };
        let place = applied.iter().position(|known| known.code.as_ref().is_some_and(|c| c.eq_ignore_ascii_case(code)));
        match place.map(|place| (place, &mut applied[place])) {
            Some((place, known)) if place >= listed => {
                let amounts = known.discount.zip(discount.amount);
                known.discount = amounts.and_then(|(sum, more)| sum.checked_add(more)).or(known.discount);
            }
            Some(_) => {}
            None => {
                applied.push(AppliedCoupon { id, code: Some(code.clone()), discount: discount.amount, tax: None });
            }
        }
    }
    applied
}

/// Returns a discount in BigCommerce's form.
fn shown(discount: &wire::Discount) -> Value {
    json!({
        "id": discount.id, "amount": discount.amount, "name": discount.name, "code": discount.code,
        "target": discount.target,
    })
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

/// Returns the status by its id where that is known, because the merchant can choose the text.
fn status(id: Option<u64>, text: Option<String>) -> Option<String> {
    let known = id.and_then(|id| STATUSES.get(usize::try_from(id).ok()?)).map(|&name| name.to_owned());
    known.or(text).or_else(|| id.map(|id| id.to_string()))
}
