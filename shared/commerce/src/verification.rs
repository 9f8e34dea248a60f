//! Owns the verification of a connection: the comparison of an item with the entity as the platform shows it, the order
//! to verify, and the report.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    change::{Change, Facets, State, Upsert},
    connection::DeletePolicy,
    entity::{EntityKey, EntityKind, ExternalId},
    item::{Item, Projection, TooLarge, Writer},
    origin::Origin,
    redaction::redact,
    timestamp::Timestamp,
    transfer::Listing,
};

/// The name of the note with the report of a connection's last verification.
pub const REPORT: &str = "verification";
/// The time for which a report is kept, in seconds.
pub const REPORT_SECONDS: i64 = 400 * 24 * 60 * 60;
/// The most entities of a kind that a sample may have.
pub const MAX_SAMPLE: u32 = 1_000;
/// The most differences, and the most entities that could not be checked, that a report lists.
pub const MAX_LISTED: usize = 200;
/// The age, in seconds, below which a change at the platform may still be on its way.
const UNDER_WAY_SECONDS: i64 = 600;

/// The part of a connection that is verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// Everything.
    Full,
    /// This many entities of each kind, neighbours from a place that differs each time, and those that have changed at
    /// the platform within the last day, a page of them at most.
    Sample(u32),
}

/// The order to verify a connection, and its progress.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verification {
    /// The time at which it began, which tells one verification of a connection from another.
    pub begun: Timestamp,
    /// The part of the connection.
    pub extent: Extent,
    /// `true` when differences are to be repaired.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repair: bool,
    /// The kinds that are left; the first one is being verified.
    pub kinds: Vec<EntityKind>,
    /// The position in the first kind.
    pub place: Place,
    /// The number of steps taken, so that a step that is taken twice counts once.
    #[serde(default)]
    pub steps: u64,
    /// The number of steps in a row that came no further, because the platform asked to wait.
    #[serde(default, skip_serializing_if = "crate::json::is_default")]
    pub waits: u32,
}

/// The most steps in a row that may come no further. Then the kind of entity is given up.
pub const MAX_WAITS: u32 = 200;

/// The position of a verification in one kind of entity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// At the beginning.
    Start,
    /// In the platform's list, on a page of it.
    Listed {
        /// The page.
        listing: Listing,
        /// The number of the page.
        page: u32,
        /// The entries of the page that are done. By the time that it is read again, others may have come before them.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        done: BTreeSet<ExternalId>,
    },
    /// In the entities that are known here, after this one.
    Known {
        /// The sort key of the last one that is done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// The number of entities that are still to be verified; `None` for all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left: Option<u32>,
        /// The place from which a sample began, once it has come to the end and gone on at the beginning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<String>,
    },
}

impl Verification {
    /// Makes the order to verify these kinds of entity.
    pub fn new(begun: Timestamp, extent: Extent, repair: bool, kinds: Vec<EntityKind>) -> Self {
        Self { begun, extent, repair, kinds, place: Place::Start, steps: 0, waits: 0 }
    }

    /// Returns the sort key after which a sample of a kind begins: another one each time.
    pub fn start_of_sample(&self, kind: EntityKind) -> String {
        let text = format!("{} {kind}", self.begun.micros());
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let number = hash.as_ref().iter().take(7).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        // Most ids are numbers, of any length.
        let digits = usize::from(hash.as_ref()[7] % 6) + 1;
        format!("{kind}#{}", &number.to_string()[..digits.min(number.to_string().len())])
    }
}

/// The likely cause of a difference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The item is older than the entity at the platform: no delivery or poll told of the change.
    NotTold,
    /// The item is as new as the entity at the platform, and yet differs: the change was told, and lost or altered here.
    ToldAndLost,
    /// The platform changed it a short while ago, and its delivery may be on its way.
    UnderWay,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTold => "not told",
            Self::ToldAndLost => "told and lost",
            Self::UnderWay => "under way",
        })
    }
}

/// A difference between an item and the entity as the platform shows it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// The kind of entity.
    pub entity: EntityKind,
    /// The entity's id.
    pub id: ExternalId,
    /// The canonical field, or `extra.` and the platform's own; `deleted`; `None` for an entity that is not here.
    pub field: Option<String>,
    /// The value here; `None` for none, and in reports that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub here: Option<Value>,
    /// The value at the platform; `None` for none, and in reports that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub there: Option<Value>,
    /// The time of the platform's last change, if it tells one.
    pub since: Option<Timestamp>,
    /// The likely cause.
    pub cause: Cause,
}

/// An entity, or a kind of entity, that could not be checked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Unchecked {
    /// The kind of entity.
    pub entity: EntityKind,
    /// The entity's id; `None` for the whole kind.
    pub id: Option<ExternalId>,
    /// The reason.
    pub why: String,
}

