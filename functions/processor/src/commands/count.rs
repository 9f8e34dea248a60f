//! The command to compare the number of entities known here with the platform's.

use cloud::{queue::Jobs, state::Entities};
use commerce::{
    envelope::{Content, Counted},
    job::Job,
    outcome::{Outcome, Rule},
};

use super::MAX_KEY_PAGES;
use crate::{Parts, Processor, disposition::Ended, parse::CommandMessage};

impl<P: Parts> Processor<P> {
    /// Counts the entities that are known here and alive. If there are more than at the platform, some are gone without
    /// a delivery, and the registrar starts a full sync.
    pub(super) async fn count(&self, message: &CommandMessage, counted: &Counted) -> Result<Outcome, Ended> {
        let key = &message.envelope.key;
        let (mut known, mut after) = (counted.known, counted.after.clone());
        for _ in 0..MAX_KEY_PAGES {
            let page = self.edges.entities.count(key, counted.entity, after.as_deref()).await?;
            known += page.alive;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if known <= counted.total && after.is_some() {
            let rest = Counted { known, after, ..counted.clone() };
            return self.go_on(message, Content::Counted(rest), 0).await;
        }
        if known > counted.total {
            let job = Job::Sync { key: key.clone(), entity: counted.entity };
            self.edges.jobs.send_jobs(&[(job, 0)]).await?;
        }
        Ok(Outcome::Ignored(Rule::COUNTED))
    }
}
