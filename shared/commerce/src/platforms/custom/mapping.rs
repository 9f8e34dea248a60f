//! The processor's part of declared senders: what a delivery becomes, as its connection's declaration says.

use aws_lc_rs::digest;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{ACCOUNT, declared};
use crate::{
    change::{Change, Delete, Facets, Upsert},
    declaration::{
        Declaration, Extracted,
        filter::{Filter, FilterError},
        map::{self, Meaning},
    },
    entity::{Content, EntityKind, ExternalId},
    json,
    outcome::Rule,
    platform::mapping::{BySettings, Incoming, MAX_ENTRIES, MapError, Mapped, Mapping, Meant, PART, Part, Settled},
    platforms::custom::Custom,
    timestamp::Timestamp,
    transfer::{Action, Direction, EntityProcessor, Payload, Polling},
    verify::UNNAMED_SCOPE,
};

/// The rule for deliveries of which an expression makes nothing.
pub(super) const NOTHING: Rule = Rule("custom-nothing-made");
/// The rule for parts that are about another account.
pub(super) const OTHER_ACCOUNT: Rule = Rule("custom-other-account");

const fn processor(entity: EntityKind) -> EntityProcessor {
    EntityProcessor {
        entity,
        direction: Direction::Import,
        payload: Payload::Full,
        pull: true,
        polling: Some(Polling::Full),
        scopes: &[],
        requires: &[],
        followed_by: &[],
    }
}

impl Mapping for Custom {
    /// Returns a processor for every kind: the declaration says which of them a sender has.
    fn processors(&self) -> &'static [EntityProcessor] {
        static PROCESSORS: &[EntityProcessor] = &[
            processor(EntityKind::Customer),
            processor(EntityKind::Product),
            processor(EntityKind::Order),
            processor(EntityKind::Coupon),
            processor(EntityKind::Category),
            processor(EntityKind::Price),
            processor(EntityKind::Cart),
            processor(EntityKind::Subscription),
            processor(EntityKind::Request),
            processor(EntityKind::Record),
        ];
        PROCESSORS
    }

    /// Returns whether a text can be a topic: any name can.
    fn is_scope(&self, scope: &str) -> bool {
        (1..=256).contains(&scope.len()) && !scope.chars().any(char::is_control)
    }

    fn by_settings(&self) -> Option<&'static dyn BySettings> {
        Some(&Custom)
    }

    fn pulls(&self, settings: &Map<String, Value>, entity: EntityKind) -> bool {
        declared(settings).is_ok_and(|declaration| declaration.pull.contains_key(&entity))
    }

    fn map(&self, _incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
        Ok(Mapped::Ignored(Rule::UNKNOWN_SCOPE))
    }
}

impl BySettings for Custom {
    fn map(&self, delivery: &Settled<'_>) -> Result<Meant, MapError> {
        let declaration = declared(delivery.settings)
            .map_err(|error| MapError::Malformed(format!("the connection's declaration, {error}")))?;
        let account = delivery.settings.get(ACCOUNT).and_then(Value::as_str);
        map_by(&declaration, account, delivery)
    }
}

/// Maps a delivery by a declaration, for a connection to an account where one is named.
///
/// # Errors
/// [`MapError`].
pub fn map_by(declaration: &Declaration, account: Option<&str>, delivery: &Settled<'_>) -> Result<Meant, MapError> {
    let is_part = delivery.claims.contains_key(PART);
    let document = match is_part {
        true => Some(delivery.body.into()),
        false => declaration.body.document(delivery.body),
    };
    let document = document.ok_or_else(|| MapError::Malformed("the body, which has another form".into()))?;
    if let (Some(split), false) = (&declaration.split, is_part) {
        return parts(declaration, split, &document, delivery).map(Meant::Parts);
    }
    let extracted = declaration.extracted(&document, delivery.claims);
    if let (Some(account), Some(given)) = (account, &extracted.account)
        && account != given
    {
        return Ok(Meant::Ignored(OTHER_ACCOUNT));
    }
    let topic = extracted.topic.clone().unwrap_or_else(|| delivery.scope.to_owned());
    let found = declaration.map.iter().enumerate().find(|(_, meaning)| meaning.fits(&topic));
    let value = || json::value(&document).map_err(|error| MapError::Malformed(format!("the body: {error}")));
    let one = One { declaration, extracted: &extracted, topic: &topic, received: delivery.received };
    match found {
        Some((at, meaning)) => one.entity(at, meaning, value()?),
        None if declaration.map.is_empty() => one.record(value()?),
        None if topic == UNNAMED_SCOPE => Err(MapError::Malformed("the topic".into())),
        None => Ok(Meant::Ignored(Rule::UNKNOWN_SCOPE)),
    }
}

