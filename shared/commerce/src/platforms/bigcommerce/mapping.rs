//! The processor's part of BigCommerce: its entity processors, and the entity that a callback is about. The pull of
//! entities is in [`super::pull`].

use std::{collections::BTreeSet, slice};

use serde_json::{Map, Value, json};

use super::wire;
use crate::{
    change::{Change, Delete, Facets, Upsert},
    entity::{Content, EntityKind, ExternalId},
    outcome::Rule,
    platform::mapping::{Incoming, MapError, Mapped, Mapping},
    platforms::bigcommerce::{
        BigCommerce,
        api::RETRIED_SECONDS,
        lists::price_lists,
        scopes::{
            CART_ABANDONED, CART_CONVERTED, CHANNEL_COPY, METAFIELD, PRICE_LIST_DELETED, PRICE_LISTS_DELETED,
            PROCESSORS, STORE_INFORMATION, SUBSCRIBER,
        },
    },
    timestamp::Timestamp,
    transfer::{Action, EntityProcessor, Transfer},
};

/// The mapping's number. It rises when the mapping's output changes, so that replayed deliveries win over their former
/// mapping.
pub(super) const MAPPING: u32 = 2;

impl Mapping for BigCommerce {
    fn processors(&self) -> &'static [EntityProcessor] {
        PROCESSORS
    }

    fn ignores(&self, scope: &str) -> Option<Rule> {
        let parts: Vec<&str> = scope.split('/').collect();
        match *parts.as_slice() {
            ["store", .., "metafield", _] => Some(METAFIELD),
            ["store", "subscriber", ..] => Some(SUBSCRIBER),
            ["store", "channel", id, ..] if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) => {
                Some(CHANNEL_COPY)
            }
            ["store", "information", ..] => Some(STORE_INFORMATION),
            _ => None,
        }
    }

    fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
        let Incoming { entity, scope, received, .. } = *incoming;
        let callback = wire::callback(incoming.body)?;
        let entries = match &callback.data {
            Value::Array(entries) => entries.as_slice(),
            one => slice::from_ref(one),
        };
        if matches!(scope, PRICE_LIST_DELETED | PRICE_LISTS_DELETED) {
            return price_lists(entries);
        }
        let ids: Option<BTreeSet<ExternalId>> = entries.iter().map(|entry| subject(entity, scope, entry)).collect();
        let ids = ids.filter(|ids| !ids.is_empty()).ok_or_else(|| MapError::Malformed("data: the id".into()))?;
        let mut rest = ids.into_iter();
        match (rest.next(), rest.len()) {
            (Some(id), 0) if entity != EntityKind::Price => Ok(match incoming.action {
                Action::Deleted => Mapped::Change(id, Change::Delete(Delete { source: None, received })),
                _ => match fate(scope, &id, entries, callback.created_at, received) {
                    Some(fate) => Mapped::PullWith(id, fate),
                    None => Mapped::Pull(id),
                },
            }),
            (first, _) => {
                let transfer = |id| Transfer::new(entity, id, format!("named by {scope}"));
                Ok(Mapped::Split(first.into_iter().chain(rest).map(transfer).collect()))
            }
        }
    }
}

/// Returns the fate of a cart, which no answer of the API shows. An abandonment counts until a later change, so the
/// callback dates it; a conversion to an order is the cart's end.
fn fate(
    scope: &str,
    id: &ExternalId,
    entries: &[Value],
    created_at: Option<i64>,
    received: Timestamp,
) -> Option<Change> {
    let status = match scope {
        CART_ABANDONED => "abandoned",
        CART_CONVERTED => "converted",
        _ => return None,
    };
    let order = ["orderId", "order_id"].iter().find_map(|name| wire::id_of(&entries.first()?[name]));
    let order = order.filter(|_| scope == CART_CONVERTED);
    let fields = [("id", json!(id)), ("status", json!(status)), ("order", json!(order))];
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let facets = Facets::from_iter([("fate".to_owned(), Content::facet(fields, Map::new()).into())]);
    let dated = created_at.map(|seconds| Timestamp::from_micros(seconds.saturating_mul(1_000_000)));
    let dated = dated.filter(|at| scope == CART_ABANDONED && at.plus_seconds(RETRIED_SECONDS) > received);
    let at = dated.unwrap_or(received);
    Some(Change::Upsert(Upsert::partial(Some(at), received, false, MAPPING, facets)))
}

/// Returns the entity that an element of `data` is about.
fn subject(entity: EntityKind, scope: &str, data: &Value) -> Option<ExternalId> {
    let at = |place: &str| wire::id_of(data.pointer(place)?);
    if entity == EntityKind::Price {
        let (list, variant) = (at("/price_list_id")?, at("/variant_id")?);
        return (!list.as_str().contains(':')).then(|| format!("{list}:{variant}").parse().ok())?;
    }
    // A child with an id of its own has it here, and each topic names the parent in its own way.
    let places: &[&str] = match scope.strip_prefix("store/")? {
        name if name.starts_with("customer/address/") => &["/address/customer_id"],
        name if name.starts_with("sku/") => &["/sku/product_id", "/inventory/product_id"],
        name if name.starts_with("product/inventory/") => &["/inventory/product_id", "/id"],
        name if name.starts_with("channel/") => &["/product_id", "/inventory/product_id"],
        name if name.starts_with("shipment/") => &["/orderId", "/order_id"],
        name if name.starts_with("order/transaction/") => &["/order_id", "/orderId"],
        name if name.starts_with("cart/lineItem/") => &["/cartId", "/cart_id"],
        _ => &["/id"],
    };
    places.iter().find_map(|place| at(place))
}

#[cfg(test)]
mod tests;
