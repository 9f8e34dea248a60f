//! The pull of entities: the calls for each of them, and the mapping of BigCommerce's REST objects to canonical
//! entities. Orders are in [`super::order`].

use std::{collections::BTreeMap, mem::take, slice};

use http::Method;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json, value::RawValue};

use super::{mapping::MAPPING, order, wire};
use crate::{
    change::{Change, Delete, Facets, Upsert},
    entity::{
        Address, Cart, Category, CategoryEntity, Choice, Content, CurrencyPrice, Customer, CustomerId, EntityKind,
        ExternalId, Line, Price, PriceTier, Product, ProductId, Stock,
    },
    http_call::{ApiResponse, Fault},
    outcome::Rule,
    platform::{
        lenient,
        mapping::Mapped,
        pull::{Next, Pull, Stop, Wanted},
    },
    platforms::bigcommerce::{
        BigCommerce,
        api::{call, fault},
        lists::{V2_PAGE, V3_PAGE},
        pull,
        scopes::INCOMPLETE_ORDER,
    },
    timestamp::Timestamp,
};

/// The members left out of products: those that change although nobody changes the product.
const VOLATILE_PRODUCT: &[&str] = &["total_sold", "view_count", "reviews_count", "reviews_rating_sum"];
/// The members left out of categories, for the same reason.
const VOLATILE_CATEGORY: &[&str] = &["views"];
/// The members left out of customers: those that follow from others.
const VOLATILE_CUSTOMER: &[&str] = &["attribute_count"];
/// The members left out of price records: those that the entity has already, and a price that holds only now.
const REDUNDANT_RECORD: &[&str] = &["calculated_price", "date_created"];
/// The greatest quantity of the last tier, unless that is 0.
const NO_END: u64 = 2_147_483_647;

/// The most pages of a list that are read, more than any list has.
const MAX_PAGES: usize = 40;

/// Returns the next step for an entity, given the answers so far.
pub fn pull(wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Result<Next, Fault> {
    let mut bucket = Bucket { wanted: *wanted, answers: answers.iter(), unreadable: Vec::new() };
    let mapped = match wanted.entity {
        EntityKind::Product => bucket.product(),
        EntityKind::Category => bucket.category(),
        EntityKind::Customer => bucket.customer(),
        EntityKind::Order => bucket.order(),
        EntityKind::Cart => bucket.cart(),
        EntityKind::Price => bucket.price(),
        other => Err(Stop::Fault(Fault::Unreadable(format!("BigCommerce has no {other}")))),
    };
    Stop::next(mapped)
}

fn done(mapped: Mapped) -> Stop {
    Stop::Next(Box::new(Next::Done(mapped)))
}

/// An entity with its required parts, read from the answers so far.
struct Bucket<'a> {
    wanted: Wanted<'a>,
    answers: slice::Iter<'a, ApiResponse>,
    /// The places that could not be read, in BigCommerce's words.
    unreadable: Vec<String>,
}

/// A list of v2, in the envelope of v3.
#[derive(Deserialize)]
struct Enveloped<T> {
    #[serde(bound(deserialize = "T: Deserialize<'de>"), deserialize_with = "lenient::lines")]
    data: Vec<T>,
}

