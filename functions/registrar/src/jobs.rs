//! The work that comes by the schedule and by the registrar's own queue.

use cloud::{connections::Connections, queue::Jobs, telemetry};
use commerce::{
    http_call::Fault,
    job::{Job, SHARDS, Trigger},
    key::ConnectionKey,
    platform::{Platform, find},
    timestamp::Timestamp,
};
use serde_json::{Value, json};

use crate::{Parts, Registrar, problem::Problem};

/// The number of connections on a page of the sweep.
pub(crate) const PAGE: u32 = 100;
/// The value of [`PAGE`], in the type of delays.
const SPREAD_PAGE: i32 = 100;
/// The time over which the checks of a full page are spread, in seconds, so that not all stores are called at once. The
/// checks of a shorter page are spread over less.
const SPREAD_SECONDS: i32 = 900;
/// The delay of the job that does what a request, or connecting, did not get done, in seconds.
pub(crate) const LATER: i32 = 60;
/// The most times that a check is put off. After that, the next sweep looks again.
pub(crate) const MAX_TRIES: u8 = 5;
/// The attempt at which a failing message goes to the dead-letter queue: the `maxReceiveCount` of the queue in the
/// template.
pub const MAX_ATTEMPTS: u32 = 5;

/// Returns the lines to log about a job that failed at its `attempts`th attempt. At the last attempt, they are an error
/// and the metric that an alarm watches. Before that, one line says that the job comes back.
pub fn failed_lines(text: &str, problem: &Problem, attempts: u32, now: Timestamp) -> Vec<Value> {
    let job = Job::parse(text);
    let (event, level) = if attempts < MAX_ATTEMPTS { ("job-comes-back", "WARN") } else { ("job-failed", "ERROR") };
    let said = json!({ "level": level, "event": event, "job": job, "attempts": attempts, "detail": problem.for_log() });
    let platform = match &job {
        Some(
            Job::Check { key, .. }
            | Job::Poll { key, .. }
            | Job::Sync { key, .. }
            | Job::Verify { key, .. }
            | Job::Redact { key, .. },
        ) => key.platform.as_str(),
        Some(Job::Sweep { .. } | Job::VerifyAll { .. } | Job::Rotate) | None => "all",
    };
    let counted = (attempts >= MAX_ATTEMPTS).then(|| telemetry::count("FailedJobs", platform, 1, now));
    [said].into_iter().chain(counted).collect()
}

impl<P: Parts> Registrar<P> {
    /// Begins a sweep over all connections, with a job for each shard of their list.
    ///
    /// # Errors
    /// [`Problem`] when the jobs cannot be queued; the schedule tries again.
    pub async fn sweep(&self) -> Result<(), Problem> {
        self.check_all().await?;
        telemetry::emit(&telemetry::count("Sweeps", "all", 1, (self.clock)()));
        // The rotation has a job of its own, because it may have to look at all connections.
        Ok(self.edges.jobs.send_jobs(&[(Job::Rotate, 0)]).await?)
    }

    /// Queues a sweep over each shard of the list of all connections.
    pub(crate) async fn check_all(&self) -> Result<(), Problem> {
        let begun = Some((self.clock)());
        let jobs: Vec<_> = (0..SHARDS).map(|shard| (Job::Sweep { shard, after: None, begun }, 0)).collect();
        Ok(self.edges.jobs.send_jobs(&jobs).await?)
    }

