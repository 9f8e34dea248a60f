//! Looking after a connection: its webhooks and their health, what was missed and is due to be polled, and what is left of a
//! disconnection. Pausing it, resuming it, and making what leaked of it worth nothing.

use std::collections::{BTreeMap, BTreeSet};

use cloud::{
    connections::{Check, Connections, Loaded},
    coordination::Coordination,
    queue::{Inbox, Jobs},
    telemetry,
};
use commerce::{
    activity::{Activity, SEEN},
    connection::{Connection, ConnectionStatus, Retention},
    cursor::Fetch,
    entity::EntityKind,
    envelope::Sealed,
    health::{Verdict, WebhookRecord},
    http_call::Fault,
    job::{Job, Trigger},
    key::{ConnectionKey, Generation},
    keys::KeyRing,
    platform::{
        Platform,
        delivery::PROBE,
        mapping::{Resolved, processor, resolve},
        notice::{NOTICE, Notice, UNINSTALLED},
        pull::Access,
        webhooks::{Webhook, WebhookApi, WebhookStatus},
    },
    request::WebhookPath,
    timestamp::Timestamp,
    transfer::{Action, EntityProcessor, Polling, Via},
};
use serde_json::{Map, Value, json};

use crate::{
    Parts, Registrar,
    connect::not_connected,
    health,
    jobs::MAX_TRIES,
    problem::Problem,
    reconcile::{Plan, Step, Why},
    webhooks::{At, RING_SECONDS, manages, secret_of},
};

/// What a look at a connection that brings no news is noted after, in seconds.
const NOTED_EVERY: i64 = 600;

/// After so many seconds, what a request, or connecting, did not get done is done by a job.
pub(crate) const LATER: i32 = 60;
/// For so long what was told of an uninstallation counts, in seconds.
const HINT_SECONDS: i64 = 2 * 24 * 60 * 60;
/// What was told of an uninstallation and did not show is looked for again after so many seconds,
const UNCONFIRMED_SECONDS: i32 = 300;
/// and so often.
const UNCONFIRMED_TRIES: u8 = 2;
/// For how long after it was begun the order to erase a connection's state is sent again, in seconds: one may have been lost.
const ERASING_SECONDS: i64 = 2 * 86_400;

/// A look at the webhooks of a connection.
pub(crate) struct Look<'a> {
    pub at: At<'a>,
    pub webhooks: &'a dyn WebhookApi,
    pub connection: &'a Connection,
    pub before: &'a Loaded,
    pub existing: &'a [Webhook],
    pub ring: &'a KeyRing,
    pub why: Trigger,
}

/// What was made of it.
pub(crate) struct Judged {
    /// The webhooks' records, with the health that those that are set now go on with.
    pub records: BTreeMap<String, WebhookRecord>,
    /// The scopes whose webhook is left as it is for now.
    pub held: BTreeSet<String>,
}

/// What of each entity has to be fetched again, and since when.
type Missed = BTreeMap<EntityKind, (Fetch, Timestamp)>;

