//! BigCommerce's callbacks and REST objects as they travel: v3 with numbers and ISO 8601, v2 with money in padded
//! strings and times as in mails, and `""`, `null` or 0 for nothing in both.
//!
//! Members that are not named here go to `rest`, and from there to the entity's `extra`.

use jiff::fmt::rfc2822;
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    entity::ExternalId,
    platform::{
        lenient::{
            count, flag, id, ids, lines, object, objects, quantity, read, required_decimal, required_id, text, time,
            version, without_mark,
        },
        mapping::MapError,
    },
    timestamp::parse_utc,
};

/// A callback. Its data has a shape for each topic (`scope`), and sometimes several.
pub struct Callback {
    /// The topic.
    pub scope: Option<String>,
    /// The store, as `stores/{hash}`.
    pub producer: Option<String>,
    /// The time of the event, in seconds since 1970.
    pub created_at: Option<i64>,
    /// The entity, or entities, of the event.
    pub data: Value,
}

/// Reads a callback. If a member occurs twice, the last counts.
pub fn callback(body: &[u8]) -> Result<Callback, MapError> {
    let mut members: Map<String, Value> = read(body)?;
    let mut text = |name: &str| match members.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let (scope, producer) = (text("scope"), text("producer"));
    // Times end with the year 9999.
    let in_range = |seconds: &i64| (0..253_402_300_800).contains(seconds);
    let created_at = members.get("created_at").and_then(Value::as_i64).filter(in_range);
    Ok(Callback { scope, producer, created_at, data: members.remove("data").unwrap_or_default() })
}

/// Reads the id in a callback: a number in most, a string in some.
pub fn id_of(value: &Value) -> Option<ExternalId> {
    id(value).ok().flatten()
}

/// Returns whether a 404 is BigCommerce's own, about the requested resource: v3 says `{"status":404,"title":…}`, v2
/// `[{"status":404,"message":…}]`. A page of a server in between says neither. An unknown path gives the same form, but
/// names a route.
pub fn is_not_found(body: &[u8]) -> bool {
    let says = |error: &Value, what: &str| {
        let text = error[what].as_str().map(str::to_ascii_lowercase);
        error["status"] == 404 && text.is_some_and(|text| !text.contains("route"))
    };
    match serde_json::from_slice(without_mark(body)) {
        Ok(Value::Array(errors)) => errors.first().is_some_and(|error| says(error, "message")),
        Ok(error) => says(&error, "title"),
        Err(_) => false,
    }
}

/// Reads an amount of money, without the zeros that v2 pads it with.
fn money<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Decimal>, D::Error> {
    Ok(crate::platform::lenient::decimal(from)?.map(|amount| amount.normalize()))
}

/// Reads a price; 0 means none.
fn price<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Decimal>, D::Error> {
    Ok(money(from)?.filter(|amount| !amount.is_zero()))
}

/// Reads a quantity, which may be absent.
fn amount<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Decimal>, D::Error> {
    Ok(quantity(from)?.map(|amount| amount.normalize()))
}

/// Reads the time that dates an order.
fn mail_version<'de, D: Deserializer<'de>>(from: D) -> Result<Option<jiff::Timestamp>, D::Error> {
    let Some(text) = text(from)? else { return Ok(None) };
    match in_mail(&text) {
        Some(at) => Ok(Some(at)),
        // Returns the essential error.
        None => version(serde::de::value::StrDeserializer::new(&text)),
    }
}

fn in_mail(text: &str) -> Option<jiff::Timestamp> {
    // A wrong day of the week does not change the time.
    let parser = rfc2822::DateTimeParser::new().relaxed_weekday(true);
    parser.parse_timestamp(text).ok().or_else(|| parse_utc(text))
}

/// Reads a time in v2's form, as in mails (RFC 2822), or in v3's.
fn mail_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<jiff::Timestamp>, D::Error> {
    let Some(text) = text(from)? else { return Ok(None) };
    in_mail(&text).map(Some).ok_or_else(|| D::Error::custom("not a time"))
}

/// The envelope of v3.
#[derive(Deserialize)]
pub struct Data<T> {
    pub data: T,
}

