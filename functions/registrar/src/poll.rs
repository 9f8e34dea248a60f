//! The fetching of entities: all of them after a connection is made, changes on a schedule, and missed changes. The
//! registrar only finds out which entities these are; each becomes a message, and the processor pulls it. The progress
//! is in the entity's cursor, which moves only over pages that are on the queue.

use std::collections::BTreeMap;

use cloud::{
    connections::{Connections, Loaded},
    coordination::{Coordination, Terms, Update, update_json},
    queue::{Inbox, Jobs},
    telemetry,
};
use commerce::{
    connection::{Connection, ConnectionStatus},
    cursor::{Cursor, Fetch, Fetched, Run, Stopped},
    drift::{DRIFT, Drift, SweptPage, swept_notes},
    entity::EntityKind,
    envelope::{Answered, Sealed},
    http_call::Fault,
    job::Job,
    key::ConnectionKey,
    platform::{
        Platform,
        mapping::processor,
        pull::{Access, Budget},
    },
    request::{WebhookPath, is_too_large_a_page},
    timestamp::Timestamp,
    transfer::Polling,
};
use serde_json::{Map, Value, json};

use crate::{Parts, Registrar, problem::Problem, webhooks::At};

/// The time between two incremental syncs of an entity, in seconds, unless the connection's settings say otherwise.
const CHANGED_SECONDS: i64 = 60 * 60;
/// The time between two full syncs of an entity that has no incremental sync, in seconds, unless the settings say
/// otherwise. Any other full sync that is not due by time waits for as long.
const SWEEP_SECONDS: i64 = 24 * 60 * 60;
/// The time between two full syncs of an entity that has incremental syncs, in seconds. They find deleted entities.
const FULL_SECONDS: i64 = 7 * 24 * 60 * 60;
/// The time between two counts of an entity that has incremental syncs, in seconds.
const COUNT_SECONDS: i64 = 6 * 60 * 60;
/// The most that a fetch begins before its time, in seconds, because the schedule comes sooner or later within its
/// hour.
const SLACK_SECONDS: i64 = 10 * 60;
/// The overlap of an incremental sync with the one before, in seconds, because clocks differ and lists may lag.
const OVERLAP_SECONDS: i64 = 10 * 60;
/// The time after which a run without progress is given up, in seconds.
const STUCK_SECONDS: i64 = 24 * 60 * 60;
/// The time after which a run without progress has lost its job, in seconds. No job is put off for longer than 15
/// minutes.
const LOST_SECONDS: i64 = 30 * 60;
/// The time after which a store that did not answer is asked again, in seconds, until the run counts as one that has
/// lost its job.
const AGAIN_SECONDS: i64 = 5 * 60;
/// The longest delay of a job, in seconds.
const LONGEST_SECONDS: i64 = 900;
/// The most that a job may come before its time, in seconds, because clocks differ.
const EARLY_SECONDS: i64 = 2;
/// The longest time that an entity of a page may be on the queue, in seconds. Pages are queued no faster than they can
/// be pulled.
const BACKLOG_SECONDS: i64 = 2 * 60 * 60;
/// The most pages that one job fetches.
const PAGES: usize = 10;
/// The time after which a job begins no further page, in seconds.
const JOB_SECONDS: i64 = 20;
/// The most pages of a list: more than any has, so that a list without end is not followed for ever.
const MAX_PAGES: u32 = 100_000;
/// The number of attempts to write a cursor or a note that others write, too.
const TRIES: u32 = 5;
/// The time for which the entities on the pages of a full sync are remembered, in seconds.
const SWEPT_SECONDS: i64 = 7 * 24 * 60 * 60;

/// The number of entities of a kind after which the fetch of a store that has connected itself waits until an operator
/// confirms the store.
const UNCONFIRMED_ENTITIES: u64 = 1_000;

/// A fetch that a job continues.
struct Fetching<'a> {
    at: At<'a>,
    path: &'a WebhookPath,
    connection: &'a Connection,
    budget: Budget,
    /// The number of other kinds of entity that are fetched as a whole at the same time.
    others: usize,
}

impl<P: Parts> Registrar<P> {
    /// Begins a fetch of an entity, by a job, unless a run under way covers it. [`Fetch::Incremental`] fetches all
    /// changes since the cursor, or since `since` if that is earlier.
    pub(crate) async fn begin_poll(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        entity: EntityKind,
        fetch: Fetch,
        since: Option<Timestamp>,
    ) -> Result<(), Problem> {
        self.begin(platform, key, entity, (fetch, since), false).await
    }

