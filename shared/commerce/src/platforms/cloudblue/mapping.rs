//! The processor's part of CloudBlue Connect: the lists that a trigger stands for, and the mapping of requests and
//! assets to canonical entities.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{delivery::TRIGGER, wire};
use crate::{
    change::Change,
    connection::Connection,
    entity::{
        Actor, Content, CustomerId, EntityKind, Event, ExternalId, ProductId, Request, Subscription, SubscriptionId,
        SubscriptionItem,
    },
    http_call::Fault,
    outcome::Rule,
    platform::{
        lenient,
        mapping::{Incoming, MapError, Mapped, Mapping},
    },
    platforms::cloudblue::{
        CloudBlue,
        lists::{Cursor, LISTS, LOOKBACK_SECONDS, MAX_LOOKBACK_SECONDS, OVERLAP_SECONDS, Of, written},
    },
    timestamp::{Timestamp, parse_utc},
    transfer::{Action, Direction, EntityProcessor, Listing, Payload, Polling, own},
};

/// The mapping's number. It rises when the mapping's output changes.
pub(super) const MAPPING: u32 = 2;

/// The topic (`scope`) of requests of fulfilment.
pub(super) const FULFILLMENT: &str = "fulfillment_request";
/// The topic of tier configuration requests.
pub(super) const TIER_CONFIG: &str = "tier_config_request";

static PROCESSORS: &[EntityProcessor] = &[
    EntityProcessor {
        entity: EntityKind::Request,
        direction: Direction::Bidirectional,
        payload: Payload::Thin,
        pull: true,
        polling: Some(Polling::Incremental),
        scopes: &[own(FULFILLMENT, Action::Updated), own(TIER_CONFIG, Action::Updated), own(TRIGGER, Action::Updated)],
        requires: &[],
        // An approval changes the asset, and nothing else reports that.
        followed_by: &[EntityKind::Subscription],
    },
    EntityProcessor {
        entity: EntityKind::Subscription,
        direction: Direction::Import,
        payload: Payload::Thin,
        pull: true,
        polling: Some(Polling::Incremental),
        scopes: &[],
        requires: &[],
        followed_by: &[],
    },
];

/// The rule for other classes of objects. Webhooks can be for them, but they are no entities here.
const OBJECT_CLASS: Rule = Rule("cloudblue-object-class");
const OTHER_CLASSES: [&str; 4] = ["tier_account_request", "listing_request", "billing_request", "usage_file"];
/// The rule for a token of a webhook that the connection does not name.
const FOREIGN_WEBHOOK: Rule = Rule("cloudblue-foreign-webhook");

/// The members left out of `extra` at any depth: parameters, which may be passwords, and texts made of them; addresses;
/// members that change with time alone; pictures.
const HIDDEN: &[&str] = &["params", "activation", "representation", "contact_info", "tax_id", "sli", "icon"];
/// The members left out of a request's `extra`: its canonical fields, and those members of its asset that belong to the
/// subscription.
const OF_REQUEST: &[&str] = &["id", "type", "status", "note", "notes", "reason", "created", "updated", "events"];
const OF_ASSET: &[&str] = &["status", "product", "events", "created", "updated"];
/// The members left out of a subscription's `extra`, which are canonical fields.
const OF_SUBSCRIPTION: &[&str] = &["id", "external_id", "status", "product", "events", "created", "updated"];
/// The members left out of an item's rest, which are canonical fields.
const OF_ITEM: &[&str] = &["id", "mpn", "display_name", "quantity", "old_quantity"];