/// The result of a verification.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "kebab-case")]
pub enum Conclusion {
    /// Everything that the platform can be asked for is equal.
    Equal,
    /// Nothing differs for certain, but something could not be checked, or may still be on its way.
    Unknown,
    /// Something differs.
    Drift,
}

/// The report of a verification.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The time at which it began.
    pub begun: Timestamp,
    /// The time of the last progress.
    pub moved: Timestamp,
    /// The time at which it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// The part of the connection.
    pub extent: Extent,
    /// The number of entities checked, by kind.
    #[serde(default)]
    pub checked: BTreeMap<EntityKind, u64>,
    /// The number of entities that differ for certain, by kind.
    #[serde(default)]
    pub different: BTreeMap<EntityKind, u64>,
    /// The number of entities that differ and whose deliveries may be on their way.
    #[serde(default)]
    pub under_way: u64,
    /// The number of entities, and kinds of entity, that could not be checked.
    #[serde(default)]
    pub unchecked: u64,
    /// The number of entities that were queued for repair.
    #[serde(default)]
    pub queued: u64,
    /// The kinds that the platform cannot list, so that nobody looked for what is not here.
    #[serde(default)]
    pub unlisted: BTreeSet<EntityKind>,
    /// The kinds of which the platform cannot be asked for one, or for some, so that these were not compared.
    #[serde(default)]
    pub unfetchable: BTreeSet<EntityKind>,
    /// The differences, [`MAX_LISTED`] at most.
    #[serde(default)]
    pub differences: Vec<Difference>,
    /// The entities, and kinds of entity, that could not be checked, [`MAX_LISTED`] at most.
    #[serde(default)]
    pub failures: Vec<Unchecked>,
    /// The number of steps that count in here.
    #[serde(default)]
    pub steps: u64,
    /// The order for the step after those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Verification>,
}

impl Report {
    /// Makes the report of a verification that begins.
    pub fn new(verification: &Verification) -> Self {
        Self {
            begun: verification.begun,
            moved: verification.begun,
            ended: None,
            extent: verification.extent,
            checked: BTreeMap::new(),
            different: BTreeMap::new(),
            under_way: 0,
            unchecked: 0,
            queued: 0,
            unlisted: BTreeSet::new(),
            unfetchable: BTreeSet::new(),
            differences: Vec::new(),
            failures: Vec::new(),
            steps: 0,
            next: None,
        }
    }

    /// Returns the result so far.
    pub fn conclusion(&self) -> Conclusion {
        match (self.different.values().sum(), self.unchecked + self.under_way) {
            (0_u64, 0) => Conclusion::Equal,
            (0, _) => Conclusion::Unknown,
            _ => Conclusion::Drift,
        }
    }

    /// Returns the number of different entities in a million that were checked.
    pub fn drift_per_million(&self) -> u64 {
        let (different, checked): (u64, u64) = (self.different.values().sum(), self.checked.values().sum());
        different.saturating_mul(1_000_000) / checked.max(1)
    }

    /// Adds an entity that was checked, with its differences.
    pub fn add(&mut self, kind: EntityKind, differences: Vec<Difference>) {
        *self.checked.entry(kind).or_default() += 1;
        match differences.iter().map(|difference| difference.cause).max() {
            None => {}
            Some(Cause::UnderWay) => self.under_way += 1,
            Some(_) => *self.different.entry(kind).or_default() += 1,
        }
        self.differences.extend(differences);
    }

    /// Adds what could not be checked.
    pub fn add_unchecked(&mut self, unchecked: Unchecked) {
        self.unchecked += 1;
        self.failures.push(unchecked);
    }

    /// Adds what another part of the verification found.
    pub fn extend(&mut self, other: Self) {
        for (mine, theirs) in [(&mut self.checked, other.checked), (&mut self.different, other.different)] {
            theirs.into_iter().for_each(|(kind, count)| *mine.entry(kind).or_default() += count);
        }
        self.under_way += other.under_way;
        self.unchecked += other.unchecked;
        self.queued += other.queued;
        self.unlisted.extend(other.unlisted);
        self.unfetchable.extend(other.unfetchable);
        self.differences.extend(other.differences);
        self.failures.extend(other.failures);
    }

    /// Returns the report as it is kept: bounded, and without the values, which can be personal.
    #[must_use]
    pub fn kept(mut self) -> Self {
        self.differences.truncate(MAX_LISTED);
        self.failures.truncate(MAX_LISTED);
        for difference in &mut self.differences {
            (difference.here, difference.there) = (None, None);
        }
        self
    }
}

