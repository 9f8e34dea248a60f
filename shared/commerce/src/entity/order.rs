//! Owns the canonical order: one item with all its parts.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Address, CustomerId, ExternalId, OrderId, ProductId};

/// A sale. All its amounts are in its `currency`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Order {
    /// The id at the platform.
    pub id: OrderId,
    /// The number that people use; often, but not always, the id.
    pub number: Option<String>,
    /// The order that this one belongs to.
    pub parent: Option<OrderId>,
    /// The platform's status. The set is open: plugins add to it.
    pub status: String,
    /// The currency of all amounts, ISO 4217.
    pub currency: Option<String>,
    /// The buyer; absent for guests.
    pub customer: Option<CustomerId>,
    /// The totals.
    pub totals: Totals,
    /// The lines, one for each thing that was bought.
    pub lines: Vec<Line>,
    /// The ways in which it is sent.
    pub shipping_lines: Vec<ShippingLine>,
    /// The other charges.
    pub fees: Vec<Fee>,
    /// The coupons that were used.
    pub coupons: Vec<AppliedCoupon>,
    /// The taxes, by rate.
    pub taxes: Vec<Tax>,
    /// The refunds.
    pub refunds: Vec<Refund>,
    /// The address for the invoice.
    pub billing: Address,
    /// The address for the goods.
    pub shipping: Address,
    /// The way in which it is paid.
    pub payment: Payment,
    /// The payments by their ids, where the platform reports them one by one.
    pub payments: Payments,
    /// The packages by their ids, where the platform reports them one by one.
    pub packages: BTreeMap<String, Package>,
    /// The customer's note.
    pub note: Option<String>,
    /// The time at which it was placed.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub created_at: Option<jiff::Timestamp>,
    /// The time of the source's last change.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub updated_at: Option<jiff::Timestamp>,
    /// The time at which it was completed.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub completed_at: Option<jiff::Timestamp>,
}

/// The totals of an order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Totals {
    /// The sum of lines, shipping and fees, taxes included, before refunds.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub total: Option<Decimal>,
    /// All taxes.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub tax: Option<Decimal>,
    /// Shipping without tax.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub shipping: Option<Decimal>,
    /// Tax on shipping.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub shipping_tax: Option<Decimal>,
    /// All discounts together, coupons and others, without tax.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub discount: Option<Decimal>,
    /// Tax on discounts: the amount by which they lower the taxes.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub discount_tax: Option<Decimal>,
    /// `true` when the prices of the lines were entered with tax.
    pub prices_include_tax: Option<bool>,
    /// The part of the total that was paid with credit given by the store.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub store_credit: Option<Decimal>,
    /// The part of the total that was paid with gift certificates.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub gift_certificates: Option<Decimal>,
}

/// One thing that was bought.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Line {
    /// The id at the platform.
    pub id: ExternalId,
    /// The product; absent when it is gone from the catalogue.
    pub product: Option<ProductId>,
    /// The variation of the product.
    pub variation: Option<ProductId>,
    /// The name as sold.
    pub name: Option<String>,
    /// The merchant's number as sold.
    pub sku: Option<String>,
    /// The quantity.
    #[cfg_attr(feature = "schema", schemars(with = "super::schema::Amount"))]
    pub quantity: Decimal,
    /// The price of one, after discounts; absent where it is no round amount.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub price: Option<Decimal>,
    /// The price of all, before discounts, without tax.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub subtotal: Option<Decimal>,
    /// The price of all, after discounts, without tax.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub total: Option<Decimal>,
    /// Tax on the total.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub tax: Option<Decimal>,
}

/// One way in which an order is sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShippingLine {
    /// The id at the platform.
    pub id: ExternalId,
    /// The platform's method.
    pub method: Option<String>,
    /// The title that the customer saw.
    pub title: Option<String>,
    /// The price, without tax.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub total: Option<Decimal>,
    /// Tax on the total.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub tax: Option<Decimal>,
}

/// Another charge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fee {
    /// The id at the platform.
    pub id: ExternalId,
    /// The name.
    pub name: Option<String>,
    /// The charge, without tax.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub total: Option<Decimal>,
    /// Tax on the total.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub tax: Option<Decimal>,
}

