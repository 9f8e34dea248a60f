//! Owns the meaning of a declared sender's deliveries: the entities that they are about, and the calls that complete,
//! confirm and list them.

use std::{borrow::Cow, collections::BTreeMap};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::filter::Filter;
use crate::{
    entity::{
        Cart, CategoryEntity, Content, Coupon, Customer, EntityKind, Order, Price, Product, Record, Request,
        Subscription,
    },
    timestamp::Timestamp,
    transfer::Action,
};

/// The most entries of `map`.
pub(super) const MAX_MEANINGS: usize = 200;

/// The meaning of a topic.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Meaning {
    /// The topic, or the beginning of several with a `*` behind it.
    pub topic: String,
    /// The kind of entity.
    pub entity: EntityKind,
    /// The event that it reports.
    #[serde(default = "updated")]
    pub action: Action,
    /// The entity's id; without it, `extract.id` counts.
    #[serde(default)]
    pub id: Option<Filter>,
    /// The time of the change, as RFC 3339 or in seconds since 1970; without it, `extract.time` counts.
    #[serde(default)]
    pub time: Option<Filter>,
    /// The entity in its canonical form. Without it the delivery only names the entity, which is pulled; a record is then
    /// the delivery as it came.
    #[serde(default)]
    pub content: Option<Filter>,
}

const fn updated() -> Action {
    Action::Updated
}

impl Meaning {
    /// Returns whether a topic has this meaning.
    pub fn fits(&self, topic: &str) -> bool {
        match self.topic.strip_suffix('*') {
            Some(beginning) => topic.starts_with(beginning),
            None => topic == self.topic,
        }
    }
}

/// The sender's API.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Its base URL. A connection can name its own instead.
    #[serde(default)]
    pub site: Option<String>,
    /// The headers of calls. `{credential}` stands for the connection's credential.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// The call that returns one entity.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PullCall {
    /// The path and query, with `{id}`.
    pub path: PathTemplate,
    /// The entity in its canonical form, made of the answer.
    pub content: Filter,
    /// The time of its last change, as RFC 3339 or in seconds since 1970.
    #[serde(default)]
    pub time: Option<Filter>,
    /// The expression that is `true` for an answer that says that the entity is gone. Its input is an object with the
    /// answer's `status` and `body`. Without it, no answer is a delete.
    #[serde(default)]
    pub gone: Option<Filter>,
}

/// The calls that list all entities of a kind.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PollCall {
    /// The path and query of the first page.
    pub first: PathTemplate,
    /// The path and query of another page, with `{cursor}`.
    #[serde(default)]
    pub then: Option<PathTemplate>,
    /// The entries of a page, each an id, or an object with it.
    pub entries: Filter,
    /// The id of an entry that is an object.
    #[serde(default)]
    pub id: Option<Filter>,
    /// `true` when an entry is the entity as a pull shows it, so that what is as known is not pulled.
    #[serde(default)]
    pub whole: bool,
    /// The cursor of the next page; nothing at the end.
    #[serde(default)]
    pub next: Option<Filter>,
}

/// A path and query with `{id}` or `{cursor}` in it, which are escaped.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
#[serde(try_from = "String")]
pub struct PathTemplate(String);

/// The characters that are escaped in a path or query: all but those that URLs never reserve [RFC 3986, 2.3].
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl TryFrom<String> for PathTemplate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !text.starts_with('/') || text.starts_with("//") || text.len() > 1_000 {
            return Err("a path begins with one slash, and has 1000 bytes at most".to_owned());
        }
        if text.replace("{id}", "").replace("{cursor}", "").contains(['{', '}', '#', '\\', ' ']) {
            return Err("a path has {id} and {cursor}, and no other braces, spaces, # or \\".to_owned());
        }
        Ok(Self(text))
    }
}

impl PathTemplate {
    /// Returns the path and query with these values in it. A value that would climb the path is refused.
    pub fn fill(&self, id: &str, cursor: &str) -> Option<String> {
        let escaped = |value: &str| utf8_percent_encode(value, ESCAPED).to_string();
        let climbs = |value: &str| matches!(value, "." | "..");
        (!climbs(id) && !climbs(cursor))
            .then(|| self.0.replace("{id}", &escaped(id)).replace("{cursor}", &escaped(cursor)))
    }

