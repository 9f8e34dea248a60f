//! Connecting a store, showing it, and disconnecting it.

use std::collections::BTreeMap;

use cloud::{
    connections::{Connections, Loaded, Vault},
    coordination::Coordination,
    outbound::Outbound,
    proof_keys::KeepProofKeys,
    secrets::SecretSource,
    telemetry,
};
use commerce::{
    api::{ApiRequest, ApiResponse, Fault},
    connection::{Connection, ConnectionKey, ConnectionStatus, Generation, SubscriptionRecord},
    keys::{BroughtKey, KeyRing},
    platforms::{self, Access, Hooks, NOTICE, Notice, Platform, Settings, Subscription, declared_scopes},
    request::HookPath,
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    Registrar,
    problem::Problem,
    reconcile::{Ownership, Plan, Step, Wanted, Why, reconcile},
};

/// How many subscriptions are made side by side. API Gateway waits for 30 s, and a store pings us while it answers.
const CONCURRENCY: usize = 5;
/// More pages than any store has; a store that says it has more is not followed for ever.
const MAX_PAGES: u32 = 100;

/// A connection at its platform, as its calls need it.
#[derive(Clone, Copy)]
struct At<'a> {
    platform: &'a Platform,
    key: &'a ConnectionKey,
    access: Access<'a>,
}