    /// Begins a fetch of missed changes of an entity. A run under way may have passed them by, so another run follows
    /// it.
    pub(crate) async fn begin_missed(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        entity: EntityKind,
        fetch: Fetch,
        since: Timestamp,
    ) -> Result<(), Problem> {
        self.begin(platform, key, entity, (fetch, Some(since)), true).await
    }

    async fn begin(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        entity: EntityKind,
        (asked, since): (Fetch, Option<Timestamp>),
        missed: bool,
    ) -> Result<(), Problem> {
        for _ in 0..TRIES {
            let loaded = self.edges.connections.load(key).await?;
            let Some(connection) = loaded.connection.as_ref().filter(|connection| may_poll(connection)) else {
                let why = "nothing is fetched for a connection that is not active or has no credentials";
                return Err(Problem::Refused(Fault::Connection(why.into())));
            };
            let Some(polling) = polling(platform, &connection.settings, entity) else {
                return Err(Problem::NotFound(format!("{} has no {entity} that can be polled", platform.name)));
            };
            let mut cursor = known(&loaded, connection, entity);
            let (now, mut event) = ((self.clock)(), "poll-begun");
            let lost = lost_in_a_pause(&mut cursor, connection.paused_at);
            let (fetch, from) = wanted(polling, every(connection, entity), &cursor, (asked, since), &lost);
            if let Some(run) = cursor.run.as_mut().filter(|run| covers(run, fetch, from)) {
                let changed = asked == Fetch::Incremental && polling == Polling::Incremental;
                let again = Some(if changed { Fetch::Incremental } else { Fetch::Full });
                if !missed || run.again == again || run.again == Some(Fetch::Full) {
                    return Ok(());
                }
                run.again = again;
                event = "poll-again";
            } else {
                let Some(run) = new_run(platform, entity, fetch, from, now) else { return Ok(()) };
                (cursor.run, cursor.next) = (Some(run), None);
            }
            if self.advance(key, &mut cursor).await? {
                telemetry::emit(&json!({
                    "level": "INFO", "event": event, "connection": key.to_string(), "entity": entity, "fetch": fetch,
                }));
                // If the run was only marked, its own job may just have stopped because somebody else had written the
                // cursor.
                return self.send_poll(key, entity, 0).await;
            }
        }
        Err(Problem::Conflict(format!("{key}: the cursor of {entity} was written by others each time; try again")))
    }

    /// Begins the fetches that are due, which are the backfill, the next incremental and the next full sync of each
    /// entity, and continues runs that have lost their jobs.
    pub(crate) async fn begin_due_polls(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        connection: &Connection,
        loaded: &Loaded,
    ) -> Result<(), Problem> {
        if !may_poll(connection) {
            return Ok(());
        }
        let now = (self.clock)();
        for processor in platform.mapping.processors() {
            let entity = processor.entity;
            let Some(polling) = polling(platform, &connection.settings, entity) else { continue };
            let cursor = known(loaded, connection, entity);
            if cursor.run.as_ref().is_some_and(|run| run.at.plus_seconds(LOST_SECONDS) <= now) {
                self.send_poll(key, entity, 0).await?;
            }
            // A job is still to come that begins the next fetch.
            if cursor.next.is_some_and(|next| now < next.plus_seconds(LOST_SECONDS)) {
                continue;
            }
            if let Some(fetch) = due(polling, every(connection, entity), &cursor, now) {
                self.begin_poll(platform, key, entity, fetch, None).await?;
            }
        }
        Ok(())
    }

