//! The update of one entity with all messages of a batch that concern it.

use cloud::{
    EdgeError,
    coordination::{Coordination, Note},
    queue::Inbox,
    state::{Entities, Stored},
};
use commerce::{
    change::{Change, State},
    connection::{Connection, DeletePolicy},
    drift::DriftKind,
    entity::{EntityKey, references},
    envelope::{Content, Sealed},
    http_call::Fault,
    item::{Item, TOO_OLD_SECONDS},
    outcome::Rule,
    platform::mapping::Mapped,
    scheme::Strength,
    transfer::{Payload, Transfer},
};
use futures_util::future::join_all;

use crate::{
    MAX_ATTEMPTS, Parts, Processor,
    act::hash,
    candidate::{Answer, Before, Candidate, Ends},
    disposition::Ended,
    merge::{Merge, is_lasting},
    parse::EntityUpdate,
    places::Place,
    rules::{Action, Facts, decide, gate},
    run::Run,
    strangers::may_be_first,
};

/// The greatest distance of a pull from its delivery, in messages: it reaches the entities that the delivered one
/// needs, the entities that those need, and no more.
const MAX_DEPTH: u32 = 2;
/// The most required entities that are looked up for one entity.
const MAX_REQUIRED: usize = 100;
/// The time for which a required entity is not asked for again, in seconds.
const ASKED_SECONDS: i64 = 3600;
/// The prefix of the reason of a transfer whose entity another one refers to; the key of the other one follows.
const ALONG: &str = "with ";
/// The reason of a transfer whose entity was delivered without what the platform would have added.
const NOT_ADDED: &str = "the platform did not answer when it was delivered";
/// The time after which the platform is asked once more for what it adds, in seconds.
const ADDED_LATER_SECONDS: i32 = 300;
/// The time after a change, in seconds, from which a pull is sure to contain it.
const KNOWN_AFTER_SECONDS: i64 = 60;
/// The greatest difference between the clocks of two functions, in seconds.
const OWN_CLOCKS_SECONDS: i64 = 2;

/// An entity whose messages are processed one after the other.
struct Entity<'a, 'p> {
    run: Run<'a>,
    place: &'a Place<'p>,
    key: &'a EntityKey,
    updates: &'a [EntityUpdate],
    item: Option<Item>,
    /// The platform's answer. One pull serves many hints about one entity.
    asked: Option<Result<Answer, Fault>>,
}

impl<P: Parts> Processor<P> {
    /// Brings one entity up to date with its messages.
    pub(crate) async fn sync_entity(
        &self,
        run: Run<'_>,
        key: EntityKey,
        mut updates: Vec<EntityUpdate>,
        connection: Option<&Connection>,
        stored: Option<Stored>,
    ) -> Ends {
        let place = run.places.of(&key.connection);
        let weight = updates.iter().map(|update| update.weight).sum::<usize>();
        place.hold(weight + stored.as_ref().map_or(0, Stored::weight)).await;
        let Ok(item) = open(&key, stored, &mut updates, connection) else {
            return updates.iter().map(|update| (update.index, Ended::unreadable())).collect();
        };
        let mut entity = Entity { run, place: &place, key: &key, updates: &updates, item, asked: None };
        let (mut ends, mut candidates, mut taken_by) = (Ends::new(), Vec::new(), None);
        for update in &updates {
            match self.candidate(&mut entity, update, connection).await {
                Ok((candidate, connection)) => {
                    candidates.push(candidate);
                    taken_by = Some(connection);
                }
                Err(ended) => ends.push((update.index, ended)),
            }
        }
        let mut item = entity.item;
        if item.is_none() && is_never_here(&candidates) {
            let deleted = latest_delete(&candidates).unwrap_or((self.clock)());
            let noted = match self.note_gone(&key, deleted).await {
                Ok(Some(found)) if found.state().latest() > Some(deleted) => Err(Ended::clock_ahead()),
                noted => noted.map_err(Ended::from),
            };
            item = match noted {
                Ok(found) => found,
                Err(ended) => {
                    ends.extend(candidates.iter().map(|candidate| (candidate.index, ended.clone())));
                    return ends;
                }
            };
        }
        if item.is_none() && candidates.iter().all(|candidate| candidate.only_if_known.is_some()) {
            let unknown = candidates.drain(..);
            ends.extend(unknown.filter_map(|candidate| Some((candidate.index, candidate.only_if_known?.into()))));
        }
        let Some(connection) = taken_by else { return ends };
        let asks = |update: &EntityUpdate| update.can_be_pulled(connection);
        let may_ask = connection.credentials.is_some() && updates.iter().any(asks);
        let (place, key, updates) = (&place, &key, &updates[..]);
        self.merge_and_write(Merge { run, place, key, updates, connection, item, candidates, may_ask, ends }).await
    }

