//! The pull of one entity from a service that a setting names.

use serde_json::{Map, Value};

use super::wire::{self, Members};
use crate::{
    change::{Change, Facets, Upsert},
    entity::{Content, EntityKind, ExternalId},
    http_call::{ApiResponse, Fault},
    outcome::Rule,
    platform::{
        mapping::{MapError, Mapped},
        pull::{Next, Pull, Wanted},
    },
    platforms::directscale::{
        DirectScale,
        api::{call, service},
        events::{Group, Kind},
        mapping::{MAPPING, Parts, value},
    },
};

/// The rule for entities that no known service gives.
pub(super) const NO_SERVICE: Rule = Rule("directscale-no-service");

impl Pull for DirectScale {
    /// Pulls an entity. No answer is documented for a missing entity, so none counts as a delete. An answer that does
    /// not name the entity is refused.
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

/// Makes the content of an answer. Its shape is not documented: members that events have become fields, and the rest
/// stays as it is. Unreadable members stay as they are, too, and are named; but an unreadable amount or id makes the
/// answer unreadable.
pub(super) fn detail(
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
