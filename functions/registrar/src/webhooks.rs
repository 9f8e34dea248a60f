//! The calls that manage the webhooks of one connection, by the plans of [`crate::reconcile`].

use std::collections::{BTreeMap, BTreeSet};

use cloud::{
    connections::{Connections, Loaded, Vault},
    outbound::Outbound,
    telemetry,
};
use commerce::{
    connection::{Connection, ConnectionStatus},
    health::{Health, WebhookRecord},
    http_call::{ApiRequest, ApiResponse, Fault},
    key::ConnectionKey,
    keys::{KeyRing, WebhookSecret},
    platform::{
        Platform,
        pull::Access,
        webhooks::{Desired, Occasion, Page, Saving, Webhook, WebhookApi, read_webhook_page},
    },
    request::WebhookPath,
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    Parts, Registrar,
    problem::Problem,
    reconcile::{Ownership, Plan, Step, Wanted, Why, reconcile},
};

/// The number of webhooks made side by side. API Gateway waits for 30 s, and a store pings us while it answers.
const CONCURRENCY: usize = 5;
/// The greatest age of the key ring that webhooks are made with, in seconds.
pub(crate) const RING_SECONDS: i64 = 60;
/// The most pages of webhooks: more than any store has, so that a list without end is not followed for ever.
const MAX_PAGES: u32 = 100;
/// The most ways of calling a platform: more than any has.
const MAX_WAYS: usize = 4;
/// The most calls that change a webhook: more than any change takes.
const MAX_CALLS: usize = 5;

/// A connection at its platform, with what its calls need.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub platform: &'a Platform,
    pub key: &'a ConnectionKey,
    pub access: Access<'a>,
}

impl<P: Parts> Registrar<P> {
    /// Returns a connection's credentials in the clear, or `None` when it has none.
    pub(crate) async fn open(
        &self,
        key: &ConnectionKey,
        connection: &Connection,
    ) -> Result<Option<Zeroizing<String>>, Problem> {
        let Some(cipher) = &connection.credentials else { return Ok(None) };
        Ok(Some(Zeroizing::new(self.edges.vault.decrypt(key, cipher).await?)))
    }

    /// Makes one call, to the platform's own hosts only.
    pub(crate) async fn call(&self, at: At<'_>, request: ApiRequest) -> Result<ApiResponse, Fault> {
        at.platform.hosts.check(at.access.site, &request, self.loopback)?;
        self.edges.outbound.call(request).await
    }

    /// Returns all webhooks at the store.
    pub(crate) async fn list(&self, at: At<'_>, webhooks: &dyn WebhookApi) -> Result<Vec<Webhook>, Fault> {
        self.reach(at, webhooks, Occasion::Routine).await.map(|(webhooks, _)| webhooks)
    }

    /// Returns all webhooks at the store, with the settings that the calls needed if they are not the present ones: see
    /// [`WebhookApi::another_way`].
    pub(crate) async fn reach(
        &self,
        at: At<'_>,
        webhooks: &dyn WebhookApi,
        occasion: Occasion,
    ) -> Result<(Vec<Webhook>, Option<Map<String, Value>>), Fault> {
        let (first, other) = self.first_page(at, webhooks, occasion).await?;
        let settings = other.as_ref().unwrap_or(at.access.settings);
        let at = At { access: Access { settings, ..at.access }, ..at };
        let (mut all, mut more) = (first.webhooks, first.more);
        for page in 2..=MAX_PAGES {
            if !more {
                return Ok((all, other));
            }
            let response = self.call(at, webhooks.list(&at.access, page)?).await?;
            let listed = read_webhook_page(webhooks, &response, page, (self.clock)())?;
            all.extend(listed.webhooks);
            more = listed.more;
        }
        if more { Err(Fault::Unreadable(format!("more than {MAX_PAGES} pages of webhooks"))) } else { Ok((all, other)) }
    }

    /// Returns the first page of the webhooks at the store, with the settings that the call needed if they are not the
    /// present ones.
    pub(crate) async fn first_page(
        &self,
        at: At<'_>,
        webhooks: &dyn WebhookApi,
        occasion: Occasion,
    ) -> Result<(Page, Option<Map<String, Value>>), Fault> {
        let mut other: Option<Map<String, Value>> = None;
        for way in 0..MAX_WAYS {
            let access = Access { settings: other.as_ref().unwrap_or(at.access.settings), ..at.access };
            let response = self.call(At { access, ..at }, webhooks.list(&access, 1)?).await?;
            let fault = match read_webhook_page(webhooks, &response, 1, (self.clock)()) {
                Ok(page) => return Ok((page, other)),
                Err(fault) => fault,
            };
            let next = webhooks.another_way(&access, &response, occasion).filter(|_| way + 1 < MAX_WAYS);
            other = Some(next.ok_or(fault)?);
        }
        Err(Fault::Unreadable("a platform that is to be called in ever another way".into()))
    }

    /// Returns all base URLs that this deployment ever used. Ours is recorded before the first webhook delivers there.
    /// One call is enough, because the earlier ones no longer change.
    pub(crate) async fn base_urls(&self) -> Result<&BTreeSet<String>, Problem> {
        if let Some(known) = self.base_urls.get() {
            return Ok(known);
        }
        let all = self.edges.connections.base_urls(&self.public_base_url).await?;
        Ok(self.base_urls.get_or_init(|| all))
    }

    /// Returns the plan that makes the webhooks at the store those that are wanted.
    pub(crate) async fn plan(
        &self,
        at: At<'_>,
        webhooks: &dyn WebhookApi,
        connection: &Connection,
        records: &BTreeMap<String, WebhookRecord>,
        existing: &[Webhook],
        ring: &KeyRing,
    ) -> Result<Plan, Problem> {
        let wanted = self.wanted(at, webhooks, connection, ring);
        let base_urls = self.base_urls().await?;
        Ok(reconcile(&wanted, existing, &Ownership { key: at.key, base_urls, records }))
    }