impl<C, V, S, O, N, P> Registrar<C, V, S, O, N, P>
where
    C: Connections + Sync,
    V: Vault + Sync,
    S: SecretSource + Sync,
    O: Outbound + Sync,
    N: Coordination + Sync,
    P: KeepProofKeys + Sync,
{
    /// Connects a store: proves its credentials, keeps them, and makes the subscriptions. The same again changes nothing.
    pub(crate) async fn connect(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        body: &[u8],
    ) -> Result<Value, Problem> {
        let settings = platforms::settings(platform, key, body, self.allow_loopback)?;
        let before = self.connections.load(key).await?;
        let generation = next_generation(before.connection.as_ref(), &settings)?;
        let brought: Vec<_> = settings.brought.iter().map(|key| BroughtKey::of(key)).collect();
        let Some(credentials) = &settings.credentials else {
            // Without credentials nothing is made at the store; somebody enters the hooks by hand.
            self.keep(key, before.connection.as_ref(), &settings, generation, None, settings.own.clone()).await?;
            self.proof_keys.replace(key, &brought).await?;
            return self.show(platform, key).await;
        };
        let at = At { platform, key, access: Access { site: &settings.site, credentials, settings: &settings.own } };
        // The call that proves the credentials is the one that is needed anyway, where there is one.
        let existing = match platform.subscriptions.hooks() {
            Some(hooks) => Some((hooks, self.list(at, hooks).await?)),
            None => None,
        };
        let cipher = self.seal(key, before.connection.as_ref(), credentials).await?;
        // The hooks of before are its own until there are others.
        let own = match platform.subscriptions.hooks() {
            Some(hooks) => {
                let ids: Vec<_> = before.subscriptions.values().map(|record| record.id.clone()).collect();
                hooks.settings_with(settings.own.clone(), &ids)
            }
            None => settings.own.clone(),
        };
        let connection = self.keep(key, before.connection.as_ref(), &settings, generation, Some(cipher), own).await?;
        self.proof_keys.replace(key, &brought).await?;
        let Some((hooks, existing)) = existing.filter(|(hooks, _)| manages(platform, *hooks, &connection, &before))
        else {
            return self.show(platform, key).await;
        };
        let ring = self.signing_keys.fresh((self.clock)()).await?;
        let plan = self.plan(platform, hooks, key, &connection, &before, &existing, &ring).await?;
        let run = self.run(at, hooks, &ring, &before.subscriptions, &plan).await;
        // What cannot be made may be there already: a create whose answer was lost, for one. Anything else will fail again.
        let refused = matches!(run, Err(Problem::Refused(_)));
        if !refused && run.is_err() {
            // What was made delivers already.
            self.note_hooks(hooks, key, &settings.own, connection.revision).await?;
            run?;
        }
        if refused || plan.steps.iter().any(|step| matches!(step, Step::Create(_))) {
            // Another request may have made the same at the same time: of what is there twice now, one goes.
            let existing = self.list(at, hooks).await?;
            let after = self.connections.load(key).await?;
            let again = self.plan(platform, hooks, key, &connection, &after, &existing, &ring).await?;
            self.run(at, hooks, &ring, &after.subscriptions, &again).await?;
        }
        self.note_hooks(hooks, key, &settings.own, connection.revision).await?;
        let mut shown = self.show(platform, key).await?;
        shown["changes"] = plan_json(&plan);
        Ok(shown)
    }

    /// Shows a connection, with its subscriptions as they are at the store.
    pub(crate) async fn show(&self, platform: &Platform, key: &ConnectionKey) -> Result<Value, Problem> {
        let loaded = self.connections.load(key).await?;
        let connection = loaded.connection.as_ref().ok_or_else(|| not_connected(key))?;
        let path = HookPath { key: key.clone(), generation: connection.generation };
        let mut shown = json!({
            "platform": key.platform,
            "connection": key.connection,
            "status": connection.status,
            "site": connection.site,
            "generation": connection.generation,
            "deletes": connection.deletes,
            "ignores": connection.ignores,
            "presets": connection.presets,
            "settings": connection.settings,
            "notices": self.notices(key).await?,
            "delivery_url": format!("{}{path}", self.public_base_url),
        });
        if connection.status == ConnectionStatus::Disconnected {
            shown["subscriptions"] = json!([]);
            return Ok(shown);
        }
        let managed = connection.credentials.as_ref().zip(platform.subscriptions.hooks());
        let managed = managed.filter(|(_, hooks)| manages(platform, *hooks, connection, &loaded));
        let Some((cipher, hooks)) = managed else {
            shown["subscriptions"] =
                declared_scopes(platform.mapping).map(|scope| json!({ "scope": scope, "status": "manual" })).collect();
            shown["next"] = platform.subscriptions.by_hand().into();
            return Ok(shown);
        };
        let credentials = Zeroizing::new(self.vault.decrypt(key, cipher).await?);
        let access = Access { site: &connection.site, credentials: &credentials, settings: &connection.settings };
        match self.list(At { platform, key, access }, hooks).await {
            Ok(existing) => {
                let base_urls = self.connections.base_urls(&self.public_base_url).await?;
                let ownership = Ownership { key, base_urls: &base_urls, records: &loaded.subscriptions };
                let ours: Vec<_> = existing.into_iter().filter(|hook| ownership.is_ours(hook)).collect();
                let wanted = hooks.wanted(platform.mapping, &connection.settings);
                shown["subscriptions"] = subscriptions_json(&wanted, &ours, &loaded.subscriptions);
            }
            // The connection is worth showing even while its store is not there.
            Err(fault) => shown["problem"] = format!("the subscriptions cannot be shown: {fault}").into(),
        }
        Ok(shown)
    }

    /// What the platform had to tell about the connection itself.
    async fn notices(&self, key: &ConnectionKey) -> Result<Value, Problem> {
        let now = (self.clock)();
        let notes = self.notes.notes(key, NOTICE).await?;
        let live = notes.into_iter().filter(|(_, note)| note.is_live(now));
        let read = live.filter_map(|(_, note)| serde_json::from_str::<Notice>(&note.body).ok());
        let shown = read.map(
            |notice| json!({ "kind": notice.kind, "detail": notice.detail, "received": notice.received.to_string() }),
        );
        Ok(shown.collect())
    }

    /// Disconnects a store: removes its subscriptions, then its credentials. What straggles in later is ignored. With `force`,
    /// the store is not asked; its hooks stay behind.
    pub(crate) async fn disconnect(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        force: bool,
    ) -> Result<Value, Problem> {
        let loaded = self.connections.load(key).await?;
        let mut connection = loaded.connection.clone().ok_or_else(|| not_connected(key))?;
        let managed = connection.credentials.clone().zip(platform.subscriptions.hooks());
        if let Some((cipher, hooks)) = managed.filter(|_| !force) {
            if connection.status != ConnectionStatus::Disconnecting {
                connection.status = ConnectionStatus::Disconnecting;
                self.save(key, &mut connection).await?;
            }
            let credentials = Zeroizing::new(self.vault.decrypt(key, &cipher).await?);
            let access = Access { site: &connection.site, credentials: &credentials, settings: &connection.settings };
            let at = At { platform, key, access };
            let ring = self.signing_keys.current((self.clock)()).await?;
            let existing = self.list(at, hooks).await?;
            let base_urls = self.connections.base_urls(&self.public_base_url).await?;
            let ownership = Ownership { key, base_urls: &base_urls, records: &loaded.subscriptions };
            let plan = reconcile(&[], &existing, &ownership);
            self.run(at, hooks, &ring, &loaded.subscriptions, &plan).await?;
        }
        self.proof_keys.replace(key, &[]).await?;
        for scope in loaded.subscriptions.keys() {
            self.connections.remove_subscription(key, scope).await?;
        }
        if connection.status != ConnectionStatus::Disconnected {
            connection.status = ConnectionStatus::Disconnected;
            connection.credentials = None;
            self.save(key, &mut connection).await?;
        }
        self.show(platform, key).await
    }

    /// Runs one call, to the platform's own host only.
    async fn call(&self, at: At<'_>, request: ApiRequest) -> Result<ApiResponse, Fault> {
        at.platform.hosts.check(at.access.site, &request, self.allow_loopback)?;
        self.outbound.call(request).await
    }

    /// Every page of what is subscribed at the store.
    async fn list(&self, at: At<'_>, hooks: &dyn Hooks) -> Result<Vec<Subscription>, Fault> {
        let mut all = Vec::new();
        for page in 1..=MAX_PAGES {
            let response = self.call(at, hooks.list(&at.access, page)?).await?;
            let listed = hooks.listed(&response, page, (self.clock)())?;
            all.extend(listed.subscriptions);
            if !listed.more {
                return Ok(all);
            }
        }
        Err(Fault::Unreadable(format!("more than {MAX_PAGES} pages of subscriptions")))
    }

    /// The credentials encrypted; as they were if they are the same, for a ciphertext is never the same twice.
    async fn seal(&self, key: &ConnectionKey, before: Option<&Connection>, plain: &str) -> Result<String, Problem> {
        if let Some(cipher) = before.and_then(|connection| connection.credentials.as_ref()) {
            let known = self.vault.decrypt(key, cipher).await.map(Zeroizing::new);
            if known.is_ok_and(|known| known.as_str() == plain) {
                return Ok(cipher.clone());
            }
        }
        Ok(self.vault.encrypt(key, plain).await?)
    }

    /// Writes the connection's record where it differs.
    async fn keep(
        &self,
        key: &ConnectionKey,
        before: Option<&Connection>,
        settings: &Settings,
        generation: Generation,
        credentials: Option<String>,
        own: Map<String, Value>,
    ) -> Result<Connection, Problem> {
        let mut connection = Connection {
            revision: before.map_or(0, |before| before.revision),
            status: ConnectionStatus::Active,
            generation,
            site: settings.site.clone(),
            credentials,
            deletes: settings.deletes.clone(),
            ignores: settings.ignores.clone(),
            presets: settings.presets.clone(),
            settings: own,
        };
        if before != Some(&connection) {
            self.save(key, &mut connection).await?;
        }
        Ok(connection)
    }

    /// Writes the connection's record as its next revision.
    async fn save(&self, key: &ConnectionKey, connection: &mut Connection) -> Result<(), Problem> {
        connection.revision += 1;
        if self.connections.save(key, connection).await? {
            return Ok(());
        }
        Err(Problem::Conflict(format!("{key} was changed by another request meanwhile; send this one again")))
    }

    #[expect(clippy::too_many_arguments, reason = "what a plan is made of")]
    async fn plan(
        &self,
        platform: &Platform,
        hooks: &dyn Hooks,
        key: &ConnectionKey,
        connection: &Connection,
        before: &Loaded,
        existing: &[Subscription],
        ring: &KeyRing,
    ) -> Result<Plan, Problem> {
        let path = HookPath { key: key.clone(), generation: connection.generation };
        let delivery_url = format!("{}{path}", self.public_base_url);
        let wanted: Vec<Wanted> = hooks
            .wanted(platform.mapping, &connection.settings)
            .into_iter()
            .map(|scope| Wanted {
                url: hooks.url(&scope, &delivery_url),
                scope,
                key_id: ring.signing().id().to_owned(),
                generation: connection.generation,
            })
            .collect();
        let base_urls = self.connections.base_urls(&self.public_base_url).await?;
        let ownership = Ownership { key, base_urls: &base_urls, records: &before.subscriptions };
        Ok(reconcile(&wanted, existing, &ownership))
    }

    /// Keeps in the connection's own settings which hooks are its own, where the platform wants that: those that there are now, and
    /// not those that have just been removed.
    async fn note_hooks(
        &self,
        hooks: &dyn Hooks,
        key: &ConnectionKey,
        own: &Map<String, Value>,
        revision: u64,
    ) -> Result<(), Problem> {
        let loaded = self.connections.load(key).await?;
        let Some(mut connection) = loaded.connection else { return Ok(()) };
        let ids: Vec<_> = loaded.subscriptions.into_values().map(|record| record.id).collect();
        // What another request has set meanwhile stays.
        let own = if connection.revision == revision { own } else { &connection.settings };
        let settings = hooks.settings_with(own.clone(), &ids);
        if settings == connection.settings {
            return Ok(());
        }
        connection.settings = settings;
        self.save(key, &mut connection).await
    }

    /// Runs a plan: what makes first, side by side; what removes when all of that is done. Each step is recorded at once. One
    /// that fails does not keep the others from being done, but its fault is the answer.
    async fn run(
        &self,
        at: At<'_>,
        hooks: &dyn Hooks,
        ring: &KeyRing,
        records: &BTreeMap<String, SubscriptionRecord>,
        plan: &Plan,
    ) -> Result<(), Problem> {
        let removes = |step: &&Step| matches!(step, Step::Delete(..));
        let (removing, making): (Vec<_>, Vec<_>) = plan.steps.iter().partition(removes);
        for steps in [making, removing] {
            // Boxed, because the compiler cannot see that these futures are `Send` for every lifetime of a step.
            let mut running: Vec<BoxFuture<'_, _>> = Vec::with_capacity(steps.len());
            for step in steps {
                running.push(self.step(at, hooks, ring, records, step).boxed());
            }
            let done: Vec<_> = stream::iter(running).buffer_unordered(CONCURRENCY).collect().await;
            done.into_iter().collect::<Result<(), Problem>>()?;
        }
        Ok(())
    }

    async fn step(
        &self,
        at: At<'_>,
        hooks: &dyn Hooks,
        ring: &KeyRing,
        records: &BTreeMap<String, SubscriptionRecord>,
        step: &Step,
    ) -> Result<(), Problem> {
        let now = (self.clock)();
        let At { platform, key, access } = &at;
        let (request, wanted) = match step {
            Step::Create(wanted) | Step::Update(_, wanted, _) => {
                let path = HookPath { key: (*key).clone(), generation: wanted.generation };
                let bound = platform.delivery.secret_per_scope().then_some(wanted.scope.as_str());
                let secret = ring.signing().webhook_secret(&path, bound);
                let request = match step {
                    Step::Update(id, ..) => hooks.update(access, id, &wanted.scope, &wanted.url, &secret)?,
                    _ => hooks.create(access, &wanted.scope, &wanted.url, &secret)?,
                };
                (request, wanted)
            }
            Step::Delete(id, scope, why) => {
                let response = self.call(at, hooks.delete(access, id)?).await?;
                hooks.deleted(&response, now)?;
                // Where another one of its scope stays, the record is of that one by now.
                if *why != Why::Duplicate && records.get(scope).is_some_and(|record| record.id == *id) {
                    self.connections.remove_subscription(key, scope).await?;
                }
                telemetry::emit(
                    &json!({ "level": "INFO", "event": "subscription-deleted", "connection": key.to_string(), "scope": scope, "id": id }),
                );
                return Ok(());
            }
        };
        let response = self.call(at, request).await?;
        let saved = hooks.saved(&response, now)?;
        let record = SubscriptionRecord {
            scope: wanted.scope.clone(),
            id: saved.id,
            url: wanted.url.clone(),
            key_id: wanted.key_id.clone(),
            generation: wanted.generation,
        };
        self.connections.save_subscription(key, &record).await?;
        telemetry::emit(
            &json!({ "level": "INFO", "event": "subscription-set", "connection": key.to_string(), "scope": record.scope, "id": record.id }),
        );
        Ok(())
    }
}