    /// Returns whether the path has a place for this value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

/// Reads a time that an expression made: RFC 3339, or seconds since 1970.
pub fn time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => text.parse::<jiff::Timestamp>().ok().map(Timestamp::from),
        Value::Number(number) => {
            let seconds: Decimal = number.to_string().parse().ok()?;
            let micros = i64::try_from(seconds.checked_mul(Decimal::from(1_000_000))?.trunc()).ok()?;
            jiff::Timestamp::from_microsecond(micros).ok().map(Timestamp::from)
        }
        _ => None,
    }
}

/// Returns the fields of an entity that are never absent, without their values.
fn skeleton(kind: EntityKind) -> Value {
    match kind {
        EntityKind::Customer => json!({ "billing": {}, "shipping": {} }),
        EntityKind::Product => json!({ "stock": {}, "categories": [], "images": [], "choices": [], "variations": [] }),
        EntityKind::Order => json!({
            "totals": {}, "lines": [], "shipping_lines": [], "fees": [], "coupons": [], "taxes": [], "refunds": [],
            "billing": {}, "shipping": {}, "payment": {}, "payments": {}, "packages": {},
        }),
        EntityKind::Coupon => json!({ "products": [] }),
        EntityKind::Cart => json!({ "lines": [], "coupons": [] }),
        EntityKind::Price => json!({ "prices": [] }),
        EntityKind::Subscription | EntityKind::Request => json!({ "items": [], "parameters": {}, "events": {} }),
        EntityKind::Category | EntityKind::Record => json!({}),
    }
}

/// Makes an entity's content of what an expression made, under the id that it has. Members of `extra` stay as they are.
///
/// # Errors
/// The place of the first member that the entity does not have, or that has another form, and why. It shows no value.
pub fn content(kind: EntityKind, id: &str, made: Value) -> Result<Content, String> {
    let Value::Object(mut fields) = made else { return Err(format!("{kind}: must be an object")) };
    let extra = match fields.remove("extra") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(extra)) => extra,
        Some(_) => return Err(format!("{kind}.extra: must be an object")),
    };
    fields.retain(|_, value| !value.is_null());
    fields.iter_mut().for_each(|(name, value)| write_out(name, value));
    fields.insert("id".to_owned(), id.into());
    for (name, value) in skeleton(kind).as_object().into_iter().flatten() {
        fields.entry(name.as_str()).or_insert_with(|| value.clone());
    }
    let content = match kind {
        EntityKind::Customer => typed::<Customer>(fields, extra),
        EntityKind::Product => typed::<Product>(fields, extra),
        EntityKind::Order => typed::<Order>(fields, extra),
        EntityKind::Coupon => typed::<Coupon>(fields, extra),
        EntityKind::Category => typed::<CategoryEntity>(fields, extra),
        EntityKind::Price => typed::<Price>(fields, extra),
        EntityKind::Cart => typed::<Cart>(fields, extra),
        EntityKind::Subscription => typed::<Subscription>(fields, extra),
        EntityKind::Request => typed::<Request>(fields, extra),
        EntityKind::Record => typed::<Record>(fields, extra),
    };
    content.map(|content| content.with_unbalanced(kind)).map_err(|place| format!("{kind}.{place}"))
}

/// The canonical fields that are numbers. All others that a sender may write as numbers, amounts and ids, are texts.
const NUMBERS: &[&str] = &["used", "usage_limit", "usage_limit_per_customer", "from", "to"];

fn write_out(name: &str, value: &mut Value) {
    match value {
        Value::Number(number) if !NUMBERS.contains(&name) => *value = number.to_string().into(),
        Value::Array(elements) => elements.iter_mut().for_each(|element| write_out(name, element)),
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| write_out(name, value)),
        _ => {}
    }
}

fn typed<T: DeserializeOwned + Serialize>(
    fields: Map<String, Value>,
    extra: Map<String, Value>,
) -> Result<Content, String> {
    let given = Value::Object(fields);
    let entity: T = serde_path_to_error::deserialize(&given).map_err(|error| {
        let (place, why) = (error.path().to_string(), error.into_inner().to_string());
        // serde quotes values after "invalid value: " and "invalid type: "; what it expected comes behind.
        let why = why.rsplit_once("expected ").map_or_else(
            || if why.starts_with("missing field") { why.clone() } else { "has another form".to_owned() },
            |(_, expected)| format!("must be {expected}"),
        );
        format!("{place}: {why}")
    })?;
    let kept = serde_json::to_value(&entity).map_err(|_| ".: cannot be written".to_owned())?;
    if let Some(place) = unknown(&given, &kept) {
        return Err(format!("{place}: there is no such field; put it into extra"));
    }
    Content::new(&entity, extra).map_err(|_| ".: cannot be written".to_owned())
}

