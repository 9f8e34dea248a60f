//! The command to tell readers of every entity of a connection, as it is. Each message tells of some of them, and queues
//! the next one for a second later, so that a new reader gets them at a bounded rate.

use cloud::{bus::Bus, queue::Inbox, state::Entities, telemetry};
use commerce::{
    change_event::{SNAPSHOT_PER_SECOND, Snapshot, snapshot_event},
    envelope::{Content, Sealed},
    outcome::{Outcome, Reason, Rule},
};
use serde_json::json;

use crate::{Parts, Processor, disposition::Ended, parse::CommandMessage};

/// The time until the next message, in seconds.
const PAUSE_SECONDS: i32 = 1;

impl<P: Parts> Processor<P> {
    pub(super) async fn snapshot(&self, message: &CommandMessage, snapshot: &Snapshot) -> Result<Outcome, Ended> {
        let key = &message.envelope.key;
        let Some(changes) = &self.edges.changes else {
            let why = "this stack has no bus for change events; deploy it with ChangeEvents=ids or full";
            return Err(Ended::quarantined(Reason::StateUnavailable, why));
        };
        let page =
            self.edges.entities.keys(key, snapshot.entity, snapshot.after.as_deref(), SNAPSHOT_PER_SECOND).await?;
        let keys: Vec<_> = page.keys.into_iter().map(|(entity, _)| entity).collect();
        let mut items = self.edges.entities.read(&keys, &[]).await?.items;
        let stored = keys.iter().filter_map(|entity| Some((entity, items.remove(entity)?.open()?.0)));
        let told = stored.filter_map(|(entity, item)| Some((entity.sort(), snapshot_event(&item, changes.detail)?)));
        let (sorts, events): (Vec<String>, Vec<_>) = told.unzip();
        let count = changes.bus.put(&events).await?;
        let after = if count == events.len() {
            page.next
        } else {
            // The next message begins with the first one that is not on the bus.
            let last = count.checked_sub(1).and_then(|last| sorts.get(last).cloned());
            Some(last.ok_or_else(|| Ended::retry(Reason::StateUnavailable, "the bus takes no event"))?)
        };
        let next = Snapshot { after, told: snapshot.told + count as u64, ..snapshot.clone() };
        if next.after.is_none() {
            telemetry::emit(&json!({
                "level": "INFO", "event": "snapshot-told", "connection": key.to_string(), "entity": next.entity,
                "events": next.told,
            }));
            return Ok(Outcome::Ignored(Rule::SNAPSHOT_TOLD));
        }
        self.edges.queues.send(&Sealed::part(&message.envelope, Content::Snapshot(next)), PAUSE_SECONDS).await?;
        Ok(Outcome::Split(1))
    }
}
