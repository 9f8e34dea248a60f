//! The rotation of the signing keys without losing a delivery: the steps of [`commerce::rotation`], taken one at a
//! time. The secret itself holds the progress, so a rotation that was broken off at any point continues from there.
//!
//! A rotation alone leaves a compromised key valid for days. Revoking a connection makes what leaked of it worthless at
//! once. Retiring the key does so for all connections, once it is the former one: deliveries of webhooks that are still
//! on it are refused from then on.

use std::collections::BTreeMap;

use cloud::{
    EdgeError,
    connections::{Connections, Entry},
    coordination::{Coordination, Terms, Update, deployment, update},
    secrets::{JITTER_SECONDS, KeepSecret, MAX_AGE_SECONDS, SecretSource},
    telemetry,
};
use commerce::{
    activity::{Activity, KeyUse, SEEN, USED},
    connection::ConnectionStatus,
    job::SHARDS,
    key::ConnectionKey,
    keys::{KeyRing, Phase},
    platform::find,
    rotation::{Facts, Next, QUIET_SECONDS, Stage, advance, retire},
    timestamp::Timestamp,
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    Parts, Registrar,
    answers::{Elsewhere, Moment, RotatingKey, Rotation},
    problem::Problem,
};

/// The name of the deployment's note that the writer of the ring holds, so that no two write at once.
const LEASE: &str = "rotation";
/// The time for which the lease is held, in seconds. It is not given back, because the next writer must read what was
/// written.
const LEASE_SECONDS: i64 = 60;
/// The time after which every receiver knows a ring that was written, in seconds, with a minute to spare.
const KNOWN_SECONDS: i64 = MAX_AGE_SECONDS + JITTER_SECONDS + 60;
/// The number of connections on a page of their list.
const PAGE: u32 = 500;
/// The number of shards of the list that are read side by side.
const SIDE_BY_SIDE: usize = 8;
/// The most connections that are named.
const NAMED: usize = 20;
/// The most connections that are checked for a former key that somebody has entered.
const LOOKED_AT: usize = 100;
/// The time in trouble after which a connection keeps no key, in seconds.
const GIVEN_UP_SECONDS: i64 = 7 * 24 * 3600;
/// The most connections on another key, in each shard, whose time in trouble is read. While there are more, the key
/// stays.
const MAYBE_GIVEN_UP: usize = 100;

/// The choice of whether a rotation may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// Somebody asks for a rotation.
    Asked,
    /// Only a rotation that is under way continues.
    No,
}

/// The extent to which a rotation is looked into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Connections are read only if the next step depends on them.
    Step,
    /// All connections are read while webhooks are being moved.
    Report,
}

/// The findings about all connections.
#[derive(Default)]
struct Found {
    /// The number of connections with webhooks on a key other than the signing one.
    elsewhere: usize,
    /// Some of the connections with webhooks on a key other than the signing one.
    named: Vec<String>,
    /// Some of the connections without webhooks of ours, whose webhooks may have been entered by hand.
    by_hand: Vec<ConnectionKey>,
    /// Some of the connections that are not counted, because they have been in trouble for long.
    given_up: Vec<String>,
}

impl<P: Parts> Registrar<P> {
    /// Returns the progress of the rotation. Nothing of it is secret.
    ///
    /// # Errors
    /// [`Problem`] when the keys, the notes or the connections cannot be read.
    pub async fn rotation(&self) -> Result<Rotation, Problem> {
        let text = self.rotation_text().await?;
        let ring = read(&text)?;
        let used = self.used_keys(&ring).await?;
        let (next, found) = self.rotation_next(&text, Begin::No, Depth::Report).await?;
        let keys = ring.iter().map(|key| RotatingKey {
            id: key.id().to_owned(),
            state: key.state(),
            phase: key.phase(),
            since: key.since().map(|seconds| Moment(Timestamp::from_millis(seconds.saturating_mul(1000)))),
            last_used: used.get(key.id()).copied().map(Moment),
        });
        let found = found.unwrap_or_default();
        Ok(Rotation {
            stage: next.stage,
            keys: keys.collect(),
            elsewhere: Elsewhere { count: found.elsewhere, connections: found.named },
            given_up: found.given_up,
            by_hand: self.entered_by_hand(&ring, &found.by_hand).await?,
            next_step_not_before: next.due.map(Moment),
            kept_by: next.keeps,
        })
    }

    /// Begins a rotation, or continues the one under way; or removes the key to `retire` from it at once, whatever
    /// still uses it. Returns the progress after that.
    ///
    /// # Errors
    /// [`Problem`] when a step cannot be taken. A repeated call continues the same rotation.
    pub async fn rotate(&self, retire: Option<&str>) -> Result<Rotation, Problem> {
        match retire {
            Some(id) => self.retire(id).await?,
            None => _ = self.rotation_step(Begin::Asked).await?,
        }
        let report = self.rotation().await?;
        // The caller does not want to wait for the schedule.
        if report.elsewhere.count > 0 {
            self.check_all().await?;
        }
        Ok(report)
    }

