//! Owns what the admin interface answers. The description that is served (`openapi.json`) has the schemas of these types.

use std::collections::{BTreeMap, BTreeSet};

use commerce::{
    connection::{ConnectionStatus, DeletePolicy},
    cursor::Fetch,
    drift::Drift,
    entity::EntityKind,
    health::Verdict,
    key::{ConnectionId, Generation},
    keys::{KeyState, Phase},
    platform::notice::Notice,
    rotation::Stage,
    timestamp::Timestamp,
    transfer::Preset,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::reconcile::{Plan, Step, Why};

/// A moment in RFC 3339, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment(pub Timestamp);

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Moment {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// The answer of a route.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// A page of the list of connections.
    ConnectionList(ConnectionList),
    /// One connection.
    Connection(Box<Connection>),
    /// A connection's settings, in the form in which they are set.
    Settings(Map<String, Value>),
    /// A connection's presets.
    Presets(Presets),
    /// A connection's webhooks.
    SubscriptionList(SubscriptionList),
    /// The steps of a reconciliation.
    Plan(PlanSteps),
    /// The progress of fetching.
    PollList(PollList),
    /// Fetches that have begun.
    Begun(Begun),
    /// Secrets for somebody to enter.
    Revealed(Revealed),
    /// The progress of a key rotation.
    Rotation(Box<Rotation>),
    /// The description of the interface.
    Description(Value),
}

/// A page of the list of connections.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct ConnectionList {
    /// The connections of this page.
    pub connections: Vec<ListedConnection>,
    /// The cursor of the next page; null at the end.
    pub next: Option<String>,
}

/// A connection in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct ListedConnection {
    /// The platform.
    pub platform: String,
    /// The connection's id.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub connection: ConnectionId,
    /// The connection's status.
    pub status: ConnectionStatus,
    /// The store's or account's base URL.
    pub site: String,
    /// The signing key that all of its webhooks are derived from.
    pub signed_with: Option<String>,
}

/// A connection, with its webhooks as they are at the store.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct Connection {
    /// The platform.
    pub platform: String,
    /// The connection's id.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub connection: ConnectionId,
    /// The connection's status.
    pub status: ConnectionStatus,
    /// The store's or account's base URL.
    pub site: String,
    /// The generation whose deliveries count.
    #[cfg_attr(feature = "schema", schemars(with = "u32"))]
    pub generation: Generation,
    /// `true` where an operator has connected or confirmed it, or the vendor has invited it.
    pub confirmed: bool,
    /// The effect of a delete, by kind of entity; `mark` where none is named.
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = { "$ref": "#/components/schemas/Entity" })))]
    pub deletes: BTreeMap<EntityKind, DeletePolicy>,
    /// Topics that are not wanted from this connection.
    pub ignores: BTreeSet<String>,
    /// How topics are read that only this connection's conventions explain.
    pub presets: Vec<Preset>,
    /// The platform's own settings.
    pub settings: Map<String, Value>,
    /// What the platform told about the connection itself.
    pub notices: Vec<ShownNotice>,
    /// The address that its webhooks deliver to.
    pub delivery_url: String,
    /// Since when it has been paused, while it is.
    pub paused_at: Option<Moment>,
    /// The webhooks.
    pub subscriptions: Vec<Webhook>,
    /// The next step, where webhooks are entered by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub next: Option<String>,
    /// Why the store could not be asked: then the webhooks are as they were seen last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub problem: Option<String>,
    /// What connecting it changed at the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Changes"))]
    pub changes: Option<Changes>,
    /// When it was last checked without trouble.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Moment"))]
    pub checked_at: Option<Moment>,
    /// What is wrong with it, while something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Trouble"))]
    pub trouble: Option<Trouble>,
    /// The kinds of entity that cannot be fetched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stopped: Vec<StoppedEntity>,
}

/// Something that the platform told about the connection itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct ShownNotice {
    /// The kind of notice.
    pub kind: String,
    /// What the platform says beyond it.
    pub detail: String,
    /// When it was received.
    pub received: Moment,
}

impl From<Notice> for ShownNotice {
    fn from(notice: Notice) -> Self {
        Self { kind: notice.kind, detail: notice.detail, received: notice.received.into() }
    }
}

/// What keeps a connection from being checked, or has to be done by somebody.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct Trouble {
    /// What is wrong, or has to be done.
    pub what: String,
    /// Since when.
    pub since: Option<Moment>,
}

