//! Running what [`crate::reconcile`] plans: the calls that manage the webhooks of one connection.

use std::collections::{BTreeMap, BTreeSet};

use cloud::{
    connections::{Connections, Loaded, Vault},
    coordination::{Coordination, Note},
    outbound::Outbound,
    telemetry,
};
use commerce::{
    connection::{Connection, ConnectionStatus},
    health::{Health, Verdict, WebhookRecord},
    http_call::{ApiRequest, ApiResponse, Fault},
    job::Trigger,
    key::ConnectionKey,
    keys::{KeyRing, WebhookSecret},
    platform::{
        Platform,
        notice::{NOTICE, NOTICE_SECONDS, Notice, WITHOUT_RIGHTS},
        pull::Access,
        webhooks::{Desired, Page, Saving, Webhook, WebhookApi, read_webhook_page},
    },
    request::WebhookPath,
    timestamp::Timestamp,
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    Parts, Registrar,
    connect::{changed, is_alive},
    controller::{Judged, Look},
    health,
    problem::Problem,
    reconcile::{Ownership, Plan, Step, Wanted, Why, reconcile},
};

/// How many webhooks are made side by side. API Gateway waits for 30 s, and a store pings us while it answers.
const CONCURRENCY: usize = 5;
/// How old the ring may be that webhooks are made with, in seconds.
pub(crate) const RING_SECONDS: i64 = 60;
/// More pages than any store has; a store that says it has more is not followed for ever.
const MAX_PAGES: u32 = 100;
/// How long after a webhook was made anew its former one may deliver what was queued before, in seconds,
const STRAGGLES_SECONDS: i64 = 3600;
/// and how often one is made anew at most.
const REMADE_SECONDS: i64 = 86_400;
/// More ways of calling than any platform has.
const MAX_WAYS: usize = 4;
/// More calls than changing a webhook takes.
const MAX_CALLS: usize = 5;

/// A connection at its platform, as its calls need it.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub platform: &'a Platform,
    pub key: &'a ConnectionKey,
    pub access: Access<'a>,
}

impl<P: Parts> Registrar<P> {
    /// A connection's credentials in the clear; none where it has none.
    pub(crate) async fn open(
        &self,
        key: &ConnectionKey,
        connection: &Connection,
    ) -> Result<Option<Zeroizing<String>>, Problem> {
        let Some(cipher) = &connection.credentials else { return Ok(None) };
        Ok(Some(Zeroizing::new(self.edges.vault.decrypt(key, cipher).await?)))
    }

    /// Runs one call, to the platform's own host only.
    pub(crate) async fn call(&self, at: At<'_>, request: ApiRequest) -> Result<ApiResponse, Fault> {
        at.platform.hosts.check(at.access.site, &request, self.allow_loopback)?;
        self.edges.outbound.call(request).await
    }

    /// Every page of what is subscribed at the store.
    pub(crate) async fn list(&self, at: At<'_>, webhooks: &dyn WebhookApi) -> Result<Vec<Webhook>, Fault> {
        self.reach(at, webhooks, false).await.map(|(webhooks, _)| webhooks)
    }

    /// The same, with the settings that it took where they are not the present ones: see [`WebhookApi::another_way`].
    pub(crate) async fn reach(
        &self,
        at: At<'_>,
        webhooks: &dyn WebhookApi,
        connecting: bool,
    ) -> Result<(Vec<Webhook>, Option<Map<String, Value>>), Fault> {
        let (first, other) = self.first_page(at, webhooks, connecting).await?;
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
        if more {
            Err(Fault::Unreadable(format!("more than {MAX_PAGES} pages of subscriptions")))
        } else {
            Ok((all, other))
        }
    }

    /// The first page of what is subscribed at the store, with the settings that it took where they are not the present ones.
    pub(crate) async fn first_page(
        &self,
        at: At<'_>,
        webhooks: &dyn WebhookApi,
        connecting: bool,
    ) -> Result<(Page, Option<Map<String, Value>>), Fault> {
        let mut other: Option<Map<String, Value>> = None;
        for way in 0..MAX_WAYS {
            let access = Access { settings: other.as_ref().unwrap_or(at.access.settings), ..at.access };
            let response = self.call(At { access, ..at }, webhooks.list(&access, 1)?).await?;
            let fault = match read_webhook_page(webhooks, &response, 1, (self.clock)()) {
                Ok(page) => return Ok((page, other)),
                Err(fault) => fault,
            };
            let next = webhooks.another_way(&access, &response, connecting).filter(|_| way + 1 < MAX_WAYS);
            other = Some(next.ok_or(fault)?);
        }
        Err(Fault::Unreadable("a platform that is to be called in ever another way".into()))
    }

    /// All base URLs that this deployment ever used. Ours is written down before the first webhook delivers there; once is enough, for
    /// those of before do not change any more.
    pub(crate) async fn base_urls(&self) -> Result<&BTreeSet<String>, Problem> {
        if let Some(known) = self.base_urls.get() {
            return Ok(known);
        }
        let all = self.edges.connections.base_urls(&self.public_base_url).await?;
        Ok(self.base_urls.get_or_init(|| all))
    }