/// An entry of a list: all that is needed to pull the entity, and to continue after it.
#[derive(Deserialize)]
pub struct Entry {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "mail_version")]
    pub date_modified: Option<jiff::Timestamp>,
}

/// One page of a list of v3.
#[derive(Deserialize)]
pub struct Page<T> {
    #[serde(bound(deserialize = "T: Deserialize<'de>"), deserialize_with = "lines")]
    pub data: Vec<T>,
    #[serde(default, deserialize_with = "object")]
    pub meta: Meta,
}

/// The metadata of a page.
#[derive(Deserialize, Default)]
pub struct Meta {
    #[serde(default)]
    pub pagination: Option<Pagination>,
}

/// The position of a page among the others.
#[derive(Deserialize)]
pub struct Pagination {
    #[serde(default, deserialize_with = "count")]
    pub total_pages: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    pub per_page: Option<u64>,
    /// The queries of the previous and the next page, if there are any.
    #[serde(default)]
    pub links: Value,
}

/// A webhook, as far as it is read. Its other members, the headers among them, may have any form.
#[derive(Deserialize)]
pub struct Hook {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub scope: Option<String>,
    /// The destination; not a text where it is not a URL.
    #[serde(default)]
    pub destination: Value,
    #[serde(default, deserialize_with = "flag")]
    pub is_active: Option<bool>,
    /// The status, where it is present: `active`, `inactive`, or `deactivated`.
    #[serde(default)]
    pub status: Value,
}

/// A product of v3.
#[derive(Deserialize)]
pub struct Product {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, rename = "type", deserialize_with = "text")]
    pub kind: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub sku: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub gtin: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub upc: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub availability: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub description: Option<String>,
    #[serde(default, deserialize_with = "money")]
    pub price: Option<Decimal>,
    #[serde(default, deserialize_with = "price")]
    pub sale_price: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub calculated_price: Option<Decimal>,
    #[serde(default, deserialize_with = "amount")]
    pub inventory_level: Option<Decimal>,
    #[serde(default, deserialize_with = "text")]
    pub inventory_tracking: Option<String>,
    #[serde(default, deserialize_with = "ids")]
    pub categories: Vec<ExternalId>,
    #[serde(default, deserialize_with = "objects")]
    pub images: Vec<Image>,
    #[serde(default, deserialize_with = "object")]
    pub custom_url: CustomUrl,
    /// The one variant of a simple product; absent for a product with options.
    #[serde(default, deserialize_with = "id")]
    pub base_variant_id: Option<ExternalId>,
    #[serde(default, deserialize_with = "time")]
    pub date_created: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "version")]
    pub date_modified: Option<jiff::Timestamp>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A picture of a product.
#[derive(Deserialize)]
pub struct Image {
    #[serde(default, deserialize_with = "flag")]
    pub is_thumbnail: Option<bool>,
    #[serde(default, deserialize_with = "amount")]
    pub sort_order: Option<Decimal>,
    #[serde(default, deserialize_with = "text")]
    pub url_zoom: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub url_standard: Option<String>,
}

/// The page of an entity in the store.
#[derive(Deserialize, Default)]
pub struct CustomUrl {
    #[serde(default, deserialize_with = "text")]
    pub url: Option<String>,
}

/// A variant of a product. A price of `null` stands for the product's.
#[derive(Deserialize)]
pub struct Variant {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub sku: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub gtin: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub upc: Option<String>,
    #[serde(default, deserialize_with = "money")]
    pub price: Option<Decimal>,
    #[serde(default, deserialize_with = "price")]
    pub sale_price: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub calculated_price: Option<Decimal>,
    #[serde(default, deserialize_with = "amount")]
    pub inventory_level: Option<Decimal>,
    #[serde(default, deserialize_with = "flag")]
    pub purchasing_disabled: Option<bool>,
    #[serde(default, deserialize_with = "text")]
    pub image_url: Option<String>,
    #[serde(default, deserialize_with = "objects")]
    pub option_values: Vec<OptionValue>,
}

/// A choice that a variant has made.
#[derive(Deserialize)]
pub struct OptionValue {
    #[serde(default, deserialize_with = "text")]
    pub option_display_name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub label: Option<String>,
}

