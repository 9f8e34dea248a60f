//! Owns the canonical customer and the address that orders share with it.

use serde::{Deserialize, Serialize};

use super::CustomerId;

/// Somebody who buys, with an account at the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Customer {
    /// Id at the platform.
    pub id: CustomerId,
    /// E-mail address.
    pub email: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// Where invoices go.
    pub billing: Address,
    /// Where goods go.
    pub shipping: Address,
    /// When the account was made.
    pub created_at: Option<jiff::Timestamp>,
    /// When the source last changed it.
    pub updated_at: Option<jiff::Timestamp>,
}

/// A postal address with who is there.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Address {
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// Company.
    pub company: Option<String>,
    /// Street and number.
    pub line1: Option<String>,
    /// What else the street needs.
    pub line2: Option<String>,
    /// City.
    pub city: Option<String>,
    /// Subdivision: an ISO 3166-2 code or free text.
    pub region: Option<String>,
    /// Postal code.
    pub postcode: Option<String>,
    /// Country, ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Phone number, as it was entered.
    pub phone: Option<String>,
}
