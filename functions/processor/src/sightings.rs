//! What is noted of deliveries that were seen: when each scope of a connection delivered, and when each signing key proved something.
//! Nothing depends on a single note, so what cannot be noted in time is not, and no message fails for it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use cloud::{
    EdgeError,
    coordination::{Coordination, Note, deployment},
    telemetry,
};
use commerce::{
    activity::{Activity, KeyUse, NOTED_EVERY_SECONDS, OTHER, SEEN, USED},
    envelope::{Envelope, Provenance},
    key::{ConnectionKey, Generation},
    keys::BROUGHT,
    outcome::{Outcome, Reason, Rule},
    platform::{Platform, delivery::PROBE, find, mapping::declared_scopes},
    timestamp::Timestamp,
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use serde::{Serialize, de::DeserializeOwned};

use crate::{End, Message, Processor, batch::CONCURRENCY};

/// How long a sighting is kept, in seconds.
const SEEN_SECONDS: i64 = 400 * 24 * 60 * 60;
/// How long the use of a key is kept, in seconds.
const USED_SECONDS: i64 = 60 * 24 * 60 * 60;
/// How many notes one environment remembers that it wrote.
const MAX_LATELY: usize = 5_000;

/// When this environment did what is not to be done all the time.
#[derive(Default)]
pub(crate) struct Throttle(Mutex<HashMap<(ConnectionKey, String), Timestamp>>);

impl Throttle {
    /// Whether it was not done in the [`NOTED_EVERY_SECONDS`] before.
    pub fn is_due(&self, key: &ConnectionKey, name: &str, at: Timestamp) -> bool {
        let lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = lately.get(&(key.clone(), name.to_owned()));
        last.is_none_or(|last| at >= last.plus_seconds(NOTED_EVERY_SECONDS))
    }

    /// That it was done.
    pub fn note(&self, key: &ConnectionKey, name: &str, at: Timestamp) {
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.len() >= MAX_LATELY {
            lately.clear();
        }
        lately.insert((key.clone(), name.to_owned()), at);
    }
}

/// What a batch has shown of deliveries.
#[derive(Default)]
pub(crate) struct Seen {
    /// The last delivery of each scope: its generation, when it was received, and the key that proved it.
    scopes: BTreeMap<(ConnectionKey, String), (Generation, Timestamp, String)>,
    /// When each key proved something last.
    keys: BTreeMap<String, Timestamp>,
}

impl Seen {
    /// Of the messages that were deliveries, and that their connections have not refused.
    pub fn of(platforms: &[Platform], messages: &[Message], ends: &[Option<(End, String)>]) -> Self {
        let mut seen = Self::default();
        for (message, end) in messages.iter().zip(ends) {
            if !end.as_ref().is_some_and(|(end, _)| counts(end)) {
                continue;
            }
            let delivered = Envelope::parse(&message.body).ok();
            let Some(envelope) = delivered.filter(|envelope| envelope.provenance == Provenance::Delivery) else {
                continue;
            };
            let Envelope { key, scope, generation, received, key_id, .. } = envelope;
            // What a client brought is none of our keys, and there is one for each client.
            if !key_id.starts_with(BROUGHT) {
                let last = seen.keys.entry(key_id.clone()).or_insert(received);
                *last = received.max(*last);
            }
            let known = find(platforms, &key.platform)
                .is_some_and(|platform| scope == PROBE || declared_scopes(platform).any(|declared| declared == scope));
            let scope = if known { scope } else { OTHER.to_owned() };
            let delivery = (generation, received, key_id);
            let last = seen.scopes.entry((key, scope)).or_insert_with(|| delivery.clone());
            if *last < delivery {
                *last = delivery;
            }
        }
        seen
    }
}

/// Whether a message that ends so was seen: not what its connection has refused, or whose connection nobody knows. What has not been
/// looked at comes back, and is seen then.
fn counts(end: &End) -> bool {
    let refused = [Rule::UNKNOWN_CONNECTION, Rule::DISCONNECTED, Rule::RETIRED_GENERATION];
    match end {
        End::Outcome(Outcome::Ignored(rule)) => !refused.contains(rule),
        End::Outcome(Outcome::Quarantined(reason)) => *reason != Reason::UnknownPlatform,
        End::Outcome(_) | End::Deferred(_) => true,
        End::Failed(reason, _) => *reason != Reason::StateUnavailable,
        End::Unfinished => false,
    }
}

impl<E: Sync, Q: Sync, V: Sync, O: Sync, C: Coordination + Sync, J: Sync> Processor<E, Q, V, O, C, J> {
    /// Notes what was seen, side by side.
    pub(crate) async fn note_seen(&self, seen: Seen) {
        let mut noting: Vec<BoxFuture<'_, _>> = Vec::with_capacity(seen.scopes.len() + seen.keys.len());
        for ((key, scope), (generation, received, key_id)) in seen.scopes {
            let next = move |before: Option<Activity>| {
                let former = before.as_ref().is_some_and(|before| before.generation > generation);
                let young = before.as_ref().is_some_and(|before| {
                    before.generation == generation && received < before.last.plus_seconds(NOTED_EVERY_SECONDS)
                });
                (!former && !young).then(|| Activity::next(before, received, generation, &key_id))
            };
            noting.push(self.renew(key, format!("{SEEN}{scope}"), received, SEEN_SECONDS, next).boxed());
        }
        for (key_id, received) in seen.keys {
            let next = move |before: Option<KeyUse>| {
                let young = before.is_some_and(|before| received < before.last.plus_seconds(NOTED_EVERY_SECONDS));
                (!young).then_some(KeyUse { last: received })
            };
            noting.push(self.renew(deployment(), format!("{USED}{key_id}"), received, USED_SECONDS, next).boxed());
        }
        let noted: Vec<Result<(), EdgeError>> = stream::iter(noting).buffer_unordered(CONCURRENCY).collect().await;
        let failures: Vec<_> = noted.iter().filter_map(|noted| noted.as_ref().err()).collect();
        if let Some(first) = failures.first() {
            telemetry::warn("sightings-not-noted", &format!("{} of {}; {first}", failures.len(), noted.len()));
        }
    }

    /// Writes the note that comes after the one that is there, if one does. When somebody else does so at the same time, theirs is as
    /// good.
    async fn renew<T: Serialize + DeserializeOwned + Send>(
        &self,
        key: ConnectionKey,
        name: String,
        at: Timestamp,
        kept_seconds: i64,
        next: impl FnOnce(Option<T>) -> Option<T> + Send,
    ) -> Result<(), EdgeError> {
        if !self.lately.is_due(&key, &name, at) {
            return Ok(());
        }
        let before = self.edges.coordination.note(&key, &name).await?;
        let revision = before.as_ref().map_or(0, |note| note.revision) + 1;
        let live = before.filter(|note| note.is_live((self.clock)()));
        if let Some(next) = next(live.and_then(|note| serde_json::from_str(&note.body).ok())) {
            let body = serde_json::to_string(&next).unwrap_or_default();
            let note = Note { body, revision, expires: at.seconds() + kept_seconds };
            self.edges.coordination.keep(&key, &name, &note).await?;
        }
        self.lately.note(&key, &name, at);
        Ok(())
    }
}
