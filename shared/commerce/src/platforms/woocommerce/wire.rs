//! WooCommerce's REST objects (`wc/v3`) as they travel, tolerant of the effects of versions and plugins: numbers as
//! strings and strings as numbers, `""` and `null` for nothing, `0` for no id, times without a zone.
//!
//! Members that are not named here go to `rest`, and from there to the entity's `extra`.

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    entity::ExternalId,
    platform::lenient::{
        count, decimal, flag, id, ids, lines, object, objects, quantity, required_decimal, required_id, text, texts,
        time, version,
    },
};

/// The members that identify a body before it is read as an entity.
#[derive(Deserialize)]
pub struct Head {
    /// The entity's id; the only member of deletes.
    #[serde(default, deserialize_with = "id")]
    pub id: Option<ExternalId>,
    /// The code of an error object.
    #[serde(default, deserialize_with = "text")]
    pub code: Option<String>,
    /// The data of an error object.
    #[serde(default)]
    pub data: Option<Box<RawValue>>,
    /// The status of orders, products and coupons: `trash` is as good as deleted.
    #[serde(default, deserialize_with = "text")]
    pub status: Option<String>,
    /// The role of customers.
    #[serde(default, deserialize_with = "text")]
    pub role: Option<String>,
    /// `true` for customers who have paid for an order.
    #[serde(default, deserialize_with = "flag")]
    pub is_paying_customer: Option<bool>,
}

impl Head {
    /// Returns the status of the request inside the store, from an error object.
    pub fn error_status(&self) -> Option<u16> {
        #[derive(Deserialize)]
        struct ErrorData {
            status: u16,
        }
        // In any other object, `data` may have any shape.
        serde_json::from_str::<ErrorData>(self.data.as_ref()?.get()).ok().map(|data| data.status)
    }
}

/// An entry of a list.
#[derive(Deserialize)]
pub struct Entry<'a> {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "version")]
    pub date_modified_gmt: Option<jiff::Timestamp>,
    /// The variations of products, in any form.
    #[serde(borrow, default)]
    pub variations: Option<&'a RawValue>,
}

impl Entry<'_> {
    /// Returns whether it has variations.
    pub fn has_variations(&self) -> bool {
        let empty = |text: &str| text.len() < 8 && !text.bytes().any(|byte| byte.is_ascii_digit());
        self.variations.is_some_and(|list| !empty(list.get()))
    }
}

/// Reads the id of a part that an entity can lose.
fn loose_id<'de, D: Deserializer<'de>>(from: D) -> Result<ExternalId, D::Error> {
    required_id(from).map_err(|_| D::Error::custom("no id"))
}

/// A customer.
#[derive(Deserialize)]
pub struct Customer {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub email: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub first_name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub last_name: Option<String>,
    #[serde(default, deserialize_with = "object")]
    pub billing: Address,
    #[serde(default, deserialize_with = "object")]
    pub shipping: Address,
    #[serde(default, deserialize_with = "time")]
    pub date_created_gmt: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "version")]
    pub date_modified_gmt: Option<jiff::Timestamp>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// An address; email and phone are not always present.
#[derive(Deserialize, Default)]
pub struct Address {
    #[serde(default, deserialize_with = "text")]
    pub first_name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub last_name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub company: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub address_1: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub address_2: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub city: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub state: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub postcode: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub country: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub email: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub phone: Option<String>,
}

/// A product or a variation.
#[derive(Deserialize)]
pub struct Product {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "id")]
    pub parent_id: Option<ExternalId>,
    #[serde(default, rename = "type", deserialize_with = "text")]
    pub kind: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub sku: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub global_unique_id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub status: Option<String>,
    #[serde(default, deserialize_with = "decimal")]
    pub price: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub regular_price: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub sale_price: Option<Decimal>,
    #[serde(default, deserialize_with = "quantity")]
    pub stock_quantity: Option<Decimal>,
    #[serde(default, deserialize_with = "text")]
    pub stock_status: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub description: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub permalink: Option<String>,
    #[serde(default, deserialize_with = "objects")]
    pub categories: Vec<Category>,
    #[serde(default, deserialize_with = "objects")]
    pub images: Vec<Image>,
    #[serde(default, deserialize_with = "objects")]
    pub attributes: Vec<Attribute>,
    #[serde(default, deserialize_with = "ids")]
    pub variations: Vec<ExternalId>,
    #[serde(default, deserialize_with = "time")]
    pub date_created_gmt: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "version")]
    pub date_modified_gmt: Option<jiff::Timestamp>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A category of a product.
#[derive(Deserialize)]
pub struct Category {
    #[serde(deserialize_with = "loose_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
}

/// A picture of a product.
#[derive(Deserialize)]
pub struct Image {
    #[serde(default, deserialize_with = "text")]
    pub src: Option<String>,
}

/// The choices that a product offers (`options`), or the one that a variation has made (`option`).
#[derive(Deserialize)]
pub struct Attribute {
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "texts")]
    pub options: Vec<String>,
    #[serde(default, deserialize_with = "text")]
    pub option: Option<String>,
}

