//! Owns a catalogue's entities beside products: categories, and prices of price lists.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{ExternalId, ProductId};

/// A category of products.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CategoryEntity {
    /// The id at the platform.
    pub id: ExternalId,
    /// The category that contains this one.
    pub parent: Option<ExternalId>,
    /// The name.
    pub name: Option<String>,
    /// The description, HTML where the platform has HTML.
    pub description: Option<String>,
    /// `true` when shoppers see the category.
    pub visible: Option<bool>,
    /// The category's page in the store.
    pub url: Option<String>,
    /// The time of the source's last change.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub updated_at: Option<jiff::Timestamp>,
}

/// The price of one variation in one price list, in each of its currencies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Price {
    /// The id, `{price list}:{variation}`.
    pub id: ExternalId,
    /// The price list.
    pub list: ExternalId,
    /// The variation.
    pub variation: ProductId,
    /// The prices, one for each currency, sorted by currency.
    pub prices: Vec<CurrencyPrice>,
}

/// A price in one currency.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CurrencyPrice {
    /// The currency, ISO 4217.
    pub currency: String,
    /// The price.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub price: Option<Decimal>,
    /// The price in a sale.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub sale_price: Option<Decimal>,
    /// The price that the manufacturer recommends.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub retail_price: Option<Decimal>,
    /// The prices of larger quantities.
    pub tiers: Vec<PriceTier>,
}

/// The price of each piece in a range of quantities.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PriceTier {
    /// The least quantity.
    pub from: Option<u64>,
    /// The greatest quantity; absent where there is none.
    pub to: Option<u64>,
    /// The meaning of the amount, in the platform's own word. BigCommerce's `price` and `percent` are taken off each
    /// piece, and `fixed` is the price of each.
    pub kind: Option<String>,
    /// The amount.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub amount: Option<Decimal>,
}