/// A kind of entity that cannot be fetched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct StoppedEntity {
    /// The kind of entity.
    pub entity: EntityKind,
    /// Why it cannot be fetched.
    pub why: String,
    /// Since when no page could be had.
    pub since: Moment,
}

/// What connecting changed at the store, by topic.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct Changes {
    /// The webhooks that were made.
    pub created: Vec<String>,
    /// The webhooks that were changed.
    pub updated: Vec<String>,
    /// The webhooks that were removed.
    pub deleted: Vec<String>,
    /// How many were as they should be.
    pub kept: usize,
}

impl From<&Plan> for Changes {
    fn from(plan: &Plan) -> Self {
        let mut changes = Self { kept: plan.kept.len(), ..Self::default() };
        for step in &plan.steps {
            match step {
                Step::Create(wanted) => changes.created.push(wanted.scope.clone()),
                Step::Update(_, wanted, _) => changes.updated.push(wanted.scope.clone()),
                Step::Delete(_, scope, _) => changes.deleted.push(scope.clone()),
            }
        }
        changes
    }
}

/// A connection's webhooks.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct SubscriptionList {
    /// `true` where the registrar makes them; else they are entered by hand.
    pub managed: bool,
    /// The webhooks.
    pub subscriptions: Vec<Webhook>,
    /// Why the store could not be asked: then they are as they were seen last.
    pub problem: Option<String>,
}

/// A webhook: as it is at the store, beside what is remembered of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct Webhook {
    /// The topic that it delivers.
    pub scope: String,
    /// `active`, `missing`, `manual`, `unknown`, `paused` where its connection is, or the platform's own word.
    pub status: String,
    /// Its id at the platform.
    pub id: Option<String>,
    /// The address that it delivers to.
    pub url: Option<String>,
    /// The signing key that its secret is derived from.
    pub key_id: Option<String>,
    /// The generation that its secret is derived for.
    #[cfg_attr(feature = "schema", schemars(with = "Option<u32>"))]
    pub generation: Option<Generation>,
    /// Its health; null while its connection is paused.
    pub verdict: Option<Verdict>,
    /// Since when it has this verdict, where that is remembered.
    pub since: Option<Moment>,
    /// Why it is not healthy, or was not the last time.
    pub reason: String,
    /// When a delivery of it was last seen.
    pub last_delivery: Option<Moment>,
    /// How often it was switched on again since it last stayed on.
    pub trips: u32,
    /// How many deliveries have failed since one succeeded, where the platform tells.
    pub failures: Option<u64>,
    /// When it was last switched on again.
    pub reactivated_at: Option<Moment>,
    /// Before that it is not switched on again.
    pub not_before: Option<Moment>,
    /// When it was last known to be on.
    pub good_at: Option<Moment>,
}

/// What reconciling does to the webhooks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, rename = "Plan"))]
pub struct PlanSteps {
    /// `true` where the registrar makes the webhooks; else there is nothing to do.
    pub managed: bool,
    /// The steps, in their order.
    pub steps: Vec<PlanStep>,
    /// The topics whose webhooks are as they should be.
    pub kept: Vec<String>,
}

/// A step of a plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct PlanStep {
    /// What is done.
    pub r#do: Act,
    /// The topic that the webhook delivers.
    pub scope: String,
    /// Its id at the platform.
    pub id: Option<String>,
    /// The address that it will deliver to.
    pub url: Option<String>,
    /// Why, where it is not made for the first time.
    pub why: Option<Why>,
}

/// What a step does to a webhook.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Makes it.
    Create,
    /// Changes it.
    Update,
    /// Removes it.
    Delete,
}

impl PlanSteps {
    /// Shows a plan.
    pub(crate) fn of(plan: &Plan, managed: bool) -> Self {
        let steps = plan.steps.iter().map(|step| match step {
            Step::Create(wanted) => PlanStep {
                r#do: Act::Create,
                scope: wanted.scope.clone(),
                id: None,
                url: Some(wanted.url.clone()),
                why: None,
            },
            Step::Update(id, wanted, because) => PlanStep {
                r#do: Act::Update,
                scope: wanted.scope.clone(),
                id: Some(id.to_string()),
                url: Some(wanted.url.clone()),
                why: Some(*because),
            },
            Step::Delete(id, scope, because) => PlanStep {
                r#do: Act::Delete,
                scope: scope.clone(),
                id: Some(id.to_string()),
                url: None,
                why: Some(*because),
            },
        });
        Self { managed, steps: steps.collect(), kept: plan.kept.iter().map(ToString::to_string).collect() }
    }
}

