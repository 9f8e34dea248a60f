//! Owns the canonical entities. They are the same for every platform, so a reader of the table need not know the
//! platform.
//!
//! Ids are newtypes, money is decimal beside its currency, times are UTC. A platform's fields beyond the canonical ones
//! are kept under `extra`, under the platform's own names. Empty values (`null`, `""`, `[]`, `{}`) are left out: absent
//! means empty.

mod cart;
mod catalog;
mod coupon;
mod customer;
pub mod depth;
mod hidden;
mod order;
mod product;
mod record;
#[cfg(feature = "schema")]
pub mod schema;
mod subscription;

use std::{fmt, str::FromStr};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::{
    cart::Cart,
    catalog::{CategoryEntity, CurrencyPrice, Price, PriceTier},
    coupon::Coupon,
    customer::{Address, Customer},
    hidden::hide,
    order::{
        AppliedCoupon, Fee, Line, Order, Package, Payment, Payments, Refund, ShippingLine, Tax, Totals, Transaction,
        unbalanced,
    },
    product::{Category, Choice, Product, Stock},
    record::Record,
    subscription::{Actor, Event, Request, Subscription, SubscriptionItem},
};
use crate::key::ConnectionKey;

/// The version of the entities' JSON Schemas. It rises when a field goes or gets another type, never when one comes.
pub const SCHEMA_VERSION: u32 = 1;

/// The kinds of entity that are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Entity"))]
#[serde(rename_all = "kebab-case")]
pub enum EntityKind {
    /// A buyer with an account.
    Customer,
    /// Something that is sold, variations included.
    Product,
    /// A sale.
    Order,
    /// A discount that is entered as a code.
    Coupon,
    /// A category of products.
    Category,
    /// The price of a variation in a price list.
    Price,
    /// The things that somebody is about to buy.
    Cart,
    /// Something that was bought for as long as it is paid.
    Subscription,
    /// A request to make or change a subscription.
    Request,
    /// An event that stands for itself, kept as it came.
    Record,
}

impl EntityKind {
    /// Returns the name, the first part of the sort key.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Product => "product",
            Self::Order => "order",
            Self::Coupon => "coupon",
            Self::Category => "category",
            Self::Price => "price",
            Self::Cart => "cart",
            Self::Subscription => "subscription",
            Self::Request => "request",
            Self::Record => "record",
        }
    }
}

impl fmt::Display for EntityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An entity's id at its platform: 1 to 256 bytes without control characters. Numeric ids become decimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "schema::Id", inline))]
#[serde(try_from = "RawId", into = "String")]
pub struct ExternalId(String);

/// The error for a text that cannot be an id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to 256 bytes without control characters")]
pub struct NotAnId;

#[derive(Deserialize)]
#[serde(untagged)]
enum RawId {
    Number(u64),
    Text(String),
}

impl TryFrom<RawId> for ExternalId {
    type Error = NotAnId;

    fn try_from(raw: RawId) -> Result<Self, NotAnId> {
        match raw {
            RawId::Number(number) => Ok(Self(number.to_string())),
            RawId::Text(text) => text.parse(),
        }
    }
}

impl FromStr for ExternalId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let legal = (1..=256).contains(&text.len()) && !text.chars().any(char::is_control);
        if legal { Ok(Self(text.to_owned())) } else { Err(NotAnId) }
    }
}

impl From<u64> for ExternalId {
    fn from(number: u64) -> Self {
        Self(number.to_string())
    }
}

impl From<ExternalId> for String {
    fn from(id: ExternalId) -> Self {
        id.0
    }
}

impl ExternalId {
    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExternalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
        #[serde(transparent)]
        pub struct $name(pub ExternalId);
    )*};
}

ids! {
    /// The id of a customer.
    CustomerId,
    /// The id of a product or a variation.
    ProductId,
    /// The id of an order.
    OrderId,
    /// The id of a coupon.
    CouponId,
    /// The id of a subscription.
    SubscriptionId,
}

/// The key of an entity's item: partition `{platform}#{connection}`, sort `{entity}#{external id}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EntityKey {
    /// The connection that the entity belongs to.
    pub connection: ConnectionKey,
    /// The kind of entity.
    pub kind: EntityKind,
    /// The entity's id at the platform.
    pub id: ExternalId,
}

impl EntityKey {
    /// Parses a sort key of the connection.
    pub fn of(connection: &ConnectionKey, sort: &str) -> Option<Self> {
        let (kind, id) = sort.split_once('#')?;
        let kind = serde_json::from_value(kind.into()).ok()?;
        Some(Self { connection: connection.clone(), kind, id: id.parse().ok()? })
    }

