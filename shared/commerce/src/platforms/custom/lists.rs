//! The lists of a declared sender: all entities of a kind, page after page.

use serde_json::{Map, Value};

use super::{
    api::{answered, call, read},
    declared,
    pull::{content, failed, unread},
};
use crate::{
    declaration::{Declaration, map},
    entity::{EntityKind, ExternalId},
    http_call::{ApiRequest, ApiResponse, Fault},
    platform::{
        lists::{Listed, Lists},
        mapping::MAX_ENTRIES,
        pull::Access,
    },
    platforms::custom::Custom,
    timestamp::Timestamp,
    transfer::{Listing, Shown, Transfer},
};

/// The longest cursor, in bytes.
const MAX_CURSOR_BYTES: usize = 1_024;

fn entity_of(listing: &Listing) -> Result<EntityKind, Fault> {
    let kind = serde_json::from_value(listing.what.clone().into());
    kind.map_err(|_| Fault::Unreadable(format!("there is no list {:?}", listing.what)))
}

fn poll_of(declaration: &Declaration, entity: EntityKind) -> Result<&map::PollCall, Fault> {
    let call = declaration.poll.get(&entity);
    call.ok_or_else(|| Fault::Unreadable(format!("the declaration no longer lists {entity}")))
}

impl Lists for Custom {
    fn list(&self, access: &Access<'_>, listing: &Listing) -> Result<ApiRequest, Fault> {
        let declaration = declared(access.settings).map_err(unread)?;
        let poll = poll_of(&declaration, entity_of(listing)?)?;
        match (&listing.cursor, &poll.then) {
            (Some(cursor), Some(then)) => call(&declaration, access, then, "", cursor),
            _ => call(&declaration, access, &poll.first, "", ""),
        }
    }

    fn read_page(
        &self,
        access: &Access<'_>,
        listing: &Listing,
        response: &ApiResponse,
        at: Timestamp,
    ) -> Result<Listed, Fault> {
        if !response.is_success() {
            return Err(response.fault(at));
        }
        let declaration = declared(access.settings).map_err(unread)?;
        let entity = entity_of(listing)?;
        let poll = poll_of(&declaration, entity)?;
        let (body, delivery) = (read(response)?, answered(response));
        let place = |name: &str| format!("poll.{entity}.{name}");
        let entries = poll.entries.run(body.clone(), delivery.clone(), MAX_ENTRIES + 1);
        let entries = entries.map_err(|error| failed(&place("entries"), &error))?;
        let mut found = Vec::with_capacity(entries.len());
        for entry in entries {
            let given = match &poll.id {
                None => Some(entry.clone()),
                Some(id) => id.one(entry.clone(), delivery.clone()).map_err(|error| failed(&place("id"), &error))?,
            };
            let id: Option<ExternalId> = given.as_ref().and_then(map::id).and_then(|id| id.parse().ok());
            let id = id.ok_or_else(|| Fault::Unreadable(format!("{}: an entry without an id", place("entries"))))?;
            let mut transfer = Transfer::new(entity, id.clone(), format!("listed as {entity}"));
            if let (true, Some(pull)) = (poll.whole, declaration.pull.get(&entity)) {
                // An entry that cannot be read is pulled, and its message tells why.
                transfer.shown = content(pull, entity, &id, &entry, &delivery).ok().map(|shown| Shown::whole(&shown));
            }
            found.push(transfer);
        }
        let cursor = match &poll.next {
            None => None,
            Some(next) => next.one(body, delivery).map_err(|error| failed(&place("next"), &error))?,
        };
        let cursor = match cursor.as_ref().map(map::id) {
            None => None,
            Some(Some(cursor)) if (1..=MAX_CURSOR_BYTES).contains(&cursor.len()) => Some(cursor.into_owned()),
            Some(_) => return Err(Fault::Unreadable(format!("{}: makes no cursor", place("next")))),
        };
        if cursor.is_some() && cursor == listing.cursor {
            return Err(Fault::Unreadable(format!("{}: leads to the same page again", place("next"))));
        }
        let next = cursor.map(|cursor| Listing::new(listing.what.clone(), Some(cursor)));
        Ok(Listed { found, next })
    }

    /// Returns the list of all entities of a kind. A declaration has no lists of changes.
    fn poll(&self, entity: EntityKind, since: Option<Timestamp>) -> Option<Listing> {
        since.is_none().then(|| Listing::new(entity.as_str(), None))
    }

    fn polls(&self, settings: &Map<String, Value>, entity: EntityKind) -> bool {
        declared(settings).is_ok_and(|declaration| declaration.poll.contains_key(&entity))
    }
}
