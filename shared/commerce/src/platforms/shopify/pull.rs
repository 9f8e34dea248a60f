//! The pull of entities: the queries for each of them, and the mapping of Shopify's objects to canonical entities.
//! Orders are in [`super::order`].

use std::{mem::take, slice};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    api::{call, check, gid, rest},
    mapping::MAPPING,
    order,
    queries::{COLLECTION, CUSTOMER, MORE_LEVELS, MORE_LINES, MORE_VARIANTS, ORDER, PRODUCT},
    wire::{self, Answer, Items, MoreLines, MoreVariants},
};
use crate::{
    change::{Change, Delete, Facets, Upsert},
    entity::{
        Address, Category, CategoryEntity, Choice, Content, Customer, CustomerId, EntityKind, Product, ProductId, Stock,
    },
    http_call::{ApiResponse, Fault},
    platform::{
        lenient,
        mapping::Mapped,
        pull::{Next, Pull, Stop, Wanted},
    },
    platforms::shopify::Shopify,
    timestamp::Timestamp,
};

/// The variants of a product's first call, and of each further one. With the points of all that is asked for with them,
/// a call stays below the most that one may cost.
const VARIANTS: [usize; 2] = [30, 60];
/// The lines of an order's first call, and of each further one.
const LINES: [usize; 2] = [15, 50];
/// The locations that each variant is asked for with its product. Few shops have more.
const LEVELS: usize = 3;
/// The rounds of calls for the variants with more locations: the number of variants, and of locations of each.
const MORE: [(usize, usize); 3] = [(28, 10), (9, 33), (1, 250)];
/// The most payments, refunds and packages that an order is asked for. Their lists have no further pages.
const MOST_PARTS: usize = 40;

impl Pull for Shopify {
    fn pull(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Result<Next, Fault> {
        let mut bucket = Bucket { wanted: *wanted, answers: answers.iter(), unreadable: Vec::new() };
        let mapped = match wanted.entity {
            EntityKind::Product => bucket.product(),
            EntityKind::Category => bucket.collection(),
            EntityKind::Customer => bucket.customer(),
            EntityKind::Order => bucket.order(),
            other => Err(Stop::Fault(Fault::Unreadable(format!("no {other} can be pulled from Shopify")))),
        };
        Stop::next(mapped)
    }

    fn rest(&self, answer: &ApiResponse) -> Option<i64> {
        rest(answer)
    }
}

/// An entity with its parts, read from the answers so far.
struct Bucket<'a> {
    wanted: Wanted<'a>,
    answers: slice::Iter<'a, ApiResponse>,
    /// The places that could not be read, in Shopify's words.
    unreadable: Vec<String>,
}

