//! The reading of a platform's lists, which deliveries point to and polling reads.

use serde_json::{Map, Value};

use crate::{
    entity::EntityKind,
    http_call::{ApiRequest, ApiResponse, Fault},
    platform::{mapping::MAX_ENTRIES, pull::Access},
    timestamp::Timestamp,
    transfer::{Listing, Transfer},
};
/// One page of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The entries.
    pub found: Vec<Transfer>,
    /// The rest of this list, or the next one.
    pub next: Option<Listing>,
}

/// A platform that has lists.
pub trait Lists: Sync {
    /// Builds the call for the next page of a list.
    ///
    /// # Errors
    /// As [`Pull::pull`](super::pull::Pull::pull).
    fn list(&self, _access: &Access<'_>, listing: &Listing) -> Result<ApiRequest, Fault> {
        Err(Fault::Unreadable(format!("there is no list {:?}", listing.what)))
    }

    /// Reads the answer to [`Lists::list`].
    ///
    /// # Errors
    /// As [`Pull::pull`](super::pull::Pull::pull).
    fn read_page(
        &self,
        _access: &Access<'_>,
        listing: &Listing,
        _response: &ApiResponse,
        _at: Timestamp,
    ) -> Result<Listed, Fault> {
        Err(Fault::Unreadable(format!("there is no list {:?}", listing.what)))
    }

    /// Returns the number of entries that a page of a list was asked for. A page with more is refused.
    fn page_size(&self, _listing: &Listing) -> usize {
        MAX_ENTRIES
    }

    /// Returns the list for polling an entity: all, or those that have changed since a time. Its order skips no entry
    /// when others come, go or change meanwhile, but may repeat one.
    fn poll(&self, _entity: EntityKind, _since: Option<Timestamp>) -> Option<Listing> {
        None
    }

    /// Returns whether an entity can be polled for a connection with these settings. The platform's declaration of the
    /// entity says how.
    fn polls(&self, _settings: &Map<String, Value>, entity: EntityKind) -> bool {
        self.poll(entity, None).is_some()
    }

    /// Returns the time from which a list has changes, or `None` for a list of everything, and where [`Lists::rest_of`]
    /// returns the whole list.
    fn since(&self, _listing: &Listing) -> Option<Timestamp> {
        None
    }

    /// Returns the unread rest of a new list, given that earlier readings found every change until a time.
    fn rest_of(&self, listing: Listing, _found_until: Timestamp) -> Listing {
        listing
    }

    /// Builds the call that counts an entity, for entities that are kept as wholes: children are not counted. Returns
    /// `None` where the platform has no call that is as cheap.
    fn count(&self, _access: &Access<'_>, _entity: EntityKind) -> Option<Result<ApiRequest, Fault>> {
        None
    }

    /// Reads the answer to [`Lists::count`].
    fn read_count(&self, _response: &ApiResponse) -> Option<u64> {
        None
    }
}

/// Reads a page of a list: the only way to [`Lists::read_page`] from outside of a platform's folder.
///
/// # Errors
/// The [`Fault`] that the answer means, also for a page with more entries than were asked for.
pub fn read_page(
    lists: &dyn Lists,
    access: &Access<'_>,
    listing: &Listing,
    response: &ApiResponse,
    at: Timestamp,
) -> Result<Listed, Fault> {
    let listed = lists.read_page(access, listing, response, at)?;
    let most = lists.page_size(listing).min(MAX_ENTRIES);
    if listed.found.len() > most {
        return Err(Fault::Unreadable(format!("a page of more than the {most} entries that were asked for")));
    }
    Ok(listed)
}
