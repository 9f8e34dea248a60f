//! Owns the canonical cart.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{CustomerId, ExternalId, Line, OrderId};

/// What somebody is about to buy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cart {
    /// Id at the platform.
    pub id: ExternalId,
    /// `converted` into an order, or `abandoned`; absent for any other.
    pub status: Option<String>,
    /// The order that it became.
    pub order: Option<OrderId>,
    /// Whose it is; absent for guests.
    pub customer: Option<CustomerId>,
    /// E-mail address, where one was entered.
    pub email: Option<String>,
    /// Currency of all amounts, ISO 4217.
    pub currency: Option<String>,
    /// What it comes to.
    pub total: Option<Decimal>,
    /// What is in it.
    pub lines: Vec<Line>,
    /// The codes that were entered.
    pub coupons: Vec<String>,
    /// When it was made.
    pub created_at: Option<jiff::Timestamp>,
    /// When the source last changed it.
    pub updated_at: Option<jiff::Timestamp>,
}
