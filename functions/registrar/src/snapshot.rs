//! The snapshot of a connection: the registrar orders the processor to tell readers of every entity.

use cloud::queue::Inbox;
use commerce::{
    change_event::{SNAPSHOT_PER_SECOND, Snapshot},
    entity::EntityKind,
    envelope::Sealed,
    key::ConnectionKey,
    platform::Platform,
};

use crate::{
    Parts, Registrar,
    admin::{entity, members},
    answers::SnapshotBegun,
    problem::Problem,
};

impl<P: Parts> Registrar<P> {
    /// Begins a snapshot of all entities of a connection, or of one kind.
    pub(crate) async fn begin_snapshot(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        body: &[u8],
    ) -> Result<SnapshotBegun, Problem> {
        let mut members = members(body, &["entity"])?;
        let kinds: Vec<EntityKind> = platform.mapping.processors().iter().map(|declared| declared.entity).collect();
        let entity = entity(&mut members, &kinds)?;
        let (_, connection) = self.known(key).await?;
        if !self.tells_of_changes {
            let why = "this stack has no bus for change events; deploy it with ChangeEvents=ids or full";
            return Err(Problem::Conflict(why.into()));
        }
        let now = (self.clock)();
        let snapshot = Snapshot { begun: now, entity, after: None, told: 0 };
        self.edges.inbox.send(&Sealed::snapshot(key, &connection, snapshot, now), 0).await?;
        Ok(SnapshotBegun { entity, per_second: SNAPSHOT_PER_SECOND })
    }
}
