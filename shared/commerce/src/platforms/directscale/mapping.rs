//! What the processor has to know of DirectScale: its entity processors, and which members of its events are which
//! facet's.

use aws_lc_rs::digest;
use http::Method;
use serde_json::{Map, Value, json, value::RawValue};
use url::Url;

use super::{
    delivery::LEGACY,
    wire::{self, EVENT_DATE, EVENT_TYPE, Head, Members},
};
use crate::{
    change::{Change, Delete, Facets, Upsert},
    entity::{Content, EntityKind, ExternalId},
    http_call::{ApiRequest, ApiResponse, Fault},
    outcome::Rule,
    platform::{
        delivery::PROBE,
        mapping::{Incoming, MapError, Mapped, Mapping},
        pull::{Access, Budget, Next, Pull, Wanted},
    },
    platforms::directscale::webhooks::{Credentials, Service, Services},
    timestamp::Timestamp,
    transfer::{Action, Direction, EntityProcessor, Payload, Scope, child, own},
};

/// The processor's view.
pub struct DirectScale;

/// Rises when the mapping's output changes, so that replayed deliveries win over what was made of them before.
const MAPPING: u32 = 1;

const fn partial(entity: EntityKind, pull: bool, scopes: &'static [Scope]) -> EntityProcessor {
    EntityProcessor {
        entity,
        direction: Direction::Import,
        payload: Payload::Partial,
        pull,
        polling: None,
        scopes,
        requires: &[],
        followed_by: &[],
    }
}

/// Legacy events have their names here, whichever way a delivery names them.
static PROCESSORS: &[EntityProcessor] = &[
    partial(
        EntityKind::Order,
        true,
        &[
            own("CreateOrderEvent", Action::Created),
            own("FinalizeOrderEvent", Action::Updated),
            own("OrderEvent", Action::Updated),
            child("CreateOrderPaymentEvent", "payment"),
            child("UpdateOrderPackageStatusEvent", "package"),
        ],
    ),
    partial(
        EntityKind::Customer,
        true,
        &[
            own("EnrollmentEvent", Action::Created),
            own("CreateAssociateEvent", Action::Created),
            own("UpdateAssociateEvent", Action::Updated),
        ],
    ),
    partial(
        EntityKind::Subscription,
        false,
        &[own("CreateSubscriptionEvent", Action::Created), own("UpdateSubscriptionEvent", Action::Updated)],
    ),
    partial(
        EntityKind::Product,
        false,
        &[own("CreateInventoryItemEvent", Action::Created), own("DeleteInventoryItemEvent", Action::Deleted)],
    ),
];

/// Nobody has told how the API gives this entity.
const NO_SERVICE: Rule = Rule("directscale-no-service");

/// How a member is read.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Id,
    Time,
    /// An amount, with the member that holds its currency: neither means anything without the other.
    Money(&'static str),
    Currency,
    /// Whatever it is; kept in `extra`, under its own name.
    Extra,
    /// The same, of what is a time.
    ExtraTime,
    /// The same, of the kind of order, which is a name or a number.
    OrderType,
}

impl Kind {
    /// Whether the entity is still right without it. Not without what says whose it is, and what it costs.
    const fn is_droppable(self) -> bool {
        matches!(self, Self::Text | Self::Time)
    }

    /// Whether it has no canonical field.
    const fn is_extra(self) -> bool {
        matches!(self, Self::Extra | Self::ExtraTime | Self::OrderType)
    }
}

/// A member of an event, and the field that it becomes, with dots between the levels.
struct Member {
    name: &'static str,
    field: &'static str,
    kind: Kind,
}

const fn member(name: &'static str, field: &'static str, kind: Kind) -> Member {
    Member { name, field, kind }
}

const fn extra(name: &'static str) -> Member {
    Member { name, field: "", kind: Kind::Extra }
}

/// Members that always travel together.
struct Group {
    facet: &'static str,
    members: &'static [Member],
}

/// What an event is about, and what it says.
struct Event {
    scope: &'static str,
    /// The member that is the entity's id.
    id: &'static str,
    /// Of a child's event: the list that it is in, which has it by the id in this member.
    child: Option<(&'static str, &'static str)>,
    groups: &'static [Group],
}

const CORE: Group = Group {
    facet: "core",
    members: &[
        member("CustomerId", "customer", Kind::Id),
        member("OrderDateUtc", "created_at", Kind::Time),
        member("OrderStatus", "status", Kind::Text),
        member("OrderType", "", Kind::OrderType),
    ],
};

const TOTAL: Group = Group {
    facet: "total",
    members: &[
        member("OrderTotal", "totals.total", Kind::Money("OrderCurrency")),
        member("OrderCurrency", "currency", Kind::Currency),
    ],
};

const ORDER: &[Group] = &[CORE];

/// What an order may have when the API gives it.
const ORDER_DETAIL: &[Group] = &[CORE, TOTAL];

/// A distributor is an associate, by the same number.
const LEGACY_ORDER: &[Group] = &[
    Group {
        facet: "core",
        members: &[
            member("DistributorId", "customer", Kind::Id),
            member("OrderDateUtc", "created_at", Kind::Time),
            member("OrderStatus", "status", Kind::Text),
            member("OrderType", "", Kind::OrderType),
        ],
    },
    TOTAL,
    Group { facet: "country", members: &[extra("OrderCountry")] },
];

const PAYMENT: &[Group] = &[Group {
    facet: "payment",
    members: &[
        member("PaymentStatus", "status", Kind::Text),
        member("PaymentType", "kind", Kind::Text),
        member("Amount", "amount", Kind::Money("CurrencyCode")),
        member("CurrencyCode", "currency", Kind::Currency),
    ],
}];

const PACKAGE: &[Group] = &[Group {
    facet: "package",
    members: &[
        member("PackageStatus", "status", Kind::Text),
        member("Carrier", "carrier", Kind::Text),
        member("ShipMethodId", "method", Kind::Text),
        member("TrackingNumber", "tracking_number", Kind::Text),
        member("ShippedDateUtc", "shipped_at", Kind::Time),
        extra("WarehouseId"),
        member("ShipByDateUtc", "", Kind::ExtraTime),
    ],
}];