impl<P: Parts> Registrar<P> {
    /// Looks after a connection, for whatever reason: what has to be done follows from what is there. What is wrong at the store
    /// is kept for people to see, and looked at again by the next sweep.
    pub(crate) async fn check(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        why: Trigger,
        tries: u8,
        since: Option<Timestamp>,
    ) -> Result<(), Problem> {
        let loaded = self.edges.connections.load(key).await?;
        let Some(connection) = &loaded.connection else { return Ok(()) };
        let looked = match connection.status {
            ConnectionStatus::Disconnected => return self.erase_when_due(key, connection).await,
            ConnectionStatus::Disconnecting => {
                // What broke off goes on by itself, whoever comes by.
                let told = why == Trigger::Told || self.uninstalled(key, connection, None).await?;
                self.leave(platform, key, told).await
            }
            ConnectionStatus::Active | ConnectionStatus::Paused => {
                if self.is_well(platform, key, connection, &loaded, since).await? {
                    return self.begin_due_polls(platform, key, connection, &loaded).await;
                }
                self.tend(platform, key, connection, &loaded, why, tries).await
            }
        };
        let trouble = match looked {
            Ok(()) => None,
            // The next sweep comes anyway. A store that asks for time all day must not be asked ever more often.
            Err(Problem::Platform(fault @ Fault::Throttled { .. }))
                if why != Trigger::Schedule && tries < MAX_TRIES =>
            {
                return Err(Problem::Platform(fault));
            }
            Err(Problem::Refused(fault) | Problem::Platform(fault)) => Some(fault.to_string()),
            Err(problem) => return Err(problem),
        };
        // Where nothing can be listed, only its use shows whether the credentials are good.
        let listed = connection.credentials.is_some()
            && platform.setup.webhooks().is_some_and(|webhooks| manages(platform, webhooks, connection, &loaded));
        let trouble = match (listed, why) {
            (true, _) | (false, Trigger::Connected | Trigger::Asked) => trouble,
            (false, Trigger::Refused) => {
                Some("the platform's API refused the credentials; connect with good ones".into())
            }
            (false, _) => loaded.check.as_ref().and_then(|check| check.trouble.clone()),
        };
        if trouble.is_some() && why == Trigger::Connected {
            // Somebody may be looking at the page of what was installed; the next sweep may be long away.
            self.edges.jobs.send_jobs(&[(Job::check(key, Trigger::Schedule), LATER)]).await?;
        }
        self.note_check(key, loaded.check.as_ref(), trouble).await
    }

    /// Keeps what a look came to, where that is news.
    pub(crate) async fn note_check(
        &self,
        key: &ConnectionKey,
        before: Option<&Check>,
        trouble: Option<String>,
    ) -> Result<(), Problem> {
        let now = (self.clock)();
        let same = before.filter(|before| before.trouble == trouble);
        if same.is_some_and(|before| trouble.is_some() || now < before.at.plus_seconds(NOTED_EVERY)) {
            return Ok(());
        }
        if let Some(why) = &trouble {
            let line = json!({ "level": "WARN", "event": "trouble", "connection": key.to_string(), "why": why });
            telemetry::emit(&line);
        }
        let since = trouble.is_some().then(|| before.and_then(|before| before.since).unwrap_or(now));
        let at = before.filter(|_| trouble.is_some()).map_or(now, |before| before.at);
        Ok(self.edges.connections.save_check(key, &Check { at, trouble, since }).await?)
    }

    /// Whether the platform has told, since the connection was made and in the last so many seconds, that the app was removed there.
    async fn uninstalled(
        &self,
        key: &ConnectionKey,
        connection: &Connection,
        within: Option<i64>,
    ) -> Result<bool, Problem> {
        let notes = self.edges.notes.notes(key, NOTICE).await?;
        let mut notices = notes.iter().filter_map(|(_, note)| serde_json::from_str::<Notice>(&note.body).ok());
        let since = within.map(|seconds| (self.clock)().plus_seconds(-seconds)).max(connection.connected_at);
        Ok(notices.any(|notice| notice.kind == UNINSTALLED && since.is_none_or(|since| notice.received > since)))
    }

    /// Whether an app of which the platform has told that it was removed there is gone indeed; none where nobody has told so. Whoever
    /// tells may only know an address, and what is told may come late: what counts is what the platform's API says. It refuses the
    /// token, or lists webhooks and none of those that are recorded. What was told long ago and was not true then says nothing of today.
    async fn is_gone(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        connection: &Connection,
        loaded: &Loaded,
    ) -> Result<Option<bool>, Problem> {
        // Where webhooks stay when the app goes, they are here to be removed, or to be kept.
        let Some(webhooks) = platform.setup.webhooks().filter(|webhooks| webhooks.go_with_the_app()) else {
            return Ok(None);
        };
        if !self.uninstalled(key, connection, Some(HINT_SECONDS)).await? {
            return Ok(None);
        }
        let Some(credentials) = self.open(key, connection).await? else { return Ok(None) };
        let access = Access { site: &connection.site, credentials: &credentials, settings: &connection.settings };
        let at = At { platform, key, access };
        // Not just any refusal: a plan or a permission can be at fault for others.
        if self.call(at, webhooks.list(&access, 1)?).await?.status == 401 {
            return Ok(Some(true));
        }
        let existing = self.list(at, webhooks).await?;
        let mut records = loaded.webhooks.values();
        let left = records.any(|record| existing.iter().any(|webhook| webhook.id == record.id));
        Ok(Some(!left && !loaded.webhooks.is_empty()))
    }

