//! Brings one entity up to date with all messages of a batch that concern it.

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
    disposition::Ended,
    drift::Findings,
    merge::{Candidate, Merge, is_lasting},
    parse::{EntityUpdate, Parsed},
    places::{Place, Places},
    rules::{Action, Facts, decide, gate},
    strangers::may_be_first,
};

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
/// How far the clocks of two functions may differ, in seconds.
const OWN_CLOCKS_SECONDS: i64 = 2;

/// How messages ended, each by its place in the batch.
pub(crate) type Ends = Vec<(usize, Ended)>;

/// What the entities of a batch are brought up to date with.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    /// The batch.
    pub batch: &'a [Parsed<'a>],
    /// What polling would have found.
    pub findings: &'a Findings,
    /// What there is room for.
    pub places: &'a Places,
}

/// What asking the platform came to.
pub(crate) struct Answer {
    /// The entity as it is, or its absence; or the rule by which it is not kept.
    pub change: Result<Change, Rule>,
    /// The rule by which the change is ignored unless the entity is known.
    pub only_if_known: Option<Rule>,
    /// Why the platform refuses what was to be done there.
    pub refused: Option<String>,
}

/// An entity whose messages are looked at one after the other.
struct Entity<'a, 'p> {
    run: Run<'a>,
    place: &'a Place<'p>,
    key: &'a EntityKey,
    updates: &'a [EntityUpdate],
    item: Option<Item>,
    /// What the platform answered: many hints about one entity are one pull.
    asked: Option<Result<Answer, Fault>>,
}

