//! Owns the canonical customer and the address that orders share with it.

use serde::{Deserialize, Serialize};

use super::CustomerId;

/// A buyer with an account at the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Customer {
    /// The id at the platform.
    pub id: CustomerId,
    /// The e-mail address.
    pub email: Option<String>,
    /// The first name.
    pub first_name: Option<String>,
    /// The last name.
    pub last_name: Option<String>,
    /// The address for invoices.
    pub billing: Address,
    /// The address for goods.
    pub shipping: Address,
    /// The time at which the account was made.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub created_at: Option<jiff::Timestamp>,
    /// The time of the source's last change.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub updated_at: Option<jiff::Timestamp>,
}

/// A postal address with its recipient.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Address {
    /// The first name.
    pub first_name: Option<String>,
    /// The last name.
    pub last_name: Option<String>,
    /// The company.
    pub company: Option<String>,
    /// The street and number.
    pub line1: Option<String>,
    /// The rest of the street address.
    pub line2: Option<String>,
    /// The city.
    pub city: Option<String>,
    /// The subdivision: an ISO 3166-2 code or free text.
    pub region: Option<String>,
    /// The postal code.
    pub postcode: Option<String>,
    /// The country, ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// The e-mail address.
    pub email: Option<String>,
    /// The phone number, as it was entered.
    pub phone: Option<String>,
}