const ASSOCIATE: &[Group] = &[Group {
    facet: "core",
    members: &[
        member("FirstName", "first_name", Kind::Text),
        member("LastName", "last_name", Kind::Text),
        member("EmailAddress", "email", Kind::Text),
        member("CompanyName", "billing.company", Kind::Text),
        extra("Username"),
        extra("AssociateStatus"),
        extra("AssociateType"),
        extra("WebAliases"),
        extra("BackOfficeId"),
        extra("ExternalReferenceId"),
    ],
}];

const ENROLLMENT: &[Group] = &[Group {
    facet: "enrollment",
    members: &[
        member("EnrollmentDateUtc", "created_at", Kind::Time),
        extra("DistributorType"),
        extra("DistributorStatus"),
        extra("DistributorCountry"),
        extra("SponsorId"),
    ],
}];

const SUBSCRIPTION: &[Group] = &[Group {
    facet: "core",
    members: &[
        member("AssociateId", "customer", Kind::Id),
        member("SubscriptionName", "name", Kind::Text),
        member("ExpirationDateUtc", "expires_at", Kind::Time),
        extra("IsVoid"),
    ],
}];

const ITEM: &[Group] =
    &[Group { facet: "core", members: &[member("Sku", "sku", Kind::Text), extra("TrackStock"), extra("HasOptions")] }];

const fn event(scope: &'static str, id: &'static str, groups: &'static [Group]) -> Event {
    Event { scope, id, child: None, groups }
}

static EVENTS: &[Event] = &[
    event("CreateOrderEvent", "OrderNumber", ORDER),
    event("FinalizeOrderEvent", "OrderNumber", ORDER),
    event("OrderEvent", "OrderId", LEGACY_ORDER),
    Event { child: Some(("payments", "OrderPaymentId")), ..event("CreateOrderPaymentEvent", "OrderNumber", PAYMENT) },
    Event { child: Some(("packages", "PackageId")), ..event("UpdateOrderPackageStatusEvent", "OrderNumber", PACKAGE) },
    event("EnrollmentEvent", "DistributorId", ENROLLMENT),
    event("CreateAssociateEvent", "AssociateId", ASSOCIATE),
    event("UpdateAssociateEvent", "AssociateId", ASSOCIATE),
    event("CreateSubscriptionEvent", "SubscriptionId", SUBSCRIPTION),
    event("UpdateSubscriptionEvent", "SubscriptionId", SUBSCRIPTION),
    event("CreateInventoryItemEvent", "ItemId", ITEM),
    event("DeleteInventoryItemEvent", "ItemId", ITEM),
];

/// Of every event: what it is and when it was. `EventCategory` is not there always, and wrong at times.
const HEAD: &[&str] = &[EVENT_TYPE, EVENT_DATE, "EventCategory"];

/// No limit is documented: this is to be polite.
pub(super) const BUDGET: Budget = Budget { calls: 60, seconds: 30 };

