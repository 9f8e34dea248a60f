//! The processor's part of DirectScale: its entity processors, and the mapping of events' members to facets.

use aws_lc_rs::digest;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    delivery::LEGACY,
    wire::{self, EVENT_DATE, EVENT_TYPE, Head, Members},
};
use crate::{
    change::{Change, Delete, Facets, Upsert},
    entity::{Content, EntityKind, ExternalId, Record},
    platform::{
        delivery::PROBE,
        mapping::{Incoming, MapError, Mapped, Mapping},
    },
    platforms::directscale::{
        DirectScale,
        events::{EVENTS, Event, HEAD, Kind, Member, PROCESSORS},
    },
    timestamp::Timestamp,
    transfer::{Action, EntityProcessor},
};

/// The mapping's number. It rises when the mapping's output changes, so that replayed deliveries win over their former
/// mapping.
pub(super) const MAPPING: u32 = 1;

impl Mapping for DirectScale {
    fn processors(&self) -> &'static [EntityProcessor] {
        PROCESSORS
    }

    /// Returns whether a topic (`scope`) is possible: any name, except the numbers of legacy events, which have names
    /// here.
    fn is_scope(&self, scope: &str) -> bool {
        let number = LEGACY.iter().any(|(number, _)| *number == scope);
        (1..=200).contains(&scope.len()) && !number && !scope.chars().any(char::is_control) && scope != PROBE
    }

    /// Returns the kind of records, because client code can send events of its own, and the documented list is not
    /// complete.
    fn fallback(&self) -> Option<(EntityKind, Action)> {
        Some((EntityKind::Record, Action::Created))
    }

    /// Returns also the name of an associate's id, because associates are the customers.
    fn customer_members(&self) -> &'static [&'static str] {
        &["customerid", "associateid"]
    }

    fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
        let Some(event) = event_of(incoming.scope) else { return record(incoming) };
        let members = Members::of(incoming.body)?;
        let (entity_id, child) = subject(event, &members)?;
        let source = match members.get(EVENT_DATE).map(wire::time) {
            None => None,
            Some(time) => time.map_err(|_| MapError::Malformed(EVENT_DATE.to_owned()))?.map(Timestamp::from),
        };
        let received = incoming.received;
        let void = incoming.entity == EntityKind::Subscription && is_void(&members);
        if incoming.action == Action::Deleted || void {
            return Ok(Mapped::Change(entity_id, Change::Delete(Delete { source, received })));
        }
        let facets = facets(incoming.entity, event, &members, &entity_id, child.as_ref())?;
        let upsert = Upsert::partial(source, received, false, MAPPING, facets);
        Ok(Mapped::Change(entity_id, Change::Upsert(upsert)))
    }

    /// Adds the user. In a record, the user is a field. In another event's entity, the user is kept under the event's
    /// name, as a facet of its own, so that the event's other facets are the same for every user. A delete has no place
    /// for a user.
    fn by_user(&self, incoming: &Incoming<'_>, user: &str, mapped: Mapped) -> Mapped {
        let Mapped::Change(id, Change::Upsert(mut upsert)) = mapped else { return mapped };
        if upsert.facets.is_empty() {
            std::sync::Arc::make_mut(&mut upsert.content).fields.insert("user".to_owned(), json!(user));
            return Mapped::Change(id, Change::Upsert(upsert));
        }
        let child = event_of(incoming.scope)
            .zip(Members::of(incoming.body).ok())
            .and_then(|(event, members)| subject(event, &members).ok()?.1);
        let name = match &child {
            Some((_, child)) => format!("user#{child}.{}", incoming.scope),
            None => format!("user.{}", incoming.scope),
        };
        let users = Map::from_iter([("users".to_owned(), json!({ incoming.scope: user }))]);
        let parts = Parts { extra: users, ..Parts::default() };
        upsert.facets.insert(name, parts.content(incoming.entity, &id, child.as_ref()).into());
        let Upsert { source, received, observed, mapping, facets, .. } = upsert;
        Mapped::Change(id, Change::Upsert(Upsert::partial(source, received, observed, mapping, facets)))
    }
}

