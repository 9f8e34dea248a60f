//! Shopify's deliveries and GraphQL objects as they travel: ids as numbers in the one and as `gid://shopify/…` in the
//! other, money in strings, `null` for nothing.
//!
//! Members that are not named here go to `rest`, and from there to the entity's `extra`.

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::{
    entity::ExternalId,
    platform::lenient::{
        self, decimal, essential_object, flag, object, objects, quantity, required_decimal, required_id,
        required_object, text, texts, time, version,
    },
};

/// Reads an id of GraphQL, `gid://shopify/Order/1`, or of a delivery, and returns its number.
fn gid<'de, D: Deserializer<'de>>(from: D) -> Result<ExternalId, D::Error> {
    Ok(number_of(&required_id(from)?))
}

/// Reads an id that may be absent.
fn maybe_gid<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ExternalId>, D::Error> {
    Ok(lenient::id(from)?.as_ref().map(number_of))
}

/// Returns the number in an id of GraphQL; another id stays as it is.
pub fn number_of(id: &ExternalId) -> ExternalId {
    let last = id.as_str().strip_prefix("gid://shopify/").and_then(|rest| rest.rsplit('/').next());
    let number = last.and_then(|last| last.split('?').next()?.parse().ok());
    number.unwrap_or_else(|| id.clone())
}

/// Reads an id in a delivery.
pub fn id_of(value: &Value) -> Option<ExternalId> {
    maybe_gid(value).ok().flatten()
}

/// Reads an amount of money, which GraphQL and webhooks pad differently.
fn money<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Decimal>, D::Error> {
    Ok(decimal(from)?.map(|amount| amount.normalize()))
}

/// Reads a quantity.
fn amount<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Decimal>, D::Error> {
    Ok(quantity(from)?.map(|amount| amount.normalize()))
}

/// The members of a GraphQL answer beside its data.
#[derive(Deserialize)]
pub struct Envelope {
    #[serde(default)]
    pub errors: Option<Value>,
    #[serde(default, deserialize_with = "object")]
    pub extensions: Extensions,
}

/// The extensions of an answer.
#[derive(Deserialize, Default)]
pub struct Extensions {
    #[serde(default)]
    pub cost: Option<Cost>,
}

/// The cost of a call.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// The points that the call may cost.
    #[serde(default)]
    pub requested_query_cost: f64,
    /// The state of the bucket.
    #[serde(default)]
    pub throttle_status: Option<ThrottleStatus>,
}

/// The state of the bucket of points.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThrottleStatus {
    pub maximum_available: f64,
    pub currently_available: f64,
    pub restore_rate: f64,
}

impl ThrottleStatus {
    /// Returns the time until the bucket has so many points, in whole seconds.
    pub fn seconds_until(&self, points: f64) -> i64 {
        let missing = points - self.currently_available;
        if missing <= 0.0 || self.restore_rate <= 0.0 {
            return 0;
        }
        // The bucket fills up within minutes.
        #[expect(clippy::cast_possible_truncation, reason = "it is between 1 and 900")]
        let seconds = (missing / self.restore_rate).ceil().clamp(1.0, 900.0) as i64;
        seconds
    }
}

impl Cost {
    /// Returns the time until the call can be paid for, in seconds, at least one.
    pub fn seconds_until_paid(&self) -> i64 {
        let status = self.throttle_status.as_ref();
        status.map_or(1, |status| status.seconds_until(self.requested_query_cost)).max(1)
    }
}

/// An answer about one object.
#[derive(Deserialize)]
pub struct Answer<T> {
    #[serde(bound(deserialize = "T: Deserialize<'de>"), deserialize_with = "required_object")]
    pub data: One<T>,
}

