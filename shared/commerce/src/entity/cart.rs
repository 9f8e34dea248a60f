//! Owns the canonical cart.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{CustomerId, ExternalId, Line, OrderId};

/// The things that somebody is about to buy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cart {
    /// The id at the platform.
    pub id: ExternalId,
    /// The status: `converted` into an order, or `abandoned`; absent for any other.
    pub status: Option<String>,
    /// The order that it became.
    pub order: Option<OrderId>,
    /// The customer; absent for guests.
    pub customer: Option<CustomerId>,
    /// The e-mail address, where one was entered.
    pub email: Option<String>,
    /// The currency of all amounts, ISO 4217.
    pub currency: Option<String>,
    /// The total.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub total: Option<Decimal>,
    /// The lines.
    pub lines: Vec<Line>,
    /// The codes that were entered.
    pub coupons: Vec<String>,
    /// The time at which it was made.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub created_at: Option<jiff::Timestamp>,
    /// The time of the source's last change.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub updated_at: Option<jiff::Timestamp>,
}
