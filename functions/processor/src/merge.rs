//! The merge of one entity's messages into its state, which is written once.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
};

use cloud::{
    EdgeError,
    state::{Entities, Put},
};
use commerce::{
    change::{Change, State},
    connection::Connection,
    drift::DriftKind,
    entity::EntityKey,
    envelope::Envelope,
    http_call::Fault,
    item::{Item, Projection, Writer},
    origin::Origin,
    outcome::{Outcome, Reason},
    platform::mapping::deleted_fields,
    redaction::{is_personal, redact},
};

use crate::{
    MAX_ATTEMPTS, Parts, Processor,
    candidate::{Answer, Before, CLAMPED, Candidate, Ends},
    disposition::{Disposition, Ended},
    parse::EntityUpdate,
    places::Place,
    run::Run,
    strangers::may_precede,
};

/// The most times that a conflicting write is tried.
const MAX_WRITES: u32 = 5;

/// The candidate at which a merge stopped, because the platform has to say which of two contents is newer, whether a
/// deleted entity is there again, or what a policy has dropped. Nobody else can tell whether an unconfirmed update came
/// before the delete.
struct NeedsConfirmation(usize);

/// One entity with all that is merged into it.
pub(crate) struct Merge<'a, 'p> {
    pub run: Run<'a>,
    pub place: &'a Place<'p>,
    pub key: &'a EntityKey,
    pub updates: &'a [EntityUpdate],
    pub connection: &'a Connection,
    /// The item to write over.
    pub item: Option<Item>,
    pub candidates: Vec<Candidate>,
    /// `true` when the platform can be asked, and was not asked during this merge.
    pub may_ask: bool,
    pub ends: Ends,
}

impl Merge<'_, '_> {
    fn update(&self, index: usize) -> Option<&EntityUpdate> {
        self.updates.iter().find(|update| update.index == index)
    }

    /// Returns whether a verification found that the item is not what the platform shows. What was redacted or did not fit
    /// is not what its version says either, and rightly so.
    fn repairs(&self) -> bool {
        if self.item.as_ref().is_some_and(|item| item.redacted || item.truncated) {
            return false;
        }
        let updates = self.candidates.iter().filter_map(|candidate| self.update(candidate.index));
        updates.map(|update| update.envelope.origin()).any(|origin| origin == Origin::Repair)
    }

    /// Returns the message that brought the changes: the first one that changed something, or else the first.
    fn cause(&self, outcomes: &[Outcome]) -> Option<&Envelope> {
        let applied = outcomes.iter().position(|outcome| *outcome == Outcome::Applied);
        let candidate = self.candidates.get(applied.unwrap_or(0))?;
        self.update(candidate.index).map(|update| update.envelope.as_ref())
    }

    /// Returns whether answers of the platform are merged.
    fn has_answers(&self) -> bool {
        self.candidates.iter().any(|candidate| candidate.answered)
    }

    /// Fails all candidates alike; their messages come back.
    fn fail(&mut self, ended: &Ended) {
        let failed = self.candidates.drain(..).map(|candidate| (candidate.index, ended.clone()));
        self.ends.extend(failed);
    }

    /// Ends each candidate with the outcome of its own changes.
    fn finish(&mut self, outcomes: Vec<Outcome>) {
        let clamped = |candidate: &Candidate| candidate.changes.iter().any(Change::is_clamped);
        self.ends.extend(self.candidates.drain(..).zip(outcomes).map(|(candidate, outcome)| {
            let why = if clamped(&candidate) { CLAMPED } else { "" };
            let ended = match candidate.refused {
                Some(why) => Ended::quarantined(Reason::ActionRefused, why),
                None => Ended::new(Disposition::Done(outcome), why),
            };
            (candidate.index, ended)
        }));
    }

    /// Takes the platform's answer about a candidate. A candidate that the platform could not be asked about ends.
    fn confirm(&mut self, nth: usize, answer: Result<Answer, Fault>) {
        match answer {
            Ok(Answer { change: Ok(change), .. }) => {
                self.candidates[nth].answered = true;
                self.candidates[nth].changes.push(change);
            }
            // The delivered content stands.
            Ok(Answer { change: Err(_), .. }) => {}
            Err(fault) => {
                let candidate = self.candidates.remove(nth);
                self.ends.push((candidate.index, fault.into()));
            }
        }
    }

    /// Quarantines the candidates whose content has won and is too large. The others are merged without them.
    fn drop_large(&mut self, state: &State, error: &impl ToString) {
        let keeps = |candidate: &Candidate| candidate.changes.iter().any(|change| state.keeps(change));
        let (large, rest): (Vec<_>, Vec<_>) = self.candidates.drain(..).partition(keeps);
        // If no candidate's content has won, the stored content is that large, and the new bookkeeping makes it too
        // large.
        let (large, rest) = if large.is_empty() { (rest, large) } else { (large, rest) };
        for candidate in large {
            self.run.findings.add(candidate.index, DriftKind::Unmapped);
            self.ends.push((candidate.index, Ended::quarantined(Reason::ItemTooLarge, error.to_string())));
        }
        self.candidates = rest;
    }
}