/// Compares an item with what a pull showed of its entity just now.
///
/// # Errors
/// [`TooLarge`] when the entity as the platform shows it would fit no item.
pub fn differences(
    key: &EntityKey,
    item: Option<&Item>,
    there: &Change,
    projection: Projection<'_>,
    now: Timestamp,
) -> Result<Vec<Difference>, TooLarge> {
    if matches!(there, Change::Delete(_)) && projection.policy == DeletePolicy::Ignore {
        return Ok(Vec::new());
    }
    let Some(item) = item else {
        let Change::Upsert(upsert) = there else { return Ok(Vec::new()) };
        let shown = Value::Object(upsert.content.fields.clone());
        return Ok(vec![Difference {
            entity: key.kind,
            id: key.id.clone(),
            field: None,
            here: None,
            there: Some(shown),
            since: upsert.source,
            cause: if is_under_way(there, now) { Cause::UnderWay } else { Cause::NotTold },
        }]);
    };
    let before = item.state();
    let mut after = match there {
        // A full payload is all that there is.
        Change::Upsert(upsert) if before.facets.is_empty() && upsert.facets.is_empty() => State::of(there),
        // A part is so now, whatever dates other parts have.
        Change::Upsert(upsert) if !upsert.facets.is_empty() => {
            let mut content = before.content().map(Cow::into_owned).unwrap_or_default();
            content.overlay(&upsert.content);
            let content = content.without_empty().into();
            State::of(&Change::Upsert(Upsert { content, facets: Facets::new(), ..upsert.clone() }))
        }
        _ => before.clone().join(State::of(there)),
    };
    if item.redacted {
        after = after.with_contents(|content| redact(&key.connection, key.kind, content, &BTreeSet::new()));
    }
    let writer = Writer { by: "", origin: Origin::Repair, trace: None, received: None, now };
    let expected = projection.redacted(item.redacted).item(key, &after, None, writer)?;
    let cause = cause(item, &before, there, now);
    let since = match there {
        Change::Upsert(upsert) => upsert.source,
        Change::Delete(delete) => delete.source,
        Change::Restore { .. } => None,
    };
    let difference = |(field, here, there): (String, Option<Value>, Option<Value>)| {
        let (entity, id) = (key.kind, key.id.clone());
        Difference { entity, id, field: Some(field), here, there, since, cause }
    };
    Ok(compared(item, &expected).into_iter().map(difference).collect())
}

/// Returns the values that a reader sees and that are not as they should be: the field, the value here and there.
fn compared(item: &Item, expected: &Item) -> Vec<(String, Option<Value>, Option<Value>)> {
    let mut found = Vec::new();
    if item.deleted != expected.deleted {
        found.push(("deleted".to_owned(), Some(json!(item.deleted)), Some(json!(expected.deleted))));
    }
    // What is deleted at the platform has no content there.
    if item.deleted || expected.deleted {
        return found;
    }
    found.extend(members("", &item.fields, &expected.fields));
    // What did not fit is not here, and that is known.
    if !item.truncated && !expected.truncated {
        found.extend(members("extra.", &item.extra, &expected.extra));
    }
    if item.unreadable != expected.unreadable {
        found.push(("unreadable".to_owned(), Some(json!(item.unreadable)), Some(json!(expected.unreadable))));
    }
    found
}

fn members<'a>(
    prefix: &'a str,
    here: &'a Map<String, Value>,
    there: &'a Map<String, Value>,
) -> impl Iterator<Item = (String, Option<Value>, Option<Value>)> + use<'a> {
    let names: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    let differing = names.into_iter().filter(|name| here.get(*name) != there.get(*name));
    differing.map(move |name| (format!("{prefix}{name}"), here.get(name).cloned(), there.get(name).cloned()))
}

fn cause(item: &Item, before: &State, there: &Change, now: Timestamp) -> Cause {
    let as_new = match there {
        Change::Upsert(upsert) => upsert.source.is_some() && before.lead().flatten() >= upsert.source,
        Change::Delete(_) | Change::Restore { .. } => false,
    };
    match (is_altered(item, before), is_under_way(there, now), as_new) {
        // No delivery on its way explains that.
        (true, ..) | (false, false, true) => Cause::ToldAndLost,
        (false, true, _) => Cause::UnderWay,
        (false, false, false) => Cause::NotTold,
    }
}

/// Returns whether an item shows something else than what was written.
fn is_altered(item: &Item, before: &State) -> bool {
    let Some(content) = before.content().filter(|_| item.was.is_empty()) else { return false };
    let whole = !item.truncated && !item.redacted;
    item.deleted != before.is_deleted()
        || content.fields != item.fields
        || whole && before.clone().distrusting() != *before
}

fn is_under_way(there: &Change, now: Timestamp) -> bool {
    let Change::Upsert(upsert) = there else { return false };
    upsert.source.is_some_and(|source| source.plus_seconds(UNDER_WAY_SECONDS) > now)
}