    /// Fetches the next pages of the run under way, or begins the fetch that is due. One job at a time does so: a job
    /// that comes before its time is a second one.
    pub(crate) async fn poll(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        entity: EntityKind,
    ) -> Result<(), Problem> {
        let loaded = self.edges.connections.load(key).await?;
        let Some(connection) = &loaded.connection else { return Ok(()) };
        let mut cursor = known(&loaded, connection, entity);
        let opened = if may_poll(connection) { self.open(key, connection).await? } else { None };
        let Some(credentials) = opened else {
            // The fetch begins anew when the connection may be polled again.
            if let Some(run) = cursor.run.take() {
                cursor.recent.push(fetched(&run, run.at));
                self.advance(key, &mut cursor).await?;
            }
            return Ok(());
        };
        if connection.unconfirmed && cursor.run.as_ref().is_some_and(|run| run.found >= UNCONFIRMED_ENTITIES) {
            let line = json!({
                "level": "WARN", "event": "waits-for-confirmation", "connection": key.to_string(), "entity": entity,
            });
            telemetry::emit(&line);
            return Ok(());
        }
        let started = (self.clock)();
        let to_come = cursor.run.as_ref().map(|run| run.at).or(cursor.next);
        if to_come.is_none_or(|at| started.plus_seconds(EARLY_SECONDS) < at) {
            return Ok(());
        }
        if cursor.run.is_none() {
            return self.begin_next(platform, key, connection, cursor).await;
        }
        // Each of these runs queues entities, and all are pulled within one budget.
        let whole = |cursor: &&Cursor| cursor.run.as_ref().is_some_and(|run| run.fetch != Fetch::Incremental);
        let others = loaded.cursors.values().filter(|other| other.entity != entity).filter(whole).count();
        let fetching = Fetching {
            at: At {
                platform,
                key,
                access: Access { site: &connection.site, credentials: &credentials, settings: &connection.settings },
            },
            path: &WebhookPath { key: key.clone(), generation: connection.generation },
            connection,
            budget: commerce::platform::pull::budget(platform, connection),
            others,
        };
        for _ in 0..PAGES {
            let Some(run) = cursor.run.clone() else { return Ok(()) };
            let answered = match self.page(fetching.at, fetching.path, entity, &run, fetching.budget).await {
                Ok(answered) => answered,
                Err(problem) => return self.page_failed(platform, key, cursor, run, problem).await,
            };
            let delay = self.turn_page(&fetching, &mut cursor, run, &answered).await;
            // Somebody else continues the run, or has begun another.
            if !self.advance(key, &mut cursor).await? || (cursor.run.is_none() && cursor.next.is_none()) {
                return Ok(());
            }
            if delay > 0 || (self.clock)() > started.plus_seconds(JOB_SECONDS) {
                return self.send_poll(key, entity, delay).await;
            }
        }
        self.send_poll(key, entity, 0).await
    }

    /// Records the reason for which a page could not be fetched, where people see it. The fetch is tried again.
    async fn page_failed(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        mut cursor: Cursor,
        run: Run,
        problem: Problem,
    ) -> Result<(), Problem> {
        let now = (self.clock)();
        match problem {
            Problem::Platform(fault) => self.stopped(platform, key, cursor, run, fault, now).await,
            // The next check of the connection tries again.
            Problem::Refused(fault) => {
                let before = cursor.stopped.clone();
                tell_stopped(key, &mut cursor, &fault.to_string(), now);
                if cursor.stopped != before {
                    self.advance(key, &mut cursor).await?;
                }
                Err(Problem::Refused(fault))
            }
            problem => Err(problem),
        }
    }

    /// Moves a cursor over a page that is on the queue. Returns the delay of the next job, in seconds.
    async fn turn_page(&self, fetching: &Fetching<'_>, cursor: &mut Cursor, run: Run, answered: &Answered) -> i64 {
        let (entity, now) = (cursor.entity, (self.clock)());
        let Fetching { at: At { platform, key, .. }, budget, .. } = *fetching;
        cursor.stopped = None;
        let count = answered.found().len();
        let found = run.found + count as u64;
        match answered.next() {
            Some(next) if run.pages < MAX_PAGES => {
                let whole = run.fetch != Fetch::Incremental;
                let delay = if whole { pace(budget, count * (fetching.others + 1)) } else { 0 };
                let at = now.plus_seconds(delay);
                cursor.run = Some(Run { at, next: next.clone(), pages: run.pages + 1, found, ..run });
                delay
            }
            Some(_) => {
                telemetry::error("poll-without-end", &format!("{key} {entity}: more than {MAX_PAGES} pages"));
                cursor.run = None;
                0
            }
            None => {
                end(cursor, &run, now);
                if run.fetch == Fetch::Incremental && is_over(cursor.counted, COUNT_SECONDS, now) {
                    cursor.counted = Some(now);
                    self.count(fetching.at, fetching.path, entity, budget).await;
                }
                let from = run.begun.plus_seconds(-OVERLAP_SECONDS);
                cursor.run = run.again.and_then(|fetch| {
                    new_run(platform, entity, fetch, (fetch == Fetch::Incremental).then_some(from), now)
                });
                telemetry::emit(&json!({
                    "level": "INFO", "event": "poll-done", "connection": key.to_string(), "entity": entity,
                    "fetch": run.fetch, "pages": run.pages + 1, "found": found,
                }));
                if cursor.run.is_some() {
                    return 0;
                }
                let wait = wait(fetching.connection, cursor, now);
                cursor.next = wait.map(|wait| now.plus_seconds(wait));
                wait.unwrap_or(0)
            }
        }
    }