    /// What there should be of a connection's webhooks, compared with what there is.
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

    /// What there should be of a connection's webhooks.
    fn wanted(&self, at: At<'_>, webhooks: &dyn WebhookApi, connection: &Connection, ring: &KeyRing) -> Vec<Wanted> {
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
                active: connection.status != ConnectionStatus::Paused,
            })
            .collect()
    }

    /// Puts into a plan that webhooks are made anew which deliver refusals, for whoever owns them at the platform has lost his rights: a new
    /// one is the connection's own user's. Gives their scopes. At most once a day each, and not for what the former one still delivers.
    async fn make_anew(&self, look: &Look<'_>, judged: &mut Judged, plan: &mut Plan) -> Result<Vec<String>, Problem> {
        let (key, now) = (look.at.key, (self.clock)());
        let mut anew = Vec::new();
        if look.why != Trigger::Told || look.connection.status == ConnectionStatus::Paused {
            return Ok(anew);
        }
        let prefix = format!("{NOTICE}{WITHOUT_RIGHTS}");
        let notes = self.edges.notes.notes(key, &prefix).await?;
        let wanted = self.wanted(look.at, look.webhooks, look.connection, look.ring);
        for (name, note) in notes.into_iter().filter(|(_, note)| note.is_live(now)) {
            let scope = name.strip_prefix(&prefix).unwrap_or_default();
            let Ok(notice) = serde_json::from_str::<Notice>(&note.body) else { continue };
            let Some(wanted) = wanted.iter().find(|wanted| wanted.scope == scope) else { continue };
            let Some(record) = judged.records.get_mut(scope).filter(|_| plan.kept.iter().any(|kept| kept == scope))
            else {
                continue;
            };
            let before = self.edges.notes.note(key, &remade(scope)).await?;
            let before = before.and_then(|note| Some(Timestamp::from_micros(note.body.parse().ok()?)));
            let again = |at: Timestamp| {
                notice.received > at.plus_seconds(STRAGGLES_SECONDS) && now > at.plus_seconds(REMADE_SECONDS)
            };
            if !before.is_none_or(again) {
                continue;
            }
            let reason = "it delivered refusals: the user who owns it at the platform has lost his rights";
            let good_at = record.health.good_at;
            if let Some(bad) = health::turned_bad(&record.health, Verdict::Missing, reason, good_at, now) {
                record.health = bad;
                self.edges.connections.save_webhook(key, record).await?;
                telemetry::warn("subscription-without-rights", &format!("{key} {scope}"));
            }
            plan.kept.retain(|kept| kept != scope);
            plan.steps.insert(0, Step::Create(wanted.clone()));
            plan.steps.push(Step::Delete(record.id.clone(), scope.to_owned(), Why::Duplicate));
            anew.push(scope.to_owned());
        }
        Ok(anew)
    }

    /// Remembers that webhooks were made anew. Without the note, it may be done once more.
    async fn note_made_anew(&self, key: &ConnectionKey, scopes: &[String]) -> Result<(), Problem> {
        let now = (self.clock)();
        for scope in scopes {
            let name = remade(scope);
            let revision = self.edges.notes.note(key, &name).await?.map_or(0, |note| note.revision) + 1;
            let note = Note { body: now.micros().to_string(), revision, expires: now.seconds() + NOTICE_SECONDS };
            self.edges.notes.keep(key, &name, &note).await?;
        }
        Ok(())
    }

    /// Makes the webhooks of a connection what they should be: `existing` are those that there are, and `why` is who wants it. Gives what
    /// was done.
    pub(crate) async fn converge(
        &self,
        at: At<'_>,
        webhooks: &dyn WebhookApi,
        connection: &Connection,
        before: &Loaded,
        existing: &[Webhook],
        why: Trigger,
    ) -> Result<Plan, Problem> {
        // A key that has begun to sign was known everywhere for a minute before that (`rotation::KNOWN_SECONDS`), and the one before it
        // proves for days after: a ring of a minute ago makes no webhook that is refused, and the next sweep sees what it has missed.
        let ring = self.edges.signing_keys.recent((self.clock)(), RING_SECONDS).await?;
        let mut plan = self.plan(at, webhooks, connection, &before.webhooks, existing, &ring).await?;
        let look = Look { at, webhooks, connection, before, existing, ring: &ring, why };
        let mut judged = self.judge(&look, &mut plan).await?;
        let anew = self.make_anew(&look, &mut judged, &mut plan).await?;
        let mut run = self.run_plan(at, webhooks, &ring, &judged.records, &plan).await;
        if run.is_ok() {
            self.note_made_anew(at.key, &anew).await?;
        }
        let mut good = good_after(&plan, run.is_ok());
        // What cannot be made may be there already: a create whose answer was lost, for one. Anything else will fail again.
        let refused = matches!(run, Err(Problem::Refused(_)));
        let made = run.is_ok() && plan.steps.iter().any(|step| matches!(step, Step::Create(_)));
        if refused || made {
            // Another request may have made the same at the same time: of what is there twice now, one goes.
            let after = self.unchanged(&look).await?;
            let existing = self.list(at, webhooks).await?;
            let mut again = self.plan(at, webhooks, connection, &after.webhooks, &existing, &ring).await?;
            // What was not to be switched on the first time is not now.
            again.steps.retain(|step| match step {
                Step::Update(_, wanted, _) if judged.held.contains(&wanted.scope) => false,
                Step::Update(_, _, Why::Inactive) => plan.steps.contains(step),
                _ => true,
            });
            run = self.run_plan(at, webhooks, &ring, &after.webhooks, &again).await;
            good = good_after(&again, run.is_ok());
        }
        // What is right is noted even where something else could not be made so: it delivers already.
        let after = match plan.steps.is_empty() {
            true => before.clone(),
            false => self.unchanged(&look).await?,
        };
        self.note_webhooks(webhooks, at.key, connection, &after).await?;
        self.settle(&look, &after, &good).await?;
        run.map(|()| plan)
    }

    /// What is known of a connection after some of its webhooks were made, if they are what it wants still. Whoever has disconnected it
    /// meanwhile may not have seen them, and with the credentials in hand they can still be removed.
    async fn unchanged(&self, look: &Look<'_>) -> Result<Loaded, Problem> {
        let (at, planned) = (look.at, look.connection);
        let after = self.edges.connections.load(at.key).await?;
        let same = |now: &&Connection| now.status == planned.status && now.generation == planned.generation;
        if after.connection.as_ref().filter(same).is_some() {
            return Ok(after);
        }
        if !after.connection.as_ref().is_some_and(is_alive) {
            let existing = self.list(at, look.webhooks).await?;
            let mut records = look.before.webhooks.clone();
            records.extend(after.webhooks.clone());
            let ownership = Ownership { key: at.key, base_urls: self.base_urls().await?, records: &records };
            let plan = reconcile(&[], &existing, &ownership);
            self.run_plan(at, look.webhooks, look.ring, &records, &plan).await?;
            for scope in after.webhooks.keys() {
                self.edges.connections.remove_webhook(at.key, scope).await?;
            }
        }
        Err(changed(at.key))
    }

    /// Keeps in the connection's record what follows from its webhooks: which are its own, where the platform wants that (those that there
    /// are now, and not those that have just been removed), and with which key all of them are signed.
    async fn note_webhooks(
        &self,
        webhooks: &dyn WebhookApi,
        key: &ConnectionKey,
        basis: &Connection,
        loaded: &Loaded,
    ) -> Result<(), Problem> {
        let Some(mut connection) = loaded.connection.clone() else { return Ok(()) };
        let mut keys: Vec<_> = loaded.webhooks.values().map(|record| record.key_id.clone()).collect();
        keys.sort();
        keys.dedup();
        let ids: Vec<_> = loaded.webhooks.values().map(|record| record.id.clone()).collect();
        // What another request has set meanwhile stays.
        let own = if connection.revision == basis.revision { &basis.settings } else { &connection.settings };
        let settings = webhooks.settings_with(own.clone(), &ids);
        let signed_with = if keys.len() == 1 { keys.pop() } else { None };
        if settings == connection.settings && signed_with == connection.signed_with {
            return Ok(());
        }
        (connection.settings, connection.signed_with) = (settings, signed_with);
        self.save(key, &mut connection).await
    }

    /// Runs a plan: what makes first, side by side; what removes when all of that is done. Each step is recorded at once. One
    /// that fails does not keep the others from being done, but its fault is the answer.
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
                            return Err(
                                Fault::Unreadable("a subscription that takes more calls than any".into()).into()
                            );
                        }
                        Saving::Ask(request) => answers.push(self.call(at, request).await?),
                    }
                };
                (saved, wanted)
            }
            Step::Delete(id, scope, why) => {
                let response = self.call(at, webhooks.delete(access, id)?).await?;
                webhooks.deleted(&response, (self.clock)())?;
                // Where another one of its scope stays, the record is of that one by now.
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

/// The secret of a webhook, derived from the key that signs.
pub(crate) fn secret_of(platform: &Platform, path: &WebhookPath, scope: &str, ring: &KeyRing) -> WebhookSecret {
    ring.signing().webhook_secret(path, platform.delivery.secret_per_scope().then_some(scope))
}

/// The name of the note of when the webhook of a scope was made anew.
fn remade(scope: &str) -> String {
    format!("remade#{scope}")
}

/// The scopes whose webhook is as it should be after a plan was run.
fn good_after(plan: &Plan, done: bool) -> BTreeSet<String> {
    let set = plan.steps.iter().filter(|_| done).filter_map(|step| match step {
        Step::Create(wanted) | Step::Update(_, wanted, _) => Some(&wanted.scope),
        Step::Delete(..) => None,
    });
    set.chain(&plan.kept).cloned().collect()
}

/// Whether the webhooks of a connection are managed here: where its settings want none, and none was ever made, they may have been
/// entered by hand.
pub(crate) fn manages(
    platform: &Platform,
    webhooks: &dyn WebhookApi,
    connection: &Connection,
    loaded: &Loaded,
) -> bool {
    !webhooks.wanted(platform, &connection.settings).is_empty() || !loaded.webhooks.is_empty()
}