impl<P: Parts> Processor<P> {
    /// Merges, asks the platform where confirmation is needed, and writes; starts over while others write the item.
    pub(crate) async fn merge_and_write(&self, mut merge: Merge<'_, '_>) -> Ends {
        let policy = merge.connection.delete_policy(merge.key.kind);
        let deleted_fields = deleted_fields();
        let projection = Projection::new(policy, &deleted_fields);
        let (attempt, mut writes) = (attempt(), 0);
        while let Some(first) = merge.candidates.first() {
            let before = merge.item.as_ref().map(Item::state).unwrap_or_default();
            let before = if merge.repairs() { before.distrusting() } else { before };
            let (state, outcomes) = match merge_all(&before, &merge.candidates, merge.may_ask, &projection) {
                Ok(merged) => merged,
                Err(NeedsConfirmation(nth)) => {
                    self.ask_about(&mut merge, nth).await;
                    continue;
                }
            };
            let (state, redacted) = match self.redacted(&merge, state).await {
                Ok(redacted) => redacted,
                Err(error) => {
                    merge.fail(&Ended::retry(
                        Reason::StateUnavailable,
                        format!("nobody knows who is redacted: {error}"),
                    ));
                    break;
                }
            };
            // Another environment that holds the same message at the same moment is another writer.
            let by = format!("{} {attempt}", merge.run.batch[first.index].message.id);
            let cause = merge.cause(&outcomes);
            let writer = Writer {
                by: &by,
                origin: cause.map_or(Origin::Webhook, Envelope::origin),
                trace: cause.and_then(|envelope| envelope.trace.as_deref()),
                received: cause.map(|envelope| envelope.received),
                now: (self.clock)(),
            };
            let next = match projection.redacted(redacted).item(merge.key, &state, merge.item.as_ref(), writer) {
                Ok(next) => next,
                Err(error) => {
                    merge.drop_large(&state, &error);
                    continue;
                }
            };
            if merge.item.as_ref().is_some_and(|item| next.is_as(item)) {
                merge.finish(outcomes);
                break;
            }
            let grown = projection.visible(&state) != projection.visible(&before);
            let nearest = merge.candidates.iter().filter_map(|candidate| merge.update(candidate.index));
            if let Some(update) = nearest.min_by_key(|update| update.envelope.depth).filter(|_| grown)
                && let Err(error) = self.pull_along(merge.key, update, merge.connection, &state).await
            {
                merge
                    .fail(&Ended::retry(Reason::StateUnavailable, format!("what it needs was not asked for: {error}")));
                break;
            }
            writes += 1;
            self.write_item(&mut merge, next, &before, outcomes, writes).await;
        }
        merge.ends
    }

    /// Redacts a state whose entity names redacted persons, and tells whether it did. What was redacted once stays so.
    async fn redacted(&self, merge: &Merge<'_, '_>, state: State) -> Result<(State, bool), EdgeError> {
        let (key, already) = (merge.key, merge.item.as_ref().is_some_and(|item| item.redacted));
        let persons =
            if merge.connection.redacts { self.redacted_persons(key, &state).await? } else { BTreeSet::new() };
        if !already && persons.is_empty() {
            return Ok((state, false));
        }
        let state = state.with_contents(|content| redact(&key.connection, key.kind, content, &persons));
        Ok((state, already || is_personal(key.kind)))
    }

    /// Writes the item. If that ends the merge, no candidate is left.
    async fn write_item(
        &self,
        merge: &mut Merge<'_, '_>,
        next: Item,
        before: &State,
        outcomes: Vec<Outcome>,
        writes: u32,
    ) {
        let over = merge.item.as_ref().map(|item| item.rev.as_str());
        match self.edges.entities.put(&next, over).await {
            Ok(Put::Written) => {
                if let Some(nth) = self.first_told_gone(merge).await
                    && let Some(update) = merge.update(merge.candidates[nth].index).cloned()
                {
                    // The entity is here for the first time, and a delete was noted meanwhile: the platform is asked,
                    // as if the entity had been known before.
                    let answer = self.ask_for(merge, &update, Some(&next)).await;
                    merge.confirm(nth, answer);
                    (merge.may_ask, merge.item) = (false, Some(next));
                    return;
                }
                merge.run.findings.written(merge.key, &next, before, &merge.candidates, &outcomes);
                merge.finish(outcomes);
            }
            // Our own earlier try was written; only its answer was lost.
            Ok(Put::Conflict(Some(stored))) if stored.by == next.by && stored.rev == next.rev => {
                merge.run.findings.written(merge.key, &next, before, &merge.candidates, &outcomes);
                merge.finish(outcomes);
            }
            Ok(Put::Conflict(_)) if writes == MAX_WRITES => {
                merge.fail(&Ended::retry(Reason::Contention, format!("{writes} writes in a row conflicted")));
            }
            Ok(Put::Conflict(Some(stored)))
                if merge.has_answers() && stored.state().latest() > Some((self.clock)()) =>
            {
                merge.fail(&Ended::clock_ahead());
            }
            Ok(Put::Conflict(stored)) => merge.item = stored.map(|stored| *stored),
            Err(error) => merge.fail(&Ended::retry(Reason::StateUnavailable, error)),
        }
    }