/// The data of an answer with one member, which each query names in its own way.
#[derive(Deserialize)]
pub struct One<T> {
    #[serde(
        bound(deserialize = "T: Deserialize<'de>"),
        alias = "product",
        alias = "collection",
        alias = "customer",
        alias = "order",
        alias = "products",
        alias = "collections",
        alias = "customers",
        alias = "orders",
        alias = "inventoryItem",
        alias = "webhookSubscriptions",
        alias = "saved",
        alias = "webhookSubscriptionDelete",
        deserialize_with = "required_object"
    )]
    pub one: T,
}

/// Returns whether the one member of an answer's data is there and `null`: there is no such object.
pub fn is_nothing(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Any {
        data: Map<String, Value>,
    }
    lenient::read::<Any>(body).is_ok_and(|any| any.data.len() == 1 && any.data.values().all(Value::is_null))
}

/// A connection of GraphQL: a page of a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nodes<T> {
    #[serde(bound(deserialize = "T: Deserialize<'de>"), deserialize_with = "lenient::lines")]
    pub nodes: Vec<T>,
    #[serde(default, deserialize_with = "object")]
    pub page_info: PageInfo,
}

impl<T> Default for Nodes<T> {
    fn default() -> Self {
        Self { nodes: Vec::new(), page_info: PageInfo::default() }
    }
}

/// The position of a page.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct PageInfo {
    #[serde(default)]
    pub has_next_page: bool,
    #[serde(default)]
    pub end_cursor: Option<String>,
}

/// An entry of a list: all that is needed to pull the entity.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    #[serde(deserialize_with = "gid")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "version")]
    pub updated_at: Option<jiff::Timestamp>,
}

/// A reference to another object.
#[derive(Deserialize)]
pub struct Reference {
    #[serde(deserialize_with = "gid")]
    pub id: ExternalId,
}

/// A webhook.
#[derive(Deserialize)]
pub struct Hook {
    #[serde(deserialize_with = "gid")]
    pub id: ExternalId,
    pub topic: String,
    #[serde(default)]
    pub uri: Option<String>,
}

/// An amount in the shop's currency, and in the one that the buyer saw.
#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "camelCase")]
pub struct MoneyBag {
    #[serde(deserialize_with = "amount_of")]
    pub shop_money: Decimal,
    #[serde(deserialize_with = "amount_of")]
    pub presentment_money: Decimal,
}

#[derive(Deserialize)]
struct Amount {
    #[serde(deserialize_with = "required_decimal")]
    amount: Decimal,
}

fn amount_of<'de, D: Deserializer<'de>>(from: D) -> Result<Decimal, D::Error> {
    Ok(Amount::deserialize(from)?.amount.normalize())
}

/// A product.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Product {
    #[serde(deserialize_with = "gid")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub title: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub status: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub description_html: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub online_store_url: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub has_only_default_variant: Option<bool>,
    #[serde(default, deserialize_with = "flag")]
    pub tracks_inventory: Option<bool>,
    #[serde(default, deserialize_with = "amount")]
    pub total_inventory: Option<Decimal>,
    #[serde(default, deserialize_with = "time")]
    pub created_at: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "version")]
    pub updated_at: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "objects")]
    pub options: Vec<ProductOption>,
    #[serde(default, rename = "priceRangeV2", deserialize_with = "object")]
    pub price_range: PriceRange,
    #[serde(default, deserialize_with = "object")]
    pub collections: Nodes<Reference>,
    #[serde(default, deserialize_with = "object")]
    pub media: Nodes<Media>,
    #[serde(deserialize_with = "required_object")]
    pub variants: Nodes<Variant>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// An option of a product.
#[derive(Deserialize)]
pub struct ProductOption {
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "texts")]
    pub values: Vec<String>,
}

/// The prices of a product's variants.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct PriceRange {
    #[serde(default, deserialize_with = "object")]
    pub min_variant_price: Price,
}

/// A price with its currency.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    #[serde(default, deserialize_with = "money")]
    pub amount: Option<Decimal>,
    #[serde(default, deserialize_with = "text")]
    pub currency_code: Option<String>,
}

