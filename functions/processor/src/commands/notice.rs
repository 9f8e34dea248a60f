//! Keeps what a platform tells of a connection itself, and tells the registrar.

use cloud::{
    coordination::{Terms, Update, update_json},
    queue::Jobs,
};
use commerce::{
    job::{Job, Trigger},
    key::ConnectionKey,
    outcome::{Outcome, Reason, Rule},
    platform::notice::{NOTICE, NOTICE_SECONDS, Notice},
};

use crate::{Parts, Processor, disposition::Ended};

/// How often a notice is written that others write.
const TRIES: u32 = 5;

impl<P: Parts> Processor<P> {
    /// Tells the registrar of errors that a webhook delivers; not of each of them, and no harm is done if it is not told.
    pub(super) async fn complain(&self, key: &ConnectionKey, notice: &Notice) {
        if self.throttle.take(key, &notice.kind, (self.clock)())
            && let Err(ended) = self.keep_notice(key, notice).await
        {
            cloud::telemetry::warn("complaint-not-told", &format!("{key}: {:?}", ended.disposition));
        }
    }

    /// Keeps a notice for the registrar, and tells it; of one kind, the one that was received last.
    pub(super) async fn keep_notice(&self, key: &ConnectionKey, notice: &Notice) -> Result<Outcome, Ended> {
        let name = format!("{NOTICE}{}", notice.kind);
        let terms = Terms::once((self.clock)(), NOTICE_SECONDS).tries(TRIES);
        let mut is_older = false;
        let kept = update_json(&self.edges.notes, key, &name, terms, |known: Option<Notice>| {
            is_older = known.as_ref().is_some_and(|known| known.received > notice.received);
            // It was kept, but perhaps not told.
            let is_kept = known.is_some_and(|known| known.received >= notice.received);
            (!is_kept).then(|| notice.clone())
        });
        match kept.await? {
            Update::Contended => Err(Ended::retry(Reason::Contention, "the notice was written by others each time")),
            Update::Left if is_older => Ok(Outcome::Ignored(Rule::NOTED)),
            Update::Left | Update::Written => {
                self.edges.jobs.send_jobs(&[(Job::check(key, Trigger::Told), 0)]).await?;
                Ok(Outcome::Ignored(Rule::NOTED))
            }
        }
    }
}