/// Returns the parts of a body that has many.
fn parts(
    declaration: &Declaration,
    split: &Filter,
    document: &[u8],
    delivery: &Settled<'_>,
) -> Result<Vec<Part>, MapError> {
    let whole = declaration.extracted(document, delivery.claims);
    let value = json::value(document).map_err(|error| MapError::Malformed(format!("the body: {error}")))?;
    let made = split.run(value, known(&whole, delivery.scope), MAX_ENTRIES);
    let made = made.map_err(|error| broken("split", &error))?;
    let part = |value: Value| {
        let body = Bytes::from(value.to_string());
        let extracted = declaration.extracted(&body, delivery.claims);
        let scope = extracted.topic.unwrap_or_else(|| delivery.scope.to_owned());
        Part { scope, delivery_id: extracted.message.or_else(|| delivery.delivery_id.map(str::to_owned)), body }
    };
    Ok(made.into_iter().map(part).collect())
}

fn broken(place: &str, error: &FilterError) -> MapError {
    MapError::Malformed(format!("{place}: {error}"))
}

/// Returns what expressions know as `$delivery`.
fn known(extracted: &Extracted, topic: &str) -> Value {
    let Extracted { topic: _, id, message, account, time } = extracted;
    let time = time.and_then(|time| jiff::Timestamp::from_microsecond(time.micros()).ok());
    json!({ "topic": topic, "id": id, "message": message, "account": account, "time": time })
}

/// One delivery, or one part.
struct One<'a> {
    declaration: &'a Declaration,
    extracted: &'a Extracted,
    topic: &'a str,
    received: Timestamp,
}

impl One<'_> {
    fn entity(&self, at: usize, meaning: &Meaning, value: Value) -> Result<Meant, MapError> {
        let place = |name: &str| format!("map[{at}].{name}");
        let delivery = known(self.extracted, self.topic);
        let run = |name: &str, filter: &Filter| {
            filter.one(value.clone(), delivery.clone()).map_err(|error| broken(&place(name), &error))
        };
        if meaning.entity == EntityKind::Record && meaning.content.is_none() {
            return self.record(value);
        }
        let id = match &meaning.id {
            Some(filter) => run("id", filter)?.as_ref().and_then(map::id).map(|id| id.into_owned()),
            None => self.extracted.id.clone(),
        };
        let id: ExternalId = id
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| MapError::Malformed(format!("{}: makes no id", place("id"))))?;
        let source = match &meaning.time {
            None => self.extracted.time,
            Some(filter) => match run("time", filter)? {
                None => None,
                Some(time) => Some(
                    map::time(&time).ok_or_else(|| MapError::Malformed(format!("{}: makes no time", place("time"))))?,
                ),
            },
        };
        let received = self.received;
        let mapped = match (meaning.action, &meaning.content) {
            (Action::Deleted, _) => Mapped::Change(id, Change::Delete(Delete { source, received })),
            (Action::Restored, None) => Mapped::Change(id, Change::Restore { received }),
            (_, None) => Mapped::Pull(id),
            (_, Some(filter)) => {
                let Some(made) = run("content", filter)? else { return Ok(Meant::Ignored(NOTHING)) };
                let content = map::content(meaning.entity, id.as_str(), made)
                    .map_err(|why| MapError::Malformed(format!("{}: {why}", place("content"))))?;
                Mapped::Change(id, Change::Upsert(self.upsert(source, content)))
            }
        };
        Ok(Meant::Entity(meaning.entity, mapped))
    }

    fn upsert(&self, source: Option<Timestamp>, content: Content) -> Upsert {
        let mapping = self.declaration.mapping;
        let received = self.received;
        Upsert { source, received, observed: false, mapping, content: content.into(), facets: Facets::new() }
    }

    /// Keeps the delivery as it came, under the id of its message, or a hash of its body where it has none.
    fn record(&self, value: Value) -> Result<Meant, MapError> {
        let hash = || hex::encode(&digest::digest(&digest::SHA256, value.to_string().as_bytes()).as_ref()[..16]);
        let id = self.extracted.message.clone().unwrap_or_else(|| format!("body-{}", hash()));
        let id: ExternalId = id.parse().map_err(|_| MapError::Malformed("the message's id".into()))?;
        let delivery = known(self.extracted, self.topic);
        let event = (self.topic != UNNAMED_SCOPE).then_some(self.topic);
        let fields = json!({ "event": event, "occurred_at": delivery["time"], "extra": { "data": value } });
        let content = map::content(EntityKind::Record, id.as_str(), fields).map_err(MapError::Malformed)?;
        let change = Change::Upsert(self.upsert(self.extracted.time, content));
        Ok(Meant::Entity(EntityKind::Record, Mapped::Change(id, change)))
    }
}