    /// Begins the fetch that is due of an entity that is polled more often than the schedule comes, or waits for its
    /// time.
    async fn begin_next(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        connection: &Connection,
        mut cursor: Cursor,
    ) -> Result<(), Problem> {
        let (entity, now) = (cursor.entity, (self.clock)());
        // The settings may have changed meanwhile.
        let Some((polling, wait)) = polling(platform, &connection.settings, entity).zip(wait(connection, &cursor, now))
        else {
            return Ok(());
        };
        if let Some(fetch) = due(polling, every(connection, entity), &cursor, now) {
            return self.begin_poll(platform, key, entity, fetch, None).await;
        }
        cursor.next = Some(now.plus_seconds(wait));
        if self.advance(key, &mut cursor).await? { self.send_poll(key, entity, wait).await } else { Ok(()) }
    }

    /// Asks for the platform's count of an entity, which shows that entities are gone without a delivery. Nothing
    /// depends on a single answer.
    async fn count(&self, at: At<'_>, path: &WebhookPath, entity: EntityKind, budget: Budget) {
        let now = (self.clock)();
        let Some(lists) = at.platform.lists else { return };
        let Some(request) = lists.count(&at.access, entity) else { return };
        let asked = async {
            self.leases.take(&self.edges.notes, at.key, path.generation, budget, now).await?;
            let answer = self.call(at, request?).await?;
            let Some(order) = Answered::count(lists, path, entity, &answer, now) else { return Ok(()) };
            Ok::<_, Problem>(self.edges.inbox.send_all(&[order]).await?)
        };
        if let Err(problem) = asked.await {
            telemetry::warn("not-counted", &format!("{} {entity}: {problem}", at.key));
        }
    }

    /// Begins a full sync of an entity, because more are known here than the platform has; at most once a day, because
    /// a platform may count differently.
    pub(crate) async fn sync(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        entity: EntityKind,
    ) -> Result<(), Problem> {
        let loaded = self.edges.connections.load(key).await?;
        let swept = loaded.cursors.get(&entity).and_then(|cursor| cursor.swept);
        if !is_over(swept, SWEEP_SECONDS, (self.clock)()) {
            return Ok(());
        }
        self.begin_poll(platform, key, entity, Fetch::Full, None).await
    }

    /// Handles a page that could not be fetched: the run is put off, kept for the next check of the connection,
    /// replaced by a full sync, or given up.
    async fn stopped(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        mut cursor: Cursor,
        run: Run,
        fault: Fault,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let entity = cursor.entity;
        match fault {
            // The job comes back by then, so no other one is needed.
            Fault::Throttled { seconds } => {
                let at = now.plus_seconds(seconds.clamp(1, LONGEST_SECONDS));
                cursor.run = Some(Run { at, ..run });
                if self.advance(key, &mut cursor).await? { Err(fault.into()) } else { Ok(()) }
            }
            Fault::Unavailable(_) if now.plus_seconds(AGAIN_SECONDS) < run.at.plus_seconds(LOST_SECONDS) => {
                self.send_poll(key, entity, AGAIN_SECONDS).await
            }
            // An entity whose changes cannot be read is fetched as a whole, but not every hour.
            Fault::Unreadable(why) | Fault::TooLarge(why) if run.fetch == Fetch::Incremental => {
                telemetry::warn("poll-stopped", &format!("{key} {entity}: {why}; a full sync follows"));
                tell_stopped(key, &mut cursor, &why, now);
                let sweeps = run.again.is_some() || is_over(cursor.swept, SWEEP_SECONDS, now);
                cursor.recent.push(fetched(&run, now));
                cursor.run = sweeps.then(|| new_run(platform, entity, Fetch::Full, None, now)).flatten();
                let goes_on = self.advance(key, &mut cursor).await? && cursor.run.is_some();
                if goes_on { self.send_poll(key, entity, 0).await } else { Ok(()) }
            }
            Fault::Unavailable(why) | Fault::Unreadable(why) | Fault::TooLarge(why)
                if now < run.at.plus_seconds(STUCK_SECONDS) =>
            {
                telemetry::warn("poll-stopped", &format!("{key} {entity}: {why}"));
                tell_stopped(key, &mut cursor, &why, now);
                self.advance(key, &mut cursor).await.map(|_| ())
            }
            // Incremental syncs must not wait for ever for a page that cannot be fetched. The full one is tried again
            // when it is due.
            Fault::Unavailable(why) | Fault::Unreadable(why) | Fault::TooLarge(why) => {
                telemetry::error("poll-given-up", &format!("{key} {entity}: {why}"));
                tell_stopped(key, &mut cursor, &format!("given up: {why}"), now);
                (cursor.since, cursor.swept) = (cursor.since.or(Some(run.begun)), Some(run.begun));
                cursor.run = None;
                self.advance(key, &mut cursor).await.map(|_| ())
            }
            Fault::Connection(_) => Err(fault.into()),
        }
    }

