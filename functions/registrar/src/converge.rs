//! The convergence of a connection's webhooks to what they should be: observe, [decide](crate::decide), act, record.

use cloud::{
    connections::{Connections, Loaded},
    coordination::{Coordination, Terms, update},
    telemetry,
};
use commerce::{
    connection::Connection,
    health::Verdict,
    job::Trigger,
    key::ConnectionKey,
    platform::{
        Platform,
        notice::{NOTICE, NOTICE_SECONDS, Notice, WITHOUT_RIGHTS},
        webhooks::{Webhook, WebhookApi},
    },
    request::WebhookPath,
    timestamp::Timestamp,
};
use serde_json::json;

use crate::{
    Parts, Registrar,
    decide::{Actions, Event, Missed, News, Observed, Refusing, decide, follow_up, good_after, settle},
    problem::Problem,
    reconcile::{Ownership, Plan, Step, reconcile},
    records::changed,
    webhooks::{At, RING_SECONDS},
};

impl<P: Parts> Registrar<P> {
    /// Makes the webhooks of a connection what they should be. `existing` are the webhooks at the store, and `trigger`
    /// is the reason. Returns the plan that was run.
    pub(crate) async fn converge(
        &self,
        at: At<'_>,
        webhooks: &dyn WebhookApi,
        connection: &Connection,
        before: &Loaded,
        existing: &[Webhook],
        trigger: Trigger,
    ) -> Result<Plan, Problem> {
        // A key that begins to sign was known everywhere for a minute before (`rotation::KNOWN_SECONDS`), and the
        // former one proves for days after. So a ring of a minute ago makes no webhook that is refused, and the next
        // sweep sees what it missed.
        let ring = self.edges.signing_keys.recent((self.clock)(), RING_SECONDS).await?;
        let wanted = self.wanted(at, webhooks, connection, &ring);
        let observed = Observed {
            platform: at.platform,
            webhooks,
            connection,
            records: &before.webhooks,
            check: before.check.as_ref(),
            existing,
            wanted: &wanted,
            plan: self.plan(at, webhooks, connection, &before.webhooks, existing, &ring).await?,
            ring: &ring,
            trigger,
            refusing: self.refusing(at.key, trigger).await?,
            now: (self.clock)(),
        };
        let path = WebhookPath { key: at.key.clone(), generation: connection.generation };
        let probe = match observed.wants_probe() {
            true => Some(self.probe(at.platform, &path, &ring).await),
            false => None,
        };
        let actions = decide(&observed, probe.as_ref());
        self.record_news(at, &actions.news).await?;
        let (good, run) = self.act(at, &observed, before, &actions).await?;
        // Webhooks that are right are recorded even if others could not be made so: they already deliver.
        let after = match actions.plan.steps.is_empty() {
            true => before.clone(),
            false => self.unchanged(at, &observed, before).await?,
        };
        self.record_webhooks(webhooks, at.key, connection, &after).await?;
        let activity = self.activity(at.key, connection.generation).await?;
        let settled = settle(&observed, &after.webhooks, &good, &activity);
        for scope in &settled.unfetchable {
            telemetry::emit(&json!({
                "level": "WARN", "event": "missed-cannot-be-fetched", "connection": at.key.to_string(), "scope": scope,
            }));
        }
        self.fetch_missed(at.platform, at.key, settled.missed).await?;
        for record in &settled.records {
            self.edges.connections.save_webhook(at.key, record).await?;
        }
        run.map(|()| actions.plan)
    }

    /// Runs the actions. Returns the topics whose webhooks are as they should be, and the result of the run.
    async fn act(
        &self,
        at: At<'_>,
        observed: &Observed<'_>,
        before: &Loaded,
        actions: &Actions,
    ) -> Result<(std::collections::BTreeSet<String>, Result<(), Problem>), Problem> {
        let Observed { webhooks, connection, ring, .. } = *observed;
        let plan = &actions.plan;
        let run = self.run_plan(at, webhooks, ring, &actions.records, plan).await;
        if run.is_ok() {
            self.note_remade(at.key, &actions.remade).await?;
        }
        // A webhook that cannot be made may be there already, after a create whose answer was lost. Any other fault
        // would recur.
        let refused = matches!(run, Err(Problem::Refused(_)));
        let made = run.is_ok() && plan.steps.iter().any(|step| matches!(step, Step::Create(_)));
        if !refused && !made {
            return Ok((good_after(plan, &run), run));
        }
        // Another request may have made the same webhook at the same time. One of the two goes.
        let after = self.unchanged(at, observed, before).await?;
        let existing = self.list(at, webhooks).await?;
        let again = self.plan(at, webhooks, connection, &after.webhooks, &existing, ring).await?;
        let again = follow_up(again, actions);
        let run = self.run_plan(at, webhooks, ring, &after.webhooks, &again).await;
        Ok((good_after(&again, &run), run))
    }

