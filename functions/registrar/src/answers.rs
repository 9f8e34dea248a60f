//! The answers of the admin interface. The served description (`openapi.json`) has the schemas of these types.

use std::collections::{BTreeMap, BTreeSet};

use commerce::{
    connection::{ConnectionStatus, DeletePolicy},
    cursor::Fetch,
    drift::Drift,
    endpoint::Endpoint,
    entity::{EntityKind, ExternalId},
    health::Verdict,
    key::{ConnectionId, Generation},
    keys::{KeyState, Phase},
    platform::notice::Notice,
    redaction::Receipt,
    rotation::Stage,
    timestamp::Timestamp,
    transfer::Preset,
    trial::TrialResult,
    verification::{Cause, Conclusion, Difference, Extent, Report, Unchecked},
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
    /// The receipt of a redaction.
    Redaction(RedactionReceipt),
    /// The report of a verification.
    Verification(Box<VerificationReport>),
    /// A snapshot that has begun.
    Snapshot(SnapshotBegun),
    /// The endpoints.
    EndpointList(EndpointList),
    /// An endpoint.
    Endpoint(ShownEndpoint),
    /// An endpoint with its new secret.
    NewEndpoint(NewEndpoint),
    /// Secrets to enter by hand.
    Revealed(Revealed),
    /// The progress of a key rotation.
    Rotation(Box<Rotation>),
    /// The result of a trial.
    TrialResult(Box<TrialResult>),
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
    /// The signing key that the secrets of all its webhooks are derived from; null while there is no such key.
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
    /// `true` when an operator has connected or confirmed it, or the vendor has invited it.
    pub confirmed: bool,
    /// The effect of a delete, by kind of entity; `mark` where none is named.
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = { "$ref": "#/components/schemas/Entity" })))]
    pub deletes: BTreeMap<EntityKind, DeletePolicy>,
    /// The topics that are ignored here.
    pub ignores: BTreeSet<String>,
    /// The rules for topics that only this connection's conventions explain.
    pub presets: Vec<Preset>,
    /// The platform's own settings.
    pub settings: Map<String, Value>,
    /// The platform's reports about the connection itself.
    pub notices: Vec<ShownNotice>,
    /// The address that its webhooks deliver to.
    pub delivery_url: String,
    /// The time since which it has been paused. It stays after a resumption until the fetch of missed changes has
    /// begun.
    pub paused_at: Option<Moment>,
    /// The webhooks.
    pub subscriptions: Vec<Webhook>,
    /// The instructions, where webhooks are entered by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub next: Option<String>,
    /// The reason for which the store could not be asked. The webhooks are then shown as last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub problem: Option<String>,
    /// The changes that connecting it made at the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Changes"))]
    pub changes: Option<Changes>,
    /// The time of its last check without trouble; if there was never one, of the first check.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Moment"))]
    pub checked_at: Option<Moment>,
    /// Its trouble, while there is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Trouble"))]
    pub trouble: Option<Trouble>,
    /// The kinds of entity that cannot be fetched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stopped: Vec<StoppedEntity>,
}

/// A report of the platform about the connection itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct ShownNotice {
    /// The kind of notice.
    pub kind: String,
    /// The platform's further words.
    pub detail: String,
    /// The time of receipt.
    pub received: Moment,
}

impl From<Notice> for ShownNotice {
    fn from(notice: Notice) -> Self {
        Self { kind: notice.kind, detail: notice.detail, received: notice.received.into() }
    }
}

/// Something that keeps a connection from being checked, or that somebody has to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct Trouble {
    /// The trouble, or the work to do.
    pub what: String,
    /// The time since which there is trouble.
    pub since: Option<Moment>,
}

/// A kind of entity that cannot be fetched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct StoppedEntity {
    /// The kind of entity.
    pub entity: EntityKind,
    /// The reason for which it cannot be fetched.
    pub why: String,
    /// The time since which no page could be fetched.
    pub since: Moment,
}