    /// Takes the next step of a rotation under way, if it is due. While webhooks are being moved, every connection is
    /// checked after it, which moves its webhooks to the key that signs.
    pub(crate) async fn advance_rotation(&self) -> Result<(), Problem> {
        match self.rotation_step(Begin::No).await {
            // Another registrar is taking the step.
            Err(Problem::Conflict(_)) | Ok(None | Some(Stage::None | Stage::Waiting)) => Ok(()),
            Ok(Some(Stage::Moving)) => self.check_all().await,
            Err(problem) => Err(problem),
        }
    }

    /// Takes the next step, if it is due. Returns the stage after it.
    async fn rotation_step(&self, begin: Begin) -> Result<Option<Stage>, Problem> {
        if self.rotation_next(&self.rotation_text().await?, begin, Depth::Step).await?.0.ring.is_none() {
            return Ok(None);
        }
        self.rotation_lease().await?;
        // The former holder of the lease may have changed what was read before.
        let text = self.rotation_text().await?;
        let (Next { then, ring: Some(ring), .. }, _) = self.rotation_next(&text, begin, Depth::Step).await? else {
            return Ok(None);
        };
        self.write_ring(&text, &ring).await?;
        let keys: Vec<_> = read(&ring)?.iter().map(|key| key.id().to_owned()).collect();
        telemetry::emit(&json!({ "level": "INFO", "event": "rotation", "stage": then.name(), "keys": keys }));
        Ok(Some(then))
    }

    /// Removes an outgoing key.
    async fn retire(&self, id: &str) -> Result<(), Problem> {
        let without = |text: &str| {
            let ring = retire(text, id).map_err(unreadable)?;
            ring.ok_or_else(|| {
                Problem::Invalid("retire: must be the id of a key that is outgoing, as GET shows it".into())
            })
        };
        without(&self.rotation_text().await?)?;
        self.rotation_lease().await?;
        let text = self.rotation_text().await?;
        self.write_ring(&text, &without(&text)?).await?;
        telemetry::emit(&json!({ "level": "WARN", "event": "key-retired", "key": id }));
        // Deliveries of webhooks still on the key are refused until these are moved.
        self.check_all().await
    }

    /// Writes the ring that follows from the text read under the lease, unless somebody has changed the secret by hand
    /// since.
    async fn write_ring(&self, read: &str, ring: &str) -> Result<(), Problem> {
        if self.rotation_text().await?.as_str() != read {
            return Err(Problem::Conflict("the signing keys were changed meanwhile; ask again in a minute".into()));
        }
        Ok(self.edges.signing_keys.source().replace(ring).await?)
    }

    /// Returns the next step. All connections are read only if everything else allows the step, or for a report.
    async fn rotation_next(&self, text: &str, begin: Begin, depth: Depth) -> Result<(Next, Option<Found>), Problem> {
        let (now, ring) = ((self.clock)(), read(text)?);
        let (used, fresh) = (self.used_keys(&ring).await?, Zeroizing::new(cloud::random()?));
        let asked = begin == Begin::Asked;
        let facts = Facts { asked, known_after: KNOWN_SECONDS, elsewhere: 0, used: &used, fresh: &fresh };
        let next = advance(text, now, &facts).map_err(unreadable)?;
        if next.stage != Stage::Moving || (next.ring.is_none() && depth == Depth::Step) {
            return Ok((next, None));
        }
        let found = self.find_elsewhere(ring.signing().id()).await?;
        let facts = Facts { elsewhere: found.elsewhere, ..facts };
        Ok((advance(text, now, &facts).map_err(unreadable)?, Some(found)))
    }

    /// Fetches the secret as it is now, whatever is cached.
    async fn rotation_text(&self) -> Result<Zeroizing<String>, Problem> {
        Ok(Zeroizing::new(self.edges.signing_keys.source().fetch().await?))
    }

    /// Returns the time at which each key of a ring last proved something.
    async fn used_keys(&self, ring: &KeyRing) -> Result<BTreeMap<String, Timestamp>, Problem> {
        let mut used = BTreeMap::new();
        for key in ring.iter() {
            let note = self.edges.notes.note(&deployment(), &format!("{USED}{}", key.id())).await?;
            if let Some(KeyUse { last }) = note.and_then(|note| serde_json::from_str(&note.body).ok()) {
                used.insert(key.id().to_owned(), last);
            }
        }
        Ok(used)
    }