/// A category of v3.
#[derive(Deserialize)]
pub struct Category {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "id")]
    pub parent_id: Option<ExternalId>,
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub description: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub is_visible: Option<bool>,
    #[serde(default, deserialize_with = "object")]
    pub custom_url: CustomUrl,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A customer of v3.
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
    #[serde(default, deserialize_with = "objects")]
    pub addresses: Vec<Address>,
    /// The number of addresses; the customer itself has ten of them at most.
    #[serde(default, deserialize_with = "count")]
    pub address_count: Option<u64>,
    #[serde(default, deserialize_with = "time")]
    pub date_created: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "version")]
    pub date_modified: Option<jiff::Timestamp>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// An address: a customer's, with v3's names, or an order's, with v2's.
#[derive(Deserialize, Default)]
pub struct Address {
    /// The id, which a billing address lacks.
    #[serde(default, deserialize_with = "id")]
    pub id: Option<ExternalId>,
    #[serde(default, deserialize_with = "text")]
    pub first_name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub last_name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub company: Option<String>,
    #[serde(default, alias = "street_1", deserialize_with = "text")]
    pub address1: Option<String>,
    #[serde(default, alias = "street_2", deserialize_with = "text")]
    pub address2: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub city: Option<String>,
    #[serde(default, alias = "state", deserialize_with = "text")]
    pub state_or_province: Option<String>,
    #[serde(default, alias = "zip", deserialize_with = "text")]
    pub postal_code: Option<String>,
    #[serde(default, alias = "country_iso2", deserialize_with = "text")]
    pub country_code: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub phone: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub email: Option<String>,
    /// The shipping method, for an order's address.
    #[serde(default, deserialize_with = "text")]
    pub shipping_method: Option<String>,
    #[serde(default, deserialize_with = "money")]
    pub cost_ex_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub cost_tax: Option<Decimal>,
}

/// An order of v2.
#[derive(Deserialize)]
pub struct Order {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    /// The number of the status. 0 is a status, so this is not an id.
    #[serde(default, deserialize_with = "count")]
    pub status_id: Option<u64>,
    #[serde(default, deserialize_with = "text")]
    pub status: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub is_deleted: Option<bool>,
    #[serde(default, deserialize_with = "id")]
    pub customer_id: Option<ExternalId>,
    /// The currency that the shopper saw.
    #[serde(default, deserialize_with = "text")]
    pub currency_code: Option<String>,
    /// The currency of the amounts.
    #[serde(default, deserialize_with = "text")]
    pub default_currency_code: Option<String>,
    #[serde(default, deserialize_with = "money")]
    pub total_inc_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub total_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub shipping_cost_ex_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub shipping_cost_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "flag")]
    pub is_tax_inclusive_pricing: Option<bool>,
    /// All discounts except coupons.
    #[serde(default, deserialize_with = "money")]
    pub discount_amount: Option<Decimal>,
    /// The discount of coupons.
    #[serde(default, deserialize_with = "money")]
    pub coupon_discount: Option<Decimal>,
    /// The part of the total that was paid with credit.
    #[serde(default, deserialize_with = "money")]
    pub store_credit_amount: Option<Decimal>,
    /// The part of the total that was paid with gift certificates.
    #[serde(default, deserialize_with = "money")]
    pub gift_certificate_amount: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub handling_cost_ex_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub handling_cost_inc_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub handling_cost_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub wrapping_cost_ex_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub wrapping_cost_inc_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub wrapping_cost_tax: Option<Decimal>,
    /// A link to the coupons.
    #[serde(default)]
    pub coupons: Value,
    /// A link to the fees, or the fees themselves; absent where the order knows no fees.
    #[serde(default)]
    pub fees: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "object")]
    pub billing_address: Address,
    #[serde(default, deserialize_with = "text")]
    pub payment_method: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub payment_provider_id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub customer_message: Option<String>,
    #[serde(default, deserialize_with = "mail_time")]
    pub date_created: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "mail_version")]
    pub date_modified: Option<jiff::Timestamp>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The status of an order alone.
