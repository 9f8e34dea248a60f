//! Owns trials: what a declaration makes of a recorded request, shown without storing anything.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    change::Change,
    declaration::{Answer, Arrived, Declaration, DeclarationError, Examined, Extracted, Key, KeyInput},
    entity::EntityKind,
    platform::mapping::{BySettings, MapError, Mapped, Meant, PART, Settled},
    scheme::Strength,
    timestamp::Timestamp,
    verify::UNNAMED_SCOPE,
};

/// A declaration, and the request that it is tried on.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// The declaration.
    pub declaration: Value,
    /// The request.
    pub request: Recorded,
    /// The keys; without one, only a handshake can be shown.
    #[serde(default)]
    pub keys: Vec<KeyInput>,
    /// The account that the connection is for.
    #[serde(default)]
    pub account: Option<String>,
    /// The constants of the connection.
    #[serde(default)]
    pub constants: BTreeMap<String, String>,
    /// The time to take for now, in seconds since 1970; without it, it is now.
    #[serde(default)]
    pub now: Option<i64>,
}

/// A request as it was recorded.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Its method; POST without one.
    #[serde(default)]
    pub method: Option<String>,
    /// Its path and query.
    #[serde(default)]
    pub target: Option<String>,
    /// The URL that the sender was given.
    #[serde(default)]
    pub url: String,
    /// Its headers.
    #[serde(default)]
    pub headers: BTreeMap<String, Lines>,
    /// Its body.
    #[serde(default)]
    pub body: String,
}

/// The lines of a header.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(untagged)]
pub enum Lines {
    /// One line.
    One(String),
    /// Several lines.
    Many(Vec<String>),
}

impl Lines {
    fn all(&self) -> &[String] {
        match self {
            Self::One(line) => std::slice::from_ref(line),
            Self::Many(lines) => lines,
        }
    }
}

/// The result of a trial: the steps of the proof, and the answer or the entities that come of the request.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct TrialResult {
    /// The steps of the proof, in words. None of them shows a key.
    pub steps: Vec<String>,
    /// Why the request is refused; null when it is not.
    pub refused: Option<String>,
    /// The answer, when the request is a handshake.
    pub handshake: Option<TrialAnswer>,
    /// The values of the delivery, when the request is a proven one.
    pub delivery: Option<TrialDelivery>,
    /// The entity that the delivery becomes, or one for each part of its body.
    pub made: Vec<Made>,
}

/// The answer to a handshake.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct TrialAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

/// The values of a proven delivery.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct TrialDelivery {
    /// The name of the key that proved it.
    pub key: String,
    /// The coverage of the proof: the body, or the caller alone.
    pub covers: Strength,
    /// The topic.
    pub topic: Option<String>,
    /// The id of the entity.
    pub id: Option<String>,
    /// The id of the message.
    pub message: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// The time of the event, in RFC 3339.
    pub time: Option<String>,
}

/// The kinds of effect that a delivery can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The entity is merged as it is shown.
    Upsert,
    /// The entity is deleted.
    Delete,
    /// The entity is restored.
    Restore,
    /// The entity is fetched from the sender's API.
    Pull,
    /// Nothing happens.
    Ignored,
    /// The delivery is put aside, because something is wrong.
    PutAside,
}

/// The effect of a delivery, or of one part of it, with the entity.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct Made {
    /// The effect.
    pub effect: Effect,
    /// The kind of entity.
    pub entity: Option<EntityKind>,
    /// The entity's id.
    pub id: Option<String>,
    /// The entity's fields, when it is merged as it is shown.
    pub fields: Option<Map<String, Value>>,
    /// The rule by which it is ignored, the first thing that is wrong, or the fields that could not be read.
    pub why: Option<String>,
}

impl Trial {
    /// Reads a trial.
    ///
    /// # Errors
    /// [`DeclarationError`] for the first place that is wrong.
    pub fn read(trial: Value) -> Result<Self, DeclarationError> {
        serde_path_to_error::deserialize(trial)
            .map_err(|error| wrong(&error.path().to_string(), &error.into_inner().to_string()))
    }
}

