//! The view of a connection and its webhooks.

use cloud::{
    connections::{Connections as _, Loaded},
    coordination::Coordination as _,
};
use commerce::{
    activity::Activity,
    connection::{Connection, ConnectionStatus},
    cursor::{Cursor, Stopped},
    entity::EntityKind,
    health::Verdict,
    http_call::Fault,
    key::ConnectionKey,
    platform::{
        Platform,
        mapping::declared_scopes,
        notice::{NOTICE, Notice},
        pull::Access,
        webhooks::{Webhook, WebhookApi, WebhookStatus},
    },
    request::WebhookPath,
    timestamp::Timestamp,
};
use zeroize::Zeroizing;

use crate::{
    Parts, Registrar,
    answers::{self, Moment, ShownNotice, StoppedEntity, SubscriptionList, Trouble},
    health,
    problem::Problem,
    reconcile::Ownership,
    records::not_connected,
    webhooks::{At, manages},
};

/// The webhooks of a connection that the registrar manages, as they are at the store.
pub(crate) struct Managed {
    pub webhooks: &'static dyn WebhookApi,
    pub credentials: Zeroizing<String>,
    pub existing: Result<Vec<Webhook>, Fault>,
}

/// The whereabouts of a webhook.
enum Standing<'a> {
    /// The webhook is at the store.
    There(&'a Webhook),
    /// The webhook should be at the store, and is not.
    Missing,
    /// The webhook was entered by hand, and only its deliveries show that it is there.
    Manual,
    /// The store could not be asked.
    Unknown,
}

/// The context in which the webhooks of a connection are shown.
struct View<'a> {
    connection: &'a Connection,
    loaded: &'a Loaded,
    now: Timestamp,
}

impl View<'_> {
    /// Shows a webhook: its state at the store, beside its record.
    fn row(&self, scope: &str, standing: &Standing<'_>, sighting: Option<&Activity>) -> answers::Webhook {
        let paused = self.connection.status == ConnectionStatus::Paused;
        let webhook = if let Standing::There(webhook) = standing { Some(*webhook) } else { None };
        let record = self.loaded.webhooks.get(scope);
        let record = record.filter(|record| webhook.is_none_or(|webhook| webhook.id == record.id));
        let health = record.map(|record| record.health.clone()).unwrap_or_default();
        let (verdict, reason) = match standing {
            _ if paused => (None, "the connection is paused".to_owned()),
            Standing::Unknown => (Some(health.verdict), health.reason),
            Standing::Manual => match health::verdict(false, None, sighting, self.now) {
                (Verdict::Silent, reason) => (Some(Verdict::Silent), reason),
                _ => (Some(Verdict::Manual), String::new()),
            },
            Standing::There(_) | Standing::Missing => {
                let (verdict, reason) = health::verdict(true, webhook, sighting, self.now);
                // A healthy webhook shows the reason for which it last was not.
                let fits = verdict == Verdict::Healthy || verdict == health.verdict;
                (Some(verdict), if fits && !health.reason.is_empty() { health.reason } else { reason })
            }
        };
        let status = match standing {
            Standing::There(webhook) if paused && webhook.status != WebhookStatus::Active => "paused",
            Standing::There(webhook) => webhook.status.as_str(),
            Standing::Missing => "missing",
            Standing::Manual => "manual",
            Standing::Unknown => "unknown",
        };
        answers::Webhook {
            scope: scope.to_owned(),
            status: status.to_owned(),
            id: webhook.map(|webhook| &webhook.id).or(record.map(|record| &record.id)).map(ToString::to_string),
            url: webhook.map(|webhook| &webhook.url).or(record.map(|record| &record.url)).cloned(),
            key_id: record.map(|record| record.key_id.clone()),
            generation: record.map(|record| record.generation),
            verdict,
            // The time is known only for the recorded verdict.
            since: health.since.filter(|_| verdict == Some(health.verdict)).map(Moment),
            reason,
            last_delivery: sighting.map(|sighting| sighting.last.into()),
            trips: health.trips,
            failures: webhook.and_then(|webhook| webhook.failures),
            reactivated_at: health.reactivated_at.map(Moment),
            not_before: health.not_before.filter(|at| self.now < *at).map(Moment),
            good_at: health.good_at.map(Moment),
        }
    }
}

