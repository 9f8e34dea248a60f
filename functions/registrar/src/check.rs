//! The check of a connection: its webhooks and their health, changes that were missed or are due to be polled, and the
//! rest of a disconnection. A check is level-triggered: the work follows from the present state, whatever the reason.

use cloud::{
    connections::{Connections, Loaded},
    coordination::Coordination,
    queue::{Inbox, Jobs},
    telemetry,
};
use commerce::{
    connection::{Connection, ConnectionStatus, Retention},
    envelope::Sealed,
    health::{Verdict, WebhookRecord},
    http_call::Fault,
    job::{Job, Trigger},
    key::ConnectionKey,
    platform::{
        Platform,
        notice::{NOTICE, Notice, UNINSTALLED},
        pull::Access,
        webhooks::Occasion,
    },
    request::WebhookPath,
    timestamp::Timestamp,
};
use serde_json::{Map, Value, json};

use crate::{
    Parts, Registrar,
    decide::missed_since,
    disconnect::Removal,
    health,
    jobs::{LATER, MAX_TRIES},
    problem::Problem,
    webhooks::{At, RING_SECONDS, manages, secret_of},
};

/// The time for which a report of an uninstallation counts, in seconds.
const HINT_SECONDS: i64 = 2 * 24 * 60 * 60;
/// The delay of another check after a report of an uninstallation that did not show, in seconds.
const UNCONFIRMED_SECONDS: i32 = 300;
/// The number of further checks after a report of an uninstallation that did not show.
const UNCONFIRMED_TRIES: u8 = 2;
/// The time after its beginning for which the command to erase a connection's state is sent again, in seconds, because
/// one may be lost.
const ERASING_SECONDS: i64 = 2 * 86_400;

