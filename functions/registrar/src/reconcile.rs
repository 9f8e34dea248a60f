//! The diff between the webhooks that are wanted and those at the store. Pure: it returns a plan, and does nothing.
//!
//! It touches only our own webhooks: those whose id is recorded, or whose URL is this connection's path under a base
//! URL that this deployment ever used. It never leaves a gap: what is made comes before what is removed.

use std::collections::{BTreeMap, BTreeSet};

use commerce::{
    entity::ExternalId,
    health::WebhookRecord,
    key::{ConnectionKey, Generation},
    platform::webhooks::{Webhook, WebhookStatus},
    request::WebhookPath,
};

/// A webhook that is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The topic (`scope`) that it delivers.
    pub scope: String,
    /// The URL that it delivers to.
    pub url: String,
    /// The key that its secret is derived from.
    pub key_id: String,
    /// The fingerprint of its secret.
    pub fingerprint: String,
    /// The generation that its secret is derived for.
    pub generation: Generation,
    /// `true` when it is to be switched on.
    pub active: bool,
}

/// A step on one webhook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The webhook is made.
    Create(Wanted),
    /// The webhook's address, secret and status are set again.
    Update(ExternalId, Wanted, Why),
    /// The webhook of this topic is removed.
    Delete(ExternalId, String, Why),
}

/// The reason to change or remove a webhook.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The webhook delivers to another address.
    Url,
    /// Its secret was derived from another key or for another generation, or from an unknown one.
    Secret,
    /// The key of its secret was replaced by another one of the same id, and what it signs is refused.
    Replaced,
    /// The platform or the merchant has switched it off.
    Inactive,
    /// The webhook is on, and the connection is paused.
    Paused,
    /// Another webhook has the same topic.
    Duplicate,
    /// Its topic is no longer wanted.
    Undeclared,
}

/// The steps to take, and the webhooks that need none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// The steps, in their order: those that make or change first, those that remove last.
    pub steps: Vec<Step>,
    /// The topics whose webhooks are as they should be.
    pub kept: Vec<String>,
}

/// The facts that make a webhook ours.
#[derive(Clone, Debug)]
pub struct Ownership<'a> {
    /// The connection that the webhooks belong to.
    pub key: &'a ConnectionKey,
    /// All base URLs that this deployment ever used.
    pub base_urls: &'a BTreeSet<String>,
    /// The records of its webhooks, by topic.
    pub records: &'a BTreeMap<String, WebhookRecord>,
}

impl Ownership<'_> {
    /// Returns whether a webhook is ours.
    pub fn is_ours(&self, webhook: &Webhook) -> bool {
        let recorded = self.records.values().any(|record| record.id == webhook.id);
        recorded || self.base_urls.iter().any(|base| self.is_our_path(webhook.url.strip_prefix(base.as_str())))
    }

    fn is_our_path(&self, path: Option<&str>) -> bool {
        let Some(path) = path else { return false };
        // Some platforms want different addresses for different webhooks, which a query makes.
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let first = WebhookPath { key: self.key.clone(), generation: Generation::FIRST }.to_string();
        match path.strip_prefix(&first) {
            Some("") => true,
            Some(rest) => rest.strip_prefix('/').is_some_and(|generation| Generation::parse(generation).is_some()),
            None => false,
        }
    }
}