/// A coupon that was used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppliedCoupon {
    /// The id of the line at the platform.
    pub id: ExternalId,
    /// The code that was entered.
    pub code: Option<String>,
    /// The discount, without tax. BigCommerce's is with tax where `prices_include_tax` is set.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub discount: Option<Decimal>,
    /// Tax on the discount.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub tax: Option<Decimal>,
}

/// The taxes of one rate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tax {
    /// The id of the line at the platform.
    pub id: ExternalId,
    /// The rate's code.
    pub code: Option<String>,
    /// The rate's name.
    pub label: Option<String>,
    /// The rate, in percent.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub rate: Option<Decimal>,
    /// Tax on lines and fees.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub total: Option<Decimal>,
    /// Tax on shipping.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub shipping: Option<Decimal>,
}

/// Money that was paid back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Refund {
    /// The id at the platform.
    pub id: ExternalId,
    /// The reason.
    pub reason: Option<String>,
    /// The amount, tax included, with the platform's sign: negative from WooCommerce, positive from BigCommerce.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub total: Option<Decimal>,
}

/// Payments by their ids, not in a list, because each can change alone.
pub type Payments = BTreeMap<String, Transaction>;

/// One payment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Transaction {
    /// The platform's kind: `Charge`, `refund`, ...
    pub kind: Option<String>,
    /// The platform's status.
    pub status: Option<String>,
    /// The amount.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub amount: Option<Decimal>,
    /// The currency of the amount, ISO 4217.
    pub currency: Option<String>,
    /// The time at which it was made.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub created_at: Option<jiff::Timestamp>,
}

/// One package.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Package {
    /// The platform's status.
    pub status: Option<String>,
    /// The carrier.
    pub carrier: Option<String>,
    /// The shipping method.
    pub method: Option<String>,
    /// The number for tracking it.
    pub tracking_number: Option<String>,
    /// The time at which it was sent.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub shipped_at: Option<jiff::Timestamp>,
}

/// The way in which an order is paid.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Payment {
    /// The platform's method.
    pub method: Option<String>,
    /// The title that the customer saw.
    pub title: Option<String>,
    /// The payment provider's id.
    pub transaction: Option<String>,
    /// The time at which it was paid.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub paid_at: Option<jiff::Timestamp>,
}

/// Returns the sums of an order's canonical fields that do not add up, to the last minor unit of its currency. Absent
/// values are not summed.
///
/// - `totals`: lines, shipping and fees, each without tax, plus all taxes are the total.
/// - `totals.tax`: the taxes on lines, shipping and fees are all taxes.
/// - `totals.discount`: the discounts are the lines' price before them minus their price after them.
pub fn unbalanced(fields: &Map<String, Value>) -> Vec<&'static str> {
    let totals = &fields.get("totals").unwrap_or(&Value::Null);
    let list = |name: &str| fields.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let (lines, fees) = (list("lines"), list("fees"));
    let (Some(total), false) = (amount(&totals["total"]), lines.is_empty() && fees.is_empty()) else {
        return Vec::new();
    };
    let either = |all: &str, each: &str| match amount(&totals[all]) {
        Some(all) => Some(all),
        None => sum(list("shipping_lines"), each),
    };
    let parts =
        |name: &str, shipping: Option<Decimal>| sum(lines, name)?.checked_add(sum(fees, name)?)?.checked_add(shipping?);
    let net = parts("total", either("shipping", "total"));
    let taxes = parts("tax", either("shipping_tax", "tax"));
    let tax = amount(&totals["tax"]);
    let unit = minor_units(fields.get("currency").and_then(Value::as_str).unwrap_or_default());
    let same = |one: Option<Decimal>, other: Option<Decimal>| {
        let difference = one.zip(other).and_then(|(one, other)| one.checked_sub(other));
        difference.is_some_and(|difference| difference.round_dp(unit).is_zero())
    };
    let gross = net.zip(tax.or(taxes)).and_then(|(net, tax)| net.checked_add(tax));
    let discounted = lines.iter().all(|line| amount(&line["subtotal"]).is_some());
    let before = sum(lines, "subtotal").zip(sum(lines, "total")).and_then(|(before, after)| before.checked_sub(after));
    let discount = amount(&totals["discount"]);
    [
        ("totals", same(gross, Some(total))),
        ("totals.tax", tax.is_none() || same(taxes, tax)),
        ("totals.discount", discount.is_none() || lines.is_empty() || !discounted || same(before, discount)),
    ]
    .into_iter()
    .filter_map(|(name, balanced)| (!balanced).then_some(name))
    .collect()
}