impl<P: Parts> Registrar<P> {
    /// Shows a connection, with its webhooks as they are at the store.
    pub(crate) async fn show(&self, platform: &Platform, key: &ConnectionKey) -> Result<answers::Connection, Problem> {
        let loaded = self.edges.connections.load(key).await?;
        let connection = loaded.connection.as_ref().ok_or_else(|| not_connected(key))?;
        let path = WebhookPath { key: key.clone(), generation: connection.generation };
        let notices = self.notices(key).await?;
        let disconnected = connection.status == ConnectionStatus::Disconnected;
        let webhooks = if disconnected {
            SubscriptionList::default()
        } else {
            self.webhooks(platform, key, connection, &loaded).await?
        };
        let by_hand = !disconnected && !webhooks.managed;
        let trouble = loaded.check.as_ref().and_then(|check| {
            let what = check.trouble.clone()?;
            Some(Trouble { what, since: check.since.map(Moment) })
        });
        let stopped = stopped(&loaded, connection).into_iter().map(|(entity, stopped)| StoppedEntity {
            entity,
            why: stopped.why.clone(),
            since: stopped.since.into(),
        });
        Ok(answers::Connection {
            platform: key.platform.clone(),
            connection: key.connection.clone(),
            status: connection.status,
            site: connection.site.clone(),
            generation: connection.generation,
            confirmed: !connection.unconfirmed,
            deletes: connection.deletes.clone(),
            ignores: connection.ignores.clone(),
            presets: connection.presets.clone(),
            settings: connection.settings.clone(),
            notices,
            delivery_url: format!("{}{path}", self.public_base_url),
            paused_at: connection.paused_at.map(Moment),
            subscriptions: webhooks.subscriptions,
            next: by_hand.then(|| platform.setup.manual_instructions().to_owned()),
            // The connection is worth showing even while its store cannot be asked.
            problem: webhooks.problem,
            changes: None,
            checked_at: loaded.check.as_ref().map(|check| check.at.into()),
            trouble,
            stopped: stopped.collect(),
        })
    }

    /// Returns the platform's reports about the connection itself.
    async fn notices(&self, key: &ConnectionKey) -> Result<Vec<ShownNotice>, Problem> {
        let now = (self.clock)();
        let notes = self.edges.notes.notes(key, NOTICE).await?;
        let live = notes.into_iter().filter(|(_, note)| note.is_live(now));
        Ok(live.filter_map(|(_, note)| Some(serde_json::from_str::<Notice>(&note.body).ok()?.into())).collect())
    }

    /// Returns the webhooks as they are at the store, or `None` when they are entered by hand.
    pub(crate) async fn managed(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        connection: &Connection,
        loaded: &Loaded,
    ) -> Result<Option<Managed>, Problem> {
        let webhooks = platform.setup.webhooks().filter(|webhooks| manages(platform, *webhooks, connection, loaded));
        let Some((webhooks, credentials)) = webhooks.zip(self.open(key, connection).await?) else { return Ok(None) };
        let existing = self.list(at(platform, key, connection, &credentials), webhooks).await;
        Ok(Some(Managed { webhooks, credentials, existing }))
    }

    /// Shows the webhooks of a connection: ours at the store, and the topics that are wanted and have none. Those
    /// entered by hand are shown by topic.
    pub(crate) async fn webhooks(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        connection: &Connection,
        loaded: &Loaded,
    ) -> Result<SubscriptionList, Problem> {
        let seen = self.activity(key, connection.generation).await?;
        let view = View { connection, loaded, now: (self.clock)() };
        let Some(managed) = self.managed(platform, key, connection, loaded).await? else {
            let manual = |scope| view.row(scope, &Standing::Manual, seen.get(scope));
            let rows = declared_scopes(platform).map(manual).collect();
            return Ok(SubscriptionList { managed: false, subscriptions: rows, problem: None });
        };
        let row = |scope: &str, standing| view.row(scope, &standing, seen.get(managed.webhooks.delivers(scope)));
        let existing = match &managed.existing {
            Ok(existing) => existing,
            Err(fault) => {
                let rows = loaded.webhooks.keys().map(|scope| row(scope, Standing::Unknown)).collect();
                let problem = Some(format!("the store could not be asked: {fault}"));
                return Ok(SubscriptionList { managed: true, subscriptions: rows, problem });
            }
        };
        let ownership = Ownership { key, base_urls: self.base_urls().await?, records: &loaded.webhooks };
        let ours: Vec<_> = existing.iter().filter(|webhook| ownership.is_ours(webhook)).collect();
        let there = ours.iter().map(|webhook| row(&webhook.scope, Standing::There(webhook)));
        let wanted = managed.webhooks.wanted(platform, &connection.settings);
        let missing = wanted.iter().filter(|scope| !ours.iter().any(|webhook| webhook.scope == **scope));
        let rows = there.chain(missing.map(|scope| row(scope, Standing::Missing))).collect();
        Ok(SubscriptionList { managed: true, subscriptions: rows, problem: None })
    }
}

pub(crate) fn at<'a>(
    platform: &'a Platform,
    key: &'a ConnectionKey,
    connection: &'a Connection,
    credentials: &'a str,
) -> At<'a> {
    At { platform, key, access: Access { site: &connection.site, credentials, settings: &connection.settings } }
}

/// Returns the kinds of entity that cannot be fetched in the connection's present generation, with the reasons.
pub(crate) fn stopped<'l>(loaded: &'l Loaded, connection: &Connection) -> Vec<(EntityKind, &'l Stopped)> {
    let present = |cursor: &&Cursor| cursor.generation == connection.generation;
    let cursors = loaded.cursors.values().filter(present);
    cursors.filter_map(|cursor| Some((cursor.entity, cursor.stopped.as_ref()?))).collect()
}