    /// Disconnects. Where the platform told that the app was removed there, webhooks that cannot be listed any more are gone.
    async fn leave(&self, platform: &Platform, key: &ConnectionKey, told: bool) -> Result<(), Problem> {
        self.disconnect_as(platform, key, false, told).await.map(|_| ())
    }

    /// Has the state of a disconnected connection erased when its time has come.
    async fn erase_when_due(&self, key: &ConnectionKey, connection: &Connection) -> Result<(), Problem> {
        let (now, mut connection) = ((self.clock)(), connection.clone());
        let (Retention::EraseAfterDays(days), Some(since)) = (connection.retention, connection.disconnected_at) else {
            return Ok(());
        };
        match connection.erased_at {
            None if now < since.plus_seconds(i64::from(days) * 86_400) => return Ok(()),
            Some(begun) if begun.plus_seconds(ERASING_SECONDS) <= now => return Ok(()),
            Some(_) => {}
            // In this order: whoever connects it again meanwhile is told to come again, or has cancelled it.
            None => {
                connection.erased_at = Some(now);
                self.save(key, &mut connection).await?;
            }
        }
        // The message may be lost, and nothing says that all is erased: to erase it again is no harm.
        if let Some(order) = Sealed::erasure(key, &connection, now) {
            self.edges.inbox.send(&order, 0).await?;
        }
        Ok(())
    }

    /// Whether a connection was found to be well since a moment, and nothing has come up since then.
    async fn is_well(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        connection: &Connection,
        loaded: &Loaded,
        since: Option<Timestamp>,
    ) -> Result<bool, Problem> {
        let (Some(check), Some(since)) = (&loaded.check, since) else { return Ok(false) };
        if check.trouble.is_some() || check.at <= since || connection.paused_at.is_some() {
            return Ok(false);
        }
        let ring = self.edges.signing_keys.recent((self.clock)(), RING_SECONDS).await?;
        let webhooks = platform.setup.webhooks().filter(|_| connection.credentials.is_some());
        let wanted = webhooks.map(|webhooks| webhooks.wanted(platform, &connection.settings)).unwrap_or_default();
        let path = WebhookPath { key: key.clone(), generation: connection.generation };
        let is_well = |record: &WebhookRecord| {
            let is_given = |given: &String| *given == secret_of(platform, &path, &record.scope, &ring).fingerprint();
            record.health.verdict == Verdict::Healthy
                && record.generation == connection.generation
                && record.key_id == ring.signing().id()
                && record.fingerprint.as_ref().is_none_or(is_given)
        };
        Ok(wanted.iter().all(|scope| loaded.webhooks.get(scope).is_some_and(is_well)))
    }

    /// Looks after a living connection, unless its app was removed at the platform.
    async fn tend(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        connection: &Connection,
        loaded: &Loaded,
        why: Trigger,
        tries: u8,
    ) -> Result<(), Problem> {
        let told = why == Trigger::Told;
        if told && let Some(gone) = self.is_gone(platform, key, connection, loaded).await? {
            if gone {
                return self.leave(platform, key, true).await;
            }
            let line = json!({ "level": "INFO", "event": "uninstall-not-confirmed", "connection": key.to_string() });
            telemetry::emit(&line);
            if tries < UNCONFIRMED_TRIES {
                let again = Job::Check { key: key.clone(), why, tries: tries + 1, since: None };
                self.edges.jobs.send_jobs(&[(again, UNCONFIRMED_SECONDS)]).await?;
            }
        }
        let looked = self.look_after(platform, key, connection, loaded, why).await;
        // Whoever should have told the registrar may not have got through.
        if matches!(looked, Err(Problem::Refused(_)))
            && !told
            && self.is_gone(platform, key, connection, loaded).await? == Some(true)
        {
            return self.leave(platform, key, true).await;
        }
        looked
    }