/// Returns the known event of a name.
fn event_of(scope: &str) -> Option<&'static Event> {
    EVENTS.iter().find(|event| event.scope == scope)
}

/// A child that an event is about: the list that contains it, and its id.
type Child = (&'static str, ExternalId);

/// Returns the entity and the child that an event is about.
fn subject(event: &Event, members: &Members) -> Result<(ExternalId, Option<Child>), MapError> {
    let id = |name: &str| {
        let read = members.get(name).and_then(|raw| wire::id(raw).ok()?);
        read.ok_or_else(|| MapError::Malformed(name.to_owned()))
    };
    let child = match event.child {
        None => None,
        Some((list, name)) => Some((list, id(name)?)),
    };
    Ok((id(event.id)?, child))
}

/// Returns whether a subscription is void, which is as good as deleted.
fn is_void(members: &Members) -> bool {
    members.get("IsVoid").is_some_and(|raw| wire::text(raw).is_ok_and(|text| text.as_deref() == Some("true")))
}

/// Reads a member.
pub(super) fn value(kind: Kind, raw: &RawValue) -> Result<Value, wire::Unfit> {
    Ok(match kind {
        Kind::Text | Kind::Currency => json!(wire::text(raw)?),
        Kind::Id => json!(wire::id(raw)?),
        Kind::Time => json!(wire::time(raw)?),
        Kind::Money(_) => json!(wire::money(raw)?),
        Kind::Extra => wire::value(raw)?,
        Kind::ExtraTime => wire::any_time(raw)?,
        Kind::OrderType => wire::order_type(raw)?,
    })
}

/// A facet under construction.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) fields: Map<String, Value>,
    pub(super) extra: Map<String, Value>,
    pub(super) unreadable: Vec<String>,
}

impl Parts {
    pub(super) fn add(&mut self, member: &Member, value: Value) {
        match member.kind {
            kind if kind.is_extra() => _ = self.extra.insert(member.name.to_owned(), value),
            _ => match member.field.split_once('.') {
                Some((outer, inner)) => {
                    let outer = self.fields.entry(outer).or_insert_with(|| json!({}));
                    if let Value::Object(outer) = outer {
                        outer.insert(inner.to_owned(), value);
                    }
                }
                None => _ = self.fields.insert(member.field.to_owned(), value),
            },
        }
    }

    /// Makes the content of an entity's facet, or of that of a child in one of its lists.
    pub(super) fn content(self, entity: EntityKind, id: &ExternalId, child: Option<&Child>) -> Content {
        let Self { mut fields, mut extra, mut unreadable } = self;
        if let Some((list, id)) = child {
            unreadable.iter_mut().for_each(|place| *place = format!("{list}.{id}.{place}"));
            fields = Map::from_iter([((*list).to_owned(), json!({ id.as_str(): fields }))]);
            extra = Map::from_iter([((*list).to_owned(), json!({ id.as_str(): extra }))]);
        }
        fields.extend(identity(entity, id));
        Content::facet(fields, extra).with_unreadable(unreadable)
    }
}

/// Returns the fields of every facet, so that whichever comes first makes an entity.
fn identity(entity: EntityKind, id: &ExternalId) -> Map<String, Value> {
    let mut fields = Map::from_iter([("id".to_owned(), json!(id))]);
    if entity == EntityKind::Order {
        fields.insert("number".to_owned(), json!(id));
    }
    fields
}