    /// Returns the partition key.
    pub fn partition(&self) -> String {
        self.connection.to_string()
    }

    /// Returns the sort key.
    pub fn sort(&self) -> String {
        format!("{}#{}", self.kind, self.id)
    }
}

/// The kept content of an entity: the canonical fields, and the platform's fields beyond them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Content {
    /// The canonical fields, those of [`Customer`], [`Product`], [`Order`] or another entity of this module.
    pub fields: Map<String, Value>,
    /// The platform's fields beyond them, under the platform's own names.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
    /// The places of the platform's entity that could not be read and were dropped, in the platform's own words:
    /// `stock_quantity`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

impl Content {
    /// Joins a canonical entity and the platform's fields beyond it. Leaves out empty values, and values that let their
    /// holder act ([`hide`]).
    ///
    /// # Errors
    /// Fails when `entity` does not serialise to an object.
    pub fn new(entity: &impl Serialize, extra: Map<String, Value>) -> Result<Self, serde_json::Error> {
        let mut fields = serde_json::to_value(entity)?;
        let mut extra = Value::Object(extra);
        [&mut fields, &mut extra].into_iter().filter_map(Value::as_object_mut).for_each(hide);
        drop_empty(&mut fields);
        drop_empty(&mut extra);
        match (fields, extra) {
            (Value::Object(mut fields), Value::Object(mut extra)) => {
                [&mut fields, &mut extra].into_iter().for_each(depth::limit);
                Ok(Self { fields, extra, unreadable: Vec::new() })
            }
            _ => Err(serde::ser::Error::custom("an entity must be an object")),
        }
    }

    /// Makes the content of one facet. An empty value is kept as `null`, which says that the field is now empty, while
    /// an absent one says nothing. An object is only the path to its members.
    pub fn facet(fields: Map<String, Value>, extra: Map<String, Value>) -> Self {
        let cleared = |mut members: Map<String, Value>| {
            hide(&mut members);
            members.values_mut().for_each(clear_empty);
            depth::limit(&mut members);
            members
        };
        Self { fields: cleared(fields), extra: cleared(extra), unreadable: Vec::new() }
    }

    /// Adds places that could not be read.
    #[must_use]
    pub fn with_unreadable(mut self, places: impl IntoIterator<Item = String>) -> Self {
        self.unreadable.extend(places);
        self.unreadable.sort();
        self.unreadable.dedup();
        self
    }

    /// Adds the sums of an order that do not add up, as [`unbalanced`] names them, to the unreadable places.
    #[must_use]
    pub fn with_unbalanced(self, kind: EntityKind) -> Self {
        let names = if kind == EntityKind::Order { unbalanced(&self.fields) } else { Vec::new() };
        self.with_unreadable(names.into_iter().map(str::to_owned))
    }

    /// Puts a facet over this content: merges objects and replaces all else. `null`s stay, for facets that come later.
    pub fn overlay(&mut self, facet: &Self) {
        overlay(&mut self.fields, &facet.fields);
        overlay(&mut self.extra, &facet.extra);
        *self = std::mem::take(self).with_unreadable(facet.unreadable.iter().cloned());
    }

    /// Drops empty values.
    #[must_use]
    pub fn without_empty(mut self) -> Self {
        for part in [&mut self.fields, &mut self.extra] {
            let mut members = Value::Object(std::mem::take(part));
            drop_empty(&mut members);
            if let Value::Object(members) = members {
                *part = members;
            }
        }
        self
    }

