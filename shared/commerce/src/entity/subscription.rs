//! Owns the canonical subscription, something that was bought for as long as it is paid, and the request to change one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CustomerId, ExternalId, ProductId, SubscriptionId};

/// Something that was bought for as long as it is paid.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Subscription {
    /// The id at the platform.
    pub id: SubscriptionId,
    /// The buyer's or seller's own id for it.
    pub external_id: Option<String>,
    /// The platform's status.
    pub status: Option<String>,
    /// The name, where it has one.
    pub name: Option<String>,
    /// The product that was bought.
    pub product: Option<ProductId>,
    /// The customer who has it.
    pub customer: Option<CustomerId>,
    /// The items, with their quantities.
    pub items: Vec<SubscriptionItem>,
    /// The parameters that it was set up with, by their ids; never passwords.
    pub parameters: BTreeMap<String, String>,
    /// The time until which it is paid, or at which it has to be renewed.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub expires_at: Option<jiff::Timestamp>,
    /// The time of the next bill.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub billed_at: Option<jiff::Timestamp>,
    /// The events of its life, with their actors: `created`, `updated`.
    pub events: BTreeMap<String, Event>,
    /// The time at which it was made.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub created_at: Option<jiff::Timestamp>,
    /// The time of the source's last change.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub updated_at: Option<jiff::Timestamp>,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// The time at which it last happened.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub at: Option<jiff::Timestamp>,
    /// The actor, where the platform names one.
    pub by: Option<Actor>,
}

/// The user of the platform, or the program, that did something.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Actor {
    /// The id at the platform.
    pub id: Option<String>,
    /// The name.
    pub name: Option<String>,
}

/// A quantity of one thing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SubscriptionItem {
    /// The id at the platform.
    pub id: ExternalId,
    /// The vendor's number of it.
    pub sku: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// The quantity, as the platform writes it: a number, or a word such as `unlimited`.
    pub quantity: Option<String>,
    /// The quantity before the change.
    pub old_quantity: Option<String>,
}

/// A request to make or change a subscription, which waits for an answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Request {
    /// The id at the platform.
    pub id: ExternalId,
    /// The kind of request: `purchase`, `change`, `cancel`, …
    pub kind: Option<String>,
    /// The platform's status.
    pub status: String,
    /// The subscription that it is about.
    pub subscription: Option<SubscriptionId>,
    /// The product that it is about.
    pub product: Option<ProductId>,
    /// The customer who asks.
    pub customer: Option<CustomerId>,
    /// The items that it asks for, with their quantities.
    pub items: Vec<SubscriptionItem>,
    /// The parameters that it is made with, by their ids; never passwords.
    pub parameters: BTreeMap<String, String>,
    /// The reason for its refusal.
    pub reason: Option<String>,
    /// A note of those who work on it.
    pub note: Option<String>,
    /// The events of its life, with their actors: `created`, `inquired`, `pended`, `updated` and others that the
    /// platform reports.
    pub events: BTreeMap<String, Event>,
    /// The time at which it was made.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub created_at: Option<jiff::Timestamp>,
    /// The time of the source's last change.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Time>"))]
    pub updated_at: Option<jiff::Timestamp>,
}
