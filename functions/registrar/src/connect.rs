//! The connecting of a store, by an operator or by an app's installation.

use cloud::{
    connections::{Connections, Loaded, Vault},
    proof_keys::KeepProofKeys,
    queue::Jobs,
    senders::KeepSenders,
};
use commerce::{
    connection::{Connection, ConnectionStatus},
    job::{Job, Trigger},
    key::{ConnectionKey, Generation},
    keys::BroughtKey,
    platform::{
        Platform,
        pull::Access,
        settings::{OwnSender, Settings},
        webhooks::{Desired, Occasion, Saving, WebhookApi, WebhookStatus},
    },
    request::WebhookPath,
};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::{
    Parts, Registrar,
    jobs::LATER,
    problem::Problem,
    reconcile::Plan,
    webhooks::{At, manages, secret_of},
};

/// The terms on which a store is connected.
#[derive(Clone, Copy)]
struct Admitted {
    generation: Generation,
    unconfirmed: bool,
}

/// The way in which a store connects itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Installed {
    /// `true` when the platform itself gave the credentials just now, so that no call has to prove them.
    pub proven: bool,
    /// `true` when the vendor let it in. Otherwise an operator has to confirm it.
    pub invited: bool,
}

impl<P: Parts> Registrar<P> {
    /// Connects a store: proves its credentials, keeps them, and makes the webhooks. The call is idempotent. Returns
    /// the plan that was run at the store, where webhooks are made there.
    pub(crate) async fn connect(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        body: &[u8],
    ) -> Result<Option<Plan>, Problem> {
        self.take(platform, key, body, None).await
    }

    /// Connects a store whose merchant installs an app. The registrar's own queue makes the webhooks, because the store
    /// may be waiting for an answer before it can take any call.
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
        let mut settings = commerce::platform::settings::settings(platform, key, body, self.loopback)?;
        let before = self.edges.connections.load(key).await?;
        if installed.is_some()
            && let Some(alive) = before.connection.as_ref().filter(|before| before.is_connected())
        {
            // The operator's settings for the store are not the merchant's to change.
            settings.deletes.clone_from(&alive.deletes);
            settings.ignores.clone_from(&alive.ignores);
            settings.presets.clone_from(&alive.presets);
            settings.polls.clone_from(&alive.polls);
            settings.retention = alive.retention;
        }
        if installed.is_some_and(|installed| !installed.proven)
            && let Some(other) = before.connection.as_ref().filter(|before| before.site != settings.site)
        {
            // Only an operator knows whether the one site succeeds the other.
            return Err(Problem::Conflict(format!(
                "{key} is or was a connection to {}; connect it with PUT",
                other.site
            )));
        }
        let generation = next_generation(before.connection.as_ref(), &settings)?;
        // A store that an operator connects is confirmed by that, and a confirmed one stays so.
        let confirmed = before.connection.as_ref().is_some_and(|before| before.is_connected() && !before.unconfirmed);
        let unconfirmed = installed.is_some_and(|installed| !installed.invited) && !confirmed;
        let admitted = Admitted { generation, unconfirmed };
        let brought: Vec<_> = settings.brought.iter().map(|key| platform.delivery.scheme().brought_key(key)).collect();
        let Some(credentials) = &settings.credentials else {
            // Without credentials nothing is made at the store; somebody enters the webhooks by hand.
            self.keep(key, before.connection.as_ref(), &settings, admitted, None, settings.own.clone()).await?;
            self.keep_keys(key, generation, &brought, settings.sender.as_ref()).await?;
            return Ok(None);
        };
        let at = At { platform, key, access: Access { site: &settings.site, credentials, settings: &settings.own } };
        // Where a call is needed anyway, it proves the credentials.
        let (existing, other) =
            match platform.setup.webhooks().filter(|_| !installed.is_some_and(|installed| installed.proven)) {
                Some(webhooks) if installed.is_some() => (None, self.prove(at, webhooks, &before).await?),
                Some(webhooks) => {
                    let (existing, other) = self.reach(at, webhooks, Occasion::Connecting).await?;
                    (Some((webhooks, existing)), other)
                }
                None => (None, None),
            };
        let other = other.unwrap_or_else(|| settings.own.clone());
        let at = At { access: Access { settings: &other, ..at.access }, ..at };
        let cipher = self.seal(key, before.connection.as_ref(), credentials).await?;
        // The former webhooks are the connection's own until there are others.
        let own = match platform.setup.webhooks() {
            Some(webhooks) => {
                let ids: Vec<_> = before.webhooks.values().map(|record| record.id.clone()).collect();
                webhooks.settings_with(other.clone(), &ids)
            }
            None => other.clone(),
        };
        let connection = self.keep(key, before.connection.as_ref(), &settings, admitted, Some(cipher), own).await?;
        self.keep_keys(key, generation, &brought, settings.sender.as_ref()).await?;
        // The registrar's own queue does the rest: the remaining webhooks, and the backfill. It waits while webhooks
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