    /// Takes the lease, or fails when another registrar has it.
    async fn rotation_lease(&self) -> Result<(), Problem> {
        let terms = Terms::once((self.clock)(), LEASE_SECONDS);
        let free = |held: Option<String>| held.is_none().then(|| "{}".to_owned());
        match update(&self.edges.notes, &deployment(), LEASE, terms, free).await? {
            Update::Written => Ok(()),
            Update::Left | Update::Contended => {
                Err(Problem::Conflict("the signing keys were written just now; ask again in a minute".into()))
            }
        }
    }

    /// Finds the connections with webhooks on a key other than the signing one.
    async fn find_elsewhere(&self, signing: &str) -> Result<Found, Problem> {
        let parts: Vec<BoxFuture<'_, _>> = (0..SHARDS).map(|part| self.find_in(part, signing).boxed()).collect();
        let parts: Vec<_> = stream::iter(parts).buffered(SIDE_BY_SIDE).collect().await;
        let mut all = Found::default();
        for part in parts.into_iter().collect::<Result<Vec<Found>, Problem>>()? {
            all.elsewhere += part.elsewhere;
            all.named.extend(part.named);
            all.by_hand.extend(part.by_hand);
            all.given_up.extend(part.given_up);
        }
        all.given_up.truncate(NAMED);
        all.named.truncate(NAMED);
        all.by_hand.truncate(LOOKED_AT);
        Ok(all)
    }

    async fn find_in(&self, part: u32, signing: &str) -> Result<Found, Problem> {
        let (mut found, mut after, mut looked_at) = (Found::default(), None, 0);
        let long_ago = (self.clock)().plus_seconds(-GIVEN_UP_SECONDS);
        loop {
            let page = self.edges.connections.list(part, None, after.as_deref(), PAGE).await?;
            for entry in page.entries {
                let elsewhere = match (&entry.status, &entry.signed_with) {
                    (ConnectionStatus::Active | ConnectionStatus::Paused, Some(key)) => key != signing,
                    (ConnectionStatus::Active | ConnectionStatus::Paused, None) => {
                        self.is_partly_elsewhere(&entry, signing, &mut found).await?
                    }
                    (ConnectionStatus::Disconnecting | ConnectionStatus::Disconnected, _) => false,
                };
                if elsewhere && looked_at < MAYBE_GIVEN_UP {
                    looked_at += 1;
                    let check = self.edges.connections.load(&entry.key).await?.check;
                    if check.and_then(|check| check.since).is_some_and(|since| since < long_ago) {
                        found.given_up.push(entry.key.to_string());
                        continue;
                    }
                }
                found.elsewhere += usize::from(elsewhere);
                if elsewhere && found.named.len() < NAMED {
                    found.named.push(entry.key.to_string());
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    /// Returns whether a connection whose webhooks are not all derived from one key has a webhook that is not derived
    /// from the signing one. A connection without webhooks of ours is added to `found`.
    async fn is_partly_elsewhere(&self, entry: &Entry, signing: &str, found: &mut Found) -> Result<bool, Problem> {
        let platform = find(self.platforms, &entry.key.platform);
        if let Some((platform, webhooks)) = platform.and_then(|platform| Some((platform, platform.setup.webhooks()?))) {
            let loaded = self.edges.connections.load(&entry.key).await?;
            let settings = loaded.connection.map(|connection| connection.settings).unwrap_or_default();
            let wanted = webhooks.wanted(platform, &settings);
            if !loaded.webhooks.is_empty() {
                // The next check removes webhooks that are no longer wanted.
                let mut wanted = loaded.webhooks.values().filter(|record| wanted.contains(&record.scope));
                return Ok(wanted.any(|record| record.key_id != signing));
            }
        }
        if found.by_hand.len() < LOOKED_AT {
            found.by_hand.push(entry.key.clone());
        }
        Ok(false)
    }

    /// Returns those of the connections that have lately delivered with an outgoing key. Somebody has to enter the new
    /// one there.
    async fn entered_by_hand(&self, ring: &KeyRing, connections: &[ConnectionKey]) -> Result<Vec<String>, Problem> {
        let goes = |id: &str| ring.iter().any(|key| key.id() == id && key.phase() == Some(Phase::Outgoing));
        let lately = (self.clock)().plus_seconds(-QUIET_SECONDS);
        let mut named = Vec::new();
        for key in connections {
            let notes = self.edges.notes.notes(key, SEEN).await?;
            let mut seen = notes.iter().filter_map(|(_, note)| serde_json::from_str::<Activity>(&note.body).ok());
            if named.len() < NAMED && seen.any(|seen| seen.last > lately && goes(&seen.key_id)) {
                named.push(key.to_string());
            }
        }
        Ok(named)
    }
}

fn read(text: &str) -> Result<KeyRing, Problem> {
    KeyRing::parse(text).map_err(unreadable)
}

fn unreadable(error: commerce::keys::KeyRingError) -> Problem {
    Problem::Ours(EdgeError::new("reading the signing keys", error.to_string()))
}