    /// Brings the webhooks of a living connection in order, has fetched what was missed meanwhile, and what is due.
    async fn look_after(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        connection: &Connection,
        loaded: &Loaded,
        why: Trigger,
    ) -> Result<(), Problem> {
        if !connection.reproject.is_empty() {
            self.reproject(key, connection).await?;
        }
        let credentials = self.open(key, connection).await?;
        let webhooks = platform.setup.webhooks().filter(|webhooks| manages(platform, *webhooks, connection, loaded));
        let resumed = connection.status == ConnectionStatus::Active && connection.paused_at.is_some();
        let mut anew = resumed || loaded.webhooks.values().any(|record| health::is_bad(record.health.verdict));
        let mut run = Ok(());
        if let Some((credentials, webhooks)) = credentials.as_ref().zip(webhooks) {
            let access = Access { site: &connection.site, credentials, settings: &connection.settings };
            let at = At { platform, key, access };
            let (existing, other) = self.reach(at, webhooks, false).await?;
            if let Some(settings) = other {
                return self.call_otherwise(key, settings, why).await;
            }
            let converged = self.converge(at, webhooks, connection, loaded, &existing, why).await;
            anew |= !converged.as_ref().is_ok_and(|plan| plan.steps.is_empty());
            run = converged.map(|_| ());
        }
        if connection.status != ConnectionStatus::Active {
            return run;
        }
        // A webhook that can never be made must not keep the others' past from being fetched.
        if let (Some(since), Ok(()) | Err(Problem::Refused(_))) = (connection.paused_at, &run) {
            let missed = platform
                .mapping
                .processors()
                .iter()
                .filter_map(|processor| Some((processor.entity, fetch(processor)?)));
            let missed = missed.map(|(entity, fetch)| (entity, (fetch, since))).collect();
            if credentials.is_some() {
                self.fetch_missed(platform, key, missed).await?;
            }
            let now = self.edges.connections.load(key).await?.connection;
            if let Some(mut connection) = now.filter(|now| now.status == ConnectionStatus::Active) {
                connection.paused_at = None;
                self.save(key, &mut connection).await?;
            }
        }
        // What was begun just now must not be written over.
        let fresh = if anew { Some(self.edges.connections.load(key).await?) } else { None };
        let loaded = fresh.as_ref().unwrap_or(loaded);
        self.begin_due_polls(platform, key, loaded.connection.as_ref().unwrap_or(connection), loaded).await?;
        run
    }

    /// Has what is marked shown by the policies that there are now. In this order: what is ordered twice is no harm.
    async fn reproject(&self, key: &ConnectionKey, connection: &Connection) -> Result<(), Problem> {
        self.edges.inbox.send_all(&Sealed::reprojections(key, connection, (self.clock)())).await?;
        let now = self.edges.connections.load(key).await?.connection;
        // Whoever changed it meanwhile has it ordered again.
        if let Some(mut now) = now.filter(|now| now.reproject == connection.reproject) {
            now.reproject.clear();
            self.save(key, &mut now).await?;
        }
        Ok(())
    }

    /// Keeps the settings that it takes to call a platform by now; a look with them follows.
    async fn call_otherwise(
        &self,
        key: &ConnectionKey,
        settings: Map<String, Value>,
        why: Trigger,
    ) -> Result<(), Problem> {
        let Some(mut connection) = self.edges.connections.load(key).await?.connection else { return Ok(()) };
        connection.settings = settings;
        self.save(key, &mut connection).await?;
        let line = json!({ "level": "INFO", "event": "called-otherwise", "connection": key.to_string() });
        telemetry::emit(&line);
        Ok(self.edges.jobs.send_jobs(&[(Job::check(key, why), 0)]).await?)
    }

