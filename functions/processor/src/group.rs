//! All messages of a batch that concern one entity: they are merged in memory and written once.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
};

use cloud::{
    EdgeError,
    connections::Vault,
    coordination::{Coordination, Note},
    outbound::Outbound,
    queue::{Inbox, Jobs},
    state::{Entities, Put, Stored},
};
use commerce::{
    change::{Change, State},
    connection::{Connection, DeletePolicy},
    drift::DriftKind,
    entity::{EntityKey, references},
    envelope::{Content, Sealed},
    http_call::Fault,
    item::{Item, Projection, TOO_OLD_SECONDS, Writer},
    outcome::{Outcome, Reason, Rule},
    platform::mapping::{Mapped, deleted_fields},
    scheme::Strength,
    transfer::{Payload, Transfer},
};
use futures_util::future::join_all;

use crate::{
    End, MAX_ATTEMPTS, Message, Processor, Work,
    act::hash,
    gate,
    places::{Place, Places},
    strangers::{may_be_first, may_precede},
    task::{end_of_fault, without_credentials},
};

/// How often a write that conflicts is tried.
const MAX_WRITES: u32 = 5;
/// How far what is asked for may be from its delivery, in messages: what it needs is asked for, and what that needs, and no more.
const MAX_DEPTH: u32 = 2;
/// How much of what an entity requires is looked up at once.
const MAX_REQUIRED: usize = 100;
/// How long what was asked for is not asked for again, in seconds.
const ASKED_SECONDS: i64 = 3600;

/// What the reason of a transfer begins with that was asked for because another entity refers to it; that one's key follows.
const ALONG: &str = "with ";

/// How long after a change what was pulled is sure to contain it, in seconds.
const KNOWN_AFTER_SECONDS: i64 = 60;

/// How the messages of a group ended, each by its place in the batch, with a word on why.
pub(crate) type Ends = Vec<(usize, End, String)>;

/// What came of messages, by their places in the batch, as far as it would be a loss if polling found it; and what of entities could
/// not be read.
#[derive(Default)]
pub(crate) struct Losses {
    differences: Mutex<Vec<(usize, DriftKind)>>,
    unreadable: Mutex<Vec<(EntityKey, Vec<String>)>>,
}

impl Losses {
    fn add(&self, index: usize, difference: DriftKind) {
        self.differences.lock().unwrap_or_else(PoisonError::into_inner).push((index, difference));
    }

