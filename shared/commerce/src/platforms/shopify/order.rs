//! The mapping of an order to the canonical order, above all its money.
//!
//! Every amount of Shopify is there twice: in the shop's currency, and in the one that the buyer saw (the presentment
//! currency). The canonical amounts are the shop's; where the buyer saw others, these are kept under `presentment`.
//!
//! A line's `originalTotalSet` is before discounts, and each discount's part is in its `discountAllocations`. Where
//! prices include tax, all of these do. The tax before discounts is then unknown, so a line that has discounts has no
//! price before them.

use std::mem::take;

use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use super::{pull::address, wire};
use crate::entity::{
    Address, AppliedCoupon, CustomerId, Fee, Line, Order, OrderId, Package, Payment, Payments, ProductId, Refund,
    ShippingLine, Tax, Totals, Transaction,
};

/// The currency to read amounts in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The shop's.
    Shop,
    /// The one that the buyer saw.
    Presentment,
}

impl Side {
    fn of(self, money: &wire::MoneyBag) -> Decimal {
        match self {
            Self::Shop => money.shop_money,
            Self::Presentment => money.presentment_money,
        }
    }

    /// Sums taxes.
    fn taxes(self, lines: &[wire::TaxLine]) -> Option<Decimal> {
        sum(lines.iter().map(|line| self.of(&line.price_set)))
    }
}

fn sum(mut amounts: impl Iterator<Item = Decimal>) -> Option<Decimal> {
    amounts.try_fold(Decimal::ZERO, |sum, more| sum.checked_add(more)).map(|sum| sum.normalize())
}

/// The amounts of an order in one currency.
struct Amounts {
    totals: Totals,
    lines: Vec<Line>,
    shipping_lines: Vec<ShippingLine>,
    fees: Vec<Fee>,
    coupons: Vec<AppliedCoupon>,
    taxes: Vec<Tax>,
    refunds: Vec<Refund>,
    payments: Payments,
}

/// Maps an order, and returns Shopify's fields beyond it, too. Returns `None` where an amount is too large to sum.
pub(super) fn order(mut wire: wire::Order) -> Option<(Order, Map<String, Value>)> {
    let amounts = amounts(&wire, Side::Shop)?;
    let mut extra = take(&mut wire.rest);
    extra.insert("taxesIncluded".into(), json!(wire.taxes_included));
    let rests = wire.line_items.nodes.iter_mut().map(|line| (line.id.to_string(), Value::Object(take(&mut line.rest))));
    extra.insert("lineItems".into(), rests.collect());
    if wire.presentment_currency_code != wire.currency_code {
        extra.insert("presentment".into(), presentment(&wire)?);
    }
    let status = match (wire.cancelled_at, wire.closed_at) {
        (Some(_), _) => "cancelled",
        (None, Some(_)) => "closed",
        (None, None) => "open",
    };
    let paid = wire.transactions.iter().filter(|one| {
        let takes = matches!(one.kind.as_deref(), Some("SALE" | "CAPTURE"));
        takes && one.status.as_deref() == Some("SUCCESS")
    });
    let paid_at = paid.filter_map(|one| one.processed_at).min();
    let billing = wire.billing_address.map(address).unwrap_or_default();
    let entity = Order {
        number: wire.name,
        id: OrderId(wire.id),
        parent: None,
        status: status.to_owned(),
        currency: wire.currency_code,
        customer: wire.customer.map(|customer| CustomerId(customer.id)),
        totals: amounts.totals,
        lines: amounts.lines,
        shipping_lines: amounts.shipping_lines,
        fees: amounts.fees,
        coupons: amounts.coupons,
        taxes: amounts.taxes,
        refunds: amounts.refunds,
        billing: Address { email: wire.email, phone: billing.phone.clone().or(wire.phone), ..billing },
        shipping: wire.shipping_address.map(address).unwrap_or_default(),
        payment: Payment {
            method: wire.payment_gateway_names.into_iter().next(),
            title: None,
            transaction: None,
            paid_at,
        },
        payments: amounts.payments,
        packages: wire.fulfillments.into_iter().map(|one| (one.id.to_string(), package(one))).collect(),
        note: wire.note,
        created_at: wire.created_at,
        updated_at: wire.updated_at,
        completed_at: wire.closed_at,
    };
    extra.insert("cancelledAt".into(), json!(wire.cancelled_at));
    Some((entity, extra))
}

