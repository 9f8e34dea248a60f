//! The processing of a batch: entities are read together and brought up to date side by side, and a report names the
//! messages that have to come back. A failure or a panic at one entity affects no other.

use std::{collections::BTreeMap, ops::Range, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use cloud::{
    queue::{DeadLetter, DeadLetters, Inbox, Retries},
    state::{Entities, Read},
    telemetry::{traced, with_traces},
};
use commerce::{
    entity::EntityKey,
    envelope::{Envelope, Sealed},
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
    Disposition, MAX_ATTEMPTS, MAX_DEFERRALS, Message, Parts, Processor,
    activity::SeenDeliveries,
    candidate::Ends,
    disposition::Ended,
    drift::{self, Findings},
    parse::{CommandMessage, EntityUpdate, Entry, Parsed, Request, Resolution, Unresolved, is_put_aside, request},
    places::{Places, ROUND_MESSAGES, ROUND_WEIGHT},
    report,
    rules::gate,
    run::Run,
};

/// The longest time for quarantines and the like after the deadline.
const FINISHING: Duration = Duration::from_secs(4);
/// The longest time for noting activity, and again for noting drift. With [`FINISHING`] they fit into the reserve.
const NOTING: Duration = Duration::from_millis(1500);
/// The number of entities and commands that run side by side.
const CONCURRENCY: usize = 16;

/// The result of a batch.
#[derive(Debug)]
pub struct Report {
    /// The ids of the messages that have to come back.
    pub failures: Vec<String>,
    /// The lines to log: one for the batch, one for each metric, and one for each thing that went wrong.
    pub lines: Vec<Value>,
    /// The end of each message, by its id.
    pub ends: Vec<(String, Disposition)>,
}

/// The open requests of some messages of a batch.
#[derive(Default)]
struct Round {
    /// The places of the messages in the batch.
    range: Range<usize>,
    updates: BTreeMap<EntityKey, Vec<EntityUpdate>>,
    commands: Vec<CommandMessage>,
    unresolved: Vec<Unresolved>,
}

impl Round {
    fn is_empty(&self) -> bool {
        self.updates.is_empty() && self.commands.is_empty() && self.unresolved.is_empty()
    }

    fn add(&mut self, request: Request, index: usize, ends: &mut [Option<Ended>]) {
        match request {
            Request::Resolved(resolution) => self.add_resolved(resolution, index, ends),
            Request::Unresolved(unresolved) => self.unresolved.push(*unresolved),
        }
        self.range.end = index + 1;
    }

    fn add_resolved(&mut self, resolution: Resolution, index: usize, ends: &mut [Option<Ended>]) {
        match resolution {
            Resolution::Ended(ended) => ends[index] = Some(ended),
            Resolution::Entity(update) => self.updates.entry(update.key.clone()).or_default().push(*update),
            Resolution::Command(command) => self.commands.push(*command),
        }
    }

    /// Returns the entities that may have to be read.
    fn entities(&self) -> Vec<EntityKey> {
        let unresolved = self.unresolved.iter().filter_map(Unresolved::entity_without_presets);
        let mut keys: Vec<EntityKey> = self.updates.keys().chain(unresolved).cloned().collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Returns the places of all messages with open requests.
    fn indices(&self) -> Vec<usize> {
        let updates = self.updates.values().flatten().map(|update| update.index);
        let commands = self.commands.iter().map(|command| command.index);
        updates.chain(commands).chain(self.unresolved.iter().map(|unresolved| unresolved.index)).collect()
    }

    /// Drops the requests of connections whose records cannot be read; their messages come back.
    fn drop_broken(&mut self, broken: impl Fn(&ConnectionKey) -> bool, ends: &mut [Option<Ended>]) {
        let mut fail = |index: usize| ends[index] = Some(Ended::unreadable());
        self.updates.retain(|key, updates| {
            let readable = !broken(&key.connection);
            if !readable {
                updates.iter().for_each(|update| fail(update.index));
            }
            readable
        });
        self.commands.retain(|command| {
            let readable = !broken(&command.envelope.key);
            if !readable {
                fail(command.index);
            }
            readable
        });
        self.unresolved.retain(|unresolved| {
            let readable = !broken(&unresolved.envelope.key);
            if !readable {
                fail(unresolved.index);
            }
            readable
        });
    }
}

/// Runs the work for some messages, whose traces its lines name. A panic fails only these.
async fn isolated(run: impl Future<Output = Ends>, batch: &[Parsed<'_>], indices: Vec<usize>) -> Ends {
    let traces: Vec<String> = indices.iter().map(|index| batch[*index].trace().to_owned()).collect();
    let panicked = |index| (index, Ended::retry(Reason::Panic, ""));
    let done = traced(traces, AssertUnwindSafe(run).catch_unwind()).await;
    done.unwrap_or_else(|_| indices.into_iter().map(panicked).collect())
}

impl<P: Parts> Processor<P> {
    /// Processes a batch, and stops at `deadline`.
    pub async fn process(&self, messages: &[Message], deadline: Timestamp) -> Report {
        let batch: Vec<Parsed<'_>> = messages.iter().map(Parsed::new).collect();
        let traces: Vec<String> = batch.iter().map(|parsed| parsed.trace().to_owned()).collect();
        traced(traces, self.process_parsed(&batch, deadline)).await
    }

    async fn process_parsed(&self, batch: &[Parsed<'_>], deadline: Timestamp) -> Report {
        let started = (self.clock)();
        let mut ends: Vec<Option<Ended>> = vec![None; batch.len()];
        let (findings, mut entities, mut held, mut round) = (Findings::default(), 0, 0, Round::default());
        for (index, parsed) in batch.iter().enumerate() {
            let unpacked = parsed.unpack();
            let weight = unpacked.weight();
            // The requests read so far run and free their memory before the next one exceeds the room for a round.
            if !round.range.is_empty() && (held + weight > ROUND_WEIGHT || round.range.len() == ROUND_MESSAGES) {
                let next = Round { range: index..index, ..Round::default() };
                entities += round.updates.len();
                self.run_round(std::mem::replace(&mut round, next), batch, deadline, &mut ends, &findings).await;
                held = 0;
            }
            round.add(request(self.platforms, index, parsed, unpacked), index, &mut ends);
            held += weight;
        }
        entities += round.updates.len();
        self.run_round(round, batch, deadline, &mut ends, &findings).await;
        let seen = SeenDeliveries::of(self.platforms, batch, &ends);
        // A message without an end by now ran out of time.
        let ends = ends.into_iter().map(|ended| ended.unwrap_or(Disposition::Unfinished.into()));
        let finished = join_all(batch.iter().zip(ends).map(|(parsed, ended)| async move {
            let ended = self.finish(parsed, ended).await;
            Entry { parsed, ended }
        }));
        // Notes are written beside the required work, and not for long.
        let (entries, _) = tokio::join!(finished, tokio::time::timeout(NOTING, self.note_seen(seen)));
        let unreadable = findings.unreadable();
        let drift = drift::count(&entries, findings);
        let _ = tokio::time::timeout(NOTING, self.note_drift(&drift)).await;
        let took = (self.clock)().micros() - started.micros();
        let mut lines = report::lines(&entries, entities, took / 1000, (self.clock)());
        lines.extend(report::drift_lines(self.platforms, &drift, (self.clock)()));
        lines.extend(report::unreadable_lines(&unreadable, (self.clock)()));
        // Lines that name no messages are about some of the batch.
        let traces = || batch.iter().map(Parsed::trace);
        let lines = lines.into_iter().map(|line| with_traces(line, traces())).collect();
        let id = |entry: &Entry<'_>| entry.parsed.message.id.clone();
        Report {
            failures: entries.iter().filter(|entry| entry.comes_back()).map(id).collect(),
            lines,
            ends: entries.into_iter().map(|entry| (id(&entry), entry.ended.disposition)).collect(),
        }
    }

    /// Carries out the requests of a round.
    async fn run_round(
        &self,
        mut round: Round,
        batch: &[Parsed<'_>],
        deadline: Timestamp,
        ends: &mut [Option<Ended>],
        findings: &Findings,
    ) {
        let put_aside = self.put_aside_unseen(&round, batch, ends);
        if round.is_empty() && put_aside.is_empty() {
            return;
        }
        let remaining = deadline.micros() - (self.clock)().micros();
        let until = tokio::time::Instant::now() + Duration::from_micros(u64::try_from(remaining).unwrap_or(0));
        let keys = round.entities();
        let mut connections: Vec<ConnectionKey> = keys.iter().map(|key| key.connection.clone()).collect();
        connections.extend(round.commands.iter().map(|command| command.envelope.key.clone()));
        connections.extend(round.unresolved.iter().map(|unresolved| unresolved.envelope.key.clone()));
        connections.extend(put_aside.iter().map(|(_, envelope)| envelope.key.clone()));
        connections.sort();
        connections.dedup();
        let read = match tokio::time::timeout_at(until, self.edges.entities.read(&keys, &connections)).await {
            Err(_) => return,
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                let failed = Ended::from(error);
                round.indices().into_iter().for_each(|index| ends[index] = Some(failed.clone()));
                return;
            }
        };
        let places = Places::new(&connections);
        let Read { mut items, connections, broken } = read;
        for (index, envelope) in put_aside {
            let Some(platform) = find(self.platforms, &envelope.key.platform) else { continue };
            let gated = gate(connections.get(&envelope.key), platform, &envelope);
            if let (false, Err(rule)) = (broken.contains(&envelope.key), gated) {
                ends[index] = Some(rule.into());
            }
        }
        round.drop_broken(|key| broken.contains(key), ends);
        // The presets are known now, and resolve topics that say too little.
        for unresolved in std::mem::take(&mut round.unresolved) {
            let index = unresolved.index;
            let connection = connections.get(&unresolved.envelope.key);
            let (platform, envelope) = (unresolved.platform, Arc::clone(&unresolved.envelope));
            let resolved = match (unresolved.resolve(connection), gate(connection, &platform, &envelope)) {
                // What the connection ignores is no error of it.
                (Resolution::Ended(ended), Err(rule)) if is_put_aside(&ended) => rule.into(),
                (resolved, _) => resolved,
            };
            round.add_resolved(resolved, index, ends);
        }
        let resolved_late: Vec<_> = round.updates.keys().filter(|key| !keys.contains(*key)).cloned().collect();
        if !resolved_late.is_empty() {
            match tokio::time::timeout_at(until, self.edges.entities.read(&resolved_late, &[])).await {
                Err(_) => return,
                Ok(Ok(read)) => items.extend(read.items),
                Ok(Err(error)) => {
                    let failed = Ended::from(error);
                    for key in resolved_late {
                        let updates = round.updates.remove(&key).unwrap_or_default();
                        updates.iter().for_each(|update| ends[update.index] = Some(failed.clone()));
                    }
                }
            }
        }
        let run = Run { batch, findings, places: &places };
        let mut running: Vec<BoxFuture<'_, Ends>> = Vec::with_capacity(round.updates.len() + round.commands.len());
        for (key, updates) in round.updates {
            let (item, connection) = (items.remove(&key), connections.get(&key.connection));
            let indices: Vec<usize> = updates.iter().map(|update| update.index).collect();
            for index in &indices {
                let _ = batch[*index].entity.set(key.clone());
            }
            let synced = self.sync_entity(run, key, updates, connection, item);
            running.push(isolated(synced, batch, indices).boxed());
        }
        for command in round.commands {
            let (index, connection) = (command.index, connections.get(&command.envelope.key));
            let done = async move {
                let place = run.places.of(&command.envelope.key);
                vec![(index, self.run_command(&command, connection, &place).await)]
            };
            running.push(isolated(done, batch, vec![index]).boxed());
        }
        let mut running = stream::iter(running).buffer_unordered(CONCURRENCY);
        while let Ok(Some(done)) = tokio::time::timeout_at(until, running.next()).await {
            done.into_iter().for_each(|(index, ended)| ends[index] = Some(ended));
        }
    }

    /// Returns the messages of a round that are about to be quarantined for their content. Those that their connections
    /// ignore must not be. Messages of a platform that this release does not have are left out, because nothing can
    /// tell which of them are ignored.
    fn put_aside_unseen(
        &self,
        round: &Round,
        batch: &[Parsed<'_>],
        ends: &[Option<Ended>],
    ) -> Vec<(usize, Arc<Envelope>)> {
        let range = round.range.clone();
        let aside = range.filter(|index| ends[*index].as_ref().is_some_and(is_put_aside));
        let known = aside.filter_map(|index| Some((index, batch[index].envelope()?.clone())));
        known.filter(|(_, envelope)| find(self.platforms, &envelope.key.platform).is_some()).collect()
    }

    /// Carries out an end, within the time kept for it: a copy for a deferral, a dead letter for a quarantine, a fifth
    /// failure or a tenth cut-off, a visibility timeout for other failures. If that fails, the message comes back.
    async fn finish(&self, parsed: &Parsed<'_>, ended: Ended) -> Ended {
        let finished = tokio::time::timeout(FINISHING, self.do_finish(parsed, ended)).await;
        let cut_off = || Ended::new(Disposition::Unfinished, "there was no time left to put it aside");
        finished.unwrap_or_else(|_| cut_off())
    }

    async fn do_finish(&self, parsed: &Parsed<'_>, Ended { disposition, why }: Ended) -> Ended {
        let message = parsed.message;
        let disposition = match disposition {
            Disposition::Deferred(seconds) => self.defer(parsed, seconds).await,
            other => other,
        };
        match disposition {
            Disposition::Done(Outcome::Quarantined(reason)) => Ended::new(self.put_aside(parsed, reason).await, why),
            Disposition::Retry(reason, cause) if message.attempts >= MAX_ATTEMPTS => {
                Ended::new(self.put_aside(parsed, reason).await, cause)
            }
            // A message that the deadline always cuts off is quarantined in the end. It gets twice the attempts,
            // because others may be the cause.
            Disposition::Unfinished if message.attempts >= 2 * MAX_ATTEMPTS => {
                Ended::new(self.put_aside(parsed, Reason::OutOfTime).await, why)
            }
            Disposition::Retry(..) => {
                // If this fails, the queue's own visibility timeout brings the message back.
                let _ = self.edges.queues.retry_in(&message.receipt_handle, retry_seconds(message.attempts)).await;
                Ended { disposition, why }
            }
            Disposition::Done(_) | Disposition::Deferred(_) | Disposition::Unfinished => Ended { disposition, why },
        }
    }

    async fn defer(&self, parsed: &Parsed<'_>, seconds: i64) -> Disposition {
        let Some(envelope) = parsed.envelope() else {
            return Disposition::Done(Outcome::Quarantined(Reason::UnknownMessage));
        };
        if envelope.deferrals >= MAX_DEFERRALS {
            return Disposition::Done(Outcome::Quarantined(Reason::DeferredTooOften));
        }
        // SQS delays by 15 minutes at most; a longer wait takes several deferrals. A platform that always says "in a
        // second" is asked more and more rarely.
        let least = 1_i64 << envelope.deferrals.min(10);
        let delay = i32::try_from(seconds.max(least).min(900)).unwrap_or(900);
        match self.edges.queues.send(&Sealed::deferred(envelope), delay).await {
            Ok(_) => Disposition::Deferred(i64::from(delay)),
            Err(error) => Disposition::Retry(Reason::PlatformUnavailable, format!("the deferral failed: {error}")),
        }
    }

    async fn put_aside(&self, parsed: &Parsed<'_>, reason: Reason) -> Disposition {
        match self.edges.queues.quarantine(&dead_letter(parsed, reason)).await {
            Ok(()) => Disposition::Done(Outcome::Quarantined(reason)),
            Err(error) => Disposition::Retry(reason, format!("the quarantine failed: {error}")),
        }
    }
}

/// Makes the dead letter of a message: its body as it came, and the facts known of it.
fn dead_letter(parsed: &Parsed<'_>, reason: Reason) -> DeadLetter {
    let envelope = parsed.envelope();
    DeadLetter {
        body: parsed.message.body.clone(),
        reason,
        platform: envelope.map(|envelope| envelope.key.platform.clone()),
        connection: envelope.map(|envelope| envelope.key.connection.to_string()),
        scope: envelope.map(|envelope| envelope.scope.clone()),
    }
}

/// Returns the pause after a message's nth failed attempt, in seconds: 10, 40, 160, 640.
fn retry_seconds(attempts: u32) -> i32 {
    10 * 4_i32.pow(attempts.saturating_sub(1).min(3))
}
