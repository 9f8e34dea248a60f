//! The command to verify a connection. Each message takes a step, adds what it found to the report, and queues the next
//! one.

use cloud::{
    coordination::{Terms, Update, update_json},
    queue::Inbox,
    telemetry,
};
use commerce::{
    connection::Connection,
    envelope::{Content, Sealed},
    key::ConnectionKey,
    outcome::{Outcome, Reason, Rule},
    timestamp::Timestamp,
    verification::{Conclusion, REPORT, REPORT_SECONDS, Report, Verification},
};
use serde_json::json;

use crate::{Parts, Processor, disposition::Ended, parse::CommandMessage, places::Place};

/// The number of attempts to write the report.
const TRIES: u32 = 5;
/// The longest delay of a message, in seconds.
const LONGEST_SECONDS: i64 = 900;

impl<P: Parts> Processor<P> {
    pub(super) async fn verify_on(
        &self,
        message: &CommandMessage,
        verification: &Verification,
        connection: &Connection,
        place: &Place<'_>,
    ) -> Result<Outcome, Ended> {
        let key = &message.envelope.key;
        let step = self.verify_at(key, connection, verification, place).await?;
        let (now, mut is_last, mut report) = ((self.clock)(), true, None);
        let terms = Terms::once(now, REPORT_SECONDS).tries(TRIES);
        let noted = update_json(&self.edges.notes, key, REPORT, terms, |before: Option<Report>| {
            is_last = before.as_ref().is_none_or(|before| before.begun <= verification.begun);
            if !is_last {
                return None;
            }
            let before = before.filter(|before| before.begun == verification.begun);
            let mut next = before.unwrap_or_else(|| Report::new(verification));
            // A step that is taken twice counts once.
            if next.steps == verification.steps {
                next.extend(step.found.clone());
                next.steps += 1;
                next.next = step.next.clone();
                next.ended = step.next.is_none().then_some(now);
            }
            next.moved = now;
            report = Some(next.kept());
            report.clone()
        });
        let noted = noted.await?;
        // The next step is the one that counts, even if this message took its step once more and came to another place.
        let next = report.as_ref().and_then(|report| report.next.clone());
        match (noted, next, report) {
            (Update::Contended, ..) => Err(Ended::retry(Reason::Contention, "others wrote the report each time")),
            _ if !is_last => Ok(Outcome::Ignored(Rule::VERIFIED_ANEW)),
            (_, Some(next), _) => {
                let wait = i32::try_from(step.wait_seconds.min(LONGEST_SECONDS)).unwrap_or(0);
                let next = Sealed::part(&message.envelope, Content::Verify(next));
                self.edges.queues.send(&next, wait).await?;
                Ok(Outcome::Split(1))
            }
            (_, None, report) => {
                report.iter().for_each(|report| tell(key, report, now));
                Ok(Outcome::Ignored(Rule::VERIFIED))
            }
        }
    }
}

/// Logs the result of a verification, and counts the drift.
fn tell(key: &ConnectionKey, report: &Report, now: Timestamp) {
    let result = report.conclusion();
    telemetry::emit(&json!({
        "level": if result == Conclusion::Drift { "WARN" } else { "INFO" }, "event": "verified",
        "connection": key.to_string(), "result": result, "checked": report.checked, "different": report.different,
        "unchecked": report.unchecked, "under_way": report.under_way, "queued": report.queued,
    }));
    telemetry::emit(&telemetry::drift(key, report.drift_per_million(), now));
}