/// Compares the webhooks that are wanted with those at the store.
pub fn reconcile(wanted: &[Wanted], existing: &[Webhook], ownership: &Ownership<'_>) -> Plan {
    let mut ours: Vec<&Webhook> = existing.iter().filter(|webhook| ownership.is_ours(webhook)).collect();
    let mut plan = Plan::default();
    let mut removals = Vec::new();
    for wanted in wanted {
        let record = ownership.records.get(&wanted.scope);
        let (mut candidates, rest): (Vec<_>, Vec<_>) =
            ours.into_iter().partition(|webhook| webhook.scope == wanted.scope);
        ours = rest;
        // A webhook at the wanted address comes first, because some platforms refuse to move another one there; then
        // the recorded one, then one that delivers, then the oldest.
        candidates.sort_by_key(|webhook| {
            let recorded = record.is_some_and(|record| record.id == webhook.id);
            let age = webhook.id.as_str();
            (webhook.url != wanted.url, !recorded, webhook.status != WebhookStatus::Active, age.len(), age)
        });
        let mut candidates = candidates.into_iter();
        match candidates.next() {
            // Platforms make webhooks that are on; while the connection is paused, none is made.
            None if !wanted.active => {}
            None => plan.steps.push(Step::Create(wanted.clone())),
            Some(webhook) => match difference(wanted, webhook, record) {
                None => plan.kept.push(wanted.scope.clone()),
                Some(why) => plan.steps.push(Step::Update(webhook.id.clone(), wanted.clone(), why)),
            },
        }
        removals
            .extend(candidates.map(|webhook| Step::Delete(webhook.id.clone(), webhook.scope.clone(), Why::Duplicate)));
    }
    removals.extend(
        ours.into_iter().map(|webhook| Step::Delete(webhook.id.clone(), webhook.scope.clone(), Why::Undeclared)),
    );
    plan.steps.extend(removals);
    plan
}

