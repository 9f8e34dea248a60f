//! Compares how many entities are known here with how many there are at the platform.

use cloud::{queue::Jobs, state::Entities};
use commerce::{
    envelope::{Content, Counted},
    job::Job,
    outcome::{Outcome, Rule},
};

use super::MAX_KEY_PAGES;
use crate::{Parts, Processor, disposition::Ended, parse::CommandMessage};

impl<P: Parts> Processor<P> {
    /// Counts what is known here and alive. Where that is more than there is at the platform, some are gone without a word, and the
    /// registrar has all of them gone through.
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
