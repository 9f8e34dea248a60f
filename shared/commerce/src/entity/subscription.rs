//! Owns the canonical subscription, what somebody has bought for as long as it is paid, and the request to change one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CustomerId, ExternalId, ProductId, SubscriptionId};

/// Something that was bought for as long as it is paid.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Subscription {
    /// Id at the platform.
    pub id: SubscriptionId,
    /// The buyer's or seller's own id for it.
    pub external_id: Option<String>,
    /// The platform's status.
    pub status: Option<String>,
    /// Name, where it has one.
    pub name: Option<String>,
    /// What was bought.
    pub product: Option<ProductId>,
    /// Who has it.
    pub customer: Option<CustomerId>,
    /// How many of what.
    pub items: Vec<SubscriptionItem>,
    /// What it was set up with, by the parameter's id; never passwords.
    pub parameters: BTreeMap<String, String>,
    /// Until when it is paid, or when it has to be renewed.
    pub expires_at: Option<jiff::Timestamp>,
    /// When it is billed next.
    pub billed_at: Option<jiff::Timestamp>,
    /// What has happened to it, and who did it: `created`, `updated`.
    pub events: BTreeMap<String, Event>,
    /// When it was made.
    pub created_at: Option<jiff::Timestamp>,
    /// When the source last changed it.
    pub updated_at: Option<jiff::Timestamp>,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When, the last time.
    pub at: Option<jiff::Timestamp>,
    /// Who did it, where that is told.
    pub by: Option<Actor>,
}

/// Who did something: a user of the platform, or a program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Actor {
    /// Id at the platform.
    pub id: Option<String>,
    /// Name.
    pub name: Option<String>,
}

/// How many of one thing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SubscriptionItem {
    /// Id at the platform.
    pub id: ExternalId,
    /// The vendor's number of it.
    pub sku: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// How many, as the platform writes it: a number, or a word such as `unlimited`.
    pub quantity: Option<String>,
    /// How many there were before.
    pub old_quantity: Option<String>,
}

/// Somebody wants a subscription made or changed, and waits for the answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Id at the platform.
    pub id: ExternalId,
    /// What is asked for: `purchase`, `change`, `cancel`, …
    pub kind: Option<String>,
    /// The platform's status.
    pub status: String,
    /// The subscription that it is about.
    pub subscription: Option<SubscriptionId>,
    /// The product that it is about.
    pub product: Option<ProductId>,
    /// Who asks.
    pub customer: Option<CustomerId>,
    /// How many of what.
    pub items: Vec<SubscriptionItem>,
    /// What it is asked with, by the parameter's id; never passwords.
    pub parameters: BTreeMap<String, String>,
    /// Why it was refused.
    pub reason: Option<String>,
    /// A note of those who work on it.
    pub note: Option<String>,
    /// What has happened to it, and who did it: `created`, `inquired`, `pended`, `updated` and whatever else the platform tells.
    pub events: BTreeMap<String, Event>,
    /// When it was made.
    pub created_at: Option<jiff::Timestamp>,
    /// When the source last changed it.
    pub updated_at: Option<jiff::Timestamp>,
}