/// The changes that connecting made at the store, by topic.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct Changes {
    /// The topics whose webhooks were made.
    pub created: Vec<String>,
    /// The topics whose webhooks were changed.
    pub updated: Vec<String>,
    /// The topics whose webhooks were removed.
    pub deleted: Vec<String>,
    /// The number of webhooks that were as they should be.
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
    /// `true` when the registrar makes them. Otherwise they are entered by hand.
    pub managed: bool,
    /// The webhooks.
    pub subscriptions: Vec<Webhook>,
    /// The reason for which the store could not be asked. The webhooks are then shown as last seen.
    pub problem: Option<String>,
}

/// A webhook: its state at the store, beside its record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct Webhook {
    /// The topic that it delivers.
    pub scope: String,
    /// Its status: `active`, `missing`, `manual`, `unknown`, `paused` while its connection is, or the platform's own
    /// word.
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
    /// The time since which it has this verdict, where that is recorded.
    pub since: Option<Moment>,
    /// The reason for which it is not healthy, or last was not.
    pub reason: String,
    /// The time at which a delivery of it was last seen.
    pub last_delivery: Option<Moment>,
    /// The number of times that it was switched on again since it last stayed on.
    pub trips: u32,
    /// The number of failed deliveries since the last success, where the platform reports it.
    pub failures: Option<u64>,
    /// The time at which it was last switched on again.
    pub reactivated_at: Option<Moment>,
    /// The time before which it is not switched on again.
    pub not_before: Option<Moment>,
    /// The last time at which it was known to be on.
    pub good_at: Option<Moment>,
}

/// The steps that reconciling takes on the webhooks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, rename = "Plan"))]
pub struct PlanSteps {
    /// `true` when the registrar makes the webhooks. Otherwise there is nothing to do.
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
    /// The action on the webhook.
    pub r#do: Act,
    /// The topic that the webhook delivers.
    pub scope: String,
    /// The webhook's id at the platform; null for one that is to be made.
    pub id: Option<String>,
    /// The address that it will deliver to; null for one that is to be removed.
    pub url: Option<String>,
    /// The reason; null for a webhook that is to be made.
    pub why: Option<Why>,
}

/// The action of a step on a webhook.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// The webhook is made.
    Create,
    /// The webhook is changed.
    Update,
    /// The webhook is removed.
    Delete,
}

impl PlanSteps {
    /// Shows that there is nothing to do, because somebody entered the webhooks by hand.
    pub(crate) fn by_hand() -> Self {
        Self { managed: false, steps: Vec::new(), kept: Vec::new() }
    }

    /// Shows a plan.
    pub(crate) fn managed(plan: &Plan) -> Self {
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
        Self { managed: true, steps: steps.collect(), kept: plan.kept.iter().map(ToString::to_string).collect() }
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
    /// The time between two polls by the settings, in seconds; null is the default, 0 never.
    pub every_seconds: Option<u32>,
    /// The time up to which every change is on the queue.
    pub since: Option<Moment>,
    /// The time at which the last completed listing of all entities began.
    pub swept: Option<Moment>,
    /// The reason for which it cannot be fetched, while it cannot.
    pub stopped: Option<StoppedFetch>,
    /// The fetch that is under way.
    pub run: Option<FetchRun>,
    /// The drift: what fetching found and no webhook had reported.
    pub losses: ShownDrift,
}

/// The reason for which a kind of entity cannot be fetched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct StoppedFetch {
    /// The reason for which no page could be fetched.
    pub why: String,
    /// The time since which no page could be fetched.
    pub since: Moment,
}

/// A fetch that is under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct FetchRun {
    /// The kind of fetch.
    pub fetch: Fetch,
    /// The time at which it began.
    pub begun: Moment,
    /// The number of pages queued.
    pub pages: u32,
    /// The number of entities queued.
    pub found: u64,
}

/// The drift of a kind of entity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct ShownDrift {
    /// The number of times that an entity was not here, or was and should not have been.
    pub missed: u64,
    /// The number of times that an entity had another content.
    pub stale: u64,
    /// The number of times that an entity could not be mapped, and its message was quarantined.
    pub unmapped: u64,
    /// The time since which drift is counted; null if there was none.
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
    /// The rules for topics that only this connection's conventions explain.
    pub presets: Vec<Preset>,
}

