//! How far fetching an entity of a connection has come.

use serde::{Deserialize, Serialize};

use crate::{entity::EntityKind, key::Generation, timestamp::Timestamp, transfer::Listing};

/// How far an entity has been fetched, as the `Connections` table holds it under the sort key `cursor#{entity}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cursor {
    /// The kind of entity.
    pub entity: EntityKind,
    /// How often it was written; each write is on the condition that nobody else wrote in between.
    pub revision: u64,
    /// Everything that had changed until then is on the queue; none while nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When all of them were gone through last, which also finds what is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swept: Option<Timestamp>,
    /// What is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// The generation of the connection that all this is of: what was queued for another one is ignored.
    #[serde(default = "first_generation")]
    pub generation: Generation,
    /// When the job is to come that begins the next run, where that is not left to the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// What was fetched last, of which something may still be on the queue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<Fetched>,
    /// Why it cannot be fetched, while it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// When it was last asked how many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Timestamp>,
}

/// Why an entity cannot be fetched, and since when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stopped {
    /// What the platform's answer was worth. Nothing secret.
    pub why: String,
    /// Since when no page could be had.
    pub since: Timestamp,
}

fn first_generation() -> Generation {
    Generation::FIRST
}

impl Cursor {
    /// Of an entity that nothing was fetched of, in a generation of its connection.
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

/// Fetching that has ended, or was broken off.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fetched {
    /// What was fetched.
    pub fetch: Fetch,
    /// From when on changes counted; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// When its last page was queued.
    pub at: Timestamp,
}

/// What is fetched of an entity at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Fetch {
    /// All of them, for the first time or by request.
    #[serde(rename = "import")]
    Backfill,
    /// What has changed since the last time.
    #[serde(rename = "changed")]
    Incremental,
    /// All of them, to find what is gone and what no time tells.
    #[serde(rename = "sweep")]
    Full,
}

/// Fetching that is under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Run {
    /// What is fetched.
    pub fetch: Fetch,
    /// When it began: what changes afterwards is the next one's.
    pub begun: Timestamp,
    /// From when on changes count; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// When it came further last, or when the job that goes on with it is to come.
    pub at: Timestamp,
    /// The next page.
    pub next: Listing,
    /// How many pages were queued.
    pub pages: u32,
    /// How many entities were queued.
    pub found: u64,
    /// What is to be fetched when it has ended, because it was asked for meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Fetch>,
}
