//! Owns the canonical product; a variation is a product with a parent.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::ProductId;

/// Something that is sold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Product {
    /// The id at the platform.
    pub id: ProductId,
    /// The product that this is a variation of.
    pub parent: Option<ProductId>,
    /// The kind: `simple`, `variable`, `variation`, or another word of the platform's.
    pub kind: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// The merchant's own number.
    pub sku: Option<String>,
    /// The GTIN, UPC, EAN or ISBN.
    pub barcode: Option<String>,
    /// The platform's publication status.
    pub status: Option<String>,
    /// The current price.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub price: Option<Decimal>,
    /// The price without a sale.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub regular_price: Option<Decimal>,
    /// The price in a sale.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub sale_price: Option<Decimal>,
    /// The currency of the prices, ISO 4217; absent where the platform prices products in the store's one currency.
    pub currency: Option<String>,
    /// The remaining stock.
    pub stock: Stock,
    /// The description, HTML where the platform has HTML.
    pub description: Option<String>,
    /// The product's page in the store.
    pub url: Option<String>,
    /// The product's places in the catalogue.
    pub categories: Vec<Category>,
    /// The addresses of its pictures, the main one first.
    pub images: Vec<String>,
    /// The choices that a product offers, or those that a variation has made.
    pub choices: Vec<Choice>,
    /// The ids of its variations.
    pub variations: Vec<ProductId>,
    /// The time at which it was made.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub created_at: Option<jiff::Timestamp>,
    /// The time of the source's last change.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub updated_at: Option<jiff::Timestamp>,
}

/// The remaining stock of a product.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stock {
    /// The quantity, where the store counts.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Amount>"))]
    pub quantity: Option<Decimal>,
    /// The platform's word for it: `instock`, `outofstock`, `onbackorder`.
    pub status: Option<String>,
}

/// A place in the catalogue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Category {
    /// The id at the platform.
    pub id: super::ExternalId,
    /// The name.
    pub name: Option<String>,
}

/// An attribute with its values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Choice {
    /// The attribute: `Size`.
    pub name: Option<String>,
    /// The values: all that can be chosen, or the chosen one.
    pub values: Vec<String>,
}