/// Returns the place of the first member that was given and not kept.
fn unknown(given: &Value, kept: &Value) -> Option<String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => given.iter().find_map(|(name, value)| match kept.get(name) {
            _ if value.is_null() => None,
            None => Some(name.clone()),
            Some(kept) => unknown(value, kept).map(|place| match place.starts_with('[') {
                true => format!("{name}{place}"),
                false => format!("{name}.{place}"),
            }),
        }),
        (Value::Array(given), Value::Array(kept)) => given
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(at, (given, kept))| unknown(given, kept).map(|place| format!("[{at}].{place}"))),
        _ => None,
    }
}

/// Returns the text of an id that an expression made: a string, or a whole number.
pub fn id(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_kind_takes_its_fields_and_names_what_is_none() {
        for (kind, fields) in [
            (EntityKind::Customer, json!({ "email": "a@example.com", "billing": { "city": "Bern" } })),
            (EntityKind::Product, json!({ "name": "Tea", "price": 10.5, "stock": { "quantity": 3 } })),
            (
                EntityKind::Order,
                json!({ "status": "paid", "totals": { "total": "10.99" }, "lines": [{ "id": 1, "quantity": 2 }] }),
            ),
            (EntityKind::Coupon, json!({ "code": "TEN" })),
            (EntityKind::Category, json!({ "name": "Teas" })),
            (
                EntityKind::Price,
                json!({ "list": "1", "variation": "2", "prices": [{ "currency": "EUR", "price": "1.10", "tiers": [] }] }),
            ),
            (EntityKind::Cart, json!({ "email": "a@example.com" })),
            (EntityKind::Subscription, json!({ "status": "active" })),
            (EntityKind::Request, json!({ "status": "pending" })),
            (EntityKind::Record, json!({ "event": "a.b" })),
        ] {
            let made = content(kind, "7", fields.clone()).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(made.fields["id"], "7", "{kind}");
            let mut wrong = fields;
            wrong["colour"] = "red".into();
            assert_eq!(
                content(kind, "7", wrong).unwrap_err(),
                format!("{kind}.colour: there is no such field; put it into extra")
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named_without_its_value() {
        for (fields, told) in [
            (json!([]), "order: must be an object"),
            (json!({ "status": "paid", "extra": 1 }), "order.extra: must be an object"),
            (json!({}), "order..: missing field `status`"),
            (json!({ "status": true }), "order.status: must be a string"),
            (json!({ "status": "paid", "totals": { "total": "s3cr3t" } }), "order.totals.total: "),
            (
                json!({ "status": "paid", "lines": [{ "id": 1, "quantity": 1, "colour": 1 }] }),
                "order.lines[0].colour: there",
            ),
        ] {
            let why = content(EntityKind::Order, "7", fields).unwrap_err();
            assert!(why.starts_with(told) && !why.contains("s3cr3t"), "{why}");
        }
    }

    #[test]
    fn amounts_stay_what_they_are() {
        let order = json!({ "status": "paid", "totals": { "total": 10.1, "tax": "0.30" }, "extra": { "a": 1.5 } });
        let made = content(EntityKind::Order, "7", order).unwrap();
        assert_eq!(made.fields["totals"], json!({ "total": "10.1", "tax": "0.30" }));
        assert_eq!(made.extra, *json!({ "a": 1.5 }).as_object().unwrap());
    }

    #[test]
    fn values_in_a_path_stay_one_segment() {
        let path = PathTemplate::try_from("/v1/orders/{id}?expand=a".to_owned()).unwrap();
        assert_eq!(path.fill("a/../b?c#d e%", "").as_deref(), Some("/v1/orders/a%2F..%2Fb%3Fc%23d%20e%25?expand=a"));
        assert_eq!(path.fill("..", ""), None);
        for bad in ["v1", "//evil.example/", "/a/{x}", "/a#b", "/a b"] {
            assert!(PathTemplate::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
