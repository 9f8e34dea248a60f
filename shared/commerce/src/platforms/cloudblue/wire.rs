//! CloudBlue Connect's objects as they travel, tolerant of what is known to vary: numbers as strings and strings as numbers, `""`
//! and `{}` for nothing, lists that hold lists.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::{
    entity::ExternalId,
    platforms::lenient::{count, list, required_id, text, time},
};

/// The body of a delivery. All of it is a hint, and none of it has to be there.
#[derive(Default)]
pub struct Trigger {
    /// The webhook, as the body says.
    pub webhook_id: Option<String>,
    /// What the webhook is for.
    pub object_class: Option<String>,
    /// When the platform began to deliver.
    pub triggered_at: Option<String>,
    /// When it was last answered well.
    pub last_success_at: Option<String>,
}

impl Trigger {
    /// Reads what there is.
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
    #[serde(default, deserialize_with = "list")]
    pub errors: Vec<serde::de::IgnoredAny>,
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
    #[serde(default)]
    pub active: Option<bool>,
    #[serde(default)]
    pub stats: Stats,
}

/// How a webhook's deliveries went.
#[derive(Deserialize, Default)]
pub struct Stats {
    #[serde(default, deserialize_with = "count")]
    pub failure_since_last_success: Option<u64>,
}

/// An entry of a list: all that is needed to ask for it, and to go on behind it.
#[derive(Deserialize)]
pub struct Entry {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub created: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub updated: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub events: EntryEvents,
}

/// Tier configuration requests have their times in here.
#[derive(Deserialize, Default)]
pub struct EntryEvents {
    #[serde(default, deserialize_with = "or_default")]
    pub created: EntryEvent,
    #[serde(default, deserialize_with = "or_default")]
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
    pub created: Option<Timestamp>,
    #[serde(default, deserialize_with = "time")]
    pub updated: Option<Timestamp>,
    #[serde(default, deserialize_with = "or_default")]
    pub events: Events,
    #[serde(default)]
    pub asset: Option<Asset>,
    #[serde(default)]
    pub configuration: Option<Configuration>,
    #[serde(default, deserialize_with = "params")]
    pub params: Vec<Param>,
    #[serde(default, deserialize_with = "or_default")]
    pub tiers: Tiers,
}

/// What has happened to something, and when.
#[derive(Deserialize, Default)]
pub struct Events {
    #[serde(default, deserialize_with = "or_default")]
    pub created: Event,
    #[serde(default, deserialize_with = "or_default")]
    pub updated: Event,
}

/// A time.
#[derive(Deserialize, Default)]
pub struct Event {
    #[serde(default, deserialize_with = "time")]
    pub at: Option<Timestamp>,
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
    #[serde(default, deserialize_with = "or_default")]
    pub connection: Connection,
    #[serde(default, deserialize_with = "list")]
    pub items: Vec<Item>,
    #[serde(default, deserialize_with = "params")]
    pub params: Vec<Param>,
    #[serde(default, deserialize_with = "or_default")]
    pub tiers: Tiers,
    #[serde(default, deserialize_with = "or_default")]
    pub events: Events,
    #[serde(default, deserialize_with = "time")]
    pub created: Option<Timestamp>,
    #[serde(default, deserialize_with = "time")]
    pub updated: Option<Timestamp>,
}

/// What a tier configuration request configures.
#[derive(Deserialize)]
pub struct Configuration {
    #[serde(default, deserialize_with = "reference")]
    pub product: Option<ExternalId>,
    #[serde(default, deserialize_with = "reference")]
    pub account: Option<ExternalId>,
    #[serde(default, deserialize_with = "text")]
    pub tier_level: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub connection: Connection,
}

/// The connection of vendor and distributor.
#[derive(Deserialize, Default)]
pub struct Connection {
    #[serde(default, rename = "type", deserialize_with = "text")]
    pub kind: Option<String>,
}

/// The accounts between vendor and user. One that is not there is `{}`.
#[derive(Deserialize, Default)]
pub struct Tiers {
    #[serde(default)]
    pub customer: Option<Account>,
    #[serde(default)]
    pub tier1: Option<Account>,
    #[serde(default)]
    pub tier2: Option<Account>,
}

/// An account.
#[derive(Deserialize, Default)]
pub struct Account {
    #[serde(default, deserialize_with = "text")]
    pub id: Option<String>,
    #[serde(default)]
    pub contact_info: Option<ContactInfo>,
}

impl Account {
    /// Its country: two letters.
    pub fn country(&self) -> Option<&str> {
        self.contact_info.as_ref()?.country.as_deref()
    }
}

/// Of the address of an account, what policies ask for.
#[derive(Deserialize, Default)]
pub struct ContactInfo {
    #[serde(default, deserialize_with = "text")]
    pub country: Option<String>,
}

/// How many of one thing.
#[derive(Deserialize)]
pub struct Item {
    #[serde(deserialize_with = "required_id")]
    pub id: ExternalId,
    #[serde(default, deserialize_with = "text")]
    pub mpn: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub display_name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub quantity: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub old_quantity: Option<String>,
}

/// A parameter.
#[derive(Deserialize)]
pub struct Param {
    pub id: String,
    #[serde(default, rename = "type", deserialize_with = "text")]
    pub kind: Option<String>,
    #[serde(default)]
    pub value: Value,
    #[serde(default)]
    pub structured_value: Value,
}

impl Param {
    /// Whether its value may be kept. One that does not say what it is could be a password.
    pub fn is_open(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| kind != "password")
    }

    /// Whether nobody has filled it in.
    pub fn is_empty(&self) -> bool {
        is_nothing(&self.value) && is_nothing(&self.structured_value)
    }

    /// Its value as text: that of a structured one is JSON.
    pub fn text(&self) -> Option<String> {
        let value = if is_nothing(&self.value) { &self.structured_value } else { &self.value };
        match value {
            nothing if is_nothing(nothing) => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
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

/// What may be written as `null`.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What another object is referred to by: `{"id": "…"}`. Nothing where it is written as nothing.
fn reference<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ExternalId>, D::Error> {
    let value = Value::deserialize(from)?;
    Ok(value.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok()))
}

/// Parameters. The specification has lists of lists in one place and a text in another; whatever is none is left out.
fn params<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Param>, D::Error> {
    fn collect(value: Value, into: &mut Vec<Param>) {
        match value {
            Value::Array(elements) => elements.into_iter().for_each(|element| collect(element, into)),
            Value::Object(_) => into.extend(Param::deserialize(value)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(Value::deserialize(from)?, &mut found);
    Ok(found)
}