impl<'a> Bucket<'a> {
    /// Returns the next answer, or stops with its call.
    fn answer(&mut self, path: &[&str], query: &[(&str, &str)]) -> Result<&'a ApiResponse, Stop> {
        match self.answers.next() {
            Some(answer) => Ok(answer),
            None => {
                let request = call(&self.wanted.access, Method::GET, path, query)?;
                Err(Stop::Next(Box::new(Next::Ask(request))))
            }
        }
    }

    /// Reads a body, and notes dropped places under the name of the part. A list begins with the element `from`.
    fn read<T: DeserializeOwned>(&mut self, body: &[u8], part: &str, from: usize) -> Result<T, Stop> {
        let named = |place: &str| {
            let Some(rest) = place.strip_prefix("data") else { return place.to_owned() };
            let element = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            match (part, element.and_then(|(number, rest)| Some((number.parse::<usize>().ok()?, rest)))) {
                ("", Some((_, rest))) => rest.trim_start_matches('.').to_owned(),
                ("", None) => rest.trim_start_matches('.').to_owned(),
                (part, Some((number, rest))) => format!("{part}[{}]{rest}", number.saturating_add(from)),
                (part, None) => format!("{part}{rest}"),
            }
        };
        let (value, dropped) = lenient::entity(body).map_err(|error| match Fault::from(error) {
            Fault::Unreadable(place) => Fault::Unreadable(named(&place)),
            other => other,
        })?;
        self.unreadable.extend(dropped.iter().map(|place| named(place)));
        Ok(value)
    }

    fn success(&self, answer: &'a ApiResponse) -> Result<&'a ApiResponse, Stop> {
        if answer.is_success() { Ok(answer) } else { Err(fault(answer, self.wanted.at).into()) }
    }

    /// Reads the answer for the entity itself, which alone can show that it is gone.
    fn first<T: DeserializeOwned>(&mut self, path: &[&str], query: &[(&str, &str)]) -> Result<T, Stop> {
        let answer = self.answer(path, query)?;
        if is_not_found(answer) {
            return Err(done(self.gone()));
        }
        let body = &self.success(answer)?.body;
        self.read(body, "", 0)
    }

    /// Reads all pages of a list of v3; `None` if it is not found.
    fn v3_list<T: DeserializeOwned>(
        &mut self,
        part: &str,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Option<Vec<T>>, Stop> {
        let mut found = Vec::new();
        for number in 1..=MAX_PAGES {
            let (limit, number_text) = (V3_PAGE.to_string(), number.to_string());
            let mut query = query.to_vec();
            query.extend([("limit", limit.as_str()), ("page", &number_text)]);
            let answer = self.answer(path, &query)?;
            if is_not_found(answer) {
                return Ok(None);
            }
            let body = &self.success(answer)?.body;
            let page: wire::Page<T> = self.read(body, part, found.len())?;
            let count = page.data.len();
            found.extend(page.data);
            let pages = page.meta.pagination.and_then(|pagination| pagination.total_pages);
            if pages.map_or(count < V3_PAGE, |pages| pages <= number as u64) {
                return Ok(Some(found));
            }
        }
        Err(Stop::unreadable(format!("more than {MAX_PAGES} pages of {part}")))
    }

    /// Reads one page of a list of v2 as one of v3; `None` if it is not found.
    fn v2_page<T: DeserializeOwned>(
        &mut self,
        part: &str,
        path: &[&str],
        query: &[(&str, &str)],
        from: usize,
    ) -> Result<Option<Vec<T>>, Stop> {
        let answer = self.answer(path, query)?;
        if is_not_found(answer) {
            return Ok(None);
        }
        let body = lenient::without_mark(&self.success(answer)?.body).trim_ascii();
        if answer.status == 204 || body.is_empty() {
            return Ok(Some(Vec::new()));
        }
        match body.first() {
            // Fees are documented in an object, but described as the list itself.
            Some(b'{') => {
                let members: BTreeMap<String, Box<RawValue>> = lenient::read(body).map_err(Fault::from)?;
                let list = members.get(part).ok_or_else(|| Stop::unreadable(format!("{part}: no JSON list")))?;
                self.enveloped(list.get().as_bytes(), part, from).map(Some)
            }
            Some(b'[') => self.enveloped(body, part, from).map(Some),
            _ => Err(Stop::unreadable(format!("{part}: no JSON list"))),
        }
    }

    /// Reads a list as one of v3.
    fn enveloped<T: DeserializeOwned>(&mut self, list: &[u8], part: &str, from: usize) -> Result<Vec<T>, Stop> {
        let enveloped: Enveloped<T> = self.read(&[b"{\"data\":", list, b"}"].concat(), part, from)?;
        Ok(enveloped.data)
    }

    /// Reads all pages of a part of an order. A page that is not full, or without content, is the last.
    ///
    /// A part that is not found although the order existed a call ago does not mean that the order is gone, because a
    /// deleted order is still shown. So the part counts as empty, and is named.
    fn part<T: DeserializeOwned>(&mut self, part: &str) -> Result<Vec<T>, Stop> {
        let id = self.wanted.id.as_str();
        let mut found = Vec::new();
        for number in 1..=MAX_PAGES {
            let (limit, number) = (V2_PAGE.to_string(), number.to_string());
            let query = [("limit", limit.as_str()), ("page", &number)];
            let Some(page) = self.v2_page(part, &["v2", "orders", id, part], &query, found.len())? else {
                self.unreadable.push(part.to_owned());
                return Ok(found);
            };
            let full = page.len() >= V2_PAGE;
            found.extend(page);
            if !full {
                return Ok(found);
            }
        }
        Err(Stop::unreadable(format!("more than {MAX_PAGES} pages of {part}")))
    }

    fn gone(&self) -> Mapped {
        let delete = Delete { source: None, received: self.wanted.at };
        Mapped::Change(self.wanted.id.clone(), Change::Delete(delete))
    }

    fn is_wanted(&self, id: &ExternalId) -> Result<(), Stop> {
        if id == self.wanted.id { Ok(()) } else { Err(Stop::unreadable("another id than was asked for")) }
    }

    fn upsert(
        &mut self,
        source: Option<jiff::Timestamp>,
        entity: &impl Serialize,
        mut extra: Map<String, Value>,
        left_out: &[&str],
    ) -> Result<Change, Stop> {
        extra.retain(|name, _| !left_out.contains(&name.as_str()));
        let content = Content::new(entity, extra).map_err(|_| Stop::unreadable("the whole"))?;
        let content = content.with_unreadable(take(&mut self.unreadable)).with_unbalanced(self.wanted.entity);
        Ok(Change::Upsert(Upsert {
            source: source.map(Timestamp::from),
            received: self.wanted.at,
            observed: true,
            mapping: MAPPING,
            content: content.into(),
            facets: Facets::new(),
        }))
    }

    fn mapped(&self, change: Change) -> Mapped {
        Mapped::Change(self.wanted.id.clone(), change)
    }

    fn product(&mut self) -> Result<Mapped, Stop> {
        let id = self.wanted.id.as_str();
        let (path, query) = (["v3", "catalog", "products", id], [("include", "images,custom_fields")]);
        let wire: wire::Data<wire::Product> = self.first(&path, &query)?;
        let mut wire = wire.data;
        self.is_wanted(&wire.id)?;
        let variants: Vec<wire::Variant> = match wire.base_variant_id {
            Some(_) => Vec::new(),
            None => match self.v3_list("variants", &["v3", "catalog", "products", id, "variants"], &[])? {
                Some(variants) => variants,
                None => {
                    // The product was removed since, or only its variants are not available.
                    let again: wire::Data<wire::Product> = self.first(&path, &query)?;
                    wire = again.data;
                    self.is_wanted(&wire.id)?;
                    self.unreadable.push("variants".to_owned());
                    Vec::new()
                }
            },
        };
        let mut extra = take(&mut wire.rest);
        // The other ids go by their canonical name; prices and order lines name this one.
        extra.insert("base_variant_id".into(), json!(wire.base_variant_id));
        extra.insert("inventory_tracking".into(), json!(wire.inventory_tracking));
        extra.insert("upc".into(), json!(wire.gtin.as_ref().and(wire.upc.as_ref())));
        extra.insert("variants".into(), variants.iter().map(|v| (v.id.to_string(), variant(v))).collect());
        wire.images.sort_by_key(|image| (image.is_thumbnail != Some(true), image.sort_order));
        let counted = wire.inventory_tracking.as_deref() != Some("none");
        let entity = Product {
            id: ProductId(wire.id),
            parent: None,
            kind: wire.kind,
            name: wire.name,
            sku: wire.sku,
            barcode: wire.gtin.or(wire.upc),
            status: wire.availability,
            price: wire.calculated_price.or(wire.price),
            regular_price: wire.price,
            sale_price: wire.sale_price,
            currency: None,
            stock: Stock { quantity: wire.inventory_level.filter(|_| counted), status: None },
            description: wire.description,
            url: wire.custom_url.url,
            categories: wire.categories.into_iter().map(|id| Category { id, name: None }).collect(),
            images: wire.images.into_iter().filter_map(|image| image.url_zoom.or(image.url_standard)).collect(),
            choices: choices(&variants),
            variations: variants.into_iter().map(|variant| ProductId(variant.id)).collect(),
            created_at: wire.date_created,
            updated_at: wire.date_modified,
        };
        let change = self.upsert(wire.date_modified, &entity, extra, VOLATILE_PRODUCT)?;
        Ok(self.mapped(change))
    }

    /// Pulls a category, which has no times.
    fn category(&mut self) -> Result<Mapped, Stop> {
        let path = ["v3", "catalog", "categories", self.wanted.id.as_str()];
        let wire: wire::Data<wire::Category> = self.first(&path, &[])?;
        let wire = wire.data;
        self.is_wanted(&wire.id)?;
        let entity = CategoryEntity {
            id: wire.id,
            parent: wire.parent_id,
            name: wire.name,
            description: wire.description,
            visible: wire.is_visible,
            url: wire.custom_url.url,
            updated_at: None,
        };
        let change = self.upsert(None, &entity, wire.rest, VOLATILE_CATEGORY)?;
        Ok(self.mapped(change))
    }

    /// Pulls a customer. No path leads to one customer: one that the list of its id lacks is gone.
    fn customer(&mut self) -> Result<Mapped, Stop> {
        let id = self.wanted.id.as_str();
        let query = [("id:in", id), ("include", "addresses")];
        let page: wire::Page<wire::Customer> = self.first(&["v3", "customers"], &query)?;
        let Some(mut wire) = page.data.into_iter().next() else { return Ok(self.gone()) };
        self.is_wanted(&wire.id)?;
        let mut addresses = take(&mut wire.addresses);
        if wire.address_count.is_some_and(|count| count > addresses.len() as u64) {
            let all = self.v3_list("addresses", &["v3", "customers", "addresses"], &[("customer_id:in", id)])?;
            match all {
                Some(all) => addresses = all,
                None => self.unreadable.push("addresses".to_owned()),
            }
        }
        let mut extra = wire.rest;
        // None of them is the billing or the shipping address, because shoppers choose with each order.
        let by_id =
            addresses.into_iter().filter_map(|wire| Some((wire.id.as_ref()?.to_string(), json!(address(wire)))));
        extra.insert("addresses".into(), by_id.collect());
        let entity = Customer {
            id: CustomerId(wire.id),
            email: wire.email,
            first_name: wire.first_name,
            last_name: wire.last_name,
            billing: Address::default(),
            shipping: Address::default(),
            created_at: wire.date_created,
            updated_at: wire.date_modified,
        };
        let change = self.upsert(wire.date_modified, &entity, extra, VOLATILE_CUSTOMER)?;
        Ok(self.mapped(change))
    }

    fn order(&mut self) -> Result<Mapped, Stop> {
        let id = self.wanted.id.as_str();
        let mut wire: wire::Order = self.first(&["v2", "orders", id], &[])?;
        self.is_wanted(&wire.id)?;
        // Deleting an order archives it, and the API still shows it.
        if wire.is_deleted == Some(true) {
            return Ok(self.gone());
        }
        let (lines, addresses, shipments): (Vec<wire::Line>, _, _) =
            (self.part("products")?, self.part("shipping_addresses")?, self.part("shipments")?);
        let coupons = if order::may_have_coupons(&wire, &lines) { self.part("coupons")? } else { Vec::new() };
        let fees = match wire.fees.take() {
            // The fees are included, where that was asked for.
            Some(fees) if fees.get().starts_with('[') => self.enveloped(fees.get().as_bytes(), "fees", 0)?,
            Some(fees) if fees.get().starts_with('{') => {
                let found = self.v2_page("fees", &["v2", "orders", id, "fees"], &[], 0)?;
                found.unwrap_or_else(|| {
                    self.unreadable.push("fees".to_owned());
                    Vec::new()
                })
            }
            _ => Vec::new(),
        };
        // The order's own `refunded_amount` is always 0.
        let answer = self.answer(&["v3", "orders", id, "payment_actions", "refunds"], &[])?;
        let refunds = if is_not_found(answer) {
            self.unreadable.push("refunds".to_owned());
            Vec::new()
        } else if answer.status == 204 {
            Vec::new()
        } else {
            let body = &self.success(answer)?.body;
            let page: wire::Page<wire::Refund> = self.read(body, "refunds", 0)?;
            page.data
        };
        let (source, incomplete) = (wire.date_modified, wire.status_id == Some(0));
        let parts = order::Parts { lines, addresses, shipments, coupons, fees, refunds };
        let (entity, extra) = order::order(wire, parts).ok_or_else(|| Stop::unreadable("status_id"))?;
        let change = self.upsert(source, &entity, extra, &[])?;
        // An order that was begun and never paid does not count, but a known one may have been set back.
        if incomplete {
            return Ok(Mapped::IfKnown(self.wanted.id.clone(), change, INCOMPLETE_ORDER));
        }
        Ok(self.mapped(change))
    }

    fn cart(&mut self) -> Result<Mapped, Stop> {
        let wire: wire::Data<wire::Cart> = self.first(&["v3", "carts", self.wanted.id.as_str()], &[])?;
        let wire = wire.data;
        self.is_wanted(&wire.id)?;
        let mut extra = wire.rest;
        let items = wire.line_items;
        let items = [items.physical_items, items.digital_items, items.gift_certificates, items.custom_items];
        let items = items.into_iter().flatten().collect();
        let items = keep_rest(&mut extra, "line_items", items, |item| (&item.id, take(&mut item.rest)));
        let entity = Cart {
            id: wire.id,
            // Only webhooks tell the status and the order.
            status: None,
            order: None,
            customer: wire.customer_id.map(CustomerId),
            email: wire.email,
            currency: wire.currency.code,
            total: wire.cart_amount,
            lines: items
                .into_iter()
                .map(|item| Line {
                    id: item.id,
                    product: item.product_id.map(ProductId),
                    variation: item.variant_id.map(ProductId),
                    name: item.name,
                    sku: item.sku,
                    quantity: item.quantity.unwrap_or(Decimal::ONE),
                    price: item.sale_price.or(item.list_price).or(item.amount),
                    subtotal: item.extended_list_price.or(item.amount),
                    total: item.extended_sale_price.or(item.extended_list_price).or(item.amount),
                    tax: None,
                })
                .collect(),
            coupons: wire.coupons.into_iter().filter_map(|coupon| coupon.code).collect(),
            created_at: wire.created_time,
            updated_at: wire.updated_time,
        };
        let change = self.upsert(wire.updated_time, &entity, extra, &[])?;
        Ok(self.mapped(change))
    }

    fn price(&mut self) -> Result<Mapped, Stop> {
        let Some((list, variant)) = self.wanted.id.as_str().split_once(':') else {
            return Err(Stop::unreadable("an id that is not {price list}:{variant}"));
        };
        let path = ["v3", "pricelists", list, "records", variant];
        let page: wire::Page<wire::Record> = self.first(&path, &[("include", "bulk_pricing_tiers")])?;
        let mut records = page.data;
        if records.is_empty() {
            return Ok(self.gone());
        }
        if records.iter().any(|record| record.price_list_id.as_str() != list || record.variant_id.as_str() != variant) {
            return Err(Stop::unreadable("another id than was asked for"));
        }
        for record in &mut records {
            record.currency.make_ascii_uppercase();
        }
        records.sort_by(|a, b| a.currency.cmp(&b.currency));
        let rest = records.iter_mut().map(|record| {
            let mut rest = take(&mut record.rest);
            rest.retain(|name, _| !REDUNDANT_RECORD.contains(&name.as_str()));
            (record.currency.clone(), Value::Object(rest))
        });
        let extra = Map::from_iter([("records".to_owned(), rest.collect())]);
        let (Some(list), Some(variant)) = (list.parse().ok(), variant.parse().ok()) else {
            return Err(Stop::unreadable("an id that is not {price list}:{variant}"));
        };
        let entity = Price {
            id: self.wanted.id.clone(),
            list,
            variation: ProductId(variant),
            prices: records
                .into_iter()
                .map(|record| CurrencyPrice {
                    currency: record.currency,
                    price: record.price,
                    sale_price: record.sale_price,
                    retail_price: record.retail_price,
                    tiers: record.bulk_pricing_tiers.into_iter().map(tier).collect(),
                })
                .collect(),
        };
        // Each record has a time, but the whole has none, because the latest of them goes back when its record is
        // deleted.
        let change = self.upsert(None, &entity, extra, &[])?;
        Ok(self.mapped(change))
    }
}

fn is_not_found(answer: &ApiResponse) -> bool {
    answer.status == 404 && wire::is_not_found(&answer.body)
}

/// Puts the members of lines beyond the canonical fields under `extra`, by the platform's name of the list and the
/// line's id.
pub fn keep_rest<T>(
    extra: &mut Map<String, Value>,
    name: &str,
    mut lines: Vec<T>,
    split: impl Fn(&mut T) -> (&ExternalId, Map<String, Value>),
) -> Vec<T> {
    let mut by_id = Map::new();
    for line in &mut lines {
        let (id, rest) = split(line);
        by_id.insert(id.to_string(), Value::Object(rest));
    }
    extra.insert(name.to_owned(), Value::Object(by_id));
    lines
}

fn tier(wire: wire::Tier) -> PriceTier {
    PriceTier {
        from: wire.quantity_min,
        to: wire.quantity_max.filter(|most| ![0, NO_END].contains(most)),
        kind: wire.kind,
        amount: wire.amount,
    }
}

/// Returns a variant's own values. It leaves many of BigCommerce's out, because a product can have 600 variants.
fn variant(wire: &wire::Variant) -> Value {
    json!({
        "sku": wire.sku,
        "barcode": wire.gtin.as_ref().or(wire.upc.as_ref()),
        "price": wire.calculated_price.or(wire.price),
        "regular_price": wire.price,
        "sale_price": wire.sale_price,
        "quantity": wire.inventory_level,
        "disabled": wire.purchasing_disabled.filter(|disabled| *disabled),
        "image": wire.image_url,
        "choices": wire
            .option_values
            .iter()
            .filter_map(|value| Some((value.option_display_name.clone()?, json!(value.label))))
            .collect::<Map<_, _>>(),
    })
}

/// Returns the choices of a product: those that its variants have made.
fn choices(variants: &[wire::Variant]) -> Vec<Choice> {
    let mut choices: Vec<Choice> = Vec::new();
    for value in variants.iter().flat_map(|variant| &variant.option_values) {
        let Some(label) = &value.label else { continue };
        match choices.iter_mut().find(|choice| choice.name == value.option_display_name) {
            Some(choice) if choice.values.contains(label) => {}
            Some(choice) => choice.values.push(label.clone()),
            None => choices.push(Choice { name: value.option_display_name.clone(), values: vec![label.clone()] }),
        }
    }
    choices
}

pub fn address(wire: wire::Address) -> Address {
    Address {
        first_name: wire.first_name,
        last_name: wire.last_name,
        company: wire.company,
        line1: wire.address1,
        line2: wire.address2,
        city: wire.city,
        region: wire.state_or_province,
        postcode: wire.postal_code,
        country: wire.country_code,
        email: wire.email,
        phone: wire.phone,
    }
}

impl Pull for BigCommerce {
    fn pull(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Result<Next, Fault> {
        pull::pull(wanted, answers)
    }

    fn only_if_known(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Option<Rule> {
        let [order] = answers else { return None };
        let is_incomplete = |order: wire::Status| order.status_id == Some(0);
        let order = lenient::entity(&order.body).ok().filter(|_| wanted.entity == EntityKind::Order);
        order.is_some_and(|(order, _)| is_incomplete(order)).then_some(INCOMPLETE_ORDER)
    }
}

#[cfg(test)]
mod tests;