impl<'a> Bucket<'a> {
    /// Returns the next answer, or stops with its call.
    fn answer(&mut self, query: &str, variables: &Value) -> Result<&'a ApiResponse, Stop> {
        match self.answers.next() {
            Some(answer) => {
                check(answer, self.wanted.at)?;
                Ok(answer)
            }
            None => {
                let request = call(&self.wanted.access, query, variables)?;
                Err(Stop::Next(Box::new(Next::Ask(request))))
            }
        }
    }

    /// Reads an object, and notes the places that were dropped.
    fn read<T: DeserializeOwned>(&mut self, body: &[u8]) -> Result<T, Stop> {
        let named = |place: &str| match place.strip_prefix("data.").and_then(|rest| rest.split_once('.')) {
            Some((_, place)) => place.to_owned(),
            None => place.to_owned(),
        };
        let (value, dropped) = lenient::entity(body).map_err(Fault::from)?;
        self.unreadable.extend(dropped.iter().map(|place| named(place)));
        Ok(value)
    }

    /// Reads the answer about one object. One that is `null`, without an error, is gone.
    fn object<T: DeserializeOwned>(&mut self, query: &str, variables: &Value) -> Result<T, Stop> {
        let body = &self.answer(query, variables)?.body;
        if wire::is_nothing(body) {
            let delete = Delete { source: None, received: self.wanted.at };
            let gone = Mapped::Change(self.wanted.id.clone(), Change::Delete(delete));
            return Err(Stop::Next(Box::new(Next::Done(gone))));
        }
        let answer: Answer<T> = self.read(body)?;
        Ok(answer.data.one)
    }

    fn change(
        &mut self,
        source: Option<jiff::Timestamp>,
        entity: &impl Serialize,
        extra: Map<String, Value>,
    ) -> Result<Mapped, Stop> {
        let content = Content::new(entity, extra).map_err(|_| Stop::unreadable("the whole"))?;
        let content = content.with_unreadable(take(&mut self.unreadable)).with_unbalanced(self.wanted.entity);
        let change = Change::Upsert(Upsert {
            source: source.map(Timestamp::from),
            received: self.wanted.at,
            observed: true,
            mapping: MAPPING,
            content: content.into(),
            facets: Facets::new(),
        });
        Ok(Mapped::Change(self.wanted.id.clone(), change))
    }

    fn is_wanted(&self, id: &crate::entity::ExternalId) -> Result<(), Stop> {
        if id == self.wanted.id { Ok(()) } else { Err(Stop::unreadable("another id than was asked for")) }
    }

    fn product(&mut self) -> Result<Mapped, Stop> {
        let id = gid("Product", self.wanted.id)?;
        let variables = json!({ "id": id, "first": VARIANTS[0], "levels": LEVELS });
        let mut wire: wire::Product = self.object(PRODUCT, &variables)?;
        self.is_wanted(&wire.id)?;
        let mut variants = take(&mut wire.variants.nodes);
        let mut page = take(&mut wire.variants.page_info);
        while let Some(after) = further(&page)? {
            let variables = json!({ "id": id, "first": VARIANTS[1], "levels": LEVELS, "after": after });
            let more: MoreVariants = self.object(MORE_VARIANTS, &variables)?;
            is_other(&after, &more.variants.page_info)?;
            variants.extend(more.variants.nodes);
            page = more.variants.page_info;
        }
        self.more_levels(&mut variants)?;
        for (is_cut, part) in
            [(wire.collections.page_info.has_next_page, "collections"), (wire.media.page_info.has_next_page, "media")]
        {
            if is_cut {
                self.unreadable.push(part.to_owned());
            }
        }
        let mut extra = take(&mut wire.rest);
        extra.insert("variants".into(), variants.iter_mut().map(|v| (v.id.to_string(), variant(v))).collect());
        let single = wire.has_only_default_variant == Some(true);
        let only = variants.first().filter(|_| single);
        let price = wire.price_range.min_variant_price;
        let (regular, sale) = match only.map(|variant| (variant.price, variant.compare_at_price)) {
            Some((Some(price), Some(before))) if before > price => (Some(before), Some(price)),
            Some((price, _)) => (price, None),
            None => (None, None),
        };
        let entity = Product {
            id: ProductId(wire.id),
            parent: None,
            kind: Some(if single { "simple" } else { "variable" }.to_owned()),
            name: wire.title,
            sku: only.and_then(|variant| variant.sku.clone()),
            barcode: only.and_then(|variant| variant.barcode.clone()),
            status: wire.status,
            price: price.amount,
            regular_price: regular,
            sale_price: sale,
            currency: price.currency_code,
            stock: Stock {
                quantity: wire.total_inventory.filter(|_| wire.tracks_inventory != Some(false)),
                status: None,
            },
            description: wire.description_html,
            url: wire.online_store_url,
            categories: wire.collections.nodes.into_iter().map(|c| Category { id: c.id, name: None }).collect(),
            images: wire.media.nodes.into_iter().filter_map(|media| media.image?.url).collect(),
            choices: match single {
                // The one option of a product without options is called `Title`.
                true => Vec::new(),
                false => wire.options.into_iter().map(|o| Choice { name: o.name, values: o.values }).collect(),
            },
            variations: variants.into_iter().map(|variant| ProductId(variant.id)).collect(),
            created_at: wire.created_at,
            updated_at: wire.updated_at,
        };
        self.change(wire.updated_at, &entity, extra)
    }

    /// Reads the stock of variants at more locations than were asked for with the product, round by round.
    fn more_levels(&mut self, variants: &mut [wire::Variant]) -> Result<(), Stop> {
        for (at_once, levels) in MORE {
            let mut items: Vec<&mut wire::Item> =
                variants.iter_mut().filter_map(|v| v.inventory_item.as_mut()).collect();
            items.retain(|item| item.inventory_levels.page_info.has_next_page);
            for some in items.chunks_mut(at_once) {
                let ids: Vec<_> = some.iter().map(|item| gid("InventoryItem", &item.id)).collect::<Result<_, _>>()?;
                let body = &self.answer(MORE_LEVELS, &json!({ "ids": ids, "levels": levels }))?.body;
                let found: Items = self.read(body)?;
                for more in found.data.nodes {
                    if let Some(item) = some.iter_mut().find(|item| item.id == more.id) {
                        **item = more;
                    }
                }
            }
        }
        let is_cut = |v: &wire::Variant| {
            v.inventory_item.as_ref().is_some_and(|item| item.inventory_levels.page_info.has_next_page)
        };
        if variants.iter().any(is_cut) {
            self.unreadable.push("variants.inventoryItem.inventoryLevels".to_owned());
        }
        Ok(())
    }

    /// Pulls a collection, which is what canonical categories are called here.
    fn collection(&mut self) -> Result<Mapped, Stop> {
        let variables = json!({ "id": gid("Collection", self.wanted.id)? });
        let wire: wire::Collection = self.object(COLLECTION, &variables)?;
        self.is_wanted(&wire.id)?;
        let entity = CategoryEntity {
            id: wire.id,
            parent: None,
            name: wire.title,
            description: wire.description_html,
            visible: None,
            url: None,
            updated_at: wire.updated_at,
        };
        self.change(wire.updated_at, &entity, wire.rest)
    }

    fn customer(&mut self) -> Result<Mapped, Stop> {
        let variables = json!({ "id": gid("Customer", self.wanted.id)? });
        let mut wire: wire::Customer = self.object(CUSTOMER, &variables)?;
        self.is_wanted(&wire.id)?;
        let mut extra = take(&mut wire.rest);
        if wire.addresses.page_info.has_next_page {
            self.unreadable.push("addressesV2".to_owned());
        }
        extra.insert("marketingState".into(), json!(wire.default_email_address.marketing_state));
        extra.insert("phone".into(), json!(wire.default_phone_number.phone_number));
        let addresses = wire.addresses.nodes.into_iter();
        let others = addresses.filter_map(|place| Some((place.id.as_ref()?.to_string(), json!(address(place)))));
        extra.insert("addresses".into(), others.collect());
        let entity = Customer {
            id: CustomerId(wire.id),
            email: wire.default_email_address.email_address,
            first_name: wire.first_name,
            last_name: wire.last_name,
            billing: Address::default(),
            shipping: wire.default_address.map(address).unwrap_or_default(),
            created_at: wire.created_at,
            updated_at: wire.updated_at,
        };
        self.change(wire.updated_at, &entity, extra)
    }

    fn order(&mut self) -> Result<Mapped, Stop> {
        let id = gid("Order", self.wanted.id)?;
        let mut wire: wire::Order = self.object(ORDER, &json!({ "id": id, "first": LINES[0] }))?;
        self.is_wanted(&wire.id)?;
        let mut page = take(&mut wire.line_items.page_info);
        while let Some(after) = further(&page)? {
            let variables = json!({ "id": id, "first": LINES[1], "after": after });
            let more: MoreLines = self.object(MORE_LINES, &variables)?;
            is_other(&after, &more.line_items.page_info)?;
            wire.line_items.nodes.extend(more.line_items.nodes);
            page = more.line_items.page_info;
        }
        for (is_cut, part) in [
            (wire.shipping_lines.page_info.has_next_page, "shippingLines"),
            (wire.transactions.len() >= MOST_PARTS, "transactions"),
            (wire.refunds.len() >= MOST_PARTS, "refunds"),
            (wire.fulfillments.len() >= MOST_PARTS, "fulfillments"),
        ] {
            if is_cut {
                self.unreadable.push(part.to_owned());
            }
        }
        let updated_at = wire.updated_at;
        let (entity, extra) = order::order(wire).ok_or_else(|| Stop::unreadable("its amounts: a sum is too large"))?;
        self.change(updated_at, &entity, extra)
    }
}