/// A medium of a product, of which only pictures have an address.
#[derive(Deserialize)]
pub struct Media {
    #[serde(default)]
    pub image: Option<Image>,
}

/// A picture.
#[derive(Deserialize)]
pub struct Image {
    #[serde(default, deserialize_with = "text")]
    pub url: Option<String>,
}

/// The stock of some variants.
#[derive(Deserialize)]
pub struct Items {
    #[serde(deserialize_with = "required_object")]
    pub data: ItemNodes,
}

/// The objects that were asked for by their ids; `null` for those that are gone.
#[derive(Deserialize)]
pub struct ItemNodes {
    #[serde(deserialize_with = "objects")]
    pub nodes: Vec<Item>,
}

/// The products of an inventory item.
#[derive(Deserialize)]
pub struct ItemProducts {
    #[serde(deserialize_with = "required_object")]
    pub variants: Nodes<ItemVariant>,
}

/// A variant that an inventory item belongs to.
#[derive(Deserialize)]
pub struct ItemVariant {
    pub product: Reference,
}

/// The result of a change of a webhook.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Saved {
    #[serde(default)]
    pub webhook_subscription: Option<Hook>,
    #[serde(default)]
    pub deleted_webhook_subscription_id: Option<String>,
    #[serde(default)]
    pub user_errors: Vec<UserError>,
}

/// A reason for which a change was refused.
#[derive(Deserialize)]
pub struct UserError {
    #[serde(default)]
    pub field: Option<Vec<String>>,
}

/// More variants of a product.
#[derive(Deserialize)]
pub struct MoreVariants {
    #[serde(deserialize_with = "required_object")]
    pub variants: Nodes<Variant>,
}

/// A variant of a product.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Variant {
    #[serde(deserialize_with = "gid")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub sku: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub barcode: Option<String>,
    #[serde(default, deserialize_with = "money")]
    pub price: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub compare_at_price: Option<Decimal>,
    #[serde(default)]
    pub inventory_item: Option<Item>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The stock of a variant, by location.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    #[serde(deserialize_with = "gid")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "flag")]
    pub tracked: Option<bool>,
    #[serde(default, deserialize_with = "object")]
    pub inventory_levels: Nodes<Level>,
}

/// The stock at one location.
#[derive(Deserialize)]
pub struct Level {
    pub location: Reference,
    #[serde(default, deserialize_with = "objects")]
    pub quantities: Vec<Quantity>,
}

/// One of the quantities that Shopify counts.
#[derive(Deserialize)]
pub struct Quantity {
    pub name: String,
    #[serde(deserialize_with = "required_decimal")]
    pub quantity: Decimal,
}

/// A collection.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Collection {
    #[serde(deserialize_with = "gid")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub title: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub description_html: Option<String>,
    #[serde(default, deserialize_with = "version")]
    pub updated_at: Option<jiff::Timestamp>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A customer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Customer {
    #[serde(deserialize_with = "gid")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub first_name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub last_name: Option<String>,
    #[serde(default, deserialize_with = "object")]
    pub default_email_address: Email,
    #[serde(default, deserialize_with = "object")]
    pub default_phone_number: Phone,
    #[serde(default)]
    pub default_address: Option<Place>,
    #[serde(default, rename = "addressesV2", deserialize_with = "object")]
    pub addresses: Nodes<Place>,
    #[serde(default, deserialize_with = "time")]
    pub created_at: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "version")]
    pub updated_at: Option<jiff::Timestamp>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// An e-mail address.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Email {
    #[serde(default, deserialize_with = "text")]
    pub email_address: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub marketing_state: Option<String>,
}

/// A phone number.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Phone {
    #[serde(default, deserialize_with = "text")]
    pub phone_number: Option<String>,
}