    /// Turns one message into a candidate for the merge, by the rules, and asks the platform where they say so.
    ///
    /// # Errors
    /// The end of the message, when there is nothing to merge.
    async fn candidate<'c>(
        &self,
        entity: &mut Entity<'_, '_>,
        update: &EntityUpdate,
        connection: Option<&'c Connection>,
    ) -> Result<(Candidate, &'c Connection), Ended> {
        let connection = gate(connection, &update.platform, &update.envelope)?;
        let mut facts = self.facts(entity, update, connection);
        let mut action = decide(&facts);
        let mut noted = None;
        let id = &entity.run.batch[update.index].message.id;
        if action == Action::Merge && facts.can_ask && may_be_first(update, entity.item.as_ref(), id) {
            noted = self.told_gone(entity.key).await?;
            facts.is_told_gone = noted.is_some();
            action = decide(&facts);
        }
        let mut changes = update.changes.clone();
        if facts.policy == DeletePolicy::Ignore {
            changes.retain(|change| !matches!(change, Change::Delete(_)));
        }
        let (index, only_if_known) = (update.index, update.only_if_known);
        let told = Candidate { index, changes, refused: None, only_if_known, asked: false, answered: false, noted };
        match action {
            Action::End(outcome) => Err(outcome.into()),
            Action::WaitForCredentials => Err(Ended::without_credentials()),
            Action::Merge => Ok((told, connection)),
            Action::Ask => self.asked(entity, update, connection, told).await.map(|candidate| (candidate, connection)),
        }
    }

    fn facts(&self, entity: &Entity<'_, '_>, update: &EntityUpdate, connection: &Connection) -> Facts {
        let is_delete = |change: &Change| matches!(change, Change::Delete(_));
        let (item, declared) = (entity.item.as_ref(), update.declared());
        let policy = connection.delete_policy(entity.key.kind);
        let can_be_pulled = update.can_be_pulled(connection);
        let pulls = can_be_pulled && declared.is_some_and(|declared| declared.payload != Payload::Partial);
        let received = update.envelope.received;
        Facts {
            policy,
            deletes_only: !update.changes.is_empty() && update.changes.iter().all(is_delete),
            says_nothing: update.changes.is_empty(),
            is_as_known: item.is_some_and(|item| is_known(update, item)),
            wants_known: matches!(&update.envelope.content, Content::Transfer(Transfer { only_known: true, .. })),
            is_here: item.is_some(),
            is_hint: update.is_hint(),
            is_too_old: item.is_none()
                && policy == DeletePolicy::Remove
                && received.plus_seconds(TOO_OLD_SECONDS) < (self.clock)(),
            is_told_gone: false,
            can_ask: connection.credentials.is_some() && can_be_pulled,
            is_unproven_delete: update.envelope.strength == Strength::Caller
                && pulls
                && policy != DeletePolicy::Ignore
                && update.changes.iter().any(is_delete),
            is_beside: update.beside,
        }
    }

    /// Completes a candidate with the platform's answer.
    async fn asked(
        &self,
        entity: &mut Entity<'_, '_>,
        update: &EntityUpdate,
        connection: &Connection,
        mut candidate: Candidate,
    ) -> Result<Candidate, Ended> {
        if entity.asked.is_none() {
            let vouched = |update: &EntityUpdate| is_told(update) && update.only_if_known.is_none();
            let known = entity.item.is_some() || entity.updates.iter().any(vouched);
            let before = Before::new(entity.item.as_ref(), entity.updates, known);
            let answer = self.ask(entity.run, entity.place, update, connection, before).await;
            entity.asked = Some(answer);
        }
        // The platform can add to a partial payload, and to facts that only the delivery has, but cannot confirm them.
        let partial = update.declared().is_some_and(|declared| declared.payload == Payload::Partial);
        let adds = (partial || update.beside) && !candidate.changes.is_empty();
        let last_try = entity.run.batch[update.index].message.attempts >= MAX_ATTEMPTS;
        match entity.asked.as_mut() {
            Some(Ok(Answer { change: Ok(change), only_if_known, refused })) => {
                if !adds {
                    candidate.changes.clear();
                    // An entity that another one refers to matters even if it is not known here.
                    candidate.only_if_known = only_if_known.filter(|_| !is_asked_along(update));
                }
                candidate.changes.push(change.clone());
                (candidate.asked, candidate.answered) = (update.beside, true);
                // One quarantined message of those that asked is enough.
                candidate.refused = refused.take();
            }
            Some(Ok(Answer { change: Err(_), .. })) if adds => {}
            Some(Ok(Answer { change: Err(rule), .. })) => return Err((*rule).into()),
            // The delivered content is worth having without the additions, which are asked for once more.
            Some(Err(fault)) if adds && !update.beside && (last_try || is_lasting(fault)) => {
                let (partition, sort) = (entity.key.partition(), entity.key.sort());
                cloud::telemetry::warn("nothing-added", &format!("{partition} {sort}: {fault}"));
                if !matches!(fault, Fault::TooLarge(_)) {
                    let transfer = Transfer::new(entity.key.kind, entity.key.id.clone(), NOT_ADDED);
                    let later = Sealed::part(&update.envelope, Content::Transfer(transfer));
                    self.edges.queues.send(&later, ADDED_LATER_SECONDS).await?;
                }
            }
            Some(Err(fault)) => {
                if matches!(fault, Fault::Unreadable(_) | Fault::TooLarge(_)) {
                    entity.run.findings.add(update.index, DriftKind::Unmapped);
                }
                return Err(Ended::from(&*fault));
            }
            None => {}
        }
        Ok(candidate)
    }

    /// Asks the platform for an entity, and acts on it by the connection's settings.
    pub(crate) async fn ask(
        &self,
        run: Run<'_>,
        place: &Place<'_>,
        update: &EntityUpdate,
        connection: &Connection,
        before: Before<'_>,
    ) -> Result<Answer, Fault> {
        let (key, platform) = (&update.key, &update.platform);
        let mut pulled = self.pull(place, platform, key, connection, before).await?;
        let mut refused = None;
        if platform.act.is_some_and(|act| act.acts_on(key.kind, &connection.settings)) {
            let known = before.item.map(Item::state).filter(|state| !state.is_deleted());
            let known = known.and_then(|state| state.visible().1.map(std::borrow::Cow::into_owned));
            let shown = hash(&pulled.mapped);
            if shown.is_some() && shown == known && self.is_echo(key, shown.as_deref().unwrap_or_default()).await {
                return Ok(Answer { change: Err(Rule::ECHO), only_if_known: None, refused: None });
            }
            let by = &run.batch[update.index].message.id;
            if let Some(done) = self.act(place, platform, key, connection, &pulled, by).await? {
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
            Mapped::Pull(_)
            | Mapped::PullWith(..)
            | Mapped::Known(..)
            | Mapped::Split(_)
            | Mapped::List(_)
            | Mapped::Redact(_) => {
                return Err(Fault::Unreadable("a pull gave something else than the entity".into()));
            }
        };
        Ok(Answer { change, only_if_known, refused })
    }

    /// Queues pulls for the entities that this one requires and the table does not have, each at most hourly, and for
    /// all that follow it. The pulls are queued before the entity is written, so that a crash in between repeats both.
    pub(crate) async fn pull_along(
        &self,
        key: &EntityKey,
        update: &EntityUpdate,
        connection: &Connection,
        state: &State,
    ) -> Result<(), EdgeError> {
        let Some(declared) = update.declared() else { return Ok(()) };
        if connection.credentials.is_none() || update.envelope.depth >= MAX_DEPTH || state.is_deleted() {
            return Ok(());
        }
        let Some(content) = state.content() else { return Ok(()) };
        let found = references(key.kind, &content);
        let (follow, rest): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(kind, _)| declared.followed_by.contains(kind));
        let required = rest.into_iter().filter(|(kind, _)| declared.requires.contains(kind));
        let entity = |(kind, id)| EntityKey { connection: key.connection.clone(), kind, id };
        // Further entities of a very large order come with their own deliveries.
        let missing = self.missing(key, required.map(entity).take(MAX_REQUIRED).collect()).await?;
        let reason = format!("{ALONG}{}", key.sort());
        let child = |wanted: &EntityKey| {
            let transfer = Transfer::new(wanted.kind, wanted.id.clone(), reason.clone());
            Sealed::child(&update.envelope, transfer)
        };
        let mut children: Vec<Sealed> = follow.into_iter().map(entity).map(|wanted| child(&wanted)).collect();
        children.extend(missing.iter().map(|(wanted, _)| child(wanted)));
        self.edges.queues.send_all(&children).await?;
        let expires = (self.clock)().seconds() + ASKED_SECONDS;
        // Without the note, the entity is asked for twice.
        join_all(missing.iter().map(|(wanted, revision)| async move {
            let note = Note { body: String::new(), revision: revision + 1, expires };
            let _ = self.edges.notes.keep(&key.connection, &asked_note(wanted), &note).await;
        }))
        .await;
        Ok(())
    }

    /// Returns those of these entities that are not in the table and were not asked for lately, each with the revision
    /// of its note.
    async fn missing(&self, key: &EntityKey, required: Vec<EntityKey>) -> Result<Vec<(EntityKey, u64)>, EdgeError> {
        if required.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.edges.entities.known(&required).await?;
        let unknown: Vec<_> = required.into_iter().filter(|wanted| !known.contains(wanted)).collect();
        let notes = join_all(unknown.iter().map(|wanted| {
            let name = asked_note(wanted);
            async move { self.edges.notes.note(&key.connection, &name).await }
        }));
        let (now, mut missing) = ((self.clock)(), Vec::new());
        for (wanted, note) in unknown.iter().zip(notes.await) {
            let note = note?;
            if !note.as_ref().is_some_and(|note| note.is_live(now)) {
                missing.push((wanted.clone(), note.map_or(0, |note| note.revision)));
            }
        }
        Ok(missing)
    }
}

