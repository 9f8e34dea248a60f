//! Shows a connection and its webhooks.

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
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    Parts, Registrar, health,
    problem::Problem,
    reconcile::{Ownership, Plan, Step},
    records::not_connected,
    webhooks::{At, manages},
};

/// The webhooks of a connection that the registrar manages, as they are at the store.
pub(crate) struct Managed {
    pub webhooks: &'static dyn WebhookApi,
    pub credentials: Zeroizing<String>,
    pub existing: Result<Vec<Webhook>, Fault>,
}

/// The webhooks of a connection as they are shown.
pub(crate) struct WebhookRows {
    /// Whether they are made here; else they are entered by hand.
    pub managed: bool,
    /// One for each.
    pub rows: Value,
    /// Why the store could not be asked.
    pub problem: Option<String>,
}

/// How a webhook was found.
enum Standing<'a> {
    /// It is there.
    There(&'a Webhook),
    /// It should be there.
    Missing,
    /// Nobody but its deliveries can tell.
    Manual,
    /// The store could not be asked.
    Unknown,
}

/// What all webhooks of a connection are shown by.
struct View<'a> {
    connection: &'a Connection,
    loaded: &'a Loaded,
    now: Timestamp,
}

impl View<'_> {
    /// What a webhook looks like: as it was found, beside what is remembered of it.
    fn row(&self, scope: &str, standing: &Standing<'_>, sighting: Option<&Activity>) -> Value {
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
                // Of one that is well, why it was not the last time.
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
        let time = |stamp: Option<Timestamp>| stamp.map(|stamp| stamp.to_string());
        json!({
            "scope": scope,
            "status": status,
            "id": webhook.map(|webhook| &webhook.id).or(record.map(|record| &record.id)),
            "url": webhook.map(|webhook| &webhook.url).or(record.map(|record| &record.url)),
            "key_id": record.map(|record| &record.key_id),
            "generation": record.map(|record| record.generation),
            "verdict": verdict,
            // Since when is only known of the verdict that is remembered.
            "since": time(health.since.filter(|_| verdict == Some(health.verdict))),
            "reason": reason,
            "last_delivery": time(sighting.map(|sighting| sighting.last)),
            "trips": health.trips,
            "failures": webhook.and_then(|webhook| webhook.failures),
            "reactivated_at": time(health.reactivated_at),
            "not_before": time(health.not_before.filter(|at| self.now < *at)),
            "good_at": time(health.good_at),
        })
    }
}

impl<P: Parts> Registrar<P> {
    /// Shows a connection, with its webhooks as they are at the store.
    pub(crate) async fn show(&self, platform: &Platform, key: &ConnectionKey) -> Result<Value, Problem> {
        let loaded = self.edges.connections.load(key).await?;
        let connection = loaded.connection.as_ref().ok_or_else(|| not_connected(key))?;
        let path = WebhookPath { key: key.clone(), generation: connection.generation };
        let mut shown = json!({
            "platform": key.platform,
            "connection": key.connection,
            "status": connection.status,
            "site": connection.site,
            "generation": connection.generation,
            "confirmed": !connection.unconfirmed,
            "deletes": connection.deletes,
            "ignores": connection.ignores,
            "presets": connection.presets,
            "settings": connection.settings,
            "notices": self.notices(key).await?,
            "delivery_url": format!("{}{path}", self.public_base_url),
            "paused_at": connection.paused_at.map(|at| at.to_string()),
        });
        if let Some(check) = &loaded.check {
            shown["checked_at"] = check.at.to_string().into();
            if let Some(trouble) = &check.trouble {
                shown["trouble"] = json!({ "what": trouble, "since": check.since.map(|since| since.to_string()) });
            }
        }
        let stopped = stopped(&loaded, connection);
        if !stopped.is_empty() {
            shown["stopped"] = stopped
                .into_iter()
                .map(|(entity, why)| json!({ "entity": entity, "why": why.why, "since": why.since.to_string() }))
                .collect();
        }
        if connection.status == ConnectionStatus::Disconnected {
            shown["subscriptions"] = json!([]);
            return Ok(shown);
        }
        let webhooks = self.webhooks(platform, key, connection, &loaded).await?;
        shown["subscriptions"] = webhooks.rows;
        if !webhooks.managed {
            shown["next"] = platform.setup.manual_instructions().into();
        }
        // The connection is worth showing even while its store is not there.
        if let Some(problem) = webhooks.problem {
            shown["problem"] = problem.into();
        }
        Ok(shown)
    }