/// A postal address.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    #[serde(default, deserialize_with = "maybe_gid")]
    pub id: Option<ExternalId>,
    #[serde(default, deserialize_with = "text")]
    pub first_name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub last_name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub company: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub address1: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub address2: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub city: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub province_code: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub province: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub zip: Option<String>,
    #[serde(default, rename = "countryCodeV2", deserialize_with = "text")]
    pub country: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub phone: Option<String>,
}

/// An order.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    #[serde(deserialize_with = "gid")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub email: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub phone: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub note: Option<String>,
    #[serde(default, deserialize_with = "time")]
    pub cancelled_at: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "time")]
    pub closed_at: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "time")]
    pub created_at: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "version")]
    pub updated_at: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "text")]
    pub currency_code: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub presentment_currency_code: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub taxes_included: Option<bool>,
    #[serde(default, deserialize_with = "texts")]
    pub discount_codes: Vec<String>,
    #[serde(default, deserialize_with = "texts")]
    pub payment_gateway_names: Vec<String>,
    #[serde(default)]
    pub customer: Option<Reference>,
    #[serde(default)]
    pub billing_address: Option<Place>,
    #[serde(default)]
    pub shipping_address: Option<Place>,
    #[serde(deserialize_with = "required_object")]
    pub total_price_set: MoneyBag,
    #[serde(default, deserialize_with = "essential_object")]
    pub total_tax_set: Option<MoneyBag>,
    #[serde(default, deserialize_with = "essential_object")]
    pub total_tip_received_set: Option<MoneyBag>,
    #[serde(default, deserialize_with = "essential_object")]
    pub original_total_duties_set: Option<MoneyBag>,
    #[serde(default, deserialize_with = "lenient::lines")]
    pub tax_lines: Vec<TaxLine>,
    #[serde(default, deserialize_with = "lenient::lines")]
    pub additional_fees: Vec<Fee>,
    #[serde(deserialize_with = "required_object")]
    pub shipping_lines: Nodes<ShippingLine>,
    #[serde(default, deserialize_with = "lenient::lines")]
    pub transactions: Vec<Transaction>,
    #[serde(default, deserialize_with = "lenient::lines")]
    pub refunds: Vec<Refund>,
    #[serde(default, deserialize_with = "lenient::lines")]
    pub fulfillments: Vec<Fulfillment>,
    #[serde(deserialize_with = "required_object")]
    pub line_items: Nodes<Line>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// More lines of an order.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MoreLines {
    #[serde(deserialize_with = "required_object")]
    pub line_items: Nodes<Line>,
}

/// A line of an order.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    #[serde(deserialize_with = "gid")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub sku: Option<String>,
    #[serde(deserialize_with = "required_decimal")]
    pub quantity: Decimal,
    #[serde(default)]
    pub product: Option<Reference>,
    #[serde(default)]
    pub variant: Option<Reference>,
    #[serde(deserialize_with = "required_object")]
    pub original_total_set: MoneyBag,
    #[serde(default, deserialize_with = "lenient::lines")]
    pub discount_allocations: Vec<Allocation>,
    #[serde(default, deserialize_with = "lenient::lines")]
    pub tax_lines: Vec<TaxLine>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The part of a discount that a line bears.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    #[serde(deserialize_with = "required_object")]
    pub allocated_amount_set: MoneyBag,
    #[serde(default, deserialize_with = "object")]
    pub discount_application: Application,
}

/// A discount; one without a code is automatic, or a person's.
#[derive(Deserialize, Default)]
pub struct Application {
    #[serde(default, deserialize_with = "text")]
    pub code: Option<String>,
}

/// A tax.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaxLine {
    #[serde(default, deserialize_with = "text")]
    pub title: Option<String>,
    #[serde(default, deserialize_with = "decimal")]
    pub rate_percentage: Option<Decimal>,
    #[serde(deserialize_with = "required_object")]
    pub price_set: MoneyBag,
}

/// A charge beside lines and shipping.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fee {
    #[serde(deserialize_with = "gid")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(deserialize_with = "required_object")]
    pub price: MoneyBag,
    #[serde(default, deserialize_with = "lenient::lines")]
    pub tax_lines: Vec<TaxLine>,
}

