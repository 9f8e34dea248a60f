//! Actions at a platform, by the connection's settings, none of which is taken twice. A guard is written before, on the
//! condition that nobody else wrote it. Then the entity is read again, and the action is taken only if the decision
//! still fits. The outcome is written after. A crash in between is resumed when the guard's lease has run out: the
//! entity itself then shows whether the action was done.

use std::time::Duration;

use cloud::{
    EdgeError,
    coordination::{Coordination, Note, Terms, update},
};
use commerce::{
    change::Change,
    connection::Connection,
    entity::EntityKey,
    http_call::Fault,
    platform::{
        Platform,
        act::{Acted, Decision},
        mapping::Mapped,
        pull::{Access, Wanted},
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    Parts, Processor,
    places::Place,
    pull::{Pulled, fits},
};

/// The longest time that an action may take, with all of its calls.
const PATIENCE: Duration = Duration::from_secs(90);
/// The time for which a guard keeps others away, in seconds: longer than an action may take.
const LEASE_SECONDS: i64 = 120;
/// The longest wait of a message for another one that acts on the same entity, in seconds. An action that does not
/// crash takes a second or two.
const LOOK_AGAIN_SECONDS: i64 = 10;
/// The most calls of one action: more than any needs.
const MAX_CALLS: usize = 6;
/// The most times that an action is begun without an end.
const MAX_TRIES: u32 = 5;
/// The time for which a refused action is not tried again, in seconds, unless the entity or the decision changes,
/// because triggers are frequent.
const REFUSED_SECONDS: i64 = 600;
/// The time for which the outcome of an action is remembered, in seconds.
const GUARD_SECONDS: i64 = 400 * 24 * 60 * 60;
/// The time for which a change made from here is recognised when the platform reports it, in seconds.
const ECHO_SECONDS: i64 = 15 * 60;

/// The content of a guard's note.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Guard {
    state: GuardState,
    /// The decision that is, or was, carried out.
    decision: Decision,
    /// The hash of the entity's content that the decision was made on.
    seen: String,
    /// The time until which nobody else may act, in seconds since 1970.
    until: i64,
    /// The id of the message that acts, or acted.
    by: String,
    /// The number of times that the action was begun without an end, this time included.
    #[serde(default)]
    tries: u32,
    /// The reason for a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum GuardState {
    Started,
    Done,
    Refused,
    Void,
}

/// The result of asking for the guard.
enum Taken {
    /// Nothing is to be done, any more or yet.
    Nothing,
    /// The platform refused the decision to this very message, for this reason.
    Refused(String),
    /// The guard is ours, with its revision.
    Guard(Guard, u64),
}

/// The result of an action.
pub(crate) struct Done {
    /// The entity after the action.
    pub mapped: Mapped,
    /// The reason for the refusal, if the action was refused.
    pub refused: Option<String>,
}

/// Returns the hash of a pulled entity's content.
pub(crate) fn hash(mapped: &Mapped) -> Option<String> {
    match mapped {
        Mapped::Change(_, Change::Upsert(upsert)) => Some(upsert.content.hash()),
        _ => None,
    }
}

impl<P: Parts> Processor<P> {
    /// Acts on a pulled entity, if the connection's settings say so. `by` is the id of the message that asked for the
    /// pull.
    pub(crate) async fn act(
        &self,
        place: &Place<'_>,
        platform: &Platform,
        key: &EntityKey,
        connection: &Connection,
        pulled: &Pulled,
        by: &str,
    ) -> Result<Option<Done>, Fault> {
        let Some(seen) = hash(&pulled.mapped) else { return Ok(None) };
        let credentials = self.credentials(&key.connection, connection).await?;
        let access = Access { site: &connection.site, credentials: &credentials, settings: &connection.settings };
        let wanted = Wanted { access, entity: key.kind, id: &key.id, at: pulled.at };
        let Some(decision) = platform.act()?.decide(&wanted, &pulled.answers) else { return Ok(None) };
        let refuse = |why: String| Ok(Some(Done { mapped: pulled.mapped.clone(), refused: Some(why) }));
        let (mut guard, revision) = match self.guard(key, decision, seen, by).await? {
            Taken::Nothing => return Ok(None),
            Taken::Refused(why) => return refuse(why),
            Taken::Guard(guard, revision) => (guard, revision),
        };
        if guard.tries > MAX_TRIES {
            let why = format!("it was begun {MAX_TRIES} times and never came to an end");
            self.close(key, &mut guard, revision, GuardState::Refused, Some(why.clone())).await;
            return refuse(why);
        }
        // A time-out is no answer: a call under way may still take effect, so the guard stays until its lease ends.
        let acting =
            tokio::time::timeout(PATIENCE, self.perform(place, platform, key, connection, &wanted, &guard.decision));
        let acted = acting.await.map_err(|_| Fault::Unavailable("acting took too long".into()))?;
        if let Err(Fault::Throttled { .. } | Fault::Connection(_) | Fault::Unreadable(_) | Fault::TooLarge(_)) = &acted
        {
            // The platform has answered, so nothing is under way, and the next try need not wait.
            guard.until = 0;
            let _ = self.write(key, &guard, revision + 1).await;
        }
        let (state, mapped, refused) = match acted? {
            Acted::Done(mapped) => (GuardState::Done, mapped, None),
            Acted::Void(mapped) => (GuardState::Void, mapped, None),
            Acted::Refused(why) => (GuardState::Refused, pulled.mapped.clone(), Some(why)),
            Acted::Ask(_) => return Err(Fault::Unreadable(format!("an action of more than {MAX_CALLS} calls"))),
        };
        self.close(key, &mut guard, revision, state, refused.clone()).await;
        if let (GuardState::Done, Some(hash)) = (state, hash(&mapped)) {
            self.mark_echo(key, &hash).await;
        }
        Ok(Some(Done { mapped, refused }))
    }