#[derive(Deserialize)]
pub struct Status {
    #[serde(default, deserialize_with = "count")]
    pub status_id: Option<u64>,
}

/// A line of an order.
#[derive(Deserialize)]
pub struct Line {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "id")]
    pub product_id: Option<ExternalId>,
    #[serde(default, deserialize_with = "id")]
    pub variant_id: Option<ExternalId>,
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub sku: Option<String>,
    #[serde(deserialize_with = "required_decimal")]
    pub quantity: Decimal,
    #[serde(default, deserialize_with = "money")]
    pub price_ex_tax: Option<Decimal>,
    /// The total before discounts, without tax.
    #[serde(default, deserialize_with = "money")]
    pub total_ex_tax: Option<Decimal>,
    /// The total before discounts, with tax.
    #[serde(default, deserialize_with = "money")]
    pub total_inc_tax: Option<Decimal>,
    /// The tax on the total after discounts.
    #[serde(default, deserialize_with = "money")]
    pub total_tax: Option<Decimal>,
    /// The total after all discounts, with tax. Stores have it since September 2023.
    #[serde(default, deserialize_with = "money")]
    pub discounted_total_inc_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "lines")]
    pub applied_discounts: Vec<Discount>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A line's share of a discount.
#[derive(Deserialize)]
pub struct Discount {
    /// The kind: `coupon`, `manual-discount`, ...
    #[serde(default, deserialize_with = "text")]
    pub id: Option<String>,
    #[serde(default, deserialize_with = "money")]
    pub amount: Option<Decimal>,
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    /// The code, which only coupons have.
    #[serde(default, deserialize_with = "text")]
    pub code: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub target: Option<String>,
}

/// A coupon of an order.
#[derive(Deserialize)]
pub struct Coupon {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub code: Option<String>,
    /// The discount on this order. `amount`, another member, may be in percent.
    #[serde(default, deserialize_with = "money")]
    pub discount: Option<Decimal>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A fee of an order.
#[derive(Deserialize)]
pub struct Fee {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub display_name_customer: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub display_name_merchant: Option<String>,
    #[serde(default, deserialize_with = "money")]
    pub cost_ex_tax: Option<Decimal>,
    /// The cost without tax, as some examples spell it.
    #[serde(default, deserialize_with = "money")]
    pub cost_exc_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub cost_inc_tax: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub cost_tax: Option<Decimal>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A refund of an order, of v3.
#[derive(Deserialize)]
pub struct Refund {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub reason: Option<String>,
    /// The amount, tax included, and not negative.
    #[serde(default, deserialize_with = "money")]
    pub total_amount: Option<Decimal>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A package of an order.
#[derive(Deserialize)]
pub struct Shipment {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub shipping_provider: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub tracking_carrier: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub shipping_method: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub tracking_number: Option<String>,
    #[serde(default, deserialize_with = "mail_time")]
    pub date_created: Option<jiff::Timestamp>,
}

/// A cart of v3.
#[derive(Deserialize)]
pub struct Cart {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "id")]
    pub customer_id: Option<ExternalId>,
    #[serde(default, deserialize_with = "text")]
    pub email: Option<String>,
    #[serde(default, deserialize_with = "object")]
    pub currency: Currency,
    #[serde(default, deserialize_with = "money")]
    pub cart_amount: Option<Decimal>,
    #[serde(default, deserialize_with = "object")]
    pub line_items: LineItems,
    #[serde(default, deserialize_with = "objects")]
    pub coupons: Vec<CartCoupon>,
    #[serde(default, deserialize_with = "time")]
    pub created_time: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "version")]
    pub updated_time: Option<jiff::Timestamp>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A currency.
#[derive(Deserialize, Default)]
pub struct Currency {
    #[serde(default, deserialize_with = "text")]
    pub code: Option<String>,
}

/// A coupon that was entered.
#[derive(Deserialize)]
pub struct CartCoupon {
    #[serde(default, deserialize_with = "text")]
    pub code: Option<String>,
}