    /// What the platform had to tell about the connection itself.
    async fn notices(&self, key: &ConnectionKey) -> Result<Value, Problem> {
        let now = (self.clock)();
        let notes = self.edges.notes.notes(key, NOTICE).await?;
        let live = notes.into_iter().filter(|(_, note)| note.is_live(now));
        let read = live.filter_map(|(_, note)| serde_json::from_str::<Notice>(&note.body).ok());
        let shown = read.map(
            |notice| json!({ "kind": notice.kind, "detail": notice.detail, "received": notice.received.to_string() }),
        );
        Ok(shown.collect())
    }

    /// The webhooks as they are at the store; none where they are entered by hand.
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

    /// The webhooks of a connection as they are shown, wherever they are: those at the store that are ours, and the wanted scopes
    /// that have none.
    pub(crate) async fn webhooks(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        connection: &Connection,
        loaded: &Loaded,
    ) -> Result<WebhookRows, Problem> {
        let seen = self.activity(key, connection.generation).await?;
        let view = View { connection, loaded, now: (self.clock)() };
        let Some(managed) = self.managed(platform, key, connection, loaded).await? else {
            let manual = |scope| view.row(scope, &Standing::Manual, seen.get(scope));
            let rows = declared_scopes(platform).map(manual).collect();
            return Ok(WebhookRows { managed: false, rows, problem: None });
        };
        let row = |scope: &str, standing| view.row(scope, &standing, seen.get(managed.webhooks.delivers(scope)));
        let existing = match &managed.existing {
            Ok(existing) => existing,
            Err(fault) => {
                let rows = loaded.webhooks.keys().map(|scope| row(scope, Standing::Unknown)).collect();
                let problem = Some(format!("the store could not be asked: {fault}"));
                return Ok(WebhookRows { managed: true, rows, problem });
            }
        };
        let ownership = Ownership { key, base_urls: self.base_urls().await?, records: &loaded.webhooks };
        let ours: Vec<_> = existing.iter().filter(|webhook| ownership.is_ours(webhook)).collect();
        let there = ours.iter().map(|webhook| row(&webhook.scope, Standing::There(webhook)));
        let wanted = managed.webhooks.wanted(platform, &connection.settings);
        let missing = wanted.iter().filter(|scope| !ours.iter().any(|webhook| webhook.scope == **scope));
        let rows = there.chain(missing.map(|scope| row(scope, Standing::Missing))).collect();
        Ok(WebhookRows { managed: true, rows, problem: None })
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

/// What cannot be fetched of a connection in its present life, and why.
pub(crate) fn stopped<'l>(loaded: &'l Loaded, connection: &Connection) -> Vec<(EntityKind, &'l Stopped)> {
    let present = |cursor: &&Cursor| cursor.generation == connection.generation;
    let cursors = loaded.cursors.values().filter(present);
    cursors.filter_map(|cursor| Some((cursor.entity, cursor.stopped.as_ref()?))).collect()
}

/// What a plan comes to.
pub(crate) fn plan_json(plan: &Plan) -> Value {
    let mut changes = json!({ "created": [], "updated": [], "deleted": [], "kept": plan.kept.len() });
    for step in &plan.steps {
        let (list, scope) = match step {
            Step::Create(wanted) => ("created", &wanted.scope),
            Step::Update(_, wanted, _) => ("updated", &wanted.scope),
            Step::Delete(_, scope, _) => ("deleted", scope),
        };
        if let Some(list) = changes[list].as_array_mut() {
            list.push(scope.as_str().into());
        }
    }
    changes
}
