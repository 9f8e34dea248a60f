//! CloudBlue Connect's objects as they travel, tolerant of known variations: numbers as strings and strings as numbers,
//! `""`, `null` and `{}` for nothing, lists that hold lists.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};

use crate::{
    entity::ExternalId,
    platform::lenient::{count, flag, object, objects, required_id, text, time, version},
};

/// The body of a delivery. All of it is a hint, and every member is optional.
#[derive(Default)]
pub struct Trigger {
    /// The webhook, as the body says.
    pub webhook_id: Option<String>,
    /// The class of objects that the webhook is for.
    pub object_class: Option<String>,
    /// The time at which the platform began to deliver.
    pub triggered_at: Option<String>,
    /// The time of the last successful delivery.
    pub last_success_at: Option<String>,
}

impl Trigger {
    /// Reads the members that are present.
    pub fn read(body: &[u8]) -> Self {
        let Ok(mut members) = serde_json::from_slice::<Map<String, Value>>(body) else { return Self::default() };
        let mut text = |name: &str| match members.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        Self {
            webhook_id: text("webhook_id"),
            object_class: text("object_class"),
            triggered_at: text("triggered_at"),
            last_success_at: text("last_success_at"),
        }
    }
}

/// An error: `{"error_code": "…", "errors": ["…"]}`.
#[derive(Deserialize)]
pub struct Error {
    pub error_code: String,
    /// The errors, usually a list of texts.
    #[serde(default)]
    pub errors: Value,
}

/// A webhook. It has its secret in plain text, which is not read.
#[derive(Deserialize)]
pub struct Webhook {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, rename = "type", deserialize_with = "text")]
    pub kind: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub object_class: Option<String>,
    #[serde(default, deserialize_with = "reference")]
    pub product: Option<ExternalId>,
    #[serde(default, deserialize_with = "text")]
    pub external_url: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub active: Option<bool>,
    #[serde(default, deserialize_with = "object")]
    pub stats: Stats,
}

/// The statistics of a webhook's deliveries.
#[derive(Deserialize, Default)]
pub struct Stats {
    #[serde(default, deserialize_with = "count")]
    pub failure_since_last_success: Option<u64>,
}

/// An entry of a list: all that is needed to pull the entity, and to continue after it.
#[derive(Deserialize)]
pub struct Entry {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub created: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub updated: Option<String>,
    #[serde(default, deserialize_with = "object")]
    pub events: EntryEvents,
}

/// The events of an entry. Tier configuration requests have their times here.
#[derive(Deserialize, Default)]
pub struct EntryEvents {
    #[serde(default, deserialize_with = "object")]
    pub created: EntryEvent,
    #[serde(default, deserialize_with = "object")]
    pub updated: EntryEvent,
}

/// A time as the platform writes it.
#[derive(Deserialize, Default)]
pub struct EntryEvent {
    #[serde(default, deserialize_with = "text")]
    pub at: Option<String>,
}

/// A request: of fulfilment (`PR-…`) with its asset, or of a tier configuration (`TCR-…`).
#[derive(Deserialize)]
pub struct Request {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, rename = "type", deserialize_with = "text")]
    pub kind: Option<String>,
    pub status: String,
    #[serde(default, deserialize_with = "text")]
    pub note: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub notes: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub reason: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub environment: Option<String>,
    #[serde(default, deserialize_with = "time")]
    pub created: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "version")]
    pub updated: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "object")]
    pub events: Events,
    #[serde(default, deserialize_with = "part")]
    pub asset: Option<Asset>,
    #[serde(default, deserialize_with = "part")]
    pub configuration: Option<Configuration>,
    #[serde(default, deserialize_with = "params")]
    pub params: Params,
    #[serde(default, deserialize_with = "object")]
    pub tiers: Tiers,
}

/// The events of an object: `created`, `updated`, and, for requests, `inquired`, `pended` and others.
#[derive(Default)]
pub struct Events(pub BTreeMap<String, Event>);

impl Events {
    /// Returns the time of an event's last occurrence.
    pub fn at(&self, name: &str) -> Option<jiff::Timestamp> {
        self.0.get(name)?.at
    }
}

/// The most events that are read. The platform has about ten.
const MAX_EVENTS: usize = 50;

impl<'de> Deserialize<'de> for Events {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Maybe(#[serde(deserialize_with = "object")] Event);
        let all: BTreeMap<String, Maybe> = Deserialize::deserialize(from)?;
        let word = |name: &str| {
            (1..=50).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        let known = all.into_iter().filter(|(name, _)| word(name)).take(MAX_EVENTS);
        Ok(Self(known.map(|(name, event)| (name, event.0)).collect()))
    }
}

/// A time, with the actor.
#[derive(Deserialize, Default)]
pub struct Event {
    #[serde(default, deserialize_with = "time")]
    pub at: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "object")]
    pub by: Actor,
}

/// A user of the platform, or a program.
#[derive(Deserialize, Default)]
pub struct Actor {
    #[serde(default, deserialize_with = "text")]
    pub id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
}

