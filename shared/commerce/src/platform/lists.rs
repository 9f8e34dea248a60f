//! Going through the lists of a platform: what a delivery points to, and what is polled.

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
    /// What is in it.
    pub found: Vec<Transfer>,
    /// Where it goes on, in this list or in the next one.
    pub next: Option<Listing>,
}

/// Platforms that have lists.
pub trait Lists: Sync {
    /// The call for the next page of a list.
    ///
    /// # Errors
    /// As [`Mapping::pull`].
    fn list(&self, _access: &Access<'_>, listing: &Listing) -> Result<ApiRequest, Fault> {
        Err(Fault::Unreadable(format!("there is no list {:?}", listing.what)))
    }

    /// Reads the answer to [`Mapping::list`].
    ///
    /// # Errors
    /// As [`Mapping::pull`].
    fn read_page(
        &self,
        _access: &Access<'_>,
        listing: &Listing,
        _response: &ApiResponse,
        _at: Timestamp,
    ) -> Result<Listed, Fault> {
        Err(Fault::Unreadable(format!("there is no list {:?}", listing.what)))
    }

    /// How many entries a page of a list was asked for: one that has more is none.
    fn page_size(&self, _listing: &Listing) -> usize {
        MAX_ENTRIES
    }

    /// The list of an entity for polling it: of those that have changed since a time, or of all of them. Its entries come in an
    /// order in which none is passed over when others come, go or change meanwhile; one may come twice.
    fn poll(&self, _entity: EntityKind, _since: Option<Timestamp>) -> Option<Listing> {
        None
    }

    /// A list that is begun, where all that had changed until then was found before: what is left of it.
    fn rest_of(&self, listing: Listing, _found_until: Timestamp) -> Listing {
        listing
    }

    /// The call that tells how many there are of an entity, of those that are kept as wholes: children are not counted. None where
    /// the platform cannot be asked so cheaply.
    fn count(&self, _access: &Access<'_>, _entity: EntityKind) -> Option<Result<ApiRequest, Fault>> {
        None
    }

    /// Reads the answer to [`Mapping::count`].
    fn read_count(&self, _response: &ApiResponse) -> Option<u64> {
        None
    }
}

/// Reads a page of a list: the only way to [`Mapping::listed`] from outside of a platform's folder.
///
/// # Errors
/// The [`Fault`] that the answer means, also for a page of more than was asked for.
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