    async fn send_poll(&self, key: &ConnectionKey, entity: EntityKind, delay: i64) -> Result<(), Problem> {
        let delay = i32::try_from(delay.clamp(0, LONGEST_SECONDS)).unwrap_or(0);
        Ok(self.edges.jobs.send_jobs(&[(Job::Poll { key: key.clone(), entity }, delay)]).await?)
    }

    /// Returns the drift that polling found, by kind of entity.
    ///
    /// # Errors
    /// [`Problem::Ours`] when the notes cannot be read.
    pub async fn losses(&self, key: &ConnectionKey) -> Result<BTreeMap<EntityKind, Drift>, Problem> {
        let now = (self.clock)();
        let notes = self.edges.notes.notes(key, DRIFT).await?.into_iter();
        let read = notes.filter(|(_, note)| note.is_live(now)).filter_map(|(name, note)| {
            let entity = serde_json::from_value(name.strip_prefix(DRIFT)?.into()).ok()?;
            Some((entity, Drift::read(&note.body)?))
        });
        Ok(read.collect())
    }

    /// Fetches a page, and queues its entities.
    async fn page(
        &self,
        at: At<'_>,
        path: &WebhookPath,
        entity: EntityKind,
        run: &Run,
        budget: Budget,
    ) -> Result<Answered, Problem> {
        let At { platform, key, access } = at;
        let (lists, now) = (platform.lists()?, (self.clock)());
        self.leases.take(&self.edges.notes, key, path.generation, budget, now).await?;
        let response = self.call(at, lists.list(&access, &run.next)?).await?;
        if is_too_large_a_page(&response.body) {
            return Err(Fault::Unreadable("a page of more values than any list has".into()).into());
        }
        let answered = Answered::read(lists, path, &access, &run.next, &response, now);
        if let Err(Fault::Throttled { seconds }) = &answered {
            self.leases.pause(&self.edges.notes, key, path.generation, *seconds, now).await;
        }
        let answered = answered?;
        self.edges.inbox.send_all(&Sealed::from_answer(&answered, run.fetch)).await?;
        if run.fetch != Fetch::Incremental {
            let page = SweptPage {
                ids: answered.found().iter().map(|transfer| transfer.id.clone()).collect(),
                last: answered.next().is_none(),
            };
            self.note_swept(key, entity, run, &page).await?;
            if page.last {
                self.edges.inbox.send_all(&[Sealed::swept(&answered, entity, run.begun)]).await?;
            }
        }
        Ok(answered)
    }

    /// Notes the entities of a page of a full listing, so that its end shows which entities were on no page.
    async fn note_swept(
        &self,
        key: &ConnectionKey,
        entity: EntityKind,
        run: &Run,
        page: &SweptPage,
    ) -> Result<(), Problem> {
        let name = format!("{}{}", swept_notes(entity, run.begun), run.pages);
        // The page may have been fetched before, without the cursor being written.
        let terms =
            Terms { expires: run.begun.seconds() + SWEPT_SECONDS, ..Terms::once((self.clock)(), 0).tries(TRIES) };
        match update_json(&self.edges.notes, key, &name, terms, |_| Some(page.clone())).await? {
            Update::Written | Update::Left => Ok(()),
            Update::Contended => {
                Err(Problem::Conflict(format!("{key}: a page of {entity} was noted by others each time; try again")))
            }
        }
    }

    /// Writes a cursor as its next revision. Returns `false` when somebody else wrote it in between.
    async fn advance(&self, key: &ConnectionKey, cursor: &mut Cursor) -> Result<bool, Problem> {
        cursor.revision += 1;
        Ok(self.edges.connections.save_cursor(key, cursor).await?)
    }
}

