//! Fetching entities: in full after a connection is made, what has changed on a schedule, what was missed.

use cloud::connections::Loaded;
use commerce::{
    connection::{Connection, ConnectionKey, Fetch},
    entity::EntityKind,
    platforms::Platform,
    stamp::Stamp,
};

use crate::{Parts, Registrar, problem::Problem};

impl<P: Parts> Registrar<P> {
    /// Begins to fetch an entity, if nothing that covers it is under way: for [`Fetch::Changed`] all that has changed since the cursor,
    /// or since `since` if that is earlier.
    pub(crate) async fn begin_poll(
        &self,
        _platform: &Platform,
        _key: &ConnectionKey,
        _entity: EntityKind,
        _fetch: Fetch,
        _since: Option<Stamp>,
    ) -> Result<(), Problem> {
        Ok(())
    }

    /// Begins what is due: the first import, the next poll, the next sweep of each entity; and goes on with what has stopped.
    pub(crate) async fn begin_due_polls(
        &self,
        _platform: &Platform,
        _key: &ConnectionKey,
        _connection: &Connection,
        _loaded: &Loaded,
    ) -> Result<(), Problem> {
        Ok(())
    }

    /// Fetches the next pages of what is under way.
    pub(crate) async fn poll(
        &self,
        _platform: &Platform,
        _key: &ConnectionKey,
        _entity: EntityKind,
    ) -> Result<(), Problem> {
        Ok(())
    }
}