/// Tries a declaration on a request. `by` is the mapping that reads declarations.
///
/// # Errors
/// [`DeclarationError`] for the first place of the trial that is wrong.
pub fn run(trial: &Trial, by: &dyn BySettings, clock: Timestamp) -> Result<TrialResult, DeclarationError> {
    let declaration = Declaration::read(trial.declaration.clone())
        .map_err(|error| DeclarationError { place: format!("declaration.{}", error.place), ..error })?;
    let Recorded { method, target, url, headers, body } = &trial.request;
    let headers = header_map(headers)?;
    let arrived = Arrived {
        method: method.as_deref().unwrap_or("POST"),
        target: target.as_deref().unwrap_or("/"),
        url,
        headers: &headers,
        body: body.as_bytes(),
        constants: &trial.constants,
    };
    let keys: Vec<Key> = KeyInput::records(trial.keys.clone()).into_iter().map(Key::from).collect();
    let now = match trial.now {
        None => clock,
        Some(now) => seconds(now).ok_or_else(|| wrong("now", "must be seconds since 1970"))?,
    };
    let mut steps = Vec::new();
    let examined = declaration.examine(&arrived, &keys, now, Some(&mut steps));
    let shown = TrialResult { steps, ..TrialResult::default() };
    Ok(match examined {
        Examined::Refused(refusal) => TrialResult { refused: Some(refusal.to_string()), ..shown },
        Examined::Handshake(answer) => {
            let Answer { status, headers, body } = answer;
            let headers = headers.into_iter().collect();
            TrialResult { handshake: Some(TrialAnswer { status, headers, body }), ..shown }
        }
        Examined::Delivery(proven, extracted) => {
            let made = made(trial, &declaration, &arrived, &extracted, by, now);
            let time = extracted.time.map(|time| time.to_string());
            let Extracted { topic, id, message, account, .. } = extracted;
            let delivery =
                TrialDelivery { key: proven.key_id, covers: proven.strength, topic, id, message, account, time };
            TrialResult { delivery: Some(delivery), made, ..shown }
        }
    })
}

fn wrong(place: &str, why: &str) -> DeclarationError {
    DeclarationError { place: place.to_owned(), why: why.to_owned() }
}

fn seconds(seconds: i64) -> Option<Timestamp> {
    jiff::Timestamp::from_second(seconds).ok().map(Timestamp::from)
}

fn header_map(given: &BTreeMap<String, Lines>) -> Result<HeaderMap, DeclarationError> {
    let mut headers = HeaderMap::new();
    for (name, lines) in given {
        let place = format!("request.headers.{name}");
        let parsed: HeaderName = name.parse().map_err(|_| wrong(&place, "is no name of a header"))?;
        for line in lines.all() {
            let value: HeaderValue = line.parse().map_err(|_| wrong(&place, "is no value of a header"))?;
            headers.append(&parsed, value);
        }
    }
    Ok(headers)
}

fn made(
    trial: &Trial,
    declaration: &Declaration,
    arrived: &Arrived<'_>,
    extracted: &Extracted,
    by: &dyn BySettings,
    received: Timestamp,
) -> Vec<Made> {
    // A connection's settings have these names, too.
    let mut settings = Map::new();
    settings.insert("declaration".to_owned(), trial.declaration.clone());
    settings.extend(trial.account.clone().map(|account| ("account".to_owned(), account.into())));
    let claims = declaration.noted(arrived);
    let mut claims_of_parts = claims.clone();
    claims_of_parts.insert(PART.to_owned(), "true".to_owned());
    let delivery = Settled {
        settings: &settings,
        scope: extracted.topic.as_deref().unwrap_or(UNNAMED_SCOPE),
        delivery_id: extracted.message.as_deref(),
        claims: &claims,
        body: arrived.body,
        received,
    };
    match by.map(&delivery) {
        Ok(Meant::Parts(parts)) => {
            let part =
                |(scope, body): (&str, &[u8])| by.map(&Settled { claims: &claims_of_parts, scope, body, ..delivery });
            parts.iter().map(|made| Made::of(part((&made.scope, &made.body)))).collect()
        }
        meant => vec![Made::of(meant)],
    }
}

impl Made {
    fn of(meant: Result<Meant, MapError>) -> Self {
        let made = Self { effect: Effect::PutAside, entity: None, id: None, fields: None, why: None };
        let (entity, mapped) = match meant {
            Ok(Meant::Entity(entity, mapped)) => (entity, mapped),
            Ok(Meant::Ignored(rule)) => return Self { effect: Effect::Ignored, why: Some(rule.0.to_owned()), ..made },
            Ok(Meant::Parts(_)) => return Self { why: Some("a part has parts".to_owned()), ..made },
            Err(error) => return Self { why: Some(error.to_string()), ..made },
        };
        let made = Self { entity: Some(entity), ..made };
        let of = |effect, id: String| Self { effect, id: Some(id), ..made.clone() };
        match mapped {
            Mapped::Change(id, Change::Upsert(upsert)) => {
                let mut fields = upsert.content.fields.clone();
                fields.insert("extra".to_owned(), upsert.content.extra.clone().into());
                let unreadable = &upsert.content.unreadable;
                let why = (!unreadable.is_empty()).then(|| format!("cannot be read: {unreadable:?}"));
                Self { fields: Some(fields), why, ..of(Effect::Upsert, id.to_string()) }
            }
            Mapped::Change(id, Change::Delete(_)) => of(Effect::Delete, id.to_string()),
            Mapped::Change(id, Change::Restore { .. }) => of(Effect::Restore, id.to_string()),
            Mapped::Pull(id) => of(Effect::Pull, id.to_string()),
            _ => Self { why: Some("a declaration makes nothing of this kind".to_owned()), ..made },
        }
    }
}