fn asked_note(wanted: &EntityKey) -> String {
    format!("asked#{}", wanted.sort())
}

/// Opens an item, or fails if it cannot be read at all. If only a part cannot be read, its messages become hints where
/// the connection has credentials.
fn open(
    key: &EntityKey,
    stored: Option<Stored>,
    updates: &mut [EntityUpdate],
    connection: Option<&Connection>,
) -> Result<Option<Item>, ()> {
    let Some(stored) = stored else { return Ok(None) };
    let (item, damaged) = stored.open().ok_or(())?;
    if damaged {
        cloud::telemetry::warn("item-damaged", &format!("{} {}", key.partition(), key.sort()));
        if connection.is_some_and(|connection| connection.credentials.is_some()) {
            updates.iter_mut().for_each(EntityUpdate::ask_again);
        }
    }
    Ok(Some(item))
}

/// Returns whether there are messages, all of them about an entity that the platform does not know either.
fn is_never_here(candidates: &[Candidate]) -> bool {
    let never_here = |candidate: &Candidate| candidate.only_if_known == Some(Rule::NEVER_HERE);
    !candidates.is_empty() && candidates.iter().all(never_here)
}

fn latest_delete(candidates: &[Candidate]) -> Option<commerce::timestamp::Timestamp> {
    let deletes = candidates.iter().flat_map(|candidate| &candidate.changes).filter_map(|change| match change {
        Change::Delete(delete) => Some(delete.received),
        _ => None,
    });
    deletes.max()
}

