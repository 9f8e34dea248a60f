//! Doing something at a platform, by the connection's settings. Twice is impossible: a guard is written before, on the condition that
//! nobody else wrote it, and the outcome after; the entity is read again in between, and what was decided is done only if it still
//! fits. A crash in between is resumed when the guard's lease has run out: what was done then shows in the entity itself.

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

/// How long acting may take in all.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a guard keeps others away, in seconds: longer than acting may take.
const LEASE_SECONDS: i64 = 120;
/// How long a message waits for another one that acts on the same entity, in seconds: acting takes a second or two, where it does not crash.
const LOOK_AGAIN_SECONDS: i64 = 10;
/// More calls than any action needs.
const MAX_CALLS: usize = 6;
/// How often an action is begun that never comes to an end.
const MAX_TRIES: u32 = 5;
/// How long what was refused is not tried again, in seconds, unless the entity or the policy changes: triggers are many.
const REFUSED_SECONDS: i64 = 600;
/// How long it is remembered what was done, in seconds.
const GUARD_SECONDS: i64 = 400 * 24 * 60 * 60;
/// How long a change that was made from here is recognised when it comes back, in seconds.
const ECHO_SECONDS: i64 = 15 * 60;

/// What the guard says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Guard {
    state: GuardState,
    /// What was, or is being, done.
    decision: Decision,
    /// The hash of the entity's content that was decided on.
    seen: String,
    /// Until when nobody else may act, seconds since 1970.
    until: i64,
    /// The message that acts, or acted.
    by: String,
    /// How often it was begun without coming to an end.
    #[serde(default)]
    tries: u32,
    /// Why the platform refused it, if it did.
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

/// What asking for the guard came to.
enum Taken {
    /// There is nothing to do, any more or yet.
    Nothing,
    /// The platform has refused it to this very message.
    Refused(String),
    /// The guard is ours, with its revision.
    Guard(Guard, u64),
}

/// What acting came to.
pub(crate) struct Done {
    /// The entity since.
    pub mapped: Mapped,
    /// Why the platform refuses it, if it does.
    pub refused: Option<String>,
}

/// The hash of what a pull has shown.
pub(crate) fn hash(mapped: &Mapped) -> Option<String> {
    match mapped {
        Mapped::Change(_, Change::Upsert(upsert)) => Some(upsert.content.hash()),
        _ => None,
    }
}

impl<P: Parts> Processor<P> {
    /// Does what the connection's settings say about an entity as it was pulled, if they say anything. `by` is the message that
    /// it is done for.
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
        // A time-out is no answer: whatever was under way may yet take effect, so the guard stays until its lease is over.
        let acting =
            tokio::time::timeout(PATIENCE, self.perform(place, platform, key, connection, &wanted, &guard.decision));
        let acted = acting.await.map_err(|_| Fault::Unavailable("acting took too long".into()))?;
        if let Err(Fault::Throttled { .. } | Fault::Connection(_) | Fault::Unreadable(_) | Fault::TooLarge(_)) = &acted
        {
            // The platform has answered, so nothing is under way; the next try need not wait.
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

    /// Notes what an action came to.
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
            // The guard says "started" on; whoever comes after its lease reads the entity, and finds it done.
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
        // What it shows once it is done is true from here on.
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
                // What is final is final, and the rest is done again only when something has changed since.
                GuardState::Done if known.decision.last || known.seen == seen => return Ok(Taken::Nothing),
                // The message that was refused may have come back before it could be put aside.
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
            // Somebody else was quicker.
            false => Err(Fault::Throttled { seconds: LOOK_AGAIN_SECONDS }),
        }
    }

    async fn write(&self, key: &EntityKey, guard: &Guard, revision: u64) -> Result<bool, EdgeError> {
        let body = serde_json::to_string(guard).map_err(|_| EdgeError::new("the guard", "it cannot be written"))?;
        let note = Note { body, revision, expires: (self.clock)().seconds() + GUARD_SECONDS };
        self.edges.notes.keep(&key.connection, &name(key), &note).await
    }

    /// Remembers what an entity looks like that was changed from here, to recognise it when the platform tells of it.
    async fn mark_echo(&self, key: &EntityKey, hash: &str) {
        let terms = Terms::once((self.clock)(), ECHO_SECONDS);
        // Without it the echo is processed like any other message, and changes nothing.
        let _ = update(&self.edges.notes, &key.connection, &echo_name(key), terms, |_| Some(hash.to_owned())).await;
    }

    /// Whether an entity looks as it did when it was changed from here last.
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