impl Mapping for DirectScale {
    fn processors(&self) -> &'static [EntityProcessor] {
        PROCESSORS
    }

    /// Any name can be one; but a legacy event that is told of by its number has its name here.
    fn is_scope(&self, scope: &str) -> bool {
        let number = LEGACY.iter().any(|(number, _)| *number == scope);
        (1..=200).contains(&scope.len()) && !number && !scope.chars().any(char::is_control) && scope != PROBE
    }

    /// Client code can send events of its own, and the documented list is not complete.
    fn fallback(&self) -> Option<(EntityKind, Action)> {
        Some((EntityKind::Record, Action::Created))
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

    /// Of a record it is a field. Of what an event made, it is kept by the name of the event, as a facet of its own: the same fields
    /// say the same, whoever it was. A delete has no place for it.
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

impl Pull for DirectScale {
    /// No answer is documented as the one for what is not there, so none is taken for a delete; nor for the entity, if it does not
    /// name it.
    fn pull(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Result<Next, Fault> {
        let Wanted { access, entity, id, at } = *wanted;
        let Some((service, groups)) = service(entity, access.settings) else {
            return Ok(Next::Done(Mapped::Ignored(NO_SERVICE)));
        };
        let Some(response) = answers.first() else { return call(&access, &service, id).map(Next::Ask) };
        if !response.is_success() {
            return Err(response.fault(at));
        }
        let unreadable = |why: &str| Fault::Unreadable(why.to_owned());
        let members = Members::of(&response.body).map_err(|unread| Fault::from(MapError::from(unread)))?;
        let own_id = match entity {
            EntityKind::Order => "OrderNumber",
            _ => "AssociateId",
        };
        match members.get(own_id).and_then(|given| wire::id(given).ok()?) {
            Some(given) if given == *id => {}
            Some(_) => return Err(unreadable("another id than was asked for")),
            None => {
                let name = members.find(own_id).map_or(own_id, |(given, _)| given);
                return Err(Fault::Unreadable(format!("it names no entity, at {name}")));
            }
        }
        let facets = Facets::from([("detail".to_owned(), detail(entity, groups, &members, own_id, id)?.into())]);
        let upsert = Upsert::partial(None, at, true, MAPPING, facets);
        Ok(Next::Done(Mapped::Change(id.clone(), Change::Upsert(upsert))))
    }
}

/// What is known of an event by its name.
fn event_of(scope: &str) -> Option<&'static Event> {
    EVENTS.iter().find(|event| event.scope == scope)
}

/// A child that an event is about: the list that it is in, and its id.
type Child = (&'static str, ExternalId);

/// What an event is about.
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

/// A void subscription is as good as deleted.
fn is_void(members: &Members) -> bool {
    members.get("IsVoid").is_some_and(|raw| wire::text(raw).is_ok_and(|text| text.as_deref() == Some("true")))
}

/// Reads a member that is there.
fn value(kind: Kind, raw: &RawValue) -> Result<Value, wire::Unfit> {
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

/// One facet on its way.
#[derive(Default)]
struct Parts {
    fields: Map<String, Value>,
    extra: Map<String, Value>,
    unreadable: Vec<String>,
}

impl Parts {
    fn add(&mut self, member: &Member, value: Value) {
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

    /// Of an entity, or of a child that is in one of its lists.
    fn content(self, entity: EntityKind, id: &ExternalId, child: Option<&Child>) -> Content {
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

/// What every facet says, so that whichever comes first makes an entity.
fn identity(entity: EntityKind, id: &ExternalId) -> Map<String, Value> {
    let mut fields = Map::from_iter([("id".to_owned(), json!(id))]);
    if entity == EntityKind::Order {
        fields.insert("number".to_owned(), json!(id));
    }
    fields
}

/// The facets of an event. Where all members of a group are there it is one facet; else each member is one of its own,
/// for what is absent stays as it is.
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
                // It says that there is something else than before, and not what.
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
                // Says nothing without an amount.
                Kind::Currency => continue,
                // An amount must not be taken for one in the currency of an older one: without its own it has none.
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
    // What is not documented may be there at one time and not at another.
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
        // That it exists. Without a facet it would be a full payload, and empty.
        facets.insert("id".to_owned(), Content::facet(identity(entity, id), Map::new()).into());
    }
    Ok(facets)
}

/// An event that stands for itself, under its message's id. Its body can be of any shape, so it is in `extra`.
fn record(incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
    let hash = || hex::encode(&digest::digest(&digest::SHA256, incoming.body).as_ref()[..16]);
    let id = incoming.delivery_id.map_or_else(|| format!("body-{}", hash()), str::to_owned);
    let id: ExternalId = id.parse().map_err(|_| MapError::Malformed("the message's id".into()))?;
    let head = Head::of(incoming.body)?;
    // What is an event but does not say which is none that nobody knows.
    if head.is_object && head.event().is_none() {
        return Err(MapError::Malformed(EVENT_TYPE.to_owned()));
    }
    let at = head.at.as_deref().map_or(Ok(None), wire::time);
    let unreadable = at.is_err().then(|| EVENT_DATE.to_owned());
    let at = at.unwrap_or_default();
    let event = head.is_object.then_some(incoming.scope);
    let data = wire::value(&wire::json(incoming.body)?)
        .map_err(|_| MapError::Malformed("a member, which is there twice".into()))?;
    let fields = json!({ "id": id, "event": event, "occurred_at": at });
    let content = Content::new(&fields, Map::from_iter([("data".to_owned(), data)]))
        .map_err(|_| MapError::Malformed("the whole".into()))?
        .with_unreadable(unreadable);
    let (source, received) = (at.map(Timestamp::from), incoming.received);
    let upsert =
        Upsert { source, received, observed: false, mapping: MAPPING, content: content.into(), facets: Facets::new() };
    Ok(Mapped::Change(id, Change::Upsert(upsert)))
}

/// The service that gives an entity, and what is known of its answer; none where nobody has told.
fn service(entity: EntityKind, settings: &Map<String, Value>) -> Option<(Service, &'static [Group])> {
    match entity {
        EntityKind::Customer => {
            let (path, argument) = ("AssociateService/v1/GetAssociate".to_owned(), "associateId".to_owned());
            Some((Service { path, argument }, ASSOCIATE))
        }
        EntityKind::Order => {
            let services: Services = serde_json::from_value(settings.get("services")?.clone()).ok()?;
            Some((services.order?, ORDER_DETAIL))
        }
        _ => None,
    }
}

/// `POST {site}/api/extension/services/<Service>/v1/<Method>` with the arguments as a JSON object.
fn call(access: &Access<'_>, service: &Service, id: &ExternalId) -> Result<ApiRequest, Fault> {
    let broken = |what: &str| Fault::Connection(format!("the connection's {what} cannot be read; connect it again"));
    let credentials: Credentials = serde_json::from_str(access.credentials).map_err(|_| broken("credentials"))?;
    let mut url = Url::parse(access.site).map_err(|_| broken("site"))?;
    url.path_segments_mut()
        .map_err(|()| broken("site"))?
        .pop_if_empty()
        .extend(["api", "extension", "services"])
        .extend(service.path.split('/'));
    let key = zeroize::Zeroizing::new(format!("Bearer {}", credentials.api_key));
    let argument = id.as_str().parse::<u64>().map_or_else(|_| json!(id), |number| json!(number));
    Ok(ApiRequest::with_secret(Method::POST, url, "authorization", &key)?.json(&json!({ &service.argument: argument })))
}

/// What the API knows. Its shape is not documented: what is known from events becomes fields, the rest stays as it is, and so does
/// what cannot be read, by its name; but not an amount or an id.
fn detail(
    entity: EntityKind,
    groups: &[Group],
    members: &Members,
    own_id: &str,
    id: &ExternalId,
) -> Result<Content, Fault> {
    let mut parts = Parts::default();
    let mut used = vec![own_id];
    for member in groups.iter().flat_map(|group| group.members) {
        if matches!(member.kind, Kind::Extra | Kind::ExtraTime) {
            continue;
        }
        let Some((given, raw)) = members.find(member.name) else { continue };
        match value(member.kind, raw) {
            Ok(read) => {
                parts.add(member, read);
                used.push(member.name);
            }
            Err(_) if member.kind.is_droppable() => parts.unreadable.push(given.to_owned()),
            Err(_) => return Err(Fault::Unreadable(given.to_owned())),
        }
    }
    let rest = members.others(|given| used.iter().any(|name| wire::is_named(given, name)));
    let rest: Map<_, _> = rest.filter_map(|(name, raw)| Some((name.to_owned(), wire::value(raw).ok()?))).collect();
    parts.extra.insert("detail".to_owned(), Value::Object(rest));
    Ok(parts.content(entity, id, None))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;
    use crate::{
        change::State,
        platform::{
            delivery::Delivery,
            mapping::{Resolved, resolve},
        },
        request::RawRequest,
        verify::UNNAMED_SCOPE,
    };

    const RECEIVED: Timestamp = Timestamp::from_millis(1_795_219_200_123);

    /// As the receiver and the processor do.
    fn deliver_at(body: &str, received: Timestamp) -> Result<(EntityKind, String, Change), MapError> {
        let headers = HeaderMap::new();
        let raw = RawRequest { method: Method::POST, headers, body: Bytes::copy_from_slice(body.as_bytes()), received };
        let scope = super::super::delivery::DirectScale.scope(&raw).unwrap_or_else(|| UNNAMED_SCOPE.into());
        let Resolved::Entity(entity, action) = resolve(&super::super::PLATFORM, &scope) else { unreachable!() };
        let connection = "acme".parse().unwrap();
        let connection = crate::key::ConnectionKey { platform: "directscale".into(), connection };
        let incoming = Incoming {
            connection: &connection,
            scope: &scope,
            delivery_id: Some("m-1"),
            entity,
            action,
            body: &raw.body,
            received,
        };
        match DirectScale.map(&incoming)? {
            Mapped::Change(id, change) => Ok((entity, id.to_string(), change)),
            other => unreachable!("{other:?}"),
        }
    }

    fn deliver(body: &str) -> (EntityKind, String, Change) {
        deliver_at(body, RECEIVED).unwrap()
    }

    fn malformed(body: &str) -> String {
        match deliver_at(body, RECEIVED) {
            Err(MapError::Malformed(place)) => place,
            other => unreachable!("{other:?}"),
        }
    }

    /// Entity and id, the facets' names, and what a reader sees.
    fn shown(body: &str) -> (String, Vec<String>, Value, Value) {
        let (entity, id, change) = deliver(body);
        let state = State::of(&change);
        let content = state.content().unwrap_or_default().into_owned();
        let facets = state.facets.into_keys().collect();
        (format!("{entity}#{id}"), facets, content.fields.into(), content.extra.into())
    }

    fn together(bodies: &[&str]) -> (State, Value) {
        let state = bodies.iter().fold(State::default(), |state, body| state.merge(&deliver(body).2).state);
        let fields = state.content().map(|content| content.fields.clone()).unwrap_or_default();
        (state, fields.into())
    }

    const CREATE: &str = r#"{"OrderNumber":1042,"CustomerId":77,"OrderDateUtc":"2024-03-01T10:00:00.123456Z",
        "OrderStatus":"Pending processing","OrderType":"Standard","EventDateUtc":"2024-03-01T10:00:00.2345678Z",
        "EventCategory":"OrderEvents","EventType":"CreateOrderEvent"}"#;
    const FINALIZE: &str = r#"{"OrderNumber":1042,"CustomerId":77,"OrderDateUtc":"2024-03-01T10:00:00.123456Z",
        "OrderStatus":"Paid","OrderType":"Standard","EventDateUtc":"2024-03-01T10:00:02.2345678Z",
        "EventType":"FinalizeOrderEvent"}"#;
    const PAYMENT: &str = r#"{"OrderNumber":1042,"OrderPaymentId":9,"PaymentStatus":"Paid","PaymentType":"Charge",
        "Amount":20.10,"CurrencyCode":"USD","EventDateUtc":"2024-03-01T10:00:02.5Z","EventCategory":"OrderEvents",
        "EventType":"CreateOrderPaymentEvent"}"#;
    const PACKAGE: &str = r#"{"OrderNumber":1042,"PackageId":5,"PackageStatus":"Shipped","WarehouseId":1,
        "ShipMethodId":3,"TrackingNumber":"1Z","Carrier":"UPS","ShipByDateUtc":"2024-03-02T00:00:00Z",
        "ShippedDateUtc":"2024-03-01T12:00:00Z","EventDateUtc":"2024-03-01T12:00:01Z",
        "EventType":"UpdateOrderPackageStatusEvent"}"#;

    #[test]
    fn events_of_an_order_make_one_order() {
        let (entity, facets, fields, extra) = shown(CREATE);
        assert_eq!((entity.as_str(), facets), ("order#1042", vec!["core".to_owned()]));
        let core = json!({"id": "1042", "number": "1042", "customer": "77", "status": "Pending processing",
            "created_at": "2024-03-01T10:00:00.123456Z"});
        assert_eq!((fields, extra), (core, json!({"OrderType": "Standard"})));
        let Change::Upsert(upsert) = deliver(CREATE).2 else { unreachable!() };
        assert_eq!(upsert.source.unwrap().to_string(), "2024-03-01T10:00:00.234567Z");
        assert!(!upsert.observed);

        let (_, facets, _, extra) = shown(PACKAGE);
        assert_eq!(facets, ["package#5"]);
        assert_eq!(extra, json!({"packages": {"5": {"WarehouseId": 1, "ShipByDateUtc": "2024-03-02T00:00:00Z"}}}));

        let whole = json!({"id": "1042", "number": "1042", "customer": "77", "status": "Paid",
            "created_at": "2024-03-01T10:00:00.123456Z",
            "payments": {"9": {"status": "Paid", "kind": "Charge", "amount": "20.10", "currency": "USD"}},
            "packages": {"5": {"status": "Shipped", "carrier": "UPS", "method": "3", "tracking_number": "1Z",
                "shipped_at": "2024-03-01T12:00:00Z"}}});
        // The creation does not take the status back, however late it comes.
        assert_eq!(together(&[CREATE, FINALIZE, PAYMENT, PACKAGE]).1, whole);
        assert_eq!(together(&[PACKAGE, PAYMENT, FINALIZE, CREATE]), together(&[CREATE, FINALIZE, PAYMENT, PACKAGE]));
    }

    #[test]
    fn the_documented_example_is_taken() {
        let body = include_str!("../../../../../tests/path/data/directscale/documented-example.json");
        let (entity, facets, fields, _) = shown(body);
        assert_eq!((entity.as_str(), facets), ("order#1", vec!["payment#1".to_owned()]));
        assert_eq!(fields["payments"]["1"]["amount"], "20.0");
    }

    #[test]
    fn legacy_events_by_name_or_number() {
        let order = r#"{"OrderId":"7","OrderDateUtc":"2018-05-01T00:00:00Z","DistributorId":"77","OrderType":"1",
            "OrderTotal":10.5,"OrderCountry":"US","OrderCurrency":"USD","OrderStatus":"Paid",
            "EventDateUtc":"2018-05-01T00:00:01Z","EventType":"OrderEvent"}"#;
        let (entity, facets, fields, extra) = shown(order);
        assert_eq!((entity.as_str(), facets.join(" ").as_str()), ("order#7", "core country total"));
        let expected = json!({"id": "7", "number": "7", "customer": "77", "status": "Paid", "currency": "USD",
            "created_at": "2018-05-01T00:00:00Z", "totals": {"total": "10.5"}});
        assert_eq!((fields, extra), (expected, json!({"OrderType": "Standard", "OrderCountry": "US"})));
        assert_eq!(shown(&order.replace("OrderEvent\"", "1\"")), shown(order));

        let enrolled = r#"{"DistributorId":"77","DistributorType":"1","DistributorStatus":"Active",
            "DistributorCountry":"US","SponsorId":"2","EnrollmentDateUtc":"2018-05-01T00:00:00Z",
            "EventDateUtc":"2018-05-01T00:00:01Z","EventType":0}"#;
        let (entity, facets, fields, extra) = shown(enrolled);
        assert_eq!((entity.as_str(), facets.join(" ").as_str()), ("customer#77", "enrollment"));
        assert_eq!(fields, json!({"id": "77", "created_at": "2018-05-01T00:00:00Z"}));
        assert_eq!(extra["SponsorId"], "2");
    }

    #[test]
    fn associates_are_customers() {
        let updated = r#"{"AssociateId":77,"Username":"ada","FirstName":"Ada","LastName":"L","CompanyName":"",
            "EmailAddress":"ada@example.com","AssociateStatus":1,"AssociateType":2,"WebAliases":["ada"],
            "BackOfficeId":"B77","ExternalReferenceId":null,"EventDateUtc":"2024-03-01T10:00:00Z",
            "EventType":"UpdateAssociateEvent"}"#;
        let (entity, facets, fields, extra) = shown(updated);
        assert_eq!((entity.as_str(), facets.join(" ").as_str()), ("customer#77", "core"));
        let expected = json!({"id": "77", "first_name": "Ada", "last_name": "L", "email": "ada@example.com"});
        assert_eq!(fields, expected);
        let expected = json!({"Username": "ada", "AssociateStatus": 1, "AssociateType": 2, "WebAliases": ["ada"],
            "BackOfficeId": "B77"});
        assert_eq!(extra, expected);
        // Null and an empty text clear what was there.
        let before = updated.replace(r#""CompanyName":"""#, r#""CompanyName":"Old""#).replace("10:00:00Z", "09:00:00Z");
        assert_eq!(shown(&before).2["billing"]["company"], "Old");
        assert_eq!(together(&[&before, updated]).1.get("billing"), None);
    }

    #[test]
    fn a_void_subscription_is_gone_by_the_event_s_clock() {
        let event = |time: &str, void: &str| {
            format!(
                r#"{{"AssociateId":77,"SubscriptionId":3,"SubscriptionName":"Gold","ExpirationDateUtc":"2025-01-01T00:00:00",
                "IsVoid":{void},"EventDateUtc":"2024-03-01T10:00:{time}Z","EventType":"UpdateSubscriptionEvent"}}"#
            )
        };
        let (entity, _, fields, extra) = shown(&event("01", "false"));
        assert_eq!(entity, "subscription#3");
        let expected = json!({"id": "3", "customer": "77", "name": "Gold", "expires_at": "2025-01-01T00:00:00Z"});
        assert_eq!((fields, extra), (expected, json!({"IsVoid": false})));
        assert!(together(&[&event("01", "false"), &event("02", "true")]).0.is_deleted());
        assert!(!together(&[&event("03", "false"), &event("02", "true")]).0.is_deleted());
    }

    #[test]
    fn inventory_items_are_products() {
        let create = r#"{"ItemId":4,"Sku":"A-4","TrackStock":true,"HasOptions":false,
            "EventDateUtc":"2024-03-01T10:00:00Z","EventType":"CreateInventoryItemEvent"}"#;
        let (entity, _, fields, extra) = shown(create);
        assert_eq!((entity.as_str(), fields), ("product#4", json!({"id": "4", "sku": "A-4"})));
        assert_eq!(extra, json!({"TrackStock": true, "HasOptions": false}));
        let delete = create.replace("Create", "Delete").replace("10:00:00Z", "10:00:01Z");
        let source = Some(Timestamp::from_millis(1_709_287_201_000));
        assert_eq!(deliver(&delete).2, Change::Delete(Delete { source, received: RECEIVED }));
    }

    #[test]
    fn what_is_absent_stays_and_what_is_null_goes() {
        let without = |body: &str, name: &str| {
            let mut value: Value = serde_json::from_str(body).unwrap();
            value.as_object_mut().unwrap().remove(name);
            value["EventDateUtc"] = json!("2024-03-01T11:00:00Z");
            value
        };
        let newer = without(CREATE, "OrderStatus").to_string();
        let (_, facets, _, _) = shown(&newer);
        assert_eq!(facets, ["core.CustomerId", "core.OrderDateUtc", "core.OrderType"]);
        assert_eq!(together(&[&newer, FINALIZE]).1["status"], "Paid");

        let mut nulled = without(CREATE, "OrderType");
        nulled["OrderStatus"] = Value::Null;
        assert_eq!(together(&[&nulled.to_string(), FINALIZE]).1.get("status"), None);

        // Nothing but the id: that it exists, and no full payload that would clear the rest.
        let bare = r#"{"OrderNumber":1042,"EventDateUtc":"2030-03-01T11:00:00Z","EventType":"FinalizeOrderEvent"}"#;
        assert_eq!(shown(bare).1, ["id"]);
        assert_eq!(together(&[bare, FINALIZE]).1["status"], "Paid");
    }

    #[test]
    fn an_amount_never_takes_another_s_currency() {
        let newer = |members: &str| {
            format!(
                r#"{{"OrderNumber":1042,"OrderPaymentId":9,{members},"EventDateUtc":"2024-03-02T00:00:00Z","EventType":"CreateOrderPaymentEvent"}}"#
            )
        };
        let payment = |members: &str| together(&[PAYMENT, &newer(members)]).1["payments"]["9"].clone();
        let amount = payment(r#""Amount":5"#);
        assert_eq!((&amount["amount"], amount.get("currency")), (&json!("5"), None));
        let both = payment(r#""Amount":5,"CurrencyCode":"EUR""#);
        assert_eq!((&both["amount"], &both["currency"], &both["status"]), (&json!("5"), &json!("EUR"), &json!("Paid")));
        let currency = payment(r#""CurrencyCode":"EUR""#);
        assert_eq!((&currency["amount"], &currency["currency"]), (&json!("20.10"), &json!("USD")));
    }

    #[test]
    fn what_is_not_documented_is_kept_by_itself() {
        let more = FINALIZE.replace("\"OrderStatus\"", "\"Foo\":{\"a\":1},\"OrderStatus\"");
        let (_, facets, _, extra) = shown(&more);
        assert_eq!((facets.join(" ").as_str(), &extra["Foo"]), ("core more.Foo", &json!({"a": 1})));
        let later = FINALIZE.replace("10:00:02", "10:00:09");
        let state = together(&[&more, &later]).0;
        assert_eq!(state.content().unwrap().extra["Foo"], json!({"a": 1}));
    }

    #[test]
    fn everything_else_is_a_record() {
        let (entity, facets, fields, extra) =
            shown(r#"{"EventType":"DailyEvent","EventDateUtc":"2024-03-01T00:00:00.0000001Z",}"#);
        assert_eq!((entity.as_str(), facets.len()), ("record#m-1", 0));
        assert_eq!(fields, json!({"id": "m-1", "event": "DailyEvent", "occurred_at": "2024-03-01T00:00:00.0000001Z"}));
        assert_eq!(extra["data"]["EventType"], "DailyEvent");
        for (body, data) in
            [("42", json!(42)), ("[1,2,]", json!([1, 2])), ("\"x\"", json!("x")), ("\u{feff}7", json!(7))]
        {
            assert_eq!(
                shown(body),
                ("record#m-1".into(), vec![], json!({"id": "m-1"}), json!({ "data": data })),
                "{body}"
            );
        }
        let deep = format!(r#"{{"EventType":"Mine","a":{}1{}}}"#, "[".repeat(400), "]".repeat(400));
        assert_eq!(shown(&deep).3, json!({ "data": deep }));
        let many: Vec<_> = (0..1000).map(|n| format!("\"k{n}\":{n}")).collect();
        assert_eq!(shown(&format!(r#"{{"EventType":"Mine",{}}}"#, many.join(","))).3["data"]["k999"], 999);
        let unreadable = r#"{"EventType":"Mine","EventDateUtc":"soon"}"#;
        let Change::Upsert(upsert) = deliver(unreadable).2 else { unreachable!() };
        assert_eq!((upsert.source, upsert.content.unreadable.clone()), (None, vec!["EventDateUtc".to_owned()]));
    }

    #[test]
    fn what_cannot_be_read_is_no_record() {
        for body in ["", "{", "{\"a", &CREATE[..200], "\u{1}garbage", r#""\u0001garbage""#, "{}x", "[1,,]", "nul"] {
            assert_eq!(malformed(body), "its beginning: no JSON object", "{body}");
        }
        for event in ["null", "\"\"", "{}", "[\"DailyEvent\"]", r#""a\nb""#, &format!("\"{}\"", "x".repeat(201))] {
            assert_eq!(malformed(&format!(r#"{{"OrderNumber":1,"EventType":{event}}}"#)), "EventType", "{event}");
        }
        assert_eq!(malformed(r#"{"OrderNumber":1}"#), "EventType");
        assert_eq!(malformed(r#"{"EventType":"A","eventType":"B"}"#), "eventType, which is there twice");
        assert_eq!(malformed(r#"{"EventType":"Mine","a":{"b":1,"b":2}}"#), "a member, which is there twice");
    }

    #[test]
    fn a_member_that_is_there_twice_is_not_chosen_from() {
        assert_eq!(
            malformed(&CREATE.replace("1042,", "1042,\"OrderNumber\":1043,")),
            "OrderNumber, which is there twice"
        );
        assert_eq!(
            malformed(&CREATE.replace("1042,", "1042,\"orderNumber\":1042,")),
            "orderNumber, which is there twice"
        );
        assert_eq!(malformed(&CREATE.replace("1042,", "1042,\"more\":1,\"more\":1,")), "more, which is there twice");
        let within = CREATE.replace("1042,", "1042,\"more\":{\"a\":1,\"a\":2},");
        assert_eq!(malformed(&within), "a member that is not documented");
    }

    #[test]
    fn more_members_than_any_event_has_are_refused() {
        let with = |count: usize| {
            let members: String = (0..count).map(|n| format!("\"k{n}\":1,")).collect();
            deliver_at(&CREATE.replace("1042,", &format!("1042,{members}")), RECEIVED)
        };
        let Ok((_, _, Change::Upsert(upsert))) = with(290) else { unreachable!() };
        assert_eq!(upsert.facets.len(), 291);
        for count in [300, 40_000] {
            assert_eq!(with(count).err(), Some(MapError::TooLarge("more than 300 members".into())), "{count}");
        }
    }

    #[test]
    fn what_is_not_documented_is_in_the_end_what_was_sent_last_in_any_order() {
        let event = |time: u8, members: &str| {
            let members = format!(r#""OrderNumber":1,{members},"EventDateUtc":"2024-03-01T10:00:0{time}Z""#);
            format!(r#"{{{members},"EventType":"FinalizeOrderEvent"}}"#)
        };
        let [a, b, c] = [
            event(1, r#""Foo":{"a":1},"Bar":1"#),
            event(2, r#""Bar":2,"Baz":[1]"#),
            event(3, r#""Foo":{"b":2},"Qux":null"#),
        ];
        let expected = json!({"Foo": {"b": 2}, "Bar": 2, "Baz": [1]});
        for order in [[&a, &b, &c], [&a, &c, &b], [&b, &a, &c], [&b, &c, &a], [&c, &a, &b], [&c, &b, &a]] {
            let state = together(&order.map(String::as_str)).0;
            assert_eq!(Value::Object(state.content().unwrap().extra.clone()), expected);
        }
    }

    fn by(body: &str, user: &str) -> State {
        let scope = Head::of(body.as_bytes()).unwrap().event().unwrap();
        let (entity, id, change) = deliver(body);
        let connection =
            crate::key::ConnectionKey { platform: "directscale".into(), connection: "acme".parse().unwrap() };
        let incoming = Incoming {
            connection: &connection,
            scope: &scope,
            delivery_id: None,
            entity,
            action: Action::Updated,
            body: body.as_bytes(),
            received: RECEIVED,
        };
        let mapped = Mapped::Change(id.parse().unwrap(), change);
        let Mapped::Change(_, change) = DirectScale.by_user(&incoming, user, mapped) else { unreachable!() };
        State::of(&change)
    }

    #[test]
    fn who_it_was_is_kept_and_makes_nothing_else_differ() {
        let state = by(FINALIZE, "ada");
        assert_eq!(state.facets.keys().collect::<Vec<_>>(), ["core", "user.FinalizeOrderEvent"]);
        assert_eq!(state.facets["core"], State::of(&deliver(FINALIZE).2).facets["core"]);
        let extra = |state: &State| Value::Object(state.content().unwrap().extra.clone());
        assert_eq!(extra(&state), json!({"OrderType": "Standard", "users": {"FinalizeOrderEvent": "ada"}}));
        let both = state.join(by(CREATE, "bob"));
        assert_eq!(extra(&both)["users"], json!({"FinalizeOrderEvent": "ada", "CreateOrderEvent": "bob"}));
        // Of a payment, with the payment.
        let paid = by(PAYMENT, "ada");
        assert_eq!(extra(&paid), json!({"payments": {"9": {"users": {"CreateOrderPaymentEvent": "ada"}}}}));
        assert_eq!(by(PAYMENT, "ada").join(both.clone()), both.join(paid));
        // Of an event that stands for itself, it is a field.
        let record = by(r#"{"EventType":"DailyEvent"}"#, "ada").content().unwrap().into_owned();
        assert_eq!(Value::Object(record.fields), json!({"id": "m-1", "event": "DailyEvent", "user": "ada"}));
    }

    #[test]
    fn a_time_that_is_none_is_nothing() {
        let pending = r#"{"EventType":"UpdateOrderPackageStatusEvent","EventDateUtc":"2026-10-12T18:07:26.557768Z",
            "OrderNumber":1,"PackageId":3,"PackageStatus":"Pending","WarehouseId":1,"ShipMethodId":4,"TrackingNumber":"",
            "Carrier":"","ShipByDateUtc":"0001-01-01T00:00:00","ShippedDateUtc":"0001-01-01T00:00:00"}"#;
        let (_, _, fields, extra) = shown(pending);
        assert_eq!(fields["packages"]["3"], json!({"status": "Pending", "method": "4"}));
        assert_eq!(extra["packages"]["3"], json!({"WarehouseId": 1}));
        let never = r#"{"EventType":"CreateSubscriptionEvent","EventDateUtc":"2026-11-21T01:48:40Z","SubscriptionId":9,
            "AssociateId":77,"ExpirationDateUtc":"9999-12-31T23:59:59.9999999"}"#;
        let (entity, _, fields, _) = shown(never);
        assert_eq!((entity.as_str(), &fields["customer"]), ("subscription#9", &json!("77")));
        assert!(fields["expires_at"].as_str().unwrap().starts_with("9999-12-3"), "{fields}");
        let undated = never.replace("2026-11-21T01:48:40Z", "0001-01-01T00:00:00");
        let Change::Upsert(upsert) = deliver(&undated).2 else { unreachable!() };
        assert_eq!(upsert.source, None);
    }

    #[test]
    fn the_kind_of_an_order_is_one_whichever_event_tells_it() {
        let legacy = r#"{"EventType":"OrderEvent","EventDateUtc":"2026-10-12T18:07:26Z","OrderId":9,"DistributorId":5,
            "OrderDateUtc":"2026-10-12T18:07:26Z","OrderStatus":"Paid","OrderType":2,"OrderTotal":20.5,"OrderCurrency":"USD"}"#;
        assert_eq!(shown(legacy).3, json!({"OrderType": "AutoShip"}));
        for given in ["\"2\"", "\"AutoShip\""] {
            assert_eq!(shown(&legacy.replace("\"OrderType\":2", &format!("\"OrderType\":{given}"))), shown(legacy));
        }
    }

    #[test]
    fn one_odd_member_does_not_lose_the_others() {
        let odd = CREATE.replace("\"2024-03-01T10:00:00.123456Z\"", "{}").replace("\"Pending processing\"", "[1]");
        let content = |bodies: &[&str]| together(bodies).0.content().unwrap().into_owned();
        let read = content(&[&odd]);
        assert_eq!(Value::Object(read.fields), json!({"id": "1042", "number": "1042", "customer": "77"}));
        assert_eq!(read.unreadable, ["OrderDateUtc", "OrderStatus"]);
        // What is told afterwards mends it, in any order.
        for bodies in [[odd.as_str(), FINALIZE], [FINALIZE, &odd]] {
            assert_eq!(content(&bodies), content(&[FINALIZE]));
        }
        let paid = content(&[&PAYMENT.replace("\"Charge\"", "{}"), CREATE]);
        assert_eq!(paid.unreadable, ["payments.9.PaymentType"]);
        assert_eq!(paid.fields["payments"]["9"], json!({"status": "Paid", "amount": "20.10", "currency": "USD"}));
    }

    #[test]
    fn what_is_wrong_with_a_known_event_is_told_by_its_place() {
        assert_eq!(malformed(&CREATE.replace("1042", "-1")), "OrderNumber");
        assert_eq!(malformed(&CREATE.replace("\"2024-03-01T10:00:00.2345678Z\"", "\"s3cr3t\"")), "EventDateUtc");
        assert_eq!(malformed(&CREATE.replace("\"CustomerId\":77", "\"CustomerId\":7.5")), "CustomerId");
        assert_eq!(malformed(&PAYMENT.replace("\"USD\"", "[\"USD\"]")), "CurrencyCode");
        assert_eq!(malformed(&PAYMENT.replace("20.10", "\"s3cr3t\"")), "Amount");
        assert_eq!(malformed(&PAYMENT.replace("\"OrderPaymentId\":9,", "")), "OrderPaymentId");
    }

    fn pull(entity: EntityKind, settings: &Value, answer: Option<(u16, &str)>) -> Result<Next, Fault> {
        let access = Access {
            site: "https://acme.corpadmin.directscale.com",
            credentials: r#"{"api_key":"our%20key"}"#,
            settings: settings.as_object().unwrap(),
        };
        let wanted = Wanted { access, entity, id: &77.into(), at: RECEIVED };
        let answer = answer.map(|(status, body)| ApiResponse {
            status,
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        });
        DirectScale.pull(&wanted, answer.as_slice())
    }

    #[test]
    fn a_customer_s_detail_is_pulled() {
        let none = json!({});
        let Next::Ask(request) = pull(EntityKind::Customer, &none, None).unwrap() else { unreachable!() };
        let site = "https://acme.corpadmin.directscale.com";
        assert_eq!(
            format!("{request:?}"),
            format!("POST {site}/api/extension/services/AssociateService/v1/GetAssociate")
        );
        assert_eq!(&request.body[..], br#"{"associateId":77}"#);
        assert_eq!(request.headers["authorization"], "Bearer our%20key");
        let body = r#"{"associateId":77,"firstName":"Ada","EmailAddress":"a@example.com","address":{"city":"London"}}"#;
        let Next::Done(Mapped::Change(id, change)) = pull(EntityKind::Customer, &none, Some((200, body))).unwrap()
        else {
            unreachable!()
        };
        let state = State::of(&change);
        let content = state.content().unwrap().into_owned();
        assert_eq!((id.as_str(), state.facets.keys().next().unwrap().as_str()), ("77", "detail"));
        assert_eq!(Value::Object(content.fields), json!({"id": "77", "first_name": "Ada", "email": "a@example.com"}));
        assert_eq!(Value::Object(content.extra), json!({"detail": {"address": {"city": "London"}}}));
        assert_eq!((state.marks.seen, state.facets["detail"].version.rank), (Some(RECEIVED), None));
        // One odd member is named, and stays as it is.
        let odd = Some((200, r#"{"associateId":77,"firstName":"Ada","emailAddress":{"a":1}}"#));
        let Next::Done(Mapped::Change(_, Change::Upsert(upsert))) = pull(EntityKind::Customer, &none, odd).unwrap()
        else {
            unreachable!()
        };
        assert_eq!((&upsert.content.fields["first_name"], upsert.content.fields.get("email")), (&json!("Ada"), None));
        assert_eq!(upsert.content.unreadable, ["emailAddress"]);
        assert_eq!(upsert.content.extra["detail"], json!({"emailAddress": {"a": 1}}));
    }

    #[test]
    fn no_answer_is_taken_for_a_delete() {
        let fault = |status, body| pull(EntityKind::Customer, &json!({}), Some((status, body))).unwrap_err();
        for body in [
            "null",
            "",
            "[]",
            "<html>",
            r#"{"AssociateId":78}"#,
            "{}",
            r#"{"Status":1,"Message":"Associate not found"}"#,
            r#"{"AssociateId":0}"#,
            r#"{"AssociateId":null}"#,
            r#"{"AssociateId":[77]}"#,
            r#"{"AssociateId":77,"associateId":77}"#,
            r#"{"OrderNumber":77}"#,
        ] {
            assert!(matches!(fault(200, body), Fault::Unreadable(_)), "{body}");
        }
        assert!(matches!(fault(404, "{}"), Fault::Connection(_)));
        assert!(matches!(fault(429, ""), Fault::Throttled { .. }));
    }

    #[test]
    fn orders_are_pulled_where_a_service_is_named() {
        let ignored = |next: Next| matches!(next, Next::Done(Mapped::Ignored(NO_SERVICE)));
        assert!(ignored(pull(EntityKind::Order, &json!({}), None).unwrap()));
        assert!(ignored(pull(EntityKind::Product, &json!({}), None).unwrap()));
        let settings = json!({"services": {"order": {"path": "OrderService/v1/Get", "argument": "orderNumber"}}});
        let Next::Ask(request) = pull(EntityKind::Order, &settings, None).unwrap() else { unreachable!() };
        assert!(request.url.path().ends_with("/OrderService/v1/Get") && &request.body[..] == br#"{"orderNumber":77}"#);
        let body = r#"{"OrderNumber":77,"OrderStatus":"Paid","LineItems":[{"Sku":"A"}]}"#;
        let Next::Done(Mapped::Change(_, Change::Upsert(upsert))) =
            pull(EntityKind::Order, &settings, Some((200, body))).unwrap()
        else {
            unreachable!()
        };
        assert_eq!(upsert.content.fields["status"], "Paid");
        assert_eq!(upsert.content.extra["detail"]["LineItems"][0]["Sku"], "A");
    }
}
