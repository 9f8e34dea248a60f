//! Fetching entities: in full after a connection is made, what has changed on a schedule, what was missed. The registrar only finds
//! out which they are; each becomes a message, and the processor asks for it. How far it has come is in the entity's cursor, which
//! moves only when what it moves over is on the queue.

use cloud::{
    connections::{Connections, Loaded},
    coordination::{Coordination, Note},
    queue::{Inbox, Jobs},
    telemetry,
};
use commerce::{
    api::Fault,
    connection::{Connection, ConnectionKey, ConnectionStatus, Cursor, Fetch, Run},
    entity::EntityKind,
    envelope::{Answered, IMPORT, POLL, Sealed},
    job::Job,
    loss::{SweptPage, swept_notes},
    platforms::{Access, Platform},
    request::{HookPath, has_too_many_values},
    stamp::Stamp,
    transfer::{Polling, processor},
};
use serde_json::json;

use crate::{Parts, Registrar, hooks::At, problem::Problem};

/// How often what has changed is asked for, unless the connection's settings say otherwise, in seconds.
const CHANGED_SECONDS: i64 = 60 * 60;
/// The same, of all of what can only be asked for as a whole.
const SWEEP_SECONDS: i64 = 24 * 60 * 60;
/// How often all are asked for of what else is asked for by its changes, to find what is gone.
const FULL_SECONDS: i64 = 7 * 24 * 60 * 60;
/// How far before the beginning of the last run the next one looks: clocks differ, and lists may lag.
const OVERLAP_SECONDS: i64 = 10 * 60;
/// A run that has not come further for so long has lost its job: none is put off for longer than 15 minutes.
const LOST_SECONDS: i64 = 30 * 60;
/// How many pages one job fetches,
const PAGES: usize = 10;
/// and for how long it begins another one, in seconds.
const JOB_SECONDS: i64 = 20;
/// More pages than any list has: one that does not end is not followed for ever.
const MAX_PAGES: u32 = 100_000;
/// How often a cursor is written that others write.
const TRIES: usize = 5;
/// How long it is remembered what a full run came upon, in seconds.
const SWEPT_SECONDS: i64 = 7 * 24 * 60 * 60;

impl<P: Parts> Registrar<P> {
    /// Begins to fetch an entity, by a job, if nothing that covers it is under way: for [`Fetch::Changed`] all that has changed since the cursor,
    /// or since `since` if that is earlier.
    pub(crate) async fn begin_poll(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        entity: EntityKind,
        fetch: Fetch,
        since: Option<Stamp>,
    ) -> Result<(), Problem> {
        let polling = processor(platform.mapping, entity).and_then(|processor| processor.polling);
        let polling = polling.filter(|_| platform.mapping.poll(entity, None).is_some());
        let Some(polling) = polling else {
            return Err(Problem::NotFound(format!("{} has no {entity} that can be polled", platform.name)));
        };
        for _ in 0..TRIES {
            let loaded = self.edges.connections.load(key).await?;
            let Some(connection) = loaded.connection.as_ref().filter(|connection| may_poll(connection)) else {
                let why = "nothing is fetched for a connection that is not active or has no credentials";
                return Err(Problem::Refused(Fault::Connection(why.into())));
            };
            let mut cursor = known(&loaded, connection, entity);
            let now = (self.clock)();
            let (fetch, from) = match (fetch, polling, cursor.since.into_iter().chain(since).min()) {
                (Fetch::Changed, Polling::Changed, Some(since)) => {
                    (Fetch::Changed, Some(since.plus_seconds(-OVERLAP_SECONDS)))
                }
                // From the beginning is all of them.
                (Fetch::Changed, Polling::Changed, None) => (Fetch::Import, None),
                (Fetch::Changed, Polling::Sweep, _) => (Fetch::Sweep, None),
                (fetch, ..) => (fetch, None),
            };
            if cursor.run.as_ref().is_some_and(|run| covers(run, fetch, from)) {
                return Ok(());
            }
            let Some(next) = platform.mapping.poll(entity, from) else { return Ok(()) };
            cursor.run = Some(Run { fetch, begun: now, from, at: now, next, pages: 0, found: 0 });
            if self.advance(key, &mut cursor).await? {
                telemetry::emit(&json!({
                    "level": "INFO", "event": "poll-begun", "connection": key.to_string(), "entity": entity, "fetch": fetch,
                }));
                return Ok(self.edges.jobs.send_jobs(&[(Job::Poll { key: key.clone(), entity }, 0)]).await?);
            }
        }
        Err(Problem::Conflict(format!("{key}: the cursor of {entity} was written by others each time; try again")))
    }