    /// Finds the candidate that was written for the first time and may be older than a delete noted meanwhile.
    async fn first_told_gone(&self, merge: &Merge<'_, '_>) -> Option<usize> {
        let tells = merge.updates.first().is_some_and(|update| update.platform.mapping.tells_of_strangers());
        if merge.item.is_some() || !merge.may_ask || !tells {
            return None;
        }
        let told = self.told_gone(merge.key).await.unwrap_or(Some((self.clock)()))?;
        let is_later = |candidate: &Candidate| candidate.answered && candidate.noted == Some(told);
        let precedes = |candidate: &Candidate| candidate.changes.iter().any(|change| may_precede(change, told));
        merge.candidates.iter().position(|candidate| !is_later(candidate) && precedes(candidate))
    }

    /// Asks the platform about a candidate that needs confirmation, once per merge: an answer is newer than all that
    /// was delivered.
    async fn ask_about(&self, merge: &mut Merge<'_, '_>, nth: usize) {
        let index = merge.candidates[nth].index;
        let Some(update) = merge.update(index).cloned() else {
            merge.may_ask = false;
            return;
        };
        let answer = self.ask_for(merge, &update, merge.item.as_ref()).await;
        let last_try = merge.run.batch[index].message.attempts >= MAX_ATTEMPTS;
        let gives_up = |fault: &Fault| is_lasting(fault) && last_try;
        merge.may_ask = answer.as_ref().is_err_and(|fault| !gives_up(fault));
        match answer {
            // A platform that never answers must not hold back its deliveries for ever.
            Err(fault) if gives_up(&fault) => {
                let entity = format!("{} {}", merge.key.partition(), merge.key.sort());
                cloud::telemetry::warn("not-asked", &format!("{entity}: {fault}"));
            }
            answer => merge.confirm(nth, answer),
        }
    }

    async fn ask_for(
        &self,
        merge: &Merge<'_, '_>,
        update: &EntityUpdate,
        item: Option<&Item>,
    ) -> Result<Answer, Fault> {
        let before = Before::new(item, merge.updates, true);
        self.ask(merge.run, merge.place, update, merge.connection, before).await
    }
}

/// Returns whether a later attempt cannot help.
pub(crate) fn is_lasting(fault: &Fault) -> bool {
    matches!(fault, Fault::Connection(_) | Fault::Unreadable(_) | Fault::TooLarge(_))
}

/// Returns a text that tells one attempt to write from all others.
fn attempt() -> String {
    format!("{:016x}", RandomState::new().hash_one(0_u8))
}

/// Merges message after message, and gives each the outcome of its own changes. Stops at a candidate that the platform
/// should be asked about.
fn merge_all(
    before: &State,
    candidates: &[Candidate],
    may_ask: bool,
    projection: &Projection<'_>,
) -> Result<(State, Vec<Outcome>), NeedsConfirmation> {
    let mut state = before.clone();
    let mut outcomes = Vec::with_capacity(candidates.len());
    for (place, candidate) in candidates.iter().enumerate() {
        let start = state.clone();
        let mut outcome = Outcome::Unchanged;
        for (nth, change) in candidate.changes.iter().enumerate() {
            let merged = state.merge_as(change, |state| projection.visible(state));
            let observed = |change: &Change| matches!(change, Change::Upsert(upsert) if upsert.observed);
            let unseen = matches!(change, Change::Upsert(_)) && !observed(change);
            let revives = unseen && state.is_deleted() && !merged.state.is_deleted();
            // The platform was already asked about some candidates.
            let asked = candidate.asked || candidate.changes.iter().any(observed);
            if may_ask && !asked && (merged.tied || revives) {
                return Err(NeedsConfirmation(place));
            }
            if nth == 0 {
                outcome = merged.outcome;
            }
            state = merged.state;
        }
        // The platform's additions count with the message that made us ask.
        if candidate.changes.len() > 1 {
            outcome = match (projection.visible(&state) == projection.visible(&start), outcome) {
                (false, _) => Outcome::Applied,
                (true, Outcome::Applied) => Outcome::Superseded,
                (true, other) => other,
            };
        }
        outcomes.push(outcome);
    }
    // Content that a policy has dropped does not come back by itself.
    let fetched = |candidate: &Candidate| {
        candidate.changes.iter().any(|change| matches!(change, Change::Upsert(upsert) if upsert.observed))
    };
    if may_ask && state.lacks_content() && !state.is_deleted() && !candidates.iter().any(fetched) {
        return Err(NeedsConfirmation(candidates.len().saturating_sub(1)));
    }
    Ok((state, outcomes))
}
