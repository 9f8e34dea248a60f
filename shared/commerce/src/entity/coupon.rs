//! Owns the canonical coupon.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{CouponId, ProductId};

/// A discount that is entered as a code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Coupon {
    /// Id at the platform.
    pub id: CouponId,
    /// What the customer enters.
    pub code: String,
    /// The platform's kind of discount: `percent`, `fixed_cart`, `fixed_product`.
    pub kind: Option<String>,
    /// Percent, or an amount of money, as `kind` says.
    pub amount: Option<Decimal>,
    /// Currency of the amounts, ISO 4217; absent where the platform has one currency for the store.
    pub currency: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// How often it was used.
    pub used: Option<u64>,
    /// How often it can be used.
    pub usage_limit: Option<u64>,
    /// How often one customer can use it.
    pub usage_limit_per_customer: Option<u64>,
    /// The least that an order must come to.
    pub minimum: Option<Decimal>,
    /// The most that an order may come to.
    pub maximum: Option<Decimal>,
    /// Products that it is for; empty means all.
    pub products: Vec<ProductId>,
    /// From when on it cannot be used.
    pub expires_at: Option<jiff::Timestamp>,
    /// When it was made.
    pub created_at: Option<jiff::Timestamp>,
    /// When the source last changed it.
    pub updated_at: Option<jiff::Timestamp>,
}
