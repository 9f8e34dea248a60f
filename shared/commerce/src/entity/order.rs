//! Owns the canonical order: one item with all that comes with it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{Address, CustomerId, ExternalId, OrderId, ProductId};

/// A sale. All its amounts are in its `currency`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Id at the platform.
    pub id: OrderId,
    /// The number that people use; often, but not always, the id.
    pub number: Option<String>,
    /// The order that this one belongs to.
    pub parent: Option<OrderId>,
    /// The platform's status. An open set: plugins add to it.
    pub status: String,
    /// Currency of all amounts, ISO 4217.
    pub currency: Option<String>,
    /// Who bought; absent for guests.
    pub customer: Option<CustomerId>,
    /// What it comes to.
    pub totals: Totals,
    /// What was bought.
    pub lines: Vec<Line>,
    /// How it is sent.
    pub shipping_lines: Vec<ShippingLine>,
    /// What else is charged.
    pub fees: Vec<Fee>,
    /// Coupons that were used.
    pub coupons: Vec<AppliedCoupon>,
    /// Taxes by rate.
    pub taxes: Vec<Tax>,
    /// What was paid back.
    pub refunds: Vec<Refund>,
    /// Where the invoice goes.
    pub billing: Address,
    /// Where the goods go.
    pub shipping: Address,
    /// How it is paid.
    pub payment: Payment,
    /// Each payment, where the platform tells of them one by one; by its id.
    pub payments: Payments,
    /// Each package, where the platform tells of them one by one; by its id.
    pub packages: BTreeMap<String, Package>,
    /// What the customer wrote.
    pub note: Option<String>,
    /// When it was placed.
    pub created_at: Option<Timestamp>,
    /// When the source last changed it.
    pub updated_at: Option<Timestamp>,
    /// When it was done.
    pub completed_at: Option<Timestamp>,
}

/// What an order comes to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// What the customer pays, taxes included.
    pub total: Option<Decimal>,
    /// All taxes.
    pub tax: Option<Decimal>,
    /// Shipping without tax.
    pub shipping: Option<Decimal>,
    /// Tax on shipping.
    pub shipping_tax: Option<Decimal>,
    /// Discounts without tax.
    pub discount: Option<Decimal>,
    /// Tax on discounts.
    pub discount_tax: Option<Decimal>,
    /// Whether the prices of the lines were entered with tax.
    pub prices_include_tax: Option<bool>,
}

/// One thing that was bought.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Id at the platform.
    pub id: ExternalId,
    /// The product; absent when it is gone from the catalogue.
    pub product: Option<ProductId>,
    /// The variation of the product.
    pub variation: Option<ProductId>,
    /// Name as sold.
    pub name: Option<String>,
    /// The merchant's number as sold.
    pub sku: Option<String>,
    /// How many.
    pub quantity: Decimal,
    /// Price of one, after discounts.
    pub price: Option<Decimal>,
    /// All of them, before discounts, without tax.
    pub subtotal: Option<Decimal>,
    /// All of them, after discounts, without tax.
    pub total: Option<Decimal>,
    /// Tax on the total.
    pub tax: Option<Decimal>,
}

/// One way in which an order is sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShippingLine {
    /// Id at the platform.
    pub id: ExternalId,
    /// The platform's method.
    pub method: Option<String>,
    /// What the customer saw.
    pub title: Option<String>,
    /// Without tax.
    pub total: Option<Decimal>,
    /// Tax on the total.
    pub tax: Option<Decimal>,
}

/// Something else that is charged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fee {
    /// Id at the platform.
    pub id: ExternalId,
    /// Name.
    pub name: Option<String>,
    /// Without tax.
    pub total: Option<Decimal>,
    /// Tax on the total.
    pub tax: Option<Decimal>,
}

/// A coupon that was used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AppliedCoupon {
    /// Id of the line at the platform.
    pub id: ExternalId,
    /// The code that was entered.
    pub code: Option<String>,
    /// What it took off, without tax.
    pub discount: Option<Decimal>,
    /// Tax on the discount.
    pub tax: Option<Decimal>,
}

/// The taxes of one rate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tax {
    /// Id of the line at the platform.
    pub id: ExternalId,
    /// The rate's code.
    pub code: Option<String>,
    /// The rate's name.
    pub label: Option<String>,
    /// In percent.
    pub rate: Option<Decimal>,
    /// Tax on lines and fees.
    pub total: Option<Decimal>,
    /// Tax on shipping.
    pub shipping: Option<Decimal>,
}

/// Something that was paid back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refund {
    /// Id at the platform.
    pub id: ExternalId,
    /// Why.
    pub reason: Option<String>,
    /// How much, as the platform signs it: WooCommerce below zero.
    pub total: Option<Decimal>,
}

/// Payments by their ids. By id and not in a list, because each can change alone.
pub type Payments = BTreeMap<String, Transaction>;

/// One payment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Transaction {
    /// The platform's kind: `Charge`, `refund`, ...
    pub kind: Option<String>,
    /// The platform's status.
    pub status: Option<String>,
    /// How much.
    pub amount: Option<Decimal>,
    /// Currency of the amount, ISO 4217.
    pub currency: Option<String>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
}

/// One package.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Package {
    /// The platform's status.
    pub status: Option<String>,
    /// Who carries it.
    pub carrier: Option<String>,
    /// How.
    pub method: Option<String>,
    /// With which it can be followed.
    pub tracking_number: Option<String>,
    /// When it was sent.
    pub shipped_at: Option<Timestamp>,
}

/// How an order is paid.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Payment {
    /// The platform's method.
    pub method: Option<String>,
    /// What the customer saw.
    pub title: Option<String>,
    /// The payment provider's id.
    pub transaction: Option<String>,
    /// When it was paid.
    pub paid_at: Option<Timestamp>,
}
