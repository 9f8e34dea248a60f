//! Owns the canonical product; a variation is a product with a parent.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::ProductId;

/// Something that is sold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Product {
    /// Id at the platform.
    pub id: ProductId,
    /// The product that this is a variation of.
    pub parent: Option<ProductId>,
    /// `simple`, `variable`, `variation`, or what else the platform calls it.
    pub kind: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// The merchant's own number.
    pub sku: Option<String>,
    /// GTIN, UPC, EAN or ISBN.
    pub barcode: Option<String>,
    /// The platform's publication status.
    pub status: Option<String>,
    /// What it costs now.
    pub price: Option<Decimal>,
    /// What it costs without a sale.
    pub regular_price: Option<Decimal>,
    /// What it costs in a sale.
    pub sale_price: Option<Decimal>,
    /// Currency of the prices, ISO 4217; absent where the platform prices products in the store's one currency.
    pub currency: Option<String>,
    /// What is left of it.
    pub stock: Stock,
    /// Description, HTML where the platform has HTML.
    pub description: Option<String>,
    /// Its page in the store.
    pub url: Option<String>,
    /// Where it stands in the catalogue.
    pub categories: Vec<Category>,
    /// Addresses of its pictures, the main one first.
    pub images: Vec<String>,
    /// What can be chosen (of a product), or was (of a variation).
    pub choices: Vec<Choice>,
    /// Its variations.
    pub variations: Vec<ProductId>,
    /// When it was made.
    pub created_at: Option<jiff::Timestamp>,
    /// When the source last changed it.
    pub updated_at: Option<jiff::Timestamp>,
}

/// What is left of a product.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Stock {
    /// How much, where the store counts.
    pub quantity: Option<Decimal>,
    /// The platform's word for it: `instock`, `outofstock`, `onbackorder`.
    pub status: Option<String>,
}

/// A place in the catalogue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Category {
    /// Id at the platform.
    pub id: super::ExternalId,
    /// Name.
    pub name: Option<String>,
}

/// An attribute with its values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Choice {
    /// The attribute: `Size`.
    pub name: Option<String>,
    /// Its values: all that can be chosen, or the one that was.
    pub values: Vec<String>,
}