/// An asset, which is the platform's word for a subscription; in a request, without its own times.
#[derive(Deserialize)]
pub struct Asset {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub status: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub external_id: Option<String>,
    #[serde(default, deserialize_with = "reference")]
    pub product: Option<ExternalId>,
    #[serde(default, deserialize_with = "object")]
    pub connection: Connection,
    #[serde(default, deserialize_with = "objects")]
    pub items: Vec<Item>,
    #[serde(default, deserialize_with = "params")]
    pub params: Params,
    #[serde(default, deserialize_with = "object")]
    pub tiers: Tiers,
    #[serde(default, deserialize_with = "object")]
    pub events: Events,
    /// The time of renewal, which not every answer has.
    #[serde(default, deserialize_with = "time")]
    pub renewal_expiration_date: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "object")]
    pub billing: Billing,
    #[serde(default, deserialize_with = "time")]
    pub created: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "version")]
    pub updated: Option<jiff::Timestamp>,
}

/// The billing of an asset.
#[derive(Deserialize, Default)]
pub struct Billing {
    #[serde(default, deserialize_with = "time")]
    pub next_date: Option<jiff::Timestamp>,
}

/// The subject of a tier configuration request.
#[derive(Deserialize)]
pub struct Configuration {
    #[serde(default, deserialize_with = "reference")]
    pub product: Option<ExternalId>,
    #[serde(default, deserialize_with = "reference")]
    pub account: Option<ExternalId>,
    #[serde(default, deserialize_with = "text")]
    pub tier_level: Option<String>,
    #[serde(default, deserialize_with = "object")]
    pub connection: Connection,
}

/// The connection of vendor and distributor.
#[derive(Deserialize, Default)]
pub struct Connection {
    #[serde(default, rename = "type", deserialize_with = "text")]
    pub kind: Option<String>,
}

/// The accounts between vendor and user. An absent one is `{}`.
#[derive(Deserialize, Default)]
pub struct Tiers {
    #[serde(default, deserialize_with = "part")]
    pub customer: Option<Account>,
    #[serde(default, deserialize_with = "part")]
    pub tier1: Option<Account>,
    #[serde(default, deserialize_with = "part")]
    pub tier2: Option<Account>,
}

/// An account.
#[derive(Deserialize, Default)]
pub struct Account {
    #[serde(default, deserialize_with = "text")]
    pub id: Option<String>,
    #[serde(default, deserialize_with = "part")]
    pub contact_info: Option<ContactInfo>,
}

impl Account {
    /// Returns the account's country: two letters.
    pub fn country(&self) -> Option<&str> {
        let country = self.contact_info.as_ref()?.country.as_deref()?.trim();
        (country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_alphabetic())).then_some(country)
    }
}

/// The part of an account's address that policies read.
#[derive(Deserialize, Default)]
pub struct ContactInfo {
    #[serde(default, deserialize_with = "text")]
    pub country: Option<String>,
}

/// A quantity of one thing. Items of old assets have a `global_id` in place of an `id`.
#[derive(Deserialize)]
pub struct Item {
    #[serde(default, deserialize_with = "loose_id")]
    pub id: Option<ExternalId>,
    #[serde(default, deserialize_with = "loose_id")]
    pub global_id: Option<ExternalId>,
    #[serde(default, deserialize_with = "text")]
    pub mpn: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub display_name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub quantity: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub old_quantity: Option<String>,
}

/// A parameter.
#[derive(Deserialize)]
pub struct Param {
    #[serde(default, deserialize_with = "name")]
    pub id: String,
    #[serde(default, rename = "type", deserialize_with = "text")]
    pub kind: Option<String>,
    #[serde(default)]
    pub value: Value,
    #[serde(default)]
    pub structured_value: Value,
}

