//! The pull of one entity by the call that its declaration describes.

use serde_json::{Value, json};

use super::{
    api::{answered, call, read},
    declared,
};
use crate::{
    change::{Change, Delete, Facets, Upsert},
    declaration::{
        Declaration, DeclarationError,
        filter::FilterError,
        map::{self, PullCall},
    },
    entity::{Content, EntityKind, ExternalId},
    http_call::{ApiResponse, Fault},
    outcome::Rule,
    platform::{
        mapping::Mapped,
        pull::{Next, Pull, Wanted},
    },
    platforms::custom::Custom,
    timestamp::Timestamp,
};

/// The rule for entities that the declaration cannot pull.
pub(super) const NO_PULL: Rule = Rule("custom-no-pull");

pub(super) fn unread(error: DeclarationError) -> Fault {
    Fault::Connection(format!("the declaration cannot be read at {error}; connect it again"))
}

pub(super) fn failed(place: &str, error: &FilterError) -> Fault {
    Fault::Unreadable(format!("{place}: {error}"))
}

impl Pull for Custom {
    /// Pulls an entity. An answer is a delete only where `gone` says so.
    fn pull(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Result<Next, Fault> {
        let Wanted { access, entity, id, at } = *wanted;
        let declaration = declared(access.settings).map_err(unread)?;
        let Some(pull) = declaration.pull.get(&entity) else { return Ok(Next::Done(Mapped::Ignored(NO_PULL))) };
        let Some(response) = answers.first() else {
            return call(&declaration, &access, &pull.path, id.as_str(), "").map(Next::Ask);
        };
        if is_gone(pull, entity, response)? {
            let delete = Delete { source: None, received: at };
            return Ok(Next::Done(Mapped::Change(id.clone(), Change::Delete(delete))));
        }
        if !response.is_success() {
            return Err(response.fault(at));
        }
        let body = read(response)?;
        let content = content(pull, entity, id, &body, &answered(response))?;
        let source = time(pull, entity, body, answered(response))?.or_else(|| undated(&declaration, entity, at));
        let upsert = Upsert {
            source,
            received: at,
            observed: true,
            mapping: declaration.mapping,
            content: content.into(),
            facets: Facets::new(),
        };
        Ok(Next::Done(Mapped::Change(id.clone(), Change::Upsert(upsert))))
    }
}

/// Returns the time of an answer that names none: the second before the call, because deliveries are often dated to
/// whole seconds. Where deliveries are undated, so is the answer, and the moment of observation orders them.
fn undated(declaration: &Declaration, entity: EntityKind, at: Timestamp) -> Option<Timestamp> {
    let mut meanings = declaration.map.iter().filter(|meaning| meaning.entity == entity);
    let dated = declaration.extract.time.is_some() || meanings.any(|meaning| meaning.time.is_some());
    dated.then(|| at.plus_seconds(-1))
}

fn is_gone(pull: &PullCall, entity: EntityKind, response: &ApiResponse) -> Result<bool, Fault> {
    let Some(gone) = &pull.gone else { return Ok(false) };
    if !response.is_success() && !matches!(response.status, 404 | 410) {
        return Ok(false);
    }
    // A page that is no JSON is some proxy's answer, not the API's.
    let Ok(body) = read(response) else { return Ok(false) };
    let place = format!("pull.{entity}.gone");
    let said = gone.one(json!({ "status": response.status, "body": body }), Value::Null);
    Ok(said.map_err(|error| failed(&place, &error))? == Some(Value::Bool(true)))
}

/// Returns the content of an entity as an answer, or an entry of a list, shows it.
pub(super) fn content(
    pull: &PullCall,
    entity: EntityKind,
    id: &ExternalId,
    body: &Value,
    delivery: &Value,
) -> Result<Content, Fault> {
    let place = format!("pull.{entity}.content");
    let made = pull.content.one(body.clone(), delivery.clone()).map_err(|error| failed(&place, &error))?;
    let made = made.ok_or_else(|| Fault::Unreadable(format!("{place}: makes nothing")))?;
    let names_another = made.get("id").is_some_and(|given| map::id(given).is_none_or(|given| given != id.as_str()));
    if names_another {
        return Err(Fault::Unreadable("another id than was asked for".into()));
    }
    map::content(entity, id.as_str(), made).map_err(|why| Fault::Unreadable(format!("{place}: {why}")))
}

fn time(pull: &PullCall, entity: EntityKind, body: Value, delivery: Value) -> Result<Option<Timestamp>, Fault> {
    let Some(filter) = &pull.time else { return Ok(None) };
    let place = format!("pull.{entity}.time");
    match filter.one(body, delivery).map_err(|error| failed(&place, &error))? {
        None => Ok(None),
        Some(value) => map::time(&value).map(Some).ok_or_else(|| Fault::Unreadable(format!("{place}: makes no time"))),
    }
}