impl<P: Parts> Registrar<P> {
    /// Checks a connection, for whatever reason: the work follows from the present state. Trouble at the store is
    /// recorded for people to see, and the next sweep looks again.
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
                // A disconnection that was broken off continues by itself, whatever the trigger.
                let told = why == Trigger::Told || self.uninstalled(key, connection, None).await?;
                self.disconnect(platform, key, if told { Removal::Uninstalled } else { Removal::Asked }).await
            }
            ConnectionStatus::Active | ConnectionStatus::Paused => {
                if self.is_well(platform, key, connection, &loaded, since).await? {
                    return self.begin_due_polls(platform, key, connection, &loaded).await;
                }
                self.reconcile_active(platform, key, connection, &loaded, why, tries).await
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
        // Where nothing can be listed, only their use shows whether the credentials are good.
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
            // Somebody may be looking at the page of the installed app, and the next sweep may be long away.
            self.edges.jobs.send_jobs(&[(Job::check(key, Trigger::Schedule), LATER)]).await?;
        }
        self.note_check(key, loaded.check.as_ref(), trouble).await
    }

    /// Returns whether the platform has reported the app's removal, since the connection was made and within the last
    /// `within` seconds.
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

    /// Returns whether an app that the platform has reported as removed is really gone, or `None` when there is no
    /// report. The sender of a report may only know an address, and a report may come late, so the answer of the
    /// platform's API counts: it refuses the token, or lists webhooks and none of those that are recorded. A report
    /// that was untrue long ago says nothing about today.
    async fn is_gone(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        connection: &Connection,
        loaded: &Loaded,
    ) -> Result<Option<bool>, Problem> {
        // Webhooks that stay when the app goes are here to be removed, or to be kept.
        let Some(webhooks) = platform.setup.webhooks().filter(|webhooks| webhooks.go_with_the_app()) else {
            return Ok(None);
        };
        if !self.uninstalled(key, connection, Some(HINT_SECONDS)).await? {
            return Ok(None);
        }
        let Some(credentials) = self.open(key, connection).await? else { return Ok(None) };
        let access = Access { site: &connection.site, credentials: &credentials, settings: &connection.settings };
        let at = At { platform, key, access };
        // Other refusals do not count, because a plan or a permission can cause them.
        if self.call(at, webhooks.list(&access, 1)?).await?.status == 401 {
            return Ok(Some(true));
        }
        let existing = self.list(at, webhooks).await?;
        let mut records = loaded.webhooks.values();
        let left = records.any(|record| existing.iter().any(|webhook| webhook.id == record.id));
        Ok(Some(!left && !loaded.webhooks.is_empty()))
    }

    /// Queues the erasure of a disconnected connection's state when it is due.
    async fn erase_when_due(&self, key: &ConnectionKey, connection: &Connection) -> Result<(), Problem> {
        let (now, mut connection) = ((self.clock)(), connection.clone());
        let (Retention::EraseAfterDays(days), Some(since)) = (connection.retention, connection.disconnected_at) else {
            return Ok(());
        };
        match connection.erased_at {
            None if now < since.plus_seconds(i64::from(days) * 86_400) => return Ok(()),
            Some(begun) if begun.plus_seconds(ERASING_SECONDS) <= now => return Ok(()),
            Some(_) => {}
            // The record comes first: a request that connects the store meanwhile fails and is sent again, or has
            // cancelled the erasure.
            None => {
                connection.erased_at = Some(now);
                self.save(key, &mut connection).await?;
            }
        }
        // The message may be lost, and nothing shows that all is erased. A second erasure does no harm.
        if let Some(order) = Sealed::erasure(key, &connection, now) {
            self.edges.inbox.send(&order, 0).await?;
        }
        Ok(())
    }

    /// Returns whether a connection was found well since a time, with nothing new since.
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

    /// Reconciles a living connection, unless its app was removed at the platform.
    async fn reconcile_active(
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
                return self.disconnect(platform, key, Removal::Uninstalled).await;
            }
            let line = json!({ "level": "INFO", "event": "uninstall-not-confirmed", "connection": key.to_string() });
            telemetry::emit(&line);
            if tries < UNCONFIRMED_TRIES {
                let again = Job::Check { key: key.clone(), why, tries: tries + 1, since: None };
                self.edges.jobs.send_jobs(&[(again, UNCONFIRMED_SECONDS)]).await?;
            }
        }
        let looked = self.reconcile(platform, key, connection, loaded, why).await;
        // The report of the removal may not have arrived.
        if matches!(looked, Err(Problem::Refused(_)))
            && !told
            && self.is_gone(platform, key, connection, loaded).await? == Some(true)
        {
            return self.disconnect(platform, key, Removal::Uninstalled).await;
        }
        looked
    }

    /// Reconciles the webhooks of a living connection, and begins the fetches of changes that were missed, and those
    /// that are due.
    pub(crate) async fn reconcile(
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
            let (existing, other) = self.reach(at, webhooks, Occasion::Routine).await?;
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
        // A webhook that can never be made must not keep the changes of the others from being fetched.
        if let (Some(since), Ok(()) | Err(Problem::Refused(_))) = (connection.paused_at, &run) {
            if credentials.is_some() {
                self.fetch_missed(platform, key, missed_since(platform, since)).await?;
            }
            let now = self.edges.connections.load(key).await?.connection;
            if let Some(mut connection) = now.filter(|now| now.status == ConnectionStatus::Active) {
                connection.paused_at = None;
                self.save(key, &mut connection).await?;
            }
        }
        // Runs that were begun just now must not be overwritten.
        let fresh = if anew { Some(self.edges.connections.load(key).await?) } else { None };
        let loaded = fresh.as_ref().unwrap_or(loaded);
        self.begin_due_polls(platform, key, loaded.connection.as_ref().unwrap_or(connection), loaded).await?;
        run
    }

    /// Orders deleted items to be projected again by the present policies. The order comes before the record, because a
    /// second order does no harm.
    async fn reproject(&self, key: &ConnectionKey, connection: &Connection) -> Result<(), Problem> {
        self.edges.inbox.send_all(&Sealed::reprojections(key, connection, (self.clock)())).await?;
        let now = self.edges.connections.load(key).await?.connection;
        // If another request changed the policies meanwhile, the next check orders it again.
        if let Some(mut now) = now.filter(|now| now.reproject == connection.reproject) {
            now.reproject.clear();
            self.save(key, &mut now).await?;
        }
        Ok(())
    }

    /// Keeps the settings that calls to the platform need by now, and queues a check with them.
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
}