impl Param {
    /// Returns whether the value may be kept. A parameter without a type could be a password.
    pub fn is_open(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| kind != "password")
    }

    /// Returns whether nobody has filled it in, or `None` when that is unknown.
    pub fn is_empty(&self) -> Option<bool> {
        match (self.is_blank(&self.value), self.is_blank(&self.structured_value)) {
            (Some(true), Some(true)) => Some(true),
            (Some(false), _) | (_, Some(false)) => Some(false),
            _ => None,
        }
    }

    /// Returns whether a value is blank. A parameter that nobody has filled in comes with all its members, each an
    /// empty text, or `false` for a box to tick.
    fn is_blank(&self, value: &Value) -> Option<bool> {
        let kind = self.kind.as_deref().unwrap_or_default();
        match value {
            Value::Null | Value::Bool(false) => Some(true),
            Value::Bool(true) | Value::Number(_) => Some(false),
            Value::String(text) => {
                let text = text.trim();
                // A structured value may also be written as a text.
                if !is_plain(kind)
                    && text.starts_with(['{', '['])
                    && let Ok(within) = serde_json::from_str(text)
                {
                    return self.is_blank(&within);
                }
                Some(match kind {
                    "phone" => !text.chars().any(|c| c.is_ascii_digit()),
                    "address" => !text.chars().any(char::is_alphanumeric),
                    "checkbox" => {
                        matches!(text.to_ascii_lowercase().as_str(), "" | "false" | "0" | "no" | "off" | "null")
                    }
                    _ => text.is_empty(),
                })
            }
            Value::Array(elements) => all_blank(elements.iter().map(|element| self.is_blank(element))),
            Value::Object(members) => {
                // Country codes and countries may be filled in beforehand.
                let one_of = |names: &[&str]| {
                    let found: Vec<_> = names.iter().filter_map(|name| members.get(*name)).collect();
                    (!found.is_empty()).then(|| all_blank(found.into_iter().map(|value| self.is_blank(value))))
                };
                let decisive = match kind {
                    "phone" => one_of(&["phone_number"]),
                    "address" => one_of(&["address_line1", "address_line2", "city", "postal_code"]),
                    _ => None,
                };
                if let Some(blank) = decisive {
                    return blank;
                }
                // A choice that is present with its name has a flag that says whether it was taken.
                let (flags, others): (Vec<_>, Vec<_>) = members.values().partition(|value| value.is_boolean());
                let named = others.iter().any(|value| self.is_blank(value) == Some(false));
                match (flags.is_empty(), named) {
                    (false, true) if flags.contains(&&Value::Bool(true)) => Some(false),
                    (false, true) => Some(true),
                    (true, true) if CHOSEN.contains(&kind) => None,
                    _ => all_blank(members.values().map(|value| self.is_blank(value))),
                }
            }
        }
    }

    /// Returns the value as text; a structured value as JSON.
    pub fn text(&self) -> Option<String> {
        let value = if is_nothing(&self.value) { &self.structured_value } else { &self.value };
        match value {
            nothing if is_nothing(nothing) => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

/// The types of parameters whose values are choices from a given set.
const CHOSEN: [&str; 3] = ["checkbox", "choice", "dropdown"];

/// Returns whether parameters of this type have texts for values.
fn is_plain(kind: &str) -> bool {
    matches!(kind, "text" | "password" | "email" | "subdomain" | "domain" | "url")
}

fn all_blank(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut all = Some(true);
    for part in parts {
        match part {
            Some(true) => {}
            Some(false) => return Some(false),
            None => all = None,
        }
    }
    all
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Reads an object, or nothing.
fn part<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    struct Part<T>(Option<T>);
    impl<T> Default for Part<T> {
        fn default() -> Self {
            Self(None)
        }
    }
    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Part<T> {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            T::deserialize(from).map(|part| Self(Some(part)))
        }
    }
    object::<D, Part<T>>(from).map(|part| part.0)
}

/// Reads an id, or nothing.
fn loose_id<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ExternalId>, D::Error> {
    Ok(text(from)?.and_then(|text| text.parse().ok()))
}

/// Reads a name, or an empty text.
fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(text(from)?.unwrap_or_default())
}

/// Reads a reference to another object, `{"id": "…"}`, or nothing in its several spellings.
fn reference<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ExternalId>, D::Error> {
    match Value::deserialize(from)? {
        Value::Null | Value::Bool(false) => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::Array(elements) if elements.is_empty() => Ok(None),
        Value::Object(members) => match members.get("id") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(id)) if id.is_empty() => Ok(None),
            Some(Value::String(id)) => id.parse().map(Some).map_err(D::Error::custom),
            Some(_) => Err(D::Error::custom("no id")),
        },
        _ => Err(D::Error::custom("no reference")),
    }
}

/// Parameters, and the places of unreadable ones.
#[derive(Default)]
pub struct Params {
    /// The parameters that have an id.
    pub list: Vec<Param>,
    /// The places of the others.
    pub unreadable: Vec<String>,
}

/// Reads parameters. The specification has lists of lists in one place and a text in another.
fn params<'de, D: Deserializer<'de>>(from: D) -> Result<Params, D::Error> {
    fn collect(value: Value, place: &str, into: &mut Params) {
        match value {
            Value::Array(elements) => {
                for (number, element) in elements.into_iter().enumerate() {
                    collect(element, &format!("{place}[{number}]"), into);
                }
            }
            // PHP writes a list in this form.
            Value::Object(members) if members.keys().all(|name| name.bytes().all(|byte| byte.is_ascii_digit())) => {
                for (name, element) in members {
                    collect(element, &format!("{place}.{name}"), into);
                }
            }
            Value::Object(_) => match Param::deserialize(value) {
                // A parameter without a name has nothing to be kept under.
                Ok(param) if !param.id.is_empty() => into.list.push(param),
                _ => into.unreadable.push(place.to_owned()),
            },
            nothing if is_nothing(&nothing) => {}
            _ => into.unreadable.push(place.to_owned()),
        }
    }
    let mut found = Params::default();
    collect(Value::deserialize(from)?, "params", &mut found);
    Ok(found)
}
