//! The decisions about the webhooks of a connection, from what was observed. Pure: everything else only reads or
//! writes.

use std::collections::{BTreeMap, BTreeSet};

use cloud::connections::Check;
use commerce::{
    activity::Activity,
    connection::{Connection, ConnectionStatus},
    cursor::Fetch,
    entity::EntityKind,
    health::{Verdict, WebhookRecord},
    job::Trigger,
    keys::KeyRing,
    platform::{
        Platform,
        mapping::{Resolved, processor, resolve},
        webhooks::{Webhook, WebhookApi, WebhookStatus},
    },
    timestamp::Timestamp,
    transfer::{Action, EntityProcessor, Polling, Via},
};

use crate::{
    health,
    reconcile::{Plan, Step, Wanted, Why},
};

/// The time after a webhook was made anew within which its former one may deliver what was queued before, in seconds.
const STRAGGLES_SECONDS: i64 = 3600;
/// The least time until a webhook is made anew once more, in seconds.
const REMADE_SECONDS: i64 = 86_400;

/// The observations about the webhooks of a connection.
pub(crate) struct Observed<'a> {
    pub platform: &'a Platform,
    pub webhooks: &'a dyn WebhookApi,
    pub connection: &'a Connection,
    pub records: &'a BTreeMap<String, WebhookRecord>,
    /// The result of the last check.
    pub check: Option<&'a Check>,
    /// The webhooks at the store.
    pub existing: &'a [Webhook],
    /// The webhooks that are wanted.
    pub wanted: &'a [Wanted],
    /// The plan that makes the webhooks at the store those that are wanted.
    pub plan: Plan,
    pub ring: &'a KeyRing,
    /// The reason for the check.
    pub trigger: Trigger,
    /// The webhooks that deliver refusals in place of entities.
    pub refusing: Vec<Refusing>,
    pub now: Timestamp,
}

/// A webhook that delivers refusals, because its owner at the platform has lost permissions there.
pub(crate) struct Refusing {
    pub scope: String,
    /// The time at which the last refusal was received.
    pub received: Timestamp,
    /// The time at which the webhook was last made anew.
    pub remade: Option<Timestamp>,
}

/// The actions on the webhooks of a connection.
#[derive(Default)]
pub(crate) struct Actions {
    /// The plan to run at the store.
    pub plan: Plan,
    /// The webhooks' records, with the health that a webhook keeps when a step sets it.
    pub records: BTreeMap<String, WebhookRecord>,
    /// The news, to be recorded before anything is done.
    pub news: Vec<News>,
    /// The topics (`scope`) whose webhooks are left as they are for now.
    pub held: BTreeSet<String>,
    /// The topics whose webhooks are made anew.
    pub remade: Vec<String>,
}

/// A record that has changed, and the event to report about it.
pub(crate) struct News {
    pub record: WebhookRecord,
    pub event: Event,
}

/// An event about a webhook that an operator should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// The webhook no longer delivers.
    TurnedBad(Verdict),
    /// The webhook is off, and a signed probe did not arrive, for this reason.
    ProbeFailed(String),
    /// The webhook delivers refusals, because its owner at the platform has lost permissions there.
    WithoutRights,
}

/// The records of webhooks that are as they should be, and the fetches that they need.
#[derive(Default)]
pub(crate) struct Settled {
    /// The fetches of missed changes.
    pub missed: Missed,
    /// The changed records, to be written once fetching has begun, so that nothing is forgotten half-way.
    pub records: Vec<WebhookRecord>,
    /// The topics whose missed changes cannot be fetched.
    pub unfetchable: Vec<String>,
}

/// The fetch of each entity with missed changes, and the time since which they were missed.
pub(crate) type Missed = BTreeMap<EntityKind, (Fetch, Timestamp)>;

/// A webhook that is not as it should be.
struct Finding {
    scope: String,
    verdict: Verdict,
    reason: String,
}