/// The receipt of a redaction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct RedactionReceipt {
    /// The id: the same for the same person at the same connection.
    pub id: String,
    /// The time of the redaction. Entities made later are not redacted.
    pub at: Moment,
    /// The time at which everything was redacted; null while that goes on.
    pub done: Option<Moment>,
    /// The time at which a second look found whatever was being written meanwhile; null before that. It comes 15 minutes
    /// later.
    pub looked_again: Option<Moment>,
    /// The ids of the entities that were redacted, by kind.
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Vec<String>>"))]
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = { "$ref": "#/components/schemas/Entity" })))]
    pub redacted: BTreeMap<EntityKind, BTreeSet<ExternalId>>,
    /// The number of further entities that were redacted.
    pub unlisted: u64,
    /// The number of dead letters that were removed.
    pub dead_letters: u64,
    /// `true` when there were too many dead letters to read them all.
    pub letters_left: bool,
}

impl RedactionReceipt {
    pub(crate) fn new(id: String, receipt: &Receipt) -> Self {
        Self {
            id,
            at: receipt.at.into(),
            done: receipt.done.map(Moment::from),
            looked_again: receipt.looked_again.map(Moment::from),
            redacted: receipt.redacted.clone(),
            unlisted: receipt.unlisted,
            dead_letters: receipt.dead_letters,
            letters_left: receipt.letters_left,
        }
    }
}

/// The endpoints that changes are sent to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct EndpointList {
    /// The endpoints, by their ids.
    pub endpoints: Vec<ShownEndpoint>,
}

/// An endpoint that changes are sent to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Endpoint", deny_unknown_fields))]
pub struct ShownEndpoint {
    /// The id.
    pub id: String,
    /// The address.
    pub url: String,
    /// The platforms of which it gets changes; empty for all.
    pub platforms: BTreeSet<String>,
    /// The connections of which it gets changes; empty for all.
    pub connections: BTreeSet<String>,
    /// The types of the changes that it gets; empty for all.
    pub types: BTreeSet<String>,
    /// `true` while nothing is delivered to it.
    pub paused: bool,
    /// The time at which it was made.
    pub created: Moment,
}

impl From<&Endpoint> for ShownEndpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            id: endpoint.id.clone(),
            url: endpoint.url.clone(),
            platforms: endpoint.filter.platforms.clone(),
            connections: endpoint.filter.connections.clone(),
            types: endpoint.filter.types.clone(),
            paused: endpoint.paused,
            created: endpoint.created.into(),
        }
    }
}

/// An endpoint with its new secret.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct NewEndpoint {
    /// The endpoint.
    pub endpoint: ShownEndpoint,
    /// The secret, in the form of Standard Webhooks.
    pub secret: String,
}

/// The endpoint without its secret.
impl std::fmt::Debug for NewEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewEndpoint({})", self.endpoint.id)
    }
}

/// A snapshot that has begun.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct SnapshotBegun {
    /// The kind of entity; null for all.
    pub entity: Option<EntityKind>,
    /// The most events a second.
    pub per_second: u32,
}

/// The report of a verification.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct VerificationReport {
    /// The time at which it began.
    pub begun: Moment,
    /// The time at which it ended; null while it is under way.
    pub ended: Option<Moment>,
    /// The part of the connection: `full`, or the number of entities of each kind.
    pub extent: Extent,
    /// The result so far.
    pub result: Conclusion,
    /// The number of entities compared, by kind.
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = { "$ref": "#/components/schemas/Entity" })))]
    pub checked: BTreeMap<EntityKind, u64>,
    /// The number of entities that differ for certain, by kind.
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = { "$ref": "#/components/schemas/Entity" })))]
    pub different: BTreeMap<EntityKind, u64>,
    /// The number of different entities in a million.
    pub drift_per_million: u64,
    /// The number of entities that differ and were changed a short while ago.
    pub under_way: u64,
    /// The number of entities, and kinds of entity, that could not be compared.
    pub unchecked: u64,
    /// The number of entities that were queued for repair.
    pub queued: u64,
    /// The kinds that the platform cannot list, so that nobody looked for what is not here.
    pub unlisted: BTreeSet<EntityKind>,
    /// The kinds of which the platform cannot be asked for one, or for some, so that these were not compared.
    pub unfetchable: BTreeSet<EntityKind>,
    /// The differences, 200 at most.
    pub differences: Vec<ShownDifference>,
    /// The entities, and kinds of entity, that could not be compared, 200 at most.
    pub failures: Vec<ShownFailure>,
}