/// An order.
#[derive(Deserialize)]
pub struct Order {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub number: Option<String>,
    #[serde(default, deserialize_with = "id")]
    pub parent_id: Option<ExternalId>,
    #[serde(default, deserialize_with = "text")]
    pub status: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub currency: Option<String>,
    #[serde(default, deserialize_with = "id")]
    pub customer_id: Option<ExternalId>,
    #[serde(default, deserialize_with = "decimal")]
    pub total: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub total_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub shipping_total: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub shipping_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub discount_total: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub discount_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "flag")]
    pub prices_include_tax: Option<bool>,
    #[serde(default, deserialize_with = "lines")]
    pub line_items: Vec<Line>,
    #[serde(default, deserialize_with = "lines")]
    pub shipping_lines: Vec<ShippingLine>,
    #[serde(default, deserialize_with = "lines")]
    pub fee_lines: Vec<Fee>,
    #[serde(default, deserialize_with = "lines")]
    pub coupon_lines: Vec<CouponLine>,
    #[serde(default, deserialize_with = "lines")]
    pub tax_lines: Vec<Tax>,
    #[serde(default, deserialize_with = "lines")]
    pub refunds: Vec<Refund>,
    #[serde(default, deserialize_with = "object")]
    pub billing: Address,
    #[serde(default, deserialize_with = "object")]
    pub shipping: Address,
    #[serde(default, deserialize_with = "text")]
    pub payment_method: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub payment_method_title: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub transaction_id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub customer_note: Option<String>,
    #[serde(default, deserialize_with = "time")]
    pub date_created_gmt: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "version")]
    pub date_modified_gmt: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "time")]
    pub date_completed_gmt: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "time")]
    pub date_paid_gmt: Option<jiff::Timestamp>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A line of an order.
#[derive(Deserialize)]
pub struct Line {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "id")]
    pub product_id: Option<ExternalId>,
    #[serde(default, deserialize_with = "id")]
    pub variation_id: Option<ExternalId>,
    #[serde(default, deserialize_with = "text")]
    pub sku: Option<String>,
    #[serde(deserialize_with = "required_decimal")]
    pub quantity: Decimal,
    #[serde(default, deserialize_with = "decimal")]
    pub price: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub subtotal: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub total: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub total_tax: Option<Decimal>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A way of shipping of an order.
#[derive(Deserialize)]
pub struct ShippingLine {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub method_id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub method_title: Option<String>,
    #[serde(default, deserialize_with = "decimal")]
    pub total: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub total_tax: Option<Decimal>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A fee of an order.
#[derive(Deserialize)]
pub struct Fee {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "decimal")]
    pub total: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub total_tax: Option<Decimal>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A coupon of an order.
#[derive(Deserialize)]
pub struct CouponLine {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub code: Option<String>,
    #[serde(default, deserialize_with = "decimal")]
    pub discount: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub discount_tax: Option<Decimal>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A tax of an order.
#[derive(Deserialize)]
pub struct Tax {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub rate_code: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub label: Option<String>,
    #[serde(default, deserialize_with = "quantity")]
    pub rate_percent: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub tax_total: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub shipping_tax_total: Option<Decimal>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A refund of an order.
#[derive(Deserialize)]
pub struct Refund {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub reason: Option<String>,
    #[serde(default, deserialize_with = "decimal")]
    pub total: Option<Decimal>,
}

/// A coupon.
#[derive(Deserialize)]
pub struct Coupon {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub code: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub discount_type: Option<String>,
    #[serde(default, deserialize_with = "decimal")]
    pub amount: Option<Decimal>,
    #[serde(default, deserialize_with = "text")]
    pub description: Option<String>,
    #[serde(default, deserialize_with = "count")]
    pub usage_count: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    pub usage_limit: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    pub usage_limit_per_user: Option<u64>,
    #[serde(default, deserialize_with = "decimal")]
    pub minimum_amount: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal")]
    pub maximum_amount: Option<Decimal>,
    #[serde(default, deserialize_with = "ids")]
    pub product_ids: Vec<ExternalId>,
    #[serde(default, deserialize_with = "time")]
    pub date_expires_gmt: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "time")]
    pub date_created_gmt: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "version")]
    pub date_modified_gmt: Option<jiff::Timestamp>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A webhook, as the REST API returns it, which is never with its secret.
#[derive(Deserialize)]
pub struct Webhook {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    pub status: String,
    pub topic: String,
    pub delivery_url: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn line(change: impl FnOnce(&mut Map<String, Value>)) -> Result<Line, serde_json::Error> {
        let mut line = json!({"id": 1, "quantity": 2});
        change(line.as_object_mut().unwrap());
        serde_json::from_str(&line.to_string())
    }

    #[test]
    fn scalars_come_in_many_shapes() {
        let price = |value: Value| line(|l| _ = l.insert("price".into(), value)).unwrap().price.map(|d| d.to_string());
        assert_eq!(price(json!(13.5)).as_deref(), Some("13.5"));
        assert_eq!(price(json!(13)).as_deref(), Some("13"));
        assert_eq!(price(json!("13.50")).as_deref(), Some("13.50"));
        assert_eq!(price(json!(0.1)).as_deref(), Some("0.1"));
        assert_eq!(price(json!("")), None);
        assert_eq!(price(json!(null)), None);
        assert!(line(|l| _ = l.insert("price".into(), json!("many"))).is_err());
        assert_eq!(line(|l| _ = l.insert("product_id".into(), json!(0))).unwrap().product_id, None);
        assert_eq!(line(|l| _ = l.insert("product_id".into(), json!("10"))).unwrap().product_id, Some(10.into()));
        assert!(line(|l| _ = l.remove("id")).is_err());
    }
}