    /// When each scope of a connection delivered last, in its present life; by the names that deliveries have for them.
    pub(crate) async fn sightings(
        &self,
        key: &ConnectionKey,
        generation: Generation,
    ) -> Result<BTreeMap<String, Activity>, Problem> {
        let notes = self.edges.notes.notes(key, SEEN).await?;
        let read = notes.into_iter().filter_map(|(name, note)| {
            let sighting: Activity = serde_json::from_str(&note.body).ok()?;
            Some((name.strip_prefix(SEEN)?.to_owned(), sighting))
        });
        // Our own probe says nothing of the platform.
        Ok(read.filter(|(scope, sighting)| scope != PROBE && sighting.generation == generation).collect())
    }

    /// Takes out of a plan what must not be done now, and keeps what is known of the health of what is not as it should be. A webhook
    /// that was switched off is switched on again only if a probe shows that it would work.
    pub(crate) async fn judge(&self, look: &Look<'_>, plan: &mut Plan) -> Result<Judged, Problem> {
        let mut judged = Judged { records: look.before.webhooks.clone(), held: BTreeSet::new() };
        // What was switched off from here needs neither.
        if look.connection.status == ConnectionStatus::Paused || look.connection.paused_at.is_some() {
            return Ok(judged);
        }
        let now = (self.clock)();
        let asked = matches!(look.why, Trigger::Connected | Trigger::Asked);
        let mut tripped = Vec::new();
        for step in &plan.steps {
            let (scope, webhook, verdict, reason) = match step {
                Step::Delete(..) => continue,
                Step::Create(wanted) => (&wanted.scope, None, Verdict::Missing, "it was not there any more".to_owned()),
                Step::Update(id, wanted, why) => {
                    let webhook = look.existing.iter().find(|webhook| webhook.id == *id);
                    let record = judged.records.get(&wanted.scope);
                    match webhook.filter(|webhook| webhook.status != WebhookStatus::Active) {
                        Some(off) => (&wanted.scope, Some(off), Verdict::SwitchedOff, health::off(off)),
                        None if *why == Why::Url => {
                            (&wanted.scope, None, Verdict::Missing, "it delivered elsewhere".to_owned())
                        }
                        None if *why == Why::Secret
                            && record.is_some_and(|record| !look.ring.knows(&record.key_id)) =>
                        {
                            (&wanted.scope, None, Verdict::Missing, "its key was retired before it moved".to_owned())
                        }
                        None if *why == Why::Replaced => {
                            (&wanted.scope, None, Verdict::Missing, "its key was replaced by another one".to_owned())
                        }
                        None if record.is_some_and(|record| record.id != *id) => {
                            (&wanted.scope, None, Verdict::Missing, "another one was in its place".to_owned())
                        }
                        None => continue,
                    }
                }
            };
            if let Some(record) = judged.records.get_mut(scope) {
                let good_at =
                    look.before.check.as_ref().filter(|check| check.since.is_none_or(|since| check.at < since));
                let good_at = good_at.map(|check| check.at).max(record.health.good_at);
                if let Some(bad) = health::turned_bad(&record.health, verdict, &reason, good_at, now) {
                    record.health = bad;
                    self.edges.connections.save_webhook(look.at.key, record).await?;
                    self.tell_of(look, record, verdict, now);
                }
            }
            if webhook.is_some() {
                let cooling = judged.records.get(scope).is_some_and(|record| health::cools_down(&record.health, now));
                if cooling && !asked {
                    judged.held.insert(scope.clone())
                } else {
                    tripped.push((scope.clone(), reason));
                    true
                };
            }
        }
        if !tripped.is_empty() {
            let path = WebhookPath { key: look.at.key.clone(), generation: look.connection.generation };
            let probed = self.probe(look.at.platform, &path, look.ring).await;
            for (scope, reason) in tripped {
                let record = judged.records.get_mut(&scope);
                match (&probed, record) {
                    (Ok(()), Some(record)) => record.health = health::switched_on(&record.health, now),
                    (Ok(()), None) => {}
                    (Err(why), record) => {
                        let reason = format!("{reason}; not switched on again, for a probe did not get through: {why}");
                        if let Some(record) = record.filter(|record| record.health.reason != reason) {
                            telemetry::warn("probe-failed", &format!("{}: {why}", look.at.key));
                            record.health.reason = reason;
                            self.edges.connections.save_webhook(look.at.key, record).await?;
                        }
                        judged.held.insert(scope);
                    }
                }
            }
        }
        plan.steps.retain(|step| match step {
            Step::Update(_, wanted, _) => !judged.held.contains(&wanted.scope),
            Step::Create(_) | Step::Delete(..) => true,
        });
        Ok(judged)
    }

