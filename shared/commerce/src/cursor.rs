//! Owns the progress of fetching an entity of a connection.

use serde::{Deserialize, Serialize};

use crate::{entity::EntityKind, key::Generation, timestamp::Timestamp, transfer::Listing};

/// The progress of fetching an entity, as the `Connections` table holds it under the sort key `cursor#{entity}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cursor {
    /// The kind of entity.
    pub entity: EntityKind,
    /// The number of writes. Each write is conditional on no other in between.
    pub revision: u64,
    /// The time up to which every change is on the queue; `None` before the first fetch ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The time at which the last listing of all entities began, which also finds deleted ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swept: Option<Timestamp>,
    /// The run that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// The generation of the connection that all of this belongs to. Messages queued for another generation are
    /// ignored.
    #[serde(default = "first_generation")]
    pub generation: Generation,
    /// The time of the job that begins the next run, unless the schedule does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// The latest fetches, whose messages may still be on the queue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<Fetched>,
    /// The reason for which the entity cannot be fetched at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// The time at which the platform was last asked for the count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Timestamp>,
}

/// The reason for which an entity cannot be fetched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stopped {
    /// The meaning of the platform's answer. Nothing secret.
    pub why: String,
    /// The time since which no page could be fetched.
    pub since: Timestamp,
}

fn first_generation() -> Generation {
    Generation::FIRST
}

impl Cursor {
    /// Makes the cursor of an entity before any fetch, in a generation of its connection.
    pub fn new(entity: EntityKind, generation: Generation) -> Self {
        Self {
            entity,
            revision: 0,
            since: None,
            swept: None,
            run: None,
            generation,
            next: None,
            recent: Vec::new(),
            stopped: None,
            counted: None,
        }
    }
}

/// A fetch that has ended, or was broken off.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fetched {
    /// The kind of fetch.
    pub fetch: Fetch,
    /// The time from which changes counted; `None` for all entities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// The time at which its last page was queued.
    pub at: Timestamp,
}

/// The part of an entity's list that one run fetches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
pub enum Fetch {
    /// All entities, for the first time or on request.
    #[serde(rename = "import")]
    Backfill,
    /// The entities that have changed since the last run.
    #[serde(rename = "changed")]
    Incremental,
    /// All entities, to find deleted ones and changes without a date.
    #[serde(rename = "sweep")]
    Full,
}

/// A fetch that is under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The kind of fetch.
    pub fetch: Fetch,
    /// The time at which it began. Later changes belong to the next run.
    pub begun: Timestamp,
    /// The time from which changes count; `None` for all entities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// The time of its last progress, or of the job that continues it.
    pub at: Timestamp,
    /// The next page.
    pub next: Listing,
    /// The number of pages queued.
    pub pages: u32,
    /// The number of entities queued.
    pub found: u64,
    /// The fetch that follows this one, because it was asked for meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Fetch>,
}