impl<P: Parts> Processor<P> {
    /// Brings one entity up to date.
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
            item = match self.note_gone(&key, latest_delete(&candidates).unwrap_or((self.clock)())).await {
                Ok(item) => item,
                Err(error) => {
                    let failed = Ended::from(error);
                    ends.extend(candidates.iter().map(|candidate| (candidate.index, failed.clone())));
                    return ends;
                }
            };
        }
        if item.is_none() && candidates.iter().all(|candidate| candidate.only_if_known.is_some()) {
            let unknown = candidates.drain(..);
            ends.extend(unknown.filter_map(|candidate| Some((candidate.index, candidate.only_if_known?.into()))));
        }
        let Some(connection) = taken_by else { return ends };
        let asks = |update: &EntityUpdate| update.declared().is_some_and(|declared| declared.pull);
        let may_ask = connection.credentials.is_some() && updates.iter().any(asks);
        let (place, key, updates) = (&place, &key, &updates[..]);
        self.merge_and_write(Merge { run, place, key, updates, connection, item, candidates, may_ask, ends }).await
    }

    /// Makes of one message what can be merged, by the rules; the platform is asked where they say so.
    ///
    /// # Errors
    /// How the message ends, where nothing is to be merged.
    async fn candidate<'c>(
        &self,
        entity: &mut Entity<'_, '_>,
        update: &EntityUpdate,
        connection: Option<&'c Connection>,
    ) -> Result<(Candidate, &'c Connection), Ended> {
        let connection = gate(connection, &update.platform, &update.envelope)?;
        let mut facts = self.facts(entity, update, connection);
        let mut action = decide(&facts);
        let id = &entity.run.batch[update.index].message.id;
        if action == Action::Merge && facts.can_ask && may_be_first(update, entity.item.as_ref(), id) {
            facts.is_told_gone = self.told_gone(entity.key).await?.is_some();
            action = decide(&facts);
        }
        let mut changes = update.changes.clone();
        if facts.policy == DeletePolicy::Ignore {
            changes.retain(|change| !matches!(change, Change::Delete(_)));
        }
        let (index, only_if_known) = (update.index, update.only_if_known);
        let told = Candidate { index, changes, refused: None, only_if_known, asked: false };
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
        let pulls = declared.is_some_and(|declared| declared.pull && declared.payload != Payload::Partial);
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
            can_ask: connection.credentials.is_some() && declared.is_some_and(|declared| declared.pull),
            is_unproven_delete: update.envelope.strength == Strength::Caller
                && pulls
                && policy != DeletePolicy::Ignore
                && update.changes.iter().any(is_delete),
            is_beside: update.beside,
        }
    }

    /// Completes a candidate with what the platform answers.
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
            let answer = self.ask(entity.run, entity.place, update, connection, entity.item.as_ref(), known).await;
            entity.asked = Some(answer);
        }
        // Of what a partial payload says, and of what a thin one alone knows, the platform can only add to, not confirm.
        let partial = update.declared().is_some_and(|declared| declared.payload == Payload::Partial);
        let adds = (partial || update.beside) && !candidate.changes.is_empty();
        let last_try = entity.run.batch[update.index].message.attempts >= MAX_ATTEMPTS;
        match entity.asked.as_mut() {
            Some(Ok(Answer { change: Ok(change), only_if_known, refused })) => {
                if !adds {
                    candidate.changes.clear();
                    // What another entity refers to matters as well.
                    candidate.only_if_known = only_if_known.filter(|_| !is_asked_along(update));
                }
                candidate.changes.push(change.clone());
                candidate.asked = update.beside;
                // One of the messages that asked is enough to put aside.
                candidate.refused = refused.take();
            }
            Some(Ok(Answer { change: Err(_), .. })) if adds => {}
            Some(Ok(Answer { change: Err(rule), .. })) => return Err((*rule).into()),
            // What was delivered is worth having without what could be added.
            Some(Err(fault)) if adds && !update.beside && (last_try || is_lasting(fault)) => {
                let (partition, sort) = (entity.key.partition(), entity.key.sort());
                cloud::telemetry::warn("nothing-added", &format!("{partition} {sort}: {fault}"));
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

    /// Asks the platform for an entity, and does what the connection's settings say about it. Of one that is not `known` here no more
    /// is asked than shows whether it is kept.
    pub(crate) async fn ask(
        &self,
        run: Run<'_>,
        place: &Place<'_>,
        update: &EntityUpdate,
        connection: &Connection,
        item: Option<&Item>,
        known: bool,
    ) -> Result<Answer, Fault> {
        let (key, platform) = (&update.key, &update.platform);
        let mut pulled = self.pull(place, platform, key, connection, known).await?;
        let mut refused = None;
        if platform.act.is_some_and(|act| act.acts_on(key.kind, &connection.settings)) {
            let known = item.map(Item::state).filter(|state| !state.is_deleted());
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
            Mapped::Pull(_) | Mapped::PullWith(..) | Mapped::Known(..) | Mapped::Split(_) | Mapped::List(_) => {
                return Err(Fault::Unreadable("a pull gave something else than the entity".into()));
            }
        };
        Ok(Answer { change, only_if_known, refused })
    }

    /// Queues pulls for what an entity requires and is not in the table, at most hourly, and for all that follows it. Before the entity
    /// is written, so that a crash in between does both again.
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
        // An order of more things than that is completed by their own deliveries.
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
        // Without the note, the same is asked for twice.
        join_all(missing.iter().map(|(wanted, revision)| async move {
            let note = Note { body: String::new(), revision: revision + 1, expires };
            let _ = self.edges.notes.keep(&key.connection, &asked_note(wanted), &note).await;
        }))
        .await;
        Ok(())
    }

    /// Returns which of these entities are not in the table and were not asked for lately, each with the revision of its note.
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

/// Opens an item. What could not be read of it is asked for again, where it can be.
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

/// Whether all that is told of an entity is that the platform does not know it, either.
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

/// Whether it was asked for because another entity refers to it.
fn is_asked_along(update: &EntityUpdate) -> bool {
    matches!(&update.envelope.content, Content::Transfer(transfer) if transfer.reason.starts_with(ALONG))
}

/// Returns whether an entity is known here as the source showed it to the one who made a transfer request; or, where the source only told
/// when it had changed, as it was at that time. What is here was pulled some time after that, for within one second there can be two
/// changes, and clocks differ; or after the request was received, by our own clocks: what changed later is told by another request.
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

/// Whether a message says itself how the entity is.
fn is_told(update: &EntityUpdate) -> bool {
    update.changes.iter().any(|change| matches!(change, Change::Upsert(_)))
}
