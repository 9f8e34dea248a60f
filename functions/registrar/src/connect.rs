//! Connecting a store, showing it, and disconnecting it.

use cloud::{
    connections::{Connections, Loaded, Vault},
    coordination::Coordination,
    proof_keys::KeepProofKeys,
    queue::Jobs,
};
use commerce::{
    connection::{Connection, ConnectionStatus},
    cursor::{Cursor, Stopped},
    entity::EntityKind,
    http_call::Fault,
    job::{Job, Trigger},
    key::{ConnectionKey, Generation},
    platform::{
        Platform,
        notice::{NOTICE, Notice},
        pull::Access,
        settings::Settings,
        webhooks::{Desired, Saving, WebhookApi, WebhookStatus},
    },
    request::WebhookPath,
};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    Parts, Registrar,
    controller::LATER,
    problem::Problem,
    reconcile::{Ownership, Plan, Step, reconcile},
    webhooks::{At, manages, secret_of},
};

/// As what a store is connected.
#[derive(Clone, Copy)]
struct Admitted {
    generation: Generation,
    unconfirmed: bool,
}

/// How a store comes that connects itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Installed {
    /// Whether the platform itself gave the credentials just now, so that no call has to prove them.
    pub proven: bool,
    /// Whether the vendor let it in; else an operator has to confirm it.
    pub invited: bool,
}

impl<P: Parts> Registrar<P> {
    /// Connects a store: proves its credentials, keeps them, and makes the webhooks. The same again changes nothing.
    pub(crate) async fn connect(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        body: &[u8],
    ) -> Result<Value, Problem> {
        let plan = self.take(platform, key, body, None).await?;
        let mut shown = self.show(platform, key).await?;
        if let Some(plan) = plan {
            shown["changes"] = plan_json(&plan);
        }
        Ok(shown)
    }

    /// The same for an app that a merchant installs: the webhooks are made by the registrar's own queue, for the store may be
    /// waiting for an answer before it can take any call.
    pub(crate) async fn install(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        body: &[u8],
        installed: Installed,
    ) -> Result<(), Problem> {
        self.take(platform, key, body, Some(installed)).await.map(|_| ())
    }