/// Records the reason for which an entity cannot be fetched, and since when, and counts it.
fn tell_stopped(key: &ConnectionKey, cursor: &mut Cursor, why: &str, now: Timestamp) {
    let since = cursor.stopped.as_ref().map_or(now, |stopped| stopped.since);
    cursor.stopped = Some(Stopped { why: why.to_owned(), since });
    telemetry::emit(&telemetry::count_entity("FetchesStopped", &key.platform, cursor.entity.as_str(), 1, now));
}

fn may_poll(connection: &Connection) -> bool {
    connection.status == ConnectionStatus::Active && connection.credentials.is_some()
}

/// Returns the way in which an entity is polled, or `None` when it cannot be.
fn polling(platform: &Platform, settings: &Map<String, Value>, entity: EntityKind) -> Option<Polling> {
    let polling = processor(platform.mapping, entity)?.polling?;
    platform.lists.filter(|lists| lists.polls(settings, entity)).map(|_| polling)
}

/// Returns the time between two fetches of an entity, in seconds, where the settings state it.
fn every(connection: &Connection, entity: EntityKind) -> Option<i64> {
    connection.polls.get(&entity).map(|seconds| i64::from(*seconds))
}

fn new_run(
    platform: &Platform,
    entity: EntityKind,
    fetch: Fetch,
    from: Option<Timestamp>,
    now: Timestamp,
) -> Option<Run> {
    let next = platform.lists?.poll(entity, from)?;
    Some(Run { fetch, begun: now, from, at: now, next, pages: 0, found: 0, again: None })
}

fn fetched(run: &Run, at: Timestamp) -> Fetched {
    Fetched { fetch: run.fetch, from: run.from, at }
}

/// Records the end of a run.
fn end(cursor: &mut Cursor, run: &Run, now: Timestamp) {
    cursor.since = cursor.since.max(Some(run.begun));
    if run.fetch != Fetch::Incremental {
        cursor.swept = Some(run.begun);
    }
    cursor.recent.retain(|fetched| now < fetched.at.plus_seconds(BACKLOG_SECONDS));
    cursor.recent.push(fetched(run, now));
}

/// Returns the pause after this many queued entries, in seconds, so that their messages are not put off again and
/// again.
fn pace(budget: Budget, entries: usize) -> i64 {
    let seconds = i64::try_from(entries).unwrap_or(i64::MAX).saturating_mul(i64::from(budget.seconds));
    (seconds / i64::from(budget.calls.max(1))).clamp(1, LONGEST_SECONDS)
}

/// Returns the delay of the next job of an entity that is polled more often than the schedule comes, in seconds.
fn wait(connection: &Connection, cursor: &Cursor, now: Timestamp) -> Option<i64> {
    let every = every(connection, cursor.entity).filter(|every| (1..CHANGED_SECONDS).contains(every))?;
    Some((cursor.since?.seconds() + every - now.seconds()).clamp(1, LONGEST_SECONDS))
}

/// Returns the fetches whose messages were queued shortly before a pause, and may have been ignored because of it.
/// Breaks off a run that was under way then.
fn lost_in_a_pause(cursor: &mut Cursor, paused: Option<Timestamp>) -> Vec<Fetched> {
    let Some(paused) = paused else { return Vec::new() };
    if cursor.run.as_ref().is_some_and(|run| run.begun <= paused) {
        cursor.recent.extend(cursor.run.take().map(|run| fetched(&run, run.at)));
    }
    cursor.recent.iter().filter(|fetched| paused < fetched.at.plus_seconds(BACKLOG_SECONDS)).cloned().collect()
}

/// Returns the fetch to begin, and the time from which changes count. It is more than was asked for if earlier fetches
/// were lost.
fn wanted(
    polling: Polling,
    every: Option<i64>,
    cursor: &Cursor,
    (asked, since): (Fetch, Option<Timestamp>),
    lost: &[Fetched],
) -> (Fetch, Option<Timestamp>) {
    let is_whole = |whole: &Fetch| asked == *whole || lost.iter().any(|lost| lost.fetch == *whole);
    let fetch = [Fetch::Backfill, Fetch::Full].into_iter().find(is_whole).unwrap_or(Fetch::Incremental);
    let only_missed = every == Some(0) && since.is_some();
    match (fetch, polling) {
        // The first fetch is a backfill of all entities. Entities that were not here yet are no drift.
        _ if cursor.since.is_none() && !only_missed => (Fetch::Backfill, None),
        (Fetch::Incremental, Polling::Incremental) => {
            let from = cursor.since.into_iter().chain(since).min().map(|since| since.plus_seconds(-OVERLAP_SECONDS));
            (Fetch::Incremental, from.into_iter().chain(lost.iter().filter_map(|lost| lost.from)).min())
        }
        (Fetch::Incremental, Polling::Full) => (Fetch::Full, None),
        (whole, _) => (whole, None),
    }
}