    /// Says, once, that a webhook does not deliver.
    fn tell_of(&self, look: &Look<'_>, record: &WebhookRecord, verdict: Verdict, now: Timestamp) {
        let off = verdict == Verdict::SwitchedOff;
        telemetry::emit(&json!({
            "level": if off { "ERROR" } else { "WARN" },
            "event": if off { "subscription-switched-off" } else { "subscription-missing" },
            "connection": look.at.key.to_string(),
            "scope": record.scope,
            "reason": record.health.reason,
            "trips": record.health.trips,
        }));
        if off {
            telemetry::emit(&telemetry::count("SubscriptionsSwitchedOff", look.at.platform.name, 1, now));
        }
    }

    /// Keeps what is known of the health of webhooks that are as they should be. Where one was not before, what it may have missed is
    /// fetched; only when that has begun is it noted as good, so that nothing is forgotten half-way.
    pub(crate) async fn settle(&self, look: &Look<'_>, after: &Loaded, good: &BTreeSet<String>) -> Result<(), Problem> {
        if look.connection.status == ConnectionStatus::Paused {
            return Ok(());
        }
        let now = (self.clock)();
        let sightings = self.sightings(look.at.key, look.connection.generation).await?;
        let mut missed = Missed::new();
        let mut news = Vec::new();
        for record in after.webhooks.values().filter(|record| good.contains(&record.scope)) {
            let delivered = look.webhooks.delivers(&record.scope);
            let sighting = sightings.get(delivered);
            let before = &record.health;
            if health::is_bad(before.verdict)
                && let Resolved::Entity(entity, _) = resolve(look.at.platform, delivered)
                && let Some(fetch) = processor(look.at.platform.mapping, entity).and_then(fetch)
            {
                let since = health::lost_since(before, sighting.map(|sighting| sighting.last));
                let since = since.or(look.connection.connected_at).unwrap_or(now);
                let known = missed.entry(entity).or_insert((fetch, since));
                known.1 = known.1.min(since);
                if fetch == Fetch::Sweep {
                    known.0 = fetch;
                }
            } else if health::is_bad(before.verdict) {
                telemetry::emit(&json!({
                    "level": "WARN", "event": "missed-cannot-be-fetched", "connection": look.at.key.to_string(),
                    "scope": record.scope,
                }));
            }
            let on = look.existing.iter().find(|webhook| webhook.id == record.id);
            let on = on.map(|webhook| Webhook { status: WebhookStatus::Active, ..webhook.clone() });
            let (verdict, reason) = match &on {
                Some(_) => health::verdict(true, on.as_ref(), sighting, now),
                // It was made just now.
                None => (Verdict::Healthy, String::new()),
            };
            let health = health::seen_on(before, verdict, reason, now);
            if health != *before {
                news.push(WebhookRecord { health, ..record.clone() });
            }
        }
        self.fetch_missed(look.at.platform, look.at.key, missed).await?;
        for record in news {
            self.edges.connections.save_webhook(look.at.key, &record).await?;
        }
        Ok(())
    }

