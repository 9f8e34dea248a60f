//! Lifts one message to many: reads what a batch needs at once, lets entities be brought up to date side by side, and reports
//! which messages have to come back. What fails, or panics, for one entity touches no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    panic::AssertUnwindSafe,
    time::Duration,
};

use cloud::{
    connections::Vault,
    coordination::{Coordination, Note},
    outbound::Outbound,
    queue::{DeadLetters, Inbox, Jobs, Retries},
    state::{Entities, Read},
};
use commerce::{
    drift::{DRIFT, Drift, DriftKind, shows_loss},
    entity::{EntityKey, EntityKind},
    envelope::{Content, Envelope, Sealed},
    key::ConnectionKey,
    outcome::{Outcome, Reason},
    platform::find,
    timestamp::Timestamp,
};
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, join_all},
    stream,
};
use serde_json::Value;

use crate::{
    End, MAX_ATTEMPTS, MAX_DEFERRALS, Message, Processor, Task, Understood, Unpacked, Work, dead_letter, gate,
    group::{Ends, Losses, Run, end_of_unreadable},
    places::{Places, ROUND_MESSAGES, ROUND_WEIGHT},
    report::{self, Entry},
    sightings::Seen,
    understand,
};

/// How long putting aside and the like may take after the deadline, at most.
const FINISHING: Duration = Duration::from_secs(4);
/// How long noting what was seen may take, and then what differed, at most: both and finishing fit into the reserve.
const NOTING: Duration = Duration::from_millis(1500);
/// How many entities are brought up to date side by side.
pub(crate) const CONCURRENCY: usize = 16;

/// How long the totals of what differed are kept, in seconds.
const DIFFERENCES_SECONDS: i64 = 400 * 24 * 60 * 60;

/// What polling found to differ, by connection and kind of entity.
pub(crate) type ByEntity = BTreeMap<(ConnectionKey, EntityKind), Drift>;

/// What the messages of a batch ask for.
#[derive(Default)]
struct Asked {
    /// Entities to bring up to date.
    groups: BTreeMap<EntityKey, Vec<Work>>,
    /// Everything else.
    tasks: Vec<Task>,
}

impl Asked {
    fn add(&mut self, understood: Understood, index: usize, ends: &mut [Option<(End, String)>]) {
        match understood {
            Understood::End(end, why) => ends[index] = Some((end, why)),
            Understood::Work(work) => self.groups.entry(work.key.clone()).or_default().push(*work),
            Understood::Task(task) => self.tasks.push(*task),
        }
    }

    fn indices(&self) -> Vec<usize> {
        let works = self.groups.values().flatten().map(|work| work.index);
        works.chain(self.tasks.iter().map(|task| task.index)).collect()
    }
}

/// Runs what concerns some messages; a panic is theirs alone.
async fn isolated(run: impl Future<Output = Ends>, indices: Vec<usize>) -> Ends {
    AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|_| {
        indices.into_iter().map(|index| (index, End::Failed(Reason::Panic, String::new()), String::new())).collect()
    })
}

/// What a batch came to.
#[derive(Debug)]
pub struct Report {
    /// Ids of the messages that have to come back.
    pub failures: Vec<String>,
    /// What is to be logged: one line for the batch, one for each kind of outcome as a metric, one for each thing that went
    /// wrong.
    pub lines: Vec<Value>,
    /// How each message ended, by its id.
    pub ends: Vec<(String, End)>,
}