fn amounts(wire: &wire::Order, side: Side) -> Option<Amounts> {
    let gross = wire.taxes_included == Some(true);
    let lines: Vec<Line> = wire.line_items.nodes.iter().map(|one| line(one, gross, side)).collect::<Option<_>>()?;
    let shipping_lines = wire.shipping_lines.nodes.iter().enumerate();
    let shipping_lines: Vec<ShippingLine> =
        shipping_lines.map(|(place, one)| shipping_line(place, one, gross, side)).collect::<Option<_>>()?;
    // Without any discount on a line, the price before them is known.
    let known = lines.iter().all(|line| line.subtotal.is_some());
    let discount = sum(lines.iter().filter_map(|line| line.subtotal?.checked_sub(line.total?)));
    let currency = match side {
        Side::Shop => &wire.currency_code,
        Side::Presentment => &wire.presentment_currency_code,
    };
    let payments = wire.transactions.iter().map(|one| {
        let payment = Transaction {
            kind: one.kind.clone(),
            status: one.status.clone(),
            amount: Some(side.of(&one.amount_set)),
            currency: currency.clone(),
            created_at: one.processed_at,
        };
        (one.id.to_string(), payment)
    });
    let refunds = wire.refunds.iter().map(|one| Refund {
        id: one.id.clone(),
        reason: one.note.clone(),
        total: Some(side.of(&one.total_refunded_set)),
    });
    Some(Amounts {
        totals: Totals {
            total: Some(side.of(&wire.total_price_set)),
            tax: wire.total_tax_set.as_ref().map(|money| side.of(money)),
            shipping: sum(shipping_lines.iter().filter_map(|line| line.total)),
            shipping_tax: sum(shipping_lines.iter().filter_map(|line| line.tax)),
            discount: discount.filter(|_| known),
            discount_tax: None,
            prices_include_tax: wire.taxes_included,
            store_credit: None,
            gift_certificates: None,
        },
        coupons: coupons(wire, side)?,
        taxes: wire.tax_lines.iter().enumerate().filter_map(|(place, one)| tax(place, one, side)).collect(),
        fees: fees(wire, gross, side)?,
        lines,
        shipping_lines,
        refunds: refunds.collect(),
        payments: payments.collect(),
    })
}

fn line(wire: &wire::Line, gross: bool, side: Side) -> Option<Line> {
    let original = side.of(&wire.original_total_set);
    let off = sum(wire.discount_allocations.iter().map(|one| side.of(&one.allocated_amount_set)))?;
    let tax = side.taxes(&wire.tax_lines)?;
    let after = original.checked_sub(off)?;
    let total = if gross { after.checked_sub(tax)? } else { after }.normalize();
    let subtotal = match gross {
        true if off.is_zero() => Some(total),
        true => None,
        false => Some(original),
    };
    let of_one = total.checked_div(wire.quantity).filter(|price| {
        let exact = price.checked_mul(wire.quantity) == Some(total);
        exact && price.normalize().scale() <= PRICE_SCALE
    });
    Some(Line {
        id: wire.id.clone(),
        product: wire.product.as_ref().map(|product| ProductId(product.id.clone())),
        variation: wire.variant.as_ref().map(|variant| ProductId(variant.id.clone())),
        name: wire.name.clone(),
        sku: wire.sku.clone(),
        quantity: wire.quantity,
        price: of_one.map(|price| price.normalize()),
        subtotal,
        total: Some(total),
        tax: Some(tax),
    })
}

/// The most decimal places of a price of one. A price with more is left out, because it would be rounded.
const PRICE_SCALE: u32 = 4;

fn shipping_line(place: usize, wire: &wire::ShippingLine, gross: bool, side: Side) -> Option<ShippingLine> {
    let tax = side.taxes(&wire.tax_lines)?;
    let price = side.of(&wire.discounted_price_set);
    let total = if gross { price.checked_sub(tax)? } else { price }.normalize();
    Some(ShippingLine {
        // A line of a draft order has no id.
        id: wire.id.clone().unwrap_or_else(|| (place as u64).into()),
        method: wire.code.clone(),
        title: wire.title.clone(),
        total: Some(total),
        tax: Some(tax),
    })
}

