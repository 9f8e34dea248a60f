//! The command to project deleted entities again, by the connection's present policies.

use cloud::state::Entities;
use commerce::{
    connection::Connection,
    envelope::{Content, Reprojection},
    item::Projection,
    outcome::{Outcome, Rule},
    platform::mapping::deleted_fields,
};

use crate::{Parts, Processor, disposition::Ended, parse::CommandMessage};

/// The number of whole items that are read at once.
const REPROJECTED_AT_ONCE: u32 = 25;
/// The number of pages of items that one message reads. The rest becomes a message of its own.
const REPROJECTED_PAGES: usize = 20;

impl<P: Parts> Processor<P> {
    pub(super) async fn reproject(
        &self,
        message: &CommandMessage,
        reprojection: &Reprojection,
    ) -> Result<Outcome, Ended> {
        let (key, kind) = (&message.envelope.key, reprojection.entity);
        let mut after = reprojection.after.clone();
        for _ in 0..REPROJECTED_PAGES {
            let known = self.edges.entities.keys(key, Some(kind), after.as_deref(), REPROJECTED_AT_ONCE).await?;
            let keys: Vec<_> = known.keys.into_iter().map(|(entity, _)| entity).collect();
            let read = self.edges.entities.read(&keys, std::slice::from_ref(key)).await?;
            let Some(connection) = read.connections.get(key) else { break };
            for (entity, stored) in read.items {
                let Some((item, _)) = stored.open() else { continue };
                self.show_again(message, connection, &entity, &item).await?;
            }
            after = known.next;
            if after.is_none() {
                break;
            }
        }
        if after.is_none() {
            return Ok(Outcome::Ignored(Rule::REPROJECTED));
        }
        self.go_on(message, Content::Reproject(Reprojection { after, ..reprojection.clone() }), 0).await
    }

    async fn show_again(
        &self,
        message: &CommandMessage,
        connection: &Connection,
        entity: &commerce::entity::EntityKey,
        item: &commerce::item::Item,
    ) -> Result<(), Ended> {
        let state = item.state();
        if !state.is_deleted() {
            return Ok(());
        }
        let (policy, deleted_fields) = (connection.delete_policy(entity.kind), deleted_fields());
        let writer = message.writer((self.clock)());
        let projection = Projection::new(policy, &deleted_fields).redacted(item.redacted);
        let Ok(next) = projection.item(entity, &state, Some(item), writer) else { return Ok(()) };
        if !next.is_as(item) {
            // Another writer used the same policy.
            self.edges.entities.put(&next, Some(&item.rev)).await?;
        }
        Ok(())
    }
}