fn difference(wanted: &Wanted, webhook: &Webhook, record: Option<&WebhookRecord>) -> Option<Why> {
    let secret_is_known = record.is_some_and(|record| {
        record.id == webhook.id && record.key_id == wanted.key_id && record.generation == wanted.generation
    });
    let replaced = |record: &WebhookRecord| {
        secret_is_known && record.fingerprint.as_ref().is_some_and(|given| *given != wanted.fingerprint)
    };
    if webhook.url != wanted.url {
        Some(Why::Url)
    } else if !secret_is_known {
        Some(Why::Secret)
    } else if record.is_some_and(replaced) {
        Some(Why::Replaced)
    } else if wanted.active && webhook.status != WebhookStatus::Active {
        Some(Why::Inactive)
    } else if !wanted.active && webhook.status == WebhookStatus::Active {
        Some(Why::Paused)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use commerce::health::Health;

    use super::*;

    const BASE: &str = "https://hooks.example.com";
    const OLD_BASE: &str = "https://old.execute-api.us-east-1.amazonaws.com";
    const PATH: &str = "/hooks/woocommerce/shop.example.com";

    fn wanted(scope: &str) -> Wanted {
        let url = format!("{BASE}{PATH}");
        Wanted {
            scope: scope.into(),
            url,
            key_id: "k1".into(),
            fingerprint: "f1".into(),
            generation: Generation::FIRST,
            active: true,
        }
    }

    fn webhook(id: u64, scope: &str, url: &str) -> Webhook {
        Webhook { id: id.into(), scope: scope.into(), url: url.into(), status: WebhookStatus::Active, failures: None }
    }

    fn ours(id: u64, scope: &str) -> Webhook {
        webhook(id, scope, &format!("{BASE}{PATH}"))
    }

    fn record(id: u64, scope: &str) -> WebhookRecord {
        let Wanted { scope, url, key_id, fingerprint, generation, .. } = wanted(scope);
        let fingerprint = Some(fingerprint);
        WebhookRecord { scope, id: id.into(), url, key_id, fingerprint, generation, health: Health::default() }
    }

    fn plan(scopes: &[&str], existing: &[Webhook], records: &[WebhookRecord]) -> Plan {
        let key = WebhookPath::parse("woocommerce", "shop.example.com", None).unwrap().key;
        let base_urls = BTreeSet::from([BASE.to_owned(), OLD_BASE.to_owned()]);
        let records = records.iter().map(|record| (record.scope.clone(), record.clone())).collect();
        let wanted: Vec<_> = scopes.iter().map(|scope| wanted(scope)).collect();
        reconcile(&wanted, existing, &Ownership { key: &key, base_urls: &base_urls, records: &records })
    }

    #[test]
    fn nothing_there_makes_everything() {
        let plan = plan(&["a", "b"], &[], &[]);
        assert_eq!(plan.steps, [Step::Create(wanted("a")), Step::Create(wanted("b"))]);
    }

    #[test]
    fn as_it_should_be_changes_nothing() {
        let plan = plan(&["a", "b"], &[ours(1, "a"), ours(2, "b")], &[record(1, "a"), record(2, "b")]);
        assert_eq!(plan, Plan { steps: vec![], kept: vec!["a".into(), "b".into()] });
    }

    #[test]
    fn what_is_not_ours_is_never_touched() {
        let foreign = [
            webhook(1, "a", "https://other.example.com/hooks/woocommerce/shop.example.com"),
            webhook(2, "a", &format!("{BASE}/hooks/woocommerce/shop.example.com.evil")),
            webhook(3, "a", &format!("{BASE}/hooks/woocommerce/other.example.com")),
            webhook(4, "a", &format!("{BASE}{PATH}/x")),
            webhook(5, "a", &format!("{BASE}.evil{PATH}")),
        ];
        assert_eq!(plan(&[], &foreign, &[]), Plan::default());
        assert_eq!(plan(&["a"], &foreign, &[]).steps, [Step::Create(wanted("a"))]);
    }

    #[test]
    fn a_webhook_that_was_made_but_not_recorded_is_adopted_with_a_new_secret() {
        assert_eq!(plan(&["a"], &[ours(7, "a")], &[]).steps, [Step::Update(7.into(), wanted("a"), Why::Secret)]);
    }

    #[test]
    fn another_key_or_generation_sets_the_secret_again() {
        let other_key = WebhookRecord { key_id: "k0".into(), ..record(1, "a") };
        let other_generation = WebhookRecord { generation: Generation::FIRST.next(), ..record(1, "a") };
        let other_webhook = WebhookRecord { id: 9.into(), ..record(1, "a") };
        for record in [other_key, other_generation, other_webhook] {
            let steps = plan(&["a"], &[ours(1, "a")], &[record]).steps;
            assert_eq!(steps, [Step::Update(1.into(), wanted("a"), Why::Secret)]);
        }
    }

    #[test]
    fn a_former_base_url_or_generation_is_still_ours_and_moves() {
        for url in [format!("{OLD_BASE}{PATH}"), format!("{BASE}{PATH}/2")] {
            let steps = plan(&["a"], &[webhook(1, "a", &url)], &[]).steps;
            assert_eq!(steps, [Step::Update(1.into(), wanted("a"), Why::Url)]);
        }
    }

    #[test]
    fn a_webhook_that_is_off_is_switched_on() {
        let off = Webhook { status: WebhookStatus::Inactive("disabled".into()), ..ours(1, "a") };
        let steps = plan(&["a"], &[off], &[record(1, "a")]).steps;
        assert_eq!(steps, [Step::Update(1.into(), wanted("a"), Why::Inactive)]);
    }

    #[test]
    fn duplicates_go_and_the_recorded_one_stays() {
        let plan = plan(&["a", "b"], &[ours(1, "a"), ours(12, "a"), ours(3, "a")], &[record(12, "a")]);
        let gone = |id: u64| Step::Delete(id.into(), "a".into(), Why::Duplicate);
        // Steps that make come before steps that remove.
        assert_eq!(plan.steps, [Step::Create(wanted("b")), gone(1), gone(3)]);
        assert_eq!(plan.kept, ["a"]);
    }

    #[test]
    fn of_two_the_one_at_its_address_stays() {
        let moved = webhook(1, "a", "https://elsewhere.example.com");
        let plan = plan(&["a"], &[moved, ours(2, "a")], &[record(1, "a")]);
        let update = Step::Update(2.into(), wanted("a"), Why::Secret);
        assert_eq!(plan.steps, [update, Step::Delete(1.into(), "a".into(), Why::Duplicate)]);
    }

    #[test]
    fn scopes_that_are_no_longer_declared_go() {
        let steps = plan(&[], &[ours(1, "a")], &[record(1, "a")]).steps;
        assert_eq!(steps, [Step::Delete(1.into(), "a".into(), Why::Undeclared)]);
    }
}