    /// Runs one message of the registrar's own queue.
    ///
    /// # Errors
    /// [`Problem`] when the message has to come back.
    pub async fn run(&self, text: &str) -> Result<(), Problem> {
        let Some(job) = Job::parse(text) else {
            // Another release may know the job. The work follows from the tables, so nothing is lost.
            telemetry::error("unknown-job", "a message of the registrar's queue cannot be read");
            return Ok(());
        };
        if let Err(problem) = self.renew_before(&job).await {
            return match problem {
                Problem::Conflict(_) => Ok(self.edges.jobs.send_jobs(&[(put_off(job), 5)]).await?),
                problem => Err(problem),
            };
        }
        let ran = match &job {
            Job::Sweep { shard, after, begun } => self.sweep_page(*shard, after.as_deref(), *begun).await,
            Job::Check { key, why, tries, since } => match self.platform(key) {
                Some(platform) => self.check(platform, key, *why, *tries, *since).await,
                None => Ok(()),
            },
            Job::Poll { key, entity } => match self.platform(key) {
                Some(platform) => self.poll(platform, key, *entity).await,
                None => Ok(()),
            },
            Job::Sync { key, entity } => match self.platform(key) {
                Some(platform) => self.sync(platform, key, *entity).await,
                None => Ok(()),
            },
            Job::VerifyAll { shard, after, sample } => self.verify_page(*shard, after.as_deref(), *sample).await,
            Job::Verify { key, sample } => match self.platform(key) {
                Some(platform) => self.verify_sample(platform, key, *sample).await,
                None => Ok(()),
            },
            Job::Redact { key, persons } => self.redact_on_demand(key, persons).await,
            Job::Rotate => {
                if let Err(problem) = self.advance_rotation().await {
                    telemetry::error("rotation", &problem.for_log());
                }
                Ok(())
            }
        };
        match ran {
            // The platform says when to come back; the function is not held until then.
            Err(Problem::Platform(Fault::Throttled { seconds })) => {
                let delay = i32::try_from(seconds.clamp(1, 900)).unwrap_or(900);
                Ok(self.edges.jobs.send_jobs(&[(put_off(job), delay)]).await?)
            }
            // A connection that another request has changed meanwhile is looked at again.
            Err(Problem::Conflict(_)) if !matches!(job, Job::Check { tries: MAX_TRIES.., .. }) => {
                Ok(self.edges.jobs.send_jobs(&[(put_off(job), 5)]).await?)
            }
            // Nobody waits for an answer, and the next sweep looks again.
            Err(
                problem @ (Problem::Refused(_) | Problem::NotFound(_) | Problem::Settings(_) | Problem::Conflict(_)),
            ) => {
                telemetry::emit(
                    &json!({ "level": "WARN", "event": "job-refused", "job": job, "why": problem.to_string() }),
                );
                Ok(())
            }
            other => other,
        }
    }

    /// Renews the credentials that a job is about to use. If the platform refuses that, the job goes on without, and
    /// shows what is wrong.
    async fn renew_before(&self, job: &Job) -> Result<(), Problem> {
        let (Job::Check { key, .. } | Job::Poll { key, .. } | Job::Sync { key, .. } | Job::Verify { key, .. }) = job
        else {
            return Ok(());
        };
        let Some(platform) = self.platform(key) else { return Ok(()) };
        match self.renew_if_due(platform, key).await {
            Err(Problem::Refused(fault) | Problem::Platform(fault)) => {
                telemetry::warn("credentials-not-renewed", &format!("{key}: {fault}"));
                Ok(())
            }
            renewed => renewed,
        }
    }

    fn platform(&self, key: &ConnectionKey) -> Option<&'static Platform> {
        find(self.platforms, &key.platform)
    }

    async fn sweep_page(&self, shard: u32, after: Option<&str>, begun: Option<Timestamp>) -> Result<(), Problem> {
        let page = self.edges.connections.list(shard, None, after, PAGE).await?;
        let checks = page.entries.into_iter().zip(0..).map(|(entry, place): (_, i32)| {
            let check = Job::Check { key: entry.key, why: Trigger::Schedule, tries: 0, since: begun };
            (check, spread(place))
        });
        let mut jobs: Vec<_> = checks.collect();
        if let Some(after) = page.next {
            jobs.push((Job::Sweep { shard, after: Some(after), begun }, 0));
        }
        Ok(self.edges.jobs.send_jobs(&jobs).await?)
    }
}

/// Returns the delay of the job of a place on a page of connections, in seconds.
pub(crate) fn spread(place: i32) -> i32 {
    place * SPREAD_SECONDS / SPREAD_PAGE
}

/// Returns the job in the form in which it comes back later. A check counts how often it was put off.
fn put_off(job: Job) -> Job {
    match job {
        Job::Check { key, why, tries, since } => Job::Check { key, why, tries: tries.saturating_add(1), since },
        job => job,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_fails_for_the_last_time_is_counted() {
        let now = Timestamp::from_millis(7);
        let job = r#"{"job":"check","platform":"p","connection":"c","why":"schedule"}"#;
        let problem = Problem::Conflict("another was quicker".into());
        for attempts in 1..MAX_ATTEMPTS {
            let lines = failed_lines(job, &problem, attempts, now);
            assert_eq!((lines.len(), &lines[0]["event"]), (1, &json!("job-comes-back")));
        }
        let lines = failed_lines(job, &problem, MAX_ATTEMPTS, now);
        assert_eq!((&lines[0]["event"], &lines[1]["FailedJobs"]), (&json!("job-failed"), &json!(1)));
        assert_eq!(lines[1]["platform"], "p");
        // A job that cannot even be read is counted, too.
        assert_eq!(failed_lines("{", &problem, MAX_ATTEMPTS, now)[1]["FailedJobs"], 1);
    }
}