/// A way in which an order is sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShippingLine {
    #[serde(default, deserialize_with = "maybe_gid")]
    pub id: Option<ExternalId>,
    #[serde(default, deserialize_with = "text")]
    pub title: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub code: Option<String>,
    #[serde(deserialize_with = "required_object")]
    pub discounted_price_set: MoneyBag,
    #[serde(default, deserialize_with = "lenient::lines")]
    pub tax_lines: Vec<TaxLine>,
}

/// A payment.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transaction {
    #[serde(deserialize_with = "gid")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub kind: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub status: Option<String>,
    #[serde(default, deserialize_with = "time")]
    pub processed_at: Option<jiff::Timestamp>,
    #[serde(deserialize_with = "required_object")]
    pub amount_set: MoneyBag,
}

/// A refund.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refund {
    #[serde(deserialize_with = "gid")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub note: Option<String>,
    #[serde(deserialize_with = "required_object")]
    pub total_refunded_set: MoneyBag,
}

/// A package.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fulfillment {
    #[serde(deserialize_with = "gid")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub status: Option<String>,
    #[serde(default, deserialize_with = "time")]
    pub created_at: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "objects")]
    pub tracking_info: Vec<Tracking>,
}

/// The tracking of a package.
#[derive(Deserialize)]
pub struct Tracking {
    #[serde(default, deserialize_with = "text")]
    pub company: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub number: Option<String>,
}

/// A checkout that was deleted.
#[derive(Deserialize)]
pub struct Deleted {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
}

/// A cart or a checkout, as a delivery has it.
#[derive(Deserialize)]
pub struct Cart {
    #[serde(default, deserialize_with = "lenient::id")]
    pub id: Option<ExternalId>,
    #[serde(default, deserialize_with = "text")]
    pub token: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub cart_token: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub email: Option<String>,
    #[serde(default, deserialize_with = "object")]
    pub customer: Buyer,
    #[serde(default, deserialize_with = "text")]
    pub currency: Option<String>,
    #[serde(default, deserialize_with = "money")]
    pub total_price: Option<Decimal>,
    #[serde(default, deserialize_with = "objects")]
    pub discount_codes: Vec<Code>,
    #[serde(deserialize_with = "lenient::lines")]
    pub line_items: Vec<CartLine>,
    #[serde(default, deserialize_with = "time")]
    pub created_at: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "version")]
    pub updated_at: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "time")]
    pub completed_at: Option<jiff::Timestamp>,
}

/// The customer of a checkout.
#[derive(Deserialize, Default)]
pub struct Buyer {
    #[serde(default, deserialize_with = "maybe_gid")]
    pub id: Option<ExternalId>,
}

/// A code that was entered.
#[derive(Deserialize)]
pub struct Code {
    #[serde(default, deserialize_with = "text")]
    pub code: Option<String>,
}

/// A line of a cart or a checkout.
#[derive(Deserialize)]
pub struct CartLine {
    /// The id; a checkout has a key in its place.
    #[serde(default, deserialize_with = "lenient::id")]
    pub id: Option<ExternalId>,
    #[serde(default, deserialize_with = "lenient::id")]
    pub key: Option<ExternalId>,
    #[serde(default, deserialize_with = "maybe_gid")]
    pub product_id: Option<ExternalId>,
    #[serde(default, deserialize_with = "maybe_gid")]
    pub variant_id: Option<ExternalId>,
    #[serde(default, deserialize_with = "text")]
    pub title: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub sku: Option<String>,
    #[serde(deserialize_with = "required_decimal")]
    pub quantity: Decimal,
    #[serde(default, deserialize_with = "money")]
    pub price: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub discounted_price: Option<Decimal>,
    #[serde(default, deserialize_with = "money")]
    pub line_price: Option<Decimal>,
}
