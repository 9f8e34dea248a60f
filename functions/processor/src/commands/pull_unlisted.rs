//! The command to pull entities that are here and that a full sync did not list: only the platform's own answer shows
//! that they are gone.

use std::collections::BTreeMap;

use cloud::{
    coordination::{Coordination, Note},
    state::Entities,
};
use commerce::{
    drift::{NOT_IN_SWEEP, SweptPage, all_swept, swept_notes},
    envelope::{Content, Swept},
    outcome::{Outcome, Rule},
    transfer::Transfer,
};

use super::{KEY_PAGE, MAX_KEY_PAGES};
use crate::{Parts, Processor, disposition::Ended, parse::CommandMessage};

impl<P: Parts> Processor<P> {
    pub(super) async fn pull_unlisted(&self, message: &CommandMessage, swept: &Swept) -> Result<Outcome, Ended> {
        let key = &message.envelope.key;
        let prefix = swept_notes(swept.entity, swept.begun);
        let notes = self.edges.notes.notes(key, &prefix).await?;
        let now = (self.clock)();
        let read = |(name, note): (String, Note)| {
            let page: SweptPage = serde_json::from_str(&note.body).ok().filter(|_| note.is_live(now))?;
            Some((name.strip_prefix(&prefix)?.parse().ok()?, page))
        };
        let pages: BTreeMap<u32, SweptPage> = notes.into_iter().filter_map(read).collect();
        let Some(listed) = all_swept(pages) else { return Ok(Outcome::Ignored(Rule::SWEEP_INCOMPLETE)) };
        let (mut parts, mut after) = (0, swept.after.clone());
        for _ in 0..MAX_KEY_PAGES {
            let known = self.edges.entities.keys(key, Some(swept.entity), after.as_deref(), KEY_PAGE).await?;
            let gone = known.keys.into_iter().filter(|(entity, alive)| *alive && !listed.contains(&entity.id));
            let gone = gone.map(|(entity, _)| Transfer::new(entity.kind, entity.id, NOT_IN_SWEEP));
            parts += self.queue(message, gone.map(Content::Transfer)).await?;
            after = known.next;
            if after.is_none() {
                return Ok(Outcome::Split(parts));
            }
        }
        self.go_on(message, Content::Swept(Swept { after, ..swept.clone() }), parts).await
    }
}
