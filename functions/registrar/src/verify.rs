//! The verification of connections: the registrar orders the processor to compare what is here with the store, by
//! request or every night, and shows the report.

use cloud::{
    connections::Connections,
    coordination::{Coordination, Terms, Update, update_json},
    queue::{Inbox, Jobs},
};
use commerce::{
    connection::{Connection, ConnectionStatus},
    entity::EntityKind,
    envelope::Sealed,
    job::{Job, SHARDS},
    key::ConnectionKey,
    platform::{Platform, mapping::imported},
    timestamp::Timestamp,
    verification::{Extent, MAX_SAMPLE, REPORT, REPORT_SECONDS, Report, Verification},
};

use crate::{
    Parts, Registrar,
    admin::{entity, flag, members},
    answers::VerificationReport,
    jobs::{PAGE, spread},
    problem::Problem,
};

/// The number of entities of each kind that are verified unless a request says otherwise.
const SAMPLE: u32 = 20;
/// The time without progress after which a verification counts as lost, in seconds.
const LOST_SECONDS: i64 = 30 * 60;
/// The number of attempts to write the report, which the processor writes, too.
const TRIES: u32 = 5;

impl<P: Parts> Registrar<P> {
    /// Begins to verify a connection as a request says, unless that is under way. Returns the report so far.
    pub(crate) async fn begin_verification(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        body: &[u8],
    ) -> Result<VerificationReport, Problem> {
        let Wanted { extent, repair, kinds } = wanted(platform, body)?;
        let (_, connection) = self.living(key).await?;
        if connection.status == ConnectionStatus::Paused {
            return Err(Problem::Conflict(format!("{key} is paused; POST …/resume first")));
        }
        if connection.credentials.is_none() {
            return Err(Problem::Conflict(format!("{key} has no credentials to ask its store with; PUT them")));
        }
        let now = (self.clock)();
        if let Some(report) = self.report(key).await?.filter(|report| is_under_way(report, now)) {
            return Ok(report.into());
        }
        let report = self.order_verification(key, &connection, extent, repair, kinds).await?;
        Ok(report.into())
    }

    /// Returns the report of a connection's last verification.
    pub(crate) async fn show_verification(&self, key: &ConnectionKey) -> Result<VerificationReport, Problem> {
        self.known(key).await?;
        let report = self.report(key).await?;
        let never = || Problem::NotFound(format!("{key} was never verified; POST …/verify"));
        Ok(report.ok_or_else(never)?.into())
    }

    async fn report(&self, key: &ConnectionKey) -> Result<Option<Report>, Problem> {
        let note = self.edges.notes.note(key, REPORT).await?.filter(|note| note.is_live((self.clock)()));
        Ok(note.and_then(|note| serde_json::from_str(&note.body).ok()))
    }

    async fn order_verification(
        &self,
        key: &ConnectionKey,
        connection: &Connection,
        extent: Extent,
        repair: bool,
        kinds: Vec<EntityKind>,
    ) -> Result<Report, Problem> {
        let now = (self.clock)();
        let verification = Verification::new(now, extent, repair, kinds);
        let report = Report::new(&verification);
        let terms = Terms::once(now, REPORT_SECONDS).tries(TRIES);
        let begun = |_: Option<Report>| Some(report.clone());
        if update_json(&self.edges.notes, key, REPORT, terms, begun).await? == Update::Contended {
            return Err(Problem::Conflict(format!("{key}: the report was written by others each time; try again")));
        }
        self.edges.inbox.send(&Sealed::verification(key, connection, verification, now), 0).await?;
        Ok(report)
    }

    /// Begins to verify a sample of every connection, with a job for each shard of their list.
    ///
    /// # Errors
    /// [`Problem`] when the jobs cannot be queued; the schedule tries again.
    pub async fn verify_all(&self, sample: u32) -> Result<(), Problem> {
        let sample = sample.min(MAX_SAMPLE);
        let jobs: Vec<_> = (0..SHARDS).map(|shard| (Job::VerifyAll { shard, after: None, sample }, 0)).collect();
        Ok(self.edges.jobs.send_jobs(&jobs).await?)
    }

    /// Queues a verification of each connection on a page of the list.
    pub(crate) async fn verify_page(&self, shard: u32, after: Option<&str>, sample: u32) -> Result<(), Problem> {
        let page = self.edges.connections.list(shard, None, after, PAGE).await?;
        let verifications = page.entries.into_iter().filter(|entry| entry.status == ConnectionStatus::Active);
        let verifications = verifications.zip(0..).map(|(entry, place)| {
            let verify = Job::Verify { key: entry.key, sample };
            (verify, spread(place))
        });
        let mut jobs: Vec<_> = verifications.collect();
        jobs.extend(page.next.map(|after| (Job::VerifyAll { shard, after: Some(after), sample }, 0)));
        Ok(self.edges.jobs.send_jobs(&jobs).await?)
    }

    /// Begins to verify a sample of a connection, if it can be verified and nobody else verifies it.
    pub(crate) async fn verify_sample(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        sample: u32,
    ) -> Result<(), Problem> {
        let loaded = self.edges.connections.load(key).await?;
        let can =
            |connection: &Connection| connection.status == ConnectionStatus::Active && connection.credentials.is_some();
        let Some(connection) = loaded.connection.filter(can) else { return Ok(()) };
        if self.report(key).await?.is_some_and(|report| is_under_way(&report, (self.clock)())) {
            return Ok(());
        }
        let extent = Extent::Sample(sample);
        self.order_verification(key, &connection, extent, false, imported(platform)).await.map(|_| ())
    }
}

fn is_under_way(report: &Report, now: Timestamp) -> bool {
    report.ended.is_none() && now < report.moved.plus_seconds(LOST_SECONDS)
}

/// The request of a verification.
struct Wanted {
    extent: Extent,
    repair: bool,
    kinds: Vec<EntityKind>,
}

fn wanted(platform: &Platform, body: &[u8]) -> Result<Wanted, Problem> {
    let mut members = members(body, &["full", "sample", "repair", "entity"])?;
    let (full, repair) = (flag(&mut members, "full")?, flag(&mut members, "repair")?);
    let sample = match members.remove("sample") {
        None => None,
        Some(_) if full => return Err(Problem::Invalid("sample: leave it out, or `full`".into())),
        Some(sample) => {
            Some(sample.as_u64().and_then(|sample| u32::try_from(sample).ok()).filter(|n| (1..=MAX_SAMPLE).contains(n)))
        }
    };
    let sample = match sample {
        None => SAMPLE,
        Some(Some(sample)) => sample,
        Some(None) => return Err(Problem::Invalid(format!("sample: must be a number from 1 to {MAX_SAMPLE}"))),
    };
    let mut kinds = imported(platform);
    if let Some(entity) = entity(&mut members, &kinds)? {
        kinds = vec![entity];
    }
    Ok(Wanted { extent: if full { Extent::Full } else { Extent::Sample(sample) }, repair, kinds })
}