/// A difference between what is here and what the platform shows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct ShownDifference {
    /// The kind of entity.
    pub entity: EntityKind,
    /// The entity's id.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub id: ExternalId,
    /// The field: a canonical one, `extra.` and the platform's own, or `deleted`; null if the entity is not here.
    pub field: Option<String>,
    /// The time of the platform's last change, if it tells one.
    pub since: Option<Moment>,
    /// The likely cause.
    pub cause: Cause,
}

/// Something that could not be compared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct ShownFailure {
    /// The kind of entity.
    pub entity: EntityKind,
    /// The entity's id; null for the whole kind.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub id: Option<ExternalId>,
    /// The reason.
    pub why: String,
}

impl From<Report> for VerificationReport {
    fn from(report: Report) -> Self {
        let difference = |of: Difference| ShownDifference {
            entity: of.entity,
            id: of.id,
            field: of.field,
            since: of.since.map(Moment::from),
            cause: of.cause,
        };
        let failure = |of: Unchecked| ShownFailure { entity: of.entity, id: of.id, why: of.why };
        Self {
            result: report.conclusion(),
            drift_per_million: report.drift_per_million(),
            begun: report.begun.into(),
            ended: report.ended.map(Moment::from),
            extent: report.extent,
            checked: report.checked,
            different: report.different,
            under_way: report.under_way,
            unchecked: report.unchecked,
            queued: report.queued,
            unlisted: report.unlisted,
            unfetchable: report.unfetchable,
            differences: report.differences.into_iter().map(difference).collect(),
            failures: report.failures.into_iter().map(failure).collect(),
        }
    }
}

/// The address and the secrets to enter at the platform by hand.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct Revealed {
    /// The address that the webhooks have to deliver to.
    pub delivery_url: String,
    /// The secrets.
    pub secrets: Vec<RevealedSecret>,
    /// The instructions for entering them.
    pub next: String,
}

/// A secret to enter by hand.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct RevealedSecret {
    /// Its topic; null for a secret for all topics.
    pub scope: Option<String>,
    /// The secret.
    pub secret: String,
}

/// The number of secrets, and none of them.
impl std::fmt::Debug for Revealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Revealed({} secrets)", self.secrets.len())
    }
}

/// The progress of a rotation of the signing keys.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct Rotation {
    /// The stage of the rotation.
    pub stage: Stage,
    /// The keys of the ring.
    pub keys: Vec<RotatingKey>,
    /// The connections with webhooks on a key other than the signing one.
    pub elsewhere: Elsewhere,
    /// Some of the connections that have been in trouble for so long that they keep no key.
    pub given_up: Vec<String>,
    /// Connections that lately delivered with the outgoing key: somebody has to enter the new one there.
    pub by_hand: Vec<String>,
    /// The earliest time of the next step.
    pub next_step_not_before: Option<Moment>,
    /// The reasons against the next step now.
    pub kept_by: Vec<String>,
}

/// A key of the ring.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct RotatingKey {
    /// The key's id.
    pub id: String,
    /// The key's state: `sign` when new secrets are derived from it.
    pub state: KeyState,
    /// The key's stage in a rotation; null when no rotation touches it.
    pub phase: Option<Phase>,
    /// The time since which it has its state and stage, where a rotation set them.
    pub since: Option<Moment>,
    /// The time at which it last proved something.
    pub last_used: Option<Moment>,
}

/// The connections with webhooks on a key other than the signing one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields, inline))]
pub struct Elsewhere {
    /// The number of connections on another key.
    pub count: usize,
    /// Some of the connections on another key.
    pub connections: Vec<String>,
}