    /// Begins to fetch what may have been missed.
    async fn fetch_missed(&self, platform: &Platform, key: &ConnectionKey, missed: Missed) -> Result<(), Problem> {
        for (entity, (fetch, since)) in missed {
            self.begin_missed(platform, key, entity, fetch, since).await?;
            let line = json!({ "level": "INFO", "event": "missed-is-fetched", "connection": key.to_string(), "entity": entity, "since": since.to_string() });
            telemetry::emit(&line);
        }
        Ok(())
    }

    /// Stops taking deliveries of a connection for a while, and switches its webhooks off.
    ///
    /// # Errors
    /// [`Problem`]; what is left to do is done by the next check.
    pub async fn pause(&self, platform: &Platform, key: &ConnectionKey) -> Result<Value, Problem> {
        let mut connection = self.alive(key).await?;
        if connection.status != ConnectionStatus::Paused {
            connection.status = ConnectionStatus::Paused;
            connection.paused_at = connection.paused_at.or(Some((self.clock)()));
            self.save(key, &mut connection).await?;
        }
        self.carry_out(platform, key).await
    }

    /// Takes deliveries again: webhooks on, and what was missed is fetched. It is remembered since when until that has begun.
    ///
    /// # Errors
    /// [`Problem`]; what is left to do is done by the next check.
    pub async fn resume(&self, platform: &Platform, key: &ConnectionKey) -> Result<Value, Problem> {
        let mut connection = self.alive(key).await?;
        if connection.status == ConnectionStatus::Paused {
            connection.status = ConnectionStatus::Active;
            self.save(key, &mut connection).await?;
        }
        self.carry_out(platform, key).await
    }

    /// Makes all secrets of a connection worth nothing: those of its next generation take their place. What comes over the old path
    /// from now on is ignored; when the webhooks have moved, what changed meanwhile is fetched. Where the generation to revoke is `named`,
    /// another one is not, so that to ask twice is to ask once.
    ///
    /// # Errors
    /// [`Problem`]; what is left to do is done by the next check.
    pub async fn revoke(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        named: Option<Generation>,
    ) -> Result<Value, Problem> {
        let mut connection = self.alive(key).await?;
        if named.is_some_and(|named| named != connection.generation) {
            return self.show(platform, key).await;
        }
        connection.generation = connection.generation.next();
        self.save(key, &mut connection).await?;
        self.carry_out(platform, key).await
    }

    async fn alive(&self, key: &ConnectionKey) -> Result<Connection, Problem> {
        let connection = self.edges.connections.load(key).await?.connection.ok_or_else(|| not_connected(key))?;
        match connection.status {
            ConnectionStatus::Active | ConnectionStatus::Paused => Ok(connection),
            ConnectionStatus::Disconnecting | ConnectionStatus::Disconnected => {
                Err(Problem::Conflict(format!("{key} is disconnected; connect it with PUT")))
            }
        }
    }

    /// Brings the webhooks in line with what was just written, now, and if that fails, by a job.
    async fn carry_out(&self, platform: &Platform, key: &ConnectionKey) -> Result<Value, Problem> {
        self.edges.jobs.send_jobs(&[(Job::check(key, Trigger::Asked), LATER)]).await?;
        let loaded = self.edges.connections.load(key).await?;
        let connection = loaded.connection.as_ref().ok_or_else(|| not_connected(key))?;
        self.look_after(platform, key, connection, &loaded, Trigger::Asked).await?;
        self.show(platform, key).await
    }
}

/// How an entity is fetched after deliveries of it may have been lost: none where it cannot be. Where something tells of deletes, or
/// of a child, all of it is compared: what is gone shows in no list of changes, and neither may a child's change. Whichever webhook was
/// off, the others may have failed as well, without being switched off for it.
fn fetch(processor: &EntityProcessor) -> Option<Fetch> {
    let whole =
        processor.scopes.iter().any(|scope| scope.action == Action::Deleted || matches!(scope.via, Via::Child(_)));
    match processor.polling? {
        Polling::Changed if !whole => Some(Fetch::Changed),
        Polling::Changed | Polling::Sweep => Some(Fetch::Sweep),
    }
}