/// Makes the facets of an event. A group with all its members is one facet. Otherwise each member is one of its own,
/// because absent members stay unchanged.
fn facets(
    entity: EntityKind,
    event: &Event,
    members: &Members,
    id: &ExternalId,
    child: Option<&Child>,
) -> Result<Facets, MapError> {
    let name_of = |facet: &str| match child {
        Some((_, child)) => format!("{facet}#{child}"),
        None => facet.to_owned(),
    };
    let mut facets = Facets::new();
    let mut put = |name: String, parts: Parts| _ = facets.insert(name, parts.content(entity, id, child).into());
    for group in event.groups {
        let facet = name_of(group.facet);
        let whole = group.members.iter().all(|member| members.get(member.name).is_some());
        let mut together = Parts::default();
        for member in group.members {
            let Some(raw) = members.get(member.name) else { continue };
            let mut alone = Parts::default();
            let parts = if whole { &mut together } else { &mut alone };
            match value(member.kind, raw) {
                Ok(read) => parts.add(member, read),
                // The value has changed, and the new one is unknown.
                Err(_) if member.kind.is_droppable() => {
                    parts.add(member, Value::Null);
                    parts.unreadable.push(member.name.to_owned());
                }
                Err(_) => return Err(MapError::Malformed(member.name.to_owned())),
            }
            if whole {
                continue;
            }
            match member.kind {
                // A currency means nothing without an amount.
                Kind::Currency => continue,
                // An amount must not be taken for one in the currency of an older one: without its own, it has none.
                Kind::Money(currency) => {
                    for other in group.members.iter().filter(|other| other.name == currency) {
                        let read = members.get(currency).map_or(Ok(Value::Null), |raw| value(other.kind, raw));
                        alone.add(other, read.map_err(|_| MapError::Malformed(currency.to_owned()))?);
                    }
                }
                _ => {}
            }
            put(format!("{facet}.{}", member.name), alone);
        }
        if whole {
            put(facet, together);
        }
    }
    // Members without documentation may be present at one time and absent at another.
    let child_id = event.child.map(|(_, name)| name);
    let named = |given: &str| {
        let of_groups = event.groups.iter().flat_map(|group| group.members).map(|member| member.name);
        let ids = [event.id].into_iter().chain(child_id);
        HEAD.iter().copied().chain(ids).chain(of_groups).any(|name| wire::is_named(given, name))
    };
    for (name, raw) in members.others(named) {
        let read = wire::value(raw).map_err(|_| MapError::Malformed("a member that is not documented".into()))?;
        let parts = Parts { extra: Map::from_iter([(name.to_owned(), read)]), ..Parts::default() };
        put(format!("{}.{name}", name_of("more")), parts);
    }
    if facets.is_empty() {
        // This facet says that the entity exists. Without a facet, the payload would be full, and empty.
        facets.insert("id".to_owned(), Content::facet(identity(entity, id), Map::new()).into());
    }
    Ok(facets)
}

/// Maps an event that stands for itself to a record, under its message's id. Its body can have any shape, so it is in
/// `extra`.
fn record(incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
    let hash = || hex::encode(&digest::digest(&digest::SHA256, incoming.body).as_ref()[..16]);
    let id = incoming.delivery_id.map_or_else(|| format!("body-{}", hash()), str::to_owned);
    let id: ExternalId = id.parse().map_err(|_| MapError::Malformed("the message's id".into()))?;
    let head = Head::of(incoming.body)?;
    // An event without a type is malformed, not unknown.
    if head.is_object && head.event().is_none() {
        return Err(MapError::Malformed(EVENT_TYPE.to_owned()));
    }
    let at = head.at.as_deref().map_or(Ok(None), wire::time);
    let unreadable = at.is_err().then(|| EVENT_DATE.to_owned());
    let at = at.unwrap_or_default();
    let event = head.is_object.then(|| incoming.scope.to_owned());
    let data = wire::value(&wire::json(incoming.body)?)
        .map_err(|_| MapError::Malformed("a member, which is there twice".into()))?;
    // `map` adds the user.
    let fields = Record { id: id.clone(), event, occurred_at: at, user: None };
    let content = Content::new(&fields, Map::from_iter([("data".to_owned(), data)]))
        .map_err(|_| MapError::Malformed("the whole".into()))?
        .with_unreadable(unreadable);
    let (source, received) = (at.map(Timestamp::from), incoming.received);
    let upsert =
        Upsert { source, received, observed: false, mapping: MAPPING, content: content.into(), facets: Facets::new() };
    Ok(Mapped::Change(id, Change::Upsert(upsert)))
}

#[cfg(test)]
mod tests;