/// The contents of a cart, by their kind.
#[derive(Deserialize, Default)]
pub struct LineItems {
    #[serde(default, deserialize_with = "lines")]
    pub physical_items: Vec<LineItem>,
    #[serde(default, deserialize_with = "lines")]
    pub digital_items: Vec<LineItem>,
    #[serde(default, deserialize_with = "lines")]
    pub gift_certificates: Vec<LineItem>,
    #[serde(default, deserialize_with = "lines")]
    pub custom_items: Vec<LineItem>,
}

/// One thing in a cart.
#[derive(Deserialize)]
pub struct LineItem {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "id")]
    pub product_id: Option<ExternalId>,
    #[serde(default, deserialize_with = "id")]
    pub variant_id: Option<ExternalId>,
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub sku: Option<String>,
    /// The quantity. A gift certificate has an amount instead.
    #[serde(default, deserialize_with = "money")]
    pub quantity: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub amount: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub list_price: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub sale_price: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub extended_list_price: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub extended_sale_price: Option<Decimal>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The price of a variant in one currency of a price list.
#[derive(Deserialize)]
pub struct Record {
    #[serde(deserialize_with = "required_id")]
    pub price_list_id: ExternalId,
    #[serde(deserialize_with = "required_id")]
    pub variant_id: ExternalId,
    pub currency: String,
    #[serde(default, deserialize_with = "money")]
    pub price: Option<Decimal>,
    #[serde(default, deserialize_with = "price")]
    pub sale_price: Option<Decimal>,
    #[serde(default, deserialize_with = "price")]
    pub retail_price: Option<Decimal>,
    #[serde(default, deserialize_with = "lines")]
    pub bulk_pricing_tiers: Vec<Tier>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The price of each piece in a range of quantities.
#[derive(Deserialize)]
pub struct Tier {
    #[serde(default, deserialize_with = "count")]
    pub quantity_min: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    pub quantity_max: Option<u64>,
    /// The kind: `fixed`, `price`, `percent`.
    #[serde(default, rename = "type", deserialize_with = "text")]
    pub kind: Option<String>,
    #[serde(default, deserialize_with = "money")]
    pub amount: Option<Decimal>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn v2_writes_times_as_mails_do() {
        let at = |text: &str| {
            let order = json!({ "id": 1, "date_created": text });
            serde_json::from_value::<Order>(order).map(|order| order.date_created.map(|at| at.to_string()))
        };
        for text in [
            "Tue, 05 Mar 2019 21:40:11 +0000",
            "Tue, 05 Mar 2019 22:40:11 +0100",
            "Mon, 05 Mar 2019 21:40:11 GMT",
            "2019-03-05T21:40:11+00:00",
        ] {
            assert_eq!(at(text).unwrap().as_deref(), Some("2019-03-05T21:40:11Z"), "{text}");
        }
        assert_eq!(at("").unwrap(), None);
        assert!(at("soon").is_err());
    }

    #[test]
    fn padding_is_no_part_of_money() {
        let total = |value: Value| {
            let order = serde_json::from_value::<Order>(json!({ "id": 1, "total_inc_tax": value })).unwrap();
            order.total_inc_tax.map(|total| total.to_string())
        };
        for (value, text) in [
            (json!("67.8400"), Some("67.84")),
            (json!("67.84"), Some("67.84")),
            (json!("0.0000"), Some("0")),
            (json!(67.84), Some("67.84")),
            (json!(100), Some("100")),
            (json!("100.0000"), Some("100")),
            (json!(""), None),
            (json!(null), None),
        ] {
            assert_eq!(total(value.clone()).as_deref(), text, "{value}");
        }
    }

    #[test]
    fn only_bigcommerce_s_own_404_means_gone() {
        for body in [
            r#"{"status":404,"title":"The product was not found.","type":"https://example.com"}"#,
            r#"[{"status":404,"message":"The requested resource was not found."}]"#,
        ] {
            assert!(is_not_found(body.as_bytes()), "{body}");
        }
        for body in [
            "<html>404</html>",
            "",
            "{}",
            "[]",
            "404",
            "null",
            r#"{"status":404}"#,
            r#"{"title":"Not found"}"#,
            r#"{"status":500,"title":"x"}"#,
            r#"[{"status":404}]"#,
            r#"["404"]"#,
        ] {
            assert!(!is_not_found(body.as_bytes()), "{body}");
        }
    }
}
