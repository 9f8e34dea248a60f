//! Owns what a catalogue has beside products: categories, and prices of price lists.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{ExternalId, ProductId};

/// A category of products.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CategoryEntity {
    /// Id at the platform.
    pub id: ExternalId,
    /// The category that this one is in.
    pub parent: Option<ExternalId>,
    /// Name.
    pub name: Option<String>,
    /// Description, HTML where the platform has HTML.
    pub description: Option<String>,
    /// Whether shoppers see it.
    pub visible: Option<bool>,
    /// Its page in the store.
    pub url: Option<String>,
    /// When the source last changed it.
    pub updated_at: Option<jiff::Timestamp>,
}

/// What one variation costs in one price list, in each of its currencies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Price {
    /// `{price list}:{variation}`.
    pub id: ExternalId,
    /// The price list.
    pub list: ExternalId,
    /// The variation.
    pub variation: ProductId,
    /// By currency, sorted by it.
    pub prices: Vec<CurrencyPrice>,
}

/// A price in one currency.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CurrencyPrice {
    /// Currency, ISO 4217.
    pub currency: String,
    /// What it costs.
    pub price: Option<Decimal>,
    /// What it costs in a sale.
    pub sale_price: Option<Decimal>,
    /// What the manufacturer recommends.
    pub retail_price: Option<Decimal>,
    /// What many of them cost.
    pub tiers: Vec<PriceTier>,
}

/// What each costs where many are bought.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PriceTier {
    /// From how many on.
    pub from: Option<u64>,
    /// Up to how many; absent where there is no end.
    pub to: Option<u64>,
    /// What the amount is, in the platform's own word: BigCommerce's `price` is taken off each, `percent` too, and `fixed` is what
    /// each costs.
    pub kind: Option<String>,
    /// How much.
    pub amount: Option<Decimal>,
}