    /// Begins what is due: the first import, the next poll, the next sweep of each entity; and goes on with what has stopped.
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
            let Some(polling) = processor.polling.filter(|_| platform.mapping.poll(entity, None).is_some()) else {
                continue;
            };
            let cursor = known(loaded, connection, entity);
            if cursor.run.as_ref().is_some_and(|run| run.at.plus_seconds(LOST_SECONDS) <= now) {
                self.edges.jobs.send_jobs(&[(Job::Poll { key: key.clone(), entity }, 0)]).await?;
            }
            let every = connection.polls.get(&entity).map(|seconds| i64::from(*seconds));
            if let Some(fetch) = due(polling, every, &cursor, now) {
                self.begin_poll(platform, key, entity, fetch, None).await?;
            }
        }
        Ok(())
    }

    /// Fetches the next pages of what is under way.
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
            // It is begun anew when there is a connection again.
            if cursor.run.take().is_some() {
                self.advance(key, &mut cursor).await?;
            }
            return Ok(());
        };
        let access = Access { site: &connection.site, credentials: &credentials, settings: &connection.settings };
        let path = HookPath { key: key.clone(), generation: connection.generation };
        let started = (self.clock)();
        for _ in 0..PAGES {
            let Some(run) = cursor.run.clone() else { return Ok(()) };
            let fetched = self.page(At { platform, key, access }, &path, entity, &run).await;
            let answered = match fetched {
                Ok(answered) => answered,
                // Trying again at once would not help; the next look at the connection does.
                Err(Problem::Platform(Fault::Unreadable(why))) => {
                    telemetry::warn("poll-stopped", &format!("{key} {entity}: {why}"));
                    return Ok(());
                }
                Err(problem) => return Err(problem),
            };
            let found = answered.found().len() as u64;
            cursor.run = match answered.next() {
                Some(next) if run.pages < MAX_PAGES => Some(Run {
                    at: (self.clock)(),
                    next: next.clone(),
                    pages: run.pages + 1,
                    found: run.found + found,
                    ..run
                }),
                Some(_) => {
                    telemetry::error("poll-without-end", &format!("{key} {entity}: more than {MAX_PAGES} pages"));
                    None
                }
                None => {
                    cursor.since = cursor.since.max(Some(run.begun));
                    if run.fetch != Fetch::Changed {
                        cursor.swept = Some(run.begun);
                    }
                    telemetry::emit(&json!({
                        "level": "INFO", "event": "poll-done", "connection": key.to_string(), "entity": entity,
                        "fetch": run.fetch, "pages": run.pages + 1, "found": run.found + found,
                    }));
                    None
                }
            };
            // Somebody else goes on with it, or has begun something else.
            if !self.advance(key, &mut cursor).await? || cursor.run.is_none() {
                return Ok(());
            }
            if (self.clock)() > started.plus_seconds(JOB_SECONDS) {
                break;
            }
        }
        Ok(self.edges.jobs.send_jobs(&[(Job::Poll { key: key.clone(), entity }, 0)]).await?)
    }

    /// Fetches a page, and queues what is on it.
    async fn page(&self, at: At<'_>, path: &HookPath, entity: EntityKind, run: &Run) -> Result<Answered, Problem> {
        let At { platform, key, access } = at;
        let (mapping, now) = (platform.mapping, (self.clock)());
        self.leases.take(&self.edges.notes, key, mapping.budget(), now).await?;
        let response = self.call(at, mapping.list(&access, &run.next)?).await?;
        if has_too_many_values(&response.body) {
            return Err(Fault::Unreadable("a page of more values than any list has".into()).into());
        }
        let answered = Answered::read(mapping, path, &access, &run.next, &response, now);
        if let Err(Fault::Throttled { seconds }) = &answered {
            self.leases.pause(&self.edges.notes, key, *seconds, now).await;
        }
        let answered = answered?;
        let scope = if run.fetch == Fetch::Import { IMPORT } else { POLL };
        self.edges.inbox.send_all(&Sealed::from_answer(&answered, scope)).await?;
        if run.fetch != Fetch::Changed {
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

    /// Remembers what was on a page of all, to know in the end what was on none.
    async fn note_swept(
        &self,
        key: &ConnectionKey,
        entity: EntityKind,
        run: &Run,
        page: &SweptPage,
    ) -> Result<(), Problem> {
        let name = format!("{}{}", swept_notes(entity, run.begun), run.pages);
        for _ in 0..TRIES {
            // The page may have been fetched before, when the cursor could not be written.
            let before = self.edges.notes.note(key, &name).await?;
            let note = Note {
                body: serde_json::to_string(page).unwrap_or_default(),
                revision: before.map_or(0, |note| note.revision) + 1,
                expires: run.begun.seconds() + SWEPT_SECONDS,
            };
            if self.edges.notes.keep(key, &name, &note).await? {
                return Ok(());
            }
        }
        Err(Problem::Conflict(format!("{key}: a page of {entity} was noted by others each time; try again")))
    }

    /// Writes a cursor as its next revision; `false` when somebody else did in between.
    async fn advance(&self, key: &ConnectionKey, cursor: &mut Cursor) -> Result<bool, Problem> {
        cursor.revision += 1;
        Ok(self.edges.connections.save_cursor(key, cursor).await?)
    }
}

fn may_poll(connection: &Connection) -> bool {
    connection.status == ConnectionStatus::Active && connection.credentials.is_some()
}

/// Whether what is under way covers what is to be begun: all of them covers everything, and an earlier time a later one. What changes
/// after it began is the next one's.
fn covers(run: &Run, fetch: Fetch, from: Option<Stamp>) -> bool {
    run.fetch != Fetch::Changed || (fetch == Fetch::Changed && run.from <= from)
}

/// What is due of an entity that is fetched every so many seconds, if the settings say how often; 0 is never.
fn due(polling: Polling, every: Option<i64>, cursor: &Cursor, now: Stamp) -> Option<Fetch> {
    let is_over = |since: Option<Stamp>, seconds: i64| since.is_none_or(|at| at.plus_seconds(seconds) <= now);
    match polling {
        _ if every == Some(0) => None,
        _ if cursor.since.is_none() => Some(Fetch::Import),
        Polling::Sweep => is_over(cursor.swept, every.unwrap_or(SWEEP_SECONDS)).then_some(Fetch::Sweep),
        Polling::Changed if is_over(cursor.swept, FULL_SECONDS) => Some(Fetch::Sweep),
        Polling::Changed => is_over(cursor.since, every.unwrap_or(CHANGED_SECONDS)).then_some(Fetch::Changed),
    }
}

/// How far an entity has been fetched in the connection's present life: one that was connected anew starts from nothing.
fn known(loaded: &Loaded, connection: &Connection, entity: EntityKind) -> Cursor {
    let mut cursor = loaded.cursors.get(&entity).cloned().unwrap_or_else(|| Cursor::new(entity));
    let present = |at: &Stamp| connection.connected_at.is_none_or(|connected| *at >= connected);
    cursor.since = cursor.since.filter(present);
    cursor.swept = cursor.swept.filter(present);
    cursor.run = cursor.run.filter(|run| present(&run.begun));
    cursor
}

#[cfg(test)]
mod tests {
    use commerce::envelope::Listing;

    use super::*;

    fn at(seconds: i64) -> Stamp {
        Stamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_run_covers_what_it_will_find() {
        let run = |fetch, from: Option<i64>| {
            let next = Listing::new("x", None);
            Run { fetch, begun: at(100), from: from.map(at), at: at(100), next, pages: 0, found: 0 }
        };
        let changed = run(Fetch::Changed, Some(50));
        assert!(covers(&changed, Fetch::Changed, Some(at(50))) && covers(&changed, Fetch::Changed, Some(at(60))));
        assert!(!covers(&changed, Fetch::Changed, Some(at(40))), "an earlier one takes its place");
        assert!(!covers(&changed, Fetch::Sweep, None) && !covers(&changed, Fetch::Import, None));
        for fetch in [Fetch::Changed, Fetch::Sweep, Fetch::Import] {
            assert!(covers(&run(Fetch::Import, None), fetch, None) && covers(&run(Fetch::Sweep, None), fetch, None));
        }
    }

    #[test]
    fn what_is_due_follows_from_the_cursor() {
        let cursor = |since: i64, swept: i64| {
            let (since, swept) = (Some(at(since)), Some(at(swept)));
            Cursor { since, swept, ..Cursor::new(EntityKind::Order) }
        };
        let (new, now) = (Cursor::new(EntityKind::Order), 1_000_000);
        for (polling, every, cursor, expected) in [
            (Polling::Changed, None, new.clone(), Some(Fetch::Import)),
            (Polling::Sweep, None, new.clone(), Some(Fetch::Import)),
            (Polling::Changed, Some(0), new, None),
            (Polling::Changed, None, cursor(now - 3599, now - 5000), None),
            (Polling::Changed, None, cursor(now - 3600, now - 5000), Some(Fetch::Changed)),
            (Polling::Changed, Some(900), cursor(now - 900, now - 5000), Some(Fetch::Changed)),
            (Polling::Changed, Some(900_000), cursor(now - 9000, now - 9000), None),
            (Polling::Changed, None, cursor(now, now - FULL_SECONDS), Some(Fetch::Sweep)),
            (Polling::Sweep, None, cursor(now, now - 86_399), None),
            (Polling::Sweep, None, cursor(now, now - 86_400), Some(Fetch::Sweep)),
            (Polling::Sweep, Some(600), cursor(now, now - 600), Some(Fetch::Sweep)),
            (Polling::Sweep, Some(0), cursor(0, 0), None),
        ] {
            assert_eq!(due(polling, every, &cursor, at(now)), expected, "{polling:?} {every:?} {cursor:?}");
        }
    }
}
