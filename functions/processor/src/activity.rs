//! The notes of activity: the last delivery of each topic (`scope`) of a connection, and the last use of each signing
//! key. Nothing depends on a single note, so a note that cannot be written in time is dropped, and no message fails for
//! it.

use std::collections::BTreeMap;

use cloud::{
    EdgeError,
    coordination::{Terms, deployment, update_json},
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

use crate::{Disposition, Parts, Processor, disposition::Ended, parse::Parsed};

/// The number of notes that are written side by side.
const CONCURRENCY: usize = 16;
/// The time for which the activity of a topic is kept, in seconds.
const SEEN_SECONDS: i64 = 400 * 24 * 60 * 60;
/// The time for which the last use of a key is kept, in seconds.
const USED_SECONDS: i64 = 60 * 24 * 60 * 60;
/// The activity that a batch shows.
#[derive(Default)]
pub(crate) struct SeenDeliveries {
    /// The last delivery of each topic: its generation, its time of receipt, and the key that proved it.
    scopes: BTreeMap<(ConnectionKey, String), (Generation, Timestamp, String)>,
    /// The time at which each key last proved a delivery.
    keys: BTreeMap<String, Timestamp>,
}

impl SeenDeliveries {
    /// Collects the activity of the messages that were deliveries and that their connections did not refuse.
    pub fn of(platforms: &[Platform], batch: &[Parsed<'_>], ends: &[Option<Ended>]) -> Self {
        let mut seen = Self::default();
        for (parsed, ended) in batch.iter().zip(ends) {
            if !ended.as_ref().is_some_and(|ended| counts(&ended.disposition)) {
                continue;
            }
            let delivered = parsed.envelope().filter(|envelope| envelope.provenance == Provenance::Delivery);
            let Some(envelope) = delivered else { continue };
            let Envelope { key, scope, generation, received, key_id, .. } = envelope.as_ref();
            let (received, generation) = (*received, *generation);
            // A key that a client brought is none of ours, and each client has one.
            if !key_id.starts_with(BROUGHT) {
                let last = seen.keys.entry(key_id.clone()).or_insert(received);
                *last = received.max(*last);
            }
            let known = find(platforms, &key.platform).is_some_and(|platform| {
                scope == PROBE || declared_scopes(platform).any(|declared| declared == scope.as_str())
            });
            let scope = if known { scope.clone() } else { OTHER.to_owned() };
            let delivery = (generation, received, key_id.clone());
            let last = seen.scopes.entry((key.clone(), scope)).or_insert_with(|| delivery.clone());
            if *last < delivery {
                *last = delivery;
            }
        }
        seen
    }
}

/// Returns whether a message with this end counts as seen. A message that its connection refused, or whose connection
/// is unknown, does not. A message that was not processed comes back, and counts then.
fn counts(disposition: &Disposition) -> bool {
    let refused = [Rule::UNKNOWN_CONNECTION, Rule::DISCONNECTED, Rule::RETIRED_GENERATION];
    match disposition {
        Disposition::Done(Outcome::Ignored(rule)) => !refused.contains(rule),
        Disposition::Done(Outcome::Quarantined(reason)) => *reason != Reason::UnknownPlatform,
        Disposition::Done(_) | Disposition::Deferred(_) => true,
        Disposition::Retry(reason, _) => *reason != Reason::StateUnavailable,
        Disposition::Unfinished => false,
    }
}

impl<P: Parts> Processor<P> {
    /// Writes the notes of activity, side by side.
    pub(crate) async fn note_seen(&self, seen: SeenDeliveries) {
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

    /// Writes the note that `next` makes of the present one, if any, unless one was written a short time ago. If
    /// another environment writes the note at the same time, its note is as good.
    async fn renew<T: Serialize + DeserializeOwned + Send>(
        &self,
        key: ConnectionKey,
        name: String,
        at: Timestamp,
        kept_seconds: i64,
        next: impl FnMut(Option<T>) -> Option<T> + Send,
    ) -> Result<(), EdgeError> {
        if !self.throttle.is_due(&key, &name, at) {
            return Ok(());
        }
        let terms = Terms { now: (self.clock)(), expires: at.seconds() + kept_seconds, tries: 1 };
        update_json(&self.edges.notes, &key, &name, terms, next).await?;
        self.throttle.note(&key, &name, at);
        Ok(())
    }
}