impl<E, Q, V, O, C, J> Processor<E, Q, V, O, C, J>
where
    E: Entities + Sync,
    Q: Inbox + DeadLetters + Retries + Sync,
    V: Vault + Sync,
    O: Outbound + Sync,
    C: Coordination + Sync,
    J: Jobs + Sync,
{
    /// Processes a batch, and stops at `deadline`.
    pub async fn process(&self, messages: &[Message], deadline: Timestamp) -> Report {
        let started = (self.clock)();
        let mut ends: Vec<Option<(End, String)>> = vec![None; messages.len()];
        let (losses, mut entities) = (Losses::default(), 0);
        let (mut asked, mut held, mut round) = (Asked::default(), 0, 0..0);
        for (index, message) in messages.iter().enumerate() {
            let unpacked = Unpacked::of(message);
            let weight = unpacked.weight();
            // What was understood is let go before more is understood than there is room for.
            if !round.is_empty() && (held + weight > ROUND_WEIGHT || round.len() == ROUND_MESSAGES) {
                entities += asked.groups.len();
                let part = (std::mem::take(&mut asked), std::mem::replace(&mut round, index..index));
                self.bring_up_to_date(part, messages, deadline, &mut ends, &losses).await;
                held = 0;
            }
            asked.add(understand(self.platforms, index, unpacked), index, &mut ends);
            (held, round.end) = (held + weight, index + 1);
        }
        entities += asked.groups.len();
        self.bring_up_to_date((asked, round), messages, deadline, &mut ends, &losses).await;
        let seen = Seen::of(self.platforms, messages, &ends);
        // What has no end by now ran out of time.
        let ends = ends.into_iter().map(|end| end.unwrap_or((End::Unfinished, String::new())));
        let finished = join_all(messages.iter().zip(ends).map(|(message, (end, why))| async move {
            let (end, why) = self.finish(message, end, why).await;
            Entry { message, end, why }
        }));
        // Beside what has to be done, and not for long.
        let (entries, _) = tokio::join!(finished, tokio::time::timeout(NOTING, self.note_seen(seen)));
        let unreadable = losses.unreadable();
        let differences = self.note_differences(&entries, losses).await;
        let took = (self.clock)().micros() - started.micros();
        let mut lines = report::lines(&entries, entities, took / 1000, (self.clock)());
        lines.extend(report::difference_lines(self.platforms, &differences, (self.clock)()));
        lines.extend(report::unreadable_lines(&unreadable, (self.clock)()));
        Report {
            failures: entries.iter().filter(|entry| entry.comes_back()).map(|e| e.message.id.clone()).collect(),
            lines,
            ends: entries.into_iter().map(|entry| (entry.message.id.clone(), entry.end)).collect(),
        }
    }

    /// Does what the messages of a round ask for.
    async fn bring_up_to_date(
        &self,
        (mut asked, round): (Asked, Range<usize>),
        messages: &[Message],
        deadline: Timestamp,
        ends: &mut [Option<(End, String)>],
        losses: &Losses,
    ) {
        // What is about to be put aside is not, if its connection would have been ignored anyway. Of a platform that this
        // release does not have, it cannot know the connections either.
        let doubtful: Vec<(usize, Envelope)> = ends
            .iter()
            .zip(messages)
            .enumerate()
            .filter(|(index, _)| round.contains(index))
            .filter(|(_, (end, _))| matches!(end, Some((End::Outcome(Outcome::Quarantined(_)), _))))
            .filter_map(|(index, (_, message))| Some((index, Envelope::parse(&message.body).ok()?)))
            .filter(|(_, envelope)| find(self.platforms, &envelope.key.platform).is_some())
            .collect();
        if asked.groups.is_empty() && asked.tasks.is_empty() && doubtful.is_empty() {
            return;
        }
        let remaining = deadline.micros() - (self.clock)().micros();
        let until = tokio::time::Instant::now() + Duration::from_micros(u64::try_from(remaining).unwrap_or(0));
        let mut keys: Vec<EntityKey> = asked.groups.keys().cloned().collect();
        keys.extend(asked.tasks.iter().filter_map(Task::without_presets));
        keys.sort();
        keys.dedup();
        let mut connections: Vec<ConnectionKey> = keys.iter().map(|key| key.connection.clone()).collect();
        connections.extend(asked.tasks.iter().map(|task| task.envelope.key.clone()));
        connections.extend(doubtful.iter().map(|(_, envelope)| envelope.key.clone()));
        connections.sort();
        connections.dedup();
        let read = match tokio::time::timeout_at(until, self.edges.entities.read(&keys, &connections)).await {
            Err(_) => return,
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                for index in asked.indices() {
                    let end = End::Failed(Reason::StateUnavailable, error.to_string());
                    ends[index] = Some((end, String::new()));
                }
                return;
            }
        };
        let places = Places::new(&connections);
        let Read { mut items, connections, broken } = read;
        let is_broken = |key: &ConnectionKey| broken.contains(key);
        for (index, envelope) in doubtful {
            let Some(platform) = find(self.platforms, &envelope.key.platform) else { continue };
            let gated = gate(connections.get(&envelope.key), platform, &envelope);
            if let (false, Err(rule)) = (is_broken(&envelope.key), gated) {
                ends[index] = Some((End::Outcome(Outcome::Ignored(rule)), String::new()));
            }
        }
        let fails = || Some((end_of_unreadable(), String::new()));
        // Scopes that say too little are resolved by the presets, now that they are known.
        for task in std::mem::take(&mut asked.tasks) {
            let index = task.index;
            if is_broken(&task.envelope.key) {
                ends[index] = fails();
                continue;
            }
            let presets = connections.get(&task.envelope.key).map(|connection| connection.presets.as_slice());
            asked.add(task.resolved(presets.unwrap_or_default()), index, ends);
        }
        asked.groups.retain(|key, works| {
            let readable = !is_broken(&key.connection);
            if !readable {
                works.iter().for_each(|work| ends[work.index] = fails());
            }
            readable
        });
        let run = Run { messages, losses, places: &places };
        let mut running: Vec<BoxFuture<'_, Ends>> = Vec::with_capacity(asked.groups.len() + asked.tasks.len());
        for (key, works) in asked.groups {
            let (item, connection) = (items.remove(&key), connections.get(&key.connection));
            let indices = works.iter().map(|work| work.index).collect();
            running.push(isolated(self.group(run, key, works, connection, item), indices).boxed());
        }
        for task in asked.tasks {
            let connection = connections.get(&task.envelope.key);
            let index = task.index;
            let done = async move {
                let place = run.places.of(&task.envelope.key);
                let (end, why) = self.task(&task, connection, &place).await;
                vec![(index, end, why)]
            };
            running.push(isolated(done, vec![index]).boxed());
        }
        let mut running = stream::iter(running).buffer_unordered(CONCURRENCY);
        while let Ok(Some(group)) = tokio::time::timeout_at(until, running.next()).await {
            for (index, end, why) in group {
                ends[index] = Some((end, why));
            }
        }
    }

    /// Counts what polling found to differ, and adds it to the totals of each connection and kind of entity. Without the note, the
    /// totals are less than they should be; the log has it all the same.
    async fn note_differences(&self, entries: &[Entry<'_>], losses: Losses) -> ByEntity {
        let (mut found, mut counted) = (ByEntity::new(), BTreeSet::new());
        for (index, difference) in losses.all() {
            let Some(entry) = entries.get(index) else { continue };
            // What may work the next time is no loss yet.
            let put_aside = matches!(entry.end, End::Outcome(Outcome::Quarantined(_)));
            let Ok(envelope) = Envelope::parse(&entry.message.body) else { continue };
            let Content::Transfer(transfer) = &envelope.content else { continue };
            let is_lost = shows_loss(&envelope) && (difference != DriftKind::Unmapped || put_aside);
            // Pages overlap, so one entity may be found twice.
            if is_lost && counted.insert((envelope.key.clone(), transfer.entity, transfer.id.clone(), difference)) {
                found.entry((envelope.key.clone(), transfer.entity)).or_default().add(difference);
            }
        }
        let noting = found.iter().map(|((key, entity), more)| self.add_differences(key, *entity, more));
        let _ = tokio::time::timeout(NOTING, join_all(noting)).await;
        found
    }

    async fn add_differences(&self, key: &ConnectionKey, entity: EntityKind, more: &Drift) {
        let (notes, name) = (&self.edges.coordination, format!("{DRIFT}{entity}"));
        for _ in 0..3 {
            let Ok(before) = notes.note(key, &name).await else { return };
            let now = (self.clock)();
            let known = before.as_ref().filter(|note| note.is_live(now)).and_then(|note| Drift::read(&note.body));
            let total = known.unwrap_or(Drift { since: Some(now), ..Drift::default() }).plus(more);
            let body = serde_json::to_string(&total).unwrap_or_default();
            let revision = before.map_or(0, |note| note.revision) + 1;
            let note = Note { body, revision, expires: now.seconds() + DIFFERENCES_SECONDS };
            if !matches!(notes.keep(key, &name, &note).await, Ok(false)) {
                return;
            }
        }
    }

    /// Does what an end asks for, within the time that was kept back for it: a copy for a deferral, a dead letter for a
    /// quarantine and for the fifth failure, a time to come back for the others. What cannot be done makes the message come back.
    async fn finish(&self, message: &Message, end: End, why: String) -> (End, String) {
        let finished = tokio::time::timeout(FINISHING, self.do_finish(message, end, why)).await;
        finished.unwrap_or((End::Unfinished, "there was no time left to put it aside".into()))
    }

    async fn do_finish(&self, message: &Message, end: End, why: String) -> (End, String) {
        let end = match end {
            End::Deferred(seconds) => self.defer(message, seconds).await,
            other => other,
        };
        match end {
            End::Outcome(Outcome::Quarantined(reason)) => (self.put_aside(message, reason).await, why),
            End::Failed(reason, cause) if message.attempts >= MAX_ATTEMPTS => {
                (self.put_aside(message, reason).await, cause)
            }
            // What is always cut off by the deadline is put aside in the end; but it may be cut off for the others' sake.
            End::Unfinished if message.attempts >= 2 * MAX_ATTEMPTS => {
                (self.put_aside(message, Reason::OutOfTime).await, why)
            }
            End::Failed(..) => {
                // If it cannot be set, the queue's own visibility timeout brings it back.
                let _ = self.edges.queues.retry_in(&message.receipt_handle, retry_seconds(message.attempts)).await;
                (end, why)
            }
            End::Outcome(_) | End::Deferred(_) | End::Unfinished => (end, why),
        }
    }

    async fn defer(&self, message: &Message, seconds: i64) -> End {
        let Ok(envelope) = Envelope::parse(&message.body) else {
            return End::Outcome(Outcome::Quarantined(Reason::UnknownMessage));
        };
        if envelope.deferrals >= MAX_DEFERRALS {
            return End::Outcome(Outcome::Quarantined(Reason::DeferredTooOften));
        }
        // SQS delays by 15 minutes at most; what has to wait longer is put off again. A platform that always says "in a second"
        // is asked more and more rarely.
        let least = 1_i64 << envelope.deferrals.min(10);
        let delay = i32::try_from(seconds.max(least).min(900)).unwrap_or(900);
        match self.edges.queues.send(&Sealed::deferred(&envelope), delay).await {
            Ok(_) => End::Deferred(i64::from(delay)),
            Err(error) => End::Failed(Reason::PlatformUnavailable, format!("the deferral failed: {error}")),
        }
    }

    async fn put_aside(&self, message: &Message, reason: Reason) -> End {
        match self.edges.queues.quarantine(&dead_letter(message, reason)).await {
            Ok(()) => End::Outcome(Outcome::Quarantined(reason)),
            Err(error) => End::Failed(reason, format!("the quarantine failed: {error}")),
        }
    }
}

/// How long a message stays away after its nth failed attempt, in seconds: 10, 40, 160, 640.
fn retry_seconds(attempts: u32) -> i32 {
    10 * 4_i32.pow(attempts.saturating_sub(1).min(3))
}