    /// Keeps the keys that the client brought, and the declared sender with its own.
    async fn keep_keys(
        &self,
        key: &ConnectionKey,
        generation: Generation,
        brought: &[BroughtKey],
        sender: Option<&OwnSender>,
    ) -> Result<(), Problem> {
        self.edges.proof_keys.replace(key, brought).await?;
        if let Some(sender) = sender {
            let path = WebhookPath { key: key.clone(), generation };
            let record = sender.at(&format!("{}{path}", self.public_base_url));
            self.edges.senders.keep_sender(key, Some(&record)).await?;
        }
        Ok(())
    }

    /// Proves credentials that anybody may have sent, with as few calls as possible: by one page of the webhooks, and
    /// where they would replace good credentials, by setting a webhook of ours to what it is, because read-only
    /// credentials must not take the place. Returns the settings that the calls needed, if they differ.
    async fn prove(
        &self,
        at: At<'_>,
        webhooks: &dyn WebhookApi,
        before: &Loaded,
    ) -> Result<Option<Map<String, Value>>, Problem> {
        let (page, other) = self.first_page(at, webhooks, Occasion::Connecting).await?;
        let access = Access { settings: other.as_ref().unwrap_or(at.access.settings), ..at.access };
        let (at, listed) = (At { access, ..at }, page.webhooks);
        let alive = before.connection.as_ref().filter(|alive| alive.is_connected() && alive.credentials.is_some());
        let Some(alive) = alive else { return Ok(other) };
        let active = alive.status == ConnectionStatus::Active;
        let ring = self.edges.signing_keys.fresh((self.clock)()).await?;
        let as_it_is = before.webhooks.values().find(|record| {
            // A webhook that a rotation may be moving right now is left alone.
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

    /// Confirms a store that has connected itself: from now on, all of it is fetched. Repeating the call changes
    /// nothing.
    pub(crate) async fn confirm(&self, key: &ConnectionKey) -> Result<(), Problem> {
        let (loaded, mut connection) = self.living(key).await?;
        if connection.unconfirmed {
            connection.unconfirmed = false;
            self.save(key, &mut connection).await?;
            let waiting = loaded.cursors.values().filter(|cursor| cursor.run.is_some());
            let polls = waiting.map(|cursor| (Job::Poll { key: key.clone(), entity: cursor.entity }, 0));
            let jobs: Vec<_> = polls.chain([(Job::check(key, Trigger::Connected), 0)]).collect();
            self.edges.jobs.send_jobs(&jobs).await?;
        }
        Ok(())
    }

    /// Returns the credentials encrypted. The same credentials keep their ciphertext, because encrypting never gives
    /// the same twice.
    async fn seal(&self, key: &ConnectionKey, before: Option<&Connection>, plain: &str) -> Result<String, Problem> {
        if let Some(cipher) = before.and_then(|connection| connection.credentials.as_ref()) {
            let known = self.edges.vault.decrypt(key, cipher).await.map(Zeroizing::new);
            if known.is_ok_and(|known| known.as_str() == plain) {
                return Ok(cipher.clone());
            }
        }
        Ok(self.edges.vault.encrypt(key, plain).await?)
    }

    /// Writes the connection's record if it differs.
    async fn keep(
        &self,
        key: &ConnectionKey,
        before: Option<&Connection>,
        settings: &Settings,
        Admitted { generation, unconfirmed }: Admitted,
        credentials: Option<String>,
        own: Map<String, Value>,
    ) -> Result<Connection, Problem> {
        // A second installation starts clean, except for numbers that must never come again and the policies of
        // existing items.
        let alive = before.filter(|before| before.is_connected());
        // With other credentials the store was connected anew, and earlier reports about it are past.
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
            redacts: before.is_some_and(|before| before.redacts),
            ..Connection::new(&settings.site)
        };
        connection.set_deletes(settings.deletes.clone());
        if before != Some(&connection) {
            self.save(key, &mut connection).await?;
        }
        Ok(connection)
    }
}

/// Returns the generation of a connection after it is connected. It is raised when the store was disconnected before,
/// or was about to be, so that secrets and webhooks of its former life no longer count.
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
            "this connection has credentials and webhooks made with them; send the credentials, or disconnect it with \
             DELETE first"
                .into(),
        ));
    }
    // A connection that is being disconnected may have webhooks left. They move to the new generation.
    Ok(if before.is_connected() { before.generation } else { before.generation.next() })
}