/// Whether the hooks of a connection are managed here: where its settings want none, and none was ever made, they may have been
/// entered by hand.
fn manages(platform: &Platform, hooks: &dyn Hooks, connection: &Connection, loaded: &Loaded) -> bool {
    !hooks.wanted(platform.mapping, &connection.settings).is_empty() || !loaded.subscriptions.is_empty()
}

fn not_connected(key: &ConnectionKey) -> Problem {
    Problem::NotFound(format!("{key} is not connected; connect it with PUT"))
}

/// The generation that a connection has after being connected; raised when it had been disconnected before, so that secrets
/// and hooks of its former life count no more.
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
    Ok(before.generation)
}

fn plan_json(plan: &Plan) -> Value {
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

/// The subscriptions at the store that are ours, and the declared scopes that have none.
fn subscriptions_json(
    wanted: &[String],
    ours: &[Subscription],
    records: &BTreeMap<String, SubscriptionRecord>,
) -> Value {
    let missing = wanted
        .iter()
        .filter(|scope| !ours.iter().any(|hook| hook.scope == **scope))
        .map(|scope| json!({ "scope": scope, "status": "missing" }));
    let shown = ours.iter().map(|hook| {
        let record = records.get(&hook.scope).filter(|record| record.id == hook.id);
        json!({
            "scope": hook.scope,
            "id": hook.id,
            "status": hook.status.as_str(),
            "url": hook.url,
            "key_id": record.map(|record| &record.key_id),
            "generation": record.map(|record| record.generation),
        })
    });
    shown.chain(missing).collect()
}