    /// Notes the outcome of an action.
    async fn close(
        &self,
        key: &EntityKey,
        guard: &mut Guard,
        revision: u64,
        state: GuardState,
        refused: Option<String>,
    ) {
        let until = if state == GuardState::Refused { (self.clock)().seconds() + REFUSED_SECONDS } else { 0 };
        (guard.state, guard.until, guard.refused) = (state, until, refused);
        if !matches!(self.write(key, guard, revision + 1).await, Ok(true)) {
            // The guard stays `started`. The message that comes after its lease reads the entity, and finds the action
            // done.
            cloud::telemetry::warn("outcome-not-noted", &format!("{} {}", key.partition(), key.sort()));
        }
        cloud::telemetry::emit(&serde_json::json!({
            "level": "INFO",
            "event": "acted",
            "connection": key.partition(),
            "entity": key.sort(),
            "action": guard.decision.action,
            "state": state,
        }));
    }

    async fn perform(
        &self,
        place: &Place<'_>,
        platform: &Platform,
        key: &EntityKey,
        connection: &Connection,
        wanted: &Wanted<'_>,
        decision: &Decision,
    ) -> Result<Acted, Fault> {
        let mut answers = Vec::new();
        // The entity that the action leaves is observed from here on.
        let wanted = Wanted { at: (self.clock)(), ..*wanted };
        loop {
            let next = platform.act()?.act(&wanted, decision, &answers);
            let next = self.heed(&key.connection, connection.generation, answers.last(), next).await?;
            match next {
                Acted::Ask(request) if answers.len() < MAX_CALLS => {
                    answers.push(self.call(place, platform, &key.connection, connection, request).await?);
                    fits(&answers)?;
                }
                other => return Ok(other),
            }
        }
    }

    /// Takes the guard, if there is anything to do.
    async fn guard(&self, key: &EntityKey, decision: Decision, seen: String, by: &str) -> Result<Taken, Fault> {
        let now = (self.clock)();
        let unavailable = |error: EdgeError| Fault::Unavailable(format!("the guard: {error}"));
        let before = self.edges.notes.note(&key.connection, &name(key)).await.map_err(unavailable)?;
        let revision = before.as_ref().map_or(0, |note| note.revision) + 1;
        let live = before.filter(|note| note.is_live(now));
        let mut tries = 1;
        if let Some(known) = live.and_then(|note| serde_json::from_str::<Guard>(&note.body).ok()) {
            let same = known.seen == seen && known.decision == decision;
            match known.state {
                GuardState::Started if known.until > now.seconds() => {
                    return Err(Fault::Throttled { seconds: (known.until - now.seconds()).min(LOOK_AGAIN_SECONDS) });
                }
                GuardState::Started => tries = known.tries + 1,
                // A final action is never repeated, and any other only when the entity has changed since.
                GuardState::Done if known.decision.last || known.seen == seen => return Ok(Taken::Nothing),
                // The message that was refused may have come back before it was quarantined.
                GuardState::Refused if same && known.by == by => {
                    return Ok(Taken::Refused(known.refused.unwrap_or_default()));
                }
                GuardState::Refused if same && known.until > now.seconds() => return Ok(Taken::Nothing),
                GuardState::Done | GuardState::Refused | GuardState::Void => {}
            }
        }
        let until = now.seconds() + LEASE_SECONDS;
        let by = by.to_owned();
        let guard = Guard { state: GuardState::Started, decision, seen, until, by, tries, refused: None };
        match self.write(key, &guard, revision).await.map_err(unavailable)? {
            true => Ok(Taken::Guard(guard, revision)),
            // Another message was quicker.
            false => Err(Fault::Throttled { seconds: LOOK_AGAIN_SECONDS }),
        }
    }

    async fn write(&self, key: &EntityKey, guard: &Guard, revision: u64) -> Result<bool, EdgeError> {
        let body = serde_json::to_string(guard).map_err(|_| EdgeError::new("the guard", "it cannot be written"))?;
        let note = Note { body, revision, expires: (self.clock)().seconds() + GUARD_SECONDS };
        self.edges.notes.keep(&key.connection, &name(key), &note).await
    }

    /// Notes the content of an entity that was changed from here, to recognise the platform's report of that change.
    async fn mark_echo(&self, key: &EntityKey, hash: &str) {
        let terms = Terms::once((self.clock)(), ECHO_SECONDS);
        // Without the note, the report is processed like any other message, and changes nothing.
        let _ = update(&self.edges.notes, &key.connection, &echo_name(key), terms, |_| Some(hash.to_owned())).await;
    }

    /// Returns whether an entity still has the content of its last change from here.
    pub(crate) async fn is_echo(&self, key: &EntityKey, hash: &str) -> bool {
        let note = self.edges.notes.note(&key.connection, &echo_name(key)).await;
        matches!(note, Ok(Some(note)) if note.is_live((self.clock)()) && note.body == hash)
    }
}

fn name(key: &EntityKey) -> String {
    format!("act#{}", key.sort())
}

fn echo_name(key: &EntityKey) -> String {
    format!("echo#{}", key.sort())
}