/// Returns the charges beside lines and shipping. Duties are among the additional fees, or alone.
fn fees(wire: &wire::Order, gross: bool, side: Side) -> Option<Vec<Fee>> {
    let mut fees = Vec::new();
    for fee in &wire.additional_fees {
        let (price, tax) = (side.of(&fee.price), side.taxes(&fee.tax_lines)?);
        let total = if gross { price.checked_sub(tax)? } else { price };
        fees.push(Fee { id: fee.id.clone(), name: fee.name.clone(), total: Some(total), tax: Some(tax) });
    }
    let duties = wire.original_total_duties_set.as_ref().filter(|_| fees.is_empty());
    for (id, name, money) in [("duties", "Duties", duties), ("tip", "Tip", wire.total_tip_received_set.as_ref())] {
        let amount = money.map(|money| side.of(money)).filter(|amount| !amount.is_zero());
        if let (Some(amount), Ok(id)) = (amount, id.parse()) {
            fees.push(Fee { id, name: Some(name.to_owned()), total: Some(amount), tax: None });
        }
    }
    Some(fees)
}

/// Returns the codes that were entered, each with what it took off the lines.
fn coupons(wire: &wire::Order, side: Side) -> Option<Vec<AppliedCoupon>> {
    let mut coupons = Vec::new();
    for code in &wire.discount_codes {
        let Ok(id) = code.parse() else { continue };
        let of_code = |one: &&wire::Allocation| {
            one.discount_application.code.as_ref().is_some_and(|used| used.eq_ignore_ascii_case(code))
        };
        let allocations = wire.line_items.nodes.iter().flat_map(|line| &line.discount_allocations).filter(of_code);
        let discount = sum(allocations.map(|one| side.of(&one.allocated_amount_set)))?;
        coupons.push(AppliedCoupon { id, code: Some(code.clone()), discount: Some(discount), tax: None });
    }
    Some(coupons)
}

fn tax(place: usize, wire: &wire::TaxLine, side: Side) -> Option<Tax> {
    Some(Tax {
        id: (place as u64).into(),
        code: None,
        label: wire.title.clone(),
        rate: wire.rate_percentage.map(|rate| rate.normalize()),
        total: Some(side.of(&wire.price_set)),
        shipping: None,
    })
}

fn package(wire: wire::Fulfillment) -> Package {
    let tracking = wire.tracking_info.into_iter().next();
    let (carrier, tracking_number) = tracking.map(|one| (one.company, one.number)).unwrap_or_default();
    Package { status: wire.status, carrier, method: None, tracking_number, shipped_at: wire.created_at }
}

/// Returns the amounts that the buyer saw, under the canonical names.
fn presentment(wire: &wire::Order) -> Option<Value> {
    let seen = amounts(wire, Side::Presentment)?;
    let by_id = |lines: Vec<(String, Value)>| lines.into_iter().collect::<Value>();
    let shown = json!({
        "currency": wire.presentment_currency_code,
        "totals": seen.totals,
        "lines": by_id(seen.lines.iter().map(|one| {
            let amounts = json!({
                "price": one.price, "subtotal": one.subtotal, "total": one.total, "tax": one.tax,
            });
            (one.id.to_string(), amounts)
        }).collect()),
        "shipping_lines": by_id(seen.shipping_lines.iter().map(|one| {
            (one.id.to_string(), json!({ "total": one.total, "tax": one.tax }))
        }).collect()),
        "fees": by_id(seen.fees.iter().map(|one| {
            (one.id.to_string(), json!({ "total": one.total, "tax": one.tax }))
        }).collect()),
        "coupons": by_id(seen.coupons.iter().map(|one| (one.id.to_string(), json!(one.discount))).collect()),
        "refunds": by_id(seen.refunds.iter().map(|one| (one.id.to_string(), json!(one.total))).collect()),
        "payments": by_id(seen.payments.iter().map(|(id, one)| (id.clone(), json!(one.amount))).collect()),
    });
    Some(shown)
}