/// Returns whether the entity was asked for because another one refers to it.
fn is_asked_along(update: &EntityUpdate) -> bool {
    matches!(&update.envelope.content, Content::Transfer(transfer) if transfer.reason.starts_with(ALONG))
}

/// Returns whether the item holds what the source showed to the sender of a transfer request, or, where the source
/// showed only the time of its last change, the content of that time. The item must then have been pulled some time
/// after the change, because one second can have two changes and clocks differ; or after the request was received, by
/// our own clocks, because another request reports a later change.
fn is_known(update: &EntityUpdate, item: &Item) -> bool {
    let Content::Transfer(Transfer { changed, shown, .. }) = &update.envelope.content else { return false };
    let state = item.state();
    if let Some(shown) = shown {
        return !state.is_deleted() && state.content().is_some_and(|content| shown.is(&content));
    }
    let Some(changed) = changed else { return false };
    let win = state.win.as_ref().map(|win| &win.version);
    let as_new = win.is_some_and(|version| version.rank >= Some(*changed));
    let settled =
        changed.plus_seconds(KNOWN_AFTER_SECONDS).min(update.envelope.received.plus_seconds(OWN_CLOCKS_SECONDS));
    as_new && !state.lacks_content() && !state.is_deleted() && state.marks.seen > Some(settled)
}

/// Returns whether a message itself holds the entity's content.
fn is_told(update: &EntityUpdate) -> bool {
    update.changes.iter().any(|change| matches!(change, Change::Upsert(_)))
}