/// Returns the position of the next page, if there is one.
fn further(page: &wire::PageInfo) -> Result<Option<String>, Stop> {
    match (&page.end_cursor, page.has_next_page) {
        (_, false) => Ok(None),
        (Some(cursor), true) => Ok(Some(cursor.clone())),
        (None, true) => Err(Stop::unreadable("pageInfo: another page without a cursor")),
    }
}

/// Checks that a page does not lead to itself.
fn is_other(after: &str, page: &wire::PageInfo) -> Result<(), Stop> {
    let same = page.has_next_page && page.end_cursor.as_deref() == Some(after);
    if same { Err(Stop::unreadable("pageInfo: a page that leads to itself")) } else { Ok(()) }
}

/// Returns a variant's own values, with its stock at each location.
fn variant(wire: &mut wire::Variant) -> Value {
    let mut own = take(&mut wire.rest);
    own.insert("sku".into(), json!(wire.sku));
    own.insert("barcode".into(), json!(wire.barcode));
    own.insert("price".into(), json!(wire.price));
    own.insert("compareAtPrice".into(), json!(wire.compare_at_price));
    if let Some(item) = &wire.inventory_item {
        own.insert("inventoryItem".into(), json!(item.id));
        own.insert("tracked".into(), json!(item.tracked));
        let counted = |level: &wire::Level| -> Map<String, Value> {
            level.quantities.iter().map(|one| (one.name.clone(), json!(one.quantity.normalize()))).collect()
        };
        let levels = item.inventory_levels.nodes.iter();
        let levels = levels.map(|level| (level.location.id.to_string(), Value::Object(counted(level))));
        own.insert("inventoryLevels".into(), levels.collect());
    }
    Value::Object(own)
}

/// Maps an address.
pub(super) fn address(wire: wire::Place) -> Address {
    Address {
        first_name: wire.first_name,
        last_name: wire.last_name,
        company: wire.company,
        line1: wire.address1,
        line2: wire.address2,
        city: wire.city,
        region: wire.province_code.or(wire.province),
        postcode: wire.zip,
        country: wire.country,
        email: None,
        phone: wire.phone,
    }
}