impl Observed<'_> {
    /// Returns whether the webhooks were switched off from here, which says nothing about their health.
    fn is_paused(&self) -> bool {
        self.connection.status == ConnectionStatus::Paused || self.connection.paused_at.is_some()
    }

    /// Returns whether somebody asks for the check, and need not wait until a webhook has cooled down.
    fn is_asked(&self) -> bool {
        matches!(self.trigger, Trigger::Connected | Trigger::Asked)
    }

    fn is_cooling(&self, scope: &str) -> bool {
        let record = self.records.get(scope);
        !self.is_asked() && record.is_some_and(|record| health::cools_down(&record.health, self.now))
    }

    /// Returns the webhooks that are not as they should be.
    fn findings(&self) -> Vec<Finding> {
        if self.is_paused() {
            return Vec::new();
        }
        self.plan.steps.iter().filter_map(|step| self.finding(step)).collect()
    }

    fn finding(&self, step: &Step) -> Option<Finding> {
        let (wanted, verdict, reason) = match step {
            Step::Delete(..) => return None,
            Step::Create(wanted) => (wanted, Verdict::Missing, "it was not there any more".to_owned()),
            Step::Update(id, wanted, why) => {
                let webhook = self.existing.iter().find(|webhook| webhook.id == *id);
                if let Some(off) = webhook.filter(|webhook| webhook.status != WebhookStatus::Active) {
                    (wanted, Verdict::SwitchedOff, health::off(off))
                } else {
                    let record = self.records.get(&wanted.scope);
                    let retired = || record.is_some_and(|record| !self.ring.knows(&record.key_id));
                    let another = || record.is_some_and(|record| record.id != *id);
                    let reason = match why {
                        Why::Url => "it delivered elsewhere",
                        Why::Secret if retired() => "its key was retired before it moved",
                        Why::Replaced => "its key was replaced by another one",
                        _ if another() => "another one was in its place",
                        _ => return None,
                    };
                    (wanted, Verdict::Missing, reason.to_owned())
                }
            }
        };
        Some(Finding { scope: wanted.scope.clone(), verdict, reason })
    }

    /// Returns whether a webhook is off that could be switched on if deliveries reach us.
    pub fn wants_probe(&self) -> bool {
        let off = |finding: &Finding| finding.verdict == Verdict::SwitchedOff && !self.is_cooling(&finding.scope);
        self.findings().iter().any(off)
    }
}

/// Decides on the actions. A webhook that was switched off is switched on again only if `probe` shows that deliveries
/// would arrive. No probe was sent unless [`Observed::wants_probe`] asked for one.
pub(crate) fn decide(observed: &Observed<'_>, probe: Option<&Result<(), String>>) -> Actions {
    let mut actions = Actions { plan: observed.plan.clone(), records: observed.records.clone(), ..Actions::default() };
    for finding in observed.findings() {
        note_finding(observed, &finding, &mut actions);
        if finding.verdict == Verdict::SwitchedOff {
            switch_on(observed, &finding, probe, &mut actions);
        }
    }
    let held = &actions.held;
    actions.plan.steps.retain(|step| match step {
        Step::Update(_, wanted, _) => !held.contains(&wanted.scope),
        Step::Create(_) | Step::Delete(..) => true,
    });
    make_anew(observed, &mut actions);
    actions
}

/// Keeps the health of a webhook that is not as it should be.
fn note_finding(observed: &Observed<'_>, finding: &Finding, actions: &mut Actions) {
    let Some(record) = actions.records.get_mut(&finding.scope) else { return };
    let good = observed.check.filter(|check| check.since.is_none_or(|since| check.at < since));
    let good_at = good.map(|check| check.at).max(record.health.good_at);
    let bad = health::turned_bad(&record.health, finding.verdict, &finding.reason, good_at, observed.now);
    if let Some(bad) = bad {
        record.health = bad;
        let event = Event::TurnedBad(finding.verdict);
        actions.news.push(News { record: record.clone(), event });
    }
}

/// Lets the plan switch on a webhook that is off, or holds it as it is.
fn switch_on(observed: &Observed<'_>, finding: &Finding, probe: Option<&Result<(), String>>, actions: &mut Actions) {
    let scope = &finding.scope;
    let record = actions.records.get_mut(scope);
    match (observed.is_cooling(scope), probe) {
        (true, _) | (false, None) => {
            actions.held.insert(scope.clone());
        }
        (false, Some(Ok(()))) => {
            if let Some(record) = record {
                record.health = health::switched_on(&record.health, observed.now);
            }
        }
        (false, Some(Err(why))) => {
            let off = &finding.reason;
            let reason = format!("{off}; not switched on again, for a probe did not get through: {why}");
            if let Some(record) = record.filter(|record| record.health.reason != reason) {
                record.health.reason = reason;
                actions.news.push(News { record: record.clone(), event: Event::ProbeFailed(why.clone()) });
            }
            actions.held.insert(scope.clone());
        }
    }
}

/// Plans to make webhooks anew that deliver refusals, because the connection's own user owns a new one. Each is made
/// anew at most once a day, and not for deliveries that its former one still makes.
fn make_anew(observed: &Observed<'_>, actions: &mut Actions) {
    if observed.trigger != Trigger::Told || observed.connection.status == ConnectionStatus::Paused {
        return;
    }
    for Refusing { scope, received, remade } in &observed.refusing {
        let again = |at: Timestamp| {
            *received > at.plus_seconds(STRAGGLES_SECONDS) && observed.now > at.plus_seconds(REMADE_SECONDS)
        };
        let Some(wanted) = observed.wanted.iter().find(|wanted| wanted.scope == *scope) else { continue };
        let is_kept = actions.plan.kept.iter().any(|kept| kept == scope);
        let Some(record) = actions.records.get_mut(scope).filter(|_| is_kept && remade.is_none_or(again)) else {
            continue;
        };
        let reason = "it delivered refusals: the user who owns it at the platform has lost his rights";
        let good_at = record.health.good_at;
        if let Some(bad) = health::turned_bad(&record.health, Verdict::Missing, reason, good_at, observed.now) {
            record.health = bad;
            actions.news.push(News { record: record.clone(), event: Event::WithoutRights });
        }
        actions.plan.kept.retain(|kept| kept != scope);
        actions.plan.steps.insert(0, Step::Create(wanted.clone()));
        actions.plan.steps.push(Step::Delete(record.id.clone(), scope.clone(), Why::Duplicate));
        actions.remade.push(scope.clone());
    }
}

