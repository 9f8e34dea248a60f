//! The command to pull known entities whose ids begin in a given way: only the platform's own answer shows that they
//! are gone.

use cloud::state::Entities;
use commerce::{
    envelope::{Content, Known},
    outcome::Outcome,
    transfer::Transfer,
};

use super::{KEY_PAGE, MAX_KEY_PAGES};
use crate::{Parts, Processor, disposition::Ended, parse::CommandMessage};

impl<P: Parts> Processor<P> {
    pub(super) async fn pull_known(&self, message: &CommandMessage, known: &Known) -> Result<Outcome, Ended> {
        let key = &message.envelope.key;
        let reason = format!("known, and concerned by {}", message.envelope.scope);
        let mut prefixes = known.prefixes.iter();
        let (mut prefix, mut after, mut parts) = (prefixes.next(), known.after.clone(), 0);
        for _ in 0..MAX_KEY_PAGES {
            let Some(begins) = prefix else { return Ok(Outcome::Split(parts)) };
            // The keys are sorted, so those with the same beginning follow each other.
            let sort = format!("{}#{begins}", known.entity);
            let from = after.take().unwrap_or_else(|| sort.clone());
            let page = self.edges.entities.keys(key, Some(known.entity), Some(&from), KEY_PAGE).await?;
            let further = page.keys.last().is_none_or(|(entity, _)| entity.sort().starts_with(&sort));
            let found = page.keys.into_iter().filter(|(entity, alive)| *alive && entity.sort().starts_with(&sort));
            let found = found.map(|(entity, _)| Transfer::new(entity.kind, entity.id, &reason));
            parts += self.queue(message, found.map(Content::Transfer)).await?;
            after = page.next.filter(|_| further);
            if after.is_none() {
                prefix = prefixes.next();
            }
        }
        let Some(first) = prefix else { return Ok(Outcome::Split(parts)) };
        let prefixes = std::iter::once(first).chain(prefixes).cloned().collect();
        self.go_on(message, Content::Known(Known { prefixes, after, ..known.clone() }), parts).await
    }
}
