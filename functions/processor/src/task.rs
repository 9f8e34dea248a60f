//! Messages that do not name one entity: those that stand for several, those that want a list gone through, and those that only the
//! registrar has to know.

use std::collections::BTreeMap;

use cloud::{
    EdgeError,
    connections::Vault,
    coordination::{Coordination, Note},
    outbound::Outbound,
    queue::{Inbox, Jobs},
    state::Entities,
};
use commerce::{
    connection::{Connection, ConnectionStatus},
    drift::{NOT_IN_SWEEP, SweptPage, all_swept, swept_notes},
    entity,
    envelope::{Content, Counted, Erasure, Known, Reprojection, Sealed, Swept},
    http_call::Fault,
    item::{Projection, Writer},
    job::{Job, Trigger},
    key::ConnectionKey,
    outcome::{Outcome, Reason, Rule},
    platform::{
        lists::read_page,
        mapping::deleted_fields,
        notice::{NOTICE, NOTICE_SECONDS, Notice},
        pull::Access,
    },
    request::is_too_large_a_page,
    timestamp::Timestamp,
    transfer::{Listing, Transfer},
};

use crate::{End, Processor, Task, Understood, What, gate, places::Place};

/// How many pages of a list are gone through at once; the rest is a message of its own.
const MAX_PAGES: usize = 5;
/// What the names of notes begin with that say until when all was found; the scope follows.
const FOUND: &str = "found#";
/// How long such a note counts, in seconds.
const FOUND_SECONDS: i64 = 30 * 24 * 60 * 60;
/// How many keys of what is known here are read at once,
const KEY_PAGE: u32 = 500;
/// and how many times that in one message; the rest is a message of its own.
const MAX_KEY_PAGES: usize = 5;
/// More pages than any list has.
const MAX_LIST_PAGES: u32 = 1_000;

/// How many items are erased by one call, and how many such pages by one message; the rest is a message of its own.
const ERASED_AT_ONCE: u32 = 100;
const ERASED_PAGES: usize = 20;
/// The same of items that are shown by another policy, which are read whole.
const REPROJECTED_AT_ONCE: u32 = 25;
const REPROJECTED_PAGES: usize = 20;