impl Mapping for CloudBlue {
    fn processors(&self) -> &'static [EntityProcessor] {
        PROCESSORS
    }

    fn ignores(&self, scope: &str) -> Option<Rule> {
        OTHER_CLASSES.contains(&scope).then_some(OBJECT_CLASS)
    }

    fn admits(&self, connection: &Connection, claims: &BTreeMap<String, String>) -> Result<(), Rule> {
        let own = connection.settings.get("webhooks").and_then(Value::as_array);
        let claimed = claims.get("webhook_id");
        let known = own
            .into_iter()
            .flatten()
            .any(|id| id.as_str().is_some_and(|id| claimed.is_some_and(|claimed| id == claimed)));
        if known { Ok(()) } else { Err(FOREIGN_WEBHOOK) }
    }

    /// Maps a trigger to lists. Nothing in the body is trusted: its last success can only extend the search further
    /// back.
    fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
        let received = incoming.received;
        let day = received.plus_seconds(-LOOKBACK_SECONDS);
        let hint =
            wire::Trigger::read(incoming.body).last_success_at.and_then(|text| parse_utc(&text)).map(Timestamp::from);
        let since = hint
            .map_or(day, |hint| hint.plus_seconds(-OVERLAP_SECONDS).min(day))
            .max(received.plus_seconds(-MAX_LOOKBACK_SECONDS));
        let lists = LISTS.iter().filter(|list| list.of == Of::Tiers || incoming.scope != TIER_CONFIG);
        let what = lists.map(|list| list.name).collect::<Vec<_>>().join("+");
        let since = Some(Timestamp::from_micros(since.seconds().saturating_mul(1_000_000)).to_string());
        Ok(Mapped::List(Listing::new(what, written(&Cursor { since, after: None, offset: 0 }))))
    }
}

pub(super) fn shown_change(mapped: &Mapped) -> Result<&Change, Fault> {
    match mapped {
        Mapped::Change(_, change) => Ok(change),
        _ => Err(Fault::Unreadable("no entity".into())),
    }
}

type Dated = (ExternalId, Option<jiff::Timestamp>, Content);

pub(super) fn request(body: &[u8]) -> Result<Dated, MapError> {
    let (wire, dropped): (wire::Request, _) = lenient::entity(body)?;
    let (mut extra, deep): (Map<String, Value>, _) = lenient::entity(body)?;
    extra.retain(|name, _| !OF_REQUEST.contains(&name.as_str()));
    if let Some(Value::Object(asset)) = extra.get_mut("asset") {
        asset.retain(|name, _| !OF_ASSET.contains(&name.as_str()));
        keep_rest_of_items(asset);
    }
    hide(&mut extra);
    let updated = dated(wire.updated.or(wire.events.at("updated")), &dropped)?;
    let created = wire.created.or(wire.events.at("created"));
    let account = wire.configuration.as_ref().and_then(|configuration| configuration.account.clone());
    let customer = wire.asset.as_ref().and_then(|asset| customer(&asset.tiers)).or(account);
    let product = product(&wire).cloned();
    let id = wire.id.clone();
    let (subscription, items, params) = match wire.asset {
        Some(asset) => (Some(SubscriptionId(asset.id)), asset.items, asset.params),
        None => (None, Vec::new(), wire.params),
    };
    let (items, parameters, unreadable) = parts(items, &params, if subscription.is_some() { "asset." } else { "" });
    let entity = Request {
        id: wire.id,
        kind: wire.kind,
        status: wire.status,
        subscription,
        product: product.map(ProductId),
        customer: customer.map(CustomerId),
        items,
        parameters,
        reason: wire.reason,
        note: wire.note.or(wire.notes),
        events: events(wire.events),
        created_at: created,
        updated_at: updated,
    };
    Ok((id, updated, content(&entity, extra, [dropped, deep, unreadable])?))
}

pub(super) fn subscription(body: &[u8]) -> Result<Dated, MapError> {
    let (wire, dropped): (wire::Asset, _) = lenient::entity(body)?;
    let (mut extra, deep): (Map<String, Value>, _) = lenient::entity(body)?;
    extra.retain(|name, _| !OF_SUBSCRIPTION.contains(&name.as_str()));
    keep_rest_of_items(&mut extra);
    hide(&mut extra);
    let updated = dated(wire.events.at("updated").or(wire.updated), &dropped)?;
    let created = wire.events.at("created").or(wire.created);
    let (items, parameters, unreadable) = parts(wire.items, &wire.params, "");
    let entity = Subscription {
        id: SubscriptionId(wire.id.clone()),
        external_id: wire.external_id,
        status: wire.status,
        name: None,
        product: wire.product.map(ProductId),
        customer: customer(&wire.tiers).map(CustomerId),
        items,
        parameters,
        expires_at: wire.renewal_expiration_date,
        billed_at: wire.billing.next_date,
        events: events(wire.events),
        created_at: created,
        updated_at: updated,
    };
    Ok((wire.id, updated, content(&entity, extra, [dropped, deep, unreadable])?))
}

