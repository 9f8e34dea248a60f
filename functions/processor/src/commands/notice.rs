//! The command to keep a platform's report about a connection itself, and to have the connection checked.

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

/// The number of attempts to write a notice that others write, too.
const TRIES: u32 = 5;

impl<P: Parts> Processor<P> {
    /// Reports errors that a webhook delivers to the registrar, but not each of them. A lost report does no harm.
    pub(super) async fn complain(&self, key: &ConnectionKey, notice: &Notice) {
        if self.throttle.take(key, &notice.kind, (self.clock)())
            && let Err(ended) = self.keep_notice(key, notice).await
        {
            cloud::telemetry::warn("complaint-not-told", &format!("{key}: {:?}", ended.disposition));
        }
    }

    /// Keeps a notice for the registrar, and queues a check. Of one kind, the notice that was received last is kept.
    pub(super) async fn keep_notice(&self, key: &ConnectionKey, notice: &Notice) -> Result<Outcome, Ended> {
        let name = format!("{NOTICE}{}", notice.kind);
        let terms = Terms::once((self.clock)(), NOTICE_SECONDS).tries(TRIES);
        let mut is_older = false;
        let kept = update_json(&self.edges.notes, key, &name, terms, |known: Option<Notice>| {
            is_older = known.as_ref().is_some_and(|known| known.received > notice.received);
            // The notice was kept, but the check was perhaps not queued.
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