impl<E, Q, V, O, C, J> Processor<E, Q, V, O, C, J>
where
    E: Entities + Sync,
    Q: Inbox + Sync,
    V: Vault + Sync,
    O: Outbound + Sync,
    C: Coordination + Sync,
    J: Jobs + Sync,
{
    /// Does what a task asks for.
    pub(crate) async fn task(&self, task: &Task, connection: Option<&Connection>, place: &Place<'_>) -> (End, String) {
        match &task.what {
            What::Erase(erasure) => return self.erase(task, erasure).await,
            What::Reproject(reprojection) => return self.reproject(task, reprojection).await,
            _ => {}
        }
        let connection = match gate(connection, &task.platform, &task.envelope) {
            Ok(connection) => connection,
            Err(rule) => return (End::Outcome(Outcome::Ignored(rule)), String::new()),
        };
        match &task.what {
            What::Split(transfers) => self.split(task, transfers).await,
            What::List(_, otherwise) if connection.credentials.is_none() => {
                otherwise.clone().unwrap_or_else(without_credentials)
            }
            What::List(listing, otherwise) => match self.list(task, listing, connection, place).await {
                // It has to be in there, and is not.
                (End::Outcome(Outcome::Split(0)), _) if otherwise.is_some() => {
                    otherwise.clone().unwrap_or_else(without_credentials)
                }
                ended => ended,
            },
            What::Complaint(notice, then) => {
                if connection.credentials.is_some() {
                    self.complain(&task.envelope.key, notice).await;
                }
                match then.as_ref() {
                    Understood::End(end, why) => (end.clone(), why.clone()),
                    Understood::Task(task) => Box::pin(self.task(task, Some(connection), place)).await,
                    Understood::Work(_) => (End::Unfinished, String::new()),
                }
            }
            What::Note(notice) => self.note(&task.envelope.key, notice).await,
            What::Swept(swept) => self.swept(task, swept).await,
            What::Count(counted) => self.count(task, counted).await,
            What::Known(known) => self.known(task, known).await,
            // It has become something else, or was done, by now.
            What::Late(..) | What::Erase(_) | What::Reproject(_) => (End::Unfinished, String::new()),
        }
    }

    /// Removes all that is known of a connection, page after page, as long as it is disconnected and nobody has connected it again:
    /// that cancels it, and may happen between two pages. Other messages of it are ignored meanwhile, so nothing new comes.
    async fn erase(&self, task: &Task, erasure: &Erasure) -> (End, String) {
        let key = &task.envelope.key;
        let mut after = erasure.after.clone();
        for _ in 0..ERASED_PAGES {
            let read = match self.edges.entities.read(&[], std::slice::from_ref(key)).await {
                Ok(read) => read,
                Err(error) => return failed(&error),
            };
            let gone = read.connections.get(key).is_some_and(|connection| {
                connection.status == ConnectionStatus::Disconnected && connection.generation == task.envelope.generation
            });
            if !gone {
                return (End::Outcome(Outcome::Ignored(Rule::CONNECTED_AGAIN)), String::new());
            }
            let page = match self.edges.entities.keys(key, None, after.as_deref(), ERASED_AT_ONCE).await {
                Ok(page) => page,
                Err(error) => return failed(&error),
            };
            let entities: Vec<_> = page.keys.into_iter().map(|(entity, _)| entity).collect();
            if let Err(error) = self.edges.entities.remove(&entities).await {
                return failed(&error);
            }
            after = page.next;
            if after.is_none() {
                return (End::Outcome(Outcome::Ignored(Rule::ERASED)), String::new());
            }
        }
        let rest = Sealed::part(&task.envelope, Content::Erase(Erasure { after }));
        match self.edges.queues.send_all(&[rest]).await {
            Ok(()) => (End::Outcome(Outcome::Split(1)), String::new()),
            Err(error) => failed(&error),
        }
    }

    /// Shows what is marked by the policies that the connection has now, page after page.
    async fn reproject(&self, task: &Task, reprojection: &Reprojection) -> (End, String) {
        let key = &task.envelope.key;
        let mut after = reprojection.after.clone();
        for _ in 0..REPROJECTED_PAGES {
            let known = self.edges.entities.keys(key, Some(reprojection.entity), after.as_deref(), REPROJECTED_AT_ONCE);
            let known = match known.await {
                Ok(known) => known,
                Err(error) => return failed(&error),
            };
            let keys: Vec<_> = known.keys.into_iter().map(|(entity, _)| entity).collect();
            let read = match self.edges.entities.read(&keys, std::slice::from_ref(key)).await {
                Ok(read) => read,
                Err(error) => return failed(&error),
            };
            let Some(connection) = read.connections.get(key) else { break };
            let policy = connection.delete_policy(reprojection.entity);
            for (entity, stored) in read.items {
                let Some((item, _)) = stored.open() else { continue };
                let state = item.state();
                if !state.is_deleted() {
                    continue;
                }
                let deleted_fields = deleted_fields();
                let writer = Writer { by: &task.envelope.scope, now: (self.clock)() };
                let projection = Projection { policy, deleted_fields: &deleted_fields };
                let Ok(next) = projection.item(&entity, &state, Some(&item), writer) else { continue };
                if next.is_as(&item) {
                    continue;
                }
                // Whoever wrote it meanwhile did so by the same policy.
                if let Err(error) = self.edges.entities.put(&next, Some(&item.rev)).await {
                    return failed(&error);
                }
            }
            after = known.next;
            if after.is_none() {
                break;
            }
        }
        if after.is_none() {
            return (End::Outcome(Outcome::Ignored(Rule::REPROJECTED)), String::new());
        }
        let rest = Content::Reproject(Reprojection { after, ..reprojection.clone() });
        match self.edges.queues.send_all(&[Sealed::part(&task.envelope, rest)]).await {
            Ok(()) => (End::Outcome(Outcome::Split(1)), String::new()),
            Err(error) => failed(&error),
        }
    }

    /// Counts what is known here and alive. Where that is more than there is at the platform, some are gone without a word, and the
    /// registrar has all of them gone through.
    async fn count(&self, task: &Task, counted: &Counted) -> (End, String) {
        let key = &task.envelope.key;
        let (mut known, mut after) = (counted.known, counted.after.clone());
        for _ in 0..MAX_KEY_PAGES {
            let page = match self.edges.entities.count(key, counted.entity, after.as_deref()).await {
                Ok(page) => page,
                Err(error) => return failed(&error),
            };
            known += page.alive;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if known <= counted.total && after.is_some() {
            let rest = Content::Counted(Counted { known, after, ..counted.clone() });
            return match self.edges.queues.send_all(&[Sealed::part(&task.envelope, rest)]).await {
                Ok(()) => (End::Outcome(Outcome::Split(1)), String::new()),
                Err(error) => failed(&error),
            };
        }
        if known > counted.total {
            let job = Job::Sync { key: key.clone(), entity: counted.entity };
            if let Err(error) = self.edges.jobs.send_jobs(&[(job, 0)]).await {
                return failed(&error);
            }
        }
        (End::Outcome(Outcome::Ignored(Rule::COUNTED)), String::new())
    }

    /// Sends a message for each transfer request.
    async fn split(&self, task: &Task, transfers: &[Transfer]) -> (End, String) {
        let parts: Vec<_> = transfers
            .iter()
            .map(|transfer| Sealed::part(&task.envelope, Content::Transfer(transfer.clone())))
            .collect();
        match self.edges.queues.send_all(&parts).await {
            Ok(()) => (End::Outcome(Outcome::Split(parts.len())), String::new()),
            Err(error) => failed(&error),
        }
    }

    /// Has asked for what is here and was not among all that were fetched: only the platform's own answer says that it is gone.
    async fn swept(&self, task: &Task, swept: &Swept) -> (End, String) {
        let key = &task.envelope.key;
        let prefix = swept_notes(swept.entity, swept.begun);
        let notes = match self.edges.coordination.notes(key, &prefix).await {
            Ok(notes) => notes,
            Err(error) => return failed(&error),
        };
        let now = (self.clock)();
        let read = |(name, note): (String, Note)| {
            let page: SweptPage = serde_json::from_str(&note.body).ok().filter(|_| note.is_live(now))?;
            Some((name.strip_prefix(&prefix)?.parse().ok()?, page))
        };
        let pages: BTreeMap<u32, SweptPage> = notes.into_iter().filter_map(read).collect();
        let Some(there) = all_swept(pages) else {
            return (End::Outcome(Outcome::Ignored(Rule::SWEEP_INCOMPLETE)), String::new());
        };
        let (mut parts, mut after) = (0, swept.after.clone());
        for _ in 0..MAX_KEY_PAGES {
            let known = self.edges.entities.keys(key, Some(swept.entity), after.as_deref(), KEY_PAGE).await;
            let known = match known {
                Ok(known) => known,
                Err(error) => return failed(&error),
            };
            let gone = known.keys.into_iter().filter(|(entity, alive)| *alive && !there.contains(&entity.id));
            let gone = gone.map(|(entity, _)| Transfer::new(entity.kind, entity.id, NOT_IN_SWEEP));
            let sealed: Vec<_> =
                gone.map(|transfer| Sealed::part(&task.envelope, Content::Transfer(transfer))).collect();
            after = known.next;
            parts += sealed.len();
            if let Err(error) = self.edges.queues.send_all(&sealed).await {
                return failed(&error);
            }
            if after.is_none() {
                return (End::Outcome(Outcome::Split(parts)), String::new());
            }
        }
        let rest = Sealed::part(&task.envelope, Content::Swept(Swept { after, ..swept.clone() }));
        match self.edges.queues.send_all(&[rest]).await {
            Ok(()) => (End::Outcome(Outcome::Split(parts + 1)), String::new()),
            Err(error) => failed(&error),
        }
    }

    /// Has asked for what is known here and begins so, page after page: only the platform's own answer says that it is gone.
    async fn known(&self, task: &Task, known: &Known) -> (End, String) {
        let key = &task.envelope.key;
        let reason = format!("known, and concerned by {}", task.envelope.scope);
        let mut prefixes = known.prefixes.iter();
        let (mut prefix, mut after, mut parts) = (prefixes.next(), known.after.clone(), 0);
        for _ in 0..MAX_KEY_PAGES {
            let Some(begins) = prefix else { return (End::Outcome(Outcome::Split(parts)), String::new()) };
            // The keys are sorted, so those that begin so follow each other.
            let sort = format!("{}#{begins}", known.entity);
            let from = after.take().unwrap_or_else(|| sort.clone());
            let page = match self.edges.entities.keys(key, Some(known.entity), Some(&from), KEY_PAGE).await {
                Ok(page) => page,
                Err(error) => return failed(&error),
            };
            let further = page.keys.last().is_none_or(|(entity, _)| entity.sort().starts_with(&sort));
            let found = page.keys.into_iter().filter(|(entity, alive)| *alive && entity.sort().starts_with(&sort));
            let sealed: Vec<_> = found
                .map(|(entity, _)| Transfer::new(entity.kind, entity.id, &reason))
                .map(|transfer| Sealed::part(&task.envelope, Content::Transfer(transfer)))
                .collect();
            parts += sealed.len();
            if let Err(error) = self.edges.queues.send_all(&sealed).await {
                return failed(&error);
            }
            after = page.next.filter(|_| further);
            if after.is_none() {
                prefix = prefixes.next();
            }
        }
        let Some(first) = prefix else { return (End::Outcome(Outcome::Split(parts)), String::new()) };
        let prefixes = std::iter::once(first).chain(prefixes).cloned().collect();
        let rest = Sealed::part(&task.envelope, Content::Known(Known { prefixes, after, ..known.clone() }));
        match self.edges.queues.send_all(&[rest]).await {
            Ok(()) => (End::Outcome(Outcome::Split(parts + 1)), String::new()),
            Err(error) => failed(&error),
        }
    }

    /// Goes through a list, page after page; each entry becomes a message, and so does what is left of the list.
    async fn list(&self, task: &Task, listing: &Listing, connection: &Connection, place: &Place<'_>) -> (End, String) {
        let mut parts = 0;
        let (what, key) = (task.envelope.scope.as_str(), &task.envelope.key);
        if listing.pages >= MAX_LIST_PAGES {
            let why = format!("a list of more than {MAX_LIST_PAGES} pages: the platform may not count them");
            return (End::Outcome(Outcome::Quarantined(Reason::PlatformError)), why);
        }
        let settings = settings_hash(connection);
        let (begun, mut pages) = (listing.begun.unwrap_or((self.clock)()), listing.pages);
        let first = match listing.begun {
            Some(_) => listing.clone(),
            None => match self.found_until(key, what, &settings).await {
                Ok(Some(until)) => match task.platform.lists() {
                    Ok(lists) => lists.rest_of(listing.clone(), until),
                    Err(fault) => return end_of_fault(&fault),
                },
                Ok(None) => listing.clone(),
                Err(error) => return failed(&error),
            },
        };
        let is_shorter = first != *listing;
        let mut next = Some(first);
        for _ in 0..MAX_PAGES {
            let Some(listing) = next.take() else { break };
            let (found, rest) = match self.page(task, &listing, connection, place).await {
                Ok(page) => page,
                // What was found before is on the queue; the list goes on from the page that could not be had.
                Err(fault) if parts > 0 => {
                    cloud::telemetry::warn("list-goes-on-later", &format!("{}: {fault}", task.envelope.key));
                    next = Some(listing);
                    break;
                }
                Err(fault) => return end_of_fault(&fault),
            };
            let sealed: Vec<_> =
                found.into_iter().map(|transfer| Sealed::part(&task.envelope, Content::Transfer(transfer))).collect();
            if let Err(error) = self.edges.queues.send_all(&sealed).await {
                return failed(&error);
            }
            parts += sealed.len();
            pages += 1;
            next = rest;
        }
        match next {
            Some(rest) => {
                let rest = Listing { begun: Some(begun), pages, ..rest };
                let rest = Sealed::part(&task.envelope, Content::Listing(rest));
                if let Err(error) = self.edges.queues.send_all(&[rest]).await {
                    return failed(&error);
                }
                parts += 1;
            }
            None => self.note_found(key, what, &settings, begun).await,
        }
        // What is not in the rest of a list was found when it was gone through before.
        if parts == 0 && is_shorter {
            return (End::Outcome(Outcome::Ignored(Rule::FOUND)), String::new());
        }
        (End::Outcome(Outcome::Split(parts)), String::new())
    }

    /// Until when all that has changed was found by lists that deliveries of a scope began.
    async fn found_until(
        &self,
        key: &ConnectionKey,
        scope: &str,
        settings: &str,
    ) -> Result<Option<Timestamp>, EdgeError> {
        let note = self.edges.coordination.note(key, &format!("{FOUND}{scope}")).await?;
        let live = note.filter(|note| note.is_live((self.clock)()));
        Ok(live.and_then(|note| found_in(&note, settings)))
    }

    /// Notes that a list was gone through to its end. Without the note, the next one looks further back than it must.
    async fn note_found(&self, key: &ConnectionKey, scope: &str, settings: &str, begun: Timestamp) {
        let (notes, name) = (&self.edges.coordination, format!("{FOUND}{scope}"));
        let Ok(before) = notes.note(key, &name).await else { return };
        if before.as_ref().and_then(|note| found_in(note, settings)).is_some_and(|until| until >= begun) {
            return;
        }
        let revision = before.map_or(0, |note| note.revision) + 1;
        let note =
            Note { body: format!("{} {settings}", begun.micros()), revision, expires: begun.seconds() + FOUND_SECONDS };
        let _ = notes.keep(key, &name, &note).await;
    }

    async fn page(
        &self,
        task: &Task,
        listing: &Listing,
        connection: &Connection,
        place: &Place<'_>,
    ) -> Result<(Vec<Transfer>, Option<Listing>), Fault> {
        let key = &task.envelope.key;
        let credentials = self.credentials(key, connection).await?;
        let access = Access { site: &connection.site, credentials: &credentials, settings: &connection.settings };
        let at = (self.clock)();
        let lists = task.platform.lists()?;
        let request = lists.list(&access, listing)?;
        let response = self.call(place, &task.platform, key, connection, request).await?;
        if is_too_large_a_page(&response.body) {
            return Err(Fault::TooLarge("a page of more values than any list has".into()));
        }
        let listed = read_page(lists, &access, listing, &response, at);
        let listed = self.heed(key, connection.generation, Some(&response), listed).await?;
        Ok((listed.found, listed.next))
    }

    /// Tells the registrar of errors that a webhook delivers; not of each of them, and no harm is done if it is not told.
    async fn complain(&self, key: &ConnectionKey, notice: &Notice) {
        let now = (self.clock)();
        if !self.lately.is_due(key, &notice.kind, now) {
            return;
        }
        self.lately.note(key, &notice.kind, now);
        if let (End::Failed(_, why), _) = self.note(key, notice).await {
            cloud::telemetry::warn("complaint-not-told", &format!("{key}: {why}"));
        }
    }

    /// Keeps a notice for the registrar, and tells it; of one kind, the one that was received last.
    async fn note(&self, key: &ConnectionKey, notice: &Notice) -> (End, String) {
        let name = format!("{NOTICE}{}", notice.kind);
        let notes = &self.edges.coordination;
        for _ in 0..5 {
            let before = match notes.note(key, &name).await {
                Ok(before) => before,
                Err(error) => return failed(&error),
            };
            let known: Option<Notice> = before.as_ref().and_then(|note| serde_json::from_str(&note.body).ok());
            if known.as_ref().is_some_and(|known| known.received > notice.received) {
                return (End::Outcome(Outcome::Ignored(Rule::NOTED)), String::new());
            }
            // It was kept, but perhaps not told.
            if known.is_some_and(|known| known.received == notice.received) {
                return self.tell(key).await;
            }
            let note = Note {
                body: serde_json::to_string(notice).unwrap_or_default(),
                revision: before.map_or(0, |note| note.revision) + 1,
                expires: (self.clock)().seconds() + NOTICE_SECONDS,
            };
            match notes.keep(key, &name, &note).await {
                Ok(true) => return self.tell(key).await,
                Ok(false) => {}
                Err(error) => return failed(&error),
            }
        }
        (End::Failed(Reason::Contention, "the notice was written by others each time".into()), String::new())
    }

    /// Has the registrar look after a connection that there is a notice for.
    async fn tell(&self, key: &ConnectionKey) -> (End, String) {
        let job = Job::check(key, Trigger::Told);
        match self.edges.jobs.send_jobs(&[(job, 0)]).await {
            Ok(()) => (End::Outcome(Outcome::Ignored(Rule::NOTED)), String::new()),
            Err(error) => failed(&error),
        }
    }
}

/// How a message ends for which the platform has to be asked, where it cannot be.
pub(crate) fn without_credentials() -> (End, String) {
    let why = "it has to be asked for at the platform, which needs credentials; connect with them, then redrive";
    (End::Outcome(Outcome::Quarantined(Reason::ConnectionFault)), why.to_owned())
}

/// The time in a note of what was found, if it was found under the same settings: they say which lists there are.
fn found_in(note: &Note, settings: &str) -> Option<Timestamp> {
    let (until, under) = note.body.split_once(' ')?;
    (under == settings).then(|| until.parse().ok().map(Timestamp::from_micros))?
}

fn settings_hash(connection: &Connection) -> String {
    entity::Content { fields: connection.settings.clone(), ..entity::Content::default() }.hash()
}

fn failed(error: &EdgeError) -> (End, String) {
    (End::Failed(Reason::StateUnavailable, error.to_string()), String::new())
}

/// How a message ends for which the platform could not be asked.
pub(crate) fn end_of_fault(fault: &Fault) -> (End, String) {
    let end = match fault {
        Fault::Throttled { seconds } => End::Deferred(*seconds),
        Fault::Unavailable(_) => End::Failed(Reason::PlatformUnavailable, fault.to_string()),
        Fault::Connection(_) => End::Failed(Reason::ConnectionFault, fault.to_string()),
        Fault::Unreadable(_) => End::Failed(Reason::Malformed, fault.to_string()),
        // To try again would take the same again, and the others of a batch would wait for it.
        Fault::TooLarge(_) => return (End::Outcome(Outcome::Quarantined(Reason::TooLarge)), fault.to_string()),
    };
    (end, String::new())
}