    /// What messages have changed that were written.
    fn found(&self, key: &EntityKey, next: &Item, before: &State, ready: &[Ready], outcomes: &[Outcome]) {
        if !next.unchanged && !next.unreadable.is_empty() {
            let places = (key.clone(), next.unreadable.clone());
            self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).push(places);
        }
        let was_there = before.content().is_some() && !before.is_deleted();
        for (ready, _) in ready.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Outcome::Applied) {
            let gone = ready.changes.iter().any(|change| matches!(change, Change::Delete(_)));
            self.add(ready.index, if was_there && !gone { DriftKind::Stale } else { DriftKind::Missed });
        }
    }

    /// All of it.
    pub(crate) fn all(self) -> Vec<(usize, DriftKind)> {
        self.differences.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The places that could not be read, of each entity that was written.
    pub(crate) fn unreadable(&self) -> Vec<(EntityKey, Vec<String>)> {
        std::mem::take(&mut *self.unreadable.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the entities of a batch are brought up to date with.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    /// The batch.
    pub messages: &'a [Message],
    /// What polling would have found.
    pub losses: &'a Losses,
    /// What there is room for.
    pub places: &'a Places,
}

/// How a message ends whose entity's item, or connection, is there and cannot be read.
pub(crate) fn end_of_unreadable() -> End {
    End::Failed(Reason::StateUnavailable, "its item, or its connection's, cannot be read".to_owned())
}

/// A message whose changes are ready to be merged.
struct Ready {
    index: usize,
    changes: Vec<Change>,
    /// What the platform refused when it was asked to do something: the message is put aside, once the state is written.
    refused: Option<String>,
    /// The rule by which it is ignored unless the entity is known.
    only_if_known: Option<Rule>,
    /// Whether the platform was asked already.
    asked: bool,
}

/// What asking the platform came to.
struct Answer {
    /// The entity as it is, or its absence; or the rule by which it is not kept.
    change: Result<Change, Rule>,
    /// The rule by which the change is ignored unless the entity is known.
    only_if_known: Option<Rule>,
    /// Why the platform refuses what was to be done there.
    refused: Option<String>,
}

/// A change that a merge was interrupted for: the platform has to say which of two contents is the newer one, or whether what was
/// deleted is there again. Of an update that was never seen, nobody else can tell whether it came before the delete.
struct Doubtful(usize);

impl<E, Q, V, O, C, J> Processor<E, Q, V, O, C, J>
where
    E: Entities + Sync,
    Q: Inbox + Sync,
    V: Vault + Sync,
    O: Outbound + Sync,
    C: Coordination + Sync,
    J: Jobs + Sync,
{
    /// Brings one entity up to date.
    pub(crate) async fn group(
        &self,
        run: Run<'_>,
        key: EntityKey,
        mut works: Vec<Work>,
        connection: Option<&Connection>,
        stored: Option<Stored>,
    ) -> Ends {
        let Run { messages, losses, places } = run;
        let key = &key;
        let place = &places.of(&key.connection);
        let weight = works.iter().map(|work| work.weight).sum::<usize>();
        place.hold(weight + stored.as_ref().map_or(0, Stored::weight)).await;
        let item = match stored.map(Stored::open) {
            None => None,
            Some(Some((item, false))) => Some(item),
            Some(Some((item, true))) => {
                cloud::telemetry::warn("item-damaged", &format!("{} {}", key.partition(), key.sort()));
                // What could not be read is asked for again, where it can be.
                if connection.is_some_and(|connection| connection.credentials.is_some()) {
                    works.iter_mut().for_each(Work::ask_again);
                }
                Some(item)
            }
            Some(None) => {
                return works.iter().map(|work| (work.index, end_of_unreadable(), String::new())).collect();
            }
        };
        let works = &works[..];
        let mut ends = Ends::new();
        let mut ready = Vec::new();
        // Many hints about one entity are one pull.
        let mut asked: Option<Result<Answer, Fault>> = None;
        let mut taken_by = None;
        for work in works {
            let mut end = |end: End, why: &str| ends.push((work.index, end, why.to_owned()));
            let ignored = |rule| End::Outcome(Outcome::Ignored(rule));
            let connection = match gate(connection, &work.platform, &work.envelope) {
                Ok(connection) => connection,
                Err(rule) => {
                    end(ignored(rule), "");
                    continue;
                }
            };
            let policy = connection.delete_policy(key.kind);
            let mut changes = work.changes.clone();
            if policy == DeletePolicy::Ignore {
                changes.retain(|change| !matches!(change, Change::Delete(_)));
                if changes.is_empty() && !work.changes.is_empty() {
                    end(ignored(Rule::DELETES_IGNORED), "");
                    continue;
                }
            }
            let too_old = item.is_none()
                && policy == DeletePolicy::Remove
                && work.envelope.received.plus_seconds(TOO_OLD_SECONDS) < (self.clock)();
            let declared = work.processor();
            let can_ask = connection.credentials.is_some() && declared.is_some_and(|declared| declared.pull);
            // Of what a partial payload says, and of what a thin one alone knows, the platform can only add to, not confirm.
            let partial = declared.is_some_and(|declared| declared.payload == Payload::Partial);
            let adds = (partial || work.beside) && !changes.is_empty();
            if work.changes.is_empty() && item.as_ref().is_some_and(|item| is_known(work, item)) {
                end(End::Outcome(Outcome::Unchanged), "");
                continue;
            }
            if item.is_none() && matches!(&work.envelope.content, Content::Transfer(Transfer { only_known: true, .. }))
            {
                end(ignored(Rule::NOT_KNOWN), "");
                continue;
            }
            let (mut refused, mut only_if_known, mut is_answered) = (None, work.only_if_known, false);
            let told_gone = can_ask
                && may_be_first(work, item.as_ref(), &messages[work.index].id)
                && match self.told_gone(key).await {
                    Ok(gone) => gone.is_some(),
                    Err(error) => {
                        end(End::Failed(Reason::StateUnavailable, error.to_string()), "");
                        continue;
                    }
                };
            if can_ask && (work.is_hint() || too_old || told_gone) {
                if asked.is_none() {
                    let known =
                        item.is_some() || works.iter().any(|work| is_told(work) && work.only_if_known.is_none());
                    let by = &messages[work.index].id;
                    asked = Some(self.ask(place, key, work, connection, item.as_ref(), known, by).await);
                }
                let last_try = messages[work.index].attempts >= MAX_ATTEMPTS;
                match asked.as_mut() {
                    Some(Ok(Answer { change: Ok(change), only_if_known: rule, refused: why })) => {
                        if !adds {
                            changes.clear();
                            // What another entity refers to matters as well.
                            only_if_known = rule.filter(|_| !is_asked_along(work));
                        }
                        changes.push(change.clone());
                        is_answered = work.beside;
                        // One of the messages that asked is enough to put aside.
                        refused = why.take();
                    }
                    Some(Ok(Answer { change: Err(_), .. })) if adds => {}
                    Some(Ok(Answer { change: Err(rule), .. })) => {
                        end(ignored(*rule), "");
                        continue;
                    }
                    // What was delivered is worth having without what could be added.
                    Some(Err(fault)) if adds && !work.beside && (last_try || is_lasting(fault)) => {
                        cloud::telemetry::warn(
                            "nothing-added",
                            &format!("{} {}: {fault}", key.partition(), key.sort()),
                        );
                    }
                    Some(Err(fault)) => {
                        if matches!(fault, Fault::Unreadable(_) | Fault::TooLarge(_)) {
                            losses.add(work.index, DriftKind::Unmapped);
                        }
                        let (ended, why) = end_of_fault(fault);
                        end(ended, &why);
                        continue;
                    }
                    None => continue,
                }
            } else if too_old {
                end(End::Outcome(Outcome::Quarantined(Reason::TooOld)), "");
                continue;
            }
            // A delete that proves only its caller, and cannot be confirmed where the platform could: it may be an old one.
            let unconfirmed = work.envelope.strength == Strength::Caller
                && !can_ask
                && declared.is_some_and(|declared| declared.pull && declared.payload != Payload::Partial)
                && changes.iter().any(|change| matches!(change, Change::Delete(_)));
            if changes.is_empty() || unconfirmed || (work.beside && !can_ask) {
                let (without, why) = without_credentials();
                end(without, &why);
                continue;
            }
            ready.push(Ready { index: work.index, changes, refused, only_if_known, asked: is_answered });
            taken_by = Some(connection);
        }
        let mut item = item;
        let is_never_here = |ready: &Ready| ready.only_if_known == Some(Rule::NEVER_HERE);
        if item.is_none() && !ready.is_empty() && ready.iter().all(is_never_here) {
            let deletes = ready.iter().flat_map(|ready| &ready.changes).filter_map(|change| match change {
                Change::Delete(delete) => Some(delete.received),
                _ => None,
            });
            let at = deletes.max().unwrap_or((self.clock)());
            item = match self.note_gone(key, at).await {
                Ok(item) => item,
                Err(error) => {
                    let failed = End::Failed(Reason::StateUnavailable, error.to_string());
                    ends.extend(ready.iter().map(|ready| (ready.index, failed.clone(), String::new())));
                    return ends;
                }
            };
        }
        if item.is_none() && ready.iter().all(|ready| ready.only_if_known.is_some()) {
            ends.extend(ready.drain(..).filter_map(|ready| {
                Some((ready.index, End::Outcome(Outcome::Ignored(ready.only_if_known?)), String::new()))
            }));
        }
        if let Some(connection) = taken_by {
            self.settle(run, place, key, works, connection, item, ready, &mut ends).await;
        }
        ends
    }

    /// Asks the platform for the entity, and does what the connection's settings say about it.
    #[expect(clippy::too_many_arguments, reason = "what is known of one entity")]
    async fn ask(
        &self,
        place: &Place<'_>,
        key: &EntityKey,
        work: &Work,
        connection: &Connection,
        item: Option<&Item>,
        known: bool,
        by: &str,
    ) -> Result<Answer, Fault> {
        let mut pulled = self.pull(place, &work.platform, key, connection, known).await?;
        let mut refused = None;
        if work.platform.act.is_some_and(|act| act.acts_on(key.kind, &connection.settings)) {
            let known = item.map(Item::state).filter(|state| !state.is_deleted());
            let known = known.and_then(|state| state.visible().1.map(std::borrow::Cow::into_owned));
            let shown = hash(&pulled.mapped);
            if shown.is_some() && shown == known && self.is_echo(key, shown.as_deref().unwrap_or_default()).await {
                return Ok(Answer { change: Err(Rule::ECHO), only_if_known: None, refused: None });
            }
            if let Some(done) = self.act(place, &work.platform, key, connection, &pulled, by).await? {
                (pulled.mapped, refused) = (done.mapped, done.refused);
            }
        }
        let (change, only_if_known) = match pulled.mapped {
            Mapped::Change(_, Change::Delete(_)) | Mapped::IfKnown(_, Change::Delete(_), _)
                if connection.delete_policy(key.kind) == DeletePolicy::Ignore =>
            {
                (Err(Rule::DELETES_IGNORED), None)
            }
            Mapped::Change(_, change) => (Ok(change), None),
            Mapped::IfKnown(_, change, rule) => (Ok(change), Some(rule)),
            Mapped::Ignored(rule) => (Err(rule), None),
            Mapped::Pull(_) | Mapped::PullWith(..) | Mapped::Known(..) | Mapped::Split(_) | Mapped::List(_) => {
                return Err(Fault::Unreadable("a pull gave something else than the entity".into()));
            }
        };
        Ok(Answer { change, only_if_known, refused })
    }

    /// Has what an entity needs and takes along pulled: what it requires if it is not known, once; what follows it always. Before the
    /// entity is written, so that a crash in between does both again.
    async fn pull_along(
        &self,
        key: &EntityKey,
        work: &Work,
        connection: &Connection,
        state: &State,
    ) -> Result<(), EdgeError> {
        let Some(declared) = work.processor() else { return Ok(()) };
        if connection.credentials.is_none() || work.envelope.depth >= MAX_DEPTH || state.is_deleted() {
            return Ok(());
        }
        let Some(content) = state.content() else { return Ok(()) };
        let found = references(key.kind, &content);
        let (follow, rest): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(kind, _)| declared.followed_by.contains(kind));
        let required = rest.into_iter().filter(|(kind, _)| declared.requires.contains(kind));
        let entity = |(kind, id)| EntityKey { connection: key.connection.clone(), kind, id };
        // An order of more things than that is completed by their own deliveries.
        let required: Vec<EntityKey> = required.map(entity).take(MAX_REQUIRED).collect();
        let mut asked = Vec::new();
        if !required.is_empty() {
            let known = self.edges.entities.known(&required).await?;
            let unknown: Vec<_> = required.into_iter().filter(|wanted| !known.contains(wanted)).collect();
            let name = |wanted: &EntityKey| format!("asked#{}", wanted.sort());
            let notes = join_all(
                unknown
                    .iter()
                    .map(|wanted| async move { self.edges.coordination.note(&key.connection, &name(wanted)).await }),
            );
            for (wanted, note) in unknown.iter().zip(notes.await) {
                let note = note?;
                if !note.as_ref().is_some_and(|note| note.is_live((self.clock)())) {
                    asked.push((wanted.clone(), name(wanted), note.map_or(0, |note| note.revision)));
                }
            }
        }
        let reason = format!("{ALONG}{}", key.sort());
        let child = |wanted: &EntityKey| {
            let transfer = Transfer::new(wanted.kind, wanted.id.clone(), reason.clone());
            Sealed::child(&work.envelope, transfer)
        };
        let mut children: Vec<Sealed> = follow.into_iter().map(entity).map(|wanted| child(&wanted)).collect();
        children.extend(asked.iter().map(|(wanted, ..)| child(wanted)));
        self.edges.queues.send_all(&children).await?;
        let expires = (self.clock)().seconds() + ASKED_SECONDS;
        // Without the note, the same is asked for twice.
        join_all(asked.iter().map(|(_, name, revision)| async move {
            let note = Note { body: String::new(), revision: revision + 1, expires };
            let _ = self.edges.coordination.keep(&key.connection, name, &note).await;
        }))
        .await;
        Ok(())
    }

    /// Merges, asks the platform about what is doubtful, and writes.
    #[expect(clippy::too_many_arguments, reason = "one step of `group`, split off for its length")]
    async fn settle(
        &self,
        Run { messages, losses, .. }: Run<'_>,
        place: &Place<'_>,
        key: &EntityKey,
        works: &[Work],
        connection: &Connection,
        mut item: Option<Item>,
        mut ready: Vec<Ready>,
        ends: &mut Ends,
    ) {
        let asks = |work: &Work| work.processor().is_some_and(|declared| declared.pull);
        let mut may_ask = connection.credentials.is_some() && works.iter().any(asks);
        let policy = connection.delete_policy(key.kind);
        let mapping = works.first().map(|work| work.platform.mapping);
        let deleted_fields = deleted_fields();
        let projection = Projection { policy, deleted_fields: &deleted_fields };
        let attempt = attempt();
        let mut writes = 0;
        while let Some(first) = ready.first() {
            let before = item.as_ref().map(Item::state).unwrap_or_default();
            let (state, outcomes) = match merge_all(&before, &ready, may_ask, &projection) {
                Ok(merged) => merged,
                Err(Doubtful(nth)) => {
                    let index = ready[nth].index;
                    let Some(work) = works.iter().find(|work| work.index == index) else { continue };
                    let by = &messages[work.index].id;
                    let answer = self.ask(place, key, work, connection, item.as_ref(), true, by).await;
                    let gives_up = |fault: &Fault| is_lasting(fault) && messages[index].attempts >= MAX_ATTEMPTS;
                    // Once per group: an answer is newer than all that was delivered.
                    may_ask = answer.as_ref().is_err_and(|fault| !gives_up(fault));
                    match answer {
                        Ok(Answer { change: Ok(change), .. }) => ready[nth].changes.push(change),
                        // What was delivered stands.
                        Ok(Answer { change: Err(_), .. }) => {}
                        // A platform that does not answer at all must not keep back for ever what it delivers.
                        Err(fault) if gives_up(&fault) => {
                            cloud::telemetry::warn(
                                "not-asked",
                                &format!("{} {}: {fault}", key.partition(), key.sort()),
                            );
                        }
                        Err(fault) => {
                            let (end, why) = end_of_fault(&fault);
                            ends.push((index, end, why));
                            ready.remove(nth);
                        }
                    }
                    continue;
                }
            };
            let fail = |reason: Reason, why: String| {
                ready.iter().map(move |ready| (ready.index, End::Failed(reason, why.clone()), String::new()))
            };
            // Who holds the same message at the same moment is another writer.
            let by = format!("{} {attempt}", messages[first.index].id);
            let writer = Writer { by: &by, now: (self.clock)() };
            let next = match projection.item(key, &state, item.as_ref(), writer) {
                Ok(next) => next,
                Err(error) => {
                    // Those whose content has won are too large; the others are merged without them.
                    let (large, rest): (Vec<_>, Vec<_>) =
                        ready.into_iter().partition(|ready| ready.changes.iter().any(|change| state.keeps(change)));
                    // If it is nobody's, it was stored like that, and its bookkeeping makes it too large.
                    let (large, rest) = if large.is_empty() { (rest, large) } else { (large, rest) };
                    let end = End::Outcome(Outcome::Quarantined(Reason::ItemTooLarge));
                    large.iter().for_each(|ready| losses.add(ready.index, DriftKind::Unmapped));
                    ends.extend(large.iter().map(|ready| (ready.index, end.clone(), error.to_string())));
                    ready = rest;
                    continue;
                }
            };
            if item.as_ref().is_some_and(|item| next.is_as(item)) {
                ends.extend(finished(&ready, outcomes));
                return;
            }
            let grown = projection.visible(&state) != projection.visible(&before);
            let nearest = ready.iter().filter_map(|ready| works.iter().find(|work| work.index == ready.index));
            if let Some(work) = nearest.min_by_key(|work| work.envelope.depth).filter(|_| grown)
                && let Err(error) = self.pull_along(key, work, connection, &state).await
            {
                ends.extend(fail(Reason::StateUnavailable, format!("what it needs was not asked for: {error}")));
                return;
            }
            writes += 1;
            match self.edges.entities.put(&next, item.as_ref().map(|item| item.rev.as_str())).await {
                // Here for the first time, and told to be gone meanwhile: the platform is asked, as if it had been known before.
                Ok(Put::Written)
                    if item.is_none()
                        && may_ask
                        && mapping.is_some_and(|mapping| mapping.tells_of_strangers())
                        && let told = self.told_gone(key).await.unwrap_or(Some((self.clock)()))
                        && let Some(nth) = ready.iter().position(|ready| {
                            told.is_some_and(|gone| ready.changes.iter().any(|change| may_precede(change, gone)))
                        })
                        && let Some(work) = works.iter().find(|work| work.index == ready[nth].index) =>
                {
                    let by = &messages[work.index].id;
                    match self.ask(place, key, work, connection, Some(&next), true, by).await {
                        Ok(Answer { change: Ok(change), .. }) => ready[nth].changes.push(change),
                        Ok(Answer { change: Err(_), .. }) => {}
                        Err(fault) => {
                            let (end, why) = end_of_fault(&fault);
                            ends.push((work.index, end, why));
                            ready.remove(nth);
                        }
                    }
                    (may_ask, item) = (false, Some(next));
                }
                Ok(Put::Written) => {
                    losses.found(key, &next, &before, &ready, &outcomes);
                    ends.extend(finished(&ready, outcomes));
                    return;
                }
                // Our own earlier try had landed; only its answer was lost.
                Ok(Put::Conflict(Some(stored))) if stored.by == next.by && stored.rev == next.rev => {
                    losses.found(key, &next, &before, &ready, &outcomes);
                    ends.extend(finished(&ready, outcomes));
                    return;
                }
                Ok(Put::Conflict(_)) if writes == MAX_WRITES => {
                    ends.extend(fail(Reason::Contention, format!("{writes} writes in a row conflicted")));
                    return;
                }
                Ok(Put::Conflict(stored)) => item = stored.map(|stored| *stored),
                Err(error) => {
                    ends.extend(fail(Reason::StateUnavailable, error.to_string()));
                    return;
                }
            }
        }
    }
}

/// Whether it was asked for because another entity refers to it.
fn is_asked_along(work: &Work) -> bool {
    matches!(&work.envelope.content, Content::Transfer(transfer) if transfer.reason.starts_with(ALONG))
}

/// Whether an entity is known here as the source showed it to whoever made a transfer request; or, where it only told when it had
/// changed, as it was at that time. Pulled some time after it, for within one second there can be two changes, and clocks differ.
fn is_known(work: &Work, item: &Item) -> bool {
    let Content::Transfer(Transfer { changed, shown, .. }) = &work.envelope.content else { return false };
    let state = item.state();
    if let Some(shown) = shown {
        return !state.is_deleted() && state.content().is_some_and(|content| shown.is(&content));
    }
    let Some(changed) = changed else { return false };
    let win = state.win.as_ref().map(|win| &win.version);
    let as_new = win.is_some_and(|version| version.rank >= Some(*changed));
    as_new
        && !state.lacks_content()
        && !state.is_deleted()
        && state.marks.seen > Some(changed.plus_seconds(KNOWN_AFTER_SECONDS))
}

/// Whether a message says itself how the entity is.
fn is_told(work: &Work) -> bool {
    work.changes.iter().any(|change| matches!(change, Change::Upsert(_)))
}

/// What is said of a message whose source time was not to be believed.
pub(crate) const CLAMPED: &str = "the source's clock is more than a day ahead";

/// What tells one attempt to write from all others.
fn attempt() -> String {
    format!("{:016x}", RandomState::new().hash_one(0_u8))
}

/// Whether trying again in a while does not help.
fn is_lasting(fault: &Fault) -> bool {
    matches!(fault, Fault::Connection(_) | Fault::Unreadable(_) | Fault::TooLarge(_))
}

/// Merges message after message; each gets the outcome that its own changes made. Stops at what the platform should be asked about.
fn merge_all(
    before: &State,
    ready: &[Ready],
    may_ask: bool,
    projection: &Projection<'_>,
) -> Result<(State, Vec<Outcome>), Doubtful> {
    let mut state = before.clone();
    let mut outcomes = Vec::with_capacity(ready.len());
    for (place, message) in ready.iter().enumerate() {
        let start = state.clone();
        let mut outcome = Outcome::Unchanged;
        for (nth, change) in message.changes.iter().enumerate() {
            let merged = state.merge_as(change, |state| projection.visible(state));
            let observed = |change: &Change| matches!(change, Change::Upsert(upsert) if upsert.observed);
            let unseen = matches!(change, Change::Upsert(_)) && !observed(change);
            let revives = unseen && state.is_deleted() && !merged.state.is_deleted();
            // Some have been asked about already.
            let asked = message.asked || message.changes.iter().any(observed);
            if may_ask && !asked && (merged.tied || revives) {
                return Err(Doubtful(place));
            }
            if nth == 0 {
                outcome = merged.outcome;
            }
            state = merged.state;
        }
        // What the platform added on being asked counts with the message that made us ask.
        if message.changes.len() > 1 {
            outcome = match (projection.visible(&state) == projection.visible(&start), outcome) {
                (false, _) => Outcome::Applied,
                (true, Outcome::Applied) => Outcome::Superseded,
                (true, other) => other,
            };
        }
        outcomes.push(outcome);
    }
    // What a policy has dropped does not come back by itself.
    let fetched =
        |ready: &Ready| ready.changes.iter().any(|change| matches!(change, Change::Upsert(upsert) if upsert.observed));
    if may_ask && state.lacks_content() && !state.is_deleted() && !ready.iter().any(fetched) {
        return Err(Doubtful(ready.len().saturating_sub(1)));
    }
    Ok((state, outcomes))
}

fn finished(ready: &[Ready], outcomes: Vec<Outcome>) -> Ends {
    let clamped = |ready: &Ready| ready.changes.iter().any(Change::is_clamped);
    let note = |ready: &Ready| if clamped(ready) { CLAMPED } else { "" };
    ready
        .iter()
        .zip(outcomes)
        .map(|(ready, outcome)| match &ready.refused {
            Some(why) => (ready.index, End::Outcome(Outcome::Quarantined(Reason::ActionRefused)), why.clone()),
            None => (ready.index, End::Outcome(outcome), note(ready).to_owned()),
        })
        .collect()
}