    async fn take(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        body: &[u8],
        installed: Option<Installed>,
    ) -> Result<Option<Plan>, Problem> {
        let mut settings = commerce::platform::settings::settings(platform, key, body, self.allow_loopback)?;
        let before = self.edges.connections.load(key).await?;
        if installed.is_some()
            && let Some(alive) = before.connection.as_ref().filter(|before| is_alive(before))
        {
            // What was set for the store is not the merchant's to change.
            settings.deletes.clone_from(&alive.deletes);
            settings.ignores.clone_from(&alive.ignores);
            settings.presets.clone_from(&alive.presets);
            settings.polls.clone_from(&alive.polls);
            settings.retention = alive.retention;
        }
        if installed.is_some_and(|installed| !installed.proven)
            && let Some(other) = before.connection.as_ref().filter(|before| before.site != settings.site)
        {
            // Only an operator knows whether the one is the other's heir.
            return Err(Problem::Conflict(format!(
                "{key} is or was a connection to {}; connect it with PUT",
                other.site
            )));
        }
        let generation = next_generation(before.connection.as_ref(), &settings)?;
        // What an operator connects is confirmed by that, and what was confirmed stays so.
        let confirmed = before.connection.as_ref().is_some_and(|before| is_alive(before) && !before.unconfirmed);
        let unconfirmed = installed.is_some_and(|installed| !installed.invited) && !confirmed;
        let admitted = Admitted { generation, unconfirmed };
        let brought: Vec<_> = settings.brought.iter().map(|key| platform.delivery.scheme().brought_key(key)).collect();
        let Some(credentials) = &settings.credentials else {
            // Without credentials nothing is made at the store; somebody enters the webhooks by hand.
            self.keep(key, before.connection.as_ref(), &settings, admitted, None, settings.own.clone()).await?;
            self.edges.proof_keys.replace(key, &brought).await?;
            return Ok(None);
        };
        let at = At { platform, key, access: Access { site: &settings.site, credentials, settings: &settings.own } };
        // The call that proves the credentials is the one that is needed anyway, where there is one.
        let (existing, other) =
            match platform.setup.webhooks().filter(|_| !installed.is_some_and(|installed| installed.proven)) {
                Some(webhooks) if installed.is_some() => (None, self.prove(at, webhooks, &before).await?),
                Some(webhooks) => {
                    let (existing, other) = self.reach(at, webhooks, true).await?;
                    (Some((webhooks, existing)), other)
                }
                None => (None, None),
            };
        let other = other.unwrap_or_else(|| settings.own.clone());
        let at = At { access: Access { settings: &other, ..at.access }, ..at };
        let cipher = self.seal(key, before.connection.as_ref(), credentials).await?;
        // The webhooks of before are its own until there are others.
        let own = match platform.setup.webhooks() {
            Some(webhooks) => {
                let ids: Vec<_> = before.webhooks.values().map(|record| record.id.clone()).collect();
                webhooks.settings_with(other.clone(), &ids)
            }
            None => other.clone(),
        };
        let connection = self.keep(key, before.connection.as_ref(), &settings, admitted, Some(cipher), own).await?;
        self.edges.proof_keys.replace(key, &brought).await?;
        // Whatever is not done now is done by the registrar's own queue: the rest of the webhooks, and the first import. Not while they
        // are being made here.
        let delay = if installed.is_some() { 0 } else { LATER };
        self.edges.jobs.send_jobs(&[(Job::check(key, Trigger::Connected), delay)]).await?;
        if installed.is_some() {
            return Ok(None);
        }
        let Some((webhooks, existing)) =
            existing.filter(|(webhooks, _)| manages(platform, *webhooks, &connection, &before))
        else {
            return Ok(None);
        };
        let basis = Connection { settings: other.clone(), ..connection };
        self.converge(at, webhooks, &basis, &before, &existing, Trigger::Connected).await.map(Some)
    }

    /// Shows with as few calls as can be that credentials which anybody may have sent are good: by one page of the webhooks, and where
    /// they would replace good ones, by setting a webhook of ours to what it is. Those that may only read must not take the place.
    /// Gives the settings that it took, where they are others.
    async fn prove(
        &self,
        at: At<'_>,
        webhooks: &dyn WebhookApi,
        before: &Loaded,
    ) -> Result<Option<Map<String, Value>>, Problem> {
        let (page, other) = self.first_page(at, webhooks, true).await?;
        let access = Access { settings: other.as_ref().unwrap_or(at.access.settings), ..at.access };
        let (at, listed) = (At { access, ..at }, page.webhooks);
        let alive = before.connection.as_ref().filter(|alive| is_alive(alive) && alive.credentials.is_some());
        let Some(alive) = alive else { return Ok(other) };
        let active = alive.status == ConnectionStatus::Active;
        let ring = self.edges.signing_keys.fresh((self.clock)()).await?;
        let as_it_is = before.webhooks.values().find(|record| {
            // One that a rotation may be moving right now is left alone.
            let settled = record.key_id == ring.signing().id();
            let same = listed.iter().find(|webhook| webhook.id == record.id && webhook.url == record.url);
            settled && same.is_some_and(|webhook| (webhook.status == WebhookStatus::Active) == active)
        });
        let Some(record) = as_it_is else { return Ok(other) };
        let path = WebhookPath { key: at.key.clone(), generation: record.generation };
        let secret = secret_of(at.platform, &path, &record.scope, &ring);
        let desired = Desired { scope: &record.scope, url: &record.url, secret: &secret, active };
        if let Saving::Ask(request) = webhooks.update(&at.access, &record.id, &desired, &[], (self.clock)())? {
            let answer = self.call(at, request).await?;
            webhooks.update(&at.access, &record.id, &desired, &[answer], (self.clock)())?;
        }
        Ok(other)
    }

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