/// Returns whether the run under way covers a fetch: a run of all entities covers everything, and an earlier time a
/// later one. Changes made after the run began belong to the next one.
fn covers(run: &Run, fetch: Fetch, from: Option<Timestamp>) -> bool {
    run.fetch != Fetch::Incremental || (fetch == Fetch::Incremental && run.from <= from)
}

/// Returns whether this many seconds have passed since `last`, or nearly so.
fn is_over(last: Option<Timestamp>, seconds: i64, now: Timestamp) -> bool {
    let seconds = seconds - SLACK_SECONDS.min(seconds / 4);
    last.is_none_or(|last| last.plus_seconds(seconds) <= now)
}

/// Returns the fetch that is due of an entity. `every` is the time between two fetches in seconds, if the settings
/// state it; 0 means never.
fn due(polling: Polling, every: Option<i64>, cursor: &Cursor, now: Timestamp) -> Option<Fetch> {
    match polling {
        _ if every == Some(0) => None,
        _ if cursor.since.is_none() => Some(Fetch::Backfill),
        Polling::Full => is_over(cursor.swept, every.unwrap_or(SWEEP_SECONDS), now).then_some(Fetch::Full),
        Polling::Incremental if is_over(cursor.swept, FULL_SECONDS, now) => Some(Fetch::Full),
        Polling::Incremental => {
            is_over(cursor.since, every.unwrap_or(CHANGED_SECONDS), now).then_some(Fetch::Incremental)
        }
    }
}

/// Returns the cursor of an entity in the connection's present life. A connection that was connected anew starts from
/// nothing, and so does one of another generation.
fn known(loaded: &Loaded, connection: &Connection, entity: EntityKind) -> Cursor {
    let nothing = Cursor::new(entity, connection.generation);
    let Some(cursor) = loaded.cursors.get(&entity) else { return nothing };
    if cursor.generation != connection.generation {
        return Cursor { revision: cursor.revision, ..nothing };
    }
    let present = |at: &Timestamp| connection.connected_at.is_none_or(|connected| *at >= connected);
    let mut cursor = cursor.clone();
    cursor.since = cursor.since.filter(present);
    cursor.swept = cursor.swept.filter(present);
    cursor.run = cursor.run.filter(|run| present(&run.begun));
    cursor.recent.retain(|fetched| present(&fetched.at));
    cursor.stopped = cursor.stopped.filter(|stopped| present(&stopped.since));
    cursor
}

#[cfg(test)]
mod tests {
    use commerce::{key::Generation, transfer::Listing};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_run_covers_what_it_will_find() {
        let run = |fetch, from: Option<i64>| {
            let next = Listing::new("x", None);
            Run { fetch, begun: at(100), from: from.map(at), at: at(100), next, pages: 0, found: 0, again: None }
        };
        let changed = run(Fetch::Incremental, Some(50));
        assert!(
            covers(&changed, Fetch::Incremental, Some(at(50))) && covers(&changed, Fetch::Incremental, Some(at(60)))
        );
        assert!(!covers(&changed, Fetch::Incremental, Some(at(40))), "an earlier one takes its place");
        assert!(!covers(&changed, Fetch::Full, None) && !covers(&changed, Fetch::Backfill, None));
        for fetch in [Fetch::Incremental, Fetch::Full, Fetch::Backfill] {
            assert!(covers(&run(Fetch::Backfill, None), fetch, None) && covers(&run(Fetch::Full, None), fetch, None));
        }
    }

