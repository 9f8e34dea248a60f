//! All messages of a batch that concern one entity: they are merged in memory and written once.

use cloud::{
    connections::Vault,
    outbound::Outbound,
    state::{Entities, Put},
};
use commerce::{
    api::Fault,
    change::{Change, State},
    connection::{Connection, DeletePolicy},
    entity::EntityKey,
    item::{Item, TOO_OLD_SECONDS, Writer, fingerprint},
    outcome::{Outcome, Reason, Rule},
    platforms::{Access, Mapped},
    stamp::Stamp,
};

use crate::{End, Message, Processor, Work, gate, has_too_many_values};

/// How often a write that conflicts is tried.
const MAX_WRITES: u32 = 5;

/// How the messages of a group ended, each by its place in the batch, with a word on why.
pub(crate) type Ends = Vec<(usize, End, String)>;

/// A message whose changes are ready to be merged.
struct Ready {
    index: usize,
    changes: Vec<Change>,
}

/// What asking the platform came to.
enum Pulled {
    /// The entity as it is, or its absence.
    Change(Change),
    /// The platform shows something that is not kept.
    Ignored(Rule),
}

/// A change that a merge was interrupted for: the platform has to say which content is the newer one.
struct Tied(usize);

impl<E: Entities + Sync, Q: Sync, V: Vault + Sync, O: Outbound + Sync> Processor<E, Q, V, O> {
    /// Brings one entity up to date.
    pub(crate) async fn group(
        &self,
        key: &EntityKey,
        works: &[Work],
        messages: &[Message],
        connection: Option<&Connection>,
        item: Option<Item>,
    ) -> Ends {
        let mut ends = Ends::new();
        let mut ready = Vec::new();
        // Many hints about one entity are one pull.
        let mut pulled: Option<Result<Pulled, Fault>> = None;
        let mut taken_by = None;
        for work in works {
            let ignores_deletes = |of: &Connection| of.delete_policy(key.kind) == DeletePolicy::Ignore;
            let gated = match gate(connection, work.envelope.generation) {
                Ok(of) if matches!(work.change, Some(Change::Delete(_))) && ignores_deletes(of) => {
                    Err(Rule::DELETES_IGNORED)
                }
                other => other,
            };
            let connection = match gated {
                Ok(connection) => connection,
                Err(rule) => {
                    ends.push((work.index, End::Outcome(Outcome::Ignored(rule)), String::new()));
                    continue;
                }
            };
            let too_old = item.is_none()
                && connection.delete_policy(key.kind) == DeletePolicy::Remove
                && work.envelope.received.plus_seconds(TOO_OLD_SECONDS) < (self.clock)();
            let change = if connection.credentials.is_some() && (work.is_hint() || too_old) {
                if pulled.is_none() {
                    pulled = Some(self.pull(key, work, connection).await);
                }
                match pulled.as_ref() {
                    Some(Ok(Pulled::Change(change))) => change.clone(),
                    Some(Ok(Pulled::Ignored(rule))) => {
                        ends.push((work.index, End::Outcome(Outcome::Ignored(*rule)), String::new()));
                        continue;
                    }
                    Some(Err(fault)) => {
                        ends.push(end_of_fault(work.index, fault));
                        continue;
                    }
                    None => continue,
                }
            } else if too_old {
                ends.push((work.index, End::Outcome(Outcome::Quarantined(Reason::TooOld)), String::new()));
                continue;
            } else if let Some(change) = work.change.clone() {
                change
            } else {
                let why = "a transfer request needs credentials; connect with them, then redrive".to_owned();
                ends.push((work.index, End::Outcome(Outcome::Quarantined(Reason::ConnectionFault)), why));
                continue;
            };
            ready.push(Ready { index: work.index, changes: vec![change] });
            taken_by = Some(connection);
        }
        if let Some(connection) = taken_by {
            self.settle(key, works, messages, connection, item, ready, &mut ends).await;
        }
        ends
    }