    /// Returns the webhooks that deliver refusals, if the platform has reported something.
    async fn refusing(&self, key: &ConnectionKey, trigger: Trigger) -> Result<Vec<Refusing>, Problem> {
        let mut refusing = Vec::new();
        if trigger != Trigger::Told {
            return Ok(refusing);
        }
        let (prefix, now) = (format!("{NOTICE}{WITHOUT_RIGHTS}"), (self.clock)());
        let notes = self.edges.notes.notes(key, &prefix).await?;
        for (name, note) in notes.into_iter().filter(|(_, note)| note.is_live(now)) {
            let scope = name.strip_prefix(&prefix).unwrap_or_default().to_owned();
            let Ok(notice) = serde_json::from_str::<Notice>(&note.body) else { continue };
            let before = self.edges.notes.note(key, &remade_note(&scope)).await?;
            let remade = before.and_then(|note| Some(Timestamp::from_micros(note.body.parse().ok()?)));
            refusing.push(Refusing { scope, received: notice.received, remade });
        }
        Ok(refusing)
    }

    /// Notes that webhooks were made anew. Without the note, they may be made once more.
    async fn note_remade(&self, key: &ConnectionKey, scopes: &[String]) -> Result<(), Problem> {
        let now = (self.clock)();
        for scope in scopes {
            let terms = Terms::once(now, NOTICE_SECONDS);
            update(&self.edges.notes, key, &remade_note(scope), terms, |_| Some(now.micros().to_string())).await?;
        }
        Ok(())
    }

    /// Records the news about webhooks, and reports each once.
    async fn record_news(&self, at: At<'_>, news: &[News]) -> Result<(), Problem> {
        for News { record, event } in news {
            self.edges.connections.save_webhook(at.key, record).await?;
            match event {
                Event::TurnedBad(verdict) => self.log_trip(at, record, *verdict),
                Event::ProbeFailed(why) => telemetry::warn("probe-failed", &format!("{}: {why}", at.key)),
                Event::WithoutRights => {
                    telemetry::warn("subscription-without-rights", &format!("{} {}", at.key, record.scope));
                }
            }
        }
        Ok(())
    }

    /// Reports that a webhook does not deliver.
    fn log_trip(&self, at: At<'_>, record: &commerce::health::WebhookRecord, verdict: Verdict) {
        let off = verdict == Verdict::SwitchedOff;
        telemetry::emit(&json!({
            "level": if off { "ERROR" } else { "WARN" },
            "event": if off { "subscription-switched-off" } else { "subscription-missing" },
            "connection": at.key.to_string(),
            "scope": record.scope,
            "reason": record.health.reason,
            "trips": record.health.trips,
        }));
        if off {
            telemetry::emit(&telemetry::count("SubscriptionsSwitchedOff", at.platform.name, 1, (self.clock)()));
        }
    }

    /// Returns the records of a connection after some of its webhooks were made, if it still wants these. A request
    /// that has disconnected it meanwhile may not have seen them, and with the credentials in hand they can still be
    /// removed.
    async fn unchanged(&self, at: At<'_>, observed: &Observed<'_>, before: &Loaded) -> Result<Loaded, Problem> {
        let Observed { webhooks, connection: planned, ring, .. } = *observed;
        let after = self.edges.connections.load(at.key).await?;
        let same = |now: &&Connection| now.status == planned.status && now.generation == planned.generation;
        if after.connection.as_ref().filter(same).is_some() {
            return Ok(after);
        }
        if !after.connection.as_ref().is_some_and(Connection::is_connected) {
            let existing = self.list(at, webhooks).await?;
            let mut records = before.webhooks.clone();
            records.extend(after.webhooks.clone());
            let ownership = Ownership { key: at.key, base_urls: self.base_urls().await?, records: &records };
            let plan = reconcile(&[], &existing, &ownership);
            self.run_plan(at, webhooks, ring, &records, &plan).await?;
            for scope in after.webhooks.keys() {
                self.edges.connections.remove_webhook(at.key, scope).await?;
            }
        }
        Err(changed(at.key))
    }

    /// Keeps the facts that follow from the webhooks in the connection's record: which of them are its own, where the
    /// platform wants that (the present ones, without those just removed), and the key that all of them are derived
    /// from.
    async fn record_webhooks(
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
        // Settings of another request made meanwhile stay.
        let own = if connection.revision == basis.revision { &basis.settings } else { &connection.settings };
        let settings = webhooks.settings_with(own.clone(), &ids);
        let signed_with = if keys.len() == 1 { keys.pop() } else { None };
        if settings == connection.settings && signed_with == connection.signed_with {
            return Ok(());
        }
        (connection.settings, connection.signed_with) = (settings, signed_with);
        self.save(key, &mut connection).await
    }

    /// Begins the fetches of changes that may have been missed.
    pub(crate) async fn fetch_missed(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        missed: Missed,
    ) -> Result<(), Problem> {
        for (entity, (fetch, since)) in missed {
            self.begin_missed(platform, key, entity, fetch, since).await?;
            telemetry::emit(&json!({
                "level": "INFO", "event": "missed-is-fetched", "connection": key.to_string(), "entity": entity,
                "since": since.to_string(),
            }));
        }
        Ok(())
    }
}

/// Returns the name of the note of the time at which the webhook of a topic was made anew.
fn remade_note(scope: &str) -> String {
    format!("remade#{scope}")
}