    #[test]
    fn what_is_due_follows_from_the_cursor() {
        let cursor = |since: i64, swept: i64| {
            let (since, swept) = (Some(at(since)), Some(at(swept)));
            Cursor { since, swept, ..Cursor::new(EntityKind::Order, Generation::FIRST) }
        };
        let (new, now) = (Cursor::new(EntityKind::Order, Generation::FIRST), 1_000_000);
        for (polling, every, cursor, expected) in [
            (Polling::Incremental, None, new.clone(), Some(Fetch::Backfill)),
            (Polling::Full, None, new.clone(), Some(Fetch::Backfill)),
            (Polling::Incremental, Some(0), new, None),
            // A schedule that comes a little early still begins a fetch.
            (Polling::Incremental, None, cursor(now - 2999, now - 5000), None),
            (Polling::Incremental, None, cursor(now - 3000, now - 5000), Some(Fetch::Incremental)),
            (Polling::Incremental, Some(900), cursor(now - 674, now - 5000), None),
            (Polling::Incremental, Some(900), cursor(now - 675, now - 5000), Some(Fetch::Incremental)),
            (Polling::Incremental, Some(900_000), cursor(now - 9000, now - 9000), None),
            (Polling::Incremental, None, cursor(now, now - FULL_SECONDS), Some(Fetch::Full)),
            (Polling::Full, None, cursor(now, now - 85_799), None),
            (Polling::Full, None, cursor(now, now - 85_800), Some(Fetch::Full)),
            (Polling::Full, Some(600), cursor(now, now - 600), Some(Fetch::Full)),
            (Polling::Full, Some(0), cursor(0, 0), None),
        ] {
            assert_eq!(due(polling, every, &cursor, at(now)), expected, "{polling:?} {every:?} {cursor:?}");
        }
    }

    #[test]
    fn what_was_queued_shortly_before_a_pause_is_fetched_again() {
        let run = |fetch, begun, from: Option<i64>| {
            let next = Listing::new("x", None);
            Run { fetch, begun: at(begun), from: from.map(at), at: at(begun), next, pages: 1, found: 0, again: None }
        };
        let mut cursor = Cursor::new(EntityKind::Order, Generation::FIRST);
        end(&mut cursor, &run(Fetch::Backfill, 10_000, None), at(10_100));
        for begun in [13_600, 17_200, 20_800] {
            end(&mut cursor, &run(Fetch::Incremental, begun, Some(begun - 4200)), at(begun + 10));
        }
        assert_eq!((cursor.since, cursor.swept, cursor.recent.len()), (Some(at(20_800)), Some(at(10_000)), 2));
        let asked = |cursor: &Cursor, paused: Option<i64>| {
            let (mut cursor, paused) = (cursor.clone(), paused.map(at));
            let lost = lost_in_a_pause(&mut cursor, paused);
            wanted(Polling::Incremental, None, &cursor, (Fetch::Incremental, paused), &lost)
        };
        assert_eq!(asked(&cursor, None), (Fetch::Incremental, Some(at(20_200))));
        // Messages of the run of 17,200 may still have been on the queue, but none of that of 13,600.
        assert_eq!(asked(&cursor, Some(21_000)), (Fetch::Incremental, Some(at(13_000))));
        assert_eq!(asked(&cursor, Some(60_000)), (Fetch::Incremental, Some(at(20_200))), "long done");
        cursor.run = Some(run(Fetch::Full, 20_900, None));
        assert_eq!(asked(&cursor, Some(21_000)), (Fetch::Full, None), "it was broken off");
        cursor.run = Some(run(Fetch::Full, 21_100, None));
        assert_eq!(asked(&cursor, Some(21_000)).0, Fetch::Incremental, "it began afterwards");
    }

    #[test]
    fn what_was_never_fetched_is_imported_but_where_it_is_not_to_be_polled() {
        let new = Cursor::new(EntityKind::Order, Generation::FIRST);
        for polling in [Polling::Incremental, Polling::Full] {
            for asked in [Fetch::Incremental, Fetch::Full, Fetch::Backfill] {
                for (every, since) in [(None, None), (None, Some(at(5))), (Some(0), None)] {
                    assert_eq!(wanted(polling, every, &new, (asked, since), &[]), (Fetch::Backfill, None));
                }
            }
        }
        let missed = wanted(Polling::Incremental, Some(0), &new, (Fetch::Incremental, Some(at(1000))), &[]);
        assert_eq!(missed, (Fetch::Incremental, Some(at(400))), "only what was missed");
    }

    #[test]
    fn nothing_is_queued_faster_than_it_can_be_pulled() {
        let budget = commerce::platforms::woocommerce::PLATFORM.budget;
        assert_eq!((budget.calls, budget.seconds), (120, 60));
        assert_eq!([0, 1, 100, 1000, 100_000].map(|entries| pace(budget, entries)), [1, 1, 50, 500, 900]);
    }
}