/// Fetches that have begun.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct Begun {
    /// The kind of fetch.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["import", "changed"])))]
    pub fetch: Fetch,
    /// The kinds of entity.
    pub begun: Vec<EntityKind>,
}

/// The progress of fetching.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct PollList {
    /// The kinds of entity that can be fetched.
    pub polls: Vec<Poll>,
}

/// The progress of fetching a kind of entity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct Poll {
    /// The kind of entity.
    pub entity: EntityKind,
    /// How often it is polled by the settings, in seconds; null is the default, 0 never.
    pub every_seconds: Option<u32>,
    /// Everything that had changed until then is on the queue.
    pub since: Option<Moment>,
    /// When the last full sync was through.
    pub swept: Option<Moment>,
    /// Why it cannot be fetched, while it cannot.
    pub stopped: Option<StoppedFetch>,
    /// The fetch that is under way.
    pub run: Option<FetchRun>,
    /// Drift: what fetching found that no webhook had told.
    pub losses: ShownDrift,
}

/// Why a kind of entity cannot be fetched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct StoppedFetch {
    /// Why it cannot be fetched.
    pub why: String,
    /// Since when no page could be had.
    pub since: Moment,
}

/// A fetch that is under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct FetchRun {
    /// The kind of fetch.
    pub fetch: Fetch,
    /// When it began.
    pub begun: Moment,
    /// How many pages were queued.
    pub pages: u32,
    /// How many entities were queued.
    pub found: u64,
}

/// Drift of a kind of entity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct ShownDrift {
    /// How often an entity was not here, or was and should not have been.
    pub missed: u64,
    /// How often an entity's content was another one.
    pub stale: u64,
    /// How often an entity could not be mapped, and was put aside.
    pub unmapped: u64,
    /// Since when drift is counted; null where there was none.
    pub since: Option<Moment>,
}

impl From<Drift> for ShownDrift {
    fn from(drift: Drift) -> Self {
        Self {
            missed: drift.missed,
            stale: drift.stale,
            unmapped: drift.unmapped,
            since: drift.since.map(Moment::from),
        }
    }
}

/// A connection's presets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct Presets {
    /// How topics are read that only this connection's conventions explain.
    pub presets: Vec<Preset>,
}

/// What somebody has to enter at the platform by hand.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct Revealed {
    /// The address that the webhooks have to deliver to.
    pub delivery_url: String,
    /// The secrets.
    pub secrets: Vec<RevealedSecret>,
    /// How to enter them.
    pub next: String,
}

/// A secret for somebody to enter.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct RevealedSecret {
    /// The topic that it is for; null where one is for all.
    pub scope: Option<String>,
    /// The secret.
    pub secret: String,
}

/// Shows how many secrets there are, and none of them.
impl std::fmt::Debug for Revealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Revealed({} secrets)", self.secrets.len())
    }
}

/// The progress of a rotation of the signing keys.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct Rotation {
    /// The stage that it has reached.
    pub stage: Stage,
    /// The keys of the ring.
    pub keys: Vec<RotatingKey>,
    /// The connections with webhooks on another key than the one that signs.
    pub elsewhere: Elsewhere,
    /// Some of the connections that have been in trouble for so long that they keep no key.
    pub given_up: Vec<String>,
    /// Connections that lately delivered with the key that goes: somebody has to enter the new one there.
    pub by_hand: Vec<String>,
    /// When the next step can be taken at the earliest.
    pub next_step_not_before: Option<Moment>,
    /// What keeps the next step from being taken now.
    pub kept_by: Vec<String>,
}

/// A key of the ring.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct RotatingKey {
    /// The key's id.
    pub id: String,
    /// `sign` where new secrets are derived from it.
    pub state: KeyState,
    /// Null where no rotation touches it.
    pub phase: Option<Phase>,
    /// Since when it has been in its state and phase, where a rotation brought it there.
    pub since: Option<Moment>,
    /// When it last proved something.
    pub last_used: Option<Moment>,
}

/// Connections with webhooks on another key than the one that signs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct Elsewhere {
    /// How many there are.
    pub count: usize,
    /// Some of them.
    pub connections: Vec<String>,
}