    /// Confirms a store that has connected itself: from now on it is fetched as a whole. The same again changes nothing.
    pub(crate) async fn confirm(&self, platform: &Platform, key: &ConnectionKey) -> Result<Value, Problem> {
        let (loaded, mut connection) = self.living(key).await?;
        if connection.unconfirmed {
            connection.unconfirmed = false;
            self.save(key, &mut connection).await?;
            let waiting = loaded.cursors.values().filter(|cursor| cursor.run.is_some());
            let polls = waiting.map(|cursor| (Job::Poll { key: key.clone(), entity: cursor.entity }, 0));
            let jobs: Vec<_> = polls.chain([(Job::check(key, Trigger::Connected), 0)]).collect();
            self.edges.jobs.send_jobs(&jobs).await?;
        }
        self.show(platform, key).await
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

    /// Disconnects a store: removes its webhooks, then its credentials. What straggles in later is ignored. With `force`,
    /// the store is not asked; its webhooks stay behind.
    pub(crate) async fn disconnect(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        force: bool,
    ) -> Result<Value, Problem> {
        self.disconnect_as(platform, key, force, false).await
    }

    /// The same. When the platform `told` that the app was removed there, and with it its webhooks and its token, a list that is refused
    /// is an empty one.
    pub(crate) async fn disconnect_as(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        force: bool,
        told: bool,
    ) -> Result<Value, Problem> {
        let loaded = self.edges.connections.load(key).await?;
        let mut connection = loaded.connection.clone().ok_or_else(|| not_connected(key))?;
        if connection.status == ConnectionStatus::Disconnected {
            return self.show(platform, key).await;
        }
        // First of all: who connects it at the same time is told to come again, or this is.
        if connection.status != ConnectionStatus::Disconnecting {
            connection.status = ConnectionStatus::Disconnecting;
            self.save(key, &mut connection).await?;
        }
        let managed = connection.credentials.clone().zip(platform.setup.webhooks());
        if let Some((cipher, webhooks)) = managed.filter(|_| !force) {
            let credentials = Zeroizing::new(self.edges.vault.decrypt(key, &cipher).await?);
            let access = Access { site: &connection.site, credentials: &credentials, settings: &connection.settings };
            let at = At { platform, key, access };
            let ring = self.edges.signing_keys.current((self.clock)()).await?;
            let existing = match self.list(at, webhooks).await {
                Err(Fault::Connection(_)) if told && webhooks.go_with_the_app() => Vec::new(),
                listed => listed?,
            };
            let base_urls = self.base_urls().await?;
            let ownership = Ownership { key, base_urls, records: &loaded.webhooks };
            let plan = reconcile(&[], &existing, &ownership);
            self.run_plan(at, webhooks, &ring, &loaded.webhooks, &plan).await?;
            // That took a while: what follows must not be done to one that was connected again.
            let now = self.edges.connections.load(key).await?.connection;
            if now.is_none_or(|now| now.revision != connection.revision) {
                return Err(changed(key));
            }
        }
        self.edges.proof_keys.replace(key, &[]).await?;
        for scope in loaded.webhooks.keys() {
            self.edges.connections.remove_webhook(key, scope).await?;
        }
        for entity in loaded.cursors.keys() {
            self.edges.connections.remove_cursor(key, *entity).await?;
        }
        self.note_check(key, loaded.check.as_ref(), None).await?;
        connection.status = ConnectionStatus::Disconnected;
        connection.credentials = None;
        connection.disconnected_at = Some((self.clock)());
        self.save(key, &mut connection).await?;
        self.show(platform, key).await
    }

    /// The credentials encrypted; as they were if they are the same, for a ciphertext is never the same twice.
    async fn seal(&self, key: &ConnectionKey, before: Option<&Connection>, plain: &str) -> Result<String, Problem> {
        if let Some(cipher) = before.and_then(|connection| connection.credentials.as_ref()) {
            let known = self.edges.vault.decrypt(key, cipher).await.map(Zeroizing::new);
            if known.is_ok_and(|known| known.as_str() == plain) {
                return Ok(cipher.clone());
            }
        }
        Ok(self.edges.vault.encrypt(key, plain).await?)
    }

    /// Writes the connection's record where it differs.
    async fn keep(
        &self,
        key: &ConnectionKey,
        before: Option<&Connection>,
        settings: &Settings,
        Admitted { generation, unconfirmed }: Admitted,
        credentials: Option<String>,
        own: Map<String, Value>,
    ) -> Result<Connection, Problem> {
        // A second installation starts clean, but for what must never come again.
        let alive = before.filter(|before| is_alive(before));
        // With other credentials it was connected anew: what was told of before that is past.
        let same = alive.filter(|alive| alive.credentials == credentials);
        let mut connection = Connection {
            revision: before.map_or(0, |before| before.revision),
            generation,
            credentials,
            deletes: before.map(|before| before.deletes.clone()).unwrap_or_default(),
            reproject: before.map(|before| before.reproject.clone()).unwrap_or_default(),
            ignores: settings.ignores.clone(),
            presets: settings.presets.clone(),
            settings: own,
            polls: settings.polls.clone(),
            retention: settings.retention,
            connected_at: same.and_then(|same| same.connected_at).or(Some((self.clock)())),
            status: match alive {
                Some(Connection { status: ConnectionStatus::Paused, .. }) => ConnectionStatus::Paused,
                _ => ConnectionStatus::Active,
            },
            paused_at: alive.and_then(|alive| alive.paused_at),
            unconfirmed,
            signed_with: alive.and_then(|alive| alive.signed_with.clone()),
            ..Connection::new(&settings.site)
        };
        connection.set_deletes(settings.deletes.clone());
        if before != Some(&connection) {
            self.save(key, &mut connection).await?;
        }
        Ok(connection)
    }

    /// Writes the connection's record as its next revision.
    pub(crate) async fn save(&self, key: &ConnectionKey, connection: &mut Connection) -> Result<(), Problem> {
        connection.revision += 1;
        if self.edges.connections.save(key, connection).await? {
            return Ok(());
        }
        Err(changed(key))
    }
}

pub(crate) fn changed(key: &ConnectionKey) -> Problem {
    Problem::Conflict(format!("{key} was changed by another request meanwhile; send this one again"))
}

/// Whether nobody has begun to disconnect it.
pub(crate) fn is_alive(connection: &Connection) -> bool {
    matches!(connection.status, ConnectionStatus::Active | ConnectionStatus::Paused)
}

/// What cannot be fetched of a connection in its present life, and why.
pub(crate) fn stopped<'l>(loaded: &'l Loaded, connection: &Connection) -> Vec<(EntityKind, &'l Stopped)> {
    let present = |cursor: &&Cursor| cursor.generation == connection.generation;
    let cursors = loaded.cursors.values().filter(present);
    cursors.filter_map(|cursor| Some((cursor.entity, cursor.stopped.as_ref()?))).collect()
}

pub(crate) fn not_connected(key: &ConnectionKey) -> Problem {
    Problem::NotFound(format!("{key} is not connected; connect it with PUT"))
}

/// The generation that a connection has after being connected; raised when it had been disconnected before, or was about to be, so that secrets
/// and webhooks of its former life count no more.
fn next_generation(before: Option<&Connection>, settings: &Settings) -> Result<Generation, Problem> {
    let Some(before) = before else { return Ok(Generation::FIRST) };
    if before.status == ConnectionStatus::Disconnected {
        return Ok(before.generation.next());
    }
    if before.site != settings.site {
        return Err(Problem::Conflict(format!(
            "this connection is to {}; disconnect it with DELETE before connecting another site",
            before.site
        )));
    }
    if before.credentials.is_some() && settings.credentials.is_none() {
        return Err(Problem::Conflict(
            "this connection has credentials and hooks made with them; send the credentials, or disconnect it with \
             DELETE first"
                .into(),
        ));
    }
    // Of one that goes, webhooks may be left: they become those of the new generation.
    Ok(if is_alive(before) { before.generation } else { before.generation.next() })
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
