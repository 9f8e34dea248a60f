//! Owns the canonical coupon.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{CouponId, ProductId};

/// A discount that is entered as a code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Coupon {
    /// The id at the platform.
    pub id: CouponId,
    /// The code that the customer enters.
    pub code: String,
    /// The platform's kind of discount: `percent`, `fixed_cart`, `fixed_product`.
    pub kind: Option<String>,
    /// The discount, in percent or as money, as `kind` says.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub amount: Option<Decimal>,
    /// The currency of the amounts, ISO 4217; absent where the platform has one currency for the store.
    pub currency: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// The number of times that it was used.
    pub used: Option<u64>,
    /// The number of times that it can be used.
    pub usage_limit: Option<u64>,
    /// The number of times that one customer can use it.
    pub usage_limit_per_customer: Option<u64>,
    /// The least total of an order that it can be used for.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub minimum: Option<Decimal>,
    /// The greatest total of an order that it can be used for.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub maximum: Option<Decimal>,
    /// The products that it is for; empty means all.
    pub products: Vec<ProductId>,
    /// The time from which it cannot be used.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub expires_at: Option<jiff::Timestamp>,
    /// The time at which it was made.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub created_at: Option<jiff::Timestamp>,
    /// The time of the source's last change.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub updated_at: Option<jiff::Timestamp>,
}
