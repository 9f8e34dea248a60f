//! The pull of one request or asset.

use http::Method;

use super::wire;
use crate::{
    change::{Change, Delete, Facets, Upsert},
    entity::EntityKind,
    http_call::{ApiRequest, ApiResponse, Fault},
    platform::{
        lenient::read,
        mapping::Mapped,
        pull::{Next, Pull, Wanted},
    },
    platforms::cloudblue::{
        CloudBlue,
        api::{call, path, unreadable},
        mapping::{MAPPING, request, subscription},
    },
    timestamp::Timestamp,
};

impl Pull for CloudBlue {
    fn pull(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Result<Next, Fault> {
        match answers.first() {
            None => ask(wanted).map(Next::Ask),
            Some(answer) => mapped(wanted, answer).map(Next::Done),
        }
    }
}

pub(super) fn ask(wanted: &Wanted<'_>) -> Result<ApiRequest, Fault> {
    call(&wanted.access, Method::GET, &path(wanted)?)
}

/// Maps an answer to [`ask`], or of an action that returns the entity.
pub(super) fn mapped(wanted: &Wanted<'_>, answer: &ApiResponse) -> Result<Mapped, Fault> {
    let Wanted { entity, id, at, .. } = *wanted;
    if answer.status == 404 && read::<wire::Error>(&answer.body).is_ok() {
        return Ok(Mapped::Change(id.clone(), Change::Delete(Delete { source: None, received: at })));
    }
    if !answer.is_success() {
        return Err(answer.fault(at));
    }
    let (shown, source, content) = match entity {
        EntityKind::Request => request(&answer.body),
        EntityKind::Subscription => subscription(&answer.body),
        other => return Err(Fault::Unreadable(format!("CloudBlue Connect has no {other}"))),
    }
    .map_err(unreadable)?;
    if shown != *id {
        return Err(Fault::Unreadable("another id than was asked for".into()));
    }
    let source = source.map(Timestamp::from);
    let upsert = Upsert {
        source,
        received: at,
        observed: true,
        mapping: MAPPING,
        content: content.into(),
        facets: Facets::new(),
    };
    Ok(Mapped::Change(shown, Change::Upsert(upsert)))
}
