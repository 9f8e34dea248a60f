//! The calls to platforms: for one entity, call after call, and for a page of a list. Every call goes to a host that
//! the platform may have, and out of the connection's budget.

use cloud::{
    outbound::{MAX_ANSWER_BYTES, Outbound},
    queue::Jobs,
    telemetry,
};
use commerce::{
    connection::Connection,
    entity::EntityKey,
    http_call::{ApiRequest, ApiResponse, Fault},
    job::{Job, Trigger},
    key::{ConnectionKey, Generation},
    platform::{
        Platform,
        mapping::Mapped,
        pull::{Access, Next, Wanted, budget},
    },
    request::{MAX_VALUES, values, weight},
    timestamp::Timestamp,
};

use crate::{Parts, Processor, candidate::Before, places::Place};

/// The most calls for one entity: more than any needs.
const MAX_CALLS: usize = 40;

/// The most bytes of answers for one entity.
const MAX_BYTES: usize = MAX_ANSWER_BYTES;

/// The throttle's name for reports that credentials are refused.
const REFUSED: &str = "refused";

/// The result of a pull.
pub(crate) struct Pulled {
    /// The meaning of the answers.
    pub mapped: Mapped,
    /// The answers, in the order of the calls.
    pub answers: Vec<ApiResponse>,
    /// The instant before the first call, and later than all that was known before it.
    pub at: Timestamp,
}

impl<P: Parts> Processor<P> {
    /// Makes one call. Its answer has room for as long as the place is held.
    pub(crate) async fn call(
        &self,
        place: &Place<'_>,
        platform: &Platform,
        key: &ConnectionKey,
        connection: &Connection,
        request: ApiRequest,
    ) -> Result<ApiResponse, Fault> {
        platform.hosts.check(&connection.site, &request, self.loopback)?;
        self.leases
            .take(&self.edges.notes, key, connection.generation, budget(platform, connection), (self.clock)())
            .await?;
        let reading = place.call().await;
        let response = self.edges.outbound.call(request).await?;
        place.hold(weight(&response.body)).await;
        drop(reading);
        Ok(response)
    }

    /// Pauses the connection's calls in all environments when the platform asks to wait, and reports to the registrar
    /// when its last answer refuses the credentials. Returns `result`.
    pub(crate) async fn heed<T>(
        &self,
        key: &ConnectionKey,
        generation: Generation,
        answer: Option<&ApiResponse>,
        result: Result<T, Fault>,
    ) -> Result<T, Fault> {
        match &result {
            Err(Fault::Throttled { seconds }) => {
                self.leases.pause(&self.edges.notes, key, generation, *seconds, (self.clock)()).await;
            }
            Err(Fault::Connection(_)) if answer.is_some_and(|answer| matches!(answer.status, 401 | 403)) => {
                self.tell_refused(key).await;
            }
            _ => {}
        }
        result
    }

    /// Lets the connection's calls rest where the platform's last answer says that little is left of what it limits. A
    /// pull that is under way ends first.
    pub(crate) async fn rest(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        generation: Generation,
        answer: Option<&ApiResponse>,
    ) {
        if let Some(seconds) = platform.pull.zip(answer).and_then(|(pull, answer)| pull.rest(answer)) {
            self.leases.pause(&self.edges.notes, key, generation, seconds, (self.clock)()).await;
        }
    }

    /// Queues a check of a connection whose credentials are refused, but not for every refused call.
    pub(crate) async fn tell_refused(&self, key: &ConnectionKey) {
        if !self.throttle.take(key, REFUSED, (self.clock)()) {
            return;
        }
        let job = Job::check(key, Trigger::Refused);
        if let Err(error) = self.edges.jobs.send_jobs(&[(job, 0)]).await {
            telemetry::warn("refusal-not-told", &format!("{key}: {error}"));
        }
    }

    /// Asks the platform for an entity as it is now.
    pub(crate) async fn pull(
        &self,
        place: &Place<'_>,
        platform: &Platform,
        key: &EntityKey,
        connection: &Connection,
        before: Before<'_>,
    ) -> Result<Pulled, Fault> {
        let puller = platform.pull()?;
        let credentials = self.credentials(&key.connection, connection).await?;
        let access = Access { site: &connection.site, credentials: &credentials, settings: &connection.settings };
        // The instant before the first call, because a delete during a call is later than its answer. What is known by
        // then is older, even if another clock that is ahead has dated it.
        let at = (self.clock)().max(Timestamp::from_micros(before.after.micros().saturating_add(1)));
        let wanted = Wanted { access, entity: key.kind, id: &key.id, at };
        let mut answers = Vec::new();
        loop {
            let next = puller.pull(&wanted, &answers);
            match self.heed(&key.connection, connection.generation, answers.last(), next).await? {
                Next::Done(mapped) => {
                    self.rest(platform, &key.connection, connection.generation, answers.last()).await;
                    return Ok(Pulled { mapped, answers, at });
                }
                Next::Ask(_)
                    if !before.known
                        && let Some(rule) = puller.only_if_known(&wanted, &answers) =>
                {
                    return Ok(Pulled { mapped: Mapped::Ignored(rule), answers, at });
                }
                Next::Ask(_) if answers.len() == MAX_CALLS => {
                    return Err(Fault::TooLarge(format!("an entity of more than {MAX_CALLS} calls")));
                }
                Next::Ask(request) => {
                    answers.push(self.call(place, platform, &key.connection, connection, request).await?);
                    fits(&answers)?;
                }
            }
        }
    }
}

/// Checks that an entity is within the limits, by the answers that it is read from.
///
/// # Errors
/// [`Fault::TooLarge`].
pub(crate) fn fits(answers: &[ApiResponse]) -> Result<(), Fault> {
    if answers.iter().map(|answer| answer.body.len()).sum::<usize>() > MAX_BYTES {
        return Err(Fault::TooLarge(format!("an entity of more than {MAX_BYTES} bytes")));
    }
    if answers.iter().map(|answer| values(&answer.body)).sum::<usize>() > MAX_VALUES {
        return Err(Fault::TooLarge("it holds more values than any entity".into()));
    }
    Ok(())
}