    /// Returns the webhooks that are wanted for a connection.
    pub(crate) fn wanted(
        &self,
        at: At<'_>,
        webhooks: &dyn WebhookApi,
        connection: &Connection,
        ring: &KeyRing,
    ) -> Vec<Wanted> {
        let path = WebhookPath { key: at.key.clone(), generation: connection.generation };
        let delivery_url = format!("{}{path}", self.public_base_url);
        webhooks
            .wanted(at.platform, &connection.settings)
            .into_iter()
            .map(|scope| Wanted {
                url: webhooks.url(&scope, &delivery_url),
                fingerprint: secret_of(at.platform, &path, &scope, ring).fingerprint(),
                scope,
                key_id: ring.signing().id().to_owned(),
                generation: connection.generation,
                active: connection.status != ConnectionStatus::Paused || !webhooks.switches(),
            })
            .collect()
    }

    /// Runs a plan: first the steps that make or change, side by side; then those that remove, if all of the first
    /// succeeded. Each step is recorded at once. A step that fails does not keep the steps beside it from being done,
    /// but its fault is returned.
    pub(crate) async fn run_plan(
        &self,
        at: At<'_>,
        webhooks: &dyn WebhookApi,
        ring: &KeyRing,
        records: &BTreeMap<String, WebhookRecord>,
        plan: &Plan,
    ) -> Result<(), Problem> {
        let removes = |step: &&Step| matches!(step, Step::Delete(..));
        let (removing, making): (Vec<_>, Vec<_>) = plan.steps.iter().partition(removes);
        for steps in [making, removing] {
            // Boxed, because the compiler cannot see that these futures are `Send` for every lifetime of a step.
            let mut running: Vec<BoxFuture<'_, _>> = Vec::with_capacity(steps.len());
            for step in steps {
                running.push(self.step(at, webhooks, ring, records, step).boxed());
            }
            let done: Vec<_> = stream::iter(running).buffer_unordered(CONCURRENCY).collect().await;
            done.into_iter().collect::<Result<(), Problem>>()?;
        }
        Ok(())
    }

    async fn step(
        &self,
        at: At<'_>,
        webhooks: &dyn WebhookApi,
        ring: &KeyRing,
        records: &BTreeMap<String, WebhookRecord>,
        step: &Step,
    ) -> Result<(), Problem> {
        let At { platform, key, access } = &at;
        let secret = |wanted: &Wanted| {
            let path = WebhookPath { key: (*key).clone(), generation: wanted.generation };
            secret_of(platform, &path, &wanted.scope, ring)
        };
        let (saved, wanted) = match step {
            Step::Create(wanted) => {
                let request = webhooks.create(access, &wanted.scope, &wanted.url, &secret(wanted))?;
                (webhooks.saved(&self.call(at, request).await?, (self.clock)())?, wanted)
            }
            Step::Update(id, wanted, _) => {
                let secret = secret(wanted);
                let Wanted { scope, url, active, .. } = wanted;
                let desired = Desired { scope, url, secret: &secret, active: *active };
                let mut answers = Vec::new();
                let saved = loop {
                    match webhooks.update(access, id, &desired, &answers, (self.clock)())? {
                        Saving::Done(saved) => break saved,
                        Saving::Ask(_) if answers.len() == MAX_CALLS => {
                            return Err(Fault::Unreadable("a webhook that takes more calls than any".into()).into());
                        }
                        Saving::Ask(request) => answers.push(self.call(at, request).await?),
                    }
                };
                (saved, wanted)
            }
            Step::Delete(id, scope, why) => {
                let response = self.call(at, webhooks.delete(access, id)?).await?;
                webhooks.deleted(&response, (self.clock)())?;
                // If another webhook of the topic stays, the record is already that one's.
                if *why != Why::Duplicate && records.get(scope).is_some_and(|record| record.id == *id) {
                    self.edges.connections.remove_webhook(key, scope).await?;
                }
                telemetry::emit(
                    &json!({ "level": "INFO", "event": "subscription-deleted", "connection": key.to_string(), "scope": scope, "id": id }),
                );
                return Ok(());
            }
        };
        let record = WebhookRecord {
            scope: wanted.scope.clone(),
            id: saved.id,
            url: wanted.url.clone(),
            key_id: wanted.key_id.clone(),
            fingerprint: Some(wanted.fingerprint.clone()),
            generation: wanted.generation,
            health: records
                .get(&wanted.scope)
                .map_or_else(|| Health::new((self.clock)()), |record| record.health.clone()),
        };
        self.edges.connections.save_webhook(key, &record).await?;
        telemetry::emit(
            &json!({ "level": "INFO", "event": "subscription-set", "connection": key.to_string(), "scope": record.scope, "id": record.id }),
        );
        Ok(())
    }
}

/// Derives the secret of a webhook from the key that signs.
pub(crate) fn secret_of(platform: &Platform, path: &WebhookPath, scope: &str, ring: &KeyRing) -> WebhookSecret {
    ring.signing().webhook_secret(path, platform.delivery.secret_per_scope().then_some(scope))
}

/// Returns whether the webhooks of a connection are managed here. If its settings want none, and none was ever made,
/// somebody may have entered them by hand.
pub(crate) fn manages(
    platform: &Platform,
    webhooks: &dyn WebhookApi,
    connection: &Connection,
    loaded: &Loaded,
) -> bool {
    !webhooks.wanted(platform, &connection.settings).is_empty() || !loaded.webhooks.is_empty()
}