fn amount(value: &Value) -> Option<Decimal> {
    value.as_str()?.parse().ok()
}

/// Sums one member of all, or returns `None` when the sum overflows.
fn sum(all: &[Value], name: &str) -> Option<Decimal> {
    all.iter().filter_map(|one| amount(&one[name])).try_fold(Decimal::ZERO, |sum, more| sum.checked_add(more))
}

/// Returns the number of decimal places of a currency's amounts (ISO 4217).
fn minor_units(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn order(currency: &str) -> Value {
        json!({
            "id": "1", "currency": currency,
            "totals": {"total": "138.20", "tax": "18.20", "shipping": "10", "shipping_tax": "1", "discount": "28"},
            "lines": [{"id": "1", "subtotal": "100", "total": "86", "tax": "13.6"},
                {"id": "2", "subtotal": "30", "total": "16", "tax": "2.4"}],
            "fees": [{"id": "1", "total": "8", "tax": "1.2"}],
            "shipping_lines": [{"id": "1", "total": "999", "tax": "999"}],
            "refunds": [{"id": "1", "total": "-5"}],
        })
    }

    fn names(order: &Value) -> Vec<&'static str> {
        unbalanced(order.as_object().unwrap())
    }

    #[test]
    fn what_does_not_add_up_is_named() {
        assert_eq!(names(&order("EUR")), Vec::<&str>::new());
        let with = |place: &str, value: &str| {
            let mut order = order("EUR");
            *order.pointer_mut(place).unwrap() = value.into();
            names(&order)
        };
        assert_eq!(with("/totals/total", "138.21"), ["totals"]);
        assert_eq!(with("/totals/total", "138.2049"), Vec::<&str>::new());
        assert_eq!(with("/lines/0/total", "86.01"), ["totals", "totals.discount"]);
        assert_eq!(with("/lines/1/tax", "2.39"), ["totals.tax"]);
        assert_eq!(with("/totals/tax", "18.19"), ["totals", "totals.tax"]);
        assert_eq!(with("/totals/discount", "8"), ["totals.discount"]);
        assert_eq!(with("/fees/0/total", "0"), ["totals"]);
        assert_eq!(with("/totals/shipping", "9"), ["totals"]);
        let most = Decimal::MAX.to_string();
        assert_eq!(with("/lines/0/total", &most), ["totals", "totals.discount"]);
    }

    #[test]
    fn the_last_minor_unit_is_the_currency_s() {
        for (currency, off, named) in [
            ("JPY", "138.6", false),
            ("JPY", "139.2", true),
            ("EUR", "138.204", false),
            ("EUR", "138.21", true),
            ("KWD", "138.201", true),
            ("KWD", "138.2004", false),
            ("XYZ", "138.21", true),
        ] {
            let mut order = order(currency);
            order["totals"]["total"] = off.into();
            assert_eq!(names(&order).contains(&"totals"), named, "{currency} {off}");
        }
    }

    #[test]
    fn what_is_absent_is_not_summed() {
        for fields in [
            json!({}),
            json!({"totals": {"total": "12.5"}}),
            json!({"totals": {"tax": "1"}, "lines": [{"total": "3"}]}),
            json!({"totals": {"total": "3"}, "lines": [{"total": "3"}]}),
            json!({"totals": {"total": "7"}, "lines": [{"total": "3"}], "shipping_lines": [{"total": "4"}]}),
            json!({"totals": {"total": "7", "discount": "1"}, "lines": [{"total": "7"}]}),
        ] {
            assert_eq!(names(&fields), Vec::<&str>::new(), "{fields}");
        }
        assert_eq!(names(&json!({"totals": {"total": "7"}, "lines": [{"total": "3"}]})), ["totals"]);
    }
}