    /// Hashes everything that is kept, to 128 bits in base64url. Keys are sorted, so their order does not matter.
    pub fn hash(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [&self.fields, &self.extra] {
            let text = serde_json::to_vec(part).unwrap_or_default();
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(&text);
        }
        // Without unreadable places, the hash is that of the content alone.
        for place in &self.unreadable {
            context.update(&(place.len() as u64).to_be_bytes());
            context.update(place.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(&context.finish().as_ref()[..16])
    }
}

impl Content {
    /// Hashes some of the canonical members alone, as [`hash`](Self::hash) does.
    pub fn hash_of(&self, members: &[String]) -> String {
        let part = self.fields.iter().filter(|(name, _)| members.contains(name));
        let fields = part.map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { fields, ..Self::default() }.hash()
    }
}

/// Returns the entities that an entity refers to by its canonical fields, each once.
pub fn references(kind: EntityKind, content: &Content) -> Vec<(EntityKind, ExternalId)> {
    let mut found = Vec::new();
    let mut add = |kind: EntityKind, id: Option<&Value>| {
        let Some(id) = id.and_then(Value::as_str).and_then(|id| id.parse::<ExternalId>().ok()) else { return };
        if !found.contains(&(kind, id.clone())) {
            found.push((kind, id));
        }
    };
    let fields = &content.fields;
    match kind {
        EntityKind::Order | EntityKind::Cart => {
            add(EntityKind::Customer, fields.get("customer"));
            for line in fields.get("lines").and_then(Value::as_array).into_iter().flatten() {
                add(EntityKind::Product, line.get("product"));
            }
        }
        EntityKind::Request => add(EntityKind::Subscription, fields.get("subscription")),
        EntityKind::Subscription => add(EntityKind::Customer, fields.get("customer")),
        _ => {}
    }
    found
}

fn overlay(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (name, value) in over {
        match (base.get_mut(name), value) {
            (Some(Value::Object(base)), Value::Object(over)) => overlay(base, over),
            _ => _ = base.insert(name.clone(), value.clone()),
        }
    }
}

/// Replaces `""` and `[]` by `null`. It leaves `{}`, which says nothing about its members: a `null` in its place would
/// clear them all.
fn clear_empty(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(clear_empty),
        Value::String(text) if text.is_empty() => *value = Value::Null,
        Value::Array(elements) if elements.is_empty() => *value = Value::Null,
        Value::Array(elements) => elements.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

/// Drops members of objects that are `null`, `""`, `[]` or `{}`, from the inside out. Elements of arrays stay, because
/// their positions have a meaning.
fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(drop_empty);
            members.retain(|_, member| match member {
                Value::Null => false,
                Value::String(text) => !text.is_empty(),
                Value::Array(elements) => !elements.is_empty(),
                Value::Object(members) => !members.is_empty(),
                Value::Bool(_) | Value::Number(_) => true,
            });
        }
        Value::Array(elements) => elements.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else { unreachable!() };
        object
    }

    #[test]
    fn ids_are_numbers_or_texts() {
        let id = |value: Value| serde_json::from_value::<ExternalId>(value).map(|id| id.0).ok();
        assert_eq!(id(json!(13)).as_deref(), Some("13"));
        assert_eq!(id(json!("PR-1")).as_deref(), Some("PR-1"));
        for bad in [json!(""), json!("a\nb"), json!(-1), json!(1.5), json!(null), json!("x".repeat(257))] {
            assert_eq!(id(bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn the_hash_covers_everything_and_ignores_the_order_of_keys() {
        let content = |fields, extra| Content { fields: object(fields), extra: object(extra), unreadable: vec![] };
        let a = content(json!({"a": 1, "b": 2}), json!({}));
        assert_eq!(a.hash(), content(json!({"b": 2, "a": 1}), json!({})).hash());
        assert_ne!(a.hash(), content(json!({"a": 1, "b": 3}), json!({})).hash());
        assert_ne!(a.hash(), content(json!({"a": 1}), json!({"b": 2})).hash());
        assert_eq!(a.hash().len(), 22);
        assert_ne!(a.hash(), a.clone().with_unreadable(["x".to_owned()]).hash());
    }

    #[test]
    fn what_is_empty_is_left_out_from_the_inside_out() {
        let content =
            Content::new(&json!({"a": "", "b": {"c": null, "d": []}, "e": 0, "f": false}), object(json!({"x": {}})));
        assert_eq!(serde_json::to_value(content.unwrap()).unwrap(), json!({"fields": {"e": 0, "f": false}}));
    }

    #[test]
    fn a_facet_clears_with_null_and_says_nothing_by_absence() {
        let facet = |fields| Content::facet(object(fields), Map::new());
        let mut content =
            Content { fields: object(json!({"a": 1, "b": 2, "p": {"1": {"x": 1, "y": 2}}})), ..Content::default() };
        content.overlay(&facet(json!({"a": null, "p": {"1": {"x": ""}, "2": {"x": []}, "3": {}}})));
        content.overlay(&facet(json!({"p": {"2": {"x": 3}}, "c": {}})));
        let expected = json!({"b": 2, "p": {"1": {"y": 2}, "2": {"x": 3}}});
        assert_eq!(Value::Object(content.without_empty().fields), expected);
    }
}