fn content(
    entity: &impl Serialize,
    extra: Map<String, Value>,
    unreadable: [Vec<String>; 3],
) -> Result<Content, MapError> {
    let content = Content::new(entity, extra).map_err(|_| MapError::Malformed("the whole".into()))?;
    Ok(content.with_unreadable(unreadable.into_iter().flatten()))
}

/// Returns the time that dates an entity. An unreadable time is not an absent one.
fn dated(at: Option<jiff::Timestamp>, dropped: &[String]) -> Result<Option<jiff::Timestamp>, MapError> {
    let lost = |place: &&String| matches!(place.as_str(), "events" | "events.updated" | "events.updated.at");
    match dropped.iter().find(lost) {
        Some(place) if at.is_none() => Err(MapError::Malformed(place.clone())),
        _ => Ok(at),
    }
}

fn customer(tiers: &wire::Tiers) -> Option<ExternalId> {
    tiers.customer.as_ref()?.id.as_ref()?.parse().ok()
}

pub(super) fn product(request: &wire::Request) -> Option<&ExternalId> {
    let asset = request.asset.as_ref().and_then(|asset| asset.product.as_ref());
    asset.or_else(|| request.configuration.as_ref()?.product.as_ref())
}

/// Returns items and parameters, and the places of those without a name.
fn parts(
    items: Vec<wire::Item>,
    params: &wire::Params,
    below: &str,
) -> (Vec<SubscriptionItem>, BTreeMap<String, String>, Vec<String>) {
    let mut unreadable: Vec<String> = params.unreadable.iter().map(|place| format!("{below}{place}")).collect();
    let mut named = Vec::new();
    for (place, wire) in items.into_iter().enumerate() {
        let Some(id) = wire.id.or(wire.global_id) else {
            unreadable.push(format!("{below}items[{place}]"));
            continue;
        };
        let wire::Item { mpn, display_name, name, quantity, old_quantity, .. } = wire;
        named.push(SubscriptionItem { id, sku: mpn, name: display_name.or(name), quantity, old_quantity });
    }
    let open = params.list.iter().filter(|param| param.is_open());
    let parameters = open.filter_map(|param| Some((param.id.clone(), param.text()?))).collect();
    (named, parameters, unreadable)
}

fn events(wire: wire::Events) -> BTreeMap<String, Event> {
    let told = |event: &wire::Event| event.at.is_some() || event.by.id.is_some();
    let event = |wire::Event { at, by: wire::Actor { id, name } }| Event { at, by: Some(Actor { id, name }) };
    wire.0.into_iter().filter(|(_, event)| told(event)).map(|(name, wire)| (name, event(wire))).collect()
}

/// Puts the members of items beyond the canonical fields in the list's place, by the item's id.
fn keep_rest_of_items(of: &mut Map<String, Value>) {
    let Some(Value::Array(items)) = of.remove("items") else { return };
    let mut by_id = Map::new();
    for item in items {
        let Ok(wire::Item { id: Some(id), .. } | wire::Item { global_id: Some(id), .. }) =
            wire::Item::deserialize(&item)
        else {
            continue;
        };
        let Value::Object(mut members) = item else { continue };
        members.retain(|name, _| !OF_ITEM.contains(&name.as_str()));
        by_id.insert(id.into(), Value::Object(members));
    }
    of.insert("items".to_owned(), Value::Object(by_id));
}

/// Removes [`HIDDEN`] members at any depth.
fn hide(members: &mut Map<String, Value>) {
    fn within(value: &mut Value) {
        match value {
            Value::Object(members) => hide(members),
            Value::Array(elements) => elements.iter_mut().for_each(within),
            _ => {}
        }
    }
    members.retain(|name, _| !HIDDEN.contains(&name.as_str()));
    members.values_mut().for_each(within);
}

#[cfg(test)]
mod tests;