    /// Merges, asks the platform about ties, and writes.
    #[expect(clippy::too_many_arguments, reason = "one step of `group`, split off for its length")]
    async fn settle(
        &self,
        key: &EntityKey,
        works: &[Work],
        messages: &[Message],
        connection: &Connection,
        mut item: Option<Item>,
        mut ready: Vec<Ready>,
        ends: &mut Ends,
    ) {
        let mut may_ask = connection.credentials.is_some();
        let mut writes = 0;
        while let Some(first) = ready.first() {
            let before = item.as_ref().map(Item::state).unwrap_or_default();
            let (state, outcomes) = match merge_all(&before, &ready, may_ask) {
                Ok(merged) => merged,
                Err(Tied(place)) => {
                    // Once per group: the answer is newer than all that was delivered.
                    may_ask = false;
                    let index = ready[place].index;
                    let Some(work) = works.iter().find(|work| work.index == index) else { continue };
                    match self.pull(key, work, connection).await {
                        Ok(Pulled::Change(change)) => ready[place].changes.push(change),
                        // What was delivered stands.
                        Ok(Pulled::Ignored(_)) => {}
                        Err(fault @ Fault::Connection(_)) => {
                            cloud::telemetry::warn("tie-not-pulled", &format!("{key:?}: {fault}"));
                        }
                        Err(fault) => {
                            ends.push(end_of_fault(index, &fault));
                            ready.remove(place);
                        }
                    }
                    continue;
                }
            };
            let fail = |reason: Reason, why: String| {
                ready.iter().map(move |ready| (ready.index, End::Failed(reason, why.clone()), String::new()))
            };
            if item.is_some() && fingerprint(&before) == fingerprint(&state) {
                ends.extend(finished(&ready, outcomes));
                return;
            }
            let writer = Writer { by: &messages[first.index].id, now: (self.clock)() };
            let policy = connection.delete_policy(key.kind);
            let next = match Item::project(key, &state, policy, item.as_ref(), writer) {
                Ok(next) => next,
                Err(error) => {
                    // Those whose content has won are too large; the others are merged without them.
                    let winner = state.win.as_ref().map(|win| &win.version);
                    let has_won = |change: &Change| State::of(change).win.as_ref().map(|win| &win.version) == winner;
                    let (large, rest): (Vec<_>, Vec<_>) =
                        ready.into_iter().partition(|ready| ready.changes.iter().any(has_won));
                    // If it is nobody's, it was stored like that, and its bookkeeping makes it too large.
                    let (large, rest) = if large.is_empty() { (rest, large) } else { (large, rest) };
                    let end = End::Outcome(Outcome::Quarantined(Reason::ItemTooLarge));
                    ends.extend(large.iter().map(|ready| (ready.index, end.clone(), error.to_string())));
                    ready = rest;
                    continue;
                }
            };
            writes += 1;
            match self.entities.put(&next, item.as_ref().map(|item| item.rev.as_str())).await {
                Ok(Put::Written) => {
                    ends.extend(finished(&ready, outcomes));
                    return;
                }
                // Our own earlier try had landed; only its answer was lost.
                Ok(Put::Conflict(Some(stored))) if stored.by == next.by && stored.rev == next.rev => {
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

    /// Asks the platform for the entity as it is now.
    async fn pull(&self, key: &EntityKey, work: &Work, connection: &Connection) -> Result<Pulled, Fault> {
        let cipher = connection.credentials.as_deref().unwrap_or_default();
        let credentials = self
            .open(&key.connection, cipher)
            .await
            .map_err(|error| Fault::Unavailable(format!("the credentials cannot be decrypted: {error}")))?;
        let access = Access { site: &connection.site, credentials: &credentials };
        let mapping = work.platform.mapping;
        let request = mapping.pull(&access, key.kind, &key.id)?;
        // The instant before the request: a delete that happens while it is under way is later than its answer.
        let at: Stamp = (self.clock)();
        let response = self.outbound.call(request).await?;
        if has_too_many_values(&response.body) {
            return Err(Fault::Unreadable("it holds more values than any entity".into()));
        }
        match mapping.pulled(key.kind, &key.id, at, &response)? {
            Mapped::Change(_, Change::Delete(_)) if connection.delete_policy(key.kind) == DeletePolicy::Ignore => {
                Ok(Pulled::Ignored(Rule::DELETES_IGNORED))
            }
            Mapped::Change(_, change) => Ok(Pulled::Change(change)),
            Mapped::Ignored(rule) => Ok(Pulled::Ignored(rule)),
        }
    }
}

/// Merges message after message; each gets the outcome that its own changes made. Stops at a tie that may be asked about.
fn merge_all(before: &State, ready: &[Ready], may_ask: bool) -> Result<(State, Vec<Outcome>), Tied> {
    let mut state = before.clone();
    let mut outcomes = Vec::with_capacity(ready.len());
    for (place, message) in ready.iter().enumerate() {
        let start = state.clone();
        let mut outcome = Outcome::Unchanged;
        for (nth, change) in message.changes.iter().enumerate() {
            let merged = state.merge(change);
            if merged.tied && may_ask {
                return Err(Tied(place));
            }
            if nth == 0 {
                outcome = merged.outcome;
            }
            state = merged.state;
        }
        // What the platform added on being asked counts with the message that made us ask.
        if message.changes.len() > 1 {
            outcome = match (state.visible() == start.visible(), outcome) {
                (false, _) => Outcome::Applied,
                (true, Outcome::Applied) => Outcome::Superseded,
                (true, other) => other,
            };
        }
        outcomes.push(outcome);
    }
    Ok((state, outcomes))
}

fn finished(ready: &[Ready], outcomes: Vec<Outcome>) -> Ends {
    let clamped = |ready: &Ready| ready.changes.iter().any(Change::is_clamped);
    let note = |ready: &Ready| if clamped(ready) { "the source's clock is more than a day ahead" } else { "" };
    ready
        .iter()
        .zip(outcomes)
        .map(|(ready, outcome)| (ready.index, End::Outcome(outcome), note(ready).to_owned()))
        .collect()
}

fn end_of_fault(index: usize, fault: &Fault) -> (usize, End, String) {
    let end = match fault {
        Fault::Throttled { seconds } => End::Deferred(*seconds),
        Fault::Unavailable(_) => End::Failed(Reason::PlatformUnavailable, fault.to_string()),
        Fault::Connection(_) | Fault::Unreadable(_) => End::Failed(Reason::ConnectionFault, fault.to_string()),
    };
    (index, end, String::new())
}