/// Removes the steps from a second plan that the first one was not to take.
pub(crate) fn follow_up(mut again: Plan, first: &Actions) -> Plan {
    again.steps.retain(|step| match step {
        Step::Update(_, wanted, _) if first.held.contains(&wanted.scope) => false,
        Step::Update(_, _, Why::Inactive) => first.plan.steps.contains(step),
        _ => true,
    });
    again
}

/// Returns the topics whose webhooks are as they should be after a plan was run.
pub(crate) fn good_after<E>(plan: &Plan, run: &Result<(), E>) -> BTreeSet<String> {
    let set = plan.steps.iter().filter(|_| run.is_ok()).filter_map(|step| match step {
        Step::Create(wanted) | Step::Update(_, wanted, _) => Some(&wanted.scope),
        Step::Delete(..) => None,
    });
    set.chain(&plan.kept).cloned().collect()
}

/// Decides on the records of webhooks that are as they should be by now. If one was not before, the changes that it may
/// have missed are fetched.
pub(crate) fn settle(
    observed: &Observed<'_>,
    after: &BTreeMap<String, WebhookRecord>,
    good: &BTreeSet<String>,
    activity: &BTreeMap<String, Activity>,
) -> Settled {
    let mut settled = Settled::default();
    if observed.connection.status == ConnectionStatus::Paused {
        return settled;
    }
    let now = observed.now;
    for record in after.values().filter(|record| good.contains(&record.scope)) {
        let delivered = observed.webhooks.delivers(&record.scope);
        let seen = activity.get(delivered);
        if health::is_bad(record.health.verdict) {
            match fetch_of(observed.platform, delivered) {
                Some((entity, fetch)) => {
                    let since = health::lost_since(&record.health, seen.map(|seen| seen.last));
                    let since = since.or(observed.connection.connected_at).unwrap_or(now);
                    miss(&mut settled.missed, entity, fetch, since);
                }
                None => settled.unfetchable.push(record.scope.clone()),
            }
        }
        let on = observed.existing.iter().find(|webhook| webhook.id == record.id);
        let on = on.map(|webhook| Webhook { status: WebhookStatus::Active, ..webhook.clone() });
        let (verdict, reason) = match &on {
            Some(_) => health::verdict(true, on.as_ref(), seen, now),
            // The webhook was made just now.
            None => (Verdict::Healthy, String::new()),
        };
        let health = health::seen_on(&record.health, verdict, reason, now);
        if health != record.health {
            settled.records.push(WebhookRecord { health, ..record.clone() });
        }
    }
    settled
}

/// Adds that changes of an entity were missed since a time.
fn miss(missed: &mut Missed, entity: EntityKind, fetch: Fetch, since: Timestamp) {
    let known = missed.entry(entity).or_insert((fetch, since));
    known.1 = known.1.min(since);
    if fetch == Fetch::Full {
        known.0 = fetch;
    }
}

/// Returns the fetch of each entity after a pause.
pub(crate) fn missed_since(platform: &Platform, since: Timestamp) -> Missed {
    let processors = platform.mapping.processors().iter();
    let fetched = processors.filter_map(|processor| Some((processor.entity, fetch(processor)?)));
    fetched.map(|(entity, fetch)| (entity, (fetch, since))).collect()
}

fn fetch_of(platform: &Platform, scope: &str) -> Option<(EntityKind, Fetch)> {
    let Resolved::Entity(entity, _) = resolve(platform, scope) else { return None };
    Some((entity, processor(platform.mapping, entity).and_then(fetch)?))
}

/// Returns the fetch of an entity whose deliveries may have been lost, or `None` when it cannot be fetched. If a topic
/// reports deletes or changes of a child, all entities are compared, because no list of changes shows deleted ones, and
/// not every list a child's change. The fetch does not depend on which webhook was off: others may have failed as well
/// without being switched off.
fn fetch(processor: &EntityProcessor) -> Option<Fetch> {
    let whole =
        processor.scopes.iter().any(|scope| scope.action == Action::Deleted || matches!(scope.via, Via::Child(_)));
    match processor.polling? {
        Polling::Incremental if !whole => Some(Fetch::Incremental),
        Polling::Incremental | Polling::Full => Some(Fetch::Full),
    }
}
